//! Git's hooks: getting them in and out without harm, and what ours do when git runs them.
//!
//! Nothing here decides about a path: hooks ask `sync`. None of them may break the git command that
//! the user ran, but for what `pre-commit` and `pre-push` refuse; none asks anything.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
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
pub mod program_store;
pub mod shim;
pub mod skip_rules;
pub mod syntax;

/// A hook of git's in which we have something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// After a branch was checked out, a worktree added or a repository cloned.
    PostCheckout,
    /// After a merge, and a pull that merged or went forward.
    PostMerge,
    /// After a rebase or an amended commit.
    PostRewrite,
    /// After a commit.
    PostCommit,
    /// Before a commit.
    PreCommit,
    /// Before a push.
    PrePush,
}

impl Hook {
    /// All of them.
    pub const ALL: [Hook; 6] = [
        Hook::PostCheckout,
        Hook::PostMerge,
        Hook::PostRewrite,
        Hook::PostCommit,
        Hook::PreCommit,
        Hook::PrePush,
    ];

    /// As git calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hook::PostCheckout => "post-checkout",
            Hook::PostMerge => "post-merge",
            Hook::PostRewrite => "post-rewrite",
            Hook::PostCommit => "post-commit",
            Hook::PreCommit => "pre-commit",
            Hook::PrePush => "pre-push",
        }
    }

    /// By the name that git has for it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Hook> {
        Hook::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// Whether it runs before git acts, so that its failure keeps git from acting.
    #[must_use]
    pub fn can_block(self) -> bool {
        matches!(self, Hook::PreCommit | Hook::PrePush)
    }
}
