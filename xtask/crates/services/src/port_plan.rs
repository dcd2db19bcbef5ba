//! Ports of services: assigns them per worktree, reports conflicts, and takes ports over.
//!
//! A linked worktree moves all its ports by one offset, which is chosen once among free ports and
//! kept as long as the worktree exists. So two worktrees run at the same time, each at stable
//! addresses.
//!
//! ```text
//! main worktree    offset   0: api 8100, status 8199
//! linked worktree  offset 100: api 8200, status 8299
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::marker::{MARKER_VARIABLE, Marker, SUPERVISOR_VARIABLE};
use super::spec::ServiceSpec;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::lock::Lock;
use xtask_base::ports::{self, PortOwner, PortState};
use xtask_base::processes::{self, ProcessHandle, ProcessIdentity};
use xtask_base::record::{self, LoadedRecord};
use xtask_base::worktree_paths::WorktreePaths;
use xtask_config::{Layer, StatusPort};

/// Record kind of the offsets.
const OFFSETS_RECORD: &str = "xtask.port-offsets/1";

/// Distance between the ports of two linked worktrees.
const OFFSET_STEP: u16 = 100;

/// Maximum number of linked worktrees with an offset.
const MAX_WORKTREES: u16 = 300;

/// How long a start waits for another one that is choosing an offset.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Stop timeout of the owner of a port: the same as the default of services.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Offsets of linked worktrees, by their git folders.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PortOffsets {
    worktrees: BTreeMap<PathBuf, u16>,
}

/// Ports of a layer in this worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// Offset that was added to the configured ports.
    pub offset: u16,
    /// Ports by service name.
    pub services: BTreeMap<String, u16>,
    /// Port of the status page: `None` if it is off, 0 for any free port.
    pub status: Option<u16>,
}

impl PortPlan {
    /// Keeps the ports of running services, unless `moved` moves them.
    pub fn keep_running<'s>(
        &mut self,
        running: impl Iterator<Item = &'s ServiceSpec>,
        moved: &BTreeMap<String, u16>,
    ) {
        for spec in running {
            if let Some(port) = spec.port.filter(|_| !moved.contains_key(&spec.name)) {
                self.services.insert(spec.name.clone(), port);
            }
        }
    }

    /// Returns the fixed port that a new supervisor opens for its status page, under the name `status`.
    #[must_use]
    pub fn status_to_open(&self, is_supervised: bool) -> Option<(String, u16)> {
        let port = self.status.filter(|port| *port != 0 && !is_supervised)?;
        Some(("status".to_owned(), port))
    }
}

/// Rejects `--port NAME=N` for services that the layer does not have, or that have no port.
pub fn check_port_names(layer: &Layer, moved: &BTreeMap<String, u16>) -> Result<()> {
    for (name, port) in moved {
        let is_status = name == "status" && layer.status != StatusPort::Off;
        if !is_status && !layer.services.iter().any(|service| service.name == *name) {
            return Err(Error::usage(format!(
                "`--port {name}={port}`: layer `{}` has no service `{name}`",
                layer.name
            )));
        }
        if layer.services.iter().any(|service| service.name == *name && service.port.is_none()) {
            return Err(Error::usage(format!("`--port {name}={port}`: `{name}` has no port"))
                .with_hint(format!("give it one with `port` in `[service.{name}]`")));
        }
    }
    Ok(())
}

/// Assigns the ports of a layer in this worktree. `keeps` says whether a newly chosen offset is
/// saved, which read-only commands do not do. `moved` are the ports from `--port NAME=N`.
pub fn assign_ports(
    folders: &WorktreePaths,
    disk: &Disk<'_>,
    layer: &Layer,
    moved: &BTreeMap<String, u16>,
    keeps: bool,
) -> Result<PortPlan> {
    check_port_names(layer, moved)?;
    let offset = choose_offset(folders, disk, &list_fixed_ports(layer), keeps)?;
    let mut services = BTreeMap::new();
    for service in &layer.services {
        if let Some(port) = service.port {
            let port =
                port.checked_add(offset).ok_or_else(|| port_too_high(&service.name, port))?;
            services.insert(service.name.clone(), port);
        }
    }
    let mut status = match layer.status {
        StatusPort::Off => None,
        StatusPort::AnyFree => Some(0),
        StatusPort::Fixed(port) => {
            Some(port.checked_add(offset).ok_or_else(|| port_too_high("the status page", port))?)
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
                .with_hint("`--port NAME=N` moves one of them"));
        }
    }
    Ok(PortPlan { offset, services, status })
}

