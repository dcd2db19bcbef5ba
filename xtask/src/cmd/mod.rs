//! The commands: each loads, plans, acts and reports, in a file of its own. They do not call each
//! other.

mod backup;
mod branch_check;
mod branch_new;
mod branch_prune;
#[cfg(feature = "checks")]
mod checks;
#[cfg(feature = "checks")]
mod commit_checks;
mod completions;
#[cfg(feature = "vendoring")]
mod demo;
#[cfg(feature = "deploy")]
mod deploy;
#[cfg(feature = "deploy")]
mod deploy_host;
#[cfg(feature = "deploy")]
mod deployed;
#[cfg(feature = "services")]
mod diagnosis;
mod diff;
mod extract;
#[cfg(feature = "deploy")]
mod far;
#[cfg(feature = "deploy")]
mod history;
mod hook;
mod hooks;
mod install_hooks;
#[cfg(feature = "services")]
mod logs;
#[cfg(feature = "deploy")]
mod on_host;
#[cfg(feature = "deploy")]
mod outside;
#[cfg(feature = "deploy")]
mod place;
mod promote;
mod propagate;
#[cfg(feature = "services")]
mod ps;
mod push;
#[cfg(feature = "services")]
mod recover;
#[cfg(feature = "services")]
mod restart;
mod restore;
mod reverse_sync;
#[cfg(feature = "deploy")]
mod rollback;
mod run;
mod saved;
#[cfg(feature = "services")]
mod serve;
mod session;
mod setup;
#[cfg(feature = "services")]
mod stack;
#[cfg(feature = "services")]
mod start;
#[cfg(feature = "services")]
mod starting;
mod status;
#[cfg(feature = "services")]
mod stop;
#[cfg(feature = "services")]
mod supervise;
mod switch;
mod sync;
mod syncing;
#[cfg(feature = "services")]
mod tail;
#[cfg(feature = "deploy")]
mod there;
mod undo;
mod uninstall_hooks;
mod upgrade;
#[cfg(feature = "checks")]
mod validate;
#[cfg(feature = "vendoring")]
mod vendor;
mod why;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use self::session::Session;
#[cfg(feature = "deploy")]
use crate::cli::Deploying;
use crate::cli::{self, Branch, Cli, Command, Recovering};
use xtask_base::error::{Context as _, Error, Kind, Result};
use xtask_base::files::Disk;
use xtask_base::process;
use xtask_base::world::World;
use xtask_git::share_all;
use xtask_hooks::store;
use xtask_report as report;

/// How a command ended that did not fail.
type Exit = Result<u8>;

/// Everything that is not an error.
const DONE: u8 = 0;

/// Runs the command line and answers with the exit code.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let done = run(args);
    share_all();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::failure(&error);
            ExitCode::from(error.kind().code())
        }
    }
}

#[cfg(feature = "services")]
/// What the small program does that stays while services run.
#[must_use]
pub fn supervisor(args: &[OsString]) -> ExitCode {
    supervise::program(args)
}

/// Whether this is the program of the checkout in which cargo was asked for it.
fn check_origin(world: &World) -> Result<()> {
    let is_ours = world.variable("CARGO_PKG_NAME") == Some(env!("CARGO_PKG_NAME"));
    let asked_in = world.variable("CARGO_MANIFEST_DIR").filter(|_| is_ours);
    // The launcher tells by which key it has found or built the program.
    compare_origin(store::SOURCES, world.variable(store::KEY), env!("CARGO_MANIFEST_DIR"), asked_in)
}

/// A program that the launcher has built is one of any checkout with these sources, and who starts it without the
/// launcher, as a service, means it. One that cargo has built alone is of the folder in which it was built: where checkouts share
/// a build folder and their wrapper was taken away, cargo runs what another one has built.
fn compare_origin(
    sources: Option<&str>,
    key: Option<&str>,
    built_in: &str,
    asked_in: Option<&str>,
) -> Result<()> {
    match (sources, key, asked_in) {
        (Some(sources), Some(key), _) => match key.split_once('-') {
            Some((named, _)) if named == sources => Ok(()),
            _ => Err(Error::unable("this program was built from other sources than these").hint(
                "`XTASK_STORE=off cargo xtask …` builds it here; then say how it came to that",
            )),
        },
        (None, _, Some(asked_in)) if asked_in != built_in => Err(Error::unable(format!(
            "this program was built in `{built_in}`, not in `{asked_in}`"
        ))
        .hint("unset RUSTC_WORKSPACE_WRAPPER; `.cargo/config.toml` says why")
        .hint(format!("`touch {asked_in}/src/*.rs` builds it here"))),
        _ => Ok(()),
    }
}

/// `keep-program`: this program, which was just built, is kept where the launcher finds it. Nobody types it.
fn keep(world: &World, args: &[OsString]) -> Exit {
    let [folder, name] = args else {
        return Err(Error::usage("`keep-program` is for the launcher"));
    };
    let disk = Disk::real();
    let now = store::now(world);
    let name = name.to_string_lossy();
    if store::SOURCES.is_some_and(|own| name.split('-').next() != Some(own)) {
        return Err(Error::unable(
            "this program was built from other sources than those that are named",
        ));
    }
    store::keep(&disk, now, Path::new(folder), &name, &world.program)?;
    if let Some(home) = store::cargo_home(world) {
        store::bound_builds(&disk, now, &home.join("xtask-build"))
            .unable(|| "the build folder cannot be kept within bounds")?;
    }
    Ok(DONE)
}

