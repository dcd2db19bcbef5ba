//! The commands, one module each. A command loads its input, plans, acts and reports; it never calls another
//! command.
//!
//! ```text
//! cargo xtask sync --check  ->  Cli::parse  ->  sync::run(&session, &args)  ->  exit code 0 or 1
//! ```

mod backup;
mod backup_list;
mod branch_check;
mod branch_new;
mod branch_prune;
#[cfg(feature = "checks")]
mod change_notices;
#[cfg(feature = "checks")]
mod check_reports;
#[cfg(feature = "checks")]
mod checks;
mod completions;
mod dashboard;
#[cfg(feature = "vendoring")]
mod demo;
#[cfg(feature = "deploy")]
mod deploy;
#[cfg(feature = "deploy")]
mod deploy_host;
#[cfg(feature = "deploy")]
mod deploy_workflow;
mod diff;
mod extract;
#[cfg(feature = "deploy")]
mod history;
mod hook;
#[cfg(feature = "checks")]
mod hook_checks;
mod hooks;
mod install_hooks;
mod landing;
#[cfg(feature = "services")]
mod logs;
#[cfg(feature = "deploy")]
mod on_host;
mod pin;
mod promote;
mod propagate;
#[cfg(feature = "services")]
mod ps;
mod push;
#[cfg(feature = "services")]
mod recover;
#[cfg(feature = "checks")]
mod repo_checks;
#[cfg(feature = "services")]
mod restart;
mod restore;
mod reverse_sync;
#[cfg(feature = "deploy")]
mod rollback;
mod run;
#[cfg(feature = "services")]
mod serve;
mod session;
mod setup;
#[cfg(feature = "checks")]
mod shards;
#[cfg(feature = "services")]
mod stack;
#[cfg(feature = "services")]
mod start;
mod status;
#[cfg(feature = "services")]
mod stop;
#[cfg(feature = "services")]
mod supervise;
mod switch;
mod sync;
mod undo;
mod uninstall_hooks;
mod unpin;
mod upgrade;
#[cfg(feature = "checks")]
mod validate;
#[cfg(feature = "vendoring")]
mod vendor;
#[cfg(feature = "checks")]
mod watch;
mod why;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use self::session::Session;
#[cfg(feature = "deploy")]
use crate::cli::DeployCommand;
use crate::cli::{self, BranchCommand, Cli, Command, RecoveryCommand};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::process;
use xtask_git::run_scheduled_sharing;
use xtask_hooks::program_store;
use xtask_report as report;

/// The exit code of a command that did not fail, such as `SUCCESS` or `ErrorKind::Negative.exit_code()`.
type CommandResult = Result<u8>;

const SUCCESS: u8 = 0;

/// Runs the command line `args` and returns the exit code; errors are printed to stderr.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let done = run_command_line(args);
    run_scheduled_sharing();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::print_error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

#[cfg(feature = "services")]
/// Runs `xtask-supervisor`, the small program that keeps running as long as services do.
#[must_use]
pub fn supervisor_main(args: &[OsString]) -> ExitCode {
    supervise::run_program(args)
}

/// Fails if this program was built from other sources than those of the checkout in which cargo was called.
fn check_origin(world: &Environment) -> Result<()> {
    let is_ours = world.variable("CARGO_PKG_NAME") == Some(env!("CARGO_PKG_NAME"));
    let asked_in = world.variable("CARGO_MANIFEST_DIR").filter(|_| is_ours);
    // The launcher passes the key under which it found or built the program.
    compare_origin(
        program_store::SOURCES,
        world.variable(program_store::KEY_VAR),
        env!("CARGO_MANIFEST_DIR"),
        asked_in,
    )
}

/// Compares the origin of this program with the checkout: the sources of its `key` if the launcher started it,
/// otherwise the folder in which it was built.
///
/// A program built by the launcher fits every checkout with the same `sources`, and starting it directly, e.g. as a
/// service, is intended. A program built by cargo alone belongs to the folder it was `built_in`: if checkouts share a
/// target folder and `RUSTC_WORKSPACE_WRAPPER` is unset, cargo runs the program of another checkout.
fn compare_origin(
    sources: Option<&str>,
    key: Option<&str>,
    built_in: &str,
    asked_in: Option<&str>,
) -> Result<()> {
    match (sources, key, asked_in) {
        (Some(sources), Some(key), _) => match key.split_once('-') {
            Some((named, _)) if named == sources => Ok(()),
            _ => Err(Error::unable(
                "this program was built from other sources than this checkout has",
            )
            .with_hint(
                "`XTASK_STORE=off cargo xtask …` builds it here; please report how this happened",
            )),
        },
        (None, _, Some(asked_in)) if asked_in != built_in => Err(Error::unable(format!(
            "this program was built in `{built_in}`, not in `{asked_in}`"
        ))
        .with_hint("unset RUSTC_WORKSPACE_WRAPPER; `.cargo/config.toml` says why")
        .with_hint(format!("`touch {asked_in}/src/*.rs` builds it here"))),
        _ => Ok(()),
    }
}

