//! `status`: shows the state of this branch: sync, hooks, validation, services; with `--all`, of every worktree and
//! branch. A line looks like `sync      2 behind, 1 customised`.

#[cfg(feature = "services")]
use std::collections::BTreeMap;

use super::session::{Session, build_sync_report};
#[cfg(feature = "services")]
use super::stack as shared;
use super::{CommandResult, SUCCESS};
use crate::cli::StatusArgs;
#[cfg(feature = "checks")]
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::error::Result;
use xtask_base::progress::Progress;
use xtask_base::words::{join_names, pluralize};
use xtask_branches::check::{check_branch, needs_check};
use xtask_branches::facts::BranchInspector as BranchLook;
use xtask_changes::changes_branch::list_pending;
use xtask_changes::resolve::{is_resolving, list_kept_worktrees, resolve_worktree_path};
#[cfg(feature = "deploy")]
use xtask_deploy::status::list_deployed_lines;
use xtask_git::Tools;
use xtask_git::{Id, Repo, Worktree};
use xtask_hooks::health::inspect_hooks;
use xtask_hooks::program::VerifyDepth;
#[cfg(feature = "services")]
use xtask_report::status::ServicesLine;
#[cfg(feature = "checks")]
use xtask_report::status::ValidationLine;
use xtask_report::status::{
    BranchStatusLine, ClassCounts, StatusReport, VendoredLine, WorktreeStatusLine,
};
use xtask_report::sync::CanonicalLine;
use xtask_report::{self as report, Verbosity};
use xtask_review::queue;
#[cfg(feature = "services")]
use xtask_services::client;
#[cfg(feature = "services")]
use xtask_services::stack::Stack;
#[cfg(feature = "services")]
use xtask_services::status::{ServiceStatus, StackStatus};
use xtask_sync::branch_overview::survey_branches;
use xtask_sync::classify::PathClass;
use xtask_sync::context::{self, SyncContext};
use xtask_sync::overlay;
use xtask_sync::plan::SyncPlan;
use xtask_sync::rollback;
use xtask_sync::run::{SyncInspection, SyncOptions, check_write_rules, inspect_checkout};
use xtask_sync::scan::ScanDepth;
use xtask_sync::upstream::{self, UpstreamStatus};
use xtask_upgrade::version_status::read_version_status;
#[cfg(feature = "checks")]
use xtask_validate::session::describe_last_run;

