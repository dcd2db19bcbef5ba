//! What a sync says about pins besides the classes of paths: those that end, that end nothing any more, and those of
//! which it does not know whether they are about this branch.

use std::collections::BTreeSet;

use super::pin_reader::PinReader;
use super::pins::{StoredPin, describe_lapse, is_pin_of, list_current};
use super::plan::PlannedPath;
use super::run::{PlannedSync, SyncOutcome};
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, quote_for_shell};
use xtask_config::{Pin, PinHome};
use xtask_git::Repo;

/// How many paths a line names.
const MAX_NAMES: usize = 8;

impl PlannedSync {
    /// Describes all that a report of this plan says about pins, written or not.
    #[must_use]
    pub fn describe_pins(&self, repo: &Repo) -> Vec<String> {
        let mut lines = self.pins.describe_ending();
        lines.extend(self.describe_lapsed_written());
        lines.extend(self.describe_other_pins(repo));
        lines.extend(self.describe_broken_upstream(repo));
        lines.extend(self.describe_protected_pins(repo));
        lines.extend(self.describe_former_pins(repo));
        lines
    }

    /// Describes the pins that have lapsed, of which the plan writes a path.
    #[must_use]
    pub fn describe_lapsed_written(&self) -> Vec<String> {
        let is_written = |stored: &&StoredPin| {
            self.plan.written_paths().any(|item| stored.pin.covers(item.path()))
        };
        let lapsed = self.pins.lapsed().filter(is_written);
        lapsed.map(describe_lapse).collect()
    }

    /// Describes written paths that are pinned in the commit for a branch that may be this one. What cannot be read is
    /// reported by whatever reads the pins of this branch.
    #[must_use]
    pub fn describe_other_pins(&self, repo: &Repo) -> Vec<String> {
        let written: Vec<&RepoPath> = self.plan.written_paths().map(PlannedPath::path).collect();
        let reader = PinReader::new(repo, 0);
        let others = reader.describe_others(&self.context, &self.head, self.pins.today(), &written);
        let others = others.unwrap_or_default().into_iter();
        others
            .map(|line| format!("{line}; after a sync `cargo xtask undo` brings it back first"))
            .collect()
    }

    /// Describes the ref of the upstream if it is broken, see [`PinReader::describe_broken_upstream`].
    #[must_use]
    pub fn describe_broken_upstream(&self, repo: &Repo) -> Option<String> {
        PinReader::new(repo, 0).describe_broken_upstream(&self.context, &self.head)
    }

    /// Describes the pins in the commit of a branch that is protected by now.
    #[must_use]
    pub fn describe_protected_pins(&self, repo: &Repo) -> Vec<String> {
        let pins = self.protected_pins(repo);
        pins.iter().map(|stored| self.describe_protected(stored)).collect()
    }

    /// Returns the pins in the commit of a branch that is protected by now, which have no effect: those on the canonical
    /// branch count there.
    pub(super) fn protected_pins(&self, repo: &Repo) -> Vec<StoredPin> {
        let protected = self.head.branch.as_ref().filter(|name| self.context.is_protected(name));
        let Some(name) = protected else { return Vec::new() };
        let reader = PinReader::new(repo, 0);
        let Ok(all) = reader.read_tree(self.head.tree, name) else { return Vec::new() };
        let names = reader.branch_names(&self.context, name);
        let own = StoredPin::list(&all, PinHome::Branch)
            .filter(|stored| is_pin_of(&stored.pin, Some(&names)));
        let today = self.pins.today();
        let mut unused = list_current(own, Some(&names));
        unused.retain(|stored| {
            stored.pin.is_active(today) && self.pins.find(&stored.pin.path).is_none()
        });
        unused
    }

    pub(super) fn describe_protected(&self, stored: &StoredPin) -> String {
        let Pin { path, .. } = &stored.pin;
        let (typed, canonical) = (path.quote_for_shell(), &self.context.config.branch);
        let branch = self.head.branch.as_deref().unwrap_or(&stored.pin.branch);
        format!(
            "pin of `{path}` in this commit has no effect: `{branch}` is protected, and its pins are on \
             `{canonical}`; there, `cargo xtask pin {typed} --branch {} --reason …` makes one",
            quote_for_shell(branch)
        )
    }

    /// Describes the pins that hold a former name of the branch.
    #[must_use]
    pub fn describe_former_pins(&self, repo: &Repo) -> Vec<String> {
        let Some(name) = &self.head.branch else { return Vec::new() };
        // The day does not matter for names.
        let names = PinReader::new(repo, 0).branch_names(&self.context, name);
        self.pins.describe_former(&names)
    }

    /// Describes the pinned paths at which there is an overlay, which a sync will remove.
    #[must_use]
    pub fn describe_pinned_overlay(&self) -> Option<String> {
        let paths = self.pinned_overlay();
        (!paths.is_empty()).then(|| {
            format!(
                "what `sync --no-commit` wrote is at a pinned path: {}; the next sync restores what was there before",
                join_paths(&paths)
            )
        })
    }
}

/// Describes the pinned paths at which the overlay was removed, and those at which it stays.
#[must_use]
pub fn describe_removed_overlay(outcome: &SyncOutcome) -> Vec<String> {
    let mut lines = Vec::new();
    if !outcome.restored_pinned.is_empty() {
        lines.push(format!(
            "what `sync --no-commit` had written is replaced by what was there before, because it is pinned: {}",
            join_paths(&outcome.restored_pinned)
        ));
    }
    if !outcome.staged_pinned.is_empty() {
        lines.push(format!(
            "what `sync --no-commit` had written is staged at a pinned path: {}; `git restore --staged -- PATH`, and \
             the next sync restores what was there before",
            join_paths(&outcome.staged_pinned)
        ));
    }
    lines
}

fn join_paths(paths: &BTreeSet<RepoPath>) -> String {
    let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
    join_names(&names, MAX_NAMES)
}
