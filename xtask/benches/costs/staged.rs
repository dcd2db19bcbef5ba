//! Checks of files: a commit of 20 of 5,000 files with eight rules, `ruff` by itself and by us, passes of another clone,
//! and the time from a save to the result of `validate --watch`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use xshell::{Shell, cmd};

use crate::kit::{Bench, Comparison, find, median, milliseconds, report, settle, timed};
use crate::plot::{Group, Section};

const ROUNDS: usize = 31;
const FILES: usize = 5_000;
const STAGED: usize = 20;

/// The eight rules, by the names that pre-commit-hooks gave them.
const RULES: [&str; 8] = [
    "trailing-whitespace",
    "end-of-file-fixer",
    "check-yaml",
    "check-json",
    "check-toml",
    "check-merge-conflict",
    "check-added-large-files",
    "detect-private-key",
];

/// A repository with 5,000 files of several kinds.
fn repo(bench: &Bench, name: &str) -> Shell {
    let dir = bench.root.join(name);
    fs::create_dir_all(&dir).unwrap();
    let shell = bench.shell(&dir);
    cmd!(shell, "git init --quiet -b main").quiet().run().unwrap();
    for number in 0..FILES {
        let path = dir.join(path_of(number));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content(number, 0)).unwrap();
    }
    shell
}

fn path_of(number: usize) -> String {
    let end = ["py", "yaml", "json", "toml", "md"][number % 5];
    format!("src/d{:03}/f{number:05}.{end}", number / 50)
}

fn content(number: usize, round: usize) -> String {
    match number % 5 {
        0 => format!("\"\"\"Number {number}.\"\"\"\n\nROUND = {round}\n"),
        1 => format!("number: {number}\nround: [{round}]\n"),
        2 => format!("{{\"number\": {number}, \"round\": {round}}}\n"),
        3 => format!("number = {number}\nround = {round}\n"),
        _ => format!("# {number}\n\nRound {round}.\n"),
    }
}

/// Commits all, with a canonical branch there, and lets it settle.
fn finish(shell: &Shell) {
    cmd!(shell, "git add --all").quiet().run().unwrap();
    cmd!(shell, "git commit --quiet --no-verify -m first").quiet().run().unwrap();
    cmd!(shell, "git branch -f orchestration-tools").quiet().run().unwrap();
    cmd!(shell, "git switch --quiet -c feature").quiet().run().unwrap();
    settle(shell);
}

fn with_xtask(bench: &Bench) -> Option<Shell> {
    let shell = repo(bench, "staged-xtask");
    let rules = RULES.map(|rule| format!("'{rule}'")).join(", ");
    let checks = format!(
        "[[check]]\nname = 'files'\nbuilt-in = [{rules}]\nhook = 'pre-commit'\nrestage = true\n"
    );
    write(&shell, "setup/validate.toml", &checks);
    write(&shell, "setup/sync.toml", "[managed]\ninclude = [\"setup\"]\n");
    finish(&shell);
    let xtask = bench.xtask;
    cmd!(shell, "{xtask} install-hooks --this-program").quiet().ignore_stdout().run().ok()?;
    Some(shell)
}

fn with_prek(bench: &Bench) -> Option<Shell> {
    let prek = find("prek")?;
    let shell = repo(bench, "staged-prek");
    let hooks: String = RULES.iter().map(|rule| format!("  - id: {rule}\n")).collect();
    write(
        &shell,
        ".pre-commit-config.yaml",
        &format!("repos:\n- repo: builtin\n  hooks:\n{hooks}"),
    );
    finish(&shell);
    cmd!(shell, "{prek} install").quiet().ignore_stdout().ignore_stderr().run().ok()?;
    Some(shell)
}

