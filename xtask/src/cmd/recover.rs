//! `recover`: backs up everything and brings the worktree to a known-good state.
//!
//! It shows the plan, backs up, and then runs the steps in order: stop services, reset git, repair the environment,
//! start services. A step that fails does not prevent the others; the remaining problems are reported at the end.
//!
//! ```text
//! Diagnosis  ->  plan and prompt  ->  SavedBackup  ->  steps  ->  "recovery incomplete" or exit code 0
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use super::session::Session;
use super::{CommandResult, SUCCESS, checks, stack as shared};
use crate::cli::{RecoverArgs, RecoverStep};
use xtask_base::environment::format_ago;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::ports;
use xtask_config::{DEFAULT_LAYER, DEPLOYMENT_FOLDER};
use xtask_git::Repo;
use xtask_recovery::create_backup::{SavedBackup, SecretRules};
use xtask_recovery::diagnose::{
    Diagnosis, RecoverOptions, RecoveryStep, ServicesFindings, diagnose_worktree,
};
use xtask_recovery::env_files::{BrokenEnvFile, EnvFileState, find_broken_files};
use xtask_recovery::report::{describe_saved, render_left_out, render_plan};
use xtask_recovery::{repair, reset};
use xtask_report as report;
use xtask_services::client;
use xtask_services::env_files;
use xtask_services::follow::lock_stack;
use xtask_services::observe::{list_known_stacks, observe_stack};
use xtask_services::plan;
use xtask_services::port_plan::{self, PortConflict};
use xtask_services::report::ServiceProgress;
use xtask_services::stack::Stack;
use xtask_services::start::{StartOptions, start_services};
use xtask_services::stop::stop_all;
use xtask_sync::context;
use xtask_sync::worktree_lock::LockWorktree as _;
use xtask_validate::session::describe_last_run;

/// How long each service may take to become ready, as for `start`.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What is known of the services before the plan is shown.
struct FoundServices {
    /// The layers whose services are restarted.
    layers: Vec<String>,
    /// The wanted ports that are in use.
    conflicts: Vec<PortConflict>,
}

pub(super) fn run(session: &Session, args: &RecoverArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let options = RecoverOptions {
        steps: args.steps.iter().map(|step| to_step(*step)).collect(),
        to: args.to.clone(),
    };
    if options.to.is_some() && !options.is_requested(RecoveryStep::Git) {
        return Err(Error::usage("`--to` needs the step `git`"));
    }
    let (services, findings) = inspect_services(session, &repo, args.layer.as_deref())?;
    let secrets = SecretRules::read(&repo, &report::print_warning);
    let found = diagnose_worktree(&repo, &session.tools(), &options, secrets, findings)?;
    if found.is_healthy() {
        session.print_info(&describe_healthy(&found));
        return Ok(SUCCESS);
    }
    report::print_output(&render_plan(&found.parts))?;
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
    let saved = repair_worktree(session, &repo, &found, &options, &services, &mut faults)?;
    drop(repo);
    // The reset may have checked out another commit.
    let repo = session.open_repo()?;
    start_layers(session, &repo, &found, &services, &mut faults);
    print_outcome(session, saved.as_ref(), faults)
}

fn to_step(step: RecoverStep) -> RecoveryStep {
    match step {
        RecoverStep::Git => RecoveryStep::Git,
        RecoverStep::Environment => RecoveryStep::Environment,
        RecoverStep::Ports => RecoveryStep::Ports,
        RecoverStep::Services => RecoveryStep::Services,
    }
}

fn describe_healthy(found: &Diagnosis) -> String {
    let steps: Vec<&str> = found.parts.iter().map(|part| part.step.name()).collect();
    let mut text = format!("no problems found: {}", steps.join(", "));
    if found.is_requested(RecoveryStep::Environment) {
        text.push_str("; `cargo xtask validate` checks more");
    }
    text
}

