//! The progress bar of long tasks, on a terminal and only after `SHOW_AFTER`, e.g. `reading branches 120/600 [====>
//!   ]`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use xtask_base::words::{escape_name, sanitize_for_terminal};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use xtask_base::progress::Progress;

/// How often the bar is redrawn, per second.
const REFRESH_HZ: u8 = 10;

/// How long a task must take before its bar is shown.
const SHOW_AFTER: Duration = Duration::from_millis(400);

/// Lines on stderr, each for one thing, which are overwritten while that changes, e.g. `⠋ api  starting`.
pub struct LiveLines {
    lines: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    is_plain: bool,
}

impl LiveLines {
    /// Returns an empty list; `None` if stderr is not a terminal.
    #[must_use]
    pub fn on_stderr() -> Option<LiveLines> {
        let choice = anstream::AutoStream::choice(&std::io::stderr());
        std::io::stderr().is_terminal().then(|| LiveLines {
            lines: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            bars: BTreeMap::new(),
            is_plain: choice == anstream::ColorChoice::Never,
        })
    }

    /// Sets the line of `name` to `text`, which may have colours.
    pub fn set_line(&mut self, name: &str, text: &str) {
        let bar = self.bars.entry(name.to_owned()).or_insert_with(|| {
            let bar = self.lines.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let text = sanitize_for_terminal(text);
        bar.set_message(match self.is_plain {
            true => anstream::adapter::strip_str(&text).to_string(),
            false => text.into_owned(),
        });
    }

    /// Redraws all lines.
    pub fn redraw(&self) {
        self.bars.values().for_each(ProgressBar::tick);
    }

    /// Removes all lines.
    pub fn clear(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }
}

/// A progress bar on stderr. It shows nothing if stderr is not a terminal.
pub struct StderrProgress {
    bar: ProgressBar,
    is_shown: AtomicBool,
}

impl StderrProgress {
    /// Returns a hidden bar.
    #[must_use]
    pub fn new() -> Self {
        StderrProgress { bar: ProgressBar::hidden(), is_shown: AtomicBool::new(false) }
    }

    fn hide(&self) {
        if self.is_shown.swap(false, Ordering::Relaxed) {
            self.bar.finish_and_clear();
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

impl Default for StderrProgress {
    fn default() -> Self {
        StderrProgress::new()
    }
}

impl Progress for StderrProgress {
    fn begin_task(&self, what: &str, total: Option<u64>) {
        self.hide();
        let shape = if total.is_some() { "{msg} {pos}/{len} [{bar:30}]" } else { "{msg} {pos}" };
        if let Ok(style) = ProgressStyle::with_template(shape) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.reset();
        self.bar.set_message(escape_name(what).into_owned());
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }

    fn warn(&self, text: &str) {
        self.hide();
        super::print_warning(text);
    }

    fn advance(&self, count: u64) {
        let is_long = self.bar.elapsed() >= SHOW_AFTER;
        if is_long && !self.is_shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REFRESH_HZ));
        }
        self.bar.inc(count);
    }

    fn end_task(&self) {
        self.hide();
    }
}