/// lefthook, with the programs of pre-commit-hooks.
fn with_lefthook(bench: &Bench) -> Option<Shell> {
    let lefthook = find("lefthook")?;
    find("trailing-whitespace-fixer")?;
    let shell = repo(bench, "staged-lefthook");
    let commands = RULES.map(|rule| {
        let (program, glob) = match rule {
            "trailing-whitespace" => ("trailing-whitespace-fixer", "*"),
            "check-yaml" => ("check-yaml", "*.yaml"),
            "check-json" => ("check-json", "*.json"),
            "check-toml" => ("check-toml", "*.toml"),
            program => (program, "*"),
        };
        format!("    {rule}:\n      glob: \"{glob}\"\n      run: {program} {{staged_files}}\n")
    });
    let text = format!("pre-commit:\n  parallel: true\n  commands:\n{}", commands.concat());
    write(&shell, "lefthook.yml", &text);
    finish(&shell);
    cmd!(shell, "{lefthook} install").quiet().ignore_stdout().ignore_stderr().run().ok()?;
    Some(shell)
}

/// hk, with the eight rules that it has built in itself; those for YAML, JSON and TOML need other programs.
fn with_hk(bench: &Bench) -> Option<Shell> {
    let hk = find("hk")?;
    let shell = repo(bench, "staged-hk");
    let steps = [
        "trailing_whitespace",
        "newlines",
        "check_merge_conflict",
        "detect_private_key",
        "check_added_large_files",
        "check_case_conflict",
        "byte_order_marker",
        "mixed_line_ending",
    ];
    let steps = steps.map(|step| format!("  [\"{step}\"] = Builtins.{step}\n")).concat();
    let version = cmd!(shell, "{hk} --version").quiet().read().ok()?;
    let version = version.split(' ').nth(1)?.to_owned();
    let package = format!("package://github.com/jdx/hk/releases/download/v{version}/hk@{version}#");
    let text = format!(
        "amends \"{package}/Config.pkl\"\nimport \"{package}/Builtins.pkl\"\n\
         hooks {{ [\"pre-commit\"] {{ fix = true\nstash = \"git\"\nsteps {{\n{steps}}} }} }}\n"
    );
    write(&shell, "hk.pkl", &text);
    finish(&shell);
    cmd!(shell, "{hk} install").quiet().ignore_stdout().ignore_stderr().run().ok()?;
    Some(shell)
}

fn with_none(bench: &Bench) -> Option<Shell> {
    let shell = repo(bench, "staged-none");
    finish(&shell);
    Some(shell)
}

