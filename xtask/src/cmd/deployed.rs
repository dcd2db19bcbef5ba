//! What `status` says of layers that are deployed, a line each.

use super::stack;
use xtask_base::words::count;
use xtask_base::world::{World, ago, rfc3339};
use xtask_config::{Deploy, layer_file};
use xtask_deploy::deployed::{Deployed, look};
use xtask_git::Repo;
use xtask_report::status::DeployedLine;
use xtask_report::sync::short;

/// A line for each layer with `[deploy]`. That one cannot be read is its line.
pub(super) fn lines(repo: &Repo, world: &World) -> Vec<DeployedLine> {
    stack::layers(repo).iter().filter_map(|layer| line(repo, layer, world)).collect()
}

fn line(repo: &Repo, layer: &str, world: &World) -> Option<DeployedLine> {
    let now = world.now_seconds();
    let unknown = |to: &str, words: String| DeployedLine {
        layer: layer.to_owned(),
        to: to.to_owned(),
        words,
        ..DeployedLine::default()
    };
    let deploy = match stack::load(repo, layer) {
        Ok(found) => found.deploy?,
        Err(failure) => {
            // A layer that is not deployed is told of by those who need it.
            let text = std::fs::read_to_string(repo.root().join(layer_file(layer))).ok()?;
            return text.contains("[deploy").then(|| unknown("", failure.what().to_owned()));
        }
    };
    Some(match look(repo, layer, &deploy, world) {
        Err(failure) => unknown(&deploy.to, failure.to_string()),
        Ok(found) => DeployedLine {
            layer: layer.to_owned(),
            to: deploy.to.clone(),
            ok: found.release.is_none() == found.at.is_none()
                && (found.is_verified || found.release.is_none())
                && !found.is_open
                && found.fault.is_none(),
            words: words(&found, &deploy, now),
            verified: found.is_verified && found.fault.is_none(),
            deployed: found.at.map(rfc3339),
            as_of: found.as_of.map(rfc3339),
            unfinished: found.is_open,
            branch: found.branch,
            behind: found.behind,
            release: found.release,
            commit: found.commit,
        },
    })
}

fn words(found: &Deployed, deploy: &Deploy, now: i64) -> String {
    let mut words = Vec::new();
    match (&found.release, &found.commit) {
        (None, _) if deploy.engine == xtask_config::DeployEngine::Ssh && found.as_of.is_none() => {
            words.push("nothing is known here; `cargo xtask history` asks the host".to_owned());
        }
        (None, _) => words.push("nothing is deployed".to_owned()),
        (Some(release), commit) => {
            let commit = commit.as_deref().map_or("an unknown commit", short);
            let is = if found.is_verified { "verified" } else { "NOT verified" };
            let when = found.at.map_or(String::new(), |at| format!(" {}", ago(now, at)));
            words.push(format!("{commit}, {is}{when}"));
            words.extend(found.fault.as_ref().map(|fault| format!("but {fault}")));
            words.push(behind(found));
            words.push(release.clone());
        }
    }
    if found.is_open {
        words.push("a run is under way, or was cut short".to_owned());
    }
    if let Some(at) = found.as_of {
        words.push(format!("as of {}", ago(now, at)));
    }
    words.join(", ")
}

/// How far it is behind.
fn behind(found: &Deployed) -> String {
    match (&found.branch, found.behind, found.is_on_branch) {
        (Some(branch), Some(0), Some(true)) => format!("as `{branch}` is"),
        (Some(branch), Some(behind), Some(true)) => {
            format!("{} behind `{branch}`", count(behind, "commit"))
        }
        (Some(branch), Some(behind), _) => {
            format!("not on `{branch}`, which has {} that it has not", count(behind, "commit"))
        }
        _ => "how far it is behind cannot be told".to_owned(),
    }
}
