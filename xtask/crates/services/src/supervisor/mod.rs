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
mod effects;
mod housekeeping;
mod launch_env;
mod record;
mod requests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::launch_env::LaunchEnv;
use super::control_socket::{ControlCommand, ControlReply, ServiceFailure};
use super::events::{Effect, Event, EventContext};
use super::launch::{self, ToolkitProgram};
use super::listeners::LastLookup;
use super::log_rotator::LogRotator;
use super::log_writer::{LogPipe, LogWriter};
use super::metrics::UsageMonitor;
use super::probe::LogSearch;
use super::reattach;
use super::service_state::ServiceState;
use super::stack::{Stack, StackRecord};
use super::state_machine::StateMachine;
use super::status::{ServiceStatus, StackStatus};
use xtask_base::environment::{Environment, read_monotonic_clock};
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::{Disk, FileId};
use xtask_base::http::ServerHandle;
use xtask_base::lock;
use xtask_base::processes::ProcessIdentity;

/// Interval of `run_housekeeping`.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(10);

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
    Request(ControlCommand, Client),
    /// Request of the status page.
    StatusRequest(Sender<StackStatus>),
    /// The stray sweep finished; holds descriptions of the remaining processes.
    Swept(Vec<String>),
    /// A child exited (SIGCHLD), possibly an unknown one.
    ChildEnded,
    /// Stop all services and exit.
    Shutdown,
}

/// Connected command.
struct Client {
    reply: Sender<ControlReply>,
    is_gone: Arc<AtomicBool>,
}

/// Command that waits for its reply.
struct PendingRequest {
    client: Client,
    goal: RequestGoal,
    reported: Vec<ServiceStatus>,
}

/// Commands of clients.
#[derive(Default)]
struct RequestQueue {
    pending: Vec<PendingRequest>,
    /// Starts that wait for the end of a sweep.
    deferred: Vec<(ControlCommand, Client)>,
    /// Whether there was a command other than `Show`.
    was_asked: bool,
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

/// What a supervisor works with.
struct Host<'a> {
    stack: &'a Stack,
    world: &'a Environment,
    toolkit: ToolkitProgram,
    disk: &'a Disk<'a>,
}

/// Control socket on which it listens.
struct ListeningSocket {
    path: PathBuf,
    id: Option<FileId>,
    /// A reference for each connected command.
    commands: Arc<()>,
}

/// Processes without a marker that services left to the supervisor.
struct StrayTracker {
    known: Vec<ProcessIdentity>,
    seen_zombies: HashSet<(u32, u64)>,
    scan_due: Duration,
    sweep: StraySweep,
}

/// Record of the stack, as last written, and the lock that it depends on.
struct WrittenRecord {
    last: Option<StackRecord>,
    lock_id: Option<FileId>,
}

/// Logs of the services.
struct ServiceLogs {
    /// Length of each log at the last start.
    starts: HashMap<String, u64>,
    rotators: Arc<Mutex<BTreeMap<String, LogRotator>>>,
    writer: Arc<LogWriter>,
}

/// Status page.
struct StatusPage {
    /// Configured port: `None` if it is off, 0 for any free port.
    port: Option<u16>,
    /// Port and server, while it is open.
    serving: Option<(u16, ServerHandle)>,
}

struct Supervisor<'a> {
    host: Host<'a>,
    machine: StateMachine,
    token: String,
    usage_monitor: UsageMonitor,
    socket: ListeningSocket,
    strays: StrayTracker,
    requests: RequestQueue,
    record: WrittenRecord,
    running: HashMap<String, RunningService>,
    launch_envs: HashMap<String, LaunchEnv>,
    logs: ServiceLogs,
    page: StatusPage,
    input_sender: Sender<Input>,
    problems: BTreeMap<&'static str, String>,
    is_ending: Arc<AtomicBool>,
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
    let (tell, hear) = channel();
    let host = Host { stack, world, toolkit, disk };
    let mut supervisor = Supervisor::open_stack(host, tell.clone())?;
    supervisor.open_socket()?;
    supervisor.start_log_rotation()?;
    supervisor.open_status_page();
    // A full disk must not prevent a stop, so this failure is only noted. A start requires a record.
    let saved = supervisor.write_record();
    supervisor.note_problem("its record", saved);
    let announced = supervisor.write_address();
    supervisor.note_problem("its address", announced);
    forward_signals(signals, tell.clone(), || Input::Shutdown)?;
    forward_signals(children, tell, || Input::ChildEnded)?;
    ready();
    supervisor.run_loop(&hear)
}

/// Turns each message on `signals` into an input of the main loop.
fn forward_signals(
    signals: Receiver<()>,
    tell: Sender<Input>,
    input: impl Fn() -> Input + Send + 'static,
) -> Result<()> {
    spawn_thread(move || {
        while signals.recv().is_ok() {
            if tell.send(input()).is_err() {
                return;
            }
        }
    })
}

