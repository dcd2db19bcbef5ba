//! `pin` and `unpin` from their options to their report, and the commit of a change of pins: the files of
//! pins alone, as one transaction of branch, index and files. Whatever else is staged, changed or untracked
//! stays byte for byte, no hook runs, and `undo` restores what was before. The author is the user.

use std::collections::BTreeSet;

use super::apply;
use super::backup::{self, BackupInput};
use super::context::SyncContext;
use super::overlay::{self, OverlayFile};
use super::pin_edit::{
    NewPins, PinEdit, PinTarget, find_pin_target, plan_lapsed, plan_pins, plan_unpins,
};
use super::pin_reader::PinReader;
use super::pin_report::{PinLine, PinReport};
use super::pins::{StoredPin, is_pin_of, list_current};
use super::run::{check_repo_ready, load_context};
use super::transaction::{FileUpdate, HeadMove, PathUpdate, Transaction};
use super::worktree_lock::LockWorktree as _;
use xtask_base::date::Date;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_config::{PINS_FOLDER, PinHome};
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
    // A dry run refuses what the command would.
    check_repo_ready(repo, tools)?;
    let now = tools.world.now_seconds();
    let reader = PinReader::new(repo, now);
    let (head, target, edit) = plan_request(repo, &context, &reader, request, now)?;
    let branch = target.as_ref().map(|target| target.branch.clone()).or(head.branch.clone());
    let mut report = PinReport::empty(branch, reader.today());
    report.warnings.clone_from(&context.warnings);
    report.warnings.extend(lock.as_ref().and_then(|(_, recovered)| recovered.clone()));
    report.dry_run = dry_run;
    let lines = |pins: &[StoredPin]| -> Vec<PinLine> {
        pins.iter().map(|stored| PinLine::new(stored, reader.today())).collect()
    };
    (report.pins, report.removed) = (lines(&edit.written), lines(&edit.removed));
    report.warnings.extend(describe_other_name(&context, &reader, &head, &edit));
    let remaining = describe_remaining(&context, &reader, &head, target.as_ref(), &edit)?;
    report.is_still_covered = !edit.removed.is_empty() && !remaining.is_empty();
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
    // The pin is committed: what cannot be told of the upstream is no failure of that.
    let push = |name: &String| reader.describe_push(&context, name, done.commit).ok()?;
    report.push = head.branch.as_ref().and_then(push);
    Ok(report)
}

/// Warns if what is written holds another name than that of the upstream: in other clones it says nothing about it.
fn describe_other_name(
    context: &SyncContext,
    reader: &PinReader<'_>,
    head: &Head,
    edit: &PinEdit,
) -> Option<String> {
    let local = head.branch.as_deref()?;
    let upstream = reader.branch_names(context, local).upstream?;
    let new = edit.written.iter().chain(&edit.ended).find(|new| new.home == PinHome::Branch)?;
    if new.pin.branch == upstream {
        return None;
    }
    if !new.pin.ended {
        return Some(format!(
            "the pin is of `{local}`, and its upstream is `{upstream}`: in other clones it applies once \
             it is pushed as `{local}`"
        ));
    }
    let is_there = edit.removed.iter().any(|one| one.pin.branch == upstream);
    is_there.then(|| {
        format!("the pin ends for `{local}`; on `{upstream}`, its upstream, it stays until it is ended there")
    })
}

