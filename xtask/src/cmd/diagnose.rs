//! The diagnosis of `recover`: the problems of a worktree and the plan to fix them, for the steps git, environment,
//! ports and services. It writes nothing.
//!
//! ```text
//! git       a rebase is in progress  ->  end the rebase; go to `origin/main`
//! services  api is failed            ->  stop the services, and start layer `local` again
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use clap::ValueEnum as _;

use super::session::Session;
use super::{backup_list, stack as shared};
use crate::cli::{RecoverArgs, RecoverStep};
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, pluralize};
use xtask_config::{DEFAULT_LAYER, DEPLOYMENT_FOLDER, Layer};
use xtask_git::Repo;
use xtask_recovery::create_backup::{SecretRules, UnsavedState, inspect_worktree};
use xtask_recovery::env_files::{BrokenEnvFile, EnvReplacement, find_replacement};
use xtask_recovery::reset::{DETACHED_HEAD, find_unreferenced_commit, recovered_branch_name};
use xtask_recovery::target::{self, RecoveryTarget};
use xtask_report::recovery::RecoveryPartLine;
use xtask_services::env_files;
use xtask_services::observe::{list_known_stacks, observe_stack};
use xtask_services::port_plan::{self, PortConflict};
use xtask_services::stack::Stack;
use xtask_sync::classify::PathClass;
use xtask_sync::context;
use xtask_sync::run::{SyncInspection, SyncOptions};
use xtask_sync::scan::ScanDepth;
use xtask_validate::session::describe_last_run;

/// How many names are listed in one line.
const MAX_NAMES: usize = 5;

/// The size limit of an env file, in bytes; the same as for services.
const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// The problems of a worktree, and the plan.
pub(super) struct Diagnosis {
    /// The uncommitted state of the worktree.
    pub(super) seen: UnsavedState,
    /// The patterns by which `seen` was split into ordinary and secret files.
    pub(super) secrets: SecretRules,
    /// The commit and branch to go to.
    pub(super) goal: RecoveryTarget,
    /// Whether the worktree is reset to `goal`.
    pub(super) is_leaving: bool,
    /// Env files that cannot be read.
    pub(super) broken: Vec<BrokenEnvFile>,
    /// The layers whose services are restarted.
    pub(super) layers: Vec<String>,
    /// The wanted ports that are in use.
    pub(super) obstacles: Vec<PortConflict>,
    /// A line for each step, with its problems and actions.
    pub(super) parts: Vec<RecoveryPartLine>,
    chosen: BTreeSet<RecoverStep>,
}

impl Diagnosis {
    /// Returns whether `step` was requested.
    pub(super) fn is_requested(&self, step: RecoverStep) -> bool {
        self.chosen.contains(&step)
    }

    /// Returns whether `step` has something to do.
    pub(super) fn has_actions(&self, step: RecoverStep) -> bool {
        self.parts.iter().any(|part| part.name == step_name(step) && !part.actions.is_empty())
    }

    /// Returns whether no requested step has a problem.
    pub(super) fn is_healthy(&self) -> bool {
        self.parts.iter().all(|part| part.problems.is_empty() && part.actions.is_empty())
    }
}

