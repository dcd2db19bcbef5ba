//! Which statement about a pinned path counts: of those in a branch, in its upstream and on the canonical branch,
//! under whatever name of the branch, and what remains when one of them goes.

use xtask_base::date::Date;
use xtask_base::path::RepoPath;
use xtask_config::Pin;

use crate::crash::{Fault, plain_sync, run_with};
use crate::pins::{class_of, overlay_and_fetched_pin, own, pin, two_clones, write_pin};
use crate::testkit::{Lab, Place};

/// Commits a statement about `setup/b` of `feature`, the `order`th ever made.
fn state(repo: &Place<'_>, order: i64, until: &str, replaced_until: Option<&str>, ended: bool) {
    let day = |text: &str| Date::parse(text).unwrap();
    let one = Pin {
        branch: "feature".to_owned(),
        path: RepoPath::new("setup/b"),
        until: day(until),
        reason: "waiting".to_owned(),
        by: "Ada".to_owned(),
        since: 1_546_300_800 + order,
        ended,
        replaced_until: replaced_until.map(day),
    };
    let file = one.file_path().to_string();
    repo.write(&file, one.render());
    repo.git(&["add", &file]);
    repo.git(&["commit", "-qm", "stated", "--", &file]);
}

fn count_files(repo: &Place<'_>) -> usize {
    repo.git(&["ls-files", ".sync-pins"]).lines().count()
}

#[test]
fn what_has_lapsed_stays_so_while_a_longer_pin_is_there() {
    for words in
        [&["unpin", "--lapsed"][..], &["pin", "scripts", "--reason", "x"], &["unpin", "setup/b"]]
    {
        let lab = Lab::new();
        let repo = own(&lab);
        state(&repo, 1, "2999-01-01", None, false);
        state(&repo, 2, "2020-01-01", None, false);
        assert_eq!(class_of(&repo, "setup/b"), "behind update");
        repo.xtask(&["status"]).success().says("pin of `setup/b` lapsed on 2020-01-01");
        repo.xtask(words).success().never_says("remains pinned");
        assert_eq!(class_of(&repo, "setup/b"), "behind update", "{words:?}");
        if words[0] == "unpin" {
            repo.xtask(&["status"]).success().never_says("lapsed");
        }
    }
}

#[test]
fn a_shorter_renewal_counts_as_long_as_what_it_replaces() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.xtask(&["pin", "setup/b", "--until", "2999-01-01", "--reason", "long"]).success();
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["merge", "-q", "--squash", "feature"]);
    repo.git(&["commit", "-qm", "squashed"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.xtask(&["pin", "setup/b", "--until", "1d", "--reason", "short"]).success();
    let text = repo.git(&["grep", "-h", "replaced-until", "--", ".sync-pins"]);
    assert_eq!(text, "replaced-until = 2999-01-01\n");
    repo.xtask(&["unpin", "setup/b"]).success();
    let text = repo.git(&["grep", "-h", "-e", "^until", "-e", "^ended", "--", ".sync-pins"]);
    assert_eq!(text, "until = 2999-01-01\nended = true\n");
    repo.git(&["merge", "-q", "-m", "merged", "main"]);
    assert_eq!(class_of(&repo, "setup/b"), "behind update");

    // One that has lapsed by itself keeps what it replaced from coming back as well.
    repo.git(&["reset", "-q", "--hard", "HEAD~3"]);
    repo.git(&["rm", "-q", "-r", ".sync-pins"]);
    repo.git(&["commit", "-qm", "none"]);
    state(&repo, 9_999_999_999, "2020-01-01", Some("2999-01-01"), false);
    repo.xtask(&["pin", "scripts", "--reason", "x"]).success();
    repo.git(&["merge", "-q", "-m", "merged", "main"]);
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
    assert_eq!(count_files(&repo), 3);
}

#[test]
fn pin_and_unpin_know_what_was_fetched() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&repo, "setup/b").success();
    repo.git(&["push", "-q"]);
    two.git(&["pull", "-q"]);
    repo.xtask(&["unpin", "setup/b"]).success();
    repo.git(&["push", "-q"]);
    two.write("src/app", "work\n");
    two.commit("work");
    two.git(&["fetch", "-q"]);
    assert_eq!(class_of(&two, "setup/b"), "behind update");
    two.xtask(&["pin", "--list"]).success().says("no pins");
    // The pin in its own commit says the same, and has ended.
    pin(&two, "setup/b").success().never_says("nothing to do");
    assert_eq!(class_of(&two, "setup/b"), "pinned keep");
    two.git(&["pull", "-q", "--rebase"]);
    assert_eq!(class_of(&two, "setup/b"), "pinned keep");
    two.git(&["push", "-q"]);

    // What is only at the upstream is listed, and can be ended here.
    repo.write("src/app", "other work\n");
    repo.commit("other work");
    repo.git(&["fetch", "-q"]);
    let listed = repo.xtask(&["pin", "--list"]).success();
    listed.says("setup/b").says("at the upstream, not merged yet");
    repo.xtask(&["pin", "--list", "--all"]).success().says("not merged yet");
    repo.xtask(&["why", "setup/b"]).success().says("at the upstream, not merged yet");
    repo.xtask(&["unpin", "setup/b"]).success().never_says("remains");
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
    repo.xtask(&["unpin", "setup/b"]).status(2).says("is not pinned");
}

