//! Remotes: their parsed URLs, the remote that a branch is pushed to, and the time of the last
//! fetch.
//!
//! ```text
//! "git@example.invalid:ada/tools.git"
//! -> RemoteUrl { host: "example.invalid", port: None, path: "ada/tools" }
//! ```

use gix::remote::Direction;
use gix::url::Scheme;

use super::Repo;

/// A parsed remote URL. It has no password, so that it can be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteUrl {
    /// The host, in lower case.
    pub host: String,
    /// The port of an http or https URL.
    pub port: Option<u16>,
    /// The path without leading and trailing slashes and without `.git`.
    pub path: String,
}

impl Repo {
    /// Returns the push URL of a remote or bare URL, after the rewrites of git's configuration
    /// (`url.….pushInsteadOf`); `None` if it names no host.
    #[must_use]
    pub fn push_url(&self, remote: &str) -> Option<RemoteUrl> {
        self.remote_url(remote, Direction::Push)
    }

    /// Returns the fetch URL of a remote in the same way.
    #[must_use]
    pub fn fetch_url(&self, remote: &str) -> Option<RemoteUrl> {
        self.remote_url(remote, Direction::Fetch)
    }

    /// Returns the time of the last fetch of a remote's branch, in seconds since the epoch, by
    /// `FETCH_HEAD` and the reflog of the remote-tracking ref; `None` if unknown.
    #[must_use]
    pub fn last_fetch_time(&self, remote: &str, branch: &str) -> Option<i64> {
        // A clone writes a reflog only for the remote's HEAD.
        let refs = [branch, "HEAD"].map(|name| format!("refs/remotes/{remote}/{name}"));
        let moved = refs.iter().filter_map(|name| self.reflog(name).last().map(|(_, at)| *at));
        let line = format!("branch '{branch}' of ");
        let noted = [self.git_folder(), self.common_folder()].into_iter().filter_map(|folder| {
            let file = folder.join("FETCH_HEAD");
            let text = std::fs::read(&file).ok()?;
            String::from_utf8_lossy(&text).contains(&line).then_some(())?;
            let modified = file.metadata().ok()?.modified().ok()?;
            let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
            i64::try_from(since.as_secs()).ok()
        });
        moved.chain(noted).max()
    }

    fn remote_url(&self, remote: &str, direction: Direction) -> Option<RemoteUrl> {
        let is_known = self.has_remote(remote);
        let found = if is_known {
            self.git.find_remote(remote).ok()?
        } else {
            self.git.remote_at(remote).ok()?
        };
        let url = found.url(direction)?;
        let port = match url.scheme {
            Scheme::Http | Scheme::Https => url.port,
            Scheme::Ssh | Scheme::Git => None,
            _ => return None,
        };
        let path = String::from_utf8(url.path.to_vec()).ok()?;
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_matches('/').to_owned();
        let host = url.host()?.to_ascii_lowercase();
        (!host.is_empty() && !path.is_empty()).then_some(RemoteUrl { host, port, path })
    }

    /// Returns the remote that git pushes a branch to by default.
    #[must_use]
    pub fn push_remote(&self, branch: &str) -> Option<String> {
        self.config_value(&format!("branch.{branch}.pushRemote"))
            .or_else(|| self.config_value("remote.pushDefault"))
            .or_else(|| self.config_value(&format!("branch.{branch}.remote")))
            .filter(|remote| remote != ".")
    }
}
