//! The gates: preflight checks of a deploy, reported together. They change nothing.
//!
//! Local gates check the repository, target gates the target; with the engine `ssh` the latter run on the host.
//! Messages contain names of variables, never their values. For example:
//!
//! ```text
//! Gate { name: "branch",    ok: true,  words: "main" }
//! Gate { name: "variables", ok: false, words: "not set: `API_KEY`; set them in this shell, or in ..." }
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::DeployContext;
use super::compose;
use super::current_link;
use super::history;
use super::journal::DeployJournal;
use super::persistent_state;
use super::release::Release;
use super::run_history;
use super::stacks::{self, ReleaseStack};
use super::target::{DeployTarget, TargetOwnership};
use super::tool::{EngineSettings, EngineTool, QUERY_TIMEOUT, to_args};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::ports;
use xtask_base::words::{format_size, join_names, pluralize};
use xtask_config::{DeployConfig, DeployEngine, Layer};
use xtask_git::{AllPaths, BranchPattern, FileMode, Id, Repo, can_write_in};
use xtask_services::client;
use xtask_services::env_files;
use xtask_services::port_plan;
use xtask_services::spec::EnvFile;

/// Free space required in addition to the release itself: 64 MiB, for journals, logs and build output.
const RESERVED_BYTES: u64 = 64 << 20;

/// Number of names that a message lists.
const MAX_SHOWN: usize = 10;

/// Names of all gates, in the order of the report.
const GATE_ORDER: [&str; 11] = [
    "tree",
    "branch",
    "pushed",
    "requires",
    "variables",
    "target",
    "state",
    "disk",
    "tools",
    "project",
    "ports",
];

/// Result of one preflight check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Name, one of `GATE_ORDER`.
    pub name: Cow<'static, str>,
    /// Whether the check passed.
    pub ok: bool,
    /// The finding; if the check failed, also the remedy.
    pub words: String,
}

/// Inputs of the local gates.
pub struct GateContext<'a> {
    pub repo: &'a Repo,
    pub layer: &'a Layer,
    /// The `[deploy]` table of `layer`.
    pub deploy: &'a DeployConfig,
    /// The target, on this machine or (local gates only) on the host.
    pub target: &'a DeployTarget,
    /// Loads another layer by name, for `requires`.
    pub load: &'a dyn Fn(&str) -> Result<Layer>,
    pub ctx: DeployContext<'a>,
}

/// Inputs of the target gates, on the machine of the target.
pub struct TargetGateContext<'a> {
    pub layer: &'a Layer,
    /// The `[deploy]` table of `layer`.
    pub deploy: &'a DeployConfig,
    /// The target, on this machine.
    pub target: &'a DeployTarget,
    /// Required free space, in bytes.
    pub needed: u64,
    /// Names of required variables that neither the deploying shell nor the commit sets.
    pub missing: Vec<String>,
    pub ctx: DeployContext<'a>,
}

/// Runs all gates, for a target on this machine.
pub fn check_gates(scene: &GateContext<'_>) -> Result<Vec<Gate>> {
    let grounds = TargetGateContext {
        layer: scene.layer,
        deploy: scene.deploy,
        target: scene.target,
        needed: compute_needed_bytes(scene)?,
        missing: find_missing_variables(scene)?,
        ctx: scene.ctx,
    };
    Ok(merge_gates(check_local_gates(scene)?, check_target_gates(&grounds)))
}

/// Runs the gates of the repository and of the tools on this machine.
pub fn check_local_gates(scene: &GateContext<'_>) -> Result<Vec<Gate>> {
    let head = scene.repo.head()?;
    let branch = head.branch.as_deref();
    let mut gates = vec![
        gate_from_result("tree", check_tree(scene.repo)),
        gate_from_result("branch", self::check_branch(scene.deploy, branch)),
        gate_from_result("pushed", check_pushed(scene.repo, branch, head.commit)),
        gate_from_result("requires", check_requires(scene, head.commit)),
        gate_from_result("tools", check_tools(scene)),
    ];
    // `check_project` runs `docker`, so it needs the gate `tools` to pass.
    if scene.deploy.engine == DeployEngine::Compose && gates.last().is_some_and(|tools| tools.ok) {
        gates.push(gate_from_result("project", check_project(scene)));
    }
    Ok(gates)
}

