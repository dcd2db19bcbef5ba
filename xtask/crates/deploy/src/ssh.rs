//! Access to another host by the system's `ssh` and `rsync`; `~/.ssh/config` sets port, key and user.
//!
//! No command prompts, and every wait has a time limit. The handshake is read-only. Arguments for the remote
//! shell are quoted. The program is uploaded under a temporary name and renamed after it has run there and
//! printed its digest, so a file of the final name is complete and runs. For example, a handshake begins:
//!
//! ```text
//! xtask-greeting/1
//! system Linux
//! machine x86_64
//! writable
//! ```

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DeployContext;
use super::command_exit::{check_exit, with_last_lines};
use super::history::{self, DeployEntry};
use super::release::Release;
use super::target::{DeployTarget, TargetOwnership};
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::line_protocol::LineProcess;
use xtask_base::process::{Program, ProgramOutput};
use xtask_config::DeployConfig;

/// Value of `HostRequest::schema`.
pub const ORDER: &str = "xtask.deploy-order/1";

/// Subcommand that makes this program read requests from stdin on the host.
pub const DEPLOY_HOST: &str = "deploy-host";

/// Argument of `DEPLOY_HOST` that makes the program only print `render_hello`.
pub const HELLO: &str = "hello";

/// Options of ssh: no prompts, 10 s to connect, and a lost connection is noticed within a minute.
const SSH_OPTIONS: [&str; 8] = [
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "ServerAliveCountMax=4",
];

/// Time limit of a small script on the host: one minute, for hosts that are busy or far away.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit for uploading a release or the program: one hour.
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// Seconds without data after which rsync fails.
const RSYNC_TIMEOUT_OPTION: &str = "--timeout=120";

/// First line of the handshake. Output before it comes from login scripts and is ignored.
const GREETING: &str = "xtask-greeting/1";

/// Exit code of ssh if it could not run the command at all.
pub const SSH_FAILED_CODE: i32 = 255;

/// A host that is reached by ssh.
pub struct SshHost<'a> {
    /// Name for the command line of ssh, e.g. `deploy@box`.
    pub name: String,
    world: &'a Environment,
}

/// State of a host and a target, as reported by the handshake script.
#[derive(Debug)]
pub struct HostHandshake {
    /// Content of the record `target`, if the file exists.
    record: Option<Vec<u8>>,
    /// Names of the entries in the target's folder; `None` if it does not exist.
    names: Option<Vec<String>>,
    /// Whether the path of the target exists and is not a folder.
    is_not_folder: bool,
    /// Whether the user can write to the folder, or create it.
    pub may_write: bool,
    /// Free space of the target's file system, in bytes, from `df -Pk`.
    pub free_bytes: Option<u64>,
    /// Whether a run is in progress or was interrupted.
    pub has_journal: bool,
    /// Names of the uploaded programs, e.g. `xtask-4cfd10e1a2b3`.
    pub programs: Vec<String>,
    /// Runs of the target, oldest first.
    pub history: Vec<DeployEntry>,
}

