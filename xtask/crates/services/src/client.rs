//! How commands reach a stack: through its supervisor, which is started where one is needed; or, for
//! those that only look, by what was written down, as far as the kernel confirms it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::adopt::{self, process_of};
use super::control::{Answer, Link, What};
use super::ending::{Census, MARKER, SUPERVISOR, Table, marker};
use super::env_files::{Values, Waits};
use super::launch::{self, Env, Surroundings, own_program};
use super::logs::Log;
use super::page::{Page, Row, address};
use super::probe::{self, LogSearch};
use super::reach::Reach;
use super::spec::Spec;
use super::stack::{Saved, SavedUnit, Stack};
use super::usage::Looker;
use xtask_base::error::{Error, Result};
use xtask_base::lock;
use xtask_base::name::NAME;
use xtask_base::process::{KEY, Program};
use xtask_base::processes::{self, Handle};
use xtask_base::record::{self, Found};
use xtask_base::world::World;

/// How long a supervisor may take to begin.
const BEGINNING: Duration = Duration::from_secs(20);

/// How long one that is about to begin or to end is waited for.
const MEANWHILE: Duration = Duration::from_secs(10);

/// The pause between two attempts to reach it.
const POLL: Duration = Duration::from_millis(10);

/// How long a supervisor may take to show what it has.
const SHOWING: Duration = Duration::from_secs(5);

/// The line to the supervisor; nothing where there is none.
pub fn connect(stack: &Stack) -> Result<Option<Link>> {
    match stack.supervisor() {
        // Another file may have taken the name of the socket of one that is gone.
        Found::Whole(supervisor) if processes::is_alive(&supervisor.identity) => {
            Link::connect(&supervisor.socket)
        }
        Found::Whole(_) | Found::Nothing => Ok(None),
        Found::Newer => Err(record::newer(
            &format!("what the supervisor of layer `{}` has written down", stack.layer),
            &stack.folder,
        )
        .hint(killing(stack))),
        Found::Broken(why) => Err(Error::unable(format!(
            "what the supervisor of layer `{}` has written down cannot be read: {why}",
            stack.layer
        ))
        .hint(killing(stack))),
    }
}

/// The way out where nothing can be said to a supervisor, with its number.
fn killing(stack: &Stack) -> String {
    let holder = std::fs::read_to_string(stack.supervisor_lock()).unwrap_or_default();
    format!("a plain `kill` of the supervisor ends its services ({})", holder.trim())
}

/// The line to the supervisor, which is started if there is none.
pub fn connect_or_start(stack: &Stack, world: &World) -> Result<Link> {
    let rounds = MEANWHILE.as_millis() / POLL.as_millis();
    for _ in 0..rounds {
        if let Some(link) = connect(stack)? {
            return Ok(link);
        }
        match lock::attempt(&stack.supervisor_lock(), "start")? {
            Some(free) => {
                drop(free);
                start_supervisor(stack, world)?;
            }
            // It is about to begin, or to end; or on a full disk it could not say where it listens.
            None => match Link::connect(&stack.socket_path(world))? {
                Some(link) => return Ok(link),
                None => std::thread::sleep(POLL),
            },
        }
    }
    let who = match stack.supervisor() {
        Found::Whole(supervisor) => format!("pid {}", supervisor.identity.pid),
        _ => "its pid is not known".to_owned(),
    };
    Err(Error::unable(format!(
        "a supervisor of layer `{}` runs ({who}), but cannot be reached",
        stack.layer
    ))
    .hint("a plain `kill` of it ends its services and then itself"))
}

fn start_supervisor(stack: &Stack, world: &World) -> Result<()> {
    stack.make_folder()?;
    // A name that cannot be had is told here, and not in a log.
    stack.socket(world)?;
    adopt::read(stack)?;
    let path = stack.supervisor_log();
    let errors = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    // On a full disk it begins without.
    let errors = errors.map_or_else(|_| Stdio::null(), Stdio::from);
    let toolkit = own_program(world);
    let program = supervisor_program(world).unwrap_or_else(|| toolkit.clone());
    let args = [
        OsStr::new(SUPERVISE),
        stack.layer.as_ref(),
        stack.root.as_ref(),
        stack.folder.as_ref(),
        toolkit.as_ref(),
    ];
    let said = Program::run_detached_until_it_says(
        &program,
        &stack.root,
        &args,
        &[
            (SUPERVISOR, "1".as_ref()),
            ("XTASK_ROOT", stack.root.as_os_str()),
            ("XTASK_LAYER", stack.layer.as_ref()),
        ],
        errors,
        BEGINNING,
    )?;
    if said.as_deref() == Some(READY) {
        return Ok(());
    }
    let told = std::fs::read_to_string(&path).unwrap_or_default();
    let mut error = Error::unable(match said {
        Some(said) => format!("the supervisor did not begin; it said `{said}`"),
        None => "the supervisor did not begin".to_owned(),
    });
    if told.is_empty() {
        error = error.hint("it could not say why; is there room on the disk?");
    }
    for line in told.lines().take(20) {
        error = error.detail(line);
    }
    Err(error)
}

