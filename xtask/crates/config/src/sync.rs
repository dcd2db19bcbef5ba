//! Parser for `setup/sync.toml`: the canonical branch, the managed paths, and the permissions of hooks.
//!
//! ```text
//! [canonical]
//! branch = "orchestration-tools"
//! [managed]
//! include = ["/setup/", "/.gitignore"]
//! ```

use super::faults::Faults;
use super::reader::TableReader;
use super::value_syntax::read_branch_name;
use xtask_base::error::Result;

/// The managed paths of a project without `setup/sync.toml`: setup, deployment and scripts, and the build and lint
/// files of a Python and TypeScript project.
const DEFAULT_INCLUDE: [&str; 18] = [
    "/setup/",
    "/deployment/",
    "/scripts/",
    "/.flake8",
    "/.pylintrc",
    "/launch.py",
    "/pyproject.toml",
    "/requirements.txt",
    "/requirements-dev.txt",
    "/uv.lock",
    "/tsconfig.json",
    "/package.json",
    "/tailwind.config.ts",
    "/vite.config.ts",
    "/drizzle.config.ts",
    "/components.json",
    "/.gitignore",
    "/.gitattributes",
];

/// The default of `backup.ignored`: env files.
const DEFAULT_BACKUP_PATTERNS: [&str; 2] = [".env", ".env.*"];

/// The permissions of a hook on a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMode {
    /// Commits the canonical state.
    Commit,
    /// Writes the files, but neither the index nor the branch.
    Worktree,
    /// Prints one line and writes no file.
    Notify,
}

const HOOK_MODES: [(&str, HookMode); 3] =
    [("commit", HookMode::Commit), ("worktree", HookMode::Worktree), ("notify", HookMode::Notify)];

/// The software of a remote, which determines the URLs of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    /// GitHub, or GitHub Enterprise Server.
    GitHub,
    /// GitLab, hosted or self-managed.
    GitLab,
    /// Bitbucket Cloud or Server.
    Bitbucket,
}

const FORGES: [(&str, Forge); 3] =
    [("github", Forge::GitHub), ("gitlab", Forge::GitLab), ("bitbucket", Forge::Bitbucket)];

/// The author of sync commits. A fixed identity makes the commits identical on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitIdentity {
    pub name: String,
    /// The email address, without angle brackets.
    pub email: String,
}

/// An exception for the branches that match `name_glob`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchException {
    /// A glob over branch names, in the syntax of `git branch --list`: `*` also matches `/`.
    pub name_glob: String,
    /// Patterns of managed paths that these branches keep for themselves.
    pub exclude: Vec<String>,
    /// The hook mode for these branches, if it differs.
    pub mode: Option<HookMode>,
}

/// The contents of `setup/sync.toml`; missing keys have their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// The canonical branch, without `refs/heads/`.
    pub branch: String,
    /// The remote whose copy of the canonical branch also counts.
    pub remote: String,
    /// Whether the file sets `remote`.
    pub has_explicit_remote: bool,
    /// The branch that collects changes for the canonical branch.
    pub changes_branch: String,
    /// Managed paths, as `.gitignore` patterns relative to the root.
    pub include: Vec<String>,
    /// Exceptions from `include`, as `.gitignore` patterns.
    pub exclude: Vec<String>,
    /// The hook mode on the user's own branches.
    pub mode: HookMode,
    /// The hook mode on protected branches and other people's branches.
    pub shared_mode: HookMode,
    /// Paths whose staged content `pre-commit` does not check, as `.gitignore` patterns.
    pub unchecked_patterns: Vec<String>,
    /// The software of the remote, if its URL does not show it.
    pub forge: Option<Forge>,
    /// The author of sync commits.
    pub identity: CommitIdentity,
    /// Untracked files that a backup copies, as `.gitignore` patterns. They may be secrets.
    pub backup_patterns: Vec<String>,
    /// Exceptions by branch name; the first match applies.
    pub branch_exceptions: Vec<BranchException>,
}

