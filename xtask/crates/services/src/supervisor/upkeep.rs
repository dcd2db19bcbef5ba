//! What the supervisor keeps up around the services: its socket, its status page, the logs, and a look
//! at all of it now and then.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use super::{Input, Supervisor, Sweep, thread};
use crate::control::{self, Answer, What};
use crate::ending::{self, Census, Ours, Table, identity};
use crate::endpoint;
use crate::machine::Event;
use crate::spec::Limits;
use crate::stack::Supervisor as Announced;
use crate::unit::Asking;
use crate::usage::Looker;
use xtask_base::error::{Context, Result};
use xtask_base::files::Disk;
use xtask_base::processes::{self, Identity, Process};
use xtask_base::world::steady;

/// How often the kernel's table is read, for what services use and for those they have left behind.
const TABLE: Duration = Duration::from_secs(30);

/// How often the logs are looked at while something is written, and the least often otherwise.
const LOG_LOOK: Duration = Duration::from_millis(50);
const LOG_LOOK_IDLE: Duration = Duration::from_millis(400);

/// How often it is asked whether a command that waits is still there.
const GONE_POLL: Duration = Duration::from_millis(100);

/// How many commands can be connected at once.
const MOST_COMMANDS: usize = 256;

/// How long the status page waits for the loop.
const PAGE_PATIENCE: Duration = Duration::from_secs(3);

/// How long the last answers may take to be taken.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_millis(2);

/// How long strays are given to end: as long as services are by default.
pub(super) const STRAY_TIMEOUT: Duration = Duration::from_secs(10);

