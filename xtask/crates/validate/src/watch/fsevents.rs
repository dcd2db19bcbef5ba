//! Events of FSEvents (macOS), by the crate `notify`: one watch for all folders.
//!
//! ```text
//! /Users/ann/app/src/a.py  ->  src/a.py
//! ```

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{RawChanges, watch_error};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;

pub(super) struct EventSource {
    root: PathBuf,
    events: Receiver<notify::Result<Event>>,
    /// Watches until it is dropped.
    _watcher: RecommendedWatcher,
}

impl EventSource {
    pub(super) fn new(root: &Path) -> Result<EventSource> {
        let (sender, events) = channel();
        let send = move |event| drop(sender.send(event));
        let mut watcher =
            notify::recommended_watcher(send).map_err(|cause| watch_error("files", cause))?;
        watcher
            .watch(root, RecursiveMode::Recursive)
            .map_err(|cause| watch_error("files", cause))?;
        Ok(EventSource { root: root.to_path_buf(), events, _watcher: watcher })
    }

    pub(super) fn count_folders(&self) -> Option<usize> {
        None
    }

    /// All folders are watched already; nothing below has to be visited.
    pub(super) fn watch_folder(&mut self, _folder: &RepoPath) -> Result<bool> {
        Ok(false)
    }

    /// Waits at most `longest` for events. Returns `None` if there were none.
    pub(super) fn read(&mut self, longest: Duration) -> Result<Option<RawChanges>> {
        let first = match self.events.recv_timeout(longest) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::unable("the system has ended the watch over files"));
            }
        };
        let mut raw = RawChanges::default();
        for event in std::iter::once(first).chain(self.events.try_iter()) {
            let event = event.map_err(|cause| watch_error("files", cause))?;
            raw.has_lost |= event.need_rescan();
            if matches!(event.kind, EventKind::Access(_)) {
                continue;
            }
            for path in &event.paths {
                if let Ok(inside) = path.strip_prefix(&self.root)
                    && !inside.as_os_str().is_empty()
                {
                    let is_gone = path.symlink_metadata().is_err();
                    // The kind of what is gone is not said; it may have been a folder.
                    raw.has_lost_folder |= path.is_dir() || is_gone;
                    if !path.is_dir() {
                        raw.paths.insert(RepoPath::new(inside.as_os_str().as_bytes()));
                    }
                }
            }
        }
        Ok(Some(raw))
    }
}
