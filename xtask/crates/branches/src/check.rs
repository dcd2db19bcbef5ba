//! Check of one branch, shared by all commands and hooks that report about branches.
//!
//! ```text
//! "feature/a" at 1a2b… -> CheckedBranch { checked_by: Rule("feature/*"), findings: [TooOld], … }
//! ```

use serde::Serialize;

use super::facts::BranchInspector;
use super::names::{find_rule, suggest_name};
use super::rules::{
    BranchFacts, BranchFinding, Severity, UnknownReason, describe_facts, evaluate_rule,
    unknown_finding,
};
use xtask_base::error::{Error, Result};
use xtask_config::BranchRule;
use xtask_git::{Id, Repo};
use xtask_sync::context::SyncContext;

/// The result of a check.
#[derive(Clone, Debug)]
pub struct CheckedBranch {
    /// The branch without `refs/heads/`.
    pub branch: String,
    /// The commit; `None` if it could not be read.
    pub commit: Option<Id>,
    pub checked_by: CheckedBy,
    /// The facts; `None` if no rule applies or they could not be collected.
    pub facts: Option<BranchFacts>,
    /// The findings, the most severe first.
    pub findings: Vec<BranchFinding>,
}

/// The result of a check, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckVerdict {
    /// No rule applies to the branch.
    NotAsked,
    /// The branch meets its rule.
    Good,
    /// A fact is unknown, so the rule could not be checked.
    Unknown,
    Broken,
}

/// The rule that a branch was checked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedBy {
    /// The `match` glob of the rule.
    Rule(String),
    /// None: other branches are forked from it.
    Shared,
    /// None: no rule matches.
    NoRule,
}

impl CheckedBranch {
    /// Returns the highest severity of the findings.
    #[must_use]
    pub fn worst_severity(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.kind.severity()).max()
    }

    /// Returns the verdict that follows from the most severe finding.
    #[must_use]
    pub fn verdict(&self) -> CheckVerdict {
        match self.worst_severity() {
            Some(Severity::Broken) => CheckVerdict::Broken,
            Some(Severity::Unknown) => CheckVerdict::Unknown,
            Some(Severity::Note) | None => match &self.checked_by {
                CheckedBy::Rule(_) => CheckVerdict::Good,
                CheckedBy::Shared | CheckedBy::NoRule => CheckVerdict::NotAsked,
            },
        }
    }

    /// Describes a branch without findings in one line.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.checked_by {
            CheckedBy::Shared => "it is a shared branch, to which no rule applies".to_owned(),
            CheckedBy::NoRule => "no rule matches".to_owned(),
            CheckedBy::Rule(_) => self.facts.as_ref().map_or(String::new(), describe_facts),
        }
    }

    /// Renders the findings, one line each.
    #[must_use]
    pub fn render_findings(&self) -> Vec<String> {
        self.findings.iter().map(|finding| finding.to_line(&self.branch)).collect()
    }
}

/// Returns whether a branch is exempt from rules: it is its own base, protected or reserved for
/// sync.
#[must_use]
pub fn is_shared(context: &SyncContext, branch: &str) -> bool {
    let rule = find_rule(&context.branches.rules, branch);
    let is_own_base = rule.and_then(|rule| rule.base.as_deref()) == Some(branch);
    is_own_base || context.is_protected(branch) || context.is_reserved_branch(branch)
}

/// Returns whether a rule applies to the branch; if not, no fact is needed.
#[must_use]
pub fn needs_check(context: &SyncContext, branch: &str) -> bool {
    !context.branches.rules.is_empty()
        && !is_shared(context, branch)
        && find_rule(&context.branches.rules, branch).is_some()
}

/// Checks a branch. An error while reading it becomes a finding, so that it does not hide those of
/// other branches.
#[must_use]
pub fn check_branch(
    inspector: &BranchInspector<'_>,
    branch: &str,
    commit: Result<Id, UnknownReason>,
) -> CheckedBranch {
    let context = inspector.context;
    let (id, rule) = (commit.as_ref().ok().copied(), find_rule(&context.branches.rules, branch));
    let checked = |by, facts, findings| CheckedBranch {
        branch: branch.to_owned(),
        commit: id,
        checked_by: by,
        facts,
        findings,
    };
    if is_shared(context, branch) {
        return checked(CheckedBy::Shared, None, Vec::new());
    }
    let by = rule.map_or(CheckedBy::NoRule, |rule| CheckedBy::Rule(rule.name_glob.clone()));
    let commit = match commit {
        Ok(commit) => commit,
        Err(unknown) => return checked(by, None, vec![unknown_finding(&unknown)]),
    };
    let Some(rule) = rule else { return checked(by, None, Vec::new()) };
    match inspector.collect_facts(branch, commit, rule) {
        Ok(facts) => {
            let proposal = suggest_branch_name(inspector.repo, context, branch, rule);
            let findings = evaluate_rule(rule, &facts, proposal.as_deref());
            checked(by, Some(facts), findings)
        }
        Err(failure) => {
            let finding = unknown_finding(&unreadable_branch(&failure));
            checked(by, None, vec![finding])
        }
    }
}

fn unreadable_branch(failure: &Error) -> UnknownReason {
    let next = failure.hints().first().cloned();
    UnknownReason {
        reason: failure.to_string().replace('\n', " "),
        next_step: next.unwrap_or_else(|| "`git fsck` checks the repository".to_owned()),
    }
}

/// Suggests a valid name if the rule rejects the present one.
fn suggest_branch_name(
    repo: &Repo,
    context: &SyncContext,
    branch: &str,
    rule: &BranchRule,
) -> Option<String> {
    if rule.name.as_ref().is_none_or(|name| name.accepts(branch)) {
        return None;
    }
    suggest_name(&context.branches.rules, branch, &|name| is_name_free(repo, context, name))
}

/// Returns whether a branch of this name could be created: a valid name that is unused, and not
/// shared.
#[must_use]
pub fn is_name_free(repo: &Repo, context: &SyncContext, name: &str) -> bool {
    let remote = &context.config.remote;
    let refs = [format!("refs/heads/{name}"), format!("refs/remotes/{remote}/{name}")];
    repo.is_branch_name(name)
        && !is_shared(context, name)
        && refs.iter().all(|name| matches!(repo.resolve_ref(name), Ok(None)))
}

/// Returns the commit of the local branch, or of the remote-tracking branch as last fetched.
pub fn find_branch_commit(repo: &Repo, context: &SyncContext, branch: &str) -> Result<Option<Id>> {
    if let Some(local) = repo.resolve_ref(&format!("refs/heads/{branch}"))? {
        return Ok(Some(local));
    }
    repo.resolve_ref(&format!("refs/remotes/{}/{branch}", context.config.remote))
}
