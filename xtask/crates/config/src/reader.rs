//! TOML reader that collects all faults of a file.
//!
//! [`TableReader`] has one method per value type. A key that was never requested is unknown and is reported with
//! the nearest requested key. Reading never fails: a fault is recorded, the default is used, and
//! [`Faults::finish`] turns all faults into one error.
//!
//! A table may have been merged from several files (`layer_chain.rs`). Their texts are then concatenated, and an
//! offset maps to a file and a line. For a file that cannot be parsed only the syntax errors are reported, because
//! faults found in the rest would be misleading.
//!
//! Every file may set `format` (default 1). For a file of a later format only that is reported, because its keys may
//! mean anything.
//!
//! ```text
//! 2 faults in setup/sync.toml at orchestration-tools
//! setup/sync.toml:4: unknown key `hooks.mod`; did you mean `mode`?
//! setup/sync.toml:7: `managed.include` must be a list of strings, not string
//! ```

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use xtask_base::error::{Error, Result};
use xtask_base::record::upgrade_hint;

/// The latest supported file format.
const FORMAT: u64 = 1;

/// The key that holds the format.
const FORMAT_KEY: &str = "format";

/// The text of a file, and its offset in the concatenated texts.
struct SourceText<'a> {
    name: &'a str,
    text: &'a str,
    start: usize,
    /// Whether the text could not be parsed or has a later format.
    is_broken: bool,
}

/// The faults of one file, or of several merged files.
pub(super) struct Faults<'a> {
    /// The origin, for the headline, e.g. `setup/sync.toml at orchestration-tools`.
    title: &'a str,
    sources: Vec<SourceText<'a>>,
    /// Whether a file that should have been merged is missing.
    is_incomplete: bool,
    /// Whether a file has a later format.
    is_newer: bool,
    found: RefCell<Vec<(usize, String)>>,
}

impl<'a> Faults<'a> {
    /// Parses `text` from `source` (e.g. `setup/sync.toml at orchestration-tools`) and passes it to `read`. Returns the
    /// result of `read`, or one usage error with all faults.
    pub(super) fn read_toml<T>(
        source: &'a str,
        text: &'a str,
        read: impl FnOnce(&TableReader<'_>) -> T,
    ) -> Result<T> {
        let mut faults = Faults::new(source);
        let name = source.split_whitespace().next().unwrap_or(source);
        let (table, _) = faults.parse_source(name, text);
        let value = faults.read_root(table.get_ref(), table.span(), read);
        faults.finish(value)
    }

    /// Creates an empty collection.
    pub(super) fn new(title: &'a str) -> Self {
        let found = RefCell::default();
        Faults { title, sources: Vec::new(), is_incomplete: false, is_newer: false, found }
    }

    /// Parses another file. Returns its table and its offset in the concatenated texts.
    pub(super) fn parse_source(
        &mut self,
        name: &'a str,
        text: &'a str,
    ) -> (Spanned<DeTable<'a>>, usize) {
        // The end of a file still belongs to that file.
        let start = self.sources.last().map_or(0, |last| last.start + last.text.len() + 1);
        let (mut table, errors) = DeTable::parse_recoverable(text);
        // `format` belongs to this file alone and is not merged.
        let format = table.get_mut().remove(FORMAT_KEY);
        let newer = format.as_ref().and_then(describe_newer_format);
        let found = self.found.get_mut();
        if let Some(fault) = newer {
            self.is_newer = true;
            let at = format.map_or(0, |format| format.span().start);
            found.push((start + at, fault));
            self.sources.push(SourceText { name, text, start, is_broken: true });
            return (table, start);
        }
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            found.push((start + at, error.message().to_owned()));
        }
        self.sources.push(SourceText { name, text, start, is_broken: !errors.is_empty() });
        if let Some(format) =
            format.filter(|format| to_whole_number(format).is_none_or(|at| at < 1))
        {
            let span = format.span();
            self.add_fault_at(
                start + span.start..start + span.end,
                format!("`{FORMAT_KEY}` must be a whole number of at least 1"),
            );
        }
        (table, start)
    }

