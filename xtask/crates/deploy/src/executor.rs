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

use super::build::{self, DeployStepContext, run_commands};
use super::current_link;
use super::engine::EngineContext;
use super::history::{self, CurrentReleases};
use super::journal::DeployJournal;
use super::persistent_state;
use super::pipeline::{DeployAction, PipelineStep, StepRecovery, choose_recovery, pipeline_steps};
use super::recover::recover_run;
use super::release::{Release, ReleaseManifest};
use super::rollback::list_kept;
use super::run_end::{conclude_run, record_verified};
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::lock::Lock;
use xtask_base::words::join_names;
use xtask_config::{DeployConfig, Layer, StepMoment};
use xtask_git::{Id, Repo};
use xtask_services::spec::ServiceSpec;

/// Number of paths that a message lists.
const MAX_SHOWN: usize = 5;

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
    engine_ctx: &EngineContext<'_>,
    doing: DeployAction,
) -> Result<(Lock, Option<String>)> {
    let lock = engine_ctx.target.claim_and_lock(doing.name(), &engine_ctx.ctx)?;
    let mended = recover_run(engine_ctx)?;
    Ok((lock, mended))
}

/// Deploys a release from `order.source`.
///
/// Returns an error of kind `RolledBack` or `RollbackFailed` if the release failed after the change-over.
pub fn deploy_release(
    engine_ctx: &EngineContext<'_>,
    request: &DeployRequest<'_>,
) -> Result<CompletedDeploy> {
    let now = engine_ctx.ctx.world.now_seconds();
    let (name, commit) = match request.source {
        ReleaseSource::Commit(_, commit) => {
            (Release::choose_name_in(engine_ctx.target, commit, now), commit.to_string())
        }
        ReleaseSource::Sealed { name, commit } => (name.to_owned(), commit.to_owned()),
    };
    let release = Release::in_target(engine_ctx.target, &name);
    let mut journal =
        new_journal(engine_ctx, DeployAction::Deploy, &release, &commit, request.watch)?;
    let mut warnings = Vec::new();
    let pipeline_result = walk_pipeline(engine_ctx, &mut journal, &mut |step, journal| {
        perform_step(engine_ctx, step, journal, request, &release, &mut warnings)
    });
    conclude_run(engine_ctx, &mut journal, pipeline_result)?;
    Ok(CompletedDeploy { release: name, warnings })
}

/// Serves `release`, which was verified before; the choice is made by `choose_rollback`.
pub fn rollback_to(
    engine_ctx: &EngineContext<'_>,
    release: &Release,
    watch: Duration,
) -> Result<CompletedDeploy> {
    let manifest: ReleaseManifest = release.verify_manifest()?;
    engine_ctx.engine.check_can_serve(release)?;
    let entries = history::read_history(&engine_ctx.target.history_file())?;
    if let Some(served) =
        history::current_and_serving(&entries).current.filter(|served| *served != release.name)
    {
        let served = Release::in_target(engine_ctx.target, served);
        match served.read_snapshot() {
            Ok(snapshot) => back_up_served(engine_ctx, &snapshot.specs, &served)?,
            // A rollback from a broken release must be possible without a backup.
            Err(failure) => {
                (engine_ctx.ctx.tell)(&format!("no backup before the rollback: {failure}"))
            }
        }
    }
    let mut journal =
        new_journal(engine_ctx, DeployAction::Rollback, release, &manifest.commit, watch)?;
    let pipeline_result =
        walk_pipeline(engine_ctx, &mut journal, &mut |step, journal| match step {
            PipelineStep::Record => record_verified(engine_ctx, journal),
            step => perform_serving_step(engine_ctx, step, journal, release),
        });
    conclude_run(engine_ctx, &mut journal, pipeline_result)?;
    Ok(CompletedDeploy { release: release.name.clone(), warnings: Vec::new() })
}

