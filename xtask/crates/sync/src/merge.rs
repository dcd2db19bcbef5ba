//! Three-way merges of customised paths.
//!
//! The base is the newest canonical content from which the branch's own content came: going back
//! along the first parents, the first commit that held the path with a content that once was
//! canonical, or that says by our trailer what was merged in: a sync commit, or the user's own that
//! settles a conflict.

use std::path::{Path, PathBuf};

use super::classify::{Class, PathState, classify};
use super::context::Context;
use super::message::SETTLED_TRAILER;
use super::plan::MergeOutcome;
use super::upstream::source_of;
use std::collections::BTreeMap;
use xtask_base::error::{Context as _, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_git::{
    Entry, Head, Known, MergeAs, MergeRules, Merged, Mode, OnceCanonical, Repo, three_way,
};

/// What merging came to: the outcomes, and the texts with markers for what conflicts.
#[derive(Debug, Default)]
pub struct Merges {
    /// By path.
    pub outcomes: BTreeMap<RepoPath, MergeOutcome>,
    /// The merged texts of conflicts.
    pub marked: BTreeMap<RepoPath, Vec<u8>>,
    /// The merged texts that have no object yet, by the entry that they will have.
    pub contents: Vec<(Entry, Vec<u8>)>,
}

/// Merges every customised path among `states`. Nothing is written, not even an object.
pub fn attempt(
    repo: &Repo,
    head: &Head,
    context: &Context,
    once: &OnceCanonical,
    states: &[PathState],
) -> Result<Merges> {
    let mut merges = Merges::default();
    let is_to_do = |state: &&PathState| {
        let verdict = classify(state);
        verdict.class == Class::Customised && verdict.is_writable
    };
    let chosen: Vec<&PathState> = states.iter().filter(is_to_do).collect();
    if repo.is_partial() {
        let mut wanted = Vec::new();
        for state in &chosen {
            let base = base_of(repo, head, context, once, &state.path)?;
            let all = [base, state.head, state.canonical].into_iter().flatten();
            let all = all.filter(|_| base != state.canonical && state.canonical.is_some());
            wanted.extend(all.map(|entry| (entry.id, state.path.to_string())));
        }
        repo.bring(wanted)?;
    }
    let mut rules = repo.merge_rules(&repo.index()?)?;
    for state in chosen {
        let outcome = one(repo, head, context, once, state, &mut merges, &mut rules)?;
        merges.outcomes.insert(state.path.clone(), outcome);
    }
    Ok(merges)
}

fn one(
    repo: &Repo,
    head: &Head,
    context: &Context,
    once: &OnceCanonical,
    state: &PathState,
    merges: &mut Merges,
    rules: &mut MergeRules<'_>,
) -> Result<MergeOutcome> {
    let base = base_of(repo, head, context, once, &state.path)?;
    let (ours, theirs) = match (state.head, state.canonical) {
        _ if state.canonical == base => return Ok(MergeOutcome::NothingNew),
        (Some(ours), Some(theirs)) => (ours, theirs),
        _ => return Ok(MergeOutcome::RemovedOnOneSide),
    };
    let is_file = |entry: Entry| matches!(entry.mode, Mode::File | Mode::Executable);
    if !is_file(ours) || !is_file(theirs) || !base.is_none_or(is_file) {
        return Ok(MergeOutcome::NotText);
    }
    // The executable bit merges like a line of its own.
    let base_mode = base.map_or(theirs.mode, |base| base.mode);
    let mode = if ours.mode == base_mode { theirs.mode } else { ours.mode };
    let base_text = base.map_or(Ok(Vec::new()), |base| repo.blob(base.id))?;
    let labels = ("this branch", &context.config.branch[..]);
    let how = rules.of(&state.path)?;
    match three_way(&base_text, &repo.blob(ours.id)?, &repo.blob(theirs.id)?, labels, &how) {
        Merged::Binary => Ok(match how {
            MergeAs::Nothing => MergeOutcome::NotMerged,
            MergeAs::Driver(name) => MergeOutcome::HasDriver(name),
            MergeAs::Text | MergeAs::Union => MergeOutcome::NotText,
        }),
        Merged::Conflict(text) => {
            merges.marked.insert(state.path.clone(), text);
            Ok(MergeOutcome::Conflict)
        }
        Merged::Clean(text) => {
            let merged = Entry { mode, id: repo.blob_id(&text)? };
            if merged == ours {
                return Ok(MergeOutcome::NothingNew);
            }
            merges.contents.push((merged, text));
            Ok(MergeOutcome::Merged(merged))
        }
    }
}

/// The newest canonical content from which what a branch has at a path came.
pub fn base_of(
    repo: &Repo,
    head: &Head,
    context: &Context,
    once: &OnceCanonical,
    path: &RepoPath,
) -> Result<Option<Entry>> {
    let base = repo.merge_base(head.commit, context.canonical.commit)?;
    for id in repo.between(base, head.commit, true)? {
        let commit = repo.commit(id)?;
        let held = repo.entry_at(commit.tree, path)?;
        if let Some(entry) = held.filter(|entry| once.knows(path, *entry) == Known::Once) {
            return Ok(Some(entry));
        }
        let Some(parent) = commit.parents.first() else { continue };
        let before = repo.entry_at(repo.commit(*parent)?.tree, path)?;
        // Who has settled a conflict for what was there has changed nothing, and says so.
        let is_settled = commit.trailers(SETTLED_TRAILER).any(|name| *name == path.to_string());
        if (before != held || is_settled)
            && let Some(source) = source_of(&commit)
            && let Ok(source) = repo.commit(source)
        {
            return repo.entry_at(source.tree, path);
        }
    }
    match base {
        Some(base) => repo.entry_at(repo.commit(base)?.tree, path),
        None => Ok(None),
    }
}

/// Where the merged text of a conflict is put for the user to look at.
#[must_use]
pub fn marked_file(repo: &Repo, path: &RepoPath) -> PathBuf {
    path.on_disk(&repo.state_folder().join("merge"))
}

/// Writes the merged texts of conflicts where the user can look at them; those of an earlier run go.
pub fn write_marked(repo: &Repo, disk: &Disk<'_>, merges: &Merges) -> Result<()> {
    let above = repo.state_folder().join("merge");
    let failed = || format!("`{}` cannot be renewed", above.display());
    disk.remove_folder(&above).unable(failed)?;
    for (path, text) in &merges.marked {
        let file = marked_file(repo, path);
        write(disk, &file, text)?;
    }
    Ok(())
}

fn write(disk: &Disk<'_>, file: &Path, text: &[u8]) -> Result<()> {
    disk.write_whole(file, text).unable(|| format!("`{}` cannot be written", file.display()))
}
