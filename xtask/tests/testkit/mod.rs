//! Repositories for tests: made with git itself, in a folder of their own, and untouched by the
//! configuration of the machine.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use camino::{Utf8Path, Utf8PathBuf};
use expect_test::{ExpectFile, expect_file};
use xshell::{Shell, cmd};
use xtask_hooks::skip_rules::DISABLE_VARIABLES;

pub mod browser;
pub mod circle;
mod plumbing;
mod ports;
mod templates;
mod toolkit;
mod transcript;

pub use ports::port;
use templates::Key;
pub use toolkit::write_toolkit;
pub use transcript::Transcript;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// When everything is committed: 2026-01-01T00:00:00Z, in seconds since 1970.
const LATELY: i64 = 1_767_225_600;

/// A folder for one test. It goes when the test has passed.
pub struct Lab {
    root: Utf8PathBuf,
}

impl Lab {
    pub fn new() -> Lab {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = templates::ground().join(format!("xtask-it-{}-{number}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(root.join("home")).unwrap();
        fs::create_dir_all(root.join("temporary")).unwrap();
        fs::create_dir_all(root.join("runtime")).unwrap();
        fs::write(
            root.join("gitconfig"),
            "[user]\n\tname = Ada\n\temail = ada@example.invalid\n\
             [init]\n\tdefaultBranch = main\n[advice]\n\tdetachedHead = false\n\
             [protocol \"file\"]\n\tallow = always\n[core]\n\tfsync = none\n\
             [maintenance]\n\tauto = false\n",
        )
        .unwrap();
        Lab { root }
    }

    /// A folder that holds a copy of what `scene` has made the first time it was asked for.
    pub fn of<F: Fn(&Lab) + 'static>(scene: F) -> Lab {
        assert_eq!(size_of::<F>(), 0, "a scene that depends on something is no template");
        let lab = Lab::new();
        templates::copy_into(&lab, Key::By(TypeId::of::<F>()), "", scene);
        lab
    }

    /// The same for a scene that is made from something, which `name` names.
    pub fn named(name: &str, scene: impl FnOnce(&Lab)) -> Lab {
        let lab = Lab::new();
        templates::copy_into(&lab, Key::Of(name.to_owned()), "", scene);
        lab
    }

    /// A copy of this one, as it is now.
    pub fn copy(&self) -> Lab {
        let lab = Lab::new();
        templates::copy(self, &lab, "");
        lab
    }

    pub fn path(&self, name: &str) -> Utf8PathBuf {
        self.root.join(name)
    }

    /// A place that exists already.
    pub fn place(&self, name: &str) -> Place<'_> {
        Place { lab: self, dir: self.root.join(name) }
    }

    /// A new repository with one commit on `main`: `src/app` and the managed `setup/a`, `setup/b`
    /// and `scripts/run.sh`, and a canonical branch at the same commit.
    pub fn repo(&self) -> Place<'_> {
        self.repo_named("repo", &[])
    }

    pub fn repo_named(&self, name: &str, init: &[&str]) -> Place<'_> {
        let key = Key::Of(format!("repository {name} {init:?}"));
        templates::copy_into(self, key, name, |lab| lab.make_repo(name, init));
        self.place(name)
    }

    fn make_repo(&self, name: &str, init: &[&str]) {
        let place = self.place(name);
        fs::create_dir_all(&place.dir).unwrap();
        let mut args = vec!["init", "--quiet"];
        args.extend(init);
        place.git(&args);
        place.write("src/app", "application\n");
        place.write("setup/a", "a1\n");
        place.write("setup/b", "b1\n");
        place.write("scripts/run.sh", "#!/bin/sh\necho run 1 \"$@\"\n");
        place.make_executable("scripts/run.sh");
        place.commit("first");
        place.git(&["branch", "orchestration-tools"]);
    }

    /// A new repository that holds these files in one commit, or nothing at all.
    pub fn repo_with(&self, name: &str, files: &[(&str, &str)]) -> Place<'_> {
        let place = self.place(name);
        fs::create_dir_all(&place.dir).unwrap();
        place.git(&["init", "--quiet"]);
        for (path, text) in files {
            place.write(path, text);
        }
        if !files.is_empty() {
            place.commit("first");
        }
        place
    }

    fn shell(&self, dir: &Utf8Path) -> Shell {
        let shell = Shell::new().unwrap();
        shell.change_dir(dir);
        for name in xtask_base::process::GIT_LOCAL_VARS {
            shell.set_var(name, "");
        }
        shell
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the scene is left in {}", self.root);
        } else {
            drop(fs::remove_dir_all(&self.root));
        }
    }
}

