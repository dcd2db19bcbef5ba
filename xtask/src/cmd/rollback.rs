//! `rollback`: a release that was verified before serves again, as it was configured.

use super::place::Place;
use super::session::Session;
use super::{Exit, there};
use crate::cli::Rollback;
use xtask_base::error::Error;
use xtask_deploy::gates;
use xtask_deploy::history;
use xtask_deploy::run;
use xtask_deploy::steps::Doing;
use xtask_deploy::target::Standing;

pub(super) fn run(session: &Session, args: &Rollback) -> Exit {
    let repo = session.repo()?;
    let place = Place::load(&repo, &args.layer)?;
    if place.is_there() {
        return there::rollback(session, &repo, &place, args);
    }
    if place.target.standing()? != Standing::Ours {
        return Err(Error::no(format!("layer `{}` was never deployed", args.layer))
            .hint(format!("`cargo xtask deploy {}`", args.layer)));
    }
    place.with_site(session, args.timeout, |site| {
        let tools = session.tools();
        {
            let _held = tools.interrupts.hold_off();
            let (_lock, mended) = run::open(site, Doing::Rollback)?;
            session.tell_mended(mended);
        }
        let release = run::choose(&place.target, args.release.as_deref())?;
        let (layer, deploy) = (&place.layer, &place.deploy);
        gates::check_rollback(layer, deploy, &place.target, &release, &site.around)?;
        let entries = history::read(&place.target.history())?;
        let serves = history::standing(&entries).1.unwrap_or("nothing");
        session.story(&format!("{serves} serves now, and {} will", release.name));
        let what = format!("have {} serve layer {}?", release.name, args.layer);
        if !place.confirm(&what, args.yes)? {
            return Err(Error::no("nothing was changed"));
        }
        let _held = tools.interrupts.hold_off();
        let (_lock, mended) = run::open(site, Doing::Rollback)?;
        session.tell_mended(mended);
        let from = history::read(&place.target.history())?.len();
        let done = run::rollback(site, &release, args.watch.unwrap_or(place.deploy.watch));
        place.answer(done.map(drop), args.json, from)
    })
}
