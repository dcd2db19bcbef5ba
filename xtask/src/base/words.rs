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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(some_of(&names, 3), "`a`, `b`, `c`");
        assert_eq!(some_of(&names, 1), "`a` and 2 more");
    }
}
