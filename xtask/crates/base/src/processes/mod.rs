//! Information about processes, and signals that cannot reach the wrong process.
//!
//! The system reuses process IDs, so a process is identified by a [`ProcessIdentity`]: its ID, its
//! start time and the boot ID. No signal is sent by ID alone, and if the kernel does not answer, no
//! process counts as gone.
//!
//! `linux.rs` reads `/proc`, `ps.rs` runs the tools of other systems; both have the same functions.
//! For example:
//!
//! ```text
//! ProcessIdentity { pid: 1234, started: 567890, boot: "6f0c1b5e-…" }
//! ```

mod handle;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod ps;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::files::FileId;
use super::process::Program;
use super::words::sanitize_line;

pub use handle::ProcessHandle;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use ps as system;

/// The maximum length of a command line: 200 characters, more than two lines of a terminal.
const MAX_COMMAND_CHARS: usize = 200;

/// The time limit for `id`, which may query a server: 5 seconds.
const USER_NAME_TIMEOUT: Duration = Duration::from_secs(5);

/// The identity of a process, unique across reused IDs and reboots.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub pid: u32,
    /// The start time: on Linux in clock ticks since the boot, elsewhere in seconds since 1970.
    pub started: u64,
    /// The boot ID, from [`read_boot_id`].
    pub boot: String,
}

/// The kernel's data about a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    pub pid: u32,
    pub parent_pid: u32,
    /// The process group ID.
    pub group: u32,
    /// The session ID; 0 if unknown, as on macOS.
    pub session: u32,
    /// The effective user ID.
    pub user: u32,
    /// The start time, as in [`ProcessIdentity::started`].
    pub started: u64,
    /// Whether the process has ended and waits to be reaped. A process whose first thread ended
    /// before the others is not a zombie.
    pub is_zombie: bool,
    /// The resident memory in bytes. Linux counts approximately, some MB up or down on machines
    /// with many CPUs.
    pub memory: u64,
    /// The CPU time in milliseconds, user and system.
    pub cpu_ms: u64,
    /// The short name, at most 15 characters on Linux. Any process can choose any name.
    pub name: String,
}

/// Details about a process for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessDescription {
    /// The command line, truncated and without control characters; the name in brackets if there is
    /// none.
    pub command: String,
    /// The working directory, if visible.
    pub folder: Option<PathBuf>,
    /// The time since the start, in seconds.
    pub age_s: u64,
    /// The user name, or e.g. `uid 1000`.
    pub user: String,
}

/// Returns the ID of the current boot.
pub fn read_boot_id() -> Result<String> {
    // The boot ID does not change while this process lives.
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot.clone());
    }
    let boot = system::read_boot_id()?;
    Ok(BOOT.get_or_init(|| boot).clone())
}

/// Returns all visible processes. A process that vanishes in the meantime is left out; one that
/// exists and cannot be read is an error, so that a process missing from the list has ended.
pub fn list_processes() -> Result<Vec<ProcessInfo>> {
    system::list_processes()
}

/// Returns the process with the ID `pid`, or `None` if there is none.
#[must_use]
pub fn find_process(pid: u32) -> Option<ProcessInfo> {
    system::find_process(pid).ok().flatten()
}

/// Returns the identity of the running process `pid`, or `None` if it has ended.
#[must_use]
pub fn identify_process(pid: u32) -> Option<ProcessIdentity> {
    let process = find_process(pid).filter(|process| !process.is_zombie)?;
    Some(ProcessIdentity { pid, started: process.started, boot: read_boot_id().ok()? })
}

/// Returns whether the process runs. Returns `true` if the kernel does not answer, e.g. when this
/// process has no file descriptors left.
#[must_use]
pub fn is_alive(who: &ProcessIdentity) -> bool {
    try_is_alive(who).unwrap_or(true)
}

/// Checks like [`is_alive`], and returns an error if the answer is unknown.
fn try_is_alive(who: &ProcessIdentity) -> Result<bool> {
    Ok(matches_pid(who)? && read_boot_id()? == who.boot)
}

