//! The result cache: passes by cache key, and the manifest of the last pass of each check.
//!
//! Passes are stored, and for checks that share theirs the last failure, so that a pass of another machine does not count
//! for a state that has failed here. A record that is truncated, unknown, for another key or of another version (also
//! of a newer xtask) counts as absent and is replaced. Both folders are bounded; the oldest files are removed
//! first.
//!
//! ```text
//! validate/results/9f86d081884c7d65…    CachedPass { check: "lint", at: 1767258000, .. }
//! validate/manifests/2c26b46b68ffc68f…  InputManifest
//! validate/files/e3b0c44298fc1c14…      FilePasses (`file_passes`)
//! validate/failures/9f86d081884c7d65…   Failure { at: 1767258000, .. }
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::cache_key::InputManifest;
use xtask_base::digest;
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};

const PASS_SCHEMA: &str = "xtask.result/1";
const MANIFEST_SCHEMA: &str = "xtask.manifest/1";
const FAILURE_SCHEMA: &str = "xtask.failure/1";

/// The largest number of passes: those of two hundred checks on five branches.
const MAX_PASSES: usize = 1000;

const MAX_MANIFESTS: usize = 500;

const MAX_FAILURES: usize = 1000;

/// The largest size of each of the two folders: 128 MB.
const MAX_FOLDER_BYTES: u64 = 128_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedPass {
    /// The cache key of the state that passed.
    pub key: String,
    pub check: String,
    /// The end of the check, in seconds since the epoch.
    pub at: i64,
    pub duration_ms: u64,
    /// The finding of the check, in a line.
    pub reason: String,
    /// The output of the command.
    pub output: String,
}

/// The last failure of a check in a state.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    key: String,
    /// In seconds since the epoch.
    at: i64,
}

pub struct ResultCache {
    folder: PathBuf,
}

impl ResultCache {
    /// Creates a cache in `folder`, which need not exist.
    #[must_use]
    pub fn new(folder: PathBuf) -> ResultCache {
        ResultCache { folder }
    }

    fn pass_file(&self, key: &str) -> PathBuf {
        self.folder.join("results").join(key)
    }

    pub(super) fn file_passes_file(&self, key: &str) -> PathBuf {
        self.folder.join("files").join(key)
    }

    /// Removes the oldest records of passes of files while there are more than `most`.
    pub(super) fn remove_oldest_file_passes(&self, disk: &Disk<'_>, most: usize) -> io::Result<()> {
        remove_oldest(disk, &self.folder.join("files"), most)
    }

