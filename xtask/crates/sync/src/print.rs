//! What tells a file from another, read from disk.

use std::path::Path;

use super::journal::Print;
use xtask_base::error::{Context as _, Result};
use xtask_base::files::is_executable;
use xtask_git::{Entry, Mode, Repo, read_raw};

/// The print of a file that has this content and kind.
#[must_use]
pub fn print_of(entry: Entry) -> Print {
    Print { raw: entry.id.to_string(), mode: entry.mode.octal().to_owned() }
}

/// What is at a path on disk: its very bytes and kind.
pub fn print_at(repo: &Repo, on_disk: &Path) -> Result<Option<Print>> {
    let Some(content) = read_raw(on_disk)? else { return Ok(None) };
    let meta = on_disk
        .symlink_metadata()
        .unable(|| format!("`{}` cannot be looked at", on_disk.display()))?;
    let mode = if meta.is_symlink() {
        Mode::Symlink
    } else if is_executable(&meta) {
        Mode::Executable
    } else {
        Mode::File
    };
    Ok(Some(print_of(Entry { mode, id: repo.blob_id(&content)? })))
}
