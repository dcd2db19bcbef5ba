//! What each hook does, says and refuses, by the rules.

use std::fs;

use crate::testkit::{Lab, Place};

/// A repository with hooks and a branch of the user's own, in sync.
fn hooked(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.install_hooks().success();
    repo.git(&["switch", "-qc", "feature"]);
    repo
}

fn hub(repo: &Place<'_>) {
    let hub = repo.lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    let all = ["main", "orchestration-tools", "feature"];
    repo.git(&["push", "-q", "--no-verify", "-u", "origin", all[0], all[1], all[2]]);
}

fn is_synced(place: &Place<'_>, content: &str) -> bool {
    place.read("setup/a") == content
}

#[test]
fn foreign_branch_is_only_reported_not_synced() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    hub(&repo);
    let theirs = [
        ("GIT_AUTHOR_EMAIL", "bob@example.invalid"),
        ("GIT_COMMITTER_EMAIL", "bob@example.invalid"),
    ];
    repo.write("src/app", "by bob\n");
    repo.run("git", &["commit", "-qam", "by bob"], &theirs).success();
    repo.git(&["switch", "-q", "main"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let before = repo.id("feature");
    let ran = repo.try_git(&["switch", "feature"]).success();
    assert!(ran.err.contains("1 managed file behind `orchestration-tools`"), "{}", ran.err);
    assert!(ran.err.contains("belongs to another author"), "{}", ran.err);
    assert_eq!((repo.head(), repo.status()), (before, String::new()));
    repo.xtask(&["hooks", "status"]).success().says("its latest commit is not yours");
    // With a commit of one's own on top it is one's own, and so it stays after the sync commit.
    repo.write("src/app", "by ada\n");
    repo.git(&["commit", "-qam", "by ada"]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["switch", "-q", "feature"]);
    assert!(is_synced(&repo, "a2\n"));
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["switch", "-q", "feature"]);
    assert!(is_synced(&repo, "a3\n"));
    // Also when a rebase has put the user's name on the sync commits.
    repo.git(&["rebase", "-q", "--force-rebase", "main"]);
    repo.canonical(&[("setup/a", Some("a4\n"))]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["switch", "-q", "feature"]);
    assert!(is_synced(&repo, "a4\n"));
}

#[test]
fn configured_hook_modes_are_honoured() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    let config = |text: &str| repo.canonical(&[("setup/sync.toml", Some(text))]);
    let switch = || {
        repo.git(&["switch", "-q", "main"]);
        repo.try_git(&["switch", "feature"]).success().err
    };
    config("[hooks]\nmode = 'notify'\n");
    let before = repo.head();
    let said = switch();
    assert!(said.contains("behind `orchestration-tools`") && !said.contains("else's"), "{said}");
    assert_eq!((repo.head(), repo.status()), (before.clone(), String::new()));
    config("[hooks]\nmode = 'worktree'\n");
    let said = switch();
    assert!(said.contains("not committed"), "{said}");
    assert_eq!(repo.head(), before);
    assert_eq!(repo.status(), "?? setup/sync.toml\n");
    repo.xtask(&["undo"]).success();
    config("[[branch]]\nmatch = 'feat*'\nmode = 'notify'\n");
    assert!(switch().contains("behind"));
    assert_eq!(repo.head(), before);
    config("[hooks]\nmode = 'commit'\n");
    assert!(switch().contains("brought up to date"));
    assert_ne!(repo.head(), before);
}

#[test]
fn protected_branch_is_reported_once_and_not_committed_to() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let before = repo.id("main");
    let ran = repo.try_git(&["switch", "main"]).success();
    assert!(ran.err.contains("`main` is protected: not synced"), "{}", ran.err);
    // Once is enough, until there is something new.
    repo.git(&["switch", "-q", "feature"]);
    assert_eq!(repo.try_git(&["switch", "-q", "main"]).success().err, "");
    repo.canonical(&[("setup/b", Some("b2\n"))]);
    repo.git(&["switch", "-q", "feature"]);
    assert!(repo.try_git(&["switch", "-q", "main"]).success().err.contains("2 managed files"));
    assert_eq!(repo.head(), before);
    // The user's commits are refused, too, of whatever kind, and can be made all the same.
    repo.write("src/app", "on main\n");
    let state = repo.scene();
    for args in [
        &["commit", "-am", "x"][..],
        &["commit", "-m", "x", "--", "src/app"],
        &["commit", "--amend", "-m", "x"],
    ] {
        let refused = repo.try_git(args);
        assert_eq!(refused.code, Some(1), "{args:?}");
        let said = refused.says("`main` is protected").says("git switch -c NAME");
        said.says("git commit --no-verify");
        assert_eq!(repo.scene(), state, "{args:?}");
    }
    repo.git(&["commit", "-qam", "x", "--no-verify"]);
}

