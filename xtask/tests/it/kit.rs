//! The kit itself: what it makes without git, and copies, is what git makes.

use crate::testkit::{Lab, Place, circle};
use xtask_base::files::DiskOperation;

fn change(place: &Place<'_>) {
    place.write("setup/a", "a2\n");
    place.write("setup/new/deep/file", "deep\n");
    place.write_executable("scripts/more.sh", "#!/bin/sh\n");
    place.link("a", "setup/link");
    place.remove("setup/b");
}

#[test]
fn testkit_commit_equals_a_git_commit() {
    let (one, two) = (Lab::new(), Lab::new());
    let (ours, gits) = (one.repo(), two.repo());
    ours.on_branch("orchestration-tools", change);
    let subject = ours.git(&["log", "-1", "--format=%s", "orchestration-tools"]);
    gits.git(&["switch", "--quiet", "orchestration-tools"]);
    change(&gits);
    gits.commit(subject.trim_end());
    assert_eq!(ours.id("orchestration-tools"), gits.head());
    let log = ["reflog", "show", "--format=%H %gn %gs", "-1", "orchestration-tools"];
    assert_eq!(ours.git(&log), gits.git(&log));
    assert_eq!(ours.git(&["fsck", "--strict"]), "");
}

fn with_everything(lab: &Lab) {
    let repo = lab.repo();
    repo.write(".gitignore", "ignored\n");
    repo.link("setup/a", "link");
    repo.commit("more");
    repo.git(&["remote", "add", "origin", lab.path("hub").as_str()]);
    repo.git(&["worktree", "add", "--quiet", lab.path("linked").as_str(), "orchestration-tools"]);
    repo.write("setup/a", "A1\n");
    repo.write("setup/b", "staged\n");
    repo.git(&["add", "setup/b"]);
    repo.write("ignored", "x\n");
    repo.write("loose", "x\n");
    lab.place("linked").write("setup/a", "unsaved\n");
}

#[test]
fn testkit_copy_has_the_same_git_state() {
    let original = Lab::new();
    with_everything(&original);
    let copy = original.copy();
    for name in ["repo", "linked"] {
        let (original, copy) = (original.place(name), copy.place(name));
        assert_eq!(copy.scene(), original.scene());
        // Plumbing that looks at times alone sees no change but those there are.
        let seen = |place: &Place<'_>| {
            drop(place.try_git(&["update-index", "--refresh", "-q"]));
            place.git(&["diff-files", "--name-status"])
        };
        assert_eq!(seen(&copy), seen(&original));
    }
    let (before, repo) = (original.place("repo").scene(), copy.place("repo"));
    assert_eq!(repo.git(&["remote", "get-url", "origin"]).trim_end(), copy.path("hub"));
    let worktrees = repo.git(&["worktree", "list", "--porcelain"]);
    assert!(worktrees.contains(copy.path("linked").as_str()), "{worktrees}");
    repo.commit("in the copy alone");
    copy.place("linked").commit("there, too");
    assert_eq!(original.place("repo").scene(), before);
}

#[test]
fn testkit_template_is_built_once_and_copied_unchanged() {
    let one = Lab::of(with_everything);
    one.place("repo").commit("in this copy alone");
    let two = Lab::of(with_everything);
    assert_eq!(two.place("repo").git(&["log", "-1", "--format=%s"]), "more\n");
}

#[test]
fn sampled_steps_cover_each_pair_of_consecutive_operations() {
    use DiskOperation::{Create, Replace, Write};
    let steps = [Create, Write, Create, Write, Replace, Create, Write, Replace];
    let chosen = circle::steps(&steps);
    if !circle::is_exhaustive() {
        assert_eq!(chosen, [0, 1, 2, 4, 5, 7, 8]);
    } else {
        assert_eq!(chosen, Vec::from_iter(0..=8));
    }
}