    fn manifest_file(&self, root: &Path, check: &str) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let name = digest::hash_parts([root.as_os_str().as_bytes(), check.as_bytes()]);
        self.folder.join("manifests").join(digest::to_hex(&name))
    }

    /// Returns the pass with this key. Returns `None` if the record is missing or invalid.
    #[must_use]
    pub fn find_pass(&self, key: &str) -> Option<CachedPass> {
        match record::read_record::<CachedPass>(&self.pass_file(key), PASS_SCHEMA) {
            LoadedRecord::Valid(pass) if pass.key == key => Some(pass),
            _ => None,
        }
    }

    /// Returns the manifest of the last pass of `check` in `root`, to explain a cache miss.
    #[must_use]
    pub fn find_last_manifest(&self, root: &Path, check: &str) -> Option<InputManifest> {
        match record::read_record::<InputManifest>(
            &self.manifest_file(root, check),
            MANIFEST_SCHEMA,
        ) {
            LoadedRecord::Valid(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// Removes the pass with this key, before its check runs again.
    pub fn remove_pass(&self, disk: &Disk<'_>, key: &str) -> io::Result<()> {
        remove_if_there(disk, &self.pass_file(key))
    }

    fn failure_file(&self, key: &str) -> PathBuf {
        self.folder.join("failures").join(key)
    }

    /// Returns when the state with this key failed, in seconds since the epoch; `None` if it has not, or passed later.
    #[must_use]
    pub fn find_failure(&self, key: &str) -> Option<i64> {
        match record::read_record::<Failure>(&self.failure_file(key), FAILURE_SCHEMA) {
            LoadedRecord::Valid(failure) if failure.key == key => Some(failure.at),
            _ => None,
        }
    }

    /// Saves that the state with this key has failed, and removes the oldest records.
    pub fn save_failure(&self, disk: &Disk<'_>, key: &str, at: i64) -> io::Result<()> {
        let failure = Failure { key: key.to_owned(), at };
        record::write_record(disk, &self.failure_file(key), FAILURE_SCHEMA, &failure)?;
        remove_oldest(disk, &self.folder.join("failures"), MAX_FAILURES)
    }

    /// Saves a pass and its manifest, and removes the oldest records and the failure of that state.
    pub fn save_pass(
        &self,
        disk: &Disk<'_>,
        root: &Path,
        pass: &CachedPass,
        manifest: &InputManifest,
    ) -> io::Result<()> {
        record::write_record(
            disk,
            &self.manifest_file(root, &pass.check),
            MANIFEST_SCHEMA,
            manifest,
        )?;
        record::write_record(disk, &self.pass_file(&pass.key), PASS_SCHEMA, pass)?;
        remove_if_there(disk, &self.failure_file(&pass.key))?;
        remove_oldest(disk, &self.folder.join("results"), MAX_PASSES)?;
        remove_oldest(disk, &self.folder.join("manifests"), MAX_MANIFESTS)
    }
}

fn remove_if_there(disk: &Disk<'_>, path: &Path) -> io::Result<()> {
    // Checking first saves an operation if the file is missing.
    if path.symlink_metadata().is_ok() { disk.remove_file(path) } else { Ok(()) }
}

/// Removes the oldest files while there are more than `most`, or more than `MAX_FOLDER_BYTES`.
fn remove_oldest(disk: &Disk<'_>, folder: &Path, most: usize) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        // The file was removed concurrently.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() {
            files.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
    let mut number = files.len();
    for (_, size, path) in files {
        if number <= most && bytes <= MAX_FOLDER_BYTES {
            break;
        }
        disk.remove_file(&path)?;
        number -= 1;
        bytes -= size;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test sets its scene")]
mod tests {
    use super::*;

    fn store(name: &str) -> ResultCache {
        let name = format!("xtask-store-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&folder));
        ResultCache::new(folder)
    }

    fn pass(key: &str) -> CachedPass {
        CachedPass {
            key: key.to_owned(),
            check: "tests".to_owned(),
            at: 1_700_000_000,
            duration_ms: 12,
            reason: String::new(),
            output: "fine\n".to_owned(),
        }
    }

    #[test]
    fn a_pass_counts_for_its_own_key_and_only_if_it_is_whole() {
        let store = store("whole");
        let disk = Disk::real();
        let root = Path::new("/r");
        store.save_pass(&disk, root, &pass("k"), &InputManifest::default()).unwrap();
        assert_eq!(store.find_pass("k"), Some(pass("k")));
        assert_eq!(store.find_last_manifest(root, "tests"), Some(InputManifest::default()));
        assert_eq!(store.find_last_manifest(Path::new("/s"), "tests"), None);
        std::fs::copy(store.pass_file("k"), store.pass_file("l")).unwrap();
        assert_eq!(store.find_pass("l"), None, "it was written for another key");
        let bytes = std::fs::read(store.pass_file("k")).unwrap();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            std::fs::write(store.pass_file("k"), &broken).unwrap();
            assert_eq!(store.find_pass("k"), None, "byte {at}");
            std::fs::write(store.pass_file("k"), &bytes[..at]).unwrap();
            assert_eq!(store.find_pass("k"), None, "cut at {at}");
        }
        std::fs::write(store.pass_file("k"), bytes).unwrap();
        assert!(store.find_pass("k").is_some());
        store.remove_pass(&disk, "k").unwrap();
        assert_eq!(store.find_pass("k"), None);
        assert_eq!(store.find_failure("k"), None);
        store.save_failure(&disk, "k", 7).unwrap();
        assert_eq!((store.find_failure("k"), store.find_failure("l")), (Some(7), None));
        store.save_pass(&disk, root, &pass("k"), &InputManifest::default()).unwrap();
        assert_eq!(store.find_failure("k"), None, "it has passed since");
        std::fs::remove_dir_all(&store.folder).unwrap();
    }

    #[test]
    fn the_oldest_go_first() {
        let store = store("bound");
        let folder = store.folder.join("results");
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..5 {
            let path = folder.join(number.to_string());
            std::fs::write(&path, "x").unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 - number);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        remove_oldest(&Disk::real(), &folder, 2).unwrap();
        let mut left: Vec<_> =
            folder.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string()).collect();
        left.sort();
        assert_eq!(left, [Ok("0".to_owned()), Ok("1".to_owned())]);
        std::fs::remove_dir_all(&store.folder).unwrap();
    }
}
