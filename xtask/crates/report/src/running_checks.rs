//! The checks that are running, one line each with a clock, on a terminal, e.g. `⠋ lint 3s`.

use std::cell::RefCell;
use std::io::IsTerminal;
use xtask_base::words::escape_name;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The lines on stderr. They are not shown if stderr is not a terminal.
pub struct RunningChecks {
    lines: MultiProgress,
    running: RefCell<Vec<(String, ProgressBar)>>,
    is_visible: bool,
}

impl RunningChecks {
    /// Returns an empty list; with `is_wanted == false` it never shows anything.
    #[must_use]
    pub fn new(is_wanted: bool) -> RunningChecks {
        let is_seen = is_wanted && std::io::stderr().is_terminal();
        let target =
            if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let lines = MultiProgress::with_draw_target(target);
        RunningChecks { lines, running: RefCell::default(), is_visible: is_seen }
    }

    /// Adds the line of a check that starts.
    pub fn add_check(&self, name: &str) {
        if !self.is_visible {
            return;
        }
        let bar = self.lines.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(escape_name(name).into_owned());
        self.running.borrow_mut().push((name.to_owned(), bar));
    }

    /// Removes the line of a check that has ended.
    pub fn remove_check(&self, name: &str) {
        let mut running = self.running.borrow_mut();
        if let Some(at) = running.iter().position(|(other, _)| other == name) {
            running.remove(at).1.finish_and_clear();
        }
    }

    /// Redraws the clocks.
    pub fn redraw_clocks(&self) {
        self.running.borrow().iter().for_each(|(_, bar)| bar.tick());
    }

    /// Hides the lines while `work` prints or prompts.
    pub fn suspend_while<T>(&self, work: impl FnOnce() -> T) -> T {
        self.lines.suspend(work)
    }
}
