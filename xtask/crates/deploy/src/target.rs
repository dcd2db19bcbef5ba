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

use super::Around;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::lock::{self, Lock};
use xtask_base::record::{self, Found};
use xtask_base::words::harmless;
use xtask_base::world::ago;
use xtask_config::{Deploy, DeployEngine};
use xtask_git::{Repo, may_write};

/// The kind of the record by which a folder is ours.
const TARGET: &str = "xtask.deploy-target/1";

/// The name of the record.
const RECORD: &str = "target";

/// The name of the lock.
const LOCK: &str = "lock";

/// The name of the folder of programs.
const PROGRAMS: &str = "program";

/// The name of the folder of what arrives.
const INCOMING: &str = "incoming";

/// What is kept of a target.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    layer: String,
}

/// A folder to which a layer is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub root: PathBuf,
    /// The layer.
    pub layer: String,
}

/// Whose the folder is.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not there, or empty: it can become ours.
    Free,
    /// It is ours.
    Ours,
}

/// What `current` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// It is not there.
    Nothing,
    /// It points to a release.
    Release(String),
    /// It is something that we have not made, in words.
    Foreign(String),
}

impl Target {
    /// The target of a layer: the folder that is named, on this machine or on the host; or, where an engine
    /// keeps what serves to itself, a folder of this clone.
    #[must_use]
    pub fn of(repo: &Repo, layer: &str, deploy: &Deploy) -> Target {
        let root = match deploy.engine {
            DeployEngine::Directory => deploy.to.clone().into(),
            DeployEngine::Ssh => deploy.to.split_once(':').map_or("", |(_, folder)| folder).into(),
            DeployEngine::Compose | DeployEngine::Kubernetes => {
                repo.shared_state_folder().join("deploy").join(layer).join("target")
            }
        };
        Target { root, layer: layer.to_owned() }
    }

    /// The folder of all releases.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// The folder of all stacks.
    #[must_use]
    pub fn stacks(&self) -> PathBuf {
        self.root.join("stacks")
    }

