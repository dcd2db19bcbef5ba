//! The task runners that `validate` is compared with, and how each is told of the same checks.
//!
//! What a runner has no way to be told is in [`Contender::cannot`], and is not held against it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::dialects;
use crate::kit::{Bench, find};

/// A check, as every runner is told of it.
#[derive(Clone)]
pub struct Check {
    pub name: String,
    /// Its command: words without quotes or anything else that a shell would look at.
    pub run: String,
    /// The folder whose files, at any depth, are its inputs.
    pub inputs: String,
    /// The variables on which it depends.
    pub env: Vec<&'static str>,
    /// The programs on which it depends.
    pub tools: Vec<&'static str>,
}

/// What a check may depend on besides files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Means {
    Variables,
    Tools,
}

/// What is to be run.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    One(&'a str),
    /// All of them, by their names.
    All(&'a [&'a str]),
}

/// A runner, and how it is used.
pub struct Contender {
    pub name: &'static str,
    /// The programs that it needs; the first is the one that is started.
    programs: &'static [&'static str],
    /// Writes its configuration into a repository.
    configure: fn(&Path, &[Check]),
    args: fn(Wanted<'_>) -> Vec<String>,
    /// Names for checks that differ by a separator alone, as far as it allows them.
    pub names: &'static [&'static str],
    /// What it cannot be told, and so cannot notice.
    pub cannot: &'static [(Means, &'static str)],
    /// How it ends what it left running in a repository.
    stop: &'static [&'static str],
}

/// What the runners write into a repository. Committed, so that nobody takes it for an input.
pub const IGNORED: &str =
    "/node_modules\n/.moon/cache\n/.nx\n/.stamps\n/.task\n/.turbo\n/.wireit\n";

const NO_TOOLS: &str = "it has no setting for the tools that a check uses";
const TIMES: &str = "it compares the times of files, and has no setting for variables";

/// All of them, ours first.
const CONTENDERS: [Contender; 10] = [
    Contender {
        name: "xtask",
        programs: &[],
        configure: dialects::xtask,
        args: |wanted| match wanted {
            Wanted::One(name) => words(&["validate", "--fast", "--only", name]),
            Wanted::All(_) => words(&["validate", "--fast"]),
        },
        names: &["a-b", "a:b", "a/b", "a_b", "a.b"],
        cannot: &[],
        stop: &[],
    },
    Contender {
        name: "go-task",
        programs: &["task"],
        configure: dialects::go_task,
        args: |wanted| words(&[wanted.name()]),
        names: &["a-b", "a:b", "a/b", "a_b", "a.b"],
        cannot: &[],
        stop: &[],
    },
    Contender {
        name: "turbo",
        programs: &["turbo"],
        configure: dialects::turbo,
        args: |wanted| match wanted {
            Wanted::One(name) => words(&["run", name]),
            Wanted::All(names) => words(&[&["run"], names].concat()),
        },
        names: &["a-b", "a:b", "a/b", "a_b", "a.b"],
        cannot: &[(Means::Tools, NO_TOOLS)],
        stop: &["daemon", "stop"],
    },
    Contender {
        name: "wireit",
        programs: &["npm", "wireit"],
        configure: dialects::wireit,
        args: |wanted| words(&["run", wanted.name()]),
        names: &["a-b", "a:b", "a/b", "a_b", "a.b"],
        cannot: &[(Means::Tools, NO_TOOLS)],
        stop: &[],
    },
    Contender {
        name: "moon",
        programs: &["moon"],
        configure: dialects::moon,
        args: |wanted| vec!["run".to_owned(), format!("root:{}", wanted.name())],
        names: &["a-b", "a/b", "a_b", "a.b"],
        cannot: &[(Means::Tools, "it knows the versions of the tools that it installs itself")],
        stop: &["daemon", "stop"],
    },
    Contender {
        name: "nx",
        programs: &["nx"],
        configure: dialects::nx,
        args: |wanted| vec!["run".to_owned(), format!("root:{}", wanted.name())],
        names: &["a-b", "a:b", "a/b", "a_b", "a.b"],
        cannot: &[],
        stop: &["daemon", "--stop"],
    },
    Contender {
        name: "mise",
        programs: &["mise"],
        configure: |repo, checks| dialects::mise(repo, checks, false),
        args: |wanted| words(&["run", wanted.name()]),
        names: &["a-b", "a:b", "a/b", "a_b", "a.b"],
        cannot: &[(Means::Variables, TIMES), (Means::Tools, NO_TOOLS)],
        stop: &[],
    },
    Contender {
        name: "mise cache",
        programs: &["mise"],
        configure: |repo, checks| dialects::mise(repo, checks, true),
        args: |wanted| words(&["run", wanted.name()]),
        names: &["a-b", "a:b", "a/b", "a_b", "a.b"],
        cannot: &[],
        stop: &[],
    },
    Contender {
        name: "make",
        programs: &["make"],
        configure: dialects::make,
        args: |wanted| match wanted {
            Wanted::One(name) => vec![format!(".stamps/{name}")],
            Wanted::All(_) => words(&["all"]),
        },
        names: &["a-b", "a/b", "a_b", "a.b"],
        cannot: &[(Means::Variables, TIMES)],
        stop: &[],
    },
    Contender {
        name: "just",
        programs: &["just"],
        configure: dialects::just,
        args: |wanted| words(&[wanted.name()]),
        names: &["a-b", "a_b"],
        cannot: &[],
        stop: &[],
    },
];

