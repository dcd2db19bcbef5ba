//! Which branch differs where from the canonical branch: every branch with every managed path at which it is not in
//! sync, and how many branches were behind on each of the last days. Nothing is written.
//!
//! ```text
//! feature/menu  (Ada, 3 days ago)  setup/a: behind, setup/own: customised
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::groups::{PathGroup, choose_groups, find_group};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::{quote_for_shell, sanitize_line};
use xtask_git::{
    BranchInUse, CanonicalHistory, Head, Id, Operation, Repo, Tools, TreeEntry, UnusableRef,
    Worktree,
};
use xtask_sync::behind_history::{BranchState, count_behind_by_day};
use xtask_sync::branch_overview::BranchReader;
use xtask_sync::classify::{PathClass, classify_path};
use xtask_sync::context::SyncContext;
use xtask_sync::managed::ManagedPaths;
use xtask_sync::overlay;
use xtask_sync::pins::PinMark;
use xtask_sync::plan::PlannedPath;
use xtask_sync::run::{SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;
use xtask_sync::upstream::is_sync_commit;

/// The maximum number of sync commits that are skipped to find the last person.
const MAX_SYNC_COMMITS: usize = 100;

/// The longest name of an owner that is shown, in characters.
const MAX_OWNER_CHARS: usize = 60;

/// All branches beside the canonical one.
pub(super) struct Drift {
    /// The canonical branch.
    pub(super) canonical: String,
    pub(super) commit: Id,
    /// The number of managed paths of the canonical commit.
    pub(super) managed: usize,
    pub(super) groups: Vec<PathGroup>,
    /// The branches, those that need attention first.
    pub(super) branches: Vec<BranchDrift>,
    /// The worktrees whose HEAD is detached.
    pub(super) detached: Vec<BranchDrift>,
    /// The number of branches that were behind, by day, the last of which is today; `None` if there are too many
    /// commits to tell.
    pub(super) days: Result<Option<Vec<usize>>>,
    /// The remote whose branches these are, as last fetched; `None` for the branches of this clone.
    pub(super) remote: Option<String>,
    /// The operation of git in this worktree, whatever branch it is on.
    pub(super) operation_here: Option<BranchOperation>,
}

/// An operation of git on a branch, e.g. a rebase, and the worktree in which it ends.
#[derive(Clone)]
pub(super) struct BranchOperation {
    pub(super) operation: Operation,
    pub(super) root: PathBuf,
}

/// A branch, or a worktree whose HEAD is detached.
pub(super) struct BranchDrift {
    pub(super) name: String,
    /// Whether it is no branch, but a worktree at a commit.
    pub(super) is_detached: bool,
    pub(super) commit: Id,
    /// The author of the newest commit that is not one of sync.
    pub(super) owner: Option<String>,
    /// The time of that commit, in seconds since the epoch.
    pub(super) touched: Option<i64>,
    /// The worktree that has it checked out.
    pub(super) worktree: Option<PathBuf>,
    /// Whether that one has no folder any more.
    pub(super) is_worktree_gone: bool,
    /// Whether that is the worktree of this command.
    pub(super) is_current: bool,
    pub(super) is_protected: bool,
    /// What is in progress on it. Until that has ended, nothing is synced.
    pub(super) operation: Option<BranchOperation>,
    /// The paths that are not in sync.
    pub(super) paths: Vec<PathDrift>,
    /// Why the branch, or its worktree, could not be inspected.
    pub(super) fault: Option<String>,
    /// Why no command of ours can name it.
    pub(super) unusable: Option<UnusableRef>,
}

/// A path of a branch that is not in sync.
pub(super) struct PathDrift {
    pub(super) path: RepoPath,
    /// The index of its group.
    pub(super) group: usize,
    pub(super) class: PathClass,
    pub(super) reason: String,
    /// The entry of the commit of the branch.
    pub(super) head: Option<TreeEntry>,
    /// Whether the canonical commit has the path.
    pub(super) is_canonical: bool,
    /// The pin that keeps it, if it is pinned.
    pub(super) pin: Option<PinMark>,
}

impl BranchDrift {
    /// Returns the number of paths of a class; those that sparse checkout skips are behind as well.
    pub(super) fn count(&self, class: PathClass) -> usize {
        self.paths.iter().filter(|path| shown_class(path.class) == class).count()
    }

    /// Returns whether `sync --merge` may do something: the branch and the canonical one have versions of a path.
    pub(super) fn has_paths_to_merge(&self) -> bool {
        self.paths.iter().any(|path| {
            path.class == PathClass::Customised && path.head.is_some() && path.is_canonical
        })
    }

    /// Returns whether somebody has to do something about it.
    pub(super) fn needs_attention(&self) -> bool {
        self.fault.is_some() || self.count(PathClass::Behind) + self.count(PathClass::Unknown) > 0
    }

    /// Returns the order by need: faults, then branches that are behind, by how much, then the rest.
    fn sort_key(&self) -> impl Ord + use<> {
        let less = |class| usize::MAX - self.count(class);
        (
            self.fault.is_none(),
            less(PathClass::Behind),
            less(PathClass::Unknown),
            less(PathClass::Edited),
            less(PathClass::Untracked),
            less(PathClass::Customised),
            less(PathClass::Pinned),
            self.paths.is_empty(),
            self.name.clone(),
        )
    }
}

/// Returns the class under which a page counts a path: what sparse checkout skips is behind, too.
pub(super) fn shown_class(class: PathClass) -> PathClass {
    if class == PathClass::Sparse { PathClass::Behind } else { class }
}

/// Reads the worktree with this root, if its HEAD is detached.
pub(super) fn read_one_worktree(
    repo: &Repo,
    context: &SyncContext,
    root: &str,
    tools: &Tools<'_>,
) -> Result<Option<BranchDrift>> {
    let all = inspect_worktrees(repo, context, &Wanted::Detached(root), tools)?;
    Ok(all.into_iter().find_map(|found| found.into_detached(repo, context)))
}

/// Reads one branch, by its name; `None` if there is no such branch.
pub(super) fn read_one_branch(
    repo: &Repo,
    context: &SyncContext,
    name: &str,
    is_remote: bool,
    tools: &Tools<'_>,
) -> Result<Option<BranchDrift>> {
    let prefix = branch_prefix(context, is_remote);
    // No system has longer names, and an error about one would be no answer.
    let is_possible = name.len() < 1000 && name.split('/').all(|part| part.len() < 256);
    if !is_possible || context.is_reserved_branch(name) || !repo.is_branch_name(name) {
        return Ok(None);
    }
    let Some(commit) = repo.resolve_ref(&format!("{prefix}{name}"))? else { return Ok(None) };
    let managed = ManagedPaths::new(&context.config, None);
    let tip = context.canonical.commit;
    let once =
        repo.read_canonical_history(tip, &managed, managed.rules_digest(), tools.progress)?;
    let worktrees = match is_remote {
        true => Vec::new(),
        false => inspect_worktrees(repo, context, &Wanted::Branch(name), tools)?,
    };
    let commits = read_commits(repo, context, &once, is_remote, tools);
    let mut reader = DriftReader {
        repo,
        context,
        worktrees: by_branch(worktrees, repo).0,
        operations: find_operations(repo, is_remote),
        commits,
    };
    Ok(Some(reader.read_branch(name, commit)))
}

fn read_commits<'r>(
    repo: &'r Repo,
    context: &'r SyncContext,
    once: &'r CanonicalHistory,
    is_remote: bool,
    tools: &Tools<'_>,
) -> BranchReader<'r> {
    let now = tools.world.now_seconds();
    let reader = BranchReader::new(repo, context, once, now);
    if is_remote { reader.for_remote(now) } else { reader }
}

