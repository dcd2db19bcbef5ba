//! The `deployed` lines of `status`, one for each layer with `[deploy]`, e.g. `0123456789, verified 2 hours ago, as
//! main is`.

use super::stack;
use crate::status::report::DeployedLine;
use xtask_base::environment::{Environment, format_ago, format_rfc3339};
use xtask_base::words::pluralize;
use xtask_config::{DeployConfig, layer_file_path};
use xtask_deploy::status::{DeployStatus, read_deploy_status};
use xtask_git::Repo;
use xtask_report::short_id;

/// Returns a line for each layer with `[deploy]`. If a layer cannot be read, its line is the error.
pub(super) fn build_deployed_lines(repo: &Repo, world: &Environment) -> Vec<DeployedLine> {
    stack::list_layers(repo)
        .iter()
        .filter_map(|layer| build_deployed_line(repo, layer, world))
        .collect()
}

fn build_deployed_line(repo: &Repo, layer: &str, world: &Environment) -> Option<DeployedLine> {
    let now = world.now_seconds();
    let unknown = |to: &str, words: String| DeployedLine {
        layer: layer.to_owned(),
        to: to.to_owned(),
        words,
        ..DeployedLine::default()
    };
    let deploy = match stack::read_layer(repo, layer) {
        Ok(found) => found.deploy?,
        Err(failure) => {
            // An invalid layer without `[deploy]` is reported by the commands that use it.
            let text = std::fs::read_to_string(repo.root().join(layer_file_path(layer))).ok()?;
            return text.contains("[deploy").then(|| unknown("", failure.message().to_owned()));
        }
    };
    Some(match read_deploy_status(repo, layer, &deploy, world) {
        Err(failure) => unknown(&deploy.to, failure.to_string()),
        Ok(found) => DeployedLine {
            layer: layer.to_owned(),
            to: deploy.to.clone(),
            ok: found.release.is_none() == found.at.is_none()
                && (found.is_verified || found.release.is_none())
                && !found.has_open_run
                && found.fault.is_none(),
            words: describe_deployment(&found, &deploy, now),
            verified: found.is_verified && found.fault.is_none(),
            deployed: found.at.map(format_rfc3339),
            as_of: found.as_of.map(format_rfc3339),
            unfinished: found.has_open_run,
            branch: found.branch,
            behind: found.behind,
            release: found.release,
            commit: found.commit,
        },
    })
}

fn describe_deployment(found: &DeployStatus, deploy: &DeployConfig, now: i64) -> String {
    let mut words = Vec::new();
    match (&found.release, &found.commit) {
        (None, _) if deploy.engine == xtask_config::DeployEngine::Ssh && found.as_of.is_none() => {
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
