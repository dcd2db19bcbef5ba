//! Cherry-pick of path changes onto a tree, as one three-way merge per path. For example:
//!
//! ```text
//! setup/a  old 3b18…  new 77aa…  onto 3b18…  -> 77aa…
//! setup/b  old 3b18…  new 77aa…  onto c0de…  -> merged text, or ConflictKind::Lines
//! ```

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_git::{
    AllPaths, FileMode, Id, MergeAttributes, MergeDriver, PathsBelow, Repo, TextMerge, TreeEntry,
    TreeItem, merge_three_way,
};

/// Change of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    pub path: RepoPath,
    /// Entry before; `None` if the change creates the path.
    pub old: Option<TreeEntry>,
    /// Entry afterwards; `None` if the change deletes the path.
    pub new: Option<TreeEntry>,
}

impl PathChange {
    #[must_use]
    pub fn action(&self) -> ChangeAction {
        match (self.old, self.new) {
            (None, _) => ChangeAction::Create,
            (_, None) => ChangeAction::Delete,
            _ => ChangeAction::Update,
        }
    }
}

/// What a change does to its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeAction {
    Create,
    Update,
    Delete,
}

impl fmt::Display for ChangeAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ChangeAction::Create => "create",
            ChangeAction::Update => "update",
            ChangeAction::Delete => "delete",
        })
    }
}

/// Kind of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// Both sides changed the same lines.
    Lines {
        /// Text with conflict markers.
        text: Vec<u8>,
        /// First and last lines of the conflicts in `text`, counted from 1.
        line_ranges: Vec<(usize, usize)>,
    },
    /// The change updates a path that the target does not have.
    DeletedByUs,
    /// The change deletes a path that the target has changed.
    DeletedByThem,
    /// Both sides changed a binary file or symlink.
    NotText,
    /// Git attributes forbid merging (`-merge`), or name a custom merge driver.
    NotMerged(Option<String>),
    /// Another path of the target is in the way.
    InTheWay(RepoPath),
}

/// A path with a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathConflict {
    pub path: RepoPath,
    pub kind: ConflictKind,
}

impl PathConflict {
    /// Describes the conflict in one line; `onto` is the name of the target branch.
    #[must_use]
    pub fn describe(&self, onto: &str) -> String {
        let PathConflict { path, kind: clash } = self;
        match clash {
            ConflictKind::Lines { line_ranges: at, .. } => {
                let lines: Vec<String> =
                    at.iter().map(|(from, to)| format!("{from}-{to}")).collect();
                format!(
                    "{path}: both changed the same lines (lines {} of the merged text)",
                    lines.join(", ")
                )
            }
            ConflictKind::DeletedByUs => {
                format!("{path}: it is changed here, and `{onto}` does not have it")
            }
            ConflictKind::DeletedByThem => {
                format!("{path}: it is removed here, and changed on `{onto}`")
            }
            ConflictKind::NotText => format!("{path}: both changed it, and it is not text"),
            ConflictKind::NotMerged(None) => {
                format!("{path}: both changed it, and git attributes forbid merging it")
            }
            ConflictKind::NotMerged(Some(driver)) => {
                format!("{path}: both changed it, and its merge driver `{driver}` is not run")
            }
            ConflictKind::InTheWay(other) => {
                format!("{path}: `{other}` of `{onto}` is in its place")
            }
        }
    }

    /// Returns the conflicting lines with their markers.
    #[must_use]
    pub fn excerpt(&self) -> Option<String> {
        let ConflictKind::Lines { text, line_ranges: at } = &self.kind else { return None };
        let text = String::from_utf8_lossy(text);
        let lines: Vec<&str> = text.lines().collect();
        let part =
            |(from, to): &(usize, usize)| lines.get(from - 1..*to).unwrap_or_default().join("\n");
        Some(at.iter().map(part).collect::<Vec<_>>().join("\n"))
    }
}

