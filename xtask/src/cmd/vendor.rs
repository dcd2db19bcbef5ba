//! `vendor`: copies the toolkit into another repository, staged and not committed, e.g. `vendor ../shop --parts
//! sync,hooks`.

use std::path::Path;

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::VendorArgs;
use xtask_base::error::Result;
use xtask_base::name::NAME;
use xtask_detect::repo_facts::DetectedRemote;
use xtask_git::Repo;
use xtask_report::{self as report, Verbosity};
use xtask_review::forge::parse_project;
use xtask_sync::worktree_lock::LockWorktree as _;
use xtask_upgrade::copy_spec::CopySpec;
use xtask_upgrade::parts::ToolkitParts;
use xtask_upgrade::toolkit::{self, Toolkit};
use xtask_vendoring::install::{has_pending_install, install_changes, recover_install};
use xtask_vendoring::install_plan::{VendorContext, VendorPlan, detect_parts, plan_install};
use xtask_vendoring::protected_branches::choose_protected;
use xtask_vendoring::target::VendorTarget;

pub(super) fn run(session: &Session, args: &VendorArgs) -> CommandResult {
    let own = session.open_repo()?;
    let uncommitted = toolkit::list_uncommitted(&own)?;
    let address = own.public_url("origin");
    // Wrong arguments are reported before the repository is inspected.
    let named = (!args.parts.is_empty()).then(|| ToolkitParts::parse(&args.parts)).transpose()?;
    let name = args.name.as_deref().unwrap_or(NAME);
    CopySpec::check_name(name)?;
    let toolkit = Toolkit::read_commit(own, args.reference.as_deref(), CopySpec::with_all_parts())?;
    let folder = session.world.cwd.join(&args.folder);
    undo_earlier_run(session, &folder, args)?;
    let target = VendorTarget::open(&folder, toolkit.repo(), name)?;
    let parts = match named {
        Some(parts) => parts,
        None if !toolkit.has_parts => ToolkitParts::all(),
        None => detect_parts(&target, &build_context(&target, address.clone()))?,
    };
    let toolkit = toolkit.with_spec(CopySpec { name: name.to_owned(), parts })?;
    if !uncommitted.is_empty() {
        report::print_warning(&toolkit::describe_uncommitted(&uncommitted));
    }
    let protected = choose_and_report(session, &target, args)?;
    let around = |target: &VendorTarget| VendorContext {
        protected: Some(protected.clone()),
        ..build_context(target, address.clone())
    };
    let memory = target.repo.in_memory();
    let looked = plan_install(&target, &memory, &toolkit, around(&target))?;
    target.check_paths(&looked.changes)?;
    memory.write_tree(target.tree, &looked.changes)?;
    let place = target.repo.root().display().to_string();
    if let Some(note) = target.note_canonical_branch() {
        session.print_info(&format!("note: {note}"));
    }
    let version = toolkit.describe_version();
    if args.dry_run {
        let title = format!("xtask {version} would be added to {place}:");
        show_plan(session, &looked, name, &title)?;
        session.print_info("nothing was written");
        return Ok(SUCCESS);
    }
    // The plan is computed again under the lock.
    let tools = session.tools();
    let (_lock, mended) = tools.lock_worktree(&target.repo)?;
    session.warn_recovered(mended);
    let target = VendorTarget::open(&folder, toolkit.repo(), name)?;
    let real = plan_install(&target, &target.repo, &toolkit, around(&target))?;
    target.check_paths(&real.changes)?;
    install_changes(&target.repo, target.tree, &real.changes, tools.disk)?;
    let title = format!("xtask {version} was added to {place}, staged and not committed:");
    show_plan(session, &real, name, &title)?;
    if address.is_none() {
        session.print_info(
            "note: this checkout of the toolkit has no public `origin`, so an upgrade there needs \
             `--from`",
        );
    }
    let steps = real.render_next_steps(&place, &toolkit.spec, &toolkit.version.to_string());
    steps.iter().for_each(|line| session.print_info(line));
    Ok(SUCCESS)
}

fn choose_and_report(
    session: &Session,
    target: &VendorTarget,
    args: &VendorArgs,
) -> Result<Vec<String>> {
    let ask = |question: &str| if args.dry_run { None } else { report::prompt_line(question) };
    let chosen = choose_protected(target, &args.protect, &ask)?;
    chosen.warnings.iter().for_each(|warning| report::print_warning(warning));
    chosen.note.iter().for_each(|note| session.print_info(note));
    Ok(chosen.branches)
}

/// Returns the facts about a repository that are not in its files.
fn build_context(target: &VendorTarget, source: Option<String>) -> VendorContext {
    VendorContext {
        default_branch: target.repo.default_branch(),
        remote: find_remote(target),
        source,
        protected: None,
    }
}

/// Rolls back an interrupted earlier run of `vendor` in the target repository.
fn undo_earlier_run(session: &Session, folder: &Path, args: &VendorArgs) -> Result<()> {
    let Ok(repo) = Repo::discover(folder) else { return Ok(()) };
    if args.dry_run || !has_pending_install(&repo) {
        return Ok(());
    }
    let tools = session.tools();
    let (_lock, _) = tools.lock_worktree(&repo)?;
    if recover_install(&repo, tools.disk)? {
        report::print_warning(
            "an earlier `vendor` was interrupted there; its changes were rolled back",
        );
    }
    Ok(())
}

/// Returns the remote `origin`, or else the first one.
fn find_remote(target: &VendorTarget) -> Option<DetectedRemote> {
    let names = target.repo.remote_names();
    let name = names.iter().find(|name| *name == "origin").or(names.first())?.clone();
    let url = target.repo.fetch_url(&name);
    let forge = url.and_then(|url| parse_project(&url, None)).map(|project| project.forge);
    Some(DetectedRemote { name, forge })
}

fn show_plan(session: &Session, plan: &VendorPlan, name: &str, title: &str) -> Result<()> {
    // Manual steps are printed even with `--quiet`: without them the toolkit may not work.
    plan.render_manual_edits().iter().for_each(|edit| report::print_warning(edit));
    if session.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    report::print_output(&plan.render_text(name, title))?;
    plan.notes.iter().for_each(|note| session.print_info(&format!("note: {note}")));
    Ok(())
}
