//! What is known of a stack at one moment: its record and its status, read once per command.
//!
//! ```text
//! observe_stack -> StackObservation {record: {token, units}, status: {supervisor, services}}
//!   -> running_services -> RunningStack {token, specs: [api, db]}
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::client::{ask_supervisor, derive_status, read_brief_status, read_status};
use super::env_files;
use super::layers::read_layer;
use super::plan::{self, ServiceFolders};
use super::reattach;
use super::spec::ServiceSpec;
use super::stack::{Stack, StackRecord};
use super::status::{ServiceStatus, StackStatus};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::worktree_paths::WorktreePaths;
use xtask_config::DEFAULT_LAYER;

/// Record and status of a stack.
pub struct StackObservation {
    pub record: Option<StackRecord>,
    /// Status without resource usage.
    pub status: Option<StackStatus>,
}

/// Recorded stack, reduced to its running services.
#[derive(Default)]
pub struct RunningStack {
    /// Token in the markers of its processes; `None` if the stack is unknown.
    pub token: Option<String>,
    /// Specs of the running services, as of their start.
    pub specs: Vec<ServiceSpec>,
}

/// Reads record and status of a stack without changing anything.
pub fn observe_stack(stack: &Stack, world: &Environment) -> Result<StackObservation> {
    let reported = ask_supervisor(stack, true)?;
    let record = reattach::read_stack_record(stack)?;
    let status = match (reported, &record) {
        (None, Some(record)) => Some(derive_status(stack, record, world)?),
        (reported, _) => reported,
    };
    Ok(StackObservation { record, status })
}

impl StackObservation {
    /// Returns whether its supervisor runs.
    #[must_use]
    pub fn is_supervised(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.supervisor.is_some())
    }

    /// Returns the services that run, with or without a supervisor.
    #[must_use]
    pub fn running_services(&self) -> RunningStack {
        let (Some(record), Some(status)) = (&self.record, &self.status) else {
            return RunningStack::default();
        };
        let specs = record.units.iter().map(|unit| &unit.spec);
        let is_up =
            |spec: &&ServiceSpec| status.find_service(&spec.name).is_some_and(ServiceStatus::is_up);
        RunningStack {
            token: Some(record.token.clone()),
            specs: specs.filter(is_up).cloned().collect(),
        }
    }
}

impl RunningStack {
    /// Returns the spec with which a service runs.
    #[must_use]
    pub fn find_spec(&self, name: &str) -> Option<&ServiceSpec> {
        self.specs.iter().find(|spec| spec.name == name)
    }
}

/// Stacks with their status, and the last error of one whose status cannot be read, which does not
/// hide the others.
pub type KnownStacks = (Vec<(Stack, StackStatus)>, Option<Error>);

/// Returns the stacks of a worktree that have a status.
#[must_use]
pub fn list_known_stacks(folders: &WorktreePaths, world: &Environment) -> KnownStacks {
    let mut found = Vec::new();
    let mut unreadable = None;
    for stack in Stack::list_all(folders) {
        match read_brief_status(&stack, world) {
            Ok(Some(status)) => found.push((stack, status)),
            Ok(None) => {}
            Err(failure) => unreadable = Some(failure),
        }
    }
    (found, unreadable)
}

/// Returns the status, with resource usage, of each stack of a worktree that runs, or of all if none
/// runs; that of the default layer first.
pub fn list_status(
    folders: &WorktreePaths,
    world: &Environment,
) -> Result<(Vec<StackStatus>, Option<Error>)> {
    let (mut known, unreadable) = list_known_stacks(folders, world);
    if known.iter().any(|(_, status)| status.is_up()) {
        known.retain(|(_, status)| status.is_up());
    }
    let mut shown = Vec::new();
    for (stack, brief) in known {
        // Measuring CPU and memory costs time, so only for the stacks that are shown.
        let whole = read_status(&stack, world)?;
        shown.push(match whole {
            Some(whole) => add_config_changes(&folders.root, &stack, whole),
            None => brief,
        });
    }
    shown.sort_by_key(|status| status.layer != DEFAULT_LAYER);
    Ok((shown, unreadable))
}

/// Adds a warning to each running service whose configuration has changed since its start.
#[must_use]
pub fn add_config_changes(root: &Path, stack: &Stack, mut status: StackStatus) -> StackStatus {
    // A deployed stack is configured by its release, not by the worktree.
    if stack.root == root {
        let mut changes = list_config_changes(root, stack);
        for row in status.services.iter_mut().filter(|row| row.pid.is_some()) {
            row.warnings.extend(changes.remove(&row.service));
        }
    }
    status
}

/// Returns, by service, the changes since it was started: of its env files or its layer. Unknown
/// changes are left out; this must not take long.
#[must_use]
pub fn list_config_changes(root: &Path, stack: &Stack) -> BTreeMap<String, String> {
    let Ok(Some(saved)) = reattach::read_stack_record(stack) else { return BTreeMap::new() };
    let now = read_present_specs(root, &stack.layer, &saved);
    let mut changes = BTreeMap::new();
    for unit in saved.units.iter().filter(|unit| unit.identity.is_some()) {
        let spec = &unit.spec;
        let mut what: Vec<String> = env_files::list_changed(&unit.seen)
            .iter()
            .map(|path| format!("`{}`", path.strip_prefix(root).unwrap_or(path).display()))
            .collect();
        // The port set by `--port` appears in the commands of the service and of its dependents.
        let is_other = now
            .get(&spec.name)
            .is_some_and(|now| ServiceSpec { is_moved: spec.is_moved, ..now.clone() } != *spec);
        if is_other {
            what.push("its layer".to_owned());
        }
        if !what.is_empty() {
            let what = what.join(" and ");
            let change = format!("{what} changed since its start: `restart` applies it");
            changes.insert(spec.name.clone(), change);
        }
    }
    changes
}

/// Returns the specs of a layer as it is now, with the ports of the recorded services.
fn read_present_specs(
    root: &Path,
    layer: &str,
    saved: &StackRecord,
) -> BTreeMap<String, ServiceSpec> {
    let Ok(layer) = read_layer(root, layer) else { return BTreeMap::new() };
    let configured = layer.services.iter().filter_map(|one| Some((one.name.clone(), one.port?)));
    let recorded = saved.units.iter().map(|unit| &unit.spec);
    let recorded = recorded.filter_map(|spec| Some((spec.name.clone(), spec.port?)));
    let ports = configured.chain(recorded).collect();
    let all: Vec<usize> = (0..layer.services.len()).collect();
    let state = plan::worktree_state_folder(root);
    let specs = plan::build_specs(&layer, &all, &ports, &ServiceFolders { root, state: &state });
    specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect()
}