fn spawn_thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .stack_size(THREAD_STACK_SIZE)
        .spawn(work)
        .map(drop)
        .with_context(|| "cannot start a thread")
}

impl<'a> Supervisor<'a> {
    /// Takes over the services of the previous supervisor of the stack, if any.
    fn open_stack(host: Host<'a>, input_sender: Sender<Input>) -> Result<Supervisor<'a>> {
        let Host { stack, world, .. } = host;
        let path = stack.prepare_socket(world)?;
        let adopted = reattach::reattach_stack(stack, world)?;
        let writer = LogWriter::new(&stack.logs_folder(), &launch::find_own_program(world));
        let mut supervisor = Supervisor {
            machine: StateMachine::default(),
            usage_monitor: UsageMonitor::new(&adopted.token),
            token: adopted.token,
            socket: ListeningSocket { path, id: None, commands: Arc::default() },
            strays: StrayTracker {
                known: adopted.strays,
                seen_zombies: HashSet::new(),
                scan_due: Duration::ZERO,
                sweep: StraySweep::None,
            },
            requests: RequestQueue::default(),
            record: WrittenRecord {
                last: None,
                lock_id: FileId::at_no_follow(&stack.supervisor_lock()),
            },
            running: HashMap::new(),
            launch_envs: HashMap::new(),
            logs: ServiceLogs {
                starts: HashMap::new(),
                rotators: Arc::default(),
                writer: Arc::new(writer),
            },
            page: StatusPage { port: adopted.status, serving: None },
            input_sender,
            problems: BTreeMap::new(),
            is_ending: Arc::default(),
            host,
        };
        supervisor.take_over_services(adopted.units);
        if !supervisor.running.is_empty() {
            // Without a reader, their output fills the pipe and blocks them.
            let copied = supervisor.logs.writer.ensure_running();
            supervisor.note_problem("the writer of the logs", copied);
        }
        Ok(supervisor)
    }
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
                Ok(input) => self.handle_input(input, &mut round),
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
            let waiting = self.requests.pending.len();
            self.answer_pending();
            if self.requests.pending.len() < waiting {
                self.hasten_housekeeping(&mut round);
            }
            let saved = self.write_record();
            self.note_problem("its record", saved);
            is_settled = true;
            let is_many = self.machine.services().len() > FEW_SERVICES;
            settle_at = read_monotonic_clock()
                + (read_monotonic_clock() - settling) * if is_many { SETTLING_SHARE } else { 0 };
            let waits_to_be_asked =
                !self.requests.was_asked && read_monotonic_clock() < begun + FIRST_REQUEST_TIMEOUT;
            if self.is_idle() && self.requests.pending.is_empty() && !waits_to_be_asked {
                break;
            }
        }
        self.shut_down()
    }

    fn handle_input(&mut self, input: Input, round: &mut Duration) {
        match input {
            Input::Event(event) => self.handle_event(event),
            // The sweep selects processes by the marker of the stack: start no service during it.
            Input::Request(what @ ControlCommand::Start(_), client)
                if self.strays.sweep == StraySweep::Running =>
            {
                self.requests.deferred.push((what, client));
            }
            Input::Request(what, client) => self.handle_request(what, client),
            Input::StatusRequest(reply) => drop(reply.send(self.stack_status())),
            Input::Swept(left) => {
                self.strays.sweep = StraySweep::Done(left);
                self.answer_pending();
                for (what, client) in std::mem::take(&mut self.requests.deferred) {
                    self.handle_request(what, client);
                }
            }
            Input::ChildEnded => self.hasten_housekeeping(round),
            Input::Shutdown => self.stop_all(),
        }
    }

    /// Looks for strays soon.
    fn hasten_housekeeping(&mut self, round: &mut Duration) {
        *round = (*round).min(read_monotonic_clock() + CHILD_EXIT_DELAY);
        self.strays.scan_due = Duration::ZERO;
    }

    fn stop_all(&mut self) {
        self.requests.was_asked = true;
        let names = self.machine.services().keys().cloned().collect();
        self.handle_event(Event::Stop { names, within: None });
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
        self.record.lock_id.is_some()
            && FileId::at_no_follow(&self.host.stack.supervisor_lock()) == self.record.lock_id
    }

    /// Returns whether no service runs or is about to run.
    fn is_idle(&self) -> bool {
        let mut units = self.machine.services().values();
        !units.any(|u| {
            u.is_active() || matches!(u.state, ServiceState::Waiting | ServiceState::Pausing)
        })
    }

    fn event_context(&self) -> EventContext {
        let wall = (self.host.world.clock)();
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
}
