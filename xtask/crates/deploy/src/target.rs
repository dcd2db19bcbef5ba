//! The target: the folder to which a layer is deployed, with its ownership, layout and lock.
//!
//! A folder is ours if it contains the record `target` with the name of the layer. A nonempty folder without
//! one is refused and not touched. The operating system holds the lock for the lifetime of the process; the
//! content of the file names the holder.
//!
//! ```text
//! TO/target    the record            TO/releases/NAME/files     exported and built files
//! TO/lock      holder of the lock    TO/releases/NAME/manifest  digests of these files
//! TO/journal   the run in progress   TO/releases/NAME/snapshot  its configuration
//! TO/history   all runs              TO/stacks/NAME             runtime data and logs of its services
//! TO/current   -> releases/NAME      TO/shared                  env files and the like, for all releases
//! TO/state     data of services      TO/backups/TIME-NAME       backups of that data
//! TO/program   uploaded programs     TO/incoming                uploaded releases (engine `ssh`)
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

/// Format identifier of the record.
const TARGET_KIND: &str = "xtask.deploy-target/1";

/// File name of the record.
const RECORD_FILE: &str = "target";

/// File name of the lock.
const LOCK_FILE: &str = "lock";

/// Folder name of uploaded programs.
const PROGRAMS_FOLDER: &str = "program";

/// Folder name of uploaded releases.
const INCOMING_FOLDER: &str = "incoming";

/// Content of the record.
#[derive(Debug, Serialize, Deserialize)]
struct TargetRecord {
    layer: String,
}

/// Folder and layer of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployTarget {
    /// Folder, on this machine or on the host.
    pub root: PathBuf,
    pub layer: String,
}

/// Ownership of a target that can be used; another owner is an error.
#[derive(Debug, PartialEq, Eq)]
pub enum TargetOwnership {
    /// The folder is missing or empty, and can be claimed.
    Free,
    /// The record names our layer.
    Ours,
}

/// State of the path `current`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrentLink {
    /// It does not exist.
    Missing,
    /// It is a symlink to the release of this name.
    Release(String),
    /// It was not created by a deploy; the text describes it, e.g. `is not a symlink`.
    Foreign(String),
}

impl DeployTarget {
    /// Returns the target of a layer: the folder in `deploy.to` for the engines `directory` and `ssh`, or a folder of
    /// this clone for `compose` and `kubernetes`.
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

    #[must_use]
    pub fn releases_folder(&self) -> PathBuf {
        self.root.join("releases")
    }

    #[must_use]
    pub fn stacks_folder(&self) -> PathBuf {
        self.root.join("stacks")
    }

