//! What goes into the canonical branch.

use std::fmt::Write;

use serde::Serialize;

use super::{BOLD, DIM, GREEN, RED, YELLOW, pluralize};

/// How many paths of one commit are listed.
const MAX_PATHS: usize = 30;

/// How many conflicts are shown with their lines, and how many lines of each.
const MAX_EXCERPTS: (usize, usize) = (5, 12);

/// A commit that is to be taken in, or was.
#[derive(Clone, Debug)]
pub struct ChangeCommitLine {
    /// Its id, shortened.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it, and when.
    pub author: String,
    /// What becomes of it, if that is not plain.
    pub note: Option<String>,
    /// Its managed files, with what happens to each.
    pub files: Vec<(&'static str, String)>,
    /// The paths of it that are left out.
    pub left_out: Vec<String>,
}

impl ChangeCommitLine {
    /// As text.
    #[must_use]
    pub fn render_text(&self) -> String {
        let mut text = String::new();
        let mut put = |line: String| {
            writeln!(text, "{line}").expect("because writing to a string cannot fail");
        };
        put(format!("{BOLD}{}{BOLD:#} {}  {DIM}{}{DIM:#}", self.id, self.subject, self.author));
        if let Some(note) = &self.note {
            put(format!("  {YELLOW}{note}{YELLOW:#}"));
        }
        for (action, path) in self.files.iter().take(MAX_PATHS) {
            put(format!("  {GREEN}{action:<7}{GREEN:#} {path}"));
        }
        if self.files.len() > MAX_PATHS {
            put(format!("  and {} more", self.files.len() - MAX_PATHS));
        }
        if !self.left_out.is_empty() {
            let paths = self.left_out.len();
            put(format!("  left out, because not managed: {}", pluralize(paths, "file")));
            for path in self.left_out.iter().take(5) {
                put(format!("    {DIM}{path}{DIM:#}"));
            }
            if paths > 5 {
                put(format!("    {DIM}and {} more{DIM:#}", paths - 5));
            }
        }
        text
    }
}

/// Conflicts, a line each, and the lines of the texts that conflict.
#[must_use]
pub fn render_conflicts(lines: &[(String, Option<String>)]) -> String {
    let mut text = String::new();
    for (at, (line, excerpt)) in lines.iter().enumerate() {
        let mut put = |line: &str| {
            writeln!(text, "{line}").expect("because writing to a string cannot fail");
        };
        put(&format!("{RED}conflict{RED:#} {line}"));
        let Some(excerpt) = excerpt.as_ref().filter(|_| at < MAX_EXCERPTS.0) else { continue };
        for line in excerpt.lines().take(MAX_EXCERPTS.1) {
            put(&format!("    {DIM}{line}{DIM:#}"));
        }
        if excerpt.lines().count() > MAX_EXCERPTS.1 {
            put(&format!("    {DIM}…{DIM:#}"));
        }
    }
    text
}

/// A file of an extraction.
#[derive(Clone, Debug, Serialize)]
pub struct ExtractedFileLine {
    /// The path.
    pub path: String,
    /// `create`, `update` or `delete`.
    pub action: &'static str,
    /// Lines that come; nothing where it is not text.
    pub added: Option<u32>,
    /// Lines that go.
    pub removed: Option<u32>,
}

/// A commit that an extraction collects.
#[derive(Clone, Debug, Serialize)]
pub struct SourceCommitLine {
    /// Its id, shortened.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
}

/// The answer of `extract`.
#[derive(Clone, Debug, Serialize)]
pub struct ExtractReport {
    /// Names this shape.
    pub schema: &'static str,
    /// The source branch.
    pub branch: String,
    /// Its commit.
    pub source: String,
    /// The branch on which changes are collected.
    pub changes: String,
    /// The commit of this source there; nothing where it has nothing to collect.
    pub commit: Option<String>,
    /// The tip of that branch; nothing where there is none.
    pub tip: Option<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Whether it was pushed, or the remote has it already.
    pub pushed: bool,
    /// The sources that wait there, in order.
    pub waiting: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The files.
    pub files: Vec<ExtractedFileLine>,
    /// The commits that made them.
    pub commits: Vec<SourceCommitLine>,
}

impl ExtractReport {
    /// As text.
    #[must_use]
    pub fn render_text(&self) -> String {
        let mut text = String::new();
        let mut put = |line: String| {
            writeln!(text, "{line}").expect("because writing to a string cannot fail");
        };
        let ExtractReport { branch, changes, .. } = self;
        if self.files.is_empty() {
            put(format!(
                "{BOLD}{branch}{BOLD:#} has nothing to collect: all its managed files are canonical"
            ));
            return text;
        }
        let verb = if self.dry_run { "would be collected" } else { "collected" };
        let commit = self
            .commit
            .as_deref()
            .map_or(String::new(), |id| format!(" as {}", super::sync::short_id(id)));
        put(format!(
            "{BOLD}{branch}{BOLD:#}: {} {verb} on {changes}{commit}",
            pluralize(self.files.len(), "managed file")
        ));
        for file in self.files.iter().take(MAX_PATHS) {
            let lines = match (file.added, file.removed) {
                (Some(added), Some(removed)) => format!("+{added} -{removed}"),
                _ => "not text".to_owned(),
            };
            put(format!("  {GREEN}{:<7}{GREEN:#} {}  {DIM}{lines}{DIM:#}", file.action, file.path));
        }
        if self.files.len() > MAX_PATHS {
            put(format!("  and {} more", self.files.len() - MAX_PATHS));
        }
        let others: Vec<&str> =
            self.waiting.iter().map(String::as_str).filter(|name| name != branch).collect();
        if !others.is_empty() {
            put(format!("also waiting there: {}", others.join(", ")));
        }
        text
    }
}
