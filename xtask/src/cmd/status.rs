//! `status`: where this branch stands; with `--all`, every worktree and every branch.

#[cfg(feature = "services")]
use std::collections::BTreeMap;

#[cfg(feature = "deploy")]
use super::deployed;
use super::session::{Session, describe};
#[cfg(feature = "services")]
use super::stack as shared;
use super::{DONE, Exit};
use crate::cli::Status;
use xtask_base::error::Result;
use xtask_base::progress::Progress;
use xtask_base::words::{count, some_of};
#[cfg(feature = "checks")]
use xtask_base::world::{ago, rfc3339};
use xtask_branches::check::{check, is_asked};
use xtask_branches::facts::Look as BranchLook;
use xtask_changes::collect::still_waiting;
use xtask_changes::resolve::{folder, is_open, put_aside_before};
use xtask_git::Tools;
use xtask_git::{Id, Repo, Worktree};
use xtask_hooks::health::health;
use xtask_hooks::program::Care;
#[cfg(feature = "services")]
use xtask_report::status::ServicesLine;
#[cfg(feature = "checks")]
use xtask_report::status::ValidationLine;
use xtask_report::status::{BranchLine, Counts, StatusReport, VendoredLine, WorktreeLine};
use xtask_report::sync::CanonicalLine;
use xtask_report::{self as report, Loudness};
use xtask_review::queue;
#[cfg(feature = "services")]
use xtask_services::client;
#[cfg(feature = "services")]
use xtask_services::page::{Page, Row};
#[cfg(feature = "services")]
use xtask_services::stack::Stack;
use xtask_sync::classify::Class;
use xtask_sync::context::{self, Context};
use xtask_sync::gather::Depth;
use xtask_sync::overlay;
use xtask_sync::plan::Plan;
use xtask_sync::recover;
use xtask_sync::run::{Looked, Wishes, check_rules, look};
use xtask_sync::survey::survey;
use xtask_sync::upstream::{self, Standing};
use xtask_upgrade::standing::standing;
#[cfg(feature = "checks")]
use xtask_validate::perform::last_words;