/// Returns where the branches are, e.g. `refs/heads/`.
fn branch_prefix(context: &SyncContext, is_remote: bool) -> String {
    match is_remote {
        true => format!("refs/remotes/{}/", context.config.remote),
        false => "refs/heads/".to_owned(),
    }
}

/// Reads the drift of all local branches, or with `is_remote` of those of the remote, as last fetched.
pub(super) fn read_drift(
    repo: &Repo,
    context: &SyncContext,
    is_remote: bool,
    tools: &Tools<'_>,
) -> Result<Drift> {
    let remote = &context.config.remote;
    if is_remote && !repo.has_remote(remote) {
        let hint = format!(
            "`git remote add {} URL` adds it; without `--remote` the page has the branches of this clone",
            quote_for_shell(remote)
        );
        return Err(Error::unable(format!("there is no remote `{remote}`")).with_hint(hint));
    }
    let managed = ManagedPaths::new(&context.config, None);
    let tip = context.canonical.commit;
    let once =
        repo.read_canonical_history(tip, &managed, managed.rules_digest(), tools.progress)?;
    let known = repo.list_tree(context.canonical.tree, &managed)?;
    let worktrees = match is_remote {
        true => Vec::new(),
        false => inspect_worktrees(repo, context, &Wanted::All, tools)?,
    };
    let (worktrees, detached) = by_branch(worktrees, repo);
    let mut detached: Vec<BranchDrift> =
        detached.into_iter().filter_map(|found| found.into_detached(repo, context)).collect();
    let commits = read_commits(repo, context, &once, is_remote, tools);
    let operations = find_operations(repo, is_remote);
    let mut reader = DriftReader { repo, context, worktrees, operations, commits };
    let mut branches = reader.read_all(&branch_prefix(context, is_remote), tools)?;
    let all: Vec<RepoPath> = known
        .into_keys()
        .chain(
            branches
                .iter()
                .chain(&detached)
                .flat_map(|branch| branch.paths.iter().map(|one| one.path.clone())),
        )
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let groups = choose_groups(all.iter());
    for path in branches.iter_mut().chain(&mut detached).flat_map(|branch| &mut branch.paths) {
        path.group = find_group(&groups, &path.path);
    }
    branches.sort_by_cached_key(BranchDrift::sort_key);
    let readable = branches.iter().filter(|branch| branch.commit != repo.null_id());
    let states: Vec<BranchState> = readable.map(to_branch_state).collect();
    let days = match repo.is_shallow() {
        true => Err(Error::unable(
            "the history is cut off in a shallow clone (`git fetch --unshallow`)",
        )),
        false => count_behind_by_day(repo, context, &once, &states, tools.world.now_seconds()),
    };
    Ok(Drift {
        canonical: context.config.branch.clone(),
        commit: tip,
        managed: all.len(),
        groups,
        // Commits that are missing leave out the chart, and nothing else.
        days,
        branches,
        detached,
        remote: is_remote.then(|| context.config.remote.clone()),
        operation_here: repo
            .current_operation()
            .filter(|_| !is_remote)
            .map(|operation| BranchOperation { operation, root: repo.root().to_path_buf() }),
    })
}

