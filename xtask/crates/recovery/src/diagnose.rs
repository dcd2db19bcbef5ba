//! The diagnosis of `recover`: the problems of a worktree and the plan to fix them, for the steps git, environment,
//! ports and services. It writes nothing.
//!
//! ```text
//! git       a rebase is in progress  ->  end the rebase; go to `origin/main`
//! services  api is failed            ->  stop the services, and start layer `local` again
//! ```

use std::collections::BTreeSet;

use super::create_backup::{SecretRules, UnsavedState, inspect_worktree};
use super::env_files::{BrokenEnvFile, EnvReplacement};
use super::reset::{DETACHED_HEAD, find_unreferenced_commit, recovered_branch_name};
use super::target::{self, RecoveryTarget};
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::words::{join_names, pluralize};
use xtask_git::{GIT, Repo, Tools};
use xtask_sync::classify::PathClass;
use xtask_sync::context;
use xtask_sync::run::{SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;
use xtask_sync::write_rules::check_write_rules;

/// How many names are listed in one line.
const MAX_NAMES: usize = 5;

/// A step of a recovery, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecoveryStep {
    /// The git operation in progress and the commit.
    Git,
    /// Env files, managed files and checks.
    Environment,
    Ports,
    Services,
}

impl RecoveryStep {
    /// All steps.
    pub const ALL: [RecoveryStep; 4] =
        [RecoveryStep::Git, RecoveryStep::Environment, RecoveryStep::Ports, RecoveryStep::Services];

    /// Returns the name as it is typed, e.g. `git`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RecoveryStep::Git => GIT,
            RecoveryStep::Environment => "environment",
            RecoveryStep::Ports => "ports",
            RecoveryStep::Services => "services",
        }
    }
}

/// The options of a recovery.
#[derive(Clone, Debug, Default)]
pub struct RecoverOptions {
    /// The requested steps; if empty, all.
    pub steps: BTreeSet<RecoveryStep>,
    /// The branch or commit to go to.
    pub to: Option<String>,
}

impl RecoverOptions {
    /// Returns whether `step` was requested.
    #[must_use]
    pub fn is_requested(&self, step: RecoveryStep) -> bool {
        self.steps.is_empty() || self.steps.contains(&step)
    }
}

/// What is known of the services and checks of a worktree.
#[derive(Clone, Debug, Default)]
pub struct ServicesFindings {
    /// The layers whose services would be restarted.
    pub layers: Vec<String>,
    /// The problems of these services.
    pub problems: Vec<String>,
    /// The descriptions of wanted ports that are in use.
    pub port_conflicts: Vec<String>,
    /// Env files that cannot be read.
    pub broken_files: Vec<BrokenEnvFile>,
    /// The description of the last validation, if it failed.
    pub failed_validation: Option<String>,
}

/// The problems of one step, and the actions that fix them.
#[derive(Clone, Debug)]
pub struct RecoveryPart {
    pub step: RecoveryStep,
    pub problems: Vec<String>,
    pub actions: Vec<String>,
}

/// The problems of a worktree, and the plan.
pub struct Diagnosis {
    /// The uncommitted state of the worktree.
    pub seen: UnsavedState,
    /// The patterns by which `seen` was split into ordinary and secret files.
    pub secrets: SecretRules,
    /// The commit and branch to go to.
    pub recovery_target: RecoveryTarget,
    /// Whether the worktree is reset to `recovery_target`.
    pub is_leaving: bool,
    /// Env files that cannot be read.
    pub broken: Vec<BrokenEnvFile>,
    /// The requested steps, with their problems and actions.
    pub parts: Vec<RecoveryPart>,
}

impl Diagnosis {
    /// Returns whether `step` was requested.
    #[must_use]
    pub fn is_requested(&self, step: RecoveryStep) -> bool {
        self.parts.iter().any(|part| part.step == step)
    }

    /// Returns whether `step` has something to do.
    #[must_use]
    pub fn has_actions(&self, step: RecoveryStep) -> bool {
        self.parts.iter().any(|part| part.step == step && !part.actions.is_empty())
    }

