//! Every kind of index that git keeps comes through what we write as it comes through git's own commands.

use crate::testkit::{Lab, Place, trace};

/// What makes an index special, how to see it, and what git needs to keep it.
struct Kind {
    name: &'static str,
    make: &'static [&'static str],
    settings: &'static [(&'static str, &'static str)],
    is_it: fn(&Place<'_>) -> bool,
}

fn bytes(repo: &Place<'_>) -> Vec<u8> {
    std::fs::read(repo.git_folder().join("index")).unwrap()
}

fn holds(repo: &Place<'_>, mark: &[u8]) -> bool {
    bytes(repo).windows(mark.len()).any(|part| part == mark)
}

const KINDS: [Kind; 6] = [
    Kind { name: "version 2", make: &[], settings: &[], is_it: |repo| bytes(repo)[7] == 2 },
    Kind {
        name: "version 4",
        make: &["update-index", "--index-version", "4"],
        settings: &[],
        is_it: |repo| bytes(repo)[7] == 4,
    },
    Kind {
        name: "untracked cache",
        make: &["update-index", "--force-untracked-cache"],
        settings: &[],
        is_it: |repo| holds(repo, b"UNTR"),
    },
    Kind {
        name: "split index",
        make: &["update-index", "--split-index"],
        settings: &[("splitIndex.maxPercentChange", "100")],
        is_it: |repo| holds(repo, b"link"),
    },
    Kind {
        name: "file-system monitor",
        make: &["update-index", "--fsmonitor"],
        // One that cannot tell: git then looks for itself, and keeps what it knows.
        settings: &[("core.fsmonitor", "/bin/false")],
        is_it: |repo| holds(repo, b"FSMN"),
    },
    Kind {
        name: "sparse index",
        make: &["sparse-checkout", "set", "--cone", "--sparse-index", "setup", "scripts"],
        settings: &[],
        is_it: |repo| repo.git(&["ls-files", "--sparse"]).lines().any(|line| line == "src/"),
    },
];

/// A branch that is behind: a change, a new file, a removal, and something staged that is the user's.
fn scene(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/new", Some("new\n")), ("setup/b", None)]);
    repo.write("scripts/mine", "staged\n");
    repo.git(&["add", "scripts/mine"]);
    repo
}

#[test]
fn sync_preserves_every_index_format() {
    let lab = Lab::new();
    let original = scene(&lab);
    for kind in KINDS {
        let copy = lab.copy();
        let repo = original.in_copy(&copy);
        let name = kind.name;
        for (key, value) in kind.settings {
            repo.git(&["config", key, value]);
        }
        if !kind.make.is_empty() {
            repo.git(kind.make);
        }
        repo.git(&["status"]);
        assert!((kind.is_it)(&repo), "{name} at first");
        let staged = || repo.git(&["diff", "--cached", "--name-status"]);
        let before = (staged(), repo.status());
        repo.xtask(&["sync"]).success();
        assert!((kind.is_it)(&repo), "{name} after a sync");
        assert_eq!((staged(), repo.status()), before, "{name}");
        assert_eq!(repo.git(&["diff-files"]), "", "{name}");
        assert_eq!(repo.git(&["diff", "--stat", "HEAD", "orchestration-tools", "--", "setup"]), "");
        repo.xtask(&["undo"]).success();
        assert!((kind.is_it)(&repo), "{name} after undo");
        assert_eq!((staged(), repo.status()), before, "{name}");
        assert_eq!(repo.git(&["diff-files"]), "", "{name}");
        assert_eq!(repo.read("setup/a"), "a1\n");
        assert_eq!(repo.git(&["fsck", "--no-dangling"]), "", "{name}");
    }
}

/// What a person has resolved is kept for `git checkout -m`.
#[test]
fn sync_keeps_resolve_undo_entries() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.git(&["commit", "-qm", "mine"]);
    repo.git(&["switch", "-qc", "other", "HEAD~1"]);
    repo.write("src/app", "other\n");
    repo.git(&["commit", "-qam", "other"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.write("src/app", "feature\n");
    repo.git(&["commit", "-qam", "feature"]);
    assert_eq!(repo.try_git(&["merge", "other"]).code, Some(1));
    repo.write("src/app", "both\n");
    repo.git(&["add", "src/app"]);
    repo.git(&["commit", "-qm", "merged"]);
    assert!(holds(&repo, b"REUC"));
    repo.xtask(&["sync"]).success();
    assert!(holds(&repo, b"REUC"));
}

/// Folders stand in a sparse index for what is left out. Managed paths in them are brought up to date all the
/// same, only those are unfolded, and no file appears.
#[test]
fn managed_paths_outside_the_sparse_checkout_are_synced() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("other/deep/file", "other\n");
    repo.commit("other");
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("scripts/new", Some("new\n"))]);
    repo.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "src"]);
    repo.xtask(&["status"]).success().says("2 behind");
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.status(), "");
    assert_eq!(repo.git(&["diff", "--stat", "HEAD", "orchestration-tools", "--", "setup"]), "");
    assert!(!repo.has("setup/a") && !repo.has("scripts/new"));
    let listed = repo.git(&["ls-files", "--sparse", "-t"]);
    assert!(listed.contains("S other/\n") && listed.contains("S setup/a\n"), "{listed}");
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.git(&["show", ":setup/a"]), "a1\n");
    assert_eq!(repo.status(), "");
    // The files come with the folder.
    repo.xtask(&["sync"]).success();
    repo.git(&["sparse-checkout", "add", "setup"]);
    assert_eq!((repo.read("setup/a"), repo.status()), ("a2\n".to_owned(), String::new()));
    repo.xtask(&["sync", "--check"]).success();
}

/// Git writes objects where it unfolds a sparse index, even for a list; looking never does.
#[test]
fn read_only_commands_write_nothing_with_a_sparse_index() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "scripts"]);
    repo.write("scripts/mine", "staged again\n");
    repo.git(&["add", "scripts/mine"]);
    let before = trace(lab.path("").as_std_path());
    for args in [
        &["recover", "--dry-run"][..],
        &["sync", "--check"],
        &["sync", "--dry-run", "--force", "--yes"],
        &["status"],
        &["status", "--all"],
        &["diff"],
        &["why", "setup/a"],
        &["why", "src/app"],
        &["backup", "--list"],
        &["propagate", "--dry-run"],
        &["extract", "--dry-run"],
        &["branch", "check"],
    ] {
        repo.xtask(args);
        assert_eq!(trace(lab.path("").as_std_path()), before, "{args:?}");
    }
}
