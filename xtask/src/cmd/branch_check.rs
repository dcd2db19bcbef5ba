//! `branch check`: checks branches against `setup/branches.toml`; exit code 1 if a rule is broken, 3 if a result is
//! unknown.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::BranchCheckArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_branches::check::{
    CheckedBranch, CheckedBy, check_branch, detached_head, find_branch_commit, missing_branch,
};
use xtask_branches::facts::BranchInspector;
use xtask_branches::rules::{AgeBasis, MergeKind, Severity, UnknownReason};
use xtask_config::{Enforcement, suggest_nearest};
use xtask_git::{Id, Repo, Revision, UnusableRef};
use xtask_report as report;
use xtask_report::branches::{
    BranchBaseLine, BranchCheckLine, BranchCheckReport, BranchCheckResult, BranchFindingLine,
};
use xtask_sync::context::{self, SyncContext};

/// The name of a branch, and its commit or the reason why it is unknown.
type ChosenBranch = (String, Result<Id, UnknownReason>);

pub(super) fn run(session: &Session, args: &BranchCheckArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let look = BranchInspector::new(&repo, &context, session.world.now_seconds())?;
    let chosen = choose_branches(&repo, &context, args)?;
    let lines: Vec<BranchCheckLine> = chosen
        .into_iter()
        .map(|(name, commit)| build_branch_line(&check_branch(&look, &name, commit)))
        .collect();
    let result = lines.iter().map(|line| line.result).max().unwrap_or(BranchCheckResult::NotAsked);
    let enforce = match context.branches.enforce {
        Enforcement::Warn => "warn",
        Enforcement::Refuse => "refuse",
    };
    let schema = "xtask.branch-check/1";
    let report = BranchCheckReport { schema, enforce, result, branches: lines };
    if args.json {
        report::print_json(&report)?;
    } else {
        report::print_output(&report.render_text(session.verbosity))?;
        if context.branches.rules.is_empty() {
            let branch = &context.config.branch;
            session.print_info(&format!("`setup/branches.toml` on `{branch}` has no rules yet"));
        }
    }
    Ok(match result {
        BranchCheckResult::Broken => ErrorKind::Negative.exit_code(),
        BranchCheckResult::Unknown => ErrorKind::Unable.exit_code(),
        BranchCheckResult::Good | BranchCheckResult::NotAsked => SUCCESS,
    })
}

/// Returns the branches to check, each with its commit.
fn choose_branches(
    repo: &Repo,
    context: &SyncContext,
    args: &BranchCheckArgs,
) -> Result<Vec<ChosenBranch>> {
    if args.all {
        let broken = |why: UnusableRef| UnknownReason {
            reason: why.to_string(),
            next_step: "`git fsck` checks it".to_owned(),
        };
        let all = repo.branches_below("refs/heads/")?.into_iter();
        return Ok(all.map(|(name, commit)| (name, commit.map_err(broken))).collect());
    }
    if let Some(word) = &args.at {
        let [branch] = &args.branches[..] else {
            return Err(Error::usage("`--at` takes one branch, but several are named"));
        };
        let Revision::Commit(commit) = repo.parse_revision(word)? else {
            return Err(Error::usage(format!("`{word}` names several commits")));
        };
        return Ok(vec![(branch.clone(), Ok(commit))]);
    }
    if args.branches.is_empty() {
        let Some(branch) = repo.current_branch() else {
            return Ok(vec![("HEAD".to_owned(), Err(detached_head()))]);
        };
        let commit = repo.resolve_ref("HEAD")?.ok_or_else(|| UnknownReason {
            reason: "it has no commit yet".to_owned(),
            next_step: "`git commit` makes the first one".to_owned(),
        });
        return Ok(vec![(branch, commit)]);
    }
    let one =
        |branch: &String| Ok((branch.clone(), resolve_named_branch(repo, context, args, branch)?));
    args.branches.iter().map(one).collect()
}

/// Returns the commit of a named branch. In a detached checkout, as CI makes it for a pull request, an unknown
/// branch means HEAD.
fn resolve_named_branch(
    repo: &Repo,
    context: &SyncContext,
    args: &BranchCheckArgs,
    branch: &str,
) -> Result<Result<Id, UnknownReason>> {
    if let Some(commit) = find_branch_commit(repo, context, branch)? {
        return Ok(Ok(commit));
    }
    let is_detached = repo.current_branch().is_none() && args.branches.len() == 1;
    if let Some(head) = repo.resolve_ref("HEAD")?.filter(|_| is_detached) {
        return Ok(Ok(head));
    }
    let known: Vec<String> =
        repo.branches_below("refs/heads/")?.into_iter().map(|(name, _)| name).collect();
    let near = suggest_nearest(branch, known.iter().map(String::as_str));
    if near.is_empty() {
        return Ok(Err(missing_branch(context, branch)));
    }
    Err(Error::usage(format!("no such branch: `{branch}`{near}")))
}

fn build_branch_line(checked: &CheckedBranch) -> BranchCheckLine {
    let result = match (checked.worst_severity(), &checked.checked_by) {
        (Some(Severity::Broken), _) => BranchCheckResult::Broken,
        (Some(Severity::Unknown), _) => BranchCheckResult::Unknown,
        (_, CheckedBy::Rule(_)) => BranchCheckResult::Good,
        (_, CheckedBy::Shared | CheckedBy::NoRule) => BranchCheckResult::NotAsked,
    };
    let facts = checked.facts.as_ref();
    let age = facts.and_then(|facts| facts.age.as_ref().ok().copied().flatten());
    let base = facts.and_then(|facts| facts.base.as_ref()?.as_ref().ok());
    let findings = checked.findings.iter().map(|finding| BranchFindingLine {
        about: finding.kind.name(),
        result: match finding.kind.severity() {
            Severity::Broken => BranchCheckResult::Broken,
            Severity::Unknown => BranchCheckResult::Unknown,
            Severity::Note => BranchCheckResult::Good,
        },
        what: finding.message.clone(),
        next: finding.next_step.clone(),
    });
    BranchCheckLine {
        branch: checked.branch.clone(),
        commit: checked.commit.map(|commit| commit.to_string()),
        rule: match &checked.checked_by {
            CheckedBy::Rule(rule) => Some(rule.clone()),
            CheckedBy::Shared | CheckedBy::NoRule => None,
        },
        result,
        age_ms: age.map(|age| age.seconds.saturating_mul(1000)),
        age_since: age.map(|age| match age.basis {
            AgeBasis::CreationRecord => "made",
            AgeBasis::OldestCommit => "commit",
        }),
        base: base.map(|base| BranchBaseLine {
            name: base.name.clone(),
            ahead: base.own,
            behind: base.behind,
            fetched_ms: base.fetched_s.map(|seconds| seconds.saturating_mul(1000)),
            conflicts: base.conflicts.clone(),
            merged: base.merged.as_ref().map(|merged| match merged {
                MergeKind::Commits => "commits",
                MergeKind::Content { .. } => "content",
            }),
        }),
        findings: findings.collect(),
        summary: checked.describe(),
    }
}
