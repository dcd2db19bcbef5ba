//! Patterns for paths, as in `.gitignore`, and for branch names, as in `git branch --list`.
//!
//! ```text
//! PathPatterns ["setup/", "!setup/local"]: setup/a -> Some(true), setup/local -> Some(false), src/a -> None
//! ```

use gix::bstr::{BStr, ByteSlice};
use gix::glob::pattern::{Case, Mode};
use gix::glob::{Pattern, wildmatch};

/// Patterns in `.gitignore` syntax, relative to the root of the repository. The last matching
/// pattern decides; `!` negates.
#[derive(Clone, Debug, Default)]
pub struct PathPatterns {
    patterns: Vec<Pattern>,
    texts: Vec<String>,
}

impl PathPatterns {
    /// Parses patterns in the order of a file. Empty ones are ignored.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let parsed = patterns
            .into_iter()
            .filter_map(|text| Some((Pattern::from_bytes(text.as_bytes())?, text.to_owned())));
        let (patterns, texts) = parsed.unzip();
        PathPatterns { patterns, texts }
    }

    /// Matches `path` itself, without its parent folders: `Some(true)` selected, `Some(false)`
    /// negated, `None` no match.
    #[must_use]
    pub fn match_path(&self, path: &[u8], is_folder: bool) -> Option<bool> {
        self.find_last_match(path, is_folder).map(|at| !self.patterns[at].is_negative())
    }

    /// Returns the text of the pattern that decides about `path` or its nearest matching parent
    /// folder.
    #[must_use]
    pub fn deciding_pattern(&self, path: &[u8], is_folder: bool) -> Option<&str> {
        let decider = self.find_last_match(path, is_folder).or_else(|| {
            (0..path.len())
                .rev()
                .filter(|at| path[*at] == b'/')
                .find_map(|at| self.find_last_match(&path[..at], true))
        });
        decider.map(|at| self.texts[at].as_str())
    }

    fn find_last_match(&self, path: &[u8], is_folder: bool) -> Option<usize> {
        let base = path.rfind_byte(b'/').map(|at| at + 1);
        self.patterns.iter().rposition(|pattern| {
            pattern.matches_repo_relative_path(
                path.as_bstr(),
                base,
                Some(is_folder),
                Case::Sensitive,
                wildmatch::Mode::NO_MATCH_SLASH_LITERAL,
            )
        })
    }

    /// Matches `path`, or else its nearest matching parent folder.
    #[must_use]
    pub fn match_with_folders(&self, path: &[u8], is_folder: bool) -> Option<bool> {
        self.match_path(path, is_folder).or_else(|| {
            (0..path.len())
                .rev()
                .filter(|at| path[*at] == b'/')
                .find_map(|at| self.match_path(&path[..at], true))
        })
    }

    /// Returns whether no pattern is negated.
    #[must_use]
    pub fn is_positive_only(&self) -> bool {
        !self.patterns.iter().any(Pattern::is_negative)
    }

    /// Returns whether a path below an unselected folder may be selected; may return `true` too
    /// often, never `false`.
    #[must_use]
    pub fn may_match_below(&self, folder: &[u8]) -> bool {
        self.patterns
            .iter()
            .filter(|pattern| !pattern.is_negative())
            .any(|pattern| pattern_may_match_below(pattern, folder))
    }
}

fn pattern_may_match_below(pattern: &Pattern, folder: &[u8]) -> bool {
    if pattern.mode.contains(Mode::NO_SUB_DIR) && !pattern.mode.contains(Mode::ABSOLUTE) {
        return true;
    }
    let mut parts = pattern.text.split_str("/");
    for part in folder.split_str("/") {
        match parts.next() {
            // A pattern with fewer components than the folder cannot match below it.
            None => return false,
            Some(literal) if !has_wildcard(literal) => {
                if literal != part {
                    return false;
                }
            }
            Some(b"**") => return true,
            Some(glob) => {
                if !glob_matches(glob.as_bstr(), part.as_bstr()) {
                    return false;
                }
            }
        }
    }
    parts.next().is_some()
}

/// The characters that begin a wildcard.
pub(super) const WILDCARDS: &[u8] = b"*?[\\";

pub(super) fn has_wildcard(text: &[u8]) -> bool {
    text.find_byteset(WILDCARDS).is_some()
}

fn glob_matches(pattern: &BStr, value: &BStr) -> bool {
    gix::glob::wildmatch(pattern, value, wildmatch::Mode::empty())
}

/// A glob for branch names; `*` also matches `/`, as in `git branch --list`.
#[derive(Clone, Debug)]
pub struct BranchPattern(String);

impl BranchPattern {
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        BranchPattern(pattern.to_owned())
    }

    /// Returns whether the glob matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        glob_matches(self.0.as_str().into(), name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(pattern: &str, folder: &str) -> bool {
        PathPatterns::new([pattern]).may_match_below(folder.as_bytes())
    }

    #[test]
    fn folders_that_cannot_hold_a_match_are_known() {
        assert!(!below("/setup/", "src"));
        assert!(below("/.cargo/config.toml", ".cargo"));
        assert!(!below("/.cargo/config.toml", ".cargo/registry"));
        assert!(!below("/justfile", "src"));
        assert!(below("Makefile", "src"));
        assert!(below("*.toml", "src/deep"));
        assert!(below("/src/*/ci.toml", "src/app"));
        assert!(!below("/src/*/ci.toml", "lib/app"));
        assert!(below("/src/**/ci.toml", "src/a/b/c"));
    }

    #[test]
    fn the_last_match_decides_and_folders_count() {
        let patterns = PathPatterns::new(["/setup/", "!/setup/local/", "*.bak"]);
        let decide = |path: &str| patterns.match_with_folders(path.as_bytes(), false);
        assert_eq!(decide("setup/launch.py"), Some(true));
        assert_eq!(decide("setup/local/x"), Some(false));
        assert_eq!(decide("src/x"), None);
        assert_eq!(decide("src/x.bak"), Some(true));
        assert_eq!(decide("setup"), None, "the pattern is for a folder");
    }

    #[test]
    fn branch_globs_cross_slashes() {
        assert!(BranchPattern::new("feature/*").matches("feature/a/b"));
        assert!(BranchPattern::new("taskmaster*").matches("taskmaster-v2/x"));
        assert!(!BranchPattern::new("main").matches("main2"));
    }
}
