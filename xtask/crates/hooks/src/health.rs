//! Health of the hook installation, for `hooks status`: whether each hook runs in this worktree, with which
//! program, and which obstacles exist. The inspection is read-only.
//!
//! ```text
//! hooks disabled, program outdated  ->  "installed, but inactive: disabled in this worktree until …"
//! ```

use super::Hook;
use super::hooks_folder::{
    HookFileState, find_install_target, inspect_hook, kept_hook_path, locate_program,
};
use super::pause::{HooksPause, PauseScope, find_pause};
use super::program::{
    InstalledProgram, ProgramRecord, VerifyDepth, compute_source_key, inspect_program,
};
use super::skip_rules::find_disabling_variable;
use xtask_base::environment::{Environment, format_rfc3339};
use xtask_base::error::Result;
use xtask_base::files::is_executable;
use xtask_config::HookMode;
use xtask_git::{Head, Repo};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::hook_policy::{BranchOwner, HookPolicy, find_hook_policy};

/// The health of one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookHealth {
    pub hook: Hook,
    /// The state of the file with the name of the hook.
    pub state: HookFileState,
    /// Whether the shim first runs a hook that existed before the installation.
    pub runs_previous: bool,
}

/// The health of the whole installation.
#[derive(Clone, Debug)]
pub struct InstallationHealth {
    /// The folder in which git looks for hooks (`core.hooksPath`, or `hooks` in the git folder).
    pub folder: String,
    pub hooks: Vec<HookHealth>,
    pub program: InstalledProgram,
    /// Whether the program was built from other sources than the present canonical ones; `None` if unknown.
    pub is_outdated: Option<bool>,
    /// The reasons why no hook acts in this worktree at present, e.g. a pause.
    pub obstacles: Vec<String>,
    /// Additional information for the user.
    pub notes: Vec<String>,
    /// The reason why hooks cannot be installed in `folder`, if any.
    pub refusal: Option<String>,
}

impl InstallationHealth {
    /// Returns whether `hook` will run its task.
    #[must_use]
    pub fn will_run(&self, hook: &HookHealth) -> bool {
        matches!(hook.state, HookFileState::Shim | HookFileState::CallsProgram)
            && matches!(self.program, InstalledProgram::Intact(_))
            && self.obstacles.is_empty()
    }

    /// Returns whether no hook of xtask is installed.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let is_ours = |hook: &HookHealth| {
            matches!(
                hook.state,
                HookFileState::Shim | HookFileState::ChangedShim | HookFileState::CallsProgram
            )
        };
        !self.hooks.iter().any(is_ours)
    }

    /// Returns the most important fact in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        if self.is_absent() {
            return match &self.refusal {
                Some(why) => format!("not installed: {why}"),
                None => "not installed; run `cargo xtask install-hooks`".to_owned(),
            };
        }
        let renew = "`cargo xtask install-hooks` reinstalls them";
        if let InstalledProgram::Broken(why) = &self.program {
            return format!("the installed program is broken ({why}); {renew}");
        }
        if self.program == InstalledProgram::Missing {
            return format!("the installed program is missing; {renew}");
        }
        let names = |is: &dyn Fn(&HookFileState) -> bool| {
            let hooks = self.hooks.iter().filter(|hook| is(&hook.state));
            hooks.map(|hook| hook.hook.name()).collect::<Vec<_>>().join(", ")
        };
        let foreign = names(&|there| *there == HookFileState::Foreign);
        if !foreign.is_empty() {
            return format!(
                "installed, but another hook has replaced {foreign}; `cargo xtask \
                 install-hooks` explains the options"
            );
        }
        let wrong =
            names(&|there| !matches!(there, HookFileState::Shim | HookFileState::CallsProgram));
        if !wrong.is_empty() {
            return format!("{wrong} missing or modified; {renew}");
        }
        if let Some(first) = self.obstacles.first() {
            return format!("installed, but inactive: {first}");
        }
        if self.is_outdated == Some(true) {
            return format!(
                "installed, but outdated: built from older sources than the canonical ones; {renew}"
            );
        }
        "installed".to_owned()
    }
}

