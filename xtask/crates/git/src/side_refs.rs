//! Refs of a remote that are no branches, such as `refs/xtask/results`: reading one within a time limit, and moving it
//! only from the value that was read. Nobody is asked for a password, and nothing is left running.

use std::time::Duration;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::process::{Program, ProgramOutput};

impl Repo {
    /// Returns the commit of a ref at a remote, or `None` if the remote has no such ref. Asks for no password. Returns an
    /// error if the remote cannot be reached within `timeout`.
    pub fn read_remote_ref(
        &self,
        remote: &str,
        name: &str,
        timeout: Duration,
    ) -> Result<Option<Id>> {
        let asked =
            run_silently(self.git_command(["ls-remote", "--quiet", "--", remote, name]), timeout)?;
        if !asked.status.success() {
            return Err(Error::unable(format!("cannot read `{name}` of the remote `{remote}`"))
                .with_detail(asked.stderr));
        }
        let found = asked.stdout.lines().filter_map(|line| line.split_once('\t'));
        let mut found = found.filter(|(_, other)| *other == name);
        Ok(found.find_map(|(id, _)| Id::from_hex(id.as_bytes()).ok()))
    }

    /// Fetches a ref of a remote into the local ref `into`, whatever that had.
    pub fn fetch_remote_ref(
        &self,
        remote: &str,
        name: &str,
        into: &str,
        timeout: Duration,
    ) -> Result<()> {
        let spec = format!("+{name}:{into}");
        let mut args = vec!["-c", "gc.auto=0", "-c", "maintenance.auto=false", "fetch", "--quiet"];
        args.extend(["--no-tags", "--no-write-fetch-head", "--no-prune", "--no-auto-maintenance"]);
        args.extend(["--recurse-submodules=no", "--no-filter", "--", remote, &spec]);
        let fetched = run_silently(self.git_command(args), timeout)?;
        self.forget_refs();
        if fetched.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("cannot fetch `{name}` of the remote `{remote}`"))
            .with_detail(fetched.stderr))
    }

    /// Moves a ref of a remote to `new` if it is still at `old` there. Returns `false` if it has moved, or the remote
    /// refuses. No hook runs.
    pub fn push_remote_ref(
        &self,
        remote: &str,
        name: &str,
        old: Option<Id>,
        new: Id,
        timeout: Duration,
    ) -> Result<bool> {
        let lease =
            format!("--force-with-lease={name}:{}", old.map_or(String::new(), |id| id.to_string()));
        let spec = format!("{new}:{name}");
        let push =
            self.git_command(["push", "--quiet", "--no-verify", &lease, "--", remote, &spec]);
        Ok(run_silently(push, timeout)?.status.success())
    }
}

/// Runs a git command that talks to a remote. ssh gets no passphrase and no answer about a host: it would read them from
/// the terminal, and go on to do so after its time is over.
fn run_silently(git: Program, timeout: Duration) -> Result<ProgramOutput> {
    git.env("GIT_TERMINAL_PROMPT", "0")
        .env("GCM_INTERACTIVE", "never")
        .env("SSH_ASKPASS", "false")
        .env("SSH_ASKPASS_REQUIRE", "force")
        .in_own_group()
        .run_with_timeout(timeout)
}