impl Supervisor<'_> {
    /// Listens for commands. Whoever listened here before is gone: the lock says so.
    pub(super) fn listen(&mut self) -> Result<()> {
        let cannot = || format!("the supervisor cannot listen at `{}`", self.socket.display());
        self.disk.remove(&self.socket).unable(cannot)?;
        let listener = UnixListener::bind(&self.socket).unable(cannot)?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&self.socket, mode).unable(cannot)?;
        self.socket_id = super::id_of(&self.socket);
        let (tell, looker) = (self.tell.clone(), self.looker.clone());
        let commands = self.commands.clone();
        thread(move || {
            while let Ok((stream, _)) = listener.accept() {
                if !control::is_same_user(&stream) {
                    continue;
                }
                if Arc::strong_count(&commands) > MOST_COMMANDS {
                    let why = "too many commands are connected to the supervisor".to_owned();
                    let _is_told = control::tell(&stream, &Answer::Refused { why });
                    continue;
                }
                let (tell, looker, command) = (tell.clone(), looker.clone(), commands.clone());
                // One that cannot be served is closed, which tells whoever waits.
                drop(thread(move || {
                    serve(&stream, &tell, &looker);
                    drop(command);
                }));
            }
        })
    }

    /// Says where it listens.
    pub(super) fn announce(&self) -> Result<()> {
        let Some(identity) = processes::identity(std::process::id()) else {
            return Err(xtask_base::error::Error::unable("this process cannot find itself"));
        };
        let announced = Announced {
            folder: self.stack.folder.clone(),
            identity,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            socket: self.socket.clone(),
        };
        self.stack.announce(self.disk, &announced)
    }

    /// Opens the status page where it is wanted. That it cannot be opened takes no service down.
    pub(super) fn open_status_page(&mut self) {
        self.serving = None;
        let Some(port) = self.status else { return };
        let opened = endpoint::bind(port).and_then(|server| {
            let port = server.port();
            let (tell, looker) = (self.tell.clone(), self.looker.clone());
            let look = Arc::new(move || {
                let (reply, answer) = channel();
                tell.send(Input::Look(reply)).ok()?;
                let mut page = answer.recv_timeout(PAGE_PATIENCE).ok()?;
                looker.fill(&mut page);
                Some(page)
            });
            Ok((port, endpoint::serve(server, look)?))
        });
        let done = opened.map(|serving| self.serving = Some(serving));
        self.complain("the status page", done);
    }

    /// Looks after the logs in a thread of its own, more often while something is written.
    pub(super) fn keep_logs(&self) -> Result<()> {
        let (keepers, is_ending) = (Arc::downgrade(&self.keepers), self.is_ending.clone());
        thread(move || {
            let mut pause = LOG_LOOK;
            while let Some(keepers) = keepers.upgrade() {
                if is_ending.load(Ordering::SeqCst) {
                    return;
                }
                let mut keepers = keepers.lock().unwrap_or_else(PoisonError::into_inner);
                // A log that cannot be kept is the service's own affair: a full disk, most often.
                let looks = keepers.values_mut().map(|keeper| keeper.look(&Disk::real()));
                let has_grown = looks.filter(|look| matches!(look, Ok(true))).count() > 0;
                drop(keepers);
                pause = if has_grown { LOG_LOOK } else { (pause * 2).min(LOG_LOOK_IDLE) };
                std::thread::sleep(pause);
            }
        })
    }

    /// Looks around: at what services use, at its own folder and socket, and at those who were left to
    /// it and have ended.
    pub(super) fn look_around(&mut self) {
        if !self.is_there() {
            // The worktree was removed, perhaps made anew, and nobody could ever stop them.
            self.was_asked = true;
            let names = self.machine.units().keys().cloned().collect();
            self.act(Event::Stop { names, within: None });
            return;
        }
        if self.socket.symlink_metadata().is_err() {
            // The folder may have gone with the last login of its user, and have come again with the next.
            let done = self.stack.socket(self.world).and_then(|socket| {
                self.socket = socket;
                self.listen()?;
                self.announce()
            });
            self.complain("its socket", done);
        }
        let copied = self.writer.look();
        self.complain("the writer of the logs", copied);
        if self.status.is_some() && self.serving.is_none() {
            self.open_status_page();
        }
        // The kernel's table is read less often: that is what a supervisor at rest spends its time on.
        if steady() < self.table_due {
            return;
        }
        self.table_due = steady() + TABLE;
        let units = self.machine.units().values();
        let limited: Vec<(String, u64, u64)> = units
            .filter(|unit| unit.spec.limits != Limits::default() && unit.identity.is_some())
            .map(|unit| {
                let uptime = self.now().wall_ms.saturating_sub(unit.started_ms);
                (unit.spec.name.clone(), unit.run, u64::try_from(uptime).unwrap_or(0))
            })
            .collect();
        let Ok(table) = self.looker.census.look() else { return };
        for (name, run, uptime) in limited {
            let used = self.looker.usage.of(&self.ours(&name), &table, uptime);
            let (memory, cpu_percent) = (used.memory, used.cpu as u32);
            self.act(Event::Sampled { name, run, memory, cpu_percent });
        }
        self.keep_strays(&table);
    }

    /// Keeps in mind whom services have left to the supervisor, and reaps those of them that have ended.
    /// One is taken for such only at the second look: whoever starts a process here reaps it before that.
    fn keep_strays(&mut self, table: &Table) {
        let mut own: HashSet<u32> =
            self.running.values().map(|process| process.identity.pid).collect();
        own.extend(self.writer.pid());
        let ours = std::process::id();
        let others = || {
            let children = table.processes.iter().filter(move |process| process.parent == ours);
            children.filter(|process| !own.contains(&process.pid))
        };
        let is_bare =
            |process: &&Process| !process.is_zombie && !table.markers.contains_key(&process.pid);
        // Those that a supervisor before this one had are nobody's children any more.
        let processes = table.processes.iter();
        let is_kept = |process: &&Process| {
            is_bare(process)
                && (process.parent == ours && !own.contains(&process.pid)
                    || self.strays.contains(&identity(process, &table.boot)))
        };
        self.strays = processes.filter(is_kept).map(|p| identity(p, &table.boot)).collect();
        let ended = others().filter(|process| process.is_zombie);
        let ended: HashSet<(u32, u64)> = ended.map(|p| (p.pid, p.started)).collect();
        for (pid, _) in ended.intersection(&self.ended) {
            let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // Whether it was one or not, it is no zombie of ours any more.
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
            }
        }
        self.ended = ended;
    }

    /// Whatever else the services of this stack have left behind.
    fn strays_of_all(&self) -> Strays {
        let logs = self.machine.units().keys().flat_map(|name| self.log(name).ids());
        Strays {
            census: self.looker.census.clone(),
            token: self.token.clone(),
            leaders: self.strays.clone(),
            logs: logs.collect(),
            spared: self.own_processes(),
        }
    }

    /// The processes of the supervisor itself, which nobody has left to it.
    fn own_processes(&self) -> Vec<u32> {
        [Some(std::process::id()), self.writer.pid()].into_iter().flatten().collect()
    }

    /// Begins to end them, in a thread of its own; the loop hears when that is done.
    pub(super) fn sweep(&mut self, within: Duration) {
        self.sweep = Sweep::Running;
        let (strays, tell) = (self.strays_of_all(), self.tell.clone());
        let begun = thread(move || drop(tell.send(Input::Swept(strays.end(within)))));
        if let Err(failure) = begun {
            self.sweep = Sweep::Done(vec![failure.to_string()]);
        }
    }

    /// Leaves nothing of its own behind. What it knows stays where something went wrong.
    pub(super) fn leave(mut self) -> Result<()> {
        let done = self.clear_away();
        self.running.clear();
        // Whoever waited for the end of a process has let it go by now.
        if let Some(writer) = Arc::into_inner(self.writer) {
            writer.leave();
        }
        done
    }

    fn clear_away(&mut self) -> Result<()> {
        self.is_ending.store(true, Ordering::SeqCst);
        self.serving = None;
        if !matches!(self.sweep, Sweep::Done(_)) {
            drop(self.strays_of_all().end(STRAY_TIMEOUT));
        }
        let is_swept = !matches!(&self.sweep, Sweep::Done(left) if !left.is_empty());
        let is_clean = is_swept
            && self
                .machine
                .units()
                .values()
                .all(|unit| unit.error.is_none() && unit.survivors.is_empty());
        // Who still waits for an answer gets it.
        let rounds = LAST_ANSWERS.as_millis() / SHORT.as_millis();
        for _ in 0..rounds {
            // One is ours, one is with the thread that listens.
            if Arc::strong_count(&self.commands) <= 2 {
                break;
            }
            std::thread::sleep(SHORT);
        }
        // Somebody else may listen under this name by now.
        if super::id_of(&self.socket) == self.socket_id {
            self.disk.remove(&self.socket).unable(|| "the socket cannot be removed")?;
        }
        if !self.is_there() {
            return Ok(());
        }
        if is_clean {
            self.stack.forget(self.disk)?;
        }
        self.stack.retire(self.disk)
    }
}

