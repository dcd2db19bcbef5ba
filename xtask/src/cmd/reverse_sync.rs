//! `reverse-sync`: the managed part of approved commits, into the canonical branch.

use super::session::Session;
use super::{DONE, Exit};
use crate::base::error::{Error, Kind, Result};
use crate::base::words::count;
use crate::base::world::rfc3339;
use crate::cli::ReverseSync;
use crate::intake::carry::PathChange;
use crate::intake::land::{Ground, ground, land, taken};
use crate::intake::resolve::{self, Went, moves_on};
use crate::intake::series::{Fate, Item, Series, carry_all};
use crate::intake::source::{Pick, Source, picks, source};
use crate::repo::{CommitInfo, Repo};
use crate::report::intake::{CommitLine, conflicts};
use crate::report::{self, Loudness};
use crate::sync::context::{self, Context};

/// How often the canonical branch may move while this runs.
const ROUNDS: usize = 4;

pub(super) fn run(session: &Session, args: &ReverseSync) -> Exit {
    let repo = session.repo()?;
    if args.continue_ {
        return go_on(session, &repo);
    }
    if args.abort {
        return abort(session, &repo);
    }
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let Some(branch) = &args.branch else { return Err(Error::usage("no branch was named")) };
    let source = source(&repo, &context, branch)?;
    let picks = picks(&repo, &context, &source, &args.commits, args.mainline)?;
    let proposal = Proposal::make(&repo.in_memory(), session, context, source, picks)?;
    show(session, &repo, &proposal)?;
    if let Some((at, found)) = proposal.series.conflict() {
        let branch = &proposal.ground.branch;
        let lines: Vec<_> = found.iter().map(|one| (one.words(branch), one.excerpt())).collect();
        report::answer(&conflicts(&lines))?;
        if args.resolve && !args.dry_run {
            return open(session, &repo, &proposal);
        }
        let id = repo.short(proposal.picks[at].commit.id);
        return Err(Error::no(format!("{id} conflicts with `{branch}`; nothing was changed"))
            .hint(
                "the same command with `--resolve` opens the conflict in a worktree of its own",
            ));
    }
    let many = proposal.series.made();
    let branch = &proposal.ground.branch;
    if many == 0 {
        session.story(&format!("`{branch}` has all of it already; nothing to do"));
        return Ok(DONE);
    }
    if args.dry_run {
        session.story(&format!(
            "{} would go on `{branch}`; nothing was written",
            count(many, "commit")
        ));
        return Ok(DONE);
    }
    // Who commits is asked before the user is.
    repo.committer(session.world.now_seconds())?;
    let question = format!("Put {} on `{branch}`?", count(many, "commit"));
    if !session.confirm(&question, args.yes)? {
        return Err(Error::no("nothing was changed"));
    }
    take(session, &repo, proposal)
}

/// What would be put on the canonical branch.
struct Proposal {
    context: Context,
    ground: Ground,
    source: Source,
    picks: Vec<Pick>,
    series: Series,
}

impl Proposal {
    /// Carries the commits in a repository that may be one in memory.
    fn make(
        repo: &Repo,
        session: &Session,
        context: Context,
        source: Source,
        picks: Vec<Pick>,
    ) -> Result<Proposal> {
        let ground = ground(repo, &context)?;
        let items: Vec<Item> = picks.iter().map(|pick| pick.item(repo, &source.name)).collect();
        let taken = taken(repo, ground.tip, source.tip)?;
        let committer = repo.committer(session.world.now_seconds()).ok();
        let disk = session.tools().disk;
        let onto = &ground.branch;
        let series = carry_all(repo, disk, ground.tip, &items, committer.as_ref(), &taken, onto)?;
        Ok(Proposal { context, ground, source, picks, series })
    }
}

/// Shows each commit: what of it goes there, the difference, and what is left out.
fn show(session: &Session, repo: &Repo, proposal: &Proposal) -> Result<()> {
    if session.loudness == Loudness::Quiet {
        return Ok(());
    }
    for (at, pick) in proposal.picks.iter().enumerate() {
        let note = match proposal.series.fates.get(at) {
            Some(Fate::Made { .. }) => None,
            Some(Fate::There) => Some("is there already, and skipped".to_owned()),
            Some(Fate::TakenAs(before)) => Some(format!(
                "was taken in before, as {}, and changed since; skipped",
                repo.short(*before)
            )),
            Some(Fate::Conflicts(_)) => Some("conflicts".to_owned()),
            None => Some("was not looked at any more".to_owned()),
        };
        report::answer(&line(repo, pick, note).text())?;
        if matches!(proposal.series.fates.get(at), Some(Fate::Made { .. } | Fate::Conflicts(_))) {
            let paths: Vec<_> = pick.changes.iter().map(|change| change.path.clone()).collect();
            repo.show_change(pick.parent, pick.commit.id, &paths, session.color)?;
        }
    }
    Ok(())
}

