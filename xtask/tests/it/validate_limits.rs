//! `validate` where commands, files and other runs misbehave.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use xtask_base::error::{Error, Result};
use xtask_base::lock::Lock;
use xtask_base::process::is_running;
use xtask_config::{Check, Fix, VALIDATE_FILE};
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_validate::builtin_checks::{CheckFinding, RepoChecks};
use xtask_validate::file_scope::FileScope;
use xtask_validate::history::RunTrigger;
use xtask_validate::load_checks::LoadedChecks;
use xtask_validate::outcome::{CheckResult, Verdict};
use xtask_validate::plan::{CheckFilter, RunEnvironment, select_checks};
use xtask_validate::runner::{FixMode, RunListener, RunOptions};
use xtask_validate::session::{CheckLocation as Where, ValidationRequest, run_validation};

use crate::crash::{Fault, run_with, watched};
use crate::testkit::{Lab, circle, program, spawn};
use crate::validate::outcomes;
use crate::wrong_hits::{scene, start, wait_for};

fn check(name: &str, more: &str) -> String {
    format!("[[check]]\nname = '{name}'\n{more}\n")
}

#[track_caller]
fn is_gone(pid: &str) -> bool {
    let pid: u32 = pid.trim().parse().unwrap();
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.contains(") Z ") || !is_running(pid)
}

#[test]
fn missing_killed_and_timed_out_commands_fail_with_the_reason() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &[
            check("absent", "run = 'no-such-program -x'"),
            check("no-file", "run = './no-such-script'"),
            check("no-folder", "run = 'true'\ncwd = 'none'"),
            check("not-executable", "run = './src/input'"),
            check("signal", "run = 'kill -9 $$'\nshell = true"),
            check("slow", "run = 'sleep 600'\ntimeout = '1s'"),
        ]
        .concat(),
    );
    let ran = repo.xtask(&["validate", "--json"]).status(1);
    assert_eq!(
        outcomes(&ran),
        "absent=failed no-file=failed no-folder=failed not-executable=failed signal=failed slow=failed"
    );
    let reasons: Vec<String> = ran.json()["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["reason"].as_str().unwrap().to_owned())
        .collect();
    for (reason, words) in reasons.iter().zip([
        "`no-such-program` is not on PATH (`",
        "`./no-such-script` not found",
        "/none` not found",
        "src/input`: Permission denied",
        "killed by signal 9",
        "timed out after 1 s (`timeout`)",
    ]) {
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn misbehaving_commands_are_killed_and_their_output_bounded() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &[
            check("deaf", "run = \"trap '' TERM; sleep 600 & echo $!; while :; do sleep 1; done\"\nshell = true\ntimeout = '1s'"),
            check("parent", "run = 'sleep 600 & echo $!'\nshell = true"),
            check("flood", "run = 'head -c 50000000 /dev/zero'\nshell = true"),
            check("reader", "run = 'cat'"),
            check("stopped", "run = 'kill -STOP $$'\nshell = true\ntimeout = '1s'"),
        ]
        .concat(),
    );
    let ran = repo.xtask(&["validate", "--json", "--jobs", "5"]).status(1);
    assert_eq!(
        outcomes(&ran),
        "deaf=failed parent=passed flood=passed reader=passed stopped=failed"
    );
    let json = ran.json();
    let output = |at: usize| json["checks"][at]["output"].as_str().unwrap().to_owned();
    for at in [0, 1] {
        wait_for("the end of a grandchild", || is_gone(&output(at)));
    }
    let note = json["checks"][1]["notes"][0].as_str().unwrap().to_owned();
    assert_eq!(note, "it left processes running, which were killed");
    assert!(output(2).len() < 1_000_000 && output(2).contains("bytes left out"));
}

#[test]
fn check_that_changes_its_own_inputs_is_not_cached() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &check(
            "c",
            "run = 'echo more >> src/input'\nshell = true\ninputs = ['src/**']\ntools = ['true']",
        ),
    );
    for _ in 0..2 {
        let ran = repo.xtask(&["validate", "--fast"]).success();
        ran.says("`src/input` changed while it ran: its pass is not cached");
    }
}