impl Default for SyncConfig {
    fn default() -> Self {
        SyncConfig {
            branch: "orchestration-tools".to_owned(),
            remote: "origin".to_owned(),
            has_explicit_remote: false,
            changes_branch: "orchestration-tools-changes".to_owned(),
            include: DEFAULT_INCLUDE.map(str::to_owned).to_vec(),
            exclude: Vec::new(),
            mode: HookMode::Commit,
            shared_mode: HookMode::Notify,
            unchecked_patterns: Vec::new(),
            forge: None,
            identity: CommitIdentity {
                name: "xtask sync".to_owned(),
                email: "xtask-sync@users.noreply.invalid".to_owned(),
            },
            backup_patterns: DEFAULT_BACKUP_PATTERNS.map(str::to_owned).to_vec(),
            branch_exceptions: Vec::new(),
        }
    }
}

impl SyncConfig {
    /// Parses `text`. `source` names its origin, e.g. `setup/sync.toml at orchestration-tools`. Returns one usage error
    /// with all faults.
    pub fn parse(source: &str, text: &str) -> Result<SyncConfig> {
        Faults::read_toml(source, text, |file| {
            let mut config = SyncConfig::default();
            file.read_table("canonical", |table| {
                set_if_some(&mut config.branch, read_branch_name(table, "branch"));
                let remote = read_branch_name(table, "remote");
                config.has_explicit_remote = remote.is_some();
                set_if_some(&mut config.remote, remote);
                set_if_some(&mut config.changes_branch, read_branch_name(table, "changes"));
                config.forge = table.read_choice("forge", &FORGES);
                if config.changes_branch == config.branch {
                    table.add_fault(
                        "changes",
                        "`canonical.changes` must not be the canonical branch",
                    );
                }
            });
            file.read_table("managed", |table| {
                set_if_some(&mut config.include, read_patterns(table, "include"));
                set_if_some(&mut config.exclude, read_patterns(table, "exclude"));
                if config.include.is_empty() {
                    table.add_fault(
                        "include",
                        "`managed.include` must contain at least one pattern",
                    );
                }
            });
            file.read_table("hooks", |table| {
                set_if_some(&mut config.mode, table.read_choice("mode", &HOOK_MODES));
                set_if_some(&mut config.shared_mode, table.read_choice("shared", &HOOK_MODES));
                set_if_some(&mut config.unchecked_patterns, read_patterns(table, "unchecked"));
            });
            file.read_table("commit", |table| {
                set_if_some(&mut config.identity, read_identity(table))
            });
            file.read_table("backup", |table| {
                set_if_some(&mut config.backup_patterns, read_patterns(table, "ignored"));
            });
            config.branch_exceptions = file.read_tables("branch", |table| {
                table.require_key("match");
                BranchException {
                    name_glob: table.read_text("match").unwrap_or_default(),
                    exclude: read_patterns(table, "exclude").unwrap_or_default(),
                    mode: table.read_choice("mode", &HOOK_MODES),
                }
            });
            config
        })
    }
}

fn set_if_some<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn read_patterns(table: &TableReader<'_>, key: &str) -> Option<Vec<String>> {
    let patterns = table.read_texts(key)?;
    for pattern in &patterns {
        let wrong = if pattern.starts_with('#') {
            "is a comment in this syntax; write `\\#` for the character"
        } else if pattern.trim() != pattern || pattern.contains('\n') {
            "has leading or trailing white space, or a line break"
        } else if pattern.trim_matches(['/', '!']).is_empty() {
            "matches no path"
        } else if pattern.split('/').any(|part| part == "..") {
            "points outside the repository"
        } else {
            continue;
        };
        table.add_fault(key, format!("the pattern `{pattern}` {wrong}"));
    }
    Some(patterns)
}

