//! Classification of a managed path: a pure function from `PathState` to `Classification`.
//!
//! | row | case | class | without a flag |
//! |---|---|---|---|
//! | 1 | HEAD is canonical and the file is HEAD | in-sync | unchanged |
//! | 2 | HEAD, index and file agree, and once were canonical | behind | brought up to date |
//! | 3 | the file already is canonical, HEAD is not | behind | committed as is |
//! | 4 | HEAD, index and file agree, and never were canonical | customised | kept |
//! | 5 | the file or the index differs from HEAD otherwise | edited | kept |
//! | 6 | untracked, present, and not canonical | untracked | kept |
//! | 7 | skipped by sparse checkout | sparse | index and branch only |
//! | 8 | rows 2 to 7, and the branch has pinned the path | pinned | kept |
//!
//! An absent file counts as a content of its own. For example, HEAD without `setup/x`, no file and
//! a canonical `setup/x` are row 2 (new on the canonical branch) or row 4 (deleted on this branch).
//! If the history that distinguishes row 2 from row 4 is missing (a shallow clone), the class is
//! `Unknown` and the path is kept.

use std::fmt;

use super::pins::PinMark;
use serde::Serialize;
use xtask_base::path::RepoPath;
use xtask_git::{EverCanonical, FileMode, IndexStatus, TreeEntry, WorktreeItem};

/// Inputs of the classification of one path.
#[derive(Clone, Debug)]
pub struct PathState {
    pub path: RepoPath,
    /// Entry in HEAD.
    pub head: Option<TreeEntry>,
    /// Entry in the canonical commit.
    pub canonical: Option<TreeEntry>,
    pub index: IndexStatus,
    /// Item in the working tree.
    pub work: WorktreeItem,
    /// Whether the entry of HEAD (or its absence) once was canonical.
    pub was_canonical: EverCanonical,
    /// Whether the file is an overlay on top of HEAD that no longer is canonical.
    pub is_overlay: bool,
    /// Whether sparse checkout skips the path.
    pub is_sparse: bool,
    /// Whether a branch exception in `setup/sync.toml` excludes the path.
    pub is_excluded: bool,
    /// The pin of the branch that applies to the path.
    pub pin: Option<PinMark>,
    /// Reason why the path must not be written.
    pub obstacle: Option<WriteObstacle>,
}

/// Reason why a path cannot be written, whatever its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteObstacle {
    /// A dangerous name, e.g. `.git/config`; the text says why.
    UnsafeName(String),
    /// A submodule, in HEAD or in the canonical commit.
    Submodule,
    /// Another managed path differs in case only, and the file system ignores case.
    SameNameAs(RepoPath),
    /// A Git LFS pointer, and Git LFS is not set up.
    NoLfs,
    /// The file to replace may be secret, and its content exists only there.
    MayBeSecret,
    /// A file of the branch at a folder of this path, or a folder at this path.
    InTheWay(RepoPath),
}

/// Class of a path; the rows are those of the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathClass {
    /// Row 1.
    InSync,
    /// Rows 2 and 3.
    Behind,
    /// Row 4.
    Customised,
    /// Row 5.
    Edited,
    /// Row 6.
    Untracked,
    /// Excluded by a branch exception.
    Excluded,
    /// Row 7.
    Sparse,
    /// The history that would decide is missing.
    Unknown,
    /// Row 8.
    Pinned,
}

impl PathClass {
    /// Returns the name as in the table and in JSON, e.g. `in-sync`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PathClass::InSync => "in-sync",
            PathClass::Behind => "behind",
            PathClass::Customised => "customised",
            PathClass::Edited => "edited",
            PathClass::Untracked => "untracked",
            PathClass::Excluded => "excluded",
            PathClass::Sparse => "sparse",
            PathClass::Unknown => "unknown",
            PathClass::Pinned => "pinned",
        }
    }
}

