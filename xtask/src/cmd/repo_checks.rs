//! The built-in checks `hooks`, `sync` and `branches` of `validate`, which need more than the files of a repository.
//!
//! For example, `sync` fails with ``2 managed files behind: `cargo xtask sync` updates them``.

use crate::canonical_checks::find_wanted_hooks;
use xtask_base::error::{Error, Result};
use xtask_base::words::pluralize;
use xtask_branches::check::{check_branch, is_shared, needs_check};
use xtask_branches::facts::BranchInspector;
use xtask_branches::rules::Severity;
use xtask_config::BranchesConfig;
use xtask_git::{BranchPattern, Repo, Tools};
use xtask_hooks::health::inspect_hooks;
use xtask_hooks::program::VerifyDepth;
use xtask_sync::classify::PathClass;
use xtask_sync::context::{self, SyncContext};
use xtask_sync::run::{SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;
use xtask_sync::write_rules::{is_blocked_only_by_protection, protected_branch_hint};
use xtask_validate::builtin_checks::{CheckFinding, RepoChecks};

/// Runs the built-in checks `hooks`, `sync` and `branches` on a repository.
pub(super) struct RepoCheckRunner<'a> {
    pub(super) repo: &'a Repo,
    pub(super) tools: Tools<'a>,
}

fn describe_error(failure: &Error) -> String {
    let hints = failure.hints().iter().map(|hint| format!("; {hint}"));
    std::iter::once(failure.to_string()).chain(hints).collect()
}

impl RepoCheckRunner<'_> {
    /// Checks the current commit against the rule for `branch`.
    fn check_branch_rule(&self, context: &SyncContext, branch: &str) -> Result<CheckFinding> {
        let inspector = BranchInspector::new(self.repo, context, self.tools.world.now_seconds())?;
        let checked = check_branch(&inspector, branch, Ok(self.repo.head()?.commit));
        let lines = checked.render_findings().join("\n");
        Ok(match checked.worst_severity() {
            None => Ok(checked.describe()),
            Some(Severity::Note) => Ok(lines),
            Some(Severity::Unknown | Severity::Broken) => Err(lines),
        })
    }
}

impl RepoChecks for RepoCheckRunner<'_> {
    fn check_hooks(&self) -> CheckFinding {
        let find = || {
            let context = context::find_canonical_context(self.repo)?;
            inspect_hooks(
                self.repo,
                self.tools.world,
                Ok(context.as_ref()),
                VerifyDepth::Metadata,
                &find_wanted_hooks(self.repo, context.as_ref())?,
            )
        };
        let health = find().map_err(|failure| describe_error(&failure))?;
        let all_fire = health.hooks.iter().all(|hook| health.will_run(hook));
        if all_fire { Ok(health.summary()) } else { Err(health.summary()) }
    }

    fn check_sync(&self) -> CheckFinding {
        let find = || {
            let Some(context) = context::find_canonical_context(self.repo)? else {
                return Ok(None);
            };
            let inspection = inspect_checkout(
                self.repo,
                context,
                &SyncOptions::plain(),
                ScanDepth::Everything,
                &self.tools,
            )?;
            Ok(Some(inspection))
        };
        let inspection = find().map_err(|failure: Error| describe_error(&failure))?;
        let decided = match inspection {
            None => return Ok("no canonical branch to compare with".to_owned()),
            Some(SyncInspection::OnCanonical(context)) => {
                return Ok(format!("`{}` is the canonical branch", context.config.branch));
            }
            Some(SyncInspection::Planned(decided)) => decided,
        };
        let behind = decided.plan.count(PathClass::Behind) + decided.plan.count(PathClass::Sparse);
        let unknown = decided.plan.count(PathClass::Unknown);
        let own = decided.plan.count(PathClass::Customised);
        if behind + unknown > 0 {
            if unknown == 0 && is_blocked_only_by_protection(self.repo, &decided) {
                let branch = decided.head.branch.as_deref().unwrap_or_default();
                return Ok(format!(
                    "{} behind, and `{branch}` is protected: {}",
                    pluralize(behind, "managed file"),
                    protected_branch_hint(self.repo, &decided.context, branch)
                ));
            }
            let unknown = if unknown > 0 { format!(", {unknown} unknown") } else { String::new() };
            return Err(format!(
                "{} behind{unknown}: `cargo xtask sync` updates them",
                pluralize(behind, "managed file")
            ));
        }
        let pinned = decided.plan.count(PathClass::Pinned);
        let kept = [(own, "customised"), (pinned, "pinned")].into_iter();
        let kept =
            kept.filter(|(many, _)| *many > 0).map(|(many, what)| format!(", {many} {what}"));
        Ok(std::iter::once("in sync".to_owned()).chain(kept).collect())
    }

    /// Checks the branch against its rule. Without a rule, checks that it has a protected branch as its base, and
    /// reports the distance. An unknown result is a failure.
    fn check_branches(&self) -> CheckFinding {
        let find = || -> Result<CheckFinding> {
            let Some(branch) = self.repo.current_branch() else {
                return Ok(Err("HEAD is detached: no branch is known".to_owned()));
            };
            let context = context::find_canonical_context(self.repo)?;
            let protected = context.as_ref().map_or_else(
                || BranchesConfig::default().protected,
                |context| context.branches.protected.clone(),
            );
            let is_protected =
                |name: &str| protected.iter().any(|p| BranchPattern::new(p).matches(name));
            if is_protected(&branch) || context.as_ref().is_some_and(|c| is_shared(c, &branch)) {
                return Ok(Ok(format!("`{branch}` is shared")));
            }
            if let Some(context) = context.filter(|context| needs_check(context, &branch)) {
                return self.check_branch_rule(&context, &branch);
            }
            if self.repo.is_shallow() {
                return Ok(Err("shallow clone: cannot determine its base".to_owned()));
            }
            let head = self.repo.head()?.commit;
            let remote = context::configured_names(self.repo).remote;
            let prefixes = ["refs/heads/".to_owned(), format!("refs/remotes/{remote}/")];
            for prefix in &prefixes {
                for (name, id) in self.repo.refs_below(prefix)? {
                    let short = name.strip_prefix(prefix.as_str()).unwrap_or(&name);
                    if !is_protected(short) {
                        continue;
                    }
                    let Some(base) = self.repo.merge_base(head, id)? else {
                        return Ok(Err(format!("`{branch}` has no common history with `{short}`")));
                    };
                    let behind = self.repo.count_commits_between(base, id)?;
                    let own = self.repo.count_commits_between(base, head)?;
                    return Ok(Ok(format!(
                        "{} on `{short}`, which is {} ahead",
                        pluralize(own, "commit"),
                        pluralize(behind, "commit")
                    )));
                }
            }
            Ok(Err(format!(
                "no protected branch exists here (looked for {})",
                protected.join(", ")
            )))
        };
        find().unwrap_or_else(|failure| Err(describe_error(&failure)))
    }
}
