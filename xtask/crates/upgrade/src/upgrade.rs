//! A newer toolkit, into a repository that has one: a three-way merge between what came, what is there
//! now and what comes, as one commit on the canonical branch.
//!
//! Files that were not touched are replaced, changed ones merged. While one path is in conflict nothing
//! lands at all: half an upgrade would not build, and every branch would get it. What came is known by
//! the digests of the manifest; a base that does not fit them is no base.

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

/// How conflicts at some paths are to end, for those who need no text for it.
#[derive(Clone, Debug, Default)]
pub struct ConflictResolution {
    /// Where what is here stays.
    pub ours: BTreeSet<RepoPath>,
    /// Where what comes is taken.
    pub theirs: BTreeSet<RepoPath>,
}

/// What an upgrade would do.
pub struct UpgradePlan {
    /// What sync goes by.
    pub context: SyncContext,
    /// Where the canonical branch stands.
    pub canonical_branch: CanonicalBranch,
    /// What is there.
    pub old: VendorManifest,
    /// What comes.
    pub new: VendorManifest,
    /// The paths that change.
    pub changed: Vec<PathChange>,
    /// Those of them where changes made here were merged with what comes.
    pub merged: Vec<RepoPath>,
    /// Paths that were changed here alone, and stay.
    pub kept: Vec<RepoPath>,
    /// What cannot be merged, with its three versions.
    pub conflicts: Vec<(PathConflict, MergeTriple)>,
    /// Conflicts that somebody has decided.
    pub resolved: Vec<MergeTriple>,
    /// Files outside of `xtask/` that came with the toolkit and are left alone, each with the file of
    /// the toolkit that has changed; nothing where the toolkit does not have it any more.
    pub left_alone: Vec<(String, Option<String>)>,
    /// How many files the new toolkit has elsewhere. What was changed in them here goes along.
    pub moved_count: usize,
    /// The new tree; one without what comes where there are conflicts.
    pub tree: Id,
}

impl UpgradePlan {
    /// Whether all is there already.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.old.files == self.new.files && self.old.parts == self.new.parts
    }

    /// What comes, as people read it.
    #[must_use]
    pub fn describe_new_version(&self) -> String {
        format!("{} ({})", self.new.version, short_id(&self.new.commit))
    }

    /// What is there, in the same way.
    #[must_use]
    pub fn describe_old_version(&self) -> String {
        format!("{} ({})", self.old.version, short_id(&self.old.commit))
    }

    /// The message of the commit.
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

/// What is vendored on the canonical branch, for the question where it comes from.
pub fn read_canonical_manifest(repo: &Repo) -> Result<VendorManifest> {
    let context = context::read_context(repo)?;
    let ground = locate_canonical_branch(repo, &context)?;
    read_manifest(repo, repo.tree_of(ground.tip)?, &ground.branch)
}

fn read_manifest(repo: &Repo, tree: Id, branch: &str) -> Result<VendorManifest> {
    let Some(entry) = repo.entry_at(tree, &RepoPath::new(MANIFEST))? else {
        return Err(Error::usage(format!(
            "`{branch}` holds no `{MANIFEST}`: nothing was vendored there, so there is nothing to upgrade"
        ))
        .with_hint("in a checkout of the toolkit: `cargo xtask vendor DIR` puts it into a repository")
        .with_hint(format!(
            "if another branch has it: `cargo xtask reverse-sync BRANCH COMMIT` brings it to `{branch}`"
        )));
    };
    VendorManifest::parse(&repo.read_blob(entry.id)?)
}

/// Looks what an upgrade to this toolkit would do. Objects are written into `repo`, which may be one in
/// memory; nothing else is.
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
                // What the toolkit does not have any more belongs to the repository from now on.
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
                "`{path}` is no managed path, so nothing there can be upgraded"
            ))
            .with_hint(format!(
                "`[managed] include` of `{SYNC_FILE}` on `{}` should hold `/{NAME}/`, and `exclude` \
                 nothing of it",
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
    // The launcher was a program of the repository once, and is an example now.
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

/// The tree and the manifest as they would be if the toolkit had had its files where the new one has them, and where
/// each of those was before.
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
        // Those are named as they lie in the toolkit.
        if let Some(now) =
            file_renames::find_new_path(template).filter(|now| !comes(template) && comes(now))
        {
            *template = now;
        }
    }
    let tree = if changes.is_empty() { tree } else { repo.write_tree(Some(tree), &changes)? };
    Ok((tree, old, moved))
}

