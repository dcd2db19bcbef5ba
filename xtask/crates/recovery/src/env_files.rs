//! Replacements for unreadable env files: the newest readable copy in a backup, or else an example file next to it.
//!
//! For example, a damaged `.env` can be replaced by a backup copy or by `.env.example`. No message contains the content
//! of a line.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::secret_files;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{Repo, read_raw_file};
use xtask_sync::backup;

/// The suffixes of example files, in order of preference.
const EXAMPLE_SUFFIXES: [&str; 4] = [".example", ".sample", ".template", ".dist"];

/// The size limit of an env file, in bytes; the same as for services.
const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// An unreadable env file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenEnvFile {
    pub path: RepoPath,
    /// The problem with the file.
    pub why: String,
    /// Whether the file was damaged rather than edited: missing, empty, truncated or with conflict markers.
    pub is_damaged: bool,
    /// The best replacement, if any.
    pub replacement: Option<EnvReplacement>,
}

/// A replacement for an env file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvReplacement {
    /// A copy in a backup.
    Copy {
        /// The id of the backup.
        backup: String,
        /// The creation time, in seconds since the epoch.
        seconds: i64,
        /// The folder of copies, for `secret_files::read_copy`.
        copies_name: String,
        /// The index of the copy in its list.
        index: usize,
    },
    /// An example file in the same folder.
    Example(RepoPath),
}

/// The state of a content as an env file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFileState {
    /// Whether it is empty, truncated or in conflict.
    pub is_torn: bool,
    /// Why it cannot be parsed, if so.
    pub fault: Option<String>,
}

/// Checks a content. The first argument is the name of the file, for the fault.
pub type EnvFileCheck<'a> = &'a dyn Fn(&str, &[u8]) -> EnvFileState;

/// Returns those of `files` that exist but cannot be read, or are required but missing. Each file has its path and
/// whether it is required.
pub fn find_broken_files(
    repo: &Repo,
    files: &BTreeSet<(String, bool)>,
    check: EnvFileCheck<'_>,
) -> Result<Vec<BrokenEnvFile>> {
    let is_good = |content: &[u8]| {
        let state = check("it", content);
        !state.is_torn && state.fault.is_none()
    };
    let mut found = Vec::new();
    for (file, is_required) in files {
        let path = RepoPath::new(file.clone());
        if found.iter().any(|one: &BrokenEnvFile| one.path == path) {
            continue;
        }
        let on_disk = path.to_disk_path(repo.root());
        let Some((why, is_damaged)) = find_file_fault(&on_disk, file, *is_required, check) else {
            continue;
        };
        // A file that is complete but invalid was written that way by somebody, so it is not replaced.
        let replacement = if is_damaged { find_replacement(repo, &path, &is_good)? } else { None };
        let is_empty = on_disk.metadata().is_ok_and(|meta| meta.len() == 0);
        // An empty file may be intended, unless a backup has content for it.
        if is_empty && !matches!(replacement, Some(EnvReplacement::Copy { .. })) {
            continue;
        }
        found.push(BrokenEnvFile { path, why, is_damaged, replacement });
    }
    Ok(found)
}

/// Returns the problem of an env file, and whether it is damaged (empty, truncated or in conflict).
fn find_file_fault(
    on_disk: &Path,
    name: &str,
    is_required: bool,
    check: EnvFileCheck<'_>,
) -> Option<(String, bool)> {
    let meta = match std::fs::metadata(on_disk) {
        // A folder `.env` is a virtual environment of Python.
        Ok(meta) if meta.is_dir() && !is_required => return None,
        Ok(meta) => meta,
        Err(_) if is_required => return Some((format!("`{name}` not found"), true)),
        Err(_) => return None,
    };
    // A named pipe comes from a secret manager; only `start` reads it.
    if meta.file_type().is_fifo() {
        return None;
    }
    if !meta.is_file() || meta.len() > MAX_ENV_FILE_BYTES {
        return Some((format!("`{name}` is not a valid env file"), false));
    }
    match std::fs::read(on_disk) {
        Ok(content) => {
            let EnvFileState { is_torn, fault } = check(name, &content);
            let torn = || format!("`{name}` is empty, truncated or in conflict");
            fault.or_else(|| is_torn.then(torn)).map(|why| (why, is_torn))
        }
        Err(cause) => Some((format!("cannot read `{name}`: {cause}"), false)),
    }
}

/// Finds a replacement for the env file `path`. `is_good` decides whether a content is readable.
fn find_replacement(
    repo: &Repo,
    path: &RepoPath,
    is_good: &dyn Fn(&[u8]) -> bool,
) -> Result<Option<EnvReplacement>> {
    let here = repo.worktree_name();
    for found in backup::list_backups(repo)? {
        let Ok(record) = found.record else { continue };
        let of_here = record.worktree_name == here;
        let Some(name) = record.snapshot.and_then(|snapshot| snapshot.copies) else { continue };
        let Ok(list) = secret_files::read_list(repo, &name) else { continue };
        for (at, copy) in list.iter().enumerate() {
            if of_here
                && copy.path == *path
                && !copy.is_link
                && !copy.is_gone
                && secret_files::read_copy(repo, &name, at, copy)
                    .is_ok_and(|content| is_good(&content))
            {
                let (backup, seconds) = (found.id, found.seconds);
                return Ok(Some(EnvReplacement::Copy {
                    backup,
                    seconds,
                    copies_name: name,
                    index: at,
                }));
            }
        }
    }
    for ending in EXAMPLE_SUFFIXES {
        let example = RepoPath::new([path.as_bytes(), ending.as_bytes()].concat());
        let content = read_raw_file(&example.to_disk_path(repo.root())).unwrap_or_default();
        if content.is_some_and(|content| is_good(&content)) {
            return Ok(Some(EnvReplacement::Example(example)));
        }
    }
    Ok(None)
}
