//! The `services` lines of `status`, e.g. `api failed (exit code 1), 2 ready`.

use std::collections::BTreeMap;

use super::report::ServicesLine;
use xtask_base::environment::Environment;
use xtask_base::words::join_names;
use xtask_git::Repo;
use xtask_services::client;
use xtask_services::stack::Stack;
use xtask_services::status::{ServiceStatus, StackStatus};

/// How many services with a changed configuration are named.
const MAX_CHANGED_SERVICES: usize = 3;

/// Returns a line for each layer with recorded state in this worktree. If its status cannot be read, the line is the
/// error. `list_changed` names the services whose configuration has changed since they were started.
pub fn read_service_lines(
    repo: &Repo,
    world: &Environment,
    list_changed: &dyn Fn(&Stack) -> Vec<String>,
) -> Vec<ServicesLine> {
    let line = |stack: Stack| match client::read_brief_status(&stack, world) {
        Ok(page) => page.map(|page| {
            let (ok, mut words) = describe_services(&page);
            let runs = |name: &String| {
                page.services.iter().any(|row| row.service == *name && row.pid.is_some())
            };
            let mut changed = list_changed(&stack);
            changed.retain(runs);
            if !changed.is_empty() {
                let who = join_names(&changed, MAX_CHANGED_SERVICES);
                words.push_str(&format!(", configuration of {who} has changed"));
            }
            ServicesLine { layer: stack.layer, ok, words }
        }),
        Err(failure) => {
            Some(ServicesLine { layer: stack.layer, ok: false, words: failure.to_string() })
        }
    };
    Stack::list_all(&repo.folders()).into_iter().filter_map(line).collect()
}

/// Returns whether all services are healthy, and a description with the unhealthy ones first, e.g. `api failed
/// (exit code 1), 2 ready`.
fn describe_services(page: &StackStatus) -> (bool, String) {
    let is_ill = |row: &&ServiceStatus| {
        matches!(row.state.as_str(), "failed" | "blocked" | "lost")
            || row.state == "ready" && row.health == "unhealthy"
    };
    let ill = page.services.iter().filter(is_ill);
    let mut words: Vec<String> = ill
        .map(|row| {
            let state = if row.state == "ready" { "unhealthy" } else { &row.state };
            let why = row.error.as_ref().map_or(String::new(), |error| format!(" ({error})"));
            format!("{} {state}{why}", row.service)
        })
        .collect();
    let ok = words.is_empty();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in page.services.iter().filter(|row| !is_ill(row)) {
        *counts.entry(&row.state).or_default() += 1;
    }
    words.extend(counts.into_iter().map(|(state, count)| format!("{count} {state}")));
    if page.supervisor.is_none() && page.services.iter().any(|row| row.state == "lost") {
        words.push("`cargo xtask start` takes over services without a supervisor".to_owned());
    }
    (ok, words.join(", "))
}
