//! What is wrong in a worktree, for `recover`: of git, of the environment, of the ports, of the services.
//! Looking only.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use clap::ValueEnum as _;

use super::session::Session;
use super::{saved, stack as shared};
use crate::cli::{Recover, RecoverStep};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::{count, some_of};
use xtask_base::world::ago;
use xtask_config::{DEFAULT_LAYER, DEPLOYMENT_FOLDER, Layer};
use xtask_git::Repo;
use xtask_recovery::goal::{self, Goal};
use xtask_recovery::leave::{DETACHED, kept_name, loose_commit};
use xtask_recovery::save::{Secrets, Seen, look};
use xtask_recovery::variables::{Broken, Instead, instead};
use xtask_report::recovery::PartLine;
use xtask_services::client;
use xtask_services::env_files;
use xtask_services::page::Row;
use xtask_services::port_plan::{self, Obstacle};
use xtask_services::stack::Stack;
use xtask_sync::classify::Class;
use xtask_sync::context;
use xtask_sync::gather::Depth;
use xtask_sync::run::{Looked, Wishes};
use xtask_validate::perform::last_words;

/// How many names are told in one line.
const SHOWN: usize = 5;

/// The largest file of variables that is looked into: 1 MiB, as services read them.
const LARGEST_FILE: u64 = 1 << 20;

/// What was found.
pub(super) struct Diagnosis {
    /// What stands in the worktree and not in its commit.
    pub(super) seen: Seen,
    /// By which rules that was looked at.
    pub(super) secrets: Secrets,
    /// Where it goes.
    pub(super) goal: Goal,
    /// Whether it goes there.
    pub(super) leaves: bool,
    /// Files of variables that cannot be read.
    pub(super) broken: Vec<Broken>,
    /// The layers whose services are ended and started.
    pub(super) layers: Vec<String>,
    /// Who has ports that services want.
    pub(super) obstacles: Vec<Obstacle>,
    /// The parts, with what is wrong and what is done.
    pub(super) parts: Vec<PartLine>,
    chosen: BTreeSet<RecoverStep>,
}

impl Diagnosis {
    /// Whether a part was asked for.
    pub(super) fn asks(&self, step: RecoverStep) -> bool {
        self.chosen.contains(&step)
    }

    /// Whether something is done in a part.
    pub(super) fn does(&self, step: RecoverStep) -> bool {
        self.parts.iter().any(|part| part.name == name(step) && !part.does.is_empty())
    }

    /// Whether nothing is wrong in what was asked for.
    pub(super) fn is_well(&self) -> bool {
        self.parts.iter().all(|part| part.wrong.is_empty() && part.does.is_empty())
    }
}