/// Reason for the class of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassReason {
    IsCanonical,
    /// An older canonical content.
    OlderCanonical,
    /// A canonical path that this branch never had.
    NewInCanonical,
    /// Removed on the canonical branch.
    RemovedInCanonical,
    /// The file already is canonical, the branch is not.
    FileIsCanonical,
    /// The file is an older overlay.
    OlderOverlay,
    /// A content that never was canonical.
    OwnContent,
    /// A path that never was canonical.
    OwnPath,
    /// Removed by this branch.
    RemovedHere,
    /// The file differs from HEAD.
    UncommittedFile,
    /// The file is deleted, but not in HEAD.
    UncommittedDeletion,
    /// The index differs from HEAD.
    UncommittedIndex,
    /// Unmerged in the index.
    InConflict,
    UntrackedFile,
    /// Excluded by a branch exception.
    KeptByBranch,
    /// Pinned by this branch.
    Pinned(PinMark),
    /// The history is cut off (shallow clone).
    HistoryCut,
    /// A folder above the path is a symlink.
    BelowSymlink(RepoPath),
    /// An item above the path is not a folder.
    BelowFile(RepoPath),
    /// A folder is at the path.
    FolderInPlace,
    /// A device, pipe or socket is at the path.
    SpecialInPlace,
    Blocked(WriteObstacle),
}

impl fmt::Display for ClassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ClassReason::IsCanonical => "it is canonical",
            ClassReason::OlderCanonical => "it has an older canonical version",
            ClassReason::NewInCanonical => "it is new on the canonical branch",
            ClassReason::RemovedInCanonical => "it was removed on the canonical branch",
            ClassReason::FileIsCanonical => "the file already matches the canonical branch",
            ClassReason::OlderOverlay => "it has an older overlay (`sync --no-commit`)",
            ClassReason::OwnContent => "this branch has its own version",
            ClassReason::OwnPath => "only this branch has this path",
            ClassReason::RemovedHere => "this branch has removed it",
            ClassReason::UncommittedFile => "the file has uncommitted changes",
            ClassReason::UncommittedDeletion => {
                "the file is deleted; the deletion is not committed"
            }
            ClassReason::UncommittedIndex => "there are staged changes",
            ClassReason::InConflict => "it has unresolved conflicts",
            ClassReason::UntrackedFile => "an untracked file is there",
            ClassReason::KeptByBranch => "`setup/sync.toml` excludes it on this branch",
            ClassReason::HistoryCut => "cannot determine whether it is behind: shallow clone",
            ClassReason::Pinned(pin) => return write!(f, "{pin}"),
            ClassReason::BelowSymlink(link) => {
                return write!(f, "`{link}` is a symlink; sync does not write through symlinks");
            }
            ClassReason::BelowFile(file) => return write!(f, "`{file}` is not a folder here"),
            ClassReason::FolderInPlace => "a folder is in its place",
            ClassReason::SpecialInPlace => "a device, pipe or socket is in its place",
            ClassReason::Blocked(obstacle) => return write!(f, "{obstacle}"),
        };
        f.write_str(text)
    }
}

impl fmt::Display for WriteObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteObstacle::UnsafeName(why) => write!(f, "{why}"),
            WriteObstacle::Submodule => write!(f, "it is a submodule; submodules are not managed"),
            WriteObstacle::SameNameAs(other) => {
                write!(f, "it has the same name as `{other}` if case is ignored")
            }
            WriteObstacle::NoLfs => {
                write!(f, "it is a Git LFS file, and Git LFS is not set up (`git lfs install`)")
            }
            WriteObstacle::MayBeSecret => {
                write!(
                    f,
                    "the existing file may be secret (`[backup] ignored` matches it) and is in no \
                     commit, so it is not backed up; move it away first"
                )
            }
            WriteObstacle::InTheWay(path) => write!(f, "`{path}` of this branch is in the way"),
        }
    }
}

/// Class of a path, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classification {
    pub class: PathClass,
    pub why: ClassReason,
    /// Whether a plain `sync` brings the path up to date.
    pub is_automatic: bool,
    /// Whether the path can be replaced at all, including by `--force`.
    pub is_writable: bool,
    /// Whether an update writes the file.
    pub writes_file: bool,
}

