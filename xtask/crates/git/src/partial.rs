//! Partial clones (`git clone --filter`): what is not here is brought by git from where it was promised.
//!
//! File contents are brought only for what writes, and all that a step needs in one request. Folders (trees)
//! are no contents, and are brought for what only looks, too: where one is missing, those of all branches come.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::words::{count, some_of};

/// How long a request may take: ten minutes.
const REQUEST: Duration = Duration::from_secs(600);

/// How many names a message has.
const SHOWN: usize = 5;

/// What is known of promises, and what may be asked for.
#[derive(Clone, Default)]
pub(super) struct Promises {
    remotes: Rc<OnceCell<Vec<String>>>,
    may_fetch: Rc<Cell<bool>>,
    has_asked_for_trees: Rc<Cell<bool>>,
}

impl Repo {
    /// Whether this is a partial clone.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.promisors().is_empty()
    }

    /// The remotes that have promised what is not here.
    fn promisors(&self) -> &[String] {
        self.promises.remotes.get_or_init(|| {
            let has_promised = |name: &String| {
                self.setting_is(&format!("remote.{name}.promisor"), false)
                    || self.setting(&format!("remote.{name}.partialclonefilter")).is_some()
            };
            let mut all: Vec<String> =
                self.remote_names().into_iter().filter(has_promised).collect();
            all.extend(self.setting("extensions.partialClone").filter(|name| !all.contains(name)));
            all
        })
    }

    /// Lets contents be brought from now on: for what writes.
    pub fn allow_fetch(&self) {
        self.promises.may_fetch.set(true);
    }

    /// Whether contents may be brought.
    #[must_use]
    pub fn may_fetch(&self) -> bool {
        self.promises.may_fetch.get()
    }

    /// Brings contents, each with what it is for people, as far as they are not here. In a clone that is
    /// whole nothing is done.
    pub fn bring(&self, wanted: impl IntoIterator<Item = (Id, String)>) -> Result<()> {
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
            return Err(not_here(&names)
                .detail("what only looks brings no contents")
                .hint("what writes brings what it needs, as `cargo xtask sync` does")
                .hint("`git show COMMIT:PATH` brings one file"));
        }
        self.request(&ids, &names)
    }

    /// Brings folders with all below them, where they are not here.
    pub(super) fn bring_trees(&self, ids: impl IntoIterator<Item = Id>) -> Result<()> {
        let ids: BTreeSet<Id> = ids.into_iter().filter(|id| !self.has_object(*id)).collect();
        if ids.is_empty() || !self.is_partial() {
            return Ok(());
        }
        let names: Vec<String> =
            ids.iter().map(|id| format!("the folder {}", self.short(*id))).collect();
        self.request(&ids, &names)
    }

    /// A folder of git's, which is brought if it is not here.
    pub(super) fn tree_object(&self, id: Id) -> Result<gix::Tree<'_>> {
        let found = self.git.find_tree(id);
        if found.is_ok() || !self.is_partial() || self.has_object(id) {
            return found.map_err(|cause| self.unreadable(id, cause));
        }
        // Who misses one misses those of other branches next.
        let tips = if self.promises.has_asked_for_trees.replace(true) {
            Vec::new()
        } else {
            let below = ["refs/heads/", "refs/remotes/"];
            below
                .into_iter()
                .flat_map(|prefix| self.branches_below(prefix).unwrap_or_default())
                .collect()
        };
        let tips = tips.into_iter().filter_map(|(_, tip)| self.tree_of(tip.ok()?).ok());
        self.bring_trees(tips.chain([id]))?;
        self.git.find_tree(id).map_err(|cause| self.unreadable(id, cause))
    }

    /// Asks all who have promised, one after the other, in one request each.
    fn request(&self, ids: &BTreeSet<Id>, names: &[String]) -> Result<()> {
        let mut error = not_here(names);
        for remote in self.promisors() {
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
            let asked = self.git(args).variable("GIT_TERMINAL_PROMPT", "0");
            let answer = asked.run_with_input(missing.as_bytes(), REQUEST)?;
            if ids.iter().all(|id| self.has_object(*id)) {
                return Ok(());
            }
            let why = answer.stderr.lines().next().unwrap_or("it has not all of it").to_owned();
            error = error.detail(format!("`{remote}`: {}", why.trim_start_matches("fatal: ")));
        }
        Err(error.hint("try again when the remote can be reached; nothing was changed"))
    }
}

fn not_here(names: &[String]) -> Error {
    Error::unable(format!(
        "{} of this partial clone {} not here: {}",
        count(names.len(), "object"),
        if names.len() == 1 { "is" } else { "are" },
        some_of(names, SHOWN)
    ))
}