/// Result of `cherry_pick_changes`.
#[derive(Clone, Debug)]
pub struct CherryPickedTree {
    /// New tree; the old one if there are conflicts.
    pub tree: Id,
    /// Effective changes to the tree.
    pub changed: Vec<PathChange>,
    pub conflicts: Vec<PathConflict>,
}

/// Applies `changes` to the tree `onto`. `labels` name the target and the change in conflict
/// markers. A change that the tree already has is skipped.
pub fn cherry_pick_changes(
    repo: &Repo,
    disk: &Disk<'_>,
    onto: Id,
    changes: &[PathChange],
    labels: (&str, &str),
) -> Result<CherryPickedTree> {
    let mut carried = CherryPickedTree { tree: onto, changed: Vec::new(), conflicts: Vec::new() };
    let mut texts = Vec::new();
    // Attributes are read only if a path changed on both sides.
    let mut rules = None;
    if repo.is_partial() {
        let mut wanted = Vec::new();
        for PathChange { path, old, new } in changes {
            let there = repo.entry_at(onto, path)?;
            // Only paths changed on both sides need a merge, and so their blobs.
            let is_merged = there != *new && there != *old;
            let all = [there, *old, *new].into_iter().flatten().filter(|_| is_merged);
            wanted.extend(all.map(|entry| (entry.id, path.to_string())));
        }
        repo.fetch_objects(wanted)?;
    }
    for change in changes {
        let there = repo.entry_at(onto, &change.path)?;
        match merge_path(repo, onto, there, change, labels, &mut rules)? {
            PathMerge::AlreadyThere => {}
            PathMerge::Becomes(new) => carried.changed.push(build_path_change(change, there, new)),
            PathMerge::Merged(mode, text) => {
                let entry = TreeEntry { mode, id: repo.blob_id(&text)? };
                if Some(entry) != there {
                    carried.changed.push(build_path_change(change, there, Some(entry)));
                    texts.push(text);
                }
            }
            PathMerge::Conflicts(clash) => {
                carried.conflicts.push(PathConflict { path: change.path.clone(), kind: clash });
            }
        }
    }
    for change in &carried.changed {
        if let Some(other) = find_blocking_path(repo, onto, change, &carried.changed)? {
            let clash = ConflictKind::InTheWay(other);
            carried.conflicts.push(PathConflict { path: change.path.clone(), kind: clash });
        }
    }
    if carried.changed.is_empty() || !carried.conflicts.is_empty() {
        return Ok(carried);
    }
    let failed = |cause| Error::unable("cannot write the objects").with_cause(cause);
    for text in texts {
        disk.check_gate("write a blob").map_err(failed)?;
        repo.write_blob(&text)?;
    }
    disk.check_gate("write a tree").map_err(failed)?;
    let changes: Vec<_> =
        carried.changed.iter().map(|change| (change.path.clone(), change.new)).collect();
    carried.tree = repo.write_tree(Some(onto), &changes)?;
    Ok(carried)
}

fn build_path_change(
    change: &PathChange,
    old: Option<TreeEntry>,
    new: Option<TreeEntry>,
) -> PathChange {
    PathChange { path: change.path.clone(), old, new }
}

enum PathMerge {
    AlreadyThere,
    Becomes(Option<TreeEntry>),
    Merged(FileMode, Vec<u8>),
    Conflicts(ConflictKind),
}

