//! Every row of the table, with every flag, against real git.

use crate::testkit::{Lab, Place};

/// A branch `feature` from the first commit, and a canonical branch that has moved on: `setup/a`
/// changed, `setup/b` removed, `setup/new` added.
fn behind(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.write("src/app", "mine\n");
    repo.commit("work");
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/b", None), ("setup/new", Some("n\n"))]);
    repo
}

#[track_caller]
fn is_canonical(repo: &Place<'_>) {
    let diff = repo.git(&["diff", "--stat", "orchestration-tools", "--", "setup", "scripts"]);
    assert_eq!(diff, "");
    assert_eq!(repo.status(), "");
}

#[test]
fn row_1_in_sync_makes_no_commit_and_no_output() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    let before = repo.scene();
    let ran = repo.xtask(&["sync"]).success();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    assert_eq!(repo.scene(), before);
    repo.xtask(&["sync", "-v"]).success().says("in sync with orchestration-tools");
}

#[test]
fn row_2_behind_paths_are_synced_in_one_commit() {
    let lab = Lab::new();
    let repo = behind(&lab);
    let before = repo.head();
    assert_eq!(
        repo.plan(&[]),
        "setup/a behind update\nsetup/b behind delete\nsetup/new behind create\n"
    );
    repo.xtask(&["sync", "--check"]).status(1);
    repo.xtask(&["sync"]).success().says("3 managed files synced");
    is_canonical(&repo);
    assert_eq!(repo.id("HEAD^"), before);
    assert_eq!(
        repo.git(&["show", "--format=", "--name-status", "HEAD"]),
        "M\tsetup/a\nD\tsetup/b\nA\tsetup/new\n"
    );
    repo.xtask(&["sync", "--check"]).success();
}

#[test]
fn row_3_already_canonical_file_is_committed_but_not_rewritten() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.write("setup/a", "a2\n");
    repo.git(&["rm", "--quiet", "setup/b"]);
    repo.write("setup/new", "n\n");
    let written = std::fs::metadata(repo.dir.join("setup/a")).unwrap().modified().unwrap();
    assert_eq!(
        repo.plan(&[]),
        "setup/a behind update\nsetup/b behind delete\nsetup/new behind create\n"
    );
    repo.xtask(&["sync"]).success();
    is_canonical(&repo);
    let after = std::fs::metadata(repo.dir.join("setup/a")).unwrap().modified().unwrap();
    assert_eq!(after, written, "the file was written again");
}

#[test]
fn row_4_customised_paths_are_kept_and_reported() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.write("setup/a", "mine\n");
    repo.write("setup/own", "own\n");
    repo.commit("customise");
    assert_eq!(
        repo.plan(&[]),
        "setup/a customised keep\nsetup/b behind delete\nsetup/new behind create\n\
         setup/own customised keep\n"
    );
    repo.xtask(&["sync"]).success().says("2 paths are kept as they are");
    assert_eq!(repo.read("setup/a"), "mine\n");
    assert_eq!(repo.read("setup/own"), "own\n");
    assert!(!repo.has("setup/b"));
    repo.xtask(&["sync", "--check"]).success();
    repo.xtask(&["sync", "--check", "--strict"]).status(1);
}

#[test]
fn row_5_staged_and_unstaged_edits_are_kept() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.write("setup/a", "unsaved\n");
    repo.write("setup/b", "staged\n");
    repo.git(&["add", "setup/b"]);
    repo.write("scripts/run.sh", "edited where HEAD is canonical\n");
    let plan = "scripts/run.sh edited keep\nsetup/a edited keep\nsetup/b edited keep\n\
                setup/new behind create\n";
    assert_eq!(repo.plan(&[]), plan);
    assert_eq!(repo.plan(&["--merge"]), plan);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/a"), "unsaved\n");
    assert_eq!(repo.git(&["show", ":setup/b"]), "staged\n");
    assert_eq!(repo.status(), " M scripts/run.sh\n M setup/a\nM  setup/b\n");
}

#[test]
fn row_6_untracked_and_ignored_files_are_kept() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.write(".git/info/exclude", "setup/new\n");
    repo.write("setup/new", "local\n");
    assert!(repo.plan(&[]).contains("setup/new untracked keep\n"));
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/new"), "local\n");
}