/// A whole text as it is to be; `UPDATE_EXPECT=1 cargo xtest` writes down what it is now.
pub fn snapshot(name: &str) -> ExpectFile {
    expect_file![format!("{}/tests/it/snapshots/{name}", env!("CARGO_MANIFEST_DIR"))]
}

/// Held by those who start processes, and by nobody while a program is written.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts a process. While it becomes another program it holds all files of this process, and a program that
/// somebody has open for writing cannot be started: see `write_alone`.
pub fn spawn(command: &mut std::process::Command) -> std::io::Result<std::process::Child> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Writes programs in this process while none of its tests starts one.
pub fn write_alone<T>(write: impl FnOnce() -> T) -> T {
    let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    write()
}

/// A script at a path, with its folder, that can be started at once.
pub fn write_script(path: &Utf8Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_alone(|| fs::write(path, content)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The program under test.
pub fn program() -> Utf8PathBuf {
    templates::program()
}

/// What a program did.
#[derive(Debug, Clone)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn success(self) -> Ran {
        self.status(0)
    }

    #[track_caller]
    pub fn status(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        let found = self.out.contains(text) || self.err.contains(text);
        assert!(found, "no `{text}` in\nstdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn never_says(self, text: &str) -> Ran {
        let found = self.out.contains(text) || self.err.contains(text);
        assert!(!found, "`{text}` in\nstdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|cause| panic!("{cause}\n{}\n{}", self.out, self.err))
    }
}

/// A folder in which commands run: a worktree, or a folder of one.
#[derive(Clone)]
pub struct Place<'a> {
    pub lab: &'a Lab,
    pub dir: Utf8PathBuf,
}

/// What can be seen of a worktree: HEAD, branches, index, files, and what git says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    pub head: String,
    pub refs: String,
    pub index: String,
    pub files: BTreeMap<String, (u32, String)>,
    pub status: String,
}

