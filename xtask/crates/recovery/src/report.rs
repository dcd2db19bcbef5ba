//! The reports of backups and recoveries: the list of backups, what a backup holds, and the plan of `recover`.
//!
//! ```text
//! 20260131T180000Z-1  2 hours ago     recover on feature/menu, 3 paths, 12 kB  /home/ada/shop
//! ```

use serde::Serialize;

use super::create_backup::SavedBackup;
#[cfg(feature = "services")]
use super::diagnose::RecoveryPart;
use xtask_base::words::{format_size, pluralize, sanitize_line};
use xtask_report::{BOLD, DIM};

/// The longest message about a path, in characters.
const MAX_LINE_CHARS: usize = 300;

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

/// Describes what was saved, e.g. `3 files and 1 file that may be secret saved, 12 kB`.
#[must_use]
pub fn describe_saved(saved: &SavedBackup) -> String {
    let files = pluralize(saved.files.len(), "file");
    let copies = format!("{} that may be secret", pluralize(saved.copies.len(), "file"));
    let what = match (saved.files.len(), saved.copies.len()) {
        (0, 0) => return "the position of HEAD is saved".to_owned(),
        (_, 0) => files,
        (0, _) => copies,
        _ => format!("{files} and {copies}"),
    };
    format!("{what} saved, {}", format_size(saved.bytes))
}

/// Returns the warnings about files that are not in a backup.
#[must_use]
pub fn render_left_out(saved: &SavedBackup) -> Vec<String> {
    let left_out = saved.left_out.iter();
    let lines = left_out.map(|line| format!("not saved: {}", sanitize_line(line, MAX_LINE_CHARS)));
    lines.chain(render_not_covered(&saved.not_covered)).collect()
}

/// Returns the warnings about changes that no backup contains.
#[must_use]
pub fn render_not_covered(not_covered: &[String]) -> Vec<String> {
    let render = |what: &String| {
        format!("not saved: {what}; use `cargo xtask -C` or git in that folder to save it")
    };
    not_covered.iter().map(render).collect()
}

#[cfg(feature = "services")]
/// Renders the plan of a recovery, a paragraph for each step with problems or actions.
#[must_use]
pub fn render_plan(parts: &[RecoveryPart]) -> String {
    let mut text = String::new();
    for part in parts {
        let mut name = part.step.name();
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
