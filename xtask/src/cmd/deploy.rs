//! `deploy`: a layer, from the commit that is checked out to where it serves.

use super::place::Place;
use super::session::Session;
use super::{DONE, Exit, checks, stack, there};
use crate::cli::Deploy;
use xtask_base::error::{Error, Result};
use xtask_deploy::gates::{self, Scene};
use xtask_deploy::history::{self, Entry};
use xtask_deploy::release::Release;
use xtask_deploy::run::{self, Order, Site, Source};
use xtask_deploy::steps::{Doing, plan};
use xtask_deploy::target::Standing;
use xtask_deploy::verify::verify;
use xtask_git::Repo;
use xtask_report as report;

pub(super) fn run(session: &Session, args: &Deploy) -> Exit {
    let repo = session.repo()?;
    let place = Place::load(&repo, &args.layer)?;
    if place.is_there() {
        return there::deploy(session, &repo, &place, args);
    }
    place.with_site(session, args.timeout, |site| match args.verify {
        true => place.answer_verified(&verify(site)?, args.json),
        false => deploy(session, &repo, &place, site, args),
    })
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
        return dry_run(&scene, place, args);
    }
    let tools = session.tools();
    // What was cut short is ended whatever stands in the way of what is asked now.
    if place.target.standing().is_ok_and(|standing| standing == Standing::Ours) {
        let _held = tools.interrupts.hold_off();
        let (_lock, mended) = run::open(site, Doing::Deploy)?;
        session.tell_mended(mended);
    }
    // Nobody else waits, and Ctrl-C is heard, while a person thinks.
    place.refuse(&gates::look(&scene)?, args.json, &past(place)?)?;
    let head = repo.head()?;
    let what = format!("deploy {} to {}?", repo.short(head.commit), place.deploy.to);
    if !place.confirm(&what, args.yes)? {
        return Err(Error::no("nothing was deployed"));
    }
    let _held = tools.interrupts.hold_off();
    let (_lock, mended) = run::open(site, Doing::Deploy)?;
    session.tell_mended(mended);
    if checks::everything(session, "deploy")? != DONE {
        return Err(Error::no("nothing was deployed: this checkout is not healthy")
            .hint("`cargo xtask validate` says more"));
    }
    let order = Order {
        source: Source::Commit(repo, head.commit),
        layer: &place.layer,
        deploy: &place.deploy,
        watch: args.watch.unwrap_or(place.deploy.watch),
    };
    let from = history::read(&place.target.history())?.len();
    let done = run::deploy(site, &order);
    let result = done.map(|done| {
        done.warnings.iter().for_each(|warning| report::warn(warning));
    });
    place.answer(result, args.json, from)
}

/// What was done to the target, if it is ours.
fn past(place: &Place) -> Result<Vec<Entry>> {
    if place.target.standing().is_ok_and(|standing| standing == Standing::Ours) {
        return history::read(&place.target.history());
    }
    Ok(Vec::new())
}

/// Says what would happen, and what stands in the way.
fn dry_run(scene: &Scene<'_>, place: &Place, args: &Deploy) -> Exit {
    let gates = gates::look(scene)?;
    let head = scene.repo.head()?;
    let now = scene.around.world.now_seconds();
    let new = Release::free_name(scene.target, head.commit, now);
    let old = run::kept(scene.target, &past(place)?).into_iter().next();
    let plan = plan(Doing::Deploy, scene.layer, scene.deploy, &new, old.as_deref());
    place.answer_plan(&gates, &plan, &head.commit.to_string(), args.json)
}
