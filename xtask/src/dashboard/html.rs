//! Text and numbers as HTML. Whatever comes from a repository, a log or a process is data: it enters a page only
//! through [`escape`], [`escape_name`] or [`encode_query`].
//!
//! ```text
//! escape("<b> & \"c\"")   -> &lt;b&gt; &amp; &quot;c&quot;
//! encode_query("a b/ü")   -> a%20b%2F%C3%BC
//! ```

use std::borrow::Cow;
use std::fmt::Write as _;

use xtask_base::error::Error;
use xtask_base::words;

/// Escapes text for the content of an element and for a quoted attribute. Control characters, which HTML does not
/// allow, become a replacement character.
#[must_use]
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    let is_special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || is_forbidden(c);
    if !text.contains(is_special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if is_forbidden(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Escapes a name, in which characters that would hide or reorder text are shown as escapes.
#[must_use]
pub(super) fn escape_name(name: &str) -> String {
    escape(&words::escape_name(name)).into_owned()
}

/// Escapes a message of ours: what is in backticks becomes code.
#[must_use]
pub(super) fn escape_message(text: &str) -> String {
    let mut parts = text.split('`');
    let mut html = escape(parts.next().unwrap_or_default()).into_owned();
    let mut is_code = true;
    let mut rest = parts.peekable();
    while let Some(part) = rest.next() {
        let part = escape(part);
        // A backtick without a partner is one.
        match (is_code, rest.peek().is_some()) {
            (true, true) => write!(html, "<code>{part}</code>"),
            (true, false) => write!(html, "`{part}"),
            (false, _) => write!(html, "{part}"),
        }
        .expect("because writing to a string cannot fail");
        is_code = !is_code;
    }
    html
}

/// Renders a time, `2026-01-31T12:00:00Z`, for people: `2026-01-31 12:00:00 UTC`.
#[must_use]
pub(super) fn render_time(time: &str) -> String {
    let words = time.replace('T', " ").replace('Z', " UTC");
    format!("<time datetime=\"{}\">{}</time>", escape(time), escape(&words))
}

/// Renders why something cannot be shown: each fault, and what to do about it.
#[must_use]
pub(super) fn render_failure(failure: &Error) -> String {
    let faults: String =
        failure.details().iter().map(|one| format!("<li>{}", escape_message(one))).collect();
    let hints = failure.hints().iter().map(|hint| format!("<p>{}</p>", escape_message(hint)));
    let faults = if faults.is_empty() { faults } else { format!("<ul>{faults}</ul>") };
    format!("{faults}{}", hints.collect::<String>())
}

#[cfg(any(feature = "checks", feature = "services"))]
/// Removes the sequences by which programs colour their output (ECMA-48, `CSI … m`), which a page does not show.
pub(super) fn strip_colours(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| !(c.is_ascii_digit() || c == ';'));
        rest = match end {
            Some(end) if after[end..].starts_with('m') => &after[end + 1..],
            _ => {
                plain.push_str("\u{1b}[");
                after
            }
        };
    }
    plain.push_str(rest);
    plain
}

/// Quotes a name for a command that people copy. Bytes that a page cannot show are escapes in `$'…'`, which bash and
/// POSIX 2024 know.
#[must_use]
pub(super) fn quote_word(name: &[u8]) -> String {
    let is_shown = |c: char| !is_forbidden(c) && c != '\n' && c != '\t' && c != '\u{fffd}';
    match std::str::from_utf8(name) {
        Ok(text) if text.chars().all(is_shown) => words::quote_for_shell(text),
        _ => {
            let mut quoted = String::from("$'");
            for byte in name {
                match byte {
                    b'\'' | b'\\' => quoted.push_str(&format!("\\{}", char::from(*byte))),
                    b' '..=b'~' => quoted.push(char::from(*byte)),
                    byte => quoted.push_str(&format!("\\{byte:03o}")),
                }
            }
            quoted.push('\'');
            quoted
        }
    }
}

/// Encodes text as a value in the query of a URL, which is safe in an attribute as well.
#[must_use]
pub(super) fn encode_query(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => {
                write!(encoded, "%{byte:02X}").expect("because writing to a string cannot fail");
            }
        }
    }
    encoded
}

/// Returns the value of `key` in the query of a URL, decoded; `None` if it is absent.
#[must_use]
pub(super) fn query_value(query: &str, key: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next()?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = [rest.next()?, rest.next()?];
                let hex = std::str::from_utf8(&hex).ok()?;
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Returns whether HTML does not allow a character, or it would hide or reorder the text around it.
fn is_forbidden(c: char) -> bool {
    (c.is_control() || words::is_unsafe_char(c)) && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let nasty = "<script>alert('x')</script>\"&\u{0}\u{1b}[31m\u{85}";
        let escaped = escape(nasty);
        assert!(!escaped.contains(['<', '>', '"', '\'', '\0', '\u{1b}', '\u{85}']), "{escaped}");
        assert_eq!(escape("plain ü\n"), "plain ü\n");
        assert!(!escape_name("a\u{202e}b").contains('\u{202e}'));
        assert!(!escape("a\u{202e}b").contains('\u{202e}'));
        assert_eq!(quote_word(b"setup/a"), "setup/a");
        assert_eq!(quote_word(b"it's"), words::quote_for_shell("it's"));
        assert_eq!(quote_word(b"a\xff'b"), "$'a\\377\\'b'");
        assert_eq!(quote_word("b\u{202e}".as_bytes()), "$'b\\342\\200\\256'");
        assert_eq!(
            escape_message("`a<b` is `c`; a ` alone"),
            "<code>a&lt;b</code> is <code>c</code>; a ` alone"
        );
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        for text in ["", "a b/ü&=+%", "<\"'>", "feature/x"] {
            let encoded = encode_query(text);
            assert_eq!(escape(&encoded), encoded, "it needs no escape in an attribute");
            let query = format!("x=1&n={encoded}&y");
            assert_eq!(query_value(&query, "n").as_deref(), Some(text));
        }
        assert_eq!(query_value("n=a+b", "n").as_deref(), Some("a b"));
        for broken in ["n=%", "n=%2", "n=%zz", "n=%ff", "", "m=1"] {
            assert_eq!(query_value(broken, "n"), None, "{broken}");
        }
    }

    #[cfg(any(feature = "checks", feature = "services"))]
    #[test]
    fn colours_are_left_out() {
        assert_eq!(strip_colours("\u{1b}[1;31mred\u{1b}[0m \u{1b}[2J"), "red \u{1b}[2J");
        assert_eq!(strip_colours("\u{1b}["), "\u{1b}[");
    }
}
