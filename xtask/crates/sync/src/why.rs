//! Explanation of the decision about one path: its rule, its class, its four versions, and the last
//! commits that changed it.
//!
//! ```text
//! setup/format.toml
//! managed by `setup/`
//! behind: …; sync will update it
//!   HEAD       file 1a2b3c4d5e
//! ```

use super::context::SyncContext;
use super::managed::ManagedPaths;
use super::pin_reader::PinReader;
use super::pins::{BranchPins, StoredPin, describe_days_left};
use super::plan::{PathAction, PlannedPath};
use super::run::{SyncInspection, SyncOptions, inspect_checkout};
use super::scan::ScanDepth;
use super::upstream::is_sync_commit;
use xtask_base::date::Date;
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::sanitize_line;
use xtask_config::{Pin, PinHome};
use xtask_git::{
    CommitInfo, FileMode, Id, IndexStatus, PathScope, Repo, Tools, TreeEntry, TreeItem,
    WorktreeItem,
};
use xtask_report::{BOLD, DIM, join_lines};

/// How many commits are searched for the last change of a path, per question; an older change is
/// not found.
const MAX_COMMITS: usize = 100_000;

/// The longest name that is shown, in characters.
const MAX_NAME: usize = 60;

/// Explains the decision about a path, as text.
pub fn explain_path(
    repo: &Repo,
    context: &SyncContext,
    path: &RepoPath,
    tools: &Tools<'_>,
) -> Result<String> {
    let branch = repo.current_branch();
    let managed = ManagedPaths::new(&context.config, branch.as_deref());
    let is_folder = path.to_disk_path(repo.root()).is_dir()
        || matches!(repo.find_in_tree(context.canonical.tree, path)?, Some(TreeItem::Folder(_)));
    let mut lines = vec![
        format!("{BOLD}{path}{BOLD:#}"),
        describe_rule(&managed, path, is_folder, branch.as_deref()),
    ];
    if is_folder {
        let reader = PinReader::new(repo, tools.world.now_seconds());
        lines.extend(explain_pins(&reader.read_branch(context, &repo.head()?)?, path));
    }
    if managed.contains_path(path.as_bytes()) && !is_folder {
        let (decision, is_anywhere) = explain_decision(repo, context, path, tools)?;
        lines.extend(decision);
        let tip = repo.head()?.commit;
        let own = "last change here";
        lines.extend(explain_history(repo, context, (own, tip), path, is_anywhere, tools)?);
    }
    Ok(join_lines(&lines))
}

/// Explains the history of a path on a branch (`None` for a detached HEAD) that need not be checked out: its rule, and
/// the last commits that changed it, as plain text.
pub fn explain_commit_path(
    repo: &Repo,
    context: &SyncContext,
    branch: Option<&str>,
    tip: Id,
    path: &RepoPath,
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    let managed = ManagedPaths::new(&context.config, branch);
    let mut lines = vec![describe_rule(&managed, path, false, branch)];
    let own = "last change on it";
    let history = explain_history(repo, context, (own, tip), path, true, tools)?;
    lines.extend(history.iter().map(|line| strip_styles(line)));
    Ok(lines)
}

/// Removes the styles of a line that is not for a terminal.
fn strip_styles(line: &str) -> String {
    line.replace(&DIM.to_string(), "").replace(&format!("{DIM:#}"), "")
}

fn describe_rule(
    managed: &ManagedPaths,
    path: &RepoPath,
    is_folder: bool,
    branch: Option<&str>,
) -> String {
    let rule = managed.describe_rule(path, is_folder);
    match managed.exception_pattern(path).filter(|_| managed.is_kept_by_branch(path)) {
        Some(pattern) => format!(
            "{rule}; but a `[[branch]]` rule excludes `{pattern}` on `{}`",
            branch.unwrap_or_default()
        ),
        None => rule,
    }
}

/// Returns the lines about class and action of a path and about its versions, and whether any branch
/// has it.
fn explain_decision(
    repo: &Repo,
    context: &SyncContext,
    path: &RepoPath,
    tools: &Tools<'_>,
) -> Result<(Vec<String>, bool)> {
    let is_anywhere = repo.find_in_tree(repo.head()?.tree, path)?.is_some()
        || repo.find_in_tree(context.canonical.tree, path)?.is_some();
    if !is_anywhere {
        return Ok((vec!["neither this branch nor the canonical one has it".to_owned()], false));
    }
    let options = SyncOptions { only: vec![path.clone()], ..SyncOptions::plain() };
    let inspection =
        inspect_checkout(repo, context.clone(), &options, ScanDepth::Everything, tools)?;
    let lines = match inspection {
        SyncInspection::OnCanonical(context) => {
            vec![format!("`{}` is the canonical branch", context.config.branch)]
        }
        SyncInspection::Planned(planned) => {
            let mut lines = match planned.plan.items.iter().find(|item| item.path() == path) {
                None => vec!["in-sync: identical to the canonical version".to_owned()],
                Some(item) => explain_item(repo, item),
            };
            lines.extend(explain_pins(&planned.pins, path));
            if planned.pinned_overlay().contains(path) {
                lines.extend(planned.describe_pinned_overlay());
            }
            let unused = planned.protected_pins(repo).into_iter();
            let unused = unused.filter(|stored| stored.pin.covers(path));
            lines.extend(unused.map(|stored| planned.describe_protected(&stored)));
            lines
        }
    };
    Ok((lines, true))
}

