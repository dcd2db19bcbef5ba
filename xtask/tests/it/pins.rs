//! Pins: a branch keeps its content at a path for a time. Nobody changes what is pinned but `--force`; pins
//! of two branches never meet in a merge; and they end by themselves.

use std::fs;
use std::time::Duration;

use xtask_base::date::Date;
use xtask_base::path::RepoPath;
use xtask_config::Pin;
use xtask_sync::context;
use xtask_sync::run::{SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;

use crate::crash::{with_tools, world};
use crate::testkit::{Lab, Place, Ran, trace};

/// A branch with versions of its own at `setup/a` and `scripts/run.sh`, and a canonical branch that has gone on
/// there, at `setup/b`, and with a new file.
pub(crate) fn own(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.write("setup/a", "own\n");
    repo.commit("of our own");
    repo.canonical(&[
        ("setup/a", Some("a2\n")),
        ("setup/b", Some("b2\n")),
        ("setup/new", Some("new\n")),
    ]);
    repo
}

pub(crate) fn pin(repo: &Place<'_>, path: &str) -> Ran {
    repo.xtask(&["pin", path, "--reason", "waiting for the vendor"])
}

/// The text of a pin, whenever it ends.
pub(crate) fn pin_file(branch: &str, path: &str, until: &str) -> (String, String) {
    let one = Pin {
        branch: branch.to_owned(),
        path: RepoPath::new(path),
        until: Date::parse(until).unwrap(),
        reason: "waiting".to_owned(),
        by: "Ada".to_owned(),
        since: 1_546_300_800,
        ended: false,
        replaced_until: None,
    };
    (one.file_path().to_string(), one.render())
}

pub(crate) fn write_pin(repo: &Place<'_>, branch: &str, path: &str, until: &str) {
    let (file, text) = pin_file(branch, path, until);
    repo.write(&file, text);
    repo.git(&["add", &file]);
    repo.git(&["commit", "-qm", "pinned", "--", &file]);
}

pub(crate) fn class_of(repo: &Place<'_>, path: &str) -> String {
    let plan = repo.plan(&[]);
    let line = plan.lines().find(|line| line.starts_with(&format!("{path} ")));
    line.map_or("in-sync".to_owned(), |line| line[path.len() + 1..].to_owned())
}

#[test]
fn pinned_paths_are_kept_by_every_command_but_force() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.git(&["branch", "other"]);
    pin(&repo, "setup").success().says("1 path pinned until").says("(in 30 days)");
    assert_eq!(repo.plan(&[]), "setup/a pinned keep\nsetup/b pinned keep\nsetup/new pinned keep\n");
    assert_eq!(repo.plan(&["--merge"]), repo.plan(&[]));
    repo.xtask(&["sync", "--check", "--strict"]).success();
    let before = repo.scene();
    repo.xtask(&["sync"]).success().says("3 paths are kept").says("waiting for the vendor");
    repo.xtask(&["sync", "--merge"]).success();
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.xtask(&["sync", "--all-worktrees"]).success();
    repo.xtask(&["sync", "setup/b"]).status(3).says("unpin").says("--force");
    repo.git(&["switch", "-q", "--detach"]);
    repo.xtask(&["propagate", "feature"]).success();
    repo.git(&["switch", "-q", "feature"]);
    assert_eq!(repo.scene(), before);
    let rows = repo.xtask(&["propagate", "--dry-run", "--json"]).success().json();
    let branches = rows["branches"].as_array().unwrap();
    let row = branches.iter().find(|row| row["branch"] == "feature").unwrap();
    assert_eq!((row["pinned"].as_u64(), row["behind"].as_u64()), (Some(3), Some(0)));
    let status = repo.xtask(&["status", "--all", "--json"]).success().json();
    assert_eq!(status["sync"]["pinned"], 3);
    let of = |name: &str| {
        let all = status["branches"].as_array().unwrap();
        all.iter().find(|one| one["branch"] == name).unwrap().clone()
    };
    assert_eq!((&of("feature")["pinned"], &of("feature")["customised"]), (&3.into(), &0.into()));
    assert_eq!((&of("other")["pinned"], &of("other")["behind"]), (&0.into(), &2.into()));
    repo.xtask(&["status"]).success().says("3 pinned");
    repo.xtask(&["why", "setup/b"]).success().says("pin of `setup`: until").says("sync keeps it");
    repo.xtask(&["diff"]).success().says("setup/new");

    repo.xtask(&["sync", "--force", "setup/b"])
        .success()
        .says("it is in the backup, and the pin remains");
    assert_eq!(repo.read("setup/b"), "b2\n");
    // Equal content is in sync, and the pin is still shown.
    repo.xtask(&["why", "setup/b"]).success().says("in-sync").says("pin of `setup`");
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/b"), "b1\n");
    repo.xtask(&["sync", "--force"]).success();
    assert_eq!((repo.read("setup/a"), repo.read("setup/new")), ("a2\n".into(), "new\n".into()));
}

