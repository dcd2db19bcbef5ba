//! What sync found and did.

use std::fmt::Write;

use serde::Serialize;

use super::{BOLD, DIM, GREEN, Loudness, RED, YELLOW, count};

/// How many lines of one kind are shown without `-v`.
const SHOWN: usize = 20;

/// The canonical commit.
#[derive(Clone, Debug, Serialize)]
pub struct CanonicalLine {
    /// The full name of the ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Its commit.
    pub commit: String,
}

/// One path.
#[derive(Clone, Debug, Serialize)]
pub struct PathLine {
    /// The path.
    pub path: String,
    /// Its class.
    pub class: &'static str,
    /// What happens to it.
    pub action: &'static str,
    /// Why.
    pub reason: String,
    /// Where the merged text of a conflict lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_file: Option<String>,
}

/// How a run was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It wrote what it says.
    Real,
    /// It only says what it would do.
    DryRun,
    /// It only says whether something is behind.
    Check,
}

/// What sync found and did in one worktree.
#[derive(Clone, Debug, Serialize)]
pub struct SyncReport {
    /// Names this shape.
    pub schema: &'static str,
    /// The canonical commit.
    pub canonical: CanonicalLine,
    /// The root of the worktree.
    pub worktree: String,
    /// The branch; nothing where HEAD is detached.
    pub branch: Option<String>,
    /// How it writes.
    pub mode: &'static str,
    /// The commit that was made.
    pub commit: Option<String>,
    /// The backup with which it can be taken back.
    pub undo: Option<String>,
    /// The upstream commit to which the branch was moved first.
    pub moved_to: Option<String>,
    /// Why nothing was looked at, where that is so.
    pub skipped: Option<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The paths.
    pub paths: Vec<PathLine>,
}

impl SyncReport {
    /// As text: empty where there is nothing to say.
    #[must_use]
    pub fn text(&self, manner: Manner, loudness: Loudness) -> String {
        let mut text = String::new();
        let branch = self.branch.as_deref().unwrap_or("detached HEAD");
        let canonical = short_ref(&self.canonical.reference);
        let commit = short(&self.canonical.commit);
        if let Some(why) = &self.skipped {
            if loudness == Loudness::Verbose {
                put(&mut text, &format!("{BOLD}{branch}{BOLD:#}: {why}"));
            }
            return text;
        }
        let written = self.of(&["update", "create", "delete", "merge"]);
        let kept = self.of(&["keep"]);
        let refused = self.of(&["refuse"]);
        if let Some(to) = &self.moved_to {
            put(&mut text, &format!("{BOLD}{branch}{BOLD:#}: moved to its upstream {}", short(to)));
        }
        if !written.is_empty() {
            let files = count(written.len(), "managed file");
            let head = match manner {
                Manner::Real if self.commit.is_some() => format!("{files} synced"),
                Manner::Real => format!("{files} written"),
                Manner::DryRun => format!("{files} would be synced"),
                Manner::Check => format!("{files} behind"),
            };
            let mut line = format!("{BOLD}{branch}{BOLD:#}: {head} from {canonical} ({commit})");
            if let Some(commit) = &self.commit {
                put_in(&mut line, &format!(", commit {}", short(commit)));
            } else if manner == Manner::Real && self.mode == "worktree" {
                put_in(&mut line, ", not committed");
            }
            put(&mut text, &line);
            self.lines(&mut text, &written, loudness);
        }
        if loudness > Loudness::Quiet || manner != Manner::Real {
            if !kept.is_empty() {
                put(
                    &mut text,
                    &format!(
                        "{BOLD}{branch}{BOLD:#}: {} kept as they are",
                        count(kept.len(), "path")
                    )
                    .replace("1 path kept as they are", "1 path kept as it is"),
                );
                self.lines(&mut text, &kept, loudness);
            }
            if !refused.is_empty() {
                put(
                    &mut text,
                    &format!(
                        "{BOLD}{branch}{BOLD:#}: {} not written to",
                        count(refused.len(), "path")
                    ),
                );
                self.lines(&mut text, &refused, loudness);
            }
        }
        if loudness == Loudness::Verbose {
            let quiet = self.of(&["none"]);
            self.lines(&mut text, &quiet, loudness);
            if written.is_empty() && kept.is_empty() && refused.is_empty() {
                put(
                    &mut text,
                    &format!("{BOLD}{branch}{BOLD:#}: in sync with {canonical} ({commit})"),
                );
            }
        }
        text
    }

    /// What can be typed next.
    #[must_use]
    pub fn next_steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        if let Some(undo) = &self.undo {
            steps.push(format!("`cargo xtask undo {undo}` takes it back"));
        }
        for line in &self.paths {
            if let Some(file) = &line.merge_file {
                steps.push(format!("{} with conflict markers: {file}", line.path));
            }
        }
        steps
    }

    fn of(&self, actions: &[&str]) -> Vec<&PathLine> {
        self.paths.iter().filter(|line| actions.contains(&line.action)).collect()
    }

    fn lines(&self, text: &mut String, lines: &[&PathLine], loudness: Loudness) {
        let shown = if loudness == Loudness::Verbose { lines.len() } else { SHOWN };
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
            put(
                text,
                &format!(
                    "  {style}{word:<10}{style:#} {:<width$}  {DIM}{}{DIM:#}",
                    line.path, line.reason
                ),
            );
        }
        if lines.len() > shown {
            put(text, &format!("  and {} more (-v lists them)", lines.len() - shown));
        }
    }
}

/// The reports of several worktrees.
#[derive(Clone, Debug, Serialize)]
pub struct SyncReports {
    /// Names this shape.
    pub schema: &'static str,
    /// One each.
    pub worktrees: Vec<WorktreeLine>,
}

/// One worktree of several.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum WorktreeLine {
    /// It went through.
    Report(Box<SyncReport>),
    /// It did not.
    Failed {
        /// The root of the worktree.
        worktree: String,
        /// What went wrong.
        error: String,
    },
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("because writing to a string cannot fail");
}

fn put_in(text: &mut String, more: &str) {
    text.push_str(more);
}

/// An id as people like it.
#[must_use]
pub fn short(id: &str) -> &str {
    &id[..id.len().min(10)]
}

/// A ref without its first folders.
#[must_use]
pub fn short_ref(name: &str) -> &str {
    name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/remotes/")).unwrap_or(name)
}
