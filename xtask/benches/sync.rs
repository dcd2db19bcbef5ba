//! What sync costs, with git itself on the other side: `cargo xbench`.
//!
//! Each row times whole processes, ours and git's in turn, and prints both medians and the median
//! of the ratios pair by pair: on a machine that is doing other things, too, the ratio is what can
//! be compared. Nothing fails by being slow. `cargo xbench -- NAME` runs the rows whose name holds
//! NAME; `cargo xbench -- --fleet DIR` adds the survey of every branch of a bare repository.
#![expect(clippy::disallowed_methods, reason = "a benchmark makes its scenes itself")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its answer")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xshell::{Shell, cmd};

/// How often each side is timed. Odd, so that the median is one of them.
const ROUNDS: usize = 15;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let fleet = args.iter().position(|arg| arg == "--fleet").map(|at| PathBuf::from(&args[at + 1]));
    let wanted: Vec<&String> =
        args.iter().filter(|arg| !arg.starts_with("--") && !Path::new(arg).exists()).collect();
    let bench = Bench::new();
    let rows: [(&str, Row); 5] = [
        ("start: nothing to do in a small repository", small),
        ("check: 10,000 managed files, nothing changed", check),
        ("write: 1,000 files and a commit", write),
        ("unmanaged: growth with files that are not managed", unmanaged),
        ("branches: status --all", branches),
    ];
    for (name, run) in rows {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            println!("\n{name}");
            run(&bench);
        }
    }
    if let Some(fleet) = fleet {
        println!("\nfleet: status --all of {}", fleet.display());
        bench.fleet(&fleet);
    }
}

/// One row: makes its scene, times both sides, prints.
type Row = fn(&Bench);

struct Bench {
    root: PathBuf,
    xtask: &'static str,
}

impl Bench {
    fn new() -> Bench {
        let root = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("gitconfig"), "[user]\nname = Ada\nemail = a@example.invalid\n")
            .unwrap();
        Bench { root, xtask: env!("CARGO_BIN_EXE_xtask") }
    }

    fn shell(&self, dir: &Path) -> Shell {
        let shell = Shell::new().unwrap();
        shell.change_dir(dir);
        shell.set_var("GIT_CONFIG_GLOBAL", self.root.join("gitconfig"));
        shell.set_var("GIT_CONFIG_NOSYSTEM", "1");
        shell
    }

    /// A repository with so many managed and other files, canonical and `feature` at one commit.
    fn repo(&self, name: &str, managed: usize, unmanaged: usize) -> Shell {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).unwrap();
        let shell = self.shell(&dir);
        cmd!(shell, "git init --quiet -b main").quiet().run().unwrap();
        // Through fast-import: a million files are made in seconds, and only the managed ones
        // need to be on disk.
        let mut stream = String::from("blob\nmark :1\ndata 6\nother\n\n");
        for number in 0..managed {
            let text = format!("# {number}\n").repeat(20);
            write!(stream, "blob\nmark :{}\ndata {}\n{text}\n", number + 2, text.len()).unwrap();
        }
        stream
            .push_str("commit refs/heads/main\ncommitter A <a@example.invalid> 1700000000 +0000\n");
        stream.push_str("data 5\nfirst\n");
        for number in 0..managed {
            let mark = number + 2;
            writeln!(stream, "M 100644 :{mark} setup/d{:03}/f{number:05}", number % 100).unwrap();
        }
        for number in 0..unmanaged {
            writeln!(
                stream,
                "M 100644 :1 src/d{:03}/e{:02}/f{number:07}",
                number % 500,
                number % 37
            )
            .unwrap();
        }
        stream.push_str("\nreset refs/heads/orchestration-tools\nfrom refs/heads/main\n\n");
        stream.push_str("reset refs/heads/feature\nfrom refs/heads/main\n\n");
        cmd!(shell, "git fast-import --quiet").stdin(&stream).quiet().run().unwrap();
        cmd!(shell, "git symbolic-ref HEAD refs/heads/feature").quiet().run().unwrap();
        if unmanaged > 100_000 {
            // Only the index knows them; writing a million files would measure the disk.
            cmd!(shell, "git sparse-checkout set --no-cone /setup/").quiet().run().unwrap();
        }
        cmd!(shell, "git reset --quiet --hard").quiet().run().unwrap();
        settle(&shell);
        shell
    }

    fn xtask(&self, shell: &Shell, args: &[&str]) -> Duration {
        let xtask = self.xtask;
        timed(|| {
            let command = cmd!(shell, "{xtask} {args...}").quiet().ignore_status();
            command.ignore_stdout().ignore_stderr().run().unwrap();
        })
    }

    /// The repository that is given, with a linked worktree of it as the place to start from.
    fn fleet(&self, fleet: &Path) {
        let dir = self.root.join("fleet");
        let shell = self.shell(&self.root);
        cmd!(shell, "git clone --quiet --no-checkout {fleet} {dir}").quiet().run().unwrap();
        let shell = self.shell(&dir);
        cmd!(shell, "git fetch --quiet origin +refs/heads/*:refs/heads/* --update-head-ok")
            .quiet()
            .run()
            .unwrap();
        cmd!(shell, "git checkout --quiet --force --detach main").quiet().run().unwrap();
        let names = cmd!(shell, "git for-each-ref --format=%(refname) refs/heads").quiet();
        let names: Vec<String> = names.read().unwrap().lines().map(str::to_owned).collect();
        let rounds = 5;
        let pairs = (0..rounds).map(|_| {
            let ours = self.xtask(&shell, &["status", "--all"]);
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
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

/// Lets the files become older than the index, so that git need not read them again either.
fn settle(shell: &Shell) {
    std::thread::sleep(Duration::from_millis(1100));
    // Of git's commands it is `status` that writes the index again for this reason alone.
    cmd!(shell, "git status --porcelain").quiet().ignore_stdout().run().unwrap();
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn report(pairs: Vec<(Duration, Duration)>, other: &str) {
    let ours = median(pairs.iter().map(|(ours, _)| milliseconds(*ours)).collect());
    let theirs = median(pairs.iter().map(|(_, theirs)| milliseconds(*theirs)).collect());
    let ratio = pairs.iter().map(|(o, t)| o.as_secs_f64() / t.as_secs_f64()).collect();
    println!("  xtask {ours:8.1} ms   {other} {theirs:8.1} ms   ratio {:.2}", median(ratio));
}

fn small(bench: &Bench) {
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

fn check(bench: &Bench) {
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

fn write(bench: &Bench) {
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

fn unmanaged(bench: &Bench) {
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

fn branches(bench: &Bench) {
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
