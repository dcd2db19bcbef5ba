//! `start`: the services of a layer, ready.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::session::Session;
use super::stack::{self as shared, Ended};
use super::{DONE, Exit, checks, tail};
use crate::base::error::{Error, Kind, Result};
use crate::cli::Start;
use crate::config::{DEFAULT_LAYER, Layer};
use crate::report;
use crate::report::Loudness;
use crate::report::services::addresses;
use crate::services::client::{self, Running};
use crate::services::control::{self, What};
use crate::services::logs::Log;
use crate::services::page::Page;
use crate::services::plan;
use crate::services::port_plan::{self, Obstacle, Ports};
use crate::services::spec::Spec;
use crate::services::stack::Stack;

pub(super) fn run(session: &Session, args: &Start) -> Exit {
    let repo = session.repo()?;
    let layer = shared::load(&repo, args.layer.as_deref().unwrap_or(DEFAULT_LAYER))?;
    let mut chosen = plan::choose(&layer, &args.services)?;
    // What is to be done without is not started, unless it was named.
    chosen.retain(|at| {
        let name = &layer.services[*at].name;
        !args.fallback.contains(name) || args.services.contains(name)
    });
    let stack = Stack::new(&repo, &layer.name);
    if args.verify {
        return verify(session, &stack, &layer);
    }
    let moved: BTreeMap<String, u16> = args.port.iter().cloned().collect();
    if args.dry_run || args.check_ports {
        let ports = port_plan::assign(&repo, session.tools().disk, &layer, &moved, false)?;
        return match args.dry_run {
            true => dry_run(&layer, &chosen, &ports, args),
            false => check_ports(session, &stack, &layer, &chosen, ports, args),
        };
    }
    check_fallback(&layer, &args.fallback)?;
    port_plan::check_names(&layer, &moved)?;
    stack.make_folder()?;
    let lock = shared::lock(&stack, "start")?;
    take_over_watch(session, &stack)?;
    let mut running = client::running(&stack, &session.world)?;
    check_moved(running.as_ref().filter(|_| !args.clean), &moved)?;
    let mut ports = port_plan::assign(&repo, session.tools().disk, &layer, &moved, true)?;
    if !args.clean {
        keep_ports(&mut ports, running.as_ref(), &moved);
    }
    let root = repo.root().to_path_buf();
    let mut specs = plan::specs(&layer, &chosen, &ports.services, &root);
    for spec in &mut specs {
        let now =
            running.as_ref().and_then(|known| known.specs.iter().find(|o| o.name == spec.name));
        spec.is_moved = moved.contains_key(&spec.name) || now.is_some_and(|now| now.is_moved);
    }
    let is_new = |spec: &&Spec| args.clean || !is_running(running.as_ref(), &spec.name);
    let new: Vec<Spec> = specs.iter().filter(is_new).cloned().collect();
    let env = shared::environment(session);
    let base = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    plan::check(&new, &base, &root)?;
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
            env,
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
             now on has the variables of this shell",
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
        Err(with_survivors(Error::no("not all is gone"), survivors))
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

fn is_running(running: Option<&Running>, name: &str) -> bool {
    running.is_some_and(|known| known.specs.iter().any(|spec| spec.name == name))
}

/// A service that runs keeps its port, unless another was asked for by name.
fn keep_ports(ports: &mut Ports, running: Option<&Running>, moved: &BTreeMap<String, u16>) {
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

/// Says what would be started, with every value and where it comes from.
fn dry_run(layer: &Layer, chosen: &[usize], ports: &Ports, args: &Start) -> Exit {
    let names: Vec<&str> = chosen.iter().map(|at| layer.services[*at].name.as_str()).collect();
    if args.json {
        #[derive(Serialize)]
        struct ValueLine<'a> {
            key: &'a str,
            value: &'a str,
            file: &'a str,
            line: usize,
        }
        #[derive(Serialize)]
        struct DryRun<'a> {
            schema: &'static str,
            layer: &'a str,
            files: &'a [String],
            services: &'a [&'a str],
            ports: &'a BTreeMap<String, u16>,
            values: Vec<ValueLine<'a>>,
        }
        let values = layer.values.iter().map(|value| ValueLine {
            key: &value.key,
            value: &value.text,
            file: &value.file,
            line: value.line,
        });
        report::answer_json(&DryRun {
            schema: "xtask.start-dry-run/1",
            layer: &layer.name,
            files: &layer.files,
            services: &names,
            ports: &ports.services,
            values: values.collect(),
        })?;
        return Ok(DONE);
    }
    let mut text = format!("layer {} ({})\n", layer.name, layer.files.join(", "));
    text.push_str(&format!("would start: {}\n", names.join(", ")));
    let listed: Vec<String> =
        ports.services.iter().map(|(name, port)| format!("{name} {port}")).collect();
    if !listed.is_empty() {
        let offset = match ports.offset {
            0 => String::new(),
            offset => format!(" (here {offset} higher than configured)"),
        };
        text.push_str(&format!("ports: {}{offset}\n", listed.join(", ")));
    }
    let width = layer.values.iter().map(|value| value.key.chars().count()).max().unwrap_or(0);
    for value in &layer.values {
        let (key, shown, file, line) = (&value.key, &value.text, &value.file, value.line);
        text.push_str(&format!("  {key:<width$}  = {shown}  # {file}:{line}\n"));
    }
    report::answer(&text)?;
    Ok(DONE)
}

