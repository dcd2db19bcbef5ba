//! The Python project in the root: its package manager, and the tools that are set up *(pure)*.
//!
//! A tool counts only if it is configured *and* installed by default: the check of an optional tool would
//! fail in every fresh clone. For example:
//!
//! ```text
//! uv.lock, [dependency-groups] dev = ["ruff"], [tool.ruff] -> PythonProject { manager: Uv, has_ruff: true, .. }
//! ```

use super::tree::{FileTree, TomlTable, find_table, find_value, list_keys, list_strings};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PythonPackageManager {
    /// `uv`, detected by `uv.lock`.
    Uv,
    /// `poetry`, detected by `poetry.lock` or `[tool.poetry]`.
    Poetry,
    /// `pip`, the default.
    Pip,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonProject {
    pub manager: PythonPackageManager,
    /// Whether there is a `requirements.txt`.
    pub has_requirements: bool,
    pub has_ruff: bool,
    pub has_mypy: bool,
    /// Whether `[tool.mypy]` has `files`, `packages` or `modules`.
    pub has_mypy_files: bool,
    pub has_pytest: bool,
    /// The normalized names of the packages installed by default.
    pub packages: Vec<String>,
}

/// The depth to which dependency groups may include each other.
const MAX_GROUP_DEPTH: usize = 8;

pub(super) fn detect_python(tree: &FileTree<'_>) -> Option<PythonProject> {
    let mut found = tree.read_toml("pyproject.toml", parse_pyproject);
    let is_requirements = |name: &&str| name.starts_with("requirements") && name.ends_with(".txt");
    let requirements: Vec<&str> = tree.root_files().filter(is_requirements).collect();
    let others = ["setup.py", "setup.cfg"].iter().any(|name| tree.has(name));
    if found.is_none() && requirements.is_empty() && !others {
        return None;
    }
    let mut project = found.take().unwrap_or_default();
    let installer = if tree.has("uv.lock") && tree.has("pyproject.toml") {
        PythonPackageManager::Uv
    } else if tree.has("poetry.lock") || project.is_poetry {
        PythonPackageManager::Poetry
    } else {
        PythonPackageManager::Pip
    };
    add_config_files(tree, &mut project);
    if installer == PythonPackageManager::Pip {
        for file in &requirements {
            let text = tree.read_text(file).unwrap_or_default();
            project.packages.extend(text.lines().filter_map(parse_package_name));
        }
    }
    project.packages.sort();
    project.packages.dedup();
    let is_set_up = |tool: &str, is_configured: bool| {
        let is_installed = project.packages.iter().any(|name| name == tool);
        if is_configured && !is_installed {
            tree.add_note(format!(
                "`{tool}` is configured, but not installed by default, so it has no check; if everybody \
                 installs it, add one to `setup/validate.toml`"
            ));
        }
        is_configured && is_installed
    };
    Some(PythonProject {
        manager: installer,
        has_requirements: tree.has("requirements.txt"),
        has_ruff: is_set_up("ruff", project.ruff),
        has_mypy: is_set_up("mypy", project.mypy),
        has_mypy_files: project.mypy_files,
        has_pytest: is_set_up("pytest", project.pytest),
        packages: project.packages,
    })
}

/// Adds the tools that are configured in files of their own.
fn add_config_files(tree: &FileTree<'_>, project: &mut PyprojectToml) {
    let ini = |file: &str, section: &str| {
        let text = tree.read_text(file).unwrap_or_default();
        text.lines().any(|line| line.trim_end() == section)
    };
    project.ruff |= tree.has("ruff.toml") || tree.has(".ruff.toml");
    project.mypy |= tree.has("mypy.ini") || tree.has(".mypy.ini") || ini("setup.cfg", "[mypy]");
    project.pytest |= tree.has("pytest.ini")
        || tree.has(".pytest.ini")
        || tree.has("conftest.py")
        || tree.has("tests/conftest.py")
        || ini("setup.cfg", "[tool:pytest]")
        || ini("tox.ini", "[pytest]");
    // Test files whose pytest is only an optional dependency still get a note.
    let is_test = |path: &str| {
        path.rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with("test_") && name.ends_with(".py"))
    };
    project.pytest |= project.optional.iter().any(|name| name == "pytest")
        && (tree.paths_below("tests/").any(is_test) || tree.paths_below("test/").any(is_test));
}

