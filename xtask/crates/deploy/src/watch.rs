//! Whether what serves is well: asked once, or watched for a while.
//!
//! A required service that ends, is started again or is given up within the watch is not well. A probe that
//! fails is left to the supervisor, which knows how many in a row count; at the end every probe is asked once
//! more.

use std::time::Duration;

use super::Around;
use xtask_base::deadline::Deadline;
use xtask_base::error::{Error, Kind, Result};
use xtask_services::client;
use xtask_services::page::Row;
use xtask_services::spec::Spec;
use xtask_services::stack::Stack;

/// How often it is looked.
const POLL: Duration = Duration::from_millis(50);

/// Watches a stack for a while. An error says what is not well.
pub fn watch(stack: &Stack, specs: &[Spec], longest: Duration, around: &Around<'_>) -> Result<()> {
    let deadline = Deadline::after(longest);
    let first = rows(stack, around)?;
    loop {
        if around.interrupts.arrived() {
            return Err(Error::new(Kind::Interrupted, "interrupted while it was watched"));
        }
        let faults = faults(specs, &first, &rows(stack, around)?);
        if !faults.is_empty() {
            let error = Error::no("the release is not well");
            return Err(faults.into_iter().fold(error, Error::detail));
        }
        match deadline.left() {
            Some(left) => std::thread::sleep(left.min(POLL)),
            None => return ask(stack, specs, around),
        }
    }
}

/// Asks every required service of a stack whether it is well, now.
pub fn ask(stack: &Stack, specs: &[Spec], around: &Around<'_>) -> Result<()> {
    let answers = client::verify(stack, around.world)?;
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
    Err(faults.into_iter().fold(Error::no("the release is not well"), Error::detail))
}

fn rows(stack: &Stack, around: &Around<'_>) -> Result<Vec<Row>> {
    Ok(client::glance(stack, around.world)?.map_or_else(Vec::new, |page| page.services))
}

/// What is not well, by how it was at first and is now.
fn faults(specs: &[Spec], first: &[Row], now: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    for spec in specs.iter().filter(|spec| spec.required) {
        let find = |rows: &[Row]| rows.iter().find(|row| row.service == spec.name).cloned();
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
