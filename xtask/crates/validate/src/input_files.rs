//! The input files of checks, searched once per run for all checks with the same `InputSpec`.
//!
//! The cached sets are used only until the first command starts, which may change any file. For example:
//!
//! ```text
//! inputs = ["src/**/*.py", "app/[slug]/page.tsx"]  ->  src/a.py: File { content: sha256 }, …
//! ```

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::cache_key::{FileState, ManifestFile, digest_files};
use super::input_set::{InputSet, InputSetCache, InputSpec};
use super::inspector::{InputInspector, MAX_INPUT_FILES, now_ns, path_from_root};
use super::programs::VERSION_FILES;
use super::stat_cache;
use xtask_base::digest;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_config::{Check, CheckKind};
use xtask_git::{FileGlobs, FileStat, FoundFiles};

/// The largest number of symlinks to folders that are followed for one check.
const MAX_FOLLOWED_LINKS: usize = 64;

/// Symlinks to folders.
#[derive(Default)]
struct LinkedFolders {
    links: Vec<RepoPath>,
    /// The folders inside the repository.
    inside: Vec<RepoPath>,
    /// The reason the files are incomplete, if a folder is outside.
    outside: Option<String>,
}

impl InputInspector<'_> {
    /// Collects the patterns of a check, and the paths named by its kind, by its command and by version
    /// managers.
    pub(super) fn input_spec(&self, check: &Check) -> InputSpec {
        // An existing path is taken literally, even if it contains glob characters: `app/[slug]/page.tsx`.
        let is_there = |input: &&String| {
            let is_plain = !input.starts_with(['!', '/']) && input.contains(['[', '*', '?', '\\']);
            is_plain && self.root.join(input).symlink_metadata().is_ok()
        };
        let (there, patterns): (Vec<&String>, Vec<&String>) =
            check.inputs.iter().partition(|input| is_there(input));
        let mut paths: Vec<RepoPath> =
            there.into_iter().map(|name| RepoPath::new(name.as_str())).collect();
        if let CheckKind::File(named) = &check.kind {
            paths.extend(named.iter().cloned());
        }
        paths.extend(self.list_version_files(check).into_iter().map(RepoPath::new));
        let words = self.list_command_paths(check).into_iter().map(RepoPath::new).collect();
        // The first argument is the subject of the command.
        let first = match &check.kind {
            CheckKind::Run(command) => command.argv.get(1).map(String::as_str),
            _ => None,
        };
        let first = first.and_then(|word| path_from_root(check.cwd.as_ref(), word));
        let patterns = patterns.into_iter().cloned().collect();
        InputSpec {
            patterns,
            paths,
            command_paths: words,
            first_argument: first.map(RepoPath::new),
        }
    }

    /// Returns the input files of a check, from the cache if no command has started in this run.
    pub(super) fn input_set(&mut self, check: &Check) -> Result<Arc<InputSet>> {
        let named = self.input_spec(check);
        if let Some(known) = self.input_sets.known.get(&named) {
            return Ok(Arc::clone(known));
        }
        let (found, outside) = self.find_files(&named)?;
        let mut ends = BTreeMap::new();
        let (files, unreadable) = match found.is_truncated {
            true => (Vec::new(), None),
            false => self.read_files(&found, &mut ends),
        };
        let digest = digest_files(&files);
        let set = InputSet {
            found,
            outside,
            files: Arc::new(files),
            unreadable,
            link_targets: ends,
            digest,
        };
        let set = Arc::new(set);
        if !self.input_sets.has_command_started {
            self.input_sets.known.insert(named, Arc::clone(&set));
        }
        Ok(set)
    }

    /// Empties the cache because a command starts; from now on every check searches anew.
    pub fn forget_input_sets(&mut self) {
        self.input_sets = InputSetCache { known: HashMap::new(), has_command_started: true };
    }

    /// Finds the files of `named`, and the reason the list may be incomplete, if so. A symlink to a folder
    /// inside the repository stands for the files in that folder.
    pub(super) fn find_files(&mut self, named: &InputSpec) -> Result<(FoundFiles, Option<String>)> {
        if named.patterns.is_empty() && named.paths.is_empty() && named.command_paths.is_empty() {
            return Ok((FoundFiles::default(), None));
        }
        if let Some(found) = self.watched.and_then(|watched| watched.find_known(named)) {
            return Ok((found, None));
        }
        self.load_ignore_rules()?;
        let mut globs = self.search_globs(named);
        let mut followed: Vec<RepoPath> = Vec::new();
        let mut passed: Vec<RepoPath> = Vec::new();
        loop {
            let Some(among) = self.search_scope() else {
                return Ok((FoundFiles::default(), None));
            };
            let mut found = globs.clone().find_files(&self.root, &among, MAX_INPUT_FILES);
            let LinkedFolders { links, inside: mut more, outside } =
                self.find_linked_folders(&found);
            passed.extend(links);
            more.retain(|path| !followed.contains(path));
            more.sort();
            more.dedup();
            if more.is_empty() {
                // Files behind a symlink are found under their real path.
                found.unmatched.retain(|glob| {
                    !passed.iter().any(|link| xtask_git::may_match_behind_link(glob, link))
                });
                if let Some(watched) = self.watched
                    && followed.is_empty()
                    && outside.is_none()
                {
                    watched.keep_found(named, &globs, &found);
                }
                return Ok((found, outside));
            }
            if followed.len() + more.len() > MAX_FOLLOWED_LINKS {
                return Ok((
                    found,
                    Some("its `inputs` contain too many symlinks to folders".to_owned()),
                ));
            }
            followed.extend(more.iter().cloned());
            globs = globs.with_paths(more);
        }
    }

    /// Returns what `named` looks for: its patterns, its paths and the arguments that the command probably reads.
    fn search_globs(&self, named: &InputSpec) -> FileGlobs {
        let InputSpec { patterns, paths, command_paths, first_argument } = named;
        // A command more often writes a file that git ignores than reads it.
        let is_read = |path: &RepoPath| match (&self.exported, &self.ignores) {
            (Some(files), _) => files.contains(path),
            // The first argument counts even if git ignores it.
            (None, _) if first_argument.as_ref() == Some(path) => true,
            (None, ignores) => !ignores.as_ref().is_some_and(|all| all.is_ignored(path, false)),
        };
        let read = command_paths.iter().filter(|path| is_read(path));
        let paths: Vec<RepoPath> = paths.iter().chain(read).cloned().collect();
        FileGlobs::new(patterns.iter().map(String::as_str)).with_paths(paths)
    }

    /// Finds the symlinks to folders among the files found, and these folders.
    fn find_linked_folders(&self, found: &FoundFiles) -> LinkedFolders {
        let is_link = |(_, stat): &(&RepoPath, &FileStat)| file_kind(stat) == FileKind::Symlink;
        let links = found.files.iter().filter(is_link).map(|(path, _)| path);
        let mut folders = LinkedFolders::default();
        for link in links.chain(&found.links) {
            let Ok(end) = link.to_disk_path(&self.root).canonicalize() else { continue };
            if !end.is_dir() {
                continue;
            }
            folders.links.push(link.clone());
            let inside = end.strip_prefix(&self.root).ok().map(|inside| inside.as_os_str());
            match inside.filter(|inside| !inside.is_empty()) {
                Some(inside) => folders.inside.push(RepoPath::new(inside.as_bytes())),
                None => {
                    folders.outside = Some(format!(
                        "`{link}` points to a folder outside the repository, whose content is not read"
                    ));
                }
            }
        }
        folders
    }

    /// Lists the arguments of a command that are files in the repository. The command reads them whether or
    /// not `inputs` lists them.
    fn list_command_paths(&self, check: &Check) -> Vec<String> {
        let CheckKind::Run(command) = &check.kind else { return Vec::new() };
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

    /// Lists the existing `VERSION_FILES` in the root, the folder of the check and the folders between.
    fn list_version_files(&self, check: &Check) -> Vec<String> {
        let runs = matches!(check.kind, CheckKind::Run(_) | CheckKind::Tool { .. });
        if !runs
            || check.inputs.is_empty()
                && check.tools.is_empty()
                && !matches!(check.kind, CheckKind::Tool { .. })
        {
            return Vec::new();
        }
        let mut folders: Vec<String> = vec![String::new()];
        if let Some(cwd) = &check.cwd {
            folders.push(format!("{cwd}/"));
            folders.extend(cwd.ancestors().map(|folder| format!("{folder}/")));
        }
        let names =
            folders.iter().flat_map(|folder| VERSION_FILES.map(|name| format!("{folder}{name}")));
        names.filter(|name| self.root.join(name).symlink_metadata().is_ok()).collect()
    }

    /// Reads the files found, and returns the reason some contents are unknown, if so.
    pub(super) fn read_files(
        &mut self,
        found: &FoundFiles,
        ends: &mut BTreeMap<RepoPath, Option<FileStat>>,
    ) -> (Vec<ManifestFile>, Option<String>) {
        let mut seen: BTreeMap<RepoPath, FileState> = BTreeMap::new();
        let mut unknown = None;
        let mut regular = Vec::new();
        for (path, stat) in &found.files {
            match file_kind(stat) {
                FileKind::Regular => regular.push((path, *stat)),
                FileKind::Symlink => match self.follow_symlink(path) {
                    Ok((value, end)) => {
                        seen.insert(path.clone(), value);
                        ends.insert(path.clone(), end);
                    }
                    Err(why) => unknown = unknown.or(Some(why)),
                },
                FileKind::Other => drop(seen.insert(path.clone(), FileState::Other)),
            }
        }
        let asked: Vec<(&[u8], FileStat)> =
            regular.iter().map(|(path, stat)| (path.as_bytes(), *stat)).collect();
        let world = self.world;
        let digests =
            self.stat_cache.resolve_digests(&self.root, &asked, &|| now_ns(world), self.progress);
        for ((path, stat), digest) in regular.into_iter().zip(digests) {
            match digest {
                Ok((read, content)) => {
                    if read != stat {
                        unknown =
                            unknown.or_else(|| Some(format!("`{path}` changed while it was read")));
                    }
                    let executable = stat.mode & 0o100 != 0;
                    seen.insert(path.clone(), FileState::File { executable, content });
                }
                Err(cause) => {
                    unknown = unknown.or_else(|| Some(format!("cannot read `{path}`: {cause}")));
                }
            }
        }
        seen.extend(found.missing.iter().map(|path| (path.clone(), FileState::Missing)));
        let files = seen.into_iter().map(|(path, seen)| ManifestFile { path, seen });
        (files.collect(), unknown)
    }

    /// Reads a symlink, and the file at which it ends.
    fn follow_symlink(&mut self, path: &RepoPath) -> Result<(FileState, Option<FileStat>), String> {
        let on_disk = path.to_disk_path(&self.root);
        let failed = |cause: std::io::Error| format!("cannot read `{path}`: {cause}");
        let target = std::fs::read_link(&on_disk).map_err(failed)?;
        let target = digest::hash_parts([target.as_os_str().as_bytes()]);
        // A dangling symlink and a cycle have no end.
        let end = on_disk.canonicalize().ok();
        let end = end.and_then(|end| Some((std::fs::symlink_metadata(&end).ok()?, end)));
        let (stat, content) = match end {
            Some((meta, end)) if meta.is_file() => {
                let (stat, content) = stat_cache::digest_file(&end).map_err(failed)?;
                (Some(stat), Some(digest::to_hex(&content)))
            }
            // A link to a folder differs from a dangling one.
            Some((meta, _)) if meta.is_dir() => (None, Some("a folder".to_owned())),
            Some(_) => (None, Some("something else".to_owned())),
            None => (None, None),
        };
        Ok((FileState::Link { target, content }, stat))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Regular,
    Symlink,
    Other,
}

fn file_kind(stat: &FileStat) -> FileKind {
    match rustix::fs::FileType::from_raw_mode(stat.mode as rustix::fs::RawMode) {
        rustix::fs::FileType::RegularFile => FileKind::Regular,
        rustix::fs::FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}
