//! Which files a run is about: all, or those that are staged, pushed, changed or named *(pure)*.
//!
//! ```text
//! git commit with `a.py` staged  ->  FileScope::Changed { predicate: "is staged", paths: {a.py}, .. }
//! ```

use xtask_base::path::RepoPath;
use xtask_git::{ChangedPaths, FileGlobs};

/// The files of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FileScope {
    /// All files of the folder in which the checks run.
    #[default]
    All,
    /// Some of them.
    Changed(ChangedFiles),
}

/// The files of a run that is not about all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFiles {
    /// What is true of these files and completes "none of its `files` …", e.g. `is staged`.
    pub predicate: String,
    pub paths: ChangedPaths,
    /// Whether a check of whose `inputs` one has changed is given all its files.
    pub widens_by_inputs: bool,
}

impl ChangedFiles {
    /// Whether a changed or removed path is one that `globs` select.
    #[must_use]
    pub fn touches(&self, globs: &[String]) -> bool {
        let globs = FileGlobs::new(globs.iter().map(String::as_str));
        let mut all = self.paths.present.iter().chain(&self.paths.removed);
        all.any(|path| globs.matches_path(path))
    }
}

impl FileScope {
    /// The files staged for a commit.
    #[must_use]
    pub fn staged(paths: ChangedPaths) -> FileScope {
        FileScope::changed("is staged", paths)
    }

    /// The files of pushed commits.
    #[must_use]
    pub fn pushed(paths: ChangedPaths) -> FileScope {
        FileScope::changed("is part of the pushed commits", paths)
    }

    /// The files named by `--files`.
    #[must_use]
    pub fn named(paths: impl IntoIterator<Item = RepoPath>) -> FileScope {
        let paths =
            ChangedPaths { present: paths.into_iter().collect(), ..ChangedPaths::default() };
        FileScope::changed("is named by `--files`", paths)
    }

    /// The files changed since the merge base with `revision`.
    #[must_use]
    pub fn since(revision: &str, paths: ChangedPaths) -> FileScope {
        let predicate = format!("has changed since `{revision}`");
        FileScope::Changed(ChangedFiles { predicate, paths, widens_by_inputs: true })
    }

    fn changed(predicate: &str, paths: ChangedPaths) -> FileScope {
        let predicate = predicate.to_owned();
        FileScope::Changed(ChangedFiles { predicate, paths, widens_by_inputs: false })
    }

    /// Whether the run leaves files out.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        matches!(self, FileScope::Changed(_))
    }

    /// Returns why a check without files is skipped.
    #[must_use]
    pub fn describe_absence(&self) -> String {
        match self {
            FileScope::All => "no file is one of its `files`".to_owned(),
            FileScope::Changed(changed) => format!("none of its `files` {}", changed.predicate),
        }
    }
}
