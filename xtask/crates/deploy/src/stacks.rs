//! Starting and ending the services of a release, by the same supervisor that `start` uses.
//!
//! Each release is a stack of its own, whose folder lies in the target: `stacks/NAME` while it serves,
//! `stacks/NAME.try` while it is tried. So two releases never share a record, a socket or a log.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use super::Around;
use super::history;
use super::release::Release;
use super::target::{Standing, Target};
use xtask_base::error::{Context as _, Error, Kind, Result};
use xtask_config::Layer;
use xtask_services::client;
use xtask_services::control::{self, Answer, Failure, Start, What};
use xtask_services::env_files::{Values, Waits};
use xtask_services::launch::Env;
use xtask_services::page::Page;
use xtask_services::plan::{self, Places};
use xtask_services::spec::Spec;
use xtask_services::stack::Stack;

/// How often it is looked whether Ctrl-C was typed.
const POLL: Duration = Duration::from_millis(100);

/// From when on a service that starts is waited for, in milliseconds.
const A_MOMENT_MS: u64 = 1000;

/// How often a start is asked for, where supervisors end meanwhile.
const ATTEMPTS: usize = 10;

/// Whether a stack serves or is only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// On the ports of the layer.
    Serves,
    /// On spare ports.
    Candidate,
}

/// The stack of a release.
#[must_use]
pub fn of(target: &Target, release: &Release, role: Role) -> Stack {
    let name = match role {
        Role::Serves => release.name.clone(),
        Role::Candidate => format!("{}.try", release.name),
    };
    let folder = target.stacks().join(name);
    Stack { layer: target.layer.clone(), root: release.files(), folder }
}

/// The stack of the release that serves; nothing where none does, or the folder is not ours.
pub fn serving(target: &Target) -> Result<Option<Stack>> {
    if !matches!(target.standing(), Ok(Standing::Ours)) {
        return Ok(None);
    }
    let entries = history::read(&target.history())?;
    let current = history::standing(&entries).0;
    Ok(current.map(|name| of(target, &Release::of(target, name), Role::Serves)))
}

/// All stacks of which something is kept in a target.
pub fn all(target: &Target) -> Result<Vec<Stack>> {
    let folder = target.stacks();
    let entries = match std::fs::read_dir(&folder) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.unable(|| format!("`{}` cannot be listed", folder.display()))?,
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let stack = |name: &String| {
        let release = Release::of(target, name.strip_suffix(".try").unwrap_or(name));
        let role = if name.ends_with(".try") { Role::Candidate } else { Role::Serves };
        of(target, &release, role)
    };
    Ok(names.iter().map(stack).collect())
}

/// The ports of a layer.
#[must_use]
pub fn ports(layer: &Layer) -> BTreeMap<String, u16> {
    let services = layer.services.iter();
    services.filter_map(|service| Some((service.name.clone(), service.port?))).collect()
}

/// As many ports that nobody uses now.
pub fn spare_ports(layer: &Layer) -> Result<BTreeMap<String, u16>> {
    let mut held = Vec::new();
    let mut ports = BTreeMap::new();
    for name in ports_of(layer) {
        let failed = || "no spare port can be had for the candidate";
        // All are held until all are chosen, so no two are the same.
        let listener = TcpListener::bind(("127.0.0.1", 0)).unable(failed)?;
        ports.insert(name, listener.local_addr().unable(failed)?.port());
        held.push(listener);
    }
    Ok(ports)
}

fn ports_of(layer: &Layer) -> Vec<String> {
    ports(layer).into_keys().collect()
}

/// What the supervisor is told of some services of a release, whose files lie in `files` now. A file of
/// variables that the release does not hold is looked for in the shared folder.
#[must_use]
pub fn specs(
    layer: &Layer,
    chosen: &[usize],
    ports: &BTreeMap<String, u16>,
    target: &Target,
    release: &Release,
    files: &Path,
) -> Vec<Spec> {
    let (root, state) = (release.files(), target.state());
    let mut specs = plan::specs(layer, chosen, ports, &Places { root: &root, state: &state });
    let shared = target.shared();
    for spec in &mut specs {
        for file in &mut spec.env_files {
            let below = file.path.strip_prefix(&root).map(ToOwned::to_owned).ok();
            if let Some(below) = below.filter(|below| !files.join(below).exists()) {
                file.path = shared.join(below);
            }
        }
        for (name, value) in variables(target, release) {
            spec.env.insert(name.to_owned(), value);
        }
    }
    specs
}