fn line(repo: &Repo, pick: &Pick, note: Option<String>) -> CommitLine {
    let CommitInfo { id, author, .. } = &pick.commit;
    CommitLine {
        id: repo.short(*id),
        subject: pick.commit.subject().to_owned(),
        author: format!("{}, {}", author.name, rfc3339(author.seconds)),
        note,
        files: pick
            .changes
            .iter()
            .map(|change| (action(change), change.path.to_string()))
            .collect(),
        left_out: pick.left_out.iter().map(ToString::to_string).collect(),
    }
}

fn action(change: &PathChange) -> &'static str {
    match (change.old, change.new) {
        (None, _) => "create",
        (_, None) => "delete",
        _ => "update",
    }
}

/// Writes the commits and moves the canonical branch, as often as others move it meanwhile.
fn take(session: &Session, repo: &Repo, first: Proposal) -> Exit {
    let tools = session.tools();
    let mut proposal = first;
    let shown = proposal.series.made();
    for _ in 0..ROUNDS {
        let Proposal { source, picks, .. } = proposal;
        proposal = Proposal::make(repo, session, context::read(repo)?, source, picks)?;
        let Proposal { context, ground, source, series, .. } = &proposal;
        if series.conflict().is_some() || series.made() > shown {
            return Err(Error::unable(format!(
                "`{}` has moved meanwhile, and this looks different now; nothing was changed",
                ground.branch
            ))
            .hint("run it again to see how"));
        }
        let message = format!("xtask: reverse-sync from {}", source.name);
        if series.made() == 0 || land(repo, context, ground, series.tip, &message, &tools)? {
            landed(session, repo, ground, series.made(), series.tip)?;
            return Ok(DONE);
        }
    }
    Err(moves_on())
}

fn landed(
    session: &Session,
    repo: &Repo,
    ground: &Ground,
    commits: usize,
    tip: crate::repo::Id,
) -> Result<()> {
    let branch = &ground.branch;
    report::answer(&format!(
        "{} on `{branch}`, now {}\n",
        count(commits, "new commit"),
        repo.short(tip)
    ))?;
    super::session::after_landing(session, repo, branch);
    Ok(())
}

fn open(session: &Session, repo: &Repo, proposal: &Proposal) -> Exit {
    repo.committer(session.world.now_seconds())?;
    // The same once more, with its objects on disk.
    let Proposal { context, source, picks, .. } = proposal;
    let real = Proposal::make(repo, session, context.clone(), source.clone(), picks.clone())?;
    let tools = session.tools();
    let went = resolve::open(repo, &real.ground, &source.name, picks, &real.series, &tools)?;
    tell(session, repo, &real.ground.branch, went)
}

fn go_on(session: &Session, repo: &Repo) -> Exit {
    let committer = repo.committer(session.world.now_seconds())?;
    let went = resolve::go_on(repo, &committer, &session.tools())?;
    let branch = context::read(repo)?.config.branch;
    tell(session, repo, &branch, went)
}

fn tell(session: &Session, repo: &Repo, branch: &str, went: Went) -> Exit {
    match went {
        Went::Landed { commits, tip } => {
            report::answer(&format!(
                "{} on `{branch}`, now {}\n",
                count(commits, "new commit"),
                repo.short(tip)
            ))?;
            super::session::after_landing(session, repo, branch);
            Ok(DONE)
        }
        Went::Nothing => {
            session.story(&format!("nothing is left of it: `{branch}` stays as it is"));
            Ok(DONE)
        }
        Went::Conflict { commit, folder, lines } => {
            let place = folder.display();
            session.story(&format!("{} is waiting to be resolved in {place}", repo.short(commit)));
            for line in lines {
                session.story(&format!("  {line}"));
            }
            session
                .story(&format!("  cd '{place}'       edit, and `git add` what you have resolved"));
            session.story(
                "  cargo xtask reverse-sync --continue   from any worktree; `--abort` gives up",
            );
            session.story(&format!("`{branch}` stays as it is until then"));
            Ok(Kind::No.code())
        }
    }
}

fn abort(session: &Session, repo: &Repo) -> Exit {
    let kept = resolve::abort(repo, &session.tools())?;
    session.story("given up; the canonical branch is as it was");
    if let Some(kept) = kept {
        session.story(&format!("what you had there is kept in {}", kept.display()));
    }
    Ok(DONE)
}
