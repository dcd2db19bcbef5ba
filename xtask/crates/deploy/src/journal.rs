//! The journal of a run, the file `journal` of a target, written before each step and removed at the end.
//!
//! A journal without a running process therefore belongs to an interrupted run. For example:
//!
//! ```text
//! {"id": "...", "doing": "deploy", "by": "ada", "new": "20250310T101500Z-4cfd10e1a2b3",
//!  "old": "20250309T090000Z-05a35cb1f2e3", "step": "watch", "watch_ms": 60000, ...}
//! ```

use serde::{Deserialize, Serialize};

use super::DeployContext;
use super::history::{DeployEntry, DeployOutcome};
use super::pipeline::{DeployAction, PipelineStep};
use super::target::DeployTarget;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::record::{self, LoadedRecord};

/// Format identifier in the first line of the file.
const JOURNAL_KIND: &str = "xtask.deploy-journal/1";

/// A run in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployJournal {
    pub id: String,
    /// Start of the run, in seconds since the epoch.
    pub at: i64,
    pub doing: DeployAction,
    /// The deploying user.
    pub by: String,
    /// Name of the release that is to serve.
    pub new: String,
    /// Commit of `new`, in full.
    pub commit: String,
    /// Name of the verified release to which a failure rolls back.
    pub old: Option<String>,
    /// Name of the release to which `current` pointed at the start.
    pub pointed: Option<String>,
    /// Name of the release that served at the start.
    pub served: Option<String>,
    /// Length of the watch, in milliseconds.
    pub watch_ms: u64,
    /// The step that has begun.
    pub step: PipelineStep,
    /// Reason for the rollback.
    pub why: Option<String>,
    /// Output of programs about the failure. It may contain secrets, so it is printed and never stored.
    #[serde(skip)]
    pub printed: Vec<String>,
}

impl DeployJournal {
    /// Reads the journal of `target`. Returns `None` if no run is in progress or was interrupted.
    pub fn read(target: &DeployTarget) -> Result<Option<DeployJournal>> {
        let path = target.journal_file();
        match record::read_record(&path, JOURNAL_KIND) {
            LoadedRecord::Missing => Ok(None),
            LoadedRecord::Valid(journal) => Ok(Some(journal)),
            LoadedRecord::Newer => Err(record::newer_record_error("the journal of a deploy", &path)),
            LoadedRecord::Corrupt(why) => Err(Error::unable(format!(
                "cannot read the journal `{}`: {why}",
                path.display()
            ))
            .with_hint("nothing was changed; the release of `current` may be running, or the last one in the history")
            .with_hint(format!(
                "move the journal away, then switch to a verified release: `cargo xtask rollback {} RELEASE`",
                target.layer
            ))),
        }
    }

    /// Sets `step` and writes the journal; on failure the old step stays.
    pub fn begin_step(
        &mut self,
        step: PipelineStep,
        target: &DeployTarget,
        deploy_ctx: &DeployContext<'_>,
    ) -> Result<()> {
        let path = target.journal_file();
        let next = DeployJournal { step, ..self.clone() };
        record::write_record(deploy_ctx.disk, &path, JOURNAL_KIND, &next)
            .with_context(|| format!("cannot write the journal `{}`", path.display()))?;
        *self = next;
        Ok(())
    }

    /// Removes the journal at the end of a run.
    pub fn remove(&self, target: &DeployTarget, deploy_ctx: &DeployContext<'_>) -> Result<()> {
        let path = target.journal_file();
        deploy_ctx
            .disk
            .remove_file(&path)
            .with_context(|| format!("cannot remove the journal `{}`", path.display()))
    }

    /// Returns the history entry of this run with the given `outcome`.
    #[must_use]
    pub fn to_history_entry(&self, outcome: DeployOutcome) -> DeployEntry {
        let (current, serves) = match outcome {
            DeployOutcome::Verified => (Some(&self.new), Some(&self.new)),
            DeployOutcome::RolledBack | DeployOutcome::Interrupted => {
                (self.old.as_ref(), self.old.as_ref())
            }
            DeployOutcome::RollbackFailed => (self.old.as_ref(), None),
            // From the step `ChangeOver` on, the release before has been stopped.
            DeployOutcome::Failed if self.step == PipelineStep::GoBack => {
                (self.pointed.as_ref(), None)
            }
            DeployOutcome::Failed => (self.pointed.as_ref(), self.served.as_ref()),
        };
        DeployEntry {
            id: self.id.clone(),
            at: self.at,
            doing: self.doing,
            release: self.new.clone(),
            commit: self.commit.clone(),
            outcome,
            current: current.cloned(),
            serves: serves.cloned(),
            by: self.by.clone(),
            why: self.why.clone(),
        }
    }
}
