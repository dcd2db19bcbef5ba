//! What adversarial readers found in services, each with the test that would have found it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use xtask_base::files::Disk;
use xtask_base::processes::{self, ProcessIdentity};
use xtask_base::record::LoadedRecord;
use xtask_services::stack::Stack as Kept;

use crate::services_nasty::{Stack, Stranger, cue, kill, left, service};
use crate::testkit::{Lab, Place, circle, port, program, spawn};
use crate::wrong_hits::{start, start_heard, wait_for};

const READY: &str = "ready = { tcp = true }\nstop = { timeout = '60ms' }";

fn kept(repo: &Place<'_>) -> Kept {
    let root = repo.dir.as_std_path().canonicalize().unwrap();
    let folder = root.join(".git/xtask/services/local");
    Kept { layer: "local".to_owned(), root, folder }
}

/// A session of somebody's own: a shell, and a bystander that it has started.
struct Session {
    shell: Child,
    bystander: u32,
}

impl Session {
    /// Runs a script in a session of its own, where `$B` is the bystander and `$X` the toolkit.
    fn new(repo: &Place<'_>, script: &str) -> Session {
        let note = repo.dir.join("bystander");
        drop(fs::remove_file(&note));
        let script =
            format!("sleep 600 & B=$!; echo $B > {note}.new; mv {note}.new {note}\n{script}");
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", &script]).current_dir(&repo.dir).envs(repo.environment());
        command.env("X", program()).env("STRANGER", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let shell = spawn(&mut command).unwrap();
        wait_for("a bystander", || note.exists());
        let bystander = fs::read_to_string(&note).unwrap().trim().parse().unwrap();
        fs::remove_file(&note).unwrap();
        Session { shell, bystander }
    }

    fn is_alive(&mut self) -> bool {
        self.shell.try_wait().unwrap().is_none()
            && processes::identify_process(self.bystander).is_some()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if processes::identify_process(self.bystander).is_some() {
            kill(self.bystander);
        }
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

#[test]
fn stop_spares_a_foreign_session_with_copied_service_variables() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), READY));
    stack.repo.xtask(&["start"]).success();
    // As one does who tries something with the variables of a service.
    let script = format!(
        "env $(tr '\\0' '\\n' < /proc/{}/environ | grep ^XTASK_) sleep 601 & wait",
        stack.pid("api")
    );
    let mut session = Session::new(&stack.repo, &script);
    stack.repo.xtask(&["stop"]).success();
    assert!(session.is_alive());
}

#[test]
fn stop_spares_the_session_that_runs_start_verify() {
    let lab = Lab::new();
    let (begun, go) = (lab.path("begun"), lab.path("go"));
    let probe = format!("touch {begun}; until test -e {go}; do sleep 0.01; done");
    let layer = format!(
        "[service.api]\nrun = 'sleep 600'\nready = {{ run = '{probe}', shell = true, timeout = '60s' }}\n"
    );
    let stack = Stack::new(&lab, &layer);
    fs::write(&go, "").unwrap();
    stack.repo.xtask(&["start"]).success();
    fs::remove_file(&go).unwrap();
    fs::remove_file(&begun).unwrap();
    let mut session = Session::new(&stack.repo, "$X start --verify; sleep 600");
    wait_for("the probe", || begun.exists());
    stack.repo.xtask(&["stop"]).success();
    assert!(session.is_alive());
    fs::write(&go, "").unwrap();
}

#[test]
fn copied_repository_does_not_control_services_of_the_original() {
    let lab = Lab::new();
    let first = port();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", first, READY));
    stack.repo.xtask(&["start"]).success();
    let pid = stack.pid("api");
    let copy = Stack { repo: stack.repo.at("../copy") };
    let copied =
        Command::new("cp").args(["-r", stack.repo.dir.as_str(), copy.repo.dir.as_str()]).status();
    assert!(copied.unwrap().success());
    copy.repo.xtask(&["ps"]).success().says("no services are running");
    copy.repo.xtask(&["stop"]).success().says("no services were running");
    copy.repo.xtask(&["start"]).status(1).says(stack.repo.dir.as_str()).says("stop --layer local");
    copy.repo.xtask(&["start", "--port", &format!("api={}", port())]).success();
    copy.repo.xtask(&["stop"]).success();
    assert_eq!(stack.pid("api"), pid);
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn record_that_names_a_foreign_session_leader_is_ignored() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), READY));
    stack.repo.xtask(&["start"]).success();
    let LoadedRecord::Valid(mut saved) = kept(&stack.repo).read_record() else {
        panic!("no record")
    };
    stack.repo.xtask(&["stop"]).success();
    let mut session = Session::new(&stack.repo, "wait");
    let leader = processes::identify_process(session.shell.id()).unwrap();
    let other: ProcessIdentity = processes::identify_process(session.bystander).unwrap();
    for who in [leader, other] {
        saved.units[0].identity = Some(who);
        saved.units[0].state = xtask_services::status::ReportedState::Ready;
        kept(&stack.repo).write_record(&Disk::real(), &saved).unwrap();
        assert_eq!(stack.state("api"), "stopped");
        stack.repo.xtask(&["stop"]).success();
        assert!(session.is_alive());
    }
}

