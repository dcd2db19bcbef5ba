//! The message of a sync commit. It is made from the plan alone, so that the same plan makes the
//! same commit everywhere.

use std::fmt::Write;

use super::plan::SyncPlan;
use xtask_git::{CanonicalCommit, Id};

/// The trailer that names the canonical commit from which a sync commit was made.
pub const SOURCE_TRAILER: &str = "Orchestration-Source";

/// The trailer that names a path whose conflict a person has settled without changing it.
pub const SETTLED_TRAILER: &str = "Orchestration-Settled";

/// The trailer of a sync commit that replaced more than what once was canonical: a person's decision,
/// which nobody makes again unasked.
pub const FORCED_TRAILER: &str = "Orchestration-Forced";

/// How many paths are listed: a message is read by people.
const MAX_LISTED: usize = 100;

/// The message for the commit that makes `plan` true.
#[must_use]
pub fn render_commit_message(plan: &SyncPlan, branch: &str, canonical: &CanonicalCommit) -> String {
    let paths: Vec<_> =
        plan.written_paths().filter(|item| item.target != item.state.head).collect();
    let count = paths.len();
    let mut text = format!(
        "chore(sync): {count} managed file{} from {branch}\n\n",
        if count == 1 { "" } else { "s" }
    );
    for item in paths.iter().take(MAX_LISTED) {
        push_line(&mut text, &format!("{} {}", item.action.name(), item.path()));
    }
    if count > MAX_LISTED {
        push_line(&mut text, &format!("and {} more", count - MAX_LISTED));
    }
    text.push('\n');
    push_line(&mut text, &render_source_trailer(canonical.commit));
    let forced = paths.iter().filter(|item| item.replaces_work()).count();
    if forced > 0 {
        push_line(&mut text, &format!("{FORCED_TRAILER}: {forced}"));
    }
    text
}

fn render_source_trailer(commit: Id) -> String {
    format!("{SOURCE_TRAILER}: {commit}")
}

/// A line of the message. A path may hold a line end; the message must not be broken by it.
fn push_line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.replace(['\n', '\r'], "?"))
        .expect("because writing to a string cannot fail");
}
