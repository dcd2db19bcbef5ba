//! Plans a start: turns the services of a layer into `ServiceSpec`s, with ports assigned and
//! placeholders filled, and reports all faults that are visible before anything starts.
//!
//! ```text
//! run = "node api.js {port}"  ->  argv: ["node", "api.js", "8100"]
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::env_files::{EnvFileFault, EnvFileValues};
use super::launch::Env;
use super::spec::{
    BackupSpec, EnvFile, LimitsSpec, LivenessSpec, ProbeSpec, ServiceSpec, StopSpec,
    SupervisionSpec,
};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::files::is_executable;
use xtask_base::words::join_names;
use xtask_config::{
    CandidateMode, CommandLine, FallbackConfig, HttpProbe, Layer, LimitsConfig, PlaceholderValues,
    ProbeConfig, ProbePort, Service, StopScope, StopSignal, SupervisionConfig, fill_placeholders,
    suggest_nearest,
};

/// Variable that names the folder for persistent data, set for every service.
const STATE_VARIABLE: &str = "XTASK_STATE";

/// Number of bytes of a script's first line that the Linux kernel reads (`BINPRM_BUF_SIZE`).
const LONGEST_FIRST_LINE: u64 = 256;

/// Placeholder for this program in a command line, filled when the service starts.
pub(super) const XTASK_PLACEHOLDER: &str = "{xtask}";

/// Returns the indices of the named services and all their dependencies; all if `names` is empty.
/// Fails with suggestions if a name is unknown.
pub fn choose_services(layer: &Layer, names: &[String]) -> Result<Vec<usize>> {
    let mut unknown = Vec::new();
    let mut chosen: Vec<usize> = Vec::new();
    for name in names {
        match layer.services.iter().position(|service| service.name == *name) {
            Some(at) => chosen.push(at),
            None => unknown.push(name),
        }
    }
    if !unknown.is_empty() {
        let known: Vec<String> = layer.services.iter().map(|s| s.name.clone()).collect();
        let mut error = Error::usage(format!(
            "layer `{}` has no service `{}`; it has {}",
            layer.name,
            unknown[0],
            join_names(&known, 20)
        ));
        for name in unknown {
            let near = suggest_nearest(name, known.iter().map(String::as_str));
            if names.len() > 1 || !near.is_empty() {
                error = error.with_detail(format!("`{name}`{near}"));
            }
        }
        return Err(error);
    }
    if names.is_empty() {
        return Ok((0..layer.services.len()).collect());
    }
    let mut at = 0;
    while at < chosen.len() {
        for need in &layer.services[chosen[at]].needs {
            if !chosen.contains(need) {
                chosen.push(*need);
            }
        }
        at += 1;
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// Builds the specs of the chosen services, with `ports` by service name.
#[must_use]
pub fn build_specs(
    layer: &Layer,
    chosen: &[usize],
    ports: &BTreeMap<String, u16>,
    places: &ServiceFolders<'_>,
) -> Vec<ServiceSpec> {
    chosen.iter().map(|at| build_spec(layer, &layer.services[*at], ports, places)).collect()
}

/// Folders that services run in and keep their data in.
#[derive(Clone, Copy)]
pub struct ServiceFolders<'a> {
    /// Folder of the worktree or of the release.
    pub root: &'a Path,
    /// Folder for persistent data.
    pub state: &'a Path,
}

/// Returns the folder for the persistent data of a worktree, which git should ignore.
#[must_use]
pub fn worktree_state_folder(root: &Path) -> PathBuf {
    root.join(".data")
}

fn build_spec(
    layer: &Layer,
    service: &Service,
    ports: &BTreeMap<String, u16>,
    places: &ServiceFolders<'_>,
) -> ServiceSpec {
    let ServiceFolders { root, state } = *places;
    let port = ports.get(&service.name).copied();
    let filler = SpecFiller {
        ports,
        values: PlaceholderValues {
            own_port: port,
            ports: &|name| ports.get(name).copied(),
            root: &root.to_string_lossy(),
            state: &state.to_string_lossy(),
            xtask: XTASK_PLACEHOLDER,
        },
    };
    let mut env = filler.fill_env(&service.env);
    env.insert(STATE_VARIABLE.to_owned(), state.to_string_lossy().into_owned());
    ServiceSpec {
        name: service.name.clone(),
        argv: filler.fill_command(&service.run),
        folder: service
            .dir
            .as_ref()
            .map_or_else(|| root.to_path_buf(), |dir| dir.to_disk_path(root)),
        port,
        is_moved: false,
        env,
        env_files: service.env_files.iter().map(|name| parse_env_file_name(name, root)).collect(),
        needs: service.needs.iter().map(|at| layer.services[*at].name.clone()).collect(),
        once: service.once,
        required: service.required,
        supervision: filler.fill_supervision(&service.supervision),
        state: service.state.iter().map(|name| name.to_disk_path(state)).collect(),
        tries_serving: service.candidate == CandidateMode::Serving,
        backup: service.backup.as_ref().map(|backup| BackupSpec {
            argv: filler.fill_command(&backup.run),
            timeout_ms: to_ms(backup.timeout),
        }),
    }
}

/// Fills the placeholders of one service.
struct SpecFiller<'a> {
    ports: &'a BTreeMap<String, u16>,
    values: PlaceholderValues<'a>,
}