#[test]
fn take_over_refuses_ports_of_another_stack() {
    let lab = Lab::new();
    let (shared, status) = (port(), port());
    let stack = Stack::new(&lab, &service(&lab, "api", "well", shared, READY));
    let file = stack.repo.read("deployment/local.toml");
    let file = file.replace("enabled = false", &format!("port = {status}"));
    stack.repo.write("deployment/local.toml", &file);
    stack.repo.xtask(&["start"]).success();
    let (pid, supervisor) = (stack.pid("api"), stack.supervisor());
    let other = lab.repo_named("other", &[]);
    other.write("deployment/local.toml", &file);
    other.commit("services");
    let other = Stack { repo: other };
    let (wanted, page) = (shared.to_string(), status.to_string());
    other
        .repo
        .xtask(&["start", "--take-over", &wanted, "--take-over", &page])
        .status(1)
        .says("it is `api` of layer `local`")
        .says("it belongs to layer `local`")
        .says(&format!("-C {}", stack.repo.dir));
    assert_eq!((stack.pid("api"), stack.supervisor()), (pid, supervisor));
}

#[test]
fn take_over_kills_nothing_unless_the_start_can_proceed() {
    let lab = Lab::new();
    let (one, two) = (port(), port());
    let layer = service(&lab, "a", "well", one, READY) + &service(&lab, "b", "well", two, READY);
    let stack = Stack::new(&lab, &layer);
    let mut first = Stranger::named(&lab, "first", one);
    let mut second = Stranger::named(&lab, "second", two);
    let (one, two) = (one.to_string(), two.to_string());
    stack
        .repo
        .xtask(&["start", "--take-over", &one])
        .status(1)
        .says("nothing was started or stopped");
    assert!(first.is_alive() && second.is_alive());
    stack.repo.xtask(&["start", "--take-over", &one, "--take-over", &two]).success();
    assert!(!first.is_alive() && !second.is_alive());
}

#[test]
fn stop_spares_a_stack_that_a_service_has_started() {
    let lab = Lab::new();
    let inner = lab.repo_named("inner", &[]);
    let layer = service(&lab, "in", "well", port(), READY);
    inner.write("deployment/local.toml", format!("[status]\nenabled = false\n{layer}"));
    inner.commit("services");
    let inner = Stack { repo: inner };
    let program = program();
    let layer = format!(
        "[service.out]\nshell = true\nready = {{ log = 'up' }}\n\
         run = 'cd {} && {program} start && echo up && exec sleep 600'\n",
        inner.repo.dir
    );
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    let (pid, supervisor) = (inner.pid("in"), inner.supervisor());
    stack.repo.xtask(&["stop"]).success();
    assert_eq!((inner.pid("in"), inner.supervisor()), (pid, supervisor));
}

#[test]
fn interrupted_start_stops_nothing_it_did_not_start() {
    let lab = Lab::new();
    let slow = "ready = { tcp = true }\nrestart = { backoff = '60s..60s' }";
    let layer =
        service(&lab, "a", "well", port(), READY) + &service(&lab, "b", "well", port(), slow);
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    cue(&lab, "b", "crash", true);
    wait_for("a pause", || stack.state("b") == "restarting" && stack.row("b")["pid"].is_null());
    let command = start_heard(&stack.repo, &["start"]);
    let lock = stack.repo.dir.join(".git/xtask/services/local/command.lock");
    let holds = format!("pid {}", command.id());
    wait_for("it to begin", || fs::read_to_string(&lock).unwrap().contains(&holds));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = rustix::process::Pid::from_child(&command);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = command.wait_with_output().unwrap();
    // On a busy machine it may not have begun to hold signals off; then it ends as any other program.
    let is_plain = std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(2);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(130) || is_plain, "{ended:?}: {said}");
    assert_eq!(stack.state("a"), "ready");
}

