//! Approved commits, into the canonical branch: their managed part and nothing else, all or none, and
//! a conflict is found before anything changes.

use std::fs;

use crate::testkit::{Lab, Place, trace, write_script};

const BOB: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "Bob"),
    ("GIT_AUTHOR_EMAIL", "bob@example.invalid"),
    ("GIT_AUTHOR_DATE", "2025-05-05T05:05:05+0530"),
    ("GIT_COMMITTER_DATE", "2025-05-05T05:05:06+0530"),
];

/// A repository with a feature branch of Bob's whose commits mix everything.
fn scene(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.canonical(&[("setup/list", Some("1\n2\n3\n4\n5\n6\n7\n"))]);
    repo.git(&["switch", "-qc", "feature", "orchestration-tools"]);
    repo.write("setup/list", "1\n2\n3\n4\n5\n6\nseven\n");
    repo.write("setup/tools/new.sh", "#!/bin/sh\n");
    repo.make_executable("setup/tools/new.sh");
    repo.link("a", "setup/link");
    repo.write("src/app", "application of the feature\n");
    repo.remove("setup/b");
    by_bob(
        &repo,
        "Mixed change\n\nWith a body: and colons.\n\nReviewed-by: Ada <ada@example.invalid>",
    );
    repo.write("src/app", "only application\n");
    by_bob(&repo, "Application");
    repo.write("setup/a", "a by feature\n");
    by_bob(&repo, "Second managed change");
    repo.git(&["switch", "-q", "main"]);
    repo
}

fn by_bob(repo: &Place<'_>, message: &str) {
    repo.git(&["add", "--all"]);
    repo.run("git", &["commit", "-qm", message], &BOB).success();
}

fn canonical_tree(repo: &Place<'_>) -> String {
    repo.git(&["ls-tree", "-r", "orchestration-tools"])
}

#[test]
fn reverse_sync_without_commit_lists_the_candidates() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let before = repo.scene();
    let ran = repo.xtask(&["reverse-sync", "feature"]).status(2);
    let (first, last) = (repo.id("feature~2"), repo.id("feature"));
    ran.clone()
        .says("no commit was named")
        .says(&format!("{}  Mixed change  (4 managed files)", &first[..10]))
        .says("Second managed change  (1 managed file)")
        .says(&format!("reverse-sync feature {} {}", &first[..10], &last[..10]));
    assert!(!ran.err.contains("  Application"), "{}", ran.err);
    assert_eq!(repo.scene(), before);
}

#[test]
fn reverse_sync_takes_managed_changes_with_author_date_and_trailers() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let before = repo.scene();
    let commit = repo.id("feature~2");
    let ran = repo.xtask(&["reverse-sync", "feature", "feature~2", "--yes"]).success();
    ran.says("left out").says("src/app").says("+seven").says("cargo xtask propagate");
    let tree = canonical_tree(&repo);
    assert!(tree.contains("100755 blob") && tree.contains("setup/tools/new.sh"), "{tree}");
    assert!(tree.contains("120000 blob") && tree.contains("setup/link"), "{tree}");
    assert!(!tree.contains("setup/b"), "{tree}");
    assert_eq!(repo.git(&["show", "orchestration-tools:src/app"]), "application\n");
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/list"]), "1\n2\n3\n4\n5\n6\nseven\n");
    let format = "--format=%an <%ae> %ai|%cn %cI|%B";
    let shown = repo.git(&["show", "-s", format, "orchestration-tools"]);
    assert_eq!(
        shown.trim_end(),
        format!(
            "Bob <bob@example.invalid> 2025-05-05 05:05:05 +0530|Ada 2026-01-01T00:00:00Z|Mixed change\n\nWith a body: and \
             colons.\n\nReviewed-by: Ada <ada@example.invalid>\nOrchestration-Branch: \
             feature\nOrchestration-Commit: {commit}"
        )
    );
    let after = repo.scene();
    assert_eq!((before.files, before.index, before.head), (after.files, after.index, after.head));
    // Once more: it is there already.
    let tip = repo.id("orchestration-tools");
    repo.xtask(&["reverse-sync", "feature", "feature~2", "--yes"]).success().says("nothing to do");
    assert_eq!(repo.id("orchestration-tools"), tip);
}

