//! The store of built programs: in cargo's folder, by the key of what each was built from.
//!
//! The launcher finds a program there and runs it without cargo; after a build it has the new program keep itself.
//! An entry is a folder with the program and its size; it is complete before it has its name, and the launcher
//! builds anew what has another size. Whoever can write there could change the launcher as well: the store is
//! this user's alone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use walkdir::WalkDir;
use xtask_base::digest;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::files::{Bits, Disk};
use xtask_base::in_toolkit;
use xtask_base::name::NAME;
use xtask_base::world::World;
use xtask_git::{Id, Mode, Repo, Scope};

/// The word by which a program is told to keep itself: the store and a name follow.
pub const WORD: &str = "keep-program";

/// The variable with the name under which the launcher has found or built this program.
pub use xtask_base::process::KEY;

/// What stands for the sources from which this program was built by the launcher.
pub const SOURCES: Option<&str> = option_env!("XTASK_SOURCES");

/// How many programs are kept: as many versions of the toolkit as one works with at a time, and then some.
const MOST: usize = 12;

/// For how long after it was kept one is kept at least that would be one too many: a day.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// How old what was left half done is before it is taken away: an hour.
const HALF_DONE: Duration = Duration::from_secs(3600);

/// The file of an entry with the size of its program, and its digest.
const SIZE: &str = "size";

/// The crates that are built anew in each checkout, as their files begin.
const OURS: [&str; 6] = ["xtask-", "xtask_", "it-", "costs-", "schemas-", "build_script_build-"];

/// The programs that are built with it, and lie beside it.
const BESIDE: [&str; 1] = ["xtask-supervisor"];

/// How large the shared build folder may become before something of it goes: 1.5 GB. All of it goes at twice as
/// much, which only the tests of the toolkit reach.
const LARGEST_BUILD: u64 = 1_500_000_000;

/// The store of this user; nothing where there is to be none.
#[must_use]
pub fn folder(world: &World) -> Option<PathBuf> {
    match world.variable("XTASK_STORE").filter(|named| !named.is_empty()) {
        Some("off") => None,
        Some(named) => Some(PathBuf::from(named)).filter(|named| named.is_absolute()),
        None => cargo_home(world).map(|home| home.join("xtask-store")),
    }
}

/// What the clock of the world says, as files have their times.
#[must_use]
pub fn now(world: &World) -> SystemTime {
    SystemTime::UNIX_EPOCH + (world.clock)()
}