pub(super) fn run(session: &Session, args: &StatusArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let tools = session.tools();
    let mut report = StatusReport {
        schema: "xtask.status/1",
        canonical: None,
        worktree: repo.root().display().to_string(),
        branch: repo.current_branch(),
        sync: None,
        overlay: overlay::read_overlay(&repo)?.paths.len(),
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
    report.services.extend(build_service_lines(session, &repo));
    #[cfg(feature = "deploy")]
    report.deployed.extend(list_deployed_lines(
        &repo,
        &shared::list_layers(&repo),
        &|layer| shared::read_layer(&repo, layer),
        &session.world,
    ));
    #[cfg(feature = "checks")]
    report.validation.clone_from(&build_validation_line(&repo, session.world.now_seconds()));
    let requests = queue::list_requests(&repo, session.world.now_seconds());
    let now = session.world.now_seconds();
    report.requests = requests.iter().map(|request| request.describe(now)).collect();
    if rollback::has_unfinished_transaction(&repo) {
        let note = "an earlier run was interrupted; the next `cargo xtask sync` recovers it";
        report.notes.push(note.to_owned());
    }
    let names = context::find_canonical_names(&repo)?;
    let Some(context) = context::find_context(&repo, &names)? else {
        let missing = context::missing_canonical_error(&repo, &names);
        report.notes.push(missing.message().to_owned());
        report.notes.extend(missing.hints().iter().cloned());
        report.hooks = inspect_hooks(&repo, &session.world, None, VerifyDepth::Metadata)?.summary();
        report.vendored = build_vendored_line(&repo, None)?;
        return print_report(session, args, &report);
    };
    report.vendored = build_vendored_line(&repo, Some(context.canonical.tree))?;
    report.canonical = Some(CanonicalLine {
        reference: context.canonical.reference.clone(),
        commit: context.canonical.commit.to_string(),
    });
    report.notes.extend(context.warnings.iter().cloned());
    report.hooks =
        inspect_hooks(&repo, &session.world, Some(&context), VerifyDepth::Metadata)?.summary();
    if let Some(operation) = repo.current_operation() {
        report.notes.push(format!("{} is in progress", operation.name));
    }
    if repo.needs_checkout() {
        report.notes.push("nothing is checked out here yet (`git checkout` does it)".to_owned());
    }
    if is_resolving(&repo) {
        report.notes.push(format!(
            "a conflict of reverse-sync must be resolved in {}",
            resolve_worktree_path(&repo).display()
        ));
    }
    let aside = list_kept_worktrees(&repo);
    if let Some(first) = aside.first() {
        report.notes.push(format!(
            "kept from earlier resolutions: {}, as {} (`git worktree remove --force` removes one)",
            pluralize(aside.len(), "folder"),
            first.display()
        ));
    }
    match list_pending(&repo, &context, tools.disk) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => {
            report.notes.push(format!(
                "collected for `{}`: {} (`cargo xtask promote --dry-run` shows the changes)",
                context.config.branch,
                join_names(&names, 5)
            ));
        }
        Err(failure) => report.notes.push(failure.to_string()),
    }
    report.notes.extend(branch_notes(&repo, &context, now)?);
    match inspect_checkout(
        &repo,
        context.clone(),
        &SyncOptions::plain(),
        ScanDepth::Everything,
        &tools,
    )? {
        SyncInspection::OnCanonical(context) => {
            report.notes.push(format!("`{}` is the canonical branch", context.config.branch));
        }
        SyncInspection::Planned(decided) => {
            report.sync = Some(count_classes(&decided.plan));
            let described =
                build_sync_report(&repo, &decided.head, &context, &decided.plan, &[], Vec::new());
            report.paths = described.paths;
            report.paths.retain(|line| line.class != PathClass::InSync.name());
            if let UpstreamStatus::OnlySyncCommits(ahead) =
                upstream::find_upstream_status(&repo, &decided.head, &context)?
            {
                let short = ahead.reference.trim_start_matches("refs/remotes/");
                report.notes.push(format!(
                    "`{short}` has new commits, and only sync commits are ahead of it; `cargo xtask \
                     sync` moves there"
                ));
            }
            if decided.plan.count(PathClass::Behind) + decided.plan.count(PathClass::Sparse) > 0 {
                let plain = SyncOptions::plain();
                report.notes.push(
                    match (repo.current_operation(), check_write_rules(&repo, &decided, &plain)) {
                        (Some(_), _) => "sync writes nothing until that has ended".to_owned(),
                        (None, Ok(())) => "`cargo xtask sync` updates them".to_owned(),
                        (None, Err(refused)) => {
                            format!(
                                "sync refuses: {}; {}",
                                refused.message(),
                                refused.hints().join("; ")
                            )
                        }
                    },
                );
            }
        }
    }
    if args.all {
        report.worktrees = Some(build_worktree_lines(&repo, &context, &tools)?);
        report.branches = Some(build_branch_lines(&repo, &context, tools.progress)?);
    }
    print_report(session, args, &report)
}

/// Returns the findings of the branch's rule.
fn branch_notes(repo: &Repo, context: &SyncContext, now: i64) -> Result<Vec<String>> {
    let Some(branch) = repo.current_branch().filter(|branch| needs_check(context, branch)) else {
        return Ok(Vec::new());
    };
    let Some(commit) = repo.resolve_ref("HEAD")? else { return Ok(Vec::new()) };
    let look = BranchLook::new(repo, context, now)?;
    Ok(check_branch(&look, &branch, Ok(commit)).render_findings())
}

#[cfg(feature = "services")]
/// How many services with a changed configuration are named.
const MAX_CHANGED_SERVICES: usize = 3;

