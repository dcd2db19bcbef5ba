//! What files are made of: modes, symlinks, line ends, filters, names; and what is refused.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::testkit::{Lab, Place};

fn feature(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo
}

/// After a sync: nothing differs from canonical, git sees nothing changed even when it reads every
/// file again, and a checkout by git itself would write the very same bytes.
#[track_caller]
fn is_as_git_would(repo: &Place<'_>) {
    assert_eq!(repo.git(&["diff", "orchestration-tools", "HEAD", "--", "setup", "scripts"]), "");
    let ours = crate::testkit::files(repo.dir.as_std_path());
    repo.git(&["update-index", "--really-refresh"]);
    assert_eq!(repo.status(), "");
    repo.git(&["rm", "--quiet", "-r", "--cached", "."]);
    repo.git(&["reset", "--quiet", "--hard"]);
    let gits = crate::testkit::files(repo.dir.as_std_path());
    assert_eq!(ours, gits);
}

#[test]
fn sync_applies_file_modes_and_symlinks() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.on_branch("orchestration-tools", |place| {
        place.make_executable("setup/a");
        place.remove("setup/b");
        place.link("../scripts/run.sh", "setup/b");
        place.write("scripts/new.sh", "#!/bin/sh\n");
        place.make_executable("scripts/new.sh");
    });
    assert_eq!(
        repo.plan(&[]),
        "scripts/new.sh behind create\nsetup/a behind update\nsetup/b behind update\n"
    );
    repo.xtask(&["sync"]).success();
    is_as_git_would(&repo);
    let tree = repo.git(&["ls-tree", "-r", "HEAD", "setup", "scripts"]);
    assert!(tree.contains("120000") && tree.matches("100755").count() == 3, "{tree}");
    // Only the mode was changed here: a customisation like any other.
    fs::set_permissions(
        repo.dir.join("setup/a"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    assert_eq!(repo.plan(&[]), "setup/a edited keep\n");
}

#[test]
fn core_filemode_and_core_symlinks_false_are_honoured() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["config", "core.fileMode", "false"]);
    repo.git(&["config", "core.symlinks", "false"]);
    repo.in_worktree("orchestration-tools", |place| {
        place.git(&["update-index", "--chmod=+x", "setup/a"]);
        place.git(&["-c", "core.symlinks=true", "commit", "--quiet", "-m", "mode"]);
        place.git(&["-c", "core.symlinks=true", "rm", "--quiet", "setup/b"]);
        place.link("a", "setup/b");
        place.git(&["-c", "core.symlinks=true", "add", "setup/b"]);
        place.git(&["-c", "core.symlinks=true", "commit", "--quiet", "-m", "link"]);
    });
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/b"), "a", "a file that holds where the link points");
    assert!(!repo.dir.join("setup/b").symlink_metadata().unwrap().is_symlink());
    assert_eq!(repo.git(&["diff", "orchestration-tools", "HEAD", "--", "setup"]), "");
    assert_eq!(repo.status(), "");
    repo.xtask(&["sync", "--check", "--strict"]).success();
}

#[test]
fn line_endings_follow_gitattributes_of_the_same_sync() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.in_worktree("orchestration-tools", |place| {
        place.write(".gitattributes", "*.bat text eol=crlf\n*.sh text eol=lf\n");
        place.write("setup/launch.bat", "echo one\r\necho two\r\n");
        place.write("setup/launch.sh", "echo one\necho two\n");
        place.write("setup/.gitattributes", "special text eol=crlf\n");
        place.write("setup/special", "one\r\n");
    });
    assert_eq!(repo.git(&["cat-file", "-p", "orchestration-tools:setup/special"]), "one\n");
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/launch.bat"), "echo one\r\necho two\r\n");
    assert_eq!(repo.read("setup/special"), "one\r\n");
    assert_eq!(repo.read("setup/launch.sh"), "echo one\necho two\n");
    is_as_git_would(&repo);
}

#[test]
fn autocrlf_is_honoured_both_ways() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("one\ntwo\n"))]);
    repo.git(&["config", "core.autocrlf", "true"]);
    repo.git(&["rm", "--quiet", "-r", "--cached", "."]);
    repo.git(&["reset", "--quiet", "--hard"]);
    assert_eq!(repo.read("setup/a"), "a1\r\n");
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/a"), "one\r\ntwo\r\n");
    is_as_git_would(&repo);
    // Other line ends in the file are no edit, as they are none for git.
    repo.write("setup/b", "b1\n");
    repo.canonical(&[("setup/b", Some("b2\n"))]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/b"), "b2\r\n");
    // But its bytes come back all the same.
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/b"), "b1\n");
}

