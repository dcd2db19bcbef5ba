//! `sync`: updates the managed files of this worktree, or of all, from the canonical branch.
//!
//! ```text
//! feature/menu: 1 managed file synced from orchestration-tools (5e4d3c2b1a), commit 1a2b3c4d5e
//!   update     setup/format.toml
//! ```

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::SyncArgs;
use xtask_base::error::{ErrorKind, Result};
use xtask_git::Repo;
use xtask_report::{self as report, Verbosity};
use xtask_sync::classify::PathClass;
use xtask_sync::plan::{OverwritePolicy, WriteMode};
use xtask_sync::report::{RunMode, SyncReport, SyncWorktreeLine, SyncWorktreesReport};
use xtask_sync::run::{HintStyle, SyncOptions};
use xtask_sync::sync_worktree::{SyncRequest, SyncedWorktree, sync_all_worktrees, sync_worktree};

pub(super) fn run(session: &Session, args: &SyncArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let request = parse_request(session, args, &repo)?;
    if args.all_worktrees {
        let tools = session.tools();
        let synced = sync_all_worktrees(&repo, &request, &tools, &report::print_warning)?;
        return print_all(session, args, request.mode, synced);
    }
    if request.mode == RunMode::Real && !args.json {
        session.print_requests(&repo);
    }
    let mut synced = sync_worktree(&repo, &request, &session.tools())?;
    if args.json {
        drop_in_sync(session, &mut synced.report);
        report::print_json(&synced.report)?;
    } else {
        print_report(session, &synced.report, request.mode, false)?;
    }
    Ok(synced.failure.map_or(SUCCESS, ErrorKind::exit_code))
}

fn parse_request(session: &Session, args: &SyncArgs, repo: &Repo) -> Result<SyncRequest> {
    Ok(SyncRequest {
        mode: match (args.check, args.dry_run) {
            (true, _) => RunMode::Check,
            (_, true) => RunMode::DryRun,
            _ => RunMode::Real,
        },
        strict: args.strict,
        fetch: args.fetch,
        options: SyncOptions {
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
            hints: HintStyle::Option,
        },
    })
}

/// Removes the paths that are in sync, unless `--verbose` is given.
fn drop_in_sync(session: &Session, report: &mut SyncReport) {
    if session.verbosity < Verbosity::Verbose {
        report.paths.retain(|line| line.class != PathClass::InSync);
    }
}

/// Prints the report of one worktree. If `elsewhere`, it may not be the current one, so messages on stderr name it.
fn print_report(
    session: &Session,
    report: &SyncReport,
    mode: RunMode,
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
    report::print_output(&report.render_text(mode, session.verbosity))?;
    let is_urgent = report.paths.iter().any(|line| line.is_conflict);
    let verbosity = if is_urgent { Verbosity::Normal } else { session.verbosity };
    for step in report.next_steps(mode, &at) {
        report::print_info(verbosity, &step);
    }
    Ok(())
}

/// Prints the results of all worktrees, and returns the highest exit code.
fn print_all(
    session: &Session,
    args: &SyncArgs,
    mode: RunMode,
    synced: Vec<(String, Result<SyncedWorktree>)>,
) -> CommandResult {
    let code = |(_, outcome): &(String, Result<SyncedWorktree>)| match outcome {
        Ok(synced) => synced.failure.map_or(SUCCESS, ErrorKind::exit_code),
        Err(failure) => failure.kind().exit_code(),
    };
    let code = synced.iter().map(code).max().unwrap_or(SUCCESS);
    if args.json {
        let worktrees = synced.into_iter().map(|(worktree, outcome)| match outcome {
            Ok(mut synced) => {
                drop_in_sync(session, &mut synced.report);
                SyncWorktreeLine::Report(Box::new(synced.report))
            }
            Err(failure) => SyncWorktreeLine::Failed { worktree, error: failure.to_string() },
        });
        let schema = "xtask.sync-worktrees/1";
        report::print_json(&SyncWorktreesReport { schema, worktrees: worktrees.collect() })?;
        return Ok(code);
    }
    for (worktree, outcome) in synced {
        match outcome {
            Ok(SyncedWorktree { report, .. }) => {
                if !report.render_text(mode, session.verbosity).is_empty() {
                    report::print_output(&format!("{worktree}\n"))?;
                }
                print_report(session, &report, mode, true)?;
            }
            Err(failure) => {
                report::print_output(&format!("{worktree}\n"))?;
                report::print_error(&failure);
            }
        }
    }
    Ok(code)
}