#[test]
fn uncommitted_and_removed_files_are_kept_as_well() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup").success();
    repo.write("setup/a", "edited\n");
    repo.remove("setup/b");
    repo.write("setup/new", "untracked\n");
    let plan = "setup/a pinned keep\nsetup/b pinned keep\nsetup/new pinned keep\n";
    assert_eq!(repo.plan(&[]), plan);
    let before = repo.scene();
    repo.xtask(&["sync"]).success();
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.scene(), before);
    // A folder in place of a file cannot be replaced, and nobody asks for it.
    fs::remove_file(repo.dir.join("setup/new")).unwrap();
    repo.write("setup/new/x", "x\n");
    assert_eq!(class_of(&repo, "setup/new"), "pinned keep");
    repo.xtask(&["sync", "--force", "--yes"]).status(3).says("a folder is in its place");
    repo.xtask(&["undo"]).success();
    let mut after = repo.scene();
    after.refs.clone_from(&before.refs);
    assert_eq!((&after.head, &after.index), (&before.head, &before.index));
    assert_eq!(repo.read("setup/a"), "edited\n");
    // An overlay over the user's work is taken off again.
    fs::remove_dir_all(repo.dir.join("setup/new")).unwrap();
    repo.xtask(&["sync", "--no-commit", "--force", "--yes"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(repo.plan(&[]), plan);
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/a"), "edited\n");
    assert!(!repo.has("setup/b"));
}

#[test]
fn pin_commits_its_files_alone_and_undo_restores() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.write("src/app", "staged\n");
    repo.git(&["add", "src/app"]);
    repo.write("src/app", "and changed\n");
    repo.write("setup/b", "changed\n");
    repo.write("notes", "untracked\n");
    let before = repo.scene();
    let said = pin(&repo, "setup/a").success();
    assert!(said.out.starts_with("feature: 1 path pinned until "), "{}", said.out);
    let changed = repo.git(&["show", "--name-status", "--format=%an <%ae>%n%s", "HEAD"]);
    let lines: Vec<&str> = changed.lines().filter(|line| !line.is_empty()).collect();
    let user = repo.git(&["config", "user.name"]);
    assert!(lines[0].starts_with(user.trim()), "{changed}");
    assert!(lines[1].starts_with("Pin setup/a until "), "{changed}");
    assert!(lines[1].ends_with(": waiting for the vendor"), "{changed}");
    assert!(lines.len() == 3 && lines[2].starts_with("A\t.sync-pins/"), "{changed}");
    let after = repo.scene();
    assert_eq!(after.status, before.status);
    // The same again changes nothing.
    let head = repo.head();
    pin(&repo, "setup/a").success().says("nothing to do");
    assert_eq!(repo.head(), head);
    // A renewal replaces the file.
    repo.xtask(&["pin", "setup/a", "--until", "2w", "--reason", "again"]).success();
    assert_eq!(repo.git(&["ls-files", ".sync-pins"]).lines().count(), 1);
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.head(), head);
    repo.xtask(&["undo", "--list"]).success().says("pin");
    repo.xtask(&["unpin", "setup/a"]).success().says("1 pin removed");
    // What says that it has ended stays as long as a merge could bring the pin back.
    let text = repo.git(&["grep", "-h", "", "--", ".sync-pins"]);
    assert!(text.contains("\nended = true\n") && text.matches("branch = ").count() == 1, "{text}");
    repo.xtask(&["pin", "--list"]).success().says("no pins");
    repo.xtask(&["undo"]).success();
    repo.xtask(&["undo", "--list"]).success();
    let undone = repo.git(&["log", "--format=%s", "-3"]);
    assert!(undone.starts_with("Pin setup/a until "), "{undone}");
    repo.git(&["reset", "-q", "--soft", "HEAD~"]);
    repo.git(&["rm", "-rq", "-f", ".sync-pins"]);
    assert_eq!(repo.scene(), before);

    // Several paths are one commit, and a dry run none.
    let head = repo.head();
    let words = ["pin", "setup/a", "setup/b", "--reason", "two", "--dry-run"];
    let trace_before = trace(lab.path("repo").as_std_path());
    repo.xtask(&words).success().says("2 paths would be pinned");
    assert_eq!(trace(lab.path("repo").as_std_path()), trace_before);
    let json = repo.xtask(&["pin", "setup/a", "setup/b", "--reason", "two", "--json"]).json();
    assert_eq!(
        (json["schema"].as_str(), json["pins"][1]["path"].as_str()),
        (Some("xtask.pin/1"), Some("setup/b"))
    );
    assert_eq!(json["commit"].as_str().unwrap(), repo.head());
    assert_eq!(repo.id("HEAD~1"), head);
    let message = repo.git(&["log", "-1", "--format=%B"]);
    assert!(
        message.starts_with("Pin 2 paths until ") && message.contains("- setup/b\n"),
        "{message}"
    );
    repo.xtask(&["unpin", "setup/b", "setup/a"]).success().says("2 pins removed");
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.write("docs/x", "x\n");
    repo.git(&["add", "docs"]);
    repo.git(&["commit", "-qm", "docs"]);
    pin(&repo, "setup").success();
    let before = repo.scene();
    let refused = |words: &[&str], says: &str, hint: &str| {
        let ran = repo.xtask(words).status(2).says(says).says(hint);
        assert!(ran.out.is_empty(), "{}", ran.out);
    };
    let reason = ["--reason", "why"];
    let pin = |words: &[&'static str]| [&["pin"][..], words, &reason].concat();
    refused(
        &pin(&["setup/zz"]),
        "`setup/zz` is neither on `feature` nor on `orch",
        "lists the managed",
    );
    refused(&pin(&["docs/x"]), "`docs/x` is not managed", "lists the managed");
    refused(&pin(&["src"]), "`src` is not managed", "lists the managed");
    refused(&pin(&["docs/x", "setup/zz"]), "these paths cannot be pinned", "setup/zz");
    refused(&pin(&[".sync-pins"]), "`.sync-pins` is not managed", "lists");
    refused(&pin(&["setup/a", "--branch", "main"]), "`--branch` is for the canonical", "leave out");
    for until in ["soon", "2020-01-01", "-1d", "30", "2026-02-30", ""] {
        let until = format!("--until={until}");
        refused(&["pin", "setup/a", &until, "--reason", "x"], "--until", "`30d`, `2w`");
    }
    for wrong in ["", "  ", "two\nlines", "a\u{1b}[31m", "a\u{202e}b"] {
        refused(&["pin", "setup/a", "--reason", wrong], "the reason", "--reason");
    }
    refused(&["pin", "setup/a"], "--reason", "required");
    refused(&["pin", "--reason", "x"], "PATH", "required");
    refused(
        &["unpin", "setup/a"],
        "`setup/a` is not pinned on `feature`",
        "is in the folder `setup`",
    );
    refused(&["unpin", "scripts"], "`scripts` is not pinned", "pinned there: `setup`");
    refused(&["unpin"], "PATH", "required");
    assert_eq!(repo.scene(), before);
    for (branch, says, hint) in [
        ("main", "`main` is protected", "git switch orchestration-tools"),
        ("orchestration-tools", "is the canonical branch", "--branch main"),
        ("orchestration-tools-changes", "changes branch", "switch to a branch"),
        ("orchestration-sync/main", "side branch", "switch to a branch"),
    ] {
        if repo.try_git(&["switch", "-q", branch]).code != Some(0) {
            repo.git(&["switch", "-qc", branch]);
        }
        refused(&pin(&["setup/a"]), says, hint);
    }
    repo.git(&["switch", "-q", "orchestration-tools"]);
    refused(
        &pin(&["setup/a", "--branch", "nowhere"]),
        "no such branch: `nowhere`",
        "git branch -a",
    );
    refused(&pin(&["setup/a", "--branch", "orchestration-tools"]), "cannot be pinned", "switch");
    refused(&pin(&["setup/a", "--branch", "a..b"]), "invalid branch name", "git branch");
    repo.git(&["switch", "-q", "--detach", "feature"]);
    refused(&pin(&["setup/a"]), "HEAD is detached", "git switch");
    refused(&["unpin", "--lapsed"], "HEAD is detached", "git switch");
    // As for `sync`, what git is in the middle of is not the fault of the command line.
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["branch", "side", "main"]);
    repo.on_branch("side", |place| place.write("setup/a", "side\n"));
    repo.try_git(&["merge", "-q", "side"]);
    let merging = repo.scene();
    repo.xtask(&pin(&["setup/b"]))
        .status(3)
        .says("a merge is in progress")
        .says("git merge --abort");
    assert_eq!(repo.scene(), merging);
    repo.git(&["merge", "--abort"]);
    // Files of pins with changes of the user are not replaced.
    let file = repo.git(&["ls-files", ".sync-pins"]).trim().to_owned();
    repo.write(&file, repo.read(&file) + "# mine\n");
    repo.xtask(&["unpin", "setup"]).status(3).says("has changes that are not committed");
    assert!(repo.read(&file).ends_with("# mine\n"));
}

