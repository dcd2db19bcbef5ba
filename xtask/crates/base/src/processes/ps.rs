//! Process data from `ps` and `sysctl`, for systems without `/proc` (macOS).
//!
//! Tests on Linux compare it with `/proc`, using the `ps` of Linux; its authors have not run it on
//! macOS. It uses only columns that both systems have, and sets UTC and the C locale regardless of
//! the user's settings. `ps` prints an environment as one line, so of a value with spaces only the
//! first word is available. For example:
//!
//! ```text
//! 501 1 501 501 1232 S+ 0:00.67 Sun Nov  1 03:04:05 2026 sleep
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::ProcessInfo;
use crate::error::{Error, Result, ResultExt};
use crate::process::Program;

/// The time limit for each tool: 10 seconds, a hundred times the usual duration.
const TOOL_TIMEOUT: Duration = Duration::from_secs(10);

/// The program folders of the system: the user's own tools may have other options.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// The columns of a process. `lstart` has five words, and `ucomm` comes last because it may contain
/// spaces.
const COLUMNS: &str = "pid=,ppid=,pgid=,uid=,rss=,stat=,time=,lstart=,ucomm=";

/// The option that makes `ps` append the environment to the command.
const WITH_ENVIRONMENT: &str = if cfg!(target_os = "macos") { "-Eww" } else { "eww" };

pub(super) fn read_boot_id() -> Result<String> {
    read_sysctl("kern.bootsessionuuid")
}

pub(super) fn list_processes() -> Result<Vec<ProcessInfo>> {
    let listed = run_tool("ps", &["-axo", COLUMNS])?;
    let listed = listed.ok_or_else(|| Error::unable("`ps` listed no processes"))?;
    listed.lines().map(parse_process).collect()
}

pub(super) fn find_process(pid: u32) -> Result<Option<ProcessInfo>> {
    let shown = run_tool("ps", &["-o", COLUMNS, "-p", &pid.to_string()])?;
    shown.as_deref().map(|line| parse_process(line.trim_end())).transpose()
}

/// Returns `None`: `ps` separates variables by spaces, which values may contain as well.
#[cfg_attr(target_os = "linux", expect(dead_code, reason = "the rest is compared with `/proc`"))]
pub(super) fn read_environment(_: u32) -> Option<BTreeMap<OsString, OsString>> {
    None
}

pub(super) fn read_variables(pid: u32, names: &[&str]) -> Option<Vec<Option<String>>> {
    let pid = pid.to_string();
    let command = run_tool("ps", &["-ww", "-o", "args=", "-p", &pid]).ok()??;
    let with_environment =
        run_tool("ps", &[WITH_ENVIRONMENT, "-o", "args=", "-p", &pid]).ok()??;
    let environment = with_environment.strip_prefix(command.trim_end())?;
    let value = |name: &&str| {
        let mut words = environment.split_ascii_whitespace();
        words.find_map(|word| word.strip_prefix(*name)?.strip_prefix('=').map(str::to_owned))
    };
    Some(names.iter().map(value).collect())
}

pub(super) fn read_command_line(pid: u32) -> Option<String> {
    let shown = run_tool("ps", &["-ww", "-o", "args=", "-p", &pid.to_string()]).ok()??;
    Some(shown.trim_end().to_owned())
}

pub(super) fn read_working_folder(pid: u32) -> Option<PathBuf> {
    let shown = run_tool("lsof", &["-a", "-p", &pid.to_string(), "-d", "cwd", "-Fn"]).ok()??;
    shown.lines().find_map(|line| line.strip_prefix('n')).map(PathBuf::from)
}

pub(super) fn read_age_seconds(process: &ProcessInfo) -> u64 {
    let shown = run_tool("ps", &["-o", "etime=", "-p", &process.pid.to_string()]);
    let shown = shown.ok().flatten().and_then(|time| parse_elapsed(time.trim()));
    shown.unwrap_or(0) / 1000
}

pub(super) fn read_total_memory() -> Option<u64> {
    read_sysctl("hw.memsize").ok()?.parse().ok()
}

/// Returns a kernel setting, e.g. `kern.bootsessionuuid`.
pub(super) fn read_sysctl(name: &str) -> Result<String> {
    let value = run_tool("sysctl", &["-n", name])?.map(|value| value.trim().to_owned());
    value.ok_or_else(|| Error::unable(format!("`sysctl -n {name}` printed no value")))
}

