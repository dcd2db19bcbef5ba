//! `deploy`: a layer, from the commit that is checked out to where it serves.

use serde::Serialize;

use super::place::Place;
use super::session::Session;
use super::{DONE, Exit, checks, stack};
use crate::base::error::{Error, Kind, Result};
use crate::cli::Deploy;
use crate::deploy::gates::{self, Gate, Scene, serving};
use crate::deploy::history;
use crate::deploy::release::Release;
use crate::deploy::run::{self, Order, Site};
use crate::deploy::steps::{Doing, plan};
use crate::deploy::target::{Current, Standing};
use crate::deploy::watch;
use crate::repo::Repo;
use crate::report;

pub(super) fn run(session: &Session, args: &Deploy) -> Exit {
    let repo = session.repo()?;
    let place = Place::load(&repo, &args.layer)?;
    if args.verify {
        return place.with_site(session, args.timeout, |site| verify(site, &place, args));
    }
    place.with_site(session, args.timeout, |site| deploy(session, &repo, &place, site, args))
}

fn deploy(session: &Session, repo: &Repo, place: &Place, site: &Site<'_>, args: &Deploy) -> Exit {
    let load = |name: &str| stack::load(repo, name);
    let scene = Scene {
        repo,
        layer: &place.layer,
        deploy: &place.deploy,
        target: &place.target,
        load: &load,
        around: site.around,
    };
    if args.dry_run {
        return dry_run(&scene, args);
    }
    let tools = session.tools();
    let _held = tools.interrupts.hold_off();
    // What was cut short is ended whatever stands in the way of what is asked now.
    let mut lock = None;
    if place.target.standing().is_ok_and(|standing| standing == Standing::Ours) {
        let (held, mended) = run::open(site, Doing::Deploy)?;
        session.tell_mended(mended);
        lock = Some(held);
    }
    gates::refuse(&gates::look(&scene)?)?;
    let head = repo.head()?;
    let what = format!("deploy {} to {}?", repo.short(head.commit), place.target.root.display());
    if !place.confirm(&what, args.yes)? {
        return Err(Error::no("nothing was deployed"));
    }
    let _lock = match lock {
        Some(lock) => lock,
        None => run::open(site, Doing::Deploy)?.0,
    };
    if checks::everything(session, "deploy")? != DONE {
        return Err(Error::no("nothing was deployed: this checkout is not healthy")
            .hint("`cargo xtask validate` says more"));
    }
    let order = Order {
        repo,
        layer: &place.layer,
        deploy: &place.deploy,
        commit: head.commit,
        watch: args.watch.unwrap_or(place.deploy.watch),
    };
    let from = history::read(&place.target.history())?.len();
    let done = run::deploy(site, &order);
    let result = done.map(|done| {
        done.warnings.iter().for_each(|warning| report::warn(warning));
    });
    place.answer(result, args.json, from)
}

/// What a dry run has to say.
#[derive(Serialize)]
struct DryRun<'a> {
    schema: &'static str,
    layer: &'a str,
    commit: String,
    ok: bool,
    gates: &'a [Gate],
    plan: &'a [String],
}

/// Says what would happen, and what stands in the way.
fn dry_run(scene: &Scene<'_>, args: &Deploy) -> Exit {
    let gates = gates::look(scene)?;
    let head = scene.repo.head()?;
    let now = scene.around.world.now_seconds();
    let new = Release::free_name(scene.target, head.commit, now);
    let is_ours = scene.target.standing().is_ok_and(|standing| standing == Standing::Ours);
    let entries = if is_ours { history::read(&scene.target.history())? } else { Vec::new() };
    let old = run::kept(scene.target, &entries).into_iter().next();
    let plan = plan(Doing::Deploy, scene.deploy, &new, old.as_deref());
    let ok = gates.iter().all(|gate| gate.ok);
    if args.json {
        report::answer_json(&DryRun {
            schema: "xtask.deploy-dry-run/1",
            layer: &scene.layer.name,
            commit: head.commit.to_string(),
            ok,
            gates: &gates,
            plan: &plan,
        })?;
    } else {
        let mut text = format!("deploy layer {} to {}\n", scene.layer.name, scene.deploy.to);
        for gate in &gates {
            let mark = if gate.ok { "ok" } else { "NO" };
            text.push_str(&format!("  {mark}  {:<9}  {}\n", gate.name, gate.words));
        }
        for (at, line) in plan.iter().enumerate() {
            text.push_str(&format!("  {}. {line}\n", at + 1));
        }
        report::answer(&text)?;
    }
    Ok(if ok { DONE } else { Kind::No.code() })
}

/// What `--verify` has to say.
#[derive(Serialize)]
struct Verified<'a> {
    schema: &'static str,
    layer: &'a str,
    ok: bool,
    release: Option<&'a str>,
    commit: Option<String>,
    faults: &'a [String],
}

/// Compares what serves with its manifest, and asks it whether it is well.
fn verify(site: &Site<'_>, place: &Place, args: &Deploy) -> Exit {
    let target = &place.target;
    let mut faults = Vec::new();
    let mut commit = None;
    let is_ours = target.standing()? == Standing::Ours;
    let current = if is_ours { target.current()? } else { Current::Nothing };
    let name = match &current {
        Current::Release(name) => Some(name.as_str()),
        Current::Nothing => {
            faults.push("nothing is deployed".to_owned());
            None
        }
        Current::Foreign(words) => {
            faults.push(format!("`current` {words}"));
            None
        }
    };
    if is_ours && crate::deploy::journal::Journal::read(target)?.is_some() {
        faults.push("a run was cut short: the next `deploy` or `rollback` ends it".to_owned());
    }
    if let Some(name) = name {
        let entries = history::read(&target.history())?;
        if history::standing(&entries).1 != Some(name) {
            faults.push(format!("the history does not say that {name} serves, verified"));
        }
        let release = Release::of(target, name);
        note(&mut faults, release.whole().map(|manifest| commit = Some(manifest.commit)));
        let asked = release
            .snapshot()
            .and_then(|snapshot| watch::ask(&serving(target, name), &snapshot.specs, &site.around));
        note(&mut faults, asked);
    }
    let ok = faults.is_empty();
    if args.json {
        report::answer_json(&Verified {
            schema: "xtask.deploy-verify/1",
            layer: &place.layer.name,
            ok,
            release: name,
            commit,
            faults: &faults,
        })?;
        return Ok(if ok { DONE } else { Kind::No.code() });
    }
    if ok {
        let name = name.unwrap_or_default();
        report::answer(&format!("{name} serves layer {}, whole and well\n", place.layer.name))?;
        return Ok(DONE);
    }
    let error = Error::no(format!("layer `{}` is not as it was deployed", place.layer.name));
    Err(faults.into_iter().fold(error, Error::detail))
}

fn note(faults: &mut Vec<String>, found: Result<()>) {
    if let Err(failure) = found {
        faults.push(failure.to_string());
        faults.extend(failure.details().iter().cloned());
    }
}
