//! Where git looks for hooks, and who said so.

use std::path::{Path, PathBuf};

use gix::config::Source;

use super::Repo;
use xtask_base::error::{Error, Result};

/// Who names the folder of the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HooksPathScope {
    /// Nobody: it is `hooks` in the common git folder.
    Default,
    /// The configuration of this repository, or of this worktree alone.
    Repository,
    /// The configuration of the user, for all repositories.
    User,
    /// The configuration of the machine.
    System,
    /// The command line or the environment of this very run.
    Command,
}

impl HooksPathScope {
    /// As git calls it.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            HooksPathScope::Default => "default",
            HooksPathScope::Repository => "this repository's configuration",
            HooksPathScope::User => "the global configuration",
            HooksPathScope::System => "the system's configuration",
            HooksPathScope::Command => "the environment",
        }
    }
}

/// The folder in which git looks for hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HooksFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Who says so.
    pub scope: HooksPathScope,
}

impl Repo {
    /// The folder in which git looks for the hooks of this worktree: `core.hooksPath` of whatever
    /// scope, from the root of the worktree, or else `hooks` in the common git folder.
    pub fn hooks_folder(&self) -> Result<HooksFolder> {
        let snapshot = self.git.config_snapshot();
        let sections = snapshot.plumbing().sections_by_name("core");
        let named = sections.into_iter().flatten().filter(|core| core.value("hooksPath").is_some());
        let Some(last) = named.last() else {
            let path = self.common_folder().join("hooks");
            return Ok(HooksFolder { path, scope: HooksPathScope::Default });
        };
        let named_by = match last.meta().source {
            Source::GitInstallation | Source::System => HooksPathScope::System,
            Source::Git | Source::User => HooksPathScope::User,
            Source::Local | Source::Worktree => HooksPathScope::Repository,
            _ => HooksPathScope::Command,
        };
        // The path as git reads it, with `~` in place.
        let path = snapshot.trusted_path("core.hooksPath");
        let path = path.map_err(|cause| {
            Error::usage("`core.hooksPath` is not a path that can be read").with_cause(cause)
        })?;
        // Of an empty one git makes `/pre-commit`.
        let path = path.as_deref().filter(|path| !path.as_os_str().is_empty());
        let path: &Path = path.unwrap_or(Path::new("/"));
        Ok(HooksFolder { path: self.root().join(path), scope: named_by })
    }
}
