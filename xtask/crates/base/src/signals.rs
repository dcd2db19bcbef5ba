//! Deferred handling of Ctrl-C and other signals, for work that must not stop half-way.
//!
//! By default a signal ends the process. While a [`SignalDeferral`] exists, `SIGINT`, `SIGTERM`,
//! `SIGHUP` and `SIGQUIT` are only recorded; the work checks for them between its steps and rolls
//! back, and the command exits with code 130. For example:
//!
//! ```text
//! let deferral = interrupts.defer_signals();
//! if interrupts.was_interrupted() { roll back }
//! ```

use std::io::{IsTerminal as _, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::error::{Result, ResultExt};

/// The signal handling of this process, created once by the command that starts work.
pub struct Interrupts {
    uses_default: Arc<AtomicBool>,
    is_pending: Arc<AtomicBool>,
    holders: AtomicUsize,
}

impl Interrupts {
    /// Installs the signal handlers. If a handler cannot be installed, its signal keeps the default
    /// effect; the journal still repairs an interrupted run.
    #[must_use]
    pub fn install_handlers() -> Self {
        let usual = Arc::new(AtomicBool::new(true));
        let arrived = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            let set =
                signal_hook::flag::register_conditional_default(signal, Arc::clone(&usual)).is_ok();
            if set {
                drop(signal_hook::flag::register(signal, Arc::clone(&arrived)));
            }
        }
        Interrupts { uses_default: usual, is_pending: arrived, holders: AtomicUsize::new(0) }
    }

    /// Creates an instance without handlers, for tests.
    #[must_use]
    pub fn without_handlers() -> Self {
        Interrupts {
            uses_default: Arc::new(AtomicBool::new(true)),
            is_pending: Arc::new(AtomicBool::new(false)),
            holders: AtomicUsize::new(0),
        }
    }

    /// Defers signals until the returned guard is dropped.
    pub fn defer_signals(&self) -> SignalDeferral<'_> {
        self.holders.fetch_add(1, Ordering::SeqCst);
        self.uses_default.store(false, Ordering::SeqCst);
        SignalDeferral { interrupts: self }
    }

    /// Returns a function that records an interruption from another source, e.g. Ctrl-C typed on
    /// another machine.
    pub fn interrupt_notifier(&self) -> impl Fn() + Send + use<> {
        let arrived = Arc::clone(&self.is_pending);
        move || arrived.store(true, Ordering::SeqCst)
    }

    /// Returns whether a signal has arrived while signals were deferred.
    #[must_use]
    pub fn was_interrupted(&self) -> bool {
        self.is_pending.load(Ordering::SeqCst)
    }
}

/// Returns a channel that receives a message when a signal asks this process to end, instead of
/// ending it.
pub fn listen_for_termination() -> Result<Receiver<()>> {
    listen_for(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT])
}

/// Returns a channel that receives at least one message when one or more children have exited.
pub fn listen_for_child_exit() -> Result<Receiver<()>> {
    listen_for(&[SIGCHLD])
}

/// Waits for `longest`, or until the terminal of stdin has been closed, and returns whether it has.
/// A program in the background gets no signal then.
#[must_use]
pub fn wait_for_hangup(longest: Duration) -> bool {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        std::thread::sleep(longest);
        return false;
    }
    // Nothing is asked for: a hangup is reported all the same.
    let mut waits = [PollFd::new(&stdin, PollFlags::empty())];
    match poll(&mut waits, Timespec::try_from(longest).ok().as_ref()) {
        Ok(1..) => waits[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
        _ => false,
    }
}

fn listen_for(signals: &[i32]) -> Result<Receiver<()>> {
    let cannot = || "cannot install signal handlers";
    let (mut ours, theirs) = UnixStream::pair().with_context(cannot)?;
    for signal in signals.iter().copied() {
        let theirs = theirs.try_clone().with_context(cannot)?;
        signal_hook::low_level::pipe::register(signal, theirs).with_context(cannot)?;
    }
    let (tell, hear) = channel();
    std::thread::spawn(move || {
        while let Ok(1..) = ours.read(&mut [0; 256]) {
            if tell.send(()).is_err() {
                return;
            }
        }
    });
    Ok(hear)
}

/// A guard that defers signals for as long as it lives.
pub struct SignalDeferral<'a> {
    interrupts: &'a Interrupts,
}

impl Drop for SignalDeferral<'_> {
    fn drop(&mut self) {
        if self.interrupts.holders.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.interrupts.uses_default.store(true, Ordering::SeqCst);
        }
    }
}
