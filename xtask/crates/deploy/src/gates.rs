//! What must be so before a deploy. All of it is looked at and reported together, and nothing is changed.
//!
//! Some are about the repository, and some about the target; where that is on another host, they are asked
//! there. Of variables only the names are ever told.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Around;
use super::compose;
use super::history;
use super::journal::Journal;
use super::past;
use super::release::Release;
use super::stacks;
use super::state;
use super::switch;
use super::target::{Standing, Target};
use super::tool::{Outside, QUESTION, Tool, words};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::ports;
use xtask_base::words::{count, size, some_of};
use xtask_config::{Deploy, DeployEngine, Layer};
use xtask_git::{Everything, Id, Mode, NamePattern, Repo, may_write};
use xtask_services::client;
use xtask_services::env_files;
use xtask_services::port_plan;
use xtask_services::spec::EnvFile;

/// What must stay free besides the release itself: 64 MiB, for journals, logs and what builds leave.
const ROOM: u64 = 64 << 20;

/// How many names are told in one line.
const SHOWN: usize = 10;

/// All of them, in the order in which they are told.
const ORDER: [&str; 11] = [
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

/// Something that must be so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Whether it is so.
    pub ok: bool,
    /// How it is, and where it is not so what to do.
    pub words: String,
}

/// What is looked at.
pub struct Scene<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The layer.
    pub layer: &'a Layer,
    /// How it is deployed.
    pub deploy: &'a Deploy,
    /// Where to.
    pub target: &'a Target,
    /// Reads another layer.
    pub load: &'a dyn Fn(&str) -> Result<Layer>,
    /// The outside.
    pub around: Around<'a>,
}

/// What is looked at where the target is.
pub struct Grounds<'a> {
    /// The layer.
    pub layer: &'a Layer,
    /// How it is deployed.
    pub deploy: &'a Deploy,
    /// Where to.
    pub target: &'a Target,
    /// The room that is needed, in bytes.
    pub needed: u64,
    /// The variables that are set nowhere else.
    pub missing: Vec<String>,
    /// The outside.
    pub around: Around<'a>,
}

/// Looks at all of them, where the target is on this machine.
pub fn look(scene: &Scene<'_>) -> Result<Vec<Gate>> {
    let grounds = Grounds {
        layer: scene.layer,
        deploy: scene.deploy,
        target: scene.target,
        needed: needed(scene)?,
        missing: missing(scene)?,
        around: scene.around,
    };
    Ok(together(look_here(scene)?, look_there(&grounds)))
}

/// Looks at those that are about the repository and this machine.
pub fn look_here(scene: &Scene<'_>) -> Result<Vec<Gate>> {
    let head = scene.repo.head()?;
    let branch = head.branch.as_deref();
    let mut gates = vec![
        gate("tree", tree(scene.repo)),
        gate("branch", self::branch(scene.deploy, branch)),
        gate("pushed", pushed(scene.repo, branch, head.commit)),
        gate("requires", required(scene, head.commit)),
        gate("tools", tools(scene)),
    ];
    // Only a tool that runs can be asked.
    if scene.deploy.engine == DeployEngine::Compose && gates.last().is_some_and(|tools| tools.ok) {
        gates.push(gate("project", project(scene)));
    }
    Ok(gates)
}

/// Containers have no owner but their project, and a clone finds them by its name: none of somebody else may
/// be in it, and none of ours may stay behind in another one.
fn project(scene: &Scene<'_>) -> Result<String> {
    let Some(now) = Outside::of(scene.repo, &scene.layer.name, scene.deploy) else {
        return Ok("none".to_owned());
    };
    let target = scene.target;
    let entries = match target.standing()? {
        Standing::Ours => history::read(&target.history())?,
        Standing::Free => Vec::new(),
    };
    let current = history::standing(&entries).0;
    let before = match current {
        Some(name) => Release::of(target, name).snapshot()?.outside,
        None => None,
    };
    let runs = |outside: &Outside| -> Result<bool> {
        let mut args = compose::context(outside);
        args.extend(words(&[
            "compose",
            "--project-name",
            &outside.project,
            "ps",
            "--all",
            "--quiet",
        ]));
        let folder = scene.repo.root().to_path_buf();
        let docker = Tool { name: "docker", folder, variables: Vec::new(), around: &scene.around };
        Ok(!docker.ask(&args, QUESTION)?.trim().is_empty())
    };
    let down = |one: &Outside| {
        let mut args = compose::context(one);
        args.extend(words(&["compose", "--project-name", &one.project, "down"]));
        format!("`docker {}`", args.join(" "))
    };
    let is_same = |one: &Outside| (&one.project, &one.context) == (&now.project, &now.context);
    match before {
        Some(before) if is_same(&before) => {}
        Some(before) if runs(&before)? => {
            let place = before.context.as_deref().unwrap_or("default");
            return Err(Error::no(format!(
                "what serves is project `{}` in context `{place}`, which would go on beside this one",
                before.project
            ))
            .hint(format!("{} ends it", down(&before))));
        }
        _ if current.is_none() && runs(&now)? => {
            return Err(Error::no(format!(
                "project `{}` has containers that no deploy of this clone has made",
                now.project
            ))
            .hint(format!("{} ends them, if they are yours: `start` makes such, too", down(&now)))
            .hint("the project has its name from the folder of the clone and the layer"));
        }
        _ => {}
    }
    Ok(now.project)
}

