//! `validate --watch`: what runs when files change, and that nothing is left when it ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use xtask_config::VALIDATE_FILE;

use crate::testkit::{Lab, Place, program, spawn};

/// The longest wait for a line that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `validate --watch`.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    /// Starts it, and waits for the end of its first run.
    fn start(repo: &Place<'_>, args: &[&str]) -> Watching {
        let mut command = Command::new(program());
        command.args(["validate", "--watch"]).args(args).current_dir(&repo.dir);
        for (name, value) in repo.environment() {
            command.env(name, value);
        }
        let mut child =
            spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
                .unwrap();
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let other = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| drop(sender.send(line)))
        });
        std::thread::spawn(move || {
            BufReader::new(err)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| drop(other.send(line)))
        });
        let mut watching = Watching { child, lines };
        watching.until(|line| line.contains("healthy") || line.starts_with("error"));
        watching
    }

    /// Returns the lines up to the first one that is meant.
    fn until(&mut self, is_meant: impl Fn(&str) -> bool) -> String {
        let mut all = String::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("after {all}"));
            all.push_str(&line);
            all.push('\n');
            if is_meant(&line) {
                return all;
            }
        }
    }

    /// Returns what a run prints.
    fn next_run(&mut self) -> String {
        self.until(|line| line.contains("healthy"))
    }

    /// Presses Ctrl-C, and returns the exit code and what was still said.
    fn end(mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, self.lines.iter().collect::<Vec<_>>().join("\n"))
    }
}

#[test]
fn what_a_change_affects_runs_and_the_rest_stays() {
    let checks = "[[check]]\nname = 'text'\nrun = 'cat {files}'\nfiles = ['*.txt']\n\
        [[check]]\nname = 'good'\nrun = 'sh -c \"! grep -rq bad src\"'\ninputs = ['src/**']\n\
        [[check]]\nname = 'git'\ntool = 'git'\n";
    let lab = Lab::new();
    let repo = lab.repo_with(
        "repo",
        &[
            (VALIDATE_FILE, checks),
            ("a.txt", "a\n"),
            ("src/a.rs", "a\n"),
            (".gitignore", "target/\n"),
        ],
    );
    repo.write("target/out.txt", "x");
    let mut watching = Watching::start(&repo, &[]);
    repo.write("src/a.rs", "bad\n");
    let run = watching.next_run();
    assert!(run.contains("changed: `src/a.rs`") && run.contains("FAILED    good"), "{run}");
    assert!(!run.contains("  text") && !run.contains("  git"), "{run}");
    assert!(run.contains("not healthy: 1 of 3 checks failed: `good`"), "{run}");
    // What failed stays failed while something else changes.
    repo.write("target/out.txt", "ignored");
    repo.write("a.txt", "b\n");
    let run = watching.next_run();
    assert!(run.contains("changed: `a.txt`") && run.contains("passed    text"), "{run}");
    assert!(run.contains("not healthy: 1 of 3 checks failed: `good`"), "{run}");
    // A file in a new folder, and one that is moved away with its folder.
    repo.write("src/new/deep/b.rs", "fine\n");
    repo.write("src/a.rs", "good\n");
    let run = watching.until(|line| line.starts_with("healthy"));
    assert!(run.contains("`src/"), "{run}");
    repo.write("src/new/deep/b.rs", "bad\n");
    let run = watching.next_run();
    assert!(
        run.contains("changed: `src/new/deep/b.rs`") && run.contains("FAILED    good"),
        "{run}"
    );
    std::fs::rename(repo.dir.join("src/new"), repo.dir.join("elsewhere")).unwrap();
    watching.until(|line| line.starts_with("healthy"));
    // A configuration with a fault is said, and the next good one counts.
    repo.write(VALIDATE_FILE, "[[check]]\n");
    watching.until(|line| line.contains("fault"));
    repo.write(VALIDATE_FILE, "[[check]]\nname = 'one'\nrun = 'true'\n");
    let run = watching.next_run();
    assert!(run.contains("healthy: 1 check"), "{run}");
    let (code, rest) = watching.end();
    assert_eq!(code, Some(130));
    assert!(rest.contains("stopped watching"), "{rest}");
}

#[test]
fn a_check_that_writes_its_own_inputs_does_not_run_for_ever() {
    let checks = "[[check]]\nname = 'stamp'\nrun = 'date +%N > stamp.txt; echo run >> ../runs'\nshell = true\ninputs = ['*.txt']\n";
    let lab = Lab::new();
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, checks), ("a.txt", "a\n")]);
    let mut watching = Watching::start(&repo, &[]);
    watching.until(|line| line.contains("the checks write `stamp.txt` each time they run"));
    let (code, _) = watching.end();
    assert_eq!(code, Some(130));
    let runs = std::fs::read_to_string(lab.path("runs")).unwrap().lines().count();
    assert!((3..=5).contains(&runs), "{runs}");
}

#[test]
fn ctrl_c_ends_a_running_check_too() {
    let checks = "[[check]]\nname = 'slow'\nrun = 'sh -c \"echo begun > ../begun; exec sleep 1000\"'\ninputs = ['b.txt']\n\
        [[check]]\nname = 'quick'\nrun = 'true'\n";
    let lab = Lab::new();
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, checks), ("a.txt", "a\n")]);
    let mut command = Command::new(program());
    command
        .args(["validate", "--watch"])
        .current_dir(&repo.dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    for (name, value) in repo.environment() {
        command.env(name, value);
    }
    let mut child = spawn(&mut command).unwrap();
    while !lab.path("begun").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    repo.xtask(&["validate", "--watch", "--json"]).status(2).says("cannot be used with");
}