fn write(shell: &Shell, path: &str, text: &str) {
    let path = shell.current_dir().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Edits and stages 20 files, half of them with more that is not staged if `partly` says so.
fn stage(shell: &Shell, round: usize, partly: bool) {
    let numbers: Vec<usize> = (0..STAGED).map(|at| (round * STAGED + at * 251) % FILES).collect();
    for number in &numbers {
        write(shell, &path_of(*number), &content(*number, round + 1));
    }
    cmd!(shell, "git add --all").quiet().run().unwrap();
    if partly {
        for number in numbers.iter().step_by(2) {
            write(shell, &path_of(*number), &content(*number, round + 2));
        }
    }
}

type Make = fn(&Bench) -> Option<Shell>;

const CONTENDERS: [(&str, Make); 5] = [
    ("none", with_none),
    ("xtask", with_xtask),
    ("prek", with_prek),
    ("lefthook", with_lefthook),
    ("hk", with_hk),
];

pub fn commits(bench: &Bench) {
    for (what, partly) in [("all staged", false), ("partly staged", true)] {
        let (mut sides, mut left_out) = (Vec::new(), Vec::new());
        for (name, make) in CONTENDERS {
            drop(fs::remove_dir_all(bench.root.join(format!("staged-{name}"))));
            match make(bench) {
                Some(shell) => sides.push((name, shell, Vec::new())),
                None => {
                    println!("  {name} is not installed, and was left out");
                    left_out.push(format!("{name} is not installed"));
                }
            }
        }
        for round in 0..ROUNDS {
            for (name, shell, times) in &mut sides {
                stage(shell, round, partly);
                times.push(milliseconds(timed(|| {
                    let done = cmd!(shell, "git commit --quiet -m {name}").quiet().ignore_stdout();
                    done.ignore_stderr().run().unwrap();
                })));
                cmd!(shell, "git checkout --quiet -f").quiet().ignore_stderr().run().unwrap();
            }
        }
        print_added(bench, what, &sides, &left_out);
    }
}

/// What the checks are compared with, in a group of their plot.
fn compared<'a>(title: &'a str, other: &'a str, budget: f64) -> Comparison<'a> {
    Comparison { section: Section::Checks, title, ours: "xtask", other, budget: Some(budget) }
}

/// Prints what each adds to none at all, and our share of that.
fn print_added(bench: &Bench, what: &str, sides: &[(&str, Shell, Vec<f64>)], left_out: &[String]) {
    let title = format!("added to a commit of 20 of 5,000 files, eight rules, {what}");
    let mut group = Group::new(Section::Checks, &title, "ms added").without(left_out);
    let none = &sides[0].2;
    let added = |times: &[f64]| -> Vec<f64> {
        times.iter().zip(none).map(|(time, none)| time - none).collect()
    };
    let ours = added(&sides[1].2);
    for (name, _, times) in sides {
        let theirs = added(times);
        if *name != "none" {
            group = group.bar(name, &theirs);
        }
        let ratio: Vec<f64> =
            ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        let note = match *name {
            "none" | "xtask" => String::new(),
            _ => format!("   xtask adds {:.2} of that", median(ratio)),
        };
        let (time, added) = (median(times.clone()), median(theirs));
        println!("  {what:<13} {name:<9} {time:8.1} ms   added {added:+8.1} ms{note}");
    }
    bench.results.add(group);
}

/// `ruff` over 20 staged files, started by itself, and by `validate --files`.
pub fn ruff(bench: &Bench) {
    let Some(ruff) = find("ruff") else {
        return println!("  ruff is not installed");
    };
    let shell = repo(bench, "staged-ruff");
    let checks =
        "[[check]]\nname = 'ruff'\nrun = 'ruff check --no-cache -q {files}'\nfiles = ['*.py']\n";
    write(&shell, "setup/validate.toml", checks);
    finish(&shell);
    let files: Vec<String> = (0..STAGED).map(|at| path_of(at * 250)).collect();
    let xtask = bench.xtask;
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let files = &files;
        let ours = timed(|| {
            let done = cmd!(shell, "{xtask} validate --no-log --files {files...}").quiet();
            done.ignore_stdout().run().unwrap();
        });
        let theirs = timed(|| {
            cmd!(shell, "{ruff} check --no-cache -q {files...}")
                .quiet()
                .ignore_stdout()
                .run()
                .unwrap();
        });
        pairs.push((ours, theirs));
    }
    let title = "validate --files with `ruff check {files}`, 20 files";
    report(bench, &compared(title, "ruff itself", 1.1), pairs);
}

/// Fifty checks, skipped by passes of this clone, and by signed ones of another one from a cache on this machine: asked
/// for now, and less than a minute ago.
pub fn fetched(bench: &Bench) {
    let (Some(nginx), Some(keygen)) = (find("nginx"), find("ssh-keygen")) else {
        return println!("  nginx or ssh-keygen is not installed");
    };
    let Some((mut server, port)) = start_nginx(bench, &nginx) else {
        return println!("  nginx does not start");
    };
    let shell = repo(bench, "shared");
    let key = bench.root.join("ci-key");
    cmd!(shell, "{keygen} -q -t ed25519 -N '' -C ci -f {key}").quiet().run().unwrap();
    let public = fs::read_to_string(bench.root.join("ci-key.pub")).unwrap();
    let public = public.rsplit_once(' ').unwrap().0;
    let mut checks = format!(
        "[share]\nthrough = 'http://127.0.0.1:{port}'\nsigners = ['ci {public}']\nrecheck = 0\n"
    );
    for number in 0..50 {
        checks.push_str(&format!(
            "[[check]]\nname = 'c{number}'\nrun = 'true'\ninputs = ['src/d{number:03}/*.py']\nshare = true\n"
        ));
    }
    write(&shell, "setup/validate.toml", &checks);
    write(&shell, "setup/sync.toml", "[managed]\ninclude = [\"setup\"]\n");
    finish(&shell);
    let other = bench.root.join("shared-other");
    cmd!(shell, "git clone --quiet . {other}").quiet().run().unwrap();
    let other = bench.shell(&other);
    cmd!(other, "git branch --quiet --no-track orchestration-tools origin/orchestration-tools")
        .quiet()
        .run()
        .unwrap();
    let xtask = bench.xtask;
    let signed = cmd!(shell, "{xtask} validate").env("XTASK_SHARE_KEY", &key).env("CI", "1");
    signed.quiet().ignore_stdout().run().unwrap();
    settle(&other);
    let validate = |shell: &Shell, more: &[&str]| {
        let said =
            cmd!(shell, "{xtask} validate --fast --no-log {more...}").quiet().read().unwrap();
        assert!(said.contains("50 skipped as unchanged"), "{said}");
    };
    let answer = other.current_dir().join(".git/xtask/validate/share-answer");
    for is_asked in [true, false] {
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            let theirs = timed(|| validate(&shell, &["--no-share"]));
            if is_asked {
                drop(fs::remove_file(&answer));
            }
            let ours = timed(|| validate(&other, &[]));
            pairs.push((ours, theirs));
        }
        println!("  {}", if is_asked { "asked for now" } else { "asked for a moment ago" });
        let when = if is_asked { "asked for now" } else { "asked a moment ago" };
        let title = format!("fifty passes of another clone, {when}");
        report(bench, &compared(&title, "passes of its own", 1.3), pairs);
    }
    drop(server.kill());
    drop(server.wait());
}

