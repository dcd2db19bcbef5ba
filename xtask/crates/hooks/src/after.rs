//! `post-checkout`, `post-merge`, `post-rewrite`: bring the branch that is now checked out up to
//! date, by the rules of sync and only where they let a hook write.
//!
//! Where there is nothing to do, two trees are compared and that is all.

use std::ffi::OsString;

use super::{Hook, gates, program, told};
use xtask_base::error::Result;
use xtask_base::lock;
use xtask_base::words::{count, some_of};
use xtask_config::Mode;
use xtask_git::Tools;
use xtask_git::{Known, Repo};
use xtask_sync::classify::Class;
use xtask_sync::context::{self, Context};
use xtask_sync::enter::Enter as _;
use xtask_sync::gather::Depth;
use xtask_sync::manner::{Owner, canonical_files, is_no_part_of_this, manner, no_part};
use xtask_sync::plan::{Plan, WriteMode};
use xtask_sync::recover;
use xtask_sync::run::{Decided, Looked, Wishes, check_gates, look, wants_to_move, write};
use xtask_sync::upstream::{Standing, is_sync_commit, move_to, standing};

/// How many paths a line names.
const NAMED: usize = 3;

/// Does what there is to do, and answers with what the user should know, a line each.
pub fn after(repo: &Repo, hook: Hook, args: &[OsString], tools: &Tools<'_>) -> Result<Vec<String>> {
    if !is_for_us(hook, args) || !gates::are_open(repo, hook, tools.world.now_seconds())? {
        return Ok(Vec::new());
    }
    let Some(context) = context::of_canonical(repo)? else {
        let branch = repo.branch_name().unwrap_or_default();
        let line = format!(
            "nothing was synced: {}; {}",
            context::missing(repo, &context::usual_names(repo)).what(),
            "`cargo xtask setup` or `git fetch` brings it"
        );
        return Ok(told::only_news(repo, tools.disk, &branch, repo.null_id(), vec![line]));
    };
    let Some(decided) = decide(repo, context.clone(), WriteMode::Commit, tools)? else {
        return Ok(Vec::new());
    };
    let has_work = !is_idle(&decided.plan)
        || recover::is_unfinished(repo)
        || has_left_upstream(repo, &decided)?;
    let branch = decided.head.branch.clone().unwrap_or_default();
    let tip = context.canonical.commit;
    let news = |lines| told::only_news(repo, tools.disk, &branch, tip, lines);
    if !has_work {
        return Ok(news(attention(&decided.plan, &context)));
    }
    let many = canonical_files(repo, &context)?;
    if is_no_part_of_this(repo, &decided.head, &context, &decided.plan, many)? {
        return Ok(news(vec![format!(
            "{}, so it is left alone; `cargo xtask sync` brings them",
            no_part(&branch, &context)
        )]));
    }
    let manner = manner(repo, &decided.head, &context)?;
    let mode = match manner.mode {
        Mode::Notify if is_idle(&decided.plan) => return Ok(Vec::new()),
        Mode::Notify => {
            let behind = behind(&decided.plan, &context);
            return Ok(news(vec![match manner.owner {
                Owner::Protected => format!(
                    "{behind}; `{branch}` is protected and left alone (`cargo xtask sync \
                     --allow-protected` commits there)"
                ),
                Owner::Others => format!(
                    "{behind}; `{branch}` is somebody else's and left alone (`cargo xtask sync` \
                     commits there)"
                ),
                Owner::You => format!("{behind}; `cargo xtask sync` brings it up to date"),
            }]));
        }
        Mode::Commit => WriteMode::Commit,
        Mode::Worktree => WriteMode::Worktree,
    };
    let tools = &Tools { ending: gates::ending(repo, hook), ..*tools };
    act(repo, hook, mode, &context, tools)
}

/// Whether git has told us of something that can leave a branch behind.
fn is_for_us(hook: Hook, args: &[OsString]) -> bool {
    let arg = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
    match hook {
        // The last argument is 0 where only files were checked out.
        Hook::PostCheckout => arg(2) == "1",
        // 1 stands for a squash, which leaves HEAD where it was.
        Hook::PostMerge => arg(0) == "0",
        Hook::PostRewrite => arg(0) == "rebase",
        _ => false,
    }
}

fn decide(
    repo: &Repo,
    context: Context,
    mode: WriteMode,
    tools: &Tools<'_>,
) -> Result<Option<Box<Decided>>> {
    // The owner of the branch was looked at: nothing else is asked here.
    let wishes = Wishes { mode, allow_protected: true, ..Wishes::plain() };
    Ok(match look(repo, context, &wishes, Depth::Differences, tools)? {
        Looked::OnCanonical(_) => None,
        Looked::Decided(decided) => Some(decided),
    })
}

fn is_idle(plan: &Plan) -> bool {
    plan.writes().next().is_none()
}

/// Whether the branch has gone apart from its upstream by nothing but sync commits: they can be
/// made again on top of it, and until then `git pull` would ask how to bring the two together.
fn has_left_upstream(repo: &Repo, decided: &Decided) -> Result<bool> {
    let tip = repo.commit(decided.head.commit)?;
    if !is_sync_commit(&tip, &decided.context.config.identity) {
        return Ok(false);
    }
    let standing = standing(repo, &decided.head, &decided.context)?;
    Ok(matches!(standing, Standing::OnlySyncCommits(_)))
}

