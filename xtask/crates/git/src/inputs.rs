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
use xtask_base::error::{Context, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::alternatives;

/// The patterns of one check.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    globs: Vec<Glob>,
}

#[derive(Clone, Debug)]
struct Glob {
    /// As it was written.
    text: String,
    /// Whether it takes back.
    takes_back: bool,
    /// What its braces stand for.
    forms: Vec<Form>,
}

#[derive(Clone, Debug)]
enum Form {
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
    pub idle: Vec<String>,
    /// What could not be looked at, and why.
    pub unreadable: Vec<(RepoPath, String)>,
    /// Whether there are more than were asked for at most; the rest was left out.
    pub is_cut: bool,
}

/// Where the files are looked for.
pub enum Among<'a, 'r> {
    /// In the worktree, as it is.
    Worktree(&'a Ignores<'r>),
    /// In a folder in which just these files were laid out.
    Laid(&'a [RepoPath]),
}

/// Whether a glob may match what lies behind a symlink to a folder.
#[must_use]
pub fn may_lead_through(glob: &str, link: &RepoPath) -> bool {
    let link = link.to_string();
    let end = glob.find(['*', '?', '[', '\\']).unwrap_or(glob.len());
    link.starts_with(&glob[..end]) || glob.starts_with(&format!("{link}/"))
}

impl Globs {
    /// Takes patterns as they are written, from the root. Those with more alternatives than the
    /// configuration allows stand for themselves.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Globs {
        let glob = |text: &str| {
            let (takes_back, rest) = match text.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, text),
            };
            let rest = rest.strip_prefix("./").unwrap_or(rest);
            let texts = alternatives(rest).unwrap_or_else(|| vec![rest.to_owned()]);
            let forms = texts.iter().map(|form| Form::new(form)).collect();
            Glob { text: text.to_owned(), takes_back, forms }
        };
        Globs { globs: patterns.into_iter().map(glob).collect() }
    }

    /// The same and these very paths, whatever signs are in them.
    #[must_use]
    pub fn and_paths(mut self, paths: impl IntoIterator<Item = RepoPath>) -> Globs {
        self.globs.extend(paths.into_iter().map(|path| Glob {
            text: path.to_string(),
            takes_back: false,
            forms: vec![Form::Literal(path)],
        }));
        self
    }

    /// Whether the patterns take this path.
    #[must_use]
    pub fn take(&self, path: &RepoPath) -> bool {
        let decider = self.globs.iter().rev().find(|glob| glob.matches(path));
        decider.is_some_and(|glob| !glob.takes_back)
    }

    /// Finds the files, at most so many. `root` is the folder from which the patterns count.
    pub fn find(&self, root: &Path, among: &Among<'_, '_>, most: usize) -> FoundFiles {
        let mut found = FoundFiles::default();
        match among {
            Among::Laid(paths) => {
                for path in paths.iter().filter(|path| self.take(path)) {
                    found.look(root, path);
                }
                found.is_cut = found.files.len() > most;
            }
            Among::Worktree(ignores) => {
                let mut walk = Walk { root, ignores, globs: self, most, found: &mut found };
                for (base, is_inside_ignored) in self.bases(ignores) {
                    walk.folder(&base, is_inside_ignored, true);
                }
            }
        }
        self.look_at_literals(root, &mut found, most);
        found.files.retain(|path, _| self.take(path));
        let missing = found.missing.iter().map(|path| path.parent());
        let above: Vec<Vec<u8>> =
            missing.map(|folder| folder.map_or(Vec::new(), |f| f.as_bytes().to_vec())).collect();
        for folder in above {
            found.look_at_folder(root, &folder);
        }
        let is_idle = |glob: &&Glob| {
            !glob.takes_back
                && !found.files.keys().any(|path| glob.matches(path))
                && !glob.forms.iter().all(|form| matches!(form, Form::Literal(_)))
        };
        found.idle = self.globs.iter().filter(is_idle).map(|glob| glob.text.clone()).collect();
        found
    }

    /// Literal paths are looked at one by one, wherever they lie.
    fn look_at_literals(&self, root: &Path, found: &mut FoundFiles, most: usize) {
        let taking = self.globs.iter().filter(|glob| !glob.takes_back);
        for form in taking.flat_map(|glob| &glob.forms) {
            let Form::Literal(path) = form else { continue };
            if !self.take(path) || found.files.contains_key(path) {
                continue;
            }
            if found.files.len() >= most {
                found.is_cut = true;
                return;
            }
            found.look(root, path);
        }
    }

    /// The folders in which to begin, and whether each lies in what git ignores. None lies in another
    /// one that is walked in the same manner.
    fn bases(&self, ignores: &Ignores<'_>) -> Vec<(Vec<u8>, bool)> {
        let taking = self.globs.iter().filter(|glob| !glob.takes_back);
        let mut bases: Vec<(Vec<u8>, bool)> = taking
            .flat_map(|glob| &glob.forms)
            .map(|form| {
                let base = form.base().to_vec();
                // A folder that is named is meant with all that is in it.
                let is_named = matches!(form, Form::Literal(_));
                let is_inside = is_named || !base.is_empty() && ignores.is_excluded(&base, true);
                (base, is_inside)
            })
            .collect();
        bases.sort();
        bases.dedup();
        let all = bases.clone();
        bases.retain(|(base, is_ignored)| {
            let is_above = |other: &[u8]| other != base && lies_below(base, other);
            !all.iter().any(|(other, ignored)| ignored == is_ignored && is_above(other))
        });
        bases
    }

    /// Whether something below this folder could be taken. May say yes too often.
    fn may_take_below(&self, folder: &[u8]) -> bool {
        let taking = self.globs.iter().filter(|glob| !glob.takes_back);
        taking.flat_map(|glob| &glob.forms).any(|form| form.may_match_below(folder))
    }
}

