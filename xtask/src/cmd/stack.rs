//! Shared code of `start`, `stop`, `restart`, `ps` and `logs`: which stack a command is about, in this worktree or
//! deployed on this machine, and what a start prints. For example, `restart` without `--layer` is about the only layer
//! that runs.

#[cfg(feature = "deploy")]
use std::collections::BTreeMap;

use super::session::Session;
use xtask_base::error::{Error, Result};
#[cfg(feature = "deploy")]
use xtask_base::files::read_regular_file;
#[cfg(feature = "deploy")]
use xtask_config::DeployEngine;
use xtask_config::{self as config, DEFAULT_LAYER, Layer};
#[cfg(feature = "deploy")]
use xtask_deploy::stacks;
#[cfg(feature = "deploy")]
use xtask_deploy::target::DeployTarget;
use xtask_git::Repo;
use xtask_report as report;
use xtask_services::client;
use xtask_services::follow::StackContext;
use xtask_services::layers;
use xtask_services::observe::list_known_stacks;
use xtask_services::report::{StartReport, render_addresses};
use xtask_services::stack::Stack;
use xtask_services::start::StartOutcome;

/// Returns what the workflows of services work with.
pub(super) fn stack_context(session: &Session) -> StackContext<'_> {
    let tools = session.tools();
    StackContext { world: tools.world, disk: tools.disk, interrupts: tools.interrupts }
}

/// Returns the names of the layers in `deployment/`, sorted.
pub(super) fn list_layers(repo: &Repo) -> Vec<String> {
    layers::list_layers(repo.root())
}

/// Reads a layer from the worktree.
pub(super) fn read_layer(repo: &Repo, name: &str) -> Result<Layer> {
    layers::read_layer(repo.root(), name)
}

#[cfg(feature = "deploy")]
/// Reads a layer, and returns it with the texts of all files that were read, by layer name.
pub(super) fn read_layer_with_texts(
    repo: &Repo,
    name: &str,
) -> Result<(Layer, BTreeMap<String, String>)> {
    layers::read_layer_with_texts(repo.root(), name)
}

#[cfg(feature = "deploy")]
/// Reads a layer that has `[deploy]`. Returns `None` if it has none, or if its services run in this worktree, which
/// then take precedence. Returns an error if a layer with `[deploy]` cannot be read.
pub(super) fn read_deployed_layer(
    session: &Session,
    repo: &Repo,
    name: &str,
) -> Result<Option<Layer>> {
    let runs_here = || {
        let own = Stack::new(&repo.folders(), name);
        matches!(client::read_brief_status(&own, &session.world), Ok(Some(page)) if page.is_up())
    };
    match read_layer(repo, name) {
        Ok(layer) if layer.deploy.is_none() => Ok(None),
        Ok(layer) => Ok((!runs_here()).then_some(layer)),
        Err(failure) => {
            let file = repo.root().join(config::layer_file_path(name));
            let text = read_regular_file(&file, layers::MAX_LAYER_BYTES).unwrap_or_default();
            let is_deployed = String::from_utf8_lossy(&text).contains("[deploy");
            if is_deployed && !runs_here() { Err(failure) } else { Ok(None) }
        }
    }
}

/// Returns the stack of `layer`, or else the only one that runs, or else that of the default layer.
pub(super) fn choose_stack(session: &Session, repo: &Repo, layer: Option<&str>) -> Result<Stack> {
    if let Some(layer) = layer {
        return find_stack_anywhere(session, repo, layer);
    }
    let (mut known, unreadable) = list_known_stacks(&repo.folders(), &session.world);
    known.retain(|(_, page)| page.is_up());
    if let Some(failure) = unreadable.filter(|_| known.is_empty()) {
        return Err(failure);
    }
    Ok(match known.len() {
        1 => known.remove(0).0,
        _ => Stack::new(&repo.folders(), DEFAULT_LAYER),
    })
}

/// Returns the stack of a layer that exists or has recorded state in this worktree.
pub(super) fn find_stack(repo: &Repo, layer: &str) -> Result<Stack> {
    let layers = list_layers(repo);
    let known: Vec<String> =
        Stack::list_all(&repo.folders()).into_iter().map(|stack| stack.layer).collect();
    if layers.iter().chain(&known).any(|name| name == layer) {
        return Ok(Stack::new(&repo.folders(), layer));
    }
    let near = config::suggest_nearest(layer, layers.iter().map(String::as_str));
    Err(Error::usage(format!("no such layer: `{layer}`{near}"))
        .with_hint(format!("layers: {}", layers.join(", "))))
}

/// Returns the stack of a layer in this worktree if it runs, or else the deployed one on this machine, or else the
/// former.
pub(super) fn find_stack_anywhere(session: &Session, repo: &Repo, layer: &str) -> Result<Stack> {
    let own = find_stack(repo, layer)?;
    if client::read_brief_status(&own, &session.world)?.is_some_and(|page| page.is_up()) {
        return Ok(own);
    }
    #[cfg(feature = "deploy")]
    if let Some(serving) = find_serving_stack(repo, layer)? {
        return Ok(serving);
    }
    Ok(own)
}

#[cfg(feature = "deploy")]
/// Returns the stack of the release that serves, if the layer is deployed on this machine.
fn find_serving_stack(repo: &Repo, layer: &str) -> Result<Option<Stack>> {
    let Some(deploy) = read_layer(repo, layer).ok().and_then(|layer| layer.deploy) else {
        return Ok(None);
    };
    match deploy.engine {
        // The commands for such a layer ask the host before they get here.
        DeployEngine::Ssh => Err(Error::usage(format!(
            "layer `{layer}` is deployed to `{}`, and is configured by its release",
            deploy.to
        ))
        .with_hint(format!("`cargo xtask rollback {layer}` starts a release again"))
        .with_hint(format!("`cargo xtask history {layer}` lists the releases"))),
        DeployEngine::Directory => {
            stacks::find_serving_stack(&DeployTarget::for_layer(repo, layer, &deploy))
        }
        DeployEngine::Compose | DeployEngine::Kubernetes => Ok(None),
    }
}

/// Returns whether a stack belongs to this worktree, not to a deployed release.
pub(super) fn is_own(repo: &Repo, stack: &Stack) -> bool {
    stack.root == repo.root()
}

/// Prints the result of `start` or `restart`, in the format `schema` or as text: the addresses of the services, and
/// with `shows_supervisor` its fault and its status page. Returns the error of one that failed.
pub(super) fn print_start(
    schema: &'static str,
    outcome: StartOutcome,
    json: bool,
    shows_supervisor: bool,
) -> Result<()> {
    if json {
        report::print_json(&StartReport::new(schema, &outcome))?;
    }
    if let Some(error) = outcome.error {
        return Err(error);
    }
    if json {
        return Ok(());
    }
    let supervisor = outcome.page.supervisor.as_ref().filter(|_| shows_supervisor);
    if let Some(error) = supervisor.and_then(|line| line.error.as_ref()) {
        report::print_warning(&format!("the supervisor: {error}"));
    }
    let rows = outcome.page.services.iter().filter(|row| outcome.names.contains(&row.service));
    let status = supervisor.and_then(|line| line.status_port);
    report::print_output(&render_addresses(&rows.collect::<Vec<_>>(), status))
}
