//! What can be brought back, whoever has saved it: one list for `backup`, `undo` and `validate --undo`; and what
//! is said where something is saved.

use super::session::Session;
use super::{DONE, Exit};
use xtask_base::error::Result;
use xtask_base::words::{count, harmless, size};
use xtask_base::world::{ago, rfc3339};
use xtask_config::SyncConfig;
use xtask_git::{Everything, Repo};
use xtask_recovery::save::{Saved, Secrets};
use xtask_report as report;
use xtask_report::backups::{self, BackupLine};
use xtask_sync::backup::{self, Backup, Unread};
use xtask_sync::context;
#[cfg(feature = "checks")]
use xtask_validate::fix::{Fixes, Phase, Record};
#[cfg(feature = "checks")]
use xtask_validate::perform::fixes_folder;

/// The longest line about a path, in characters.
const LONGEST_LINE: usize = 300;

/// The longest label that is shown in the list, in characters.
const LONGEST_LABEL: usize = 60;

#[cfg(feature = "checks")]
/// What fixes of `validate` have changed here.
pub(super) fn fixes(session: &Session, repo: &Repo) -> Vec<Record> {
    let disk = session.tools().disk;
    Fixes { folder: fixes_folder(repo), root: repo.root(), disk }.all()
}

#[cfg(feature = "checks")]
/// Those of them that can be brought back.
fn fixes_lines(session: &Session, repo: &Repo) -> Vec<BackupLine> {
    let now = session.world.now_seconds();
    let open = |fix: &Record| fix.phase != Phase::Undone && fix.has_something_to_take_back();
    let line = |fix: Record| BackupLine {
        paths: fix.paths().len(),
        bytes: None,
        when: ago(now, fix.at),
        time: rfc3339(fix.at),
        purpose: format!("fix of `{}`", fix.check),
        label: None,
        branch: fix.branch.unwrap_or_else(|| "detached HEAD".to_owned()),
        worktree: fix.worktree,
        back: format!("cargo xtask validate --undo {}", fix.run),
        id: fix.run,
    };
    fixes(session, repo).into_iter().filter(open).map(line).collect()
}

/// Lists all of it.
pub(super) fn list(session: &Session, is_json: bool) -> Exit {
    let repo = session.repo()?;
    let mut lines = Vec::new();
    for found in backup::list(&repo)? {
        lines.push(line(session, &repo, found)?);
    }
    #[cfg(feature = "checks")]
    lines.extend(fixes_lines(session, &repo));
    if is_json {
        report::answer_json(&backups::BackupList {
            schema: "xtask.backup-list/1",
            backups: lines,
        })?;
        return Ok(DONE);
    }
    if lines.is_empty() {
        session.story("there are no backups");
    }
    report::answer(&backups::list(&lines))?;
    Ok(DONE)
}

fn line(session: &Session, repo: &Repo, found: Backup) -> Result<BackupLine> {
    let when = ago(session.world.now_seconds(), found.seconds);
    let time = rfc3339(found.seconds);
    let unread = |why: Unread| match why {
        Unread::Newer => "written by a newer xtask",
        Unread::Broken => "unreadable record",
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
            let label = snapshot.label.map(|label| harmless(&label, LONGEST_LABEL));
            let paths = snapshot.files.len() + snapshot.copied;
            ("restore", paths, snapshot.bytes, label)
        }
        None => ("undo", record.paths.len(), size_of(repo, &found.commit)?, None),
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

/// How much a backup holds, in bytes; what is not here any more counts for nothing.
fn size_of(repo: &Repo, commit: &xtask_git::Id) -> Result<u64> {
    let entries = repo.list_tree(repo.tree_of(*commit)?, &Everything)?;
    Ok(entries.values().map(|entry| repo.object_size(entry.id).unwrap_or(0)).sum())
}

/// Which files may be secret, by the canonical branch. Where its rules cannot be read, all may be that git does
/// not track.
pub(super) fn secrets(repo: &Repo) -> Secrets {
    let usual = || SyncConfig::default().backed_up;
    let (patterns, is_unknown) = match context::of_canonical(repo) {
        Ok(Some(context)) => (context.config.backed_up, false),
        Ok(None) => (usual(), false),
        Err(failure) => {
            report::warn(&format!("`[backup]` of `setup/sync.toml` cannot be read: {failure}"));
            (usual(), true)
        }
    };
    Secrets { patterns, is_unknown, also: Vec::new() }
}

/// What was saved, in words.
pub(super) fn words(saved: &Saved) -> String {
    let files = count(saved.files.len(), "file");
    let copies = format!("{} that may be secret", count(saved.copies.len(), "file"));
    let what = match (saved.files.len(), saved.copies.len()) {
        (0, 0) => return "where HEAD was is saved".to_owned(),
        (_, 0) => files,
        (0, _) => copies,
        _ => format!("{files} and {copies}"),
    };
    format!("{what} saved, {}", size(saved.bytes))
}

/// Tells what is not in a backup.
pub(super) fn tell_left_out(saved: &Saved) {
    for line in &saved.left_out {
        report::warn(&format!("not saved: {}", harmless(line, LONGEST_LINE)));
    }
    tell_beyond(&saved.beyond);
}

pub(super) fn tell_beyond(beyond: &[String]) {
    for line in beyond {
        report::warn(&format!("not saved: {line}; `cargo xtask -C` or git there can save it"));
    }
}
