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
use super::program::{InstalledProgram, ProgramRecord, VerifyDepth, inspect_program};
use super::shim_install::select_hooks;
use super::skip_rules::find_disabling_variable;
use xtask_base::environment::{Environment, format_rfc3339};
use xtask_base::error::{Error, Result};
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

/// The most important fact about an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HooksVerdict<'a> {
    /// No hook is installed; with the reason why none can be, if there is one.
    NotInstalled(Option<&'a str>),
    BrokenProgram(&'a str),
    MissingProgram,
    /// Hooks of another origin have replaced these.
    Replaced(Vec<Hook>),
    /// The shims of these are missing or modified.
    Changed(Vec<Hook>),
    /// The first obstacle.
    Inactive(&'a str),
    Outdated,
    Installed,
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

    /// Returns the most important fact.
    #[must_use]
    pub fn verdict(&self) -> HooksVerdict<'_> {
        if self.is_absent() {
            return HooksVerdict::NotInstalled(self.refusal.as_deref());
        }
        match &self.program {
            InstalledProgram::Broken(why) => return HooksVerdict::BrokenProgram(why),
            InstalledProgram::Missing => return HooksVerdict::MissingProgram,
            InstalledProgram::Intact(_) => {}
        }
        let find = |is: &dyn Fn(HookFileState) -> bool| -> Vec<Hook> {
            self.hooks.iter().filter(|hook| is(hook.state)).map(|hook| hook.hook).collect()
        };
        let replaced = find(&|state| state == HookFileState::Foreign);
        if !replaced.is_empty() {
            return HooksVerdict::Replaced(replaced);
        }
        let changed =
            find(&|state| !matches!(state, HookFileState::Shim | HookFileState::CallsProgram));
        if !changed.is_empty() {
            return HooksVerdict::Changed(changed);
        }
        match self.obstacles.first() {
            Some(first) => HooksVerdict::Inactive(first),
            None if self.is_outdated == Some(true) => HooksVerdict::Outdated,
            None => HooksVerdict::Installed,
        }
    }

    /// Returns the most important fact in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let names =
            |hooks: &[Hook]| hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(", ");
        let renew = "`cargo xtask install-hooks` reinstalls them";
        match self.verdict() {
            HooksVerdict::NotInstalled(Some(why)) => format!("not installed: {why}"),
            HooksVerdict::NotInstalled(None) => {
                "not installed; run `cargo xtask install-hooks`".to_owned()
            }
            HooksVerdict::BrokenProgram(why) => {
                format!("the installed program is broken ({why}); {renew}")
            }
            HooksVerdict::MissingProgram => format!("the installed program is missing; {renew}"),
            HooksVerdict::Replaced(hooks) => format!(
                "installed, but another hook has replaced {}; `cargo xtask install-hooks` explains the options",
                names(&hooks)
            ),
            HooksVerdict::Changed(hooks) => {
                format!("{} missing or modified; {renew}", names(&hooks))
            }
            HooksVerdict::Inactive(why) => format!("installed, but inactive: {why}"),
            HooksVerdict::Outdated => format!(
                "installed, but outdated: built from older sources than the canonical ones; {renew}"
            ),
            HooksVerdict::Installed => "installed".to_owned(),
        }
    }
}

/// Inspects the hooks of this worktree. Read-only. `care` selects how thoroughly the program is verified. A `context`
/// that is an error says why the configuration cannot be read. `wanted` are the on-demand hooks that checks name.
pub fn inspect_hooks(
    repo: &Repo,
    world: &Environment,
    context: Result<Option<&SyncContext>, &Error>,
    care: VerifyDepth,
    wanted: &[Hook],
) -> Result<InstallationHealth> {
    let place = find_install_target(repo)?;
    let folder = &place.folder.path;
    let program_at = locate_program(repo, folder);
    let mut hooks = Vec::new();
    let mut notes = Vec::new();
    for hook in select_hooks(folder, &program_at, wanted)? {
        let kept = kept_hook_path(folder, hook);
        let runs_previous = std::fs::metadata(&kept).is_ok_and(|meta| is_executable(&meta));
        if !runs_previous && kept.symlink_metadata().is_ok() {
            notes.push(format!("`{}` is not executable, so git would not run it", kept.display()));
        }
        hooks.push(HookHealth {
            hook,
            state: inspect_hook(folder, hook, &program_at)?,
            runs_previous,
        });
    }
    let program = inspect_program(repo, care);
    let is_outdated = match context {
        Ok(Some(context)) => program.is_outdated(repo, context)?,
        _ => None,
    };
    if let InstalledProgram::Intact(ProgramRecord { sources: None, .. }) = program {
        notes.push(
            "the program is a copy of a running xtask, not a build of the canonical sources"
                .to_owned(),
        );
    }
    notes.extend(describe_restrictions(repo, context.ok().flatten())?);
    Ok(InstallationHealth {
        folder: folder.display().to_string(),
        hooks,
        program,
        is_outdated,
        obstacles: find_obstacles(repo, world, context)?,
        notes,
        refusal: place.refusal,
    })
}

/// Returns the reasons why no hook acts in this worktree at present.
fn find_obstacles(
    repo: &Repo,
    world: &Environment,
    context: Result<Option<&SyncContext>, &Error>,
) -> Result<Vec<String>> {
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
        Ok(Some(_)) => {}
        Ok(None) => {
            let missing =
                context::missing_canonical_error(repo, &context::find_canonical_names(repo)?);
            obstacles.push(missing.message().to_owned());
        }
        Err(fault) => obstacles.push(fault.to_string()),
    }
    Ok(obstacles)
}

/// Describes why hooks sync nothing here, or do so later.
fn describe_restrictions(repo: &Repo, context: Option<&SyncContext>) -> Result<Vec<String>> {
    let mut notes = Vec::new();
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
    Ok(notes)
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
    let enable = place.enable_command();
    let place = match place {
        PauseScope::Here => "in this worktree",
        PauseScope::Everywhere => "in all worktrees",
    };
    match off.until {
        Some(until) => {
            format!("disabled {place} until {} (`{enable}` re-enables them)", format_rfc3339(until))
        }
        None => format!("disabled {place} (`{enable}` re-enables them)"),
    }
}
