//! Tools that would pack the toolkit's files into a repository's own packages *(pure)*.
//!
//! Those are tools that select files without an explicit list. For example:
//!
//! ```text
//! package.json {"name": "p", "version": "1.0.0"} without "files" and "private" -> Packaging { npm: true, .. }
//! ```

use serde_json::Value;

use super::tree::{FileTree, find_table, find_value, list_keys, list_strings};

/// The tools that would include new files in the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packaging {
    /// `npm pack`: `package.json` has no `files` and is not private (npm, "package.json", "files").
    pub npm: bool,
    /// The sdist of hatchling: no table selects its files (hatch, "Source distribution").
    pub hatch: bool,
    /// The sdist of setuptools, if `MANIFEST.in`, setuptools-scm or `check-manifest` covers the tracked
    /// files.
    pub manifest: bool,
    /// Prettier, which packs no files but checks all of them.
    pub prettier: bool,
}

pub(super) fn detect_packaging(tree: &FileTree<'_>) -> Packaging {
    let mut found = Packaging::default();
    if let Some(file) = tree.read_json("package.json") {
        let is_private = file.get("private").and_then(Value::as_bool).unwrap_or(false);
        let has_name = file.contains_key("name") && file.contains_key("version");
        found.npm = has_name && !is_private && !file.contains_key("files");
        let depends = ["dependencies", "devDependencies"]
            .iter()
            .any(|key| file.get(*key).is_some_and(|packages| packages.get("prettier").is_some()));
        found.prettier = depends || file.contains_key("prettier");
    }
    let is_prettier =
        |name: &str| name.starts_with(".prettierrc") || name.starts_with("prettier.config.");
    found.prettier |= tree.root_files().any(is_prettier);
    let of_python = tree.read_toml("pyproject.toml", |file| {
        let backend =
            find_value(file, &["build-system", "build-backend"]).and_then(|name| name.as_str());
        let requires = list_strings(file, &["build-system", "requires"]);
        let is_scm = requires.iter().any(|one| one.replace('_', "-").starts_with("setuptools-scm"));
        let sdist = find_table(file, &["tool", "hatch", "build", "targets", "sdist"]);
        let is_said = sdist.is_some_and(|table| {
            ["include", "only-include", "packages"]
                .iter()
                .any(|key| find_value(table, &[key]).is_some())
        });
        let is_checked = list_keys(file, &["tool"]).contains(&"check-manifest");
        (
            backend.is_some_and(|name| name.starts_with("hatchling")) && !is_said,
            is_scm || is_checked,
        )
    });
    if let Some((hatch, manifest)) = of_python {
        (found.hatch, found.manifest) = (hatch, manifest);
    }
    found.manifest |= tree.has("MANIFEST.in");
    found
}
