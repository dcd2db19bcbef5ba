//! Changes branch: the canonical commit, and on top of it one commit per source branch with changes
//! to be promoted.
//!
//! Extracting a source again replaces its commit in place and carries the others over. The same
//! sources on the same canonical commit produce the same commit ids on every machine. Manual
//! commits are carried along like a source without a name. For example:
//!
//! ```text
//! orchestration-tools-changes
//!   chore(extract): 1 managed file from feature-b
//!   chore(extract): 2 managed files from feature-a
//! orchestration-tools  (canonical)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::cherry_pick::{PathChange, PathConflict, cherry_pick_changes, list_changes_between};
use super::cherry_pick_range::{CherryPickItem, PickStatus, cherry_pick_commits};
use super::commit_messages::{
    BRANCH_TRAILER, COMMIT_TRAILER, ExtractSummary, SummaryCommit, SummaryFile,
};
use super::source::{SourceBranch, check_path_names, managed_path_filter};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_git::{
    AllPaths, CommitInfo, EntryPair, Head, Id, NewCommit, Repo, Signature, TreeEntry,
    count_changed_lines,
};
use xtask_sync::branch_overview::list_path_states;
use xtask_sync::classify::{PathClass, classify_path};
use xtask_sync::context::SyncContext;
use xtask_sync::managed::ManagedPaths;
use xtask_sync::merge::find_base_entry;
use xtask_sync::upstream::is_sync_commit;

/// A commit on the changes branch.
#[derive(Clone, Debug)]
pub struct PendingChange {
    pub commit: CommitInfo,
    /// Source branch; `None` for a manual commit.
    pub branch: Option<String>,
    changes: BTreeMap<RepoPath, EntryPair>,
}

impl PendingChange {
    /// Returns the name for messages: the source branch, or the quoted subject of a manual commit.
    #[must_use]
    pub fn name(&self) -> String {
        self.branch.clone().unwrap_or_else(|| format!("`{}`", self.commit.subject()))
    }

    /// Returns whether `word` on the command line means this commit: the name of the source, or at
    /// least `SHORTEST_ID` digits of a manual commit's id.
    #[must_use]
    pub fn is_named_by(&self, word: &str) -> bool {
        match &self.branch {
            Some(branch) => branch == word,
            None => {
                let id = self.commit.id.to_string();
                word.len() >= SHORTEST_ID && id.starts_with(&word.to_ascii_lowercase())
            }
        }
    }

    /// Returns whether both have the same source, or are the same manual commit on different
    /// parents.
    fn is_counterpart(&self, other: &PendingChange) -> bool {
        match (&self.branch, &other.branch) {
            (None, None) => {
                (&self.commit.author, &self.commit.message)
                    == (&other.commit.author, &other.commit.message)
                    && self.changes.keys().eq(other.changes.keys())
            }
            (one, other) => one == other,
        }
    }

    /// Returns whether both have the same content. The message of an extraction covers all its
    /// inputs; for manual commits the changes are compared.
    fn has_same_content(&self, other: &PendingChange) -> bool {
        let is_by_hand = self.branch.is_none();
        self.commit.message == other.commit.message
            && (!is_by_hand || self.changes == other.changes)
    }

    /// Returns the commit of the source that this one was extracted from.
    #[must_use]
    pub fn source_commit(&self) -> Option<Id> {
        Id::from_hex(self.commit.trailer(COMMIT_TRAILER)?.as_bytes()).ok()
    }
}

/// Minimum length of an abbreviated id.
const SHORTEST_ID: usize = 7;

/// Ref with the remote changes branch as of the last local update; shows which of the two has
/// changed since.
const SEEN_REF: &str = "refs/xtask/changes-seen";

/// Content and refs of the changes branch.
#[derive(Clone, Debug)]
pub struct ChangesBranch {
    /// Commits, oldest first.
    pub commits: Vec<PendingChange>,
    /// Canonical commit that `commits` are based on.
    pub base: Option<Id>,
    /// Local branch.
    pub local: Option<Id>,
    /// Remote-tracking branch, as last fetched.
    pub remote: Option<Id>,
}