#[test]
fn supervisor_stops_all_services_on_term_or_hup() {
    let lab = Lab::new();
    let layer =
        service(&lab, "a", "daemons", port(), READY) + &service(&lab, "b", "deaf", port(), READY);
    let stack = Stack::new(&lab, &layer);
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        stack.repo.xtask(&["start"]).success();
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(stack.supervisor()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        wait_for("nothing of it", || left(&lab).is_empty());
        stack.repo.xtask(&["ps"]).success().says("no services are running");
    }
}

#[test]
fn supervisor_listens_again_after_runtime_folder_was_recreated() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), READY));
    stack.repo.xtask(&["start"]).success();
    fs::remove_dir_all(lab.path("runtime")).unwrap();
    fs::create_dir(lab.path("runtime")).unwrap();
    wait_for("the supervisor to listen again", || {
        stack.repo.xtask(&["ps", "--json"]).out.contains("\"ready\"")
    });
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn stop_during_a_start_aborts_the_start() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "late", port(), READY));
    let command = start_with_output(&stack.repo, &["start", "--timeout", "500s"]);
    wait_for("it to begin", || stack.state("api") == "starting");
    stack.repo.xtask(&["stop"]).success().says("stopped: api");
    let output = command.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("stopped while it was starting"), "{told}");
    assert_eq!(left(&lab), Vec::<String>::new());
}

fn start_with_output(repo: &Place<'_>, args: &[&str]) -> Child {
    let mut command = Command::new(program());
    command.args(args).current_dir(&repo.dir).envs(repo.environment());
    spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped())).unwrap()
}

#[test]
fn restart_waits_for_a_dependent_that_is_stopping() {
    let lab = Lab::new();
    let deaf = "ready = { tcp = true }\nneeds = ['a']\nstop = { timeout = '1500ms' }";
    let layer =
        service(&lab, "a", "well", port(), READY) + &service(&lab, "web", "deaf", port(), deaf);
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    let pid = stack.pid("a");
    let mut stop = start(&stack.repo, &["stop", "web"]);
    wait_for("it to begin", || stack.state("web") == "stopping");
    stack.repo.xtask(&["restart", "a"]).success();
    assert_ne!(stack.pid("a"), pid);
    assert!(stop.wait().unwrap().success());
}

#[test]
fn log_probe_ignores_lines_of_earlier_runs() {
    let lab = Lab::new();
    let go = lab.path("go");
    let layer = format!(
        "[service.a]\nshell = true\nready = {{ log = 'READY' }}\n\
         run = 'until test -e {go}; do sleep 0.01; done; echo READY; exec sleep 600'\n"
    );
    let stack = Stack::new(&lab, &layer);
    fs::write(&go, "").unwrap();
    stack.repo.xtask(&["start"]).success();
    fs::remove_file(&go).unwrap();
    let mut restart = start(&stack.repo, &["restart", "--timeout", "500s"]);
    wait_for("it to begin", || stack.state("a") == "starting");
    kill(stack.supervisor());
    restart.wait().unwrap();
    let mut command = start(&stack.repo, &["start", "--timeout", "500s"]);
    wait_for("a supervisor", || !stack.ps()["supervisor"].is_null());
    for _ in 0..20 {
        assert_eq!(stack.state("a"), "starting");
    }
    fs::write(&go, "").unwrap();
    assert!(command.wait().unwrap().success());
    assert_eq!(stack.state("a"), "ready");
}

#[test]
fn service_without_probe_must_stay_running_to_be_ready() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, "[service.a]\nrun = './bad.sh'\n[service.b]\nrun = 'true'\n");
    // What it is read by is there, and what that is to run is not.
    stack.repo.write_executable("bad.sh", "#!/bin/sh\nexec /no/such/program\n");
    stack.repo.xtask(&["start", "a"]).status(1).says("code 127");
    stack.repo.xtask(&["start", "b"]).status(1).says("code 0 before it was ready");
}

#[test]
fn start_reports_the_exit_code_despite_huge_log_lines() {
    let lab = Lab::new();
    let layer = "[service.a]\nshell = true\nready = { tcp = 1 }\n\
                 run = 'head -c 3000000 /dev/zero | tr \"\\0\" x; exit 3'\n";
    let stack = Stack::new(&lab, layer);
    for _ in 0..5 {
        stack.repo.xtask(&["start"]).status(1).says("exited with code 3 before it was ready");
    }
}

