//! `promote`: applies the collected changes of the changes branch to the canonical branch, after a prompt.

use super::session::{Session, print_push_steps};
use super::{CommandResult, SUCCESS};
use crate::cli::PromoteArgs;
use xtask_base::environment::format_rfc3339;
use xtask_base::error::{Error, Result};
use xtask_base::words::{join_names, pluralize, quote_for_shell};
use xtask_changes::changes_branch::PendingChange;
use xtask_changes::promote::{PromoteOutcome, PromoteSelection, promote_changes, select_changes};
use xtask_changes::reverse_sync::LandedCommits;
use xtask_git::Repo;
use xtask_report::changes::{ChangeCommitLine, render_conflicts};
use xtask_report::{self as report, Verbosity};
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &PromoteArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let choice = select_changes(&repo.in_memory(), &args.branches, &session.tools())?;
    session.warn_about_context(&choice.context);
    let branch = choice.canonical_branch.branch.clone();
    for one in &choice.manual {
        let id = repo.short_id(one.commit.id);
        session.print_info(&format!(
            "{id} {} was committed there manually and is skipped; `cargo xtask promote {id}` applies it",
            one.name()
        ));
    }
    if choice.chosen.is_empty() {
        session.print_info(&format!(
            "no changes are collected on `{}`",
            choice.context.config.changes_branch
        ));
        return Ok(SUCCESS);
    }
    show_commits(session, &repo, &choice)?;
    if let Some((at, found)) = choice.series.first_conflict() {
        let lines: Vec<_> =
            found.iter().map(|one| (one.describe(&branch), one.excerpt())).collect();
        report::print_output(&render_conflicts(&lines))?;
        let name = choice.chosen[at].name();
        let earlier: Vec<String> = choice.list_skipped_before(at);
        let refused =
            Error::negative(format!("`{name}` conflicts with `{branch}`; nothing was changed"));
        return Err(if earlier.is_empty() {
            refused
                .with_hint(format!(
                    "on `{name}`, run `cargo xtask sync --merge`, then extract it again"
                ))
                .with_hint("to apply the others without it, name them")
        } else {
            refused.with_hint(format!(
                "it depends on {}, which was not chosen",
                join_names(&earlier, 5)
            ))
        });
    }
    let many = choice.series.picked_count();
    if many == 0 {
        session.print_info(&format!("`{branch}` already has all of it"));
    }
    if args.dry_run && many == 0 {
        return Ok(SUCCESS);
    }
    if args.dry_run {
        session.print_info(&format!(
            "{} would be added to `{branch}`; nothing was written",
            pluralize(many, "commit")
        ));
        return Ok(SUCCESS);
    }
    repo.committer(session.world.now_seconds())?;
    let question = format!("Add {} to `{branch}`?", pluralize(many, "commit"));
    if many > 0 && !session.confirm(&question, args.yes)? {
        return Err(Error::negative("not confirmed; nothing was changed"));
    }
    let promoted =
        promote_changes(&repo, &args.branches, &choice.selected_changes(), &session.tools())?;
    print_outcome(session, &repo, &promoted, &choice.context.config.changes_branch)?;
    Ok(SUCCESS)
}

fn show_commits(session: &Session, repo: &Repo, choice: &PromoteSelection) -> Result<()> {
    if session.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    for (at, (one, item)) in choice.chosen.iter().zip(&choice.items).enumerate() {
        let author = &one.commit.author;
        let line = ChangeCommitLine {
            id: repo.short_id(one.commit.id),
            subject: one.commit.subject().to_owned(),
            author: format!("{}, {}", author.name, format_rfc3339(author.seconds)),
            note: choice.series.describe_item(repo, at).or(describe_moved_source(repo, one)?),
            files: item.changes.iter().map(|c| (c.action(), c.path.to_string())).collect(),
            left_out: choice.left_out[at].iter().map(ToString::to_string).collect(),
        };
        report::print_output(&line.render_text())?;
        if !choice.series.has_effect(at) {
            continue;
        }
        let paths: Vec<_> = item.changes.iter().map(|change| change.path.clone()).collect();
        repo.show_diff(one.commit.parents.first().copied(), one.commit.id, &paths, session.color)?;
    }
    Ok(())
}

/// Returns a note if the source branch has new commits since it was extracted.
fn describe_moved_source(repo: &Repo, one: &PendingChange) -> Result<Option<String>> {
    let (Some(name), Some(from)) = (&one.branch, one.source_commit()) else { return Ok(None) };
    let remote = context::read_context(repo)?.config.remote;
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
    let LandedCommits { branch, commits, tip } = &promoted.landed;
    if *commits > 0 {
        let (commits, tip) = (pluralize(*commits, "new commit"), repo.short_id(*tip));
        report::print_output(&format!("{commits} on `{branch}`, now {tip}\n"))?;
    }
    if let Some(why) = &promoted.kept_reason {
        report::print_warning(&format!(
            "`{changes}` was not updated: {why}; the next extract updates it"
        ));
    }
    if !promoted.waiting.is_empty() {
        session.print_info(&format!("still collected: {}", promoted.waiting.join(", ")));
    }
    if *commits > 0 {
        print_push_steps(session, repo, branch);
    }
    Ok(())
}
