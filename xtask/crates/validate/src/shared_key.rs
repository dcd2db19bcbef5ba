//! The key of a state that is the same on every machine: the manifest without the place of the checkout and of tools.
//!
//! Guarantee: two states have one shared key only if their manifests differ in places alone: the folder of the checkout
//! and the home folder in values of variables, and the folders of programs. A program counts by its bytes and its
//! version, the machine by its system, architecture, release and C library.
//!
//! ```text
//! tools: [ruff, /home/ann/.local/bin/ruff, sha256 9f86…, "ruff 0.6.9"]  ->  [ruff, 9f86…, "ruff 0.6.9"]
//! VIRTUAL_ENV=/home/ann/app/.venv                                       ->  {root}/.venv
//! ```

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::cache_key::{InputManifest, digest_files};
use xtask_base::digest;
use xtask_base::environment::Environment;

/// The name and version of the rules by which a shared key is made.
const SHARED_SCHEMA: &str = "xtask.validate.shared-key/1";

/// How much of a program is searched for the line that names its interpreter, in bytes.
const SHEBANG_BYTES: u64 = 512;

/// What tells one machine from another, besides its tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineIdentity {
    /// The release, e.g. `debian 12`; empty if the system does not say.
    pub release: String,
    /// The digest of the C library of this process; empty if there is none of its own, as with musl.
    pub libc: String,
}

impl MachineIdentity {
    /// Reads the identity of this machine.
    #[must_use]
    pub fn read() -> MachineIdentity {
        let release = if cfg!(target_os = "macos") {
            let plist = "/System/Library/CoreServices/SystemVersion.plist";
            std::fs::read(plist).map(|text| digest::to_hex(&digest::hash_bytes(&text)))
        } else {
            std::fs::read_to_string("/etc/os-release").map(|text| release_of(&text))
        };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let libc = libc_path(&maps).and_then(|path| std::fs::read(path).ok());
        MachineIdentity {
            release: release.unwrap_or_default(),
            libc: libc.map_or(String::new(), |bytes| digest::to_hex(&digest::hash_bytes(&bytes))),
        }
    }
}

/// Returns the fields `ID` and `VERSION_ID` of `os-release(5)`.
fn release_of(text: &str) -> String {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    format!("{} {}", field("ID"), field("VERSION_ID"))
}

/// Returns the path of the C library that a process has mapped.
fn libc_path(maps: &str) -> Option<&str> {
    let paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let mut paths = paths.filter(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with("libc.so") || name.starts_with("libc-") || name.starts_with("ld-musl")
    });
    paths.next()
}

/// Computes the shared key of a manifest.
///
/// `needs` are the shared keys of the checks that it needs, or the reasons there are none. `root` is the folder in which
/// the check runs. Returns the reason if the state cannot be told without the place.
pub fn shared_key(
    manifest: &InputManifest,
    needs: &[(String, Result<String, String>)],
    world: &Environment,
    root: &Path,
    machine: &MachineIdentity,
) -> Result<String, String> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut put = |part: &[u8]| parts.push(part.to_vec());
    for text in
        [SHARED_SCHEMA, &manifest.toolkit, &manifest.system, &machine.release, &machine.libc]
    {
        put(text.as_bytes());
    }
    let shown_root = escape(root);
    for (name, value) in &manifest.definition {
        put(name.as_bytes());
        match name.as_str() {
            "folder" => put(relative_to(value, &shown_root)?.as_bytes()),
            _ => put(value.as_bytes()),
        }
    }
    put(b"files");
    put(&digest_files(&manifest.files));
    put(&digest_files(&manifest.given));
    for count in [manifest.definition.len(), manifest.env.len(), manifest.tools.len(), needs.len()]
    {
        put(&(count as u64).to_be_bytes());
    }
    for (name, value) in &manifest.env {
        put(b"env");
        put(name.as_bytes());
        match (value, world.variables.get(std::ffi::OsStr::new(name))) {
            (Some(_), Some(value)) => put(without_places(value.as_bytes(), root, world).as_slice()),
            (None, None) => put(b"\0not set"),
            _ => return Err(format!("`{name}` has changed since it was read")),
        }
    }
    for tool in &manifest.tools {
        put(b"tool");
        put(tool.name.rsplit('/').next().unwrap_or_default().as_bytes());
        let (Some(content), Some(real)) = (&tool.content, &tool.real) else {
            return Err(format!("the program `{}` was not found", tool.name));
        };
        let named = tool.found.iter().chain([real]);
        if named.into_iter().any(|path| names_place_of_interpreter(path, root, world)) {
            return Err(format!(
                "the first line of `{}` names a folder of this machine, so its state is another one elsewhere",
                tool.name
            ));
        }
        put(content.as_bytes());
        put(tool.version.as_deref().unwrap_or("\0none").as_bytes());
    }
    for (name, key) in needs {
        put(b"need");
        put(name.as_bytes());
        match key {
            Ok(key) => put(key.as_bytes()),
            Err(why) => return Err(format!("it needs `{name}`: {why}")),
        }
    }
    Ok(digest::to_hex(&digest::hash_parts(parts.iter().map(Vec::as_slice))))
}

