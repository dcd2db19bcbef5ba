//! Starting of programs: always in a given folder, with a cleaned environment, and with a time
//! limit if no user can interrupt them.
//!
//! Every child gets `ORCHESTRATION_SYNC_ACTIVE=1`, so that a git hook that it runs does not enter
//! xtask again, and none of the variables that tie git to one repository. For example:
//!
//! ```text
//! Program::new("git", folder).args(["status"]).run_with_timeout(limit)
//!   -> ProgramOutput { status: exit code 0, stdout: "On branch main…", stderr: "" }
//! ```

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::error::{Error, Result, ResultExt};
use super::pipe_reader::{KeptBytes, PipeReader};

/// Set to `1` for every child; an xtask hook that finds it set exits without any action.
pub const ACTIVE_VAR: &str = "ORCHESTRATION_SYNC_ACTIVE";

/// Set by the launcher: the key of the program in the store. Only for that program, and removed for
/// its children.
pub const KEY_VAR: &str = "XTASK_KEY";

/// The variables that identify a service, removed for a supervisor: a service may start one.
const SERVICE_VARS: [&str; 6] = [
    "XTASK_LAYER",
    "XTASK_PORT",
    "XTASK_ROOT",
    "XTASK_SERVICE",
    "XTASK_STATUS_PORT",
    "XTASK_SUPERVISOR",
];

/// The command line of a shell, to be followed by a line of script.
pub const SHELL_COMMAND: [&str; 2] = ["/bin/sh", "-c"];

/// The variables by which git ties a process to one repository: the output of `git rev-parse
/// --local-env-vars`, and `GIT_NAMESPACE`.
///
/// Variables that only configure git (`git -c KEY=VALUE`, `GIT_CONFIG_COUNT`) are kept, because
/// they are meant for xtask as well, e.g. on a machine that declares its trusted repositories.
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

/// The maximum output kept for people: 1 MiB, enough for any message of git.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// The maximum output kept of a list: 256 MiB, enough for a million branches with long names.
const MAX_LIST_BYTES: usize = 256 << 20;

/// The time for the rest of the output to arrive after a child has exited.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The output and exit status of a program.
pub struct ProgramOutput {
    pub status: ExitStatus,
    /// Its stdout as text.
    pub stdout: String,
    /// Its stdout as raw bytes after [`Program::with_full_output`]; empty otherwise.
    pub stdout_bytes: Vec<u8>,
    /// Its stderr as text, without trailing whitespace.
    pub stderr: String,
}

/// A program to start, with its arguments and environment.
pub struct Program {
    name: String,
    command: Command,
    needs_full_output: bool,
    leads_group: bool,
}