fn port_too_high(name: &str, port: u16) -> Error {
    Error::usage(format!("the port of {name}, {port}, is too high for a linked worktree"))
        .with_hint("linked worktrees move their ports up; choose one below 30000")
}

fn list_fixed_ports(layer: &Layer) -> Vec<u16> {
    let status = match layer.status {
        StatusPort::Fixed(port) => Some(port),
        _ => None,
    };
    layer.services.iter().filter_map(|service| service.port).chain(status).collect()
}

/// Returns the port offset of this worktree: 0 in the main one.
fn choose_offset(
    folders: &WorktreePaths,
    disk: &Disk<'_>,
    ports: &[u16],
    keeps: bool,
) -> Result<u16> {
    let own = folders.git_dir.clone();
    if own == folders.common_dir || ports.is_empty() {
        return Ok(0);
    }
    let path = folders.shared_state_folder().join("services-offsets");
    let read = || match record::read_record::<PortOffsets>(&path, OFFSETS_RECORD) {
        LoadedRecord::Valid(offsets) => Ok(offsets),
        LoadedRecord::Missing => Ok(PortOffsets::default()),
        LoadedRecord::Newer => {
            Err(record::newer_record_error("the list of port offsets of the worktrees", &path))
        }
        LoadedRecord::Corrupt(why) => Err(Error::unable(format!(
            "cannot read the port offsets of the worktrees in `{}`: {why}",
            path.display()
        ))
        .with_hint("remove that file, and new offsets are chosen")),
    };
    if let Some(offset) = read()?.worktrees.get(&own) {
        return Ok(*offset);
    }
    if !keeps {
        return find_free_offset(&read()?, ports);
    }
    let lock = folders.shared_state_folder().join("services-offsets.lock");
    let _lock = Lock::acquire(&lock, "start", LOCK_WAIT, |_| {})?;
    let mut offsets = read()?;
    // Offsets of removed worktrees become free.
    offsets.worktrees.retain(|folder, _| folder.is_dir());
    let offset = match offsets.worktrees.get(&own) {
        Some(offset) => *offset,
        None => find_free_offset(&offsets, ports)?,
    };
    offsets.worktrees.insert(own, offset);
    record::write_record(disk, &path, OFFSETS_RECORD, &offsets)
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(offset)
}

/// Returns the first offset that no other worktree has and whose ports are all free.
fn find_free_offset(offsets: &PortOffsets, ports: &[u16]) -> Result<u16> {
    let taken: Vec<u16> = offsets.worktrees.values().copied().collect();
    for offset in (1..=MAX_WORKTREES).map(|number| number * OFFSET_STEP) {
        let moved: Option<Vec<u16>> = ports.iter().map(|port| port.checked_add(offset)).collect();
        let Some(moved) = moved else { break };
        let meets_main = moved.iter().any(|port| ports.contains(port));
        if taken.contains(&offset) || meets_main {
            continue;
        }
        let port_states = ports::inspect_ports(&moved)?;
        if port_states.iter().all(|(_, listening)| matches!(listening, PortState::Free)) {
            return Ok(offset);
        }
    }
    Err(Error::unable("no free ports were found for this linked worktree")
        .with_hint("`--port NAME=N` chooses one manually"))
}

/// Port that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConflict {
    /// Service that wants the port, or `status`.
    pub service: String,
    pub port: u16,
    /// Processes that hold the port.
    pub owners: Vec<PortOwner>,
    /// Why the port cannot be had, e.g. ``port 8100 is already in use by …``.
    pub reason: String,
    /// Commands that help anywhere, e.g. ``[`cargo xtask stop api` ends it]``.
    pub remedies: Vec<String>,
    /// Options of `start` that help, e.g. ``[`--port api=8111` moves api]``.
    pub start_remedies: Vec<String>,
    /// Whether the owner was not started by this toolkit.
    pub is_stranger: bool,
}

