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
fn what_is_staged_is_not_given_up_to_follow_the_upstream() {
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
fn the_branch_does_not_move_for_a_sync_that_is_then_refused() {
    let lab = Lab::new();
    let repo = follower(&lab);
    repo.canonical(&[("setup/a", None), ("setup/b", None)]);
    let before = repo.scene();
    repo.xtask(&["sync"]).status(2).says("would be deleted");
    assert_eq!(repo.scene(), before);
}

#[test]
fn another_repository_in_the_place_of_a_worktree_is_left_alone() {
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
fn what_is_staged_below_or_above_a_new_path_is_in_the_way() {
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
fn undo_in_a_sparse_checkout_leaves_no_false_deletion() {
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
fn undo_leaves_what_was_staged_since() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.write("setup/a", "a2\n");
    repo.xtask(&["sync"]).success();
    repo.write("setup/a", "mine, and staged\n");
    repo.git(&["add", "setup/a"]);
    repo.write("setup/a", "and changed again\n");
    let before = repo.scene();
    repo.xtask(&["undo"]).status(1).says("changed since and left alone");
    assert_eq!(repo.scene(), before);
}

#[test]
fn the_same_content_is_an_overlay_only_if_sync_wrote_that_file() {
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
fn an_announced_file_is_not_taken_away_with_the_overlay() {
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
fn an_empty_folder_in_the_place_of_a_file_keeps_that_path_alone() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/new", Some("n\n")), ("setup/a", Some("a2\n"))]);
    std::fs::create_dir(repo.dir.join("setup/new")).unwrap();
    repo.xtask(&["sync"]).success().says("a folder is in its place");
    assert_eq!(repo.read("setup/a"), "a2\n");
}

#[test]
fn an_encoding_that_cannot_be_written_is_refused() {
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
fn checks_that_git_makes_when_adding_do_not_stop_a_look() {
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
fn an_overlay_with_other_line_ends_is_still_an_overlay() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["branch", "other"]);
    repo.on_branch("orchestration-tools", |place| place.write("setup/a", "a\r\nb\r\n"));
    repo.git(&["config", "core.autocrlf", "true"]);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert!(!repo.plan(&["--no-commit"]).contains("edited"));
    repo.xtask(&["switch", "main"]).success().says("the overlay of 1 file was taken away");
}

#[test]
fn an_overlay_is_undone_only_on_its_branch() {
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
fn backups_are_found_after_the_repository_has_moved() {
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
fn nobody_to_complain_to_is_no_reason_to_panic() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let script = format!("'{}' sync 2> /dev/full", program());
    repo.run("sh", &["-c", &script], &[]).success();
}

#[test]
fn marker_files_of_an_earlier_merge_do_not_stop_a_later_one() {
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
fn a_file_that_is_saved_during_a_sync_is_seen_by_git() {
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
