//! `sync`: updates the managed files of this worktree, or of all, from the canonical branch.
//!
//! ```text
//! feature/menu: 1 managed file synced from orchestration-tools (5e4d3c2b1a), commit 1a2b3c4d5e
//!   update     setup/format.toml
//! ```

use std::path::Path;

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::SyncArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::progress::SilentProgress;
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_report::sync::{RunMode, SyncReport, SyncWorktreeLine, SyncWorktreesReport};
use xtask_report::{self as report, Verbosity};
use xtask_sync::classify::PathClass;
use xtask_sync::context::SyncContext;
use xtask_sync::plan::{OverwritePolicy, WriteMode};
use xtask_sync::rollback;
use xtask_sync::run::{
    PlannedSync, SyncInspection, SyncOptions, SyncOutcome, apply_plan, check_write_rules,
    has_drift, has_skipped_paths, inspect_checkout, inspect_for_write, load_context,
};
use xtask_sync::scan::ScanDepth;
use xtask_sync::worktree_lock::LockWorktree as _;

/// The report and the exit code of one worktree.
struct WorktreeOutcome {
    report: SyncReport,
    code: u8,
}

/// How many worktrees are synced in parallel; the disk is the limit, not the cores.
const MAX_PARALLEL: usize = 8;

pub(super) fn run(session: &Session, args: &SyncArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if args.all_worktrees {
        return sync_all_worktrees(session, args, &repo);
    }
    let wishes = parse_options(session, args, &repo)?;
    if run_mode(args) == RunMode::Real && !args.json {
        session.print_requests(&repo);
    }
    let mut outcome = sync_one_worktree(&repo, args, &wishes, &session.tools(), args.fetch)?;
    if args.json {
        drop_in_sync(session, &mut outcome.report);
        report::print_json(&outcome.report)?;
    } else {
        print_report(session, &outcome.report, run_mode(args), false)?;
    }
    Ok(outcome.code)
}

fn parse_options(session: &Session, args: &SyncArgs, repo: &Repo) -> Result<SyncOptions> {
    Ok(SyncOptions {
        mode: if args.no_commit { WriteMode::Worktree } else { WriteMode::Commit },
        overwrite: match (args.force, args.merge) {
            (true, _) => OverwritePolicy::Force,
            (_, true) => OverwritePolicy::Merge,
            _ => OverwritePolicy::Keep,
        },
        only: session.repo_paths(repo, &args.paths)?,
        allow_protected: args.allow_protected,
        allow_mass_deletion: args.yes,
        lists_in_sync: session.verbosity == Verbosity::Verbose,
    })
}

fn run_mode(args: &SyncArgs) -> RunMode {
    match (args.check, args.dry_run) {
        (true, _) => RunMode::Check,
        (_, true) => RunMode::DryRun,
        _ => RunMode::Real,
    }
}

/// Syncs one worktree, or previews it for `--check` and `--dry-run`.
fn sync_one_worktree(
    repo: &Repo,
    args: &SyncArgs,
    wishes: &SyncOptions,
    tools: &Tools<'_>,
    fetch: bool,
) -> Result<WorktreeOutcome> {
    if run_mode(args) != RunMode::Real {
        return preview_one_worktree(repo, args, wishes, tools, fetch);
    }
    let (_lock, mended) = tools.lock_worktree(repo)?;
    let context = load_context(repo, fetch)?;
    let mut warnings = context.warnings.clone();
    warnings.extend(mended);
    let (looked, moved_to) = inspect_for_write(repo, context, wishes, tools)?;
    let decided = match looked {
        SyncInspection::OnCanonical(context) => return Ok(skip_canonical(repo, &context, wishes)),
        SyncInspection::Planned(decided) => decided,
    };
    let mut outcome = build_outcome(repo, &decided, wishes, warnings);
    outcome.report.moved_to = moved_to.map(|id| id.to_string());
    if outcome.code == SUCCESS && has_skipped_paths(&decided.plan, wishes) {
        outcome.code = ErrorKind::Unable.exit_code();
    }
    let SyncOutcome { commit, backup: undo, conflicts, needs_cleanup: is_untidy } =
        apply_plan(repo, *decided, wishes, tools)?;
    outcome.report.commit = commit.map(|id| id.to_string());
    outcome.report.undo = undo;
    if is_untidy {
        outcome.report.warnings.push(
            "sync is complete, but its temporary files could not be removed; the next run removes them"
                .to_owned(),
        );
    }
    for (path, file) in conflicts {
        let line = outcome.report.paths.iter_mut().find(|line| line.path == path.to_string());
        if let Some(line) = line {
            line.merge_file = Some(file.display().to_string());
        }
    }
    Ok(outcome)
}

