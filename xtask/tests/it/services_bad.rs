//! Bad input to services: refused before anything is started, with what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use xtask_base::files::Disk;
use xtask_base::processes;
use xtask_base::record::LoadedRecord;
use xtask_services::stack::Stack as Kept;

use crate::services_nasty::{Stack, Stranger, cue, left, service};
use crate::testkit::{Lab, port, program, spawn};
use crate::wrong_hits::{start, wait_for};

fn kept(stack: &Stack<'_>) -> Kept {
    let root = stack.repo.dir.as_std_path().canonicalize().unwrap();
    let folder = root.join(".git/xtask/services/local");
    Kept { layer: "local".to_owned(), root, folder }
}

#[test]
fn unknown_layer_and_service_names_get_suggestions() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, "[service.api]\nrun = 'sleep 600'\n");
    let repo = &stack.repo;
    repo.xtask(&["start", "--layer", "locla"]).status(2).says("locla").says("`local`");
    repo.xtask(&["start", "apy"]).status(2).says("did you mean `api`?");
    repo.xtask(&["stop", "--layer", "nope"]).status(2).says("local");
    repo.xtask(&["start", "--port", "apy=1234"]).status(2).says("no service `apy`");
    repo.xtask(&["start", "--port", "api"]).status(2).says("api=8100");
    repo.xtask(&["start", "--timeout", "soon"]).status(2).says("30s");
    repo.write(
        "deployment/local.toml",
        "[service.api]\nrunn = 'x'\n[service.b]\nrun = 'x'\nneeds = ['c']\n",
    );
    repo.xtask(&["start"])
        .status(2)
        .says("deployment/local.toml:2")
        .says("did you mean `run`?")
        .says("deployment/local.toml:5");
    assert!(!repo.has(".git/xtask/services"), "nothing was made");
}

#[test]
fn start_reports_all_unrunnable_services_and_starts_none() {
    let lab = Lab::new();
    let layer = "[service.good]\nrun = 'sleep 600'\n\
                 [service.missing]\nrun = 'no-such-program --port 1'\n\
                 [service.folder]\nrun = 'sleep 600'\ndir = 'nowhere'\n\
                 [service.vars]\nrun = 'sleep 600'\nenv-file = 'none.env'\n\
                 [service.broken]\nrun = 'sleep 600'\nenv-file = 'broken.env'\n\
                 [service.ours]\nrun = 'sleep 600'\nenv-file = 'ours.env'\n\
                 [service.optional]\nrun = 'sleep 600'\nenv-file = '?none.env'\n";
    let stack = Stack::new(&lab, layer);
    stack.repo.write("broken.env", "A=1\nPASSWORD='hunter2\n");
    stack.repo.write("ours.env", "XTASK_PORT=1\n");
    stack
        .repo
        .xtask(&["start"])
        .status(2)
        .says("`no-such-program` not found on PATH (")
        .says("folder: folder `nowhere` not found")
        .says("none.env")
        .says("broken.env` is malformed")
        .says("`XTASK_PORT` cannot be set: it is reserved for xtask")
        .never_says("hunter2")
        .never_says("optional");
    stack.repo.xtask(&["start", "missing"]).status(3).says("not found on PATH");
    assert_eq!(left(&lab), Vec::<String>::new());
    stack.repo.xtask(&["start", "optional"]).success();
}

