//! File globs of a check: finding the worktree's files that a list of patterns selects.
//!
//! A pattern without wildcards names one path, ignored by git or not, and if it is a folder, all
//! files in it. A wildcard enters neither `.git` nor ignored folders, unless the pattern starts
//! inside one. Symlinks are found and never followed. `!` excludes paths that earlier patterns
//! included. A path that cannot be read is reported in `unreadable`.
//!
//! ```text
//! ["src/**", "!src/gen/**"] -> files: src/a.rs, src/b/c.rs
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use gix::bstr::ByteSlice;
use gix::glob::wildmatch;
use gix::index::entry::Mode as IndexMode;

use super::patterns::{WILDCARDS, has_wildcard};
use super::worktree_file::is_not_found;
use super::{FileStat, Index, Repo};
use xtask_base::error::{Result, ResultExt};
use xtask_base::path::RepoPath;
use xtask_base::words::expand_braces;

#[derive(Clone, Debug, Default)]
pub struct FileGlobs {
    globs: Vec<FileGlob>,
}

#[derive(Clone, Debug)]
struct FileGlob {
    /// The pattern as written.
    text: String,
    /// Whether it begins with `!`.
    is_negated: bool,
    /// The alternatives of its braces, e.g. `a` and `b` of `{a,b}`.
    forms: Vec<GlobForm>,
}

#[derive(Clone, Debug)]
enum GlobForm {
    /// One path, and all paths below it.
    Literal(RepoPath),
    /// A pattern with wildcards.
    Wild(Vec<u8>),
}

/// The result of `FileGlobs::find_files`.
#[derive(Clone, Debug, Default)]
pub struct FoundFiles {
    /// Files, symlinks and special files, by path.
    pub files: BTreeMap<RepoPath, FileStat>,
    /// The folders that were searched, and the parent folders of `missing` paths; the root is
    /// empty.
    pub folders: BTreeMap<Vec<u8>, FileStat>,
    /// Literal paths that do not exist.
    pub missing: Vec<RepoPath>,
    /// Symlinks that a pattern would enter if they were folders.
    pub links: Vec<RepoPath>,
    /// Patterns without a match.
    pub unmatched: Vec<String>,
    /// Paths that cannot be read, with the reason.
    pub unreadable: Vec<(RepoPath, String)>,
    /// Whether the limit was reached and the rest left out.
    pub is_truncated: bool,
}