#[test]
fn pipes_and_symlink_loops_as_inputs_do_not_block() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &[
            check("odd", "run = 'true'\ninputs = ['odd/**', 'absent', 'odd/loop']"),
            check("link", "run = 'true'\ninputs = ['round/x']"),
            check("idle", "run = 'true'\ninputs = ['odd/file', 'none/*.x']"),
        ]
        .concat(),
    );
    repo.write("odd/file", "x");
    repo.link("loop", "odd/loop");
    repo.link("../odd", "odd/self");
    repo.link("nowhere", "odd/dangling");
    repo.link("round", "round");
    assert_eq!(repo.run("mkfifo", &[repo.dir.join("odd/pipe").as_str()], &[]).code, Some(0));
    fs::write(repo.dir.join("odd/\u{301}name with space\n"), "x").unwrap();
    let ran = repo.xtask(&["validate", "--fast", "--why", "--json"]).success();
    assert_eq!(outcomes(&ran), "odd=passed link=passed idle=passed");
    let json = ran.json();
    let notes = json["checks"][2]["notes"].to_string();
    assert!(notes.contains("`none/*.x`, which matches no file"), "{notes}");
    let ran = repo.xtask(&["validate", "--fast", "--why", "--json"]).success();
    assert_eq!(outcomes(&ran).split(' ').next().unwrap(), "odd=cached");
    // What cannot be looked at is never taken for unchanged.
    let why = ran.json()["checks"][1]["why"].to_string();
    assert!(why.contains("round/x") && why.contains("cannot read"), "{why}");
    // A glob that matches nothing may have been meant otherwise.
    let why = ran.json()["checks"][2]["why"].to_string();
    assert!(why.contains("matches no file, so it always runs"), "{why}");
    assert!(outcomes(&ran).ends_with("link=passed idle=passed"));
    repo.write("absent", "now");
    let ran = repo.xtask(&["validate", "--fast", "--why"]).success();
    ran.says("`absent` exists now");
}

#[test]
fn input_globs_follow_git_ignore_rules() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &[
            check("all", "run = 'true'\ninputs = ['**/*.py', '!**/skip/**']"),
            check("inside", "run = 'true'\ninputs = ['out/**/*.py', 'out/named']"),
        ]
        .concat(),
    );
    repo.write(".gitignore", "/out/\n*.gen.py\n");
    repo.write("a/b/c.py", "x");
    repo.write("a/skip/c.py", "x");
    repo.write("a/x.gen.py", "x");
    repo.write("out/deep/d.py", "x");
    repo.write("out/named", "x");
    repo.write("tracked.gen.py", "x");
    repo.git(&["add", "-f", "tracked.gen.py"]);
    let count = |at: usize| {
        let json = repo.xtask(&["validate", "--dry-run", "--json"]).success().json();
        json["checks"][at]["inputs"].as_u64().unwrap()
    };
    assert_eq!(
        count(0),
        2,
        "what is tracked is not ignored; what is ignored and skipped is left out"
    );
    assert_eq!(count(1), 2, "a pattern that begins in what is ignored means it");
    repo.write("a/skip/d.py", "x");
    repo.write("new.py", "x");
    assert_eq!(count(0), 3);
}

/// Ten at once: each finds the others, one at a time, and all come to their end.
#[test]
fn ten_concurrent_runs_are_serialised() {
    let lab = Lab::new();
    let log = lab.path("order");
    let repo = scene(
        &lab,
        &format!(
            "lock-wait = '10m'\n{}",
            check(
                "c",
                &format!(
                    "run = 'echo begin >> {log}; sleep 0.05; echo end >> {log}'\nshell = true"
                )
            )
        ),
    );
    let mut runs: Vec<_> = (0..10).map(|_| start(&repo, &["validate", "--no-log"])).collect();
    for run in &mut runs {
        assert!(run.wait().unwrap().success());
    }
    let order = fs::read_to_string(log).unwrap();
    assert_eq!(order, "begin\nend\n".repeat(10));
}

