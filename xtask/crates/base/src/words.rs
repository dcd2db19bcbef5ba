//! Text helpers for messages: counts, lists, sizes, shell quoting, and escaping of control
//! characters. For example, `pluralize(2, "file")` is `2 files`.

/// Formats a count: `1 file`, `2 files`, `2 branches`.
#[must_use]
pub fn pluralize(number: usize, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

/// Formats the first `shown` names in backticks and counts the rest: "`a`, `b` and 3 more".
#[must_use]
pub fn join_names(names: &[String], shown: usize) -> String {
    let list = names.iter().take(shown).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    let list = list.join(", ");
    match names.len().saturating_sub(shown) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// Quotes a value for a curl config file.
#[must_use]
pub fn quote_curl_value(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Quotes a word for a shell if needed: `it's` becomes `'it'\''s'`.
#[must_use]
pub fn quote_for_shell(word: &str) -> String {
    quote_bytes_for_shell(word.as_bytes())
}

/// Quotes the bytes of a word for a shell if needed. What a terminal does not show is in `$'…'`, which POSIX has since
/// 2024, and bash, zsh and ksh have had before.
#[must_use]
pub fn quote_bytes_for_shell(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._/@:+,%".contains(byte);
    match std::str::from_utf8(word) {
        Ok(text) if !word.is_empty() && !word.starts_with(b"-") && word.iter().all(is_plain) => {
            text.to_owned()
        }
        Ok(text) if !text.contains(is_unsafe_char) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let escaped = word.iter().map(|byte| match byte {
                b' '..=b'~' if !b"\\'".contains(byte) => char::from(*byte).to_string(),
                // Three digits, so that a digit after it is none of them.
                byte => format!("\\{byte:03o}"),
            });
            format!("$'{}'", escaped.collect::<String>())
        }
    }
}

/// The units of sizes, in bytes.
const UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Parses a size such as `1 GB`, `512 MiB` or `1.5GB` into bytes. Returns `None` if `text` is
/// invalid or zero.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let unit = unit.trim().to_ascii_lowercase();
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(*bytes)?;
    if part.is_empty() || part.len() > 3 {
        return None;
    }
    let thousandths = format!("{part:0<3}").parse::<u64>().ok()?;
    whole.checked_add(bytes / 1000 * thousandths).filter(|bytes| *bytes > 0)
}

/// The maximum number of alternatives that braces may expand to, and of braces in a text.
const MOST_ALTERNATIVES: usize = 1000;
const MOST_BRACES: usize = 32;

/// Expands braces: `a.{ts,tsx}` becomes `a.ts` and `a.tsx`. Braces that are not closed or contain
/// no comma stay. Returns `None` if there are too many alternatives.
#[must_use]
pub fn expand_braces(text: &str) -> Option<Vec<String>> {
    if text.matches('{').count() > MOST_BRACES {
        return None;
    }
    let mut all = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(next) = open.pop() {
        match expand_first_brace(&next) {
            None => all.push(next),
            Some(choices) => open.extend(choices.into_iter().rev()),
        }
        if all.len() + open.len() > MOST_ALTERNATIVES {
            return None;
        }
    }
    Some(all)
}

/// Expands the first brace that contains a comma. Returns `None` if there is none.
fn expand_first_brace(text: &str) -> Option<Vec<String>> {
    for (start, _) in text.match_indices('{') {
        let mut depth = 0;
        let mut cuts = vec![start];
        for (at, letter) in text[start..].char_indices() {
            let at = start + at;
            match letter {
                '{' => depth += 1,
                ',' if depth == 1 => cuts.push(at),
                '}' if depth == 1 => {
                    if cuts.len() == 1 {
                        break;
                    }
                    cuts.push(at);
                    let (before, after) = (&text[..start], &text[at + 1..]);
                    let choices = cuts.windows(2).map(|cut| &text[cut[0] + 1..cut[1]]);
                    return Some(choices.map(|one| format!("{before}{one}{after}")).collect());
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    None
}

/// Returns a small bar for a value: `▁` for nothing, `█` for `most` and above.
#[must_use]
pub fn bar(value: u64, most: u64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = value.saturating_mul(7).div_ceil(most.max(1));
    BARS[usize::try_from(height).unwrap_or(7).min(7)]
}

/// Formats a size for people: `3.2 GB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return pluralize(usize::try_from(bytes).unwrap_or(0), "byte"),
        1_000..1_000_000 => (1_000, "KB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

/// Returns whether a character could move the cursor, begin a terminal command, end a line or
/// change the writing direction.
#[must_use]
pub fn is_unsafe_char(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Escapes unsafe characters in a name by their bytes, as git does in quotes: `\n`, `\033`.
#[must_use]
pub fn escape_name(name: &str) -> std::borrow::Cow<'_, str> {
    if !name.contains(is_unsafe_char) {
        return name.into();
    }
    let mut text = String::new();
    for c in name.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if is_unsafe_char(c) => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    text.push_str(&format!("\\{byte:03o}"));
                }
            }
            c => text.push(c),
        }
    }
    text.into()
}

/// Escapes everything that a terminal obeys, except xtask's own colours, in a text of several
/// lines. All output passes through here.
#[must_use]
pub fn sanitize_for_terminal(text: &str) -> std::borrow::Cow<'_, str> {
    let is_odd = |c: char| is_unsafe_char(c) && c != '\n' && c != '\t';
    if !text.contains(is_odd) {
        return text.into();
    }
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_odd) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = style_prefix_len(rest) {
            rest = &rest[length..];
            continue;
        }
        let length = color_prefix_len(rest).unwrap_or_else(|| {
            let c = rest.chars().next().map_or(0, char::len_utf8);
            // A Windows line end loses its `\r`.
            if !rest.starts_with("\r\n") {
                shown.push_str(&escape_name(&rest[..c]));
            }
            rest = &rest[c..];
            0
        });
        shown.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    shown.push_str(rest);
    shown.into()
}

