//! Evaluation of branch rules: from a rule and the facts about a branch to findings.
//!
//! Every finding names the next command to type. A branch that is merged into its base is reported
//! as stale, and apart from its name no other rule is checked.
//!
//! ```text
//! `feature/a` is 201 commits behind `origin/main`, more than the limit of 200; `git merge …` …
//! ```

use serde::{Serialize, Serializer};

use xtask_base::words::{join_names, pluralize, quote_for_shell};
use xtask_config::BranchRule;

const DAY_S: i64 = 24 * 60 * 60;

/// Age of the last fetch of a base, in seconds, from which it is reported: after a week the base is
/// likely to have newer commits.
const STALE_FETCH_S: i64 = 7 * DAY_S;

/// The most conflicting paths in a message.
const MAX_PATHS_SHOWN: usize = 5;

/// The reason why a fact is unknown, and a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownReason {
    pub reason: String,
    /// The command to type next.
    pub next_step: String,
}

/// The facts about a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchFacts {
    /// The branch without `refs/heads/`.
    pub branch: String,
    /// The age; `Ok(None)` if the branch has no commits of its own yet.
    pub age: Result<Option<BranchAge>, UnknownReason>,
    /// The comparison with the base; `None` if the rule has no `base`.
    pub base: Option<Result<BaseFacts, UnknownReason>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchAge {
    pub seconds: i64,
    /// The source of the age.
    pub basis: AgeBasis,
}

/// The source of an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AgeBasis {
    /// Our record of the branch's creation.
    #[serde(rename = "made")]
    CreationRecord,
    /// The oldest commit that only the branch has.
    #[serde(rename = "commit")]
    OldestCommit,
}

/// The comparison of a branch with its base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaseFacts {
    /// The base as a revision: `origin/main`, or `main` if only the local one exists.
    pub name: String,
    /// Number of commits that only the branch has.
    #[serde(rename = "ahead")]
    pub own: usize,
    /// Number of commits that only the base has.
    pub behind: usize,
    /// Time since the last fetch of the base, in seconds; `None` if unknown.
    #[serde(rename = "fetched_ms", serialize_with = "serialize_millis")]
    pub fetched_s: Option<i64>,
    /// The paths that would conflict in a merge with the base.
    pub conflicts: Vec<String>,
    /// How the branch was merged into the base, if at all.
    pub merged: Option<MergeKind>,
    /// The command that fetches the base; `None` for a local base.
    #[serde(skip)]
    pub fetch: Option<String>,
    /// Another shared branch with commits that the branch has and its base lacks.
    #[serde(skip)]
    pub fork_origin: Option<ForkOrigin>,
}

fn serialize_millis<S: Serializer>(seconds: &Option<i64>, to: S) -> Result<S::Ok, S::Error> {
    seconds.map(|seconds| seconds.saturating_mul(1000)).serialize(to)
}

/// The branch that another one was forked from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkOrigin {
    /// The name as a revision, e.g. `origin/develop`.
    pub name: String,
    /// Number of its commits in the forked branch.
    pub commits: usize,
}

/// The way in which a branch was merged into its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeKind {
    /// The base has the commits of the branch.
    Commits,
    /// The base has the changes of the branch in other commits, by a squash, a rebase or manually.
    Content {
        /// The short id of the base commit that brought them; `None` for the newest commit.
        at: Option<String>,
    },
}

impl Serialize for MergeKind {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match self {
            MergeKind::Commits => "commits",
            MergeKind::Content { .. } => "content",
        })
    }
}

/// The subject of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BranchFindingKind {
    /// The name does not match the rule.
    Name,
    /// Older than `max-age`.
    TooOld,
    /// Older than `warn-age`.
    #[serde(rename = "ages-soon")]
    NearMaxAge,
    /// More than `max-behind` commits behind the base.
    TooFarBehind,
    /// Forked from another branch than the base.
    ForkedElsewhere,
    /// A merge with the base would conflict.
    Conflicts,
    /// Merged, and not deleted yet.
    #[serde(rename = "merged")]
    AlreadyMerged,
    /// The last fetch of the base was more than `STALE_FETCH_S` ago.
    #[serde(rename = "old-fetch")]
    StaleFetch,
    /// A fact is unknown.
    Unknown,
}

impl BranchFindingKind {
    /// Returns the severity of this kind.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            BranchFindingKind::Name
            | BranchFindingKind::TooOld
            | BranchFindingKind::TooFarBehind
            | BranchFindingKind::ForkedElsewhere => Severity::Broken,
            BranchFindingKind::Unknown => Severity::Unknown,
            BranchFindingKind::NearMaxAge
            | BranchFindingKind::Conflicts
            | BranchFindingKind::AlreadyMerged
            | BranchFindingKind::StaleFetch => Severity::Note,
        }
    }
}