#[test]
fn unconfigured_service_is_reported_until_it_is_stopped() {
    let lab = Lab::new();
    let (api, gone) =
        (service(&lab, "api", "well", port(), READY), service(&lab, "gone", "well", port(), READY));
    let stack = Stack::new(&lab, &format!("{api}{gone}"));
    stack.repo.xtask(&["start"]).success();
    stack.repo.write("deployment/local.toml", format!("[status]\nenabled = false\n{api}"));
    stack.repo.xtask(&["restart"]).success().says("gone is running, but is no longer configured");
    stack.repo.xtask(&["stop", "gone"]).success();
    stack.repo.xtask(&["start"]).success().never_says("gone");
    assert!(stack.row("gone").is_null());
}

#[test]
fn unreadable_layer_state_does_not_hide_other_layers() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), READY));
    stack.repo.xtask(&["start"]).success();
    stack.repo.write(".git/xtask/services/old/stack", "junk");
    stack.repo.xtask(&["ps"]).status(3).says("ready").says("services/old");
    stack.repo.xtask(&["stop"]).status(3).says("services/old");
    assert_eq!(left(&lab), Vec::<String>::new(), "the one that can be read was ended");
}

#[test]
fn newer_supervisor_record_is_reported_with_its_pid() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), READY));
    stack.repo.xtask(&["start"]).success();
    let supervisor = stack.supervisor();
    let path = stack.repo.dir.join(".git/xtask/services/local/supervisor");
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, record.replacen("/1", "/2", 1)).unwrap();
    for command in ["ps", "stop", "start"] {
        stack
            .repo
            .xtask(&[command])
            .status(3)
            .says("written by a newer xtask")
            .says(&format!("pid {supervisor}"));
    }
    fs::write(&path, record).unwrap();
    assert_eq!(stack.state("api"), "ready");
}

#[test]
fn service_state_folders_are_private_to_the_user() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), READY));
    stack.repo.xtask(&["start"]).success();
    let mode =
        |path: &str| fs::metadata(stack.repo.dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(".git/xtask/services"), 0o700);
    assert_eq!(mode(".git/xtask/services/local"), 0o700);
}

#[test]
fn start_keeps_running_ports_and_restarts_stopping_services_as_configured() {
    let lab = Lab::new();
    let deaf = "ready = { tcp = true }\nstop = { timeout = '1500ms' }";
    let stack = Stack::new(&lab, &service(&lab, "api", "deaf", port(), deaf));
    stack.repo.xtask(&["start"]).success();
    let moved = format!("api={}", port());
    stack.repo.xtask(&["start", "--port", &moved]).status(2).says("api is already running");
    let mut stop = start(&stack.repo, &["stop"]);
    wait_for("it to begin", || stack.state("api") == "stopping");
    let file = stack.repo.read("deployment/local.toml");
    stack.repo.write("deployment/local.toml", file.replacen("PLAYS = ", "NEW = '1', PLAYS = ", 1));
    stack.repo.xtask(&["start"]).success();
    stop.wait().unwrap();
    let environ = fs::read(format!("/proc/{}/environ", stack.pid("api"))).unwrap();
    assert!(String::from_utf8_lossy(&environ).contains("NEW=1"));
}

#[test]
fn start_clean_validates_before_stopping_anything() {
    let lab = Lab::new();
    let layer = service(&lab, "api", "well", port(), READY);
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    let pid = stack.pid("api");
    stack.repo.write(
        "deployment/local.toml",
        format!("[status]\nenabled = false\n{layer}[service.x]\nrun = 'no-such-program'\n"),
    );
    stack.repo.xtask(&["start", "--clean"]).status(3).says("nothing was started");
    assert_eq!(stack.pid("api"), pid);
    stack.repo.xtask(&["logs", "api"]).success().says("listening");
    stack.repo.xtask(&["stop", "nope"]).status(2);
    stack.repo.xtask(&["stop"]).success();
    stack.repo.xtask(&["stop", "nope"]).status(2).says("no such service in any layer: `nope`");
}

