//! What is under way in a target, written down before each step. It goes when the run has ended, so one
//! that is there tells of a run that was cut short.

use serde::{Deserialize, Serialize};

use super::Around;
use super::history::{Entry, Outcome};
use super::steps::{Doing, Step};
use super::target::Target;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::record::{self, Found};

/// The kind of the record.
const JOURNAL: &str = "xtask.deploy-journal/1";

/// A run that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Its id.
    pub id: String,
    /// When it began, in seconds since the epoch.
    pub at: i64,
    /// What it does.
    pub doing: Doing,
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
    pub step: Step,
    /// Why it goes back.
    pub why: Option<String>,
    /// What programs have printed about it. It may hold secrets: it is told and never kept.
    #[serde(skip)]
    pub printed: Vec<String>,
}

impl Journal {
    /// Reads it; nothing where no run is under way.
    pub fn read(target: &Target) -> Result<Option<Journal>> {
        let path = target.journal();
        match record::read(&path, JOURNAL) {
            Found::Nothing => Ok(None),
            Found::Whole(journal) => Ok(Some(journal)),
            Found::Newer => Err(record::newer("the journal of a deploy", &path)),
            Found::Broken(why) => Err(Error::unable(format!(
                "the journal `{}` cannot be read: {why}",
                path.display()
            ))
            .hint("nothing was touched; what `current` points to may serve, or what the history says last")
            .hint(format!(
                "move the journal away, and `cargo xtask rollback {} RELEASE` has a verified one serve",
                target.layer
            ))),
        }
    }

    /// Writes down that a step begins.
    pub fn begin(&mut self, step: Step, target: &Target, around: &Around<'_>) -> Result<()> {
        let path = target.journal();
        let next = Journal { step, ..self.clone() };
        record::write(around.disk, &path, JOURNAL, &next)
            .unable(|| format!("the journal `{}` cannot be written", path.display()))?;
        *self = next;
        Ok(())
    }

    /// Removes it: the run has ended.
    pub fn end(&self, target: &Target, around: &Around<'_>) -> Result<()> {
        let path = target.journal();
        around
            .disk
            .remove(&path)
            .unable(|| format!("the journal `{}` cannot be removed", path.display()))
    }

    /// The line of the history.
    #[must_use]
    pub fn entry(&self, outcome: Outcome) -> Entry {
        let (current, serves) = match outcome {
            Outcome::Verified => (Some(&self.new), Some(&self.new)),
            Outcome::RolledBack | Outcome::Interrupted => (self.old.as_ref(), self.old.as_ref()),
            Outcome::RollbackFailed => (self.old.as_ref(), None),
            // From the change-over on, what served before has been ended.
            Outcome::Failed if self.step == Step::GoBack => (self.pointed.as_ref(), None),
            Outcome::Failed => (self.pointed.as_ref(), self.served.as_ref()),
        };
        Entry {
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
