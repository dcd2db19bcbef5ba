//! The state on which the result of a check depends, as it is at this moment.
//!
//! A view holds the manifest that makes the key, and how every file and program in it looked. While a
//! check runs, nothing may look different: an edit that is put back leaves its time behind.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::key::Manifest;
use super::looks::{self, Looks};
use super::programs::{
    self, Answer, Looker, OTHER_WAYS, Programs, Question, choosing_variables, usual_arguments,
};
use super::sets::{InputSet, Sets};
use super::state::{definition, no_state, own_state, runs_others};
use super::store::Store;
use xtask_base::digest;
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_base::signals::Interrupts;
use xtask_base::words::{count, some_of};
use xtask_base::world::World;
use xtask_config::{Check, Kind, ValidateConfig};
use xtask_git::Tools;
use xtask_git::{FileStat, Ignores, Repo};

/// The most files that one check may depend on: what has more of them is not looked at but run.
pub(super) const MOST_FILES: usize = 200_000;

/// The longest wait for files to be older than the step of their clock: a little over two seconds.
const LONGEST_SETTLING_MS: u64 = 2100;

/// How many symlinks to folders are followed one after the other.
pub(super) const MOST_FOLLOWED: usize = 64;

/// Looks at the states of checks.
pub struct Observer<'a> {
    pub(super) repo: &'a Repo,
    pub(super) world: &'a World,
    pub(super) progress: &'a dyn Progress,
    interrupts: &'a Interrupts,
    /// Where the last passes are, if nothing may be started to look.
    look_by: Option<&'a Store>,
    pub(super) root: PathBuf,
    /// The files that were laid out; nothing where the root is the worktree.
    pub(super) laid: Option<Vec<RepoPath>>,
    pub(super) ignores: Option<Ignores<'a>>,
    pub(super) looks: Looks,
    programs: Programs,
    pub(super) sets: Sets,
}

/// The state of one check.
#[derive(Debug)]
pub struct View {
    /// What its key is made of.
    pub manifest: Manifest,
    /// The key.
    pub key: String,
    /// Why the state is not known, so that the check has to run; nothing where it is.
    pub unknown: Option<String>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The files, the folders in which they were found and where symlinks ended, as all of them looked.
    set: Arc<InputSet>,
    /// The programs, as they answered.
    answers: Vec<(Question, Answer)>,
}

/// A check that another one needs, as it stands in this run.
#[derive(Clone, Debug)]
pub struct Need {
    /// Its name.
    pub name: String,
    /// The key of its state.
    pub key: String,
    /// Why what it leaves behind is not known, if it is not.
    pub unknown: Option<String>,
}

