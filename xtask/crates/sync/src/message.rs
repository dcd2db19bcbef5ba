//! The message of a sync commit. It is made from the plan alone, so that the same plan makes the
//! same commit everywhere.

use std::fmt::Write;

use super::plan::Plan;
use xtask_git::{Canonical, Id};

/// The trailer that names the canonical commit from which a sync commit was made.
pub const SOURCE_TRAILER: &str = "Orchestration-Source";

/// The trailer that names a path whose conflict a person has settled without changing it.
pub const SETTLED_TRAILER: &str = "Orchestration-Settled";

/// The trailer of a sync commit that replaced more than what once was canonical: a person's decision,
/// which nobody makes again unasked.
pub const FORCED_TRAILER: &str = "Orchestration-Forced";

/// How many paths are listed: a message is read by people.
const LISTED: usize = 100;

/// The message for the commit that makes `plan` true.
#[must_use]
pub fn message(plan: &Plan, branch: &str, canonical: &Canonical) -> String {
    let paths: Vec<_> = plan.writes().filter(|item| item.target != item.state.head).collect();
    let count = paths.len();
    let mut text = format!(
        "chore(sync): {count} managed file{} from {branch}\n\n",
        if count == 1 { "" } else { "s" }
    );
    for item in paths.iter().take(LISTED) {
        line(&mut text, &format!("{} {}", item.action.name(), item.path()));
    }
    if count > LISTED {
        line(&mut text, &format!("and {} more", count - LISTED));
    }
    text.push('\n');
    line(&mut text, &source(canonical.commit));
    let forced = paths.iter().filter(|item| item.replaces_work()).count();
    if forced > 0 {
        line(&mut text, &format!("{FORCED_TRAILER}: {forced}"));
    }
    text
}

fn source(commit: Id) -> String {
    format!("{SOURCE_TRAILER}: {commit}")
}

/// A line of the message. A path may hold a line end; the message must not be broken by it.
fn line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.replace(['\n', '\r'], "?"))
        .expect("because writing to a string cannot fail");
}
