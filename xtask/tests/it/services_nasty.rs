//! Services that behave badly, played by this very binary, and what is left of them: nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::testkit::{Lab, Place, circle, port, spawn};
use crate::wrong_hits::{start, wait_for};

/// A service that is played by this binary: `how` says how, and files in its folder what it does next.
pub fn service(lab: &Lab, name: &str, how: &str, port: u16, more: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let (program, folder) = (program.display(), lab.path("cues"));
    fs::create_dir_all(&folder).unwrap();
    format!(
        "[service.{name}]\n\
         run = ['{program}', '--exact', 'services_nasty::plays_a_service', '--include-ignored', '--nocapture']\n\
         port = {port}\n\
         env = {{ PLAYS = '{how}', CUES = '{folder}/{name}' }}\n\
         {more}\n"
    )
}

/// Tells a service what to do next: `crash`, `sick`, `well`.
pub fn cue(lab: &Lab, name: &str, what: &str, is: bool) {
    let path = lab.path(&format!("cues/{name}.{what}"));
    if is { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
}

#[expect(clippy::exit, clippy::print_stdout, reason = "it plays a program")]
#[expect(clippy::zombie_processes, reason = "it plays one that leaves its children alone")]
#[test]
#[ignore = "it is run by other tests, as a service"]
fn plays_a_service() {
    let variable = |name: &str| std::env::vars().find(|(n, _)| n == name).map(|(_, value)| value);
    let how = variable("PLAYS").expect("because only a service runs this");
    let cues = variable("CUES").unwrap();
    let has = |what: &str| Path::new(&format!("{cues}.{what}")).exists();
    let port: u16 = variable("XTASK_PORT").unwrap().parse().unwrap();
    let plays = |what: &str| how.split('+').any(|word| word == what);
    if plays("sleeper") {
        loop {
            std::thread::sleep(Duration::from_secs(600));
        }
    }
    if plays("forker") {
        // The middle one of a double fork: leads a session, and leaves its child alone.
        rustix::process::setsid().unwrap();
        again(&cues, port, "deaf+sleeper", plays("bare"));
        return;
    }
    if plays("deaf") {
        let heard = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGTERM, heard).unwrap();
    }
    if plays("daemons") {
        for bare in [false, true] {
            let how = if bare { "forker+bare" } else { "forker" };
            again(&cues, port, how, bare).wait().unwrap();
        }
    }
    if plays("children") {
        again(&cues, port, "deaf+sleeper", false);
    }
    if plays("ends") {
        eprintln!("there is no tomorrow");
        std::process::exit(4);
    }
    if plays("late") {
        while !has("well") {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    if plays("mute") {
        loop {
            std::thread::sleep(Duration::from_secs(600));
        }
    }
    let address = if plays("six") { "::1" } else { "127.0.0.1" };
    let listener = TcpListener::bind((address, port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("listening on {port}");
    loop {
        if has("crash") {
            drop(fs::remove_file(format!("{cues}.crash")));
            eprintln!("crashing on cue");
            std::process::exit(3);
        }
        if plays("flood") {
            for _ in 0..100 {
                println!("{}", "flood ".repeat(20));
            }
        }
        match listener.accept() {
            Ok((stream, _)) => answer(stream, if has("sick") { "unhealthy" } else { "healthy" }),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// This binary once more, as a child; bare of its variables where it shall not be known by them.
fn again(cues: &str, port: u16, how: &str, bare: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "services_nasty::plays_a_service",
        "--include-ignored",
        "--nocapture",
    ]);
    if bare {
        command.env_clear();
    }
    command.env("PLAYS", how).env("CUES", cues).env("XTASK_PORT", port.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    spawn(command.process_group(0)).unwrap()
}

fn answer(mut stream: TcpStream, status: &str) {
    drop(stream.set_nonblocking(false));
    drop(stream.set_read_timeout(Some(Duration::from_secs(1))));
    drop(stream.read(&mut [0; 4096]));
    let body = format!("{{\"status\":\"{status}\"}}");
    let length = body.len();
    drop(write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    ));
}

/// Whatever of a lab still runs: processes that name its folder in their variables.
///
/// The log writer ends by itself once nobody holds a pipe open, and a supervisor waits for that only
/// shortly: it is counted if it stays.
pub fn left(lab: &Lab) -> Vec<String> {
    for _ in 0..6000 {
        let found = processes_of(lab);
        if found.is_empty() || found.iter().any(|process| !process.contains(" write-logs ")) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    processes_of(lab)
}

fn processes_of(lab: &Lab) -> Vec<String> {
    let folder = lab.path("").to_string();
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = pids.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != own);
    pids.filter_map(|pid| {
        let read = |what: &str| fs::read(PathBuf::from("/proc").join(&pid).join(what));
        let environ = String::from_utf8_lossy(&read("environ").ok()?).into_owned();
        let command = String::from_utf8_lossy(&read("cmdline").ok()?).replace('\0', " ");
        let is_ours = environ.contains(&folder) && !environ.contains("STRANGER=");
        is_ours.then(|| format!("{pid}: {command}"))
    })
    .collect()
}

/// A stack that is ended when the test is, whatever came of it.
pub struct Stack<'a> {
    pub repo: Place<'a>,
}

impl<'a> Stack<'a> {
    pub fn new(lab: &'a Lab, layer: &str) -> Stack<'a> {
        let repo = lab.repo();
        repo.write("deployment/local.toml", format!("[status]\nenabled = false\n{layer}"));
        repo.commit("services");
        Stack { repo }
    }

    /// How the services are, by `ps --json`.
    #[track_caller]
    pub fn ps(&self) -> serde_json::Value {
        let ran = self.repo.xtask(&["ps", "--json"]);
        let json = ran.json();
        // A required service that has failed is no success.
        let is_lost = |row: &serde_json::Value| {
            row["required"] == true && (row["state"] == "failed" || row["state"] == "blocked")
        };
        let lost = json["services"].as_array().is_some_and(|rows| rows.iter().any(is_lost));
        assert_eq!(ran.code, Some(i32::from(lost)), "{} {}", ran.out, ran.err);
        json
    }

    /// What `ps` says of a service.
    #[track_caller]
    pub fn row(&self, service: &str) -> serde_json::Value {
        let page = self.ps();
        let rows = page["services"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["service"] == service).unwrap_or_default()
    }

    #[track_caller]
    pub fn pid(&self, service: &str) -> u32 {
        let row = self.row(service);
        u32::try_from(row["pid"].as_u64().unwrap_or_else(|| panic!("{row}"))).unwrap()
    }

    #[track_caller]
    pub fn state(&self, service: &str) -> String {
        self.row(service)["state"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn supervisor(&self) -> u32 {
        u32::try_from(self.ps()["supervisor"]["pid"].as_u64().unwrap()).unwrap()
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        self.repo.xtask(&["stop", "--timeout", "1ms"]);
    }
}

/// Ends a process of this test without asking.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A stranger: a process that the toolkit has not started, ended with the test.
pub struct Stranger(pub Child);

impl Stranger {
    /// One that is named like a service, and listens.
    pub fn named(lab: &Lab, name: &str, port: u16) -> Stranger {
        let path = lab.path(name);
        let program = std::env::current_exe().unwrap();
        if !path.exists() {
            std::os::unix::fs::symlink(program, &path).unwrap();
        }
        let mut command = Command::new(&path);
        command
            .arg0(name)
            .args([
                "--exact",
                "services_nasty::plays_a_service",
                "--include-ignored",
                "--nocapture",
            ])
            .env("PLAYS", "well")
            .env("STRANGER", "1")
            .env("CUES", lab.path("stranger").as_str())
            .env("XTASK_PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = Stranger(spawn(&mut command).unwrap());
        wait_for("a stranger that listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        child
    }

    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn start_stop_cycles_leave_no_processes_and_spare_foreign_ones() {
    let lab = Lab::new();
    let ready = "ready = { tcp = true }\nstop = { timeout = '60ms' }";
    let layer: String = [
        ("well", "well"),
        ("deaf", "deaf"),
        ("children", "children"),
        ("daemons", "daemons"),
        ("flood", "flood"),
        ("six", "six"),
    ]
    .iter()
    .map(|(name, how)| service(&lab, name, how, port(), ready))
    .collect();
    let stack = Stack::new(&lab, &layer);
    let mut named = Stranger::named(&lab, "well", port());
    for cycle in 0..circle::either(5, 50) {
        stack.repo.xtask(&["start"]).success();
        let page = stack.ps();
        for row in page["services"].as_array().unwrap() {
            assert_eq!(row["state"], "ready", "in cycle {cycle}: {row}");
        }
        stack.repo.xtask(&["stop"]).success();
        assert_eq!(left(&lab), Vec::<String>::new(), "after cycle {cycle}");
        let sockets = fs::read_dir(lab.path("runtime/xtask")).unwrap().count();
        assert_eq!(sockets, 0, "after cycle {cycle}");
    }
    for row in ["well", "deaf", "children", "daemons", "flood", "six"] {
        assert_eq!(stack.row(row), serde_json::Value::Null, "nothing is known any more");
    }
    assert!(named.is_alive(), "a stranger named like a service lives");
    stack.repo.xtask(&["stop"]).success().says("no services were running");
}

#[test]
fn foreign_port_owner_is_killed_only_by_take_over() {
    let lab = Lab::new();
    let taken = port();
    let layer = service(&lab, "api", "well", taken, "ready = { tcp = true }");
    let stack = Stack::new(&lab, &layer);
    let mut stranger = Stranger::named(&lab, "somebody", taken);
    let pid = stranger.0.id().to_string();
    stack
        .repo
        .xtask(&["start"])
        .status(1)
        .says(&format!("port {taken} is already in use"))
        .says(&format!("pid {pid}"))
        .says("--take-over")
        .says("nothing was started or stopped");
    assert!(stranger.is_alive());
    stack.repo.xtask(&["start", "--check-ports"]).status(1).says(&pid);
    // Another port does as well.
    let other = port();
    stack.repo.xtask(&["start", "--port", &format!("api={other}")]).success();
    assert_eq!(stack.row("api")["port"], other);
    stack.repo.xtask(&["stop"]).success();
    assert!(stranger.is_alive());
    // Only the one that was named is ended.
    stack.repo.xtask(&["start", "--take-over", &port().to_string()]).status(2);
    assert!(stranger.is_alive());
    // It is this test's child, so that somebody must take note of its end.
    stack.repo.xtask(&["start", "--take-over", &taken.to_string()]).success().says(&pid);
    assert!(!stranger.is_alive());
    assert_eq!(stack.row("api")["port"], taken);
}

/// The supervisor that has the lock now, as it wrote itself down there; 0 where nobody has yet.
fn holder(stack: &Stack<'_>) -> u32 {
    let path = stack.repo.dir.join(".git/xtask/services/local/supervisor.lock");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.strip_prefix("pid ").and_then(|pid| pid.parse().ok()).unwrap_or(0)
}

#[test]
fn supervisor_killed_at_any_moment_leaves_no_untracked_process() {
    let lab = Lab::new();
    let ready = "ready = { tcp = true }\nstop = { timeout = '60ms' }";
    let layer = service(&lab, "deaf", "deaf", port(), ready)
        + &service(&lab, "daemons", "daemons", port(), ready)
        + &service(&lab, "api", "well", port(), &format!("{ready}\nneeds = ['deaf']"));
    let stack = Stack::new(&lab, &layer);
    let mut before = 0;
    // Every moment of 40 ms, or every seventh.
    for moment in (0..40).step_by(circle::either(7, 1)) {
        let mut command = start(&stack.repo, &["start"]);
        wait_for("a supervisor", || ![0, before].contains(&holder(&stack)));
        before = holder(&stack);
        // Each time a little later: before the first process, between two, after the last.
        std::thread::sleep(Duration::from_millis(moment));
        let pid = rustix::process::Pid::from_raw(i32::try_from(before).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // Whether it was done before that or says that its supervisor is gone.
        command.wait().unwrap();
        if moment % 2 == 0 {
            let ran = stack.repo.xtask(&["start"]);
            assert_eq!(ran.code, Some(0), "after {moment} ms: {}{}", ran.out, ran.err);
            for row in stack.ps()["services"].as_array().unwrap() {
                assert_eq!(row["state"], "ready", "after {moment} ms: {row}");
            }
        }
        stack.repo.xtask(&["stop"]).success();
        // What has cleared its variables is known by its supervisor alone, which is gone.
        let left: Vec<String> = left(&lab).into_iter().filter(|who| !is_bare(who)).collect();
        assert_eq!(left, Vec::<String>::new(), "after {moment} ms");
        end_bare(&lab);
        before = holder(&stack);
    }
}

fn is_bare(who: &str) -> bool {
    let pid = who.split(':').next().unwrap();
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    !String::from_utf8_lossy(&environ).contains("XTASK_SERVICE=")
}

/// Ends those of this lab that have cleared their variables.
fn end_bare(lab: &Lab) {
    for who in left(lab).iter().filter(|who| is_bare(who)) {
        if let Ok(pid) = who.split(':').next().unwrap().parse::<i32>() {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
    wait_for("their end", || left(lab).is_empty());
}
