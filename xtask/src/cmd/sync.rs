//! `sync`: the heart of the product, from the command line.

use std::path::Path;

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Sync;
use xtask_base::error::{Error, Kind, Result};
use xtask_base::progress::Silent;
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_report::sync::{Manner, SyncReport, SyncReports, WorktreeLine};
use xtask_report::{self as report, Loudness};
use xtask_sync::classify::Class;
use xtask_sync::context::Context;
use xtask_sync::enter::Enter as _;
use xtask_sync::gather::Depth;
use xtask_sync::plan::{Beyond, WriteMode};
use xtask_sync::recover;
use xtask_sync::run::{
    Decided, Done, Looked, Wishes, check_rules, has_drift, leaves_behind, look, look_to_write,
    read_context, write,
};

/// What one worktree came to.
struct Outcome {
    report: SyncReport,
    code: u8,
}

/// How many worktrees are worked on at a time: the disk is the limit, not the cores.
const SIDE_BY_SIDE: usize = 8;

pub(super) fn run(session: &Session, args: &Sync) -> Exit {
    let repo = session.repo()?;
    if args.all_worktrees {
        return all(session, args, &repo);
    }
    let wishes = wishes(session, args, &repo)?;
    if manner(args) == Manner::Real && !args.json {
        session.tell_requests(&repo);
    }
    let mut outcome = one(&repo, args, &wishes, &session.tools(), args.fetch)?;
    if args.json {
        thin(session, &mut outcome.report);
        report::answer_json(&outcome.report)?;
    } else {
        tell(session, &outcome.report, manner(args), false)?;
    }
    Ok(outcome.code)
}

fn wishes(session: &Session, args: &Sync, repo: &Repo) -> Result<Wishes> {
    Ok(Wishes {
        mode: if args.no_commit { WriteMode::Worktree } else { WriteMode::Commit },
        beyond: match (args.force, args.merge) {
            (true, _) => Beyond::Force,
            (_, true) => Beyond::Merge,
            _ => Beyond::Nothing,
        },
        only: session.repo_paths(repo, &args.paths)?,
        allow_protected: args.allow_protected,
        allow_mass_deletion: args.yes,
        lists_in_sync: session.loudness == Loudness::Verbose,
    })
}

fn manner(args: &Sync) -> Manner {
    match (args.check, args.dry_run) {
        (true, _) => Manner::Check,
        (_, true) => Manner::DryRun,
        _ => Manner::Real,
    }
}

