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
    fn binary_never_merges() {
        assert_eq!(three_way(b"\0", b"a", b"b", ("a", "b")), Merged::Binary);
    }
}
