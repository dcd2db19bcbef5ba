//! Taking a transaction back, or tidying up after it: at once when it fails, and by the next command
//! when it was cut short.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::backup;
use super::journal::{self, FileStep, HeadStep, Journal, Phase};
use super::overlay;
use super::print::print_at;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::files::{Bits, Disk};
use xtask_base::halves::in_halves;
use xtask_base::path::RepoPath;
use xtask_base::record::{self, Found};
use xtask_git::{FileStat, Id, Repo};

/// Whether a transaction was cut short here.
#[must_use]
pub fn is_unfinished(repo: &Repo) -> bool {
    exists(&journal::file(repo))
}

/// Mends what a crashed transaction left: takes it back, or tidies up if it had gone through.
/// Says so, if there was one. The caller holds the lock of the worktree.
pub fn recover(repo: &Repo, disk: &Disk<'_>) -> Result<Option<String>> {
    let journal: Journal = match record::read(&journal::file(repo), journal::KIND) {
        Found::Nothing => return Ok(None),
        Found::Whole(journal) => journal,
        Found::Newer => {
            return Err(record::newer("the journal of an earlier run", &journal::file(repo)));
        }
        Found::Broken(why) => {
            return Err(Error::unable(format!("the journal of an earlier run is damaged: {why}"))
                .detail(journal::file(repo).display().to_string())
                .hint("look at `git status`; when the files are as they should be, remove it"));
        }
    };
    if journal.overlay.is_some() {
        overlay::check_known(repo)?;
    }
    let has_moved = match &journal.head {
        None => journal.phase == Phase::Done,
        Some(head) => has_moved(repo, head)?,
    };
    let purpose = &journal.purpose;
    let mut text = format!("an earlier `{purpose}` was cut short and has been put right");
    let put_aside = if has_moved {
        finish(repo, disk, &journal).unable(|| "an earlier run cannot be tidied up after")?
    } else {
        remove_stale_ref_locks(repo, disk, &journal)?;
        let back = take_back(repo, disk, &journal)?;
        if !back.is_all {
            text.push_str(
                "; files that were changed since stay as they are, and what they held before is in \
                 the newest backup (`cargo xtask undo --list`)",
            );
        }
        back.put_aside
    };
    for at in put_aside {
        text.push_str(&format!("; {}", at.words()));
    }
    Ok(Some(text))
}

/// Whether the branch got to the new commit, or further.
fn has_moved(repo: &Repo, head: &HeadStep) -> Result<bool> {
    let name = match &head.branch {
        Some(branch) => format!("refs/heads/{branch}"),
        None => "HEAD".to_owned(),
    };
    let (Some(at), Ok(new)) = (repo.resolve(&name)?, Id::from_hex(head.new.as_bytes())) else {
        return Ok(false);
    };
    // An undo goes back to an ancestor, so being where it began comes first.
    let is_where_it_began = Id::from_hex(head.old.as_bytes()).ok() == Some(at);
    Ok(at == new || (!is_where_it_began && repo.is_ancestor(new, at).unwrap_or(false)))
}

/// How often a lock on a ref is looked at before it counts as left behind.
const LOCK_ROUNDS: u32 = 20;

