//! Syntax of single values that occur in several configuration files: paths, variable names, service names and
//! branch names.
//!
//! For example, `src/` is a valid inner path, `../src` is not.

use super::reader::TableReader;
use xtask_base::path::RepoPath;

/// The form that [`parse_inner_path`] expects, for fault messages.
pub(super) const INSIDE: &str = "a path inside the repository, from its root";

/// Parses a path relative to the repository root. Returns `None` if the path leads out of the repository.
pub(super) fn parse_inner_path(text: &str) -> Option<RepoPath> {
    let path = text.strip_prefix("./").unwrap_or(text);
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_inside = !path.is_empty()
        && !path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| !["", ".", ".."].contains(&part));
    is_inside.then(|| RepoPath::new(path))
}

/// Returns whether `name` is a valid name of an environment variable.
pub(super) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The form that [`is_valid_name`] expects, for fault messages.
pub(super) const NAME: &str = "`[a-z0-9][a-z0-9_-]{0,39}`";

/// Returns whether `name` is a valid name of a layer or a service. The name becomes part of file names and variables.
pub(super) fn is_valid_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 40
        && name.bytes().next().is_some_and(is_plain)
        && name.bytes().all(|byte| is_plain(byte) || byte == b'-' || byte == b'_')
}

/// Reads a name that can follow `refs/heads/` or `refs/remotes/` and is not an option. Git checks the rest when the
/// ref is looked up.
pub(super) fn read_branch_name(table: &TableReader<'_>, key: &str) -> Option<String> {
    let name = table.read_text(key)?;
    let wrong = name.starts_with(['-', '/'])
        || name.ends_with(['/', '.'])
        || name.contains("..")
        || name.contains(|c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c));
    if wrong {
        table.add_fault(key, format!("`{name}` is not a name that git accepts"));
        return None;
    }
    Some(name)
}
