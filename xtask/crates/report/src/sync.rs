//! The report of `sync`.
//!
//! ```text
//! feature/menu: 1 managed file synced from orchestration-tools (5e4d3c2b1a), commit 1a2b3c4d5e
//!   update     setup/format.toml  the canonical branch has changed it
//! ```

use std::fmt::Write;

use serde::Serialize;

use super::{BOLD, DIM, GREEN, RED, Verbosity, YELLOW, pluralize};

/// How many paths of each kind are listed without `-v`.
const MAX_LINES: usize = 20;

/// The canonical branch.
#[derive(Clone, Debug, Serialize)]
pub struct CanonicalLine {
    /// The full name of the ref, e.g. `refs/heads/orchestration-tools`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The commit ID.
    pub commit: String,
}

/// The decision about one path.
#[derive(Clone, Debug, Serialize)]
pub struct PathLine {
    pub path: String,
    /// The class, e.g. `behind` or `customised`.
    pub class: &'static str,
    /// The action, e.g. `update`, `keep` or `refuse`.
    pub action: &'static str,
    /// The reason for the class.
    pub reason: String,
    /// Whether a merge was requested (`--merge`) and conflicts.
    #[serde(skip)]
    pub is_conflict: bool,
    /// The file with the conflict markers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_file: Option<String>,
}

/// The mode of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// The files were written.
    Real,
    /// `--dry-run`: only says what would happen.
    DryRun,
    /// `--check`: only says whether a path is behind.
    Check,
}

/// The JSON output of `sync` for one worktree (`xtask.sync/1`).
#[derive(Clone, Debug, Serialize)]
pub struct SyncReport {
    pub schema: &'static str,
    pub canonical: CanonicalLine,
    pub worktree: String,
    /// The branch, or `None` if HEAD is detached.
    pub branch: Option<String>,
    /// `commit` or `worktree` (files only).
    pub mode: &'static str,
    /// The new commit, if one was made.
    pub commit: Option<String>,
    /// The ID of the backup for `undo`.
    pub undo: Option<String>,
    /// The upstream commit to which the branch was fast-forwarded before the sync.
    pub moved_to: Option<String>,
    /// The reason if the worktree was skipped.
    pub skipped: Option<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    pub paths: Vec<PathLine>,
}

impl SyncReport {
    /// Renders the report as text, which is empty if there is no change to report.
    #[must_use]
    pub fn render_text(&self, manner: RunMode, loudness: Verbosity) -> String {
        let mut text = String::new();
        let branch = self.branch.as_deref().unwrap_or("detached HEAD");
        let canonical = short_ref(&self.canonical.reference);
        let commit = short_id(&self.canonical.commit);
        if let Some(why) = &self.skipped {
            if loudness == Verbosity::Verbose {
                push_line(&mut text, &format!("{BOLD}{branch}{BOLD:#}: {why}"));
            }
            return text;
        }
        let written = self.paths_with_action(&["update", "create", "delete", "merge"]);
        let kept = self.paths_with_action(&["keep"]);
        let refused = self.paths_with_action(&["refuse"]);
        if let Some(to) = &self.moved_to {
            push_line(
                &mut text,
                &format!("{BOLD}{branch}{BOLD:#}: moved to its upstream {}", short_id(to)),
            );
        }
        if !written.is_empty() {
            let files = pluralize(written.len(), "managed file");
            let head = match manner {
                RunMode::Real if self.commit.is_some() => format!("{files} synced"),
                RunMode::Real => format!("{files} written"),
                RunMode::DryRun => format!("{files} would be synced"),
                RunMode::Check if written.len() == 1 => format!("{files} is behind"),
                RunMode::Check => format!("{files} are behind"),
            };
            let from = if manner == RunMode::Check { "" } else { "from " };
            let head = format!("{head} {from}");
            let mut line = format!("{BOLD}{branch}{BOLD:#}: {head}{canonical} ({commit})");
            if let Some(commit) = &self.commit {
                append_text(&mut line, &format!(", commit {}", short_id(commit)));
            } else if manner == RunMode::Real && self.mode == "worktree" {
                append_text(&mut line, ", not committed");
            }
            push_line(&mut text, &line);
            self.push_path_lines(&mut text, &written, loudness);
        }
        let is_told = |line: &&PathLine| loudness > Verbosity::Quiet || line.is_conflict;
        let kept: Vec<&PathLine> = kept.into_iter().filter(is_told).collect();
        if !kept.is_empty() {
            let files = pluralize(kept.len(), "path");
            let stay = if kept.len() == 1 { "is kept as it is" } else { "are kept as they are" };
            push_line(&mut text, &format!("{BOLD}{branch}{BOLD:#}: {files} {stay}"));
            self.push_path_lines(&mut text, &kept, loudness);
        }
        if !refused.is_empty() {
            let files = pluralize(refused.len(), "path");
            let verb = if refused.len() == 1 { "is" } else { "are" };
            push_line(&mut text, &format!("{BOLD}{branch}{BOLD:#}: {files} {verb} not written to"));
            self.push_path_lines(&mut text, &refused, loudness);
        }
        if loudness == Verbosity::Verbose {
            let quiet = self.paths_with_action(&["none"]);
            self.push_path_lines(&mut text, &quiet, loudness);
            if written.is_empty() && kept.is_empty() && refused.is_empty() {
                push_line(
                    &mut text,
                    &format!("{BOLD}{branch}{BOLD:#}: in sync with {canonical} ({commit})"),
                );
            }
        }
        text
    }

