//! `extract`: what a branch changes at managed paths, as one commit that waits to be taken in.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Extract;
use xtask_base::error::{Error, Result};
use xtask_base::words::{some_of, typed};
use xtask_changes::collect::{Clashing, Collected};
use xtask_changes::extract::{Aim, Extracted, collect};
use xtask_changes::source::source;
use xtask_changes::words::{Summary, comment};
use xtask_git::{Id, Named, Repo};
use xtask_report as report;
use xtask_report::intake::{ExtractReport, FileChange, SourceCommit, conflicts};
use xtask_review::finish::places;
use xtask_review::gh::{Gh, is_installed};
use xtask_sync::context::{self, Context};

pub(super) fn run(session: &Session, args: &Extract) -> Exit {
    let repo = session.repo()?;
    let context = context::read(&repo)?;
    let name = match (&args.branch, repo.branch_name()) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => name,
        (None, None) => {
            return Err(Error::usage("HEAD is detached, so there is no branch to extract")
                .hint("name the branch: `cargo xtask extract BRANCH`"));
        }
    };
    let is_changes = |name: &str| name == context.config.changes;
    let from = match is_changes(&name) {
        true => None,
        false => Some(source(&repo, &context, &name)?),
    };
    let Some(from) = from.filter(|from| !is_changes(&from.name)) else {
        return Err(Error::usage(format!("`{name}` is where changes are collected"))
            .hint("name the branch from which they come"));
    };
    check_outside(session, &repo, &context, args)?;
    let base = args.base.as_deref().map(|word| base(&repo, word)).transpose()?;
    let aim = Aim { branch: from.name, base, push: args.push, dry_run: args.dry_run };
    if args.push && !args.dry_run {
        session.story("talking to the remote …");
    }
    let extracted = match collect(&repo, &aim, &session.tools())? {
        Ok(extracted) => extracted,
        Err((context, clashing)) => return Err(refused(&context, &clashing, args.json)?),
    };
    let report = describe(&extracted, args);
    let summary = extracted.summary;
    for warning in &report.warnings {
        report::warn(warning);
    }
    if args.json {
        report::answer_json(&report)?;
    } else if !report.files.is_empty() || session.loudness == report::Loudness::Verbose {
        report::answer(&report.text())?;
    }
    if args.comment && !args.dry_run {
        say(session, &repo, &context, &report, summary.as_ref())?;
    }
    if !args.json && !report.files.is_empty() && !args.dry_run {
        let branch = typed(&report.branch);
        session.story(&format!("once it is approved: `cargo xtask promote {branch}`"));
        if !args.push && repo.has_remote(&context.config.remote) {
            session.story("nothing was pushed; `--push` does that, too");
        }
    }
    Ok(DONE)
}

fn base(repo: &Repo, word: &str) -> Result<Id> {
    match repo.named(word)? {
        Named::One(id) => Ok(id),
        Named::Range { .. } => {
            Err(Error::usage(format!("`{word}` is a range, and --base is one commit")))
        }
    }
}

/// What is asked of the outside must be there before anything is done.
fn check_outside(session: &Session, repo: &Repo, context: &Context, args: &Extract) -> Result<()> {
    let remote = &context.config.remote;
    if (args.push || args.comment) && !repo.has_remote(remote) {
        return Err(Error::unable(format!("there is no remote `{remote}`; nothing was done"))
            .hint(format!("`git remote add {remote} URL` adds it")));
    }
    if args.comment && !is_installed(&session.world) {
        return Err(Error::unable(
            "--comment needs `gh`, which is not installed; nothing was done",
        )
        .hint("https://cli.github.com has it; without --comment all else works"));
    }
    if args.comment && !places(repo, context, remote).is_some_and(|places| places.is_github()) {
        return Err(Error::unable(format!(
            "`{remote}` is not on GitHub, so there is nothing to comment on"
        ))
        .hint("`forge = \"github\"` in `setup/sync.toml` says that it is"));
    }
    Ok(())
}