#[test]
fn protected_branches_are_pinned_on_the_canonical_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["branch", "feature", "main"]);
    // What comes to a protected branch by a merge decides nothing.
    write_pin(&repo, "main", "setup/a", "2999-01-01");
    assert_eq!(class_of(&repo, "setup/a"), "behind update");
    repo.xtask(&["pin", "--list"]).success().says("without effect").says("`main` is protected");
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.xtask(&["pin", "setup/a", "--branch", "main", "--until", "3d", "--reason", "freeze"])
        .success()
        .says("main: 1 path pinned")
        .says("propagate");
    repo.xtask(&["pin", "--list"]).success().says("main  setup/a").says("ending soon");
    repo.xtask(&["propagate"]).success();
    assert!(
        repo.try_git(&["rev-parse", "-q", "--verify", "orchestration-sync/main"]).code != Some(0)
    );
    assert_eq!(repo.git(&["show", "feature:setup/a"]), "a2\n");
    // The pins themselves are never spread.
    assert_eq!(repo.git(&["ls-tree", "-r", "--name-only", "feature", ".sync-pins"]), "");
    repo.git(&["switch", "-q", "main"]);
    assert_eq!(class_of(&repo, "setup/a"), "pinned keep");
    repo.xtask(&["sync"])
        .success()
        .says("pin of `setup/a` (of `main`, on the canonical branch) ends");
    repo.xtask(&["pin", "--list"]).success().says("on the canonical branch");
    // A branch that follows `main` is not `main`.
    repo.git(&["switch", "-qc", "work"]);
    repo.git(&["config", "branch.work.remote", "origin"]);
    repo.git(&["config", "branch.work.merge", "refs/heads/main"]);
    assert_eq!(class_of(&repo, "setup/a"), "behind update");
    // A branch can be pinned here and there.
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.xtask(&["pin", "setup/a", "--branch", "feature", "--reason", "x"]).success();
    repo.git(&["switch", "-q", "feature"]);
    repo.xtask(&["unpin", "setup/a"]).status(2).says("its pin is on `orchestration-tools`");
    pin(&repo, "setup/a").success();
    repo.xtask(&["unpin", "setup/a"]).success().says("remains pinned by a pin on `orchestration-");
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.xtask(&["unpin", "setup/a"]).status(2).says("--branch");
    repo.xtask(&["unpin", "setup/a", "--branch", "main"]).success();
    repo.git(&["switch", "-q", "main"]);
    assert_eq!(class_of(&repo, "setup/a"), "behind update");
}

#[test]
fn a_detached_head_has_the_pins_of_its_commit() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup").success();
    repo.git(&["switch", "-q", "--detach"]);
    assert_eq!(class_of(&repo, "setup/a"), "pinned keep");
    repo.xtask(&["sync", "--check", "--strict"]).success();
    repo.xtask(&["pin", "--list"]).success().says("feature  setup");
    repo.git(&["switch", "-q", "--detach", "main"]);
    assert_eq!(class_of(&repo, "setup/a"), "behind update");
}

