//! `start`, `stop`, `restart`, `ps` and `logs` of a layer that a tool runs: they go to the tool, which a person
//! sees and can interrupt.

use super::session::Session;
use super::{DONE, Exit, stack};
use crate::base::error::{Error, Kind, Result};
use crate::base::process::Program;
use crate::cli::Start;
use crate::config::DeployEngine;
use crate::deploy::passed_on::{Asked, command};
use crate::deploy::tool::Outside;
use crate::repo::Repo;
use crate::report;

/// A layer that a tool runs.
pub(super) struct Foreign {
    engine: DeployEngine,
    outside: Outside,
}

impl Foreign {
    /// It, if the layer that was named is one. One that cannot be read is left to who needs it.
    pub(super) fn named(repo: &Repo, layer: Option<&str>) -> Option<Foreign> {
        let layer = stack::load(repo, layer?).ok()?;
        let deploy = layer.deploy?;
        let outside = Outside::of(repo, &layer.name, &deploy)?;
        Some(Foreign { engine: deploy.engine, outside })
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
            let (program, words) =
                command(self.engine, &self.outside, repo.root(), &asked, &args.services)?;
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
        let (program, args) = command(self.engine, &self.outside, repo.root(), asked, services)?;
        let found = session.world.finds(program).unwrap_or_else(|| program.into());
        let status = Program::new(found, repo.root()).args(&args).run_attached()?;
        match status.code() {
            Some(0) => Ok(DONE),
            None | Some(130) => Err(Error::new(Kind::Interrupted, "interrupted")),
            Some(code) => {
                Err(Error::no(format!("`{program} {}` ended with {code}", args.join(" "))))
            }
        }
    }
}
