//! State files ("records") with a kind, a version and a checksum:
//!
//! ```text
//! xtask.journal/1          kind and version
//! 3f1c…                    SHA-256 of the body, by `digest::hash_parts`
//! {"purpose":"sync",…}     body, as JSON
//! ```
//!
//! A record is data and never runs anything. A torn, foreign or unknown file is never partially
//! used: it reads as [`LoadedRecord::Corrupt`]. A record of a newer xtask is
//! [`LoadedRecord::Newer`], because it is intact and somebody needs it: callers with important
//! state leave it unchanged and report [`newer_record_error`]; a cache ignores it and writes its
//! own.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::digest;
use super::error::Error;
use super::files::Disk;
use crate::name::NAME;

/// The maximum size of a record: 64 MiB, far more than a journal of a million paths.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// The result of reading a record.
#[derive(Debug)]
pub enum LoadedRecord<T> {
    /// The file does not exist.
    Missing,
    /// The record is intact.
    Valid(T),
    /// The record has this kind, and a later version than this program knows.
    Newer,
    /// The file is torn, foreign, of an unknown version or unreadable; with the reason.
    Corrupt(String),
}

/// The reason why a record of a newer xtask cannot be read.
pub const NEWER_MESSAGE: &str = "it was written by a newer xtask";

/// Returns the error for refusing to read, replace or remove a record of a newer xtask. `what`
/// names its content.
#[must_use]
pub fn newer_record_error(what: &str, path: &Path) -> Error {
    Error::unable(format!("{what} was written by a newer xtask, and was not changed"))
        .with_detail(path.display().to_string())
        .with_hint(upgrade_hint("CANONICAL"))
}

/// Returns a hint on updating the toolkit from the branch `canonical`. It begins with plain git
/// commands, which work even if the old toolkit refuses to run.
#[must_use]
pub fn upgrade_hint(canonical: &str) -> String {
    format!(
        "`git checkout {canonical} -- {NAME}` takes the newer toolkit into this branch, or switch to a \
         branch that has it; then `cargo xtask install-hooks` reinstalls the hooks"
    )
}

/// Serializes `value` as a record of `kind`, e.g. `xtask.journal/1`.
pub fn serialize_record<T: Serialize>(kind: &str, value: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(value)?;
    let mut bytes =
        format!("{kind}\n{}\n", digest::to_hex(&digest::hash_parts([&body[..]]))).into();
    Vec::append(&mut bytes, &mut body.clone());
    Ok(bytes)
}

/// Parses the bytes of a record of `kind`.
pub fn parse_record<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> LoadedRecord<T> {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (Some(head), Some(sum), Some(body)) = (lines.next(), lines.next(), lines.next()) else {
        return LoadedRecord::Corrupt("it is truncated".to_owned());
    };
    if is_newer_version(head, kind) {
        return LoadedRecord::Newer;
    }
    if head != kind.as_bytes() {
        return LoadedRecord::Corrupt(format!(
            "invalid header: expected `{kind}`, found `{}`",
            String::from_utf8_lossy(&head[..head.len().min(40)])
        ));
    }
    if sum != digest::to_hex(&digest::hash_parts([body])).as_bytes() {
        return LoadedRecord::Corrupt("its digest does not match".to_owned());
    }
    match serde_json::from_slice(body) {
        Ok(value) => LoadedRecord::Valid(value),
        Err(cause) => LoadedRecord::Corrupt(cause.to_string()),
    }
}

/// Returns whether the first line `head` names the same kind with a higher version.
fn is_newer_version(head: &[u8], kind: &str) -> bool {
    fn split_version(text: &str) -> Option<(&str, u64)> {
        let (name, number) = text.rsplit_once('/')?;
        Some((name, number.parse().ok()?))
    }
    let (Some((found, later)), Some((name, known))) =
        (std::str::from_utf8(head).ok().and_then(split_version), split_version(kind))
    else {
        return false;
    };
    found == name && later > known
}