/// Classifies a path by the module's table.
#[must_use]
pub fn classify_path(state: &PathState) -> Classification {
    let classified = classify_unpinned(state);
    match (&state.pin, classified.class) {
        (None, _) | (_, PathClass::InSync | PathClass::Excluded) => classified,
        (Some(pin), _) => Classification {
            class: PathClass::Pinned,
            why: ClassReason::Pinned(pin.clone()),
            is_automatic: false,
            ..classified
        },
    }
}

/// Classifies a path as if it was not pinned.
#[must_use]
pub fn classify_unpinned(state: &PathState) -> Classification {
    let PathState { head, canonical, .. } = *state;
    let file = match find_effective_file(state) {
        Ok(file) => file,
        Err(why) => {
            let class = if state.is_excluded {
                PathClass::Excluded
            } else if head.is_none() && state.index == IndexStatus::Absent {
                PathClass::Untracked
            } else {
                PathClass::Edited
            };
            return keep_as_is(class, why, false);
        }
    };
    if head == canonical && file == head && !state.is_overlay {
        return keep_as_is(PathClass::InSync, ClassReason::IsCanonical, true);
    }
    if state.is_excluded {
        return keep_as_is(PathClass::Excluded, ClassReason::KeptByBranch, true);
    }
    let (class, why) = find_class(state, file);
    let writes_file = file != canonical && !state.is_sparse || state.is_overlay;
    let is_automatic = matches!(class, PathClass::Behind | PathClass::Sparse);
    let classified = Classification { class, why, is_automatic, is_writable: true, writes_file };
    apply_obstacle(state, classified)
}

/// Returns the class of a path at which HEAD or the file is not canonical, with its reason.
fn find_class(state: &PathState, file: Option<TreeEntry>) -> (PathClass, ClassReason) {
    let PathState { head, canonical, index, is_sparse, .. } = *state;
    let staged = index.entry();
    match index {
        IndexStatus::Conflict => return (PathClass::Edited, ClassReason::InConflict),
        IndexStatus::IntentToAdd if file != canonical => {
            return (PathClass::Edited, ClassReason::UncommittedFile);
        }
        IndexStatus::Absent | IndexStatus::Entry { .. } | IndexStatus::IntentToAdd => {}
    }
    let is_tracked = head.is_some() || staged.is_some();
    if !is_tracked && file.is_some() && file != canonical {
        return (PathClass::Untracked, ClassReason::UntrackedFile);
    }
    let index_agrees = index != IndexStatus::IntentToAdd && (staged == head || staged == canonical);
    if file == canonical && head != canonical && index_agrees && !is_sparse {
        return (PathClass::Behind, ClassReason::FileIsCanonical);
    }
    if staged == head && file == head {
        return find_committed_class(state);
    }
    let why = if file == head {
        ClassReason::UncommittedIndex
    } else if file.is_none() {
        ClassReason::UncommittedDeletion
    } else {
        ClassReason::UncommittedFile
    };
    (PathClass::Edited, why)
}

/// Returns the class of a path at which HEAD, index and file agree, by its history.
fn find_committed_class(state: &PathState) -> (PathClass, ClassReason) {
    let PathState { head, canonical, .. } = *state;
    let behind = if state.is_sparse { PathClass::Sparse } else { PathClass::Behind };
    match (state.was_canonical, head, canonical) {
        _ if head == canonical => (behind, ClassReason::OlderOverlay),
        (EverCanonical::Unknown, ..) => (PathClass::Unknown, ClassReason::HistoryCut),
        (EverCanonical::Once, ..) if state.is_overlay => (behind, ClassReason::OlderOverlay),
        (EverCanonical::Once, Some(_), Some(_)) => (behind, ClassReason::OlderCanonical),
        (EverCanonical::Once, None, _) => (behind, ClassReason::NewInCanonical),
        (EverCanonical::Once, Some(_), None) => (behind, ClassReason::RemovedInCanonical),
        (EverCanonical::Never, Some(_), Some(_)) => {
            (PathClass::Customised, ClassReason::OwnContent)
        }
        (EverCanonical::Never, Some(_), None) => (PathClass::Customised, ClassReason::OwnPath),
        (EverCanonical::Never, None, _) => (PathClass::Customised, ClassReason::RemovedHere),
    }
}

