//! The reports of `install-hooks`, `uninstall-hooks` and `hooks status`.
//!
//! ```text
//! hooks in .git/hooks
//!   post-checkout  installed
//!   pre-commit     installed; the previous hook runs first, as pre-commit.pre-xtask
//! ```

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::{BOLD, DIM, GREEN, Verbosity, YELLOW};

/// The state of one hook.
#[derive(Clone, Debug, Serialize)]
pub struct HookLine {
    /// The name of the hook, e.g. `pre-push`.
    pub hook: &'static str,
    /// Whether it runs its work here now.
    pub fires: bool,
    /// The state of the file of that name, e.g. `installed` or `missing`.
    pub state: &'static str,
    /// Whether a previous hook runs first.
    pub chains: bool,
}

/// The JSON output of `hooks status` (`xtask.hooks/1`).
#[derive(Clone, Debug, Serialize)]
pub struct HooksReport {
    pub schema: &'static str,
    pub worktree: String,
    /// The folder in which git looks for hooks.
    pub folder: String,
    /// The path of the program that the hooks run.
    pub program: String,
    /// `whole`, `broken` or `missing`.
    pub program_state: &'static str,
    /// The origin of the program, or why it is broken.
    pub program_detail: Option<String>,
    /// Whether it is older than the canonical sources, or `None` if that is unknown.
    pub program_is_old: Option<bool>,
    pub hooks: Vec<HookLine>,
    /// Why no hook does anything here now, e.g. that they are paused.
    pub obstacles: Vec<String>,
    /// Further notes.
    pub notes: Vec<String>,
    /// The state of all hooks in one line.
    pub summary: String,
}

impl HooksReport {
    /// Renders the report as text.
    #[must_use]
    pub fn render_text(&self) -> String {
        let mut text = String::new();
        let mut put = |line: String| {
            writeln!(text, "{line}").expect("because writing to a string cannot fail");
        };
        put(format!("{BOLD}hooks{BOLD:#}    {}", self.summary));
        put(format!("{BOLD}folder{BOLD:#}   {}", self.folder));
        let old = if self.program_is_old == Some(true) {
            ", older than the canonical sources"
        } else {
            ""
        };
        let detail = self.program_detail.as_ref().map_or(String::new(), |text| format!(": {text}"));
        put(format!("{BOLD}program{BOLD:#}  {}", self.program));
        put(format!("         {}{detail}{old}", self.program_state));
        for line in &self.hooks {
            let (style, fires) = if line.fires { (GREEN, "fires") } else { (YELLOW, "silent") };
            let mut more = Vec::new();
            if line.state != "installed" {
                more.push(line.state.to_owned());
            }
            if line.chains {
                more.push(format!("after {}.pre-xtask", line.hook));
            }
            let more =
                if more.is_empty() { String::new() } else { format!("  {}", more.join(", ")) };
            put(format!("  {:<14} {style}{fires}{style:#}{DIM}{more}{DIM:#}", line.hook));
        }
        // The summary already has the first of them.
        for obstacle in self.obstacles.iter().filter(|text| !self.summary.contains(text.as_str())) {
            put(format!("{YELLOW}off{YELLOW:#}: {obstacle}"));
        }
        for note in &self.notes {
            put(format!("{YELLOW}note{YELLOW:#}: {note}"));
        }
        text
    }
}

/// The name of a hook, and the change that was made to it, if any.
pub type HookChangeLine = (&'static str, Option<String>);

/// Renders the result of an installation.
#[must_use]
pub fn render_installed(
    folder: &Path,
    is_new_program: bool,
    hooks: &[HookChangeLine],
    loudness: Verbosity,
) -> String {
    let mut text = String::new();
    let changed: Vec<String> = hooks
        .iter()
        .filter_map(|(hook, what)| Some(format!("  {hook:<14} {}\n", what.as_ref()?)))
        .collect();
    if loudness == Verbosity::Quiet {
        return text;
    }
    if changed.is_empty() && !is_new_program {
        if loudness == Verbosity::Verbose {
            text.push_str("hooks are installed already, and up to date\n");
        }
        return text;
    }
    if is_new_program {
        text.push_str("the program of the hooks was updated\n");
    }
    if !changed.is_empty() {
        let folder = folder.display();
        text.push_str(&format!("hooks in {folder}\n{}", changed.concat()));
    }
    text
}

/// Renders the result of a removal.
#[must_use]
pub fn render_uninstalled(folder: &Path, hooks: &[HookChangeLine], loudness: Verbosity) -> String {
    let changed: Vec<String> = hooks
        .iter()
        .filter_map(|(hook, what)| Some(format!("  {hook:<14} {}\n", what.as_ref()?)))
        .collect();
    if loudness == Verbosity::Quiet || (changed.is_empty() && loudness < Verbosity::Verbose) {
        return String::new();
    }
    let what = if changed.is_empty() { ": none were installed" } else { "" };
    format!("hooks in {}{what}\n{}", folder.display(), changed.concat())
}