impl<'a> Observer<'a> {
    /// Looks at the worktree itself; `memory` is the file in which looks are remembered.
    pub fn of_worktree(repo: &'a Repo, tools: &Tools<'a>, memory: PathBuf) -> Observer<'a> {
        let root = repo.root().to_path_buf();
        Observer::new(repo, tools, root, None, memory)
    }

    /// Looks at a folder in which these files were laid out.
    pub fn of_folder(
        repo: &'a Repo,
        tools: &Tools<'a>,
        root: PathBuf,
        files: Vec<RepoPath>,
        memory: PathBuf,
    ) -> Observer<'a> {
        Observer::new(repo, tools, root, Some(files), memory)
    }

    fn new(
        repo: &'a Repo,
        tools: &Tools<'a>,
        root: PathBuf,
        laid: Option<Vec<RepoPath>>,
        memory: PathBuf,
    ) -> Observer<'a> {
        let looks = Looks::read(memory);
        Observer {
            repo,
            world: tools.world,
            progress: tools.progress,
            interrupts: tools.interrupts,
            look_by: None,
            root,
            laid,
            ignores: None,
            looks,
            programs: Programs::default(),
            sets: Sets::default(),
        }
    }

    /// Starts nothing from now on: what programs say of their versions is taken from the last passes,
    /// where they are the same files.
    pub fn only_look(&mut self, by: &'a Store) {
        self.look_by = Some(by);
    }

    /// The folder above which no repository is to be looked for; nothing in the worktree.
    #[must_use]
    pub fn ceiling(&self) -> Option<&Path> {
        self.laid.as_ref().and_then(|_| self.root.parent())
    }

    /// The folder in which checks run.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn now_ns(&self) -> i64 {
        now_ns(self.world)
    }

    /// Forgets what programs said: something has run, and may have installed others.
    pub fn forget_programs(&mut self) {
        self.programs.forget();
        self.forget_sets();
    }

    /// Writes down what was learnt of files.
    pub fn remember(&mut self, disk: &Disk<'_>, views: &[&View]) -> std::io::Result<()> {
        if !self.looks.is_changed() {
            return Ok(());
        }
        let used: std::collections::HashSet<&[u8]> = views
            .iter()
            .flat_map(|view| view.set.found.files.keys())
            .map(RepoPath::as_bytes)
            .collect();
        self.looks.write(disk, &|path| path.starts_with(b"/") || used.contains(path))
    }

    /// Looks at the programs of several checks at once, so that they are asked side by side.
    pub fn prepare(&mut self, config: &ValidateConfig, checks: &[usize]) -> Result<()> {
        let mut questions = Vec::new();
        for at in checks {
            questions.extend(self.questions(config, *at)?);
        }
        let mut programs = std::mem::take(&mut self.programs);
        self.ask(&mut programs, &questions);
        self.programs = programs;
        Ok(())
    }

    /// The folder in which a check runs.
    fn folder(&self, check: &Check) -> PathBuf {
        check.cwd.as_ref().map_or(self.root.clone(), |cwd| cwd.on_disk(&self.root))
    }

    fn ask(&mut self, programs: &mut Programs, questions: &[Question]) {
        let (world, interrupts) = (self.world, self.interrupts);
        let asks = self.look_by.is_none();
        let looker = Looker { world, asks, stop: &|| interrupts.arrived() };
        programs.look(&looker, &mut self.looks, questions, &|| now_ns(world));
    }

    /// The state of a check.
    pub fn view(&mut self, config: &ValidateConfig, at: usize, needs: Vec<Need>) -> Result<View> {
        let check = &config.checks[at];
        self.prepare(config, &[at])?;
        let mut unknown = no_state(config, at);
        if matches!(check.kind, Kind::Run(_)) {
            unknown = unknown.or_else(|| needs.iter().find_map(|need| need.unknown.clone()));
        }
        if let Kind::Run(command) = &check.kind
            && check.tools.is_empty()
            && command.argv[0].contains('/')
            && let Some(by) = interpreter(self.world, &command.argv[0], &self.folder(check))
            && runs_others(&by)
        {
            let script = &command.argv[0];
            unknown = unknown.or_else(|| {
                Some(format!("what `{script}` runs is not named by `tools`, so it always runs"))
            });
        }
        let last = self.look_by.and_then(|store| store.last(&self.root, &check.name));
        let mut answers = Vec::new();
        for question in self.questions(config, at)? {
            let Some(mut answer) = self.programs.answer(&question).cloned() else { continue };
            unknown = unknown.or_else(|| answer.unknown.clone());
            if let Some(last) = &last {
                let seen = &mut answer.seen;
                let same = last.tools.iter().find(|old| {
                    (&old.name, &old.found, &old.content)
                        == (&seen.name, &seen.found, &seen.content)
                });
                seen.version = same.and_then(|same| same.version.clone());
            }
            answers.push((question, answer));
        }
        let set = self.set_of(check)?;
        let found = &set.found;
        unknown = unknown.or_else(|| set.outside.clone());
        let mut notes = Vec::new();
        if !found.idle.is_empty() {
            let idle = some_of(&found.idle, 3);
            notes.push(format!("`inputs` has {idle}, which matches nothing"));
            unknown = unknown.or_else(|| {
                Some(format!(
                    "`inputs` has {idle}, which matches nothing, so it always runs; a letter that means itself has a \
                     `\\` in front"
                ))
            });
        }
        let is_input =
            |path: &&RepoPath| check.inputs.iter().any(|input| *input == path.to_string());
        let missing: Vec<String> =
            found.missing.iter().filter(is_input).map(ToString::to_string).collect();
        if !missing.is_empty() {
            notes.push(format!("`inputs` has {}, and there is no such file", some_of(&missing, 3)));
        }
        if let Some((path, why)) = found.unreadable.first() {
            unknown = unknown.or_else(|| Some(format!("`{path}` cannot be looked at ({why})")));
        }
        if found.is_cut {
            unknown = Some(format!(
                "its `inputs` match more than {}: narrow them",
                count(MOST_FILES, "file")
            ));
        }
        unknown = unknown.or_else(|| set.unreadable.clone());
        let value = |name: &String| {
            let value = self.world.env.get(std::ffi::OsStr::new(name))?;
            Some(digest::hex(&digest::of_parts([value.as_bytes()])))
        };
        let mut names = check.env.clone();
        if matches!(check.kind, Kind::Run(_) | Kind::Tool { .. }) {
            names.extend(choosing_variables(self.world));
            names.sort();
            names.dedup();
        }
        if let Kind::EnvVar(more) = &check.kind {
            names.extend(more.iter().cloned());
        }
        let folder = self.folder(check);
        let folder = folder.canonicalize().unwrap_or(folder);
        let mut definition = definition(config, check);
        definition.push(("folder".to_owned(), escaped(&folder)));
        let manifest = Manifest {
            toolkit: env!("CARGO_PKG_VERSION").to_owned(),
            root: escaped(&self.root),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            definition,
            files: Arc::clone(&set.files),
            env: names.iter().map(|name| (name.clone(), value(name))).collect(),
            tools: answers.iter().map(|(_, answer)| answer.seen.clone()).collect(),
            needs: needs.into_iter().map(|need| (need.name, need.key)).collect(),
        };
        let key = manifest.key_with(set.digest);
        Ok(View { manifest, key, unknown, notes, set, answers })
    }

    /// Waits until any change of what was seen would look different.
    pub fn settle(&self, view: &View) {
        let now = self.now_ns();
        let files = view.set.found.files.values().chain(view.set.ends.values().flatten());
        let files = files.map(|stat| looks::unsettled_for(stat, now)).max().unwrap_or(0);
        let answers = view.answers.iter();
        let programs = answers.map(|(_, answer)| programs::unsettled_for(answer, now)).max();
        let longest = files.max(programs.unwrap_or(0));
        if longest > 0 {
            let ms = u64::try_from(longest / 1_000_000 + 1).unwrap_or(0).min(LONGEST_SETTLING_MS);
            std::thread::sleep(std::time::Duration::from_millis(ms));
        }
    }

    /// What looks different now, each file, folder and program; nothing means that all of it stayed as
    /// it was.
    pub fn moved(&mut self, check: &Check, view: &View) -> Result<Vec<String>> {
        // What was looked at before says nothing of now.
        let found = self.find(&self.named(check)).map(|(found, _)| found)?;
        let mut moved: Vec<String> = Vec::new();
        for (path, stat) in &view.set.found.files {
            if found.files.get(path) != Some(stat) {
                moved.push(format!("`{path}`"));
            }
        }
        let is_new = |path: &&RepoPath| !view.set.found.files.contains_key(*path);
        moved.extend(found.files.keys().filter(is_new).map(|path| format!("`{path}`")));
        for (path, end) in &view.set.ends {
            let now = path.on_disk(&self.root).canonicalize().ok();
            let now = now.and_then(|end| std::fs::symlink_metadata(end).ok());
            let now = now.filter(std::fs::Metadata::is_file).map(|meta| FileStat::of(&meta));
            if now != *end {
                moved.push(format!("what `{path}` leads to"));
            }
        }
        if moved.is_empty() {
            // Something came and went, or was swapped for a while.
            let is_other = |(folder, stat): &(&Vec<u8>, &FileStat)| {
                let now = found.folders.get(*folder);
                now.is_none_or(|now| {
                    (now.inode, now.mtime_ns, now.ctime_ns)
                        != (stat.inode, stat.mtime_ns, stat.ctime_ns)
                })
            };
            let name = |folder: &[u8]| match folder {
                b"" => "the root folder".to_owned(),
                folder => format!("the folder `{}`", String::from_utf8_lossy(folder)),
            };
            let others = view.set.found.folders.iter().filter(is_other);
            moved.extend(others.map(|(folder, _)| name(folder)));
        }
        let questions: Vec<Question> =
            view.answers.iter().map(|(question, _)| question.clone()).collect();
        let mut programs = Programs::default();
        self.ask(&mut programs, &questions);
        for (question, before) in &view.answers {
            if programs.answer(question) != Some(before) {
                moved.push(format!("the program `{}`", question.name));
            }
        }
        moved.sort();
        moved.dedup();
        Ok(moved)
    }

    /// The programs of a check, and how each is asked. Who cannot be skipped is asked nothing: an
    /// answer would be of no use, and a program that knows no `--version` might do its work.
    fn questions(&mut self, config: &ValidateConfig, at: usize) -> Result<Vec<Question>> {
        let check = &config.checks[at];
        let folder = self.folder(check);
        let question = |name: &str, asks: bool| Question {
            name: name.to_owned(),
            folder: folder.clone(),
            arguments: if asks { usual_arguments(name) } else { None },
            or: &[],
        };
        let mut all = Vec::new();
        match &check.kind {
            Kind::Run(_) if own_state(check).is_some() => return Ok(all),
            Kind::Run(command) => {
                let name = &command.argv[0];
                all.push(question(name, self.may_be_asked(check.cwd.as_ref(), name)?));
                if let Some(by) = interpreter(self.world, name, &folder) {
                    all.push(question(&by[0], true));
                }
                // A file elsewhere that the command reads is what its content is.
                let words = command.argv[1..].iter().filter(|_| !command.shell);
                let elsewhere = words.filter(|word| {
                    word.starts_with('/') && Path::new(word).metadata().is_ok_and(|m| m.is_file())
                });
                all.extend(elsewhere.map(|word| question(word, false)));
            }
            Kind::Tool { tool, ask, .. } => {
                all.push(Question { or: &OTHER_WAYS, ..question(tool, ask.is_none()) });
                if let Some(ask) = ask {
                    let arguments = Some(ask.argv[1..].to_vec());
                    all.push(Question { arguments, ..question(&ask.argv[0], false) });
                }
            }
            _ => {}
        }
        // A path that a check names as its tool is one from the root, as its inputs are.
        for name in &check.tools {
            let asks = self.may_be_asked(None, name)?;
            let folder = if name.contains('/') { self.root.clone() } else { folder.clone() };
            all.push(Question { folder, ..question(name, asks) });
        }
        Ok(all)
    }

    /// Whether the program of a command can be asked for its version: one on PATH, or one that was put
    /// into the worktree. A script that git tracks is what its content is.
    fn may_be_asked(&mut self, cwd: Option<&RepoPath>, name: &str) -> Result<bool> {
        if !name.contains('/') {
            return Ok(true);
        }
        let Some(path) = path_from_root(cwd, name).map(RepoPath::new) else {
            return Ok(true);
        };
        if let Some(files) = &self.laid {
            return Ok(!files.contains(&path));
        }
        if self.ignores.is_none() {
            self.ignores = Some(self.repo.ignores()?);
        }
        Ok(!self.ignores.as_ref().is_some_and(|ignores| ignores.tracks(&path)))
    }
}

