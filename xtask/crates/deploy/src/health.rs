//! Health of the running release: a single check, or a watch over a period.
//!
//! A required service that exits, is restarted or is given up during the watch is unhealthy. A failing probe
//! is left to the supervisor, which knows the number of consecutive failures that count; at the end every
//! probe runs once more. An error lists all faults, e.g. `api: failed: connection refused`.

use std::time::Duration;

use super::DeployContext;
use xtask_base::deadline::Deadline;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_services::client;
use xtask_services::spec::ServiceSpec;
use xtask_services::stack::Stack;
use xtask_services::status::ServiceStatus;

/// Interval between two polls of the supervisor's status.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Number of consecutive failed queries that a watch tolerates.
const MAX_FAILED_QUERIES: usize = 2;

/// Watches the required services of `specs` for `longest`, then checks their health once.
///
/// Returns an error of kind `Negative` with all faults as details, or `Interrupted` after Ctrl-C.
pub fn watch_stack(
    stack: &Stack,
    specs: &[ServiceSpec],
    longest: Duration,
    deploy_ctx: &DeployContext<'_>,
) -> Result<()> {
    let deadline = Deadline::after(longest);
    let first = read_service_rows(stack, deploy_ctx)?;
    loop {
        ensure_not_interrupted(deploy_ctx)?;
        ensure_no_faults(find_faults(specs, &first, &read_service_rows(stack, deploy_ctx)?))?;
        match deadline.remaining() {
            Some(left) => std::thread::sleep(left.min(POLL_INTERVAL)),
            None => return check_stack_health(stack, specs, deploy_ctx),
        }
    }
}

/// Runs the probes of every required service of a stack once.
pub fn check_stack_health(
    stack: &Stack,
    specs: &[ServiceSpec],
    deploy_ctx: &DeployContext<'_>,
) -> Result<()> {
    let answers = client::verify_services(stack, deploy_ctx.world)?;
    let mut faults = Vec::new();
    for spec in specs.iter().filter(|spec| spec.required) {
        match answers.iter().find(|(name, _)| *name == spec.name) {
            Some((_, Ok(_))) => {}
            Some((name, Err(why))) => faults.push(format!("{name}: {why}")),
            None => faults.push(format!("{}: not running", spec.name)),
        }
    }
    ensure_no_faults(faults)
}

/// Returns an error with `faults` as details, if there are any.
pub(super) fn ensure_no_faults(faults: Vec<String>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(faults.into_iter().fold(Error::negative("the release is unhealthy"), Error::with_detail))
}

/// Watches a release for `longest` by calling `find_faults` each `interval`; any fault fails the watch.
///
/// A single failed query is no evidence against the release: `MAX_FAILED_QUERIES` of them in a row are tolerated.
pub(super) fn watch_by_queries(
    longest: Duration,
    interval: Duration,
    deploy_ctx: &DeployContext<'_>,
    find_faults: &mut dyn FnMut() -> Result<Vec<String>>,
) -> Result<()> {
    let deadline = Deadline::after(longest);
    let mut misses = 0;
    loop {
        ensure_not_interrupted(deploy_ctx)?;
        let left = deadline.remaining();
        match find_faults() {
            Err(_) if misses < MAX_FAILED_QUERIES => {
                misses += 1;
                std::thread::sleep(interval);
                continue;
            }
            asked => ensure_no_faults(asked?)?,
        }
        misses = 0;
        match left {
            Some(left) => std::thread::sleep(left.min(interval)),
            None => return Ok(()),
        }
    }
}

fn ensure_not_interrupted(deploy_ctx: &DeployContext<'_>) -> Result<()> {
    if deploy_ctx.interrupts.was_interrupted() {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted while watching the release"));
    }
    Ok(())
}

fn read_service_rows(stack: &Stack, deploy_ctx: &DeployContext<'_>) -> Result<Vec<ServiceStatus>> {
    Ok(client::read_brief_status(stack, deploy_ctx.world)?
        .map_or_else(Vec::new, |page| page.services))
}

/// Returns the faults of the required services, by comparing the status at the start with the current one.
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
            faults.push(format!("{name}: not running"));
            continue;
        };
        let error = row.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let before = find(first).map_or(0, |row| row.restarts);
        // A service in the state `lost` has no supervisor, but still serves; another supervisor takes it over.
        if !row.state.is_serving() {
            faults.push(format!("{name}: {}{error}", row.state));
        } else if row.restarts > before {
            faults.push(format!("{name}: was restarted{error}"));
        }
    }
    faults
}