/// Choice between the local and the remote changes branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangesSide {
    /// Both, merged by their changes since the last common state.
    Both,
    /// Only the remote one, so that a push does not publish extractions of this clone alone.
    Remote,
}

/// Reads the changes branch.
pub fn read_changes_branch(
    repo: &Repo,
    context: &SyncContext,
    side: ChangesSide,
) -> Result<ChangesBranch> {
    let config = &context.config;
    let local = repo.resolve_ref(&format!("refs/heads/{}", config.changes_branch))?;
    let remote =
        repo.resolve_ref(&format!("refs/remotes/{}/{}", config.remote, config.changes_branch))?;
    let of =
        |tip: Option<Id>| tip.map_or(Ok(Vec::new()), |tip| list_branch_commits(repo, context, tip));
    let commits = match (local, remote, side) {
        (_, remote, ChangesSide::Remote) => of(remote)?,
        (local, None, _) => of(local)?,
        (None, remote, _) => of(remote)?,
        (Some(here), Some(there), _) => {
            let before = of(find_common_state(repo, context, here, there)?)?;
            merge_sides(repo, context, of(local)?, of(remote)?, &before)?
        }
    };
    let parent = |one: &PendingChange| one.commit.parents.first().copied();
    let base = commits.first().and_then(parent).or(remote).or(local);
    Ok(ChangesBranch { commits, base, local, remote })
}

/// Lists the names of pending changes that are not canonical yet, without writing.
pub fn list_pending(repo: &Repo, context: &SyncContext, disk: &Disk<'_>) -> Result<Vec<String>> {
    let waiting = read_changes_branch(repo, context, ChangesSide::Both)?;
    let memory = repo.in_memory();
    Ok(match build_changes_branch(&memory, disk, context, &waiting, None, &BTreeSet::new())? {
        Ok(built) => built.waiting,
        Err(_) => waiting.commits.iter().map(PendingChange::name).collect(),
    })
}

/// Returns the last common state of both sides: the one of the two that the other once had,
/// according to the reflogs, or else `SEEN_REF`.
fn find_common_state(
    repo: &Repo,
    context: &SyncContext,
    here: Id,
    there: Id,
) -> Result<Option<Id>> {
    let config = &context.config;
    let own = repo.reflog(&format!("refs/heads/{}", config.changes_branch));
    let tracked = repo.reflog(&format!("refs/remotes/{}/{}", config.remote, config.changes_branch));
    let has = |log: &[(Id, i64)], id| log.iter().any(|(was, _)| *was == id);
    let last = |log: &[(Id, i64)]| log.last().map(|(_, seconds)| *seconds);
    // If each once had the state of the other, the last move decides.
    match (has(&own, there), has(&tracked, here)) {
        (true, true) if last(&own) > last(&tracked) => Ok(Some(there)),
        (_, true) => Ok(Some(here)),
        (true, false) => Ok(Some(there)),
        (false, false) => repo.resolve_ref(SEEN_REF),
    }
}

/// Saves the remote's state as of the local update in `SEEN_REF`.
pub fn record_seen_remote(repo: &Repo, remote: Option<Id>) -> Result<()> {
    let old = repo.resolve_ref(SEEN_REF)?;
    if old != remote {
        repo.swap_ref(SEEN_REF, old, remote, "xtask: changes seen")?;
    }
    Ok(())
}

