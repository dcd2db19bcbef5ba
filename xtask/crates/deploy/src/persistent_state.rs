//! Persistent data of services across releases, and its protection against loss.
//!
//! Folders named by `state` are in `TO/state`, outside all releases. A service with state is not started a
//! second time for a candidate; the running instance is used. Before another release takes over, the `backup`
//! command of the service saves the state:
//!
//! ```text
//! TO/state/postgres  ->  TO/backups/20250310T101500Z-RELEASE/db/dump.sql
//! ```
//!
//! The next release does not have the files that a service writes into the release itself. So unlisted or changed
//! files in a release, except for caches and the like, block a deploy, and such a release is never removed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DeployContext;
use super::command_exit::{check_exit, with_last_lines};
use super::release::{Release, ReleaseSnapshot};
use super::stacks::{self, ReleaseStack, StackRole};
use super::target::DeployTarget;
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::process::Program;
use xtask_base::words::{join_names, pluralize};
use xtask_config::{BACKUP, CandidateMode, DeployConfig, Layer};
use xtask_git::PathPatterns;
use xtask_services::client;
use xtask_services::env_files::{EnvFileError, EnvFileValues, WaitPolicy};
use xtask_services::launch::{self, LaunchContext};
use xtask_services::marker::MARKER_VARIABLE;
use xtask_services::spec::ServiceSpec;
use xtask_services::status::ReportedState;

/// Patterns of files that programs recreate next to their sources: caches, pid files and sockets.
const REGENERATED_PATTERNS: [&str; 7] = [
    "__pycache__/",
    "*.pyc",
    ".cache/",
    ".pytest_cache/",
    "*.pid",
    "*.sock",
    "celerybeat-schedule*",
];

/// Number of paths that a message lists.
const MAX_SHOWN: usize = 5;

/// Folder name of a backup in progress.
const PARTIAL_BACKUP: &str = "half";

/// Services to start for a candidate.
pub struct TrialPlan {
    /// Specs of the services to start.
    pub specs: Vec<ServiceSpec>,
    /// Messages about the services that are not started.
    pub notes: Vec<String>,
}

/// Selects the services to start for a candidate: a service with state that is already running is not started
/// twice; its running instance is used.
pub fn plan_trial(
    layer: &Layer,
    target: &DeployTarget,
    release: &Release,
    deploy_ctx: &DeployContext<'_>,
) -> Result<TrialPlan> {
    let serving = list_serving(target, release, deploy_ctx)?;
    let mut notes = Vec::new();
    let mut ports = stacks::find_spare_ports(layer)?;
    // Index of each service that is not started, and whether its dependents can start.
    let mut left_out: BTreeMap<usize, bool> = BTreeMap::new();
    for (at, service) in layer.services.iter().enumerate() {
        if service.candidate != CandidateMode::Serving {
            continue;
        }
        let folders: Vec<PathBuf> =
            service.state.iter().map(|name| name.to_disk_path(&target.state_folder())).collect();
        let stands = serving.iter().find(|one| one.name == service.name).or_else(|| {
            let is_renamed =
                |one: &&ServingService| layer.services.iter().all(|other| other.name != one.name);
            serving.iter().filter(is_renamed).find(|one| folders_overlap(&one.state, &folders))
        });
        let Some(stands) = stands else { continue };
        left_out.insert(at, stands.is_healthy);
        if let Some(port) = stands.port {
            ports.insert(service.name.clone(), port);
        }
        notes.push(match stands.is_healthy {
            true => format!("`{}` is already running and is used by the candidate", service.name),
            false => format!(
                "`{}` is {} in the current release, and is not started a second time: services that need it are not tested",
                service.name, stands.status
            ),
        });
    }
    leave_out_dependents(layer, &mut left_out, &mut notes);
    let chosen: Vec<usize> =
        (0..layer.services.len()).filter(|at| !left_out.contains_key(at)).collect();
    let mut specs = stacks::build_specs(layer, &chosen, &ports, target, release, &release.files());
    let started: BTreeSet<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    for spec in &mut specs {
        spec.needs.retain(|need| started.contains(need));
        if let Some(rule) = &mut spec.supervision.fallback {
            rule.when.retain(|need| started.contains(need));
        }
        for at in left_out.keys() {
            let name = &layer.services[*at].name;
            if let Some(port) = ports.get(name) {
                spec.env.insert(xtask_config::port_variable(name), port.to_string());
            }
        }
    }
    Ok(TrialPlan { specs, notes })
}

