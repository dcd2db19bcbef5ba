//! Source branch of changes, and the commits named on the command line. For example,
//! `feature~3..feature` with `feature` known only as `origin/feature`.

use std::collections::BTreeSet;

use super::cherry_pick::{PathChange, list_changes_between};
use super::cherry_pick_range::CherryPickItem;
use super::commit_messages::{BRANCH_TRAILER, COMMIT_TRAILER};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::join_names;
use xtask_git::{CommitInfo, FileMode, Head, Id, PathScope, Repo, Revision, unsafe_path_reason};
use xtask_sync::context::SyncContext;
use xtask_sync::managed::ManagedPaths;
use xtask_sync::pin_reader::PinReader;
use xtask_sync::pins::BranchPins;
use xtask_sync::upstream::is_sync_commit;

/// A branch that changes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceBranch {
    /// Name without `refs/heads/` or the remote.
    pub name: String,
    /// Tip of the local or the last fetched remote branch, whichever is newer.
    pub tip: Id,
    /// Tip of the remote branch, if the two have diverged.
    pub diverged_tip: Option<Id>,
}

/// Finds a branch by name, locally or at the remote of the canonical branch.
pub fn find_source_branch(repo: &Repo, context: &SyncContext, name: &str) -> Result<SourceBranch> {
    let config = &context.config;
    let short = name.strip_prefix("refs/heads/").unwrap_or(name);
    if !repo.is_branch_name(short) || short == "HEAD" {
        return Err(Error::usage(format!("invalid branch name `{name}`"))
            .with_hint("`git branch -a` lists them"));
    }
    let prefix = format!("{}/", config.remote);
    let at = |name: &str| -> Result<(Option<Id>, Option<Id>)> {
        let tracked = repo.resolve_ref(&format!("refs/remotes/{prefix}{name}"))?;
        Ok((repo.resolve_ref(&format!("refs/heads/{name}"))?, tracked))
    };
    let (mut name, mut found) = (short, at(short)?);
    if found == (None, None)
        && let Some(rest) = short.strip_prefix(&prefix)
    {
        (name, found) = (rest, at(rest)?);
    }
    if name == config.branch {
        return Err(Error::usage(format!("`{name}` is the canonical branch itself"))
            .with_hint("name the branch from which the change comes"));
    }
    let name = name.to_owned();
    match found {
        (None, None) => Err(Error::usage(format!("no such branch: `{name}`")).with_hint(format!(
            "`git branch -a` lists them; `git fetch {}` fetches new ones",
            config.remote
        ))),
        (Some(tip), None) | (None, Some(tip)) => Ok(SourceBranch { name, tip, diverged_tip: None }),
        (Some(here), Some(there)) if repo.is_ancestor(there, here)? => {
            Ok(SourceBranch { name, tip: here, diverged_tip: None })
        }
        (Some(here), Some(there)) if repo.is_ancestor(here, there)? => {
            Ok(SourceBranch { name, tip: there, diverged_tip: None })
        }
        (Some(here), Some(there)) => {
            Ok(SourceBranch { name, tip: here, diverged_tip: Some(there) })
        }
    }
}

/// A commit to pick, with its managed changes.
#[derive(Clone, Debug)]
pub struct SelectedCommit {
    pub commit: CommitInfo,
    /// Parent to compare with; `None` for a root commit.
    pub parent: Option<Id>,
    pub changes: Vec<PathChange>,
    /// Changed paths that are not managed.
    pub left_out: BTreeSet<RepoPath>,
    /// Changed managed paths that the source branch has pinned, and so keeps to itself.
    pub pinned: Vec<RepoPath>,
}

impl SelectedCommit {
    /// Builds the item to pick, with the trailers of its origin.
    #[must_use]
    pub fn to_item(&self, repo: &Repo, source: &str) -> CherryPickItem {
        CherryPickItem {
            commit: self.commit.id,
            changes: self.changes.clone(),
            trailers: vec![
                (BRANCH_TRAILER, source.to_owned()),
                (COMMIT_TRAILER, self.commit.id.to_string()),
            ],
            label: format!("{} of {source}", repo.short_id(self.commit.id)),
        }
    }
}

/// Returns a filter for paths that may go to the canonical branch: managed, and not excluded by a
/// branch exception.
pub fn managed_path_filter<'a>(managed: &'a ManagedPaths) -> impl Fn(&RepoPath) -> bool + 'a {
    |path| managed.contains_path(path.as_bytes()) && !managed.is_kept_by_branch(path)
}

