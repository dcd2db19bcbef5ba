//! Housekeeping of the supervisor: control socket, status page, log rotation, stray processes, and
//! a periodic check of them all.
//!
//! A failure here never stops a service. It is noted and shown by `ps`, for example as
//! `SupervisorStatus { error: Some("cannot listen on socket …") }`. Only if the folder of the stack
//! is removed are all services stopped.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use super::{Client, Input, StraySweep, Supervisor, spawn_thread};
use crate::control_socket::{self, ControlCommand, ControlReply};
use crate::events::{Event, StopMethod};
use crate::members::{ProcessSelector, ProcessSnapshot, ProcessTable, to_identity};
use crate::metrics::UsageMonitor;
use crate::spec::LimitsSpec;
use crate::stack::SupervisorRecord as Announced;
use crate::status_server;
use crate::teardown;
use xtask_base::environment::read_monotonic_clock;
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::{Disk, FileId};
use xtask_base::processes::{self, ProcessIdentity, ProcessInfo};

/// Interval of process table scans, for resource usage and strays.
const PROCESS_SCAN_INTERVAL: Duration = Duration::from_secs(30);

/// Interval of log checks while a log grows, and the longest interval otherwise.
const LOG_POLL: Duration = Duration::from_millis(50);
const LOG_POLL_IDLE: Duration = Duration::from_millis(400);

/// Interval of checks whether a waiting command has disconnected.
const GONE_POLL: Duration = Duration::from_millis(100);

/// Maximum number of connected commands.
const MAX_COMMANDS: usize = 256;

/// How long the status page waits for the main loop.
const STATUS_PAGE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long commands have to receive their last replies at shutdown.
const LAST_REPLIES_TIMEOUT: Duration = Duration::from_secs(2);
const LAST_REPLIES_POLL: Duration = Duration::from_millis(2);

/// Stop timeout of strays: the same as the default of services.
pub(super) const STRAY_TIMEOUT: Duration = Duration::from_secs(10);

