//! `promote`: applies the collected changes of the changes branch to the canonical branch, after a prompt.

use super::session::{Session, print_push_steps};
use super::{CommandResult, SUCCESS, landing};
use crate::cli::PromoteArgs;
use xtask_base::error::{Error, Result};
use xtask_base::words::{join_names, quote_for_shell};
use xtask_changes::changes_branch::PendingChange;
use xtask_changes::promote::{PromoteOutcome, PromoteSelection, promote_changes, select_changes};
use xtask_changes::report::render_conflicts;
use xtask_git::Repo;
use xtask_report as report;

pub(super) fn run(session: &Session, args: &PromoteArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let selection = select_changes(&repo.in_memory(), &args.branches, &session.tools())?;
    let PromoteSelection { context, canonical_branch, chosen, selected, series, .. } = &selection;
    session.warn_about_context(context);
    for one in &selection.manual {
        let (id, name) = (repo.short_id(one.commit.id), one.name());
        session.print_info(&format!(
            "{id} {name} was committed there manually and is skipped; `cargo xtask promote {id}` applies it"
        ));
    }
    let (branch, changes) = (&canonical_branch.branch, &context.config.changes_branch);
    if chosen.is_empty() {
        session.print_info(&format!("no changes are collected on `{changes}`"));
        return Ok(SUCCESS);
    }
    let remote = &context.config.remote;
    landing::show_commits(session, &repo, selected, series, &|at| {
        describe_moved_source(&repo, remote, &chosen[at])
    })?;
    if let Some((at, conflicts)) = series.first_conflict() {
        report::print_output(&render_conflicts(conflicts, branch))?;
        return Err(conflict_error(&selection, at));
    }
    let many = series.picked_count();
    if many == 0 {
        session.print_info(&format!("`{branch}` already has all of it"));
    }
    if !landing::confirm_commits(session, &repo, many, branch, (args.dry_run, args.yes))? {
        return Ok(SUCCESS);
    }
    let shown = selection.selected_changes();
    let promoted = promote_changes(&repo, &args.branches, &shown, &session.tools())?;
    print_outcome(session, &repo, &promoted, changes)?;
    Ok(SUCCESS)
}

fn conflict_error(selection: &PromoteSelection, at: usize) -> Error {
    let (name, branch) = (selection.chosen[at].name(), &selection.canonical_branch.branch);
    let earlier = selection.list_skipped_before(at);
    let refused =
        Error::negative(format!("`{name}` conflicts with `{branch}`; nothing was changed"));
    if !earlier.is_empty() {
        let earlier = join_names(&earlier, 5);
        return refused.with_hint(format!("it depends on {earlier}, which was not chosen"));
    }
    refused
        .with_hint(format!("on `{name}`, run `cargo xtask sync --merge`, then extract it again"))
        .with_hint("to apply the others without it, name them")
}

/// Returns a note if the source branch has new commits since it was extracted.
fn describe_moved_source(repo: &Repo, remote: &str, one: &PendingChange) -> Result<Option<String>> {
    let (Some(name), Some(from)) = (&one.branch, one.source_commit()) else { return Ok(None) };
    for at in [format!("refs/heads/{name}"), format!("refs/remotes/{remote}/{name}")] {
        let Some(tip) = repo.resolve_ref(&at)?.filter(|tip| *tip != from) else { continue };
        if !repo.has_object(from) || !repo.is_ancestor(tip, from)? {
            let typed = quote_for_shell(name);
            return Ok(Some(format!(
                "`{name}` has new commits since; `cargo xtask extract {typed}` collects it again"
            )));
        }
    }
    Ok(None)
}

fn print_outcome(
    session: &Session,
    repo: &Repo,
    promoted: &PromoteOutcome,
    changes: &str,
) -> Result<()> {
    let has_landed = promoted.landed.commits > 0;
    if has_landed {
        landing::print_landed(repo, &promoted.landed)?;
    }
    if let Some(why) = &promoted.kept_reason {
        report::print_warning(&format!(
            "`{changes}` was not updated: {why}; the next extract updates it"
        ));
    }
    if !promoted.waiting.is_empty() {
        session.print_info(&format!("still collected: {}", promoted.waiting.join(", ")));
    }
    if has_landed {
        print_push_steps(session, repo, &promoted.landed.branch);
    }
    Ok(())
}
