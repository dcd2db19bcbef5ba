//! What it costs to look at every branch and to move every branch, with git on the other side: a
//! loop of its plumbing, a loop of checkouts, and the bare minimum of moving as many refs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use xshell::{Shell, cmd};

use crate::kit::{Bench, Comparison, find, median, milliseconds, report, timed};
use crate::plot::{Group, Section};

/// How often each is timed: every round moves every branch.
const ROUNDS: usize = 5;

/// How many branches git's loops go over. They take as long for each of the others.
const SAMPLE: usize = 40;
const CHECKOUTS: usize = 10;
const SMALL_SAMPLE: usize = 5;

/// The branches, and the commit of each.
type Refs = BTreeMap<String, String>;

pub fn branches(bench: &Bench) {
    let shell = bench.repo("branches", 65, 600);
    cmd!(shell, "git switch --quiet orchestration-tools").quiet().run().unwrap();
    for round in 0..10 {
        let path = shell.current_dir().join(format!("setup/d{round:03}/f{round:05}"));
        fs::write(path, format!("# round {round}\n")).unwrap();
        cmd!(shell, "git commit --quiet -a -m round").quiet().run().unwrap();
    }
    cmd!(shell, "git switch --quiet feature").quiet().run().unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("b{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let start = format!("orchestration-tools~{}", number % 10);
        cmd!(shell, "git branch {name} {start}").quiet().run().unwrap();
    }
    let pairs = (0..ROUNDS).map(|_| {
        let ours = bench.xtask(&shell, &["status", "--all"]);
        (ours, timed(|| names.iter().for_each(|name| git_diff(&shell, name))))
    });
    let title = "status --all, 200 branches";
    let (section, other) = (Section::Propagate, "git diff, 200 times");
    let what = Comparison { section, title, ours: "xtask", other, budget: None };
    report(bench, &what, pairs.collect());
}

/// The repository that is given, in fresh clones of it: in a used one the new objects are there.
pub fn fleet(bench: &Bench, given: &Path) {
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        let ours = clone(bench, given, &format!("fleet-ours-{round}"));
        let before = refs(&ours);
        let all = before.len();
        let mut run = |what, args: &[&str]| tally.add(what, all, bench.xtask(&ours, args));
        run("xtask propagate --dry-run", &["propagate", "--dry-run"]);
        run("xtask propagate", &["propagate"]);
        let after = refs(&ours);
        run("xtask propagate, nothing left to do", &["propagate"]);
        run("xtask status --all", &["status", "--all"]);
        run("xtask dashboard, as a file", &["dashboard", "--html", "-"]);
        run("xtask dashboard, as the server renders it", &["dashboard", "--render", "/"]);
        let back = timed(|| move_refs(&ours, &after, &before));
        run("xtask propagate once more, refs moved back", &["propagate"]);
        tally.add("git update-ref --stdin, the same refs alone", all, back);
        theirs(bench, given, round, &mut tally);
    }
    tally.print(bench);
}

/// What git needs for the same, in a clone of its own.
fn theirs(bench: &Bench, given: &Path, round: usize, tally: &mut Tally) {
    let shell = clone(bench, given, &format!("fleet-git-{round}"));
    let before = refs(&shell);
    let (paths, stream) = the_same_changes(bench, &shell);
    let names = some(&before, SAMPLE);
    let time = timed(|| names.iter().for_each(|name| git_diff(&shell, name)));
    tally.add("git diff --name-only, in a loop", names.len(), time);
    let time = timed(|| names.iter().for_each(|name| plumbing(&shell, name, &paths)));
    tally.add("git plumbing, in a loop", names.len(), time);
    let names = some(&before, CHECKOUTS);
    let time = timed(|| names.iter().for_each(|name| checkout(&shell, name, &paths)));
    tally.add("git checkout and commit, in a loop", names.len(), time);
    move_refs(&shell, &refs(&shell), &before);
    let time = timed(|| {
        cmd!(shell, "git fast-import --quiet").stdin(&stream).quiet().run().unwrap();
    });
    tally.add("git fast-import, told what to change", before.len(), time);
}

