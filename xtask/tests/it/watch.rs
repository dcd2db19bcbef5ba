//! `validate --watch`: what runs when files change, and that nothing is left when it ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use xtask_config::VALIDATE_FILE;

use crate::testkit::{Lab, Place, program, spawn};

/// The longest wait for a line that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `validate --watch`.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    /// Starts it, and waits for the end of its first run.
    fn start(repo: &Place<'_>, args: &[&str]) -> Watching {
        let mut command = Command::new(program());
        command.args(["validate", "--watch"]).args(args).current_dir(&repo.dir);
        for (name, value) in repo.environment() {
            command.env(name, value);
        }
        let mut child =
            spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
                .unwrap();
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let other = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| drop(sender.send(line)))
        });
        std::thread::spawn(move || {
            BufReader::new(err)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| drop(other.send(line)))
        });
        let mut watching = Watching { child, lines };
        watching.until(|line| line.contains("healthy") || line.starts_with("error"));
        watching
    }

    /// Returns the lines up to the first one that is meant.
    fn until(&mut self, is_meant: impl Fn(&str) -> bool) -> String {
        let mut all = String::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("after {all}"));
            all.push_str(&line);
            all.push('\n');
            if is_meant(&line) {
                return all;
            }
        }
    }

    /// Returns what a run prints.
    fn next_run(&mut self) -> String {
        self.until(|line| line.contains("healthy"))
    }

    /// Presses Ctrl-C, and returns the exit code and what was still said.
    fn end(mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, self.lines.iter().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Watching {
    /// A test that fails leaves nobody watching.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn what_a_change_affects_runs_and_the_rest_stays() {
    let checks = "[[check]]\nname = 'text'\nrun = 'cat {files}'\nfiles = ['*.txt']\n\
        [[check]]\nname = 'good'\nrun = 'sh -c \"! grep -rq bad src\"'\ninputs = ['src/**']\n\
        [[check]]\nname = 'git'\ntool = 'git'\n";
    let lab = Lab::new();
    let repo = lab.repo_with(
        "repo",
        &[
            (VALIDATE_FILE, checks),
            ("a.txt", "a\n"),
            ("src/a.rs", "a\n"),
            (".gitignore", "target/\n"),
        ],
    );
    repo.write("target/out.txt", "x");
    let mut watching = Watching::start(&repo, &[]);
    repo.write("src/a.rs", "bad\n");
    let run = watching.next_run();
    assert!(run.contains("changed: `src/a.rs`") && run.contains("FAILED    good"), "{run}");
    assert!(!run.contains("  text") && !run.contains("  git"), "{run}");
    assert!(run.contains("not healthy: 1 of 3 checks failed: `good`"), "{run}");
    // What failed stays failed while something else changes.
    repo.write("target/out.txt", "ignored");
    repo.write("a.txt", "b\n");
    let run = watching.next_run();
    assert!(run.contains("changed: `a.txt`") && run.contains("passed    text"), "{run}");
    assert!(run.contains("not healthy: 1 of 3 checks failed: `good`"), "{run}");
    // A file in a new folder, and one that is moved away with its folder.
    repo.write("src/new/deep/b.rs", "fine\n");
    repo.write("src/a.rs", "good\n");
    let run = watching.until(|line| line.starts_with("healthy"));
    assert!(run.contains("`src/"), "{run}");
    repo.write("src/new/deep/b.rs", "bad\n");
    let run = watching.next_run();
    assert!(
        run.contains("changed: `src/new/deep/b.rs`") && run.contains("FAILED    good"),
        "{run}"
    );
    std::fs::rename(repo.dir.join("src/new"), repo.dir.join("elsewhere")).unwrap();
    watching.until(|line| line.starts_with("healthy"));
    // A configuration with a fault is said, and the next good one counts.
    repo.write(VALIDATE_FILE, "[[check]]\n");
    watching.until(|line| line.contains("fault"));
    repo.write(VALIDATE_FILE, "[[check]]\nname = 'one'\nrun = 'true'\n");
    let run = watching.next_run();
    assert!(run.contains("healthy: 1 check"), "{run}");
    let (code, rest) = watching.end();
    assert_eq!(code, Some(130));
    assert!(rest.contains("stopped watching"), "{rest}");
}

#[test]
fn a_check_that_writes_its_own_inputs_does_not_run_for_ever() {
    let checks = "[[check]]\nname = 'stamp'\nrun = 'date +%N > stamp.txt; echo run >> ../runs'\nshell = true\ninputs = ['*.txt']\n";
    let lab = Lab::new();
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, checks), ("a.txt", "a\n")]);
    let mut watching = Watching::start(&repo, &[]);
    watching.until(|line| line.contains("the checks write `stamp.txt` each time they run"));
    let (code, _) = watching.end();
    assert_eq!(code, Some(130));
    let runs = std::fs::read_to_string(lab.path("runs")).unwrap().lines().count();
    assert!((3..=5).contains(&runs), "{runs}");
}

