//! The staged state, checked out for the checks that run before a commit.
//!
//! If the worktree equals the index, checks run in the worktree. Otherwise the index is exported to a folder
//! of its own, so that unstaged and untracked files have no influence. Worktree and index are never touched.
//!
//! The folder is below `$TMPDIR`, e.g. `/tmp/xtask-staged-1000-9f86d081884c7d65`, readable by its owner
//! alone. Below the git folder, tools that skip any `.git` would skip it, and a git started in it would find
//! this repository and its worktree.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plan::CheckSelection;
use super::session::CheckLocation;
use xtask_base::digest;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::lock::Lock;
use xtask_base::path::RepoPath;
use xtask_config::{CheckKind, FileRule, ValidateConfig};
use xtask_git::{Id, Repo, Tools};

/// The longest wait for the checks of another commit in the same worktree.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// The end of the name of the folder for single files.
const FILES_SUFFIX: &str = "-files";

/// The content on which checks of a hook run.
#[derive(Clone, Copy, Debug)]
pub enum TreeSource<'a> {
    /// An index, e.g. the one that is being committed.
    Index(&'a Path),
    /// A commit, e.g. the one that is being pushed.
    Commit(Id),
}

impl TreeSource<'_> {
    /// The end of the name of the folder: a commit and a push do not wait for each other.
    fn suffix(self) -> &'static str {
        match self {
            TreeSource::Index(_) => "",
            TreeSource::Commit(_) => "-push",
        }
    }

    /// Whether the worktree has exactly this content.
    fn is_in_worktree(self, repo: &Repo) -> Result<bool> {
        match self {
            TreeSource::Index(index) => repo.is_worktree_as_staged(index),
            TreeSource::Commit(commit) => {
                let index = repo.index_file();
                let is_head = repo.head()?.commit == commit;
                Ok(is_head
                    && repo.staged_changes(&index, Some(repo.tree_of(commit)?))?.is_empty()
                    && repo.is_worktree_as_staged(&index)?)
            }
        }
    }
}

/// Chooses the location of a hook's checks, exporting the content if the worktree differs from it or `exports` is set.
/// The `Lock` must be held while they run: it keeps others from exporting to the same folder.
pub fn prepare_location(
    repo: &Repo,
    source: TreeSource<'_>,
    tools: &Tools<'_>,
    exports: bool,
) -> Result<(CheckLocation, Option<Lock>)> {
    if !exports && source.is_in_worktree(repo)? {
        return Ok((CheckLocation::Worktree, None));
    }
    let folder = create_folder(&staged_folder(repo.root(), tools, source.suffix()))?;
    let who = format!("pid {}", std::process::id());
    let lock =
        Lock::acquire(&folder.join("lock"), &who, LOCK_WAIT, |holder| (tools.on_wait)(holder))?;
    let files = match source {
        TreeSource::Index(index) => repo.export_staged(tools.disk, index, &folder)?,
        TreeSource::Commit(commit) => {
            let index = folder.join("index-pushed");
            repo.write_index_of_commit(tools.disk, commit, &index)?;
            repo.export_staged(tools.disk, &index, &folder)?
        }
    };
    let tree = folder.join("tree");
    link_environments(repo, tools, &tree, &files)?;
    // Backups of earlier fixes, which were staged or given up.
    let fixes = fixes_folder_of(&tree);
    tools
        .disk
        .remove_folder(&fixes)
        .with_context(|| format!("cannot remove `{}`", fixes.display()))?;
    Ok((CheckLocation::Exported(tree, files), Some(lock)))
}

/// Whether all selected checks are about single files alone, or about no files: then nothing but these files has to be
/// there for them.
#[must_use]
pub fn are_about_single_files(config: &ValidateConfig, selection: &[CheckSelection]) -> bool {
    let is_in =
        |chosen: &CheckSelection| matches!(chosen, CheckSelection::Yes | CheckSelection::For(_));
    let selected = config.checks.iter().zip(selection).filter(|(_, chosen)| is_in(chosen));
    selected.map(|(check, _)| check).all(|check| {
        let is_single = match &check.kind {
            // A symlink is broken or not by what is beside it.
            CheckKind::FileRules { rules, .. } => !rules.contains(&FileRule::BrokenSymlinks),
            CheckKind::Tool { .. }
            | CheckKind::EnvVar(_)
            | CheckKind::Disk(_)
            | CheckKind::PortFree(_)
            | CheckKind::GitIdentity
            | CheckKind::Hooks => true,
            CheckKind::Run(_) | CheckKind::File(_) | CheckKind::Sync | CheckKind::Branches => false,
        };
        is_single && check.inputs.is_empty()
    })
}

