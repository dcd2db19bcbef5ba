//! The tracked files of a repository, and reading of the few that describe the project *(pure)*.
//!
//! An unreadable file counts as absent, with a note, so no fact comes from half a file. For example:
//!
//! ```text
//! read_json("package.json") = None, note "`package.json` is not JSON (EOF …); treated as absent"
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use xtask_base::path::RepoPath;

/// The largest file that is read: 4 MB, far more than any project description.
const MAX_FILE_BYTES: usize = 4_000_000;

/// Reads a file by its path; `None` if it does not exist.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

pub(super) type TomlTable<'t> = DeTable<'t>;

pub(super) struct FileTree<'a> {
    paths: BTreeSet<&'a str>,
    read: ReadFile<'a>,
    /// The folder that counts as the root, with a trailing slash; empty for the real root.
    root: String,
    notes: RefCell<Vec<String>>,
}

impl<'a> FileTree<'a> {
    /// Creates a tree. Ignores paths that are not UTF-8: no relevant file has one.
    pub(super) fn new(paths: &'a [RepoPath], read: ReadFile<'a>) -> Self {
        let texts = paths.iter().filter_map(|path| std::str::from_utf8(path.as_bytes()).ok());
        FileTree { paths: texts.collect(), read, root: String::new(), notes: RefCell::default() }
    }

    /// Returns the files below `folder`, with `folder` as the root.
    pub(super) fn subtree(&self, folder: &str) -> FileTree<'a> {
        let root = format!("{folder}/");
        let paths =
            self.paths_below(&root).filter_map(|path| path.strip_prefix(&root[..])).collect();
        FileTree { paths, read: self.read, root, notes: RefCell::default() }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Whether any file is below `folder`.
    pub(super) fn has_folder(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        self.paths_below(&below).next().is_some()
    }

    /// Returns the paths with the prefix `start`.
    pub(super) fn paths_below(&self, start: &str) -> impl Iterator<Item = &'a str> {
        let paths = self
            .paths
            .range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        let start = start.to_owned();
        paths.copied().take_while(move |path| path.starts_with(&start))
    }

    /// Returns the names of the files in the root.
    pub(super) fn root_files(&self) -> impl Iterator<Item = &'a str> {
        self.paths.iter().copied().filter(|path| !path.contains('/'))
    }

    pub(super) fn all_paths(&self) -> impl Iterator<Item = &'a str> {
        self.paths.iter().copied()
    }

    pub(super) fn add_note(&self, note: String) {
        self.notes.borrow_mut().push(note);
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        let mut notes = self.notes.take();
        notes.sort();
        notes.dedup();
        notes
    }

    /// Returns the text of a file. Returns `None`, with a note if it exists, if it is unreadable.
    pub(super) fn read_text(&self, path: &str) -> Option<String> {
        if !self.has(path) {
            return None;
        }
        let Some(bytes) = (self.read)(&format!("{}{path}", self.root)) else {
            self.add_note(format!("cannot read `{path}`; treated as absent"));
            return None;
        };
        if bytes.len() > MAX_FILE_BYTES {
            self.add_note(format!("`{path}` is too large to be read; treated as absent"));
            return None;
        }
        let text = String::from_utf8(bytes).ok();
        if text.is_none() {
            self.add_note(format!("`{path}` is not UTF-8; treated as absent"));
        }
        text
    }

    /// Parses a TOML file and applies `take`. Returns `None`, with a note, if that fails.
    pub(super) fn read_toml<T>(
        &self,
        path: &str,
        take: impl FnOnce(&TomlTable<'_>) -> T,
    ) -> Option<T> {
        let text = self.read_text(path)?;
        match DeTable::parse(text.trim_start_matches('\u{feff}')) {
            Ok(table) => Some(take(table.get_ref())),
            Err(fault) => {
                let why = fault.message().lines().next().unwrap_or_default().to_owned();
                self.add_note(format!("`{path}` is not TOML ({why}); treated as absent"));
                None
            }
        }
    }

    /// Parses a JSON file. Returns `None`, with a note, unless it contains an object.
    pub(super) fn read_json(
        &self,
        path: &str,
    ) -> Option<serde_json::Map<String, serde_json::Value>> {
        let text = self.read_text(path)?;
        match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(serde_json::Value::Object(object)) => Some(object),
            Ok(_) => {
                self.add_note(format!("`{path}` is not a JSON object; treated as absent"));
                None
            }
            Err(fault) => {
                self.add_note(format!("`{path}` is not JSON ({fault}); treated as absent"));
                None
            }
        }
    }
}

/// Returns the value at a path of keys, e.g. `["tool", "uv", "default-groups"]`.
pub(super) fn find_value<'t>(table: &'t TomlTable<'t>, names: &[&str]) -> Option<&'t DeValue<'t>> {
    let (last, before) = names.split_last()?;
    let mut table = table;
    for name in before {
        table = find_entry(table, name)?.as_table()?;
    }
    find_entry(table, last)
}

/// Returns the table at a path of keys.
pub(super) fn find_table<'t>(
    table: &'t TomlTable<'t>,
    names: &[&str],
) -> Option<&'t TomlTable<'t>> {
    find_value(table, names)?.as_table()
}

/// Returns the strings in the array at a path of keys, without other values.
pub(super) fn list_strings<'t>(table: &'t TomlTable<'t>, names: &[&str]) -> Vec<&'t str> {
    let list = find_value(table, names).and_then(DeValue::as_array);
    let items = list.into_iter().flat_map(|list| list.iter());
    items.filter_map(|item| item.get_ref().as_str()).collect()
}

/// Returns the keys of the table at `path`.
pub(super) fn list_keys<'t>(table: &'t TomlTable<'t>, path: &[&str]) -> Vec<&'t str> {
    let table = find_table(table, path);
    table
        .into_iter()
        .flat_map(|table| table.iter())
        .map(|(name, _)| name.get_ref().as_ref())
        .collect()
}

fn find_entry<'t>(table: &'t TomlTable<'t>, name: &str) -> Option<&'t DeValue<'t>> {
    table
        .iter()
        .find(|(key, _)| key.get_ref().as_ref() == name)
        .map(|(_, value)| Spanned::get_ref(value))
}