#[test]
fn pre_commit_refuses_conflict_markers_broken_and_large_files() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.write("src/app", "a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n");
    repo.write("src/data.json", "{\"a\": 1,}");
    repo.write("setup/b.toml", "x = \n");
    repo.write("src/large", vec![b'x'; 50_000_001]);
    repo.write("src/fine.json", "{}");
    repo.git(&["add", "."]);
    let state = repo.scene();
    let refused = repo.try_git(&["commit", "-m", "x"]);
    assert_eq!(refused.code, Some(1));
    let said = &refused.err;
    assert!(said.contains("`src/app` has conflict markers (line 2)"), "{said}");
    assert!(said.contains("`src/data.json` cannot be parsed: line 1: "), "{said}");
    assert!(said.contains("`setup/b.toml` cannot be parsed: line 1: "), "{said}");
    assert!(said.contains("`src/large` is 50 MB, larger than 50 MB"), "{said}");
    assert!(!said.contains("fine.json"), "{said}");
    assert_eq!(repo.scene(), state);
    // What is staged counts, not what lies in the folder.
    repo.write("src/data.json", "{\"a\": 1}");
    assert_eq!(repo.try_git(&["commit", "-qm", "x"]).code, Some(1));
    repo.git(&["restore", "--staged", "src/app", "src/large", "setup/b.toml"]);
    repo.git(&["add", "src/data.json"]);
    repo.git(&["commit", "-qm", "sound files"]);
    // And of `commit -- path` what is named, whatever else is staged.
    repo.git(&["add", "src/large"]);
    repo.write("src/fine.json", "[]");
    repo.git(&["commit", "-qm", "one path", "--", "src/fine.json"]);
    assert_eq!(repo.try_git(&["commit", "-qam", "all"]).code, Some(1));
}

#[test]
fn pre_commit_accepts_faults_that_were_already_committed() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    let markers = "<<<<<<< a\n=======\n>>>>>>> b\n";
    repo.write("docs/merging.md", format!("An example:\n{markers}"));
    repo.write("src/broken.json", "{");
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "examples", "--no-verify"]);
    repo.write("docs/merging.md", format!("An example of git:\n{markers}"));
    repo.write("src/broken.json", "{{");
    repo.git(&["commit", "-qam", "better words"]);
    repo.write("docs/merging.md", format!("Two:\n{markers}{markers}"));
    assert_eq!(repo.try_git(&["commit", "-qam", "more"]).code, Some(1));
    // Files that the configuration leaves out.
    repo.canonical(&[("setup/sync.toml", Some("[hooks]\nunchecked = ['/docs/', '*.json5']\n"))]);
    repo.git(&["commit", "-qam", "more"]);
    // Links and files that are no text are not looked into.
    repo.link("nowhere.json", "src/link.json");
    repo.write("src/picture.bin", format!("\0{markers}"));
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "no text"]);
    // What others have committed is merged as it is.
    repo.git(&["switch", "-qc", "theirs", "main"]);
    repo.write("src/app", "theirs\n");
    repo.write("src/bad.json", "{");
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "theirs", "--no-verify"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.write("src/app", "mine\n");
    repo.git(&["commit", "-qam", "mine"]);
    assert_eq!(repo.try_git(&["merge", "-q", "theirs"]).code, Some(1));
    assert!(repo.try_git(&["commit", "-qam", "unresolved"]).err.contains("conflict markers"));
    repo.write("src/app", "both\n");
    repo.git(&["commit", "-qam", "merged"]);
}

