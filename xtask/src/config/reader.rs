//! Reads a TOML file key by key and collects every fault on the way.
//!
//! A `Reader` is asked for the keys that exist; what it was not asked for is unknown, and is
//! reported with the nearest name that it was asked for. Asking never fails: a fault is noted, the
//! default stands in, and `Faults::finish` turns all of them into one error.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::base::error::{Error, Result};

/// The faults of one file.
pub(super) struct Faults<'a> {
    source: &'a str,
    text: &'a str,
    found: RefCell<Vec<(usize, String)>>,
}

impl<'a> Faults<'a> {
    /// Parses `text`, which came from `source` (`setup/sync.toml at orchestration-tools`), lets
    /// `read` take it apart, and answers with what it read if there was no fault at all.
    pub(super) fn collect<T>(
        source: &'a str,
        text: &'a str,
        read: impl FnOnce(&Reader<'_>) -> T,
    ) -> Result<T> {
        let faults = Faults { source, text, found: RefCell::default() };
        let (table, errors) = DeTable::parse_recoverable(text);
        let syntax = errors.len();
        for error in errors {
            faults.note(error.span().unwrap_or(0..0), error.message());
        }
        let value = {
            let reader = Reader::new(table.get_ref(), table.span(), String::new(), &faults);
            let value = read(&reader);
            reader.report_unknown();
            value
        };
        if syntax > 0 {
            // Of a file that cannot be parsed, what could be would only lead astray.
            faults.found.borrow_mut().truncate(syntax);
        }
        faults.finish(value)
    }

    fn note(&self, span: Range<usize>, message: impl Into<String>) {
        self.found.borrow_mut().push((span.start, message.into()));
    }

    fn finish<T>(self, value: T) -> Result<T> {
        let mut found = self.found.into_inner();
        if found.is_empty() {
            return Ok(value);
        }
        found.sort();
        found.dedup();
        let count = found.len();
        let mut error = Error::usage(format!(
            "{count} fault{} in {}",
            if count == 1 { "" } else { "s" },
            self.source
        ));
        let name = self.source.split_whitespace().next().unwrap_or(self.source);
        for (at, message) in found {
            let line = line_at(self.text, at);
            error = error.detail(format!("{name}:{line}: {message}"));
        }
        Err(error)
    }
}

/// The line at which a byte of a text lies, from 1.
fn line_at(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A table that is being taken apart.
pub(super) struct Reader<'t> {
    table: &'t DeTable<'t>,
    span: Range<usize>,
    path: String,
    faults: &'t Faults<'t>,
    asked: RefCell<Vec<String>>,
}

impl<'t> Reader<'t> {
    fn new(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        path: String,
        faults: &'t Faults<'t>,
    ) -> Self {
        Reader { table, span, path, faults, asked: RefCell::default() }
    }

    fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.borrow_mut().push(key.to_owned());
        self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a fault at a value of this table.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) {
        let span = self
            .table
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map_or(self.span.clone(), |(_, value)| value.span());
        self.faults.note(span, message);
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.faults
            .note(value.span(), format!("`{}` must be {wanted}, not {found}", self.name(key)));
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        match value.get_ref().as_str() {
            Some("") => {
                self.faults.note(value.span(), format!("`{}` must not be empty", self.name(key)));
                None
            }
            Some(text) => Some(text.to_owned()),
            None => {
                self.wrong_type(key, value, "a string");
                None
            }
        }
    }