/// Merges the local and the remote changes branch, source by source. A change since `before` on one
/// side alone wins; if both sides changed, the newer state of the source wins, and of manual
/// commits both are kept.
fn merge_sides(
    repo: &Repo,
    context: &SyncContext,
    mut here: Vec<PendingChange>,
    there: Vec<PendingChange>,
    before: &[PendingChange],
) -> Result<Vec<PendingChange>> {
    let is_as_before = |one: &PendingChange| {
        before.iter().any(|was| was.is_counterpart(one) && was.has_same_content(one))
    };
    let mut commits = Vec::new();
    for one in there {
        // Each has at most one counterpart; an identical one is preferred.
        let same =
            here.iter().position(|own| own.is_counterpart(&one) && own.has_same_content(&one));
        let at = same.or_else(|| here.iter().position(|own| own.is_counterpart(&one)));
        let Some(at) = at else {
            // This side has removed it, unless the other has changed it since.
            if !is_as_before(&one) {
                commits.push(one);
            }
            continue;
        };
        let own = here.remove(at);
        match (is_as_before(&own), is_as_before(&one)) {
            _ if same.is_some() => commits.push(one),
            (true, _) => commits.push(one),
            (_, true) => commits.push(own),
            (false, false) if one.branch.is_none() => commits.extend([one, own]),
            (false, false) => {
                let is_newer = is_from_newer_source(repo, context, &own, &one)?;
                commits.push(if is_newer { own } else { one });
            }
        }
    }
    // A removal by the other side is kept.
    commits.extend(here.into_iter().filter(|own| !is_as_before(own)));
    Ok(commits)
}

/// Returns whether `one` was extracted from a newer state of the source than `other`: from a
/// descendant, or from the present tip.
fn is_from_newer_source(
    repo: &Repo,
    context: &SyncContext,
    one: &PendingChange,
    other: &PendingChange,
) -> Result<bool> {
    let (Some(from), Some(other_from)) = (one.source_commit(), other.source_commit()) else {
        return Ok(false);
    };
    let name = one.branch.as_deref().unwrap_or_default();
    let mut now = Vec::new();
    for prefix in ["refs/heads".to_owned(), format!("refs/remotes/{}", context.config.remote)] {
        now.extend(repo.resolve_ref(&format!("{prefix}/{name}"))?);
    }
    if now.contains(&from) != now.contains(&other_from) {
        return Ok(now.contains(&from));
    }
    let are_here = repo.has_object(from) && repo.has_object(other_from);
    Ok(are_here && from != other_from && repo.is_ancestor(other_from, from)?)
}

/// Lists the commits of one side, oldest first. A merge or root commit is an error.
fn list_branch_commits(repo: &Repo, context: &SyncContext, tip: Id) -> Result<Vec<PendingChange>> {
    let mut found = Vec::new();
    let changes = &context.config.changes_branch;
    for id in repo.commits_between(Some(context.canonical.commit), tip, true)? {
        let commit = repo.read_commit(id)?;
        let &[parent] = commit.parents.as_slice() else {
            let what = if commit.parents.is_empty() { "is a root commit" } else { "is a merge" };
            return Err(Error::unable(format!(
                "`{changes}` must have one commit per source: {} {what}",
                repo.short_id(id)
            ))
            .with_hint(format!("make it linear again (`git rebase`), or delete `{changes}`")));
        };
        // People copy messages, so the committer decides, not the trailer alone.
        let is_ours = commit.committer.email == context.config.identity.email;
        let branch = commit.trailer(BRANCH_TRAILER).filter(|_| is_ours).map(str::to_owned);
        let before = Some(repo.tree_of(parent)?);
        let changes = repo.compare_trees(before, Some(commit.tree), &AllPaths)?;
        found.push(PendingChange { commit, branch, changes });
    }
    found.reverse();
    Ok(found)
}

/// Changes of a branch at managed paths.
#[derive(Clone, Debug)]
pub struct SourceChanges {
    pub source: SourceBranch,
    pub changes: Vec<PathChange>,
    /// Commits that made the changes, newest first.
    pub commits: Vec<CommitInfo>,
}

