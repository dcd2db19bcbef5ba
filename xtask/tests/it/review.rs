//! What an adversary found once. Each test failed before its mend.

use crate::testkit::{Lab, Place, program};

fn feature(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo
}

/// A clone that follows a remote which has gone ahead, and a canonical branch that has moved on.
fn follower(lab: &Lab) -> Place<'_> {
    let repo = feature(lab);
    let remote = lab.path("remote.git");
    repo.git(&["clone", "--quiet", "--bare", ".", remote.as_str()]);
    repo.git(&["remote", "add", "origin", remote.as_str()]);
    repo.in_worktree("main", |place| {
        place.git(&["switch", "--quiet", "--detach", "feature"]);
        place.write("src/upstream", "new\n");
        place.commit("upstream work");
        place.git(&["push", "--quiet", "origin", "HEAD:feature"]);
    });
    repo.git(&["fetch", "--quiet"]);
    repo.git(&["branch", "--quiet", "-u", "origin/feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo
}

#[test]
fn sync_does_not_discard_staged_changes_to_follow_upstream() {
    let lab = Lab::new();
    let repo = follower(&lab);
    repo.write("src/app", "staged only\n");
    repo.git(&["add", "src/app"]);
    repo.write("src/app", "and changed again\n");
    let before = repo.scene();
    repo.xtask(&["sync"]).status(3).says("there are staged changes");
    assert_eq!(repo.scene(), before);
    repo.git(&["reset", "--quiet"]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("src/app"), "and changed again\n");
}

#[test]
fn refused_sync_does_not_move_the_branch() {
    let lab = Lab::new();
    let repo = follower(&lab);
    repo.canonical(&[("setup/a", None), ("setup/b", None)]);
    let before = repo.scene();
    repo.xtask(&["sync"]).status(2).says("would be deleted");
    assert_eq!(repo.scene(), before);
}

#[test]
fn foreign_repository_at_a_worktree_path_is_left_alone() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "--quiet", "--detach", "main"]);
    std::fs::create_dir(lab.path("outer")).unwrap();
    repo.git(&["worktree", "add", "--quiet", lab.path("outer/wt").as_str(), "feature"]);
    std::fs::remove_dir_all(lab.path("outer")).unwrap();
    let other = lab.repo_named("outer", &[]);
    other.git(&["switch", "--quiet", "-c", "other"]);
    other.canonical(&[("setup/a", Some("another a2\n"))]);
    std::fs::create_dir(lab.path("outer/wt")).unwrap();
    let before = other.scene();
    repo.xtask(&["sync", "--all-worktrees"])
        .status(3)
        .says("is no longer a worktree of this repository");
    repo.xtask(&["status", "--all"]).success();
    assert_eq!(other.scene(), before);
}

#[test]
fn staged_paths_that_collide_with_new_paths_block_sync() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/new", Some("n\n")), ("setup/deep/x", Some("x\n"))]);
    repo.write("setup/new/mine", "m\n");
    repo.write("setup/deep", "m\n");
    repo.git(&["add", "setup/new/mine", "setup/deep"]);
    std::fs::remove_dir_all(repo.dir.join("setup/new")).unwrap();
    repo.remove("setup/deep");
    repo.xtask(&["sync"]).status(3).says("is in the way");
    repo.git(&["commit", "--quiet", "-m", "still possible"]);
}

#[test]
fn undo_in_a_sparse_checkout_stages_no_deletion() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/new", Some("n\n")), ("setup/b", None)]);
    repo.git(&["sparse-checkout", "set", "--no-cone", "/src/"]);
    let before = repo.scene();
    repo.xtask(&["sync"]).success();
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.scene(), before);
}

#[test]
fn undo_leaves_later_staged_changes_alone() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.write("setup/a", "a2\n");
    repo.xtask(&["sync"]).success();
    repo.write("setup/a", "mine, and staged\n");
    repo.git(&["add", "setup/a"]);
    repo.write("setup/a", "and changed again\n");
    let before = repo.scene();
    repo.xtask(&["undo"]).status(1).says("changed since, and kept");
    assert_eq!(repo.scene(), before);
}

#[test]
fn file_is_an_overlay_only_if_sync_wrote_it() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.git(&["checkout", "--quiet", "--", "setup/a"]);
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.git(&["merge", "--quiet", "orchestration-tools"]);
    repo.write("setup/a", "a2\n");
    assert_eq!(repo.plan(&[]), "setup/a edited keep\n");
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
}

