//! Small files of state that we write for ourselves: a line that names the kind and the version, a
//! line with the digest of the rest, then JSON.
//!
//! State is data. A file that is torn, foreign or of another version is never half-believed: it
//! reads as `Broken` or as nothing, as the caller needs, and never runs anything. One that a newer
//! xtask has written is told apart, because it is whole and somebody needs it: whoever keeps what
//! matters leaves it as it is and says so (`newer`); a cache counts it as nothing and writes its own.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::digest;
use super::error::Error;
use super::files::Disk;
use crate::name::NAME;

/// The largest file of state that is read: 64 MiB, far above a journal of a million paths.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// What a file of state turned out to be.
#[derive(Debug)]
pub enum LoadedRecord<T> {
    /// There is none.
    Missing,
    /// It is whole.
    Valid(T),
    /// It is of this kind, and of a later version than this program knows.
    Newer,
    /// It is there, but torn, foreign, of an unknown version or unreadable.
    Corrupt(String),
}

/// Why a record that a newer xtask has written cannot be read.
pub const NEWER_MESSAGE: &str = "it was written by a newer xtask";

/// The refusal to read, replace or remove what a newer xtask has written: `what` is what it holds.
#[must_use]
pub fn newer_record_error(what: &str, path: &Path) -> Error {
    Error::unable(format!("{what} was written by a newer xtask, and stays as it is"))
        .with_detail(path.display().to_string())
        .with_hint(upgrade_hint("CANONICAL"))
}

/// How somebody gets a newer toolkit who has an older one, whatever the older one refuses to do.
#[must_use]
pub fn upgrade_hint(canonical: &str) -> String {
    format!(
        "`git checkout {canonical} -- {NAME}` takes the newer toolkit into this branch, or switch to a \
         branch that has it; `cargo xtask install-hooks` then renews what hooks run"
    )
}

/// The bytes of a record of this kind, as in `xtask.journal/1`.
pub fn serialize_record<T: Serialize>(kind: &str, value: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(value)?;
    let mut bytes =
        format!("{kind}\n{}\n", digest::to_hex(&digest::hash_parts([&body[..]]))).into();
    Vec::append(&mut bytes, &mut body.clone());
    Ok(bytes)
}

/// Reads the bytes of a record of this kind.
pub fn parse_record<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> LoadedRecord<T> {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (Some(head), Some(sum), Some(body)) = (lines.next(), lines.next(), lines.next()) else {
        return LoadedRecord::Corrupt("it is cut short".to_owned());
    };
    if is_newer_version(head, kind) {
        return LoadedRecord::Newer;
    }
    if head != kind.as_bytes() {
        return LoadedRecord::Corrupt(format!(
            "it is `{}`, not `{kind}`",
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

/// Whether a first line names this kind with a larger number.
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

/// Writes a record whole or not at all.
pub fn write_record<T: Serialize>(
    disk: &Disk<'_>,
    path: &Path,
    kind: &str,
    value: &T,
) -> io::Result<()> {
    disk.write_atomically(path, &serialize_record(kind, value)?)
}

/// Writes a record whole or not at all, one that means nothing any more once the machine has stopped.
pub fn write_record_unsynced<T: Serialize>(
    disk: &Disk<'_>,
    path: &Path,
    kind: &str,
    value: &T,
) -> io::Result<()> {
    disk.write_atomically_unsynced(path, &serialize_record(kind, value)?)
}

/// Reads a record.
#[must_use]
pub fn read_record<T: DeserializeOwned>(path: &Path, kind: &str) -> LoadedRecord<T> {
    match std::fs::metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return LoadedRecord::Missing,
        Err(cause) => return LoadedRecord::Corrupt(cause.to_string()),
        // A pipe in its place would be waited for.
        Ok(meta) if !meta.is_file() => return LoadedRecord::Corrupt("it is no file".to_owned()),
        Ok(meta) if meta.len() > MAX_RECORD_BYTES => {
            return LoadedRecord::Corrupt("it is too large".to_owned());
        }
        Ok(_) => {}
    }
    match std::fs::read(path) {
        Ok(bytes) => parse_record(kind, &bytes),
        // Its owner has removed it since the look.
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