#[test]
fn row_7_sparse_paths_are_synced_without_creating_files() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.git(&["sparse-checkout", "set", "--no-sparse-index", "src", "scripts"]);
    assert!(!repo.has("setup/a"));
    assert_eq!(
        repo.plan(&[]),
        "setup/a sparse update\nsetup/b sparse delete\nsetup/new sparse create\n"
    );
    repo.xtask(&["sync"]).success();
    assert!(!repo.has("setup"));
    assert_eq!(repo.status(), "");
    assert_eq!(repo.git(&["show", "HEAD:setup/new"]), "n\n");
    assert_eq!(repo.git(&["ls-files", "-t", "setup"]), "S setup/a\nS setup/new\n");
    repo.git(&["sparse-checkout", "disable"]);
    is_canonical(&repo);
}

#[test]
fn force_replaces_kept_paths_and_undo_restores_every_byte() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.write("setup/own", "own\n");
    repo.commit("customise");
    repo.write("setup/a", "unsaved\n");
    repo.write("setup/b", "staged\n");
    repo.git(&["add", "setup/b"]);
    repo.write("setup/b", "and changed again\n");
    repo.write("setup/new", "untracked\n");
    let before = repo.scene();
    repo.xtask(&["sync", "--force", "--yes"]).success();
    is_canonical(&repo);
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.scene(), before);
    assert_eq!(repo.git(&["show", ":setup/b"]), "staged\n");
}

#[test]
fn force_replaces_only_the_named_paths() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.write("setup/a", "mine\n");
    repo.write("scripts/run.sh", "mine\n");
    repo.commit("customise");
    repo.at("setup").xtask(&["sync", "--force", "a"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(repo.read("scripts/run.sh"), "mine\n");
    assert!(repo.has("setup/b"), "not named");
}

#[test]
fn merge_combines_separate_changes_and_leaves_conflicting_files_alone() {
    let lab = Lab::new();
    let repo = lab.repo();
    let lines = |first: &str, last: &str| format!("{first}\n2\n3\n4\n5\n{last}\n");
    repo.canonical(&[("setup/a", Some(&lines("1", "6"))), ("setup/b", Some("base\n"))]);
    repo.git(&["switch", "--quiet", "-c", "feature", "orchestration-tools"]);
    repo.write("setup/a", lines("mine", "6"));
    repo.write("setup/b", "mine\n");
    repo.commit("customise");
    repo.canonical(&[("setup/a", Some(&lines("1", "theirs"))), ("setup/b", Some("theirs\n"))]);
    assert_eq!(repo.plan(&["--merge"]), "setup/a customised merge\nsetup/b customised keep\n");
    repo.xtask(&["sync", "--merge"]).status(1).says("the merge conflicts");
    assert_eq!(repo.read("setup/a"), lines("mine", "theirs"));
    assert_eq!(repo.read("setup/b"), "mine\n");
    assert_eq!(repo.status(), "");
    let marked = std::fs::read_to_string(repo.git_folder().join("xtask/merge/setup/b")).unwrap();
    assert_eq!(marked, "<<<<<<< this branch\nmine\n=======\ntheirs\n>>>>>>> orchestration-tools\n");
    // What was merged once is the base of the next merge.
    repo.canonical(&[("setup/a", Some(&lines("1", "theirs again"))), ("setup/b", Some("base\n"))]);
    repo.xtask(&["sync", "--merge", "setup/a"]).success();
    assert_eq!(repo.read("setup/a"), lines("mine", "theirs again"));
    repo.xtask(&["sync", "--merge", "setup/a"]).success().says("nothing new");
}

#[test]
fn path_deleted_on_the_branch_stays_deleted_unless_forced() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.git(&["rm", "--quiet", "setup/b"]);
    repo.commit("we do not need b");
    assert_eq!(repo.plan(&[]), "setup/b customised keep\n");
    // Also one that came by sync and not by the common ancestor.
    repo.canonical(&[("setup/new", Some("n\n"))]);
    repo.xtask(&["sync"]).success();
    repo.git(&["rm", "--quiet", "setup/new"]);
    repo.commit("we do not need this either");
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    assert_eq!(
        repo.plan(&[]),
        "setup/a behind update\nsetup/b customised keep\nsetup/new customised keep\n"
    );
    repo.xtask(&["sync", "--force", "setup/b"]).success();
    assert_eq!(repo.read("setup/b"), "b1\n");
}