#[test]
fn pre_commit_does_not_block_the_first_commit() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    repo.git(&["switch", "-q", "--orphan", "fresh"]);
    repo.write("new", "x\n");
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "first"]);
    repo.write("new", "<<<<<<< a\n=======\n>>>>>>> b\n");
    assert_eq!(repo.try_git(&["commit", "-qam", "second"]).code, Some(1));
}

#[test]
fn commit_of_managed_files_prints_note_or_branches_now_behind() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.write("setup/a", "mine\n");
    let ran = repo.try_git(&["commit", "-qam", "mine"]).success();
    let said = ran.says("`setup/a` is managed: the shared version is on `orchestration-tools`");
    assert!(said.err.lines().count() == 1, "{}", said.err);
    repo.write("src/app", "mine\n");
    assert_eq!(repo.try_git(&["commit", "-qam", "application"]).success().err, "");
    repo.git(&["branch", "two", "main"]);
    repo.git(&["branch", "three", "main"]);
    repo.git(&["worktree", "add", "-q", lab.path("linked").as_str(), "two"]);
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.write("setup/a", "a2\n");
    let ran = repo.try_git(&["commit", "-qam", "canonical"]).success();
    // `feature` has a version of its own; `main`, `two` and `three` are behind.
    assert_eq!(
        ran.err,
        format!(
            "xtask: 3 branches are now behind in 1 managed file, one of them in a worktree; they are \
             updated at their next checkout, or all at once by `{}/.git/xtask/bin/xtask propagate`\n",
            repo.dir
        )
    );
    repo.write("src/app", "not managed\n");
    assert_eq!(repo.try_git(&["commit", "-qam", "application"]).success().err, "");
}

#[test]
fn kept_files_are_reported_once() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.write("setup/b", "customised\n");
    repo.git(&["commit", "-qam", "customised"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/b", Some("b2\n"))]);
    repo.write("setup/a", "an edit\n");
    let ran = repo.try_git(&["switch", "-c", "other"]).success();
    let said = "1 managed file of `orchestration-tools` behind, and kept because of uncommitted \
                changes: `setup/a`";
    assert!(ran.err.contains(said), "{}", ran.err);
    assert!(
        ran.err.contains("kept: this branch has its own version (`")
            && ran.err.contains("/.git/xtask/bin/xtask sync --merge`)")
    );
    assert_eq!(repo.read("setup/a"), "an edit\n");
    repo.git(&["switch", "-q", "feature"]);
    assert_eq!(repo.try_git(&["switch", "-q", "other"]).success().err, "");
}

#[test]
fn branch_behind_its_upstream_is_synced_after_the_pull() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    hub(&repo);
    repo.write("src/app", "pushed\n");
    repo.git(&["commit", "-qam", "pushed"]);
    repo.git(&["push", "-q"]);
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-q", "main"]);
    let ran = repo.try_git(&["switch", "feature"]).success();
    assert!(ran.err.contains("so run `git pull` first"), "{}", ran.err);
    assert!(is_synced(&repo, "a1\n"));
    repo.git(&["pull", "-q"]);
    assert!(is_synced(&repo, "a2\n"));
    assert_eq!(repo.git(&["rev-list", "--count", "@{u}..HEAD"]).trim(), "1");
    // Only sync commits ahead of an upstream that moves on: the branch goes there and syncs again.
    repo.git(&["switch", "-q", "main"]);
    let other = lab.path("elsewhere");
    repo.git(&["clone", "-q", "-b", "feature", lab.path("hub").as_str(), other.as_str()]);
    let other = lab.place("elsewhere");
    other.write("src/app", "from elsewhere\n");
    other.commit("elsewhere");
    other.git(&["push", "-q"]);
    repo.git(&["fetch", "-q"]);
    let ran = repo.try_git(&["switch", "feature"]).success();
    assert!(ran.err.contains("moved to `origin/feature`"), "{}", ran.err);
    assert_eq!(repo.read("src/app"), "from elsewhere\n");
    assert!(is_synced(&repo, "a2\n"));
    assert_eq!(repo.git(&["rev-list", "--count", "@{u}..HEAD"]).trim(), "1");
    assert_eq!(repo.status(), "");
}

