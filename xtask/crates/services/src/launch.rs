//! Starting one service: its variables, its log, its own session.
//!
//! A service is started by way of the supervisor's program, which leaves the supervisor's session and then
//! becomes the service. So it leads a session and a group of its own from its first moment on, and its
//! number stays the same.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::log_writer;
use super::logs::ServiceLog;
use super::spec::ServiceSpec;
use super::teardown::{MARKER_VARIABLE, format_marker};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::process::{BECOME_SERVICE_ARG, Program, leave_session};
use xtask_base::processes::{self, ProcessIdentity};
use xtask_config::port_variable;

/// The word by which this program is asked to become a service.
pub const BECOME_COMMAND: &str = BECOME_SERVICE_ARG;

/// What stands for the program of the toolkit in a command line.
const XTASK_PLACEHOLDER: &str = "{xtask}";

/// The port of a service, in its own variables.
pub const PORT_VARIABLE: &str = "XTASK_PORT";

/// Variables, by name.
pub type Env = BTreeMap<OsString, OsString>;

/// What every service of a stack is told.
#[derive(Clone, Debug)]
pub struct LaunchContext {
    /// The token of the stack.
    pub token: String,
    /// Its layer.
    pub layer: String,
    /// The root of the worktree.
    pub root: PathBuf,
    /// The ports of all services, by name.
    pub ports: BTreeMap<String, u16>,
    /// The port of the status page.
    pub status: Option<u16>,
}

/// The program of the toolkit, also where its file is replaced or removed while services run.
pub struct ToolkitProgram {
    path: PathBuf,
    file: Option<File>,
}

impl ToolkitProgram {
    /// The program in a file.
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

/// A service that was started.
pub struct StartedService {
    /// The process, which is reaped only when all that belongs to it is gone.
    pub child: Child,
    /// Which it is.
    pub identity: ProcessIdentity,
    /// How long its log was before.
    pub log_at: u64,
}

/// The variables of a service: those of the command that started it with what its files gave (`base`), its own,
/// and what we tell every service.
pub fn build_environment(
    spec: &ServiceSpec,
    base: &Env,
    around: &LaunchContext,
    run: u64,
    is_degraded: bool,
) -> Env {
    let mut env = base.clone();
    let mut put = |name: &str, value: &str| drop(env.insert(name.into(), value.into()));
    spec.env.iter().for_each(|(name, value)| put(name, value));
    if let Some(rule) = spec.fallback.as_ref().filter(|_| is_degraded) {
        rule.env.iter().for_each(|(name, value)| put(name, value));
    }
    put(MARKER_VARIABLE, &format_marker(&around.token, &spec.name, run));
    put("XTASK_LAYER", &around.layer);
    for (name, port) in &around.ports {
        put(&port_variable(name), &port.to_string());
    }
    if let Some(port) = around.status {
        put("XTASK_STATUS_PORT", &port.to_string());
    }
    if let Some(port) = spec.port {
        put(PORT_VARIABLE, &port.to_string());
    }
    env.insert("XTASK_ROOT".into(), around.root.clone().into_os_string());
    env
}

/// Starts a service. It prints to `pipe`, or else to the log itself.
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
            .with_context(|| format!("its folder `{}` cannot be made", folder.display()))?;
    }
    let open = || format!("its log `{}` cannot be opened", log.path().display());
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
    // One that has ended already is still in the table: nobody has reaped it.
    let identity = processes::find_process(child.id())
        .zip(processes::read_boot_id().ok())
        .ok_or_else(|| {
            Error::unable(format!("the process of `{}` cannot be found in the table", spec.name))
        })?;
    let identity =
        ProcessIdentity { pid: child.id(), started: identity.0.started, boot: identity.1 };
    Ok(StartedService { child, identity, log_at })
}

/// Makes the folder in which a service keeps its state, where there is none, for nobody but its owner:
/// PostgreSQL, for one, refuses any other.
fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// This program, also where its file was replaced meanwhile.
#[must_use]
pub fn find_own_program(world: &Environment) -> PathBuf {
    let running = Path::new("/proc/self/exe");
    // Who plays this program from another file, as a test does, means the one that it names.
    let is_another = std::fs::read_link(running).is_ok_and(|at| {
        at != world.program && is_same_file(&at, running) && world.program.is_file()
    });
    let is_replaced = running.exists() && !is_same_file(running, &world.program) && !is_another;
    if is_replaced { running.to_path_buf() } else { world.program.clone() }
}

/// Whether two paths lead to one file.
fn is_same_file(one: &Path, two: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (std::fs::metadata(one), std::fs::metadata(two)) {
        (Ok(one), Ok(two)) => (one.dev(), one.ino()) == (two.dev(), two.ino()),
        _ => false,
    }
}

/// Leaves the session and becomes the program that is named. Only returns if that fails: then with 127
/// where there is none, and 126 where it cannot be run, as a shell does.
pub fn become_service(argv: &[OsString], folder: &Path) -> (Error, u8) {
    leave_session();
    log_writer::hold_stdout_pipe();
    let [program, args @ ..] = argv else {
        return (Error::usage("no program was named"), 126);
    };
    let failure = Program::new(program, folder).args(args).exec();
    let is_missing = failure.causes().iter().any(|cause| cause.contains("os error 2"));
    (failure, if is_missing { 127 } else { 126 })
}