#[test]
fn checks_that_move_folders_do_not_run_for_ever() {
    let checks = "[[check]]\nname = 'stamp'\nrun = 'mkdir -p one; mv one two; rmdir two; echo run >> ../runs'\n\
        shell = true\ninputs = ['*.txt']\n";
    let lab = Lab::new();
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, checks), ("a.txt", "a\n")]);
    let mut watching = Watching::start(&repo, &[]);
    watching.until(|line| line.contains("each time they run"));
    let (code, _) = watching.end();
    assert_eq!(code, Some(130));
    let runs = std::fs::read_to_string(lab.path("runs")).unwrap().lines().count();
    assert!((3..=5).contains(&runs), "{runs}");
}

#[test]
fn what_a_check_reads_behind_a_link_or_names_is_seen() {
    let checks = "[[check]]\nname = 'script'\nrun = './lint.sh'\ninputs = ['a.txt']\ntools = ['./lint.sh']\n\
        [[check]]\nname = 'linked'\nrun = 'grep -q fine web/common/a.txt'\ninputs = ['web/**']\n\
        [[check]]\nname = 'there'\nfile = 'there.txt'\n\
        [[check]]\nname = 'given'\nrun = 'cat {files}'\nfiles = ['*.py']\ninputs = ['a.txt']\n";
    let lab = Lab::new();
    let repo = lab.repo_with(
        "repo",
        &[
            (VALIDATE_FILE, checks),
            ("a.txt", "a\n"),
            ("common/a.txt", "fine\n"),
            ("there.txt", "a\n"),
            ("b.py", "a\n"),
        ],
    );
    repo.write("lint.sh", "#!/bin/sh\n");
    repo.make_executable("lint.sh");
    std::fs::create_dir(repo.dir.join("web")).unwrap();
    std::os::unix::fs::symlink("../common", repo.dir.join("web/common")).unwrap();
    repo.git(&["add", "-A"]);
    let mut watching = Watching::start(&repo, &[]);
    let mut failing = |file: &str, content: Option<&str>, expected: &str| {
        match content {
            Some(content) => repo.write(file, content),
            None => std::fs::remove_file(repo.dir.join(file)).unwrap(),
        }
        let run = watching.next_run();
        assert!(run.contains(&format!("{expected} (")), "{file}: {run}");
    };
    failing("lint.sh", Some("#!/bin/sh\nexit 1\n"), "checks failed: `script`");
    failing("common/a.txt", Some("other\n"), "checks failed: `script`, `linked`");
    failing("there.txt", None, "checks failed: `script`, `linked`, `there`");
    // A rule by which git ignores a file that it does not track takes it from the check.
    repo.git(&["rm", "-q", "--cached", "b.py"]);
    repo.write(".gitignore", "*.py\n");
    watching.until(|line| line.contains("given") && line.contains("no file is one of"));
    let (code, _) = watching.end();
    assert_eq!(code, Some(130));
}

#[test]
fn a_file_that_is_saved_during_each_run_is_looked_at_in_the_end() {
    let checks = "[[check]]\nname = 'slow'\nrun = 'grep -q good a.txt; good=$?; echo run >> ../runs; sleep 0.5; exit $good'\n\
        shell = true\ninputs = ['*.txt']\n";
    let lab = Lab::new();
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, checks), ("a.txt", "good\n")]);
    let runs = || std::fs::read_to_string(lab.path("runs")).unwrap_or_default().lines().count();
    let mut watching = None;
    std::thread::scope(|scope| {
        let started = scope.spawn(|| Watching::start(&repo, &[]));
        for (number, text) in ["good 1\n", "good 2\n", "bad\n"].into_iter().enumerate() {
            while runs() <= number {
                std::thread::sleep(Duration::from_millis(5));
            }
            repo.write("a.txt", text);
        }
        watching = Some(started.join().unwrap());
    });
    let mut watching = watching.unwrap();
    let all = watching.until(|line| line.starts_with("not healthy"));
    assert!(!all.contains("each time they run"), "{all}");
    assert_eq!(watching.end().0, Some(130));
}

