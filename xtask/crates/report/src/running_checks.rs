//! The checks that are running now, a line each, on a terminal.

use std::cell::RefCell;
use std::io::IsTerminal;
use xtask_base::words::escape_name;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines on stderr. They show nothing where stderr is no terminal.
pub struct RunningChecks {
    lines: MultiProgress,
    running: RefCell<Vec<(String, ProgressBar)>>,
    is_visible: bool,
}

impl RunningChecks {
    /// Lines that have nothing to show yet; `is_wanted` says whether anybody wants to see them.
    #[must_use]
    pub fn new(is_wanted: bool) -> RunningChecks {
        let is_seen = is_wanted && std::io::stderr().is_terminal();
        let target =
            if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let lines = MultiProgress::with_draw_target(target);
        RunningChecks { lines, running: RefCell::default(), is_visible: is_seen }
    }

    /// A check begins.
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

    /// A check has ended.
    pub fn remove_check(&self, name: &str) {
        let mut running = self.running.borrow_mut();
        if let Some(at) = running.iter().position(|(other, _)| other == name) {
            running.remove(at).1.finish_and_clear();
        }
    }

    /// Draws the clocks anew.
    pub fn redraw_clocks(&self) {
        self.running.borrow().iter().for_each(|(_, bar)| bar.tick());
    }

    /// Takes the lines away while something else is shown or asked.
    pub fn suspend_while<T>(&self, work: impl FnOnce() -> T) -> T {
        self.lines.suspend(work)
    }
}
