//! Commands of git that need no network: without the hooks of the repository, for at most ten minutes, and with their
//! failures as errors.
//!
//! ```text
//! local_git(["ls-files", "-z"]).list("cannot list the files")  ->  "a NUL b NUL", or the error with git's stderr
//! ```

use std::ffi::OsStr;
use std::time::Duration;

use super::Repo;
use xtask_base::error::{Error, Result};
use xtask_base::process::{Program, ProgramOutput};

/// The options that keep hooks of the repository from running.
pub(super) const NO_HOOKS: [&str; 2] = ["-c", "core.hooksPath=/dev/null"];

/// The timeout of a command that needs no network.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);

/// A command that has not been started yet.
pub(super) struct LocalGit(pub(super) Program);

impl Repo {
    /// Builds a command in the worktree.
    pub(super) fn local_git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> LocalGit {
        LocalGit(self.git_command(NO_HOOKS.into_iter().chain(args)))
    }
}

impl LocalGit {
    pub(super) fn env(self, name: &str, value: impl AsRef<OsStr>) -> LocalGit {
        LocalGit(self.0.env(name, value))
    }

    /// Requires the complete output, as [`Program::with_full_output`] does.
    pub(super) fn with_full_output(self) -> LocalGit {
        LocalGit(self.0.with_full_output())
    }

    /// Runs the command, whatever its exit code.
    pub(super) fn run(self) -> Result<ProgramOutput> {
        self.0.run_with_timeout(LOCAL_TIMEOUT)
    }

    /// Runs the command with `input` as stdin, whatever its exit code.
    pub(super) fn run_with_input(self, input: &[u8]) -> Result<ProgramOutput> {
        self.0.run_with_input(input, LOCAL_TIMEOUT)
    }

    /// Runs the command and requires its success, or else returns the error `what`.
    pub(super) fn require(self, what: &str) -> Result<ProgramOutput> {
        require_success(self.run()?, what)
    }

    /// Runs the command like [`LocalGit::require`], and requires its complete output, as raw bytes.
    pub(super) fn list(self, what: &str) -> Result<ProgramOutput> {
        self.with_full_output().require(what)
    }
}

/// Returns the output of a command that succeeded, or else the error `what` with its stderr as a detail.
pub(super) fn require_success(output: ProgramOutput, what: &str) -> Result<ProgramOutput> {
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::unable(what).with_detail(output.stderr))
}

/// Splits a list of names that git has printed with `-z`.
pub(super) fn split_at_nul(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}
