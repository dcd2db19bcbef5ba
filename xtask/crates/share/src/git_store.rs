//! Bundles on a ref of the remote, `refs/xtask/results`: a commit without parents whose tree has a file for each.
//!
//! Guarantee: the ref is moved only from the value that was read, so that two writers lose nothing of each other; it
//! holds [`MAX_BUNDLES`] bundles at most, and whatever else it is made to hold is passed over.
//!
//! ```text
//! refs/xtask/results -> commit -> 1764452000-9f86d081…, 1764455600-60303ae2…
//! ```

use std::time::Duration;

use crate::bundle::MAX_BUNDLE_BYTES;
use xtask_base::digest;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_git::{AllPaths, FileMode, Id, NewCommit, Repo, TreeChange, TreeEntry};

/// The ref of the remote.
pub const RESULTS_REF: &str = "refs/xtask/results";

/// The local ref for what was fetched.
const FETCHED_REF: &str = "refs/xtask/fetched-results";

/// The largest number of bundles: a run of CI every ten minutes for a day and a half.
pub const MAX_BUNDLES: usize = 200;

/// How long a read may take: results are never in the way of somebody who is offline.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a write is tried while others move the ref.
const WRITE_ATTEMPTS: usize = 5;

/// Fetches the bundles of a remote, newest first, and returns warnings about what was passed over.
pub fn fetch_bundles(repo: &Repo, remote: &str) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
    let Some(there) = repo.read_remote_ref(remote, RESULTS_REF, READ_TIMEOUT)? else {
        return Ok((Vec::new(), Vec::new()));
    };
    fetch_if_needed(repo, remote, there)?;
    read_bundles(repo, there)
}

/// Adds a bundle to those of a remote. The oldest ones go when there are more than [`MAX_BUNDLES`].
pub fn publish_bundle(repo: &Repo, remote: &str, bundle: &[u8], now_s: i64) -> Result<()> {
    let blob = repo.write_blob(bundle)?;
    let name = format!("{now_s:012}-{}", digest::to_hex(&digest::hash_bytes(bundle)));
    for _ in 0..WRITE_ATTEMPTS {
        let old = repo.read_remote_ref(remote, RESULTS_REF, WRITE_TIMEOUT)?;
        let mut entries = Vec::new();
        if let Some(old) = old {
            fetch_if_needed(repo, remote, old)?;
            entries = list_entries(repo, old).unwrap_or_default();
        }
        entries.retain(|(other, _)| *other != name);
        entries.push((name.clone(), blob));
        entries.sort();
        let surplus = entries.len().saturating_sub(MAX_BUNDLES);
        let changes: Vec<TreeChange> = entries
            .into_iter()
            .skip(surplus)
            .map(|(name, id)| (RepoPath::new(name), Some(TreeEntry { mode: FileMode::File, id })))
            .collect();
        let committer = repo.committer(now_s)?;
        let commit = repo.write_commit(&NewCommit {
            tree: repo.write_tree(None, &changes)?,
            parents: &[],
            author: None,
            committer: &committer,
            message: "xtask: results of checks\n",
        })?;
        if repo.push_remote_ref(remote, RESULTS_REF, old, commit, WRITE_TIMEOUT)? {
            return Ok(());
        }
    }
    Err(Error::unable(format!("cannot push results to `{RESULTS_REF}` of the remote `{remote}`"))
        .with_hint(format!("may this account push to `{RESULTS_REF}`?")))
}

fn fetch_if_needed(repo: &Repo, remote: &str, commit: Id) -> Result<()> {
    if repo.has_object(commit) {
        return Ok(());
    }
    repo.fetch_remote_ref(remote, RESULTS_REF, FETCHED_REF, READ_TIMEOUT)
}

/// Lists the files at the top of a commit, oldest first: names and blobs.
fn list_entries(repo: &Repo, commit: Id) -> Result<Vec<(String, Id)>> {
    let all = repo.list_tree(repo.tree_of(commit)?, &AllPaths)?;
    let is_name = |name: &str| {
        let digits = name.split_once('-').map_or("", |(time, _)| time);
        digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit()) && !name.contains('/')
    };
    let entries = all.into_iter().filter(|(_, entry)| entry.mode == FileMode::File);
    let entries = entries.map(|(path, entry)| (path.to_string(), entry.id));
    Ok(entries.filter(|(name, _)| is_name(name)).collect())
}

fn read_bundles(repo: &Repo, commit: Id) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
    let entries = match list_entries(repo, commit) {
        Ok(entries) => entries,
        Err(failure) => {
            return Ok((Vec::new(), vec![format!("`{RESULTS_REF}` holds no results: {failure}")]));
        }
    };
    let mut warnings = Vec::new();
    if entries.len() > MAX_BUNDLES {
        warnings.push(format!(
            "`{RESULTS_REF}` holds {} entries; the newest {MAX_BUNDLES} were read",
            entries.len()
        ));
    }
    let mut bundles = Vec::new();
    for (name, id) in entries.iter().rev().take(MAX_BUNDLES) {
        match repo.object_size(*id) {
            Ok(size) if size <= MAX_BUNDLE_BYTES as u64 => bundles.push(repo.read_blob(*id)?),
            Ok(_) => warnings.push(format!("`{name}` of `{RESULTS_REF}` is too large for results")),
            Err(failure) => warnings.push(failure.to_string()),
        }
    }
    Ok((bundles, warnings))
}