/// Exports these files of an index alone. The `Lock` must be held while checks run on them.
pub fn prepare_files(
    repo: &Repo,
    index: &Path,
    tools: &Tools<'_>,
    paths: &BTreeSet<RepoPath>,
) -> Result<(CheckLocation, Lock)> {
    let folder = create_folder(&staged_folder(repo.root(), tools, FILES_SUFFIX))?;
    let who = format!("pid {}", std::process::id());
    let lock =
        Lock::acquire(&folder.join("lock"), &who, LOCK_WAIT, |holder| (tools.on_wait)(holder))?;
    let files = repo.export_some(tools.disk, index, &folder, paths)?;
    let tree = folder.join("tree");
    let fixes = fixes_folder_of(&tree);
    tools
        .disk
        .remove_folder(&fixes)
        .with_context(|| format!("cannot remove `{}`", fixes.display()))?;
    Ok((CheckLocation::Exported(tree, files), lock))
}

/// Returns the folder for the backups of fixes in the exported files `tree`.
pub(super) fn fixes_folder_of(tree: &Path) -> PathBuf {
    tree.with_file_name("fixes")
}

/// Files beside which package managers install an environment, and the names of its folder.
const ENVIRONMENTS: [(&str, &[&str]); 4] = [
    ("package.json", &["node_modules"]),
    ("pyproject.toml", &[".venv", "venv"]),
    ("requirements.txt", &[".venv", "venv"]),
    ("setup.py", &[".venv", "venv"]),
];

/// Links the installed packages of the worktree into the exported tree: they are no content of a commit, and without
/// them hardly a linter starts.
fn link_environments(
    repo: &Repo,
    tools: &Tools<'_>,
    tree: &Path,
    files: &[RepoPath],
) -> Result<()> {
    for file in files {
        let name = file.file_name();
        let Some((_, folders)) = ENVIRONMENTS.iter().find(|(known, _)| known.as_bytes() == name)
        else {
            continue;
        };
        for folder in *folders {
            let installed = file.to_disk_path(repo.root()).with_file_name(folder);
            let link = file.to_disk_path(tree).with_file_name(folder);
            if installed.is_dir() && link.symlink_metadata().is_err() {
                tools
                    .disk
                    .create_symlink(&installed, &link)
                    .with_context(|| format!("cannot link `{}`", installed.display()))?;
            }
        }
    }
    Ok(())
}

/// Removes the exported files of the worktree at `root`.
pub fn remove_export(root: &Path, tools: &Tools<'_>) -> Result<()> {
    for suffix in ["", "-push", FILES_SUFFIX] {
        let folder = staged_folder(root, tools, suffix);
        if is_own_folder(&folder) {
            let removed = tools.disk.remove_folder(&folder);
            removed.with_context(|| format!("cannot remove `{}`", folder.display()))?;
        }
    }
    Ok(())
}

/// Whether `folder` is a folder that belongs to this user and is accessible to no other user.
fn is_own_folder(folder: &Path) -> bool {
    let user = rustix::process::getuid().as_raw();
    let meta = std::fs::symlink_metadata(folder);
    meta.is_ok_and(|meta| meta.is_dir() && meta.uid() == user && meta.mode() & 0o077 == 0)
}

fn staged_folder(root: &Path, tools: &Tools<'_>, suffix: &str) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let temp = tools.world.variable("TMPDIR").unwrap_or("/tmp");
    let name = digest::to_hex(&digest::hash_parts([root.as_os_str().as_bytes()])[..8]);
    let user = rustix::process::getuid().as_raw();
    PathBuf::from(temp).join(format!("xtask-staged-{user}-{name}{suffix}"))
}

/// Creates a private temporary folder.
fn create_folder(folder: &Path) -> Result<PathBuf> {
    let failed = || format!("cannot create the folder `{}`", folder.display());
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
            // Any user can create a folder in `$TMPDIR`, so an existing one is used only if this user must
            // have made it.
            if !is_own_folder(folder) {
                return Err(Error::unable(format!(
                    "`{}` is not a private folder of this user",
                    folder.display()
                ))
                .with_hint("remove it, or set TMPDIR to a folder of your own"));
            }
        }
        Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
    }
    folder.canonicalize().with_context(failed)
}
