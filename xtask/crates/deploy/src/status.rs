//! What is deployed where, for those who only look: by what was written down on this machine, and by whether it
//! runs there. Nothing is asked, started or changed, so of another host it is what the last run from this clone has left.

use super::history::{self, DeployEntry};
use super::last_known_state;
use super::release::Release;
use super::stacks::{self, StackRole};
use super::target::{CurrentLink, DeployTarget, TargetOwnership};
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_config::{DeployConfig, DeployEngine};
use xtask_git::{Id, Repo};
use xtask_services::client;

/// How a layer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeployStatus {
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
    pub has_open_run: bool,
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
pub fn read_deploy_status(
    repo: &Repo,
    layer: &str,
    deploy: &DeployConfig,
    world: &Environment,
) -> Result<DeployStatus> {
    let mut found = match deploy.engine {
        DeployEngine::Ssh => read_last_known_status(repo, layer, deploy),
        engine => read_target_status(
            &DeployTarget::for_layer(repo, layer, deploy),
            engine.has_ports(),
            world,
        )?,
    };
    compare_with_branch(repo, deploy, &mut found)?;
    Ok(found)
}

/// Whether anything of a release runs.
fn is_running(target: &DeployTarget, release: &str, world: &Environment) -> bool {
    let stack =
        stacks::stack_for_release(target, &Release::in_target(target, release), StackRole::Serving);
    // What cannot be told is not told to be wrong.
    client::read_brief_status(&stack, world).map_or(true, |page| {
        page.is_some_and(|page| {
            page.services.iter().any(|row| row.pid.is_some() || row.state == "done")
        })
    })
}

/// By the target itself.
fn read_target_status(
    target: &DeployTarget,
    has_services: bool,
    world: &Environment,
) -> Result<DeployStatus> {
    if target.check_ownership()? == TargetOwnership::Free {
        return Ok(DeployStatus::default());
    }
    let entries = history::read_history(&target.history_file())?;
    let (current, serves) = history::current_and_serving(&entries);
    let mut found = status_from_history(&entries, current, serves);
    let is_as_left = match target.read_current()? {
        CurrentLink::Missing => current.is_none(),
        CurrentLink::Release(name) => current == Some(name.as_str()),
        CurrentLink::Foreign(_) => false,
    };
    found.has_open_run = target.journal_file().exists();
    if !found.has_open_run && !is_as_left {
        found.fault = Some("`current` was changed by hand".to_owned());
    } else if !found.has_open_run
        && let Some(name) = serves.filter(|_| has_services)
        && !is_running(target, name, world)
    {
        found.fault = Some("its services do not run".to_owned());
    }
    Ok(found)
}

/// By what this clone remembers.
fn read_last_known_status(repo: &Repo, layer: &str, deploy: &DeployConfig) -> DeployStatus {
    let Some(found) = last_known_state::read_last_known(repo, layer, &deploy.to) else {
        return DeployStatus::default();
    };
    let entries: Vec<DeployEntry> = found.run.into_iter().collect();
    let known = status_from_history(&entries, found.current.as_deref(), found.serves.as_deref());
    DeployStatus { commit: found.commit, as_of: Some(found.at), ..known }
}

fn status_from_history(
    entries: &[DeployEntry],
    current: Option<&str>,
    serves: Option<&str>,
) -> DeployStatus {
    let last = entries.iter().rev().find(|entry| Some(entry.release.as_str()) == current);
    DeployStatus {
        release: current.map(str::to_owned),
        commit: last.map(|entry| entry.commit.clone()),
        is_verified: current.is_some() && current == serves,
        at: last.map(|entry| entry.at),
        ..DeployStatus::default()
    }
}

/// Compares it with the branch from which it is deployed: the only one that may be, or else the one that is
/// checked out.
fn compare_with_branch(repo: &Repo, deploy: &DeployConfig, found: &mut DeployStatus) -> Result<()> {
    let Some(commit) = &found.commit else { return Ok(()) };
    let only = match &deploy.branches[..] {
        [one] if !one.contains(['*', '?', '[']) => Some(one.clone()),
        _ => None,
    };
    let Some(branch) = only.or_else(|| repo.current_branch()) else { return Ok(()) };
    let tip = repo.resolve_ref(&format!("refs/heads/{branch}"))?;
    let commit = Id::from_hex(commit.as_bytes()).ok().filter(|id| repo.has_object(*id));
    found.branch = Some(branch);
    if let (Some(tip), Some(commit), false) = (tip, commit, repo.is_shallow()) {
        found.is_on_branch = Some(repo.is_ancestor(commit, tip)?);
        found.behind = Some(repo.count_commits_between(commit, tip)?);
    }
    Ok(())
}
