//! The way of commits onto the canonical branch, shared by `promote` and `reverse-sync`: they are shown, confirmed and
//! landed, e.g. ``2 new commits on `orchestration-tools`, now 1a2b3c4d5e``.

use super::session::Session;
use xtask_base::error::{Error, Result};
use xtask_base::words::pluralize;
use xtask_changes::cherry_pick_range::CherryPickOutcome;
use xtask_changes::reverse_sync::LandedCommits;
use xtask_changes::source::SelectedCommit;
use xtask_git::Repo;
use xtask_report::{self as report, Verbosity};

/// Prints each commit: its managed files, the diff, and the files that are left out. `note` has a note for a commit
/// of which `series` has none.
pub(super) fn show_commits(
    session: &Session,
    repo: &Repo,
    selected: &[SelectedCommit],
    series: &CherryPickOutcome,
    note: &dyn Fn(usize) -> Result<Option<String>>,
) -> Result<()> {
    if session.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    for (at, one) in selected.iter().enumerate() {
        let note =
            series.describe_item(repo, at).map_or_else(|| note(at), |note| Ok(Some(note)))?;
        report::print_output(&one.render_text(repo, note.as_deref()))?;
        if series.has_effect(at) {
            let paths: Vec<_> = one.changes.iter().map(|change| change.path.clone()).collect();
            repo.show_diff(one.parent, one.commit.id, &paths, session.color)?;
        }
    }
    Ok(())
}

/// Asks whether `many` commits are to be added to `branch`. Returns `false` in a dry run, and an error if the user
/// says no.
pub(super) fn confirm_commits(
    session: &Session,
    repo: &Repo,
    many: usize,
    branch: &str,
    (dry_run, yes): (bool, bool),
) -> Result<bool> {
    let commits = pluralize(many, "commit");
    if dry_run {
        if many > 0 {
            let line = format!("{commits} would be added to `{branch}`; nothing was written");
            session.print_info(&line);
        }
        return Ok(false);
    }
    // The committer is checked before the prompt.
    repo.committer(session.world.now_seconds())?;
    if many > 0 && !session.confirm(&format!("Add {commits} to `{branch}`?"), yes)? {
        return Err(Error::negative("not confirmed; nothing was changed"));
    }
    Ok(true)
}

/// Prints the new commits of the canonical branch.
pub(super) fn print_landed(repo: &Repo, landed: &LandedCommits) -> Result<()> {
    let LandedCommits { branch, commits, tip } = landed;
    let (commits, tip) = (pluralize(*commits, "new commit"), repo.short_id(*tip));
    report::print_output(&format!("{commits} on `{branch}`, now {tip}\n"))
}
