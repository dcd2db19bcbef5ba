//! Merges a newer toolkit into a copy: a three-way merge between the vendored version, the canonical branch and the
//! new version, as one commit on the canonical branch.
//!
//! ```text
//! base (VENDORED.toml)  +  ours (canonical branch)  +  theirs (new toolkit)  ->  UpgradePlan  ->  commit
//! ```
//!
//! Files without local changes are replaced, changed ones are merged. If one path conflicts, nothing is committed:
//! half an upgrade would not build, and every branch would get it. The base is identified by the checksums of the
//! manifest; content with another checksum is not used as a base.

use std::collections::{BTreeMap, BTreeSet};

use super::cargo_entries;
use super::conflict_files::MergeTriple;
use super::file_renames;
use super::manifest::{MANIFEST, VendorManifest, compute_checksum, has_executable_suffix};
use super::toolkit::{CommitOrder, Toolkit};
use xtask_base::error::{Error, Result};
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_base::words::pluralize;
use xtask_changes::cherry_pick::{ConflictKind, PathChange, PathConflict, cherry_pick_changes};
use xtask_changes::fast_forward_branch::{
    CanonicalBranch, fast_forward_canonical, locate_canonical_branch,
};
use xtask_config::SYNC_FILE;
use xtask_git::Tools;
use xtask_git::reflog_messages::UPGRADE;
use xtask_git::{
    FileMode, Id, NewCommit, PathScope, PathsBelow, Repo, TreeEntry, find_case_collisions,
};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::managed::ManagedPaths;

/// How to resolve the conflicts at some paths without editing.
#[derive(Clone, Debug, Default)]
pub struct ConflictResolution {
    /// The paths at which the version of the canonical branch is kept.
    pub ours: BTreeSet<RepoPath>,
    /// The paths at which the new version is taken.
    pub theirs: BTreeSet<RepoPath>,
}

/// The plan of an upgrade.
pub struct UpgradePlan {
    pub context: SyncContext,
    /// The canonical branch and its tip.
    pub canonical_branch: CanonicalBranch,
    /// The present manifest.
    pub old: VendorManifest,
    /// The manifest after the upgrade.
    pub new: VendorManifest,
    /// The paths that change.
    pub changed: Vec<PathChange>,
    /// The changed paths at which local changes were merged with the new version.
    pub merged: Vec<RepoPath>,
    /// The paths with local changes that the new version does not touch.
    pub kept: Vec<RepoPath>,
    /// The unresolved conflicts, with their three versions.
    pub conflicts: Vec<(PathConflict, MergeTriple)>,
    /// The conflicts that were resolved with `ConflictResolution` or by editing.
    pub resolved: Vec<MergeTriple>,
    /// Vendored files outside of `xtask/` that are not updated, because they are not managed, each with the path of
    /// its template, or `None` if the new toolkit has no such template.
    pub left_alone: Vec<(String, Option<String>)>,
    /// The number of files that the new toolkit has at another path; their local changes move along.
    pub moved_count: usize,
    /// The resulting tree; without the new version if there are conflicts.
    pub tree: Id,
}

impl UpgradePlan {
    /// Returns whether the copy has the new version already.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.old.files == self.new.files && self.old.parts == self.new.parts
    }

    /// Returns the new version, e.g. `0.2.0 (1a2b3c4d5e)`.
    #[must_use]
    pub fn describe_new_version(&self) -> String {
        format!("{} ({})", self.new.version, short_id(&self.new.commit))
    }

    /// Returns the present version, e.g. `0.1.0 (5e4d3c2b1a)`.
    #[must_use]
    pub fn describe_old_version(&self) -> String {
        format!("{} ({})", self.old.version, short_id(&self.old.commit))
    }

    /// Returns the message of the commit.
    #[must_use]
    pub fn commit_message(&self) -> String {
        let mut text = format!(
            "Upgrade xtask to {}\n\nIt was {}",
            self.describe_new_version(),
            self.describe_old_version()
        );
        match &self.new.source {
            Some(source) => text.push_str(&format!(", and comes from\n{source}\n")),
            None => text.push_str(".\n"),
        }
        let decided: Vec<RepoPath> = self.resolved.iter().map(|one| one.path.clone()).collect();
        for (title, paths) in [
            ("Merged with changes made here:", &self.merged),
            ("Decided by hand:", &decided),
            ("Changed here, and kept:", &self.kept),
        ] {
            if !paths.is_empty() {
                let lines: String = paths.iter().map(|path| format!("  {path}\n")).collect();
                text.push_str(&format!("\n{title}\n{lines}"));
            }
        }
        text
    }
}