/// Cargo's own folder.
#[must_use]
pub fn cargo_home(world: &World) -> Option<PathBuf> {
    let home = world.variable("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(world.variable("HOME")?).join(".cargo")));
    home.filter(|home| home.is_absolute())
}

/// The name under which the launcher knows the program of these sources, if they are built as this one was.
#[must_use]
pub fn name_of(world: &World, sources: &str) -> Option<String> {
    let (_, builder) = world.variable(KEY)?.split_once('-')?;
    Some(format!("{sources}-{builder}"))
}

/// What stands for the sources of the toolkit in a tree: what the launcher computes of the same files in a worktree.
pub struct Sources {
    /// The half of the key that stands for all of them.
    pub all: String,
    /// What is compiled into the crates and the build script: the variable of each, and what stands for its sources.
    pub variables: Vec<(String, String)>,
}

/// The sources of the toolkit in a tree. Nothing where it holds what is no file.
pub fn sources_of(repo: &Repo, tree: Id) -> Result<Option<Sources>> {
    let mut files = Vec::new();
    for (path, entry) in repo.list_tree(tree, &Compiled)? {
        let bits: &[u8] = match entry.mode {
            Mode::File => b"-",
            Mode::Executable => b"x",
            Mode::Symlink | Mode::Gitlink => return Ok(None),
        };
        let path = path.as_bytes().strip_prefix(TOOLKIT).unwrap_or_default().to_vec();
        files.push((path, bits, repo.blob(entry.id)?));
    }
    files.sort();
    let of = |part: &dyn Fn(&[u8]) -> bool| {
        let files = files.iter().filter(|(path, ..)| part(path));
        let parts = files.flat_map(|(path, bits, content)| [&path[..], bits, &content[..]]);
        digest::hex(&digest::of_parts(parts))[..32].to_owned()
    };
    let crates: BTreeSet<&[u8]> = files.iter().filter_map(|(path, ..)| crate_of(path)).collect();
    let mut variables: Vec<(String, String)> = crates
        .into_iter()
        .map(|name| {
            let word = String::from_utf8_lossy(name).to_uppercase().replace('-', "_");
            (format!("XTASK_SOURCES_{word}"), of(&|path| crate_of(path) == Some(name)))
        })
        .collect();
    let script = b"build.rs";
    if files.iter().any(|(path, ..)| path == script) {
        variables.push(("XTASK_SOURCES_BUILD_SCRIPT".to_owned(), of(&|path| path == script)));
    }
    Ok(Some(Sources { all: of(&|_| true), variables }))
}

/// The crate in `crates/` to which a file belongs.
fn crate_of(path: &[u8]) -> Option<&[u8]> {
    let rest = path.strip_prefix(b"crates/")?;
    rest.split(|byte| *byte == b'/').next().filter(|name| name.len() < rest.len())
}

/// What the launcher takes into the key: `FILES` and `FOLDERS` in `launcher/key.rs`.
struct Compiled;

const TOOLKIT: &[u8] = in_toolkit!("").as_bytes();
const FILES: [&[u8]; 4] = [b".cargo/config.toml", b"Cargo.lock", b"Cargo.toml", b"build.rs"];
const FOLDERS: [&[u8]; 2] = [b"crates/", b"src/"];

impl Scope for Compiled {
    fn enters(&self, folder: &[u8]) -> bool {
        let Some(inner) = folder.strip_prefix(TOOLKIT) else { return folder == NAME.as_bytes() };
        matches!(inner, b".cargo" | b"crates" | b"src")
            || FOLDERS.iter().any(|above| inner.starts_with(above))
    }

    fn holds(&self, path: &[u8]) -> bool {
        let Some(inner) = path.strip_prefix(TOOLKIT) else { return false };
        let is_of_an_editor =
            |part: &[u8]| part.starts_with(b".") || part.starts_with(b"#") || part.ends_with(b"~");
        FILES.contains(&inner)
            || FOLDERS.iter().any(|folder| inner.starts_with(folder))
                && !inner.split(|byte| *byte == b'/').any(is_of_an_editor)
    }
}

/// A program of the store, if it is there and whole, byte by byte, and nobody else could have put it there.
#[must_use]
pub fn find(store: &Path, name: &str) -> Option<PathBuf> {
    let folder = store.join(name);
    if ![store, &folder, &folder.join("xtask")].into_iter().all(is_ours_alone) {
        return None;
    }
    let said = fs::read_to_string(folder.join(SIZE)).ok()?;
    let (_, wanted) = said.trim_end().split_once(' ')?;
    let program = folder.join("xtask");
    let found = digest::of_stream(fs::File::open(&program).ok()?).ok()?;
    (digest::hex(&found) == wanted).then_some(program)
}

/// Whether something belongs to this user, and nobody else may write there.
fn is_ours_alone(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == own && meta.mode() & 0o022 == 0)
}

