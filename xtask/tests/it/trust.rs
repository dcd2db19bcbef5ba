//! What a person must be able to rely on: what may be secret is copied nowhere, an exit code of 0 means that
//! all was done, and what is undone is as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::testkit::{Lab, Place};

/// What a secret holds in these tests.
const SECRET: &str = "KEY=hunter2-secret\n";

/// Whether content is an object of the repository.
fn is_object(repo: &Place<'_>, content: &str) -> bool {
    repo.write(".git/probe", content);
    let id = repo.git(&["hash-object", "--no-filters", ".git/probe"]);
    repo.try_git(&["cat-file", "-e", id.trim()]).code == Some(0)
}

/// A branch in which a file of the canonical branch is one that git ignores, with a secret in it.
fn with_secret(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.write(".gitignore", ".env\n.env.*\n");
    repo.commit("ignore");
    repo.git(&["switch", "-qc", "feature"]);
    repo.in_worktree("orchestration-tools", |other| {
        other.write("setup/.env", "KEY=example\n");
        other.write("setup/a", "a2\n");
        other.git(&["add", "-f", "setup/.env"]);
    });
    repo.write("setup/.env", SECRET);
    repo
}

#[test]
fn secrets_never_become_git_objects() {
    let lab = Lab::new();
    let original = with_secret(&lab);
    for (args, code) in [
        (&["sync", "--force"][..], 3),
        (&["sync", "--force", "setup/.env"], 3),
        (&["sync", "--force", "--no-commit"], 3),
        (&["sync", "--merge"], 0),
        (&["sync", "--no-commit"], 0),
        (&["sync"], 0),
    ] {
        let copy = lab.copy();
        let repo = original.in_copy(&copy);
        let ran = repo.xtask(args).status(code);
        assert_eq!(repo.read("setup/.env"), SECRET, "{args:?}");
        assert!(!is_object(&repo, SECRET), "{args:?}");
        if code == 3 {
            ran.says("may be secret (`[backup] ignored` matches it)");
        }
        // What is beside it is done, and undone.
        if !args.contains(&"setup/.env") {
            assert_eq!(repo.read("setup/a"), "a2\n");
            repo.xtask(&["undo"]).success();
            assert_eq!(repo.read("setup/a"), "a1\n");
        }
        repo.write("setup/.env", SECRET.repeat(2));
        repo.xtask(&["backup"]).success();
        repo.xtask(&["recover", "--yes"]);
        assert!(!is_object(&repo, &SECRET.repeat(2)), "{args:?}");
    }
    // Once it is moved away, the canonical file comes.
    fs::rename(original.dir.join("setup/.env"), original.dir.join("mine")).unwrap();
    original.xtask(&["sync"]).success();
    assert_eq!(original.read("setup/.env"), "KEY=example\n");
    // It is canonical now, and an edit of it may be secret again.
    original.write("setup/.env", SECRET);
    original.xtask(&["sync", "--force", "setup/.env"]).status(3);
    original.xtask(&["undo"]);
    assert_eq!(original.read("setup/.env"), SECRET);
    assert!(!is_object(&original, SECRET));
}

#[test]
fn sync_fails_if_a_requested_path_cannot_be_written() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/deep/d", Some("d\n"))]);
    // A pipe where a file is to be, asked for by name, by its folder, or with all.
    fs::create_dir(repo.dir.join("setup/deep")).unwrap();
    assert_eq!(repo.run("mkfifo", &["setup/deep/d"], &[]).code, Some(0));
    for args in [
        &["sync", "--force", "setup/deep/d"][..],
        &["sync", "--force", "setup/deep"],
        &["sync", "--force"],
        &["sync", "setup/deep/d"],
        &["sync", "--dry-run", "setup/deep/d"],
    ] {
        repo.xtask(args).status(3).says("setup/deep/d");
    }
    assert_eq!(repo.read("setup/a"), "a2\n", "what can be written is");
    fs::remove_dir_all(repo.dir.join("setup/deep")).unwrap();
    // A file of the branch where a folder is to be: that is behind, and stays so.
    repo.write("setup/deep", "mine\n");
    repo.commit("a file");
    repo.xtask(&["sync"]).status(3).says("setup/deep` of this branch is in the way");
    repo.xtask(&["sync", "--dry-run"]).status(3);
    repo.xtask(&["sync", "--check"]).status(1);
    // What the branch has of its own is kept, as the rules say; by its name it was wanted.
    repo.git(&["rm", "-q", "setup/deep"]);
    repo.write("setup/b", "mine\n");
    repo.commit("its own");
    repo.xtask(&["sync"]).success();
    repo.xtask(&["sync", "setup"]).success();
    repo.xtask(&["sync", "setup/b"]).status(3).says("its own version");
    repo.xtask(&["sync", "--merge", "setup/b"]).success();
    repo.xtask(&["sync", "--force", "setup/b"]).success();
    repo.xtask(&["sync", "setup/b"]).success();
}

