//! `post-commit` on the canonical branch: reports how many branches and worktrees the commit leaves behind.
//!
//! Only the paths that the commit changed are looked up, so that the cost per branch is a few look-ups. For example:
//!
//! ```text
//! 3 branches are now behind in 2 managed files, one of them in a worktree; …
//! ```

use std::collections::BTreeMap;

use super::{Hook, skip_rules};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::progress::SilentProgress;
use xtask_base::words::pluralize;
use xtask_git::Tools;
use xtask_git::{CanonicalHistory, EntryPair, EverCanonical, Head, Repo, TreeEntry, short_ref};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::managed::ManagedPaths;
use xtask_sync::pin_reader::PinReader;
use xtask_sync::pins::BranchPins;
use xtask_sync::upstream::parse_source_trailer;

/// Returns the message for the user, if any.
pub fn report_after_commit(repo: &Repo, tools: &Tools<'_>) -> Result<Option<String>> {
    if let Some(line) = describe_amended_sync(repo, tools)? {
        return Ok(Some(line));
    }
    // Nearly every commit is made on another branch, and costs only this check.
    if repo.current_branch() != Some(context::configured_names(repo).branch) {
        return Ok(None);
    }
    if !skip_rules::can_write(repo, Hook::PostCommit, tools.world.now_seconds())? {
        return Ok(None);
    }
    let Some(context) = context::find_canonical_context(repo)? else { return Ok(None) };
    let head = repo.head()?;
    if head.branch.as_deref() != Some(context.config.branch.as_str()) {
        return Ok(None);
    }
    let commit = repo.read_commit(head.commit)?;
    let before = match commit.parents.first() {
        Some(parent) => Some(repo.tree_of(*parent)?),
        None => None,
    };
    let managed = ManagedPaths::new(&context.config, None);
    let changed = repo.compare_trees(before, Some(head.tree), &managed)?;
    if changed.is_empty() {
        return Ok(None);
    }
    let rules = managed.rules_digest();
    let once = repo.read_canonical_history(head.commit, &managed, rules, &SilentProgress)?;
    let reader = PinReader::new(repo, tools.world.now_seconds());
    let mut branches = 0;
    for (reference, commit) in repo.refs_below("refs/heads/")? {
        let name = short_ref(&reference);
        if context.is_reserved_branch(name) {
            continue;
        }
        let tree = repo.tree_of(commit)?;
        let entry = |path: &RepoPath| repo.entry_at(tree, path);
        let pins =
            read_pins(&reader, &context, Head { branch: Some(name.to_owned()), commit, tree });
        branches += usize::from(is_behind(&context, name, &changed, &once, &pins, &entry)?);
    }
    let mut worktrees = 0;
    for tree in repo.list_worktrees()?.into_iter().filter(|tree| tree.is_there) {
        let Some(name) = tree.branch.filter(|name| !context.is_reserved_branch(name)) else {
            continue;
        };
        let Some(commit) = repo.resolve_ref(&format!("refs/heads/{name}"))? else { continue };
        let tree = repo.tree_of(commit)?;
        let entry = |path: &RepoPath| repo.entry_at(tree, path);
        let pins = read_pins(&reader, &context, Head { branch: Some(name.clone()), commit, tree });
        worktrees += usize::from(is_behind(&context, &name, &changed, &once, &pins, &entry)?);
    }
    Ok((branches > 0).then(|| describe_branches_behind(branches, worktrees, changed.len())))
}

/// Returns a message if the user has amended a sync commit with changes of their own.
fn describe_amended_sync(repo: &Repo, tools: &Tools<'_>) -> Result<Option<String>> {
    let Some(head) = repo.resolve_ref("HEAD")? else { return Ok(None) };
    let commit = repo.read_commit(head)?;
    if parse_source_trailer(&commit).is_none() {
        return Ok(None);
    }
    if !skip_rules::can_write(repo, Hook::PostCommit, tools.world.now_seconds())? {
        return Ok(None);
    }
    let Some(context) = context::find_canonical_context(repo)? else { return Ok(None) };
    let is_ours = commit.author.email == context.config.identity.email;
    Ok(is_ours.then(|| {
        format!(
            "this is an amended sync commit, with xtask still as its author; `git reset --soft \
             {}` and a commit of your own keep the changes apart",
            "HEAD@{1}"
        )
    }))
}

fn describe_branches_behind(branches: usize, worktrees: usize, files: usize) -> String {
    let are =
        if branches == 1 { "1 branch is".to_owned() } else { format!("{branches} branches are") };
    let behind = format!("{are} now behind in {}", pluralize(files, "managed file"));
    let follows =
        "they are updated at their next checkout, or all at once by `cargo xtask propagate`";
    match worktrees {
        0 => format!("{behind}; {follows}"),
        _ => format!(
            "{behind}, {} of them in a worktree; {follows}",
            if worktrees == 1 { "one".to_owned() } else { worktrees.to_string() }
        ),
    }
}

/// Returns the pins of a branch. One whose pins cannot be read counts as behind, which it is until they can.
fn read_pins(reader: &PinReader<'_>, context: &SyncContext, head: Head) -> BranchPins {
    reader.read_branch(context, &head).unwrap_or_else(|_| BranchPins::none(reader.today()))
}

fn is_behind(
    context: &SyncContext,
    branch: &str,
    changed: &BTreeMap<RepoPath, EntryPair>,
    once: &CanonicalHistory,
    pins: &BranchPins,
    entry: &dyn Fn(&RepoPath) -> Result<Option<TreeEntry>>,
) -> Result<bool> {
    let managed = ManagedPaths::new(&context.config, Some(branch));
    let is_kept = |path: &RepoPath| managed.is_kept_by_branch(path) || pins.find(path).is_some();
    for (path, pair) in changed.iter().filter(|(path, _)| !is_kept(path)) {
        let here = entry(path)?;
        let follows = match here {
            Some(entry) => once.was_canonical(path, entry) == EverCanonical::Once,
            // A new file belongs to no branch yet; a file that a branch has removed must not come back.
            None => pair.one.is_none(),
        };
        if here != pair.two && follows {
            return Ok(true);
        }
    }
    Ok(false)
}
