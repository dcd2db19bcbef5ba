//! Wording that every room needs.

/// `1 file`, `2 files`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Names, the first few in full: `a, b and 3 more`.
#[must_use]
pub fn some_of(names: &[String], shown: usize) -> String {
    let list = names.iter().take(shown).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    let list = list.join(", ");
    match names.len().saturating_sub(shown) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// A word as it can be typed into a shell, in quotes where it needs them.
#[must_use]
pub fn typed(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/@:+,%".contains(&byte);
    let is_word = !word.is_empty() && !word.starts_with('-') && word.bytes().all(is_plain);
    if is_word { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(typed("feature/ci-1"), "feature/ci-1");
        assert_eq!(typed("a b"), "'a b'");
        assert_eq!(typed("a'; x"), r"'a'\''; x'");
        assert_eq!(typed(""), "''");
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(some_of(&names, 3), "`a`, `b`, `c`");
        assert_eq!(some_of(&names, 1), "`a` and 2 more");
    }
}
