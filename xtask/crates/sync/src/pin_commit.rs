//! `pin` and `unpin` from their options to their report, and the commit of a change of pins: the files of pins alone, as one transaction of branch, index and files.
//! Whatever else is staged, changed or untracked stays byte for byte, no hook runs, and `undo` restores
//! what was before. The author is the user.

use super::apply;
use super::backup::{self, BackupInput};
use super::context::SyncContext;
use super::overlay;
use super::pin_edit::{NewPins, PinEdit, find_pin_target, plan_lapsed, plan_pins, plan_unpins};
use super::pin_reader::PinReader;
use super::pin_report::{PinLine, PinReport};
use super::pins::{BranchNames, StoredPin, is_pin_of, list_current};
use super::run::{check_repo_ready, load_context};
use super::transaction::{FileUpdate, HeadMove, PathUpdate, Transaction};
use super::worktree_lock::LockWorktree as _;
use xtask_base::date::Date;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_config::{PINS_FOLDER, Pin, PinHome};
use xtask_git::{
    FileMode, Head, Id, Index, IndexStatus, NewCommit, PathCache, Repo, Tools, TreeEntry,
    WorktreeItem,
};

/// What `pin` or `unpin` is asked to do.
#[derive(Clone, Debug)]
pub enum PinRequest {
    Pin {
        paths: Vec<RepoPath>,
        until: Date,
        /// One line, as `check_reason` returns it.
        reason: String,
        /// The branch whose pins are on the canonical branch.
        branch: Option<String>,
    },
    Unpin {
        paths: Vec<RepoPath>,
        branch: Option<String>,
    },
    /// Remove what has lapsed.
    RemoveLapsed,
}

/// Does what is asked, as one commit on the checked-out branch; in a dry run, only says what would be
/// done. Returns a report without pins if nothing changes.
pub fn change_pins(
    repo: &Repo,
    request: &PinRequest,
    dry_run: bool,
    tools: &Tools<'_>,
) -> Result<PinReport> {
    let lock = if dry_run { None } else { Some(tools.lock_worktree(repo)?) };
    let context = load_context(repo, false)?;
    if !dry_run {
        check_repo_ready(repo, tools)?;
    }
    let now = tools.world.now_seconds();
    let reader = PinReader::new(repo, now);
    let (head, branch, edit) = plan_request(repo, &context, &reader, request, now)?;
    let mut report = PinReport::empty(branch, reader.today());
    report.warnings.clone_from(&context.warnings);
    report.warnings.extend(lock.as_ref().and_then(|(_, recovered)| recovered.clone()));
    report.dry_run = dry_run;
    let lines = |pins: &[StoredPin]| -> Vec<PinLine> {
        pins.iter().map(|stored| PinLine::new(stored, reader.today())).collect()
    };
    (report.pins, report.removed) = (lines(&edit.written), lines(&edit.removed));
    report.warnings.extend(describe_other_name(&context, &reader, &head, &edit));
    let remaining = describe_remaining(&context, &reader, &head, &edit)?;
    report.is_still_covered = !remaining.is_empty();
    report.warnings.extend(remaining);
    if dry_run || edit.is_empty() {
        return Ok(report);
    }
    let purpose = if edit.written.is_empty() { "unpin" } else { "pin" };
    let Some(done) = commit_pin_edit(repo, &head, &edit, purpose, tools)? else {
        return Ok(PinReport { pins: Vec::new(), removed: Vec::new(), ..report });
    };
    report.commit = Some(done.commit.to_string());
    report.undo = done.backup;
    Ok(report)
}

/// Warns if new pins hold another name than that of the upstream: in other clones they do not apply to it.
fn describe_other_name(
    context: &SyncContext,
    reader: &PinReader<'_>,
    head: &Head,
    edit: &PinEdit,
) -> Option<String> {
    let local = head.branch.as_deref()?;
    let upstream = reader.branch_names(context, local).upstream?;
    let new = edit.written.first().filter(|new| new.home == PinHome::Branch)?;
    (new.pin.branch != upstream).then(|| {
        format!(
            "the pin is of `{local}`, and its upstream is `{upstream}`: in other clones it applies once \
             it is pushed as `{local}`"
        )
    })
}

