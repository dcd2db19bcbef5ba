//! What an engine does for the steps of a run. Everything here can be asked twice and changes nothing the
//! second time, so that a run that was cut short can be ended from any step.
//!
//! `ssh` is `directory` on the other host, by the same program, which runs there.

use std::time::Duration;

use super::release::Release;
use xtask_base::error::Result;

/// Who serves releases.
pub trait Engine {
    /// Starts a release beside what serves, until it is ready, and ends it again.
    /// An error of kind `No` says that it does not get ready.
    fn try_candidate(&self, release: &Release) -> Result<()>;

    /// Whether all that a release needs to serve can be read and is there, before what serves is ended for it.
    fn check_can_serve(&self, _: &Release) -> Result<()> {
        Ok(())
    }

    /// Has a release serve, and nothing else. Kind `No`: it does not get ready.
    fn serve(&self, release: &Release) -> Result<()>;

    /// Watches the release that serves. Kind `No`: it is not well.
    fn watch(&self, release: &Release, longest: Duration) -> Result<()>;

    /// Asks the release that serves whether it is well, now. Kind `No`: it is not.
    fn check_health(&self, release: &Release) -> Result<()>;

    /// Ends everything that is not of this release.
    fn stop_others(&self, keep: Option<&Release>) -> Result<()>;

    /// Forgets what was kept of a release that does not serve.
    fn discard_release(&self, release: &Release) -> Result<()>;
}
