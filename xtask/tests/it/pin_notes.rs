//! What is said about pins where a person would not think of them: before an overlay goes, when a pin has ended, when it
//! has no effect, and when nobody else knows of it.

use crate::pins::{class_of, overlay_and_fetched_pin, own, pin, two_clones, write_pin};
use crate::testkit::{Lab, trace};

#[test]
fn a_look_tells_that_an_overlay_at_a_pinned_path_will_go() {
    let lab = Lab::new();
    let (repo, _) = overlay_and_fetched_pin(&lab);
    let before = trace(repo.dir.as_std_path());
    let told = "wrote is at a pinned path: `setup/b`; the next sync restores";
    for words in
        [&["sync", "--dry-run"][..], &["sync", "--check"], &["status"], &["why", "setup/b"]]
    {
        repo.xtask(words).says(told);
    }
    repo.xtask(&["why", "setup/a"]).never_says(told);
    assert_eq!(trace(repo.dir.as_std_path()), before);
    repo.xtask(&["sync"]).success().says("is replaced by what was there before").never_says(told);
    assert_eq!(repo.read("setup/b"), "b1\n");
    repo.xtask(&["sync", "--dry-run"]).success().never_says(told);
}

#[test]
fn what_force_wrote_over_a_pin_stays_until_somebody_changes_it() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup/b").success();
    repo.install_hooks().success();
    repo.write("setup/b", "mine\n");
    repo.xtask(&["sync", "--no-commit", "--force", "setup/b"]).success();
    repo.xtask(&["sync"]).success();
    repo.git(&["switch", "-q", "--detach"]);
    repo.git(&["switch", "-q", "feature"]);
    assert_eq!(repo.read("setup/b"), "b2\n");
    repo.xtask(&["pin", "--list"]).success().never_says("same as canonical");
    repo.git(&["commit", "-qam", "the canonical version after all"]);
    assert_eq!(repo.git(&["show", "HEAD:setup/b"]), "b2\n");
    repo.xtask(&["pin", "--list"]).success().says("active").says("same as canonical now");
}

#[test]
fn a_malformed_pin_that_was_mended_here_is_no_fault_any_more() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&repo, "setup/b").success();
    let file = repo.git(&["ls-files", ".sync-pins"]).trim().to_owned();
    repo.write(&file, repo.read(&file).replace("until", "untl"));
    repo.git(&["commit", "-qam", "broken"]);
    repo.git(&["push", "-q"]);
    two.git(&["fetch", "-q"]);
    two.xtask(&["sync"]).status(2).says("malformed pin on `origin/feature`").says("`git pull` if");
    repo.xtask(&["sync"]).status(2).says("malformed pin on `feature`");
    repo.git(&["rm", "-q", &file]);
    repo.git(&["commit", "-qm", "mended"]);
    pin(&repo, "setup/b").success();
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    repo.xtask(&["status", "--all"]).success().says("feature");
}

#[test]
fn a_pin_that_was_not_pushed_counts_for_the_branch_at_the_remote() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    let said = pin(&repo, "setup/b").success();
    said.says("next: `git push origin feature`");
    let there = two.git(&["rev-parse", "origin/feature"]);
    for words in [&["propagate", "--remote", "--dry-run"][..], &["propagate", "--remote", "--push"]]
    {
        repo.xtask(words).success().says("1 pinned");
    }
    two.git(&["fetch", "-q"]);
    assert_ne!(two.git(&["rev-parse", "origin/feature"]), there);
    assert_eq!(two.git(&["show", "origin/feature:setup/b"]), "b1\n");
    assert_eq!(two.git(&["show", "origin/feature:setup/new"]), "new\n");
    repo.git(&["pull", "-q", "--rebase"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
}

#[test]
fn a_protected_branch_tells_that_its_own_pins_have_no_effect() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup/b").success();
    repo.canonical(&[("setup/branches.toml", Some("protected = ['main', 'feature']\n"))]);
    let told = "pin of `setup/b` in this commit has no effect: `feature` is protected";
    for words in [&["status"][..], &["sync", "--dry-run"], &["why", "setup/b"]] {
        repo.xtask(words).says(told).says("pin setup/b --branch feature");
    }
    repo.xtask(&["why", "setup/new"]).never_says(told);
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.xtask(&["pin", "setup/b", "--branch", "feature", "--reason", "freeze"]).success();
    repo.git(&["switch", "-q", "feature"]);
    repo.xtask(&["status"]).never_says(told);
}

