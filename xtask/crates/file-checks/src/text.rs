//! Faults of texts, and their repair: the ends of lines and of the file, keys, `#!` lines.

/// A UTF-8 byte order mark.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How much of a file is searched for a NUL byte, in bytes: as much as git reads to tell text from binary.
const BINARY_SEARCH: usize = 8000;

/// Whether a content is no text: a NUL byte is near its beginning, which is how git tells.
#[must_use]
pub fn is_binary(content: &[u8]) -> bool {
    content[..content.len().min(BINARY_SEARCH)].contains(&0)
}

/// Whether a text begins with the line that names its interpreter. An attribute of Rust (`#![…]`) is none.
#[must_use]
pub fn has_shebang(content: &[u8]) -> bool {
    content.starts_with(b"#!") && !content.starts_with(b"#![")
}

/// The interpreter in the first line of a script, without its folder: `python3` for `#!/usr/bin/env python3`.
#[must_use]
pub fn find_interpreter(content: &[u8]) -> Option<&str> {
    let line = content.strip_prefix(b"#!")?.split(|byte| matches!(byte, b'\n' | b'\r')).next()?;
    let line = std::str::from_utf8(line).ok()?;
    let base = |word: &'_ str| -> usize { word.rfind('/').map_or(0, |at| at + 1) };
    let mut words = line.split_whitespace();
    let first = words.next()?;
    if &first[base(first)..] != "env" {
        return Some(&first[base(first)..]);
    }
    // `env -S python3 -u`, `env NAME=value python3`
    let named = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    Some(&named[base(named)..])
}

/// The lines of a text, each with its ending: `\n`, `\r\n` or `\r`.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let end = end.unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        let length = match rest {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        let (ending, rest) = rest.split_at(length);
        self.rest = rest;
        Some((line, ending))
    }
}

/// A line without what counts as trailing whitespace. In Markdown two or more blanks after a text are a line break;
/// two of them stay.
fn trim_line(line: &[u8], is_markdown: bool) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0x0b | 0x0c);
    let end = line.iter().rposition(|byte| !is_blank(byte)).map_or(0, |at| at + 1);
    let is_break =
        is_markdown && end > 0 && line.ends_with(b"  ") && line[end..].starts_with(b"  ");
    &line[..if is_break { end + 2 } else { end }]
}

/// The first line with trailing whitespace, counted from 1, and how many there are.
#[must_use]
pub fn find_trailing_whitespace(content: &[u8], is_markdown: bool) -> Option<(usize, usize)> {
    let lines = Lines { rest: content }.enumerate();
    let mut found = lines.filter(|(_, (line, _))| trim_line(line, is_markdown).len() != line.len());
    let (first, _) = found.next()?;
    Some((first + 1, found.count() + 1))
}

/// The text without trailing whitespace.
#[must_use]
pub fn strip_trailing_whitespace(content: &[u8], is_markdown: bool) -> Vec<u8> {
    let lines = Lines { rest: content };
    lines
        .flat_map(|(line, ending)| [trim_line(line, is_markdown), ending])
        .flatten()
        .copied()
        .collect()
}

/// Where the content without its final line endings ends.
fn body_end(content: &[u8]) -> usize {
    content.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1)
}

/// What is wrong with the end of a text, and in which line.
#[must_use]
pub fn find_final_newline_fault(content: &[u8]) -> Option<(usize, &'static str)> {
    let end = body_end(content);
    let lines = |text: &[u8]| Lines { rest: text }.count().max(1);
    match &content[end..] {
        [] if content.is_empty() => None,
        [] => Some((lines(content), "no newline at the end of the file")),
        [b'\n'] | [b'\r', b'\n'] | [b'\r'] if end > 0 => None,
        _ => Some((
            lines(&content[..end]) + usize::from(end > 0),
            "blank lines at the end of the file",
        )),
    }
}

/// The text with one newline at its end: that of its last line, or else the most usual of the text.
#[must_use]
pub fn end_with_newline(content: &[u8]) -> Vec<u8> {
    let end = body_end(content);
    if end == 0 {
        return Vec::new();
    }
    let tail = &content[end..];
    let ending = match tail {
        [] => usual_ending(content),
        [b'\r', b'\n', ..] => b"\r\n",
        [b'\r', ..] => b"\r",
        _ => b"\n",
    };
    [&content[..end], ending].concat()
}

