//! What services keep beyond a release, and that none of it is lost.
//!
//! What is named by `state` lies in a folder of the target that no release has: `TO/state`. A service with
//! state is not started a second time while a release is tried; the one that serves stands for it. Before
//! another release takes over, the command of `backup` saves it in `TO/backups`.
//!
//! What a service writes into the release itself, the next release does not have. So that is looked for: what
//! lies there, is not of the release and is nothing that programs make again stops a deploy, and such a
//! release is never removed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DeployContext;
use super::command_exit::{check_exit, with_last_lines};
use super::release::{Release, ReleaseSnapshot};
use super::stacks;
use super::target::DeployTarget;
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::process::Program;
use xtask_base::words::{join_names, pluralize};
use xtask_config::{BACKUP, CandidateMode, DeployConfig, Layer};
use xtask_git::PathPatterns;
use xtask_services::client;
use xtask_services::env_files::{EnvFileValues, WaitPolicy};
use xtask_services::launch::{self, LaunchContext};
use xtask_services::spec::ServiceSpec;
use xtask_services::teardown::MARKER_VARIABLE;

/// What programs leave beside their sources and make again: caches, and what names a process.
const REGENERATED_PATTERNS: [&str; 7] = [
    "__pycache__/",
    "*.pyc",
    ".cache/",
    ".pytest_cache/",
    "*.pid",
    "*.sock",
    "celerybeat-schedule*",
];

/// How many places are listed.
const MAX_SHOWN: usize = 5;

/// The name of a backup that is being made.
const PARTIAL_BACKUP: &str = "half";

/// What stands for the services of a layer while a release is tried.
pub struct TrialPlan {
    /// The services that are started.
    pub specs: Vec<ServiceSpec>,
    /// What else is to be known of it.
    pub notes: Vec<String>,
}

