//! The execution of one check: its command without a terminal, or its built-in test.
//!
//! ```text
//! run = "ruff check src", cwd = "web"  ->  Program { /usr/bin/ruff check src, in web/, XTASK_ROOT=… }
//! ```

use std::time::Duration;

use super::builtin_checks::{self, CheckFinding};
use super::outcome::{CheckOutcome, Verdict, judge_exit};
use super::programs;
use super::runner::Runner;
use xtask_base::error::Result;
use xtask_base::process::{BECOME_SERVICE_ARG, Program};
use xtask_base::process_group::GroupOutput;
use xtask_config::{Check, CommandLine};

impl Runner<'_, '_, '_> {
    /// Builds the command. Fails if its working folder or program does not exist.
    pub(super) fn build_program(
        &self,
        check: &Check,
        command: &CommandLine,
    ) -> Result<Program, String> {
        let root = self.inspector.root();
        let world = self.context.tools.world;
        let folder = check.cwd.as_ref().map_or(root.to_path_buf(), |cwd| cwd.to_disk_path(root));
        if !folder.is_dir() {
            return Err(format!("folder `{}` not found", folder.display()));
        }
        let name = &command.argv[0];
        let Some(found) = programs::find_program(world, name, &folder) else {
            return Err(if name.contains('/') {
                format!("`{name}` not found")
            } else {
                builtin_checks::describe_not_on_path(name, world)
            });
        };
        // A check must not wait for input: if this process has a terminal, `BECOME_SERVICE_ARG` starts a new
        // session.
        let program = match has_terminal() {
            true => Program::new(&world.program, &folder)
                .args([BECOME_SERVICE_ARG.as_ref(), found.as_os_str()]),
            false => Program::new(found, &folder),
        };
        let program = program.args(&command.argv[1..]);
        let program = program.env("XTASK_ROOT", root);
        Ok(match self.inspector.ceiling() {
            // Keeps a git that the check starts from finding a repository above the exported tree.
            Some(above) => program.env("GIT_CEILING_DIRECTORIES", above),
            None => program,
        })
    }

    /// Runs a built-in check and records its result.
    pub(super) fn run_builtin(&mut self, at: usize) -> Result<Verdict> {
        let (verdict, duration_ms) = self.measure_time(|run| run.judge_builtin(at));
        self.record_result(at, Verdict { duration_ms, ..verdict })
    }

    fn judge_builtin(&mut self, at: usize) -> Verdict {
        let check = self.check(at);
        let site = self.context;
        let (root, world) = (self.inspector.root(), site.tools.world);
        let snapshot = self.states[at].snapshot.as_ref();
        let found: Option<CheckFinding> = snapshot.and_then(|snapshot| {
            builtin_checks::run_builtin_check(
                check,
                snapshot,
                site.repo,
                world,
                root,
                site.repo_checks,
            )
        });
        match found {
            Some(Ok(words)) => Verdict::new(CheckOutcome::Passed, &words),
            Some(Err(words)) => Verdict::failed(&words),
            None => Verdict::failed("not a built-in check"),
        }
    }

    pub(super) fn measure_time<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let clock = self.context.tools.world.clock;
        let begun = clock();
        let result = work(self);
        (result, to_millis(clock().saturating_sub(begun)))
    }

    /// Converts the exit of a command into a result and records it.
    pub(super) fn evaluate_command(
        &mut self,
        at: usize,
        result: Result<GroupOutput>,
        duration_ms: u64,
    ) -> Result<Verdict> {
        let ended = match result {
            Ok(end) => judge_exit(self.check(at), end),
            Err(failure) => Verdict::failed(&failure.to_string()),
        };
        self.record_result(at, Verdict { duration_ms, ..ended })
    }
}

pub(super) fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Runs the program from `build_program` without a controlling terminal.
pub(super) fn run_without_terminal(
    program: Program,
    longest: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<GroupOutput> {
    if has_terminal() {
        program.run_in_session(longest, stop)
    } else {
        program.run_in_group(longest, stop)
    }
}

/// Whether this process has a terminal, from which a child process could read a password.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
