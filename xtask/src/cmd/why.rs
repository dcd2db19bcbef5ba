//! `why`: explains the decision of sync about one path: its rule, its class, its four versions, and the last
//! commits that changed it.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::WhyArgs;
use xtask_report as report;
use xtask_sync::context;
use xtask_sync::why::explain_path;

pub(super) fn run(session: &Session, args: &WhyArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let path = session.repo_path(&repo, &args.path)?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    report::print_output(&explain_path(&repo, &context, &path, &session.tools())?)?;
    Ok(SUCCESS)
}