fn short_id(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// Reads the manifest on the canonical branch.
pub fn read_canonical_manifest(repo: &Repo) -> Result<VendorManifest> {
    let context = context::read_context(repo)?;
    let ground = locate_canonical_branch(repo, &context)?;
    read_manifest(repo, repo.tree_of(ground.tip)?, &ground.branch)
}

fn read_manifest(repo: &Repo, tree: Id, branch: &str) -> Result<VendorManifest> {
    let Some(entry) = repo.entry_at(tree, &RepoPath::new(MANIFEST))? else {
        return Err(Error::usage(format!(
            "`{branch}` has no `{MANIFEST}`: no toolkit was vendored there"
        ))
        .with_hint("in a checkout of the toolkit, `cargo xtask vendor DIR` adds it to a repository")
        .with_hint(format!(
            "if another branch has it, `cargo xtask reverse-sync BRANCH COMMIT` copies it to `{branch}`"
        )));
    };
    VendorManifest::parse(&repo.read_blob(entry.id)?)
}

/// Plans the upgrade to a toolkit. Objects are written into `repo`, which may be in memory; no ref or file is
/// changed. Returns an error if the toolkit is not newer, or a path of the copy is not managed.
pub fn plan_upgrade(
    repo: &Repo,
    toolkit: &Toolkit,
    source: Option<String>,
    sides: &ConflictResolution,
    tools: &Tools<'_>,
) -> Result<UpgradePlan> {
    let context = context::read_context(repo)?;
    let ground = locate_canonical_branch(repo, &context)?;
    let tree = repo.tree_of(ground.tip)?;
    let old = read_manifest(repo, tree, &ground.branch)?;
    check_not_older(&old, toolkit)?;
    let managed = ManagedPaths::new(&context.config, None);
    let placed = old.placed.clone();
    let (tree, old, moved) = follow_moves(repo, tree, old, toolkit)?;
    let comes = read_incoming_files(toolkit, &old)?;
    let mut new = VendorManifest {
        version: toolkit.version.clone(),
        source: source.or_else(|| old.source.clone()),
        commit: toolkit.commit.to_string(),
        parts: toolkit.spec.parts.clone(),
        files: comes.iter().map(|(path, file)| (path.clone(), file.checksum.clone())).collect(),
        placed: old.placed.clone(),
    };
    let history = BaseFinder {
        repo,
        tip: ground.tip,
        old: &old,
        toolkit,
        placed: &placed,
        old_paths: &moved,
    };
    let mut threes = Vec::new();
    let (mut kept, mut left) = (Vec::new(), Vec::new());
    let names: BTreeSet<&String> = old.files.keys().chain(comes.keys()).collect();
    for name in names {
        let path = RepoPath::new(name.as_str());
        let ours = repo.entry_at(tree, &path)?;
        let (came, file) = (old.files.get(name), comes.get(name));
        if came == file.map(|file| &file.checksum) {
            let is_same = ours.is_some_and(|ours| matches_checksum(repo, ours, came));
            if !is_same {
                kept.push(path);
            }
            continue;
        }
        if let Some(from) = old.placed.get(name) {
            if file.is_none() {
                // A file that the new toolkit does not have belongs to the repository from now on.
                left.push((name.clone(), None));
                new.placed.remove(name);
                continue;
            }
            if !managed.contains_path(path.as_bytes()) {
                left.push((name.clone(), Some(from.clone())));
                new.files.extend(came.map(|came| (name.clone(), came.clone())));
                continue;
            }
        }
        if !managed.contains_path(path.as_bytes()) {
            return Err(Error::usage(format!(
                "`{path}` is not a managed path, so it cannot be upgraded"
            ))
            .with_hint(format!(
                "add `/{NAME}/` to `[managed] include` of `{SYNC_FILE}` on `{}`, and remove it from \
                 `exclude`",
                ground.branch
            )));
        }
        let theirs = match file {
            Some(file) => {
                Some(TreeEntry { mode: file.entry.mode, id: repo.write_blob(&file.content)? })
            }
            None => None,
        };
        let base = match (ours, came) {
            (Some(ours), Some(_)) if matches_checksum(repo, ours, came) => Some(ours),
            (_, Some(came)) => Some(history.find_base(&path, came)?),
            (_, None) => None,
        };
        threes.push(MergeTriple { path, base, ours, theirs });
    }
    // In earlier versions the launcher was a binary, and now it is an example.
    for name in [".cargo/config.toml", ".cargo/config"] {
        let path = RepoPath::new(name);
        let Some(ours) = repo.entry_at(tree, &path)? else { continue };
        let text = String::from_utf8(repo.read_blob(ours.id)?).ok();
        if let Some(now) = text.as_deref().and_then(|text| cargo_entries::update_alias(text, NAME))
        {
            let theirs = TreeEntry { mode: ours.mode, id: repo.write_blob(now.as_bytes())? };
            threes.push(MergeTriple {
                path,
                base: Some(ours),
                ours: Some(ours),
                theirs: Some(theirs),
            });
        }
    }
    check_case_collisions(repo, tree, &threes)?;
    let mut upgrade = UpgradePlan {
        context,
        canonical_branch: ground,
        old,
        new,
        kept,
        left_alone: left,
        moved_count: moved.len(),
        tree,
        changed: Vec::new(),
        merged: Vec::new(),
        conflicts: Vec::new(),
        resolved: Vec::new(),
    };
    merge_paths(repo, &mut upgrade, &threes, sides, tools)?;
    Ok(upgrade)
}

/// Applies the file moves of the new toolkit to the tree and the manifest. Returns both, and the previous paths of
/// the moved files by their new ones.
fn follow_moves(
    repo: &Repo,
    tree: Id,
    mut old: VendorManifest,
    toolkit: &Toolkit,
) -> Result<(Id, VendorManifest, BTreeMap<RepoPath, RepoPath>)> {
    let comes = |name: &str| toolkit.has_file(&RepoPath::new(name));
    let moved_to = |name: &str| {
        let now = file_renames::find_new_path(&toolkit.spec.to_toolkit_path(name))?;
        Some(toolkit.spec.to_copy_path(&now))
    };
    let (mut changes, mut moved) = (Vec::new(), BTreeMap::new());
    let names: Vec<String> = old.files.keys().filter(|name| !comes(name)).cloned().collect();
    for name in names {
        let Some(now) = moved_to(&name) else { continue };
        let (from, to) = (RepoPath::new(&name[..]), RepoPath::new(&now[..]));
        let is_free = !old.files.contains_key(&now) && repo.entry_at(tree, &to)?.is_none();
        if !comes(&now) || !is_free {
            continue;
        }
        if let Some(entry) = repo.entry_at(tree, &from)? {
            changes.extend([(from.clone(), None), (to.clone(), Some(entry))]);
        }
        if let Some(mark) = old.files.remove(&name) {
            old.files.insert(now, mark);
        }
        moved.insert(to, from);
    }
    for template in old.placed.values_mut() {
        // Templates are named by their paths in the toolkit.
        if let Some(now) =
            file_renames::find_new_path(template).filter(|now| !comes(template) && comes(now))
        {
            *template = now;
        }
    }
    let tree = if changes.is_empty() { tree } else { repo.write_tree(Some(tree), &changes)? };
    Ok((tree, old, moved))
}

/// Returns an error if a new path differs from another one in `tree` by case only, because on a case-insensitive file
/// system they would be the same file.
fn check_case_collisions(repo: &Repo, tree: Id, threes: &[MergeTriple]) -> Result<()> {
    let new: Vec<&RepoPath> = threes
        .iter()
        .filter(|three| three.ours.is_none() && three.theirs.is_some())
        .map(|three| &three.path)
        .collect();
    let there = repo.list_tree(tree, &PathsBelow(&RepoPath::new(NAME)))?;
    let goes =
        |path: &RepoPath| threes.iter().any(|three| three.path == *path && three.theirs.is_none());
    let stays = there.keys().filter(|path| !goes(path));
    let found = find_case_collisions(new.iter().copied().chain(stays));
    match new.iter().find_map(|path| Some((path, found.get(*path)?))) {
        None => Ok(()),
        Some((path, other)) => Err(Error::negative(format!(
            "the new file `{path}` differs from `{other}` only by case; nothing was changed"
        ))
        .with_hint(format!("rename `{other}` on the branch first"))),
    }
}

/// Returns whether a file has the checksum `came`.
fn matches_checksum(repo: &Repo, entry: TreeEntry, came: Option<&String>) -> bool {
    let is_file = matches!(entry.mode, FileMode::File | FileMode::Executable);
    let mark = |content: Vec<u8>| compute_checksum(&content, entry.mode == FileMode::Executable);
    is_file && repo.read_blob(entry.id).is_ok_and(|content| Some(&mark(content)) == came)
}

/// A file of the new toolkit.
struct IncomingFile {
    entry: TreeEntry,
    content: Vec<u8>,
    checksum: String,
}

/// Returns the files of the new toolkit, by their paths in the copy.
fn read_incoming_files(
    toolkit: &Toolkit,
    old: &VendorManifest,
) -> Result<BTreeMap<String, IncomingFile>> {
    let mut found = BTreeMap::new();
    let own = toolkit.files().iter().map(|(path, entry)| (path.to_string(), *entry));
    let placed = old.placed.iter().filter_map(|(path, from)| {
        Some((path.clone(), *toolkit.templates().get(&RepoPath::new(from.as_str()))?))
    });
    for (path, entry) in own.chain(placed) {
        let content = toolkit.read_content(entry)?;
        let mark = compute_checksum(&content, entry.mode == FileMode::Executable);
        found.insert(path, IncomingFile { entry, content, checksum: mark });
    }
    Ok(found)
}

/// Returns an error if the toolkit is older than the copy, or the order cannot be determined.
fn check_not_older(old: &VendorManifest, toolkit: &Toolkit) -> Result<()> {
    let age = match Id::from_hex(old.commit.as_bytes()) {
        Ok(commit) => toolkit.compare_commit(commit)?,
        Err(_) => CommitOrder::Unknown,
    };
    if toolkit.version > old.version && age != CommitOrder::Before {
        return Ok(());
    }
    if toolkit.version == old.version && matches!(age, CommitOrder::Same | CommitOrder::After) {
        return Ok(());
    }
    if toolkit.version == old.version && age == CommitOrder::Unknown {
        return Err(Error::negative(format!(
            "cannot determine whether {} is newer than the vendored {} ({}); nothing was changed",
            toolkit.describe_version(),
            old.version,
            short_id(&old.commit)
        ))
        .with_hint("it has the same version, and its history does not contain the vendored commit")
        .with_hint("a shallow clone has no history: `git fetch --unshallow` there"));
    }
    Err(Error::negative(format!(
        "{} is older than the vendored {} ({}); nothing was changed",
        toolkit.describe_version(),
        old.version,
        short_id(&old.commit)
    ))
    .with_hint("use `--ref` for another branch, tag or commit of it")
    .with_hint("to go back, `git revert` the commit of the upgrade on the canonical branch"))
}

/// Finds the vendored content of a file, to be the base of a merge.
struct BaseFinder<'a> {
    repo: &'a Repo,
    tip: Id,
    old: &'a VendorManifest,
    toolkit: &'a Toolkit,
    /// The path of the template, by the path of each file outside of `xtask/`.
    placed: &'a BTreeMap<String, String>,
    /// The previous paths of moved files, by their new ones.
    old_paths: &'a BTreeMap<RepoPath, RepoPath>,
}

