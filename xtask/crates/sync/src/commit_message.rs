//! Message of a sync commit, built from the plan alone, so that the same plan creates the same
//! commit everywhere. For example:
//!
//! ```text
//! chore(sync): 2 managed files from orchestration-tools
//!
//! update setup/a
//! create setup/new
//!
//! Orchestration-Source: 4f1c…
//! ```

use std::fmt::Write;

use super::plan::SyncPlan;
use xtask_git::{CanonicalCommit, Id};

/// Trailer with the canonical commit that a sync commit was made from.
pub const SOURCE_TRAILER: &str = "Orchestration-Source";

/// Trailer with a path whose conflict a person resolved without changing the file.
pub const SETTLED_TRAILER: &str = "Orchestration-Settled";

/// Trailer of a sync commit that replaced contents which never were canonical (`--force`): a
/// person's decision, which no automatic run repeats.
pub const FORCED_TRAILER: &str = "Orchestration-Forced";

/// Maximum number of listed paths, to keep the message readable.
const MAX_LISTED: usize = 100;

/// Renders the message of the commit that applies `plan`.
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

/// Appends a line. A line break in a path is replaced, so that it cannot break the message.
fn push_line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.replace(['\n', '\r'], "?"))
        .expect("because writing to a string cannot fail");
}
