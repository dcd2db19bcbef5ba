//! The supervisor process of one stack.
//!
//! It takes no decisions (`state_machine` does): it waits for the next `Input`, feeds it to the
//! machine and performs the resulting effects. Guarantee: its death stops no service, because
//! services write to their own logs and lead their own sessions. Each run is recorded before it
//! starts (`record`), and each process carries a marker, so that the next supervisor can take over.
//!
//! ```text
//! Input::Request {start api} -> Event::Start -> Effect::Spawn -> Event::Spawned -> Effect::Probe
//!   -> Event::Probed -> ControlReply::Done
//! ```

mod child_exit;
mod housekeeping;
mod launch_env;
mod record;
mod requests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::child_exit::{describe_port_holder, wait_for_child};
use self::launch_env::LaunchEnv;
use super::control_socket::{ControlCommand, ControlReply, ServiceFailure};
use super::events::{
    Effect, Event, EventContext, ProbeKind, ProcessExit, StopMethod, TeardownReport,
};
use super::launch::{self, Env, LaunchContext, ToolkitProgram};
use super::listeners::{LastLookup, ListenerFinder};
use super::log_writer::{LogPipe, LogWriter};
use super::logs::{LogRotator, ServiceLog};
use super::members::ProcessSelector;
use super::metrics::UsageMonitor;
use super::probe::{self, LogSearch};
use super::reattach;
use super::service_state::{AfterStop, ServiceState};
use super::spec::ServiceSpec;
use super::stack::{Stack, StackRecord};
use super::state_machine::StateMachine;
use super::status::{ServiceStatus, StackStatus};
use super::teardown;
use xtask_base::environment::{Environment, read_monotonic_clock};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::http::{self, ServerHandle};
use xtask_base::lock;
use xtask_base::processes::{ProcessHandle, ProcessIdentity};

/// Interval of `run_housekeeping`.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(10);

/// Timeout for checking whether a port is still served.
const PORT_CHECK_TIMEOUT: Duration = Duration::from_millis(200);

/// Delay from the exit of a child to the next housekeeping: long enough for a service that forks
/// endlessly.
const CHILD_EXIT_DELAY: Duration = Duration::from_secs(1);

/// How long an idle supervisor waits for the first request before it exits.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// With more than `FEW_SERVICES` services, replies and records are batched: the pause between two
/// rounds is `SETTLING_SHARE` times the duration of a round. With fewer, every step is reported.
const SETTLING_SHARE: u32 = 3;
const FEW_SERVICES: usize = 16;

/// Stack size of a helper thread: 128 KiB.
const THREAD_STACK_SIZE: usize = 128 << 10;

/// Input of the main loop.
enum Input {
    /// Event of a service.
    Event(Event),
    /// Command from the control socket.
    Request { what: ControlCommand, reply: Sender<ControlReply>, is_gone: Arc<AtomicBool> },
    /// Request of the status page.
    StatusRequest(Sender<StackStatus>),
    /// The stray sweep finished; holds descriptions of the remaining processes.
    Swept(Vec<String>),
    /// A child exited (SIGCHLD), possibly an unknown one.
    ChildEnded,
    /// Stop all services and exit.
    Shutdown,
}

/// Command that waits for its reply.
struct PendingRequest {
    reply: Sender<ControlReply>,
    is_gone: Arc<AtomicBool>,
    goal: RequestGoal,
    reported: Vec<ServiceStatus>,
}

/// Condition that completes a request.
enum RequestGoal {
    /// `names` are ready. `started` are those that this request started, `restarts` the restart
    /// counts of all services before it.
    Ready { names: Vec<String>, started: Vec<String>, restarts: BTreeMap<String, u32> },
    /// `names` are stopped.
    Gone { names: Vec<String>, failures: Option<Vec<ServiceFailure>>, within: Option<Duration> },
}

/// Progress of the sweep that stops processes that no service owns any more.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StraySweep {
    None,
    Running,
    /// Finished; holds descriptions of the remaining processes.
    Done(Vec<String>),
}

