//! `reverse-sync`: copies the managed part of approved commits into the canonical branch. For example, `reverse-sync
//! feature/ci abc1234` adds one commit to `orchestration-tools`.

use std::path::PathBuf;

use super::session::{Session, print_push_steps};
use super::{CommandResult, SUCCESS};
use crate::cli::ReverseSyncArgs;
use xtask_base::environment::format_rfc3339;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::words::pluralize;
use xtask_changes::cherry_pick_range::PickStatus;
use xtask_changes::resolve::{self, AbortOutcome, ResolveOutcome};
use xtask_changes::reverse_sync::{ReverseSyncProposal, land_proposal, propose_commits};
use xtask_changes::source::{SelectedCommit, SourceBranch, find_source_branch, resolve_commits};
use xtask_git::{CommitInfo, Id, Repo};
use xtask_report::changes::{ChangeCommitLine, render_conflicts};
use xtask_report::{self as report, Verbosity};
use xtask_sync::context::{self, SyncContext};

pub(super) fn run(session: &Session, args: &ReverseSyncArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if args.continue_ {
        return continue_resolving(session, &repo);
    }
    if args.abort {
        return abort_resolving(session, &repo);
    }
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let Some(branch) = &args.branch else { return Err(Error::usage("no branch was named")) };
    let source = find_source_branch(&repo, &context, branch)?;
    if args.commits.is_empty() {
        return Err(no_commit_error(&repo, &context, &source)?);
    }
    let picks = resolve_commits(&repo, &context, &source, &args.commits, args.mainline)?;
    let proposal = propose_commits(&repo.in_memory(), source, picks, &session.tools())?;
    show_commits(session, &repo, &proposal)?;
    if let Some((at, found)) = proposal.series.first_conflict() {
        let branch = &proposal.canonical_branch.branch;
        let lines: Vec<_> = found.iter().map(|one| (one.describe(branch), one.excerpt())).collect();
        report::print_output(&render_conflicts(&lines))?;
        if args.resolve && !args.dry_run {
            return open_conflict(session, &repo, &proposal);
        }
        let id = repo.short_id(proposal.selected[at].commit.id);
        return Err(Error::negative(format!(
            "{id} conflicts with `{branch}`; nothing was changed"
        ))
        .with_hint("add `--resolve` to resolve the conflict in a separate worktree"));
    }
    let many = proposal.series.picked_count();
    let branch = &proposal.canonical_branch.branch;
    if many == 0 {
        let has_changed =
            proposal.series.statuses.iter().any(|fate| matches!(fate, PickStatus::PickedBefore(_)));
        session.print_info(&match has_changed {
            true => {
                format!("`{branch}` already had all of it, and has changed it since; nothing to do")
            }
            false => format!("`{branch}` already has all of it; nothing to do"),
        });
        return Ok(SUCCESS);
    }
    if args.dry_run {
        session.print_info(&format!(
            "{} would be added to `{branch}`; nothing was written",
            pluralize(many, "commit")
        ));
        return Ok(SUCCESS);
    }
    // The committer is checked before the prompt.
    repo.committer(session.world.now_seconds())?;
    let question = format!("Add {} to `{branch}`?", pluralize(many, "commit"));
    if !session.confirm(&question, args.yes)? {
        return Err(Error::negative("not confirmed; nothing was changed"));
    }
    let taken = land_proposal(&repo, proposal, &session.tools())?;
    let went = ResolveOutcome::Landed { commits: taken.commits, tip: taken.tip };
    print_outcome(session, &repo, &taken.branch, went)
}

/// Returns the error for a missing COMMIT, with the candidates and a command to paste.
fn no_commit_error(repo: &Repo, context: &SyncContext, source: &SourceBranch) -> Result<Error> {
    let remote = &context.config.remote;
    let shared =
        context.branches.protected.iter().flat_map(|name| {
            [format!("refs/remotes/{remote}/{name}"), format!("refs/heads/{name}")]
        });
    // The newest point where the branch left the canonical or a protected branch.
    let mut tips = vec![context.canonical.commit];
    for name in shared {
        tips.extend(repo.resolve_ref(&name)?.filter(|tip| *tip != source.tip));
    }
    let mut base: Option<(usize, Id)> = None;
    for tip in tips {
        let Some(found) = repo.merge_base(source.tip, tip)? else { continue };
        let own = repo.count_commits_between(found, source.tip)?;
        if base.is_none_or(|(fewest, _)| own < fewest) {
            base = Some((own, found));
        }
    }
    let refused = Error::usage("no commit was named");
    let Some((_, base)) = base else { return Ok(refused) };
    let range = format!("{base}..{}", source.tip);
    let found = resolve_commits(repo, context, source, &[range], None)?;
    if found.is_empty() {
        return Ok(
            refused.with_hint(format!("no commit of `{}` changes a managed file", source.name))
        );
    }
    let lines = found.iter().map(|pick| {
        let files = pluralize(pick.changes.len(), "managed file");
        format!("{}  {}  ({files})", repo.short_id(pick.commit.id), pick.commit.subject())
    });
    let ids: Vec<String> = found.iter().map(|pick| repo.short_id(pick.commit.id)).collect();
    let refused = lines.fold(refused, Error::with_detail);
    Ok(refused.with_hint(format!(
        "all of them: `cargo xtask reverse-sync {} {}`",
        source.name,
        ids.join(" ")
    )))
}