pub(super) fn run(session: &Session, args: &Status) -> Exit {
    let repo = session.repo()?;
    let tools = session.tools();
    let mut report = StatusReport {
        schema: "xtask.status/1",
        canonical: None,
        worktree: repo.root().display().to_string(),
        branch: repo.branch_name(),
        sync: None,
        overlay: overlay::read(&repo)?.paths.len(),
        notes: Vec::new(),
        paths: Vec::new(),
        worktrees: None,
        branches: None,
        hooks: String::new(),
        requests: Vec::new(),
        services: Vec::new(),
        deployed: Vec::new(),
        vendored: None,
        validation: None,
    };
    #[cfg(feature = "services")]
    report.services.extend(services(session, &repo));
    #[cfg(feature = "deploy")]
    report.deployed.extend(deployed::lines(&repo, &session.world));
    #[cfg(feature = "checks")]
    report.validation.clone_from(&last_validation(&repo, session.world.now_seconds()));
    let requests = queue::all(&repo, session.world.now_seconds());
    let now = session.world.now_seconds();
    report.requests = requests.iter().map(|request| request.words(now)).collect();
    if recover::is_unfinished(&repo) {
        let note = "an earlier run was cut short; the next `cargo xtask sync` puts it right";
        report.notes.push(note.to_owned());
    }
    let names = context::names(&repo)?;
    let Some(context) = context::find(&repo, &names)? else {
        let missing = context::missing(&repo, &names);
        report.notes.push(missing.what().to_owned());
        report.notes.extend(missing.hints().iter().cloned());
        report.hooks = health(&repo, &session.world, None, Care::Look)?.summary();
        report.vendored = vendored(&repo, None)?;
        return answer(session, args, &report);
    };
    report.vendored = vendored(&repo, Some(context.canonical.tree))?;
    report.canonical = Some(CanonicalLine {
        reference: context.canonical.reference.clone(),
        commit: context.canonical.commit.to_string(),
    });
    report.notes.extend(context.warnings.iter().cloned());
    report.hooks = health(&repo, &session.world, Some(&context), Care::Look)?.summary();
    if let Some(operation) = repo.operation() {
        report.notes.push(format!("{} is in progress", operation.name));
    }
    if repo.awaits_checkout() {
        report.notes.push("nothing is checked out here yet (`git checkout` does it)".to_owned());
    }
    if is_open(&repo) {
        report.notes.push(format!(
            "a conflict of reverse-sync is waiting to be resolved in {}",
            folder(&repo).display()
        ));
    }
    let aside = put_aside_before(&repo);
    if let Some(first) = aside.first() {
        report.notes.push(format!(
            "kept from earlier resolutions: {}, as {} (`git worktree remove --force` removes one)",
            count(aside.len(), "folder"),
            first.display()
        ));
    }
    match still_waiting(&repo, &context, tools.disk) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => {
            report.notes.push(format!(
                "collected for `{}`: {} (`cargo xtask promote --dry-run` shows it)",
                context.config.branch,
                some_of(&names, 5)
            ));
        }
        Err(failure) => report.notes.push(failure.to_string()),
    }
    report.notes.extend(branch_notes(&repo, &context, now)?);
    match look(&repo, context.clone(), &Wishes::plain(), Depth::Everything, &tools)? {
        Looked::OnCanonical(context) => {
            report.notes.push(format!("`{}` is the canonical branch", context.config.branch));
        }
        Looked::Decided(decided) => {
            report.sync = Some(counts(&decided.plan));
            let described =
                describe(&repo, &decided.head, &context, &decided.plan, &[], Vec::new());
            report.paths = described.paths;
            report.paths.retain(|line| line.class != Class::InSync.name());
            if let Standing::OnlySyncCommits(ahead) =
                upstream::standing(&repo, &decided.head, &context)?
            {
                let short = ahead.reference.trim_start_matches("refs/remotes/");
                report.notes.push(format!(
                    "`{short}` has moved on, and only sync commits are ahead of it; `cargo xtask \
                     sync` moves there"
                ));
            }
            if decided.plan.count(Class::Behind) + decided.plan.count(Class::Sparse) > 0 {
                let plain = Wishes::plain();
                report.notes.push(match (repo.operation(), check_rules(&repo, &decided, &plain)) {
                    (Some(_), _) => "sync writes nothing until it has ended".to_owned(),
                    (None, Ok(())) => "`cargo xtask sync` brings it up to date".to_owned(),
                    (None, Err(refused)) => {
                        format!("sync refuses: {}; {}", refused.what(), refused.hints().join("; "))
                    }
                });
            }
        }
    }
    if args.all {
        report.worktrees = Some(worktrees(&repo, &context, &tools)?);
        report.branches = Some(branches(&repo, &context, tools.progress)?);
    }
    answer(session, args, &report)
}

/// What the rule for the branch says of it, if anything is to be said.
fn branch_notes(repo: &Repo, context: &Context, now: i64) -> Result<Vec<String>> {
    let Some(branch) = repo.branch_name().filter(|branch| is_asked(context, branch)) else {
        return Ok(Vec::new());
    };
    let Some(commit) = repo.resolve("HEAD")? else { return Ok(Vec::new()) };
    let look = BranchLook::new(repo, context, now)?;
    Ok(check(&look, &branch, Ok(commit)).lines())
}

#[cfg(feature = "services")]
/// How many services are named that are configured otherwise now.
const SHOWN_CHANGES: usize = 3;

#[cfg(feature = "services")]
/// How the services of this worktree are, a line for each layer of which something is known. That it
/// cannot be told is told.
fn services(session: &Session, repo: &Repo) -> Vec<ServicesLine> {
    let line = |stack: Stack| match client::glance(&stack, &session.world) {
        Ok(page) => page.map(|page| {
            let (ok, mut words) = in_words(&page);
            let changes = shared::changes(repo, &stack);
            let runs = |name: &&String| {
                page.services.iter().any(|row| row.service == **name && row.pid.is_some())
            };
            let changed: Vec<String> = changes.keys().filter(runs).cloned().collect();
            if !changed.is_empty() {
                let who = xtask_base::words::some_of(&changed, SHOWN_CHANGES);
                words.push_str(&format!(", {who} configured otherwise now"));
            }
            ServicesLine { layer: stack.layer, ok, words }
        }),
        Err(failure) => {
            Some(ServicesLine { layer: stack.layer, ok: false, words: failure.to_string() })
        }
    };
    Stack::all(&repo.folders()).into_iter().filter_map(line).collect()
}