    /// Passes the root table to `read` and reports its unknown keys.
    pub(super) fn read_root<T>(
        &self,
        table: &DeTable<'_>,
        span: Range<usize>,
        read: impl FnOnce(&TableReader<'_>) -> T,
    ) -> T {
        let reader = TableReader::new(table, span, String::new(), self);
        let value = read(&reader);
        reader.report_unknown();
        value
    }

    /// Records that a file that should have been merged is missing.
    pub(super) fn mark_incomplete(&mut self) {
        self.is_incomplete = true;
    }

    /// Returns whether all files could be read. Missing keys are reported only then.
    fn is_complete(&self) -> bool {
        !self.is_incomplete && !self.sources.iter().any(|source| source.is_broken)
    }

    fn source_at(&self, at: usize) -> Option<&SourceText<'a>> {
        self.sources.iter().rev().find(|source| source.start <= at)
    }

    /// Returns the file and line (from 1) of an offset.
    pub(super) fn locate(&self, at: usize) -> (&str, usize) {
        let Some(source) = self.source_at(at) else { return (self.title, 1) };
        let end = (at - source.start).min(source.text.len());
        let before = &source.text.as_bytes()[..end];
        (source.name, before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }

    pub(super) fn add_fault_at(&self, span: Range<usize>, message: impl Into<String>) {
        if !self.source_at(span.start).is_some_and(|source| source.is_broken) {
            self.found.borrow_mut().push((span.start, message.into()));
        }
    }

    /// Returns `value`, or one usage error with all faults.
    pub(super) fn finish<T>(self, value: T) -> Result<T> {
        let mut found = self.found.take();
        if found.is_empty() {
            return Ok(value);
        }
        found.sort();
        found.dedup();
        let count = found.len();
        let mut error = Error::usage(format!(
            "{count} fault{} in {}",
            if count == 1 { "" } else { "s" },
            self.title
        ));
        for (at, message) in found {
            let (name, line) = self.locate(at);
            error = error.with_detail(format!("{name}:{line}: {message}"));
        }
        Err(if self.is_newer { error.with_hint(upgrade_hint("CANONICAL")) } else { error })
    }
}

/// Returns the fault message if `format` is later than [`FORMAT`].
fn describe_newer_format(format: &Spanned<DeValue<'_>>) -> Option<String> {
    let later = to_whole_number(format).filter(|number| *number > FORMAT)?;
    Some(format!(
        "format {later} is newer than this xtask supports (up to {FORMAT}): a newer xtask is needed"
    ))
}

/// Returns the value as a non-negative integer.
fn to_whole_number(value: &Spanned<DeValue<'_>>) -> Option<u64> {
    let number = value.get_ref().as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A reader for one table; see the module documentation.
pub(super) struct TableReader<'t> {
    table: &'t DeTable<'t>,
    span: Range<usize>,
    path: String,
    faults: &'t Faults<'t>,
    known_keys: RefCell<Vec<String>>,
}

impl<'t> TableReader<'t> {
    pub(super) fn new(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        path: String,
        faults: &'t Faults<'t>,
    ) -> Self {
        TableReader { table, span, path, faults, known_keys: RefCell::default() }
    }

    fn find_value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known_keys.borrow_mut().push(key.to_owned());
        self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    fn qualified_key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reports a fault at the value of `key`.
    pub(super) fn add_fault(&self, key: &str, message: impl Into<String>) {
        self.faults.add_fault_at(self.value_span(key), message);
    }

    /// Returns the span of the value of `key`, or of the table if the key is missing.
    pub(super) fn value_span(&self, key: &str) -> Range<usize> {
        let found = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
        found.map_or(self.span.clone(), |(_, value)| value.span())
    }

    /// Returns the span of this table.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns the file and line (from 1) of a span.
    pub(super) fn locate(&self, span: &Range<usize>) -> (&str, usize) {
        self.faults.locate(span.start)
    }

    /// Returns whether all files could be read. Missing keys are reported only then.
    pub(super) fn is_complete(&self) -> bool {
        self.faults.is_complete()
    }

    /// Returns the keys of this table in file order.
    pub(super) fn key_names(&self) -> Vec<String> {
        let mut names: Vec<(usize, String)> = self
            .table
            .iter()
            .map(|(name, _)| (name.span().start, name.get_ref().to_string()))
            .collect();
        names.sort();
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// Returns the TOML type of a value: `string`, `integer`, `boolean`, `array`, `table`, ….
    pub(super) fn type_of(&self, key: &str) -> Option<&'static str> {
        self.find_value(key).map(|value| value.get_ref().type_str())
    }

    fn add_type_fault(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.faults.add_fault_at(
            value.span(),
            format!("`{}` must be {wanted}, not {found}", self.qualified_key(key)),
        );
    }