fn read_identity(table: &TableReader<'_>) -> Option<CommitIdentity> {
    let text = table.read_text("identity")?;
    let parsed = text.strip_suffix('>').and_then(|rest| {
        let (name, email) = rest.split_once('<')?;
        let sound = |part: &str| !part.is_empty() && !part.contains(['<', '>', '\n', '\0']);
        let name = name.trim();
        (sound(name) && sound(email))
            .then(|| CommitIdentity { name: name.to_owned(), email: email.to_owned() })
    });
    if parsed.is_none() {
        table.add_fault("identity", format!("invalid identity `{text}`: expected `Name <email>`"));
    }
    parsed
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(SyncConfig::parse("setup/sync.toml", "").unwrap(), SyncConfig::default());
    }

    #[test]
    fn every_key_is_read() {
        let config = SyncConfig::parse(
            "setup/sync.toml",
            r#"
            [canonical]
            branch = "tools"
            remote = "upstream"
            changes = "tools-changes"
            forge = "gitlab"
            [managed]
            include = ["/setup/", "!/setup/local/"]
            exclude = ["*.bak"]
            [hooks]
            mode = "worktree"
            shared = "commit"
            unchecked = ["/tests/broken/"]
            [commit]
            identity = "Robot <robot@example.invalid>"
            [backup]
            ignored = ["/config/secrets/"]
            [[branch]]
            match = "legacy/*"
            exclude = ["/.flake8"]
            mode = "notify"
            "#,
        )
        .unwrap();
        assert_eq!(config.branch, "tools");
        assert_eq!(config.remote, "upstream");
        assert_eq!(config.changes_branch, "tools-changes");
        assert_eq!(config.include, ["/setup/", "!/setup/local/"]);
        assert_eq!(config.exclude, ["*.bak"]);
        assert_eq!((config.mode, config.shared_mode), (HookMode::Worktree, HookMode::Commit));
        assert_eq!(config.unchecked_patterns, ["/tests/broken/"]);
        assert_eq!(config.forge, Some(Forge::GitLab));
        assert_eq!(config.identity.email, "robot@example.invalid");
        assert_eq!(config.backup_patterns, ["/config/secrets/"]);
        assert_eq!(config.branch_exceptions[0].name_glob, "legacy/*");
        assert_eq!(config.branch_exceptions[0].mode, Some(HookMode::Notify));
    }

    #[test]
    fn all_faults_are_reported_at_once_with_line_and_nearest_key() {
        let error = SyncConfig::parse(
            "setup/sync.toml at orchestration-tools",
            r##"
[canonical]
brnch = "x"
remote = 7
changes = "-force"
[managed]
include = ["", "#no", "../up", 3]
[hook]
mode = "commit"
[hooks]
mode = "comit"
[commit]
identity = "nobody"
[[branch]]
exclude = ["/"]
"##,
        )
        .unwrap_err();
        let text = format!("{}\n{}\n", error.message(), error.details().join("\n"));
        expect![[r#"
            12 faults in setup/sync.toml at orchestration-tools
            setup/sync.toml:3: unknown key `canonical.brnch`; did you mean `branch`?
            setup/sync.toml:4: `canonical.remote` must be a string, not integer
            setup/sync.toml:5: `-force` is not a name that git accepts
            setup/sync.toml:7: the pattern `#no` is a comment in this syntax; write `\#` for the character
            setup/sync.toml:7: the pattern `../up` points outside the repository
            setup/sync.toml:7: `managed.include` holds an empty string
            setup/sync.toml:7: `managed.include` must be a list of strings, not integer
            setup/sync.toml:8: unknown key `hook`; did you mean `hooks`?
            setup/sync.toml:11: `hooks.mode` is `comit`; it must be one of commit, worktree, notify; did you mean `commit`?
            setup/sync.toml:13: invalid identity `nobody`: expected `Name <email>`
            setup/sync.toml:14: `branch.match` is missing
            setup/sync.toml:15: the pattern `/` matches no path
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn broken_toml_is_reported_with_its_line() {
        let error = SyncConfig::parse("setup/sync.toml", "[canonical]\nbranch = \n").unwrap_err();
        assert!(error.details()[0].starts_with("setup/sync.toml:2: "), "{:?}", error.details());
    }
}