/// Checks the project of `docker compose`: containers belong to their project alone, and a clone finds them by
/// its name. So the project must not contain containers of somebody else, and a renamed project must not leave
/// the old containers running.
fn check_project(scene: &GateContext<'_>) -> Result<String> {
    let Some(now) = EngineSettings::for_layer(scene.repo, &scene.layer.name, scene.deploy) else {
        return Ok("none".to_owned());
    };
    let target = scene.target;
    let entries = history::read_target_history(target)?;
    let current = history::current_and_serving(&entries).current;
    let before = match current {
        Some(name) => Release::in_target(target, name).read_snapshot()?.outside,
        None => None,
    };
    let runs = |outside: &EngineSettings| -> Result<bool> {
        let mut args = compose::build_context_args(outside);
        args.extend(to_args(&[
            "compose",
            "--project-name",
            &outside.project,
            "ps",
            "--all",
            "--quiet",
        ]));
        let folder = scene.repo.root().to_path_buf();
        let docker = EngineTool { name: "docker", folder, variables: Vec::new(), ctx: &scene.ctx };
        Ok(!docker.query(&args, QUERY_TIMEOUT)?.trim().is_empty())
    };
    let down = |one: &EngineSettings| {
        let mut args = compose::build_context_args(one);
        args.extend(to_args(&["compose", "--project-name", &one.project, "down"]));
        format!("`docker {}`", args.join(" "))
    };
    let is_same =
        |one: &EngineSettings| (&one.project, &one.context) == (&now.project, &now.context);
    match before {
        Some(before) if is_same(&before) => {}
        Some(before) if runs(&before)? => {
            let place = before.context.as_deref().unwrap_or("default");
            return Err(Error::negative(format!(
                "the current release runs as project `{}` in context `{place}`, and would keep running alongside this one",
                before.project
            ))
            .with_hint(format!("{} stops it", down(&before))));
        }
        _ if current.is_none() && runs(&now)? => {
            return Err(Error::negative(format!(
                "project `{}` has containers that were not deployed from this clone",
                now.project
            ))
            .with_hint(format!(
                "{} removes them, if they are yours: `start` creates such containers, too",
                down(&now)
            ))
            .with_hint("the project name is derived from the folder of the clone and the layer"));
        }
        _ => {}
    }
    Ok(now.project)
}

/// Runs the gates of the target and its machine.
#[must_use]
pub fn check_target_gates(grounds: &TargetGateContext<'_>) -> Vec<Gate> {
    let mut gates = vec![
        gate_from_result("variables", check_variables(grounds)),
        gate_from_result("target", check_target(grounds.target)),
        gate_from_result("state", check_state(grounds)),
        gate_from_result("disk", check_disk(&grounds.target.root, grounds.needed)),
    ];
    if grounds.deploy.engine.has_ports() {
        gates.push(gate_from_result("ports", check_ports(grounds)));
    }
    gates
}

/// Merges the local gates (`here`) and the target gates (`there`) in `GATE_ORDER`.
#[must_use]
pub fn merge_gates(here: Vec<Gate>, there: Vec<Gate>) -> Vec<Gate> {
    let mut all: Vec<Gate> = here.into_iter().chain(there).collect();
    let place = |gate: &Gate| GATE_ORDER.iter().position(|name| *name == gate.name);
    all.sort_by_key(|gate| place(gate).unwrap_or(GATE_ORDER.len()));
    all
}

/// Converts the result of a check into a gate; details and hints of an error are joined by `; `.
#[must_use]
pub fn gate_from_result(name: &'static str, found: Result<String>) -> Gate {
    let name = name.into();
    match found {
        Ok(words) => Gate { name, ok: true, words },
        Err(failure) => {
            let details = failure.details().iter().map(|detail| format!("; {detail}"));
            let hints = failure.hints().iter().map(|hint| format!("; {hint}"));
            let words = std::iter::once(failure.to_string()).chain(details).chain(hints).collect();
            Gate { name, ok: false, words }
        }
    }
}

/// Returns an error with all failed gates as details, if any failed.
pub fn ensure_gates_pass(gates: &[Gate]) -> Result<()> {
    let shut: Vec<&Gate> = gates.iter().filter(|gate| !gate.ok).collect();
    if shut.is_empty() {
        return Ok(());
    }
    let what = format!("nothing was deployed: {} failed", pluralize(shut.len(), "preflight check"));
    let error = Error::negative(what);
    Err(shut
        .into_iter()
        .fold(error, |error, gate| error.with_detail(format!("{}: {}", gate.name, gate.words))))
}

