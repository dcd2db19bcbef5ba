//! What hooks add to git's own commands: ours, none, an empty script, and those of the managers that
//! are installed, each with one job that does nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use xshell::{Shell, cmd};

use crate::kit::{Bench, find, median, milliseconds, timed};
use crate::plot::{Group, Section};

/// How often each is timed.
const ROUNDS: usize = 31;

/// The hooks that every contender has.
const HOOKS: [&str; 3] = ["post-checkout", "pre-commit", "pre-push"];

/// Somebody who installs hooks into a repository, if installed itself.
struct Contender {
    name: &'static str,
    install: fn(&Bench, &Shell) -> Option<()>,
}

const CONTENDERS: [Contender; 7] = [
    Contender { name: "none", install: |_, _| Some(()) },
    Contender { name: "empty sh", install: empty },
    Contender { name: "xtask", install: xtask },
    Contender { name: "husky", install: husky },
    Contender { name: "lefthook", install: lefthook },
    Contender { name: "prek", install: |_, shell| python(shell, "prek") },
    Contender { name: "pre-commit", install: |_, shell| python(shell, "pre-commit") },
];

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn empty(_: &Bench, shell: &Shell) -> Option<()> {
    for hook in HOOKS {
        script(&shell.current_dir().join(".git/hooks").join(hook), "#!/bin/sh\n");
    }
    Some(())
}

fn xtask(bench: &Bench, shell: &Shell) -> Option<()> {
    let xtask = bench.xtask;
    cmd!(shell, "{xtask} install-hooks --this-program").quiet().ignore_stdout().run().ok()
}

fn husky(_: &Bench, shell: &Shell) -> Option<()> {
    let husky = find("husky")?;
    cmd!(shell, "{husky}").quiet().ignore_stdout().run().ok()?;
    for hook in HOOKS {
        script(&shell.current_dir().join(".husky").join(hook), "true\n");
    }
    Some(())
}

fn lefthook(_: &Bench, shell: &Shell) -> Option<()> {
    let lefthook = find("lefthook")?;
    let jobs = HOOKS.map(|hook| format!("{hook}:\n  commands:\n    nothing:\n      run: 'true'\n"));
    fs::write(shell.current_dir().join("lefthook.yml"), jobs.concat()).unwrap();
    cmd!(shell, "{lefthook} install").quiet().ignore_stdout().ignore_stderr().run().ok()
}

/// `pre-commit`, and `prek`, which reads the same file.
fn python(shell: &Shell, program: &str) -> Option<()> {
    let program = find(program)?;
    fs::write(
        shell.current_dir().join(".pre-commit-config.yaml"),
        "repos:\n- repo: local\n  hooks:\n  - id: nothing\n    name: nothing\n    entry: 'true'\n    \
         language: system\n    always_run: true\n    pass_filenames: false\n    \
         stages: [post-checkout, pre-commit, pre-push]\n",
    )
    .unwrap();
    let types = HOOKS.iter().flat_map(|hook| ["--hook-type", *hook]);
    cmd!(shell, "{program} install {types...}").quiet().ignore_stdout().ignore_stderr().run().ok()
}

/// Those that are installed, each with a repository, and a line about each of the others.
struct Ready {
    sides: Vec<(&'static str, Shell)>,
    left_out: Vec<String>,
}

/// What is timed: a word, the title of its plot, and the budget in milliseconds.
struct Timed<'a> {
    what: &'a str,
    title: &'a str,
    budget: Option<f64>,
}

/// A repository for each contender that is installed.
fn contenders(bench: &Bench, name: &str, managed: usize) -> Ready {
    let (mut ready, mut left_out) = (Vec::new(), Vec::new());
    for Contender { name: who, install } in CONTENDERS {
        let shell = bench.repo(&format!("hooks-{name}-{who}").replace(' ', "-"), managed, 600);
        cmd!(shell, "git branch other").quiet().run().unwrap();
        let exclude = shell.current_dir().join(".git/info/exclude");
        fs::create_dir_all(exclude.parent().unwrap()).unwrap();
        fs::write(exclude, "/.husky\n/lefthook.yml\n/.pre-commit-config.yaml\n").unwrap();
        match install(bench, &shell) {
            Some(()) => ready.push((who, shell)),
            None => {
                println!("  {who} is not installed, and was left out");
                left_out.push(format!("{who} is not installed"));
            }
        }
    }
    Ready { sides: ready, left_out }
}

/// Times one thing for all of them in turn, and prints what each adds to none at all.
fn compare(
    bench: &Bench,
    timed: &Timed<'_>,
    ready: &Ready,
    run: impl Fn(&Shell, usize) -> Duration,
) {
    let (what, contenders) = (timed.what, &ready.sides);
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..ROUNDS {
        for (times, (_, shell)) in times.iter_mut().zip(contenders) {
            times.push(milliseconds(run(shell, round)));
        }
    }
    let none = times[0].clone();
    let mut group = Group::new(Section::Hooks, timed.title, "ms added").without(&ready.left_out);
    for (times, (name, _)) in times.iter().zip(contenders) {
        let added: Vec<f64> = times.iter().zip(&none).map(|(time, none)| time - none).collect();
        if *name != "none" {
            group = group.bar(name, &added);
        }
        let (time, added) = (median(times.clone()), median(added));
        println!("  {what:<9} {name:<11} {time:8.1} ms   added {added:+8.1} ms");
    }
    bench.results.add(match timed.budget {
        Some(budget) => group.with_budget(budget),
        None => group,
    });
}

fn checkout(bench: &Bench, managed: usize, title: &str, budget: f64) {
    let contenders = contenders(bench, &managed.to_string(), managed);
    let what = Timed { what: "checkout", title, budget: Some(budget) };
    compare(bench, &what, &contenders, |shell, round| {
        let branch = ["other", "feature"][round % 2];
        timed(|| {
            let command = cmd!(shell, "git checkout --quiet {branch} --").quiet();
            command.ignore_stdout().ignore_stderr().run().unwrap();
        })
    });
}

pub fn checkout_of_few(bench: &Bench) {
    checkout(bench, 65, "git checkout, 65 managed files", 4.0);
}

pub fn checkout_of_many(bench: &Bench) {
    checkout(bench, 10_000, "git checkout, 10,000 managed files", 8.0);
}

pub fn commit_and_push(bench: &Bench) {
    let contenders = contenders(bench, "commit", 65);
    for (name, shell) in &contenders.sides {
        let hub = bench.root.join(format!("hub-{name}").replace(' ', "-"));
        cmd!(shell, "git init --quiet --bare {hub}").quiet().run().unwrap();
        cmd!(shell, "git remote add origin {hub}").quiet().run().unwrap();
        let push = cmd!(shell, "git push --quiet --no-verify origin main orchestration-tools");
        push.quiet().run().unwrap();
    }
    let what = Timed { what: "commit", title: "git commit", budget: None };
    compare(bench, &what, &contenders, |shell, round| {
        let file = shell.current_dir().join("src/d000/e00/f0000000");
        fs::write(file, format!("{round}\n")).unwrap();
        timed(|| {
            let command = cmd!(shell, "git commit --quiet -a -m change").quiet();
            command.ignore_stdout().ignore_stderr().run().unwrap();
        })
    });
    let what = Timed { what: "push", title: "git push", budget: None };
    compare(bench, &what, &contenders, |shell, _| {
        cmd!(shell, "git commit --quiet --no-verify --allow-empty -m more").quiet().run().unwrap();
        timed(|| {
            let command = cmd!(shell, "git push --quiet origin feature").quiet();
            command.ignore_stdout().ignore_stderr().run().unwrap();
        })
    });
}
