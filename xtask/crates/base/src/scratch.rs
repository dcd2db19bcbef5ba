//! A folder among the temporary files that is this program's alone, and gone when it is no longer needed.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::error::{Context as _, Error, Result};
use super::world::World;

/// How many names are tried before it is given up.
const TRIES: u32 = 100;

/// The folder. It goes, with all that is in it, when this does.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one, which nobody else can read, with a word in its name that says what for.
    pub fn new(world: &World, word: &str) -> Result<Scratch> {
        let above = world.variable("TMPDIR").filter(|name| !name.is_empty()).unwrap_or("/tmp");
        let failed = || format!("no folder can be made among the temporary files in `{above}`");
        for number in 0..TRIES {
            let name = format!("xtask-{word}-{}-{number}", std::process::id());
            let path = Path::new(above).join(name);
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                // The shorter way to it may be a link.
                Ok(()) => return Ok(Scratch { path: path.canonicalize().unable(failed)? }),
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(Error::unable(failed()).because(cause)),
            }
        }
        Err(Error::unable(failed()).hint("remove what lies there, or set TMPDIR to another folder"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    #[expect(clippy::disallowed_methods, reason = "it holds nothing that anybody would miss")]
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}
