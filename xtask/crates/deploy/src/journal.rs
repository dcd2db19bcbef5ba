//! What is under way in a target, written down before each step. It goes when the run has ended, so one
//! that is there tells of a run that was cut short.

use serde::{Deserialize, Serialize};

use super::DeployContext;
use super::history::{DeployEntry, DeployOutcome};
use super::pipeline::{DeployAction, PipelineStep};
use super::target::DeployTarget;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::record::{self, LoadedRecord};

/// The kind of the record.
const JOURNAL_KIND: &str = "xtask.deploy-journal/1";

/// A run that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployJournal {
    /// Its id.
    pub id: String,
    /// When it began, in seconds since the epoch.
    pub at: i64,
    /// What it does.
    pub doing: DeployAction,
    /// Who does it.
    pub by: String,
    /// The release that is to serve.
    pub new: String,
    /// Its commit.
    pub commit: String,
    /// The verified release to which it would go back.
    pub old: Option<String>,
    /// The release to which `current` pointed when it began.
    pub pointed: Option<String>,
    /// The release that served then.
    pub served: Option<String>,
    /// How long the new release is watched, in milliseconds.
    pub watch_ms: u64,
    /// Which step has begun.
    pub step: PipelineStep,
    /// Why it goes back.
    pub why: Option<String>,
    /// What programs have printed about it. It may hold secrets: it is told and never kept.
    #[serde(skip)]
    pub printed: Vec<String>,
}

impl DeployJournal {
    /// Reads it; nothing where no run is under way.
    pub fn read(target: &DeployTarget) -> Result<Option<DeployJournal>> {
        let path = target.journal_file();
        match record::read_record(&path, JOURNAL_KIND) {
            LoadedRecord::Missing => Ok(None),
            LoadedRecord::Valid(journal) => Ok(Some(journal)),
            LoadedRecord::Newer => Err(record::newer_record_error("the journal of a deploy", &path)),
            LoadedRecord::Corrupt(why) => Err(Error::unable(format!(
                "the journal `{}` cannot be read: {why}",
                path.display()
            ))
            .with_hint("nothing was touched; what `current` points to may serve, or what the history says last")
            .with_hint(format!(
                "move the journal away, and `cargo xtask rollback {} RELEASE` has a verified one serve",
                target.layer
            ))),
        }
    }

    /// Writes down that a step begins.
    pub fn begin_step(
        &mut self,
        step: PipelineStep,
        target: &DeployTarget,
        around: &DeployContext<'_>,
    ) -> Result<()> {
        let path = target.journal_file();
        let next = DeployJournal { step, ..self.clone() };
        record::write_record(around.disk, &path, JOURNAL_KIND, &next)
            .with_context(|| format!("the journal `{}` cannot be written", path.display()))?;
        *self = next;
        Ok(())
    }

    /// Removes it: the run has ended.
    pub fn remove(&self, target: &DeployTarget, around: &DeployContext<'_>) -> Result<()> {
        let path = target.journal_file();
        around
            .disk
            .remove_file(&path)
            .with_context(|| format!("the journal `{}` cannot be removed", path.display()))
    }

    /// The line of the history.
    #[must_use]
    pub fn to_history_entry(&self, outcome: DeployOutcome) -> DeployEntry {
        let (current, serves) = match outcome {
            DeployOutcome::Verified => (Some(&self.new), Some(&self.new)),
            DeployOutcome::RolledBack | DeployOutcome::Interrupted => {
                (self.old.as_ref(), self.old.as_ref())
            }
            DeployOutcome::RollbackFailed => (self.old.as_ref(), None),
            // From the change-over on, what served before has been ended.
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