/// Whether another worktree has the same branch checked out.
fn is_elsewhere(repo: &Repo) -> Result<bool> {
    let branch = repo.branch_name();
    let others = repo.worktrees()?;
    Ok(others.iter().any(|tree| tree.root != repo.root() && tree.is_there && tree.branch == branch))
}

/// Writes, if nobody else is at work here.
fn act(
    repo: &Repo,
    hook: Hook,
    mode: WriteMode,
    context: &Context,
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    let busy =
        || vec!["skipped: another xtask is at work; `cargo xtask sync` catches up".to_owned()];
    let who = format!("{} of pid {}", hook.name(), std::process::id());
    let path = repo.shared_state_folder().join("hooks.lock");
    let Some(_one_hook) = lock::attempt(&path, &who)? else { return Ok(busy()) };
    let Some((_lock, mended)) = tools.enter_if_free(repo)? else { return Ok(busy()) };
    let mut lines: Vec<String> = mended.into_iter().collect();
    check_gates(repo, tools)?;
    if is_elsewhere(repo)? {
        // The other worktree would show the difference as staged, and commit it away.
        lines.push("not synced: another worktree has this branch checked out, too".to_owned());
        return Ok(lines);
    }
    // What was seen before the locks were held may have changed.
    let wishes = Wishes { mode, allow_protected: true, ..Wishes::plain() };
    let Some(mut decided) = decide(repo, context.clone(), mode, tools)? else {
        return Ok(lines);
    };
    if mode == WriteMode::Commit {
        if !is_idle(&decided.plan)
            && let Standing::Behind(ahead) = standing(repo, &decided.head, context)?
        {
            // A commit here would only make the branch diverge.
            let short = ahead.reference.trim_start_matches("refs/remotes/");
            lines.push(format!(
                "{}; `{short}` has gone ahead, so `git pull` first",
                behind(&decided.plan, context)
            ));
            return Ok(lines);
        }
        if let Some(ahead) = wants_to_move(repo, &decided, &wishes)? {
            move_to(repo, &ahead)?;
            let short = ahead.reference.trim_start_matches("refs/remotes/").to_owned();
            lines.push(format!("moved to `{short}`: only sync commits were ahead of it"));
            match decide(repo, context.clone(), mode, tools)? {
                Some(again) if !is_idle(&again.plan) => decided = again,
                _ => return Ok(lines),
            }
        }
    }
    if is_idle(&decided.plan) {
        return Ok(lines);
    }
    let head_branch = decided.head.branch.clone();
    let (files, kept) = (names(&decided.plan), attention(&decided.plan, context));
    let done = write(repo, *decided, &wishes, tools)?;
    let brought = format!(
        "{} brought up to date with `{}`: {}",
        count(files.len(), "managed file"),
        context.config.branch,
        some_of(&files, NAMED)
    );
    let undo =
        done.undo.map_or(String::new(), |id| format!("; `cargo xtask undo {id}` takes it back"));
    lines.push(match done.commit {
        Some(commit) => format!("{brought} (commit {}{undo})", repo.short(commit)),
        None => format!("{brought} (not committed{undo})"),
    });
    let branch = head_branch.unwrap_or_default();
    lines.extend(told::only_news(repo, tools.disk, &branch, context.canonical.commit, kept));
    if program::is_old(repo, context)? {
        lines.push(
            "the hooks themselves are older than the canonical branch now; \
             `cargo xtask install-hooks` renews them"
                .to_owned(),
        );
    }
    Ok(lines)
}

/// The paths that a plan writes.
fn names(plan: &Plan) -> Vec<String> {
    plan.writes().map(|item| item.path().to_string()).collect()
}

/// That the branch is behind.
fn behind(plan: &Plan, context: &Context) -> String {
    let files = names(plan);
    format!(
        "{} behind `{}`: {}",
        count(files.len(), "managed file"),
        context.config.branch,
        some_of(&files, NAMED)
    )
}

/// What keeps managed files from following that a user may not know. It is told once for each change.
fn attention(plan: &Plan, context: &Context) -> Vec<String> {
    let mut lines = Vec::new();
    for (class, what) in [
        (Class::Edited, "behind, and kept because of changes that are not committed"),
        (Class::Customised, "kept: this branch has its own (`cargo xtask sync --merge`)"),
        (Class::Untracked, "kept because an untracked file is in the place"),
        (Class::Unknown, "kept because history is cut off (`git fetch --unshallow`)"),
    ] {
        let files: Vec<String> = plan
            .items
            .iter()
            .filter(|item| item.class == class && item.state.head != item.state.canonical)
            .filter(|item| class != Class::Edited || item.state.once == Known::Once)
            .map(|item| item.path().to_string())
            .collect();
        if !files.is_empty() {
            lines.push(format!(
                "{} of `{}` {what}: {}",
                count(files.len(), "managed file"),
                context.config.branch,
                some_of(&files, NAMED)
            ));
        }
    }
    lines
}
