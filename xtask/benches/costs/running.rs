//! Services that a manager runs, or nobody: started, looked at from outside, stopped, and ended for
//! certain, also where the bench fails or is interrupted. Only of one that is killed, managers stay.
//!
//! Nothing that a manager says counts here. A service is ready once its port takes a connection, and
//! gone once the pid that it has written down is no process of its any more and its port takes none.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::kit::{Bench, milliseconds};
use crate::managers::{Installed, MARKER, Returns};
use crate::stand_in::{STRAYS, Service, pid_of};

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(120);

/// How long a connection to this machine may take.
const CONNECTING: Duration = Duration::from_millis(500);

/// How long a manager may take to be gone after its services, and what it has yet to end with it.
const LAST_WORK: Duration = Duration::from_secs(15);

/// A process that is the same one and no other with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub pid: u32,
    started: u64,
}

/// What `/proc` says of a process.
struct Stat {
    who: Who,
    parent: u32,
    is_zombie: bool,
    ticks: u64,
}

/// How long a start took, in milliseconds.
pub struct Started {
    /// Until all ports took connections.
    pub ready: f64,
    /// Until the command was back; never where it is the manager.
    pub returned: Option<f64>,
}

/// How long a stop took, in milliseconds.
pub struct Stopped {
    /// Until no service and no port was left.
    pub gone: f64,
    /// Until the command, or the manager that was sent a signal, was back.
    pub returned: f64,
}

/// Services in a folder of their own.
pub struct Stack<'a> {
    bench: &'a Bench,
    /// Nothing: they are started by the bench itself.
    pub by: Option<&'a Installed>,
    folder: PathBuf,
    services: Vec<Service>,
    known: Vec<Who>,
    children: Vec<Child>,
    over: &'a Over,
}

/// Whether somebody has typed Ctrl-C. Every wait asks; it ends by a panic, and that by ending all
/// that was started. Dropped, Ctrl-C is what it was before.
pub struct Over(&'static Listening);

#[derive(Default)]
struct Listening {
    was_asked: Arc<AtomicBool>,
    is_deaf: Arc<AtomicBool>,
}

impl Over {
    pub fn new() -> Over {
        // What was registered stays, so it is registered once.
        static LISTENING: LazyLock<Listening> = LazyLock::new(|| {
            let listening = Listening::default();
            for signal in [SIGINT, SIGTERM] {
                flag::register(signal, listening.was_asked.clone()).unwrap();
                flag::register_conditional_default(signal, listening.is_deaf.clone()).unwrap();
            }
            listening
        });
        LISTENING.is_deaf.store(false, Ordering::SeqCst);
        Over(&LISTENING)
    }

    /// Panics where somebody has.
    fn check(&self) {
        assert!(!self.0.was_asked.load(Ordering::SeqCst), "interrupted");
    }

    /// Waits for so long, unless somebody has.
    pub fn wait(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.check();
            std::thread::sleep(LOOK * 100);
        }
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        self.0.is_deaf.store(true, Ordering::SeqCst);
    }
}

