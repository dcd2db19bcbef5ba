//! Runs the tests of the toolkit: `cargo xtest [CARGO-TEST-ARG…] [-- [--slowest N] [TEST-ARG…]]`.
//!
//! It is `cargo test` in the workspace of the toolkit, without the git configuration of this machine and
//! with two additions:
//!
//! - Tests wait for git and for processes most of their time, so four of them run for each core, unless
//!   `--test-threads` or `RUST_TEST_THREADS` says otherwise.
//! - `--slowest N` prints how long the N slowest took. The test harness of Rust measures that, and says so
//!   only if it is told that it belongs to an unstable compiler; it alone is told, and nothing that is compiled.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread::available_parallelism;

/// How many tests run for each core.
const TESTS_A_CORE: usize = 4;

/// The variable from which the test harness takes its number of threads.
const THREADS: &str = "RUST_TEST_THREADS";

fn main() -> ExitCode {
    let Some(options) = Options::parse(env::args().skip(1)) else {
        eprintln!("error: `--slowest` takes a number, such as `cargo xtest -- --slowest 20`");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(code) => code,
        Err(cause) => {
            eprintln!("error: the tests cannot be run: {cause}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for.
struct Options {
    /// How many of the slowest tests are printed.
    slowest: Option<usize>,
    /// What cargo is told.
    cargo: Vec<String>,
    /// What the test harness is told.
    harness: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Option<Options> {
        let mut options = Options { slowest: None, cargo: Vec::new(), harness: Vec::new() };
        let mut arguments = arguments.peekable();
        let mut is_harness = false;
        while let Some(argument) = arguments.next() {
            if argument == "--slowest" {
                options.slowest = Some(arguments.next()?.parse().ok()?);
            } else if let Some(number) = argument.strip_prefix("--slowest=") {
                options.slowest = Some(number.parse().ok()?);
            } else if argument == "--" && !is_harness {
                is_harness = true;
            } else if is_harness {
                options.harness.push(argument);
            } else {
                options.cargo.push(argument);
            }
        }
        Some(options)
    }
}

fn run(options: &Options) -> io::Result<ExitCode> {
    let toolkit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo
        .args(["test", "--locked", "--manifest-path"])
        .arg(toolkit.join("Cargo.toml"))
        .arg("--config")
        .arg(toolkit.join(".cargo/config.toml"))
        .arg("--target-dir")
        .arg(toolkit.join("target"));
    // What tests do in their own process reads no git configuration of this machine; cargo itself does, as
    // for a proxy.
    let config = toolkit.join("tests/testkit/gitconfig");
    for (name, value) in
        [("GIT_CONFIG_GLOBAL", &*config.to_string_lossy()), ("GIT_CONFIG_NOSYSTEM", "1")]
    {
        cargo.args(["--config", &format!("env.{name}.value={value:?}")]);
        cargo.args(["--config", &format!("env.{name}.force=true")]);
    }
    // Where `UPDATE_EXPECT=1` finds the sources in which it writes.
    cargo.env("CARGO_WORKSPACE_DIR", &toolkit);
    if env::var_os(THREADS).is_none() {
        let threads = available_parallelism().map_or(1, usize::from) * TESTS_A_CORE;
        cargo.env(THREADS, threads.to_string());
    }
    if options.slowest.is_some() {
        cargo.args(["--config", "target.'cfg(unix)'.runner = ['env', 'RUSTC_BOOTSTRAP=1']"]);
    }
    cargo.args(&options.cargo).arg("--").args(&options.harness);
    let Some(slowest) = options.slowest else {
        return cargo.status().map(|status| code(status.code()));
    };
    cargo.args(["-Zunstable-options", "--report-time"]).stdout(Stdio::piped());
    let mut child = cargo.spawn()?;
    let output = child.stdout.take().expect("because it was asked for");
    let mut times = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        writeln!(io::stdout(), "{line}")?;
        times.extend(time(&line));
    }
    let status = child.wait()?;
    times.sort_by(|one, two| two.0.total_cmp(&one.0));
    println!("slowest of {} tests, in seconds:", times.len());
    for (seconds, name) in times.iter().take(slowest) {
        println!("{seconds:8.3}  {name}");
    }
    Ok(code(status.code()))
}

/// The name and the seconds in a line of the test harness, `test NAME ... ok <0.123s>`.
fn time(line: &str) -> Option<(f64, String)> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let seconds = outcome.split_once('<')?.1.strip_suffix("s>")?;
    Some((seconds.parse().ok()?, name.to_owned()))
}

fn code(code: Option<i32>) -> ExitCode {
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