/// Merges, rebases and picks between two branches with pins, with renewals and removals: git finds no conflict,
/// and each branch keeps its own.
#[test]
fn pins_of_two_branches_merge_without_conflicts() {
    let lab = Lab::of(|lab| {
        let repo = lab.repo();
        for branch in ["one", "two"] {
            repo.git(&["switch", "-qc", branch, "main"]);
            repo.write(&format!("src/{branch}"), "work\n");
            repo.commit("work");
            pin(&repo, "setup/a").success();
            pin(&repo, "setup/b").success();
        }
        // Both have the pins of both, and then go on.
        repo.git(&["merge", "-q", "-m", "both", "one"]);
        repo.git(&["switch", "-q", "one"]);
        repo.git(&["merge", "-q", "-m", "both", "two"]);
        repo.xtask(&["pin", "setup/a", "--until", "2w", "--reason", "renewed by one"]).success();
        repo.xtask(&["unpin", "setup/b"]).success();
        pin(&repo, "scripts").success();
        repo.git(&["switch", "-q", "two"]);
        repo.xtask(&["pin", "setup/a", "--until", "90d", "--reason", "renewed by two"]).success();
        pin(&repo, "setup").success();
        repo.xtask(&["unpin", "setup/b"]).success();
        repo.canonical(&[("setup/a", Some("a2\n")), ("scripts/run.sh", Some("2\n"))]);
    });
    let ways: [&[&[&str]]; 5] = [
        &[&["merge", "-q", "-m", "merged", "FROM"]],
        &[&["merge", "-q", "--squash", "FROM"], &["commit", "-qm", "squashed"]],
        &[&["rebase", "-q", "FROM"]],
        &[&["cherry-pick", "ONTO..FROM", "--no-merges"]],
        &[&["merge", "-q", "-s", "recursive", "-m", "merged", "FROM"]],
    ];
    for (onto, from) in [("one", "two"), ("two", "one")] {
        for way in ways {
            let copy = lab.copy();
            let repo = copy.place("repo");
            repo.git(&["switch", "-q", onto]);
            let before = repo.xtask(&["pin", "--list", "--json"]).json()["pins"].clone();
            for words in way {
                let words: Vec<String> = words
                    .iter()
                    .map(|word| word.replace("FROM", from).replace("ONTO", onto))
                    .collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                if words[0] == "cherry-pick" {
                    let picked = repo.git(&["rev-list", "--reverse", "--no-merges", words[1]]);
                    for id in picked.lines() {
                        repo.git(&["cherry-pick", id]);
                    }
                    continue;
                }
                repo.git(&words);
            }
            assert_eq!(repo.status(), "", "{onto} {way:?}");
            let after = repo.xtask(&["pin", "--list", "--json"]).json()["pins"].clone();
            assert_eq!(after, before, "{onto} {way:?}");
            assert_eq!(class_of(&repo, "setup/a"), "pinned keep");
            let wanted = if onto == "one" { "pinned keep" } else { "behind update" };
            assert_eq!(class_of(&repo, "scripts/run.sh"), wanted);
        }
    }
    // Merged into a third branch they have no effect.
    let repo = lab.place("repo");
    repo.git(&["switch", "-qc", "third", "main"]);
    repo.git(&["merge", "-q", "-m", "all", "one", "two"]);
    assert_eq!(class_of(&repo, "setup/a"), "behind update");
    repo.xtask(&["pin", "--list"]).success().says("no pins");
}

