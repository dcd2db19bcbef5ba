//! `why`: explains the decision of sync about one path: its rule, its class, its four versions, and the last
//! commits that changed it.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::WhyArgs;
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{
    CommitInfo, FileMode, Id, IndexStatus, PathScope, Repo, TreeEntry, TreeItem, WorktreeItem,
};
use xtask_report as report;
use xtask_report::why::{LastCommitLine, WhyReport};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::managed::ManagedPaths;
use xtask_sync::plan::PathAction;
use xtask_sync::run::{SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;
use xtask_sync::upstream::is_sync_commit;

/// How many commits are searched for the last change of a path, per question; an older change is not found.
const MAX_COMMITS: usize = 100_000;

pub(super) fn run(session: &Session, args: &WhyArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let path = session.repo_path(&repo, &args.path)?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let branch = repo.current_branch();
    let managed = ManagedPaths::new(&context.config, branch.as_deref());
    let is_folder = path.to_disk_path(repo.root()).is_dir()
        || matches!(repo.find_in_tree(context.canonical.tree, &path)?, Some(TreeItem::Folder(_)));
    let mut why = WhyReport {
        path: path.to_string(),
        rule: describe_rule(&managed, &path, is_folder, branch.as_deref()),
        decision: None,
        contents: Vec::new(),
        changed_by: None,
        canonical_changed_by: None,
        synced_by: None,
    };
    if managed.contains_path(path.as_bytes()) && !is_folder {
        explain_path(session, &repo, &context, &path, &mut why)?;
    }
    report::print_output(&why.render_text())?;
    Ok(SUCCESS)
}

fn describe_rule(
    managed: &ManagedPaths,
    path: &RepoPath,
    is_folder: bool,
    branch: Option<&str>,
) -> String {
    let rule = managed.describe_rule(path, is_folder);
    match managed.exception_pattern(path).filter(|_| managed.is_kept_by_branch(path)) {
        Some(pattern) => format!(
            "{rule}; but a `[[branch]]` rule excludes `{pattern}` on `{}`",
            branch.unwrap_or_default()
        ),
        None => rule,
    }
}

fn explain_path(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    path: &RepoPath,
    why: &mut WhyReport,
) -> Result<()> {
    let head = repo.head()?;
    let wishes = SyncOptions { only: vec![path.clone()], ..SyncOptions::plain() };
    let is_anywhere = repo.find_in_tree(head.tree, path)?.is_some()
        || repo.find_in_tree(context.canonical.tree, path)?.is_some();
    if !is_anywhere {
        why.decision = Some("neither this branch nor the canonical one has it".to_owned());
        return Ok(());
    }
    match inspect_checkout(repo, context.clone(), &wishes, ScanDepth::Everything, &session.tools())?
    {
        SyncInspection::OnCanonical(context) => {
            why.decision = Some(format!("`{}` is the canonical branch", context.config.branch));
        }
        SyncInspection::Planned(decided) => {
            match decided.plan.items.iter().find(|item| item.path() == path) {
                None => {
                    why.decision = Some("in-sync: identical to the canonical version".to_owned())
                }
                Some(item) => {
                    let does = match item.action {
                        PathAction::None => "nothing to do".to_owned(),
                        PathAction::Keep => "sync keeps it".to_owned(),
                        PathAction::Refuse => "sync does not write to it".to_owned(),
                        action => format!("sync will {} it", action.name()),
                    };
                    why.decision =
                        Some(format!("{}: {}; {does}", item.class.name(), item.reason()));
                    let state = &item.state;
                    why.contents = vec![
                        ("HEAD", describe_entry(repo, state.head)),
                        ("index", describe_staged(repo, state.index)),
                        ("file", describe_file(repo, &state.work)),
                        ("canonical", describe_entry(repo, state.canonical)),
                    ];
                }
            }
        }
    }
    let now = session.world.now_seconds();
    let line = |commit: CommitInfo| LastCommitLine {
        id: repo.short_id(commit.id),
        author: commit.author.name.clone(),
        when: format_ago(now, commit.author.seconds),
        subject: commit.subject().to_owned(),
    };
    let (changed, synced) = find_last_changes(repo, head.commit, path, context)?;
    why.changed_by = changed.map(line);
    why.synced_by = synced.map(line);
    why.canonical_changed_by =
        find_last_changes(repo, context.canonical.commit, path, context)?.0.map(line);
    Ok(())
}

/// Returns the newest commit that changed `path`, and the newest sync commit that did, starting at `tip`.
fn find_last_changes(
    repo: &Repo,
    tip: Id,
    path: &RepoPath,
    context: &SyncContext,
) -> Result<(Option<CommitInfo>, Option<CommitInfo>)> {
    let mut changed = None;
    let mut at = repo.read_commit(tip)?;
    for _ in 0..MAX_COMMITS {
        let here = repo.entry_at(at.tree, path)?;
        // In a shallow clone, the oldest commit counts as a root.
        let parent = at.parents.first().and_then(|parent| repo.read_commit(*parent).ok());
        let before = match &parent {
            Some(parent) => repo.entry_at(parent.tree, path)?,
            None => None,
        };
        if here != before {
            if is_sync_commit(&at, &context.config.identity) {
                return Ok((changed.or_else(|| Some(at.clone())), Some(at)));
            }
            changed = changed.or_else(|| Some(at.clone()));
        }
        match parent {
            Some(parent) => at = parent,
            None => break,
        }
    }
    Ok((changed, None))
}

fn describe_entry(repo: &Repo, entry: Option<TreeEntry>) -> String {
    match entry {
        None => "absent".to_owned(),
        Some(TreeEntry { mode, id }) => {
            let kind = match mode {
                FileMode::File => "file",
                FileMode::Executable => "executable",
                FileMode::Symlink => "symlink",
                FileMode::Gitlink => "submodule",
            };
            format!("{kind} {}", repo.short_id(id))
        }
    }
}

fn describe_staged(repo: &Repo, index: IndexStatus) -> String {
    match index {
        IndexStatus::IntentToAdd => "intent to add (`git add -N`)".to_owned(),
        IndexStatus::Conflict => "in conflict".to_owned(),
        IndexStatus::Absent | IndexStatus::Entry { .. } => describe_entry(repo, index.entry()),
    }
}

fn describe_file(repo: &Repo, work: &WorktreeItem) -> String {
    match work {
        WorktreeItem::Absent => "absent".to_owned(),
        WorktreeItem::Present(found) => describe_entry(repo, Some(found.entry)),
        WorktreeItem::Folder => "a folder".to_owned(),
        WorktreeItem::Special => "a device, pipe or socket".to_owned(),
        WorktreeItem::BelowSymlink(link) => format!("below the symlink `{link}`"),
        WorktreeItem::BelowFile(file) => format!("below the file `{file}`"),
    }
}
