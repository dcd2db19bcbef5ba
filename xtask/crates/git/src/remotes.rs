//! Remotes: where a branch is pushed, and where that is.

use gix::remote::Direction;
use gix::url::Scheme;

use super::Repo;

/// The address of a remote, taken apart. It holds no password, so it can be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteUrl {
    /// The host, in lower case.
    pub host: String,
    /// The port, where it is one of http.
    pub port: Option<u16>,
    /// The path on the host, without slashes around it and without `.git`.
    pub path: String,
}

impl Repo {
    /// The address to which a remote of this name, or a bare address, is pushed: after the rewrites
    /// that git's configuration asks for. Nothing where it does not lead to another host.
    #[must_use]
    pub fn push_url(&self, remote: &str) -> Option<RemoteUrl> {
        self.remote_url(remote, Direction::Push)
    }

    /// The address from which a remote of this name is fetched, in the same way.
    #[must_use]
    pub fn fetch_url(&self, remote: &str) -> Option<RemoteUrl> {
        self.remote_url(remote, Direction::Fetch)
    }

    /// When a branch of a remote was last looked at there, in seconds since the epoch, as far as git has
    /// written that down: in the note of its last fetch, or where the remote-tracking ref was moved.
    #[must_use]
    pub fn last_fetch_time(&self, remote: &str, branch: &str) -> Option<i64> {
        // A clone writes no reflog but that of the remote's HEAD.
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

    /// The remote to which git pushes a branch by itself.
    #[must_use]
    pub fn push_remote(&self, branch: &str) -> Option<String> {
        self.config_value(&format!("branch.{branch}.pushRemote"))
            .or_else(|| self.config_value("remote.pushDefault"))
            .or_else(|| self.config_value(&format!("branch.{branch}.remote")))
            .filter(|remote| remote != ".")
    }
}
