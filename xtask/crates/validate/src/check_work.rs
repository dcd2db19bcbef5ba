//! The work of one check, in a thread of its own: its command, split over processes, or its file rules.
//!
//! Files are split so that no command line is too long and every core has some; outputs are joined in the order of the
//! files. For example:
//!
//! ```text
//! ruff check {files}, 120 files, 4 jobs  ->  4 processes with 30 files each
//! ```

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use super::check_command::run_without_terminal;
use super::file_rules::FileRuleWork;
use super::job_slots::JobSlots;
use super::outcome::{CheckOutcome, Verdict, judge_exit};
use xtask_base::deadline::Deadline;
use xtask_base::environment::Environment;
use xtask_base::path::RepoPath;
use xtask_base::process::Program;
use xtask_config::Check;

/// The length of command line and environment that every system allows, in bytes: Linux at least 128 KiB
/// (`execve(2)`), macOS more.
const MAX_EXEC_BYTES: usize = 128 << 10;

/// What POSIX asks to leave free for a program that sets variables of its own (`xargs` in POSIX.1-2024), in bytes.
const EXEC_MARGIN: usize = 2048;

/// The least length of a command line, in bytes, however large the environment is.
const MIN_LINE_BYTES: usize = 8 << 10;

/// The least number of files for which a further process is worth its start.
const MIN_FILES_EACH: usize = 24;

/// One process of a check.
pub(super) struct CommandPart {
    pub(super) program: Program,
    /// The files that it is given; empty if the command takes none.
    pub(super) given: Vec<RepoPath>,
}

/// What came of the work of a check.
pub(super) struct WorkResult {
    pub(super) verdict: Verdict,
    /// The files that have passed, whatever came of the others.
    pub(super) passed: Vec<RepoPath>,
}

impl WorkResult {
    /// Creates the result of work that could not begin.
    pub(super) fn failed(why: &str) -> WorkResult {
        WorkResult { verdict: Verdict::failed(why), passed: Vec::new() }
    }
}

pub(super) enum CheckWork<'a> {
    Command { check: &'a Check, parts: Vec<CommandPart> },
    Rules(FileRuleWork),
}

impl CheckWork<'_> {
    /// Does the work in the place of the caller and in other free `slots`.
    pub(super) fn run(self, slots: &JobSlots, stop: &(dyn Fn() -> bool + Sync)) -> WorkResult {
        match self {
            CheckWork::Rules(work) => work.run(slots),
            CheckWork::Command { check, parts } => run_parts(check, parts, slots, stop),
        }
    }
}

fn run_parts(
    check: &Check,
    parts: Vec<CommandPart>,
    slots: &JobSlots,
    stop: &(dyn Fn() -> bool + Sync),
) -> WorkResult {
    let longest = Duration::from_secs(check.timeout_s);
    let deadline = Deadline::after(longest);
    let is_serial = check.files.as_ref().is_some_and(|files| files.serial);
    let (programs, given): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .map(|part| (std::sync::Mutex::new(Some(part.program)), part.given))
        .unzip();
    let run = |at: usize| {
        let program = programs[at].lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(program) = program else { return Verdict::failed("it has run already") };
        let left = deadline.remaining().unwrap_or_default();
        match run_without_terminal(program, left, stop) {
            Ok(end) => judge_exit(check, end),
            Err(failure) => Verdict::failed(&failure.to_string()),
        }
    };
    let verdicts = slots.spread(programs.len(), is_serial, &run);
    let passed = verdicts.iter().zip(&given);
    let passed = passed.filter(|(verdict, _)| verdict.outcome == CheckOutcome::Passed);
    let passed = passed.flat_map(|(_, files)| files.iter().cloned()).collect();
    WorkResult { verdict: join_verdicts(verdicts), passed }
}

/// Joins the verdicts on the parts of a check: the first that did not pass decides.
fn join_verdicts(mut verdicts: Vec<Verdict>) -> Verdict {
    let is_bad = |verdict: &Verdict| verdict.outcome != CheckOutcome::Passed;
    let first = verdicts.iter().position(is_bad).unwrap_or(0);
    if verdicts.len() == 1 {
        return verdicts.remove(0);
    }
    let mut output = String::new();
    let mut notes = Vec::new();
    for verdict in &verdicts {
        output.push_str(&verdict.output);
        if !verdict.output.is_empty() && !verdict.output.ends_with('\n') {
            output.push('\n');
        }
        notes.extend(
            verdict.notes.iter().filter(|note| !notes.contains(*note)).cloned().collect::<Vec<_>>(),
        );
    }
    if verdicts.is_empty() {
        return Verdict::new(CheckOutcome::Passed, "");
    }
    Verdict { output, notes, ..verdicts.remove(first) }
}

/// Splits the files of a command, whose other words and variables take `fixed` bytes, for `jobs` processes.
pub(super) fn split_files(
    arguments: &[(RepoPath, OsString)],
    fixed: usize,
    jobs: usize,
) -> Vec<&[(RepoPath, OsString)]> {
    let room = MAX_EXEC_BYTES.saturating_sub(fixed + EXEC_MARGIN).max(MIN_LINE_BYTES);
    let wanted = jobs.min(arguments.len().div_ceil(MIN_FILES_EACH)).max(1);
    let most = arguments.len().div_ceil(wanted).max(1);
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, (_, argument)) in arguments.iter().enumerate() {
        let added = exec_bytes(argument);
        if at > start && (bytes + added > room || at - start == most) {
            parts.push(&arguments[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += added;
    }
    parts.push(&arguments[start..]);
    parts
}

/// Returns the bytes that a word takes for `execve`: its text, a NUL and a pointer.
pub(super) fn exec_bytes(word: &OsStr) -> usize {
    word.as_bytes().len() + 1 + size_of::<usize>()
}

/// Returns the bytes that the variables take for `execve`.
pub(super) fn environment_bytes(world: &Environment) -> usize {
    world.variables.iter().map(|(name, value)| exec_bytes(name) + value.as_bytes().len() + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(count: usize, length: usize) -> Vec<(RepoPath, OsString)> {
        let name = |at: usize| format!("{at:04}{}", "x".repeat(length - 4));
        (0..count).map(|at| (RepoPath::new(name(at)), OsString::from(name(at)))).collect()
    }

    #[test]
    fn files_are_split_by_cores_and_by_length_and_none_is_lost() {
        let sizes = |count: usize, length: usize, fixed: usize, jobs: usize| {
            let all = arguments(count, length);
            let parts = split_files(&all, fixed, jobs);
            let joined: Vec<_> = parts.iter().flat_map(|part| part.iter().cloned()).collect();
            assert_eq!(joined, all);
            parts.iter().map(|part| part.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(20, 10, 0, 8), [20], "a further process is not worth its start");
        assert_eq!(sizes(100, 10, 0, 2), [50, 50]);
        assert_eq!(sizes(100, 10, 0, 8), [20, 20, 20, 20, 20]);
        // 1,009 bytes each.
        assert_eq!(sizes(200, 1000, 0, 1), [127, 73]);
        assert_eq!(sizes(20, 1000, 1 << 20, 1), [8, 8, 4], "the environment takes all");
        assert_eq!(sizes(2, 100_000, 0, 1), [1, 1]);
        assert_eq!(sizes(2, 1_000_000, 0, 1), [1, 1], "too long alone: the system says so");
    }
}
