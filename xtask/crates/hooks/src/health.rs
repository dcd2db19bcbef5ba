//! What `hooks status` answers: for this very worktree and for every hook, whether it will fire,
//! with which program, and what stands in the way.

use super::Hook;
use super::gates::shut_by_environment;
use super::install::{There, kept_name, look, place, program_at};
use super::off::{Off, Where, is_off};
use super::program::{Care, Installed, Record, installed, sources};
use xtask_base::error::Result;
use xtask_base::files::is_executable;
use xtask_base::world::{World, rfc3339};
use xtask_config::Mode;
use xtask_git::{Head, Repo};
use xtask_sync::context::{self, Context};
use xtask_sync::manner::{Manner, Owner, manner};

/// How one hook stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookHealth {
    /// The hook.
    pub hook: Hook,
    /// What stands at its name.
    pub there: There,
    /// Whether a hook that was there before runs first.
    pub chains: bool,
}

/// How all of them stand.
#[derive(Clone, Debug)]
pub struct Health {
    /// The folder in which git looks.
    pub folder: String,
    /// Each hook.
    pub hooks: Vec<HookHealth>,
    /// The program.
    pub program: Installed,
    /// Whether the canonical sources are others than those it was built from; nothing where that
    /// cannot be told.
    pub is_old: Option<bool>,
    /// Why no hook of ours does anything here now, each reason.
    pub obstacles: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Why hooks cannot go where git looks for them, if they cannot.
    pub refusal: Option<String>,
}

impl Health {
    /// Whether a hook will do its work.
    #[must_use]
    pub fn fires(&self, hook: &HookHealth) -> bool {
        matches!(hook.there, There::Ours | There::ByHand)
            && matches!(self.program, Installed::Whole(_))
            && self.obstacles.is_empty()
    }

    /// Whether nothing of ours is here at all.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let is_ours = |hook: &HookHealth| {
            matches!(hook.there, There::Ours | There::OursChanged | There::ByHand)
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
        if let Installed::Broken(why) = &self.program {
            return format!("the installed program is broken ({why}); {renew}");
        }
        if self.program == Installed::Nothing {
            return format!("the installed program is gone; {renew}");
        }
        let names = |is: &dyn Fn(&There) -> bool| {
            let hooks = self.hooks.iter().filter(|hook| is(&hook.there));
            hooks.map(|hook| hook.hook.name()).collect::<Vec<_>>().join(", ")
        };
        let foreign = names(&|there| *there == There::Foreign);
        if !foreign.is_empty() {
            return format!(
                "installed, but somebody else's hook stands at {foreign}; `cargo xtask \
                 install-hooks` says what to do"
            );
        }
        let wrong = names(&|there| !matches!(there, There::Ours | There::ByHand));
        if !wrong.is_empty() {
            return format!("{wrong} not as installed; {renew}");
        }
        if let Some(first) = self.obstacles.first() {
            return format!("installed, and off: {first}");
        }
        if self.is_old == Some(true) {
            return format!("installed, from older sources than the canonical ones; {renew}");
        }
        "installed".to_owned()
    }
}

/// Looks at the hooks of this worktree. Nothing is written.
pub fn health(repo: &Repo, world: &World, context: Option<&Context>, care: Care) -> Result<Health> {
    let place = place(repo)?;
    let folder = &place.folder.path;
    let program_at = program_at(repo, folder);
    let mut hooks = Vec::new();
    let mut notes = Vec::new();
    for hook in Hook::ALL {
        let kept = kept_name(folder, hook);
        let chains = std::fs::metadata(&kept).is_ok_and(|meta| is_executable(&meta));
        if !chains && kept.symlink_metadata().is_ok() {
            notes.push(format!("`{}` is not executable, so git would not run it", kept.display()));
        }
        hooks.push(HookHealth { hook, there: look(folder, hook, &program_at)?, chains });
    }
    let program = installed(repo, care);
    let is_old = match (&program, context) {
        (Installed::Whole(Record { sources: Some(built), .. }), Some(context)) => {
            sources(repo, context)?.map(|present| present != *built)
        }
        _ => None,
    };
    if let Installed::Whole(Record { sources: None, .. }) = program {
        notes.push(
            "the program is a copy of one that ran, not one built from the canonical sources"
                .to_owned(),
        );
    }
    let mut obstacles = Vec::new();
    if let Some(variable) = shut_by_environment(world) {
        obstacles.push(format!("`{variable}` is set"));
    }
    match is_off(repo, world.now_seconds()) {
        Ok(Some((place, off))) => obstacles.push(words(place, off)),
        Ok(None) => {}
        Err(damaged) => obstacles.push(damaged.to_string()),
    }
    match context {
        Some(_) => {}
        None => obstacles.push(context::missing(repo, &context::names(repo)?).what().to_owned()),
    }
    if let Some(operation) = repo.operation() {
        notes.push(format!("{} is in progress; until it ends nothing is synced", operation.name));
    } else if repo.branch_name().is_none() {
        notes.push("HEAD is detached; nothing is synced here".to_owned());
    }
    if let (Some(context), Ok(head)) = (context, repo.head())
        && let Some(branch) = &head.branch
    {
        notes.extend(what_may_be_done(repo, &head, branch, context)?);
    }
    let folder = folder.display().to_string();
    let refusal = place.refusal;
    Ok(Health { folder, hooks, program, is_old, obstacles, notes, refusal })
}

/// What hooks leave out on this branch, if they do not simply sync it.
fn what_may_be_done(
    repo: &Repo,
    head: &Head,
    branch: &str,
    context: &Context,
) -> Result<Option<String>> {
    if branch == context.config.branch {
        return Ok(Some(format!("`{branch}` is the canonical branch; nothing is synced into it")));
    }
    let Manner { mode, owner } = manner(repo, head, context)?;
    if mode != Mode::Notify {
        return Ok(None);
    }
    let why = match owner {
        Owner::You => "the configuration says so for this branch",
        Owner::Protected => "it is protected",
        Owner::Others => "it follows another branch, and its newest commit is not yours",
    };
    Ok(Some(format!("on `{branch}` hooks only tell what is behind: {why}")))
}

/// Where and until when hooks are switched off, in words.
#[must_use]
pub fn words(place: Where, off: Off) -> String {
    let (place, enable) = match place {
        Where::Here => ("in this worktree", "cargo xtask hooks enable"),
        Where::Everywhere => ("in all worktrees", "cargo xtask hooks enable --all"),
    };
    match off.until {
        Some(until) => {
            format!("switched off {place} until {} (`{enable}` ends it earlier)", rfc3339(until))
        }
        None => format!("switched off {place} (`{enable}` ends it)"),
    }
}