#[cfg(feature = "services")]
/// Returns a line for each layer with recorded state in this worktree. If its status cannot be read, the line is the
/// error.
fn build_service_lines(session: &Session, repo: &Repo) -> Vec<ServicesLine> {
    let line = |stack: Stack| match client::read_brief_status(&stack, &session.world) {
        Ok(page) => page.map(|page| {
            let (ok, mut words) = describe_services(&page);
            let changes = shared::list_config_changes(repo, &stack);
            let runs = |name: &&String| {
                page.services.iter().any(|row| row.service == **name && row.pid.is_some())
            };
            let changed: Vec<String> = changes.keys().filter(runs).cloned().collect();
            if !changed.is_empty() {
                let who = xtask_base::words::join_names(&changed, MAX_CHANGED_SERVICES);
                words.push_str(&format!(", configuration of {who} has changed"));
            }
            ServicesLine { layer: stack.layer, ok, words }
        }),
        Err(failure) => {
            Some(ServicesLine { layer: stack.layer, ok: false, words: failure.to_string() })
        }
    };
    Stack::list_all(&repo.folders()).into_iter().filter_map(line).collect()
}

#[cfg(feature = "services")]
/// Returns whether all services are healthy, and a description with the unhealthy ones first, e.g. `api failed
/// (exit code 1), 2 ready`.
fn describe_services(page: &StackStatus) -> (bool, String) {
    let is_ill = |row: &&ServiceStatus| {
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
        words.push("`cargo xtask start` takes over services without a supervisor".to_owned());
    }
    (ok, words.join(", "))
}

/// Returns the line about the vendored toolkit, or `None` if this is not a copy. An invalid manifest is reported in
/// the line, and is no failure of `status`.
fn build_vendored_line(repo: &Repo, canonical: Option<Id>) -> Result<Option<VendoredLine>> {
    let Some(tree) = repo.tree_of_head()? else { return Ok(None) };
    Ok(match read_version_status(repo, tree, canonical) {
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
fn build_validation_line(repo: &Repo, now: i64) -> Option<ValidationLine> {
    let (past, words) = describe_last_run(repo, repo.root())?;
    Some(ValidationLine {
        run: past.run,
        started: format_rfc3339(past.at),
        ok: past.ok,
        words: format!("{words}, {}", format_ago(now, past.at)),
    })
}

fn print_report(session: &Session, args: &StatusArgs, report: &StatusReport) -> CommandResult {
    if args.json {
        report::print_json(report)?;
    } else {
        report::print_output(&report.render_text(session.verbosity == Verbosity::Verbose))?;
    }
    Ok(SUCCESS)
}

fn count_classes(plan: &SyncPlan) -> ClassCounts {
    ClassCounts {
        behind: plan.count(PathClass::Behind) + plan.count(PathClass::Sparse),
        customised: plan.count(PathClass::Customised),
        edited: Some(plan.count(PathClass::Edited)),
        untracked: Some(plan.count(PathClass::Untracked)),
        unknown: plan.count(PathClass::Unknown),
    }
}

fn build_worktree_lines(
    repo: &Repo,
    context: &SyncContext,
    tools: &Tools<'_>,
) -> Result<Vec<WorktreeStatusLine>> {
    Ok(repo
        .list_worktrees()?
        .into_iter()
        .map(|tree| build_worktree_line(repo, context, tree, tools))
        .collect())
}

/// Returns the line of one worktree. If it cannot be inspected, its note is the error.
fn build_worktree_line(
    repo: &Repo,
    context: &SyncContext,
    tree: Worktree,
    tools: &Tools<'_>,
) -> WorktreeStatusLine {
    let mut line = WorktreeStatusLine {
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
        if rollback::has_unfinished_transaction(&repo) {
            line.note = Some("an earlier run was interrupted".to_owned());
        }
        inspect_checkout(
            &repo,
            context.clone(),
            &SyncOptions::plain(),
            ScanDepth::Everything,
            tools,
        )
    });
    match looked {
        Ok(SyncInspection::OnCanonical(_)) => line.note = Some("canonical".to_owned()),
        Ok(SyncInspection::Planned(decided)) => line.counts = Some(count_classes(&decided.plan)),
        Err(failure) => line.note = Some(failure.to_string()),
    }
    line
}

fn build_branch_lines(
    repo: &Repo,
    context: &SyncContext,
    progress: &dyn Progress,
) -> Result<Vec<BranchStatusLine>> {
    let states = survey_branches(repo, context, progress)?;
    Ok(states
        .into_iter()
        .map(|state| BranchStatusLine {
            counts: ClassCounts {
                behind: state.count(PathClass::Behind),
                customised: state.count(PathClass::Customised),
                edited: None,
                untracked: None,
                unknown: state.count(PathClass::Unknown),
            },
            commit: state.commit.to_string(),
            branch: state.name,
        })
        .collect())
}
