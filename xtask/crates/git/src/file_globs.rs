//! The files of a worktree that globs name, as a person who writes them for a check means them.
//!
//! A pattern without wildcards names one path, ignored by git or not; if that is a folder, all that
//! is in it. A wildcard neither enters `.git` nor what git ignores, unless the pattern begins inside.
//! Symlinks are found and never followed. `!` takes back what patterns before it have taken. What
//! cannot be looked at is an answer, not silence.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use gix::bstr::ByteSlice;
use gix::glob::wildmatch;
use gix::index::entry::Mode as IndexMode;

use super::{FileStat, Index, Repo};
use xtask_base::error::{Result, ResultExt};
use xtask_base::path::RepoPath;
use xtask_base::words::expand_braces;

/// The patterns of one check.
#[derive(Clone, Debug, Default)]
pub struct FileGlobs {
    globs: Vec<FileGlob>,
}

#[derive(Clone, Debug)]
struct FileGlob {
    /// As it was written.
    text: String,
    /// Whether it takes back.
    is_negated: bool,
    /// What its braces stand for.
    forms: Vec<GlobForm>,
}

#[derive(Clone, Debug)]
enum GlobForm {
    /// One path, and what is below it.
    Literal(RepoPath),
    /// Everything that matches.
    Wild(Vec<u8>),
}

/// What the patterns of one check have found.
#[derive(Debug, Default)]
pub struct FoundFiles {
    /// Every file, symlink and special file, by its path.
    pub files: BTreeMap<RepoPath, FileStat>,
    /// The folders in which it was looked for files, and those of paths that were named and are not
    /// there; the root is empty.
    pub folders: BTreeMap<Vec<u8>, FileStat>,
    /// Paths that were named and are not there.
    pub missing: Vec<RepoPath>,
    /// Symlinks below which a pattern would mean something, if they lead to a folder.
    pub links: Vec<RepoPath>,
    /// Patterns that found nothing at all.
    pub unmatched: Vec<String>,
    /// What could not be looked at, and why.
    pub unreadable: Vec<(RepoPath, String)>,
    /// Whether there are more than were asked for at most; the rest was left out.
    pub is_truncated: bool,
}

/// Where the files are looked for.
pub enum SearchScope<'a, 'r> {
    /// In the worktree, as it is.
    Worktree(&'a IgnoreRules<'r>),
    /// In a folder in which just these files were laid out.
    Exported(&'a [RepoPath]),
}

/// Whether a glob may match what lies behind a symlink to a folder.
#[must_use]
pub fn may_match_behind_link(glob: &str, link: &RepoPath) -> bool {
    let link = link.to_string();
    let end = glob.find(['*', '?', '[', '\\']).unwrap_or(glob.len());
    link.starts_with(&glob[..end]) || glob.starts_with(&format!("{link}/"))
}

impl FileGlobs {
    /// Takes patterns as they are written, from the root. Those with more alternatives than the
    /// configuration allows stand for themselves.
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

    /// The same and these very paths, whatever signs are in them.
    #[must_use]
    pub fn with_paths(mut self, paths: impl IntoIterator<Item = RepoPath>) -> FileGlobs {
        self.globs.extend(paths.into_iter().map(|path| FileGlob {
            text: path.to_string(),
            is_negated: false,
            forms: vec![GlobForm::Literal(path)],
        }));
        self
    }

    /// Whether the patterns take this path.
    #[must_use]
    pub fn matches_path(&self, path: &RepoPath) -> bool {
        let decider = self.globs.iter().rev().find(|glob| glob.matches(path));
        decider.is_some_and(|glob| !glob.is_negated)
    }

    /// Finds the files, at most so many. `root` is the folder from which the patterns count.
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

    /// Literal paths are looked at one by one, wherever they lie.
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

    /// The folders in which to begin, and whether each lies in what git ignores. None lies in another
    /// one that is walked in the same manner.
    fn base_folders(&self, ignores: &IgnoreRules<'_>) -> Vec<(Vec<u8>, bool)> {
        let taking = self.globs.iter().filter(|glob| !glob.is_negated);
        let mut bases: Vec<(Vec<u8>, bool)> = taking
            .flat_map(|glob| &glob.forms)
            .map(|form| {
                let base = form.base_folder().to_vec();
                // A folder that is named is meant with all that is in it.
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

    /// Whether something below this folder could be taken. May say yes too often.
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

    /// The folder above which nothing can match: all parts before the first wildcard.
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

const WILDCARDS: &[u8] = b"*?[\\";

fn has_wildcard(text: &[u8]) -> bool {
    text.find_byteset(WILDCARDS).is_some()
}

/// Whether a folder is another one, or lies in it. The root is empty.
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

    /// Looks at one path, and takes it, or what it lacks.
    fn add_path(&mut self, root: &Path, path: &RepoPath) {
        match std::fs::symlink_metadata(path.to_disk_path(root)) {
            Ok(meta) if meta.is_dir() => {}
            Ok(meta) => drop(self.files.insert(path.clone(), FileStat::from_metadata(&meta))),
            Err(cause) if is_not_found(&cause) => self.missing.push(path.clone()),
            Err(cause) => self.unreadable.push((path.clone(), cause.to_string())),
        }
    }
}

fn is_not_found(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
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
        // Where a pattern begins, it begins also behind a symlink.
        if is_base && !std::fs::metadata(&on_disk).is_ok_and(|meta| meta.is_dir()) {
            // What is no folder is no place to look in; that it is missing, `idle` tells.
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

/// What git ignores in this worktree.
pub struct IgnoreRules<'r> {
    stack: std::cell::RefCell<gix::AttributeStack<'r>>,
    index: Index,
}

impl Repo {
    /// Reads what is ignored here.
    pub fn read_ignore_rules(&self) -> Result<IgnoreRules<'_>> {
        let index = self.read_index()?;
        let source = gix::worktree::stack::state::ignore::Source::WorktreeThenIdMappingIfNotSkipped;
        let stack = self.git.excludes(index.state(), None, source);
        let stack = stack.with_context(|| "what git ignores cannot be read")?;
        Ok(IgnoreRules { stack: std::cell::RefCell::new(stack), index })
    }
}

impl IgnoreRules<'_> {
    /// Whether git tracks a path.
    #[must_use]
    pub fn is_tracked(&self, path: &RepoPath) -> bool {
        self.index.is_tracked(path.as_bytes())
    }

    /// Whether git ignores a path: a rule says so for it or for a folder above it, and git does not
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

    /// Whether there may be something in a folder that is not ignored.
    fn can_enter(&self, folder: &[u8]) -> bool {
        !self.is_excluded(folder, true) || self.index.has_tracked_below(folder)
    }

    fn is_excluded(&self, path: &[u8], is_folder: bool) -> bool {
        let mode = if is_folder { IndexMode::DIR } else { IndexMode::FILE };
        let mut stack = self.stack.borrow_mut();
        // A rule that cannot be read ignores nothing: more is looked at, not less.
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