/// One worktree.
fn one(
    repo: &Repo,
    args: &Sync,
    wishes: &Wishes,
    tools: &Tools<'_>,
    fetch: bool,
) -> Result<Outcome> {
    if manner(args) != Manner::Real {
        return only_look(repo, args, wishes, tools, fetch);
    }
    let (_lock, mended) = tools.enter(repo)?;
    let context = read_context(repo, fetch)?;
    let mut warnings = context.warnings.clone();
    warnings.extend(mended);
    let (looked, moved_to) = look_to_write(repo, context, wishes, tools)?;
    let decided = match looked {
        Looked::OnCanonical(context) => return Ok(on_canonical(repo, &context, wishes)),
        Looked::Decided(decided) => decided,
    };
    let mut outcome = described(repo, &decided, wishes, warnings);
    outcome.report.moved_to = moved_to.map(|id| id.to_string());
    if outcome.code == DONE && leaves_behind(&decided.plan, wishes) {
        outcome.code = Kind::Unable.code();
    }
    let Done { commit, undo, conflicts, is_untidy } = write(repo, *decided, wishes, tools)?;
    outcome.report.commit = commit.map(|id| id.to_string());
    outcome.report.undo = undo;
    if is_untidy {
        outcome.report.warnings.push(
            "all is done, but what the run left behind could not be removed; the next one does it"
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

fn only_look(
    repo: &Repo,
    args: &Sync,
    wishes: &Wishes,
    tools: &Tools<'_>,
    fetch: bool,
) -> Result<Outcome> {
    if fetch {
        return Err(Error::usage("--fetch writes refs, and --check and --dry-run write nothing")
            .hint("`git fetch` first, then look"));
    }
    let context = read_context(repo, false)?;
    let mut warnings = context.warnings.clone();
    if recover::is_unfinished(repo) {
        warnings.push(
            "an earlier run was cut short; the next `cargo xtask sync` puts it right".to_owned(),
        );
    }
    let decided = match look(repo, context, wishes, Depth::Everything, tools)? {
        Looked::OnCanonical(context) => return Ok(on_canonical(repo, &context, wishes)),
        Looked::Decided(decided) => decided,
    };
    let mut outcome = described(repo, &decided, wishes, warnings);
    if args.dry_run
        && let Err(refused) = check_rules(repo, &decided, wishes)
    {
        let hints = refused.hints().join("; ");
        outcome.report.warnings.push(format!("a real run refuses: {}; {hints}", refused.what()));
    }
    if !args.check && outcome.code == DONE && leaves_behind(&decided.plan, wishes) {
        outcome.code = Kind::Unable.code();
    }
    if args.check && outcome.code == DONE && has_drift(&decided.plan, args.strict) {
        outcome.code = Kind::No.code();
    }
    Ok(outcome)
}

fn described(repo: &Repo, decided: &Decided, wishes: &Wishes, warnings: Vec<String>) -> Outcome {
    let Decided { head, context, plan, .. } = decided;
    let in_sync = if wishes.lists_in_sync { decided.in_sync() } else { Vec::new() };
    let report = super::session::describe(repo, head, context, plan, &in_sync, warnings);
    let report = SyncReport { mode: wishes.mode.name(), ..report };
    let unknown = plan.count(Class::Unknown);
    let is_forced = wishes.beyond == Beyond::Force;
    let mut outcome = Outcome { report, code: DONE };
    if plan.has_conflicts() {
        outcome.code = Kind::No.code();
    }
    if unknown > 0 && !is_forced {
        outcome.report.warnings.push(format!(
            "{} cannot be decided: the history that would tell is not here; `git fetch --unshallow` \
             brings it",
            report::count(unknown, "path")
        ));
        outcome.code = Kind::Unable.code();
    }
    outcome
}

fn on_canonical(repo: &Repo, context: &Context, wishes: &Wishes) -> Outcome {
    let report = super::session::empty(repo, context);
    let why = format!(
        "`{}` is the canonical branch; there is nothing to sync into it",
        context.config.branch
    );
    let report = SyncReport { mode: wishes.mode.name(), skipped: Some(why), ..report };
    Outcome { report, code: DONE }
}

/// Leaves out what is in sync, unless the user wants to hear everything.
fn thin(session: &Session, report: &mut SyncReport) {
    if session.loudness < Loudness::Verbose {
        report.paths.retain(|line| line.class != Class::InSync.name());
    }
}

/// Tells what one worktree came to. `elsewhere` says that it may not be the one we are in, so that
/// what is said on stderr names it.
fn tell(session: &Session, report: &SyncReport, manner: Manner, elsewhere: bool) -> Result<()> {
    let (prefix, at) = if elsewhere {
        (format!("{}: ", report.worktree), format!("-C '{}' ", report.worktree))
    } else {
        (String::new(), String::new())
    };
    for warning in &report.warnings {
        report::warn(&format!("{prefix}{warning}"));
    }
    report::answer(&report.text(manner, session.loudness))?;
    let is_urgent = report.paths.iter().any(|line| line.is_conflict);
    let loudness = if is_urgent { Loudness::Usual } else { session.loudness };
    for step in report.next_steps(manner, &at) {
        report::story(loudness, &step);
    }
    Ok(())
}

/// Every worktree of the repository, side by side; one that fails does not keep the others from
/// being done.
fn all(session: &Session, args: &Sync, repo: &Repo) -> Exit {
    let tools = session.tools();
    if args.fetch && manner(args) == Manner::Real {
        read_context(repo, true)?;
    }
    let wishes = wishes(session, args, repo)?;
    let (worktrees, gone): (Vec<_>, Vec<_>) =
        repo.worktrees()?.into_iter().partition(|tree| tree.is_there);
    for tree in gone {
        let root = tree.root.display();
        let why = if tree.is_locked { "it is locked" } else { "`git worktree prune`" };
        report::warn(&format!("`{root}` is registered but not there ({why})"));
    }
    let mut outcomes: Vec<(String, Result<Outcome>)> = Vec::new();
    for some in worktrees.chunks(SIDE_BY_SIDE) {
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|tree| {
                    let wishes = &wishes;
                    let tools = Tools { progress: &Silent, ..tools };
                    let from = repo.root();
                    scope.spawn(move || in_worktree(from, &tree.root, args, wishes, &tools))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for (tree, outcome) in some.iter().zip(done) {
            let outcome =
                outcome.unwrap_or_else(|_| Err(Error::unable("the work on it broke off")));
            outcomes.push((tree.root.display().to_string(), outcome));
        }
    }
    let code = outcomes
        .iter()
        .map(|(_, outcome)| match outcome {
            Ok(outcome) => outcome.code,
            Err(failure) => failure.kind().code(),
        })
        .max()
        .unwrap_or(DONE);
    if args.json {
        let worktrees = outcomes.into_iter().map(|(worktree, outcome)| match outcome {
            Ok(mut outcome) => {
                thin(session, &mut outcome.report);
                WorktreeLine::Report(Box::new(outcome.report))
            }
            Err(failure) => WorktreeLine::Failed { worktree, error: failure.to_string() },
        });
        let schema = "xtask.sync-worktrees/1";
        report::answer_json(&SyncReports { schema, worktrees: worktrees.collect() })?;
        return Ok(code);
    }
    for (worktree, outcome) in outcomes {
        match outcome {
            Ok(outcome) => {
                let text = outcome.report.text(manner(args), session.loudness);
                if !text.is_empty() {
                    report::answer(&format!("{worktree}\n"))?;
                }
                tell(session, &outcome.report, manner(args), true)?;
            }
            Err(failure) => {
                report::answer(&format!("{worktree}\n"))?;
                report::failure(&failure);
            }
        }
    }
    Ok(code)
}

fn in_worktree(
    from: &Path,
    root: &Path,
    args: &Sync,
    wishes: &Wishes,
    tools: &Tools<'_>,
) -> Result<Outcome> {
    // Each thread opens the repository for itself.
    let repo = Repo::discover(from)?.open_worktree(root)?;
    if repo.awaits_checkout() {
        let context = read_context(&repo, false)?;
        let report = super::session::empty(&repo, &context);
        let why = "nothing is checked out here yet, so it is left alone".to_owned();
        let warnings = vec![why.clone()];
        let report =
            SyncReport { mode: wishes.mode.name(), skipped: Some(why), warnings, ..report };
        return Ok(Outcome { report, code: DONE });
    }
    one(&repo, args, wishes, tools, false)
}
