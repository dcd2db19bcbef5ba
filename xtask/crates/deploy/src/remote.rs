//! A deploy to another host, from this side: the release is made here and sent, and the program over there does
//! the rest.
//!
//! What is made here lies in a folder of the clone that is ours alone, and is gone afterwards, whatever came of
//! it. Whether what serves is touched is decided over there: a connection that breaks harms nothing, and what
//! was begun there goes on to its end.

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

/// How long the program over there may be silent before the connection counts as lost: a minute. It says
/// something every few seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is looked whether Ctrl-C was typed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long ssh may take to end once all was said.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A layer on another host.
pub struct RemoteDeploy<'a> {
    /// The host.
    pub host: SshHost<'a>,
    /// The target over there.
    pub target: &'a DeployTarget,
    /// The layer.
    pub layer: &'a Layer,
    /// How it is deployed.
    pub deploy: &'a DeployConfig,
    /// The texts of its files.
    pub files: &'a BTreeMap<String, String>,
    /// The outside.
    pub ctx: DeployContext<'a>,
}

/// What is made here.
pub struct LocalBuild<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The commit.
    pub commit: Id,
    /// The name of the release.
    pub name: &'a str,
    /// How long it is watched.
    pub watch: Duration,
}

impl RemoteDeploy<'_> {
    /// Gives the program over there an order, and follows what it does. An answer may hold a failure.
    pub fn send_command(
        &self,
        program: &str,
        wanted: HostCommand,
        warn: &dyn Fn(&str),
    ) -> Result<HostResponse> {
        let name = &self.host.name;
        let is_change = !matches!(wanted, HostCommand::Look { .. } | HostCommand::Verify);
        if is_change {
            let failed = || format!("host `{name}` cannot be given an order");
            self.ctx.disk.check_gate("give an order to the host").with_context(failed)?;
        }
        let order = serde_json::to_string(&self.new_request(wanted))
            .with_context(|| "the order cannot be written as JSON")?;
        let talk = self.host.start_program(self.target, program)?;
        talk.send_line(&order);
        let mut is_heard = false;
        let mut is_interrupted = false;
        let mut silence = Deadline::after(SILENCE_TIMEOUT);
        loop {
            if self.ctx.interrupts.was_interrupted() && !is_interrupted {
                is_interrupted = true;
                talk.send_line(INTERRUPT);
                (self.ctx.tell)(&format!("interrupted; waiting for {name} to end what it does"));
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
                        // What a login script prints is no answer.
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
        let what = if is_heard { "was lost" } else { "ended before the program there answered" };
        let error = Error::unable(format!("the connection to host `{name}` {what}"));
        let error = command_exit::with_last_lines(error, &words);
        if !is_change {
            return Err(error);
        }
        Err(error
            .with_detail("what was begun there goes on by itself to its end, within its bounds")
            .with_hint(format!("`cargo xtask history {}` says what came of it", self.layer.name))
            .with_hint("the next `deploy` or `rollback` ends what was cut short"))
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
            ready_within_ms: u64::try_from(self.ctx.ready_within.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Holds the lock of those who make a release of this layer in this clone.
    pub fn acquire_staging_lock(&self, repo: &Repo) -> Result<Lock> {
        let folder = ssh::staging_folder(repo, &self.layer.name);
        let mut holder = None;
        let who = format!("deploy by {}, pid {}", self.ctx.by, std::process::id());
        let waiting = |other: &str| holder = Some(other.to_owned());
        let taken = Lock::acquire(&folder.join("lock"), &who, Duration::ZERO, waiting);
        match holder {
            None => taken,
            Some(holder) => {
                Err(Error::unable(format!("another run is at work in this clone: {holder}"))
                    .with_hint("wait until it has ended and try again"))
            }
        }
    }

    /// Makes a release here, and sends it. What was made here is removed again.
    pub fn build_and_send(&self, made: &LocalBuild<'_>) -> Result<()> {
        let staging = DeployTarget {
            root: ssh::staging_folder(made.repo, &self.layer.name),
            layer: self.layer.name.clone(),
        };
        let folder = staging.releases_folder();
        let done = self.build_in_staging(made, &staging, &folder);
        let failed = || format!("`{}` cannot be removed", folder.display());
        let gone = self.ctx.disk.remove_folder(&folder).with_context(failed);
        done.and(gone)
    }

    fn build_in_staging(
        &self,
        made: &LocalBuild<'_>,
        staging: &DeployTarget,
        folder: &Path,
    ) -> Result<()> {
        let failed = || format!("`{}` cannot be made", folder.display());
        // What another run has left.
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
