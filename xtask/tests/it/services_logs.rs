//! Logs: no service empties one, no death loses a line, and what is shown is the run that somebody began.

use std::process::Command;

use crate::services_nasty::{Stack, kill, left};
use crate::testkit::{Lab, write_script};
use crate::wrong_hits::wait_for;

/// Prints numbers without end, each as a line of its own.
const COUNTER: &str =
    "#!/bin/sh\ni=0\nwhile :; do i=$((i+1)); echo \"line $i\"; sleep 0.001; done\n";

/// The processes that copy what services of this scene print.
fn writers(lab: &Lab) -> Vec<u32> {
    let said = Command::new("pgrep").args(["-f", &format!("write-logs {}", lab.path(""))]).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    said.lines().map(|line| line.parse().unwrap()).collect()
}

fn lines(stack: &Stack, name: &str) -> Vec<String> {
    let said = stack.repo.xtask(&["logs", name, "--all", "-n", "1000000"]).success().out;
    said.lines().map(str::to_owned).collect()
}

#[test]
fn service_that_reopens_its_output_does_not_truncate_logs() {
    let lab = Lab::new();
    let layer = "[service.app]\nrun = './entry.sh'\nready = { log = 'ready to serve' }\n";
    let stack = Stack::new(&lab, layer);
    let script = "#!/bin/sh\necho first\necho second > /dev/stderr\necho third | tee /dev/stderr\n\
                  echo fourth > /proc/self/fd/1\necho ready to serve > /dev/stdout\nexec sleep 600\n";
    write_script(&stack.repo.dir.join("entry.sh"), script);
    stack.repo.xtask(&["start"]).success();
    let mut seen = lines(&stack, "app");
    seen.sort();
    assert_eq!(seen, ["first", "fourth", "ready to serve", "second", "third", "third"]);
}

#[test]
fn killed_supervisor_or_log_writer_loses_no_lines() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, "[service.app]\nrun = './count.sh'\n");
    write_script(&stack.repo.dir.join("count.sh"), COUNTER);
    stack.repo.xtask(&["start"]).success();
    let pid = stack.pid("app");
    let count = || lines(&stack, "app").len();
    let grows = |what: &str| {
        let before = count();
        wait_for(what, || count() > before + 20);
    };
    grows("lines");
    let [writer] = writers(&lab)[..] else { panic!("one writer") };
    kill(writer);
    wait_for("another writer", || writers(&lab).first().is_some_and(|now| *now != writer));
    grows("lines by another writer");
    // Without a supervisor it goes on; the next one finds the writer there.
    let writer = writers(&lab);
    kill(stack.supervisor());
    wait_for("its end", || stack.ps()["supervisor"].is_null());
    grows("lines without a supervisor");
    stack.repo.xtask(&["start"]).success();
    grows("lines with another supervisor");
    assert_eq!(writers(&lab), writer);
    // Without either it waits, and goes on with the next.
    kill(stack.supervisor());
    kill(writer[0]);
    stack.repo.xtask(&["start"]).success();
    grows("lines after both");
    assert_eq!(stack.pid("app"), pid);
    stack.repo.xtask(&["stop"]).success();
    let seen = lines(&stack, "app");
    let wanted: Vec<String> = (1..=seen.len()).map(|number| format!("line {number}")).collect();
    // A writer that is killed between taking and writing loses what it holds in its hands, and no more.
    let missing = wanted.iter().filter(|line| !seen.contains(line)).count();
    assert!(missing <= 40, "{missing} of {}", seen.len());
    let last: u32 = seen.last().unwrap().strip_prefix("line ").unwrap().parse().unwrap();
    let numbers: Vec<u32> =
        seen.iter().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.windows(2).all(|two| two[0] < two[1]) && last as usize <= seen.len() + 40);
    wait_for("the end of the writer", || writers(&lab).is_empty());
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn service_that_awaits_its_output_pipe_keeps_running() {
    let lab = Lab::new();
    let layer = "[service.app]\nrun = 'python3 -u app.py'\nready = { log = 'line 99' }\nrestart = { max = 0 }\n";
    let stack = Stack::new(&lab, layer);
    stack.repo.write(
        "app.py",
        "import asyncio, sys\nasync def main():\n    loop = asyncio.get_running_loop()\n    \
         t, p = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)\n    \
         w = asyncio.StreamWriter(t, p, None, loop)\n    \
         for i in range(100):\n        w.write(f'line {i}\\n'.encode())\n        await w.drain()\n        \
         await asyncio.sleep(0.001)\n    await asyncio.sleep(600)\nasyncio.run(main())\n",
    );
    if stack.repo.run("python3", &["--version"], &[]).code != Some(0) {
        return crate::testkit::circle::not_tried("python3 is not installed");
    }
    stack.repo.xtask(&["start"]).success();
    assert_eq!(lines(&stack, "app").len(), 100);
}

