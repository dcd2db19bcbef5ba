//! The work of the launcher: finds the program of these sources in the store, or builds it, and becomes it.
//!
//! ```text
//! cargo xtask sync  ->  key  ->  ~/.cargo/xtask-store/KEY/xtask sync
//!                            ->  cargo build, then keep-program
//! ```

#![cfg_attr(rustfmt, rustfmt_skip)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{exit, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::key;

/// The package of the toolkit, which has the same name as this one.
const NAME: &str = env!("CARGO_PKG_NAME");

/// The line of the toolkit's `Cargo.toml` with the oldest cargo that can build it.
const AGE: &str = "rust-version = \"";

/// The variable with the action: `run` or `bench`.
const LAUNCH: &str = "XTASK_LAUNCH";

/// The variable with a build target, which only the alias of an earlier version sets.
const TARGET: &str = "XTASK_TARGET";

/// The variable with the toolchain of rustup to build with.
const TOOLCHAIN: &str = "XTASK_TOOLCHAIN";

/// The variable with the folder of the store, or `off`.
const STORE: &str = "XTASK_STORE";

/// The variable that passes the key to the program.
const KEY: &str = "XTASK_KEY";

/// The variable that the toolkit's configuration sets so that checkouts with a shared target folder are told apart.
/// With a key they are, because the key is compiled in.
const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";

/// The internal command with which a program copies itself into the store.
const KEEP: &str = "keep-program";

/// The variable that rustup sets to the chosen toolchain.
const CHOSEN: &str = "RUSTUP_TOOLCHAIN";

/// The variable for incremental builds: faster after an edit, but the first build takes half as long again.
const INCREMENTAL: &str = "CARGO_INCREMENTAL";

/// How long a build may take before a message says that it is running.
const PATIENCE: Duration = Duration::from_secs(1);

/// The exit code of a shell for a program that cannot be started.
const CANNOT_START: i32 = 126;

pub fn main() {
    // `cargo run` passes the present folder of the package; the folder at build time is the fallback.
    let launcher = env::var_os("CARGO_MANIFEST_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        PathBuf::from,
    );
    let toolkit = launcher.parent().unwrap_or(&launcher);
    let launch = env::var(LAUNCH).unwrap_or_default();
    // In a repository with a copy of the toolkit the program is an example, so that `cargo run` ignores it.
    let package = fs::read_to_string(toolkit.join("Cargo.toml")).unwrap_or_default();
    let is_example = package.contains(&format!("\n[[example]]\nname = \"{}\"\n", NAME));
    let words: &[&str] = match launch.as_str() {
        "" | "run" if is_example => &["build", "--examples"],
        "" | "run" => &["build", "--bins"],
        "bench" => &["bench", "--quiet", "--profile", "dev", "--bench", "costs"],
        other => fail(&format!("{} is `{}`, and neither run nor bench", LAUNCH, other)),
    };
    let folder = toolkit.join("target");
    leave_to_nobody(&folder);
    let key = if words[0] == "build" { key_of(toolkit, &folder) } else { None };
    let arguments = || env::args_os().skip(1);
    let program = |path: PathBuf, name: &Option<String>| {
        let mut program = Command::new(path);
        // As under `cargo run`: a program without a key compares this folder with the one of its build.
        program.args(arguments()).env("CARGO_MANIFEST_DIR", toolkit);
        program.env_remove(LAUNCH).env_remove(TARGET).env_remove(TOOLCHAIN);
        match name {
            Some(name) => program.env(KEY, name),
            None => program.env_remove(KEY),
        };
        program
    };
    let name = key.as_ref().map(|key| key.name());
    let store = store();
    if let (Some(store), Some(name)) = (&store, &name) {
        if let Some(stored) = stored(store, name) {
            // If it does not start, it is built here.
            become_it(program(stored, &Some(name.clone())));
        }
    }
    check_age(&package);
    let mut cargo = cargo();
    // Without `--package`, all packages of the workspace would be considered, each without such a target.
    cargo
        .args(words)
        .args(&["--package", NAME])
        .args(&["--locked", "--manifest-path"])
        .arg(toolkit.join("Cargo.toml"))
        .arg("--config")
        .arg(toolkit.join(".cargo").join("config.toml"))
        // Not the target folder of the repository: a program of the same name is there.
        .arg("--target-dir")
        .arg(&folder)
        .env_remove(LAUNCH)
        .env_remove(TARGET)
        .env_remove(TOOLCHAIN);
    if let Some(key) = &key {
        match key::of_crates(toolkit) {
            Ok(digests) => drop(cargo.env(key::SOURCES, &key.sources).envs(digests)),
            Err(cause) => fail(&format!("`{}` cannot be read: {}", toolkit.display(), cause)),
        }
        if env::var_os(WRAPPER).is_none() {
            cargo.env(WRAPPER, "");
        }
    }
    if words[0] != "build" {
        cargo.args(arguments());
        fail(&become_it(cargo));
    }
    // In cargo's own folder, no configuration of the repository applies: its target, flags and replaced registries
    // are for the packages of the repository.
    cargo.env_remove("CARGO_BUILD_TARGET");
    if let Some(home) = key::cargo_home().filter(|home| home.is_dir()) {
        cargo.current_dir(home);
    }
    if env::var_os(INCREMENTAL).is_none() {
        cargo.env(INCREMENTAL, if is_edited(toolkit) { "1" } else { "0" });
    }
    let is_seen = is_terminal();
    if !is_seen {
        cargo.arg("--quiet");
    }
    // Cargo reports the path of the program, because a configuration may set another target folder.
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let debug = folder.join("debug");
    let usual = if is_example { debug.join("examples") } else { debug }.join(NAME);
    let built = build(cargo, is_seen).unwrap_or(usual);
    // If the sources changed during the build, the program has no key.
    let is_same = key.is_some() && key_of(toolkit, &folder) == key;
    let name = name.filter(|_| is_same);
    if let (Some(store), Some(name)) = (&store, &name) {
        let mut keep = Command::new(&built);
        keep.arg(KEEP).arg(store).arg(name).env("CARGO_MANIFEST_DIR", toolkit);
        keep.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // If it cannot be kept, cargo builds it again next time.
        drop(keep.status());
    }
    fail(&become_it(program(built, &name)));
}