    /// Reads a non-empty string.
    pub(super) fn read_text(&self, key: &str) -> Option<String> {
        let value = self.find_value(key)?;
        match value.get_ref().as_str() {
            Some("") => {
                self.faults.add_fault_at(
                    value.span(),
                    format!("`{}` must not be empty", self.qualified_key(key)),
                );
                None
            }
            Some(text) => Some(text.to_owned()),
            None => {
                self.add_type_fault(key, value, "a string");
                None
            }
        }
    }

    /// Reads a string, which may be empty.
    pub(super) fn read_any_text(&self, key: &str) -> Option<String> {
        let value = self.find_value(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.add_type_fault(key, value, "a string");
        }
        text.map(str::to_owned)
    }

    /// Reads a list of non-empty strings.
    pub(super) fn read_texts(&self, key: &str) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for (span, text) in self.read_spanned_texts(key)? {
            if text.is_empty() {
                self.faults.add_fault_at(
                    span,
                    format!("`{}` holds an empty string", self.qualified_key(key)),
                );
            } else {
                texts.push(text.to_owned());
            }
        }
        Some(texts)
    }

    /// Reads a list of strings, which may be empty.
    pub(super) fn read_any_texts(&self, key: &str) -> Option<Vec<String>> {
        Some(self.read_spanned_texts(key)?.into_iter().map(|(_, text)| text.to_owned()).collect())
    }

