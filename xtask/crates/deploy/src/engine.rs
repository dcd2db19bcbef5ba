//! The interface between the steps of a run and the engines `directory`, `compose` and `kubernetes`.
//!
//! All methods are idempotent, so that an interrupted run can be recovered from any step. For example,
//! `serve` after a crash within `serve` completes the change-over.
//!
//! The engine `ssh` is `directory`, run on the other host by the same program.

use std::time::Duration;

use super::DeployContext;
use super::release::Release;
use super::target::DeployTarget;
use xtask_base::error::Result;

/// Starts, stops and checks the releases of a target.
pub trait Engine {
    /// Starts `release` as a candidate next to the running one, waits until it is ready, and stops it.
    ///
    /// Returns an error of kind `Negative` if it does not become ready.
    fn try_candidate(&self, release: &Release) -> Result<()>;

    /// Checks that everything `release` needs (e.g. its env files) exists and is readable, before the running
    /// release is stopped for it.
    fn check_can_serve(&self, _: &Release) -> Result<()> {
        Ok(())
    }

    /// Starts `release` and stops all others. Returns `Negative` if it does not become ready.
    fn serve(&self, release: &Release) -> Result<()>;

    /// Watches the running `release` for `longest`. Returns `Negative` if it is unhealthy.
    fn watch(&self, release: &Release, longest: Duration) -> Result<()>;

    /// Checks the health of the running `release` once. Returns `Negative` if it is unhealthy.
    fn check_health(&self, release: &Release) -> Result<()>;

    /// Stops every service that does not belong to `keep`; all of them if `keep` is `None`.
    fn stop_others(&self, keep: Option<&Release>) -> Result<()>;

    /// Deletes the runtime data of a `release` that does not serve, e.g. the logs of its candidate.
    fn discard_release(&self, release: &Release) -> Result<()>;
}

/// A target with its engine.
pub struct EngineContext<'a> {
    pub target: &'a DeployTarget,
    /// Engine that serves releases.
    pub engine: &'a dyn Engine,
    /// The same engine, ignoring Ctrl-C, for rollbacks.
    pub uninterruptible: &'a dyn Engine,
    pub ctx: DeployContext<'a>,
}