/// Runs a system tool and returns its stdout, or `None` if it fails or prints no text.
fn run_tool(program: &str, args: &[&str]) -> Result<Option<String>> {
    let asked = Program::new(program, Path::new("/")).args(args).with_full_output();
    let asked = asked.env("PATH", SYSTEM_PATH).env("LC_ALL", "C").env("TZ", "UTC0");
    let said = asked.run_with_timeout(TOOL_TIMEOUT)?;
    Ok(Some(said.stdout).filter(|text| said.status.success() && !text.trim().is_empty()))
}

fn parse_process(line: &str) -> Result<ProcessInfo> {
    parse_columns(line).with_context(|| format!("cannot parse `ps` output `{line}`"))
}

/// Parses one line of `ps`. The session is 0, because `ps` on macOS does not report it.
fn parse_columns(line: &str) -> Result<ProcessInfo, &'static str> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
        rest = after;
        word
    };
    let pid = word().parse().map_err(|_| "no pid")?;
    let parent = word().parse().map_err(|_| "no parent")?;
    let group = word().parse().map_err(|_| "no process group")?;
    let user = parse_user_id(word()).ok_or("no user")?;
    let memory = word().parse::<u64>().map_err(|_| "no memory")?.saturating_mul(1024);
    let is_zombie = word().starts_with('Z');
    let time = parse_elapsed(word());
    let start = [word(), word(), word(), word(), word()].join(" ");
    // A zombie may have neither CPU time nor start time.
    let ended = is_zombie.then_some(0);
    let cpu_ms = time.or(ended).ok_or("no time")?;
    let started = parse_start_time(&start).or(ended).ok_or("no start")?;
    let name = rest.trim().trim_end_matches(" <defunct>").to_owned();
    Ok(ProcessInfo {
        pid,
        parent_pid: parent,
        group,
        session: 0,
        user,
        started,
        is_zombie,
        memory,
        cpu_ms,
        name,
    })
}

/// Parses a user ID. Some systems print the highest ones as negative numbers.
fn parse_user_id(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
}

/// Parses a start time such as `Sat Nov 21 19:19:53 2026` into seconds since 1970.
fn parse_start_time(text: &str) -> Option<u64> {
    let start = DateTime::strptime("%a %b %d %H:%M:%S %Y", text).ok()?;
    let start = start.to_zoned(TimeZone::UTC).ok()?.timestamp();
    u64::try_from(start.as_second()).ok()
}

/// Parses a duration such as `1-02:03:04`, `02:03:04` or `123:45.67` into milliseconds.
fn parse_elapsed(text: &str) -> Option<u64> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let (clock, part) = clock.split_once('.').unwrap_or((clock, "0"));
    let part: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    let mut seconds = 0_u64;
    for number in clock.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(number.parse().ok()?)?;
    }
    let days = days.parse::<u64>().ok()?.checked_mul(86_400)?;
    days.checked_add(seconds)?.checked_mul(1000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_systems_are_read() {
        let process = |line: &str| parse_columns(line).unwrap();
        let linux = process(
            "      1       0       1     0  7168 Ss   1-00:00:02 Sat Nov 21 13:36:45 2026 tmux: server",
        );
        assert_eq!((linux.pid, linux.parent_pid, linux.group, linux.user), (1, 0, 1, 0));
        assert_eq!((linux.memory, linux.cpu_ms), (7168 * 1024, 86_402_000));
        assert_eq!((linux.started, linux.name.as_str()), (1_795_268_205, "tmux: server"));
        let mac = process(
            "  501   1   501 -2   1232 S+     123:45.67 Sun Nov  1 03:04:05 2026     Google Chrome He",
        );
        assert_eq!((mac.user, mac.cpu_ms), (u32::MAX - 1, 7_425_670));
        assert_eq!((mac.started, mac.name.as_str()), (1_793_502_245, "Google Chrome He"));
        let zombie = process("7 1 7 0 0 Z - - - - - - sleep <defunct>");
        assert!(zombie.is_zombie && zombie.name == "sleep");
        assert_eq!(parse_columns("7 1 7 0 0 S - - - - - - sleep"), Err("no time"));
        assert_eq!(parse_columns("something else"), Err("no pid"));
        assert_eq!(parse_columns(""), Err("no pid"));
    }

    #[test]
    fn spans_that_are_none_are_refused() {
        for text in ["", "-", "1:x", "x-1:00", "99999999999999999999:00", "1:00.é"] {
            assert_eq!(parse_elapsed(text), None, "{text}");
        }
    }
}
