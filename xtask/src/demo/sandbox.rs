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

use xtask_base::environment::{Environment, format_rfc3339};
use xtask_base::error::{Error, ErrorKind, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::name::NAME;
use xtask_base::process::{ACTIVE_VAR, Program};

/// How long one command may take: two minutes, a hundred times what any of them needs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// When the story begins: Monday the 5th of January 2026, nine o'clock. Each command that is
/// typed takes a minute.
const STORY_START: i64 = 1_767_603_600;

/// How many names are tried for a folder that others have not taken.
const MAX_NAMES: u32 = 100;

/// What commands see of the user's environment: where programs and their libraries lie, and where
/// temporary files go.
const KEPT_VARIABLES: [&str; 5] =
    ["PATH", "TMPDIR", "GIT_EXEC_PATH", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

/// The folder in which somebody works. It is named in front of what is typed there.
#[derive(Clone, Copy, Debug)]
pub struct UserFolder {
    /// Whose it is.
    pub person: &'static str,
    /// The folder in the scene.
    pub folder: &'static str,
}

/// What the scene needs from the outside.
#[derive(Clone, Copy)]
pub struct SandboxContext<'a> {
    /// Where it was started, and by which program.
    pub world: &'a Environment,
    /// Makes files.
    pub disk: &'a Disk<'a>,
    /// Tells the reader what happens.
    pub print_text: &'a dyn Fn(&str) -> Result<()>,
    /// Whether the user wants it to end.
    pub is_interrupted: &'a dyn Fn() -> bool,
}

/// The scene.
pub struct Sandbox<'a> {
    root: PathBuf,
    context: SandboxContext<'a>,
    /// How many commands were typed, which is how late it is.
    command_count: Cell<i64>,
    check_count: Cell<usize>,
}

