//! The key of the toolkit's sources, under which the store keeps the program that is compiled from them, e.g.
//! `3f…(32 digits)-9a…(16 digits)`.
//!
//! It has two halves. The first is the SHA-256 of the paths, executable bits and contents of the sources; the program
//! computes the same of a commit. The second is a digest of the compiler and of the variables that change the build.
//! A record of the files' metadata (`Look`) makes computing the key of unchanged files cost only a few milliseconds.

#![cfg_attr(rustfmt, rustfmt_skip)]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use self::sha256::Sha256;

/// The sources, as paths in the folder of the toolkit: these files, and all files below `FOLDERS`.
const FILES: [&str; 4] = [".cargo/config.toml", "Cargo.lock", "Cargo.toml", "build.rs"];
const FOLDERS: [&str; 2] = ["crates", "src"];

/// The variables that change the build, together with those that begin with one of `PREFIXES`.
const VARIABLES: [&str; 8] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "XTASK_TOOLCHAIN",
];
const PREFIXES: [&str; 3] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_"];

/// Variables with one of `PREFIXES` that only set a location, and do not change the build.
const PLACES: [&str; 3] = ["CARGO_BUILD_BUILD_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_TARGET_DIR"];

/// The variable with the first half of the key; its value is compiled into the program.
pub const SOURCES: &str = "XTASK_SOURCES";

/// How old a file must be before an unchanged time proves unchanged content, in nanoseconds: two seconds, the
/// coarsest resolution of file times.
const SETTLED: u128 = 2_000_000_000;

/// The first word of the record; a record with another one is ignored.
const KIND: &str = "xtask.key/1";

#[derive(Clone, PartialEq)]
pub struct Key {
    /// The half for the sources: 32 hexadecimal digits.
    pub sources: String,
    /// The half for the compiler and the variables: 16 hexadecimal digits.
    pub builder: String,
    /// The metadata of all files. A change that was reverted during the build makes a difference here, too.
    looks: String,
}

impl Key {
    /// Returns the name in the store, `SOURCES-BUILDER`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.sources, self.builder)
    }
}

/// The metadata of a file: size, mtime and ctime (seconds, nanoseconds), inode, mode.
type Look = (u64, i64, i64, i64, i64, u64, u32);

/// Returns the key of the toolkit in a folder, or `None` if it cannot be computed. `record` is the file that caches
/// it.
pub fn of(toolkit: &Path, record: &Path) -> Option<Key> {
    let builder = builder()?;
    let seen = look(toolkit).ok()?;
    let lines = in_words(&seen, &builder);
    if let Ok(kept) = fs::read_to_string(record) {
        let mut parts = kept.splitn(2, '\n');
        let first = parts.next().unwrap_or("");
        if parts.next() == Some(lines.as_str()) {
            let mut words = first.split(' ');
            if let (Some(KIND), Some(sources)) = (words.next(), words.next()) {
                return Some(Key { sources: sources.to_owned(), builder, looks: lines });
            }
        }
    }
    let before = now();
    let sources = digest(toolkit, &mut seen.iter()).ok()?;
    // The files changed while they were read.
    if look(toolkit).ok()? != seen {
        return None;
    }
    let newest = seen.values().map(|look| nanos(look.1, look.2).max(nanos(look.3, look.4))).max();
    if newest.map_or(false, |newest| newest + SETTLED < before) {
        let beside = record.with_extension(format!("{}", std::process::id()));
        let text = format!("{} {}\n{}", KIND, sources, lines);
        // If the record cannot be written, the key is computed again next time.
        drop(fs::write(&beside, text).and_then(|()| fs::rename(&beside, record)));
    }
    Some(Key { sources, builder, looks: lines })
}

