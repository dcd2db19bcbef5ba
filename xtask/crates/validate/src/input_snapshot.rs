//! The state on which the result of a check depends, taken at one moment.
//!
//! An `InputSnapshot` holds the manifest behind the cache key, and the stat data of every file and program in
//! it. No stat data may change while the check runs: even an edit that is reverted leaves a new ctime. For
//! example:
//!
//! ```text
//! inputs = ["src/**"], tools = ["ruff"]
//!   -> InputSnapshot { key: "9f86d0…", inputs: 2 files, tools: [ruff 0.6.9], unknown_reason: None }
//! ```

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache_key::InputManifest;
use super::cacheability::{
    collect_definition, is_wrapper_command, own_uncacheable_reason, uncacheable_reason,
};
use super::given_files::GivenFiles;
use super::input_set::InputSet;
use super::inspector::{InputInspector, MAX_INPUT_FILES, now_ns, path_from_root};
use super::outcome::CheckNote;
use super::programs::{
    self, FALLBACK_ARGUMENTS, QueryContext, ToolCache, ToolObservation, ToolQuery,
    list_tool_variables, version_arguments,
};
use super::stat_cache;
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, pluralize};
use xtask_config::{Check, CheckKind, ValidateConfig};
use xtask_git::FileStat;

/// The longest wait for clocks of file systems, in milliseconds; see `stat_cache::settle_time_ns`.
const MAX_SETTLE_MS: u64 = 2100;

/// The state of one check.
#[derive(Debug)]
pub struct InputSnapshot {
    pub manifest: InputManifest,
    /// The key of `manifest`.
    pub key: String,
    /// The reason the check cannot be cached; `None` if it can.
    pub unknown_reason: Option<String>,
    /// Hints for the user.
    pub notes: Vec<CheckNote>,
    /// The key without the files that the check is given, if each of them passes by itself.
    pub(super) base_key: Option<String>,
    /// The files that the check is given, if any can be.
    pub(super) given: Option<GivenFiles>,
    /// The files, their folders and the targets of symlinks, with their stat data.
    inputs: Arc<InputSet>,
    /// The answers to version queries.
    tools: Vec<(ToolQuery, ToolObservation)>,
}

/// A check listed in `needs`, in its present state.
#[derive(Clone, Debug)]
pub struct NeededCheck {
    pub name: String,
    pub key: String,
    /// The reason its products are unknown, if so.
    pub unknown_reason: Option<String>,
}

