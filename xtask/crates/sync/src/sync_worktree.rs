//! A sync from its options to its report: of one worktree, or of all in parallel. For example:
//!
//! ```text
//! SyncRequest { mode: Check, … } -> SyncedWorktree { report: 2 behind, failure: Some(Negative) }
//! ```

use std::path::Path;

use super::classify::PathClass;
use super::context::SyncContext;
use super::hook_policy::find_hook_policy;
use super::plan::{OverwritePolicy, WriteMode};
use super::report::{RunMode, SyncReport};
use super::rollback;
use super::run::{
    HintStyle, PlannedSync, SyncInspection, SyncOptions, apply_plan, inspect_checkout,
    inspect_for_write, load_context,
};
use super::scan::ScanDepth;
use super::worktree_lock::LockWorktree as _;
use super::write_rules::{check_write_rules, has_drift, has_skipped_paths};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::progress::SilentProgress;
use xtask_base::words::pluralize;
use xtask_config::HookMode;
use xtask_git::{Repo, Tools};

/// How many worktrees are synced in parallel; the disk is the limit, not the cores.
const MAX_PARALLEL: usize = 8;

/// What a sync is asked to do.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub mode: RunMode,
    /// With `RunMode::Check`: whether kept paths count as drift.
    pub strict: bool,
    /// Whether to fetch the canonical branch and the upstream first.
    pub fetch: bool,
    pub options: SyncOptions,
}

/// The result of one worktree.
pub struct SyncedWorktree {
    pub report: SyncReport,
    /// What the exit code says, or `None` for success.
    pub failure: Option<ErrorKind>,
}

/// Syncs one worktree, or previews it for `--check` and `--dry-run`.
pub fn sync_worktree(
    repo: &Repo,
    request: &SyncRequest,
    tools: &Tools<'_>,
) -> Result<SyncedWorktree> {
    if request.mode != RunMode::Real {
        return preview_worktree(repo, request, tools);
    }
    let options = &request.options;
    let (_lock, recovered) = tools.lock_worktree(repo)?;
    let context = load_context(repo, request.fetch)?;
    let (inspection, moved_to) = inspect_for_write(repo, context, options, tools)?;
    let planned = match inspection {
        SyncInspection::OnCanonical(context) => return Ok(skip_canonical(repo, &context, options)),
        SyncInspection::Planned(planned) => planned,
    };
    let mut synced = report_plan(repo, &planned, options, recovered);
    synced.report.moved_to = moved_to.map(|id| id.to_string());
    if synced.failure.is_none() && has_skipped_paths(&planned.plan, options) {
        synced.failure = Some(ErrorKind::Unable);
    }
    let outcome = apply_plan(repo, *planned, options, tools)?;
    if outcome.needs_cleanup {
        synced.report.warnings.push(
            "sync is complete, but its temporary files could not be removed; the next run removes them"
                .to_owned(),
        );
    }
    synced.report.record_outcome(outcome);
    Ok(synced)
}

fn preview_worktree(
    repo: &Repo,
    request: &SyncRequest,
    tools: &Tools<'_>,
) -> Result<SyncedWorktree> {
    if request.fetch {
        return Err(Error::usage("--fetch writes refs, and --check and --dry-run write nothing")
            .with_hint("run `git fetch` first"));
    }
    let options = &request.options;
    let context = load_context(repo, false)?;
    let interrupted = rollback::interrupted_note(repo);
    let planned = match inspect_checkout(repo, context, options, ScanDepth::Everything, tools)? {
        SyncInspection::OnCanonical(context) => return Ok(skip_canonical(repo, &context, options)),
        SyncInspection::Planned(planned) => planned,
    };
    let mut synced = report_plan(repo, &planned, options, interrupted);
    if options.overwrite != OverwritePolicy::Force {
        synced.report.warnings.extend(planned.describe_pinned_overlay());
    }
    if request.mode == RunMode::DryRun
        && let Err(refused) = check_write_rules(repo, &planned, options)
    {
        let (what, hints) = (refused.message(), refused.hints().join("; "));
        synced.report.warnings.push(format!("a real run refuses: {what}; {hints}"));
    }
    let found = match request.mode {
        RunMode::Check => has_drift(&planned.plan, request.strict).then_some(ErrorKind::Negative),
        _ => has_skipped_paths(&planned.plan, options).then_some(ErrorKind::Unable),
    };
    synced.failure = synced.failure.or(found);
    Ok(synced)
}

fn report_plan(
    repo: &Repo,
    planned: &PlannedSync,
    options: &SyncOptions,
    warning: Option<String>,
) -> SyncedWorktree {
    let mut report = SyncReport::new(repo, planned, options.lists_in_sync);
    report.warnings.extend(warning);
    let mut failure = planned.plan.has_conflicts().then_some(ErrorKind::Negative);
    let unknown = planned.plan.count(PathClass::Unknown);
    if unknown > 0 && options.overwrite != OverwritePolicy::Force {
        report.warnings.push(format!(
            "{} cannot be decided: shallow clone without the needed history; `git fetch --unshallow` fetches it",
            pluralize(unknown, "path")
        ));
        failure = Some(ErrorKind::Unable);
    }
    SyncedWorktree { report, failure }
}

