//! Fingerprints of files: blob id of the exact bytes and file mode, e.g. `3b18…`, `100644`.

use std::path::Path;

use super::journal::Fingerprint;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::files::is_executable;
use xtask_git::{FileMode, Repo, TreeEntry, read_raw_file};

/// Returns the fingerprint of a file with this content and mode.
#[must_use]
pub fn fingerprint_entry(entry: TreeEntry) -> Fingerprint {
    Fingerprint { raw: entry.id.to_string(), mode: entry.mode.octal().to_owned() }
}

/// Computes the fingerprint of the file on disk. Returns `None` if there is none.
pub fn fingerprint_file(repo: &Repo, on_disk: &Path) -> Result<Option<Fingerprint>> {
    let Some(content) = read_raw_file(on_disk)? else { return Ok(None) };
    let meta = on_disk
        .symlink_metadata()
        .with_context(|| format!("cannot inspect `{}`", on_disk.display()))?;
    let mode = if meta.is_symlink() {
        FileMode::Symlink
    } else if is_executable(&meta) {
        FileMode::Executable
    } else {
        FileMode::File
    };
    Ok(Some(fingerprint_entry(TreeEntry { mode, id: repo.blob_id(&content)? })))
}
