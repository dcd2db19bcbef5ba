//! Syntax of the formats that can be checked without knowing the project: TOML, JSON, YAML and XML.

#[cfg(feature = "checks")]
use std::collections::BTreeSet;

use serde::de::IgnoredAny;

/// A larger TOML file is not read, in bytes: its reader takes a second for a megabyte of nonsense.
const LARGEST_TOML: usize = 1_000_000;

/// The line of a fault, where it is known, and the words of the parser.
pub type SyntaxFault = (Option<usize>, String);

/// Says why a file cannot be parsed as the format that its name stands for: `cannot be parsed: line 3: …`. Returns `None`
/// for a file that can be, and for formats that git's own hook does not check.
#[must_use]
pub fn find_syntax_fault(path: &str, content: &[u8]) -> Option<String> {
    let kind = path.rsplit('/').next()?.rsplit_once('.').map(|(_, kind)| kind)?;
    let fault = match kind {
        "json" if content.iter().all(u8::is_ascii_whitespace) => {
            return Some("is empty, which is not valid JSON".to_owned());
        }
        "toml" => find_toml_fault(content),
        "json" => find_json_fault_in(path, content),
        _ => None,
    };
    let (line, what) = fault?;
    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    Some(format!("cannot be parsed: {line}{what}"))
}

/// Finds the fault of a JSON file. Files whose readers take comments and trailing commas may have them.
#[must_use]
pub fn find_json_fault_in(path: &str, content: &[u8]) -> Option<SyntaxFault> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match may_have_comments(path, name) {
        true => find_json_fault(&blank_comments(content)),
        false => find_json_fault(content),
    }
}

fn decode_utf8(content: &[u8]) -> Result<&str, String> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())
}

/// Finds the first fault of a TOML text. A larger one than a megabyte is taken for good.
#[must_use]
pub fn find_toml_fault(content: &[u8]) -> Option<SyntaxFault> {
    if content.len() > LARGEST_TOML {
        return None;
    }
    let text = match decode_utf8(content) {
        Ok(text) => text,
        Err(fault) => return Some((None, fault)),
    };
    let (_, faults) = toml::de::DeTable::parse_recoverable(text);
    let first = faults.first()?;
    let at = first.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    Some((Some(line), first.message().to_owned()))
}

fn find_json_fault(content: &[u8]) -> Option<SyntaxFault> {
    let text = match decode_utf8(content) {
        Ok(text) => text,
        Err(fault) => return Some((None, fault)),
    };
    let fault = serde_json::from_str::<IgnoredAny>(text).err()?;
    let words = fault.to_string();
    // Deep nesting is a limit of the parser, not a fault of the file.
    if words.contains("recursion limit") {
        return None;
    }
    let what = words.split(" at line ").next().unwrap_or(&words);
    Some((Some(fault.line().max(1)), what.to_owned()))
}

#[cfg(feature = "checks")]
/// Finds the first fault of a YAML text of one or more documents: what cannot be parsed, or a key that a mapping has
/// twice, of which parsers silently take one.
#[must_use]
pub fn find_yaml_fault(content: &[u8]) -> Option<SyntaxFault> {
    use saphyr_parser::{Event, Parser};
    if is_utf16(content) {
        return None;
    }
    let text = match decode_utf8(content) {
        Ok(text) => text,
        Err(fault) => return Some((None, fault)),
    };
    // The open collections: the keys of a mapping and whether a key comes next, or a sequence.
    let mut open: Vec<Option<(BTreeSet<String>, bool)>> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(fault) => return Some((Some(fault.marker().line()), fault.info().to_owned())),
        };
        match &event {
            Event::MappingEnd | Event::SequenceEnd => drop(open.pop()),
            Event::Scalar(key, ..) => {
                if let Some(Some((keys, true))) = open.last_mut()
                    && key != "<<"
                    && !keys.insert(key.to_string())
                {
                    return Some((Some(span.start.line()), format!("duplicate key `{key}`")));
                }
            }
            _ => {}
        }
        let is_node = !matches!(
            event,
            Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd
        );
        // A collection takes its place in the one around it when it ends.
        let is_start = matches!(event, Event::MappingStart(..) | Event::SequenceStart(..));
        if is_node
            && !is_start
            && let Some(Some((_, is_key_next))) = open.last_mut()
        {
            *is_key_next = !*is_key_next;
        }
        match event {
            Event::MappingStart(..) => open.push(Some((BTreeSet::new(), true))),
            Event::SequenceStart(..) => open.push(None),
            _ => {}
        }
    }
    None
}

#[cfg(feature = "checks")]
/// Whether a text begins with the byte order mark of UTF-16, which YAML and XML may be written in.
fn is_utf16(content: &[u8]) -> bool {
    content.starts_with(b"\xfe\xff") || content.starts_with(b"\xff\xfe")
}

