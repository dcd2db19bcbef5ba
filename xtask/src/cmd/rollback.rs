//! `rollback`: makes an earlier verified release serve again, with its own configuration, after a prompt.

use super::CommandResult;
use super::deploy_workflow::{print_run, with_workflow};
use super::session::Session;
use crate::cli::RollbackArgs;
use xtask_deploy::workflow::DeployRunOptions;

pub(super) fn run(session: &Session, args: &RollbackArgs) -> CommandResult {
    with_workflow(session, &args.layer, args.timeout, |flow| {
        let options = DeployRunOptions { is_confirmed: args.yes, watch: args.watch };
        print_run(flow.place, flow.roll_back(args.release.as_deref(), &options)?, args.json)
    })
}
