//! Branch names: finding the rule for a name, and suggesting a valid name.
//!
//! ```text
//! "feature/Login Page" -> "feature/login-page"
//! ```

use xtask_config::BranchRule;
use xtask_git::BranchPattern;

/// Returns the first rule that matches `name`.
#[must_use]
pub fn find_rule<'r>(rules: &'r [BranchRule], name: &str) -> Option<&'r BranchRule> {
    rules.iter().find(|rule| BranchPattern::new(&rule.name_glob).matches(name))
}

/// Returns whether the rules accept `name`. A name without a rule is accepted.
#[must_use]
pub fn is_name_accepted(rules: &[BranchRule], name: &str) -> bool {
    let wanted = find_rule(rules, name).and_then(|rule| rule.name.as_ref());
    wanted.is_none_or(|wanted| wanted.accepts(name))
}

/// Suggests a similar name that the rules accept: in lower case and plain characters, or below the
/// prefix of a rule. `is_free` returns whether the name is valid and unused.
#[must_use]
pub fn suggest_name(
    rules: &[BranchRule],
    name: &str,
    is_free: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let own_beginning = find_rule(rules, name).map(BranchRule::name_prefix);
    let beginnings = own_beginning.into_iter().chain(rules.iter().map(BranchRule::name_prefix));
    let below = beginnings.filter(|beginning| beginning.ends_with('/'));
    let below: Vec<String> = below.collect();
    let mut candidates = vec![name.to_owned(), slugify(name, '-'), slugify(name, '_')];
    for rest in [slugify(name, '-'), slugify(last, '-'), slugify(last, '_')] {
        candidates.extend(below.iter().map(|beginning| format!("{beginning}{rest}")));
    }
    candidates.into_iter().find(|candidate| {
        candidate != name && is_name_accepted(rules, candidate) && is_free(candidate)
    })
}

/// Converts a name to lower-case letters, digits and `/`, with `between` for other characters.
fn slugify(name: &str, between: char) -> String {
    let mut plain = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        match letter {
            'a'..='z' | '0'..='9' | '/' => plain.push(letter),
            _ if plain.ends_with([between, '/']) || plain.is_empty() => {}
            _ => plain.push(between),
        }
    }
    plain.trim_end_matches(between).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_config::BranchesConfig;

    #[test]
    fn a_name_that_would_do_is_found() {
        let text = r#"
            [[rule]]
            match = "feature/*"
            name = "^feature/[a-z0-9][a-z0-9-]*$"
            [[rule]]
            match = "fix_*"
            name = "^fix_[a-z_]+$"
            [[rule]]
            match = "*"
            name = "^(feature|hotfix)/"
        "#;
        let rules = BranchesConfig::parse("f", text).unwrap().rules;
        let of = |name: &str| suggest_name(&rules, name, &|name| name != "feature/taken");
        for (name, wanted) in [
            ("feature/Login Page", Some("feature/login-page")),
            ("feature/JIRA-12_x!", Some("feature/jira-12-x")),
            ("feature/a/b", Some("feature/b")),
            ("login", Some("feature/login")),
            ("ada/login", Some("feature/login")),
            ("fix_A-b", Some("fix_a_b")),
            ("Taken", None),
            ("///", None),
        ] {
            assert_eq!(of(name).as_deref(), wanted, "{name}");
        }
        assert!(is_name_accepted(&rules, "hotfix/1") && !is_name_accepted(&rules, "x"));
        assert!(is_name_accepted(&[], "x"));
    }
}
