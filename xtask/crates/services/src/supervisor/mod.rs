//! The process that watches the services of one stack.
//!
//! It decides nothing: `machine` does. It waits for the next event, has the machine take it, and does
//! what comes out. Services write to their own logs and lead their own sessions, so its death takes
//! nothing down; what it knows is written down before anything is started, and the marker in each
//! process says the rest, so that the next supervisor can go on.

mod exits;
mod given;
mod requests;
mod upkeep;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::exits::{held_by, wait_for_child};
use self::given::{Given, given_of};
use super::adopt;
use super::control::{Answer, Failure, What};
use super::ending::{self, Ours};
use super::launch::{self, Env, Surroundings, Toolkit};
use super::log_writer::{LogWriter, Pipe};
use super::logs::{Keeper, Log};
use super::machine::{Event, Machine};
use super::page::{Page, Row, word};
use super::probe::{self, LogSearch};
use super::reach::{Last, Reach};
use super::spec::Spec;
use super::stack::{Saved, SavedUnit, Stack};
use super::unit::{Ask, Asking, Effect, Ending, Exit, Moment, State, Then};
use super::usage::Looker;
use xtask_base::error::{Context, Error, Result};
use xtask_base::files::Disk;
use xtask_base::http::{self, Serving};
use xtask_base::lock;
use xtask_base::processes::{Handle, Identity};
use xtask_base::world::{World, steady};

/// How often it looks at its folder and its socket.
const ROUND: Duration = Duration::from_secs(10);

/// How long a port may take to show that it is still served.
const SERVES_WITHIN: Duration = Duration::from_millis(200);

/// How soon after a child has ended: rarely enough for one that forks without end.
const SOON: Duration = Duration::from_secs(1);

/// How long it waits for the first request of whoever has started it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many times as long as it takes to tell and to write down what has changed goes by until it is done again, with
/// more services than a few: of those every step is told.
const SETTLING_SHARE: u32 = 3;
const FEW: usize = 16;

/// The stack of a thread that waits: 128 KiB.
const SMALL: usize = 128 << 10;

/// What the loop hears.
enum Input {
    /// Something happened to a service.
    Event(Event),
    /// A command asks.
    Asked { what: What, reply: Sender<Answer>, is_gone: Arc<AtomicBool> },
    /// The status page asks.
    Look(Sender<Page>),
    /// Those whom no service owns are ended, but for these.
    Swept(Vec<String>),
    /// A child has ended, which may be one that nobody knows.
    ChildEnded,
    /// It is to end everything and go.
    End,
}

/// A command that waits for its answer.
struct Pending {
    reply: Sender<Answer>,
    is_gone: Arc<AtomicBool>,
    goal: Goal,
    told: Vec<Row>,
}

/// What a command waits for.
enum Goal {
    /// That these are ready; `started` are those that were not there before, `restarts` how often each had
    /// been started again.
    Ready { names: Vec<String>, started: Vec<String>, restarts: BTreeMap<String, u32> },
    /// That these are gone.
    Gone { names: Vec<String>, failures: Option<Vec<Failure>>, within: Option<Duration> },
}

/// Whether those whom no service owns any more are ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sweep {
    /// Nobody has begun to.
    None,
    /// Somebody is at it.
    Running,
    /// It is done; what is left, in words.
    Done(Vec<String>),
}

/// Which file has a name, by device and number.
fn id_of(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// A running service, as far as the machine need not know.
struct Process {
    /// Ours to reap; nothing where another supervisor has started it.
    child: Option<Child>,
    identity: Identity,
    log_at: u64,
    /// To what it prints. While it is open here, nothing of that is lost, whoever reads it.
    _pipe: Option<Pipe>,
    search: LogSearch,
    /// What was found out last of where it listens.
    elsewhere: Last,
}

struct Supervisor<'a> {
    stack: &'a Stack,
    world: &'a World,
    toolkit: Toolkit,
    disk: &'a Disk<'a>,
    machine: Machine,
    token: String,
    socket: PathBuf,
    looker: Looker,
    strays: Vec<Identity>,
    ended: HashSet<(u32, u64)>,
    commands: Arc<()>,
    table_due: Duration,
    sweep: Sweep,
    deferred: Vec<(What, Sender<Answer>, Arc<AtomicBool>)>,
    lock_id: Option<(u64, u64)>,
    socket_id: Option<(u64, u64)>,
    running: HashMap<String, Process>,
    given: HashMap<String, Given>,
    log_starts: HashMap<String, u64>,
    keepers: Arc<Mutex<BTreeMap<String, Keeper>>>,
    writer: Arc<LogWriter>,
    pending: Vec<Pending>,
    status: Option<u16>,
    serving: Option<(u16, Serving)>,
    tell: Sender<Input>,
    saved: Option<Saved>,
    complaints: BTreeMap<&'static str, String>,
    is_ending: Arc<AtomicBool>,
    was_asked: bool,
}

