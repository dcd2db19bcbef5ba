//! The rounds of a run: branches that moved during one round are decided again in the next, at most
//! `MAX_ROUNDS` times. Each round passes data on like this:
//!
//! ```text
//! patterns -> TargetBranch -> BranchRow (WillUpdate) -> BranchRow (Updated), or moved: next round
//! ```

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use super::apply::{WorktreeMode, move_refs, sync_worktree};
use super::decide::{BranchDecider, BranchRow, DecisionInputs, PropagateStatus};
use super::push::{note_pending_pushes, push_local_branches, push_remote_rows};
use super::targets::{BranchSet, TargetBranch, UpdateMethod};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_git::Tools;
use xtask_git::{Pack, Repo};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::hook_policy::count_canonical_files;
use xtask_sync::managed::ManagedPaths;
use xtask_sync::run::SyncOptions;

/// The maximum number of rounds. A busy remote moves a branch every few minutes, and a round takes
/// seconds.
const MAX_ROUNDS: usize = 4;

/// The maximum number of planning threads: more would only wait for the disk.
const MAX_THREADS: usize = 8;

/// The number of branches that justify a thread: opening the repository again costs as much as a
/// few branches.
const MIN_BRANCHES_PER_THREAD: usize = 32;

/// The number of branches after which a thread hands over its new objects, which would otherwise
/// fill the memory uncompressed.
const BRANCHES_PER_FLUSH: usize = 64;

/// The options of a run.
#[derive(Clone, Debug)]
pub struct PropagateOptions {
    /// Only branches that match one of these patterns, e.g. `feature/*`; all if empty.
    pub patterns: Vec<String>,
    /// Whether to update the branches of the remote instead of the local ones.
    pub remote: bool,
    /// Whether to push the changes.
    pub push: bool,
    /// Whether to write no changes.
    pub dry_run: bool,
    /// Whether more than half of the managed files of a branch may be deleted.
    pub allow_mass_deletion: bool,
    /// Whether to list the paths of each branch.
    pub lists_paths: bool,
}

/// The result of a run.
pub struct PropagateOutcome {
    /// The configuration and the canonical commit.
    pub context: SyncContext,
    /// The row of each branch, by its name.
    pub rows: BTreeMap<String, BranchRow>,
}

/// Brings every matching branch to the canonical state. Returns an error if a pattern matches no
/// branch or the remote does not exist; failures of single branches are in their rows.
pub fn propagate_branches(
    repo: &Repo,
    aim: &PropagateOptions,
    tools: &Tools<'_>,
) -> Result<PropagateOutcome> {
    let mut rows = BTreeMap::new();
    let mut patterns = aim.patterns.clone();
    for round in 1.. {
        let (fleet, context) = load_branches(repo, aim)?;
        if round > 1 {
            patterns.retain(|name| fleet.branches.contains_key(name));
        }
        let round_of = PropagateRound { repo, options: aim, branch_set: &fleet, context: &context };
        let (decided, moved) = round_of.run_round(&patterns, tools)?;
        rows.extend(decided.into_iter().map(|row| (row.branch.clone(), row)));
        if moved.is_empty() || round == MAX_ROUNDS {
            for name in moved {
                let why = "the branch kept moving during the run; try again";
                rows.entry(name)
                    .and_modify(|row| *row = row.clone().with_status(PropagateStatus::Failed, why));
            }
            return Ok(PropagateOutcome { context, rows });
        }
        patterns = moved;
    }
    unreachable!("because the last round returns")
}

/// Reads the branches and the sync context.
fn load_branches(repo: &Repo, aim: &PropagateOptions) -> Result<(BranchSet, SyncContext)> {
    // The configuration may name another remote than the one from which it was read.
    let names = context::find_canonical_names(repo)?;
    let known = context::find_context(repo, &names)?;
    let remote = &known.map_or(names.remote, |context| context.config.remote);
    if (aim.remote || aim.push) && !repo.has_remote(remote) {
        return Err(Error::unable(format!("no such remote: `{remote}`; nothing was done"))
            .with_hint(format!("`git remote add {remote} URL` adds it")));
    }
    if aim.remote {
        let fleet = match aim.dry_run {
            true => BranchSet::read_fetched(repo, remote)?,
            false => BranchSet::fetch_remote(repo, remote)?,
        };
        return Ok((fleet, context::read_remote_context(repo)?));
    }
    let there = match (aim.push, aim.dry_run) {
        (true, false) => repo.fetch_all_branches(remote)?.into_iter().collect(),
        (true, true) => BranchSet::read_fetched(repo, remote)?.branches,
        _ => BTreeMap::new(),
    };
    let mut fleet = BranchSet::read_local(repo)?;
    fleet.remote_branches = there;
    // A push must not bring along commits that the canonical branch of the remote lacks.
    let context =
        if aim.push { context::read_remote_context(repo)? } else { context::read_context(repo)? };
    Ok((fleet, context))
}

