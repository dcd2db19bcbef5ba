//! What `reverse-sync`, `extract` and `promote` say: commits with their files, conflicts, and the JSON
//! output `xtask.extract/1`.
//!
//! ```text
//! 1a2b3c4d5e Look twice  bob, 2026-01-05T09:30:00Z
//!   create  scripts/lint
//!   left out, because not managed: 1 file
//! ```

use serde::Serialize;

use super::changes_branch::PendingChange;
use super::cherry_pick::PathConflict;
use super::commit_messages::{SummaryCommit, SummaryFile};
use super::extract::ExtractOutcome;
use super::source::SelectedCommit;
use xtask_base::environment::format_rfc3339;
use xtask_base::words::{join_names, pluralize};
use xtask_git::Repo;
use xtask_report::{BOLD, DIM, GREEN, RED, YELLOW, join_lines, short_id};

/// How many paths of one commit are listed.
const MAX_PATHS: usize = 30;

/// How many unmanaged paths of one commit are listed.
const MAX_LEFT_OUT: usize = 5;

/// How many conflicts are shown with an excerpt, and how many lines the excerpt has.
const MAX_EXCERPTS: (usize, usize) = (5, 12);

impl SelectedCommit {
    /// Renders the commit, with at most `MAX_PATHS` files.
    #[must_use]
    pub fn render_text(&self, repo: &Repo, note: Option<&str>) -> String {
        let (id, subject) = (repo.short_id(self.commit.id), self.commit.subject());
        let author = &self.commit.author;
        let author = format!("{}, {}", author.name, format_rfc3339(author.seconds));
        let mut lines = vec![format!("{BOLD}{id}{BOLD:#} {subject}  {DIM}{author}{DIM:#}")];
        lines.extend(note.map(|note| format!("  {YELLOW}{note}{YELLOW:#}")));
        let changes = self.changes.iter().take(MAX_PATHS);
        lines.extend(
            changes
                .map(|change| format!("  {GREEN}{:<7}{GREEN:#} {}", change.action(), change.path)),
        );
        lines.extend(count_unlisted(self.changes.len(), MAX_PATHS).map(|more| format!("  {more}")));
        if !self.pinned.is_empty() {
            let files = pluralize(self.pinned.len(), "file");
            lines.push(format!("  left out, because pinned on its branch: {files}"));
            let paths = self.pinned.iter().take(MAX_LEFT_OUT).map(ToString::to_string);
            let paths = paths.chain(count_unlisted(self.pinned.len(), MAX_LEFT_OUT));
            lines.extend(paths.map(|path| format!("    {DIM}{path}{DIM:#}")));
        }
        let left_out = self.left_out.len();
        if left_out > 0 {
            let files = pluralize(left_out, "file");
            lines.push(format!("  left out, because not managed: {files}"));
            let paths = self.left_out.iter().take(MAX_LEFT_OUT).map(ToString::to_string);
            let paths = paths.chain(count_unlisted(left_out, MAX_LEFT_OUT));
            lines.extend(paths.map(|path| format!("    {DIM}{path}{DIM:#}")));
        }
        join_lines(&lines)
    }
}

fn count_unlisted(number: usize, shown: usize) -> Option<String> {
    (number > shown).then(|| format!("and {} more", number - shown))
}

/// Renders conflicts with the branch `onto`: a line for each, and an excerpt of the conflicting
/// lines.
#[must_use]
pub fn render_conflicts(conflicts: &[PathConflict], onto: &str) -> String {
    let mut lines = Vec::new();
    for (at, conflict) in conflicts.iter().enumerate() {
        lines.push(format!("{RED}conflict{RED:#} {}", conflict.describe(onto)));
        let Some(excerpt) = conflict.excerpt().filter(|_| at < MAX_EXCERPTS.0) else { continue };
        let shown = excerpt.lines().take(MAX_EXCERPTS.1);
        lines.extend(shown.map(|line| format!("    {DIM}{line}{DIM:#}")));
        if excerpt.lines().count() > MAX_EXCERPTS.1 {
            lines.push(format!("    {DIM}…{DIM:#}"));
        }
    }
    join_lines(&lines)
}