/// Returns the variables that are compiled into the crates in `crates/` and into the build script, each with the
/// digest of that crate's own sources, e.g. `XTASK_SOURCES_BASE`. So an edit recompiles exactly the crates that it
/// affects, whatever the file times are.
pub fn of_crates(toolkit: &Path) -> io::Result<Vec<(String, String)>> {
    let seen = look(toolkit)?;
    let mut parts: BTreeMap<String, BTreeMap<PathBuf, Look>> = BTreeMap::new();
    for (path, look) in seen {
        let mut steps = path.iter().map(|step| step.to_string_lossy().into_owned());
        let part = match (steps.next(), steps.next(), steps.next()) {
            (Some(ref first), Some(name), Some(_)) if first == "crates" => name.to_uppercase().replace('-', "_"),
            (Some(ref first), None, None) if first == "build.rs" => "BUILD_SCRIPT".to_owned(),
            _ => continue,
        };
        parts.entry(part).or_insert_with(BTreeMap::new).insert(path, look);
    }
    let digests = parts.into_iter().map(|(part, files)| {
        Ok((format!("{}_{}", SOURCES, part), digest(toolkit, &mut files.iter())?))
    });
    digests.collect()
}

fn nanos(seconds: i64, rest: i64) -> u128 {
    let rest = if rest < 0 { 0 } else { rest as u128 };
    let seconds = if seconds < 0 { 0 } else { seconds as u128 };
    seconds * 1_000_000_000 + rest
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos()).unwrap_or(0)
}

