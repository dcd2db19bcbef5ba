//! Parses the output of a failed check into findings: a file, a line, and a message *(pure)*.
//!
//! ```text
//! src/app.rs:12:5: error: mismatched types
//!   -> FileFinding { path: "src/app.rs", line: 12, column: 5, level: Error, message: "mismatched types" }
//! ```
//!
//! A line is a finding only if it names an existing file (`PathContext::is_file`), so a time, an address or a quoted
//! line of code is none. Text in no known format is skipped here and still is in the output itself. Every input is
//! accepted, and the number (`MAX_FINDINGS`) and length (`MAX_MESSAGE_CHARS`) of findings are limited.
//!
//! The formats, all after removing terminal escapes:
//!
//! - `PATH:LINE[:COLUMN]: MESSAGE`: compilers, ruff, mypy, shellcheck, go, eslint's `unix`, pytest
//! - `PATH(LINE,COLUMN): MESSAGE`: tsc
//! - `--> PATH:LINE:COLUMN` below its message: rustc, clippy, ruff, ty
//! - `LINE:COLUMN LEVEL MESSAGE` below its path: eslint's `stylish`
//! - `thread 'NAME' panicked at PATH:LINE:COLUMN:` above its message: cargo test
//! - `Diff in PATH:LINE:`: cargo fmt; `Would reformat: PATH`: ruff, black; `[warn] PATH`: prettier

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ValidateReport;
use super::sanitize::{sanitize_text, to_one_line, truncate_chars};
use crate::outcome::CheckOutcome;

/// How many findings of one check are kept; code scanners show fewer.
pub const MAX_FINDINGS: usize = 1_000;

/// The longest message, in characters.
pub const MAX_MESSAGE_CHARS: usize = 2_000;

/// How many lines may be between the first line of a message and the `-->` below it.
const MAX_MESSAGE_DISTANCE: usize = 10;

/// How many lines of a panic message are kept.
const MAX_PANIC_LINES: usize = 20;

/// How many positions in a line are tried as the end of a path.
const MAX_LOCATION_CANDIDATES: usize = 8;

/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 1_024;

/// The largest line or column number; readers of the reports store them in 32 bits.
const MAX_NUMBER: u64 = i32::MAX as u64;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingLevel {
    /// Must be fixed; also used if the output names no severity.
    Error,
    /// Should be checked.
    Warning,
    /// Explains another finding.
    Note,
}

impl FindingLevel {
    /// Returns the name, which is the same in JSON and in SARIF.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FindingLevel::Error => "error",
            FindingLevel::Warning => "warning",
            FindingLevel::Note => "note",
        }
    }
}

/// A problem at a location.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FileFinding {
    /// The file, as a path from the root of the worktree.
    pub path: String,
    /// The line, from 1, or `None` if the finding is about the whole file.
    pub line: Option<u64>,
    /// The column, from 1, as the program counts it.
    pub column: Option<u64>,
    pub level: FindingLevel,
    pub message: String,
}

/// The findings of all failed checks, by the name of the check.
pub type FindingsByCheck = BTreeMap<String, Vec<FileFinding>>;

/// The folder in which a check ran, to resolve the paths in its output.
pub struct PathContext<'a> {
    /// The root of the worktree, absolute and without symlinks.
    pub root: &'a str,
    /// The working folder of the command, from the root; empty for the root itself.
    pub folder: &'a str,
    /// Returns whether a path from the root is a file.
    pub is_file: &'a dyn Fn(&str) -> bool,
}

/// Returns the findings of every failed check of a report. `folder` returns the working folder of a check by its
/// name, `is_file` whether there is such a file, both as paths from the root.
#[must_use]
pub fn collect_findings(
    report: &ValidateReport,
    folder: &dyn Fn(&str) -> String,
    is_file: &dyn Fn(&str) -> bool,
) -> FindingsByCheck {
    let failed = report.checks.iter().filter(|check| check.outcome == CheckOutcome::Failed);
    failed
        .map(|check| {
            let folder = folder(&check.name);
            let place = PathContext { root: &report.worktree, folder: &folder, is_file };
            (check.name.clone(), parse_findings(&check.output, &place))
        })
        .collect()
}