fn check_tree(repo: &Repo) -> Result<String> {
    if let Some(operation) = repo.current_operation() {
        let (name, end) = (operation.name, operation.continue_command);
        return Err(Error::negative(format!("{name} is in progress: `{end}` finishes it")));
    }
    let mut changed = repo.list_uncommitted()?;
    changed.extend(repo.list_untracked()?);
    if changed.is_empty() {
        let head = repo.head()?;
        let mut modules = repo.list_tree(head.tree, &AllPaths)?.into_iter();
        return match modules.find(|(_, entry)| entry.mode == FileMode::Gitlink) {
            Some((path, _)) => Err(Error::negative(format!(
                "`{path}` is a submodule: releases cannot contain submodules, as their files are in another repository"
            ))
            .with_hint("fetch these files in a `build` step, and remove the submodule from the branch")),
            None => Ok("clean".to_owned()),
        };
    }
    Err(Error::negative(format!(
        "working tree has uncommitted changes: {}",
        join_names(&changed, MAX_SHOWN)
    ))
    .with_hint("commit them, or `git stash`"))
}

fn check_branch(deploy: &DeployConfig, branch: Option<&str>) -> Result<String> {
    let Some(branch) = branch else {
        return Err(Error::negative("HEAD is detached: switch to a branch"));
    };
    let mut patterns = deploy.branches.iter();
    if deploy.branches.is_empty() || patterns.any(|one| BranchPattern::new(one).matches(branch)) {
        return Ok(branch.to_owned());
    }
    let allowed = join_names(&deploy.branches, MAX_SHOWN);
    Err(Error::negative(format!(
        "`{branch}` may not be deployed: `deploy.branches` allows only {allowed}"
    )))
}

fn check_pushed(repo: &Repo, branch: Option<&str>, commit: Id) -> Result<String> {
    if repo.remote_names().is_empty() {
        return Ok("no remote configured".to_owned());
    }
    let upstream = branch.map_or(Ok(None), |branch| repo.upstream(branch))?;
    let others = repo.refs_below("refs/remotes/")?;
    // The upstream of a branch can be another branch of this clone, which does not count as pushed.
    let upstream = upstream.filter(|(name, _)| name.starts_with("refs/remotes/"));
    for (name, id) in upstream.into_iter().chain(others) {
        if repo.is_ancestor(commit, id).unwrap_or(false) {
            return Ok(format!("in {}", name.trim_start_matches("refs/remotes/")));
        }
    }
    Err(Error::negative(format!("commit {} is not on any remote", repo.short_id(commit)))
        .with_hint("`git push`, or `git fetch` if somebody else has pushed it"))
}

fn check_requires(scene: &GateContext<'_>, commit: Id) -> Result<String> {
    let Some(name) = &scene.deploy.requires else { return Ok("nothing".to_owned()) };
    let layer = (scene.load)(name)?;
    let Some(deploy) = layer.deploy else {
        return Err(Error::negative(format!("layer `{name}` has no `[deploy]`")));
    };
    let entries = run_history::fetch_history(scene.repo, name, &deploy, scene.ctx.world)?;
    if history::is_commit_verified(&entries, &commit.to_string()) {
        return Ok(format!("verified in {name}"));
    }
    let short = scene.repo.short_id(commit);
    Err(Error::negative(format!("commit {short} has not been verified in layer `{name}`"))
        .with_hint(format!("`cargo xtask deploy {name}`")))
}

