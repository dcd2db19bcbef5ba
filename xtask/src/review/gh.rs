//! Pull requests through `gh`, GitHub's own program: it knows how to sign in, and to which host.
//!
//! Each call is bounded in time, asks nothing, and says what it is about by options alone.

use std::time::Duration;

use serde::Deserialize;

use super::forge::Project;
use super::request::{About, LABELS};
use crate::base::error::{Error, Result};
use crate::base::process::{Output, Program};
use crate::base::world::World;
use crate::repo::Repo;

/// How long one call may take: GitHub answers within seconds, or not at all.
const CALL: Duration = Duration::from_secs(30);

/// What `gh` ends with when nobody is signed in.
const NOT_SIGNED_IN: i32 = 4;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
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
struct Listed {
    number: u64,
    url: String,
    title: String,
    #[serde(default)]
    body: Option<String>,
    head_repository_owner: Option<Owner>,
}

#[derive(Debug, Deserialize)]
struct Owner {
    login: String,
}

/// Talks to `gh` about one project.
pub struct Gh<'a> {
    /// The repository in whose folder it runs.
    pub repo: &'a Repo,
    /// The project that gets the requests.
    pub project: &'a Project,
    /// Where the branch is, if that is another project.
    pub fork: Option<&'a Project>,
}

/// Whether `gh` is installed.
#[must_use]
pub fn is_installed(world: &World) -> bool {
    world.finds("gh").is_some()
}

impl Gh<'_> {
    /// Makes the request for a branch, or brings the one that is open up to date.
    pub fn deliver(&self, about: &About) -> Result<Delivered> {
        match self.open_one(about)? {
            Some(present) => self.update(&present, about),
            None => self.create(about),
        }
    }

    fn call(&self, args: &[&str]) -> Result<Output> {
        Program::new("gh", self.repo.root())
            .args(args)
            .variable("GH_PROMPT_DISABLED", "1")
            .variable("GH_NO_UPDATE_NOTIFIER", "1")
            .variable("GIT_TERMINAL_PROMPT", "0")
            .variable("NO_COLOR", "1")
            .run_within(CALL)
    }

    fn repository(&self) -> String {
        format!("{}/{}", self.project.host, self.project.path)
    }

    /// The open request of the branch into the canonical one.
    fn open_one(&self, about: &About) -> Result<Option<Listed>> {
        let repository = self.repository();
        let fields = "number,url,title,body,headRepositoryOwner";
        let listed = self.call(&[
            "pr",
            "list",
            "--repo",
            &repository,
            "--head",
            &about.branch,
            "--base",
            &about.canonical,
            "--state",
            "open",
            "--limit",
            "30",
            "--json",
            fields,
        ])?;
        if !listed.status.success() {
            return Err(failed("list the open pull requests", &listed));
        }
        let listed: Vec<Listed> = serde_json::from_str(&listed.stdout).map_err(|cause| {
            Error::unable("`gh` has answered with something else than a list").because(cause)
        })?;
        let owner = self.fork.unwrap_or(self.project).owner();
        Ok(listed.into_iter().find(|one| {
            one.head_repository_owner
                .as_ref()
                .is_some_and(|found| found.login.eq_ignore_ascii_case(owner))
        }))
    }

    fn update(&self, present: &Listed, about: &About) -> Result<Delivered> {
        let (repository, number) = (self.repository(), present.number.to_string());
        let title = about.renewed_title(&present.title);
        let body = about.renewed_body(present.body.as_deref().unwrap_or_default());
        let edited = self.call(&[
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
            return Err(failed(&format!("bring pull request {number} up to date"), &edited));
        }
        let mut notes = Vec::new();
        for label in LABELS {
            let args = ["pr", "edit", &number, "--repo", &repository, "--add-label", label];
            if !self.call(&args)?.status.success() && !self.make_label(label, &args)? {
                notes.push(format!("without the label `{label}`"));
            }
        }
        Ok(Delivered { url: present.url.clone(), is_new: false, notes })
    }

    /// Makes a label that the project does not have, and tries again.
    fn make_label(&self, label: &str, again: &[&str]) -> Result<bool> {
        self.label(label)?;
        Ok(self.call(again)?.status.success())
    }

    fn label(&self, label: &str) -> Result<()> {
        let repository = self.repository();
        let about = "Changes to what all branches share";
        // That it exists already, or may not be made, shows when it is used.
        self.call(&["label", "create", label, "--repo", &repository, "--description", about])?;
        Ok(())
    }

    fn create(&self, about: &About) -> Result<Delivered> {
        let (repository, title, body) = (self.repository(), about.title(), about.body());
        let head = match self.fork {
            Some(fork) => format!("{}:{}", fork.owner(), about.branch),
            None => about.branch.clone(),
        };
        let plain = [
            "pr",
            "create",
            "--repo",
            &repository,
            "--draft",
            "--base",
            &about.canonical,
            "--head",
            &head,
            "--title",
            &title,
            "--body",
            &body,
        ];
        let labelled: Vec<&str> =
            plain.into_iter().chain(LABELS.iter().flat_map(|label| ["--label", *label])).collect();
        let mut made = self.call(&labelled)?;
        let is_about_labels =
            |made: &Output| !made.status.success() && made.stderr.to_lowercase().contains("label");
        let mut notes = Vec::new();
        if is_about_labels(&made) {
            for label in LABELS {
                self.label(label)?;
            }
            made = self.call(&labelled)?;
        }
        if is_about_labels(&made) {
            notes.push("without labels, which may not be made there".to_owned());
            made = self.call(&plain)?;
        }
        if !made.status.success() {
            return Err(failed("open a draft pull request", &made));
        }
        let url = made.stdout.lines().rev().map(str::trim).find(|line| line.starts_with("http"));
        match url {
            Some(url) => Ok(Delivered { url: url.to_owned(), is_new: true, notes }),
            None => Err(Error::unable("`gh` has not said where the pull request is")),
        }
    }
}

fn failed(what: &str, output: &Output) -> Error {
    if output.status.code() == Some(NOT_SIGNED_IN) {
        return Error::unable("`gh` is not signed in").hint("`gh auth login` signs in");
    }
    let why =
        output.stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Error::unable(format!("`gh` could not {what}: {}", why.trim()))
}
