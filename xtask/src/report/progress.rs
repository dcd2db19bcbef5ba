//! The progress line of long work, on a terminal and only after it has taken a while.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::progress::Progress;

/// How often the line is drawn, in times a second.
const REFRESH_HZ: u8 = 10;

/// Work that is shorter than this is not worth a line.
const PATIENCE: Duration = Duration::from_millis(400);

/// One line on stderr. It shows nothing where stderr is no terminal.
pub struct Bar {
    bar: ProgressBar,
    label: Mutex<String>,
}

impl Bar {
    /// A bar that has nothing to show yet.
    #[must_use]
    pub fn new() -> Self {
        let bar =
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REFRESH_HZ));
        Bar { bar, label: Mutex::default() }
    }
}

impl Default for Bar {
    fn default() -> Self {
        Bar::new()
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, total: Option<u64>) {
        if let Ok(mut label) = self.label.lock() {
            what.clone_into(&mut label);
        }
        let shape = if total.is_some() { "{msg} {pos}/{len} [{bar:30}]" } else { "{msg} {pos}" };
        if let Ok(style) = ProgressStyle::with_template(shape) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.reset();
        self.bar.set_message("");
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }

    fn step(&self, count: u64) {
        if self.bar.elapsed() < PATIENCE {
            // Counted without being drawn.
            self.bar.update(|state| state.set_pos(state.pos() + count));
            return;
        }
        if self.bar.message().is_empty()
            && let Ok(label) = self.label.lock()
        {
            self.bar.set_message(label.clone());
        }
        self.bar.inc(count);
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
