//! Managed paths: the patterns of `[managed]` in `setup/sync.toml`, and branch exceptions to them.
//! For example, `include = ["/setup/"]` manages `setup/a`, and an exception with `exclude =
//! ["/setup/local"]` leaves that path to the branch. The pins of branches are never managed, whatever
//! the patterns say: they belong to their branches.

use xtask_base::digest::{self, Digest};
use xtask_base::path::RepoPath;
use xtask_config::{BranchException, PINS_FOLDER, SyncConfig};
use xtask_git::{BranchPattern, PathPatterns, PathScope};

/// Managed paths, and the exceptions of one branch.
#[derive(Clone, Debug)]
pub struct ManagedPaths {
    include: PathPatterns,
    exclude: PathPatterns,
    kept_by_branch: PathPatterns,
    rules: Digest,
}

impl ManagedPaths {
    /// Compiles the patterns for `branch`; `None` (a detached HEAD) has no exceptions.
    #[must_use]
    pub fn new(config: &SyncConfig, branch: Option<&str>) -> Self {
        let kept: &[String] = branch
            .and_then(|branch| find_branch_exception(config, branch))
            .map_or(&[], |exception| &exception.exclude);
        let texts = |list: &[String]| list.join("\n");
        ManagedPaths {
            include: PathPatterns::new(config.include.iter().map(String::as_str)),
            exclude: PathPatterns::new(config.exclude.iter().map(String::as_str)),
            kept_by_branch: PathPatterns::new(kept.iter().map(String::as_str)),
            rules: digest::hash_parts([
                texts(&config.include).as_bytes(),
                texts(&config.exclude).as_bytes(),
            ]),
        }
    }

    /// Describes the pattern that decides about `path`, for a message.
    #[must_use]
    pub fn describe_rule(&self, path: &RepoPath, is_folder: bool) -> String {
        let bytes = path.as_bytes();
        if is_of_pins(bytes) {
            return format!("not managed: `{PINS_FOLDER}` holds the pins of branches");
        }
        if let Some(pattern) = self.exclude.deciding_pattern(bytes, is_folder) {
            return format!("not managed: `[managed] exclude` has `{pattern}`");
        }
        match self.include.deciding_pattern(bytes, is_folder) {
            Some(pattern) if pattern.starts_with('!') => {
                format!("not managed: `[managed] include` re-excludes it by `{pattern}`")
            }
            Some(pattern) => format!("managed: `[managed] include` has `{pattern}`"),
            None => "not managed: no pattern of `[managed] include` matches it".to_owned(),
        }
    }

    /// Returns the pattern by which a branch exception excludes `path`.
    #[must_use]
    pub fn exception_pattern(&self, path: &RepoPath) -> Option<&str> {
        self.kept_by_branch.deciding_pattern(path.as_bytes(), false)
    }

    /// Returns whether a branch exception excludes `path`.
    #[must_use]
    pub fn is_kept_by_branch(&self, path: &RepoPath) -> bool {
        self.kept_by_branch.match_with_folders(path.as_bytes(), false) == Some(true)
    }

    /// Returns a digest of the include and exclude patterns, independent of the branch.
    #[must_use]
    pub fn rules_digest(&self) -> Digest {
        self.rules
    }
}

/// Returns the first branch exception that matches `branch`.
#[must_use]
pub fn find_branch_exception<'a>(
    config: &'a SyncConfig,
    branch: &str,
) -> Option<&'a BranchException> {
    config.branch_exceptions.iter().find(|rule| BranchPattern::new(&rule.name_glob).matches(branch))
}

/// Returns whether a path is the folder of pins, or in it, also on a disk that ignores case.
fn is_of_pins(path: &[u8]) -> bool {
    let parts = path.split_at_checked(PINS_FOLDER.len());
    parts.is_some_and(|(folder, rest)| {
        folder.eq_ignore_ascii_case(PINS_FOLDER.as_bytes()) && (rest.is_empty() || rest[0] == b'/')
    })
}

impl PathScope for ManagedPaths {
    fn may_contain(&self, folder: &[u8]) -> bool {
        if is_of_pins(folder) {
            return false;
        }
        let taken = self.include.match_with_folders(folder, true) == Some(true)
            || self.include.may_match_below(folder);
        // A fully excluded folder contains no managed path, unless a `!` pattern re-includes some.
        taken && self.exclude.match_with_folders(folder, true) != Some(true)
    }

