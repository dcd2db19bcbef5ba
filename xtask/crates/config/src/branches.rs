//! Parser for `setup/branches.toml`, the branch rules.
//!
//! A branch is subject to the first rule whose `match` glob it matches. Guarantee: a rule that can never apply,
//! or that no branch name can satisfy, is reported as a fault, because it would only seem to guard something.
//!
//! ```text
//! [[rule]]
//! match = "feature/*"
//! base = "main"
//! max-behind = 50
//! ```

use std::ops::Range;

use regex_lite::Regex;

use super::faults::Faults;
use super::globs::{Glob, are_disjoint, find_branch_glob_fault};
use super::reader::TableReader;
use super::value_syntax::read_branch_name;
use xtask_base::environment::parse_seconds;
use xtask_base::error::Result;

/// The largest `max-behind`, in commits: more than any branch is behind.
const MOST_BEHIND: u64 = 1_000_000;

/// The expected form of `warn-age` and `max-age`, for fault messages.
const AGE_WANTED: &str = "a time as in `14d` or `36h`";

/// The contents of `setup/branches.toml`; missing keys have their defaults.
#[derive(Clone, Debug)]
pub struct BranchesConfig {
    /// Branches that get no commit unless the user asks for it, as globs in the syntax of `git branch --list`.
    pub protected: Vec<String>,
    /// The reaction of `pre-push` to a broken rule.
    pub enforce: Enforcement,
    /// The rules in file order: the first match applies.
    pub rules: Vec<BranchRule>,
}

/// The reaction of `pre-push` to a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// Prints a warning.
    Warn,
    /// Refuses the push.
    Refuse,
}

/// The requirements for the branches that match one glob.
#[derive(Clone, Debug)]
pub struct BranchRule {
    /// The glob (`match`), e.g. `feature/*`; `*` also matches `/`.
    pub name_glob: String,
    /// A regular expression for branch names (`name`).
    pub name: Option<NameRule>,
    /// The branch from which these branches start and into which they are merged.
    pub base: Option<String>,
    /// The age at which a warning is printed, in seconds (`warn-age`).
    pub warn_age_s: Option<i64>,
    /// The maximum age, in seconds (`max-age`).
    pub max_age_s: Option<i64>,
    /// The maximum number of commits that `base` may have and the branch lacks.
    pub max_behind: Option<usize>,
}

impl BranchRule {
    /// Returns the literal prefix of `name_glob`: `feature/` for `feature/*`.
    #[must_use]
    pub fn name_prefix(&self) -> String {
        Glob::parse(&self.name_glob).map_or(String::new(), |glob| glob.literal_prefix())
    }
}

/// A compiled regular expression for branch names.
#[derive(Clone, Debug)]
pub struct NameRule {
    /// The expression as written in the file.
    pub pattern: String,
    regex: Regex,
}