/// Prints each commit: its managed files, the diff, and the files that are left out.
fn show_commits(session: &Session, repo: &Repo, proposal: &ReverseSyncProposal) -> Result<()> {
    if session.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    for (at, pick) in proposal.selected.iter().enumerate() {
        let note = proposal.series.describe_item(repo, at);
        report::print_output(&build_commit_line(repo, pick, note).render_text())?;
        if proposal.series.has_effect(at) {
            let paths: Vec<_> = pick.changes.iter().map(|change| change.path.clone()).collect();
            repo.show_diff(pick.parent, pick.commit.id, &paths, session.color)?;
        }
    }
    Ok(())
}

fn build_commit_line(repo: &Repo, pick: &SelectedCommit, note: Option<String>) -> ChangeCommitLine {
    let CommitInfo { id, author, .. } = &pick.commit;
    ChangeCommitLine {
        id: repo.short_id(*id),
        subject: pick.commit.subject().to_owned(),
        author: format!("{}, {}", author.name, format_rfc3339(author.seconds)),
        note,
        files: pick
            .changes
            .iter()
            .map(|change| (change.action(), change.path.to_string()))
            .collect(),
        left_out: pick.left_out.iter().map(ToString::to_string).collect(),
    }
}

fn open_conflict(session: &Session, repo: &Repo, proposal: &ReverseSyncProposal) -> CommandResult {
    repo.committer(session.world.now_seconds())?;
    // The proposal was built in memory; this one writes its objects to disk.
    let tools = session.tools();
    let real = propose_commits(repo, proposal.source.clone(), proposal.selected.clone(), &tools)?;
    let ReverseSyncProposal { canonical_branch: ground, source, selected: picks, series, .. } =
        &real;
    let before = resolve::list_kept_worktrees(repo);
    let went = resolve::open_conflict(repo, ground, &source.name, picks, series, &tools);
    print_kept_folders(session, repo, &before);
    let went = went?;
    print_outcome(session, repo, &ground.branch, went)
}

fn continue_resolving(session: &Session, repo: &Repo) -> CommandResult {
    let committer = repo.committer(session.world.now_seconds())?;
    let before = resolve::list_kept_worktrees(repo);
    let went = resolve::continue_resolution(repo, &committer, &session.tools());
    print_kept_folders(session, repo, &before);
    let went = went?;
    let branch = context::read_context(repo)?.config.branch;
    print_outcome(session, repo, &branch, went)
}

fn print_outcome(
    session: &Session,
    repo: &Repo,
    branch: &str,
    went: ResolveOutcome,
) -> CommandResult {
    match went {
        ResolveOutcome::Landed { commits, tip } => {
            report::print_output(&format!(
                "{} on `{branch}`, now {}\n",
                pluralize(commits, "new commit"),
                repo.short_id(tip)
            ))?;
            print_push_steps(session, repo, branch);
            Ok(SUCCESS)
        }
        ResolveOutcome::NothingLeft => {
            session.print_info(&format!("no changes are left: `{branch}` is unchanged"));
            Ok(SUCCESS)
        }
        ResolveOutcome::Conflict { commit, folder, descriptions: lines } => {
            let place = folder.display();
            session.print_info(&format!(
                "{} has conflicts; resolve them in {place}",
                repo.short_id(commit)
            ));
            for line in lines {
                session.print_info(&format!("  {line}"));
            }
            session.print_info(&format!(
                "  cd '{place}'       edit the files, and `git add` the resolved ones"
            ));
            session.print_info(
                "  cargo xtask reverse-sync --continue   from any worktree; or `--abort`",
            );
            session.print_info(&format!("`{branch}` is unchanged until then"));
            Ok(ErrorKind::Negative.exit_code())
        }
    }
}

/// Prints the folders to which earlier resolve worktrees were moved, because they were in the way or had untracked
/// files.
fn print_kept_folders(session: &Session, repo: &Repo, before: &[PathBuf]) {
    for folder in resolve::list_kept_worktrees(repo).iter().filter(|one| !before.contains(one)) {
        session.print_info(&format!("the previous folder is kept in {}", folder.display()));
    }
}

fn abort_resolving(session: &Session, repo: &Repo) -> CommandResult {
    let AbortOutcome { kept, settled } = resolve::abort_resolution(repo, &session.tools())?;
    session.print_info("aborted; the canonical branch is unchanged");
    if let Some(settled) = settled {
        session.print_info(&format!("the commits that were already resolved end with {settled}"));
    }
    if let Some(kept) = kept {
        let place = kept.display();
        session.print_info(&format!("your work there is kept in {place}"));
        session.print_info(&format!(
            "  git worktree remove --force '{place}'   once you no longer need it"
        ));
    }
    Ok(SUCCESS)
}