/// A part as it is typed.
pub(super) fn name(step: RecoverStep) -> String {
    step.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Looks at all of it.
pub(super) fn diagnose(session: &Session, repo: &Repo, args: &Recover) -> Result<Diagnosis> {
    use RecoverStep::{Environment, Git, Ports, Services};
    let all = || [Git, Environment, Ports, Services].into_iter().collect();
    let chosen: BTreeSet<RecoverStep> =
        if args.steps.is_empty() { all() } else { args.steps.iter().copied().collect() };
    let is_whole = args.steps.is_empty();
    let layers = layers(session, repo, args.layer.as_deref())?;
    let loaded: Vec<Result<Layer>> = layers.iter().map(|name| shared::load(repo, name)).collect();
    let sound: Vec<&Layer> = loaded.iter().flatten().collect();
    let broken = broken(repo, &sound)?;
    let mut secrets = saved::secrets(repo);
    // What may be replaced is saved, whether the rules name it or not.
    secrets.also.extend(broken.iter().map(|one| one.path.clone()));
    let seen = look(repo, &secrets)?;
    let goal = goal::find(repo, args.to.as_deref())?;

    let mut git = PartLine { name: name(Git), wrong: git_faults(&seen), does: Vec::new() };
    if repo.index_is_locked() {
        let lock = repo.index_lock().display().to_string();
        git.wrong.push(format!(
            "the index is locked: a git is at work here, or has crashed and left `{lock}`"
        ));
    }
    let is_elsewhere = seen.head.branch != goal.branch || seen.head.commit != goal.commit;
    let leaves =
        chosen.contains(&Git) && (!git.wrong.is_empty() || args.to.is_some() && is_elsewhere);
    if leaves {
        git.does = git_does(session, repo, &seen, &goal);
    }

    let mut environment = PartLine { name: name(Environment), wrong: Vec::new(), does: Vec::new() };
    environment.wrong.extend(broken.iter().map(|one| one.why.clone()));
    environment.wrong.extend(behind(session, repo));
    environment.wrong.extend(last_validation(session, repo));
    let is_needed = !environment.wrong.is_empty() || leaves;
    if is_needed {
        environment.does = broken.iter().map(|one| replaces(session, one)).collect();
        environment.does.push("sync, and validate without tests".to_owned());
    }

    let (ill, obstacles) = services(session, repo, &loaded, &layers)?;
    let mut ports = PartLine { name: name(Ports), wrong: Vec::new(), does: Vec::new() };
    // What `start` could do about it is not done here.
    let who = |one: &Obstacle| one.words.split("; `--port").next().unwrap_or_default().to_owned();
    ports.wrong.extend(obstacles.iter().map(who));
    if !obstacles.is_empty() {
        ports.does.push(
            match chosen.contains(&Services) {
                true => {
                    "what is ours there is ended; beside anybody else services start on other ports"
                }
                false => "what is ours there is ended; nobody else's is touched",
            }
            .to_owned(),
        );
    }
    let mut services = PartLine { name: name(Services), wrong: ill, does: Vec::new() };
    let is_other_wrong = is_whole && (leaves || is_needed || !obstacles.is_empty());
    if !layers.is_empty() && (!services.wrong.is_empty() || is_other_wrong) {
        let names = layers.join("`, `");
        services.does.push(format!("end what runs, and start layer `{names}` anew"));
    }

    let all = [(Git, git), (Environment, environment), (Ports, ports), (Services, services)];
    let parts = all.into_iter().filter(|(step, _)| chosen.contains(step)).map(|(_, part)| part);
    let parts = parts.collect();
    Ok(Diagnosis { seen, secrets, goal, leaves, broken, layers, obstacles, parts, chosen })
}

fn git_faults(seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(operation) = seen.operation {
        faults.push(format!("{operation} is under way"));
    }
    let changed: Vec<String> = seen.changes.tracked.keys().map(ToString::to_string).collect();
    if !changed.is_empty() {
        let number = count(changed.len(), "file");
        faults.push(format!("{number} changed and not committed: {}", some_of(&changed, SHOWN)));
    }
    faults
}

fn git_does(session: &Session, repo: &Repo, seen: &Seen, goal: &Goal) -> Vec<String> {
    let mut does = Vec::new();
    if let Some(operation) = seen.operation {
        let name = operation.split_once(' ').map_or(operation, |(_, name)| name);
        does.push(format!("end the {name} where it stands"));
    }
    let now = session.world.now_seconds();
    let fetched = goal.branch.as_ref().filter(|_| goal.typed.contains('/')).and_then(|branch| {
        let (remote, _) = goal.typed.split_once('/')?;
        Some(format!(", fetched {}", ago(now, repo.last_fetch(remote, branch)?)))
    });
    let fetched = fetched.unwrap_or_default();
    does.push(format!("go to {}{fetched}", goal.words(repo)));
    if goal.own > 0
        && let Some(branch) = &goal.branch
    {
        does.push(goal::own_words(goal, &kept_name(branch, now)));
    }
    if matches!(loose_commit(repo, seen.operation), Ok(Some(_))) {
        let kept = kept_name(DETACHED, now);
        does.push(format!("commits of the detached HEAD that no branch has: kept on `{kept}`"));
    }
    does.push(match seen.changes.untracked.len() {
        0 => "changes are saved first".to_owned(),
        number => {
            let files = count(number, "untracked file");
            let stay = if number == 1 { "stays" } else { "stay" };
            format!("changes are saved first; {files} {stay}, unless in the way")
        }
    });
    does
}

/// The layers that are meant: what runs or was started here, or else the default one, if there is one.
fn layers(session: &Session, repo: &Repo, named: Option<&str>) -> Result<Vec<String>> {
    if let Some(name) = named {
        shared::named(repo, name)?;
        return Ok(vec![name.to_owned()]);
    }
    let (known, _) = shared::known(session, repo);
    let up = known
        .into_iter()
        .filter(|(_, page)| shared::is_up(page) || page.services.iter().any(is_ill));
    let up: Vec<String> = up.map(|(stack, _)| stack.layer).collect();
    if !up.is_empty() {
        return Ok(up);
    }
    let has_default = repo.root().join(DEPLOYMENT_FOLDER).join(format!("{DEFAULT_LAYER}.toml"));
    Ok(if has_default.is_file() { vec![DEFAULT_LAYER.to_owned()] } else { Vec::new() })
}

fn is_ill(row: &Row) -> bool {
    matches!(row.state.as_str(), "failed" | "blocked" | "lost")
        || row.state == "ready" && row.health == "unhealthy"
}

/// What is wrong with the services, and with the ports of those that do not run.
fn services(
    session: &Session,
    repo: &Repo,
    loaded: &[Result<Layer>],
    layers: &[String],
) -> Result<(Vec<String>, Vec<Obstacle>)> {
    let mut wrong = Vec::new();
    let mut obstacles = Vec::new();
    for (name, layer) in layers.iter().zip(loaded) {
        let layer = match layer {
            Ok(layer) => layer,
            Err(failure) => {
                wrong.push(format!("layer `{name}`: {failure}"));
                continue;
            }
        };
        let stack = Stack::new(&repo.folders(), name);
        let page = client::glance(&stack, &session.world)?;
        let rows = page.iter().flat_map(|page| &page.services);
        wrong.extend(rows.filter(|row| is_ill(row)).map(|row| {
            let why = row.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            format!(
                "{} is {}{why}",
                row.service,
                if row.state == "ready" { "unhealthy" } else { &row.state }
            )
        }));
        let running = client::running(&stack, &session.world)?;
        let token = running.as_ref().map(|known| known.token.as_str());
        let is_up = |service: &str| {
            running.as_ref().is_some_and(|known| known.specs.iter().any(|one| one.name == service))
        };
        let none = std::collections::BTreeMap::new();
        let ports = port_plan::assign(&repo.folders(), session.tools().disk, layer, &none, false)?;
        let wanted: Vec<(String, u16)> =
            ports.services.into_iter().filter(|(service, _)| !is_up(service)).collect();
        obstacles.extend(port_plan::obstacles(&wanted, token)?);
    }
    Ok((wrong, obstacles))
}

/// The files of variables of these layers, and `.env`, as far as they are there and cannot be read, or must
/// be there and are not.
pub(super) fn broken(repo: &Repo, layers: &[&Layer]) -> Result<Vec<Broken>> {
    let mut files: BTreeSet<(String, bool)> = BTreeSet::new();
    files.insert((".env".to_owned(), false));
    for file in layers.iter().flat_map(|layer| &layer.services).flat_map(|one| &one.env_files) {
        match file.strip_prefix('?') {
            Some(file) => files.insert((file.to_owned(), false)),
            None => files.insert((file.clone(), true)),
        };
    }
    let is_good = |content: &[u8]| {
        !env_files::is_torn(content) && env_files::parse("it", content, &anything).is_ok()
    };
    let mut found = Vec::new();
    for (file, is_required) in files {
        let path = RepoPath::new(file.clone());
        if found.iter().any(|one: &Broken| one.path == path) {
            continue;
        }
        let Some((why, is_torn)) = fault(&path.on_disk(repo.root()), &file, is_required) else {
            continue;
        };
        // What somebody wrote so, and only we cannot read, is theirs.
        let instead = if is_torn { instead(repo, &path, &is_good)? } else { None };
        let is_empty = path.on_disk(repo.root()).metadata().is_ok_and(|meta| meta.len() == 0);
        // Somebody may want it so, unless there was more in it once.
        if is_empty && !matches!(instead, Some(Instead::Copy { .. })) {
            continue;
        }
        found.push(Broken { path, why, is_torn, instead });
    }
    Ok(found)
}

/// References are for the start to look up.
fn anything(_: &str) -> Option<OsString> {
    Some(OsString::new())
}

/// What is wrong with a file of variables, and whether it is torn.
fn fault(on_disk: &Path, name: &str, is_required: bool) -> Option<(String, bool)> {
    let meta = match std::fs::metadata(on_disk) {
        // A folder of that name is an environment of another kind.
        Ok(meta) if meta.is_dir() && !is_required => return None,
        Ok(meta) => meta,
        Err(_) if is_required => return Some((format!("`{name}` is not there"), true)),
        Err(_) => return None,
    };
    // A pipe of a secret manager is for the start to read.
    if meta.file_type().is_fifo() {
        return None;
    }
    if !meta.is_file() || meta.len() > LARGEST_FILE {
        return Some((format!("`{name}` is not a valid env file"), false));
    }
    match std::fs::read(on_disk) {
        Ok(content) => {
            let is_torn = env_files::is_torn(&content);
            let failure = env_files::parse(name, &content, &anything).err();
            let why = failure.map(|failure| failure.to_string());
            let torn = || format!("`{name}` is empty, cut off or in conflict");
            why.or_else(|| is_torn.then(torn)).map(|why| (why, is_torn))
        }
        Err(cause) => Some((format!("`{name}` cannot be read: {cause}"), false)),
    }
}

fn replaces(session: &Session, one: &Broken) -> String {
    let path = &one.path;
    match &one.instead {
        Some(Instead::Copy { backup, seconds, .. }) => {
            let when = ago(session.world.now_seconds(), *seconds);
            format!("`{path}` as it was {when}, from backup {backup}")
        }
        Some(Instead::Example(example)) => format!("`{path}` from `{example}`"),
        None if !one.is_torn => format!(
            "`{path}` stays: it is neither empty nor cut off nor in conflict, so somebody wrote it so; mend the line"
        ),
        None => format!(
            "`{path}` stays: no backup has a copy that can be read, and no example is there"
        ),
    }
}

/// Whether managed files are behind, where sync may do something about it.
fn behind(session: &Session, repo: &Repo) -> Option<String> {
    let context = context::of_canonical(repo).ok()??;
    let looked = xtask_sync::run::look(
        repo,
        context,
        &Wishes::plain(),
        Depth::Differences,
        &session.tools(),
    );
    let Ok(Looked::Decided(decided)) = looked else { return None };
    let behind = decided.plan.count(Class::Behind) + decided.plan.count(Class::Sparse);
    let is_allowed = xtask_sync::run::check_rules(repo, &decided, &Wishes::plain()).is_ok();
    (behind > 0 && is_allowed).then(|| format!("{} behind", count(behind, "managed file")))
}

fn last_validation(session: &Session, repo: &Repo) -> Option<String> {
    let (past, words) = last_words(repo, repo.root())?;
    let when = ago(session.world.now_seconds(), past.at);
    (!past.ok).then(|| format!("the last validation failed, {when}: {words}"))
}
