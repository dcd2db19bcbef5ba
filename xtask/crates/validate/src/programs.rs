//! Programs as they are at this moment: their path on PATH, the digest of that file, and their version.
//!
//! A version is never reused in another run, nor after a command has ended: a shim, a script or a program
//! that reads its version from elsewhere looks the same after the real program behind it has changed.
//!
//! ```text
//! ToolQuery { name: "python3", arguments: ["--version"] }
//!   -> ManifestTool { found: "/usr/bin/python3", version: "Python 3.12.4", content: sha256 }
//! ```

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cache_key::ManifestTool;
use super::stat_cache::{self, StatCache};
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::files::is_executable;
use xtask_base::process::Program;
use xtask_base::process_group::ExitReason;
use xtask_base::progress::SilentProgress;
use xtask_git::FileStat;

/// The longest time a program may take to print its version; some start slowly.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of bytes kept of that output.
const MAX_VERSION_BYTES: usize = 4096;

/// The files by which version managers choose a program, in the folder of a check and its parents.
pub const VERSION_FILES: [&str; 14] = [
    ".go-version",
    ".java-version",
    ".mise.toml",
    ".node-version",
    ".nvmrc",
    ".python-version",
    ".ruby-version",
    ".sdkmanrc",
    ".terraform-version",
    ".tool-versions",
    ".tvm-version",
    "mise.toml",
    "rust-toolchain",
    "rust-toolchain.toml",
];

/// The environment variables that select programs and the libraries they load, from the manuals of the
/// version managers (pyenv, rbenv, nodenv, goenv, jenv, plenv, rustup, volta, fnm, nvm, sdkman, tfenv), of
/// Python and its environments (`VIRTUAL_ENV` of venv, conda, uv, poetry, pipenv), Node, Ruby, Perl, Go,
/// Java, .NET, PHP and the dynamic linker. A different value selects a different tool of the same name,
/// perhaps with the same version.
const TOOL_VARIABLES: [&str; 52] = [
    "CLASSPATH",
    "CONDA_DEFAULT_ENV",
    "CONDA_PREFIX",
    "DOTNET_ROOT",
    "FNM_DIR",
    "FNM_MULTISHELL_PATH",
    "GEM_HOME",
    "GEM_PATH",
    "GOENV_VERSION",
    "GOEXPERIMENT",
    "GOFLAGS",
    "GOPATH",
    "GOROOT",
    "GOTOOLCHAIN",
    "GRADLE_HOME",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "JENV_VERSION",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "M2_HOME",
    "MAVEN_HOME",
    "MAVEN_OPTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODENV_VERSION",
    "NVM_BIN",
    "PERL5LIB",
    "PERL5OPT",
    "PHPENV_VERSION",
    "PHP_INI_SCAN_DIR",
    "PIPENV_ACTIVE",
    "PLENV_VERSION",
    "POETRY_ACTIVE",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RBENV_VERSION",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTFLAGS",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "TFENV_TERRAFORM_VERSION",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
    "VIRTUAL_ENV",
    "VOLTA_HOME",
    "YARN_IGNORE_PATH",
];

/// The prefixes of variables that contain the name of a tool, e.g. `ASDF_NODEJS_VERSION`.
const TOOL_VARIABLE_PREFIXES: [&str; 2] = ["ASDF_", "MISE_"];

/// Variables with such a prefix that only describe the shell and differ between two terminals.
const SHELL_VARIABLES: [&str; 3] = ["ASDF_DIR", "MISE_SHELL", "MISE_PROJECT_ROOT"];

/// Lists the names of all variables that select tools: `TOOL_VARIABLES`, set or not, and those set that have
/// one of `TOOL_VARIABLE_PREFIXES`.
#[must_use]
pub fn list_tool_variables(world: &Environment) -> Vec<String> {
    let set = world.variables.keys().filter_map(|name| name.to_str());
    let of_family = set.filter(|name| {
        TOOL_VARIABLE_PREFIXES.iter().any(|family| name.starts_with(family))
            && !SHELL_VARIABLES.contains(name)
    });
    TOOL_VARIABLES.into_iter().chain(of_family).map(str::to_owned).collect()
}

/// Variables that keep a version command from downloading a missing toolchain.
const OFFLINE_VARIABLES: [(&str, &str); 3] =
    [("RUSTUP_AUTO_INSTALL", "0"), ("COREPACK_ENABLE_NETWORK", "0"), ("UV_OFFLINE", "1")];

