//! Which service gets which port, and what stands in the way.
//!
//! A linked worktree moves all its ports by the same offset, which is chosen once, when nobody uses
//! them, and kept for as long as the worktree lives: so two worktrees run side by side, each at
//! addresses that stay the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::ending::{MARKER, SUPERVISOR};
use xtask_base::error::{Context, Error, Kind, Result};
use xtask_base::files::Disk;
use xtask_base::folders::Folders;
use xtask_base::lock::Lock;
use xtask_base::ports::{self, Listening, Owner};
use xtask_base::processes::{self, Handle, Identity};
use xtask_base::record::{self, Found};
use xtask_config::{Layer, Status};

/// The kind of the record of offsets.
const OFFSETS: &str = "xtask.port-offsets/1";

/// How far the ports of one linked worktree are from those of the next.
const STEP: u16 = 100;

/// The most linked worktrees that get an offset.
const MOST: u16 = 300;

/// How long a start waits for another one that chooses an offset.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// How long who holds a port is given to end: as long as services are by default.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(10);

/// The offsets of linked worktrees, by their git folders.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Offsets {
    worktrees: BTreeMap<PathBuf, u16>,
}

/// The ports of a layer in this worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// How far they are moved.
    pub offset: u16,
    /// By service.
    pub services: BTreeMap<String, u16>,
    /// Of the status page: nothing where it is off, 0 where any will do.
    pub status: Option<u16>,
}

/// Refuses ports that are asked for services that a layer does not have.
pub fn check_names(layer: &Layer, moved: &BTreeMap<String, u16>) -> Result<()> {
    for (name, port) in moved {
        let is_status = name == "status" && layer.status != Status::Off;
        if !is_status && !layer.services.iter().any(|service| service.name == *name) {
            return Err(Error::usage(format!(
                "`--port {name}={port}`: layer `{}` has no service `{name}`",
                layer.name
            )));
        }
    }
    Ok(())
}

/// The ports of a layer here. `keeps` says whether an offset that is chosen now is kept; a command that
/// only looks keeps nothing. `moved` are the ports that were asked for by name.
pub fn assign(
    folders: &Folders,
    disk: &Disk<'_>,
    layer: &Layer,
    moved: &BTreeMap<String, u16>,
    keeps: bool,
) -> Result<Ports> {
    check_names(layer, moved)?;
    let offset = offset(folders, disk, &fixed_ports(layer), keeps)?;
    let mut services = BTreeMap::new();
    for service in &layer.services {
        if let Some(port) = service.port {
            let port = port.checked_add(offset).ok_or_else(|| too_high(&service.name, port))?;
            services.insert(service.name.clone(), port);
        }
    }
    let mut status = match layer.status {
        Status::Off => None,
        Status::AnyPort => Some(0),
        Status::Port(port) => {
            Some(port.checked_add(offset).ok_or_else(|| too_high("the status page", port))?)
        }
    };
    for (name, port) in moved {
        if layer.services.iter().any(|service| service.name == *name) {
            services.insert(name.clone(), *port);
        } else {
            status = Some(*port);
        }
    }
    let mut holders: BTreeMap<u16, &str> = BTreeMap::new();
    for (name, port) in services
        .iter()
        .map(|(name, port)| (name.as_str(), *port))
        .chain(status.filter(|port| *port != 0).map(|port| ("the status page", port)))
    {
        if let Some(other) = holders.insert(port, name) {
            return Err(Error::usage(format!("port {port} is given to both {other} and {name}"))
                .hint("`--port NAME=N` moves one of them"));
        }
    }
    Ok(Ports { offset, services, status })
}

fn too_high(name: &str, port: u16) -> Error {
    Error::usage(format!("the port of {name}, {port}, is too high for a linked worktree"))
        .hint("linked worktrees move their ports up; choose one below 30000")
}

fn fixed_ports(layer: &Layer) -> Vec<u16> {
    let status = match layer.status {
        Status::Port(port) => Some(port),
        _ => None,
    };
    layer.services.iter().filter_map(|service| service.port).chain(status).collect()
}

