//! Reader of a TOML table, with one method per value type.
//!
//! A key that was never requested is unknown and is reported with
//! the nearest requested key. Reading never fails: a fault is recorded, the default is used, and
//! [`Faults::finish`] turns all faults into one error.
//!
//! ```text
//! include = "setup"  ->  read_texts("include"): None, and "`managed.include` must be a list of strings, not string"
//! ```

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::faults::Faults;
use xtask_base::date::Date;
use xtask_base::environment::parse_rfc3339;

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

    /// Returns the span of `key` and its value.
    fn find_pair(&self, key: &str) -> Option<(Range<usize>, &'t Spanned<DeValue<'t>>)> {
        let found = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
        found.map(|(name, value)| (name.span(), value))
    }

    fn find_value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known_keys.borrow_mut().push(key.to_owned());
        self.find_pair(key).map(|(_, value)| value)
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
        self.find_pair(key).map_or(self.span.clone(), |(_, value)| value.span())
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

    /// Reads a date without a time, e.g. `2026-12-30`.
    pub(super) fn read_date(&self, key: &str) -> Option<Date> {
        let value = self.find_value(key)?;
        let moment = value.get_ref().as_datetime();
        let day = moment.filter(|moment| moment.time.is_none()).and_then(|moment| moment.date);
        let read = day.and_then(|day| Date::new(day.year, day.month, day.day));
        if read.is_none() {
            self.add_type_fault(key, value, "a date such as 2026-12-30");
        }
        read
    }

    /// Reads a moment in UTC to whole seconds, e.g. `2026-11-30T09:00:00Z`, as seconds since the epoch.
    pub(super) fn read_moment(&self, key: &str) -> Option<i64> {
        let value = self.find_value(key)?;
        let moment = value.get_ref().as_datetime().map(ToString::to_string);
        let read = moment.and_then(|text| parse_rfc3339(&text));
        if read.is_none() {
            self.add_type_fault(key, value, "a time such as 2026-11-30T09:00:00Z");
        }
        read
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
        let is_text = self.find_pair(key).is_some_and(|(_, value)| value.get_ref().is_str());
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
        let find = |key: &str| self.find_pair(key).map(|(span, _)| span);
        find(key).or_else(|| find(otherwise)).unwrap_or_else(|| self.span.clone())
    }

    /// Reports a fault at a span.
    pub(super) fn add_fault_at(&self, span: Range<usize>, message: impl Into<String>) {
        self.faults.add_fault_at(span, message);
    }

    /// Returns the line of the key `key`, or the first line of the table.
    pub(super) fn key_line(&self, key: &str) -> usize {
        let at = self.find_pair(key).map_or(self.span.start, |(span, _)| span.start);
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
        if self.is_complete() && self.find_pair(key).is_none() {
            self.faults.add_fault_at(
                self.span.clone(),
                format!("`{}` is missing", self.qualified_key(key)),
            );
        }
    }

    pub(super) fn report_unknown(&self) {
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
