//! `setup/sync.toml`: which branch is canonical, which paths are managed, what hooks may do.

use super::reader::{Faults, TableReader};
use super::value_syntax::read_branch_name;
use xtask_base::error::Result;

/// The managed paths of a project that has no `setup/sync.toml`: set-up, deployment and scripts,
/// and the build and lint files of a Python and TypeScript project.
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

/// What is copied by a backup where nothing is said: files of variables.
const DEFAULT_BACKUP_PATTERNS: [&str; 2] = [".env", ".env.*"];

/// What a hook may do on a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMode {
    /// Commit the canonical state.
    Commit,
    /// Write the files, not the index or the branch.
    Worktree,
    /// Say one line and write nothing.
    Notify,
}

const HOOK_MODES: [(&str, HookMode); 3] =
    [("commit", HookMode::Commit), ("worktree", HookMode::Worktree), ("notify", HookMode::Notify)];

/// What a remote runs, for the addresses of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    /// GitHub, also in a company's own house.
    GitHub,
    /// GitLab, also in a company's own house.
    GitLab,
    /// Bitbucket, in the cloud or as a server.
    Bitbucket,
}

const FORGES: [(&str, Forge); 3] =
    [("github", Forge::GitHub), ("gitlab", Forge::GitLab), ("bitbucket", Forge::Bitbucket)];

/// Who signs sync commits. It is part of what makes them equal on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitIdentity {
    /// The name.
    pub name: String,
    /// The address, without the angle brackets.
    pub email: String,
}

/// An exception for branches whose name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchException {
    /// A glob over branch names, as `git branch --list` reads it: `*` also matches `/`.
    pub name_glob: String,
    /// Patterns of managed paths that these branches keep for themselves.
    pub exclude: Vec<String>,
    /// What hooks may do there, if it differs.
    pub mode: Option<HookMode>,
}

/// The whole file, with defaults where it is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// The canonical branch, without `refs/heads/`.
    pub branch: String,
    /// The remote whose copy of the canonical branch counts, too.
    pub remote: String,
    /// Whether the file names that remote.
    pub has_explicit_remote: bool,
    /// The branch on which changes for the canonical branch are collected.
    pub changes_branch: String,
    /// Managed paths, in `.gitignore` syntax from the root.
    pub include: Vec<String>,
    /// Exceptions from `include`, in the same syntax.
    pub exclude: Vec<String>,
    /// What hooks do on branches that are the user's own.
    pub mode: HookMode,
    /// What hooks do on protected branches and other people's.
    pub shared_mode: HookMode,
    /// Paths whose staged content `pre-commit` does not look into, in the same syntax.
    pub unchecked_patterns: Vec<String>,
    /// What runs at the remote, where its address does not tell.
    pub forge: Option<Forge>,
    /// Who signs sync commits.
    pub identity: CommitIdentity,
    /// Files that git does not have and a backup copies, in the same syntax: they may be secrets.
    pub backup_patterns: Vec<String>,
    /// Exceptions by branch name; the first match wins.
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
    /// Reads the text of the file; `source` names where it came from.
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
                    table.add_fault("include", "`managed.include` names no path at all");
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
            "has white space around it"
        } else if pattern.trim_matches(['/', '!']).is_empty() {
            "names nothing"
        } else if pattern.split('/').any(|part| part == "..") {
            "leads out of the repository"
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
        table.add_fault("identity", format!("`{text}` is not of the form `Name <address>`"));
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
            setup/sync.toml:7: the pattern `../up` leads out of the repository
            setup/sync.toml:7: `managed.include` holds an empty string
            setup/sync.toml:7: `managed.include` must be a list of strings, not integer
            setup/sync.toml:8: unknown key `hook`; did you mean `hooks`?
            setup/sync.toml:11: `hooks.mode` is `comit`; it must be one of commit, worktree, notify; did you mean `commit`?
            setup/sync.toml:13: `nobody` is not of the form `Name <address>`
            setup/sync.toml:14: `branch.match` is missing
            setup/sync.toml:15: the pattern `/` names nothing
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn broken_toml_is_reported_with_its_line() {
        let error = SyncConfig::parse("setup/sync.toml", "[canonical]\nbranch = \n").unwrap_err();
        assert!(error.details()[0].starts_with("setup/sync.toml:2: "), "{:?}", error.details());
    }
}