/// Severity of a finding, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; the branch passes.
    #[serde(rename = "good")]
    Note,
    /// A fact is unknown.
    Unknown,
    /// A rule is broken.
    Broken,
}

/// A finding about a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchFinding {
    pub kind: BranchFindingKind,
    /// The predicate of a sentence whose subject is the branch, e.g. `is merged into …`.
    pub message: String,
    /// The command to type next.
    pub next_step: String,
}

impl BranchFinding {
    /// Renders the finding as one line.
    #[must_use]
    pub fn to_line(&self, branch: &str) -> String {
        format!("`{branch}` {}; {}", self.message, self.next_step)
    }
}

/// Evaluates a rule, with the most severe findings first. `proposal` is a valid name to suggest
/// instead of an invalid one.
#[must_use]
pub fn evaluate_rule(
    rule: &BranchRule,
    facts: &BranchFacts,
    proposal: Option<&str>,
) -> Vec<BranchFinding> {
    let mut found = Vec::new();
    found.extend(name_finding(rule, &facts.branch, proposal));
    let known = match &facts.base {
        Some(Ok(base)) => Some(base),
        Some(Err(unknown)) => {
            found.push(unknown_finding(unknown));
            None
        }
        None => None,
    };
    if let Some(base) = known
        && let Some(merged) = &base.merged
    {
        found.push(merged_finding(&facts.branch, base, merged));
    } else {
        found.extend(age_finding(rule, facts));
        found
            .extend(known.map(|base| base_findings(rule, &facts.branch, base)).unwrap_or_default());
    }
    found.extend(known.and_then(stale_fetch_finding));
    // One cause may make two facts unknown: report it once.
    found.dedup_by(|one, other| one == other);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
    found
}

fn new_finding(about: BranchFindingKind, what: String, next: String) -> BranchFinding {
    BranchFinding { kind: about, message: what, next_step: next }
}

/// Creates the finding for an unknown fact.
#[must_use]
pub fn unknown_finding(unknown: &UnknownReason) -> BranchFinding {
    new_finding(
        BranchFindingKind::Unknown,
        format!("cannot be checked: {}", unknown.reason),
        unknown.next_step.clone(),
    )
}

fn name_finding(rule: &BranchRule, branch: &str, proposal: Option<&str>) -> Option<BranchFinding> {
    let name = rule.name.as_ref().filter(|name| !name.accepts(branch))?;
    let new = proposal.map_or("NAME".to_owned(), quote_for_shell);
    let next = format!("`git branch -m {} {new}` renames it", quote_for_shell(branch));
    let what = format!("does not match the name rule for `{}`: `{}`", rule.name_glob, name.pattern);
    Some(new_finding(BranchFindingKind::Name, what, next))
}

fn age_finding(rule: &BranchRule, facts: &BranchFacts) -> Option<BranchFinding> {
    let limit = rule.max_age_s.or(rule.warn_age_s)?;
    let age = match &facts.age {
        Ok(age) => (*age)?,
        Err(unknown) => return Some(unknown_finding(unknown)),
    };
    let is = match age.basis {
        AgeBasis::CreationRecord => format!("was created {} ago", render_duration(age.seconds)),
        AgeBasis::OldestCommit => {
            format!("has a commit of its own that is {} old", render_duration(age.seconds))
        }
    };
    let into = rule.base.as_ref().map_or(String::new(), |base| format!(" into `{base}`"));
    let finish = format!(
        "merge finished work{into} by a pull request, and continue with \
         `cargo xtask branch new NAME`"
    );
    if rule.max_age_s.is_some_and(|max| age.seconds > max) {
        return Some(new_finding(
            BranchFindingKind::TooOld,
            format!("{is}, more than the limit of {}", render_duration(limit)),
            finish,
        ));
    }
    let warn = rule.warn_age_s.filter(|warn| age.seconds > *warn)?;
    let what = match rule.max_age_s {
        Some(max) => format!("{is}, {} before the limit", render_duration(max - age.seconds)),
        None => format!("{is}, more than the warning age of {}", render_duration(warn)),
    };
    Some(new_finding(BranchFindingKind::NearMaxAge, what, finish))
}

