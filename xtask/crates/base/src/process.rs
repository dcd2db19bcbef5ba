//! Starting other programs: always in a named folder, with a cleaned environment, and within a
//! bound of time where nobody is there to interrupt them.
//!
//! Everything we start sees `ORCHESTRATION_SYNC_ACTIVE=1`, so that no hook of ours can be entered
//! again from it, and none of the variables by which git points its children at one repository.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::{Error, Result, ResultExt};

/// Set for everything we start; a hook that sees it does nothing.
pub const ACTIVE_VAR: &str = "ORCHESTRATION_SYNC_ACTIVE";

/// By what the launcher tells a program which one it is. It is for that program alone.
pub const KEY_VAR: &str = "XTASK_KEY";

/// The variables by which a service is known. Who starts a supervisor may be one.
const SERVICE_VARS: [&str; 6] = [
    "XTASK_LAYER",
    "XTASK_PORT",
    "XTASK_ROOT",
    "XTASK_SERVICE",
    "XTASK_STATUS_PORT",
    "XTASK_SUPERVISOR",
];

/// How a shell is started to read a line of text, which comes after this.
pub const SHELL_COMMAND: [&str; 2] = ["/bin/sh", "-c"];

/// The variables by which git ties a process to one repository, as `git rev-parse
/// --local-env-vars` lists them, and `GIT_NAMESPACE`.
///
/// What only configures (`git -c KEY=VALUE`, `GIT_CONFIG_COUNT`) ties to none: who has set it means us as well,
/// as a machine that says which repositories it trusts.
pub const GIT_LOCAL_VARS: [&str; 14] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// How often a running child is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The most that is kept of what a child prints for people: 1 MiB, enough for any message of git.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// The most that is kept of a list: 256 MiB, enough for a million branches with long names.
const MAX_LIST_BYTES: usize = 256 << 20;

/// How long what a child has printed may take to arrive once it has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What a child printed and how it ended.
pub struct ProgramOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed, as text.
    pub stdout: String,
    /// What it printed, byte for byte, where it lists; else nothing.
    pub stdout_bytes: Vec<u8>,
    /// What it complained about, as text, without the trailing line end.
    pub stderr: String,
}

/// A program to start.
pub struct Program {
    name: String,
    command: Command,
    needs_full_output: bool,
}