/// How far the ports of this worktree are moved: not at all in the main one.
fn offset(folders: &Folders, disk: &Disk<'_>, ports: &[u16], keeps: bool) -> Result<u16> {
    let own = folders.git.clone();
    if own == folders.common || ports.is_empty() {
        return Ok(0);
    }
    let path = folders.shared_state().join("services-offsets");
    let read = || match record::read::<Offsets>(&path, OFFSETS) {
        Found::Whole(offsets) => Ok(offsets),
        Found::Nothing => Ok(Offsets::default()),
        Found::Newer => Err(record::newer("the list of port offsets of the worktrees", &path)),
        Found::Broken(why) => Err(Error::unable(format!(
            "the port offsets of the worktrees in `{}` cannot be read: {why}",
            path.display()
        ))
        .hint("removed, they are chosen again")),
    };
    if let Some(offset) = read()?.worktrees.get(&own) {
        return Ok(*offset);
    }
    if !keeps {
        return free_offset(&read()?, ports);
    }
    let lock = folders.shared_state().join("services-offsets.lock");
    let _lock = Lock::acquire(&lock, "start", LOCK_WAIT, |_| {})?;
    let mut offsets = read()?;
    // Those of worktrees that are gone are free again.
    offsets.worktrees.retain(|folder, _| folder.is_dir());
    let offset = match offsets.worktrees.get(&own) {
        Some(offset) => *offset,
        None => free_offset(&offsets, ports)?,
    };
    offsets.worktrees.insert(own, offset);
    record::write(disk, &path, OFFSETS, &offsets)
        .unable(|| format!("`{}` cannot be written", path.display()))?;
    Ok(offset)
}

/// The first offset that no other worktree has and whose ports nobody uses.
fn free_offset(offsets: &Offsets, ports: &[u16]) -> Result<u16> {
    let taken: Vec<u16> = offsets.worktrees.values().copied().collect();
    for offset in (1..=MOST).map(|number| number * STEP) {
        let moved: Option<Vec<u16>> = ports.iter().map(|port| port.checked_add(offset)).collect();
        let Some(moved) = moved else { break };
        let meets_main = moved.iter().any(|port| ports.contains(port));
        if taken.contains(&offset) || meets_main {
            continue;
        }
        let looked = ports::look_at(&moved)?;
        if looked.iter().all(|(_, listening)| matches!(listening, Listening::Nobody)) {
            return Ok(offset);
        }
    }
    Err(Error::unable("no free ports were found for this linked worktree")
        .hint("`--port NAME=N` chooses one by hand"))
}

/// A port that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Who wants it: a service, or `status`.
    pub service: String,
    /// The port.
    pub port: u16,
    /// Who has it.
    pub owners: Vec<Owner>,
    /// Why, and what can be done, in words.
    pub words: String,
    /// Whether it is held by a process that nobody here has started.
    pub is_stranger: bool,
}

/// Looks at these ports: what stands in the way of each.
pub fn obstacles(wanted: &[(String, u16)], token: Option<&str>) -> Result<Vec<Obstacle>> {
    let numbers: Vec<u16> = wanted.iter().map(|(_, port)| *port).collect();
    let looked = ports::look_at(&numbers)?;
    let mut found = Vec::new();
    for (service, port) in wanted {
        let Some((_, listening)) = looked.iter().find(|(other, _)| other == port) else { continue };
        let (owners, words, is_stranger) = match listening {
            Listening::Nobody => continue,
            Listening::NotAllowed => {
                let words = format!(
                    "{service} wants port {port}, and ports below 1024 are not for every user; \
                     `--port {service}={}` moves it",
                    suggestion(port.saturating_add(8000), &numbers)
                );
                (Vec::new(), words, false)
            }
            Listening::Somebody(owners) => {
                let (words, is_stranger) = taken(service, *port, owners, token, &numbers);
                (owners.clone(), words, is_stranger)
            }
        };
        found.push(Obstacle { service: service.clone(), port: *port, owners, words, is_stranger });
    }
    Ok(found)
}

/// Who holds a port, and what can be done; whether it is a stranger.
fn taken(
    service: &str,
    port: u16,
    owners: &[Owner],
    token: Option<&str>,
    wanted: &[u16],
) -> (String, bool) {
    let who = ports::words(port, owners);
    let moved = suggestion(port, wanted);
    let moves = format!("`--port {service}={moved}` moves {service} here");
    let processes = owners.iter().filter_map(|owner| owner.process.as_ref());
    for process in processes {
        let Some((marker, root, layer)) = stack_of(process.pid) else { continue };
        // What is deployed serves somebody: nobody is told how to stop it.
        if processes::variables(process.pid, &["XTASK_RELEASE"]).is_some_and(|v| v[0].is_some()) {
            return (
                format!("{who}; it is of layer `{layer}`, deployed in {root}: {moves}"),
                false,
            );
        }
        let Some(marker) = marker else {
            let stop = format!("`cargo xtask -C {root} stop --layer {layer}` stops it");
            return (format!("{who}; it is of layer `{layer}` in {root}: {stop}, {moves}"), false);
        };
        let mut parts = marker.split('/');
        let (stack, name) = (parts.next(), parts.next().unwrap_or_default());
        if stack == token && token.is_some() {
            let stop = format!("`cargo xtask stop {name}` ends it");
            return (format!("{who}; it was left by `{name}` of this stack: {stop}"), false);
        }
        let stop = format!("`cargo xtask -C {root} stop --layer {layer} {name}` stops it");
        return (
            format!("{who}; it is `{name}` of layer `{layer}` in {root}: {stop}, {moves}"),
            false,
        );
    }
    let offer = if owners.iter().any(|owner| owner.process.is_some()) {
        format!("; `--port {service}={moved}` moves {service}, `--take-over {port}` ends the other")
    } else {
        format!("; `--port {service}={moved}` moves {service}")
    };
    (format!("{who}{offer}"), true)
}