fn preview_one_worktree(
    repo: &Repo,
    args: &SyncArgs,
    wishes: &SyncOptions,
    tools: &Tools<'_>,
    fetch: bool,
) -> Result<WorktreeOutcome> {
    if fetch {
        return Err(Error::usage("--fetch writes refs, and --check and --dry-run write nothing")
            .with_hint("run `git fetch` first"));
    }
    let context = load_context(repo, false)?;
    let mut warnings = context.warnings.clone();
    if rollback::has_unfinished_transaction(repo) {
        warnings.push(
            "an earlier run was interrupted; the next `cargo xtask sync` recovers it".to_owned(),
        );
    }
    let decided = match inspect_checkout(repo, context, wishes, ScanDepth::Everything, tools)? {
        SyncInspection::OnCanonical(context) => return Ok(skip_canonical(repo, &context, wishes)),
        SyncInspection::Planned(decided) => decided,
    };
    let mut outcome = build_outcome(repo, &decided, wishes, warnings);
    if args.dry_run
        && let Err(refused) = check_write_rules(repo, &decided, wishes)
    {
        let hints = refused.hints().join("; ");
        outcome.report.warnings.push(format!("a real run refuses: {}; {hints}", refused.message()));
    }
    if !args.check && outcome.code == SUCCESS && has_skipped_paths(&decided.plan, wishes) {
        outcome.code = ErrorKind::Unable.exit_code();
    }
    if args.check && outcome.code == SUCCESS && has_drift(&decided.plan, args.strict) {
        outcome.code = ErrorKind::Negative.exit_code();
    }
    Ok(outcome)
}

fn build_outcome(
    repo: &Repo,
    decided: &PlannedSync,
    wishes: &SyncOptions,
    warnings: Vec<String>,
) -> WorktreeOutcome {
    let PlannedSync { head, context, plan, .. } = decided;
    let in_sync = if wishes.lists_in_sync { decided.in_sync() } else { Vec::new() };
    let report = super::session::build_sync_report(repo, head, context, plan, &in_sync, warnings);
    let report = SyncReport { mode: wishes.mode.name(), ..report };
    let unknown = plan.count(PathClass::Unknown);
    let is_forced = wishes.overwrite == OverwritePolicy::Force;
    let mut outcome = WorktreeOutcome { report, code: SUCCESS };
    if plan.has_conflicts() {
        outcome.code = ErrorKind::Negative.exit_code();
    }
    if unknown > 0 && !is_forced {
        outcome.report.warnings.push(format!(
            "{} cannot be decided: shallow clone without the needed history; `git fetch --unshallow` \
             fetches it",
            report::pluralize(unknown, "path")
        ));
        outcome.code = ErrorKind::Unable.exit_code();
    }
    outcome
}

fn skip_canonical(repo: &Repo, context: &SyncContext, wishes: &SyncOptions) -> WorktreeOutcome {
    let report = super::session::empty_sync_report(repo, context);
    let why = format!("`{}` is the canonical branch; nothing to sync", context.config.branch);
    let report = SyncReport { mode: wishes.mode.name(), skipped: Some(why), ..report };
    WorktreeOutcome { report, code: SUCCESS }
}

/// Removes the paths that are in sync, unless `--verbose` is given.
fn drop_in_sync(session: &Session, report: &mut SyncReport) {
    if session.verbosity < Verbosity::Verbose {
        report.paths.retain(|line| line.class != PathClass::InSync.name());
    }
}

