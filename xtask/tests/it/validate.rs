//! `validate`: which checks run, what their results mean, and what is said about them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::Value;
use xtask_config::{SYNC_FILE, VALIDATE_FILE, ValidateConfig, find_rule_faults};
use xtask_validate::result_cache::{CachedPass, ResultCache};

use crate::testkit::{Lab, Ran, trace};
use crate::wrong_hits::scene;

/// Every file with its times.
type Trace = BTreeMap<PathBuf, (u64, i64, i64, u64)>;

const PHASES: &str = "[phase.first]\ngate = true\n[phase.second]\n";

fn check(name: &str, phase: &str, more: &str) -> String {
    format!("[[check]]\nname = '{name}'\nphase = '{phase}'\n{more}\n")
}

/// The outcome of each check, in the order of the report.
#[track_caller]
pub fn outcomes(ran: &Ran) -> String {
    let json = ran.json();
    let checks = json["checks"].as_array().unwrap().iter();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let words = checks.map(|check| format!("{}={}", word(&check["name"]), word(&check["outcome"])));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn validate_fails_while_a_merge_has_conflicts() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-q", "-c", "other"]);
    repo.write("src/app", "theirs\n");
    repo.commit("theirs");
    repo.git(&["switch", "-q", "main"]);
    repo.write("src/app", "ours\n");
    repo.commit("ours");
    repo.try_git(&["merge", "--quiet", "other"]).status(1);
    let ran = repo.xtask(&["validate"]).status(1);
    ran.says("a merge is in progress, and files are in conflict; nothing was checked");
    repo.write("src/app", "both\n");
    repo.git(&["add", "src/app"]);
    let ran = repo.xtask(&["validate", "--skip", "hooks"]);
    assert!(!ran.err.contains("in conflict"), "{}", ran.err);
}

#[test]
fn failed_check_blocks_later_phases_and_sets_exit_code() {
    let lab = Lab::new();
    let gate = |run: &str| {
        [
            PHASES.to_owned(),
            check("late", "second", "run = 'true'"),
            check("gate", "first", &format!("run = '{run}'")),
            check("beside", "first", "run = 'true'"),
            check("after", "second", "run = 'true'\nneeds = ['late']"),
        ]
        .concat()
    };
    let repo = scene(&lab, &gate("false"));
    let ran = repo.xtask(&["validate", "--json"]).status(1);
    assert_eq!(outcomes(&ran), "gate=failed beside=passed late=blocked after=blocked");
    let ran = repo.xtask(&["validate"]).status(1);
    let ran =
        ran.says("FAILED    gate").says("not healthy: 1 of 2 checks failed: `gate` (2 blocked");
    assert!(!ran.out.starts_with("healthy") && !ran.out.contains("\nhealthy"));
    repo.write(VALIDATE_FILE, gate("true"));
    repo.xtask(&["validate"]).success().says("healthy: 4 checks");
}

#[test]
fn failed_check_blocks_its_dependents_only() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &[
            check("a", "quality", "run = 'false'"),
            check("b", "quality", "run = 'true'\nneeds = ['a']"),
            check("c", "quality", "run = 'true'\nneeds = ['b']"),
            check("d", "quality", "run = 'true'"),
        ]
        .concat(),
    );
    let ran = repo.xtask(&["validate", "--json"]).status(1);
    assert_eq!(outcomes(&ran), "a=failed b=blocked c=blocked d=passed");
    assert_eq!(ran.json()["checks"][1]["reason"], "`a`, which it needs, did not pass");
    assert_eq!(ran.json()["ok"], false);
}

