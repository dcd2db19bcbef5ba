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

use super::base_finder::{BaseFinder, matches_checksum};
use super::cargo_alias;
use super::conflict_files::{MergeTriple, UpgradeConflict};
use super::file_renames;
use super::manifest::{MANIFEST, VendorManifest, compute_checksum};
use super::merge_paths::{ConflictResolution, PathMerge};
use super::toolkit::{CommitOrder, Toolkit};
use super::version_status::find_manifest;
use xtask_base::error::{Error, Result};
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_changes::cherry_pick::PathChange;
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
    pub conflicts: Vec<UpgradeConflict>,
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
        self.new.describe_version()
    }

    /// Returns the present version, e.g. `0.1.0 (5e4d3c2b1a)`.
    #[must_use]
    pub fn describe_old_version(&self) -> String {
        self.old.describe_version()
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

/// Reads the manifest on the canonical branch.
pub fn read_canonical_manifest(repo: &Repo) -> Result<VendorManifest> {
    let context = context::read_context(repo)?;
    let ground = locate_canonical_branch(repo, &context)?;
    read_manifest(repo, repo.tree_of(ground.tip)?, &ground.branch)
}

fn read_manifest(repo: &Repo, tree: Id, branch: &str) -> Result<VendorManifest> {
    find_manifest(repo, tree)?.ok_or_else(|| {
        Error::usage(format!("`{branch}` has no `{MANIFEST}`: no toolkit was vendored there"))
            .with_hint("in a checkout of the toolkit, `cargo xtask vendor DIR` adds it to a repository")
            .with_hint(format!(
                "if another branch has it, `cargo xtask reverse-sync BRANCH COMMIT` copies it to `{branch}`"
            ))
    })
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
    let planner = PathPlanner {
        bases: BaseFinder {
            repo,
            tip: ground.tip,
            old: &old,
            toolkit,
            placed: &placed,
            old_paths: &moved,
        },
        tree,
        branch: &ground.branch,
        managed: ManagedPaths::new(&context.config, None),
        incoming: &comes,
    };
    let DecidedPaths { triples: mut threes, kept, left_alone } = planner.decide_paths(&mut new)?;
    threes.extend(plan_alias_updates(repo, tree)?);
    check_case_collisions(repo, tree, &threes)?;
    let version = format!("xtask {}", new.describe_version());
    let labels = (&ground.branch[..], &version[..]);
    let done = PathMerge { repo, tools, tree, triples: &threes, labels }.merge_paths(sides)?;
    let tree = match done.conflicts.is_empty() {
        true => write_manifest(repo, done.tree, &new)?,
        false => tree,
    };
    Ok(UpgradePlan {
        context,
        canonical_branch: ground,
        old,
        new,
        changed: done.changed,
        merged: done.merged,
        kept,
        conflicts: done.conflicts,
        resolved: done.resolved,
        left_alone,
        moved_count: moved.len(),
        tree,
    })
}

fn write_manifest(repo: &Repo, tree: Id, manifest: &VendorManifest) -> Result<Id> {
    let id = repo.write_blob(manifest.to_toml().as_bytes())?;
    let entry = TreeEntry { mode: FileMode::File, id };
    repo.write_tree(Some(tree), &[(RepoPath::new(MANIFEST), Some(entry))])
}

/// What an upgrade does with a path of the old or the new version.
enum PathDecision {
    /// The new version does not change it, and neither did anybody here.
    UpToDate,
    /// It has local changes, and the new version does not touch it.
    Kept,
    /// The new toolkit does not have this file outside of `xtask/`: it belongs to the repository from now on.
    Released,
    /// It is outside of `xtask/` and not managed, so it is not updated.
    Unmanaged {
        /// The path of its template.
        template: String,
    },
    Merge(MergeTriple),
}

/// Decides what happens to each path.
struct PathPlanner<'a> {
    bases: BaseFinder<'a>,
    tree: Id,
    branch: &'a str,
    managed: ManagedPaths,
    incoming: &'a BTreeMap<String, IncomingFile>,
}

/// What happens to all paths.
#[derive(Default)]
struct DecidedPaths {
    triples: Vec<MergeTriple>,
    kept: Vec<RepoPath>,
    /// As in `UpgradePlan`.
    left_alone: Vec<(String, Option<String>)>,
}