/// Returns the findings in the output of a check, in order and without duplicates.
#[must_use]
pub fn parse_findings(output: &str, place: &PathContext<'_>) -> Vec<FileFinding> {
    let text = sanitize_text(output);
    let lines: Vec<&str> = text.lines().collect();
    let mut reader = OutputParser {
        path_context: place,
        resolved_paths: BTreeMap::new(),
        path_above: None,
        pytest_message: None,
    };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for at in 0..lines.len() {
        let Some(mut finding) = reader.parse_line(&lines, at) else { continue };
        finding.message = truncate_chars(finding.message.trim(), MAX_MESSAGE_CHARS);
        if seen.insert(finding.clone()) {
            found.push(finding);
        }
        if found.len() == MAX_FINDINGS {
            break;
        }
    }
    found
}

/// The state of the parser between lines.
struct OutputParser<'a> {
    path_context: &'a PathContext<'a>,
    /// The resolved paths by the path in the output; `None` for one that is no file.
    resolved_paths: BTreeMap<String, Option<String>>,
    /// The path on a line of its own above indented findings (eslint's `stylish`).
    path_above: Option<String>,
    /// The message of pytest whose location follows.
    pytest_message: Option<String>,
}

impl OutputParser<'_> {
    fn parse_line(&mut self, lines: &[&str], at: usize) -> Option<FileFinding> {
        let line = lines[at];
        let text = line.trim();
        let is_indented = line.starts_with([' ', '\t']);
        if let Some(place) = text.strip_prefix("--> ") {
            return self.parse_location_below(&lines[..at], place);
        }
        if let Some(place) = text.strip_prefix("Diff in ") {
            let place = place.replacen(" at line ", ":", 1);
            return self.parse_bare_location(
                &place,
                FindingLevel::Error,
                "the formatting differs".to_owned(),
            );
        }
        if let Some((_, place)) = line.split_once("' panicked at ").or_else(|| split_panic(line)) {
            return self.parse_bare_location(
                place,
                FindingLevel::Error,
                parse_panic_message(&lines[at + 1..]),
            );
        }
        if line.starts_with("____") {
            self.pytest_message = None;
        }
        if let Some(said) = line.strip_prefix("E  ").filter(|_| self.pytest_message.is_none()) {
            self.pytest_message = Some(said.trim().to_owned());
            return None;
        }
        if is_indented && let Some((spot, level, message)) = parse_stylish(text) {
            let path = self.path_above.clone()?;
            return Some(spot.to_finding(path, level, to_one_line(message)));
        }
        if !is_indented {
            let is_above = lines.get(at + 1).is_some_and(|next| is_stylish(next));
            self.path_above = if is_above { self.resolve_path(text) } else { None };
        }
        for prefix in ["Would reformat: ", "would reformat ", "[warn] "] {
            if let Some(path) = text.strip_prefix(prefix).and_then(|path| self.resolve_path(path)) {
                let message = "the formatting differs".to_owned();
                let level = FindingLevel::Error;
                return Some(FileFinding { path, line: None, column: None, level, message });
            }
        }
        self.parse_located_line(text)
    }

    /// Parses a location and its message on one line.
    fn parse_located_line(&mut self, text: &str) -> Option<FileFinding> {
        for spot in find_locations(text) {
            let message = spot.rest.trim_start_matches([':', ' ', '\t']);
            let message = message.strip_prefix("- ").unwrap_or(message).trim();
            if message.is_empty() {
                continue;
            }
            let Some(path) = self.resolve_path(spot.path) else { continue };
            let (level, mut message) = split_level(message);
            let explained = self.pytest_message.take();
            // pytest prints the type of the exception at the location, and its message above.
            let is_kind = !message.contains(|c: char| !c.is_alphanumeric() && !"._".contains(c));
            if let Some(explained) = explained.filter(|_| is_kind) {
                let says_kind = explained.starts_with(&message);
                message = if says_kind { explained } else { format!("{message}: {explained}") };
            }
            return Some(spot.to_finding(path, level, message));
        }
        None
    }

    /// Parses a location whose message is above it.
    fn parse_location_below(&mut self, before: &[&str], place: &str) -> Option<FileFinding> {
        // The quoted source lines belong to another location.
        let is_said = |line: &&&str| {
            let text = line.trim();
            !text.is_empty() && !text.starts_with(['|', '=']) && !text.starts_with("--> ")
        };
        let near = before.iter().rev().take(MAX_MESSAGE_DISTANCE).take_while(is_said);
        let header = near.clone().position(|line| !line.starts_with([' ', '\t']));
        let (level, message) = match header {
            Some(more) => split_level(&to_one_line(&before[before.len() - 1 - more..].join(" "))),
            None => (FindingLevel::Error, "finding without a message".to_owned()),
        };
        self.parse_bare_location(place, level, message)
    }

    /// Parses a line that has only a location.
    fn parse_bare_location(
        &mut self,
        place: &str,
        level: FindingLevel,
        message: String,
    ) -> Option<FileFinding> {
        let ends = |spot: &LocationMatch<'_>| spot.rest.trim_matches([':', ' ', '\t']).is_empty();
        for spot in find_locations(place).filter(ends) {
            if let Some(path) = self.resolve_path(spot.path) {
                return Some(spot.to_finding(path, level, message));
            }
        }
        None
    }

    /// Returns a printed path as a path from the root, if that is a file.
    fn resolve_path(&mut self, path: &str) -> Option<String> {
        let path = path.trim_start();
        if path.is_empty() || path.len() > MAX_PATH_BYTES || path.contains("://") {
            return None;
        }
        if let Some(known) = self.resolved_paths.get(path) {
            return known.clone();
        }
        let PathContext { root, folder, is_file } = self.path_context;
        let mut places = Vec::new();
        if path.starts_with('/') {
            let inside = path.strip_prefix(root.trim_end_matches('/'));
            places.extend(inside.filter(|inside| inside.starts_with('/')).map(|path| ("", path)));
        } else {
            places.push((*folder, path));
            if !folder.is_empty() {
                places.push(("", path));
            }
        }
        let mut resolved =
            places.into_iter().filter_map(|(folder, path)| normalize_path(folder, path));
        let resolved = resolved.find(|path| is_file(path));
        self.resolved_paths.insert(path.to_owned(), resolved.clone());
        resolved
    }
}

