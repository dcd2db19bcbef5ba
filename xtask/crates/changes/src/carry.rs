//! Carrying changes of paths onto a tree, each as a three-way merge.

use std::collections::BTreeSet;

use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_git::{
    Below, Entry, Everything, Id, LookedUp, MergeAs, MergeRules, Merged, Mode, Repo, three_way,
};

/// A change of a path: what it was and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// The path.
    pub path: RepoPath,
    /// Before; nothing where it was not there.
    pub old: Option<Entry>,
    /// After; nothing where it is removed.
    pub new: Option<Entry>,
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
pub enum Clash {
    /// Both changed the same lines.
    Lines {
        /// The text with markers.
        text: Vec<u8>,
        /// The lines of it at which conflicts begin and end, from 1.
        at: Vec<(usize, usize)>,
    },
    /// The change is to something that is not there any more.
    Gone,
    /// The change removes what was changed meanwhile.
    Changed,
    /// Both changed it, and it is not text.
    NotText,
    /// Git's attributes say that it is not merged, or that a program of this name does it.
    NotMerged(Option<String>),
    /// Another path has its place.
    InTheWay(RepoPath),
}

/// A path that cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The path.
    pub path: RepoPath,
    /// Why.
    pub clash: Clash,
}

impl Conflict {
    /// What is wrong, in a line. `onto` is the branch onto which it is carried.
    #[must_use]
    pub fn words(&self, onto: &str) -> String {
        let Conflict { path, clash } = self;
        match clash {
            Clash::Lines { at, .. } => {
                let lines: Vec<String> =
                    at.iter().map(|(from, to)| format!("{from}-{to}")).collect();
                format!(
                    "{path}: both changed the same lines (lines {} of the merged text)",
                    lines.join(", ")
                )
            }
            Clash::Gone => format!("{path}: it is changed here, and `{onto}` does not have it"),
            Clash::Changed => format!("{path}: it is removed here, and changed on `{onto}`"),
            Clash::NotText => format!("{path}: both changed it, and it is not text"),
            Clash::NotMerged(None) => {
                format!("{path}: both changed it, and git's attributes say that it is not merged")
            }
            Clash::NotMerged(Some(driver)) => {
                format!("{path}: both changed it, and its merge driver `{driver}` is not run")
            }
            Clash::InTheWay(other) => format!("{path}: `{other}` of `{onto}` is in its place"),
        }
    }

    /// The lines that conflict, with their markers.
    #[must_use]
    pub fn excerpt(&self) -> Option<String> {
        let Clash::Lines { text, at } = &self.clash else { return None };
        let text = String::from_utf8_lossy(text);
        let lines: Vec<&str> = text.lines().collect();
        let part =
            |(from, to): &(usize, usize)| lines.get(from - 1..*to).unwrap_or_default().join("\n");
        Some(at.iter().map(part).collect::<Vec<_>>().join("\n"))
    }
}

/// What carrying came to.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The new tree; the old one where there are conflicts.
    pub tree: Id,
    /// What changes in it.
    pub changed: Vec<PathChange>,
    /// What could not be carried.
    pub conflicts: Vec<Conflict>,
}

/// Carries changes onto a tree. `labels` stand at the markers of conflicts: the name of what is
/// there, and of what is carried. What is there already is no change.
pub fn carry(
    repo: &Repo,
    disk: &Disk<'_>,
    onto: Id,
    changes: &[PathChange],
    labels: (&str, &str),
) -> Result<Carried> {
    let mut carried = Carried { tree: onto, changed: Vec::new(), conflicts: Vec::new() };
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
        repo.bring(wanted)?;
    }
    for change in changes {
        let there = repo.entry_at(onto, &change.path)?;
        match one(repo, onto, there, change, labels, &mut rules)? {
            Outcome::There => {}
            Outcome::Becomes(new) => carried.changed.push(becomes(change, there, new)),
            Outcome::Merged(mode, text) => {
                let entry = Entry { mode, id: repo.blob_id(&text)? };
                if Some(entry) != there {
                    carried.changed.push(becomes(change, there, Some(entry)));
                    texts.push(text);
                }
            }
            Outcome::Clashes(clash) => {
                carried.conflicts.push(Conflict { path: change.path.clone(), clash });
            }
        }
    }
    for change in &carried.changed {
        if let Some(other) = in_the_way(repo, onto, change, &carried.changed)? {
            let clash = Clash::InTheWay(other);
            carried.conflicts.push(Conflict { path: change.path.clone(), clash });
        }
    }
    if carried.changed.is_empty() || !carried.conflicts.is_empty() {
        return Ok(carried);
    }
    let failed = |cause| Error::unable("the objects cannot be written").because(cause);
    for text in texts {
        disk.other("write a blob").map_err(failed)?;
        repo.write_blob(&text)?;
    }
    disk.other("write a tree").map_err(failed)?;
    let changes: Vec<_> =
        carried.changed.iter().map(|change| (change.path.clone(), change.new)).collect();
    carried.tree = repo.write_tree(Some(onto), &changes)?;
    Ok(carried)
}