#[test]
fn clean_and_smudge_filters_run_as_in_git() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["config", "filter.shout.clean", "tr A-Z a-z"]);
    repo.git(&["config", "filter.shout.smudge", "tr a-z A-Z"]);
    repo.in_worktree("orchestration-tools", |place| {
        place.write(".gitattributes", "setup/shout filter=shout\n");
        place.write("setup/shout", "QUIET INSIDE\n");
    });
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/shout"), "QUIET INSIDE\n");
    is_as_git_would(&repo);
    repo.xtask(&["sync", "--check", "--strict"]).success();
}

#[test]
fn failing_required_filter_aborts_sync_without_changes() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.in_worktree("orchestration-tools", |place| {
        place.write(".gitattributes", "setup/x filter=broken\n");
        place.write("setup/x", "x\n");
        place.write("setup/a", "a2\n");
    });
    repo.git(&["config", "filter.broken.smudge", "false"]);
    repo.git(&["config", "filter.broken.required", "true"]);
    let before = repo.scene();
    repo.xtask(&["sync"]).status(3).says("setup/x");
    assert_eq!(repo.scene(), before);
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn sync_refuses_to_replace_a_file_with_an_lfs_pointer() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.write("setup/model", "the real thing\n");
    repo.commit("model");
    repo.git(&["branch", "--force", "orchestration-tools"]);
    repo.in_worktree("orchestration-tools", |place| {
        place.write(".gitattributes", "setup/model filter=lfs diff=lfs merge=lfs -text\n");
        place.write("setup/model", POINTER);
        place.write("setup/a", "a2\n");
    });
    assert_eq!(
        repo.plan(&[]),
        ".gitattributes behind create\nsetup/a behind update\nsetup/model behind refuse\n"
    );
    repo.xtask(&["sync"]).status(3).says("Git LFS").says("git lfs install");
    repo.xtask(&["sync", "--force"]).status(3);
    assert_eq!(repo.read("setup/model"), "the real thing\n");
    assert_eq!(repo.read("setup/a"), "a2\n");
    // Set up, but without the content: the pointer comes back unchanged, and is not written either.
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.git(&["config", "filter.lfs.smudge", "cat"]);
    repo.git(&["config", "filter.lfs.clean", "cat"]);
    let before = repo.scene();
    repo.xtask(&["sync"]).status(3).says("its pointer is not written over a file");
    assert_eq!(repo.scene(), before);
    repo.git(&["config", "filter.lfs.smudge", "echo fetched"]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/model"), "fetched\n");
}

#[test]
fn sync_handles_spaces_newlines_and_non_utf8_in_names() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let odd = OsStr::from_bytes(b"setup/\xff\xfe odd");
    repo.on_branch("orchestration-tools", |place| {
        place.write("setup/with space", "1\n");
        place.write("setup/with\nline\tend", "2\n");
        place.write("setup/ümlaut/naïve", "3\n");
        place.write("setup/-option", "4\n");
        place.write("setup/[glob]*?", "5\n");
        fs::write(place.dir.as_std_path().join(odd), "6\n").unwrap();
    });
    repo.xtask(&["sync"]).success();
    assert_eq!(fs::read(repo.dir.as_std_path().join(odd)).unwrap(), b"6\n");
    is_as_git_would(&repo);
    repo.xtask(&["undo"]).success();
    assert!(!repo.dir.as_std_path().join(odd).exists());
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.xtask(&["switch", "feature"]).success();
    repo.xtask(&["sync", "--json"]).success();
    let message =
        repo.git(&["log", "-1", "--format=%(trailers:key=Orchestration-Source,valueonly)"]);
    assert_eq!(message.trim().len(), 40);
}

#[test]
fn sync_refuses_managed_submodules_and_ignores_others() {
    let lab = Lab::new();
    let other = lab.repo_named("other", &[]);
    let repo = feature(&lab);
    repo.git(&["submodule", "--quiet", "add", other.dir.as_str(), "vendor/sub"]);
    repo.commit("submodule");
    repo.in_worktree("orchestration-tools", |place| {
        place.git(&["submodule", "--quiet", "add", other.dir.as_str(), "setup/sub"]);
        place.write("setup/a", "a2\n");
    });
    assert_eq!(repo.plan(&[]), "setup/a behind update\nsetup/sub behind refuse\n");
    repo.xtask(&["sync"]).status(3).says("submodule");
    assert!(!repo.has("setup/sub"));
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(repo.status(), "");
    // In a submodule, its own repository counts.
    let sub = repo.at("vendor/sub");
    sub.git(&["branch", "orchestration-tools"]);
    let json = sub.xtask(&["status", "--json"]).success().json();
    assert_eq!(json["worktree"], sub.dir.as_str());
}

