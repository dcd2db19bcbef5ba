//! The state of a worktree in all parts of the toolkit, for `status`. Nothing is written. For example, a branch that
//! lacks two canonical changes has the line `sync  2 behind` and the note `` `cargo xtask sync` updates them ``.

mod fleet_bar;
pub mod report;
#[cfg(feature = "services")]
pub mod services;
pub mod worktrees;

#[cfg(feature = "checks")]
use self::report::ValidationLine;
use self::report::{CheckoutLines, ClassCounts, StatusReport, ToolkitLines, VendoredLine};
use crate::canonical_checks::find_wanted_hooks;
#[cfg(feature = "checks")]
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::words::{join_names, pluralize};
use xtask_branches::check::{check_branch, needs_check};
use xtask_branches::facts::BranchInspector;
use xtask_changes::changes_branch::list_pending;
use xtask_changes::resolution_state::is_resolving;
use xtask_changes::resolve::{list_kept_worktrees, resolve_worktree_path};
use xtask_git::{Id, Repo, Tools};
use xtask_hooks::health::inspect_hooks;
use xtask_hooks::program::VerifyDepth;
use xtask_review::queue;
use xtask_sync::branch_overview::count_differing;
use xtask_sync::classify::PathClass;
use xtask_sync::context::{self, SyncContext};
use xtask_sync::overlay;
use xtask_sync::pin_reader::PinReader;
use xtask_sync::report::{CanonicalLine, PathLine};
use xtask_sync::rollback;
use xtask_sync::run::{PlannedSync, SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;
use xtask_sync::upstream::{self, UpstreamStatus};
use xtask_sync::write_rules::check_write_rules;
use xtask_upgrade::version_status::read_version_status;
#[cfg(feature = "checks")]
use xtask_validate::session::describe_last_run;

/// Reads the status of a worktree, but for services and deploys; with `all`, also of all worktrees and branches.
pub fn read_status(repo: &Repo, all: bool, tools: &Tools<'_>) -> Result<StatusReport> {
    let now = tools.world.now_seconds();
    let names = context::find_canonical_names(repo)?;
    let context = context::find_context(repo, &names)?;
    let wanted = find_wanted_hooks(repo, context.as_ref())?;
    let hooks =
        inspect_hooks(repo, tools.world, Ok(context.as_ref()), VerifyDepth::Metadata, &wanted)?;
    let requests = queue::list_requests(repo, now);
    let mut report = StatusReport {
        schema: "xtask.status/1",
        checkout: CheckoutLines {
            canonical: context.as_ref().map(CanonicalLine::new),
            worktree: repo.root().display().to_string(),
            branch: repo.current_branch(),
        },
        sync: None,
        toolkit: ToolkitLines {
            hooks: hooks.summary(),
            validation: None,
            services: Vec::new(),
            deployed: Vec::new(),
            requests: requests.iter().map(|request| request.describe(now)).collect(),
            vendored: read_vendored(repo, context.as_ref().map(|found| found.canonical.tree))?,
        },
        overlay: overlay::read_overlay(repo)?.paths.len(),
        notes: Vec::new(),
        paths: Vec::new(),
        all: None,
    };
    #[cfg(feature = "checks")]
    report.toolkit.validation.clone_from(&read_last_validation(repo, now));
    report.notes.extend(rollback::interrupted_note(repo));
    let Some(context) = context else {
        let missing = context::missing_canonical_error(repo, &names);
        report.notes.push(missing.message().to_owned());
        report.notes.extend(missing.hints().iter().cloned());
        return Ok(report);
    };
    report.notes.extend(context.warnings.iter().cloned());
    report.notes.extend(checkout_notes(repo));
    report.notes.extend(resolution_notes(repo));
    report.notes.extend(pending_note(repo, &context, tools));
    report.notes.extend(branch_notes(repo, &context, now)?);
    add_sync_status(&mut report, repo, &context, tools)?;
    if all {
        report.all = Some(worktrees::read_all(repo, &context, tools)?);
    }
    Ok(report)
}

fn checkout_notes(repo: &Repo) -> Vec<String> {
    let operation = repo.current_operation();
    let operation = operation.map(|operation| format!("{} is in progress", operation.name));
    let note = "nothing is checked out here yet (`git checkout` does it)";
    operation.into_iter().chain(repo.needs_checkout().then(|| note.to_owned())).collect()
}

fn resolution_notes(repo: &Repo) -> Vec<String> {
    let mut notes = Vec::new();
    if is_resolving(repo) {
        let folder = resolve_worktree_path(repo);
        notes.push(format!("a conflict of reverse-sync must be resolved in {}", folder.display()));
    }
    let kept = list_kept_worktrees(repo);
    if let Some(first) = kept.first() {
        notes.push(format!(
            "kept from earlier resolutions: {}, as {} (`git worktree remove --force` removes one)",
            pluralize(kept.len(), "folder"),
            first.display()
        ));
    }
    notes
}

fn pending_note(repo: &Repo, context: &SyncContext, tools: &Tools<'_>) -> Option<String> {
    match list_pending(repo, context, tools.disk) {
        Ok(names) if names.is_empty() => None,
        Ok(names) => Some(format!(
            "collected for `{}`: {} (`cargo xtask promote --dry-run` shows the changes)",
            context.config.branch,
            join_names(&names, 5)
        )),
        Err(failure) => Some(failure.to_string()),
    }
}

/// Returns the findings of the branch's rule.
fn branch_notes(repo: &Repo, context: &SyncContext, now: i64) -> Result<Vec<String>> {
    let Some(branch) = repo.current_branch().filter(|branch| needs_check(context, branch)) else {
        return Ok(Vec::new());
    };
    let Some(commit) = repo.resolve_ref("HEAD")? else { return Ok(Vec::new()) };
    let inspector = BranchInspector::new(repo, context, now)?;
    Ok(check_branch(&inspector, &branch, Ok(commit)).render_findings())
}

/// Adds counts, paths and notes about the managed files.
fn add_sync_status(
    report: &mut StatusReport,
    repo: &Repo,
    context: &SyncContext,
    tools: &Tools<'_>,
) -> Result<()> {
    let options = SyncOptions::plain();
    if let Some(fault) = find_pin_fault(repo, context, tools)? {
        report.sync = Some(ClassCounts::of_unknown(count_differing(repo, context, &repo.head()?)?));
        report.notes.push(fault.message().to_owned());
        report.notes.extend(fault.hints().iter().cloned());
        return Ok(());
    }
    let inspection =
        inspect_checkout(repo, context.clone(), &options, ScanDepth::Everything, tools)?;
    let SyncInspection::Planned(planned) = inspection else {
        let branch = &context.config.branch;
        report.notes.push(format!("`{branch}` is the canonical branch"));
        let reader = PinReader::new(repo, tools.world.now_seconds());
        if let Err(fault) = reader.read_tree(repo.head()?.tree, branch) {
            report.notes.push(fault.message().to_owned());
        }
        return Ok(());
    };
    let plan = &planned.plan;
    report.sync = Some(ClassCounts::of_plan(plan));
    let differing = plan.items.iter().filter(|item| item.class != PathClass::InSync);
    report.paths.extend(differing.map(PathLine::new));
    if let UpstreamStatus::OnlySyncCommits(ahead) =
        upstream::find_upstream_status(repo, &planned.head, context)?
    {
        let short = ahead.reference.trim_start_matches("refs/remotes/");
        report.notes.push(format!(
            "`{short}` has new commits, and only sync commits are ahead of it; `cargo xtask sync` moves there"
        ));
    }
    report.notes.extend(planned.pins.describe_lapsed());
    let lapsed = planned.describe_lapsed_written();
    let pins = planned.describe_pins(repo).into_iter().filter(|line| !lapsed.contains(line));
    report.notes.extend(pins);
    report.notes.extend(planned.describe_pinned_overlay());
    if plan.count(PathClass::Behind) + plan.count(PathClass::Sparse) > 0 {
        report.notes.push(describe_next_sync(repo, &planned, &options));
    }
    Ok(())
}

/// Returns why the pins of the checked-out branch cannot be read. The canonical branch has none of its own.
fn find_pin_fault(repo: &Repo, context: &SyncContext, tools: &Tools<'_>) -> Result<Option<Error>> {
    let head = repo.head()?;
    if head.branch.as_deref() == Some(context.config.branch.as_str()) {
        return Ok(None);
    }
    match PinReader::new(repo, tools.world.now_seconds()).read_branch(context, &head) {
        Err(fault) if fault.kind() == ErrorKind::Usage => Ok(Some(fault)),
        read => read.map(|_| None),
    }
}

fn describe_next_sync(repo: &Repo, planned: &PlannedSync, options: &SyncOptions) -> String {
    if repo.current_operation().is_some() {
        return "sync writes nothing until that has ended".to_owned();
    }
    match check_write_rules(repo, planned, options) {
        Ok(()) => "`cargo xtask sync` updates them".to_owned(),
        Err(refused) => {
            format!("sync refuses: {}; {}", refused.message(), refused.hints().join("; "))
        }
    }
}

/// Returns the line about the vendored toolkit, or `None` if this is not a copy. An invalid manifest is reported in
/// the line, and is no failure of `status`.
fn read_vendored(repo: &Repo, canonical: Option<Id>) -> Result<Option<VendoredLine>> {
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
fn read_last_validation(repo: &Repo, now: i64) -> Option<ValidationLine> {
    let (past, words) = describe_last_run(repo, repo.root())?;
    Some(ValidationLine {
        run: past.run,
        started: format_rfc3339(past.at),
        ok: past.ok,
        words: format!("{words}, {}", format_ago(now, past.at)),
    })
}