impl<'a> Sandbox<'a> {
    /// Makes a scene in `folder`, which must be empty or not be there yet; without one, in a new
    /// folder among the temporary files.
    pub fn create_sandbox(stage: SandboxContext<'a>, folder: Option<&Path>) -> Result<Sandbox<'a>> {
        let root = match folder {
            Some(folder) => prepare_folder(stage, folder)?,
            None => create_temp_folder(stage)?,
        };
        Ok(Sandbox { root, context: stage, command_count: Cell::new(0), check_count: Cell::new(0) })
    }

    /// The folder in which all of it lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many outcomes were checked.
    #[must_use]
    pub fn check_count(&self) -> usize {
        self.check_count.get()
    }

    /// Takes all of it away.
    pub fn remove_all(&self) -> Result<()> {
        let failed = || format!("`{}` cannot be removed", self.root.display());
        self.context.disk.remove_folder(&self.root).with_context(failed)
    }

    /// Gives somebody a home: a configuration of git, and what their shell reads first. Nobody can
    /// type without one.
    pub fn create_home(&self, person: &str) -> Result<()> {
        let home = self.home_folder(person);
        // Nothing may go on in the background while the scene is taken away.
        let settings = format!(
            "[user]\n\tname = {person}\n\temail = {person}@example.invalid\n\
             [init]\n\tdefaultBranch = main\n\
             [advice]\n\tdetachedHead = false\n\tstatusHints = false\n\
             [protocol \"file\"]\n\tallow = always\n\
             [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
             [core]\n\tpager = cat\n\tfsync = none\n"
        );
        self.write_file(&home.join(".gitconfig"), settings.as_bytes())?;
        let mut profile = Vec::new();
        for part in [
            OsStr::new("# Makes a shell that of "),
            OsStr::new(person),
            OsStr::new(".\nexport HOME="),
            &shell_quote(home.as_os_str()),
            OsStr::new("\nexport GIT_CONFIG_GLOBAL=\"$HOME/.gitconfig\" GIT_CONFIG_NOSYSTEM=1\n"),
            OsStr::new("export GIT_TEMPLATE_DIR= GIT_TERMINAL_PROMPT=0 LC_ALL=C\n"),
            OsStr::new("export GIT_CEILING_DIRECTORIES="),
            &shell_quote(self.root.as_os_str()),
            OsStr::new("\ncargo() { [ \"$1\" = "),
            OsStr::new(NAME),
            OsStr::new(" ] && shift && "),
            &shell_quote(self.context.world.program.as_os_str()),
            OsStr::new(" \"$@\"; }\n"),
        ] {
            profile.extend_from_slice(part.as_bytes());
        }
        self.write_file(&home.join(".profile"), &profile)
    }

    /// Begins a part of the story.
    pub fn print_heading(&self, title: &str) -> Result<()> {
        self.print_text(&format!("\n== {title}\n"))
    }

    /// Tells a line or two of the story.
    pub fn print_story(&self, text: &str) -> Result<()> {
        self.print_text(&format!("\n{text}\n"))
    }

    /// Types a command that does its work. Answers with what it said.
    pub fn run_command(&self, desk: UserFolder, line: &str) -> Result<String> {
        self.run_expecting(desk, line, 0)
    }

    /// Types a command that must end with this exit code. Answers with what it said.
    pub fn run_expecting(&self, desk: UserFolder, line: &str, expected: i32) -> Result<String> {
        self.print_text(&format!("{} $ {line}\n", desk.folder))?;
        let (found, said) = self.run_shell(desk, line)?;
        self.command_count.set(self.command_count.get() + 1);
        self.print_text(&indent_lines(&said))?;
        if found != 0 {
            self.print_text(&format!("    (exit code {found})\n"))?;
        }
        self.check_count.set(self.check_count.get() + 1);
        if found == expected {
            return Ok(said);
        }
        let ends = |code: i32| format!("exit code {code}");
        Err(mismatch_error(&format!("the end of `{line}`"), &ends(expected), &ends(found)))
    }

    /// Opens a file in an editor and leaves it with this content.
    pub fn edit_file(&self, desk: UserFolder, path: &str, content: &str) -> Result<()> {
        self.print_text(&format!("{} $ $EDITOR {path}\n", desk.folder))?;
        let shown: String = content.lines().map(|line| format!("    | {line}\n")).collect();
        self.print_text(&shown)?;
        self.write_file(&self.folder_path(desk).join(path), content.as_bytes())
    }

    /// Runs a command for a check: it is not shown, and must do its work. Answers with what it said.
    pub fn capture_output(&self, desk: UserFolder, line: &str) -> Result<String> {
        match self.run_shell(desk, line)? {
            (0, said) => Ok(said),
            (code, said) => {
                let found = format!("exit code {code}\n{}", said.trim_end());
                Err(mismatch_error(&format!("the answer to `{line}`"), "exit code 0", &found))
            }
        }
    }

    /// What a file holds; nothing where there is none.
    pub fn read_file(&self, desk: UserFolder, path: &str) -> Result<String> {
        match fs::read(self.folder_path(desk).join(path)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(cause) => Err(cause).with_context(|| format!("`{path}` cannot be read")),
        }
    }

    /// Checks an outcome: what was found must be what is told.
    pub fn check_equal(&self, told: &str, expected: &str, found: &str) -> Result<()> {
        self.check_count.set(self.check_count.get() + 1);
        if expected != found {
            return Err(mismatch_error(told, expected, found));
        }
        self.print_text(&format!("    ok: {told}\n"))
    }

    /// Checks that a command, which is not shown, ends with 0.
    pub fn check_succeeds(&self, told: &str, desk: UserFolder, line: &str) -> Result<()> {
        self.capture_output(desk, line)?;
        self.check_equal(told, line, line)
    }

    /// Checks that a command has said something.
    pub fn check_output(&self, told: &str, expected: &str, said: &str) -> Result<()> {
        let found = if said.contains(expected) { expected } else { said };
        self.check_equal(told, expected, found)
    }

    fn print_text(&self, text: &str) -> Result<()> {
        (self.context.print_text)(text)
    }

    fn folder_path(&self, desk: UserFolder) -> PathBuf {
        self.root.join(desk.folder)
    }

    fn home_folder(&self, person: &str) -> PathBuf {
        self.root.join("home").join(person)
    }

    fn write_file(&self, path: &Path, content: &[u8]) -> Result<()> {
        let failed = || format!("`{}` cannot be written", path.display());
        self.context.disk.write_atomically(path, content).with_context(failed)
    }

    /// Runs a line of the shell as somebody; answers with its exit code and all that it said.
    fn run_shell(&self, desk: UserFolder, line: &str) -> Result<(i32, String)> {
        self.check_interrupted()?;
        let date = format_rfc3339(STORY_START + 60 * self.command_count.get());
        let script = format!(". \"$1\"\nset --\nexec 2>&1\n{line}");
        let profile = self.home_folder(desk.person).join(".profile");
        let mut shell = Program::new("/bin/sh", &self.folder_path(desk))
            .args(["-c", &script, "sh"])
            .args([&profile])
            // Hooks are to fire here.
            .env_remove(ACTIVE_VAR);
        for name in self.context.world.variables.keys().filter_map(|name| name.to_str()) {
            if !KEPT_VARIABLES.contains(&name) {
                shell = shell.env_remove(name);
            }
        }
        let shell = shell.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        let ended = shell.run_with_timeout(COMMAND_TIMEOUT).map_err(|failure| {
            Error::unable(format!("`{line}` could not be run")).with_cause(failure)
        })?;
        self.check_interrupted()?;
        let code = ended.status.code().ok_or_else(|| {
            Error::unable(format!("`{line}` was ended by a signal"))
                .with_detail(ended.stdout.clone())
        })?;
        Ok((code, ended.stdout))
    }

    fn check_interrupted(&self) -> Result<()> {
        match (self.context.is_interrupted)() {
            true => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
            false => Ok(()),
        }
    }
}

fn mismatch_error(what: &str, expected: &str, found: &str) -> Error {
    Error::negative(format!("not as told: {what}"))
        .with_detail(format!("expected: {}", or_nothing(expected)))
        .with_detail(format!("found: {}", or_nothing(found)))
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "(nothing)" } else { text }
}

