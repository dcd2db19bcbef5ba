//! Uncommitted changes of a worktree, as git reports them: staged, unstaged, unmerged, untracked,
//! and edits hidden by `--assume-unchanged` or `--skip-worktree`.
//!
//! No file is written, not even the index. For example, a line of `git status --porcelain=v2 -z`:
//!
//! ```text
//! 1 .M N... 100644 100644 100644 1a2b… 1a2b… setup/a
//! -> tracked: setup/a, SameAsHead
//! ```

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::local_git::split_at_nul;
use super::{FileMode, Id, PathCache, PathPatterns, Repo, TreeEntry, WorktreeItem};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::path::RepoPath;

/// The most files to search below ignored folders.
const MAX_FILES_BELOW: usize = 100_000;

/// The differences between a worktree and HEAD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorktreeChanges {
    /// Tracked paths that differ in the index, on disk or both, with the state of the index.
    pub tracked: BTreeMap<RepoPath, IndexChange>,
    /// Edits behind `--assume-unchanged` or `--skip-worktree`: git neither shows nor replaces them.
    pub overlooked: Vec<RepoPath>,
    /// Files neither tracked nor ignored.
    pub untracked: Vec<RepoPath>,
    /// Nested repositories that are no submodules.
    pub nested: Vec<RepoPath>,
    /// Submodules with changes inside.
    pub submodules: Vec<RepoPath>,
    /// Folders that cannot be opened, each as `PATH: REASON`.
    pub unreadable: Vec<String>,
}

/// State of the index at a changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexChange {
    /// Same content as HEAD.
    SameAsHead,
    /// Other content than HEAD.
    Entry(TreeEntry),
    /// Deleted from the index.
    Removed,
    /// Marked with `git add -N`, without content.
    IntentToAdd,
    /// Unmerged: base, ours, theirs.
    Conflict([Option<TreeEntry>; 3]),
}

impl WorktreeChanges {
    /// Returns whether the worktree holds no change that git could not restore.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracked.is_empty() && self.untracked.is_empty() && self.overlooked.is_empty()
    }
}

impl Repo {
    /// Lists the uncommitted changes of the worktree.
    pub fn list_changes(&self) -> Result<WorktreeChanges> {
        let args = [
            "--no-optional-locks",
            "-c",
            "core.fsmonitor=false",
            "status",
            "--porcelain=v2",
            "-z",
            "--untracked-files=all",
            "--no-renames",
            "--ignore-submodules=none",
        ];
        let asked = self.local_git(args).list("`git status` failed")?;
        let mut changes = WorktreeChanges::default();
        for line in split_at_nul(&asked.stdout_bytes) {
            let read = parse_status_line(line, &mut changes);
            read.ok_or_else(|| {
                let shown = String::from_utf8_lossy(line).into_owned();
                Error::unable("unexpected output of `git status`").with_detail(shown)
            })?;
        }
        self.add_overlooked(&mut changes)?;
        // Git skips folders that it cannot open and only warns about them, among other warnings.
        if !asked.stderr.is_empty() {
            changes.unreadable = self.list_unreadable_folders()?;
        }
        // A file removed from the index and still on disk is listed twice.
        changes.untracked.retain(|path| !changes.tracked.contains_key(path));
        Ok(changes)
    }

    /// Lists the folders that cannot be opened, as `PATH: REASON`, without ignored folders and
    /// nested repositories.
    fn list_unreadable_folders(&self) -> Result<Vec<String>> {
        let mut closed: Vec<(PathBuf, String)> = Vec::new();
        let mut folders = vec![self.root().to_path_buf()];
        while let Some(folder) = folders.pop() {
            let is_others = folder != self.root() && folder.join(".git").symlink_metadata().is_ok();
            if is_others {
                continue;
            }
            let entries = folder.read_dir().and_then(Iterator::collect::<io::Result<Vec<_>>>);
            match entries {
                Ok(entries) => {
                    let is_folder =
                        |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
                    let below = entries.into_iter().filter(is_folder);
                    folders.extend(
                        below.filter(|entry| entry.file_name() != ".git").map(|entry| entry.path()),
                    );
                }
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => closed.push((folder, cause.to_string())),
            }
        }
        let names = closed.iter().flat_map(|(folder, _)| [folder.as_os_str().as_bytes(), b"\0"]);
        let names: Vec<u8> = names.flatten().copied().collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let asking = self.local_git(["check-ignore", "--no-index", "-z", "--stdin"]);
        let ignored = asking.with_full_output().run_with_input(&names)?.stdout_bytes;
        let is_ignored = |folder: &Path| {
            split_at_nul(&ignored).any(|name| name == folder.as_os_str().as_bytes())
        };
        // For a sparse index `check-ignore` would write objects; `--no-index` avoids that.
        let index = self.read_index()?;
        let is_tracked = |folder: &Path| {
            let inside = folder.strip_prefix(self.root()).unwrap_or(folder);
            index.has_tracked_below(inside.as_os_str().as_bytes())
        };
        let told = closed.iter().filter(|(folder, _)| !is_ignored(folder) || is_tracked(folder));
        let told = told.map(|(folder, why)| {
            let folder = folder.strip_prefix(self.root()).unwrap_or(folder);
            format!("{}: {why}", folder.display())
        });
        Ok(told.collect())
    }

