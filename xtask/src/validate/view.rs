//! The state on which the result of a check depends, as it is at this moment.
//!
//! A view holds the manifest that makes the key, and how every file and program in it looked. While a
//! check runs, nothing may look different: an edit that is put back leaves its time behind.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::key::{FileSeen, Manifest, Seen};
use super::looks::{self, Looks};
use super::programs::{self, Programs, Question, SWITCHES, usual_arguments};
use crate::base::digest;
use crate::base::error::Result;
use crate::base::files::Disk;
use crate::base::path::RepoPath;
use crate::base::progress::Progress;
use crate::base::words::{count, some_of};
use crate::base::world::World;
use crate::config::{Check, CommandLine, Kind, ValidateConfig};
use crate::repo::{Among, FileStat, FoundFiles, Globs, Ignores, Repo};
use crate::sync::run::Tools;

/// The most files that one check may depend on: what has more of them is not looked at but run.
const MOST_FILES: usize = 200_000;

/// The longest wait for files to be older than the step of their clock: a little over two seconds.
const LONGEST_SETTLING_MS: u64 = 2100;

/// Programs that run the one that is named after them, of which their own version says nothing.
const RUN_OTHERS: [&str; 9] =
    ["busybox", "doas", "env", "nice", "nohup", "sudo", "time", "timeout", "xargs"];

/// Shells. One that reads a file of the repository depends on that; one that is given its commands
/// (`sh -c`) runs others.
const SHELLS: [&str; 6] = ["bash", "dash", "fish", "ksh", "sh", "zsh"];