    /// Returns whether env files are replaced.
    #[must_use]
    pub fn replaces_files(&self) -> bool {
        self.is_requested(RecoveryStep::Environment) && !self.broken.is_empty()
    }

    /// Returns whether no requested step has a problem.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.parts.iter().all(|part| part.problems.is_empty() && part.actions.is_empty())
    }
}

/// Diagnoses the requested steps. `secrets` are the rules of the canonical branch.
pub fn diagnose_worktree(
    repo: &Repo,
    tools: &Tools<'_>,
    options: &RecoverOptions,
    mut secrets: SecretRules,
    services: ServicesFindings,
) -> Result<Diagnosis> {
    // What may be replaced is backed up even if it matches no `[backup]` pattern.
    secrets.extra_paths.extend(services.broken_files.iter().map(|one| one.path.clone()));
    let seen = inspect_worktree(repo, &secrets)?;
    let recovery_target = target::find_target(repo, options.to.as_deref())?;
    let now = tools.world.now_seconds();
    let git = diagnose_git(repo, now, options, &seen, &recovery_target);
    let is_leaving = !git.actions.is_empty();
    let environment = diagnose_environment(repo, tools, &services, is_leaving);
    let ports = diagnose_ports(&services, options);
    let is_other_wrong = [&git, &environment, &ports].iter().any(|part| !part.actions.is_empty());
    let services_part = diagnose_services(&services, options, is_other_wrong);
    let parts = [git, environment, ports, services_part];
    Ok(Diagnosis {
        seen,
        secrets,
        recovery_target,
        is_leaving,
        broken: services.broken_files,
        parts: parts.into_iter().filter(|part| options.is_requested(part.step)).collect(),
    })
}

/// Diagnoses git. The worktree is left if there are actions.
fn diagnose_git(
    repo: &Repo,
    now: i64,
    options: &RecoverOptions,
    seen: &UnsavedState,
    recovery_target: &RecoveryTarget,
) -> RecoveryPart {
    let mut problems = list_git_problems(seen);
    if repo.is_index_locked() {
        let lock = repo.index_lock_file().display().to_string();
        problems.push(format!(
            "the index is locked: git is running here, or has crashed and left `{lock}`"
        ));
    }
    let is_leaving = options.is_requested(RecoveryStep::Git)
        && (!problems.is_empty() || options.to.is_some() && !recovery_target.is_at(&seen.head));
    let actions =
        if is_leaving { plan_git_actions(repo, now, seen, recovery_target) } else { Vec::new() };
    RecoveryPart { step: RecoveryStep::Git, problems, actions }
}

fn diagnose_environment(
    repo: &Repo,
    tools: &Tools<'_>,
    services: &ServicesFindings,
    is_leaving: bool,
) -> RecoveryPart {
    let broken = &services.broken_files;
    let mut problems: Vec<String> = broken.iter().map(|one| one.why.clone()).collect();
    problems.extend(describe_drift(repo, tools));
    problems.extend(services.failed_validation.clone());
    let mut actions = Vec::new();
    if !problems.is_empty() || is_leaving {
        let now = tools.world.now_seconds();
        actions.extend(broken.iter().map(|one| describe_replacement(now, one)));
        actions.push("sync, and validate without tests".to_owned());
    }
    RecoveryPart { step: RecoveryStep::Environment, problems, actions }
}

fn diagnose_ports(services: &ServicesFindings, options: &RecoverOptions) -> RecoveryPart {
    let problems = services.port_conflicts.clone();
    let action = match options.is_requested(RecoveryStep::Services) {
        true => "stop our own processes there; if another process has the port, use another port",
        false => "stop our own processes there, and no others",
    };
    let actions = if problems.is_empty() { Vec::new() } else { vec![action.to_owned()] };
    RecoveryPart { step: RecoveryStep::Ports, problems, actions }
}

