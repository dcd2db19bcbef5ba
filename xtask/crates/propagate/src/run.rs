//! From the canonical commit to every branch, in a few rounds: what moved while we worked is looked
//! at again.

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use super::decide::{Case, Fate, Judge, Row};
use super::deliver::{
    InWorktree, in_worktree, move_refs, push_branches, push_rows, say_what_would_be_pushed,
};
use super::targets::{Fleet, Target, Way};
use xtask_base::error::{Context as _, Error, Result};
use xtask_git::Tools;
use xtask_git::{Pack, Repo};
use xtask_sync::context::{self, Context};
use xtask_sync::managed::Managed;
use xtask_sync::manner::canonical_files;
use xtask_sync::run::Wishes;

/// How often a branch is tried that moves under us. A busy remote moves a branch every few minutes,
/// and a round takes seconds.
const ROUNDS: usize = 4;

/// How many threads plan at most: more would only wait for the disk.
const MOST_THREADS: usize = 8;

/// How many branches are worth a thread: opening the repository once more costs as much as a few.
const WORTH_A_THREAD: usize = 32;

/// After how many branches a thread hands over the objects that it has made, so that they do not fill the
/// memory as they are.
const GATHERED: usize = 64;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Aim {
    /// Only branches that match one of these; all where it is empty.
    pub patterns: Vec<String>,
    /// The branches of the remote, not those here.
    pub remote: bool,
    /// What changes is pushed.
    pub push: bool,
    /// Nothing is written.
    pub dry_run: bool,
    /// More than half of the managed files of a branch may go.
    pub allow_mass_deletion: bool,
    /// The paths of each branch are listed.
    pub lists: bool,
}

/// What came of it.
pub struct Outcome {
    /// What sync went by.
    pub context: Context,
    /// A row for each branch, by its name.
    pub rows: BTreeMap<String, Row>,
}

/// Brings every matching branch to the canonical state.
pub fn propagate(repo: &Repo, aim: &Aim, tools: &Tools<'_>) -> Result<Outcome> {
    let mut rows = BTreeMap::new();
    let mut patterns = aim.patterns.clone();
    for round in 1.. {
        let (fleet, context) = load(repo, aim)?;
        if round > 1 {
            patterns.retain(|name| fleet.branches.contains_key(name));
        }
        let round_of = Round { repo, aim, fleet: &fleet, context: &context };
        let (decided, moved) = round_of.run(&patterns, tools)?;
        rows.extend(decided.into_iter().map(|row| (row.branch.clone(), row)));
        if moved.is_empty() || round == ROUNDS {
            for name in moved {
                let why = "it moved again and again while this ran; try again";
                rows.entry(name).and_modify(|row| *row = row.clone().but(Fate::Failed, why));
            }
            return Ok(Outcome { context, rows });
        }
        patterns = moved;
    }
    unreachable!("because the last round returns")
}

/// The branches, and what sync goes by.
fn load(repo: &Repo, aim: &Aim) -> Result<(Fleet, Context)> {
    // The configuration can name another remote than the one through which it was found.
    let names = context::names(repo)?;
    let known = context::find(repo, &names)?;
    let remote = &known.map_or(names.remote, |context| context.config.remote);
    if (aim.remote || aim.push) && !repo.has_remote(remote) {
        return Err(Error::unable(format!("there is no remote `{remote}`; nothing was done"))
            .hint(format!("`git remote add {remote} URL` adds it")));
    }
    if aim.remote {
        let fleet = match aim.dry_run {
            true => Fleet::as_fetched(repo, remote)?,
            false => Fleet::at_remote(repo, remote)?,
        };
        return Ok((fleet, context::of_remote(repo)?));
    }
    let there = match (aim.push, aim.dry_run) {
        (true, false) => repo.fetch_branches(remote)?.into_iter().collect(),
        (true, true) => Fleet::as_fetched(repo, remote)?.branches,
        _ => BTreeMap::new(),
    };
    let mut fleet = Fleet::here(repo)?;
    fleet.there = there;
    // What is pushed must not bring anything along that is not on the canonical branch there.
    let context = if aim.push { context::of_remote(repo)? } else { context::read(repo)? };
    Ok((fleet, context))
}