/// Returns the length of a sequence at the start of `text` that only changes how text looks, and is none of xtask's own: a
/// style (`ESC [ 1;31 m`), or the choice of ASCII letters (`ESC ( B`, as `tput sgr0` prints it).
fn style_prefix_len(text: &str) -> Option<usize> {
    if text.starts_with("\u{1b}(B") {
        return Some(3);
    }
    let inner = text.strip_prefix("\u{1b}[")?;
    let end = inner.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    (inner[end..].starts_with('m') && color_prefix_len(text).is_none()).then_some(end + 3)
}

/// Returns the length of one of xtask's own colours at the start of `text`: bold, dim, a foreground
/// colour or reset.
fn color_prefix_len(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\u{1b}[")?;
    let end = inner.find('m')?;
    let is_ours = matches!(&inner[..end], "0" | "1" | "2")
        || (end == 2 && inner.starts_with(['3', '9']) && inner.as_bytes()[1].is_ascii_digit());
    is_ours.then_some(end + 3)
}

/// Turns untrusted text into one line of at most `most` characters, the last of which is `…` if
/// text was cut. Characters that could move the cursor or change the writing direction are
/// replaced.
#[must_use]
pub fn sanitize_line(text: &str, most: usize) -> String {
    let shown = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        c if is_unsafe_char(c) => '\u{fffd}',
        c => c,
    };
    let mut line: String = text.chars().take(most + 1).map(shown).collect();
    if let Some((end, _)) = line.char_indices().nth(most) {
        let last = line[..end].chars().next_back().map_or(0, char::len_utf8);
        line.truncate(end - last);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_obeys_nobody() {
        for (text, shown) in [
            ("plain\nlines\tand é", "plain\nlines\tand é"),
            (
                "\u{1b}[1mbold\u{1b}[0m \u{1b}[31mred\u{1b}[0m",
                "\u{1b}[1mbold\u{1b}[0m \u{1b}[31mred\u{1b}[0m",
            ),
            ("\u{1b}]0;title\u{7}", "\\033]0;title\\007"),
            ("\u{1b}[8mhidden\u{1b}[2J\u{1b}[", "hidden\\033[2J\\033["),
            ("\u{9b}2J \u{202e}x", "\\302\\2332J \\342\\200\\256x"),
            ("one\r\ntwo\rthree", "one\ntwo\\rthree"),
            ("\u{1b}[38;5;1mx\u{1b}[3xm", "x\\033[3xm"),
            ("\u{1b}[1;31mred\u{1b}(B\u{1b}[m", "red"),
        ] {
            assert_eq!(sanitize_for_terminal(text), shown);
        }
        assert_eq!(
            escape_name("a\nxtask: all is well\t\u{1b}[2J"),
            "a\\nxtask: all is well\\t\\033[2J"
        );
        assert_eq!(escape_name("é ü"), "é ü");
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quote_for_shell("feature/ci-1"), "feature/ci-1");
        assert_eq!(quote_for_shell("a b"), "'a b'");
        assert_eq!(quote_for_shell("a'; x"), r"'a'\''; x'");
        assert_eq!(quote_for_shell(""), "''");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("1 GB"), Some(1_000_000_000));
        assert_eq!(parse_size("1.5MB"), Some(1_500_000));
        assert_eq!(parse_size("2 MiB"), Some(2 << 20));
        for wrong in ["", "1", "GB", "0 GB", "1 XB", "-1 GB", "99999999999 TB", "1. GB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
        assert_eq!(
            (format_size(999), format_size(1_234_567)),
            ("999 bytes".into(), "1.2 MB".into())
        );
    }

    #[test]
    fn braces_are_alternatives() {
        let of = |text: &str| expand_braces(text).unwrap();
        assert_eq!(of("a.{ts,tsx}"), ["a.ts", "a.tsx"]);
        assert_eq!(of("{a,b{c,d}}/{e,f}").len(), 6);
        assert_eq!(of("a{b}c"), ["a{b}c"]);
        assert_eq!(of("a{b,c"), ["a{b,c"]);
        assert_eq!(of("{x}{a,b}"), ["{x}a", "{x}b"]);
        assert_eq!(expand_braces(&"{a,b}".repeat(10)), None);
        assert_eq!(expand_braces(&"{a,b}".repeat(100_000)), None);
    }

    #[test]
    fn texts_by_strangers_do_no_harm() {
        assert_eq!(
            sanitize_line("sh -c a\nb\u{1b}[2J \u{202e}x é", 40),
            "sh -c a b\u{fffd}[2J \u{fffd}x é"
        );
        assert_eq!(
            (sanitize_line("ééé", 3), sanitize_line("éééé", 3)),
            ("ééé".into(), "éé…".into())
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(join_names(&names, 3), "`a`, `b`, `c`");
        assert_eq!(join_names(&names, 1), "`a` and 2 more");
    }
}
