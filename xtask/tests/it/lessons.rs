//! What went wrong with the scripts that this replaces, and is guaranteed not to.

use std::collections::BTreeSet;

use crate::testkit::{Lab, Place, trace};

fn branches(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    for name in ["one", "two"] {
        repo.git(&["switch", "--quiet", "-c", name, "main"]);
        repo.write("src/app", name);
        repo.commit(name);
    }
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/new", Some("n\n")), ("setup/b", None)]);
    repo
}

#[test]
fn lesson_1_switching_back_and_forth_always_works() {
    let lab = Lab::new();
    let repo = branches(&lab);
    for mode in [&["sync", "--yes"][..], &["sync", "--no-commit", "--yes"]] {
        for _ in 0..2 {
            for name in ["one", "two"] {
                repo.xtask(&["switch", name]).success();
                assert_eq!(repo.git(&["branch", "--show-current"]).trim(), name);
                repo.xtask(mode).success();
                assert_eq!(repo.read("setup/a"), "a2\n");
            }
        }
    }
    assert_eq!(repo.status(), "");
}

#[test]
fn lesson_2_uncommitted_edits_are_never_overwritten() {
    let lab = Lab::new();
    let repo = branches(&lab);
    repo.write("setup/a", "an hour of work\n");
    repo.write("setup/new", "another\n");
    for args in [
        &["sync"][..],
        &["sync", "--merge"],
        &["sync", "--no-commit"],
        &["sync", "--yes"],
        &["setup"],
        &["sync", "--all-worktrees"],
    ] {
        repo.xtask(args).success();
        assert_eq!(repo.read("setup/a"), "an hour of work\n", "{args:?}");
        assert_eq!(repo.read("setup/new"), "another\n", "{args:?}");
    }
}

#[test]
fn lesson_3_next_commit_contains_only_the_users_paths() {
    let lab = Lab::new();
    let repo = branches(&lab);
    repo.write("src/staged", "mine\n");
    repo.git(&["add", "src/staged"]);
    repo.xtask(&["sync"]).success();
    repo.git(&["commit", "--quiet", "-m", "mine"]);
    assert_eq!(repo.git(&["show", "--format=", "--name-only"]), "src/staged\n");
    assert_eq!(
        repo.git(&["show", "--format=", "--name-only", "HEAD^"]),
        "setup/a\nsetup/b\nsetup/new\n"
    );
}

#[test]
fn lesson_4_sync_and_undo_run_no_hooks() {
    let lab = Lab::new();
    let repo = branches(&lab);
    let fired = lab.path("fired");
    for hook in [
        "post-checkout",
        "post-commit",
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "post-merge",
        "post-rewrite",
        "pre-push",
        "reference-transaction",
        "post-index-change",
    ] {
        let path = format!(".git/hooks/{hook}");
        repo.write(&path, format!("#!/bin/sh\necho {hook} >> '{fired}'\n"));
        repo.make_executable(&path);
    }
    repo.xtask(&["sync"]).success();
    repo.xtask(&["undo"]).success();
    repo.xtask(&["sync", "--no-commit"]).success();
    assert!(!fired.exists(), "{}", std::fs::read_to_string(&fired).unwrap());
    std::fs::remove_dir_all(repo.dir.join(".git/hooks")).unwrap();
    // What a user's own git command does under us can be told by its hooks from the user's.
    repo.write(
        ".git/hooks/post-checkout",
        format!("#!/bin/sh\nenv | grep ORCHESTRATION >> '{fired}'\n"),
    );
    repo.make_executable(".git/hooks/post-checkout");
    repo.xtask(&["switch", "one"]).success();
    assert_eq!(std::fs::read_to_string(&fired).unwrap(), "ORCHESTRATION_SYNC_ACTIVE=1\n");
}