#[test]
fn missing_or_broken_canonical_branch_is_reported_in_one_line() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    // Committing it is refused where it would count, and so is pushing it.
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.write("setup/sync.toml", "[managed]\ninclud = 3\n");
    repo.git(&["add", "."]);
    let refused = repo.try_git(&["commit", "-qm", "broken"]).status(1);
    refused.says("setup/sync.toml:2: unknown key `managed.includ`");
    repo.git(&["commit", "-qm", "broken", "--no-verify"]);
    repo.git(&["init", "-q", "--bare", lab.path("hub").as_str()]);
    let refused = repo.try_git(&["push", lab.path("hub").as_str(), "orchestration-tools"]);
    refused.status(1).says("setup/sync.toml:2: unknown key `managed.includ`");
    repo.git(&["switch", "-q", "feature"]);
    let ran = repo.try_git(&["switch", "-c", "one"]).success();
    assert!(
        ran.err.contains("post-checkout hook skipped: 1 fault in setup/sync.toml"),
        "{}",
        ran.err
    );
    repo.write("src/app", "x\n");
    let ran = repo.try_git(&["commit", "-qam", "x"]).success();
    assert!(ran.err.contains("pre-commit hook skipped"), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.contains("setup/sync.toml:2: unknown key `managed.includ`"), "{}", ran.err);
    repo.xtask(&["hooks", "status"]).says("1 fault in setup/sync.toml");
    repo.git(&["branch", "-qD", "orchestration-tools"]);
    let ran = repo.try_git(&["switch", "-q", "-c", "two"]).success();
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.contains("there is no canonical branch"), "{}", ran.err);
    assert!(!ran.err.contains("up to date with"), "{}", ran.err);
    repo.write("src/app", "y\n");
    assert_eq!(repo.try_git(&["commit", "-qam", "y"]).success().err, "");
}

#[test]
fn hooks_skip_sync_while_another_process_holds_a_lock() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    for lock in [".git/xtask/hooks.lock", ".git/xtask/lock"] {
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(repo.dir.join(lock))
            .unwrap();
        file.lock().unwrap();
        let ran = repo.try_git(&["switch", "-C", "busy", "main"]).success();
        assert!(ran.err.contains("skipped: another xtask is running"), "{}", ran.err);
        assert!(is_synced(&repo, "a1\n"));
    }
    // Another git process holds the index.
    let hook = || {
        let head = repo.head();
        repo.xtask(&["hook", "post-checkout", "1", &head, &head, "1"]).success()
    };
    repo.write(".git/index.lock", "");
    let before = repo.head();
    hook().says("the index is locked");
    assert_eq!((repo.head(), repo.read(".git/index.lock")), (before, String::new()));
    repo.remove(".git/index.lock");
    hook().says("brought up to date");
}

#[test]
fn hooks_report_a_damaged_journal_without_writing() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.write(".git/xtask/journal", "torn");
    let before = repo.head();
    let ran = repo.try_git(&["switch", "-c", "other"]).success();
    assert!(ran.err.contains("the journal of an earlier run is damaged"), "{}", ran.err);
    assert_eq!((repo.head(), repo.status()), (before, String::new()));
    assert_eq!(repo.read(".git/xtask/journal"), "torn");
}

