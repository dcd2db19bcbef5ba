//! The folder to which a layer is deployed: whose it is, what lies where, and who is at work in it.
//!
//! A folder is ours if it holds our record of it, which names the layer. One that is not empty and has none
//! is refused and not touched. The lock is held by the system for as long as the process lives; what is
//! written in it says who and since when.
//!
//! ```text
//! TO/target      the record          TO/releases/NAME/files     what was laid out and built
//! TO/lock        who is at work      TO/releases/NAME/manifest  what belongs to it
//! TO/journal     what is under way   TO/releases/NAME/snapshot  its configuration
//! TO/history     what was done       TO/stacks/NAME             its services, while they run
//! TO/current     -> releases/NAME    TO/shared                  what outlives releases
//! TO/state       what services keep     TO/backups/TIME-NAME       what was saved of it
//! TO/program     programs, and TO/incoming releases that arrive, where another host deploys to this one
//! ```

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::DeployContext;
use xtask_base::environment::format_ago;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::lock::{self, Lock};
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::sanitize_line;
use xtask_config::{DeployConfig, DeployEngine};
use xtask_git::{Repo, can_write_in};

/// The kind of the record by which a folder is ours.
const TARGET_KIND: &str = "xtask.deploy-target/1";

/// The name of the record.
const RECORD_FILE: &str = "target";

/// The name of the lock.
const LOCK_FILE: &str = "lock";

/// The name of the folder of programs.
const PROGRAMS_FOLDER: &str = "program";

/// The name of the folder of what arrives.
const INCOMING_FOLDER: &str = "incoming";

/// What is kept of a target.
#[derive(Debug, Serialize, Deserialize)]
struct TargetRecord {
    layer: String,
}

/// A folder to which a layer is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployTarget {
    /// Where it is.
    pub root: PathBuf,
    /// The layer.
    pub layer: String,
}

/// Whose the folder is.
#[derive(Debug, PartialEq, Eq)]
pub enum TargetOwnership {
    /// It is not there, or empty: it can become ours.
    Free,
    /// It is ours.
    Ours,
}

/// What `current` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrentLink {
    /// It is not there.
    Missing,
    /// It points to a release.
    Release(String),
    /// It is something that we have not made, in words.
    Foreign(String),
}

impl DeployTarget {
    /// The target of a layer: the folder that is named, on this machine or on the host; or, where an engine
    /// keeps what serves to itself, a folder of this clone.
    #[must_use]
    pub fn for_layer(repo: &Repo, layer: &str, deploy: &DeployConfig) -> DeployTarget {
        let root = match deploy.engine {
            DeployEngine::Directory => deploy.to.clone().into(),
            DeployEngine::Ssh => deploy.to.split_once(':').map_or("", |(_, folder)| folder).into(),
            DeployEngine::Compose | DeployEngine::Kubernetes => {
                repo.shared_state_folder().join("deploy").join(layer).join("target")
            }
        };
        DeployTarget { root, layer: layer.to_owned() }
    }

    /// The folder of all releases.
    #[must_use]
    pub fn releases_folder(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// The folder of all stacks.
    #[must_use]
    pub fn stacks_folder(&self) -> PathBuf {
        self.root.join("stacks")
    }

    /// The folder of what outlives releases.
    #[must_use]
    pub fn shared_folder(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// The folder for what services keep.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The folder of what was saved of it.
    #[must_use]
    pub fn backups_folder(&self) -> PathBuf {
        self.root.join("backups")
    }

    /// The folder of the programs that another host has sent.
    #[must_use]
    pub fn programs_folder(&self) -> PathBuf {
        self.root.join(PROGRAMS_FOLDER)
    }

    /// The folder of the releases that another host sends.
    #[must_use]
    pub fn incoming_folder(&self) -> PathBuf {
        self.root.join(INCOMING_FOLDER)
    }

    /// The journal.
    #[must_use]
    pub fn journal_file(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The history.
    #[must_use]
    pub fn history_file(&self) -> PathBuf {
        self.root.join("history")
    }

    /// The link to the release that serves.
    #[must_use]
    pub fn current_link(&self) -> PathBuf {
        self.root.join("current")
    }

    /// What it points to.
    pub fn read_current(&self) -> Result<CurrentLink> {
        let path = self.current_link();
        match std::fs::symlink_metadata(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(CurrentLink::Missing),
            Err(cause) => {
                return Err(cause)
                    .with_context(|| format!("`{}` cannot be looked at", path.display()));
            }
            Ok(meta) if !meta.is_symlink() => {
                return Ok(CurrentLink::Foreign("is no symlink".to_owned()));
            }
            Ok(_) => {}
        }
        let to = std::fs::read_link(&path)
            .with_context(|| format!("`{}` cannot be read", path.display()))?;
        let name = to.to_str().and_then(|to| to.strip_prefix("releases/"));
        Ok(match name.filter(|name| is_release_name(name)) {
            Some(name) => CurrentLink::Release(name.to_owned()),
            None => CurrentLink::Foreign(format!(
                "points to `{}`",
                sanitize_line(&to.to_string_lossy(), 200)
            )),
        })
    }

    /// Whose it is. One that is not ours is an error that says why.
    pub fn check_ownership(&self) -> Result<TargetOwnership> {
        let root = self.root.display();
        match std::fs::symlink_metadata(&self.root) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(TargetOwnership::Free),
            Err(cause) => {
                return Err(cause)
                    .with_context(|| format!("the target `{root}` cannot be looked at"));
            }
            Ok(_) if !self.root.is_dir() => {
                return Err(Error::negative(format!("the target `{root}` is not a folder"))
                    .with_hint("`deploy.to` names the folder to which the layer is deployed"));
            }
            Ok(_) => {}
        }
        let path = self.root.join(RECORD_FILE);
        match self.check_record(record::read_record(&path, TARGET_KIND))? {
            Some(standing) => Ok(standing),
            None => self.check_unclaimed(),
        }
    }

    /// Whose it is by its record, as far as that says it.
    fn check_record(&self, found: LoadedRecord<TargetRecord>) -> Result<Option<TargetOwnership>> {
        let root = self.root.display();
        let path = self.root.join(RECORD_FILE);
        match found {
            LoadedRecord::Valid(found) if found.layer == self.layer => {
                Ok(Some(TargetOwnership::Ours))
            }
            LoadedRecord::Valid(found) => Err(Error::negative(format!(
                "the target `{root}` belongs to layer `{}`, not to `{}`",
                sanitize_line(&found.layer, 40),
                self.layer
            ))
            .with_hint("each layer needs a `deploy.to` of its own")),
            LoadedRecord::Newer => {
                Err(record::newer_record_error("the record of the target", &path))
            }
            LoadedRecord::Corrupt(why) => Err(Error::unable(format!(
                "the record of the target `{}` cannot be read: {why}",
                path.display()
            ))
            .with_hint("nothing was touched")),
            LoadedRecord::Missing => Ok(None),
        }
    }

    /// Whose it is, by what another host tells of it: the bytes of its record, and the names of what it holds.
    pub fn check_remote_ownership(
        &self,
        found: Option<&[u8]>,
        names: &[String],
    ) -> Result<TargetOwnership> {
        let found =
            found.map_or(LoadedRecord::Missing, |bytes| record::parse_record(TARGET_KIND, bytes));
        match self.check_record(found)? {
            Some(standing) => Ok(standing),
            None => self.check_names_unclaimed(names),
        }
    }

    /// Whether a folder without a record holds nothing that anybody would miss.
    fn check_unclaimed(&self) -> Result<TargetOwnership> {
        let failed = || format!("the target `{}` cannot be listed", self.root.display());
        let entries = std::fs::read_dir(&self.root).with_context(failed)?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.with_context(failed)?.file_name().to_string_lossy().into_owned());
        }
        self.check_names_unclaimed(&names)
    }

