//! `rollback`: makes an earlier verified release serve again, with its own configuration, after a prompt.

use super::deploy_target::LayerDeployment;
use super::session::Session;
use super::{CommandResult, remote_deploy};
use crate::cli::RollbackArgs;
use xtask_base::error::Error;
use xtask_deploy::executor;
use xtask_deploy::history;
use xtask_deploy::pipeline::DeployAction;
use xtask_deploy::required_variables::check_rollback;
use xtask_deploy::rollback;
use xtask_deploy::target::TargetOwnership;

pub(super) fn run(session: &Session, args: &RollbackArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let place = LayerDeployment::read_layer(&repo, &args.layer)?;
    if place.is_on_host() {
        return remote_deploy::rollback_on_host(session, &repo, &place, args);
    }
    if place.target.check_ownership()? != TargetOwnership::Ours {
        return Err(Error::negative(format!("layer `{}` was never deployed", args.layer))
            .with_hint(format!("`cargo xtask deploy {}`", args.layer)));
    }
    place.with_engine(session, args.timeout, |site| {
        let tools = session.tools();
        {
            let _held = tools.interrupts.defer_signals();
            let (_lock, mended) = executor::lock_and_recover(site, DeployAction::Rollback)?;
            session.warn_recovered(mended);
        }
        let release = rollback::choose_rollback(&place.target, args.release.as_deref())?;
        let (layer, deploy) = (&place.layer, &place.deploy);
        check_rollback(layer, deploy, &place.target, &release, &site.ctx)?;
        let entries = history::read_history(&place.target.history_file())?;
        let serves = history::current_and_serving(&entries).serving.unwrap_or("nothing");
        session.print_info(&format!("{serves} serves now; rolling back to {}", release.name));
        let what = format!("roll layer {1} back to {0}?", release.name, args.layer);
        if !place.confirm_by_name(&what, args.yes)? {
            return Err(Error::negative("nothing was changed"));
        }
        let _held = tools.interrupts.defer_signals();
        let (_lock, mended) = executor::lock_and_recover(site, DeployAction::Rollback)?;
        session.warn_recovered(mended);
        let from = history::read_history(&place.target.history_file())?.len();
        let done = executor::rollback_to(site, &release, args.watch.unwrap_or(place.deploy.watch));
        place.print_last_run(done.map(drop), args.json, from)
    })
}