/// Reads the pins of a source branch. `now` is in seconds since the epoch.
pub fn read_source_pins(
    repo: &Repo,
    context: &SyncContext,
    source: &SourceBranch,
    now: i64,
) -> Result<BranchPins> {
    let tree = repo.tree_of(source.tip)?;
    let head = Head { branch: Some(source.name.clone()), commit: source.tip, tree };
    PinReader::new(repo, now).read_branch(context, &head)
}

/// Removes the changes of pinned paths and returns their paths.
pub fn take_pinned(changes: &mut Vec<PathChange>, pins: &BranchPins) -> Vec<RepoPath> {
    let is_pinned = |change: &mut PathChange| pins.find(&change.path).is_some();
    changes.extract_if(.., is_pinned).map(|change| change.path).collect()
}

/// Resolves the commits in `words`, each once and oldest first within a range. All errors are
/// reported together.
pub fn resolve_commits(
    repo: &Repo,
    context: &SyncContext,
    source: &SourceBranch,
    words: &[String],
    mainline: Option<usize>,
    pins: &BranchPins,
) -> Result<Vec<SelectedCommit>> {
    let managed = ManagedPaths::new(&context.config, Some(&source.name));
    let mut pinned = BTreeSet::new();
    let (mut picks, mut faults, mut seen) =
        (Vec::<SelectedCommit>::new(), Vec::new(), BTreeSet::new());
    for word in words {
        let (ids, is_range) = match resolve_revision(repo, &substitute_source_id(word, source)) {
            Ok(Revision::Commit(id)) => (vec![id], false),
            Ok(Revision::Range { from, to }) => {
                let mut ids = repo.commits_between(Some(from), to, mainline.is_some())?;
                ids.reverse();
                if ids.is_empty() {
                    faults.push(format!("`{word}` names no commit: the range is empty"));
                }
                (ids, true)
            }
            Err(fault) => {
                faults.push(fault.message().to_owned());
                continue;
            }
        };
        for id in ids {
            if !seen.insert(id) {
                continue;
            }
            if is_range && mainline.is_none() && is_empty_merge(repo, &managed, id)? {
                continue;
            }
            let mut resolved = resolve_commit(repo, context, source, &managed, id, mainline);
            if let Ok(Some(pick)) = &mut resolved {
                pick.pinned = take_pinned(&mut pick.changes, pins);
                pinned.extend(pick.pinned.iter().map(ToString::to_string));
            }
            match resolved {
                Ok(Some(pick)) if pick.changes.is_empty() && !is_range => {
                    faults.push(describe_empty_pick(repo, source, &pick));
                }
                Ok(Some(pick)) if pick.changes.is_empty() => {}
                Ok(Some(pick)) => picks.push(pick),
                Ok(None) if is_range => {}
                Ok(None) => faults.push(format!(
                    "{} is a sync commit: its content is canonical already",
                    repo.short_id(id)
                )),
                Err(fault) => faults.push(fault.message().to_owned()),
            }
        }
    }
    if faults.is_empty() && picks.is_empty() {
        faults.push(match pinned.is_empty() {
            true => "none of these commits changes a managed file".to_owned(),
            false => format!("these commits change only what `{}` has pinned", source.name),
        });
    }
    if faults.is_empty() {
        return Ok(picks);
    }
    let pinned: Vec<String> = pinned.into_iter().filter(|_| picks.is_empty()).collect();
    Err(selection_error(source, &faults, &pinned))
}

/// Describes a named commit of which nothing is left to pick.
fn describe_empty_pick(repo: &Repo, source: &SourceBranch, pick: &SelectedCommit) -> String {
    let (id, subject) = (repo.short_id(pick.commit.id), pick.commit.subject());
    match pick.pinned.is_empty() {
        true => format!("{id} `{subject}` changes no managed file"),
        false => format!("{id} `{subject}` changes only what `{}` has pinned", source.name),
    }
}

/// Builds the error for commits that cannot be picked. `pinned` are the paths that are left out.
fn selection_error(source: &SourceBranch, faults: &[String], pinned: &[String]) -> Error {
    let name = &source.name;
    match faults {
        [one] if !pinned.is_empty() => Error::usage(format!("{one}; nothing was changed"))
            .with_hint(format!(
                "pinned: {}; `cargo xtask unpin PATH` on `{name}` ends a pin",
                join_names(pinned, 5)
            )),
        [one] => Error::usage(format!("{one}; nothing was changed"))
            .with_hint(format!("`git log --oneline {name}` lists its commits")),
        several => several.iter().cloned().fold(
            Error::usage("cannot pick these commits; nothing was changed"),
            Error::with_detail,
        ),
    }
}