fn merge_path<'r>(
    repo: &'r Repo,
    onto: Id,
    there: Option<TreeEntry>,
    change: &PathChange,
    labels: (&str, &str),
    rules: &mut Option<MergeAttributes<'r>>,
) -> Result<PathMerge> {
    let PathChange { old, new, .. } = *change;
    if there == new {
        return Ok(PathMerge::AlreadyThere);
    }
    if there == old {
        return Ok(PathMerge::Becomes(new));
    }
    let (Some(ours), Some(theirs)) = (there, new) else {
        return Ok(PathMerge::Conflicts(if there.is_none() {
            ConflictKind::DeletedByUs
        } else {
            ConflictKind::DeletedByThem
        }));
    };
    let is_file = |entry: TreeEntry| matches!(entry.mode, FileMode::File | FileMode::Executable);
    if !is_file(ours) || !is_file(theirs) || !old.is_none_or(is_file) {
        return Ok(PathMerge::Conflicts(ConflictKind::NotText));
    }
    // The executable bit merges like one more line.
    let mode = match old {
        Some(old) if ours.mode == old.mode => theirs.mode,
        _ => ours.mode,
    };
    if old.map(|old| old.id) == Some(theirs.id) || ours.id == theirs.id {
        return Ok(PathMerge::Becomes(Some(TreeEntry { mode, id: ours.id })));
    }
    if old.map(|old| old.id) == Some(ours.id) {
        return Ok(PathMerge::Becomes(Some(TreeEntry { mode, id: theirs.id })));
    }
    let base = old.map_or(Ok(Vec::new()), |old| repo.read_blob(old.id))?;
    if rules.is_none() {
        *rules = Some(repo.merge_attributes_of_tree(onto)?);
    }
    let how =
        rules.as_mut().map_or(Ok(MergeDriver::Text), |rules| rules.driver_of(&change.path))?;
    Ok(
        match merge_three_way(
            &base,
            &repo.read_blob(ours.id)?,
            &repo.read_blob(theirs.id)?,
            labels,
            &how,
        ) {
            TextMerge::Clean(text) => PathMerge::Merged(mode, text),
            TextMerge::Binary => PathMerge::Conflicts(match how {
                MergeDriver::Binary => ConflictKind::NotMerged(None),
                MergeDriver::Custom(name) => ConflictKind::NotMerged(Some(name)),
                MergeDriver::Text | MergeDriver::Union => ConflictKind::NotText,
            }),
            TextMerge::Conflict(text) => {
                let at = find_conflicting_lines(&text, labels);
                PathMerge::Conflicts(ConflictKind::Lines { text, line_ranges: at })
            }
        },
    )
}

/// Finds the first and last lines of the conflicts in a text with these labels.
fn find_conflicting_lines(text: &[u8], labels: (&str, &str)) -> Vec<(usize, usize)> {
    let (begin, end) = (format!("<<<<<<< {}", labels.0), format!(">>>>>>> {}", labels.1));
    let mut found = Vec::new();
    let mut from = None;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line == begin.as_bytes() {
            from = Some(number + 1);
        } else if line == end.as_bytes()
            && let Some(from) = from.take()
        {
            found.push((from, number + 1));
        }
    }
    found
}

/// Returns the path that blocks a new one: a file at one of its folders, or a folder in its place.
fn find_blocking_path(
    repo: &Repo,
    onto: Id,
    change: &PathChange,
    changed: &[PathChange],
) -> Result<Option<RepoPath>> {
    if change.old.is_some() || change.new.is_none() {
        return Ok(None);
    }
    let goes =
        |path: &RepoPath| changed.iter().any(|other| other.path == *path && other.new.is_none());
    for folder in change.path.ancestors() {
        if repo.entry_at(onto, &folder)?.is_some() && !goes(&folder) {
            return Ok(Some(folder));
        }
    }
    if let Some(TreeItem::Folder(_)) = repo.find_in_tree(onto, &change.path)? {
        let below = repo.list_tree(onto, &PathsBelow(&change.path))?;
        return Ok(below.into_keys().find(|path| !goes(path)));
    }
    Ok(None)
}

/// Returns the changes between two trees at paths for which `takes` holds, and the other changed
/// paths.
pub fn list_changes_between(
    repo: &Repo,
    old: Option<Id>,
    new: Id,
    takes: &dyn Fn(&RepoPath) -> bool,
) -> Result<(Vec<PathChange>, BTreeSet<RepoPath>)> {
    let (mut inside, mut outside) = (Vec::new(), BTreeSet::new());
    for (path, pair) in repo.compare_trees(old, Some(new), &AllPaths)? {
        if takes(&path) {
            inside.push(PathChange { path, old: pair.one, new: pair.two });
        } else {
            outside.insert(path);
        }
    }
    Ok((inside, outside))
}
