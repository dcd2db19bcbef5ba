//! `reverse-sync`: the managed part of approved commits, into the canonical branch.

use std::path::PathBuf;

use super::session::{Session, after_landing};
use super::{DONE, Exit};
use crate::cli::ReverseSync;
use xtask_base::error::{Error, Kind, Result};
use xtask_base::words::count;
use xtask_base::world::rfc3339;
use xtask_changes::resolve::{self, Aborted, Went};
use xtask_changes::reverse::{Proposal, propose, take};
use xtask_changes::series::Fate;
use xtask_changes::source::{Pick, Source, picks, source};
use xtask_git::{CommitInfo, Id, Repo};
use xtask_report::intake::{CommitLine, conflicts};
use xtask_report::{self as report, Loudness};
use xtask_sync::context::{self, Context};

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
    if args.commits.is_empty() {
        return Err(no_commit(&repo, &context, &source)?);
    }
    let picks = picks(&repo, &context, &source, &args.commits, args.mainline)?;
    let proposal = propose(&repo.in_memory(), source, picks, &session.tools())?;
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
        let has_changed = proposal.series.fates.iter().any(|fate| matches!(fate, Fate::TakenAs(_)));
        session.story(&match has_changed {
            true => format!("`{branch}` had all of it, and has changed it since; nothing to do"),
            false => format!("`{branch}` has all of it already; nothing to do"),
        });
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
        return Err(Error::no("that was no `yes`, so nothing was changed"));
    }
    let taken = take(&repo, proposal, &session.tools())?;
    let went = Went::Landed { commits: taken.commits, tip: taken.tip };
    tell(session, &repo, &taken.branch, went)
}

/// The commits of a branch that could be named, with a line to paste.
fn no_commit(repo: &Repo, context: &Context, source: &Source) -> Result<Error> {
    let remote = &context.config.remote;
    let shared =
        context.branches.protected.iter().flat_map(|name| {
            [format!("refs/remotes/{remote}/{name}"), format!("refs/heads/{name}")]
        });
    // Where it has left what everybody has: the newest such place.
    let mut tips = vec![context.canonical.commit];
    for name in shared {
        tips.extend(repo.resolve(&name)?.filter(|tip| *tip != source.tip));
    }
    let mut base: Option<(usize, Id)> = None;
    for tip in tips {
        let Some(found) = repo.merge_base(source.tip, tip)? else { continue };
        let own = repo.count_between(found, source.tip)?;
        if base.is_none_or(|(fewest, _)| own < fewest) {
            base = Some((own, found));
        }
    }
    let refused = Error::usage("no commit was named");
    let Some((_, base)) = base else { return Ok(refused) };
    let range = format!("{base}..{}", source.tip);
    let found = picks(repo, context, source, &[range], None)?;
    if found.is_empty() {
        return Ok(refused.hint(format!("no commit of `{}` changes a managed file", source.name)));
    }
    let lines = found.iter().map(|pick| {
        let files = count(pick.changes.len(), "managed file");
        format!("{}  {}  ({files})", repo.short(pick.commit.id), pick.commit.subject())
    });
    let ids: Vec<String> = found.iter().map(|pick| repo.short(pick.commit.id)).collect();
    let refused = lines.fold(refused, Error::detail);
    Ok(refused.hint(format!(
        "all of them: `cargo xtask reverse-sync {} {}`",
        source.name,
        ids.join(" ")
    )))
}

/// Shows each commit: what of it goes there, the difference, and what is left out.
fn show(session: &Session, repo: &Repo, proposal: &Proposal) -> Result<()> {
    if session.loudness == Loudness::Quiet {
        return Ok(());
    }
    for (at, pick) in proposal.picks.iter().enumerate() {
        let note = proposal.series.note(repo, at);
        report::answer(&line(repo, pick, note).text())?;
        if proposal.series.is_of_interest(at) {
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
            .map(|change| (change.action(), change.path.to_string()))
            .collect(),
        left_out: pick.left_out.iter().map(ToString::to_string).collect(),
    }
}

fn open(session: &Session, repo: &Repo, proposal: &Proposal) -> Exit {
    repo.committer(session.world.now_seconds())?;
    // The same once more, with its objects on disk.
    let tools = session.tools();
    let real = propose(repo, proposal.source.clone(), proposal.picks.clone(), &tools)?;
    let Proposal { ground, source, picks, series, .. } = &real;
    let before = resolve::put_aside_before(repo);
    let went = resolve::open(repo, ground, &source.name, picks, series, &tools);
    tell_put_aside(session, repo, &before);
    let went = went?;
    tell(session, repo, &ground.branch, went)
}

fn go_on(session: &Session, repo: &Repo) -> Exit {
    let committer = repo.committer(session.world.now_seconds())?;
    let before = resolve::put_aside_before(repo);
    let went = resolve::go_on(repo, &committer, &session.tools());
    tell_put_aside(session, repo, &before);
    let went = went?;
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
            after_landing(session, repo, branch);
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

/// Tells where a worktree has gone that was in the place of this one, or held what git does not track.
fn tell_put_aside(session: &Session, repo: &Repo, before: &[PathBuf]) {
    for folder in resolve::put_aside_before(repo).iter().filter(|one| !before.contains(one)) {
        session.story(&format!("what lay there before is kept in {}", folder.display()));
    }
}

fn abort(session: &Session, repo: &Repo) -> Exit {
    let Aborted { kept, settled } = resolve::abort(repo, &session.tools())?;
    session.story("given up; the canonical branch is as it was");
    if let Some(settled) = settled {
        session.story(&format!("the commits that were settled end with {settled}"));
    }
    if let Some(kept) = kept {
        let place = kept.display();
        session.story(&format!("what you had there is kept in {place}"));
        session.story(&format!(
            "  git worktree remove --force '{place}'   once it is not needed any more"
        ));
    }
    Ok(DONE)
}
