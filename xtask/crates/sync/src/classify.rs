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
use xtask_git::{Entry, Indexed, Known, Mode, Work};

/// All that is known about a path before anything is decided.
#[derive(Clone, Debug)]
pub struct PathState {
    /// The path.
    pub path: RepoPath,
    /// What HEAD holds.
    pub head: Option<Entry>,
    /// What the canonical commit holds.
    pub canonical: Option<Entry>,
    /// What is staged.
    pub index: Indexed,
    /// What is on disk.
    pub work: Work,
    /// Whether what HEAD holds (or that it holds nothing) once was canonical.
    pub once: Known,
    /// The file is an overlay of ours on top of what HEAD holds, and not canonical any more.
    pub is_overlay: bool,
    /// Sparse checkout leaves the path out.
    pub is_sparse: bool,
    /// The branch keeps it for itself.
    pub is_excluded: bool,
    /// Why it must not be written at all.
    pub obstacle: Option<Obstacle>,
}

/// Why a path cannot be written, whatever its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
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
pub enum Class {
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

impl Class {
    /// Its name, as in the table and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::InSync => "in-sync",
            Class::Behind => "behind",
            Class::Customised => "customised",
            Class::Edited => "edited",
            Class::Untracked => "untracked",
            Class::Excluded => "excluded",
            Class::Sparse => "sparse",
            Class::Unknown => "unknown",
        }
    }
}

/// Why a path is of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It holds the canonical content.
    Same,
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
    Barred(Obstacle),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Why::Same => "it is canonical",
            Why::OlderCanonical => "it holds an older canonical content",
            Why::NewInCanonical => "it is new on the canonical branch",
            Why::RemovedInCanonical => "it was removed on the canonical branch",
            Why::FileIsCanonical => "the file already is as the canonical branch has it",
            Why::OlderOverlay => "an earlier overlay of sync stands there",
            Why::OwnContent => "this branch has a content of its own",
            Why::OwnPath => {
                "it has a content of this branch, and the canonical branch has no such path"
            }
            Why::RemovedHere => "this branch has removed it",
            Why::UncommittedFile => "the file has changes that are not committed",
            Why::UncommittedDeletion => "the file was deleted and that is not committed",
            Why::UncommittedIndex => "there are staged changes",
            Why::InConflict => "it is in conflict",
            Why::UntrackedFile => "a file that git does not track is there",
            Why::KeptByBranch => "the configuration leaves it to this branch",
            Why::HistoryCut => "the history that would tell whether it is behind is not here",
            Why::BelowSymlink(link) => {
                return write!(f, "`{link}` is a symlink, and nothing is written through it");
            }
            Why::BelowFile(file) => return write!(f, "`{file}` is not a folder here"),
            Why::FolderInPlace => "a folder is in its place",
            Why::SpecialInPlace => "a device, pipe or socket is in its place",
            Why::Barred(obstacle) => return write!(f, "{obstacle}"),
        };
        f.write_str(text)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::UnsafeName(why) => write!(f, "{why}"),
            Obstacle::Submodule => write!(f, "it is a submodule, and those are not managed"),
            Obstacle::SameNameAs(other) => {
                write!(f, "`{other}` is the same name where case does not count")
            }
            Obstacle::NoLfs => {
                write!(f, "it is kept in Git LFS, which is not set up (`git lfs install`)")
            }
            Obstacle::MayBeSecret => {
                write!(
                    f,
                    "what is there may be secret (`[backup] ignored` names it) and is in no commit, \
                     so no backup of it is made; move it away first"
                )
            }
            Obstacle::InTheWay(path) => write!(f, "`{path}` of this branch is in the way"),
        }
    }
}

/// The class of a path, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The class.
    pub class: Class,
    /// Why it is of that class.
    pub why: Why,
    /// Whether sync brings it up to date without being forced.
    pub is_free: bool,
    /// Whether it can be replaced at all, also by force.
    pub is_writable: bool,
    /// Whether bringing it up to date means writing the file.
    pub writes_file: bool,
}

