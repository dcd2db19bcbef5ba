//! The `services` lines of `status`, e.g. `api failed (exit code 1), 2 ready`.

use std::collections::BTreeMap;

use super::report::ServicesLine;
use xtask_base::environment::Environment;
use xtask_base::words::join_names;
use xtask_git::Repo;
use xtask_services::client;
use xtask_services::observe::list_config_changes;
use xtask_services::stack::Stack;
use xtask_services::status::{ServiceStatus, StackStatus};

/// How many services with a changed configuration are named.
const MAX_CHANGED_SERVICES: usize = 3;

/// Returns a line for each layer with recorded state in this worktree. If its status cannot be read, the line is the
/// error.
pub fn read_service_lines(repo: &Repo, world: &Environment) -> Vec<ServicesLine> {
    let line = |stack: Stack| match client::read_brief_status(&stack, world) {
        Ok(page) => page.map(|page| {
            let (ok, mut words) = describe_services(&page);
            let runs = |name: &String| {
                page.services.iter().any(|row| row.service == *name && row.pid.is_some())
            };
            let mut changed: Vec<String> =
                list_config_changes(repo.root(), &stack).into_keys().collect();
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
    let describe = |row: &ServiceStatus| {
        let why = row.error.as_ref().map_or(String::new(), |error| format!(" ({error})"));
        Some(format!("{} {}{why}", row.service, row.fault()?))
    };
    let mut words: Vec<String> = page.services.iter().filter_map(describe).collect();
    let ok = words.is_empty();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in page.services.iter().filter(|row| row.fault().is_none()) {
        *counts.entry(row.state.name()).or_default() += 1;
    }
    words.extend(counts.into_iter().map(|(state, count)| format!("{count} {state}")));
    if page.is_unsupervised() {
        words.push("`cargo xtask start` takes over services without a supervisor".to_owned());
    }
    (ok, words.join(", "))
}
