//! Syntax check for file contents, without knowledge of the project: TOML and JSON files that cannot be parsed.
//!
//! For example, `{"a": 1` in `package.json` yields `cannot be parsed: line 1: EOF while parsing an object`.

use serde::de::IgnoredAny;

/// The largest TOML file that is parsed, in bytes: the parser takes a second per megabyte of garbage.
const LARGEST_TOML: usize = 1_000_000;

/// Returns the syntax error of a file, whose kind is determined by the suffix of `path`: `cannot be parsed: line 3: …`.
/// Returns `None` for other kinds of files.
#[must_use]
pub fn find_syntax_fault(path: &str, content: &[u8]) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let kind = name.rsplit_once('.').map(|(_, kind)| kind)?;
    let fault = match kind {
        "json" if content.iter().all(u8::is_ascii_whitespace) => {
            return Some("is empty, which is not valid JSON".to_owned());
        }
        "toml" if content.len() > LARGEST_TOML => None,
        "toml" => find_toml_fault(content),
        "json" if may_have_comments(path, name) => find_json_fault(&blank_comments(content)),
        "json" => find_json_fault(content),
        _ => None,
    };
    fault.map(|fault| format!("cannot be parsed: {fault}"))
}

fn decode_utf8(content: &[u8]) -> Result<&str, String> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())
}

fn find_toml_fault(content: &[u8]) -> Option<String> {
    let text = match decode_utf8(content) {
        Ok(text) => text,
        Err(fault) => return Some(fault),
    };
    let (_, faults) = toml::de::DeTable::parse_recoverable(text);
    let first = faults.first()?;
    let at = first.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    Some(format!("line {line}: {}", first.message()))
}

fn find_json_fault(content: &[u8]) -> Option<String> {
    let text = match decode_utf8(content) {
        Ok(text) => text,
        Err(fault) => return Some(fault),
    };
    let fault = serde_json::from_str::<IgnoredAny>(text).err()?;
    let words = fault.to_string();
    // Deep nesting is a limit of the parser, not a fault of the file.
    if words.contains("recursion limit") {
        return None;
    }
    let what = words.split(" at line ").next().unwrap_or(&words);
    Some(format!("line {}: {what}", fault.line().max(1)))
}

/// Returns whether the readers of a JSON file accept comments and trailing commas.
fn may_have_comments(path: &str, name: &str) -> bool {
    let folders = [".vscode/", ".devcontainer/", ".zed/", ".config/"];
    let starts = ["tsconfig", "jsconfig", ".eslintrc", "devcontainer", ".swcrc", "api-extractor"];
    folders.iter().any(|folder| path.starts_with(folder) || path.contains(&format!("/{folder}")))
        || starts.iter().any(|start| name.starts_with(start))
        || ["deno.json", "language-configuration.json", "typedoc.json", "turbo.json", "nx.json"]
            .contains(&name)
}

/// Replaces comments and trailing commas with spaces; line breaks stay.
fn blank_comments(content: &[u8]) -> Vec<u8> {
    let mut text = content.to_vec();
    let mut at = 0;
    let mut comma = None;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            (b'"', _) => {
                comma = None;
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
            }
            (b'/', Some(b'/')) => {
                while at < text.len() && text[at] != b'\n' {
                    text[at] = b' ';
                    at += 1;
                }
            }
            (b'/', Some(b'*')) => {
                let end = text[at + 2..].windows(2).position(|two| two == b"*/");
                let end = end.map_or(text.len(), |end| at + 2 + end + 2);
                for byte in &mut text[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
                continue;
            }
            (b',', _) => comma = Some(at),
            (b'}' | b']', _) => {
                if let Some(at) = comma.take() {
                    text[at] = b' ';
                }
            }
            (byte, _) if !byte.is_ascii_whitespace() => comma = None,
            _ => {}
        }
        at += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_is_checked_by_the_name_of_the_file() {
        assert_eq!(find_syntax_fault("a.toml", b"a = 1\n"), None);
        assert!(find_syntax_fault("x/a.toml", b"a = 1\nb = \n").unwrap().contains(": line 2: "));
        assert_eq!(find_syntax_fault("a.json", b"{\"a\": [1, 2]}"), None);
        assert_eq!(find_syntax_fault("a.json", b"\xef\xbb\xbf{}"), None);
        assert!(find_syntax_fault("a.json", b"{\n  \"a\": 1,\n}").unwrap().contains(": line 3: "));
        assert!(find_syntax_fault("a.json", b"").is_some());
        assert!(find_syntax_fault("a.json", b"{} {}").is_some());
        assert_eq!(
            find_syntax_fault("a.json", b"\xff").as_deref(),
            Some("cannot be parsed: it is not UTF-8")
        );
        assert_eq!(find_syntax_fault("a.txt", b"{"), None);
        assert_eq!(find_syntax_fault("json", b"{"), None);
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert_eq!(find_syntax_fault("a.json", deep.as_bytes()), None);
    }

    #[test]
    fn comments_pass_where_their_reader_takes_them() {
        let text = b"{ // one\n \"url\": \"http://x/*no*/\", /* two\n */ \"list\": [1, 2, ], }\n";
        assert_eq!(find_syntax_fault("web/tsconfig.app.json", text), None);
        assert_eq!(find_syntax_fault(".vscode/settings.json", text), None);
        assert!(find_syntax_fault("package.json", text).is_some());
        assert!(find_syntax_fault("tsconfig.json", b"{ \"a\": }").is_some());
        assert!(find_syntax_fault("tsconfig.json", b"/* never ends").is_some());
        assert!(find_syntax_fault("tsconfig.json", b"\"never ends \\").is_some());
    }
}
