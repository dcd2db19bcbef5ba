//! The `deployed` lines of `status`: from the records on this machine, and from its running processes.
//!
//! Read-only, and without a connection: for another host it is the last known state of this clone. For example,
//! `4cfd10e1a2, verified 2 hours ago, 2 commits behind main`.

use super::history::{self, CurrentReleases, DeployEntry};
use super::last_known_state;
use super::release::Release;
use super::stacks::{self, StackRole};
use super::target::{CurrentLink, DeployTarget, TargetOwnership};
use xtask_base::environment::{Environment, format_ago, format_rfc3339};
use xtask_base::error::Result;
use xtask_base::files::read_regular_file;
use xtask_base::words::pluralize;
use xtask_config::{DeployConfig, DeployEngine, Layer, layer_file_path};
use xtask_git::{Id, Repo};
use xtask_report::{DeployedLine, short_id};
use xtask_services::client;
use xtask_services::layers::MAX_LAYER_BYTES;
use xtask_services::status::ReportedState;

/// Deploy status of a layer.
#[derive(Default)]
struct DeployStatus {
    /// Name of the release to which `current` points.
    release: Option<String>,
    /// Commit of `release`, in full.
    commit: Option<String>,
    /// Whether `release` serves and is verified.
    is_verified: bool,
    /// Start of the last run of `release`, in seconds since the epoch.
    at: Option<i64>,
    /// Time of the last known state, in seconds since the epoch; `None` if the target itself was inspected.
    as_of: Option<i64>,
    /// Whether a run is in progress or was interrupted.
    has_open_run: bool,
    /// Difference from the state that the last run left, e.g. `its services are not running`.
    fault: Option<String>,
    /// Branch for the comparison.
    branch: Option<String>,
    /// Number of commits of `branch` that are not deployed; `None` if unknown.
    behind: Option<usize>,
    /// Whether `branch` contains `commit`; `None` if unknown.
    is_on_branch: Option<bool>,
}

/// Returns a line for each layer with `[deploy]`. If a layer cannot be read, its line is the error.
pub fn list_deployed_lines(
    repo: &Repo,
    layers: &[String],
    load: &dyn Fn(&str) -> Result<Layer>,
    world: &Environment,
) -> Vec<DeployedLine> {
    let line = |layer: &String| build_deployed_line(repo, layer, load(layer), world);
    layers.iter().filter_map(line).collect()
}

fn build_deployed_line(
    repo: &Repo,
    layer: &str,
    loaded: Result<Layer>,
    world: &Environment,
) -> Option<DeployedLine> {
    let unknown = |to: &str, words: String| DeployedLine {
        layer: layer.to_owned(),
        to: to.to_owned(),
        words,
        ..DeployedLine::default()
    };
    let deploy = match loaded {
        Ok(found) => found.deploy?,
        Err(failure) => {
            // An invalid layer without `[deploy]` is reported by the commands that use it.
            let file = repo.root().join(layer_file_path(layer));
            let text = read_regular_file(&file, MAX_LAYER_BYTES).ok()?;
            return String::from_utf8_lossy(&text)
                .contains("[deploy")
                .then(|| unknown("", failure.message().to_owned()));
        }
    };
    let found = match read_deploy_status(repo, layer, &deploy, world) {
        Ok(found) => found,
        Err(failure) => return Some(unknown(&deploy.to, failure.to_string())),
    };
    Some(DeployedLine {
        layer: layer.to_owned(),
        to: deploy.to.clone(),
        ok: found.release.is_none() == found.at.is_none()
            && (found.is_verified || found.release.is_none())
            && !found.has_open_run
            && found.fault.is_none(),
        words: describe_deployment(&found, &deploy, world.now_seconds()),
        verified: found.is_verified && found.fault.is_none(),
        deployed: found.at.map(format_rfc3339),
        as_of: found.as_of.map(format_rfc3339),
        unfinished: found.has_open_run,
        branch: found.branch,
        behind: found.behind,
        release: found.release,
        commit: found.commit,
    })
}

/// Returns the deploy status of `layer`. Returns an error if its target is not ours.
fn read_deploy_status(
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
            page.services.iter().any(|row| row.pid.is_some() || row.state == ReportedState::Done)
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

fn describe_deployment(found: &DeployStatus, deploy: &DeployConfig, now: i64) -> String {
    let mut words = Vec::new();
    match (&found.release, &found.commit) {
        (None, _) if deploy.engine == DeployEngine::Ssh && found.as_of.is_none() => {
            words.push("not known here; `cargo xtask history` asks the host".to_owned());
        }
        (None, _) => words.push("nothing is deployed".to_owned()),
        (Some(release), commit) => {
            let commit = commit.as_deref().map_or("an unknown commit", short_id);
            let is = if found.is_verified { "verified" } else { "NOT verified" };
            let when = found.at.map_or(String::new(), |at| format!(" {}", format_ago(now, at)));
            words.push(format!("{commit}, {is}{when}"));
            words.extend(found.fault.as_ref().map(|fault| format!("but {fault}")));
            words.push(describe_distance(found));
            words.push(release.clone());
        }
    }
    if found.has_open_run {
        words.push("a run is in progress or was interrupted".to_owned());
    }
    if let Some(at) = found.as_of {
        words.push(format!("as of {}", format_ago(now, at)));
    }
    words.join(", ")
}

/// Describes the distance to the branch, e.g. "3 commits behind `main`".
fn describe_distance(found: &DeployStatus) -> String {
    match (&found.branch, found.behind, found.is_on_branch) {
        (Some(branch), Some(0), Some(true)) => format!("up to date with `{branch}`"),
        (Some(branch), Some(behind), Some(true)) => {
            format!("{} behind `{branch}`", pluralize(behind, "commit"))
        }
        (Some(branch), Some(behind), _) => {
            format!("not on `{branch}`, which has {} more", pluralize(behind, "commit"))
        }
        _ => "distance to the branch unknown".to_owned(),
    }
}
