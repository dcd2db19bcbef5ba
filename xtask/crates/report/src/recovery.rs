//! The plan of a recovery: what is wrong, and what is done about it.

use super::{BOLD, DIM};

/// A part of the plan.
#[derive(Clone, Debug)]
pub struct RecoveryPartLine {
    /// Its name, as it can be given to `recover`.
    pub name: String,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What is done about it.
    pub actions: Vec<String>,
}

/// The plan, a paragraph for each part in which something is wrong or done.
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
