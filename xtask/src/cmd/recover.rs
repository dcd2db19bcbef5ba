//! `recover`: backs up everything and brings the worktree to a known-good state.
//!
//! It shows the plan, backs up, and then runs the steps in order: stop services, reset git, repair the environment,
//! start services. A step that fails does not prevent the others; the remaining problems are reported at the end.
//!
//! ```text
//! Diagnosis  ->  plan and prompt  ->  SavedBackup  ->  steps  ->  "recovery incomplete" or exit code 0
//! ```

use std::time::Duration;

use super::diagnose::{Diagnosis, diagnose_worktree, find_broken_files, step_name};
use super::session::Session;
use super::{CommandResult, SUCCESS, backup_list, best_effort_sync, checks, stack as shared};
use crate::cli::{RecoverArgs, RecoverStep};
use xtask_base::digest;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::ports;
use xtask_git::Repo;
use xtask_recovery::create_backup::{
    BACKUP_LIMITS, BackupOptions, SavedBackup, inspect_worktree, save_worktree,
};
use xtask_recovery::env_files::{BrokenEnvFile, EnvReplacement};
use xtask_recovery::secret_files::{self, CopyRestore, SecretCopy};
use xtask_recovery::{reset, target};
use xtask_report as report;
use xtask_report::recovery;
use xtask_services::follow::lock_stack;
use xtask_services::plan;
use xtask_services::port_plan;
use xtask_services::report::ServiceProgress;
use xtask_services::stack::Stack;
use xtask_services::start::{StartOptions, start_services};
use xtask_services::stop::stop_all;
use xtask_sync::context;
use xtask_sync::worktree_lock::LockWorktree as _;

/// How long each service may take to become ready, as for `start`.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn run(session: &Session, args: &RecoverArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if args.to.is_some() && !args.steps.is_empty() && !args.steps.contains(&RecoverStep::Git) {
        return Err(Error::usage("`--to` needs the step `git`"));
    }
    let found = diagnose_worktree(session, &repo, args)?;
    if found.is_healthy() {
        session.print_info(&describe_healthy(&found));
        return Ok(SUCCESS);
    }
    report::print_output(&recovery::render_plan(&found.parts))?;
    if args.dry_run {
        return Ok(SUCCESS);
    }
    if found.is_leaving && repo.is_index_locked() {
        let lock = repo.index_lock_file().display().to_string();
        return Err(Error::unable("the index is locked, possibly by a running git")
            .with_hint("wait until git has exited")
            .with_hint(format!("if no git is running here: `rm '{lock}'`, and run this again")));
    }
    if !session.confirm("run this plan?", args.yes)? {
        return Err(Error::negative("nothing was changed"));
    }
    let mut faults = Vec::new();
    let saved = repair_worktree(session, &repo, &found, args.to.as_deref(), &mut faults)?;
    drop(repo);
    // The reset may have checked out another commit.
    let repo = session.open_repo()?;
    start_layers(session, &repo, &found, &mut faults);
    print_outcome(session, saved.as_ref(), faults)
}

fn describe_healthy(found: &Diagnosis) -> String {
    let steps =
        [RecoverStep::Git, RecoverStep::Environment, RecoverStep::Ports, RecoverStep::Services];
    let asked: Vec<String> =
        steps.into_iter().filter(|step| found.is_requested(*step)).map(step_name).collect();
    let mut text = format!("no problems found: {}", asked.join(", "));
    if found.is_requested(RecoverStep::Environment) {
        text.push_str("; `cargo xtask validate` checks more");
    }
    text
}