/// One look at the branches, and what follows from it.
struct Round<'a> {
    repo: &'a Repo,
    aim: &'a Aim,
    fleet: &'a Fleet,
    context: &'a Context,
}

impl Round<'_> {
    /// Decides, writes, and answers with what moved meanwhile.
    fn run(&self, patterns: &[String], tools: &Tools<'_>) -> Result<(Vec<Row>, Vec<String>)> {
        let Round { repo, aim, fleet, context, .. } = self;
        let targets = fleet.targets(context, patterns)?;
        let managed = Managed::new(&context.config, None);
        let tip = context.canonical.commit;
        let once = repo.once_canonical(tip, &managed, managed.rules(), tools.progress)?;
        if !aim.dry_run {
            repo.save_once_canonical(tools.disk, &once)?;
        }
        let case = Case {
            context,
            once: &once,
            fleet,
            canonical_files: canonical_files(repo, context)?,
            allow_mass_deletion: aim.allow_mass_deletion,
            lists: aim.lists,
        };
        tools.progress.begin("planning branches", Some(targets.len() as u64));
        let mut rows = decide_all(repo, &targets, &case, aim.dry_run, tools)?;
        tools.progress.end();
        let wishes = Wishes {
            allow_mass_deletion: aim.allow_mass_deletion,
            lists_in_sync: aim.lists,
            ..Wishes::plain()
        };
        let how = if aim.dry_run { InWorktree::Look } else { InWorktree::Write };
        let mut switched = Vec::new();
        for (row, target) in rows.iter_mut().zip(&targets) {
            if let Way::Worktree(root) = &target.way {
                match in_worktree(repo, root, row.clone(), context, &wishes, how, tools) {
                    Some(done) => *row = done,
                    None => switched.push(row.branch.clone()),
                }
            }
        }
        let remote = &context.config.remote;
        if aim.dry_run && aim.push && !aim.remote {
            say_what_would_be_pushed(repo, remote, &mut rows, fleet, context)?;
        }
        if aim.dry_run {
            return Ok((rows, Vec::new()));
        }
        if aim.remote {
            let moved = push_rows(repo, remote, &mut rows)?;
            return Ok((rows, moved));
        }
        let mut moved = move_refs(repo, &mut rows, context, tools)?;
        moved.extend(switched);
        if aim.push {
            moved.extend(push_branches(repo, remote, &mut rows, fleet, context)?);
        }
        Ok((rows, moved))
    }
}

/// Decides about all targets, side by side: looking at hundreds of trees is work for every core.
fn decide_all(
    repo: &Repo,
    targets: &[Target],
    case: &Case<'_>,
    dry_run: bool,
    tools: &Tools<'_>,
) -> Result<Vec<Row>> {
    let threads = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let share = targets.len().div_ceil(threads).max(WORTH_A_THREAD);
    let root = repo.root();
    let pack = Pack::default();
    let may_fetch = repo.may_fetch();
    let decide = |share: &[Target]| -> Result<Vec<Row>> {
        // Each thread opens the repository for itself, and keeps what it makes until all is decided.
        let own = Repo::discover(root)?.in_memory();
        if may_fetch {
            own.allow_fetch();
        }
        let judge = Judge::new(&own, tools.disk, case);
        let mut rows = Vec::with_capacity(share.len());
        for some in share.chunks(GATHERED) {
            for target in some {
                rows.push(judge.decide(target)?);
                tools.progress.step(1);
            }
            if !dry_run {
                pack.take_from(&own)?;
            }
        }
        Ok(rows)
    };
    let parts: Vec<Result<Vec<Row>>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            targets.chunks(share).map(|share| scope.spawn(|| decide(share))).collect();
        let broken = || Err(Error::unable("the planning of branches broke off"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| broken())).collect()
    });
    let parts = parts.into_iter().collect::<Result<Vec<Vec<Row>>>>()?;
    if !dry_run {
        tools.disk.other("write the objects").unable(|| "the new objects cannot be written")?;
        repo.write_pack(pack)?;
    }
    Ok(parts.into_iter().flatten().collect())
}