/// Starts nginx with WebDAV on a free port of this machine.
fn start_nginx(bench: &Bench, nginx: &Path) -> Option<(std::process::Child, u16)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let root = bench.root.join("nginx");
    fs::create_dir_all(root.join("cache")).ok()?;
    let root = root.display();
    let config = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error;\nevents {{}}\nhttp {{ access_log off;\n\
         client_body_temp_path {root}/body; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
         uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
         server {{ listen 127.0.0.1:{port}; root {root}/cache; client_max_body_size 1m;\n\
         location / {{ dav_methods PUT; create_full_put_path on; }} }} }}\n"
    );
    let file: PathBuf = bench.root.join("nginx/nginx.conf");
    fs::write(&file, config).ok()?;
    let child = Command::new(nginx)
        .args(["-p", &format!("{root}"), "-c"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    for _ in 0..500 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some((child, port));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// The time from a save to the printed result of a check that takes nothing, in a worktree of 10,000 files.
pub fn watch(bench: &Bench) {
    // Ten files in a folder, as projects have them.
    let shell = bench.shell(&bench.root);
    let dir = bench.root.join("watch");
    fs::create_dir_all(&dir).unwrap();
    shell.change_dir(&dir);
    cmd!(shell, "git init --quiet -b main").quiet().run().unwrap();
    for number in 0..10_000 {
        write(
            &shell,
            &format!("src/d{:03}/e{}/f{number:05}", number / 100, number / 10 % 10),
            "other\n",
        );
    }
    let checks = "[[check]]\nname = 'nothing'\nrun = 'true'\ninputs = ['src/**']\n";
    write(&shell, "setup/validate.toml", checks);
    cmd!(shell, "git add --all").quiet().run().unwrap();
    cmd!(shell, "git commit --quiet --no-verify -m checks").quiet().run().unwrap();
    settle(&shell);
    let mut child = Command::new(bench.xtask)
        .args(["validate", "--watch"])
        .current_dir(shell.current_dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut wait = || lines.by_ref().find(|line| line.starts_with("healthy")).unwrap();
    wait();
    let (mut times, mut status) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // As a person does: the last run is long over.
        std::thread::sleep(Duration::from_millis(150));
        let begun = Instant::now();
        write(&shell, "src/d000/e0/f00000", &format!("{round}\n"));
        wait();
        times.push(milliseconds(begun.elapsed()));
        status.push(milliseconds(timed(|| {
            cmd!(shell, "git status --porcelain").quiet().ignore_stdout().run().unwrap();
        })));
    }
    drop(child.kill());
    drop(child.wait());
    let title = "--watch, from a save to the result, 10,000 files";
    let group = Group::new(Section::Checks, title, "ms").with_budget(50.0);
    bench.results.add(group.bar("xtask", &times).bar("git status", &status));
    println!(
        "  from save to result {:.1} ms; `git status` {:.1} ms",
        median(times),
        median(status)
    );
}