#[test]
fn stop_ends_daemonized_children_without_service_variables() {
    let lab = Lab::new();
    let pid_file = lab.path("hidden");
    let layer = format!(
        "[service.a]\nshell = true\nready = {{ log = 'up' }}\n\
         run = '''env -i PATH=\"$PATH\" setsid sh -c 'echo $$ > {pid_file}; exec sleep 600' & \
         until test -s {pid_file}; do sleep 0.01; done; echo up; exec sleep 600'''\n"
    );
    let stack = Stack::new(&lab, &layer);
    let hidden = || fs::read_to_string(&pid_file).unwrap().trim().parse::<u32>().unwrap();
    stack.repo.xtask(&["start"]).success();
    assert!(processes::identify_process(hidden()).is_some());
    stack.repo.xtask(&["stop"]).success();
    assert!(processes::identify_process(hidden()).is_none());
    // Also after its supervisor has died, once that has written it down.
    fs::remove_file(&pid_file).unwrap();
    stack.repo.xtask(&["start"]).success();
    let parent = |pid: u32| processes::find_process(pid).unwrap().parent_pid;
    let service = stack.pid("a");
    kill(service);
    wait_for("a restart", || stack.row("a")["restarts"] == 1 && stack.state("a") == "ready");
    let orphan = hidden();
    assert_ne!(parent(orphan), 1, "it is somebody's child");
    stack.repo.xtask(&["stop"]).success();
    assert!(processes::identify_process(orphan).is_none());
}

#[test]
fn stop_ends_services_that_changed_their_marker_variables() {
    let lab = Lab::new();
    // Another marker; none but with a path; a daemon of its own session without any.
    let hidden = lab.path("hidden");
    let layer = format!(
        "[service.other]\nrun = ['env', 'XTASK_SERVICE=other/x/1', 'XTASK_SUPERVISOR=1', 'sleep', '600']\n\
         [service.bare]\nshell = true\nrun = 'exec env -i PATH=\"$PATH\" sleep 600'\n\
         [service.daemon]\nshell = true\nready = {{ log = 'up' }}\n\
         run = '''env -i PATH=\"$PATH\" setsid sh -c 'echo $$ > {hidden}; sleep 600' & \
         until test -s {hidden}; do sleep 0.01; done; echo up; exec sleep 600'''\n"
    );
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    let pids = [stack.pid("other"), stack.pid("bare"), stack.pid("daemon")];
    let daemon: u32 = fs::read_to_string(&hidden).unwrap().trim().parse().unwrap();
    // By the service alone, while the others run.
    stack.repo.xtask(&["stop", "daemon"]).success();
    assert!(processes::identify_process(daemon).is_none(), "it wrote to the log of its service");
    kill(stack.supervisor());
    wait_for("nobody who watches", || stack.ps()["supervisor"].is_null());
    assert_eq!(stack.pid("bare"), pids[1], "it is known by its log");
    stack.repo.xtask(&["stop"]).success();
    for pid in pids {
        // One that says it is another stack's is left to that one, once nobody has it as a child.
        let is_foreign = pid == pids[0];
        assert!(is_foreign || processes::identify_process(pid).is_none(), "{pid}");
        if is_foreign && processes::identify_process(pid).is_some() {
            kill(pid);
        }
    }
    stack.repo.xtask(&["start", "other"]).success();
    let pid = stack.pid("other");
    stack.repo.xtask(&["stop"]).success();
    assert!(processes::identify_process(pid).is_none(), "its supervisor has it as a child");
}

