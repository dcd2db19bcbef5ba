//! Source repositories of managed files: cloning one into a folder of its own, and its public URL.
//!
//! ```text
//! public_url("https://ada:secret@example.invalid/tools.git") -> "https://example.invalid/tools.git"
//! ```

use std::path::Path;
use std::time::Duration;

use gix::url::Scheme;

use super::{GIT, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::process::Program;

/// Timeout of a clone: ten minutes, for a slow line.
const CLONE_TIMEOUT: Duration = Duration::from_secs(600);

impl Repo {
    /// Clones a repository into a new folder, with full history and no checkout: none of its files
    /// is written, none of its programs runs.
    pub fn clone_no_checkout(address: &str, folder: &Path) -> Result<Repo> {
        let failed = || Error::unable(format!("cannot clone `{address}`"));
        let above = folder.parent().ok_or_else(failed)?;
        let Some(place) = folder.to_str() else {
            return Err(failed().with_detail(format!("`{}` is not UTF-8", folder.display())));
        };
        let cloned = Program::new(GIT, above)
            .args(["clone", "--quiet", "--no-checkout", "--template=", "--", address, place])
            .env("GIT_TERMINAL_PROMPT", "0")
            .run_with_timeout(CLONE_TIMEOUT)?;
        if !cloned.status.success() {
            return Err(failed().with_detail(cloned.stderr).with_hint(
                "`--from` names a folder with a checkout of the toolkit, or its address",
            ));
        }
        Repo::discover(folder)
    }

    /// Returns the names of the remotes, sorted.
    #[must_use]
    pub fn remote_names(&self) -> Vec<String> {
        self.git.remote_names().into_iter().map(|name| name.to_string()).collect()
    }

    /// Returns the default branch: the target of `origin/HEAD`, else `main` or `master`, else the
    /// checked-out branch.
    #[must_use]
    pub fn default_branch(&self) -> String {
        let head = self.find_ref("refs/remotes/origin/HEAD").ok().flatten();
        let named = head.and_then(|head| {
            Some(head.symbolic_target?.strip_prefix("refs/remotes/origin/")?.to_owned())
        });
        let usual = || {
            ["main", "master"].into_iter().find(|name| {
                self.resolve_ref(&format!("refs/heads/{name}")).is_ok_and(|found| found.is_some())
            })
        };
        named
            .or_else(|| usual().map(str::to_owned))
            .or_else(|| self.current_branch())
            .unwrap_or_else(|| "main".to_owned())
    }

    /// Returns the URL of a remote, or a bare URL, for publication: without password, and only with
    /// a host.
    #[must_use]
    pub fn public_url(&self, remote: &str) -> Option<String> {
        let address = if self.has_remote(remote) {
            self.config_value(&format!("remote.{remote}.url"))?
        } else {
            remote.to_owned()
        };
        let mut url = gix::url::parse(gix::bstr::BStr::new(&address)).ok()?;
        match url.scheme {
            Scheme::Http | Scheme::Https => {
                url.set_user(None);
            }
            Scheme::Ssh | Scheme::Git => {}
            _ => return None,
        }
        url.set_password(None);
        url.host()?;
        String::from_utf8(url.to_bstring().to_vec()).ok()
    }
}