/// A location, and the text after it.
struct LocationMatch<'a> {
    path: &'a str,
    line: u64,
    column: Option<u64>,
    rest: &'a str,
}

impl LocationMatch<'_> {
    /// Converts to a finding. A line or column of 0 means that the program has none.
    fn to_finding(&self, path: String, level: FindingLevel, message: String) -> FileFinding {
        let line = Some(self.line).filter(|line| *line > 0);
        let column = self.column.filter(|column| line.is_some() && *column > 0);
        FileFinding { path, line, column, level, message }
    }
}

/// Returns everything in a text that looks like a location, from left to right.
fn find_locations(text: &str) -> impl Iterator<Item = LocationMatch<'_>> {
    let marks = text.match_indices([':', '(']);
    marks
        .filter_map(|(at, mark)| parse_location(text, at, mark == "("))
        .take(MAX_LOCATION_CANDIDATES)
}

/// Parses the location whose path ends at the `:` or `(` at the byte offset `at`.
fn parse_location(text: &str, at: usize, is_in_brackets: bool) -> Option<LocationMatch<'_>> {
    let (line, rest) = parse_number(&text[at + 1..])?;
    let path = &text[..at];
    if is_in_brackets {
        let column = rest.strip_prefix(',').and_then(parse_number);
        let (column, rest) = column.map_or((None, rest), |(column, rest)| (Some(column), rest));
        return Some(LocationMatch { path, line, column, rest: rest.strip_prefix("):")? });
    }
    let mut rest = rest;
    let mut column = None;
    // The column, then the line and column of the end.
    for turn in 0..3 {
        let Some((value, after)) = rest.strip_prefix(':').and_then(parse_number) else { break };
        rest = after;
        column = if turn == 0 { Some(value) } else { column };
    }
    Some(LocationMatch { path, line, column, rest })
}