/// Supervises a stack until nothing of it runs any more. `ready` is called once commands can connect.
/// Where somebody supervises already, it returns at once. `signals` says that it is to end everything,
/// `children` that a child has ended.
pub fn supervise(
    stack: &Stack,
    world: &World,
    toolkit: Toolkit,
    disk: &Disk<'_>,
    signals: Receiver<()>,
    children: Receiver<()>,
    ready: impl FnOnce(),
) -> Result<()> {
    let who = format!("pid {}", std::process::id());
    let Some(_lock) = lock::attempt(&stack.supervisor_lock(), &who)? else {
        ready();
        return Ok(());
    };
    // Where the system can, those whom services have left behind become our children.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
    let socket = stack.socket(world)?;
    let (tell, hear) = channel();
    let adopted = adopt::find(stack, world)?;
    let mut supervisor = Supervisor {
        stack,
        world,
        toolkit,
        disk,
        machine: Machine::default(),
        looker: Looker::new(&adopted.token),
        strays: adopted.strays,
        ended: HashSet::new(),
        commands: Arc::default(),
        table_due: Duration::ZERO,
        sweep: Sweep::None,
        deferred: Vec::new(),
        lock_id: id_of(&stack.supervisor_lock()),
        socket_id: None,
        token: adopted.token,
        socket,
        running: HashMap::new(),
        given: HashMap::new(),
        log_starts: HashMap::new(),
        keepers: Arc::default(),
        writer: Arc::new(LogWriter::new(&stack.logs(), &launch::own_program(world))),
        pending: Vec::new(),
        status: adopted.status,
        serving: None,
        tell: tell.clone(),
        saved: None,
        complaints: BTreeMap::new(),
        is_ending: Arc::default(),
        was_asked: false,
    };
    supervisor.take_over(adopted.units);
    if !supervisor.running.is_empty() {
        // What they print waits for somebody who reads it, and holds them up.
        let copied = supervisor.writer.look();
        supervisor.complain("the writer of the logs", copied);
    }
    supervisor.listen()?;
    supervisor.keep_logs()?;
    supervisor.open_status_page();
    // A full disk keeps nobody from ending what runs. Nothing is started that is not written down.
    let saved = supervisor.save();
    supervisor.complain("its record", saved);
    let announced = supervisor.announce();
    supervisor.complain("its address", announced);
    let tell_of_children = tell.clone();
    thread(move || {
        while signals.recv().is_ok() {
            if tell.send(Input::End).is_err() {
                return;
            }
        }
    })?;
    thread(move || {
        while children.recv().is_ok() {
            if tell_of_children.send(Input::ChildEnded).is_err() {
                return;
            }
        }
    })?;
    ready();
    supervisor.run(&hear)
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .stack_size(SMALL)
        .spawn(work)
        .map(drop)
        .unable(|| "a thread cannot be started")
}

