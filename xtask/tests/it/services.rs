//! Services: started in the order of need, watched, shown, ended.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use xtask_base::http;

use crate::services_nasty::{Stack, cue, kill, left, service};
use crate::testkit::{Lab, port, program, spawn, trace};
use crate::wrong_hits::{start, wait_for};

const PATIENCE: Duration = Duration::from_secs(10);

fn get(port: u16, path: &str) -> (u16, String) {
    match http::get(port, path, PATIENCE) {
        Ok(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
        Err(none) => panic!("{none}"),
    }
}

#[test]
fn the_local_layer_runs_on_a_fresh_clone() {
    let lab = Lab::new();
    let repo = lab.repo();
    let shipped = include_str!("../../../deployment/local.toml");
    let (web, api, status) = (port(), port(), port());
    let moved = shipped
        .replace("3000", &web.to_string())
        .replace("port = 8000", &format!("port = {api}"))
        .replace("8010", &status.to_string());
    repo.write("deployment/local.toml", moved);
    repo.commit("the example");
    let stack = Stack { repo };
    stack.repo.xtask(&["start"]).success().says(&format!("http://localhost:{web}"));
    assert!(get(web, "/").1.contains("<html"));
    assert!(get(web, "/status.json").1.contains("\"service\":\"api\""), "the page has its data");
    assert_eq!(get(api, "/api/health").0, 200);
    assert_eq!(get(status, "/health"), (200, "{\"status\":\"healthy\"}".to_owned()));
    let page: serde_json::Value = serde_json::from_str(&get(status, "/status").1).unwrap();
    let shown = stack.ps();
    for key in ["schema", "layer", "worktree", "supervisor"] {
        assert_eq!(page[key], shown[key]);
    }
    assert_eq!(shown["services"][0]["service"], "api");
    assert_eq!(shown["services"][0]["health"], "healthy");
    assert!(shown["services"][0]["memory"].as_u64().unwrap() > 100_000);
    let metrics = get(status, "/metrics").1;
    assert!(metrics.contains("xtask_service_up{layer=\"local\",service=\"web\"} 1"), "{metrics}");
    // A second start changes nothing.
    let pid = stack.pid("web");
    stack.repo.xtask(&["start"]).success();
    assert_eq!(stack.pid("web"), pid);
    stack.repo.xtask(&["status"]).success().says("2 ready");
    stack.repo.xtask(&["stop"]).success().says("stopped: api, web");
    assert_eq!(left(&lab), Vec::<String>::new());
    for port in [web, api, status] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "{port} is free");
    }
    stack.repo.xtask(&["stop"]).success().says("no services were running");
    stack.repo.xtask(&["status"]).success().never_says("services");
}

#[test]
fn services_start_in_dependency_order_and_get_ports_of_dependencies() {
    let lab = Lab::new();
    let (db, api) = (port(), port());
    let layer = service(&lab, "db", "late", db, "ready = { tcp = true }")
        + &service(&lab, "api", "well", api, "ready = { http = '/' }\nneeds = ['db', 'migrate']")
        + "[service.migrate]\nshell = true\nonce = true\nneeds = ['db']\n\
           run = 'env | grep ^XTASK_ | sort > \"$XTASK_ROOT/seen\"'\n";
    let stack = Stack::new(&lab, &layer);
    let mut command = start(&stack.repo, &["start"]);
    wait_for("a db that starts", || stack.state("db") == "starting");
    assert_eq!(stack.state("api"), "waiting");
    assert!(command.try_wait().unwrap().is_none(), "it waits");
    cue(&lab, "db", "well", true);
    assert!(command.wait().unwrap().success());
    assert_eq!((stack.state("api").as_str(), stack.state("migrate").as_str()), ("ready", "done"));
    let seen = stack.repo.read("seen");
    assert!(seen.contains(&format!("XTASK_PORT_DB={db}\n")), "{seen}");
    assert!(seen.contains(&format!("XTASK_PORT_API={api}\n")), "{seen}");
    assert!(seen.contains("XTASK_LAYER=local\n"), "{seen}");
    // Only what needs it goes with it.
    stack.repo.xtask(&["stop", "api"]).success().says("stopped: api");
    assert_eq!((stack.state("api").as_str(), stack.state("db").as_str()), ("stopped", "ready"));
    stack.repo.xtask(&["start", "api"]).success();
    stack.repo.xtask(&["stop", "db"]).success().says("api").says("db");
}

