//! A pipe that a thread reads to its end, of whose bytes the beginning and the end are kept.
//!
//! Another process may hold the pipe open forever, so waits for its end are bounded. For example, with two bytes
//! kept at each end:
//!
//! ```text
//! "abcdef"  ->  KeptBytes { head: "ab", tail: "ef", left_out: 2 }
//! ```

use std::collections::VecDeque;
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The bytes that were kept of a pipe.
#[derive(Default)]
pub(super) struct KeptBytes {
    pub(super) head: Vec<u8>,
    pub(super) tail: VecDeque<u8>,
    /// The number of bytes between the two that were not kept.
    pub(super) left_out: u64,
}

/// The reader of one pipe.
pub(super) struct PipeReader {
    kept: Arc<Mutex<KeptBytes>>,
    end: Receiver<()>,
}

impl PipeReader {
    /// Reads `pipe` in a thread and keeps the first `head` and the last `tail` bytes.
    pub(super) fn spawn(
        mut pipe: impl Read + Send + 'static,
        head: usize,
        tail: usize,
    ) -> PipeReader {
        let kept = Arc::new(Mutex::new(KeptBytes::default()));
        let (sender, end) = channel::<()>();
        let into = Arc::clone(&kept);
        std::thread::spawn(move || {
            let mut part = [0; 16384];
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                let room = head.saturating_sub(kept.head.len()).min(count);
                kept.head.extend(&part[..room]);
                kept.tail.extend(&part[room..count]);
                let over = kept.tail.len().saturating_sub(tail);
                kept.tail.drain(..over);
                kept.left_out += over as u64;
            }
            // Dropping the sender ends the wait of the receiver.
            drop(sender);
        });
        PipeReader { kept, end }
    }

    /// Returns whether the write end is closed, now or within `longest`.
    pub(super) fn has_ended(&self, longest: Duration) -> bool {
        self.end.recv_timeout(longest) == Err(RecvTimeoutError::Disconnected)
    }

    /// Returns the bytes that were kept so far.
    pub(super) fn into_kept(self) -> KeptBytes {
        std::mem::take(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
