//! What each of the rules that `built-in` names finds in one file, and the repair of what it finds.
//!
//! ```text
//! (FileRule::Yaml, "a.yml", b"b: [1\n")  ->  FileFault { line: Some(2), message: "…" }
//! ```

use xtask_base::conflict_markers::{count_conflict_markers, first_marker_line};
use xtask_base::words::format_size;
use xtask_config::FileRule;

use crate::names::find_unportable_name;
use crate::syntax::{
    find_duplicate_json_key, find_json_fault_in, find_toml_fault, find_xml_fault, find_yaml_fault,
};
use crate::text;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular {
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symlink.
    Symlink {
        /// Whether its target exists.
        has_target: bool,
    },
}

/// One file, as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct CheckedFile<'a> {
    /// The path from the root, as git has its bytes.
    pub path: &'a [u8],
    /// What is there.
    pub kind: FileKind,
    /// The size in bytes.
    pub size: u64,
    /// The content; empty for a symlink, and where no rule [reads it](FileRule::reads_content).
    pub content: &'a [u8],
}

/// What is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// The line, counted from 1, where it can be told.
    pub line: Option<usize>,
    /// What is wrong, for example `trailing whitespace`.
    pub message: String,
}

impl FileFault {
    fn new(message: impl Into<String>) -> FileFault {
        FileFault { line: None, message: message.into() }
    }

    fn at_line(line: usize, message: impl Into<String>) -> FileFault {
        FileFault { line: Some(line), message: message.into() }
    }
}

/// Applies one rule to one file. [`FileRule::CaseConflict`] needs all names; see [`crate::names::find_case_conflicts`].
///
/// `max_size` is the limit of [`FileRule::LargeFiles`] in bytes.
#[must_use]
pub fn check_file(rule: FileRule, file: &CheckedFile<'_>, max_size: u64) -> Option<FileFault> {
    match (rule, file.kind) {
        (FileRule::WindowsNames, _) => find_unportable_name(file.path).map(FileFault::new),
        (FileRule::BrokenSymlinks, FileKind::Symlink { has_target: false }) => {
            Some(FileFault::new("broken symlink: its target does not exist"))
        }
        (FileRule::CaseConflict | FileRule::BrokenSymlinks, _) | (_, FileKind::Symlink { .. }) => {
            None
        }
        (FileRule::LargeFiles, _) => (file.size > max_size).then(|| {
            let (size, limit) = (format_size(file.size), format_size(max_size));
            FileFault::new(format!(
                "{size}, above the limit of {limit}: use Git LFS, or leave it out"
            ))
        }),
        (rule, FileKind::Regular { executable }) => check_content(rule, file, executable),
    }
}

fn check_content(rule: FileRule, file: &CheckedFile<'_>, executable: bool) -> Option<FileFault> {
    let content = file.content;
    let name = file.path.rsplit(|byte| *byte == b'/').next().unwrap_or(file.path);
    let extension = name.rsplit_once_byte(b'.').map_or(&b""[..], |(_, extension)| extension);
    match rule {
        FileRule::Json => {
            let path = String::from_utf8_lossy(file.path);
            let find = || {
                find_json_fault_in(&path, content)
                    .or_else(|| find_duplicate_json_key(&path, content))
            };
            is_json(extension).then(find).flatten()
        }
        FileRule::Toml => (extension == b"toml").then(|| find_toml_fault(content)).flatten(),
        FileRule::Xml => is_xml(extension).then(|| find_xml_fault(content)).flatten(),
        FileRule::Yaml => {
            matches!(extension, b"yaml" | b"yml").then(|| find_yaml_fault(content)).flatten()
        }
        _ if text::is_binary(content) => return None,
        FileRule::TrailingWhitespace => {
            let (line, count) = text::find_trailing_whitespace(content, is_markdown(extension))?;
            let more = if count > 1 { format!(" ({count} lines)") } else { String::new() };
            return Some(FileFault::at_line(line, format!("trailing whitespace{more}")));
        }
        FileRule::FinalNewline => {
            let (line, message) = text::find_final_newline_fault(content)?;
            return Some(FileFault::at_line(line, message));
        }
        FileRule::LineEndings => {
            let (line, message) = text::find_mixed_endings(content)?;
            return Some(FileFault::at_line(line, message));
        }
        FileRule::ByteOrderMark => content
            .starts_with(text::BYTE_ORDER_MARK)
            .then(|| (Some(1), "UTF-8 byte order mark".to_owned())),
        FileRule::MergeConflict => (count_conflict_markers(content) > 0)
            .then(|| (Some(first_marker_line(content)), "conflict marker".to_owned())),
        FileRule::PrivateKeys => text::find_private_key(content)
            .map(|(line, kind)| (Some(line), format!("private key ({kind})"))),
        FileRule::ExecutablesHaveShebangs => {
            (executable && !content.is_empty() && !text::has_shebang(content)).then(|| {
                let way = "begin it with `#!/usr/bin/env …`, or `chmod -x` it";
                (None, format!("executable without a `#!` line: {way}"))
            })
        }
        FileRule::ShebangScriptsAreExecutable => {
            (!executable && text::has_shebang(content)).then(|| {
                (
                    Some(1),
                    "has a `#!` line and is not executable: `git add --chmod=+x` it".to_owned(),
                )
            })
        }
        FileRule::CaseConflict
        | FileRule::LargeFiles
        | FileRule::BrokenSymlinks
        | FileRule::WindowsNames => None,
    }
    .map(|(line, message)| FileFault { line, message })
}