impl PortConflict {
    /// Renders reason and remedies. `in_start` says whether the options of `start` are among them.
    #[must_use]
    pub fn describe(&self, in_start: bool) -> String {
        let options = self.start_remedies.iter().filter(|_| in_start);
        let all: Vec<&str> = self.remedies.iter().chain(options).map(String::as_str).collect();
        if all.is_empty() {
            self.reason.clone()
        } else {
            format!("{}: {}", self.reason, all.join(", "))
        }
    }
}

/// Inspects the wanted ports and returns the conflicts. `token` is the one of this stack.
pub fn find_conflicts(wanted: &[(String, u16)], token: Option<&str>) -> Result<Vec<PortConflict>> {
    let numbers: Vec<u16> = wanted.iter().map(|(_, port)| *port).collect();
    let port_states = ports::inspect_ports(&numbers)?;
    let mut found = Vec::new();
    for (service, port) in wanted {
        let Some((_, listening)) = port_states.iter().find(|(other, _)| other == port) else {
            continue;
        };
        found.push(match listening {
            PortState::Free => continue,
            PortState::NotPermitted => {
                let moved = suggest_port(port.saturating_add(8000), &numbers);
                PortConflict {
                    service: service.clone(),
                    port: *port,
                    owners: Vec::new(),
                    reason: format!(
                        "permission denied: {service} cannot listen on port {port}, since ports \
                         below 1024 are privileged"
                    ),
                    remedies: Vec::new(),
                    start_remedies: vec![format!("`--port {service}={moved}` moves it")],
                    is_stranger: false,
                }
            }
            PortState::InUse(owners) => find_holder(service, *port, owners, token, &numbers),
        });
    }
    Ok(found)
}

/// Returns the conflict over a port that is in use, by the stack to which its owner belongs.
fn find_holder(
    service: &str,
    port: u16,
    owners: &[PortOwner],
    token: Option<&str>,
    wanted: &[u16],
) -> PortConflict {
    let who = ports::describe_owners(port, owners);
    let moved = suggest_port(port, wanted);
    let conflict = |what: String, remedies: Vec<String>, options: Vec<String>| PortConflict {
        service: service.to_owned(),
        port,
        owners: owners.to_vec(),
        reason: format!("{who}{what}"),
        remedies,
        start_remedies: options,
        is_stranger: false,
    };
    let moves = || vec![format!("`--port {service}={moved}` moves {service} here")];
    let processes = owners.iter().filter_map(|owner| owner.process.as_ref());
    for process in processes {
        let Some((marker, root, layer)) = find_stack(process.pid) else { continue };
        // A deployed service has users: no hint how to stop it.
        if processes::read_variables(process.pid, &["XTASK_RELEASE"])
            .is_some_and(|v| v[0].is_some())
        {
            let what = format!("; it belongs to layer `{layer}`, deployed in {root}");
            return conflict(what, Vec::new(), moves());
        }
        let Some(marker) = marker else {
            let stop = format!("`cargo xtask -C {root} stop --layer {layer}` stops it");
            let what = format!("; it belongs to layer `{layer}` in {root}");
            return conflict(what, vec![stop], moves());
        };
        let name = &marker.service;
        if token == Some(&*marker.stack) {
            let stop = format!("`cargo xtask stop {name}` ends it");
            let what = format!("; it is a leftover of `{name}` of this stack");
            return conflict(what, vec![stop], Vec::new());
        }
        let stop = format!("`cargo xtask -C {root} stop --layer {layer} {name}` stops it");
        let what = format!("; it is `{name}` of layer `{layer}` in {root}");
        return conflict(what, vec![stop], moves());
    }
    let mut options = vec![format!("`--port {service}={moved}` moves {service}")];
    if owners.iter().any(|owner| owner.process.is_some()) {
        options.push(format!("`--take-over {port}` ends the other"));
    }
    PortConflict { is_stranger: true, ..conflict(String::new(), Vec::new(), options) }
}

