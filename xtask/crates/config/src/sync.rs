//! `setup/sync.toml`: which branch is canonical, which paths are managed, what hooks may do.

use super::reader::{Faults, Reader};
use super::words::branch_name;
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
const DEFAULT_BACKED_UP: [&str; 2] = [".env", ".env.*"];

/// What a hook may do on a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Commit the canonical state.
    Commit,
    /// Write the files, not the index or the branch.
    Worktree,
    /// Say one line and write nothing.
    Notify,
}

const MODES: [(&str, Mode); 3] =
    [("commit", Mode::Commit), ("worktree", Mode::Worktree), ("notify", Mode::Notify)];

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
pub struct Identity {
    /// The name.
    pub name: String,
    /// The address, without the angle brackets.
    pub email: String,
}

/// An exception for branches whose name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchException {
    /// A glob over branch names, as `git branch --list` reads it: `*` also matches `/`.
    pub matches: String,
    /// Patterns of managed paths that these branches keep for themselves.
    pub exclude: Vec<String>,
    /// What hooks may do there, if it differs.
    pub mode: Option<Mode>,
}

/// The whole file, with defaults where it is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// The canonical branch, without `refs/heads/`.
    pub branch: String,
    /// The remote whose copy of the canonical branch counts, too.
    pub remote: String,
    /// Whether the file names that remote.
    pub names_remote: bool,
    /// The branch on which changes for the canonical branch are collected.
    pub changes: String,
    /// Managed paths, in `.gitignore` syntax from the root.
    pub include: Vec<String>,
    /// Exceptions from `include`, in the same syntax.
    pub exclude: Vec<String>,
    /// What hooks do on branches that are the user's own.
    pub mode: Mode,
    /// What hooks do on protected branches and other people's.
    pub shared: Mode,
    /// Paths whose staged content `pre-commit` does not look into, in the same syntax.
    pub unchecked: Vec<String>,
    /// What runs at the remote, where its address does not tell.
    pub forge: Option<Forge>,
    /// Who signs sync commits.
    pub identity: Identity,
    /// Files that git does not have and a backup copies, in the same syntax: they may be secrets.
    pub backed_up: Vec<String>,
    /// Exceptions by branch name; the first match wins.
    pub branches: Vec<BranchException>,
}

impl Default for SyncConfig {
    fn default() -> Self {
        SyncConfig {
            branch: "orchestration-tools".to_owned(),
            remote: "origin".to_owned(),
            names_remote: false,
            changes: "orchestration-tools-changes".to_owned(),
            include: DEFAULT_INCLUDE.map(str::to_owned).to_vec(),
            exclude: Vec::new(),
            mode: Mode::Commit,
            shared: Mode::Notify,
            unchecked: Vec::new(),
            forge: None,
            identity: Identity {
                name: "xtask sync".to_owned(),
                email: "xtask-sync@users.noreply.invalid".to_owned(),
            },
            backed_up: DEFAULT_BACKED_UP.map(str::to_owned).to_vec(),
            branches: Vec::new(),
        }
    }
}

impl SyncConfig {
    /// Reads the text of the file; `source` names where it came from.
    pub fn parse(source: &str, text: &str) -> Result<SyncConfig> {
        Faults::collect(source, text, |file| {
            let mut config = SyncConfig::default();
            file.table("canonical", |table| {
                set(&mut config.branch, branch_name(table, "branch"));
                let remote = branch_name(table, "remote");
                config.names_remote = remote.is_some();
                set(&mut config.remote, remote);
                set(&mut config.changes, branch_name(table, "changes"));
                config.forge = table.word("forge", &FORGES);
                if config.changes == config.branch {
                    table.fault("changes", "`canonical.changes` must not be the canonical branch");
                }
            });
            file.table("managed", |table| {
                set(&mut config.include, patterns(table, "include"));
                set(&mut config.exclude, patterns(table, "exclude"));
                if config.include.is_empty() {
                    table.fault("include", "`managed.include` names no path at all");
                }
            });
            file.table("hooks", |table| {
                set(&mut config.mode, table.word("mode", &MODES));
                set(&mut config.shared, table.word("shared", &MODES));
                set(&mut config.unchecked, patterns(table, "unchecked"));
            });
            file.table("commit", |table| set(&mut config.identity, identity(table)));
            file.table("backup", |table| {
                set(&mut config.backed_up, patterns(table, "ignored"));
            });
            config.branches = file.tables("branch", |table| {
                table.required("match");
                BranchException {
                    matches: table.text("match").unwrap_or_default(),
                    exclude: patterns(table, "exclude").unwrap_or_default(),
                    mode: table.word("mode", &MODES),
                }
            });
            config
        })
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn patterns(table: &Reader<'_>, key: &str) -> Option<Vec<String>> {
    let patterns = table.texts(key)?;
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
        table.fault(key, format!("the pattern `{pattern}` {wrong}"));
    }
    Some(patterns)
}

fn identity(table: &Reader<'_>) -> Option<Identity> {
    let text = table.text("identity")?;
    let parsed = text.strip_suffix('>').and_then(|rest| {
        let (name, email) = rest.split_once('<')?;
        let sound = |part: &str| !part.is_empty() && !part.contains(['<', '>', '\n', '\0']);
        let name = name.trim();
        (sound(name) && sound(email))
            .then(|| Identity { name: name.to_owned(), email: email.to_owned() })
    });
    if parsed.is_none() {
        table.fault("identity", format!("`{text}` is not of the form `Name <address>`"));
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
        assert_eq!(config.changes, "tools-changes");
        assert_eq!(config.include, ["/setup/", "!/setup/local/"]);
        assert_eq!(config.exclude, ["*.bak"]);
        assert_eq!((config.mode, config.shared), (Mode::Worktree, Mode::Commit));
        assert_eq!(config.unchecked, ["/tests/broken/"]);
        assert_eq!(config.forge, Some(Forge::GitLab));
        assert_eq!(config.identity.email, "robot@example.invalid");
        assert_eq!(config.backed_up, ["/config/secrets/"]);
        assert_eq!(config.branches[0].matches, "legacy/*");
        assert_eq!(config.branches[0].mode, Some(Mode::Notify));
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
        let text = format!("{}\n{}\n", error.what(), error.details().join("\n"));
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