#[test]
fn undo_restores_file_permissions() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/b", None)]);
    let bits =
        |path: &str| fs::metadata(repo.dir.join(path)).unwrap().permissions().mode() & 0o7777;
    let set = |path: &str, bits: u32| {
        fs::set_permissions(repo.dir.join(path), fs::Permissions::from_mode(bits)).unwrap();
    };
    for args in [&["sync", "--force", "--yes"][..], &["sync", "--force", "--no-commit", "--yes"]] {
        repo.write("setup/a", "a1\npassword = hunter2\n");
        set("setup/a", 0o600);
        set("setup/b", 0o640);
        repo.xtask(args).success();
        assert_eq!(repo.read("setup/a"), "a2\n");
        repo.xtask(&["undo"]).success();
        assert_eq!((bits("setup/a"), bits("setup/b")), (0o600, 0o640), "{args:?}");
        assert_eq!(repo.read("setup/a"), "a1\npassword = hunter2\n");
        // What git knows of the files is what git would know.
        assert_eq!(repo.git(&["diff-files", "--name-only"]), "setup/a\n");
        assert_eq!(repo.git(&["diff-index", "--cached", "--name-only", "HEAD"]), "");
    }
}

/// An overlay in which a file stands where the branch has a folder, and a folder where it has a file.
#[test]
fn overlay_that_swaps_files_and_folders_can_be_removed() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    for (path, content) in [("setup/folder/one", "1\n"), ("setup/file", "file\n")] {
        repo.write(path, content);
        repo.canonical(&[(path, Some(content))]);
    }
    repo.commit("a folder and a file");
    repo.canonical(&[("setup/folder/one", None), ("setup/file", None)]);
    repo.canonical(&[("setup/folder", Some("a file now\n")), ("setup/file/in", Some("in\n"))]);
    let before = repo.scene();
    repo.xtask(&["sync", "--no-commit", "--yes"]).success();
    assert_eq!(repo.read("setup/folder"), "a file now\n");
    repo.xtask(&["sync", "--no-commit", "--yes"]).success();
    // In a repository that was copied nobody can tell whose the files are: they stay, until they are undone.
    let copy = lab.copy();
    let copied = repo.in_copy(&copy);
    let in_copy = copied.scene();
    copied.xtask(&["sync", "--no-commit", "--yes"]);
    assert_eq!(copied.scene(), in_copy);
    copied.xtask(&["switch", "orchestration-tools"]);
    copied.git(&["switch", "-q", "feature"]);
    assert_eq!(copied.scene(), in_copy);
    copied.xtask(&["undo"]).success();
    assert_eq!(copied.scene(), before);
    repo.xtask(&["switch", "orchestration-tools"]).success();
    assert_eq!(repo.status(), "");
    repo.git(&["switch", "-q", "feature"]);
    repo.xtask(&["sync", "--no-commit", "--yes"]).success();
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.scene(), before);
    repo.xtask(&["sync", "--no-commit", "--yes"]).success();
    repo.canonical(&[("setup/folder", Some("and another\n"))]);
    repo.xtask(&["sync", "--no-commit", "--yes"]).success();
    assert_eq!(repo.read("setup/folder"), "and another\n");
    repo.xtask(&["sync", "--yes"]).success();
    assert_eq!(repo.status(), "");
    repo.xtask(&["sync", "--check"]).success();
    // What somebody has written there is theirs.
    repo.xtask(&["undo"]).success();
    repo.xtask(&["undo"]).success();
    repo.write("setup/folder", "mine\n");
    repo.xtask(&["sync", "--yes"]);
    assert_eq!(repo.read("setup/folder"), "mine\n");
}

