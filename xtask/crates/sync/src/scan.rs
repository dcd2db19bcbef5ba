//! Scan of everything that the decision about a path depends on, without writing.
//!
//! HEAD and the canonical commit are compared as trees; index, file and history are read only at
//! the paths that differ. At other paths the file is checked by its size and times, and read only
//! if those show a possible change. A file about to be replaced is always read, whatever its times
//! say.
//!
//! ```text
//! HEAD 3b18…  canonical 77aa…  index 3b18…  file 3b18…  -> PathState of setup/a (behind)
//! ```

use std::collections::BTreeMap;
use std::fs::Metadata;

use super::classify::{PathState, WriteObstacle};
use super::context::SyncContext;
use super::deletions::trace_canonical_history;
use super::managed::ManagedPaths;
use super::obstacles::{WriteTarget, find_obstacles, is_removed_in_canonical};
use super::overlay::{self, Overlay};
use super::path_conflicts::predict_after_removal;
use super::pins::BranchPins;
use xtask_base::digest::Digest;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_git::{
    CanonicalHistory, EntryPair, EverCanonical, FileMode, Filters, Head, Index, IndexStatus,
    NO_STAT, PathCache, PathLookup, PathPatterns, Repo, StatData, StatRecord, TreeEntry,
    WorktreeFile, WorktreeItem, stat_data_from_metadata,
};

/// Extent of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanDepth {
    /// Only paths at which HEAD is not canonical: enough for a hook.
    Differences,
    /// All managed paths, including local changes to canonical files.
    Everything,
}

/// Result of a scan.
pub struct ScanResult {
    /// Paths that are not simply in sync, sorted.
    pub states: Vec<PathState>,
    /// State of all managed files of HEAD; only with `ScanDepth::Everything`.
    pub clean: Option<CleanFiles>,
    /// Index, if it was read.
    pub index: Option<Index>,
    /// Canonical history, if it was read.
    pub canonical_history: Option<CanonicalHistory>,
    pub overlay: Overlay,
}

/// Managed files of HEAD, and whether each is clean.
pub struct CleanFiles {
    /// Digest of the managed content of HEAD.
    pub fingerprint: Digest,
    pub evidence: CleanEvidence,
}

/// Source of the knowledge that files are clean.
pub enum CleanEvidence {
    /// A stat record of an earlier run for the same content.
    ByRecord(StatRecord),
    /// The index: all managed files of HEAD, with stat data if clean and `NO_STAT` otherwise.
    ByIndex(BTreeMap<RepoPath, StatData>),
}

impl CleanFiles {
    /// Returns all managed files of HEAD, with stat data if clean.
    #[must_use]
    pub fn file_stats(&self) -> BTreeMap<RepoPath, StatData> {
        match &self.evidence {
            CleanEvidence::ByRecord(record) => record.file_stats(),
            CleanEvidence::ByIndex(seen) => seen.clone(),
        }
    }

    /// Returns all managed files of HEAD.
    #[must_use]
    pub fn paths(&self) -> Vec<RepoPath> {
        match &self.evidence {
            CleanEvidence::ByRecord(record) => record.paths(),
            CleanEvidence::ByIndex(seen) => seen.keys().cloned().collect(),
        }
    }
}

/// Input of a scan.
pub struct ScanRequest<'a> {
    pub repo: &'a Repo,
    pub head: &'a Head,
    pub context: &'a SyncContext,
    pub managed: &'a ManagedPaths,
    /// The pins of the branch.
    pub pins: &'a BranchPins,
    /// Only these paths and those below them; all if empty.
    pub only: &'a [RepoPath],
    pub depth: ScanDepth,
    /// Current time in nanoseconds since the epoch.
    pub now_ns: i64,
    pub progress: &'a dyn Progress,
}

impl ScanRequest<'_> {
    fn is_selected(&self, path: &RepoPath) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| path == one || path.is_below(one))
    }
}

