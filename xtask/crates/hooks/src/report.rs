//! The reports of `install-hooks`, `uninstall-hooks` and `hooks status`: text, and JSON of a fixed shape.
//!
//! ```text
//! hooks in .git/hooks
//!   post-checkout  installed
//!   pre-commit     installed; the previous hook runs first, as pre-commit.pre-xtask
//! ```

use serde::Serialize;

use super::Hook;
use super::health::{HooksVerdict, InstallationHealth};
use super::hooks_folder::HookFileState;
use super::installation::{Installation, Removal};
use super::program::{InstalledProgram, program_link};
use super::shim::KEPT;
use super::shim_install::ShimOutcome;
use xtask_git::Repo;
use xtask_report::{BOLD, DIM, GREEN, Verbosity, YELLOW};

/// The state of one hook.
#[derive(Serialize)]
struct HookLine<'a> {
    hook: &'static str,
    /// Whether it runs its work here now.
    fires: bool,
    state: &'a HookFileState,
    /// Whether a previous hook runs first.
    chains: bool,
}

/// The state of the installed program.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum ProgramState {
    Whole,
    Broken,
    Missing,
}

/// The JSON output of `hooks status` (`xtask.hooks/1`).
#[derive(Serialize)]
pub struct HooksReport<'a> {
    schema: &'static str,
    worktree: String,
    /// The folder in which git looks for hooks.
    folder: &'a str,
    /// The path of the program that the hooks run.
    program: String,
    program_state: ProgramState,
    /// The origin of the program, or why it is broken.
    program_detail: Option<String>,
    /// Whether it is older than the canonical sources, or `None` if that is unknown.
    program_is_old: Option<bool>,
    hooks: Vec<HookLine<'a>>,
    /// Why no hook does anything here now, e.g. that they are paused.
    obstacles: &'a [String],
    notes: &'a [String],
    /// The state of all hooks in one line.
    summary: String,
    /// How many of `obstacles` the summary names.
    #[serde(skip)]
    summarized: usize,
}

impl HooksReport<'_> {
    /// Builds the report.
    #[must_use]
    pub fn new<'a>(repo: &Repo, health: &'a InstallationHealth) -> HooksReport<'a> {
        let (program_state, program_detail) = match &health.program {
            InstalledProgram::Missing => (ProgramState::Missing, None),
            InstalledProgram::Broken(why) => (ProgramState::Broken, Some(why.clone())),
            InstalledProgram::Intact(record) => {
                let from = record.commit.as_ref().map(|commit| format!("built from {commit}"));
                let from = from.unwrap_or_else(|| "a copy of a program that ran".to_owned());
                (ProgramState::Whole, Some(from))
            }
        };
        let lines = health.hooks.iter().map(|hook| HookLine {
            hook: hook.hook.name(),
            fires: health.will_run(hook),
            state: &hook.state,
            chains: hook.runs_previous,
        });
        HooksReport {
            schema: "xtask.hooks/1",
            worktree: repo.root().display().to_string(),
            folder: &health.folder,
            program: program_link(repo).display().to_string(),
            program_state,
            program_detail,
            program_is_old: health.is_outdated,
            hooks: lines.collect(),
            obstacles: &health.obstacles,
            notes: &health.notes,
            summary: health.summary(),
            summarized: usize::from(matches!(health.verdict(), HooksVerdict::Inactive(_))),
        }
    }

    /// Renders the report as text.
    #[must_use]
    pub fn render_text(&self) -> String {
        let mut lines = vec![
            format!("{BOLD}hooks{BOLD:#}    {}", self.summary),
            format!("{BOLD}folder{BOLD:#}   {}", self.folder),
            format!("{BOLD}program{BOLD:#}  {}", self.program),
        ];
        let state = match self.program_state {
            ProgramState::Whole => "whole",
            ProgramState::Broken => "broken",
            ProgramState::Missing => "missing",
        };
        let detail = self.program_detail.as_ref().map_or(String::new(), |text| format!(": {text}"));
        let old = match self.program_is_old {
            Some(true) => ", older than the canonical sources",
            _ => "",
        };
        lines.push(format!("         {state}{detail}{old}"));
        for line in &self.hooks {
            let (style, fires) = if line.fires { (GREEN, "fires") } else { (YELLOW, "silent") };
            let chained = line.chains.then(|| format!("after {}{KEPT}", line.hook));
            let more: Vec<String> = describe_file_state(line.state)
                .map(str::to_owned)
                .into_iter()
                .chain(chained)
                .collect();
            let gap = if more.is_empty() { "" } else { "  " };
            let more = more.join(", ");
            lines.push(format!(
                "  {:<14} {style}{fires}{style:#}{DIM}{gap}{more}{DIM:#}",
                line.hook
            ));
        }
        let left = self.obstacles.iter().skip(self.summarized);
        lines.extend(left.map(|obstacle| format!("{YELLOW}off{YELLOW:#}: {obstacle}")));
        lines.extend(self.notes.iter().map(|note| format!("{YELLOW}note{YELLOW:#}: {note}")));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Describes the file of a hook; `None` if it is the current shim.
fn describe_file_state(state: &HookFileState) -> Option<&'static str> {
    match state {
        HookFileState::Absent => Some("missing"),
        HookFileState::Shim => None,
        HookFileState::ChangedShim => Some("outdated or changed manually"),
        HookFileState::Foreign => Some("another program's"),
        HookFileState::CallsProgram => Some("another program's, which starts xtask"),
        HookFileState::NotAFile => Some("not a file"),
    }
}