fn base_findings(rule: &BranchRule, branch: &str, base: &BaseFacts) -> Vec<BranchFinding> {
    let mut found = Vec::new();
    let name = quote_for_shell(&base.name);
    if let Some(elsewhere) = &base.fork_origin {
        let commits = pluralize(elsewhere.commits, "commit");
        let what = format!(
            "contains {commits} of `{}` that `{}` does not have",
            elsewhere.name, base.name
        );
        let next = format!(
            "`git rebase --onto {name} {} {}` keeps only its own commits",
            quote_for_shell(&elsewhere.name),
            quote_for_shell(branch)
        );
        found.push(new_finding(BranchFindingKind::ForkedElsewhere, what, next));
    }
    if let Some(most) = rule.max_behind.filter(|most| base.behind > *most) {
        let commits = pluralize(base.behind, "commit");
        let what = format!("is {commits} behind `{}`, more than the limit of {most}", base.name);
        let next = format!("`git merge {name}` on it brings it up to date");
        found.push(new_finding(BranchFindingKind::TooFarBehind, what, next));
    }
    if !base.conflicts.is_empty() {
        let what = format!(
            "would conflict with `{}` in {}: {}",
            base.name,
            pluralize(base.conflicts.len(), "file"),
            join_names(&base.conflicts, MAX_PATHS_SHOWN)
        );
        let next = format!("`git merge {name}` on it now, before more files conflict");
        found.push(new_finding(BranchFindingKind::Conflicts, what, next));
    }
    found
}

fn merged_finding(branch: &str, base: &BaseFacts, merged: &MergeKind) -> BranchFinding {
    let what = match merged {
        MergeKind::Commits => format!("is merged into `{}` and can be deleted", base.name),
        MergeKind::Content { at: None } => {
            format!("has no changes that `{}` does not have, and can be deleted", base.name)
        }
        MergeKind::Content { at: Some(commit) } => {
            format!("was merged into `{}` as one commit ({commit}) and can be deleted", base.name)
        }
    };
    let next = format!("`cargo xtask branch prune {}` deletes it here", quote_for_shell(branch));
    new_finding(BranchFindingKind::AlreadyMerged, what, next)
}

fn stale_fetch_finding(base: &BaseFacts) -> Option<BranchFinding> {
    let fetch = base.fetch.as_ref()?;
    let seconds = base.fetched_s.filter(|seconds| *seconds > STALE_FETCH_S)?;
    let what =
        format!("was compared with `{}` as fetched {} ago", base.name, render_duration(seconds));
    Some(new_finding(BranchFindingKind::StaleFetch, what, format!("`{fetch}` updates it")))
}

/// Renders a duration for people: `3 days`.
#[must_use]
pub fn render_duration(seconds: i64) -> String {
    let (number, unit) = match seconds {
        ..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / DAY_S, "day"),
    };
    pluralize(usize::try_from(number).unwrap_or(0), unit)
}