impl Glob {
    fn matches(&self, path: &RepoPath) -> bool {
        self.forms.iter().any(|form| form.matches(path))
    }
}

impl Form {
    fn new(text: &str) -> Form {
        let text = text.strip_suffix('/').unwrap_or(text);
        if has_wildcard(text.as_bytes()) {
            Form::Wild(text.as_bytes().to_vec())
        } else {
            Form::Literal(RepoPath::new(text))
        }
    }

    fn matches(&self, path: &RepoPath) -> bool {
        match self {
            Form::Literal(literal) => path == literal || path.is_below(literal),
            Form::Wild(pattern) => gix::glob::wildmatch(
                pattern.as_bstr(),
                path.as_bytes().as_bstr(),
                wildmatch::Mode::NO_MATCH_SLASH_LITERAL,
            ),
        }
    }

    /// The folder above which nothing can match: all parts before the first wildcard.
    fn base(&self) -> &[u8] {
        match self {
            Form::Literal(path) => path.as_bytes(),
            Form::Wild(pattern) => {
                let wild = pattern.find_byteset(WILDCARDS).unwrap_or(pattern.len());
                let end = pattern[..wild].rfind_byte(b'/').unwrap_or(0);
                &pattern[..end]
            }
        }
    }

    fn may_match_below(&self, folder: &[u8]) -> bool {
        match self {
            Form::Literal(path) => lies_below(folder, path.as_bytes()),
            Form::Wild(pattern) => {
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
fn lies_below(folder: &[u8], other: &[u8]) -> bool {
    other.is_empty()
        || folder == other
        || folder.starts_with(other) && folder.get(other.len()) == Some(&b'/')
}

impl FoundFiles {
    fn look_at_folder(&mut self, root: &Path, folder: &[u8]) {
        if let Ok(meta) = std::fs::metadata(root.join(OsStr::from_bytes(folder))) {
            self.folders.insert(folder.to_vec(), FileStat::of(&meta));
        }
    }

    /// Looks at one path, and takes it, or what it lacks.
    fn look(&mut self, root: &Path, path: &RepoPath) {
        match std::fs::symlink_metadata(path.on_disk(root)) {
            Ok(meta) if meta.is_dir() => {}
            Ok(meta) => drop(self.files.insert(path.clone(), FileStat::of(&meta))),
            Err(cause) if is_nothing(&cause) => self.missing.push(path.clone()),
            Err(cause) => self.unreadable.push((path.clone(), cause.to_string())),
        }
    }
}

fn is_nothing(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

struct Walk<'a, 'r> {
    root: &'a Path,
    ignores: &'a Ignores<'r>,
    globs: &'a Globs,
    most: usize,
    found: &'a mut FoundFiles,
}

impl Walk<'_, '_> {
    fn folder(&mut self, folder: &[u8], is_inside_ignored: bool, is_base: bool) {
        let on_disk = self.root.join(OsStr::from_bytes(folder));
        // Where a pattern begins, it begins also behind a symlink.
        if is_base && !std::fs::metadata(&on_disk).is_ok_and(|meta| meta.is_dir()) {
            // What is no folder is no place to look in; that it is missing, `idle` tells.
            return;
        }
        let entries = match std::fs::read_dir(&on_disk) {
            Ok(entries) => entries,
            Err(cause) if is_nothing(&cause) => return,
            Err(cause) => return self.unreadable(folder, &cause),
        };
        self.found.look_at_folder(self.root, folder);
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(cause) => return self.unreadable(folder, &cause),
            };
            if self.found.files.len() >= self.most {
                self.found.is_cut = true;
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
                Err(cause) if is_nothing(&cause) => continue,
                Err(cause) => {
                    self.unreadable(&path, &cause);
                    continue;
                }
            };
            if kind.is_dir() {
                let is_wanted = self.globs.may_take_below(&path);
                if is_wanted && (is_inside_ignored || self.ignores.enters(&path)) {
                    self.folder(&path, is_inside_ignored, false);
                }
                continue;
            }
            if kind.is_symlink() && self.globs.may_take_below(&path) {
                self.found.links.push(RepoPath::new(path.clone()));
            }
            let path = RepoPath::new(path);
            if !self.globs.take(&path)
                || !is_inside_ignored && self.ignores.is_ignored(&path, false)
            {
                continue;
            }
            match entry.metadata() {
                Ok(meta) => self.take(path, &meta),
                Err(cause) if is_nothing(&cause) => {}
                Err(cause) => self.unreadable(path.as_bytes(), &cause),
            }
        }
    }

    fn take(&mut self, path: RepoPath, meta: &Metadata) {
        self.found.files.insert(path, FileStat::of(meta));
    }

    fn unreadable(&mut self, path: &[u8], cause: &io::Error) {
        let path = if path.is_empty() { RepoPath::new(".") } else { RepoPath::new(path) };
        self.found.unreadable.push((path, cause.to_string()));
    }
}

/// What git ignores in this worktree.
pub struct Ignores<'r> {
    stack: std::cell::RefCell<gix::AttributeStack<'r>>,
    index: Index,
}

impl Repo {
    /// Reads what is ignored here.
    pub fn ignores(&self) -> Result<Ignores<'_>> {
        let index = self.index()?;
        let source = gix::worktree::stack::state::ignore::Source::WorktreeThenIdMappingIfNotSkipped;
        let stack = self.git.excludes(index.state(), None, source);
        let stack = stack.unable(|| "what git ignores cannot be read")?;
        Ok(Ignores { stack: std::cell::RefCell::new(stack), index })
    }
}

impl Ignores<'_> {
    /// Whether git tracks a path.
    #[must_use]
    pub fn tracks(&self, path: &RepoPath) -> bool {
        self.index.holds(path.as_bytes())
    }

    /// Whether git ignores a path: a rule says so for it or for a folder above it, and git does not
    /// track it.
    #[must_use]
    pub fn is_ignored(&self, path: &RepoPath, is_folder: bool) -> bool {
        let is_tracked = if is_folder {
            self.index.holds_below(path.as_bytes())
        } else {
            self.index.holds(path.as_bytes())
        };
        !is_tracked && self.is_excluded(path.as_bytes(), is_folder)
    }

    /// Whether there may be something in a folder that is not ignored.
    fn enters(&self, folder: &[u8]) -> bool {
        !self.is_excluded(folder, true) || self.index.holds_below(folder)
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
        Globs::new(patterns.iter().copied()).take(&RepoPath::new(path))
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
        let below =
            |pattern: &str, folder: &str| Globs::new([pattern]).may_take_below(folder.as_bytes());
        assert!(below("src/*.rs", "src") && !below("src/*.rs", "src/x"));
        assert!(below("**/*.rs", "any/where") && !below("src/**", "lib"));
        assert!(below("a/*/c", "a/b") && !below("a/*/c", "a/b/c"));
        assert!(below("src", "src/x") && !below("src", "lib"));
    }
}
