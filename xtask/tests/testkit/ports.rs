//! Ports for tests, handed out in one place.
//!
//! A port that is free now can be somebody else's in a moment: another test's of this run, or another run's on
//! this machine. So each is taken by a lock on a file of its number, which the process holds to its end.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use rustix::fs::{FlockOperation, flock};

/// Below the ports that systems give to connections by themselves: 32768 and up on Linux, 49152 on macOS.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

static TAKEN: Mutex<(Option<u16>, Vec<File>)> = Mutex::new((None, Vec::new()));

/// A port on which nobody listens, and that no other test of this machine is given while this process runs.
pub fn port() -> u16 {
    let folder = std::env::temp_dir().join("xtask-test-ports");
    std::fs::create_dir_all(&folder).unwrap();
    let mut taken = TAKEN.lock().unwrap();
    // Runs begin at different places: they then seldom meet.
    let spread = u16::try_from(std::process::id() % 120).unwrap() * 100;
    let mut port = taken.0.unwrap_or(RANGE.start + spread);
    for _ in RANGE {
        port = if port + 1 < RANGE.end { port + 1 } else { RANGE.start };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o666);
        let file = options.open(folder.join(port.to_string())).unwrap();
        let is_free = |address: &str| TcpListener::bind((address, port)).is_ok();
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
