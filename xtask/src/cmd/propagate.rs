//! `propagate`: the canonical state on every branch, without checking any out.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Propagate;
use xtask_base::error::{Error, Kind, Result};
use xtask_base::words::some_of;
use xtask_git::Repo;
use xtask_propagate::decide::{Fate, Row};
use xtask_propagate::deliver::FOLLOWS_NOTHING;
use xtask_propagate::run::{Aim, Outcome, propagate};
use xtask_propagate::targets::Fleet;
use xtask_report as report;
use xtask_report::propagate::{BranchFate, PathFate, PropagateReport};
use xtask_report::sync::CanonicalLine;
use xtask_review::finish::places;
use xtask_review::gh::{Gh, is_installed};
use xtask_review::request::Following;
use xtask_sync::classify::Class;
use xtask_sync::context::{self, Context};

pub(super) fn run(session: &Session, args: &Propagate) -> Exit {
    let repo = session.repo()?;
    if args.remote && !args.push && !args.dry_run {
        return Err(Error::usage(
            "--remote changes branches of the remote, and only a push does that",
        )
        .hint("add --push; or --dry-run, to see what would be pushed"));
    }
    let aim = Aim {
        patterns: args.globs.clone(),
        remote: args.remote,
        push: args.push,
        dry_run: args.dry_run,
        allow_mass_deletion: args.yes,
        lists: args.json,
    };
    if args.pr {
        check_forge(session, &repo)?;
    }
    if args.push && !args.dry_run {
        session.story("talking to the remote …");
    }
    let outcome = propagate(&repo, &aim, &session.tools())?;
    let mut code = code(&outcome);
    let is_cut = outcome.rows.values().any(|row| row.fate == Fate::Failed);
    if is_cut && session.tools().interrupts.arrived() {
        code = Kind::Interrupted.code();
    }
    if args.pr && !args.dry_run {
        let is_well =
            open_requests(session, &repo, &outcome) & close_requests(session, &repo, &outcome);
        code = if is_well { code } else { Kind::Unable.code().max(code) };
    }
    let elsewhere = match args.remote || !args.globs.is_empty() {
        true => Vec::new(),
        false => only_at_remote(&repo, &outcome.context)?,
    };
    let report = describe(outcome, args);
    if args.json {
        report::answer_json(&report)?;
        return Ok(code);
    }
    for warning in &report.warnings {
        report::warn(warning);
    }
    report::answer(&report.text(session.loudness))?;
    next_steps(session, args, &report);
    if !elsewhere.is_empty() {
        let (branches, them) = match elsewhere.len() {
            1 => ("1 branch is".to_owned(), "it"),
            number => (format!("{number} branches are"), "them"),
        };
        session.story(&format!(
            "{branches} only at the remote, and untouched: {}; `cargo xtask propagate --remote --push` brings \
             {them} up to date",
            some_of(&elsewhere, 5)
        ));
    }
    Ok(code)
}

/// The branches that would follow and are not in this clone, as the remote had them when it was last asked.
fn only_at_remote(repo: &Repo, context: &Context) -> Result<Vec<String>> {
    let there = Fleet::as_fetched(repo, &context.config.remote)?.targets(context, &[])?;
    let here = Fleet::here(repo)?.targets(context, &[])?;
    let is_here = |name: &String| here.iter().any(|target| target.branch == *name);
    Ok(there.into_iter().map(|target| target.branch).filter(|name| !is_here(name)).collect())
}

/// Pull requests need a service that `gh` can talk to, and that is found out before anything is done.
fn check_forge(session: &Session, repo: &Repo) -> Result<()> {
    let context = context::read(repo)?;
    let remote = &context.config.remote;
    if !is_installed(&session.world) {
        return Err(Error::unable("--pr needs `gh`, which is not installed; nothing was done")
            .hint("https://cli.github.com has it; without --pr all else works"));
    }
    if !repo.has_remote(remote) || !places(repo, &context, remote).is_some_and(|at| at.is_github())
    {
        return Err(Error::unable(format!("`{remote}` is not on GitHub; nothing was done"))
            .hint("`forge = \"github\"` in `setup/sync.toml` says that it is; without --pr all else works"));
    }
    Ok(())
}

/// Closes the requests of protected branches that have all they were for, and says why, where the
/// service has not done it with their branch. Says whether all went well.
fn close_requests(session: &Session, repo: &Repo, outcome: &Outcome) -> bool {
    let Outcome { context, rows } = outcome;
    let Some(places) = places(repo, context, &context.config.remote) else { return false };
    let gh = Gh { repo, project: &places.project, fork: None };
    let has_gone =
        |row: &&Row| row.fate == Fate::Moved && row.target != row.branch && row.new.is_none();
    let mut is_well = true;
    for row in rows.values().filter(has_gone) {
        let why =
            format!("`{}` has all of this by now; there is nothing left to merge.", row.branch);
        match gh.close(&row.target, &row.branch, &why) {
            Ok(true) => {
                session.story(&format!("the pull request of `{}` is closed: {why}", row.target))
            }
            Ok(false) => {}
            Err(failure) => {
                is_well = false;
                report::warn(&failure.to_string());
            }
        }
    }
    is_well
}