/// Repairs what a rule finds in a text. Returns `None` where there is nothing to repair or the rule has no fix.
#[must_use]
pub fn fix_content(rule: FileRule, path: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    if !rule.can_fix() || text::is_binary(content) {
        return None;
    }
    let extension = path.rsplit(|byte| *byte == b'.').next().unwrap_or(b"");
    let fixed = match rule {
        FileRule::TrailingWhitespace => {
            text::strip_trailing_whitespace(content, is_markdown(extension))
        }
        FileRule::FinalNewline => text::end_with_newline(content),
        FileRule::LineEndings => text::unify_line_endings(content),
        _ => content.strip_prefix(text::BYTE_ORDER_MARK).unwrap_or(content).to_vec(),
    };
    (fixed != content).then_some(fixed)
}

fn is_markdown(extension: &[u8]) -> bool {
    matches!(extension, b"md" | b"markdown" | b"mdx")
}

fn is_json(extension: &[u8]) -> bool {
    matches!(extension, b"json" | b"jsonc" | b"webmanifest" | b"geojson")
}

fn is_xml(extension: &[u8]) -> bool {
    matches!(
        extension,
        b"xml" | b"xsd" | b"xsl" | b"xslt" | b"svg" | b"plist" | b"csproj" | b"wsdl" | b"xhtml"
    )
}

/// `rsplit_once` for bytes.
trait SplitBytes {
    fn rsplit_once_byte(&self, byte: u8) -> Option<(&[u8], &[u8])>;
}

