//! What is deployed where, for those who only look: by what was written down on this machine, and by whether it
//! runs there. Nothing is asked, started or changed, so of another host it is what the last run from this clone has left.

use super::history::{self, Entry};
use super::memory;
use super::release::Release;
use super::stacks::{self, Role};
use super::target::{Current, Standing, Target};
use xtask_base::error::Result;
use xtask_base::world::World;
use xtask_config::{Deploy, DeployEngine};
use xtask_git::{Id, Repo};
use xtask_services::client;

/// How a layer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployed {
    /// The release to which `current` points.
    pub release: Option<String>,
    /// Its commit, in full.
    pub commit: Option<String>,
    /// Whether it serves, verified.
    pub is_verified: bool,
    /// When the run began that left it so, in seconds since the epoch.
    pub at: Option<i64>,
    /// When that was written down, where the target itself was not looked at.
    pub as_of: Option<i64>,
    /// Whether a run is under way, or was cut short.
    pub is_open: bool,
    /// What is not as the last run has left it.
    pub fault: Option<String>,
    /// The branch with which it is compared.
    pub branch: Option<String>,
    /// How many commits that branch has which are not deployed; nothing where it cannot be told.
    pub behind: Option<usize>,
    /// Whether the branch has its commit; nothing where it cannot be told.
    pub is_on_branch: Option<bool>,
}

/// How a layer stands. That its target is not ours is an error.
pub fn look(repo: &Repo, layer: &str, deploy: &Deploy, world: &World) -> Result<Deployed> {
    let mut found = match deploy.engine {
        DeployEngine::Ssh => remembered(repo, layer, deploy),
        engine => kept(&Target::of(repo, layer, deploy), engine.has_ports(), world)?,
    };
    compare(repo, deploy, &mut found)?;
    Ok(found)
}

/// Whether anything of a release runs.
fn runs(target: &Target, release: &str, world: &World) -> bool {
    let stack = stacks::of(target, &Release::of(target, release), Role::Serves);
    // What cannot be told is not told to be wrong.
    client::glance(&stack, world).map_or(true, |page| {
        page.is_some_and(|page| {
            page.services.iter().any(|row| row.pid.is_some() || row.state == "done")
        })
    })
}

/// By the target itself.
fn kept(target: &Target, has_services: bool, world: &World) -> Result<Deployed> {
    if target.standing()? == Standing::Free {
        return Ok(Deployed::default());
    }
    let entries = history::read(&target.history())?;
    let (current, serves) = history::standing(&entries);
    let mut found = of(&entries, current, serves);
    let is_as_left = match target.current()? {
        Current::Nothing => current.is_none(),
        Current::Release(name) => current == Some(name.as_str()),
        Current::Foreign(_) => false,
    };
    found.is_open = target.journal().exists();
    if !found.is_open && !is_as_left {
        found.fault = Some("`current` was changed by hand".to_owned());
    } else if !found.is_open
        && let Some(name) = serves.filter(|_| has_services)
        && !runs(target, name, world)
    {
        found.fault = Some("its services do not run".to_owned());
    }
    Ok(found)
}

/// By what this clone remembers.
fn remembered(repo: &Repo, layer: &str, deploy: &Deploy) -> Deployed {
    let Some(found) = memory::read(repo, layer, &deploy.to) else { return Deployed::default() };
    let entries: Vec<Entry> = found.run.into_iter().collect();
    let known = of(&entries, found.current.as_deref(), found.serves.as_deref());
    Deployed { commit: found.commit, as_of: Some(found.at), ..known }
}

fn of(entries: &[Entry], current: Option<&str>, serves: Option<&str>) -> Deployed {
    let last = entries.iter().rev().find(|entry| Some(entry.release.as_str()) == current);
    Deployed {
        release: current.map(str::to_owned),
        commit: last.map(|entry| entry.commit.clone()),
        is_verified: current.is_some() && current == serves,
        at: last.map(|entry| entry.at),
        ..Deployed::default()
    }
}

/// Compares it with the branch from which it is deployed: the only one that may be, or else the one that is
/// checked out.
fn compare(repo: &Repo, deploy: &Deploy, found: &mut Deployed) -> Result<()> {
    let Some(commit) = &found.commit else { return Ok(()) };
    let only = match &deploy.branches[..] {
        [one] if !one.contains(['*', '?', '[']) => Some(one.clone()),
        _ => None,
    };
    let Some(branch) = only.or_else(|| repo.branch_name()) else { return Ok(()) };
    let tip = repo.resolve(&format!("refs/heads/{branch}"))?;
    let commit = Id::from_hex(commit.as_bytes()).ok().filter(|id| repo.has_object(*id));
    found.branch = Some(branch);
    if let (Some(tip), Some(commit), false) = (tip, commit, repo.is_shallow()) {
        found.is_on_branch = Some(repo.is_ancestor(commit, tip)?);
        found.behind = Some(repo.count_between(commit, tip)?);
    }
    Ok(())
}
