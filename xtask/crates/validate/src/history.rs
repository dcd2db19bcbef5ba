//! The history of runs: one line of JSON per run, appended to a file of bounded size.
//!
//! A truncated or unknown line is skipped. If the file grows too large, the oldest runs are removed. A line:
//!
//! ```text
//! {"run":"20260101T090000Z-4711","at":1767258000,"by":"validate","ok":true,"duration_ms":812,"checks":[…]}
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outcome::CheckOutcome;
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_base::lock::Lock;

/// The size from which the oldest runs are removed: 2 MB, some hundred runs of a hundred checks.
const MAX_HISTORY_BYTES: u64 = 2_000_000;

/// The size after that removal, in bytes.
const KEPT_BYTES: usize = 1_000_000;

/// The longest wait for another run that appends its line.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The command that started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunTrigger {
    Validate,
    Setup,
    Start,
    Deploy,
    Recover,
    PreCommit,
    PrePush,
    /// Another hook of git than these two.
    Hook,
    /// A command that only another version of xtask knows.
    #[serde(other)]
    Other,
}

impl RunTrigger {
    /// Returns the command, for the log and for others that wait for the lock.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            RunTrigger::Validate => "validate",
            RunTrigger::Setup => "setup",
            RunTrigger::Start => "start --verify",
            RunTrigger::Deploy => "deploy",
            RunTrigger::Recover => "recover",
            RunTrigger::PreCommit => "pre-commit",
            RunTrigger::PrePush => "pre-push",
            RunTrigger::Hook => "a git hook",
            RunTrigger::Other => "another command",
        }
    }
}

/// One check of a `PastRun`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastCheck {
    pub check: String,
    pub outcome: CheckOutcome,
    pub duration_ms: u64,
    /// The beginning of the cache key of its state; `None` if the state cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    pub run: String,
    /// The start of the run, in seconds since the epoch.
    pub at: i64,
    /// The root of the worktree.
    pub worktree: String,
    pub by: RunTrigger,
    /// Whether every check was good.
    pub ok: bool,
    pub duration_ms: u64,
    /// The number of checks with the outcome `left-out`.
    #[serde(default)]
    pub left_out: usize,
    /// The checks that were part of the run.
    pub checks: Vec<PastCheck>,
}

/// Statistics of one check over several runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckStatistics {
    pub check: String,
    /// The number of results: `passed`, `cached`, `fixed` or `failed`.
    pub runs: usize,
    /// The share of `runs` that were good, from 0 to 1.
    pub pass_rate: f64,
    /// The share of `runs` with a cache hit, from 0 to 1.
    pub hit_rate: f64,
    /// The median duration without cache hits; `None` if all were cache hits.
    pub median_ms: Option<u64>,
    /// The 95th percentile of the same durations.
    pub p95_ms: Option<u64>,
    /// The most recent outcome.
    pub last: CheckOutcome,
    /// The number of states in which it has both passed and failed.
    pub flaky: usize,
    /// The last results, oldest first, at most [`MAX_RECENT`].
    pub recent: Vec<RecentResult>,
}

/// One result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecentResult {
    pub outcome: CheckOutcome,
    pub duration_ms: u64,
}

/// How many results of a check are listed one by one.
const MAX_RECENT: usize = 20;

