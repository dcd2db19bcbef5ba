//! Events of inotify (Linux): a watch for each folder.
//!
//! ```text
//! watch 3 = src   event (3, CLOSE_WRITE, "a.py")  ->  src/a.py
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::{RawChanges, join, watch_error};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;

/// The events that mean a change; reading a file is none.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// The size of the buffer for events, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

pub(super) struct EventSource {
    root: PathBuf,
    queue: OwnedFd,
    folders: BTreeMap<i32, RepoPath>,
    buffer: Vec<MaybeUninit<u8>>,
}

impl EventSource {
    pub(super) fn new(root: &Path) -> Result<EventSource> {
        let queue =
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|cause| {
                watch_error("files", cause).with_hint(
                "more programs may watch with a larger `fs.inotify.max_user_instances` (sysctl)",
            )
            })?;
        let buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        Ok(EventSource { root: root.to_path_buf(), queue, folders: BTreeMap::new(), buffer })
    }

    pub(super) fn count_folders(&self) -> Option<usize> {
        Some(self.folders.len())
    }

    /// Watches a folder. Returns whether it is there.
    pub(super) fn watch_folder(&mut self, folder: &RepoPath) -> Result<bool> {
        match inotify::add_watch(&self.queue, folder.to_disk_path(&self.root), CHANGES) {
            Ok(number) => {
                self.folders.insert(number, folder.clone());
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => Ok(false),
            Err(Errno::NOSPC) => Err(Error::unable(format!(
                "cannot watch more than {} folders",
                self.folders.len()
            ))
            .with_hint(
                "the system allows no more: raise `fs.inotify.max_user_watches` (sysctl), or ignore folders \
                 that git need not know",
            )),
            Err(cause) => Err(watch_error(&format!("the folder `{folder}`"), cause)),
        }
    }

    /// Waits at most `longest` for events. Returns `None` if there were none.
    pub(super) fn read(&mut self, longest: Duration) -> Result<Option<RawChanges>> {
        let longest = Timespec::try_from(longest).ok();
        let mut ready = [PollFd::new(&self.queue, PollFlags::IN)];
        match poll(&mut ready, longest.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(cause) => return Err(watch_error("files", cause)),
        }
        let mut raw = RawChanges::default();
        let (mut gone, mut moved) = (Vec::new(), BTreeSet::new());
        let mut events = Reader::new(&self.queue, &mut self.buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK | Errno::INTR) => break,
                Err(cause) => return Err(watch_error("files", cause)),
            };
            let flags = event.events();
            raw.has_lost |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
            if flags.contains(ReadFlags::IGNORED) {
                gone.push(event.wd());
            }
            let Some(folder) = self.folders.get(&event.wd()) else { continue };
            let Some(name) = event.file_name() else { continue };
            let path = join(folder, OsStr::from_bytes(name.to_bytes()));
            if flags.contains(ReadFlags::ISDIR) {
                raw.has_lost_folder |= flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
                if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                    raw.new_folders.insert(path.clone());
                } else if flags.contains(ReadFlags::MOVED_FROM) {
                    moved.insert(path.clone());
                    // Its files are gone from here, and no event names them.
                    raw.has_lost = true;
                } else if flags == ReadFlags::ATTRIB | ReadFlags::ISDIR {
                    continue;
                }
            }
            raw.paths.insert(path);
        }
        gone.iter().for_each(|number| drop(self.folders.remove(number)));
        self.forget_moved(&moved);
        Ok(Some(raw))
    }

    /// Ends the watches of folders that have another name now; they are watched anew under that.
    fn forget_moved(&mut self, moved: &BTreeSet<RepoPath>) {
        let queue = &self.queue;
        self.folders.retain(|number, folder| {
            let is_moved = moved.iter().any(|old| folder == old || folder.is_below(old));
            if is_moved {
                // It may be gone already.
                inotify::remove_watch(queue, *number).ok();
            }
            !is_moved
        });
    }
}
