//! `deploy`: deploys the current commit to the target of a layer: gates, confirmation, build, switch, watch. For
//! example, `deploy staging` prints `20260131T120000Z-0123456789ab serves layer staging`.

use super::deploy_workflow::{print_run, with_workflow};
use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::DeployArgs;
use xtask_base::error::ErrorKind;
use xtask_deploy::report::{DeployPlanReport, DeployVerifyReport};
use xtask_deploy::workflow::DeployRunOptions;
use xtask_report as report;

pub(super) fn run(session: &Session, args: &DeployArgs) -> CommandResult {
    with_workflow(session, &args.layer, args.timeout, |flow| {
        if args.verify {
            let found = flow.verify()?;
            return print_verification(&DeployVerifyReport::new(&args.layer, &found), args.json);
        }
        if args.dry_run {
            return print_plan(&flow.plan()?, &flow.place.deploy.to, args.json);
        }
        let options = DeployRunOptions { is_confirmed: args.yes, watch: args.watch };
        print_run(flow.place, flow.deploy(&options)?, args.json)
    })
}

fn print_verification(found: &DeployVerifyReport<'_>, json: bool) -> CommandResult {
    match json {
        true => report::print_json(found)?,
        false => report::print_output(&found.render_text()?)?,
    }
    Ok(if found.ok { SUCCESS } else { ErrorKind::Negative.exit_code() })
}

fn print_plan(plan: &DeployPlanReport, to: &str, json: bool) -> CommandResult {
    match json {
        true => report::print_json(plan)?,
        false => report::print_output(&plan.render_text(to))?,
    }
    Ok(if plan.ok { SUCCESS } else { ErrorKind::Negative.exit_code() })
}