    /// The folder of what outlives releases.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// The folder for what services keep.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The folder of what was saved of it.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.root.join("backups")
    }

    /// The folder of the programs that another host has sent.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.root.join(PROGRAMS)
    }

    /// The folder of the releases that another host sends.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The history.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }

    /// The link to the release that serves.
    #[must_use]
    pub fn current_link(&self) -> PathBuf {
        self.root.join("current")
    }

    /// What it points to.
    pub fn current(&self) -> Result<Current> {
        let path = self.current_link();
        match std::fs::symlink_metadata(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Current::Nothing),
            Err(cause) => {
                return Err(cause).unable(|| format!("`{}` cannot be looked at", path.display()));
            }
            Ok(meta) if !meta.is_symlink() => {
                return Ok(Current::Foreign("is no symlink".to_owned()));
            }
            Ok(_) => {}
        }
        let to =
            std::fs::read_link(&path).unable(|| format!("`{}` cannot be read", path.display()))?;
        let name = to.to_str().and_then(|to| to.strip_prefix("releases/"));
        Ok(match name.filter(|name| is_release_name(name)) {
            Some(name) => Current::Release(name.to_owned()),
            None => {
                Current::Foreign(format!("points to `{}`", harmless(&to.to_string_lossy(), 200)))
            }
        })
    }

    /// Whose it is. One that is not ours is an error that says why.
    pub fn standing(&self) -> Result<Standing> {
        let root = self.root.display();
        match std::fs::symlink_metadata(&self.root) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Standing::Free),
            Err(cause) => {
                return Err(cause).unable(|| format!("the target `{root}` cannot be looked at"));
            }
            Ok(_) if !self.root.is_dir() => {
                return Err(Error::no(format!("the target `{root}` is not a folder"))
                    .hint("`deploy.to` names the folder to which the layer is deployed"));
            }
            Ok(_) => {}
        }
        let path = self.root.join(RECORD);
        match self.whose(record::read(&path, TARGET))? {
            Some(standing) => Ok(standing),
            None => self.free(),
        }
    }

    /// Whose it is by its record, as far as that says it.
    fn whose(&self, found: Found<Record>) -> Result<Option<Standing>> {
        let root = self.root.display();
        let path = self.root.join(RECORD);
        match found {
            Found::Whole(found) if found.layer == self.layer => Ok(Some(Standing::Ours)),
            Found::Whole(found) => Err(Error::no(format!(
                "the target `{root}` belongs to layer `{}`, not to `{}`",
                harmless(&found.layer, 40),
                self.layer
            ))
            .hint("each layer needs a `deploy.to` of its own")),
            Found::Newer => Err(record::newer("the record of the target", &path)),
            Found::Broken(why) => Err(Error::unable(format!(
                "the record of the target `{}` cannot be read: {why}",
                path.display()
            ))
            .hint("nothing was touched")),
            Found::Nothing => Ok(None),
        }
    }

    /// Whose it is, by what another host tells of it: the bytes of its record, and the names of what it holds.
    pub fn standing_elsewhere(&self, found: Option<&[u8]>, names: &[String]) -> Result<Standing> {
        let found = found.map_or(Found::Nothing, |bytes| record::from_bytes(TARGET, bytes));
        match self.whose(found)? {
            Some(standing) => Ok(standing),
            None => self.free_of(names),
        }
    }

    /// Whether a folder without a record holds nothing that anybody would miss.
    fn free(&self) -> Result<Standing> {
        let failed = || format!("the target `{}` cannot be listed", self.root.display());
        let entries = std::fs::read_dir(&self.root).unable(failed)?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.unable(failed)?.file_name().to_string_lossy().into_owned());
        }
        self.free_of(&names)
    }

    fn free_of(&self, names: &[String]) -> Result<Standing> {
        // What a run leaves that ended before it had made the folder ours.
        let is_ours = |name: &String| {
            [LOCK, PROGRAMS, INCOMING].contains(&name.as_str())
                || name.starts_with("target.") && name.ends_with(".new")
        };
        match names.iter().find(|name| !is_ours(name)) {
            None => Ok(Standing::Free),
            Some(name) => Err(Error::no(format!(
                "the target `{}` is not ours: it holds `{}` and no record of a deploy",
                self.root.display(),
                harmless(name, 80)
            ))
            .hint("name an empty folder, or one that is not there yet, as `deploy.to`")),
        }
    }

    /// Makes it ours, if it is not yet, and holds its lock until the answer is dropped.
    pub fn enter(&self, doing: &str, around: &Around<'_>) -> Result<Lock> {
        let is_new = self.standing()? == Standing::Free;
        let failed = || format!("the target `{}` cannot be written", self.root.display());
        if !may_write(&self.root) {
            return Err(Error::unable(failed()).hint("who deploys must be its owner"));
        }
        std::fs::create_dir_all(&self.root).unable(failed)?;
        let lock = self.lock(doing, around)?;
        if is_new {
            let layer = self.layer.clone();
            record::write(around.disk, &self.root.join(RECORD), TARGET, &Record { layer })
                .unable(failed)?;
        }
        for folder in [self.releases(), self.shared()] {
            std::fs::create_dir_all(&folder).unable(failed)?;
        }
        Ok(lock)
    }

    /// Who is at work in it now; nothing where nobody is. Nothing is written.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        // That this very process holds it is known to whoever asks.
        let own = format!(", pid {}", std::process::id());
        lock::holder_of(&self.root.join(LOCK)).filter(|holder| !holder.ends_with(&own))
    }

    /// Takes the lock. Nobody waits for a deploy: what it leaves is not what was looked at.
    fn lock(&self, doing: &str, around: &Around<'_>) -> Result<Lock> {
        let path = self.root.join(LOCK);
        let who = format!("{doing} by {}, pid {}", harmless(around.by, 40), std::process::id());
        let since = modified(&path);
        let mut holder = None;
        let taken =
            Lock::acquire(&path, &who, Duration::ZERO, |other| holder = Some(other.to_owned()));
        let Some(holder) = holder else { return taken };
        let age = since.map_or(String::new(), |since| {
            format!(", begun {}", ago(around.world.now_seconds(), since))
        });
        Err(Error::unable(format!(
            "another run is at work in `{}`: {holder}{age}",
            self.root.display()
        ))
        .hint("wait until it has ended and try again"))
    }
}

/// Whether this can be the name of a release, which becomes part of paths.
#[must_use]
pub fn is_release_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !name.is_empty() && name.len() <= 80 && name.chars().all(is_plain)
}

fn modified(path: &Path) -> Option<i64> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}
