//! The report of `pin` and `unpin`, and the list of pins, as text and as JSON (`xtask.pin/1`).
//!
//! ```text
//! feature/a: 1 path pinned until 2026-12-30 (in 30 days), commit 1a2b3c4d5e
//!   setup/a  for the vendor
//! ```

use serde::Serialize;

use super::context::SyncContext;
use super::pin_edit::{PinCoverage, find_coverage, find_named_tree};
use super::pin_reader::PinReader;
use super::pins::{StoredPin, describe_days_left, is_ending_soon, is_pin_of, list_current};
use xtask_base::date::Date;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::{pluralize, sanitize_line};
use xtask_config::PinHome;
use xtask_git::{Head, Id, Repo};
use xtask_report::{BOLD, DIM, GREEN, YELLOW, join_lines, short_id};

/// The longest name that is shown, in characters.
const MAX_NAME: usize = 60;

/// Whether a pin applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinState {
    Active,
    /// It applies, and ends within a week.
    EndingSoon,
    /// Its last day is over.
    Lapsed,
    /// It applies to nothing; the note says why.
    WithoutEffect,
}

impl PinState {
    fn name(self) -> &'static str {
        match self {
            PinState::Active => "active",
            PinState::EndingSoon => "ending soon",
            PinState::Lapsed => "lapsed",
            PinState::WithoutEffect => "without effect",
        }
    }
}

/// A pin in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PinLine {
    pub branch: String,
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// The last day on which it applies.
    pub until: Date,
    /// The number of days until then; negative if it has lapsed.
    pub days_left: i64,
    pub reason: String,
    /// The name of whoever made it.
    pub by: String,
    pub since: Date,
    pub state: PinState,
    /// Whether it is on the canonical branch.
    pub canonical: bool,
    /// Whether it is only in commits of the upstream, as last fetched, that the branch has not merged yet.
    pub unmerged: bool,
    /// Why it has no effect, or that the content is the canonical one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl PinLine {
    /// Creates the line of a pin whose effect is not in doubt.
    #[must_use]
    pub fn new(stored: &StoredPin, today: Date) -> PinLine {
        let StoredPin { pin, home, .. } = stored;
        let state = match pin.is_active(today) {
            false => PinState::Lapsed,
            true if is_ending_soon(pin, today) => PinState::EndingSoon,
            true => PinState::Active,
        };
        PinLine {
            branch: pin.branch.clone(),
            path: pin.path.clone(),
            until: pin.until,
            days_left: today.days_until(pin.until),
            reason: pin.reason.clone(),
            by: sanitize_line(&pin.by, MAX_NAME),
            since: Date::from_seconds(pin.since),
            state,
            canonical: *home == PinHome::Canonical,
            unmerged: *home == PinHome::Upstream,
            note: None,
        }
    }

    fn with_note(self, note: String) -> PinLine {
        PinLine { state: PinState::WithoutEffect, note: Some(note), ..self }
    }

    /// Renders the line; `branch_width` is 0 if all lines are of one branch, which is not named then.
    fn render_text(&self, today: Date, width: usize, branch_width: usize) -> String {
        let PinLine { path, until, reason, by, since, state, note, .. } = self;
        let style = match state {
            PinState::Active => GREEN,
            _ => YELLOW,
        };
        let branch = match branch_width {
            0 => String::new(),
            width => format!("{:<width$}  ", self.branch),
        };
        let left = describe_days_left(today, *until);
        let place = match (self.canonical, self.unmerged) {
            (true, _) => ", on the canonical branch",
            (_, true) => ", at the upstream, not merged yet",
            _ => "",
        };
        let note = note.as_ref().map_or(String::new(), |note| format!(": {note}"));
        let path = path.to_string();
        format!(
            "  {style}{:<14}{style:#} {branch}{path:<width$}  until {until} ({left})  {reason}  \
             {DIM}{by}, {since}{place}{note}{DIM:#}",
            state.name()
        )
    }
}

/// The JSON output of `pin` and `unpin` (`xtask.pin/1`).
#[derive(Clone, Debug, Serialize)]
pub struct PinReport {
    pub schema: &'static str,
    /// The branch that the pins are of; `None` for a list of all, or if HEAD is detached.
    pub branch: Option<String>,
    pub dry_run: bool,
    /// The new commit, if one was made.
    pub commit: Option<String>,
    /// The ID of the backup for `undo`.
    pub undo: Option<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// The new pins; for a list, all.
    pub pins: Vec<PinLine>,
    /// The removed pins.
    pub removed: Vec<PinLine>,
    /// Whether another pin still covers a path of a removed one; a warning says so.
    #[serde(skip)]
    pub is_still_covered: bool,
    /// The commands that push the branch to its upstream, in backticks.
    #[serde(skip)]
    pub push: Option<String>,
    #[serde(skip)]
    pub today: Date,
}

