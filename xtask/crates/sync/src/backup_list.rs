//! The list of backups: `backup --list` and `undo --list`.
//!
//! ```text
//! 20260131T180000Z-1  2 hours ago     recover on feature/menu, 3 paths, 12 kB  /home/ada/shop
//! ```

use serde::Serialize;

use super::backup::{Backup, UnreadableRecord};
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::error::Result;
use xtask_base::words::{format_size, pluralize, sanitize_line};
use xtask_git::{AllPaths, Id, Repo};
use xtask_report::{BOLD, DIM};

/// The longest label in the list, in characters.
const MAX_LABEL_CHARS: usize = 60;

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

impl BackupLine {
    /// Builds the line of a backup.
    pub fn new(repo: &Repo, now: i64, found: Backup) -> Result<BackupLine> {
        let when = format_ago(now, found.seconds);
        let time = format_rfc3339(found.seconds);
        let unread = |why: UnreadableRecord| match why {
            UnreadableRecord::Newer => "written by a newer xtask",
            UnreadableRecord::Corrupt => "unreadable record",
        };
        let record = match found.record {
            Ok(record) => record,
            Err(why) => {
                return Ok(BackupLine {
                    id: found.id,
                    when,
                    time,
                    purpose: unread(why).to_owned(),
                    label: None,
                    paths: 0,
                    bytes: None,
                    branch: "unknown".to_owned(),
                    worktree: String::new(),
                    back: String::new(),
                });
            }
        };
        let mut branch = record.branch.unwrap_or_else(|| "detached HEAD".to_owned());
        let (verb, paths, bytes, label) = match record.snapshot {
            Some(snapshot) => {
                if let Some(operation) = snapshot.operation
                    && let Some(name) = operation.name
                {
                    let of =
                        operation.branch.map_or(String::new(), |branch| format!(" of {branch}"));
                    branch = format!("{branch}, in {name}{of}");
                }
                let label = snapshot.label.map(|label| sanitize_line(&label, MAX_LABEL_CHARS));
                let paths = snapshot.files.len() + snapshot.copied;
                ("restore", paths, snapshot.bytes, label)
            }
            None => ("undo", record.paths.len(), backup_size(repo, &found.commit)?, None),
        };
        Ok(BackupLine {
            back: format!("cargo xtask {verb} {}", found.id),
            id: found.id,
            when,
            time,
            purpose: record.purpose,
            label,
            paths,
            bytes: Some(bytes),
            branch,
            worktree: record.worktree,
        })
    }
}

/// Returns the size of the objects in a backup, in bytes; missing objects count as 0.
fn backup_size(repo: &Repo, commit: &Id) -> Result<u64> {
    let entries = repo.list_tree(repo.tree_of(*commit)?, &AllPaths)?;
    Ok(entries.values().map(|entry| repo.object_size(entry.id).unwrap_or(0)).sum())
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
