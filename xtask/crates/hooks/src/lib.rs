//! Git hooks: their installation and removal, and their actions when git runs them.
//!
//! Decisions about single paths belong to `xtask-sync`. No hook asks questions, and none breaks the user's git
//! command, except that `pre-commit` and `pre-push` can refuse it.
//!
//! ```text
//! git commit -> .git/hooks/pre-commit (shim) -> .git/xtask/bin/xtask hook pre-commit
//! ```

// Makes the sources part of the crate's fingerprint: checkouts that share a build folder must not take over what
// another checkout has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_HOOKS");

pub mod health;
pub mod hooks_folder;
pub mod installation;
pub mod notification_log;
pub mod pause;
pub mod post_checkout;
pub mod post_commit;
pub mod pre_commit;
pub mod pre_push;
pub mod program;
mod program_build;
pub mod program_store;
pub mod report;
pub mod shim;
pub mod shim_install;
pub mod skip_rules;

/// A git hook that xtask uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// After `git checkout` of a branch, `git worktree add` or `git clone`.
    PostCheckout,
    /// After a merge, including `git pull` with a merge or a fast-forward.
    PostMerge,
    /// After a rebase or `git commit --amend`.
    PostRewrite,
    PostCommit,
    PreCommit,
    PrePush,
    /// Before the commit of a merge without conflicts.
    PreMergeCommit,
    /// Before the editor opens with the message of a commit.
    PrepareCommitMsg,
    /// After the message of a commit has been written.
    CommitMsg,
    PreRebase,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Hook; 10] = [
        Hook::PostCheckout,
        Hook::PostMerge,
        Hook::PostRewrite,
        Hook::PostCommit,
        Hook::PreCommit,
        Hook::PrePush,
        Hook::PreMergeCommit,
        Hook::PrepareCommitMsg,
        Hook::CommitMsg,
        Hook::PreRebase,
    ];

    /// Returns the name of the hook in git, e.g. `post-checkout`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hook::PostCheckout => "post-checkout",
            Hook::PostMerge => "post-merge",
            Hook::PostRewrite => "post-rewrite",
            Hook::PostCommit => "post-commit",
            Hook::PreCommit => "pre-commit",
            Hook::PrePush => "pre-push",
            Hook::PreMergeCommit => "pre-merge-commit",
            Hook::PrepareCommitMsg => "prepare-commit-msg",
            Hook::CommitMsg => "commit-msg",
            Hook::PreRebase => "pre-rebase",
        }
    }

    /// Returns the hook with this name in git.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Hook> {
        Hook::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// Returns whether the hook runs before git acts, so that its failure stops the git command.
    #[must_use]
    pub fn can_block(self) -> bool {
        matches!(self, Hook::PreCommit | Hook::PrePush) || self.is_on_demand()
    }

    /// Returns whether the hook is installed only where checks of `setup/validate.toml` name it: each hook costs the
    /// git command a process.
    #[must_use]
    pub fn is_on_demand(self) -> bool {
        matches!(
            self,
            Hook::PreMergeCommit | Hook::PrepareCommitMsg | Hook::CommitMsg | Hook::PreRebase
        )
    }
}
