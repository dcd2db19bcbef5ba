//! The plan of a recovery: what is wrong, and what is done about it.

use super::{BOLD, DIM};

/// A part of the plan.
#[derive(Clone, Debug)]
pub struct PartLine {
    /// Its name, as it can be given to `recover`.
    pub name: String,
    /// What is wrong.
    pub wrong: Vec<String>,
    /// What is done about it.
    pub does: Vec<String>,
}

/// The plan, a paragraph for each part in which something is wrong or done.
#[must_use]
pub fn plan(parts: &[PartLine]) -> String {
    let mut text = String::new();
    for part in parts.iter().filter(|part| !part.wrong.is_empty() || !part.does.is_empty()) {
        let mut name = part.name.as_str();
        for line in &part.wrong {
            text.push_str(&format!("{BOLD}{name:<11}{BOLD:#}  {line}\n"));
            name = "";
        }
        for line in &part.does {
            text.push_str(&format!("{BOLD}{name:<11}{BOLD:#}  {DIM}→{DIM:#} {line}\n"));
            name = "";
        }
    }
    text
}
