//! `xtask/VENDORED.toml`, the manifest of a copy: the version of the toolkit and the checksum of each file as
//! vendored.
//!
//! Only `vendor` and `upgrade` write it. A manifest whose digest does not match is refused, because a merge with a
//! wrong base would lose changes silently.
//!
//! ```toml
//! digest = "…"
//! format = 1
//! version = "0.1.0"
//! commit = "1a2b3c…"
//! [files]
//! "xtask/src/main.rs" = "9f86d08188… (SHA-256)"
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use semver::Version;
use toml::de::{DeTable, DeValue};

use super::parts::ToolkitParts;
use xtask_base::digest;
use xtask_base::error::{Error, Result};
use xtask_base::in_toolkit;

/// The file name, in the folder of the toolkit.
pub const MANIFEST_NAME: &str = "VENDORED.toml";

/// The path from the root, with the name of this program.
pub const MANIFEST: &str = in_toolkit!("VENDORED.toml");

/// The format that is written, and the newest one that can be read.
pub const FORMAT: i64 = 1;

/// The suffix of the checksum of an executable file.
const EXECUTABLE_SUFFIX: &str = " +x";

const HEAD: &str = "\
# What `vendor` and `upgrade` of the toolkit have put here, with the SHA-256 of each file as it
# came. They write this file; edited by hand, it is refused.
";

/// The manifest of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorManifest {
    pub version: Version,
    /// The URL of the toolkit's repository, if it is public.
    pub source: Option<String>,
    /// The full ID of the commit.
    pub commit: String,
    pub parts: ToolkitParts,
    /// The checksum (`compute_checksum`) of each file, by its path from the root of the repository.
    pub files: BTreeMap<String, String>,
    /// The files outside of `xtask/`: their paths in the repository, each with the path of its template in the
    /// toolkit.
    pub placed: BTreeMap<String, String>,
}

impl VendorManifest {
    /// Returns the version and the commit, e.g. `0.2.0 (1a2b3c4d5e)`.
    #[must_use]
    pub fn describe_version(&self) -> String {
        format!("{} ({})", self.version, self.commit.get(..10).unwrap_or(&self.commit))
    }

    /// Renders the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut body = format!("format = {FORMAT}\nversion = \"{}\"\n", self.version);
        let mut line = |name: &str, value: &str| {
            writeln!(body, "{name} = {}", quote_toml(value))
                .expect("because writing to a string cannot fail");
        };
        if let Some(source) = &self.source {
            line("source", source);
        }
        line("commit", &self.commit);
        if !self.parts.is_all() {
            line("parts", &self.parts.to_flag_value());
        }
        for (title, map) in [("files", &self.files), ("placed", &self.placed)] {
            if map.is_empty() {
                continue;
            }
            write!(body, "\n[{title}]\n").expect("because writing to a string cannot fail");
            for (path, value) in map {
                writeln!(body, "{} = {}", quote_toml(path), quote_toml(value))
                    .expect("because writing to a string cannot fail");
            }
        }
        format!("{HEAD}digest = \"{}\"\n{body}", hash_body(&body))
    }

    /// Parses the file. Returns an error if it was modified or a newer version wrote it.
    pub fn parse(bytes: &[u8]) -> Result<VendorManifest> {
        let text = std::str::from_utf8(bytes).map_err(|_| modified_error("it is not UTF-8"))?;
        // A checkout may have converted the line endings.
        let text = text.replace("\r\n", "\n");
        let table = DeTable::parse(&text).map_err(|cause| modified_error(cause.message()))?;
        let table = table.get_ref();
        let format = table.get("format").and_then(|value| parse_integer(value.get_ref()));
        match format {
            None => return Err(modified_error("missing `format`")),
            Some(newer) if newer > FORMAT => return Err(too_new_error(newer)),
            Some(_) => {}
        }
        let (_, body) = text
            .split_once("\ndigest = \"")
            .and_then(|(_, rest)| rest.split_once("\"\n"))
            .ok_or_else(|| modified_error("missing `digest`"))?;
        let told = string_at(table, "digest").ok_or_else(|| modified_error("missing `digest`"))?;
        if told != hash_body(body) {
            return Err(modified_error("the digest does not match"));
        }
        let version = string_at(table, "version").and_then(|text| Version::parse(&text).ok());
        Ok(VendorManifest {
            version: version.ok_or_else(|| modified_error("missing or invalid `version`"))?,
            source: string_at(table, "source"),
            commit: string_at(table, "commit").ok_or_else(|| modified_error("missing `commit`"))?,
            parts: match string_at(table, "parts") {
                None => ToolkitParts::all(),
                Some(words) => {
                    ToolkitParts::parse(&words.split(',').map(str::to_owned).collect::<Vec<_>>())
                        .map_err(|failure| {
                            Error::unable(format!(
                                "`{MANIFEST}` has a part that this xtask does not know"
                            ))
                            .with_cause(failure)
                        })?
                }
            },
            files: string_map_at(table, "files"),
            placed: string_map_at(table, "placed"),
        })
    }
}