/// Looks at those that are about the target and its machine.
#[must_use]
pub fn look_there(grounds: &Grounds<'_>) -> Vec<Gate> {
    let mut gates = vec![
        gate("variables", variables(grounds)),
        gate("target", target(grounds.target)),
        gate("state", state(grounds)),
        gate("disk", disk(&grounds.target.root, grounds.needed)),
    ];
    if grounds.deploy.engine.has_ports() {
        gates.push(gate("ports", ports(grounds)));
    }
    gates
}

/// Both, in the usual order.
#[must_use]
pub fn together(here: Vec<Gate>, there: Vec<Gate>) -> Vec<Gate> {
    let mut all: Vec<Gate> = here.into_iter().chain(there).collect();
    let place = |gate: &Gate| ORDER.iter().position(|name| *name == gate.name);
    all.sort_by_key(|gate| place(gate).unwrap_or(ORDER.len()));
    all
}

/// A gate, by what was found.
#[must_use]
pub fn gate(name: &'static str, found: Result<String>) -> Gate {
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

/// The refusal, where there is one.
pub fn refuse(gates: &[Gate]) -> Result<()> {
    let shut: Vec<&Gate> = gates.iter().filter(|gate| !gate.ok).collect();
    if shut.is_empty() {
        return Ok(());
    }
    let what = format!("nothing was deployed: {}", count(shut.len(), "thing"));
    let is = if shut.len() == 1 { "is not as it" } else { "are not as they" };
    let error = Error::no(format!("{what} {is} must be"));
    Err(shut
        .into_iter()
        .fold(error, |error, gate| error.detail(format!("{}: {}", gate.name, gate.words))))
}

fn tree(repo: &Repo) -> Result<String> {
    if let Some(operation) = repo.operation() {
        let (name, end) = (operation.name, operation.ends_with);
        return Err(Error::no(format!("{name} is under way: `{end}` ends it")));
    }
    let mut changed = repo.uncommitted()?;
    changed.extend(repo.untracked()?);
    if changed.is_empty() {
        let head = repo.head()?;
        let mut modules = repo.list_tree(head.tree, &Everything)?.into_iter();
        return match modules.find(|(_, entry)| entry.mode == Mode::Gitlink) {
            Some((path, _)) => Err(Error::no(format!(
                "`{path}` is a submodule, which a release cannot hold: its files are in another repository"
            ))
            .hint("have a `build` step fetch them from where they are, and take the submodule out of the branch")),
            None => Ok("clean".to_owned()),
        };
    }
    Err(Error::no(format!(
        "there are changes that are not committed: {}",
        some_of(&changed, SHOWN)
    ))
    .hint("commit them, or `git stash`"))
}

fn branch(deploy: &Deploy, branch: Option<&str>) -> Result<String> {
    let Some(branch) = branch else {
        return Err(Error::no("HEAD is detached: switch to a branch"));
    };
    let mut patterns = deploy.branches.iter();
    if deploy.branches.is_empty() || patterns.any(|one| NamePattern::new(one).matches(branch)) {
        return Ok(branch.to_owned());
    }
    let allowed = some_of(&deploy.branches, SHOWN);
    Err(Error::no(format!("`{branch}` may not be deployed here, only {allowed}")))
}

fn pushed(repo: &Repo, branch: Option<&str>, commit: Id) -> Result<String> {
    if repo.remote_names().is_empty() {
        return Ok("there is no remote to push to".to_owned());
    }
    let upstream = branch.map_or(Ok(None), |branch| repo.upstream(branch))?;
    let others = repo.refs_below("refs/remotes/")?;
    // A branch can follow one of this very clone.
    let upstream = upstream.filter(|(name, _)| name.starts_with("refs/remotes/"));
    for (name, id) in upstream.into_iter().chain(others) {
        if repo.is_ancestor(commit, id).unwrap_or(false) {
            return Ok(format!("in {}", name.trim_start_matches("refs/remotes/")));
        }
    }
    Err(Error::no(format!("commit {} is not at any remote", repo.short(commit)))
        .hint("`git push`, or `git fetch` if somebody else has pushed it"))
}

fn required(scene: &Scene<'_>, commit: Id) -> Result<String> {
    let Some(name) = &scene.deploy.requires else { return Ok("nothing".to_owned()) };
    let layer = (scene.load)(name)?;
    let Some(deploy) = layer.deploy else {
        return Err(Error::no(format!("layer `{name}` has no `[deploy]`")));
    };
    let entries = past::entries(scene.repo, name, &deploy, scene.around.world)?;
    if history::is_verified(&entries, &commit.to_string()) {
        return Ok(format!("verified in {name}"));
    }
    let short = scene.repo.short(commit);
    Err(Error::no(format!("commit {short} has not been verified in layer `{name}`"))
        .hint(format!("`cargo xtask deploy {name}`")))
}

/// The variables that must be set, and are neither set here nor by a file that git tracks.
pub fn missing(scene: &Scene<'_>) -> Result<Vec<String>> {
    let tree = scene.repo.head()?.tree;
    let mut missing = Vec::new();
    for name in &scene.deploy.env_required {
        let mut is_set = scene.around.world.variable(name).is_some();
        for file in files_of_variables(scene.layer) {
            // What git does not track is not in the release.
            if !is_set && scene.repo.entry_at(tree, &RepoPath::new(file))?.is_some() {
                is_set = sets(&scene.repo.root().join(file), name)?;
            }
        }
        if !is_set {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

fn files_of_variables(layer: &Layer) -> impl Iterator<Item = &str> {
    let files = layer.services.iter().flat_map(|service| &service.env_files);
    files.map(|file| file.strip_prefix('?').unwrap_or(file))
}

/// Whether a file of variables sets this one.
fn sets(file: &Path, name: &str) -> Result<bool> {
    // What it refers to is for its start.
    let given = |_: &str| Some(std::ffi::OsString::new());
    let pairs = env_files::read(&EnvFile { path: file.to_path_buf(), is_optional: true }, &given)?;
    Ok(pairs.iter().any(|(known, value)| known == name && !value.is_empty()))
}

/// What is missing must be in a file of variables that outlives releases.
fn variables(grounds: &Grounds<'_>) -> Result<String> {
    let shared = grounds.target.shared();
    let mut missing = Vec::new();
    for name in &grounds.missing {
        let mut is_set = false;
        for file in files_of_variables(grounds.layer) {
            is_set = is_set || sets(&shared.join(file), name)?;
        }
        if !is_set {
            missing.push(name.clone());
        }
    }
    if missing.is_empty() {
        return Ok(match grounds.deploy.env_required.len() {
            0 => "none".to_owned(),
            number => format!("{} set", count(number, "variable")),
        });
    }
    let what = format!("not set: {}", some_of(&missing, SHOWN));
    Err(Error::no(what).hint(set_where(grounds.layer, grounds.target)))
}

/// Refuses to have a release serve on a port that somebody else has, or without a variable that must be set: it is
/// looked for in the environment, in the release and in what outlives releases.
pub fn check_rollback(
    layer: &Layer,
    deploy: &Deploy,
    target: &Target,
    release: &Release,
    around: &Around<'_>,
) -> Result<()> {
    let mut missing = Vec::new();
    for name in &deploy.env_required {
        let mut is_set = around.world.variable(name).is_some();
        for file in files_of_variables(layer) {
            for folder in [release.files(), target.shared()] {
                is_set = is_set || sets(&folder.join(file), name)?;
            }
        }
        if !is_set {
            missing.push(name.clone());
        }
    }
    if missing.is_empty() {
        if deploy.engine.has_ports() {
            let around = *around;
            let grounds = Grounds { layer, deploy, target, needed: 0, missing, around };
            ports(&grounds)?;
        }
        return Ok(());
    }
    let what = format!("nothing was changed: not set: {}", some_of(&missing, SHOWN));
    Err(Error::no(what).hint(set_where(layer, target)))
}

/// Where variables can be set.
fn set_where(layer: &Layer, target: &Target) -> String {
    let shared = target.shared();
    match files_of_variables(layer).next() {
        Some(file) => format!("set them in this shell, or in `{}`", shared.join(file).display()),
        None => "set them in this shell; no service has an `env-file`".to_owned(),
    }
}

fn target(target: &Target) -> Result<String> {
    let root = target.root.display();
    let standing = target.standing()?;
    if !may_write(&target.root) {
        return Err(Error::no(format!("`{root}` cannot be written by you")));
    }
    if standing == Standing::Free {
        return Ok(format!("{root}, new"));
    }
    if let Some(holder) = target.holder() {
        return Err(Error::no(format!("a run is under way in `{root}`: {holder}")));
    }
    if let Some(journal) = Journal::read(target)? {
        return Ok(format!("{root}; a run of {} was cut short, and is ended first", journal.new));
    }
    let entries = history::read(&target.history())?;
    switch::check(target, &[history::standing(&entries).0])?;
    Ok(format!("{root}"))
}

/// Nothing that services keep may lie where the next release does not have it.
fn state(grounds: &Grounds<'_>) -> Result<String> {
    let target = grounds.target;
    if target.standing()? == Standing::Free {
        return Ok("none yet".to_owned());
    }
    let entries = history::read(&target.history())?;
    if let Some(current) = history::standing(&entries).0 {
        let release = Release::of(target, current);
        // Whether it is a release at all is another gate.
        if release.is_sealed() {
            state::check_written(&release, grounds.deploy, target, true)?;
            state::check_kept(grounds.layer, &release, target)?;
        }
    }
    let names: BTreeSet<String> =
        grounds.layer.services.iter().flat_map(|one| &one.state).map(ToString::to_string).collect();
    let names: Vec<String> = names.into_iter().collect();
    Ok(if names.is_empty() {
        "nothing is kept".to_owned()
    } else {
        format!("{} in {}", some_of(&names, SHOWN), target.state().display())
    })
}

/// The room that a release needs, in bytes, and what must stay free besides.
pub fn needed(scene: &Scene<'_>) -> Result<u64> {
    let mut needed = ROOM;
    for (_, entry) in scene.repo.list_tree(scene.repo.head()?.tree, &Everything)? {
        if entry.mode != Mode::Gitlink {
            needed = needed.saturating_add(scene.repo.object_size(entry.id)?);
        }
    }
    Ok(needed)
}

fn disk(root: &Path, needed: u64) -> Result<String> {
    let nearest = root.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(nearest) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(cause) => {
            let what = format!("the room in `{}` cannot be told", nearest.display());
            return Err(Error::unable(what).because(cause));
        }
    };
    room(nearest, free, needed)
}

/// Whether so many bytes are enough.
pub fn room(folder: &Path, free: u64, needed: u64) -> Result<String> {
    if free < needed {
        let (free, needed) = (size(free), size(needed));
        return Err(Error::no(format!("{free} free in `{}`, {needed} needed", folder.display())));
    }
    Ok(format!("{} free", size(free)))
}

/// Whether the programs that an engine needs are here.
pub fn tools(scene: &Scene<'_>) -> Result<String> {
    let world = scene.around.world;
    // What is asked of the tool, so that it is seen to run; ssh and rsync show it by the greeting.
    let (needed, question): (&[&str], &[&str]) = match scene.deploy.engine {
        DeployEngine::Directory => (&[], &[]),
        DeployEngine::Ssh => (&["ssh", "rsync"], &[]),
        DeployEngine::Compose => (&["docker"], &["compose", "version"]),
        DeployEngine::Kubernetes => (&["kubectl"], &["version", "--client"]),
    };
    let missing = needed.iter().filter(|name| world.finds(name).is_none());
    let missing: Vec<String> = missing.map(|name| (*name).to_owned()).collect();
    if !missing.is_empty() {
        return Err(Error::no(format!("not on PATH: {}", missing.join(", "))));
    }
    if let ([name], [_, ..]) = (needed, question) {
        let (folder, variables) = (scene.repo.root().to_path_buf(), Vec::new());
        let tool = Tool { name, folder, variables, around: &scene.around };
        tool.ask(&words(question), QUESTION)?;
    }
    Ok(if needed.is_empty() { "none needed".to_owned() } else { needed.join(", ") })
}

/// The ports of the layer must be free, or those of the release that serves.
fn ports(grounds: &Grounds<'_>) -> Result<String> {
    let mut wanted: BTreeMap<String, u16> = stacks::ports(grounds.layer);
    if let xtask_config::Status::Port(port) = grounds.layer.status {
        wanted.insert("status".to_owned(), port);
    }
    for stack in stacks::all(grounds.target)? {
        if let Some(running) = client::running(&stack, grounds.around.world)? {
            let own: Vec<u16> = running.specs.iter().filter_map(|spec| spec.port).collect();
            wanted.retain(|_, port| !own.contains(port));
            let page = client::glance(&stack, grounds.around.world)?;
            let status = page.and_then(|page| page.supervisor).and_then(|line| line.status_port);
            wanted.retain(|_, port| Some(*port) != status);
        }
    }
    let wanted: Vec<(String, u16)> = wanted.into_iter().collect();
    let obstacles = port_plan::obstacles(&wanted, None)?;
    if obstacles.is_empty() {
        return Ok("free, or those of the release that serves".to_owned());
    }
    let error = Error::no(format!("{} in use", count(obstacles.len(), "port")));
    let who = |one: &port_plan::Obstacle| match one.owners.is_empty() {
        true => one.words.split("; `--port").next().unwrap_or_default().to_owned(),
        false => ports::words(one.port, &one.owners),
    };
    // What `start` can do about it, a deploy does not.
    Err(obstacles.iter().fold(error, |error, one| error.detail(who(one))))
}