    /// Returns the folder for files that all releases share, e.g. `shared/.env`.
    #[must_use]
    pub fn shared_folder(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// Returns the folder for the data of services.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Returns the folder for backups of that data.
    #[must_use]
    pub fn backups_folder(&self) -> PathBuf {
        self.root.join("backups")
    }

    /// Returns the folder for programs that other machines upload.
    #[must_use]
    pub fn programs_folder(&self) -> PathBuf {
        self.root.join(PROGRAMS_FOLDER)
    }

    /// Returns the folder for releases that other machines upload.
    #[must_use]
    pub fn incoming_folder(&self) -> PathBuf {
        self.root.join(INCOMING_FOLDER)
    }

    #[must_use]
    pub fn journal_file(&self) -> PathBuf {
        self.root.join("journal")
    }

    #[must_use]
    pub fn history_file(&self) -> PathBuf {
        self.root.join("history")
    }

    /// Returns the path of the symlink to the current release.
    #[must_use]
    pub fn current_link(&self) -> PathBuf {
        self.root.join("current")
    }

    /// Inspects `current`.
    pub fn read_current(&self) -> Result<CurrentLink> {
        let path = self.current_link();
        match std::fs::symlink_metadata(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(CurrentLink::Missing),
            Err(cause) => {
                return Err(cause).with_context(|| format!("cannot inspect `{}`", path.display()));
            }
            Ok(meta) if !meta.is_symlink() => {
                return Ok(CurrentLink::Foreign("is not a symlink".to_owned()));
            }
            Ok(_) => {}
        }
        let to = std::fs::read_link(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let name = to.to_str().and_then(|to| to.strip_prefix("releases/"));
        Ok(match name.filter(|name| is_release_name(name)) {
            Some(name) => CurrentLink::Release(name.to_owned()),
            None => CurrentLink::Foreign(format!(
                "points to `{}`",
                sanitize_line(&to.to_string_lossy(), 200)
            )),
        })
    }

    /// Returns the ownership of the folder.
    ///
    /// Returns an error if it belongs to another layer, contains files without a record, or is not a folder.
    pub fn check_ownership(&self) -> Result<TargetOwnership> {
        let root = self.root.display();
        match std::fs::symlink_metadata(&self.root) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(TargetOwnership::Free),
            Err(cause) => {
                return Err(cause).with_context(|| format!("cannot inspect the target `{root}`"));
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

    /// Returns the ownership by the record; `None` if there is no record.
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
                "cannot read the record of the target `{}`: {why}",
                path.display()
            ))
            .with_hint("nothing was changed")),
            LoadedRecord::Missing => Ok(None),
        }
    }

    /// Returns the ownership of a folder on a host, by the content of its record and the `names` of its entries.
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

    /// Checks that a folder without a record is empty, except for stale files of our own.
    fn check_unclaimed(&self) -> Result<TargetOwnership> {
        let failed = || format!("cannot list the target `{}`", self.root.display());
        let entries = std::fs::read_dir(&self.root).with_context(failed)?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.with_context(failed)?.file_name().to_string_lossy().into_owned());
        }
        self.check_names_unclaimed(&names)
    }

    fn check_names_unclaimed(&self, names: &[String]) -> Result<TargetOwnership> {
        // Files of a run that ended before it wrote the record.
        let is_ours = |name: &String| {
            [LOCK_FILE, PROGRAMS_FOLDER, INCOMING_FOLDER].contains(&name.as_str())
                || name.starts_with("target.") && name.ends_with(".new")
        };
        match names.iter().find(|name| !is_ours(name)) {
            None => Ok(TargetOwnership::Free),
            Some(name) => Err(Error::negative(format!(
                "the target `{}` was not created by a deploy: it contains `{}` and no record `{RECORD_FILE}`",
                self.root.display(),
                sanitize_line(name, 80)
            ))
            .with_hint("set `deploy.to` to an empty folder, or one that does not exist yet")),
        }
    }

    /// Claims the folder if it is free, and acquires its lock, which is released on drop of the returned value.
    ///
    /// Returns an error if another run holds the lock, the user cannot write, or the folder is not ours.
    pub fn claim_and_lock(&self, doing: &str, deploy_ctx: &DeployContext<'_>) -> Result<Lock> {
        let is_new = self.check_ownership()? == TargetOwnership::Free;
        let failed = || format!("cannot write to the target `{}`", self.root.display());
        if !can_write_in(&self.root) {
            return Err(Error::unable(failed()).with_hint("the deploying user must own it"));
        }
        std::fs::create_dir_all(&self.root).with_context(failed)?;
        let lock = self.acquire_lock(doing, deploy_ctx)?;
        if is_new {
            let layer = self.layer.clone();
            record::write_record(
                deploy_ctx.disk,
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

    /// Returns the holder of the lock, e.g. `deploy by ada, pid 4711`; `None` if it is free. Writes nothing.
    #[must_use]
    pub fn lock_holder(&self) -> Option<String> {
        lock::find_lock_holder(&self.root.join(LOCK_FILE))
    }

    /// Acquires the lock without waiting: after another run the results of the gates would be stale.
    fn acquire_lock(&self, doing: &str, deploy_ctx: &DeployContext<'_>) -> Result<Lock> {
        let path = self.root.join(LOCK_FILE);
        let who =
            format!("{doing} by {}, pid {}", sanitize_line(deploy_ctx.by, 40), std::process::id());
        let since = read_modified_seconds(&path);
        let mut holder = None;
        let taken =
            Lock::acquire(&path, &who, Duration::ZERO, |other| holder = Some(other.to_owned()));
        let Some(holder) = holder else { return taken };
        let age = since.map_or(String::new(), |since| {
            format!(", started {}", format_ago(deploy_ctx.world.now_seconds(), since))
        });
        Err(Error::unable(format!(
            "another run is in progress in `{}`: {holder}{age}",
            self.root.display()
        ))
        .with_hint("wait until it has ended and try again"))
    }
}

/// Reports whether `name` is safe as a part of a path: at most 80 ASCII letters, digits and `-`.
#[must_use]
pub fn is_release_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !name.is_empty() && name.len() <= 80 && name.chars().all(is_plain)
}

fn read_modified_seconds(path: &Path) -> Option<i64> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}