/// Lesson 25: only the first flag was read.
#[test]
fn flags_work_in_any_order_and_names_are_validated() {
    let lab = Lab::new();
    let checks = [
        PHASES.to_owned(),
        check("lint", "first", "run = 'true'\ninputs = ['src/**']\ntags = ['quick']"),
        check("unit", "second", "run = 'false'\ntests = true"),
    ]
    .concat();
    let repo = scene(&lab, &checks);
    for args in [
        ["validate", "--fast", "--skip-tests", "--json"],
        ["validate", "--json", "--skip-tests", "--fast"],
        ["validate", "--skip-tests", "--json", "--fast"],
    ] {
        let ran = repo.xtask(&args).success();
        assert!(
            ["lint=passed unit=left-out", "lint=cached unit=left-out"].contains(&&*outcomes(&ran))
        );
        assert_eq!(ran.json()["fast"], true);
    }
    let only = |name: &str| outcomes(&repo.xtask(&["validate", "--json", "--only", name]));
    assert_eq!(only("quick"), "lint=passed unit=left-out");
    assert_eq!(only("first"), "lint=passed unit=left-out");
    assert_eq!(only("unit"), "lint=left-out unit=failed");
    let ran = repo.xtask(&["validate", "--only", "lit,lint", "--skip", "units"]).status(2);
    ran.says("`lit`; did you mean `lint`?").says("`units`; did you mean `unit`?").says("--list");
    repo.xtask(&["validate", "--fats"]).status(2).says("--fast");
    repo.xtask(&["validate", "--only", "unit", "--skip", "unit"])
        .status(2)
        .says("excludes everything");
}

#[test]
fn flags_override_variables_and_persisted_defaults() {
    let lab = Lab::new();
    let checks = [
        check("lint", "quality", "run = 'true'\ninputs = ['src/**']"),
        check("unit", "quality", "run = 'true'\ntests = true"),
    ]
    .concat();
    let repo = scene(&lab, &checks);
    let json = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["validate", "--json"][..], args].concat();
        outcomes(&repo.xtask_with(&args, variables).success())
    };
    assert_eq!(json(&[], &[("SKIP_TESTS", "1")]), "lint=passed unit=left-out");
    assert_eq!(json(&[], &[("FAST_MODE", "1")]), "lint=cached unit=passed");
    assert_eq!(json(&["--fast=false"], &[("FAST_MODE", "1")]), "lint=passed unit=passed");
    assert_eq!(json(&[], &[("DRY_RUN", "1")]), "lint=planned unit=planned");
    assert_eq!(json(&["--fast", "--persist"], &[]), "lint=cached unit=passed");
    assert_eq!(json(&[], &[]), "lint=cached unit=passed", "kept");
    assert_eq!(json(&[], &[("FAST_MODE", "0")]), "lint=passed unit=passed");
    let settings = repo.git(&["config", "--local", "--get-regexp", "xtask.validate"]);
    assert!(settings.contains("xtask.validate.fast true"), "{settings}");
    let logs = || lab.path("repo/.git/xtask/logs").read_dir().unwrap().count();
    let before = logs();
    json(&["--no-log"], &[]);
    json(&[], &[("LOG_REMEDIATION", "0")]);
    assert_eq!(logs(), before);
    repo.xtask(&["validate", "--interactive"]).status(2).says("there is no terminal");
}

#[test]
fn dry_run_writes_nothing_and_cached_run_only_its_log() {
    let lab = Lab::new();
    let checks = [
        check("lint", "quality", "run = 'grep -q good src/input'\ninputs = ['src/**']"),
        check("tool", "quality", "tool = 'git'"),
        check(
            "broken",
            "quality",
            "run = 'false'\nfix = { run = 'touch made', risk = 'safe', writes = ['made'] }",
        ),
    ]
    .concat();
    let repo = scene(&lab, &checks);
    repo.status();
    let look = || trace(repo.dir.as_std_path());
    let fresh = look();
    for args in [
        &["validate", "--dry-run"][..],
        &["validate", "--dry-run", "--fast", "--why", "--yes", "--persist"],
        &["validate", "--dry-run", "--json", "--junit", "made.xml"],
        &["validate", "--list"],
        &["validate", "--list", "--json"],
        &["validate", "--history"],
        &["validate", "--history", "--json"],
        &["status"],
    ] {
        repo.xtask(args).success();
        assert_eq!(look(), fresh, "{args:?}");
    }
    repo.xtask(&["validate", "--skip", "broken"]).success();
    repo.xtask(&["validate", "--fast", "--skip", "broken"]).success();
    let before = look();
    repo.xtask(&["validate", "--fast", "--skip", "broken"])
        .success()
        .says("2 skipped as unchanged");
    let written = |before: &Trace, after: &Trace| {
        let changed = after.iter().filter(|(path, stamp)| before.get(*path) != Some(*stamp));
        let names =
            changed.map(|(path, _)| path.strip_prefix(&repo.dir).unwrap().display().to_string());
        names.collect::<Vec<_>>()
    };
    for path in written(&before, &look()) {
        let is_known =
            [".git/xtask/logs", ".git/xtask/validate-history", ".git/xtask/validate.lock"]
                .iter()
                .any(|known| path.starts_with(known));
        assert!(is_known, "{path}");
    }
    let before = look();
    repo.xtask(&["validate", "--dry-run", "--fast", "--undo", "last"]).status(1);
    repo.xtask(&["status"]).success().says("validate   healthy, 2 checks, 1 left out, just now");
    assert_eq!(look(), before);
}

