//! `serve`: one of the small services that come with the toolkit, in the foreground. The supervisor
//! starts it; it ends as any program does that is told to.

use super::Exit;
use super::session::Session;
use crate::cli::{Serve, Served};
use xtask_base::error::{Error, Result};
use xtask_services::embedded::{Embedded, serve};

pub(super) fn run(session: &Session, args: &Serve) -> Exit {
    let what = match args.what {
        Served::Page => Embedded::Page,
        Served::Api => Embedded::Api,
    };
    let Some(port) = port_of(session, args.port, "XTASK_PORT")? else {
        return Err(Error::usage(format!("there is no port for the {}", what.name()))
            .hint("`--port N`, or the variable `XTASK_PORT`"));
    };
    let status = port_of(session, args.status, "XTASK_STATUS_PORT")?;
    let serving = serve(what, port, status, &project(session))
        .map_err(|failure| failure.hint("`--port N` takes another port"))?;
    session.story(&format!("{} on http://localhost:{}", what.name(), serving.port()));
    loop {
        std::thread::park();
    }
}

/// The port that was given, or else that of a variable.
fn port_of(session: &Session, given: Option<u16>, variable: &str) -> Result<Option<u16>> {
    let said = session.world.variable(variable);
    let Some(text) = said.filter(|_| given.is_none()) else { return Ok(given) };
    let port = text.parse().map_err(|_| {
        Error::usage(format!("the variable `{variable}` is `{text}`, which is no port"))
            .hint("a port is a number from 1 to 65535")
    })?;
    Ok(Some(port))
}

/// The name of the project: that of its folder.
fn project(session: &Session) -> String {
    // It need not be a repository.
    let root = session.repo().map_or_else(|_| session.world.cwd.clone(), |it| it.root().into());
    let name = root.file_name().unwrap_or(root.as_os_str());
    name.to_string_lossy().into_owned()
}