/// Finds the changes of a branch: contents that never were canonical, against the newest canonical
/// content that they came from; or all differences to the merge base with `base`, if given.
pub fn find_source_changes(
    repo: &Repo,
    context: &SyncContext,
    source: SourceBranch,
    base: Option<Id>,
    progress: &dyn Progress,
) -> Result<SourceChanges> {
    let managed = ManagedPaths::new(&context.config, Some(&source.name));
    let tree = repo.tree_of(source.tip)?;
    let base = match base {
        // As with git's `A...B`: changes on the base's side since the merge base are not the
        // branch's.
        Some(base) => Some(repo.merge_base(base, source.tip)?.ok_or_else(|| {
            Error::usage(format!("`{}` and that base have no merge base", source.name))
        })?),
        None => None,
    };
    let changes = match base {
        Some(base) => {
            list_changes_between(
                repo,
                Some(repo.tree_of(base)?),
                tree,
                &managed_path_filter(&managed),
            )?
            .0
        }
        None => find_own_changes(repo, context, &source, progress)?,
    };
    check_path_names(&changes)?;
    let paths: BTreeSet<&RepoPath> = changes.iter().map(|change| &change.path).collect();
    let canonical = context.canonical.commit;
    let since = match base {
        Some(base) => Some(base),
        None => repo.merge_base(source.tip, canonical)?,
    };
    let mut commits = Vec::new();
    for id in repo.commits_between(since, source.tip, false)? {
        let commit = repo.read_commit(id)?;
        if commit.parents.len() > 1
            || is_sync_commit(&commit, &context.config.identity)
            || repo.is_ancestor(id, canonical)?
        {
            continue;
        }
        let before = match commit.parents.first() {
            Some(parent) if repo.has_object(*parent) => Some(repo.tree_of(*parent)?),
            _ => None,
        };
        let changed = repo.compare_trees(before, Some(commit.tree), &managed)?;
        if changed.keys().any(|path| paths.contains(path)) {
            commits.push(commit);
        }
    }
    Ok(SourceChanges { source, changes, commits })
}

fn find_own_changes(
    repo: &Repo,
    context: &SyncContext,
    source: &SourceBranch,
    progress: &dyn Progress,
) -> Result<Vec<PathChange>> {
    let tree = repo.tree_of(source.tip)?;
    let head = Head { branch: Some(source.name.clone()), commit: source.tip, tree };
    let managed = ManagedPaths::new(&context.config, Some(&source.name));
    let tip = context.canonical.commit;
    let once = repo.read_canonical_history(tip, &managed, managed.rules_digest(), progress)?;
    let mut changes = Vec::new();
    for state in list_path_states(repo, context, &once, &head, &mut repo.merge_base_finder())? {
        match classify_path(&state).class {
            PathClass::Customised => {
                let old = find_base_entry(repo, &head, context, &once, &state.path)?;
                changes.push(PathChange { path: state.path, old, new: state.head });
            }
            PathClass::Unknown => {
                return Err(Error::unable(format!(
                    "cannot determine the changes of `{}`: shallow clone",
                    source.name
                ))
                .with_hint("`git fetch --unshallow` fetches the missing history"));
            }
            _ => {}
        }
    }
    Ok(changes)
}

/// A changes branch built in the object database, without moving refs.
#[derive(Clone, Debug)]
pub struct BuiltBranch {
    pub tip: Id,
    /// New commit of the extracted source.
    pub own_commit: Option<Id>,
    /// Changes in `own_commit`.
    pub changed: Vec<PathChange>,
    /// Names of the pending sources, in order.
    pub waiting: Vec<String>,
    /// Sources whose content has become canonical.
    pub arrived: Vec<String>,
    /// Source that keeps the branch on an older canonical commit, with its conflicts.
    pub stale: Option<(String, Vec<PathConflict>)>,
}

/// Conflict that prevents building the changes branch.
#[derive(Clone, Debug)]
pub struct MergeConflict {
    /// Source that conflicts.
    pub branch: String,
    /// Other sources that it conflicts with; empty for the canonical branch.
    pub with: Vec<String>,
    pub conflicts: Vec<PathConflict>,
}

