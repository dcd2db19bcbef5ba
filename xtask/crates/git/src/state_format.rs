//! Format version of our state in the `xtask` folders of all git folders of a repository.
//!
//! The version is a number in `<git-common-dir>/xtask/format`, e.g. `1`; a missing file means 1. A
//! program that changes the meaning of any state file writes a larger number first. A program that
//! does not know the number refuses to run, since it could misread the state. The check precedes
//! all other reads of state, writes no file, and costs one attempt to open one.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::Repo;
use xtask_base::error::{Error, Result};

/// The newest format that this program knows.
const STATE_FORMAT: u32 = 1;

/// The longest valid file, in bytes.
const MAX_BYTES: u64 = 20;

impl Repo {
    /// Returns an error if the state has a newer or unreadable format.
    pub fn check_state_format(&self) -> Result<()> {
        let file = self.shared_state_folder().join("format");
        match read_format(&file) {
            Ok(None | Some(1..=STATE_FORMAT)) => Ok(()),
            Ok(Some(format)) => Err(Error::unable(format!(
                "the state of this repository was written by a newer xtask: its format is {format}, \
                 and this one supports up to {STATE_FORMAT}"
            ))),
            Err(why) => Err(Error::unable("cannot read the state format of this repository")
                .with_detail(format!("`{}`: {why}", file.display()))
                .with_hint("a newer xtask may have written it; if none has, remove that file")),
        }
    }
}

/// Reads the number in `file`; `None` if there is no file.
fn read_format(file: &Path) -> Result<Option<u32>, String> {
    // Opening a pipe would block.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let open = match File::options().read(true).custom_flags(flags).open(file) {
        Ok(open) => open,
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            // A dangling symlink is an error, not a missing file.
            return match file.symlink_metadata() {
                Ok(_) => Err("dangling symlink".to_owned()),
                Err(_) => Ok(None),
            };
        }
        Err(cause) => return Err(cause.to_string()),
    };
    let meta = open.metadata().map_err(|cause| cause.to_string())?;
    if !meta.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut text = String::new();
    open.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|cause| cause.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err("too long for a number".to_owned());
    }
    let number = text.strip_suffix('\n').unwrap_or(&text);
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| is_plain && *number > 0);
    number.map(Some).ok_or_else(|| "expected a number from 1 on".to_owned())
}
