//! What may happen to a path: the table of the product, as one pure function.
//!
//! | | case | class | without a flag |
//! |---|---|---|---|
//! | 1 | HEAD is canonical and the file is HEAD | in-sync | nothing |
//! | 2 | HEAD, index and file agree, and once were canonical | behind | brought up to date |
//! | 3 | the file is canonical already, HEAD is not | behind | committed as it is |
//! | 4 | HEAD, index and file agree, and never were canonical | customised | kept |
//! | 5 | the file or the index differs from HEAD otherwise | edited | kept |
//! | 6 | not tracked, there, and not canonical | untracked | kept |
//! | 7 | left out by sparse checkout | sparse | index and branch only |
//!
//! "Absent" is a content like any other. Where the history that would tell row 2 from row 4 is not
//! here, the class is unknown and the path is kept.

use std::fmt;

use xtask_base::path::RepoPath;
use xtask_git::{EverCanonical, FileMode, IndexStatus, TreeEntry, WorktreeItem};

/// All that is known about a path before anything is decided.
#[derive(Clone, Debug)]
pub struct PathState {
    /// The path.
    pub path: RepoPath,
    /// What HEAD holds.
    pub head: Option<TreeEntry>,
    /// What the canonical commit holds.
    pub canonical: Option<TreeEntry>,
    /// What is staged.
    pub index: IndexStatus,
    /// What is on disk.
    pub work: WorktreeItem,
    /// Whether what HEAD holds (or that it holds nothing) once was canonical.
    pub was_canonical: EverCanonical,
    /// The file is an overlay of ours on top of what HEAD holds, and not canonical any more.
    pub is_overlay: bool,
    /// Sparse checkout leaves the path out.
    pub is_sparse: bool,
    /// The branch keeps it for itself.
    pub is_excluded: bool,
    /// Why it must not be written at all.
    pub obstacle: Option<WriteObstacle>,
}

/// Why a path cannot be written, whatever its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteObstacle {
    /// The name is dangerous.
    UnsafeName(String),
    /// It is a submodule, here or in the canonical commit.
    Submodule,
    /// Another managed path has the same name but for the case, and this file system does not
    /// tell them apart.
    SameNameAs(RepoPath),
    /// It holds a Git LFS pointer, and Git LFS is not set up.
    NoLfs,
    /// The file that would be replaced may be secret, and nothing else has its content.
    MayBeSecret,
    /// The branch has a file where the path needs a folder, or a folder where it needs a file.
    InTheWay(RepoPath),
}

/// The class of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The branch keeps it for itself.
    Excluded,
    /// Row 7.
    Sparse,
    /// The history that would tell is not here.
    Unknown,
}

impl PathClass {
    /// Its name, as in the table and in JSON.
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
        }
    }
}

/// Why a path is of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassReason {
    /// It holds the canonical content.
    IsCanonical,
    /// It holds an older canonical content.
    OlderCanonical,
    /// The canonical branch has a path that this branch never had.
    NewInCanonical,
    /// The canonical branch has removed it.
    RemovedInCanonical,
    /// The file has the canonical content, and the branch does not yet.
    FileIsCanonical,
    /// An earlier overlay of ours is in its place.
    OlderOverlay,
    /// The branch has a content of its own.
    OwnContent,
    /// The branch has a path that was never canonical.
    OwnPath,
    /// The branch has removed it.
    RemovedHere,
    /// There are unsaved changes in the file.
    UncommittedFile,
    /// The file was deleted and that is not committed.
    UncommittedDeletion,
    /// There are staged changes.
    UncommittedIndex,
    /// It is in conflict.
    InConflict,
    /// A file that git does not track is in its place.
    UntrackedFile,
    /// The branch keeps it, by configuration.
    KeptByBranch,
    /// The history is cut off.
    HistoryCut,
    /// A folder above it is a symlink.
    BelowSymlink(RepoPath),
    /// Something above it is not a folder.
    BelowFile(RepoPath),
    /// A folder is in its place.
    FolderInPlace,
    /// A device, pipe or socket is in its place.
    SpecialInPlace,
    /// It must not be written.
    Blocked(WriteObstacle),
}