/// The small program that supervises, where one was built with this one. Who has cargo run this program alone may
/// have an older one there.
fn supervisor_program(world: &World) -> Option<PathBuf> {
    let beside = world.program.with_file_name(PROGRAM);
    // The launcher, which builds both, is run by cargo too, and names the key of what it has found.
    let is_run_by_cargo =
        world.variable("CARGO_PKG_NAME") == Some(NAME) && world.variable(KEY).is_none();
    (beside.is_file() && !is_run_by_cargo).then_some(beside)
}

/// The name of the program that supervises. It holds what `supervise` needs and nothing else: what stays for days
/// should be small.
pub const PROGRAM: &str = "xtask-supervisor";

/// How often a supervisor is asked that goes away in the middle of its answer.
const ASKED: usize = 3;

/// The word by which a program is asked to supervise: a layer, the root of the worktree, the folder of the stack,
/// and the program of the toolkit follow.
pub const SUPERVISE: &str = "supervise";

/// What a supervisor says once it can be reached.
pub const READY: &str = "ready";

/// Waits for the supervisor to be gone; whether it is.
pub fn wait_until_gone(pid: u32) -> bool {
    processes::identity(pid)
        .and_then(|who| Handle::open(&who))
        .is_none_or(|handle| handle.wait(MEANWHILE))
}

/// How a stack is, without changing anything; nothing where nothing is known of it.
pub fn look(stack: &Stack, world: &World) -> Result<Option<Page>> {
    look_at(stack, world, false)
}

/// The same, without what services use, which takes longer to find out than all the rest.
pub fn glance(stack: &Stack, world: &World) -> Result<Option<Page>> {
    look_at(stack, world, true)
}