#[test]
fn pre_push_refuses_pushes_to_protected_branches() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    hub(&repo);
    let there = || repo.git(&["ls-remote", lab.path("hub").as_str()]);
    let before = there();
    repo.write("src/app", "x\n");
    repo.git(&["commit", "-qam", "x"]);
    for args in [
        &["push", "origin", "HEAD:main"][..],
        &["push", "--force", "origin", "feature:refs/heads/main"],
        &["push", "origin", ":main"],
    ] {
        let ran = repo.try_git(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        ran.says("`main` is protected").says("git push --no-verify");
        assert_eq!(there(), before, "{args:?}");
    }
    let before = there();
    repo.git(&["branch", "-qf", "main", "feature"]);
    repo.xtask(&["push", "origin", "main"]).status(3).says("`main` is protected");
    // Without hooks `push` asks git first what it would do.
    repo.xtask(&["uninstall-hooks"]).success();
    let refused = repo.xtask(&["push", "origin", "main"]).status(1);
    refused.says("`main` is protected").says("nothing was pushed");
    repo.xtask(&["push", "origin", "+feature:main"]).status(1);
    assert_eq!(there(), before);
    repo.install_hooks().success();
    // Many refs, tags, deletions, other branches: as without hooks.
    repo.git(&["tag", "v1"]);
    repo.git(&["branch", "two"]);
    repo.git(&["push", "-q", "origin", "feature", "two", "v1", "feature:refs/heads/three"]);
    repo.git(&["push", "-q", "origin", ":three", ":v1"]);
    repo.git(&["push", "-q", lab.path("hub").as_str(), "feature:four"]);
    repo.git(&["push", "-q", "--no-verify", "origin", "HEAD:main"]);
    // Nothing to push, and the first push of `main` to a remote that has none.
    assert_eq!(repo.try_git(&["push", "-q"]).success().err, "");
    repo.git(&["init", "-q", "--bare", lab.path("empty").as_str()]);
    repo.git(&["push", "-q", lab.path("empty").as_str(), "main"]);
    repo.git(&["checkout", "-q", "--detach"]);
    repo.git(&["push", "-q", "origin", "HEAD:refs/heads/from-detached"]);
}

#[test]
fn hooks_ignore_a_worktree_of_another_repository() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    // A worktree named by hand, inside of which another repository lies.
    let other = lab.repo_named("other", &[]);
    other.git(&["switch", "-qc", "theirs"]);
    other.canonical(&[("setup/a", Some("a3\n"))]);
    let git_dir = format!("--git-dir={}", repo.dir.join(".git"));
    let before = other.scene();
    other.git(&[&git_dir, "--work-tree=.", "switch", "-qf", "-c", "mixed", "main"]);
    assert_eq!(
        repo.git(&["log", "-1", "--format=%D"]).trim(),
        "HEAD -> mixed, main, feature",
        "it ran"
    );
    assert_eq!(other.scene(), before);
}

/// A branch with pages of a web site, say, that has nothing to do with the others.
#[test]
fn hooks_leave_branches_without_common_history_alone() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.git(&["switch", "-q", "--orphan", "pages"]);
    repo.write("index.html", "hello\n");
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "pages"]);
    let before = repo.head();
    repo.git(&["switch", "-q", "main"]);
    let ran = repo.try_git(&["switch", "-q", "pages"]).success();
    assert!(ran.err.contains("shares no history with `orchestration-tools`"), "{}", ran.err);
    // And how to bring them is said so that it can be typed where there is no `cargo xtask`.
    assert!(ran.err.contains("/.git/xtask/bin/xtask sync` adds the managed files"), "{}", ran.err);
    assert_eq!((repo.head(), repo.status()), (before, String::new()));
    repo.git(&["switch", "-q", "main"]);
    assert_eq!(repo.try_git(&["switch", "-q", "pages"]).success().err, "", "and said once");
    repo.run(".git/xtask/bin/xtask", &["sync"], &[]).success();
    assert_eq!(repo.read("setup/a"), "a1\n");
}

#[test]
fn amending_a_sync_commit_prints_a_warning() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-qc", "one"]);
    let synced = repo.head();
    repo.write("src/app", "mine\n");
    let ran = repo.try_git(&["commit", "-qa", "--amend", "--no-edit"]).success();
    assert!(ran.err.contains("this is an amended sync commit"), "{}", ran.err);
    // Picking one of ours elsewhere is not amending it.
    repo.git(&["branch", "elsewhere", "main"]);
    repo.git(&["-c", "core.hooksPath=/dev/null", "switch", "-q", "elsewhere"]);
    let picked = repo.try_git(&["cherry-pick", &synced]).success();
    assert!(!picked.err.contains("amended"), "{}", picked.err);
    repo.git(&["-c", "core.hooksPath=/dev/null", "switch", "-q", "one"]);
    // The way back that is given keeps both.
    repo.git(&["reset", "-q", "--soft", "one@{1}"]);
    repo.git(&["commit", "-qm", "mine"]);
    assert_eq!(repo.id("HEAD~1"), synced);
    assert_eq!(repo.git(&["show", "--name-only", "--format=", "HEAD"]), "src/app\n");
}