#[test]
fn clones_and_renamed_branches_keep_pins() {
    let lab = Lab::new();
    let repo = own(&lab);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    pin(&repo, "setup/a").success();
    repo.git(&["push", "-q", "--all", "-u", "origin"]);
    repo.git(&["branch", "-m", "feature", "renamed"]);
    assert_eq!(class_of(&repo, "setup/a"), "pinned keep");
    // A new pin holds the name that others know, if git pushes there.
    pin(&repo, "scripts").success().says("its upstream is `feature`");
    repo.xtask(&["unpin", "scripts"]).success();
    repo.git(&["config", "push.default", "upstream"]);
    pin(&repo, "setup/b").success().never_says("its upstream");
    repo.git(&["push", "-q", "origin", "HEAD:feature"]);
    lab.place(".").git(&["clone", "-q", hub.as_str(), "two"]);
    let two = lab.place("two");
    two.git(&["branch", "-q", "orchestration-tools", "origin/orchestration-tools"]);
    two.git(&["switch", "-q", "-c", "colleague", "--track", "origin/feature"]);
    assert_eq!(
        two.plan(&[]),
        "setup/a pinned keep\nsetup/b pinned keep\nsetup/new behind create\n"
    );
    two.xtask(&["sync"]).success();
    // Who knows the branch by another name ends the pin for himself: a merge ends it for nobody else.
    two.xtask(&["unpin", "setup/b"])
        .success()
        .says("the pin ends for `colleague`; on `feature`, its upstream, it stays");
    assert_eq!(class_of(&two, "setup/b"), "behind update");
    let remote = repo.xtask(&["propagate", "--remote", "--dry-run", "--json"]).success().json();
    let rows = remote["branches"].as_array().unwrap();
    let row = rows.iter().find(|row| row["branch"] == "feature").unwrap();
    assert_eq!((&row["pinned"], &row["written"]), (&2.into(), &1.into()));
    two.git(&["push", "-q", "origin", "HEAD:feature"]);
    repo.git(&["pull", "-q", "--rebase"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    // Another local branch is another branch, also if it follows one of this clone or of another remote.
    two.git(&["switch", "-q", "-c", "else", "--no-track", "origin/feature"]);
    assert_eq!(class_of(&two, "setup/b"), "behind update");
    for remote in [".", "fork"] {
        two.git(&["config", "branch.else.remote", remote]);
        two.git(&["config", "branch.else.merge", "refs/heads/feature"]);
        assert_eq!(class_of(&two, "setup/b"), "behind update", "{remote}");
    }
}

#[test]
fn pins_lapse_by_themselves_and_are_announced() {
    let lab = Lab::new();
    let repo = own(&lab);
    // The clock of `world` stands at 2026-02-02.
    write_pin(&repo, "feature", "setup/b", "2026-02-02");
    let classes = |clock: fn() -> Duration| {
        let mut world = world(&repo);
        world.clock = clock;
        with_tools(&repo, &world, |repo, tools| {
            let context = context::read_context(repo).unwrap();
            let options = SyncOptions::plain();
            let seen = inspect_checkout(repo, context, &options, ScanDepth::Everything, tools);
            let SyncInspection::Planned(planned) = seen.unwrap() else { panic!("canonical") };
            let b = RepoPath::new("setup/b");
            let item = planned.plan.items.iter().find(|item| *item.path() == b).unwrap();
            let notes = (planned.pins.describe_ending(), planned.pins.describe_lapsed());
            (item.class.name(), notes.0.join("\n"), notes.1.join("\n"))
        })
    };
    let (class, ending, lapsed) = classes(|| Duration::from_secs(1_770_000_000));
    assert_eq!((class, lapsed.as_str()), ("pinned", ""));
    assert!(ending.contains("ends on 2026-02-02 (today)"), "{ending}");
    // The last second of the day, in UTC, and the first after it.
    let (class, ..) = classes(|| Duration::from_secs(1_770_076_799));
    assert_eq!(class, "pinned");
    let (class, ending, lapsed) = classes(|| Duration::from_secs(1_770_076_800));
    assert_eq!((class, ending.as_str()), ("behind", ""));
    assert!(lapsed.starts_with("pin of `setup/b` lapsed on 2026-02-02"), "{lapsed}");
    let (_, ending, _) = classes(|| Duration::from_secs(1_769_300_000));
    assert_eq!(ending, "");

    // In words, by the clock of this machine.
    repo.git(&["rm", "-q", "-r", ".sync-pins"]);
    repo.git(&["commit", "-qm", "removed"]);
    write_pin(&repo, "feature", "setup/b", "2020-01-01");
    repo.xtask(&["status"]).success().says("pin of `setup/b` lapsed on 2020-01-01");
    repo.xtask(&["why", "setup/b"]).success().says("behind").says("lapsed on 2020-01-01");
    repo.xtask(&["pin", "setup/a", "--until", "3d", "--reason", "x"])
        .success()
        .says("1 pin removed")
        .says("lapsed on 2020-01-01");
    assert_eq!(repo.git(&["ls-files", ".sync-pins"]).lines().count(), 1);
    for words in [&["status"][..], &["sync"]] {
        repo.xtask(words).success().says("(in 3 days)").says("cargo xtask unpin setup/a");
    }
    let json = repo.xtask(&["pin", "--list", "--json"]).success().json();
    assert_eq!(
        (&json["pins"][0]["state"], &json["pins"][0]["days_left"]),
        (&"ending-soon".into(), &3.into())
    );
    // The hook tells it once.
    repo.install_hooks().success();
    let said = repo.try_git(&["switch", "main"]);
    assert!(!said.err.contains("ends on"), "{}", said.err);
    assert!(repo.try_git(&["switch", "feature"]).err.contains("pin of `setup/a` ends on"));
    repo.git(&["switch", "-q", "main"]);
    assert!(!repo.try_git(&["switch", "feature"]).err.contains("pin of `setup/a` ends on"));
}

#[test]
fn lapsed_pins_of_all_branches_are_removed() {
    let lab = Lab::new();
    let repo = own(&lab);
    write_pin(&repo, "feature", "setup/a", "2020-01-01");
    write_pin(&repo, "gone", "setup/a", "2020-01-01");
    write_pin(&repo, "main", "setup/a", "2020-01-01");
    write_pin(&repo, "gone", "setup/b", "2999-01-01");
    // What names no branch is listed as well, and applies to none.
    let all = repo.xtask(&["pin", "--list", "--all"]).success();
    all.says("gone     setup/b").says("feature  setup/a").says("there is no branch `gone`");
    repo.xtask(&["unpin", "--lapsed", "--dry-run"]).success().says("3 pins would be removed");
    repo.xtask(&["unpin", "--lapsed"]).success().says("3 pins removed");
    let left = repo.git(&["grep", "-h", "-e", "^branch", "-e", "^until", "--", ".sync-pins"]);
    assert_eq!(left, "branch = \"gone\"\nuntil = 2999-01-01\n");
    repo.xtask(&["unpin", "--lapsed"]).success().says("nothing to do");
}

#[test]
fn malformed_pins_are_never_no_pins() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.git(&["branch", "plain", "main"]);
    let (file, text) = pin_file("feature", "setup/b", "2999-01-01");
    let huge = format!("{text}# {}\n", "x".repeat(70_000));
    for (content, says) in [
        (text.replace("until", "untl"), format!("{file}:4: unknown key `untl`")),
        (
            format!("<<<<<<< ours\n{text}=======\n>>>>>>> theirs\n"),
            format!("{file}:1: conflict marker"),
        ),
        ("nonsense".to_owned(), format!("{file}:1: ")),
        (String::new(), format!("{file}:")),
        (huge, format!("{file}: it has ")),
    ] {
        repo.write(&file, content);
        repo.git(&["add", "-A"]);
        repo.git(&["commit", "-qm", "malformed"]);
        let before = repo.scene();
        for words in [
            &["sync"][..],
            &["sync", "--check"],
            &["pin", "setup/a", "--reason", "x"],
            &["unpin", "setup/b"],
            &["pin", "--list"],
            &["extract", "--dry-run"],
        ] {
            repo.xtask(words)
                .status(2)
                .says("malformed pin on `feature`: ")
                .says(&says)
                .says("git rm -- .sync-pins/");
        }
        repo.xtask(&["pin", "--list", "--all"]).status(2).says(&says);
        assert_eq!(repo.scene(), before);
        repo.xtask(&["status"]).success().says("3 unknown").says(&says);
        let all = repo.xtask(&["status", "--all", "--json"]).success().json();
        let of = |name: &str| {
            let all = all["branches"].as_array().unwrap();
            all.iter().find(|one| one["branch"] == name).unwrap().clone()
        };
        assert_eq!((&of("feature")["unknown"], &of("feature")["behind"]), (&3.into(), &0.into()));
        assert!(of("feature")["note"].as_str().unwrap().contains(&says));
        assert_eq!(
            (&of("plain")["behind"], &of("plain")["note"]),
            (&3.into(), &serde_json::Value::Null)
        );
        let rows = repo.xtask(&["propagate", "--dry-run", "--json"]).status(3).json();
        let rows = rows["branches"].as_array().unwrap().clone();
        let action =
            |name: &str| rows.iter().find(|row| row["branch"] == name).unwrap()["action"].clone();
        assert_eq!((action("feature"), action("plain")), ("failed".into(), "update".into()));
        repo.git(&["switch", "-q", "plain"]);
        let row = repo.xtask(&["propagate", "--dry-run", "feature"]).status(3);
        row.says("malformed pin").says(&says);
        repo.git(&["switch", "-q", "feature"]);
    }
    // Git goes on whatever the hooks find.
    repo.install_hooks().success();
    repo.git(&["switch", "-q", "plain"]);
    let said = repo.try_git(&["switch", "feature"]);
    assert_eq!(said.code, Some(0));
    assert!(said.err.contains("malformed pin"), "{}", said.err);
    // A file in place of the folder, and a symlink in it.
    repo.git(&["rm", "-q", &file]);
    repo.write(".sync-pins", "a file\n");
    repo.commit("a file");
    repo.xtask(&["sync"]).status(2).says(".sync-pins: it is not a folder");
    repo.remove(".sync-pins");
    repo.link("../setup/a", ".sync-pins/x.toml");
    repo.commit("a symlink");
    repo.xtask(&["sync"]).status(2).says(".sync-pins/x.toml: it is not a regular file");
    // All branches read those of the canonical branch: `status` reports a malformed one there, and it is not pushed.
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.write(".sync-pins/x.toml", "nonsense\n");
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-q", "--no-verify", "-m", "malformed"]);
    repo.xtask(&["status"]).success().says("malformed pin on `orchestration-tools`");
    let pushed = repo.try_git(&["push", "origin", "orchestration-tools"]);
    assert_eq!(pushed.code, Some(1));
    assert!(pushed.err.contains("malformed pin on `orchestration-tools`"), "{}", pushed.err);
    repo.git(&["switch", "-q", "plain"]);
    repo.xtask(&["sync"]).status(2).says("malformed pin on `orchestration-tools`");
    repo.xtask(&["pin", "--list", "--all"])
        .status(2)
        .says("malformed pin on `orchestration-tools`");
    repo.git(&["update-ref", "refs/heads/orchestration-tools", "orchestration-tools~"]);
    repo.git(&["switch", "-q", "feature"]);
    // What is no pin is left alone.
    repo.remove(".sync-pins/x.toml");
    repo.write(".sync-pins/README.md", "pins\n");
    repo.commit("a text");
    repo.xtask(&["sync"]).success();
}

#[test]
fn extract_and_reverse_sync_leave_pinned_paths_out() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.write("setup/c", "c\n");
    repo.write("setup/a", "own 2\n");
    let both = repo.commit("both");
    repo.write("setup/a", "own 3\n");
    let only = repo.commit("only a");
    pin(&repo, "setup/a").success();
    let json = repo.xtask(&["extract", "--dry-run", "--json"]).success().json();
    assert_eq!(json["pinned"], serde_json::json!(["setup/a"]));
    let files: Vec<&str> =
        json["files"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["setup/c"]);
    repo.xtask(&["extract"]).success().says("has pinned `setup/a`, which is not collected");
    repo.xtask(&["reverse-sync", "feature", &both, "--yes"])
        .success()
        .says("left out, because pinned on its branch: 1 file");
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/a"]), "a2\n");
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/c"]), "c\n");
    let before = repo.id("orchestration-tools");
    repo.xtask(&["reverse-sync", "feature", &only, "--yes"])
        .status(2)
        .says("changes only what `feature` has pinned")
        .says("unpin");
    repo.xtask(&["reverse-sync", "feature", &format!("{both}..feature"), "--yes"])
        .status(2)
        .says("change only what `feature` has pinned");
    assert_eq!(repo.id("orchestration-tools"), before);
    repo.xtask(&["unpin", "setup/a"]).success();
    repo.xtask(&["extract", "--dry-run"]).status(1).says("setup/a: both changed the same lines");
}