/// Keeps a program under a name, with those that were built with it, and takes away what is too much.
pub fn keep(
    disk: &Disk<'_>,
    now: SystemTime,
    store: &Path,
    name: &str,
    program: &Path,
) -> Result<()> {
    let failed = || format!("the program cannot be kept in `{}`", store.display());
    if !is_key(OsStr::new(name)) {
        return Err(Error::usage(format!("`{name}` is no name of a program")));
    }
    let folder = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(store);
    folder.unable(failed)?;
    if !is_ours_alone(store) {
        return Err(Error::unable(failed()).detail("others own it, or may write in it"));
    }
    let content = fs::read(program).unable(failed)?;
    let new = store.join(format!(".new-{}", std::process::id()));
    let entry = store.join(name);
    let size = format!("{} {}\n", content.len(), digest::hex(&digest::of(&content)));
    let put = || -> std::io::Result<()> {
        disk.remove_folder(&new)?;
        disk.make_private_folders(&new)?;
        disk.create(&new.join("xtask"), &content, Bits::Executable)?;
        disk.fsync(&new.join("xtask"))?;
        for name in BESIDE {
            match fs::read(program.with_file_name(name)) {
                Ok(content) => disk.create(&new.join(name), &content, Bits::Executable)?,
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => return Err(cause),
            }
        }
        // It comes last: what is newer than it was changed since.
        disk.create(&new.join(SIZE), size.as_bytes(), Bits::Plain)?;
        // Who has built the same meanwhile has put the same there; what was damaged goes.
        disk.remove_folder(&entry)?;
        disk.place(&new, &entry)
    };
    let put = put();
    if put.is_err() {
        drop(disk.remove_folder(&new));
    }
    match put {
        Err(_) if find(store, name).is_some() => {}
        put => put.unable(failed)?,
    }
    prune(disk, now, store, name).unable(failed)
}

/// Whether a name is that of a program: what the launcher makes of its two halves.
fn is_key(name: &OsStr) -> bool {
    let halves = name.to_str().and_then(|name| name.split_once('-'));
    let is_half = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    halves.is_some_and(|(sources, builder)| is_half(sources, 32) && is_half(builder, 16))
}

