//! Starting the services of a layer, for `start` and for `recover`: looked at as a whole before, and ended
//! again where not all of it gets ready.

use std::collections::BTreeMap;
use std::time::Duration;

use super::session::Session;
use super::stack::{self as shared, Ended};
use super::{DONE, Exit, tail};
use crate::cli::Start;
use xtask_base::error::{Error, Kind, Result};
use xtask_config::Layer;
use xtask_git::Repo;
use xtask_report as report;
use xtask_report::Loudness;
use xtask_report::services::addresses;
use xtask_services::client::{self, Running};
use xtask_services::control::{self, What};
use xtask_services::env_files::{Values, Waits};
use xtask_services::logs::Log;
use xtask_services::page::Page;
use xtask_services::plan;
use xtask_services::port_plan::{self, Obstacle, Ports};
use xtask_services::spec::Spec;
use xtask_services::stack::Stack;

/// Starts these services of a layer, each as soon as what it needs is ready.
pub(super) fn start(
    session: &Session,
    repo: &Repo,
    layer: &Layer,
    chosen: &[usize],
    args: &Start,
) -> Exit {
    let stack = Stack::new(&repo.folders(), &layer.name);
    let moved: BTreeMap<String, u16> = args.port.iter().cloned().collect();
    check_fallback(layer, &args.fallback)?;
    port_plan::check_names(layer, &moved)?;
    stack.make_folder()?;
    let lock = shared::lock(&stack, "start")?;
    take_over_watch(session, &stack)?;
    let mut running = client::running(&stack, &session.world)?;
    check_moved(running.as_ref().filter(|_| !args.clean), &moved)?;
    let mut ports = port_plan::assign(&repo.folders(), session.tools().disk, layer, &moved, true)?;
    if !args.clean {
        keep_ports(&mut ports, running.as_ref(), &moved);
    }
    let root = repo.root().to_path_buf();
    let state = plan::state_of_worktree(&root);
    let places = plan::Places { root: &root, state: &state };
    let mut specs = plan::specs(layer, chosen, &ports.services, &places);
    for spec in &mut specs {
        let now =
            running.as_ref().and_then(|known| known.specs.iter().find(|o| o.name == spec.name));
        spec.is_moved = moved.contains_key(&spec.name) || now.is_some_and(|now| now.is_moved);
    }
    let is_new = |spec: &&Spec| args.clean || !is_running(running.as_ref(), &spec.name);
    let new: Vec<Spec> = specs.iter().filter(is_new).cloned().collect();
    let base = shared::environment(session);
    let values = Values::read(&new, &base, Waits::Command);
    plan::check(&new, &base, &values, &root)?;
    clear_ports(session, &new, &ports, running.as_ref(), args, client::connect(&stack)?.is_some())?;
    if args.clean {
        // Only now that all that can be seen before is seen to be well.
        clean(session, &stack)?;
        running = None;
    }
    let up: Vec<Spec> = specs.iter().filter(|spec| !new.contains(spec)).cloned().collect();
    tell_changes(session, &up, running.as_ref());
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let ended = shared::ask_to_start(
        session,
        &stack,
        &names,
        control::Start {
            specs,
            layer: layer.services.iter().map(|service| service.name.clone()).collect(),
            again: Vec::new(),
            env: control::values(&base),
            values: values
                .whole()
                .iter()
                .map(|(n, env)| (n.clone(), control::values(env)))
                .collect(),
            seen: values.seen().clone(),
            ready_within_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX),
            without: args.fallback.clone(),
            status: ports.status,
        },
    )?;
    if let Ended::Interrupted = ended {
        // What was started goes with this command; the supervisor sees that the line is closed.
        let new: Vec<String> = new.into_iter().map(|spec| spec.name).collect();
        if new.is_empty() {
            return Err(Error::new(Kind::Interrupted, "interrupted; nothing was started"));
        }
        let survivors = take_back(&stack, new)?;
        let what = "interrupted; what was started was ended again";
        return Err(with_survivors(Error::new(Kind::Interrupted, what), survivors));
    }
    drop(lock);
    answer(session, &stack, args, ended, &names, up.len())
}

/// Where services run and nobody watches them, somebody must, whatever comes of the rest.
fn take_over_watch(session: &Session, stack: &Stack) -> Result<()> {
    let running = client::running(stack, &session.world)?;
    let is_up = running.is_some_and(|known| known.specs.iter().any(|spec| !spec.once));
    if is_up && client::connect(stack)?.is_none() {
        client::connect_or_start(stack, &session.world)?;
        session.story(
            "what runs already was taken over from a supervisor that is gone; what is started again from \
             now on has the variables that it has now",
        );
    }
    Ok(())
}