#[test]
fn a_sync_tells_that_the_pin_of_what_it_writes_has_lapsed() {
    let lab = Lab::new();
    let repo = own(&lab);
    write_pin(&repo, "feature", "setup/b", "2020-01-01");
    write_pin(&repo, "feature", "setup/a", "2020-01-02");
    let told = "pin of `setup/b` lapsed on 2020-01-01";
    repo.xtask(&["sync", "--dry-run"]).success().says(told).never_says("2020-01-02");
    let here = lab.copy();
    repo.in_copy(&here).xtask(&["sync"]).success().says(told);
    // A hook, too.
    repo.git(&["switch", "-q", "main"]);
    repo.install_hooks().success();
    let said = repo.try_git(&["switch", "feature"]);
    assert!(said.err.contains(told), "{}", said.err);
    assert_eq!(repo.read("setup/b"), "b2\n");
    repo.xtask(&["sync"]).success().never_says(told);
}

#[test]
fn propagate_tells_that_a_pin_may_be_about_a_renamed_branch() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&repo, "setup/b").success();
    repo.git(&["push", "-q"]);
    two.git(&["pull", "-q"]);
    repo.git(&["branch", "-q", "--move", "feature", "menu"]);
    repo.git(&["push", "-q", "-u", "origin", "menu", ":feature"]);
    two.git(&["switch", "-q", "main"]);
    two.git(&["branch", "-q", "-D", "feature"]);
    two.git(&["fetch", "-q", "--prune"]);
    two.git(&["branch", "-q", "menu", "origin/menu"]);
    let told = "`setup/b` is pinned for `feature` in this commit";
    two.xtask(&["propagate", "--dry-run", "menu"]).success().says(told);
    two.git(&["switch", "-q", "menu"]);
    two.xtask(&["propagate", "--dry-run", "menu"]).success().says(told);
}

#[test]
fn what_cannot_be_pinned_or_committed_is_told_with_what_helps() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup/b").success();
    let file = repo.git(&["ls-files", ".sync-pins"]).trim().to_owned();
    repo.remove(&file);
    repo.xtask(&["unpin", "setup/b"])
        .status(3)
        .says(&format!("`{file}` was removed, which is not committed"))
        .says(&format!("git restore --staged --worktree -- {file}"));
    repo.git(&["restore", "--staged", "--worktree", "--", &file]);
    repo.write(&file, "until = 1\n");
    repo.xtask(&["unpin", "setup/b"]).status(3).says("git diff HEAD -- .sync-pins/");
    repo.git(&["restore", &file]);

    repo.write("setup/mine", "mine\n");
    pin(&repo, "setup/mine").status(2).says("nor on `orchestration-tools`: commit it first");
    repo.xtask(&["pin", "setup/a", "--reason", "a\u{200d}b"]).status(2).says("U+200D");
    repo.xtask(&["pin", "setup/a", "--reason", "a\nb"]).status(2).says("more than one line");

    let head = repo.head();
    let nobody = [("GIT_AUTHOR_NAME", "")];
    repo.git(&["config", "user.name", ""]);
    let said = repo.xtask_with(&["pin", "setup/a", "--reason", "x"], &nobody);
    said.status(3).says("author identity has no name").says("git config user.name");
    assert_eq!(repo.head(), head);
}

#[cfg(unix)]
#[test]
fn a_path_through_a_symlink_to_the_repository_is_in_it() {
    let lab = Lab::new();
    let repo = own(&lab);
    std::os::unix::fs::symlink(&repo.dir, lab.path("link")).unwrap();
    let typed = lab.path("link/setup/b");
    repo.xtask(&["pin", typed.as_str(), "--reason", "x"]).success();
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    repo.xtask(&["why", lab.path("link/../other/setup/b").as_str()]).status(2).says("outside");
}