impl PinReport {
    /// Creates a report without pins.
    #[must_use]
    pub fn empty(branch: Option<String>, today: Date) -> PinReport {
        PinReport {
            schema: "xtask.pin/1",
            branch,
            dry_run: false,
            commit: None,
            undo: None,
            warnings: Vec::new(),
            pins: Vec::new(),
            removed: Vec::new(),
            is_still_covered: false,
            push: None,
            today,
        }
    }

    /// Renders what has changed, which is empty if nothing has.
    #[must_use]
    pub fn render_change(&self) -> String {
        let branch = self.branch.as_deref().unwrap_or("this branch");
        let commit =
            self.commit.as_ref().map_or(String::new(), |id| format!(", commit {}", short_id(id)));
        let verb = if self.dry_run { "would be " } else { "" };
        let mut lines = Vec::new();
        if let Some(first) = self.pins.first() {
            let paths = pluralize(self.pins.len(), "path");
            let left = describe_days_left(self.today, first.until);
            lines.push(format!(
                "{BOLD}{branch}{BOLD:#}: {paths} {verb}pinned until {} ({left}){commit}",
                first.until
            ));
            let width = path_width(&self.pins);
            lines.extend(self.pins.iter().map(|line| {
                let path = line.path.to_string();
                format!("  {path:<width$}  {DIM}{}{DIM:#}", line.reason)
            }));
        }
        let renewed: Vec<&RepoPath> = self.pins.iter().map(|line| &line.path).collect();
        let gone = self.removed.iter().filter(|line| !renewed.contains(&&line.path));
        let gone: Vec<PinLine> = gone.cloned().collect();
        if !gone.is_empty() {
            let pins = pluralize(gone.len(), "pin");
            let commit = if self.pins.is_empty() { commit.as_str() } else { "" };
            lines.push(format!("{BOLD}{branch}{BOLD:#}: {pins} {verb}removed{commit}"));
            let width = path_width(&gone);
            lines.extend(gone.iter().map(|line| {
                let over = if line.days_left < 0 { "lapsed on" } else { "was until" };
                let path = line.path.to_string();
                format!("  {path:<width$}  {DIM}{over} {}{DIM:#}", line.until)
            }));
        }
        join_lines(&lines)
    }

    /// Renders a list of pins, which is empty if there are none.
    #[must_use]
    pub fn render_list(&self, has_branch: bool) -> String {
        let width = path_width(&self.pins);
        let branches = self.pins.iter().map(|line| line.branch.chars().count());
        let branch_width = branches.max().filter(|_| has_branch).unwrap_or(0);
        let line = |line: &PinLine| line.render_text(self.today, width, branch_width);
        join_lines(&self.pins.iter().map(line).collect::<Vec<_>>())
    }
}

fn path_width(lines: &[PinLine]) -> usize {
    lines.iter().map(|line| line.path.to_string().chars().count()).max().unwrap_or(0)
}

/// Lists the pins of the checked-out branch; on the canonical branch all that it holds, and on a
/// detached HEAD all of the commit.
pub fn list_branch_pins(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
) -> Result<PinReport> {
    let head = repo.head()?;
    let mut report = PinReport::empty(head.branch.clone(), reader.today());
    report.pins = list_pins_of(repo, context, reader, &head)?;
    Ok(report)
}

/// Lists the pins of all local branches and of the canonical branch. A branch whose pins cannot be read
/// is named in a warning.
pub fn list_all_pins(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
) -> Result<PinReport> {
    let mut report = PinReport::empty(None, reader.today());
    let canonical = &context.config.branch;
    let mut heads = vec![Head {
        branch: Some(canonical.clone()),
        commit: context.canonical.commit,
        tree: context.canonical.tree,
    }];
    for (reference, commit) in repo.refs_below("refs/heads/")? {
        let name = reference["refs/heads/".len()..].to_owned();
        if !context.is_reserved_branch(&name) {
            heads.push(Head { tree: repo.tree_of(commit)?, commit, branch: Some(name) });
        }
    }
    for head in heads {
        let listed = list_pins_of(repo, context, reader, &head).and_then(|mut lines| {
            lines.extend(list_orphaned(repo, context, reader, &head)?);
            Ok(lines)
        });
        match listed {
            Ok(lines) => {
                for line in lines {
                    if !report.pins.contains(&line) {
                        report.pins.push(line);
                    }
                }
            }
            Err(fault) => report.warnings.push(fault.message().to_owned()),
        }
    }
    // Each branch repeats what the canonical one says if that cannot be read.
    report.warnings.dedup();
    report.pins.sort_by(|one, two| (&one.branch, &one.path).cmp(&(&two.branch, &two.path)));
    Ok(report)
}