/// Leaves out the dependents of unhealthy services, as they cannot be tested.
fn leave_out_dependents(
    layer: &Layer,
    left_out: &mut BTreeMap<usize, bool>,
    notes: &mut Vec<String>,
) {
    loop {
        let is_stuck = |need: &usize| left_out.get(need) == Some(&false);
        let next = (0..layer.services.len()).find(|at| {
            let service = &layer.services[*at];
            let can_do_without = |need: &usize| {
                let rule = service.supervision.fallback.as_ref();
                rule.is_some_and(|rule| rule.when.contains(&layer.services[*need].name))
            };
            !left_out.contains_key(at)
                && service.needs.iter().any(|need| is_stuck(need) && !can_do_without(need))
        });
        let Some(next) = next else { return };
        left_out.insert(next, false);
        notes.push(format!("`{}` is not tested", layer.services[next].name));
    }
}

/// Reports whether a folder of `ones` equals, contains or is inside a folder of `others`.
fn folders_overlap(ones: &[PathBuf], others: &[PathBuf]) -> bool {
    let meet = |one: &PathBuf, other: &PathBuf| one.starts_with(other) || other.starts_with(one);
    ones.iter().any(|one| others.iter().any(|other| meet(one, other)))
}

/// A running service of a release that is not a candidate.
struct ServingService {
    name: String,
    port: Option<u16>,
    state: Vec<PathBuf>,
    is_healthy: bool,
    status: ReportedState,
}

fn list_serving(
    target: &DeployTarget,
    but: &Release,
    deploy_ctx: &DeployContext<'_>,
) -> Result<Vec<ServingService>> {
    let mut found = Vec::new();
    for ReleaseStack { release, role, stack } in stacks::list_stacks(target)? {
        if role == StackRole::Candidate || release.name == but.name {
            continue;
        }
        let Some(page) = client::read_brief_status(&stack, deploy_ctx.world)? else { continue };
        if page.supervisor.is_none() && page.services.iter().all(|row| row.pid.is_none()) {
            continue;
        }
        let specs =
            release.read_snapshot().map_or(Vec::new(), |ReleaseSnapshot { specs, .. }| specs);
        for row in page.services {
            let spec = specs.iter().find(|spec| spec.name == row.service);
            found.push(ServingService {
                port: row.port.or_else(|| spec.and_then(|spec| spec.port)),
                state: spec.map_or(Vec::new(), |spec| spec.state.clone()),
                is_healthy: row.state.is_serving(),
                name: row.service,
                status: row.state,
            });
        }
    }
    Ok(found)
}

/// Returns the unlisted and changed files of a release, except those that match `REGENERATED_PATTERNS` or
/// `deploy.scratch`; paths are relative to its files.
pub fn find_written_files(release: &Release, deploy: &DeployConfig) -> Result<Vec<PathBuf>> {
    let patterns =
        REGENERATED_PATTERNS.into_iter().chain(deploy.scratch.iter().map(String::as_str));
    let patterns = PathPatterns::new(patterns);
    let mut strangers = release.unlisted_files()?;
    // Files of the commit that a service has changed, e.g. an empty database.
    strangers.extend(release.changed_files()?);
    let is_kept = |path: &PathBuf| {
        patterns.match_with_folders(path.as_os_str().as_bytes(), false) != Some(true)
    };
    Ok(strangers.into_iter().filter(is_kept).collect())
}

/// Summarizes `written` by the outermost folders without files of the release, e.g. `.data/ (2 files)`.
pub fn summarize_written(release: &Release, written: &[PathBuf]) -> Result<Vec<String>> {
    let own = release.manifest_folders()?;
    let mut places: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for path in written {
        let folders = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        let outermost = folders.filter(|folder| !own.contains(*folder)).last();
        *places.entry(outermost.unwrap_or(path).to_path_buf()).or_default() += 1;
    }
    let words = |(place, number): (PathBuf, usize)| {
        let is_folder = number > 1 || !written.contains(&place);
        let name = place.as_os_str().as_bytes().escape_ascii().to_string();
        if is_folder { format!("{name}/ ({})", pluralize(number, "file")) } else { name }
    };
    Ok(places.into_iter().map(words).collect())
}