/// Runs the internal command `keep-program`: copies this freshly built program into the store of the launcher.
fn keep_program(world: &Environment, args: &[OsString]) -> CommandResult {
    let [folder, name] = args else {
        return Err(Error::usage("`keep-program` is internal: only the launcher calls it"));
    };
    let disk = Disk::real();
    let now = program_store::system_time(world);
    let name = name.to_string_lossy();
    if program_store::SOURCES.is_some_and(|own| name.split('-').next() != Some(own)) {
        return Err(Error::unable("this program was built from other sources than the key names"));
    }
    program_store::keep_program(&disk, now, Path::new(folder), &name, &world.program)?;
    if let Some(home) = program_store::find_cargo_home(world) {
        program_store::prune_builds(&disk, now, &home.join("xtask-build"))
            .with_context(|| "cannot prune the build folder")?;
    }
    Ok(SUCCESS)
}

/// Commands and options of other tools (docker compose, lefthook, husky, git), each with ours.
const COMMAND_SYNONYMS: [(&str, &str); 11] = [
    ("up", "start"),
    ("down", "stop"),
    ("exec", "run SCRIPT"),
    ("--tail", "logs --lines N"),
    ("off", "hooks disable"),
    ("on", "hooks enable"),
    ("install", "install-hooks"),
    ("uninstall", "uninstall-hooks"),
    ("check", "validate"),
    ("lint", "validate"),
    ("init", "setup"),
];

/// Returns our command for the first argument that is a known synonym, e.g. `start` for `up`.
fn suggest_command(args: &[OsString]) -> Option<&'static str> {
    let typed = args.iter().skip(1).filter_map(|word| word.to_str());
    typed
        .filter_map(|word| COMMAND_SYNONYMS.iter().find(|(theirs, _)| *theirs == word))
        .map(|(_, ours)| *ours)
        .next()
}

fn run_command_line(args: Vec<OsString>) -> CommandResult {
    let world = Environment::from_process()?;
    #[cfg(feature = "services")]
    if let Some(done) = supervise::try_internal_command(&world, &args) {
        return done;
    }
    if args.get(1).is_some_and(|word| word == dashboard::WORD) {
        return dashboard::run_server(&world, &args[2..]);
    }
    let is_hook = args.get(1).is_some_and(|word| word == hook::WORD);
    let has = |name: &str| world.variables.contains_key(&OsString::from(name));
    let kept: &[&str] = if is_hook { &hook::KEPT_VARIABLES } else { &[] };
    process::reexec_without_git_vars(&world.program, &args, kept, has)?;
    match args.get(1) {
        Some(_) if is_hook => return hook::run(world, &args[2..]),
        #[cfg(feature = "deploy")]
        Some(word) if word == deploy_host::WORD => return deploy_host::run(world, &args[2..]),
        #[cfg(feature = "deploy")]
        Some(word) if word == on_host::WORD => return on_host::run(world, &args[2..]),
        Some(word) if word == program_store::KEEP_COMMAND => {
            return keep_program(&world, &args[2..]);
        }
        _ => {}
    }
    check_origin(&world)?;
    let cli = match parse_command_line(&args) {
        Ok(cli) => cli,
        Err(code) => return Ok(code),
    };
    let mut session = Session::new(world, &cli.global)?;
    session.is_read_only = cli.command.is_read_only();
    run_command(&session, cli.command)
}

