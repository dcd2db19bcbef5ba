//! One branch, checked: what everybody says who has something to say about it.

use super::facts::Look;
use super::names::{rule_for, would_do};
use super::rules::{Facts, Finding, Unknown, Weight, judge, summary, unknown_finding};
use xtask_base::error::{Error, Result};
use xtask_base::words::typed;
use xtask_config::BranchRule;
use xtask_git::{Id, Repo};
use xtask_sync::context::Context;

/// A branch that was checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// Its commit; nothing where it has none that could be looked at.
    pub commit: Option<Id>,
    /// What it was checked by.
    pub by: By,
    /// What is known of it, where it was looked at.
    pub facts: Option<Facts>,
    /// What is to be said, the most important first.
    pub findings: Vec<Finding>,
}

/// What a branch was checked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The rule for these branches.
    Rule(String),
    /// Nothing: others come from it.
    Shared,
    /// Nothing: no rule is about it.
    NoRule,
}

impl Checked {
    /// What all findings come to; nothing where there are none.
    #[must_use]
    pub fn worst(&self) -> Option<Weight> {
        self.findings.iter().map(|finding| finding.about.weight()).max()
    }

    /// In a line, where nothing is to be said.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.by {
            By::Shared => "it is shared, and no rule is asked about it".to_owned(),
            By::NoRule => "no rule is about it".to_owned(),
            By::Rule(_) => self.facts.as_ref().map_or(String::new(), summary),
        }
    }

    /// What is to be said, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.findings.iter().map(|finding| finding.line(&self.branch)).collect()
    }
}

/// Whether no rule is asked about a branch because it is not one of somebody's work.
#[must_use]
pub fn is_shared(context: &Context, branch: &str) -> bool {
    let rule = rule_for(&context.branches.rules, branch);
    let is_own_base = rule.and_then(|rule| rule.base.as_deref()) == Some(branch);
    is_own_base || context.is_protected(branch) || context.is_apart(branch)
}

/// Whether any rule is asked about a branch: if not, nothing has to be looked at.
#[must_use]
pub fn is_asked(context: &Context, branch: &str) -> bool {
    !context.branches.rules.is_empty()
        && !is_shared(context, branch)
        && rule_for(&context.branches.rules, branch).is_some()
}

/// Checks a branch that is at this commit. What cannot be looked at is a finding, and no failure: it must not
/// hide what is to be said of others.
#[must_use]
pub fn check(look: &Look<'_>, branch: &str, commit: Result<Id, Unknown>) -> Checked {
    let context = look.context;
    let (id, rule) = (commit.as_ref().ok().copied(), rule_for(&context.branches.rules, branch));
    let checked = |by, facts, findings| Checked {
        branch: branch.to_owned(),
        commit: id,
        by,
        facts,
        findings,
    };
    if is_shared(context, branch) {
        return checked(By::Shared, None, Vec::new());
    }
    let by = rule.map_or(By::NoRule, |rule| By::Rule(rule.matches.clone()));
    let commit = match commit {
        Ok(commit) => commit,
        Err(unknown) => return checked(by, None, vec![unknown_finding(&unknown)]),
    };
    let Some(rule) = rule else { return checked(by, None, Vec::new()) };
    match look.facts(branch, commit, rule) {
        Ok(facts) => {
            let proposal = proposal(look.repo, context, branch, rule);
            let findings = judge(rule, &facts, proposal.as_deref());
            checked(by, Some(facts), findings)
        }
        Err(failure) => {
            let finding = unknown_finding(&unreadable(&failure));
            checked(by, None, vec![finding])
        }
    }
}

fn unreadable(failure: &Error) -> Unknown {
    let next = failure.hints().first().cloned();
    Unknown {
        why: failure.to_string().replace('\n', " "),
        next: next.unwrap_or_else(|| "`git fsck` checks the repository".to_owned()),
    }
}

/// A name that would do, where the rule does not accept the one that a branch has.
fn proposal(repo: &Repo, context: &Context, branch: &str, rule: &BranchRule) -> Option<String> {
    if rule.name.as_ref().is_none_or(|name| name.accepts(branch)) {
        return None;
    }
    would_do(&context.branches.rules, branch, &|name| is_free(repo, context, name))
}

/// Whether a branch of this name could be made: git takes it, nobody has it, and it is nobody's base.
#[must_use]
pub fn is_free(repo: &Repo, context: &Context, name: &str) -> bool {
    let remote = &context.config.remote;
    let refs = [format!("refs/heads/{name}"), format!("refs/remotes/{remote}/{name}")];
    repo.is_branch_name(name)
        && !is_shared(context, name)
        && refs.iter().all(|name| matches!(repo.resolve(name), Ok(None)))
}

/// The commit of a branch as it is here: of the local one, or of the remote one as it was last fetched.
pub fn commit_of(repo: &Repo, context: &Context, branch: &str) -> Result<Option<Id>> {
    if let Some(local) = repo.resolve(&format!("refs/heads/{branch}"))? {
        return Ok(Some(local));
    }
    repo.resolve(&format!("refs/remotes/{}/{branch}", context.config.remote))
}

/// That there is no branch to check.
#[must_use]
pub fn detached() -> Unknown {
    Unknown {
        why: "HEAD is detached: no branch is known".to_owned(),
        next: "name the branch as which it is meant: `cargo xtask branch check NAME --at HEAD`"
            .to_owned(),
    }
}

/// That a branch is not there.
#[must_use]
pub fn missing(context: &Context, branch: &str) -> Unknown {
    let remote = &context.config.remote;
    Unknown {
        why: format!("it is neither here nor known of `{remote}`"),
        next: format!("`git fetch {} {}` gets it", typed(remote), typed(branch)),
    }
}