/// Returns whether the process runs, assuming that it was started in the current boot.
fn matches_pid(who: &ProcessIdentity) -> Result<bool> {
    let is_it = |process: ProcessInfo| process.started == who.started && !process.is_zombie;
    Ok(system::find_process(who.pid)?.is_some_and(is_it))
}

/// Returns variables from the initial environment of a process, in the order of `names`, or `None`
/// if the environment cannot be read. A program may overwrite its environment, as redis and
/// postgres do to show a title: a variable that was set can be missing.
#[must_use]
pub fn read_variables(pid: u32, names: &[&str]) -> Option<Vec<Option<String>>> {
    system::read_variables(pid, names)
}

/// Returns all variables from the initial environment of a process, or `None` if the system does
/// not report them or the program has overwritten them.
#[must_use]
pub fn read_environment(pid: u32) -> Option<BTreeMap<OsString, OsString>> {
    system::read_environment(pid)
}

/// Returns details about the process, or `None` if it has ended.
#[must_use]
pub fn describe_process(who: &ProcessIdentity) -> Option<ProcessDescription> {
    let process = find_process(who.pid)?;
    let command = system::read_command_line(who.pid).filter(|line| !line.trim().is_empty());
    let command = command.unwrap_or_else(|| format!("[{}]", process.name));
    let description = ProcessDescription {
        command: sanitize_line(&command, MAX_COMMAND_CHARS),
        folder: system::read_working_folder(who.pid),
        age_s: system::read_age_seconds(&process),
        user: find_user_name(process.user),
    };
    // All values were read by ID, and are valid if the ID still belongs to the same process.
    try_is_alive(who).is_ok_and(|there| there).then_some(description)
}

/// Returns the number of processes created since the boot, or `None` if the system does not report
/// it. If equal before and after reading the process list, no new process was missed.
#[must_use]
pub fn count_forks() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("processes ")?.trim().parse().ok())
}

/// Returns the files that the process has as stdout and stderr; empty if not visible.
#[must_use]
pub fn find_output_files(pid: u32) -> Vec<FileId> {
    [1, 2].iter().filter_map(|fd| FileId::at(format!("/proc/{pid}/fd/{fd}").as_ref())).collect()
}