impl<'a> SshHost<'a> {
    /// Returns the host of a layer: the part of `deploy.to` before the `:`.
    #[must_use]
    pub fn for_deploy(deploy: &DeployConfig, world: &'a Environment) -> SshHost<'a> {
        let name = deploy.to.split_once(':').map_or(deploy.to.as_str(), |(host, _)| host);
        SshHost { name: name.to_owned(), world }
    }

    /// Returns a program on this machine, with the environment of this command.
    fn local_program(&self, name: &str) -> Program {
        let found = self.world.find_program(name).unwrap_or_else(|| name.into());
        Program::new(found, &self.world.cwd).with_env_only(&self.world.variables).in_own_group()
    }

    fn ssh_command(&self, command: &str) -> Program {
        self.local_program("ssh").args(SSH_OPTIONS).args(["-T", "--", &self.name, command])
    }

    /// Runs a small script on the host. A nonzero exit code is an error, with the output as details.
    fn run_script(&self, script: &str) -> Result<ProgramOutput> {
        let ssh = self.ssh_command("sh").with_full_output();
        let done = ssh.run_with_input(script.as_bytes(), SCRIPT_TIMEOUT)?;
        match done.status.code() {
            Some(0) => Ok(done),
            Some(SSH_FAILED_CODE) | None => Err(self.unreachable_error(&done.stderr)),
            Some(_) => Err(with_last_lines(
                Error::unable(format!("command failed on host `{}`", self.name)),
                &format!("{}{}", done.stdout, done.stderr),
            )),
        }
    }

    /// Returns the error for a failed connection, with `words`, the output of ssh, as details.
    pub fn unreachable_error(&self, words: &str) -> Error {
        with_last_lines(Error::unable(format!("cannot reach host `{}`", self.name)), words)
            .with_hint(format!("`ssh {} true` must work without a prompt", self.name))
    }

    /// Inspects the host and `target`, without changing anything.
    ///
    /// Returns an error if the host is unreachable, or if its system or CPU differs from this machine's.
    pub fn read_handshake(&self, target: &DeployTarget) -> Result<HostHandshake> {
        let done = self.run_script(&render_handshake_script(&target.root))?;
        let said = done.stdout.split_once(&format!("{GREETING}\n")).map(|(_, said)| said);
        let said = said.ok_or_else(|| {
            let error = Error::unable(format!(
                "unexpected response from host `{}` (not an xtask handshake)",
                self.name
            ));
            with_last_lines(error, &done.stdout)
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
        Ok(HostHandshake {
            record: is_said("has-record").then(|| record.join("\n").into_bytes()),
            names: is_said("folder").then(|| all("entry").collect()),
            is_not_folder: is_said("other"),
            may_write: is_said("writable"),
            free_bytes: all("df").next_back().and_then(|line| parse_free_bytes(&line)),
            has_journal: is_said("journal"),
            programs: all("program").filter(|name| name.starts_with("xtask-")).collect(),
            history: history::parse_history(past.as_bytes()),
        })
    }

    /// Checks that the host has the system and CPU for which this program is compiled.
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
        Err(Error::negative(format!(
            "host `{}` is {system} on {machine}, and this program is for {} on {}",
            self.name, systems[0], machines[0]
        ))
        .with_hint("deploy from a machine of the same kind as the host"))
    }

    /// Uploads this program unless `is_there`, and checks that it runs on the host.
    pub fn send_program(
        &self,
        target: &DeployTarget,
        is_there: bool,
        deploy_ctx: &DeployContext<'_>,
    ) -> Result<()> {
        if is_there {
            return Ok(());
        }
        let failed = || format!("cannot send the program to `{}`", self.name);
        (deploy_ctx.tell)(&format!("sending the program to {}", self.name));
        let hex = program_digest(self.world)?;
        let (folder, name) = (target.programs_folder(), program_name(&hex));
        let (coming, whole) = (folder.join(format!("coming-{name}")), folder.join(&name));
        let (coming, whole) = (quote_path(&coming), quote_path(&whole));
        deploy_ctx.disk.check_gate("make folders on the host").with_context(failed)?;
        self.run_script(&format!(
            "umask 022 && mkdir -p {} {}\n",
            quote_path(&folder),
            quote_path(&target.incoming_folder())
        ))?;
        deploy_ctx.disk.check_gate("send the program").with_context(failed)?;
        let to = format!("{}:{}", self.name, folder.join(format!("coming-{name}")).display());
        self.run_rsync(&["--perms", "--times"], self.world.program.as_os_str(), &to, deploy_ctx)?;
        deploy_ctx.disk.check_gate("put the program into its place").with_context(failed)?;
        let hello = render_hello(&hex);
        let script = format!(
            "chmod 0755 {coming} || exit 1\nsaid=$({coming} {DEPLOY_HOST} {HELLO} 2>&1)\n\
             if [ \"$said\" != '{hello}' ]; then\n  \
             printf 'the uploaded program does not run on the host: %s\\n' \"$said\"; exit 1\nfi\n\
             mv -f {coming} {whole}\n"
        );
        self.run_script(&script).map(drop)
    }

    /// Uploads a release into the target's `incoming` folder.
    pub fn send_release(
        &self,
        target: &DeployTarget,
        release: &Release,
        deploy_ctx: &DeployContext<'_>,
    ) -> Result<()> {
        let failed = || format!("cannot send the release to `{}`", self.name);
        (deploy_ctx.tell)(&format!("sending {} to {}", release.name, self.name));
        deploy_ctx.disk.check_gate("send the release").with_context(failed)?;
        let mut from = release.folder.as_os_str().to_owned();
        from.push("/");
        let to =
            format!("{}:{}/", self.name, target.incoming_folder().join(&release.name).display());
        let how = ["--recursive", "--links", "--perms", "--times", "--delete"];
        self.run_rsync(&how, &from, &to, deploy_ctx)
    }

    fn run_rsync(
        &self,
        how: &[&str],
        from: &OsStr,
        to: &str,
        deploy_ctx: &DeployContext<'_>,
    ) -> Result<()> {
        let rsh = format!("ssh {}", SSH_OPTIONS.join(" "));
        let to = OsString::from(to);
        let run =
            self.local_program("rsync").args(how).args([RSYNC_TIMEOUT_OPTION, "--rsh", &rsh, "--"]);
        let run = run.args([from, &to]);
        let done = run.run_in_group(UPLOAD_TIMEOUT, &|| deploy_ctx.interrupts.was_interrupted())?;
        match check_exit("`rsync`", done.exit_reason, UPLOAD_TIMEOUT) {
            Ok(()) => Ok(()),
            Err(failure) if failure.kind() == ErrorKind::Interrupted => Err(failure),
            Err(failure) => {
                let error = Error::unable(format!("host `{}`: {failure}", self.name));
                Err(with_last_lines(error, &done.output))
            }
        }
    }

    /// Runs the uploaded `program` with the arguments `words`, attached to our standard streams, and returns its exit
    /// code.
    pub fn run_program(
        &self,
        target: &DeployTarget,
        program: &str,
        words: &[String],
    ) -> Result<u8> {
        let mut command = format!("exec {}", quote_path(&target.programs_folder().join(program)));
        for word in words {
            command.push(' ');
            command.push_str(&quote_path(Path::new(word)));
        }
        // Not in a process group of its own, so that Ctrl-C also ends ssh and a `logs --follow` on the host.
        let found = self.world.find_program("ssh").unwrap_or_else(|| "ssh".into());
        let ssh = Program::new(found, &self.world.cwd)
            .with_env_only(&self.world.variables)
            .args(SSH_OPTIONS);
        let status = ssh.args(["-T", "--", &self.name, &command]).run_attached()?;
        match status.code() {
            Some(SSH_FAILED_CODE) => {
                Err(Error::unable(format!("the connection to host `{}` failed", self.name))
                    .with_hint(format!("`ssh {} true` must work without a prompt", self.name)))
            }
            None | Some(130) => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
            Some(code) => Ok(u8::try_from(code).unwrap_or(ErrorKind::Unable.exit_code())),
        }
    }

    /// Starts the uploaded `program` in the mode that reads requests.
    pub fn start_program(&self, target: &DeployTarget, program: &str) -> Result<LineProcess> {
        let program = quote_path(&target.programs_folder().join(program));
        LineProcess::spawn(self.ssh_command(&format!("exec {program} {DEPLOY_HOST}")))
    }
}

impl HostHandshake {
    /// Returns the ownership of `target`, or an error if it belongs to somebody else.
    pub fn check_ownership(&self, target: &DeployTarget) -> Result<TargetOwnership> {
        if self.is_not_folder {
            return Err(Error::negative(format!(
                "the target `{}` is not a folder",
                target.root.display()
            )));
        }
        target.check_remote_ownership(self.record.as_deref(), self.names.as_deref().unwrap_or(&[]))
    }

    /// Reports whether the host has this program, by its digest.
    pub fn has_program(&self, world: &Environment) -> Result<bool> {
        let name = program_name(&program_digest(world)?);
        Ok(self.programs.contains(&name))
    }
}

/// Returns the file name for a digest, e.g. `xtask-4cfd10e1a2b3`.
#[must_use]
pub fn program_name(hex: &str) -> String {
    format!("xtask-{}", &hex[..12])
}

/// Returns the SHA-256 digest of this program, in hex.
pub fn program_digest(world: &Environment) -> Result<String> {
    let failed = || format!("cannot read this program, `{}`", world.program.display());
    let file = std::fs::File::open(&world.program).with_context(failed)?;
    Ok(digest::to_hex(&digest::hash_stream(file).with_context(failed)?))
}

/// Returns the line that the program of this digest prints for `deploy-host hello`.
#[must_use]
pub fn render_hello(hex: &str) -> String {
    format!("{ORDER} {hex}")
}

/// Quotes a path for a POSIX shell.
fn quote_path(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// Returns the read-only script whose output `SshHost::read_handshake` parses.
fn render_handshake_script(root: &Path) -> String {
    let root = quote_path(root);
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

/// Parses the free bytes in a line of `df -Pk`: the number before the one with `%`, as names may contain blanks.
fn parse_free_bytes(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let percent = words.iter().rposition(|word| {
        word.strip_suffix('%').is_some_and(|number| number.parse::<u64>().is_ok())
    })?;
    words.get(percent.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the folder of this clone that holds the build of a layer for another host.
#[must_use]
pub fn staging_folder(repo: &xtask_git::Repo, layer: &str) -> PathBuf {
    repo.shared_state_folder().join("deploy").join(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_room_is_found_whatever_the_names_are() {
        let line = "/dev/disk 1 with spaces 1000 400 600 40% /srv/a b";
        assert_eq!(parse_free_bytes(line), Some(600 * 1024));
        assert_eq!(
            parse_free_bytes("Filesystem 1024-blocks Used Available Capacity Mounted on"),
            None
        );
        assert_eq!(parse_free_bytes("overlay 9 9 9 - /"), None);
    }

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(quote_path(Path::new("/srv/it's a")), "'/srv/it'\\''s a'");
    }
}
