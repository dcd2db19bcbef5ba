//! `dashboard`: shows drift, checks, services, deploys, branches, hooks and backups on one page, served on loopback or
//! written to a file.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::DashboardArgs;
use crate::dashboard::render::render_target;
use crate::dashboard::render_file;
use crate::dashboard::server::{DashboardPort, bind_port, serve};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::process::Program;
use xtask_base::words::format_size;
use xtask_git::Repo;
use xtask_report as report;

/// Programs that open an address in a browser, in the order in which they are tried.
const OPENERS: [&str; 3] = ["xdg-open", "open", "wslview"];

pub(super) fn run(session: &Session, args: &DashboardArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if let Some(target) = &args.render {
        let page = render_target(&repo, target, args.remote, &session.tools());
        report::print_output(&format!("{}\n{}", page.status, page.html))?;
        return Ok(SUCCESS);
    }
    match &args.html {
        Some(file) => write_page(session, &repo, args, file),
        None => serve_pages(session, &repo, args),
    }
}

fn write_page(session: &Session, repo: &Repo, args: &DashboardArgs, file: &Path) -> CommandResult {
    if file == Path::new("-") {
        report::print_output(&render_file(repo, args.remote, &session.tools()))?;
        return Ok(SUCCESS);
    }
    let file = session.world.cwd.join(file);
    check_target(&file)?;
    let page = render_file(repo, args.remote, &session.tools());
    Disk::real()
        .write_atomically(&file, page.as_bytes())
        .with_context(|| format!("cannot write `{}`", file.display()))?;
    session.print_info(&format!("{} written, {}", file.display(), format_size(page.len() as u64)));
    Ok(SUCCESS)
}

/// Checks where the page is to be written before it is made.
fn check_target(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    match std::fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(Error::usage(format!("`{}` is not a folder", folder.display()))),
        Err(cause) if cause.kind() == IoErrorKind::NotFound => {
            return Err(Error::usage(format!("there is no folder `{}`", folder.display()))
                .with_hint("create it first (`mkdir -p`)"));
        }
        Err(cause) => {
            return Err(
                Error::unable(format!("cannot read `{}`", folder.display())).with_cause(cause)
            );
        }
    }
    match std::fs::symlink_metadata(file) {
        Ok(meta) if !meta.is_file() => {
            Err(Error::usage(format!("`{}` is not a regular file", file.display()))
                .with_hint("`--html FILE` names the file to write, `--html -` is stdout"))
        }
        _ => Ok(()),
    }
}

fn serve_pages(session: &Session, repo: &Repo, args: &DashboardArgs) -> CommandResult {
    let bound = bind_port(&repo.folders(), args.port, args.remote)?;
    let (server, port) = match bound {
        DashboardPort::Bound(server) => {
            let port = server.port();
            (Some(server), port)
        }
        DashboardPort::Running(port) => (None, port),
    };
    let address = format!("http://localhost:{port}/");
    report::print_output(&format!("{address}\n"))?;
    if args.open {
        open_browser(session, &address);
    }
    let Some(server) = server else {
        session.print_info("the dashboard of this worktree runs there already");
        return Ok(SUCCESS);
    };
    session.print_info(
        "the dashboard ends with Ctrl-C, with its terminal, or after `--idle` without a visitor",
    );
    let folders = repo.folders();
    serve(server, folders, &session.world, args.remote, args.idle)?;
    session.print_info("nobody has visited the dashboard; it has ended");
    Ok(SUCCESS)
}

/// Opens an address in a browser: by `BROWSER`, or what the system has for it.
fn open_browser(session: &Session, address: &str) {
    let named = session.world.variable("BROWSER").map(str::to_owned);
    let found = OPENERS.iter().find_map(|name| session.world.find_program(name));
    let program = named.map(Into::into).or(found);
    let opened =
        program.map(|program| Program::run_detached(&program, &session.world.cwd, &[address]));
    match opened {
        Some(Ok(())) => {}
        Some(Err(failure)) => report::print_warning(&format!("cannot open a browser: {failure}")),
        None => {
            report::print_warning("cannot open a browser: no `xdg-open`, and `BROWSER` is not set")
        }
    }
}