impl<'a> Stack<'a> {
    /// Services with these delays, on ports of their own; the first one leaves processes behind, if it
    /// is to.
    pub fn new(
        bench: &'a Bench,
        over: &'a Over,
        by: Option<&'a Installed>,
        delays_ms: &[u64],
        leaves: bool,
    ) -> Stack<'a> {
        let name = by.map_or("bare", |by| by.manager.name);
        let folder = bench.root.join("services").join(format!("{name}-{}", delays_ms.len()));
        let pids = folder.join("pids");
        fs::create_dir_all(&pids).unwrap();
        rustix::fs::chmod(&folder, rustix::fs::Mode::RWXU).unwrap();
        let service = |(at, delay): (usize, &u64)| Service {
            name: format!("s{at:02}"),
            port: free_port(),
            delay: Duration::from_millis(*delay),
            leaves: leaves && at == 0,
            pids: pids.clone(),
        };
        let services: Vec<Service> = delays_ms.iter().enumerate().map(service).collect();
        if let Some(by) = by {
            by.configure(bench, &folder, &services);
        }
        Stack { bench, by, folder, services, known: Vec::new(), children: Vec::new(), over }
    }

    /// Starts them, and waits until all are ready and the command is back.
    pub fn start(&mut self) -> Result<Started, String> {
        let begun = Instant::now();
        match self.by {
            Some(by) => {
                let command = by.start(self.bench, &self.folder);
                self.spawn(command);
            }
            None => {
                for service in &self.services.clone() {
                    let argv = service.argv();
                    let mut command = Command::new(&argv[0]);
                    command.args(&argv[1..]).env(MARKER, &self.folder);
                    self.spawn(command);
                }
            }
        }
        let returns = self.by.is_some_and(|by| by.manager.returns != Returns::Never);
        let mut waiting: Vec<u16> = self.services.iter().map(|service| service.port).collect();
        let (mut ready, mut returned) = (None, None);
        while ready.is_none() || returns && returned.is_none() {
            waiting.retain(|port| !accepts(*port));
            if waiting.is_empty() && ready.is_none() {
                ready = Some(begun.elapsed());
            }
            if returned.is_none()
                && let Some(status) = self.children.last_mut().unwrap().try_wait().unwrap()
            {
                returned = Some(begun.elapsed());
                if !(returns && status.success()) {
                    return Err(self.said("start"));
                }
            }
            self.pause(begun, "start")?;
        }
        let services = self.services.iter();
        self.known = services
            .map(|service| pid_of(&service.pids, &service.name).and_then(who))
            .collect::<Option<_>>()
            .ok_or("a port is open, and its service has gone")?;
        Ok(Started { ready: milliseconds(ready.unwrap()), returned: returned.map(milliseconds) })
    }

    /// Stops them, and waits until all are gone and the command is back.
    pub fn stop(&mut self) -> Result<Stopped, String> {
        let manager = self.manager();
        let begun = Instant::now();
        match self.by.and_then(|by| by.stop(self.bench, &self.folder)) {
            Some(command) => self.spawn(command),
            None => self.children.iter().for_each(|child| signal(child.id(), Signal::TERM)),
        }
        let (mut gone, mut returned) = (None, None);
        while gone.is_none() || returned.is_none() {
            let mut services = self.services.iter();
            if gone.is_none()
                && !self.known.iter().any(|who| is_alive(*who))
                && !services.any(|service| accepts(service.port))
            {
                gone = Some(begun.elapsed());
            }
            if returned.is_none()
                && self.children.iter_mut().all(|child| child.try_wait().unwrap().is_some())
            {
                returned = Some(begun.elapsed());
            }
            self.pause(begun, "stop")?;
        }
        self.children.clear();
        let last = Instant::now();
        while manager.iter().any(|who| is_alive(*who)) && last.elapsed() < LAST_WORK {
            self.pause(begun, "stop")?;
        }
        Ok(Stopped { gone: milliseconds(gone.unwrap()), returned: milliseconds(returned.unwrap()) })
    }

    /// The processes that a service has left, which are still there: to be asked for before the stop.
    pub fn strays(&self) -> Result<Vec<Who>, String> {
        let pids = self.folder.join("pids");
        let begun = Instant::now();
        loop {
            let found: Option<Vec<Who>> =
                STRAYS.iter().map(|name| pid_of(&pids, name).and_then(who)).collect();
            if let Some(found) = found {
                return Ok(found);
            }
            self.pause(begun, "start of what is left behind")?;
        }
    }

    /// The processes of the manager, with what it puts between itself and the services: from the last
    /// one above a service that is not above the bench.
    pub fn manager(&self) -> Vec<Who> {
        let table: HashMap<u32, Stat> = table();
        let above = |pid: u32| {
            std::iter::successors(Some(pid), |pid| table.get(pid).map(|stat| stat.parent))
                .take_while(|pid| *pid > 0)
                .collect::<Vec<u32>>()
        };
        let bench: BTreeSet<u32> = above(std::process::id()).into_iter().chain([1]).collect();
        let services: BTreeSet<u32> = self.known.iter().map(|who| who.pid).collect();
        let mut tops = BTreeSet::new();
        for pid in &services {
            tops.extend(above(*pid).into_iter().take_while(|pid| !bench.contains(pid)).last());
        }
        let is_of_it = |pid: &u32| {
            let above = above(*pid);
            above.iter().any(|pid| tops.contains(pid))
                && !above.iter().any(|pid| services.contains(pid))
        };
        table.values().map(|stat| stat.who).filter(|who| is_of_it(&who.pid)).collect()
    }

    fn spawn(&mut self, mut command: Command) {
        // A file, and no pipe: who stays would hold it open.
        let path = self.folder.join("said");
        let said = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        command.stdin(Stdio::null()).stderr(said.try_clone().unwrap()).stdout(said);
        self.children.push(command.spawn().unwrap());
    }

    fn pause(&self, begun: Instant, what: &str) -> Result<(), String> {
        self.over.check();
        std::thread::sleep(LOOK);
        if begun.elapsed() < LONGEST { Ok(()) } else { Err(self.said(what)) }
    }

    /// What was said, for people, after something went wrong.
    fn said(&self, what: &str) -> String {
        let said = fs::read_to_string(self.folder.join("said")).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(5).collect();
        format!("its {what} failed: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" / "))
    }
}

