//! Programs as they are found here and now: where PATH leads, the digest of that file, and what it
//! says about its version.
//!
//! What a program says is remembered only of a plain one. A script, a shim and a program of many names
//! answer for another one, which can change without them; they are asked each time.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::key::ToolSeen;
use super::looks::{self, Looks};
use crate::base::digest;
use crate::base::group::End;
use crate::base::process::Program;
use crate::base::progress::Silent;
use crate::base::world::World;
use crate::repo::FileStat;

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
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Answer {
    /// For the key.
    pub seen: ToolSeen,
    /// How the file looked; nothing where there is none.
    pub stat: Option<FileStat>,
    /// Why it cannot be known, if it cannot.
    pub unknown: Option<String>,
}

/// Where a name leads from a folder. With a slash it is a path, without one PATH decides.
#[must_use]
pub fn find(world: &World, name: &str, folder: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        let path = folder.join(name);
        return path.metadata().is_ok_and(|meta| meta.is_file()).then_some(path);
    }
    world.finds(name)
}

/// The programs that were looked at in this run.
#[derive(Default)]
pub struct Programs {
    known: HashMap<Question, Answer>,
}

impl Programs {
    /// Forgets what was found: something may have installed another version.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Looks at programs, those that have to be asked side by side.
    pub fn look(
        &mut self,
        world: &World,
        looks: &mut Looks,
        questions: &[Question],
        now_ns: &dyn Fn() -> i64,
    ) {
        let mut open: Vec<(Question, Answer, Option<Ask>)> = Vec::new();
        for question in questions {
            let is_known = self.known.contains_key(question);
            if !is_known && !open.iter().any(|(other, ..)| other == question) {
                let (answer, ask) = look(world, looks, question, now_ns);
                open.push((question.clone(), answer, ask));
            }
        }
        let said: Vec<Option<Result<String, String>>> = std::thread::scope(|scope| {
            let asked: Vec<_> = open
                .iter()
                .map(|(question, _, ask)| {
                    ask.as_ref().map(|ask| scope.spawn(|| ask.run(&question.folder)))
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().expect("because asking does not panic")
            };
            asked.into_iter().map(|thread| thread.map(join)).collect()
        });
        for ((question, mut answer, ask), said) in open.into_iter().zip(said) {
            match (said, ask) {
                (Some(Ok(text)), Some(ask)) => {
                    if let Some((path, stat)) = ask.plain {
                        looks.remember_version(&path, stat, &text, now_ns());
                    }
                    answer.seen.version = Some(text);
                }
                (Some(Err(why)), _) => answer.unknown = Some(why),
                _ => {}
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

/// A program that has to be asked.
struct Ask {
    program: PathBuf,
    arguments: Vec<String>,
    /// What its answer can be remembered by.
    plain: Option<(String, FileStat)>,
}

impl Ask {
    fn run(&self, folder: &Path) -> Result<String, String> {
        let mut program = Program::new(&self.program, folder).args(&self.arguments);
        for (name, value) in NO_FETCHING {
            program = program.variable(name, value);
        }
        let name = self.program.display();
        let done = program
            .run_in_group(LONGEST, &|| false)
            .map_err(|failure| format!("`{name}` cannot say its version: {failure}"))?;
        let code = match done.end {
            End::Code(code) => code.to_string(),
            End::Signal(signal) => format!("signal {signal}"),
            End::TimedOut | End::Stopped => {
                let seconds = LONGEST.as_secs();
                return Err(format!("`{name}` did not say its version within {seconds} s"));
            }
        };
        let mut text = done.output;
        text.truncate(text.floor_char_boundary(KEPT));
        let text = text.trim_end();
        Ok(if code == "0" { text.to_owned() } else { format!("{text}\n(it ended with {code})") })
    }
}

fn look(
    world: &World,
    looks: &mut Looks,
    question: &Question,
    now_ns: &dyn Fn() -> i64,
) -> (Answer, Option<Ask>) {
    let name = question.name.clone();
    let mut seen = ToolSeen { name, found: None, real: None, content: None, version: None };
    let absent = |seen| (Answer { seen, stat: None, unknown: None }, None);
    let Some(found) = find(world, &question.name, &question.folder) else { return absent(seen) };
    seen.found = Some(found.display().to_string());
    let Ok(real) = found.canonicalize() else { return absent(seen) };
    let Ok(meta) = std::fs::symlink_metadata(&real) else { return absent(seen) };
    let path = real.display().to_string();
    seen.real = Some(path.clone());
    let stat = FileStat::of(&meta);
    let digests =
        looks.digests(Path::new("/"), &[(real.as_os_str().as_bytes(), stat)], now_ns, &Silent);
    let stat = match digests.into_iter().next() {
        Some(Ok((stat, content))) => {
            seen.content = Some(digest::hex(&content));
            stat
        }
        // It may be executed and not read.
        _ => {
            let unknown = Some(format!("the program `{path}` cannot be read"));
            return (Answer { seen, stat: Some(stat), unknown }, None);
        }
    };
    let Some(arguments) = question.arguments.clone() else {
        return (Answer { seen, stat: Some(stat), unknown: None }, None);
    };
    let is_plain = is_plain(&found, &real, &meta);
    let key = format!("{path} {}", arguments.join(" "));
    if is_plain && let Some(version) = looks.version(&key, &stat) {
        seen.version = Some(version.to_owned());
        return (Answer { seen, stat: Some(stat), unknown: None }, None);
    }
    // The name under which it is found decides what a program of many names does.
    let ask = Ask { program: found, arguments, plain: is_plain.then_some((key, stat)) };
    (Answer { seen, stat: Some(stat), unknown: None }, Some(ask))
}

/// Whether a program answers for itself alone.
fn is_plain(found: &Path, real: &Path, meta: &Metadata) -> bool {
    let is_of_one_name = found.file_name() == real.file_name();
    let is_shim = real.components().any(|part| part.as_os_str() == "shims");
    is_of_one_name && !is_shim && !is_script(real) && !has_twin(real, meta)
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_err() || &start == b"#!"
}

/// Whether the same file has another name beside it, as programs of many names do.
fn has_twin(path: &Path, meta: &Metadata) -> bool {
    use std::os::unix::fs::DirEntryExt;
    if meta.nlink() == 1 {
        return false;
    }
    let Some(entries) = path.parent().and_then(|folder| folder.read_dir().ok()) else {
        return true;
    };
    let twins = entries.flatten().filter(|entry| entry.ino() == meta.ino());
    twins.count() != 1
}

/// How a program is asked for its version, unless a check says it otherwise.
#[must_use]
pub fn usual_arguments(name: &str) -> Option<Vec<String>> {
    // A file of the repository is what its content is; and it might do its work when it is started.
    if name.contains('/') {
        return None;
    }
    // A plain shell knows no version of its own; it is what its content is, too.
    if ["dash", "sh"].contains(&name) {
        return None;
    }
    let argument = match name {
        "go" | "openssl" | "terraform" => "version",
        "java" | "javac" => "-version",
        "ssh" | "tmux" => "-V",
        _ => "--version",
    };
    Some(vec![argument.to_owned()])
}

/// Whether a name was found, and what is known of it is settled.
#[must_use]
pub fn same_as_before(world: &World, question: &Question, before: &Answer) -> bool {
    let found = find(world, &question.name, &question.folder);
    let text = found.as_ref().map(|path| path.display().to_string());
    let stat = found
        .and_then(|path| path.canonicalize().ok())
        .and_then(|path| std::fs::symlink_metadata(path).ok().map(|meta| FileStat::of(&meta)));
    text == before.seen.found && stat == before.stat
}

/// How long to wait until a change of a program would look different, in nanoseconds.
#[must_use]
pub fn unsettled_for(answer: &Answer, now_ns: i64) -> i64 {
    answer.stat.as_ref().map_or(0, |stat| looks::unsettled_for(stat, now_ns))
}