#[test]
fn second_run_times_out_and_names_the_lock_holder() {
    let lab = Lab::new();
    let repo = scene(&lab, &format!("lock-wait = '1s'\n{}", check("c", "run = 'true'")));
    let path = repo.git_folder().join("xtask/validate.lock");
    let who = "pid 4711, since 2026-01-01T00:00:00Z, `validate`";
    let held = Lock::acquire(&path, who, Duration::ZERO, |_| {}).unwrap();
    let ran = repo.xtask(&["validate"]).status(3);
    let ran = ran.says(&format!("another validation is running ({who}), waiting…"));
    ran.says("timed out after 1 s: another validation is running (");
    repo.xtask(&["validate", "--dry-run"]).success();
    drop(held);
    repo.xtask(&["validate"]).success();
}

/// Lesson 28: an empty lock file blocked for 30 seconds, and then failed.
#[test]
fn stale_or_invalid_lock_file_does_not_block() {
    let lab = Lab::new();
    let (begun, go) = (lab.path("begun"), lab.path("go"));
    let repo = scene(
        &lab,
        &[
            "lock-wait = '1s'\n".to_owned(),
            check("quick", "run = 'true'\ntags = ['quick']"),
            check(
                "slow",
                &format!(
                    "run = 'touch {begun}; while test -e {begun} && ! test -e {go}; do sleep 0.05; done'\nshell = true"
                ),
            ),
        ]
        .concat(),
    );
    let lock = repo.git_folder().join("xtask/validate.lock");
    for content in ["", "999999", "rubbish\0\n", "pid 1"] {
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::write(&lock, content).unwrap();
        repo.xtask(&["validate", "--only", "quick"]).success().never_says("waiting");
    }
    let mut holder = start(&repo, &["validate", "--only", "slow"]);
    wait_for("the holder", || begun.exists());
    repo.xtask(&["validate", "--only", "quick"]).status(3);
    holder.kill().unwrap();
    holder.wait().unwrap();
    fs::write(&go, "").unwrap();
    repo.xtask(&["validate", "--only", "quick"]).success().never_says("waiting");
}

#[test]
fn interrupt_kills_commands_and_releases_the_lock() {
    let lab = Lab::new();
    let pid = lab.path("pid");
    let repo = scene(
        &lab,
        &[
            check(
                "slow",
                &format!(
                    "run = 'echo $$ > {pid}.new && mv {pid}.new {pid}; sleep 600'\nshell = true"
                ),
            ),
            check("after", "run = 'true'\nneeds = ['slow']"),
        ]
        .concat(),
    );
    for signal in ["INT", "TERM"] {
        drop(fs::remove_file(&pid));
        let out = lab.path("out.json");
        let run = spawn(
            Command::new(program())
                .args(["validate", "--json"])
                .current_dir(&repo.dir)
                .envs(repo.environment())
                .stdin(Stdio::null())
                .stdout(fs::File::create(&out).unwrap())
                .stderr(Stdio::null()),
        );
        let mut run = run.unwrap();
        wait_for("the command", || pid.exists());
        repo.run("kill", &[&format!("-{signal}"), &run.id().to_string()], &[]);
        assert_eq!(run.wait().unwrap().code(), Some(130), "{signal}");
        wait_for("its end", || is_gone(&fs::read_to_string(&pid).unwrap()));
        let said: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap();
        assert_eq!(said["ok"], false);
        for check in said["checks"].as_array().unwrap() {
            assert_eq!(check["outcome"], "interrupted");
        }
    }
    repo.xtask(&["validate", "--skip", "slow"]).success().never_says("waiting");
}

pub struct Nobody;

/// Says no to everything.
struct Refuser;

