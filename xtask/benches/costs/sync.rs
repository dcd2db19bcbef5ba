//! What sync costs, with git itself on the other side.

use std::fs;
use std::path::Path;

use xshell::cmd;

use crate::kit::{Bench, ROUNDS, report, settle, timed};

pub fn small(bench: &Bench) {
    let shell = bench.repo("small", 65, 600);
    bench.xtask(&shell, &["sync"]);
    let pairs = (0..ROUNDS).map(|_| {
        let ours = bench.xtask(&shell, &["sync", "--check"]);
        let theirs = timed(|| {
            cmd!(shell, "git status --porcelain").quiet().ignore_stdout().run().unwrap();
        });
        (ours, theirs)
    });
    report(pairs.collect(), "git status");
}

pub fn check(bench: &Bench) {
    let shell = bench.repo("check", 10_000, 1000);
    bench.xtask(&shell, &["sync"]);
    let pairs = (0..ROUNDS).map(|_| {
        let ours = bench.xtask(&shell, &["sync", "--check"]);
        let theirs = timed(|| {
            let command = cmd!(shell, "git diff --quiet orchestration-tools -- setup");
            command.quiet().ignore_status().run().unwrap();
        });
        (ours, theirs)
    });
    report(pairs.collect(), "git diff --quiet");
}

pub fn write(bench: &Bench) {
    let shell = bench.repo("write", 1000, 5000);
    cmd!(shell, "git switch --quiet orchestration-tools").quiet().run().unwrap();
    for number in 0..1000 {
        let path = shell.current_dir().join(format!("setup/d{:03}/f{number:05}", number % 100));
        fs::write(path, format!("# changed {number}\n").repeat(20)).unwrap();
    }
    cmd!(shell, "git commit --quiet -a -m changed").quiet().run().unwrap();
    let reset = || {
        cmd!(shell, "git switch --quiet --force-create feature main").quiet().run().unwrap();
        settle(&shell);
    };
    let pairs = (0..ROUNDS).map(|_| {
        reset();
        let ours = bench.xtask(&shell, &["sync"]);
        reset();
        let theirs = timed(|| {
            let checkout = cmd!(shell, "git checkout --quiet orchestration-tools -- setup");
            checkout.quiet().run().unwrap();
            cmd!(shell, "git commit --quiet -m synced").quiet().run().unwrap();
        });
        (ours, theirs)
    });
    report(pairs.collect(), "git checkout && git commit");
}

pub fn unmanaged(bench: &Bench) {
    for count in [1000, 10_000, 100_000, 1_000_000] {
        let shell = bench.repo(&format!("unmanaged-{count}"), 65, count);
        bench.xtask(&shell, &["sync"]);
        print!("{count:>9} unmanaged files:");
        let pairs = (0..ROUNDS).map(|_| {
            let ours = bench.xtask(&shell, &["sync", "--check"]);
            let theirs = timed(|| {
                let command = cmd!(shell, "git diff --quiet orchestration-tools -- setup");
                command.quiet().ignore_status().run().unwrap();
            });
            (ours, theirs)
        });
        report(pairs.collect(), "git diff --quiet");
    }
}

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
    let pairs = (0..5).map(|_| {
        let ours = bench.xtask(&shell, &["status", "--all"]);
        let theirs = timed(|| {
            for name in &names {
                let command = cmd!(shell, "git diff --name-only orchestration-tools {name}");
                command.quiet().ignore_stdout().run().unwrap();
            }
        });
        (ours, theirs)
    });
    report(pairs.collect(), "git diff, 200 times");
}

/// The repository that is given, with a linked worktree of it as the place to start from.
pub fn fleet(bench: &Bench, fleet: &Path) {
    let dir = bench.root.join("fleet");
    let shell = bench.shell(&bench.root);
    cmd!(shell, "git clone --quiet --no-checkout {fleet} {dir}").quiet().run().unwrap();
    let shell = bench.shell(&dir);
    cmd!(shell, "git fetch --quiet origin +refs/heads/*:refs/heads/* --update-head-ok")
        .quiet()
        .run()
        .unwrap();
    cmd!(shell, "git checkout --quiet --force --detach main").quiet().run().unwrap();
    let names = cmd!(shell, "git for-each-ref --format=%(refname) refs/heads").quiet();
    let names: Vec<String> = names.read().unwrap().lines().map(str::to_owned).collect();
    let rounds = 5;
    let pairs = (0..rounds).map(|_| {
        let ours = bench.xtask(&shell, &["status", "--all"]);
        let theirs = timed(|| {
            for name in &names {
                let command = cmd!(shell, "git diff --name-only orchestration-tools {name}");
                command.quiet().ignore_stdout().run().unwrap();
            }
        });
        (ours, theirs)
    });
    report(pairs.collect(), &format!("git diff, {} times", names.len()));
}
