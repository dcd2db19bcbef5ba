//! The sandbox of the demo: a folder with users, each with a home, and the commands that they type.
//!
//! Everything is below that one folder. A command is printed as typed and run by `/bin/sh` in exactly these words;
//! `cargo xtask` is a shell function for the running program, so that nothing is compiled. Of the user's
//! environment a command sees only `KEPT_VARIABLES`, and it is killed after `COMMAND_TIMEOUT`. Commits get the
//! dates of the story, so that their IDs are the same in every run, up to the first commit that the program dates
//! by the real clock. For example, `run_command(BOB, "git push")` prints `bob $ git push` and its output.
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

/// How long one command may take: a hundred times as long as any of them needs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// When the story begins, as Unix time in seconds: Monday 2026-01-05, 09:00. Each command takes a minute.
const STORY_START: i64 = 1_767_603_600;

/// How many names are tried for a temporary folder.
const MAX_NAMES: u32 = 100;

/// The variables of the user's environment that commands see: the paths of programs and libraries, and of temporary
/// files.
const KEPT_VARIABLES: [&str; 5] =
    ["PATH", "TMPDIR", "GIT_EXEC_PATH", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

/// A folder of the sandbox and the user who works in it; `folder` is printed before each command.
#[derive(Clone, Copy, Debug)]
pub struct UserFolder {
    /// The user's name, e.g. `ada`.
    pub person: &'static str,
    /// The path from the root of the sandbox.
    pub folder: &'static str,
}

/// The context of a sandbox.
#[derive(Clone, Copy)]
pub struct SandboxContext<'a> {
    /// The environment in which the demo was started.
    pub world: &'a Environment,
    pub disk: &'a Disk<'a>,
    /// Prints a text.
    pub print_text: &'a dyn Fn(&str) -> Result<()>,
    /// Returns whether the user pressed Ctrl-C.
    pub is_interrupted: &'a dyn Fn() -> bool,
}

pub struct Sandbox<'a> {
    root: PathBuf,
    context: SandboxContext<'a>,
    /// The number of commands so far, which is the story's time in minutes.
    command_count: Cell<i64>,
    check_count: Cell<usize>,
}

impl<'a> Sandbox<'a> {
    /// Creates a sandbox in `folder`, which must be empty or not exist, or else in a new temporary folder.
    pub fn create_sandbox(stage: SandboxContext<'a>, folder: Option<&Path>) -> Result<Sandbox<'a>> {
        let root = match folder {
            Some(folder) => prepare_folder(stage, folder)?,
            None => create_temp_folder(stage)?,
        };
        Ok(Sandbox { root, context: stage, command_count: Cell::new(0), check_count: Cell::new(0) })
    }

    /// Returns the root folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the number of checks so far.
    #[must_use]
    pub fn check_count(&self) -> usize {
        self.check_count.get()
    }

    /// Removes the sandbox.
    pub fn remove_all(&self) -> Result<()> {
        let failed = || format!("cannot remove `{}`", self.root.display());
        self.context.disk.remove_folder(&self.root).with_context(failed)
    }

    /// Creates the home of a user: a configuration of git and a profile of the shell. A user needs it to run
    /// commands.
    pub fn create_home(&self, person: &str) -> Result<()> {
        let home = self.home_folder(person);
        // No background process may write while the sandbox is removed.
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
            OsStr::new("# Sets up a shell for "),
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

    /// Prints the heading of a chapter.
    pub fn print_heading(&self, title: &str) -> Result<()> {
        self.print_text(&format!("\n== {title}\n"))
    }

    /// Prints a paragraph of the story.
    pub fn print_story(&self, text: &str) -> Result<()> {
        self.print_text(&format!("\n{text}\n"))
    }

    /// Runs a command that must succeed. Returns its output.
    pub fn run_command(&self, desk: UserFolder, line: &str) -> Result<String> {
        self.run_expecting(desk, line, 0)
    }

    /// Runs a command that must exit with the code `expected`. Returns its output.
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
        Err(mismatch_error(&format!("exit code of `{line}`"), &ends(expected), &ends(found)))
    }

    /// Writes a file, printed as if it were edited in an editor.
    pub fn edit_file(&self, desk: UserFolder, path: &str, content: &str) -> Result<()> {
        self.print_text(&format!("{} $ $EDITOR {path}\n", desk.folder))?;
        let shown: String = content.lines().map(|line| format!("    | {line}\n")).collect();
        self.print_text(&shown)?;
        self.write_file(&self.folder_path(desk).join(path), content.as_bytes())
    }

    /// Runs a command for a check, without printing it; it must succeed. Returns its output.
    pub fn capture_output(&self, desk: UserFolder, line: &str) -> Result<String> {
        match self.run_shell(desk, line)? {
            (0, said) => Ok(said),
            (code, said) => {
                let found = format!("exit code {code}\n{}", said.trim_end());
                Err(mismatch_error(&format!("exit code of `{line}`"), "exit code 0", &found))
            }
        }
    }

    /// Returns the content of a file, or an empty string if it does not exist.
    pub fn read_file(&self, desk: UserFolder, path: &str) -> Result<String> {
        match fs::read(self.folder_path(desk).join(path)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(cause) => Err(cause).with_context(|| format!("cannot read `{path}`")),
        }
    }

    /// Checks that `found` is `expected`; `told` describes the check.
    pub fn check_equal(&self, told: &str, expected: &str, found: &str) -> Result<()> {
        self.check_count.set(self.check_count.get() + 1);
        if expected != found {
            return Err(mismatch_error(told, expected, found));
        }
        self.print_text(&format!("    ok: {told}\n"))
    }

    /// Checks that a command, which is not printed, succeeds.
    pub fn check_succeeds(&self, told: &str, desk: UserFolder, line: &str) -> Result<()> {
        self.capture_output(desk, line)?;
        self.check_equal(told, line, line)
    }

    /// Checks that the output `said` of a command contains `expected`.
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
        let failed = || format!("cannot write `{}`", path.display());
        self.context.disk.write_atomically(path, content).with_context(failed)
    }

