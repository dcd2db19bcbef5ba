//! Passes of single files, for checks with `each = true` and for file rules.
//!
//! Guarantee: a file counts as passed only in exactly the state (name, mode, content) in which it passed, and only
//! while all else on which its check depends is the same. For example:
//!
//! ```text
//! validate/files/9f86d081884c7d65…    FilePasses { passed: { "2c26b46b…": 1767258000, .. } }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

use super::input_snapshot::InputSnapshot;
use super::log::LogLevel;
use super::result_cache::ResultCache;
use super::runner::Runner;
use xtask_base::environment::format_ago;
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::pluralize;
use xtask_config::Check;

const SCHEMA: &str = "xtask.file-passes/1";

/// The largest number of records, of one check in one state of its surroundings each.
const MAX_RECORDS: usize = 200;

/// The largest number of files in a record; the oldest passes go first.
const MAX_FILES: usize = 200_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FilePasses {
    /// The key of everything but the files.
    key: String,
    /// The digests of the files that have passed, and when, in seconds since the epoch.
    passed: BTreeMap<String, i64>,
}

impl ResultCache {
    fn find_file_passes(&self, key: &str) -> FilePasses {
        match record::read_record::<FilePasses>(&self.file_passes_file(key), SCHEMA) {
            LoadedRecord::Valid(found) if found.key == key => found,
            _ => FilePasses { key: key.to_owned(), passed: BTreeMap::new() },
        }
    }

    fn save_file_passes(&self, disk: &Disk<'_>, passes: &mut FilePasses) -> io::Result<()> {
        if passes.passed.len() > MAX_FILES {
            let mut times: Vec<i64> = passes.passed.values().copied().collect();
            times.sort_unstable();
            let oldest = times[passes.passed.len() - MAX_FILES];
            passes.passed.retain(|_, at| *at > oldest);
        }
        record::write_record(disk, &self.file_passes_file(&passes.key), SCHEMA, passes)?;
        self.remove_oldest_file_passes(disk, MAX_RECORDS)
    }
}

/// The files that a check still has to look at.
pub(super) struct FilesToCheck {
    pub(super) paths: Vec<RepoPath>,
    /// The number of files that have passed before, and when the first of them did.
    pub(super) passed_before: usize,
    oldest_pass: i64,
}

impl FilesToCheck {
    /// Whether all files have passed before.
    pub(super) fn is_done(&self) -> bool {
        self.paths.is_empty() && self.passed_before > 0
    }

    /// Says how many files are left, if some have passed.
    pub(super) fn describe_rest(&self) -> Option<String> {
        let some = self.passed_before > 0 && !self.paths.is_empty();
        some.then(|| {
            let all = pluralize(self.paths.len() + self.passed_before, "file");
            format!("{} of {all} to check, the others passed before", self.paths.len())
        })
    }

    /// Says what a run would do.
    pub(super) fn describe_plan(&self) -> String {
        match self.paths.len() {
            0 => "it would run".to_owned(),
            count => format!("it would run on {}", pluralize(count, "file")),
        }
    }

    /// Says that all files have passed before.
    pub(super) fn describe_pass(&self, now: i64) -> String {
        let files = pluralize(self.passed_before, "file");
        format!(
            "{files} passed in this very state, the first {}",
            format_ago(now, self.oldest_pass)
        )
    }
}

impl Runner<'_, '_, '_> {
    /// Returns the files of `snapshot` that have not passed yet in their present state; with `--fast` alone.
    pub(super) fn find_files_to_check(
        &self,
        check: &Check,
        snapshot: &InputSnapshot,
    ) -> FilesToCheck {
        let all = || snapshot.given.iter().flat_map(|given| given.paths().cloned());
        let everything =
            || FilesToCheck { paths: all().collect(), passed_before: 0, oldest_pass: 0 };
        let (Some(key), Some(given)) = (&snapshot.base_key, &snapshot.given) else {
            return everything();
        };
        if !self.options.fast || snapshot.unknown_reason.is_some() || self.is_quick(check, snapshot)
        {
            return everything();
        }
        let passes = self.context.cache.find_file_passes(key);
        let now = self.context.tools.world.now_seconds();
        let is_valid = |at: i64| {
            let age = now - at;
            let is_over = |ttl: u64| u64::try_from(age).is_ok_and(|age| age >= ttl);
            age >= 0 && !check.ttl_s.is_some_and(is_over)
        };
        let digests = given.digests();
        let pass = |path: &RepoPath| {
            passes.passed.get(digests.get(path)?).copied().filter(|at| is_valid(*at))
        };
        let (passed, paths): (Vec<_>, Vec<_>) =
            all().map(|path| (pass(&path), path)).partition(|(pass, _)| pass.is_some());
        FilesToCheck {
            paths: paths.into_iter().map(|(_, path)| path).collect(),
            passed_before: passed.len(),
            oldest_pass: passed.into_iter().filter_map(|(pass, _)| pass).min().unwrap_or(now),
        }
    }

    /// Saves which of the files in `checked` have `passed`; `changed` are those that changed while the check ran.
    pub(super) fn record_file_passes(
        &mut self,
        at: usize,
        checked: &[RepoPath],
        passed: &[RepoPath],
        changed: &BTreeSet<RepoPath>,
    ) {
        let Some(snapshot) = &self.states[at].snapshot else { return };
        let (Some(key), Some(given)) = (&snapshot.base_key, &snapshot.given) else { return };
        if !self.can_save || snapshot.unknown_reason.is_some() {
            return;
        }
        let digests = given.digests();
        let mut passes = self.context.cache.find_file_passes(key);
        for digest in checked.iter().filter_map(|path| digests.get(path)) {
            passes.passed.remove(digest);
        }
        let now = self.context.tools.world.now_seconds();
        let kept = passed.iter().filter(|path| !changed.contains(*path));
        let kept = kept.filter_map(|path| digests.get(path));
        passes.passed.extend(kept.map(|digest| (digest.clone(), now)));
        match self.context.cache.save_file_passes(self.context.tools.disk, &mut passes) {
            Ok(()) => self.log.write_line(LogLevel::StateSaved, &self.check(at).name.clone()),
            Err(cause) => self.disable_saving(&cause.to_string()),
        }
    }
}
