//! What `hooks status` answers: for this very worktree and for every hook, whether it will fire,
//! with which program, and what stands in the way.

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

/// How one hook stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookHealth {
    /// The hook.
    pub hook: Hook,
    /// What stands at its name.
    pub state: HookFileState,
    /// Whether a hook that was there before runs first.
    pub runs_previous: bool,
}

/// How all of them stand.
#[derive(Clone, Debug)]
pub struct InstallationHealth {
    /// The folder in which git looks.
    pub folder: String,
    /// Each hook.
    pub hooks: Vec<HookHealth>,
    /// The program.
    pub program: InstalledProgram,
    /// Whether the canonical sources are others than those it was built from; nothing where that
    /// cannot be told.
    pub is_outdated: Option<bool>,
    /// Why no hook of ours does anything here now, each reason.
    pub obstacles: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Why hooks cannot go where git looks for them, if they cannot.
    pub refusal: Option<String>,
}

impl InstallationHealth {
    /// Whether a hook will do its work.
    #[must_use]
    pub fn will_run(&self, hook: &HookHealth) -> bool {
        matches!(hook.state, HookFileState::Shim | HookFileState::CallsProgram)
            && matches!(self.program, InstalledProgram::Intact(_))
            && self.obstacles.is_empty()
    }

    /// Whether nothing of ours is here at all.
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

    /// The shortest true answer.
    #[must_use]
    pub fn summary(&self) -> String {
        if self.is_absent() {
            return match &self.refusal {
                Some(why) => format!("not installed: {why}"),
                None => "not installed; `cargo xtask install-hooks` does it".to_owned(),
            };
        }
        let renew = "`cargo xtask install-hooks` renews them";
        if let InstalledProgram::Broken(why) = &self.program {
            return format!("the installed program is broken ({why}); {renew}");
        }
        if self.program == InstalledProgram::Missing {
            return format!("the installed program is gone; {renew}");
        }
        let names = |is: &dyn Fn(&HookFileState) -> bool| {
            let hooks = self.hooks.iter().filter(|hook| is(&hook.state));
            hooks.map(|hook| hook.hook.name()).collect::<Vec<_>>().join(", ")
        };
        let foreign = names(&|there| *there == HookFileState::Foreign);
        if !foreign.is_empty() {
            return format!(
                "installed, but somebody else's hook stands at {foreign}; `cargo xtask \
                 install-hooks` says what to do"
            );
        }
        let wrong =
            names(&|there| !matches!(there, HookFileState::Shim | HookFileState::CallsProgram));
        if !wrong.is_empty() {
            return format!("{wrong} not as installed; {renew}");
        }
        if let Some(first) = self.obstacles.first() {
            return format!("installed, and off: {first}");
        }
        if self.is_outdated == Some(true) {
            return format!("installed, from older sources than the canonical ones; {renew}");
        }
        "installed".to_owned()
    }
}

/// Looks at the hooks of this worktree. Nothing is written.
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
            "the program is a copy of one that ran, not one built from the canonical sources"
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

/// What hooks leave out on this branch, if they do not simply sync it.
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
        BranchOwner::You => "the configuration says so for this branch",
        BranchOwner::Protected => "it is protected",
        BranchOwner::Others => "it follows another branch, and its newest commit is not yours",
    };
    Ok(Some(format!("on `{branch}` hooks only tell what is behind: {why}")))
}

/// Where and until when hooks are switched off, in words.
#[must_use]
pub fn describe_pause(place: PauseScope, off: HooksPause) -> String {
    let (place, enable) = match place {
        PauseScope::Here => ("in this worktree", "cargo xtask hooks enable"),
        PauseScope::Everywhere => ("in all worktrees", "cargo xtask hooks enable --all"),
    };
    match off.until {
        Some(until) => {
            format!(
                "switched off {place} until {} (`{enable}` ends it earlier)",
                format_rfc3339(until)
            )
        }
        None => format!("switched off {place} (`{enable}` ends it)"),
    }
}
