//! What `deploy`, `rollback` and `history` share: the layer and its target, asking before, and the answer.

use std::time::Duration;

use serde::Serialize;

use super::session::Session;
use super::stack;
use crate::base::error::{Error, Result};
use crate::base::signals::Interrupts;
use crate::config::{self, Deploy, DeployEngine, Layer};
use crate::deploy::Around;
use crate::deploy::directory::Directory;
use crate::deploy::history::{self, Entry};
use crate::deploy::run::Site;
use crate::deploy::target::Target;
use crate::repo::Repo;
use crate::report;

/// A layer that is deployed.
pub(super) struct Place {
    pub(super) layer: Layer,
    pub(super) deploy: Deploy,
    pub(super) target: Target,
}

impl Place {
    /// Reads the layer, which must say how it is deployed.
    pub(super) fn load(repo: &Repo, name: &str) -> Result<Place> {
        let layer = stack::load(repo, name)?;
        let Some(deploy) = layer.deploy.clone() else {
            return Err(Error::usage(format!("layer `{name}` is not deployed"))
                .hint(format!("`[deploy]` in `{}` says how", config::layer_file(name)))
                .hint("deployment/README.md says what can stand there"));
        };
        if deploy.engine != DeployEngine::Directory {
            let engine = deploy.engine.name();
            return Err(Error::usage(format!("the engine `{engine}` is not there yet"))
                .hint("`directory` is"));
        }
        let target = Target { root: deploy.to.clone().into(), layer: name.to_owned() };
        Ok(Place { layer, deploy, target })
    }

    /// Does something with the target and those who work on it.
    pub(super) fn with_site<T>(
        &self,
        session: &Session,
        ready_within: Duration,
        work: impl FnOnce(&Site<'_>) -> Result<T>,
    ) -> Result<T> {
        let tell = |text: &str| session.story(text);
        let tools = session.tools();
        let (disk, interrupts) = (tools.disk, tools.interrupts);
        let around = Around { world: &session.world, disk, interrupts, tell: &tell, ready_within };
        let none = Interrupts::none();
        let deaf = Around { interrupts: &none, ..around };
        let (target, layer) = (&self.target, &self.layer);
        let engine = Directory { target, layer, around };
        let calm = Directory { target, layer, around: deaf };
        work(&Site { target, engine: &engine, calm: &calm, around })
    }

    /// Asks for the name of the layer, where the layer wants that.
    pub(super) fn confirm(&self, what: &str, is_said: bool) -> Result<bool> {
        if is_said || !self.deploy.confirm {
            return Ok(true);
        }
        let name = &self.layer.name;
        let typed = report::ask_for(&format!("{what} [type {name}]"));
        typed.map(|typed| typed == *name).ok_or_else(|| {
            Error::usage("nothing was changed: this asks first, and there is no terminal to ask on")
                .hint("`--yes` says yes; `confirm = false` in `[deploy]` never asks")
        })
    }

    /// Answers with how the last run ended, after it did or failed.
    pub(super) fn answer(&self, result: Result<()>, json: bool, from: usize) -> super::Exit {
        let entries = history::read(&self.target.history())?;
        let last = entries.last().filter(|_| entries.len() > from);
        if json {
            let (current, serves) = history::standing(&entries);
            report::answer_json(&Answer {
                schema: "xtask.deploy/1",
                layer: &self.layer.name,
                ok: result.is_ok(),
                run: last,
                current,
                serves,
            })?;
        } else if let (Ok(()), Some(entry)) = (&result, last) {
            report::answer(&format!("{} serves layer {}\n", entry.release, self.layer.name))?;
        }
        result.map(|()| super::DONE)
    }
}

/// What a run has to say.
#[derive(Serialize)]
struct Answer<'a> {
    schema: &'static str,
    layer: &'a str,
    ok: bool,
    run: Option<&'a Entry>,
    current: Option<&'a str>,
    serves: Option<&'a str>,
}
