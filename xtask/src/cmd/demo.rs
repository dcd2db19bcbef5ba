//! `demo`: runs the tutorial of `xtask::demo` in a temporary folder and reports the number of checks.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::DemoArgs;
use crate::demo::sandbox::{Sandbox, SandboxContext};
use crate::demo::tutorial::{PEOPLE, run_tutorial};
use xtask_base::error::ErrorKind;
use xtask_base::words::pluralize;
use xtask_report::{self as report, Verbosity};

pub(super) fn run(session: &Session, args: &DemoArgs) -> CommandResult {
    let tools = session.tools();
    // An interrupt takes effect between two commands, so that the folder is removed.
    let _held_off = tools.interrupts.defer_signals();
    let is_quiet = session.verbosity == Verbosity::Quiet;
    let stage = SandboxContext {
        world: &session.world,
        disk: tools.disk,
        print_text: &|text| if is_quiet { Ok(()) } else { report::print_output(text) },
        is_interrupted: &|| tools.interrupts.was_interrupted(),
    };
    let scene = Sandbox::create_sandbox(stage, args.keep.as_deref())?;
    let place = scene.root().display();
    let played = run_tutorial(&scene);
    if let Err(failure) = played {
        let is_wanted = args.keep.is_some() || failure.kind() != ErrorKind::Interrupted;
        if is_wanted {
            return Err(
                failure.with_hint(format!("the demo's folder is kept for inspection: `{place}`"))
            );
        }
        scene.remove_all()?;
        return Err(failure);
    }
    (stage.print_text)("\n")?;
    report::print_output(&format!(
        "All results are as expected ({}).\n",
        pluralize(scene.check_count(), "check")
    ))?;
    if args.keep.is_none() {
        scene.remove_all()?;
        return Ok(SUCCESS);
    }
    session
        .print_info(&format!("the demo's folder is `{place}`; to continue as one of its users:"));
    for person in PEOPLE {
        session
            .print_info(&format!("  cd '{place}/{person}' && ENV=../home/{person}/.profile sh -i"));
    }
    Ok(SUCCESS)
}
