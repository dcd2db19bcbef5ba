//! Trust in repositories owned by another user, as git decides it by `safe.directory`.
//!
//! Git itself is asked, so that settings of every scope count: `git rev-parse --absolute-git-dir`
//! fails with `detected dubious ownership` and prints the `git config` command that adds an exception.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::GIT;
use xtask_base::error::{Error, Result};
use xtask_base::process::Program;

/// Timeout of git for finding a repository.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns whether a file belongs to the current user, or is missing.
pub(super) fn is_owned_by_user(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    path.symlink_metadata().is_ok_and(|meta| meta.uid() == user) || !path.exists()
}

/// Returns whether gix refused to open a repository because of its owner.
pub(super) fn is_trust_error(cause: &gix::Error) -> bool {
    let text = format!("{cause:?}");
    text.contains("safe.directory")
        || text.contains("Safe.directory")
        || text.contains("unsafe")
        || text.contains("trust")
}

/// Returns the git folder found from `folder` if git trusts it, else git's error with its remedy as
/// a hint.
pub(super) fn find_trusted_git_dir(folder: &Path) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let git = Program::new(GIT, folder).env("LANGUAGE", "C");
    let asked = git
        .args(["rev-parse", "--absolute-git-dir"])
        .with_full_output()
        .run_with_timeout(DISCOVERY_TIMEOUT)?;
    if asked.status.success() {
        let path = asked.stdout_bytes.strip_suffix(b"\n").unwrap_or(&asked.stdout_bytes);
        return Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
    }
    let mut lines = asked.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let first =
        lines.next().unwrap_or("git does not trust this repository").trim_start_matches("fatal: ");
    let error = Error::unable(first.to_owned());
    let (commands, rest): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.starts_with("git config"));
    let error = rest
        .into_iter()
        .filter(|line| !line.ends_with(':'))
        .fold(error, |error, line| error.with_detail(line.to_owned()));
    Err(commands
        .into_iter()
        .fold(error, |error, line| error.with_hint(format!("if you trust it: `{line}`"))))
}