/// Backs up, then runs all steps but the start of the services. Returns the backup, if one was needed.
fn repair_worktree(
    session: &Session,
    repo: &Repo,
    found: &Diagnosis,
    to: Option<&str>,
    faults: &mut Vec<Error>,
) -> Result<Option<SavedBackup>> {
    let tools = session.tools();
    let replaces = found.is_requested(RecoverStep::Environment) && !found.broken.is_empty();
    let mut saved = None;
    let mut is_leaving = found.is_leaving;
    if found.is_leaving || replaces {
        let (_lock, mended) = tools.lock_worktree(repo)?;
        session.warn_recovered(mended);
        // Only the confirmed plan may be executed.
        let seen = inspect_worktree(repo, &found.secrets)?;
        if seen != found.seen || target::find_target(repo, to)? != found.goal {
            return Err(Error::negative(
                "the worktree has changed since the plan was made; nothing was done",
            )
            .with_hint("run this again"));
        }
        let leaves = found.is_leaving.then(|| found.goal.to_moved_branch());
        let wish = BackupOptions {
            purpose: "recover",
            label: None,
            leaves,
            limits: BACKUP_LIMITS,
            replaced_paths: &[],
        };
        let made = save_worktree(repo, &tools, &seen, &wish)?;
        session.print_info(&format!("{}, as {}", backup_list::describe_saved(&made), made.id));
        backup_list::warn_left_out(&made);
        // A step that fails does not prevent the others.
        if is_leaving && let Err(refused) = reset::check_reset(repo, &made, &found.goal) {
            faults.push(refused);
            is_leaving = false;
        }
        saved = Some(made);
    }
    // Services hold files and ports, so they stop before anything is replaced.
    if found.has_actions(RecoverStep::Services) || found.has_actions(RecoverStep::Ports) {
        stop_layers(session, repo, found, faults);
    }
    if let Some(saved) = &saved {
        let (_lock, _) = tools.lock_worktree(repo)?;
        if is_leaving {
            // Start the services from the new commit.
            match reset::reset_worktree(repo, &tools, saved, &found.goal) {
                Ok(kept) => {
                    session.print_info(&format!("checked out {}", found.goal.describe(repo)));
                    for kept in kept {
                        session.print_info(&format!(
                            "commits that were on no branch are kept on `{kept}`"
                        ));
                    }
                }
                Err(failure) => faults.push(failure),
            }
        }
        if replaces {
            // The reset may have repaired a file.
            match find_still_broken(repo, found) {
                Ok(broken) => {
                    let done = broken.iter().map(|one| replace_env_file(session, repo, one, saved));
                    faults.extend(done.filter_map(Result::err));
                }
                Err(failure) => faults.push(failure),
            }
        }
    }
    if found.has_actions(RecoverStep::Environment) {
        let repo = session.open_repo()?;
        repair_environment(session, &repo, faults);
    }
    Ok(saved)
}

/// Returns the env files of the plan that still cannot be read.
fn find_still_broken(repo: &Repo, found: &Diagnosis) -> Result<Vec<BrokenEnvFile>> {
    let loaded: Vec<_> =
        found.layers.iter().filter_map(|name| shared::read_layer(repo, name).ok()).collect();
    let now = find_broken_files(repo, &loaded.iter().collect::<Vec<_>>())?;
    // The replacement must be the confirmed one, so the entries of the plan are returned.
    let still = |one: &&BrokenEnvFile| now.iter().any(|other| other.path == one.path);
    Ok(found.broken.iter().filter(still).cloned().collect())
}

/// Replaces an unreadable env file with the copy or example of the plan.
fn replace_env_file(
    session: &Session,
    repo: &Repo,
    one: &BrokenEnvFile,
    saved: &SavedBackup,
) -> Result<()> {
    let path = &one.path;
    let (content, bits, from) = match &one.replacement {
        None => {
            return Err(
                Error::negative(one.why.clone()).with_hint(format!("fix `{path}` manually"))
            );
        }
        Some(EnvReplacement::Copy { backup, copies_name: name, index: at, .. }) => {
            let list = secret_files::read_list(repo, name)?;
            let copy =
                list.get(*at).ok_or_else(|| Error::unable("the list of copies is damaged"))?;
            let content = secret_files::read_copy(repo, name, *at, copy)?;
            (content, copy.bits, format!("backup {backup}"))
        }
        Some(EnvReplacement::Example(example)) => {
            let failed = || format!("cannot read `{example}`");
            (
                std::fs::read(example.to_disk_path(repo.root())).with_context(failed)?,
                0o600,
                format!("`{example}`"),
            )
        }
    };
    let digest = digest::hash_parts([&content[..]]);
    let copy = SecretCopy { path: path.clone(), is_link: false, bits, digest, is_gone: false };
    match secret_files::restore_copy(repo, session.tools().disk, &copy, &content, &saved.copies)? {
        CopyRestore::Restored | CopyRestore::Unchanged => {
            session.print_info(&format!("`{path}` restored from {from}"));
            Ok(())
        }
        CopyRestore::Unsaved => {
            Err(Error::negative(format!("`{path}` was not changed: {}", secret_files::UNSAVED)))
        }
        CopyRestore::Blocked(why) => {
            Err(Error::negative(format!("`{path}` was not changed: {why}")))
        }
    }
}

fn stop_layers(session: &Session, repo: &Repo, found: &Diagnosis, faults: &mut Vec<Error>) {
    for stack in Stack::list_all(&repo.folders()) {
        let is_meant = found.layers.contains(&stack.layer);
        let ended = || -> Result<()> {
            let page = xtask_services::client::read_brief_status(&stack, &session.world)?;
            let Some(page) = page.filter(|page| is_meant && page.is_up()) else { return Ok(()) };
            let mut listener = ServiceProgress::new(session.verbosity);
            let _lock = lock_stack(&stack, "recover", &mut listener)?;
            stop_all(&shared::stack_context(session), &mut listener, &stack, &page)?;
            session.print_info(&format!("layer `{}` stopped", stack.layer));
            Ok(())
        };
        if let Err(failure) = ended() {
            faults.push(failure);
        }
    }
}

