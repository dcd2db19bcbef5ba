//! `dashboard`: shows drift, checks, services, deploys, branches, hooks and backups on one page, served on loopback or
//! written to a file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::DashboardArgs;
use crate::dashboard::render::render_target;
use crate::dashboard::server::{DashboardPort, bind_port, serve};
use crate::dashboard::{GENERATOR, render_file};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::process::{ACTIVE_VAR, Program};
use xtask_base::words::format_size;
use xtask_base::worktree_paths::WorktreePaths;
use xtask_git::Repo;
use xtask_report::{self as report, Verbosity};
#[cfg(feature = "services")]
use xtask_services::client::find_supervisor_program;

/// Programs that open an address in a browser, in the order in which they are tried.
const OPENERS: [&str; 3] = ["xdg-open", "open", "wslview"];

pub(super) fn run(session: &Session, args: &DashboardArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if let Some(target) = &args.render {
        let page = render_target(&repo, target, args.remote, &session.tools());
        report::print_file(format!("{}\n{}", page.status, page.html).as_bytes())?;
        return Ok(SUCCESS);
    }
    match &args.html {
        Some(file) => write_page(session, &repo, args, file),
        None => become_server(session, &repo, args),
    }
}

fn write_page(session: &Session, repo: &Repo, args: &DashboardArgs, file: &Path) -> CommandResult {
    if file == Path::new("-") {
        report::print_file(render_file(repo, args.remote, &session.tools()).as_bytes())?;
        return Ok(SUCCESS);
    }
    let file = session.world.cwd.join(file);
    check_target(&file)?;
    let page = render_file(repo, args.remote, &session.tools());
    Disk::real()
        .write_keeping_permissions(&file, page.as_bytes())
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
        Ok(meta) if meta.is_file() && meta.len() > 0 && !is_page(file)? => Err(Error::usage(
            format!("`{}` exists and was not written by `cargo xtask dashboard`", file.display()),
        )
        .with_hint("choose another name, or remove it first: it would be replaced")),
        Ok(meta) if !meta.is_file() => {
            Err(Error::usage(format!("`{}` is not a regular file", file.display()))
                .with_hint("`--html FILE` names the file to write, `--html -` is stdout"))
        }
        _ => Ok(()),
    }
}

/// Returns whether a file begins as the pages that this command writes.
fn is_page(file: &Path) -> Result<bool> {
    let mut beginning = Vec::new();
    let read = File::open(file).and_then(|open| open.take(4096).read_to_end(&mut beginning));
    read.with_context(|| format!("cannot read `{}`", file.display()))?;
    Ok(String::from_utf8_lossy(&beginning).contains(GENERATOR))
}

/// Becomes the server: a small program that has read no repository, as long as it runs.
fn become_server(session: &Session, repo: &Repo, args: &DashboardArgs) -> CommandResult {
    let folders = repo.folders();
    let options = ServerOptions {
        port: args.port,
        remote: args.remote,
        idle_ms: u64::try_from(args.idle.as_millis()).unwrap_or(u64::MAX),
        open: args.open,
        quiet: session.verbosity == Verbosity::Quiet,
    };
    let options = serde_json::to_string(&options).expect("because it holds words and numbers");
    let toolkit = &session.world.program;
    let places = [&folders.root, &folders.git_dir, &folders.common_dir, toolkit];
    Err(Program::new(find_server_program(&session.world), &session.world.cwd)
        .env_remove(ACTIVE_VAR)
        .args([WORD])
        .args(places)
        .args([options])
        .exec())
}

/// Returns the program that serves: that of the supervisor, which is smaller, if there is one.
fn find_server_program(world: &Environment) -> PathBuf {
    #[cfg(feature = "services")]
    if let Some(program) = find_supervisor_program(world) {
        return program;
    }
    world.program.clone()
}

/// The word of the internal command that serves.
pub(super) const WORD: &str = "dashboard-server";

/// What the internal command gets, besides the folders of the worktree and the program of the toolkit.
#[derive(Serialize, Deserialize)]
struct ServerOptions {
    port: Option<u16>,
    remote: bool,
    idle_ms: u64,
    open: bool,
    quiet: bool,
}

/// Runs the internal command: serves until the dashboard ends.
pub(super) fn run_server(world: &Environment, args: &[OsString]) -> CommandResult {
    let wrong =
        || Error::usage("`dashboard-server` is internal: `cargo xtask dashboard` starts it");
    let [root, git_dir, common_dir, toolkit, options] = args else { return Err(wrong()) };
    let options: ServerOptions =
        serde_json::from_str(&options.to_string_lossy()).map_err(|_| wrong())?;
    let folders =
        WorktreePaths { root: root.into(), git_dir: git_dir.into(), common_dir: common_dir.into() };
    let world = Environment { program: toolkit.into(), ..world.clone() };
    let verbosity = if options.quiet { Verbosity::Quiet } else { Verbosity::Normal };
    let (server, port) = match bind_port(&folders, options.port, options.remote)? {
        DashboardPort::Bound(server) => {
            let port = server.port();
            (Some(server), port)
        }
        DashboardPort::Running(port) => (None, port),
    };
    let address = format!("http://localhost:{port}/");
    report::print_output(&format!("{address}\n"))?;
    if options.open {
        open_browser(&world, &address);
    }
    let Some(server) = server else {
        report::print_info(verbosity, "the dashboard of this worktree runs there already");
        return Ok(SUCCESS);
    };
    report::print_info(
        verbosity,
        "the dashboard ends with Ctrl-C, with its terminal, or after `--idle` without a visitor",
    );
    let idle = Duration::from_millis(options.idle_ms);
    serve(server, folders, &world, options.remote, idle)?;
    report::print_info(verbosity, "nobody has visited the dashboard; it has ended");
    Ok(SUCCESS)
}

/// Opens an address in a browser: by `BROWSER`, or what the system has for it.
fn open_browser(world: &Environment, address: &str) {
    let command = find_browser(world, address);
    let opened = command.and_then(|(program, args)| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Program::run_detached(&program, &world.cwd, &args).map_err(|failure| failure.to_string())
    });
    if let Err(why) = opened {
        report::print_warning(&format!("cannot open a browser: {why}"));
    }
}

/// Returns the program that opens an address, with its arguments. `BROWSER` is as other programs read it: commands
/// separated by `:`, in which `%s` stands for the address; the first one that is there counts.
fn find_browser(
    world: &Environment,
    address: &str,
) -> std::result::Result<(PathBuf, Vec<String>), String> {
    let find = |name: &str| match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|program| program.is_file()),
        false => world.find_program(name),
    };
    let Some(named) = world.variable("BROWSER").filter(|named| !named.trim().is_empty()) else {
        let found = OPENERS.iter().find_map(|name| find(name));
        return found
            .map(|program| (program, vec![address.to_owned()]))
            .ok_or_else(|| "no `xdg-open`, and `BROWSER` is not set".to_owned());
    };
    let parse = |command: &str| {
        let mut words = command.split_whitespace();
        let program = find(words.next()?)?;
        let mut args: Vec<String> = words.map(|word| word.replace("%s", address)).collect();
        if !command.contains("%s") {
            args.push(address.to_owned());
        }
        Some((program, args))
    };
    // A path with a space is one program, too.
    let whole = || find(named).map(|program| (program, vec![address.to_owned()]));
    named
        .split(':')
        .find_map(parse)
        .or_else(whole)
        .ok_or_else(|| format!("`BROWSER` is `{named}`, and there is no such program"))
}