    fn check_names_unclaimed(&self, names: &[String]) -> Result<TargetOwnership> {
        // What a run leaves that ended before it had made the folder ours.
        let is_ours = |name: &String| {
            [LOCK_FILE, PROGRAMS_FOLDER, INCOMING_FOLDER].contains(&name.as_str())
                || name.starts_with("target.") && name.ends_with(".new")
        };
        match names.iter().find(|name| !is_ours(name)) {
            None => Ok(TargetOwnership::Free),
            Some(name) => Err(Error::negative(format!(
                "the target `{}` is not ours: it holds `{}` and no record of a deploy",
                self.root.display(),
                sanitize_line(name, 80)
            ))
            .with_hint("name an empty folder, or one that is not there yet, as `deploy.to`")),
        }
    }

    /// Makes it ours, if it is not yet, and holds its lock until the answer is dropped.
    pub fn claim_and_lock(&self, doing: &str, around: &DeployContext<'_>) -> Result<Lock> {
        let is_new = self.check_ownership()? == TargetOwnership::Free;
        let failed = || format!("the target `{}` cannot be written", self.root.display());
        if !can_write_in(&self.root) {
            return Err(Error::unable(failed()).with_hint("who deploys must be its owner"));
        }
        std::fs::create_dir_all(&self.root).with_context(failed)?;
        let lock = self.acquire_lock(doing, around)?;
        if is_new {
            let layer = self.layer.clone();
            record::write_record(
                around.disk,
                &self.root.join(RECORD_FILE),
                TARGET_KIND,
                &TargetRecord { layer },
            )
            .with_context(failed)?;
        }
        for folder in [self.releases_folder(), self.shared_folder()] {
            std::fs::create_dir_all(&folder).with_context(failed)?;
        }
        Ok(lock)
    }

    /// Who is at work in it now; nothing where nobody is. Nothing is written.
    #[must_use]
    pub fn lock_holder(&self) -> Option<String> {
        // That this very process holds it is known to whoever asks.
        let own = format!(", pid {}", std::process::id());
        lock::find_lock_holder(&self.root.join(LOCK_FILE)).filter(|holder| !holder.ends_with(&own))
    }

    /// Takes the lock. Nobody waits for a deploy: what it leaves is not what was looked at.
    fn acquire_lock(&self, doing: &str, around: &DeployContext<'_>) -> Result<Lock> {
        let path = self.root.join(LOCK_FILE);
        let who =
            format!("{doing} by {}, pid {}", sanitize_line(around.by, 40), std::process::id());
        let since = read_modified_seconds(&path);
        let mut holder = None;
        let taken =
            Lock::acquire(&path, &who, Duration::ZERO, |other| holder = Some(other.to_owned()));
        let Some(holder) = holder else { return taken };
        let age = since.map_or(String::new(), |since| {
            format!(", begun {}", format_ago(around.world.now_seconds(), since))
        });
        Err(Error::unable(format!(
            "another run is at work in `{}`: {holder}{age}",
            self.root.display()
        ))
        .with_hint("wait until it has ended and try again"))
    }
}

/// Whether this can be the name of a release, which becomes part of paths.
#[must_use]
pub fn is_release_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !name.is_empty() && name.len() <= 80 && name.chars().all(is_plain)
}

fn read_modified_seconds(path: &Path) -> Option<i64> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}