/// A request for the version of a program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToolQuery {
    /// The name of the program, or its path relative to `folder`.
    pub name: String,
    /// The working folder of the version command.
    pub folder: PathBuf,
    /// The arguments of the version command; `None` to inspect only the file.
    pub arguments: Option<Vec<String>>,
    /// Alternative single arguments, tried in order if `arguments` fail.
    pub fallbacks: &'static [&'static str],
}

/// The usual version arguments, in the order of attempts; `kubectl`, for example, accepts only the first.
pub const FALLBACK_ARGUMENTS: [&str; 4] = ["version", "-v", "-V", "-version"];

/// The answer to a `ToolQuery`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolObservation {
    /// The part that enters the cache key.
    pub tool: ManifestTool,
    /// The stat data of the file; `None` if the program was not found.
    pub stat: Option<FileStat>,
    /// The reason the state is unknown, if so; the check is then uncacheable.
    pub unknown_reason: Option<String>,
    /// The reason `tool.version` is unusable, if so, e.g. that the command exited with code 1.
    pub failure: Option<String>,
}

/// Finds the program that a command started in `folder` would run: a `name` with a slash is a path, any other
/// is looked up on PATH.
#[must_use]
pub fn find_program(world: &Environment, name: &str, folder: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        let path = folder.join(name);
        return path.metadata().is_ok_and(|meta| meta.is_file()).then_some(path);
    }
    let path = world.variables.get(std::ffi::OsStr::new("PATH"))?;
    let places = std::env::split_paths(path).map(|place| folder.join(place).join(name));
    places.into_iter().find(|file| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && is_executable(&meta))
    })
}

pub struct QueryContext<'a> {
    /// The environment, for PATH.
    pub world: &'a Environment,
    /// Whether version commands may run. A dry run starts no program.
    pub runs_tools: bool,
    /// Whether the user has interrupted the run.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// The programs inspected since the last command ended.
#[derive(Default)]
pub struct ToolCache {
    known: HashMap<ToolQuery, ToolObservation>,
}

impl ToolCache {
    /// Discards all answers: the command that ran may have changed a program.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Inspects programs and runs their version commands in parallel.
    pub fn query_all(
        &mut self,
        query_context: &QueryContext<'_>,
        looks: &mut StatCache,
        questions: &[ToolQuery],
        now_ns: &dyn Fn() -> i64,
    ) {
        let mut open: Vec<(ToolQuery, ToolObservation, Option<VersionCommand>)> = Vec::new();
        for question in questions {
            let is_known = self.known.contains_key(question);
            if !is_known && !open.iter().any(|(other, ..)| other == question) {
                let (answer, ask) = inspect_program(query_context.world, looks, question, now_ns);
                open.push((question.clone(), answer, ask.filter(|_| query_context.runs_tools)));
            }
        }
        let said: Vec<Option<VersionOutput>> = std::thread::scope(|scope| {
            let asked: Vec<_> = open
                .iter()
                .map(|(question, _, ask)| {
                    ask.as_ref()
                        .map(|ask| scope.spawn(|| ask.run(&question.folder, query_context.stop)))
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().expect("because asking does not panic")
            };
            asked.into_iter().map(|thread| thread.map(join)).collect()
        });
        for ((question, mut answer, _), said) in open.into_iter().zip(said) {
            match said {
                Some(VersionOutput::Success(text)) => answer.tool.version = Some(text),
                Some(VersionOutput::Failure(text, why)) => {
                    answer.tool.version = Some(format!("{text}\n({why})"));
                    answer.failure = Some(match text.lines().next() {
                        Some(line) => format!("{why}: {line}"),
                        None => why,
                    });
                }
                Some(VersionOutput::NoAnswer(why)) => {
                    answer.failure = Some(why.clone());
                    answer.unknown_reason = Some(why);
                }
                None => {}
            }
            self.known.insert(question, answer);
        }
    }

    /// Returns the answer to a query that `query_all` was given.
    #[must_use]
    pub fn observation(&self, question: &ToolQuery) -> Option<&ToolObservation> {
        self.known.get(question)
    }
}

/// The result of a version command.
enum VersionOutput {
    /// The output of a command with exit code 0.
    Success(String),
    /// The output, and a message about the exit.
    Failure(String, String),
    /// A message: the command timed out or could not be started.
    NoAnswer(String),
}

struct VersionCommand {
    program: PathBuf,
    arguments: Vec<String>,
    fallbacks: &'static [&'static str],
}