impl NameRule {
    /// Returns whether `name` matches the expression.
    #[must_use]
    pub fn accepts(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

impl Default for BranchesConfig {
    fn default() -> Self {
        let protected = vec!["main".to_owned()];
        BranchesConfig { protected, enforce: Enforcement::Warn, rules: Vec::new() }
    }
}

impl BranchesConfig {
    /// Parses `text`. `source` names its origin, e.g. `setup/branches.toml at orchestration-tools`. Returns one usage
    /// error with all faults.
    pub fn parse(source: &str, text: &str) -> Result<BranchesConfig> {
        Faults::read_toml(source, text, |file| {
            let usual = BranchesConfig::default();
            let protected = file.read_texts("protected").unwrap_or(usual.protected);
            let words = [("warn", Enforcement::Warn), ("refuse", Enforcement::Refuse)];
            let enforce = file.read_choice("enforce", &words).unwrap_or(usual.enforce);
            let mut rules: Vec<(BranchRule, Range<usize>)> = Vec::new();
            file.read_tables("rule", |table| {
                let rule = read_rule(table);
                check_reachable(table, &rule, &protected, &rules);
                rules.push((rule, table.value_span("base")));
            });
            check_base_cycles(file, &rules, &protected);
            let rules = rules.into_iter().map(|(rule, _)| rule).collect();
            BranchesConfig { protected, enforce, rules }
        })
    }
}

/// Reads one `[[rule]]` and reports the faults that concern this rule alone.
fn read_rule(table: &TableReader<'_>) -> BranchRule {
    table.require_key("match");
    let rule = BranchRule {
        name_glob: table.read_text("match").unwrap_or_default(),
        name: read_name_rule(table),
        base: read_branch_name(table, "base"),
        warn_age_s: table.read_parsed("warn-age", AGE_WANTED, parse_seconds),
        max_age_s: table.read_parsed("max-age", AGE_WANTED, parse_seconds),
        max_behind: table
            .read_number("max-behind", 0..=MOST_BEHIND)
            .and_then(|number| usize::try_from(number).ok()),
    };
    if !rule.name_glob.is_empty()
        && let Some(why) = find_branch_glob_fault(&rule.name_glob)
    {
        table.add_fault("match", format!("`match` is `{}`: {why}", rule.name_glob));
    }
    if let (Some(warn), Some(max)) = (rule.warn_age_s, rule.max_age_s)
        && warn >= max
    {
        table.add_fault("warn-age", "`warn-age` must be below `max-age`, or nobody is ever warned");
    }
    if rule.max_behind.is_some() && table.type_of("base").is_none() {
        table.add_fault("max-behind", "`max-behind` requires `base`, whose commits are counted");
    }
    let glob = Glob::parse(&rule.name_glob).filter(|_| !rule.name_glob.is_empty());
    if let (Some(glob), Some(name)) = (glob, &rule.name) {
        let never = match glob.only_name() {
            Some(only) => !name.accepts(&only),
            None => are_disjoint(&glob, &name.pattern),
        };
        if never {
            let (matches, name) = (&rule.name_glob, &name.pattern);
            table.add_fault(
                "name",
                format!(
                    "no branch name can match both the glob `{matches}` and the expression `{name}`"
                ),
            );
        }
    }
    rule
}

fn read_name_rule(table: &TableReader<'_>) -> Option<NameRule> {
    let text = table.read_text("name")?;
    match Regex::new(&text) {
        Ok(expression) => Some(NameRule { pattern: text, regex: expression }),
        Err(cause) => {
            table.add_fault("name", format!("invalid regular expression `{text}`: {cause}"));
            None
        }
    }
}

/// Reports a fault if a protected glob or an earlier rule already covers all branches of `rule`.
fn check_reachable(
    table: &TableReader<'_>,
    rule: &BranchRule,
    protected: &[String],
    before: &[(BranchRule, Range<usize>)],
) {
    let Some(glob) = Glob::parse(&rule.name_glob).filter(|_| !rule.name_glob.is_empty()) else {
        return;
    };
    let takes_all = |text: &str| Glob::parse(text).is_some_and(|earlier| earlier.covers(&glob));
    if let Some(all) = protected.iter().find(|text| takes_all(text)) {
        let what = format!("`{all}` is protected, and rules do not apply to protected branches");
        table
            .add_fault("match", format!("the rule for `{}` never applies: {what}", rule.name_glob));
    } else if let Some((earlier, _)) =
        before.iter().find(|(earlier, _)| takes_all(&earlier.name_glob))
    {
        let what =
            format!("the earlier rule for `{}` matches all of its branches", earlier.name_glob);
        table
            .add_fault("match", format!("the rule for `{}` never applies: {what}", rule.name_glob));
    }
}

/// Reports cycles of bases among rules that match exactly one branch: none of these branches could ever be merged.
fn check_base_cycles(
    file: &TableReader<'_>,
    rules: &[(BranchRule, Range<usize>)],
    protected: &[String],
) {
    let matches = |text: &str, name: &str| {
        Glob::parse(text).is_some_and(|glob| glob.covers(&Glob::from_name(name)))
    };
    // Maps a branch to its base. `None` for protected branches and branches without a `base` rule.
    let base_of = |name: &str| {
        let is_shared = protected.iter().any(|text| matches(text, name));
        let rule = rules.iter().find(|(rule, _)| matches(&rule.name_glob, name));
        rule.filter(|_| !is_shared).and_then(|(rule, _)| rule.base.clone())
    };
    for (rule, place) in rules {
        let Some(first) = Glob::parse(&rule.name_glob).and_then(|glob| glob.only_name()) else {
            continue;
        };
        let mut way = vec![first];
        while let Some(next) = way.last().and_then(|last| base_of(last)) {
            let is_known = way.contains(&next);
            way.push(next);
            if is_known {
                break;
            }
        }
        // Each cycle is reported once, at its alphabetically first branch, not at branches that only lead to it.
        let is_told_here = way.iter().min() == way.first() && way.first() == way.last();
        if way.len() == 2 && is_told_here {
            file.add_fault_at(place.clone(), format!("`{}` cannot be its own base", way[0]));
        } else if way.len() > 2 && is_told_here {
            let text = format!("the bases form a cycle: {}", way.join(" → "));
            file.add_fault_at(place.clone(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn faults(text: &str, wanted: Expect) {
        let error = BranchesConfig::parse("setup/branches.toml", text).unwrap_err();
        wanted.assert_eq(&(error.details().join("\n") + "\n"));
    }

    #[test]
    fn main_is_protected_unless_the_file_says_otherwise() {
        assert_eq!(BranchesConfig::parse("f", "").unwrap().protected, ["main"]);
        let two = BranchesConfig::parse("f", "protected = ['trunk', 'release/*']").unwrap();
        assert_eq!(two.protected, ["trunk", "release/*"]);
        assert!(BranchesConfig::parse("f", "protected = []").unwrap().protected.is_empty());
    }

    #[test]
    fn every_key_is_read() {
        let config = BranchesConfig::parse(
            "f",
            r#"
            enforce = "refuse"
            [[rule]]
            match = "feature/*"
            name = "^feature/[a-z0-9][a-z0-9._-]*$"
            base = "main"
            warn-age = "10d"
            max-age = "14d"
            max-behind = 200
            [[rule]]
            match = "wip/*"
            "#,
        );
        let config = config.unwrap();
        assert_eq!(config.enforce, Enforcement::Refuse);
        let [rule, free] = &config.rules[..] else { panic!("not two rules") };
        let day = 24 * 60 * 60;
        assert_eq!((rule.warn_age_s, rule.max_age_s), (Some(10 * day), Some(14 * day)));
        assert_eq!((rule.base.as_deref(), rule.max_behind), (Some("main"), Some(200)));
        assert_eq!(
            (rule.name_glob.as_str(), rule.name_prefix().as_str()),
            ("feature/*", "feature/")
        );
        let name = rule.name.as_ref().unwrap();
        assert!(name.accepts("feature/a-1") && !name.accepts("feature/A"));
        assert!(free.name.is_none() && free.base.is_none() && free.max_age_s.is_none());
    }

    #[test]
    fn unknown_keys_are_faults() {
        faults(
            "protect = []",
            expect![[r#"
                setup/branches.toml:1: unknown key `protect`; did you mean `protected`?
            "#]],
        );
    }

    #[test]
    fn all_faults_of_rules_are_told_at_once() {
        faults(
            r#"
enforce = "refuze"
[[rule]]
name = "x"
[[rule]]
match = "feature/"
name = "["
base = "a b"
warn-age = "soon"
max-age = "0d"
[[rule]]
match = "a/*"
name = "^b/"
warn-age = "3d"
max-age = "3d"
max-behind = 5
max-age-days = 3
[[rule]]
match = "fix"
name = "^fix-"
base = "fix"
"#,
            expect![[r#"
                setup/branches.toml:2: `enforce` is `refuze`; it must be one of warn, refuse; did you mean `refuse`?
                setup/branches.toml:3: `rule.match` is missing
                setup/branches.toml:6: `match` is `feature/`: no branch name ends with `/`; append `*` to match all branches below it
                setup/branches.toml:7: invalid regular expression `[`: found unclosed character class
                setup/branches.toml:8: `a b` is not a name that git accepts
                setup/branches.toml:9: `rule.warn-age` is `soon`; it must be a time as in `14d` or `36h`
                setup/branches.toml:10: `rule.max-age` is `0d`; it must be a time as in `14d` or `36h`
                setup/branches.toml:13: no branch name can match both the glob `a/*` and the expression `^b/`
                setup/branches.toml:14: `warn-age` must be below `max-age`, or nobody is ever warned
                setup/branches.toml:16: `max-behind` requires `base`, whose commits are counted
                setup/branches.toml:17: unknown key `rule.max-age-days`; did you mean `max-age`?
                setup/branches.toml:20: no branch name can match both the glob `fix` and the expression `^fix-`
                setup/branches.toml:21: `fix` cannot be its own base
            "#]],
        );
    }

    #[test]
    fn rules_that_contradict_each_other_are_faults() {
        faults(
            r#"
protected = ["main", "release/*"]
[[rule]]
match = "feature/*"
[[rule]]
match = "feature/ui/*"
[[rule]]
match = "feature/*"
[[rule]]
match = "release/1.x"
max-age = "3d"
[[rule]]
match = "one"
base = "two"
[[rule]]
match = "two"
base = "three"
[[rule]]
match = "three"
base = "one"
[[rule]]
match = "*"
base = "main"
[[rule]]
match = "late"
"#,
            expect![[r#"
                setup/branches.toml:6: the rule for `feature/ui/*` never applies: the earlier rule for `feature/*` matches all of its branches
                setup/branches.toml:8: the rule for `feature/*` never applies: the earlier rule for `feature/*` matches all of its branches
                setup/branches.toml:10: the rule for `release/1.x` never applies: `release/*` is protected, and rules do not apply to protected branches
                setup/branches.toml:14: the bases form a cycle: one → two → three → one
                setup/branches.toml:25: the rule for `late` never applies: the earlier rule for `*` matches all of its branches
            "#]],
        );
    }

    #[test]
    fn what_only_looks_like_a_contradiction_is_none() {
        let text = r#"
            [[rule]]
            match = "feature/ui/*"
            [[rule]]
            match = "feature/*"
            base = "develop"
            [[rule]]
            match = "develop"
            base = "main"
            [[rule]]
            match = "*"
            base = "main"
        "#;
        assert_eq!(BranchesConfig::parse("f", text).unwrap().rules.len(), 4);
    }
}