    /// Reads a list of strings with their spans.
    fn read_spanned_texts(&self, key: &str) -> Option<Vec<(Range<usize>, &'t str)>> {
        let value = self.find_value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.add_type_fault(key, value, "a list of strings");
            return None;
        };
        let mut items = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => items.push((item.span(), text)),
                None => self.add_type_fault(key, item, "a list of strings"),
            }
        }
        Some(items)
    }

    /// Reads one of a few words. `words` maps each word to its value.
    pub(super) fn read_choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.read_text(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let near = suggest_nearest(&text, names.iter().copied());
            self.add_fault(
                key,
                format!(
                    "`{}` is `{text}`; it must be one of {}{near}",
                    self.qualified_key(key),
                    names.join(", ")
                ),
            );
        }
        found
    }

    /// Reads the subtable `key` with `read`, if present.
    pub(super) fn read_table<T>(
        &self,
        key: &str,
        read: impl FnOnce(&TableReader<'_>) -> T,
    ) -> Option<T> {
        let value = self.find_value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.add_type_fault(key, value, "a table");
            return None;
        };
        let below = TableReader::new(table, value.span(), self.qualified_key(key), self.faults);
        let read = read(&below);
        below.report_unknown();
        Some(read)
    }

    /// Reads a list of tables (`[[key]]`), each with `read`.
    pub(super) fn read_tables<T>(
        &self,
        key: &str,
        mut read: impl FnMut(&TableReader<'_>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.find_value(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.add_type_fault(key, value, &format!("a list of tables, written [[{key}]]"));
            return Vec::new();
        };
        let mut all = Vec::new();
        for item in array.iter() {
            let Some(table) = item.get_ref().as_table() else {
                self.add_type_fault(key, item, "a table");
                continue;
            };
            let below = TableReader::new(table, item.span(), self.qualified_key(key), self.faults);
            all.push(read(&below));
            below.report_unknown();
        }
        all
    }

    /// Reads a boolean.
    pub(super) fn read_bool(&self, key: &str) -> Option<bool> {
        let value = self.find_value(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.add_type_fault(key, value, "true or false");
        }
        found
    }

    /// Reads an integer in the range `within`.
    pub(super) fn read_number(&self, key: &str, within: RangeInclusive<u64>) -> Option<u64> {
        let value = self.find_value(key)?;
        self.check_whole_number(key, value, &within)
    }

    /// Reads a list of integers in the range `within`; a single integer is a list of one.
    pub(super) fn read_numbers(&self, key: &str, within: RangeInclusive<u64>) -> Option<Vec<u64>> {
        let value = self.find_value(key)?;
        Some(match value.get_ref().as_array() {
            Some(array) => array
                .iter()
                .filter_map(|item| self.check_whole_number(key, item, &within))
                .collect(),
            None => self.check_whole_number(key, value, &within).into_iter().collect(),
        })
    }

    fn check_whole_number(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        within: &RangeInclusive<u64>,
    ) -> Option<u64> {
        let Some(number) = value.get_ref().as_integer() else {
            self.add_type_fault(key, value, "a whole number");
            return None;
        };
        let read = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let read = read.and_then(|number| u64::try_from(number).ok());
        let read = read.filter(|number| within.contains(number));
        if read.is_none() {
            let (least, most) = (within.start(), within.end());
            let name = self.qualified_key(key);
            self.faults
                .add_fault_at(value.span(), format!("`{name}` must be from {least} to {most}"));
        }
        read
    }

    /// Reads a string that `read` accepts. `wanted` completes the fault message: "it must be …".
    pub(super) fn read_parsed<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.read_text(key)?;
        let found = read(&text);
        if found.is_none() {
            self.add_fault(
                key,
                format!("`{}` is `{text}`; it must be {wanted}", self.qualified_key(key)),
            );
        }
        found
    }

    /// Reads a list of strings; a single string is a list of one.
    pub(super) fn read_text_or_list(&self, key: &str) -> Option<Vec<String>> {
        let is_text = self.table.iter().any(|(name, value)| {
            name.get_ref().as_ref() == key && value.get_ref().as_str().is_some()
        });
        if is_text { self.read_text(key).map(|text| vec![text]) } else { self.read_texts(key) }
    }

    /// Reads the subtables of the table `key` in file order, each with its name.
    pub(super) fn read_named_tables<T>(
        &self,
        key: &str,
        mut read: impl FnMut(&str, &TableReader<'_>) -> T,
    ) -> Option<Vec<T>> {
        self.read_table(key, |below| {
            let names = below.key_names();
            names.iter().filter_map(|name| below.read_table(name, |one| read(name, one))).collect()
        })
    }

    /// Returns the span of the key `key`, or else of the key `otherwise`, or else of the table.
    pub(super) fn key_span(&self, key: &str, otherwise: &str) -> Range<usize> {
        let find = |key: &str| {
            let found = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
            found.map(|(name, _)| name.span())
        };
        find(key).or_else(|| find(otherwise)).unwrap_or_else(|| self.span.clone())
    }

    /// Reports a fault at a span.
    pub(super) fn add_fault_at(&self, span: Range<usize>, message: impl Into<String>) {
        self.faults.add_fault_at(span, message);
    }

    /// Returns the line of the key `key`, or the first line of the table.
    pub(super) fn key_line(&self, key: &str) -> usize {
        let found = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
        let at = found.map_or(self.span.start, |(name, _)| name.span().start);
        self.faults.locate(at).1
    }

    /// Reads a table as JSON.
    pub(super) fn read_json(&self, key: &str) -> Option<serde_json::Value> {
        let value = self.find_value(key)?;
        if value.get_ref().as_table().is_none() {
            self.add_type_fault(key, value, "a table");
            return None;
        }
        let json = to_json(value.get_ref());
        if json.is_none() {
            let name = self.qualified_key(key);
            self.faults.add_fault_at(
                value.span(),
                format!("`{name}` contains a number that JSON does not support"),
            );
        }
        json
    }

    /// Returns whether `key` is present with any value. The key then counts as known.
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.find_value(key).is_some()
    }

    /// Reports a fault if `key` is missing.
    pub(super) fn require_key(&self, key: &str) {
        if self.is_complete() && !self.table.iter().any(|(name, _)| name.get_ref().as_ref() == key)
        {
            self.faults.add_fault_at(
                self.span.clone(),
                format!("`{}` is missing", self.qualified_key(key)),
            );
        }
    }

    fn report_unknown(&self) {
        let asked = self.known_keys.borrow();
        for (name, _) in self.table.iter() {
            let key = name.get_ref().as_ref();
            if !asked.iter().any(|known| known == key) {
                let near = suggest_nearest(key, asked.iter().map(String::as_str));
                self.faults.add_fault_at(
                    name.span(),
                    format!("unknown key `{}`{near}", self.qualified_key(key)),
                );
            }
        }
    }
}

/// Converts a value to JSON. A date-time becomes a string. Returns `None` for numbers that JSON lacks, e.g. `inf`.
fn to_json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            Value::from(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => {
            Value::Number(serde_json::Number::from_f64(number.as_str().parse().ok()?)?)
        }
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| to_json(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let pairs = table
                .iter()
                .map(|(name, value)| Some((name.get_ref().to_string(), to_json(value.get_ref())?)));
            Value::Object(pairs.collect::<Option<_>>()?)
        }
    })
}

/// Returns `; did you mean `x`?` for the most similar known name, or an empty string if none is similar enough.
pub fn suggest_nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|one, two| one.0.total_cmp(&two.0))
        .map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"))
}
