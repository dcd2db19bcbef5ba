//! From a rule and what is known of a branch to what is to be said of it.
//!
//! Every finding says what to type next. A branch whose work has arrived in its base is told to be left
//! over, and nothing else but its name is asked of it any more.

use xtask_base::words::{join_names, pluralize, quote_for_shell};
use xtask_config::BranchRule;

/// A day, in seconds.
const DAY_S: i64 = 24 * 60 * 60;

/// From which age on the last fetch of a base is told to be old, in seconds: after a week its newest commits
/// are somebody else's memory.
const STALE_FETCH_S: i64 = 7 * DAY_S;

/// How many paths in conflict are named.
const MAX_PATHS_SHOWN: usize = 5;

/// Why something is not known, and what would make it known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownReason {
    /// Why.
    pub reason: String,
    /// What to type.
    pub next_step: String,
}

/// What is known of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchFacts {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// How old it is; nothing where it has nothing of its own yet.
    pub age: Result<Option<BranchAge>, UnknownReason>,
    /// How it stands to its base; nothing where its rule names none.
    pub base: Option<Result<BaseFacts, UnknownReason>>,
}

/// How old a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchAge {
    /// In seconds.
    pub seconds: i64,
    /// From what that is known.
    pub basis: AgeBasis,
}

/// From what an age is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgeBasis {
    /// From our record of when it was made.
    CreationRecord,
    /// From the oldest commit that only it has.
    OldestCommit,
}

/// How a branch stands to its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFacts {
    /// The base as it can be typed: `origin/main`, or `main` where there is no other.
    pub name: String,
    /// What fetches it; nothing where it is of this clone alone.
    pub fetch: Option<String>,
    /// When it was last fetched, in seconds before now; nothing where that is not known.
    pub fetched_s: Option<i64>,
    /// How many commits only the branch has.
    pub own: usize,
    /// How many commits only the base has.
    pub behind: usize,
    /// Another shared branch of which it has commits that the base does not have.
    pub fork_origin: Option<ForkOrigin>,
    /// The paths in which a merge with the base would conflict.
    pub conflicts: Vec<String>,
    /// How its work has arrived in the base, if it has.
    pub merged: Option<MergeKind>,
}

/// Another branch from which one was forked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkOrigin {
    /// That branch, as it can be typed.
    pub name: String,
    /// How many of its commits came along.
    pub commits: usize,
}

/// How the work of a branch has arrived in its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeKind {
    /// The base has its commits.
    Commits,
    /// The base has all that it changes, in commits of its own: by a squash, a rebase or by hand.
    Content {
        /// The commit with which it was there, shortened; nothing where the newest one has it.
        at: Option<String>,
    },
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchFindingKind {
    /// The name.
    Name,
    /// Older than allowed.
    TooOld,
    /// Getting there.
    NearMaxAge,
    /// The base has gone too far ahead.
    TooFarBehind,
    /// It was not forked from its base.
    ForkedElsewhere,
    /// A merge with the base would conflict.
    Conflicts,
    /// Its work has arrived, and it is still there.
    AlreadyMerged,
    /// The last fetch of the base is long ago.
    StaleFetch,
    /// Something could not be told.
    Unknown,
}

impl BranchFindingKind {
    /// As it stands in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BranchFindingKind::Name => "name",
            BranchFindingKind::TooOld => "too-old",
            BranchFindingKind::NearMaxAge => "ages-soon",
            BranchFindingKind::TooFarBehind => "too-far-behind",
            BranchFindingKind::ForkedElsewhere => "forked-elsewhere",
            BranchFindingKind::Conflicts => "conflicts",
            BranchFindingKind::AlreadyMerged => "merged",
            BranchFindingKind::StaleFetch => "old-fetch",
            BranchFindingKind::Unknown => "unknown",
        }
    }

    /// What it means for the answer as a whole.
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

/// What a finding means for the answer as a whole; a later one means more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Something could not be told.
    Unknown,
    /// A rule is broken.
    Broken,
}

/// Something that is to be said of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchFinding {
    /// What it is about.
    pub kind: BranchFindingKind,
    /// What is so, as a fragment that goes behind the name of the branch.
    pub message: String,
    /// What to type next.
    pub next_step: String,
}

impl BranchFinding {
    /// In a line.
    #[must_use]
    pub fn to_line(&self, branch: &str) -> String {
        format!("`{branch}` {}; {}", self.message, self.next_step)
    }
}

