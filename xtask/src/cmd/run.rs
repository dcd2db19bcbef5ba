//! `run`: runs the canonical version of a managed script without syncing it into the branch, e.g. `run scripts/ci`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::CommandResult;
use super::session::Session;
use crate::cli::RunArgs;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::process::Program;
use xtask_git::{FileMode, PathScope, Repo};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::export::export_canonical_files;
use xtask_sync::managed::ManagedPaths;

pub(super) fn run(session: &Session, args: &RunArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let managed = ManagedPaths::new(&context.config, None);
    let (typed, arguments) = args.command.split_first().expect("because clap asks for one");
    let script = resolve_script(session, &repo, &context, typed)?;
    if !managed.contains_path(script.as_bytes()) {
        return Err(Error::usage(format!("`{script}` is not managed"))
            .with_hint("use its path from the current folder or from the root of the repository"));
    }
    let Some(entry) = repo.entry_at(context.canonical.tree, &script)? else {
        return Err(Error::usage(format!("`{}` has no `{script}`", context.config.branch)));
    };
    let folder = export_canonical_files(&repo, &context, &managed, session.tools().disk)?;
    let file = script.to_disk_path(&folder);
    let program = match (entry.mode, parse_interpreter(&repo.read_blob(entry.id)?)) {
        (FileMode::Executable, _) => Program::new(&file, &session.world.cwd),
        (FileMode::File, Some(line)) => {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            Program::new(name, &session.world.cwd).args(words).args([&file])
        }
        _ => {
            return Err(Error::usage(format!("cannot run `{script}`"))
                .with_hint("make it executable, or begin it with `#!`"));
        }
    };
    Err(program.args(arguments).env("XTASK_ROOT", repo.root()).exec())
}

/// Returns the path of the script: `typed` from the root of the repository if it exists there, else from the current
/// folder.
fn resolve_script(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    typed: &OsStr,
) -> Result<RepoPath> {
    let bytes = typed.as_bytes();
    let from_root = RepoPath::new(bytes.strip_prefix(b"./").unwrap_or(bytes));
    if repo.entry_at(context.canonical.tree, &from_root)?.is_some() {
        return Ok(from_root);
    }
    match session.repo_path(repo, typed) {
        Ok(here) if repo.entry_at(context.canonical.tree, &here)?.is_some() => Ok(here),
        _ => Ok(from_root),
    }
}

/// Returns the interpreter line of a script, e.g. `/bin/sh -e` for `#!/bin/sh -e`.
fn parse_interpreter(content: &[u8]) -> Option<String> {
    let line = content.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8(line.to_vec()).ok()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}