#[test]
fn lesson_5_sync_is_refused_during_a_git_operation() {
    let lab = Lab::new();
    let repo = branches(&lab);
    repo.write("src/app", "base\n");
    repo.commit("base");
    repo.git(&["switch", "--quiet", "-c", "other"]);
    repo.write("src/app", "theirs\n");
    repo.commit("theirs");
    repo.git(&["switch", "--quiet", "two"]);
    repo.write("src/app", "ours\n");
    repo.commit("ours");
    let refused = |what: &str| {
        let before = repo.scene();
        for args in [&["sync"][..], &["sync", "--no-commit"], &["sync", "--force", "--yes"]] {
            repo.xtask(args).status(3).says(what);
        }
        repo.xtask(&["status"]).success();
        assert_eq!(repo.scene(), before, "{what}");
    };
    assert_ne!(repo.try_git(&["merge", "other"]).code, Some(0));
    refused("a merge is in progress");
    repo.git(&["merge", "--abort"]);
    assert_ne!(repo.try_git(&["rebase", "other"]).code, Some(0));
    refused("a rebase is in progress");
    repo.git(&["rebase", "--abort"]);
    assert_ne!(repo.try_git(&["cherry-pick", "other"]).code, Some(0));
    refused("a cherry-pick is in progress");
    repo.git(&["cherry-pick", "--abort"]);
    repo.git(&["bisect", "start", "HEAD", "main"]);
    refused("a bisect is in progress");
    repo.git(&["bisect", "reset"]);
    assert_ne!(repo.try_git(&["stash", "apply"]).code, Some(0));
    repo.write("src/app", "stashed\n");
    repo.git(&["stash", "--quiet"]);
    repo.write("src/app", "in the way\n");
    repo.commit("in the way");
    assert_ne!(repo.try_git(&["stash", "pop"]).code, Some(0));
    refused("unmerged paths");
}

#[test]
fn lesson_6_failures_are_never_reported_as_in_sync() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["branch", "--quiet", "-D", "orchestration-tools"]);
    for args in [&["sync"][..], &["sync", "--check"], &["sync", "-v"], &["diff"]] {
        repo.xtask(args).status(3).says("there is no canonical branch").never_says("in sync");
    }
    repo.xtask(&["status"]).success().says("there is no canonical branch").never_says("in sync");
}

#[test]
fn lesson_14_sync_writes_nothing_if_already_in_sync() {
    let lab = Lab::new();
    let repo = branches(&lab);
    repo.xtask(&["sync"]).success();
    repo.xtask(&["setup"]).success();
    repo.status();
    let before = trace(repo.dir.as_std_path());
    repo.xtask(&["sync"]).success();
    repo.xtask(&["setup"]).success();
    let mut after = trace(repo.dir.as_std_path());
    let mut before = before;
    // The locks are opened and say who holds them; nothing else is touched.
    for seen in [&mut before, &mut after] {
        for lock in ["lock", "validate.lock"] {
            assert!(seen.remove(repo.dir.join(".git/xtask").join(lock).as_std_path()).is_some());
        }
    }
    assert_eq!(after, before);
}

#[test]
fn lesson_19_only_registered_worktrees_are_synced() {
    let lab = Lab::new();
    let repo = branches(&lab);
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "--quiet", linked.as_str(), "one"]);
    // A clone beside it, and one inside of it, with the same branches.
    let beside = lab.path("beside");
    repo.git(&["clone", "--quiet", "--branch", "one", ".", beside.as_str()]);
    let inside = linked.join("inside");
    repo.git(&["clone", "--quiet", "--branch", "one", ".", inside.as_str()]);
    let json = repo.xtask(&["sync", "--all-worktrees", "--json"]).success().json();
    let synced: BTreeSet<&str> = json["worktrees"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tree| tree["worktree"].as_str().unwrap())
        .collect();
    assert_eq!(synced, BTreeSet::from([repo.dir.as_str(), linked.as_str()]));
    for clone in ["beside", "linked/inside"] {
        assert_eq!(lab.place(clone).read("setup/a"), "a1\n");
        assert!(!lab.place(clone).has(".git/xtask"));
    }
    assert_eq!(lab.place("linked").read("setup/a"), "a2\n");
}