impl BaseFinder<'_> {
    /// Returns a path as it was vendored: from the toolkit at its commit, or from the history of the repository
    /// back to the commit that wrote the manifest. If it is not found, returns an entry with the null ID, which
    /// equals no other, so that changes on both sides conflict.
    fn find_base(&self, path: &RepoPath, came: &str) -> Result<TreeEntry> {
        let mode = if has_executable_suffix(came) { FileMode::Executable } else { FileMode::File };
        let path = self.old_paths.get(path).unwrap_or(path);
        let from = self.placed.get(&path.to_string());
        let there = from.map_or(path.clone(), |from| RepoPath::new(from.as_str()));
        if let Ok(commit) = Id::from_hex(self.old.commit.as_bytes()) {
            for (mode, content) in
                self.toolkit.find_earlier_contents(commit, &there, &self.old.parts)?
            {
                if compute_checksum(&content, mode == FileMode::Executable) == came {
                    return Ok(TreeEntry { mode, id: self.repo.write_blob(&content)? });
                }
            }
        }
        let manifest = RepoPath::new(MANIFEST);
        let now = self.repo.entry_at(self.repo.tree_of(self.tip)?, &manifest)?;
        for commit in self.repo.commits_between(None, self.tip, true)? {
            let tree = self.repo.tree_of(commit)?;
            if self.repo.entry_at(tree, &manifest)? != now {
                break;
            }
            let entry = self.repo.entry_at(tree, path)?;
            if let Some(entry) = entry
                && matches_checksum(self.repo, entry, Some(&came.to_owned()))
            {
                return Ok(entry);
            }
        }
        Ok(TreeEntry { mode, id: self.repo.null_id() })
    }
}

