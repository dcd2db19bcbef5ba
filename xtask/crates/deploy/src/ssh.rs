//! Another host, by the system's ssh and rsync. Which port, key and user is what `~/.ssh/config` says.
//!
//! Nothing here asks a person anything, and every wait has a bound. The greeting only looks. What shells over
//! there read is of plain letters, and quoted besides. The program is written beside its name and takes that
//! only when it has said there who it is, so a file of that name is whole and can be run.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Around;
use super::ends::{end, last_lines};
use super::history::{self, Entry};
use super::release::Release;
use super::target::{Standing, Target};
use xtask_base::digest;
use xtask_base::error::{Context as _, Error, Kind, Result};
use xtask_base::process::{Output, Program};
use xtask_base::talk::Talk;
use xtask_base::world::World;
use xtask_config::Deploy;

/// The kind of an order.
pub const ORDER: &str = "xtask.deploy-order/1";

/// The word by which this program is asked to take orders.
pub const DEPLOY_HOST: &str = "deploy-host";

/// The word by which it is only asked who it is.
pub const HELLO: &str = "hello";

/// How ssh behaves: it asks nobody, gives up a host that does not answer, and notices within a minute that
/// one has gone away.
const MANNERS: [&str; 8] = [
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "ServerAliveCountMax=4",
];

/// How long a small script may take over there: a minute, for hosts that are busy or far away.
const SCRIPT: Duration = Duration::from_secs(60);

/// How long a release or the program may be under way: an hour.
pub const UPLOAD: Duration = Duration::from_secs(3600);

/// The seconds without a byte after which rsync gives up.
const STALLED: &str = "--timeout=120";

/// The first line of the greeting. What a login script prints before is not of it.
const GREETING: &str = "xtask-greeting/1";

/// How ssh itself ends, where the command could not be run at all.
pub const NOT_CONNECTED: i32 = 255;

/// A host.
pub struct Host<'a> {
    /// Its name, as ssh takes it.
    pub name: String,
    world: &'a World,
}

/// How a host says that things are.
#[derive(Debug)]
pub struct Greeting {
    /// The bytes of the record of the target.
    record: Option<Vec<u8>>,
    /// What the folder holds; nothing where it is not there.
    names: Option<Vec<String>>,
    /// Whether something that is no folder is in its place.
    is_other: bool,
    /// Whether the folder can be written, or made.
    pub may_write: bool,
    /// The bytes that are free there.
    pub free: Option<u64>,
    /// Whether a run is under way, or was cut short.
    pub has_journal: bool,
    /// The programs that are there.
    pub programs: Vec<String>,
    /// What was done to the target.
    pub history: Vec<Entry>,
}

impl<'a> Host<'a> {
    /// The host of a layer.
    #[must_use]
    pub fn of(deploy: &Deploy, world: &'a World) -> Host<'a> {
        let name = deploy.to.split_once(':').map_or(deploy.to.as_str(), |(host, _)| host);
        Host { name: name.to_owned(), world }
    }

    /// A program of this machine, with the environment of this command.
    fn program(&self, name: &str) -> Program {
        let found = self.world.finds(name).unwrap_or_else(|| name.into());
        Program::new(found, &self.world.cwd).with_only(&self.world.env).in_own_group()
    }

    fn ssh(&self, command: &str) -> Program {
        self.program("ssh").args(MANNERS).args(["-T", "--", &self.name, command])
    }

    /// Runs a small script there.
    fn script(&self, script: &str) -> Result<Output> {
        let ssh = self.ssh("sh").that_lists();
        let done = ssh.run_with_input(script.as_bytes(), SCRIPT)?;
        match done.status.code() {
            Some(0) => Ok(done),
            Some(NOT_CONNECTED) | None => Err(self.not_reached(&done.stderr)),
            Some(_) => Err(last_lines(
                Error::unable(format!("host `{}` refuses", self.name)),
                &format!("{}{}", done.stdout, done.stderr),
            )),
        }
    }

    /// The failure of a connection, in the words of ssh.
    pub fn not_reached(&self, words: &str) -> Error {
        last_lines(Error::unable(format!("host `{}` cannot be reached", self.name)), words)
            .hint(format!("`ssh {} true` must work without a question", self.name))
    }

    /// Asks how things are there. Nothing is changed. A host on which this program could not run is refused.
    pub fn greet(&self, target: &Target) -> Result<Greeting> {
        let done = self.script(&greeting(&target.root))?;
        let said = done.stdout.split_once(&format!("{GREETING}\n")).map(|(_, said)| said);
        let said = said.ok_or_else(|| {
            let error = Error::unable(format!(
                "unexpected response from host `{}` (not an xtask handshake)",
                self.name
            ));
            last_lines(error, &done.stdout)
        })?;
        let (lines, past) = said.split_once("\nhistory\n").unwrap_or((said, ""));
        let all = |word: &'static str| {
            let words = lines.lines().filter_map(move |line| line.strip_prefix(word));
            words.filter_map(|rest| rest.strip_prefix(' ')).map(str::to_owned)
        };
        let is_said = |word: &str| lines.lines().any(|line| line == word);
        let (system, machine) = (all("system").next(), all("machine").next());
        self.check_machine(&system.unwrap_or_default(), &machine.unwrap_or_default())?;
        let record: Vec<String> = all("record").collect();
        Ok(Greeting {
            record: is_said("has-record").then(|| record.join("\n").into_bytes()),
            names: is_said("folder").then(|| all("entry").collect()),
            is_other: is_said("other"),
            may_write: is_said("writable"),
            free: all("df").next_back().and_then(|line| free_of(&line)),
            has_journal: is_said("journal"),
            programs: all("program").filter(|name| name.starts_with("xtask-")).collect(),
            history: history::parse(past.as_bytes()),
        })
    }

