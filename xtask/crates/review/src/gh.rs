//! Pull requests through `gh`, GitHub's own program: it knows how to sign in, and to which host.
//!
//! Each call is bounded in time, asks nothing, and says what it is about by options alone.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::forge::ForgeProject;
use super::pull_request::{LABELS, PullRequest, update_body};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::process::{Program, ProgramOutput};
use xtask_git::Repo;

/// How long one call may take: GitHub answers within seconds, or not at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What `gh` ends with when nobody is signed in.
const NOT_SIGNED_IN: i32 = 4;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredRequest {
    /// The address of the request.
    pub url: String,
    /// Whether it is new.
    pub is_new: bool,
    /// What could not be done on the way.
    pub notes: Vec<String>,
}

/// A request as `gh pr list` tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedPullRequest {
    number: u64,
    url: String,
    title: String,
    #[serde(default)]
    body: Option<String>,
    head_repository_owner: Option<RepositoryOwner>,
}

#[derive(Debug, Deserialize)]
struct RepositoryOwner {
    login: String,
}

/// A comment as the service tells it.
#[derive(Debug, Deserialize)]
struct IssueComment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
}

/// Talks to `gh` about one project.
pub struct GhClient<'a> {
    /// The repository in whose folder it runs.
    pub repo: &'a Repo,
    /// The project that gets the requests.
    pub project: &'a ForgeProject,
    /// Where the branch is, if that is another project.
    pub fork: Option<&'a ForgeProject>,
}

/// Whether `gh` is installed.
#[must_use]
pub fn is_installed(world: &Environment) -> bool {
    world.find_program("gh").is_some()
}

