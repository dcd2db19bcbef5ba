//! What every row needs: a repository of any size, the program, and a clock.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xshell::{Shell, cmd};

use crate::plot::{Group, Section};
use crate::results::Results;

/// How often each side is timed. Odd, so that the median is one of them.
pub const ROUNDS: usize = 15;

/// One row: makes its scene, times both sides, prints.
pub type Row = fn(&Bench);

/// The folder in which everything happens, and the program.
pub struct Bench {
    pub root: PathBuf,
    pub xtask: &'static str,
    pub results: Results,
}

impl Bench {
    pub fn new(results: Results) -> Bench {
        let root = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("gitconfig"), "[user]\nname = Ada\nemail = a@example.invalid\n")
            .unwrap();
        Bench { root, xtask: env!("CARGO_BIN_EXE_xtask"), results }
    }

    pub fn shell(&self, dir: &Path) -> Shell {
        let shell = Shell::new().unwrap();
        shell.change_dir(dir);
        shell.set_var("GIT_CONFIG_GLOBAL", self.root.join("gitconfig"));
        shell.set_var("GIT_CONFIG_NOSYSTEM", "1");
        shell
    }

    /// A repository with so many managed and other files, canonical and `feature` at one commit.
    pub fn repo(&self, name: &str, managed: usize, unmanaged: usize) -> Shell {
        let shell = self.history(name, managed, unmanaged, "");
        cmd!(shell, "git symbolic-ref HEAD refs/heads/feature").quiet().run().unwrap();
        if unmanaged > 100_000 {
            // Only the index knows them; writing a million files would measure the disk.
            cmd!(shell, "git sparse-checkout set --no-cone /setup/").quiet().run().unwrap();
        }
        cmd!(shell, "git reset --quiet --hard").quiet().run().unwrap();
        settle(&shell);
        shell
    }

    /// The same with nothing checked out; `more` is what fast-import makes after it.
    pub fn history(&self, name: &str, managed: usize, unmanaged: usize, more: &str) -> Shell {
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
        stream.push_str(more);
        cmd!(shell, "git fast-import --quiet").stdin(&stream).quiet().run().unwrap();
        shell
    }

    pub fn xtask(&self, shell: &Shell, args: &[&str]) -> Duration {
        let xtask = self.xtask;
        timed(|| {
            let command = cmd!(shell, "{xtask} {args...}").quiet().ignore_status();
            command.ignore_stdout().ignore_stderr().run().unwrap();
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

/// Lets the files become older than the index, so that git need not read them again either.
pub fn settle(shell: &Shell) {
    std::thread::sleep(Duration::from_millis(1100));
    // Of git's commands it is `status` that writes the index again for this reason alone.
    cmd!(shell, "git status --porcelain").quiet().ignore_stdout().run().unwrap();
}

/// Where a program is, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Who is compared in pairs, and what about: ours, the other, the section and title of the plot, and the budget as a
/// ratio.
pub struct Comparison<'a> {
    pub section: Section,
    pub title: &'a str,
    pub ours: &'a str,
    pub other: &'a str,
    pub budget: Option<f64>,
}

/// Prints what two sides took in turn, and keeps it.
pub fn report(bench: &Bench, comparison: &Comparison<'_>, pairs: Vec<(Duration, Duration)>) {
    let Comparison { section, title, ours: us, other, budget } = *comparison;
    let all_of = |side: fn(&(Duration, Duration)) -> Duration| -> Vec<f64> {
        pairs.iter().map(|pair| milliseconds(side(pair))).collect()
    };
    let (all_ours, all_theirs) = (all_of(|pair| pair.0), all_of(|pair| pair.1));
    let (ours, theirs) = (median(all_ours.clone()), median(all_theirs.clone()));
    let group = Group::new(section, title, "ms").bar(us, &all_ours).bar(other, &all_theirs);
    bench.results.add(match budget {
        Some(budget) => group.with_budget(budget * theirs),
        None => group,
    });
    let ratio = pairs.iter().map(|(o, t)| o.as_secs_f64() / t.as_secs_f64()).collect();
    println!("  xtask {ours:8.1} ms   {other} {theirs:8.1} ms   ratio {:.2}", median(ratio));
}