/// Says whether the ports are free, or ours already.
fn check_ports(
    session: &Session,
    stack: &Stack,
    layer: &Layer,
    chosen: &[usize],
    mut ports: Ports,
    args: &Start,
) -> Exit {
    let running = client::running(stack, &session.world)?;
    let moved: BTreeMap<String, u16> = args.port.iter().cloned().collect();
    keep_ports(&mut ports, running.as_ref(), &moved);
    let chosen = chosen.iter().map(|at| layer.services[*at].name.clone());
    let (ours, wanted): (Vec<_>, Vec<_>) = chosen
        .filter_map(|name| Some((ports.services.get(&name).copied()?, name)))
        .map(|(port, name)| (name, port))
        .partition(|(name, _)| is_running(running.as_ref(), name));
    let status =
        ports.status.filter(|port| *port != 0 && client::connect(stack).is_ok_and(|l| l.is_none()));
    let wanted: Vec<(String, u16)> =
        wanted.into_iter().chain(status.map(|port| ("status".to_owned(), port))).collect();
    let token = running.as_ref().map(|known| known.token.as_str());
    let obstacles = port_plan::obstacles(&wanted, token)?;
    let words = |name: &str, port: u16| {
        let obstacle = obstacles.iter().find(|o| o.service == name && o.port == port);
        obstacle.map_or_else(|| "free".to_owned(), |obstacle| obstacle.words.clone())
    };
    if args.json {
        #[derive(Serialize)]
        struct PortLine {
            service: String,
            port: u16,
            free: bool,
            ours: bool,
            words: String,
        }
        #[derive(Serialize)]
        struct PortReport<'a> {
            schema: &'static str,
            layer: &'a str,
            ok: bool,
            ports: Vec<PortLine>,
        }
        let ours = ours.into_iter().map(|(service, port)| PortLine {
            service,
            port,
            free: false,
            ours: true,
            words: "in use by this stack".to_owned(),
        });
        let others = wanted.iter().map(|(service, port)| {
            let words = words(service, *port);
            let free = words == "free";
            PortLine { service: service.clone(), port: *port, free, ours: false, words }
        });
        report::answer_json(&PortReport {
            schema: "xtask.start-ports/1",
            layer: &layer.name,
            ok: obstacles.is_empty(),
            ports: ours.chain(others).collect(),
        })?;
    } else {
        let mut text = String::new();
        for (name, port) in &ours {
            text.push_str(&format!("{name}  {port}  in use by this stack\n"));
        }
        for (name, port) in &wanted {
            text.push_str(&format!("{name}  {port}  {}\n", words(name, *port)));
        }
        report::answer(&text)?;
    }
    Ok(if obstacles.is_empty() { DONE } else { Kind::No.code() })
}

/// Asks what runs whether it is well, and whether the environment is.
fn verify(session: &Session, stack: &Stack, layer: &Layer) -> Exit {
    session.story("services:");
    let answers = client::verify(stack, &session.world)?;
    let mut faults = Vec::new();
    let mut text = String::new();
    for service in &layer.services {
        let answer =
            answers.iter().find(|(name, _)| *name == service.name).map(|(_, answer)| answer);
        let words = match answer {
            Some(Ok(words)) => words.clone(),
            Some(Err(why)) => {
                faults.push(format!("{}: {why}", service.name));
                why.clone()
            }
            None => {
                faults.push(format!("{}: it does not run", service.name));
                "it does not run".to_owned()
            }
        };
        text.push_str(&format!("{}  {words}\n", service.name));
    }
    report::answer(&text)?;
    session.story("environment:");
    let code = checks::gates(session, "start --verify", false)?;
    if faults.is_empty() {
        return Ok(code);
    }
    let count = crate::base::words::count(faults.len(), "service");
    let is = if faults.len() == 1 { "is" } else { "are" };
    Err(Error::no(format!("{count} {is} not well"))
        .hint("`cargo xtask start` starts what does not run"))
}
