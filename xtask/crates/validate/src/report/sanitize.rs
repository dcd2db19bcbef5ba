//! Converts the output of programs to text that every report format can hold *(pure)*.
//!
//! The result of `sanitize_text` has no terminal escapes, no control characters except tab and line feed, and no
//! other character that XML 1.0 forbids. No visible text is lost: an escape sequence ends at the end of its line at
//! the latest, and an unterminated one removes only its introducer. The running time is linear in the length of the
//! text. For example, `"\x1b[31merror\x1b[0m\r\n"` becomes `"error\n"`.

use xtask_base::words::format_size;

/// The replacement of a forbidden character.
const REPLACEMENT: char = '\u{fffd}';

/// Returns the text without terminal escapes, with `\n` as the only line ending, and with `REPLACEMENT` for every
/// other forbidden character.
#[must_use]
pub fn sanitize_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (number, line) in text.replace("\r\n", "\n").split(['\n', '\r']).enumerate() {
        if number > 0 {
            plain.push('\n');
        }
        push_sanitized(line, &mut plain);
    }
    plain
}

/// Returns the sanitized text as a single line; each run of white space becomes one space.
#[must_use]
pub fn to_one_line(text: &str) -> String {
    sanitize_text(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Truncates a text to at most `most` characters, the last of them `…` if it was longer.
#[must_use]
pub fn truncate_chars(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Truncates a text to at most `most` bytes: a quarter from its start, the rest from its end, where programs print
/// the error, and between them the size of the omission.
#[must_use]
pub fn truncate_middle(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let marker = |bytes: usize| format!("\n… {} left out …\n", format_size(bytes as u64));
    // The marker with the total size is the longest one, give or take a digit.
    let room = most.saturating_sub(marker(text.len()).len() + 4);
    if room == 0 {
        return String::new();
    }
    let head = &text[..text.floor_char_boundary(room / 4)];
    let tail = &text[text.ceil_char_boundary(text.len() - (room - room / 4))..];
    format!("{head}{}{tail}", marker(text.len() - head.len() - tail.len()))
}

/// Appends a line without its escapes.
fn push_sanitized(line: &str, plain: &mut String) {
    let mut rest = line;
    while let Some(at) = rest.find(needs_replacement) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('\x1b') {
            rest = skip_escape(after);
        } else {
            // A bell is not visible, so it needs no replacement.
            if !rest.starts_with('\x07') {
                plain.push(REPLACEMENT);
            }
            rest = rest.strip_prefix(needs_replacement).expect("because it was found there");
        }
    }
    plain.push_str(rest);
}

/// Returns whether a character must be replaced.
fn needs_replacement(c: char) -> bool {
    (c.is_control() && c != '\t') || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Returns the text after an escape sequence; `text` begins behind its ESC.
fn skip_escape(text: &str) -> &str {
    let Some(kind) = text.chars().next().filter(|c| (' '..='~').contains(c)) else {
        return text;
    };
    let body = &text[1..];
    match kind {
        // CSI (colours, cursor movements): parameters, intermediates, and a final byte.
        '[' => {
            let end = body.trim_start_matches(|c| ('0'..='?').contains(&c));
            let end = end.trim_start_matches(|c| (' '..='/').contains(&c));
            end.strip_prefix(|c| ('@'..='~').contains(&c)).unwrap_or(end)
        }
        // Control strings (titles, hyperlinks): up to a bell or `ESC \`.
        ']' | 'P' | 'X' | '^' | '_' => {
            let end = body.find(['\x07', '\x1b']).map(|at| &body[at..]);
            end.and_then(|end| end.strip_prefix('\x07').or(end.strip_prefix("\x1b\\")))
                .unwrap_or(body)
        }
        // Character sets: intermediates and a final byte.
        ' '..='/' => {
            let end = body.trim_start_matches(|c| (' '..='/').contains(&c));
            end.strip_prefix(|c| ('0'..='~').contains(&c)).unwrap_or(end)
        }
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_go_and_the_text_stays() {
        for (text, expected) in [
            ("\x1b[1;31merror\x1b[0m: x", "error: x"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ y", "link y"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]never ended", "never ended"),
            ("\x1b]a\x1b]b\x1b]c\nnext", "abc\nnext"),
            ("\x1b(Btext\x1b", "text"),
            ("\x1bé \x1b[é \x1b[12", "é é "),
            ("50%\r100%\r\ndone\n", "50%\n100%\ndone\n"),
            (
                "a\0b\u{8}c\u{9b}d\u{fffe}e\u{7f}\tf\x07",
                "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}\tf",
            ),
        ] {
            assert_eq!(sanitize_text(text), expected, "{text:?}");
        }
        assert_eq!(to_one_line(" a\tb\r\n\n c "), "a b c");
    }

    #[test]
    fn a_flood_of_escapes_takes_no_longer_than_its_length() {
        for piece in ["\x1b]", "\x1b[", "\x1b", "\x1b]a\x07", "\x1b]a\x1b\\", "\x1bP\x1b["] {
            let text = sanitize_text(&piece.repeat(1 << 19));
            assert!(text.len() <= 1 << 19, "{piece:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(
            (truncate_chars("größe", 5), truncate_chars("größe", 4)),
            ("größe".to_owned(), "grö…".to_owned())
        );
        let text = "ä".repeat(10_000);
        for most in [0, 10, 40, 41, 42, 43, 100, 1_001, 19_999] {
            let short = truncate_middle(&text, most);
            assert!(short.len() <= most, "{} of {most}", short.len());
            assert!(most < 43 || short.contains("left out"), "{most}");
        }
        assert_eq!(truncate_middle("abc", 3), "abc");
    }
}