/// Returns the name of a step as it is typed, e.g. `git`.
pub(super) fn step_name(step: RecoverStep) -> String {
    step.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Diagnoses the requested steps, or all.
pub(super) fn diagnose_worktree(
    session: &Session,
    repo: &Repo,
    args: &RecoverArgs,
) -> Result<Diagnosis> {
    use RecoverStep::{Environment, Git, Ports, Services};
    let all = || [Git, Environment, Ports, Services].into_iter().collect();
    let chosen: BTreeSet<RecoverStep> =
        if args.steps.is_empty() { all() } else { args.steps.iter().copied().collect() };
    let is_whole = args.steps.is_empty();
    let layers = choose_layers(session, repo, args.layer.as_deref())?;
    let loaded: Vec<Result<Layer>> =
        layers.iter().map(|name| shared::read_layer(repo, name)).collect();
    let sound: Vec<&Layer> = loaded.iter().flatten().collect();
    let broken = find_broken_files(repo, &sound)?;
    let mut secrets = backup_list::read_secret_rules(repo);
    // What may be replaced is backed up even if it matches no `[backup]` pattern.
    secrets.extra_paths.extend(broken.iter().map(|one| one.path.clone()));
    let seen = inspect_worktree(repo, &secrets)?;
    let goal = target::find_target(repo, args.to.as_deref())?;

    let mut git = RecoveryPartLine {
        name: step_name(Git),
        problems: list_git_problems(&seen),
        actions: Vec::new(),
    };
    if repo.is_index_locked() {
        let lock = repo.index_lock_file().display().to_string();
        git.problems.push(format!(
            "the index is locked: git is running here, or has crashed and left `{lock}`"
        ));
    }
    let is_elsewhere = seen.head.branch != goal.branch || seen.head.commit != goal.commit;
    let leaves =
        chosen.contains(&Git) && (!git.problems.is_empty() || args.to.is_some() && is_elsewhere);
    if leaves {
        git.actions = plan_git_actions(session, repo, &seen, &goal);
    }

    let mut environment = RecoveryPartLine {
        name: step_name(Environment),
        problems: Vec::new(),
        actions: Vec::new(),
    };
    environment.problems.extend(broken.iter().map(|one| one.why.clone()));
    environment.problems.extend(describe_drift(session, repo));
    environment.problems.extend(find_failed_validation(session, repo));
    let is_needed = !environment.problems.is_empty() || leaves;
    if is_needed {
        environment.actions = broken.iter().map(|one| describe_replacement(session, one)).collect();
        environment.actions.push("sync, and validate without tests".to_owned());
    }

    let (ill, obstacles) = diagnose_services(session, repo, &loaded, &layers)?;
    let mut ports =
        RecoveryPartLine { name: step_name(Ports), problems: Vec::new(), actions: Vec::new() };
    ports.problems.extend(obstacles.iter().map(|one| one.describe(false)));
    if !obstacles.is_empty() {
        ports.actions.push(
            match chosen.contains(&Services) {
                true => {
                    "stop our own processes there; if another process has the port, use another port"
                }
                false => "stop our own processes there, and no others",
            }
            .to_owned(),
        );
    }
    let mut services =
        RecoveryPartLine { name: step_name(Services), problems: ill, actions: Vec::new() };
    let is_other_wrong = is_whole && (leaves || is_needed || !obstacles.is_empty());
    if !layers.is_empty() && (!services.problems.is_empty() || is_other_wrong) {
        let names = layers.join("`, `");
        services.actions.push(format!("stop the services, and start layer `{names}` again"));
    }

    let all = [(Git, git), (Environment, environment), (Ports, ports), (Services, services)];
    let parts = all.into_iter().filter(|(step, _)| chosen.contains(step)).map(|(_, part)| part);
    let parts = parts.collect();
    Ok(Diagnosis {
        seen,
        secrets,
        goal,
        is_leaving: leaves,
        broken,
        layers,
        obstacles,
        parts,
        chosen,
    })
}

fn list_git_problems(seen: &UnsavedState) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(operation) = seen.operation {
        faults.push(format!("{operation} is in progress"));
    }
    let changed: Vec<String> = seen.changes.tracked.keys().map(ToString::to_string).collect();
    if !changed.is_empty() {
        let number = pluralize(changed.len(), "file");
        faults.push(format!(
            "{number} changed and not committed: {}",
            join_names(&changed, MAX_NAMES)
        ));
    }
    faults
}