impl Supervisor<'_> {
    fn run(mut self, hear: &Receiver<Input>) -> Result<()> {
        let mut round = steady() + ROUND;
        let begun = steady();
        // Telling and writing down takes longer the more services there are. It is not done for each of a burst
        // of events, but when as much time has gone by as a few times of it take.
        let (mut is_settled, mut settle_at) = (true, begun);
        loop {
            let mut due = self.machine.next_due().unwrap_or(round).min(round);
            if !is_settled {
                due = due.min(settle_at);
            }
            match hear.recv_timeout(due.saturating_sub(steady())) {
                Ok(Input::Event(event)) => self.act(event),
                // What is swept up is known by the marker of the stack: nothing of it begins meanwhile.
                Ok(Input::Asked { what: what @ What::Start(_), reply, is_gone })
                    if self.sweep == Sweep::Running =>
                {
                    self.deferred.push((what, reply, is_gone));
                }
                Ok(Input::Asked { what, reply, is_gone }) => self.asked(what, reply, is_gone),
                Ok(Input::Look(reply)) => drop(reply.send(self.page())),
                Ok(Input::Swept(left)) => {
                    self.sweep = Sweep::Done(left);
                    self.answer_pending();
                    for (what, reply, is_gone) in std::mem::take(&mut self.deferred) {
                        self.asked(what, reply, is_gone);
                    }
                }
                Ok(Input::ChildEnded) => {
                    round = round.min(steady() + SOON);
                    self.table_due = Duration::ZERO;
                }
                Ok(Input::End) => {
                    self.was_asked = true;
                    let names = self.machine.units().keys().cloned().collect();
                    self.act(Event::Stop { names, within: None });
                }
                Err(RecvTimeoutError::Timeout) => self.act(Event::Tick),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if steady() >= round {
                round = steady() + ROUND;
                self.look_around();
            }
            is_settled = false;
            let settling = steady();
            if settling < settle_at {
                continue;
            }
            let waiting = self.pending.len();
            self.answer_pending();
            if self.pending.len() < waiting {
                round = round.min(steady() + SOON);
                self.table_due = Duration::ZERO;
            }
            let saved = self.save();
            self.complain("its record", saved);
            is_settled = true;
            let is_many = self.machine.units().len() > FEW;
            settle_at = steady() + (steady() - settling) * if is_many { SETTLING_SHARE } else { 0 };
            let waits_to_be_asked = !self.was_asked && steady() < begun + PATIENCE;
            if self.is_idle() && self.pending.is_empty() && !waits_to_be_asked {
                break;
            }
        }
        self.leave()
    }

    /// Keeps in mind what could not be done, and forgets it when it could.
    fn complain(&mut self, about: &'static str, done: Result<()>) {
        match done {
            Ok(()) => drop(self.complaints.remove(about)),
            Err(failure) => drop(self.complaints.insert(about, failure.to_string())),
        }
    }

    /// Whether the folder of the stack is still the one in which this supervisor has its lock.
    fn is_there(&self) -> bool {
        self.lock_id.is_some() && id_of(&self.stack.supervisor_lock()) == self.lock_id
    }

    /// Whether nothing runs and nothing is about to.
    fn is_idle(&self) -> bool {
        let mut units = self.machine.units().values();
        !units.any(|u| u.is_active() || matches!(u.state, State::Waiting | State::Pausing))
    }

    fn now(&self) -> Moment {
        let wall = (self.world.clock)();
        Moment {
            steady: steady(),
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            // The last digits of the clock are chance enough for pauses.
            chance: u16::try_from(wall.subsec_nanos() & 0xffff).unwrap_or(0),
        }
    }

    fn act(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let event = self.reap(event);
            for effect in self.machine.step(event, self.now()) {
                match effect {
                    Effect::Spawn { name, run, degraded } => {
                        events.push_back(self.spawn(&name, run, degraded));
                    }
                    Effect::Probe { name, run, ask } => self.probe(&name, run, ask),
                    Effect::End { name, run, asking, timeout } => {
                        self.end(&name, run, asking, timeout);
                    }
                }
            }
        }
    }

    /// Reaps a service of which all is gone: now its number may be somebody else's. One that has not
    /// ended after all is a survivor.
    fn reap(&mut self, event: Event) -> Event {
        let Event::Ended { name, run, mut ending, conflict } = event else { return event };
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
        Event::Ended { name, run, ending, conflict }
    }

    fn log(&self, name: &str) -> Log {
        Log::new(&self.stack.logs(), name)
    }

    fn surroundings(&self) -> Surroundings {
        let units = self.machine.units().values();
        let ports = units.filter_map(|unit| Some((unit.spec.name.clone(), unit.spec.port?)));
        Surroundings {
            token: self.token.clone(),
            layer: self.stack.layer.clone(),
            root: self.stack.root.clone(),
            ports: ports.collect(),
            status: self.serving.as_ref().map(|(port, _)| *port),
        }
    }

    fn variables(&self, spec: &Spec, run: u64, degraded: bool) -> Result<Env> {
        let base = match self.given.get(&spec.name) {
            Some(given) => given.env.clone(),
            None if spec.env_files.is_empty() => Arc::new(self.world.env.clone()),
            None => {
                return Err(Error::unable(
                    "with which variables it was started is not known any more",
                )
                .hint(format!("`cargo xtask restart {}` reads its files again", spec.name)));
            }
        };
        Ok(launch::variables(spec, &base, &self.surroundings(), run, degraded))
    }

    fn spawn(&mut self, name: &str, run: u64, degraded: bool) -> Event {
        self.sweep = Sweep::None;
        let (name, spec) = (name.to_owned(), self.machine.units()[name].spec.clone());
        // What is about to be started is written down first.
        let saved = if self.is_written(&name, run) { Ok(()) } else { self.save() };
        let log = self.log(&name);
        self.log_starts.insert(name.clone(), log.length());
        let is_again = self.machine.units()[&name].is_started_again();
        // A log without it shows all that is there.
        log.begin_run(self.disk, self.now().wall_ms, is_again).ok();
        {
            let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
            keepers.insert(name.clone(), Keeper::new(log.clone(), spec.log));
        }
        let started = saved.and_then(|()| {
            let env = self.variables(&spec, run, degraded)?;
            let pipe = self.writer.pipe(&log);
            let started = launch::start(
                &spec,
                &env,
                self.world,
                &self.toolkit,
                &log,
                pipe.as_ref().map(|pipe| &pipe.end),
            )?;
            self.watch(&name, run, &started.identity, true)?;
            Ok((started, pipe))
        });
        match started {
            Ok((started, pipe)) => {
                let identity = started.identity.clone();
                let process = Process {
                    child: Some(started.child),
                    identity: started.identity,
                    log_at: started.log_at,
                    _pipe: pipe,
                    search: LogSearch::from(started.log_at),
                    elsewhere: Last::default(),
                };
                self.running.insert(name.clone(), process);
                Event::Spawned { name, run, identity }
            }
            Err(failure) => {
                let mut why = failure.to_string();
                for hint in failure.hints() {
                    why.push_str(&format!(" ({hint})"));
                }
                Event::NotSpawned { name, run, why }
            }
        }
    }

    /// Waits in a thread of its own for the process to end. A child of ours is not reaped by that.
    fn watch(&self, name: &str, run: u64, identity: &Identity, is_child: bool) -> Result<()> {
        let (tell, name, identity) = (self.tell.clone(), name.to_owned(), identity.clone());
        let writer = self.writer.clone();
        thread(move || {
            let exit = if is_child { wait_for_child(identity.pid) } else { None };
            let exit = exit.unwrap_or_else(|| {
                if let Some(handle) = Handle::open(&identity) {
                    handle.wait_for_ever();
                }
                Exit::Unseen
            });
            // Its last words say why.
            writer.wait_until_written();
            drop(tell.send(Input::Event(Event::Exited { name, run, exit })));
        })
    }

    fn probe(&mut self, name: &str, run: u64, ask: Ask) {
        let Some(unit) = self.machine.units().get(name) else { return };
        let spec = unit.spec.clone();
        let probe = match ask {
            Ask::Ready => spec.ready.clone(),
            Ask::Live => spec.live.as_ref().map(|live| live.probe.clone()),
        };
        let Some(probe) = probe else { return };
        let env = match &probe.run {
            Some(_) => self.variables(&spec, run, unit.is_degraded),
            None => Ok(Env::new()),
        };
        let env = match env {
            Ok(env) => env,
            Err(failure) => {
                // What cannot be asked has not failed.
                let answer = if ask == Ask::Live { Ok(()) } else { Err(failure.to_string()) };
                let name = name.to_owned();
                drop(self.tell.send(Input::Event(Event::Probed { name, run, ask, answer })));
                return;
            }
        };
        let search = self.running.get(name).map(|process| process.search.clone());
        let search = search.unwrap_or_else(|| LogSearch::from(0));
        let log = self.log(name);
        let Ours { leaders, logs, .. } = self.ours(name);
        let last = self.running.get(name).map(|process| process.elsewhere.clone());
        let reach = Reach {
            census: self.looker.census.clone(),
            token: self.token.clone(),
            service: name.to_owned(),
            leaders,
            logs,
            last: last.unwrap_or_default(),
        };
        let (tell, is_ending, name) = (self.tell.clone(), self.is_ending.clone(), name.to_owned());
        let failed = (name.clone(), tell.clone());
        let asked = thread(move || {
            let around = probe::Around {
                folder: &spec.folder,
                env: &env,
                log: &log,
                search: &search,
                reach: &reach,
                is_over: &|| is_ending.load(Ordering::SeqCst),
            };
            let answer = probe::ask(&probe, &around);
            drop(tell.send(Input::Event(Event::Probed { name, run, ask, answer })));
        });
        if let Err(failure) = asked {
            let (name, tell) = failed;
            let answer = Err(failure.to_string());
            drop(tell.send(Input::Event(Event::Probed { name, run, ask, answer })));
        }
    }

    fn ours<'n>(&'n self, name: &'n str) -> Ours<'n> {
        Ours {
            stack: &self.token,
            service: Some(name),
            leaders: self.running.get(name).map(|p| p.identity.clone()).into_iter().collect(),
            logs: self.log(name).ids(),
            spared: vec![std::process::id()],
            heir: None,
        }
    }

    fn end(&mut self, name: &str, run: u64, asking: Asking, timeout: Duration) {
        let Ours { leaders, logs, .. } = self.ours(name);
        let unit = self.machine.units().get(name);
        let port = unit.and_then(|unit| unit.spec.port);
        // Who has its port by then matters to one that is started again.
        let goes_on = unit.is_some_and(|unit| {
            unit.is_wanted || matches!(unit.state, State::Ending(Then::Again | Then::Pause))
        });
        let (census, token) = (self.looker.census.clone(), self.token.clone());
        let log = self.log(name);
        let (tell, name) = (self.tell.clone(), name.to_owned());
        let failed = (name.clone(), tell.clone());
        let begun = thread(move || {
            let ours = Ours {
                stack: &token,
                service: Some(&name),
                leaders,
                logs,
                spared: vec![std::process::id()],
                heir: None,
            };
            let serves = || port.is_some_and(|port| http::accepts(port, SERVES_WITHIN).is_ok());
            let ending = ending::end(&census, &ours, asking, timeout, &serves);
            let ending = ending.unwrap_or_else(|failure| Ending {
                survivors: vec![failure.to_string()],
                killed: Vec::new(),
            });
            for who in &ending.killed {
                // Its log is where one looks why something is missing; one that is gone with its worktree is not
                // made again.
                if log.is_there() {
                    log.say(&format!(
                        "xtask: killed {who}, which had not ended within {timeout:?}"
                    ));
                }
            }
            let conflict =
                port.filter(|_| goes_on && ending.survivors.is_empty()).and_then(held_by);
            drop(tell.send(Input::Event(Event::Ended { name, run, ending, conflict })));
        });
        if let Err(failure) = begun {
            let (name, tell) = failed;
            let ending = Ending { survivors: vec![failure.to_string()], killed: Vec::new() };
            drop(tell.send(Input::Event(Event::Ended { name, run, ending, conflict: None })));
        }
    }

    /// Takes over what another supervisor has left.
    fn take_over(&mut self, units: Vec<adopt::Found>) {
        self.given.extend(given_of(&units, &self.token, self.world));
        for found in units {
            let name = found.unit.spec.name.clone();
            let run = found.unit.run;
            let identity = found.unit.identity.clone();
            if !found.is_up {
                self.machine.put(found.unit);
                continue;
            }
            let log = self.log(&name);
            let log_at = found.log_at;
            self.log_starts.insert(name.clone(), log_at);
            let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
            keepers.insert(name.clone(), Keeper::new(log, found.unit.spec.log));
            drop(keepers);
            let now = self.now();
            self.machine.adopt(found.unit, found.was_ready, now);
            match identity {
                Some(identity) => {
                    let watched = self.watch(&name, run, &identity, false);
                    let search = LogSearch::from(log_at);
                    let elsewhere = Last::default();
                    let (child, _pipe) = (None, None);
                    let process = Process { child, identity, log_at, _pipe, search, elsewhere };
                    self.running.insert(name.clone(), process);
                    if watched.is_err() {
                        self.act(Event::Exited { name, run, exit: Exit::Unseen });
                    }
                }
                None => self.act(Event::Exited { name, run, exit: Exit::Unseen }),
            }
        }
    }

    /// Whether it is written down that this run is about to be.
    fn is_written(&self, name: &str, run: u64) -> bool {
        let units = self.saved.iter().flat_map(|saved| &saved.units);
        self.is_there() && units.into_iter().any(|unit| unit.spec.name == name && unit.run == run)
    }

    /// Writes down what is there, if it has changed.
    fn save(&mut self) -> Result<()> {
        let units = self.machine.units().values().map(|unit| SavedUnit {
            spec: unit.spec.clone(),
            is_wanted: unit.is_wanted,
            state: word(&unit.state).to_owned(),
            run: unit.run,
            identity: unit.identity.clone(),
            was_ready: unit.state == State::Ready,
            started_ms: unit.started_ms,
            log_at: self.running.get(&unit.spec.name).map_or(0, |process| process.log_at),
            restarts: unit.restarts,
            is_degraded: unit.is_degraded,
            error: unit.error.clone().filter(|_| unit.state != State::Starting),
            killed: unit.killed.clone(),
            seen: self.given.get(&unit.spec.name).map_or(Vec::new(), |given| given.seen.clone()),
        });
        let saved = Saved {
            folder: self.stack.folder.clone(),
            token: self.token.clone(),
            status: self.status,
            strays: self.strays.clone(),
            units: units.collect(),
        };
        // A worktree that was removed is not made again, and nothing is started in it.
        if !self.is_there() {
            let gone = format!("`{}` is gone", self.stack.folder.display());
            return Err(Error::unable(gone));
        }
        if self.saved.as_ref() != Some(&saved) {
            self.stack.save(self.disk, &saved)?;
            self.saved = Some(saved);
        }
        Ok(())
    }
}