impl SplitBytes for [u8] {
    fn rsplit_once_byte(&self, byte: u8) -> Option<(&[u8], &[u8])> {
        let at = self.iter().rposition(|one| *one == byte)?;
        Some((&self[..at], &self[at + 1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(rule: FileRule, path: &str, content: &[u8]) -> Option<String> {
        let kind = FileKind::Regular { executable: path.starts_with("bin/") };
        let file = CheckedFile { path: path.as_bytes(), kind, size: content.len() as u64, content };
        let fault = check_file(rule, &file, 1000)?;
        Some(fault.line.map_or(String::new(), |line| format!("{line}: ")) + &fault.message)
    }

    #[test]
    fn each_rule_finds_its_fault_with_the_line() {
        let key = format!("x\n-----BEGIN {}PRIVATE KEY-----\n", "RSA ");
        let found = [
            (
                FileRule::TrailingWhitespace,
                "a.py",
                "a\nb \nc\t\n",
                Some("2: trailing whitespace (2 lines)"),
            ),
            (FileRule::TrailingWhitespace, "a.md", "break  \nx\n", None),
            (FileRule::FinalNewline, "a", "a\nb", Some("2: no newline at the end of the file")),
            (FileRule::FinalNewline, "a", "a\n\n\n", Some("2: blank lines at the end of the file")),
            (FileRule::FinalNewline, "a", "", None),
            (
                FileRule::LineEndings,
                "a",
                "a\nb\r\nc\n",
                Some("2: mixed line endings: 2 LF, 1 CRLF"),
            ),
            (FileRule::ByteOrderMark, "a", "\u{feff}a\n", Some("1: UTF-8 byte order mark")),
            (FileRule::MergeConflict, "a", "x\n<<<<<<< HEAD\n", Some("2: conflict marker")),
            (FileRule::PrivateKeys, "a", key.as_str(), Some("2: private key (RSA)")),
            (FileRule::ShebangScriptsAreExecutable, "a.rs", "#![allow(x)]\n", None),
            (FileRule::ExecutablesHaveShebangs, "bin/a", "#!/bin/sh\n", None),
            (FileRule::Json, "a.json", "{", Some("1: EOF while parsing an object")),
            (FileRule::Json, "a.js", "{", None),
            (FileRule::Toml, "a.toml", "a = 1\na = 2\n", Some("2: duplicate key")),
            (FileRule::Yaml, "a.yml", "a: 1\nb: [1\n", Some("3: ")),
            (FileRule::Yaml, "a.yml", "a: {{ x }}\n--- \nb: !tag 1\n", None),
            (FileRule::Xml, "a.xml", "<a>\n<b></a>", Some("2: ")),
            (FileRule::Xml, "a.svg", "<!DOCTYPE svg><svg/>", None),
        ];
        for (rule, path, content, wanted) in found {
            let found = fault(rule, path, content.as_bytes());
            match (&found, wanted) {
                (Some(found), Some(wanted)) => {
                    assert!(found.starts_with(wanted), "{rule:?}: {found}")
                }
                _ => assert_eq!(found.as_deref(), wanted, "{rule:?} of {path}"),
            }
        }
        assert!(fault(FileRule::ExecutablesHaveShebangs, "bin/a", b"x\n").is_some());
        assert!(fault(FileRule::ShebangScriptsAreExecutable, "a.sh", b"#!/bin/sh\n").is_some());
        assert!(fault(FileRule::LargeFiles, "a", &[b'x'; 1001]).is_some());
        assert!(fault(FileRule::LargeFiles, "a", &[b'x'; 1000]).is_none());
        assert!(fault(FileRule::WindowsNames, "x/aux.txt", b"").is_some());
    }

    #[test]
    fn binaries_are_left_alone_by_rules_of_text() {
        let content = b"a \0b \r\nc\n\n\n";
        for rule in FileRule::ALL {
            assert_eq!(fault(rule, "bin/a.dat", content), None, "{rule:?}");
            assert_eq!(fix_content(rule, b"a.dat", content), None, "{rule:?}");
        }
    }

    #[test]
    fn a_fix_leaves_nothing_for_its_rule_to_find() {
        // Every text of up to six of these letters.
        let letters: [&[u8]; 6] = [b"a", b" ", b"\t", b"\n", b"\r\n", b"\r"];
        for path in ["a.txt", "a.md"] {
            let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
            for _ in 0..6 {
                texts = texts
                    .iter()
                    .flat_map(|text| {
                        letters.iter().map(|letter| [text.as_slice(), letter].concat())
                    })
                    .collect();
                for text in &texts {
                    for rule in FileRule::ALL.into_iter().filter(|rule| rule.can_fix()) {
                        let fixed = fix_content(rule, path.as_bytes(), text);
                        assert_eq!(
                            fixed.is_some(),
                            fault(rule, path, text).is_some(),
                            "{rule:?} of {text:?}"
                        );
                        let Some(fixed) = fixed else { continue };
                        assert_eq!(fault(rule, path, &fixed), None, "{rule:?} of {text:?}");
                        let letters =
                            |text: &[u8]| text.iter().filter(|byte| **byte == b'a').count();
                        assert_eq!(letters(text), letters(&fixed), "{rule:?} of {text:?}");
                    }
                }
            }
        }
    }
}
