//! Results of the detection that several modules share *(pure)*, e.g. `RustProject { package: Some("p"), ..
//! }`.

/// Lines that the user should add to an existing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManualEdit {
    /// The file, relative to the root.
    pub path: String,
    /// The purpose of the lines.
    pub why: String,
    pub lines: String,
    /// Whether the lines work unchanged at the end of the file.
    pub can_append: bool,
}

/// The Rust project in the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RustProject {
    /// The name of the package in the root, if any.
    pub package: Option<String>,
    /// Whether that package has a binary for `cargo run`.
    pub has_program: bool,
    pub is_workspace: bool,
    /// Whether `Cargo.lock` is tracked.
    pub has_lock: bool,
    pub has_clippy: bool,
    /// Whether it depends on one of `SERVER_CRATES`.
    pub is_server: bool,
}