#[test]
fn crashed_or_unhealthy_service_is_restarted() {
    let lab = Lab::new();
    let more = "ready = { tcp = true }\n\
                live = { http = '/', expect = { json = { status = 'healthy' } }, every = '20ms', failures = 2 }\n\
                restart = { max = 5, within = '60s', backoff = '1ms..5ms' }";
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), more));
    stack.repo.xtask(&["start"]).success();
    let first = stack.pid("api");
    cue(&lab, "api", "crash", true);
    wait_for("a restart", || {
        let row = stack.row("api");
        row["restarts"] == 1 && row["state"] == "ready"
    });
    let second = stack.pid("api");
    assert_ne!(first, second);
    kill(second);
    wait_for("another", || stack.row("api")["restarts"] == 2 && stack.state("api") == "ready");
    // It answers 200, and says in the body that it is not well.
    cue(&lab, "api", "sick", true);
    wait_for("one for its health", || stack.row("api")["restarts"].as_u64() >= Some(3));
    cue(&lab, "api", "sick", false);
    wait_for("health", || stack.row("api")["health"] == "healthy");
    stack.repo.xtask(&["logs", "api"]).success().says("crashing on cue");
}

#[test]
fn service_that_keeps_crashing_is_marked_as_failed() {
    let lab = Lab::new();
    let (api, status) = (port(), port());
    let more =
        "ready = { tcp = true }\nrestart = { max = 2, within = '60s', backoff = '1ms..2ms' }";
    let layer = service(&lab, "api", "well", api, more)
        + &service(&lab, "web", "well", port(), "ready = { tcp = true }");
    let stack = Stack::new(&lab, &layer);
    let file = stack.repo.read("deployment/local.toml");
    stack.repo.write(
        "deployment/local.toml",
        file.replace("enabled = false", &format!("port = {status}")),
    );
    stack.repo.xtask(&["start"]).success();
    assert_eq!(get(status, "/health").0, 200);
    for _ in 0..3 {
        wait_for("it to be up", || stack.state("api") == "ready");
        let restarts = stack.row("api")["restarts"].clone();
        cue(&lab, "api", "crash", true);
        wait_for("its end", || {
            stack.row("api")["restarts"] != restarts || stack.state("api") == "failed"
        });
    }
    assert_eq!(stack.state("api"), "failed");
    let error = stack.row("api")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("code 3") && error.contains("2 restarts"), "{error}");
    let (code, body) = get(status, "/health");
    assert!(code == 503 && body.contains("api is failed"), "{code} {body}");
    stack.repo.xtask(&["status"]).success().says("api failed");
    // A start brings it back.
    stack.repo.xtask(&["start"]).success();
    assert_eq!(get(status, "/health").0, 200);
}

