//! What a check costs whose inputs have not changed: `validate --fast`, and the same check under
//! every other runner that is installed.
//!
//! Every runner has a clone of the same repository to itself, and all of them run in turn. `git
//! status` is there for what it costs to look at so many files at all, and a runner that has no
//! cache for what it costs to run a check that does nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use xshell::cmd;

use crate::kit::{Bench, ROUNDS, median, milliseconds, settle, timed};
use crate::plot::{Group, Section};
use crate::runners::{Check, IGNORED, Runner, Wanted, command, installed};

/// How many files lie in one folder.
const FILES_IN_A_FOLDER: usize = 100;

/// Who takes longer than this is not run again: the time of the second run is the answer.
const LONG: Duration = Duration::from_secs(10);

/// How many inputs each of several checks has.
const INPUTS_OF_A_CHECK: usize = 5;

/// Who runs, how long it took each time, and whether it ran its checks again.
struct Times {
    name: &'static str,
    milliseconds: Vec<f64>,
    has_run: bool,
    is_long: bool,
}

/// A repository, and what is to be timed in it.
struct Side<'a> {
    name: &'static str,
    repo: PathBuf,
    runner: Option<&'a Runner>,
}

pub fn cached(bench: &Bench) {
    let (runners, left_out) = installed(bench);
    let times = measure(
        bench,
        &runners,
        "cached",
        &[Folder { files: 1000, name: "src".to_owned() }],
        ROUNDS,
    );
    keep(bench, "validate --fast, one check, 1,000 files, nothing changed", &times, &left_out);
    let ours = times[0].milliseconds.clone();
    for Times { name, milliseconds, has_run, .. } in times {
        let ratio = ours.iter().zip(&milliseconds).map(|(ours, theirs)| ours / theirs).collect();
        let (time, ratio) = (median(milliseconds), median(ratio));
        let note = if has_run { "   which is to run it again" } else { "" };
        println!("  {name:<11} {time:8.1} ms   ratio {ratio:6.2}{note}");
    }
}

pub fn growth_with_inputs(bench: &Bench) {
    grow(bench, "inputs", &[1000, 10_000, 100_000], |files| {
        vec![Folder { files, name: "src".to_owned() }]
    });
}

pub fn growth_with_checks(bench: &Bench) {
    grow(bench, "checks", &[1, 10, 50, 200], |checks| {
        let folder =
            |number| Folder { files: INPUTS_OF_A_CHECK, name: format!("src/c{number:03}") };
        (0..checks).map(folder).collect()
    });
}

/// A folder of inputs, for which there is a check.
struct Folder {
    name: String,
    files: usize,
}

/// Prints a row for each contender, and a column for each size.
fn grow(bench: &Bench, what: &str, sizes: &[usize], folders: fn(usize) -> Vec<Folder>) {
    let (runners, left_out) = installed(bench);
    let mut rows: BTreeMap<usize, (&str, Vec<f64>)> = BTreeMap::new();
    for size in sizes {
        // The large ones take seconds each, and differ less from round to round.
        let rounds = if *size > 10_000 { 3 } else { 7 };
        let all = measure(bench, &runners, &format!("{what}-{size}"), &folders(*size), rounds);
        let of = if what == "checks" { "checks, 5 files each" } else { "files, one check" };
        let title = format!("validate --fast, {size} {of}, nothing changed");
        // The first of them are small, or are a row of their own.
        if sizes.iter().rev().take(2).any(|drawn| drawn == size) {
            keep(bench, &title, &all, &left_out);
        }
        for (at, times) in all.into_iter().enumerate() {
            rows.entry(at).or_insert((times.name, Vec::new())).1.push(median(times.milliseconds));
        }
    }
    let head = sizes.iter().map(|size| format!("{size:>11}")).collect::<String>();
    println!("  {what:<11}{head}");
    for (name, times) in rows.values() {
        let times = times.iter().map(|time| format!("{time:8.1} ms")).collect::<String>();
        println!("  {name:<11}{times}");
    }
}

/// Keeps the times of all sides for the plot.
fn keep(bench: &Bench, title: &str, all: &[Times], left_out: &[String]) {
    let mut group = Group::new(Section::Checks, title, "ms").without(left_out);
    for Times { name, milliseconds, has_run, .. } in all {
        let is_rerun = *has_run && *name != "git status";
        let note = if is_rerun { ", which runs it" } else { "" };
        group = group.bar(&format!("{name}{note}"), milliseconds);
    }
    bench.results.add(group);
}