/// Which services are started to try a release, and what stands for the others: one that keeps state and
/// serves already is not started twice.
pub fn plan_trial(
    layer: &Layer,
    target: &DeployTarget,
    release: &Release,
    around: &DeployContext<'_>,
) -> Result<TrialPlan> {
    let serving = list_serving(target, release, around)?;
    let mut notes = Vec::new();
    let mut ports = stacks::find_spare_ports(layer)?;
    // Those that are not started, and whether what needs them can be.
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
            true => format!("`{}` is the one that serves", service.name),
            false => format!(
                "`{}` is {} in what serves, and is not started a second time: what needs it is not tried",
                service.name, stands.status
            ),
        });
    }
    // What needs one that is not well cannot be tried.
    loop {
        let is_stuck = |need: &usize| left_out.get(need) == Some(&false);
        let next = (0..layer.services.len()).find(|at| {
            let service = &layer.services[*at];
            let can_do_without = |need: &usize| {
                service.fallback.as_ref().is_some_and(|rule| rule.when.contains(need))
            };
            !left_out.contains_key(at)
                && service.needs.iter().any(|need| is_stuck(need) && !can_do_without(need))
        });
        let Some(next) = next else { break };
        left_out.insert(next, false);
        notes.push(format!("`{}` is not tried", layer.services[next].name));
    }
    let chosen: Vec<usize> =
        (0..layer.services.len()).filter(|at| !left_out.contains_key(at)).collect();
    let mut specs = stacks::build_specs(layer, &chosen, &ports, target, release, &release.files());
    let started: BTreeSet<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    for spec in &mut specs {
        spec.needs.retain(|need| started.contains(need));
        if let Some(rule) = &mut spec.fallback {
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

/// Whether two services have a folder in common, or one within another.
fn folders_overlap(ones: &[PathBuf], others: &[PathBuf]) -> bool {
    let meet = |one: &PathBuf, other: &PathBuf| one.starts_with(other) || other.starts_with(one);
    ones.iter().any(|one| others.iter().any(|other| meet(one, other)))
}

/// A service that runs for a release which is not only tried.
struct ServingService {
    name: String,
    port: Option<u16>,
    state: Vec<PathBuf>,
    is_healthy: bool,
    status: String,
}

fn list_serving(
    target: &DeployTarget,
    but: &Release,
    around: &DeployContext<'_>,
) -> Result<Vec<ServingService>> {
    let mut found = Vec::new();
    for stack in stacks::list_stacks(target)? {
        let is_candidate = stack.folder.extension().is_some_and(|name| name == "try");
        let name = stack.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_candidate || name == but.name {
            continue;
        }
        let Some(page) = client::read_brief_status(&stack, around.world)? else { continue };
        if page.supervisor.is_none() && page.services.iter().all(|row| row.pid.is_none()) {
            continue;
        }
        let specs = Release::in_target(target, &name)
            .read_snapshot()
            .map_or(Vec::new(), |ReleaseSnapshot { specs, .. }| specs);
        for row in page.services {
            let spec = specs.iter().find(|spec| spec.name == row.service);
            found.push(ServingService {
                port: row.port.or_else(|| spec.and_then(|spec| spec.port)),
                state: spec.map_or(Vec::new(), |spec| spec.state.clone()),
                is_healthy: ["ready", "done", "lost"].contains(&row.state.as_str()),
                name: row.service,
                status: row.state,
            });
        }
    }
    Ok(found)
}

/// What lies in a release, is not of it, and is nothing that programs make again: names below its files.
pub fn find_written_files(release: &Release, deploy: &DeployConfig) -> Result<Vec<PathBuf>> {
    let patterns =
        REGENERATED_PATTERNS.into_iter().chain(deploy.scratch.iter().map(String::as_str));
    let patterns = PathPatterns::new(patterns);
    let mut strangers = release.unlisted_files()?;
    // A file that the commit has, and into which a service has written: an empty database, say.
    strangers.extend(release.changed_files()?);
    let is_kept = |path: &PathBuf| {
        patterns.match_with_folders(path.as_os_str().as_bytes(), false) != Some(true)
    };
    Ok(strangers.into_iter().filter(is_kept).collect())
}

/// The places where that lies: the outermost folders that hold nothing of the release itself.
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

/// Refuses where services write what they keep into a release.
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
    let what = if serves { "the next release would not have it" } else { "no other has it" };
    let error = Error::negative(format!(
        "services write into the release {} itself, and {what}: {}",
        release.name,
        join_names(&places, MAX_SHOWN)
    ));
    let error = error.with_detail(format!("below {}", files.display()));
    if !deploy.engine.has_ports() {
        return Err(error
            .with_hint("keep it in a named volume, or in a folder below `${XTASK_SHARED}`")
            .with_hint("what may be lost with each release: `[deploy] scratch = [\"FOLDER/\"]`, as in .gitignore"));
    }
    let error = error.with_hint(
        "give the service that writes it `state = [\"NAME\"]`, and have it write to `{state}/NAME`",
    );
    let error = if serves {
        let layer = &target.layer;
        error.with_hint(format!(
            "what is there now: `cargo xtask stop --layer {layer}`, then move it to `{}/NAME`, then deploy",
            target.state_folder().display()
        ))
    } else {
        error
    };
    Err(error.with_hint(
        "what may be lost with each release: `[deploy] scratch = [\"FOLDER/\"]`, as in .gitignore",
    ))
}

/// How what serves is saved before another release takes over: as the new one says, where its services are still on
/// the ports of the old one, and else as the old one says. What is not saved any more is told.
pub fn choose_backup_specs(
    new: &[ServiceSpec],
    old: &[ServiceSpec],
    around: &DeployContext<'_>,
) -> Result<Vec<ServiceSpec>> {
    let mut ways = Vec::new();
    for new in new.iter().filter(|spec| spec.backup.is_some()) {
        let before = old.iter().find(|old| old.name == new.name);
        match before {
            Some(before) if before.port == new.port => ways.push(new.clone()),
            Some(before) if before.backup.is_some() => ways.push(before.clone()),
            Some(_) => {
                return Err(Error::negative(format!(
                    "`{}` gets a `backup` and another port in one go, and its backup would ask the new port",
                    new.name
                ))
                .with_hint("deploy the `backup` first, and the port after it"));
            }
            // One that did not serve has nothing to be saved.
            None => {}
        }
    }
    for old in old.iter().filter(|old| old.backup.is_some()) {
        if !ways.iter().any(|way| way.name == old.name) {
            (around.tell)(&format!(
                "`{}` had a `backup` and has none now: it is not saved",
                old.name
            ));
        }
    }
    Ok(ways)
}

/// Refuses a layer that knows nothing any more of what a service keeps which serves now.
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
                "`{}` keeps `{}`, and no service of this layer has it as `state`",
                spec.name,
                folder.display()
            ))
            .with_hint("name it, or stop the layer and move the folder to the name that it has now")
            .with_hint("where it is not wanted any more, move it out of there"));
        }
    }
    Ok(())
}

