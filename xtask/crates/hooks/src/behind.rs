//! `post-commit` on the canonical branch: how many branches and worktrees the commit leaves behind.
//!
//! Only the paths that the commit changed are looked up, so that the cost is a few look-ups for
//! each branch.

use std::collections::BTreeMap;

use super::{Hook, gates};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::progress::Silent;
use xtask_base::words::count;
use xtask_git::Tools;
use xtask_git::{Entry, Known, OnceCanonical, Pair, Repo};
use xtask_sync::context::{self, Context};
use xtask_sync::managed::Managed;
use xtask_sync::upstream::source_of;

/// The line to say, if there is one.
pub fn after_commit(repo: &Repo, tools: &Tools<'_>) -> Result<Option<String>> {
    if let Some(line) = amended(repo, tools)? {
        return Ok(Some(line));
    }
    // Nearly every commit is made on another branch, and costs no more than this.
    if repo.branch_name() != Some(context::usual_names(repo).branch) {
        return Ok(None);
    }
    if !gates::are_open(repo, Hook::PostCommit, tools.world.now_seconds())? {
        return Ok(None);
    }
    let Some(context) = context::of_canonical(repo)? else { return Ok(None) };
    let head = repo.head()?;
    if head.branch.as_deref() != Some(context.config.branch.as_str()) {
        return Ok(None);
    }
    let commit = repo.commit(head.commit)?;
    let before = match commit.parents.first() {
        Some(parent) => Some(repo.tree_of(*parent)?),
        None => None,
    };
    let managed = Managed::new(&context.config, None);
    let changed = repo.compare_trees(before, Some(head.tree), &managed)?;
    if changed.is_empty() {
        return Ok(None);
    }
    let rules = managed.rules();
    let once = repo.once_canonical(head.commit, &managed, rules, &Silent)?;
    let mut branches = 0;
    for (reference, commit) in repo.refs_below("refs/heads/")? {
        let name = &reference["refs/heads/".len()..];
        if context.is_apart(name) {
            continue;
        }
        let tree = repo.tree_of(commit)?;
        let entry = |path: &RepoPath| repo.entry_at(tree, path);
        branches += usize::from(is_behind(&context, name, &changed, &once, &entry)?);
    }
    let mut worktrees = 0;
    for tree in repo.worktrees()?.into_iter().filter(|tree| tree.is_there) {
        let Some(name) = tree.branch.filter(|name| !context.is_apart(name)) else { continue };
        let Some(commit) = repo.resolve(&format!("refs/heads/{name}"))? else { continue };
        let tree = repo.tree_of(commit)?;
        let entry = |path: &RepoPath| repo.entry_at(tree, path);
        worktrees += usize::from(is_behind(&context, &name, &changed, &once, &entry)?);
    }
    Ok((branches > 0).then(|| words(branches, worktrees, changed.len())))
}

/// That the user has put work into a commit of ours, by amending it.
fn amended(repo: &Repo, tools: &Tools<'_>) -> Result<Option<String>> {
    let Some(head) = repo.resolve("HEAD")? else { return Ok(None) };
    let commit = repo.commit(head)?;
    if source_of(&commit).is_none() {
        return Ok(None);
    }
    if !gates::are_open(repo, Hook::PostCommit, tools.world.now_seconds())? {
        return Ok(None);
    }
    let Some(context) = context::of_canonical(repo)? else { return Ok(None) };
    let is_ours = commit.author.email == context.config.identity.email;
    Ok(is_ours.then(|| {
        format!(
            "this commit is one of xtask's, amended, and still under its name; `git reset --soft \
             {}` and a commit of your own keep them apart",
            "HEAD@{1}"
        )
    }))
}

fn words(branches: usize, worktrees: usize, files: usize) -> String {
    let are =
        if branches == 1 { "1 branch is".to_owned() } else { format!("{branches} branches are") };
    let behind = format!("{are} now behind in {}", count(files, "managed file"));
    let follows =
        "they follow when they are next checked out, or all at once by `cargo xtask propagate`";
    match worktrees {
        0 => format!("{behind}; {follows}"),
        _ => format!(
            "{behind}, {} of them in a worktree; {follows}",
            if worktrees == 1 { "one".to_owned() } else { worktrees.to_string() }
        ),
    }
}

fn is_behind(
    context: &Context,
    branch: &str,
    changed: &BTreeMap<RepoPath, Pair>,
    once: &OnceCanonical,
    entry: &dyn Fn(&RepoPath) -> Result<Option<Entry>>,
) -> Result<bool> {
    let managed = Managed::new(&context.config, Some(branch));
    for (path, pair) in changed.iter().filter(|(path, _)| !managed.is_kept_by_branch(path)) {
        let here = entry(path)?;
        let follows = match here {
            Some(entry) => once.knows(path, entry) == Known::Once,
            // What is new is nobody's yet; what a branch removed itself it does not want back.
            None => pair.one.is_none(),
        };
        if here != pair.two && follows {
            return Ok(true);
        }
    }
    Ok(false)
}
