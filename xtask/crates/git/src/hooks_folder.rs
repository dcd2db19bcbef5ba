//! The folder in which git looks for hooks, and the scope of the setting that selects it.
//!
//! ```text
//! core.hooksPath=.githooks in .git/config -> HooksFolder { path: "/work/app/.githooks", scope: Repository }
//! ```

use std::path::{Path, PathBuf};

use gix::config::Source;

use super::Repo;
use xtask_base::error::{Error, Result};

/// The scope of `core.hooksPath`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HooksPathScope {
    /// Unset: `hooks` in the common git folder.
    Default,
    /// The configuration of the repository or of this worktree.
    Repository,
    /// The global configuration of the user.
    User,
    /// The system configuration.
    System,
    /// The command line (`-c`) or the environment of this run.
    Command,
}

impl HooksPathScope {
    /// Returns the name of the scope for messages.
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
    pub path: PathBuf,
    pub scope: HooksPathScope,
}

impl Repo {
    /// Returns the hooks folder of this worktree: `core.hooksPath` of any scope, relative to the
    /// root of the worktree, else `hooks` in the common git folder.
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
        // Interpolates `~`, as git does.
        let path = snapshot.trusted_path("core.hooksPath");
        let path = path
            .map_err(|cause| Error::usage("invalid path in `core.hooksPath`").with_cause(cause))?;
        // With an empty value, git runs `/pre-commit`.
        let path = path.as_deref().filter(|path| !path.as_os_str().is_empty());
        let path: &Path = path.unwrap_or(Path::new("/"));
        Ok(HooksFolder { path: self.root().join(path), scope: named_by })
    }
}