    /// A list of texts that are not empty.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of strings");
            return None;
        };
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) if !text.is_empty() => texts.push(text.to_owned()),
                Some(_) => self
                    .faults
                    .note(item.span(), format!("`{}` holds an empty string", self.name(key))),
                None => self.wrong_type(key, item, "a list of strings"),
            }
        }
        Some(texts)
    }

    /// One of a few words; `words` pairs each with what it stands for.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let near = nearest(&text, names.iter().copied());
            self.fault(
                key,
                format!(
                    "`{}` is `{text}`; it must be one of {}{near}",
                    self.name(key),
                    names.join(", ")
                ),
            );
        }
        found
    }

    /// A table below this one, read by `read` if it is there.
    pub(super) fn table<T>(&self, key: &str, read: impl FnOnce(&Reader<'_>) -> T) -> Option<T> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table");
            return None;
        };
        let below = Reader::new(table, value.span(), self.name(key), self.faults);
        let read = read(&below);
        below.report_unknown();
        Some(read)
    }

    /// A list of tables (`[[key]]`), each read by `read`.
    pub(super) fn tables<T>(&self, key: &str, mut read: impl FnMut(&Reader<'_>) -> T) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("a list of tables, written [[{key}]]"));
            return Vec::new();
        };
        let mut all = Vec::new();
        for item in array.iter() {
            let Some(table) = item.get_ref().as_table() else {
                self.wrong_type(key, item, "a table");
                continue;
            };
            let below = Reader::new(table, item.span(), self.name(key), self.faults);
            all.push(read(&below));
            below.report_unknown();
        }
        all
    }

    /// A yes or no.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        found
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, key: &str, within: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        self.whole_number(key, value, &within)
    }

    /// A list of whole numbers within bounds; a single one stands for a list of one.
    pub(super) fn numbers(&self, key: &str, within: RangeInclusive<u64>) -> Option<Vec<u64>> {
        let value = self.value(key)?;
        Some(match value.get_ref().as_array() {
            Some(array) => {
                array.iter().filter_map(|item| self.whole_number(key, item, &within)).collect()
            }
            None => self.whole_number(key, value, &within).into_iter().collect(),
        })
    }

    fn whole_number(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        within: &RangeInclusive<u64>,
    ) -> Option<u64> {
        let Some(number) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let read = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let read = read.and_then(|number| u64::try_from(number).ok());
        let read = read.filter(|number| within.contains(number));
        if read.is_none() {
            let (least, most) = (within.start(), within.end());
            let name = self.name(key);
            self.faults.note(value.span(), format!("`{name}` must be from {least} to {most}"));
        }
        read
    }

    /// A text that `read` can make something of; otherwise `wanted` says what it should be.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(key)?;
        let found = read(&text);
        if found.is_none() {
            self.fault(key, format!("`{}` is `{text}`; it must be {wanted}", self.name(key)));
        }
        found
    }

    /// A list of texts; a single text stands for a list of one.
    pub(super) fn text_or_texts(&self, key: &str) -> Option<Vec<String>> {
        let is_text = self.table.iter().any(|(name, value)| {
            name.get_ref().as_ref() == key && value.get_ref().as_str().is_some()
        });
        if is_text { self.text(key).map(|text| vec![text]) } else { self.texts(key) }
    }

    /// The tables below a table, in the order of the file, each by its name.
    pub(super) fn named_tables<T>(
        &self,
        key: &str,
        mut read: impl FnMut(&str, &Reader<'_>) -> T,
    ) -> Option<Vec<T>> {
        self.table(key, |below| {
            let mut names: Vec<(usize, String)> = below
                .table
                .iter()
                .map(|(name, _)| (name.span().start, name.get_ref().to_string()))
                .collect();
            names.sort();
            names.iter().filter_map(|(_, name)| below.table(name, |one| read(name, one))).collect()
        })
    }

    /// Where a key of this table stands, or else another one, or the table.
    pub(super) fn span_of(&self, key: &str, otherwise: &str) -> Range<usize> {
        let find = |key: &str| {
            let found = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
            found.map(|(name, _)| name.span())
        };
        find(key).or_else(|| find(otherwise)).unwrap_or_else(|| self.span.clone())
    }

    /// Notes a fault at a place in the file.
    pub(super) fn fault_at(&self, span: Range<usize>, message: impl Into<String>) {
        self.faults.note(span, message);
    }

    /// The line of the file on which a key of this table stands, or the table begins.
    pub(super) fn line(&self, key: &str) -> usize {
        let found = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
        let at = found.map_or(self.span.start, |(name, _)| name.span().start);
        line_at(self.faults.text, at)
    }

    /// Whether a key is there, whatever it holds. It counts as one that was asked for.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Notes that a key that must be there is not.
    pub(super) fn required(&self, key: &str) {
        if !self.table.iter().any(|(name, _)| name.get_ref().as_ref() == key) {
            self.faults.note(self.span.clone(), format!("`{}` is missing", self.name(key)));
        }
    }

    fn report_unknown(&self) {
        let asked = self.asked.borrow();
        for (name, _) in self.table.iter() {
            let key = name.get_ref().as_ref();
            if !asked.iter().any(|known| known == key) {
                let near = nearest(key, asked.iter().map(String::as_str));
                self.faults.note(name.span(), format!("unknown key `{}`{near}", self.name(key)));
            }
        }
    }
}

/// `; did you mean `x`?` for the known name that is nearest, if one is near at all.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|one, two| one.0.total_cmp(&two.0))
        .map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"))
}