/// Opens or renews the requests of protected branches that wait. Says whether all went well.
fn open_requests(session: &Session, repo: &Repo, outcome: &Outcome) -> bool {
    let Outcome { context, rows } = outcome;
    let config = &context.config;
    let Some(places) = places(repo, context, &config.remote) else { return false };
    let gh = Gh { repo, project: &places.project, fork: None };
    let waits = |row: &&Row| {
        row.target != row.branch
            && matches!(row.fate, Fate::Moved | Fate::Pushed | Fate::Nothing)
            && row.old.or(row.new).is_some()
            && !(row.fate == Fate::Moved && row.new.is_none())
    };
    let mut is_well = true;
    for row in rows.values().filter(waits) {
        let letter = Following {
            branch: row.branch.clone(),
            beside: row.target.clone(),
            canonical: (config.branch.clone(), repo.short(context.canonical.commit)),
            files: row.writes,
        };
        match gh.deliver(&letter) {
            Ok(done) => {
                let what = if done.is_new { "opened" } else { "is up to date" };
                session.story(&format!("pull request for `{}` {what}: {}", row.branch, done.url));
            }
            Err(failure) => {
                is_well = false;
                report::warn(&format!("no pull request for `{}`: {failure}", row.branch));
            }
        }
    }
    is_well
}

/// The worst of what became of the branches.
fn code(outcome: &Outcome) -> u8 {
    let of = |row: &Row| match row.fate {
        Fate::Failed => Kind::Unable.code(),
        _ if row.is_short => Kind::Unable.code(),
        _ if row.counts.contains_key(&Class::Unknown) => Kind::Unable.code(),
        Fate::Refused => Kind::Usage.code(),
        _ => DONE,
    };
    outcome.rows.values().map(of).max().unwrap_or(DONE)
}

fn describe(outcome: Outcome, args: &Propagate) -> PropagateReport {
    let Outcome { context, rows } = outcome;
    PropagateReport {
        schema: "xtask.propagate/1",
        canonical: CanonicalLine {
            reference: context.canonical.reference,
            commit: context.canonical.commit.to_string(),
        },
        remote: args.remote.then_some(context.config.remote),
        dry_run: args.dry_run,
        warnings: context.warnings,
        branches: rows.into_values().map(line).collect(),
    }
}

fn line(row: Row) -> BranchFate {
    let count = |class| row.counts.get(&class).copied().unwrap_or(0);
    BranchFate {
        action: match row.fate {
            Fate::Moves | Fate::Moved if row.target != row.branch => "beside",
            fate => fate.name(),
        },
        target: (row.target != row.branch).then_some(row.target),
        old: row.old.map(|id| id.to_string()),
        new: row.new.map(|id| id.to_string()),
        reason: row.why,
        written: row.writes,
        short: row.is_short,
        behind: count(Class::Behind),
        customised: count(Class::Customised),
        edited: count(Class::Edited),
        untracked: count(Class::Untracked),
        unknown: count(Class::Unknown),
        paths: row
            .paths
            .into_iter()
            .map(|path| PathFate {
                path: path.path,
                class: path.class.name(),
                action: path.action.name(),
            })
            .collect(),
        branch: row.branch,
    }
}

fn next_steps(session: &Session, args: &Propagate, report: &PropagateReport) {
    let alone = report
        .branches
        .iter()
        .filter(|line| line.reason.as_ref().is_some_and(|reason| reason.contains(FOLLOWS_NOTHING)));
    match alone.count() {
        0 => {}
        many => session.story(&format!(
            "{} not pushed, because nothing says where to (`git branch -u`); `--remote --push` \
             does the branches that are there",
            if many == 1 { "1 branch was".to_owned() } else { format!("{many} branches were") }
        )),
    }
    let has_beside =
        report.branches.iter().any(|line| line.action == "beside" && line.new.is_some());
    if has_beside && !args.pr && !args.dry_run {
        session
            .story("a branch beside a protected one is for a pull request; `--remote --push --pr` does all of it");
    }
    let has = |action: &str| report.branches.iter().any(|line| line.action == action);
    if has("refused") {
        session.story("`--yes` also deletes more than half of the managed files of a branch");
    }
    if report.branches.iter().any(|line| line.unknown > 0) {
        session.story("`git fetch --unshallow` brings the history that decides what is behind");
    }
    if (has("update") || has("worktree") || has_beside) && !args.push && !args.dry_run {
        session.story("nothing was pushed; `cargo xtask propagate --push` does that, too");
    }
}