impl GhClient<'_> {
    /// Makes the request for a branch, or brings the one that is open up to date.
    pub fn create_or_update(&self, about: &dyn PullRequest) -> Result<DeliveredRequest> {
        match self.find_open(about.head(), Some(about.base()))? {
            Some(present) => self.update_pull_request(&present, about),
            None => self.create_pull_request(about),
        }
    }

    fn run_gh(&self, args: &[&str]) -> Result<ProgramOutput> {
        Program::new("gh", self.repo.root())
            .args(args)
            .env("GH_PROMPT_DISABLED", "1")
            .env("GH_NO_UPDATE_NOTIFIER", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("NO_COLOR", "1")
            .run_with_timeout(CALL_TIMEOUT)
    }

    fn repository_arg(&self) -> String {
        format!("{}/{}", self.project.host, self.project.path)
    }

    /// The open request of a branch, into another if that is given.
    fn find_open(&self, head: &str, base: Option<&str>) -> Result<Option<ListedPullRequest>> {
        let repository = self.repository_arg();
        let mut args = vec!["pr", "list", "--repo", &repository, "--head", head];
        if let Some(base) = base {
            args.extend(["--base", base]);
        }
        let fields = "number,url,title,body,headRepositoryOwner";
        args.extend(["--state", "open", "--limit", "30", "--json", fields]);
        let listed = self.run_gh(&args)?;
        if !listed.status.success() {
            return Err(gh_error("list the open pull requests", &listed));
        }
        let listed: Vec<ListedPullRequest> = parse_list(&listed)?;
        let owner = self.fork.unwrap_or(self.project).owner();
        Ok(listed.into_iter().find(|one| {
            one.head_repository_owner
                .as_ref()
                .is_some_and(|found| found.login.eq_ignore_ascii_case(owner))
        }))
    }

    /// Puts our one comment on the open pull request of a branch, or renews it. Answers with the
    /// address of the request; nothing where there is none, or where there is no comment yet and
    /// none is to be begun.
    pub fn upsert_comment(
        &self,
        branch: &str,
        text: &str,
        may_begin: bool,
    ) -> Result<Option<String>> {
        let Some(request) = self.find_open(branch, None)? else { return Ok(None) };
        let number = request.number.to_string();
        let mark = text.lines().next().unwrap_or_default();
        let list = format!("repos/{}/issues/{number}/comments?per_page=100", self.project.path);
        let host = &self.project.host;
        let listed = self.run_gh(&["api", "--hostname", host, "--paginate", &list])?;
        if !listed.status.success() {
            return Err(gh_error("list the comments", &listed));
        }
        // Several pages are several lists, one after the other.
        let pages =
            serde_json::Deserializer::from_str(&listed.stdout).into_iter::<Vec<IssueComment>>();
        let pages: std::result::Result<Vec<_>, _> = pages.collect();
        let ours = pages.map_err(list_error)?.into_iter().flatten().find(|one| {
            one.body.as_deref().is_some_and(|body| body.lines().next().map(str::trim) == Some(mark))
        });
        let body = format!("body={text}");
        let said = match ours {
            Some(one) if one.body.as_deref().map(str::trim) == Some(text.trim()) => {
                return Ok(Some(request.url));
            }
            Some(one) => {
                let at = format!("repos/{}/issues/comments/{}", self.project.path, one.id);
                self.run_gh(&[
                    "api",
                    "--hostname",
                    host,
                    "--method",
                    "PATCH",
                    &at,
                    "--raw-field",
                    &body,
                ])?
            }
            None if !may_begin => return Ok(None),
            None => {
                let at = format!("repos/{}/issues/{number}/comments", self.project.path);
                self.run_gh(&[
                    "api",
                    "--hostname",
                    host,
                    "--method",
                    "POST",
                    &at,
                    "--raw-field",
                    &body,
                ])?
            }
        };
        if said.status.success() { Ok(Some(request.url)) } else { Err(gh_error("comment", &said)) }
    }

    /// Closes the open pull request of a branch, and says why. Says whether there was one.
    pub fn close_pull_request(&self, head: &str, base: &str, why: &str) -> Result<bool> {
        let Some(request) = self.find_open(head, Some(base))? else { return Ok(false) };
        let (repository, number) = (self.repository_arg(), request.number.to_string());
        let closed =
            self.run_gh(&["pr", "close", &number, "--repo", &repository, "--comment", why])?;
        if closed.status.success() {
            Ok(true)
        } else {
            Err(gh_error("close a pull request", &closed))
        }
    }

    fn update_pull_request(
        &self,
        present: &ListedPullRequest,
        about: &dyn PullRequest,
    ) -> Result<DeliveredRequest> {
        let (repository, number) = (self.repository_arg(), present.number.to_string());
        let title = about.update_title(&present.title);
        let body =
            update_body(&about.managed_section(), present.body.as_deref().unwrap_or_default());
        let edited = self.run_gh(&[
            "pr",
            "edit",
            &number,
            "--repo",
            &repository,
            "--title",
            &title,
            "--body",
            &body,
        ])?;
        if !edited.status.success() {
            return Err(gh_error(&format!("bring pull request {number} up to date"), &edited));
        }
        let mut notes = Vec::new();
        for label in LABELS {
            let args = ["pr", "edit", &number, "--repo", &repository, "--add-label", label];
            if !self.run_gh(&args)?.status.success()
                && !self.create_label_and_retry(label, &args)?
            {
                notes.push(format!("without the label `{label}`"));
            }
        }
        Ok(DeliveredRequest { url: present.url.clone(), is_new: false, notes })
    }

    /// Makes a label that the project does not have, and tries again.
    fn create_label_and_retry(&self, label: &str, again: &[&str]) -> Result<bool> {
        self.create_label(label)?;
        Ok(self.run_gh(again)?.status.success())
    }

    fn create_label(&self, label: &str) -> Result<()> {
        let repository = self.repository_arg();
        let about = "Changes to what all branches share";
        // That it exists already, or may not be made, shows when it is used.
        self.run_gh(&["label", "create", label, "--repo", &repository, "--description", about])?;
        Ok(())
    }

    fn create_pull_request(&self, about: &dyn PullRequest) -> Result<DeliveredRequest> {
        let (repository, title, body) = (self.repository_arg(), about.title(), about.body());
        let head = match self.fork {
            Some(fork) => format!("{}:{}", fork.owner(), about.head()),
            None => about.head().to_owned(),
        };
        let mut plain = vec!["pr", "create", "--repo", &repository];
        if about.is_draft() {
            plain.push("--draft");
        }
        plain.extend(["--base", about.base(), "--head", &head, "--title", &title, "--body", &body]);
        let labelled: Vec<&str> = plain
            .iter()
            .copied()
            .chain(LABELS.iter().flat_map(|label| ["--label", *label]))
            .collect();
        let mut made = self.run_gh(&labelled)?;
        let is_about_labels = |made: &ProgramOutput| {
            !made.status.success() && made.stderr.to_lowercase().contains("label")
        };
        let mut notes = Vec::new();
        if is_about_labels(&made) {
            for label in LABELS {
                self.create_label(label)?;
            }
            made = self.run_gh(&labelled)?;
        }
        if is_about_labels(&made) {
            notes.push("without labels, which may not be made there".to_owned());
            made = self.run_gh(&plain)?;
        }
        if !made.status.success() {
            return Err(gh_error("open a pull request", &made));
        }
        let url = made.stdout.lines().rev().map(str::trim).find(|line| line.starts_with("http"));
        match url {
            Some(url) => Ok(DeliveredRequest { url: url.to_owned(), is_new: true, notes }),
            None => Err(Error::unable("`gh` has not said where the pull request is")),
        }
    }
}

fn parse_list<T: DeserializeOwned>(output: &ProgramOutput) -> Result<T> {
    serde_json::from_str(&output.stdout).map_err(list_error)
}

fn list_error(cause: serde_json::Error) -> Error {
    Error::unable("`gh` has answered with something else than a list").with_cause(cause)
}

fn gh_error(what: &str, output: &ProgramOutput) -> Error {
    if output.status.code() == Some(NOT_SIGNED_IN) {
        return Error::unable("`gh` is not signed in").with_hint("`gh auth login` signs in");
    }
    let why =
        output.stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Error::unable(format!("`gh` could not {what}: {}", why.trim()))
}