/// Returns the cargo to build with: of the toolchain in `XTASK_TOOLCHAIN`, or the running one.
fn cargo() -> Command {
    match env::var(TOOLCHAIN) {
        // `rustup run` finds the cargo of that toolchain, and puts its compiler first on PATH.
        Ok(ref other) if !other.is_empty() && env::var_os(CHOSEN).is_some() => {
            let mut rustup = Command::new("rustup");
            rustup.args(&["run", other.as_str(), "cargo"]).env_remove(CHOSEN);
            rustup
        }
        _ => Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))),
    }
}

/// Fails if cargo is too old for the toolkit; cargo itself would report an error in one of our files.
fn check_age(package: &str) {
    let numbers = |text: &str| -> Option<(u64, u64)> {
        let mut parts = text.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let mut lines = package.lines();
    let line = match lines.find(|line| line.starts_with(AGE)) {
        Some(line) => line,
        None => return,
    };
    let needed = line[AGE.len()..].trim_end_matches('"');
    let said = cargo().arg("--version").stderr(Stdio::null()).output();
    let said = said.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    let present = said.split(' ').nth(1).unwrap_or("").trim();
    if let (Some(least), Some(found)) = (numbers(needed), numbers(present)) {
        if found < least {
            fail(&format!(
                "cargo {} is too old for {}, which needs {}: `rustup update stable`, or a newer cargo first on PATH",
                present, NAME, needed
            ));
        }
    }
}

/// Returns the folder of the store, or `None` for `XTASK_STORE=off`.
fn store() -> Option<PathBuf> {
    match env::var_os(STORE).filter(|named| !named.is_empty()) {
        Some(ref named) if named == "off" => None,
        Some(named) => {
            let named = PathBuf::from(named);
            if !named.is_absolute() {
                fail(&format!("{} is `{}`, and neither `off` nor an absolute path", STORE, named.display()));
            }
            Some(named)
        }
        None => key::cargo_home().map(|home| home.join("xtask-store")),
    }
}

/// Returns the stored program of a key, if it exists and has the recorded size. A store that others may write to is
/// not used.
fn stored(store: &Path, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let (kept, home) = (fs::metadata(store).ok()?, fs::metadata(key::cargo_home()?).ok()?);
    if kept.uid() != home.uid() || kept.mode() & 0o022 != 0 {
        return None;
    }
    let folder = store.join(name);
    let size_file = folder.join("size");
    let said = fs::read_to_string(&size_file).ok()?;
    let size: u64 = said.split(' ').next()?.parse().ok()?;
    let program = folder.join("xtask");
    let (meta, noted) = (fs::metadata(&program).ok()?, fs::metadata(&size_file).ok()?);
    // The size file is written last, so a program with a later ctime was modified.
    let changed = |meta: &fs::Metadata| (meta.ctime(), meta.ctime_nsec());
    let is_whole = meta.is_file() && meta.len() == size && changed(&meta) <= changed(&noted);
    if is_whole && is_program(&program) { Some(program) } else { None }
}

/// Returns whether a file is a native executable; `exec` would hand any other file to a shell.
fn is_program(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    // The magic numbers of ELF and Mach-O (elf(5), loader.h).
    let known: [[u8; 4]; 4] = [*b"\x7fELF", [0xcf, 0xfa, 0xed, 0xfe], [0xca, 0xfe, 0xba, 0xbe], [0xce, 0xfa, 0xed, 0xfe]];
    read.is_ok() && known.contains(&magic)
}

/// Writes a `.gitignore` that hides the build from `git status`, even on a branch without the toolkit.
fn leave_to_nobody(folder: &Path) {
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        // If the folder cannot be written, cargo prints a better error.
        drop(fs::create_dir_all(folder).and_then(|()| fs::write(ignore, "*\n")));
    }
}

