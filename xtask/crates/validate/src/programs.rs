//! Programs as they are found here and now: where PATH leads, the digest of that file, and what it
//! says about its version.
//!
//! What it says is never remembered from one run to the next, nor over the end of a command: a shim, a
//! script and a program that reads its version from elsewhere all look the same when what answers behind
//! them has changed.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::key::ToolSeen;
use super::looks::{self, Looks};
use xtask_base::digest;
use xtask_base::files::is_executable;
use xtask_base::group::End;
use xtask_base::process::Program;
use xtask_base::progress::Silent;
use xtask_base::world::World;
use xtask_git::FileStat;

/// How long a program may take to say its version: ten seconds, for those that start slowly.
const LONGEST: Duration = Duration::from_secs(10);

/// How much of what it says is kept, in bytes.
const KEPT: usize = 4096;

/// The files by which version managers choose what a name stands for, in the folder of a check and in
/// those above it.
pub const SWITCHES: [&str; 14] = [
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

/// The variables by which programs and what they load are chosen, by the manuals of those that heed them: the
/// version managers (pyenv, rbenv, nodenv, goenv, jenv, plenv, rustup, volta, fnm, nvm, sdkman, tfenv), Python and its
/// environments (`VIRTUAL_ENV` of venv, conda, uv, poetry, pipenv), Node, Ruby, Perl, Go, Java, .NET, PHP and
/// the linker. Another value is another tool behind the same name, which may say the same version.
const CHOOSING: [&str; 52] = [
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

/// With what the names of such variables begin that have a tool in them: `ASDF_NODEJS_VERSION`.
const CHOOSING_FAMILIES: [&str; 2] = ["ASDF_", "MISE_"];

/// Of those families what only says in which shell they are, and differs between two terminals.
const NOT_CHOOSING: [&str; 3] = ["ASDF_DIR", "MISE_SHELL", "MISE_PROJECT_ROOT"];

/// The variables that choose tools, as far as they can be named: those of the families that are set, and all others.
#[must_use]
pub fn choosing_variables(world: &World) -> Vec<String> {
    let set = world.env.keys().filter_map(|name| name.to_str());
    let of_family = set.filter(|name| {
        CHOOSING_FAMILIES.iter().any(|family| name.starts_with(family))
            && !NOT_CHOOSING.contains(name)
    });
    CHOOSING.into_iter().chain(of_family).map(str::to_owned).collect()
}

/// Asked for its version, nobody fetches what is missing.
const NO_FETCHING: [(&str, &str); 3] =
    [("RUSTUP_AUTO_INSTALL", "0"), ("COREPACK_ENABLE_NETWORK", "0"), ("UV_OFFLINE", "1")];

/// How a program is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Its name, or its path from `folder`.
    pub name: String,
    /// The folder in which it is asked.
    pub folder: PathBuf,
    /// The arguments; nothing asks nothing.
    pub arguments: Option<Vec<String>>,
    /// What it is asked one after the other where it does not know those.
    pub or: &'static [&'static str],
}

/// The usual ways to ask for a version, in the order in which they are tried: `kubectl` knows but the first.
pub const OTHER_WAYS: [&str; 4] = ["version", "-v", "-V", "-version"];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For the key.
    pub seen: ToolSeen,
    /// How the file looked; nothing where there is none.
    pub stat: Option<FileStat>,
    /// Why it cannot be known, if it cannot.
    pub unknown: Option<String>,
    /// Why what it said counts for nothing, if it does: it ended badly.
    pub failure: Option<String>,
}

/// Where a name leads from a folder. With a slash it is a path, without one PATH decides, as it would for
/// a command that starts there.
#[must_use]
pub fn find(world: &World, name: &str, folder: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        let path = folder.join(name);
        return path.metadata().is_ok_and(|meta| meta.is_file()).then_some(path);
    }
    let path = world.env.get(std::ffi::OsStr::new("PATH"))?;
    let places = std::env::split_paths(path).map(|place| folder.join(place).join(name));
    places.into_iter().find(|file| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && is_executable(&meta))
    })
}

/// With what programs are looked at.
pub struct Looker<'a> {
    /// PATH.
    pub world: &'a World,
    /// Whether they are asked for their versions. Who only looks starts nothing.
    pub asks: bool,
    /// Whether whoever waits has had enough.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// The programs that were looked at since the last command ended.
#[derive(Default)]
pub struct Programs {
    known: HashMap<Question, Answer>,
}

