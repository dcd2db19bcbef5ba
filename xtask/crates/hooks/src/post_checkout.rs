//! `post-checkout`, `post-merge` and `post-rewrite`: update the managed files of the branch that is now checked out,
//! by the rules of sync and as far as they allow a hook to write.
//!
//! If the branch is up to date, the cost is one comparison of two trees. For example, a checkout prints:
//!
//! ```text
//! 1 managed file brought up to date with `orchestration-tools`: `setup/a` (commit 1a2b3c4; `cargo xtask undo …` undoes it)
//! ```

use std::ffi::OsString;

use super::program::{self, VerifyDepth};
use super::{Hook, notification_log, skip_rules};
use xtask_base::error::Result;
use xtask_base::lock;
use xtask_base::words::{join_names, pluralize};
use xtask_config::HookMode;
use xtask_git::Tools;
use xtask_git::{EverCanonical, Id, Repo, short_ref};
use xtask_sync::classify::PathClass;
use xtask_sync::context::{self, SyncContext};
use xtask_sync::hook_policy::{
    BranchOwner, count_canonical_files, describe_unrelated_branch, find_hook_policy,
    is_unrelated_branch,
};
use xtask_sync::pin_notes::describe_removed_overlay;
use xtask_sync::plan::{SyncPlan, WriteMode};
use xtask_sync::rollback;
use xtask_sync::run::{
    HintStyle, PlannedSync, SyncInspection, SyncOptions, apply_plan, check_repo_ready,
    find_upstream_to_follow, inspect_checkout,
};
use xtask_sync::scan::ScanDepth;
use xtask_sync::upstream::{
    UpstreamStatus, find_upstream_status, is_sync_commit, move_to_upstream,
};
use xtask_sync::worktree_lock::LockWorktree as _;

/// The maximum number of paths in a line.
const SHOWN_PATHS: usize = 3;

/// Updates the branch if allowed. Returns the messages for the user, one per line.
pub fn sync_after_hook(
    repo: &Repo,
    hook: Hook,
    args: &[OsString],
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    if !can_leave_behind(hook, args)
        || !skip_rules::can_write(repo, hook, tools.world.now_seconds())?
    {
        return Ok(Vec::new());
    }
    let Some(context) = context::find_canonical_context(repo)? else {
        let missing = context::missing_canonical_error(repo, &context::configured_names(repo));
        let line = format!(
            "nothing was synced: {}; `cargo xtask setup` or `git fetch` fetches it",
            missing.message()
        );
        let branch = repo.current_branch().unwrap_or_default();
        let lines = vec![line];
        let none = repo.null_id();
        return Ok(notification_log::retain_unreported(repo, tools.disk, &branch, none, lines));
    };
    let Some(decided) = decide_sync(repo, context.clone(), WriteMode::Commit, tools)? else {
        return Ok(Vec::new());
    };
    let has_work = !writes_nothing(&decided.plan)
        || !decided.pinned_overlay().is_empty()
        || rollback::has_unfinished_transaction(repo)
        || has_only_syncs_ahead(repo, &decided)?;
    let branch = decided.head.branch.clone().unwrap_or_default();
    let tip = context.canonical.commit;
    let news = |lines| notification_log::retain_unreported(repo, tools.disk, &branch, tip, lines);
    if !has_work {
        return Ok(KeptNotes::new(repo, &decided, &context).retain_new(repo, &branch, tip, tools));
    }
    let many = count_canonical_files(repo, &context)?;
    if is_unrelated_branch(repo, &decided.head, &context, &decided.plan, many)? {
        return Ok(news(vec![format!(
            "{}: not synced automatically; `cargo xtask sync` adds the managed files",
            describe_unrelated_branch(&branch, &context)
        )]));
    }
    let policy = find_hook_policy(repo, &decided.head, &context)?;
    let mode = match policy.mode {
        HookMode::Notify if writes_nothing(&decided.plan) => return Ok(Vec::new()),
        HookMode::Notify => {
            let behind = describe_behind(&decided.plan, &context);
            let mut notes = KeptNotes::default();
            notes.add(format!("{behind}; {}", describe_owner(policy.owner, &branch)));
            notes.add_ending(&decided);
            return Ok(notes.retain_new(repo, &branch, tip, tools));
        }
        HookMode::Commit => WriteMode::Commit,
        HookMode::Worktree => WriteMode::Worktree,
    };
    let tools =
        &Tools { finishing_operation: skip_rules::find_ending_operation(repo, hook), ..*tools };
    sync_if_free(repo, hook, mode, &context, tools)
}

/// Describes why hooks leave `branch` alone, and the command that updates it.
fn describe_owner(owner: BranchOwner, branch: &str) -> String {
    match owner {
        BranchOwner::Protected => format!(
            "`{branch}` is protected: not synced (`cargo xtask sync --allow-protected` syncs it)"
        ),
        BranchOwner::Others => format!(
            "`{branch}` belongs to another author: not synced (`cargo xtask sync` syncs it)"
        ),
        BranchOwner::You => "`cargo xtask sync` brings it up to date".to_owned(),
    }
}