#[test]
fn hooks_and_notices_know_pins() {
    let lab = Lab::new();
    let repo = own(&lab);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.install_hooks().success();
    pin(&repo, "setup").success();
    let pushed = repo.try_git(&["push", "origin", "feature"]);
    assert_eq!(pushed.code, Some(0));
    assert!(!pushed.err.contains("managed file"), "{}", pushed.err);
    // Who commits there does not do so by accident; a pin that cannot be read is refused.
    repo.write("setup/a", "own 2\n");
    let said = repo.try_git(&["commit", "-qam", "on purpose"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    repo.write(".sync-pins/x.toml", "pinned = true\n");
    repo.git(&["add", "-A"]);
    let said = repo.try_git(&["commit", "-qm", "malformed"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains(".sync-pins/x.toml:1: unknown key `pinned`"), "{}", said.err);
    repo.git(&["rm", "-qf", ".sync-pins/x.toml"]);
    // After a commit on the canonical branch, what is pinned is not behind.
    repo.git(&["branch", "-D", "-q", "main"]);
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.write("setup/b", "b3\n");
    repo.git(&["add", "-A"]);
    let said = repo.try_git(&["commit", "-m", "b3"]).err;
    assert!(!said.contains("now behind"), "{said}");
    let said = repo.try_git(&["switch", "feature"]);
    assert_eq!((said.code, repo.read("setup/b").as_str()), (Some(0), "b1\n"));
    assert!(!said.err.contains("brought up to date"), "{}", said.err);
    repo.xtask(&["validate", "--fast"]).says("pinned");
}

#[test]
fn names_and_places_of_every_kind_can_be_pinned() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature/ü"]);
    repo.write("setup/sp ace\"quote", "1\n");
    repo.commit("names");
    repo.canonical(&[("setup/sp ace\"quote", Some("2\n")), ("setup/later/deep", Some("1\n"))]);
    pin(&repo, "setup/sp ace\"quote").success();
    // A folder that only the canonical branch has, with what comes there later.
    pin(&repo, "setup/later").success();
    repo.canonical(&[("setup/later/more", Some("1\n"))]);
    let plan = repo.plan(&[]);
    assert_eq!(plan.matches(" pinned keep").count(), 3, "{plan}");
    repo.xtask(&["pin", "--list"]).success().says("sp ace");
    // From a folder below, as people type it.
    repo.at("setup").xtask(&["pin", "a", "--reason", "below"]).success();
    repo.xtask(&["unpin", "setup/a", "setup/later"]).success();
    // In a linked worktree, and with sparse checkout.
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "-q", "-b", "side", linked.as_str(), "main"]);
    let linked = lab.place("linked");
    pin(&linked, "setup/b").success();
    linked.git(&["sparse-checkout", "set", "src"]);
    assert!(!linked.has(".sync-pins"));
    pin(&linked, "setup/a").success();
    assert!(!linked.has(".sync-pins"));
    assert_eq!(linked.status(), "");
    assert_eq!(class_of(&linked, "setup/a"), "in-sync");
    repo.canonical(&[("setup/a", Some("3\n")), ("setup/b", Some("3\n"))]);
    assert_eq!(class_of(&linked, "setup/a"), "pinned keep");
    linked.xtask(&["sync"]).success();
    linked.xtask(&["unpin", "setup/b"]).success();
    assert_eq!(linked.status(), "");
    linked.git(&["sparse-checkout", "disable"]);
    // One pin, and one that has ended.
    assert_eq!(linked.git(&["ls-files", ".sync-pins"]).lines().count(), 2);
    assert_eq!(linked.status(), "");
}