#[test]
fn hooks_ignore_configuration_of_the_checked_out_branch() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    // The canonical branch has no configuration, and that of the branch would widen what is managed
    // or point to another canonical branch.
    repo.git(&["branch", "evil", "main"]);
    repo.on_branch("evil", |place| place.write("src/app", "evil\n"));
    repo.write("setup/sync.toml", "[canonical]\nbranch = 'evil'\n[managed]\ninclude = ['/src/']\n");
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "hostile"]);
    repo.git(&["switch", "-q", "main"]);
    let before = repo.id("feature");
    repo.git(&["switch", "-q", "feature"]);
    assert_eq!((repo.head(), repo.read("src/app")), (before, "application\n".into()));
}

#[test]
fn undo_reverts_the_hook_sync_of_the_current_branch() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    let before = repo.head();
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-qc", "other", "main"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["switch", "-q", "other"]);
    let id = repo.head();
    repo.git(&["switch", "-q", "feature"]);
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.git(&["switch", "-q", "other"]);
    assert_ne!(repo.head(), id);
    repo.git(&["-c", "core.hooksPath=/dev/null", "switch", "-q", "feature"]);
    let ran = repo.xtask(&["undo"]).success();
    ran.says("the hooks sync again at the next checkout");
    assert_eq!((repo.head(), repo.status()), (before, String::new()));
}

/// Hooks of one repository exclude each other; whoever comes too late catches up later, and nothing
/// is half done.
#[test]
fn concurrent_hooks_in_many_worktrees_leave_all_consistent() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let names: Vec<String> = (0..6).map(|number| format!("tree-{number}")).collect();
    for name in &names {
        let off = ["-c", "core.hooksPath=/dev/null", "worktree", "add", "-q", "-b", name];
        repo.git(&[&off[..], &[lab.path(name).as_str(), "main"]].concat());
    }
    std::thread::scope(|scope| {
        for name in &names {
            let place = lab.place(name);
            scope.spawn(move || place.git(&["switch", "-qc", &format!("new-{name}")]));
        }
    });
    let mut synced = 0;
    for name in &names {
        let place = lab.place(name);
        assert_eq!(place.status(), "", "{name}");
        synced += usize::from(place.read("setup/a") == "a2\n");
        place.xtask(&["sync"]).success();
        assert_eq!(place.read("setup/a"), "a2\n");
        assert_eq!(place.git(&["rev-list", "--count", "main..HEAD"]).trim(), "1", "{name}");
    }
    assert!(synced > 0, "somebody came first");
}

/// An orphan branch has no commit that anything could be synced to.
#[test]
fn hooks_silently_skip_an_unborn_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    let ran = repo.run("git", &["switch", "-q", "--orphan", "fresh"], &[]).success();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
}

#[test]
fn missing_canonical_branch_is_reported_once_per_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    repo.git(&["branch", "-q", "feature", "main"]);
    repo.git(&["branch", "-q", "-D", "orchestration-tools"]);
    let told = |branch: &str| {
        let ran = repo.run("git", &["switch", "-q", branch], &[]).success();
        ran.err.matches("nothing was synced").count()
    };
    let counts: Vec<usize> = ["feature", "main", "feature", "main"].map(told).into();
    assert_eq!(counts, [1, 1, 0, 0]);
}

/// HEAD is a symbolic link in old repositories, and with a setting.
#[test]
fn symlinked_head_is_resolved_to_its_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["branch", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.install_hooks().success();
    repo.git(&["config", "core.preferSymlinkRefs", "true"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["switch", "-q", "main"]);
    assert!(repo.git_folder().join("HEAD").is_symlink());
    repo.write("src/app", "on main\n");
    let refused = repo.run("git", &["commit", "-qam", "x"], &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    repo.git(&["switch", "-q", "feature"]);
    repo.xtask(&["status"]).success().says("branch     feature");
    assert_eq!(repo.git(&["show", "feature:setup/a"]), "a2\n");
    assert_eq!(repo.git(&["symbolic-ref", "HEAD"]), "refs/heads/feature\n");
}