/// What is to be said of a branch, the most important first. `proposal` is a name that would do, where the
/// one that it has does not.
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
    // What keeps two things from being known is one thing to say.
    found.dedup_by(|one, other| one == other);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
    found
}

fn new_finding(about: BranchFindingKind, what: String, next: String) -> BranchFinding {
    BranchFinding { kind: about, message: what, next_step: next }
}

/// That something is not known, in words.
#[must_use]
pub fn unknown_finding(unknown: &UnknownReason) -> BranchFinding {
    new_finding(
        BranchFindingKind::Unknown,
        format!("cannot be judged: {}", unknown.reason),
        unknown.next_step.clone(),
    )
}

fn name_finding(rule: &BranchRule, branch: &str, proposal: Option<&str>) -> Option<BranchFinding> {
    let name = rule.name.as_ref().filter(|name| !name.accepts(branch))?;
    let new = proposal.map_or("NAME".to_owned(), quote_for_shell);
    let next = format!("`git branch -m {} {new}` gives it another", quote_for_shell(branch));
    let what =
        format!("is not named as the rule for `{}` asks: `{}`", rule.name_glob, name.pattern);
    Some(new_finding(BranchFindingKind::Name, what, next))
}

fn age_finding(rule: &BranchRule, facts: &BranchFacts) -> Option<BranchFinding> {
    let limit = rule.max_age_s.or(rule.warn_age_s)?;
    let age = match &facts.age {
        Ok(age) => (*age)?,
        Err(unknown) => return Some(unknown_finding(unknown)),
    };
    let is = match age.basis {
        AgeBasis::CreationRecord => format!("was made {} ago", render_duration(age.seconds)),
        AgeBasis::OldestCommit => {
            format!("has a commit of its own that is {} old", render_duration(age.seconds))
        }
    };
    let into = rule.base.as_ref().map_or(String::new(), |base| format!(" into `{base}`"));
    let finish = format!(
        "bring what is ready{into} by a pull request, and go on with `cargo xtask branch new NAME`"
    );
    if rule.max_age_s.is_some_and(|max| age.seconds > max) {
        return Some(new_finding(
            BranchFindingKind::TooOld,
            format!("{is}, and may be {}", render_duration(limit)),
            finish,
        ));
    }
    let warn = rule.warn_age_s.filter(|warn| age.seconds > *warn)?;
    let what = match rule.max_age_s {
        Some(max) => format!("{is}: {} are left", render_duration(max - age.seconds)),
        None => format!("{is}, which is more than {}", render_duration(warn)),
    };
    Some(new_finding(BranchFindingKind::NearMaxAge, what, finish))
}

fn base_findings(rule: &BranchRule, branch: &str, base: &BaseFacts) -> Vec<BranchFinding> {
    let mut found = Vec::new();
    let name = quote_for_shell(&base.name);
    if let Some(elsewhere) = &base.fork_origin {
        let commits = pluralize(elsewhere.commits, "commit");
        let what =
            format!("has {commits} of `{}` that `{}` does not have", elsewhere.name, base.name);
        let next = format!(
            "`git rebase --onto {name} {} {}` takes only its own along",
            quote_for_shell(&elsewhere.name),
            quote_for_shell(branch)
        );
        found.push(new_finding(BranchFindingKind::ForkedElsewhere, what, next));
    }
    if let Some(most) = rule.max_behind.filter(|most| base.behind > *most) {
        let what = format!("is {} behind `{}`, and may be {most}", base.behind, base.name);
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
        let next = format!("`git merge {name}` on it, while it is not more");
        found.push(new_finding(BranchFindingKind::Conflicts, what, next));
    }
    found
}

fn merged_finding(branch: &str, base: &BaseFacts, merged: &MergeKind) -> BranchFinding {
    let what = match merged {
        MergeKind::Commits => format!("is merged into `{}`, and left over", base.name),
        MergeKind::Content { at: None } => {
            format!("has nothing that `{}` does not have, and is left over", base.name)
        }
        MergeKind::Content { at: Some(commit) } => {
            format!("came into `{}` as one commit ({commit}), and is left over", base.name)
        }
    };
    let next = format!("`cargo xtask branch prune {}` deletes it here", quote_for_shell(branch));
    new_finding(BranchFindingKind::AlreadyMerged, what, next)
}