/// Parses the command line. If there is nothing to run, prints the help or what is wrong, and returns the exit code.
fn parse_command_line(args: &[OsString]) -> Result<Cli, u8> {
    let asks = |word: &OsString| ["-h", "--help", "help"].iter().any(|help| word == help);
    // The grouped help takes time to build, so only if it is shown.
    let command =
        if args.len() < 2 || args.iter().any(asks) { cli::build_command() } else { Cli::command() };
    let parsed =
        command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|refused| {
        // Clap reports `--help` and `--version` as errors, too.
        let code = if refused.use_stderr() { ErrorKind::Usage.exit_code() } else { SUCCESS };
        let printed = refused.print();
        drop(printed);
        if let Some(ours) = suggest_command(args) {
            let hint = format!("hint: did you mean `cargo xtask {ours}`?");
            report::print_info(report::Verbosity::Normal, &hint);
        }
        code
    })
}

fn run_command(session: &Session, command: Command) -> CommandResult {
    match command {
        Command::Setup(args) => setup::run(session, &args),
        Command::Sync(args) => sync::run(session, &args),
        Command::Status(args) => status::run(session, &args),
        Command::Dashboard(args) => dashboard::run(session, &args),
        Command::Diff(args) => diff::run(session, &args),
        Command::Why(args) => why::run(session, &args),
        Command::Pin(args) => pin::run(session, &args),
        Command::Unpin(args) => unpin::run(session, &args),
        Command::Undo(args) => undo::run(session, &args),
        Command::Switch(args) => switch::run(session, &args),
        Command::Branch(BranchCommand::Check(args)) => branch_check::run(session, &args),
        Command::Branch(BranchCommand::New(args)) => branch_new::run(session, &args),
        Command::Branch(BranchCommand::Prune(args)) => branch_prune::run(session, &args),
        Command::Run(args) => run::run(session, &args),
        Command::Push(args) => push::run(session, &args),
        Command::ReverseSync(args) => reverse_sync::run(session, &args),
        Command::Extract(args) => extract::run(session, &args),
        Command::Promote(args) => promote::run(session, &args),
        Command::Propagate(args) => propagate::run(session, &args),
        Command::InstallHooks(args) => install_hooks::run(session, &args),
        Command::UninstallHooks => uninstall_hooks::run(session),
        Command::Hooks(args) => hooks::run(session, &args),
        #[cfg(feature = "checks")]
        Command::Validate(args) => validate::run(session, &args),
        #[cfg(feature = "services")]
        Command::Start(args) => start::run(session, &args),
        #[cfg(feature = "services")]
        Command::Stop(args) => stop::run(session, &args),
        #[cfg(feature = "services")]
        Command::Restart(args) => restart::run(session, &args),
        #[cfg(feature = "services")]
        Command::Ps(args) => ps::run(session, &args),
        #[cfg(feature = "services")]
        Command::Logs(args) => logs::run(session, &args),
        #[cfg(feature = "deploy")]
        Command::Deploy(DeployCommand::Deploy(args)) => deploy::run(session, &args),
        #[cfg(feature = "deploy")]
        Command::Deploy(DeployCommand::Rollback(args)) => rollback::run(session, &args),
        #[cfg(feature = "deploy")]
        Command::Deploy(DeployCommand::History(args)) => history::run(session, &args),
        Command::Recovery(RecoveryCommand::Backup(args)) => backup::run(session, &args),
        Command::Recovery(RecoveryCommand::Restore(args)) => restore::run(session, &args),
        #[cfg(feature = "services")]
        Command::Recovery(RecoveryCommand::Recover(args)) => recover::run(session, &args),
        #[cfg(feature = "vendoring")]
        Command::Vendor(args) => vendor::run(session, &args),
        Command::Upgrade(args) => upgrade::run(session, &args),
        #[cfg(feature = "vendoring")]
        Command::Demo(args) => demo::run(session, &args),
        Command::Completions(args) => completions::run(&args),
        #[cfg(feature = "services")]
        Command::Serve(args) => serve::run(session, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::compare_origin;

    #[test]
    fn a_program_runs_where_its_sources_are_and_for_its_services() {
        let built = Some("abc");
        for (sources, key, asked_in, runs) in [
            (built, Some("abc-1"), Some("/there"), true),
            (built, Some("abd-1"), Some("/here"), false),
            // A service of a stack, which the launcher has not started.
            (built, None, Some("/there"), true),
            (None, None, Some("/here"), true),
            (None, None, Some("/there"), false),
            (None, None, None, true),
        ] {
            let compared = compare_origin(sources, key, "/here", asked_in);
            assert_eq!(compared.is_ok(), runs, "{sources:?} {key:?} {asked_in:?}");
        }
    }
}
