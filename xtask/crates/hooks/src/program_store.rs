//! The store of built programs in the home folder of cargo, keyed by the digest of their sources.
//!
//! The launcher runs a stored program without cargo, and makes each newly built program store itself. An entry gets
//! its final name only when complete; the launcher rebuilds an entry whose program has a different size. The store is
//! private to the user, because anyone who can write to it could also change the launcher.
//!
//! ```text
//! ~/.cargo/xtask-store/<32 hex digits: sources>-<16 hex digits: builder>/xtask
//! ~/.cargo/xtask-store/<key>/size                  "1234567 <digest>"
//! ```

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

/// The command with which the launcher makes a program store itself: `keep-program STORE KEY`.
pub const KEEP_COMMAND: &str = "keep-program";

/// The variable with the key under which the launcher found or built the running program.
pub use xtask_base::process::KEY_VAR;

/// The digest of the sources of the running program, if the launcher built it.
pub const SOURCES: Option<&str> = option_env!("XTASK_SOURCES");

/// The maximum number of programs: more than the versions of the toolkit that are in use at a time.
const MOST_PROGRAMS: usize = 12;

/// The minimum age of a surplus program before it is removed: one day.
const MIN_AGE: Duration = Duration::from_secs(24 * 3600);

/// The minimum age of an unfinished entry before it is removed: one hour.
const UNFINISHED_AGE: Duration = Duration::from_secs(3600);

/// The file of an entry with the size and the digest of its program.
const SIZE: &str = "size";

/// The file name prefixes of crates that each checkout builds anew.
const OWN_CRATES: [&str; 6] =
    ["xtask-", "xtask_", "it-", "costs-", "schemas-", "build_script_build-"];

/// Programs that are built together with `xtask` and stored next to it.
const COMPANION_PROGRAMS: [&str; 1] = ["xtask-supervisor"];

/// The size above which parts of the shared build folder are removed, in bytes: 1.5 GB. Above twice that size all of it
/// is removed, which only the tests of the toolkit reach.
const LARGEST_BUILD: u64 = 1_500_000_000;

/// Returns the store of this user, or `None` if `XTASK_STORE` is `off`, or no absolute path is known.
#[must_use]
pub fn find_store(world: &Environment) -> Option<PathBuf> {
    match world.variable("XTASK_STORE").filter(|named| !named.is_empty()) {
        Some("off") => None,
        Some(named) => Some(PathBuf::from(named)).filter(|named| named.is_absolute()),
        None => find_cargo_home(world).map(|home| home.join("xtask-store")),
    }
}

/// Returns the time of the clock in `world` as a file time.
#[must_use]
pub fn system_time(world: &Environment) -> SystemTime {
    SystemTime::UNIX_EPOCH + (world.clock)()
}

/// Returns the home folder of cargo.
#[must_use]
pub fn find_cargo_home(world: &Environment) -> Option<PathBuf> {
    let home = world.variable("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(world.variable("HOME")?).join(".cargo")));
    home.filter(|home| home.is_absolute())
}

/// Returns the key under which the launcher stores a program of `sources`, built like the running program.
#[must_use]
pub fn program_key(world: &Environment, sources: &str) -> Option<String> {
    let (_, builder) = world.variable(KEY_VAR)?.split_once('-')?;
    Some(format!("{sources}-{builder}"))
}

/// The digests of the toolkit's sources in a tree, equal to those that the launcher computes for a worktree.
pub struct SourceDigests {
    /// The digest of all sources: the first half of the key.
    pub workspace: String,
    /// The variables that are compiled into the crates and the build script, each with the digest of its sources.
    pub crate_variables: Vec<(String, String)>,
}

/// Computes the digests of the toolkit's sources in `tree`. Returns `None` if a source is not a regular file.
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

/// Returns the crate in `crates/` that contains a file.
fn parse_crate_name(path: &[u8]) -> Option<&[u8]> {
    let rest = path.strip_prefix(b"crates/")?;
    rest.split(|byte| *byte == b'/').next().filter(|name| name.len() < rest.len())
}

/// The files in the key of the launcher: `FILES` and `FOLDERS` in `launcher/key.rs`.
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

/// Returns the program `name` of the store if its digest matches and only this user can have written it.
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

/// Returns whether `path` belongs to this user and nobody else can write to it.
fn is_private(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == own && meta.mode() & 0o022 == 0)
}

/// Stores `program` under the key `name` together with its companions, and removes surplus programs.
pub fn keep_program(
    disk: &Disk<'_>,
    now: SystemTime,
    store: &Path,
    name: &str,
    program: &Path,
) -> Result<()> {
    let failed = || format!("cannot store the program in `{}`", store.display());
    if !is_program_key(OsStr::new(name)) {
        return Err(Error::usage(format!(
            "invalid program key `{name}`: expected 32 and 16 hex digits, joined by `-`"
        )));
    }
    let folder = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(store);
    folder.with_context(failed)?;
    if !is_private(store) {
        return Err(Error::unable(failed()).with_detail("another user owns it or can write to it"));
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
        // Written last: a file that is newer was modified later.
        disk.create_file(&new.join(SIZE), size.as_bytes(), CreateMode::Plain)?;
        // A concurrent build of the same key has stored the same program; a damaged entry is replaced.
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

/// Returns whether `name` is a valid key.
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

/// Removes the least recently used programs and unfinished entries.
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
        // `XTASK_STORE` may name a folder with other files, which must be kept.
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
        // Running a program reads it; with `relatime` the access time is updated once a day.
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

/// Limits the size of the shared build folder: if it is too large and no build is running, artifacts of the toolkit
/// itself that are older than an hour are removed first.
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

/// Returns the disk usage of the files below `folder`, in bytes.
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