fn list_pins_of(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
    head: &Head,
) -> Result<Vec<PinLine>> {
    let today = reader.today();
    let branch = head.branch.as_deref();
    let place = branch.unwrap_or("HEAD");
    let is_canonical = branch == Some(context.config.branch.as_str());
    let mut lines = Vec::new();
    if is_canonical {
        let all = reader.read_tree(context.canonical.tree, &context.config.branch)?;
        for stored in list_current(StoredPin::list(&all, PinHome::Canonical), None) {
            let tree = find_named_tree(repo, context, &stored.pin.branch)?;
            lines.push(judge_pin(repo, context, &stored, tree, today)?);
        }
        return Ok(lines);
    }
    let (names, all) = reader.read_statements(context, head)?;
    for stored in list_current(all, names.as_ref()) {
        let tree = match (&names, stored.home) {
            (None, PinHome::Canonical) => find_named_tree(repo, context, &stored.pin.branch)?,
            _ => Some(head.tree),
        };
        lines.push(judge_pin(repo, context, &stored, tree, today)?);
    }
    if let Some(name) = branch.filter(|name| context.is_protected(name)) {
        let names = reader.branch_names(context, name);
        let own = reader.read_tree(head.tree, place)?;
        let own = StoredPin::list(&own, PinHome::Branch);
        let own = own.filter(|one| is_pin_of(&one.pin, Some(&names)));
        for stored in list_current(own, Some(&names)) {
            let line = judge_pin(repo, context, &stored, Some(head.tree), today)?;
            lines.push(line.with_note(format!(
                "`{place}` is protected: only pins on `{}` apply",
                context.config.branch
            )));
        }
    }
    lines.sort_by(|one, two| one.path.cmp(&two.path));
    Ok(lines)
}

/// Lists the pins in the commit of a branch that name no branch of this clone or of the remote.
fn list_orphaned(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
    head: &Head,
) -> Result<Vec<PinLine>> {
    let own = head.branch.as_ref().map(|name| reader.branch_names(context, name));
    let all = reader.read_tree(head.tree, head.branch.as_deref().unwrap_or("HEAD"))?;
    let mut lines = Vec::new();
    for stored in list_current(StoredPin::list(&all, PinHome::Branch), None) {
        let name = &stored.pin.branch;
        let is_own = own.as_ref().is_some_and(|own| own.contains(name));
        let is_canonical = head.tree == context.canonical.tree;
        if !is_own && !is_canonical && find_named_tree(repo, context, name)?.is_none() {
            let note = format!("there is no branch `{name}` here or at the remote");
            lines.push(PinLine::new(&stored, reader.today()).with_note(note));
        }
    }
    Ok(lines)
}

/// Returns the line of a pin, with the reason if it has no effect.
fn judge_pin(
    repo: &Repo,
    context: &SyncContext,
    stored: &StoredPin,
    tree: Option<Id>,
    today: Date,
) -> Result<PinLine> {
    let line = PinLine::new(stored, today);
    let path = &stored.pin.path;
    if !stored.pin.is_active(today) {
        return Ok(line);
    }
    if context.is_reserved_branch(&stored.pin.branch) {
        return Ok(line.with_note("nothing is synced on that branch".to_owned()));
    }
    let Some(tree) = tree else {
        return Ok(line.with_note("there is no such branch here".to_owned()));
    };
    Ok(match find_coverage(repo, context, tree, path)? {
        PinCoverage::Managed => {
            let is_same = repo.find_in_tree(tree, path)?
                == repo.find_in_tree(context.canonical.tree, path)?;
            let note = is_same.then(|| "same as canonical now".to_owned());
            PinLine { note, ..line }
        }
        PinCoverage::Unmanaged => line.with_note("it is not managed".to_owned()),
        PinCoverage::Nothing => line.with_note("it names nothing".to_owned()),
    })
}
