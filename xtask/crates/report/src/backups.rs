//! The list of backups: `backup --list` and `undo --list`.
//!
//! ```text
//! 20260131T180000Z-1  2 hours ago     recover on feature/menu, 3 paths, 12 kB  /home/ada/shop
//! ```

use serde::Serialize;

use super::{BOLD, DIM, pluralize};
use xtask_base::words::format_size;

/// A backup, or a fix of `validate` that can be reverted.
#[derive(Clone, Debug, Serialize)]
pub struct BackupLine {
    /// The ID, e.g. `20260131T180000Z-1`.
    pub id: String,
    /// The age, e.g. `2 hours ago`.
    #[serde(skip)]
    pub when: String,
    /// The time of the backup, RFC 3339 in UTC.
    pub time: String,
    /// The command that made the backup, e.g. `sync` or ``fix of `lint` ``.
    pub purpose: String,
    /// The label that the user gave it.
    pub label: Option<String>,
    /// The number of paths.
    pub paths: usize,
    /// The size in bytes, or `None` if it is not known.
    pub bytes: Option<u64>,
    pub branch: String,
    /// The root of the worktree.
    pub worktree: String,
    /// The command that restores it, e.g. `cargo xtask restore 20260131T180000Z-1`.
    pub back: String,
}

/// The JSON output of `backup --list` (`xtask.backup-list/1`).
#[derive(Serialize)]
pub struct BackupList {
    pub schema: &'static str,
    /// The backups, newest first, followed by the fixes of `validate`.
    pub backups: Vec<BackupLine>,
}

/// Renders the list as text, one line for each backup.
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
