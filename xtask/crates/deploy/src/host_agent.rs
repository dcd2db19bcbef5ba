//! The remote side of the engine `ssh`: executes one `HostRequest` on the host, like the engine `directory`, with the
//! same lock, journal, steps and rollback.
//!
//! The client may disconnect at any time: the run continues to its end, and the next command finds the lock or
//! the history. For example, `HostCommand::Rollback` yields a `HostResponse` with `run`, `current` and `serves`.

use std::path::Path;
use std::time::Duration;

use super::DeployContext;
use super::directory::DirectoryEngine;
use super::engine::EngineContext;
use super::executor::{self, DeployRequest, ReleaseSource};
use super::gates::TargetGateContext;
use super::history::{self, CurrentReleases};
use super::pipeline::DeployAction;
use super::release::Release;
use super::required_variables::check_rollback;
use super::rollback;
use super::ssh::UPLOAD_TIMEOUT;
use super::target::{DeployTarget, TargetOwnership, is_release_name};
use super::target_gates::check_target_gates;
use super::verify;
use super::wire_protocol::{
    HostCommand, HostRequest, HostResponse, ORDER, TargetInspection, WireError,
};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::FileId;
use xtask_base::signals::Interrupts;
use xtask_config::Layer;

/// Number of uploaded programs that are kept: the last one, and two for a return to an older xtask.
const MAX_KEPT_PROGRAMS: usize = 3;

/// Executes `request` and returns the response, which may contain a failure. `around.world` already has the variables
/// of the request.
pub fn execute_request(
    request: &HostRequest,
    deploy_ctx: DeployContext<'_>,
    warn: &dyn Fn(&str),
) -> HostResponse {
    let mut ended = HostResponse::default();
    if let Err(failure) = try_execute(request, deploy_ctx, warn, &mut ended) {
        ended.failure = Some(WireError::from(&failure));
    }
    ended
}

fn try_execute(
    request: &HostRequest,
    deploy_ctx: DeployContext<'_>,
    warn: &dyn Fn(&str),
    ended: &mut HostResponse,
) -> Result<()> {
    if request.schema != ORDER {
        return Err(Error::unable(format!(
            "unsupported request schema `{}`: expected `{ORDER}`",
            request.schema
        )));
    }
    let layer = request.load_layer()?;
    let target = DeployTarget { root: request.root.clone(), layer: request.layer.clone() };
    let none = Interrupts::without_handlers();
    let uninterruptible_ctx = DeployContext { interrupts: &none, ..deploy_ctx };
    let engine = DirectoryEngine { target: &target, layer: &layer, ctx: deploy_ctx };
    let uninterruptible_engine =
        DirectoryEngine { target: &target, layer: &layer, ctx: uninterruptible_ctx };
    let engine_ctx = EngineContext {
        target: &target,
        engine: &engine,
        uninterruptible: &uninterruptible_engine,
        ctx: deploy_ctx,
    };
    match &request.wanted {
        HostCommand::Look { needed, missing } => {
            ended.looked = Some(inspect_target(&engine_ctx, &layer, *needed, missing)?);
            Ok(())
        }
        HostCommand::Verify => {
            ended.verified = Some(verify::verify_target(&engine_ctx)?);
            Ok(())
        }
        wanted => {
            let before = history::read_target_history(&target)?.len();
            let done = execute_change(&engine_ctx, &layer, wanted, warn);
            let entries = history::read_history(&target.history_file())?;
            ended.run = entries.last().filter(|_| entries.len() > before).cloned();
            let CurrentReleases { current, serving } = history::current_and_serving(&entries);
            ended.current = current.map(str::to_owned);
            ended.serves = serving.map(str::to_owned);
            done
        }
    }
}

fn inspect_target(
    engine_ctx: &EngineContext<'_>,
    layer: &Layer,
    needed: u64,
    missing: &[String],
) -> Result<TargetInspection> {
    let target = engine_ctx.target;
    let deploy =
        layer.deploy.as_ref().ok_or_else(|| Error::usage("the layer has no `[deploy]`"))?;
    let grounds = TargetGateContext {
        layer,
        deploy,
        target,
        needed,
        missing: missing.to_vec(),
        ctx: engine_ctx.ctx,
    };
    let gates = check_target_gates(&grounds);
    if !target.check_ownership().is_ok_and(|standing| standing == TargetOwnership::Ours) {
        return Ok(TargetInspection { gates, taken: Vec::new(), kept: Vec::new() });
    }
    let kept = rollback::list_kept(target, &history::read_history(&target.history_file())?);
    let taken = list_names(&target.releases_folder())
        .chain(list_names(&target.incoming_folder()))
        .collect();
    Ok(TargetInspection { gates, taken, kept })
}