fn look_at(stack: &Stack, world: &World, brief: bool) -> Result<Option<Page>> {
    let mut failure = None;
    for _ in 0..ASKED {
        // One that has gone away meanwhile is as good as none, and another one may have begun.
        let Some(link) = connect(stack)? else {
            failure = None;
            break;
        };
        match ask_for_page(link, stack, brief) {
            Ok(page) => return Ok(Some(page)),
            Err(why) => failure = Some(why),
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    let Some(saved) = adopt::read(stack)? else { return Ok(None) };
    let table = Census::default().look()?;
    let now = i64::try_from((world.clock)().as_millis()).unwrap_or(i64::MAX);
    let rows =
        saved.units.iter().map(|unit| row(unit, &saved, &stack.logs(), &table, now)).collect();
    let mut page = Page {
        schema: "xtask.ps/1".to_owned(),
        layer: stack.layer.clone(),
        worktree: stack.root.display().to_string(),
        supervisor: None,
        services: rows,
    };
    if !brief {
        Looker::new(&saved.token).fill(&mut page);
    }
    Ok(Some(page))
}

fn ask_for_page(mut link: Link, stack: &Stack, brief: bool) -> Result<Page> {
    link.ask(What::Show { brief })?;
    match link.answer(SHOWING)? {
        Some(Answer::Now { page }) => Ok(page),
        Some(Answer::Refused { why }) => Err(Error::unable(why)),
        _ => {
            Err(Error::unable(format!("the supervisor of layer `{}` does not answer", stack.layer))
                .hint(
                    "it may have been stopped in its tracks (SIGSTOP), or the machine is very busy",
                ))
        }
    }
}

/// The row of a service that nobody supervises.
fn row(unit: &SavedUnit, saved: &Saved, logs: &Path, table: &Table, now: i64) -> Row {
    let process = process_of(unit, &saved.token, logs, table);
    let is_up = process.is_some();
    let was_up = unit.identity.is_some();
    let state = match unit.state.as_str() {
        _ if is_up => "lost",
        "failed" => "failed",
        "done" => "done",
        "blocked" => "blocked",
        _ => "stopped",
    };
    let uptime = u64::try_from(now.saturating_sub(unit.started_ms)).ok();
    let ended = (was_up && !is_up).then(|| "it ended while nobody supervised it".to_owned());
    Row {
        service: unit.spec.name.clone(),
        state: state.to_owned(),
        health: "unknown".to_owned(),
        pid: process.map(|(identity, _)| identity.pid),
        port: unit.spec.port,
        address: address(&unit.spec).filter(|_| is_up),
        uptime_ms: uptime.filter(|_| is_up),
        restarts: unit.restarts,
        memory: None,
        cpu: None,
        degraded: unit.is_degraded && is_up,
        required: unit.spec.required,
        warnings: Vec::new(),
        error: ended.or_else(|| unit.error.clone()),
        killed: unit.killed.clone(),
    }
}

/// What is written down of a stack, with the services that run.
pub struct Running {
    /// By what its processes are known.
    pub token: String,
    /// The services of it that run, as they were started.
    pub specs: Vec<Spec>,
}

/// The services that run, whether somebody supervises them or not; nothing where nothing is known.
pub fn running(stack: &Stack, world: &World) -> Result<Option<Running>> {
    let Some(saved) = adopt::read(stack)? else { return Ok(None) };
    let Some(page) = glance(stack, world)? else { return Ok(None) };
    let is_up = |name: &str| {
        let row = page.services.iter().find(|row| row.service == name);
        let up = ["lost", "waiting", "starting", "ready", "restarting", "stopping", "done"];
        row.is_some_and(|row| up.contains(&row.state.as_str()))
    };
    let units = saved.units.into_iter().filter(|unit| is_up(&unit.spec.name));
    Ok(Some(Running { token: saved.token, specs: units.map(|unit| unit.spec).collect() }))
}

/// Asks services that run whether they are well, here and now: each with its answer.
pub fn verify(stack: &Stack, world: &World) -> Result<Vec<(String, Result<String, String>)>> {
    let Some(page) = glance(stack, world)? else { return Ok(Vec::new()) };
    let Some(saved) = adopt::read(stack)? else { return Ok(Vec::new()) };
    let units = saved.units.iter();
    let around = Surroundings {
        token: saved.token.clone(),
        layer: stack.layer.clone(),
        root: stack.root.clone(),
        ports: units.filter_map(|u| Some((u.spec.name.clone(), u.spec.port?))).collect(),
        status: page.supervisor.as_ref().and_then(|supervisor| supervisor.status_port),
    };
    let mut answers = Vec::new();
    for unit in &saved.units {
        let row = page.services.iter().find(|row| row.service == unit.spec.name);
        let Some(row) = row else { continue };
        let answer = match row.state.as_str() {
            "done" => Ok("has done its work".to_owned()),
            "ready" | "lost" | "starting" => ask(unit, &around, stack, world),
            other => Err(row.error.clone().unwrap_or_else(|| format!("it is {other}"))),
        };
        answers.push((unit.spec.name.clone(), answer));
    }
    Ok(answers)
}

/// The variables of a service that runs: those that its process was given, or where it has written over them what
/// its files say now.
fn environment_of(unit: &SavedUnit, around: &Surroundings, world: &World) -> Result<Env, String> {
    let own = marker(&around.token, &unit.spec.name, unit.run);
    let given = unit.identity.as_ref().and_then(|who| processes::environment(who.pid));
    if let Some(env) = given.filter(|env| env.get(OsStr::new(MARKER)).is_some_and(|m| *m == *own)) {
        return Ok(env);
    }
    let specs = std::slice::from_ref(&unit.spec);
    // Who only looks takes nothing out of a pipe.
    let values = Values::read(specs, &world.env, Waits::AtOnce);
    let mut base = world.env.clone();
    base.extend(values.of(&unit.spec.name).map_err(|failure| failure.to_string())?);
    Ok(launch::variables(&unit.spec, &base, around, unit.run, unit.is_degraded))
}

fn ask(
    unit: &SavedUnit,
    around: &Surroundings,
    stack: &Stack,
    world: &World,
) -> Result<String, String> {
    let spec = &unit.spec;
    let probes = [spec.ready.as_ref(), spec.live.as_ref().map(|live| &live.probe)];
    let probes: Vec<_> = probes.into_iter().flatten().collect();
    if probes.is_empty() {
        return Ok("runs; it has no probe".to_owned());
    }
    let mut env = environment_of(unit, around, world)?;
    // What this command starts is not the service's, and must not be taken for it.
    env.remove(OsStr::new(MARKER));
    let log = Log::new(&stack.logs(), &spec.name);
    let reach = Reach {
        census: Default::default(),
        token: around.token.clone(),
        service: spec.name.clone(),
        leaders: unit.identity.clone().into_iter().collect(),
        logs: log.ids(),
        last: Default::default(),
    };
    for probe in probes {
        let around = probe::Around {
            folder: &spec.folder,
            env: &env,
            log: &log,
            search: &LogSearch::from(unit.log_at),
            reach: &reach,
            is_over: &|| false,
        };
        probe::ask(probe, &around)?;
    }
    Ok("answers as it should".to_owned())
}