impl PathPlanner<'_> {
    /// Decides about all paths, and removes from the `new` manifest what is left alone.
    fn decide_paths(&self, new: &mut VendorManifest) -> Result<DecidedPaths> {
        let old = self.bases.old;
        let mut found = DecidedPaths::default();
        let names: BTreeSet<&String> = old.files.keys().chain(self.incoming.keys()).collect();
        for name in names {
            match self.decide(name)? {
                PathDecision::UpToDate => {}
                PathDecision::Kept => found.kept.push(RepoPath::new(name.as_str())),
                PathDecision::Released => {
                    found.left_alone.push((name.clone(), None));
                    new.placed.remove(name);
                }
                PathDecision::Unmanaged { template } => {
                    found.left_alone.push((name.clone(), Some(template)));
                    new.files.extend(old.files.get(name).map(|came| (name.clone(), came.clone())));
                }
                PathDecision::Merge(three) => found.triples.push(three),
            }
        }
        Ok(found)
    }

    fn decide(&self, name: &str) -> Result<PathDecision> {
        let BaseFinder { repo, old, .. } = self.bases;
        let path = RepoPath::new(name);
        let ours = repo.entry_at(self.tree, &path)?;
        let came = old.files.get(name).map(String::as_str);
        let file = self.incoming.get(name);
        let is_unchanged = ours.is_some_and(|ours| matches_checksum(repo, ours, came));
        if came == file.map(|file| file.checksum.as_str()) {
            return Ok(if is_unchanged { PathDecision::UpToDate } else { PathDecision::Kept });
        }
        let is_managed = self.managed.contains_path(path.as_bytes());
        match old.placed.get(name) {
            Some(_) if file.is_none() => return Ok(PathDecision::Released),
            Some(template) if !is_managed => {
                return Ok(PathDecision::Unmanaged { template: template.clone() });
            }
            None if !is_managed => return Err(unmanaged_error(&path, self.branch)),
            _ => {}
        }
        let theirs = match file {
            Some(file) => {
                Some(TreeEntry { mode: file.entry.mode, id: repo.write_blob(&file.content)? })
            }
            None => None,
        };
        let base = match came {
            Some(_) if is_unchanged => ours,
            Some(came) => Some(self.bases.find_base(&path, came)?),
            None => None,
        };
        Ok(PathDecision::Merge(MergeTriple { path, base, ours, theirs }))
    }
}

fn unmanaged_error(path: &RepoPath, branch: &str) -> Error {
    Error::usage(format!("`{path}` is not a managed path, so it cannot be upgraded")).with_hint(
        format!(
            "add `/{NAME}/` to `[managed] include` of `{SYNC_FILE}` on `{branch}`, and remove it from \
             `exclude`"
        ),
    )
}

/// Plans the new alias: in earlier versions the launcher was a binary, and now it is an example.
fn plan_alias_updates(repo: &Repo, tree: Id) -> Result<Vec<MergeTriple>> {
    let mut threes = Vec::new();
    for name in [".cargo/config.toml", ".cargo/config"] {
        let path = RepoPath::new(name);
        let Some(ours) = repo.entry_at(tree, &path)? else { continue };
        let text = String::from_utf8(repo.read_blob(ours.id)?).ok();
        if let Some(now) = text.as_deref().and_then(|text| cargo_alias::update_alias(text, NAME)) {
            let theirs = Some(TreeEntry { mode: ours.mode, id: repo.write_blob(now.as_bytes())? });
            threes.push(MergeTriple { path, base: Some(ours), ours: Some(ours), theirs });
        }
    }
    Ok(threes)
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
            "cannot determine whether {} is newer than the vendored {}; nothing was changed",
            toolkit.describe_version(),
            old.describe_version()
        ))
        .with_hint("it has the same version, and its history does not contain the vendored commit")
        .with_hint("a shallow clone has no history: `git fetch --unshallow` there"));
    }
    Err(Error::negative(format!(
        "{} is older than the vendored {}; nothing was changed",
        toolkit.describe_version(),
        old.describe_version()
    ))
    .with_hint("use `--ref` for another branch, tag or commit of it")
    .with_hint("to go back, `git revert` the commit of the upgrade on the canonical branch"))
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