/// A path that comes must differ from those that are there by more than case: there are disks on which
/// they would be one.
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
            "`{path}` comes, and differs from `{other}` by case alone; nothing was changed"
        ))
        .with_hint(format!("rename `{other}` on the branch first"))),
    }
}

/// Whether what is there is what came.
fn matches_checksum(repo: &Repo, entry: TreeEntry, came: Option<&String>) -> bool {
    let is_file = matches!(entry.mode, FileMode::File | FileMode::Executable);
    let mark = |content: Vec<u8>| compute_checksum(&content, entry.mode == FileMode::Executable);
    is_file && repo.read_blob(entry.id).is_ok_and(|content| Some(&mark(content)) == came)
}

/// A file that comes.
struct IncomingFile {
    entry: TreeEntry,
    content: Vec<u8>,
    checksum: String,
}

/// What comes, by the path that it gets.
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

/// A toolkit that is older than what is there is nothing to upgrade to.
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
            "{} is not known to be newer than what is vendored here, {} ({}); nothing was changed",
            toolkit.describe_version(),
            old.version,
            short_id(&old.commit)
        ))
        .with_hint("it has the same version, and its history does not hold the commit from which this came")
        .with_hint("a shallow clone has no history: `git fetch --unshallow` there"));
    }
    Err(Error::negative(format!(
        "{} is older than what is vendored here, {} ({}); nothing was changed",
        toolkit.describe_version(),
        old.version,
        short_id(&old.commit)
    ))
    .with_hint("`--ref` names another branch, tag or commit of it")
    .with_hint("to go back: `git revert` of the commit that has upgraded, on the canonical branch"))
}

/// Where contents can be found as they came.
struct BaseFinder<'a> {
    repo: &'a Repo,
    tip: Id,
    old: &'a VendorManifest,
    toolkit: &'a Toolkit,
    /// Which file of the toolkit each file outside of `xtask/` came from.
    placed: &'a BTreeMap<String, String>,
    /// Where files lay before they moved.
    old_paths: &'a BTreeMap<RepoPath, RepoPath>,
}

impl BaseFinder<'_> {
    /// A path as it came: in the toolkit at its commit, or in the repository since the manifest has
    /// stood as it does. Where it cannot be found, what stands for it is like nothing else, so that
    /// changes on both sides conflict.
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

/// Merges all of them, and puts what comes of it into the upgrade.
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
        // A base that is not known is none, for a text.
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
            return Err(Error::usage(format!("`{named}` is not in conflict")).with_hint(
                "`--ours` and `--theirs` decide conflicts, as a plain run has named them",
            ));
        }
    }
    let all: Vec<PathChange> = changes.into_values().collect();
    let carried = cherry_pick_changes(repo, tools.disk, tree, &all, labels)?;
    for conflict in carried.conflicts {
        // What was decided may be in the way of something else.
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

/// Puts an upgrade without conflicts on the canonical branch. Says where it is then; nothing where
/// the branch has moved since.
pub fn commit_upgrade(repo: &Repo, upgrade: &UpgradePlan, tools: &Tools<'_>) -> Result<Option<Id>> {
    let committer = repo.committer(tools.world.now_seconds())?;
    tools
        .disk
        .check_gate("write the commit of the upgrade")
        .map_err(|cause| Error::unable("the commit cannot be written").with_cause(cause))?;
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

/// Puts the texts of conflicts beside the branch. Answers with a line for each: what is wrong, and
/// where its text lies or what decides it.
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
                    line.push_str(&format!(" (an earlier text of it: {})", other.display()));
                }
                line
            }
            other => format!("{path}: {}", describe_conflict(other)),
        });
    }
    Ok(lines)
}

/// What a conflict is about, where it is not about lines.
#[must_use]
pub fn describe_conflict(clash: &ConflictKind) -> String {
    match clash {
        ConflictKind::Lines { .. } => "both changed the same lines".to_owned(),
        ConflictKind::DeletedByUs => "it was removed here, and comes changed".to_owned(),
        ConflictKind::DeletedByThem => {
            "it was changed here, and the new toolkit does not have it".to_owned()
        }
        ConflictKind::NotText => "both changed it, and it is no text".to_owned(),
        ConflictKind::NotMerged(_) => {
            "both changed it, and git's attributes say that it is not merged".to_owned()
        }
        ConflictKind::InTheWay(other) => {
            format!("`{other}` is in its place here; move it away on the branch first")
        }
    }
}
