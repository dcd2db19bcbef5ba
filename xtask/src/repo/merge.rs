//! Merging three versions of a text.

use gix::merge::blob::Resolution;
use gix::merge::blob::builtin_driver::text;

/// How much of a file is searched for a NUL byte to tell whether it is binary, as git does.
const BINARY_WITHIN: usize = 8000;

/// What a merge came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// Both sides went together.
    Clean(Vec<u8>),
    /// Both changed the same lines; the text has git's conflict markers.
    Conflict(Vec<u8>),
    /// One of the versions is not text.
    Binary,
}

/// Merges `ours` and `theirs`, which both come from `base`. The labels stand at the markers.
#[must_use]
pub fn three_way(base: &[u8], ours: &[u8], theirs: &[u8], labels: (&str, &str)) -> Merged {
    if [base, ours, theirs].iter().any(|text| text.iter().take(BINARY_WITHIN).any(|b| *b == 0)) {
        return Merged::Binary;
    }
    let mut merged = Vec::new();
    let mut input = gix::diff::blob::InternedInput::new(&[][..], &[][..]);
    let labels = text::Labels {
        ancestor: None,
        current: Some(labels.0.into()),
        other: Some(labels.1.into()),
    };
    let resolution =
        text(&mut merged, &mut input, labels, ours, base, theirs, text::Options::default());
    match resolution {
        Resolution::Complete | Resolution::CompleteWithAutoResolvedConflict => {
            Merged::Clean(merged)
        }
        Resolution::Conflict => Merged::Conflict(merged),
    }
}

/// How many lines come and go between two texts; nothing where one of them is not text.
#[must_use]
pub fn changed_lines(old: &[u8], new: &[u8]) -> Option<(u32, u32)> {
    if [old, new].iter().any(|text| text.iter().take(BINARY_WITHIN).any(|b| *b == 0)) {
        return None;
    }
    let input = gix::diff::blob::InternedInput::new(old, new);
    let diff = gix::diff::blob::Diff::compute(gix::diff::blob::Algorithm::Histogram, &input);
    Some((diff.count_additions(), diff.count_removals()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_apart_go_together() {
        let base = b"1\n2\n3\n4\n5\n";
        let merged = three_way(base, b"one\n2\n3\n4\n5\n", b"1\n2\n3\n4\nfive\n", ("a", "b"));
        assert_eq!(merged, Merged::Clean(b"one\n2\n3\n4\nfive\n".to_vec()));
    }

    #[test]
    fn changes_of_one_line_conflict_and_both_are_shown() {
        let Merged::Conflict(text) = three_way(b"1\n", b"one\n", b"uno\n", ("yours", "canonical"))
        else {
            panic!("no conflict");
        };
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "<<<<<<< yours\none\n=======\nuno\n>>>>>>> canonical\n");
    }

    #[test]
    fn changed_lines_are_counted_as_git_does() {
        assert_eq!(changed_lines(b"1\n2\n3\n", b"1\ntwo\n3\n4\n"), Some((2, 1)));
        assert_eq!(changed_lines(b"", b"1\n2\n"), Some((2, 0)));
        assert_eq!(changed_lines(b"1\n", b"\0"), None);
    }

    #[test]
    fn binary_never_merges() {
        assert_eq!(three_way(b"\0", b"a", b"b", ("a", "b")), Merged::Binary);
    }
}
