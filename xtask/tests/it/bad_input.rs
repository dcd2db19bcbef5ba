//! What cannot work says so, says what to do, ends with the right code, and changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::testkit::{Lab, Place};

fn feature(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/new", Some("n\n"))]);
    repo
}

#[test]
fn bare_repository_is_refused_with_a_hint() {
    let lab = Lab::new();
    let repo = lab.repo();
    let bare = lab.path("bare.git");
    repo.git(&["clone", "--quiet", "--bare", ".", bare.as_str()]);
    lab.place("bare.git").xtask(&["sync"]).status(3).says("is a bare repository").says("hint");
}

#[test]
fn sync_in_shallow_clone_reports_undecidable_paths() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    let shallow = lab.path("shallow");
    let url = format!("file://{}", repo.dir);
    repo.git(&[
        "clone",
        "--quiet",
        "--depth=1",
        "--no-single-branch",
        "--branch=feature",
        &url,
        shallow.as_str(),
    ]);
    let shallow = lab.place("shallow");
    assert_eq!(shallow.plan(&[]), "setup/a unknown keep\nsetup/new unknown keep\n");
    let before = shallow.scene();
    shallow.xtask(&["sync"]).status(3).says("2 paths cannot be decided").says("--unshallow");
    shallow.xtask(&["sync", "--check"]).status(3);
    assert_eq!(shallow.scene(), before);
    assert!(!shallow.has(".git/xtask/once-canonical"), "half a history is not kept");
    shallow.git(&["fetch", "--quiet", "--unshallow"]);
    shallow.xtask(&["sync"]).success();
    assert_eq!(shallow.read("setup/a"), "a3\n");
}

#[test]
fn a_shallow_clone_that_is_canonical_is_in_sync() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.xtask(&["sync"]).success();
    let shallow = lab.path("shallow");
    let url = format!("file://{}", repo.dir);
    repo.git(&[
        "clone",
        "--quiet",
        "--depth=1",
        "--no-single-branch",
        "--branch=feature",
        &url,
        shallow.as_str(),
    ]);
    lab.place("shallow").xtask(&["sync", "--check", "--strict"]).success();
}

#[test]
fn setup_does_not_make_a_canonical_branch_without_history() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("src/app", "second\n");
    repo.commit("second");
    repo.git(&["branch", "--quiet", "-D", "orchestration-tools"]);
    let shallow = lab.path("shallow");
    let url = format!("file://{}", repo.dir);
    repo.git(&["clone", "--quiet", "--depth=1", "--branch=main", &url, shallow.as_str()]);
    lab.place("shallow").xtask(&["setup"]).status(3).says("shallow clone").says("--unshallow");
}

#[test]
fn missing_or_corrupt_blob_fails_sync_without_changes() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let blob = repo.id("orchestration-tools:setup/new");
    let path = format!(".git/objects/{}/{}", &blob[..2], &blob[2..]);
    fs::set_permissions(repo.dir.join(&path), fs::Permissions::from_mode(0o644)).unwrap();
    repo.remove(&path);
    let before = crate::testkit::files(repo.dir.as_std_path());
    repo.xtask(&["sync"]).status(3).says(&blob);
    assert_eq!(crate::testkit::files(repo.dir.as_std_path()), before);
    assert_eq!(repo.status(), "");
    repo.write(&path, "not an object");
    repo.xtask(&["sync"]).status(3);
    assert_eq!(crate::testkit::files(repo.dir.as_std_path()), before);
}

#[test]
fn missing_tree_object_fails_sync_instead_of_deleting_files() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let tree = repo.id("orchestration-tools:setup");
    repo.remove(&format!(".git/objects/{}/{}", &tree[..2], &tree[2..]));
    repo.xtask(&["sync", "--yes", "--force"]).status(3).says(&tree);
    assert_eq!(repo.status(), "");
}

#[test]
fn index_or_ref_lock_of_another_process_fails_sync() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.write(".git/index.lock", "");
    let before = repo.read(".git/HEAD");
    repo.xtask(&["sync"]).status(3).says("the index is locked").says("index.lock");
    assert!(repo.has(".git/index.lock"), "not ours to remove");
    assert_eq!(repo.read("setup/a"), "a1\n");
    assert_eq!(repo.read(".git/HEAD"), before);
    repo.remove(".git/index.lock");
    repo.write(".git/refs/heads/feature.lock", "");
    let scene = repo.scene();
    repo.xtask(&["sync"]).status(3);
    assert_eq!(repo.scene(), scene);
    assert!(repo.has(".git/refs/heads/feature.lock"));
    repo.remove(".git/refs/heads/feature.lock");
    repo.xtask(&["sync"]).success();
}

#[test]
fn sync_and_run_refuse_unmanaged_paths() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let before = repo.scene();
    for path in ["src/app", "setup/never", "../elsewhere"] {
        repo.xtask(&["sync", "setup/a", path]).status(2);
    }
    assert_eq!(repo.scene(), before);
    repo.xtask(&["run", "src/app"]).status(2);
}

#[test]
fn usage_errors_exit_with_code_2() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.xtask(&["sync", "--check", "--force"]).status(2);
    repo.xtask(&["sync", "--strict"]).status(2);
    repo.xtask(&[]).status(2);
    repo.xtask(&["switch", "--orphan"]).status(2);
}

#[test]
fn a_detached_head_can_be_synced() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["switch", "--quiet", "--detach"]);
    let branch = repo.id("feature");
    repo.xtask(&["sync"]).success().says("detached HEAD");
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(repo.id("feature"), branch);
    assert_eq!(repo.id("HEAD^"), branch);
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.head(), branch);
}

#[test]
fn sync_fails_without_changes_in_read_only_folder() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let folder = repo.dir.join("setup");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = fs::write(folder.join("probe"), "").is_ok();
    if is_root {
        // Permissions do not bind this user; a folder that is a mount point of nothing would, but
        // that needs more rights than tests should have. The failing disk in `crash` stands in.
        fs::remove_file(folder.join("probe")).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        return;
    }
    let before = repo.scene();
    repo.xtask(&["sync"]).status(3).says("cannot write");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(repo.scene(), before);
}