/// Returns whether the git operation, described by `args`, can have left the branch behind.
fn can_leave_behind(hook: Hook, args: &[OsString]) -> bool {
    let arg = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
    match hook {
        // The third argument is 0 if only files were checked out.
        Hook::PostCheckout => arg(2) == "1",
        // 1 means `--squash`, which does not move HEAD.
        Hook::PostMerge => arg(0) == "0",
        Hook::PostRewrite => arg(0) == "rebase",
        _ => false,
    }
}

fn decide_sync(
    repo: &Repo,
    context: SyncContext,
    mode: WriteMode,
    tools: &Tools<'_>,
) -> Result<Option<Box<PlannedSync>>> {
    Ok(
        match inspect_checkout(repo, context, &write_options(mode), ScanDepth::Differences, tools)?
        {
            SyncInspection::OnCanonical(_) => None,
            SyncInspection::Planned(decided) => Some(decided),
        },
    )
}

/// Returns the options of a sync by a hook. The owner of the branch is checked before, so protected branches are allowed.
fn write_options(mode: WriteMode) -> SyncOptions {
    SyncOptions { mode, allow_protected: true, hints: HintStyle::Command, ..SyncOptions::plain() }
}

fn writes_nothing(plan: &SyncPlan) -> bool {
    plan.written_paths().next().is_none()
}

/// Returns whether the branch and its upstream have diverged, with only sync commits on the branch. These can be
/// recreated on top of the upstream; until then `git pull` would ask how to reconcile the two.
fn has_only_syncs_ahead(repo: &Repo, decided: &PlannedSync) -> Result<bool> {
    let tip = repo.read_commit(decided.head.commit)?;
    if !is_sync_commit(&tip, &decided.context.config.identity) {
        return Ok(false);
    }
    let standing = find_upstream_status(repo, &decided.head, &decided.context)?;
    Ok(matches!(standing, UpstreamStatus::OnlySyncCommits(_)))
}

/// Returns whether another worktree has the same branch checked out.
fn is_checked_out_elsewhere(repo: &Repo) -> Result<bool> {
    let branch = repo.current_branch();
    let others = repo.list_worktrees()?;
    Ok(others.iter().any(|tree| tree.root != repo.root() && tree.is_there && tree.branch == branch))
}

/// Writes the managed files unless another xtask process holds a lock.
fn sync_if_free(
    repo: &Repo,
    hook: Hook,
    mode: WriteMode,
    context: &SyncContext,
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    let busy =
        || vec!["skipped: another xtask is running; `cargo xtask sync` catches up".to_owned()];
    let who = format!("{} of pid {}", hook.name(), std::process::id());
    let path = repo.shared_state_folder().join("hooks.lock");
    let Some(_one_hook) = lock::try_acquire(&path, &who)? else { return Ok(busy()) };
    let Some((_lock, mended)) = tools.try_lock_worktree(repo)? else { return Ok(busy()) };
    let mut lines: Vec<String> = mended.into_iter().collect();
    check_repo_ready(repo, tools)?;
    if is_checked_out_elsewhere(repo)? {
        // The other worktree would show the difference as staged, and its next commit would revert it.
        lines.push("not synced: another worktree has this branch checked out, too".to_owned());
        return Ok(lines);
    }
    // The state may have changed before the locks were acquired.
    let Some(decided) = decide_sync(repo, context.clone(), mode, tools)? else { return Ok(lines) };
    let decided = match mode {
        WriteMode::Commit => follow_upstream(repo, decided, tools, &mut lines)?,
        WriteMode::Worktree => Some(decided),
    };
    let has_work = |decided: &PlannedSync| {
        !writes_nothing(&decided.plan) || !decided.pinned_overlay().is_empty()
    };
    if let Some(decided) = decided.filter(|decided| has_work(decided)) {
        lines.extend(write_files(repo, decided, mode, tools)?);
    }
    Ok(lines)
}

/// Moves the branch to its upstream if only sync commits are ahead of it. Returns what is still to be written, or `None`
/// if a commit here would only make the branch diverge from its upstream.
fn follow_upstream(
    repo: &Repo,
    decided: Box<PlannedSync>,
    tools: &Tools<'_>,
    lines: &mut Vec<String>,
) -> Result<Option<Box<PlannedSync>>> {
    let context = &decided.context;
    if !writes_nothing(&decided.plan)
        && let UpstreamStatus::Behind(ahead) = find_upstream_status(repo, &decided.head, context)?
    {
        lines.push(format!(
            "{}; `{}` is ahead, so run `git pull` first",
            describe_behind(&decided.plan, context),
            short_ref(&ahead.reference)
        ));
        return Ok(None);
    }
    let sync_options = write_options(WriteMode::Commit);
    let Some(ahead) = find_upstream_to_follow(repo, &decided, &sync_options)? else {
        return Ok(Some(decided));
    };
    move_to_upstream(repo, &ahead)?;
    let short = short_ref(&ahead.reference);
    lines.push(format!("moved to `{short}`: only sync commits were ahead of it"));
    decide_sync(repo, decided.context, WriteMode::Commit, tools)
}