/// Returns the entry that counts as the file in the table, or the reason why there is none.
fn find_effective_file(state: &PathState) -> Result<Option<TreeEntry>, ClassReason> {
    match &state.work {
        _ if state.is_overlay => Ok(state.head),
        WorktreeItem::Absent if state.is_sparse => Ok(state.index.entry()),
        WorktreeItem::Absent => Ok(None),
        WorktreeItem::Present(file) => Ok(Some(file.entry)),
        // A submodule is a folder on disk; `WriteObstacle::Submodule` protects it.
        WorktreeItem::Folder if is_submodule(state.head) => Ok(state.head),
        WorktreeItem::Folder => Err(ClassReason::FolderInPlace),
        WorktreeItem::Special => Err(ClassReason::SpecialInPlace),
        WorktreeItem::BelowSymlink(link) => Err(ClassReason::BelowSymlink(link.clone())),
        // A file at a wanted folder matters only if HEAD or the canonical commit has the path.
        WorktreeItem::BelowFile(_) if state.canonical.is_none() && state.head.is_none() => Ok(None),
        WorktreeItem::BelowFile(file) => Err(ClassReason::BelowFile(file.clone())),
    }
}

fn is_submodule(entry: Option<TreeEntry>) -> bool {
    entry.is_some_and(|entry| entry.mode == FileMode::Gitlink)
}

fn keep_as_is(class: PathClass, why: ClassReason, is_writable: bool) -> Classification {
    Classification { class, why, is_automatic: false, is_writable, writes_file: false }
}