/// Returns the checksum of a file: its SHA-256, as `sha256sum` prints it, plus ` +x` if it is executable.
#[must_use]
pub fn compute_checksum(content: &[u8], is_executable: bool) -> String {
    let digest = digest::to_hex(&digest::hash_bytes(content));
    if is_executable { digest + EXECUTABLE_SUFFIX } else { digest }
}

/// Returns whether a checksum is that of an executable file.
#[must_use]
pub fn has_executable_suffix(mark: &str) -> bool {
    mark.ends_with(EXECUTABLE_SUFFIX)
}

fn hash_body(body: &str) -> String {
    compute_checksum(body.as_bytes(), false)
}

/// Quotes a TOML string, whose escapes are those of JSON.
fn quote_toml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn modified_error(why: &str) -> Error {
    Error::usage(format!("`{MANIFEST}` was modified: {why}"))
        .with_hint(format!("`git log -p -- {MANIFEST}` shows who changed it"))
        .with_hint(format!("`git checkout COMMIT -- {MANIFEST}` restores an intact one"))
}

fn too_new_error(format: i64) -> Error {
    Error::unable(format!(
        "`{MANIFEST}` was written by a newer xtask (format {format}; this one knows up to {FORMAT})"
    ))
    .with_hint("use the newer xtask: `git switch` to a branch that has it")
}

fn parse_integer(value: &DeValue<'_>) -> Option<i64> {
    value.as_integer().and_then(|number| number.as_str().parse().ok())
}

fn string_at(table: &DeTable<'_>, name: &str) -> Option<String> {
    table.get(name)?.get_ref().as_str().map(str::to_owned)
}

fn string_map_at(table: &DeTable<'_>, name: &str) -> BTreeMap<String, String> {
    let Some(found) = table.get(name).and_then(|value| value.get_ref().as_table()) else {
        return BTreeMap::new();
    };
    let pairs = found.iter().filter_map(|(path, value)| {
        Some((path.get_ref().to_string(), value.get_ref().as_str()?.to_owned()))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> VendorManifest {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(one, two)| ((*one).to_owned(), (*two).to_owned())).collect()
        };
        VendorManifest {
            parts: ToolkitParts::parse(&["checks".to_owned()]).unwrap(),
            version: Version::new(0, 2, 0),
            source: Some("https://example.org/tools.git".to_owned()),
            commit: "a".repeat(40),
            files: map(&[("justfile", "00"), ("xtask/a \"b\"\\c.rs", "11")]),
            placed: map(&[("justfile", "xtask/crates/vendoring/src/starters/justfile")]),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let whole = manifest();
        assert_eq!(VendorManifest::parse(whole.to_toml().as_bytes()).unwrap(), whole);
        let crlf = whole.to_toml().replace('\n', "\r\n");
        assert_eq!(VendorManifest::parse(crlf.as_bytes()).unwrap(), whole);
        let bare = VendorManifest {
            source: None,
            files: BTreeMap::new(),
            placed: BTreeMap::new(),
            ..whole
        };
        assert_eq!(VendorManifest::parse(bare.to_toml().as_bytes()).unwrap(), bare);
    }

    #[test]
    fn every_edit_is_noticed() {
        let text = manifest().to_toml();
        let body = text.find("format =").unwrap();
        for at in body..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let refused = VendorManifest::parse(&bytes).unwrap_err();
            assert!(refused.message().contains("VENDORED.toml"), "{at}: {}", refused.message());
        }
        for cut in 0..text.len() - 1 {
            assert!(VendorManifest::parse(&text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_newer_one_says_so() {
        let text = manifest().to_toml().replace("format = 1", "format = 2");
        let refused = VendorManifest::parse(text.as_bytes()).unwrap_err();
        assert!(refused.message().contains("newer xtask (format 2"), "{}", refused.message());
    }
}
