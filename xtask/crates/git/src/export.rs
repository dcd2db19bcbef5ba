//! The files of a tree, laid out in a folder of ours as a checkout would.

use std::path::Path;

use super::{Id, Mode, Repo, Scope, unsafe_name};
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::files::{Bits, Disk};

impl Repo {
    /// Writes the files of a tree that are in scope below a folder of ours, as a checkout would.
    pub fn export_tree(
        &self,
        tree: Id,
        scope: &dyn Scope,
        folder: &Path,
        disk: &Disk<'_>,
    ) -> Result<()> {
        let failed =
            || format!("the files of a commit cannot be laid out in `{}`", folder.display());
        let index = self.index_of_tree(tree)?;
        let mut filters = self.smudge_filters(&index)?;
        for (path, entry) in self.list_tree(tree, scope)? {
            if entry.mode == Mode::Gitlink {
                continue;
            }
            if let Some(why) = unsafe_name(&path) {
                return Err(Error::unable(format!("`{path}` cannot be laid out: {why}")));
            }
            let target = path.on_disk(folder);
            let parent = target.parent().unwrap_or(Path::new("."));
            // No part of the way is a symlink: a tree cannot hold a symlink and a folder of one name.
            std::fs::create_dir_all(parent).unable(failed)?;
            let content = self.blob(entry.id)?;
            match entry.mode {
                Mode::Symlink => {
                    use std::os::unix::ffi::OsStrExt;
                    let link = Path::new(std::ffi::OsStr::from_bytes(&content));
                    disk.symlink(link, &target).unable(failed)?;
                }
                Mode::Executable => {
                    let content = filters.smudge(&path, &content)?;
                    disk.create(&target, &content, Bits::Executable).unable(failed)?;
                }
                Mode::File | Mode::Gitlink => {
                    let content = filters.smudge(&path, &content)?;
                    disk.create(&target, &content, Bits::Plain).unable(failed)?;
                }
            }
        }
        Ok(())
    }
}
