//! Failure and crash at every step of a run: afterwards all is as before or all is as planned, and
//! the next command mends what is left.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use xtask_base::date::Date;
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_base::files::{Disk, DiskOperation};
use xtask_base::path::RepoPath;
use xtask_base::progress::SilentProgress;
use xtask_base::signals::Interrupts;
use xtask_config::Pin;
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_sync::context;
use xtask_sync::overlay_removal::remove_overlay;
use xtask_sync::pin_commit::{PinRequest, change_pins};
use xtask_sync::plan::{OverwritePolicy, WriteMode};
use xtask_sync::run::{SyncInspection, SyncOptions, apply_plan, inspect_checkout};
use xtask_sync::scan::ScanDepth;
use xtask_sync::undo;
use xtask_sync::worktree_lock::LockWorktree as _;

use crate::testkit::{Lab, Place, Scene, circle, program};

/// How a step goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This step fails, as on a full disk; all others work.
    Fails,
    /// The process is gone from this step on.
    Crash,
}

pub fn world(place: &Place<'_>) -> Environment {
    let env =
        place.environment().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let program = program().into();
    Environment {
        cwd: place.dir.clone().into(),
        program,
        variables: env,
        clock: || Duration::from_secs(1_770_000_000),
    }
}

/// What is run against the faults.
pub type Work = fn(&Repo, &Tools<'_>) -> Result<()>;

/// Runs `work` with the fault at step `at`; says how many steps there were before it ended.
pub fn run_with(
    place: &Place<'_>,
    work: impl Fn(&Repo, &Tools<'_>) -> Result<()>,
    fault: Fault,
    at: usize,
) -> (Result<()>, usize) {
    let (done, steps) = watched(place, work, fault, at);
    (done, steps.len())
}

/// Runs `work` undisturbed; says which steps it takes.
pub fn steps_of(
    place: &Place<'_>,
    work: impl Fn(&Repo, &Tools<'_>) -> Result<()>,
) -> Vec<DiskOperation> {
    let (done, steps) = watched(place, work, Fault::Fails, usize::MAX);
    done.unwrap();
    steps
}

/// Runs `work` with the fault at step `at`; says which steps there were before it ended.
pub fn watched(
    place: &Place<'_>,
    work: impl Fn(&Repo, &Tools<'_>) -> Result<()>,
    fault: Fault,
    at: usize,
) -> (Result<()>, Vec<DiskOperation>) {
    let world = world(place);
    let repo = Repo::discover(place.dir.as_std_path()).unwrap();
    on_faulty_disk(fault, at, |disk| {
        disk.skip_fsync();
        let tools = Tools {
            finishing_operation: None,
            world: &world,
            disk,
            interrupts: &Interrupts::without_handlers(),
            progress: &SilentProgress,
            on_wait: &|_| {},
        };
        work(&repo, &tools)
    })
}

/// Runs `work` on a disk with the fault at step `at`; says which steps there were before it ended.
pub fn on_faulty_disk<T>(
    fault: Fault,
    at: usize,
    work: impl FnOnce(&Disk<'_>) -> T,
) -> (T, Vec<DiskOperation>) {
    let steps = Mutex::new(Vec::new());
    let gate = |next: DiskOperation| -> io::Result<()> {
        let mut steps = steps.lock().unwrap();
        let step = steps.len();
        steps.push(next);
        let fails = match fault {
            Fault::Fails => step == at,
            Fault::Crash => step >= at,
        };
        if fails { Err(io::Error::other(format!("fault at step {at}"))) } else { Ok(()) }
    };
    let done = work(&Disk::with_gate(&gate));
    (done, steps.into_inner().unwrap())
}

/// Runs something with tools that nothing disturbs.
pub fn with_tools<T>(
    place: &Place<'_>,
    world: &Environment,
    work: impl FnOnce(&Repo, &Tools<'_>) -> T,
) -> T {
    let tools = Tools {
        finishing_operation: None,
        world,
        disk: &Disk::real(),
        interrupts: &Interrupts::without_handlers(),
        progress: &SilentProgress,
        on_wait: &|_| {},
    };
    work(&Repo::discover(place.dir.as_std_path()).unwrap(), &tools)
}

fn sync_with(repo: &Repo, tools: &Tools<'_>, wishes: &SyncOptions) -> Result<()> {
    let (_lock, _) = tools.lock_worktree(repo)?;
    let context = context::read_context(repo)?;
    match inspect_checkout(repo, context, wishes, ScanDepth::Everything, tools)? {
        SyncInspection::Planned(decided) => apply_plan(repo, *decided, wishes, tools).map(drop),
        SyncInspection::OnCanonical(_) => panic!("the scene is wrong"),
    }
}

fn forced_sync(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let wishes = SyncOptions {
        overwrite: OverwritePolicy::Force,
        allow_mass_deletion: true,
        ..SyncOptions::plain()
    };
    sync_with(repo, tools, &wishes)
}

pub fn plain_sync(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    sync_with(repo, tools, &SyncOptions::plain())
}

fn overlay(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let wishes = SyncOptions {
        mode: WriteMode::Worktree,
        allow_mass_deletion: true,
        ..SyncOptions::plain()
    };
    sync_with(repo, tools, &wishes)
}

fn take_overlay_away(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let (_lock, _) = tools.lock_worktree(repo)?;
    remove_overlay(repo, tools).map(drop)
}

fn undo_last(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let (_lock, _) = tools.lock_worktree(repo)?;
    let backup = undo::find_backup(repo, None)?;
    undo::undo_run(&tools.apply_context(repo), &repo.head()?, backup).map(drop)
}

/// Two new pins, in place of one that has lapsed.
fn pin_two(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let request = PinRequest::Pin {
        paths: vec![RepoPath::new("setup/a"), RepoPath::new("scripts")],
        until: Date::parse("2026-12-30").unwrap(),
        reason: "why".to_owned(),
        branch: None,
    };
    change_pins(repo, &request, false, tools).map(drop)
}

fn unpin_one(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let request = PinRequest::Unpin { paths: vec![RepoPath::new("scripts")], branch: None };
    change_pins(repo, &request, false, tools).map(drop)
}

/// A branch on which everything happens at once: update, create in new folders, delete until a
/// folder is empty, a mode, a symlink, a file that becomes a folder; with staged, unsaved and
/// untracked work that is the user's.
fn busy(place: &Place<'_>) {
    place.write("setup/gone/x", "x\n");
    place.write("setup/swap", "a file\n");
    place.link("a", "setup/link");
    place.commit("more set-up");
    place.git(&["branch", "--force", "orchestration-tools"]);
    place.git(&["switch", "--quiet", "-c", "feature"]);
    place.write("src/app", "mine\n");
    place.commit("work");
    place.on_branch("orchestration-tools", |other| {
        other.write("setup/a", "a2\n");
        other.make_executable("setup/b");
        for gone in ["setup/gone/x", "setup/swap", "setup/link"] {
            other.remove(gone);
        }
        other.write("setup/swap/inside", "in\n");
        other.write("setup/new/deep/file", "deep\n");
        other.link("b", "setup/link");
        other.write("scripts/run.sh", "#!/bin/sh\necho run 2\n");
        other.make_executable("scripts/run.sh");
    });
    place.write("src/app", "staged\n");
    place.git(&["add", "src/app"]);
    place.write("src/app", "and unsaved\n");
    place.write("src/new", "untracked\n");
}

/// Runs `work` with every fault at every step, each in a copy in which `first` was done; `after` is the
/// scene without a fault.
fn at_every_step(place: &Place<'_>, first: Option<Work>, work: Work, after: &Scene) {
    let begin = |place: &Place<'_>| {
        if let Some(first) = first {
            run_with(place, first, Fault::Fails, usize::MAX).0.unwrap();
        }
    };
    let calm = place.lab.copy();
    let calm = place.in_copy(&calm);
    begin(&calm);
    let before = calm.scene();
    assert_ne!(&before, after, "the work does something");
    let all = steps_of(&calm, work);
    assert_eq!(&calm.scene(), after);
    let mut seen = (0, 0);
    for fault in [Fault::Fails, Fault::Crash] {
        let is_main = place.dir.ends_with("repo");
        for at in if is_main { circle::steps(&all) } else { circle::few_steps(&all) } {
            let copy = place.lab.copy();
            let place = place.in_copy(&copy);
            begin(&place);
            let (done, steps) = run_with(&place, work, fault, at);
            let case = format!("{fault:?} at step {at}: {done:?}");
            if fault == Fault::Crash || done.is_ok() {
                // The process is gone, or could not tidy up: the next command mends, whatever it
                // is for.
                let (mended, _) = run_with(&place, enter, Fault::Fails, usize::MAX);
                mended.unwrap_or_else(|error| panic!("{error}; {case}"));
            }
            let scene = place.scene();
            if fault == Fault::Fails && done.is_err() {
                assert_eq!(scene, before, "a failure leaves all as it was; {case}");
            }
            if scene == before {
                seen.0 += 1;
                assert!(done.is_err() || at >= steps, "success that changed nothing; {case}");
            } else {
                assert_eq!(&scene, after, "neither before nor after; {case}");
                seen.1 += 1;
                assert!(done.is_ok(), "failure that changed something; {case}");
            }
            let state = place.git_folder().join("xtask");
            for name in ["journal", "index.old", "index.new", "index.lock-text"] {
                assert!(!state.join(name).exists(), "`{name}` is left; {case}");
            }
            assert!(!place.git_folder().join("index.lock").exists(), "{case}");
        }
    }
    assert!(seen.0 > 5 && seen.1 > 1, "both outcomes were seen: {seen:?}");
}

fn enter(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    tools.lock_worktree(repo).map(drop)
}

/// The scene after `work`, without any fault.
fn outcome(place: &Place<'_>, work: Work) -> Scene {
    let copy = place.lab.copy();
    let place = place.in_copy(&copy);
    run_with(&place, work, Fault::Fails, usize::MAX).0.unwrap();
    place.scene()
}

fn in_main_and_linked_worktree(test: impl Fn(&Place<'_>)) {
    let lab = Lab::new();
    let repo = lab.repo();
    busy(&repo);
    test(&repo);
    let lab = Lab::new();
    let repo = lab.repo();
    let dir = lab.path("linked");
    repo.git(&["worktree", "add", "--quiet", "--detach", dir.as_str()]);
    let linked = lab.place("linked");
    busy(&linked);
    test(&linked);
}

#[test]
fn interrupted_sync_commit_is_all_or_nothing() {
    in_main_and_linked_worktree(|place| {
        let after = outcome(place, forced_sync);
        at_every_step(place, None, forced_sync, &after);
    });
}

#[test]
fn interrupted_parallel_sync_of_many_files_is_all_or_nothing() {
    let lab = Lab::new();
    let place = lab.repo();
    for number in 0..40 {
        place.write(&format!("setup/many/{number}"), format!("{number}\n"));
    }
    place.commit("many");
    place.git(&["branch", "--force", "orchestration-tools"]);
    place.git(&["switch", "--quiet", "-c", "feature"]);
    place.on_branch("orchestration-tools", |other| {
        for number in 0..80 {
            other.write(&format!("setup/many/{number}"), format!("{number} again\n"));
        }
    });
    let after = outcome(&place, forced_sync);
    let all = steps_of(&place.in_copy(&lab.copy()), forced_sync);
    let creations = all.iter().filter(|step| **step == DiskOperation::Create).count();
    assert!(creations >= 80, "{creations}");
    at_every_step(&place, None, forced_sync, &after);
}

/// Takes the sync commit away, and leaves the user's staged and unsaved work.
fn drop_commit(place: &Place<'_>, head: &str) {
    place.git(&["stash", "--quiet", "--include-untracked"]);
    place.git(&["reset", "--quiet", "--hard", head]);
    place.git(&["stash", "pop", "--quiet", "--index"]);
}

#[test]
fn writing_and_removing_an_overlay_is_all_or_nothing() {
    in_main_and_linked_worktree(|place| {
        let before = place.scene();
        let after = outcome(place, overlay);
        at_every_step(place, None, overlay, &after);
        at_every_step(place, Some(overlay), take_overlay_away, &before);
    });
}

#[test]
fn interrupted_undo_is_all_or_nothing() {
    in_main_and_linked_worktree(|place| {
        place.write("setup/a", "unsaved\n");
        let before = place.scene();
        at_every_step(place, Some(forced_sync), undo_last, &before);
    });
}

#[test]
fn interrupted_pin_and_unpin_are_all_or_nothing() {
    in_main_and_linked_worktree(|place| {
        let lapsed = Pin {
            branch: "feature".to_owned(),
            path: RepoPath::new("setup/b"),
            until: Date::parse("2020-01-01").unwrap(),
            reason: "why".to_owned(),
            by: "Ada".to_owned(),
            since: 1_546_300_800,
            ended: false,
            replaced_until: None,
        };
        let file = lapsed.file_path().to_string();
        place.write(&file, lapsed.render());
        place.git(&["add", &file]);
        place.git(&["commit", "-qm", "pinned", "--", &file]);
        let after = outcome(place, pin_two);
        at_every_step(place, None, pin_two, &after);
        run_with(place, pin_two, Fault::Fails, usize::MAX).0.unwrap();
        let after = outcome(place, unpin_one);
        at_every_step(place, None, unpin_one, &after);
    });
}

#[test]
fn recovery_keeps_files_saved_after_the_crash() {
    let lab = Lab::new();
    let place = lab.repo();
    busy(&place);
    // Find a crash after the files are swapped in and before the branch moves.
    let steps = {
        let head = place.head();
        let (done, steps) = run_with(&place, forced_sync, Fault::Fails, usize::MAX);
        done.unwrap();
        drop_commit(&place, &head);
        steps
    };
    let mut found = false;
    for at in 0..steps {
        run_with(&place, forced_sync, Fault::Crash, at).0.ok();
        let is_swapped = place.read("setup/a") == "a2\n" && place.head() == place.id("feature");
        if is_swapped && place.git_folder().join("xtask/journal").exists() {
            found = true;
            place.write("setup/a", "saved after the crash\n");
            run_with(&place, enter, Fault::Fails, usize::MAX).0.unwrap();
            assert_eq!(place.read("setup/a"), "saved after the crash\n", "crash at {at}");
            place.write("setup/a", "a1\n");
        } else {
            run_with(&place, enter, Fault::Fails, usize::MAX).0.unwrap();
        }
        if place.head() != place.id("feature~0") || place.read("setup/a") != "a1\n" {
            break;
        }
    }
    assert!(found, "no crash left the files swapped in");
}

/// Runs `work`; when a file is to be swapped, `meddle` comes first, and with the swap all ends at once.
fn killed_after_a_swap(
    place: &Place<'_>,
    work: Work,
    swap: DiskOperation,
    meddle: impl Fn() + Sync,
) {
    let world = world(place);
    let repo = Repo::discover(place.dir.as_std_path()).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let gate = |step: DiskOperation| -> io::Result<()> {
        if is_over.load(Ordering::SeqCst) {
            return Err(io::Error::other("dead"));
        }
        if step == swap {
            meddle();
            is_over.store(true, Ordering::SeqCst);
        }
        Ok(())
    };
    let disk = Disk::with_gate(&gate);
    let tools = Tools {
        finishing_operation: None,
        world: &world,
        disk: &disk,
        interrupts: &Interrupts::without_handlers(),
        progress: &SilentProgress,
        on_wait: &|_| {},
    };
    work(&repo, &tools).unwrap_err();
    assert!(is_over.load(Ordering::SeqCst));
}

/// What comes out of a swap was saved after the look, and nobody has seen it when all ends.
#[test]
fn recovery_restores_edits_made_right_before_the_swap() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-q", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/b", None)]);
    for (path, swap) in
        [("setup/a", DiskOperation::Exchange), ("setup/b", DiskOperation::RenameNoReplace)]
    {
        // Either it is written in place, or another file takes the name.
        for renames in [false, true] {
            let copy = lab.copy();
            let repo = repo.in_copy(&copy);
            if path == "setup/a" {
                // Removals come first, and are not what this is about.
                repo.remove("setup/b");
                repo.git(&["commit", "-qam", "without"]);
            }
            let meddle = || {
                let aim = if renames { "newer" } else { path };
                repo.write(aim, "the newest work\n");
                if renames {
                    std::fs::rename(repo.dir.join("newer"), repo.dir.join(path)).unwrap();
                }
            };
            killed_after_a_swap(&repo, plain_sync, swap, meddle);
            assert_ne!(
                std::fs::read_to_string(repo.dir.join(path)).ok().as_deref(),
                Some("the newest work\n")
            );
            repo.xtask(&["sync"]).says("interrupted and has been repaired");
            assert_eq!(repo.read(path), "the newest work\n", "{renames}");
            assert!(!repo.git_folder().join("xtask/put-aside").exists());
        }
    }
    // Where its place is taken again it waits, and where is said.
    killed_after_a_swap(&repo, plain_sync, DiskOperation::RenameNoReplace, || {
        repo.write("setup/b", "the newest work\n")
    });
    repo.write("setup/b", "and one newer still\n");
    let ran = repo.xtask(&["sync"]).says("a concurrent change to `setup/b` was saved as");
    assert_eq!(repo.read("setup/b"), "and one newer still\n");
    let kept: Vec<_> =
        std::fs::read_dir(repo.git_folder().join("xtask/put-aside")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(std::fs::read_to_string(kept[0].path()).unwrap(), "the newest work\n");
    assert!(ran.err.contains(&kept[0].path().display().to_string()), "{}", ran.err);
}

#[test]
fn damaged_or_newer_journal_is_reported_without_changes() {
    let lab = Lab::new();
    let place = lab.repo();
    busy(&place);
    let journal = place.git_folder().join("xtask/journal");
    std::fs::create_dir_all(journal.parent().unwrap()).unwrap();
    std::fs::write(&journal, "xtask.journal/1\nnonsense\n{}").unwrap();
    let before = place.scene();
    place.xtask(&["sync"]).status(3).says("the journal of an earlier run is damaged");
    place.xtask(&["status"]).success().says("an earlier run was interrupted");
    assert_eq!(place.scene(), before);
    std::fs::write(&journal, "xtask.journal/9\nnonsense\n{}").unwrap();
    place.xtask(&["sync"]).status(3).says("written by a newer xtask");
}

#[test]
fn check_and_status_report_a_crashed_run_without_writing() {
    let lab = Lab::new();
    let place = lab.repo();
    busy(&place);
    for at in 0.. {
        run_with(&place, forced_sync, Fault::Crash, at).0.ok();
        if place.git_folder().join("xtask/journal").exists() {
            break;
        }
    }
    let before = crate::testkit::trace(place.dir.as_std_path());
    place.xtask(&["sync", "--check"]).says("was interrupted");
    place.xtask(&["status"]).says("was interrupted");
    assert_eq!(crate::testkit::trace(place.dir.as_std_path()), before);
    place.xtask(&["sync"]).success().says("has been repaired");
}

/// A forced sync over an edit that dies right before the branch moves.
fn crashed_before_the_branch_moves(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.write("setup/a", "PRECIOUS\n");
    let is_gone = std::sync::atomic::AtomicBool::new(false);
    let gate = |step: DiskOperation| -> io::Result<()> {
        if step == DiskOperation::Other("move the branch") {
            is_gone.store(true, Ordering::SeqCst);
        }
        if is_gone.load(Ordering::SeqCst) { Err(io::Error::other("gone")) } else { Ok(()) }
    };
    let disk = Disk::with_gate(&gate);
    let world = world(&repo);
    let tools = Tools {
        finishing_operation: None,
        world: &world,
        disk: &disk,
        interrupts: &Interrupts::without_handlers(),
        progress: &SilentProgress,
        on_wait: &|_| {},
    };
    forced_sync(&Repo::discover(repo.dir.as_std_path()).unwrap(), &tools).unwrap_err();
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert!(repo.has(".git/index.lock"));
    repo
}

#[test]
fn backup_is_kept_if_recovery_did_not_restore_its_content() {
    let lab = Lab::new();
    let repo = crashed_before_the_branch_moves(&lab);
    repo.write("setup/a", "a2\nmore work\n");
    repo.xtask(&["sync"]).success().says("has been repaired").says("undo --list");
    assert_eq!(repo.read("setup/a"), "a2\nmore work\n");
    let backup = repo.git(&["for-each-ref", "--format=%(refname)", "refs/xtask/backup"]);
    let held = repo.git(&["show", &format!("{}:worktree/setup/a", backup.trim())]);
    assert_eq!(held, "PRECIOUS\n");
}

#[test]
fn crashed_sync_is_fully_rolled_back_by_the_next_command() {
    let lab = Lab::new();
    let repo = crashed_before_the_branch_moves(&lab);
    repo.xtask(&["undo"]).status(3).says("has been repaired");
    assert_eq!(repo.read("setup/a"), "PRECIOUS\n");
    assert_eq!(repo.status(), " M setup/a\n");
}

#[test]
fn recovery_does_not_revert_content_committed_after_the_crash() {
    let lab = Lab::new();
    let repo = crashed_before_the_branch_moves(&lab);
    repo.remove(".git/index.lock");
    repo.git(&["commit", "--quiet", "-am", "going on"]);
    repo.xtask(&["sync"]).success().says("has been repaired");
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(repo.status(), "");
}