/// Returns an error if services have written into `release`. `serves` tells whether it is the current one.
pub fn check_written(
    release: &Release,
    deploy: &DeployConfig,
    target: &DeployTarget,
    serves: bool,
) -> Result<()> {
    let written = find_written_files(release, deploy)?;
    if written.is_empty() {
        return Ok(());
    }
    let places = summarize_written(release, &written)?;
    let files = release.files();
    let what =
        if serves { "the next release would not have it" } else { "no other release has it" };
    let error = Error::negative(format!(
        "services write into the release {} itself; {what}: {}",
        release.name,
        join_names(&places, MAX_SHOWN)
    ));
    let error = error.with_detail(format!("below {}", files.display()));
    if !deploy.engine.has_ports() {
        return Err(error
            .with_hint("keep it in a named volume, or in a folder below `${XTASK_SHARED}`")
            .with_hint("files that may be lost with each release: `[deploy] scratch = [\"FOLDER/\"]`, as in .gitignore"));
    }
    let error = error.with_hint(
        "give the service that writes it `state = [\"NAME\"]`, and have it write to `{state}/NAME`",
    );
    let error = if serves {
        let layer = &target.layer;
        error.with_hint(format!(
            "for the existing files: `cargo xtask stop --layer {layer}`, then move them to `{}/NAME`, then deploy",
            target.state_folder().display()
        ))
    } else {
        error
    };
    Err(error.with_hint(
        "files that may be lost with each release: `[deploy] scratch = [\"FOLDER/\"]`, as in .gitignore",
    ))
}

/// Returns the specs whose `backup` commands save the running services before another release takes over: that of
/// the new release if the port is unchanged, else that of the old one. Reports services without a `backup` now.
///
/// Returns an error if a service gets its first `backup` and another port at once.
pub fn choose_backup_specs(
    new: &[ServiceSpec],
    old: &[ServiceSpec],
    deploy_ctx: &DeployContext<'_>,
) -> Result<Vec<ServiceSpec>> {
    let mut ways = Vec::new();
    for new in new.iter().filter(|spec| spec.backup.is_some()) {
        let before = old.iter().find(|old| old.name == new.name);
        match before {
            Some(before) if before.port == new.port => ways.push(new.clone()),
            Some(before) if before.backup.is_some() => ways.push(before.clone()),
            Some(_) => {
                return Err(Error::negative(format!(
                    "`{}` gets a `backup` and another port in the same deploy, so the backup would use the new port too early",
                    new.name
                ))
                .with_hint("deploy the `backup` first, then the port"));
            }
            // A new service has no state yet.
            None => {}
        }
    }
    for old in old.iter().filter(|old| old.backup.is_some()) {
        if !ways.iter().any(|way| way.name == old.name) {
            (deploy_ctx.tell)(&format!(
                "`{}` no longer has a `backup`: its state is not saved",
                old.name
            ));
        }
    }
    Ok(ways)
}

/// Returns an error if a service of the current `release` has a nonempty `state` folder that no service of `layer`
/// declares any more.
pub fn check_state_declared(layer: &Layer, release: &Release, target: &DeployTarget) -> Result<()> {
    let Ok(snapshot) = release.read_snapshot() else { return Ok(()) };
    let services = layer.services.iter();
    let now: Vec<PathBuf> = services
        .flat_map(|one| &one.state)
        .map(|name| name.to_disk_path(&target.state_folder()))
        .collect();
    for spec in &snapshot.specs {
        let is_lost = |folder: &&PathBuf| {
            !folders_overlap(std::slice::from_ref(folder), &now) && has_content(folder)
        };
        if let Some(folder) = spec.state.iter().find(is_lost) {
            return Err(Error::negative(format!(
                "`{}` stores data in `{}`, and no service of this layer has it as `state`",
                spec.name,
                folder.display()
            ))
            .with_hint(
                "declare it as `state`, or stop the layer and move the folder to its new name",
            )
            .with_hint("if it is no longer needed, move it away"));
        }
    }
    Ok(())
}

