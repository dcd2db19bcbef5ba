//! The local side of the engine `ssh`: builds and uploads a release, and sends requests to the program on the host.
//!
//! The local build is in a staging folder of the clone, and is removed afterwards, also on failure. The host alone
//! decides about the running release, so a lost connection is harmless and a started run continues there.
//! For example, a rollback exchanges these lines:
//!
//! ```text
//! -> {"schema": "xtask.deploy-order/1", "wanted": {"doing": "rollback", "release": ..., "watch_ms": 60000}, ...}
//! <- {"tell": "watching it for 60s"}
//! <- {"ended": {"run": {...}, "current": ..., "serves": ...}}
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::DeployContext;
use super::build::{self, DeployStepContext, run_commands};
use super::command_exit;
use super::release::Release;
use super::ssh::{self, SshHost};
use super::target::DeployTarget;
use super::wire_protocol::{HostCommand, HostMessage, HostRequest, HostResponse, INTERRUPT, ORDER};
use xtask_base::deadline::Deadline;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::line_protocol::ReceivedLine;
use xtask_base::lock::Lock;
use xtask_config::{DeployConfig, Layer, StepMoment};
use xtask_git::{Id, Repo};

/// Time without a message after which the connection counts as lost: one minute. The host sends a
/// `HostMessage::Beat` every few seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval between two checks for Ctrl-C.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time limit for ssh to exit after the last message.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Deploy of a layer to another host.
pub struct RemoteDeploy<'a> {
    pub host: SshHost<'a>,
    /// The target, on the host.
    pub target: &'a DeployTarget,
    pub layer: &'a Layer,
    /// The `[deploy]` table of `layer`.
    pub deploy: &'a DeployConfig,
    /// Texts of the layer's files, by layer name, for the host.
    pub files: &'a BTreeMap<String, String>,
    pub ctx: DeployContext<'a>,
}

/// Inputs of the local build of a release.
pub struct LocalBuild<'a> {
    pub repo: &'a Repo,
    pub commit: Id,
    /// Name of the release.
    pub name: &'a str,
    /// Length of the watch.
    pub watch: Duration,
}

