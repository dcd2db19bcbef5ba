//! Static analysis of globs over branch names: whether a glob can match at all, whether it covers another glob,
//! and its literal prefix and suffix.
//!
//! `*` also matches `/`, as in `git branch --list`. A positive answer is certain; undecidable cases yield `false`.
//! For example, `feature/*` covers `feature/a/*`.

/// A component of a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
enum GlobPart {
    /// A literal character.
    Letter(char),
    /// Any single character (`?`).
    Any,
    /// One character of a class, e.g. `[a-z]`, stored as written.
    Class(String),
    /// Any number of characters (`*`).
    Many,
}

/// A parsed glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Vec<GlobPart>);

impl Glob {
    /// Parses a glob. Returns `None` if a class is unclosed or the text ends with `\`: such a glob matches no name.
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
            // `**` is equivalent to `*`.
            if part != GlobPart::Many || parts.last() != Some(&GlobPart::Many) {
                parts.push(part);
            }
        }
        Some(Glob(parts))
    }

    /// Returns the glob that matches only `name`.
    pub(super) fn from_name(name: &str) -> Glob {
        Glob(name.chars().map(GlobPart::Letter).collect())
    }

    /// Returns the characters before the first wildcard.
    pub(super) fn literal_prefix(&self) -> String {
        take_literal_prefix(self.0.iter())
    }

    /// Returns the characters after the last wildcard.
    pub(super) fn literal_suffix(&self) -> String {
        take_literal_prefix(self.0.iter().rev()).chars().rev().collect()
    }

    /// Returns the only name that matches, or `None` if the glob has a wildcard.
    pub(super) fn only_name(&self) -> Option<String> {
        let name = self.literal_prefix();
        (name.chars().count() == self.0.len()).then_some(name)
    }

    /// Returns whether `self` matches every name that `other` matches. Classes are compared as text.
    pub(super) fn covers(&self, other: &Glob) -> bool {
        // Dynamic programming: after part i of `self`, `covered[j]` says whether the first i parts of `self` cover the
        // first j parts of `other`. Unlike backtracking, this cannot take exponential time.
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

/// Reads a class after its `[`. Returns `None` if the class is unclosed.
fn parse_class(letters: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        let letter = letters.next()?;
        // A `]` in first position is a member of the class.
        if letter == ']' && !matches!(text.as_str(), "" | "!" | "^") {
            return Some(text);
        }
        text.push(letter);
    }
}

/// Returns the fault message if git would refuse every branch name that the glob matches.
pub(super) fn find_branch_glob_fault(text: &str) -> Option<&'static str> {
    let Some(glob) = Glob::parse(text) else {
        return Some("an unclosed `[` or a trailing `\\` matches no branch");
    };
    let holds = |letter: char| glob.0.contains(&GlobPart::Letter(letter));
    let (beginning, end) = (glob.literal_prefix(), glob.literal_suffix());
    Some(if end.ends_with('/') {
        "no branch name ends with `/`; append `*` to match all branches below it"
    } else if beginning.starts_with("refs/") {
        "write branch names without `refs/heads/`"
    } else if beginning.starts_with(['-', '/', '.'])
        || end.ends_with('.')
        || end.ends_with(".lock")
        || [' ', '~', '^', ':', '\\', '?', '*', '['].into_iter().any(holds)
        || text.chars().any(char::is_control)
        || ["..", "//", "/.", "@{"].iter().any(|wrong| text.contains(wrong))
    {
        "git does not accept such branch names"
    } else {
        return None;
    })
}

/// Returns whether `expression` certainly rejects every name that `glob` matches, judged by their literal prefixes
/// and suffixes.
pub(super) fn are_disjoint(glob: &Glob, expression: &str) -> bool {
    let (beginning, end) = find_literal_ends(expression);
    let glob_end: String = glob.literal_suffix().chars().rev().collect();
    let end: String = end.chars().rev().collect();
    !are_compatible_prefixes(&glob.literal_prefix(), &beginning)
        || !are_compatible_prefixes(&glob_end, &end)
}

/// Returns whether one text is a prefix of the other.
fn are_compatible_prefixes(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Returns the literal prefix and suffix of every match of `expression`. A part is empty if the expression is not
/// anchored at that end or its literal text is undecidable.
fn find_literal_ends(expression: &str) -> (String, String) {
    // An alternative may match anything, and a flag such as `(?i)` may change the meaning of letters.
    if expression.contains(['|', '\\']) || expression.contains("(?") {
        return (String::new(), String::new());
    }
    let is_plain = |c: &char| c.is_alphanumeric() || "/-_@,:;=!%&#'\"<>~`".contains(*c);
    let beginning = expression.strip_prefix('^').map_or(String::new(), |rest| {
        let mut plain: String = rest.chars().take_while(is_plain).collect();
        // A following quantifier may make the last letter optional.
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