fn new_journal(
    engine_ctx: &EngineContext<'_>,
    doing: DeployAction,
    release: &Release,
    commit: &str,
    watch: Duration,
) -> Result<DeployJournal> {
    let entries = history::read_history(&engine_ctx.target.history_file())?;
    let CurrentReleases { current: pointed, serving: served } =
        history::current_and_serving(&entries);
    current_link::check_current(engine_ctx.target, &[pointed])?;
    let nanos = (engine_ctx.ctx.world.clock)().as_nanos();
    // A release that was modified cannot be the target of a rollback.
    let others = list_kept(engine_ctx.target, &entries).into_iter().find(|name| {
        *name != release.name
            && Release::in_target(engine_ctx.target, name).verify_manifest().is_ok()
    });
    Ok(DeployJournal {
        id: format!("{nanos}-{}-{}", std::process::id(), entries.len()),
        at: engine_ctx.ctx.world.now_seconds(),
        doing,
        by: engine_ctx.ctx.by.to_owned(),
        new: release.name.clone(),
        commit: commit.to_owned(),
        old: others,
        pointed: pointed.map(ToOwned::to_owned),
        served: served.map(ToOwned::to_owned),
        watch_ms: super::to_millis(watch),
        step: pipeline_steps(doing)[0],
        why: None,
        printed: Vec::new(),
    })
}

