//! `deploy` and `rollback` of a layer on another host: what is decided and made here, and what the program over
//! there is told to do.
//!
//! Looking writes nothing over there, and the program is only sent where something is really to be done. What
//! only it could tell is said not to have been looked at, where it is not there yet.

use super::place::Place;
use super::session::Session;
use super::{DONE, Exit, checks, stack};
use crate::cli::{Deploy, Rollback};
use xtask_base::error::{Error, Kind, Result};
use xtask_deploy::Around;
use xtask_deploy::gates::{self, Gate, Scene, gate};
use xtask_deploy::history;
use xtask_deploy::memory::{self, Remembered};
use xtask_deploy::order::{Ended, Looked, Wanted};
use xtask_deploy::release::Release;
use xtask_deploy::remote::{Made, Remote};
use xtask_deploy::run;
use xtask_deploy::ssh::{Greeting, Host, program_digest, program_name};
use xtask_deploy::steps::{Doing, plan};
use xtask_deploy::target::Standing;
use xtask_git::Repo;
use xtask_report as report;

/// What is said of what only the program over there can tell.
const NOT_LOOKED: &str = "not looked at: the program is not there yet; a deploy sends it";

/// How a host was found, and who is told there what to do.
struct There<'a> {
    place: &'a Place,
    remote: Remote<'a>,
    greeting: Greeting,
    /// The name of this program over there.
    program: String,
    /// Whether it is there.
    has_program: bool,
}

