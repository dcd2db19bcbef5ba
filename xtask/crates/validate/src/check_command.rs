//! The execution of one check: its command without a terminal, or its built-in test.
//!
//! ```text
//! run = "ruff check src", cwd = "web"  ->  Program { /usr/bin/ruff check src, in web/, XTASK_ROOT=… }
//! ```

use std::ffi::OsString;
use std::time::Duration;

use super::builtin_checks::{self, CheckFinding};
use super::check_work::{
    CheckWork, CommandPart, WorkResult, environment_bytes, exec_bytes, split_files,
};
use super::file_rules::FileRuleWork;
use super::given_files::to_argument;
use super::outcome::{CheckOutcome, Verdict};
use super::programs;
use super::runner::Runner;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::process::{BECOME_SERVICE_ARG, Program};
use xtask_base::process_group::GroupOutput;
use xtask_config::{Check, CheckKind, CommandLine, FileRule, MESSAGE_WORD};

impl<'a> Runner<'a, '_, '_> {
    /// Prepares the work of the check at index `at` on the files `given`. Returns `None` for other built-in checks than
    /// file rules. Fails if the working folder or the program of a command does not exist.
    pub(super) fn prepare_work(
        &mut self,
        at: usize,
        given: Vec<RepoPath>,
    ) -> Result<Option<CheckWork<'a>>, String> {
        let check = self.check(at);
        match &check.kind {
            CheckKind::Run(command) => {
                let parts = self.build_parts(check, command, given)?;
                Ok(Some(CheckWork::Command { check, parts }))
            }
            CheckKind::FileRules { rules, max_size } => {
                let all_paths = match rules.contains(&FileRule::CaseConflict) {
                    true => self.inspector.list_all_paths().map_err(|why| why.to_string())?,
                    false => Vec::new(),
                };
                Ok(Some(CheckWork::Rules(FileRuleWork {
                    rules: rules.clone(),
                    max_size: *max_size,
                    root: self.inspector.root().to_path_buf(),
                    given,
                    all_paths,
                })))
            }
            _ => Ok(None),
        }
    }

    /// Builds the processes of a command, as many as the files need.
    pub(super) fn build_parts(
        &self,
        check: &Check,
        command: &CommandLine,
        given: Vec<RepoPath>,
    ) -> Result<Vec<CommandPart>, String> {
        if command.text.contains(MESSAGE_WORD) {
            let message = self.context.message.ok_or("there is no message of a commit")?;
            let program = self.build_program(check, command, &[message.into()])?;
            return Ok(vec![CommandPart { program, given: Vec::new() }]);
        }
        if !command.takes_files() {
            let program = self.build_program(check, command, &[])?;
            return Ok(vec![CommandPart { program, given }]);
        }
        let argument = |path: RepoPath| {
            let argument = to_argument(&path, check.cwd.as_ref());
            (path, argument)
        };
        let arguments: Vec<(RepoPath, OsString)> = given.into_iter().map(argument).collect();
        let words = command.arguments_with(&[]);
        let fixed: usize = words.iter().map(|word| exec_bytes(word)).sum();
        let fixed = fixed + environment_bytes(self.context.tools.world);
        let is_serial = check.files.as_ref().is_some_and(|files| files.serial);
        let jobs = if is_serial { 1 } else { self.options.jobs };
        let part = |part: &[(RepoPath, OsString)]| {
            let words: Vec<OsString> = part.iter().map(|(_, word)| word.clone()).collect();
            let program = self.build_program(check, command, &words)?;
            let given = part.iter().map(|(path, _)| path.clone()).collect();
            Ok(CommandPart { program, given })
        };
        split_files(&arguments, fixed, jobs).into_iter().map(part).collect()
    }

    /// Builds the command with `files` in place of its placeholder. Fails if its working folder or program does not
    /// exist.
    fn build_program(
        &self,
        check: &Check,
        command: &CommandLine,
        files: &[OsString],
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
        let program = program.args(command.arguments_with(files));
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
        let verdict = Verdict { duration_ms, ..verdict };
        self.record_result(at, WorkResult { verdict, passed: Vec::new() })
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
