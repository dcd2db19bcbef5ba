//! Starts one service, with its environment, its log and its own session.
//!
//! The service starts as the supervisor's program, which leaves the supervisor's session (`setsid`)
//! and then becomes the service (`exec`). Guarantee: it leads its own session and process group from
//! the first moment on, and keeps its pid.
//!
//! ```text
//! xtask-supervisor become-service node api.js  ->  setsid  ->  exec node api.js
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::log_writer;
use super::logs::ServiceLog;
use super::marker::{MARKER_VARIABLE, Marker};
use super::plan::XTASK_PLACEHOLDER;
use super::spec::ServiceSpec;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::FileId;
use xtask_base::process::{BECOME_SERVICE_ARG, Program, leave_session};
use xtask_base::processes::{self, ProcessIdentity};
use xtask_config::port_variable;

/// Subcommand that becomes a service.
pub const BECOME_COMMAND: &str = BECOME_SERVICE_ARG;

/// Variable with the port of the service itself.
pub const PORT_VARIABLE: &str = "XTASK_PORT";

/// Environment variables by name.
pub type Env = BTreeMap<OsString, OsString>;

/// Data that every service of a stack receives in its environment.
#[derive(Clone, Debug)]
pub struct LaunchContext {
    pub token: String,
    pub layer: String,
    /// Root of the worktree.
    pub root: PathBuf,
    /// Ports of all services, by name.
    pub ports: BTreeMap<String, u16>,
    /// Port of the status page.
    pub status: Option<u16>,
}

/// Program of the toolkit, kept open so that it stays runnable if its file is replaced or removed.
pub struct ToolkitProgram {
    path: PathBuf,
    file: Option<File>,
}

impl ToolkitProgram {
    /// Opens the program at `path`.
    #[must_use]
    pub fn open_program(path: PathBuf) -> ToolkitProgram {
        let file = File::open(&path).ok();
        ToolkitProgram { path, file }
    }

    fn runnable_path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        let number = self.file.as_ref().map(AsRawFd::as_raw_fd);
        let held = number.map(|fd| PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id())));
        match held {
            Some(held) if held.exists() && !is_same_file(&held, &self.path) => held,
            _ => self.path.clone(),
        }
    }
}

/// Started service.
pub struct StartedService {
    /// Child process, reaped only after all processes of the service are gone.
    pub child: Child,
    /// Identity of `child`.
    pub identity: ProcessIdentity,
    /// Length of the log before the start, in bytes.
    pub log_at: u64,
}

/// Builds the environment of a service: `base` (the environment of the command that started it, and
/// the variables from its env files), then `ServiceSpec::env`, then our own variables, e.g.
/// `XTASK_PORT`.
pub fn build_environment(
    spec: &ServiceSpec,
    base: &Env,
    context: &LaunchContext,
    run: u64,
    is_degraded: bool,
) -> Env {
    let mut env = base.clone();
    let mut put = |name: &str, value: &str| drop(env.insert(name.into(), value.into()));
    spec.env.iter().for_each(|(name, value)| put(name, value));
    if let Some(rule) = spec.supervision.fallback.as_ref().filter(|_| is_degraded) {
        rule.env.iter().for_each(|(name, value)| put(name, value));
    }
    put(MARKER_VARIABLE, &Marker::new(&context.token, &spec.name, run).to_string());
    put("XTASK_LAYER", &context.layer);
    for (name, port) in &context.ports {
        put(&port_variable(name), &port.to_string());
    }
    if let Some(port) = context.status {
        put("XTASK_STATUS_PORT", &port.to_string());
    }
    if let Some(port) = spec.port {
        put(PORT_VARIABLE, &port.to_string());
    }
    env.insert("XTASK_ROOT".into(), context.root.clone().into_os_string());
    env
}

/// Starts a service, with `pipe` or else the log itself as its output.
pub fn start_service(
    spec: &ServiceSpec,
    env: &Env,
    world: &Environment,
    toolkit: &ToolkitProgram,
    log: &ServiceLog,
    pipe: Option<&File>,
) -> Result<StartedService> {
    if !spec.folder.is_dir() {
        return Err(Error::unable(format!("`{}` is not a folder", spec.folder.display())));
    }
    for folder in &spec.state {
        create_private_folder(folder)
            .with_context(|| format!("cannot create state folder `{}`", folder.display()))?;
    }
    let open = || format!("cannot open log `{}`", log.path().display());
    let (file, log_at) = log.open_append().with_context(open)?;
    let out = pipe.map_or(Ok(file), File::try_clone).with_context(open)?;
    let err = out.try_clone().with_context(open)?;
    let program = find_own_program(world);
    let toolkit = toolkit.runnable_path();
    let argv =
        spec.argv.iter().map(|word| word.replace(XTASK_PLACEHOLDER, &toolkit.to_string_lossy()));
    let child = Program::new(&program, &spec.folder)
        .args([BECOME_COMMAND])
        .args(argv)
        .with_env_only(env)
        .spawn(Stdio::null(), out.into(), err.into())?;
    // A child that has already exited is still in the process table, because it was not reaped.
    let identity =
        processes::find_process(child.id()).zip(processes::read_boot_id().ok()).ok_or_else(
            || Error::unable(format!("cannot find `{}` in the process table", spec.name)),
        )?;
    let identity =
        ProcessIdentity { pid: child.id(), started: identity.0.started, boot: identity.1 };
    Ok(StartedService { child, identity, log_at })
}

/// Creates a folder for persistent data with mode 0700, unless it exists: PostgreSQL, for example,
/// refuses any other mode.
fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Returns the path of this program; `/proc/self/exe` if its file was replaced.
#[must_use]
pub fn find_own_program(world: &Environment) -> PathBuf {
    let running = Path::new("/proc/self/exe");
    // A process that runs another file under this name, as tests do, means the named file.
    let is_another = std::fs::read_link(running).is_ok_and(|at| {
        at != world.program && is_same_file(&at, running) && world.program.is_file()
    });
    let is_replaced = running.exists() && !is_same_file(running, &world.program) && !is_another;
    if is_replaced { running.to_path_buf() } else { world.program.clone() }
}

/// Returns whether two paths lead to the same file.
fn is_same_file(one: &Path, two: &Path) -> bool {
    let id = FileId::at(one);
    id.is_some() && id == FileId::at(two)
}

/// Leaves the session and becomes the named program. Returns only on failure, with the exit code of
/// a shell: 127 if the program is not found, 126 if it cannot be executed.
pub fn become_service(argv: &[OsString], folder: &Path) -> (Error, u8) {
    leave_session();
    log_writer::hold_stdout_pipe();
    let [program, args @ ..] = argv else {
        return (Error::usage("no program given"), 126);
    };
    let failure = Program::new(program, folder).args(args).exec();
    let is_missing = failure.io_kind() == Some(std::io::ErrorKind::NotFound);
    (failure, if is_missing { 127 } else { 126 })
}