/// Prints the report of one worktree. If `elsewhere`, it may not be the current one, so messages on stderr name it.
fn print_report(
    session: &Session,
    report: &SyncReport,
    manner: RunMode,
    elsewhere: bool,
) -> Result<()> {
    let (prefix, at) = if elsewhere {
        (format!("{}: ", report.worktree), format!("-C '{}' ", report.worktree))
    } else {
        (String::new(), String::new())
    };
    for warning in &report.warnings {
        report::print_warning(&format!("{prefix}{warning}"));
    }
    report::print_output(&report.render_text(manner, session.verbosity))?;
    let is_urgent = report.paths.iter().any(|line| line.is_conflict);
    let loudness = if is_urgent { Verbosity::Normal } else { session.verbosity };
    for step in report.next_steps(manner, &at) {
        report::print_info(loudness, &step);
    }
    Ok(())
}

/// Syncs every worktree of the repository in parallel; a failure in one does not prevent the others.
fn sync_all_worktrees(session: &Session, args: &SyncArgs, repo: &Repo) -> CommandResult {
    let tools = session.tools();
    if args.fetch && run_mode(args) == RunMode::Real {
        load_context(repo, true)?;
    }
    let wishes = parse_options(session, args, repo)?;
    let (worktrees, gone): (Vec<_>, Vec<_>) =
        repo.list_worktrees()?.into_iter().partition(|tree| tree.is_there);
    for tree in gone {
        let root = tree.root.display();
        let why = if tree.is_locked { "the worktree is locked" } else { "`git worktree prune`" };
        report::print_warning(&format!("`{root}` is registered but not there ({why})"));
    }
    let mut outcomes: Vec<(String, Result<WorktreeOutcome>)> = Vec::new();
    for some in worktrees.chunks(MAX_PARALLEL) {
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|tree| {
                    let wishes = &wishes;
                    let tools = Tools { progress: &SilentProgress, ..tools };
                    let from = repo.root();
                    scope.spawn(move || open_and_sync(from, &tree.root, args, wishes, &tools))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for (tree, outcome) in some.iter().zip(done) {
            let outcome = outcome.unwrap_or_else(|_| Err(Error::unable("the thread panicked")));
            outcomes.push((tree.root.display().to_string(), outcome));
        }
    }
    let code = outcomes
        .iter()
        .map(|(_, outcome)| match outcome {
            Ok(outcome) => outcome.code,
            Err(failure) => failure.kind().exit_code(),
        })
        .max()
        .unwrap_or(SUCCESS);
    if args.json {
        let worktrees = outcomes.into_iter().map(|(worktree, outcome)| match outcome {
            Ok(mut outcome) => {
                drop_in_sync(session, &mut outcome.report);
                SyncWorktreeLine::Report(Box::new(outcome.report))
            }
            Err(failure) => SyncWorktreeLine::Failed { worktree, error: failure.to_string() },
        });
        let schema = "xtask.sync-worktrees/1";
        report::print_json(&SyncWorktreesReport { schema, worktrees: worktrees.collect() })?;
        return Ok(code);
    }
    for (worktree, outcome) in outcomes {
        match outcome {
            Ok(outcome) => {
                let text = outcome.report.render_text(run_mode(args), session.verbosity);
                if !text.is_empty() {
                    report::print_output(&format!("{worktree}\n"))?;
                }
                print_report(session, &outcome.report, run_mode(args), true)?;
            }
            Err(failure) => {
                report::print_output(&format!("{worktree}\n"))?;
                report::print_error(&failure);
            }
        }
    }
    Ok(code)
}

fn open_and_sync(
    from: &Path,
    root: &Path,
    args: &SyncArgs,
    wishes: &SyncOptions,
    tools: &Tools<'_>,
) -> Result<WorktreeOutcome> {
    // A repository handle is not shared between threads.
    let repo = Repo::discover(from)?.open_worktree(root)?;
    if repo.needs_checkout() {
        let context = load_context(&repo, false)?;
        let report = super::session::empty_sync_report(&repo, &context);
        let why = "nothing is checked out here yet; skipped".to_owned();
        let warnings = vec![why.clone()];
        let report =
            SyncReport { mode: wishes.mode.name(), skipped: Some(why), warnings, ..report };
        return Ok(WorktreeOutcome { report, code: SUCCESS });
    }
    sync_one_worktree(&repo, args, wishes, tools, false)
}