#[cfg(feature = "checks")]
/// Finds a key that an object of a JSON text has twice, of which parsers silently take one.
#[must_use]
pub fn find_duplicate_json_key(path: &str, content: &[u8]) -> Option<SyntaxFault> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let text = match may_have_comments(path, name) {
        true => blank_comments(content),
        false => content.to_vec(),
    };
    let fault = serde_json::from_str::<UniqueKeys>(decode_utf8(&text).ok()?).err()?;
    let words = fault.to_string();
    words.starts_with("duplicate key").then(|| {
        (Some(fault.line().max(1)), words.split(" at line ").next().unwrap_or(&words).to_owned())
    })
}

#[cfg(feature = "checks")]
/// A JSON value whose objects have each key once. Its error is `duplicate key …`.
struct UniqueKeys;

#[cfg(feature = "checks")]
impl<'de> serde::Deserialize<'de> for UniqueKeys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeysVisitor)
    }
}

#[cfg(feature = "checks")]
struct UniqueKeysVisitor;

#[cfg(feature = "checks")]
impl<'de> serde::de::Visitor<'de> for UniqueKeysVisitor {
    type Value = UniqueKeys;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_i64<E>(self, _: i64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_u64<E>(self, _: u64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_f64<E>(self, _: f64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_str<E>(self, _: &str) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_unit<E>(self) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<UniqueKeys, A::Error> {
        while items.next_element::<UniqueKeys>()?.is_some() {}
        Ok(UniqueKeys)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<UniqueKeys, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(serde::de::Error::custom(format!("duplicate key `{key}`")));
            }
            keys.insert(key);
            map.next_value::<UniqueKeys>()?;
        }
        Ok(UniqueKeys)
    }
}

#[cfg(feature = "checks")]
/// Finds the first place at which a text is not well-formed XML.
#[must_use]
pub fn find_xml_fault(content: &[u8]) -> Option<SyntaxFault> {
    use roxmltree::{Document, ParsingOptions};
    let text = match decode_utf8(content) {
        Ok(text) => text,
        // Another encoding is declared, or the text is UTF-16: whoever reads it knows more.
        Err(_) if is_utf16(content) || declares_encoding(content) => return None,
        Err(fault) => return Some((None, fault)),
    };
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let fault = Document::parse_with_options(text, options).err()?;
    let line = usize::try_from(fault.pos().row).ok();
    let words = fault.to_string();
    let what = words.rsplit_once(" at ").map_or(words.as_str(), |(what, _)| what);
    Some((line, what.to_owned()))
}

#[cfg(feature = "checks")]
/// Whether an XML declaration names an encoding.
fn declares_encoding(content: &[u8]) -> bool {
    let end = content.windows(2).position(|two| two == b"?>").unwrap_or(0);
    content.starts_with(b"<?xml") && content[..end].windows(8).any(|part| part == b"encoding")
}

/// Files that are called JSON, and whose readers take comments and commas at the end.
fn may_have_comments(path: &str, name: &str) -> bool {
    let folders = [".vscode/", ".devcontainer/", ".zed/", ".config/"];
    let starts = ["tsconfig", "jsconfig", ".eslintrc", "devcontainer", ".swcrc", "api-extractor"];
    name.ends_with(".jsonc")
        || folders
            .iter()
            .any(|folder| path.starts_with(folder) || path.contains(&format!("/{folder}")))
        || starts.iter().any(|start| name.starts_with(start))
        || ["deno.json", "language-configuration.json", "typedoc.json", "turbo.json", "nx.json"]
            .contains(&name)
}

/// The same text with spaces for comments and for commas before a closing bracket; line ends stay.
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

    #[cfg(feature = "checks")]
    #[test]
    fn a_key_that_is_there_twice_is_found() {
        let yaml = |text: &str| find_yaml_fault(text.as_bytes());
        assert_eq!(
            yaml("a: 1\nb:\n  a: 2\n  c: {a: 1, b: [a, a]}\na2: *x\n").map(|f| f.0),
            Some(Some(5))
        );
        assert_eq!(yaml("a: &x 1\nb: *x\n<<: *x\n<<: *x\n"), None);
        assert_eq!(yaml("a: 1\n---\na: 1\n"), None);
        assert_eq!(yaml("? [a]\n: 1\n? {b: 1}\n: a\na: 2\n"), None);
        assert_eq!(yaml("a: 1\nb: 2\na: 3\n"), Some((Some(3), "duplicate key `a`".to_owned())));
        assert_eq!(
            yaml("- {a: 1, a: 2}\n").map(|fault| fault.1).as_deref(),
            Some("duplicate key `a`")
        );
        let json = |text: &str| find_duplicate_json_key("a.json", text.as_bytes());
        assert_eq!(json("{\"a\": [null, 1.5, -1, true, {\"a\": \"\"}]}"), None);
        assert_eq!(json("{\"a\": 1,\n\"a\": 2}"), Some((Some(2), "duplicate key `a`".to_owned())));
        assert_eq!(json("{"), None);
        assert_eq!(find_xml_fault(b"<?xml version='1.0' encoding='latin1'?><a>\xe9</a>"), None);
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
