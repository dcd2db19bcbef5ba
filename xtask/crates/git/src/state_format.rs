//! The format of the state: one number for all that we keep in `xtask/` of the git folders, of every
//! worktree.
//!
//! It stands in `<git-common-dir>/xtask/format`, and is 1 where there is no such file. A program that
//! changes the meaning of anything there writes a larger number first; one that does not know the
//! number does nothing at all, because it cannot tell what it would misread. The look at it comes before
//! every other look at state, writes nothing, and costs one attempt to open a file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::Repo;
use xtask_base::error::{Error, Result};

/// The largest format of the state that this program knows.
const STATE_FORMAT: u32 = 1;

/// The longest file that can hold a number, in bytes.
const MAX_BYTES: u64 = 20;

impl Repo {
    /// Refuses state of a format that this program does not know.
    pub fn check_state_format(&self) -> Result<()> {
        let file = self.shared_state_folder().join("format");
        match read_format(&file) {
            Ok(None | Some(1..=STATE_FORMAT)) => Ok(()),
            Ok(Some(format)) => Err(Error::unable(format!(
                "the state of this repository was written by a newer xtask: it is of format {format}, \
                 and this one knows up to {STATE_FORMAT}"
            ))),
            Err(why) => {
                Err(Error::unable("the format of the state of this repository is not known")
                    .with_detail(format!("`{}`: {why}", file.display()))
                    .with_hint("a newer xtask may have written it; if none has, remove that file"))
            }
        }
    }
}

/// The number in a file; nothing where there is no file.
fn read_format(file: &Path) -> Result<Option<u32>, String> {
    // A pipe in its place would be waited for.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let open = match File::options().read(true).custom_flags(flags).open(file) {
        Ok(open) => open,
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            // A link that leads nowhere is not nothing.
            return match file.symlink_metadata() {
                Ok(_) => Err("it leads nowhere".to_owned()),
                Err(_) => Ok(None),
            };
        }
        Err(cause) => return Err(cause.to_string()),
    };
    let meta = open.metadata().map_err(|cause| cause.to_string())?;
    if !meta.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut text = String::new();
    open.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|cause| cause.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err("it is too long for a number".to_owned());
    }
    let number = text.strip_suffix('\n').unwrap_or(&text);
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| is_plain && *number > 0);
    number.map(Some).ok_or_else(|| "it holds no number from 1 on".to_owned())
}