#[test]
fn ctrl_c_ends_a_running_check_too() {
    let checks = "[[check]]\nname = 'slow'\nrun = 'sh -c \"echo begun > ../begun; exec sleep 1000\"'\ninputs = ['b.txt']\n\
        [[check]]\nname = 'quick'\nrun = 'true'\n";
    let lab = Lab::new();
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, checks), ("a.txt", "a\n")]);
    let mut command = Command::new(program());
    command
        .args(["validate", "--watch"])
        .current_dir(&repo.dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    for (name, value) in repo.environment() {
        command.env(name, value);
    }
    let mut child = spawn(&mut command).unwrap();
    while !lab.path("begun").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    repo.xtask(&["validate", "--watch", "--json"]).status(2).says("cannot be used with");
}

/// One of several changes of files, by number.
fn change(repo: &Place<'_>, kind: u64, number: u64) {
    let root = repo.dir.join("src");
    let word = if number.is_multiple_of(3) { "bad" } else { "good" };
    let file = format!("src/d{}/f{}.txt", number % 3, number % 4);
    let folder = |number: u64| root.join(format!("d{}", number % 3));
    match kind {
        0..=3 => repo.write(&file, format!("{word} {number}\n")),
        4 => drop(std::fs::remove_file(repo.dir.join(&file))),
        5 => drop(std::fs::rename(folder(number), root.join("d9"))),
        6 => drop(std::fs::rename(root.join("d9"), folder(number))),
        7 => drop(std::fs::remove_dir_all(folder(number))),
        8 => {
            drop(std::fs::remove_file(root.join("link")));
            repo.link(&format!("../elsewhere/{word}"), "src/link");
        }
        9 => repo.write(
            ".gitignore",
            if number.is_multiple_of(2) { "/runs\n" } else { "/runs\nf1.txt\n" },
        ),
        10 => repo.write(&format!("src/new{}/deep/x.txt", number % 5), word),
        _ => {
            // An editor that saves by renaming, with the old times.
            repo.write("src/.tmp", word);
            drop(std::fs::create_dir_all(folder(number)));
            drop(std::fs::rename(root.join(".tmp"), folder(number).join("f0.txt")));
        }
    }
}

#[test]
fn what_is_shown_is_what_a_search_of_all_files_would_find() {
    // Files that git ignores are no inputs, and the check does not look at them either.
    let script = "for f in $(git ls-files -co --exclude-standard src); do grep -qs bad \"$f\" && exit 1; done; exit 0";
    let checks = format!(
        "[[check]]\nname = 'words'\nrun = '{script}'\nshell = true\ninputs = ['src/**']\ntools = ['git', 'grep']\n"
    );
    let lab = Lab::new();
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, &checks), ("src/a.txt", "a\n")]);
    repo.write("elsewhere/bad", "bad\n");
    repo.write("elsewhere/good", "good\n");
    repo.commit("targets");
    let mut watching = Watching::start(&repo, &[]);
    let mut state = 7_u64;
    for step in 0..60 {
        // Knuth's MMIX generator.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (kind, number) = ((state >> 33) % 12, (state >> 45) % 97);
        change(&repo, kind, number);
        repo.write("src/step.txt", format!("{step}\n"));
        let mut run = String::new();
        while !run.contains("src/step.txt")
            && !run.contains("many files")
            && !run.contains(" more\n")
        {
            run = watching.next_run();
        }
        // What came later than the last event of this step is seen in a run of its own.
        while let Ok(line) = watching.lines.recv_timeout(Duration::from_millis(60)) {
            if line.contains("healthy") {
                run = line;
            }
        }
        let is_good = repo.run("sh", &["-c", script], &[]).code == Some(0);
        let is_shown_good = run.lines().any(|line| line.starts_with("healthy"));
        assert_eq!(is_shown_good, is_good, "step {step}, kind {kind}, number {number}: {run}");
    }
    watching.end();
}