#[test]
fn patterns_never_manage_pins() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.canonical(&[("setup/sync.toml", Some("[managed]\ninclude = ['*']\n"))]);
    repo.git(&["switch", "-qc", "feature"]);
    repo.xtask(&["sync"]).success();
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.xtask(&["pin", "setup/a", "--branch", "main", "--reason", "x"]).success();
    repo.git(&["switch", "-q", "feature"]);
    pin(&repo, "setup/a").success();
    repo.xtask(&["sync", "--check", "--strict"]).success();
    assert_eq!(repo.git(&["ls-files", ".sync-pins"]).lines().count(), 1);
    let own = repo.git(&["ls-files", ".sync-pins"]).trim().to_owned();
    repo.xtask(&["why", &own]).success().says("holds the pins of branches");
    let extracted = repo.xtask(&["extract", "--dry-run", "--json"]).success().json();
    assert_eq!(extracted["files"], serde_json::json!([]));
    repo.xtask(&["reverse-sync", "feature", "feature", "--yes"]).status(2).says("no managed file");
}

/// A repository with a remote, a second clone of it, and a branch with a version of its own at both.
pub(crate) fn two_clones(lab: &Lab) -> (Place<'_>, Place<'_>) {
    let repo = own(lab);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["push", "-q", "--all", "-u", "origin"]);
    lab.place(".").git(&["clone", "-q", hub.as_str(), "two"]);
    let two = lab.place("two");
    two.git(&["branch", "-q", "orchestration-tools", "origin/orchestration-tools"]);
    two.git(&["switch", "-q", "feature"]);
    (repo, two)
}

/// An overlay, and a pin of one of its paths that a colleague has made and that was fetched.
pub(crate) fn overlay_and_fetched_pin(lab: &Lab) -> (Place<'_>, Place<'_>) {
    let (repo, two) = two_clones(lab);
    repo.xtask(&["sync", "--no-commit"]).success();
    pin(&two, "setup/b").success();
    two.git(&["push", "-q"]);
    repo.git(&["fetch", "-q"]);
    (repo, two)
}

/// As a power failure leaves it. Git lists the other refs, and takes the branch for one without a fetched upstream.
#[test]
fn a_broken_ref_of_the_upstream_counts_as_not_fetched() {
    for content in ["", "no id\n", "1234567890123456789012345678901234567890\n"] {
        let lab = Lab::new();
        let (repo, two) = two_clones(&lab);
        pin(&two, "setup/b").success();
        two.git(&["push", "-q"]);
        repo.git(&["fetch", "-q"]);
        repo.write(".git/refs/remotes/origin/feature", content);
        for words in
            [&["status"][..], &["sync", "--check"], &["sync", "--dry-run"], &["why", "setup/b"]]
        {
            let ran = repo.xtask(words);
            assert!(matches!(ran.code, Some(0 | 1)), "{words:?}: {}", ran.err);
        }
        repo.xtask(&["status"]).says("is a broken ref and counts as not fetched");
        repo.xtask(&["status", "--all"]).success().says("feature");
        repo.xtask(&["propagate", "--dry-run"]).success().says("feature");
        repo.xtask(&["sync"]).success().says("then `git fetch origin`");
        assert_eq!(repo.read("setup/b"), "b2\n");
        // What has to know the other side does not guess, and tells the same commands, which work.
        let repair = match content.len() {
            41 => "git update-ref --no-deref -d refs/remotes/origin/feature",
            _ => "rm \"$(git rev-parse --git-path refs/remotes/origin/feature)\"",
        };
        repo.xtask(&["extract"]).status(3).says(repair);
        repo.run("sh", &["-c", &format!("{repair} && git fetch origin")], &[]).success();
        repo.xtask(&["undo"]).success();
        assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    }
}