#[test]
fn start_is_rolled_back_if_a_service_never_gets_ready() {
    let lab = Lab::new();
    let ready = "ready = { tcp = true }\nstop = { timeout = '60ms' }";
    let layer = service(&lab, "well", "daemons", port(), ready)
        + &service(&lab, "ends", "ends", port(), ready)
        + &service(&lab, "mute", "mute+deaf", port(), ready);
    let stack = Stack::new(&lab, &layer);
    stack
        .repo
        .xtask(&["start", "well", "ends"])
        .status(1)
        .says("ends: exited with code 4 before it was ready")
        .says("| there is no tomorrow")
        .says("the started services were stopped again")
        .says("`cargo xtask logs ends`");
    assert_eq!(left(&lab), Vec::<String>::new());
    stack
        .repo
        .xtask(&["start", "well", "mute", "--timeout", "700ms"])
        .status(1)
        .says("not ready within 0.7 s: nothing is listening on port");
    assert_eq!(left(&lab), Vec::<String>::new());
    assert_eq!(stack.state("mute"), "failed", "it is still told what went wrong");
    // What ran before the command stays.
    stack.repo.xtask(&["start", "well"]).success();
    let pid = stack.pid("well");
    stack.repo.xtask(&["start", "well", "ends"]).status(1).says("this command");
    assert_eq!(stack.pid("well"), pid);
    let report = stack.repo.xtask(&["start", "ends", "--json"]).status(1);
    assert_eq!(report.json()["failures"][0]["service"], "ends");
}

#[test]
fn concurrent_starts_result_in_one_stack() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "late", port(), "ready = { tcp = true }"));
    let mut commands: Vec<_> = (0..4).map(|_| start(&stack.repo, &["start"])).collect();
    wait_for("one that starts", || stack.state("api") == "starting");
    cue(&lab, "api", "well", true);
    for command in &mut commands {
        assert!(command.wait().unwrap().success());
    }
    assert_eq!(stack.row("api")["restarts"], 0);
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn interrupted_start_stops_only_what_it_started() {
    let lab = Lab::new();
    let layer = service(&lab, "well", "well", port(), "ready = { tcp = true }")
        + &service(&lab, "api", "late", port(), "ready = { tcp = true }");
    let stack = Stack::new(&lab, &layer);
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::KILL] {
        stack.repo.xtask(&["start", "well"]).success();
        let mut command = start(&stack.repo, &["start"]);
        wait_for("one that starts", || stack.state("api") == "starting");
        let pid = rustix::process::Pid::from_child(&command);
        rustix::process::kill_process(pid, signal).unwrap();
        let status = command.wait().unwrap();
        if signal == rustix::process::Signal::INT {
            assert_eq!(status.code(), Some(130));
        }
        wait_for("it to be gone", || stack.state("api") == "stopped");
        assert_eq!(stack.state("well"), "ready", "what ran before stays");
        stack.repo.xtask(&["stop"]).success();
        assert_eq!(left(&lab), Vec::<String>::new());
    }
}

#[test]
fn state_of_a_newer_version_is_reported_and_kept() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), "ready = { tcp = true }"));
    stack.repo.xtask(&["start"]).success();
    stack.repo.xtask(&["stop"]).success();
    let path = stack.repo.dir.join(".git/xtask/services/local/stack");
    fs::write(&path, "xtask.stack/2\nwhatever\n{}").unwrap();
    for command in ["start", "stop", "ps", "restart"] {
        let ran = stack.repo.xtask(&[command]).status(3).says(".git/xtask/services/local");
        ran.says("was written by a newer xtask").says("was not changed");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "xtask.stack/2\nwhatever\n{}");
    fs::remove_file(&path).unwrap();
}

#[test]
fn stale_or_forged_records_never_kill_foreign_processes() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), "ready = { tcp = true }"));
    stack.repo.xtask(&["start"]).success();
    let LoadedRecord::Valid(mut saved) = kept(&stack).read_record() else { panic!("no record") };
    stack.repo.xtask(&["stop"]).success();
    let mut stranger = Stranger::named(&lab, "api", port());
    let who = processes::identify_process(stranger.0.id()).unwrap();
    let mut earlier = who.clone();
    earlier.started -= 1;
    let mut before_boot = who.clone();
    before_boot.boot = "another".to_owned();
    for planted in [who, earlier, before_boot] {
        saved.units[0].identity = Some(planted);
        saved.units[0].state = xtask_services::status::ReportedState::Ready;
        kept(&stack).write_record(&Disk::real(), &saved).unwrap();
        assert_eq!(stack.state("api"), "stopped");
        stack.repo.xtask(&["stop"]).success();
        assert!(stranger.is_alive());
        kept(&stack).write_record(&Disk::real(), &saved).unwrap();
        stack.repo.xtask(&["start"]).success();
        assert_ne!(stack.pid("api"), stranger.0.id());
        stack.repo.xtask(&["stop"]).success();
        assert!(stranger.is_alive());
    }
}

