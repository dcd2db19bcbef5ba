//! Waits for children of the supervisor (e.g. `ProcessExit::Code(1)`), and reports who holds a port
//! after an exit.

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::events::ProcessExit;
use xtask_base::ports;

/// Waits for a child to exit, without reaping it. Returns `None` if `pid` is not our child.
pub(super) fn wait_for_child(pid: u32) -> Option<ProcessExit> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(status) => return status.map(|status| to_process_exit(&status)),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn to_process_exit(status: &WaitIdStatus) -> ProcessExit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ProcessExit::Code(code),
        (None, Some(signal)) => ProcessExit::Signal(signal),
        (None, None) => ProcessExit::Unseen,
    }
}

/// Returns a description of the owner of `port`; `None` if the port is free.
pub(super) fn describe_port_holder(port: u16) -> Option<String> {
    match ports::inspect_port(port) {
        Ok(ports::PortState::InUse(owners)) => Some(ports::describe_owners(port, &owners)),
        _ => None,
    }
}