/// Builds the changes branch, with a new commit for the source of `extraction` if given, and
/// without the commits in `gone`. Objects are written; no ref is moved.
pub fn build_changes_branch(
    repo: &Repo,
    disk: &Disk<'_>,
    context: &SyncContext,
    waiting: &ChangesBranch,
    extraction: Option<&SourceChanges>,
    gone: &BTreeSet<Id>,
) -> Result<Result<BuiltBranch, MergeConflict>> {
    let build = BranchBuilder { repo, disk, context, extraction };
    let commits: Vec<&PendingChange> =
        waiting.commits.iter().filter(|one| !gone.contains(&one.commit.id)).collect();
    let tip = context.canonical.commit;
    let first = build.build_on(tip, &commits)?;
    let clashing = match first {
        Ok(built) => return Ok(Ok(built)),
        Err(clashing) => clashing,
    };
    // A source that conflicts with the newest canonical commit must not block the others.
    let is_own = extraction.is_some_and(|own| own.source.name == clashing.branch);
    if let Some(base) = waiting.base.filter(|base| *base != tip)
        && !is_own
        && let Ok(built) = build.build_on(base, &commits)?
    {
        return Ok(Ok(BuiltBranch { stale: Some((clashing.branch, clashing.conflicts)), ..built }));
    }
    Ok(Err(clashing))
}

struct BranchBuilder<'a> {
    repo: &'a Repo,
    disk: &'a Disk<'a>,
    context: &'a SyncContext,
    extraction: Option<&'a SourceChanges>,
}

impl BranchBuilder<'_> {
    fn build_on(
        &self,
        base: Id,
        commits: &[&PendingChange],
    ) -> Result<Result<BuiltBranch, MergeConflict>> {
        let mut built = BuiltBranch {
            tip: base,
            own_commit: None,
            changed: Vec::new(),
            waiting: Vec::new(),
            arrived: Vec::new(),
            stale: None,
        };
        let own_name = self.extraction.map(|own| own.source.name.as_str());
        let mut is_put = false;
        for one in commits {
            if one.branch.is_some() && one.branch.as_deref() == own_name {
                // Only manual edits can list a source twice: the first place counts.
                if !std::mem::replace(&mut is_put, true)
                    && let Err(clashing) = self.commit_extraction(&mut built, base, commits)?
                {
                    return Ok(Err(clashing));
                }
                continue;
            }
            if let Err(clashing) = self.carry_over(&mut built, one, commits)? {
                return Ok(Err(clashing));
            }
        }
        if self.extraction.is_some() && !is_put {
            return Ok(self.commit_extraction(&mut built, base, commits)?.map(|()| built));
        }
        Ok(Ok(built))
    }

    /// Carries over an existing commit.
    fn carry_over(
        &self,
        built: &mut BuiltBranch,
        one: &PendingChange,
        commits: &[&PendingChange],
    ) -> Result<Result<(), MergeConflict>> {
        let BranchBuilder { repo, disk, .. } = self;
        let parent = one.commit.parents[0];
        if parent == built.tip {
            built.tip = one.commit.id;
            built.waiting.push(one.name());
            return Ok(Ok(()));
        }
        let changes = self.list_changes(one)?;
        let item = CherryPickItem {
            commit: one.commit.id,
            changes,
            trailers: Vec::new(),
            label: one.name(),
        };
        let none = BTreeMap::new();
        let onto = &self.context.config.changes_branch;
        let series = cherry_pick_commits(repo, disk, built.tip, &[item], None, &none, onto)?;
        match &series.statuses[..] {
            [PickStatus::Conflicts(conflicts)] => {
                return Ok(Err(self.build_conflict(one.name(), conflicts.clone(), commits)?));
            }
            [PickStatus::Picked { .. }] => built.waiting.push(one.name()),
            _ => built.arrived.push(one.name()),
        }
        built.tip = series.tip;
        Ok(Ok(()))
    }

    /// Adds the commit of the extraction.
    fn commit_extraction(
        &self,
        built: &mut BuiltBranch,
        base: Id,
        commits: &[&PendingChange],
    ) -> Result<Result<(), MergeConflict>> {
        let BranchBuilder { repo, disk, context, .. } = self;
        let Some(own) = self.extraction else { return Ok(Ok(())) };
        let name = own.source.name.clone();
        let labels = (context.config.changes_branch.as_str(), name.as_str());
        let carried =
            cherry_pick_changes(repo, disk, repo.tree_of(built.tip)?, &own.changes, labels)?;
        if !carried.conflicts.is_empty() {
            let labels = (context.config.branch.as_str(), name.as_str());
            let alone = cherry_pick_changes(repo, disk, repo.tree_of(base)?, &own.changes, labels)?;
            if !alone.conflicts.is_empty() {
                let (branch, conflicts) = (name, alone.conflicts);
                return Ok(Err(MergeConflict { branch, with: Vec::new(), conflicts }));
            }
            return Ok(Err(self.build_conflict(name, carried.conflicts, commits)?));
        }
        if carried.changed.is_empty() {
            built.arrived.push(name);
            return Ok(Ok(()));
        }
        let summary = build_summary(repo, own, &carried.changed)?;
        let parent = repo.read_commit(built.tip)?.committer.seconds;
        let seconds = parent.max(repo.read_commit(own.source.tip)?.committer.seconds);
        let identity = &context.config.identity;
        let committer =
            Signature { name: identity.name.clone(), email: identity.email.clone(), seconds };
        disk.check_gate("write the commit")
            .map_err(|cause| Error::unable("cannot write the commit").with_cause(cause))?;
        built.tip = repo.write_commit(&NewCommit {
            tree: carried.tree,
            parents: &[built.tip],
            author: own.commits.first().map(|commit| &commit.author),
            committer: &committer,
            message: &summary.to_commit_message(),
        })?;
        built.own_commit = Some(built.tip);
        built.changed = carried.changed;
        built.waiting.push(name);
        Ok(Ok(()))
    }

    fn list_changes(&self, one: &PendingChange) -> Result<Vec<PathChange>> {
        let before = self.repo.tree_of(one.commit.parents[0])?;
        let all = |_: &RepoPath| true;
        Ok(list_changes_between(self.repo, Some(before), one.commit.tree, &all)?.0)
    }

    /// Builds a `MergeConflict` with the sources that change the same paths.
    fn build_conflict(
        &self,
        branch: String,
        conflicts: Vec<PathConflict>,
        commits: &[&PendingChange],
    ) -> Result<MergeConflict> {
        let mut with = Vec::new();
        let clashes = |path: &RepoPath| {
            conflicts.iter().any(|conflict| {
                conflict.path == *path
                    || conflict.path.is_below(path)
                    || path.is_below(&conflict.path)
            })
        };
        for one in commits.iter().filter(|one| one.name() != branch) {
            if self.list_changes(one)?.iter().any(|change| clashes(&change.path)) {
                with.push(one.name());
            }
        }
        if let Some(own) = self.extraction.filter(|own| own.source.name != branch)
            && own.changes.iter().any(|change| clashes(&change.path))
            && !with.contains(&own.source.name)
        {
            with.push(own.source.name.clone());
        }
        Ok(MergeConflict { branch, with, conflicts })
    }
}

