//! The record of the stat data of clean files, with which the next scan need not read them. For
//! example, after a sync of `setup/a` its new size and times are in the record.

use std::collections::BTreeMap;

use super::managed::ManagedPaths;
use super::plan::PlannedPath;
use super::run::PlannedSync;
use super::scan::{CleanEvidence, CleanFiles, ScanDepth, ScanRequest, scan_worktree};
use xtask_base::error::Result;
use xtask_base::parallel::map_halves;
use xtask_base::path::RepoPath;
use xtask_git::{FileStat, Id, NO_STAT, Repo, StatData, Tools, stat_data_from_metadata};

/// Returns the age in nanoseconds from which on a file's timestamp proves that later changes would
/// show.
///
/// 2 s for a timestamp in whole seconds, which may come from the coarsest file-system clock (one
/// tick per second); 20 ms for a finer one, since no system's clock ticks slower than every 10 ms.
pub(super) fn settle_time_ns(time_ns: i64) -> i64 {
    if time_ns % 1_000_000_000 == 0 { 2_000_000_000 } else { 20_000_000 }
}

/// Saves the stat data of clean files, so that the next scan need not read the index.
pub(super) fn save_clean_record(
    repo: &Repo,
    clean: Option<&CleanFiles>,
    tools: &Tools<'_>,
) -> Result<()> {
    match clean {
        Some(CleanFiles { fingerprint: content, evidence: CleanEvidence::ByIndex(seen) }) => {
            repo.write_stat_record(tools.disk, *content, seen)
        }
        _ => Ok(()),
    }
}

/// Updates the stat record after a run: written files with their new stat data, the others as
/// scanned. After a scan of the differences alone, all files are scanned now.
pub(super) fn update_clean_record(
    repo: &Repo,
    decided: &PlannedSync,
    commit: Option<Id>,
    looks: &BTreeMap<RepoPath, StatData>,
    tools: &Tools<'_>,
) -> Result<()> {
    let PlannedSync { head, context, plan, pins, scanned: gathered, .. } = decided;
    let managed = ManagedPaths::new(&context.config, head.branch.as_deref());
    let repo_root = repo.root();
    if let Some(clean) = &gathered.clean {
        let mut files = clean.file_stats();
        for (path, target) in plan.tree_changes() {
            match target {
                Some(_) => files.insert(path, NO_STAT),
                None => files.remove(&path),
            };
        }
        let written =
            plan.written_paths().filter(|item| item.target.is_some()).map(PlannedPath::path);
        let written: Vec<&RepoPath> = written.collect();
        let now_ns = tools.now_ns();
        // A later change alters the file's times; an earlier one already has.
        let still = map_halves(&written, |half| {
            let is_settled =
                |meta: &FileStat| meta.ctime_ns < now_ns - settle_time_ns(meta.ctime_ns);
            let look = |path: &&RepoPath| {
                let meta = path.to_disk_path(repo_root).symlink_metadata().ok()?;
                is_settled(&FileStat::from_metadata(&meta)).then(|| stat_data_from_metadata(&meta))
            };
            half.iter().map(look).collect()
        });
        for (path, still) in written.into_iter().zip(still) {
            let look = still.filter(|still| looks.get(path) == Some(still));
            files.insert(path.clone(), look.unwrap_or(NO_STAT));
        }
        let tree = commit.map_or(Ok(head.tree), |commit| repo.tree_of(commit))?;
        let content = repo.managed_fingerprint(tree, &managed, managed.rules_digest())?;
        return repo.write_stat_record(tools.disk, content, &files);
    }
    let head = repo.head()?;
    let gathered = scan_worktree(&ScanRequest {
        repo,
        head: &head,
        context,
        managed: &managed,
        pins,
        only: &[],
        depth: ScanDepth::Everything,
        now_ns: tools.now_ns(),
        progress: tools.progress,
    })?;
    save_clean_record(repo, gathered.clean.as_ref(), tools)
}
