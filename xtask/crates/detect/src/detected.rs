//! What a look at a repository finds, as those hand it on who look *(pure)*.

/// Lines that a file should have which is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManualEdit {
    /// The file, from the root.
    pub path: String,
    /// What they are for, and where they belong.
    pub why: String,
    /// The lines.
    pub lines: String,
    /// Whether they do what they should at the end of the file, as they are.
    pub can_append: bool,
}

/// What there is of Rust in the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RustProject {
    /// The package in the root, if there is one.
    pub package: Option<String>,
    /// Whether that package has a program that `cargo run` would run.
    pub has_program: bool,
    /// Whether there is a workspace.
    pub is_workspace: bool,
    /// Whether the lock file is kept.
    pub has_lock: bool,
    /// Whether clippy is configured.
    pub has_clippy: bool,
    /// Whether it depends on a crate that serves.
    pub is_server: bool,
}