impl<'a> There<'a> {
    fn greet(session: &'a Session, place: &'a Place, around: Around<'a>) -> Result<There<'a>> {
        let world = &session.world;
        let host = Host::of(&place.deploy, world);
        let greeting = host.greet(&place.target)?;
        let program = program_name(&program_digest(world)?);
        let has_program = greeting.programs.contains(&program);
        let (target, layer, deploy) = (&place.target, &place.layer, &place.deploy);
        let remote = Remote { host, target, layer, deploy, files: &place.files, around };
        Ok(There { place, remote, greeting, program, has_program })
    }

    fn is_ours(&self) -> bool {
        self.greeting.standing(&self.place.target).is_ok_and(|standing| standing == Standing::Ours)
    }

    fn send_program(&mut self) -> Result<()> {
        let (target, around) = (&self.place.target, self.remote.around);
        self.remote.host.send_program(target, self.has_program, &around)?;
        self.has_program = true;
        Ok(())
    }

    /// Tells the program what to do; its failure is ours.
    fn ask(&self, wanted: Wanted) -> Result<Ended> {
        self.remote.ask(&self.program, wanted, &report::warn)
    }

    /// Ends what was cut short over there.
    fn mend(&mut self) -> Result<()> {
        if !self.greeting.has_journal || !self.is_ours() {
            return Ok(());
        }
        self.send_program()?;
        let ended = self.ask(Wanted::Mend)?;
        if let Some(failure) = ended.failure {
            return Err(failure.into_error());
        }
        // It may have changed what serves.
        self.greeting = self.remote.host.greet(&self.place.target)?;
        Ok(())
    }

    /// How things are over there.
    fn look(&self, needed: u64, missing: Vec<String>) -> Result<Looked> {
        let ended = self.ask(Wanted::Look { needed, missing })?;
        if let Some(failure) = ended.failure {
            return Err(failure.into_error());
        }
        ended.looked.ok_or_else(|| Error::unable("the host does not say how things are"))
    }

    /// The gates about the target, by the greeting alone.
    fn gates(&self, needed: u64, missing: &[String]) -> Vec<Gate> {
        let root = &self.place.target.root;
        let standing = self.greeting.standing(&self.place.target).and_then(|standing| {
            if !self.greeting.may_write {
                return Err(Error::no(format!("`{}` cannot be written by you", root.display())));
            }
            let new = if standing == Standing::Free { ", new" } else { "" };
            Ok(format!("{}{new}", self.place.deploy.to))
        });
        let room = match self.greeting.free {
            Some(free) => gates::room(root, free, needed),
            None => Ok("the host does not tell".to_owned()),
        };
        let variables = match (missing, self.place.deploy.env_required.len()) {
            ([], 0) => "none",
            ([], _) => "all set",
            _ => NOT_LOOKED,
        };
        vec![
            gate("variables", Ok(variables.to_owned())),
            gate("target", standing),
            gate("disk", room),
            gate("ports", Ok(NOT_LOOKED.to_owned())),
        ]
    }

    /// Answers with how it ended, and remembers it for `status`.
    fn answer(&self, session: &Session, repo: &Repo, ended: Ended, json: bool) -> Exit {
        let known = self.greeting.history.iter().chain(&ended.run);
        let current = ended.current.as_deref();
        let last = known.rev().find(|entry| Some(entry.release.as_str()) == current);
        let remembered = Remembered {
            at: session.world.now_seconds(),
            to: self.place.deploy.to.clone(),
            current: ended.current.clone(),
            serves: ended.serves.clone(),
            commit: last.map(|entry| entry.commit.clone()),
            run: ended.run.clone(),
        };
        let disk = self.remote.around.disk;
        if let Err(failure) = memory::write(disk, repo, &self.place.layer.name, &remembered) {
            report::warn(&failure.to_string());
        }
        let result = ended.failure.map_or(Ok(()), |failure| Err(failure.into_error()));
        let standing = (ended.current.as_deref(), ended.serves.as_deref());
        self.place.answer_run(result, json, ended.run.as_ref(), standing)
    }
}

/// `deploy`.
pub(super) fn deploy(session: &Session, repo: &Repo, place: &Place, args: &Deploy) -> Exit {
    place.with_around(session, args.timeout, |around| {
        // ssh would ask for what is not installed in words of its own.
        let load = |name: &str| stack::load(repo, name);
        let (layer, target) = (&place.layer, &place.target);
        let scene = Scene { repo, layer, deploy: &place.deploy, target, load: &load, around };
        let tools = gates::tools(&scene);
        if let (Err(failure), true) = (tools, args.verify) {
            return Err(failure);
        }
        if args.verify {
            return verify(&There::greet(session, place, around)?, args);
        }
        put(session, &scene, place, args)
    })
}

fn verify(there: &There<'_>, args: &Deploy) -> Exit {
    if !there.has_program {
        if there.greeting.standing(&there.place.target)? == Standing::Free {
            let faults = vec!["nothing is deployed".to_owned()];
            let found = xtask_deploy::order::Verified { faults, ..Default::default() };
            return there.place.answer_verified(&found, args.json);
        }
        return Err(Error::unable(NOT_LOOKED)
            .detail("this program differs from that by which it was deployed last")
            .hint(format!("`cargo xtask history {}` needs no program there", args.layer)));
    }
    let ended = there.ask(Wanted::Verify)?;
    if let Some(failure) = ended.failure {
        return Err(failure.into_error());
    }
    there.place.answer_verified(&ended.verified.unwrap_or_default(), args.json)
}

fn put(session: &Session, scene: &Scene<'_>, place: &Place, args: &Deploy) -> Exit {
    let repo = scene.repo;
    let tools = session.tools();
    let _held = (!args.dry_run).then(|| tools.interrupts.hold_off());
    let mut there = There::greet(session, place, scene.around)?;
    if !args.dry_run {
        // What was cut short is ended whatever stands in the way of what is asked now.
        there.mend()?;
    }
    let (needed, missing) = (gates::needed(scene)?, gates::missing(scene)?);
    let mut looked = None;
    if there.has_program && there.greeting.standing(&place.target).is_ok() {
        looked = Some(there.look(needed, missing.clone())?);
    }
    let theirs = |looked: &Option<Looked>, there: &There<'_>| match looked {
        Some(looked) => looked.gates.clone(),
        None => there.gates(needed, &missing),
    };
    let here = gates::look_here(scene)?;
    let all = gates::together(here.clone(), theirs(&looked, &there));
    let head = repo.head()?;
    let taken = looked.as_ref().map_or_else(Vec::new, |looked| looked.taken.clone());
    let now = session.world.now_seconds();
    let name = Release::name(head.commit, now, &|name| !taken.iter().any(|one| one == name));
    if args.dry_run {
        let entries = history::verified(&there.greeting.history);
        let old = looked.map_or(entries, |looked| looked.kept).into_iter().next();
        let plan = plan(Doing::Deploy, &place.layer, &place.deploy, &name, old.as_deref());
        return place.answer_plan(&all, &plan, &head.commit.to_string(), args.json);
    }
    place.refuse(&all, args.json, &there.greeting.history)?;
    let what = format!("deploy {} to {}?", repo.short(head.commit), place.deploy.to);
    if !place.confirm(&what, args.yes)? {
        return Err(Error::no("nothing was deployed"));
    }
    let _lock = there.remote.lock(repo)?;
    if looked.is_none() {
        there.send_program()?;
        let looked = there.look(needed, missing)?;
        place.refuse(&gates::together(here, looked.gates), args.json, &there.greeting.history)?;
    }
    if checks::everything(session, "deploy")? != DONE {
        return Err(Error::no("nothing was deployed: this checkout is not healthy")
            .hint("`cargo xtask validate` says more"));
    }
    let watch = args.watch.unwrap_or(place.deploy.watch);
    let made = Made { repo, commit: head.commit, name: &name, watch };
    if let Err(failure) = there.remote.make_and_send(&made) {
        let serves = history::standing(&there.greeting.history).1;
        let serves = serves.unwrap_or("nothing");
        return Err(failure.detail(format!("{serves} serves on the host, as before")));
    }
    let commit = head.commit.to_string();
    let watch_ms = u64::try_from(watch.as_millis()).unwrap_or(u64::MAX);
    let ended = there.ask(Wanted::Deploy { release: name, commit, watch_ms })?;
    there.answer(session, repo, ended, args.json)
}

/// `rollback`.
pub(super) fn rollback(session: &Session, repo: &Repo, place: &Place, args: &Rollback) -> Exit {
    place.with_around(session, args.timeout, |around| {
        let tools = session.tools();
        let _held = tools.interrupts.hold_off();
        let mut there = There::greet(session, place, around)?;
        if there.greeting.standing(&place.target)? != Standing::Ours {
            return Err(Error::no(format!("layer `{}` was never deployed", args.layer))
                .hint(format!("`cargo xtask deploy {}`", args.layer)));
        }
        there.send_program()?;
        there.mend()?;
        let looked = there.look(0, Vec::new())?;
        let entries = &there.greeting.history;
        let release = run::choose_of(&looked.kept, entries, args.release.as_deref())?;
        let what = format!("have {release} serve layer {}?", args.layer);
        if !place.confirm(&what, args.yes)? {
            return Err(Error::no("nothing was changed"));
        }
        if tools.interrupts.arrived() {
            return Err(Error::new(Kind::Interrupted, "interrupted; nothing was changed"));
        }
        let watch = args.watch.unwrap_or(place.deploy.watch);
        let watch_ms = u64::try_from(watch.as_millis()).unwrap_or(u64::MAX);
        let ended = there.ask(Wanted::Rollback { release, watch_ms })?;
        there.answer(session, repo, ended, args.json)
    })
}
