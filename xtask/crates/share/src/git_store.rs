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
use xtask_base::deadline::Deadline;
use xtask_base::digest;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_git::{AllPaths, FileMode, Id, NewCommit, Repo, Signature, TreeChange, TreeEntry};

/// The ref of the remote.
pub const RESULTS_REF: &str = "refs/xtask/results";

/// The local ref for what was fetched.
const FETCHED_REF: &str = "refs/xtask/fetched-results";

/// The largest number of bundles: a run of CI every ten minutes for a day and a half.
pub const MAX_BUNDLES: usize = 200;

/// How long a read may take: results are never in the way of somebody who is offline.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a write may take, with all attempts while others move the ref.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// After how many refusals in a row, although nobody has moved the ref, the remote is believed to refuse all.
const MAX_REFUSALS: usize = 3;

/// The longest pause before the first other attempt, in milliseconds; later ones are longer.
const LONGEST_PAUSE_MS: u64 = 256;

/// The longest pause before an attempt, as a multiple of that.
const MAX_PAUSES: u64 = 8;

/// The author of the commits: a machine that signs need not have a name for commits.
const AUTHOR: (&str, &str) = ("xtask", "xtask@users.noreply.invalid");

/// Fetches the bundles of a remote, newest first, and returns warnings about what was passed over.
pub fn fetch_bundles(repo: &Repo, remote: &str) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
    let Some(there) = repo.read_remote_ref(remote, RESULTS_REF, READ_TIMEOUT)? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let commit = fetch_if_needed(repo, remote, there)?;
    read_bundles(repo, commit)
}

/// Adds a bundle to those of a remote. The oldest ones go when there are more than [`MAX_BUNDLES`].
pub fn publish_bundle(repo: &Repo, remote: &str, bundle: &[u8], now_s: i64) -> Result<()> {
    let blob = repo.write_blob(bundle)?;
    let digest = digest::hash_bytes(bundle);
    let name = format!("{now_s:012}-{}", digest::to_hex(&digest));
    let deadline = Deadline::after(WRITE_TIMEOUT);
    let (mut last, mut refusals, mut attempts) = (None, 0, 0);
    while let Some(left) = deadline.remaining() {
        let old = repo.read_remote_ref(remote, RESULTS_REF, left)?;
        refusals = if last == Some(old) { refusals + 1 } else { 0 };
        if refusals == MAX_REFUSALS {
            break;
        }
        last = Some(old);
        let commit = add_bundle(repo, remote, old, (&name, blob), now_s)?;
        if repo.push_remote_ref(remote, RESULTS_REF, old, commit, WRITE_TIMEOUT)? {
            return Ok(());
        }
        // Parts of one run end at the same time; their digests tell them apart.
        attempts += 1;
        let share = u64::from(digest[attempts % digest.len()]) * LONGEST_PAUSE_MS / 256;
        std::thread::sleep(Duration::from_millis(share * MAX_PAUSES.min(attempts as u64)));
    }
    Err(Error::unable(format!("cannot push results to `{RESULTS_REF}` of the remote `{remote}`"))
        .with_hint(format!("may this account push to `{RESULTS_REF}`?")))
}

/// Writes the commit with the bundles of `old` and one more.
fn add_bundle(
    repo: &Repo,
    remote: &str,
    old: Option<Id>,
    (name, blob): (&str, Id),
    now_s: i64,
) -> Result<Id> {
    let mut entries = Vec::new();
    if let Some(old) = old {
        let old = fetch_if_needed(repo, remote, old)?;
        entries = list_entries(repo, old).unwrap_or_default();
    }
    entries.retain(|(other, _)| other != name);
    entries.push((name.to_owned(), blob));
    entries.sort();
    let surplus = entries.len().saturating_sub(MAX_BUNDLES);
    let changes: Vec<TreeChange> = entries
        .into_iter()
        .skip(surplus)
        .map(|(name, id)| (RepoPath::new(name), Some(TreeEntry { mode: FileMode::File, id })))
        .collect();
    let (name, email) = (AUTHOR.0.to_owned(), AUTHOR.1.to_owned());
    repo.write_commit(&NewCommit {
        tree: repo.write_tree(None, &changes)?,
        parents: &[],
        author: None,
        committer: &Signature { name, email, seconds: now_s },
        message: "xtask: results of checks\n",
    })
}

/// Fetches the commit, or the one that the ref has by then. Returns which it is.
fn fetch_if_needed(repo: &Repo, remote: &str, commit: Id) -> Result<Id> {
    if repo.has_object(commit) {
        return Ok(commit);
    }
    repo.fetch_remote_ref(remote, RESULTS_REF, FETCHED_REF, READ_TIMEOUT)?;
    match repo.has_object(commit) {
        true => Ok(commit),
        false => Ok(repo.resolve_ref(FETCHED_REF)?.unwrap_or(commit)),
    }
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
