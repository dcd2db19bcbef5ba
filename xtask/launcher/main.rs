//! Builds the toolkit, which is the workspace in the folder above, and becomes it: `cargo xtask` from any
//! folder of the repository ends here. The toolkit thereby has dependencies, a lock file and build settings
//! of its own, and the workspace of the repository has one small program more. A build that takes longer
//! than a second is announced.
//!
//! `XTASK_LAUNCH` says what cargo is to do: `run` (where it is not set) or `bench`. The arguments
//! go to the program, or to the benchmarks. `XTASK_TARGET` is what cargo is to build for: the alias sets
//! it where the configuration of the repository names another machine than this one. `XTASK_TOOLCHAIN` is
//! the toolchain of rustup to build with: the alias sets it where the one of the repository is too old.

#![cfg_attr(rustfmt, rustfmt_skip)]
// A repository chooses lints for its own code, and this one is read by compilers of many years.
#![allow(clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{exit, Command};
use std::thread;
use std::time::Duration;

/// What cargo is to do.
const LAUNCH: &str = "XTASK_LAUNCH";

/// What cargo is to build for.
const TARGET: &str = "XTASK_TARGET";

/// Which toolchain cargo is to be of.
const TOOLCHAIN: &str = "XTASK_TOOLCHAIN";

/// What rustup has chosen, where there is a rustup.
const CHOSEN: &str = "RUSTUP_TOOLCHAIN";

/// How long a build may take without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a shell says of a program that cannot be started.
const CANNOT_START: i32 = 126;

fn main() {
    // `cargo run` tells where the package lies now; where it lay when it was built is the second best.
    let launcher = env::var_os("CARGO_MANIFEST_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        PathBuf::from,
    );
    let toolkit = launcher.parent().unwrap_or(&launcher);
    let launch = env::var(LAUNCH).unwrap_or_default();
    let target = env::var_os(TARGET).filter(|target| !target.is_empty());
    let words: &[&str] = match (launch.as_str(), &target) {
        ("", None) | ("run", None) => &["build", "--quiet"],
        // Where the program will lie is cargo's to know.
        ("", Some(_)) | ("run", Some(_)) => &["run", "--quiet"],
        ("bench", _) => &["bench", "--profile", "dev", "--bench", "costs"],
        (other, _) => fail(&format!("{} is `{}`, and neither run nor bench", LAUNCH, other)),
    };
    let folder = toolkit.join("target");
    leave_to_nobody(&folder);
    let mut cargo = match env::var(TOOLCHAIN) {
        // `rustup` looks for the cargo of that toolchain, and puts its compiler first.
        Ok(ref other) if !other.is_empty() && env::var_os(CHOSEN).is_some() => {
            let mut rustup = Command::new("rustup");
            rustup.args(&["run", other.as_str(), "cargo"]).env_remove(CHOSEN);
            rustup
        }
        _ => Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))),
    };
    cargo
        .args(words)
        .args(&["--locked", "--manifest-path"])
        .arg(toolkit.join("Cargo.toml"))
        .arg("--config")
        .arg(toolkit.join(".cargo").join("config.toml"))
        // Wherever the repository builds: this program lies there, under the same name.
        .arg("--target-dir")
        .arg(&folder)
        .env_remove(LAUNCH)
        .env_remove(TARGET)
        .env_remove(TOOLCHAIN);
    if let Some(target) = target {
        cargo.arg("--target").arg(target);
    }
    let arguments = env::args_os().skip(1);
    if words[0] != "build" {
        if words[0] == "run" {
            cargo.arg("--");
        }
        cargo.args(arguments);
        fail(&become_it(cargo));
    }
    build(cargo);
    let mut program = Command::new(folder.join("debug").join("xtask"));
    // As if cargo had run it: it tells by this folder whether it was built here.
    program
        .args(arguments)
        .env("CARGO_MANIFEST_DIR", toolkit)
        .env_remove(LAUNCH)
        .env_remove(TARGET)
        .env_remove(TOOLCHAIN);
    fail(&become_it(program));
}

/// Keeps what is built out of `git status`, also on a branch that does not have the toolkit.
fn leave_to_nobody(folder: &Path) {
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        // Where nothing can be written, cargo says so better.
        drop(fs::create_dir_all(folder).and_then(|()| fs::write(ignore, "*\n")));
    }
}

/// Builds, and ends with cargo's own status where that fails.
fn build(mut cargo: Command) {
    let mut started = match cargo.spawn() {
        Ok(started) => started,
        Err(cause) => fail(&format!("{:?} cannot be started: {}", cargo.get_program(), cause)),
    };
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        eprintln!("xtask is being built, or waits for another build of it; this can take a minute …");
    });
    match started.wait() {
        Ok(status) if status.success() => {}
        Ok(status) => exit(status.code().unwrap_or(CANNOT_START)),
        Err(cause) => fail(&format!("the build of xtask cannot be waited for: {}", cause)),
    }
}

/// Lets another program take the place of this one. Returns only what has gone wrong.
#[cfg(unix)]
fn become_it(mut program: Command) -> String {
    use std::os::unix::process::CommandExt as _;
    let cause = program.exec();
    format!("{:?} cannot be started: {}", program.get_program(), cause)
}

#[cfg(not(unix))]
fn become_it(_program: Command) -> String {
    "this system is not a Unix, and the toolkit runs on no other".to_owned()
}

fn fail(why: &str) -> ! {
    eprintln!("error: {}", why);
    exit(CANNOT_START)
}
