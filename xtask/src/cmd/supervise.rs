//! `supervise`: what `start` leaves behind to watch the services. Nobody types it.
//!
//! It is told all that it needs, and neither reads the command line as commands do nor opens the
//! repository: what is never touched takes no memory in a process that stays for days.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{DONE, Exit};
use crate::base::error::Error;
use crate::base::files::Disk;
use crate::base::process::leave_session;
use crate::base::signals;
use crate::base::world::World;
use crate::report;
use crate::services::client::READY;
use crate::services::log_writer;
use crate::services::stack::Stack;
use crate::services::supervisor::supervise;

/// The word by which it is asked for.
pub(super) use crate::services::client::SUPERVISE as WORD;
pub(super) use crate::services::log_writer::WORD as WRITE_LOGS;

pub(super) fn run(mut world: World, args: &[OsString]) -> Exit {
    let [layer, root, folder] = args else {
        return Err(Error::usage("`supervise` is started by `cargo xtask start`"));
    };
    leave_session();
    let layer = layer.to_string_lossy().into_owned();
    let stack = Stack { layer, root: PathBuf::from(root), folder: PathBuf::from(folder) };
    // Whoever starts it may be a service of another stack.
    world.env.retain(|name, _| !name.as_encoded_bytes().starts_with(b"XTASK_"));
    let (ends, children) = (signals::to_end()?, signals::children()?);
    supervise(&stack, &world, &Disk::real(), ends, children, || {
        // Who does not hear it any more has gone away.
        drop(report::answer(&format!("{READY}\n")));
    })?;
    Ok(DONE)
}

/// What the supervisor leaves to a process of its own: copying what services print into their logs.
pub(super) fn write_logs(args: &[OsString]) -> Exit {
    let [folder] = args else {
        return Err(Error::usage("`write-logs` is started by the supervisor"));
    };
    leave_session();
    log_writer::write_logs(&PathBuf::from(folder))?;
    Ok(DONE)
}
