//! Unsafe paths: names that must never be written, e.g. `../x`, `/etc/passwd` or
//! `setup/.GIT/hooks`.

use std::collections::{BTreeMap, BTreeSet};

use gix::bstr::ByteSlice;
use gix::validate::path::component;

use xtask_base::path::RepoPath;

/// Returns the reason why `path` must not be written: it leaves the repository, is absolute, or
/// some file system would treat a component as `.git`.
#[must_use]
pub fn unsafe_path_reason(path: &RepoPath) -> Option<String> {
    let options = component::Options {
        protect_windows: cfg!(windows),
        protect_hfs: true,
        protect_ntfs: true,
    };
    path.components().find_map(|part| {
        let refused = gix::validate::path::component(part.as_bstr(), None, options).err()?;
        Some(match refused {
            component::Error::Empty => "it has an empty component".to_owned(),
            component::Error::Relative => "it has a `.` or `..` component".to_owned(),
            component::Error::DotGitDir => {
                format!("`{}` is a spelling of `.git`", part.to_str_lossy())
            }
            other => other.to_string(),
        })
    })
}

/// Maps each path that collides with another on a case-insensitive file system to that other path.
#[must_use]
pub fn find_case_collisions<'a>(
    paths: impl IntoIterator<Item = &'a RepoPath>,
) -> BTreeMap<&'a RepoPath, &'a RepoPath> {
    let mut folded: BTreeMap<String, BTreeSet<&RepoPath>> = BTreeMap::new();
    for path in paths {
        folded.entry(path.as_bytes().to_str_lossy().to_lowercase()).or_default().insert(path);
    }
    let mut found = BTreeMap::new();
    for same in folded.into_values().filter(|same| same.len() > 1) {
        let names: Vec<&RepoPath> = same.into_iter().collect();
        for (at, name) in names.iter().enumerate() {
            found.insert(*name, names[if at == 0 { 1 } else { 0 }]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_git_folder_is_refused() {
        for name in [
            ".git/config",
            "setup/.git",
            "setup/.GIT/hooks",
            "setup/.git /x",
            "setup/.git./x",
            "setup/git~1/x",
            "setup/.git::$INDEX_ALLOCATION/x",
            "setup/.g\u{200c}it/x",
            "../x",
            "setup/../x",
            "setup/./x",
            "/etc/passwd",
            "setup//x",
        ] {
            assert!(unsafe_path_reason(&RepoPath::new(name)).is_some(), "{name}");
        }
        for name in ["setup/x", ".gitignore", "setup/.github", "a b/c:d", "setup/\u{fc}"] {
            assert!(unsafe_path_reason(&RepoPath::new(name)).is_none(), "{name}");
        }
    }

    #[test]
    fn names_that_differ_in_case_only_collide() {
        let paths = [RepoPath::new("Setup/a"), RepoPath::new("setup/A"), RepoPath::new("setup/b")];
        let found = find_case_collisions(&paths);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&paths[0]], &paths[1]);
        assert_eq!(found[&paths[1]], &paths[0]);
    }
}
