//! Whether what serves is well: asked once, or watched for a while.
//!
//! A required service that ends, is started again or is given up within the watch is not well. A probe that
//! fails is left to the supervisor, which knows how many in a row count; at the end every probe is asked once
//! more.

use std::time::Duration;

use super::DeployContext;
use xtask_base::deadline::Deadline;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_services::client;
use xtask_services::spec::ServiceSpec;
use xtask_services::stack::Stack;
use xtask_services::status::ServiceStatus;

/// How often it is looked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Watches a stack for a while. An error says what is not well.
pub fn watch_stack(
    stack: &Stack,
    specs: &[ServiceSpec],
    longest: Duration,
    around: &DeployContext<'_>,
) -> Result<()> {
    let deadline = Deadline::after(longest);
    let first = read_service_rows(stack, around)?;
    loop {
        if around.interrupts.was_interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted while it was watched"));
        }
        let faults = find_faults(specs, &first, &read_service_rows(stack, around)?);
        if !faults.is_empty() {
            let error = Error::negative("the release is not well");
            return Err(faults.into_iter().fold(error, Error::with_detail));
        }
        match deadline.remaining() {
            Some(left) => std::thread::sleep(left.min(POLL_INTERVAL)),
            None => return check_stack_health(stack, specs, around),
        }
    }
}

/// Asks every required service of a stack whether it is well, now.
pub fn check_stack_health(
    stack: &Stack,
    specs: &[ServiceSpec],
    around: &DeployContext<'_>,
) -> Result<()> {
    let answers = client::verify_services(stack, around.world)?;
    let mut faults = Vec::new();
    for spec in specs.iter().filter(|spec| spec.required) {
        match answers.iter().find(|(name, _)| *name == spec.name) {
            Some((_, Ok(_))) => {}
            Some((name, Err(why))) => faults.push(format!("{name}: {why}")),
            None => faults.push(format!("{}: it does not run", spec.name)),
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(faults.into_iter().fold(Error::negative("the release is not well"), Error::with_detail))
}

fn read_service_rows(stack: &Stack, around: &DeployContext<'_>) -> Result<Vec<ServiceStatus>> {
    Ok(client::read_brief_status(stack, around.world)?.map_or_else(Vec::new, |page| page.services))
}

/// What is not well, by how it was at first and is now.
fn find_faults(
    specs: &[ServiceSpec],
    first: &[ServiceStatus],
    now: &[ServiceStatus],
) -> Vec<String> {
    let mut faults = Vec::new();
    for spec in specs.iter().filter(|spec| spec.required) {
        let find =
            |rows: &[ServiceStatus]| rows.iter().find(|row| row.service == spec.name).cloned();
        let name = &spec.name;
        let Some(row) = find(now) else {
            faults.push(format!("{name}: it does not run"));
            continue;
        };
        let error = row.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let before = find(first).map_or(0, |row| row.restarts);
        // One whose supervisor is gone still serves, and another one takes it over.
        if !["ready", "done", "lost"].contains(&row.state.as_str()) {
            faults.push(format!("{name}: it is {}{error}", row.state));
        } else if row.restarts > before {
            faults.push(format!("{name}: it was started again{error}"));
        }
    }
    faults
}
