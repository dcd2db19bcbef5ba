//! Whom a stop asks, in which order, and that it tells what it had to do.

use crate::services_nasty::Stack;
use crate::testkit::Lab;
use crate::wrong_hits::wait_for;

/// A stack of one service, a script, which has begun.
fn begun<'a>(lab: &'a Lab, script: &str, stop: &str) -> Stack<'a> {
    let stack = Stack::new(lab, &format!("[service.a]\nrun = 'sh main.sh'\nstop = {{ {stop} }}\n"));
    stack.repo.write("main.sh", script);
    stack.repo.xtask(&["start"]).success();
    wait_for("its beginning", || stack.repo.has("begun"));
    stack
}

/// A child that notes that it was asked, and what comes after its work.
const CHILD: &str = "trap 'echo child >> told' TERM INT; touch begun
n=0; while [ $n -lt 30 ]; do sleep 0.01; n=$((n + 1)); done; touch done";

#[test]
fn stop_signals_the_main_process_and_waits_for_its_children() {
    let lab = Lab::new();
    let main =
        "sh child.sh & trap 'echo main >> told; wait; exit 0' TERM; while :; do sleep 0.01; done";
    let stack = Stack::new(&lab, "[service.a]\nrun = 'sh main.sh'\n");
    stack.repo.write("child.sh", CHILD);
    stack.repo.write("main.sh", main);
    stack.repo.xtask(&["start"]).success();
    wait_for("its beginning", || stack.repo.has("begun"));
    stack.repo.xtask(&["stop"]).success();
    assert_eq!((stack.repo.read("told").as_str(), stack.repo.has("done")), ("main\n", true));
}

#[test]
fn stop_signals_the_whole_group_if_configured() {
    let lab = Lab::new();
    let script = "sh child.sh & trap 'echo main >> told' INT; wait; wait; wait";
    let stack = Stack::new(
        &lab,
        "[service.a]\nrun = 'sh main.sh'\nstop = { signal = 'INT', to = 'all' }\n",
    );
    // A shell has those that it starts behind it ignore INT; a trap of their own is kept by none.
    stack.repo.write("child.sh", CHILD.replace("TERM INT", "TERM"));
    stack.repo.write("main.sh", script);
    stack.repo.xtask(&["start"]).success();
    wait_for("its beginning", || stack.repo.has("begun"));
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(stack.repo.read("told"), "main\n", "INT reaches nobody twice");
}

#[test]
fn stop_signals_children_that_outlive_the_main_process() {
    let lab = Lab::new();
    // It ends at once, as `npm run` does, and tells nobody.
    let stack = begun(
        &lab,
        "sh -c \"trap 'echo child >> told; exit' TERM; touch begun; while :; do sleep 0.01; done\" &\n\
         while :; do sleep 0.01; done",
        "timeout = '60s'",
    );
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(stack.repo.read("told"), "child\n");
}

#[test]
fn stop_signals_children_after_half_the_timeout() {
    let lab = Lab::new();
    let stack = begun(
        &lab,
        "trap 'echo main >> told; wait; exit 0' TERM\n\
         sh -c \"trap 'echo child >> told; exit' TERM; touch begun; while :; do sleep 0.01; done\" &\n\
         while :; do sleep 0.01; done",
        "timeout = '800ms'",
    );
    let ran = stack.repo.xtask(&["stop"]).success();
    assert_eq!(stack.repo.read("told"), "main\nchild\n");
    assert!(!ran.err.contains("killed"), "{}", ran.err);
}

#[test]
fn forced_kill_is_reported_by_stop_ps_and_logs() {
    let lab = Lab::new();
    let script = "trap '' TERM; touch begun; while :; do sleep 0.01; done";
    let stack =
        begun(&lab, script, "timeout = '100ms' }\n[service.b]\nrun = 'sleep 600'\nlimits = {");
    let ran = stack.repo.xtask(&["stop", "a"]).success();
    assert!(
        ran.err.contains("a: killed (SIGKILL) because it did not stop within 100ms: pid "),
        "{}",
        ran.err
    );
    assert!(stack.row("a")["killed"].as_str().unwrap().starts_with("killed (SIGKILL)"));
    assert!(stack.repo.xtask(&["ps"]).success().out.contains("killed (SIGKILL)"));
    assert!(stack.repo.xtask(&["logs", "a"]).success().out.contains("xtask: killed pid "));
    stack.repo.remove("begun");
    stack.repo.xtask(&["start"]).success();
    wait_for("its beginning", || stack.repo.has("begun"));
    assert!(stack.row("a")["killed"].is_null(), "it is another run");
    let json = stack.repo.xtask(&["stop", "--json"]).success().json();
    assert!(json["layers"][0]["killed"][0].as_str().unwrap().contains("SIGKILL"), "{json}");
}