impl SpecFiller<'_> {
    fn fill(&self, text: &str) -> String {
        fill_placeholders(text, &self.values)
    }

    fn fill_command(&self, command: &CommandLine) -> Vec<String> {
        command.argv.iter().map(|word| self.fill(word)).collect()
    }

    fn fill_env(&self, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        env.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect()
    }

    fn fill_probe(&self, probe: &ProbeConfig) -> ProbeSpec {
        let own = self.values.own_port;
        ProbeSpec {
            http: probe.http.as_ref().map(|page| HttpProbe {
                port: page.port.or(own).or(Some(0)),
                path: self.fill(&page.path),
                ..page.clone()
            }),
            tcp: probe.tcp.as_ref().and_then(|port| match port {
                ProbePort::Own => own,
                ProbePort::Number(port) => Some(*port),
                ProbePort::Service(name) => self.ports.get(name).copied(),
            }),
            run: probe.run.as_ref().map(|run| self.fill_command(run)),
            log: probe.log.clone(),
            timeout_ms: to_ms(probe.timeout),
        }
    }

    fn fill_supervision(&self, from: &SupervisionConfig) -> SupervisionSpec {
        SupervisionSpec {
            ready: from.ready.as_ref().map(|probe| self.fill_probe(probe)),
            live: from.live.as_ref().map(|live| LivenessSpec {
                probe: self.fill_probe(&live.probe),
                every_ms: to_ms(live.interval),
                failures: live.failures,
            }),
            restart: from.restart,
            stop: StopSpec {
                signal: to_signal_number(from.stop.signal),
                timeout_ms: to_ms(from.stop.timeout),
                to_all: from.stop.to == StopScope::All,
            },
            limits: resolve_limits(&from.limits),
            fallback: from.fallback.as_ref().map(|rule| FallbackConfig {
                when: rule.when.clone(),
                env: self.fill_env(&rule.env),
            }),
            log: from.log,
        }
    }
}

fn to_signal_number(signal: StopSignal) -> i32 {
    let signal = match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Hup => Signal::HUP,
        StopSignal::Kill => Signal::KILL,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
    };
    signal.as_raw()
}

fn to_ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Parses the name of an env file; a leading `?` marks it as optional.
fn parse_env_file_name(name: &str, root: &Path) -> EnvFile {
    let (name, is_optional) = match name.strip_prefix('?') {
        Some(name) => (name, true),
        None => (name, false),
    };
    EnvFile { path: root.join(name), is_optional }
}

/// Converts percentages of memory to bytes: of the memory limit of the service, or else of the
/// memory of the machine.
fn resolve_limits(limits: &LimitsConfig) -> LimitsSpec {
    let whole = limits.memory.or_else(xtask_base::processes::read_total_memory);
    let share = |percent: u8| whole.map(|bytes| bytes / 100 * u64::from(percent));
    LimitsSpec {
        memory_warn: limits.memory_warn.and_then(share),
        cpu_warn: limits.cpu_warn.map(u32::from),
    }
}

