//! Pull requests via `gh`, GitHub's command-line tool, which knows the login and the host.
//!
//! Each call has a time limit, never prompts, and gets its input from options alone. For example:
//!
//! ```text
//! gh pr list --repo github.com/ada/app --head fix --base main --state open --json number,url,…
//! ```

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::forge::ForgeProject;
use super::pull_request::{LABELS, PullRequest, update_body};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::process::{Program, ProgramOutput};
use xtask_git::Repo;

/// The time limit of one call: GitHub answers within seconds, or not at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The exit code of `gh` without a login.
const NOT_SIGNED_IN: i32 = 4;

/// An opened or updated pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredRequest {
    pub url: String,
    /// Whether the pull request was opened, not updated.
    pub is_new: bool,
    /// The steps that failed, e.g. "without the label `orchestration`".
    pub notes: Vec<String>,
}

/// A pull request as `gh pr list --json` prints it.
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

/// A comment as the API of the service returns it.
#[derive(Debug, Deserialize)]
struct IssueComment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
}

/// A client for the pull requests of one project.
pub struct GhClient<'a> {
    /// The repository in whose folder `gh` runs.
    pub repo: &'a Repo,
    /// The project that receives the pull requests.
    pub project: &'a ForgeProject,
    /// The project that has the branch, if different.
    pub fork: Option<&'a ForgeProject>,
}

/// Returns whether `gh` is on `PATH`.
#[must_use]
pub fn is_installed(world: &Environment) -> bool {
    world.find_program("gh").is_some()
}

impl GhClient<'_> {
    /// Opens the pull request for a branch, or updates the one that is open.
    pub fn create_or_update(&self, pull_request: &dyn PullRequest) -> Result<DeliveredRequest> {
        match self.find_open(pull_request.head(), Some(pull_request.base()))? {
            Some(present) => self.update_pull_request(&present, pull_request),
            None => self.create_pull_request(pull_request),
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

    /// Returns the open pull request of the branch `head`, into `base` if given.
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

    /// Creates or updates xtask's only comment on the open pull request of `branch`, found by the
    /// first line of `text`. Returns the URL of the pull request, or `None` if there is none, or if
    /// there is no comment yet and `may_begin` is `false`.
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
        // `gh api --paginate` prints one list per page, one after the other.
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

    /// Closes the open pull request of `head` into `base` with the comment `why`. Returns whether
    /// there was one.
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
        pull_request: &dyn PullRequest,
    ) -> Result<DeliveredRequest> {
        let (repository, number) = (self.repository_arg(), present.number.to_string());
        let title = pull_request.update_title(&present.title);
        let body = update_body(
            &pull_request.managed_section(),
            present.body.as_deref().unwrap_or_default(),
        );
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
            return Err(gh_error(&format!("update pull request {number}"), &edited));
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

    /// Creates a label that the project lacks, and runs `again` once more.
    fn create_label_and_retry(&self, label: &str, again: &[&str]) -> Result<bool> {
        self.create_label(label)?;
        Ok(self.run_gh(again)?.status.success())
    }

    fn create_label(&self, label: &str) -> Result<()> {
        let repository = self.repository_arg();
        let pull_request = "Changes to what all branches share";
        // An existing label or a missing permission shows when the label is used.
        self.run_gh(&[
            "label",
            "create",
            label,
            "--repo",
            &repository,
            "--description",
            pull_request,
        ])?;
        Ok(())
    }

    fn create_pull_request(&self, pull_request: &dyn PullRequest) -> Result<DeliveredRequest> {
        let (repository, title, body) =
            (self.repository_arg(), pull_request.title(), pull_request.body());
        let head = match self.fork {
            Some(fork) => format!("{}:{}", fork.owner(), pull_request.head()),
            None => pull_request.head().to_owned(),
        };
        let mut plain = vec!["pr", "create", "--repo", &repository];
        if pull_request.is_draft() {
            plain.push("--draft");
        }
        plain.extend([
            "--base",
            pull_request.base(),
            "--head",
            &head,
            "--title",
            &title,
            "--body",
            &body,
        ]);
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
            notes.push("without labels: no permission to create them".to_owned());
            made = self.run_gh(&plain)?;
        }
        if !made.status.success() {
            return Err(gh_error("open a pull request", &made));
        }
        let url = made.stdout.lines().rev().map(str::trim).find(|line| line.starts_with("http"));
        match url {
            Some(url) => Ok(DeliveredRequest { url: url.to_owned(), is_new: true, notes }),
            None => Err(Error::unable("`gh` printed no URL of the pull request")),
        }
    }
}

fn parse_list<T: DeserializeOwned>(output: &ProgramOutput) -> Result<T> {
    serde_json::from_str(&output.stdout).map_err(list_error)
}

fn list_error(cause: serde_json::Error) -> Error {
    Error::unable("unexpected output from `gh`: expected a list").with_cause(cause)
}

fn gh_error(what: &str, output: &ProgramOutput) -> Error {
    if output.status.code() == Some(NOT_SIGNED_IN) {
        return Error::unable("`gh` is not logged in").with_hint("`gh auth login` logs in");
    }
    let why =
        output.stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Error::unable(format!("`gh` could not {what}: {}", why.trim()))
}