#[test]
fn dry_run_and_missing_confirmation_write_nothing() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let before = trace(lab.path("repo").as_std_path());
    repo.xtask(&["reverse-sync", "feature", "feature~2", "--dry-run"]).success().says("+seven");
    repo.xtask(&["reverse-sync", "feature", "feature~2"]).status(2).says("--yes");
    assert_eq!(trace(lab.path("repo").as_std_path()), before);
}

#[test]
fn unsuitable_commits_are_refused_before_anything_changes() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.write("src/app", "main\n");
    repo.git(&["commit", "-qam", "on main"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["merge", "-q", "--no-ff", "-s", "ours", "-m", "a merge", "main"]);
    repo.git(&["switch", "-q", "main"]);
    repo.write("setup/a", "elsewhere\n");
    repo.git(&["commit", "-qam", "not on feature"]);
    let before = repo.git(&["for-each-ref"]);
    let refused = |args: &[&str]| {
        let mut all = vec!["reverse-sync"];
        all.extend(args);
        all.push("--yes");
        let ran = repo.xtask(&all).status(2);
        assert_eq!(repo.git(&["for-each-ref"]), before);
        ran
    };
    let application = repo.id("feature~2");
    let all = refused(&["feature", "main", &application, "feature", "nonsense", "feature~3"]);
    let all = all.says("is not on `feature`").says("changes no managed file");
    all.says("is a merge; `--mainline 1`").says("invalid revision `nonsense`");
    refused(&["nowhere", "main"]).says("no such branch: `nowhere`");
    refused(&["orchestration-tools", "main"]).says("is the canonical branch itself");
    refused(&["feature", "feature", "--mainline", "3"]).says("has 2 parents, not 3");
    refused(&["feature", "feature..feature"]).says("names no commit");
    refused(&["feature", &format!("{application}..feature~1"), "feature:setup"])
        .says("invalid revision");
    // An abbreviation that could be two.
    let mut ids = std::collections::BTreeMap::new();
    let short = (0..).find_map(|number: u32| {
        let id = repo.git(&["commit-tree", "-m", &number.to_string(), "main^{tree}"]);
        let four = id[..4].to_owned();
        ids.insert(four.clone(), ()).map(|()| four)
    });
    refused(&["feature", &short.unwrap()]).says("invalid revision");
}

#[test]
fn merge_commit_is_taken_relative_to_its_mainline() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.git(&["switch", "-qc", "side", "feature~3"]);
    repo.write("setup/side", "side\n");
    by_bob(&repo, "side");
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["merge", "-q", "--no-ff", "-m", "merge side", "side"]);
    repo.git(&["switch", "-q", "main"]);
    // One that brings nothing managed is no obstacle in a range.
    repo.write("src/app", "main goes on\n");
    repo.git(&["commit", "-qam", "application"]);
    repo.git(&["branch", "merging", "feature~1"]);
    repo.in_worktree("merging", |place| {
        place.git(&["merge", "-q", "--no-ff", "-X", "ours", "-m", "merge main", "main"]);
    });
    let range = ["reverse-sync", "merging", "orchestration-tools..merging", "--dry-run"];
    repo.xtask(&range).success().says("2 commits would be added to");
    repo.xtask(&["reverse-sync", "feature", "feature", "--mainline", "1", "--yes"]).success();
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/side"]), "side\n");
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/a"]), "a1\n");
}