/// Appends a run to the history and shortens the file if necessary.
pub fn append_run(disk: &Disk<'_>, file: &Path, run: &PastRun) -> Result<(), String> {
    let failed =
        |cause: io::Error| format!("cannot write the history `{}`: {cause}", file.display());
    let mut line = serde_json::to_string(run).map_err(|cause| failed(cause.into()))?;
    line.push('\n');
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // Opening a FIFO would block.
    if fs::metadata(file).is_ok_and(|meta| !meta.is_file()) {
        return Err(format!("cannot write the history `{}`: not a regular file", file.display()));
    }
    let lock = file.with_extension("lock");
    let _lock = Lock::acquire(&lock, "history", LOCK_WAIT, |_| {}).map_err(|e| e.to_string())?;
    disk.check_gate("append to the history").map_err(failed)?;
    let mut open = File::options().create(true).append(true).open(file).map_err(failed)?;
    // A line truncated by a crash must not swallow this one.
    let is_torn = fs::read(file).is_ok_and(|all| !all.is_empty() && !all.ends_with(b"\n"));
    if is_torn {
        line.insert(0, '\n');
    }
    open.write_all(line.as_bytes()).map_err(failed)?;
    if open.metadata().map_err(failed)?.len() > MAX_HISTORY_BYTES {
        let all = fs::read(file).map_err(failed)?;
        let from = all.len().saturating_sub(KEPT_BYTES);
        let start =
            all[from..].iter().position(|byte| *byte == b'\n').map_or(0, |at| from + at + 1);
        disk.write_atomically(file, &all[start..]).map_err(failed)?;
    }
    Ok(())
}

