//! Ctrl-C and its kin, for work that must not stop half-way.
//!
//! Signals end the process as usual, except while somebody holds them off. Then SIGINT, SIGTERM,
//! SIGHUP and SIGQUIT are only noted; the work asks between its steps, takes back what it did, and the
//! command ends with code 130.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::error::{Result, ResultExt};

/// The signals of this process. Made once, by the command that starts work.
pub struct Interrupts {
    uses_default: Arc<AtomicBool>,
    is_pending: Arc<AtomicBool>,
    holders: AtomicUsize,
}

impl Interrupts {
    /// Takes the signals over. Where a handler cannot be set, signals keep their usual effect: the
    /// journal still mends what they leave.
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

    /// Nobody sends signals here: for work that is driven by a test.
    #[must_use]
    pub fn without_handlers() -> Self {
        Interrupts {
            uses_default: Arc::new(AtomicBool::new(true)),
            is_pending: Arc::new(AtomicBool::new(false)),
            holders: AtomicUsize::new(0),
        }
    }

    /// Holds signals off until the answer is dropped.
    pub fn defer_signals(&self) -> SignalDeferral<'_> {
        self.holders.fetch_add(1, Ordering::SeqCst);
        self.uses_default.store(false, Ordering::SeqCst);
        SignalDeferral { interrupts: self }
    }

    /// What notes that one has come, for who hears of it in another way: that Ctrl-C was typed on another
    /// machine, say.
    pub fn interrupt_notifier(&self) -> impl Fn() + Send + use<> {
        let arrived = Arc::clone(&self.is_pending);
        move || arrived.store(true, Ordering::SeqCst)
    }

    /// Whether one has come while they were held off.
    #[must_use]
    pub fn was_interrupted(&self) -> bool {
        self.is_pending.load(Ordering::SeqCst)
    }
}

/// Hears the signals that ask this process to end, instead of ending.
pub fn listen_for_termination() -> Result<Receiver<()>> {
    listen_for(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT])
}

/// Hears when children have ended: at least one message for one or more of them.
pub fn listen_for_child_exit() -> Result<Receiver<()>> {
    listen_for(&[SIGCHLD])
}

fn listen_for(signals: &[i32]) -> Result<Receiver<()>> {
    let cannot = || "signals cannot be heard";
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

/// Signals are held off for as long as this lives.
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
