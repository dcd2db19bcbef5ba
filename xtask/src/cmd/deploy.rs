//! `deploy`: deploys the current commit to the target of a layer: gates, confirmation, build, switch, watch. For
//! example, `deploy staging` prints `20260131T120000Z-0123456789ab serves layer staging`.

use super::deploy_target::LayerDeployment;
use super::session::Session;
use super::{CommandResult, SUCCESS, checks, remote_deploy, stack};
use crate::cli::DeployArgs;
use xtask_base::error::{Error, Result};
use xtask_deploy::engine::EngineContext;
use xtask_deploy::executor::{self, DeployRequest, ReleaseSource};
use xtask_deploy::gates::{self, GateContext};
use xtask_deploy::history::{self, DeployEntry};
use xtask_deploy::pipeline::{DeployAction, render_plan};
use xtask_deploy::release::Release;
use xtask_deploy::rollback;
use xtask_deploy::target::TargetOwnership;
use xtask_deploy::verify::verify_target;
use xtask_git::Repo;
use xtask_report as report;

pub(super) fn run(session: &Session, args: &DeployArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let place = LayerDeployment::read_layer(&repo, &args.layer)?;
    if place.is_on_host() {
        return remote_deploy::deploy_on_host(session, &repo, &place, args);
    }
    place.with_engine(session, args.timeout, |site| match args.verify {
        true => place.print_verification(&verify_target(site)?, args.json),
        false => deploy_layer(session, &repo, &place, site, args),
    })
}

fn deploy_layer(
    session: &Session,
    repo: &Repo,
    place: &LayerDeployment,
    site: &EngineContext<'_>,
    args: &DeployArgs,
) -> CommandResult {
    let load = |name: &str| stack::read_layer(repo, name);
    let scene = GateContext {
        repo,
        layer: &place.layer,
        deploy: &place.deploy,
        target: &place.target,
        load: &load,
        ctx: site.ctx,
    };
    if args.dry_run {
        return print_dry_run(&scene, place, args);
    }
    let tools = session.tools();
    // An interrupted run is completed even if a gate fails for the new one.
    if place.target.check_ownership().is_ok_and(|standing| standing == TargetOwnership::Ours) {
        let _held = tools.interrupts.defer_signals();
        let (_lock, mended) = executor::lock_and_recover(site, DeployAction::Deploy)?;
        session.warn_recovered(mended);
    }
    // No lock is held and Ctrl-C works while the user reads the prompt.
    place.check_gates(&gates::check_gates(&scene)?, args.json, &read_own_history(place)?)?;
    let head = repo.head()?;
    let what = format!("deploy {} to {}?", repo.short_id(head.commit), place.deploy.to);
    if !place.confirm_by_name(&what, args.yes)? {
        return Err(Error::negative("nothing was deployed"));
    }
    let _held = tools.interrupts.defer_signals();
    let (_lock, mended) = executor::lock_and_recover(site, DeployAction::Deploy)?;
    session.warn_recovered(mended);
    if checks::run_full_validation(session)? != SUCCESS {
        return Err(Error::negative("nothing was deployed: this checkout is not healthy")
            .with_hint("`cargo xtask validate` shows the failed checks"));
    }
    let order = DeployRequest {
        source: ReleaseSource::Commit(repo, head.commit),
        layer: &place.layer,
        deploy: &place.deploy,
        watch: args.watch.unwrap_or(place.deploy.watch),
    };
    let from = history::read_history(&place.target.history_file())?.len();
    let done = executor::deploy_release(site, &order);
    let result = done.map(|done| {
        done.warnings.iter().for_each(|warning| report::print_warning(warning));
    });
    place.print_last_run(result, args.json, from)
}

/// Returns the history of the target, or an empty one if another repository owns it.
fn read_own_history(place: &LayerDeployment) -> Result<Vec<DeployEntry>> {
    if place.target.check_ownership().is_ok_and(|standing| standing == TargetOwnership::Ours) {
        return history::read_history(&place.target.history_file());
    }
    Ok(Vec::new())
}

/// Prints the gates and the steps of a deploy, without changing anything.
fn print_dry_run(
    scene: &GateContext<'_>,
    place: &LayerDeployment,
    args: &DeployArgs,
) -> CommandResult {
    let gates = gates::check_gates(scene)?;
    let head = scene.repo.head()?;
    let now = scene.ctx.world.now_seconds();
    let new = Release::choose_name_in(scene.target, head.commit, now);
    let old = rollback::list_kept(scene.target, &read_own_history(place)?).into_iter().next();
    let plan = render_plan(DeployAction::Deploy, scene.layer, scene.deploy, &new, old.as_deref());
    place.print_plan(&gates, &plan, &head.commit.to_string(), args.json)
}
