//! Hooks: what was installed, and how they stand.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::{BOLD, DIM, GREEN, Verbosity, YELLOW};

/// How one hook stands.
#[derive(Clone, Debug, Serialize)]
pub struct HookLine {
    /// Its name.
    pub hook: &'static str,
    /// Whether it does its work here now.
    pub fires: bool,
    /// What stands at its name.
    pub state: &'static str,
    /// Whether a hook that was there before runs first.
    pub chains: bool,
}

/// The answer of `hooks status`.
#[derive(Clone, Debug, Serialize)]
pub struct HooksReport {
    /// Names this shape.
    pub schema: &'static str,
    /// The root of this worktree.
    pub worktree: String,
    /// Where git looks for hooks.
    pub folder: String,
    /// The program that they run.
    pub program: String,
    /// `whole`, `broken` or `missing`.
    pub program_state: &'static str,
    /// Where it came from, or what is wrong with it.
    pub program_detail: Option<String>,
    /// Whether it is older than the canonical sources; nothing where that cannot be told.
    pub program_is_old: Option<bool>,
    /// Every hook.
    pub hooks: Vec<HookLine>,
    /// Why none of them does anything here now.
    pub obstacles: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// All of it in a few words.
    pub summary: String,
}

impl HooksReport {
    /// As text.
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
        // The first of them is in the summary.
        for obstacle in self.obstacles.iter().filter(|text| !self.summary.contains(text.as_str())) {
            put(format!("{YELLOW}off{YELLOW:#}: {obstacle}"));
        }
        for note in &self.notes {
            put(format!("{YELLOW}note{YELLOW:#}: {note}"));
        }
        text
    }
}

/// What was done with a hook: its name, and in words, where anything was.
pub type HookChangeLine = (&'static str, Option<String>);

/// What an installation came to.
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
        text.push_str("the program of the hooks is new\n");
    }
    if !changed.is_empty() {
        let folder = folder.display();
        text.push_str(&format!("hooks in {folder}\n{}", changed.concat()));
    }
    text
}

/// What taking them out came to.
#[must_use]
pub fn render_uninstalled(folder: &Path, hooks: &[HookChangeLine], loudness: Verbosity) -> String {
    let changed: Vec<String> = hooks
        .iter()
        .filter_map(|(hook, what)| Some(format!("  {hook:<14} {}\n", what.as_ref()?)))
        .collect();
    if loudness == Verbosity::Quiet || (changed.is_empty() && loudness < Verbosity::Verbose) {
        return String::new();
    }
    let what = if changed.is_empty() { ": none of ours were there" } else { "" };
    format!("hooks in {}{what}\n{}", folder.display(), changed.concat())
}