#[test]
fn lesson_20_sync_and_undo_work_in_linked_worktrees() {
    let lab = Lab::new();
    let repo = branches(&lab);
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "--quiet", linked.as_str(), "one"]);
    let linked = lab.place("linked");
    linked.write("src/app", "unsaved\n");
    linked.at("src").xtask(&["sync"]).success();
    assert_eq!(linked.status(), " M src/app\n");
    assert_eq!(linked.read("setup/a"), "a2\n");
    assert_eq!(repo.read("setup/a"), "a1\n", "the main worktree is another matter");
    assert_eq!(linked.git(&["diff", "orchestration-tools", "HEAD", "--", "setup"]), "");
    linked.xtask(&["undo"]).success();
    assert_eq!(linked.read("setup/a"), "a1\n");
    linked.xtask(&["sync", "--no-commit"]).success();
    linked.xtask(&["status", "--all"]).success().says("overlay    3 files");
    repo.xtask(&["status"]).success().never_says("overlay");
}

#[test]
fn lesson_21_mass_deletions_require_confirmation() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.write("setup/own", "mine\n");
    repo.commit("own");
    repo.canonical(&[("setup/b", None)]);
    repo.xtask(&["sync"]).success();
    assert!(!repo.has("setup/b"), "removed at the source, removed here");
    repo.canonical(&[("setup/a", None), ("scripts/run.sh", None)]);
    let before = repo.scene();
    for args in [&["sync"][..], &["sync", "--no-commit"], &["sync", "--force"]] {
        repo.xtask(args).status(2).says("would be deleted").says("--yes");
        assert_eq!(repo.scene(), before, "{args:?}");
    }
    repo.xtask(&["sync", "--dry-run"]).success().says("setup/a");
    repo.xtask(&["sync", "--yes"]).success();
    assert!(!repo.has("setup/a") && !repo.has("scripts"));
    assert_eq!(repo.read("setup/own"), "mine\n", "never canonical, so never removed");
}

#[test]
fn lesson_24_crafted_state_files_execute_nothing() {
    let lab = Lab::new();
    let repo = branches(&lab);
    repo.xtask(&["sync", "--no-commit"]).success();
    let fired = lab.path("fired");
    let evil = format!("$(touch {fired}); `touch {fired}`; import os; #");
    let state = repo.git_folder().join("xtask");
    for name in ["once-canonical", "overlay", "journal"] {
        let path = state.join(name);
        let kept = std::fs::read(&path).ok();
        std::fs::write(&path, &evil).unwrap();
        let ran = repo.xtask(&["sync", "--dry-run"]);
        assert!([Some(0), Some(3)].contains(&ran.code), "{ran:?}");
        let ran = repo.xtask(&["sync"]);
        assert!([Some(0), Some(3)].contains(&ran.code), "{ran:?}");
        assert!(!fired.exists());
        match kept {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => drop(std::fs::remove_file(&path)),
        }
    }
    // A cache that lies about its content is thrown away, not believed.
    std::fs::write(state.join("once-canonical"), b"xtask.once-canonical/1\n\0\0\0").unwrap();
    repo.xtask(&["sync", "--dry-run"]).success();
}

#[test]
fn lesson_27_read_only_commands_write_nothing() {
    let lab = Lab::new();
    let repo = branches(&lab);
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "--quiet", linked.as_str(), "one"]);
    repo.write("setup/a", "unsaved\n");
    repo.git(&["add", "setup/a"]);
    repo.write("src/app", "unsaved, and git has not looked yet\n");
    let before = trace(lab.path("").as_std_path());
    for args in [
        &["sync", "--check"][..],
        &["sync", "--check", "--strict"],
        &["sync", "--dry-run"],
        &["sync", "--dry-run", "--force", "--yes"],
        &["sync", "--dry-run", "--merge"],
        &["sync", "--dry-run", "--no-commit"],
        &["sync", "--dry-run", "--all-worktrees", "--json"],
        &["status"],
        &["status", "--all", "--json"],
        &["diff"],
        &["why", "setup/a"],
        &["why", "src/app"],
        &["undo", "--list"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let ran = repo.xtask(args);
        assert!(ran.code == Some(0) || args.contains(&"--check"), "{args:?} {ran:?}");
        assert_eq!(trace(lab.path("").as_std_path()), before, "{args:?}");
    }
}