pub enum SearchScope<'a, 'r> {
    /// The worktree as it is.
    Worktree(&'a IgnoreRules<'r>),
    /// A folder to which exactly these files were exported.
    Exported(&'a [RepoPath]),
}

/// Returns whether a glob may match below a symlink to a folder.
#[must_use]
pub fn may_match_behind_link(glob: &str, link: &RepoPath) -> bool {
    let link = link.to_string();
    let end = glob.find(['*', '?', '[', '\\']).unwrap_or(glob.len());
    link.starts_with(&glob[..end]) || glob.starts_with(&format!("{link}/"))
}

impl FileGlobs {
    /// Parses patterns relative to the root. A pattern with more brace alternatives than the
    /// configuration allows is taken literally.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> FileGlobs {
        let glob = |text: &str| {
            let (takes_back, rest) = match text.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, text),
            };
            let rest = rest.strip_prefix("./").unwrap_or(rest);
            let texts = expand_braces(rest).unwrap_or_else(|| vec![rest.to_owned()]);
            let forms = texts.iter().map(|form| GlobForm::new(form)).collect();
            FileGlob { text: text.to_owned(), is_negated: takes_back, forms }
        };
        FileGlobs { globs: patterns.into_iter().map(glob).collect() }
    }

    /// Adds literal paths, whose wildcard characters do not count.
    #[must_use]
    pub fn with_paths(mut self, paths: impl IntoIterator<Item = RepoPath>) -> FileGlobs {
        self.globs.extend(paths.into_iter().map(|path| FileGlob {
            text: path.to_string(),
            is_negated: false,
            forms: vec![GlobForm::Literal(path)],
        }));
        self
    }

    /// Returns whether the patterns select `path`: the last matching one decides.
    #[must_use]
    pub fn matches_path(&self, path: &RepoPath) -> bool {
        let decider = self.globs.iter().rev().find(|glob| glob.matches(path));
        decider.is_some_and(|glob| !glob.is_negated)
    }

    /// Finds at most `most` files. The patterns are relative to `root`.
    pub fn find_files(&self, root: &Path, among: &SearchScope<'_, '_>, most: usize) -> FoundFiles {
        let mut found = FoundFiles::default();
        match among {
            SearchScope::Exported(paths) => {
                for path in paths.iter().filter(|path| self.matches_path(path)) {
                    found.add_path(root, path);
                }
                found.is_truncated = found.files.len() > most;
            }
            SearchScope::Worktree(ignores) => {
                let mut walk = GlobWalk { root, ignores, globs: self, most, found: &mut found };
                for (base, is_inside_ignored) in self.base_folders(ignores) {
                    walk.walk_folder(&base, is_inside_ignored, true);
                }
            }
        }
        self.find_literals(root, &mut found, most);
        found.files.retain(|path, _| self.matches_path(path));
        let missing = found.missing.iter().map(|path| path.parent());
        let above: Vec<Vec<u8>> =
            missing.map(|folder| folder.map_or(Vec::new(), |f| f.as_bytes().to_vec())).collect();
        for folder in above {
            found.add_folder(root, &folder);
        }
        let is_idle = |glob: &&FileGlob| {
            !glob.is_negated
                && !found.files.keys().any(|path| glob.matches(path))
                && !glob.forms.iter().all(|form| matches!(form, GlobForm::Literal(_)))
        };
        found.unmatched = self.globs.iter().filter(is_idle).map(|glob| glob.text.clone()).collect();
        found
    }

    /// Looks up literal paths one by one, ignored or not.
    fn find_literals(&self, root: &Path, found: &mut FoundFiles, most: usize) {
        let taking = self.globs.iter().filter(|glob| !glob.is_negated);
        for form in taking.flat_map(|glob| &glob.forms) {
            let GlobForm::Literal(path) = form else { continue };
            if !self.matches_path(path) || found.files.contains_key(path) {
                continue;
            }
            if found.files.len() >= most {
                found.is_truncated = true;
                return;
            }
            found.add_path(root, path);
        }
    }

    /// Returns the folders to walk, and whether each is inside an ignored folder. None is below
    /// another with the same flag.
    fn base_folders(&self, ignores: &IgnoreRules<'_>) -> Vec<(Vec<u8>, bool)> {
        let taking = self.globs.iter().filter(|glob| !glob.is_negated);
        let mut bases: Vec<(Vec<u8>, bool)> = taking
            .flat_map(|glob| &glob.forms)
            .map(|form| {
                let base = form.base_folder().to_vec();
                // A literal folder includes its ignored files.
                let is_named = matches!(form, GlobForm::Literal(_));
                let is_inside = is_named || !base.is_empty() && ignores.is_excluded(&base, true);
                (base, is_inside)
            })
            .collect();
        bases.sort();
        bases.dedup();
        let all = bases.clone();
        bases.retain(|(base, is_ignored)| {
            let is_above = |other: &[u8]| other != base && is_same_or_below(base, other);
            !all.iter().any(|(other, ignored)| ignored == is_ignored && is_above(other))
        });
        bases
    }

    /// Returns whether a path below `folder` may be selected; may return `true` too often.
    fn may_match_below(&self, folder: &[u8]) -> bool {
        let taking = self.globs.iter().filter(|glob| !glob.is_negated);
        taking.flat_map(|glob| &glob.forms).any(|form| form.may_match_below(folder))
    }
}

impl FileGlob {
    fn matches(&self, path: &RepoPath) -> bool {
        self.forms.iter().any(|form| form.matches(path))
    }
}

impl GlobForm {
    fn new(text: &str) -> GlobForm {
        let text = text.strip_suffix('/').unwrap_or(text);
        if has_wildcard(text.as_bytes()) {
            GlobForm::Wild(text.as_bytes().to_vec())
        } else {
            GlobForm::Literal(RepoPath::new(text))
        }
    }

    fn matches(&self, path: &RepoPath) -> bool {
        match self {
            GlobForm::Literal(literal) => path == literal || path.is_below(literal),
            GlobForm::Wild(pattern) => gix::glob::wildmatch(
                pattern.as_bstr(),
                path.as_bytes().as_bstr(),
                wildmatch::Mode::NO_MATCH_SLASH_LITERAL,
            ),
        }
    }

