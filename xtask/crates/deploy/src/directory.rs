//! The engine `directory`: services on this machine, by the toolkit's own supervisor.
//!
//! The change-over: the candidate has ended before it begins. All that served is asked to end at once and is
//! proved to be gone, then the new release starts on the ports of the layer, each service as soon as what it
//! needs is ready. From the end of the first old service to the readiness of the last new one the layer does
//! not serve whole; that is the time that the old ones take to end and the new ones to get ready, and nothing
//! else happens within it. Two processes cannot listen on one port, so without a proxy in front it cannot be
//! shorter. That the release is whole and that its programs can be run was seen before.

use std::time::Duration;

use super::DeployContext;
use super::engine::Engine;
use super::health;
use super::persistent_state::{self, TrialPlan};
use super::release::Release;
use super::stacks::{self, StackRole};
use super::target::DeployTarget;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::Layer;
use xtask_services::env_files::WaitPolicy;
use xtask_services::stack::Stack;

/// The engine.
pub struct DirectoryEngine<'a> {
    /// Where it deploys to.
    pub target: &'a DeployTarget,
    /// The layer as it is configured now, for candidates.
    pub layer: &'a Layer,
    /// The outside.
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
                "services take their ports from `{port}` or `XTASK_PORT`, also when tried",
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
        for stack in stacks::list_stacks(self.target)? {
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

/// The same failure, with where the logs are.
fn with_logs(failure: Error, stack: &Stack) -> Error {
    match failure.kind() {
        ErrorKind::Negative => {
            failure.with_detail(format!("its logs: {}", stack.logs_folder().display()))
        }
        _ => failure,
    }
}
