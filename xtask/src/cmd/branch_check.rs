//! `branch check`: whether branches keep to the rules.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::BranchCheck;
use xtask_base::error::{Error, Kind, Result};
use xtask_branches::check::{By, Checked, check, commit_of, detached, missing};
use xtask_branches::facts::Look;
use xtask_branches::rules::{Merged, Since, Unknown, Weight};
use xtask_config::{Enforce, nearest};
use xtask_git::{Id, Named, Repo};
use xtask_report as report;
use xtask_report::branches::{BaseLine, BranchReport, BranchResult, CheckedLine, FindingLine};
use xtask_sync::context::{self, Context};

/// A branch and its commit, or why that is not known.
type Chosen = (String, Result<Id, Unknown>);

pub(super) fn run(session: &Session, args: &BranchCheck) -> Exit {
    let repo = session.repo()?;
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let look = Look::new(&repo, &context, session.world.now_seconds())?;
    let chosen = chosen(&repo, &context, args)?;
    let lines: Vec<CheckedLine> =
        chosen.into_iter().map(|(name, commit)| line(&check(&look, &name, commit))).collect();
    let result = lines.iter().map(|line| line.result).max().unwrap_or(BranchResult::NotAsked);
    let enforce = match context.branches.enforce {
        Enforce::Warn => "warn",
        Enforce::Refuse => "refuse",
    };
    let schema = "xtask.branch-check/1";
    let report = BranchReport { schema, enforce, result, branches: lines };
    if args.json {
        report::answer_json(&report)?;
    } else {
        report::answer(&report.text(session.loudness))?;
        if context.branches.rules.is_empty() {
            let branch = &context.config.branch;
            session.story(&format!("`setup/branches.toml` on `{branch}` has no rules yet"));
        }
    }
    Ok(match result {
        BranchResult::Broken => Kind::No.code(),
        BranchResult::Unknown => Kind::Unable.code(),
        BranchResult::Good | BranchResult::NotAsked => DONE,
    })
}

/// The branches to check, each with its commit.
fn chosen(repo: &Repo, context: &Context, args: &BranchCheck) -> Result<Vec<Chosen>> {
    if args.all {
        let broken = |why: String| Unknown { why, next: "`git fsck` checks it".to_owned() };
        let all = repo.branches_below("refs/heads/")?.into_iter();
        return Ok(all.map(|(name, commit)| (name, commit.map_err(broken))).collect());
    }
    if let Some(word) = &args.at {
        let [branch] = &args.branches[..] else {
            return Err(Error::usage("`--at` is about one branch, and several are named"));
        };
        let Named::One(commit) = repo.named(word)? else {
            return Err(Error::usage(format!("`{word}` names several commits")));
        };
        return Ok(vec![(branch.clone(), Ok(commit))]);
    }
    if args.branches.is_empty() {
        let Some(branch) = repo.branch_name() else {
            return Ok(vec![("HEAD".to_owned(), Err(detached()))]);
        };
        let commit = repo.resolve("HEAD")?.ok_or_else(|| Unknown {
            why: "it has no commit yet".to_owned(),
            next: "`git commit` makes the first".to_owned(),
        });
        return Ok(vec![(branch, commit)]);
    }
    let one = |branch: &String| Ok((branch.clone(), named(repo, context, args, branch)?));
    args.branches.iter().map(one).collect()
}

/// The commit of a branch that is named. In a checkout of a commit alone, as of a pull request, a branch that
/// is not known here stands for what is checked out.
fn named(
    repo: &Repo,
    context: &Context,
    args: &BranchCheck,
    branch: &str,
) -> Result<Result<Id, Unknown>> {
    if let Some(commit) = commit_of(repo, context, branch)? {
        return Ok(Ok(commit));
    }
    let is_detached = repo.branch_name().is_none() && args.branches.len() == 1;
    if let Some(head) = repo.resolve("HEAD")?.filter(|_| is_detached) {
        return Ok(Ok(head));
    }
    let known: Vec<String> =
        repo.branches_below("refs/heads/")?.into_iter().map(|(name, _)| name).collect();
    let near = nearest(branch, known.iter().map(String::as_str));
    if near.is_empty() {
        return Ok(Err(missing(context, branch)));
    }
    Err(Error::usage(format!("there is no branch `{branch}`{near}")))
}

fn line(checked: &Checked) -> CheckedLine {
    let result = match (checked.worst(), &checked.by) {
        (Some(Weight::Broken), _) => BranchResult::Broken,
        (Some(Weight::Unknown), _) => BranchResult::Unknown,
        (_, By::Rule(_)) => BranchResult::Good,
        (_, By::Shared | By::NoRule) => BranchResult::NotAsked,
    };
    let facts = checked.facts.as_ref();
    let age = facts.and_then(|facts| facts.age.as_ref().ok().copied().flatten());
    let base = facts.and_then(|facts| facts.base.as_ref()?.as_ref().ok());
    let findings = checked.findings.iter().map(|finding| FindingLine {
        about: finding.about.name(),
        result: match finding.about.weight() {
            Weight::Broken => BranchResult::Broken,
            Weight::Unknown => BranchResult::Unknown,
            Weight::Note => BranchResult::Good,
        },
        what: finding.what.clone(),
        next: finding.next.clone(),
    });
    CheckedLine {
        branch: checked.branch.clone(),
        commit: checked.commit.map(|commit| commit.to_string()),
        rule: match &checked.by {
            By::Rule(rule) => Some(rule.clone()),
            By::Shared | By::NoRule => None,
        },
        result,
        age_ms: age.map(|age| age.seconds.saturating_mul(1000)),
        age_since: age.map(|age| match age.since {
            Since::Made => "made",
            Since::OldestCommit => "commit",
        }),
        base: base.map(|base| BaseLine {
            name: base.name.clone(),
            ahead: base.own,
            behind: base.behind,
            fetched_ms: base.fetched_s.map(|seconds| seconds.saturating_mul(1000)),
            conflicts: base.conflicts.clone(),
            merged: base.merged.as_ref().map(|merged| match merged {
                Merged::Commits => "commits",
                Merged::Content { .. } => "content",
            }),
        }),
        findings: findings.collect(),
        summary: checked.summary(),
    }
}
