//! A deploy to another host, from this side: the release is made here and sent, and the program over there does
//! the rest.
//!
//! What is made here lies in a folder of the clone that is ours alone, and is gone afterwards, whatever came of
//! it. Whether what serves is touched is decided over there: a connection that breaks harms nothing, and what
//! was begun there goes on to its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Around;
use super::ends;
use super::make::{self, Workplace, commands};
use super::order::{Ended, HostOrder, INTERRUPT, Line, ORDER, Wanted};
use super::release::Release;
use super::ssh::{self, Host};
use super::target::Target;
use xtask_base::deadline::Deadline;
use xtask_base::error::{Context as _, Error, Kind, Result};
use xtask_base::lock::Lock;
use xtask_base::talk::Heard;
use xtask_config::{Deploy, Layer, StepMoment};
use xtask_git::{Id, Repo};

/// How long the program over there may be silent before the connection counts as lost: a minute. It says
/// something every few seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether Ctrl-C was typed.
const POLL: Duration = Duration::from_millis(100);

/// How long ssh may take to end once all was said.
const LEAVING: Duration = Duration::from_secs(5);

/// A layer on another host.
pub struct Remote<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The target over there.
    pub target: &'a Target,
    /// The layer.
    pub layer: &'a Layer,
    /// How it is deployed.
    pub deploy: &'a Deploy,
    /// The texts of its files.
    pub files: &'a BTreeMap<String, String>,
    /// The outside.
    pub around: Around<'a>,
}

/// What is made here.
pub struct Made<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The commit.
    pub commit: Id,
    /// The name of the release.
    pub name: &'a str,
    /// How long it is watched.
    pub watch: Duration,
}

impl Remote<'_> {
    /// Gives the program over there an order, and follows what it does. An answer may hold a failure.
    pub fn ask(&self, program: &str, wanted: Wanted, warn: &dyn Fn(&str)) -> Result<Ended> {
        let name = &self.host.name;
        let is_change = !matches!(wanted, Wanted::Look { .. } | Wanted::Verify);
        if is_change {
            let failed = || format!("host `{name}` cannot be given an order");
            self.around.disk.other("give an order to the host").unable(failed)?;
        }
        let order = serde_json::to_string(&self.order(wanted))
            .unable(|| "the order cannot be written as JSON")?;
        let talk = self.host.start(self.target, program)?;
        talk.say(&order);
        let mut is_heard = false;
        let mut is_interrupted = false;
        let mut silence = Deadline::after(SILENCE);
        loop {
            if self.around.interrupts.arrived() && !is_interrupted {
                is_interrupted = true;
                talk.say(INTERRUPT);
                (self.around.tell)(&format!("interrupted; waiting for {name} to end what it does"));
            }
            match talk.hear(POLL) {
                Heard::Line(line) => {
                    silence = Deadline::after(SILENCE);
                    is_heard = true;
                    match serde_json::from_str(&line) {
                        Ok(Line::Tell(text)) => (self.around.tell)(&text),
                        Ok(Line::Warn(text)) => warn(&text),
                        Ok(Line::Ended(ended)) => {
                            drop(talk.end(LEAVING));
                            return Ok(*ended);
                        }
                        // What a login script prints is no answer.
                        Ok(Line::Beat) | Err(_) => {}
                    }
                }
                Heard::Nothing if silence.left().is_some() => {}
                Heard::Nothing | Heard::End => break,
            }
        }
        let (status, words) = talk.end(LEAVING)?;
        if !is_heard && status.code() == Some(ssh::NOT_CONNECTED) {
            return Err(self.host.not_reached(&words));
        }
        let what = if is_heard { "was lost" } else { "ended before the program there answered" };
        let error = Error::unable(format!("the connection to host `{name}` {what}"));
        let error = ends::last_lines(error, &words);
        if !is_change {
            return Err(error);
        }
        Err(error
            .detail("what was begun there goes on by itself to its end, within its bounds")
            .hint(format!("`cargo xtask history {}` says what came of it", self.layer.name))
            .hint("the next `deploy` or `rollback` ends what was cut short"))
    }

    fn order(&self, wanted: Wanted) -> HostOrder {
        let world = self.around.world;
        let variables = self.deploy.env_required.iter();
        let variables =
            variables.filter_map(|name| Some((name.clone(), world.variable(name)?.to_owned())));
        HostOrder {
            schema: ORDER.to_owned(),
            wanted,
            root: self.target.root.clone(),
            layer: self.layer.name.clone(),
            files: self.files.clone(),
            by: self.around.by.to_owned(),
            variables: variables.collect(),
            ready_within_ms: u64::try_from(self.around.ready_within.as_millis())
                .unwrap_or(u64::MAX),
        }
    }

    /// Holds the lock of those who make a release of this layer in this clone.
    pub fn lock(&self, repo: &Repo) -> Result<Lock> {
        let folder = ssh::staging(repo, &self.layer.name);
        let mut holder = None;
        let who = format!("deploy by {}, pid {}", self.around.by, std::process::id());
        let waiting = |other: &str| holder = Some(other.to_owned());
        let taken = Lock::acquire(&folder.join("lock"), &who, Duration::ZERO, waiting);
        match holder {
            None => taken,
            Some(holder) => {
                Err(Error::unable(format!("another run is at work in this clone: {holder}"))
                    .hint("wait until it has ended and try again"))
            }
        }
    }

    /// Makes a release here, and sends it. What was made here is removed again.
    pub fn make_and_send(&self, made: &Made<'_>) -> Result<()> {
        let staging = Target {
            root: ssh::staging(made.repo, &self.layer.name),
            layer: self.layer.name.clone(),
        };
        let folder = staging.releases();
        let done = self.make(made, &staging, &folder);
        let failed = || format!("`{}` cannot be removed", folder.display());
        let gone = self.around.disk.remove_folder(&folder).unable(failed);
        done.and(gone)
    }

    fn make(&self, made: &Made<'_>, staging: &Target, folder: &Path) -> Result<()> {
        let failed = || format!("`{}` cannot be made", folder.display());
        // What another run has left.
        self.around.disk.remove_folder(folder).unable(failed)?;
        self.around.disk.make_folder(folder).unable(failed)?;
        let release = Release::of(staging, made.name);
        let place = Workplace {
            layer: self.layer,
            deploy: self.deploy,
            commit: &made.commit.to_string(),
            target: self.target,
            release: &release,
            worktree: Some(made.repo.root()),
            around: self.around,
        };
        commands(&place, StepMoment::Before)?;
        make::build(&place, made.repo, made.commit, made.watch)?;
        if self.around.interrupts.arrived() {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        self.host.send_release(self.target, &release, &self.around)
    }
}