impl Program {
    /// Creates a program, given by name or path, that will run in `folder`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    pub fn new(program: impl AsRef<OsStr>, folder: &Path) -> Self {
        let mut command = Command::new(&program);
        command.current_dir(folder).env(ACTIVE_VAR, "1");
        for name in GIT_LOCAL_VARS {
            command.env_remove(name);
        }
        command.env_remove(KEY_VAR);
        let name = program.as_ref().to_string_lossy().into_owned();
        Program { name, command, needs_full_output: false, leads_group: false }
    }

    /// Returns the name used in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn command_mut(&mut self) -> &mut Command {
        &mut self.command
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Requires the complete output, for lists: output that is larger than `MAX_LIST_BYTES` or does
    /// not reach its end is an error.
    #[must_use]
    pub fn with_full_output(mut self) -> Self {
        self.needs_full_output = true;
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Replaces the environment with `variables` and [`ACTIVE_VAR`].
    #[must_use]
    pub fn with_env_only(mut self, variables: &BTreeMap<OsString, OsString>) -> Self {
        self.command.env_clear().envs(variables).env(ACTIVE_VAR, "1").env_remove(KEY_VAR);
        self
    }

    /// Gives the program its own process group: Ctrl-C on the terminal does not end it, its children cannot read from
    /// there, and a time limit kills them, too.
    #[must_use]
    pub fn in_own_group(mut self) -> Self {
        use std::os::unix::process::CommandExt;
        self.command.process_group(0);
        self.leads_group = true;
        self
    }

    /// Starts the program with these streams, without waiting for it.
    pub fn spawn(mut self, input: Stdio, output: Stdio, errors: Stdio) -> Result<Child> {
        let command = self.command.stdin(input).stdout(output).stderr(errors);
        command.spawn().map_err(|cause| spawn_error(&self.name, cause))
    }

    /// Starts a program like [`Program::run_detached`], with `variables` added, the variables of
    /// services removed and its stderr sent to `errors`, and waits for its first line. Returns
    /// `None` if it ends without one or takes longer than `longest`.
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

    /// Returns a shell that closes file descriptors 3 to 9 and then becomes the program in its
    /// arguments.
    fn new_closing_fds(folder: &Path) -> Program {
        let close = "exec \"$@\" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-";
        Program::new("/bin/sh", folder).args(["-c", close, "sh"])
    }

    /// Starts a program with none of our files open and does not wait for it: a process that waits
    /// for one of these files to be closed must not wait for this program. The shell can close
    /// descriptors 3 to 9.
    pub fn run_detached(program: &Path, folder: &Path, args: &[&str]) -> Result<()> {
        let shell = Program::new_closing_fds(folder).args([program]).args(args);
        shell.spawn(Stdio::null(), Stdio::null(), Stdio::null()).map(drop)
    }

    /// Runs the program with our own standard streams: the user sees it and can interrupt it.
    pub fn run_attached(mut self) -> Result<ExitStatus> {
        self.command.status().map_err(|cause| spawn_error(&self.name, cause))
    }

    /// Replaces this process with the program, including its exit status and signals. Returns only
    /// on failure.
    pub fn exec(mut self) -> Error {
        use std::os::unix::process::CommandExt;
        let cause = self.command.exec();
        spawn_error(&self.name, cause)
    }

    /// Runs the program without input and captures its output. Returns an error and kills it if it
    /// takes longer than `longest`.
    pub fn run_with_timeout(self, longest: Duration) -> Result<ProgramOutput> {
        self.run_piped(Stdio::null(), &[], longest)
    }

    /// Runs like [`Program::run_with_timeout`], with `input` as stdin. A program that does not read
    /// all of it is no error.
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
        let out = child.stdout.take().map(|pipe| PipeReader::spawn(pipe, room, 0));
        let err = child.stderr.take().map(|pipe| PipeReader::spawn(pipe, MAX_OUTPUT_BYTES, 0));
        let waited = wait_with_timeout(&mut child, longest);
        let Some(status) = waited.with_context(|| format!("cannot wait for `{}`", self.name))?
        else {
            if self.leads_group {
                kill_process_group(Pid::from_child(&child), Signal::KILL).ok();
            }
            let ended = child.kill().and_then(|()| child.wait());
            drop(ended);
            return Err(Error::unable(format!(
                "`{}` timed out after {} s and was killed",
                self.name,
                longest.as_secs()
            )));
        };
        // Half of a message is better than none.
        let collect = |reader: Option<PipeReader>| {
            reader.map_or((true, KeptBytes::default()), |reader| {
                (reader.has_ended(DRAIN_TIMEOUT), reader.into_kept())
            })
        };
        let (has_ended, printed) = collect(out);
        if self.needs_full_output && (!has_ended || printed.left_out > 0) {
            return Err(Error::unable(format!("the output of `{}` is incomplete", self.name)));
        }
        let printed = printed.head;
        let stdout = String::from_utf8_lossy(&printed).into_owned();
        let stderr = String::from_utf8_lossy(&collect(err).1.head).trim_end().to_owned();
        let list = if self.needs_full_output { printed } else { Vec::new() };
        Ok(ProgramOutput { status, stdout, stdout_bytes: list, stderr })
    }
}

/// The argument that makes this executable leave its session and become another program.
pub const BECOME_SERVICE_ARG: &str = "become-service";

/// Leaves the session of the terminal, so that closing the terminal does not end a background
/// program.
pub fn leave_session() {
    // Fails only for the leader of a process group, which the terminal does not end either.
    rustix::process::setsid().ok();
}

/// Returns whether a process with this ID exists. Zombies count.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    let asked = rustix::process::test_kill_process(pid);
    asked.is_ok() || asked == Err(rustix::io::Errno::PERM)
}

/// Restarts this executable without git's repository variables, and then never returns; returns
/// `Ok` at once if none are set. The variables in `keep` stay, and so does `GIT_PREFIX`, which git
/// sets for every hook and which ties git to no repository.
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
    Err(Error::unable("cannot restart this program").with_cause(command.exec()))
}

/// Waits up to `longest` for `child` to exit. Returns `None` if it still runs.
pub(super) fn wait_with_timeout(
    child: &mut Child,
    longest: Duration,
) -> std::io::Result<Option<ExitStatus>> {
    // The answer is the same if the thread of the wait is still there when the time is over.
    watch_exit(Pid::from_child(child)).recv_timeout(longest).ok();
    child.try_wait()
}

/// Waits in a thread for `pid`, a child of this process, to exit, without reaping it. The returned channel is closed
/// then.
pub(super) fn watch_exit(pid: Pid) -> Receiver<()> {
    let (tell, ended) = channel();
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), options).err() == Some(rustix::io::Errno::INTR) {}
        drop(tell);
    });
    ended
}

pub(super) fn spawn_error(name: &str, cause: std::io::Error) -> Error {
    let missing = cause.kind() == std::io::ErrorKind::NotFound;
    let error = Error::unable(format!("cannot start `{name}`")).with_cause(cause);
    if missing { error.with_hint(format!("is `{name}` installed and on PATH?")) } else { error }
}