#[test]
fn commit_range_is_applied_completely_or_not_at_all() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let tip = repo.id("orchestration-tools");
    repo.xtask(&["reverse-sync", "feature", "main..feature", "--yes"])
        .success()
        .says("2 new commits");
    let subjects = repo.git(&["log", "--format=%s", &format!("{tip}..orchestration-tools")]);
    assert_eq!(subjects, "Second managed change\nMixed change\n");
    repo.git(&["branch", "-f", "orchestration-tools", &tip]);
    // The last of the two conflicts: the first is not taken either.
    repo.canonical(&[("setup/a", Some("a by canonical\n"))]);
    let before = repo.git(&["for-each-ref"]);
    let ran = repo.xtask(&["reverse-sync", "feature", "main..feature", "--yes"]).status(1);
    ran.says("conflict setup/a").says("lines 1-5").says("a by canonical").says("--resolve");
    assert_eq!(repo.git(&["for-each-ref"]), before);
}

#[test]
fn conflict_is_resolved_in_a_separate_worktree() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.canonical(&[("setup/a", Some("a by canonical\n"))]);
    let tip = repo.id("orchestration-tools");
    let range = ["reverse-sync", "feature", "main..feature", "--resolve", "--yes"];
    let ran = repo.xtask(&range).status(1).says("reverse-sync --continue");
    assert_eq!(repo.id("orchestration-tools"), tip);
    let place = lab.place("repo/.git/xtask/resolve");
    assert_eq!(place.status(), "UU setup/a\n", "{}", ran.err);
    assert!(place.read("setup/a").contains("<<<<<<<"));
    // Nothing goes on before it is resolved, staged and free of what does not belong there.
    repo.xtask(&["reverse-sync", "--continue"]).status(1).says("unresolved conflicts");
    repo.xtask(&range).status(3).says("another conflict is being resolved");
    place.git(&["add", "setup/a"]);
    repo.xtask(&["reverse-sync", "--continue"]).status(1).says("line 1 has a conflict marker");
    place.write("setup/a", "a by both\n");
    repo.xtask(&["reverse-sync", "--continue"]).status(1).says("not staged").says("setup/a");
    place.write("src/app", "smuggled\n");
    place.git(&["add", "--all"]);
    repo.xtask(&["reverse-sync", "--continue"]).status(1).says("src/app: it is not managed");
    place.git(&["restore", "--staged", "--worktree", "src/app"]);
    assert_eq!(repo.id("orchestration-tools"), tip);
    repo.xtask(&["sync", "--all-worktrees"]).status(1);
    repo.xtask(&["reverse-sync", "--continue"]).success().says("2 new commits");
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/a"]), "a by both\n");
    assert_eq!(repo.git(&["show", "orchestration-tools:src/app"]), "application\n");
    let log = repo.git(&[
        "log",
        "--format=%an %s %(trailers:key=Orchestration-Branch,valueonly)",
        "-1",
        "orchestration-tools",
    ]);
    assert_eq!(log.trim_end(), "Bob Second managed change feature");
    assert!(!place.dir.exists());
    assert_eq!(repo.git(&["worktree", "list"]).lines().count(), 1);
    repo.xtask(&["reverse-sync", "--continue"]).status(2).says("no conflict is being resolved");
}

#[test]
fn abort_moves_no_refs_and_keeps_the_resolution_work() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.canonical(&[("setup/a", Some("a by canonical\n"))]);
    let before = repo.git(&["for-each-ref"]);
    repo.xtask(&["reverse-sync", "feature", "feature", "--resolve", "--yes"]).status(1);
    let place = lab.place("repo/.git/xtask/resolve");
    repo.write(".git/info/exclude", "/ignored\n");
    place.write("setup/a", "hours of work\n");
    place.git(&["add", "setup/a"]);
    place.git(&["commit", "-qm", "somebody commits there"]);
    let commit = place.head();
    place.write("ignored", "ignored\n");
    place.link("nowhere", "setup/dangling");
    let ran = repo.xtask(&["reverse-sync", "--abort"]).success();
    let kept =
        ran.err.lines().find_map(|line| line.split_once(" is kept in ")).unwrap().1.to_owned();
    let kept = Place { lab: &lab, dir: kept.into() };
    assert_eq!(kept.read("setup/a"), "hours of work\n");
    assert_eq!((kept.read("ignored"), kept.head()), ("ignored\n".to_owned(), commit));
    assert!(kept.has("setup/dangling") && !place.dir.exists());
    assert_eq!(repo.git(&["for-each-ref"]), before);
    repo.xtask(&["reverse-sync", "--abort"]).status(2);
    // It is nobody's worktree for anything else.
    repo.xtask(&["sync", "--all-worktrees"]).status(1);
}

