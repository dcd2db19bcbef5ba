//! Which checks of a hook run in the present situation of the repository *(pure)*.
//!
//! ```text
//! hook = "pre-commit", only-on = ["feature/*"], on `main`  ->  No("only on feature/*")
//! ```

use super::plan::{CheckSelection, add_needed_checks};
use xtask_config::{Check, CheckHook, SkippedOperation, ValidateConfig};
use xtask_git::{BranchPattern, OperationKind};

/// The situation in which git runs a hook.
#[derive(Clone, Copy, Debug)]
pub struct HookSituation<'a> {
    pub hook: CheckHook,
    /// The operation in progress.
    pub operation: Option<OperationKind>,
    /// The branch that is checked out; `None` if HEAD is detached.
    pub branch: Option<&'a str>,
}

/// Takes the checks out of a selection that `skip-during` or `only-on` leave out. Returns whether any check is left.
pub fn apply_hook_settings(
    config: &ValidateConfig,
    selection: &mut [CheckSelection],
    situation: HookSituation<'_>,
) -> bool {
    for (check, chosen) in config.checks.iter().zip(selection.iter_mut()) {
        match chosen {
            CheckSelection::Yes => {
                if let Some(reason) = find_reason(check, situation) {
                    *chosen = CheckSelection::No(reason);
                }
            }
            CheckSelection::For(name) => {
                *chosen = CheckSelection::No(format!("only `{name}` needs it"));
            }
            CheckSelection::No(_) | CheckSelection::NotHere(_) => {}
        }
    }
    add_needed_checks(config, selection);
    selection.contains(&CheckSelection::Yes)
}

/// Returns why a check does not run in this situation.
fn find_reason(check: &Check, situation: HookSituation<'_>) -> Option<String> {
    let settings = &check.conditions.in_hooks;
    let operation = match situation.operation {
        Some(OperationKind::Merge) => Some(SkippedOperation::Merge),
        Some(OperationKind::Rebase | OperationKind::Am) => Some(SkippedOperation::Rebase),
        Some(OperationKind::CherryPick) => Some(SkippedOperation::CherryPick),
        Some(OperationKind::Revert) => Some(SkippedOperation::Revert),
        Some(OperationKind::Bisect) | None => None,
    };
    if let Some(operation) = operation
        && settings.skips(situation.hook, operation)
    {
        return Some(format!("not during a {}", operation.name()));
    }
    let is_on = |pattern: &String| {
        situation.branch.is_some_and(|branch| BranchPattern::new(pattern).matches(branch))
    };
    let is_elsewhere = !settings.only_on.is_empty() && !settings.only_on.iter().any(is_on);
    is_elsewhere.then(|| format!("only on {}", settings.only_on.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{CheckFilter, RunEnvironment, select_checks};

    fn run(operation: Option<OperationKind>, branch: Option<&str>) -> String {
        let text = "[[check]]\nname = 'plain'\nrun = 'x'\nhook = 'pre-commit'\n\
            [[check]]\nname = 'always'\nrun = 'x'\nhook = 'pre-commit'\nskip-during = []\n\
            [[check]]\nname = 'no-merge'\nrun = 'x'\nhook = 'pre-commit'\nskip-during = 'merge'\n\
            [[check]]\nname = 'needed'\nrun = 'x'\n\
            [[check]]\nname = 'feature'\nrun = 'x'\nhook = ['pre-commit', 'pre-push']\n\
            only-on = 'feature/*'\nneeds = ['needed']\n";
        let config = ValidateConfig::parse("f", text).unwrap();
        let here = RunEnvironment { system: "linux", is_ci: false };
        let filter = CheckFilter { hook: Some(CheckHook::PreCommit), ..CheckFilter::default() };
        let mut chosen = select_checks(&config, &filter, here).unwrap();
        let situation = HookSituation { hook: CheckHook::PreCommit, operation, branch };
        assert!(apply_hook_settings(&config, &mut chosen, situation));
        let is_in = |chosen: &CheckSelection| !matches!(chosen, CheckSelection::No(_));
        let names = config.checks.iter().zip(&chosen).filter(|(_, chosen)| is_in(chosen));
        names.map(|(check, _)| check.name.clone()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_hook_leaves_checks_out_by_operation_and_branch() {
        assert_eq!(run(None, Some("main")), "plain always no-merge");
        assert_eq!(run(None, Some("feature/x")), "plain always no-merge needed feature");
        assert_eq!(run(None, None), "plain always no-merge", "a detached HEAD is on no branch");
        assert_eq!(run(Some(OperationKind::Merge), Some("main")), "plain always");
        assert_eq!(run(Some(OperationKind::Rebase), None), "always no-merge");
        assert_eq!(run(Some(OperationKind::CherryPick), Some("main")), "always no-merge");
    }
}
