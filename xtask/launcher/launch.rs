//! What the launcher does.

#![cfg_attr(rustfmt, rustfmt_skip)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{exit, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::key;

/// The package of the toolkit, which is called as this one is.
const NAME: &str = env!("CARGO_PKG_NAME");

/// Where the description of the toolkit says how old a cargo may be.
const AGE: &str = "rust-version = \"";

/// What cargo is to do.
const LAUNCH: &str = "XTASK_LAUNCH";

/// What an alias of earlier says that cargo is to build for.
const TARGET: &str = "XTASK_TARGET";

/// Which toolchain cargo is to be of.
const TOOLCHAIN: &str = "XTASK_TOOLCHAIN";

/// Where programs are kept.
const STORE: &str = "XTASK_STORE";

/// The key of a program, for itself.
const KEY: &str = "XTASK_KEY";

/// The configuration of the toolkit sets it, so that checkouts which share a build folder are told apart. With
/// a key that is compiled in they are.
const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";

/// The word by which a program is told to keep itself.
const KEEP: &str = "keep-program";

/// What rustup has chosen, where there is a rustup.
const CHOSEN: &str = "RUSTUP_TOOLCHAIN";

/// Whether cargo keeps what makes the next build after an edit quick, at half as much again for the first.
const INCREMENTAL: &str = "CARGO_INCREMENTAL";

/// How long a build may take without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a shell says of a program that cannot be started.
const CANNOT_START: i32 = 126;

pub fn main() {
    // `cargo run` tells where the package lies now; where it lay when it was built is the second best.
    let launcher = env::var_os("CARGO_MANIFEST_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        PathBuf::from,
    );
    let toolkit = launcher.parent().unwrap_or(&launcher);
    let launch = env::var(LAUNCH).unwrap_or_default();
    // Where the toolkit was given to a repository its program is an example: `cargo run` there is about others.
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
        // As if cargo had run it: one without a key tells by this folder whether it was built here.
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
            // One that does not start is built here.
            become_it(program(stored, &Some(name.clone())));
        }
    }
    check_age(&package);
    let mut cargo = cargo();
    // Else it may be about all packages of the workspace, each with nothing to build so.
    cargo
        .args(words)
        .args(&["--package", NAME])
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
    // In cargo's own folder it finds no configuration of the repository: another machine to build for, flags, or
    // sources in the place of the registry are for the repository's own packages.
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
    // Where it lies is cargo's to say: a configuration may name another target.
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let debug = folder.join("debug");
    let usual = if is_example { debug.join("examples") } else { debug }.join(NAME);
    let built = build(cargo, is_seen).unwrap_or(usual);
    // What changed while it was built has no key any more.
    let is_same = key.is_some() && key_of(toolkit, &folder) == key;
    let name = name.filter(|_| is_same);
    if let (Some(store), Some(name)) = (&store, &name) {
        let mut keep = Command::new(&built);
        keep.arg(KEEP).arg(store).arg(name).env("CARGO_MANIFEST_DIR", toolkit);
        keep.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Where it cannot be kept it is built by cargo each time, as this once.
        drop(keep.status());
    }
    fail(&become_it(program(built, &name)));
}

/// The cargo that builds: of the toolchain that was named, or the one that runs this.
fn cargo() -> Command {
    match env::var(TOOLCHAIN) {
        // `rustup` looks for the cargo of that toolchain, and puts its compiler first.
        Ok(ref other) if !other.is_empty() && env::var_os(CHOSEN).is_some() => {
            let mut rustup = Command::new("rustup");
            rustup.args(&["run", other.as_str(), "cargo"]).env_remove(CHOSEN);
            rustup
        }
        _ => Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))),
    }
}

/// Names a cargo that is too old for the toolkit; its own words would be about something in a file of ours.
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

/// The folder of the store; nothing where there is to be none.
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

/// The program of a key, if it is there and whole, by its size. A folder into which others may write is none of which
/// anything is run.
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
    // The note was made last: what has changed since is not what was kept.
    let changed = |meta: &fs::Metadata| (meta.ctime(), meta.ctime_nsec());
    let is_whole = meta.is_file() && meta.len() == size && changed(&meta) <= changed(&noted);
    if is_whole && is_program(&program) { Some(program) } else { None }
}

/// Whether a file is a program of the system's: anything else would be handed to a shell.
fn is_program(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    // ELF, and Mach-O in its forms (elf(5), loader.h).
    let known: [[u8; 4]; 4] = [*b"\x7fELF", [0xcf, 0xfa, 0xed, 0xfe], [0xca, 0xfe, 0xba, 0xbe], [0xce, 0xfa, 0xed, 0xfe]];
    read.is_ok() && known.contains(&magic)
}

/// Keeps what is built out of `git status`, also on a branch that does not have the toolkit.
fn leave_to_nobody(folder: &Path) {
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        // Where nothing can be written, cargo says so better.
        drop(fs::create_dir_all(folder).and_then(|()| fs::write(ignore, "*\n")));
    }
}

/// Whether somebody is at work on the toolkit: it holds changes that are not committed.
fn is_edited(toolkit: &Path) -> bool {
    let mut git = Command::new("git");
    git.args(&["--no-optional-locks", "diff", "--quiet", "HEAD", "--", "."]).current_dir(toolkit);
    git.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    git.status().map_or(false, |status| status.code() == Some(1))
}

/// Builds, and ends with cargo's own status where that fails. Says where the program is.
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

/// The program in what cargo says of its artifacts, a line of JSON for each. A path that would need more than the two
/// plain escapes is left to where it usually lies.
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

/// Whether somebody sees what is complained about: it goes to a device, and not to the one that takes all.
fn is_terminal() -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let device = |path: &str| {
        let meta = fs::metadata(path).ok()?;
        if meta.file_type().is_char_device() { Some(meta.rdev()) } else { None }
    };
    device("/dev/stderr").is_some() && device("/dev/stderr") != device("/dev/null")
}

/// Lets another program take the place of this one. Returns only what has gone wrong.
fn become_it(mut program: Command) -> String {
    use std::os::unix::process::CommandExt as _;
    let cause = program.exec();
    format!("{:?} cannot be started: {}", program.get_program(), cause)
}

fn fail(why: &str) -> ! {
    eprintln!("error: {}", why);
    exit(CANNOT_START)
}
