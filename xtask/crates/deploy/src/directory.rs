//! The engine `directory`: services on this machine, run by the toolkit's own supervisor.
//!
//! The change-over begins after the candidate has stopped. All old services are asked to stop at once and are
//! verified to be gone; then the new release starts on the ports of the layer, each service as soon as its
//! `needs` are ready. The downtime is the stop time of the old services plus the start time of the new ones, and
//! no other work falls into it. Two processes cannot listen on one port, so without a proxy in front it cannot
//! be shorter. The integrity of the release and its programs have been checked before. For example:
//!
//! ```text
//! stop TO/stacks/OLD -> start TO/stacks/NEW (db, then api) -> watch
//! ```

use std::time::Duration;

use super::DeployContext;
use super::engine::Engine;
use super::health;
use super::persistent_state::{self, TrialPlan};
use super::release::Release;
use super::stacks::{self, ReleaseStack, StackRole};
use super::target::DeployTarget;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::Layer;
use xtask_services::env_files::WaitPolicy;
use xtask_services::stack::Stack;

/// Engine that serves on this machine.
pub struct DirectoryEngine<'a> {
    pub target: &'a DeployTarget,
    /// Current configuration of the layer, for candidates.
    pub layer: &'a Layer,
    pub ctx: DeployContext<'a>,
}

impl Engine for DirectoryEngine<'_> {
    fn try_candidate(&self, release: &Release) -> Result<()> {
        let stack = stacks::stack_for_release(self.target, release, StackRole::Candidate);
        let TrialPlan { specs, notes } =
            persistent_state::plan_trial(self.layer, self.target, release, &self.ctx)?;
        for note in notes {
            (self.ctx.tell)(&note);
        }
        if specs.is_empty() {
            return Ok(());
        }
        let started = stacks::start_stack(&stack, specs, None, &self.ctx).map_err(|failure| {
            failure.with_hint(
                "services must listen on `{port}` or `XTASK_PORT`: a candidate runs on spare ports",
            )
        });
        let ended = stacks::remove_stack(&stack, &self.ctx);
        started.and(ended)
    }

    fn check_can_serve(&self, release: &Release) -> Result<()> {
        let stack = stacks::stack_for_release(self.target, release, StackRole::Serving);
        stacks::check_environment(
            &stack,
            &release.read_snapshot()?.specs,
            WaitPolicy::SkipPipes,
            &self.ctx,
        )
        .map(drop)
    }

    fn serve(&self, release: &Release) -> Result<()> {
        let snapshot = release.read_snapshot()?;
        self.stop_others(Some(release))?;
        let stack = stacks::stack_for_release(self.target, release, StackRole::Serving);
        stacks::start_stack(&stack, snapshot.specs, snapshot.status, &self.ctx)
            .map_err(|failure| with_logs(failure, &stack))
    }

    fn watch(&self, release: &Release, longest: Duration) -> Result<()> {
        let stack = stacks::stack_for_release(self.target, release, StackRole::Serving);
        health::watch_stack(&stack, &release.read_snapshot()?.specs, longest, &self.ctx)
            .map_err(|failure| with_logs(failure, &stack))
    }

    fn check_health(&self, release: &Release) -> Result<()> {
        let stack = stacks::stack_for_release(self.target, release, StackRole::Serving);
        health::check_stack_health(&stack, &release.read_snapshot()?.specs, &self.ctx)
    }

    fn stop_others(&self, keep: Option<&Release>) -> Result<()> {
        let keep =
            keep.map(|release| stacks::stack_for_release(self.target, release, StackRole::Serving));
        for ReleaseStack { stack, .. } in stacks::list_stacks(self.target)? {
            if Some(&stack) != keep.as_ref() {
                stacks::stop_stack(&stack, &self.ctx)?;
            }
        }
        Ok(())
    }

    fn discard_release(&self, release: &Release) -> Result<()> {
        for role in [StackRole::Candidate, StackRole::Serving] {
            stacks::remove_stack(
                &stacks::stack_for_release(self.target, release, role),
                &self.ctx,
            )?;
        }
        Ok(())
    }
}

/// Adds the path of the logs to a `Negative` error.
fn with_logs(failure: Error, stack: &Stack) -> Error {
    match failure.kind() {
        ErrorKind::Negative => {
            failure.with_detail(format!("logs: {}", stack.logs_folder().display()))
        }
        _ => failure,
    }
}
