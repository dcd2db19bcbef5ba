//! Whether a repository that belongs to somebody else is trusted: as git answers, by its `safe.directory` of
//! whatever scope.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xtask_base::error::{Error, Result};
use xtask_base::process::Program;

/// How long git may take to find a repository.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a file belongs to whoever runs this; what is not there belongs to nobody else.
pub(super) fn is_owned_by_user(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    path.symlink_metadata().is_ok_and(|meta| meta.uid() == user) || !path.exists()
}

/// Whether a repository was not opened for want of trust.
pub(super) fn is_trust_error(cause: &gix::Error) -> bool {
    let text = format!("{cause:?}");
    text.contains("safe.directory")
        || text.contains("Safe.directory")
        || text.contains("unsafe")
        || text.contains("trust")
}

/// The git folder that git finds from a folder, if it trusts it; else what git says, with its remedy.
pub(super) fn find_trusted_git_dir(folder: &Path) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let git = Program::new("git", folder).env("LANGUAGE", "C");
    let asked = git
        .args(["rev-parse", "--absolute-git-dir"])
        .with_full_output()
        .run_with_timeout(DISCOVERY_TIMEOUT)?;
    if asked.status.success() {
        let path = asked.stdout_bytes.strip_suffix(b"\n").unwrap_or(&asked.stdout_bytes);
        return Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
    }
    let mut lines = asked.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("git does not trust it").trim_start_matches("fatal: ");
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
