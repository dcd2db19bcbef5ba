//! The reports of `reverse-sync`, `extract` and `promote`: commits, their files and conflicts.
//!
//! ```text
//! 1a2b3c4d5e Look twice  bob, 2026-01-05T09:30:00Z
//!   create  scripts/lint
//!   left out, because not managed: 1 file
//! ```

use std::fmt::Write;

use serde::Serialize;

use super::{BOLD, DIM, GREEN, RED, YELLOW, pluralize};

/// How many paths of one commit are listed.
const MAX_PATHS: usize = 30;

/// How many conflicts are shown with an excerpt, and how many lines the excerpt has.
const MAX_EXCERPTS: (usize, usize) = (5, 12);

/// A commit that is copied to the canonical branch.
#[derive(Clone, Debug)]
pub struct ChangeCommitLine {
    /// The abbreviated ID.
    pub id: String,
    /// The first line of the message.
    pub subject: String,
    /// The author and the date.
    pub author: String,
    /// A note such as `already on the canonical branch`.
    pub note: Option<String>,
    /// The managed files, each with its action (`create`, `update` or `delete`).
    pub files: Vec<(&'static str, String)>,
    /// The paths that are not managed.
    pub left_out: Vec<String>,
}

impl ChangeCommitLine {
    /// Renders the commit as text, with at most `MAX_PATHS` files.
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

/// Renders conflicts: a line for each, and an excerpt of the conflicting lines.
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

/// A file with a collected change.
#[derive(Clone, Debug, Serialize)]
pub struct ExtractedFileLine {
    pub path: String,
    /// `create`, `update` or `delete`.
    pub action: &'static str,
    /// The number of added lines, or `None` for a binary file.
    pub added: Option<u32>,
    /// The number of removed lines, or `None` for a binary file.
    pub removed: Option<u32>,
}

/// A commit of the source branch whose changes were collected.
#[derive(Clone, Debug, Serialize)]
pub struct SourceCommitLine {
    /// The abbreviated ID.
    pub id: String,
    /// The first line of the message.
    pub subject: String,
    pub author: String,
}

/// The JSON output of `extract` (`xtask.extract/1`).
#[derive(Clone, Debug, Serialize)]
pub struct ExtractReport {
    pub schema: &'static str,
    /// The source branch.
    pub branch: String,
    /// The commit of the source branch.
    pub source: String,
    /// The branch on which changes are collected, `orchestration-tools-changes` by default.
    pub changes: String,
    /// The collected commit of this source branch, or `None` if it has no changes of managed files.
    pub commit: Option<String>,
    /// The new tip of the changes branch, or `None` if no changes are collected on it.
    pub tip: Option<String>,
    pub dry_run: bool,
    /// Whether the changes branch was pushed, or was up to date on the remote.
    pub pushed: bool,
    /// The source branches with a commit on the changes branch, in order.
    pub waiting: Vec<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    pub files: Vec<ExtractedFileLine>,
    /// The commits of the source branch that changed these files.
    pub commits: Vec<SourceCommitLine>,
}

impl ExtractReport {
    /// Renders the report as text.
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
            .map_or(String::new(), |id| format!(" as {}", super::short_id(id)));
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