impl RemoteDeploy<'_> {
    /// Sends a request to `program` on the host, forwards its messages to `warn` and `ctx.tell`, and returns the
    /// response, which may contain a failure.
    ///
    /// Returns an error if the connection fails or is lost.
    pub fn send_command(
        &self,
        program: &str,
        wanted: HostCommand,
        warn: &dyn Fn(&str),
    ) -> Result<HostResponse> {
        let name = &self.host.name;
        let is_change = !matches!(wanted, HostCommand::Look { .. } | HostCommand::Verify);
        if is_change {
            let failed = || format!("cannot send a request to host `{name}`");
            self.ctx.disk.check_gate("give an order to the host").with_context(failed)?;
        }
        let request = serde_json::to_string(&self.new_request(wanted))
            .with_context(|| "cannot serialize the request as JSON")?;
        let talk = self.host.start_program(self.target, program)?;
        talk.send_line(&request);
        let mut is_heard = false;
        let mut is_interrupted = false;
        let mut silence = Deadline::after(SILENCE_TIMEOUT);
        loop {
            if self.ctx.interrupts.was_interrupted() && !is_interrupted {
                is_interrupted = true;
                talk.send_line(INTERRUPT);
                (self.ctx.tell)(&format!("interrupted; waiting for {name} to finish"));
            }
            match talk.receive_line(POLL_INTERVAL) {
                ReceivedLine::Line(line) => {
                    silence = Deadline::after(SILENCE_TIMEOUT);
                    is_heard = true;
                    match serde_json::from_str(&line) {
                        Ok(HostMessage::Tell(text)) => (self.ctx.tell)(&text),
                        Ok(HostMessage::Warn(text)) => warn(&text),
                        Ok(HostMessage::Ended(ended)) => {
                            drop(talk.close_and_wait(EXIT_TIMEOUT));
                            return Ok(*ended);
                        }
                        // Other lines are output of login scripts.
                        Ok(HostMessage::Beat) | Err(_) => {}
                    }
                }
                ReceivedLine::Timeout if silence.remaining().is_some() => {}
                ReceivedLine::Timeout | ReceivedLine::Closed => break,
            }
        }
        let (status, words) = talk.close_and_wait(EXIT_TIMEOUT)?;
        if !is_heard && status.code() == Some(ssh::SSH_FAILED_CODE) {
            return Err(self.host.unreachable_error(&words));
        }
        let what =
            if is_heard { "was lost" } else { "was closed before the remote program responded" };
        let error = Error::unable(format!("the connection to host `{name}` {what}"));
        let error = command_exit::with_last_lines(error, &words);
        if !is_change {
            return Err(error);
        }
        Err(error
            .with_detail(
                "a run that has started on the host continues by itself, within its time limits",
            )
            .with_hint(format!("`cargo xtask history {}` shows its outcome", self.layer.name))
            .with_hint("the next `deploy` or `rollback` recovers an interrupted run"))
    }

    fn new_request(&self, wanted: HostCommand) -> HostRequest {
        let world = self.ctx.world;
        let variables = self.deploy.env_required.iter();
        let variables =
            variables.filter_map(|name| Some((name.clone(), world.variable(name)?.to_owned())));
        HostRequest {
            schema: ORDER.to_owned(),
            wanted,
            root: self.target.root.clone(),
            layer: self.layer.name.clone(),
            files: self.files.clone(),
            by: self.ctx.by.to_owned(),
            variables: variables.collect(),
            ready_within_ms: super::to_millis(self.ctx.ready_within),
        }
    }

    /// Acquires the lock for builds of this layer in this clone. Returns an error if another process holds it.
    pub fn acquire_staging_lock(&self, repo: &Repo) -> Result<Lock> {
        let folder = ssh::staging_folder(repo, &self.layer.name);
        let mut holder = None;
        let who = format!("deploy by {}, pid {}", self.ctx.by, std::process::id());
        let waiting = |other: &str| holder = Some(other.to_owned());
        let taken = Lock::acquire(&folder.join("lock"), &who, Duration::ZERO, waiting);
        match holder {
            None => taken,
            Some(holder) => {
                Err(Error::unable(format!("another run is in progress in this clone: {holder}"))
                    .with_hint("wait until it has ended and try again"))
            }
        }
    }

    /// Builds a release in the staging folder, uploads it, and removes the local copy.
    pub fn build_and_send(&self, made: &LocalBuild<'_>) -> Result<()> {
        let staging = DeployTarget {
            root: ssh::staging_folder(made.repo, &self.layer.name),
            layer: self.layer.name.clone(),
        };
        let folder = staging.releases_folder();
        let done = self.build_in_staging(made, &staging, &folder);
        let failed = || format!("cannot remove `{}`", folder.display());
        let gone = self.ctx.disk.remove_folder(&folder).with_context(failed);
        done.and(gone)
    }

    fn build_in_staging(
        &self,
        made: &LocalBuild<'_>,
        staging: &DeployTarget,
        folder: &Path,
    ) -> Result<()> {
        let failed = || format!("cannot create `{}`", folder.display());
        // Stale files of an interrupted run.
        self.ctx.disk.remove_folder(folder).with_context(failed)?;
        self.ctx.disk.make_folder(folder).with_context(failed)?;
        let release = Release::in_target(staging, made.name);
        let place = DeployStepContext {
            layer: self.layer,
            deploy: self.deploy,
            commit: &made.commit.to_string(),
            target: self.target,
            release: &release,
            worktree: Some(made.repo.root()),
            ctx: self.ctx,
        };
        run_commands(&place, StepMoment::Before)?;
        build::build_release(&place, made.repo, made.commit, made.watch)?;
        if self.ctx.interrupts.was_interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        self.host.send_release(self.target, &release, &self.ctx)
    }
}
