//! The engine `directory`: services on this machine, by the toolkit's own supervisor.
//!
//! The change-over: the candidate has ended before it begins. All that served is asked to end at once and is
//! proved to be gone, then the new release starts on the ports of the layer, each service as soon as what it
//! needs is ready. From the end of the first old service to the readiness of the last new one the layer does
//! not serve whole; that is the time that the old ones take to end and the new ones to get ready, and nothing
//! else happens within it. Two processes cannot listen on one port, so without a proxy in front it cannot be
//! shorter. That the release is whole and that its programs can be run was seen before.

use std::time::Duration;

use super::Around;
use super::engine::Engine;
use super::release::Release;
use super::stacks::{self, Role};
use super::state::{self, Trial};
use super::target::Target;
use super::watch;
use xtask_base::error::{Error, Kind, Result};
use xtask_config::Layer;
use xtask_services::env_files::Waits;
use xtask_services::stack::Stack;

/// The engine.
pub struct Directory<'a> {
    /// Where it deploys to.
    pub target: &'a Target,
    /// The layer as it is configured now, for candidates.
    pub layer: &'a Layer,
    /// The outside.
    pub around: Around<'a>,
}

impl Engine for Directory<'_> {
    fn try_out(&self, release: &Release) -> Result<()> {
        let stack = stacks::of(self.target, release, Role::Candidate);
        let Trial { specs, notes } = state::trial(self.layer, self.target, release, &self.around)?;
        for note in notes {
            (self.around.tell)(&note);
        }
        if specs.is_empty() {
            return Ok(());
        }
        let started = stacks::start(&stack, specs, None, &self.around).map_err(|failure| {
            failure.hint("services take their ports from `{port}` or `XTASK_PORT`, also when tried")
        });
        let ended = stacks::forget(&stack, &self.around);
        started.and(ended)
    }

    fn can_serve(&self, release: &Release) -> Result<()> {
        let stack = stacks::of(self.target, release, Role::Serves);
        stacks::check(&stack, &release.snapshot()?.specs, Waits::Ahead, &self.around).map(drop)
    }

    fn serve(&self, release: &Release) -> Result<()> {
        let snapshot = release.snapshot()?;
        self.end_others(Some(release))?;
        let stack = stacks::of(self.target, release, Role::Serves);
        stacks::start(&stack, snapshot.specs, snapshot.status, &self.around)
            .map_err(|failure| with_logs(failure, &stack))
    }

    fn watch(&self, release: &Release, longest: Duration) -> Result<()> {
        let stack = stacks::of(self.target, release, Role::Serves);
        watch::watch(&stack, &release.snapshot()?.specs, longest, &self.around)
            .map_err(|failure| with_logs(failure, &stack))
    }

    fn ask(&self, release: &Release) -> Result<()> {
        let stack = stacks::of(self.target, release, Role::Serves);
        watch::ask(&stack, &release.snapshot()?.specs, &self.around)
    }

    fn end_others(&self, keep: Option<&Release>) -> Result<()> {
        let keep = keep.map(|release| stacks::of(self.target, release, Role::Serves));
        for stack in stacks::all(self.target)? {
            if Some(&stack) != keep.as_ref() {
                stacks::end(&stack, &self.around)?;
            }
        }
        Ok(())
    }

    fn forget(&self, release: &Release) -> Result<()> {
        for role in [Role::Candidate, Role::Serves] {
            stacks::forget(&stacks::of(self.target, release, role), &self.around)?;
        }
        Ok(())
    }
}

/// The same failure, with where the logs are.
fn with_logs(failure: Error, stack: &Stack) -> Error {
    match failure.kind() {
        Kind::No => failure.detail(format!("its logs: {}", stack.logs().display())),
        _ => failure,
    }
}
