//! Process data from `/proc`.
//!
//! Each process is a folder, e.g. `/proc/1234` with `stat`, `cmdline` and `environ`. A process that
//! vanishes while being read, or that this user may not see, counts as absent; every other failure
//! is an error.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use procfs::process::Process as Folder;
use procfs::{Current, ProcError, ProcResult};

use super::ProcessInfo;
use crate::error::{Result, ResultExt};

/// How many times in a row a process must report that it was started without an environment.
const EMPTY_CONFIRMATIONS: u32 = 3;

/// The number of attempts to read an environment during `execve`, and the pause between them: a
/// tenth of a second in all; a program takes about a millisecond to start.
const ENVIRONMENT_TRIES: usize = 100;
const ENVIRONMENT_PAUSE: Duration = Duration::from_millis(1);

/// The initial and the maximum size of the buffer for an environment: usually less than 64 KiB, and
/// never 8 MiB, because Linux limits arguments and environment to three quarters of that.
const ENVIRONMENT_BUFFER_BYTES: usize = 64 << 10;
const MAX_ENVIRONMENT_BYTES: usize = 8 << 20;

pub(super) fn read_boot_id() -> Result<String> {
    procfs::sys::kernel::random::boot_id().with_context(|| "cannot read the boot ID")
}

pub(super) fn list_processes() -> Result<Vec<ProcessInfo>> {
    let folders = procfs::process::all_processes().with_context(|| "cannot list processes")?;
    let mut all = Vec::new();
    for folder in folders {
        let read = folder.and_then(|folder| read_process(&folder));
        all.extend(ignore_gone(read).with_context(|| "cannot read a process in `/proc`")?);
    }
    Ok(all)
}

pub(super) fn find_process(pid: u32) -> Result<Option<ProcessInfo>> {
    let Ok(number) = i32::try_from(pid) else { return Ok(None) };
    let read = Folder::new(number).and_then(|folder| read_process(&folder));
    ignore_gone(read).with_context(|| format!("cannot read process {pid}"))
}

/// Reads one process. Its open folder stays that of the same process even if the ID is reused, so
/// the values belong together.
fn read_process(folder: &Folder) -> ProcResult<ProcessInfo> {
    let stat = folder.stat()?;
    let number = |number: i32| u32::try_from(number).unwrap_or(0);
    let ticks = stat.utime + stat.stime;
    Ok(ProcessInfo {
        pid: number(stat.pid),
        parent_pid: number(stat.ppid),
        group: number(stat.pgrp),
        session: number(stat.session),
        user: folder.uid()?,
        started: stat.starttime,
        // `state` is that of the first thread; `num_threads` stays at 2 or more until the last one
        // has ended.
        is_zombie: "ZX".contains(stat.state) && stat.num_threads < 2,
        memory: stat.rss.saturating_mul(procfs::page_size()),
        cpu_ms: ticks.saturating_mul(1000) / procfs::ticks_per_second(),
        name: stat.comm,
    })
}

fn ignore_gone<T>(read: ProcResult<T>) -> ProcResult<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(ProcError::NotFound(_) | ProcError::PermissionDenied(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

pub(super) fn read_variables(pid: u32, names: &[&str]) -> Option<Vec<Option<String>>> {
    let bytes = read_environment_bytes(pid)?;
    let entries: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    let value = |name: &&str| {
        let value = entries.iter().find_map(|entry| {
            let value: &[u8] = entry.strip_prefix(name.as_bytes())?;
            value.strip_prefix(b"=")
        })?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    Some(names.iter().map(value).collect())
}

pub(super) fn read_environment(pid: u32) -> Option<BTreeMap<OsString, OsString>> {
    let bytes = read_environment_bytes(pid)?;
    let entries = bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    let pairs = entries.map(|entry| {
        // A title written over the first variables has no `=`; others may be lost as well, so the
        // result is `None`.
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        let own = |part: &[u8]| OsString::from_vec(part.to_vec());
        Some((own(&entry[..equals]), own(&entry[equals + 1..])))
    });
    pairs.collect()
}

/// Reads the raw environment. During `execve` a process has none for a moment, and may look as if
/// started with none; only a repeated `EmptyReason::NoVariables` is believed.
fn read_environment_bytes(pid: u32) -> Option<Vec<u8>> {
    let mut without = 0;
    for _ in 0..ENVIRONMENT_TRIES {
        let bytes = read_at_once(&format!("/proc/{pid}/environ")).ok()?;
        if !bytes.is_empty() {
            return Some(bytes);
        }
        match find_empty_reason(pid) {
            EmptyReason::NoMemory => return Some(bytes),
            EmptyReason::NoVariables => without += 1,
            EmptyReason::Unknown => without = 0,
        }
        if without >= EMPTY_CONFIRMATIONS {
            return Some(bytes);
        }
        std::thread::sleep(ENVIRONMENT_PAUSE);
    }
    None
}

/// Reads a file with a single call: two calls give a truncated result if the process calls `execve`
/// in between.
fn read_at_once(path: &str) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; ENVIRONMENT_BUFFER_BYTES];
    loop {
        let count = file.read_at(&mut bytes, 0)?;
        if count < bytes.len() || count >= MAX_ENVIRONMENT_BYTES {
            bytes.truncate(count);
            return Ok(bytes);
        }
        bytes.resize(count * 4, 0);
    }
}

/// The reason why an environment is empty.
enum EmptyReason {
    /// The process has no memory: a kernel thread, or a process that has ended.
    NoMemory,
    /// The process was started without variables.
    NoVariables,
    /// Not reported.
    Unknown,
}

fn find_empty_reason(pid: u32) -> EmptyReason {
    let folder = i32::try_from(pid).ok().and_then(|pid| Folder::new(pid).ok());
    match folder.and_then(|folder| folder.stat().ok()) {
        Some(stat) if stat.vsize == 0 => EmptyReason::NoMemory,
        Some(stat) if stat.env_end.is_some_and(|end| end != 0 && stat.env_start == Some(end)) => {
            EmptyReason::NoVariables
        }
        _ => EmptyReason::Unknown,
    }
}

pub(super) fn read_command_line(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    Some(words.collect::<Vec<_>>().join(" ").trim_end().to_owned())
}

pub(super) fn read_working_folder(pid: u32) -> Option<PathBuf> {
    let link = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    // The kernel appends ` (deleted)` to a removed folder; people know it by its plain name.
    let mut name = link.into_os_string().into_vec();
    let shown = name.strip_suffix(b" (deleted)").map_or(name.len(), <[u8]>::len);
    name.truncate(shown);
    Some(PathBuf::from(OsString::from_vec(name)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds since a boot are not negative, and fit many times"
)]
pub(super) fn read_age_seconds(process: &ProcessInfo) -> u64 {
    let up_s = procfs::Uptime::current().map_or(0, |up| up.uptime as u64);
    up_s.saturating_sub(process.started / procfs::ticks_per_second())
}

pub(super) fn read_total_memory() -> Option<u64> {
    procfs::Meminfo::current().ok().map(|memory| memory.mem_total)
}
