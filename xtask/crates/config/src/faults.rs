//! The faults of a configuration, all of them with file and line in one error.
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
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::TableReader;
use xtask_base::error::{Error, Result};
use xtask_base::record::upgrade_hint;
use xtask_base::words::pluralize;

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
    pub(super) fn is_complete(&self) -> bool {
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
        let count = pluralize(found.len(), "fault");
        let mut error = Error::usage(format!("{count} in {}", self.title));
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
