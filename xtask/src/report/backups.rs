//! Backups, and what an undo did.

use super::{BOLD, DIM, count};

/// One backup.
#[derive(Clone, Debug)]
pub struct BackupLine {
    /// Its name.
    pub id: String,
    /// When it was made, in words.
    pub when: String,
    /// Before what.
    pub purpose: String,
    /// How many paths it holds.
    pub paths: usize,
    /// The branch.
    pub branch: String,
    /// The worktree.
    pub worktree: String,
}

/// The list of all backups.
#[must_use]
pub fn list(lines: &[BackupLine]) -> String {
    let width = lines.iter().map(|line| line.id.len()).max().unwrap_or(0);
    lines
        .iter()
        .map(|line| {
            format!(
                "{BOLD}{:<width$}{BOLD:#}  {:<14}  {} on {}, {}  {DIM}{}{DIM:#}\n",
                line.id,
                line.when,
                line.purpose,
                line.branch,
                count(line.paths, "path"),
                line.worktree
            )
        })
        .collect()
}