impl Wanted<'_> {
    /// The task that runs it.
    fn name(&self) -> &str {
        match self {
            Wanted::One(name) => name,
            Wanted::All(_) => "all",
        }
    }
}

/// A contender that is installed.
pub struct Runner {
    pub contender: Contender,
    program: PathBuf,
}

/// Those that are installed, and a line about each of those that are not, which is also printed.
pub fn installed(bench: &Bench) -> (Vec<Runner>, Vec<String>) {
    let (mut ready, mut left_out) = (Vec::new(), Vec::new());
    for contender in CONTENDERS {
        let found: Option<Vec<PathBuf>> =
            contender.programs.iter().map(|name| find(name)).collect();
        match found {
            Some(found) => {
                let program = found.into_iter().next().unwrap_or_else(|| bench.xtask.into());
                ready.push(Runner { contender, program });
            }
            None => {
                println!("  {} is not installed, and was left out", contender.name);
                left_out.push(format!("{} is not installed", contender.name));
            }
        }
    }
    (ready, left_out)
}

impl Runner {
    pub fn configure(&self, repo: &Path, checks: &[Check]) {
        (self.contender.configure)(repo, checks);
    }

    /// The command that runs it, cached, in this repository.
    pub fn command(&self, bench: &Bench, repo: &Path, wanted: Wanted<'_>) -> Command {
        let mut command = command(bench, repo, &self.program);
        command.args((self.contender.args)(wanted));
        command
    }

    /// Ends what it left running in a repository, by its own means.
    pub fn stop(&self, bench: &Bench, repo: &Path) {
        if !self.contender.stop.is_empty() {
            let mut command = command(bench, repo, &self.program);
            command.args(self.contender.stop).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().unwrap();
        }
    }
}

/// A program with everything that it keeps outside of the repository in the folder of the bench,
/// not told that it is in a CI, where some cache nothing, and that tells nobody what it does.
///
/// Whether nx starts a service that watches files is left to it: in a container it does not, unless
/// `NX_DAEMON=true` is set. With it nx is faster, and right and wrong in other cases.
pub fn command(bench: &Bench, repo: &Path, program: &Path) -> Command {
    let home = bench.root.join("home");
    let mut command = Command::new(program);
    command.current_dir(repo).stdin(Stdio::null());
    for name in ["CI", "MAKEFLAGS", "MAKELEVEL", "MODE"] {
        command.env_remove(name);
    }
    for (name, folder) in [
        ("HOME", ""),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_STATE_HOME", "state"),
        ("NX_NATIVE_FILE_CACHE_DIRECTORY", "nx"),
        ("npm_config_cache", "npm"),
    ] {
        command.env(name, home.join(folder));
    }
    command
        .env("DO_NOT_TRACK", "1")
        .env("GIT_CONFIG_GLOBAL", bench.root.join("gitconfig"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("MISE_TRUSTED_CONFIG_PATHS", &bench.root)
        .env("NX_NO_CLOUD", "true")
        .env("NX_TUI", "false")
        .env("TURBO_TELEMETRY_DISABLED", "1")
        .env("npm_config_update_notifier", "false");
    command
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `PATH` with a folder before everything else.
pub fn path_with(folder: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&path)))
        .unwrap()
}
