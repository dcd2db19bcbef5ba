//! The files on which checks depend, looked at once for all checks of a run that name the same, as long as no
//! command has begun.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::key::{FileSeen, Seen, digest_of};
use super::looks;
use super::programs::SWITCHES;
use super::view::{MOST_FILES, MOST_FOLLOWED, Observer, now_ns, path_from_root};
use xtask_base::digest::{self, Digest};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_config::{Check, Kind};
use xtask_git::{Among, FileStat, FoundFiles, Globs};

/// What a check names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    patterns: Vec<String>,
    paths: Vec<RepoPath>,
    words: Vec<RepoPath>,
    first: Option<RepoPath>,
}

/// The files that were looked at in this run.
#[derive(Default)]
pub struct Sets {
    known: HashMap<Named, Arc<InputSet>>,
    has_begun: bool,
}

/// The files that a check names, as they are.
#[derive(Debug)]
pub struct InputSet {
    /// What was found.
    pub found: FoundFiles,
    /// Why that is not all of it, if it is not.
    pub outside: Option<String>,
    /// What is there, for the key.
    pub files: Arc<Vec<FileSeen>>,
    /// Why not all of it is known, if it is not.
    pub unreadable: Option<String>,
    /// Where symlinks ended.
    pub ends: BTreeMap<RepoPath, Option<FileStat>>,
    /// Of `files`.
    pub digest: Digest,
}

impl Observer<'_> {
    /// What a check names: its patterns, and the paths of its kind, of its command and of version managers.
    pub(super) fn named(&self, check: &Check) -> Named {
        // A path that is there is meant as it stands, whatever its letters mean in a pattern: `app/[slug]/page.tsx`.
        let is_there = |input: &&String| {
            let is_plain = !input.starts_with(['!', '/']) && input.contains(['[', '*', '?', '\\']);
            is_plain && self.root.join(input).symlink_metadata().is_ok()
        };
        let (there, patterns): (Vec<&String>, Vec<&String>) =
            check.inputs.iter().partition(|input| is_there(input));
        let mut paths: Vec<RepoPath> =
            there.into_iter().map(|name| RepoPath::new(name.as_str())).collect();
        if let Kind::File(named) = &check.kind {
            paths.extend(named.iter().cloned());
        }
        paths.extend(self.switches(check).into_iter().map(RepoPath::new));
        let words = self.words_that_name_files(check).into_iter().map(RepoPath::new).collect();
        // The first one is what a command works on.
        let first = match &check.kind {
            Kind::Run(command) => command.argv.get(1).map(String::as_str),
            _ => None,
        };
        let first = first.and_then(|word| path_from_root(check.cwd.as_ref(), word));
        let patterns = patterns.into_iter().cloned().collect();
        Named { patterns, paths, words, first: first.map(RepoPath::new) }
    }

    /// The files of a check. As long as no command has begun in this run they are looked at once for all that name
    /// the same.
    pub(super) fn set_of(&mut self, check: &Check) -> Result<Arc<InputSet>> {
        let named = self.named(check);
        if let Some(known) = self.sets.known.get(&named) {
            return Ok(Arc::clone(known));
        }
        let (found, outside) = self.find(&named)?;
        let mut ends = BTreeMap::new();
        let (files, unreadable) = match found.is_cut {
            true => (Vec::new(), None),
            false => self.read(&found, &mut ends),
        };
        let digest = digest_of(&files);
        let set = InputSet { found, outside, files: Arc::new(files), unreadable, ends, digest };
        let set = Arc::new(set);
        if !self.sets.has_begun {
            self.sets.known.insert(named, Arc::clone(&set));
        }
        Ok(set)
    }

    /// A command begins, and may change any file: from now on every check looks for itself.
    pub fn forget_sets(&mut self) {
        self.sets = Sets { known: HashMap::new(), has_begun: true };
    }

    /// The files of a check, and why they are not all of it, if they are not. A symlink that leads to a
    /// folder in the repository stands for what is in it.
    pub(super) fn find(&mut self, named: &Named) -> Result<(FoundFiles, Option<String>)> {
        let Named { patterns, paths, words, first } = named;
        if patterns.is_empty() && paths.is_empty() && words.is_empty() {
            return Ok((FoundFiles::default(), None));
        }
        if self.laid.is_none() && self.ignores.is_none() {
            self.ignores = Some(self.repo.ignores()?);
        }
        // What git ignores is what a command makes, more often than what it reads.
        let is_read = |path: &RepoPath| match (&self.laid, &self.ignores) {
            (Some(files), _) => files.contains(path),
            // The first one is what it works on.
            (None, _) if first.as_ref() == Some(path) => true,
            (None, ignores) => !ignores.as_ref().is_some_and(|all| all.is_ignored(path, false)),
        };
        let read = words.iter().filter(|path| is_read(path));
        let paths: Vec<RepoPath> = paths.iter().chain(read).cloned().collect();
        let mut globs = Globs::new(patterns.iter().map(String::as_str)).and_paths(paths);
        let mut followed: Vec<RepoPath> = Vec::new();
        let mut passed: Vec<RepoPath> = Vec::new();
        loop {
            let among = match (&self.laid, &self.ignores) {
                (Some(files), _) => Among::Laid(files),
                (None, Some(ignores)) => Among::Worktree(ignores),
                (None, None) => return Ok((FoundFiles::default(), None)),
            };
            let mut found = globs.clone().find(&self.root, &among, MOST_FILES);
            let is_link = |(_, stat): &(&RepoPath, &FileStat)| kind_of(stat) == FileKind::Symlink;
            let links = found.files.iter().filter(is_link).map(|(path, _)| path);
            let mut more = Vec::new();
            let mut outside = None;
            for link in links.chain(&found.links) {
                let Ok(end) = link.on_disk(&self.root).canonicalize() else { continue };
                if !end.is_dir() {
                    continue;
                }
                passed.push(link.clone());
                match end
                    .strip_prefix(&self.root)
                    .ok()
                    .filter(|inside| !inside.as_os_str().is_empty())
                {
                    Some(inside) => more.push(RepoPath::new(inside.as_os_str().as_bytes())),
                    None => {
                        outside = Some(format!(
                            "`{link}` leads to a folder outside, whose content is not looked at"
                        ));
                    }
                }
            }
            more.retain(|path| !followed.contains(path));
            more.sort();
            more.dedup();
            if more.is_empty() {
                // What is behind a symlink is found under its own name.
                found.idle.retain(|glob| {
                    !passed.iter().any(|link| xtask_git::may_lead_through(glob, link))
                });
                return Ok((found, outside));
            }
            if followed.len() + more.len() > MOST_FOLLOWED {
                return Ok((
                    found,
                    Some("its `inputs` hold too many symlinks to folders".to_owned()),
                ));
            }
            followed.extend(more.iter().cloned());
            globs = globs.and_paths(more);
        }
    }

    /// The words of a command that name a file of the repository: it reads them, whatever `inputs`
    /// says, unless git ignores them.
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
        if !runs
            || check.inputs.is_empty()
                && check.tools.is_empty()
                && !matches!(check.kind, Kind::Tool { .. })
        {
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
            // That it leads to a folder is not the same as that it leads nowhere.
            Some((meta, _)) if meta.is_dir() => (None, Some("a folder".to_owned())),
            Some(_) => (None, Some("something else".to_owned())),
            None => (None, None),
        };
        Ok((Seen::Link { target, content }, stat))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
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
