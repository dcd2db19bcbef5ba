//! `branch check`: checks branches against `setup/branches.toml`; exit code 1 if a rule is broken, 3 if a result is
//! unknown.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::BranchCheckArgs;
use xtask_base::error::ErrorKind;
use xtask_branches::check::{CheckVerdict, check_branch};
use xtask_branches::facts::BranchInspector;
use xtask_branches::report::BranchCheckReport;
use xtask_branches::selection::{BranchSelection, select_branches};
use xtask_report as report;
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &BranchCheckArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let inspector = BranchInspector::new(&repo, &context, session.world.now_seconds())?;
    let selection =
        BranchSelection { all: args.all, at: args.at.as_deref(), branches: &args.branches };
    let selected = select_branches(&repo, &context, &selection)?.into_iter();
    let branches = selected.map(|(name, commit)| check_branch(&inspector, &name, commit)).collect();
    let checked = BranchCheckReport::new(context.branches.enforce, branches);
    if args.json {
        report::print_json(&checked)?;
    } else {
        report::print_output(&checked.render_text(session.verbosity))?;
        if context.branches.rules.is_empty() {
            let branch = &context.config.branch;
            session.print_info(&format!("`setup/branches.toml` on `{branch}` has no rules yet"));
        }
    }
    Ok(match checked.result {
        CheckVerdict::Broken => ErrorKind::Negative.exit_code(),
        CheckVerdict::Unknown => ErrorKind::Unable.exit_code(),
        CheckVerdict::Good | CheckVerdict::NotAsked => SUCCESS,
    })
}