/// Returns a nearby port that is free now, and not one that another worktree has by its offset.
#[must_use]
pub fn suggest_port(port: u16, wanted: &[u16]) -> u16 {
    let mut near = (1..=40).filter_map(|step| port.checked_add(step * 10 + 1));
    let is_free = |port: &u16| {
        !wanted.contains(port) && matches!(ports::inspect_port(*port), Ok(PortState::Free))
    };
    near.find(is_free).unwrap_or_else(|| port.saturating_add(1))
}

/// Returns marker, root and layer of the stack that a process belongs to. A process without a
/// marker, because it has overwritten its variables, is found by its supervisor among its ancestors.
fn find_stack(pid: u32) -> Option<(Option<Marker>, String, String)> {
    let mut at = pid;
    // A service is only a few levels below its supervisor.
    for _ in 0..16 {
        let names = [MARKER_VARIABLE, SUPERVISOR_VARIABLE, "XTASK_ROOT", "XTASK_LAYER"];
        let found = processes::read_variables(at, &names)?;
        if let [marker, supervisor, Some(root), Some(layer)] = &found[..]
            && (marker.is_some() || supervisor.is_some())
        {
            let marker = marker.as_ref().and_then(|marker| marker.parse().ok());
            return Some((marker, root.clone(), layer.clone()));
        }
        let parent = processes::find_process(at)?.parent_pid;
        if parent <= 1 {
            return None;
        }
        at = parent;
    }
    None
}

/// Returns the error that lists these conflicts; `in_start` says whether the options of `start` can be given.
#[must_use]
pub fn build_conflict_error(obstacles: &[PortConflict], in_start: bool) -> Error {
    let count = xtask_base::words::pluralize(obstacles.len(), "port");
    let is = if obstacles.len() == 1 { "is" } else { "are" };
    let mut error =
        Error::negative(format!("{count} {is} not free; nothing was started or stopped"));
    for obstacle in obstacles {
        error = error.with_detail(obstacle.describe(in_start));
    }
    error
}

/// Stops the owner of a port and returns its description; `None` if the port is free. Refuses
/// processes of other users, our own services, and ancestors of this command.
pub fn take_over_port(port: u16, token: Option<&str>) -> Result<Option<String>> {
    let PortState::InUse(owners) = ports::inspect_port(port)? else { return Ok(None) };
    let holder = find_holder("it", port, &owners, token, &[]);
    if !holder.is_stranger {
        return Err(Error::negative(format!("{}; not taken over", holder.describe(false))));
    }
    let who = ports::describe_owners(port, &owners);
    let user = rustix::process::geteuid().as_raw();
    let mut targets: Vec<ProcessIdentity> = Vec::new();
    for owner in &owners {
        match &owner.process {
            Some(process) if owner.user == user => targets.push(process.clone()),
            _ => {
                return Err(Error::negative(format!(
                    "{who}; only your own processes can be taken over"
                )));
            }
        }
    }
    let above = list_ancestors()?;
    if targets.is_empty() || targets.iter().any(|target| above.contains(&target.pid)) {
        return Err(Error::negative(format!("{who}; it cannot be taken over")));
    }
    for (signal, patience) in [(Signal::TERM, TAKE_OVER_TIMEOUT), (Signal::KILL, TAKE_OVER_TIMEOUT)]
    {
        // `ProcessHandle::open` succeeds only for the very process that was reported.
        let handles: Vec<ProcessHandle> = targets.iter().filter_map(ProcessHandle::open).collect();
        for handle in &handles {
            handle.send_signal(signal).with_context(|| format!("{who}; cannot signal it"))?;
        }
        if handles.iter().all(|handle| handle.wait_timeout(patience)) {
            break;
        }
    }
    match ports::inspect_port(port)? {
        PortState::InUse(owners) => Err(Error::new(
            ErrorKind::Negative,
            format!("{}, even after SIGKILL", ports::describe_owners(port, &owners)),
        )),
        _ => Ok(Some(who)),
    }
}

/// Returns the pids of this process and of its ancestors.
fn list_ancestors() -> Result<Vec<u32>> {
    let table = processes::list_processes()?;
    let mut above = vec![std::process::id(), 1];
    let mut at = std::process::id();
    while let Some(process) = table.iter().find(|process| process.pid == at) {
        at = process.parent_pid;
        if at == 0 || above.contains(&at) {
            break;
        }
        above.push(at);
    }
    Ok(above)
}