/// Parses the number at the start of a text, and returns it with the rest.
fn parse_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number = digits.parse().ok().filter(|number| *number <= MAX_NUMBER)?;
    let is_word = rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (!is_word).then_some((number, rest))
}

/// Parses `LINE:COLUMN  LEVEL  MESSAGE`, an indented line without a path.
fn parse_stylish(text: &str) -> Option<(LocationMatch<'_>, FindingLevel, &str)> {
    let (line, rest) = parse_number(text)?;
    let (column, rest) = parse_number(rest.strip_prefix(':')?)?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (word, message) = rest.split_once([' ', '\t'])?;
    let (_, level) = LEVEL_WORDS.iter().find(|(known, _)| *known == word)?;
    Some((LocationMatch { path: "", line, column: Some(column), rest: "" }, *level, message.trim()))
}

fn is_stylish(line: &str) -> bool {
    line.starts_with([' ', '\t']) && parse_stylish(line.trim()).is_some()
}

/// The words for severities in the output of programs.
const LEVEL_WORDS: [(&str, FindingLevel); 8] = [
    ("error", FindingLevel::Error),
    ("fatal error", FindingLevel::Error),
    ("warning", FindingLevel::Warning),
    ("note", FindingLevel::Note),
    ("help", FindingLevel::Note),
    ("notice", FindingLevel::Note),
    ("info", FindingLevel::Note),
    ("information", FindingLevel::Note),
];

/// Splits off the severity of a message. A code is kept: `error[E0308]: MESSAGE` becomes `E0308: MESSAGE`.
fn split_level(message: &str) -> (FindingLevel, String) {
    for (word, level) in LEVEL_WORDS {
        let begins =
            |text: &str| text.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word));
        let bare = message.strip_prefix('[').unwrap_or(message);
        if !begins(bare) {
            continue;
        }
        let rest = &bare[word.len()..];
        if bare.len() < message.len() {
            // `[error] MESSAGE`
            if let Some(rest) = rest.strip_prefix(']').map(str::trim).filter(|r| !r.is_empty()) {
                return (level, rest.to_owned());
            }
            continue;
        }
        // `error: MESSAGE`, `error[CODE]: MESSAGE` and `error CODE: MESSAGE`
        let is_code =
            |name: &str| name.ends_with(|c: char| c.is_ascii_digit()) && !name.contains(' ');
        let named = match rest.chars().next() {
            Some(':') => Some(rest[1..].trim().to_owned()),
            Some('[') => rest[1..].split_once("]:").map(|(code, said)| format!("{code}:{said}")),
            Some(' ') => rest[1..]
                .split_once(':')
                .filter(|(code, _)| is_code(code))
                .map(|_| rest[1..].to_owned()),
            _ => None,
        };
        if let Some(said) = named.filter(|said| !said.is_empty()) {
            return (level, said);
        }
    }
    // eslint's `unix` format has the severity at the end.
    let is_warning = message.ends_with(']') && message.contains(" [Warning/");
    let level = if is_warning { FindingLevel::Warning } else { FindingLevel::Error };
    // ruff marks findings with an automatic fix.
    (level, message.replacen(" [*] ", " ", 1))
}