#[test]
fn why_names_the_changed_file_variable_or_age() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &check("c", "quality", "run = 'true'\ninputs = ['src/**']\nenv = ['XX']\nttl = '1h'"),
    );
    let why = |variables: &[(&str, &str)]| {
        let ran = repo.xtask_with(&["validate", "--fast", "--why", "--json"], variables).success();
        ran.json()["checks"][0]["why"][0].as_str().unwrap().to_owned()
    };
    assert_eq!(why(&[]), "no pass of it is cached");
    assert_eq!(why(&[]), "it passed just now, 2 files unchanged");
    assert_eq!(why(&[("XX", "1")]), "variable `XX` is set now");
    repo.write("src/input", "good, still\n");
    assert_eq!(why(&[("XX", "1")]), "`src/input` was changed");
    let dry = repo.xtask(&["validate", "--fast", "--dry-run"]).success();
    dry.says("why: variable `XX` is no longer set").says("1 check would run");
    let plain = repo.xtask(&["validate", "--why", "-v"]).success();
    plain.says("why: without `--fast` every check runs");
    let no_inputs = check("c", "quality", "run = 'true'");
    repo.write(VALIDATE_FILE, no_inputs);
    assert_eq!(why(&[]), "it names no `inputs` and no `tools`, so it always runs");
}

/// A pass that is older than it counts, and one from the future.
#[test]
fn cached_pass_expires_and_must_not_be_in_the_future() {
    let lab = Lab::new();
    let text = check("c", "quality", "run = 'true'\ninputs = ['src/**']\nttl = '1h'");
    let repo = scene(&lab, &text);
    let first = repo.xtask(&["validate", "--json"]).success().json();
    let key = first["checks"][0]["key"].as_str().unwrap().to_owned();
    let store = ResultCache::new(repo.git_folder().join("xtask/validate"));
    let pass = store.find_pass(&key).unwrap();
    let manifest = store.find_last_manifest(repo.dir.as_std_path(), "c").unwrap();
    let again = |seconds: i64| {
        let pass = CachedPass { at: pass.at + seconds, ..pass.clone() };
        let disk = xtask_base::files::Disk::real();
        store.save_pass(&disk, repo.dir.as_std_path(), &pass, &manifest).unwrap();
        let ran = repo.xtask(&["validate", "--fast", "--why", "--json"]).success();
        let json = ran.json();
        format!("{} {}", outcomes(&ran), json["checks"][0]["why"][0].as_str().unwrap())
    };
    assert!(again(-1000).starts_with("c=cached it passed 16 minutes ago"), "{}", again(-1000));
    assert!(again(-4000).contains("c=passed its pass has expired: it is 40"), "{}", again(-4000));
    let future = "c=passed its pass is dated in the future: the clock was set back";
    assert_eq!(again(86_400), future);
}

