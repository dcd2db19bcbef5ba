//! A failure at every step of what moves branches: no ref has moved that should not, and the same
//! command afterwards comes to the same end as one that nothing has disturbed.

use xtask_base::error::{Error, Result};
use xtask_changes::extract::{self, ExtractError, extract_changes};
use xtask_changes::resolve;
use xtask_changes::source::{find_source_branch, read_source_pins, resolve_commits};
use xtask_changes::{promote, reverse_sync};
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_propagate::rounds::{PropagateOptions, propagate_branches};
use xtask_sync::context;
use xtask_sync::worktree_lock::LockWorktree as _;

use crate::crash::{Fault, Work, run_with, steps_of};
use crate::testkit::{Lab, Place, circle};

fn propagate_all(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let aim = PropagateOptions {
        patterns: Vec::new(),
        remote: false,
        push: false,
        dry_run: false,
        allow_mass_deletion: false,
        lists_paths: false,
    };
    let outcome = propagate_branches(repo, &aim, tools)?;
    let failed = outcome
        .rows
        .values()
        .find(|row| row.status == xtask_propagate::decide::PropagateStatus::Failed);
    match failed {
        Some(row) => Err(Error::unable(row.reason.clone().unwrap_or_default())),
        None => Ok(()),
    }
}

fn extract_one(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let aim = extract::ExtractOptions {
        branch: "one".to_owned(),
        base: None,
        push: false,
        dry_run: false,
    };
    extract_changes(repo, &aim, tools).map(drop).map_err(|error| match error {
        ExtractError::Conflict(..) => Error::negative("a conflict"),
        ExtractError::Failed(failure) => failure,
    })
}

fn promote_all(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let choice = promote::select_changes(&repo.in_memory(), &[], tools)?;
    promote::promote_changes(repo, &[], &choice.selected_changes(), tools).map(drop)
}

fn take_one(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let context = context::read_context(repo)?;
    let source = find_source_branch(repo, &context, "one")?;
    let words = ["main..one".to_owned()];
    let pins = read_source_pins(repo, &context, &source, tools.world.now_seconds())?;
    let picks = resolve_commits(repo, &context, &source, &words, None, &pins)?;
    let proposal = reverse_sync::propose_commits(&repo.in_memory(), source, picks, tools)?;
    reverse_sync::land_proposal(repo, proposal, tools).map(drop)
}

fn go_on(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    resolve::continue_resolution(repo, &repo.committer(1_770_000_000)?, tools).map(drop)
}

/// Branches with changes, a collected source, and a canonical branch that has gone on.
fn scene(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    for name in ["one", "two", "three"] {
        repo.git(&["branch", name]);
    }
    repo.on_branch("one", |place| {
        place.write("setup/a", "a1\nmore\n");
        place.write("setup/new/x", "x\n");
    });
    repo.on_branch("one", |place| place.write("scripts/one", "one\n"));
    repo.on_branch("two", |place| place.write("setup/two", "two\n"));
    repo.xtask(&["extract", "two"]).success();
    repo.canonical(&[("setup/b", Some("b2\n")), ("setup/c", Some("c\n"))]);
    repo.git(&["switch", "-q", "--detach"]);
    repo
}

/// The same with a conflict that somebody has resolved.
fn resolved(lab: &Lab) -> Place<'_> {
    let repo = scene(lab);
    repo.canonical(&[("setup/a", Some("a1\nother\n"))]);
    repo.xtask(&["reverse-sync", "one", "main..one", "--resolve", "--yes"]).status(1);
    let place = lab.place("repo/.git/xtask/resolve");
    place.write("setup/a", "a1\nmore\nother\n");
    place.git(&["add", "setup/a"]);
    repo
}

fn refs(repo: &Place<'_>) -> String {
    repo.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads"])
}

/// The trees of all branches: what does not depend on when it was made.
fn trees(repo: &Place<'_>) -> String {
    repo.git(&["for-each-ref", "--format=%(refname) %(tree)", "refs/heads"])
}

/// How much may have moved when it failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    /// Nothing.
    None,
    /// Each ref for itself.
    Some,
}