impl fmt::Display for ClassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ClassReason::IsCanonical => "it is canonical",
            ClassReason::OlderCanonical => "it holds an older canonical content",
            ClassReason::NewInCanonical => "it is new on the canonical branch",
            ClassReason::RemovedInCanonical => "it was removed on the canonical branch",
            ClassReason::FileIsCanonical => "the file already is as the canonical branch has it",
            ClassReason::OlderOverlay => "an earlier overlay of sync stands there",
            ClassReason::OwnContent => "this branch has a content of its own",
            ClassReason::OwnPath => {
                "it has a content of this branch, and the canonical branch has no such path"
            }
            ClassReason::RemovedHere => "this branch has removed it",
            ClassReason::UncommittedFile => "the file has changes that are not committed",
            ClassReason::UncommittedDeletion => "the file was deleted and that is not committed",
            ClassReason::UncommittedIndex => "there are staged changes",
            ClassReason::InConflict => "it is in conflict",
            ClassReason::UntrackedFile => "a file that git does not track is there",
            ClassReason::KeptByBranch => "the configuration leaves it to this branch",
            ClassReason::HistoryCut => {
                "the history that would tell whether it is behind is not here"
            }
            ClassReason::BelowSymlink(link) => {
                return write!(f, "`{link}` is a symlink, and nothing is written through it");
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
            WriteObstacle::Submodule => write!(f, "it is a submodule, and those are not managed"),
            WriteObstacle::SameNameAs(other) => {
                write!(f, "`{other}` is the same name where case does not count")
            }
            WriteObstacle::NoLfs => {
                write!(f, "it is kept in Git LFS, which is not set up (`git lfs install`)")
            }
            WriteObstacle::MayBeSecret => {
                write!(
                    f,
                    "what is there may be secret (`[backup] ignored` names it) and is in no commit, \
                     so no backup of it is made; move it away first"
                )
            }
            WriteObstacle::InTheWay(path) => write!(f, "`{path}` of this branch is in the way"),
        }
    }
}

/// The class of a path, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classification {
    /// The class.
    pub class: PathClass,
    /// Why it is of that class.
    pub why: ClassReason,
    /// Whether sync brings it up to date without being forced.
    pub is_automatic: bool,
    /// Whether it can be replaced at all, also by force.
    pub is_writable: bool,
    /// Whether bringing it up to date means writing the file.
    pub writes_file: bool,
}

/// Decides the class of a path.
#[must_use]
pub fn classify_path(state: &PathState) -> Classification {
    let PathState { head, canonical, .. } = *state;
    let staged = state.index.entry();
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
    let verdict = |class, why| {
        let writes_file = file != canonical && !state.is_sparse || state.is_overlay;
        let is_free = matches!(class, PathClass::Behind | PathClass::Sparse);
        let verdict =
            Classification { class, why, is_automatic: is_free, is_writable: true, writes_file };
        apply_obstacle(state, verdict)
    };
    match state.index {
        IndexStatus::Conflict => return verdict(PathClass::Edited, ClassReason::InConflict),
        IndexStatus::IntentToAdd if file != canonical => {
            return verdict(PathClass::Edited, ClassReason::UncommittedFile);
        }
        IndexStatus::Absent | IndexStatus::Entry { .. } | IndexStatus::IntentToAdd => {}
    }
    let is_tracked = head.is_some() || staged.is_some();
    if !is_tracked && file.is_some() && file != canonical {
        return verdict(PathClass::Untracked, ClassReason::UntrackedFile);
    }
    let behind = if state.is_sparse { PathClass::Sparse } else { PathClass::Behind };
    let index_agrees =
        state.index != IndexStatus::IntentToAdd && (staged == head || staged == canonical);
    if file == canonical && head != canonical && index_agrees && !state.is_sparse {
        return verdict(behind, ClassReason::FileIsCanonical);
    }
    if staged == head && file == head {
        return match (state.was_canonical, head, canonical) {
            _ if head == canonical => verdict(behind, ClassReason::OlderOverlay),
            (EverCanonical::Unknown, ..) => verdict(PathClass::Unknown, ClassReason::HistoryCut),
            (EverCanonical::Once, ..) if state.is_overlay => {
                verdict(behind, ClassReason::OlderOverlay)
            }
            (EverCanonical::Once, Some(_), Some(_)) => verdict(behind, ClassReason::OlderCanonical),
            (EverCanonical::Once, None, _) => verdict(behind, ClassReason::NewInCanonical),
            (EverCanonical::Once, Some(_), None) => {
                verdict(behind, ClassReason::RemovedInCanonical)
            }
            (EverCanonical::Never, Some(_), Some(_)) => {
                verdict(PathClass::Customised, ClassReason::OwnContent)
            }
            (EverCanonical::Never, Some(_), None) => {
                verdict(PathClass::Customised, ClassReason::OwnPath)
            }
            (EverCanonical::Never, None, _) => {
                verdict(PathClass::Customised, ClassReason::RemovedHere)
            }
        };
    }
    let why = if file == head {
        ClassReason::UncommittedIndex
    } else if file.is_none() {
        ClassReason::UncommittedDeletion
    } else {
        ClassReason::UncommittedFile
    };
    verdict(PathClass::Edited, why)
}

