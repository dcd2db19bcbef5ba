//! Making rows true: in worktrees, by moving refs here, and by pushing.

use std::path::Path;

use super::decide::{Fate, Row};
use super::targets::Fleet;
use xtask_base::error::{Error, Kind, Result};
use xtask_base::words::count;
use xtask_git::Tools;
use xtask_git::{Head, InUse, Pushed, RefChange, RefPush, Repo};
use xtask_sync::context::Context;
use xtask_sync::enter::Enter as _;
use xtask_sync::gather::Depth;
use xtask_sync::manner::{canonical_files, is_no_part_of_this, no_part};
use xtask_sync::run::{Looked, Wishes, check_rules, look, look_to_write, write};
use xtask_sync::upstream::{only_sync_commits, source_of};

/// How a worktree is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InWorktree {
    /// To sync it.
    Write,
    /// To say what a sync would do.
    Look,
}

/// Whether a worktree has been switched away from the branch of a row.
fn is_elsewhere(repo: &Repo, root: &Path, row: &Row) -> bool {
    let there = repo.open_worktree(root).ok().and_then(|there| there.branch_name());
    there.is_some_and(|branch| branch != row.branch)
}

/// Syncs the branch of a row in the worktree that has it checked out; nothing where that has been
/// switched to another meanwhile, so that the branch is to be decided again.
pub fn in_worktree(
    repo: &Repo,
    root: &Path,
    row: Row,
    context: &Context,
    wishes: &Wishes,
    how: InWorktree,
    tools: &Tools<'_>,
) -> Option<Row> {
    let mut done = row.clone();
    match try_in_worktree(repo, root, &mut done, context, wishes, how, tools) {
        Ok(()) => Some(done),
        Err(_) if is_elsewhere(repo, root, &row) => None,
        Err(failure) => {
            let fate = if failure.kind() == Kind::Usage { Fate::Refused } else { Fate::Failed };
            Some(row.but(fate, format!("in `{}`: {failure}", root.display())))
        }
    }
}

fn try_in_worktree(
    repo: &Repo,
    root: &Path,
    row: &mut Row,
    context: &Context,
    wishes: &Wishes,
    how: InWorktree,
    tools: &Tools<'_>,
) -> Result<()> {
    let there = repo.open_worktree(root)?;
    row.why = Some(format!("in `{}`", root.display()));
    if there.awaits_checkout() {
        let why = format!("nothing is checked out yet in `{}`", root.display());
        *row = row.clone().but(Fate::Left, why);
        return Ok(());
    }
    let is_still_there = |head: &Head| {
        if head.branch.as_ref() == Some(&row.branch) {
            return Ok(());
        }
        Err(Error::unable(format!("`{}` has been switched away from meanwhile", row.branch)))
    };
    if how == InWorktree::Look {
        let looked = look(&there, context.clone(), wishes, Depth::Everything, tools)?;
        let Looked::Decided(decided) = looked else { return Ok(()) };
        is_still_there(&decided.head)?;
        row.count(&decided.plan, wishes.lists_in_sync);
        check_rules(&there, &decided, wishes)?;
        row.fate = if row.writes > 0 { Fate::InWorktree } else { Fate::Nothing };
        return Ok(());
    }
    let (_lock, _) = tools.enter(&there)?;
    is_still_there(&there.head()?)?;
    let looked = look(&there, context.clone(), wishes, Depth::Everything, tools)?;
    let Looked::Decided(decided) = looked else { return Ok(()) };
    let many = canonical_files(repo, context)?;
    if is_no_part_of_this(&there, &decided.head, context, &decided.plan, many)? {
        let why =
            format!("{}; `cargo xtask sync` there brings them", no_part(&row.branch, context));
        *row = row.clone().but(Fate::Left, why);
        return Ok(());
    }
    let (looked, moved) = look_to_write(&there, context.clone(), wishes, tools)?;
    let Looked::Decided(decided) = looked else { return Ok(()) };
    is_still_there(&decided.head)?;
    row.count(&decided.plan, wishes.lists_in_sync);
    let done = write(&there, *decided, wishes, tools)?;
    row.new = done.commit.or(moved);
    row.fate = if row.new.is_some() { Fate::InWorktree } else { Fate::Nothing };
    Ok(())
}