#[test]
fn nothing_is_written_through_a_symlinked_folder() {
    let lab = Lab::new();
    let repo = lab.repo();
    let outside = lab.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), "not ours\n").unwrap();
    repo.git(&["switch", "--quiet", "-c", "hostile"]);
    repo.git(&["rm", "--quiet", "-r", "setup"]);
    repo.link(outside.as_str(), "setup");
    repo.commit("setup is elsewhere");
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/new", Some("n\n"))]);
    for args in [
        &["sync"][..],
        &["sync", "--force", "--yes"],
        &["sync", "--no-commit", "--force", "--yes"],
        &["sync", "--merge"],
    ] {
        let code = if args.contains(&"--force") { 3 } else { 0 };
        repo.xtask(args).status(code).says("is a symlink; sync does not write through symlinks");
        assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "not ours\n");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{args:?}");
        assert_eq!(repo.status(), "");
    }
    // An untracked symlink in place of a folder that the branch has, too.
    repo.git(&["switch", "--quiet", "-c", "feature", "main"]);
    fs::rename(repo.dir.join("setup"), lab.path("moved")).unwrap();
    repo.link(outside.as_str(), "setup");
    repo.xtask(&["sync", "--force", "--yes"]).status(3);
    assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "not ours\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn managed_symlink_is_replaced_and_not_followed() {
    let lab = Lab::new();
    let repo = lab.repo();
    let outside = lab.path("outside");
    fs::write(&outside, "not ours\n").unwrap();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.remove("setup/a");
    repo.link(outside.as_str(), "setup/a");
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.xtask(&["sync", "--force"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "not ours\n");
    repo.xtask(&["undo"]).success();
    assert_eq!(fs::read_link(repo.dir.join("setup/a")).unwrap(), outside.as_std_path());
}

/// Writes a tree that git's own commands would refuse, and makes it the canonical `setup`.
fn crafted(repo: &Place<'_>, name: &[u8]) {
    let blob = repo.git(&["rev-parse", "orchestration-tools:setup/a"]);
    let id: Vec<u8> = (0..40)
        .step_by(2)
        .map(|at| u8::from_str_radix(&blob.trim()[at..at + 2], 16).unwrap())
        .collect();
    let tree = [&b"100644 "[..], name, b"\0", &id].concat();
    let file = repo.lab.path("crafted-tree");
    fs::write(&file, tree).unwrap();
    let inner = repo.git(&["hash-object", "-t", "tree", "-w", "--literally", file.as_str()]);
    let listing = format!("040000 tree {}\tsetup\n", inner.trim());
    fs::write(repo.lab.path("listing"), listing).unwrap();
    let script = format!("git mktree < '{}'", repo.lab.path("listing"));
    let outer = repo.run("sh", &["-c", &script], &[]).success().out;
    let commit =
        repo.git(&["commit-tree", outer.trim(), "-p", "orchestration-tools", "-m", "evil"]);
    repo.git(&["update-ref", "refs/heads/orchestration-tools", commit.trim()]);
}

#[test]
fn crafted_names_cannot_escape_the_worktree_or_enter_git_folder() {
    for name in [
        &b".git"[..],
        b"..",
        b".GIT",
        b".git ",
        b"git~1",
        b".g\xe2\x80\x8cit",
        b"../escaped",
        b".git/hooks/post-checkout",
    ] {
        let lab = Lab::new();
        let repo = feature(&lab);
        crafted(&repo, name);
        let config = repo.read(".git/config");
        let before = crate::testkit::files(lab.path("repo").as_std_path());
        let ran = repo.xtask(&["sync", "--force", "--yes"]);
        assert!([Some(0), Some(3)].contains(&ran.code), "{name:?}: {ran:?}");
        assert_eq!(repo.read(".git/config"), config);
        assert!(!lab.path("escaped").exists() && !repo.has(".git/hooks/post-checkout"));
        let after = crate::testkit::files(lab.path("repo").as_std_path());
        let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
        assert!(new.is_empty(), "{new:?}");
        let names = repo.git(&["ls-tree", "-r", "--name-only", "feature"]);
        let known = repo.git(&["ls-tree", "-r", "--name-only", "main"]);
        assert!(names.lines().all(|name| known.lines().any(|other| other == name)), "{names}");
    }
}

#[test]
fn case_colliding_names_are_refused_with_core_ignorecase() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[
        ("setup/New", Some("1\n")),
        ("setup/new", Some("2\n")),
        ("setup/c", Some("c")),
    ]);
    repo.git(&["config", "core.ignoreCase", "true"]);
    assert_eq!(
        repo.plan(&[]),
        "setup/New behind refuse\nsetup/c behind create\nsetup/new behind refuse\n"
    );
    repo.xtask(&["sync"]).status(3).says("if case is ignored");
    assert!(!repo.has("setup/new") && !repo.has("setup/New") && repo.has("setup/c"));
}