fn to_branch_state(branch: &BranchDrift) -> BranchState {
    let behind = branch.paths.iter().filter(|path| shown_class(path.class) == PathClass::Behind);
    BranchState {
        commit: branch.commit,
        behind: behind.map(|path| (path.path.clone(), path.head)).collect(),
    }
}

/// What a worktree has checked out, and how it differs.
struct CheckedOut {
    root: PathBuf,
    /// `None` if its HEAD is detached.
    branch: Option<String>,
    is_gone: bool,
    operation: Option<Operation>,
    /// The paths that are not in sync there, with uncommitted changes; or why it could not be inspected.
    paths: Result<Vec<PathDrift>>,
}

/// Which worktrees are inspected.
enum Wanted<'a> {
    All,
    /// Those that have a branch checked out.
    Branch(&'a str),
    /// The one with this root, if its HEAD is detached.
    Detached(&'a str),
}

impl Wanted<'_> {
    fn contains(&self, tree: &Worktree) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Branch(name) => tree.branch.as_deref() == Some(name),
            Wanted::Detached(root) => tree.branch.is_none() && tree.root.to_string_lossy() == *root,
        }
    }
}

impl CheckedOut {
    /// Returns the worktree as a row, if its HEAD is detached and it is there.
    fn into_detached(self, repo: &Repo, context: &SyncContext) -> Option<BranchDrift> {
        if self.branch.is_some() || self.is_gone {
            return None;
        }
        let head = repo.open_worktree(&self.root).and_then(|there| there.head());
        let commit = head.as_ref().map_or(repo.null_id(), |head| head.commit);
        let is_idle = self.operation.is_none();
        if is_idle
            && commit == context.canonical.commit
            && self.paths.as_ref().is_ok_and(Vec::is_empty)
        {
            return None;
        }
        let (owner, touched) = find_owner(repo, context, commit).unzip();
        let (paths, fault) = match self.paths {
            Ok(paths) => (paths, None),
            Err(failure) => (Vec::new(), Some(failure.to_string())),
        };
        Some(BranchDrift {
            name: "detached HEAD".to_owned(),
            is_detached: true,
            commit,
            owner,
            touched,
            is_current: self.root == repo.root(),
            is_worktree_gone: false,
            is_protected: false,
            operation: self
                .operation
                .map(|operation| BranchOperation { operation, root: self.root.clone() }),
            worktree: Some(self.root),
            paths,
            fault,
            unusable: None,
        })
    }
}