impl Supervisor<'_> {
    /// Listens for commands. Replaces an existing socket: holding the lock proves that its owner is
    /// gone.
    pub(super) fn open_socket(&mut self) -> Result<()> {
        let cannot = || format!("cannot listen on socket `{}`", self.socket.path.display());
        self.host.disk.remove_file(&self.socket.path).with_context(cannot)?;
        let listener = UnixListener::bind(&self.socket.path).with_context(cannot)?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&self.socket.path, mode).with_context(cannot)?;
        self.socket.id = FileId::at_no_follow(&self.socket.path);
        let (tell, usage_monitor) = (self.input_sender.clone(), self.usage_monitor.clone());
        let commands = self.socket.commands.clone();
        spawn_thread(move || {
            while let Ok((stream, _)) = listener.accept() {
                if !control_socket::is_same_user(&stream) {
                    continue;
                }
                if Arc::strong_count(&commands) > MAX_COMMANDS {
                    let why = "too many commands are connected to the supervisor".to_owned();
                    let _is_told =
                        control_socket::write_reply(&stream, &ControlReply::Refused { why });
                    continue;
                }
                let (tell, usage_monitor, command) =
                    (tell.clone(), usage_monitor.clone(), commands.clone());
                // Without a thread the stream is closed, which the command notices.
                drop(spawn_thread(move || {
                    serve_command(&stream, &tell, &usage_monitor);
                    drop(command);
                }));
            }
        })
    }

    /// Writes `SupervisorRecord`, which names the socket.
    pub(super) fn write_address(&self) -> Result<()> {
        let Some(identity) = processes::identify_process(std::process::id()) else {
            return Err(xtask_base::error::Error::unable("cannot identify this process"));
        };
        let announced = Announced {
            folder: self.host.stack.folder.clone(),
            identity,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            socket: self.socket.path.clone(),
        };
        self.host.stack.write_supervisor(self.host.disk, &announced)
    }

    /// Opens the status page if it is configured. A failure is noted and stops no service.
    pub(super) fn open_status_page(&mut self) {
        self.page.serving = None;
        let Some(port) = self.page.port else { return };
        let opened = status_server::bind_server(port).and_then(|server| {
            let port = server.port();
            let (tell, usage_monitor) = (self.input_sender.clone(), self.usage_monitor.clone());
            let look = Arc::new(move || {
                let (reply, answer) = channel();
                tell.send(Input::StatusRequest(reply)).ok()?;
                let mut page = answer.recv_timeout(STATUS_PAGE_TIMEOUT).ok()?;
                usage_monitor.fill_usage(&mut page);
                Some(page)
            });
            Ok((port, status_server::serve_status(server, look)?))
        });
        let done = opened.map(|serving| self.page.serving = Some(serving));
        self.note_problem("the status page", done);
    }

    /// Polls the `LogRotator`s in a separate thread, more often while a log grows.
    pub(super) fn start_log_rotation(&self) -> Result<()> {
        let (rotators, is_ending) = (Arc::downgrade(&self.logs.rotators), self.is_ending.clone());
        spawn_thread(move || {
            let mut pause = LOG_POLL;
            while let Some(rotators) = rotators.upgrade() {
                if is_ending.load(Ordering::SeqCst) {
                    return;
                }
                let mut rotators = rotators.lock().unwrap_or_else(PoisonError::into_inner);
                // A log that cannot be rotated, usually because of a full disk, is left as it is.
                let looks = rotators.values_mut().map(|rotator| rotator.poll(&Disk::real()));
                let has_grown = looks.filter(|look| matches!(look, Ok(true))).count() > 0;
                drop(rotators);
                pause = if has_grown { LOG_POLL } else { (pause * 2).min(LOG_POLL_IDLE) };
                std::thread::sleep(pause);
            }
        })
    }

    /// Checks the folder, the socket, the log writer and the status page, and every
    /// `PROCESS_SCAN_INTERVAL` resource usage and strays.
    pub(super) fn run_housekeeping(&mut self) {
        if !self.owns_folder() {
            // The worktree was removed, perhaps recreated: no command could ever stop these services.
            self.stop_all();
            return;
        }
        if self.socket.path.symlink_metadata().is_err() {
            // `XDG_RUNTIME_DIR` is removed with the last logout of its user and recreated at the next login.
            let done = self.host.stack.prepare_socket(self.host.world).and_then(|socket| {
                self.socket.path = socket;
                self.open_socket()?;
                self.write_address()
            });
            self.note_problem("its socket", done);
        }
        let copied = self.logs.writer.ensure_running();
        self.note_problem("the writer of the logs", copied);
        if self.page.port.is_some() && self.page.serving.is_none() {
            self.open_status_page();
        }
        // Reading the process table is the main cost of an idle supervisor.
        if read_monotonic_clock() < self.strays.scan_due {
            return;
        }
        self.strays.scan_due = read_monotonic_clock() + PROCESS_SCAN_INTERVAL;
        let units = self.machine.services().values();
        let limited: Vec<(String, u64, u64)> = units
            .filter(|unit| {
                unit.spec.supervision.limits != LimitsSpec::default() && unit.identity.is_some()
            })
            .map(|unit| {
                let uptime = self.event_context().wall_ms.saturating_sub(unit.started_ms);
                (unit.spec.name.clone(), unit.run, u64::try_from(uptime).unwrap_or(0))
            })
            .collect();
        let Ok(table) = self.usage_monitor.process_table.read_snapshot() else { return };
        for (name, run, uptime) in limited {
            let used = self.usage_monitor.cpu_history.measure_service(
                &self.process_selector(&name),
                &table,
                uptime,
            );
            let (memory, cpu_percent) = (used.memory, used.cpu as u32);
            self.handle_event(Event::Sampled { name, run, memory, cpu_percent });
        }
        self.track_strays(&table);
    }

    /// Updates the list of strays, which services left to the supervisor, and reaps exited ones.
    /// A zombie is reaped only if a second scan still finds it: threads that start a process here reap
    /// it before that.
    fn track_strays(&mut self, table: &ProcessSnapshot) {
        let mut own: HashSet<u32> =
            self.running.values().map(|process| process.identity.pid).collect();
        own.extend(self.logs.writer.pid());
        let ours = std::process::id();
        let others = || {
            let children = table.processes.iter().filter(move |process| process.parent_pid == ours);
            children.filter(|process| !own.contains(&process.pid))
        };
        let is_bare = |process: &&ProcessInfo| {
            !process.is_zombie && !table.markers.contains_key(&process.pid)
        };
        // Strays of a previous supervisor are no longer children of anybody.
        let processes = table.processes.iter();
        let is_kept = |process: &&ProcessInfo| {
            is_bare(process)
                && (process.parent_pid == ours && !own.contains(&process.pid)
                    || self.strays.known.contains(&to_identity(process, &table.boot)))
        };
        self.strays.known =
            processes.filter(is_kept).map(|p| to_identity(p, &table.boot)).collect();
        let ended = others().filter(|process| process.is_zombie);
        let ended: HashSet<(u32, u64)> = ended.map(|p| (p.pid, p.started)).collect();
        for (pid, _) in ended.intersection(&self.strays.seen_zombies) {
            let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // Either way, it is no zombie of ours any more.
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
            }
        }
        self.strays.seen_zombies = ended;
    }

    /// Selects all processes of this stack that no service owns.
    fn collect_strays(&self) -> Strays {
        let logs =
            self.machine.services().keys().flat_map(|name| self.service_log(name).file_ids());
        Strays {
            process_table: self.usage_monitor.process_table.clone(),
            token: self.token.clone(),
            leaders: self.strays.known.clone(),
            logs: logs.collect(),
            excluded: self.own_processes(),
        }
    }

    /// Returns the pids of the supervisor and its log writer, which are never strays.
    fn own_processes(&self) -> Vec<u32> {
        [Some(std::process::id()), self.logs.writer.pid()].into_iter().flatten().collect()
    }

    /// Starts to stop strays in a separate thread; the loop receives `Input::Swept` at the end.
    pub(super) fn start_sweep(&mut self, within: Duration) {
        self.strays.sweep = StraySweep::Running;
        let (strays, tell) = (self.collect_strays(), self.input_sender.clone());
        let begun = spawn_thread(move || drop(tell.send(Input::Swept(strays.terminate(within)))));
        if let Err(failure) = begun {
            self.strays.sweep = StraySweep::Done(vec![failure.to_string()]);
        }
    }

    /// Removes socket and records. The stack record stays if anything went wrong.
    pub(super) fn shut_down(mut self) -> Result<()> {
        let done = self.clean_up();
        self.running.clear();
        // The threads that held a clone have exited by now.
        if let Some(writer) = Arc::into_inner(self.logs.writer) {
            writer.release();
        }
        done
    }

    fn clean_up(&mut self) -> Result<()> {
        self.is_ending.store(true, Ordering::SeqCst);
        self.page.serving = None;
        if !matches!(self.strays.sweep, StraySweep::Done(_)) {
            drop(self.collect_strays().terminate(STRAY_TIMEOUT));
        }
        let is_swept = !matches!(&self.strays.sweep, StraySweep::Done(left) if !left.is_empty());
        let is_clean = is_swept
            && self
                .machine
                .services()
                .values()
                .all(|unit| unit.notes.error.is_none() && unit.survivors.is_empty());
        // Let connected commands receive their replies.
        let rounds = LAST_REPLIES_TIMEOUT.as_millis() / LAST_REPLIES_POLL.as_millis();
        for _ in 0..rounds {
            // One reference is ours, one belongs to the listening thread.
            if Arc::strong_count(&self.socket.commands) <= 2 {
                break;
            }
            std::thread::sleep(LAST_REPLIES_POLL);
        }
        // Another supervisor may listen at this path by now.
        if FileId::at_no_follow(&self.socket.path) == self.socket.id {
            self.host
                .disk
                .remove_file(&self.socket.path)
                .with_context(|| "cannot remove the socket")?;
        }
        if !self.owns_folder() {
            return Ok(());
        }
        if is_clean {
            self.host.stack.remove_record(self.host.disk)?;
        }
        self.host.stack.remove_supervisor(self.host.disk)
    }
}