/// Executes the steps, recording each in the journal before it begins.
fn walk_pipeline(
    engine_ctx: &EngineContext<'_>,
    journal: &mut DeployJournal,
    perform: &mut dyn FnMut(PipelineStep, &DeployJournal) -> Result<()>,
) -> Result<()> {
    for step in pipeline_steps(journal.doing) {
        if engine_ctx.ctx.interrupts.was_interrupted()
            && choose_recovery(*step) != StepRecovery::Finish
        {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        journal.begin_step(*step, engine_ctx.target, &engine_ctx.ctx)?;
        perform(*step, journal)?;
    }
    journal.remove(engine_ctx.target, &engine_ctx.ctx)
}

fn perform_step(
    engine_ctx: &EngineContext<'_>,
    step: PipelineStep,
    journal: &DeployJournal,
    request: &DeployRequest<'_>,
    release: &Release,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let worktree = match request.source {
        ReleaseSource::Commit(repo, _) => Some(repo.root()),
        ReleaseSource::Sealed { .. } => None,
    };
    let place = DeployStepContext {
        layer: request.layer,
        deploy: request.deploy,
        commit: &journal.commit,
        target: engine_ctx.target,
        release,
        worktree,
        ctx: engine_ctx.ctx,
    };
    match step {
        PipelineStep::Before => run_commands(&place, StepMoment::Before),
        PipelineStep::Build => match request.source {
            ReleaseSource::Commit(repo, commit) => {
                build::build_release(&place, repo, commit, request.watch)
            }
            ReleaseSource::Sealed { commit, .. } => import_release(engine_ctx, release, commit),
        },
        PipelineStep::Release => {
            run_commands(&place, StepMoment::Release)?;
            release.verify_manifest().map(drop)
        }
        PipelineStep::Try => try_release(engine_ctx, release, request.deploy),
        PipelineStep::BackUp => match &journal.pointed {
            Some(served) => back_up_before(engine_ctx, release, served),
            None => Ok(()),
        },
        PipelineStep::Record => record_verified(engine_ctx, journal),
        PipelineStep::After => {
            if let Err(failure) = run_commands(&place, StepMoment::After) {
                let details = failure.details().join("\n");
                warnings.push(format!("{failure}\n{details}").trim_end().to_owned());
            }
            Ok(())
        }
        PipelineStep::Prune => {
            // The release serves and is verified, so a failed removal is only a warning.
            match prune_releases(engine_ctx, request.deploy) {
                Ok(stayed) => warnings.extend(stayed),
                Err(failure) => warnings.push(failure.to_string()),
            }
            Ok(())
        }
        PipelineStep::Point
        | PipelineStep::ChangeOver
        | PipelineStep::Watch
        | PipelineStep::GoBack => perform_serving_step(engine_ctx, step, journal, release),
    }
}

/// Starts a release as a candidate, and checks that it is still intact and keeps its state outside.
fn try_release(
    engine_ctx: &EngineContext<'_>,
    release: &Release,
    deploy: &DeployConfig,
) -> Result<()> {
    (engine_ctx.ctx.tell)("testing the candidate");
    engine_ctx.engine.try_candidate(release).map_err(|failure| {
        let message = format!("the candidate: {failure}");
        failure.with_message(message)
    })?;
    release.verify_manifest()?;
    engine_ctx.engine.check_can_serve(release)?;
    persistent_state::check_written(release, deploy, engine_ctx.target, false)
}

/// Backs up the state of the release `served`, before `release` takes over.
fn back_up_before(engine_ctx: &EngineContext<'_>, release: &Release, served: &str) -> Result<()> {
    let served = Release::in_target(engine_ctx.target, served);
    let old = served.read_snapshot().map_or(Vec::new(), |snapshot| snapshot.specs);
    let new = release.read_snapshot()?.specs;
    let ways = persistent_state::choose_backup_specs(&new, &old, &engine_ctx.ctx)?;
    back_up_served(engine_ctx, &ways, &served)
}

/// Imports an uploaded release. Returns an error unless it is intact and matches `release` and `commit`.
fn import_release(engine_ctx: &EngineContext<'_>, release: &Release, commit: &str) -> Result<()> {
    (engine_ctx.ctx.tell)(&format!("importing {}", release.name));
    release.move_from(&engine_ctx.target.incoming_folder().join(&release.name), &engine_ctx.ctx)?;
    let manifest = release.verify_manifest()?;
    if manifest.layer == engine_ctx.target.layer
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
    engine_ctx: &EngineContext<'_>,
    step: PipelineStep,
    journal: &DeployJournal,
    release: &Release,
) -> Result<()> {
    let tell = engine_ctx.ctx.tell;
    match step {
        PipelineStep::Point => {
            let expected = [journal.pointed.as_deref()];
            current_link::point_current(
                engine_ctx.target,
                Some(&release.name),
                &expected,
                &engine_ctx.ctx,
            )
        }
        PipelineStep::ChangeOver => {
            tell(&format!("switching to {}", release.name));
            engine_ctx.engine.serve(release)
        }
        PipelineStep::Watch => {
            let longest = Duration::from_millis(journal.watch_ms);
            tell(&format!("watching it for {longest:?}"));
            engine_ctx.engine.watch(release, longest)
        }
        _ => Ok(()),
    }
}

/// Removes all but the newest `deploy.keep` verified releases and backups.
///
/// The current release stays, as do foreign files and releases into which services have written; the latter are
/// returned as warnings.
fn prune_releases(engine_ctx: &EngineContext<'_>, deploy: &DeployConfig) -> Result<Vec<String>> {
    let entries = history::read_history(&engine_ctx.target.history_file())?;
    let mut stay = list_kept(engine_ctx.target, &entries);
    stay.truncate(deploy.keep);
    stay.extend(history::current_and_serving(&entries).current.map(ToOwned::to_owned));
    let folder = engine_ctx.target.releases_folder();
    let found = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot list `{}`", folder.display()))?;
    let names = found.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_ours = |name: &String| {
        let release = Release::in_target(engine_ctx.target, name);
        let was_deployed = entries.iter().any(|one| one.release == *name);
        release.is_sealed() || release.is_folder() && was_deployed
    };
    let mut gone: Vec<String> =
        names.filter(|name| !stay.contains(name) && is_ours(name)).collect();
    gone.sort();
    let mut stayed = Vec::new();
    for name in gone {
        let release = Release::in_target(engine_ctx.target, &name);
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
        engine_ctx.uninterruptible.discard_release(&release)?;
        release.remove(&engine_ctx.ctx)?;
    }
    for name in persistent_state::prune_backups(engine_ctx.target, deploy.keep, &engine_ctx.ctx)? {
        (engine_ctx.ctx.tell)(&format!(
            "removed the backup {name}: the newest {} are kept",
            deploy.keep
        ));
    }
    Ok(stayed)
}

/// Runs the `backup` commands and reports the folder of each backup.
fn back_up_served(
    engine_ctx: &EngineContext<'_>,
    specs: &[ServiceSpec],
    served: &Release,
) -> Result<()> {
    let saved =
        persistent_state::back_up_services(specs, engine_ctx.target, served, &engine_ctx.ctx)
            .map_err(|failure| {
                failure.with_hint(
                    "backups run before another release takes over; see `backup` of the service",
                )
            })?;
    for line in saved {
        (engine_ctx.ctx.tell)(&format!("saved {line}"));
    }
    Ok(())
}
