//! What sync costs, with git itself on the other side.

use std::fs::{self, File};
use std::path::PathBuf;

use rustix::fs::AtFlags;
use xshell::cmd;

use crate::kit::{Bench, Comparison, ROUNDS, report, settle, timed};
use crate::plot::Section;

/// What sync is compared with, in a group of its plot.
fn compared<'a>(title: &'a str, other: &'a str, budget: Option<f64>) -> Comparison<'a> {
    Comparison { section: Section::Sync, title, ours: "xtask", other, budget }
}

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
    let what = compared("nothing to do, 65 managed files", "git status", None);
    report(bench, &what, pairs.collect());
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
    let title = "sync --check, 10,000 managed files, nothing changed";
    report(bench, &compared(title, "git diff --quiet", Some(0.5)), pairs.collect());
    let pairs = (0..ROUNDS).map(|_| {
        let ours = timed(|| look_at_each(shell.current_dir().join("setup")));
        let theirs = timed(|| {
            let command = cmd!(shell, "git diff --quiet orchestration-tools -- setup");
            command.quiet().ignore_status().run().unwrap();
        });
        (ours, theirs)
    });
    println!(
        "the looks alone, by two threads and without a program to start, in the place of xtask:"
    );
    let title = "the same 10,000 file checks by two threads, without a program";
    let what = Comparison { ours: "two threads", ..compared(title, "git diff --quiet", None) };
    report(bench, &what, pairs.collect());
}

/// Asks the system for size and times of all files in the folders of a folder, each once: no program that
/// looks at each file can be quicker.
fn look_at_each(folder: PathBuf) {
    let folders: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|at| at.unwrap().path()).collect();
    let look = |folders: &[PathBuf]| {
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            let opened = File::open(folder).unwrap();
            for file in fs::read_dir(folder).unwrap() {
                let name = file.unwrap().file_name();
                rustix::fs::statat(&opened, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            }
        }
    };
    let (one, two) = folders.split_at(folders.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| look(two));
        look(one);
    });
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
    let title = "sync that writes 1,000 files and commits";
    let what = compared(title, "git checkout, commit", Some(1.5));
    report(bench, &what, pairs.collect());
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
        let title = format!("sync --check, {count} unmanaged files");
        report(bench, &compared(&title, "git diff --quiet", None), pairs.collect());
    }
}
