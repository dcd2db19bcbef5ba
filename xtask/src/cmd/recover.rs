//! `recover`: the way out of a broken morning. The plan, then everything saved, then the parts in order: the
//! services end, git goes to a good state, the environment, the services begin. One part that fails does not
//! keep the others from being put right; what is still wrong is told at the end.

use std::time::Duration;

use super::diagnose::{Diagnosis, diagnose_worktree, find_broken_files, step_name};
use super::session::Session;
use super::{
    CommandResult, SUCCESS, backup_list, best_effort_sync, checks, service_start, stack as shared,
};
use crate::cli::{RecoverArgs, RecoverStep, StartArgs};
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
use xtask_services::plan;
use xtask_services::port_plan;
use xtask_services::stack::Stack;
use xtask_sync::context;
use xtask_sync::worktree_lock::LockWorktree as _;

/// How long each service may take to get ready, as for `start`.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn run(session: &Session, args: &RecoverArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if args.to.is_some() && !args.steps.is_empty() && !args.steps.contains(&RecoverStep::Git) {
        return Err(Error::usage("`--to` says where git goes, and `git` is not among the steps"));
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
        return Err(Error::unable(
            "the index is locked, and nobody can say whether that git still lives",
        )
        .with_hint("wait until it has ended")
        .with_hint(format!("if none is at work here: `rm '{lock}'`, and run this again")));
    }
    if !session.confirm("do this?", args.yes)? {
        return Err(Error::negative("nothing was changed"));
    }
    let mut faults = Vec::new();
    let saved = repair_worktree(session, &repo, &found, args.to.as_deref(), &mut faults)?;
    drop(repo);
    // Another commit may be checked out now.
    let repo = session.open_repo()?;
    start_layers(session, &repo, &found, &mut faults);
    print_outcome(session, saved.as_ref(), faults)
}

fn describe_healthy(found: &Diagnosis) -> String {
    let steps =
        [RecoverStep::Git, RecoverStep::Environment, RecoverStep::Ports, RecoverStep::Services];
    let asked: Vec<String> =
        steps.into_iter().filter(|step| found.is_requested(*step)).map(step_name).collect();
    let mut text = format!("nothing is wrong that can be seen: {}", asked.join(", "));
    if found.is_requested(RecoverStep::Environment) {
        text.push_str("; `cargo xtask validate` looks further");
    }
    text
}

/// All but the start of the services: everything is saved first.
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
        // What was shown and said yes to is what is done, and nothing else.
        let seen = inspect_worktree(repo, &found.secrets)?;
        if seen != found.seen || target::find_target(repo, to)? != found.goal {
            return Err(Error::negative(
                "something has changed since the plan was made; nothing was changed",
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
        // One part that cannot be done keeps no other from being done.
        if is_leaving && let Err(refused) = reset::check_reset(repo, &made, &found.goal) {
            faults.push(refused);
            is_leaving = false;
        }
        saved = Some(made);
    }
    // Services hold files and ports: they end before anything is replaced under them.
    if found.has_actions(RecoverStep::Services) || found.has_actions(RecoverStep::Ports) {
        stop_layers(session, repo, found, faults);
    }
    if let Some(saved) = &saved {
        let (_lock, _) = tools.lock_worktree(repo)?;
        if is_leaving {
            // Services begin again wherever git stands then.
            match reset::reset_worktree(repo, &tools, saved, &found.goal) {
                Ok(kept) => {
                    session.print_info(&format!("went to {}", found.goal.describe(repo)));
                    for kept in kept {
                        session.print_info(&format!("commits that were only here are on `{kept}`"));
                    }
                }
                Err(failure) => faults.push(failure),
            }
        }
        if replaces {
            // Another commit may have put one right.
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

/// The files of variables that still cannot be read.
fn find_still_broken(repo: &Repo, found: &Diagnosis) -> Result<Vec<BrokenEnvFile>> {
    let loaded: Vec<_> =
        found.layers.iter().filter_map(|name| shared::read_layer(repo, name).ok()).collect();
    let now = find_broken_files(repo, &loaded.iter().collect::<Vec<_>>())?;
    // What is put in its place is what the plan said; our own backup holds what is broken.
    let still = |one: &&BrokenEnvFile| now.iter().any(|other| other.path == one.path);
    Ok(found.broken.iter().filter(still).cloned().collect())
}

/// Puts what can be read in the place of a file of variables that cannot.
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
                Error::negative(one.why.clone()).with_hint(format!("put `{path}` right by hand"))
            );
        }
        Some(EnvReplacement::Copy { backup, copies_name: name, index: at, .. }) => {
            let list = secret_files::read_list(repo, name)?;
            let copy = list.get(*at).ok_or_else(|| Error::unable("the list of copies is torn"))?;
            let content = secret_files::read_copy(repo, name, *at, copy)?;
            (content, copy.bits, format!("backup {backup}"))
        }
        Some(EnvReplacement::Example(example)) => {
            let failed = || format!("`{example}` cannot be read");
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
            session.print_info(&format!("`{path}` is from {from} now"));
            Ok(())
        }
        CopyRestore::Unsaved => {
            Err(Error::negative(format!("`{path}` stays as it is: {}", secret_files::UNSAVED)))
        }
        CopyRestore::Blocked(why) => {
            Err(Error::negative(format!("`{path}` stays as it is: {why}")))
        }
    }
}

fn stop_layers(session: &Session, repo: &Repo, found: &Diagnosis, faults: &mut Vec<Error>) {
    for stack in Stack::list_all(&repo.folders()) {
        let is_meant = found.layers.contains(&stack.layer);
        let ended = || -> Result<()> {
            let page = xtask_services::client::read_brief_status(&stack, &session.world)?;
            if !is_meant || !page.is_some_and(|page| shared::is_up(&page)) {
                return Ok(());
            }
            let _lock = shared::lock_stack(&stack, "recover")?;
            shared::stop_all(session, &stack)?;
            session.print_info(&format!("layer `{}` has ended", stack.layer));
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
            Error::negative("not all checks pass")
                .with_hint("`cargo xtask validate --fast` says more"),
        ),
        Err(failure) => faults.push(failure),
    }
}

/// Starts the layers anew, each service whose port somebody else has on another one.
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
    let args = StartArgs {
        services: Vec::new(),
        layer: Some(name.to_owned()),
        clean: true,
        check_ports: false,
        verify: false,
        port: moved,
        take_over: Vec::new(),
        fallback: Vec::new(),
        timeout: READY_TIMEOUT,
        foreground: false,
        dry_run: false,
        json: false,
    };
    let chosen = plan::choose_services(&layer, &[])?;
    match service_start::start_services(session, repo, &layer, &chosen, &args)? {
        SUCCESS => Ok(()),
        code => Err(Error::new(
            if code == ErrorKind::Interrupted.exit_code() {
                ErrorKind::Interrupted
            } else {
                ErrorKind::Negative
            },
            format!("layer `{name}` was not started"),
        )),
    }
}

fn print_outcome(
    session: &Session,
    saved: Option<&SavedBackup>,
    faults: Vec<Error>,
) -> CommandResult {
    if let Some(saved) = saved {
        session.print_info(&format!(
            "all that was replaced is saved: `cargo xtask restore {}` brings it back",
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
