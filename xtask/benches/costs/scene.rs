//! A fresh repository in which one runner has one check or several, and what came of running it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};
use xshell::cmd;

use crate::kit::Bench;
use crate::runners::{Check, IGNORED, Runner, Wanted, command, path_with};

/// How long anything may take: the slowest runner starts a service of its own first, and waits for
/// the lock of one that was killed.
const BOUND: Duration = Duration::from_secs(90);

/// How often it is looked whether something has happened.
const BEAT: Duration = Duration::from_millis(5);

/// How old the inputs are when a case begins.
const AGE: Duration = Duration::from_secs(3600);

/// What happened, or why nothing could be learned from it.
pub type Found<T> = Result<T, String>;

/// How a run ended.
#[derive(Clone, Copy)]
pub struct Ended {
    /// Whether the runner says that all is well.
    pub is_good: bool,
    /// Whether it ran the command.
    pub has_run: bool,
}

/// The repository, and beside it what the check and the bench tell each other.
pub struct Scene<'a> {
    bench: &'a Bench,
    runner: &'a Runner,
    /// The folder that holds everything.
    pub root: PathBuf,
    /// The repository.
    pub repo: PathBuf,
    /// The check that is run.
    pub check: Check,
    /// What is set for the runner: a variable, and its value.
    pub variable: Option<(&'static str, &'static str)>,
    /// The folder in which programs are looked for first.
    pub tools: PathBuf,
    /// When the inputs were written, as far as one can see.
    past: SystemTime,
}