/// One pass over the branches.
struct PropagateRound<'a> {
    repo: &'a Repo,
    options: &'a PropagateOptions,
    branch_set: &'a BranchSet,
    context: &'a SyncContext,
}

impl PropagateRound<'_> {
    /// Decides and applies all rows. Returns them, and the branches that moved concurrently.
    fn run_round(
        &self,
        patterns: &[String],
        tools: &Tools<'_>,
    ) -> Result<(Vec<BranchRow>, Vec<String>)> {
        let PropagateRound { repo, options: aim, branch_set: fleet, context, .. } = self;
        let targets = fleet.select_targets(context, patterns)?;
        let managed = ManagedPaths::new(&context.config, None);
        let tip = context.canonical.commit;
        let once =
            repo.read_canonical_history(tip, &managed, managed.rules_digest(), tools.progress)?;
        if !aim.dry_run {
            repo.write_canonical_history(tools.disk, &once)?;
        }
        let case = DecisionInputs {
            context,
            once_canonical: &once,
            branch_set: fleet,
            canonical_files: count_canonical_files(repo, context)?,
            allow_mass_deletion: aim.allow_mass_deletion,
            lists_paths: aim.lists_paths,
            now: tools.world.now_seconds(),
        };
        tools.progress.begin_task("planning branches", Some(targets.len() as u64));
        let mut rows = decide_branches(repo, &targets, &case, aim.dry_run, tools)?;
        tools.progress.end_task();
        let sync_options = SyncOptions {
            allow_mass_deletion: aim.allow_mass_deletion,
            lists_in_sync: aim.lists_paths,
            ..SyncOptions::plain()
        };
        let how = if aim.dry_run { WorktreeMode::DryRun } else { WorktreeMode::Write };
        let mut switched = Vec::new();
        for (row, target) in rows.iter_mut().zip(&targets) {
            if let UpdateMethod::Worktree(root) = &target.method {
                match sync_worktree(repo, root, row.clone(), context, &sync_options, how, tools) {
                    Some(done) => *row = done,
                    None => switched.push(row.branch.clone()),
                }
            }
        }
        let remote = &context.config.remote;
        if aim.dry_run && aim.push && !aim.remote {
            note_pending_pushes(repo, remote, &mut rows, fleet, context)?;
        }
        if aim.dry_run {
            return Ok((rows, Vec::new()));
        }
        if aim.remote {
            let moved = push_remote_rows(repo, remote, &mut rows)?;
            return Ok((rows, moved));
        }
        let mut moved = move_refs(repo, &mut rows, context, tools)?;
        moved.extend(switched);
        if aim.push {
            moved.extend(push_local_branches(repo, remote, &mut rows, fleet, context)?);
        }
        Ok((rows, moved))
    }
}

/// Decides about all targets in parallel: inspecting hundreds of trees is work for every core.
fn decide_branches(
    repo: &Repo,
    targets: &[TargetBranch],
    case: &DecisionInputs<'_>,
    dry_run: bool,
    tools: &Tools<'_>,
) -> Result<Vec<BranchRow>> {
    let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let share = targets.len().div_ceil(threads).max(MIN_BRANCHES_PER_THREAD);
    let root = repo.root();
    let pack = Pack::default();
    let may_fetch = repo.may_fetch();
    let decide = |share: &[TargetBranch]| -> Result<Vec<BranchRow>> {
        // Each thread opens the repository itself, and keeps its new objects in memory until all is
        // decided.
        let own = Repo::discover(root)?.in_memory();
        if may_fetch {
            own.allow_fetch();
        }
        let judge = BranchDecider::new(&own, tools.disk, case);
        let mut rows = Vec::with_capacity(share.len());
        for some in share.chunks(BRANCHES_PER_FLUSH) {
            for target in some {
                rows.push(judge.decide_branch(target)?);
                tools.progress.advance(1);
            }
            if !dry_run {
                pack.take_from(&own)?;
            }
        }
        Ok(rows)
    };
    let parts: Vec<Result<Vec<BranchRow>>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            targets.chunks(share).map(|share| scope.spawn(|| decide(share))).collect();
        let broken = || Err(Error::unable("the planning of branches panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| broken())).collect()
    });
    let parts = parts.into_iter().collect::<Result<Vec<Vec<BranchRow>>>>()?;
    if !dry_run {
        tools
            .disk
            .check_gate("write the objects")
            .with_context(|| "cannot write the new objects")?;
        repo.write_pack(pack)?;
    }
    Ok(parts.into_iter().flatten().collect())
}
