//! Carrying changes of paths onto a tree, each as a three-way merge.

use std::collections::BTreeSet;

use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_git::{
    AllPaths, FileMode, Id, MergeAttributes, MergeDriver, PathsBelow, Repo, TextMerge, TreeEntry,
    TreeItem, merge_three_way,
};

/// A change of a path: what it was and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// The path.
    pub path: RepoPath,
    /// Before; nothing where it was not there.
    pub old: Option<TreeEntry>,
    /// After; nothing where it is removed.
    pub new: Option<TreeEntry>,
}

impl PathChange {
    /// What it does to the path: `create`, `update` or `delete`.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match (self.old, self.new) {
            (None, _) => "create",
            (_, None) => "delete",
            _ => "update",
        }
    }
}

/// Why a change of a path cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// Both changed the same lines.
    Lines {
        /// The text with markers.
        text: Vec<u8>,
        /// The lines of it at which conflicts begin and end, from 1.
        line_ranges: Vec<(usize, usize)>,
    },
    /// The change is to something that is not there any more.
    DeletedByUs,
    /// The change removes what was changed meanwhile.
    DeletedByThem,
    /// Both changed it, and it is not text.
    NotText,
    /// Git's attributes say that it is not merged, or that a program of this name does it.
    NotMerged(Option<String>),
    /// Another path has its place.
    InTheWay(RepoPath),
}

/// A path that cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathConflict {
    /// The path.
    pub path: RepoPath,
    /// Why.
    pub kind: ConflictKind,
}

impl PathConflict {
    /// What is wrong, in a line. `onto` is the branch onto which it is carried.
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
                format!("{path}: both changed it, and git's attributes say that it is not merged")
            }
            ConflictKind::NotMerged(Some(driver)) => {
                format!("{path}: both changed it, and its merge driver `{driver}` is not run")
            }
            ConflictKind::InTheWay(other) => {
                format!("{path}: `{other}` of `{onto}` is in its place")
            }
        }
    }

    /// The lines that conflict, with their markers.
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

/// What carrying came to.
#[derive(Clone, Debug)]
pub struct CherryPickedTree {
    /// The new tree; the old one where there are conflicts.
    pub tree: Id,
    /// What changes in it.
    pub changed: Vec<PathChange>,
    /// What could not be carried.
    pub conflicts: Vec<PathConflict>,
}

/// Carries changes onto a tree. `labels` stand at the markers of conflicts: the name of what is
/// there, and of what is carried. What is there already is no change.
pub fn cherry_pick_changes(
    repo: &Repo,
    disk: &Disk<'_>,
    onto: Id,
    changes: &[PathChange],
    labels: (&str, &str),
) -> Result<CherryPickedTree> {
    let mut carried = CherryPickedTree { tree: onto, changed: Vec::new(), conflicts: Vec::new() };
    let mut texts = Vec::new();
    // Only what both have changed asks for them.
    let mut rules = None;
    if repo.is_partial() {
        let mut wanted = Vec::new();
        for PathChange { path, old, new } in changes {
            let there = repo.entry_at(onto, path)?;
            // Only what both sides have changed is looked into.
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
    let failed = |cause| Error::unable("the objects cannot be written").with_cause(cause);
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
    // The executable bit merges like a line of its own.
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

/// Where conflicts stand in a text with these labels at its markers.
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

/// What has the place of a path that is new: a file where it needs a folder, or the other way round.
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

/// The changes between two trees at the paths of a scope, and the paths that differ outside of it.
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
