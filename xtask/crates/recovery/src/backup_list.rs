//! The backups of a repository as lines of a list, newest first, e.g. `20260131T180000Z-1  2 hours ago  sync on main`.

use super::report::BackupLine;
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::error::Result;
use xtask_base::words::sanitize_line;
use xtask_git::{AllPaths, Id, Repo};
use xtask_sync::backup::{self, Backup, UnreadableRecord};

/// The longest label in the list, in characters.
const MAX_LABEL_CHARS: usize = 60;

/// Returns a line for each backup. `now` is in seconds since the epoch.
pub fn list_backups(repo: &Repo, now: i64) -> Result<Vec<BackupLine>> {
    backup::list_backups(repo)?.into_iter().map(|found| build_line(repo, found, now)).collect()
}

fn build_line(repo: &Repo, found: Backup, now: i64) -> Result<BackupLine> {
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
                let of = operation.branch.map_or(String::new(), |branch| format!(" of {branch}"));
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

/// Returns the size of the objects in a backup, in bytes; missing objects count as 0.
fn backup_size(repo: &Repo, commit: &Id) -> Result<u64> {
    let entries = repo.list_tree(repo.tree_of(*commit)?, &AllPaths)?;
    Ok(entries.values().map(|entry| repo.object_size(entry.id).unwrap_or(0)).sum())
}