/// Builds the summary of an extraction.
pub fn build_summary(
    repo: &Repo,
    own: &SourceChanges,
    changed: &[PathChange],
) -> Result<ExtractSummary> {
    let mut files = Vec::new();
    let all = changed.iter().flat_map(|change| {
        let entries = [change.old, change.new].into_iter().flatten();
        entries.map(|entry| (entry.id, change.path.to_string()))
    });
    if repo.may_fetch() {
        repo.fetch_objects(all)?;
    }
    for change in changed {
        let action = change.action();
        let text = |entry: Option<TreeEntry>| {
            entry.map_or(Ok(Vec::new()), |entry: TreeEntry| repo.read_blob(entry.id))
        };
        // In a dry run, blobs missing in a partial clone are not fetched, and their lines not
        // counted.
        let mut both = [change.old, change.new].into_iter().flatten();
        let is_here = !repo.is_partial() || both.all(|entry| repo.has_object(entry.id));
        let lines = match is_here {
            true => count_changed_lines(&text(change.old)?, &text(change.new)?),
            false => None,
        };
        files.push(SummaryFile { action, path: change.path.to_string(), lines });
    }
    let commits = own.commits.iter().map(|commit| SummaryCommit {
        id: repo.short_id(commit.id),
        subject: commit.subject().to_owned(),
        author: format!("{} <{}>", commit.author.name, commit.author.email),
    });
    Ok(ExtractSummary {
        branch: own.source.name.clone(),
        tip: own.source.tip.to_string(),
        files,
        commits: commits.collect(),
    })
}
