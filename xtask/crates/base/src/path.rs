//! Paths inside a repository: bytes with `/` as the separator, relative to the root, e.g.
//! `src/main.rs`.
//!
//! Git's paths are bytes, not text, and so is [`RepoPath`]. For display, invalid UTF-8 is replaced;
//! a path is never parsed back from its displayed form.

use super::words::{escape_name, quote_bytes_for_shell};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A path relative to the root of the repository, never empty and never absolute. Whether its
/// components are safe to write is decided by `xtask_git::unsafe_paths`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// Creates a path from the bytes that git stores.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        RepoPath(bytes.into())
    }

    /// Returns the bytes as git stores them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the components between the slashes.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// Returns the parent folders, nearest first, without the root: `a/b` and `a` for `a/b/c`.
    pub fn ancestors(&self) -> impl Iterator<Item = RepoPath> {
        let bytes = &self.0;
        (0..bytes.len())
            .rev()
            .filter(|at| bytes[*at] == b'/')
            .map(|at| RepoPath(bytes[..at].to_vec()))
    }

    /// Returns the last component, e.g. `c` of `a/b/c`.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        self.components().last().unwrap_or_default()
    }

    /// Returns the parent folder, or `None` for a path in the root.
    #[must_use]
    pub fn parent(&self) -> Option<RepoPath> {
        self.ancestors().next()
    }

    /// Returns whether the path is below `folder`, at any depth.
    #[must_use]
    pub fn is_below(&self, folder: &RepoPath) -> bool {
        self.0.len() > folder.0.len()
            && self.0.starts_with(&folder.0)
            && self.0[folder.0.len()] == b'/'
    }

    /// Returns the path on disk for a repository at `root`.
    #[must_use]
    pub fn to_disk_path(&self, root: &Path) -> PathBuf {
        root.join(OsStr::from_bytes(&self.0))
    }
}

impl RepoPath {
    /// Quotes the path for a shell if needed, also so that it is no option.
    #[must_use]
    pub fn quote_for_shell(&self) -> String {
        match self.0.first() {
            Some(b'-') => quote_bytes_for_shell(&[b"./", &self.0[..]].concat()),
            _ => quote_bytes_for_shell(&self.0),
        }
    }

    /// Quotes the path for a shell as a pathspec of git that matches nothing else, e.g. `':(literal)app/[id].ts'`.
    #[must_use]
    pub fn quote_as_pathspec(&self) -> String {
        if self.0.starts_with(b":") || self.0.iter().any(|byte| b"*?[\\".contains(byte)) {
            return quote_bytes_for_shell(&[b":(literal)", &self.0[..]].concat());
        }
        self.quote_for_shell()
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape_name(&String::from_utf8_lossy(&self.0)))
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl serde::Serialize for RepoPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The serialized form of a path in state files: text, or bytes if not UTF-8.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum EncodedPath {
    Text(String),
    Bytes(Vec<u8>),
}

/// Serde support for a [`RepoPath`] that keeps every byte, unlike its displayed form: `#[serde(with
/// = "exact")]`.
pub mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{EncodedPath, RepoPath};

    pub fn serialize<S: Serializer>(path: &RepoPath, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(path.as_bytes()) {
            Ok(text) => EncodedPath::Text(text.to_owned()),
            Err(_) => EncodedPath::Bytes(path.as_bytes().to_vec()),
        }
        .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RepoPath, D::Error> {
        Ok(match EncodedPath::deserialize(deserializer)? {
            EncodedPath::Text(text) => RepoPath::new(text),
            EncodedPath::Bytes(bytes) => RepoPath::new(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_go_from_the_nearest_to_the_outermost() {
        let path = RepoPath::new("a/b/c");
        let names: Vec<String> = path.ancestors().map(|p| p.to_string()).collect();
        assert_eq!(names, ["a/b", "a"]);
        assert_eq!(RepoPath::new("a").parent(), None);
    }

    #[test]
    fn below_means_a_whole_part() {
        let folder = RepoPath::new("set");
        assert!(RepoPath::new("set/up").is_below(&folder));
        assert!(!RepoPath::new("setup").is_below(&folder));
        assert!(!RepoPath::new("set").is_below(&folder));
    }

    #[test]
    fn every_path_can_be_typed() {
        let typed = |bytes: &[u8]| RepoPath::new(bytes).quote_for_shell();
        assert_eq!(typed(b"setup/a"), "setup/a");
        assert_eq!(typed("it's für alle".as_bytes()), r"'it'\''s für alle'");
        assert_eq!(typed(b"two\nlines"), r"$'two\012lines'");
        assert_eq!(typed(b"\xff'1\\"), r"$'\377\0471\134'");
        assert_eq!(typed(b"-x"), "./-x");
        let pathspec = |name: &str| RepoPath::new(name).quote_as_pathspec();
        assert_eq!(pathspec("setup/a"), "setup/a");
        assert_eq!(pathspec("app/[id].ts"), "':(literal)app/[id].ts'");
        assert_eq!(pathspec(":x"), "':(literal):x'");
    }
}
