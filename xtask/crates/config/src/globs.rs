//! What can be said of a glob over branch names without any branch: whether it can match at all, whether
//! another one takes all that it matches, and with what every match begins.
//!
//! `*` also matches `/`, as in `git branch --list`. A yes is certain; where it cannot be told the answer is
//! no.

/// A part of a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
enum GlobPart {
    /// This letter.
    Letter(char),
    /// Any one letter.
    Any,
    /// One letter of a class, as the class is written.
    Class(String),
    /// Any letters, or none.
    Many,
}

/// A glob, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Vec<GlobPart>);

impl Glob {
    /// Takes a glob apart; nothing where a class is not closed or a `\` has nothing behind it, and which
    /// therefore matches nothing.
    pub(super) fn parse(text: &str) -> Option<Glob> {
        let mut parts = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let part = match letter {
                '*' => GlobPart::Many,
                '?' => GlobPart::Any,
                '\\' => GlobPart::Letter(letters.next()?),
                '[' => GlobPart::Class(parse_class(&mut letters)?),
                letter => GlobPart::Letter(letter),
            };
            // `**` says no more than `*`.
            if part != GlobPart::Many || parts.last() != Some(&GlobPart::Many) {
                parts.push(part);
            }
        }
        Some(Glob(parts))
    }

    /// The glob that matches this one name.
    pub(super) fn from_name(name: &str) -> Glob {
        Glob(name.chars().map(GlobPart::Letter).collect())
    }

    /// The letters before the first wildcard.
    pub(super) fn literal_prefix(&self) -> String {
        take_literal_prefix(self.0.iter())
    }

    /// The letters behind the last wildcard.
    pub(super) fn literal_suffix(&self) -> String {
        take_literal_prefix(self.0.iter().rev()).chars().rev().collect()
    }

    /// The one name that it matches, where it has no wildcard.
    pub(super) fn only_name(&self) -> Option<String> {
        let name = self.literal_prefix();
        (name.chars().count() == self.0.len()).then_some(name)
    }

    /// Whether it matches everything that `other` matches. Classes are compared as they are written.
    pub(super) fn covers(&self, other: &Glob) -> bool {
        // What the first parts of this one cover of the first parts of the other, part by part of this
        // one: a table instead of trying out, so that no glob takes long.
        let mut covered = vec![false; other.0.len() + 1];
        covered[0] = true;
        for part in &self.0 {
            let mut next = vec![false; other.0.len() + 1];
            next[0] = *part == GlobPart::Many && covered[0];
            for (at, theirs) in other.0.iter().enumerate() {
                next[at + 1] = match (part, theirs) {
                    (GlobPart::Many, _) => covered[at + 1] || next[at],
                    (_, GlobPart::Many) => false,
                    (GlobPart::Any, _) => covered[at],
                    (ours, theirs) => covered[at] && ours == theirs,
                };
            }
            covered = next;
        }
        covered[other.0.len()]
    }
}

fn take_literal_prefix<'p>(parts: impl Iterator<Item = &'p GlobPart>) -> String {
    let letters = parts.map_while(|part| match part {
        GlobPart::Letter(letter) => Some(*letter),
        _ => None,
    });
    letters.collect()
}

/// The rest of a class, behind its `[`; nothing where it is not closed.
fn parse_class(letters: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        let letter = letters.next()?;
        // A `]` that comes first is one of the class.
        if letter == ']' && !matches!(text.as_str(), "" | "!" | "^") {
            return Some(text);
        }
        text.push(letter);
    }
}

/// What is wrong with a glob as one of branches, if git would refuse every name that it matches.
pub(super) fn find_branch_glob_fault(text: &str) -> Option<&'static str> {
    let Some(glob) = Glob::parse(text) else { return Some("it is cut short, and matches nothing") };
    let holds = |letter: char| glob.0.contains(&GlobPart::Letter(letter));
    let (beginning, end) = (glob.literal_prefix(), glob.literal_suffix());
    Some(if end.ends_with('/') {
        "no branch ends with `/`; write `*` behind it for all that are below"
    } else if beginning.starts_with("refs/") {
        "branches are named without `refs/heads/`"
    } else if beginning.starts_with(['-', '/', '.'])
        || end.ends_with('.')
        || end.ends_with(".lock")
        || [' ', '~', '^', ':', '\\', '?', '*', '['].into_iter().any(holds)
        || text.chars().any(char::is_control)
        || ["..", "//", "/.", "@{"].iter().any(|wrong| text.contains(wrong))
    {
        "git accepts no branch of such a name"
    } else {
        return None;
    })
}

