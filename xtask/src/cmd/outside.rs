//! `start`, `stop`, `restart`, `ps` and `logs` of a layer that a tool runs: they go to the tool, which a person
//! sees and can interrupt.

use std::path::PathBuf;

use super::session::Session;
use super::{DONE, Exit, stack};
use crate::cli::Start;
use xtask_base::error::{Error, Kind, Result};
use xtask_base::process::Program;
use xtask_config::{DeployEngine, Layer};
use xtask_deploy::passed_on::{Asked, command};
use xtask_deploy::release::Release;
use xtask_deploy::stacks::variables;
use xtask_deploy::target::{Current, Target};
use xtask_deploy::tool::{MISLEADING, Outside, settings};
use xtask_git::Repo;
use xtask_report as report;

/// A layer that a tool runs.
pub(super) struct Foreign {
    engine: DeployEngine,
    outside: Outside,
    target: Target,
}

/// What the tool is told about: the release that serves, or the worktree where none does.
struct Place {
    outside: Outside,
    root: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Foreign {
    /// It, if the layer that was named is one.
    pub(super) fn named(
        session: &Session,
        repo: &Repo,
        layer: Option<&str>,
    ) -> Result<Option<Foreign>> {
        let Some(layer) = layer else { return Ok(None) };
        let Some(layer) = stack::load_deployed(session, repo, layer)? else { return Ok(None) };
        Ok(Foreign::of(repo, layer))
    }

    fn of(repo: &Repo, layer: Layer) -> Option<Foreign> {
        let deploy = layer.deploy?;
        let outside = Outside::of(repo, &layer.name, &deploy)?;
        let target = Target::of(repo, &layer.name, &deploy);
        Some(Foreign { engine: deploy.engine, outside, target })
    }

    /// What was deployed is asked, stopped and started as it was deployed, and not as the worktree is now.
    fn place(&self, repo: &Repo) -> Result<Place> {
        let name = match self.target.current()? {
            Current::Nothing => {
                let root = repo.root().to_path_buf();
                return Ok(Place { outside: self.outside.clone(), root, variables: Vec::new() });
            }
            Current::Release(name) => name,
            Current::Foreign(words) => {
                let link = self.target.current_link();
                return Err(Error::no(format!("`{}` {words}", link.display()))
                    .hint("`cargo xtask recover` says what can be done"));
            }
        };
        let release = Release::of(&self.target, &name);
        Ok(Place {
            outside: settings(&release)?,
            root: release.files(),
            variables: variables(&self.target, &release).into(),
        })
    }

    /// Refuses what the tool cannot do.
    pub(super) fn refuse(&self, options: &[(&str, bool)]) -> Result<()> {
        match options.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((option, _)) => Err(Error::usage(format!(
                "`{option}` is not for a layer of the engine `{}`",
                self.engine.name()
            ))
            .hint("without it, the command goes to the tool of the engine")),
        }
    }

    /// `start`, which has more to be refused than the others.
    pub(super) fn start(&self, session: &Session, repo: &Repo, args: &Start) -> Exit {
        self.refuse(&[
            ("--clean", args.clean),
            ("--check-ports", args.check_ports),
            ("--verify", args.verify),
            ("--port", !args.port.is_empty()),
            ("--take-over", !args.take_over.is_empty()),
            ("--fallback", !args.fallback.is_empty()),
            ("--foreground", args.foreground),
            ("--json", args.json),
        ])?;
        let asked = Asked::Start { within: args.timeout };
        if args.dry_run {
            let Place { outside, root, .. } = self.place(repo)?;
            let (program, words) = command(self.engine, &outside, &root, &asked, &args.services)?;
            report::answer(&format!("{program} {}\n", words.join(" ")))?;
            return Ok(DONE);
        }
        self.pass_on(session, repo, &asked, &args.services)
    }

    /// Has the tool do it.
    pub(super) fn pass_on(
        &self,
        session: &Session,
        repo: &Repo,
        asked: &Asked,
        services: &[String],
    ) -> Exit {
        let Place { outside, root, variables } = self.place(repo)?;
        let (program, args) = command(self.engine, &outside, &root, asked, services)?;
        let found = session.world.finds(program).unwrap_or_else(|| program.into());
        let mut tool = Program::new(found, &root).args(&args);
        for name in MISLEADING {
            tool = tool.without(name);
        }
        for (name, value) in &variables {
            tool = tool.variable(name, value);
        }
        let status = tool.run_attached()?;
        match status.code() {
            Some(0) => Ok(DONE),
            None | Some(130) => Err(Error::new(Kind::Interrupted, "interrupted")),
            Some(code) => {
                Err(Error::no(format!("`{program} {}` ended with {code}", args.join(" "))))
            }
        }
    }
}