fn indent_lines(text: &str) -> String {
    text.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect()
}

/// A text as one word of the shell.
fn shell_quote(text: &OsStr) -> OsString {
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
fn prepare_folder(stage: SandboxContext<'_>, named: &Path) -> Result<PathBuf> {
    let folder = stage.world.cwd.join(named);
    let shown = named.display();
    match fs::read_dir(&folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Error::usage(format!("`{shown}` is not empty"))
                    .with_hint("name a folder that is empty or not there yet"));
            }
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::usage(format!("`{shown}` is not a folder"))
                .with_hint("name a folder that is empty or not there yet"));
        }
        Err(_) => {
            stage.disk.make_folder(&folder).with_context(|| format!("`{shown}` cannot be made"))?;
        }
    }
    resolve_symlinks(&folder)
}

/// A new folder among the temporary files.
fn create_temp_folder(stage: SandboxContext<'_>) -> Result<PathBuf> {
    let base = stage.world.cwd.join(stage.world.variable("TMPDIR").unwrap_or("/tmp"));
    let failed = || format!("there is no room for the demo in `{}`", base.display());
    let hint = "`--keep DIR` plays it in a folder of your own";
    for number in 0..MAX_NAMES {
        let folder = base.join(format!("xtask-demo-{}-{number}", std::process::id()));
        match stage.disk.make_folder(&folder) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(Error::unable(failed()).with_cause(cause).with_hint(hint)),
            Ok(()) => return resolve_symlinks(&folder),
        }
    }
    Err(Error::unable(failed()).with_hint(hint))
}

/// A folder by its full name without symlinks, as git writes it down.
fn resolve_symlinks(folder: &Path) -> Result<PathBuf> {
    folder.canonicalize().with_context(|| format!("`{}` cannot be read", folder.display()))
}
