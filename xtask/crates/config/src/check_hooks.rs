//! The keys of a `[[check]]` for git's hooks: `hook`, `skip-during`, `only-on` and `notice-when-changed`.
//!
//! ```text
//! hook = ["pre-commit", "pre-push"], skip-during = ["rebase"], only-on = ["feature/*"]
//!   ->  HookSettings { kinds: [PreCommit, PrePush], skip_during: Some([Rebase]), only_on: ["feature/*"], .. }
//! ```

use super::reader::{TableReader, suggest_nearest};
use super::value_syntax::{INSIDE, parse_inner_path};

/// A hook of git that can refuse, as in `githooks(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckHook {
    PreCommit,
    PreMergeCommit,
    PrepareCommitMsg,
    CommitMsg,
    PreRebase,
    PrePush,
}

impl CheckHook {
    /// All hooks, in the order in which git runs them.
    pub const ALL: [CheckHook; 6] = [
        CheckHook::PreCommit,
        CheckHook::PreMergeCommit,
        CheckHook::PrepareCommitMsg,
        CheckHook::CommitMsg,
        CheckHook::PreRebase,
        CheckHook::PrePush,
    ];

    /// Returns the name in git.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CheckHook::PreCommit => "pre-commit",
            CheckHook::PreMergeCommit => "pre-merge-commit",
            CheckHook::PrepareCommitMsg => "prepare-commit-msg",
            CheckHook::CommitMsg => "commit-msg",
            CheckHook::PreRebase => "pre-rebase",
            CheckHook::PrePush => "pre-push",
        }
    }

    /// Returns the hook of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<CheckHook> {
        CheckHook::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// Whether the hook runs for a commit that is about to be made.
    #[must_use]
    pub fn is_about_commit(self) -> bool {
        !matches!(self, CheckHook::PreRebase | CheckHook::PrePush)
    }

    /// Whether git passes the file with the message of a commit.
    #[must_use]
    pub fn has_message(self) -> bool {
        matches!(self, CheckHook::PrepareCommitMsg | CheckHook::CommitMsg)
    }
}

/// An operation of git that takes several steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkippedOperation {
    Merge,
    Rebase,
    CherryPick,
    Revert,
}

impl SkippedOperation {
    const ALL: [(&'static str, SkippedOperation); 4] = [
        ("merge", SkippedOperation::Merge),
        ("rebase", SkippedOperation::Rebase),
        ("cherry-pick", SkippedOperation::CherryPick),
        ("revert", SkippedOperation::Revert),
    ];

    /// Returns the name in git.
    #[must_use]
    pub fn name(self) -> &'static str {
        SkippedOperation::ALL.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }
}

/// What git's hooks do with a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookSettings {
    /// The hooks that run it.
    pub kinds: Vec<CheckHook>,
    /// The operations during which no hook runs it; `None` for the usual ones.
    pub skip_during: Option<Vec<SkippedOperation>>,
    /// Patterns of the branches on which hooks run it; empty for all, also a detached HEAD.
    pub only_on: Vec<String>,
    /// Paths of which a checkout or merge says that the environment is behind them.
    pub notice_when_changed: Vec<String>,
}

impl HookSettings {
    /// Whether `hook` leaves the check out during `operation`. Unless the file says otherwise, commits that a rebase, a
    /// cherry-pick or a revert makes again are not checked again.
    #[must_use]
    pub fn skips(&self, hook: CheckHook, operation: SkippedOperation) -> bool {
        match &self.skip_during {
            Some(listed) => listed.contains(&operation),
            None => hook.is_about_commit() && operation != SkippedOperation::Merge,
        }
    }

    /// Whether a hook runs the check.
    #[must_use]
    pub fn runs_in(&self, hook: CheckHook) -> bool {
        self.kinds.contains(&hook)
    }
}

/// Reads the keys. `has_message` says whether the command has `{message}`.
pub(super) fn read_hook_settings(check: &TableReader<'_>, has_message: bool) -> HookSettings {
    let names = CheckHook::ALL.map(|hook| (hook.name(), hook));
    let mut kinds = read_words(check, "hook", &names);
    kinds.sort();
    kinds.dedup();
    if has_message && (kinds.is_empty() || kinds.iter().any(|hook| !hook.has_message())) {
        let wanted = "`{message}` requires `hook` to be `commit-msg` or `prepare-commit-msg`";
        check.add_fault("run", wanted);
    }
    let skip_during = check
        .has_key("skip-during")
        .then(|| read_words(check, "skip-during", &SkippedOperation::ALL));
    let only_on = check.read_text_or_list("only-on").unwrap_or_default();
    for key in ["skip-during", "only-on"] {
        if check.has_key(key) && kinds.is_empty() {
            check.add_fault(key, format!("`{key}` requires `hook`"));
        }
    }
    let notices = check.read_text_or_list("notice-when-changed").unwrap_or_default();
    for path in notices.iter().filter(|path| parse_inner_path(path).is_none()) {
        check.add_fault(
            "notice-when-changed",
            format!("`notice-when-changed` has `{path}`; it must be {INSIDE}"),
        );
    }
    HookSettings { kinds, skip_during, only_on, notice_when_changed: notices }
}

/// Reads a word or a list of words out of `known`.
fn read_words<T: Copy>(check: &TableReader<'_>, key: &str, known: &[(&str, T)]) -> Vec<T> {
    let mut found = Vec::new();
    for word in check.read_text_or_list(key).unwrap_or_default() {
        match known.iter().find(|(name, _)| *name == word) {
            Some((_, value)) => found.push(*value),
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                let near = suggest_nearest(&word, names.iter().copied());
                let names = names.join(", ");
                check.add_fault(
                    key,
                    format!("`{key}` has `{word}`; it must be one of {names}{near}"),
                );
            }
        }
    }
    found
}
