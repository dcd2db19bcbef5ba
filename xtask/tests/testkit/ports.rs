//! Ports for tests, handed out in one place.
//!
//! A port that is free now can be somebody else's in a moment: another test's of this run, or another run's on
//! this machine. So each is taken by a lock on a file of its number, which the process holds to its end.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{FlockOperation, flock};

/// Below the ports that systems give to connections by themselves: 32768 and up on Linux, 49152 on macOS.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

static TAKEN: Mutex<(Option<u16>, Vec<File>)> = Mutex::new((None, Vec::new()));

/// A port on which nobody listens, and that no other test of this machine is given while this process runs.
pub fn port() -> u16 {
    // Wherever a run keeps its labs: two of them meet at the ports of the machine.
    let user = rustix::process::getuid().as_raw();
    let folder = Path::new("/tmp").join(format!("xtask-test-ports-{user}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut taken = TAKEN.lock().unwrap();
    // Runs begin at different places: they then seldom meet.
    let spread = u16::try_from(std::process::id() % 60).unwrap() * 200;
    let mut port = taken.0.unwrap_or(RANGE.start + spread);
    for _ in RANGE {
        port = if port + 1 < RANGE.end { port + 1 } else { RANGE.start };
        // A linked worktree has its ports one or more hundreds higher: every other hundred is left to them.
        if (port / 100) % 2 == 1 {
            continue;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.open(folder.join(port.to_string())).unwrap();
        // A machine without IPv6 has nobody there.
        let is_free = |address: &str| match TcpListener::bind((address, port)) {
            Ok(_) => true,
            Err(cause) => cause.kind() != ErrorKind::AddrInUse,
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_free("127.0.0.1")
            && is_free("::1")
        {
            taken.0 = Some(port);
            taken.1.push(file);
            return port;
        }
    }
    panic!("every port of {RANGE:?} is taken");
}