impl<'a> Scene<'a> {
    /// A repository with nothing in it but a check named `check` over the files in `src`.
    pub fn new(bench: &'a Bench, runner: &'a Runner, name: &str) -> Scene<'a> {
        let root = bench.root.join(name);
        let repo = root.join("repo");
        fs::create_dir_all(repo.join("src")).unwrap();
        fs::create_dir_all(root.join("tools")).unwrap();
        let shell = bench.shell(&repo);
        cmd!(shell, "git init --quiet -b main").quiet().run().unwrap();
        fs::write(repo.join(".gitignore"), IGNORED).unwrap();
        fs::write(root.join("ran"), "").unwrap();
        let check = Check {
            name: "check".to_owned(),
            run: "sh src/check.sh".to_owned(),
            inputs: "src".to_owned(),
            env: Vec::new(),
            tools: Vec::new(),
        };
        let tools = root.join("tools");
        let past = SystemTime::now() - AGE;
        Scene { bench, runner, root, repo, check, variable: None, tools, past }
    }

    /// What the check does; its exit code is that of the last line.
    pub fn script(&self, lines: &str) {
        let ran = self.root.join("ran");
        self.write(
            "src/check.sh",
            &format!("#!/bin/sh\necho ran >> '{}'\n{lines}\n", ran.display()),
        );
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.repo.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a file anew, and gives it the time back that it had.
    pub fn write_back(&self, path: &str, text: &str) {
        let time = fs::metadata(self.repo.join(path)).unwrap().modified().unwrap();
        self.write(path, text);
        let file = File::options().write(true).open(self.repo.join(path)).unwrap();
        file.set_modified(time).unwrap();
    }

    /// Tells the runner of the checks, and commits everything.
    pub fn configure(&self, checks: &[Check]) {
        self.runner.configure(&self.repo, checks);
        let shell = self.bench.shell(&self.repo);
        cmd!(shell, "git add --all").quiet().run().unwrap();
        cmd!(shell, "git commit --quiet --allow-empty -m configured").quiet().run().unwrap();
        // The configuration that counts for us may be that of the canonical branch.
        cmd!(shell, "git branch --force orchestration-tools").quiet().run().unwrap();
    }

    /// Tells the runner of the one check, over inputs that have not been touched for a while: files
    /// that are as new as what a runner wrote down of them are read again by some.
    pub fn ready(&self) {
        let files = walkdir::WalkDir::new(self.repo.join("src")).into_iter();
        for file in files.map(Result::unwrap).filter(|entry| entry.file_type().is_file()) {
            let file = File::options().write(true).open(file.path()).unwrap();
            file.set_modified(self.past).unwrap();
        }
        self.configure(std::slice::from_ref(&self.check));
    }

    /// Goes on in a clone, with the runner set up there as well.
    pub fn clone_to(&mut self, name: &str) {
        let clone = self.root.join(name);
        let repo = &self.repo;
        let shell = self.bench.shell(&self.root);
        cmd!(shell, "git clone --quiet {repo} {clone}").quiet().run().unwrap();
        self.repo = clone;
        self.ready();
    }

    /// Runs a check, and waits for its end.
    pub fn run(&self, name: &str) -> Found<Ended> {
        let before = self.runs();
        let status = self.wait(&mut self.start(name))?;
        Ok(Ended { is_good: status.success(), has_run: self.runs() > before })
    }

    /// Runs the check, which must run and pass.
    pub fn pass(&self) -> Found<()> {
        let ended = self.run(&self.check.name)?;
        match ended {
            Ended { is_good: true, has_run: true } => Ok(()),
            Ended { is_good: true, .. } => Err("it passed and did not run the command".to_owned()),
            Ended { .. } => Err(format!("it did not pass at first: {}", self.last_line())),
        }
    }

    /// What the check says of the present state, without any runner.
    pub fn truth(&self) -> bool {
        let words: Vec<&str> = self.check.run.split(' ').collect();
        let mut command = command(self.bench, &self.repo, Path::new("/usr/bin/env"));
        command.args(words);
        self.prepare(&mut command, "truth");
        command.status().unwrap().success()
    }

    /// Starts a check, in a process group of its own.
    pub fn start(&self, name: &str) -> Child {
        let mut command = self.runner.command(self.bench, &self.repo, Wanted::One(name));
        self.prepare(&mut command, "said");
        command.process_group(0).spawn().unwrap()
    }

    /// What every run is given: the tools, the variable, and a file for what it says.
    fn prepare(&self, command: &mut Command, said: &str) {
        let said = File::create(self.root.join(said)).unwrap();
        command.env("PATH", path_with(&self.tools));
        command.stdout(said.try_clone().unwrap()).stderr(said);
        if let Some((name, value)) = self.variable {
            command.env(name, value);
        }
    }

    /// Waits for the end of a run; one that takes too long is ended.
    pub fn wait(&self, run: &mut Child) -> Found<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < BOUND {
            if let Some(status) = run.try_wait().unwrap() {
                self.tick();
                return Ok(status);
            }
            std::thread::sleep(BEAT);
        }
        self.kill(run);
        Err(format!("it took longer than {} s: {}", BOUND.as_secs(), self.last_line()))
    }

    /// Waits until the check has told something by making this file. A run that ends before, or
    /// never comes to it, is ended.
    pub fn wait_for(&self, sign: &str, run: &mut Child) -> Found<()> {
        let start = Instant::now();
        while start.elapsed() < BOUND {
            let is_over = run.try_wait().unwrap().is_some();
            if self.root.join(sign).exists() {
                return Ok(());
            }
            if is_over {
                return Err(format!("it never came to `{sign}`: {}", self.last_line()));
            }
            std::thread::sleep(BEAT);
        }
        self.kill(run);
        Err(format!("it did not come to `{sign}` in {} s", BOUND.as_secs()))
    }

    /// `kill -9` for a run and all that is in its process group.
    pub fn kill(&self, run: &mut Child) {
        kill_process_group(Pid::from_child(run), Signal::KILL).unwrap();
        run.wait().unwrap();
    }

    /// Waits until the clock of the file system has moved on: it is coarser than the one of the
    /// processor, and who goes by times is not to be caught by that.
    fn tick(&self) {
        let probe = self.root.join("tick");
        let now = || {
            fs::write(&probe, "").unwrap();
            fs::metadata(&probe).unwrap().modified().unwrap()
        };
        let (start, before) = (Instant::now(), now());
        while now() <= before && start.elapsed() < BOUND {}
    }

    /// Tells the check something by making this file.
    pub fn tell(&self, sign: &str) {
        fs::write(self.root.join(sign), "").unwrap();
    }

    /// A tool of this version in a folder: its exit code is that of the check.
    pub fn tool(&self, folder: &str, version: &str, exit_code: u8) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root.join(folder).join("checker");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && echo {version} && exit\nexit {exit_code}\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Ends what the runner left running.
    pub fn end(&self) {
        self.runner.stop(self.bench, &self.repo);
    }

    fn runs(&self) -> usize {
        fs::read(self.root.join("ran")).unwrap().len()
    }

    /// The last line that the runner said.
    pub fn last_line(&self) -> String {
        let said = fs::read(self.root.join("said")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or_default().trim().chars().take(160).collect()
    }
}