/// Warns if another pin still covers the path of one that ends: of a folder, of a file below it, on the canonical
/// branch, or on the branch that one on the canonical branch was of.
fn describe_remaining(
    context: &SyncContext,
    reader: &PinReader<'_>,
    head: &Head,
    target: Option<&PinTarget>,
    edit: &PinEdit,
) -> Result<Vec<String>> {
    let canonical = &context.config.branch;
    let Some(branch) = &head.branch else { return Ok(Vec::new()) };
    let is_canonical = branch == canonical;
    let (names, mut all) = match target {
        Some(target) if is_canonical => {
            let names = Some(target.names.clone());
            let own = reader.read_tree(target.tree, &target.branch);
            let own = own.map(|own| StoredPin::list(&own, PinHome::Branch).collect::<Vec<_>>());
            // A malformed file there is reported by whatever reads that branch.
            let own = if context.is_protected(&target.branch) {
                Vec::new()
            } else {
                own.unwrap_or_default()
            };
            let of_canonical = reader.read_tree(head.tree, canonical)?;
            (names, StoredPin::list(&of_canonical, PinHome::Canonical).chain(own).collect())
        }
        _ if is_canonical => {
            let all = reader.read_tree(head.tree, canonical)?;
            (None, StoredPin::list(&all, PinHome::Canonical).collect())
        }
        _ => reader.read_statements(context, head)?,
    };
    let own_home = if is_canonical { PinHome::Canonical } else { PinHome::Branch };
    all.retain(|one| one.home != own_home || !edit.files.contains(&one.file));
    all.extend(edit.written.iter().chain(&edit.ended).cloned());
    all.retain(|one| is_pin_of(&one.pin, names.as_ref()));
    let left = list_current(all, names.as_ref());
    let mut lines = Vec::new();
    for StoredPin { pin: removed, .. } in &edit.removed {
        let covers = |one: &&StoredPin| {
            one.pin.is_active(reader.today())
                && (names.is_some() || one.pin.branch == removed.branch)
                && (one.pin.covers(&removed.path) || removed.covers(&one.pin.path))
        };
        lines.extend(left.iter().find(covers).map(|one| {
            let (path, other) = (&removed.path, &one.pin.path);
            match one.home {
                PinHome::Canonical if !is_canonical => {
                    format!("`{path}` remains pinned by a pin on `{canonical}`")
                }
                PinHome::Branch if is_canonical => {
                    let of = &one.pin.branch;
                    format!(
                        "`{path}` remains pinned by a pin in a commit of `{of}`: end it there, too"
                    )
                }
                _ if removed.covers(other) && path != other => format!("`{other}` remains pinned"),
                _ => format!("`{path}` remains pinned by the pin of `{other}`"),
            }
        }));
    }
    for StoredPin { pin: new, .. } in &edit.written {
        let longest = left
            .iter()
            .filter(|one| one.pin.is_active(reader.today()) && one.pin.covers(&new.path))
            .filter(|one| names.is_some() || one.pin.branch == new.branch)
            .max_by_key(|one| one.pin.until);
        lines.extend(longest.filter(|one| one.pin.until > new.until).map(|one| {
            let (path, other, until) = (&new.path, &one.pin.path, one.pin.until);
            format!("`{path}` is pinned until {until} all the same, by the pin of `{other}`")
        }));
    }
    Ok(lines)
}

/// Returns the commit to build on, the branch whose pins change if it is one, and their change.
fn plan_request(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
    request: &PinRequest,
    now: i64,
) -> Result<(Head, Option<PinTarget>, PinEdit)> {
    let (target, edit) = match request {
        PinRequest::RemoveLapsed => {
            let head = repo.head()?;
            let edit = plan_lapsed(repo, context, reader, &head, now)?;
            return Ok((head, None, edit));
        }
        PinRequest::Pin { paths, until, reason, branch } => {
            let target = find_pin_target(repo, context, reader, "pin", branch.as_deref())?;
            check_overlay(repo, &target.head, paths)?;
            let by = repo.author(now)?.name;
            let (paths, until, reason) = (paths.clone(), *until, reason.clone());
            let new = NewPins { paths, until, reason, by, now };
            let edit = plan_pins(repo, context, reader, &target, &new)?;
            (target, edit)
        }
        PinRequest::Unpin { paths, branch } => {
            let target = find_pin_target(repo, context, reader, "unpin", branch.as_deref())?;
            let edit = plan_unpins(context, reader, &target, paths, now)?;
            (target, edit)
        }
    };
    Ok((target.head.clone(), Some(target), edit))
}