/// How often each ending occurs: LF, CRLF, CR.
fn count_endings(content: &[u8]) -> [usize; 3] {
    let mut counts = [0; 3];
    for (_, ending) in (Lines { rest: content }) {
        match ending {
            b"\n" => counts[0] += 1,
            b"\r\n" => counts[1] += 1,
            b"\r" => counts[2] += 1,
            _ => {}
        }
    }
    counts
}

/// The ending that occurs most often; LF where two are as frequent, or none is there.
fn usual_ending(content: &[u8]) -> &'static [u8] {
    let [lf, crlf, cr] = count_endings(content);
    match lf.max(crlf).max(cr) {
        most if most == lf => b"\n",
        most if most == crlf => b"\r\n",
        _ => b"\r",
    }
}

/// The first line whose ending is not that of most lines, where a text has several kinds.
#[must_use]
pub fn find_mixed_endings(content: &[u8]) -> Option<(usize, String)> {
    let counts = count_endings(content);
    if counts.iter().filter(|count| **count > 0).count() < 2 {
        return None;
    }
    let usual = usual_ending(content);
    let line =
        Lines { rest: content }.position(|(_, ending)| !ending.is_empty() && ending != usual)?;
    let named = counts.iter().zip(["LF", "CRLF", "CR"]).filter(|(count, _)| **count > 0);
    let named: Vec<String> = named.map(|(count, name)| format!("{count} {name}")).collect();
    Some((line + 1, format!("mixed line endings: {}", named.join(", "))))
}

/// The text with its most usual ending at every line.
#[must_use]
pub fn unify_line_endings(content: &[u8]) -> Vec<u8> {
    let usual = usual_ending(content);
    let lines = Lines { rest: content };
    let lines =
        lines.flat_map(|(line, ending)| [line, if ending.is_empty() { ending } else { usual }]);
    lines.flatten().copied().collect()
}

/// The kinds of keys whose first line is `-----BEGIN KIND…`, as OpenSSL, OpenSSH, GnuPG and OpenVPN write them. They are
/// put together here, so that nobody takes this source for a key.
const KEY_KINDS: [(&str, &str); 9] = [
    ("RSA ", "PRIVATE KEY"),
    ("DSA ", "PRIVATE KEY"),
    ("EC ", "PRIVATE KEY"),
    ("OPENSSH ", "PRIVATE KEY"),
    ("ENCRYPTED ", "PRIVATE KEY"),
    ("SSH2 ENCRYPTED ", "PRIVATE KEY"),
    ("PGP ", "PRIVATE KEY BLOCK"),
    ("OpenVPN ", "Static key V1"),
    ("", "PRIVATE KEY"),
];

/// The first line of a private key, counted from 1, and its kind.
#[must_use]
pub fn find_private_key(content: &[u8]) -> Option<(usize, &'static str)> {
    for (at, (line, _)) in (Lines { rest: content }).enumerate() {
        if line.starts_with(b"PuTTY-User-Key-File-") {
            return Some((at + 1, "PuTTY"));
        }
        let Some(begin) = line.windows(11).position(|part| part == b"-----BEGIN ") else {
            continue;
        };
        let rest = &line[begin + 11..];
        let found = KEY_KINDS.iter().find(|(kind, name)| {
            let rest = rest.strip_prefix(kind.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(name.as_bytes()))
        });
        if let Some((kind, _)) = found {
            return Some((at + 1, if kind.is_empty() { "PKCS #8" } else { kind.trim_end() }));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_found_through_env() {
        for (line, wanted) in [
            ("#!/bin/sh\n", Some("sh")),
            ("#! /usr/bin/env python3\n", Some("python3")),
            ("#!/usr/bin/env -S A=1 node --x\n", Some("node")),
            ("#!/usr/bin/env\n", None),
            ("#!\n", None),
            ("no\n", None),
        ] {
            assert_eq!(find_interpreter(line.as_bytes()), wanted, "{line}");
        }
    }

    #[test]
    fn a_break_of_markdown_keeps_two_blanks() {
        assert_eq!(strip_trailing_whitespace(b"a    \n  \nb \n", true), b"a  \n\nb\n");
        assert_eq!(strip_trailing_whitespace(b"a    \r\nb", false), b"a\r\nb");
    }

    #[test]
    fn the_end_of_a_text_keeps_its_kind_of_newline() {
        assert_eq!(end_with_newline(b"a\r\nb"), b"a\r\nb\r\n");
        assert_eq!(end_with_newline(b"a\r\n\r\n"), b"a\r\n");
        assert_eq!(end_with_newline(b"\n\n"), b"");
    }
}
