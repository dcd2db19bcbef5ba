//! What single words of a configuration must look like, whichever file they stand in.

use crate::base::path::RepoPath;

/// What `inside` wants, for faults.
pub(super) const INSIDE: &str = "a path inside the repository, from its root";

/// A path from the root that does not lead out of it.
pub(super) fn inside(text: &str) -> Option<RepoPath> {
    let path = text.strip_prefix("./").unwrap_or(text);
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_inside = !path.is_empty()
        && !path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| !["", ".", ".."].contains(&part));
    is_inside.then(|| RepoPath::new(path))
}

/// Whether this can be the name of a variable.
pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