fn execute_change(
    engine_ctx: &EngineContext<'_>,
    layer: &Layer,
    wanted: &HostCommand,
    warn: &dyn Fn(&str),
) -> Result<()> {
    let deploy =
        layer.deploy.as_ref().ok_or_else(|| Error::usage("the layer has no `[deploy]`"))?;
    let doing = match wanted {
        HostCommand::Rollback { .. } => DeployAction::Rollback,
        _ => DeployAction::Deploy,
    };
    let opened = executor::lock_and_recover(engine_ctx, doing);
    let arrived = |release: &str| Release {
        name: release.to_owned(),
        folder: engine_ctx.target.incoming_folder().join(release),
    };
    let (_lock, mended) = match (opened, wanted) {
        (Ok(opened), _) => opened,
        (Err(failure), HostCommand::Deploy { release, .. }) if is_release_name(release) => {
            // The next attempt uploads the release again.
            drop(arrived(release).remove(&engine_ctx.ctx));
            return Err(failure);
        }
        (Err(failure), _) => return Err(failure),
    };
    if let Some(words) = mended {
        warn(&words);
    }
    match wanted {
        HostCommand::Deploy { release, commit, watch_ms } if is_release_name(release) => {
            let source = ReleaseSource::Sealed { name: release, commit };
            let watch = Duration::from_millis(*watch_ms);
            let done = executor::deploy_release(
                engine_ctx,
                &DeployRequest { source, layer, deploy, watch },
            );
            drop(arrived(release).remove(&engine_ctx.ctx));
            done?.warnings.iter().for_each(|warning| warn(warning));
            if let Err(failure) = remove_stale_files(engine_ctx.target, &engine_ctx.ctx) {
                warn(&failure.to_string());
            }
            Ok(())
        }
        HostCommand::Rollback { release, watch_ms } => {
            let release = rollback::choose_rollback(engine_ctx.target, Some(release))?;
            check_rollback(layer, deploy, engine_ctx.target, &release, &engine_ctx.ctx)?;
            executor::rollback_to(engine_ctx, &release, Duration::from_millis(*watch_ms)).map(drop)
        }
        _ => Ok(()),
    }
}

fn list_names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Removes old programs, and releases in `incoming` that were never imported.
fn remove_stale_files(target: &DeployTarget, deploy_ctx: &DeployContext<'_>) -> Result<()> {
    let mut programs = Vec::new();
    for name in list_names(&target.programs_folder()).filter(|name| name.starts_with("xtask-")) {
        let path = target.programs_folder().join(name);
        // The running program sorts as the newest, whatever its build time.
        let is_own = is_own_program(&path, deploy_ctx.world);
        let changed = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        programs.push((is_own, changed, path));
    }
    programs.sort();
    let older = programs.len().saturating_sub(MAX_KEPT_PROGRAMS);
    for (_, _, path) in programs.into_iter().take(older) {
        deploy_ctx
            .disk
            .remove_file(&path)
            .with_context(|| format!("cannot remove `{}`", path.display()))?;
    }
    for name in list_names(&target.incoming_folder()).filter(|name| is_release_name(name)) {
        let folder = target.incoming_folder().join(&name);
        // An upload in progress is younger than its time limit.
        if file_age(&folder, deploy_ctx.world).is_some_and(|age| age > 2 * UPLOAD_TIMEOUT) {
            Release { name, folder }.remove(deploy_ctx)?;
        }
    }
    Ok(())
}

fn is_own_program(path: &Path, world: &Environment) -> bool {
    let id = FileId::at(path);
    id.is_some() && id == FileId::at(&world.program)
}

fn file_age(path: &Path, world: &Environment) -> Option<Duration> {
    use std::os::unix::fs::MetadataExt as _;
    let changed = std::fs::symlink_metadata(path).ok()?.ctime();
    let age = world.now_seconds().checked_sub(changed)?;
    Some(Duration::from_secs(u64::try_from(age).ok()?))
}