impl RunListener for Refuser {
    fn on_check_started(&self, _check: &Check) {}
    fn on_check_ended(&self, _ended: &CheckResult) {}
    fn on_tick(&self) {}
    fn confirm_fix(&self, _check: &Check, _fix: &Fix, _failed: &Verdict) -> bool {
        false
    }
}

impl RunListener for Nobody {
    fn on_check_started(&self, _check: &Check) {}
    fn on_check_ended(&self, _ended: &CheckResult) {}
    fn on_tick(&self) {}
    fn confirm_fix(&self, _check: &Check, _fix: &Fix, _failed: &Verdict) -> bool {
        true
    }
}

impl RepoChecks for Nobody {
    fn check_hooks(&self) -> CheckFinding {
        Ok(String::new())
    }
    fn check_sync(&self) -> CheckFinding {
        Ok(String::new())
    }
    fn check_branches(&self) -> CheckFinding {
        Ok(String::new())
    }
}

/// A whole run; a check that did not pass is an error.
fn validate(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    validate_with(repo, tools, FixMode::All, &Nobody)
}

fn validate_with(
    repo: &Repo,
    tools: &Tools<'_>,
    fixes: FixMode,
    watcher: &dyn RunListener,
) -> Result<()> {
    let text = fs::read_to_string(repo.root().join(VALIDATE_FILE)).unwrap();
    let checks = LoadedChecks::parse(&text)?;
    let here = RunEnvironment { system: "linux", is_ci: false };
    let chosen = select_checks(&checks.config, &CheckFilter::default(), here)?;
    let order = ValidationRequest {
        checks: &checks,
        selection: &chosen,
        options: RunOptions { fast: true, dry_run: false, why: false, fix_mode: fixes, jobs: 2 },
        location: Where::Worktree,
        scope: FileScope::All,
        message: None,
        share: None,
        watched: None,
        shard: None,
        started_by: RunTrigger::Validate,
        keeps_log: true,
        records_history: true,
        waits_for_lock: true,
        command: "validate".to_owned(),
    };
    let done = run_validation(repo, tools, order, &Nobody, watcher, &|_| {})?;
    if done.ok { Ok(()) } else { Err(Error::negative("not healthy")) }
}

/// A fix that is asked about runs if somebody says yes, also a risky one, and not otherwise.
#[test]
fn interactive_fix_runs_only_after_confirmation() {
    for (watcher, is_run) in [(&Refuser as &dyn RunListener, false), (&Nobody, true)] {
        let lab = Lab::new();
        let fix = "fix = { run = '/bin/cp src/input made', risk = 'risky', writes = ['made'] }";
        let repo = scene(&lab, &check("c", &format!("run = '/bin/cat made'\n{fix}")));
        let world = crate::crash::world(&repo);
        let done = crate::crash::with_tools(&repo, &world, |repo, tools| {
            validate_with(repo, tools, FixMode::Ask, watcher)
        });
        assert_eq!((done.is_ok(), repo.has("made")), (is_run, is_run));
    }
}

/// More files than are looked at are cut, and that is said.
#[test]
fn truncated_file_search_is_reported_as_truncated() {
    use xtask_git::{FileGlobs, SearchScope};
    let lab = Lab::new();
    let repo = lab.repo();
    for number in 0..9 {
        repo.write(&format!("many/{number}"), "x");
    }
    let here = Repo::discover(repo.dir.as_std_path()).unwrap();
    let ignores = here.read_ignore_rules().unwrap();
    let found = |most| {
        FileGlobs::new(["many/**"]).find_files(here.root(), &SearchScope::Worktree(&ignores), most)
    };
    assert!(found(5).is_truncated);
    let all = found(100);
    assert_eq!((all.is_truncated, all.files.len()), (false, 9));
}

