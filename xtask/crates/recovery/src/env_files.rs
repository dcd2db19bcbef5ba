//! Files of variables that cannot be read, and what could take their place: the newest copy in a backup that
//! can be read, or else the example that lies beside. What a line holds is never told.

use super::secret_files;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{Repo, read_raw_file};
use xtask_sync::backup;

/// The endings of examples, in the order in which they count.
const EXAMPLE_SUFFIXES: [&str; 4] = [".example", ".sample", ".template", ".dist"];

/// A file of variables that is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenEnvFile {
    /// The file.
    pub path: RepoPath,
    /// What is wrong with it.
    pub why: String,
    /// Whether nobody can have written it so: it is not there, empty, cut off or in conflict.
    pub is_damaged: bool,
    /// What could take its place, where it is.
    pub replacement: Option<EnvReplacement>,
}

/// What could take the place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvReplacement {
    /// A copy.
    Copy {
        /// The backup that holds it.
        backup: String,
        /// When it was made, in seconds since the epoch.
        seconds: i64,
        /// The folder of copies.
        copies_name: String,
        /// Its place in the list.
        index: usize,
    },
    /// The example beside it.
    Example(RepoPath),
}

/// Finds what could take the place of a file: `is_good` says of a content whether it can be read.
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