#[test]
fn intent_to_add_file_is_not_removed_with_the_overlay() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["branch", "other"]);
    repo.canonical(&[("setup/new", Some("n\n"))]);
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.git(&["add", "--intent-to-add", "setup/new"]);
    repo.xtask(&["switch", "other"]);
    assert_eq!(repo.read("setup/new"), "n\n");
}

#[test]
fn empty_folder_blocks_only_the_file_of_its_path() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/new", Some("n\n")), ("setup/a", Some("a2\n"))]);
    std::fs::create_dir(repo.dir.join("setup/new")).unwrap();
    repo.xtask(&["sync"]).success().says("a folder is in its place");
    assert_eq!(repo.read("setup/a"), "a2\n");
}

#[test]
fn unsupported_working_tree_encoding_is_refused() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.in_worktree("orchestration-tools", |place| {
        place.write(".gitattributes", "setup/u working-tree-encoding=UTF-16LE\n");
        place.write("setup/u", b"h\0i\0\n\0");
    });
    let before = repo.scene();
    repo.xtask(&["sync"]).status(3).says("unsupported `working-tree-encoding`");
    assert_eq!(repo.scene(), before);
}

#[test]
fn core_safecrlf_does_not_fail_sync_or_check() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["config", "core.autocrlf", "true"]);
    repo.git(&["config", "core.safecrlf", "true"]);
    repo.xtask(&["sync", "--check"]).status(1);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/a"), "a2\r\n");
}

#[test]
fn overlay_with_converted_line_endings_is_recognised() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["branch", "other"]);
    repo.on_branch("orchestration-tools", |place| place.write("setup/a", "a\r\nb\r\n"));
    repo.git(&["config", "core.autocrlf", "true"]);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert!(!repo.plan(&["--no-commit"]).contains("edited"));
    repo.xtask(&["switch", "main"]).success().says("removed the overlay of 1 file");
}

#[test]
fn undo_of_an_overlay_is_refused_on_another_branch() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.git(&["commit", "--quiet", "-am", "take it"]);
    repo.git(&["switch", "--quiet", "-c", "clean", "orchestration-tools"]);
    repo.xtask(&["undo"]).status(2).says("`feature`");
    assert_eq!(repo.status(), "");
}

#[test]
fn undo_works_after_the_repository_was_moved() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.write("setup/a", "mine\n");
    repo.xtask(&["sync", "--force"]).success();
    std::fs::rename(&repo.dir, lab.path("moved")).unwrap();
    let moved = lab.place("moved");
    moved.xtask(&["undo"]).success();
    assert_eq!(moved.read("setup/a"), "mine\n");
}

#[test]
fn unwritable_stderr_does_not_panic() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let script = format!("'{}' sync 2> /dev/full", program());
    repo.run("sh", &["-c", &script], &[]).success();
}

#[test]
fn stale_merge_marker_files_do_not_block_a_later_merge() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.write("setup/a", "mine\n");
    repo.commit("customise");
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.xtask(&["sync", "--merge"]).status(1);
    repo.remove("setup/a");
    repo.write("setup/a/x", "mine\n");
    repo.commit("a folder now");
    repo.on_branch("orchestration-tools", |place| {
        place.remove("setup/a");
        place.write("setup/a/x", "x1\n");
    });
    repo.xtask(&["sync", "--merge"]).status(1);
    assert!(repo.git_folder().join("xtask/merge/setup/a/x").exists());
}

#[test]
fn file_saved_during_sync_is_kept_and_shown_as_modified() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.in_worktree("orchestration-tools", |place| {
        place.write("setup/.gitattributes", "z filter=slow\n");
        place.write("setup/a", "a2\n");
        place.write("setup/z", "z\n");
    });
    // While the contents are being prepared, the user saves the file that is about to be replaced.
    let script = lab.path("smudge.sh");
    let file = repo.dir.join("setup/a");
    std::fs::write(&script, format!("#!/bin/sh\necho saved > '{file}'\nexec cat\n")).unwrap();
    repo.git(&["config", "filter.slow.smudge", &format!("sh '{script}'")]);
    repo.xtask(&["sync"]).status(3).says("`setup/a` was changed concurrently");
    assert_eq!(repo.read("setup/a"), "saved\n");
    assert_eq!(repo.status(), " M setup/a\n");
}