/// The disk fails at every step in turn, and from every step on: results are those of the checks, what
/// cannot be kept is not, and no pass is remembered that never was.
#[test]
fn failing_disk_changes_no_result_and_loses_no_data() {
    let lab = Lab::new();
    let text = [
        check("good", "run = '/bin/grep -q good src/input'\ninputs = ['src/**']"),
        check("bad", "run = '/bin/grep -q good src/bad'\ninputs = ['src/bad']"),
        check(
            "vain",
            "run = '/bin/false'\nfix = { run = '/bin/cp src/bad src/vain', risk = 'safe', writes = ['src/vain', 'src/none'] }",
        ),
    ]
    .concat();
    let original = scene(&lab, &text);
    original.write("src/input", "good\n");
    original.write("src/bad", "bad\n");
    original.write("src/vain", "precious\n");
    original.commit("what they look at");
    let calm = lab.copy();
    let calm = original.in_copy(&calm);
    let (done, all) = watched(&calm, validate, Fault::Fails, usize::MAX);
    assert_eq!(done.unwrap_err().message(), "not healthy");
    assert_eq!(calm.read("src/vain"), "precious\n");
    assert!(all.len() > 12, "{all:?}");
    for fault in [Fault::Fails, Fault::Crash] {
        for at in circle::steps(&all).into_iter().filter(|at| *at < all.len()) {
            let name = format!("{fault:?}-{at}");
            let copy = lab.copy();
            let repo = original.in_copy(&copy);
            let (done, _) = run_with(&repo, validate, fault, at);
            assert!(done.is_err(), "{name}");
            // A fix that was interrupted is put back by the next undo; nothing of it is lost.
            if repo.read("src/vain") != "precious\n" {
                repo.xtask(&["validate", "--undo", "last"]).success();
            }
            assert_eq!(repo.read("src/vain"), "precious\n", "{name}");
            let ran = repo.xtask(&["validate", "--fast", "--no-fix", "--json"]).status(1);
            let outcomes = outcomes(&ran);
            assert!(outcomes.ends_with("bad=failed vain=failed"), "{name}: {outcomes}");
            let beside = repo.dir.join("src").read_dir().unwrap();
            let names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let left: Vec<String> = names.filter(|name| name.contains(".xtask-")).collect();
            // What stays beside is what the fix had made, or a copy that was not finished.
            for name in left {
                let content = repo.read(&format!("src/{name}"));
                assert!(content == "bad\n" || "precious\n".starts_with(&content), "{content}");
            }
        }
    }
}

/// A program that cannot say its version can do nothing else either, whatever numbers it prints.
#[test]
fn tool_whose_version_command_fails_does_not_pass() {
    let lab = Lab::new();
    let repo = scene(&lab, "[[check]]\nname = 'c'\ntool = 'judge'\nversion = '>=3'\n");
    let bin = lab.place("bin");
    let path = format!("{}:{}", bin.dir, std::env::var("PATH").unwrap());
    for (script, words) in [
        ("echo \"version 3.12.0 is not installed\"; exit 1", "exited with code 1: version 3.12.0"),
        ("kill -11 $$", "was killed by signal 11"),
        ("echo nothing", "no version in the output of `"),
    ] {
        bin.write_executable("judge", &format!("#!/bin/sh\n{script}\n"));
        let ran = repo.xtask_with(&["validate"], &[("PATH", &path)]).status(1);
        ran.says(words);
    }
}

/// A script of the repository is what its content is: asked for its version, it might do its work.
#[test]
fn tracked_scripts_are_not_run_for_their_version() {
    let lab = Lab::new();
    let asked = lab.path("asked");
    let repo = scene(
        &lab,
        &check("c", "run = './work'\ninputs = ['src/**']\ntools = ['helper']\n")
            .replace("helper", "tools/work"),
    );
    for name in ["work", "tools/work"] {
        repo.write_executable(name, &format!("#!/bin/sh\necho \"$0 $1\" >> {asked}\n"));
    }
    repo.commit("scripts");
    repo.xtask(&["validate"]).success();
    assert_eq!(fs::read_to_string(&asked).unwrap().lines().count(), 1, "it ran once, as the check");
}