/// Moves the refs of the rows here. Answers with the branches that were not where they had been
/// seen, or were checked out meanwhile: they are to be decided again.
pub fn move_refs(
    repo: &Repo,
    rows: &mut [Row],
    context: &Context,
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    let message = format!("xtask: propagate from {}", context.config.branch);
    let is_in_use = |in_use: &[InUse], row: &Row| in_use.iter().any(|one| one.branch == row.target);
    repo.forget_refs();
    let in_use = repo.branches_in_use()?;
    let mut moved = Vec::new();
    tools.progress.begin("moving branches", None);
    let mut chosen = Vec::new();
    for (at, row) in rows.iter_mut().enumerate().filter(|(_, row)| row.fate == Fate::Moves) {
        if is_in_use(&in_use, row) {
            moved.push(row.branch.clone());
            continue;
        }
        match tools.disk.other("move a ref") {
            Ok(()) => chosen.push(at),
            Err(cause) => {
                *row = row.clone().but(Fate::Failed, format!("the ref cannot be moved: {cause}"))
            }
        }
    }
    let change = |at: &usize| {
        let row = &rows[*at];
        RefChange { name: format!("refs/heads/{}", row.target), old: row.old, new: row.new }
    };
    let changes: Vec<RefChange> = chosen.iter().map(change).collect();
    for (at, swapped) in chosen.into_iter().zip(repo.swap_refs(&changes, &message)) {
        let row = &mut rows[at];
        match swapped {
            Ok(true) => row.fate = Fate::Moved,
            Ok(false) => moved.push(row.branch.clone()),
            Err(failure) => *row = row.clone().but(Fate::Failed, failure.to_string()),
        }
    }
    if !rows.iter().any(|row| row.fate == Fate::Moved) {
        tools.progress.end();
        return Ok(moved);
    }
    // Whoever has checked out what one of them was would see the sync as staged, the other way round.
    repo.wait_for_switches()?;
    let in_use = repo.branches_in_use()?;
    let has_old = |row: &&mut Row| {
        let of = |one: &&InUse| one.branch == row.target && row.old.is_some();
        in_use.iter().filter(of).any(|one| one.commit == row.old)
    };
    for row in rows.iter_mut().filter(|row| row.fate == Fate::Moved).filter(has_old) {
        let name = format!("refs/heads/{}", row.target);
        if repo.swap_ref(&name, row.new, row.old, &message)? {
            moved.push(row.branch.clone());
        }
    }
    tools.progress.end();
    Ok(moved)
}

/// Pushes what the rows want to change at a remote, whose branches they are about. Answers as
/// `move_refs` does.
pub fn push_rows(repo: &Repo, remote: &str, rows: &mut [Row]) -> Result<Vec<String>> {
    let wanted: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].fate == Fate::Moves).collect();
    let refs: Vec<RefPush> = wanted
        .iter()
        .map(|at| {
            let row = &rows[*at];
            RefPush { name: format!("refs/heads/{}", row.target), old: row.old, new: row.new }
        })
        .collect();
    let mut moved = Vec::new();
    for (at, pushed) in wanted.iter().zip(repo.push_refs(remote, &refs)?) {
        let row = &mut rows[*at];
        match pushed {
            Pushed::Done => row.fate = Fate::Moved,
            Pushed::Moved => moved.push(row.branch.clone()),
            Pushed::Refused(why) => {
                *row = row.clone().but(Fate::Failed, format!("the remote refused it: {why}"));
            }
        }
    }
    Ok(moved)
}

