//! A private temporary folder, removed when dropped, e.g. `/tmp/xtask-upgrade-1234-0`.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::{Error, Result, ResultExt as _};

/// The maximum number of names to try.
const MAX_TRIES: u32 = 100;

/// The folder. Dropping it removes the folder with its content.
pub struct TempFolder {
    path: PathBuf,
}

impl TempFolder {
    /// Creates a folder in `TMPDIR` or `/tmp` that only its owner can read, with `word` in its
    /// name. Returns an error if no name is free.
    pub fn new(world: &Environment, word: &str) -> Result<TempFolder> {
        let above = world.variable("TMPDIR").filter(|name| !name.is_empty()).unwrap_or("/tmp");
        let failed = || format!("cannot create a temporary folder in `{above}`");
        for number in 0..MAX_TRIES {
            let name = format!("xtask-{word}-{}-{number}", std::process::id());
            let path = Path::new(above).join(name);
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                // The path may contain a symlink, as `/tmp` does on macOS.
                Ok(()) => {
                    return Ok(TempFolder { path: path.canonicalize().with_context(failed)? });
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
            }
        }
        Err(Error::unable(failed())
            .with_hint("remove stale `xtask-*` folders there, or set TMPDIR to another folder"))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempFolder {
    #[expect(clippy::disallowed_methods, reason = "it holds nothing that anybody would miss")]
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}