/// Milliseconds for each branch, under what was timed, in the order in which it came.
#[derive(Default)]
struct Tally(Vec<(&'static str, Vec<f64>)>);

impl Tally {
    fn add(&mut self, what: &'static str, branches: usize, time: Duration) {
        let each = milliseconds(time) / branches as f64;
        match self.0.iter_mut().find(|(name, _)| *name == what) {
            Some((_, times)) => times.push(each),
            None => self.0.push((what, vec![each])),
        }
    }

    fn print(self, bench: &Bench) {
        let title = "every branch of a given repository";
        let mut group = Group::new(Section::Propagate, title, "ms per branch").with_budget(0.5);
        for (what, times) in self.0 {
            group = group.bar(what, &times);
            println!("  {what:<44} {:8.2} ms a branch", median(times));
        }
        bench.results.add(group);
    }
}

fn clone(bench: &Bench, given: &Path, name: &str) -> Shell {
    let dir = bench.root.join(name);
    let shell = bench.shell(&bench.root);
    cmd!(shell, "git clone --quiet --no-checkout {given} {dir}").quiet().run().unwrap();
    let shell = bench.shell(&dir);
    cmd!(shell, "git fetch --quiet origin +refs/heads/*:refs/heads/* --update-head-ok")
        .quiet()
        .run()
        .unwrap();
    cmd!(shell, "git checkout --quiet --force --detach main").quiet().run().unwrap();
    shell
}

fn refs(shell: &Shell) -> Refs {
    let format = "--format=%(refname:lstrip=2) %(objectname)";
    let lines = cmd!(shell, "git for-each-ref {format} refs/heads").quiet().read().unwrap();
    let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    lines.lines().filter_map(pair).collect()
}

/// Moves the branches that are in both, all at once.
fn move_refs(shell: &Shell, from: &Refs, to: &Refs) {
    let mut lines = String::new();
    for (name, old) in from {
        if let Some(new) = to.get(name).filter(|new| *new != old) {
            writeln!(lines, "update refs/heads/{name} {new} {old}").unwrap();
        }
    }
    cmd!(shell, "git update-ref --stdin").stdin(lines).quiet().run().unwrap();
}

/// So many branches, evenly spread.
fn some(refs: &Refs, wanted: usize) -> Vec<String> {
    let is_other = |name: &&String| !name.starts_with("orchestration-") && *name != "main";
    let names: Vec<&String> = refs.keys().filter(is_other).collect();
    let step = (names.len() / wanted).max(1);
    names.into_iter().step_by(step).take(wanted).cloned().collect()
}

fn git_diff(shell: &Shell, branch: &str) {
    let command = cmd!(shell, "git diff --name-only orchestration-tools {branch} --").quiet();
    command.ignore_stdout().run().unwrap();
}

/// One branch, checked out nowhere: `paths` as the canonical branch has them, in a commit.
fn plumbing(shell: &Shell, branch: &str, paths: &[String]) {
    let diff = cmd!(shell, "git diff-tree -r {branch} orchestration-tools -- {paths...}");
    let diff = diff.quiet().read().unwrap();
    let mut lines = String::new();
    // `:100644 100644 OLD NEW M⇥path`: the second mode, the second id and the path are wanted.
    for (fields, path) in diff.lines().filter_map(|line| line.split_once('\t')) {
        let fields: Vec<&str> = fields.split(' ').collect();
        writeln!(lines, "{} {}\t{path}", fields[1], fields[3]).unwrap();
    }
    if lines.is_empty() {
        return;
    }
    let index = shell.current_dir().join(".git/bench-index");
    let _guard = shell.push_env("GIT_INDEX_FILE", index);
    cmd!(shell, "git read-tree {branch}").quiet().run().unwrap();
    cmd!(shell, "git update-index --index-info").stdin(lines).quiet().run().unwrap();
    let tree = cmd!(shell, "git write-tree").quiet().read().unwrap();
    let commit = cmd!(shell, "git commit-tree -p {branch} -m synced {tree}").quiet();
    let commit = commit.read().unwrap();
    cmd!(shell, "git update-ref refs/heads/{branch} {commit}").quiet().run().unwrap();
}

/// The same the way a person does it.
fn checkout(shell: &Shell, branch: &str, paths: &[String]) {
    cmd!(shell, "git switch --quiet {branch}").quiet().run().unwrap();
    cmd!(shell, "git checkout --quiet orchestration-tools -- {paths...}").quiet().run().unwrap();
    // It fails where there is nothing to commit.
    let commit = cmd!(shell, "git commit --quiet -m synced").quiet().ignore_status();
    commit.ignore_stdout().run().unwrap();
}

/// What propagate would write, asked of it: the paths, and the stream that makes git do it.
fn the_same_changes(bench: &Bench, shell: &Shell) -> (Vec<String>, String) {
    let tree = cmd!(shell, "git ls-tree -r orchestration-tools").quiet().read().unwrap();
    let entries: BTreeMap<&str, Vec<&str>> = tree
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(fields, path)| (path, fields.split(' ').collect()))
        .collect();
    let xtask = bench.xtask;
    let answer = cmd!(shell, "{xtask} propagate --dry-run --json").quiet().read().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let (mut paths, mut stream) = (BTreeSet::new(), String::new());
    let rows = answer["branches"].as_array().unwrap();
    for row in rows.iter().filter(|row| row["action"] == "update") {
        let text = |key: &str| row[key].as_str().unwrap();
        writeln!(stream, "commit refs/heads/{}", text("branch")).unwrap();
        writeln!(stream, "committer A <a@example.invalid> 1700000000 +0000").unwrap();
        writeln!(stream, "data 6\nsynced\nfrom {}", text("old")).unwrap();
        for change in row["paths"].as_array().unwrap() {
            let path = change["path"].as_str().unwrap();
            match (change["action"].as_str().unwrap(), entries.get(path)) {
                ("update" | "create", Some(entry)) => {
                    writeln!(stream, "M {} {} {path}", entry[0], entry[2]).unwrap();
                    paths.insert(path.to_owned());
                }
                ("delete", _) => writeln!(stream, "D {path}").unwrap(),
                _ => {}
            }
        }
    }
    (paths.into_iter().collect(), stream)
}

/// How much there is of everything.
#[derive(Clone, Copy)]
struct Size {
    branches: usize,
    managed: usize,
    unmanaged: usize,
}

const USUAL: Size = Size { branches: 200, managed: 100, unmanaged: 1000 };

/// What came out: milliseconds for each branch, in each round.
struct Grown {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

pub fn growth(bench: &Bench) {
    let mut plot = String::from("propagate, milliseconds a branch; each █ is a quarter more\n");
    let mut row = |what: &str, sizes: &[usize], size: fn(usize) -> Size| {
        println!("  {what}");
        let title = format!("propagate, growth with the number of {what}");
        let mut group = Group::new(Section::Propagate, &title, "ms per branch");
        for number in sizes {
            let name = format!("{what}-{number}").replace(' ', "-");
            let grown = grow(bench, &name, *number, size(*number));
            group = group.bar(&format!("xtask, {number}"), &grown.ours);
            group = group.bar(&format!("git plumbing, {number}"), &grown.theirs);
            writeln!(plot, "{number:>9} {what:<15} xtask {}", bar(median(grown.ours))).unwrap();
            writeln!(plot, "{:>25} git   {}", "", bar(median(grown.theirs))).unwrap();
        }
        bench.results.add(group);
    };
    row("branches", &[50, 200, 800, 3200], |branches| Size { branches, ..USUAL });
    row("managed files", &[10, 100, 1000, 10_000], |managed| Size { managed, ..USUAL });
    row("unmanaged files", &[1000, 10_000, 100_000, 1_000_000], |unmanaged| Size {
        unmanaged,
        ..USUAL
    });
    println!("\n{plot}");
}

/// A number, and a bar that grows with its logarithm, from a tenth of a millisecond.
fn bar(number: f64) -> String {
    let length = ((number / 0.1).ln() / 1.25_f64.ln()).round().max(1.0);
    format!("{number:8.2} {}", "█".repeat(length as usize))
}

/// Every branch has a commit of its own, and one managed file that is behind.
fn grow(bench: &Bench, name: &str, number: usize, size: Size) -> Grown {
    let Size { branches, managed, unmanaged } = size;
    let who = "committer A <a@example.invalid> 1700000000 +0000";
    let mut more = format!(
        "commit refs/heads/orchestration-tools\n{who}\ndata 5\nnewer\nfrom refs/heads/main\n\
         M 100644 inline setup/d000/f00000\ndata 6\nnewer\n\n"
    );
    for number in 0..branches {
        write!(
            more,
            "commit refs/heads/b{number:05}\n{who}\ndata 4\nown\nfrom refs/heads/main\n\
             M 100644 :1 src/d{:03}/own{number}\n\n",
            number % 500
        )
        .unwrap();
    }
    let shell = bench.history(name, managed, unmanaged, &more);
    cmd!(shell, "git update-ref --no-deref HEAD main").quiet().run().unwrap();
    cmd!(shell, "git branch --quiet -D main feature").quiet().run().unwrap();
    let before = refs(&shell);
    let (first, memory) = with_memory(bench, &shell);
    let after = refs(&shell);
    let stayed = before.iter().filter(|(name, commit)| after[*name] == **commit).count();
    assert_eq!(stayed, 1, "only the canonical branch stays where it is");
    let (mut ours, mut looks, mut moves) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        moves.push(milliseconds(timed(|| move_refs(&shell, &after, &before))));
        looks.push(milliseconds(bench.xtask(&shell, &["propagate", "--dry-run"])));
        ours.push(milliseconds(bench.xtask(&shell, &["propagate"])));
    }
    move_refs(&shell, &after, &before);
    let paths = ["setup".to_owned()];
    let time = |name: &String| milliseconds(timed(|| plumbing(&shell, name, &paths)));
    let theirs: Vec<f64> = some(&before, SMALL_SAMPLE).iter().map(time).collect();
    let (time, look, moved) = (median(ours.clone()), median(looks), median(moves));
    let memory = memory.map_or(String::new(), |kib| format!("   {:.0} MB", kib / 1024.0));
    println!(
        "  {number:>9}: {time:8.1} ms (first {:.1}, --dry-run {look:.1}, git update-ref {moved:.1})   \
         a branch {:.2} ms   git plumbing {:.2} ms{memory}",
        milliseconds(first),
        time / branches as f64,
        median(theirs.clone())
    );
    Grown { ours: ours.iter().map(|time| time / branches as f64).collect(), theirs }
}

/// The first run, and the most memory that it had at once in KiB, where a program can tell.
fn with_memory(bench: &Bench, shell: &Shell) -> (Duration, Option<f64>) {
    let xtask = bench.xtask;
    let Some(time) = find("time") else { return (bench.xtask(shell, &["propagate"]), None) };
    let mut said = String::new();
    let first = timed(|| {
        let command = cmd!(shell, "{time} -f %M {xtask} propagate").quiet().ignore_status();
        said = command.ignore_stdout().read_stderr().unwrap();
    });
    (first, said.lines().last().and_then(|line| line.trim().parse().ok()))
}
