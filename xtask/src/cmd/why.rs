//! `why`: everything that decides about one path.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Why;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::world::ago;
use xtask_git::{CommitInfo, Entry, Id, Indexed, LookedUp, Mode, Repo, Scope, Work};
use xtask_report as report;
use xtask_report::why::{CommitLine, WhyReport};
use xtask_sync::context::{self, Context};
use xtask_sync::gather::Depth;
use xtask_sync::managed::Managed;
use xtask_sync::plan::Action;
use xtask_sync::run::{Looked, Wishes, look};
use xtask_sync::upstream::is_sync_commit;

/// How many commits are looked at for the last change of a path, per question. A path that has not
/// changed for longer is said to have no change that was found.
const DEEPEST: usize = 100_000;

pub(super) fn run(session: &Session, args: &Why) -> Exit {
    let repo = session.repo()?;
    let path = session.repo_path(&repo, &args.path)?;
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let branch = repo.branch_name();
    let managed = Managed::new(&context.config, branch.as_deref());
    let is_folder = path.on_disk(repo.root()).is_dir()
        || matches!(repo.look_up(context.canonical.tree, &path)?, Some(LookedUp::Folder(_)));
    let mut why = WhyReport {
        path: path.to_string(),
        rule: rule(&managed, &path, is_folder, branch.as_deref()),
        decision: None,
        contents: Vec::new(),
        changed_by: None,
        canonical_changed_by: None,
        synced_by: None,
    };
    if managed.holds(path.as_bytes()) && !is_folder {
        explain(session, &repo, &context, &path, &mut why)?;
    }
    report::answer(&why.text())?;
    Ok(DONE)
}

fn rule(managed: &Managed, path: &RepoPath, is_folder: bool, branch: Option<&str>) -> String {
    let rule = managed.rule(path, is_folder);
    match managed.exception(path).filter(|_| managed.is_kept_by_branch(path)) {
        Some(pattern) => format!(
            "{rule}; but a `[[branch]]` rule leaves `{pattern}` to `{}`",
            branch.unwrap_or_default()
        ),
        None => rule,
    }
}

fn explain(
    session: &Session,
    repo: &Repo,
    context: &Context,
    path: &RepoPath,
    why: &mut WhyReport,
) -> Result<()> {
    let head = repo.head()?;
    let wishes = Wishes { only: vec![path.clone()], ..Wishes::plain() };
    let is_anywhere = repo.look_up(head.tree, path)?.is_some()
        || repo.look_up(context.canonical.tree, path)?.is_some();
    if !is_anywhere {
        why.decision = Some("neither this branch nor the canonical one has it".to_owned());
        return Ok(());
    }
    match look(repo, context.clone(), &wishes, Depth::Everything, &session.tools())? {
        Looked::OnCanonical(context) => {
            why.decision = Some(format!("`{}` is the canonical branch", context.config.branch));
        }
        Looked::Decided(decided) => {
            match decided.plan.items.iter().find(|item| item.path() == path) {
                None => why.decision = Some("in-sync: it is canonical".to_owned()),
                Some(item) => {
                    let does = match item.action {
                        Action::None => "nothing to do".to_owned(),
                        Action::Keep => "sync keeps it".to_owned(),
                        Action::Refuse => "sync does not write to it".to_owned(),
                        action => format!("sync will {} it", action.name()),
                    };
                    why.decision =
                        Some(format!("{}: {}; {does}", item.class.name(), item.reason()));
                    let state = &item.state;
                    why.contents = vec![
                        ("HEAD", entry(repo, state.head)),
                        ("index", staged(repo, state.index)),
                        ("file", file(repo, &state.work)),
                        ("canonical", entry(repo, state.canonical)),
                    ];
                }
            }
        }
    }
    let now = session.world.now_seconds();
    let line = |commit: CommitInfo| CommitLine {
        id: repo.short(commit.id),
        author: commit.author.name.clone(),
        when: ago(now, commit.author.seconds),
        subject: commit.subject().to_owned(),
    };
    let (changed, synced) = last_changes(repo, head.commit, path, context)?;
    why.changed_by = changed.map(line);
    why.synced_by = synced.map(line);
    why.canonical_changed_by =
        last_changes(repo, context.canonical.commit, path, context)?.0.map(line);
    Ok(())
}

/// The newest commit of a history that changed a path, and the newest sync commit that did.
fn last_changes(
    repo: &Repo,
    tip: Id,
    path: &RepoPath,
    context: &Context,
) -> Result<(Option<CommitInfo>, Option<CommitInfo>)> {
    let mut changed = None;
    let mut at = repo.commit(tip)?;
    for _ in 0..DEEPEST {
        let here = repo.entry_at(at.tree, path)?;
        // A commit beyond which history is cut off counts as the first one.
        let parent = at.parents.first().and_then(|parent| repo.commit(*parent).ok());
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

fn entry(repo: &Repo, entry: Option<Entry>) -> String {
    match entry {
        None => "absent".to_owned(),
        Some(Entry { mode, id }) => {
            let kind = match mode {
                Mode::File => "file",
                Mode::Executable => "executable",
                Mode::Symlink => "symlink",
                Mode::Gitlink => "submodule",
            };
            format!("{kind} {}", repo.short(id))
        }
    }
}

fn staged(repo: &Repo, index: Indexed) -> String {
    match index {
        Indexed::Intended => "announced with `git add -N`".to_owned(),
        Indexed::Conflict => "in conflict".to_owned(),
        Indexed::Absent | Indexed::Entry { .. } => entry(repo, index.entry()),
    }
}

fn file(repo: &Repo, work: &Work) -> String {
    match work {
        Work::Absent => "absent".to_owned(),
        Work::Present(found) => entry(repo, Some(found.entry)),
        Work::Folder => "a folder".to_owned(),
        Work::Special => "a device, pipe or socket".to_owned(),
        Work::BelowSymlink(link) => format!("below the symlink `{link}`"),
        Work::BelowFile(file) => format!("below `{file}`, which is not a folder"),
    }
}