    /// This program is for this system and this machine alone.
    fn check_machine(&self, system: &str, machine: &str) -> Result<()> {
        let systems: &[&str] = match std::env::consts::OS {
            "linux" => &["Linux"],
            "macos" => &["Darwin"],
            other => &[other],
        };
        let machines: &[&str] = match std::env::consts::ARCH {
            "x86_64" => &["x86_64", "amd64"],
            "aarch64" => &["aarch64", "arm64"],
            other => &[other],
        };
        if systems.contains(&system) && machines.contains(&machine) {
            return Ok(());
        }
        Err(Error::no(format!(
            "host `{}` is {system} on {machine}, and this program is for {} on {}",
            self.name, systems[0], machines[0]
        ))
        .hint("deploy from a machine of the same kind as the host"))
    }

    /// Sends this program, if it is not there, and has it say there who it is.
    pub fn send_program(&self, target: &Target, is_there: bool, around: &Around<'_>) -> Result<()> {
        if is_there {
            return Ok(());
        }
        let failed = || format!("the program cannot be sent to `{}`", self.name);
        (around.tell)(&format!("sending the program to {}", self.name));
        let hex = program_digest(self.world)?;
        let (folder, name) = (target.programs(), program_name(&hex));
        let (coming, whole) = (folder.join(format!("coming-{name}")), folder.join(&name));
        let (coming, whole) = (quoted(&coming), quoted(&whole));
        around.disk.other("make folders on the host").unable(failed)?;
        self.script(&format!(
            "umask 022 && mkdir -p {} {}\n",
            quoted(&folder),
            quoted(&target.incoming())
        ))?;
        around.disk.other("send the program").unable(failed)?;
        let to = format!("{}:{}", self.name, folder.join(format!("coming-{name}")).display());
        self.rsync(&["--perms", "--times"], self.world.program.as_os_str(), &to, around)?;
        around.disk.other("put the program into its place").unable(failed)?;
        let hello = hello(&hex);
        let script = format!(
            "chmod 0755 {coming} || exit 1\nsaid=$({coming} {DEPLOY_HOST} {HELLO} 2>&1)\n\
             if [ \"$said\" != '{hello}' ]; then\n  \
             printf 'the program that was sent does not run there: %s\\n' \"$said\"; exit 1\nfi\n\
             mv -f {coming} {whole}\n"
        );
        self.script(&script).map(drop)
    }

    /// Sends a release to where it arrives.
    pub fn send_release(
        &self,
        target: &Target,
        release: &Release,
        around: &Around<'_>,
    ) -> Result<()> {
        let failed = || format!("the release cannot be sent to `{}`", self.name);
        (around.tell)(&format!("sending {} to {}", release.name, self.name));
        around.disk.other("send the release").unable(failed)?;
        let mut from = release.folder.as_os_str().to_owned();
        from.push("/");
        let to = format!("{}:{}/", self.name, target.incoming().join(&release.name).display());
        let how = ["--recursive", "--links", "--perms", "--times", "--delete"];
        self.rsync(&how, &from, &to, around)
    }

    fn rsync(&self, how: &[&str], from: &OsStr, to: &str, around: &Around<'_>) -> Result<()> {
        let rsh = format!("ssh {}", MANNERS.join(" "));
        let to = OsString::from(to);
        let run = self.program("rsync").args(how).args([STALLED, "--rsh", &rsh, "--"]);
        let run = run.args([from, &to]);
        let done = run.run_in_group(UPLOAD, &|| around.interrupts.arrived())?;
        match end("`rsync`", done.end, UPLOAD) {
            Ok(()) => Ok(()),
            Err(failure) if failure.kind() == Kind::Interrupted => Err(failure),
            Err(failure) => {
                let error = Error::unable(format!("host `{}`: {failure}", self.name));
                Err(last_lines(error, &done.output))
            }
        }
    }

