//! `run`: the canonical version of a managed script, without syncing it into the branch.

use std::os::unix::ffi::OsStrExt;

use super::Exit;
use super::session::Session;
use crate::base::error::{Error, Kind};
use crate::base::path::RepoPath;
use crate::base::process::Program;
use crate::cli::Run;
use crate::repo::{Mode, Scope};
use crate::report;
use crate::sync::context;
use crate::sync::export::export;
use crate::sync::managed::Managed;

pub(super) fn run(session: &Session, args: &Run) -> Exit {
    let repo = session.repo()?;
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let typed = args.script.as_bytes();
    let script = RepoPath::new(typed.strip_prefix(b"./").unwrap_or(typed));
    let managed = Managed::new(&context.config, None);
    if !managed.holds(script.as_bytes()) {
        return Err(Error::usage(format!("`{script}` is not managed"))
            .hint("name it as it is called from the root of the repository"));
    }
    let Some(entry) = repo.entry_at(context.canonical.tree, &script)? else {
        return Err(Error::usage(format!("`{}` has no `{script}`", context.config.branch)));
    };
    let folder = export(&repo, &context, &managed, session.tools().disk)?;
    let file = script.on_disk(&folder);
    let program = match (entry.mode, interpreter(&repo.blob(entry.id)?)) {
        (Mode::Executable, _) => Program::new(&file, &session.world.cwd),
        (Mode::File, Some(line)) => {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            Program::new(name, &session.world.cwd).args(words).args([&file])
        }
        _ => {
            return Err(Error::usage(format!("`{script}` cannot be run"))
                .hint("it is neither executable nor does it begin with `#!`"));
        }
    };
    let status =
        program.args(&args.arguments).variable("XTASK_ROOT", repo.root()).run_attached()?;
    // A script that was ended by a signal has no code of its own.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(Kind::Interrupted.code()))
}

/// What stands after `#!` in the first line.
fn interpreter(content: &[u8]) -> Option<String> {
    let line = content.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8(line.to_vec()).ok()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}