fn escape(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

fn relative_to(folder: &str, root: &str) -> Result<String, String> {
    let rest = folder.strip_prefix(root);
    let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
    rest.map(str::to_owned).ok_or_else(|| "it runs in a folder outside of the checkout".to_owned())
}

/// Returns a value with `{root}` and `{home}` in the place of these folders, each with a NUL in front, which no value has.
fn without_places(value: &[u8], root: &Path, world: &Environment) -> Vec<u8> {
    let root = root.as_os_str().as_bytes();
    let home = world.variable("HOME").unwrap_or_default().as_bytes();
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    let is_at = |rest: &[u8], place: &[u8]| {
        let ends = rest.get(place.len()).is_none_or(|next| b"/:;\" ".contains(next));
        place.len() > 1 && rest.starts_with(place) && ends
    };
    while let Some((first, after)) = rest.split_first() {
        if is_at(rest, root) {
            out.extend_from_slice(b"\0{root}");
            rest = &rest[root.len()..];
        } else if is_at(rest, home) {
            out.extend_from_slice(b"\0{home}");
            rest = &rest[home.len()..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// Whether a program is a script whose interpreter lies in the checkout or in the home folder, as those of virtual
/// environments do.
fn names_place_of_interpreter(path: &str, root: &Path, world: &Environment) -> bool {
    use std::io::Read as _;
    let mut start = Vec::new();
    let read =
        std::fs::File::open(path).map(|file| file.take(SHEBANG_BYTES).read_to_end(&mut start));
    if !matches!(read, Ok(Ok(_))) {
        return false;
    }
    let Some(line) = start.strip_prefix(b"#!") else { return false };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    without_places(line, root, world) != line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_key::ManifestTool;

    fn world(variables: &[(&str, &str)]) -> Environment {
        let mut world = Environment::from_process().unwrap();
        world.variables =
            variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        world
    }

    fn manifest(root: &str, tool: &str) -> InputManifest {
        InputManifest {
            toolkit: "0.1.0".to_owned(),
            root: root.to_owned(),
            system: "linux x86_64".to_owned(),
            definition: vec![
                ("name".to_owned(), "lint".to_owned()),
                ("folder".to_owned(), format!("{root}/web")),
            ],
            env: vec![
                ("VIRTUAL_ENV".to_owned(), Some("digest".to_owned())),
                ("CI".to_owned(), None),
            ],
            tools: vec![ManifestTool {
                name: "ruff".to_owned(),
                found: Some(tool.to_owned()),
                real: Some(tool.to_owned()),
                content: Some("9f86".to_owned()),
                version: Some("ruff 0.6.9".to_owned()),
            }],
            ..InputManifest::default()
        }
    }

    const MACHINE: MachineIdentity =
        MachineIdentity { release: String::new(), libc: String::new() };

    fn key(root: &str, tool: &str, home: &str, venv: &str) -> String {
        let world = world(&[("HOME", home), ("VIRTUAL_ENV", venv)]);
        shared_key(&manifest(root, tool), &[], &world, Path::new(root), &MACHINE).unwrap()
    }

    #[test]
    fn places_do_not_count() {
        let one = key("/home/ann/app", "/home/ann/bin/ruff", "/home/ann", "/home/ann/app/.venv");
        let two = key("/srv/ci/1/app", "/usr/bin/ruff", "/root", "/srv/ci/1/app/.venv");
        assert_eq!(one, two);
        // Another environment is another state, and so is a folder whose name only begins alike.
        assert_ne!(one, key("/srv/app", "/usr/bin/ruff", "/root", "/opt/venv"));
        assert_ne!(one, key("/srv/app", "/usr/bin/ruff", "/root", "/srv/app2/.venv"));
        assert_ne!(one, key("/srv/app", "/usr/bin/ruff", "/root", "{root}/.venv"));
    }

    #[test]
    fn all_else_counts() {
        let world = world(&[("HOME", "/root"), ("VIRTUAL_ENV", "/r/.venv")]);
        let first = manifest("/r", "/usr/bin/ruff");
        type Needs<'n> = &'n [(String, Result<String, String>)];
        let key = |manifest: &InputManifest, needs: Needs<'_>, machine: &MachineIdentity| {
            shared_key(manifest, needs, &world, Path::new("/r"), machine).unwrap()
        };
        let one = key(&first, &[], &MACHINE);
        let mut changed: Vec<String> = Vec::new();
        let mut other = first.clone();
        other.tools[0].version = Some("ruff 0.7.0".to_owned());
        changed.push(key(&other, &[], &MACHINE));
        let mut other = first.clone();
        other.tools[0].content = Some("another".to_owned());
        changed.push(key(&other, &[], &MACHINE));
        let mut other = first.clone();
        other.system = "linux aarch64".to_owned();
        changed.push(key(&other, &[], &MACHINE));
        let mut other = first.clone();
        other.definition[0].1 = "other".to_owned();
        changed.push(key(&other, &[], &MACHINE));
        changed.push(key(&first, &[("build".to_owned(), Ok("k".to_owned()))], &MACHINE));
        for (release, libc) in [("debian 12", ""), ("", "glibc")] {
            let machine = MachineIdentity { release: release.to_owned(), libc: libc.to_owned() };
            changed.push(key(&first, &[], &machine));
        }
        changed.push(one);
        let count = changed.len();
        changed.sort();
        changed.dedup();
        assert_eq!(changed.len(), count);
    }

    #[test]
    fn a_state_that_needs_its_place_has_no_shared_key() {
        let world = world(&[("HOME", "/root"), ("VIRTUAL_ENV", "/r/.venv")]);
        let key = |manifest: &InputManifest, needs: &[(String, Result<String, String>)]| {
            shared_key(manifest, needs, &world, Path::new("/r"), &MACHINE)
        };
        let mut missing = manifest("/r", "/usr/bin/ruff");
        missing.tools[0].content = None;
        assert!(key(&missing, &[]).unwrap_err().contains("was not found"));
        let mut outside = manifest("/r", "/usr/bin/ruff");
        for folder in ["/elsewhere", "/r-2/web"] {
            outside.definition[1].1 = folder.to_owned();
            assert!(key(&outside, &[]).is_err(), "{folder}");
        }
        let needs = [("build".to_owned(), Err("it always runs".to_owned()))];
        assert!(key(&manifest("/r", "/usr/bin/ruff"), &needs).unwrap_err().contains("`build`"));
    }

    #[test]
    fn this_machine_has_an_identity() {
        assert_eq!(release_of("NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"), "debian 12");
        let maps =
            "55d0-55d1 r--p 00 00:1 1 /usr/bin/x\n7f00-7f01 r-xp 00 00:1 2 /usr/lib/libc.so.6\n";
        assert_eq!(libc_path(maps), Some("/usr/lib/libc.so.6"));
        assert_eq!(MachineIdentity::read(), MachineIdentity::read());
    }
}