/// Runs all contenders in turn, so many times, after each has passed once.
fn measure(
    bench: &Bench,
    runners: &[Runner],
    name: &str,
    folders: &[Folder],
    rounds: usize,
) -> Vec<Times> {
    let root = bench.root.join(name);
    let template = root.join("template");
    fill(&template, &root.join("ran"), folders);
    let shell = bench.shell(&template);
    cmd!(shell, "git init --quiet -b main").quiet().run().unwrap();
    commit(bench, &template);
    let mut sides: Vec<Side<'_>> = runners.iter().map(|runner| side(&root, runner)).collect();
    sides.insert(1, Side { name: "git status", repo: root.join("git-status"), runner: None });
    let checks: Vec<Check> = folders.iter().enumerate().map(check).collect();
    for Side { repo, runner, .. } in &sides {
        cmd!(shell, "git clone --quiet {template} {repo}").quiet().run().unwrap();
        if let Some(runner) = runner {
            runner.configure(repo, &checks);
            commit(bench, repo);
        }
    }
    settle(&bench.shell(&sides[0].repo));
    let mut all = Vec::new();
    sides.retain(|side| match warm_up(bench, side, &checks, &root.join("ran")) {
        Ok(times) => {
            all.push(times);
            true
        }
        Err(said) => {
            assert!(side.name != "xtask", "`validate` does not pass: {said}");
            println!("  {} does not pass, and was left out: {said}", side.name);
            false
        }
    });
    for _ in 0..rounds {
        for (side, times) in sides.iter().zip(&mut all).filter(|(_, times)| !times.is_long) {
            let mut command = side.command(bench, &checks);
            let mut is_good = false;
            let time = timed(|| is_good = command.status().unwrap().success());
            assert!(is_good, "{} passed, and then it did not", side.name);
            times.milliseconds.push(milliseconds(time));
        }
    }
    for Side { repo, runner, .. } in &sides {
        if let Some(runner) = runner {
            runner.stop(bench, repo);
        }
    }
    fs::remove_dir_all(&root).unwrap();
    all
}

fn side<'a>(root: &Path, runner: &'a Runner) -> Side<'a> {
    let name = runner.contender.name;
    Side { name, repo: root.join(name.replace(' ', "-")), runner: Some(runner) }
}

impl Side<'_> {
    fn command(&self, bench: &Bench, checks: &[Check]) -> Command {
        let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
        let wanted = if let [name] = names[..] { Wanted::One(name) } else { Wanted::All(&names) };
        let mut command = match self.runner {
            Some(runner) => runner.command(bench, &self.repo, wanted),
            None => {
                let mut git = command(bench, &self.repo, Path::new("git"));
                git.args(["status", "--porcelain"]);
                git
            }
        };
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Runs it twice: the first run fills its cache, and what the second one does, all others do.
fn warm_up(bench: &Bench, side: &Side<'_>, checks: &[Check], ran: &Path) -> Result<Times, String> {
    let count = || fs::read(ran).unwrap().len();
    let (mut has_run, mut time) = (false, Duration::ZERO);
    for _ in 0..2 {
        let (before, mut output) = (count(), None);
        let mut command = side.command(bench, checks);
        command.stderr(Stdio::piped());
        time = timed(|| output = command.output().ok());
        let output = output.unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        has_run = count() > before;
    }
    let is_long = time > LONG;
    let milliseconds = if is_long { vec![milliseconds(time)] } else { Vec::new() };
    Ok(Times { name: side.name, milliseconds, has_run, is_long })
}

/// The files, and the script that every check runs.
fn fill(repo: &Path, ran: &Path, folders: &[Folder]) {
    for Folder { name, files } in folders {
        for number in 0..*files {
            let folder = repo.join(name).join(format!("d{:04}", number / FILES_IN_A_FOLDER));
            if number % FILES_IN_A_FOLDER == 0 {
                fs::create_dir_all(&folder).unwrap();
            }
            let text = format!("// {name} {number}\n").repeat(20);
            fs::write(folder.join(format!("f{number:06}.rs")), text).unwrap();
        }
    }
    fs::write(repo.join(".gitignore"), IGNORED).unwrap();
    fs::write(repo.join("check.sh"), format!("echo ran >> '{}'\n", ran.display())).unwrap();
    fs::write(ran, "").unwrap();
}

fn check((number, folder): (usize, &Folder)) -> Check {
    Check {
        name: format!("check{number}"),
        run: "sh check.sh".to_owned(),
        inputs: folder.name.clone(),
        env: Vec::new(),
        tools: Vec::new(),
    }
}

fn commit(bench: &Bench, repo: &Path) {
    let shell = bench.shell(repo);
    cmd!(shell, "git add --all").quiet().run().unwrap();
    cmd!(shell, "git commit --quiet --allow-empty -m files").quiet().run().unwrap();
    cmd!(shell, "git branch --force orchestration-tools").quiet().run().unwrap();
}
