//! The `pyproject.toml` edit that keeps the toolkit's folders out of a Python package *(pure)*.
//!
//! Without a `packages` setting, setuptools discovers packages itself, and refuses to build with several
//! top-level folders. The edit pins the present discovery (setuptools, "Package Discovery and Namespace
//! Packages", flat layout):
//!
//! ```text
//! ["app/__init__.py"] -> [tool.setuptools.packages.find] include = ["app", "app.*"]
//! ```

use std::collections::BTreeSet;

use super::detected::ManualEdit;
use super::tree::{FileTree, find_table, find_value};

const PYPROJECT: &str = "pyproject.toml";

/// Folders that setuptools excludes itself (`FlatLayoutPackageFinder.DEFAULT_EXCLUDE`).
const EXCLUDED_FOLDERS: [&str; 29] = [
    "benchmark",
    "benchmarks",
    "bin",
    "build",
    "changelog",
    "ci",
    "debian",
    "doc",
    "docs",
    "documentation",
    "example",
    "examples",
    "exercise",
    "exercises",
    "fabfile",
    "htmlcov",
    "manpages",
    "news",
    "newsfragments",
    "python",
    "scripts",
    "site_scons",
    "tasks",
    "test",
    "tests",
    "tools",
    "util",
    "utils",
    "xtask",
];

/// Modules that setuptools excludes itself (`FlatLayoutModuleFinder.DEFAULT_EXCLUDE`).
const EXCLUDED_MODULES: [&str; 22] = [
    "benchmark",
    "benchmarks",
    "build",
    "conanfile",
    "conftest",
    "dodo",
    "example",
    "examples",
    "exercise",
    "exercises",
    "fabfile",
    "manage",
    "noxfile",
    "pavement",
    "setup",
    "tasks",
    "test",
    "tests",
    "toxfile",
    "SConstruct",
    "Sconstruct",
    "sconstruct",
];

/// Returns the lines for `pyproject.toml`, if necessary.
pub(super) fn suggest_edit(tree: &FileTree<'_>) -> Option<ManualEdit> {
    if tree.has_folder("src")
        || ["setup.py", "setup.cfg"].iter().any(|file| mentions_packages(tree, file))
    {
        return None;
    }
    let is_meant = tree.read_toml(PYPROJECT, |file| {
        let backend =
            find_value(file, &["build-system", "build-backend"]).and_then(|name| name.as_str());
        let table = find_table(file, &["tool", "setuptools"]);
        let says = |key: &str| table.is_some_and(|table| find_value(table, &[key]).is_some());
        let is_project = find_table(file, &["project"]).is_some()
            || tree.has("setup.cfg")
            || tree.has("setup.py");
        is_project
            && backend.is_none_or(|backend| backend.starts_with("setuptools"))
            && !["packages", "py-modules", "ext-modules"].iter().any(|key| says(key))
    });
    let why = "setuptools would treat the toolkit's folders as packages of this project";
    if is_meant != Some(true) {
        let is_old = is_meant.is_none() && tree.has("setup.py") && !tree.has(PYPROJECT);
        if is_old {
            tree.add_note(format!(
                "`setup.py` does not list its packages, and {why}: list them (`packages=[…]`)"
            ));
        }
        return None;
    }
    let packages: BTreeSet<&str> = tree
        .all_paths()
        .filter_map(|path| Some(path.split_once('/')?.0))
        .filter(|folder| is_identifier(folder) && !is_excluded_folder(folder))
        .collect();
    let modules: BTreeSet<&str> = tree
        .root_files()
        .filter_map(|name| name.strip_suffix(".py"))
        .filter(|name| is_identifier(name) && !EXCLUDED_MODULES.contains(name))
        .collect();
    let lines = match (packages.len(), modules.len()) {
        (1, _) => {
            let package = packages.first()?;
            format!(
                "\n[tool.setuptools.packages.find]\ninclude = [\"{package}\", \"{package}.*\"] # not the folders next to it\n"
            )
        }
        (0, 1) => format!(
            "\n[tool.setuptools]\npy-modules = [\"{}\"] # not the folders next to it\n",
            modules.first()?
        ),
        // The project does not build as it is, or has no packages.
        _ => return None,
    };
    let has_table = lines.contains("[tool.setuptools]\n")
        && tree.read_toml(PYPROJECT, |file| find_table(file, &["tool", "setuptools"]).is_some())
            == Some(true);
    Some(ManualEdit {
        path: PYPROJECT.to_owned(),
        why: why.to_owned(),
        lines,
        can_append: !has_table,
    })
}

/// Whether `setup.py` or `setup.cfg` lists the packages.
fn mentions_packages(tree: &FileTree<'_>, file: &str) -> bool {
    let text = tree.read_text(file).unwrap_or_default();
    text.contains("packages") || text.contains("py_modules") || text.contains("py-modules")
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|c| c.is_alphanumeric() || c == '_')
}

/// Names that begin with `_` or `.` are excluded as well, and stubs.
fn is_excluded_folder(folder: &str) -> bool {
    EXCLUDED_FOLDERS.contains(&folder) || folder.starts_with(['_', '.'])
}
