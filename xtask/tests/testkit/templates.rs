//! Scenes are made once a run and copied for every test that wants one.
//!
//! A repository that five git commands make takes about 10 ms, a copy of it 1.5 ms. What makes a copy differ
//! from the original is put right: absolute paths of the template outside of worktrees (links between them,
//! addresses of remotes, hooks), and what the index notes about the files, which are new.
//!
//! Templates lie in one folder a run. It goes with the last test that holds on to it, also where one has failed.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use camino::Utf8PathBuf;
use gix::index::entry::{Stat, stat::Time};

use super::Lab;

/// Larger files are data, and name no folder.
const LONGEST_TEXT: u64 = 64 << 10;

/// The templates of this run, by what they are named.
#[derive(Default)]
struct Templates {
    program: OnceLock<Lab>,
    made: Mutex<HashMap<Key, Arc<OnceLock<Lab>>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The function that makes it.
    By(TypeId),
    /// What it is made from.
    Of(String),
}

static TEMPLATES: Mutex<Weak<Templates>> = Mutex::new(Weak::new());

thread_local! {
    /// A test holds on to the templates for as long as it runs: each has a thread of its own.
    static HELD: RefCell<Option<Arc<Templates>>> = const { RefCell::new(None) };
}

fn templates() -> Arc<Templates> {
    HELD.with_borrow_mut(|held| {
        let found = held.get_or_insert_with(|| {
            let mut known = TEMPLATES.lock().unwrap();
            known.upgrade().unwrap_or_else(|| {
                let new = Arc::new(Templates::default());
                *known = Arc::downgrade(&new);
                new
            })
        });
        Arc::clone(found)
    })
}

/// Copies the folder `name` of a template into `lab`, or all of it. It is made if nobody has made it yet.
pub(super) fn copy_into(lab: &Lab, key: Key, name: &str, make: impl FnOnce(&Lab)) {
    let templates = templates();
    let place = Arc::clone(templates.made.lock().unwrap().entry(key).or_default());
    let template = place.get_or_init(|| {
        let template = Lab::new();
        make(&template);
        template
    });
    copy(template, lab, name);
}

/// Copies a folder of one lab to the same name in another.
pub(super) fn copy(from: &Lab, to: &Lab, name: &str) {
    let (old, new) = (from.path(name), to.path(name));
    let rename = Rename { from: from.root.to_string(), to: to.root.to_string() };
    copy_folder(old.as_std_path(), new.as_std_path(), &rename, false);
    refresh_indexes(new.as_std_path());
}

/// A path that is another one in the copy.
struct Rename {
    from: String,
    to: String,
}

impl Rename {
    fn apply(&self, text: Vec<u8>) -> Vec<u8> {
        if memchr::memmem::find(&text, self.from.as_bytes()).is_none() {
            return text;
        }
        let mut renamed = Vec::with_capacity(text.len());
        let mut rest = &text[..];
        while let Some(at) = memchr::memmem::find(rest, self.from.as_bytes()) {
            renamed.extend_from_slice(&rest[..at]);
            renamed.extend_from_slice(self.to.as_bytes());
            rest = &rest[at + self.from.len()..];
        }
        renamed.extend_from_slice(rest);
        renamed
    }
}

/// Copies a folder with all that is in it into one that may exist already. The files of a worktree stay as
/// they are, whatever they hold: they may be committed.
fn copy_folder(from: &Path, to: &Path, rename: &Rename, is_worktree: bool) {
    fs::create_dir_all(to).unwrap();
    let is_worktree = is_worktree || from.join(".git").symlink_metadata().is_ok();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        let meta = old.symlink_metadata().unwrap();
        let is_worktree = is_worktree && entry.file_name() != ".git";
        if meta.is_dir() {
            copy_folder(&old, &new, rename, is_worktree);
        } else if meta.is_symlink() {
            let target = fs::read_link(&old).unwrap().into_os_string().into_encoded_bytes();
            let target = if is_worktree { target } else { rename.apply(target) };
            symlink(OsStr::from_bytes(&target), &new).unwrap();
        } else if is_program(&old, &meta) {
            fs::hard_link(&old, &new).unwrap();
        } else if is_worktree || meta.len() > LONGEST_TEXT || !may_hold_paths(&old) {
            fs::copy(&old, &new).unwrap();
        } else {
            fs::write(&new, rename.apply(fs::read(&old).unwrap())).unwrap();
            fs::set_permissions(&new, meta.permissions()).unwrap();
        }
    }
    fs::set_permissions(to, from.metadata().unwrap().permissions()).unwrap();
}

/// The installed program of the hooks is replaced and never changed: 30 MB that need no copy.
fn is_program(path: &Path, meta: &fs::Metadata) -> bool {
    meta.len() > LONGEST_TEXT
        && meta.permissions().mode() & 0o100 != 0
        && path.parent().is_some_and(|folder| folder.ends_with("xtask/bin"))
}

/// Objects and indexes are guarded by digests, and hold no paths of this machine.
fn may_hold_paths(path: &Path) -> bool {
    !path.components().any(|part| part.as_os_str() == "objects") && !path.ends_with("index")
}