/// Warns if another pin still covers the path of one that ends: of a folder, of a file below it, or on the canonical
/// branch.
fn describe_remaining(
    context: &SyncContext,
    reader: &PinReader<'_>,
    head: &Head,
    edit: &PinEdit,
) -> Result<Vec<String>> {
    let canonical = &context.config.branch;
    let Some(branch) = &head.branch else { return Ok(Vec::new()) };
    let names = (branch != canonical).then(|| reader.branch_names(context, branch));
    let own = reader.read_tree(head.tree, branch)?;
    let own = own.iter().filter(|(_, file)| !edit.files.contains(file));
    let of_canonical = reader.read_tree(context.canonical.tree, canonical)?;
    let others = of_canonical.iter().filter(|_| branch != canonical);
    let stored = |home| {
        move |(pin, file): &(Pin, RepoPath)| StoredPin {
            pin: pin.clone(),
            file: file.clone(),
            home,
        }
    };
    let all = own.map(stored(PinHome::Branch)).chain(others.map(stored(PinHome::Canonical)));
    let left = list_current(all.chain(edit.written.iter().cloned()));
    let mut lines = Vec::new();
    for StoredPin { pin: removed, .. } in &edit.removed {
        let of = names.clone().unwrap_or_else(|| BranchNames::only(&removed.branch));
        let covers = |one: &&StoredPin| {
            one.pin.is_active(reader.today())
                && is_pin_of(&one.pin, Some(&of))
                && (one.pin.covers(&removed.path) || removed.covers(&one.pin.path))
        };
        lines.extend(left.iter().find(covers).map(|one| {
            let (path, other) = (&removed.path, &one.pin.path);
            match one.home {
                PinHome::Canonical => format!("`{path}` remains pinned by a pin on `{canonical}`"),
                PinHome::Branch if removed.covers(other) && path != other => {
                    format!("`{other}` remains pinned")
                }
                PinHome::Branch => format!("`{path}` remains pinned by the pin of `{other}`"),
            }
        }));
    }
    Ok(lines)
}

/// Returns the commit to build on, the branch whose pins change, and their change.
fn plan_request(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
    request: &PinRequest,
    now: i64,
) -> Result<(Head, Option<String>, PinEdit)> {
    let (target, edit) = match request {
        PinRequest::RemoveLapsed => {
            let head = repo.head()?;
            let edit = plan_lapsed(context, reader, &head)?;
            return Ok((head.clone(), head.branch, edit));
        }
        PinRequest::Pin { paths, until, reason, branch } => {
            let target = find_pin_target(repo, context, reader, branch.as_deref())?;
            check_overlay(repo, paths)?;
            let by = repo.author(now)?.name;
            let (paths, until, reason) = (paths.clone(), *until, reason.clone());
            let new = NewPins { paths, until, reason, by, now };
            let edit = plan_pins(repo, context, reader, &target, &new)?;
            (target, edit)
        }
        PinRequest::Unpin { paths, branch } => {
            let target = find_pin_target(repo, context, reader, branch.as_deref())?;
            let edit = plan_unpins(context, reader, &target, paths, now)?;
            (target, edit)
        }
    };
    Ok((target.head, Some(target.branch), edit))
}

/// Refuses paths at which `sync --no-commit` has written files: they are not the content of the branch, and the next
/// commit would take them for it.
fn check_overlay(repo: &Repo, paths: &[RepoPath]) -> Result<()> {
    let overlay = overlay::read_overlay(repo)?;
    let is_asked = |file: &&RepoPath| paths.iter().any(|path| file == &path || file.is_below(path));
    let Some(file) = overlay.paths.keys().find(is_asked) else { return Ok(()) };
    Err(Error::unable(format!(
        "`{file}` was written by `sync --no-commit`: it is not the content of this branch; nothing was changed"
    ))
    .with_hint("`cargo xtask undo` restores the content of the branch; pin it then"))
}

/// A committed change of pins.
#[derive(Clone, Debug)]
pub struct PinCommit {
    pub commit: Id,
    /// Name of the backup for `undo`.
    pub backup: Option<String>,
}