/// Scans the worktree. Errors are those of reading objects, index, overlay or files.
pub fn scan_worktree(question: &ScanRequest<'_>) -> Result<ScanResult> {
    let ScanRequest { repo, head, context, managed, .. } = question;
    let overlay = overlay::read_overlay(repo)?;
    let mut differing =
        repo.compare_trees(Some(head.tree), Some(context.canonical.tree), *managed)?;
    differing.retain(|path, _| question.is_selected(path));
    let mut disk = WorktreeScanner::new(repo);
    let (suspects, clean) = find_suspects(question, &mut disk, &differing, &overlay)?;
    let obstacles = find_obstacles(repo, head, context, managed, &differing, WriteTarget::OnDisk)?;
    let once = if differing.values().any(|pair| pair.one.is_some()) {
        let tip = context.canonical.commit;
        Some(repo.read_canonical_history(
            tip,
            *managed,
            managed.rules_digest(),
            question.progress,
        )?)
    } else {
        None
    };
    let known = trace_canonical_history(
        repo,
        head,
        context,
        once.as_ref(),
        &differing,
        &mut repo.merge_base_finder(),
    )?;
    let total = (differing.len() + suspects.len()) as u64;
    question.progress.begin_task("comparing files", Some(total));
    let secrets = PathPatterns::new(context.config.backup_patterns.iter().map(String::as_str));
    let mut states = Vec::new();
    for (path, pair) in differing.iter().chain(&suspects) {
        let (path, pair) = (path.clone(), *pair);
        question.progress.advance(1);
        let known = match known.get(&path) {
            _ if pair.one == pair.two => EverCanonical::Once,
            known => known.copied().unwrap_or(EverCanonical::Unknown),
        };
        let is_excluded = managed.is_kept_by_branch(&path);
        let state = disk.scan_path(path, pair, &overlay, &differing)?;
        let obstacle = obstacles.get(&state.path).cloned().or(state.obstacle.clone());
        let obstacle = obstacle.or_else(|| {
            is_maybe_secret(repo, &secrets, &state).then_some(WriteObstacle::MayBeSecret)
        });
        let pin = question.pins.mark(&state.path);
        let state = PathState { was_canonical: known, obstacle, is_excluded, pin, ..state };
        states.push(state);
    }
    question.progress.end_task();
    states.sort_by(|one, two| one.path.cmp(&two.path));
    Ok(ScanResult { states, clean, index: disk.index, canonical_history: once, overlay })
}

/// Returns whether a file may be secret and exists only on disk: a backup would make it a git
/// object, which is permanent and travels with the repository.
fn is_maybe_secret(repo: &Repo, secrets: &PathPatterns, state: &PathState) -> bool {
    let Some(file) = state.work.file() else { return false };
    let is_known = |entry: &TreeEntry| {
        [state.head, state.canonical, state.index.entry()].contains(&Some(*entry))
            || repo.has_object(entry.id)
    };
    secrets.match_with_folders(state.path.as_bytes(), false) == Some(true)
        && !is_known(&file.entry)
        && !is_known(&file.raw)
}

/// Returns the paths at which HEAD is canonical and the file may not be, and the evidence for the
/// rest.
fn find_suspects(
    question: &ScanRequest<'_>,
    disk: &mut WorktreeScanner<'_>,
    differing: &BTreeMap<RepoPath, EntryPair>,
    overlay: &Overlay,
) -> Result<(BTreeMap<RepoPath, EntryPair>, Option<CleanFiles>)> {
    let ScanRequest { repo, head, managed, .. } = question;
    let mut suspects = BTreeMap::new();
    let mut suspect = |path: RepoPath, entry: TreeEntry| {
        if question.is_selected(&path) && !differing.contains_key(&path) {
            suspects.insert(path, EntryPair { one: Some(entry), two: Some(entry) });
        }
    };
    if question.depth == ScanDepth::Differences {
        for path in overlay.paths.keys() {
            if let Some(entry) = repo.entry_at(head.tree, path)? {
                suspect(path.clone(), entry);
            }
        }
        return Ok((suspects, None));
    }
    let content = repo.managed_fingerprint(head.tree, *managed, managed.rules_digest())?;
    if let Some(record) = repo.read_stat_record(content) {
        for path in record.find_suspects(repo)? {
            let Some(entry) = repo.entry_at(head.tree, &path)? else { continue };
            let reached = disk.path_cache.look_up_path(repo.root(), &path)?;
            if matches!(disk.compare_file(&path, entry, reached)?, FileComparison::Different) {
                suspect(path, entry);
            }
        }
        return Ok((
            suspects,
            Some(CleanFiles { fingerprint: content, evidence: CleanEvidence::ByRecord(record) }),
        ));
    }
    let mut seen = BTreeMap::new();
    let listed = repo.list_tree(head.tree, *managed)?;
    let reached = PathCache::look_up_paths(repo.root(), &listed.keys().collect::<Vec<_>>());
    for ((path, entry), reached) in listed.into_iter().zip(reached) {
        let look = disk.compare_file(&path, entry, reached?)?;
        let is_overlay = overlay.paths.contains_key(&path);
        match look {
            FileComparison::Same(meta) if !is_overlay => {
                seen.insert(path, stat_data_from_metadata(&meta));
            }
            FileComparison::NotExpected if !is_overlay => {
                seen.insert(path, NO_STAT);
            }
            _ => {
                seen.insert(path.clone(), NO_STAT);
                suspect(path, entry);
            }
        }
    }
    Ok((
        suspects,
        Some(CleanFiles { fingerprint: content, evidence: CleanEvidence::ByIndex(seen) }),
    ))
}

/// Reader of the working tree, and of the index on demand.
struct WorktreeScanner<'r> {
    repo: &'r Repo,
    path_cache: PathCache,
    index: Option<Index>,
    filters: Option<Filters<'r>>,
    sparse_patterns: Option<PathPatterns>,
}