fn plan_git_actions(
    session: &Session,
    repo: &Repo,
    seen: &UnsavedState,
    goal: &RecoveryTarget,
) -> Vec<String> {
    let mut does = Vec::new();
    if let Some(operation) = seen.operation {
        let name = operation.split_once(' ').map_or(operation, |(_, name)| name);
        does.push(format!("end the {name} in progress"));
    }
    let now = session.world.now_seconds();
    let fetched = goal.branch.as_ref().filter(|_| goal.typed.contains('/')).and_then(|branch| {
        let (remote, _) = goal.typed.split_once('/')?;
        Some(format!(", fetched {}", format_ago(now, repo.last_fetch_time(remote, branch)?)))
    });
    let fetched = fetched.unwrap_or_default();
    does.push(format!("go to {}{fetched}", goal.describe(repo)));
    if goal.own_commits > 0
        && let Some(branch) = &goal.branch
    {
        does.push(target::describe_kept_commits(goal, &recovered_branch_name(branch, now)));
    }
    if matches!(find_unreferenced_commit(repo, seen.operation), Ok(Some(_))) {
        let kept = recovered_branch_name(DETACHED_HEAD, now);
        does.push(format!(
            "keep the commits of the detached HEAD that are on no branch as `{kept}`"
        ));
    }
    does.push(match seen.changes.untracked.len() {
        0 => "back up changes first".to_owned(),
        number => {
            let files = pluralize(number, "untracked file");
            let stay = if number == 1 { "stays" } else { "stay" };
            format!("back up changes first; {files} {stay}, unless in the way")
        }
    });
    does
}

/// Returns the layers to check: `named`, or those that run or have failed here, or the default one if it exists.
fn choose_layers(session: &Session, repo: &Repo, named: Option<&str>) -> Result<Vec<String>> {
    if let Some(name) = named {
        shared::find_stack(repo, name)?;
        return Ok(vec![name.to_owned()]);
    }
    let (known, _) = list_known_stacks(&repo.folders(), &session.world);
    let up = known
        .into_iter()
        .filter(|(_, page)| page.is_up() || page.services.iter().any(|row| row.fault().is_some()));
    let up: Vec<String> = up.map(|(stack, _)| stack.layer).collect();
    if !up.is_empty() {
        return Ok(up);
    }
    let has_default = repo.root().join(DEPLOYMENT_FOLDER).join(format!("{DEFAULT_LAYER}.toml"));
    Ok(if has_default.is_file() { vec![DEFAULT_LAYER.to_owned()] } else { Vec::new() })
}

/// Returns the problems of the services, and the conflicts of the ports of those that do not run.
fn diagnose_services(
    session: &Session,
    repo: &Repo,
    loaded: &[Result<Layer>],
    layers: &[String],
) -> Result<(Vec<String>, Vec<PortConflict>)> {
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
        let seen = observe_stack(&stack, &session.world)?;
        let rows = seen.status.iter().flat_map(|page| &page.services);
        wrong.extend(rows.filter_map(|row| {
            let why = row.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            Some(format!("{} is {}{why}", row.service, row.fault()?))
        }));
        let running = seen.running_services();
        let is_up = |service: &str| running.find_spec(service).is_some();
        let none = std::collections::BTreeMap::new();
        let ports =
            port_plan::assign_ports(&repo.folders(), session.tools().disk, layer, &none, false)?;
        let wanted: Vec<(String, u16)> =
            ports.services.into_iter().filter(|(service, _)| !is_up(service)).collect();
        obstacles.extend(port_plan::find_conflicts(&wanted, running.token.as_deref())?);
    }
    Ok((wrong, obstacles))
}

/// Returns `.env` and the env files of `layers` that exist but cannot be read, or are required but missing.
pub(super) fn find_broken_files(repo: &Repo, layers: &[&Layer]) -> Result<Vec<BrokenEnvFile>> {
    let mut files: BTreeSet<(String, bool)> = BTreeSet::new();
    files.insert((".env".to_owned(), false));
    for file in layers.iter().flat_map(|layer| &layer.services).flat_map(|one| &one.env_files) {
        match file.strip_prefix('?') {
            Some(file) => files.insert((file.to_owned(), false)),
            None => files.insert((file.clone(), true)),
        };
    }
    let is_good = |content: &[u8]| {
        !env_files::is_torn(content)
            && env_files::parse_env_file("it", content, &accept_reference).is_ok()
    };
    let mut found = Vec::new();
    for (file, is_required) in files {
        let path = RepoPath::new(file.clone());
        if found.iter().any(|one: &BrokenEnvFile| one.path == path) {
            continue;
        }
        let Some((why, is_torn)) =
            find_file_fault(&path.to_disk_path(repo.root()), &file, is_required)
        else {
            continue;
        };
        // A file that is complete but invalid was written that way by somebody, so it is not replaced.
        let instead = if is_torn { find_replacement(repo, &path, &is_good)? } else { None };
        let is_empty = path.to_disk_path(repo.root()).metadata().is_ok_and(|meta| meta.len() == 0);
        // An empty file may be intended, unless a backup has content for it.
        if is_empty && !matches!(instead, Some(EnvReplacement::Copy { .. })) {
            continue;
        }
        found.push(BrokenEnvFile { path, why, is_damaged: is_torn, replacement: instead });
    }
    Ok(found)
}

