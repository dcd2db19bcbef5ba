//! Execution of a run, step by step, and the recovery when a step fails.
//!
//! The journal records each step before it begins. A failed step is recovered at once, as `choose_recovery` in
//! `pipeline.rs` decides; if the recovery fails as well, e.g. on a full disk, the journal stays and the next
//! command retries. Ctrl-C is respected until the new release is verified, but not during a rollback. For example:
//!
//! ```text
//! Point ok -> ChangeOver fails -> journal "go-back" -> OLD serves -> history "rolled-back" -> exit code 4
//! ```

use std::time::Duration;

use super::DeployContext;
use super::build::{self, DeployStepContext, run_commands};
use super::current_link;
use super::engine::Engine;
use super::history::{self, DeployOutcome};
use super::journal::DeployJournal;
use super::persistent_state;
use super::pipeline::{DeployAction, PipelineStep, StepRecovery, choose_recovery, pipeline_steps};
use super::recover::recover_run;
use super::release::{Release, ReleaseManifest};
use super::target::DeployTarget;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::lock::Lock;
use xtask_base::words::join_names;
use xtask_config::{DeployConfig, Layer, StepMoment};
use xtask_git::{Id, Repo};
use xtask_services::spec::ServiceSpec;

/// Number of paths that a message lists.
const MAX_SHOWN: usize = 5;

/// A target with its engine.
pub struct EngineContext<'a> {
    pub target: &'a DeployTarget,
    /// Engine that serves releases.
    pub engine: &'a dyn Engine,
    /// The same engine, ignoring Ctrl-C, for rollbacks.
    pub uninterruptible: &'a dyn Engine,
    pub ctx: DeployContext<'a>,
}

/// Source of a release.
#[derive(Clone, Copy)]
pub enum ReleaseSource<'a> {
    /// A commit, which is exported and built in the target.
    Commit(&'a Repo, Id),
    /// A release that was built and sealed elsewhere, and uploaded into the target's `incoming` folder.
    Sealed {
        /// Name of the release.
        name: &'a str,
        /// Commit, in full.
        commit: &'a str,
    },
}

/// Inputs of a deploy.
pub struct DeployRequest<'a> {
    /// Source of the release.
    pub source: ReleaseSource<'a>,
    pub layer: &'a Layer,
    /// The `[deploy]` table of `layer`.
    pub deploy: &'a DeployConfig,
    /// Length of the watch.
    pub watch: Duration,
}

/// Result of a successful run.
#[derive(Debug)]
pub struct CompletedDeploy {
    /// Name of the release that serves, verified.
    pub release: String,
    /// Failures that do not affect the release, e.g. of an `after` step.
    pub warnings: Vec<String>,
}

/// Acquires the target's lock and recovers an interrupted run. Returns the lock and a description of the recovery,
/// if there was one.
pub fn lock_and_recover(
    site: &EngineContext<'_>,
    doing: DeployAction,
) -> Result<(Lock, Option<String>)> {
    let lock = site.target.claim_and_lock(doing.name(), &site.ctx)?;
    let mended = recover_run(site)?;
    Ok((lock, mended))
}

/// Deploys a release from `order.source`.
///
/// Returns an error of kind `RolledBack` or `RollbackFailed` if the release failed after the change-over.
pub fn deploy_release(
    site: &EngineContext<'_>,
    order: &DeployRequest<'_>,
) -> Result<CompletedDeploy> {
    let now = site.ctx.world.now_seconds();
    let (name, commit) = match order.source {
        ReleaseSource::Commit(_, commit) => {
            (Release::choose_name_in(site.target, commit, now), commit.to_string())
        }
        ReleaseSource::Sealed { name, commit } => (name.to_owned(), commit.to_owned()),
    };
    let release = Release::in_target(site.target, &name);
    let mut journal = new_journal(site, DeployAction::Deploy, &release, &commit, order.watch)?;
    let mut warnings = Vec::new();
    let walked = walk_pipeline(site, &mut journal, &mut |step, journal| {
        perform_step(site, step, journal, order, &release, &mut warnings)
    });
    conclude_run(site, &mut journal, walked)?;
    Ok(CompletedDeploy { release: name, warnings })
}

