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
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::in_toolkit;
use xtask_base::name::NAME;
use xtask_git::{FileMode, Id, PathScope, Repo};

/// The word by which a program is told to keep itself: the store and a name follow.
pub const KEEP_COMMAND: &str = "keep-program";

/// The variable with the name under which the launcher has found or built this program.
pub use xtask_base::process::KEY_VAR;

/// What stands for the sources from which this program was built by the launcher.
pub const SOURCES: Option<&str> = option_env!("XTASK_SOURCES");

/// How many programs are kept: as many versions of the toolkit as one works with at a time, and then some.
const MOST_PROGRAMS: usize = 12;

/// For how long after it was kept one is kept at least that would be one too many: a day.
const MIN_AGE: Duration = Duration::from_secs(24 * 3600);

/// How old what was left half done is before it is taken away: an hour.
const UNFINISHED_AGE: Duration = Duration::from_secs(3600);

/// The file of an entry with the size of its program, and its digest.
const SIZE: &str = "size";

/// The crates that are built anew in each checkout, as their files begin.
const OWN_CRATES: [&str; 6] =
    ["xtask-", "xtask_", "it-", "costs-", "schemas-", "build_script_build-"];

/// The programs that are built with it, and lie beside it.
const COMPANION_PROGRAMS: [&str; 1] = ["xtask-supervisor"];

/// How large the shared build folder may become before something of it goes: 1.5 GB. All of it goes at twice as
/// much, which only the tests of the toolkit reach.
const LARGEST_BUILD: u64 = 1_500_000_000;

/// The store of this user; nothing where there is to be none.
#[must_use]
pub fn find_store(world: &Environment) -> Option<PathBuf> {
    match world.variable("XTASK_STORE").filter(|named| !named.is_empty()) {
        Some("off") => None,
        Some(named) => Some(PathBuf::from(named)).filter(|named| named.is_absolute()),
        None => find_cargo_home(world).map(|home| home.join("xtask-store")),
    }
}

/// What the clock of the world says, as files have their times.
#[must_use]
pub fn system_time(world: &Environment) -> SystemTime {
    SystemTime::UNIX_EPOCH + (world.clock)()
}