/// Merges all paths, and stores the results in `upgrade`.
fn merge_paths(
    repo: &Repo,
    upgrade: &mut UpgradePlan,
    threes: &[MergeTriple],
    sides: &ConflictResolution,
    tools: &Tools<'_>,
) -> Result<()> {
    let tree = upgrade.tree;
    let names = (
        upgrade.canonical_branch.branch.clone(),
        format!("xtask {}", upgrade.describe_new_version()),
    );
    let labels = (&names.0[..], &names.1[..]);
    let change = |three: &MergeTriple| PathChange {
        path: three.path.clone(),
        // For a text, an unknown base is the same as no base.
        old: three.base.filter(|base| {
            base.id != repo.null_id() || three.ours.is_none() || three.theirs.is_none()
        }),
        new: three.theirs,
    };
    let mut changes: BTreeMap<RepoPath, PathChange> =
        threes.iter().map(|three| (three.path.clone(), change(three))).collect();
    let all: Vec<PathChange> = changes.values().cloned().collect();
    let first = cherry_pick_changes(repo, tools.disk, tree, &all, labels)?;
    let of = |path: &RepoPath| threes.iter().find(|three| three.path == *path);
    let mut open = BTreeMap::new();
    for conflict in first.conflicts {
        let Some(three) = of(&conflict.path) else { continue };
        let path = conflict.path.clone();
        let is_in_the_way = matches!(conflict.kind, ConflictKind::InTheWay(_));
        let decided = match three.read_resolution(repo, &names.0)? {
            _ if is_in_the_way => None,
            _ if sides.theirs.contains(&path) => Some(three.theirs),
            _ if sides.ours.contains(&path) => Some(three.ours),
            Some(text) if matches!(conflict.kind, ConflictKind::Lines { .. }) => {
                let mode = three.theirs.or(three.ours).map_or(FileMode::File, |entry| entry.mode);
                Some(Some(TreeEntry { mode, id: repo.write_blob(&text)? }))
            }
            _ => None,
        };
        match decided {
            Some(new) => {
                upgrade.resolved.push(three.clone());
                changes.insert(path.clone(), PathChange { path, old: three.ours, new });
            }
            None => {
                open.insert(path, (conflict, three.clone()));
            }
        }
    }
    for named in sides.ours.iter().chain(&sides.theirs) {
        if !upgrade.resolved.iter().any(|three| three.path == *named) {
            return Err(Error::usage(format!("`{named}` is not in conflict"))
                .with_hint("run without `--ours` and `--theirs` to list the conflicts"));
        }
    }
    let all: Vec<PathChange> = changes.into_values().collect();
    let carried = cherry_pick_changes(repo, tools.disk, tree, &all, labels)?;
    for conflict in carried.conflicts {
        // A resolution may block another path, e.g. a file where a folder must be.
        if let Some(three) = of(&conflict.path) {
            open.insert(conflict.path.clone(), (conflict, three.clone()));
        }
    }
    upgrade.conflicts = open.into_values().collect();
    upgrade.changed = carried.changed;
    upgrade.merged = upgrade
        .changed
        .iter()
        .filter(|change| {
            let three = of(&change.path);
            let is_decided = upgrade.resolved.iter().any(|one| one.path == change.path);
            three.is_some_and(|three| three.theirs.is_some() && change.new != three.theirs)
                && !is_decided
        })
        .map(|change| change.path.clone())
        .collect();
    if !upgrade.conflicts.is_empty() {
        return Ok(());
    }
    let manifest = upgrade.new.to_toml();
    let entry = TreeEntry { mode: FileMode::File, id: repo.write_blob(manifest.as_bytes())? };
    upgrade.tree =
        repo.write_tree(Some(carried.tree), &[(RepoPath::new(MANIFEST), Some(entry))])?;
    Ok(())
}