/// Diagnoses the services. A recovery of all steps restarts them also if another step has something to do.
fn diagnose_services(
    services: &ServicesFindings,
    options: &RecoverOptions,
    is_other_wrong: bool,
) -> RecoveryPart {
    let problems = services.problems.clone();
    let is_needed = !problems.is_empty() || options.steps.is_empty() && is_other_wrong;
    let mut actions = Vec::new();
    if !services.layers.is_empty() && is_needed {
        let names = services.layers.join("`, `");
        actions.push(format!("stop the services, and start layer `{names}` again"));
    }
    RecoveryPart { step: RecoveryStep::Services, problems, actions }
}

fn list_git_problems(seen: &UnsavedState) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(operation) = seen.operation {
        faults.push(format!("{} is in progress", operation.name));
    }
    let changed: Vec<String> = seen.changes.tracked.keys().map(ToString::to_string).collect();
    if !changed.is_empty() {
        let number = pluralize(changed.len(), "file");
        faults.push(format!(
            "{number} changed and not committed: {}",
            join_names(&changed, MAX_NAMES)
        ));
    }
    faults
}

fn plan_git_actions(
    repo: &Repo,
    now: i64,
    seen: &UnsavedState,
    recovery_target: &RecoveryTarget,
) -> Vec<String> {
    let mut does = Vec::new();
    if let Some(operation) = seen.operation {
        does.push(format!("end the {} in progress", operation.kind.noun()));
    }
    let fetched = recovery_target.upstream.as_ref().and_then(|(remote, branch)| {
        Some(format!(", fetched {}", format_ago(now, repo.last_fetch_time(remote, branch)?)))
    });
    let fetched = fetched.unwrap_or_default();
    does.push(format!("go to {}{fetched}", recovery_target.describe(repo)));
    if recovery_target.own_commits > 0
        && let Some(branch) = &recovery_target.branch
    {
        does.push(target::describe_kept_commits(
            recovery_target,
            &recovered_branch_name(branch, now),
        ));
    }
    if matches!(find_unreferenced_commit(repo, seen.operation), Ok(Some(_))) {
        let kept = recovered_branch_name(DETACHED_HEAD, now);
        does.push(format!(
            "keep the commits of the detached HEAD that are on no branch as `{kept}`"
        ));
    }
    does.push(match seen.changes.untracked.len() {
        0 => "back up changes first".to_owned(),
        number => {
            let files = pluralize(number, "untracked file");
            let stay = if number == 1 { "stays" } else { "stay" };
            format!("back up changes first; {files} {stay}, unless in the way")
        }
    });
    does
}

fn describe_replacement(now: i64, one: &BrokenEnvFile) -> String {
    let path = &one.path;
    match &one.replacement {
        Some(EnvReplacement::Copy { backup, seconds, .. }) => {
            let when = format_ago(now, *seconds);
            format!("`{path}` as it was {when}, from backup {backup}")
        }
        Some(EnvReplacement::Example(example)) => format!("`{path}` from `{example}`"),
        None if !one.is_damaged => format!(
            "keep `{path}`: it is not damaged (empty, truncated or in conflict), only invalid; fix the line"
        ),
        None => {
            format!("keep `{path}`: no backup has a readable copy, and there is no example file")
        }
    }
}

/// Describes managed files that are behind, if a plain sync may update them.
fn describe_drift(repo: &Repo, tools: &Tools<'_>) -> Option<String> {
    let context = context::find_canonical_context(repo).ok()??;
    let looked =
        inspect_checkout(repo, context, &SyncOptions::plain(), ScanDepth::Differences, tools);
    let Ok(SyncInspection::Planned(decided)) = looked else { return None };
    let behind = decided.plan.count(PathClass::Behind) + decided.plan.count(PathClass::Sparse);
    let is_allowed = check_write_rules(repo, &decided, &SyncOptions::plain()).is_ok();
    (behind > 0 && is_allowed).then(|| format!("{} behind", pluralize(behind, "managed file")))
}