#[test]
fn repeated_restarts_during_ps_leak_no_processes() {
    let lab = Lab::new();
    let layer: String = (0..5)
        .map(|number| {
            format!(
                "[service.s{number}]\nshell = true\nready = {{ log = 'up' }}\n\
                 run = 'trap \"sleep 0.0{number}; exit 0\" TERM; echo up; while :; do sleep 0.05; done'\n"
            )
        })
        .collect();
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    stack.repo.xtask(&["ps"]).success();
                }
            });
        }
        for _ in 0..circle::either(8, 50) {
            stack.repo.xtask(&["restart"]).success();
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn optional_service_can_be_stopped_during_a_start() {
    let lab = Lab::new();
    let layer = service(&lab, "a", "well", port(), READY)
        + &service(&lab, "opt", "late", port(), "ready = { tcp = true }\nrequired = false");
    let stack = Stack::new(&lab, &layer);
    let mut command = start(&stack.repo, &["start", "--timeout", "500s"]);
    wait_for("it to begin", || stack.state("opt") == "starting" && stack.state("a") == "ready");
    stack.repo.xtask(&["stop", "opt"]).success();
    assert!(command.wait().unwrap().success());
    assert_eq!(stack.state("a"), "ready");
}

#[test]
fn repository_recreated_at_the_same_path_gets_its_own_services() {
    let lab = Lab::new();
    let layer = "[status]\nenabled = false\n[service.a]\nrun = 'sleep 600'\n";
    let repo = lab.repo();
    repo.write("deployment/local.toml", layer);
    repo.commit("services");
    repo.xtask(&["start"]).success();
    let old = left(&lab);
    assert_eq!(old.len(), 3, "the service, the supervisor and the writer of logs: {old:?}");
    fs::remove_dir_all(&repo.dir).unwrap();
    let repo = lab.repo();
    repo.write("deployment/local.toml", layer);
    repo.commit("services");
    let stack = Stack { repo };
    stack.repo.xtask(&["start"]).success();
    assert_eq!(stack.state("a"), "ready");
    // What was started in the one that is gone ends by itself.
    wait_for("the end of the old ones", || left(&lab).iter().all(|who| !old.contains(who)));
    assert_eq!(stack.state("a"), "ready");
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn leftover_processes_block_neither_timed_stop_nor_ps() {
    let lab = Lab::new();
    let ready = lab.path("ready");
    let script = format!("trap : TERM; touch {ready}; while :; do sleep 0.1; done");
    let layer = format!(
        "[service.a]\nshell = true\n\
         run = '''(setsid env -i PATH=\"$PATH\" sh -c '{script}' >/dev/null 2>&1 &); exec sleep 600'''\n"
    );
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    wait_for("it to be deaf", || ready.exists());
    let mut stop = start(&stack.repo, &["stop", "--timeout", "2s"]);
    for _ in 0..20 {
        stack.repo.xtask(&["ps"]).success();
    }
    assert!(stop.wait().unwrap().success());
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn log_follower_exits_when_its_reader_closes_the_pipe() {
    use std::io::Read;
    let lab = Lab::new();
    let layer = "[service.a]\nshell = true\nrun = 'while :; do echo line; sleep 0.05; done'\n";
    let stack = Stack::new(&lab, layer);
    stack.repo.xtask(&["start"]).success();
    for args in [&["logs", "-f"][..], &["start", "--foreground"]] {
        let mut command = spawn(
            Command::new(program())
                .args(args)
                .current_dir(&stack.repo.dir)
                .envs(stack.repo.environment())
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        )
        .unwrap();
        let mut pipe = command.stdout.take().unwrap();
        assert!(pipe.read(&mut [0; 16]).unwrap() > 0);
        drop(pipe);
        command.wait().unwrap();
    }
    assert_eq!(left(&lab), Vec::<String>::new(), "the foreground took its services along");
}

#[test]
fn constantly_forking_service_is_killed_or_reported() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, "[service.hop]\nrun = './first.sh'\nstop = { timeout = '1ms' }\n");
    let (hops, end) = (lab.path("hops"), lab.path("end"));
    let hop = format!(
        "#!/bin/sh\ntrap '' TERM\ntest -e {end} && exit\nprintf . >> {hops}\nsetsid ./hop.sh &\n"
    );
    stack.repo.write_executable("hop.sh", &hop);
    stack.repo.write_executable("first.sh", "#!/bin/sh\n./hop.sh\nexec sleep 600\n");
    let length = || fs::metadata(&hops).map_or(0, |meta| meta.len());
    stack.repo.xtask(&["start"]).success();
    wait_for("it to hop", || length() > 20);
    let ran = stack.repo.xtask(&["stop"]);
    let before = length();
    // It is true that it is gone, or it is said that it is not.
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let goes_on = length() != before;
    fs::write(&end, "").unwrap();
    match ran.code {
        Some(0) => assert!(!goes_on, "it was said to be gone"),
        code => assert_eq!(code, Some(1), "{}", ran.err),
    }
    wait_for("its end", || left(&lab).iter().all(|who| who.contains("supervise")));
}

#[test]
fn start_during_final_cleanup_is_not_killed_by_it() {
    let lab = Lab::new();
    let ready = lab.path("ready");
    let script = format!("trap : TERM; touch {ready}; while :; do sleep 0.1; done");
    let layer = format!(
        "[service.a]\nshell = true\n\
         run = '''(setsid env -i PATH=\"$PATH\" sh -c '{script}' >/dev/null 2>&1 &); exec sleep 600'''\n\
         [service.b]\nrun = 'sleep 600'\n"
    );
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start", "a"]).success();
    wait_for("it to be deaf", || ready.exists());
    let mut stop = start(&stack.repo, &["stop", "--timeout", "1s"]);
    wait_for("the last of it", || stack.state("a") == "stopped");
    stack.repo.xtask(&["start", "b"]).success();
    let pid = stack.pid("b");
    stop.wait().unwrap();
    assert_eq!(stack.pid("b"), pid);
    assert_eq!(stack.row("b")["restarts"], 0);
}