/// Reads all runs, oldest first. A missing or unreadable file gives an empty list.
#[must_use]
pub fn read_history(file: &Path) -> Vec<PastRun> {
    let is_file = fs::metadata(file).is_ok_and(|meta| meta.is_file());
    let bytes = if is_file { fs::read(file).unwrap_or_default() } else { Vec::new() };
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Returns the last run that checked the whole worktree; runs of hooks check only staged files.
#[must_use]
pub fn find_last_run(file: &Path, worktree: &str) -> Option<PastRun> {
    let is_here = |run: &PastRun| {
        run.worktree == worktree && matches!(run.by, RunTrigger::Validate | RunTrigger::Recover)
    };
    read_history(file).into_iter().rev().find(is_here)
}

/// Computes the statistics of every check, sorted by name.
#[must_use]
pub fn compute_statistics(runs: &[PastRun]) -> Vec<CheckStatistics> {
    let mut by_check: BTreeMap<&str, Vec<&PastCheck>> = BTreeMap::new();
    for entry in runs.iter().flat_map(|run| &run.checks) {
        by_check.entry(&entry.check).or_default().push(entry);
    }
    by_check
        .into_iter()
        .filter_map(|(check, entries)| {
            let is_result = |outcome| {
                use CheckOutcome::{Cached, Failed, Fixed, Passed};
                matches!(outcome, Passed | Cached | Fixed | Failed)
            };
            let counted: Vec<&&PastCheck> =
                entries.iter().filter(|entry| is_result(entry.outcome)).collect();
            let last = counted.last()?.outcome;
            let share = |is: &dyn Fn(CheckOutcome) -> bool| {
                let found = counted.iter().filter(|entry| is(entry.outcome)).count();
                found as f64 / counted.len() as f64
            };
            let mut times: Vec<u64> = counted
                .iter()
                .filter(|entry| entry.outcome != CheckOutcome::Cached)
                .map(|entry| entry.duration_ms)
                .collect();
            times.sort_unstable();
            // Nearest-rank percentile: the smallest duration that `percent` of 100 do not exceed.
            let rank = |percent: usize| {
                let at = (times.len() * percent).div_ceil(100);
                times.get(at.saturating_sub(1)).copied()
            };
            Some(CheckStatistics {
                check: check.to_owned(),
                runs: counted.len(),
                pass_rate: share(&CheckOutcome::is_good),
                hit_rate: share(&|outcome| outcome == CheckOutcome::Cached),
                median_ms: rank(50),
                p95_ms: rank(95),
                last,
                flaky: count_flaky_states(&counted),
                recent: counted[counted.len().saturating_sub(MAX_RECENT)..]
                    .iter()
                    .map(|entry| RecentResult {
                        outcome: entry.outcome,
                        duration_ms: entry.duration_ms,
                    })
                    .collect(),
            })
        })
        .collect()
}

/// Counts the states in which a check has both passed and failed: what it reads did not decide.
fn count_flaky_states(results: &[&&PastCheck]) -> usize {
    let mut by_state: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for result in results {
        if let Some(state) = &result.state {
            let (passed, failed) = by_state.entry(state).or_default();
            *passed |= result.outcome == CheckOutcome::Passed;
            *failed |= result.outcome == CheckOutcome::Failed;
        }
    }
    by_state.values().filter(|(passed, failed)| *passed && *failed).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(entries: &[(&str, CheckOutcome, u64)]) -> PastRun {
        let entry = |(check, outcome, duration_ms): &(&str, CheckOutcome, u64)| PastCheck {
            check: (*check).to_owned(),
            outcome: *outcome,
            duration_ms: *duration_ms,
            state: None,
        };
        PastRun {
            run: "r".into(),
            at: 0,
            worktree: "/w".into(),
            by: RunTrigger::Validate,
            ok: true,
            left_out: 0,
            duration_ms: 1,
            checks: entries.iter().map(entry).collect(),
        }
    }

    #[test]
    fn the_newest_stay_and_a_torn_line_harms_no_other() {
        let name = format!("xtask-history-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let file = folder.join("history");
        let disk = Disk::real();
        let long = PastRun { worktree: "w".repeat(300_000), ..run(&[]) };
        for number in 0..8 {
            append_run(&disk, &file, &PastRun { at: number, ..long.clone() }).unwrap();
        }
        let kept: Vec<i64> = read_history(&file).iter().map(|run| run.at).collect();
        assert_eq!(kept.last(), Some(&7));
        assert!(kept.len() < 7, "{kept:?}");
        assert!(fs::metadata(&file).unwrap().len() <= MAX_HISTORY_BYTES);
        File::options().append(true).open(&file).unwrap().write_all(b"{\"run\": \"to").unwrap();
        append_run(&disk, &file, &PastRun { at: 8, ..run(&[]) }).unwrap();
        assert_eq!(read_history(&file).last().map(|run| run.at), Some(8));
        assert_eq!(read_history(&file).len(), kept.len() + 1);
        disk.remove_folder(&folder).unwrap();
    }

    #[test]
    fn rates_and_ranks_are_those_of_a_statistician() {
        use CheckOutcome::{Blocked, Cached, Failed, LeftOut, Passed};
        let mut runs: Vec<PastRun> =
            (1..=20).map(|ms| run(&[("a", Passed, ms), ("b", LeftOut, 0)])).collect();
        runs.push(run(&[("a", Failed, 1000), ("b", Blocked, 0)]));
        runs.push(run(&[("a", Cached, 0)]));
        let [a] = &compute_statistics(&runs)[..] else { panic!("`b` never came to a result") };
        assert_eq!((a.runs, a.median_ms, a.p95_ms), (22, Some(11), Some(20)));
        assert!((a.pass_rate - 21.0 / 22.0).abs() < 1e-9);
        assert!((a.hit_rate - 1.0 / 22.0).abs() < 1e-9);
        assert_eq!(a.last, Cached);
        assert_eq!((a.recent.len(), a.flaky), (20, 0));
        assert_eq!((a.recent[0].duration_ms, a.recent[18].outcome), (3, Failed));
    }
    #[test]
    fn flaky_is_what_gives_two_answers_in_one_state() {
        use CheckOutcome::{Cached, Failed, Fixed, Passed};
        let in_state = |outcome, state: &str| {
            let mut run = run(&[("a", outcome, 1)]);
            run.checks[0].state = Some(state.to_owned());
            run
        };
        let flaky = |runs: &[PastRun]| compute_statistics(runs)[0].flaky;
        assert_eq!(flaky(&[in_state(Failed, "1"), in_state(Passed, "2")]), 0, "it was mended");
        assert_eq!(flaky(&[in_state(Failed, "1"), in_state(Fixed, "1")]), 0, "its fix helped");
        assert_eq!(flaky(&[in_state(Failed, "1"), in_state(Cached, "1")]), 0);
        let both = [in_state(Failed, "1"), in_state(Passed, "1"), in_state(Failed, "1")];
        assert_eq!(flaky(&both), 1);
        assert_eq!(flaky(&[run(&[("a", Failed, 1), ("a", Passed, 1)])]), 0, "no state is known");
    }
}
