//! Export of a tree's files to a folder of our own, as a checkout would write them.

use std::path::Path;

use super::{FileMode, Id, PathScope, Repo, unsafe_path_reason};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};

impl Repo {
    /// Writes the files of `tree` in `scope` below `folder`, with smudge filters applied.
    /// Submodules are skipped.
    pub fn export_tree(
        &self,
        tree: Id,
        scope: &dyn PathScope,
        folder: &Path,
        disk: &Disk<'_>,
    ) -> Result<()> {
        let failed = || format!("cannot export the files of a commit to `{}`", folder.display());
        let index = self.index_of_tree(tree)?;
        let mut filters = self.smudge_filters(&index)?;
        for (path, entry) in self.list_tree(tree, scope)? {
            if entry.mode == FileMode::Gitlink {
                continue;
            }
            if let Some(why) = unsafe_path_reason(&path) {
                return Err(Error::unable(format!("cannot export `{path}`: {why}")));
            }
            let target = path.to_disk_path(folder);
            let parent = target.parent().unwrap_or(Path::new("."));
            // No parent folder is a symlink: a tree cannot hold a symlink and a folder of the same
            // name.
            std::fs::create_dir_all(parent).with_context(failed)?;
            let content = self.read_blob(entry.id)?;
            match entry.mode {
                FileMode::Symlink => {
                    use std::os::unix::ffi::OsStrExt;
                    let link = Path::new(std::ffi::OsStr::from_bytes(&content));
                    disk.create_symlink(link, &target).with_context(failed)?;
                }
                FileMode::Executable => {
                    let content = filters.smudge(&path, &content)?;
                    disk.create_file(&target, &content, CreateMode::Executable)
                        .with_context(failed)?;
                }
                FileMode::File | FileMode::Gitlink => {
                    let content = filters.smudge(&path, &content)?;
                    disk.create_file(&target, &content, CreateMode::Plain).with_context(failed)?;
                }
            }
        }
        Ok(())
    }
}