/// Returns the name of a user, or e.g. `uid 1000` if there is none.
#[must_use]
pub fn find_user_name(uid: u32) -> String {
    let file = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let in_file = file.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next().filter(|name| !name.is_empty())?;
        (parts.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    in_file.or_else(|| query_user_name(uid)).unwrap_or_else(|| format!("uid {uid}"))
}

/// Asks `id` for a user who is not in `/etc/passwd`, e.g. one of a directory service.
fn query_user_name(uid: u32) -> Option<String> {
    let asked = Program::new("id", Path::new("/")).args(["-un", &uid.to_string()]);
    let said =
        asked.run_with_timeout(USER_NAME_TIMEOUT).ok().filter(|said| said.status.success())?;
    let name = said.stdout.trim();
    (!name.is_empty()).then(|| sanitize_line(name, MAX_COMMAND_CHARS))
}

/// Returns the memory of the machine in bytes.
#[must_use]
pub fn read_total_memory() -> Option<u64> {
    system::read_total_memory()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Stdio};

    use rustix::process::Signal;

    use super::*;

    /// A child that is ended with its test.
    struct Started(Child);

    impl Started {
        fn new(program: &str, args: &[&str]) -> Started {
            Started::set_up(Program::new(program, Path::new("/")).args(args))
        }

        fn set_up(mut program: Program) -> Started {
            let command = program.command_mut().stdin(Stdio::piped()).stdout(Stdio::piped());
            Started(command.process_group(0).spawn().unwrap())
        }

        fn who(&self) -> ProcessIdentity {
            identify_process(self.0.id()).unwrap()
        }

        /// Hears a line, so that it is known to have come so far.
        fn says(&mut self) -> String {
            let mut line = String::new();
            BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            line
        }

        /// Whether `cat` still gives back what it is given.
        fn answers(&mut self) -> bool {
            self.0.stdin.as_mut().unwrap().write_all(b"well\n").is_ok() && self.says() == "well\n"
        }

        fn kill(&mut self) {
            self.0.kill().unwrap();
        }
    }

    impl Drop for Started {
        fn drop(&mut self) {
            self.0.kill().and_then(|()| self.0.wait()).unwrap();
        }
    }

    fn soon(what: &str, is_so: impl Fn() -> bool) {
        let came = (0..4000).any(|_| {
            let so = is_so();
            if !so {
                std::thread::sleep(Duration::from_millis(5));
            }
            so
        });
        assert!(came, "{what} never came");
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_child_is_seen_as_ps_sees_it() {
        let child = Started::new("sleep", &["600"]);
        let pid = child.0.id();
        soon("the name", || find_process(pid).unwrap().name == "sleep");
        let table = list_processes().unwrap();
        let seen = table.iter().find(|process| process.pid == pid).unwrap();
        assert_eq!((seen.parent_pid, seen.group), (std::process::id(), pid));
        assert!(!seen.is_zombie);
        let own = find_process(std::process::id()).unwrap();
        assert_eq!((seen.session, seen.user), (own.session, own.user));
        let by_ps = ps::list_processes().unwrap();
        let by_ps = by_ps.iter().find(|process| process.pid == pid).unwrap();
        // They count in their own way, and `ps` of macOS does not know the session.
        let ProcessInfo { started, session, memory, cpu_ms, .. } = *by_ps;
        assert_eq!(&ProcessInfo { started, session, memory, cpu_ms, ..seen.clone() }, by_ps);
        assert_eq!(ps::find_process(pid).unwrap().unwrap().started, started);
        let pids =
            |table: &[ProcessInfo]| table.iter().map(|process| process.pid).collect::<Vec<_>>();
        assert!(pids(&table).contains(&1) && pids(&table).contains(&own.pid));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_start_is_that_of_ps() {
        let child = Started::new("sleep", &["600"]);
        let ticks = find_process(child.0.id()).unwrap().started;
        let since = procfs::boot_time_secs().unwrap() + ticks / procfs::ticks_per_second();
        let by_ps = ps::find_process(child.0.id()).unwrap().unwrap().started;
        // The clock may have been set since the boot, by a little.
        assert!(since.abs_diff(by_ps) <= 2, "{since} {by_ps}");
        assert_eq!(ps::read_sysctl("kernel.random.boot_id").unwrap(), read_boot_id().unwrap());
        // These are called otherwise on macOS.
        assert!(ps::read_boot_id().is_err() && ps::read_total_memory().is_none());
        let age = |pid: u32| describe_process(&identify_process(pid).unwrap()).unwrap().age_s;
        let ours = age(std::process::id());
        assert!(age(child.0.id()) <= ours + 1 && ours <= age(1));
        assert!(ps::read_age_seconds(&find_process(1).unwrap()).abs_diff(age(1)) <= 2);
    }

    #[test]
    fn who_has_ended_is_nobody() {
        let mut child = Started::new("sleep", &["600"]);
        let who = child.who();
        let handle = ProcessHandle::open(&who).unwrap();
        assert!(is_alive(&who) && !handle.wait_timeout(Duration::ZERO));
        child.kill();
        assert!(handle.wait_timeout(LONG) && ProcessHandle::by_number(&who).wait_timeout(LONG));
        handle.wait_until_exit();
        // Nobody has asked how it ended.
        assert!(find_process(who.pid).unwrap().is_zombie);
        assert!(
            list_processes()
                .unwrap()
                .iter()
                .any(|process| process.pid == who.pid && process.is_zombie)
        );
        assert!(ps::find_process(who.pid).unwrap().unwrap().is_zombie);
        let is_nobody = || {
            assert_eq!(
                (identify_process(who.pid), is_alive(&who), describe_process(&who)),
                (None, false, None)
            );
            assert!(ProcessHandle::open(&who).is_none());
            for handle in [&handle, &ProcessHandle::by_number(&who)] {
                handle.send_signal(Signal::KILL).unwrap();
                assert!(handle.wait_timeout(Duration::ZERO));
            }
        };
        is_nobody();
        child.0.wait().unwrap();
        is_nobody();
        assert_eq!(find_process(who.pid), None);
        assert_eq!(ps::find_process(who.pid).unwrap(), None);
        assert_eq!(read_variables(who.pid, &["PATH"]), None);
        assert_eq!(ps::read_variables(who.pid, &["PATH"]), None);
    }

    #[test]
    fn a_signal_reaches_the_one_that_is_meant_and_nobody_else() {
        for by_number in [false, true] {
            let mut cat = Started::new("cat", &[]);
            let who = cat.who();
            for other in [
                ProcessIdentity { started: who.started + 1, ..who.clone() },
                ProcessIdentity { started: who.started - 1, ..who.clone() },
                ProcessIdentity { boot: "another".to_owned(), ..who.clone() },
            ] {
                assert!(!is_alive(&other) && ProcessHandle::open(&other).is_none());
                assert_eq!(describe_process(&other), None);
                ProcessHandle::by_number(&other).send_signal(Signal::KILL).unwrap();
                assert!(cat.answers(), "{other:?}");
            }
            let handle = if by_number {
                ProcessHandle::by_number(&who)
            } else {
                ProcessHandle::open(&who).unwrap()
            };
            handle.send_signal(Signal::TERM).unwrap();
            assert!(handle.wait_timeout(LONG) && !cat.answers());
        }
        for pid in [0, u32::MAX, i32::MAX.cast_unsigned()] {
            let nobody = ProcessIdentity { pid, started: 1, boot: read_boot_id().unwrap() };
            assert!(ProcessHandle::open(&nobody).is_none() && find_process(pid).is_none());
            ProcessHandle::by_number(&nobody).send_signal(Signal::KILL).unwrap();
        }
    }

    #[test]
    fn variables_are_those_of_the_start() {
        let odd = std::ffi::OsStr::from_bytes(b"a\xff=b");
        let program = Program::new("cat", Path::new("/")).env("XT_PLAIN", "one");
        let program = program.env("XT_ODD", odd).env("XT_EMPTY", "");
        let mut child = Started::set_up(program.env("XT_LINES", "a\nXT_NONE=b c"));
        assert!(child.answers());
        let pid = child.0.id();
        let one = Some("one".to_owned());
        let wanted = Some(vec![one, None, Some(String::new())]);
        let names = ["XT_PLAIN", "XT_PLAI", "XT_EMPTY"];
        assert_eq!(
            (read_variables(pid, &names), ps::read_variables(pid, &names)),
            (wanted.clone(), wanted)
        );
        if cfg!(target_os = "linux") {
            let wanted = [Some("a\nXT_NONE=b c".to_owned()), None, Some("a\u{fffd}=b".to_owned())];
            assert_eq!(read_variables(pid, &["XT_LINES", "XT_NONE", "XT_ODD"]).unwrap(), wanted);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_environment_that_was_written_over_is_read() {
        let script = "import ctypes, sys
fields = open('/proc/self/stat').read().rsplit(')', 1)[1].split()
start, end = int(fields[47]), int(fields[48])
ctypes.memset(start, 0xfe, end - start)
print('done', flush=True)
sys.stdin.read()";
        let python = Program::new("python3", Path::new("/")).args(["-c", script]);
        let mut child = Started::set_up(python.env("XT_PLAIN", "one"));
        assert_eq!(child.says(), "done\n");
        assert_eq!(read_variables(child.0.id(), &["XT_PLAIN", "\u{fffd}"]), Some(vec![None, None]));
        assert!(describe_process(&child.who()).unwrap().command.contains("-c import ctypes"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_becomes_another_program_again_and_again_keeps_its_variables() {
        let script = "exec sh -c \"$0\" \"$0\"";
        let program = Program::new("sh", Path::new("/")).args(["-c", script, script]);
        let child = Started::set_up(program.env("XT_PLAIN", "one"));
        let who = child.who();
        for _ in 0..5000 {
            let found = read_variables(who.pid, &["XT_PLAIN"]);
            assert_eq!(found, Some(vec![Some("one".to_owned())]));
        }
        assert_eq!(child.who(), who);
        let mut bare = Program::new("cat", Path::new("/"));
        bare.command_mut().env_clear();
        let mut bare = Started::set_up(bare);
        assert!(bare.answers());
        assert_eq!(read_variables(bare.0.id(), &["PATH"]), Some(vec![None]));
        let long = "x".repeat(100_000);
        let mut full = Program::new("cat", Path::new("/"));
        for number in 0..8 {
            full = full.env(&format!("XT_{number}"), &long);
        }
        let mut full = Started::set_up(full);
        assert!(full.answers());
        assert_eq!(read_variables(full.0.id(), &["XT_7"]), Some(vec![Some(long)]));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_goes_on_without_its_first_thread_is_alive() {
        let script = "import ctypes, sys, threading
def wait():
    while not open('/proc/self/stat').read().rsplit(')', 1)[1].startswith(' Z'): pass
    print('gone', flush=True)
    sys.stdin.read()
threading.Thread(target=wait).start()
ctypes.CDLL(None).pthread_exit(None)";
        let mut child = Started::new("python3", &["-c", script]);
        assert_eq!(child.says(), "gone\n");
        let who = child.who();
        let handle = ProcessHandle::open(&who).unwrap();
        assert!(is_alive(&who) && !handle.wait_timeout(Duration::ZERO));
        child.kill();
        assert!(handle.wait_timeout(LONG) && !is_alive(&who));
    }

    #[test]
    fn processes_that_come_and_go_are_no_failure() {
        let _busy =
            Started::new("sh", &["-c", "while :; do for a in 1 2 3; do : & done; wait; done"]);
        for _ in 0..300 {
            let table = list_processes().unwrap();
            assert!(table.iter().any(|process| process.pid == std::process::id()));
        }
    }

    #[test]
    fn a_description_does_no_harm() {
        let long = "x".repeat(300);
        let args = ["-c", "echo; read -r a # \u{1b}[2J\nb", "sh", &long];
        let mut child = Started::new("sh", &args);
        assert_eq!(child.says(), "\n");
        let told = describe_process(&child.who()).unwrap();
        assert!(told.command.starts_with("sh -c echo; read -r a # "), "{}", told.command);
        assert!(told.command.contains("[2J b sh xxx") && !told.command.contains(char::is_control));
        assert!(told.command.chars().count() == 200 && told.command.ends_with("x…"));
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(ps::read_working_folder(child.0.id()), told.folder);
        assert_eq!((told.folder, told.user), (Some("/".into()), find_user_name(user)));
        assert!(ps::read_command_line(child.0.id()).unwrap().ends_with(&long));
        assert_eq!(
            (find_user_name(0), find_user_name(3_999_999_999)),
            ("root".into(), "uid 3999999999".into())
        );
        assert_eq!(
            (query_user_name(0), query_user_name(3_999_999_999)),
            (Some("root".into()), None)
        );
    }

    #[test]
    fn memory_and_time_are_counted() {
        let room = std::hint::black_box(vec![1_u8; 256 << 20]);
        let own = find_process(std::process::id()).unwrap().memory;
        let by_ps = ps::find_process(std::process::id()).unwrap().unwrap().memory;
        assert!(own > 200 << 20 && own.abs_diff(by_ps) < 128 << 20, "{own} {by_ps}");
        assert!(read_total_memory().unwrap() > own);
        drop(room);
        let busy = Started::new("sh", &["-c", "while :; do :; done"]);
        soon("time on a processor", || find_process(busy.0.id()).unwrap().cpu_ms >= 50);
        soon("a second of it", || ps::find_process(busy.0.id()).unwrap().unwrap().cpu_ms >= 1000);
        assert!(find_process(busy.0.id()).unwrap().cpu_ms >= 1000);
    }
}
