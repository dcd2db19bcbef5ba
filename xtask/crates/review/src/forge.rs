//! Detection of the service behind a remote (GitHub, GitLab or Bitbucket), and the URLs of its
//! pages for new pull requests. For example, the branch `fix` at `git@github.com:ada/app.git` has:
//!
//! ```text
//! https://github.com/ada/app/compare/main...fix?expand=1&template=orchestration-pr.md
//! ```

use xtask_config::Forge;
use xtask_git::RemoteUrl;

/// The file name of the template for pull requests.
const TEMPLATE: &str = "orchestration-pr.md";

/// A repository on a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeProject {
    pub forge: Forge,
    /// The host as in a browser, with its port if it has its own, e.g. `git.example.org:8443`.
    pub host: String,
    /// The path of the repository on the host, e.g. `ada/app`.
    pub path: String,
}

/// Returns the project behind `url`, or `None` if neither the host nor `configured` reveals the
/// forge, or the path is not that of a repository.
#[must_use]
pub fn parse_project(url: &RemoteUrl, configured: Option<Forge>) -> Option<ForgeProject> {
    // SSH over the HTTPS port uses other host names.
    let host = match url.host.as_str() {
        "ssh.github.com" => "github.com",
        "altssh.gitlab.com" => "gitlab.com",
        "altssh.bitbucket.org" => "bitbucket.org",
        host => host,
    };
    let named =
        [("github", Forge::GitHub), ("gitlab", Forge::GitLab), ("bitbucket", Forge::Bitbucket)];
    let forge = configured.or_else(|| {
        let found = named.iter().find(|(name, _)| host.split('.').any(|part| part == *name));
        found.map(|(_, forge)| *forge)
    })?;
    let mut path = url.path.as_str();
    if forge == Forge::Bitbucket && host != "bitbucket.org" {
        // Bitbucket Server has its repositories below `scm/` for HTTPS.
        path = path.strip_prefix("scm/").unwrap_or(path);
    }
    // A repository has one owner; only GitLab nests groups.
    let parts = path.split('/').filter(|part| !part.is_empty()).count();
    let is_sound = if forge == Forge::GitLab { parts >= 2 } else { parts == 2 };
    let host = match url.port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    is_sound.then(|| ForgeProject { forge, host, path: path.to_owned() })
}

impl ForgeProject {
    /// Returns the owner: the first component of `path`.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// Returns the URL of the page that opens a pull request of `head` into `base`. `fork` is the
    /// project of `head`, if different.
    #[must_use]
    pub fn compare_url(&self, base: &str, head: &str, fork: Option<&ForgeProject>) -> String {
        let ForgeProject { host, path, .. } = self;
        let path = percent_encode(path, "/");
        let at = fork.unwrap_or(self);
        match self.forge {
            Forge::GitHub => {
                let owner = fork.map_or(String::new(), |fork| format!("{}:", fork.owner()));
                format!(
                    "https://{host}/{path}/compare/{}...{owner}{}?expand=1&template={TEMPLATE}",
                    percent_encode(base, "/"),
                    percent_encode(head, "/")
                )
            }
            Forge::GitLab => format!(
                "https://{host}/{}/-/merge_requests/new?merge_request%5Bsource_branch%5D={}\
                 &merge_request%5Btarget_branch%5D={}&template={TEMPLATE}",
                percent_encode(&at.path, "/"),
                percent_encode(head, ""),
                percent_encode(base, "")
            ),
            Forge::Bitbucket if host == "bitbucket.org" => format!(
                "https://{host}/{}/pull-requests/new?source={}&dest={}&template={TEMPLATE}",
                percent_encode(&at.path, "/"),
                percent_encode(head, ""),
                percent_encode(&format!("{path}:{base}"), "")
            ),
            Forge::Bitbucket => {
                let (owner, name) = at.path.split_once('/').unwrap_or(("", &at.path));
                let place = match owner.strip_prefix('~') {
                    Some(user) => format!("users/{}", percent_encode(user, "")),
                    None => format!("projects/{}", percent_encode(owner, "")),
                };
                format!(
                    "https://{host}/{place}/repos/{}/pull-requests?create&sourceBranch={}\
                     &targetBranch={}&template={TEMPLATE}",
                    percent_encode(name, ""),
                    percent_encode(&format!("refs/heads/{head}"), ""),
                    percent_encode(&format!("refs/heads/{base}"), "")
                )
            }
        }
    }
}

/// Percent-encodes a part of a URL, except letters, digits, `-._~` and the characters in `kept`.
fn percent_encode(text: &str, kept: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte if kept.as_bytes().contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, port: Option<u16>, path: &str) -> RemoteUrl {
        RemoteUrl { host: host.to_owned(), port, path: path.to_owned() }
    }

    fn compare(host: &str, path: &str) -> String {
        let project = parse_project(&url(host, None, path), None).unwrap();
        project.compare_url("orchestration-tools", "feature/a#1", None)
    }

    #[test]
    fn every_service_has_its_page() {
        assert_eq!(
            compare("github.com", "owner/repo"),
            "https://github.com/owner/repo/compare/orchestration-tools...feature/a%231?expand=1\
             &template=orchestration-pr.md"
        );
        assert_eq!(
            compare("gitlab.com", "group/sub/repo"),
            "https://gitlab.com/group/sub/repo/-/merge_requests/new?\
             merge_request%5Bsource_branch%5D=feature%2Fa%231\
             &merge_request%5Btarget_branch%5D=orchestration-tools&template=orchestration-pr.md"
        );
        assert_eq!(
            compare("bitbucket.org", "team/repo"),
            "https://bitbucket.org/team/repo/pull-requests/new?source=feature%2Fa%231\
             &dest=team%2Frepo%3Aorchestration-tools&template=orchestration-pr.md"
        );
        assert_eq!(
            compare("bitbucket.example.com", "scm/PRJ/repo"),
            "https://bitbucket.example.com/projects/PRJ/repos/repo/pull-requests?create\
             &sourceBranch=refs%2Fheads%2Ffeature%2Fa%231\
             &targetBranch=refs%2Fheads%2Forchestration-tools&template=orchestration-pr.md"
        );
    }

    #[test]
    fn a_fork_is_named_by_its_owner() {
        let of = |path| parse_project(&url("github.com", None, path), None).unwrap();
        let (up, fork) = (of("up/repo"), of("me/repo"));
        assert!(up.compare_url("b", "h", Some(&fork)).contains("up/repo/compare/b...me:h?"));
    }

    #[test]
    fn the_service_is_known_by_the_host_or_the_configuration() {
        let known = |host: &str, path: &str, set| parse_project(&url(host, None, path), set);
        assert_eq!(known("github.example.com", "a/b", None).unwrap().forge, Forge::GitHub);
        assert_eq!(known("ssh.github.com", "a/b", None).unwrap().host, "github.com");
        assert_eq!(known("git.example.com", "a/b", None), None);
        let set = Some(Forge::GitLab);
        assert_eq!(known("git.example.com", "a/b/c", set).unwrap().forge, Forge::GitLab);
        assert_eq!(known("notgithub.com", "a/b", None), None);
        assert_eq!(known("github.com", "alone", None), None);
        let with_port = parse_project(&url("github.example.com", Some(8443), "a/b"), None).unwrap();
        assert_eq!(with_port.host, "github.example.com:8443");
    }
}