/// Renders the result of an installation.
#[must_use]
pub fn render_installed(done: &Installation, verbosity: Verbosity) -> String {
    let changed = render_outcomes(&done.hooks);
    if verbosity == Verbosity::Quiet {
        return String::new();
    }
    if changed.is_empty() && !done.is_new_program {
        return match verbosity {
            Verbosity::Verbose => "hooks are installed already, and up to date\n".to_owned(),
            _ => String::new(),
        };
    }
    let mut text = String::new();
    if done.is_new_program {
        text.push_str("the program of the hooks was updated\n");
    }
    if !changed.is_empty() {
        text.push_str(&format!("hooks in {}\n{changed}", done.folder.display()));
    }
    text
}

/// Renders the result of a removal.
#[must_use]
pub fn render_uninstalled(done: &Removal, verbosity: Verbosity) -> String {
    let changed = render_outcomes(&done.hooks);
    if verbosity == Verbosity::Quiet || (changed.is_empty() && verbosity < Verbosity::Verbose) {
        return String::new();
    }
    let what = if changed.is_empty() { ": none were installed" } else { "" };
    format!("hooks in {}{what}\n{changed}", done.folder.display())
}

/// Renders a line for each hook that was changed or skipped.
fn render_outcomes(hooks: &[(Hook, ShimOutcome)]) -> String {
    let line = |(hook, done): &(Hook, ShimOutcome)| {
        let name = hook.name();
        Some(format!("  {name:<14} {}\n", describe_outcome(name, done)?))
    };
    hooks.iter().filter_map(line).collect()
}

fn describe_outcome(hook: &str, done: &ShimOutcome) -> Option<String> {
    Some(match done {
        ShimOutcome::Unchanged => return None,
        ShimOutcome::Created => "installed".to_owned(),
        ShimOutcome::Chained { runs: true } => {
            format!("installed; the previous hook runs first, as {hook}{KEPT}")
        }
        ShimOutcome::Chained { runs: false } => format!(
            "installed; the previous hook is kept as {hook}{KEPT} but not run: it is not executable"
        ),
        ShimOutcome::Blocked(why) => format!("skipped: {why}"),
        ShimOutcome::Renewed(saved) => {
            format!("updated; the previous file is kept in {}", saved.display())
        }
        ShimOutcome::Removed => "removed".to_owned(),
        ShimOutcome::Restored => "restored".to_owned(),
        ShimOutcome::LeftForeign => {
            format!("another program's, kept; the previous hook is still {hook}{KEPT}")
        }
    })
}
