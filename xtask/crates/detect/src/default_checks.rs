//! The default checks of a repository, in the format of `setup/validate.toml` *(pure)*.
//!
//! Used without such a file, and as the first version of it in vendoring. No check changes files, and checks
//! that run tests need the condition `tests`. Every block depends on `CONDITIONS`, so a tool that is not in
//! use has no check. For example:
//!
//! ```text
//! ["rust", "cargo-lock"] -> [[check]] name = "cargo-lock", run = "cargo metadata --locked --format-version 1"
//! ```

use std::collections::BTreeMap;

use super::check_templates::{BASE_CHECKS, CONDITIONAL_CHECKS};
use super::node_commands::PACKAGE_MANAGERS;

/// The conditions on which checks depend, with their meaning.
pub const CONDITIONS: [(&str, &str); 27] = [
    ("canonical", "it has a canonical branch, or will have one"),
    ("tests", "checks that run tests are included"),
    ("rust", "the root has a Cargo package or workspace other than the toolkit's"),
    ("cargo-lock", "`Cargo.lock` is tracked"),
    ("python", "it is a Python project"),
    ("uv", "uv manages its packages"),
    ("poetry", "poetry manages its packages"),
    ("requirements", "it has a requirements.txt"),
    ("ruff", "ruff is configured and installed by default"),
    ("mypy", "mypy is configured and installed by default"),
    ("mypy-files", "`[tool.mypy]` lists the files to read"),
    ("pytest", "pytest is configured and installed by default"),
    ("node", "it has a package.json"),
    ("npm", "npm manages its packages (the default)"),
    ("pnpm", "pnpm manages them"),
    ("yarn", "yarn 1 manages them"),
    ("berry", "yarn 2 or later manages them in node_modules"),
    ("plug-n-play", "yarn 2 or later manages them without node_modules"),
    ("bun", "bun manages them"),
    ("node-lock", "it has packages, and their lock file is tracked"),
    ("node-packages", "it has packages"),
    ("typescript", "TypeScript is configured and a dependency"),
    ("lint-script", "it has a script `lint` that changes no files"),
    ("eslint", "eslint is configured and a dependency, and there is no such script"),
    ("test-script", "it has a script `test` that ends without intervention"),
    ("go", "there is a `go.mod` in the root"),
    ("clippy", "clippy is configured"),
];

/// Returns the checks of a repository as TOML. `is` decides whether a condition in `CONDITIONS` holds.
#[must_use]
pub fn render_checks(is: &dyn Fn(&str) -> bool) -> String {
    format!("{BASE_CHECKS}{}", render_conditional_checks(is))
}

/// Like `render_checks`, without `BASE_CHECKS`.
#[must_use]
pub fn render_conditional_checks(is: &dyn Fn(&str) -> bool) -> String {
    let holds = |word: &&str| match word.strip_prefix('!') {
        Some(word) => !is(word),
        None => is(word),
    };
    let more = CONDITIONAL_CHECKS.iter().filter(|(words, _)| words.iter().all(&holds));
    let checks: String = more.map(|(_, checks)| *checks).collect();
    let manager =
        PACKAGE_MANAGERS.iter().find(|manager| is(manager.name)).unwrap_or(&PACKAGE_MANAGERS[0]);
    checks
        .replace("<manager>", manager.program)
        .replace("<get>", manager.install_self)
        .replace("<exec>", manager.exec)
        .replace("<modules>", manager.installed_marker)
        .replace("<install>", manager.install)
        .replace("<lock>", manager.lock)
        .replace("<files>", if is("mypy-files") { "" } else { " ." })
        .replace("<requirements>", if is("requirements") { " -r requirements.txt" } else { "" })
}

/// Adds `version` to the `tool` checks in `text`.
#[must_use]
pub fn with_versions(text: &str, versions: &BTreeMap<&'static str, String>) -> String {
    let mut found = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        found.push_str(line);
        let tool = line.strip_prefix("tool = ").map(|tool| tool.trim().trim_matches(['"', '\'']));
        if let Some(range) = tool.and_then(|tool| versions.get(tool)) {
            found.push_str(&format!("version = \"{range}\"\n"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use xtask_config::{Check, ValidateConfig};

    fn checks(words: &[&str]) -> Vec<Check> {
        let text = render_checks(&|word| words.contains(&word));
        let read = ValidateConfig::parse("default", &text);
        read.unwrap_or_else(|faults| panic!("{text}\n{:?}", faults.details())).checks
    }

    #[test]
    fn every_word_is_known_and_used() {
        let known: BTreeSet<&str> = CONDITIONS.iter().map(|(word, _)| *word).collect();
        let in_table = CONDITIONAL_CHECKS.iter().flat_map(|(words, _)| words.iter().copied());
        let in_table = in_table.map(|word| word.trim_start_matches('!'));
        let managers = PACKAGE_MANAGERS.iter().map(|manager| manager.name);
        let used: BTreeSet<&str> =
            in_table.chain(managers).chain(["mypy-files", "requirements"]).collect();
        assert_eq!(known, used);
        assert_eq!(known.len(), CONDITIONS.len());
    }

    #[test]
    fn every_set_can_be_read() {
        assert_eq!(checks(&[]).len(), 4);
        assert_eq!(checks(&["canonical"]).len(), 5);
        let pythons = [&["python"][..], &["python", "uv"], &["python", "poetry"]];
        let mut seen = BTreeSet::new();
        for python in pythons {
            for manager in PACKAGE_MANAGERS.iter().map(|manager| manager.name) {
                let others = CONDITIONS.iter().map(|(word, _)| *word).filter(|word| {
                    let is_manager = PACKAGE_MANAGERS.iter().any(|manager| manager.name == *word);
                    !is_manager && !["uv", "poetry"].contains(word)
                });
                let all: Vec<&str> =
                    others.chain(python.iter().copied()).chain([manager]).collect();
                // All together, and each of them left out once; whoever has node has a manager.
                for without in
                    CONDITIONS.iter().map(|(word, _)| *word).filter(|word| *word != manager)
                {
                    let some: Vec<&str> =
                        all.iter().copied().filter(|word| *word != without).collect();
                    seen.extend(checks(&some).into_iter().map(|check| check.name));
                }
                let all = checks(&all);
                assert!(all.len() > 17, "{}", all.len());
                assert!(!render_checks(&|_| true).contains("<m"), "every blank is filled");
            }
        }
        for name in ["cargo-test", "pytest", "yarn-test", "poetry", "uv-sync", "eslint", "types"] {
            assert!(seen.contains(name), "{name}");
        }
    }

    #[test]
    fn what_runs_tests_can_be_left_out_and_is_only_there_when_asked_for() {
        let words: Vec<&str> = CONDITIONS.iter().map(|(word, _)| *word).collect();
        let words: Vec<&str> =
            words.into_iter().filter(|word| !["uv", "poetry"].contains(word)).collect();
        let named = |checks: Vec<Check>| -> Vec<String> {
            checks
                .into_iter()
                .filter(|check| check.conditions.runs_tests)
                .map(|check| check.name)
                .collect()
        };
        assert_eq!(named(checks(&words)), ["cargo-test", "pytest", "npm-test", "go-test"]);
        let none: Vec<&str> = words.into_iter().filter(|word| *word != "tests").collect();
        assert!(named(checks(&none)).is_empty());
        assert!(!checks(&none).iter().any(|check| check.name.contains("test")));
    }
}