/// Accepts every reference to a variable; `start` resolves them.
fn accept_reference(_: &str) -> Option<OsString> {
    Some(OsString::new())
}

/// Returns the problem of an env file, and whether it is damaged (empty, truncated or in conflict).
fn find_file_fault(on_disk: &Path, name: &str, is_required: bool) -> Option<(String, bool)> {
    let meta = match std::fs::metadata(on_disk) {
        // A folder `.env` is a virtual environment of Python.
        Ok(meta) if meta.is_dir() && !is_required => return None,
        Ok(meta) => meta,
        Err(_) if is_required => return Some((format!("`{name}` not found"), true)),
        Err(_) => return None,
    };
    // A named pipe comes from a secret manager; only `start` reads it.
    if meta.file_type().is_fifo() {
        return None;
    }
    if !meta.is_file() || meta.len() > MAX_ENV_FILE_BYTES {
        return Some((format!("`{name}` is not a valid env file"), false));
    }
    match std::fs::read(on_disk) {
        Ok(content) => {
            let is_torn = env_files::is_torn(&content);
            let failure = env_files::parse_env_file(name, &content, &accept_reference).err();
            let why = failure.map(|failure| failure.to_string());
            let torn = || format!("`{name}` is empty, truncated or in conflict");
            why.or_else(|| is_torn.then(torn)).map(|why| (why, is_torn))
        }
        Err(cause) => Some((format!("cannot read `{name}`: {cause}"), false)),
    }
}

fn describe_replacement(session: &Session, one: &BrokenEnvFile) -> String {
    let path = &one.path;
    match &one.replacement {
        Some(EnvReplacement::Copy { backup, seconds, .. }) => {
            let when = format_ago(session.world.now_seconds(), *seconds);
            format!("`{path}` as it was {when}, from backup {backup}")
        }
        Some(EnvReplacement::Example(example)) => format!("`{path}` from `{example}`"),
        None if !one.is_damaged => format!(
            "keep `{path}`: it is not damaged (empty, truncated or in conflict), only invalid; fix the line"
        ),
        None => {
            format!("keep `{path}`: no backup has a readable copy, and there is no example file")
        }
    }
}

/// Describes managed files that are behind, if a plain sync may update them.
fn describe_drift(session: &Session, repo: &Repo) -> Option<String> {
    let context = context::find_canonical_context(repo).ok()??;
    let looked = xtask_sync::run::inspect_checkout(
        repo,
        context,
        &SyncOptions::plain(),
        ScanDepth::Differences,
        &session.tools(),
    );
    let Ok(SyncInspection::Planned(decided)) = looked else { return None };
    let behind = decided.plan.count(PathClass::Behind) + decided.plan.count(PathClass::Sparse);
    let is_allowed =
        xtask_sync::run::check_write_rules(repo, &decided, &SyncOptions::plain()).is_ok();
    (behind > 0 && is_allowed).then(|| format!("{} behind", pluralize(behind, "managed file")))
}

fn find_failed_validation(session: &Session, repo: &Repo) -> Option<String> {
    let (past, words) = describe_last_run(repo, repo.root())?;
    let when = format_ago(session.world.now_seconds(), past.at);
    (!past.ok).then(|| format!("the last validation failed, {when}: {words}"))
}