/// Inspects services, env files and the last validation.
fn inspect_services(
    session: &Session,
    repo: &Repo,
    layer: Option<&str>,
) -> Result<(FoundServices, ServicesFindings)> {
    let layers = choose_layers(session, repo, layer)?;
    let broken_files = find_broken_env_files(repo, &layers)?;
    let (problems, conflicts) = diagnose_layers(session, repo, &layers)?;
    let findings = ServicesFindings {
        layers: layers.clone(),
        problems,
        port_conflicts: conflicts.iter().map(|one| one.describe(false)).collect(),
        broken_files,
        failed_validation: find_failed_validation(session, repo),
    };
    Ok((FoundServices { layers, conflicts }, findings))
}

/// Returns the layers to check: `named`, or those that run or have failed here, or the default one if it exists.
fn choose_layers(session: &Session, repo: &Repo, named: Option<&str>) -> Result<Vec<String>> {
    if let Some(name) = named {
        shared::find_stack(repo, name)?;
        return Ok(vec![name.to_owned()]);
    }
    let (known, _) = list_known_stacks(&repo.folders(), &session.world);
    let up = known
        .into_iter()
        .filter(|(_, page)| page.is_up() || page.services.iter().any(|row| row.fault().is_some()));
    let up: Vec<String> = up.map(|(stack, _)| stack.layer).collect();
    if !up.is_empty() {
        return Ok(up);
    }
    let has_default = repo.root().join(DEPLOYMENT_FOLDER).join(format!("{DEFAULT_LAYER}.toml"));
    Ok(if has_default.is_file() { vec![DEFAULT_LAYER.to_owned()] } else { Vec::new() })
}

/// Returns the problems of the services, and the conflicts of the ports of those that do not run.
fn diagnose_layers(
    session: &Session,
    repo: &Repo,
    layers: &[String],
) -> Result<(Vec<String>, Vec<PortConflict>)> {
    let mut wrong = Vec::new();
    let mut obstacles = Vec::new();
    for name in layers {
        let layer = match shared::read_layer(repo, name) {
            Ok(layer) => layer,
            Err(failure) => {
                wrong.push(format!("layer `{name}`: {failure}"));
                continue;
            }
        };
        let stack = Stack::new(&repo.folders(), name);
        let seen = observe_stack(&stack, &session.world)?;
        let rows = seen.status.iter().flat_map(|page| &page.services);
        wrong.extend(rows.filter_map(|row| {
            let why = row.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            Some(format!("{} is {}{why}", row.service, row.fault()?))
        }));
        let running = seen.running_services();
        let is_up = |service: &str| running.find_spec(service).is_some();
        let disk = session.tools().disk;
        let ports =
            port_plan::assign_ports(&repo.folders(), disk, &layer, &Default::default(), false)?;
        let wanted: Vec<(String, u16)> =
            ports.services.into_iter().filter(|(service, _)| !is_up(service)).collect();
        obstacles.extend(port_plan::find_conflicts(&wanted, running.token.as_deref())?);
    }
    Ok((wrong, obstacles))
}

/// Returns `.env` and the env files of `layers` that exist but cannot be read, or are required but missing.
fn find_broken_env_files(repo: &Repo, layers: &[String]) -> Result<Vec<BrokenEnvFile>> {
    let loaded: Vec<_> =
        layers.iter().filter_map(|name| shared::read_layer(repo, name).ok()).collect();
    let mut files = BTreeSet::from([(".env".to_owned(), false)]);
    for file in loaded.iter().flat_map(|layer| &layer.services).flat_map(|one| &one.env_files) {
        files.insert(match file.strip_prefix('?') {
            Some(file) => (file.to_owned(), false),
            None => (file.clone(), true),
        });
    }
    // `start` resolves references to other variables.
    let accept_reference = |_: &str| Some(OsString::new());
    find_broken_files(repo, &files, &|name, content| EnvFileState {
        is_torn: env_files::is_torn(content),
        fault: env_files::parse_env_file(name, content, &accept_reference)
            .err()
            .map(|failure| failure.to_string()),
    })
}