impl<'r> WorktreeScanner<'r> {
    fn new(repo: &'r Repo) -> Self {
        WorktreeScanner {
            repo,
            path_cache: PathCache::default(),
            index: None,
            filters: None,
            sparse_patterns: None,
        }
    }

    fn load_index(&mut self) -> Result<()> {
        if self.index.is_none() {
            let index = self.repo.read_index()?;
            self.filters = Some(self.repo.clean_filters(&index)?);
            self.sparse_patterns = self.repo.read_sparse_patterns()?;
            self.index = Some(index);
        }
        Ok(())
    }

    /// Compares a file with its entry in HEAD, by size and times.
    fn compare_file(
        &mut self,
        path: &RepoPath,
        entry: TreeEntry,
        reached: PathLookup,
    ) -> Result<FileComparison> {
        self.load_index()?;
        let index = self.index.as_ref().expect("because it was just read");
        if entry.mode == FileMode::Gitlink {
            return Ok(FileComparison::NotExpected);
        }
        let staged = self.repo.staged_status(index, path)?;
        Ok(match (staged, reached) {
            (
                IndexStatus::Entry { is_skipped: true, .. },
                PathLookup::NotFound(WorktreeItem::Absent),
            ) => FileComparison::NotExpected,
            (_, PathLookup::Found(meta))
                if staged.entry() == Some(entry) && index.is_up_to_date(path, &meta) =>
            {
                FileComparison::Same(meta)
            }
            _ => FileComparison::Different,
        })
    }

    /// Returns whether sparse checkout skips a path.
    fn is_skipped(&self, path: &RepoPath, staged: IndexStatus) -> bool {
        match staged {
            IndexStatus::Entry { is_skipped, .. } => is_skipped,
            IndexStatus::Absent => self.sparse_patterns.as_ref().is_some_and(|patterns| {
                patterns.match_with_folders(path.as_bytes(), false) != Some(true)
            }),
            IndexStatus::IntentToAdd | IndexStatus::Conflict => false,
        }
    }

    fn scan_path(
        &mut self,
        path: RepoPath,
        pair: EntryPair,
        overlay: &Overlay,
        differing: &BTreeMap<RepoPath, EntryPair>,
    ) -> Result<PathState> {
        self.load_index()?;
        let index = self.index.as_ref().expect("because it was just read");
        let filters = self.filters.as_mut().expect("because they come with the index");
        let staged = self.repo.staged_status(index, &path)?;
        let expected = staged.entry().or(pair.one).or(pair.two);
        let work =
            self.repo.read_worktree_item(&path, expected, &mut self.path_cache, filters, index)?;
        let is_laid = |path: &RepoPath| {
            let laid = overlay.paths.get(path);
            laid.is_some_and(|laid| laid.has_unchanged_file(self.repo, path))
        };
        let work = predict_after_removal(self.repo, &path, work, &|path| {
            is_removed_in_canonical(path, differing) || is_laid(path)
        })?;
        // A staged file that is not removed blocks a path like a committed one.
        let is_new = pair.one.is_none() && pair.two.is_some() && staged == IndexStatus::Absent;
        let blocking = if is_new { index.conflicting_paths(&path) } else { Vec::new() };
        let obstacle = blocking
            .into_iter()
            .find(|other| !is_removed_in_canonical(other, differing))
            .map(WriteObstacle::InTheWay);
        // An unchanged overlay file counts as the content that sync wrote, whatever the clean
        // filter makes of it.
        let laid = overlay.paths.get(&path);
        let work = match (work, laid) {
            (WorktreeItem::Present(file), Some(laid)) if laid.is_unchanged(Some(&file)) => {
                WorktreeItem::Present(WorktreeFile {
                    entry: laid.written.unwrap_or(file.entry),
                    ..file
                })
            }
            (work, _) => work,
        };
        let found = work.file();
        let on_disk = found.map(|file| file.entry);
        let is_sparse = work == WorktreeItem::Absent && self.is_skipped(&path, staged);
        let is_overlay = on_disk != pair.two
            && matches!(work, WorktreeItem::Present(_) | WorktreeItem::Absent)
            && laid.is_some_and(|laid| laid.is_unchanged(found))
            && on_disk != pair.one;
        Ok(PathState {
            path,
            head: pair.one,
            canonical: pair.two,
            index: staged,
            work,
            was_canonical: EverCanonical::Unknown,
            is_overlay,
            is_sparse,
            is_excluded: false,
            pin: None,
            obstacle,
        })
    }
}

/// Result of comparing a file with HEAD.
enum FileComparison {
    /// Clean according to the index.
    Same(Metadata),
    /// No file is expected: a submodule, or skipped by sparse checkout.
    NotExpected,
    /// Possibly changed.
    Different,
}
