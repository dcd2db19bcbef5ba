//! `extract`: collects a branch's changes of managed files as one commit on the changes branch, for review.
//!
//! ```text
//! feature/ci  ->  orchestration-tools-changes: canonical commit + one commit with the managed files of feature/ci
//! ```

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::ExtractArgs;
use xtask_base::error::{Error, Result};
use xtask_base::words::{join_names, quote_for_shell};
use xtask_changes::build_branch::MergeConflict;
use xtask_changes::commit_messages::{ExtractSummary, render_review_comment};
use xtask_changes::extract::{ExtractError, ExtractOptions, extract_changes};
use xtask_changes::report::render_conflicts;
use xtask_changes::source::find_source_branch;
use xtask_git::{Id, Repo, Revision};
use xtask_report as report;
use xtask_review::after_push::find_projects;
use xtask_review::gh::{GhClient, is_installed};
use xtask_sync::context::{self, SyncContext};

pub(super) fn run(session: &Session, args: &ExtractArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    let name = match (&args.branch, repo.current_branch()) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => name,
        (None, None) => {
            return Err(Error::usage("HEAD is detached, so there is no branch to extract")
                .with_hint("name the branch: `cargo xtask extract BRANCH`"));
        }
    };
    let is_changes = |name: &str| name == context.config.changes_branch;
    let from = match is_changes(&name) {
        true => None,
        false => Some(find_source_branch(&repo, &context, &name)?),
    };
    let Some(from) = from.filter(|from| !is_changes(&from.name)) else {
        return Err(Error::usage(format!("`{name}` is the changes branch itself"))
            .with_hint("name a source branch"));
    };
    check_remote_access(session, &repo, &context, args)?;
    let base = args.base.as_deref().map(|word| parse_base(&repo, word)).transpose()?;
    let aim = ExtractOptions { branch: from.name, base, push: args.push, dry_run: args.dry_run };
    if args.push && !args.dry_run {
        session.print_info("contacting the remote …");
    }
    let extracted = match extract_changes(&repo, &aim, &session.tools()) {
        Ok(extracted) => extracted,
        Err(ExtractError::Conflict(context, conflict)) => {
            return Err(conflict_error(&context, &conflict, args.json)?);
        }
        Err(ExtractError::Failed(failure)) => return Err(failure),
    };
    let report = extracted.to_report(args.dry_run, args.push);
    report.warnings.iter().for_each(|warning| report::print_warning(warning));
    if args.json {
        report::print_json(&report)?;
    } else if !report.files.is_empty() || session.verbosity == report::Verbosity::Verbose {
        report::print_output(&report.render_text())?;
    }
    if args.comment && !args.dry_run {
        post_comment(session, &repo, &context, report.branch, extracted.summary.as_ref())?;
    }
    if !args.json && !report.files.is_empty() && !args.dry_run {
        let branch = quote_for_shell(report.branch);
        session.print_info(&format!("once it is approved: `cargo xtask promote {branch}`"));
        if !args.push && repo.has_remote(&context.config.remote) {
            session.print_info("not pushed; use `--push` to push it");
        }
    }
    Ok(SUCCESS)
}

fn parse_base(repo: &Repo, word: &str) -> Result<Id> {
    match repo.parse_revision(word)? {
        Revision::Commit(id) => Ok(id),
        Revision::Range { .. } => {
            Err(Error::usage(format!("`{word}` is a range, but --base takes one commit")))
        }
    }
}

/// Checks the remote and `gh`, as far as `--push` and `--comment` need them, before anything is done.
fn check_remote_access(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    args: &ExtractArgs,
) -> Result<()> {
    let remote = &context.config.remote;
    if (args.push || args.comment) && !repo.has_remote(remote) {
        return Err(Error::unable(format!("no such remote: `{remote}`; nothing was done"))
            .with_hint(format!("`git remote add {remote} URL` adds it")));
    }
    if args.comment && !is_installed(&session.world) {
        return Err(Error::unable("`gh` not found, but --comment needs it; nothing was done")
            .with_hint("install it from https://cli.github.com, or leave out --comment"));
    }
    if args.comment
        && !find_projects(repo, context, remote).is_some_and(|places| places.is_github())
    {
        return Err(Error::unable(format!(
            "`{remote}` is not on GitHub, so there is no pull request to comment on"
        ))
        .with_hint("if it is, set `forge = \"github\"` in `setup/sync.toml`"));
    }
    Ok(())
}

/// Prints the conflicts, unless `is_json`, and returns the error that names the branches in conflict.
fn conflict_error(context: &SyncContext, clashing: &MergeConflict, is_json: bool) -> Result<Error> {
    let MergeConflict { branch, with, conflicts: found } = clashing;
    let onto =
        if with.is_empty() { &context.config.branch } else { &context.config.changes_branch };
    if !is_json {
        report::print_output(&render_conflicts(found, onto))?;
    }
    let changes = &context.config.changes_branch;
    let error = if with.is_empty() {
        Error::negative(format!(
            "`{branch}` conflicts with `{}`; `{changes}` is unchanged",
            context.config.branch
        ))
        .with_hint(format!("on `{branch}`, `cargo xtask sync --merge` merges the two"))
    } else {
        Error::negative(format!(
            "`{branch}` conflicts with {}; `{changes}` is unchanged",
            join_names(with, 5)
        ))
        .with_hint("promote one of them first, or make these lines the same on both branches")
    };
    let lines = found.iter().filter(|_| is_json).map(|one| one.describe(onto));
    Ok(lines.fold(error, Error::with_detail))
}

fn post_comment(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    branch: &str,
    summary: Option<&ExtractSummary>,
) -> Result<()> {
    let config = &context.config;
    let Some(places) = find_projects(repo, context, &config.remote) else { return Ok(()) };
    let gh = GhClient { repo, project: &places.project, fork: places.fork.as_ref() };
    let text = render_review_comment(summary, branch, &config.branch, &config.changes_branch);
    let has_news = summary.is_some();
    match gh.upsert_comment(branch, &text, has_news)? {
        Some(url) => {
            session.print_info(&format!("the comment on its pull request is up to date: {url}"))
        }
        None if has_news => {
            session.print_info(&format!("`{branch}` has no open pull request to comment on"));
        }
        None => {}
    }
    Ok(())
}
