//! Which files a run is about: all, or those that are staged, pushed, changed or named *(pure)*.
//!
//! ```text
//! git commit with `a.py` staged  ->  FileScope::Changed { predicate: "is staged", paths: {a.py}, .. }
//! ```

use std::collections::BTreeSet;

use super::inspector::path_from_root;
use super::programs::VERSION_FILES;
use xtask_base::path::RepoPath;
use xtask_config::{Check, CheckKind};
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
    /// Their other names, through symlinks.
    pub linked_names: BTreeSet<RepoPath>,
    /// Those that are submodules: something in them has changed.
    pub submodules: BTreeSet<RepoPath>,
    /// Whether a check of whose `inputs` one has changed is given all its files.
    pub widens_by_inputs: bool,
}

impl ChangedFiles {
    /// Whether a changed or removed path is one that `globs` select.
    #[must_use]
    pub fn touches(&self, globs: &[String]) -> bool {
        let globs = FileGlobs::new(globs.iter().map(String::as_str));
        self.names().any(|path| globs.matches_path(path))
    }

    /// Whether one of the `inputs` of a check has changed, or a file that is part of its state unasked: one that its
    /// command or its `tools` name, or by which version managers choose a program.
    #[must_use]
    pub fn touches_inputs(&self, check: &Check) -> bool {
        // A path that exists is taken literally: `app/[slug]/page.tsx`.
        let is_pattern = |input: &&String| input.contains(['[', '*', '?', '\\']);
        let literal = check.inputs.iter().filter(is_pattern);
        let literal: Vec<RepoPath> = literal.map(|input| RepoPath::new(input.as_str())).collect();
        let named = list_named_paths(check);
        let is_inside = |input: &String| {
            self.submodules
                .iter()
                .any(|submodule| xtask_git::may_match_behind_link(input, submodule))
        };
        self.touches(&check.inputs)
            || check.inputs.iter().any(is_inside)
            || self.touches_paths(&literal)
            || self.names().any(|path| named.contains(path))
    }

    /// Whether one of `paths` has changed, or something in it.
    #[must_use]
    pub fn touches_paths(&self, paths: &[RepoPath]) -> bool {
        self.names().any(|name| paths.iter().any(|path| name == path || name.is_below(path)))
    }

    fn names(&self) -> impl Iterator<Item = &RepoPath> {
        self.paths.present.iter().chain(&self.paths.removed).chain(&self.linked_names)
    }
}

/// Lists the paths inside the repository that a check names besides its `inputs`, whether or not they exist.
fn list_named_paths(check: &Check) -> Vec<RepoPath> {
    let cwd = check.cwd.as_ref();
    let mut words: Vec<&str> =
        check.tools.iter().map(String::as_str).filter(|tool| tool.contains('/')).collect();
    if let CheckKind::Run(command) = &check.kind
        && !command.shell
    {
        words.extend(command.argv.first().map(String::as_str).filter(|word| word.contains('/')));
        let values = command.argv.iter().skip(1);
        words.extend(values.map(|word| word.split_once('=').map_or(word.as_str(), |(_, v)| v)));
    }
    let words = words.into_iter().filter_map(|word| path_from_root(cwd, word));
    let folders = cwd.into_iter().flat_map(|cwd| cwd.ancestors().chain([cwd.clone()]));
    let folders = folders.map(|folder| format!("{folder}/")).chain([String::new()]);
    let chosen = folders.flat_map(|folder| VERSION_FILES.map(|name| format!("{folder}{name}")));
    words.chain(chosen).map(RepoPath::new).collect()
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

    /// The files changed since the merge base with `revision`, their other names and the submodules among them.
    #[must_use]
    pub fn since(
        revision: &str,
        paths: ChangedPaths,
        linked_names: BTreeSet<RepoPath>,
        submodules: BTreeSet<RepoPath>,
    ) -> FileScope {
        let predicate = format!("has changed since `{revision}`");
        let widens_by_inputs = true;
        FileScope::Changed(ChangedFiles {
            predicate,
            paths,
            linked_names,
            submodules,
            widens_by_inputs,
        })
    }

    fn changed(predicate: &str, paths: ChangedPaths) -> FileScope {
        let predicate = predicate.to_owned();
        let (linked_names, submodules) = (BTreeSet::new(), BTreeSet::new());
        let widens_by_inputs = false;
        FileScope::Changed(ChangedFiles {
            predicate,
            paths,
            linked_names,
            submodules,
            widens_by_inputs,
        })
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