/// Commits an upgrade without conflicts to the canonical branch. Returns the commit, or `None` if the branch has
/// moved since the plan was made.
pub fn commit_upgrade(repo: &Repo, upgrade: &UpgradePlan, tools: &Tools<'_>) -> Result<Option<Id>> {
    let committer = repo.committer(tools.world.now_seconds())?;
    tools
        .disk
        .check_gate("write the commit of the upgrade")
        .map_err(|cause| Error::unable("cannot write the commit").with_cause(cause))?;
    let new = repo.write_commit(&NewCommit {
        tree: upgrade.tree,
        parents: &[upgrade.canonical_branch.tip],
        author: None,
        committer: &committer,
        message: &upgrade.commit_message(),
    })?;
    let message = format!("{UPGRADE} to {}", upgrade.describe_new_version());
    let UpgradePlan { context, canonical_branch: ground, resolved: decided, .. } = upgrade;
    if !fast_forward_canonical(repo, context, ground, new, &message, tools)? {
        return Ok(None);
    }
    for three in decided {
        three.remove_conflict(repo, tools.disk);
    }
    Ok(Some(new))
}

/// Writes the files for resolving the conflicts. Returns a line for each conflict, with its file or its cause.
pub fn write_conflict_files(
    repo: &Repo,
    upgrade: &UpgradePlan,
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (conflict, three) in &upgrade.conflicts {
        let path = &conflict.path;
        lines.push(match &conflict.kind {
            ConflictKind::Lines { text, line_ranges: at } => {
                let file = three.write_conflict(repo, tools.disk, text)?;
                let places = pluralize(at.len(), "place");
                let mut line =
                    format!("{path}: both changed the same lines, in {places}: {}", file.display());
                for other in three.find_earlier_conflicts(repo) {
                    line.push_str(&format!(" (an earlier conflict of it: {})", other.display()));
                }
                line
            }
            other => format!("{path}: {}", describe_conflict(other)),
        });
    }
    Ok(lines)
}

/// Describes a conflict in one line.
#[must_use]
pub fn describe_conflict(clash: &ConflictKind) -> String {
    match clash {
        ConflictKind::Lines { .. } => "both changed the same lines".to_owned(),
        ConflictKind::DeletedByUs => "removed here, but changed in the new version".to_owned(),
        ConflictKind::DeletedByThem => "changed here, but removed in the new version".to_owned(),
        ConflictKind::NotText => "both changed it, and it is binary".to_owned(),
        ConflictKind::NotMerged(_) => {
            "both changed it, and git's attributes forbid merging it".to_owned()
        }
        ConflictKind::InTheWay(other) => {
            format!("`{other}` is in its place here; move it away on the branch first")
        }
    }
}