/// Cargo's own folder.
#[must_use]
pub fn find_cargo_home(world: &Environment) -> Option<PathBuf> {
    let home = world.variable("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(world.variable("HOME")?).join(".cargo")));
    home.filter(|home| home.is_absolute())
}

/// The name under which the launcher knows the program of these sources, if they are built as this one was.
#[must_use]
pub fn program_key(world: &Environment, sources: &str) -> Option<String> {
    let (_, builder) = world.variable(KEY_VAR)?.split_once('-')?;
    Some(format!("{sources}-{builder}"))
}

/// What stands for the sources of the toolkit in a tree: what the launcher computes of the same files in a worktree.
pub struct SourceDigests {
    /// The half of the key that stands for all of them.
    pub workspace: String,
    /// What is compiled into the crates and the build script: the variable of each, and what stands for its sources.
    pub crate_variables: Vec<(String, String)>,
}

/// The sources of the toolkit in a tree. Nothing where it holds what is no file.
pub fn digest_sources(repo: &Repo, tree: Id) -> Result<Option<SourceDigests>> {
    let mut files = Vec::new();
    for (path, entry) in repo.list_tree(tree, &CompiledSources)? {
        let bits: &[u8] = match entry.mode {
            FileMode::File => b"-",
            FileMode::Executable => b"x",
            FileMode::Symlink | FileMode::Gitlink => return Ok(None),
        };
        let path = path.as_bytes().strip_prefix(TOOLKIT).unwrap_or_default().to_vec();
        files.push((path, bits, repo.read_blob(entry.id)?));
    }
    files.sort();
    let of = |part: &dyn Fn(&[u8]) -> bool| {
        let files = files.iter().filter(|(path, ..)| part(path));
        let parts = files.flat_map(|(path, bits, content)| [&path[..], bits, &content[..]]);
        digest::to_hex(&digest::hash_parts(parts))[..32].to_owned()
    };
    let crates: BTreeSet<&[u8]> =
        files.iter().filter_map(|(path, ..)| parse_crate_name(path)).collect();
    let mut variables: Vec<(String, String)> = crates
        .into_iter()
        .map(|name| {
            let word = String::from_utf8_lossy(name).to_uppercase().replace('-', "_");
            (format!("XTASK_SOURCES_{word}"), of(&|path| parse_crate_name(path) == Some(name)))
        })
        .collect();
    let script = b"build.rs";
    if files.iter().any(|(path, ..)| path == script) {
        variables.push(("XTASK_SOURCES_BUILD_SCRIPT".to_owned(), of(&|path| path == script)));
    }
    Ok(Some(SourceDigests { workspace: of(&|_| true), crate_variables: variables }))
}

/// The crate in `crates/` to which a file belongs.
fn parse_crate_name(path: &[u8]) -> Option<&[u8]> {
    let rest = path.strip_prefix(b"crates/")?;
    rest.split(|byte| *byte == b'/').next().filter(|name| name.len() < rest.len())
}

/// What the launcher takes into the key: `FILES` and `FOLDERS` in `launcher/key.rs`.
struct CompiledSources;

const TOOLKIT: &[u8] = in_toolkit!("").as_bytes();
const FILES: [&[u8]; 4] = [b".cargo/config.toml", b"Cargo.lock", b"Cargo.toml", b"build.rs"];
const FOLDERS: [&[u8]; 2] = [b"crates/", b"src/"];

impl PathScope for CompiledSources {
    fn may_contain(&self, folder: &[u8]) -> bool {
        let Some(inner) = folder.strip_prefix(TOOLKIT) else { return folder == NAME.as_bytes() };
        matches!(inner, b".cargo" | b"crates" | b"src")
            || FOLDERS.iter().any(|above| inner.starts_with(above))
    }

    fn contains_path(&self, path: &[u8]) -> bool {
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
pub fn find_program(store: &Path, name: &str) -> Option<PathBuf> {
    let folder = store.join(name);
    if ![store, &folder, &folder.join("xtask")].into_iter().all(is_private) {
        return None;
    }
    let said = fs::read_to_string(folder.join(SIZE)).ok()?;
    let (_, wanted) = said.trim_end().split_once(' ')?;
    let program = folder.join("xtask");
    let found = digest::hash_stream(fs::File::open(&program).ok()?).ok()?;
    (digest::to_hex(&found) == wanted).then_some(program)
}

/// Whether something belongs to this user, and nobody else may write there.
fn is_private(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == own && meta.mode() & 0o022 == 0)
}

/// Keeps a program under a name, with those that were built with it, and takes away what is too much.
pub fn keep_program(
    disk: &Disk<'_>,
    now: SystemTime,
    store: &Path,
    name: &str,
    program: &Path,
) -> Result<()> {
    let failed = || format!("the program cannot be kept in `{}`", store.display());
    if !is_program_key(OsStr::new(name)) {
        return Err(Error::usage(format!("`{name}` is no name of a program")));
    }
    let folder = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(store);
    folder.with_context(failed)?;
    if !is_private(store) {
        return Err(Error::unable(failed()).with_detail("others own it, or may write in it"));
    }
    let content = fs::read(program).with_context(failed)?;
    let new = store.join(format!(".new-{}", std::process::id()));
    let entry = store.join(name);
    let size = format!("{} {}\n", content.len(), digest::to_hex(&digest::hash_bytes(&content)));
    let put = || -> std::io::Result<()> {
        disk.remove_folder(&new)?;
        disk.make_private_folders(&new)?;
        disk.create_file(&new.join("xtask"), &content, CreateMode::Executable)?;
        disk.fsync(&new.join("xtask"))?;
        for name in COMPANION_PROGRAMS {
            match fs::read(program.with_file_name(name)) {
                Ok(content) => {
                    disk.create_file(&new.join(name), &content, CreateMode::Executable)?
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => return Err(cause),
            }
        }
        // It comes last: what is newer than it was changed since.
        disk.create_file(&new.join(SIZE), size.as_bytes(), CreateMode::Plain)?;
        // Who has built the same meanwhile has put the same there; what was damaged goes.
        disk.remove_folder(&entry)?;
        disk.rename_noreplace(&new, &entry)
    };
    let put = put();
    if put.is_err() {
        drop(disk.remove_folder(&new));
    }
    match put {
        Err(_) if find_program(store, name).is_some() => {}
        put => put.with_context(failed)?,
    }
    prune_store(disk, now, store, name).with_context(failed)
}

/// Whether a name is that of a program: what the launcher makes of its two halves.
fn is_program_key(name: &OsStr) -> bool {
    let halves = name.to_str().and_then(|name| name.split_once('-'));
    let is_half = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    halves.is_some_and(|(sources, builder)| is_half(sources, 32) && is_half(builder, 16))
}

fn is_unfinished(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix(".new-"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Takes away what was not used for the longest time, and what was left half done.
fn prune_store(
    disk: &Disk<'_>,
    now: SystemTime,
    store: &Path,
    present: &str,
) -> std::io::Result<()> {
    let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    let mut kept = Vec::new();
    for entry in fs::read_dir(store)?.flatten() {
        let name = entry.file_name();
        let Ok(meta) = entry.metadata() else { continue };
        // Whoever names a folder of theirs for the store keeps what they have there.
        let is_program = is_program_key(&name) && entry.path().join(SIZE).is_file();
        if !is_program && !is_unfinished(&name) {
            continue;
        }
        if is_unfinished(&name) {
            if meta.modified().is_ok_and(|time| age(time) > UNFINISHED_AGE) {
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
    let surplus = (kept.len() + 1).saturating_sub(MOST_PROGRAMS);
    for (used, path) in kept.into_iter().take(surplus) {
        if age(used) > MIN_AGE || surplus > MOST_PROGRAMS {
            disk.remove_folder(&path)?;
        }
    }
    Ok(())
}

/// Keeps the shared build folder within bounds: if it is too large and nobody builds, first goes what was built of the
/// toolkit itself an hour ago or earlier.
pub fn prune_builds(disk: &Disk<'_>, now: SystemTime, builds: &Path) -> std::io::Result<()> {
    let folder = builds.join("debug");
    let Ok(lock) = fs::File::open(folder.join(".cargo-lock")) else { return Ok(()) };
    if measure_folder(&folder) <= LARGEST_BUILD || lock.try_lock().is_err() {
        return Ok(());
    }
    for part in ["incremental", "deps"] {
        for entry in fs::read_dir(folder.join(part)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let name = name.strip_prefix("lib").unwrap_or(&name);
            let is_ours = OWN_CRATES.iter().any(|crate_| name.starts_with(crate_));
            let is_old = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .is_ok_and(|time| now.duration_since(time).unwrap_or_default() > UNFINISHED_AGE);
            if is_ours && is_old {
                match entry.file_type()?.is_dir() {
                    true => disk.remove_folder(&entry.path())?,
                    false => disk.remove_file(&entry.path())?,
                }
            }
        }
    }
    if measure_folder(&folder) > 2 * LARGEST_BUILD {
        for part in ["incremental", "deps", "build", ".fingerprint"] {
            disk.remove_folder(&folder.join(part))?;
        }
    }
    Ok(())
}

/// How much room the files below a folder take, in bytes.
fn measure_folder(folder: &Path) -> u64 {
    let entries = WalkDir::new(folder).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(|meta| !meta.is_dir());
    files.map(|meta| meta.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_base::temp_folder::TempFolder;

    #[test]
    fn pruning_takes_old_programs_alone_and_nothing_of_anybody_else() {
        let scratch = TempFolder::new(&Environment::from_process().unwrap(), "store").unwrap();
        let store = scratch.path().join("store");
        let program = scratch.path().join("program");
        let disk = Disk::real();
        disk.create_file(&program, b"program", CreateMode::Plain).unwrap();
        // Folders of somebody who has named one of theirs, some of them with names like ours.
        let like_ours = format!("{}-{}", "a".repeat(32), "b".repeat(16));
        let theirs = ["documents", ".new-things", ".new-", "1234-5678", like_ours.as_str()];
        for name in theirs {
            fs::create_dir_all(store.join(name)).unwrap();
            disk.create_file(&store.join(name).join("precious"), b"x", CreateMode::Plain).unwrap();
        }
        // The time of day has no say in it.
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(200 * 365 * 24 * 3600);
        let names: Vec<String> =
            (0..MOST_PROGRAMS + 3).map(|n| format!("{n:032x}-{}", "0".repeat(16))).collect();
        for name in &names {
            keep_program(&disk, later, &store, name, &program).unwrap();
        }
        let left = names.iter().filter(|name| store.join(name).is_dir()).count();
        assert_eq!(left, MOST_PROGRAMS);
        assert!(find_program(&store, names.last().unwrap()).is_some());
        for name in theirs {
            assert!(store.join(name).join("precious").is_file(), "{name}");
        }
        for name in ["", "..", "documents", "../x"] {
            assert!(keep_program(&disk, later, &store, name, &program).is_err(), "{name}");
        }
    }

    #[test]
    fn a_full_disk_at_any_step_leaves_a_whole_program_or_none() {
        let scratch = TempFolder::new(&Environment::from_process().unwrap(), "store").unwrap();
        let program = scratch.path().join("program");
        let disk = Disk::real();
        disk.create_file(&program, b"program", CreateMode::Executable).unwrap();
        for name in COMPANION_PROGRAMS {
            disk.create_file(&program.with_file_name(name), b"alongside", CreateMode::Executable)
                .unwrap();
        }
        let key = format!("{}-{}", "a".repeat(32), "b".repeat(16));
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(200 * 365 * 24 * 3600);
        let mut steps = 0;
        loop {
            // Each store holds a damaged entry of that name, which has to give way.
            let store = scratch.path().join(format!("store-{steps}"));
            fs::create_dir_all(store.join(&key)).unwrap();
            disk.create_file(&store.join(&key).join("xtask"), b"prog", CreateMode::Plain).unwrap();
            let left = std::sync::atomic::AtomicUsize::new(steps);
            let gate = |_| {
                use std::sync::atomic::Ordering::Relaxed;
                match left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
                    Ok(_) => Ok(()),
                    Err(_) => Err(std::io::Error::from(std::io::ErrorKind::StorageFull)),
                }
            };
            let full = Disk::with_gate(&gate);
            let kept = keep_program(&full, later, &store, &key, &program);
            let found = find_program(&store, &key);
            if let Some(found) = &found {
                assert_eq!(fs::read(found).unwrap(), b"program", "step {steps}");
            }
            if kept.is_ok() {
                assert!(found.is_some());
                break;
            }
            // The next call with room left keeps it, whatever the failed one has left behind.
            keep_program(&disk, later, &store, &key, &program).unwrap();
            assert!(find_program(&store, &key).is_some(), "step {steps}");
            steps += 1;
        }
        assert!(steps > 5, "{steps} steps were tried");
    }
}