fn apply_obstacle(state: &PathState, verdict: Classification) -> Classification {
    match &state.obstacle {
        None => verdict,
        // If no file is written, neither Git LFS nor a backup is needed.
        Some(WriteObstacle::NoLfs | WriteObstacle::MayBeSecret) if !verdict.writes_file => verdict,
        Some(obstacle) => Classification {
            why: ClassReason::Blocked(obstacle.clone()),
            is_automatic: false,
            is_writable: false,
            ..verdict
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect;

    use super::*;
    use xtask_git::{FileStat, Id, WorktreeFile};

    /// `-` absent, otherwise a digit for a content and `x` for an executable one.
    fn entry(text: &str) -> Option<TreeEntry> {
        let digit = text.chars().next().filter(|c| *c != '-')?;
        let id = Id::from_hex(digit.to_string().repeat(40).as_bytes()).unwrap();
        let mode = match text.chars().nth(1) {
            None => FileMode::File,
            Some('x') => FileMode::Executable,
            Some('s') => FileMode::Symlink,
            Some(_) => FileMode::Gitlink,
        };
        Some(TreeEntry { mode, id })
    }

    /// A line is: HEAD, index, file, canonical, and words for the rest.
    fn state(line: &str) -> PathState {
        let words: Vec<&str> = line.split_whitespace().collect();
        let has = |word: &str| words[4..].contains(&word);
        let work = match words[2] {
            "dir" => WorktreeItem::Folder,
            "link/" => WorktreeItem::BelowSymlink(RepoPath::new("setup")),
            "file/" => WorktreeItem::BelowFile(RepoPath::new("setup")),
            text => entry(text).map_or(WorktreeItem::Absent, |entry| {
                WorktreeItem::Present(WorktreeFile { entry, raw: entry, stat: FileStat::default() })
            }),
        };
        let index = match words[1] {
            "!" => IndexStatus::Conflict,
            "?" => IndexStatus::IntentToAdd,
            text => entry(text).map_or(IndexStatus::Absent, |entry| IndexStatus::Entry {
                entry,
                is_skipped: has("sparse"),
            }),
        };
        let once = if has("once") {
            EverCanonical::Once
        } else if has("cut") {
            EverCanonical::Unknown
        } else {
            EverCanonical::Never
        };
        PathState {
            path: RepoPath::new("setup/x"),
            head: entry(words[0]),
            canonical: entry(words[3]),
            index,
            work,
            was_canonical: once,
            is_overlay: has("overlay"),
            is_sparse: has("sparse"),
            is_excluded: has("excluded"),
            pin: has("pinned").then(|| PinMark {
                until: xtask_base::date::Date::parse("2026-12-30").unwrap(),
                reason: "for the vendor".to_owned(),
                path: RepoPath::new("setup"),
                branch: "feature".to_owned(),
                home: xtask_config::PinHome::Branch,
            }),
            obstacle: has("barred").then_some(WriteObstacle::Submodule),
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let table = "
            1 1 1 1
            1 2 1 1
            1 1 2 1
            1 1 - 1
            1 1 1x 1
            1 1 1 2 once
            1 1 1 2
            1 1 1 2 cut
            1 1 1 - once
            1 1 1 -
            - - - 2 once
            - - - 2
            - - - 2 cut
            1 1 2 2
            1 2 2 2
            1 3 2 2
            - - 2 2
            - 2 2 2
            1 1 - - once
            1 1 3 2 once
            1 3 1 2 once
            1 3 3 2 once
            1 1 - 2 once
            1 - 1 2 once
            - - 3 2 once
            - 3 3 2 once
            - ? 3 2 once
            1 ! 3 2 once
            1 1 - 2 once sparse
            1 1 - 2 sparse
            - - - 2 once sparse
            1 1 - 1 sparse
            1 1 3 2 once overlay
            1 1 3 1 once overlay
            1 1 1 2 once excluded
            1 1 3 1 excluded
            1 1 link/ 2 once
            - - link/ 2 once
            - - file/ 2 once
            - - dir 2 once
            1 1 1 2 once barred
            1 1 1x 2 once
            1 1 1 1 pinned
            1 1 1 2 once pinned
            1 1 1 2 pinned
            1 1 1 2 cut pinned
            1 1 2 2 pinned
            1 1 2 1 pinned
            1 1 - - once pinned
            - - - 2 once pinned
            - - 3 2 once pinned
            1 ! 3 2 once pinned
            1 1 - 2 sparse pinned
            1 1 3 1 overlay pinned
            1 1 1 2 excluded pinned
            1 1 link/ 2 once pinned
            1 1 1 2 barred pinned
        ";
        let mut rows = String::from(
            "HEAD index file canonical
",
        );
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let v = classify_path(&state(line));
            let marks =
                [(v.is_automatic, "free"), (v.is_writable, "forceable"), (v.writes_file, "file")];
            let marks: Vec<&str> =
                marks.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
            writeln!(rows, "{line:<24} {:<10} {:<21} {}", v.class.name(), marks.join(","), v.why)
                .unwrap();
        }
        expect![[r#"
            HEAD index file canonical
            1 1 1 1                  in-sync    forceable             it is canonical
            1 2 1 1                  in-sync    forceable             it is canonical
            1 1 2 1                  edited     forceable,file        the file has uncommitted changes
            1 1 - 1                  edited     forceable,file        the file is deleted; the deletion is not committed
            1 1 1x 1                 edited     forceable,file        the file has uncommitted changes
            1 1 1 2 once             behind     free,forceable,file   it has an older canonical version
            1 1 1 2                  customised forceable,file        this branch has its own version
            1 1 1 2 cut              unknown    forceable,file        cannot determine whether it is behind: shallow clone
            1 1 1 - once             behind     free,forceable,file   it was removed on the canonical branch
            1 1 1 -                  customised forceable,file        only this branch has this path
            - - - 2 once             behind     free,forceable,file   it is new on the canonical branch
            - - - 2                  customised forceable,file        this branch has removed it
            - - - 2 cut              unknown    forceable,file        cannot determine whether it is behind: shallow clone
            1 1 2 2                  behind     free,forceable        the file already matches the canonical branch
            1 2 2 2                  behind     free,forceable        the file already matches the canonical branch
            1 3 2 2                  edited     forceable             the file has uncommitted changes
            - - 2 2                  behind     free,forceable        the file already matches the canonical branch
            - 2 2 2                  behind     free,forceable        the file already matches the canonical branch
            1 1 - - once             behind     free,forceable        the file already matches the canonical branch
            1 1 3 2 once             edited     forceable,file        the file has uncommitted changes
            1 3 1 2 once             edited     forceable,file        there are staged changes
            1 3 3 2 once             edited     forceable,file        the file has uncommitted changes
            1 1 - 2 once             edited     forceable,file        the file is deleted; the deletion is not committed
            1 - 1 2 once             edited     forceable,file        there are staged changes
            - - 3 2 once             untracked  forceable,file        an untracked file is there
            - 3 3 2 once             edited     forceable,file        the file has uncommitted changes
            - ? 3 2 once             edited     forceable,file        the file has uncommitted changes
            1 ! 3 2 once             edited     forceable,file        it has unresolved conflicts
            1 1 - 2 once sparse      sparse     free,forceable        it has an older canonical version
            1 1 - 2 sparse           customised forceable             this branch has its own version
            - - - 2 once sparse      sparse     free,forceable        it is new on the canonical branch
            1 1 - 1 sparse           in-sync    forceable             it is canonical
            1 1 3 2 once overlay     behind     free,forceable,file   it has an older overlay (`sync --no-commit`)
            1 1 3 1 once overlay     behind     free,forceable,file   it has an older overlay (`sync --no-commit`)
            1 1 1 2 once excluded    excluded   forceable             `setup/sync.toml` excludes it on this branch
            1 1 3 1 excluded         excluded   forceable             `setup/sync.toml` excludes it on this branch
            1 1 link/ 2 once         edited                           `setup` is a symlink; sync does not write through symlinks
            - - link/ 2 once         untracked                        `setup` is a symlink; sync does not write through symlinks
            - - file/ 2 once         untracked                        `setup` is not a folder here
            - - dir 2 once           untracked                        a folder is in its place
            1 1 1 2 once barred      behind     file                  it is a submodule; submodules are not managed
            1 1 1x 2 once            edited     forceable,file        the file has uncommitted changes
            1 1 1 1 pinned           in-sync    forceable             it is canonical
            1 1 1 2 once pinned      pinned     forceable,file        pinned until 2026-12-30: for the vendor
            1 1 1 2 pinned           pinned     forceable,file        pinned until 2026-12-30: for the vendor
            1 1 1 2 cut pinned       pinned     forceable,file        pinned until 2026-12-30: for the vendor
            1 1 2 2 pinned           pinned     forceable             pinned until 2026-12-30: for the vendor
            1 1 2 1 pinned           pinned     forceable,file        pinned until 2026-12-30: for the vendor
            1 1 - - once pinned      pinned     forceable             pinned until 2026-12-30: for the vendor
            - - - 2 once pinned      pinned     forceable,file        pinned until 2026-12-30: for the vendor
            - - 3 2 once pinned      pinned     forceable,file        pinned until 2026-12-30: for the vendor
            1 ! 3 2 once pinned      pinned     forceable,file        pinned until 2026-12-30: for the vendor
            1 1 - 2 sparse pinned    pinned     forceable             pinned until 2026-12-30: for the vendor
            1 1 3 1 overlay pinned   pinned     forceable,file        pinned until 2026-12-30: for the vendor
            1 1 1 2 excluded pinned  excluded   forceable             `setup/sync.toml` excludes it on this branch
            1 1 link/ 2 once pinned  pinned                           pinned until 2026-12-30: for the vendor
            1 1 1 2 barred pinned    pinned     file                  pinned until 2026-12-30: for the vendor
        "#]].assert_eq(&rows);
    }
}