/// Saves the state of services that have a `backup`, as they serve now. Answers with what was saved where.
pub fn back_up_services(
    specs: &[ServiceSpec],
    target: &DeployTarget,
    release: &Release,
    around: &DeployContext<'_>,
) -> Result<Vec<String>> {
    let with_backup: Vec<&ServiceSpec> =
        specs.iter().filter(|spec| spec.backup.is_some()).collect();
    let holds_something = |spec: &&ServiceSpec| spec.state.iter().any(|folder| has_content(folder));
    let with_backup: Vec<&ServiceSpec> = with_backup.into_iter().filter(holds_something).collect();
    if with_backup.is_empty() {
        return Ok(Vec::new());
    }
    let name = format!("{}-{}", format_compact_time(around.world.now_seconds()), release.name);
    // Two within a second are two.
    let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}-{number}")));
    let mut folders = names.map(|name| target.backups_folder().join(name));
    let is_free = |folder: &PathBuf| folder.symlink_metadata().is_err();
    let folder = folders.find(is_free).unwrap_or_default();
    // It gets its name when it is whole: half of one, of a run that was cut short, is none.
    let half = target.backups_folder().join(PARTIAL_BACKUP);
    around
        .disk
        .remove_folder(&half)
        .with_context(|| format!("`{}` cannot be removed", half.display()))?;
    let mut saved = Vec::new();
    for spec in with_backup {
        let into = half.join(&spec.name);
        (around.tell)(&format!("backing up {}", spec.name));
        let done = back_up_service(spec, specs, target, &into, around);
        if let Err(failure) = done {
            drop(around.disk.remove_folder(&half));
            return Err(failure);
        }
        saved.push(format!("{}: {}", spec.name, folder.join(&spec.name).display()));
    }
    around
        .disk
        .rename_noreplace(&half, &folder)
        .with_context(|| format!("`{}` cannot be made", folder.display()))?;
    Ok(saved)
}

fn back_up_service(
    spec: &ServiceSpec,
    specs: &[ServiceSpec],
    target: &DeployTarget,
    into: &Path,
    around: &DeployContext<'_>,
) -> Result<()> {
    let Some(backup) = &spec.backup else { return Ok(()) };
    let failed = || format!("the backup of `{}` cannot be made", spec.name);
    around.disk.make_private_folders(into).with_context(failed)?;
    around.disk.check_gate("run a command").with_context(failed)?;
    let surroundings = LaunchContext {
        token: String::new(),
        layer: target.layer.clone(),
        root: spec.folder.clone(),
        ports: specs.iter().filter_map(|one| Some((one.name.clone(), one.port?))).collect(),
        status: None,
    };
    let mut base = stacks::inherited_environment(around);
    let values = EnvFileValues::read_files(std::slice::from_ref(spec), &base, WaitPolicy::Full);
    base.extend(values.for_service(&spec.name)?);
    let mut env = launch::build_environment(spec, &base, &surroundings, 0, false);
    env.remove(std::ffi::OsStr::new(MARKER_VARIABLE));
    env.insert("XTASK_BACKUP".into(), into.into());
    let text = into.to_string_lossy();
    let argv: Vec<String> = backup.argv.iter().map(|word| word.replace(BACKUP, &text)).collect();
    let [program, args @ ..] = &argv[..] else { return Ok(()) };
    let longest = Duration::from_millis(backup.timeout_ms);
    let interrupts = around.interrupts;
    let run = Program::new(program, &spec.folder).args(args).with_env_only(&env);
    let done = run.run_in_group(longest, &|| interrupts.was_interrupted())?;
    let what = format!("the backup of `{}`", spec.name);
    check_exit(&what, done.exit_reason, longest)
        .map_err(|failure| with_last_lines(failure, &done.output))?;
    if has_content(into) {
        return Ok(());
    }
    Err(Error::negative(format!("{what} ended with 0 and wrote nothing into `{}`", into.display())))
}

/// Whether a folder holds a file that is not empty.
fn has_content(folder: &Path) -> bool {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // A link to the data itself saves nothing.
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) if meta.is_file() && meta.len() > 0 => return true,
                _ => {}
            }
        }
    }
    false
}

/// Removes all but the newest backups. Answers with the names of those that are gone.
pub fn prune_backups(
    target: &DeployTarget,
    keep: usize,
    around: &DeployContext<'_>,
) -> Result<Vec<String>> {
    let folder = target.backups_folder();
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let is_ours = |name: &String| {
        // A time, and the release that it saved.
        name.split_once('-').is_some_and(|(time, _)| time.ends_with('Z'))
            && folder.join(name).is_dir()
    };
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(is_ours).collect();
    names.sort();
    names.truncate(names.len().saturating_sub(keep));
    for name in &names {
        let gone = folder.join(name);
        around
            .disk
            .remove_folder(&gone)
            .with_context(|| format!("the backup `{}` cannot be removed", gone.display()))?;
    }
    Ok(names)
}