#[test]
fn a_sha_256_repository_works_like_any_other() {
    let lab = Lab::new();
    let repo = lab.repo_named("sha256", &["--object-format=sha256"]);
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/b", None), ("setup/new", Some("n\n"))]);
    repo.xtask(&["sync", "--yes"]).success();
    assert_eq!(repo.head().len(), 64);
    is_as_git_would(&repo);
    repo.git(&["fsck", "--strict"]);
    repo.write("setup/a", "mine\n");
    repo.xtask(&["sync", "--force"]).success();
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/a"), "mine\n");
}

#[test]
fn sync_keeps_index_flags_and_intent_to_add_entries() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.write("src/announced", "later\n");
    repo.git(&["add", "--intent-to-add", "src/announced"]);
    repo.git(&["update-index", "--assume-unchanged", "src/app"]);
    repo.write("src/app", "hidden edit\n");
    repo.git(&["update-index", "--index-version", "4"]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.status(), " A src/announced\n");
    assert!(repo.git(&["ls-files", "-v", "src/app"]).starts_with('h'), "still assumed unchanged");
    assert_eq!(repo.read("src/app"), "hidden edit\n");
    repo.git(&["fsck"]);
    // The cached trees that git commits from are true.
    repo.write("src/other", "x\n");
    repo.git(&["add", "src/other"]);
    repo.git(&["commit", "--quiet", "-m", "other"]);
    assert_eq!(repo.git(&["show", "--format=", "--name-only"]), "src/other\n");
}

#[test]
fn sync_replaces_symlinks_by_folders_and_vice_versa() {
    let to_folder = |place: &Place<'_>| {
        place.remove("setup/changes");
        place.write("setup/changes/inside", "in\n");
    };
    let to_symlink = |place: &Place<'_>| {
        fs::remove_dir_all(place.dir.join("setup/other")).unwrap();
        place.link("../src", "setup/other");
    };
    let scene = |lab: &Lab| {
        let repo = lab.repo();
        repo.link("../src", "setup/changes");
        repo.write("setup/other/inside", "in\n");
        repo.commit("before");
        repo.git(&["branch", "--force", "orchestration-tools"]);
        repo.git(&["switch", "--quiet", "-c", "feature"]);
        repo.git(&["branch", "other"]);
        repo.on_branch("orchestration-tools", |other| {
            to_folder(other);
            to_symlink(other);
        });
    };
    let lab = Lab::new();
    scene(&lab);
    let repo = lab.place("repo");
    let before = repo.scene();
    repo.xtask(&["propagate", "other"]).success();
    repo.xtask(&["sync"]).success();
    repo.xtask(&["sync", "--check"]).success();
    assert_eq!(repo.id("feature"), repo.id("other"), "the very same commit");
    repo.xtask(&["undo"]).success();
    repo.git(&["branch", "--force", "other", "feature"]);
    assert_eq!(repo.scene(), before);
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.scene(), before);
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.status(), "");
    repo.xtask(&["sync", "--check"]).success();
}

#[test]
fn sync_works_with_split_and_sparse_index() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["update-index", "--split-index"]);
    repo.write("src/staged", "s\n");
    repo.git(&["add", "src/staged"]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.status(), "A  src/staged\n");
    repo.git(&["commit", "--quiet", "-m", "staged"]);
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.git(&["sparse-checkout", "set", "--sparse-index", "scripts"]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.status(), "");
}

#[test]
fn recorded_clean_files_are_rechecked_after_any_change() {
    let lab = Lab::new();
    let place = lab.repo();
    place.write("setup/stays", "stays\n");
    place.write("setup/goes", "goes\n");
    place.commit("more");
    place.git(&["branch", "--force", "orchestration-tools"]);
    place.git(&["switch", "--quiet", "-c", "feature"]);
    place.on_branch("orchestration-tools", |other| {
        other.write("setup/a", "a2\n");
        other.write("setup/deep/new", "new\n");
        other.remove("setup/goes");
    });
    place.xtask(&["sync"]).success();
    assert!(place.git_folder().join("xtask/clean").exists());
    place.xtask(&["sync", "--check", "--strict"]).success();
    let wrong = |path: &str, content: &str| {
        let held = place.read(path);
        place.write(path, content);
        let ran = place.xtask(&["sync", "--check", "--strict"]).status(1);
        assert!(ran.out.contains(path), "{path}: {}", ran.out);
        place.write(path, &held);
        place.xtask(&["sync", "--check", "--strict"]).success();
    };
    wrong("setup/a", "a3\n");
    wrong("setup/deep/new", "old\n");
    wrong("setup/stays", "moves\n");
    // What the sync took away is no managed file of the branch any more, and comes back as one of nobody.
    place.write("setup/goes", "back\n");
    place.xtask(&["sync", "--check", "--strict"]).success();
}