#[test]
fn supervisor_socket_is_private_and_rejects_invalid_requests() {
    use std::io::{Read, Write};
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), "ready = { tcp = true }"));
    stack.repo.xtask(&["start"]).success();
    let folder = lab.path("runtime/xtask");
    let socket = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(folder.as_std_path())), (0o600, 0o700));
    let mut silent = Vec::new();
    for nonsense in ["", "{}\n", "GET / HTTP/1.1\r\n\r\n", "{\"protocol\":99,\"ask\":\"start\"}\n"]
    {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        if nonsense.is_empty() {
            silent.push(stream);
            continue;
        }
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert!(told.contains("refused") && told.contains("cargo xtask stop"), "{told}");
    }
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        told
    };
    // Another version can still be looked at and ended; what says none is of the first.
    for protocol in ["\"protocol\":99,", "\"protocol\":0,", ""] {
        let told = ask(&format!("{{{protocol}\"ask\":\"show\",\"new\":1}}\n"));
        assert!(told.contains("\"service\":\"api\""), "{told}");
    }
    // Whatever else it asks is not done, also where it can be read.
    let start = "\"ask\":\"start\",\"specs\":[],\"layer\":[\"api\"],\"again\":[],\"env\":{},\
                 \"ready_within_ms\":9000,\"without\":[],\"status\":null}\n";
    for (protocol, which) in [("99", "a newer"), ("1", "an older")] {
        let told = ask(&format!("{{\"protocol\":{protocol},{start}"));
        let said = format!("comes from {which} xtask; nothing was done");
        assert!(told.contains("refused") && told.contains(&said), "{told}");
    }
    let values = start.replace("\"env\":{}", "\"env\":{},\"values\":{},\"seen\":{}");
    assert!(ask(&format!("{{\"protocol\":2,{values}")).contains("\"tell\":\"done\""));
    assert_eq!(stack.state("api"), "ready");
    stack.repo.xtask(&["stop"]).success();
}

#[test]
fn runtime_folder_accessible_to_others_is_refused() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), "ready = { tcp = true }"));
    let folder = lab.path("runtime/xtask");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    stack.repo.xtask(&["start"]).status(3).says("is not private to you").says("777");
    fs::remove_dir(&folder).unwrap();
    std::os::unix::fs::symlink(lab.path("temporary"), &folder).unwrap();
    stack.repo.xtask(&["start"]).status(3).says("is not private to you");
    assert_eq!(left(&lab), Vec::<String>::new());
    fs::remove_file(&folder).unwrap();
    // One that is too long for a socket is done without.
    let long = lab.path(&"x".repeat(120));
    fs::create_dir(&long).unwrap();
    stack.repo.xtask_with(&["start"], &[("XDG_RUNTIME_DIR", long.as_str())]).success();
    assert_eq!(stack.state("api"), "ready", "it is found without that variable");
    stack.repo.xtask(&["stop"]).success();
}

#[test]
fn stop_completes_after_its_client_was_killed() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "deaf", "deaf", port(), "ready = { tcp = true }"));
    stack.repo.xtask(&["start"]).success();
    let mut command = spawn(
        std::process::Command::new(program())
            .args(["stop", "--timeout", "2s"])
            .current_dir(&stack.repo.dir)
            .envs(stack.repo.environment())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
    .unwrap();
    wait_for("it to begin", || {
        stack.state("deaf") == "stopping" || stack.ps()["services"].is_null()
    });
    command.kill().unwrap();
    command.wait().unwrap();
    wait_for("nothing of it", || left(&lab).is_empty());
}