    /// Adds edits behind `--assume-unchanged` and `--skip-worktree`, which `git status` hides.
    fn add_overlooked(&self, changes: &mut WorktreeChanges) -> Result<()> {
        let args = ["--no-optional-locks", "ls-files", "--sparse", "-v", "-z", "--cached"];
        let asked = self.local_git(args).list("cannot list the tracked files")?;
        let marked = split_at_nul(&asked.stdout_bytes).filter_map(|line| match line {
            [mark, b' ', path @ ..] if *mark == b'S' || mark.is_ascii_lowercase() => {
                Some(RepoPath::new(path))
            }
            _ => None,
        });
        let marked: Vec<RepoPath> =
            marked.filter(|path| !changes.tracked.contains_key(path)).collect();
        if marked.is_empty() {
            return Ok(());
        }
        let index = self.read_index()?;
        let mut filters = self.clean_filters(&index)?;
        let mut path_cache = PathCache::default();
        for path in marked {
            let Some(staged) =
                index.path_status(&path).entry().filter(|e| e.mode != FileMode::Gitlink)
            else {
                continue;
            };
            // A file that sparse checkout leaves out is absent without having been deleted.
            if let WorktreeItem::Present(found) =
                self.read_worktree_item(&path, Some(staged), &mut path_cache, &mut filters, &index)?
                && found.entry != staged
            {
                changes.overlooked.push(path);
            }
        }
        Ok(())
    }