/// Serves `release`, which was verified before; the choice is made by `choose_rollback`.
pub fn rollback_to(
    site: &EngineContext<'_>,
    release: &Release,
    watch: Duration,
) -> Result<CompletedDeploy> {
    let manifest: ReleaseManifest = release.verify_manifest()?;
    site.engine.check_can_serve(release)?;
    let entries = history::read_history(&site.target.history_file())?;
    if let Some(served) =
        history::current_and_serving(&entries).0.filter(|served| *served != release.name)
    {
        let served = Release::in_target(site.target, served);
        match served.read_snapshot() {
            Ok(snapshot) => back_up_served(site, &snapshot.specs, &served)?,
            // A rollback from a broken release must be possible without a backup.
            Err(failure) => (site.ctx.tell)(&format!("no backup before the rollback: {failure}")),
        }
    }
    let mut journal = new_journal(site, DeployAction::Rollback, release, &manifest.commit, watch)?;
    let walked = walk_pipeline(site, &mut journal, &mut |step, journal| match step {
        PipelineStep::Record => record_verified(site, journal),
        step => perform_serving_step(site, step, journal, release),
    });
    conclude_run(site, &mut journal, walked)?;
    Ok(CompletedDeploy { release: release.name.clone(), warnings: Vec::new() })
}

/// Chooses the release for `rollback`: `named`, if it exists and was verified, else the newest verified one that was
/// deployed before the current one.
pub fn choose_rollback(target: &DeployTarget, named: Option<&str>) -> Result<Release> {
    let entries = history::read_history(&target.history_file())?;
    let name = choose_rollback_name(&list_kept(target, &entries), &entries, named)?;
    Ok(Release::in_target(target, &name))
}

/// Chooses the release for `rollback`, like `choose_rollback`, from the names of the `kept` releases.
pub fn choose_rollback_name(
    kept: &[String],
    entries: &[history::DeployEntry],
    named: Option<&str>,
) -> Result<String> {
    let list = || format!("available releases: {}", join_or_none(kept));
    if let Some(named) = named {
        let was_verified = history::list_verified(entries).iter().any(|name| name == named);
        return match (kept.iter().any(|name| name == named), was_verified) {
            (true, _) => Ok(named.to_owned()),
            (false, true) => {
                Err(Error::negative(format!("the release `{named}` no longer exists"))
                    .with_hint(list()))
            }
            (false, false) => {
                Err(Error::negative(format!("no verified release `{named}`")).with_hint(list()))
            }
        };
    }
    // In the order of their first deploy, so that two rollbacks go back by two releases.
    let made = |name: &str| entries.iter().position(|entry| entry.release == name);
    let (current, _) = history::current_and_serving(entries);
    let current = current.and_then(made);
    let before = kept.iter().filter_map(|name| Some((made(name)?, name)));
    let before = before.filter(|(at, _)| current.is_none_or(|current| *at < current));
    match before.max() {
        Some((_, name)) => Ok(name.clone()),
        None => {
            Err(Error::negative("no verified release is older than the current one")
                .with_hint(list()))
        }
    }
}

fn join_or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Returns the names of the verified releases that still exist, newest first.
#[must_use]
pub fn list_kept(target: &DeployTarget, entries: &[history::DeployEntry]) -> Vec<String> {
    let is_there =
        |name: &String| Release::in_target(target, name).folder.join("manifest").is_file();
    history::list_verified(entries).into_iter().filter(is_there).collect()
}

fn new_journal(
    site: &EngineContext<'_>,
    doing: DeployAction,
    release: &Release,
    commit: &str,
    watch: Duration,
) -> Result<DeployJournal> {
    let entries = history::read_history(&site.target.history_file())?;
    let (pointed, served) = history::current_and_serving(&entries);
    current_link::check_current(site.target, &[pointed])?;
    let nanos = (site.ctx.world.clock)().as_nanos();
    // A release that was modified cannot be the target of a rollback.
    let others = list_kept(site.target, &entries).into_iter().find(|name| {
        *name != release.name && Release::in_target(site.target, name).verify_manifest().is_ok()
    });
    Ok(DeployJournal {
        id: format!("{nanos}-{}-{}", std::process::id(), entries.len()),
        at: site.ctx.world.now_seconds(),
        doing,
        by: site.ctx.by.to_owned(),
        new: release.name.clone(),
        commit: commit.to_owned(),
        old: others,
        pointed: pointed.map(ToOwned::to_owned),
        served: served.map(ToOwned::to_owned),
        watch_ms: u64::try_from(watch.as_millis()).unwrap_or(u64::MAX),
        step: pipeline_steps(doing)[0],
        why: None,
        printed: Vec::new(),
    })
}