/// Notes in each index how its files look now, as git does after a checkout.
fn refresh_indexes(folder: &Path) {
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        let git = folder.join(".git");
        if git.is_dir() {
            refresh(&git.join("index"), &folder);
            for linked in fs::read_dir(git.join("worktrees")).into_iter().flatten().flatten() {
                let Ok(file) = fs::read_to_string(linked.path().join("gitdir")) else { continue };
                let root = Path::new(file.trim_end()).parent().unwrap();
                refresh(&linked.path().join("index"), root);
            }
        }
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() && entry.file_name() != ".git" {
                open.push(entry.path());
            }
        }
    }
}

fn refresh(index: &Path, root: &Path) {
    if !index.is_file() || !root.is_dir() {
        return;
    }
    let hash = hash_of(index);
    let mut file = gix::index::File::at(index, hash, true, Default::default()).unwrap();
    let paths: Vec<_> = file.entries().iter().map(|e| e.path(&file).to_vec()).collect();
    for (entry, path) in file.entries_mut().iter_mut().zip(paths) {
        // What is not as it was staged stays unknown, and git reads it again.
        let path = root.join(OsStr::from_bytes(&path));
        entry.stat = match path.symlink_metadata() {
            Ok(meta) if id_of(&path, &meta, hash) == Some(entry.id) => stat_of(&meta),
            _ => Stat::default(),
        };
    }
    file.write(gix::index::write::Options::default()).unwrap();
}

/// The id of a file as it lies there, if it is one.
fn id_of(path: &Path, meta: &fs::Metadata, hash: gix::hash::Kind) -> Option<gix::ObjectId> {
    let content = if meta.is_symlink() {
        fs::read_link(path).ok()?.into_os_string().into_encoded_bytes()
    } else {
        fs::read(path).ok()?
    };
    gix::objs::compute_hash(hash, gix::objs::Kind::Blob, &content).ok()
}

fn hash_of(index: &Path) -> gix::hash::Kind {
    let config = index.parent().unwrap().join("config");
    let common = index.parent().unwrap().join("../../config");
    let text = fs::read_to_string(config).or_else(|_| fs::read_to_string(common));
    let is_long = text.is_ok_and(|text| text.to_lowercase().contains("objectformat = sha256"));
    if is_long { gix::hash::Kind::Sha256 } else { gix::hash::Kind::Sha1 }
}

fn stat_of(meta: &fs::Metadata) -> Stat {
    let time = |seconds: i64, nanos: i64| Time { secs: seconds as u32, nsecs: nanos as u32 };
    Stat {
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        dev: meta.dev() as u32,
        ino: meta.ino() as u32,
        uid: meta.uid(),
        gid: meta.gid(),
        size: meta.len() as u32,
    }
}

/// The program under test: a copy that lies where the labs do, so that they can link to it, and that no
/// build takes away while tests run.
pub(super) fn program() -> Utf8PathBuf {
    let templates = templates();
    let program = templates.program.get_or_init(|| {
        let lab = Lab::new();
        // Another process writes it: what another test starts meanwhile would for a moment have a copied file
        // of this one open, and one that is open for writing cannot be started.
        let copy = lab.path("xtask");
        lab.place("").run("cp", &[env!("CARGO_BIN_EXE_xtask"), copy.as_str()], &[]).success();
        lab
    });
    program.path("xtask")
}

/// Where labs lie: in memory where there is room for programs in it, unless `TMPDIR` says where.
pub(super) fn ground() -> Utf8PathBuf {
    static GROUND: OnceLock<Utf8PathBuf> = OnceLock::new();
    let ground = GROUND.get_or_init(|| {
        // Scripts of tests do not quote the paths of their lab.
        let is_plain =
            |value: &OsStr| !value.as_bytes().iter().any(|c| b" '\"$`\\;&|<>()*?".contains(c));
        let is_named = std::env::vars_os().any(|(name, value)| {
            name == "TMPDIR"
                && (is_plain(&value) || panic!("TMPDIR holds what a shell reads: {value:?}"))
        });
        let memory = Path::new("/dev/shm");
        let found = if !is_named && suits(memory) { memory.into() } else { std::env::temp_dir() };
        let found = Utf8PathBuf::from_path_buf(found.canonicalize().unwrap()).unwrap();
        remove_stale(&found);
        found
    });
    ground.clone()
}

/// How long the scene of a failed test, or of a run that was killed, stays to be looked at.
const STAY: Duration = Duration::from_secs(3600);

/// Removes the labs of earlier runs that have ended a while ago.
fn remove_stale(ground: &Utf8PathBuf) {
    for entry in fs::read_dir(ground).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let pid =
            name.strip_prefix("xtask-it-").and_then(|rest| rest.split('-').next()?.parse().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { continue };
        let is_over = rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
        if is_over && age.is_ok_and(|age| age.is_ok_and(|age| age > STAY)) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// A whole run needs less than 1 GB at once.
const ROOM: u64 = 2 << 30;

fn suits(folder: &Path) -> bool {
    use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
    let Ok(stat) = statvfs(folder) else { return false };
    access(folder, Access::WRITE_OK).is_ok()
        && !stat.f_flag.contains(StatVfsMountFlags::NOEXEC)
        && stat.f_bavail * stat.f_frsize >= ROOM
}