/// Removes the locks on HEAD and the branch that a killed transaction of ours left: they hold its
/// new commit or, if it was killed before writing that, nothing for longer than git ever needs.
fn remove_stale_ref_locks(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    let Some(head) = journal.head.as_ref().filter(|_| journal.phase == Phase::Swapping) else {
        return Ok(());
    };
    if !lock_is_ours(repo, journal) {
        return Ok(());
    }
    let mut locks = vec![repo.git_folder().join("HEAD.lock")];
    if let Some(branch) = &head.branch {
        locks.push(repo.common_folder().join(format!("refs/heads/{branch}.lock")));
    }
    for lock in locks {
        for round in 0..=LOCK_ROUNDS {
            let Ok(text) = std::fs::read_to_string(&lock) else { break };
            let is_new = text.trim() == head.new;
            if is_new || (text.is_empty() && round == LOCK_ROUNDS) {
                disk.remove(&lock)
                    .unable(|| format!("the lock `{}` cannot be removed", lock.display()))?;
                break;
            }
            if !text.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    Ok(())
}

/// What came out of a swap, is in no commit and no backup, and cannot go back to its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAside {
    /// Where it was.
    pub path: RepoPath,
    /// Where it is now.
    pub file: PathBuf,
}

impl PutAside {
    /// Both in words.
    #[must_use]
    pub fn words(&self) -> String {
        let PutAside { path, file } = self;
        format!("what somebody wrote to `{path}` at that moment is in `{}`", file.display())
    }
}

/// Removes what waits beside a file, if by its look it is what the plan saw. Answers whether nothing
/// waits any more.
fn let_go_as_seen(root: &Path, disk: &Disk<'_>, step: &FileStep) -> io::Result<bool> {
    let waiting = step.aside.on_disk(root);
    let Ok(meta) = waiting.symlink_metadata() else { return Ok(true) };
    if step.look.is_none_or(|seen| !FileStat::of(&meta).is_same_file(&seen)) {
        return Ok(false);
    }
    disk.remove(&waiting)?;
    Ok(true)
}

/// Removes what waits beside a file, if its content is in git or in the backup, or is what was to be
/// written; anything else is put aside. Who had the file open may have written to it after the swap.
fn let_go(
    repo: &Repo,
    disk: &Disk<'_>,
    journal: &Journal,
    step: &FileStep,
) -> io::Result<Option<PutAside>> {
    if let_go_as_seen(repo.root(), disk, step)? {
        return Ok(None);
    }
    let waiting = step.aside.on_disk(repo.root());
    // Before the first swap all that waits is ours, whole or not.
    if journal.phase != Phase::Preparing {
        let print = print_at(repo, &waiting).map_err(io::Error::other)?;
        if print != step.before && print != step.after {
            let number = journal.files.iter().position(|other| other.aside == step.aside);
            let name = format!("{}-{}", journal.id, number.unwrap_or_default());
            let file =
                (1..).map(|time| repo.state_folder().join(format!("put-aside/{name}-{time}")));
            let file = file.into_iter().find(|file| !exists(file)).unwrap_or_default();
            move_to(disk, &waiting, &file)?;
            return Ok(Some(PutAside { path: step.path.clone(), file }));
        }
    }
    disk.remove(&waiting)?;
    Ok(None)
}

/// Moves a file to a free name, which may be on another file system.
fn move_to(disk: &Disk<'_>, from: &Path, to: &Path) -> io::Result<()> {
    disk.make_private_folders(to.parent().unwrap_or(to))?;
    match disk.place(from, to) {
        Err(cause) if cause.kind() == io::ErrorKind::CrossesDevices => {
            let meta = from.symlink_metadata()?;
            if meta.is_symlink() {
                disk.symlink(&std::fs::read_link(from)?, to)?;
            } else {
                disk.create(to, &std::fs::read(from)?, Bits::Exact(meta.mode() & 0o7777))?;
                disk.fsync(to)?;
            }
            disk.remove(from)
        }
        done => done,
    }
}

/// Removes what a transaction leaves that went through, and says what could not go.
pub fn finish(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> io::Result<Vec<PutAside>> {
    let root = repo.root();
    let mut put_aside = Vec::new();
    // What looks as it did is not read again; the rest is looked at one by one.
    let at_once = in_halves(&journal.files, |half| {
        half.iter().map(|step| let_go_as_seen(root, disk, step)).collect()
    });
    for (step, is_gone) in journal.files.iter().zip(at_once) {
        if !is_gone? {
            put_aside.extend(let_go(repo, disk, journal, step)?);
        }
    }
    if let Some(kept) = &journal.overlay {
        if kept.is_empty() {
            disk.remove(&overlay::file(repo))?;
        } else {
            record::write(disk, &overlay::file(repo), overlay::KIND, kept)?;
        }
    }
    disk.remove(&journal::old_index(repo))?;
    disk.remove(&journal::new_index(repo))?;
    unlock_index(repo, disk, journal)?;
    disk.remove(&journal::file(repo))?;
    Ok(put_aside)
}

fn unlock_index(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> io::Result<()> {
    if lock_is_ours(repo, journal) {
        disk.remove(&repo.index_lock())?;
    }
    disk.remove(&journal::lock_source(repo))
}

fn lock_is_ours(repo: &Repo, journal: &Journal) -> bool {
    std::fs::read(repo.index_lock()).is_ok_and(|text| text == journal.lock_text().as_bytes())
}

/// What came of taking a transaction back.
#[derive(Debug, Default)]
pub struct TakenBack {
    /// Whether all is as it was before.
    pub is_all: bool,
    /// What found no place.
    pub put_aside: Vec<PutAside>,
}

/// Takes everything back that a transaction did before it moved the branch. What somebody else has changed since stays as they left it; then the backup stays,
/// too.
pub fn take_back(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<TakenBack> {
    let failed = || "what was begun cannot be taken back";
    let old = journal::old_index(repo);
    let replaced = old.exists() && !same_file(&old, &repo.index_file());
    let is_ours = lock_is_ours(repo, journal);
    if !is_ours && (replaced || any_swapped(repo, journal)?) {
        // Somebody has removed our lock and gone on with our files, which may be committed by now.
        // They stay, and what they replaced stays in the backup.
        let put_aside = finish(repo, disk, journal).unable(failed)?;
        return Ok(TakenBack { is_all: false, put_aside });
    }
    let undo = || -> io::Result<TakenBack> {
        let mut back = TakenBack { is_all: true, put_aside: Vec::new() };
        if replaced {
            disk.replace(&old, &repo.index_file())?;
        } else if is_ours && journal.had_index == Some(false) {
            disk.remove(&repo.index_file())?;
        }
        for step in journal.files.iter().rev().filter(|step| !step.removes) {
            swap_back(repo, disk, journal, step, &mut back)?;
        }
        for folder in journal.folders.iter().rev() {
            disk.remove_empty_folder(&folder.path.on_disk(repo.root()))?;
        }
        for step in journal.files.iter().rev().filter(|step| step.removes) {
            put_back(repo, disk, journal, step, &mut back)?;
        }
        disk.remove(&old)?;
        disk.remove(&journal::new_index(repo))?;
        unlock_index(repo, disk, journal)?;
        Ok(back)
    };
    let back = undo().unable(failed)?;
    // A backup of what is back is a backup of something that never happened.
    if let Some(commit) = journal.backup.as_ref().and_then(|id| Id::from_hex(id.as_bytes()).ok())
        && back.is_all
    {
        disk.other("forget the backup").unable(failed)?;
        backup::forget_commit(repo, commit)?;
    }
    disk.remove(&journal::file(repo)).unable(failed)?;
    Ok(back)
}

/// Whether any file of a transaction has been swapped in.
fn any_swapped(repo: &Repo, journal: &Journal) -> Result<bool> {
    if journal.phase == Phase::Preparing {
        return Ok(false);
    }
    for step in &journal.files {
        let waiting = print_at(repo, &step.aside.on_disk(repo.root()))?;
        let is_swapped = match (&step.before, step.removes) {
            (Some(_), _) => waiting.is_some() && waiting != step.after,
            (None, true) => false,
            (None, false) => step.after.is_some() && waiting.is_none(),
        };
        if is_swapped {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts the old content back, or whatever came out when ours went in.
fn swap_back(
    repo: &Repo,
    disk: &Disk<'_>,
    journal: &Journal,
    step: &FileStep,
    back: &mut TakenBack,
) -> io::Result<()> {
    let target = step.path.on_disk(repo.root());
    let aside = step.aside.on_disk(repo.root());
    let at = |path: &Path| print_at(repo, path).map_err(io::Error::other);
    disk.mend_exchange(&aside, &target)?;
    let (there, waiting) = (at(&target)?, at(&aside)?);
    let is_swapped = step.after.is_some() && there == step.after;
    match &step.before {
        Some(_) if is_swapped && waiting.is_some() && waiting != step.after => {
            disk.exchange(&aside, &target)?;
        }
        None if is_swapped && waiting.is_none() => disk.place(&target, &aside)?,
        // What waits is the old content, and somebody has changed the new one: theirs stays.
        Some(_) => {
            back.is_all &= waiting.is_none() || waiting == step.after || there == step.before;
        }
        None => {}
    }
    back.put_aside.extend(let_go(repo, disk, journal, step)?);
    Ok(())
}

/// Puts a removed file back.
fn put_back(
    repo: &Repo,
    disk: &Disk<'_>,
    journal: &Journal,
    step: &FileStep,
    back: &mut TakenBack,
) -> io::Result<()> {
    let target = step.path.on_disk(repo.root());
    let aside = step.aside.on_disk(repo.root());
    if !exists(&aside) {
        return Ok(());
    }
    if exists(&target) {
        // Somebody has made a new file there since: theirs stays.
        back.put_aside.extend(let_go(repo, disk, journal, step)?);
        back.is_all = false;
        return Ok(());
    }
    if let Some(folder) = target.parent().filter(|folder| !folder.is_dir()) {
        std::fs::create_dir_all(folder)?;
    }
    disk.place(&aside, &target)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn same_file(one: &Path, two: &Path) -> bool {
    match (one.symlink_metadata(), two.symlink_metadata()) {
        (Ok(here), Ok(there)) if (here.dev(), here.ino()) == (there.dev(), there.ino()) => true,
        (Ok(here), Ok(there)) if here.len() == there.len() => {
            matches!((std::fs::read(one), std::fs::read(two)), (Ok(one), Ok(two)) if one == two)
        }
        _ => false,
    }
}
