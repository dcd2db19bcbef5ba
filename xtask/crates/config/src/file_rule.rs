//! The rules for single files that `built-in` names.
//!
//! The names are those of the `pre-commit-hooks` project, which prek has built in as well, so that a configuration
//! can be moved over line by line.
//!
//! ```text
//! built-in = ["check-yaml", "end-of-file-fixer"]  ->  [FileRule::Yaml, FileRule::FinalNewline]
//! ```

/// A rule of the built-in file checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileRule {
    /// Blanks and tabs at the end of lines. In Markdown two blanks are a line break and stay.
    TrailingWhitespace,
    /// A text ends with exactly one newline.
    FinalNewline,
    /// All lines of a text end alike: `\n`, `\r\n` or `\r`.
    LineEndings,
    /// A UTF-8 byte order mark at the beginning.
    ByteOrderMark,
    /// Markers of a conflict (`<<<<<<< ours`).
    MergeConflict,
    /// Two paths that are one where the file system ignores case.
    CaseConflict,
    /// Files above `max-size`.
    LargeFiles,
    /// Private keys of OpenSSL, OpenSSH, PuTTY, PGP and OpenVPN.
    PrivateKeys,
    /// Symlinks that lead nowhere.
    BrokenSymlinks,
    /// An executable text begins with `#!`.
    ExecutablesHaveShebangs,
    /// A text that begins with `#!` is executable.
    ShebangScriptsAreExecutable,
    /// Names that Windows refuses.
    WindowsNames,
    /// JSON that cannot be parsed.
    Json,
    /// TOML that cannot be parsed.
    Toml,
    /// XML that is not well-formed.
    Xml,
    /// YAML that cannot be parsed.
    Yaml,
}

impl FileRule {
    /// All rules, in the order in which they are listed.
    pub const ALL: [FileRule; 16] = [
        FileRule::TrailingWhitespace,
        FileRule::FinalNewline,
        FileRule::LineEndings,
        FileRule::ByteOrderMark,
        FileRule::MergeConflict,
        FileRule::CaseConflict,
        FileRule::LargeFiles,
        FileRule::PrivateKeys,
        FileRule::BrokenSymlinks,
        FileRule::ExecutablesHaveShebangs,
        FileRule::ShebangScriptsAreExecutable,
        FileRule::WindowsNames,
        FileRule::Json,
        FileRule::Toml,
        FileRule::Xml,
        FileRule::Yaml,
    ];

    /// Returns the name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FileRule::TrailingWhitespace => "trailing-whitespace",
            FileRule::FinalNewline => "end-of-file-fixer",
            FileRule::LineEndings => "mixed-line-ending",
            FileRule::ByteOrderMark => "fix-byte-order-marker",
            FileRule::MergeConflict => "check-merge-conflict",
            FileRule::CaseConflict => "check-case-conflict",
            FileRule::LargeFiles => "check-added-large-files",
            FileRule::PrivateKeys => "detect-private-key",
            FileRule::BrokenSymlinks => "check-symlinks",
            FileRule::ExecutablesHaveShebangs => "check-executables-have-shebangs",
            FileRule::ShebangScriptsAreExecutable => "check-shebang-scripts-are-executable",
            FileRule::WindowsNames => "check-illegal-windows-names",
            FileRule::Json => "check-json",
            FileRule::Toml => "check-toml",
            FileRule::Xml => "check-xml",
            FileRule::Yaml => "check-yaml",
        }
    }

    /// Returns the rule of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<FileRule> {
        FileRule::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// Whether what the rule finds can be repaired without asking anybody.
    #[must_use]
    pub fn can_fix(self) -> bool {
        matches!(
            self,
            FileRule::TrailingWhitespace
                | FileRule::FinalNewline
                | FileRule::LineEndings
                | FileRule::ByteOrderMark
        )
    }

    /// Whether the rule looks at the bytes of a file, so that the file has to be read for it.
    #[must_use]
    pub fn reads_content(self) -> bool {
        !matches!(
            self,
            FileRule::CaseConflict
                | FileRule::LargeFiles
                | FileRule::BrokenSymlinks
                | FileRule::WindowsNames
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_that_leads_back_to_it() {
        for rule in FileRule::ALL {
            assert_eq!(FileRule::from_name(rule.name()), Some(rule));
        }
        assert_eq!(FileRule::from_name("ruff"), None);
    }
}