/// Returns the metadata of all sources, by path.
fn look(toolkit: &Path) -> io::Result<BTreeMap<PathBuf, Look>> {
    let mut seen = BTreeMap::new();
    for name in FILES.iter() {
        match fs::symlink_metadata(toolkit.join(name)) {
            Ok(meta) => drop(seen.insert(PathBuf::from(name), looks(&meta)?)),
            Err(ref cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(toolkit.join(&folder)) {
            Ok(entries) => entries,
            Err(ref cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(cause),
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            // Skip backup and lock files of editors.
            let name = entry.file_name();
            let name = name.as_bytes();
            if name.starts_with(b".") || name.starts_with(b"#") || name.ends_with(b"~") {
                continue;
            }
            let meta = fs::symlink_metadata(entry.path())?;
            if meta.is_dir() {
                folders.push(path);
            } else {
                seen.insert(path, looks(&meta)?);
            }
        }
    }
    Ok(seen)
}

/// Returns the metadata of a regular file; anything else among the sources is an error, so there is no key.
fn looks(meta: &fs::Metadata) -> io::Result<Look> {
    if !meta.file_type().is_file() {
        return Err(io::Error::new(io::ErrorKind::Other, "not a file"));
    }
    Ok((
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        meta.ino(),
        meta.mode(),
    ))
}

fn in_words(seen: &BTreeMap<PathBuf, Look>, builder: &str) -> String {
    let mut text = format!("{}\n", builder);
    for (path, look) in seen {
        text.push_str(&format!("{:?} {:?}\n", path, look));
    }
    text
}

/// Returns the digest of the files, in the byte order of their paths: for each the path, `x` or `-`, and the content,
/// each preceded by its length.
fn digest(toolkit: &Path, seen: &mut dyn Iterator<Item = (&PathBuf, &Look)>) -> io::Result<String> {
    let mut files: Vec<(&Path, u32)> = seen.map(|(path, look)| (path.as_path(), look.6)).collect();
    files.sort_by(|one, two| one.0.as_os_str().as_bytes().cmp(two.0.as_os_str().as_bytes()));
    let mut hash = Sha256::new();
    for (path, mode) in files {
        let mode: &[u8] = if mode & 0o100 == 0 { b"-" } else { b"x" };
        let content = fs::read(toolkit.join(path))?;
        for part in [path.as_os_str().as_bytes(), mode, content.as_slice()].iter() {
            hash.put(&(part.len() as u64).to_be_bytes());
            hash.put(part);
        }
    }
    Ok(hash.hex(32))
}

/// Returns the digest of the compiler that cargo will use, and of everything else that changes its output.
fn builder() -> Option<String> {
    let mut hash = Sha256::new();
    // With a toolchain of rustup (`XTASK_TOOLCHAIN`) its name suffices, which is among the variables.
    if env::var_os("XTASK_TOOLCHAIN").map_or(true, |name| name.is_empty()) {
        let rustc = compiler()?;
        let meta = fs::metadata(&rustc).ok()?;
        hash.put(rustc.as_os_str().as_bytes());
        hash.put(format!("{} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec()).as_bytes());
    }
    let mut variables: Vec<_> = env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_str().unwrap_or("");
            let counts = VARIABLES.contains(&name) || PREFIXES.iter().any(|p| name.starts_with(p));
            counts && !PLACES.contains(&name)
        })
        .collect();
    variables.sort();
    for (name, value) in variables {
        hash.put(name.as_bytes());
        hash.put(b"=");
        hash.put(value.as_bytes());
        hash.put(b"\n");
    }
    if let Some(home) = cargo_home() {
        for name in ["config.toml", "config"].iter() {
            hash.put(&fs::read(home.join(name)).unwrap_or_default());
            hash.put(b"\n");
        }
    }
    Some(hash.hex(16))
}

/// Returns the compiler: `RUSTC`, or the `rustc` next to the running cargo.
fn compiler() -> Option<PathBuf> {
    let named = env::var_os("RUSTC").map(PathBuf::from).filter(|path| path.is_absolute());
    let cargo = env::var_os("CARGO").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| cargo.map(|cargo| cargo.with_file_name("rustc"))).filter(|path| path.is_file())
}

/// Returns `CARGO_HOME`, or `~/.cargo`.
pub fn cargo_home() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    home.filter(|home| home.is_absolute())
}

/// SHA-256 according to FIPS 180-4, because the launcher has no dependencies.
pub mod sha256 {
    const ROUNDS: [u32; 64] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
        0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
        0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
        0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
        0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
        0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
        0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
        0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2,
    ];

    pub struct Sha256 {
        state: [u32; 8],
        block: [u8; 64],
        held: usize,
        length: u64,
    }

    impl Sha256 {
        pub fn new() -> Sha256 {
            let state = [
                0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                0x5be0cd19,
            ];
            Sha256 { state, block: [0; 64], held: 0, length: 0 }
        }

        pub fn put(&mut self, mut bytes: &[u8]) {
            self.length = self.length.wrapping_add(bytes.len() as u64);
            while !bytes.is_empty() {
                let count = bytes.len().min(64 - self.held);
                let (now, rest) = bytes.split_at(count);
                self.block[self.held..self.held + count].copy_from_slice(now);
                self.held += count;
                bytes = rest;
                if self.held == 64 {
                    self.turn();
                    self.held = 0;
                }
            }
        }

        /// Returns the first `digits` hexadecimal digits of the digest.
        pub fn hex(mut self, digits: usize) -> String {
            let bits = self.length.wrapping_mul(8);
            self.put(&[0x80]);
            while self.held != 56 {
                self.put(&[0]);
            }
            self.put(&bits.to_be_bytes());
            let text: String = self.state.iter().map(|word| format!("{:08x}", word)).collect();
            text[..digits].to_owned()
        }

        fn turn(&mut self) {
            let mut w = [0u32; 64];
            for at in 0..16 {
                let four = &self.block[at * 4..at * 4 + 4];
                w[at] = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
            }
            for at in 16..64 {
                let (x, y) = (w[at - 15], w[at - 2]);
                let first = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
                let second = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
                w[at] = w[at - 16].wrapping_add(first).wrapping_add(w[at - 7]).wrapping_add(second);
            }
            let mut s = self.state;
            for at in 0..64 {
                let sum = s[4].rotate_right(6) ^ s[4].rotate_right(11) ^ s[4].rotate_right(25);
                let chosen = (s[4] & s[5]) ^ (!s[4] & s[6]);
                let one = s[7]
                    .wrapping_add(sum)
                    .wrapping_add(chosen)
                    .wrapping_add(ROUNDS[at])
                    .wrapping_add(w[at]);
                let sum = s[0].rotate_right(2) ^ s[0].rotate_right(13) ^ s[0].rotate_right(22);
                let most = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
                let two = sum.wrapping_add(most);
                s = [
                    one.wrapping_add(two),
                    s[0],
                    s[1],
                    s[2],
                    s[3].wrapping_add(one),
                    s[4],
                    s[5],
                    s[6],
                ];
            }
            for (sum, word) in self.state.iter_mut().zip(s.iter()) {
                *sum = sum.wrapping_add(*word);
            }
        }
    }
}