/// Processes that services left behind and that no service owns any more.
struct Strays {
    process_table: Arc<ProcessTable>,
    token: String,
    leaders: Vec<ProcessIdentity>,
    logs: Vec<FileId>,
    excluded: Vec<u32>,
}

impl Strays {
    /// Stops them, and returns descriptions of those that remain.
    fn terminate(self, within: Duration) -> Vec<String> {
        let ours = ProcessSelector {
            stack: &self.token,
            service: None,
            leaders: self.leaders,
            logs: self.logs,
            excluded: self.excluded,
            subreaper: Some(std::process::id()),
        };
        let asking = StopMethod { signal: Signal::TERM.as_raw(), to_all: true };
        let ended =
            teardown::terminate_processes(&self.process_table, &ours, asking, within, &|| false);
        ended.map_or_else(|failure| vec![failure.to_string()], |ending| ending.survivors)
    }
}

/// Handles one connection.
fn serve_command(stream: &UnixStream, tell: &Sender<Input>, usage_monitor: &UsageMonitor) {
    let refuse = |why: String| {
        // The command may have disconnected.
        let _is_told = control_socket::write_reply(stream, &ControlReply::Refused { why });
    };
    let what = match control_socket::read_request(stream) {
        Ok(request) => request.what,
        Err(why) => return refuse(why),
    };
    let is_look = matches!(what, ControlCommand::Show { .. });
    let is_brief = matches!(what, ControlCommand::Show { brief: true });
    let (reply, answers) = channel();
    let is_gone = Arc::new(AtomicBool::new(false));
    let asked = Input::Request(what, Client { reply, is_gone: is_gone.clone() });
    if tell.send(asked).is_err() {
        return refuse("the supervisor is shutting down".to_owned());
    }
    loop {
        match answers.recv_timeout(GONE_POLL) {
            Ok(mut answer) => {
                let is_last = is_look || !matches!(answer, ControlReply::Now { .. });
                if is_look
                    && !is_brief
                    && let ControlReply::Now { page } = &mut answer
                {
                    usage_monitor.fill_usage(page);
                }
                let is_told = control_socket::write_reply(stream, &answer);
                if is_last {
                    return;
                }
                if !is_told && !is_gone.swap(true, Ordering::SeqCst) {
                    drop(tell.send(Input::Event(Event::Tick)));
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if control_socket::is_disconnected(stream) && !is_gone.swap(true, Ordering::SeqCst)
                {
                    drop(tell.send(Input::Event(Event::Tick)));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