#[test]
fn a_pin_that_was_fetched_counts_before_it_is_merged() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&two, "setup").success();
    two.git(&["push", "-q"]);
    // Here the branch has gone on, and knows of the pin from the last fetch alone.
    repo.write("src/app", "work\n");
    repo.commit("work");
    repo.git(&["fetch", "-q"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    let head = repo.head();
    repo.xtask(&["sync"]).success().says("waiting for the vendor");
    repo.git(&["switch", "-q", "main"]);
    repo.xtask(&["propagate", "feature"]).success();
    repo.install_hooks().success();
    repo.git(&["switch", "-q", "feature"]);
    assert_eq!((repo.head(), repo.read("setup/b").as_str()), (head, "b1\n"));
    // Merely behind, a look says the same as the sync does.
    repo.git(&["-c", "core.hooksPath=/dev/null", "reset", "-q", "--hard", "HEAD~"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    // Once it is merged, the commit itself decides: also that the pin has ended.
    repo.git(&["-c", "core.hooksPath=/dev/null", "merge", "-q", "origin/feature"]);
    repo.xtask(&["unpin", "setup"]).success();
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
}

#[test]
fn a_renamed_branch_keeps_its_pins_and_says_so() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup/b").success();
    repo.git(&["branch", "-m", "feature", "renamed"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    let note = "pin of `setup/b` holds `feature`, the former name of `renamed`";
    repo.xtask(&["status"]).success().says(note);
    pin(&repo, "setup/b").success();
    repo.xtask(&["status"]).success().never_says("the former name");
    // A branch that takes the name is another one, and has its own.
    repo.git(&["branch", "feature"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    repo.xtask(&["unpin", "setup/b"]).success();
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
    // What has ended has, also of the pin with the former name.
    repo.git(&["branch", "-D", "-q", "feature"]);
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
}

#[test]
fn what_this_clone_calls_a_branch_decides_nothing_at_the_remote() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&repo, "setup").success();
    repo.git(&["push", "-q"]);
    repo.git(&["switch", "-q", "-c", "topic", "origin/feature"]);
    repo.git(&["push", "-q", "origin", "topic"]);
    two.git(&["fetch", "-q"]);
    let rows = |place: &Place<'_>| {
        let json = place.xtask(&["propagate", "--remote", "--dry-run", "--json"]).success().json();
        let rows = json["branches"].as_array().unwrap().clone();
        let count = |name: &str| {
            let row = rows.iter().find(|row| row["branch"] == name).unwrap();
            (row["pinned"].as_u64().unwrap(), row["written"].as_u64().unwrap())
        };
        (count("feature"), count("topic"))
    };
    assert_eq!(rows(&repo), ((3, 0), (0, 2)));
    assert_eq!(rows(&two), rows(&repo));
}

#[test]
fn what_a_sync_has_laid_over_a_path_is_not_pinned() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.xtask(&["sync", "--no-commit"]).success();
    let before = repo.scene();
    for path in ["setup", "setup/b"] {
        pin(&repo, path).status(3).says("was written by `sync --no-commit`").says("undo");
    }
    assert_eq!(repo.scene(), before);
    pin(&repo, "scripts").success();
}

/// Each end, renewal and removal, by whom and in whatever order: git finds no conflict, and what has ended has.
#[test]
fn ends_and_renewals_merge_without_conflicts() {
    let merge = |repo: &Place<'_>, from: &str| {
        let ran = repo.try_git(&["merge", "-q", "-m", "merged", from]);
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert_eq!(repo.status(), "");
    };
    let lab = Lab::new();
    let repo = lab.repo();
    // Both remove what has lapsed, and add something alike: no rename.
    write_pin(&repo, "gone", "setup/a", "2020-01-01");
    repo.git(&["branch", "-f", "one"]);
    repo.git(&["branch", "-f", "two"]);
    for (branch, path) in [("one", "setup/a"), ("two", "setup/b")] {
        repo.git(&["switch", "-q", branch]);
        repo.write(&format!("src/{branch}"), "work\n");
        repo.commit("work");
        repo.xtask(&["unpin", "--lapsed"]).success();
        pin(&repo, path).success();
    }
    merge(&repo, "one");
    repo.git(&["switch", "-q", "one"]);
    merge(&repo, "two");
    // One renews while the other removes its files by hand, and pins.
    repo.xtask(&["pin", "setup/a", "--until", "2w", "--reason", "renewed"]).success();
    repo.git(&["switch", "-q", "two"]);
    repo.git(&["rm", "-q", "-r", ".sync-pins"]);
    repo.git(&["commit", "-qm", "removed"]);
    pin(&repo, "scripts").success();
    merge(&repo, "one");
    repo.git(&["switch", "-q", "one"]);
    merge(&repo, "two");
    assert!(repo.xtask(&["pin", "--list"]).success().out.contains("renewed"));
    // A squash merge brings back neither what was renewed nor what has ended.
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["merge", "-q", "--squash", "one"]);
    repo.git(&["commit", "-qm", "squashed"]);
    repo.git(&["switch", "-q", "one"]);
    repo.xtask(&["pin", "setup/a", "--until", "3w", "--reason", "once more"]).success();
    merge(&repo, "main");
    let listed = repo.xtask(&["pin", "--list"]).success().out;
    assert!(listed.contains("once more") && !listed.contains("renewed"), "{listed}");
    repo.xtask(&["unpin", "setup/a"]).success();
    merge(&repo, "main");
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "on"]);
    repo.git(&["switch", "-q", "one"]);
    merge(&repo, "main");
    repo.xtask(&["pin", "--list"]).success().says("no pins");
    // Two clones that pin the same path, each for itself.
    let copy = lab.copy();
    let other = copy.place("repo");
    repo.xtask(&["pin", "setup/b", "--until", "2w", "--reason", "here"]).success();
    other.xtask(&["pin", "setup/b", "--until", "5w", "--reason", "there"]).success();
    repo.git(&["fetch", "-q", other.dir.as_str(), "one"]);
    merge(&repo, "FETCH_HEAD");
    assert_eq!(repo.xtask(&["pin", "--list"]).success().out.lines().count(), 1);
}

#[test]
fn a_pin_has_the_author_that_git_would_name() {
    let lab = Lab::new();
    let repo = own(&lab);
    let who = [
        ("GIT_AUTHOR_NAME", "Zed <z>"),
        ("GIT_AUTHOR_EMAIL", "zed@example.invalid"),
        ("GIT_COMMITTER_NAME", "Com"),
    ];
    repo.xtask_with(&["pin", "setup/a", "--reason", "x"], &who).success();
    let ours = repo.git(&["log", "-1", "--format=%an|%ae|%cn"]);
    repo.write("src/app", "by git\n");
    repo.run("git", &["commit", "-qam", "git"], &who).success();
    assert_eq!(ours, repo.git(&["log", "-1", "--format=%an|%ae|%cn"]));
    repo.xtask(&["pin", "--list"]).success().says("Zed z,");
}

#[test]
fn unpin_reports_what_still_pins_the_path() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.xtask(&["pin", "setup", "setup/a", "--reason", "x"]).success();
    let news = "as about all others again";
    repo.xtask(&["unpin", "setup/a"])
        .success()
        .says("`setup/a` remains pinned by the pin of `setup`")
        .never_says(news);
    repo.xtask(&["pin", "setup/a", "--reason", "x"]).success();
    repo.xtask(&["unpin", "setup"]).success().says("`setup/a` remains pinned").never_says(news);
    repo.xtask(&["unpin", "setup/a"]).success().never_says("remains").says(news);
    // HEAD may be where no branch is.
    repo.git(&["update-ref", "refs/other/x", "HEAD"]);
    repo.git(&["symbolic-ref", "HEAD", "refs/other/x"]);
    pin(&repo, "setup").status(2).says("cannot be pinned");
}