/// Pushes the branches of the rows to where they are followed at a remote, as far as nothing goes
/// along that somebody has not pushed yet. Answers as `move_refs` does. What stands beside protected
/// branches here is not pushed: at the remote it is made from what the remote has.
pub fn push_branches(
    repo: &Repo,
    remote: &str,
    rows: &mut [Row],
    fleet: &Fleet,
    context: &Context,
) -> Result<Vec<String>> {
    let (mut wanted, mut refs) = (Vec::new(), Vec::<RefPush>::new());
    for (at, row) in rows.iter_mut().enumerate() {
        let is_done = matches!(row.fate, Fate::Moved | Fate::Nothing | Fate::InWorktree);
        if !is_done || row.target != row.branch {
            continue;
        }
        match what_to_push(repo, remote, row, fleet, context)? {
            Some(one) if refs.iter().any(|other| other.name == one.name) => {
                row.short_of("not pushed: another branch here follows the same one");
            }
            Some(one) => {
                wanted.push(at);
                refs.push(one);
            }
            None => {}
        }
    }
    let pushed = match repo.push_refs(remote, &refs) {
        Ok(pushed) => pushed,
        Err(failure) => {
            // The branches here are as they should be, and that has to be told as well.
            let why = failure.details().first().map_or(String::new(), |why| format!(": {why}"));
            let why = format!("not pushed: {}{why}", failure.what());
            wanted.iter().for_each(|at| rows[*at].short_of(&why));
            return Ok(Vec::new());
        }
    };
    let mut moved = Vec::new();
    for (at, pushed) in wanted.iter().zip(pushed) {
        let row = &mut rows[*at];
        match pushed {
            Pushed::Done => {
                if row.fate == Fate::Nothing {
                    row.fate = Fate::Pushed;
                }
                row.note("pushed");
            }
            Pushed::Moved => moved.push(row.branch.clone()),
            Pushed::Refused(why) => {
                row.short_of(&format!("not pushed: the remote refused it: {why}"))
            }
        }
    }
    Ok(moved)
}

/// Notes what would be pushed by a run that is not made.
pub fn say_what_would_be_pushed(
    repo: &Repo,
    remote: &str,
    rows: &mut [Row],
    fleet: &Fleet,
    context: &Context,
) -> Result<()> {
    for row in rows {
        let is_done = matches!(row.fate, Fate::Moves | Fate::Nothing | Fate::InWorktree);
        if !is_done || row.target != row.branch {
            continue;
        }
        let (before, is_news) = (row.why.clone(), row.fate != Fate::Nothing);
        let pushed = what_to_push(repo, remote, row, fleet, context)?.is_some();
        if pushed || is_news && row.why == before {
            row.note("would be pushed");
            row.fate = if is_news { row.fate } else { Fate::Pushed };
        }
    }
    Ok(())
}

/// What is said of a branch that nothing tells where to push.
pub const FOLLOWS_NOTHING: &str = "not pushed: it follows no branch there";

/// Where a branch is pushed, if it may be.
fn what_to_push(
    repo: &Repo,
    remote: &str,
    row: &mut Row,
    fleet: &Fleet,
    context: &Context,
) -> Result<Option<RefPush>> {
    let setting = |key: &str| repo.setting(&format!("branch.{}.{key}", row.branch));
    let name = setting("merge").filter(|_| setting("remote").as_deref() == Some(remote));
    let tip = repo.resolve(&format!("refs/heads/{}", row.branch))?;
    let (Some(name), Some(new)) = (name, tip) else {
        row.note(FOLLOWS_NOTHING);
        return Ok(None);
    };
    let Some(there) = name.strip_prefix("refs/heads/").map(str::to_owned) else { return Ok(None) };
    if there != row.branch || context.is_protected(&there) || context.is_apart(&there) {
        row.note(&format!("not pushed: it follows `{there}`"));
        return Ok(None);
    }
    let Some(old) = fleet.there.get(&there).copied() else {
        row.note(&format!("not pushed: `{remote}` does not have it any more"));
        return Ok(None);
    };
    if old == new {
        return Ok(None);
    }
    if repo.is_ancestor(new, old)? {
        // It goes there first, or has nothing that is not there.
        return Ok(None);
    }
    if !repo.is_ancestor(old, new)? {
        row.note("not pushed: it and its upstream have diverged");
        return Ok(None);
    }
    if !only_sync_commits(repo, old, new, context)? {
        let own = repo.count_between(old, new)?;
        row.note(&format!("not pushed: {} would go along", count(own, "commit")));
        return Ok(None);
    }
    for id in repo.between(Some(old), new, false)? {
        // What was brought up to date before may hold what nobody has pushed yet.
        let from = source_of(&repo.commit(id)?);
        let is_known = from.map(|from| repo.is_ancestor(from, context.canonical.commit));
        if !is_known.transpose()?.unwrap_or(false) {
            let canonical = &context.config.branch;
            row.note(&format!("not pushed: `{canonical}` itself is not pushed that far"));
            return Ok(None);
        }
    }
    Ok(Some(RefPush { name, old: Some(old), new: Some(new) }))
}
