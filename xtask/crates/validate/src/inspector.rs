//! The inspector of a run: with what the inputs of its checks are read, and what it has read so far.
//!
//! `input_files` finds the files of a check with it, `input_snapshot` takes their state.

use std::path::{Path, PathBuf};

use super::file_scope::FileScope;
use super::input_set::InputSetCache;
use super::programs::ToolCache;
use super::result_cache::ResultCache;
use super::session::{CheckLocation, state_folder};
use super::stat_cache::StatCache;
use super::watch::KnownInputs;
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_base::signals::Interrupts;
use xtask_git::{IgnoreRules, Repo, SearchScope, Tools};

/// The largest number of input files of a check; with more it always runs.
pub(super) const MAX_INPUT_FILES: usize = 200_000;

/// Takes snapshots of the inputs of checks.
pub struct InputInspector<'a> {
    pub(super) repo: &'a Repo,
    pub(super) world: &'a Environment,
    pub(super) progress: &'a dyn Progress,
    pub(super) interrupts: &'a Interrupts,
    /// The passes that give the versions of programs in a dry run, which starts none.
    pub(super) version_cache: Option<&'a ResultCache>,
    pub(super) root: PathBuf,
    /// The files of an exported tree; `None` if `root` is the worktree.
    pub(super) exported: Option<Vec<RepoPath>>,
    /// The files that the run is about.
    pub(super) scope: FileScope,
    pub(super) ignores: Option<IgnoreRules<'a>>,
    pub(super) stat_cache: StatCache,
    pub(super) programs: ToolCache,
    pub(super) input_sets: InputSetCache,
    /// What is known of the files by a watch over them.
    pub(super) watched: Option<&'a dyn KnownInputs>,
}

impl<'a> InputInspector<'a> {
    /// Creates an inspector of the worktree, or of a folder to which files were exported.
    pub fn new(
        repo: &'a Repo,
        tools: &Tools<'a>,
        location: CheckLocation,
        scope: FileScope,
        watched: Option<&'a dyn KnownInputs>,
    ) -> InputInspector<'a> {
        let (root, exported, stat_cache) = match location {
            CheckLocation::Worktree => (repo.root().to_path_buf(), None, "looks"),
            CheckLocation::Exported(root, files) => (root, Some(files), "looks-staged"),
        };
        InputInspector {
            repo,
            world: tools.world,
            progress: tools.progress,
            interrupts: tools.interrupts,
            version_cache: None,
            root,
            exported,
            scope,
            ignores: None,
            stat_cache: watched
                .and_then(KnownInputs::take_stat_cache)
                .unwrap_or_else(|| StatCache::read_cache(state_folder(repo).join(stat_cache))),
            programs: ToolCache::default(),
            input_sets: InputSetCache::default(),
            watched,
        }
    }

    /// Runs no version commands from now on, for a dry run: versions are taken from the last passes in `by`,
    /// as far as the program files are the same.
    pub fn use_cached_versions(&mut self, by: &'a ResultCache) {
        self.version_cache = Some(by);
    }

    /// Reads the ignore rules of the worktree, which an exported tree does not need.
    pub(super) fn load_ignore_rules(&mut self) -> Result<()> {
        if self.exported.is_none() && self.ignores.is_none() {
            self.ignores = Some(self.repo.read_ignore_rules()?);
        }
        Ok(())
    }

    /// Returns where files are searched; `None` before [`InputInspector::load_ignore_rules`].
    pub(super) fn search_scope(&self) -> Option<SearchScope<'_, 'a>> {
        match (&self.exported, &self.ignores) {
            (Some(files), _) => Some(SearchScope::Exported(files)),
            (None, Some(ignores)) => Some(SearchScope::Worktree(ignores)),
            (None, None) => None,
        }
    }

    /// Returns the paths that git tracks, or those of the exported tree.
    pub(super) fn list_all_paths(&mut self) -> Result<Vec<RepoPath>> {
        if let Some(files) = &self.exported {
            return Ok(files.clone());
        }
        self.load_ignore_rules()?;
        Ok(self.ignores.as_ref().map_or(Vec::new(), IgnoreRules::list_tracked))
    }

    /// Returns the folder in which git must stop looking for a repository; `None` in the worktree.
    #[must_use]
    pub fn ceiling(&self) -> Option<&Path> {
        self.exported.as_ref().and_then(|_| self.root.parent())
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn now_ns(&self) -> i64 {
        now_ns(self.world)
    }

    /// Discards the answers of programs: the command that ran may have installed others.
    pub fn forget_programs(&mut self) {
        self.programs.forget();
        self.forget_input_sets();
    }
}

pub(super) fn now_ns(world: &Environment) -> i64 {
    i64::try_from((world.clock)().as_nanos()).unwrap_or(i64::MAX)
}

/// Converts a word of a command line into a path relative to the root. Returns `None` if it cannot be one.
pub(super) fn path_from_root(cwd: Option<&RepoPath>, word: &str) -> Option<String> {
    if word.is_empty() || word.starts_with(['/', '-']) {
        return None;
    }
    let mut parts: Vec<String> =
        cwd.map_or(Vec::new(), |cwd| cwd.to_string().split('/').map(str::to_owned).collect());
    for part in word.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part.to_owned()),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_paths_from_the_root() {
        let web = RepoPath::new("web/app");
        let path = |word: &str| path_from_root(Some(&web), word);
        assert_eq!(path("x.js").as_deref(), Some("web/app/x.js"));
        assert_eq!(path("../../a/./b").as_deref(), Some("a/b"));
        assert_eq!(path("../../../a"), None);
        assert_eq!(path("/etc/passwd"), None);
        assert_eq!(path("--flag"), None);
        assert_eq!(path_from_root(None, "."), None);
    }
}