impl VersionCommand {
    fn run(&self, folder: &Path, stop: &(dyn Fn() -> bool + Sync)) -> VersionOutput {
        let first = self.run_with(&self.arguments, folder, stop);
        if !matches!(first, VersionOutput::Failure(..)) {
            return first;
        }
        let others =
            self.fallbacks.iter().map(|way| self.run_with(&[(*way).to_owned()], folder, stop));
        others.into_iter().find(|said| matches!(said, VersionOutput::Success(_))).unwrap_or(first)
    }

    fn run_with(
        &self,
        arguments: &[String],
        folder: &Path,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> VersionOutput {
        let mut program = Program::new(&self.program, folder).args(arguments);
        for (name, value) in OFFLINE_VARIABLES {
            program = program.env(name, value);
        }
        let (name, asked) = (self.program.display(), arguments.join(" "));
        let done = match program.run_in_group(VERSION_TIMEOUT, &stop) {
            Ok(done) => done,
            Err(failure) => return VersionOutput::NoAnswer(failure.to_string()),
        };
        let mut text = done.output;
        text.truncate(text.floor_char_boundary(MAX_VERSION_BYTES));
        let text = text.trim_end().to_owned();
        match done.exit_reason {
            ExitReason::Code(0) => VersionOutput::Success(text),
            ExitReason::Code(code) => {
                VersionOutput::Failure(text, format!("`{name} {asked}` exited with code {code}"))
            }
            ExitReason::Signal(signal) => VersionOutput::Failure(
                text,
                format!("`{name} {asked}` was killed by signal {signal}"),
            ),
            ExitReason::TimedOut => {
                let seconds = VERSION_TIMEOUT.as_secs();
                VersionOutput::NoAnswer(format!("`{name} {asked}` timed out after {seconds} s"))
            }
            ExitReason::Stopped => {
                VersionOutput::NoAnswer(format!("`{name} {asked}` was interrupted"))
            }
        }
    }
}

fn inspect_program(
    world: &Environment,
    looks: &mut StatCache,
    question: &ToolQuery,
    now_ns: &dyn Fn() -> i64,
) -> (ToolObservation, Option<VersionCommand>) {
    let name = question.name.clone();
    let seen = ManifestTool { name, found: None, real: None, content: None, version: None };
    let mut answer =
        ToolObservation { tool: seen, stat: None, unknown_reason: None, failure: None };
    let Some(found) = find_program(world, &question.name, &question.folder) else {
        return (answer, None);
    };
    answer.tool.found = Some(found.display().to_string());
    let Ok(real) = found.canonicalize() else { return (answer, None) };
    let Ok(meta) = std::fs::symlink_metadata(&real) else { return (answer, None) };
    answer.tool.real = Some(real.display().to_string());
    let stat = FileStat::from_metadata(&meta);
    answer.stat = Some(stat);
    let digests = looks.resolve_digests(
        Path::new("/"),
        &[(real.as_os_str().as_bytes(), stat)],
        now_ns,
        &SilentProgress,
    );
    match digests.into_iter().next() {
        Some(Ok((stat, content))) => {
            answer.tool.content = Some(digest::to_hex(&content));
            answer.stat = Some(stat);
        }
        // The file can be executable without being readable.
        _ => {
            answer.unknown_reason = Some(format!("cannot read the program `{}`", real.display()));
            return (answer, None);
        }
    }
    // Runs the path found, not `real`: a multi-call program acts by the name under which it is started.
    let or = question.fallbacks;
    let ask = question.arguments.clone().map(|arguments| VersionCommand {
        program: found,
        arguments,
        fallbacks: or,
    });
    (answer, ask)
}

/// Returns the version arguments of a program, usually `--version`. Returns `None` if the program has none.
#[must_use]
pub fn version_arguments(name: &str) -> Option<Vec<String>> {
    let argument = match name.rsplit('/').next().unwrap_or(name) {
        // A plain shell has no version option; the digest of its file identifies it.
        "dash" | "sh" => return None,
        "go" | "openssl" | "terraform" => "version",
        "java" | "javac" => "-version",
        "ssh" | "tmux" => "-V",
        _ => "--version",
    };
    Some(vec![argument.to_owned()])
}

/// Returns how long to wait until any change of the program will be visible, in nanoseconds.
#[must_use]
pub fn settle_time_ns(answer: &ToolObservation, now_ns: i64) -> i64 {
    answer.stat.as_ref().map_or(0, |stat| stat_cache::settle_time_ns(stat, now_ns))
}
