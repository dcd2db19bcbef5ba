//! The gates of the repository and of the tools on this machine, e.g. `commit 1a2b3c4d5e is not on any remote`.

use super::compose;
use super::gates::{Gate, GateContext, MAX_SHOWN};
use super::history;
use super::release::Release;
use super::run_history;
use super::tool::{EngineSettings, EngineTool, QUERY_TIMEOUT, to_args};
use xtask_base::error::{Error, Result};
use xtask_base::words::join_names;
use xtask_config::{DeployConfig, DeployEngine};
use xtask_git::{AllPaths, BranchPattern, FileMode, Id, Repo};

/// Free space required in addition to the release itself: 64 MiB, for journals, logs and build output.
const RESERVED_BYTES: u64 = 64 << 20;

/// Runs the gates of the repository and of the tools on this machine.
pub fn check_local_gates(scene: &GateContext<'_>) -> Result<Vec<Gate>> {
    let head = scene.repo.head()?;
    let branch = head.branch.as_deref();
    let mut gates = vec![
        Gate::from_result("tree", check_tree(scene.repo)),
        Gate::from_result("branch", check_branch(scene.deploy, branch)),
        Gate::from_result("pushed", check_pushed(scene.repo, branch, head.commit)),
        Gate::from_result("requires", check_requires(scene, head.commit)),
        Gate::from_result("tools", check_tools(scene)),
    ];
    // `check_project` runs `docker`, so it needs the gate `tools` to pass.
    if scene.deploy.engine == DeployEngine::Compose && gates.last().is_some_and(|tools| tools.ok) {
        gates.push(Gate::from_result("project", check_project(scene)));
    }
    Ok(gates)
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
        let args = compose::build_project_args(outside, &["ps", "--all", "--quiet"]);
        let folder = scene.repo.root().to_path_buf();
        let docker = EngineTool { name: "docker", folder, variables: Vec::new(), ctx: &scene.ctx };
        Ok(!docker.query(&args, QUERY_TIMEOUT)?.trim().is_empty())
    };
    let down = |one: &EngineSettings| {
        format!("`docker {}`", compose::build_project_args(one, &["down"]).join(" "))
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
