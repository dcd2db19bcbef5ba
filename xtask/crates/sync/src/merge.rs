//! Three-way merges of customised paths (`sync --merge`).
//!
//! The merge base of a path is the newest canonical content that the branch's version came from:
//! back along the first parents, the first commit with a content that once was canonical, or with a
//! trailer that names the merged canonical commit (a sync commit, or a user's commit that resolves
//! a conflict). For example, for `setup/a` changed on the branch after the sync from `4f1c…`, the
//! base is `4f1c…:setup/a`.

use std::path::{Path, PathBuf};

use super::classify::{PathClass, PathState, classify_path};
use super::commit_message::SETTLED_TRAILER;
use super::context::SyncContext;
use super::plan::MergeOutcome;
use super::upstream::parse_source_trailer;
use std::collections::BTreeMap;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_git::{
    CanonicalHistory, EverCanonical, FileMode, Head, MergeAttributes, MergeDriver, Repo, TextMerge,
    TreeEntry, merge_three_way,
};

/// Results of merging.
#[derive(Debug, Default)]
pub struct MergeResults {
    pub outcomes: BTreeMap<RepoPath, MergeOutcome>,
    /// Texts with conflict markers.
    pub conflict_texts: BTreeMap<RepoPath, Vec<u8>>,
    /// Merged texts without an object yet, each with its future entry.
    pub merged_texts: Vec<(TreeEntry, Vec<u8>)>,
}

/// Merges every customised path among `states`. No file or object is written.
pub fn merge_customised(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    once: &CanonicalHistory,
    states: &[PathState],
) -> Result<MergeResults> {
    let mut merges = MergeResults::default();
    let is_to_do = |state: &&PathState| {
        let verdict = classify_path(state);
        verdict.class == PathClass::Customised && verdict.is_writable
    };
    let chosen: Vec<&PathState> = states.iter().filter(is_to_do).collect();
    if repo.is_partial() {
        let mut wanted = Vec::new();
        for state in &chosen {
            let base = find_base_entry(repo, head, context, once, &state.path)?;
            let all = [base, state.head, state.canonical].into_iter().flatten();
            let all = all.filter(|_| base != state.canonical && state.canonical.is_some());
            wanted.extend(all.map(|entry| (entry.id, state.path.to_string())));
        }
        repo.fetch_objects(wanted)?;
    }
    let mut rules = repo.merge_attributes(&repo.read_index()?)?;
    for state in chosen {
        let outcome = merge_path(repo, head, context, once, state, &mut merges, &mut rules)?;
        merges.outcomes.insert(state.path.clone(), outcome);
    }
    Ok(merges)
}

fn merge_path(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    once: &CanonicalHistory,
    state: &PathState,
    merges: &mut MergeResults,
    rules: &mut MergeAttributes<'_>,
) -> Result<MergeOutcome> {
    let base = find_base_entry(repo, head, context, once, &state.path)?;
    let (ours, theirs) = match (state.head, state.canonical) {
        _ if state.canonical == base => return Ok(MergeOutcome::NothingNew),
        (Some(ours), Some(theirs)) => (ours, theirs),
        _ => return Ok(MergeOutcome::RemovedOnOneSide),
    };
    let is_file = |entry: TreeEntry| matches!(entry.mode, FileMode::File | FileMode::Executable);
    if !is_file(ours) || !is_file(theirs) || !base.is_none_or(is_file) {
        return Ok(MergeOutcome::NotText);
    }
    // The executable bit merges like one more line.
    let base_mode = base.map_or(theirs.mode, |base| base.mode);
    let mode = if ours.mode == base_mode { theirs.mode } else { ours.mode };
    let base_text = base.map_or(Ok(Vec::new()), |base| repo.read_blob(base.id))?;
    let labels = ("this branch", &context.config.branch[..]);
    let how = rules.driver_of(&state.path)?;
    match merge_three_way(
        &base_text,
        &repo.read_blob(ours.id)?,
        &repo.read_blob(theirs.id)?,
        labels,
        &how,
    ) {
        TextMerge::Binary => Ok(match how {
            MergeDriver::Binary => MergeOutcome::NotMerged,
            MergeDriver::Custom(name) => MergeOutcome::HasDriver(name),
            MergeDriver::Text | MergeDriver::Union => MergeOutcome::NotText,
        }),
        TextMerge::Conflict(text) => {
            merges.conflict_texts.insert(state.path.clone(), text);
            Ok(MergeOutcome::Conflict)
        }
        TextMerge::Clean(text) => {
            let merged = TreeEntry { mode, id: repo.blob_id(&text)? };
            if merged == ours {
                return Ok(MergeOutcome::NothingNew);
            }
            merges.merged_texts.push((merged, text));
            Ok(MergeOutcome::Merged(merged))
        }
    }
}

/// Returns the merge base of `path`: the canonical entry that the branch's version came from.
pub fn find_base_entry(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    once: &CanonicalHistory,
    path: &RepoPath,
) -> Result<Option<TreeEntry>> {
    let base = repo.merge_base(head.commit, context.canonical.commit)?;
    for id in repo.commits_between(base, head.commit, true)? {
        let commit = repo.read_commit(id)?;
        let held = repo.entry_at(commit.tree, path)?;
        if let Some(entry) =
            held.filter(|entry| once.was_canonical(path, *entry) == EverCanonical::Once)
        {
            return Ok(Some(entry));
        }
        let Some(parent) = commit.parents.first() else { continue };
        let before = repo.entry_at(repo.read_commit(*parent)?.tree, path)?;
        // A commit that resolves a conflict in favour of the branch changes no file; its trailer
        // says so.
        let is_settled = commit.trailers(SETTLED_TRAILER).any(|name| *name == path.to_string());
        if (before != held || is_settled)
            && let Some(source) = parse_source_trailer(&commit)
            && let Ok(source) = repo.read_commit(source)
        {
            return repo.entry_at(source.tree, path);
        }
    }
    match base {
        Some(base) => repo.entry_at(repo.read_commit(base)?.tree, path),
        None => Ok(None),
    }
}

/// Returns the path of the text with conflict markers, for the user to read.
#[must_use]
pub fn conflict_text_path(repo: &Repo, path: &RepoPath) -> PathBuf {
    path.to_disk_path(&repo.state_folder().join("merge"))
}

/// Writes the texts with conflict markers for the user to read and removes those of an earlier run.
pub fn write_conflict_texts(repo: &Repo, disk: &Disk<'_>, merges: &MergeResults) -> Result<()> {
    let above = repo.state_folder().join("merge");
    let failed = || format!("cannot replace `{}`", above.display());
    disk.remove_folder(&above).with_context(failed)?;
    for (path, text) in &merges.conflict_texts {
        let file = conflict_text_path(repo, path);
        write_text_file(disk, &file, text)?;
    }
    Ok(())
}

fn write_text_file(disk: &Disk<'_>, file: &Path, text: &[u8]) -> Result<()> {
    disk.write_atomically(file, text).with_context(|| format!("cannot write `{}`", file.display()))
}