/// Returns the worktrees by branch, and those whose HEAD is detached. Of two with the same branch, this one counts.
fn by_branch(all: Vec<CheckedOut>, repo: &Repo) -> (BTreeMap<String, CheckedOut>, Vec<CheckedOut>) {
    let (mut branches, mut detached) = (BTreeMap::new(), Vec::new());
    for found in all {
        match found.branch.clone() {
            Some(branch) if found.root == repo.root() => {
                branches.insert(branch, found);
            }
            Some(branch) => {
                branches.entry(branch).or_insert(found);
            }
            None => detached.push(found),
        }
    }
    (branches, detached)
}

/// Inspects the worktrees that are wanted.
fn inspect_worktrees(
    repo: &Repo,
    context: &SyncContext,
    wanted: &Wanted<'_>,
    tools: &Tools<'_>,
) -> Result<Vec<CheckedOut>> {
    let mut found = Vec::new();
    for tree in repo.list_worktrees()? {
        if !wanted.contains(&tree) {
            continue;
        }
        let there = match tree.is_there {
            true => repo.open_worktree(&tree.root),
            false => {
                Err(Error::unable("the folder of its worktree is gone (`git worktree prune`)"))
            }
        };
        let operation = there.as_ref().ok().and_then(Repo::current_operation);
        let paths = there.and_then(|there| inspect_worktree(&there, context, tools));
        let Worktree { root, branch, is_there, .. } = tree;
        found.push(CheckedOut { root, branch, is_gone: !is_there, operation, paths });
    }
    Ok(found)
}

/// Returns the operations that have taken a branch of this clone from its worktree until they end: rebase and bisect.
fn find_operations(repo: &Repo, is_remote: bool) -> BTreeMap<String, BranchOperation> {
    if is_remote {
        return BTreeMap::new();
    }
    let in_use = repo.branches_in_use().unwrap_or_default().into_iter();
    let operation = |held: BranchInUse| {
        let there = repo.open_worktree(&held.root).ok()?;
        let operation = there.current_operation()?;
        Some((held.branch, BranchOperation { operation, root: held.root }))
    };
    in_use.filter(|held| held.is_there && held.operation.is_some()).filter_map(operation).collect()
}

fn inspect_worktree(
    repo: &Repo,
    context: &SyncContext,
    tools: &Tools<'_>,
) -> Result<Vec<PathDrift>> {
    let options = SyncOptions::plain();
    let inspection =
        inspect_checkout(repo, context.clone(), &options, ScanDepth::Everything, tools)?;
    let SyncInspection::Planned(planned) = inspection else { return Ok(Vec::new()) };
    let differing = planned.plan.items.iter().filter(|item| item.class != PathClass::InSync);
    let overlay = overlay::read_overlay(repo)?.paths;
    let reason = |item: &PlannedPath| match overlay.contains_key(item.path()) {
        true => {
            format!("{}: `sync --no-commit` has written it, and no commit has it", item.reason())
        }
        false => item.reason(),
    };
    let path = |item: &PlannedPath| PathDrift {
        path: item.path().clone(),
        group: 0,
        class: item.class,
        reason: reason(item),
        head: item.state.head,
        is_canonical: item.state.canonical.is_some(),
        pin: item.state.pin.clone().filter(|_| item.class == PathClass::Pinned),
    };
    Ok(differing.map(path).collect())
}

/// Returns a branch whose commit cannot be read.
fn unreadable_branch(repo: &Repo, name: String, why: String) -> BranchDrift {
    BranchDrift {
        name,
        is_detached: false,
        commit: repo.null_id(),
        owner: None,
        touched: None,
        worktree: None,
        is_worktree_gone: false,
        is_current: false,
        is_protected: false,
        operation: None,
        paths: Vec::new(),
        fault: Some(why),
        unusable: None,
    }
}

/// Reads branches one after the other.
struct DriftReader<'r> {
    repo: &'r Repo,
    context: &'r SyncContext,
    worktrees: BTreeMap<String, CheckedOut>,
    operations: BTreeMap<String, BranchOperation>,
    commits: BranchReader<'r>,
}