#[test]
fn a_clock_that_is_behind_makes_no_pin_without_effect() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    // Made in the future, by a clock that is ahead.
    state(&repo, 9_000_000_000, "2999-01-01", None, true);
    repo.git(&["push", "-q"]);
    two.write("src/app", "work\n");
    two.commit("work");
    two.git(&["fetch", "-q"]);
    pin(&two, "setup/b").success();
    assert_eq!(class_of(&two, "setup/b"), "pinned keep");
}

#[test]
fn a_renewal_replaces_a_pin_under_a_former_name_and_a_copy_has_none() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup/b").success();
    repo.git(&["branch", "-m", "feature", "renamed"]);
    repo.xtask(&["pin", "setup/b", "--until", "1d", "--reason", "short"])
        .success()
        .never_says("all the same");
    repo.xtask(&["pin", "--list"]).success().says("(tomorrow)").never_says("30 days");
    repo.git(&["branch", "-c", "renamed", "copy"]);
    repo.git(&["switch", "-q", "copy"]);
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
}

#[test]
fn a_renaming_that_is_not_known_is_never_silent() {
    let lab = Lab::new();
    let repo = own(&lab);
    pin(&repo, "setup/b").success();
    repo.git(&["branch", "-m", "feature", "renamed"]);
    repo.git(&["branch", "feature", "main"]);
    repo.xtask(&["sync", "--dry-run"]).success().says("`setup/b` is pinned for `feature`");
    repo.git(&["branch", "-q", "-D", "feature"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.install_hooks().success();
    let said = repo.try_git(&["switch", "-q", "--detach"]);
    assert!(!said.err.contains("is pinned for"), "{}", said.err);
    let said = repo.try_git(&["switch", "-q", "renamed"]);
    let note = "`setup/b` is pinned for `feature` in this commit: if `renamed` is that branch";
    assert!(said.err.contains(note), "{}", said.err);
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/b"), "b1\n");
    // Of a branch that is known it says nothing.
    let quiet = ["-c", "core.hooksPath=/dev/null"];
    repo.git(&[&quiet[..], &["switch", "-q", "-c", "child"]].concat());
    repo.xtask(&["sync", "--dry-run"]).success().says("`setup/b` is pinned for `feature`");
    repo.git(&["branch", "feature", "main"]);
    repo.xtask(&["sync", "--dry-run"]).success().never_says("is pinned for");
}

#[test]
fn a_living_upstream_keeps_its_pin_when_the_branch_is_renamed() {
    let lab = Lab::new();
    let (repo, _) = two_clones(&lab);
    pin(&repo, "setup/b").success();
    repo.git(&["push", "-q"]);
    repo.git(&["branch", "-m", "feature", "dev"]);
    repo.xtask(&["unpin", "setup/b"]).success().says("on `feature`, its upstream, it stays");
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
    repo.git(&["switch", "-q", "-c", "feature", "origin/feature"]);
    repo.git(&["merge", "-q", "dev"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
}

#[test]
fn who_pushes_to_the_upstream_ends_its_pins() {
    let lab = Lab::new();
    let (_, two) = two_clones(&lab);
    two.git(&["config", "push.default", "upstream"]);
    two.git(&["switch", "-q", "-c", "topic", "origin/feature"]);
    two.git(&["branch", "-q", "-D", "feature"]);
    pin(&two, "scripts").success();
    two.git(&["push", "-q"]);
    two.xtask(&["unpin", "scripts"]).success().never_says("it stays");
    assert_eq!(class_of(&two, "scripts/run.sh"), "in-sync");
    write_pin(&two, "feature", "setup/a", "2020-01-01");
    pin(&two, "setup/b").success().says("lapsed on 2020-01-01");
}

#[test]
fn a_fork_is_read_as_git_is_told() {
    // The branch is in a fork, the canonical branch at another remote.
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&two, "setup/b").success();
    two.git(&["push", "-q"]);
    let hub = lab.path("hub");
    repo.git(&["remote", "add", "upstream", hub.as_str()]);
    repo.git(&["config", "xtask.canonicalRemote", "upstream"]);
    repo.git(&["fetch", "-q", "--all"]);
    repo.git(&["update-ref", "refs/remotes/upstream/feature", "main"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    // Fetched to other refs than the usual ones.
    repo.git(&["config", "--unset", "xtask.canonicalRemote"]);
    repo.git(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/hub/*"]);
    repo.git(&["fetch", "-q", "origin"]);
    repo.git(&["update-ref", "-d", "refs/remotes/origin/feature"]);
    repo.git(&["branch", "-q", "-u", "hub/feature"]);
    assert_eq!(repo.git(&["config", "branch.feature.remote"]), "origin\n");
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
}

#[test]
fn undo_leaves_what_was_pinned_since() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.xtask(&["sync"]).success();
    let id = repo.git(&["for-each-ref", "--format=%(refname:lstrip=3)", "refs/xtask/backup"]);
    let id = id.lines().last().unwrap().to_owned();
    pin(&repo, "setup/b").success();
    repo.xtask(&["undo", &id]).status(1).says("1 path pinned, and kept").says("setup/b");
    assert_eq!(repo.read("setup/b"), "b2\n");
    assert!(!repo.dir.join("setup/new").exists());
    // What `--force` has replaced in spite of the pin comes back.
    repo.git(&["reset", "-q", "--hard"]);
    repo.canonical(&[("setup/b", Some("b3\n"))]);
    repo.xtask(&["sync", "--force", "setup/b"]).success();
    assert_eq!(repo.read("setup/b"), "b3\n");
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/b"), "b2\n");
}

#[test]
fn an_overlay_goes_where_a_pin_comes() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.git(&["branch", "before"]);
    pin(&repo, "setup/b").success();
    repo.git(&["branch", "pinned"]);
    repo.git(&["switch", "-q", "-C", "feature", "before"]);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.read("setup/b"), "b2\n");
    repo.git(&["merge", "-q", "--ff-only", "pinned"]);
    repo.xtask(&["sync", "--no-commit"])
        .success()
        .says("is replaced by what was there before, because it is pinned: `setup/b`");
    assert_eq!((repo.read("setup/b"), repo.read("setup/new")), ("b1\n".into(), "new\n".into()));
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/b"), "b2\n");

    // As much if it was touched since; but what is staged is somebody's decision, which a commit asks for again.
    repo.run("touch", &["setup/b"], &[]).success();
    repo.git(&["add", "setup/b"]);
    let staged = "is staged at a pinned path: `setup/b`";
    repo.xtask(&["sync"]).success().says(staged);
    repo.xtask(&["sync"]).success().says(staged);
    assert_eq!(repo.read("setup/b"), "b2\n");
    repo.git(&["reset", "-q"]);
    repo.run("touch", &["-d", "2001-01-01", "setup/b"], &[]).success();
    repo.xtask(&["sync"]).success().says("because it is pinned: `setup/b`");
    assert_eq!(repo.read("setup/b"), "b1\n");
    repo.xtask(&["undo"]).success();

    // A hook does the same; what somebody has changed since stays.
    repo.install_hooks().success();
    repo.git(&["switch", "-q", "--detach"]);
    repo.git(&["switch", "-q", "feature"]);
    assert_eq!(repo.read("setup/b"), "b1\n");
    repo.xtask(&["undo"]).success();
    repo.write("setup/b", "b2, and mine\n");
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/b"), "b2, and mine\n");
}

#[test]
fn a_fault_while_an_overlay_goes_tells_what_sync_has_done() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.git(&["branch", "before"]);
    pin(&repo, "setup/b").success();
    repo.git(&["branch", "pinned"]);
    repo.git(&["switch", "-q", "-C", "feature", "before"]);
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.git(&["merge", "-q", "--ff-only", "pinned"]);
    let head = repo.head();
    let sync = |at| {
        let copy = lab.copy();
        let place = repo.in_copy(&copy);
        let (done, steps) = run_with(&place, plain_sync, Fault::Fails, at);
        (done, steps, place.head() != head, place.read("setup/b"))
    };
    let (done, steps, _, content) = sync(usize::MAX);
    done.unwrap();
    assert_eq!(content, "b1\n");
    let mut told = 0;
    for at in 0..steps {
        let (done, _, has_moved, content) = sync(at);
        let Err(failure) = done else { continue };
        let is_told = failure.details().iter().any(|said| said.contains("and committed, as"));
        assert_eq!(is_told, has_moved, "step {at}: {failure}");
        assert_eq!(content, "b2\n");
        told += usize::from(is_told);
    }
    assert!(told > 0, "no fault came after the commit");
}

#[test]
fn undo_takes_an_overlay_off_a_pinned_path_and_a_sync_off_one_pinned_elsewhere() {
    let lab = Lab::new();
    let (repo, _) = overlay_and_fetched_pin(&lab);
    pin(&repo, "setup/b").status(3).says("`cargo xtask undo` takes that back");
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/b"), "b1\n");
    pin(&repo, "setup/b").success();

    // The content that the colleague pinned is that before the sync.
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    let head = repo.head();
    repo.xtask(&["sync"]).success();
    pin(&two, "setup/b").success();
    two.git(&["push", "-q"]);
    repo.git(&["fetch", "-q"]);
    repo.xtask(&["undo"]).success();
    assert_eq!((repo.head(), repo.read("setup/b")), (head, "b1\n".to_owned()));
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/b"), "b1\n");
}

#[test]
fn a_commit_takes_no_overlay_for_pinned_content() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    repo.install_hooks().success();
    repo.xtask(&["sync", "--no-commit"]).success();
    pin(&two, "setup/b").success();
    two.git(&["push", "-q"]);
    repo.git(&["fetch", "-q"]);
    let head = repo.head();
    repo.git(&["add", "setup/b"]);
    // What was written since it was staged is in no object.
    repo.write("setup/b", "b2, and mine\n");
    let said = repo.try_git(&["commit", "-qm", "work"]);
    assert!(said.err.contains("`setup/b` is pinned, and what is staged is not"), "{}", said.err);
    assert!(said.err.contains("`git restore --staged -- setup/b` leaves it out"), "{}", said.err);
    assert_eq!(repo.head(), head);
    repo.git(&["restore", "--staged", "--", "setup/b"]);
    assert_eq!(repo.read("setup/b"), "b2, and mine\n");
    repo.write("src/app", "work\n");
    repo.git(&["commit", "-qm", "work", "--", "src/app"]);
    assert_eq!(repo.git(&["show", "HEAD:setup/b"]), "b1\n");
}

#[test]
fn a_merge_may_bring_what_an_overlay_has_but_not_the_overlay() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    repo.install_hooks().success();
    repo.xtask(&["sync", "--no-commit"]).success();
    // The content that canonical has for one of the paths is on another branch as well.
    two.git(&["switch", "-qc", "other"]);
    two.write("setup/b", "b2\n");
    two.commit("as on canonical");
    two.git(&["switch", "-q", "feature"]);
    pin(&two, "setup").success();
    two.git(&["push", "-q", "origin", "feature", "other"]);
    repo.git(&["fetch", "-q"]);
    repo.git(&["restore", "setup/b"]);

    repo.git(&["merge", "-q", "--no-commit", "--no-ff", "origin/other"]);
    repo.git(&["add", "setup/new"]);
    let said = repo.try_git(&["commit", "-qm", "merged"]);
    assert!(said.err.contains("`setup/new` is pinned, and what is staged is not"), "{}", said.err);
    assert!(said.err.contains("`git rm --cached -- setup/new` leaves it out"), "{}", said.err);
    repo.git(&["rm", "-q", "--cached", "--", "setup/new"]);
    repo.git(&["commit", "-qm", "merged"]);
    assert_eq!(repo.git(&["ls-files", "setup/new"]), "");
    assert_eq!(repo.git(&["show", "HEAD:setup/b"]), "b2\n");
}

#[test]
fn what_somebody_wrote_over_an_overlay_can_be_pinned() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.xtask(&["sync", "--no-commit"]).success();
    pin(&repo, "setup/b").status(3).says("was written by `sync --no-commit`");
    repo.write("setup/b", "of our own\n");
    repo.git(&["commit", "-qm", "ours", "--", "setup/b"]);
    pin(&repo, "setup/b").success();
    // Or committed as it was.
    repo.git(&["add", "setup/new"]);
    repo.git(&["commit", "-qm", "as it is", "--", "setup/new"]);
    pin(&repo, "setup/new").success();
    assert_eq!(repo.read("setup/b"), "of our own\n");
}

#[test]
fn what_force_replaced_comes_back_whatever_the_clocks_say() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    // The pin is only at the upstream, and was made by a clock that is ahead.
    state(&two, 9_000_000_000, "2999-01-01", None, false);
    two.git(&["push", "-q"]);
    repo.write("src/app", "work\n");
    repo.commit("work");
    repo.git(&["fetch", "-q"]);
    repo.xtask(&["sync", "--force", "setup/b"]).success();
    assert_eq!(repo.read("setup/b"), "b2\n");
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/b"), "b1\n");
    // And an undo of that forces it again.
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/b"), "b2\n");
}

#[test]
fn what_came_with_the_main_branch_raises_no_alarm() {
    let lab = Lab::new();
    let (repo, _) = two_clones(&lab);
    pin(&repo, "setup/b").success();
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["merge", "-q", "feature"]);
    repo.git(&["push", "-q", "origin", "main", ":feature"]);
    repo.git(&["branch", "-q", "-D", "feature"]);
    repo.git(&["switch", "-q", "-c", "later"]);
    repo.xtask(&["sync", "--dry-run"]).success().never_says("is pinned for");
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
}

#[test]
fn a_pin_at_the_upstream_alone_is_made_again_and_a_lapsed_one_is_left() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&two, "setup/b").success();
    two.git(&["push", "-q"]);
    repo.git(&["fetch", "-q"]);
    pin(&repo, "setup/b").success().says("1 path pinned");
    repo.git(&["update-ref", "-d", "refs/remotes/origin/feature"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
    write_pin(&two, "feature", "setup/a", "2020-01-01");
    two.git(&["push", "-q"]);
    repo.git(&["fetch", "-q"]);
    repo.xtask(&["status"]).success().says("pin of `setup/a` at the upstream lapsed");
    repo.xtask(&["unpin", "setup/a"]).success().says("only at the upstream; nothing to do");
}

#[test]
fn the_branch_that_git_pushes_to_is_read() {
    // It follows the main branch, and is pushed to a fork.
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    pin(&two, "setup/b").success();
    two.git(&["push", "-q"]);
    let hub = lab.path("hub");
    repo.git(&["remote", "add", "fork", hub.as_str()]);
    repo.git(&["fetch", "-q", "fork"]);
    repo.git(&["update-ref", "-d", "refs/remotes/origin/feature"]);
    repo.git(&["branch", "-q", "-u", "origin/main"]);
    assert_eq!(class_of(&repo, "setup/b"), "behind update");
    repo.git(&["config", "remote.pushDefault", "fork"]);
    assert_eq!(class_of(&repo, "setup/b"), "pinned keep");
}

#[test]
fn what_cannot_be_replaced_is_said_and_blocks_nothing() {
    let lab = Lab::new();
    let repo = own(&lab);
    // The last moment that a file may hold: 9998-12-31T23:59:59Z.
    state(&repo, 253_370_764_799 - 1_546_300_800, "2999-01-01", None, false);
    let before = repo.scene();
    repo.xtask(&["unpin", "setup/b"])
        .status(2)
        .says("cannot be replaced")
        .says("git rm -- .sync-pins/");
    pin(&repo, "setup/b").status(2).says("`since` must be before 9999");
    assert_eq!(repo.scene(), before);
}

#[test]
fn pins_that_would_be_of_no_use_are_refused() {
    let lab = Lab::new();
    let (repo, two) = two_clones(&lab);
    // On a canonical branch that is behind.
    two.git(&["switch", "-q", "orchestration-tools"]);
    two.write("setup/b", "b3\n");
    two.commit("more");
    two.git(&["push", "-q", "origin", "orchestration-tools"]);
    repo.git(&["fetch", "-q"]);
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.git(&["branch", "topic", "main"]);
    let words = ["pin", "setup/b", "--branch", "topic", "--reason", "x"];
    repo.xtask(&words).status(3).says("would have no effect").says("git pull");
    repo.git(&["pull", "-q", "--ff-only"]);
    repo.xtask(&words).success();
    // A copy of it that was merged into the branch goes on.
    repo.git(&["switch", "-q", "topic"]);
    repo.git(&["merge", "-q", "-m", "all of it", "orchestration-tools"]);
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.xtask(&["unpin", "setup/b", "--branch", "topic"])
        .success()
        .says("`setup/b` remains pinned by a pin in a commit of `topic`");

    // Where git would store another text.
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["config", "filter.up.clean", "tr a-z A-Z"]);
    repo.git(&["config", "filter.up.smudge", "tr A-Z a-z"]);
    repo.write(".gitattributes", "*.toml filter=up\n");
    repo.commit("attributes");
    pin(&repo, "setup/b").status(3).says("a filter of `.gitattributes` changes");
    assert_eq!(repo.status(), "");
    // As the hint says.
    let exempt = ".sync-pins/*.toml -filter !working-tree-encoding\n";
    for given in ["filter=up", "working-tree-encoding=UTF-16"] {
        repo.write(".gitattributes", format!("*.toml {given}\n"));
        repo.commit("attributes");
        pin(&repo, "setup/b").status(3).says(exempt.trim());
        repo.write(".gitattributes", format!("*.toml {given}\n{exempt}"));
        repo.commit("exempt");
        pin(&repo, "setup/b").success();
        repo.xtask(&["unpin", "setup/b"]).success();
        assert_eq!(repo.status(), "", "{given}");
        repo.git(&["reset", "-q", "--hard", "HEAD~2"]);
    }

    repo.xtask(&["pin", ".", "--reason", "x"]).status(2).says("name a file or folder in it");
    // A shorter pin of what a folder pins for longer.
    repo.xtask(&["pin", "setup", "--until", "60d", "--reason", "x"]).success();
    repo.xtask(&["pin", "setup/new", "--until", "2d", "--reason", "x"])
        .success()
        .says("`setup/new` is pinned until")
        .says("all the same, by the pin of `setup`");
}

#[test]
fn the_page_ends_a_pin_where_it_is() {
    let lab = Lab::new();
    let repo = own(&lab);
    repo.xtask(&["pin", "setup", "--reason", "x"]).success();
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.xtask(&["pin", "setup/b", "--branch", "main", "--reason", "x"]).success();
    repo.git(&["switch", "-q", "feature"]);
    let page = repo.xtask(&["dashboard", "--html", "-"]).success().out;
    assert!(page.contains("cargo xtask unpin setup</code>"), "{page}");
    let there = "git switch orchestration-tools &amp;&amp; cargo xtask unpin setup/b --branch main";
    assert!(page.contains(there), "{page}");
}