fn skip_canonical(repo: &Repo, context: &SyncContext, options: &SyncOptions) -> SyncedWorktree {
    let why = format!("`{}` is the canonical branch; nothing to sync", context.config.branch);
    let report = SyncReport::empty(repo, context, options.mode);
    SyncedWorktree { report: SyncReport { skipped: Some(why), ..report }, failure: None }
}

/// Syncs every worktree of the repository in parallel. Returns the results by the roots of the
/// worktrees; a failure in one does not prevent the others. `warn` is called for missing worktrees.
pub fn sync_all_worktrees(
    repo: &Repo,
    request: &SyncRequest,
    tools: &Tools<'_>,
    warn: &dyn Fn(&str),
) -> Result<Vec<(String, Result<SyncedWorktree>)>> {
    if request.fetch && request.mode == RunMode::Real {
        load_context(repo, true)?;
    }
    let request = &SyncRequest { fetch: false, ..request.clone() };
    let (worktrees, gone): (Vec<_>, Vec<_>) =
        repo.list_worktrees()?.into_iter().partition(|tree| tree.is_there);
    for tree in gone {
        let root = tree.root.display();
        let why = if tree.is_locked { "the worktree is locked" } else { "`git worktree prune`" };
        warn(&format!("worktree `{root}` is missing ({why})"));
    }
    let tools = &Tools { progress: &SilentProgress, ..*tools };
    let from = repo.root();
    let mut synced = Vec::new();
    for some in worktrees.chunks(MAX_PARALLEL) {
        let done = std::thread::scope(|scope| {
            let open = |root| move || open_and_sync(from, root, request, tools);
            let threads: Vec<_> = some.iter().map(|tree| scope.spawn(open(&tree.root))).collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for (tree, outcome) in some.iter().zip(done) {
            let outcome = outcome.unwrap_or_else(|_| Err(Error::unable("the thread panicked")));
            synced.push((tree.root.display().to_string(), outcome));
        }
    }
    Ok(synced)
}

fn open_and_sync(
    from: &Path,
    root: &Path,
    request: &SyncRequest,
    tools: &Tools<'_>,
) -> Result<SyncedWorktree> {
    // A repository handle is not shared between threads.
    let repo = Repo::discover(from)?.open_worktree(root)?;
    if repo.needs_checkout() {
        let context = load_context(&repo, false)?;
        let report = SyncReport::empty(&repo, &context, request.options.mode);
        let why = "nothing is checked out here yet; skipped".to_owned();
        let report = SyncReport { warnings: vec![why.clone()], skipped: Some(why), ..report };
        return Ok(SyncedWorktree { report, failure: None });
    }
    sync_worktree(&repo, request, tools)
}

/// The result of a plain sync as a step of another command.
pub enum BestEffortSync {
    /// The canonical branch itself is checked out.
    OnCanonical,
    Synced(Box<SyncReport>),
    /// The rules refuse it, e.g. on a protected branch: what is left is for the user to decide.
    Refused(Box<SyncReport>, Error),
}

/// Syncs the branch that is checked out, as far as the rules allow. The caller holds the lock of
/// the worktree. Returns an error if the sync fails for another reason than the rules.
pub fn sync_best_effort(
    repo: &Repo,
    context: SyncContext,
    tools: &Tools<'_>,
) -> Result<BestEffortSync> {
    let options = SyncOptions { hints: HintStyle::Command, ..SyncOptions::plain() };
    let (inspection, _) = inspect_for_write(repo, context, &options, tools)?;
    let SyncInspection::Planned(planned) = inspection else {
        return Ok(BestEffortSync::OnCanonical);
    };
    let mut report = Box::new(SyncReport::new(repo, &planned, false));
    match apply_plan(repo, *planned, &options, tools) {
        Ok(outcome) => {
            report.record_outcome(outcome);
            Ok(BestEffortSync::Synced(report))
        }
        Err(refused) if refused.kind() == ErrorKind::Negative => {
            Ok(BestEffortSync::Refused(report, refused))
        }
        Err(failure) => Err(failure),
    }
}

/// Syncs the branch that was just switched to: as an overlay if the previous one had one, else by
/// the rules of the hooks. Returns the report and whether it was written, or `None` on the canonical
/// branch.
pub fn sync_switched_branch(
    repo: &Repo,
    context: SyncContext,
    had_overlay: bool,
    tools: &Tools<'_>,
) -> Result<Option<(SyncReport, RunMode)>> {
    let mode = match (had_overlay, find_hook_policy(repo, &repo.head()?, &context)?.mode) {
        (true, _) | (_, HookMode::Worktree) => Some(WriteMode::Worktree),
        (_, HookMode::Commit) => Some(WriteMode::Commit),
        (_, HookMode::Notify) => None,
    };
    let options = SyncOptions {
        mode: mode.unwrap_or(WriteMode::Commit),
        allow_protected: true,
        ..SyncOptions::plain()
    };
    let inspection = inspect_checkout(repo, context, &options, ScanDepth::Differences, tools)?;
    let SyncInspection::Planned(planned) = inspection else { return Ok(None) };
    let mut report = SyncReport::new(repo, &planned, false);
    if mode.is_none() {
        report.warnings.extend(planned.describe_pinned_overlay());
        return Ok(Some((report, RunMode::Check)));
    }
    report.record_outcome(apply_plan(repo, *planned, &options, tools)?);
    Ok(Some((report, RunMode::Real)))
}
