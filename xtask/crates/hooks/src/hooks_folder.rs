//! The folder in which git looks for hooks, and the files in it. Read-only.
//!
//! ```text
//! .git/hooks/pre-commit  ->  HookFileState::Foreign (the user's hook), or HookFileState::Shim
//! ```

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Hook;
use super::shim::{
    KEPT, ProgramLocation, belongs_to_program, calls_program, is_xtask_shim, render_shim,
};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_git::{HooksFolder, HooksPathScope, Repo};

/// The kind of file at the name of a hook, under its name in `xtask.hooks/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HookFileState {
    /// No file.
    #[serde(rename = "missing")]
    Absent,
    /// The current shim, unmodified and executable.
    #[serde(rename = "installed")]
    Shim,
    /// A shim of another version, or one that was edited or is not executable.
    #[serde(rename = "old or changed by hand")]
    ChangedShim,
    /// A hook of another origin.
    #[serde(rename = "somebody else's")]
    Foreign,
    /// A hook of another origin that calls the program itself or runs our shim under another name.
    #[serde(rename = "somebody else's, and starts xtask by itself")]
    CallsProgram,
    /// A folder or a special file.
    #[serde(rename = "not a file")]
    NotAFile,
}

/// The folder for hooks, with the reason against installing shims there, if any.
#[derive(Clone, Debug)]
pub struct InstallTarget {
    pub folder: HooksFolder,
    /// The reason against an installation.
    pub refusal: Option<String>,
    /// Whether `--force` does not help, because git runs no hook from this folder.
    pub is_unusable: bool,
}

/// Finds the folder in which git looks for hooks, and reasons against installing shims there.
pub fn find_install_target(repo: &Repo) -> Result<InstallTarget> {
    let folder = repo.hooks_folder()?;
    let shown = folder.path.display();
    let by = folder.scope.describe();
    let real = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
    let common = real_path(repo.common_folder());
    let trees = repo.list_worktrees()?;
    let is_in = |root: &Path| real.starts_with(root) && !real.starts_with(&common);
    let is_in_worktree = is_in(repo.root()) || trees.iter().any(|tree| is_in(&tree.root));
    let is_hopeless = [Path::new("/dev/null"), Path::new("/")].contains(&&*folder.path);
    let refusal = if folder.path == Path::new("/dev/null") {
        Some(format!("{by} disables all hooks (`core.hooksPath` is `/dev/null`)"))
    } else if folder.path == Path::new("/") {
        Some(format!(
            "{by} sets `core.hooksPath` to `/` or an empty value, so git looks for `/pre-commit`"
        ))
    } else if let Some(other) = find_foreign_git_folder(&real, &common) {
        Some(format!(
            "{by} sets `core.hooksPath` to a folder of another repository, `{}` (`{shown}`, as in a \
             copied clone); its hooks would be replaced",
            other.display()
        ))
    } else if matches!(folder.scope, HooksPathScope::User | HooksPathScope::System) {
        Some(format!(
            "{by} sets `core.hooksPath` to `{shown}` for every repository; shims of this \
             repository would run in all of them"
        ))
    } else if folder.scope == HooksPathScope::Command {
        Some(format!("`core.hooksPath` is set by {by}, for this run only"))
    } else if is_in_worktree {
        Some(format!(
            "git looks for hooks in `{shown}`, inside the worktree; shims there would change with every \
             checkout"
        ))
    } else {
        None
    };
    Ok(InstallTarget { folder, refusal, is_unusable: is_hopeless })
}

/// Returns the git folder of another repository that contains `folder`, if there is one.
fn find_foreign_git_folder(folder: &Path, common: &Path) -> Option<PathBuf> {
    let is_git_folder = |path: &&Path| {
        path.join("HEAD").symlink_metadata().is_ok()
            && path.join("objects").is_dir()
            && path.join("refs").is_dir()
    };
    let found = folder.ancestors().find(is_git_folder)?;
    (found != common).then(|| found.to_path_buf())
}

fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Returns how a shim in `folder` finds the program.
#[must_use]
pub fn locate_program(repo: &Repo, folder: &Path) -> ProgramLocation {
    let common = real_path(repo.common_folder());
    if real_path(folder) == common.join("hooks") {
        ProgramLocation::InGitFolder
    } else {
        ProgramLocation::Path(real_path(&common).join("xtask/bin/xtask"))
    }
}

