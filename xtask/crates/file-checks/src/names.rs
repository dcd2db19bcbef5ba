//! Paths that other systems refuse or take for another one.

use std::collections::{BTreeMap, BTreeSet};

/// The names of devices, which Windows takes in every folder and with every extension ("Naming Files, Paths, and
/// Namespaces" in its documentation).
const DEVICE_NAMES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// The characters that Windows refuses in a name, besides control characters.
const REFUSED_CHARACTERS: &[u8] = b"<>:\"\\|?*";

/// Says why Windows refuses a path; `None` if it takes it.
#[must_use]
pub fn find_unportable_name(path: &[u8]) -> Option<String> {
    path.split(|byte| *byte == b'/').find_map(|part| {
        let shown = String::from_utf8_lossy(part);
        if is_device_name(part) {
            return Some(format!("`{}` is the name of a device on Windows", shown.escape_debug()));
        }
        if let Some(byte) =
            part.iter().find(|byte| **byte < 0x20 || REFUSED_CHARACTERS.contains(byte))
        {
            let byte = char::from(*byte).escape_debug();
            return Some(format!(
                "Windows refuses `{byte}` in the name `{}`",
                shown.escape_debug()
            ));
        }
        matches!(part.last(), Some(b'.' | b' ')).then(|| {
            format!("Windows drops the last character of the name `{}`", shown.escape_debug())
        })
    })
}

fn is_device_name(part: &[u8]) -> bool {
    let stem = part.split(|byte| *byte == b'.').next().unwrap_or(part);
    let Ok(stem) = std::str::from_utf8(stem) else { return false };
    let stem = stem.trim_end().to_ascii_lowercase();
    let is_numbered = ["com", "lpt"].iter().any(|kind| {
        let number = stem.strip_prefix(kind).unwrap_or_default();
        number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit()) && number != "0"
    });
    is_numbered || DEVICE_NAMES.contains(&stem.as_str())
}

/// The paths among `checked` that differ from another path of `all` in nothing but case, each with that other one. A
/// folder counts as a path: `A/x` and `a/y` are in conflict.
#[must_use]
pub fn find_case_conflicts<'a>(
    all: impl IntoIterator<Item = &'a [u8]>,
    checked: &BTreeSet<&[u8]>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let fold = |path: &[u8]| String::from_utf8_lossy(path).to_lowercase();
    let mut spellings: BTreeMap<String, BTreeSet<&'a [u8]>> = BTreeMap::new();
    let paths: Vec<&'a [u8]> = all.into_iter().collect();
    for path in &paths {
        let folders =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        for name in folders.chain([*path]) {
            spellings.entry(fold(name)).or_default().insert(name);
        }
    }
    spellings.retain(|_, names| names.len() > 1);
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| checked.contains(**path)) {
        let folders =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        for name in folders.chain([*path]) {
            let others = spellings.get(&fold(name)).into_iter().flatten();
            if let Some(other) = others.copied().find(|other| *other != name) {
                found.push((path.to_vec(), other.to_vec()));
                break;
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_refuses_are_found_in_every_part() {
        for name in ["aux", "x/NUL.txt", "Com1.tar.gz", "a:b", "x/a. /b", "tab\t", "what?"] {
            assert!(find_unportable_name(name.as_bytes()).is_some(), "{name}");
        }
        for name in
            ["auxiliary", "com", "com10", "com0", "console.rs", "a b/c.d", "ünïcode", ".gitignore"]
        {
            assert_eq!(find_unportable_name(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn paths_conflict_by_case_in_every_part() {
        let all: [&[u8]; 6] = [b"A/x", b"a/y", b"README", b"readme", b"other", b"\xff"];
        let checked: BTreeSet<&[u8]> = [&b"a/y"[..], b"README", b"other"].into();
        let found = find_case_conflicts(all, &checked);
        assert_eq!(
            found,
            [(b"README".to_vec(), b"readme".to_vec()), (b"a/y".to_vec(), b"A".to_vec())]
        );
    }
}