impl Programs {
    /// Forgets what was found: what has run may have changed it.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Looks at programs, and asks them side by side.
    pub fn look(
        &mut self,
        looker: &Looker<'_>,
        looks: &mut Looks,
        questions: &[Question],
        now_ns: &dyn Fn() -> i64,
    ) {
        let mut open: Vec<(Question, Answer, Option<Ask>)> = Vec::new();
        for question in questions {
            let is_known = self.known.contains_key(question);
            if !is_known && !open.iter().any(|(other, ..)| other == question) {
                let (answer, ask) = look(looker.world, looks, question, now_ns);
                open.push((question.clone(), answer, ask.filter(|_| looker.asks)));
            }
        }
        let said: Vec<Option<Said>> = std::thread::scope(|scope| {
            let asked: Vec<_> = open
                .iter()
                .map(|(question, _, ask)| {
                    ask.as_ref().map(|ask| scope.spawn(|| ask.run(&question.folder, looker.stop)))
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().expect("because asking does not panic")
            };
            asked.into_iter().map(|thread| thread.map(join)).collect()
        });
        for ((question, mut answer, _), said) in open.into_iter().zip(said) {
            match said {
                Some(Said::Well(text)) => answer.seen.version = Some(text),
                Some(Said::Badly(text, why)) => {
                    answer.seen.version = Some(format!("{text}\n({why})"));
                    answer.failure = Some(match text.lines().next() {
                        Some(line) => format!("{why}: {line}"),
                        None => why,
                    });
                }
                Some(Said::Nothing(why)) => {
                    answer.failure = Some(why.clone());
                    answer.unknown = Some(why);
                }
                None => {}
            }
            self.known.insert(question, answer);
        }
    }

    /// What was found for a question that was looked at.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Option<&Answer> {
        self.known.get(question)
    }
}

/// What a program said.
enum Said {
    /// It ended with 0.
    Well(String),
    /// It said this, and ended so.
    Badly(String, String),
    /// It said nothing in time, or could not be started.
    Nothing(String),
}

/// A program that has to be asked.
struct Ask {
    program: PathBuf,
    arguments: Vec<String>,
    or: &'static [&'static str],
}

impl Ask {
    fn run(&self, folder: &Path, stop: &(dyn Fn() -> bool + Sync)) -> Said {
        let first = self.ask(&self.arguments, folder, stop);
        if !matches!(first, Said::Badly(..)) {
            return first;
        }
        let others = self.or.iter().map(|way| self.ask(&[(*way).to_owned()], folder, stop));
        others.into_iter().find(|said| matches!(said, Said::Well(_))).unwrap_or(first)
    }

    fn ask(&self, arguments: &[String], folder: &Path, stop: &(dyn Fn() -> bool + Sync)) -> Said {
        let mut program = Program::new(&self.program, folder).args(arguments);
        for (name, value) in NO_FETCHING {
            program = program.variable(name, value);
        }
        let (name, asked) = (self.program.display(), arguments.join(" "));
        let done = match program.run_in_group(LONGEST, &stop) {
            Ok(done) => done,
            Err(failure) => return Said::Nothing(failure.to_string()),
        };
        let mut text = done.output;
        text.truncate(text.floor_char_boundary(KEPT));
        let text = text.trim_end().to_owned();
        match done.end {
            End::Code(0) => Said::Well(text),
            End::Code(code) => Said::Badly(text, format!("`{name} {asked}` ended with {code}")),
            End::Signal(signal) => {
                Said::Badly(text, format!("signal {signal} ended `{name} {asked}`"))
            }
            End::TimedOut => {
                let seconds = LONGEST.as_secs();
                Said::Nothing(format!("`{name} {asked}` did not end within {seconds} s"))
            }
            End::Stopped => Said::Nothing(format!("`{name} {asked}` was interrupted")),
        }
    }
}

fn look(
    world: &World,
    looks: &mut Looks,
    question: &Question,
    now_ns: &dyn Fn() -> i64,
) -> (Answer, Option<Ask>) {
    let name = question.name.clone();
    let seen = ToolSeen { name, found: None, real: None, content: None, version: None };
    let mut answer = Answer { seen, stat: None, unknown: None, failure: None };
    let Some(found) = find(world, &question.name, &question.folder) else { return (answer, None) };
    answer.seen.found = Some(found.display().to_string());
    let Ok(real) = found.canonicalize() else { return (answer, None) };
    let Ok(meta) = std::fs::symlink_metadata(&real) else { return (answer, None) };
    answer.seen.real = Some(real.display().to_string());
    let stat = FileStat::of(&meta);
    answer.stat = Some(stat);
    let digests =
        looks.digests(Path::new("/"), &[(real.as_os_str().as_bytes(), stat)], now_ns, &Silent);
    match digests.into_iter().next() {
        Some(Ok((stat, content))) => {
            answer.seen.content = Some(digest::hex(&content));
            answer.stat = Some(stat);
        }
        // It may be executed and not read.
        _ => {
            answer.unknown = Some(format!("the program `{}` cannot be read", real.display()));
            return (answer, None);
        }
    }
    // The name under which it is found decides what a program of many names does.
    let or = question.or;
    let ask = question.arguments.clone().map(|arguments| Ask { program: found, arguments, or });
    (answer, ask)
}

/// How a program is asked for its version, unless a check says it otherwise.
#[must_use]
pub fn usual_arguments(name: &str) -> Option<Vec<String>> {
    let argument = match name.rsplit('/').next().unwrap_or(name) {
        // A plain shell knows no version of its own; it is what its content is.
        "dash" | "sh" => return None,
        "go" | "openssl" | "terraform" => "version",
        "java" | "javac" => "-version",
        "ssh" | "tmux" => "-V",
        _ => "--version",
    };
    Some(vec![argument.to_owned()])
}

/// How long to wait until a change of a program would look different, in nanoseconds.
#[must_use]
pub fn unsettled_for(answer: &Answer, now_ns: i64) -> i64 {
    answer.stat.as_ref().map_or(0, |stat| looks::unsettled_for(stat, now_ns))
}