#[test]
fn killed_resolution_restarts_from_the_conflict() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.canonical(&[("setup/a", Some("a by canonical\n"))]);
    // A git that is killed where it would lay the conflict out.
    let bin = lab.path("bin/git");
    let text = "#!/bin/sh\ncase \"$*\" in *cherry-pick*) kill -9 $PPID; exit 1 ;; esac\nPATH=$REAL exec git \"$@\"\n";
    write_script(&bin, text);
    let real = std::env::var("PATH").unwrap();
    let path = format!("{}:{real}", lab.path("bin"));
    let variables = [("PATH", path.as_str()), ("REAL", real.as_str())];
    let range = ["reverse-sync", "feature", "main..feature", "--resolve", "--yes"];
    assert_eq!(repo.xtask_with(&range, &variables).code, None, "it was killed");
    let tip = repo.id("orchestration-tools");
    repo.xtask(&["reverse-sync", "--continue"]).status(1).says("setup/a");
    assert_eq!(repo.id("orchestration-tools"), tip);
    let place = lab.place("repo/.git/xtask/resolve");
    assert_eq!(place.status(), "UU setup/a\n");
    // A folder that git does not know any more is kept as one.
    fs::remove_file(place.dir.join(".git")).unwrap();
    repo.git(&["worktree", "prune"]);
    let ran = repo.xtask(&["reverse-sync", "--abort"]).success();
    let kept =
        ran.err.lines().find_map(|line| line.split_once(" is kept in ")).unwrap().1.to_owned();
    assert!(fs::read_to_string(format!("{kept}/setup/a")).unwrap().contains("<<<<<<<"));
    repo.xtask(&range).status(1).says("--continue");
}

#[test]
fn resolution_that_adds_a_submodule_is_refused() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.canonical(&[("setup/a", Some("a by canonical\n"))]);
    repo.xtask(&["reverse-sync", "feature", "feature", "--resolve", "--yes"]).status(1);
    let place = lab.place("repo/.git/xtask/resolve");
    place.write("setup/a", "a by both\n");
    place.git(&["init", "-q", "setup/sub"]);
    lab.place("repo/.git/xtask/resolve/setup/sub").commit("inside");
    place.git(&["-c", "advice.addEmbeddedRepo=false", "add", "--all"]);
    repo.xtask(&["reverse-sync", "--continue"]).status(1).says("is a submodule");
}

#[test]
fn branch_argument_prefers_branches_and_rejects_ambiguous_names() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.git(&["tag", "feature", "main"]);
    repo.xtask(&["reverse-sync", "feature", "feature", "--yes"]).success().says("Second managed");
    repo.git(&["tag", "other", "main"]);
    repo.git(&["branch", "other", "refs/heads/feature~1"]);
    repo.xtask(&["reverse-sync", "feature", "other", "--yes"]).status(2).says("is ambiguous");
    for name in ["HEAD", "a b", "a..b", "@{-1}", "x.lock"] {
        repo.xtask(&["reverse-sync", name, "main"]).status(2).says("invalid branch name");
    }
}

#[test]
fn commit_that_changes_the_canonical_branch_name_is_refused() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.git(&["switch", "-q", "feature"]);
    repo.write("setup/sync.toml", "[canonical]\nbranch = \"other\"\n");
    by_bob(&repo, "another canonical branch");
    repo.git(&["switch", "-q", "main"]);
    let tip = repo.id("orchestration-tools");
    let ran = repo.xtask(&["reverse-sync", "feature", "feature", "--yes"]).status(1);
    ran.says("would be `other`");
    assert_eq!(repo.id("orchestration-tools"), tip);
}