    /// Returns the folder below which all matches are: the components before the first wildcard.
    fn base_folder(&self) -> &[u8] {
        match self {
            GlobForm::Literal(path) => path.as_bytes(),
            GlobForm::Wild(pattern) => {
                let wild = pattern.find_byteset(WILDCARDS).unwrap_or(pattern.len());
                let end = pattern[..wild].rfind_byte(b'/').unwrap_or(0);
                &pattern[..end]
            }
        }
    }

    fn may_match_below(&self, folder: &[u8]) -> bool {
        match self {
            GlobForm::Literal(path) => is_same_or_below(folder, path.as_bytes()),
            GlobForm::Wild(pattern) => {
                let mut parts = pattern.split_str("/");
                for part in folder.split_str("/").filter(|part| !part.is_empty()) {
                    match parts.next() {
                        None => return false,
                        Some(b"**") => return true,
                        Some(glob) => {
                            let mode = wildmatch::Mode::empty();
                            if !gix::glob::wildmatch(glob.as_bstr(), part.as_bstr(), mode) {
                                return false;
                            }
                        }
                    }
                }
                parts.next().is_some()
            }
        }
    }
}

/// Returns whether `folder` is `other` or below it. The root is empty.
fn is_same_or_below(folder: &[u8], other: &[u8]) -> bool {
    other.is_empty()
        || folder == other
        || folder.starts_with(other) && folder.get(other.len()) == Some(&b'/')
}

impl FoundFiles {
    fn add_folder(&mut self, root: &Path, folder: &[u8]) {
        if let Ok(meta) = std::fs::metadata(root.join(OsStr::from_bytes(folder))) {
            self.folders.insert(folder.to_vec(), FileStat::from_metadata(&meta));
        }
    }

    /// Records the file at `path`, or that it is missing or unreadable.
    fn add_path(&mut self, root: &Path, path: &RepoPath) {
        match std::fs::symlink_metadata(path.to_disk_path(root)) {
            Ok(meta) if meta.is_dir() => {}
            Ok(meta) => drop(self.files.insert(path.clone(), FileStat::from_metadata(&meta))),
            Err(cause) if is_not_found(&cause) => self.missing.push(path.clone()),
            Err(cause) => self.unreadable.push((path.clone(), cause.to_string())),
        }
    }
}

struct GlobWalk<'a, 'r> {
    root: &'a Path,
    ignores: &'a IgnoreRules<'r>,
    globs: &'a FileGlobs,
    most: usize,
    found: &'a mut FoundFiles,
}

impl GlobWalk<'_, '_> {
    fn walk_folder(&mut self, folder: &[u8], is_inside_ignored: bool, is_base: bool) {
        let on_disk = self.root.join(OsStr::from_bytes(folder));
        // The base folder of a pattern may be a symlink or below one.
        if is_base && !std::fs::metadata(&on_disk).is_ok_and(|meta| meta.is_dir()) {
            // Not a folder: `unmatched` reports the pattern.
            return;
        }
        let entries = match std::fs::read_dir(&on_disk) {
            Ok(entries) => entries,
            Err(cause) if is_not_found(&cause) => return,
            Err(cause) => return self.add_unreadable(folder, &cause),
        };
        self.found.add_folder(self.root, folder);
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(cause) => return self.add_unreadable(folder, &cause),
            };
            if self.found.files.len() >= self.most {
                self.found.is_truncated = true;
                return;
            }
            let name = entry.file_name().into_vec();
            if name == b".git" {
                continue;
            }
            let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
            let path = [folder, separator, &name].concat();
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(cause) if is_not_found(&cause) => continue,
                Err(cause) => {
                    self.add_unreadable(&path, &cause);
                    continue;
                }
            };
            if kind.is_dir() {
                let is_wanted = self.globs.may_match_below(&path);
                if is_wanted && (is_inside_ignored || self.ignores.can_enter(&path)) {
                    self.walk_folder(&path, is_inside_ignored, false);
                }
                continue;
            }
            if kind.is_symlink() && self.globs.may_match_below(&path) {
                self.found.links.push(RepoPath::new(path.clone()));
            }
            let path = RepoPath::new(path);
            if !self.globs.matches_path(&path)
                || !is_inside_ignored && self.ignores.is_ignored(&path, false)
            {
                continue;
            }
            match entry.metadata() {
                Ok(meta) => self.add_file(path, &meta),
                Err(cause) if is_not_found(&cause) => {}
                Err(cause) => self.add_unreadable(path.as_bytes(), &cause),
            }
        }
    }

    fn add_file(&mut self, path: RepoPath, meta: &Metadata) {
        self.found.files.insert(path, FileStat::from_metadata(meta));
    }

    fn add_unreadable(&mut self, path: &[u8], cause: &io::Error) {
        let path = if path.is_empty() { RepoPath::new(".") } else { RepoPath::new(path) };
        self.found.unreadable.push((path, cause.to_string()));
    }
}