impl View {
    /// Why what programs said of their versions counts for nothing.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.answers.iter().filter_map(|(_, answer)| answer.failure.as_deref())
    }

    /// How many files it covers.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.manifest.files.len()
    }
}

pub(super) fn now_ns(world: &World) -> i64 {
    i64::try_from((world.clock)().as_nanos()).unwrap_or(i64::MAX)
}

fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// A word as a path from the root, if it can be one of a file in the repository.
pub(super) fn path_from_root(cwd: Option<&RepoPath>, word: &str) -> Option<String> {
    if word.is_empty() || word.starts_with(['/', '-']) {
        return None;
    }
    let mut parts: Vec<String> =
        cwd.map_or(Vec::new(), |cwd| cwd.to_string().split('/').map(str::to_owned).collect());
    for part in word.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part.to_owned()),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// What reads a script, by its first line: a program and what it is given.
fn interpreter(world: &World, name: &str, folder: &Path) -> Option<Vec<String>> {
    use std::io::Read;
    let path = programs::find(world, name, folder)?;
    let mut start = Vec::new();
    std::fs::File::open(path).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if words.first()?.ends_with("/env") {
        let is_for_env = |word: &String| word.starts_with('-') || word.contains('=');
        words = words.into_iter().skip(1).skip_while(is_for_env).collect();
    }
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_paths_from_the_root() {
        let web = RepoPath::new("web/app");
        let path = |word: &str| path_from_root(Some(&web), word);
        assert_eq!(path("x.js").as_deref(), Some("web/app/x.js"));
        assert_eq!(path("../../a/./b").as_deref(), Some("a/b"));
        assert_eq!(path("../../../a"), None);
        assert_eq!(path("/etc/passwd"), None);
        assert_eq!(path("--flag"), None);
        assert_eq!(path_from_root(None, "."), None);
    }
}
