//! The plan of `recover`: the problems of each step, and the actions to fix them.
//!
//! ```text
//! git          a rebase is in progress
//!              → end the rebase in progress
//! ```

use super::{BOLD, DIM};

/// A step of the plan.
#[derive(Clone, Debug)]
pub struct RecoveryPartLine {
    /// The name of the step, as `recover` accepts it, e.g. `git`.
    pub name: String,
    pub problems: Vec<String>,
    /// The actions that fix the problems.
    pub actions: Vec<String>,
}

/// Renders the plan, a paragraph for each step with problems or actions.
#[must_use]
pub fn render_plan(parts: &[RecoveryPartLine]) -> String {
    let mut text = String::new();
    for part in parts.iter().filter(|part| !part.problems.is_empty() || !part.actions.is_empty()) {
        let mut name = part.name.as_str();
        for line in &part.problems {
            text.push_str(&format!("{BOLD}{name:<11}{BOLD:#}  {line}\n"));
            name = "";
        }
        for line in &part.actions {
            text.push_str(&format!("{BOLD}{name:<11}{BOLD:#}  {DIM}→{DIM:#} {line}\n"));
            name = "";
        }
    }
    text
}