/// The facts in `pyproject.toml`.
#[derive(Default)]
struct PyprojectToml {
    is_poetry: bool,
    ruff: bool,
    mypy: bool,
    mypy_files: bool,
    pytest: bool,
    /// Packages installed by default.
    packages: Vec<String>,
    /// Packages installed only on request.
    optional: Vec<String>,
}

fn parse_pyproject(file: &TomlTable<'_>) -> PyprojectToml {
    let has = |names: &[&str]| find_value(file, names).is_some();
    let mut project = PyprojectToml {
        is_poetry: has(&["tool", "poetry"]),
        ruff: has(&["tool", "ruff"]),
        mypy: has(&["tool", "mypy"]),
        mypy_files: ["files", "packages", "modules"].iter().any(|key| has(&["tool", "mypy", key])),
        pytest: has(&["tool", "pytest"]),
        ..PyprojectToml::default()
    };
    let mut by_default = list_strings(file, &["project", "dependencies"]);
    by_default.extend(list_strings(file, &["tool", "uv", "dev-dependencies"]));
    let groups = list_keys(file, &["dependency-groups"]);
    let mut default_groups = list_strings(file, &["tool", "uv", "default-groups"]);
    if !has(&["tool", "uv", "default-groups"]) {
        default_groups.push("dev");
    } else if default_groups.is_empty() {
        // `default-groups = "all"` is a string; it selects all groups.
        default_groups = groups.clone();
    }
    for group in &default_groups {
        by_default.extend(list_group_packages(file, group, MAX_GROUP_DEPTH));
    }
    project.packages.extend(by_default.into_iter().filter_map(parse_package_name));
    let poetry = ["tool", "poetry"];
    let mut of_poetry = list_keys(file, &[&poetry[..], &["dependencies"]].concat());
    of_poetry.extend(list_keys(file, &[&poetry[..], &["dev-dependencies"]].concat()));
    for group in list_keys(file, &[&poetry[..], &["group"]].concat()) {
        let path = [&poetry[..], &["group", group]].concat();
        let is_optional = find_table(file, &path)
            .and_then(|table| find_value(table, &["optional"]))
            .and_then(toml::de::DeValue::as_bool)
            .unwrap_or(false);
        if !is_optional {
            of_poetry.extend(list_keys(file, &[&path[..], &["dependencies"]].concat()));
        }
    }
    project.packages.extend(of_poetry.into_iter().filter_map(parse_package_name));
    let mut optional: Vec<&str> = Vec::new();
    for extra in list_keys(file, &["project", "optional-dependencies"]) {
        optional.extend(list_strings(file, &["project", "optional-dependencies", extra]));
    }
    for group in groups {
        optional.extend(list_strings(file, &["dependency-groups", group]));
    }
    project.optional.extend(optional.into_iter().filter_map(parse_package_name));
    project
}

/// Returns the packages of a dependency group, and of the groups that it includes.
fn list_group_packages<'t>(file: &'t TomlTable<'t>, group: &str, deepest: usize) -> Vec<&'t str> {
    let path = ["dependency-groups", group];
    let mut found = list_strings(file, &path);
    let list = find_value(file, &path).and_then(toml::de::DeValue::as_array);
    let included = list
        .into_iter()
        .flat_map(|list| list.iter())
        .filter_map(|item| find_value(item.get_ref().as_table()?, &["include-group"])?.as_str());
    if deepest > 0 {
        for group in included.collect::<Vec<_>>() {
            found.extend(list_group_packages(file, group, deepest - 1));
        }
    }
    found
}

/// Returns the normalized package name of a requirement, e.g. `fastapi` for `FastAPI>=0.1`.
fn parse_package_name(requirement: &str) -> Option<String> {
    let name: String = requirement
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .collect();
    let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
    (name.starts_with(|c: char| c.is_ascii_alphanumeric())).then_some(name)
}
