//! The files of a repository as they were listed, and reading those of them that say what it is
//! *(pure)*.
//!
//! What cannot be read counts as absent and is noted, so that nothing is guessed from half a file.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use xtask_base::path::RepoPath;

/// The largest file that is read: 4 MB. What says what a project is, is far smaller.
const LARGEST: usize = 4_000_000;

/// Reads a file of the repository by its path; nothing where there is none.
pub type Read<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// A table of a TOML file.
pub(super) type Table<'t> = DeTable<'t>;

/// The files that git tracks.
pub(super) struct Tree<'a> {
    paths: BTreeSet<&'a str>,
    read: Read<'a>,
    /// The folder that counts as the root, with a slash behind it; empty for the root itself.
    root: String,
    notes: RefCell<Vec<String>>,
}

impl<'a> Tree<'a> {
    /// Names that are not UTF-8 are none of those that say anything.
    pub(super) fn new(paths: &'a [RepoPath], read: Read<'a>) -> Self {
        let texts = paths.iter().filter_map(|path| std::str::from_utf8(path.as_bytes()).ok());
        Tree { paths: texts.collect(), read, root: String::new(), notes: RefCell::default() }
    }

    /// What lies in a folder, as if that were the root.
    pub(super) fn of_folder(&self, folder: &str) -> Tree<'a> {
        let root = format!("{folder}/");
        let paths = self.below(&root).filter_map(|path| path.strip_prefix(&root[..])).collect();
        Tree { paths, read: self.read, root, notes: RefCell::default() }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Whether there is anything below a folder.
    pub(super) fn has_folder(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        self.below(&below).next().is_some()
    }

    /// The paths that begin so.
    pub(super) fn below(&self, start: &str) -> impl Iterator<Item = &'a str> {
        let paths = self
            .paths
            .range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        let start = start.to_owned();
        paths.copied().take_while(move |path| path.starts_with(&start))
    }

    /// The names of the files in the root.
    pub(super) fn in_root(&self) -> impl Iterator<Item = &'a str> {
        self.paths.iter().copied().filter(|path| !path.contains('/'))
    }

    /// All paths.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a str> {
        self.paths.iter().copied()
    }

    pub(super) fn note(&self, note: String) {
        self.notes.borrow_mut().push(note);
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        let mut notes = self.notes.take();
        notes.sort();
        notes.dedup();
        notes
    }

    /// The text of a file that is there.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        if !self.has(path) {
            return None;
        }
        let Some(bytes) = (self.read)(&format!("{}{path}", self.root)) else {
            self.note(format!("`{path}` cannot be read, and counts as absent"));
            return None;
        };
        if bytes.len() > LARGEST {
            self.note(format!("`{path}` is too large to be looked into, and counts as absent"));
            return None;
        }
        let text = String::from_utf8(bytes).ok();
        if text.is_none() {
            self.note(format!("`{path}` is not UTF-8, and counts as absent"));
        }
        text
    }

    /// What a function makes of a TOML file.
    pub(super) fn toml<T>(&self, path: &str, take: impl FnOnce(&Table<'_>) -> T) -> Option<T> {
        let text = self.text(path)?;
        match DeTable::parse(text.trim_start_matches('\u{feff}')) {
            Ok(table) => Some(take(table.get_ref())),
            Err(fault) => {
                let why = fault.message().lines().next().unwrap_or_default().to_owned();
                self.note(format!("`{path}` is not TOML ({why}), and counts as absent"));
                None
            }
        }
    }

    /// A JSON file that holds an object.
    pub(super) fn json(&self, path: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
        let text = self.text(path)?;
        match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(serde_json::Value::Object(object)) => Some(object),
            Ok(_) => {
                self.note(format!("`{path}` is not an object of JSON, and counts as absent"));
                None
            }
            Err(fault) => {
                self.note(format!("`{path}` is not JSON ({fault}), and counts as absent"));
                None
            }
        }
    }
}

/// A value below tables, by the names on the way.
pub(super) fn value<'t>(table: &'t Table<'t>, names: &[&str]) -> Option<&'t DeValue<'t>> {
    let (last, before) = names.split_last()?;
    let mut table = table;
    for name in before {
        table = entry(table, name)?.as_table()?;
    }
    entry(table, last)
}

/// A table below tables.
pub(super) fn below<'t>(table: &'t Table<'t>, names: &[&str]) -> Option<&'t Table<'t>> {
    value(table, names)?.as_table()
}

/// The texts of a list; what is no text in it is left out.
pub(super) fn texts<'t>(table: &'t Table<'t>, names: &[&str]) -> Vec<&'t str> {
    let list = value(table, names).and_then(DeValue::as_array);
    let items = list.into_iter().flat_map(|list| list.iter());
    items.filter_map(|item| item.get_ref().as_str()).collect()
}

/// The names of the entries of a table.
pub(super) fn names<'t>(table: &'t Table<'t>, path: &[&str]) -> Vec<&'t str> {
    let table = below(table, path);
    table
        .into_iter()
        .flat_map(|table| table.iter())
        .map(|(name, _)| name.get_ref().as_ref())
        .collect()
}

fn entry<'t>(table: &'t Table<'t>, name: &str) -> Option<&'t DeValue<'t>> {
    table
        .iter()
        .find(|(key, _)| key.get_ref().as_ref() == name)
        .map(|(_, value)| Spanned::get_ref(value))
}
