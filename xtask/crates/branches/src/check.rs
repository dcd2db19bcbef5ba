//! One branch, checked: what everybody says who has something to say about it.

use super::facts::BranchInspector;
use super::names::{find_rule, suggest_name};
use super::rules::{
    BranchFacts, BranchFinding, Severity, UnknownReason, describe_facts, evaluate_rule,
    unknown_finding,
};
use xtask_base::error::{Error, Result};
use xtask_base::words::quote_for_shell;
use xtask_config::BranchRule;
use xtask_git::{Id, Repo};
use xtask_sync::context::SyncContext;

/// A branch that was checked.
#[derive(Clone, Debug)]
pub struct CheckedBranch {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// Its commit; nothing where it has none that could be looked at.
    pub commit: Option<Id>,
    /// What it was checked by.
    pub checked_by: CheckedBy,
    /// What is known of it, where it was looked at.
    pub facts: Option<BranchFacts>,
    /// What is to be said, the most important first.
    pub findings: Vec<BranchFinding>,
}

/// What a branch was checked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedBy {
    /// The rule for these branches.
    Rule(String),
    /// Nothing: others come from it.
    Shared,
    /// Nothing: no rule is about it.
    NoRule,
}

impl CheckedBranch {
    /// What all findings come to; nothing where there are none.
    #[must_use]
    pub fn worst_severity(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.kind.severity()).max()
    }

    /// In a line, where nothing is to be said.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.checked_by {
            CheckedBy::Shared => "it is shared, and no rule is asked about it".to_owned(),
            CheckedBy::NoRule => "no rule is about it".to_owned(),
            CheckedBy::Rule(_) => self.facts.as_ref().map_or(String::new(), describe_facts),
        }
    }

    /// What is to be said, a line each.
    #[must_use]
    pub fn render_findings(&self) -> Vec<String> {
        self.findings.iter().map(|finding| finding.to_line(&self.branch)).collect()
    }
}

/// Whether no rule is asked about a branch because it is not one of somebody's work.
#[must_use]
pub fn is_shared(context: &SyncContext, branch: &str) -> bool {
    let rule = find_rule(&context.branches.rules, branch);
    let is_own_base = rule.and_then(|rule| rule.base.as_deref()) == Some(branch);
    is_own_base || context.is_protected(branch) || context.is_reserved_branch(branch)
}

/// Whether any rule is asked about a branch: if not, nothing has to be looked at.
#[must_use]
pub fn needs_check(context: &SyncContext, branch: &str) -> bool {
    !context.branches.rules.is_empty()
        && !is_shared(context, branch)
        && find_rule(&context.branches.rules, branch).is_some()
}

/// Checks a branch that is at this commit. What cannot be looked at is a finding, and no failure: it must not
/// hide what is to be said of others.
#[must_use]
pub fn check_branch(
    look: &BranchInspector<'_>,
    branch: &str,
    commit: Result<Id, UnknownReason>,
) -> CheckedBranch {
    let context = look.context;
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
    match look.collect_facts(branch, commit, rule) {
        Ok(facts) => {
            let proposal = suggest_branch_name(look.repo, context, branch, rule);
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

/// A name that would do, where the rule does not accept the one that a branch has.
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

/// Whether a branch of this name could be made: git takes it, nobody has it, and it is nobody's base.
#[must_use]
pub fn is_name_free(repo: &Repo, context: &SyncContext, name: &str) -> bool {
    let remote = &context.config.remote;
    let refs = [format!("refs/heads/{name}"), format!("refs/remotes/{remote}/{name}")];
    repo.is_branch_name(name)
        && !is_shared(context, name)
        && refs.iter().all(|name| matches!(repo.resolve_ref(name), Ok(None)))
}

/// The commit of a branch as it is here: of the local one, or of the remote one as it was last fetched.
pub fn find_branch_commit(repo: &Repo, context: &SyncContext, branch: &str) -> Result<Option<Id>> {
    if let Some(local) = repo.resolve_ref(&format!("refs/heads/{branch}"))? {
        return Ok(Some(local));
    }
    repo.resolve_ref(&format!("refs/remotes/{}/{branch}", context.config.remote))
}

/// That there is no branch to check.
#[must_use]
pub fn detached_head() -> UnknownReason {
    UnknownReason {
        reason: "HEAD is detached: no branch is known".to_owned(),
        next_step:
            "name the branch as which it is meant: `cargo xtask branch check NAME --at HEAD`"
                .to_owned(),
    }
}

/// That a branch is not there.
#[must_use]
pub fn missing_branch(context: &SyncContext, branch: &str) -> UnknownReason {
    let remote = &context.config.remote;
    UnknownReason {
        reason: format!("it is neither here nor known of `{remote}`"),
        next_step: format!(
            "`git fetch {} {}` gets it",
            quote_for_shell(remote),
            quote_for_shell(branch)
        ),
    }
}