#[test]
fn service_without_supervisor_and_log_writer_still_stops_gracefully() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, "[service.app]\nrun = './app.sh'\nstop = { timeout = '20s' }\n");
    let script = "#!/bin/sh\ntrap 'echo shutting down; touch saved; exit 0' TERM\n\
                  while :; do head -c 1000 /dev/zero | tr '\\0' x; echo; sleep 0.005; done\n";
    write_script(&stack.repo.dir.join("app.sh"), script);
    stack.repo.xtask(&["start"]).success();
    wait_for("lines", || lines(&stack, "app").len() > 10);
    let writer = writers(&lab)[0];
    kill(stack.supervisor());
    kill(writer);
    // More than a pipe holds: it waits for somebody who reads.
    let pid = stack.pid("app");
    wait_for("it to wait", || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let child = children.unwrap_or_default().trim().to_owned();
        let of_child = std::fs::read_to_string(format!("/proc/{child}/wchan")).unwrap_or_default();
        state.contains("pipe") || of_child.contains("pipe") || state == "0"
    });
    stack.repo.xtask(&["stop"]).success().never_says("killed");
    assert!(stack.repo.has("saved"));
    // What is in the pipe at the end is in the log once its writer has ended.
    wait_for("the end of the writer", || writers(&lab).is_empty());
    assert!(lines(&stack, "app").last().unwrap().ends_with("shutting down"));
}

#[test]
fn log_writer_without_instructions_exits() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, "[service.app]\nrun = 'sleep 600'\n");
    stack.repo.xtask(&["start"]).success();
    stack.repo.xtask(&["stop"]).success();
    let logs = stack.repo.dir.join(".git/xtask/services/local/logs");
    let mut alone = std::process::Command::new(crate::testkit::program());
    alone.args(["write-logs", logs.as_str()]);
    let mut alone = crate::testkit::spawn(&mut alone).unwrap();
    assert!(alone.wait().unwrap().success());
}

#[test]
fn logs_show_the_latest_start_and_mark_automatic_restarts() {
    let lab = Lab::new();
    let layer = "[service.app]\nrun = \"sh -c 'echo $WORD from $$; exec sleep 600'\"\nenv = { WORD = 'first' }\n\
                 restart = { backoff = '1ms..2ms' }\n";
    let stack = Stack::new(&lab, layer);
    let repo = &stack.repo;
    repo.xtask(&["start"]).success();
    wait_for("a line", || lines(&stack, "app").len() == 1);
    let text = repo.read("deployment/local.toml");
    repo.write("deployment/local.toml", text.replace("'first'", "'second'"));
    repo.xtask(&["restart"]).success();
    wait_for("its line", || repo.xtask(&["logs"]).out.starts_with("second from "));
    repo.xtask(&["logs"]).success().never_says("first").never_says("---");
    // One that is started again by itself belongs to the same run, and shows where it begins.
    kill(stack.pid("app"));
    wait_for("a restart", || repo.xtask(&["logs"]).out.matches("second from ").count() == 2);
    let shown = repo.xtask(&["logs", "app"]).success().out;
    let shown: Vec<&str> = shown.lines().collect();
    assert!(shown.len() == 3 && shown[1].starts_with("--- started again at 20"), "{shown:?}");
    let all = repo.xtask(&["logs", "--all"]).success().out;
    assert!(all.starts_with("first from ") && all.contains("\n--- started at 20"), "{all}");
    repo.xtask(&["logs", "--since", "1h"]).success().says("first from");
    // What has run last is shown when nothing runs any more.
    repo.xtask(&["stop"]).success();
    repo.xtask(&["logs"]).success().says("second from").never_says("first");
}

#[test]
fn service_writes_its_own_log_without_a_log_writer() {
    let lab = Lab::new();
    let stack = Stack::new(&lab, "[service.app]\nrun = 'sh -c \"echo here; exec sleep 600\"'\n");
    // Something else has the name by which the writer is told.
    let logs = stack.repo.dir.join(".git/xtask/services/local/logs");
    std::fs::create_dir_all(logs.join(".names/occupied")).unwrap();
    stack.repo.xtask(&["start"]).success();
    wait_for("its line", || lines(&stack, "app") == ["here"]);
    assert!(writers(&lab).is_empty());
    stack.repo.xtask(&["stop"]).success();
    assert_eq!(left(&lab), Vec::<String>::new());
}

#[test]
fn overlong_log_lines_are_split() {
    let lab = Lab::new();
    let script = "head -c 5000000 /dev/zero | tr \"\\\\0\" x; echo; echo end; exec sleep 600";
    let stack = Stack::new(
        &lab,
        &format!("[service.app]\nshell = true\nrun = '{script}'\nready = {{ log = 'end' }}\n"),
    );
    stack.repo.xtask(&["start"]).success();
    let last = stack.repo.xtask(&["logs", "-n", "3"]).success().out;
    let lengths: Vec<usize> = last.lines().map(str::len).collect();
    assert!(
        lengths.len() == 3 && lengths[..2].iter().all(|length| *length <= (16 << 10) + 1),
        "{lengths:?}"
    );
    assert!(last.ends_with("x\nend\n"));
    let all = stack.repo.xtask(&["logs", "-n", "1000"]).success().out;
    assert_eq!(all.matches('x').count(), 5_000_000);
}
