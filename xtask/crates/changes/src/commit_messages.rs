//! What commits say that bring changes to the canonical branch.

use std::fmt::Write;

use xtask_base::words::quote_for_shell;

/// The trailer that names the branch from which a change came.
pub const BRANCH_TRAILER: &str = "Orchestration-Branch";

/// The trailer that names the commit from which a change came.
pub const COMMIT_TRAILER: &str = "Orchestration-Commit";

/// How many files or commits are listed.
const MAX_LISTED: usize = 50;

/// A file of a collected change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryFile {
    /// `create`, `update` or `delete`.
    pub action: &'static str,
    /// The path.
    pub path: String,
    /// The lines that come and go; nothing where it is not text.
    pub lines: Option<(u32, u32)>,
}

/// A commit from which a collected change comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryCommit {
    /// Its id, shortened.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it, as `Name <address>`.
    pub author: String,
}

/// All that a collected change says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractSummary {
    /// The branch from which it comes.
    pub branch: String,
    /// The commit of that branch, in full.
    pub tip: String,
    /// The files.
    pub files: Vec<SummaryFile>,
    /// The commits that made it, newest first.
    pub commits: Vec<SummaryCommit>,
}

impl ExtractSummary {
    /// The message of the commit.
    #[must_use]
    pub fn to_commit_message(&self) -> String {
        let mut text = format!(
            "chore(extract): {} managed file{} from {}\n\n",
            self.files.len(),
            if self.files.len() == 1 { "" } else { "s" },
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
        // The author of the newest commit is the author of this one.
        for author in self.authors().iter().skip(1) {
            push_line(&mut text, &format!("Co-authored-by: {author}"));
        }
        text
    }

    /// Who wrote the change, the newest first.
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

    /// A line for each file, as far as people read.
    #[must_use]
    pub fn file_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .files
            .iter()
            .take(MAX_LISTED)
            .map(|file| {
                let count = match file.lines {
                    Some((new, old)) => format!(" (+{new} -{old})"),
                    None => " (not text)".to_owned(),
                };
                format!("{} {}{count}", file.action, file.path)
            })
            .collect();
        if self.files.len() > MAX_LISTED {
            lines.push(format!("and {} more", self.files.len() - MAX_LISTED));
        }
        lines
    }
}

/// The mark by which our own comment on a pull request is found again.
pub const COMMENT_MARK: &str = "<!-- xtask: extract -->";

/// The comment on the pull request of a branch.
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
            "These are collected on `{changes}`, ready to be taken into `{canonical}` once they are \
             approved:\n"
        ),
    );
    for line in summary.file_lines() {
        push_line(&mut text, &format!("- `{}`", line.replace('`', "'")));
    }
    push_line(
        &mut text,
        &format!("\nAs of {}. To take them in:\n", &summary.tip[..10.min(summary.tip.len())]),
    );
    push_line(&mut text, &format!("```sh\ncargo xtask promote {}\n```", quote_for_shell(branch)));
    text
}

/// A line. What comes from a commit or a path must not break it.
fn push_line(text: &mut String, line: &str) {
    let line = if line.starts_with("```") { line.to_owned() } else { line.replace('\r', "?") };
    writeln!(text, "{line}").expect("because writing to a string cannot fail");
}
