//! Detection of git's conflict markers in the content of a file. Binary files and headings that are
//! underlined with `=======` count as clean. For example:
//!
//! ```text
//! <<<<<<< ours      counted
//! =======           separator, not counted
//! >>>>>>> theirs    counted, because a separator came before
//! ```

/// Returns the number of conflict markers in `content`: lines that begin with `<<<<<<< `, and lines
/// that begin with `>>>>>>> ` after a `=======`. A half-resolved conflict counts as well. Returns 0
/// for binary content (a NUL byte in the first 8000 bytes).
#[must_use]
pub fn count_conflict_markers(content: &[u8]) -> usize {
    if content[..content.len().min(8000)].contains(&0) {
        return 0;
    }
    let mut found = 0;
    let mut is_parted = false;
    for line in content.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        is_parted |= line == b"=======";
        let is_end = is_parted && line.starts_with(b">>>>>>> ");
        found += usize::from(line.starts_with(b"<<<<<<< ") || is_end);
    }
    found
}

/// Returns the 1-based line number of the first `<<<<<<< ` or `>>>>>>> ` marker, or 1 if there is
/// none.
#[must_use]
pub fn first_marker_line(content: &[u8]) -> usize {
    let lines = content.split(|byte| *byte == b'\n');
    let is_marker = |line: &[u8]| line.starts_with(b"<<<<<<< ") || line.starts_with(b">>>>>>> ");
    lines.into_iter().position(is_marker).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_count_whether_or_not_all_of_them_are_there() {
        let conflict = "a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n";
        assert_eq!(count_conflict_markers(conflict.as_bytes()), 2);
        assert_eq!(count_conflict_markers(conflict.replace('\n', "\r\n").as_bytes()), 2);
        assert_eq!(count_conflict_markers(b"a\n<<<<<<< HEAD\nb\n"), 1);
        assert_eq!(count_conflict_markers(b"a\n=======\nb\n>>>>>>> theirs\n"), 1);
        assert_eq!(count_conflict_markers(b"Title\n=======\ntext\n"), 0);
        assert_eq!(count_conflict_markers(b">>>>>>> a quote in a quote\n"), 0);
        assert_eq!(count_conflict_markers(b"<<<<<<<\n=======\n>>>>>>>\n"), 0);
        assert_eq!(count_conflict_markers(b"  <<<<<<< indented\n  =======\n  >>>>>>> too\n"), 0);
        assert_eq!(count_conflict_markers(&[b"\0", conflict.as_bytes()].concat()), 0);
        assert_eq!(first_marker_line(conflict.as_bytes()), 2);
    }
}