/// Looks at the states of checks.
pub struct Observer<'a> {
    repo: &'a Repo,
    world: &'a World,
    progress: &'a dyn Progress,
    root: PathBuf,
    /// The files that were laid out; nothing where the root is the worktree.
    laid: Option<Vec<RepoPath>>,
    ignores: Option<Ignores<'a>>,
    looks: Looks,
    programs: Programs,
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
    /// How the files looked.
    files: BTreeMap<RepoPath, FileStat>,
    /// Where symlinks ended.
    ends: BTreeMap<RepoPath, Option<FileStat>>,
    questions: Vec<Question>,
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
        let (world, progress) = (tools.world, tools.progress);
        let programs = Programs::default();
        Observer { repo, world, progress, root, laid, ignores: None, looks, programs }
    }

    /// The folder in which checks run.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn now_ns(&self) -> i64 {
        now_ns(self.world)
    }

    /// Forgets what programs said: a fix may have installed others.
    pub fn forget_programs(&mut self) {
        self.programs.forget();
    }

    /// Writes down what was learnt of files.
    pub fn remember(&mut self, disk: &Disk<'_>, views: &[&View]) -> std::io::Result<()> {
        if !self.looks.is_changed() {
            return Ok(());
        }
        let used: std::collections::HashSet<&[u8]> =
            views.iter().flat_map(|view| view.files.keys()).map(RepoPath::as_bytes).collect();
        self.looks.write(disk, &|path| path.starts_with(b"/") || used.contains(path))
    }

    /// Looks at the programs of several checks at once, so that those that have to be asked are asked
    /// side by side.
    pub fn prepare(&mut self, checks: &[&Check]) {
        let questions: Vec<Question> =
            checks.iter().flat_map(|check| questions(check, &self.root, self.world)).collect();
        let world = self.world;
        self.programs.look(world, &mut self.looks, &questions, &|| now_ns(world));
    }

    /// The state of a check. `needs` are the names and keys of the checks that it needs.
    pub fn view(
        &mut self,
        config: &ValidateConfig,
        check: &Check,
        needs: Vec<(String, String)>,
    ) -> Result<View> {
        self.prepare(&[check]);
        let questions = questions(check, &self.root, self.world);
        let mut unknown = no_state(config, check);
        let mut tools = Vec::new();
        for question in &questions {
            if let Some(answer) = self.programs.answer(question) {
                tools.push(answer.seen.clone());
                unknown = unknown.or_else(|| answer.unknown.clone());
            }
        }
        let found = self.find(check)?;
        let mut notes = Vec::new();
        if !found.idle.is_empty() {
            notes.push(format!("`inputs` has {}, which matches nothing", some_of(&found.idle, 3)));
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
        let mut ends = BTreeMap::new();
        let files = if found.is_cut {
            Vec::new()
        } else {
            let (files, unreadable) = self.read(&found, &mut ends);
            unknown = unknown.or(unreadable);
            files
        };
        let value = |name: &String| {
            let value = self.world.env.get(std::ffi::OsStr::new(name))?;
            Some(digest::hex(&digest::of_parts([value.as_bytes()])))
        };
        let mut names = check.env.clone();
        if let Kind::EnvVar(more) = &check.kind {
            names.extend(more.iter().cloned());
        }
        let manifest = Manifest {
            toolkit: env!("CARGO_PKG_VERSION").to_owned(),
            root: self.root.as_os_str().as_bytes().escape_ascii().to_string(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            definition: definition(config, check),
            files,
            env: names.iter().map(|name| (name.clone(), value(name))).collect(),
            tools,
            needs,
        };
        let key = manifest.key();
        Ok(View { manifest, key, unknown, notes, files: found.files, ends, questions })
    }

    fn find(&mut self, check: &Check) -> Result<FoundFiles> {
        let mut patterns = check.inputs.clone();
        if let Kind::File(paths) = &check.kind {
            patterns.extend(paths.iter().map(ToString::to_string));
        }
        patterns.extend(self.words_that_name_files(check));
        patterns.extend(self.switches(check));
        if patterns.is_empty() {
            return Ok(FoundFiles::default());
        }
        let globs = Globs::new(patterns.iter().map(String::as_str));
        if let Some(files) = &self.laid {
            return Ok(globs.find(&self.root, &Among::Laid(files), MOST_FILES));
        }
        if self.ignores.is_none() {
            self.ignores = Some(self.repo.ignores()?);
        }
        let ignores = self.ignores.as_ref().expect("because it was just read");
        Ok(globs.find(&self.root, &Among::Worktree(ignores), MOST_FILES))
    }

    /// The words of a command that name a file of the repository: it reads them, whatever `inputs`
    /// says.
    fn words_that_name_files(&self, check: &Check) -> Vec<String> {
        let Kind::Run(command) = &check.kind else { return Vec::new() };
        if command.shell {
            return Vec::new();
        }
        let words = command.argv.iter().skip(1);
        let values = words.map(|word| word.split_once('=').map_or(word.as_str(), |(_, v)| v));
        let paths = values.filter_map(|word| path_from_root(check.cwd.as_ref(), word));
        paths
            .filter(|path| {
                let meta = std::fs::symlink_metadata(self.root.join(path));
                meta.is_ok_and(|meta| !meta.is_dir())
            })
            .collect()
    }

    /// The files here and above by which version managers choose programs.
    fn switches(&self, check: &Check) -> Vec<String> {
        let runs = matches!(check.kind, Kind::Run(_) | Kind::Tool { .. });
        if !runs || check.inputs.is_empty() && check.tools.is_empty() && check_has_no_tool(check) {
            return Vec::new();
        }
        let mut folders: Vec<String> = vec![String::new()];
        if let Some(cwd) = &check.cwd {
            folders.push(format!("{cwd}/"));
            folders.extend(cwd.ancestors().map(|folder| format!("{folder}/")));
        }
        let names =
            folders.iter().flat_map(|folder| SWITCHES.map(|name| format!("{folder}{name}")));
        names.filter(|name| self.root.join(name).symlink_metadata().is_ok()).collect()
    }

    /// Reads what was found: values for the key, and why they are not all known, if they are not.
    fn read(
        &mut self,
        found: &FoundFiles,
        ends: &mut BTreeMap<RepoPath, Option<FileStat>>,
    ) -> (Vec<FileSeen>, Option<String>) {
        let mut seen: BTreeMap<RepoPath, Seen> = BTreeMap::new();
        let mut unknown = None;
        let mut regular = Vec::new();
        for (path, stat) in &found.files {
            match kind_of(stat) {
                FileKind::Regular => regular.push((path, *stat)),
                FileKind::Symlink => match self.follow(path) {
                    Ok((value, end)) => {
                        seen.insert(path.clone(), value);
                        ends.insert(path.clone(), end);
                    }
                    Err(why) => unknown = unknown.or(Some(why)),
                },
                FileKind::Other => drop(seen.insert(path.clone(), Seen::Other)),
            }
        }
        let asked: Vec<(&[u8], FileStat)> =
            regular.iter().map(|(path, stat)| (path.as_bytes(), *stat)).collect();
        let world = self.world;
        let digests = self.looks.digests(&self.root, &asked, &|| now_ns(world), self.progress);
        for ((path, stat), digest) in regular.into_iter().zip(digests) {
            match digest {
                Ok((read, content)) => {
                    if read != stat {
                        unknown = unknown.or_else(|| Some(format!("`{path}` is being changed")));
                    }
                    let executable = stat.mode & 0o100 != 0;
                    seen.insert(path.clone(), Seen::File { executable, content });
                }
                Err(cause) => {
                    unknown =
                        unknown.or_else(|| Some(format!("`{path}` cannot be read ({cause})")));
                }
            }
        }
        seen.extend(found.missing.iter().map(|path| (path.clone(), Seen::Missing)));
        let files = seen.into_iter().map(|(path, seen)| FileSeen { path, seen });
        (files.collect(), unknown)
    }

    /// A symlink: where it leads, and what is there if that is a file.
    fn follow(&mut self, path: &RepoPath) -> Result<(Seen, Option<FileStat>), String> {
        let on_disk = path.on_disk(&self.root);
        let failed = |cause: std::io::Error| format!("`{path}` cannot be read ({cause})");
        let target = std::fs::read_link(&on_disk).map_err(failed)?;
        let target = digest::of_parts([target.as_os_str().as_bytes()]);
        // One that leads nowhere, or round in a circle, has no end.
        let end = on_disk.canonicalize().ok();
        let end = end.and_then(|end| Some((std::fs::symlink_metadata(&end).ok()?, end)));
        let (stat, content) = match end {
            Some((meta, end)) if meta.is_file() => {
                let (stat, content) = looks::read(&end).map_err(failed)?;
                (Some(stat), Some(digest::hex(&content)))
            }
            _ => (None, None),
        };
        Ok((Seen::Link { target, content }, stat))
    }

    /// Waits until any change of what was seen would look different.
    pub fn settle(&self, view: &View) {
        let now = self.now_ns();
        let files = view.files.values().chain(view.ends.values().flatten());
        let files = files.map(|stat| looks::unsettled_for(stat, now)).max().unwrap_or(0);
        let answers = view.questions.iter().filter_map(|question| self.programs.answer(question));
        let programs = answers.map(|answer| programs::unsettled_for(answer, now)).max();
        let longest = files.max(programs.unwrap_or(0));
        if longest > 0 {
            let ms = u64::try_from(longest / 1_000_000 + 1).unwrap_or(0).min(LONGEST_SETTLING_MS);
            std::thread::sleep(std::time::Duration::from_millis(ms));
        }
    }

    /// What looks different now, each file and program; nothing means that all of it stayed as it was.
    pub fn moved(&mut self, check: &Check, view: &View) -> Result<Vec<String>> {
        let found = self.find(check)?;
        let mut moved: Vec<String> = Vec::new();
        for (path, stat) in &view.files {
            match found.files.get(path) {
                None => moved.push(format!("`{path}`")),
                Some(now) if now != stat => moved.push(format!("`{path}`")),
                Some(_) => {}
            }
        }
        let is_new = |path: &&RepoPath| !view.files.contains_key(*path);
        moved.extend(found.files.keys().filter(is_new).map(|path| format!("`{path}`")));
        for (path, end) in &view.ends {
            let now = path.on_disk(&self.root).canonicalize().ok();
            let now = now.and_then(|end| std::fs::symlink_metadata(end).ok());
            let now = now.filter(std::fs::Metadata::is_file).map(|meta| FileStat::of(&meta));
            if now != *end {
                moved.push(format!("what `{path}` leads to"));
            }
        }
        for question in &view.questions {
            let before = self.programs.answer(question);
            if before.is_some_and(|before| !programs::same_as_before(self.world, question, before))
            {
                moved.push(format!("the program `{}`", question.name));
            }
        }
        moved.sort();
        moved.dedup();
        Ok(moved)
    }
}

impl View {
    /// How many files it covers.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.manifest.files.len()
    }
}