/// Returns the lines about the pins of a path: the one that applies, or else those that have lapsed.
fn explain_pins(pins: &BranchPins, path: &RepoPath) -> Vec<String> {
    if let Some(StoredPin { pin, home, .. }) = pins.find(path) {
        let Pin { until, reason, by, since, path: pinned, .. } = pin;
        let left = describe_days_left(pins.today(), *until);
        let place = match home {
            PinHome::Branch => "",
            PinHome::Upstream => ", at the upstream, not merged yet",
            PinHome::Canonical => ", on the canonical branch",
        };
        let (by, since) = (sanitize_line(by, MAX_NAME), Date::from_seconds(*since));
        return vec![format!(
            "pin of `{pinned}`: until {until} ({left}), by {by} on {since}{place}: {reason}"
        )];
    }
    let lapsed = pins.lapsed().filter(|stored| stored.pin.covers(path));
    lapsed
        .map(|stored| format!("pin of `{}` lapsed on {}", stored.pin.path, stored.pin.until))
        .collect()
}

fn explain_item(repo: &Repo, item: &PlannedPath) -> Vec<String> {
    let does = match item.action {
        PathAction::None => "nothing to do".to_owned(),
        PathAction::Keep => "sync keeps it".to_owned(),
        PathAction::Refuse => "sync does not write to it".to_owned(),
        action => format!("sync will {} it", action.name()),
    };
    let state = &item.state;
    let versions = [
        ("HEAD", describe_entry(repo, state.head)),
        ("index", describe_staged(repo, state.index)),
        ("file", describe_file(repo, &state.work)),
        ("canonical", describe_entry(repo, state.canonical)),
    ];
    let decision = format!("{}: {}; {does}", item.class.name(), item.reason());
    let versions = versions.iter().map(|(name, what)| format!("  {name:<10} {what}"));
    std::iter::once(decision).chain(versions).collect()
}

/// Returns the lines about the last commits that changed a path: from a tip, which `own` says, and the canonical one.
fn explain_history(
    repo: &Repo,
    context: &SyncContext,
    (own, tip): (&str, Id),
    path: &RepoPath,
    is_anywhere: bool,
    tools: &Tools<'_>,
) -> Result<[String; 3]> {
    let now = tools.world.now_seconds();
    let describe = |commit: Option<CommitInfo>| match commit {
        None => format!("{DIM}none{DIM:#}"),
        Some(commit) => format!(
            "{} {} {DIM}({}, {}){DIM:#}",
            repo.short_id(commit.id),
            commit.subject(),
            commit.author.name,
            format_ago(now, commit.author.seconds)
        ),
    };
    let find = |tip: Id| match is_anywhere {
        true => find_last_changes(repo, tip, path, context),
        false => Ok((None, None)),
    };
    let (changed, synced) = find(tip)?;
    let (canonical, _) = find(context.canonical.commit)?;
    Ok([
        format!("{own:<21}  {}", describe(changed)),
        format!("last canonical change  {}", describe(canonical)),
        format!("last synced            {}", describe(synced)),
    ])
}

/// Returns the newest commit that changed `path`, and the newest sync commit that did, starting at `tip`.
fn find_last_changes(
    repo: &Repo,
    tip: Id,
    path: &RepoPath,
    context: &SyncContext,
) -> Result<(Option<CommitInfo>, Option<CommitInfo>)> {
    let mut changed = None;
    let mut at = repo.read_commit(tip)?;
    for _ in 0..MAX_COMMITS {
        let here = repo.entry_at(at.tree, path)?;
        // In a shallow clone, the oldest commit counts as a root.
        let parent = at.parents.first().and_then(|parent| repo.read_commit(*parent).ok());
        let before = match &parent {
            Some(parent) => repo.entry_at(parent.tree, path)?,
            None => None,
        };
        if here != before {
            if is_sync_commit(&at, &context.config.identity) {
                return Ok((changed.or_else(|| Some(at.clone())), Some(at)));
            }
            changed = changed.or_else(|| Some(at.clone()));
        }
        match parent {
            Some(parent) => at = parent,
            None => break,
        }
    }
    Ok((changed, None))
}

fn describe_entry(repo: &Repo, entry: Option<TreeEntry>) -> String {
    match entry {
        None => "absent".to_owned(),
        Some(TreeEntry { mode, id }) => {
            let kind = match mode {
                FileMode::File => "file",
                FileMode::Executable => "executable",
                FileMode::Symlink => "symlink",
                FileMode::Gitlink => "submodule",
            };
            format!("{kind} {}", repo.short_id(id))
        }
    }
}

fn describe_staged(repo: &Repo, index: IndexStatus) -> String {
    match index {
        IndexStatus::IntentToAdd => "intent to add (`git add -N`)".to_owned(),
        IndexStatus::Conflict => "in conflict".to_owned(),
        IndexStatus::Absent | IndexStatus::Entry { .. } => describe_entry(repo, index.entry()),
    }
}

fn describe_file(repo: &Repo, work: &WorktreeItem) -> String {
    match work {
        WorktreeItem::Absent => "absent".to_owned(),
        WorktreeItem::Present(found) => describe_entry(repo, Some(found.entry)),
        WorktreeItem::Folder => "a folder".to_owned(),
        WorktreeItem::Special => "a device, pipe or socket".to_owned(),
        WorktreeItem::BelowSymlink(link) => format!("below the symlink `{link}`"),
        WorktreeItem::BelowFile(file) => format!("below the file `{file}`"),
    }
}