/// Runs the `backup` commands of running services with nonempty state. Returns a line for each, e.g.
/// `db: /srv/app/backups/20250310T101500Z-RELEASE/db`.
pub fn back_up_services(
    specs: &[ServiceSpec],
    target: &DeployTarget,
    release: &Release,
    deploy_ctx: &DeployContext<'_>,
) -> Result<Vec<String>> {
    let with_backup: Vec<&ServiceSpec> =
        specs.iter().filter(|spec| spec.backup.is_some()).collect();
    let holds_something = |spec: &&ServiceSpec| spec.state.iter().any(|folder| has_content(folder));
    let with_backup: Vec<&ServiceSpec> = with_backup.into_iter().filter(holds_something).collect();
    if with_backup.is_empty() {
        return Ok(Vec::new());
    }
    let name = format!("{}-{}", format_compact_time(deploy_ctx.world.now_seconds()), release.name);
    // A second backup within the same second gets the suffix `-2`.
    let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}-{number}")));
    let mut folders = names.map(|name| target.backups_folder().join(name));
    let is_free = |folder: &PathBuf| folder.symlink_metadata().is_err();
    let folder = folders.find(is_free).unwrap_or_default();
    // The final name is given on completion, so an interrupted backup does not count as one.
    let half = target.backups_folder().join(PARTIAL_BACKUP);
    deploy_ctx
        .disk
        .remove_folder(&half)
        .with_context(|| format!("cannot remove `{}`", half.display()))?;
    let mut saved = Vec::new();
    for spec in with_backup {
        let into = half.join(&spec.name);
        (deploy_ctx.tell)(&format!("backing up {}", spec.name));
        let done = back_up_service(spec, specs, target, &into, deploy_ctx);
        if let Err(failure) = done {
            drop(deploy_ctx.disk.remove_folder(&half));
            return Err(failure);
        }
        saved.push(format!("{}: {}", spec.name, folder.join(&spec.name).display()));
    }
    deploy_ctx
        .disk
        .rename_noreplace(&half, &folder)
        .with_context(|| format!("cannot create `{}`", folder.display()))?;
    Ok(saved)
}

fn back_up_service(
    spec: &ServiceSpec,
    specs: &[ServiceSpec],
    target: &DeployTarget,
    into: &Path,
    deploy_ctx: &DeployContext<'_>,
) -> Result<()> {
    let Some(backup) = &spec.backup else { return Ok(()) };
    let failed = || format!("cannot back up `{}`", spec.name);
    deploy_ctx.disk.make_private_folders(into).with_context(failed)?;
    deploy_ctx.disk.check_gate("run a command").with_context(failed)?;
    let surroundings = LaunchContext {
        token: String::new(),
        layer: target.layer.clone(),
        root: spec.folder.clone(),
        ports: specs.iter().filter_map(|one| Some((one.name.clone(), one.port?))).collect(),
        status: None,
    };
    let mut base = stacks::inherited_environment(deploy_ctx);
    let values = EnvFileValues::read_files(std::slice::from_ref(spec), &base, WaitPolicy::Full);
    base.extend(values.for_service(&spec.name).map_err(EnvFileError::into_error)?);
    let mut env = launch::build_environment(spec, &base, &surroundings, 0, false);
    env.remove(std::ffi::OsStr::new(MARKER_VARIABLE));
    env.insert("XTASK_BACKUP".into(), into.into());
    let text = into.to_string_lossy();
    let argv: Vec<String> = backup.argv.iter().map(|word| word.replace(BACKUP, &text)).collect();
    let [program, args @ ..] = &argv[..] else { return Ok(()) };
    let longest = Duration::from_millis(backup.timeout_ms);
    let interrupts = deploy_ctx.interrupts;
    let run = Program::new(program, &spec.folder).args(args).with_env_only(&env);
    let done = run.run_in_group(longest, &|| interrupts.was_interrupted())?;
    let what = format!("the backup of `{}`", spec.name);
    check_exit(&what, done.exit_reason, longest)
        .map_err(|failure| with_last_lines(failure, &done.output))?;
    if has_content(into) {
        return Ok(());
    }
    Err(Error::negative(format!(
        "{what} exited with code 0, but wrote nothing into `{}`",
        into.display()
    )))
}

/// Reports whether a folder contains a nonempty regular file, at any depth.
fn has_content(folder: &Path) -> bool {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // `metadata` of the entry does not follow symlinks: a link to the data is not a backup.
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) if meta.is_file() && meta.len() > 0 => return true,
                _ => {}
            }
        }
    }
    false
}

/// Removes all but the newest `keep` backups, and returns the names of the removed ones.
pub fn prune_backups(
    target: &DeployTarget,
    keep: usize,
    deploy_ctx: &DeployContext<'_>,
) -> Result<Vec<String>> {
    let folder = target.backups_folder();
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let is_ours = |name: &String| {
        // TIME-RELEASE, e.g. `20250310T101500Z-20250309T090000Z-05a35cb1f2e3`.
        name.split_once('-').is_some_and(|(time, _)| time.ends_with('Z'))
            && folder.join(name).is_dir()
    };
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(is_ours).collect();
    names.sort();
    names.truncate(names.len().saturating_sub(keep));
    for name in &names {
        let gone = folder.join(name);
        deploy_ctx
            .disk
            .remove_folder(&gone)
            .with_context(|| format!("cannot remove the backup `{}`", gone.display()))?;
    }
    Ok(names)
}