fn becomes(change: &PathChange, old: Option<Entry>, new: Option<Entry>) -> PathChange {
    PathChange { path: change.path.clone(), old, new }
}

enum Outcome {
    There,
    Becomes(Option<Entry>),
    Merged(Mode, Vec<u8>),
    Clashes(Clash),
}

fn one<'r>(
    repo: &'r Repo,
    onto: Id,
    there: Option<Entry>,
    change: &PathChange,
    labels: (&str, &str),
    rules: &mut Option<MergeRules<'r>>,
) -> Result<Outcome> {
    let PathChange { old, new, .. } = *change;
    if there == new {
        return Ok(Outcome::There);
    }
    if there == old {
        return Ok(Outcome::Becomes(new));
    }
    let (Some(ours), Some(theirs)) = (there, new) else {
        return Ok(Outcome::Clashes(if there.is_none() { Clash::Gone } else { Clash::Changed }));
    };
    let is_file = |entry: Entry| matches!(entry.mode, Mode::File | Mode::Executable);
    if !is_file(ours) || !is_file(theirs) || !old.is_none_or(is_file) {
        return Ok(Outcome::Clashes(Clash::NotText));
    }
    // The executable bit merges like a line of its own.
    let mode = match old {
        Some(old) if ours.mode == old.mode => theirs.mode,
        _ => ours.mode,
    };
    if old.map(|old| old.id) == Some(theirs.id) || ours.id == theirs.id {
        return Ok(Outcome::Becomes(Some(Entry { mode, id: ours.id })));
    }
    if old.map(|old| old.id) == Some(ours.id) {
        return Ok(Outcome::Becomes(Some(Entry { mode, id: theirs.id })));
    }
    let base = old.map_or(Ok(Vec::new()), |old| repo.blob(old.id))?;
    if rules.is_none() {
        *rules = Some(repo.merge_rules_of_tree(onto)?);
    }
    let how = rules.as_mut().map_or(Ok(MergeAs::Text), |rules| rules.of(&change.path))?;
    Ok(match three_way(&base, &repo.blob(ours.id)?, &repo.blob(theirs.id)?, labels, &how) {
        Merged::Clean(text) => Outcome::Merged(mode, text),
        Merged::Binary => Outcome::Clashes(match how {
            MergeAs::Nothing => Clash::NotMerged(None),
            MergeAs::Driver(name) => Clash::NotMerged(Some(name)),
            MergeAs::Text | MergeAs::Union => Clash::NotText,
        }),
        Merged::Conflict(text) => {
            let at = conflicting_lines(&text, labels);
            Outcome::Clashes(Clash::Lines { text, at })
        }
    })
}

/// Where conflicts stand in a text with these labels at its markers.
fn conflicting_lines(text: &[u8], labels: (&str, &str)) -> Vec<(usize, usize)> {
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
fn in_the_way(
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
    if let Some(LookedUp::Folder(_)) = repo.look_up(onto, &change.path)? {
        let below = repo.list_tree(onto, &Below(&change.path))?;
        return Ok(below.into_keys().find(|path| !goes(path)));
    }
    Ok(None)
}

/// The changes between two trees at the paths of a scope, and the paths that differ outside of it.
pub fn changes_between(
    repo: &Repo,
    old: Option<Id>,
    new: Id,
    takes: &dyn Fn(&RepoPath) -> bool,
) -> Result<(Vec<PathChange>, BTreeSet<RepoPath>)> {
    let (mut inside, mut outside) = (Vec::new(), BTreeSet::new());
    for (path, pair) in repo.compare_trees(old, Some(new), &Everything)? {
        if takes(&path) {
            inside.push(PathChange { path, old: pair.one, new: pair.two });
        } else {
            outside.insert(path);
        }
    }
    Ok((inside, outside))
}
