//! Partial clones (`git clone --filter`): fetching missing objects from their promisor remotes.
//!
//! Blobs are fetched only for commands that write (`allow_fetch`), and all blobs of a step in one
//! request. Trees are fetched for dry runs too: if one is missing, those of all branch tips are
//! fetched along with it.
//!
//! ```text
//! git fetch origin --filter=blob:none --no-tags --stdin   <- one object id per line
//! ```

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::words::{join_names, pluralize};

/// Timeout of a request: ten minutes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// The most names in a message.
const MAX_NAMES_SHOWN: usize = 5;

/// Promisor remotes, and whether blobs may be fetched.
#[derive(Clone, Default)]
pub(super) struct PromisorState {
    promisor_remotes: Rc<OnceCell<Vec<String>>>,
    may_fetch: Rc<Cell<bool>>,
    has_fetched_trees: Rc<Cell<bool>>,
}

impl Repo {
    /// Returns whether this is a partial clone.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.promisor_remotes().is_empty()
    }

    /// Returns the remotes with `promisor` or `partialclonefilter` set, and
    /// `extensions.partialClone`.
    fn promisor_remotes(&self) -> &[String] {
        self.promises.promisor_remotes.get_or_init(|| {
            let has_promised = |name: &String| {
                self.config_bool(&format!("remote.{name}.promisor"), false)
                    || self.config_value(&format!("remote.{name}.partialclonefilter")).is_some()
            };
            let mut all: Vec<String> =
                self.remote_names().into_iter().filter(has_promised).collect();
            all.extend(
                self.config_value("extensions.partialClone").filter(|name| !all.contains(name)),
            );
            all
        })
    }

    /// Allows fetching of blobs from now on, for commands that write.
    pub fn allow_fetch(&self) {
        self.promises.may_fetch.set(true);
    }

    /// Returns whether blobs may be fetched.
    #[must_use]
    pub fn may_fetch(&self) -> bool {
        self.promises.may_fetch.get()
    }

    /// Fetches the missing ones of `wanted`, each an id with its name for messages. Has no effect
    /// in a complete clone.
    pub fn fetch_objects(&self, wanted: impl IntoIterator<Item = (Id, String)>) -> Result<()> {
        if !self.is_partial() {
            return Ok(());
        }
        let mut ids = BTreeSet::new();
        let mut names = Vec::new();
        for (id, name) in wanted {
            if !self.has_object(id) && ids.insert(id) {
                names.push(name);
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        if !self.may_fetch() {
            return Err(missing_objects_error(&names)
                .with_detail("read-only commands do not fetch missing objects")
                .with_hint("commands that write do, e.g. `cargo xtask sync`")
                .with_hint("`git show COMMIT:PATH` fetches one file"));
        }
        self.fetch_from_promisors(&ids, &names)
    }

    /// Fetches the missing trees of `ids`, with all subfolders.
    pub(super) fn fetch_trees(&self, ids: impl IntoIterator<Item = Id>) -> Result<()> {
        let ids: BTreeSet<Id> = ids.into_iter().filter(|id| !self.has_object(*id)).collect();
        if ids.is_empty() || !self.is_partial() {
            return Ok(());
        }
        let names: Vec<String> =
            ids.iter().map(|id| format!("the folder {}", self.short_id(*id))).collect();
        self.fetch_from_promisors(&ids, &names)
    }

    /// Reads a tree, fetching it if missing.
    pub(super) fn tree_object(&self, id: Id) -> Result<gix::Tree<'_>> {
        let found = self.git.find_tree(id);
        if found.is_ok() || !self.is_partial() || self.has_object(id) {
            return found.map_err(|cause| self.unreadable_error(id, cause));
        }
        // If one tree is missing, those of other branches will be needed next.
        let tips = if self.promises.has_fetched_trees.replace(true) {
            Vec::new()
        } else {
            let below = ["refs/heads/", "refs/remotes/"];
            below
                .into_iter()
                .flat_map(|prefix| self.branches_below(prefix).unwrap_or_default())
                .collect()
        };
        let tips = tips.into_iter().filter_map(|(_, tip)| self.tree_of(tip.ok()?).ok());
        self.fetch_trees(tips.chain([id]))?;
        self.git.find_tree(id).map_err(|cause| self.unreadable_error(id, cause))
    }

    /// Fetches from one promisor remote after the other, in one request each, until no object is
    /// missing.
    fn fetch_from_promisors(&self, ids: &BTreeSet<Id>, names: &[String]) -> Result<()> {
        let mut error = missing_objects_error(names);
        for remote in self.promisor_remotes() {
            let missing: String = ids
                .iter()
                .filter(|id| !self.has_object(**id))
                .map(|id| format!("{id}\n"))
                .collect();
            let args = [
                "-c",
                "fetch.negotiationAlgorithm=noop",
                "fetch",
                remote,
                "--no-tags",
                "--no-write-fetch-head",
                "--recurse-submodules=no",
                "--filter=blob:none",
                "--no-auto-maintenance",
                "--quiet",
                "--stdin",
            ];
            let asked = self.git_command(args).env("GIT_TERMINAL_PROMPT", "0");
            let answer = asked.run_with_input(missing.as_bytes(), REQUEST_TIMEOUT)?;
            if ids.iter().all(|id| self.has_object(*id)) {
                return Ok(());
            }
            let why =
                answer.stderr.lines().next().unwrap_or("it does not have all of them").to_owned();
            error = error.with_detail(format!("`{remote}`: {}", why.trim_start_matches("fatal: ")));
        }
        Err(error.with_hint("try again when the remote can be reached; nothing was changed"))
    }
}

fn missing_objects_error(names: &[String]) -> Error {
    Error::unable(format!(
        "{} of this partial clone {} missing: {}",
        pluralize(names.len(), "object"),
        if names.len() == 1 { "is" } else { "are" },
        join_names(names, MAX_NAMES_SHOWN)
    ))
}