    /// Returns the next commands for the user. `at` is inserted between `cargo xtask` and the command: `-C DIR ` for
    /// another worktree, or empty.
    #[must_use]
    pub fn next_steps(&self, manner: RunMode, at: &str) -> Vec<String> {
        let mut steps = Vec::new();
        if let Some(undo) = &self.undo {
            steps.push(format!("`cargo xtask {at}undo {undo}` undoes it"));
        }
        if manner == RunMode::Check
            && !self.paths_with_action(&["update", "create", "delete"]).is_empty()
        {
            steps.push(format!("`cargo xtask {at}sync` updates them"));
        }
        let source = &self.canonical.commit;
        for line in &self.paths {
            if let Some(file) = &line.merge_file {
                steps.push(format!(
                    "conflict in {0}: resolve it in {file}, then\n  cp '{file}' '{0}' && git commit \
                     --allow-empty --trailer 'Orchestration-Source: {source}' --trailer \
                     'Orchestration-Settled: {0}' '{0}'",
                    line.path
                ));
            } else if line.is_conflict {
                steps.push(format!(
                    "cannot merge {0}: keep it as it is, or take the canonical version with `cargo \
                     xtask {at}sync --force {0}`",
                    line.path
                ));
            }
        }
        let kept = self.paths_with_action(&["keep"]);
        let is_only_edited = !kept.iter().any(|line| line.class == "customised");
        if steps.is_empty() && !kept.is_empty() && is_only_edited {
            steps.push(format!(
                "`cargo xtask {at}diff` shows what is kept; commit it, or `sync --force PATH` \
                 replaces it (undo brings it back)"
            ));
        } else if steps.is_empty() && !kept.is_empty() {
            steps.push(format!(
                "`cargo xtask {at}diff` shows what is kept; `sync --merge` takes canonical changes \
                 in, `sync --force PATH` replaces it (undo brings it back)"
            ));
        }
        steps
    }

    fn paths_with_action(&self, actions: &[&str]) -> Vec<&PathLine> {
        self.paths.iter().filter(|line| actions.contains(&line.action)).collect()
    }

    fn push_path_lines(&self, text: &mut String, lines: &[&PathLine], loudness: Verbosity) {
        let shown = if loudness == Verbosity::Verbose { lines.len() } else { MAX_LINES };
        let width = lines.iter().take(shown).map(|l| l.path.chars().count()).max().unwrap_or(0);
        for line in lines.iter().take(shown) {
            let style = match line.action {
                "keep" => YELLOW,
                "refuse" => RED,
                "none" => DIM,
                _ => GREEN,
            };
            let word = match line.action {
                "keep" | "refuse" | "none" => line.class,
                action => action,
            };
            push_line(
                text,
                &format!(
                    "  {style}{word:<10}{style:#} {:<width$}  {DIM}{}{DIM:#}",
                    line.path, line.reason
                ),
            );
        }
        if lines.len() > shown {
            push_line(text, &format!("  and {} more (-v lists them)", lines.len() - shown));
        }
    }
}

/// The JSON output of `sync --all-worktrees` (`xtask.sync-worktrees/1`).
#[derive(Clone, Debug, Serialize)]
pub struct SyncWorktreesReport {
    pub schema: &'static str,
    pub worktrees: Vec<SyncWorktreeLine>,
}

/// The result of one worktree.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum SyncWorktreeLine {
    /// The sync succeeded.
    Report(Box<SyncReport>),
    /// The sync failed.
    Failed {
        /// The root of the worktree.
        worktree: String,
        /// The error message.
        error: String,
    },
}

fn push_line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("because writing to a string cannot fail");
}

fn append_text(text: &mut String, more: &str) {
    text.push_str(more);
}

/// Abbreviates a commit ID to 10 digits.
#[must_use]
pub fn short_id(id: &str) -> &str {
    &id[..id.len().min(10)]
}

/// Returns the name of a ref without `refs/heads/` or `refs/remotes/`.
#[must_use]
pub fn short_ref(name: &str) -> &str {
    name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/remotes/")).unwrap_or(name)
}