#[test]
fn continue_recreates_a_missing_worktree_and_follows_moved_canonical_branch() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.canonical(&[("setup/a", Some("a by canonical\n"))]);
    repo.xtask(&["reverse-sync", "feature", "feature", "--resolve", "--yes"]).status(1);
    let place = lab.place("repo/.git/xtask/resolve");
    fs::remove_dir_all(&place.dir).unwrap();
    repo.xtask(&["reverse-sync", "--continue"]).status(1).says("setup/a");
    assert_eq!(place.status(), "UU setup/a\n");
    place.write("setup/a", "a by both\n");
    place.git(&["add", "setup/a"]);
    repo.canonical(&[("setup/b", Some("meanwhile\n"))]);
    repo.xtask(&["reverse-sync", "--continue"]).success();
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/a"]), "a by both\n");
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/b"]), "meanwhile\n");
}

#[test]
fn reverse_sync_into_checked_out_branch_keeps_local_changes() {
    for place in ["here", "elsewhere"] {
        let lab = Lab::new();
        let repo = scene(&lab);
        let at = if place == "here" {
            repo.git(&["switch", "-q", "orchestration-tools"]);
            repo.clone()
        } else {
            let dir = lab.path("canonical");
            repo.git(&["worktree", "add", "-q", dir.as_str(), "orchestration-tools"]);
            lab.place("canonical")
        };
        at.write("src/app", "unsaved\n");
        at.write("scripts/run.sh", "staged\n");
        at.git(&["add", "scripts/run.sh"]);
        at.write("notes", "untracked\n");
        repo.xtask(&["reverse-sync", "feature", "feature~2", "--yes"]).success();
        assert_eq!(at.read("setup/list"), "1\n2\n3\n4\n5\n6\nseven\n");
        assert!(!at.has("setup/b"));
        assert_eq!(at.read("src/app"), "unsaved\n");
        assert_eq!(at.status(), "M  scripts/run.sh\n M src/app\n?? notes\n", "{place}");
        // What is in the way stays, and the branch does, too.
        at.write("setup/a", "unsaved as well\n");
        let before = at.scene();
        repo.xtask(&["reverse-sync", "feature", "feature", "--yes"])
            .status(3)
            .says("local changes");
        assert_eq!(at.scene(), before, "{place}");
        at.git(&["restore", "setup/a"]);
        repo.xtask(&["reverse-sync", "feature", "feature", "--yes"]).success();
        assert_eq!(at.read("setup/a"), "a by feature\n");
    }
}

#[test]
fn reverse_sync_does_not_overwrite_an_ignored_file() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.write(".git/info/exclude", "/setup/tools\n");
    repo.write("setup/tools/new.sh", "PRECIOUS\n");
    let tip = repo.head();
    repo.xtask(&["reverse-sync", "feature", "feature~2", "--yes"]).status(3);
    assert_eq!((repo.read("setup/tools/new.sh"), repo.head()), ("PRECIOUS\n".to_owned(), tip));
}

#[test]
fn remote_canonical_branch_is_created_locally_unless_diverged() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["push", "-q", "--all", "origin"]);
    let clone = lab.path("clone");
    repo.git(&["clone", "-q", hub.as_str(), clone.as_str()]);
    let clone = lab.place("clone");
    // A range by the name of a branch that is only at the remote.
    let range = ["reverse-sync", "feature", "main..feature", "--dry-run"];
    clone.xtask(&range).success().says("2 commits would be added to");
    clone.xtask(&["reverse-sync", "origin/feature", "origin/feature", "--yes"]).success();
    assert_eq!(clone.id("orchestration-tools^"), repo.id("orchestration-tools"));
    assert_eq!(
        clone.git(&["rev-parse", "--abbrev-ref", "orchestration-tools@{u}"]).trim(),
        "origin/orchestration-tools"
    );
    repo.canonical(&[("setup/b", Some("b2\n"))]);
    repo.git(&["push", "-q", "origin", "orchestration-tools"]);
    clone.git(&["fetch", "-q"]);
    let before = clone.git(&["for-each-ref"]);
    clone
        .xtask(&["reverse-sync", "feature", "origin/feature~2", "--yes"])
        .status(3)
        .says("have diverged");
    assert_eq!(clone.git(&["for-each-ref"]), before);
}