/// Writes the files of a plan. Returns the messages for the user.
fn write_files(
    repo: &Repo,
    decided: Box<PlannedSync>,
    mode: WriteMode,
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    let context = decided.context.clone();
    let branch = decided.head.branch.clone().unwrap_or_default();
    let files = list_written_paths(&decided.plan);
    let kept = KeptNotes::new(repo, &decided, &context);
    let mut others = decided.describe_lapsed_written();
    others.extend(decided.describe_other_pins(repo));
    let done = apply_plan(repo, *decided, &write_options(mode), tools)?;
    let mut lines = describe_removed_overlay(&done);
    if files.is_empty() {
        return Ok(lines);
    }
    let brought = format!(
        "{} brought up to date with `{}`: {}",
        pluralize(files.len(), "managed file"),
        context.config.branch,
        join_names(&files, SHOWN_PATHS)
    );
    let undo =
        done.backup.map_or(String::new(), |id| format!("; `cargo xtask undo {id}` undoes it"));
    lines.push(match done.commit {
        Some(commit) => format!("{brought} (commit {}{undo})", repo.short_id(commit)),
        None => format!("{brought} (not committed{undo})"),
    });
    lines.extend(others);
    let tip = context.canonical.commit;
    lines.extend(kept.retain_new(repo, &branch, tip, tools));
    let program = program::inspect_program(repo, VerifyDepth::Metadata);
    if program.is_outdated(repo, &context)? == Some(true) {
        lines.push(
            "the installed hooks are older than the canonical branch; \
             `cargo xtask install-hooks` reinstalls them"
                .to_owned(),
        );
    }
    Ok(lines)
}

/// Returns the paths that a plan writes.
fn list_written_paths(plan: &SyncPlan) -> Vec<String> {
    plan.written_paths().map(|item| item.path().to_string()).collect()
}

/// Describes the managed files in which the branch is behind.
fn describe_behind(plan: &SyncPlan, context: &SyncContext) -> String {
    let files = list_written_paths(plan);
    format!(
        "{} behind `{}`: {}",
        pluralize(files.len(), "managed file"),
        context.config.branch,
        join_names(&files, SHOWN_PATHS)
    )
}

/// Lines that are printed once per change, each with the key by which it is the same.
#[derive(Default)]
struct KeptNotes {
    lines: Vec<String>,
    keys: Vec<String>,
}

impl KeptNotes {
    /// Creates the notes about what a sync keeps back, about pins that end soon, and about those that are not known.
    fn new(repo: &Repo, decided: &PlannedSync, context: &SyncContext) -> KeptNotes {
        let mut notes = KeptNotes::default();
        describe_kept_back(&decided.plan, context).into_iter().for_each(|line| notes.add(line));
        let unused = decided.describe_protected_pins(repo).into_iter();
        decided
            .describe_broken_upstream(repo)
            .into_iter()
            .chain(unused)
            .for_each(|line| notes.add(line));
        notes.add_ending(decided);
        notes
    }

    fn add(&mut self, line: String) {
        self.keys.push(line.clone());
        self.lines.push(line);
    }

    /// Adds the pins that end soon. The number of days that are left is no news.
    fn add_ending(&mut self, decided: &PlannedSync) {
        self.keys.extend(decided.pins.ending_soon().map(|stored| stored.pin.render()));
        self.lines.extend(decided.pins.describe_ending());
    }

    /// Returns the lines, or none if they were printed before.
    fn retain_new(self, repo: &Repo, branch: &str, tip: Id, tools: &Tools<'_>) -> Vec<String> {
        let KeptNotes { lines, keys } = self;
        notification_log::retain_unreported_by(repo, tools.disk, branch, tip, &keys, lines)
    }
}

/// Describes managed files that are kept back for a reason that the user may not know.
fn describe_kept_back(plan: &SyncPlan, context: &SyncContext) -> Vec<String> {
    let mut lines = Vec::new();
    for (class, what) in [
        (PathClass::Edited, "behind, and kept because of uncommitted changes"),
        (
            PathClass::Customised,
            "kept: this branch has its own version (`cargo xtask sync --merge`)",
        ),
        (PathClass::Untracked, "kept because an untracked file is in the way"),
        (PathClass::Unknown, "kept because the clone is shallow (`git fetch --unshallow`)"),
    ] {
        let files: Vec<String> = plan
            .items
            .iter()
            .filter(|item| item.class == class && item.state.head != item.state.canonical)
            .filter(|item| {
                class != PathClass::Edited || item.state.was_canonical == EverCanonical::Once
            })
            .map(|item| item.path().to_string())
            .collect();
        if !files.is_empty() {
            lines.push(format!(
                "{} of `{}` {what}: {}",
                pluralize(files.len(), "managed file"),
                context.config.branch,
                join_names(&files, SHOWN_PATHS)
            ));
        }
    }
    lines
}