/// What a branch, its commits and its rules hold is shown as data: it says nothing to a terminal, and no line of
/// it passes for one of ours.
#[test]
fn control_characters_from_branch_content_are_escaped() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let title = "\u{1b}]0;title\u{7}";
    for name in [
        format!("setup/{title}"),
        "setup/x\nxtask: all is well\n".to_owned(),
        "setup/\u{9b}2J\u{202e}".to_owned(),
        "setup/\rxtask: all is well".to_owned(),
    ] {
        repo.write(&name, "x\n");
    }
    repo.git(&["config", "user.name", &format!("Eve {title}\u{9b}2J")]);
    repo.commit(&format!("subject {title}\u{9b}2J\rxtask: all is well\n\nbody {title}"));
    repo.write("setup/validate.toml", format!("[check.\"{title}\"]\nrun = \"true\"\n"));
    repo.write("setup/branches.toml", format!("[[rule]]\nmatch = \"{}\"\n", "\\u001b]0;x\\u0007*"));
    let branch = "feature-\u{9b}2J";
    repo.git(&["branch", branch]);
    repo.install_hooks();
    for args in [
        &["status", "-v"][..],
        &["status", "--all"],
        &["sync", "--check", "-v"],
        &["sync", "--dry-run", "-v"],
        &["why", "setup"],
        &["why", "setup/\u{9b}2J\u{202e}"],
        &["extract", "--dry-run"],
        &["propagate", "--dry-run", "-v"],
        &["branch", "check"],
        &["branch", "check", branch],
        &["validate", "--list"],
        &["validate"],
        &["reverse-sync", "feature", "feature", "--dry-run"],
        &["sync", "--merge"],
        &["sync", "--force"],
        &["undo", "--list"],
        &["undo"],
        &["backup"],
        &["recover", "--dry-run"],
        &["hooks", "status"],
    ] {
        for more in [&[][..], &["--color", "always"], &["--json"]] {
            let all: Vec<&str> = args.iter().chain(more).copied().collect();
            let ran = repo.xtask(&all);
            for text in [&ran.out, &ran.err] {
                let odd = text
                    .replace("\u{1b}[", "")
                    .contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\r']);
                assert!(!odd, "{all:?}: {text:?}");
                assert!(
                    !text.lines().any(|line| line.starts_with("xtask: all")),
                    "{all:?}: {text}"
                );
            }
            if more == ["--json"] && ran.out.starts_with('{') {
                serde_json::from_str::<serde_json::Value>(&ran.out).unwrap();
            }
        }
    }
    repo.git(&["checkout", "-q", "--detach"]);
    let switched = repo.try_git(&["checkout", "-q", branch]);
    assert!(!switched.err.contains(['\u{1b}', '\u{9b}', '\r']), "{:?}", switched.err);
    assert!(!switched.err.contains("\nxtask: all is well"), "{}", switched.err);
}

/// An overlay that somebody has taken away by themselves does not come back by an undo of what came after it.
#[test]
fn undo_does_not_restore_a_discarded_overlay() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/b", None)]);
    repo.xtask(&["sync", "--no-commit", "--yes"]).success();
    repo.git(&["reset", "-q", "--hard"]);
    repo.xtask(&["sync", "--yes"]).success();
    repo.xtask(&["undo"]).success();
    assert_eq!((repo.read("setup/a"), repo.read("setup/b")), ("a1\n".into(), "b1\n".into()));
    repo.xtask(&["sync", "--yes"]).success();
    assert_eq!((repo.read("setup/a"), repo.has("setup/b")), ("a2\n".into(), false));
    assert_eq!(repo.status(), "");
    // One that is there comes back as what it was.
    repo.git(&["switch", "-qc", "other", "main"]);
    repo.xtask(&["sync", "--no-commit", "--yes"]).success();
    let laid = repo.scene();
    repo.xtask(&["sync", "--yes"]).success();
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.scene(), laid);
    repo.xtask(&["switch", "main"]).success().says("removed the overlay of 2 files");
}