    /// Finds ignored files that match the patterns. A completely ignored folder is entered only if
    /// a pattern names it with a trailing slash, or names a path from the root: `.env` selects
    /// files, and a folder of that name may hold thousands of files that are no secrets.
    pub fn find_ignored_files(&self, patterns: &[String]) -> Result<Vec<RepoPath>> {
        if patterns.is_empty() {
            return Ok(Vec::new());
        }
        let args = [
            "--no-optional-locks",
            "ls-files",
            "-z",
            "--others",
            "--ignored",
            "--exclude-standard",
            "--directory",
        ];
        let asked = self.local_git(args).list("cannot list the ignored files")?;
        let all = PathPatterns::new(patterns.iter().map(String::as_str));
        let names_folders = |pattern: &&str| pattern.contains('/');
        let folders = PathPatterns::new(patterns.iter().map(String::as_str).filter(names_folders));
        let is_from_root = |pattern: &&str| pattern.trim_end_matches('/').contains('/');
        let from_root = PathPatterns::new(patterns.iter().map(String::as_str).filter(is_from_root));
        let mut found = Vec::new();
        for name in split_at_nul(&asked.stdout_bytes) {
            match name.strip_suffix(b"/") {
                None if all.match_with_folders(name, false) == Some(true) => {
                    found.push(RepoPath::new(name));
                }
                Some(folder)
                    if folders.match_with_folders(folder, true) == Some(true)
                        || from_root.may_match_below(folder) =>
                {
                    self.find_files_below(&RepoPath::new(folder), &all, &mut found)?;
                }
                _ => {}
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Finds the matching files below a folder, without following symlinks.
    fn find_files_below(
        &self,
        folder: &RepoPath,
        patterns: &PathPatterns,
        found: &mut Vec<RepoPath>,
    ) -> Result<()> {
        let mut folders = vec![folder.clone()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            let failed = || format!("cannot read the folder `{folder}`");
            let entries = match std::fs::read_dir(folder.to_disk_path(self.root())) {
                // Deleted concurrently.
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.with_context(failed)?,
            };
            for entry in entries {
                let entry = entry.with_context(failed)?;
                let name = entry.file_name();
                let path = RepoPath::new([folder.as_bytes(), b"/", name.as_bytes()].concat());
                let kind = entry.file_type().with_context(failed)?;
                seen += 1;
                if seen > MAX_FILES_BELOW {
                    return Err(Error::unable(format!(
                        "`{folder}` matches `[backup] ignored` and holds more than {MAX_FILES_BELOW} files"
                    ))
                    .with_hint("narrow `[backup] ignored` in `setup/sync.toml`"));
                }
                if kind.is_dir() {
                    if name != ".git" {
                        folders.push(path);
                    }
                } else if patterns.match_with_folders(path.as_bytes(), false) == Some(true) {
                    found.push(path);
                }
            }
        }
        Ok(())
    }
}

/// Parses a line of `git status --porcelain=v2`; returns `None` if malformed.
fn parse_status_line(line: &[u8], changes: &mut WorktreeChanges) -> Option<()> {
    match line {
        [b'?', b' ', path @ ..] => {
            match path.strip_suffix(b"/") {
                Some(folder) => changes.nested.push(RepoPath::new(folder)),
                None => changes.untracked.push(RepoPath::new(path)),
            }
            Some(())
        }
        [b'1', b' ', rest @ ..] => {
            let mut parts = rest.splitn(8, |byte| *byte == b' ');
            let state = parts.next()?;
            let submodule = parts.next()?;
            let (mode_head, mode_index) = (parts.next()?, parts.next()?);
            parts.next()?;
            let (id_head, id_index) = (parts.next()?, parts.next()?);
            let path = RepoPath::new(parts.next()?);
            let (head, index) =
                (parse_entry(mode_head, id_head)?, parse_entry(mode_index, id_index)?);
            if submodule.first() == Some(&b'S') {
                // The staged commit of a submodule counts as our change, the changes inside do not.
                if submodule.iter().skip(1).any(|flag| *flag != b'.') {
                    changes.submodules.push(path.clone());
                }
                if index == head {
                    return Some(());
                }
            }
            let index = match index {
                // `git add -N` is reported as added in the worktree column.
                None if state.get(1) == Some(&b'A') => IndexChange::IntentToAdd,
                index if index == head => IndexChange::SameAsHead,
                None => IndexChange::Removed,
                Some(entry) => IndexChange::Entry(entry),
            };
            changes.tracked.insert(path, index);
            Some(())
        }
        [b'u', b' ', rest @ ..] => {
            let mut parts = rest.splitn(10, |byte| *byte == b' ').skip(2);
            let modes = [parts.next()?, parts.next()?, parts.next()?];
            parts.next()?;
            let ids = [parts.next()?, parts.next()?, parts.next()?];
            let path = RepoPath::new(parts.next()?);
            let mut stages = [None; 3];
            for (at, (mode, id)) in modes.into_iter().zip(ids).enumerate() {
                stages[at] = parse_entry(mode, id)?;
            }
            changes.tracked.insert(path, IndexChange::Conflict(stages));
            Some(())
        }
        // Headers (`#`) and ignored files (`!`) are not requested.
        _ => None,
    }
}

/// Parses a mode and an id; `Some(None)` for an absent entry, `None` if malformed.
fn parse_entry(mode: &[u8], id: &[u8]) -> Option<Option<TreeEntry>> {
    let mode = std::str::from_utf8(mode).ok()?;
    if mode == "000000" {
        return Some(None);
    }
    Some(Some(TreeEntry { mode: FileMode::from_octal(mode)?, id: Id::from_hex(id).ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_status_are_read_with_odd_names() {
        let id = "a".repeat(40);
        let none = "0".repeat(40);
        let mut changes = WorktreeChanges::default();
        for line in [
            format!("1 .M N... 100644 100644 100644 {id} {id} a b\u{e9}"),
            format!("1 D. N... 100644 000000 000000 {id} {none} gone"),
            format!("1 .A N... 000000 000000 100644 {none} {none} announced"),
            format!("1 A. N... 000000 120000 120000 {none} {id} link"),
            format!("1 .M S.M. 160000 160000 160000 {id} {id} module"),
            format!("u UU N... 100644 100644 100755 100644 {id} {id} {id} both"),
            "? loose file".to_owned(),
            "? nested/".to_owned(),
        ] {
            parse_status_line(line.as_bytes(), &mut changes).unwrap_or_else(|| panic!("{line}"));
        }
        let shown: Vec<String> = changes
            .tracked
            .iter()
            .map(|(path, index)| format!("{path}: {}", word(index)))
            .collect();
        let expected = ["a b\u{e9}: as head", "announced: intended", "both: conflict"];
        assert_eq!(shown[..3], expected);
        assert_eq!(shown[3..], ["gone: removed", "link: entry"]);
        assert_eq!(changes.untracked, [RepoPath::new("loose file")]);
        assert_eq!(changes.nested, [RepoPath::new("nested")]);
        assert_eq!(changes.submodules, [RepoPath::new("module")]);
        assert!(parse_status_line(b"1 .M N...", &mut changes).is_none());
        assert!(parse_status_line(b"2 R. what", &mut changes).is_none());
    }

    fn word(index: &IndexChange) -> &'static str {
        match index {
            IndexChange::SameAsHead => "as head",
            IndexChange::Entry(_) => "entry",
            IndexChange::Removed => "removed",
            IndexChange::IntentToAdd => "intended",
            IndexChange::Conflict(_) => "conflict",
        }
    }
}