#[test]
fn services_survive_a_killed_supervisor_and_are_reattached() {
    let lab = Lab::new();
    let more =
        "ready = { tcp = true }\nrestart = { backoff = '1ms..5ms' }\nstop = { timeout = '60ms' }";
    let layer = service(&lab, "api", "well", port(), more)
        + &service(&lab, "deaf", "deaf+children", port(), more);
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    let pids = (stack.pid("api"), stack.pid("deaf"));
    kill(stack.supervisor());
    wait_for("a page without a supervisor", || stack.ps()["supervisor"].is_null());
    assert_eq!((stack.pid("api"), stack.pid("deaf")), pids);
    assert_eq!(stack.state("api"), "lost");
    stack.repo.xtask(&["ps"]).success().says("takes them over");
    stack.repo.xtask(&["start"]).success().says("taken over");
    assert_eq!((stack.pid("api"), stack.pid("deaf")), pids, "they were adopted");
    assert_eq!(stack.state("api"), "ready");
    kill(pids.0);
    wait_for("it to come back", || stack.state("api") == "ready" && stack.pid("api") != pids.0);
    kill(stack.supervisor());
    stack.repo.xtask(&["stop"]).success().says("stopped: api, deaf");
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn two_worktrees_run_services_on_distinct_stable_ports() {
    let lab = Lab::new();
    let first = port();
    let layer = service(&lab, "api", "well", first, "ready = { http = '/' }");
    let stack = Stack::new(&lab, &layer);
    stack.repo.git(&["worktree", "add", "-q", "../other", "-b", "other"]);
    let other = Stack { repo: stack.repo.at("../other") };
    stack.repo.xtask(&["start"]).success();
    other.repo.xtask(&["start"]).success();
    let moved = other.row("api")["port"].as_u64().unwrap();
    assert!(moved != u64::from(first) && (moved - u64::from(first)).is_multiple_of(100), "{moved}");
    assert_eq!(stack.row("api")["port"], first);
    other.repo.xtask(&["stop"]).success();
    assert_eq!(stack.state("api"), "ready", "the first goes on");
    other.repo.xtask(&["start"]).success();
    assert_eq!(other.row("api")["port"], moved);
    // A port of the other one is told with the command that stops it.
    stack.repo.xtask(&["stop"]).success();
    let file = stack.repo.read("deployment/local.toml");
    let wanted = file.replace(&format!("port = {first}"), &format!("port = {moved}"));
    stack.repo.write("deployment/local.toml", wanted);
    stack.repo.xtask(&["start"]).status(1).says("other").says("stop --layer local api");
    assert_eq!(other.state("api"), "ready");
    other.repo.xtask(&["stop"]).success();
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn removing_a_worktree_stops_its_services() {
    let lab = Lab::new();
    let layer = service(&lab, "api", "well", port(), "ready = { tcp = true }");
    let stack = Stack::new(&lab, &layer);
    stack.repo.git(&["worktree", "add", "-q", "../other", "-b", "other"]);
    let other = stack.repo.at("../other");
    other.xtask(&["start"]).success();
    stack.repo.git(&["worktree", "remove", "--force", "../other"]);
    wait_for("nothing of it", || left(&lab).is_empty());
    assert!(!stack.repo.has(".git/worktrees/other"));
}

#[test]
fn logs_are_merged_by_time_and_followed() {
    let lab = Lab::new();
    let shell = |name: &str, script: &str| {
        format!(
            "[service.{name}]\nshell = true\nrun = '''{script}'''\nready = {{ log = 'ready' }}\n"
        )
    };
    let cue = lab.path("go");
    let layer = shell(
        "a",
        &format!(
            "echo a-ready; until test -e {cue}; do sleep 0.02; done; echo a-second; exec sleep 600"
        ),
    ) + &shell("b", "sleep 0.3; echo b-ready; exec sleep 600");
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    let mut follower = spawn(
        std::process::Command::new(program())
            .args(["logs", "-f", "-n", "5"])
            .current_dir(&stack.repo.dir)
            .envs(stack.repo.environment())
            .stdout(fs::File::create(lab.path("followed")).unwrap()),
    )
    .unwrap();
    fs::write(&cue, "").unwrap();
    wait_for("what is written now", || {
        fs::read_to_string(lab.path("followed")).unwrap().contains("a | a-second")
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
    wait_for("the whole log", || {
        stack.repo.xtask(&["logs"]).out == "a | a-ready\nb | b-ready\na | a-second\n"
    });
    let last = stack.repo.xtask(&["logs", "-n", "1"]).success();
    assert_eq!(last.out, "a | a-second\n");
    assert_eq!(stack.repo.xtask(&["logs", "b"]).out, "b-ready\n");
    let timed = stack.repo.xtask(&["logs", "b", "-t"]).success().out;
    assert!(timed.starts_with("20") && timed.contains("Z b-ready"), "{timed}");
    stack.repo.xtask(&["logs", "--since", "1h"]).success().says("a-ready");
    stack.repo.xtask(&["logs", "c"]).status(2).says("logs: a, b");
    // They stay when it is stopped, until they are cleared.
    stack.repo.xtask(&["stop"]).success();
    stack.repo.xtask(&["logs"]).success().says("a-second");
    fs::remove_file(&cue).unwrap();
    stack.repo.xtask(&["start", "--clean"]).success();
    stack.repo.xtask(&["logs"]).success().says("a-ready").never_says("a-second");
}

#[test]
fn fallback_rule_starts_a_service_without_a_failed_dependency() {
    let lab = Lab::new();
    let layer = service(&lab, "memory", "ends", port(), "ready = { tcp = true }")
        + &service(&lab, "api", "well", port(), "ready = { tcp = true }\nneeds = ['memory']");
    let rule = "[service.api.fallback]\nwhen = ['memory']\nenv = { USE_SQLITE = 'true' }\n";
    let stack = Stack::new(&lab, &layer);
    stack
        .repo
        .xtask(&["start"])
        .status(1)
        .says("there is no tomorrow")
        .says("dependency `memory` is not ready")
        .says("stopped again");
    assert_eq!(left(&lab), Vec::<String>::new());
    stack.repo.write("deployment/local.toml", format!("[status]\nenabled = false\n{layer}{rule}"));
    stack.repo.xtask(&["start"]).success().says("degraded");
    assert_eq!(stack.row("api")["degraded"], true);
    let environ = fs::read(format!("/proc/{}/environ", stack.pid("api"))).unwrap();
    assert!(String::from_utf8_lossy(&environ).contains("USE_SQLITE=true"));
    stack.repo.xtask(&["start", "--fallback", "api"]).status(2).says("no service");
}

#[test]
fn restart_applies_the_current_configuration() {
    let lab = Lab::new();
    let layer = service(&lab, "api", "well", port(), "ready = { tcp = true }")
        + &service(&lab, "web", "well", port(), "ready = { tcp = true }\nneeds = ['api']");
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["restart"]).status(1).says("no service of layer `local` is running");
    stack.repo.xtask(&["start"]).success();
    let (api, web) = (stack.pid("api"), stack.pid("web"));
    let file = stack.repo.read("deployment/local.toml");
    stack.repo.write("deployment/local.toml", file.replacen("PLAYS = ", "NEW = '1', PLAYS = ", 1));
    stack.repo.xtask(&["start"]).success().says("`cargo xtask restart api`");
    stack.repo.xtask(&["restart", "api"]).success();
    assert_ne!(stack.pid("api"), api);
    assert_eq!(stack.pid("web"), web, "who needs it goes on");
    let environ = fs::read(format!("/proc/{}/environ", stack.pid("api"))).unwrap();
    assert!(String::from_utf8_lossy(&environ).contains("NEW=1"));
    stack.repo.xtask(&["restart"]).success();
    assert_ne!(stack.pid("web"), web);
}

#[test]
fn read_only_service_commands_write_nothing() {
    let lab = Lab::new();
    let layer = service(&lab, "api", "well", port(), "ready = { tcp = true }");
    let stack = Stack::new(&lab, &layer);
    let looks: [&[&str]; 7] = [
        &["ps"],
        &["ps", "--json"],
        &["status"],
        &["start", "--dry-run"],
        &["start", "--check-ports"],
        &["logs"],
        &["stop"],
    ];
    let before = trace(stack.repo.dir.as_std_path());
    for look in looks {
        stack.repo.xtask(look).success();
        assert_eq!(trace(stack.repo.dir.as_std_path()), before, "{look:?} with nothing running");
    }
    stack.repo.xtask(&["start"]).success();
    kill(stack.supervisor());
    wait_for("nobody who writes", || stack.ps()["supervisor"].is_null());
    let before = trace(stack.repo.dir.as_std_path());
    for look in &looks[..6] {
        stack.repo.xtask(look).success();
        assert_eq!(trace(stack.repo.dir.as_std_path()), before, "{look:?} without a supervisor");
    }
}

#[test]
fn start_dry_run_shows_every_value_with_its_origin() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, "[service.api]\nrun = 'sleep 600'\nenv = { A = '1' }\n");
    stack.repo.write(
        "deployment/staging.toml",
        "extends = 'local'\n[service.api]\nenv = { B = '2' }\n[service.redis]\nrun = 'redis-server'\n",
    );
    let told = stack.repo.xtask(&["start", "--dry-run", "--layer", "staging"]).success();
    told.says("would start: api, redis")
        .says("deployment/local.toml:4")
        .says("deployment/staging.toml:3")
        .says("deployment/staging.toml:5");
}

#[test]
fn start_verify_probes_running_services_and_starts_none() {
    let lab = Lab::new();
    let more = "ready = { http = '/', expect = { json = { status = 'healthy' } } }";
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), more));
    stack.repo.xtask(&["start", "--verify"]).status(1).says("not running");
    assert_eq!(left(&lab), Vec::<String>::new());
    stack.repo.xtask(&["start"]).success();
    stack.repo.xtask(&["start", "--verify"]).says("api  healthy");
    cue(&lab, "api", "sick", true);
    stack.repo.xtask(&["start", "--verify"]).status(1).says("`status` is \"unhealthy\"");
}