/// Decides the class of a path.
#[must_use]
pub fn classify(state: &PathState) -> Verdict {
    let PathState { head, canonical, .. } = *state;
    let staged = state.index.entry();
    let file = match effective_file(state) {
        Ok(file) => file,
        Err(why) => {
            let class = if state.is_excluded {
                Class::Excluded
            } else if head.is_none() && state.index == Indexed::Absent {
                Class::Untracked
            } else {
                Class::Edited
            };
            return kept(class, why, false);
        }
    };
    if head == canonical && file == head && !state.is_overlay {
        return kept(Class::InSync, Why::Same, true);
    }
    if state.is_excluded {
        return kept(Class::Excluded, Why::KeptByBranch, true);
    }
    let verdict = |class, why| {
        let writes_file = file != canonical && !state.is_sparse || state.is_overlay;
        let is_free = matches!(class, Class::Behind | Class::Sparse);
        let verdict = Verdict { class, why, is_free, is_writable: true, writes_file };
        barred(state, verdict)
    };
    match state.index {
        Indexed::Conflict => return verdict(Class::Edited, Why::InConflict),
        Indexed::Intended if file != canonical => {
            return verdict(Class::Edited, Why::UncommittedFile);
        }
        Indexed::Absent | Indexed::Entry { .. } | Indexed::Intended => {}
    }
    let is_tracked = head.is_some() || staged.is_some();
    if !is_tracked && file.is_some() && file != canonical {
        return verdict(Class::Untracked, Why::UntrackedFile);
    }
    let behind = if state.is_sparse { Class::Sparse } else { Class::Behind };
    let index_agrees = state.index != Indexed::Intended && (staged == head || staged == canonical);
    if file == canonical && head != canonical && index_agrees && !state.is_sparse {
        return verdict(behind, Why::FileIsCanonical);
    }
    if staged == head && file == head {
        return match (state.once, head, canonical) {
            _ if head == canonical => verdict(behind, Why::OlderOverlay),
            (Known::Unknown, ..) => verdict(Class::Unknown, Why::HistoryCut),
            (Known::Once, ..) if state.is_overlay => verdict(behind, Why::OlderOverlay),
            (Known::Once, Some(_), Some(_)) => verdict(behind, Why::OlderCanonical),
            (Known::Once, None, _) => verdict(behind, Why::NewInCanonical),
            (Known::Once, Some(_), None) => verdict(behind, Why::RemovedInCanonical),
            (Known::Never, Some(_), Some(_)) => verdict(Class::Customised, Why::OwnContent),
            (Known::Never, Some(_), None) => verdict(Class::Customised, Why::OwnPath),
            (Known::Never, None, _) => verdict(Class::Customised, Why::RemovedHere),
        };
    }
    let why = if file == head {
        Why::UncommittedIndex
    } else if file.is_none() {
        Why::UncommittedDeletion
    } else {
        Why::UncommittedFile
    };
    verdict(Class::Edited, why)
}

/// The file as the table means it, or why there is no telling.
fn effective_file(state: &PathState) -> Result<Option<Entry>, Why> {
    match &state.work {
        _ if state.is_overlay => Ok(state.head),
        Work::Absent if state.is_sparse => Ok(state.index.entry()),
        Work::Absent => Ok(None),
        Work::Present(file) => Ok(Some(file.entry)),
        // A submodule is a folder on disk; whether it may be touched is decided by its obstacle.
        Work::Folder if is_submodule(state.head) => Ok(state.head),
        Work::Folder => Err(Why::FolderInPlace),
        Work::Special => Err(Why::SpecialInPlace),
        Work::BelowSymlink(link) => Err(Why::BelowSymlink(link.clone())),
        // A file that stands where a folder is wanted matters only if something is wanted there.
        Work::BelowFile(_) if state.canonical.is_none() && state.head.is_none() => Ok(None),
        Work::BelowFile(file) => Err(Why::BelowFile(file.clone())),
    }
}

fn is_submodule(entry: Option<Entry>) -> bool {
    entry.is_some_and(|entry| entry.mode == Mode::Gitlink)
}

fn kept(class: Class, why: Why, is_writable: bool) -> Verdict {
    Verdict { class, why, is_free: false, is_writable, writes_file: false }
}

fn barred(state: &PathState, verdict: Verdict) -> Verdict {
    match &state.obstacle {
        None => verdict,
        // Without the file there is nothing that Git LFS would be needed for.
        Some(Obstacle::NoLfs | Obstacle::MayBeSecret) if !verdict.writes_file => verdict,
        Some(obstacle) => Verdict {
            why: Why::Barred(obstacle.clone()),
            is_free: false,
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
    use xtask_git::{FileStat, Id, OnDisk};

    /// `-` absent, otherwise a digit for a content and `x` for an executable one.
    fn entry(text: &str) -> Option<Entry> {
        let digit = text.chars().next().filter(|c| *c != '-')?;
        let id = Id::from_hex(digit.to_string().repeat(40).as_bytes()).unwrap();
        let mode = match text.chars().nth(1) {
            None => Mode::File,
            Some('x') => Mode::Executable,
            Some('s') => Mode::Symlink,
            Some(_) => Mode::Gitlink,
        };
        Some(Entry { mode, id })
    }

    /// A line is: HEAD, index, file, canonical, and words for the rest.
    fn state(line: &str) -> PathState {
        let words: Vec<&str> = line.split_whitespace().collect();
        let has = |word: &str| words[4..].contains(&word);
        let work = match words[2] {
            "dir" => Work::Folder,
            "link/" => Work::BelowSymlink(RepoPath::new("setup")),
            "file/" => Work::BelowFile(RepoPath::new("setup")),
            text => entry(text).map_or(Work::Absent, |entry| {
                Work::Present(OnDisk { entry, raw: entry, look: FileStat::default() })
            }),
        };
        let index = match words[1] {
            "!" => Indexed::Conflict,
            "?" => Indexed::Intended,
            text => entry(text).map_or(Indexed::Absent, |entry| Indexed::Entry {
                entry,
                is_skipped: has("sparse"),
            }),
        };
        let once = if has("once") {
            Known::Once
        } else if has("cut") {
            Known::Unknown
        } else {
            Known::Never
        };
        PathState {
            path: RepoPath::new("setup/x"),
            head: entry(words[0]),
            canonical: entry(words[3]),
            index,
            work,
            once,
            is_overlay: has("overlay"),
            is_sparse: has("sparse"),
            is_excluded: has("excluded"),
            obstacle: has("barred").then_some(Obstacle::Submodule),
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
            let v = classify(&state(line));
            let marks =
                [(v.is_free, "free"), (v.is_writable, "forceable"), (v.writes_file, "file")];
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