/// A service that runs cannot be moved to another port.
fn check_moved(running: Option<&Running>, moved: &BTreeMap<String, u16>) -> Result<()> {
    for spec in running.iter().flat_map(|known| &known.specs) {
        if let (Some(wanted), Some(now)) = (moved.get(&spec.name), spec.port)
            && *wanted != now
        {
            let name = &spec.name;
            return Err(Error::usage(format!("{name} runs already, on port {now}"))
                .hint(format!("`cargo xtask stop {name}` ends it; then it can be moved")));
        }
    }
    Ok(())
}

/// Makes sure that the ports are free: who is in the way and was named by `--take-over` is ended, if
/// nothing else is in the way.
fn clear_ports(
    session: &Session,
    new: &[Spec],
    ports: &Ports,
    running: Option<&Running>,
    args: &Start,
    is_watched: bool,
) -> Result<()> {
    let token = running.map(|known| known.token.as_str());
    let mut obstacles = look_for_obstacles(new, ports, running, is_watched)?;
    // With `--clean`, what runs here makes room by itself.
    let own = running.iter().flat_map(|known| &known.specs).filter_map(|spec| spec.port);
    let own: Vec<u16> = own.filter(|_| args.clean).collect();
    obstacles.retain(|obstacle| !own.contains(&obstacle.port));
    for port in &args.take_over {
        let is_wanted =
            new.iter().any(|spec| spec.port == Some(*port)) || ports.status == Some(*port);
        if !is_wanted {
            return Err(Error::usage(format!("`--take-over {port}`: no service wants that port"))
                .hint("`cargo xtask start --check-ports` lists those that are wanted"));
        }
    }
    let (named, others): (Vec<Obstacle>, Vec<Obstacle>) = obstacles
        .into_iter()
        .partition(|obstacle| obstacle.is_stranger && args.take_over.contains(&obstacle.port));
    if !others.is_empty() {
        return Err(port_plan::refusal(&others));
    }
    for obstacle in named {
        if let Some(who) = port_plan::take_over(obstacle.port, token)? {
            session.story(&format!("ended, because of `--take-over`: {who}"));
        }
    }
    Ok(())
}

fn answer(
    session: &Session,
    stack: &Stack,
    args: &Start,
    ended: Ended,
    names: &[String],
    up: usize,
) -> Exit {
    match ended {
        Ended::Done { page, .. } => {
            if args.json {
                shared::answer_json("xtask.start/1", &page, &[])?;
                return Ok(DONE);
            }
            let supervisor = page.supervisor.as_ref();
            if let Some(error) = supervisor.and_then(|line| line.error.as_ref()) {
                report::warn(&format!("the supervisor: {error}"));
            }
            let status = supervisor.and_then(|line| line.status_port);
            let mut lines = shared::lines(&page);
            lines.retain(|line| names.contains(&line.service));
            report::answer(&addresses(&lines, status))?;
            if up == page.services.len() && session.loudness == Loudness::Verbose {
                session.story("all of it was running already");
            }
            if args.foreground {
                return stay(session, stack, &page);
            }
            Ok(DONE)
        }
        Ended::Failed { failures, page, survivors } => {
            let gone = shared::wait_for_supervisor(&page);
            let left = if up == 0 {
                "what was started was ended again"
            } else {
                "what this command started was ended again"
            };
            if args.json {
                shared::answer_json("xtask.start/1", &page, &failures)?;
            }
            let left = if survivors.is_empty() { left } else { "and not all of it is gone again" };
            let mut error =
                with_survivors(shared::failure(&failures, left, &page.layer), survivors);
            if let Err(failure) = gone {
                error = error.detail(failure.to_string());
            }
            Err(error)
        }
        Ended::Unheard | Ended::Interrupted => Ok(Kind::Interrupted.code()),
    }
}