/// Executes the steps, recording each in the journal before it begins.
fn walk_pipeline(
    site: &EngineContext<'_>,
    journal: &mut DeployJournal,
    perform: &mut dyn FnMut(PipelineStep, &DeployJournal) -> Result<()>,
) -> Result<()> {
    for step in pipeline_steps(journal.doing) {
        if site.ctx.interrupts.was_interrupted() && choose_recovery(*step) != StepRecovery::Finish {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        journal.begin_step(*step, site.target, &site.ctx)?;
        perform(*step, journal)?;
    }
    journal.remove(site.target, &site.ctx)
}

fn perform_step(
    site: &EngineContext<'_>,
    step: PipelineStep,
    journal: &DeployJournal,
    order: &DeployRequest<'_>,
    release: &Release,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let around = &site.ctx;
    let worktree = match order.source {
        ReleaseSource::Commit(repo, _) => Some(repo.root()),
        ReleaseSource::Sealed { .. } => None,
    };
    let place = DeployStepContext {
        layer: order.layer,
        deploy: order.deploy,
        commit: &journal.commit,
        target: site.target,
        release,
        worktree,
        ctx: *around,
    };
    match step {
        PipelineStep::Before => run_commands(&place, StepMoment::Before),
        PipelineStep::Build => match order.source {
            ReleaseSource::Commit(repo, commit) => {
                build::build_release(&place, repo, commit, order.watch)
            }
            ReleaseSource::Sealed { commit, .. } => import_release(site, release, commit),
        },
        PipelineStep::Release => {
            run_commands(&place, StepMoment::Release)?;
            release.verify_manifest().map(drop)
        }
        PipelineStep::Try => {
            (around.tell)("testing the candidate");
            site.engine
                .try_candidate(release)
                .map_err(|failure| prefix_failure(failure, "the candidate"))?;
            release.verify_manifest()?;
            site.engine.check_can_serve(release)?;
            persistent_state::check_written(release, order.deploy, site.target, false)
        }
        PipelineStep::BackUp => {
            let Some(served) = &journal.pointed else { return Ok(()) };
            let served = Release::in_target(site.target, served);
            let old = served.read_snapshot().map_or(Vec::new(), |snapshot| snapshot.specs);
            let ways = persistent_state::choose_backup_specs(
                &release.read_snapshot()?.specs,
                &old,
                &site.ctx,
            )?;
            back_up_served(site, &ways, &served)
        }
        PipelineStep::Record => record_verified(site, journal),
        PipelineStep::After => {
            if let Err(failure) = run_commands(&place, StepMoment::After) {
                let details = failure.details().join("\n");
                warnings.push(format!("{failure}\n{details}").trim_end().to_owned());
            }
            Ok(())
        }
        PipelineStep::Prune => {
            // The release serves and is verified, so a failed removal is only a warning.
            match prune_releases(site, order.deploy) {
                Ok(stayed) => warnings.extend(stayed),
                Err(failure) => warnings.push(failure.to_string()),
            }
            Ok(())
        }
        PipelineStep::Point
        | PipelineStep::ChangeOver
        | PipelineStep::Watch
        | PipelineStep::GoBack => perform_serving_step(site, step, journal, release),
    }
}

/// Imports an uploaded release. Returns an error unless it is intact and matches `release` and `commit`.
fn import_release(site: &EngineContext<'_>, release: &Release, commit: &str) -> Result<()> {
    (site.ctx.tell)(&format!("importing {}", release.name));
    release.move_from(&site.target.incoming_folder().join(&release.name), &site.ctx)?;
    let manifest = release.verify_manifest()?;
    if manifest.layer == site.target.layer
        && manifest.release == release.name
        && manifest.commit == commit
    {
        return Ok(());
    }
    Err(Error::negative(format!("the uploaded release is not {}", release.name)).with_detail(
        format!(
            "found {} of layer `{}`, commit {}",
            manifest.release, manifest.layer, manifest.commit
        ),
    ))
}

/// Performs a step that a deploy and a rollback have in common.
fn perform_serving_step(
    site: &EngineContext<'_>,
    step: PipelineStep,
    journal: &DeployJournal,
    release: &Release,
) -> Result<()> {
    let tell = site.ctx.tell;
    match step {
        PipelineStep::Point => {
            let expected = [journal.pointed.as_deref()];
            current_link::point_current(site.target, Some(&release.name), &expected, &site.ctx)
        }
        PipelineStep::ChangeOver => {
            tell(&format!("switching to {}", release.name));
            site.engine.serve(release)
        }
        PipelineStep::Watch => {
            let longest = Duration::from_millis(journal.watch_ms);
            tell(&format!("watching it for {longest:?}"));
            site.engine.watch(release, longest)
        }
        _ => Ok(()),
    }
}

/// Prefixes the message of an error with `whose: `.
fn prefix_failure(failure: Error, whose: &str) -> Error {
    let error = Error::new(failure.kind(), format!("{whose}: {failure}"));
    let error =
        failure.details().iter().fold(error, |error, detail| error.with_detail(detail.clone()));
    failure.hints().iter().fold(error, |error, hint| error.with_hint(hint.clone()))
}

fn record_verified(site: &EngineContext<'_>, journal: &DeployJournal) -> Result<()> {
    let entry = journal.to_history_entry(DeployOutcome::Verified);
    history::append_entry(site.ctx.disk, &site.target.history_file(), &entry)
}

/// Removes all but the newest `deploy.keep` verified releases and backups.
///
/// The current release stays, as do foreign files and releases into which services have written; the latter are
/// returned as warnings.
fn prune_releases(site: &EngineContext<'_>, deploy: &DeployConfig) -> Result<Vec<String>> {
    let entries = history::read_history(&site.target.history_file())?;
    let mut stay = list_kept(site.target, &entries);
    stay.truncate(deploy.keep);
    stay.extend(history::current_and_serving(&entries).0.map(ToOwned::to_owned));
    let folder = site.target.releases_folder();
    let found = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot list `{}`", folder.display()))?;
    let names = found.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_ours = |name: &String| {
        let release = Release::in_target(site.target, name);
        let was_deployed = entries.iter().any(|one| one.release == *name);
        release.is_sealed() || release.is_folder() && was_deployed
    };
    let mut gone: Vec<String> =
        names.filter(|name| !stay.contains(name) && is_ours(name)).collect();
    gone.sort();
    let mut stayed = Vec::new();
    for name in gone {
        let release = Release::in_target(site.target, &name);
        if release.is_sealed() {
            let written = persistent_state::find_written_files(&release, deploy)?;
            if !written.is_empty() {
                let places = persistent_state::summarize_written(&release, &written)?;
                stayed.push(format!(
                    "the release {name} is not removed: services have written into it: {}; save these files, then \
                    remove `{}` manually",
                    join_names(&places, MAX_SHOWN),
                    release.folder.display()
                ));
                continue;
            }
        }
        site.uninterruptible.discard_release(&release)?;
        release.remove(&site.ctx)?;
    }
    for name in persistent_state::prune_backups(site.target, deploy.keep, &site.ctx)? {
        (site.ctx.tell)(&format!("removed the backup {name}: the newest {} are kept", deploy.keep));
    }
    Ok(stayed)
}

/// Runs the `backup` commands and reports the folder of each backup.
fn back_up_served(site: &EngineContext<'_>, specs: &[ServiceSpec], served: &Release) -> Result<()> {
    let saved = persistent_state::back_up_services(specs, site.target, served, &site.ctx).map_err(
        |failure| {
            failure.with_hint(
                "backups run before another release takes over; see `backup` of the service",
            )
        },
    )?;
    for line in saved {
        (site.ctx.tell)(&format!("saved {line}"));
    }
    Ok(())
}

/// Concludes a run: after a failure, performs the recovery for the last step and returns the error.
fn conclude_run(
    site: &EngineContext<'_>,
    journal: &mut DeployJournal,
    walked: Result<()>,
) -> Result<()> {
    let Err(failure) = walked else { return Ok(()) };
    let written = DeployJournal::read(site.target)?;
    if written.is_none_or(|written| written.id != journal.id) {
        // Without a journal of this run no step has begun.
        return Err(failure);
    }
    journal.why = Some(summarize_failure(&failure));
    journal.printed = extract_printed_lines(&failure);
    match choose_recovery(journal.step) {
        StepRecovery::Discard => {
            let kind = failure.kind();
            discard_run(site, journal).map_err(|next| recovery_failed_error(next, &failure))?;
            let serves = journal.served.as_deref();
            let left = match serves {
                None => "nothing serves, as before".to_owned(),
                Some(name)
                    if site
                        .uninterruptible
                        .check_health(&Release::in_target(site.target, name))
                        .is_ok() =>
                {
                    format!("{name} serves, as before")
                }
                // For example, after a reboot of the machine.
                Some(name) => format!(
                    "{name} should be serving but is unhealthy: `cargo xtask rollback {} {name}` starts it again",
                    site.target.layer
                ),
            };
            let error = Error::new(kind, failure.message().to_owned());
            let error = failure.causes().into_iter().fold(error, Error::with_detail);
            let error =
                failure.details().iter().fold(error, |e, detail| e.with_detail(detail.clone()));
            let error = failure.hints().iter().fold(error, |e, hint| e.with_hint(hint.clone()));
            Err(error.with_detail(left))
        }
        StepRecovery::GoBack | StepRecovery::WatchAgain => {
            let is_interrupted = failure.kind() == ErrorKind::Interrupted;
            let outcome = roll_back_run(site, journal, !is_interrupted)
                .map_err(|next| recovery_failed_error(next, &failure))?;
            Err(rolled_back_error(site, journal, outcome, is_interrupted))
        }
        StepRecovery::Finish => finish_run(site, journal).map_err(|next| {
            recovery_failed_error(next, &failure)
                .with_detail(format!("{} serves, verified", journal.new))
        }),
    }
}

/// Returns the error for a failed recovery (`next`) after the failure `first`.
fn recovery_failed_error(next: Error, first: &Error) -> Error {
    let error = Error::unable(format!("{}; the recovery failed, too", first.message()));
    error
        .with_detail(summarize_failure(first))
        .with_detail(summarize_failure(&next))
        .with_hint("the next `deploy` or `rollback` of this layer retries the recovery")
}

/// Returns the lines of program output in the details: those with the prefix `|`.
fn extract_printed_lines(failure: &Error) -> Vec<String> {
    let lines = failure.details().iter().flat_map(|detail| detail.lines().map(str::trim_start));
    lines.filter(|line| line.starts_with('|')).map(str::to_owned).collect()
}

/// Returns an error as one line for the history, without program output, as that may contain secrets.
fn summarize_failure(failure: &Error) -> String {
    let mut text = failure.to_string();
    for detail in failure.details().iter().filter(|detail| !detail.starts_with('|')) {
        text.push_str(&format!("; {}", detail.lines().next().unwrap_or_default()));
    }
    text
}

/// Discards a run that has not touched the running release, and records it as `Failed`.
pub(super) fn discard_run(site: &EngineContext<'_>, journal: &DeployJournal) -> Result<()> {
    let release = Release::in_target(site.target, &journal.new);
    site.uninterruptible.discard_release(&release)?;
    // A leftover does not block other runs, as it was never sealed or never served.
    if let Err(failure) = release.remove(&site.ctx) {
        (site.ctx.tell)(&failure.to_string());
    }
    let entry = journal.to_history_entry(DeployOutcome::Failed);
    history::append_entry(site.ctx.disk, &site.target.history_file(), &entry)?;
    journal.remove(site.target, &site.ctx)
}

/// Rolls back to the release before, with its own configuration, and checks its health.
///
/// `was_judged` tells whether the new release was found unhealthy (the old one is then watched as long as the new
/// one, outcome `RolledBack`) or the run was interrupted (a single check, outcome `Interrupted`).
pub(super) fn roll_back_run(
    site: &EngineContext<'_>,
    journal: &mut DeployJournal,
    was_judged: bool,
) -> Result<DeployOutcome> {
    journal.begin_step(PipelineStep::GoBack, site.target, &site.ctx)?;
    let to = journal.old.clone().or_else(|| journal.pointed.clone());
    let expected = [journal.pointed.as_deref(), Some(&journal.new), journal.old.as_deref()];
    current_link::point_current(site.target, to.as_deref(), &expected, &site.ctx)?;
    let outcome = match &journal.old {
        None => {
            site.uninterruptible.stop_others(None)?;
            DeployOutcome::Failed
        }
        Some(old) => {
            (site.ctx.tell)(&format!("rolling back to {old}"));
            let old = Release::in_target(site.target, old);
            let served =
                old.verify_manifest().map(drop).and_then(|()| site.uninterruptible.serve(&old));
            // It was healthy before; a watch shows whether it still is.
            let longest = Duration::from_millis(journal.watch_ms);
            let is_well = |()| match was_judged {
                true => site.uninterruptible.watch(&old, longest),
                // Only the run was interrupted, so there is no reason to doubt the old release.
                false => site.uninterruptible.check_health(&old),
            };
            match served.and_then(is_well) {
                Ok(()) if was_judged => DeployOutcome::RolledBack,
                Ok(()) => DeployOutcome::Interrupted,
                Err(failure) if failure.kind() == ErrorKind::Negative => {
                    let why = journal.why.take().unwrap_or_default();
                    journal.why =
                        Some(format!("{why}; then {}: {}", old.name, summarize_failure(&failure)));
                    journal.printed.extend(extract_printed_lines(&failure));
                    // Services of the new release must not keep running alongside the old one.
                    site.uninterruptible.stop_others(Some(&old))?;
                    DeployOutcome::RollbackFailed
                }
                Err(failure) => return Err(failure),
            }
        }
    };
    history::append_entry(
        site.ctx.disk,
        &site.target.history_file(),
        &journal.to_history_entry(outcome),
    )?;
    journal.remove(site.target, &site.ctx)?;
    Ok(outcome)
}

/// Returns the error for a run that was rolled back, by `outcome`.
fn rolled_back_error(
    site: &EngineContext<'_>,
    journal: &DeployJournal,
    outcome: DeployOutcome,
    is_interrupted: bool,
) -> Error {
    let new = &journal.new;
    let old = journal.old.as_deref().unwrap_or("nothing");
    let (kind, what) = match outcome {
        DeployOutcome::Interrupted => (
            ErrorKind::Interrupted,
            format!("{new} was interrupted, and {old} serves again, verified"),
        ),
        DeployOutcome::RolledBack => {
            (ErrorKind::RolledBack, format!("{new} failed, and {old} serves again, verified"))
        }
        DeployOutcome::RollbackFailed => (
            ErrorKind::RollbackFailed,
            format!(
                "{new} failed, and the rollback failed: {old}, to which `current` points, is unhealthy"
            ),
        ),
        _ if journal.served.is_some() => {
            (ErrorKind::Negative, format!("{new} failed, and nothing serves now"))
        }
        _ => (ErrorKind::Negative, format!("{new} failed, and nothing serves, as before")),
    };
    let is_bad = kind == ErrorKind::RollbackFailed;
    let kind = if is_interrupted && !is_bad { ErrorKind::Interrupted } else { kind };
    let error = Error::new(kind, what).with_detail(journal.why.clone().unwrap_or_default());
    let error = journal.printed.iter().fold(error, |error, line| error.with_detail(line.clone()));
    let layer = &site.target.layer;
    let error = match kind {
        ErrorKind::RollbackFailed => error
            .with_hint(format!(
                "`cargo xtask deploy {layer} --verify` shows the faults of the current release"
            ))
            .with_hint(format!(
                "`cargo xtask rollback {layer} RELEASE` switches to another verified release"
            )),
        _ => error,
    };
    error.with_hint(format!("`cargo xtask history {layer}` lists all runs with their outcomes"))
}

/// Finishes a run with a verified release: records it and removes the journal.
pub(super) fn finish_run(site: &EngineContext<'_>, journal: &DeployJournal) -> Result<()> {
    record_verified(site, journal)?;
    journal.remove(site.target, &site.ctx)
}