/// Whatever happened: nothing of it stays.
impl Drop for Stack<'_> {
    fn drop(&mut self) {
        end_all_of(&self.folder);
        for child in &mut self.children {
            drop(child.wait());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Ends every process that has this folder in its environment or in its command line.
pub fn end_all_of(folder: &Path) {
    let folder = folder.to_str().unwrap();
    let is_of_it = |pid: u32| {
        let held = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        ["environ", "cmdline"]
            .iter()
            .any(|file| String::from_utf8_lossy(&held(file)).contains(folder))
    };
    let begun = Instant::now();
    while begun.elapsed() < LAST_WORK {
        let found: Vec<Who> = table()
            .into_values()
            .filter(|stat| !stat.is_zombie && stat.who.pid != std::process::id())
            .map(|stat| stat.who)
            .filter(|who| is_of_it(who.pid))
            .collect();
        if found.is_empty() {
            return;
        }
        found.iter().filter(|who| is_alive(**who)).for_each(|who| signal(who.pid, Signal::KILL));
        std::thread::sleep(LOOK * 10);
    }
}

/// Who has gone meanwhile cannot be signalled, and need not be.
fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).ok();
}

/// A port that is free, below those that the system gives to connections: whoever connects again and
/// again to one of those is connected to itself one day.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::SeqCst) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn accepts(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), CONNECTING).is_ok()
}

/// The process of this number, if there is one that has not ended.
pub fn who(pid: u32) -> Option<Who> {
    stat(pid).filter(|stat| !stat.is_zombie).map(|stat| stat.who)
}

pub fn is_alive(who: Who) -> bool {
    self::who(who.pid) == Some(who)
}

/// Processor time in hundredths of a second, as Linux counts it for programs.
pub fn ticks(who: Who) -> u64 {
    stat(who.pid).map_or(0, |stat| stat.ticks)
}

/// Resident memory in KiB: all of it, and with what is shared counted in parts.
pub fn memory(who: Who) -> (u64, u64) {
    memory_of(who.pid)
}

/// The same, by the number of a process.
pub fn memory_of(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    (of("Rss:"), of("Pss:"))
}

fn table() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses, and may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        who: Who { pid, started: number(19)? },
        parent: u32::try_from(number(1)?).ok()?,
        is_zombie: matches!(fields[0], "Z" | "X"),
        ticks: number(11)? + number(12)?,
    })
}