/// Returns the names in `deploy.env-required` that neither the environment nor a tracked env file sets.
pub fn find_missing_variables(scene: &GateContext<'_>) -> Result<Vec<String>> {
    let tree = scene.repo.head()?.tree;
    let mut missing = Vec::new();
    for name in &scene.deploy.env_required {
        let mut is_set = scene.ctx.world.variable(name).is_some();
        for file in list_env_files(scene.layer) {
            // An untracked file is not part of the release.
            if !is_set && scene.repo.entry_at(tree, &RepoPath::new(file))?.is_some() {
                is_set = file_sets_variable(&scene.repo.root().join(file), name)?;
            }
        }
        if !is_set {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

fn list_env_files(layer: &Layer) -> impl Iterator<Item = &str> {
    let files = layer.services.iter().flat_map(|service| &service.env_files);
    files.map(|file| file.strip_prefix('?').unwrap_or(file))
}

/// Reports whether the env file `file` sets the variable `name` to a non-empty value.
fn file_sets_variable(file: &Path, name: &str) -> Result<bool> {
    // References to other variables are resolved only when the service starts.
    let given = |_: &str| Some(std::ffi::OsString::new());
    let pairs =
        env_files::read_env_file(&EnvFile { path: file.to_path_buf(), is_optional: true }, &given)?;
    Ok(pairs.iter().any(|(known, value)| known == name && !value.is_empty()))
}

/// Checks that the env files in the target's `shared` folder set the missing variables.
fn check_variables(grounds: &TargetGateContext<'_>) -> Result<String> {
    let shared = grounds.target.shared_folder();
    let mut missing = Vec::new();
    for name in &grounds.missing {
        let mut is_set = false;
        for file in list_env_files(grounds.layer) {
            is_set = is_set || file_sets_variable(&shared.join(file), name)?;
        }
        if !is_set {
            missing.push(name.clone());
        }
    }
    if missing.is_empty() {
        return Ok(match grounds.deploy.env_required.len() {
            0 => "none".to_owned(),
            number => format!("{} set", pluralize(number, "variable")),
        });
    }
    let what = format!("not set: {}", join_names(&missing, MAX_SHOWN));
    Err(Error::negative(what).with_hint(hint_set_variables(grounds.layer, grounds.target)))
}

/// Refuses a rollback to `release` if another process uses one of its ports, or a required variable is set neither
/// in the environment nor in an env file of the release or the `shared` folder.
pub fn check_rollback(
    layer: &Layer,
    deploy: &DeployConfig,
    target: &DeployTarget,
    release: &Release,
    around: &DeployContext<'_>,
) -> Result<()> {
    let mut missing = Vec::new();
    for name in &deploy.env_required {
        let mut is_set = around.world.variable(name).is_some();
        for file in list_env_files(layer) {
            for folder in [release.files(), target.shared_folder()] {
                is_set = is_set || file_sets_variable(&folder.join(file), name)?;
            }
        }
        if !is_set {
            missing.push(name.clone());
        }
    }
    if missing.is_empty() {
        if deploy.engine.has_ports() {
            let around = *around;
            let grounds =
                TargetGateContext { layer, deploy, target, needed: 0, missing, ctx: around };
            check_ports(&grounds)?;
        }
        return Ok(());
    }
    let what = format!("nothing was changed: not set: {}", join_names(&missing, MAX_SHOWN));
    Err(Error::negative(what).with_hint(hint_set_variables(layer, target)))
}

/// Returns a hint that names the env file in the `shared` folder, if the layer has one.
fn hint_set_variables(layer: &Layer, target: &DeployTarget) -> String {
    let shared = target.shared_folder();
    match list_env_files(layer).next() {
        Some(file) => format!("set them in this shell, or in `{}`", shared.join(file).display()),
        None => "set them in this shell; no service has an `env-file`".to_owned(),
    }
}

fn check_target(target: &DeployTarget) -> Result<String> {
    let root = target.root.display();
    let standing = target.check_ownership()?;
    if !can_write_in(&target.root) {
        return Err(Error::negative(format!("permission denied: cannot write to `{root}`")));
    }
    if standing == TargetOwnership::Free {
        return Ok(format!("{root}, new"));
    }
    if let Some(holder) = target.lock_holder() {
        return Err(Error::negative(format!("another run is in progress in `{root}`: {holder}")));
    }
    if let Some(journal) = DeployJournal::read(target)? {
        return Ok(format!(
            "{root}; a run of {} was cut short and is recovered first",
            journal.new
        ));
    }
    let entries = history::read_history(&target.history_file())?;
    current_link::check_current(target, &[history::current_and_serving(&entries).current])?;
    Ok(format!("{root}"))
}

/// Checks that services store their data outside the current release, so that the next one has it.
fn check_state(grounds: &TargetGateContext<'_>) -> Result<String> {
    let target = grounds.target;
    if target.check_ownership()? == TargetOwnership::Free {
        return Ok("none yet".to_owned());
    }
    let entries = history::read_history(&target.history_file())?;
    if let Some(current) = history::current_and_serving(&entries).current {
        let release = Release::in_target(target, current);
        // A `current` that is not a release is reported by the gate `target`.
        if release.is_sealed() {
            persistent_state::check_written(&release, grounds.deploy, target, true)?;
            persistent_state::check_state_declared(grounds.layer, &release, target)?;
        }
    }
    let names: BTreeSet<String> =
        grounds.layer.services.iter().flat_map(|one| &one.state).map(ToString::to_string).collect();
    let names: Vec<String> = names.into_iter().collect();
    Ok(if names.is_empty() {
        "no service keeps state".to_owned()
    } else {
        format!("{} in {}", join_names(&names, MAX_SHOWN), target.state_folder().display())
    })
}

/// Returns the free space required for a release, in bytes: the size of all files of HEAD plus `RESERVED_BYTES`.
pub fn compute_needed_bytes(scene: &GateContext<'_>) -> Result<u64> {
    let mut needed = RESERVED_BYTES;
    for (_, entry) in scene.repo.list_tree(scene.repo.head()?.tree, &AllPaths)? {
        if entry.mode != FileMode::Gitlink {
            needed = needed.saturating_add(scene.repo.object_size(entry.id)?);
        }
    }
    Ok(needed)
}

fn check_disk(root: &Path, needed: u64) -> Result<String> {
    let nearest = root.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(nearest) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(cause) => {
            let what = format!("cannot determine the free space in `{}`", nearest.display());
            return Err(Error::unable(what).with_cause(cause));
        }
    };
    check_free_bytes(nearest, free, needed)
}

/// Returns an error if `free` bytes in `folder` are less than the `needed` ones.
pub fn check_free_bytes(folder: &Path, free: u64, needed: u64) -> Result<String> {
    if free < needed {
        let (free, needed) = (format_size(free), format_size(needed));
        return Err(Error::negative(format!(
            "{free} free in `{}`, {needed} needed",
            folder.display()
        )));
    }
    Ok(format!("{} free", format_size(free)))
}

/// Checks that the programs of the engine are on PATH and run.
pub fn check_tools(scene: &GateContext<'_>) -> Result<String> {
    let world = scene.ctx.world;
    // Arguments that prove that the tool runs; for ssh and rsync the handshake proves it.
    let (needed, question): (&[&str], &[&str]) = match scene.deploy.engine {
        DeployEngine::Directory => (&[], &[]),
        DeployEngine::Ssh => (&["ssh", "rsync"], &[]),
        DeployEngine::Compose => (&["docker"], &["compose", "version"]),
        DeployEngine::Kubernetes => (&["kubectl"], &["version", "--client"]),
    };
    let missing = needed.iter().filter(|name| world.find_program(name).is_none());
    let missing: Vec<String> = missing.map(|name| (*name).to_owned()).collect();
    if !missing.is_empty() {
        return Err(Error::negative(format!("not on PATH: {}", missing.join(", "))));
    }
    if let ([name], [_, ..]) = (needed, question) {
        let (folder, variables) = (scene.repo.root().to_path_buf(), Vec::new());
        let tool = EngineTool { name, folder, variables, ctx: &scene.ctx };
        tool.query(&to_args(question), QUERY_TIMEOUT)?;
    }
    Ok(if needed.is_empty() { "none needed".to_owned() } else { needed.join(", ") })
}

/// Checks that the ports of the layer are free, or used by the current release.
fn check_ports(grounds: &TargetGateContext<'_>) -> Result<String> {
    let mut wanted: BTreeMap<String, u16> = stacks::collect_ports(grounds.layer);
    if let xtask_config::StatusPort::Fixed(port) = grounds.layer.status {
        wanted.insert("status".to_owned(), port);
    }
    for ReleaseStack { stack, .. } in stacks::list_stacks(grounds.target)? {
        if let Some(running) = client::find_running(&stack, grounds.ctx.world)? {
            let own: Vec<u16> = running.specs.iter().filter_map(|spec| spec.port).collect();
            wanted.retain(|_, port| !own.contains(port));
            let page = client::read_brief_status(&stack, grounds.ctx.world)?;
            let status = page.and_then(|page| page.supervisor).and_then(|line| line.status_port);
            wanted.retain(|_, port| Some(*port) != status);
        }
    }
    let wanted: Vec<(String, u16)> = wanted.into_iter().collect();
    let obstacles = port_plan::find_conflicts(&wanted, None)?;
    if obstacles.is_empty() {
        return Ok("free, or used by the current release".to_owned());
    }
    let error = Error::negative(format!("{} in use", pluralize(obstacles.len(), "port")));
    let who = |one: &port_plan::PortConflict| match one.owners.is_empty() {
        true => one.reason.clone(),
        false => ports::describe_owners(one.port, &one.owners),
    };
    Err(obstacles.iter().fold(error, |error, one| error.with_detail(who(one))))
}
