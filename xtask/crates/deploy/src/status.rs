//! Deploy status for `status`: from the records on this machine, and from its running processes.
//!
//! Read-only, and without a connection: for another host it is the last known state of this clone. For example,
//! `DeployStatus { release: "20250310T101500Z-4cfd10e1a2b3", is_verified: true, branch: "main", behind: 2, .. }`.

use super::history::{self, CurrentReleases, DeployEntry};
use super::last_known_state;
use super::release::Release;
use super::stacks::{self, StackRole};
use super::target::{CurrentLink, DeployTarget, TargetOwnership};
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_config::{DeployConfig, DeployEngine};
use xtask_git::{Id, Repo};
use xtask_services::client;

/// Deploy status of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeployStatus {
    /// Name of the release to which `current` points.
    pub release: Option<String>,
    /// Commit of `release`, in full.
    pub commit: Option<String>,
    /// Whether `release` serves and is verified.
    pub is_verified: bool,
    /// Start of the last run of `release`, in seconds since the epoch.
    pub at: Option<i64>,
    /// Time of the last known state, in seconds since the epoch; `None` if the target itself was inspected.
    pub as_of: Option<i64>,
    /// Whether a run is in progress or was interrupted.
    pub has_open_run: bool,
    /// Difference from the state that the last run left, e.g. `its services are not running`.
    pub fault: Option<String>,
    /// Branch for the comparison.
    pub branch: Option<String>,
    /// Number of commits of `branch` that are not deployed; `None` if unknown.
    pub behind: Option<usize>,
    /// Whether `branch` contains `commit`; `None` if unknown.
    pub is_on_branch: Option<bool>,
}

/// Returns the deploy status of `layer`. Returns an error if its target is not ours.
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

/// Reports whether any service of a release runs.
fn is_running(target: &DeployTarget, release: &str, world: &Environment) -> bool {
    let stack =
        stacks::stack_for_release(target, &Release::in_target(target, release), StackRole::Serving);
    // An unknown state is not reported as a fault.
    client::read_brief_status(&stack, world).map_or(true, |page| {
        page.is_some_and(|page| {
            page.services.iter().any(|row| row.pid.is_some() || row.state == "done")
        })
    })
}

/// Reads the status from the target.
fn read_target_status(
    target: &DeployTarget,
    has_services: bool,
    world: &Environment,
) -> Result<DeployStatus> {
    if target.check_ownership()? == TargetOwnership::Free {
        return Ok(DeployStatus::default());
    }
    let entries = history::read_history(&target.history_file())?;
    let CurrentReleases { current, serving } = history::current_and_serving(&entries);
    let mut found = status_from_history(&entries, current, serving);
    let is_as_left = match target.read_current()? {
        CurrentLink::Missing => current.is_none(),
        CurrentLink::Release(name) => current == Some(name.as_str()),
        CurrentLink::Foreign(_) => false,
    };
    found.has_open_run = target.journal_file().exists();
    if !found.has_open_run && !is_as_left {
        found.fault = Some("`current` was changed manually".to_owned());
    } else if !found.has_open_run
        && let Some(name) = serving.filter(|_| has_services)
        && !is_running(target, name, world)
    {
        found.fault = Some("its services are not running".to_owned());
    }
    Ok(found)
}

/// Reads the status from the last known state in this clone.
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

/// Compares the commit with the branch from which it is deployed: the single one in `deploy.branches`, else the
/// current branch.
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