/// Returns device and inode of the file at `path`.
fn read_file_id(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Data of a running service that `StateMachine` does not need.
struct RunningService {
    /// Child to reap; `None` if another supervisor started it.
    child: Option<Child>,
    identity: ProcessIdentity,
    log_at: u64,
    /// Kept open so that no output is lost while nobody reads the pipe.
    _pipe: Option<LogPipe>,
    search: LogSearch,
    /// Last result of `ListenerFinder::describe_elsewhere`.
    last_lookup: LastLookup,
}

struct Supervisor<'a> {
    stack: &'a Stack,
    world: &'a Environment,
    toolkit: ToolkitProgram,
    disk: &'a Disk<'a>,
    machine: StateMachine,
    token: String,
    socket: PathBuf,
    usage_monitor: UsageMonitor,
    strays: Vec<ProcessIdentity>,
    seen_zombies: HashSet<(u32, u64)>,
    commands: Arc<()>,
    scan_due: Duration,
    sweep: StraySweep,
    deferred: Vec<(ControlCommand, Sender<ControlReply>, Arc<AtomicBool>)>,
    lock_id: Option<(u64, u64)>,
    socket_id: Option<(u64, u64)>,
    running: HashMap<String, RunningService>,
    launch_envs: HashMap<String, LaunchEnv>,
    log_starts: HashMap<String, u64>,
    log_rotators: Arc<Mutex<BTreeMap<String, LogRotator>>>,
    writer: Arc<LogWriter>,
    pending: Vec<PendingRequest>,
    status: Option<u16>,
    serving: Option<(u16, ServerHandle)>,
    input_sender: Sender<Input>,
    last_record: Option<StackRecord>,
    problems: BTreeMap<&'static str, String>,
    is_ending: Arc<AtomicBool>,
    was_asked: bool,
}

/// Supervises a stack until none of its services runs, and calls `ready` once commands can connect.
/// Returns at once if another supervisor holds the lock. A message on `signals` stops all services,
/// one on `children` reports an exited child.
pub fn supervise_stack(
    stack: &Stack,
    world: &Environment,
    toolkit: ToolkitProgram,
    disk: &Disk<'_>,
    signals: Receiver<()>,
    children: Receiver<()>,
    ready: impl FnOnce(),
) -> Result<()> {
    let who = format!("pid {}", std::process::id());
    let Some(_lock) = lock::try_acquire(&stack.supervisor_lock(), &who)? else {
        ready();
        return Ok(());
    };
    // On Linux, orphaned descendants of services become our children.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
    let socket = stack.prepare_socket(world)?;
    let (tell, hear) = channel();
    let adopted = reattach::reattach_stack(stack, world)?;
    let mut supervisor = Supervisor {
        stack,
        world,
        toolkit,
        disk,
        machine: StateMachine::default(),
        usage_monitor: UsageMonitor::new(&adopted.token),
        strays: adopted.strays,
        seen_zombies: HashSet::new(),
        commands: Arc::default(),
        scan_due: Duration::ZERO,
        sweep: StraySweep::None,
        deferred: Vec::new(),
        lock_id: read_file_id(&stack.supervisor_lock()),
        socket_id: None,
        token: adopted.token,
        socket,
        running: HashMap::new(),
        launch_envs: HashMap::new(),
        log_starts: HashMap::new(),
        log_rotators: Arc::default(),
        writer: Arc::new(LogWriter::new(&stack.logs_folder(), &launch::find_own_program(world))),
        pending: Vec::new(),
        status: adopted.status,
        serving: None,
        input_sender: tell.clone(),
        last_record: None,
        problems: BTreeMap::new(),
        is_ending: Arc::default(),
        was_asked: false,
    };
    supervisor.take_over_services(adopted.units);
    if !supervisor.running.is_empty() {
        // Without a reader, their output fills the pipe and blocks them.
        let copied = supervisor.writer.ensure_running();
        supervisor.note_problem("the writer of the logs", copied);
    }
    supervisor.open_socket()?;
    supervisor.start_log_rotation()?;
    supervisor.open_status_page();
    // A full disk must not prevent a stop, so this failure is only noted. A start requires a record.
    let saved = supervisor.write_record();
    supervisor.note_problem("its record", saved);
    let announced = supervisor.write_address();
    supervisor.note_problem("its address", announced);
    let tell_of_children = tell.clone();
    spawn_thread(move || {
        while signals.recv().is_ok() {
            if tell.send(Input::Shutdown).is_err() {
                return;
            }
        }
    })?;
    spawn_thread(move || {
        while children.recv().is_ok() {
            if tell_of_children.send(Input::ChildEnded).is_err() {
                return;
            }
        }
    })?;
    ready();
    supervisor.run_loop(&hear)
}

fn spawn_thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .stack_size(THREAD_STACK_SIZE)
        .spawn(work)
        .map(drop)
        .with_context(|| "cannot start a thread")
}

