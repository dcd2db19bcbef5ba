//! Replacements for unreadable env files: the newest readable copy in a backup, or else an example file next to it.
//!
//! For example, a damaged `.env` can be replaced by a backup copy or by `.env.example`. No message contains the content
//! of a line.

use super::secret_files;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{Repo, read_raw_file};
use xtask_sync::backup;

/// The suffixes of example files, in order of preference.
const EXAMPLE_SUFFIXES: [&str; 4] = [".example", ".sample", ".template", ".dist"];

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

/// Finds a replacement for the env file `path`. `is_good` decides whether a content is readable.
pub fn find_replacement(
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
