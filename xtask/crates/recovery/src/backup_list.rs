//! The backups of a repository as lines of a list, newest first, e.g. `20260131T180000Z-1  2 hours ago  sync on main`.

use super::report::BackupLine;
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::error::Result;
use xtask_base::words::{quote_for_shell, sanitize_line};
use xtask_git::{AllPaths, Id, Repo, Worktree};
use xtask_sync::backup::{self, Backup, BackupRecord, UnreadableRecord};

/// The longest label in the list, in characters.
const MAX_LABEL_CHARS: usize = 60;

/// Returns a line for each backup. `now` is in seconds since the epoch.
pub fn list_backups(repo: &Repo, now: i64) -> Result<Vec<BackupLine>> {
    let worktrees = repo.list_worktrees()?;
    let all = backup::list_backups(repo)?.into_iter();
    all.map(|found| build_line(repo, &worktrees, found, now)).collect()
}

fn build_line(repo: &Repo, worktrees: &[Worktree], found: Backup, now: i64) -> Result<BackupLine> {
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
    let verb = if record.snapshot.is_some() { "restore" } else { "undo" };
    let back = restore_command(repo, worktrees, &found.id, &record, verb)?;
    let mut branch = record.branch.unwrap_or_else(|| "detached HEAD".to_owned());
    let (paths, bytes, label) = match record.snapshot {
        Some(snapshot) => {
            if let Some(operation) = snapshot.operation
                && let Some(name) = operation.name
            {
                let of = operation.branch.map_or(String::new(), |branch| format!(" of {branch}"));
                branch = format!("{branch}, in {name}{of}");
            }
            let label = snapshot.label.map(|label| sanitize_line(&label, MAX_LABEL_CHARS));
            let paths = snapshot.files.len() + snapshot.copied;
            (paths, snapshot.bytes, label)
        }
        None => (record.paths.len(), backup_size(repo, &found.commit)?, None),
    };
    Ok(BackupLine {
        back,
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

/// Returns the command that restores a backup where it was made, with its branch checked out. Where that is impossible,
/// it restores the files alone, here.
fn restore_command(
    repo: &Repo,
    worktrees: &[Worktree],
    id: &str,
    record: &BackupRecord,
    verb: &str,
) -> Result<String> {
    let files_alone = format!("cargo xtask restore {id} .");
    let is_here = record.worktree_name == repo.worktree_name();
    let is_place = |tree: &&Worktree| match is_here {
        true => tree.root == repo.root(),
        false => tree.is_there && tree.root.display().to_string() == record.worktree,
    };
    let Some(place) = worktrees.iter().find(is_place) else { return Ok(files_alone) };
    let at = match is_here {
        true => String::new(),
        false => format!(" -C {}", quote_for_shell(&record.worktree)),
    };
    let restores = format!("cargo xtask{at} {verb} {id}");
    let Some(branch) = &record.branch else {
        return Ok(match (&place.branch, verb) {
            (None, "undo") => restores,
            (Some(_), "undo") => files_alone,
            _ => format!("git{at} switch --detach {} && {restores}", record.head_before),
        });
    };
    // `restore` returns to a branch that was left, and makes one that is gone.
    let returns = record.snapshot.as_ref().is_some_and(|snapshot| snapshot.was_left);
    let is_elsewhere = worktrees
        .iter()
        .any(|tree| tree.branch.as_ref() == Some(branch) && tree.root != place.root);
    Ok(if place.branch.as_ref() == Some(branch) {
        restores
    } else if is_elsewhere {
        files_alone
    } else if returns {
        restores
    } else if repo.resolve_ref(&format!("refs/heads/{branch}"))?.is_some() {
        format!("git{at} switch {} && {restores}", quote_for_shell(branch))
    } else {
        files_alone
    })
}

/// Returns the size of the objects in a backup, in bytes; missing objects count as 0.
fn backup_size(repo: &Repo, commit: &Id) -> Result<u64> {
    let entries = repo.list_tree(repo.tree_of(*commit)?, &AllPaths)?;
    Ok(entries.values().map(|entry| repo.object_size(entry.id).unwrap_or(0)).sum())
}