fn stale_fetch_finding(base: &BaseFacts) -> Option<BranchFinding> {
    let fetch = base.fetch.as_ref()?;
    let seconds = base.fetched_s.filter(|seconds| *seconds > STALE_FETCH_S)?;
    let what =
        format!("was compared with `{}` as it was {} ago", base.name, render_duration(seconds));
    Some(new_finding(BranchFindingKind::StaleFetch, what, format!("`{fetch}` asks how it is now")))
}

/// A span of time for people: `3 days`.
#[must_use]
pub fn render_duration(seconds: i64) -> String {
    let (number, unit) = match seconds {
        ..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / DAY_S, "day"),
    };
    pluralize(usize::try_from(number).unwrap_or(0), unit)
}

/// What is known of a branch, in a line: for when nothing is wrong.
#[must_use]
pub fn describe_facts(facts: &BranchFacts) -> String {
    let mut words = Vec::new();
    match &facts.age {
        Ok(Some(age)) => words.push(format!("{} old", render_duration(age.seconds))),
        Ok(None) => words.push("nothing of its own yet".to_owned()),
        Err(_) => {}
    }
    if let Some(Ok(base)) = &facts.base {
        words.push(format!("{} on `{}`", pluralize(base.own, "commit"), base.name));
        words.push(format!("{} behind", base.behind));
        if base.fetch.is_some() {
            words.push(match base.fetched_s {
                Some(seconds) => format!("fetched {} ago", render_duration(seconds)),
                None => "nobody knows when it was fetched".to_owned(),
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
            Broken `feature/A 1` is not named as the rule for `feature/*` asks: `^feature/[a-z-]+$`; `git branch -m 'feature/A 1' feature/b` gives it another
            Broken `feature/A 1` has a commit of its own that is 15 days old, and may be 14 days; bring what is ready into `main` by a pull request, and go on with `cargo xtask branch new NAME`
            Broken `feature/A 1` has 2 commits of `origin/develop` that `origin/main` does not have; `git rebase --onto origin/main origin/develop 'feature/A 1'` takes only its own along
            Broken `feature/A 1` is 201 behind `origin/main`, and may be 200; `git merge origin/main` on it brings it up to date
            Note `feature/A 1` would conflict with `origin/main` in 1 file: `src/a`; `git merge origin/main` on it, while it is not more
            Note `feature/A 1` was compared with `origin/main` as it was 8 days ago; `git fetch origin main` asks how it is now
        "#]],
        );
    }

    #[test]
    fn age_is_told_before_it_is_too_late() {
        says(
            &facts(12, base()),
            expect![[r#"
            Note `feature/a` has a commit of its own that is 12 days old: 2 days are left; bring what is ready into `main` by a pull request, and go on with `cargo xtask branch new NAME`
        "#]],
        );
        let made = BranchAge { seconds: 15 * DAY_S, basis: AgeBasis::CreationRecord };
        says(
            &BranchFacts { age: Ok(Some(made)), ..facts(0, base()) },
            expect![[r#"
            Broken `feature/a` was made 15 days ago, and may be 14 days; bring what is ready into `main` by a pull request, and go on with `cargo xtask branch new NAME`
        "#]],
        );
    }

    #[test]
    fn of_a_branch_that_is_merged_no_more_is_asked() {
        let of = |merged| facts(40, BaseFacts { merged: Some(merged), behind: 900, ..base() });
        says(
            &of(MergeKind::Commits),
            expect![[r#"
            Note `feature/a` is merged into `origin/main`, and left over; `cargo xtask branch prune feature/a` deletes it here
        "#]],
        );
        says(
            &of(MergeKind::Content { at: None }),
            expect![[r#"
            Note `feature/a` has nothing that `origin/main` does not have, and is left over; `cargo xtask branch prune feature/a` deletes it here
        "#]],
        );
        says(
            &of(MergeKind::Content { at: Some("abc".to_owned()) }),
            expect![[r#"
            Note `feature/a` came into `origin/main` as one commit (abc), and is left over; `cargo xtask branch prune feature/a` deletes it here
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
            Unknown `feature/a` cannot be judged: the history is cut off; fetch it
        "#]],
        );
        // A rule that asks for a name alone needs no history.
        let name_only = rule("[[rule]]\nmatch = '*'\nname = 'a'");
        assert!(evaluate_rule(&name_only, &BranchFacts { base: None, ..blind }, None).is_empty());
    }
}