#[test]
fn commit_taken_before_is_skipped_after_later_changes() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.xtask(&["reverse-sync", "feature", "feature", "--yes"]).success();
    repo.canonical(&[("setup/a", Some("and changed again\n"))]);
    let ran = repo.xtask(&["reverse-sync", "feature", "feature", "--yes"]).success();
    ran.says("was already picked as").says("has changed it since; nothing to do");
}

#[test]
fn commit_with_invalid_configuration_is_refused() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.git(&["switch", "-q", "feature"]);
    repo.write("setup/sync.toml", "[managed]\ninclud = []\n");
    by_bob(&repo, "broken rules");
    repo.git(&["switch", "-q", "main"]);
    let tip = repo.id("orchestration-tools");
    repo.xtask(&["reverse-sync", "feature", "feature", "--yes"]).status(1).says("includ");
    assert_eq!(repo.id("orchestration-tools"), tip);
}

#[test]
fn shallow_history_and_unknown_user_are_refused() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let shallow = lab.path("shallow");
    let url = format!("file://{}", repo.dir);
    repo.git(&["clone", "-q", "--depth", "1", "--no-single-branch", &url, shallow.as_str()]);
    let shallow = lab.place("shallow");
    let ran = shallow.xtask(&["reverse-sync", "feature", "origin/feature", "--yes"]);
    ran.status(2).says("--unshallow");
    let nobody = [("GIT_CONFIG_GLOBAL", "/dev/null"), ("EMAIL", "")];
    let ran = repo.xtask_with(&["reverse-sync", "feature", "feature", "--yes"], &nobody);
    ran.status(3).says("git config user.name");
}

#[test]
fn existing_files_in_the_resolution_folder_are_kept() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.canonical(&[("setup/a", Some("a by canonical\n"))]);
    let resolve = ["reverse-sync", "feature", "feature", "--resolve", "--yes"];
    repo.xtask(&resolve).status(1);
    let place = lab.place("repo/.git/xtask/resolve");
    let kept = |name: &str| {
        let state = lab.path("repo/.git/xtask");
        let folders = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
        let mut aside = folders.filter(|path| path.to_string_lossy().contains("resolve-"));
        aside.any(|path| path.join(name).exists())
    };
    // The record is gone, and somebody's work is there.
    place.write("notes", "mine\n");
    repo.remove(".git/xtask/reverse-sync");
    repo.xtask(&resolve).status(1);
    assert!(kept("notes"));
    // What git ignores outlives the end of it.
    repo.write(".git/info/exclude", "/ignored\n");
    place.write("ignored", "mine\n");
    place.write("setup/a", "a by both\n");
    place.git(&["add", "setup/a"]);
    repo.xtask(&["reverse-sync", "--continue"]).success();
    assert!(kept("ignored"));
    let seen = repo.try_git(&["rev-parse", "-q", "--verify", "refs/xtask/resolving"]);
    assert_eq!(seen.code, Some(1), "nothing is kept that has landed");
}

#[test]
fn files_kept_from_a_resolution_are_reported_by_status() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.canonical(&[("setup/a", Some("a by canonical\n"))]);
    repo.xtask(&["reverse-sync", "feature", "feature", "--resolve", "--yes"]).status(1);
    repo.write(".git/info/exclude", "/ignored\n");
    let place = lab.place("repo/.git/xtask/resolve");
    place.write("ignored", "mine\n");
    place.write("setup/a", "a by both\n");
    place.git(&["add", "setup/a"]);
    repo.xtask(&["reverse-sync", "--continue"]).success().says("the previous folder is kept in");
    repo.xtask(&["status"]).success().says("kept from earlier resolutions: 1 folder");
}
