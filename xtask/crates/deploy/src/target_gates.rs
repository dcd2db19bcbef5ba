//! The gates of a target and its machine, e.g. `1 port in use; port 8100: nginx (pid 4711)`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::current_link;
use super::gates::{Gate, MAX_SHOWN, TargetGateContext};
use super::history;
use super::journal::DeployJournal;
use super::persistent_state;
use super::release::Release;
use super::required_variables::check_variables;
use super::stacks::{self, ReleaseStack};
use super::target::{DeployTarget, TargetOwnership};
use xtask_base::error::{Error, Result};
use xtask_base::ports;
use xtask_base::words::{format_size, join_names, pluralize};
use xtask_git::can_write_in;
use xtask_services::observe::observe_stack;
use xtask_services::port_plan;

/// Runs the gates of the target and its machine.
#[must_use]
pub fn check_target_gates(grounds: &TargetGateContext<'_>) -> Vec<Gate> {
    let mut gates = vec![
        Gate::from_result("variables", check_variables(grounds)),
        Gate::from_result("target", check_target(grounds.target)),
        Gate::from_result("state", check_state(grounds)),
        Gate::from_result("disk", check_disk(&grounds.target.root, grounds.needed)),
    ];
    if grounds.deploy.engine.has_ports() {
        gates.push(Gate::from_result("ports", check_ports(grounds)));
    }
    gates
}

fn check_target(target: &DeployTarget) -> Result<String> {
    let root = target.root.display();
    let standing = target.check_ownership()?;
    if !can_write_in(&target.root) {
        return Err(Error::negative(format!("permission denied: cannot write to `{root}`")));
    }
    if standing == TargetOwnership::Free {
        return Ok(format!("{root}, new"));
    }
    if let Some(holder) = target.lock_holder() {
        return Err(Error::negative(format!("another run is in progress in `{root}`: {holder}")));
    }
    if let Some(journal) = DeployJournal::read(target)? {
        return Ok(format!(
            "{root}; an interrupted run of {} will be recovered first",
            journal.new
        ));
    }
    let entries = history::read_history(&target.history_file())?;
    current_link::check_current(target, &[history::current_and_serving(&entries).current])?;
    Ok(format!("{root}"))
}

/// Checks that services store their data outside the current release, so that the next one has it.
fn check_state(grounds: &TargetGateContext<'_>) -> Result<String> {
    let target = grounds.target;
    if target.check_ownership()? == TargetOwnership::Free {
        return Ok("none yet".to_owned());
    }
    let entries = history::read_history(&target.history_file())?;
    if let Some(current) = history::current_and_serving(&entries).current {
        let release = Release::in_target(target, current);
        // A `current` that is not a release is reported by the gate `target`.
        if release.is_sealed() {
            persistent_state::check_written(&release, grounds.deploy, target, true)?;
            persistent_state::check_state_declared(grounds.layer, &release, target)?;
        }
    }
    let names: BTreeSet<String> =
        grounds.layer.services.iter().flat_map(|one| &one.state).map(ToString::to_string).collect();
    let names: Vec<String> = names.into_iter().collect();
    Ok(if names.is_empty() {
        "no service keeps state".to_owned()
    } else {
        format!("{} in {}", join_names(&names, MAX_SHOWN), target.state_folder().display())
    })
}

fn check_disk(root: &Path, needed: u64) -> Result<String> {
    let nearest = root.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(nearest) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(cause) => {
            let what = format!("cannot determine the free space in `{}`", nearest.display());
            return Err(Error::unable(what).with_cause(cause));
        }
    };
    check_free_bytes(nearest, free, needed)
}

/// Returns an error if `free` bytes in `folder` are less than the `needed` ones.
pub fn check_free_bytes(folder: &Path, free: u64, needed: u64) -> Result<String> {
    if free < needed {
        let (free, needed) = (format_size(free), format_size(needed));
        return Err(Error::negative(format!(
            "{free} free in `{}`, {needed} needed",
            folder.display()
        )));
    }
    Ok(format!("{} free", format_size(free)))
}

/// Checks that the ports of the layer are free, or used by the current release.
pub(super) fn check_ports(grounds: &TargetGateContext<'_>) -> Result<String> {
    let mut wanted: BTreeMap<String, u16> = stacks::collect_ports(grounds.layer);
    if let xtask_config::StatusPort::Fixed(port) = grounds.layer.status {
        wanted.insert("status".to_owned(), port);
    }
    for ReleaseStack { stack, .. } in stacks::list_stacks(grounds.target)? {
        let seen = observe_stack(&stack, grounds.ctx.world)?;
        let running = seen.running_services();
        let own: Vec<u16> = running.specs.iter().filter_map(|spec| spec.port).collect();
        let supervisor = seen.status.and_then(|page| page.supervisor);
        let status = supervisor.and_then(|line| line.status_port);
        wanted.retain(|_, port| !own.contains(port) && Some(*port) != status);
    }
    let wanted: Vec<(String, u16)> = wanted.into_iter().collect();
    let obstacles = port_plan::find_conflicts(&wanted, None)?;
    if obstacles.is_empty() {
        return Ok("free, or used by the current release".to_owned());
    }
    let error = Error::negative(format!("{} in use", pluralize(obstacles.len(), "port")));
    let who = |one: &port_plan::PortConflict| match one.owners.is_empty() {
        true => one.reason.clone(),
        false => ports::describe_owners(one.port, &one.owners),
    };
    Err(obstacles.iter().fold(error, |error, one| error.with_detail(who(one))))
}