/// Checks that services can start: folders, env files and programs. Returns one error with all
/// faults as details.
pub fn check_specs(
    specs: &[ServiceSpec],
    base: &Env,
    values: &EnvFileValues,
    root: &Path,
) -> Result<()> {
    let mut faults: Vec<String> = Vec::new();
    let mut kind = ErrorKind::Unable;
    let (mut is_program_missing, mut env_fault) = (false, None);
    for spec in specs {
        let name = &spec.name;
        let shown = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
        if !spec.folder.is_dir() {
            kind = ErrorKind::Usage;
            faults.push(format!("{name}: folder `{}` not found", shown(&spec.folder)));
        }
        let mut env = base.clone();
        match values.for_service(name) {
            Ok(read) => env.extend(read),
            Err(failure) => {
                kind = ErrorKind::Usage;
                env_fault = env_fault.max(Some(failure.fault));
                let hints = failure.hints().iter().map(|hint| format!(" ({hint})"));
                faults.push(format!("{name}: {failure}{}", hints.collect::<String>()));
            }
        }
        env.extend(spec.env.iter().map(|(name, value)| (name.into(), value.into())));
        let commands = spec.probes().filter_map(|probe| probe.run.as_ref());
        for argv in [&spec.argv].into_iter().chain(commands) {
            if let Some(missing) = find_missing_program(argv, &spec.folder, &env) {
                is_program_missing |= !argv[0].contains('/');
                faults.push(format!("{name}: {missing}"));
            }
        }
    }
    faults.dedup();
    if faults.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(kind, "nothing was started: the services cannot run here");
    if is_program_missing {
        error =
            error.with_hint("install the program, or disable the service with `enabled = false`");
    }
    match env_fault {
        Some(EnvFileFault::Malformed | EnvFileFault::UnclosedQuote) => {
            error = error.with_hint(
                "`cargo xtask recover environment` restores the newest copy that can be read",
            );
        }
        Some(EnvFileFault::Unreadable) => {
            error = error.with_hint("`env-file = \"?NAME\"` makes the file optional");
        }
        None => {}
    }
    for fault in faults {
        error = error.with_detail(fault);
    }
    Err(error)
}

/// Returns a message if the interpreter in the first line of a script is missing. For the kernel it
/// is the script itself that is not found.
fn find_missing_interpreter(script: &Path) -> Option<String> {
    use std::io::Read as _;
    // The kernel reads only so much of the line.
    let mut line = Vec::new();
    std::fs::File::open(script).ok()?.take(LONGEST_FIRST_LINE).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let name = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
    if name.is_empty() || !name.starts_with('/') || Path::new(name).exists() {
        return None;
    }
    let script = script.display();
    Some(match name.strip_suffix('\r') {
        Some(name) => format!(
            "interpreter `{name}\\r` of `{script}` not found: the script has CRLF line endings; \
             `sed -i 's/\\r$//' FILE` fixes that"
        ),
        None => format!("interpreter `{name}` of `{script}` not found"),
    })
}

/// Returns a message if the program of a command is missing, with the folders that were searched.
fn find_missing_program(argv: &[String], folder: &Path, env: &Env) -> Option<String> {
    let program = argv.first()?;
    if program.starts_with(XTASK_PLACEHOLDER) {
        return None;
    }
    let runs = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && is_executable(&meta))
    };
    if program.contains('/') {
        let path = folder.join(program);
        if !runs(&path) {
            return Some(format!("`{}` not found, or not executable", path.display()));
        }
        return find_missing_interpreter(&path);
    }
    let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = folders.iter().map(|dir| folder.join(dir).join(program)).find(|path| runs(path));
    if let Some(found) = found {
        return find_missing_interpreter(&found);
    }
    let mut shown: Vec<String> = Vec::new();
    for folder in folders.iter().map(|dir| dir.display().to_string()) {
        if !shown.contains(&folder) {
            shown.push(folder);
        }
    }
    Some(format!("`{program}` not found on PATH ({})", shown.join(", ")))
}