fn repair_environment(session: &Session, repo: &Repo, faults: &mut Vec<Error>) {
    let synced = || -> CommandResult {
        let tools = session.tools();
        let (_lock, mended) = tools.lock_worktree(repo)?;
        session.warn_recovered(mended);
        match context::find_canonical_names(repo)
            .and_then(|names| context::find_context(repo, &names))?
        {
            Some(context) => best_effort_sync::sync_best_effort(session, repo, context),
            None => Ok(SUCCESS),
        }
    };
    if let Err(failure) = synced() {
        faults.push(failure);
    }
    match checks::run_with_fixes(session, "recover") {
        Ok(SUCCESS) => {}
        Ok(_) => faults.push(
            Error::negative("some checks failed")
                .with_hint("`cargo xtask validate --fast` shows them"),
        ),
        Err(failure) => faults.push(failure),
    }
}

/// Starts the layers again; a service whose port another process uses gets another port.
fn start_layers(session: &Session, repo: &Repo, found: &Diagnosis, faults: &mut Vec<Error>) {
    if !found.has_actions(RecoverStep::Services) {
        let words = |one: &port_plan::PortConflict| {
            let wanted = vec![(one.service.clone(), one.port)];
            port_plan::find_conflicts(&wanted, None).map(|found| found.into_iter().next())
        };
        for one in found.obstacles.iter().filter(|_| found.is_requested(RecoverStep::Ports)) {
            match words(one) {
                Ok(None) => session.print_info(&format!("port {} is free again", one.port)),
                Ok(Some(left)) => faults.push(Error::negative(left.describe(false))),
                Err(failure) => faults.push(failure),
            }
        }
        return;
    }
    for name in &found.layers {
        if let Err(failure) = start_layer(session, repo, name) {
            faults.push(failure);
        }
    }
}

fn start_layer(session: &Session, repo: &Repo, name: &str) -> Result<()> {
    let layer = shared::read_layer(repo, name)?;
    let disk = session.tools().disk;
    let wanted = port_plan::assign_ports(&repo.folders(), disk, &layer, &Default::default(), true)?;
    let mut wanted: Vec<(String, u16)> = wanted
        .services
        .into_iter()
        .chain(wanted.status.filter(|port| *port != 0).map(|port| ("status".to_owned(), port)))
        .collect();
    let mut moved = Vec::new();
    for one in port_plan::find_conflicts(&wanted, None)? {
        let numbers: Vec<u16> = wanted.iter().map(|(_, port)| *port).collect();
        let port = port_plan::suggest_port(one.port, &numbers);
        let who = ports::describe_owners(one.port, &one.owners);
        session.print_info(&format!("{who}: {} starts on {port} this time", one.service));
        wanted.push((one.service.clone(), port));
        moved.push((one.service, port));
    }
    let options = StartOptions {
        ports: moved.into_iter().collect(),
        take_over: Vec::new(),
        without: Vec::new(),
        is_clean: true,
        ready_within: READY_TIMEOUT,
    };
    let chosen = plan::choose_services(&layer, &[])?;
    let context = shared::stack_context(session);
    let mut listener = ServiceProgress::new(session.verbosity);
    let outcome =
        start_services(&context, &mut listener, &repo.folders(), &layer, &chosen, &options)?;
    shared::print_start("xtask.start/1", outcome, false, true)
}

fn print_outcome(
    session: &Session,
    saved: Option<&SavedBackup>,
    faults: Vec<Error>,
) -> CommandResult {
    if let Some(saved) = saved {
        session.print_info(&format!(
            "everything that was replaced is backed up: `cargo xtask restore {}` restores it",
            saved.id
        ));
    }
    let mut faults = faults.into_iter();
    let Some(first) = faults.next() else {
        let is_whole = saved.is_none_or(|saved| saved.left_out.is_empty());
        return Ok(if is_whole { SUCCESS } else { ErrorKind::Negative.exit_code() });
    };
    if let Some(interrupted) = [&first].into_iter().find(|one| one.kind() == ErrorKind::Interrupted)
    {
        return Err(Error::new(ErrorKind::Interrupted, interrupted.message().to_owned()));
    }
    let rest: Vec<Error> = faults.collect();
    let is_unable = |one: &Error| one.kind() == ErrorKind::Unable;
    let kind = match is_unable(&first) || rest.iter().any(is_unable) {
        true => ErrorKind::Unable,
        false => ErrorKind::Negative,
    };
    let mut error = Error::new(kind, "recovery incomplete");
    for fault in std::iter::once(&first).chain(&rest) {
        error = error.with_detail(fault.to_string());
        error = fault
            .details()
            .iter()
            .fold(error, |error, line| error.with_detail(format!("  {line}")));
    }
    let hints = std::iter::once(&first).chain(&rest).flat_map(Error::hints);
    Err(hints.fold(error, |error, hint| error.with_hint(hint.clone())))
}