fn find_failed_validation(session: &Session, repo: &Repo) -> Option<String> {
    let (past, words) = describe_last_run(repo, repo.root())?;
    let when = format_ago(session.world.now_seconds(), past.at);
    (!past.ok).then(|| format!("the last validation failed, {when}: {words}"))
}

/// Backs up, then runs all steps but the start of the services. Returns the backup, if one was needed.
fn repair_worktree(
    session: &Session,
    repo: &Repo,
    found: &Diagnosis,
    options: &RecoverOptions,
    services: &FoundServices,
    faults: &mut Vec<Error>,
) -> Result<Option<SavedBackup>> {
    let tools = session.tools();
    let mut saved = None;
    if found.is_leaving || found.replaces_files() {
        let (_lock, mended) = tools.lock_worktree(repo)?;
        session.warn_recovered(mended);
        let made = repair::back_up(repo, &tools, found, options)?;
        session.print_info(&format!("{}, as {}", describe_saved(&made), made.id));
        render_left_out(&made).iter().for_each(|line| report::print_warning(line));
        let checked = match found.is_leaving {
            true => reset::check_reset(repo, &made, &found.recovery_target),
            false => Ok(()),
        };
        let is_leaving = found.is_leaving && checked.is_ok();
        // A step that fails does not prevent the others.
        faults.extend(checked.err());
        saved = Some((made, is_leaving));
    }
    // Services hold files and ports, so they stop before anything is replaced.
    if found.has_actions(RecoveryStep::Services) || found.has_actions(RecoveryStep::Ports) {
        stop_layers(session, repo, services, faults);
    }
    if let Some((saved, is_leaving)) = &saved {
        let (_lock, _) = tools.lock_worktree(repo)?;
        let find_broken = || find_broken_env_files(repo, &services.layers);
        let say = |text: &str| session.print_info(text);
        let saved = (saved, *is_leaving);
        faults.extend(repair::repair_files(repo, &tools, found, saved, &find_broken, &say));
    }
    if found.has_actions(RecoveryStep::Environment) {
        let repo = session.open_repo()?;
        repair_environment(session, &repo, faults);
    }
    Ok(saved.map(|(saved, _)| saved))
}

fn stop_layers(session: &Session, repo: &Repo, services: &FoundServices, faults: &mut Vec<Error>) {
    for stack in Stack::list_all(&repo.folders()) {
        let is_meant = services.layers.contains(&stack.layer);
        let ended = || -> Result<()> {
            let page = client::read_brief_status(&stack, &session.world)?;
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
            Some(context) => session.sync_best_effort(repo, context).map(|()| SUCCESS),
            None => Ok(SUCCESS),
        }
    };
    if let Err(failure) = synced() {
        faults.push(failure);
    }
    match checks::run_with_fixes(session) {
        Ok(SUCCESS) => {}
        Ok(_) => faults.push(
            Error::negative("some checks failed")
                .with_hint("`cargo xtask validate --fast` shows them"),
        ),
        Err(failure) => faults.push(failure),
    }
}

/// Starts the layers again; a service whose port another process uses gets another port.
fn start_layers(
    session: &Session,
    repo: &Repo,
    found: &Diagnosis,
    services: &FoundServices,
    faults: &mut Vec<Error>,
) {
    if !found.has_actions(RecoveryStep::Services) {
        let words = |one: &PortConflict| {
            let wanted = vec![(one.service.clone(), one.port)];
            port_plan::find_conflicts(&wanted, None).map(|found| found.into_iter().next())
        };
        let is_asked = found.is_requested(RecoveryStep::Ports);
        for one in services.conflicts.iter().filter(|_| is_asked) {
            match words(one) {
                Ok(None) => session.print_info(&format!("port {} is free again", one.port)),
                Ok(Some(left)) => faults.push(Error::negative(left.describe(false))),
                Err(failure) => faults.push(failure),
            }
        }
        return;
    }
    for name in &services.layers {
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
