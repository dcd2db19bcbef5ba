//! `setup/branches.toml`: the rules of branches.

use super::reader::Faults;
use crate::base::error::Result;

/// The whole file, with defaults where it is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchesConfig {
    /// Branches on which nothing is committed unasked, as globs that `git branch --list` would
    /// read.
    pub protected: Vec<String>,
}

impl Default for BranchesConfig {
    fn default() -> Self {
        BranchesConfig { protected: vec!["main".to_owned()] }
    }
}

impl BranchesConfig {
    /// Reads the text of the file; `source` names where it came from.
    pub fn parse(source: &str, text: &str) -> Result<BranchesConfig> {
        Faults::collect(source, text, |file| {
            let protected = file.texts("protected");
            protected.map_or_else(BranchesConfig::default, |protected| BranchesConfig { protected })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_is_protected_unless_the_file_says_otherwise() {
        assert_eq!(BranchesConfig::parse("f", "").unwrap().protected, ["main"]);
        let two = BranchesConfig::parse("f", "protected = ['trunk', 'release/*']").unwrap();
        assert_eq!(two.protected, ["trunk", "release/*"]);
        assert!(BranchesConfig::parse("f", "protected = []").unwrap().protected.is_empty());
    }

    #[test]
    fn unknown_keys_are_faults() {
        let error = BranchesConfig::parse("setup/branches.toml", "protect = []").unwrap_err();
        assert_eq!(
            error.details(),
            ["setup/branches.toml:1: unknown key `protect`; did you mean `protected`?"]
        );
    }
}
