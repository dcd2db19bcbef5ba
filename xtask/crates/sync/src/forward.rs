//! Moving the branch that is checked out forward to a commit that differs from it at managed paths
//! alone: branch, index and files in one transaction, that a crash leaves undone or done.

use std::collections::BTreeMap;

use super::apply;
use super::batch::{Batch, HeadMove};
use super::classify::Class;
use super::context::Context;
use super::enter::Enter as _;
use super::gather::{Depth, Question, gather};
use super::managed::Managed;
use super::plan::{Beyond, WriteMode, plan};
use super::run::changes;
use xtask_base::error::{Error, Result};
use xtask_git::Tools;
use xtask_git::{Canonical, Id, Repo};

/// Moves it. The caller holds the lock of the worktree. What is changed and not committed at one of
/// the paths is in the way, and then nothing is moved; all other local changes stay as they are.
pub fn forward(
    repo: &Repo,
    context: &Context,
    to: Id,
    message: &str,
    tools: &Tools<'_>,
) -> Result<()> {
    let head = repo.head()?;
    let reference = context.canonical.reference.clone();
    let canonical = Canonical { reference, commit: to, tree: repo.tree_of(to)? };
    let context = Context { canonical, ..context.clone() };
    let managed = Managed::new(&context.config, None);
    let question = Question {
        repo,
        head: &head,
        context: &context,
        managed: &managed,
        only: &[],
        depth: Depth::Differences,
        now_ns: tools.now_ns(),
        progress: tools.progress,
    };
    let gathered = gather(&question)?;
    let plan = plan(gathered.states, WriteMode::Commit, Beyond::Nothing, &BTreeMap::new());
    let stays =
        plan.items.iter().filter(|item| !item.action.writes() && item.class != Class::InSync);
    let in_the_way: Vec<String> =
        stays.map(|item| format!("{}: {}", item.path(), item.reason())).collect();
    if !in_the_way.is_empty() {
        let root = repo.root().display();
        let branch = head.branch.unwrap_or_default();
        let refused = Error::unable(format!(
            "`{branch}` is checked out in `{root}`, and local changes there are in the way; it was \
             not changed"
        ));
        let shown = in_the_way.iter().take(10).cloned().fold(refused, Error::detail);
        return Err(shown.hint("commit, stash or move them aside, then try again"));
    }
    let index = gathered.index.map_or_else(|| repo.index(), Ok)?;
    let batch = Batch {
        purpose: message.to_owned(),
        changes: changes(&plan, WriteMode::Commit, question.now_ns),
        head: Some(HeadMove {
            branch: head.branch.clone(),
            old: head.commit,
            new: to,
            message: message.to_owned(),
        }),
        overlay: None,
        // What is replaced is what the branch held.
        backup: None,
    };
    apply::apply(&tools.applier(repo), &batch, Some(index)).map(drop)
}