impl Program {
    /// A program by name or path, to be run in `folder`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    pub fn new(program: impl AsRef<OsStr>, folder: &Path) -> Self {
        let mut command = Command::new(&program);
        command.current_dir(folder).env(ACTIVE_VAR, "1");
        for name in GIT_LOCAL_VARS {
            command.env_remove(name);
        }
        command.env_remove(KEY_VAR);
        let name = program.as_ref().to_string_lossy().into_owned();
        Program { name, command, needs_full_output: false }
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What is started.
    pub(super) fn command_mut(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// It prints a list, of which nothing may be missing: one that is longer than can be kept, or does
    /// not come to its end, is an error.
    #[must_use]
    pub fn with_full_output(mut self) -> Self {
        self.needs_full_output = true;
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Gives it these variables and no others, but for the one that says who started it.
    #[must_use]
    pub fn with_env_only(mut self, variables: &BTreeMap<OsString, OsString>) -> Self {
        self.command.env_clear().envs(variables).env(ACTIVE_VAR, "1").env_remove(KEY_VAR);
        self
    }

    /// Gives it a process group of its own: what is typed on the terminal does not end it.
    #[must_use]
    pub fn in_own_group(mut self) -> Self {
        use std::os::unix::process::CommandExt;
        self.command.process_group(0);
        self
    }

    /// Starts it with these streams, and does not wait for it.
    pub fn spawn(mut self, input: Stdio, output: Stdio, errors: Stdio) -> Result<Child> {
        let command = self.command.stdin(input).stdout(output).stderr(errors);
        command.spawn().map_err(|cause| spawn_error(&self.name, cause))
    }

    /// Starts a program as `run_detached` does, with these variables and without those of services, with
    /// `errors` for its complaints, and waits for the first line that it prints. Nothing where it ends without one or takes longer than `longest`.
    pub fn run_detached_until_line(
        program: &Path,
        folder: &Path,
        args: &[&OsStr],
        variables: &[(&str, &OsStr)],
        errors: Stdio,
        longest: Duration,
    ) -> Result<Option<String>> {
        let mut shell = Program::new_closing_fds(folder).args([program]).args(args);
        for name in SERVICE_VARS {
            shell = shell.env_remove(name);
        }
        for (name, value) in variables {
            shell = shell.env(name, value);
        }
        let mut child = shell.spawn(Stdio::null(), Stdio::piped(), errors)?;
        let Some(pipe) = child.stdout.take() else { return Ok(None) };
        let (tell, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(pipe.take(1 << 16)).read_line(&mut line);
            drop(tell.send(line).and(Ok(read)));
        });
        let line = said.recv_timeout(longest).unwrap_or_default();
        Ok(line.strip_suffix('\n').map(str::to_owned))
    }

    /// A shell that closes the files that a shell can have opened, and becomes what it is told.
    fn new_closing_fds(folder: &Path) -> Program {
        let close = "exec \"$@\" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-";
        Program::new("/bin/sh", folder).args(["-c", close, "sh"])
    }

    /// Starts a program with none of our files open and leaves it to itself: who waits for a file
    /// to be closed must not wait for it. The shell closes those that a shell can have opened.
    pub fn run_detached(program: &Path, folder: &Path, args: &[&str]) -> Result<()> {
        let shell = Program::new_closing_fds(folder).args([program]).args(args);
        shell.spawn(Stdio::null(), Stdio::null(), Stdio::null()).map(drop)
    }

    /// Runs it with our own standard streams: the user sees it, and can interrupt it.
    pub fn run_attached(mut self) -> Result<ExitStatus> {
        self.command.status().map_err(|cause| spawn_error(&self.name, cause))
    }

    /// Becomes it: this process goes on as that program, with its exit status and its signals. Only
    /// returns if that fails.
    pub fn exec(mut self) -> Error {
        use std::os::unix::process::CommandExt;
        let cause = self.command.exec();
        spawn_error(&self.name, cause)
    }

    /// Runs it without input, keeps what it prints, and ends it after `longest`.
    pub fn run_with_timeout(self, longest: Duration) -> Result<ProgramOutput> {
        self.run_piped(Stdio::null(), &[], longest)
    }

    /// The same with an input. A program that does not read all of it is no failure of ours.
    pub fn run_with_input(self, input: &[u8], longest: Duration) -> Result<ProgramOutput> {
        self.run_piped(Stdio::piped(), input, longest)
    }

    fn run_piped(mut self, stdin: Stdio, input: &[u8], longest: Duration) -> Result<ProgramOutput> {
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| spawn_error(&self.name, cause))?;
        if let Some(mut pipe) = child.stdin.take() {
            let input = input.to_vec();
            std::thread::spawn(move || pipe.write_all(&input).ok());
        }
        let room = if self.needs_full_output { MAX_LIST_BYTES } else { MAX_OUTPUT_BYTES };
        let out = child.stdout.take().map(|pipe| OutputCollector::new(pipe, room));
        let err = child.stderr.take().map(|pipe| OutputCollector::new(pipe, MAX_OUTPUT_BYTES));
        let mut rounds = longest.as_millis() / POLL_INTERVAL.as_millis();
        let status = loop {
            if let Some(status) =
                child.try_wait().with_context(|| format!("`{}` cannot be waited for", self.name))?
            {
                break status;
            }
            if rounds == 0 {
                let ended = child.kill().and_then(|()| child.wait());
                drop(ended);
                return Err(Error::unable(format!(
                    "`{}` did not end within {} s and was stopped",
                    self.name,
                    longest.as_secs()
                )));
            }
            rounds -= 1;
            std::thread::sleep(POLL_INTERVAL);
        };
        let heard = |listener: Option<OutputCollector>| {
            listener.map_or(Default::default(), OutputCollector::into_captured)
        };
        let (printed, is_cut) = heard(out);
        if is_cut && self.needs_full_output {
            return Err(Error::unable(format!("what `{}` lists did not arrive whole", self.name)));
        }
        let stdout = String::from_utf8_lossy(&printed).into_owned();
        let stderr = String::from_utf8_lossy(&heard(err).0).trim_end().to_owned();
        let list = if self.needs_full_output { printed } else { Vec::new() };
        Ok(ProgramOutput { status, stdout, stdout_bytes: list, stderr })
    }
}