#[test]
fn path_deleted_by_sync_returns_when_canonical_again() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.xtask(&["sync"]).success();
    assert!(!repo.has("setup/b"));
    repo.canonical(&[("setup/b", Some("b9\n"))]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/b"), "b9\n");
}

#[test]
fn overlay_changes_files_only_and_follows_the_canonical_branch() {
    let lab = Lab::new();
    let repo = behind(&lab);
    let before = repo.scene();
    repo.xtask(&["sync", "--no-commit"]).success().says("not committed");
    assert_eq!(repo.head(), before.head.lines().last().unwrap());
    assert_eq!(repo.scene().index, before.index);
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert!(!repo.has("setup/b"));
    let overlaid = repo.scene();
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.scene(), overlaid, "a second run changes nothing");
    // The overlay is ours: it follows the canonical branch, and a commit takes it up.
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.read("setup/a"), "a3\n");
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
    repo.canonical(&[("setup/a", Some("a4\n"))]);
    repo.xtask(&["sync"]).success();
    is_canonical(&repo);
}

#[test]
fn edited_overlay_file_is_kept() {
    let lab = Lab::new();
    let repo = behind(&lab);
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.write("setup/a", "edited on top\n");
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    assert!(repo.plan(&[]).contains("setup/a edited keep\n"));
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.read("setup/a"), "edited on top\n");
}

#[test]
fn paths_excluded_for_a_branch_are_not_synced() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "legacy/one"]);
    repo.canonical(&[
        ("setup/a", Some("a2\n")),
        ("setup/b", Some("b2\n")),
        ("setup/sync.toml", Some("[[branch]]\nmatch = 'legacy/*'\nexclude = ['/setup/a']\n")),
    ]);
    assert!(repo.plan(&[]).contains("setup/a excluded none\n"));
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/a"), "a1\n");
    assert_eq!(repo.read("setup/b"), "b2\n");
    repo.xtask(&["sync", "--check", "--strict"]).success();
}

#[test]
fn sync_replaces_files_by_folders_and_vice_versa() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.in_worktree("orchestration-tools", |place| {
        place.remove("setup/a");
        place.write("setup/a/deep/x", "x\n");
        place.git(&["rm", "--quiet", "-r", "scripts"]);
        place.write("setup/b", "b2\n");
    });
    repo.xtask(&["sync", "--yes"]).success();
    is_canonical(&repo);
    assert_eq!(repo.read("setup/a/deep/x"), "x\n");
    assert!(!repo.has("scripts"), "an empty folder is removed");
    repo.in_worktree("orchestration-tools", |place| {
        place.git(&["rm", "--quiet", "-r", "setup/a"]);
        place.write("setup/a", "a file again\n");
    });
    repo.xtask(&["sync", "--yes"]).success();
    is_canonical(&repo);
    assert_eq!(repo.read("setup/a"), "a file again\n");
}

#[test]
fn customised_file_blocks_new_paths_below_it() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.write("setup/a", "mine\n");
    repo.commit("customise");
    repo.on_branch("orchestration-tools", |place| {
        place.remove("setup/a");
        place.write("setup/a/deep/x", "x\n");
    });
    assert_eq!(repo.plan(&[]), "setup/a customised keep\nsetup/a/deep/x behind refuse\n");
    repo.xtask(&["sync"]).status(3);
    assert_eq!(repo.read("setup/a"), "mine\n");
}

/// `git update-index --chmod` leaves the times of the file in the index, so that it looks unchanged.
#[test]
fn mode_changed_only_in_the_index_counts_as_edit() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.make_executable("setup/a");
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let file = std::fs::File::open(repo.dir.join("setup/a")).unwrap();
    file.set_modified(long_ago).unwrap();
    repo.git(&["add", "setup/a"]);
    repo.git(&["update-index", "--chmod=-x", "setup/a"]);
    assert_eq!(repo.status(), " M setup/a\n");
    assert_eq!(
        repo.plan(&["-v"]),
        "scripts/run.sh in-sync none\nsetup/a edited keep\nsetup/b in-sync none\n"
    );
    repo.xtask(&["sync", "--force"]).success();
    assert_eq!(repo.status(), "");
    // Where modes cannot be kept, git does not look at them either.
    repo.git(&["config", "core.fileMode", "false"]);
    repo.make_executable("setup/b");
    assert_eq!(repo.status(), "");
    assert!(repo.plan(&["-v"]).contains("setup/b in-sync none\n"));
}