/// A look starts nothing: a program that knows no `--version` might do its work.
#[test]
fn dry_run_starts_no_programs() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &check("c", "run = 'judge src/input'\ninputs = ['src/input']\ntools = ['judge']"),
    );
    let bin = lab.place("bin");
    let asked = lab.path("asked");
    bin.write_executable("judge", &format!("#!/bin/sh\necho 1.0\necho x >> {asked}\n"));
    let path = format!("{}:{}", bin.dir, std::env::var("PATH").unwrap());
    let with = |args: &[&str]| repo.xtask_with(args, &[("PATH", &path)]).success();
    with(&["validate", "--dry-run", "--fast"]).says("1 check would run");
    assert!(!asked.exists());
    with(&["validate"]);
    let before = fs::read_to_string(&asked).unwrap();
    with(&["validate", "--dry-run", "--fast"]).says("1 skipped as unchanged");
    assert_eq!(fs::read_to_string(&asked).unwrap(), before);
}

#[test]
fn named_pipes_in_place_of_state_files_do_not_block() {
    let lab = Lab::new();
    let repo = scene(&lab, &check("c", "run = 'true'\ninputs = ['src/**']"));
    let json = repo.xtask(&["validate", "--json"]).success().json();
    let key = json["checks"][0]["key"].as_str().unwrap().to_owned();
    for name in
        [format!("validate/results/{key}"), "validate/looks".into(), "validate-history".into()]
    {
        let path = repo.git_folder().join("xtask").join(name);
        fs::remove_file(&path).unwrap();
        assert_eq!(repo.run("mkfifo", &[path.to_str().unwrap()], &[]).code, Some(0));
    }
    repo.xtask(&["validate", "--fast"]).success();
    repo.xtask(&["status"]).success();
    repo.xtask(&["validate", "--history"]).success();
}

/// Every check needs two that need the same two, and so on: the ways double with each layer.
#[test]
fn shared_needs_are_resolved_without_exponential_time() {
    let lab = Lab::new();
    let mut text = String::new();
    for layer in 0..25 {
        for side in ["l", "r"] {
            let below = layer - 1;
            let needs = if layer == 0 { String::new() } else { format!("'l{below}', 'r{below}'") };
            let more = format!("run = 'true'\ninputs = ['src/app']\nneeds = [{needs}]");
            text.push_str(&check(&format!("{side}{layer}"), &more));
        }
    }
    let repo = scene(&lab, &text);
    repo.xtask(&["validate", "--list"]).success();
    repo.xtask(&["validate"]).success().says("healthy: 50 checks");
    repo.xtask(&["validate", "--fast"]).success().says("50 skipped as unchanged");
}

/// A report goes into what was named, and does not take its place.
#[test]
fn reports_are_written_through_symlinks_and_device_files() {
    let lab = Lab::new();
    let repo = scene(&lab, &check("c", "run = 'true'"));
    repo.write("real.xml", "");
    repo.link("real.xml", "link.xml");
    repo.xtask(&["validate", "--junit", "link.xml", "--sarif", "/dev/null"]).success();
    assert!(repo.read("real.xml").contains("<testsuites"));
    assert!(repo.dir.join("link.xml").symlink_metadata().unwrap().is_symlink());
    use std::os::unix::fs::FileTypeExt;
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn checks_have_no_controlling_terminal() {
    let lab = Lab::new();
    let text = check("asks", "run = 'read answer < /dev/tty'\nshell = true\ntimeout = '60s'");
    let repo = scene(&lab, &text);
    let command = format!("{} validate --no-fix", crate::testkit::program());
    // Somebody sits at the terminal that `script` makes, and says nothing.
    let ran = repo.run("script", &["-qec", &command, "/dev/null"], &[]);
    if ran.code == Some(127) {
        return crate::testkit::circle::not_tried("`script` is not installed");
    }
    assert!(ran.out.contains("asks"), "{} {}", ran.out, ran.err);
    assert!(ran.out.contains("a check has no terminal"), "{}", ran.out);
    assert!(!ran.out.contains("took longer"), "{}", ran.out);
}