    fn contains_folder(&self, folder: &[u8]) -> bool {
        // The root has the pins.
        !folder.is_empty()
            && !is_of_pins(folder)
            && self.include.is_positive_only()
            && self.include.match_with_folders(folder, true) == Some(true)
            && self.exclude.match_with_folders(folder, true).is_none()
            && !self.exclude.may_match_below(folder)
    }

    fn contains_path(&self, path: &[u8]) -> bool {
        !is_of_pins(path)
            && self.include.match_with_folders(path, false) == Some(true)
            && self.exclude.match_with_folders(path, false) != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managed(include: &[&str], exclude: &[&str]) -> ManagedPaths {
        let config = SyncConfig {
            include: include.iter().map(|text| (*text).to_owned()).collect(),
            exclude: exclude.iter().map(|text| (*text).to_owned()).collect(),
            ..SyncConfig::default()
        };
        ManagedPaths::new(&config, None)
    }

    #[test]
    fn a_folder_is_managed_with_all_that_is_below() {
        let managed = managed(&["/setup/", "/justfile"], &["/setup/local/"]);
        assert!(managed.contains_path(b"setup/a/b"));
        assert!(managed.contains_path(b"justfile"));
        assert!(!managed.contains_path(b"setup/local/b"));
        assert!(!managed.contains_path(b"src/setup/a"));
        assert!(managed.may_contain(b"setup"));
        assert!(!managed.may_contain(b"setup/local"));
        assert!(!managed.may_contain(b"src"));
    }

    #[test]
    fn a_folder_is_taken_whole_only_if_nothing_below_can_be_left_out() {
        assert!(managed(&["/setup/"], &["/scripts/x"]).contains_folder(b"setup"));
        assert!(!managed(&["/setup/"], &["/setup/local/"]).contains_folder(b"setup"));
        assert!(managed(&["/setup/"], &["/setup/local/"]).contains_folder(b"setup/other"));
        assert!(!managed(&["/setup/"], &["*.bak"]).contains_folder(b"setup"));
        assert!(!managed(&["/setup/", "!/setup/x"], &[]).contains_folder(b"setup"));
        assert!(!managed(&["/setup/"], &[]).contains_folder(b"src"));
    }

    #[test]
    fn pins_are_never_managed() {
        for include in ["*", "/*", "/.sync-pins/", "**/*.toml", ".sync-pins"] {
            let managed = managed(&[include], &[]);
            for path in
                [&b".sync-pins"[..], b".sync-pins/a.toml", b".sync-pins/x/y", b".Sync-Pins/a"]
            {
                assert!(!managed.contains_path(path), "{include}");
                assert!(!managed.may_contain(path) && !managed.contains_folder(path), "{include}");
                let rule = managed.describe_rule(&RepoPath::new(path), false);
                assert!(rule.starts_with("not managed: `.sync-pins` holds"), "{rule}");
            }
            assert!(!managed.contains_folder(b""), "{include}");
        }
        let managed = managed(&["*"], &[]);
        assert!(managed.contains_path(b".sync-pins2") && managed.contains_path(b"a/.sync-pins/x"));
    }

    #[test]
    fn the_first_exception_that_matches_a_branch_wins() {
        let rule = |matches: &str, path: &str| BranchException {
            name_glob: matches.to_owned(),
            exclude: vec![path.to_owned()],
            mode: None,
        };
        let config = SyncConfig {
            branch_exceptions: vec![rule("legacy/*", "/.flake8"), rule("*", "/launch.py")],
            ..SyncConfig::default()
        };
        let legacy = ManagedPaths::new(&config, Some("legacy/one"));
        assert!(legacy.is_kept_by_branch(&RepoPath::new(".flake8")));
        assert!(!legacy.is_kept_by_branch(&RepoPath::new("launch.py")));
        let other = ManagedPaths::new(&config, Some("feature"));
        assert!(other.is_kept_by_branch(&RepoPath::new("launch.py")));
        let detached = ManagedPaths::new(&config, None);
        assert!(!detached.is_kept_by_branch(&RepoPath::new("launch.py")));
    }
}