/// The ignore rules of a worktree.
pub struct IgnoreRules<'r> {
    stack: std::cell::RefCell<gix::AttributeStack<'r>>,
    index: Index,
}

impl Repo {
    pub fn read_ignore_rules(&self) -> Result<IgnoreRules<'_>> {
        let index = self.read_index()?;
        let source = gix::worktree::stack::state::ignore::Source::WorktreeThenIdMappingIfNotSkipped;
        let stack = self.git.excludes(index.state(), None, source);
        let stack = stack.with_context(|| "cannot read git's ignore rules")?;
        Ok(IgnoreRules { stack: std::cell::RefCell::new(stack), index })
    }
}

impl IgnoreRules<'_> {
    /// Returns whether git tracks `path`.
    #[must_use]
    pub fn is_tracked(&self, path: &RepoPath) -> bool {
        self.index.is_tracked(path.as_bytes())
    }

    /// Returns the paths that git tracks, sorted.
    #[must_use]
    pub fn list_tracked(&self) -> Vec<RepoPath> {
        let state = self.index.state();
        state.entries().iter().map(|entry| RepoPath::new(entry.path(state).to_vec())).collect()
    }

    /// Returns whether git ignores `path`: a rule matches it or a parent folder, and git does not
    /// track it.
    #[must_use]
    pub fn is_ignored(&self, path: &RepoPath, is_folder: bool) -> bool {
        let is_tracked = if is_folder {
            self.index.has_tracked_below(path.as_bytes())
        } else {
            self.index.is_tracked(path.as_bytes())
        };
        !is_tracked && self.is_excluded(path.as_bytes(), is_folder)
    }

    /// Returns whether a folder may contain files that are not ignored.
    fn can_enter(&self, folder: &[u8]) -> bool {
        !self.is_excluded(folder, true) || self.index.has_tracked_below(folder)
    }

    fn is_excluded(&self, path: &[u8], is_folder: bool) -> bool {
        let mode = if is_folder { IndexMode::DIR } else { IndexMode::FILE };
        let mut stack = self.stack.borrow_mut();
        // A rule that cannot be read ignores no file: better to search more than less.
        stack.at_entry(path.as_bstr(), Some(mode)).is_ok_and(|found| found.is_excluded())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(patterns: &[&str], path: &str) -> bool {
        FileGlobs::new(patterns.iter().copied()).matches_path(&RepoPath::new(path))
    }

    #[test]
    fn globs_count_from_the_root() {
        assert!(takes(&["Cargo.lock"], "Cargo.lock"));
        assert!(!takes(&["Cargo.lock"], "sub/Cargo.lock"));
        assert!(takes(&["**/*.rs"], "a.rs") && takes(&["**/*.rs"], "x/y/a.rs"));
        assert!(takes(&["src/*.rs"], "src/a.rs") && !takes(&["src/*.rs"], "src/x/a.rs"));
        assert!(takes(&["src"], "src/x/a.rs") && takes(&["src/"], "src/a"));
        assert!(takes(&["src/**"], "src/x/a.rs") && !takes(&["src/**"], "srcs/a"));
    }

    #[test]
    fn the_last_pattern_decides() {
        let globs = ["src/**", "!src/gen/**", "src/gen/keep"];
        assert!(takes(&globs, "src/a") && !takes(&globs, "src/gen/a"));
        assert!(takes(&globs, "src/gen/keep"));
    }

    #[test]
    fn folders_without_a_match_are_not_entered() {
        let below = |pattern: &str, folder: &str| {
            FileGlobs::new([pattern]).may_match_below(folder.as_bytes())
        };
        assert!(below("src/*.rs", "src") && !below("src/*.rs", "src/x"));
        assert!(below("**/*.rs", "any/where") && !below("src/**", "lib"));
        assert!(below("a/*/c", "a/b") && !below("a/*/c", "a/b/c"));
        assert!(below("src", "src/x") && !below("src", "lib"));
    }
}