fn describe(extracted: &Extracted, args: &Extract) -> ExtractReport {
    let Extracted { context, waiting, own, built, summary, kept } = extracted;
    let config = &context.config;
    let mut warnings = context.warnings.clone();
    if own.source.other.is_some() {
        warnings.push(format!(
            "`{}` and the one at `{}` have diverged; the one here was taken",
            own.source.name, config.remote
        ));
    }
    if let Some((stale, conflicts)) = &built.stale {
        let paths: Vec<String> = conflicts.iter().map(|one| one.path.to_string()).collect();
        warnings.push(format!(
            "{stale} conflicts with `{}` as it is now, in {}; until it is extracted again, `{}` \
             stays on an older canonical commit",
            config.branch,
            some_of(&paths, 5),
            config.changes
        ));
    }
    if let Some(why) = kept {
        warnings.push(format!("`{}` here was not renewed: {why}", config.changes));
    }
    let is_own = |one: &Collected| one.branch.as_ref() == Some(&own.source.name);
    if summary.is_none() && waiting.commits.iter().any(is_own) {
        let name = &own.source.name;
        warnings.push(format!("`{name}` changes nothing any more; its commit was taken away"));
    }
    let files = summary.iter().flat_map(|summary| &summary.files).map(|file| FileChange {
        path: file.path.clone(),
        action: file.action,
        added: file.lines.map(|(added, _)| added),
        removed: file.lines.map(|(_, removed)| removed),
    });
    let commits = summary.iter().flat_map(|summary| &summary.commits).map(|one| SourceCommit {
        id: one.id.clone(),
        subject: one.subject.clone(),
        author: one.author.clone(),
    });
    ExtractReport {
        schema: "xtask.extract/1",
        branch: own.source.name.clone(),
        source: own.source.tip.to_string(),
        changes: config.changes.clone(),
        commit: built.own.map(|id| id.to_string()),
        tip: (!built.waiting.is_empty()).then(|| built.tip.to_string()),
        dry_run: args.dry_run,
        pushed: args.push && !args.dry_run,
        waiting: built.waiting.clone(),
        warnings,
        files: files.collect(),
        commits: commits.collect(),
    }
}

/// Shows what conflicts, and says with whom.
fn refused(context: &Context, clashing: &Clashing, is_json: bool) -> Result<Error> {
    let Clashing { branch, with, conflicts: found } = clashing;
    let onto = if with.is_empty() { &context.config.branch } else { &context.config.changes };
    let lines: Vec<_> = found.iter().map(|one| (one.words(onto), one.excerpt())).collect();
    if !is_json {
        report::answer(&conflicts(&lines))?;
    }
    let changes = &context.config.changes;
    let error = if with.is_empty() {
        Error::no(format!(
            "`{branch}` conflicts with `{}`; `{changes}` is as it was",
            context.config.branch
        ))
        .hint(format!("on `{branch}`, `cargo xtask sync --merge` brings the two together"))
    } else {
        Error::no(format!(
            "`{branch}` conflicts with {}; `{changes}` is as it was",
            some_of(with, 5)
        ))
        .hint("promote one of them first, or let the branches agree on these lines")
    };
    Ok(match is_json {
        true => lines.into_iter().fold(error, |error, (line, _)| error.detail(line)),
        false => error,
    })
}

fn say(
    session: &Session,
    repo: &Repo,
    context: &Context,
    report: &ExtractReport,
    summary: Option<&Summary>,
) -> Result<()> {
    let config = &context.config;
    let Some(places) = places(repo, context, &config.remote) else { return Ok(()) };
    let gh = Gh { repo, project: &places.project, fork: places.fork.as_ref() };
    let text = comment(summary, &report.branch, &config.branch, &config.changes);
    let has_news = summary.is_some();
    match gh.comment(&report.branch, &text, has_news)? {
        Some(url) => {
            session.story(&format!("the comment on its pull request is up to date: {url}"))
        }
        None if has_news => {
            session.story(&format!("`{}` has no open pull request to comment on", report.branch))
        }
        None => {}
    }
    Ok(())
}