    /// Runs the program there with these words and our own standard streams; its exit code.
    pub fn run_program(&self, target: &Target, program: &str, words: &[String]) -> Result<u8> {
        let mut command = format!("exec {}", quoted(&target.programs().join(program)));
        for word in words {
            command.push(' ');
            command.push_str(&quoted(Path::new(word)));
        }
        // Ctrl-C ends ssh as well, and with it what follows a log there.
        let found = self.world.finds("ssh").unwrap_or_else(|| "ssh".into());
        let ssh = Program::new(found, &self.world.cwd).with_only(&self.world.env).args(MANNERS);
        let status = ssh.args(["-T", "--", &self.name, &command]).run_attached()?;
        match status.code() {
            Some(NOT_CONNECTED) => {
                Err(Error::unable(format!("the connection to host `{}` failed", self.name))
                    .hint(format!("`ssh {} true` must work without a question", self.name)))
            }
            None | Some(130) => Err(Error::new(Kind::Interrupted, "interrupted")),
            Some(code) => Ok(u8::try_from(code).unwrap_or(Kind::Unable.code())),
        }
    }

    /// Starts the program there, to take an order.
    pub fn start(&self, target: &Target, program: &str) -> Result<Talk> {
        let program = quoted(&target.programs().join(program));
        Talk::start(self.ssh(&format!("exec {program} {DEPLOY_HOST}")))
    }
}

impl Greeting {
    /// Whose the target is. One that is not ours is an error that says why.
    pub fn standing(&self, target: &Target) -> Result<Standing> {
        if self.is_other {
            return Err(Error::no(format!(
                "the target `{}` is not a folder",
                target.root.display()
            )));
        }
        target.standing_elsewhere(self.record.as_deref(), self.names.as_deref().unwrap_or(&[]))
    }

    /// Whether this very program is there.
    pub fn has_program(&self, world: &World) -> Result<bool> {
        let name = program_name(&program_digest(world)?);
        Ok(self.programs.contains(&name))
    }
}

/// The name of the program of a digest.
#[must_use]
pub fn program_name(hex: &str) -> String {
    format!("xtask-{}", &hex[..12])
}

/// The digest of this very program.
pub fn program_digest(world: &World) -> Result<String> {
    let failed = || format!("this program, `{}`, cannot be read", world.program.display());
    let file = std::fs::File::open(&world.program).unable(failed)?;
    Ok(digest::hex(&digest::of_stream(file).unable(failed)?))
}

/// What the program of this digest says when it is asked who it is.
#[must_use]
pub fn hello(hex: &str) -> String {
    format!("{ORDER} {hex}")
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// The script that looks.
fn greeting(root: &Path) -> String {
    let root = quoted(root);
    format!(
        r#"

set -u
to={root}
echo '{GREETING}'
printf 'system %s\n' "$(uname -s)"
printf 'machine %s\n' "$(uname -m)"
near=$to
while ! [ -e "$near" ] && [ "$near" != / ]; do near=$(dirname "$near"); done
if [ -d "$near" ] && [ -w "$near" ]; then echo writable; fi
df -Pk "$near" 2>/dev/null | while IFS= read -r line; do printf 'df %s\n' "$line"; done
if [ -d "$to" ]; then
  echo folder
  ls -A "$to" | head -n 100 | while IFS= read -r name; do printf 'entry %s\n' "$name"; done
  if [ -e "$to/journal" ]; then echo journal; fi
  if [ -d "$to/program" ]; then
    ls "$to/program" | while IFS= read -r name; do printf 'program %s\n' "$name"; done
  fi
  if [ -f "$to/target" ]; then
    echo has-record
    while IFS= read -r line || [ -n "$line" ]; do printf 'record %s\n' "$line"; done < "$to/target"
  fi
  if [ -f "$to/history" ]; then echo history; cat "$to/history" || exit 1; fi
elif [ -e "$to" ] || [ -L "$to" ]; then
  echo other
fi
exit 0
"#
    )
}

/// The free bytes in a line of `df -Pk`: the number before that with a `%`.
fn free_of(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let percent = words.iter().rposition(|word| {
        word.strip_suffix('%').is_some_and(|number| number.parse::<u64>().is_ok())
    })?;
    words.get(percent.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Where a layer for another host is made on this machine.
#[must_use]
pub fn staging(repo: &xtask_git::Repo, layer: &str) -> PathBuf {
    repo.shared_state_folder().join("deploy").join(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_room_is_found_whatever_the_names_are() {
        let line = "/dev/disk 1 with spaces 1000 400 600 40% /srv/a b";
        assert_eq!(free_of(line), Some(600 * 1024));
        assert_eq!(free_of("Filesystem 1024-blocks Used Available Capacity Mounted on"), None);
        assert_eq!(free_of("overlay 9 9 9 - /"), None);
    }

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(quoted(Path::new("/srv/it's a")), "'/srv/it'\\''s a'");
    }
}