/// Splits a panic line of newer Rust versions, which print the thread's number: `thread 'main' (123) panicked at`.
fn split_panic(line: &str) -> Option<(&str, &str)> {
    line.split_once(") panicked at ").filter(|(thread, _)| thread.starts_with("thread '"))
}

/// Returns the message below `panicked at`: its first line, and the indented lines below that.
fn parse_panic_message(lines: &[&str]) -> String {
    let Some((first, more)) = lines.split_first() else { return "a test panicked".to_owned() };
    let more = more.iter().take(MAX_PANIC_LINES).take_while(|line| line.starts_with(' '));
    let message = std::iter::once(first).chain(more).copied().collect::<Vec<_>>().join("\n");
    if message.trim().is_empty() { "a test panicked".to_owned() } else { message }
}

/// Returns a path from the root without `.`, `..` and double slashes, or `None` if it is outside.
fn normalize_path(folder: &str, path: &str) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for name in folder.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    (!names.is_empty()).then(|| names.join("/"))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};

    use super::*;

    /// The files of the tests.
    const FILES: [&str; 7] = [
        "12/30",
        "app/src/index.ts",
        "my file.py",
        "src/a.py",
        "src/b.js",
        "src/lib.rs",
        "src/test_a.py",
    ];

    fn found(output: &str) -> Vec<FileFinding> {
        let is_file = |path: &str| FILES.contains(&path);
        parse_findings(output, &PathContext { root: "/w/repo", folder: "app", is_file: &is_file })
    }

    fn check(output: &str, expected: &Expect) {
        let mut text = String::new();
        for FileFinding { path, line, column, level, message } in found(output) {
            let line = line.map_or(String::new(), |line| format!(":{line}"));
            let column = column.map_or(String::new(), |column| format!(":{column}"));
            let level = level.name();
            writeln!(text, "{path}{line}{column} {level} {message:?}").unwrap();
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn places_with_their_message_in_one_line() {
        check(
            r#"
src/a.py: In function ‘main’:
src/a.py:2:21: error: ‘y’ undeclared (first use in this function)
    2 | int main(){ int x = y; return 0 }
src/a.py:2:21: note: each undeclared identifier is reported only once
src/a.py:2:21: fatal error: stdio.h: No such file or directory
src/a.py:3: error: Incompatible return value type (got "int", expected "str")  [return-value]
src/a.py:3:12:3:14: error: Incompatible return value  [return-value]
./src/../src/a.py:1:8: F401 [*] `os` imported but unused
src/lib.rs:1:37: error[E0308]: mismatched types
src/lib.rs:4:5: [warning] line too long (line-length)
/w/repo/src/b.js:1:5: 'b' is assigned a value but never used. [Warning/no-unused-vars]
/w/repo/src/b.js:1:14: 'foo' is not defined. [Error/no-undef]
src/index.ts(1,7): error TS2322: Type 'string' is not assignable to type 'number'.
src/index.ts:1:7 - error TS2322: Type 'string' is not assignable.
src/index.ts(9): warning: only a line
my file.py:3:4: warning: spaces
src/a.py:0:0: about the whole file
src/lib.rs:12:let x = grep();
src/lib.rs:7: error in the box: as it says
"#,
            &expect![[r#"
                src/a.py:2:21 error "‘y’ undeclared (first use in this function)"
                src/a.py:2:21 note "each undeclared identifier is reported only once"
                src/a.py:2:21 error "stdio.h: No such file or directory"
                src/a.py:3 error "Incompatible return value type (got \"int\", expected \"str\")  [return-value]"
                src/a.py:3:12 error "Incompatible return value  [return-value]"
                src/a.py:1:8 error "F401 `os` imported but unused"
                src/lib.rs:1:37 error "E0308: mismatched types"
                src/lib.rs:4:5 warning "line too long (line-length)"
                src/b.js:1:5 warning "'b' is assigned a value but never used. [Warning/no-unused-vars]"
                src/b.js:1:14 error "'foo' is not defined. [Error/no-undef]"
                app/src/index.ts:1:7 error "TS2322: Type 'string' is not assignable to type 'number'."
                app/src/index.ts:1:7 error "TS2322: Type 'string' is not assignable."
                app/src/index.ts:9 warning "only a line"
                my file.py:3:4 warning "spaces"
                src/a.py error "about the whole file"
                src/lib.rs:12 error "let x = grep();"
                src/lib.rs:7 error "error in the box: as it says"
            "#]],
        );
    }

    #[test]
    fn places_above_and_below_their_message() {
        check(
            r#"
error[E0308]: mismatched types
 --> src/lib.rs:1:37
  |
1 | pub fn f() -> u32 { let unused = 1; "src/lib.rs:9:9: no" }
  |               ---                   ^^^ expected `u32`, found `&str`

warning: unused
         variable
  --> /w/repo/src/lib.rs:3:1
note: the lint level is defined here
 --> src/lib.rs:1:9

F401 [*] `os` imported but unused
 --> src/a.py:1:8
  |
invalid-syntax: unexpected EOF while parsing
 --> src/a.py:1:9

 --> src/a.py:5:5
error: somewhere else
 --> /usr/lib/x.rs:1:1

thread 'a' (21897) panicked at src/lib.rs:2:18:
assertion `left == right` failed: sums
  left: 1
 right: 2
stack backtrace:
             at ./src/lib.rs:2:18
thread 'b' panicked at src/lib.rs:3:18:
boom

/w/repo/src/b.js
  1:5   warning  'b' is assigned a value but never used  no-unused-vars
  1:14  error    'foo' is not defined                    no-undef

  1:14  error    belongs to nothing
Diff in /w/repo/src/lib.rs:12:
Diff in /w/repo/src/lib.rs at line 20:
Would reformat: src/a.py
would reformat /w/repo/src/test_a.py
[warn] src/b.js
[warn] Code style issues found in 2 files.
"#,
            &expect![[r#"
                src/lib.rs:1:37 error "E0308: mismatched types"
                src/lib.rs:3:1 warning "unused variable"
                src/lib.rs:1:9 note "the lint level is defined here"
                src/a.py:1:8 error "F401 `os` imported but unused"
                src/a.py:1:9 error "invalid-syntax: unexpected EOF while parsing"
                src/a.py:5:5 error "finding without a message"
                src/lib.rs:2:18 error "assertion `left == right` failed: sums\n  left: 1\n right: 2"
                src/lib.rs:3:18 error "boom"
                src/b.js:1:5 warning "'b' is assigned a value but never used no-unused-vars"
                src/b.js:1:14 error "'foo' is not defined no-undef"
                src/lib.rs:12 error "the formatting differs"
                src/lib.rs:20 error "the formatting differs"
                src/a.py error "the formatting differs"
                src/test_a.py error "the formatting differs"
                src/b.js error "the formatting differs"
            "#]],
        );
    }

    #[test]
    fn what_pytest_says_above_a_place_belongs_to_it() {
        check(
            r#"
____________________________________ test_a ____________________________________

    def test_a():
>       assert f(1) == 2
E       assert 1 == 2
E        +  where 1 = f(1)

src/test_a.py:4: AssertionError
____________________________________ test_b ____________________________________

>       g()

src/test_a.py:6: 
_ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ 

E   ValueError: boom: 3

src/test_a.py:2: ValueError
FAILED src/test_a.py::test_a - assert 1 == 2
"#,
            &expect![[r#"
                src/test_a.py:4 error "AssertionError: assert 1 == 2"
                src/test_a.py:2 error "ValueError: boom: 3"
            "#]],
        );
    }

    #[test]
    fn escapes_and_colours_do_not_hide_a_finding() {
        check(
            "\x1b[1m\x1b[33mwarning\x1b[0m\x1b[1m: unused\x1b[0m\r\n\
             \x20\x1b[94m--> \x1b[0msrc/lib.rs:1:38\r\n\
             \x1b]8;;file:///w\x1b\\src/a.py:1:2\x1b]8;;\x1b\\: linked\n\
             \x1b[96msrc/index.ts\x1b[0m:\
             \x1b[93m1\x1b[0m:\x1b[93m7\x1b[0m - \x1b[91merror\x1b[0m\
             \x1b[90m TS2322: \x1b[0mType.\n",
            &expect![[r#"
                src/lib.rs:1:38 warning "unused"
                src/a.py:1:2 error "linked"
                app/src/index.ts:1:7 error "TS2322: Type."
            "#]],
        );
    }

    #[test]
    fn what_names_no_file_of_the_worktree_is_no_finding() {
        for line in [
            "12:30:45: hello",
            "http://localhost:8080/a: refused",
            "file:///w/repo/src/a.py:1:2: an address",
            "../../src/a.py:1:1: outside",
            "../src/a.py/../../../src/a.py:1:1: outside",
            "/elsewhere/src/a.py:1:1: outside",
            "/w/repository/src/a.py:1:1: beside",
            "/w/repo:1:1: the root",
            "src/a.py:x:1: no number",
            "src/a.py:1:",
            "src/a.py:99999999999999999999: too large",
            "src/a.py",
            ":1:1: nothing",
            "--> :1:1",
            "Diff in :3:",
            "thread 'a' panicked at nowhere:",
        ] {
            assert_eq!(found(line), [], "{line}");
        }
    }

    #[test]
    fn findings_have_a_bound_and_come_once() {
        let many: String = (1..=5_000).map(|line| format!("src/a.py:{line}: x\n")).collect();
        assert_eq!(found(&many).len(), MAX_FINDINGS);
        assert_eq!(found(&"src/a.py:1: x\n".repeat(10)).len(), 1);
        let long = found(&format!("src/a.py:1: {}", "ä".repeat(5_000)));
        assert_eq!(long[0].message.chars().count(), MAX_MESSAGE_CHARS);
        assert!(long[0].message.ends_with('…'));
    }

    /// A generator of numbers that is small and the same everywhere (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap()
        }
    }

    #[test]
    fn no_input_makes_it_panic() {
        const PIECES: [&str; 32] = [
            "src/a.py",
            "src/index.ts",
            "/w/repo/",
            "../",
            ":",
            ":",
            "1",
            "12",
            "(",
            "3,4",
            "):",
            "--> ",
            "\n",
            "\n",
            " ",
            "error",
            "warning",
            "[",
            "]",
            ": ",
            "Diff in ",
            "E  ",
            "thread 'a' panicked at ",
            "\x1b[",
            "\x1b]",
            "ä",
            "😀",
            "\r",
            "____",
            "[*] ",
            " - ",
            "\u{fffe}",
        ];
        for seed in 1..=3_000_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut bytes = Vec::new();
            for _ in 0..random.below(200) {
                match random.below(8) {
                    0 => bytes.push(u8::try_from(random.below(256)).unwrap()),
                    _ => bytes.extend(PIECES[random.below(PIECES.len())].bytes()),
                }
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let all = std::panic::catch_unwind(|| found(&text));
            let all = all.unwrap_or_else(|_| panic!("seed {seed}: {text:?}"));
            for finding in all {
                let FileFinding { path, line, column, message, .. } = &finding;
                assert!(FILES.contains(&path.as_str()), "seed {seed}: {finding:?}");
                assert!(*line != Some(0) && *column != Some(0), "seed {seed}: {finding:?}");
                assert!(
                    !message.is_empty() && *message == sanitize_text(message),
                    "seed {seed}: {finding:?}"
                );
            }
        }
    }
}