impl Place<'_> {
    /// Runs git and answers with what it printed.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        let ran = self.try_git(args);
        assert_eq!(ran.code, Some(0), "git {args:?}\n{}{}", ran.out, ran.err);
        ran.out
    }

    pub fn try_git(&self, args: &[&str]) -> Ran {
        self.run("git", args, &[])
    }

    /// Runs the program under test.
    pub fn xtask(&self, args: &[&str]) -> Ran {
        self.xtask_with(args, &[])
    }

    pub fn xtask_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        self.run(program().as_str(), args, variables)
    }

    /// Installs the hooks in this repository. Their program, which was installed once in another one, is
    /// linked; what copies it is tried in `hooks_install.rs`.
    pub fn install_hooks(&self) -> Ran {
        let name = self.dir.strip_prefix(&self.lab.root).unwrap();
        let bin = name.join(".git/xtask/bin");
        if self.dir.join(".git").is_dir() && !self.lab.path(bin.as_str()).exists() {
            let key = Key::Of(format!("hooks {bin}"));
            templates::copy_into(self.lab, key, bin.as_str(), |lab| {
                let repo = lab.repo_named(name.as_str(), &[]);
                repo.xtask(&["install-hooks", "--this-program"]).success();
                let copy = repo.dir.join(".git/xtask/bin/xtask").canonicalize().unwrap();
                fs::remove_file(&copy).unwrap();
                fs::hard_link(program(), copy).unwrap();
            });
        }
        self.xtask(&["install-hooks", "--this-program"])
    }

    pub fn run(&self, program: &str, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let output = self.output_of(program, args, variables).unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a program that may not be installed; nothing where it is not.
    pub fn try_run(&self, program: &str, args: &[&str]) -> Option<Ran> {
        self.output_of(program, args, &[]).is_ok().then(|| self.run(program, args, &[]))
    }

    fn output_of(
        &self,
        program: &str,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> std::io::Result<std::process::Output> {
        let shell = self.lab.shell(&self.dir);
        let mut command = cmd!(shell, "{program} {args...}").quiet().ignore_status();
        for name in xtask_base::process::GIT_LOCAL_VARS {
            command = command.env_remove(name);
        }
        // The last is said to the test harness alone, where it is to measure times.
        let others = ["CLICOLOR_FORCE", "NO_COLOR", "RUSTC_BOOTSTRAP"];
        for name in DISABLE_VARIABLES.into_iter().chain(others) {
            command = command.env_remove(name);
        }
        for (name, value) in self.environment() {
            command = command.env(name, value);
        }
        for (name, value) in variables {
            command = command.env(name, value);
        }
        let mut command = std::process::Command::from(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        spawn(&mut command)?.wait_with_output()
    }

    /// The variables that keep the machine's own configuration out.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HOME", self.lab.path("home").into()),
            ("XDG_CONFIG_HOME", self.lab.path("home/.config").into()),
            ("GIT_CONFIG_GLOBAL", self.lab.path("gitconfig").into()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("GIT_CONFIG_SYSTEM", "/dev/null".to_owned()),
            ("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z".to_owned()),
            ("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z".to_owned()),
            ("TMPDIR", self.lab.path("temporary").into()),
            ("XDG_RUNTIME_DIR", self.lab.path("runtime").into()),
            ("GIT_PAGER", "cat".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("CI", String::new()),
            // What a validation that runs these tests has set for everything that it starts.
            (xtask_base::process::ACTIVE_VAR, String::new()),
            ("XTASK_ROOT", String::new()),
            // Who tests the store names one.
            ("XTASK_STORE", "off".to_owned()),
            ("XTASK_KEY", String::new()),
        ]
    }

    /// The same place in a copy of its lab.
    pub fn in_copy<'b>(&self, copy: &'b Lab) -> Place<'b> {
        copy.place(self.dir.strip_prefix(&self.lab.root).unwrap().as_str())
    }

    /// Another folder of the same lab.
    pub fn at(&self, name: &str) -> Self {
        Place { lab: self.lab, dir: self.dir.join(name) }
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        let bytes = fs::read(self.dir.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn has(&self, path: &str) -> bool {
        self.dir.join(path).symlink_metadata().is_ok()
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.dir.join(path)).unwrap();
    }

    pub fn link(&self, target: &str, path: &str) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A script, in one go.
    pub fn write_executable(&self, path: &str, content: &str) {
        write_alone(|| self.write(path, content));
        self.make_executable(path);
    }

    pub fn make_executable(&self, path: &str) {
        fs::set_permissions(self.dir.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Commits everything; answers with the id.
    #[track_caller]
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.head()
    }

    /// Changes a file on the canonical branch without disturbing this worktree. `None` removes the
    /// file.
    #[track_caller]
    pub fn canonical(&self, changes: &[(&str, Option<&str>)]) {
        self.on_branch("orchestration-tools", |place| {
            for (path, content) in changes {
                match content {
                    Some(content) => place.write(path, content),
                    None => place.remove(path),
                }
            }
        });
    }

    /// Commits on another branch what `change` does to a folder with its files. There is no git in that
    /// folder; `in_worktree` is for changes that need it.
    #[track_caller]
    pub fn on_branch(&self, branch: &str, change: impl FnOnce(&Place<'_>)) {
        if plumbing::needs_git(self, branch) {
            return self.in_worktree(branch, change);
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = self.lab.place(&format!("elsewhere-{number}"));
        let message = format!("change {number} on {branch}");
        plumbing::commit_on(self, branch, &place.dir, &message, || change(&place));
    }

    /// Commits on another branch, from a worktree of its own.
    #[track_caller]
    pub fn in_worktree(&self, branch: &str, change: impl FnOnce(&Place<'_>)) {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = self.lab.path(&format!("elsewhere-{number}"));
        self.git(&["worktree", "add", "--quiet", dir.as_str(), branch]);
        let place = Place { lab: self.lab, dir: dir.clone() };
        change(&place);
        place.commit(&format!("change {number} on {branch}"));
        self.git(&["worktree", "remove", "--force", dir.as_str()]);
    }

    #[track_caller]
    pub fn head(&self) -> String {
        self.id("HEAD")
    }

    #[track_caller]
    pub fn id(&self, name: &str) -> String {
        let found = self.in_ref_file(name);
        found.unwrap_or_else(|| self.git(&["rev-parse", "--verify", name]).trim().to_owned())
    }

    /// What git says has changed, a line each.
    #[track_caller]
    pub fn status(&self) -> String {
        self.git(&["status", "--porcelain=v1", "--untracked-files=all"])
    }

    /// The commit that a ref file names.
    fn in_ref_file(&self, name: &str) -> Option<String> {
        let git = self.git_folder();
        let common = fs::read_to_string(git.join("commondir"));
        let common = common.map_or(git.clone(), |up| git.join(up.trim_end()));
        let text = match name {
            "HEAD" => fs::read_to_string(git.join("HEAD")).ok()?,
            branch => fs::read_to_string(common.join("refs/heads").join(branch)).ok()?,
        };
        match text.trim_end().strip_prefix("ref: refs/heads/") {
            Some(branch) => self.in_ref_file(branch),
            None => Some(text.trim_end().to_owned()),
        }
    }

    /// The git folder of this worktree.
    pub fn git_folder(&self) -> PathBuf {
        let git = self.dir.join(".git");
        match fs::read_to_string(&git) {
            Ok(text) => text.trim_end().strip_prefix("gitdir: ").unwrap().into(),
            Err(_) if git.is_dir() => git.into(),
            Err(_) => self.git(&["rev-parse", "--absolute-git-dir"]).trim_end().into(),
        }
    }

    /// The classes of `sync --dry-run --json`, as `path class action` lines.
    #[track_caller]
    pub fn plan(&self, args: &[&str]) -> String {
        let mut all = vec!["sync", "--dry-run", "--json"];
        all.extend(args);
        let json = self.xtask(&all).json();
        let lines = json["paths"].as_array().unwrap().iter().map(|path| {
            format!(
                "{} {} {}\n",
                path["path"].as_str().unwrap(),
                path["class"].as_str().unwrap(),
                path["action"].as_str().unwrap()
            )
        });
        lines.collect()
    }

    /// What git says of HEAD and of all files when it trusts the times in the index. Git reads files again
    /// that are as young as the index; with an index that is much younger than all files it does not, and
    /// a time that stands beside the wrong content hides a change.
    #[track_caller]
    fn status_by_an_old_index(&self) -> String {
        let index = self.git_folder().join("index");
        let copy = self.lab.path(&format!("index-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::copy(index, &copy).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
        fs::File::options().write(true).open(&copy).unwrap().set_modified(later).unwrap();
        let args = ["--no-optional-locks", "status", "--porcelain=v2", "--branch", "--ignored"];
        let said = self.run("git", &args, &[("GIT_INDEX_FILE", copy.as_str())]);
        fs::remove_file(copy).unwrap();
        said.success().out
    }

    /// All that can be seen here, but for what xtask keeps for itself.
    #[track_caller]
    pub fn scene(&self) -> Scene {
        let status = self.status_by_an_old_index();
        let (head, status): (Vec<_>, Vec<_>) =
            status.lines().partition(|line| line.starts_with("# branch."));
        let refs = self.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        let refs = refs.lines().filter(|line| !line.starts_with("refs/xtask/"));
        let head = |key: &str| {
            let found = head.iter().find_map(|line| line.strip_prefix(key));
            found.unwrap_or_else(|| panic!("git says nothing of `{key}`: {head:?}"))
        };
        Scene {
            head: format!("{}\n{}", head("# branch.head "), head("# branch.oid ")),
            refs: refs.collect::<Vec<_>>().join("\n"),
            index: self.git(&["ls-files", "--stage", "-t"]),
            files: files(self.dir.as_std_path()),
            status: status.join("\n"),
        }
    }
}

/// Every file below a folder, but for git's own: mode and content.
pub fn files(root: &Path) -> BTreeMap<String, (u32, String)> {
    let mut found = BTreeMap::new();
    let walk =
        walkdir::WalkDir::new(root).into_iter().filter_entry(|entry| entry.file_name() != ".git");
    for entry in walk {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        if meta.is_dir() {
            continue;
        }
        let name = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let content = if meta.is_symlink() {
            fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            fs::read(entry.path()).unwrap()
        };
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        found.insert(text(&name), (meta.permissions().mode() & 0o120_111, text(&content)));
    }
    found
}

/// Everything below a folder, with times, to see that nothing at all was written.
pub fn trace(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u64)> {
    use std::os::unix::fs::MetadataExt;
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.path().symlink_metadata().unwrap();
            let stamp = (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino());
            (entry.path().to_path_buf(), stamp)
        })
        .collect()
}