fn now_ns(world: &World) -> i64 {
    i64::try_from((world.clock)().as_nanos()).unwrap_or(i64::MAX)
}

enum FileKind {
    Regular,
    Symlink,
    Other,
}

fn kind_of(stat: &FileStat) -> FileKind {
    match rustix::fs::FileType::from_raw_mode(stat.mode as rustix::fs::RawMode) {
        rustix::fs::FileType::RegularFile => FileKind::Regular,
        rustix::fs::FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

/// A word as a path from the root, if it can be one of a file in the repository.
fn path_from_root(cwd: Option<&RepoPath>, word: &str) -> Option<String> {
    if word.is_empty()
        || word.starts_with(['/', '-', '!'])
        || word.contains(['*', '?', '[', '\\', '{'])
    {
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

/// The programs of a check, and how each is asked.
fn questions(check: &Check, root: &Path, world: &World) -> Vec<Question> {
    let folder = check.cwd.as_ref().map_or(root.to_path_buf(), |cwd| cwd.on_disk(root));
    let question = |name: &str| Question {
        name: name.to_owned(),
        folder: folder.clone(),
        arguments: usual_arguments(name),
    };
    let mut all = Vec::new();
    match &check.kind {
        Kind::Run(command) => {
            all.push(question(&command.argv[0]));
            all.extend(interpreter(world, &command.argv[0], &folder).map(|name| question(&name)));
        }
        Kind::Tool { tool, ask, .. } => {
            let arguments = ask.as_ref().map(|ask| ask.argv[1..].to_vec());
            let name = ask.as_ref().map_or(tool, |ask| &ask.argv[0]);
            all.push(question(tool));
            if let Some(arguments) = arguments {
                all.push(Question { arguments: Some(arguments), ..question(name) });
            }
        }
        _ => {}
    }
    // A path that a check names as its tool is one from the root, as its inputs are.
    all.extend(check.tools.iter().map(|name| Question {
        folder: if name.contains('/') { root.to_path_buf() } else { folder.clone() },
        ..question(name)
    }));
    all
}

/// What reads a script, by its first line.
fn interpreter(world: &World, name: &str, folder: &Path) -> Option<String> {
    use std::io::Read;
    let path = programs::find(world, name, folder)?;
    let mut start = Vec::new();
    std::fs::File::open(path).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let is_env = first.ends_with("/env");
    let word = if is_env { words.find(|word| !word.starts_with('-')) } else { Some(first) };
    word.map(str::to_owned)
}

fn check_has_no_tool(check: &Check) -> bool {
    !matches!(check.kind, Kind::Tool { .. })
}

/// Why the state of a check is not known whatever is looked at; nothing where it can be.
#[must_use]
pub fn no_state(config: &ValidateConfig, check: &Check) -> Option<String> {
    match &check.kind {
        Kind::Run(_) if check.inputs.is_empty() && check.tools.is_empty() => {
            Some("it names no `inputs` and no `tools`, so it always runs".to_owned())
        }
        Kind::Run(command) if check.tools.is_empty() && runs_others(command) => Some(format!(
            "what `{}` runs is not named by `tools`, so it always runs",
            if command.shell { "a shell" } else { &command.argv[0] }
        )),
        Kind::Run(_) => check.needs.iter().find_map(|need| {
            let need = &config.checks[*need];
            let leaves_a_state = matches!(need.kind, Kind::Run(_));
            no_state(config, need).filter(|_| leaves_a_state).map(|_| {
                format!("it needs `{}`, whose state is not known, so it always runs", need.name)
            })
        }),
        Kind::Tool { .. } | Kind::File(_) | Kind::EnvVar(_) => None,
        _ => Some("it looks at what is outside of any file, so it always runs".to_owned()),
    }
}

fn runs_others(command: &CommandLine) -> bool {
    let program = command.argv[0].rsplit('/').next().unwrap_or_default();
    let is_given = |word: &String| word.starts_with('-') && word.contains('c');
    let is_told = SHELLS.contains(&program) && command.argv[1..].iter().any(is_given);
    command.shell || is_told || RUN_OTHERS.contains(&program)
}

/// What a check says about itself, as far as its result depends on it.
fn definition(config: &ValidateConfig, check: &Check) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    put("name", &check.name);
    match &check.kind {
        Kind::Run(command) => {
            put("kind", if command.shell { "shell" } else { "run" });
            command.argv.iter().for_each(|argument| put("argument", argument));
        }
        Kind::Tool { tool, version, ask } => {
            put("kind", "tool");
            put("tool", tool);
            put("version", &version.as_ref().map(ToString::to_string).unwrap_or_default());
            put("ask", ask.as_ref().map_or("", |ask| &ask.text));
        }
        Kind::File(paths) => {
            put("kind", "file");
            paths.iter().for_each(|path| put("file", &path.to_string()));
        }
        Kind::EnvVar(_) => put("kind", "env-var"),
        Kind::Disk(_) => put("kind", "disk"),
        Kind::PortFree(_) => put("kind", "port-free"),
        Kind::GitIdentity => put("kind", "git-identity"),
        Kind::Hooks => put("kind", "hooks"),
        Kind::Sync => put("kind", "sync"),
        Kind::Branches => put("kind", "branches"),
    }
    put("cwd", &check.cwd.as_ref().map(ToString::to_string).unwrap_or_default());
    check.inputs.iter().for_each(|pattern| put("inputs", pattern));
    check.tools.iter().for_each(|name| put("tools", name));
    check.env.iter().for_each(|name| put("env", name));
    check.needs.iter().for_each(|need| put("needs", &config.checks[*need].name));
    all
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
