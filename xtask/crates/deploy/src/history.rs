//! What was done to a target: a line of JSON for each run, appended and never changed.
//!
//! A line that was torn by a crash is no matter: the journal writes it again, by its id.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::steps::Doing;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::files::Disk;

/// The largest history that is read: 64 MiB, some hundred thousand deploys.
const LARGEST: u64 = 64 << 20;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The release serves, and was well for as long as it was watched.
    Verified,
    /// It did not come to serve; what served before was not touched.
    Failed,
    /// It served and was not well; the release before serves again, verified.
    RolledBack,
    /// The same, and the release before is not well either.
    RollbackFailed,
    /// It was given up before it was known whether it is well; the release before serves again, verified.
    Interrupted,
}

impl Outcome {
    /// Whether it says anything of its release.
    fn is_a_word(self) -> bool {
        !matches!(self, Outcome::Failed | Outcome::Interrupted)
    }
}

impl Outcome {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Verified => "verified",
            Outcome::Failed => "failed",
            Outcome::RolledBack => "rolled back",
            Outcome::RollbackFailed => "rollback failed",
            Outcome::Interrupted => "interrupted",
        }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id, by which it is there once.
    pub id: String,
    /// When it began, in seconds since the epoch.
    pub at: i64,
    /// What it did.
    pub doing: Doing,
    /// The release that it was about.
    pub release: String,
    /// The commit of that release.
    pub commit: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The release to which `current` points since.
    pub current: Option<String>,
    /// The release that serves since, verified.
    pub serves: Option<String>,
    /// Who did it.
    pub by: String,
    /// What went wrong.
    pub why: Option<String>,
}

/// All runs, the oldest first. Lines that cannot be read are left out.
pub fn read(file: &Path) -> Result<Vec<Entry>> {
    let failed = || format!("the history `{}` cannot be read", file.display());
    match std::fs::metadata(file) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(cause).unable(failed),
        Ok(meta) if !meta.is_file() || meta.len() > LARGEST => {
            return Err(Error::unable(failed()).detail("it is no file of a usual size"));
        }
        Ok(_) => {}
    }
    Ok(parse(&std::fs::read(file).unable(failed)?))
}

/// The runs of a history that was read.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Entry> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Adds a run, once.
pub fn append(disk: &Disk<'_>, file: &Path, entry: &Entry) -> Result<()> {
    let failed = || format!("the history `{}` cannot be written", file.display());
    if read(file)?.iter().any(|known| known.id == entry.id) {
        return Ok(());
    }
    let mut line = serde_json::to_vec(entry).unable(failed)?;
    line.push(b'\n');
    disk.other("append to the history").unable(failed)?;
    // What went wrong is for those who deploy.
    let mut options = File::options();
    let mut open = options.create(true).append(true).mode(0o600).open(file).unable(failed)?;
    let is_torn = std::fs::read(file).is_ok_and(|all| !all.is_empty() && !all.ends_with(b"\n"));
    if is_torn {
        line.insert(0, b'\n');
    }
    open.write_all(&line).and_then(|()| open.sync_all()).unable(failed)
}

/// The releases that were verified when they were last tried, the newest first.
#[must_use]
pub fn verified(entries: &[Entry]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let newest = entries.iter().rev().filter(|entry| entry.outcome.is_a_word());
    let newest = newest.filter(|entry| seen.insert(entry.release.clone()));
    let good = newest.filter(|entry| entry.outcome == Outcome::Verified);
    good.map(|entry| entry.release.clone()).collect()
}

/// Whether a commit was verified when it last came to serve: a try that was given up before that says nothing.
#[must_use]
pub fn is_verified(entries: &[Entry], commit: &str) -> bool {
    let mut served = entries.iter().rev().filter(|entry| entry.outcome.is_a_word());
    let last = served.find(|entry| entry.commit == commit);
    last.is_some_and(|entry| entry.outcome == Outcome::Verified)
}

/// The release to which `current` should point, and the one that serves.
#[must_use]
pub fn standing(entries: &[Entry]) -> (Option<&str>, Option<&str>) {
    let last = entries.last();
    let current = last.and_then(|entry| entry.current.as_deref());
    (current, last.and_then(|entry| entry.serves.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, release: &str, outcome: Outcome) -> Entry {
        Entry {
            id: id.to_owned(),
            at: 1,
            doing: Doing::Deploy,
            release: release.to_owned(),
            commit: format!("commit of {release}"),
            outcome,
            current: None,
            serves: None,
            by: "ada".to_owned(),
            why: None,
        }
    }

    #[test]
    fn the_last_word_on_a_release_counts() {
        let all = [
            entry("1", "a", Outcome::Verified),
            entry("2", "b", Outcome::Verified),
            entry("3", "b", Outcome::RolledBack),
            entry("4", "c", Outcome::Verified),
            entry("5", "d", Outcome::Failed),
            entry("6", "a", Outcome::Verified),
        ];
        assert_eq!(verified(&all), ["a", "c"]);
        assert!(is_verified(&all, "commit of c") && !is_verified(&all, "commit of b"));
        assert!(!is_verified(&all, "commit of d") && !is_verified(&all, "another"));
    }

    #[test]
    fn a_torn_line_swallows_nothing_and_an_id_is_there_once() {
        let name = format!("xtask-deploy-history-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let disk = Disk::real();
        disk.remove(&file).unwrap();
        append(&disk, &file, &entry("1", "a", Outcome::Verified)).unwrap();
        File::options().append(true).open(&file).unwrap().write_all(b"{\"id\": \"to").unwrap();
        for _ in 0..2 {
            append(&disk, &file, &entry("2", "b", Outcome::Verified)).unwrap();
        }
        let ids: Vec<String> = read(&file).unwrap().into_iter().map(|entry| entry.id).collect();
        assert_eq!(ids, ["1", "2"]);
        disk.remove(&file).unwrap();
    }
}