fn at_every_step(scene: fn(&Lab) -> Place<'_>, work: Work, moves: Moves) {
    let original = Lab::new();
    let original = scene(&original);
    let (before, status) = (refs(&original), original.status());
    let calm = original.lab.copy();
    let calm = original.in_copy(&calm);
    let all = steps_of(&calm, work);
    let end = trees(&calm);
    assert!(all.len() > 1, "{} steps", all.len());
    for fault in [Fault::Fails, Fault::Crash] {
        for at in circle::steps(&all) {
            let copy = original.lab.copy();
            let repo = original.in_copy(&copy);
            let (done, _) = run_with(&repo, work, fault, at);
            let now = refs(&repo);
            assert!(done.is_err() || moves == Moves::Some || trees(&repo) == end, "{at} {fault:?}");
            if done.is_err() && moves == Moves::None {
                assert_eq!(now, before, "{at} {fault:?}");
            }
            assert_eq!(repo.status(), status);
            let (again, _) = run_with(&repo, work, Fault::Fails, usize::MAX);
            // What had ended but for tidying up has nothing left to do.
            if let Err(failure) = again {
                assert_eq!(trees(&repo), end, "{at} {fault:?}: {failure}");
            }
            assert_eq!(trees(&repo), end, "{at} {fault:?}");
        }
    }
}

#[test]
fn propagate_moves_no_ref_before_all_objects_are_written() {
    at_every_step(scene, propagate_all, Moves::Some);
    // A disk that fills while objects are written.
    let lab = Lab::new();
    let repo = scene(&lab);
    let before = refs(&repo);
    for at in 0..6 {
        let (done, _) = run_with(&repo, propagate_all, Fault::Crash, at);
        assert!(done.unwrap_err().to_string().contains("writ"), "{at}");
        assert_eq!(refs(&repo), before, "{at}");
    }
}

#[test]
fn extract_is_all_or_nothing() {
    at_every_step(scene, extract_one, Moves::None);
}

#[test]
fn reverse_sync_is_all_or_nothing() {
    at_every_step(scene, take_one, Moves::None);
}

#[test]
fn promote_is_all_or_nothing() {
    // The canonical branch moves as a whole; that the branch of changes follows can fail by itself.
    at_every_step(scene, promote_all, Moves::Some);
}

#[test]
fn reverse_sync_continue_is_all_or_nothing() {
    at_every_step(resolved, go_on, Moves::Some);
}

/// The canonical branch is checked out, and there is work of all kinds in its worktree.
fn checked_out(lab: &Lab) -> Place<'_> {
    let repo = scene(lab);
    repo.git(&["switch", "-q", "orchestration-tools"]);
    repo.write("src/app", "unsaved\n");
    repo.write("scripts/run.sh", "staged\n");
    repo.git(&["add", "scripts/run.sh"]);
    repo.write("notes", "untracked\n");
    repo
}

#[test]
fn reverse_sync_into_checked_out_canonical_branch_is_atomic() {
    let original = Lab::new();
    let original = checked_out(&original);
    let before = (refs(&original), original.status());
    let calm = original.lab.copy();
    let calm = original.in_copy(&calm);
    let all = steps_of(&calm, take_one);
    let (end, status) = (trees(&calm), calm.status());
    assert_eq!(status, "M  scripts/run.sh\n M src/app\n?? notes\n");
    assert_eq!(calm.read("setup/new/x"), "x\n");
    for fault in [Fault::Fails, Fault::Crash] {
        for at in circle::steps(&all) {
            let copy = original.lab.copy();
            let repo = original.in_copy(&copy);
            let (done, _) = run_with(&repo, take_one, fault, at);
            if let (Fault::Fails, Err(failure)) = (fault, &done) {
                let why = format!("{at}: {failure}");
                assert_eq!((refs(&repo), repo.status()), before, "{why}");
            }
            // The same again does the rest, and whatever writes here next tidies up.
            let (again, _) = run_with(&repo, take_one, Fault::Fails, usize::MAX);
            again.unwrap_or_else(|failure| panic!("{at} {fault:?}: {failure}"));
            run_with(
                &repo,
                |repo, tools| tools.lock_worktree(repo).map(drop),
                Fault::Fails,
                usize::MAX,
            )
            .0
            .unwrap();
            assert_eq!(
                (trees(&repo), repo.status()),
                (end.clone(), status.clone()),
                "{at} {fault:?}"
            );
        }
    }
}