/// Returns the absolute path of the program.
pub(super) fn absolute_program_path(folder: &Path, program: &ProgramLocation) -> PathBuf {
    match program {
        ProgramLocation::Path(path) => path.clone(),
        ProgramLocation::InGitFolder => {
            let hooks = real_path(folder);
            hooks.parent().unwrap_or(&hooks).join("xtask/bin/xtask")
        }
    }
}

/// Inspects the file at the name of `hook`. Returns an error if it cannot be read.
pub fn inspect_hook(folder: &Path, hook: Hook, program: &ProgramLocation) -> Result<HookFileState> {
    let path = folder.join(hook.name());
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(cause) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&cause.kind()) => {
            return Ok(HookFileState::Absent);
        }
        Err(cause) => {
            let what = format!("cannot inspect `{}`", path.display());
            return Err(Error::unable(what).with_cause(cause));
        }
    };
    if !meta.is_file() && !meta.is_symlink() {
        return Ok(HookFileState::NotAFile);
    }
    if meta.is_symlink() && !path.is_file() {
        return Ok(if path.exists() { HookFileState::NotAFile } else { HookFileState::Foreign });
    }
    let content = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    if !is_xtask_shim(&content)
        && (calls_program(&content, hook, &absolute_program_path(folder, program))
            || find_moved_shims(folder, hook, program)?
                .iter()
                .any(|aside| is_run_by(&content, aside)))
    {
        return Ok(HookFileState::CallsProgram);
    }
    Ok(if !is_xtask_shim(&content) || meta.is_symlink() || !belongs_to_program(&content, program) {
        HookFileState::Foreign
    } else if content == render_shim(hook, program).as_bytes() && meta.mode() & 0o111 != 0 {
        HookFileState::Shim
    } else {
        HookFileState::ChangedShim
    })
}

/// Returns the second name of a hook that existed before the installation, e.g. `pre-commit.pre-xtask`.
#[must_use]
pub fn kept_hook_path(folder: &Path, hook: Hook) -> PathBuf {
    folder.join(format!("{}{KEPT}", hook.name()))
}

/// The suffix of a shim that is not in place yet.
pub(super) const NEW_SUFFIX: &str = ".xtask-new";

/// Finds our shims that other managers have moved aside, under names such as `pre-commit.old`. A hook that runs such a
/// shim must not be moved aside in turn: the two would call each other endlessly.
pub(super) fn find_moved_shims(
    folder: &Path,
    hook: Hook,
    program: &ProgramLocation,
) -> Result<Vec<PathBuf>> {
    let is_shim =
        |content: Vec<u8>| is_xtask_shim(&content) && belongs_to_program(&content, program);
    let failed = || format!("cannot read `{}`", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_aside = name.starts_with(&format!("{}.", hook.name()))
            && !name.ends_with(KEPT)
            && !name.ends_with(NEW_SUFFIX);
        if is_aside && path.is_file() && fs::read(&path).is_ok_and(is_shim) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns whether a hook runs the file that was moved aside: it mentions the name of that file, or belongs to a
/// manager that runs moved hooks without naming them.
pub(super) fn is_run_by(content: &[u8], aside: &Path) -> bool {
    let text = String::from_utf8_lossy(content);
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let names_it = |line: &str| !line.trim_start().starts_with('#') && line.contains(&*name);
    text.lines().any(names_it) || name.ends_with(".legacy") && runs_legacy(content)
}

/// Returns whether a hook belongs to a manager that runs an existing `.legacy` hook: the migration mode of
/// `pre-commit` and `prek`.
pub(super) fn runs_legacy(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    ["File generated by pre-commit", "File generated by prek"]
        .iter()
        .any(|words| text.contains(words))
}

/// Returns the folders that may contain shims of this repository: the one that git uses now, and `hooks` in the git
/// folder.
pub fn list_hooks_folders(repo: &Repo) -> Result<Vec<PathBuf>> {
    let mut folders = vec![repo.hooks_folder()?.path, repo.common_folder().join("hooks")];
    folders.retain(|folder| folder.is_dir());
    folders.dedup_by(|one, two| real_path(one) == real_path(two));
    Ok(folders)
}
