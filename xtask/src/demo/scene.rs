//! Where the story plays: a folder with people in it, each with a home, and the commands they type.
//!
//! Everything lies in that one folder. A command is shown as it is typed, and run by the shell in
//! exactly these words; `cargo xtask` is the program that runs now, so that nothing is compiled. Of
//! the user's environment it sees only where programs lie, and it is ended after a while. What people
//! commit is dated by the story, so that ids are the same in every run, up to the first commit that
//! the program dates by its own clock.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xtask_base::error::{Context, Error, Kind, Result};
use xtask_base::files::Disk;
use xtask_base::name::NAME;
use xtask_base::process::{ACTIVE, Program};
use xtask_base::world::{World, rfc3339};

/// How long one command may take: two minutes, a hundred times what any of them needs.
const LONGEST: Duration = Duration::from_secs(120);

/// When the story begins: Monday the 5th of January 2026, nine o'clock. Each command that is
/// typed takes a minute.
const MORNING: i64 = 1_767_603_600;

/// How many names are tried for a folder that others have not taken.
const NAMES: u32 = 100;

/// What commands see of the user's environment: where programs and their libraries lie, and where
/// temporary files go.
const KEPT: [&str; 5] =
    ["PATH", "TMPDIR", "GIT_EXEC_PATH", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

/// The folder in which somebody works. It is named in front of what is typed there.
#[derive(Clone, Copy, Debug)]
pub struct Desk {
    /// Whose it is.
    pub person: &'static str,
    /// The folder in the scene.
    pub folder: &'static str,
}

/// What the scene needs from the outside.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// Where it was started, and by which program.
    pub world: &'a World,
    /// Makes files.
    pub disk: &'a Disk<'a>,
    /// Tells the reader what happens.
    pub tell: &'a dyn Fn(&str) -> Result<()>,
    /// Whether the user wants it to end.
    pub is_interrupted: &'a dyn Fn() -> bool,
}

/// The scene.
pub struct Scene<'a> {
    root: PathBuf,
    stage: Stage<'a>,
    /// How many commands were typed, which is how late it is.
    typed: Cell<i64>,
    checked: Cell<usize>,
}

