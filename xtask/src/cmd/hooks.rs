//! `hooks enable`, `hooks disable`, `hooks status`.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Hooks;
use xtask_base::error::{Error, Kind, Result};
use xtask_base::world::seconds_of;
use xtask_git::Repo;
use xtask_hooks::health::{Health, health, words};
use xtask_hooks::install::There;
use xtask_hooks::off::{Off, Where, disable, enable};
use xtask_hooks::program::{Care, Installed, link};
use xtask_report as report;
use xtask_report::hooks::{HookLine, HooksReport};
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &Hooks) -> Exit {
    let repo = session.repo()?;
    let place = |all: &bool| if *all { Where::Everywhere } else { Where::Here };
    match args {
        Hooks::Enable { all } => switch_on(session, &repo, place(all))?,
        Hooks::Disable { all, span } => switch_off(session, &repo, place(all), span.as_deref())?,
        Hooks::Status { json } => return status(session, &repo, *json),
    }
    Ok(DONE)
}

fn switch_on(session: &Session, repo: &Repo, place: Where) -> Result<()> {
    let were_off = enable(repo, session.tools().disk, place)?;
    let health = health(repo, &session.world, None, Care::Look)?;
    if health.is_absent() {
        session.story(&format!("hooks are {}", health.summary()));
        return Ok(());
    }
    let still = xtask_hooks::off::is_off(repo, session.world.now_seconds())?;
    session.story(match (were_off, still) {
        (_, Some(_)) => {
            "hooks are still switched off in all worktrees; `cargo xtask hooks enable --all` \
             switches them on"
        }
        (true, None) => "hooks are on again; `cargo xtask sync` catches up with what they left out",
        (false, None) => "hooks were on already",
    });
    Ok(())
}

fn switch_off(session: &Session, repo: &Repo, place: Where, span: Option<&str>) -> Result<()> {
    let until = match span {
        None => None,
        Some(text) => {
            let seconds = seconds_of(text).ok_or_else(|| {
                Error::usage(format!("`{text}` is no span of time"))
                    .hint("write it as in `90m`, `2h` or `1d 12h`")
            })?;
            Some(session.world.now_seconds().saturating_add(seconds))
        }
    };
    let off = Off { until };
    disable(repo, session.tools().disk, place, off)?;
    session.story(&format!("hooks are {}", words(place, off)));
    Ok(())
}

fn status(session: &Session, repo: &Repo, json: bool) -> Exit {
    let context = context::find(repo, &context::names(repo)?);
    let (context, fault) = match context {
        Ok(context) => (context, None),
        Err(fault) => (None, Some(fault)),
    };
    let mut health = health(repo, &session.world, context.as_ref(), Care::Read)?;
    if let Some(fault) = fault {
        health.obstacles.pop();
        health.obstacles.push(fault.to_string());
    }
    let shown = report_of(repo, &health);
    if json {
        report::answer_json(&shown)?;
    } else {
        report::answer(&shown.text())?;
    }
    // Whoever has switched hooks off does not want them to fire.
    let is_wanted = health.obstacles.is_empty();
    let is_silent = health.hooks.iter().any(|hook| !health.fires(hook));
    Ok(if is_wanted && is_silent { Kind::No.code() } else { DONE })
}

fn report_of(repo: &Repo, health: &Health) -> HooksReport {
    let program = match &health.program {
        Installed::Nothing => ("missing", None),
        Installed::Broken(why) => ("broken", Some(why.clone())),
        Installed::Whole(record) => {
            let from = record.commit.as_ref().map(|commit| format!("built from {commit}"));
            ("whole", Some(from.unwrap_or_else(|| "a copy of a program that ran".to_owned())))
        }
    };
    HooksReport {
        schema: "xtask.hooks/1",
        worktree: repo.root().display().to_string(),
        folder: health.folder.clone(),
        program: link(repo).display().to_string(),
        program_state: program.0,
        program_detail: program.1,
        program_is_old: health.is_old,
        hooks: health
            .hooks
            .iter()
            .map(|hook| HookLine {
                hook: hook.hook.name(),
                fires: health.fires(hook),
                state: state(&hook.there),
                chains: hook.chains,
            })
            .collect(),
        obstacles: health.obstacles.clone(),
        notes: health.notes.clone(),
        summary: health.summary(),
    }
}

fn state(there: &There) -> &'static str {
    match there {
        There::Nothing => "missing",
        There::Ours => "installed",
        There::OursChanged => "old or changed by hand",
        There::Foreign => "somebody else's",
        There::ByHand => "somebody else's, and starts xtask by itself",
        There::NoFile => "not a file",
    }
}