impl Supervisor<'_> {
    fn run_loop(mut self, hear: &Receiver<Input>) -> Result<()> {
        let mut round = read_monotonic_clock() + HOUSEKEEPING_INTERVAL;
        let begun = read_monotonic_clock();
        // Replies and records cost more with more services, so a burst of events is batched: the next
        // round begins after a multiple of the duration of the last one.
        let (mut is_settled, mut settle_at) = (true, begun);
        loop {
            let mut due = self.machine.next_deadline().unwrap_or(round).min(round);
            if !is_settled {
                due = due.min(settle_at);
            }
            match hear.recv_timeout(due.saturating_sub(read_monotonic_clock())) {
                Ok(Input::Event(event)) => self.handle_event(event),
                // The sweep selects processes by the marker of the stack: start no service during it.
                Ok(Input::Request { what: what @ ControlCommand::Start(_), reply, is_gone })
                    if self.sweep == StraySweep::Running =>
                {
                    self.deferred.push((what, reply, is_gone));
                }
                Ok(Input::Request { what, reply, is_gone }) => {
                    self.handle_request(what, reply, is_gone)
                }
                Ok(Input::StatusRequest(reply)) => drop(reply.send(self.stack_status())),
                Ok(Input::Swept(left)) => {
                    self.sweep = StraySweep::Done(left);
                    self.answer_pending();
                    for (what, reply, is_gone) in std::mem::take(&mut self.deferred) {
                        self.handle_request(what, reply, is_gone);
                    }
                }
                Ok(Input::ChildEnded) => {
                    round = round.min(read_monotonic_clock() + CHILD_EXIT_DELAY);
                    self.scan_due = Duration::ZERO;
                }
                Ok(Input::Shutdown) => {
                    self.was_asked = true;
                    let names = self.machine.services().keys().cloned().collect();
                    self.handle_event(Event::Stop { names, within: None });
                }
                Err(RecvTimeoutError::Timeout) => self.handle_event(Event::Tick),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if read_monotonic_clock() >= round {
                round = read_monotonic_clock() + HOUSEKEEPING_INTERVAL;
                self.run_housekeeping();
            }
            is_settled = false;
            let settling = read_monotonic_clock();
            if settling < settle_at {
                continue;
            }
            let waiting = self.pending.len();
            self.answer_pending();
            if self.pending.len() < waiting {
                round = round.min(read_monotonic_clock() + CHILD_EXIT_DELAY);
                self.scan_due = Duration::ZERO;
            }
            let saved = self.write_record();
            self.note_problem("its record", saved);
            is_settled = true;
            let is_many = self.machine.services().len() > FEW_SERVICES;
            settle_at = read_monotonic_clock()
                + (read_monotonic_clock() - settling) * if is_many { SETTLING_SHARE } else { 0 };
            let waits_to_be_asked =
                !self.was_asked && read_monotonic_clock() < begun + FIRST_REQUEST_TIMEOUT;
            if self.is_idle() && self.pending.is_empty() && !waits_to_be_asked {
                break;
            }
        }
        self.shut_down()
    }

    /// Remembers a failure under `about`, and forgets it on success.
    fn note_problem(&mut self, about: &'static str, done: Result<()>) {
        match done {
            Ok(()) => drop(self.problems.remove(about)),
            Err(failure) => drop(self.problems.insert(about, failure.to_string())),
        }
    }

    /// Returns whether the folder of the stack is still the one that holds our lock file.
    fn owns_folder(&self) -> bool {
        self.lock_id.is_some() && read_file_id(&self.stack.supervisor_lock()) == self.lock_id
    }

    /// Returns whether no service runs or is about to run.
    fn is_idle(&self) -> bool {
        let mut units = self.machine.services().values();
        !units.any(|u| {
            u.is_active() || matches!(u.state, ServiceState::Waiting | ServiceState::Pausing)
        })
    }

    fn event_context(&self) -> EventContext {
        let wall = (self.world.clock)();
        EventContext {
            steady: read_monotonic_clock(),
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            // The low bits of the clock are random enough for backoffs.
            jitter: u16::try_from(wall.subsec_nanos() & 0xffff).unwrap_or(0),
        }
    }

    fn handle_event(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let event = self.reap_child(event);
            for effect in self.machine.step(event, self.event_context()) {
                match effect {
                    Effect::Spawn { name, run, degraded } => {
                        events.push_back(self.spawn_service(&name, run, degraded));
                    }
                    Effect::Probe { name, run, ask } => self.start_probe(&name, run, ask),
                    Effect::Teardown { name, run, asking, timeout } => {
                        self.start_teardown(&name, run, asking, timeout);
                    }
                }
            }
        }
    }

    /// Reaps the child of a service whose processes are all gone; from then on its pid can be reused.
    /// A child that has not exited after all becomes a survivor.
    fn reap_child(&mut self, event: Event) -> Event {
        let Event::TornDown { name, run, mut ending, conflict } = event else { return event };
        if ending.survivors.is_empty() {
            let child = self.running.get_mut(&name).and_then(|process| process.child.as_mut());
            if let Some(child) = child
                && matches!(child.try_wait(), Ok(None))
            {
                ending.survivors.push(format!("pid {}", child.id()));
            } else {
                self.running.remove(&name);
            }
        }
        Event::TornDown { name, run, ending, conflict }
    }

    fn service_log(&self, name: &str) -> ServiceLog {
        ServiceLog::new(&self.stack.logs_folder(), name)
    }

    fn launch_context(&self) -> LaunchContext {
        let units = self.machine.services().values();
        let ports = units.filter_map(|unit| Some((unit.spec.name.clone(), unit.spec.port?)));
        LaunchContext {
            token: self.token.clone(),
            layer: self.stack.layer.clone(),
            root: self.stack.root.clone(),
            ports: ports.collect(),
            status: self.serving.as_ref().map(|(port, _)| *port),
        }
    }

    fn build_environment(&self, spec: &ServiceSpec, run: u64, degraded: bool) -> Result<Env> {
        let base = match self.launch_envs.get(&spec.name) {
            Some(given) => given.env.clone(),
            None if spec.env_files.is_empty() => Arc::new(self.world.variables.clone()),
            None => {
                return Err(Error::unable("the environment of its last start is no longer known")
                    .with_hint(format!(
                        "`cargo xtask restart {}` reads its env files again",
                        spec.name
                    )));
            }
        };
        Ok(launch::build_environment(spec, &base, &self.launch_context(), run, degraded))
    }

    fn spawn_service(&mut self, name: &str, run: u64, degraded: bool) -> Event {
        self.sweep = StraySweep::None;
        let (name, spec) = (name.to_owned(), self.machine.services()[name].spec.clone());
        // Record the run before it starts.
        let saved = if self.is_recorded(&name, run) { Ok(()) } else { self.write_record() };
        let log = self.service_log(&name);
        self.log_starts.insert(name.clone(), log.length());
        let is_again = self.machine.services()[&name].was_auto_restarted();
        // Without this entry, `logs` shows the entire log.
        log.record_run(self.disk, self.event_context().wall_ms, is_again).ok();
        {
            let mut keepers = self.log_rotators.lock().unwrap_or_else(PoisonError::into_inner);
            keepers.insert(name.clone(), LogRotator::new(log.clone(), spec.supervision.log));
        }
        let started = saved.and_then(|()| {
            let env = self.build_environment(&spec, run, degraded)?;
            let pipe = self.writer.open_pipe(&log);
            let started = launch::start_service(
                &spec,
                &env,
                self.world,
                &self.toolkit,
                &log,
                pipe.as_ref().map(|pipe| &pipe.write_end),
            )?;
            self.watch_exit(&name, run, &started.identity, true)?;
            Ok((started, pipe))
        });
        match started {
            Ok((started, pipe)) => {
                let identity = started.identity.clone();
                let process = RunningService {
                    child: Some(started.child),
                    identity: started.identity,
                    log_at: started.log_at,
                    _pipe: pipe,
                    search: LogSearch::starting_at(started.log_at),
                    last_lookup: LastLookup::default(),
                };
                self.running.insert(name.clone(), process);
                Event::Spawned { name, run, identity }
            }
            Err(failure) => {
                let mut why = failure.to_string();
                for hint in failure.hints() {
                    why.push_str(&format!(" ({hint})"));
                }
                Event::SpawnFailed { name, run, why }
            }
        }
    }

    /// Waits for the process to exit, in a separate thread. Does not reap a child.
    fn watch_exit(
        &self,
        name: &str,
        run: u64,
        identity: &ProcessIdentity,
        is_child: bool,
    ) -> Result<()> {
        let (tell, name, identity) = (self.input_sender.clone(), name.to_owned(), identity.clone());
        let writer = self.writer.clone();
        spawn_thread(move || {
            let exit = if is_child { wait_for_child(identity.pid) } else { None };
            let exit = exit.unwrap_or_else(|| {
                if let Some(handle) = ProcessHandle::open(&identity) {
                    handle.wait_until_exit();
                }
                ProcessExit::Unseen
            });
            // The last output often explains the exit.
            writer.wait_until_written();
            drop(tell.send(Input::Event(Event::Exited { name, run, exit })));
        })
    }

    fn start_probe(&mut self, name: &str, run: u64, ask: ProbeKind) {
        let Some(unit) = self.machine.services().get(name) else { return };
        let spec = unit.spec.clone();
        let probe = match ask {
            ProbeKind::Ready => spec.supervision.ready.clone(),
            ProbeKind::Live => spec.supervision.live.as_ref().map(|live| live.probe.clone()),
        };
        let Some(probe) = probe else { return };
        let env = match &probe.run {
            Some(_) => self.build_environment(&spec, run, unit.notes.is_degraded),
            None => Ok(Env::new()),
        };
        let env = match env {
            Ok(env) => env,
            Err(failure) => {
                // A liveness probe that cannot run has not failed.
                let answer = if ask == ProbeKind::Live { Ok(()) } else { Err(failure.to_string()) };
                let name = name.to_owned();
                drop(self.input_sender.send(Input::Event(Event::Probed {
                    name,
                    run,
                    ask,
                    answer,
                })));
                return;
            }
        };
        let search = self.running.get(name).map(|process| process.search.clone());
        let search = search.unwrap_or_else(|| LogSearch::starting_at(0));
        let log = self.service_log(name);
        let (leader, logs) = (self.find_leader(name), self.service_log(name).file_ids());
        let last = self.running.get(name).map(|process| process.last_lookup.clone());
        let reach = ListenerFinder {
            process_table: self.usage_monitor.process_table.clone(),
            token: self.token.clone(),
            service: name.to_owned(),
            leader,
            logs,
            last: last.unwrap_or_default(),
        };
        let (tell, is_ending, name) =
            (self.input_sender.clone(), self.is_ending.clone(), name.to_owned());
        let failed = (name.clone(), tell.clone());
        let asked = spawn_thread(move || {
            let around = probe::ProbeContext {
                folder: &spec.folder,
                env: &env,
                log: &log,
                search: &search,
                listeners: &reach,
                is_over: &|| is_ending.load(Ordering::SeqCst),
            };
            let answer = probe::run_probe(&probe, &around);
            drop(tell.send(Input::Event(Event::Probed { name, run, ask, answer })));
        });
        if let Err(failure) = asked {
            let (name, tell) = failed;
            let answer = Err(failure.to_string());
            drop(tell.send(Input::Event(Event::Probed { name, run, ask, answer })));
        }
    }

    fn process_selector<'n>(&'n self, name: &'n str) -> ProcessSelector<'n> {
        let logs = self.service_log(name).file_ids();
        ProcessSelector::for_service(&self.token, name, self.find_leader(name), logs)
    }

    fn find_leader(&self, name: &str) -> Option<ProcessIdentity> {
        self.running.get(name).map(|process| process.identity.clone())
    }

    fn start_teardown(&mut self, name: &str, run: u64, asking: StopMethod, timeout: Duration) {
        let (leader, logs) = (self.find_leader(name), self.service_log(name).file_ids());
        let unit = self.machine.services().get(name);
        let port = unit.and_then(|unit| unit.spec.port);
        // A port conflict matters only if the service is started again.
        let goes_on = unit.is_some_and(|unit| {
            unit.is_wanted
                || matches!(unit.state, ServiceState::Ending(AfterStop::Again | AfterStop::Pause))
        });
        let (census, token) = (self.usage_monitor.process_table.clone(), self.token.clone());
        let log = self.service_log(name);
        let (tell, name) = (self.input_sender.clone(), name.to_owned());
        let failed = (name.clone(), tell.clone());
        let begun = spawn_thread(move || {
            let ours = ProcessSelector::for_service(&token, &name, leader, logs);
            let serves =
                || port.is_some_and(|port| http::check_connect(port, PORT_CHECK_TIMEOUT).is_ok());
            let ending = teardown::terminate_processes(&census, &ours, asking, timeout, &serves);
            let ending = ending.unwrap_or_else(|failure| TeardownReport {
                survivors: vec![failure.to_string()],
                killed: Vec::new(),
            });
            for who in &ending.killed {
                // Users look in the log for missing output. A log removed with its worktree is not
                // recreated.
                if log.exists() {
                    log.append_line(&format!(
                        "xtask: killed {who} (SIGKILL) because it did not stop within {timeout:?}"
                    ));
                }
            }
            let conflict = port
                .filter(|_| goes_on && ending.survivors.is_empty())
                .and_then(describe_port_holder);
            drop(tell.send(Input::Event(Event::TornDown { name, run, ending, conflict })));
        });
        if let Err(failure) = begun {
            let (name, tell) = failed;
            let ending =
                TeardownReport { survivors: vec![failure.to_string()], killed: Vec::new() };
            drop(tell.send(Input::Event(Event::TornDown { name, run, ending, conflict: None })));
        }
    }
}