impl DriftReader<'_> {
    fn read_all(&mut self, prefix: &str, tools: &Tools<'_>) -> Result<Vec<BranchDrift>> {
        let refs = self.repo.branches_below(prefix)?;
        tools.progress.begin_task("comparing branches", Some(refs.len() as u64));
        let mut branches = Vec::with_capacity(refs.len());
        for (name, commit) in refs {
            tools.progress.advance(1);
            // `HEAD` of a remote only points to another of its branches.
            if name == "HEAD" && prefix != "refs/heads/" || self.context.is_reserved_branch(&name) {
                continue;
            }
            branches.push(match commit {
                Ok(commit) => self.read_branch(&name, commit),
                Err(why) => self.read_unusable(prefix, name, why),
            });
        }
        tools.progress.end_task();
        Ok(branches)
    }

    /// Reads a branch that commands cannot name, as `status --all` does: its commit may be known.
    fn read_unusable(&mut self, prefix: &str, name: String, why: UnusableRef) -> BranchDrift {
        let full = format!("{prefix}{name}");
        let all = self.repo.refs_below(prefix).unwrap_or_default();
        match all.into_iter().find(|(other, _)| *other == full) {
            Some((_, commit)) if why != UnusableRef::NotACommit => {
                BranchDrift { unusable: Some(why), ..self.read_branch(&name, commit) }
            }
            _ => unreadable_branch(self.repo, name, why.to_string()),
        }
    }

    fn read_branch(&mut self, name: &str, commit: Id) -> BranchDrift {
        let checked_out = self.worktrees.remove(name);
        let worktree = checked_out.as_ref().map(|found| found.root.clone());
        let operation = checked_out.as_ref().and_then(|found| {
            Some(BranchOperation { operation: found.operation?, root: found.root.clone() })
        });
        let is_worktree_gone = checked_out.as_ref().is_some_and(|found| found.is_gone);
        // Whose folder is gone has nothing but its commit.
        let there = checked_out.filter(|found| !found.is_gone);
        let (inspected, fault) = match there.map(|found| found.paths) {
            Some(Ok(paths)) => (Some(paths), None),
            Some(Err(failure)) => (None, Some(failure.to_string())),
            None => (None, None),
        };
        // The commit of the branch is known even if its worktree is not.
        let (paths, fault) = match (self.read_commit_paths(name, commit), inspected) {
            (Ok(committed), Some(there)) => (add_edits(committed, there), fault),
            (Ok(committed), None) => (committed, fault),
            (Err(failure), there) => (there.unwrap_or_default(), Some(failure.to_string())),
        };
        let (owner, touched) = find_owner(self.repo, self.context, commit).unzip();
        BranchDrift {
            name: name.to_owned(),
            is_detached: false,
            commit,
            owner,
            touched,
            is_current: worktree.as_deref() == Some(self.repo.root()),
            worktree,
            unusable: None,
            is_worktree_gone,
            is_protected: self.context.is_protected(name),
            operation: operation.or_else(|| self.operations.remove(name)),
            paths,
            fault,
        }
    }

    fn read_commit_paths(&mut self, name: &str, commit: Id) -> Result<Vec<PathDrift>> {
        let head = Head { tree: self.repo.tree_of(commit)?, commit, branch: Some(name.to_owned()) };
        let states = self.commits.read_states(&head)?;
        let path = |state| {
            let classified = classify_path(&state);
            PathDrift {
                path: state.path,
                group: 0,
                class: classified.class,
                reason: classified.why.to_string(),
                head: state.head,
                is_canonical: state.canonical.is_some(),
                pin: state.pin.filter(|_| classified.class == PathClass::Pinned),
            }
        };
        Ok(states.into_iter().map(path).collect())
    }
}

/// Returns the paths of a worktree, and those at which its branch is behind or customised although somebody has edited
/// them: an edit is no commit.
fn add_edits(committed: Vec<PathDrift>, there: Vec<PathDrift>) -> Vec<PathDrift> {
    let is_edit = |path: &PathDrift| {
        there.iter().any(|other| {
            other.path == path.path
                && matches!(other.class, PathClass::Edited | PathClass::Untracked)
        })
    };
    let counts = |class| matches!(class, PathClass::Behind | PathClass::Customised);
    let mut all: Vec<PathDrift> = committed
        .into_iter()
        .filter(|path| counts(shown_class(path.class)) && is_edit(path))
        .collect();
    all.extend(there);
    all.sort_by(|one, two| one.path.cmp(&two.path));
    all
}

/// Returns the author and the time of the newest commit that is not one of sync.
fn find_owner(repo: &Repo, context: &SyncContext, commit: Id) -> Option<(String, i64)> {
    let mut at = repo.read_commit(commit).ok()?;
    for _ in 0..MAX_SYNC_COMMITS {
        if !is_sync_commit(&at, &context.config.identity) {
            break;
        }
        at = repo.read_commit(*at.parents.first()?).ok()?;
    }
    Some((sanitize_line(&at.author.name, MAX_OWNER_CHARS), at.author.seconds))
}