/// The variables that every service and every step is given.
#[must_use]
pub fn variables(target: &Target, release: &Release) -> [(&'static str, String); 2] {
    [
        ("XTASK_RELEASE", release.name.clone()),
        ("XTASK_SHARED", target.shared().display().to_string()),
    ]
}

/// The environment of this command, without what marks somebody else's services.
#[must_use]
pub fn environment(around: &Around<'_>) -> Env {
    let mut env = around.world.env.clone();
    env.retain(|name, _| !name.as_encoded_bytes().starts_with(b"XTASK_"));
    env
}

/// What services are given, if all that they need can be read and is there.
pub fn check(
    stack: &Stack,
    specs: &[Spec],
    waits: Waits,
    around: &Around<'_>,
) -> Result<(Env, Values)> {
    let base = environment(around);
    let values = Values::read(specs, &base, waits);
    plan::check(specs, &base, &values, &stack.root).map_err(|failure| {
        let error = Error::no(failure.what().to_owned());
        failure.details().iter().fold(error, |error, detail| error.detail(detail.clone()))
    })?;
    Ok((base, values))
}

/// Starts a stack, and returns when all of it is ready. What does not get ready is ended again.
pub fn start(
    stack: &Stack,
    specs: Vec<Spec>,
    status: Option<u16>,
    around: &Around<'_>,
) -> Result<()> {
    around.disk.other("start services").unable(|| "services cannot be started")?;
    std::fs::create_dir_all(&stack.folder)
        .unable(|| format!("the folder `{}` cannot be made", stack.folder.display()))?;
    let (base, values) = check(stack, &specs, Waits::Command, around)?;
    let start = Start {
        layer: specs.iter().map(|spec| spec.name.clone()).collect(),
        specs,
        again: Vec::new(),
        env: control::values(&base),
        values: values.whole().iter().map(|(n, env)| (n.clone(), control::values(env))).collect(),
        seen: values.seen().clone(),
        ready_within_ms: u64::try_from(around.ready_within.as_millis()).unwrap_or(u64::MAX),
        without: Vec::new(),
        status,
    };
    for _ in 0..ATTEMPTS {
        let mut link = client::connect_or_start(stack, around.world)?;
        if link.ask(What::Start(start.clone())).is_err() {
            continue;
        }
        let mut is_heard = false;
        let mut told = BTreeMap::new();
        loop {
            if around.interrupts.arrived() {
                return Err(Error::new(Kind::Interrupted, "interrupted"));
            }
            match link.answer(POLL) {
                Ok(None) => {}
                Ok(Some(Answer::Now { page })) => {
                    is_heard = true;
                    tell_waiting(&page, &mut told, around);
                }
                Ok(Some(Answer::Done { .. })) => return Ok(()),
                Ok(Some(Answer::Failed { failures, .. })) => return Err(not_ready(&failures)),
                Ok(Some(Answer::Refused { why })) => return Err(Error::unable(why)),
                // It was just about to end.
                Err(_) if !is_heard => break,
                Err(failure) => return Err(failure),
            }
        }
    }
    Err(Error::unable("the supervisor of the release ends as soon as it is asked"))
}

/// Says for what is waited, where that takes longer than a moment.
fn tell_waiting(page: &Page, told: &mut BTreeMap<String, String>, around: &Around<'_>) {
    let waits = page.services.iter().filter(|row| {
        row.state == "starting" && row.uptime_ms.is_some_and(|uptime| uptime > A_MOMENT_MS)
    });
    for row in waits {
        let Some(why) = &row.error else { continue };
        if told.insert(row.service.clone(), why.clone()).as_ref() != Some(why) {
            (around.tell)(&format!("waiting for {}: {why}", row.service));
        }
    }
}

fn not_ready(failures: &[Failure]) -> Error {
    let names: Vec<&str> = failures.iter().map(|failure| failure.service.as_str()).collect();
    let error = Error::no(format!("{} did not get ready", names.join(", ")));
    failures.iter().fold(error, |error, failure| {
        let mut detail = format!("{}: {}", failure.service, failure.why);
        for line in &failure.lines {
            detail.push_str(&format!("\n  | {line}"));
        }
        error.detail(detail)
    })
}

/// Ends all of a stack, and proves that nothing of it is left.
pub fn end(stack: &Stack, around: &Around<'_>) -> Result<()> {
    let Some(page) = client::glance(stack, around.world)? else { return Ok(()) };
    if page.supervisor.is_none() && page.services.iter().all(|row| row.pid.is_none()) {
        return Ok(());
    }
    around.disk.other("end services").unable(|| "services cannot be ended")?;
    let mut link = client::connect_or_start(stack, around.world)?;
    link.ask(What::Stop { names: Vec::new(), within_ms: None })?;
    loop {
        match link.answer(POLL) {
            Ok(Some(Answer::Done { page, survivors })) => {
                if !survivors.is_empty() {
                    let error = Error::unable("not all of what served is gone");
                    return Err(survivors.into_iter().fold(error, Error::detail));
                }
                if let Some(line) = page.supervisor
                    && !client::wait_until_gone(line.pid)
                {
                    return Err(Error::unable(format!(
                        "the services are gone, but their supervisor (pid {}) is not",
                        line.pid
                    )));
                }
                return Ok(());
            }
            Ok(Some(Answer::Refused { why })) => return Err(Error::unable(why)),
            Ok(_) => {}
            // One that has gone away with all that it had has done what was asked.
            Err(failure) => {
                let left = client::glance(stack, around.world)?;
                let runs = left.is_some_and(|page| page.services.iter().any(|r| r.pid.is_some()));
                return if runs { Err(failure) } else { Ok(()) };
            }
        }
    }
}

/// Ends a stack and removes what is kept of it.
pub fn forget(stack: &Stack, around: &Around<'_>) -> Result<()> {
    end(stack, around)?;
    if std::fs::symlink_metadata(&stack.folder).is_err() {
        return Ok(());
    }
    let failed = || format!("`{}` cannot be removed", stack.folder.display());
    around.disk.remove_folder(&stack.folder).unable(failed)
}
