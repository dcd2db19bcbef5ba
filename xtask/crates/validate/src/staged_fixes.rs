//! What fixes with `restage` have changed in the exported staged files.
//!
//! Guarantee: only contents that a fix has written are staged, and only if nothing has changed them since. For example:
//!
//! ```text
//! export: a.py "import b\nimport a\n"  --fix-->  FixedFile { path: a.py, fixed: "import a\nimport b\n", .. }
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::outcome::{CheckOutcome, CheckResult};
use super::plan::CheckSelection;
use xtask_base::digest;
use xtask_base::path::RepoPath;
use xtask_config::ValidateConfig;
use xtask_git::{
    ChangedPaths, FileGlobs, FixedFile, Index, IndexStatus, TreeEntry, read_regular_file,
};

/// Whether a selected check has a fix with `restage`.
#[must_use]
pub fn needs_export(config: &ValidateConfig, selection: &[CheckSelection]) -> bool {
    let is_in =
        |chosen: &CheckSelection| matches!(chosen, CheckSelection::Yes | CheckSelection::For(_));
    let mut all = config.checks.iter().zip(selection);
    all.any(|(check, chosen)| is_in(chosen) && check.fix.as_ref().is_some_and(|fix| fix.restages))
}

/// The contents of the exported files that fixes may change, before any of them ran.
pub struct StagedContents {
    before: BTreeMap<RepoPath, (TreeEntry, Vec<u8>)>,
}

impl StagedContents {
    /// Reads the staged files of checks with `restage` in the folder `tree`, whose index is `exported`.
    #[must_use]
    pub fn read(
        config: &ValidateConfig,
        staged: &ChangedPaths,
        tree: &Path,
        exported: &Index,
    ) -> StagedContents {
        let restaging =
            config.checks.iter().filter(|check| check.fix.as_ref().is_some_and(|fix| fix.restages));
        let files: Vec<_> = restaging.filter_map(|check| check.files.as_ref()).collect();
        let may_fix = |path: &&RepoPath| {
            files.iter().any(|files| {
                let globs = FileGlobs::new(files.globs.iter().map(String::as_str));
                // Scripts are recognised by their first line.
                !files.interpreters.is_empty() || globs.matches_path(path)
            })
        };
        let read = |path: &RepoPath| {
            let IndexStatus::Entry { entry, .. } = exported.path_status(path) else { return None };
            let known = read_regular_file(&path.to_disk_path(tree))?;
            Some((path.clone(), (entry, known.content)))
        };
        StagedContents { before: staged.present.iter().filter(may_fix).filter_map(read).collect() }
    }

    /// Collects what the fixes of `results` have written in `tree`. Returns the reason if that cannot be staged.
    pub fn collect_fixed(
        &self,
        results: &[CheckResult],
        tree: &Path,
    ) -> Result<Vec<FixedFile>, String> {
        let fixed = results.iter().filter(|check| check.outcome == CheckOutcome::Fixed);
        let fixes = fixed.filter_map(|check| check.fix.as_ref());
        let mut written: BTreeMap<&RepoPath, Vec<Option<digest::Digest>>> = BTreeMap::new();
        for (path, content) in fixes.flat_map(|fix| &fix.written) {
            written.entry(path).or_default().push(*content);
        }
        let mut all = Vec::new();
        for (path, contents) in written {
            let Some((staged, before)) = self.before.get(path) else {
                return Err(format!("a fix has changed `{path}`, which its check was not given"));
            };
            let Some(now) = read_regular_file(&path.to_disk_path(tree)) else {
                return Err(format!("a fix has removed `{path}`; it can only change contents"));
            };
            let digest = digest::hash_parts([&now.content[..]]);
            if !contents.contains(&Some(digest)) {
                return Err(format!("`{path}` was changed again after its fix"));
            }
            all.push(FixedFile {
                path: path.clone(),
                staged: *staged,
                exported: before.clone(),
                executable: now.stat.mode & 0o100 != 0,
                fixed: now.content,
            });
        }
        Ok(all)
    }
}