/// Returns whether the toolkit has uncommitted changes, so that somebody is working on it.
fn is_edited(toolkit: &Path) -> bool {
    let mut git = Command::new("git");
    git.args(&["--no-optional-locks", "diff", "--quiet", "HEAD", "--", "."]).current_dir(toolkit);
    git.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    git.status().map_or(false, |status| status.code() == Some(1))
}

/// Runs the build and returns the path of the program; exits with cargo's exit code if it fails.
fn build(mut cargo: Command, is_seen: bool) -> Option<PathBuf> {
    let started = match cargo.spawn() {
        Ok(started) => started,
        Err(cause) => fail(&format!("{:?} cannot be started: {}", cargo.get_program(), cause)),
    };
    if !is_seen {
        thread::spawn(|| {
            thread::sleep(PATIENCE);
            eprintln!("{} is being built, or waits for another build of it; this can take a minute …", NAME);
        });
    }
    match started.wait_with_output() {
        Ok(done) if done.status.success() => executable(&String::from_utf8_lossy(&done.stdout)),
        Ok(done) => exit(done.status.code().unwrap_or(CANNOT_START)),
        Err(cause) => fail(&format!("the build of {} cannot be waited for: {}", NAME, cause)),
    }
}

/// Returns the path of the program from cargo's messages, one line of JSON for each artifact. A path with escapes
/// other than `\"` and `\\` is left to the usual path.
fn executable(said: &str) -> Option<PathBuf> {
    let key = "\"executable\":\"";
    let ending = format!("/{}", NAME);
    said.lines().filter_map(|line| {
        let rest = &line[line.find(key)? + key.len()..];
        let path = &rest[..rest.find("\",\"").or_else(|| rest.find("\"}"))?];
        let path = path.replace("\\\"", "\"").replace("\\\\", "\\");
        if path.ends_with(&ending) { Some(PathBuf::from(path)) } else { None }
    }).last()
}

fn key_of(toolkit: &Path, folder: &Path) -> Option<key::Key> {
    key::of(toolkit, &folder.join("key"))
}

/// Returns whether stderr is a terminal: a character device other than `/dev/null`.
fn is_terminal() -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let device = |path: &str| {
        let meta = fs::metadata(path).ok()?;
        if meta.file_type().is_char_device() { Some(meta.rdev()) } else { None }
    };
    device("/dev/stderr").is_some() && device("/dev/stderr") != device("/dev/null")
}

/// Replaces this process by another program. Returns only an error message.
fn become_it(mut program: Command) -> String {
    use std::os::unix::process::CommandExt as _;
    let cause = program.exec();
    format!("{:?} cannot be started: {}", program.get_program(), cause)
}

fn fail(why: &str) -> ! {
    eprintln!("error: {}", why);
    exit(CANNOT_START)
}