#[test]
fn damaged_or_newer_cache_state_is_ignored() {
    let lab = Lab::new();
    let repo = scene(&lab, &check("c", "quality", "run = 'true'\ninputs = ['src/**']"));
    let ran = repo.xtask(&["validate", "--json"]).success().json();
    let key = ran["checks"][0]["key"].as_str().unwrap().to_owned();
    let state = repo.git_folder().join("xtask/validate");
    let result = state.join("results").join(&key);
    let whole = fs::read(&result).unwrap();
    let newer =
        String::from_utf8(whole.clone()).unwrap().replace("xtask.result/1", "xtask.result/2");
    for bad in [&b""[..], b"\xff\xfe", b"{}", &whole[..whole.len() - 1], newer.as_bytes()] {
        fs::write(&result, bad).unwrap();
        fs::write(state.join("looks"), bad).unwrap();
        fs::write(
            repo.git_folder().join("xtask/validate-history"),
            [bad, b"\n{\"x\":1}\n"].concat(),
        )
        .unwrap();
        let ran = repo.xtask(&["validate", "--fast", "--json"]).success();
        assert_eq!(outcomes(&ran), "c=passed");
        repo.xtask(&["validate", "--history"]).success().says("c ");
    }
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "a file where a folder should be").unwrap();
    let ran = repo.xtask(&["validate", "--fast"]).success();
    ran.says("passes are not cached").says("healthy: 1 check");
}

#[test]
fn every_builtin_check_kind_can_pass_and_fail() {
    let lab = Lab::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let good = [
        check("tool", "quality", "tool = 'git'\nversion = '>=2'"),
        check("file", "quality", "file = ['src/input', 'setup']"),
        check("env", "quality", "env-var = 'HOME'"),
        check("disk", "quality", "disk = '1 KB'"),
        check("identity", "quality", "built-in = 'git-identity'"),
        check("sync", "quality", "built-in = 'sync'"),
        check("branches", "quality", "built-in = 'branches'"),
    ]
    .concat();
    let repo = scene(&lab, &good);
    repo.xtask(&["validate", "--no-fix"]).success().says("healthy: 7 checks");
    let bad = [
        check("no-tool", "quality", "tool = 'no-such-tool'"),
        check("old-tool", "quality", "tool = 'git'\nversion = '>=99'"),
        check("no-file", "quality", "file = ['src/input', 'src/none']"),
        check("no-env", "quality", "env-var = ['HOME', 'NO_SUCH_VARIABLE']"),
        check("full", "quality", "disk = '9000 TB'"),
        check("port", "quality", &format!("port-free = {port}")),
        check("hooks", "quality", "built-in = 'hooks'"),
        check("sync", "quality", "built-in = 'sync'"),
        check("branches", "quality", "built-in = 'branches'"),
    ]
    .concat();
    repo.write(VALIDATE_FILE, bad);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-q", "-c", "feature"]);
    repo.git(&["switch", "-q", "--detach"]);
    let ran = repo.xtask(&["validate"]).status(1);
    let ran = ran.says("`no-such-tool` is not on PATH (`").says("but >=99 is required");
    let ran = ran.says("`src/none` not found").says("`NO_SUCH_VARIABLE` is not set");
    let ran = ran
        .says("but 9000000.0 GB are required")
        .says(&format!("port {port} is already in use by `"));
    let ran = ran.says(&format!("(pid {}, user ", std::process::id()));
    let ran = ran.says("not installed").says("1 managed file behind").says("HEAD is detached");
    ran.says("9 of 9 checks failed");
}

#[test]
fn default_checks_run_without_a_configuration_file() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("Cargo.toml", "[package]\nname = 'x'\n");
    let ran = repo.xtask(&["validate", "--dry-run"]).success();
    ran.says("no `setup/validate.toml`").says("git-identity").says("cargo");
    let list = repo.xtask(&["validate", "--list", "--json"]).success().json();
    assert_eq!(list["config"], Value::Null);
    assert!(list["checks"].as_array().unwrap().iter().any(|check| check["name"] == "format"));
    repo.xtask(&["validate", "--only", "environment"]).success().says("healthy");
}

#[test]
fn shipped_and_example_configurations_are_valid() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in [VALIDATE_FILE, "setup/validate.example.toml"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let read = ValidateConfig::parse(file, &text);
        let config = read.unwrap_or_else(|faults| panic!("{:?}", faults.details()));
        assert!(config.checks.len() > 8, "{file}");
    }
    let rules = fs::read(root.join(SYNC_FILE)).unwrap();
    assert_eq!(find_rule_faults(SYNC_FILE, &rules), [] as [String; 0]);
}

