//! Why sync decides about a path as it does.

use super::{BOLD, DIM};

/// A commit, in one line.
#[derive(Clone, Debug)]
pub struct LastCommitLine {
    /// Its id, shortened.
    pub id: String,
    /// Who wrote it.
    pub author: String,
    /// When, in words.
    pub when: String,
    /// The first line of its message.
    pub subject: String,
}

impl LastCommitLine {
    fn render_text(&self) -> String {
        let LastCommitLine { id, author, when, subject } = self;
        format!("{id} {subject} {DIM}({author}, {when}){DIM:#}")
    }
}

/// The answer of `why`.
#[derive(Clone, Debug)]
pub struct WhyReport {
    /// The path.
    pub path: String,
    /// What decides that it is managed or not.
    pub rule: String,
    /// Its class and what a plain sync does, where it is managed.
    pub decision: Option<String>,
    /// What HEAD, index, file and canonical commit hold.
    pub contents: Vec<(&'static str, String)>,
    /// The commit of this branch that last changed it.
    pub changed_by: Option<LastCommitLine>,
    /// The canonical commit that last changed it.
    pub canonical_changed_by: Option<LastCommitLine>,
    /// The sync commit that last wrote it.
    pub synced_by: Option<LastCommitLine>,
}

impl WhyReport {
    /// As text.
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