/// The word by which this program is asked to leave its session and become another program.
pub const BECOME_SERVICE_ARG: &str = "become-service";

/// Leaves the session of the terminal, so that a program that goes on by itself is not ended with
/// it.
pub fn leave_session() {
    // It fails only for the leader of a group, whom the terminal does not end either.
    rustix::process::setsid().ok();
}

/// Whether a process of this id runs. Zombies count.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    let asked = rustix::process::test_kill_process(pid);
    asked.is_ok() || asked == Err(rustix::io::Errno::PERM)
}

/// Starts this very program again without git's repository variables, and never returns; where
/// there are none of them it returns at once. Those in `keep` stay, and so does `GIT_PREFIX`, which
/// git sets for every hook: it points to no repository.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
pub fn reexec_without_git_vars(
    program: &Path,
    args: &[OsString],
    keep: &[&str],
    has: impl Fn(&str) -> bool,
) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let is_kept = |name: &&str| *name == "GIT_PREFIX" || keep.contains(name);
    if !GIT_LOCAL_VARS.iter().any(|name| !is_kept(name) && has(name)) {
        return Ok(());
    }
    let mut command = Command::new(program);
    command.args(args.iter().skip(1));
    for name in GIT_LOCAL_VARS.iter().filter(|name| !is_kept(name)) {
        command.env_remove(name);
    }
    Err(Error::unable("this program cannot be started again").with_cause(command.exec()))
}

/// Collects what a child prints. A child of the child may hold the pipe open for ever, so nobody
/// waits for its end for long.
struct OutputCollector {
    captured: Arc<Mutex<Vec<u8>>>,
    max_bytes: usize,
    end: Receiver<()>,
}

impl OutputCollector {
    fn new(mut pipe: impl Read + Send + 'static, longest: usize) -> OutputCollector {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (tell, end) = std::sync::mpsc::channel::<()>();
        let into = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                let mut heard = into.lock().unwrap_or_else(PoisonError::into_inner);
                // One byte more, to see that there was more.
                let room = (longest + 1).saturating_sub(heard.len());
                heard.extend(&part[..count.min(room)]);
            }
            // With this end of the channel goes whoever waits at the other.
            drop(tell);
        });
        OutputCollector { captured: heard, max_bytes: longest, end }
    }

    /// What was heard, and whether there was or may be more of it.
    fn into_captured(self) -> (Vec<u8>, bool) {
        // Half of a message is better than none.
        let is_open = self.end.recv_timeout(DRAIN_TIMEOUT) == Err(RecvTimeoutError::Timeout);
        let heard = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &heard[..heard.len().min(self.max_bytes)];
        (kept.to_vec(), is_open || heard.len() > self.max_bytes)
    }
}

pub(super) fn spawn_error(name: &str, cause: std::io::Error) -> Error {
    let missing = cause.kind() == std::io::ErrorKind::NotFound;
    let error = Error::unable(format!("`{name}` cannot be started")).with_cause(cause);
    if missing { error.with_hint(format!("is `{name}` installed and on PATH?")) } else { error }
}