/// The JSON output of `extract` (`xtask.extract/1`).
#[derive(Clone, Debug, Serialize)]
pub struct ExtractReport<'a> {
    pub schema: &'static str,
    /// The source branch.
    pub branch: &'a str,
    /// The commit of the source branch.
    pub source: String,
    /// The branch on which changes are collected, `orchestration-tools-changes` by default.
    pub changes: &'a str,
    /// The collected commit of this source branch, or `None` if it has no changes of managed files.
    pub commit: Option<String>,
    /// The new tip of the changes branch, or `None` if no changes are collected on it.
    pub tip: Option<String>,
    pub dry_run: bool,
    /// Whether the changes branch was pushed, or was up to date on the remote.
    pub pushed: bool,
    /// The source branches with a commit on the changes branch, in order.
    pub waiting: &'a [String],
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Changed paths that are pinned on the source branch, and not collected.
    pub pinned: Vec<String>,
    pub files: &'a [SummaryFile],
    /// The commits of the source branch that changed these files.
    pub commits: &'a [SummaryCommit],
}

impl ExtractOutcome {
    /// Builds the report of an extraction.
    #[must_use]
    pub fn to_report(&self, dry_run: bool, push: bool) -> ExtractReport<'_> {
        let (built, source) = (&self.built, &self.source_changes.source);
        ExtractReport {
            schema: "xtask.extract/1",
            branch: &source.name,
            source: source.tip.to_string(),
            changes: &self.context.config.changes_branch,
            commit: built.own_commit.map(|id| id.to_string()),
            tip: (!built.waiting.is_empty()).then(|| built.tip.to_string()),
            dry_run,
            pushed: push && !dry_run,
            waiting: &built.waiting,
            warnings: self.list_warnings(),
            pinned: self.source_changes.pinned.iter().map(ToString::to_string).collect(),
            files: self.summary.as_ref().map_or(&[], |summary| &summary.files),
            commits: self.summary.as_ref().map_or(&[], |summary| &summary.commits),
        }
    }

    fn list_warnings(&self) -> Vec<String> {
        let (config, source) = (&self.context.config, &self.source_changes.source);
        let mut warnings = self.context.warnings.clone();
        if source.diverged_tip.is_some() {
            warnings.push(format!(
                "local `{}` and the one on `{}` have diverged; the local one was used",
                source.name, config.remote
            ));
        }
        let pinned = &self.source_changes.pinned;
        if !pinned.is_empty() {
            let paths: Vec<String> = pinned.iter().map(ToString::to_string).collect();
            warnings.push(format!(
                "`{}` has pinned {}, which is not collected (`cargo xtask unpin PATH` ends a pin)",
                source.name,
                join_names(&paths, 5)
            ));
        }
        if let Some((stale, conflicts)) = &self.built.stale {
            let paths: Vec<String> = conflicts.iter().map(|one| one.path.to_string()).collect();
            warnings.push(format!(
                "{stale} conflicts with `{}` as it is now, in {}; until it is extracted again, \
                 `{}` stays on an older canonical commit",
                config.branch,
                join_names(&paths, 5),
                config.changes_branch
            ));
        }
        if let Some(why) = &self.kept_reason {
            warnings.push(format!("local `{}` was not updated: {why}", config.changes_branch));
        }
        let is_own = |one: &PendingChange| one.branch.as_ref() == Some(&source.name);
        if self.summary.is_none() && self.changes_branch.commits.iter().any(is_own) {
            let name = &source.name;
            warnings.push(format!("`{name}` has no changes any more; its commit was removed"));
        }
        warnings
    }
}

impl ExtractReport<'_> {
    /// Renders the report as text.
    #[must_use]
    pub fn render_text(&self) -> String {
        let ExtractReport { branch, changes, files, .. } = self;
        if files.is_empty() && !self.pinned.is_empty() {
            return format!(
                "{BOLD}{branch}{BOLD:#} has nothing to collect: what is not canonical is pinned\n"
            );
        }
        if files.is_empty() {
            return format!(
                "{BOLD}{branch}{BOLD:#} has nothing to collect: all its managed files are \
                 canonical\n"
            );
        }
        let verb = if self.dry_run { "would be collected" } else { "collected" };
        let commit = self.commit.as_deref().map(|id| format!(" as {}", short_id(id)));
        let count = pluralize(files.len(), "managed file");
        let commit = commit.unwrap_or_default();
        let mut lines =
            vec![format!("{BOLD}{branch}{BOLD:#}: {count} {verb} on {changes}{commit}")];
        lines.extend(files.iter().take(MAX_PATHS).map(|file| {
            let (action, path, count) = (file.action, &file.path, file.describe_lines());
            format!("  {GREEN}{action:<7}{GREEN:#} {path}  {DIM}{count}{DIM:#}")
        }));
        lines.extend(count_unlisted(files.len(), MAX_PATHS).map(|more| format!("  {more}")));
        let others: Vec<&str> =
            self.waiting.iter().map(String::as_str).filter(|name| name != branch).collect();
        if !others.is_empty() {
            lines.push(format!("also waiting there: {}", others.join(", ")));
        }
        join_lines(&lines)
    }
}