fn is_half_done(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix(".new-"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Takes away what was not used for the longest time, and what was left half done.
fn prune(disk: &Disk<'_>, now: SystemTime, store: &Path, present: &str) -> std::io::Result<()> {
    let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    let mut kept = Vec::new();
    for entry in fs::read_dir(store)?.flatten() {
        let name = entry.file_name();
        let Ok(meta) = entry.metadata() else { continue };
        // Whoever names a folder of theirs for the store keeps what they have there.
        let is_program = is_key(&name) && entry.path().join(SIZE).is_file();
        if !is_program && !is_half_done(&name) {
            continue;
        }
        if is_half_done(&name) {
            if meta.modified().is_ok_and(|time| age(time) > HALF_DONE) {
                disk.remove_folder(&entry.path())?;
            }
            continue;
        }
        // Whoever runs a program reads it, which its times tell once a day.
        let program = fs::metadata(entry.path().join("xtask"));
        let times = program.map(|meta| [meta.modified(), meta.accessed()]);
        let used = times.into_iter().flatten().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH);
        if name != present {
            kept.push((used, entry.path()));
        }
    }
    kept.sort();
    let surplus = (kept.len() + 1).saturating_sub(MOST);
    for (used, path) in kept.into_iter().take(surplus) {
        if age(used) > FRESH || surplus > MOST {
            disk.remove_folder(&path)?;
        }
    }
    Ok(())
}

/// Keeps the shared build folder within bounds: if it is too large and nobody builds, first goes what was built of the
/// toolkit itself an hour ago or earlier.
pub fn bound_builds(disk: &Disk<'_>, now: SystemTime, builds: &Path) -> std::io::Result<()> {
    let folder = builds.join("debug");
    let Ok(lock) = fs::File::open(folder.join(".cargo-lock")) else { return Ok(()) };
    if size_of(&folder) <= LARGEST_BUILD || lock.try_lock().is_err() {
        return Ok(());
    }
    for part in ["incremental", "deps"] {
        for entry in fs::read_dir(folder.join(part)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let name = name.strip_prefix("lib").unwrap_or(&name);
            let is_ours = OURS.iter().any(|crate_| name.starts_with(crate_));
            let is_old = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .is_ok_and(|time| now.duration_since(time).unwrap_or_default() > HALF_DONE);
            if is_ours && is_old {
                match entry.file_type()?.is_dir() {
                    true => disk.remove_folder(&entry.path())?,
                    false => disk.remove(&entry.path())?,
                }
            }
        }
    }
    if size_of(&folder) > 2 * LARGEST_BUILD {
        for part in ["incremental", "deps", "build", ".fingerprint"] {
            disk.remove_folder(&folder.join(part))?;
        }
    }
    Ok(())
}

/// How much room the files below a folder take, in bytes.
fn size_of(folder: &Path) -> u64 {
    let entries = WalkDir::new(folder).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(|meta| !meta.is_dir());
    files.map(|meta| meta.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_base::scratch::Scratch;

    #[test]
    fn pruning_takes_old_programs_alone_and_nothing_of_anybody_else() {
        let scratch = Scratch::new(&World::real().unwrap(), "store").unwrap();
        let store = scratch.path().join("store");
        let program = scratch.path().join("program");
        let disk = Disk::real();
        disk.create(&program, b"program", Bits::Plain).unwrap();
        // Folders of somebody who has named one of theirs, some of them with names like ours.
        let like_ours = format!("{}-{}", "a".repeat(32), "b".repeat(16));
        let theirs = ["documents", ".new-things", ".new-", "1234-5678", like_ours.as_str()];
        for name in theirs {
            fs::create_dir_all(store.join(name)).unwrap();
            disk.create(&store.join(name).join("precious"), b"x", Bits::Plain).unwrap();
        }
        // The time of day has no say in it.
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(200 * 365 * 24 * 3600);
        let names: Vec<String> =
            (0..MOST + 3).map(|n| format!("{n:032x}-{}", "0".repeat(16))).collect();
        for name in &names {
            keep(&disk, later, &store, name, &program).unwrap();
        }
        let left = names.iter().filter(|name| store.join(name).is_dir()).count();
        assert_eq!(left, MOST);
        assert!(find(&store, names.last().unwrap()).is_some());
        for name in theirs {
            assert!(store.join(name).join("precious").is_file(), "{name}");
        }
        for name in ["", "..", "documents", "../x"] {
            assert!(keep(&disk, later, &store, name, &program).is_err(), "{name}");
        }
    }

    #[test]
    fn a_full_disk_at_any_step_leaves_a_whole_program_or_none() {
        let scratch = Scratch::new(&World::real().unwrap(), "store").unwrap();
        let program = scratch.path().join("program");
        let disk = Disk::real();
        disk.create(&program, b"program", Bits::Executable).unwrap();
        for name in BESIDE {
            disk.create(&program.with_file_name(name), b"alongside", Bits::Executable).unwrap();
        }
        let key = format!("{}-{}", "a".repeat(32), "b".repeat(16));
        let mut steps = 0;
        loop {
            // Each store holds a damaged entry of that name, which has to give way.
            let store = scratch.path().join(format!("store-{steps}"));
            fs::create_dir_all(store.join(&key)).unwrap();
            disk.create(&store.join(&key).join("xtask"), b"prog", Bits::Plain).unwrap();
            let left = std::sync::atomic::AtomicUsize::new(steps);
            let gate = |_| {
                use std::sync::atomic::Ordering::Relaxed;
                match left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
                    Ok(_) => Ok(()),
                    Err(_) => Err(std::io::Error::from(std::io::ErrorKind::StorageFull)),
                }
            };
            let full = Disk::gated(&gate);
            let kept = keep(&full, SystemTime::now(), &store, &key, &program);
            let found = find(&store, &key);
            if let Some(found) = &found {
                assert_eq!(fs::read(found).unwrap(), b"program", "step {steps}");
            }
            if kept.is_ok() {
                assert!(found.is_some());
                break;
            }
            // The next call with room left keeps it, whatever the failed one has left behind.
            keep(&disk, SystemTime::now(), &store, &key, &program).unwrap();
            assert!(find(&store, &key).is_some(), "step {steps}");
            steps += 1;
        }
        assert!(steps > 5, "{steps} steps were tried");
    }
}
