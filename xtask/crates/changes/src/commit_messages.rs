//! Commit messages and review comments of extracted changes. For example:
//!
//! ```text
//! chore(extract): 1 managed file from feature
//!
//! update setup/a (+3 -1)
//!
//! Orchestration-Branch: feature
//! Orchestration-Commit: 4f1c…
//! ```

use std::fmt::Write;

use serde::Serialize;

use super::cherry_pick::ChangeAction;
use xtask_base::words::{pluralize, quote_for_shell};

/// Trailer with the branch that a change came from.
pub const BRANCH_TRAILER: &str = "Orchestration-Branch";

/// Trailer with the commit that a change came from.
pub const COMMIT_TRAILER: &str = "Orchestration-Commit";

/// Maximum number of listed files, and of listed commits.
const MAX_LISTED: usize = 50;

/// A file of an extraction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SummaryFile {
    pub path: String,
    pub action: ChangeAction,
    /// The number of added lines; `None` for a binary file.
    pub added: Option<u32>,
    /// The number of deleted lines; `None` for a binary file.
    pub removed: Option<u32>,
}

impl SummaryFile {
    /// Describes the changed lines: `+3 -1`.
    #[must_use]
    pub fn describe_lines(&self) -> String {
        match (self.added, self.removed) {
            (Some(added), Some(removed)) => format!("+{added} -{removed}"),
            _ => "not text".to_owned(),
        }
    }
}

/// A commit of the source branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SummaryCommit {
    /// Abbreviated id.
    pub id: String,
    /// First line of the message.
    pub subject: String,
    /// Author as `Name <address>`.
    pub author: String,
}

/// Content of the message of an extraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractSummary {
    /// Source branch.
    pub branch: String,
    /// Full id of the source's commit.
    pub tip: String,
    pub files: Vec<SummaryFile>,
    /// Commits that made the changes, newest first.
    pub commits: Vec<SummaryCommit>,
}

impl ExtractSummary {
    /// Renders the commit message.
    #[must_use]
    pub fn to_commit_message(&self) -> String {
        let mut text = format!(
            "chore(extract): {} from {}\n\n",
            pluralize(self.files.len(), "managed file"),
            self.branch
        );
        for line in self.file_lines() {
            push_line(&mut text, &line);
        }
        if !self.commits.is_empty() {
            text.push_str("\nCommits:\n");
            for commit in self.commits.iter().take(MAX_LISTED) {
                push_line(&mut text, &format!("  {} {}", commit.id, commit.subject));
            }
            if self.commits.len() > MAX_LISTED {
                push_line(&mut text, &format!("  and {} more", self.commits.len() - MAX_LISTED));
            }
        }
        text.push('\n');
        push_line(&mut text, &format!("{BRANCH_TRAILER}: {}", self.branch));
        push_line(&mut text, &format!("{COMMIT_TRAILER}: {}", self.tip));
        // The author of the newest commit becomes the author of the extraction.
        for author in self.authors().iter().skip(1) {
            push_line(&mut text, &format!("Co-authored-by: {author}"));
        }
        text
    }

    /// Returns the authors without duplicates, newest first.
    #[must_use]
    pub fn authors(&self) -> Vec<&str> {
        let mut authors: Vec<&str> = Vec::new();
        for commit in &self.commits {
            if !authors.contains(&commit.author.as_str()) {
                authors.push(&commit.author);
            }
        }
        authors
    }

    /// Returns one line per file, up to `MAX_LISTED`, e.g. `update setup/a (+3 -1)`.
    #[must_use]
    pub fn file_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .files
            .iter()
            .take(MAX_LISTED)
            .map(|file| format!("{} {} ({})", file.action, file.path, file.describe_lines()))
            .collect();
        if self.files.len() > MAX_LISTED {
            lines.push(format!("and {} more", self.files.len() - MAX_LISTED));
        }
        lines
    }
}

/// Marker that identifies our own comment on a pull request.
pub const COMMENT_MARK: &str = "<!-- xtask: extract -->";

/// Renders the comment on the pull request of `branch`; `None` as `summary` means no managed
/// changes.
#[must_use]
pub fn render_review_comment(
    summary: Option<&ExtractSummary>,
    branch: &str,
    canonical: &str,
    changes: &str,
) -> String {
    let mut text = format!("{COMMENT_MARK}\n");
    let Some(summary) = summary else {
        push_line(
            &mut text,
            &format!(
                "`{branch}` changes no managed file against `{canonical}`; nothing is collected."
            ),
        );
        return text;
    };
    push_line(&mut text, &format!("### Managed files of `{branch}`\n"));
    push_line(
        &mut text,
        &format!(
            "These are collected on `{changes}`, to be merged into `{canonical}` once they are \
             approved:\n"
        ),
    );
    for line in summary.file_lines() {
        push_line(&mut text, &format!("- `{}`", line.replace('`', "'")));
    }
    push_line(
        &mut text,
        &format!("\nAs of {}. To apply them:\n", &summary.tip[..10.min(summary.tip.len())]),
    );
    push_line(&mut text, &format!("```sh\ncargo xtask promote {}\n```", quote_for_shell(branch)));
    text
}

/// Appends a line. A carriage return from a commit or path is replaced, so that it cannot break the
/// text.
fn push_line(text: &mut String, line: &str) {
    let line = if line.starts_with("```") { line.to_owned() } else { line.replace('\r', "?") };
    writeln!(text, "{line}").expect("because writing to a string cannot fail");
}
