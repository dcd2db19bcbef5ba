//! The new paths of files that were moved since earlier versions of the toolkit, so that an upgrade also moves local
//! changes. For example, `xtask/src/repo/mod.rs` became `xtask/crates/git/src/lib.rs`.

/// The files that did not move along with their folder.
const MOVED_FILES: [(&str, &str); 16] = [
    ("xtask/src/vendor/fit.rs", "xtask/crates/detect/src/fit.rs"),
    ("xtask/src/vendor/kinds.rs", "xtask/crates/detect/src/kinds.rs"),
    ("xtask/src/vendor/node.rs", "xtask/crates/detect/src/node.rs"),
    ("xtask/src/vendor/python.rs", "xtask/crates/detect/src/python.rs"),
    ("xtask/src/vendor/services.rs", "xtask/crates/detect/src/services.rs"),
    ("xtask/src/vendor/setuptools.rs", "xtask/crates/detect/src/setuptools.rs"),
    ("xtask/src/vendor/tree.rs", "xtask/crates/detect/src/tree.rs"),
    ("xtask/src/vendor/entries.rs", "xtask/crates/upgrade/src/entries.rs"),
    ("xtask/src/vendor/given.rs", "xtask/crates/upgrade/src/given.rs"),
    ("xtask/src/vendor/insert.rs", "xtask/crates/upgrade/src/insert.rs"),
    ("xtask/src/vendor/manifest.rs", "xtask/crates/upgrade/src/manifest.rs"),
    ("xtask/src/vendor/resolved.rs", "xtask/crates/upgrade/src/resolved.rs"),
    ("xtask/src/vendor/standing.rs", "xtask/crates/upgrade/src/standing.rs"),
    ("xtask/src/vendor/toolkit.rs", "xtask/crates/upgrade/src/toolkit.rs"),
    ("xtask/src/vendor/upgrade.rs", "xtask/crates/upgrade/src/upgrade.rs"),
    ("xtask/src/validate/defaults.rs", "xtask/crates/detect/src/defaults.rs"),
];

/// The folders that were moved, each with its new path. Their `mod.rs` became `lib.rs`.
const MOVED_FOLDERS: [(&str, &str); 15] = [
    ("xtask/src/base/", "xtask/crates/base/src/"),
    ("xtask/src/branches/", "xtask/crates/branches/src/"),
    ("xtask/src/config/", "xtask/crates/config/src/"),
    ("xtask/src/deploy/", "xtask/crates/deploy/src/"),
    ("xtask/src/fleet/", "xtask/crates/propagate/src/"),
    ("xtask/src/hooks/", "xtask/crates/hooks/src/"),
    ("xtask/src/intake/", "xtask/crates/changes/src/"),
    ("xtask/src/recovery/", "xtask/crates/recovery/src/"),
    ("xtask/src/repo/", "xtask/crates/git/src/"),
    ("xtask/src/report/", "xtask/crates/report/src/"),
    ("xtask/src/review/", "xtask/crates/review/src/"),
    ("xtask/src/services/", "xtask/crates/services/src/"),
    ("xtask/src/sync/", "xtask/crates/sync/src/"),
    ("xtask/src/validate/", "xtask/crates/validate/src/"),
    ("xtask/src/vendor/", "xtask/crates/vendoring/src/"),
];

/// The files renamed since the toolkit became a workspace of crates, oldest first: a line for each, with the old
/// and the new path in the folder of the toolkit.
const RENAMED_FILES: &str = include_str!("renames.txt");

/// The folder of the toolkit in the paths of this module.
const TOOLKIT: &str = "xtask/";

/// Returns the present path of a file of an earlier version, or `None` if it was never moved. The file may have been
/// removed since.
#[must_use]
pub(super) fn find_new_path(path: &str) -> Option<String> {
    let mut new = move_to_crate(path).unwrap_or_else(|| path.to_owned());
    for (from, to) in RENAMED_FILES.lines().filter_map(|line| line.split_once(' ')) {
        if new.strip_prefix(TOOLKIT) == Some(from) {
            new = format!("{TOOLKIT}{to}");
        }
    }
    (new != path).then_some(new)
}

/// Returns the path of a file in the workspace of crates, if it had one in the single crate before.
fn move_to_crate(path: &str) -> Option<String> {
    if let Some((_, new)) = MOVED_FILES.iter().find(|(old, _)| *old == path) {
        return Some((*new).to_owned());
    }
    let (rest, new) =
        MOVED_FOLDERS.iter().find_map(|(old, new)| Some((path.strip_prefix(old)?, new)))?;
    Some(format!("{new}{}", if rest == "mod.rs" { "lib.rs" } else { rest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_where_its_folder_lies_today() {
        for (old, new) in [
            ("xtask/src/repo/mod.rs", Some("xtask/crates/git/src/lib.rs")),
            (
                "xtask/src/services/supervisor/mod.rs",
                Some("xtask/crates/services/src/supervisor/mod.rs"),
            ),
            (
                "xtask/src/vendor/starters/justfile",
                Some("xtask/crates/vendoring/src/starters/justfile"),
            ),
            ("xtask/src/vendor/fit.rs", Some("xtask/crates/detect/src/repo_facts.rs")),
            ("xtask/crates/git/src/put.rs", Some("xtask/crates/git/src/checkout_tree.rs")),
            ("xtask/src/cmd/sync.rs", None),
            ("xtask/src/repository.rs", None),
        ] {
            assert_eq!(find_new_path(old).as_deref(), new, "{old}");
        }
    }
}