/// Commits `edit` on `head`. Returns `None` if the branch already is so. `purpose` is the command, for
/// `undo`. The caller holds the lock of the worktree, and has checked that it is ready.
///
/// # Errors
/// If one of the files has uncommitted changes, or the committer is unknown.
pub fn commit_pin_edit(
    repo: &Repo,
    head: &Head,
    edit: &PinEdit,
    purpose: &str,
    tools: &Tools<'_>,
) -> Result<Option<PinCommit>> {
    let now = tools.world.now_seconds();
    let (author, committer) = (repo.author(now)?, repo.committer(now)?);
    let failed = |cause| Error::unable("cannot write the commit").with_cause(cause);
    tools.disk.check_gate("write the tree").map_err(failed)?;
    let write = |(file, text): (RepoPath, Option<String>)| {
        let id = text.map(|text| repo.write_blob(text.as_bytes())).transpose()?;
        Ok((file, id.map(|id| TreeEntry { mode: FileMode::File, id })))
    };
    let changes = edit.file_changes().into_iter().map(write).collect::<Result<Vec<_>>>()?;
    let tree = repo.write_tree(Some(head.tree), &changes)?;
    if tree == head.tree {
        return Ok(None);
    }
    let index = repo.read_index()?;
    let updates = plan_files(repo, head, &index, &changes)?;
    tools.disk.check_gate("write the commit").map_err(failed)?;
    let commit = repo.write_commit(&NewCommit {
        tree,
        parents: &[head.commit],
        author: Some(&author),
        committer: &committer,
        message: &edit.message,
    })?;
    let subject = edit.message.lines().next().unwrap_or_default();
    let moves = HeadMove {
        branch: head.branch.clone(),
        old: head.commit,
        new: commit,
        message: format!("xtask: {subject}"),
    };
    tools.disk.check_gate("save what is replaced").map_err(failed)?;
    let saved = backup::save_backup(
        repo,
        &BackupInput {
            purpose,
            head,
            head_move: Some(&moves),
            changes: &updates,
            index: &index,
            overlay: &overlay::read_overlay(repo)?,
            now,
        },
    )?;
    let transaction = Transaction {
        purpose: purpose.to_owned(),
        changes: updates,
        head: Some(moves),
        overlay: None,
        backup: Some(saved),
    };
    let applied = apply::apply_transaction(&tools.apply_context(repo), &transaction, Some(index))?;
    // Pruning can wait for another run.
    drop(backup::prune_backups(repo, now));
    Ok(Some(PinCommit { commit, backup: applied.backup }))
}

/// Plans the files and index entries. A file with changes that are not committed is an error: it would
/// be replaced.
fn plan_files(
    repo: &Repo,
    head: &Head,
    index: &Index,
    changes: &[(RepoPath, Option<TreeEntry>)],
) -> Result<Vec<PathUpdate>> {
    let mut filters = repo.clean_filters(index)?;
    let mut path_cache = PathCache::default();
    let sparse = repo.read_sparse_patterns()?;
    let mut updates = Vec::new();
    for (path, target) in changes {
        let before = repo.entry_at(head.tree, path)?;
        let staged = repo.staged_status(index, path)?;
        let work = repo.read_worktree_item(path, before, &mut path_cache, &mut filters, index)?;
        let is_skipped = match staged {
            IndexStatus::Entry { is_skipped, .. } => is_skipped,
            _ => sparse.as_ref().is_some_and(|patterns| {
                patterns.match_with_folders(path.as_bytes(), false) != Some(true)
            }),
        };
        let is_sparse = is_skipped && work == WorktreeItem::Absent;
        let is_clean = match &work {
            WorktreeItem::Absent => before.is_none() || is_sparse,
            WorktreeItem::Present(file) => Some(file.entry) == before,
            _ => false,
        };
        if !is_clean || staged.entry() != before {
            return Err(Error::unable(format!(
                "`{path}` has changes that are not committed, or something is in its place; nothing \
                 was changed"
            ))
            .with_hint(format!(
                "`git status {PINS_FOLDER}` shows it; commit it or move it aside first"
            )));
        }
        let file = match target {
            _ if is_sparse => FileUpdate::None,
            Some(entry) => FileUpdate::CheckOut(*entry),
            None => FileUpdate::Remove,
        };
        updates.push(PathUpdate {
            path: path.clone(),
            file,
            expected: work.file().map(|file| file.raw),
            expected_stat: None,
            stages: Some(*target),
            is_sparse,
        });
    }
    Ok(updates)
}