/// Words that other tools have for a command or an option of ours: docker compose, lefthook, husky and git's own.
const WORDS: [(&str, &str); 11] = [
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

/// What is meant by the first word that somebody knows from elsewhere.
fn word_of_ours(args: &[OsString]) -> Option<&'static str> {
    let typed = args.iter().skip(1).filter_map(|word| word.to_str());
    typed
        .filter_map(|word| WORDS.iter().find(|(theirs, _)| *theirs == word))
        .map(|(_, ours)| *ours)
        .next()
}

fn run(args: Vec<OsString>) -> Exit {
    let world = World::real()?;
    #[cfg(feature = "services")]
    if let Some(done) = supervise::answer(&world, &args) {
        return done;
    }
    let has = |name: &str| world.env.contains_key(&OsString::from(name));
    if args.get(1).is_some_and(|word| word == hook::WORD) {
        process::without_git_variables(&world.program, &args, &hook::KEPT_VARIABLES, has)?;
        return hook::run(world, &args[2..]);
    }
    process::without_git_variables(&world.program, &args, &[], has)?;
    #[cfg(feature = "deploy")]
    if args.get(1).is_some_and(|word| word == deploy_host::WORD) {
        return deploy_host::run(world, &args[2..]);
    }
    #[cfg(feature = "deploy")]
    if args.get(1).is_some_and(|word| word == far::WORD) {
        return on_host::run(world, &args[2..]);
    }
    if args.get(1).is_some_and(|word| word == store::WORD) {
        return keep(&world, &args[2..]);
    }
    check_origin(&world)?;
    let asks = |word: &OsString| ["-h", "--help", "help"].iter().any(|help| word == help);
    // The groups are made for who reads them.
    let command =
        if args.len() < 2 || args.iter().any(asks) { cli::command() } else { Cli::command() };
    let parsed =
        command.try_get_matches_from(&args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(refused) => {
            // Help and version are answers, not failures.
            let code = if refused.use_stderr() { Kind::Usage.code() } else { DONE };
            let printed = refused.print();
            drop(printed);
            if let Some(ours) = word_of_ours(&args) {
                report::story(
                    report::Loudness::Usual,
                    &format!("hint: here it is `cargo xtask {ours}`"),
                );
            }
            return Ok(code);
        }
    };
    let mut session = Session::new(world, &cli.global)?;
    session.only_looks = cli.command.only_looks();
    match cli.command {
        Command::Setup(args) => setup::run(&session, &args),
        Command::Sync(args) => sync::run(&session, &args),
        Command::Status(args) => status::run(&session, &args),
        Command::Diff(args) => diff::run(&session, &args),
        Command::Why(args) => why::run(&session, &args),
        Command::Undo(args) => undo::run(&session, &args),
        Command::Switch(args) => switch::run(&session, &args),
        Command::Branch(Branch::Check(args)) => branch_check::run(&session, &args),
        Command::Branch(Branch::New(args)) => branch_new::run(&session, &args),
        Command::Branch(Branch::Prune(args)) => branch_prune::run(&session, &args),
        Command::Run(args) => run::run(&session, &args),
        Command::Push(args) => push::run(&session, &args),
        Command::ReverseSync(args) => reverse_sync::run(&session, &args),
        Command::Extract(args) => extract::run(&session, &args),
        Command::Promote(args) => promote::run(&session, &args),
        Command::Propagate(args) => propagate::run(&session, &args),
        Command::InstallHooks(args) => install_hooks::run(&session, &args),
        Command::UninstallHooks => uninstall_hooks::run(&session),
        Command::Hooks(args) => hooks::run(&session, &args),
        #[cfg(feature = "checks")]
        Command::Validate(args) => validate::run(&session, &args),
        #[cfg(feature = "services")]
        Command::Start(args) => start::run(&session, &args),
        #[cfg(feature = "services")]
        Command::Stop(args) => stop::run(&session, &args),
        #[cfg(feature = "services")]
        Command::Restart(args) => restart::run(&session, &args),
        #[cfg(feature = "services")]
        Command::Ps(args) => ps::run(&session, &args),
        #[cfg(feature = "services")]
        Command::Logs(args) => logs::run(&session, &args),
        #[cfg(feature = "deploy")]
        Command::Deploying(Deploying::Deploy(args)) => deploy::run(&session, &args),
        #[cfg(feature = "deploy")]
        Command::Deploying(Deploying::Rollback(args)) => rollback::run(&session, &args),
        #[cfg(feature = "deploy")]
        Command::Deploying(Deploying::History(args)) => history::run(&session, &args),
        Command::Recovering(Recovering::Backup(args)) => backup::run(&session, &args),
        Command::Recovering(Recovering::Restore(args)) => restore::run(&session, &args),
        #[cfg(feature = "services")]
        Command::Recovering(Recovering::Recover(args)) => recover::run(&session, &args),
        #[cfg(feature = "vendoring")]
        Command::Vendor(args) => vendor::run(&session, &args),
        Command::Upgrade(args) => upgrade::run(&session, &args),
        #[cfg(feature = "vendoring")]
        Command::Demo(args) => demo::run(&session, &args),
        Command::Completions(args) => completions::run(&args),
        #[cfg(feature = "services")]
        Command::Serve(args) => serve::run(&session, &args),
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
