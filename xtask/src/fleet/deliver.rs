//! Making rows true: in worktrees, by moving refs here, and by pushing.

use std::path::Path;

use super::decide::{Fate, Row};
use super::targets::Fleet;
use crate::base::error::{Error, Kind, Result};
use crate::base::words::count;
use crate::repo::{Head, Pushed, RefPush, Repo};
use crate::sync::context::{BESIDE, Context};
use crate::sync::gather::Depth;
use crate::sync::run::{Looked, Tools, Wishes, check_rules, look, look_to_write, write};
use crate::sync::upstream::only_sync_commits;

/// How a worktree is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InWorktree {
    /// To sync it.
    Write,
    /// To say what a sync would do.
    Look,
}

/// Syncs the branch of a row in the worktree that has it checked out.
pub fn in_worktree(
    repo: &Repo,
    root: &Path,
    row: Row,
    context: &Context,
    wishes: &Wishes,
    how: InWorktree,
    tools: &Tools<'_>,
) -> Row {
    let mut done = row.clone();
    match try_in_worktree(repo, root, &mut done, context, wishes, how, tools) {
        Ok(()) => done,
        Err(failure) => {
            let fate = if failure.kind() == Kind::Usage { Fate::Refused } else { Fate::Failed };
            row.but(fate, format!("in `{}`: {failure}", root.display()))
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
/// seen: they are to be decided again.
pub fn move_refs(
    repo: &Repo,
    rows: &mut [Row],
    context: &Context,
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    // Somebody may have checked one out since.
    let in_use = repo.branches_in_use()?;
    let seconds = tools.world.now_seconds();
    let message = format!("xtask: propagate from {}", context.config.branch);
    let mut moved = Vec::new();
    tools.progress.begin("moving branches", Some(rows.len() as u64));
    for row in rows {
        tools.progress.step(1);
        if row.fate != Fate::Moves {
            continue;
        }
        if in_use.iter().any(|one| one.branch == row.target) {
            moved.push(row.branch.clone());
            continue;
        }
        let name = format!("refs/heads/{}", row.target);
        let failed = |cause| Error::unable("the ref cannot be moved").because(cause);
        let swapped = tools
            .disk
            .other("move a ref")
            .map_err(failed)
            .and_then(|()| repo.swap_ref(&name, row.old, row.new, &message, seconds));
        match swapped {
            Ok(true) => row.fate = Fate::Moved,
            Ok(false) => moved.push(row.branch.clone()),
            Err(failure) => *row = row.clone().but(Fate::Failed, failure.to_string()),
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
    settle(rows, &wanted, repo.push_refs(remote, &refs)?)
}

/// Pushes the branches of the rows to where they are followed at a remote, as far as nothing goes
/// along that somebody has not pushed yet.
pub fn push_branches(
    repo: &Repo,
    remote: &str,
    rows: &mut [Row],
    fleet: &Fleet,
    context: &Context,
) -> Result<Vec<String>> {
    let (mut wanted, mut refs) = (Vec::new(), Vec::new());
    for (at, row) in rows.iter_mut().enumerate() {
        if matches!(row.fate, Fate::Left | Fate::Refused | Fate::Failed) {
            continue;
        }
        if let Some(one) = what_to_push(repo, remote, row, fleet, context)? {
            wanted.push(at);
            refs.push(one);
        }
    }
    settle(rows, &wanted, repo.push_refs(remote, &refs)?)
}

fn what_to_push(
    repo: &Repo,
    remote: &str,
    row: &mut Row,
    fleet: &Fleet,
    context: &Context,
) -> Result<Option<RefPush>> {
    let tip = repo.resolve(&format!("refs/heads/{}", row.target))?;
    if row.target.starts_with(BESIDE) {
        let old = fleet.there.get(&row.target).copied();
        let name = format!("refs/heads/{}", row.target);
        return Ok((old != tip).then_some(RefPush { name, old, new: tip }));
    }
    let setting = |key: &str| repo.setting(&format!("branch.{}.{key}", row.branch));
    let name = setting("merge").filter(|_| setting("remote").as_deref() == Some(remote));
    let (Some(name), Some(new)) = (name, tip) else { return Ok(None) };
    let Some((_, old)) = repo.upstream(&row.branch)? else { return Ok(None) };
    if !fleet.there.contains_key(name.trim_start_matches("refs/heads/")) {
        note(row, format!("not pushed: `{remote}` does not have it any more"));
        return Ok(None);
    }
    if old == new || context.is_protected(&row.branch) {
        return Ok(None);
    }
    if !repo.is_ancestor(old, new)? {
        note(row, "not pushed: it and its upstream have diverged".to_owned());
        return Ok(None);
    }
    if !only_sync_commits(repo, old, new, context)? {
        let own = repo.count_between(old, new)?;
        note(row, format!("not pushed: {} would go along", count(own, "commit")));
        return Ok(None);
    }
    Ok(Some(RefPush { name, old: Some(old), new: Some(new) }))
}

fn note(row: &mut Row, text: String) {
    row.why = Some(row.why.take().map_or(text.clone(), |why| format!("{why}; {text}")));
}

/// Notes what became of the refs that were pushed.
fn settle(rows: &mut [Row], wanted: &[usize], pushed: Vec<Pushed>) -> Result<Vec<String>> {
    let mut moved = Vec::new();
    for (at, pushed) in wanted.iter().zip(pushed) {
        let row = &mut rows[*at];
        match pushed {
            Pushed::Done if row.fate == Fate::Moves => row.fate = Fate::Moved,
            Pushed::Done => {
                if row.fate == Fate::Nothing {
                    row.fate = Fate::Pushed;
                }
                note(row, "pushed".to_owned());
            }
            Pushed::Moved => moved.push(row.branch.clone()),
            Pushed::Refused(why) => {
                *row = row.clone().but(Fate::Failed, format!("the remote refused it: {why}"));
            }
        }
    }
    Ok(moved)
}
