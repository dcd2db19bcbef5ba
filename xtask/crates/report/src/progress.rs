//! The progress line of long work, on a terminal and only after it has taken a while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use xtask_base::words::spelled;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use xtask_base::progress::Progress;

/// How often the line is drawn, in times a second.
const REFRESH_HZ: u8 = 10;

/// Work that is shorter than this is not worth a line.
const PATIENCE: Duration = Duration::from_millis(400);

/// One line on stderr. It shows nothing where stderr is no terminal.
pub struct Bar {
    bar: ProgressBar,
    is_shown: AtomicBool,
}

impl Bar {
    /// A bar that has nothing to show yet.
    #[must_use]
    pub fn new() -> Self {
        Bar { bar: ProgressBar::hidden(), is_shown: AtomicBool::new(false) }
    }

    fn hide(&self) {
        if self.is_shown.swap(false, Ordering::Relaxed) {
            self.bar.finish_and_clear();
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

impl Default for Bar {
    fn default() -> Self {
        Bar::new()
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, total: Option<u64>) {
        self.hide();
        let shape = if total.is_some() { "{msg} {pos}/{len} [{bar:30}]" } else { "{msg} {pos}" };
        if let Ok(style) = ProgressStyle::with_template(shape) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.reset();
        self.bar.set_message(spelled(what).into_owned());
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }

    fn remark(&self, text: &str) {
        self.hide();
        super::warn(text);
    }

    fn step(&self, count: u64) {
        let is_long = self.bar.elapsed() >= PATIENCE;
        if is_long && !self.is_shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REFRESH_HZ));
        }
        self.bar.inc(count);
    }

    fn end(&self) {
        self.hide();
    }
}