/// Whether a regular expression takes no name that a glob matches, as far as that can be told: by what each
/// of them must begin and end with.
pub(super) fn are_disjoint(glob: &Glob, expression: &str) -> bool {
    let (beginning, end) = find_literal_ends(expression);
    let glob_end: String = glob.literal_suffix().chars().rev().collect();
    let end: String = end.chars().rev().collect();
    !are_compatible_prefixes(&glob.literal_prefix(), &beginning)
        || !are_compatible_prefixes(&glob_end, &end)
}

/// Whether one of two texts begins with the other.
fn are_compatible_prefixes(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The letters with which all that an expression matches begins and ends; empty where it is not bound there
/// or that cannot be told.
fn find_literal_ends(expression: &str) -> (String, String) {
    // A choice may lead anywhere, and a flag may change what letters mean.
    if expression.contains(['|', '\\']) || expression.contains("(?") {
        return (String::new(), String::new());
    }
    let is_plain = |c: &char| c.is_alphanumeric() || "/-_@,:;=!%&#'\"<>~`".contains(*c);
    let beginning = expression.strip_prefix('^').map_or(String::new(), |rest| {
        let mut plain: String = rest.chars().take_while(is_plain).collect();
        // What follows may say that the last letter need not be there.
        if rest[plain.len()..].starts_with(['*', '?', '{']) {
            plain.pop();
        }
        plain
    });
    let end = expression.strip_suffix('$').map_or(String::new(), |rest| {
        let plain: String = rest.chars().rev().take_while(is_plain).collect();
        plain.chars().rev().collect()
    });
    (beginning, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(one: &str, other: &str) -> bool {
        Glob::parse(one).unwrap().covers(&Glob::parse(other).unwrap())
    }

    #[test]
    fn what_takes_all_of_another_is_known() {
        for (one, other) in [
            ("*", "feature/*"),
            ("*", "*"),
            ("feature/*", "feature/a"),
            ("feature/*", "feature/a/*"),
            ("feature*", "feature/*"),
            ("*/fix", "a*/fix"),
            ("*a*", "b*ca"),
            ("a?", "ab"),
            ("a?", "a[bc]"),
            ("a[bc]*", "a[bc]d"),
            ("**", "x"),
        ] {
            assert!(covers(one, other), "{one} takes all of {other}");
        }
        for (one, other) in [
            ("feature/*", "*"),
            ("feature/*", "feature"),
            ("feature/a", "feature/*"),
            ("a?", "a"),
            ("a?", "a*"),
            ("a[bc]", "ab"),
            ("*x", "x*"),
        ] {
            assert!(!covers(one, other), "{one} does not take all of {other}");
        }
        let long = "a*".repeat(2000);
        assert!(covers(&long, &long));
    }

    #[test]
    fn globs_that_can_match_no_branch_are_known() {
        for wrong in
            ["feature/", "a[b", "a\\", "-x*", "a b*", "x..y", "refs/heads/a", "*.lock", "/a"]
        {
            assert!(find_branch_glob_fault(wrong).is_some(), "{wrong}");
        }
        for right in ["*", "feature/*", "[a-z]*", "v?", "release/*.x", "a-b"] {
            assert_eq!(find_branch_glob_fault(right), None, "{right}");
        }
    }

    #[test]
    fn expressions_that_nothing_can_satisfy_are_known() {
        let never = |glob: &str, name: &str| are_disjoint(&Glob::parse(glob).unwrap(), name);
        assert!(never("feature/*", "^hotfix/"));
        assert!(never("feature/*", "^feat/[a-z]+$"));
        assert!(never("*/fix", "^[a-z/]+-done$"));
        // Neither of these can be told, or both can be.
        for (glob, name) in [
            ("feature/*", "^feature/[a-z]+$"),
            ("feature/*", "^feat"),
            ("feature/*", "hotfix"),
            ("feature/*", "^(hotfix|feature)/"),
            ("feature/*", "^hotfix|^feature"),
            ("feature/*", "^(?i)FEATURE/"),
            ("feature/*", "^features?/"),
            ("f*", "^fx{0,1}eature$"),
            ("*", "^x$"),
        ] {
            assert!(!never(glob, name), "{glob} {name}");
        }
    }
}
