//! A folder among the temporary files that is this program's alone, and gone when it is no longer needed.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::{Error, Result, ResultExt as _};

/// How many names are tried before it is given up.
const MAX_TRIES: u32 = 100;

/// The folder. It goes, with all that is in it, when this does.
pub struct TempFolder {
    path: PathBuf,
}

impl TempFolder {
    /// Makes one, which nobody else can read, with a word in its name that says what for.
    pub fn new(world: &Environment, word: &str) -> Result<TempFolder> {
        let above = world.variable("TMPDIR").filter(|name| !name.is_empty()).unwrap_or("/tmp");
        let failed = || format!("no folder can be made among the temporary files in `{above}`");
        for number in 0..MAX_TRIES {
            let name = format!("xtask-{word}-{}-{number}", std::process::id());
            let path = Path::new(above).join(name);
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                // The shorter way to it may be a link.
                Ok(()) => {
                    return Ok(TempFolder { path: path.canonicalize().with_context(failed)? });
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
            }
        }
        Err(Error::unable(failed())
            .with_hint("remove what lies there, or set TMPDIR to another folder"))
    }

    /// Where it is.
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
