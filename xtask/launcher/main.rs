//! Runs `cargo` in the workspace of the toolkit, which is the folder above, and becomes it: `cargo xtask`
//! from any folder of the repository ends here. The toolkit thereby has dependencies, a lock file and
//! build settings of its own, and the workspace of the repository has one small program more.
//!
//! `XTASK_LAUNCH` says what cargo is to do: `run` (where it is not set), `test` or `bench`. The arguments
//! go to the program, or to the runner of tests. `XTASK_TARGET` is what cargo is to build for: the alias sets
//! it where the configuration of the repository names another machine than this one. `XTASK_TOOLCHAIN` is
//! the toolchain of rustup to build with: the alias sets it where the one of the repository is too old.

#![cfg_attr(rustfmt, rustfmt_skip)]
// A repository chooses lints for its own code, and this one is read by compilers of many years.
#![allow(clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{exit, Command};

/// What cargo is to do.
const LAUNCH: &str = "XTASK_LAUNCH";

/// What cargo is to build for.
const TARGET: &str = "XTASK_TARGET";

/// Which toolchain cargo is to be of.
const TOOLCHAIN: &str = "XTASK_TOOLCHAIN";

/// What rustup has chosen, where there is a rustup.
const CHOSEN: &str = "RUSTUP_TOOLCHAIN";

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
    let words: &[&str] = match launch.as_str() {
        "" | "run" => &["run", "--quiet"],
        "test" => &["test"],
        "bench" => &["bench", "--profile", "dev", "--bench", "costs"],
        other => fail(&format!("{} is `{}`, and not run, test or bench", LAUNCH, other)),
    };
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
        .arg(toolkit.join("target"));
    if let Some(target) = env::var_os(TARGET).filter(|target| !target.is_empty()) {
        cargo.arg("--target").arg(target);
    }
    if words[0] == "run" {
        cargo.arg("--");
    }
    cargo.args(env::args_os().skip(1)).env_remove(LAUNCH).env_remove(TARGET).env_remove(TOOLCHAIN);
    fail(&become_it(cargo, toolkit));
}

/// Lets another program take the place of this one. Returns only what has gone wrong.
#[cfg(unix)]
fn become_it(mut cargo: Command, toolkit: &Path) -> String {
    use std::os::unix::process::CommandExt as _;
    let cause = cargo.exec();
    format!("`cargo` cannot be started to build `{}`: {}", toolkit.display(), cause)
}

#[cfg(not(unix))]
fn become_it(_cargo: Command, _toolkit: &Path) -> String {
    "this system is not a Unix, and the toolkit runs on no other".to_owned()
}

fn fail(why: &str) -> ! {
    eprintln!("error: {}", why);
    exit(CANNOT_START)
}
