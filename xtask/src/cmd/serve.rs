//! `serve`: runs one of the built-in services in the foreground until it is killed; the supervisor starts it, e.g. as
//! `serve api --port 8100`.

use super::CommandResult;
use super::session::Session;
use crate::cli::{ServeArgs, ServeTarget};
use xtask_base::error::{Error, Result};
use xtask_services::builtin_services::{BuiltinService, serve_builtin};

pub(super) fn run(session: &Session, args: &ServeArgs) -> CommandResult {
    let what = match args.what {
        ServeTarget::Page => BuiltinService::Page,
        ServeTarget::Api => BuiltinService::Api,
    };
    let Some(port) = resolve_port(session, args.port, "XTASK_PORT")? else {
        return Err(Error::usage(format!("no port given for the {}", what.name()))
            .with_hint("`--port N`, or the variable `XTASK_PORT`"));
    };
    let status = resolve_port(session, args.status, "XTASK_STATUS_PORT")?;
    let serving = serve_builtin(what, port, status, &project_name(session))
        .map_err(|failure| failure.with_hint("`--port N` takes another port"))?;
    session.print_info(&format!("{} on http://localhost:{}", what.name(), serving.port()));
    loop {
        std::thread::park();
    }
}

/// Returns the `given` port, or else that of `variable`.
fn resolve_port(session: &Session, given: Option<u16>, variable: &str) -> Result<Option<u16>> {
    let said = session.world.variable(variable);
    let Some(text) = said.filter(|_| given.is_none()) else { return Ok(given) };
    let port = text.parse().map_err(|_| {
        Error::usage(format!("invalid port in the variable `{variable}`: `{text}`"))
            .with_hint("expected a number from 1 to 65535")
    })?;
    Ok(Some(port))
}

/// Returns the name of the project, which is that of its root folder.
fn project_name(session: &Session) -> String {
    // The folder need not be a repository.
    let root =
        session.open_repo().map_or_else(|_| session.world.cwd.clone(), |it| it.root().into());
    let name = root.file_name().unwrap_or(root.as_os_str());
    name.to_string_lossy().into_owned()
}
