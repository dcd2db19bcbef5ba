//! Inserts lines into the text of a TOML file.
//!
//! The text is parsed only to find positions, and never formatted again: comments, order, blank lines and line
//! endings stay, byte for byte. For example, `insert_in_array` turns `members = ["a"]` into `members = ["a", "b"]`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The byte order mark, which some editors write at the start of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A text to insert at a byte offset.
pub(super) struct TextInsert {
    at: usize,
    text: String,
}

/// A parsed TOML file.
pub(super) struct TomlDocument<'a> {
    text: &'a str,
    pub(super) table: Spanned<DeTable<'a>>,
}

impl<'a> TomlDocument<'a> {
    /// Parses a text; the error is a message for users.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        match DeTable::parse(text) {
            Ok(table) => Ok(TomlDocument { text, table }),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start).min(text.len());
                let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                Err(format!("invalid TOML: line {line}: {}", error.message()))
            }
        }
    }

    /// Returns the text with the inserts applied.
    pub(super) fn with_inserts(&self, mut inserts: Vec<TextInsert>) -> String {
        // Inserts at the same offset keep their order.
        inserts.sort_by_key(|insert| insert.at);
        let mut whole = String::with_capacity(self.text.len());
        let mut done = 0;
        for TextInsert { at, text } in inserts {
            whole.push_str(&self.text[done..at]);
            whole.push_str(&text);
            done = at;
        }
        whole.push_str(&self.text[done..]);
        whole
    }

    /// Returns the insert of `lines` as a paragraph at the end.
    pub(super) fn append_paragraph(&self, lines: &[&str]) -> TextInsert {
        let end = self.line_ending();
        let mut text = String::new();
        if !self.text.trim_start_matches(BYTE_ORDER_MARK).is_empty() {
            text.push_str(if self.text.ends_with('\n') { "" } else { end });
            text.push_str(end);
        }
        for line in lines {
            text.push_str(line);
            text.push_str(end);
        }
        TextInsert { at: self.text.len(), text }
    }

    /// Returns the insert of `lines` as a paragraph before the line of the offset `at`.
    pub(super) fn paragraph_before(&self, at: usize, lines: &[&str]) -> TextInsert {
        let end = self.line_ending();
        let text = lines.iter().chain(&[""]).flat_map(|line| [*line, end]).collect();
        TextInsert { at: self.line_start(at), text }
    }

    /// Returns the inserts of `entries` (`key = value`) into a top-level table, in whatever syntax it is written.
    /// Returns `None` if `name` is not a table.
    pub(super) fn insert_in_table(&self, name: &str, entries: &[&str]) -> Option<Vec<TextInsert>> {
        let header = format!("[{name}]");
        let of_its_own = || {
            let lines: Vec<&str> = [header.as_str()].iter().chain(entries).copied().collect();
            vec![self.append_paragraph(&lines)]
        };
        let Some(value) = self.table.get_ref().get(name) else { return Some(of_its_own()) };
        let DeValue::Table(table) = value.get_ref() else { return None };
        let span = value.span();
        let line = self.line_start(span.start);
        let end = self.line_ending();
        let insert = match self.text.as_bytes().get(span.start)? {
            b'[' => {
                let text = entries.iter().flat_map(|entry| [end, *entry]).collect();
                TextInsert { at: self.end_of_line(span.end), text }
            }
            b'{' => match table.values().map(value_end).max() {
                Some(last) => {
                    TextInsert { at: last, text: entries.iter().flat_map(|e| [", ", *e]).collect() }
                }
                None => TextInsert { at: span.start + 1, text: entries.join(", ") },
            },
            // Only its subtables have a header, e.g. `[workspace.package]`.
            _ if self.text[line..].trim_start().starts_with('[') => return Some(of_its_own()),
            // A dotted key, e.g. `workspace.resolver = "2"`.
            _ => {
                let text = entries.iter().flat_map(|entry| [name, ".", *entry, end]).collect();
                TextInsert { at: line, text }
            }
        };
        Some(vec![insert])
    }

    /// Returns the inserts of a value at the end of an array, on a line of its own if the last value is on one.
    pub(super) fn insert_in_array(
        &self,
        array: &Spanned<DeValue<'_>>,
        value: &str,
    ) -> Vec<TextInsert> {
        let last = array.get_ref().as_array().and_then(|array| array.iter().last());
        let Some(last) = last.map(Spanned::span) else {
            return vec![TextInsert { at: array.span().start + 1, text: value.to_owned() }];
        };
        let indent = &self.text[self.line_start(last.start)..last.start];
        if !indent.trim().is_empty() {
            return vec![TextInsert { at: last.end, text: format!(", {value}") }];
        }
        let comma = self.find_comma_after(last.end);
        let after = comma.map_or(last.end, |comma| comma + 1);
        // A comment behind the last value stays there.
        let line = self.end_of_line(after);
        let rest = self.text[after..line].trim();
        let at = if rest.is_empty() || rest.starts_with('#') { line } else { after };
        let own_line = format!("{}{indent}{value}", self.line_ending());
        match comma {
            Some(_) => vec![TextInsert { at, text: own_line + "," }],
            None => {
                vec![
                    TextInsert { at: last.end, text: ",".to_owned() },
                    TextInsert { at, text: own_line },
                ]
            }
        }
    }

    /// Returns the offset of the comma after a value, past white space and comments.
    fn find_comma_after(&self, value: usize) -> Option<usize> {
        let mut at = value;
        loop {
            let rest = &self.text[at..];
            at += rest.len() - rest.trim_start().len();
            match self.text.as_bytes().get(at)? {
                b'#' => at = self.end_of_line(at),
                b',' => return Some(at),
                _ => return None,
            }
        }
    }

    /// Returns the offset at which the line of `at` begins.
    pub(super) fn line_start(&self, at: usize) -> usize {
        match self.text[..at].rfind('\n') {
            Some(before) => before + 1,
            None if self.text.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK.len_utf8().min(at),
            None => 0,
        }
    }

    /// Returns the offset at which the line of `at` ends, before its line ending.
    fn end_of_line(&self, at: usize) -> usize {
        let line = self.text[at..].split('\n').next().unwrap_or_default();
        at + line.strip_suffix('\r').unwrap_or(line).len()
    }

    /// Returns the line ending of this text.
    fn line_ending(&self) -> &'static str {
        let first = self.text.split_inclusive('\n').next().unwrap_or_default();
        if first.ends_with("\r\n") { "\r\n" } else { "\n" }
    }
}

/// Returns the offset at which a value ends; a table of dotted keys ends with the last of its values.
fn value_end(value: &Spanned<DeValue<'_>>) -> usize {
    let inner = match value.get_ref() {
        DeValue::Table(table) => table.values().map(value_end).max(),
        _ => None,
    };
    value.span().end.max(inner.unwrap_or(0))
}

/// Quotes a text as a TOML string.
#[must_use]
pub fn quote_toml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
