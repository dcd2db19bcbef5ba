//! The required versions of programs, as semver ranges for `tool` checks *(pure)*.
//!
//! Sources are `requires-python`, `engines`, `rust-version`, `go.mod`, `.tool-versions` and `mise.toml`. For
//! example:
//!
//! ```text
//! requires-python = "~=3.9.1" -> "python3": ">=3.9.1, <3.10"
//! ```

use std::collections::BTreeMap;

use semver::VersionReq;
use serde_json::Value;

use super::python::{PythonPackageManager, PythonProject};
use super::tree::{FileTree, find_value};

/// The oldest Go that downloads a newer toolchain if a module requires it (Go 1.21 release notes, "Tools").
const TOOLCHAIN_GO: (u64, u64) = (1, 21);

/// Returns the version range of each program, by its name in checks.
pub(super) fn detect_versions(
    tree: &FileTree<'_>,
    python: Option<&PythonProject>,
) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    let mut add = |tool: &'static str, range: Option<String>| {
        if let Some(range) = range.filter(|range| VersionReq::parse(range).is_ok()) {
            found.entry(tool).or_insert(range);
        }
    };
    // uv and poetry choose the Python themselves.
    if python.is_some_and(|python| python.manager == PythonPackageManager::Pip) {
        let required = tree.read_toml("pyproject.toml", |file| {
            find_value(file, &["project", "requires-python"])?.as_str().map(parse_python_specifier)
        });
        add("python3", required.flatten().flatten());
    }
    if let Some(file) = tree.read_json("package.json") {
        for tool in ["node", "npm", "pnpm", "yarn"] {
            let range = file.get("engines").and_then(|engines| engines.get(tool));
            add(tool, range.and_then(Value::as_str).and_then(parse_npm_range));
        }
    }
    let rust = tree.read_toml("Cargo.toml", |file| {
        let of = |path: &[&str]| {
            find_value(file, path).and_then(|version| version.as_str()).map(to_minimum_range)
        };
        of(&["package", "rust-version"]).or_else(|| of(&["workspace", "package", "rust-version"]))
    });
    add("cargo", rust.flatten());
    let go = tree.read_text("go.mod").unwrap_or_default();
    let line = go.lines().find_map(|line| line.strip_prefix("go "));
    add(
        "go",
        line.and_then(|version| {
            let (major, minor) = parse_major_minor(version.trim())?;
            let (major, minor) = (major, minor).min(TOOLCHAIN_GO);
            Some(format!(">={major}.{minor}"))
        }),
    );
    for (tool, version) in read_pinned_versions(tree) {
        let tool = match tool.as_str() {
            "nodejs" | "node" => "node",
            "python" => "python3",
            "golang" | "go" => "go",
            "rust" => "cargo",
            "pnpm" => "pnpm",
            "yarn" => "yarn",
            _ => continue,
        };
        let is_kept_elsewhere = tool == "python3"
            && python.is_some_and(|python| python.manager != PythonPackageManager::Pip);
        if !is_kept_elsewhere {
            add(
                tool,
                parse_major_minor(&version).map(|(major, minor)| format!(">={major}.{minor}")),
            );
        }
    }
    found
}

/// Reads the versions pinned in `.tool-versions` (asdf) and `mise.toml`. Callers ignore patch levels.
fn read_pinned_versions(tree: &FileTree<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in tree.read_text(".tool-versions").unwrap_or_default().lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if let (Some(tool), Some(version)) = (words.next(), words.next()) {
            found.push((tool.to_owned(), version.to_owned()));
        }
    }
    for file in ["mise.toml", ".mise.toml"] {
        let tools = tree.read_toml(file, |file| {
            let tools = super::tree::find_table(file, &["tools"]);
            let entries = tools.into_iter().flat_map(|tools| tools.iter());
            let texts = entries.filter_map(|(tool, version)| {
                Some((tool.get_ref().to_string(), version.get_ref().as_str()?.to_owned()))
            });
            texts.collect::<Vec<_>>()
        });
        found.extend(tools.into_iter().flatten());
    }
    found
}

fn to_minimum_range(version: &str) -> String {
    format!(">={version}")
}

/// Returns the first two numbers of a version; a missing second number counts as 0.
fn parse_major_minor(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next().map_or(Some(0), |minor| {
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    Some((major, minor?))
}

/// Converts a Python version specifier (PEP 440). Returns `None` if a semver range cannot express it.
fn parse_python_specifier(specifier: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in specifier.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let version = |operator: &str| part.strip_prefix(operator).map(str::trim);
        let plain = |version: &str| version.trim_end_matches(".*").to_owned();
        if let Some(found) = version("~=") {
            let mut numbers: Vec<u64> =
                found.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
            numbers.pop();
            *numbers.last_mut()? += 1;
            let next: Vec<String> = numbers.iter().map(u64::to_string).collect();
            parts.extend([format!(">={found}"), format!("<{}", next.join("."))]);
        } else if version("!=").is_some() {
            // An excluded version is no bound.
        } else if let Some(found) = version("===").or_else(|| version("==")) {
            parts.push(format!("={}", plain(found)));
        } else if let Some(operator) =
            [">=", "<=", ">", "<"].into_iter().find(|one| part.starts_with(one))
        {
            parts.push(format!("{operator}{}", plain(version(operator)?)));
        } else {
            return None;
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Converts an npm range. Of alternatives (`||`) the lowest bound counts.
fn parse_npm_range(range: &str) -> Option<String> {
    let range = range.trim();
    if range.is_empty() || range == "*" || range == "latest" {
        return None;
    }
    if range.contains("||") {
        let lowest = range.split("||").filter_map(|one| {
            parse_major_minor(one.trim().trim_start_matches(['>', '=', '^', '~', ' ']))
        });
        return lowest.min().map(|(major, minor)| format!(">={major}.{minor}"));
    }
    if let Some((low, high)) = range.split_once(" - ") {
        return Some(format!(">={}, <={}", low.trim(), high.trim()));
    }
    // `>= 18` is joined to `>=18`, and a bare version gets `=`.
    let joined = [">=", "<=", ">", "<", "^", "~"]
        .iter()
        .fold(range.to_owned(), |text, operator| text.replace(&format!("{operator} "), operator));
    let parts = joined.split_whitespace().map(|part| {
        let part = part.trim_end_matches(".x").trim_end_matches(".X").trim_end_matches(".*");
        match part.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!("={part}"),
            false => part.to_owned(),
        }
    });
    Some(parts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_each_kind_are_understood() {
        for (text, wanted) in [
            (">=3.9", Some(">=3.9")),
            (">=3.8,<4.0", Some(">=3.8, <4.0")),
            ("~=3.9", Some(">=3.9, <4")),
            ("~=3.9.1", Some(">=3.9.1, <3.10")),
            ("==3.11.*", Some("=3.11")),
            (">=3.7, !=3.7.1", Some(">=3.7")),
            ("!=3.0", None),
            ("3.9", None),
        ] {
            assert_eq!(parse_python_specifier(text).as_deref(), wanted, "{text}");
        }
        for (text, wanted) in [
            (">=18", Some(">=18")),
            (">= 18.0.0 <21", Some(">=18.0.0, <21")),
            ("^18.12.0 || >=20", Some(">=18.12")),
            ("18.x", Some("=18")),
            ("14 - 20", Some(">=14, <=20")),
            ("*", None),
        ] {
            assert_eq!(parse_npm_range(text).as_deref(), wanted, "{text}");
        }
    }
}