#[test]
fn configuration_faults_are_reported_with_lines_and_nothing_runs() {
    let lab = Lab::new();
    let repo = scene(&lab, "[[check]]\nname = 'c'\nrun = 'touch made'\nneeds = ['d']\nrunn = 1\n");
    let ran = repo.xtask(&["validate"]).status(2).says("2 faults in setup/validate.toml");
    ran.says("setup/validate.toml:4: `needs` has `d`").says("did you mean `run`?");
    assert!(!repo.has("made"));
    for (text, words) in [
        (&b"\xff"[..], "not UTF-8"),
        (b"[[check]", "setup/validate.toml:1:"),
        (b"check = 1", "a list of tables"),
        (b"phase = 1", "a table"),
    ] {
        fs::write(repo.dir.join(VALIDATE_FILE), text).unwrap();
        repo.xtask(&["validate"]).status(2).says(words);
        repo.xtask(&["validate", "--list"]).status(2).says(words);
    }
    fs::remove_file(repo.dir.join(VALIDATE_FILE)).unwrap();
    fs::create_dir(repo.dir.join(VALIDATE_FILE)).unwrap();
    repo.xtask(&["validate"]).status(2).says("not a file");
}

#[test]
fn one_run_writes_all_report_formats() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        &[
            check("good", "quality", "run = 'echo fine'\ninputs = ['src/**']"),
            check(
                "bad",
                "quality",
                "run = 'printf \"::error::x\\nsrc/input:1:2: it is bad\\n\"; exit 1'\nshell = true",
            ),
        ]
        .concat(),
    );
    let summary = lab.path("summary.md");
    let variables = [("GITHUB_STEP_SUMMARY", summary.as_str())];
    let args = ["validate", "--junit", "out/j.xml", "--sarif", "s.json", "--github"];
    let ran = repo.xtask_with(&args, &variables).status(1);
    let ran = ran.says("::error file=src/input,line=1,col=2");
    let commands: Vec<&str> =
        ran.out.lines().filter(|line| line.trim().starts_with("::")).collect();
    let token = commands[0].strip_prefix("::stop-commands::").unwrap();
    assert_eq!(commands[1].trim(), "::error::x", "{commands:?}");
    assert_eq!(commands[2], format!("::{token}::"));
    assert!(repo.read("out/j.xml").contains("failures=\"1\""));
    assert!(repo.read("s.json").contains("it is bad"));
    assert!(fs::read_to_string(summary).unwrap().contains("| bad |"));
    let json = repo.xtask(&["validate", "--fast", "--json", "--no-log"]).status(1).json();
    assert_eq!(json["schema"], "xtask.validate/1");
    assert_eq!((&json["log"], &json["checks"][0]["output"]), (&Value::Null, &"fine\n".into()));
    let verbose = repo.xtask(&["validate", "--fast", "-v"]).status(1);
    verbose.says("  fine");
    repo.xtask(&["validate", "--junit", "src/input/x.xml"]).status(3).says("cannot write");
}

#[test]
fn run_logs_record_every_event_and_are_rotated() {
    let lab = Lab::new();
    let checks = [
        check("good", "quality", "run = 'true'\ninputs = ['src/**']"),
        check("bad", "quality", "run = 'echo dreadful; exit 3'\nshell = true"),
    ];
    let repo = scene(&lab, &format!("logs-kept = 3\n{}", checks.concat()));
    let ran = repo.xtask(&["validate"]).status(1);
    let file = ran.err.lines().find_map(|line| line.strip_prefix("log: ")).unwrap().to_owned();
    let log = fs::read_to_string(&file).unwrap();
    for words in [
        "] HEADER: validate in ",
        "] LOCK_ACQUIRED: pid ",
        "] SECTION: quality",
        "] SUCCESS: good",
        "] STATE_SAVED: good",
        "] ERROR: bad: exited with code 3",
        "] INFO: dreadful",
        "] LOCK_RELEASED: pid ",
    ] {
        assert!(log.contains(words), "{words} in\n{log}");
    }
    for line in log.lines() {
        let (time, rest) = line.strip_prefix('[').unwrap().split_once("] ").unwrap();
        assert_eq!(time.len(), "2026-01-01 00:00:00".len(), "{line}");
        assert!(
            rest.split_once(": ").unwrap().0.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        );
    }
    for _ in 0..4 {
        repo.xtask(&["validate", "--fast"]).status(1);
    }
    let folder = lab.path("repo/.git/xtask/logs");
    assert_eq!(folder.read_dir().unwrap().count(), 3);
    let written = |path: &std::path::PathBuf| path.metadata().unwrap().modified().unwrap();
    let logs = folder.read_dir().unwrap().map(|e| e.unwrap().path());
    let last = logs.max_by_key(written).unwrap();
    let last = fs::read_to_string(last).unwrap();
    assert!(last.contains("] CACHE_HIT: good") && last.contains("] LOG_ROTATION: 1 old"), "{last}");
}