/// Whatever the services of a stack have left behind that no service owns any more.
struct Strays {
    census: Arc<Census>,
    token: String,
    leaders: Vec<Identity>,
    logs: Vec<(u64, u64)>,
    spared: Vec<u32>,
}

impl Strays {
    /// Ends them; what of it remains, in words.
    fn end(self, within: Duration) -> Vec<String> {
        let ours = Ours {
            stack: &self.token,
            service: None,
            leaders: self.leaders,
            logs: self.logs,
            spared: self.spared,
            heir: Some(std::process::id()),
        };
        let asking = Asking { signal: Signal::TERM.as_raw(), to_all: true };
        let ended = ending::end(&self.census, &ours, asking, within, &|| false);
        ended.map_or_else(|failure| vec![failure.to_string()], |ending| ending.survivors)
    }
}

/// Serves one command.
fn serve(stream: &UnixStream, tell: &Sender<Input>, looker: &Looker) {
    let refuse = |why: String| {
        // Who has gone away is not told.
        let _is_told = control::tell(stream, &Answer::Refused { why });
    };
    let what = match control::hear(stream) {
        Ok(request) => request.what,
        Err(why) => return refuse(why),
    };
    let is_look = matches!(what, What::Show { .. });
    let is_brief = matches!(what, What::Show { brief: true });
    let (reply, answers) = channel();
    let is_gone = Arc::new(AtomicBool::new(false));
    let asked = Input::Asked { what, reply, is_gone: is_gone.clone() };
    if tell.send(asked).is_err() {
        return refuse("the supervisor is ending".to_owned());
    }
    loop {
        match answers.recv_timeout(GONE_POLL) {
            Ok(mut answer) => {
                let is_last = is_look || !matches!(answer, Answer::Now { .. });
                if is_look
                    && !is_brief
                    && let Answer::Now { page } = &mut answer
                {
                    looker.fill(page);
                }
                let is_told = control::tell(stream, &answer);
                if is_last {
                    return;
                }
                if !is_told && !is_gone.swap(true, Ordering::SeqCst) {
                    drop(tell.send(Input::Event(Event::Tick)));
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if control::has_gone(stream) && !is_gone.swap(true, Ordering::SeqCst) {
                    drop(tell.send(Input::Event(Event::Tick)));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