#[test]
fn ctrl_c_in_foreground_mode_stops_all_services() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, &service(&lab, "api", "well", port(), "ready = { tcp = true }"));
    let mut command = start(&stack.repo, &["start", "--foreground"]);
    wait_for("it to be up", || stack.state("api") == "ready");
    let pid = rustix::process::Pid::from_child(&command);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(command.wait().unwrap().success());
    assert_eq!(left(&lab), Vec::<String>::new());
}

/// Where they are installed: real servers, by configuration alone.
#[test]
fn installed_real_servers_run_from_configuration_only() {
    let finds = |program: &str| {
        let path = std::env::vars_os().find(|(name, _)| name == "PATH").unwrap().1;
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let lab = Lab::new();
    let (redis, python) = (port(), port());
    let mut layer = String::new();
    if finds("redis-server") {
        layer += &format!(
            "[service.redis]\nrun = 'redis-server --port {{port}} --bind 127.0.0.1 --save \"\" --appendonly no'\n\
             port = {redis}\nready = {{ tcp = true, log = 'Ready to accept connections' }}\n"
        );
    }
    if finds("python3") {
        layer += &format!(
            "[service.web]\nrun = 'python3 -u -m http.server {{port}} --bind 127.0.0.1'\n\
             port = {python}\nready = {{ http = '/' }}\n"
        );
    }
    if layer.is_empty() {
        eprintln!("neither redis-server nor python3 is installed");
        return;
    }
    let stack = Stack::new(&lab, &layer);
    stack.repo.xtask(&["start"]).success();
    kill(stack.supervisor());
    // redis writes its title over its environment, and is known again all the same.
    stack.repo.xtask(&["start"]).success().says("taken over");
    for row in stack.ps()["services"].as_array().unwrap() {
        assert_eq!(row["state"], "ready", "{row}");
        assert_eq!(row["restarts"], 0, "{row}");
    }
    stack.repo.xtask(&["stop"]).success();
    for port in [redis, python] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