#[test]
fn history_reports_pass_and_hit_rates() {
    let lab = Lab::new();
    let repo =
        scene(&lab, &check("c", "quality", "run = 'grep -q good src/input'\ninputs = ['src/**']"));
    repo.xtask(&["validate"]).success();
    repo.xtask(&["validate", "--fast"]).success();
    repo.write("src/input", "bad\n");
    repo.xtask(&["validate", "--fast"]).status(1);
    let json = repo.xtask(&["validate", "--history", "--json"]).success().json();
    let line = &json["checks"][0];
    assert_eq!(
        (&json["runs"], &line["runs"], &line["last"]),
        (&3.into(), &3.into(), &"failed".into())
    );
    assert!((line["pass_rate"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert!((line["hit_rate"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9);
    repo.xtask(&["validate", "--history"]).success().says("67 %").says("33 %");
    repo.xtask(&["status"]).success().says("validate   1 of 1 check failed, just now");
    let other = lab.path("linked");
    repo.git(&["worktree", "add", "-q", other.as_str(), "-b", "other"]);
    lab.place("linked").xtask(&["status"]).success().never_says("check failed");
}

/// What a server heard: the whole request. `answer` is what it says.
fn server(answer: &'static str) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        let mut part = [0; 4096];
        loop {
            let count = stream.read(&mut part).unwrap();
            heard.extend(&part[..count]);
            let text = String::from_utf8_lossy(&heard).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) || count == 0 {
                stream.write_all(answer.as_bytes()).unwrap();
                return text;
            }
        }
    });
    (port, thread)
}

#[test]
fn webhook_gets_the_report_and_never_changes_the_result() {
    let lab = Lab::new();
    let one = check("c", "quality", "run = 'echo secret; exit 1'\nshell = true");
    let repo = scene(&lab, &format!("webhook = '$HOOK'\n{one}"));
    let (port, heard) = server("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    let address = format!("http://127.0.0.1:{port}/a-secret-path");
    let ran = repo.xtask_with(&["validate"], &[("HOOK", &address)]).status(1);
    ran.never_says("webhook").never_says("a-secret-path");
    let heard = heard.join().unwrap();
    assert!(heard.starts_with("POST /a-secret-path HTTP/1.1\r\n"), "{heard}");
    let body: Value = serde_json::from_str(heard.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (&body["ok"], &body["failed"][0], &body["branch"]),
        (&false.into(), &"c".into(), &"main".into())
    );
    assert_eq!(body["schema"], "xtask.validate.webhook/1");
    assert!(!heard.contains("echo secret"));

    repo.write(
        VALIDATE_FILE,
        format!("webhook = '$HOOK'\n{}", check("c", "quality", "run = 'true'")),
    );
    let (port, heard) = server("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    let address = format!("http://127.0.0.1:{port}/a-secret-path");
    let ran = repo.xtask_with(&["validate"], &[("HOOK", &address)]).success();
    ran.says("webhook failed").says("500").never_says("a-secret-path");
    drop(heard.join());
    let ran = repo.xtask_with(&["validate"], &[("HOOK", &address)]).success();
    ran.says("webhook failed").never_says("a-secret-path");
    let ran = repo.xtask_with(&["validate"], &[("HOOK", "http://example.com/x")]).success();
    ran.says("expected `https://…`");
    repo.xtask(&["validate"]).success().never_says("webhook");
}
