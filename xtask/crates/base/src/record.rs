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
const LARGEST: u64 = 64 << 20;

/// What a file of state turned out to be.
#[derive(Debug)]
pub enum Found<T> {
    /// There is none.
    Nothing,
    /// It is whole.
    Whole(T),
    /// It is of this kind, and of a later version than this program knows.
    Newer,
    /// It is there, but torn, foreign, of an unknown version or unreadable.
    Broken(String),
}

/// Why a record that a newer xtask has written cannot be read.
pub const NEWER: &str = "it was written by a newer xtask";

/// The refusal to read, replace or remove what a newer xtask has written: `what` is what it holds.
#[must_use]
pub fn newer(what: &str, path: &Path) -> Error {
    Error::unable(format!("{what} was written by a newer xtask, and stays as it is"))
        .detail(path.display().to_string())
        .hint(take_newer("CANONICAL"))
}

/// How somebody gets a newer toolkit who has an older one, whatever the older one refuses to do.
#[must_use]
pub fn take_newer(canonical: &str) -> String {
    format!(
        "`git checkout {canonical} -- {NAME}` takes the newer toolkit into this branch, or switch to a \
         branch that has it; `cargo xtask install-hooks` then renews what hooks run"
    )
}

/// The bytes of a record of this kind, as in `xtask.journal/1`.
pub fn to_bytes<T: Serialize>(kind: &str, value: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(value)?;
    let mut bytes = format!("{kind}\n{}\n", digest::hex(&digest::of_parts([&body[..]]))).into();
    Vec::append(&mut bytes, &mut body.clone());
    Ok(bytes)
}

/// Reads the bytes of a record of this kind.
pub fn from_bytes<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Found<T> {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (Some(head), Some(sum), Some(body)) = (lines.next(), lines.next(), lines.next()) else {
        return Found::Broken("it is cut short".to_owned());
    };
    if is_newer(head, kind) {
        return Found::Newer;
    }
    if head != kind.as_bytes() {
        return Found::Broken(format!(
            "it is `{}`, not `{kind}`",
            String::from_utf8_lossy(&head[..head.len().min(40)])
        ));
    }
    if sum != digest::hex(&digest::of_parts([body])).as_bytes() {
        return Found::Broken("its digest does not match".to_owned());
    }
    match serde_json::from_slice(body) {
        Ok(value) => Found::Whole(value),
        Err(cause) => Found::Broken(cause.to_string()),
    }
}

/// Whether a first line names this kind with a larger number.
fn is_newer(head: &[u8], kind: &str) -> bool {
    fn parts(text: &str) -> Option<(&str, u64)> {
        let (name, number) = text.rsplit_once('/')?;
        Some((name, number.parse().ok()?))
    }
    let (Some((found, later)), Some((name, known))) =
        (std::str::from_utf8(head).ok().and_then(parts), parts(kind))
    else {
        return false;
    };
    found == name && later > known
}

/// Writes a record whole or not at all.
pub fn write<T: Serialize>(disk: &Disk<'_>, path: &Path, kind: &str, value: &T) -> io::Result<()> {
    disk.write_whole(path, &to_bytes(kind, value)?)
}

/// Writes a record whole or not at all, one that means nothing any more once the machine has stopped.
pub fn write_for_now<T: Serialize>(
    disk: &Disk<'_>,
    path: &Path,
    kind: &str,
    value: &T,
) -> io::Result<()> {
    disk.write_whole_for_now(path, &to_bytes(kind, value)?)
}

/// Reads a record.
#[must_use]
pub fn read<T: DeserializeOwned>(path: &Path, kind: &str) -> Found<T> {
    match std::fs::metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(cause) => return Found::Broken(cause.to_string()),
        // A pipe in its place would be waited for.
        Ok(meta) if !meta.is_file() => return Found::Broken("it is no file".to_owned()),
        Ok(meta) if meta.len() > LARGEST => return Found::Broken("it is too large".to_owned()),
        Ok(_) => {}
    }
    match std::fs::read(path) {
        Ok(bytes) => from_bytes(kind, &bytes),
        // Its owner has removed it since the look.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(cause) => Found::Broken(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = to_bytes("xtask.test/1", &vec!["a", "b"]).unwrap();
        let Found::Whole(back) = from_bytes::<Vec<String>>("xtask.test/1", &bytes) else {
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
                    write(&disk, &path, "xtask.test/1", &1).unwrap();
                    disk.remove(&path).unwrap();
                }
            });
            while !owner.is_finished() {
                match read::<u32>(&path, "xtask.test/1") {
                    Found::Whole(1) | Found::Nothing => {}
                    other => panic!("{other:?}"),
                }
            }
        });
    }

    #[test]
    fn torn_foreign_and_newer_files_are_not_believed() {
        let bytes = to_bytes("xtask.test/1", &vec!["a", "b"]).unwrap();
        for cut in 0..bytes.len() {
            let found = from_bytes::<Vec<String>>("xtask.test/1", &bytes[..cut]);
            assert!(matches!(found, Found::Broken(_)), "cut at {cut}");
        }
        // An older one has no reader of its own yet; a foreign one never has.
        for kind in ["xtask.test/2", "xtask.other/1"] {
            let found = from_bytes::<Vec<String>>(kind, &bytes);
            assert!(matches!(found, Found::Broken(why) if why.contains("xtask.test/1")), "{kind}");
        }
    }

    #[test]
    fn a_newer_record_is_known_by_its_first_line_alone() {
        for later in ["xtask.test/2\nwhatever\nelse", "xtask.test/10\n\n"] {
            let found = from_bytes::<Vec<String>>("xtask.test/1", later.as_bytes());
            assert!(matches!(found, Found::Newer), "{later:?}");
        }
        for other in ["xtask.test/2", "xtask.tests/2\n\n", "xtask.test/x\n\n", "xtask.test/0\n\n"] {
            let found = from_bytes::<Vec<String>>("xtask.test/1", other.as_bytes());
            assert!(matches!(found, Found::Broken(_)), "{other:?}");
        }
    }
}