/// Refuses paths at which `sync --no-commit` has written files: they are not the content of the branch, and the next
/// commit would take them for it.
fn check_overlay(repo: &Repo, head: &Head, paths: &[RepoPath]) -> Result<()> {
    let overlay = overlay::read_overlay(repo)?;
    if overlay.paths.is_empty() {
        return Ok(());
    }
    let index = repo.read_index()?;
    let mut filters = repo.clean_filters(&index)?;
    let mut path_cache = PathCache::default();
    let mut is_laid = |file: &RepoPath, laid: &OverlayFile| -> Result<bool> {
        if !paths.iter().any(|path| file == path || file.is_below(path)) {
            return Ok(false);
        }
        let committed = repo.entry_at(head.tree, file)?;
        let work =
            repo.read_worktree_item(file, committed, &mut path_cache, &mut filters, &index)?;
        let found = work.file();
        // Somebody may have written or committed it since, or wants it there.
        let is_there = !laid.is_over_pin && laid.has_written_content(found);
        Ok(is_there && found.map(|found| found.entry) != committed)
    };
    let mut laid = None;
    for (file, one) in &overlay.paths {
        if is_laid(file, one)? {
            laid = Some(file);
            break;
        }
    }
    let Some(file) = laid else { return Ok(()) };
    Err(Error::unable(format!(
        "`{file}` was written by `sync --no-commit`: it is not the content of this branch; nothing was changed"
    ))
    .with_hint(format!(
        "`cargo xtask undo` takes that back, or `git restore --staged --worktree -- {}` for a file that the \
         branch has; pin it then",
        file.quote_as_pathspec()
    )))
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
    let index = repo.read_index()?;
    check_filters(repo, &index, edit)?;
    let changes = edit.file_changes().into_iter().map(write).collect::<Result<Vec<_>>>()?;
    let tree = repo.write_tree(Some(head.tree), &changes)?;
    if tree == head.tree {
        return Ok(None);
    }
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
            over_pins: &BTreeSet::new(),
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

/// Refuses pins that would be stored in another form than they are read in: by a filter of `.gitattributes`, such as
/// that of Git LFS, git would take each file for changed.
fn check_filters(repo: &Repo, index: &Index, edit: &PinEdit) -> Result<()> {
    let Some((file, text)) =
        edit.file_changes().into_iter().find_map(|(file, text)| text.map(|text| (file, text)))
    else {
        return Ok(());
    };
    let store = |text: &str| {
        let shown = repo.smudge_filters(index)?.smudge(&file, text.as_bytes())?;
        repo.clean_filters(index)?.clean(&file, shown, index)
    };
    let refused = Error::unable(format!(
        "a filter of `.gitattributes` changes what is in `{PINS_FOLDER}/`; nothing was changed"
    ));
    let refused = match store(&text) {
        Ok(stored) if stored == text.as_bytes() => return Ok(()),
        Ok(_) => refused,
        Err(fault) => refused.with_detail(fault.message().to_owned()),
    };
    Err(refused.with_hint(format!(
        "`{PINS_FOLDER}/*.toml -filter !working-tree-encoding` at the end of `.gitattributes` exempts it; \
         commit that first"
    )))
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
            let typed = path.quote_as_pathspec();
            return Err(match (&work, before) {
                (WorktreeItem::Absent, Some(_)) => Error::unable(format!(
                    "`{path}` was removed, which is not committed; nothing was changed"
                ))
                .with_hint(format!("`git restore --staged --worktree -- {typed}` brings it back"))
                .with_hint("`cargo xtask unpin` ends a pin, for other clones as well"),
                _ => Error::unable(format!(
                    "`{path}` has changes that are not committed, or something is in its place; \
                     nothing was changed"
                ))
                .with_hint(format!(
                    "`git diff HEAD -- {typed}` shows them; commit it or move it aside first"
                )),
            });
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
