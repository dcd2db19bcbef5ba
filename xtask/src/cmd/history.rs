//! `history`: prints the past runs of a layer's deployment.
//!
//! ```text
//! 2026-01-31T12:00:00Z  deploy    20260131T120000Z-0123456789ab  verified  (alice)
//! ```

use super::deploy_workflow::read_deployment;
use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::HistoryArgs;
use xtask_deploy::report::DeployHistoryReport;
use xtask_deploy::run_history::fetch_history;
use xtask_report as report;

pub(super) fn run(session: &Session, args: &HistoryArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let place = read_deployment(&repo, &args.layer)?;
    let entries = fetch_history(&repo, &args.layer, &place.deploy, &session.world)?;
    let history = DeployHistoryReport::new(&args.layer, &entries);
    if args.json {
        report::print_json(&history)?;
    } else if entries.is_empty() {
        session.print_info(&format!("layer `{}` was never deployed", args.layer));
    } else {
        report::print_output(&history.render_text())?;
    }
    Ok(SUCCESS)
}
