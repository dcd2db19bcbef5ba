//! Backups: the list of them, and what one of them holds or has brought back.

use serde::Serialize;

use super::{BOLD, DIM, pluralize};
use xtask_base::words::format_size;

/// One backup.
#[derive(Clone, Debug, Serialize)]
pub struct BackupLine {
    /// Its name.
    pub id: String,
    /// When it was made, in words.
    #[serde(skip)]
    pub when: String,
    /// When it was made.
    pub time: String,
    /// Before what.
    pub purpose: String,
    /// What the person calls it.
    pub label: Option<String>,
    /// How many paths it holds.
    pub paths: usize,
    /// How much it holds; nothing where that is not known.
    pub bytes: Option<u64>,
    /// The branch.
    pub branch: String,
    /// The worktree.
    pub worktree: String,
    /// The command that brings it back.
    pub back: String,
}

/// All of them.
#[derive(Serialize)]
pub struct BackupList {
    /// Names this shape.
    pub schema: &'static str,
    /// The backups, the newest first; fixes after those of the repository.
    pub backups: Vec<BackupLine>,
}

/// The list of all backups.
#[must_use]
pub fn render_list(lines: &[BackupLine]) -> String {
    let width = lines.iter().map(|line| line.id.len()).max().unwrap_or(0);
    lines
        .iter()
        .map(|line| {
            let bytes =
                line.bytes.map_or_else(String::new, |bytes| format!(", {}", format_size(bytes)));
            let label = line.label.as_ref().map_or_else(String::new, |label| format!(" `{label}`"));
            format!(
                "{BOLD}{:<width$}{BOLD:#}  {:<14}  {}{label} on {}, {}{bytes}  {DIM}{}{DIM:#}\n",
                line.id,
                line.when,
                line.purpose,
                line.branch,
                pluralize(line.paths, "path"),
                line.worktree
            )
        })
        .collect()
}
