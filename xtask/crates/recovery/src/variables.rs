//! Files of variables that cannot be read, and what could take their place: the newest copy in a backup that
//! can be read, or else the example that lies beside. What a line holds is never told.

use super::copies;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{Repo, read_raw};
use xtask_sync::backup;

/// The endings of examples, in the order in which they count.
const EXAMPLES: [&str; 4] = [".example", ".sample", ".template", ".dist"];

/// A file of variables that is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The file.
    pub path: RepoPath,
    /// What is wrong with it.
    pub why: String,
    /// Whether nobody can have written it so: it is not there, empty, cut off or in conflict.
    pub is_torn: bool,
    /// What could take its place, where it is.
    pub instead: Option<Instead>,
}

/// What could take the place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// A copy.
    Copy {
        /// The backup that holds it.
        backup: String,
        /// When it was made, in seconds since the epoch.
        seconds: i64,
        /// The folder of copies.
        name: String,
        /// Its place in the list.
        at: usize,
    },
    /// The example beside it.
    Example(RepoPath),
}

/// Finds what could take the place of a file: `is_good` says of a content whether it can be read.
pub fn instead(
    repo: &Repo,
    path: &RepoPath,
    is_good: &dyn Fn(&[u8]) -> bool,
) -> Result<Option<Instead>> {
    let here = repo.worktree_name();
    for found in backup::list(repo)? {
        let Ok(record) = found.record else { continue };
        let of_here = record.worktree_name == here;
        let Some(name) = record.snapshot.and_then(|snapshot| snapshot.copies) else { continue };
        let Ok(list) = copies::list(repo, &name) else { continue };
        for (at, copy) in list.iter().enumerate() {
            if of_here
                && copy.path == *path
                && !copy.is_link
                && !copy.is_gone
                && copies::content(repo, &name, at, copy).is_ok_and(|content| is_good(&content))
            {
                let (backup, seconds) = (found.id, found.seconds);
                return Ok(Some(Instead::Copy { backup, seconds, name, at }));
            }
        }
    }
    for ending in EXAMPLES {
        let example = RepoPath::new([path.as_bytes(), ending.as_bytes()].concat());
        let content = read_raw(&example.on_disk(repo.root())).unwrap_or_default();
        if content.is_some_and(|content| is_good(&content)) {
            return Ok(Some(Instead::Example(example)));
        }
    }
    Ok(None)
}