impl InputInspector<'_> {
    /// Writes the stat cache if it has changed.
    pub fn save_stat_cache(
        &mut self,
        disk: &Disk<'_>,
        views: &[&InputSnapshot],
    ) -> std::io::Result<()> {
        if let Some(watched) = self.watched {
            watched.put_stat_cache(std::mem::take(&mut self.stat_cache));
            return Ok(());
        }
        if !self.stat_cache.is_changed() {
            return Ok(());
        }
        let used: std::collections::HashSet<&[u8]> = views
            .iter()
            .flat_map(|snapshot| {
                let given = snapshot.given.iter().flat_map(GivenFiles::paths);
                snapshot.inputs.found.files.keys().chain(given)
            })
            .map(RepoPath::as_bytes)
            .collect();
        self.stat_cache.write(disk, &|path| path.starts_with(b"/") || used.contains(path))
    }

    /// Queries the programs of several checks in one go, so that their version commands run in parallel.
    pub fn query_tools(&mut self, config: &ValidateConfig, checks: &[usize]) -> Result<()> {
        let mut questions = Vec::new();
        for at in checks {
            questions.extend(self.tool_queries(config, *at)?);
        }
        let mut programs = std::mem::take(&mut self.programs);
        self.run_queries(&mut programs, &questions);
        self.programs = programs;
        Ok(())
    }

    fn working_folder(&self, check: &Check) -> PathBuf {
        check.cwd.as_ref().map_or(self.root.clone(), |cwd| cwd.to_disk_path(&self.root))
    }

    fn run_queries(&mut self, programs: &mut ToolCache, questions: &[ToolQuery]) {
        let (world, interrupts) = (self.world, self.interrupts);
        let asks = self.version_cache.is_none();
        let looker =
            QueryContext { world, runs_tools: asks, stop: &|| interrupts.was_interrupted() };
        programs.query_all(&looker, &mut self.stat_cache, questions, &|| now_ns(world));
    }

    /// Takes the snapshot of the check at index `at`. `needs` are the states of the checks that it needs.
    pub fn take_snapshot(
        &mut self,
        config: &ValidateConfig,
        at: usize,
        needs: Vec<NeededCheck>,
    ) -> Result<InputSnapshot> {
        let check = &config.checks[at];
        self.query_tools(config, &[at])?;
        let tools = self.collect_observations(config, at)?;
        let inputs = self.input_set(check)?;
        let given = self.find_given_files(check)?;
        let tool_reason = || tools.iter().find_map(|(_, tool)| tool.unknown_reason.clone());
        let unknown_reason = match inputs.found.is_truncated {
            true => Some(format!(
                "its `inputs` match more than {}: narrow them",
                pluralize(MAX_INPUT_FILES, "file")
            )),
            false => self
                .find_unknown_command(config, at, &needs)
                .or_else(tool_reason)
                .or_else(|| find_unknown_input(&inputs))
                .or_else(|| given.as_ref().and_then(find_unknown_given)),
        };
        let mut manifest = self.build_manifest(config, check, &inputs, &tools, needs);
        let is_each = check.files.as_ref().is_some_and(|files| files.each);
        let base_key = is_each.then(|| manifest.key_with(inputs.digest, None));
        let given_digest = given.as_ref().map(|given| given.set.digest);
        if let Some(given) = &given {
            manifest.given = Arc::clone(&given.set.files);
        }
        Ok(InputSnapshot {
            key: manifest.key_with(inputs.digest, given_digest),
            base_key,
            given,
            manifest,
            unknown_reason,
            notes: list_input_notes(check, &inputs),
            inputs,
            tools,
        })
    }

    /// Returns the reason for which the definition of a check, or of the checks that it needs, prevents caching.
    fn find_unknown_command(
        &self,
        config: &ValidateConfig,
        at: usize,
        needs: &[NeededCheck],
    ) -> Option<String> {
        let check = &config.checks[at];
        let CheckKind::Run(command) = &check.kind else { return uncacheable_reason(config, at) };
        let need_reason = || needs.iter().find_map(|need| need.unknown_reason.clone());
        let wrapper_reason = || {
            let script = &command.argv[0];
            let is_bare_script = check.tools.is_empty() && script.contains('/');
            let folder = self.working_folder(check);
            let by = is_bare_script.then(|| read_interpreter(self.world, script, &folder))??;
            is_wrapper_command(&by).then(|| {
                format!(
                    "`tools` does not list the programs that `{script}` runs, so it always runs"
                )
            })
        };
        uncacheable_reason(config, at).or_else(need_reason).or_else(wrapper_reason)
    }

    /// Returns the answers to the version queries of a check; in a dry run, with the versions of its last pass.
    fn collect_observations(
        &mut self,
        config: &ValidateConfig,
        at: usize,
    ) -> Result<Vec<(ToolQuery, ToolObservation)>> {
        let name = &config.checks[at].name;
        let last = self.version_cache.and_then(|store| store.find_last_manifest(&self.root, name));
        let mut all = Vec::new();
        for query in self.tool_queries(config, at)? {
            let Some(mut answer) = self.programs.observation(&query).cloned() else { continue };
            if let Some(last) = &last {
                let seen = &mut answer.tool;
                let same = last.tools.iter().find(|old| {
                    (&old.name, &old.found, &old.content)
                        == (&seen.name, &seen.found, &seen.content)
                });
                seen.version = same.and_then(|same| same.version.clone());
            }
            all.push((query, answer));
        }
        Ok(all)
    }

    fn build_manifest(
        &self,
        config: &ValidateConfig,
        check: &Check,
        inputs: &InputSet,
        tools: &[(ToolQuery, ToolObservation)],
        needs: Vec<NeededCheck>,
    ) -> InputManifest {
        let value = |name: &String| {
            let value = self.world.variables.get(std::ffi::OsStr::new(name))?;
            Some(digest::to_hex(&digest::hash_parts([value.as_bytes()])))
        };
        let mut names = check.env.clone();
        if matches!(check.kind, CheckKind::Run(_) | CheckKind::Tool { .. }) {
            names.extend(list_tool_variables(self.world));
            names.sort();
            names.dedup();
        }
        if let CheckKind::EnvVar(more) = &check.kind {
            names.extend(more.iter().cloned());
        }
        let folder = self.working_folder(check);
        let folder = folder.canonicalize().unwrap_or(folder);
        let mut definition = collect_definition(config, check);
        definition.push(("folder".to_owned(), escape_path(&folder)));
        InputManifest {
            toolkit: env!("CARGO_PKG_VERSION").to_owned(),
            root: escape_path(&self.root),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            definition,
            files: Arc::clone(&inputs.files),
            given: Arc::default(),
            env: names.iter().map(|name| (name.clone(), value(name))).collect(),
            tools: tools.iter().map(|(_, answer)| answer.tool.clone()).collect(),
            needs: needs.into_iter().map(|need| (need.name, need.key)).collect(),
        }
    }

    /// Waits until any change of the files and programs in `snapshot` will be visible in their stat data.
    pub fn wait_until_settled(&self, snapshot: &InputSnapshot) {
        let ms = self.settle_time_ms(snapshot);
        if ms > 0 {
            std::thread::sleep(std::time::Duration::from_millis(ms));
        }
    }

    /// How long it takes until then, in milliseconds.
    pub(super) fn settle_time_ms(&self, snapshot: &InputSnapshot) -> u64 {
        let now = self.now_ns();
        let files = snapshot
            .inputs
            .found
            .files
            .values()
            .chain(snapshot.inputs.link_targets.values().flatten())
            .chain(snapshot.given.iter().flat_map(|given| given.set.found.files.values()));
        let files = files.map(|stat| stat_cache::settle_time_ns(stat, now)).max().unwrap_or(0);
        let answers = snapshot.tools.iter();
        let programs = answers.map(|(_, answer)| programs::settle_time_ns(answer, now)).max();
        let longest = files.max(programs.unwrap_or(0));
        if longest <= 0 {
            return 0;
        }
        u64::try_from(longest / 1_000_000 + 1).unwrap_or(0).min(MAX_SETTLE_MS)
    }

    /// Lists the files, folders and programs that have changed since `snapshot` was taken; an empty list means
    /// none.
    pub fn find_changes(&mut self, check: &Check, snapshot: &InputSnapshot) -> Result<Vec<String>> {
        // Inspects everything anew: the cached input sets are older than the command.
        let found = self.find_files(&self.input_spec(check)).map(|(found, _)| found)?;
        let mut moved: Vec<String> = Vec::new();
        for (path, stat) in &snapshot.inputs.found.files {
            if found.files.get(path) != Some(stat) {
                moved.push(format!("`{path}`"));
            }
        }
        let is_new = |path: &&RepoPath| !snapshot.inputs.found.files.contains_key(*path);
        moved.extend(found.files.keys().filter(is_new).map(|path| format!("`{path}`")));
        moved.extend(self.list_changed_given(snapshot).iter().map(|path| format!("`{path}`")));
        for (path, end) in &snapshot.inputs.link_targets {
            let now = path.to_disk_path(&self.root).canonicalize().ok();
            let now = now.and_then(|end| std::fs::symlink_metadata(end).ok());
            let now =
                now.filter(std::fs::Metadata::is_file).map(|meta| FileStat::from_metadata(&meta));
            if now != *end {
                moved.push(format!("the target of `{path}`"));
            }
        }
        if moved.is_empty() {
            // A file was created and removed again, or replaced for a while.
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
            let others = snapshot.inputs.found.folders.iter().filter(is_other);
            moved.extend(others.map(|(folder, _)| name(folder)));
        }
        let questions: Vec<ToolQuery> =
            snapshot.tools.iter().map(|(question, _)| question.clone()).collect();
        let mut programs = ToolCache::default();
        self.run_queries(&mut programs, &questions);
        for (question, before) in &snapshot.tools {
            if programs.observation(question) != Some(before) {
                moved.push(format!("the program `{}`", question.name));
            }
        }
        moved.sort();
        moved.dedup();
        Ok(moved)
    }

    /// Lists the files given to a check that have changed since `snapshot` was taken.
    pub(super) fn list_changed_given(&self, snapshot: &InputSnapshot) -> Vec<RepoPath> {
        let Some(given) = &snapshot.given else { return Vec::new() };
        let is_changed = |(path, stat): &(&RepoPath, &FileStat)| {
            let meta = std::fs::symlink_metadata(path.to_disk_path(&self.root)).ok();
            meta.map(|meta| FileStat::from_metadata(&meta)).as_ref() != Some(*stat)
        };
        given.set.found.files.iter().filter(is_changed).map(|(path, _)| path.clone()).collect()
    }

    /// Lists the version queries of a check. A check that cannot be cached gets none: the answer would be
    /// unused, and a program without `--version` might do its work.
    fn tool_queries(&mut self, config: &ValidateConfig, at: usize) -> Result<Vec<ToolQuery>> {
        let check = &config.checks[at];
        let folder = self.working_folder(check);
        let question = |name: &str, asks: bool| ToolQuery {
            name: name.to_owned(),
            folder: folder.clone(),
            arguments: if asks { version_arguments(name) } else { None },
            fallbacks: &[],
        };
        let mut all = Vec::new();
        match &check.kind {
            CheckKind::Run(_) if own_uncacheable_reason(check).is_some() => return Ok(all),
            CheckKind::Run(command) => {
                let name = &command.argv[0];
                all.push(question(name, self.can_ask_version(check.cwd.as_ref(), name)?));
                if let Some(by) = read_interpreter(self.world, name, &folder) {
                    all.push(question(&by[0], true));
                }
                // A file outside the repository that the command reads counts by its content.
                let words = command.argv[1..].iter().filter(|_| !command.shell);
                let elsewhere = words.filter(|word| {
                    word.starts_with('/') && Path::new(word).metadata().is_ok_and(|m| m.is_file())
                });
                all.extend(elsewhere.map(|word| question(word, false)));
            }
            CheckKind::Tool { tool, version_command: ask, .. } => {
                all.push(ToolQuery {
                    fallbacks: &FALLBACK_ARGUMENTS,
                    ..question(tool, ask.is_none())
                });
                if let Some(ask) = ask {
                    let arguments = Some(ask.argv[1..].to_vec());
                    all.push(ToolQuery { arguments, ..question(&ask.argv[0], false) });
                }
            }
            _ => {}
        }
        // A path in `tools` is relative to the root, like `inputs`.
        for name in &check.tools {
            let asks = self.can_ask_version(None, name)?;
            let folder = if name.contains('/') { self.root.clone() } else { folder.clone() };
            all.push(ToolQuery { folder, ..question(name, asks) });
        }
        Ok(all)
    }

    /// Whether a program can be asked for its version: one on PATH, or an untracked one in the worktree. A
    /// script that git tracks counts by its content.
    fn can_ask_version(&mut self, cwd: Option<&RepoPath>, name: &str) -> Result<bool> {
        if !name.contains('/') {
            return Ok(true);
        }
        let Some(path) = path_from_root(cwd, name).map(RepoPath::new) else {
            return Ok(true);
        };
        if let Some(files) = &self.exported {
            return Ok(!files.contains(&path));
        }
        if self.ignores.is_none() {
            self.ignores = Some(self.repo.read_ignore_rules()?);
        }
        Ok(!self.ignores.as_ref().is_some_and(|ignores| ignores.is_tracked(&path)))
    }
}

