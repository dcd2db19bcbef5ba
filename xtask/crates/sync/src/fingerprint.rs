//! What tells a file from another, read from disk.

use std::path::Path;

use super::journal::Fingerprint;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::files::is_executable;
use xtask_git::{FileMode, Repo, TreeEntry, read_raw_file};

/// The print of a file that has this content and kind.
#[must_use]
pub fn fingerprint_entry(entry: TreeEntry) -> Fingerprint {
    Fingerprint { raw: entry.id.to_string(), mode: entry.mode.octal().to_owned() }
}

/// What is at a path on disk: its very bytes and kind.
pub fn fingerprint_file(repo: &Repo, on_disk: &Path) -> Result<Option<Fingerprint>> {
    let Some(content) = read_raw_file(on_disk)? else { return Ok(None) };
    let meta = on_disk
        .symlink_metadata()
        .with_context(|| format!("`{}` cannot be looked at", on_disk.display()))?;
    let mode = if meta.is_symlink() {
        FileMode::Symlink
    } else if is_executable(&meta) {
        FileMode::Executable
    } else {
        FileMode::File
    };
    Ok(Some(fingerprint_entry(TreeEntry { mode, id: repo.blob_id(&content)? })))
}
