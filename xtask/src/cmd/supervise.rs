//! `supervise`: what `start` leaves behind to watch the services. Nobody types it.

use super::session::Session;
use super::{DONE, Exit};
use crate::base::process::leave_session;
use crate::base::signals;
use crate::cli::Supervise;
use crate::report;
use crate::services::client::READY;
use crate::services::stack::Stack;
use crate::services::supervisor::supervise;

pub(super) fn run(session: &Session, args: &Supervise) -> Exit {
    leave_session();
    let repo = session.repo()?;
    let stack = Stack::new(&repo, &args.layer);
    let mut world = session.world.clone();
    // Whoever starts it may be a service of another stack.
    world.env.retain(|name, _| !name.as_encoded_bytes().starts_with(b"XTASK_"));
    let signals = signals::to_end()?;
    supervise(&stack, &world, session.tools().disk, signals, || {
        // Who does not hear it any more has gone away.
        drop(report::answer(&format!("{READY}\n")));
    })?;
    Ok(DONE)
}
