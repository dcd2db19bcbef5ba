//! A plain sync as a step of `setup` and `recover`: if the rules refuse it, that is printed as a warning and is no
//! failure, e.g. `warning: main is protected`.

use super::session::{Session, build_sync_report};
use super::{CommandResult, SUCCESS};
use xtask_base::error::ErrorKind;
use xtask_git::Repo;
use xtask_report as report;
use xtask_report::sync::{RunMode, SyncReport};
use xtask_sync::context::SyncContext;
use xtask_sync::run::{SyncInspection, SyncOptions, apply_plan, inspect_for_write};

/// Syncs the branch that is checked out. The caller holds the lock of the worktree. Returns an error if the sync
/// fails for another reason than the rules.
pub(super) fn sync_best_effort(
    session: &Session,
    repo: &Repo,
    context: SyncContext,
) -> CommandResult {
    let tools = session.tools();
    let wishes = SyncOptions::plain();
    let (looked, _) = inspect_for_write(repo, context, &wishes, &tools)?;
    let decided = match looked {
        SyncInspection::OnCanonical(_) => return Ok(SUCCESS),
        SyncInspection::Planned(decided) => decided,
    };
    let mut shown =
        build_sync_report(repo, &decided.head, &decided.context, &decided.plan, &[], Vec::new());
    match apply_plan(repo, *decided, &wishes, &tools) {
        Ok(done) => {
            shown.commit = done.commit.map(|id| id.to_string());
            shown.undo = done.backup;
            report::print_output(&shown.render_text(RunMode::Real, session.verbosity))?;
        }
        // On a protected branch, what is left is for the user to decide.
        Err(refused) if refused.kind() == ErrorKind::Negative => {
            let shown = SyncReport { warnings: Vec::new(), ..shown };
            report::print_output(&shown.render_text(RunMode::Check, session.verbosity))?;
            report::print_warning(refused.message());
            for hint in refused.hints() {
                session.print_info(hint);
            }
        }
        Err(failure) => return Err(failure),
    }
    Ok(SUCCESS)
}