/// The file as the table means it, or why there is no telling.
fn find_effective_file(state: &PathState) -> Result<Option<TreeEntry>, ClassReason> {
    match &state.work {
        _ if state.is_overlay => Ok(state.head),
        WorktreeItem::Absent if state.is_sparse => Ok(state.index.entry()),
        WorktreeItem::Absent => Ok(None),
        WorktreeItem::Present(file) => Ok(Some(file.entry)),
        // A submodule is a folder on disk; whether it may be touched is decided by its obstacle.
        WorktreeItem::Folder if is_submodule(state.head) => Ok(state.head),
        WorktreeItem::Folder => Err(ClassReason::FolderInPlace),
        WorktreeItem::Special => Err(ClassReason::SpecialInPlace),
        WorktreeItem::BelowSymlink(link) => Err(ClassReason::BelowSymlink(link.clone())),
        // A file that stands where a folder is wanted matters only if something is wanted there.
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
        // Without the file there is nothing that Git LFS would be needed for.
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
            1 1 2 1                  edited     forceable,file        the file has changes that are not committed
            1 1 - 1                  edited     forceable,file        the file was deleted and that is not committed
            1 1 1x 1                 edited     forceable,file        the file has changes that are not committed
            1 1 1 2 once             behind     free,forceable,file   it holds an older canonical content
            1 1 1 2                  customised forceable,file        this branch has a content of its own
            1 1 1 2 cut              unknown    forceable,file        the history that would tell whether it is behind is not here
            1 1 1 - once             behind     free,forceable,file   it was removed on the canonical branch
            1 1 1 -                  customised forceable,file        it has a content of this branch, and the canonical branch has no such path
            - - - 2 once             behind     free,forceable,file   it is new on the canonical branch
            - - - 2                  customised forceable,file        this branch has removed it
            - - - 2 cut              unknown    forceable,file        the history that would tell whether it is behind is not here
            1 1 2 2                  behind     free,forceable        the file already is as the canonical branch has it
            1 2 2 2                  behind     free,forceable        the file already is as the canonical branch has it
            1 3 2 2                  edited     forceable             the file has changes that are not committed
            - - 2 2                  behind     free,forceable        the file already is as the canonical branch has it
            - 2 2 2                  behind     free,forceable        the file already is as the canonical branch has it
            1 1 - - once             behind     free,forceable        the file already is as the canonical branch has it
            1 1 3 2 once             edited     forceable,file        the file has changes that are not committed
            1 3 1 2 once             edited     forceable,file        there are staged changes
            1 3 3 2 once             edited     forceable,file        the file has changes that are not committed
            1 1 - 2 once             edited     forceable,file        the file was deleted and that is not committed
            1 - 1 2 once             edited     forceable,file        there are staged changes
            - - 3 2 once             untracked  forceable,file        a file that git does not track is there
            - 3 3 2 once             edited     forceable,file        the file has changes that are not committed
            - ? 3 2 once             edited     forceable,file        the file has changes that are not committed
            1 ! 3 2 once             edited     forceable,file        it is in conflict
            1 1 - 2 once sparse      sparse     free,forceable        it holds an older canonical content
            1 1 - 2 sparse           customised forceable             this branch has a content of its own
            - - - 2 once sparse      sparse     free,forceable        it is new on the canonical branch
            1 1 - 1 sparse           in-sync    forceable             it is canonical
            1 1 3 2 once overlay     behind     free,forceable,file   an earlier overlay of sync stands there
            1 1 3 1 once overlay     behind     free,forceable,file   an earlier overlay of sync stands there
            1 1 1 2 once excluded    excluded   forceable             the configuration leaves it to this branch
            1 1 3 1 excluded         excluded   forceable             the configuration leaves it to this branch
            1 1 link/ 2 once         edited                           `setup` is a symlink, and nothing is written through it
            - - link/ 2 once         untracked                        `setup` is a symlink, and nothing is written through it
            - - file/ 2 once         untracked                        `setup` is not a folder here
            - - dir 2 once           untracked                        a folder is in its place
            1 1 1 2 once barred      behind     file                  it is a submodule, and those are not managed
            1 1 1x 2 once            edited     forceable,file        the file has changes that are not committed
        "#]].assert_eq(&rows);
    }
}