/// Inspects the hooks of this worktree. Read-only. `care` selects how thoroughly the program is verified.
pub fn inspect_hooks(
    repo: &Repo,
    world: &Environment,
    context: Option<&SyncContext>,
    care: VerifyDepth,
) -> Result<InstallationHealth> {
    let place = find_install_target(repo)?;
    let folder = &place.folder.path;
    let program_at = locate_program(repo, folder);
    let mut hooks = Vec::new();
    let mut notes = Vec::new();
    for hook in Hook::ALL {
        let kept = kept_hook_path(folder, hook);
        let chains = std::fs::metadata(&kept).is_ok_and(|meta| is_executable(&meta));
        if !chains && kept.symlink_metadata().is_ok() {
            notes.push(format!("`{}` is not executable, so git would not run it", kept.display()));
        }
        hooks.push(HookHealth {
            hook,
            state: inspect_hook(folder, hook, &program_at)?,
            runs_previous: chains,
        });
    }
    let program = inspect_program(repo, care);
    let is_old = match (&program, context) {
        (InstalledProgram::Intact(ProgramRecord { sources: Some(built), .. }), Some(context)) => {
            compute_source_key(repo, context)?.map(|present| present != *built)
        }
        _ => None,
    };
    if let InstalledProgram::Intact(ProgramRecord { sources: None, .. }) = program {
        notes.push(
            "the program is a copy of a running xtask, not a build of the canonical sources"
                .to_owned(),
        );
    }
    let mut obstacles = Vec::new();
    if let Some(variable) = find_disabling_variable(world) {
        obstacles.push(format!("`{variable}` is set"));
    }
    match find_pause(repo, world.now_seconds()) {
        Ok(Some((place, off))) => obstacles.push(describe_pause(place, off)),
        Ok(None) => {}
        Err(damaged) => obstacles.push(damaged.to_string()),
    }
    match context {
        Some(_) => {}
        None => obstacles.push(
            context::missing_canonical_error(repo, &context::find_canonical_names(repo)?)
                .message()
                .to_owned(),
        ),
    }
    if let Some(operation) = repo.current_operation() {
        notes.push(format!("{} is in progress; until it ends nothing is synced", operation.name));
    } else if repo.current_branch().is_none() {
        notes.push("HEAD is detached; nothing is synced here".to_owned());
    }
    if let (Some(context), Ok(head)) = (context, repo.head())
        && let Some(branch) = &head.branch
    {
        notes.extend(describe_branch_policy(repo, &head, branch, context)?);
    }
    let folder = folder.display().to_string();
    let refusal = place.refusal;
    Ok(InstallationHealth {
        folder,
        hooks,
        program,
        is_outdated: is_old,
        obstacles,
        notes,
        refusal,
    })
}

/// Describes why hooks do not sync `branch`. Returns `None` if they do.
fn describe_branch_policy(
    repo: &Repo,
    head: &Head,
    branch: &str,
    context: &SyncContext,
) -> Result<Option<String>> {
    if branch == context.config.branch {
        return Ok(Some(format!("`{branch}` is the canonical branch; nothing is synced into it")));
    }
    let HookPolicy { mode, owner } = find_hook_policy(repo, head, context)?;
    if mode != HookMode::Notify {
        return Ok(None);
    }
    let why = match owner {
        BranchOwner::You => "the configuration says so",
        BranchOwner::Protected => "it is protected",
        BranchOwner::Others => "it has an upstream, and its latest commit is not yours",
    };
    Ok(Some(format!("on `{branch}` hooks only report files that are behind: {why}")))
}

/// Describes the scope and the end of a pause, e.g. "disabled in this worktree until …".
#[must_use]
pub fn describe_pause(place: PauseScope, off: HooksPause) -> String {
    let (place, enable) = match place {
        PauseScope::Here => ("in this worktree", "cargo xtask hooks enable"),
        PauseScope::Everywhere => ("in all worktrees", "cargo xtask hooks enable --all"),
    };
    match off.until {
        Some(until) => {
            format!("disabled {place} until {} (`{enable}` re-enables them)", format_rfc3339(until))
        }
        None => format!("disabled {place} (`{enable}` re-enables them)"),
    }
}