impl<'a> Scene<'a> {
    /// Makes a scene in `folder`, which must be empty or not be there yet; without one, in a new
    /// folder among the temporary files.
    pub fn make(stage: Stage<'a>, folder: Option<&Path>) -> Result<Scene<'a>> {
        let root = match folder {
            Some(folder) => empty_folder(stage, folder)?,
            None => temporary_folder(stage)?,
        };
        Ok(Scene { root, stage, typed: Cell::new(0), checked: Cell::new(0) })
    }

    /// The folder in which all of it lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many outcomes were checked.
    #[must_use]
    pub fn checked(&self) -> usize {
        self.checked.get()
    }

    /// Takes all of it away.
    pub fn remove(&self) -> Result<()> {
        let failed = || format!("`{}` cannot be removed", self.root.display());
        self.stage.disk.remove_folder(&self.root).unable(failed)
    }

    /// Gives somebody a home: a configuration of git, and what their shell reads first. Nobody can
    /// type without one.
    pub fn furnish(&self, person: &str) -> Result<()> {
        let home = self.home(person);
        // Nothing may go on in the background while the scene is taken away.
        let settings = format!(
            "[user]\n\tname = {person}\n\temail = {person}@example.invalid\n\
             [init]\n\tdefaultBranch = main\n\
             [advice]\n\tdetachedHead = false\n\tstatusHints = false\n\
             [protocol \"file\"]\n\tallow = always\n\
             [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
             [core]\n\tpager = cat\n\tfsync = none\n"
        );
        self.write(&home.join(".gitconfig"), settings.as_bytes())?;
        let mut profile = Vec::new();
        for part in [
            OsStr::new("# Makes a shell that of "),
            OsStr::new(person),
            OsStr::new(".\nexport HOME="),
            &quoted(home.as_os_str()),
            OsStr::new("\nexport GIT_CONFIG_GLOBAL=\"$HOME/.gitconfig\" GIT_CONFIG_NOSYSTEM=1\n"),
            OsStr::new("export GIT_TEMPLATE_DIR= GIT_TERMINAL_PROMPT=0 LC_ALL=C\n"),
            OsStr::new("export GIT_CEILING_DIRECTORIES="),
            &quoted(self.root.as_os_str()),
            OsStr::new("\ncargo() { [ \"$1\" = "),
            OsStr::new(NAME),
            OsStr::new(" ] && shift && "),
            &quoted(self.stage.world.program.as_os_str()),
            OsStr::new(" \"$@\"; }\n"),
        ] {
            profile.extend_from_slice(part.as_bytes());
        }
        self.write(&home.join(".profile"), &profile)
    }

    /// Begins a part of the story.
    pub fn part(&self, title: &str) -> Result<()> {
        self.tell(&format!("\n== {title}\n"))
    }

    /// Tells a line or two of the story.
    pub fn says(&self, text: &str) -> Result<()> {
        self.tell(&format!("\n{text}\n"))
    }

    /// Types a command that does its work. Answers with what it said.
    pub fn types(&self, desk: Desk, line: &str) -> Result<String> {
        self.types_for(desk, line, 0)
    }

    /// Types a command that must end with this exit code. Answers with what it said.
    pub fn types_for(&self, desk: Desk, line: &str, expected: i32) -> Result<String> {
        self.tell(&format!("{} $ {line}\n", desk.folder))?;
        let (found, said) = self.run(desk, line)?;
        self.typed.set(self.typed.get() + 1);
        self.tell(&indented(&said))?;
        if found != 0 {
            self.tell(&format!("    (exit code {found})\n"))?;
        }
        self.checked.set(self.checked.get() + 1);
        if found == expected {
            return Ok(said);
        }
        let ends = |code: i32| format!("exit code {code}");
        Err(not_as_told(&format!("the end of `{line}`"), &ends(expected), &ends(found)))
    }

    /// Opens a file in an editor and leaves it with this content.
    pub fn edits(&self, desk: Desk, path: &str, content: &str) -> Result<()> {
        self.tell(&format!("{} $ $EDITOR {path}\n", desk.folder))?;
        let shown: String = content.lines().map(|line| format!("    | {line}\n")).collect();
        self.tell(&shown)?;
        self.write(&self.place(desk).join(path), content.as_bytes())
    }

    /// Runs a command for a check: it is not shown, and must do its work. Answers with what it said.
    pub fn asks(&self, desk: Desk, line: &str) -> Result<String> {
        match self.run(desk, line)? {
            (0, said) => Ok(said),
            (code, said) => {
                let found = format!("exit code {code}\n{}", said.trim_end());
                Err(not_as_told(&format!("the answer to `{line}`"), "exit code 0", &found))
            }
        }
    }

    /// What a file holds; nothing where there is none.
    pub fn file(&self, desk: Desk, path: &str) -> Result<String> {
        match fs::read(self.place(desk).join(path)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(cause) => Err(cause).unable(|| format!("`{path}` cannot be read")),
        }
    }

    /// Checks an outcome: what was found must be what is told.
    pub fn check(&self, told: &str, expected: &str, found: &str) -> Result<()> {
        self.checked.set(self.checked.get() + 1);
        if expected != found {
            return Err(not_as_told(told, expected, found));
        }
        self.tell(&format!("    ok: {told}\n"))
    }

    /// Checks that a command, which is not shown, ends with 0.
    pub fn check_works(&self, told: &str, desk: Desk, line: &str) -> Result<()> {
        self.asks(desk, line)?;
        self.check(told, line, line)
    }

    /// Checks that a command has said something.
    pub fn check_said(&self, told: &str, expected: &str, said: &str) -> Result<()> {
        let found = if said.contains(expected) { expected } else { said };
        self.check(told, expected, found)
    }

    fn tell(&self, text: &str) -> Result<()> {
        (self.stage.tell)(text)
    }

    fn place(&self, desk: Desk) -> PathBuf {
        self.root.join(desk.folder)
    }

    fn home(&self, person: &str) -> PathBuf {
        self.root.join("home").join(person)
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<()> {
        let failed = || format!("`{}` cannot be written", path.display());
        self.stage.disk.write_whole(path, content).unable(failed)
    }

    /// Runs a line of the shell as somebody; answers with its exit code and all that it said.
    fn run(&self, desk: Desk, line: &str) -> Result<(i32, String)> {
        self.check_interrupted()?;
        let date = rfc3339(MORNING + 60 * self.typed.get());
        let script = format!(". \"$1\"\nset --\nexec 2>&1\n{line}");
        let profile = self.home(desk.person).join(".profile");
        let mut shell = Program::new("/bin/sh", &self.place(desk))
            .args(["-c", &script, "sh"])
            .args([&profile])
            // Hooks are to fire here.
            .without(ACTIVE);
        for name in self.stage.world.env.keys().filter_map(|name| name.to_str()) {
            if !KEPT.contains(&name) {
                shell = shell.without(name);
            }
        }
        let shell = shell.variable("GIT_AUTHOR_DATE", &date).variable("GIT_COMMITTER_DATE", &date);
        let ended = shell.run_within(LONGEST).map_err(|failure| {
            Error::unable(format!("`{line}` could not be run")).because(failure)
        })?;
        self.check_interrupted()?;
        let code = ended.status.code().ok_or_else(|| {
            Error::unable(format!("`{line}` was ended by a signal")).detail(ended.stdout.clone())
        })?;
        Ok((code, ended.stdout))
    }

    fn check_interrupted(&self) -> Result<()> {
        match (self.stage.is_interrupted)() {
            true => Err(Error::new(Kind::Interrupted, "interrupted")),
            false => Ok(()),
        }
    }
}

fn not_as_told(what: &str, expected: &str, found: &str) -> Error {
    Error::no(format!("not as told: {what}"))
        .detail(format!("expected: {}", or_nothing(expected)))
        .detail(format!("found: {}", or_nothing(found)))
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "(nothing)" } else { text }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect()
}

/// A text as one word of the shell.
fn quoted(text: &OsStr) -> OsString {
    let mut word = vec![b'\''];
    for byte in text.as_bytes() {
        match byte {
            b'\'' => word.extend_from_slice(b"'\\''"),
            other => word.push(*other),
        }
    }
    word.push(b'\'');
    OsStr::from_bytes(&word).to_owned()
}

/// The folder that the user has named.
fn empty_folder(stage: Stage<'_>, named: &Path) -> Result<PathBuf> {
    let folder = stage.world.cwd.join(named);
    let shown = named.display();
    match fs::read_dir(&folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Error::usage(format!("`{shown}` is not empty"))
                    .hint("name a folder that is empty or not there yet"));
            }
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::usage(format!("`{shown}` is not a folder"))
                .hint("name a folder that is empty or not there yet"));
        }
        Err(_) => {
            stage.disk.make_folder(&folder).unable(|| format!("`{shown}` cannot be made"))?;
        }
    }
    in_full(&folder)
}

/// A new folder among the temporary files.
fn temporary_folder(stage: Stage<'_>) -> Result<PathBuf> {
    let base = stage.world.cwd.join(stage.world.variable("TMPDIR").unwrap_or("/tmp"));
    let failed = || format!("there is no room for the demo in `{}`", base.display());
    let hint = "`--keep DIR` plays it in a folder of your own";
    for number in 0..NAMES {
        let folder = base.join(format!("xtask-demo-{}-{number}", std::process::id()));
        match stage.disk.make_folder(&folder) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(Error::unable(failed()).because(cause).hint(hint)),
            Ok(()) => return in_full(&folder),
        }
    }
    Err(Error::unable(failed()).hint(hint))
}

/// A folder by its full name without symlinks, as git writes it down.
fn in_full(folder: &Path) -> Result<PathBuf> {
    folder.canonicalize().unable(|| format!("`{}` cannot be read", folder.display()))
}
