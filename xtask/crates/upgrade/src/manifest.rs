//! `xtask/VENDORED.toml`: which toolkit a repository has, and how its files looked when they came. It is
//! written by `vendor` and `upgrade` alone; one that somebody else has changed is known by its digest
//! and never believed, because a merge on a wrong base would lose changes without a word.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use semver::Version;
use toml::de::{DeTable, DeValue};

use super::parts::ToolkitParts;
use xtask_base::digest;
use xtask_base::error::{Error, Result};
use xtask_base::in_toolkit;

/// The name of the file, in the folder of the toolkit.
pub const MANIFEST_NAME: &str = "VENDORED.toml";

/// Where it lies, by the name of this program.
pub const MANIFEST: &str = in_toolkit!("VENDORED.toml");

/// The format that is written, and the newest that is read.
pub const FORMAT: i64 = 1;

/// What comes after the digest of a file that may be executed.
const EXECUTABLE_SUFFIX: &str = " +x";

const HEAD: &str = "\
# What `vendor` and `upgrade` of the toolkit have put here, with the SHA-256 of each file as it
# came. They write this file; edited by hand, it is refused.
";

/// What was vendored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorManifest {
    /// The version of the toolkit.
    pub version: Version,
    /// The address of its repository, where that is one that others can reach.
    pub source: Option<String>,
    /// The commit of that repository, as its full id.
    pub commit: String,
    /// Which parts of it.
    pub parts: ToolkitParts,
    /// What stands for each file (`mark`), by its path from the root of the repository.
    pub files: BTreeMap<String, String>,
    /// Files that lie elsewhere than in the toolkit, by the path that they have there.
    pub placed: BTreeMap<String, String>,
}

impl VendorManifest {
    /// The text of the file.
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

    /// Reads the bytes of the file.
    pub fn parse(bytes: &[u8]) -> Result<VendorManifest> {
        let text = std::str::from_utf8(bytes).map_err(|_| modified_error("it is not UTF-8"))?;
        // A checkout may have given it other line ends.
        let text = text.replace("\r\n", "\n");
        let table = DeTable::parse(&text).map_err(|cause| modified_error(cause.message()))?;
        let table = table.get_ref();
        let format = table.get("format").and_then(|value| parse_integer(value.get_ref()));
        match format {
            None => return Err(modified_error("it does not say its format")),
            Some(newer) if newer > FORMAT => return Err(too_new_error(newer)),
            Some(_) => {}
        }
        let (_, body) = text
            .split_once("\ndigest = \"")
            .and_then(|(_, rest)| rest.split_once("\"\n"))
            .ok_or_else(|| modified_error("it does not say its digest"))?;
        let told = string_at(table, "digest")
            .ok_or_else(|| modified_error("it does not say its digest"))?;
        if told != hash_body(body) {
            return Err(modified_error("its digest does not fit"));
        }
        let version = string_at(table, "version").and_then(|text| Version::parse(&text).ok());
        Ok(VendorManifest {
            version: version.ok_or_else(|| modified_error("it does not say a version"))?,
            source: string_at(table, "source"),
            commit: string_at(table, "commit")
                .ok_or_else(|| modified_error("it does not say a commit"))?,
            parts: match string_at(table, "parts") {
                None => ToolkitParts::all(),
                Some(words) => {
                    ToolkitParts::parse(&words.split(',').map(str::to_owned).collect::<Vec<_>>())
                        .map_err(|failure| {
                            Error::unable(format!(
                                "`{MANIFEST}` names a part that this xtask does not know"
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

/// What stands for a file: its SHA-256, as `sha256sum` shows it, and ` +x` where it may be executed.
#[must_use]
pub fn compute_checksum(content: &[u8], is_executable: bool) -> String {
    let digest = digest::to_hex(&digest::hash_bytes(content));
    if is_executable { digest + EXECUTABLE_SUFFIX } else { digest }
}

/// Whether what stands for a file says that it may be executed.
#[must_use]
pub fn has_executable_suffix(mark: &str) -> bool {
    mark.ends_with(EXECUTABLE_SUFFIX)
}

fn hash_body(body: &str) -> String {
    compute_checksum(body.as_bytes(), false)
}

/// A string of TOML, whose escapes are those of JSON.
fn quote_toml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn modified_error(why: &str) -> Error {
    Error::usage(format!("`{MANIFEST}` is not as `vendor` or `upgrade` has written it: {why}"))
        .with_hint(format!("`git log -p -- {MANIFEST}` shows who has changed it"))
        .with_hint(format!("`git checkout COMMIT -- {MANIFEST}` brings back one that is whole"))
}

fn too_new_error(format: i64) -> Error {
    Error::unable(format!(
        "`{MANIFEST}` was written by a newer xtask (format {format}; this one knows up to {FORMAT})"
    ))
    .with_hint("run the xtask that lies there: `git switch` to a branch that has it")
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
