//! How a child of the supervisor has ended, and who has its port after that.

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::unit::Exit;
use xtask_base::ports;

/// Waits for a child without reaping it; nothing where it is no child of ours.
pub(super) fn wait_for_child(pid: u32) -> Option<Exit> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(status) => return status.map(|status| exit_of(&status)),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unseen,
    }
}

/// Who holds a port that ought to be free now.
pub(super) fn held_by(port: u16) -> Option<String> {
    match ports::look(port) {
        Ok(ports::Listening::Somebody(owners)) => Some(ports::words(port, &owners)),
        _ => None,
    }
}
