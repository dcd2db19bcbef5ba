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
        self.url(remote, Direction::Push)
    }

    /// The address from which a remote of this name is fetched, in the same way.
    #[must_use]
    pub fn fetch_url(&self, remote: &str) -> Option<RemoteUrl> {
        self.url(remote, Direction::Fetch)
    }

    fn url(&self, remote: &str, direction: Direction) -> Option<RemoteUrl> {
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
        self.setting(&format!("branch.{branch}.pushRemote"))
            .or_else(|| self.setting("remote.pushDefault"))
            .or_else(|| self.setting(&format!("branch.{branch}.remote")))
            .filter(|remote| remote != ".")
    }
}
