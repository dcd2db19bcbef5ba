//! `demo`: the daily story, played and checked in a place of its own.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Demo;
use crate::demo::scene::{Scene, Stage};
use crate::demo::story::{PEOPLE, play};
use xtask_base::error::Kind;
use xtask_base::words::count;
use xtask_report::{self as report, Loudness};

pub(super) fn run(session: &Session, args: &Demo) -> Exit {
    let tools = session.tools();
    // An interrupt ends the story between two commands, so that nothing is left behind.
    let _held_off = tools.interrupts.hold_off();
    let is_quiet = session.loudness == Loudness::Quiet;
    let stage = Stage {
        world: &session.world,
        disk: tools.disk,
        tell: &|text| if is_quiet { Ok(()) } else { report::answer(text) },
        is_interrupted: &|| tools.interrupts.arrived(),
    };
    let scene = Scene::make(stage, args.keep.as_deref())?;
    let place = scene.root().display();
    let played = play(&scene);
    if let Err(failure) = played {
        let is_wanted = args.keep.is_some() || failure.kind() != Kind::Interrupted;
        if is_wanted {
            return Err(failure.hint(format!("the scene is left as it was then in `{place}`")));
        }
        scene.remove()?;
        return Err(failure);
    }
    (stage.tell)("\n")?;
    report::answer(&format!("All was as told ({}).\n", count(scene.checked(), "check")))?;
    if args.keep.is_none() {
        scene.remove()?;
        return Ok(DONE);
    }
    session.story(&format!("the scene is in `{place}`; to go on as one of its people:"));
    for person in PEOPLE {
        session.story(&format!("  cd '{place}/{person}' && ENV=../home/{person}/.profile sh -i"));
    }
    Ok(DONE)
}
