//! The service that every manager runs, so that all of them run the same: this very program, started
//! with a word. It writes down its pid, listens after a while, and answers 200 to whoever asks.
//!
//! Where it is asked to, it leaves two processes of the kind that get lost: forked twice, in a session
//! of their own, one with the environment it was given and one without any. All of them end by
//! themselves once the bench or its folder is gone, whatever became of their manager.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, setsid, test_kill_process};

/// The word by which this program is asked to be one, the first of its arguments.
pub const WORD: &str = "stand-in";

/// Those it leaves behind: with its environment, and with none.
pub const STRAYS: [&str; 2] = ["marked", "bare"];

/// How often it is looked whether the bench is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How long somebody who has connected may take to ask.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a service is told.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub port: u16,
    /// How long it takes until it listens.
    pub delay: Duration,
    /// Whether it leaves processes behind.
    pub leaves: bool,
    /// Where it writes down its pid.
    pub pids: PathBuf,
}

impl Service {
    /// The words of the command that runs it.
    pub fn argv(&self) -> Vec<String> {
        let program = std::env::current_exe().unwrap();
        let leaves = if self.leaves { "leaves" } else { "alone" };
        [
            program.to_str().unwrap(),
            WORD,
            self.pids.to_str().unwrap(),
            &std::process::id().to_string(),
            &self.name,
            leaves,
            &self.port.to_string(),
            &self.delay.as_millis().to_string(),
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// The pid that a service or a stray has written down.
pub fn pid_of(pids: &Path, name: &str) -> Option<u32> {
    fs::read_to_string(pids.join(name)).ok()?.parse().ok()
}

/// Is one, as the arguments after the word say.
pub fn run(args: &[String]) {
    let [pids, bench, name, role, rest @ ..] = args else { panic!("a stand-in needs more words") };
    let pids = Path::new(pids);
    match role.as_str() {
        "leaver" => {
            setsid().unwrap();
            drop(again(args, "stray").spawn().unwrap());
        }
        "stray" => {
            write_pid(pids, name);
            stay(pids, bench);
        }
        _ => {
            write_pid(pids, name);
            if role == "leaves" {
                for stray in STRAYS {
                    let mut args = args.to_vec();
                    stray.clone_into(&mut args[2]);
                    let mut leaver = again(&args, "leaver");
                    if stray == "bare" {
                        leaver.env_clear();
                    }
                    assert!(leaver.status().unwrap().success());
                }
            }
            let [port, delay] = rest else { panic!("a service needs a port and a delay") };
            let (port, delay): (u16, u64) = (port.parse().unwrap(), delay.parse().unwrap());
            std::thread::spawn(move || serve(port, Duration::from_millis(delay)));
            stay(pids, bench);
        }
    }
}

/// This program again, in another role, with nothing of ours open.
fn again(args: &[String], role: &str) -> Command {
    let mut args = args.to_vec();
    role.clone_into(&mut args[3]);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(WORD).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whoever reads it sees the whole number or no file.
fn write_pid(pids: &Path, name: &str) {
    let begun = pids.join(format!("{name}.new"));
    fs::write(&begun, std::process::id().to_string()).unwrap();
    fs::rename(begun, pids.join(name)).unwrap();
}

fn stay(pids: &Path, bench: &str) {
    let bench = Pid::from_raw(bench.parse().unwrap()).unwrap();
    while pids.is_dir() && test_kill_process(bench).is_ok() {
        std::thread::sleep(LOOK);
    }
}

fn serve(port: u16, delay: Duration) {
    std::thread::sleep(delay);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        drop(stream.set_read_timeout(Some(PATIENCE)));
        // Who only looks whether somebody listens has closed it already.
        if stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
            drop(stream.write_all(answer.as_bytes()));
        }
    }
}
