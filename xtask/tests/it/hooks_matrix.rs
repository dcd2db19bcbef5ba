//! Every operation of git's that runs a hook, or should not: which of them run, what ours write, and
//! that git's own result is what it is without them.

use std::fs;

use crate::testkit::{Lab, Place, Scene};

/// An operation, in a repository whose every branch is behind the canonical one.
struct Operation {
    name: &'static str,
    /// What is needed first; it runs without hooks.
    before: fn(&Place<'_>),
    /// The operation itself.
    run: fn(&Place<'_>),
    /// The hooks that run, with the flag that tells them apart, in order.
    fires: &'static str,
    /// How many sync commits are on top of the checked-out branch afterwards.
    syncs: usize,
}

fn nothing(_: &Place<'_>) {}

fn run(place: &Place<'_>, args: &[&str]) {
    // Some of these stop with a conflict, as they should.
    drop(place.try_git(args));
}

/// `feature` and `other` change the same line of `src/app`.
fn conflict(place: &Place<'_>) {
    place.write("src/app", "mine\n");
    place.git(&["commit", "-qam", "mine"]);
}

fn resolve(place: &Place<'_>) {
    place.write("src/app", "both\n");
    place.git(&["add", "src/app"]);
}

const TABLE: &[Operation] = &[
    Operation {
        name: "checkout of a branch",
        before: nothing,
        run: |place| run(place, &["checkout", "-q", "other"]),
        fires: "post-checkout 1",
        syncs: 1,
    },
    Operation {
        name: "switch to the same branch",
        before: nothing,
        run: |place| run(place, &["checkout", "-q", "feature"]),
        fires: "post-checkout 1",
        syncs: 1,
    },
    Operation {
        name: "switch to a new branch",
        before: nothing,
        run: |place| run(place, &["switch", "-qc", "new"]),
        fires: "post-checkout 1",
        syncs: 1,
    },
    Operation {
        name: "checkout of a commit",
        before: nothing,
        run: |place| run(place, &["checkout", "-q", "--detach", "other"]),
        fires: "post-checkout 1",
        syncs: 0,
    },
    Operation {
        name: "checkout of files",
        before: |place| place.write("setup/a", "an edit that is not wanted\n"),
        run: |place| run(place, &["checkout", "-q", "--", "setup/a"]),
        fires: "post-checkout 0",
        syncs: 0,
    },
    Operation {
        name: "restore of files",
        before: |place| place.write("setup/a", "an edit that is not wanted\n"),
        run: |place| run(place, &["restore", "setup/a"]),
        fires: "post-checkout 0",
        syncs: 0,
    },
    Operation {
        name: "checkout with local changes",
        before: |place| place.write("src/note", "changed and not committed\n"),
        run: |place| run(place, &["checkout", "-q", "other"]),
        fires: "post-checkout 1",
        syncs: 1,
    },
    Operation {
        name: "commit -a",
        before: |place| place.write("src/app", "more\n"),
        run: |place| run(place, &["commit", "-qam", "more"]),
        fires: "pre-commit, post-commit",
        syncs: 0,
    },
    Operation {
        name: "commit of a path, with another staged",
        before: |place| {
            place.write("src/app", "more\n");
            place.write("src/note", "staged\n");
            place.git(&["add", "src/note"]);
        },
        run: |place| run(place, &["commit", "-qm", "more", "--", "src/app"]),
        fires: "pre-commit, post-commit",
        syncs: 0,
    },
    Operation {
        name: "amend",
        before: nothing,
        run: |place| run(place, &["commit", "-q", "--amend", "-m", "amended"]),
        fires: "pre-commit, post-commit, post-rewrite amend",
        syncs: 0,
    },
    Operation {
        name: "merge that goes forward",
        before: |place| {
            place.git(&["checkout", "-q", "-B", "feature", "main"]);
        },
        run: |place| run(place, &["merge", "-q", "other"]),
        fires: "post-merge 0",
        syncs: 1,
    },
    Operation {
        name: "merge that makes a commit",
        before: nothing,
        run: |place| run(place, &["merge", "-q", "--no-edit", "other"]),
        fires: "post-merge 0",
        syncs: 1,
    },
    Operation {
        name: "merge --squash",
        before: nothing,
        run: |place| run(place, &["merge", "-q", "--squash", "other"]),
        fires: "post-merge 1",
        syncs: 0,
    },
    Operation {
        name: "merge with local changes put aside",
        before: |place| place.write("src/note", "changed and not committed\n"),
        run: |place| run(place, &["merge", "-q", "--no-edit", "--autostash", "other"]),
        fires: "post-merge 0",
        syncs: 0,
    },
    Operation {
        name: "merge with a conflict, then commit",
        before: conflict,
        run: |place| {
            run(place, &["merge", "-q", "other"]);
            resolve(place);
            run(place, &["commit", "-qm", "merged"]);
        },
        fires: "pre-commit, post-commit",
        syncs: 0,
    },
    Operation {
        name: "merge --abort",
        before: conflict,
        run: |place| {
            run(place, &["merge", "-q", "other"]);
            run(place, &["merge", "--abort"]);
        },
        fires: "",
        syncs: 0,
    },
    Operation {
        name: "rebase with picks",
        before: nothing,
        run: |place| run(place, &["rebase", "-q", "other"]),
        fires: "post-checkout 1, post-commit, post-rewrite rebase",
        syncs: 1,
    },
    Operation {
        name: "rebase with a conflict, continued",
        before: conflict,
        run: |place| {
            run(place, &["rebase", "-q", "other"]);
            resolve(place);
            run(place, &["-c", "core.editor=true", "rebase", "--continue"]);
        },
        fires: "post-checkout 1, post-commit, post-commit, post-rewrite rebase",
        syncs: 1,
    },
    Operation {
        name: "rebase --abort",
        before: conflict,
        run: |place| {
            run(place, &["rebase", "-q", "other"]);
            run(place, &["rebase", "--abort"]);
        },
        fires: "post-checkout 1, post-commit",
        syncs: 0,
    },
    Operation {
        name: "rebase that only goes forward",
        before: |place| {
            place.git(&["checkout", "-q", "-B", "feature", "main"]);
        },
        run: |place| run(place, &["rebase", "-q", "other"]),
        fires: "post-checkout 1",
        syncs: 0,
    },
    Operation {
        name: "rebase with local changes put aside",
        before: |place| place.write("src/note", "changed and not committed\n"),
        run: |place| run(place, &["rebase", "-q", "--autostash", "other"]),
        fires: "post-checkout 1, post-commit, post-rewrite rebase",
        syncs: 0,
    },
    Operation {
        name: "rebase of the older kind",
        before: nothing,
        run: |place| run(place, &["rebase", "-q", "--apply", "other"]),
        fires: "post-checkout 1, post-rewrite rebase",
        syncs: 0,
    },
    Operation {
        name: "cherry-pick",
        before: nothing,
        run: |place| run(place, &["cherry-pick", "other"]),
        fires: "post-commit",
        syncs: 0,
    },
    Operation {
        name: "cherry-pick with a conflict, continued",
        before: conflict,
        run: |place| {
            run(place, &["cherry-pick", "other"]);
            resolve(place);
            run(place, &["-c", "core.editor=true", "cherry-pick", "--continue"]);
        },
        fires: "pre-commit, post-commit",
        syncs: 0,
    },
    Operation {
        name: "revert",
        before: nothing,
        run: |place| run(place, &["revert", "--no-edit", "HEAD"]),
        fires: "post-commit",
        syncs: 0,
    },
    Operation {
        name: "am",
        before: |place| {
            let patch = place.git(&["format-patch", "--stdout", "-1", "other"]);
            fs::write(place.lab.path("patch"), patch).unwrap();
        },
        run: |place| run(place, &["am", "-q", place.lab.path("patch").as_str()]),
        fires: "",
        syncs: 0,
    },
    Operation {
        name: "a bisect, from start to reset",
        before: |place| {
            for number in 0..6 {
                place.write("src/app", format!("{number}\n"));
                place.git(&["commit", "-qam", &format!("step {number}")]);
            }
        },
        run: |place| {
            run(place, &["bisect", "start", "HEAD", "HEAD~6"]);
            run(place, &["bisect", "run", "grep", "-q", "[012]", "src/app"]);
            run(place, &["bisect", "reset"]);
        },
        fires: "post-checkout 1, post-checkout 1, post-checkout 1, post-checkout 1",
        syncs: 0,
    },
    Operation {
        name: "stash and pop",
        before: |place| place.write("src/app", "not committed\n"),
        run: |place| {
            run(place, &["stash", "-q"]);
            run(place, &["stash", "pop", "-q"]);
            run(place, &["stash", "list"]);
        },
        fires: "",
        syncs: 0,
    },
    Operation {
        name: "reset --hard",
        before: |place| place.write("src/app", "not wanted\n"),
        run: |place| run(place, &["reset", "-q", "--hard", "HEAD~1"]),
        fires: "",
        syncs: 0,
    },
    Operation {
        name: "update-ref and read-tree",
        before: nothing,
        run: |place| {
            run(place, &["update-ref", "refs/heads/third", "other"]);
            run(place, &["read-tree", "HEAD"]);
            run(place, &["update-index", "-q", "--refresh"]);
        },
        fires: "",
        syncs: 0,
    },
    Operation {
        name: "sparse-checkout",
        before: nothing,
        run: |place| {
            run(place, &["sparse-checkout", "set", "--no-cone", "/src/"]);
            run(place, &["sparse-checkout", "disable"]);
        },
        fires: "",
        syncs: 0,
    },
    Operation {
        name: "pull that goes forward",
        before: |place| {
            place.git(&["checkout", "-q", "-B", "feature", "main"]);
        },
        run: |place| run(place, &["pull", "-q", "--ff-only", ".", "other"]),
        fires: "post-merge 0",
        syncs: 1,
    },
    Operation {
        name: "pull --rebase",
        before: nothing,
        run: |place| run(place, &["pull", "-q", "--rebase", ".", "other"]),
        fires: "post-checkout 1, post-commit, post-rewrite rebase",
        syncs: 1,
    },
    Operation {
        name: "pull --rebase that goes forward",
        before: |place| {
            place.git(&["checkout", "-q", "-B", "feature", "main"]);
        },
        run: |place| run(place, &["pull", "-q", "--rebase", ".", "other"]),
        fires: "post-merge 0",
        syncs: 1,
    },
];

/// A repository whose branches `feature` (checked out) and `other` have gone their own ways from
/// `main`, and whose canonical branch has gone ahead of all of them.
fn scene(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.write("src/note", "note\n");
    repo.commit("note");
    repo.git(&["switch", "-qc", "other"]);
    repo.write("src/app", "theirs\n");
    repo.commit("theirs");
    repo.git(&["switch", "-qc", "feature", "main"]);
    repo.write("src/new", "mine\n");
    repo.commit("mine");
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.write("setup/a", "a2\n");
    repo.write("setup/c", "c1\n");
    repo.commit("canonical");
    repo.git(&["switch", "-q", "feature"]);
    repo
}

/// The six hooks, each of which writes down that it ran, and ours on top of them.
fn hooks(repo: &Place<'_>) {
    let log = repo.lab.path("log");
    let flags = [
        ("post-checkout", "$3"),
        ("post-merge", "$1"),
        ("post-rewrite", "$1"),
        ("post-commit", ""),
        ("pre-commit", ""),
        ("pre-push", ""),
    ];
    for (name, flag) in flags {
        let path = format!(".git/hooks/{name}");
        repo.write_executable(&path, &format!("#!/bin/sh\necho \"{name} {flag}\" >> {log}\n"));
    }
    repo.install_hooks().success();
}

/// What is left of a scene without what sync commits add: they lie on top, so their number of
/// commits is taken off.
fn without_syncs(place: &Place<'_>, syncs: usize) -> Scene {
    if syncs > 0 {
        assert_eq!(syncs, 1);
        let author = place.git(&["log", "-1", "--format=%ae"]);
        assert_eq!(author.trim(), "xtask-sync@users.noreply.invalid");
        let changed = place.git(&["diff", "--name-only", "HEAD~1", "HEAD"]);
        assert_eq!(changed, "setup/a\nsetup/c\n", "the sync commit holds what is managed alone");
        place.git(&["-c", "core.hooksPath=/dev/null", "reset", "-q", "--keep", "HEAD~1"]);
    }
    place.scene()
}

fn without_ids(mut scene: Scene) -> Scene {
    // The time at which something is stashed is part of its id.
    let refs = scene.refs.lines().filter(|line| !line.contains("refs/stash"));
    scene.refs = refs.collect::<Vec<_>>().join("\n");
    scene
}

/// The scene with a linked worktree of `feature`.
fn linked(lab: &Lab) -> Place<'_> {
    let repo = scene(lab);
    repo.git(&["checkout", "-q", "--detach"]);
    repo.git(&["worktree", "add", "-q", lab.path("linked").as_str(), "feature"]);
    repo
}

/// Where hooks lie while what comes before an operation runs without them.
const PUT_ASIDE: &str = ".git/hooks-aside";

/// The scene with hooks, which are put aside.
fn hooked(lab: &Lab, scene: fn(&Lab) -> Place<'_>) {
    let repo = scene(lab);
    hooks(&repo);
    fs::rename(repo.dir.join(".git/hooks"), repo.dir.join(PUT_ASIDE)).unwrap();
}

/// What is wrong with an operation; empty if nothing is.
fn faults(operation: &Operation, worktree: bool) -> String {
    let name = operation.name;
    let place_in = |lab: &Lab| -> camino::Utf8PathBuf {
        if worktree { lab.path("linked") } else { lab.path("repo") }
    };
    let plain = match worktree {
        false => Lab::of(|lab| drop(scene(lab))),
        true => Lab::of(|lab| drop(linked(lab))),
    };
    let at_plain = Place { lab: &plain, dir: place_in(&plain) };
    (operation.before)(&at_plain);
    (operation.run)(&at_plain);
    let hooked = match worktree {
        false => Lab::of(|lab| hooked(lab, scene)),
        true => Lab::of(|lab| hooked(lab, linked)),
    };
    let at_hooked = Place { lab: &hooked, dir: place_in(&hooked) };
    (operation.before)(&at_hooked);
    let git = hooked.path("repo/.git");
    drop(fs::remove_dir_all(git.join("hooks")));
    fs::rename(hooked.path("repo").join(PUT_ASIDE), git.join("hooks")).unwrap();
    (operation.run)(&at_hooked);
    let log = fs::read_to_string(hooked.path("log")).unwrap_or_default();
    let fired: Vec<&str> = log.lines().map(str::trim).collect();
    let mut faults = String::new();
    let mut expect = |what: &str, found: String, wanted: String| {
        if found != wanted {
            faults.push_str(&format!("{name}: {what}\n  is     {found}\n  wanted {wanted}\n"));
        }
    };
    expect("fires", fired.join(", "), operation.fires.to_owned());
    let sync = at_hooked.git(&[
        "log",
        "--format=%H",
        "--author=xtask-sync@users.noreply.invalid",
        "--all",
        "HEAD",
        "--not",
        "orchestration-tools",
    ]);
    let syncs = sync.lines().count();
    expect("sync commits", syncs.to_string(), operation.syncs.to_string());
    let with = without_ids(without_syncs(&at_hooked, syncs));
    let without = without_ids(at_plain.scene());
    expect("result", format!("{with:?}"), format!("{without:?}"));
    faults
}

fn check(worktree: bool) {
    let all: Vec<String> = TABLE.iter().map(|operation| faults(operation, worktree)).collect();
    assert!(all.concat().is_empty(), "{}", all.concat());
}

#[test]
fn hooks_add_only_a_sync_commit_to_git_operations() {
    check(false);
}

#[test]
fn hooks_add_only_a_sync_commit_in_a_linked_worktree() {
    check(true);
}

/// With everything in sync no hook writes anything.
#[test]
fn hooks_write_nothing_if_all_branches_are_in_sync() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.git(&["switch", "-q", "other"]);
    repo.xtask(&["sync"]).success();
    repo.git(&["switch", "-q", "feature"]);
    repo.xtask(&["sync"]).success();
    hooks(&repo);
    let heads = repo.git(&["for-each-ref", "refs/heads"]);
    for _ in 0..3 {
        for branch in ["other", "feature", "-", "feature"] {
            let ran = repo.try_git(&["checkout", branch]).success();
            assert!(!ran.err.contains("xtask"), "{}", ran.err);
        }
    }
    assert_eq!(repo.git(&["for-each-ref", "refs/heads"]), heads);
    assert_eq!(repo.status(), "");
}

#[test]
fn newly_added_worktree_is_synced() {
    let lab = Lab::new();
    let repo = scene(&lab);
    hooks(&repo);
    let linked = Place { lab: &lab, dir: lab.path("linked") };
    repo.git(&["worktree", "add", "-q", "-b", "fresh", linked.dir.as_str(), "other"]);
    assert_eq!(linked.read("setup/a"), "a2\n");
    assert_eq!(linked.status(), "");
    assert_eq!(fs::read_to_string(lab.path("log")).unwrap().trim(), "post-checkout 1");
    // And one of which nothing is checked out is left alone.
    let bare = Place { lab: &lab, dir: lab.path("bare") };
    repo.git(&["worktree", "add", "-q", "--no-checkout", bare.dir.as_str(), "other"]);
    assert_eq!(bare.git(&["log", "-1", "--format=%s"]).trim(), "theirs");
}

/// Hooks from a template run in a fresh clone, where no program is installed.
#[test]
fn clone_with_shims_from_a_template_hints_at_installation() {
    let lab = Lab::new();
    let repo = scene(&lab);
    hooks(&repo);
    let template = lab.path("template/hooks");
    fs::create_dir_all(&template).unwrap();
    fs::copy(repo.dir.join(".git/hooks/post-checkout"), template.join("post-checkout")).unwrap();
    let clone = lab.path("clone");
    let template = format!("--template={}", lab.path("template"));
    let from = repo.dir.as_str();
    let ran = repo.try_git(&["clone", "-q", &template, from, clone.as_str()]).success();
    assert!(ran.err.contains("cargo xtask install-hooks"), "{}", ran.err);
    assert_eq!(lab.place("clone").status(), "");
}