/// Shows the logs until Ctrl-C, or until nothing runs any more, and ends everything then.
fn stay(session: &Session, stack: &Stack, page: &Page) -> Exit {
    let names: Vec<String> = page.services.iter().map(|row| row.service.clone()).collect();
    let tools = session.tools();
    let _held = tools.interrupts.hold_off();
    let is_up = || client::connect(stack).is_ok_and(|link| link.is_some());
    // Whether the logs can be shown or not, what was started is ended.
    let shown =
        tail::follow(stack, &names, true, false, &|| tools.interrupts.arrived() || !is_up());
    if !is_up() {
        return Err(
            Error::no("no service runs any more").hint("`cargo xtask ps` says what became of them")
        );
    }
    session.story("ending the services");
    let survivors = take_back(stack, Vec::new())?;
    shown?;
    if survivors.is_empty() {
        Ok(DONE)
    } else {
        Err(with_survivors(Error::no("some processes are still running"), survivors))
    }
}

/// Ends these, or all where none is named, without listening to Ctrl-C any more.
fn take_back(stack: &Stack, names: Vec<String>) -> Result<Vec<String>> {
    let Some(mut link) = client::connect(stack)? else { return Ok(Vec::new()) };
    link.ask(What::Stop { names, within_ms: None })?;
    loop {
        match link.answer(Duration::from_secs(1))? {
            Some(control::Answer::Done { survivors, page }) => {
                if survivors.is_empty() {
                    shared::wait_for_supervisor(&page)?;
                }
                return Ok(survivors);
            }
            Some(control::Answer::Refused { why }) => return Err(Error::unable(why)),
            _ => {}
        }
    }
}

fn with_survivors(error: Error, survivors: Vec<String>) -> Error {
    survivors.into_iter().fold(error, |error, who| error.detail(format!("{who} did not end")))
}

pub(super) fn is_running(running: Option<&Running>, name: &str) -> bool {
    running.is_some_and(|known| known.specs.iter().any(|spec| spec.name == name))
}

/// A service that runs keeps its port, unless another was asked for by name.
pub(super) fn keep_ports(
    ports: &mut Ports,
    running: Option<&Running>,
    moved: &BTreeMap<String, u16>,
) {
    for spec in running.iter().flat_map(|known| &known.specs) {
        if let Some(port) = spec.port.filter(|_| !moved.contains_key(&spec.name)) {
            ports.services.insert(spec.name.clone(), port);
        }
    }
}

/// What runs with another configuration than the one that is there now is left as it is, and told.
fn tell_changes(session: &Session, up: &[Spec], running: Option<&Running>) {
    for spec in up {
        let now =
            running.and_then(|known| known.specs.iter().find(|other| other.name == spec.name));
        if now.is_some_and(|now| now != spec) {
            let name = &spec.name;
            session.story(&format!(
                "{name} runs as it was configured before; `cargo xtask restart {name}` applies what is \
                 there now"
            ));
        }
    }
}

fn look_for_obstacles(
    new: &[Spec],
    ports: &Ports,
    running: Option<&Running>,
    is_watched: bool,
) -> Result<Vec<Obstacle>> {
    let wanted = new.iter().filter_map(|spec| Some((spec.name.clone(), spec.port?)));
    let status = ports.status.filter(|port| *port != 0 && !is_watched);
    let wanted: Vec<(String, u16)> =
        wanted.chain(status.map(|port| ("status".to_owned(), port))).collect();
    port_plan::obstacles(&wanted, running.map(|known| known.token.as_str()))
}

/// That somebody does without something needs a rule for it.
fn check_fallback(layer: &Layer, without: &[String]) -> Result<()> {
    for name in without {
        let at = layer.services.iter().position(|service| service.name == *name);
        let has_rule = at.is_some_and(|at| {
            let mut rules = layer.services.iter().filter_map(|service| service.fallback.as_ref());
            rules.any(|rule| rule.when.contains(&at))
        });
        if !has_rule {
            return Err(Error::usage(format!(
                "`--fallback {name}`: no service of layer `{}` has a rule to do without `{name}`",
                layer.name
            ))
            .hint("`fallback = { when = [\"…\"], env = { … } }` is such a rule"));
        }
    }
    Ok(())
}

/// Ends what runs, and clears the logs.
fn clean(session: &Session, stack: &Stack) -> Result<()> {
    if client::glance(stack, &session.world)?.is_some() {
        shared::stop_all(session, stack)?;
    }
    for name in Log::names(&stack.logs()) {
        let cleared = Log::new(&stack.logs(), &name).clear(session.tools().disk);
        cleared.map_err(|cause| {
            Error::unable(format!("the log of {name} cannot be cleared")).because(cause)
        })?;
    }
    Ok(())
}