#[test]
fn an_end_that_was_not_pushed_ends_no_pin_at_the_remote() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&repo, "setup/b").success();
    repo.git(&["push", "-q"]);
    repo.xtask(&["unpin", "setup/b"]).success().says("next: `git push origin feature`");
    repo.xtask(&["propagate", "--remote", "--push"]).success().says("1 pinned");
    two.git(&["fetch", "-q"]);
    assert_eq!(two.git(&["show", "origin/feature:setup/b"]), "b1\n");
    repo.git(&["pull", "-q", "--rebase"]);
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
}

#[test]
fn force_keeps_an_overlay_that_was_there_before_the_pin() {
    let lab = Lab::new();
    let (repo, _) = overlay_and_fetched_pin(&lab);
    let told = "the next sync restores";
    repo.xtask(&["sync", "--no-commit", "--force", "setup/b", "--dry-run"]).never_says(told);
    for _ in 0..2 {
        repo.xtask(&["sync", "--no-commit", "--force", "setup/b"]).success();
        assert_eq!(repo.read("setup/b"), "b2\n");
    }
    repo.xtask(&["sync", "--no-commit"]).success().never_says("is replaced");
    assert_eq!(repo.read("setup/b"), "b2\n");
    // It does not keep anybody from renewing the pin.
    pin(&repo, "setup/b").success();
}

#[test]
fn an_undo_decides_about_each_path_and_refuses_if_it_cannot() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup/a").success();
    repo.xtask(&["sync", "--force"]).success();
    let id = repo.git(&["for-each-ref", "--format=%(refname:lstrip=3)", "refs/xtask/backup"]);
    let id = id.lines().last().unwrap().to_owned();
    // One was forced over its pin, the other has been pinned since.
    pin(&repo, "setup/b").success();
    let broken = lab.copy();
    repo.xtask(&["undo", &id]).status(1).says("1 path pinned, and kept").says("setup/b");
    assert_eq!((repo.read("setup/a"), repo.read("setup/b")), ("own\n".into(), "b2\n".into()));

    let repo = repo.in_copy(&broken);
    repo.write(".sync-pins/zz.toml", "nonsense\n");
    repo.git(&["add", ".sync-pins/zz.toml"]);
    repo.git(&["commit", "-qm", "broken"]);
    repo.xtask(&["undo", &id]).says("cannot tell which paths are pinned; nothing was undone");
    assert_eq!((repo.read("setup/a"), repo.read("setup/b")), ("a2\n".into(), "b2\n".into()));
    repo.xtask(&["restore", &id, "setup/a"]).success();
    assert_eq!((repo.read("setup/a"), repo.read("setup/b")), ("own\n".into(), "b2\n".into()));
}

#[test]
fn a_lapsed_pin_of_a_former_name_is_removed_as_announced() {
    let lab = Lab::new();
    let repo = own(&lab);
    write_pin(&repo, "feature", "setup/b", "2020-01-01");
    repo.git(&["branch", "-q", "--move", "feature", "menu"]);
    repo.xtask(&["status"]).says("`cargo xtask unpin setup/b` removes it");
    repo.xtask(&["unpin", "setup/b"]).success().says("1 pin removed");
    assert_eq!(repo.git(&["ls-files", ".sync-pins"]), "");
    repo.xtask(&["status"]).never_says("lapsed");
}

/// A ref of a branch that has nothing to do with this one.
#[test]
fn a_broken_ref_elsewhere_neither_stops_propagate_nor_silences_a_note() {
    let lab = Lab::new();
    let (repo, _) = two_clones(&lab);
    repo.git(&["push", "-q", "origin", "feature:other", "feature:gone"]);
    repo.git(&["fetch", "-q"]);
    write_pin(&repo, "gone", "setup/b", "2999-01-01");
    write_pin(&repo, "broken", "setup/new", "2999-01-01");
    let told = "`setup/b` is pinned for `gone` in this commit";
    for (name, content) in
        [("other", "1234567890123456789012345678901234567890\n"), ("gone", ""), ("other", "")]
    {
        repo.write(&format!(".git/refs/remotes/origin/{name}"), content);
        if name == "gone" {
            repo.xtask(&["pin", "--list", "--all"]).success();
        }
    }
    repo.write(".git/refs/heads/broken", "");
    repo.xtask(&["sync", "--dry-run"]).success().says(told);
    repo.git(&["switch", "-q", "main"]);
    repo.xtask(&["propagate", "--dry-run", "feature"]).success().says(told).never_says("undo");
}