/// Writes a record atomically.
pub fn write_record<T: Serialize>(
    disk: &Disk<'_>,
    path: &Path,
    kind: &str,
    value: &T,
) -> io::Result<()> {
    disk.write_atomically(path, &serialize_record(kind, value)?)
}

/// Writes a record atomically without waiting for the disk, for state that is worthless after a
/// reboot.
pub fn write_record_unsynced<T: Serialize>(
    disk: &Disk<'_>,
    path: &Path,
    kind: &str,
    value: &T,
) -> io::Result<()> {
    disk.write_atomically_unsynced(path, &serialize_record(kind, value)?)
}

/// Reads the record at `path`.
#[must_use]
pub fn read_record<T: DeserializeOwned>(path: &Path, kind: &str) -> LoadedRecord<T> {
    match std::fs::metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return LoadedRecord::Missing,
        Err(cause) => return LoadedRecord::Corrupt(cause.to_string()),
        // Opening a pipe here would block.
        Ok(meta) if !meta.is_file() => {
            return LoadedRecord::Corrupt("it is not a regular file".to_owned());
        }
        Ok(meta) if meta.len() > MAX_RECORD_BYTES => {
            return LoadedRecord::Corrupt("it is larger than 64 MiB".to_owned());
        }
        Ok(_) => {}
    }
    match std::fs::read(path) {
        Ok(bytes) => parse_record(kind, &bytes),
        // Its owner has removed it since `metadata` was called.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => LoadedRecord::Missing,
        Err(cause) => LoadedRecord::Corrupt(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = serialize_record("xtask.test/1", &vec!["a", "b"]).unwrap();
        let LoadedRecord::Valid(back) = parse_record::<Vec<String>>("xtask.test/1", &bytes) else {
            panic!("not whole");
        };
        assert_eq!(back, ["a", "b"]);
    }

    #[test]
    fn one_that_comes_and_goes_is_whole_or_not_there() {
        let path = std::env::temp_dir().join(format!("xtask-record-{}", std::process::id()));
        std::thread::scope(|scope| {
            let owner = scope.spawn(|| {
                let disk = Disk::real();
                disk.skip_fsync();
                for _ in 0..2000 {
                    write_record(&disk, &path, "xtask.test/1", &1).unwrap();
                    disk.remove_file(&path).unwrap();
                }
            });
            while !owner.is_finished() {
                match read_record::<u32>(&path, "xtask.test/1") {
                    LoadedRecord::Valid(1) | LoadedRecord::Missing => {}
                    other => panic!("{other:?}"),
                }
            }
        });
    }

    #[test]
    fn torn_foreign_and_newer_files_are_not_believed() {
        let bytes = serialize_record("xtask.test/1", &vec!["a", "b"]).unwrap();
        for cut in 0..bytes.len() {
            let found = parse_record::<Vec<String>>("xtask.test/1", &bytes[..cut]);
            assert!(matches!(found, LoadedRecord::Corrupt(_)), "cut at {cut}");
        }
        // An older one has no reader of its own yet; a foreign one never has.
        for kind in ["xtask.test/2", "xtask.other/1"] {
            let found = parse_record::<Vec<String>>(kind, &bytes);
            assert!(
                matches!(found, LoadedRecord::Corrupt(why) if why.contains("xtask.test/1")),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_newer_record_is_known_by_its_first_line_alone() {
        for later in ["xtask.test/2\nwhatever\nelse", "xtask.test/10\n\n"] {
            let found = parse_record::<Vec<String>>("xtask.test/1", later.as_bytes());
            assert!(matches!(found, LoadedRecord::Newer), "{later:?}");
        }
        for other in ["xtask.test/2", "xtask.tests/2\n\n", "xtask.test/x\n\n", "xtask.test/0\n\n"] {
            let found = parse_record::<Vec<String>>("xtask.test/1", other.as_bytes());
            assert!(matches!(found, LoadedRecord::Corrupt(_)), "{other:?}");
        }
    }
}
