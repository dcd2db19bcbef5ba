//! The files that a check is given, with the state of each.
//!
//! Only files are given that exist in the folder of the check and are no symlinks; file rules also see symlinks. For
//! example:
//!
//! ```text
//! files = ["*.py", "#!python"], scope: staged  ->  src/a.py: 9f86d0…, bin/tool: 2c26b4…
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Arc;

use super::cache_key::{ManifestFile, digest_files};
use super::file_scope::FileScope;
use super::input_set::InputSet;
use super::inspector::{InputInspector, MAX_INPUT_FILES};
use xtask_base::digest;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_config::{Check, CheckFiles, CheckKind};
use xtask_git::{FileGlobs, FileStat, FoundFiles};

/// How much of a file is read for its `#!` line, in bytes; Linux reads as many.
const SHEBANG_BYTES: u64 = 256;

/// The files of one check.
#[derive(Debug)]
pub(super) struct GivenFiles {
    pub(super) set: Arc<InputSet>,
}

impl GivenFiles {
    /// Returns the paths, sorted.
    pub(super) fn paths(&self) -> impl Iterator<Item = &RepoPath> {
        self.set.found.files.keys()
    }

    /// Returns each path whose content is known, with a digest of its name, mode and content.
    pub(super) fn digests(&self) -> BTreeMap<RepoPath, String> {
        let entry = |file: &ManifestFile| {
            let digest = digest_files(std::slice::from_ref(file));
            (file.path.clone(), digest::to_hex(&digest[..16]))
        };
        self.set.files.iter().map(entry).collect()
    }
}

impl InputInspector<'_> {
    /// Finds the files that a check is given in this run. Returns `None` if it is given none at any time.
    pub(super) fn find_given_files(&mut self, check: &Check) -> Result<Option<GivenFiles>> {
        let Some(files) = &check.files else { return Ok(None) };
        let mut found = self.find_candidates(check, files)?;
        let is_rules = matches!(check.kind, CheckKind::FileRules { .. });
        let globs = FileGlobs::new(files.globs.iter().map(String::as_str));
        let excluded = FileGlobs::new(excluded_globs(files));
        let root = self.root.clone();
        found.files.retain(|path, stat| {
            let is_inside = check.cwd.as_ref().is_none_or(|cwd| path.is_below(cwd));
            is_inside
                && (is_regular(stat) || is_rules && is_symlink(stat))
                && (globs.matches_path(path)
                    || !excluded.matches_path(path)
                        && is_regular(stat)
                        && is_interpreted_by(&path.to_disk_path(&root), &files.interpreters))
        });
        let mut ends = BTreeMap::new();
        let (files, unreadable) = match found.is_truncated {
            true => (Vec::new(), None),
            false => self.read_files(&found, &mut ends),
        };
        let digest = digest_files(&files);
        let files = Arc::new(files);
        let set = InputSet { found, outside: None, files, unreadable, link_targets: ends, digest };
        Ok(Some(GivenFiles { set: Arc::new(set) }))
    }

    /// Finds the files among which those of a check are.
    fn find_candidates(&mut self, check: &Check, files: &CheckFiles) -> Result<FoundFiles> {
        if let FileScope::Changed(changed) = &self.scope
            && !(changed.widens_by_inputs && changed.touches_inputs(check))
        {
            let stat = |path: &RepoPath| {
                let meta = std::fs::symlink_metadata(path.to_disk_path(&self.root)).ok()?;
                Some((path.clone(), FileStat::from_metadata(&meta)))
            };
            let present = changed.paths.present.iter().filter_map(stat).collect();
            return Ok(FoundFiles { files: present, ..FoundFiles::default() });
        }
        // Only the first line tells a script, whatever its name.
        let all = ["**"];
        let globs = match files.interpreters.is_empty() {
            true => FileGlobs::new(files.globs.iter().map(String::as_str)),
            false => FileGlobs::new(all),
        };
        self.load_ignore_rules()?;
        let Some(among) = self.search_scope() else { return Ok(FoundFiles::default()) };
        Ok(globs.find_files(&self.root, &among, MAX_INPUT_FILES))
    }
}

/// Returns the globs of `exclude`, without their `!`.
fn excluded_globs(files: &CheckFiles) -> impl Iterator<Item = &str> {
    files.globs.iter().filter_map(|glob| glob.strip_prefix('!'))
}

fn is_regular(stat: &FileStat) -> bool {
    file_type(stat) == rustix::fs::FileType::RegularFile
}

fn is_symlink(stat: &FileStat) -> bool {
    file_type(stat) == rustix::fs::FileType::Symlink
}

fn file_type(stat: &FileStat) -> rustix::fs::FileType {
    rustix::fs::FileType::from_raw_mode(stat.mode as rustix::fs::RawMode)
}

/// Whether the `#!` line of a file names one of `interpreters`; `python3.12` counts as `python3` and as `python`.
fn is_interpreted_by(path: &Path, interpreters: &[String]) -> bool {
    if interpreters.is_empty() {
        return false;
    }
    let mut start = Vec::new();
    let read =
        std::fs::File::open(path).map(|file| file.take(SHEBANG_BYTES).read_to_end(&mut start));
    if !matches!(read, Ok(Ok(_))) {
        return false;
    }
    let Some(line) = start.strip_prefix(b"#!") else { return false };
    let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or(b""));
    let base = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let words: Vec<String> = line.split_whitespace().map(base).collect();
    let is_option = |word: &&String| word.starts_with('-') || word.contains('=');
    let name = match words.first().map(String::as_str) {
        Some("env") => words.iter().skip(1).find(|word| !is_option(word)),
        _ => words.first(),
    };
    name.is_some_and(|name| interpreters.iter().any(|wanted| is_version_of(name, wanted)))
}

/// Whether `name` is `wanted`, with or without a version behind it.
fn is_version_of(name: &str, wanted: &str) -> bool {
    let rest = name.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// Returns the argument that names `path` to a command in the folder `cwd`. A name that begins with `-` would be taken
/// for an option, so it gets `./`.
pub(super) fn to_argument(path: &RepoPath, cwd: Option<&RepoPath>) -> OsString {
    let bytes = path.as_bytes();
    let inside = match cwd {
        Some(cwd) => bytes.get(cwd.as_bytes().len() + 1..).unwrap_or_default(),
        None => bytes,
    };
    let dash: &[u8] = if inside.starts_with(b"-") { b"./" } else { b"" };
    OsString::from_vec([dash, inside].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_options_and_are_relative_to_the_folder() {
        let argument = |path: &str, cwd: Option<&str>| {
            to_argument(&RepoPath::new(path), cwd.map(RepoPath::new).as_ref())
        };
        assert_eq!(argument("-rf", None), "./-rf");
        assert_eq!(argument("a/-rf", None), "a/-rf");
        assert_eq!(argument("a/-rf", Some("a")), "./-rf");
        assert_eq!(argument("web/app/x y.js", Some("web/app")), "x y.js");
    }

    #[test]
    fn a_version_belongs_to_its_interpreter() {
        for (name, wanted, is_one) in [
            ("python3.12", "python", true),
            ("python3.12", "python3", true),
            ("python3", "python3.12", false),
            ("pythonw", "python", false),
            ("bash", "sh", false),
        ] {
            assert_eq!(is_version_of(name, wanted), is_one, "{name} {wanted}");
        }
    }
}