impl InputSnapshot {
    /// Lists the reasons for which versions in `tools` are unusable.
    pub fn version_failures(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().filter_map(|(_, answer)| answer.failure.as_deref())
    }

    /// Whether the file at `path` is one of the inputs, apart from what the check is given.
    pub(super) fn has_input(&self, path: &RepoPath) -> bool {
        self.inputs.found.files.contains_key(path)
    }

    /// Returns the number of files in the manifest.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.manifest.files.len() + self.manifest.given.len()
    }
}

/// Returns the reason for which the contents of the input files are not fully known.
fn find_unknown_input(inputs: &InputSet) -> Option<String> {
    let found = &inputs.found;
    let unmatched_reason = || {
        let globs = join_unmatched(inputs)?;
        Some(format!(
            "`inputs` has {globs}, which matches no file, so it always runs; write `\\` in front of a literal \
             `[`, `*` or `?`"
        ))
    };
    let unreadable =
        || found.unreadable.first().map(|(path, why)| format!("cannot read `{path}`: {why}"));
    let outside = inputs.outside.clone();
    outside.or_else(unmatched_reason).or_else(unreadable).or_else(|| inputs.unreadable.clone())
}

/// Returns the reason for which the contents of the files that a check is given are not fully known.
fn find_unknown_given(given: &GivenFiles) -> Option<String> {
    let set = &given.set;
    let too_many = || {
        let most = pluralize(MAX_INPUT_FILES, "file");
        format!("its `files` match more than {most}: narrow them")
    };
    set.found.is_truncated.then(too_many).or_else(|| set.unreadable.clone())
}

/// Lists the entries of `inputs` that have no file.
fn list_input_notes(check: &Check, inputs: &InputSet) -> Vec<CheckNote> {
    let is_input = |path: &&RepoPath| check.inputs.iter().any(|input| *input == path.to_string());
    let missing = inputs.found.missing.iter().filter(is_input);
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    let unmatched = join_unmatched(inputs).map(CheckNote::UnmatchedInputs);
    let missing = (!missing.is_empty()).then(|| CheckNote::MissingInputs(join_names(&missing, 3)));
    unmatched.into_iter().chain(missing).collect()
}

fn join_unmatched(inputs: &InputSet) -> Option<String> {
    let globs = &inputs.found.unmatched;
    (!globs.is_empty()).then(|| join_names(globs, 3))
}

fn escape_path(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// Returns the interpreter of a script and its arguments, from the `#!` line.
fn read_interpreter(world: &Environment, name: &str, folder: &Path) -> Option<Vec<String>> {
    use std::io::Read;
    let path = programs::find_program(world, name, folder)?;
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