    /// Runs a line of shell as a user. Returns its exit code and its output (stdout and stderr).
    fn run_shell(&self, desk: UserFolder, line: &str) -> Result<(i32, String)> {
        self.check_interrupted()?;
        let date = format_rfc3339(STORY_START + 60 * self.command_count.get());
        let script = format!(". \"$1\"\nset --\nexec 2>&1\n{line}");
        let profile = self.home_folder(desk.person).join(".profile");
        let mut shell = Program::new("/bin/sh", &self.folder_path(desk))
            .args(["-c", &script, "sh"])
            .args([&profile])
            // The variable would keep the hooks of the demo from running.
            .env_remove(ACTIVE_VAR);
        for name in self.context.world.variables.keys().filter_map(|name| name.to_str()) {
            if !KEPT_VARIABLES.contains(&name) {
                shell = shell.env_remove(name);
            }
        }
        let shell = shell.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        let ended = shell
            .run_with_timeout(COMMAND_TIMEOUT)
            .map_err(|failure| Error::unable(format!("cannot run `{line}`")).with_cause(failure))?;
        self.check_interrupted()?;
        let code = ended.status.code().ok_or_else(|| {
            Error::unable(format!("`{line}` was killed by a signal"))
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
    Error::negative(format!("unexpected result: {what}"))
        .with_detail(format!("expected: {}", or_nothing(expected)))
        .with_detail(format!("found: {}", or_nothing(found)))
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "(nothing)" } else { text }
}

fn indent_lines(text: &str) -> String {
    text.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect()
}

/// Quotes a text as one word of the shell.
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

/// Creates the folder that the user has named, or checks that it is empty.
fn prepare_folder(stage: SandboxContext<'_>, named: &Path) -> Result<PathBuf> {
    let folder = stage.world.cwd.join(named);
    let shown = named.display();
    match fs::read_dir(&folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Error::usage(format!("`{shown}` is not empty"))
                    .with_hint("name a folder that is empty or does not exist yet"));
            }
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::usage(format!("`{shown}` is not a folder"))
                .with_hint("name a folder that is empty or does not exist yet"));
        }
        Err(_) => {
            stage.disk.make_folder(&folder).with_context(|| format!("cannot create `{shown}`"))?;
        }
    }
    resolve_symlinks(&folder)
}

/// Creates a new temporary folder.
fn create_temp_folder(stage: SandboxContext<'_>) -> Result<PathBuf> {
    let base = stage.world.cwd.join(stage.world.variable("TMPDIR").unwrap_or("/tmp"));
    let failed = || format!("cannot create a folder for the demo in `{}`", base.display());
    let hint = "use `--keep DIR` to run it in another folder";
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

/// Returns the absolute path without symlinks, as git prints it.
fn resolve_symlinks(folder: &Path) -> Result<PathBuf> {
    folder.canonicalize().with_context(|| format!("cannot read `{}`", folder.display()))
}
