//! `promote`: collected changes, into the canonical branch.

use super::session::{Session, after_landing};
use super::{DONE, Exit};
use crate::cli::Promote;
use xtask_base::error::{Error, Result};
use xtask_base::words::{count, some_of, typed};
use xtask_base::world::rfc3339;
use xtask_changes::collect::Collected;
use xtask_changes::promote::{Choice, Promoted, choose, take};
use xtask_changes::reverse::Taken;
use xtask_git::Repo;
use xtask_report::intake::{CommitLine, conflicts};
use xtask_report::{self as report, Loudness};
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &Promote) -> Exit {
    let repo = session.repo()?;
    let choice = choose(&repo.in_memory(), &args.branches, &session.tools())?;
    for warning in &choice.context.warnings {
        report::warn(warning);
    }
    let branch = choice.ground.branch.clone();
    for one in &choice.by_hand {
        let id = repo.short(one.commit.id);
        session.story(&format!(
            "{id} {} was put there by hand and stays; `cargo xtask promote {id}` takes it",
            one.name()
        ));
    }
    if choice.chosen.is_empty() {
        session.story(&format!("nothing is waiting on `{}`", choice.context.config.changes));
        return Ok(DONE);
    }
    show(session, &repo, &choice)?;
    if let Some((at, found)) = choice.series.conflict() {
        let lines: Vec<_> = found.iter().map(|one| (one.words(&branch), one.excerpt())).collect();
        report::answer(&conflicts(&lines))?;
        let name = choice.chosen[at].name();
        let earlier: Vec<String> = choice.left_before(at);
        let refused = Error::no(format!("`{name}` conflicts with `{branch}`; nothing was changed"));
        return Err(if earlier.is_empty() {
            refused
                .hint(format!("on `{name}`, `cargo xtask sync --merge`, then extract it again"))
                .hint("to take the others without it, name them")
        } else {
            refused.hint(format!("it builds on {}, which was not chosen", some_of(&earlier, 5)))
        });
    }
    let many = choice.series.made();
    if many == 0 {
        session.story(&format!("`{branch}` has all of it already"));
    }
    if args.dry_run && many == 0 {
        return Ok(DONE);
    }
    if args.dry_run {
        session.story(&format!(
            "{} would go on `{branch}`; nothing was written",
            count(many, "commit")
        ));
        return Ok(DONE);
    }
    repo.committer(session.world.now_seconds())?;
    let question = format!("Put {} on `{branch}`?", count(many, "commit"));
    if many > 0 && !session.confirm(&question, args.yes)? {
        return Err(Error::no("that was no `yes`, so nothing was changed"));
    }
    let promoted = take(&repo, &args.branches, &choice.content(), &session.tools())?;
    tell(session, &repo, &promoted, &choice.context.config.changes)?;
    Ok(DONE)
}

fn show(session: &Session, repo: &Repo, choice: &Choice) -> Result<()> {
    if session.loudness == Loudness::Quiet {
        return Ok(());
    }
    for (at, (one, item)) in choice.chosen.iter().zip(&choice.items).enumerate() {
        let author = &one.commit.author;
        let line = CommitLine {
            id: repo.short(one.commit.id),
            subject: one.commit.subject().to_owned(),
            author: format!("{}, {}", author.name, rfc3339(author.seconds)),
            note: choice.series.note(repo, at).or(has_moved_on(repo, one)?),
            files: item.changes.iter().map(|c| (c.action(), c.path.to_string())).collect(),
            left_out: choice.left_out[at].iter().map(ToString::to_string).collect(),
        };
        report::answer(&line.text())?;
        if !choice.series.is_of_interest(at) {
            continue;
        }
        let paths: Vec<_> = item.changes.iter().map(|change| change.path.clone()).collect();
        repo.show_change(
            one.commit.parents.first().copied(),
            one.commit.id,
            &paths,
            session.color,
        )?;
    }
    Ok(())
}

/// That a source has gone on since it was collected, if it has.
fn has_moved_on(repo: &Repo, one: &Collected) -> Result<Option<String>> {
    let (Some(name), Some(from)) = (&one.branch, one.made_from()) else { return Ok(None) };
    let remote = context::read(repo)?.config.remote;
    for at in [format!("refs/heads/{name}"), format!("refs/remotes/{remote}/{name}")] {
        let Some(tip) = repo.resolve(&at)?.filter(|tip| *tip != from) else { continue };
        if !repo.has_object(from) || !repo.is_ancestor(tip, from)? {
            let typed = typed(name);
            return Ok(Some(format!(
                "`{name}` has moved on since this was collected; `cargo xtask extract {typed}` renews it"
            )));
        }
    }
    Ok(None)
}

fn tell(session: &Session, repo: &Repo, promoted: &Promoted, changes: &str) -> Result<()> {
    let Taken { branch, commits, tip } = &promoted.taken;
    if *commits > 0 {
        let (commits, tip) = (count(*commits, "new commit"), repo.short(*tip));
        report::answer(&format!("{commits} on `{branch}`, now {tip}\n"))?;
    }
    if let Some(why) = &promoted.stays {
        report::warn(&format!("`{changes}` stays as it was: {why}; the next extract renews it"));
    }
    if !promoted.waiting.is_empty() {
        session.story(&format!("still waiting: {}", promoted.waiting.join(", ")));
    }
    if *commits > 0 {
        after_landing(session, repo, branch);
    }
    Ok(())
}