#[cfg(feature = "services")]
/// How many services are in which state, with what is wrong first; and whether nothing is.
fn in_words(page: &Page) -> (bool, String) {
    let is_ill = |row: &&Row| {
        matches!(row.state.as_str(), "failed" | "blocked" | "lost")
            || row.state == "ready" && row.health == "unhealthy"
    };
    let ill = page.services.iter().filter(is_ill);
    let mut words: Vec<String> = ill
        .map(|row| {
            let state = if row.state == "ready" { "unhealthy" } else { &row.state };
            let why = row.error.as_ref().map_or(String::new(), |error| format!(" ({error})"));
            format!("{} {state}{why}", row.service)
        })
        .collect();
    let ok = words.is_empty();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in page.services.iter().filter(|row| !is_ill(row)) {
        *counts.entry(&row.state).or_default() += 1;
    }
    words.extend(counts.into_iter().map(|(state, count)| format!("{count} {state}")));
    if page.supervisor.is_none() && page.services.iter().any(|row| row.state == "lost") {
        words.push("`cargo xtask start` takes over what nobody watches".to_owned());
    }
    (ok, words.join(", "))
}

/// The toolkit that this branch was given, if it was; what is wrong with the notes about it is no
/// failure of `status`.
fn vendored(repo: &Repo, canonical: Option<Id>) -> Result<Option<VendoredLine>> {
    let Some(tree) = repo.tree_of_head()? else { return Ok(None) };
    Ok(match standing(repo, tree, canonical) {
        Ok(found) => found.map(|found| VendoredLine {
            version: found.manifest.version.to_string(),
            commit: found.manifest.commit,
            changed: found.changed,
            canonical: found.canonical.map(|other| other.version.to_string()),
            fault: None,
        }),
        Err(failure) => Some(VendoredLine {
            version: String::new(),
            commit: String::new(),
            changed: Vec::new(),
            canonical: None,
            fault: Some(failure.to_string()),
        }),
    })
}

#[cfg(feature = "checks")]
fn last_validation(repo: &Repo, now: i64) -> Option<ValidationLine> {
    let (past, words) = last_words(repo, repo.root())?;
    Some(ValidationLine {
        run: past.run,
        started: rfc3339(past.at),
        ok: past.ok,
        words: format!("{words}, {}", ago(now, past.at)),
    })
}

fn answer(session: &Session, args: &Status, report: &StatusReport) -> Exit {
    if args.json {
        report::answer_json(report)?;
    } else {
        report::answer(&report.text(session.loudness == Loudness::Verbose))?;
    }
    Ok(DONE)
}

fn counts(plan: &Plan) -> Counts {
    Counts {
        behind: plan.count(Class::Behind) + plan.count(Class::Sparse),
        customised: plan.count(Class::Customised),
        edited: Some(plan.count(Class::Edited)),
        untracked: Some(plan.count(Class::Untracked)),
        unknown: plan.count(Class::Unknown),
    }
}

fn worktrees(repo: &Repo, context: &Context, tools: &Tools<'_>) -> Result<Vec<WorktreeLine>> {
    Ok(repo.worktrees()?.into_iter().map(|tree| worktree(repo, context, tree, tools)).collect())
}

/// One worktree. That it cannot be looked at is its answer, not the end of the list.
fn worktree(repo: &Repo, context: &Context, tree: Worktree, tools: &Tools<'_>) -> WorktreeLine {
    let mut line = WorktreeLine {
        worktree: tree.root.display().to_string(),
        branch: tree.branch.clone(),
        current: tree.root == repo.root(),
        counts: None,
        note: None,
    };
    if !tree.is_there {
        line.note = Some("its folder is gone (`git worktree prune`)".to_owned());
        return line;
    }
    let looked = repo.open_worktree(&tree.root).and_then(|repo| {
        if recover::is_unfinished(&repo) {
            line.note = Some("an earlier run was cut short".to_owned());
        }
        look(&repo, context.clone(), &Wishes::plain(), Depth::Everything, tools)
    });
    match looked {
        Ok(Looked::OnCanonical(_)) => line.note = Some("canonical".to_owned()),
        Ok(Looked::Decided(decided)) => line.counts = Some(counts(&decided.plan)),
        Err(failure) => line.note = Some(failure.to_string()),
    }
    line
}

fn branches(repo: &Repo, context: &Context, progress: &dyn Progress) -> Result<Vec<BranchLine>> {
    let states = survey(repo, context, progress)?;
    Ok(states
        .into_iter()
        .map(|state| BranchLine {
            counts: Counts {
                behind: state.count(Class::Behind),
                customised: state.count(Class::Customised),
                edited: None,
                untracked: None,
                unknown: state.count(Class::Unknown),
            },
            commit: state.commit.to_string(),
            branch: state.name,
        })
        .collect())
}