/// Renders the facts about a branch without findings as one line.
#[must_use]
pub fn describe_facts(facts: &BranchFacts) -> String {
    let mut words = Vec::new();
    match &facts.age {
        Ok(Some(age)) => words.push(format!("{} old", render_duration(age.seconds))),
        Ok(None) => words.push("no commits of its own yet".to_owned()),
        Err(_) => {}
    }
    if let Some(Ok(base)) = &facts.base {
        words.push(format!("{} on `{}`", pluralize(base.own, "commit"), base.name));
        words.push(format!("{} behind", base.behind));
        if base.fetch.is_some() {
            words.push(match base.fetched_s {
                Some(seconds) => format!("fetched {} ago", render_duration(seconds)),
                None => "time of the last fetch unknown".to_owned(),
            });
        }
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use xtask_config::BranchesConfig;

    const RULE: &str = r#"
        [[rule]]
        match = "feature/*"
        name = "^feature/[a-z-]+$"
        base = "main"
        warn-age = "10d"
        max-age = "14d"
        max-behind = 200
    "#;

    fn rule(text: &str) -> BranchRule {
        BranchesConfig::parse("f", text).unwrap().rules.remove(0)
    }

    fn base() -> BaseFacts {
        BaseFacts {
            name: "origin/main".to_owned(),
            fetch: Some("git fetch origin main".to_owned()),
            fetched_s: Some(60),
            own: 3,
            behind: 5,
            fork_origin: None,
            conflicts: Vec::new(),
            merged: None,
        }
    }

    fn facts(days: i64, base: BaseFacts) -> BranchFacts {
        let age = BranchAge { seconds: days * DAY_S, basis: AgeBasis::OldestCommit };
        BranchFacts { branch: "feature/a".to_owned(), age: Ok(Some(age)), base: Some(Ok(base)) }
    }

    fn says(facts: &BranchFacts, wanted: Expect) {
        let found = evaluate_rule(&rule(RULE), facts, Some("feature/b"));
        let lines = found.iter().map(|finding| {
            format!("{:?} {}\n", finding.kind.severity(), finding.to_line(&facts.branch))
        });
        wanted.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn a_branch_that_keeps_to_its_rule_has_no_findings() {
        says(&facts(9, base()), expect![[""]]);
        let at_the_limit = BaseFacts { behind: 200, ..base() };
        says(&facts(10, at_the_limit), expect![[""]]);
        let fresh = BranchFacts { age: Ok(None), ..facts(0, base()) };
        says(&fresh, expect![[""]]);
        expect!["9 days old, 3 commits on `origin/main`, 5 behind, fetched 1 minute ago"]
            .assert_eq(&describe_facts(&facts(9, base())));
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_what_to_do() {
        let bad = BaseFacts {
            behind: 201,
            fork_origin: Some(ForkOrigin { name: "origin/develop".to_owned(), commits: 2 }),
            conflicts: vec!["src/a".to_owned()],
            fetched_s: Some(8 * DAY_S),
            ..base()
        };
        let bad = BranchFacts { branch: "feature/A 1".to_owned(), ..facts(15, bad) };
        says(
            &bad,
            expect![[r#"
            Broken `feature/A 1` does not match the name rule for `feature/*`: `^feature/[a-z-]+$`; `git branch -m 'feature/A 1' feature/b` renames it
            Broken `feature/A 1` has a commit of its own that is 15 days old, more than the limit of 14 days; merge finished work into `main` by a pull request, and continue with `cargo xtask branch new NAME`
            Broken `feature/A 1` contains 2 commits of `origin/develop` that `origin/main` does not have; `git rebase --onto origin/main origin/develop 'feature/A 1'` keeps only its own commits
            Broken `feature/A 1` is 201 commits behind `origin/main`, more than the limit of 200; `git merge origin/main` on it brings it up to date
            Note `feature/A 1` would conflict with `origin/main` in 1 file: `src/a`; `git merge origin/main` on it now, before more files conflict
            Note `feature/A 1` was compared with `origin/main` as fetched 8 days ago; `git fetch origin main` updates it
        "#]],
        );
    }

    #[test]
    fn age_is_told_before_it_is_too_late() {
        says(
            &facts(12, base()),
            expect![[r#"
            Note `feature/a` has a commit of its own that is 12 days old, 2 days before the limit; merge finished work into `main` by a pull request, and continue with `cargo xtask branch new NAME`
        "#]],
        );
        let made = BranchAge { seconds: 15 * DAY_S, basis: AgeBasis::CreationRecord };
        says(
            &BranchFacts { age: Ok(Some(made)), ..facts(0, base()) },
            expect![[r#"
            Broken `feature/a` was created 15 days ago, more than the limit of 14 days; merge finished work into `main` by a pull request, and continue with `cargo xtask branch new NAME`
        "#]],
        );
    }

    #[test]
    fn of_a_branch_that_is_merged_no_more_is_asked() {
        let of = |merged| facts(40, BaseFacts { merged: Some(merged), behind: 900, ..base() });
        says(
            &of(MergeKind::Commits),
            expect![[r#"
            Note `feature/a` is merged into `origin/main` and can be deleted; `cargo xtask branch prune feature/a` deletes it here
        "#]],
        );
        says(
            &of(MergeKind::Content { at: None }),
            expect![[r#"
            Note `feature/a` has no changes that `origin/main` does not have, and can be deleted; `cargo xtask branch prune feature/a` deletes it here
        "#]],
        );
        says(
            &of(MergeKind::Content { at: Some("abc".to_owned()) }),
            expect![[r#"
            Note `feature/a` was merged into `origin/main` as one commit (abc) and can be deleted; `cargo xtask branch prune feature/a` deletes it here
        "#]],
        );
    }

    #[test]
    fn what_is_not_known_never_passes() {
        let unknown =
            UnknownReason { reason: "the history is cut off".into(), next_step: "fetch it".into() };
        let blind =
            BranchFacts { age: Err(unknown.clone()), base: Some(Err(unknown)), ..facts(0, base()) };
        says(
            &blind,
            expect![[r#"
            Unknown `feature/a` cannot be checked: the history is cut off; fetch it
        "#]],
        );
        // A rule that asks for a name alone needs no history.
        let name_only = rule("[[rule]]\nmatch = '*'\nname = 'a'");
        assert!(evaluate_rule(&name_only, &BranchFacts { base: None, ..blind }, None).is_empty());
    }
}
