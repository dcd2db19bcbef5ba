//! The report of `why`: how sync decides about one path.
//!
//! ```text
//! setup/format.toml
//! managed by `setup/`
//! behind: …; sync will update it
//!   HEAD       file 1a2b3c4d5e
//! ```

use super::{BOLD, DIM};

/// A commit, in one line.
#[derive(Clone, Debug)]
pub struct LastCommitLine {
    /// The abbreviated ID.
    pub id: String,
    pub author: String,
    /// The age, e.g. `2 hours ago`.
    pub when: String,
    /// The first line of the message.
    pub subject: String,
}

impl LastCommitLine {
    fn render_text(&self) -> String {
        let LastCommitLine { id, author, when, subject } = self;
        format!("{id} {subject} {DIM}({author}, {when}){DIM:#}")
    }
}

/// The report of `why`.
#[derive(Clone, Debug)]
pub struct WhyReport {
    pub path: String,
    /// The rule by which the path is managed or not.
    pub rule: String,
    /// Its class, and the action of a plain sync, if it is managed.
    pub decision: Option<String>,
    /// The content in HEAD, index, file and canonical commit, by these names.
    pub contents: Vec<(&'static str, String)>,
    /// The commit of this branch that last changed it.
    pub changed_by: Option<LastCommitLine>,
    /// The canonical commit that last changed it.
    pub canonical_changed_by: Option<LastCommitLine>,
    /// The sync commit that last wrote it.
    pub synced_by: Option<LastCommitLine>,
}

impl WhyReport {
    /// Renders the report as text.
    #[must_use]
    pub fn render_text(&self) -> String {
        let mut lines = vec![format!("{BOLD}{}{BOLD:#}", self.path), self.rule.clone()];
        lines.extend(self.decision.clone());
        for (name, what) in &self.contents {
            lines.push(format!("  {name:<10} {what}"));
        }
        let none = || format!("{DIM}none{DIM:#}");
        let commit = |line: &Option<LastCommitLine>| {
            line.as_ref().map_or_else(none, LastCommitLine::render_text)
        };
        if self.decision.is_some() {
            lines.push(format!("last change here       {}", commit(&self.changed_by)));
            lines.push(format!("last canonical change  {}", commit(&self.canonical_changed_by)));
            lines.push(format!("last synced            {}", commit(&self.synced_by)));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