/// A port near by that nobody uses now; not one that another worktree has by its offset.
#[must_use]
pub fn suggestion(port: u16, wanted: &[u16]) -> u16 {
    let mut near = (1..=40).filter_map(|step| port.checked_add(step * 10 + 1));
    let is_free =
        |port: &u16| !wanted.contains(port) && matches!(ports::look(*port), Ok(Listening::Nobody));
    near.find(is_free).unwrap_or_else(|| port.saturating_add(1))
}

/// The stack to which a process belongs: its marker, where it is a service, or else nothing; the root and
/// the layer. One that has written over its variables is known by the supervisor above it.
fn stack_of(pid: u32) -> Option<(Option<String>, String, String)> {
    let mut at = pid;
    // A service is not far below its supervisor.
    for _ in 0..16 {
        let names = [MARKER, SUPERVISOR, "XTASK_ROOT", "XTASK_LAYER"];
        let found = processes::variables(at, &names)?;
        if let [marker, supervisor, Some(root), Some(layer)] = &found[..]
            && (marker.is_some() || supervisor.is_some())
        {
            return Some((marker.clone(), root.clone(), layer.clone()));
        }
        let parent = processes::one(at)?.parent;
        if parent <= 1 {
            return None;
        }
        at = parent;
    }
    None
}

/// The failure for these.
#[must_use]
pub fn refusal(obstacles: &[Obstacle]) -> Error {
    let count = xtask_base::words::count(obstacles.len(), "port");
    let is = if obstacles.len() == 1 { "is" } else { "are" };
    let mut error = Error::no(format!("{count} {is} not free, and nothing was started or ended"));
    for obstacle in obstacles {
        error = error.detail(obstacle.words.clone());
    }
    error
}

/// Ends who holds a port: only a process of this user, seen and named, that is neither ours nor what we
/// were started by. Answers with whom it has ended, in words.
pub fn take_over(port: u16, token: Option<&str>) -> Result<Option<String>> {
    let Listening::Somebody(owners) = ports::look(port)? else { return Ok(None) };
    let (words, is_stranger) = taken("it", port, &owners, token, &[]);
    if !is_stranger {
        return Err(Error::no(format!("{words}; it is not taken over")));
    }
    let who = ports::words(port, &owners);
    let user = rustix::process::geteuid().as_raw();
    let mut targets: Vec<Identity> = Vec::new();
    for owner in &owners {
        match &owner.process {
            Some(process) if owner.user == user => targets.push(process.clone()),
            _ => {
                return Err(Error::no(format!("{who}; only a process of your own is taken over")));
            }
        }
    }
    let above = ancestors()?;
    if targets.is_empty() || targets.iter().any(|target| above.contains(&target.pid)) {
        return Err(Error::no(format!("{who}; that is not taken over")));
    }
    for (signal, patience) in [(Signal::TERM, TAKE_OVER_TIMEOUT), (Signal::KILL, TAKE_OVER_TIMEOUT)]
    {
        // A handle is had only of the very process that was named.
        let handles: Vec<Handle> = targets.iter().filter_map(Handle::open).collect();
        for handle in &handles {
            handle.signal(signal).unable(|| format!("{who}; it cannot be signalled"))?;
        }
        if handles.iter().all(|handle| handle.wait(patience)) {
            break;
        }
    }
    match ports::look(port)? {
        Listening::Somebody(owners) => Err(Error::new(
            Kind::No,
            format!("{}, still, after it was told to end", ports::words(port, &owners)),
        )),
        _ => Ok(Some(who)),
    }
}

/// This process and those above it.
fn ancestors() -> Result<Vec<u32>> {
    let table = processes::all()?;
    let mut above = vec![std::process::id(), 1];
    let mut at = std::process::id();
    while let Some(process) = table.iter().find(|process| process.pid == at) {
        at = process.parent;
        if at == 0 || above.contains(&at) {
            break;
        }
        above.push(at);
    }
    Ok(above)
}
