//! A running service is what it was started as: its files of variables, once read, are nobody's concern but of
//! the next start.

use std::time::Duration;

use serde_json::{Value, json};

use crate::services_nasty::{Stack, kill};
use crate::testkit::Lab;
use crate::wrong_hits::wait_for;

/// Longer than it takes a probe to fail too often.
const A_FEW_PROBES: Duration = Duration::from_millis(250);

#[test]
fn running_service_is_probed_with_its_start_environment() {
    let lab = Lab::new();
    let layer = "[service.api]\nrun = 'sleep 600'\nenv-file = '?.env'\n\
                 live = { run = \"sh -c 'test \\\"$WORD\\\" = one'\", every = '50ms', failures = 2 }\n";
    let stack = Stack::new(&lab, layer);
    let repo = &stack.repo;
    repo.write(".env", "WORD=one\n");
    repo.xtask(&["start"]).success();
    let begun = stack.row("api");
    assert_eq!(begun["warnings"], json!([]));
    // Another value, half of one, something that holds everybody up, and nothing at all.
    for change in ["WORD=two\n", "WORD='tw", "a pipe", "nothing"] {
        repo.remove(".env");
        match change {
            "a pipe" => drop(repo.run("mkfifo", &[".env"], &[])),
            "nothing" => {}
            text => repo.write(".env", text),
        }
        std::thread::sleep(A_FEW_PROBES);
        let now = stack.row("api");
        assert_eq!((&now["pid"], &now["restarts"]), (&begun["pid"], &begun["restarts"]), "{now}");
        assert!(now["warnings"][0].as_str().unwrap().contains("`.env` changed"), "{change}: {now}");
        repo.xtask(&["status"]).success().says("configuration of `api` has changed");
    }
    // Its first process dies: it is started again with what it was started with.
    kill(stack.pid("api"));
    wait_for("a restart", || stack.row("api")["restarts"] == 1 && stack.state("api") == "ready");
    std::thread::sleep(A_FEW_PROBES);
    assert_eq!(stack.row("api")["health"], "healthy");
    // Another supervisor goes on so.
    kill(stack.supervisor());
    wait_for("its end", || stack.ps()["supervisor"].is_null());
    repo.xtask(&["start"]).success();
    std::thread::sleep(A_FEW_PROBES);
    let now = stack.row("api");
    assert_eq!(
        (&now["restarts"], &now["health"]),
        (&Value::from(1), &Value::from("healthy")),
        "{now}"
    );
    let text = repo.read("deployment/local.toml");
    repo.write("deployment/local.toml", text.replace("sleep 600", "sleep 601"));
    assert!(stack.row("api")["warnings"].to_string().contains("its layer"));
    // A restart reads what is there now.
    repo.write(".env", "WORD=one\n");
    repo.xtask(&["restart", "api"]).success();
    assert_eq!(stack.row("api")["warnings"], json!([]));
}

#[test]
fn env_file_pipe_is_read_once_and_never_blocks_supervisor() {
    let lab = Lab::new();
    let layer = "[service.api]\nrun = \"sh -c 'echo has $WORD; exec sleep 600'\"\nenv-file = '?.env'\n\
                 [service.other]\nrun = 'sleep 600'\n";
    let stack = Stack::new(&lab, layer);
    let repo = &stack.repo;
    repo.run("mkfifo", &[".env"], &[]);
    let pipe = repo.dir.join(".env");
    let writer = std::thread::spawn(move || std::fs::write(pipe, "WORD=secret\n").unwrap());
    repo.xtask(&["start"]).success();
    writer.join().unwrap();
    wait_for("its log", || repo.xtask(&["logs", "api"]).success().out.contains("has secret"));
    kill(stack.pid("api"));
    wait_for("a restart", || stack.row("api")["restarts"] == 1 && stack.state("api") == "ready");
    wait_for("its log", || repo.xtask(&["logs", "api"]).out.matches("has secret").count() >= 1);
    assert_eq!(stack.state("other"), "ready");
    repo.xtask(&["stop"]).success();
    // The values are written down nowhere.
    let ran = repo.run("grep", &["-rl", "secret", ".git"], &[]);
    let left: Vec<&str> = ran.out.lines().filter(|line| !line.contains("/logs/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn non_utf8_variables_reach_the_service() {
    use std::os::unix::ffi::OsStringExt as _;
    let lab = Lab::new();
    let layer = "[service.api]\nrun = \"sh -c 'printf %s \\\"$FILE$SHELLS\\\" | od -An -tx1; exec sleep 600'\"\n\
                 env-file = '.env'\n";
    let stack = Stack::new(&lab, layer);
    std::fs::write(stack.repo.dir.join(".env"), b"FILE=\xff\xfe\n").unwrap();
    let value = std::ffi::OsString::from_vec(b"\xfd".to_vec());
    let mut command = std::process::Command::new(crate::testkit::program());
    command.args(["start"]).current_dir(&stack.repo.dir).envs(stack.repo.environment());
    let mut child = crate::testkit::spawn(command.env("SHELLS", value)).unwrap();
    assert!(child.wait().unwrap().success());
    wait_for("its log", || stack.repo.xtask(&["logs", "api"]).success().out.contains("ff fe fd"));
}

#[test]
fn start_names_the_missing_interpreter_of_a_script() {
    let lab = Lab::new();
    for (first, name, why) in [
        (
            "#!/bin/sh\r\n",
            "interpreter `/bin/sh\\r` of `",
            "run.sh` not found: the script has CRLF line endings",
        ),
        ("#!/no/such/python3 -u\n", "interpreter `/no/such/python3` of `", "run.sh` not found"),
    ] {
        let stack = Stack::new(&lab, "[service.a]\nrun = './run.sh'\n");
        crate::testkit::write_script(&stack.repo.dir.join("run.sh"), format!("{first}sleep 600\n"));
        let ran = stack.repo.xtask(&["start"]).status(3);
        assert!(ran.err.contains(name) && ran.err.contains(why), "{}", ran.err);
        drop(stack);
        std::fs::remove_dir_all(lab.path("repo")).unwrap();
    }
}