/// Replaces the name of the source branch by its id: the branch may exist only at the remote, and
/// other refs of the same name must not be picked up.
fn substitute_source_id(word: &str, source: &SourceBranch) -> String {
    let one = |side: &str| match side.strip_prefix(source.name.as_str()) {
        Some(rest) if rest.is_empty() || rest.starts_with(['~', '^']) => {
            format!("{}{rest}", source.tip)
        }
        _ => side.to_owned(),
    };
    match word.split_once("..") {
        Some((from, to)) if !to.starts_with('.') => format!("{}..{}", one(from), one(to)),
        _ => one(word),
    }
}

/// Resolves a revision. A name that is both a branch and a tag is an error, since git would prefer
/// the tag.
fn resolve_revision(repo: &Repo, word: &str) -> Result<Revision> {
    let at = |kind: &str| repo.resolve_ref(&format!("refs/{kind}/{word}"));
    if repo.is_branch_name(word)
        && let (Some(branch), Some(tag)) = (at("heads")?, at("tags")?)
        && branch != tag
    {
        return Err(Error::usage(format!(
            "`{word}` is ambiguous: use `heads/{word}` for the branch or `tags/{word}` for the tag"
        )));
    }
    repo.parse_revision(word)
}

/// Returns whether a commit is a merge that leaves the managed files as in one of its parents.
fn is_empty_merge(repo: &Repo, managed: &ManagedPaths, id: Id) -> Result<bool> {
    let commit = repo.read_commit(id)?;
    if commit.parents.len() < 2 {
        return Ok(false);
    }
    for parent in commit.parents {
        let before = repo.has_object(parent).then(|| repo.tree_of(parent)).transpose()?;
        if before.is_some() && repo.compare_trees(before, Some(commit.tree), managed)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Resolves one commit. Returns `None` for a sync commit.
fn resolve_commit(
    repo: &Repo,
    context: &SyncContext,
    source: &SourceBranch,
    managed: &ManagedPaths,
    id: Id,
    mainline: Option<usize>,
) -> Result<Option<SelectedCommit>> {
    let commit = repo.read_commit(id)?;
    let name = format!("{} `{}`", repo.short_id(id), commit.subject());
    let mut is_there = repo.is_ancestor(id, source.tip)?;
    if let Some(other) = source.diverged_tip {
        is_there |= repo.is_ancestor(id, other)?;
    }
    if !is_there {
        return Err(Error::usage(format!("{name} is not on `{}`", source.name)));
    }
    if is_sync_commit(&commit, &context.config.identity) {
        return Ok(None);
    }
    let parent = match (commit.parents.as_slice(), mainline) {
        ([], _) => None,
        ([one], None | Some(1)) => Some(*one),
        ([_], Some(number)) => {
            return Err(Error::usage(format!("{name} has one parent, not {number}")));
        }
        (parents, Some(number)) => match parents.get(number.wrapping_sub(1)) {
            Some(parent) => Some(*parent),
            None => {
                let many = parents.len();
                return Err(Error::usage(format!("{name} has {many} parents, not {number}")));
            }
        },
        (_, None) => {
            return Err(Error::usage(format!(
                "{name} is a merge; `--mainline 1` takes what it brought into the branch"
            )));
        }
    };
    let old = match parent {
        Some(parent) if repo.has_object(parent) => Some(repo.tree_of(parent)?),
        Some(_) => {
            return Err(Error::unable(format!(
                "the parent of {name} is missing: shallow clone (`git fetch --unshallow`)"
            )));
        }
        None => None,
    };
    let (changes, left_out) =
        list_changes_between(repo, old, commit.tree, &managed_path_filter(managed))?;
    check_path_names(&changes)?;
    Ok(Some(SelectedCommit { commit, parent, changes, left_out, pinned: Vec::new() }))
}

/// Refuses paths that must never be on the canonical branch: unsafe names and submodules.
pub fn check_path_names(changes: &[PathChange]) -> Result<()> {
    for change in changes {
        if let Some(why) = unsafe_path_reason(&change.path) {
            return Err(Error::usage(format!("cannot pick `{}`: {why}", change.path)));
        }
        let is_submodule = [change.old, change.new]
            .into_iter()
            .flatten()
            .any(|entry| entry.mode == FileMode::Gitlink);
        if is_submodule {
            return Err(Error::usage(format!(
                "`{}` is a submodule; submodules are not managed",
                change.path
            )));
        }
    }
    Ok(())
}
