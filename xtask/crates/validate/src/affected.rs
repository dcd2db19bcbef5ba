//! Which checks of a run are about what has changed, for `--since` *(pure)*.
//!
//! Guarantee: a check is left out only if its `files` and its `inputs` say that nothing it is about has changed, and
//! nothing that it needs. For example:
//!
//! ```text
//! changed: web/a.js  ->  `lint` (files = ["*.js"]) runs, `bundle`, which needs it, too; `ruff` (files = ["*.py"]) not
//! ```

use super::file_scope::ChangedFiles;
use super::plan::{CheckSelection, add_needed_checks, order_by_needs};
use xtask_config::{Check, CheckKind, VALIDATE_FILE, ValidateConfig};

/// Takes all checks out of a selection that the changes do not affect.
pub fn keep_affected(
    config: &ValidateConfig,
    selection: &mut [CheckSelection],
    changed: &ChangedFiles,
) {
    let is_all = changed.touches(&[VALIDATE_FILE.to_owned()]);
    let mut is_affected = vec![false; config.checks.len()];
    for at in order_by_needs(config) {
        let check = &config.checks[at];
        is_affected[at] = is_all
            || is_own_affected(check, changed)
            || check.needs.iter().any(|need| is_affected[*need] && runs(&config.checks[*need]));
    }
    for (at, chosen) in selection.iter_mut().enumerate() {
        if matches!(chosen, CheckSelection::Yes | CheckSelection::For(_)) && !is_affected[at] {
            let reason = format!("nothing that it is about {}", changed.predicate);
            *chosen = CheckSelection::No(reason);
        } else if matches!(chosen, CheckSelection::For(_)) {
            *chosen = CheckSelection::Yes;
        }
    }
    add_needed_checks(config, selection);
}

/// Takes all checks out of a selection that are given no files, for `--files`, except those that the others need.
pub fn keep_given(config: &ValidateConfig, selection: &mut [CheckSelection]) {
    for (check, chosen) in config.checks.iter().zip(selection.iter_mut()) {
        let is_in = matches!(chosen, CheckSelection::Yes | CheckSelection::For(_));
        if is_in && check.files.is_none() {
            *chosen = CheckSelection::No("it has no `files`, and `--files` names some".to_owned());
        }
    }
    add_needed_checks(config, selection);
}

/// Whether a check does more than to look at the environment, so that what it does may have changed.
fn runs(check: &Check) -> bool {
    matches!(check.kind, CheckKind::Run(_) | CheckKind::FileRules { .. })
}

fn is_own_affected(check: &Check, changed: &ChangedFiles) -> bool {
    if !runs(check) || check.files.is_none() && check.inputs.is_empty() {
        return true;
    }
    let is_given = check.files.as_ref().is_some_and(|files| {
        // Only its first line tells a script; a check without files is skipped later.
        !files.interpreters.is_empty() || changed.touches(&files.globs)
    });
    is_given || changed.touches(&check.inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_scope::FileScope;
    use crate::plan::{CheckFilter, RunEnvironment, select_checks};
    use xtask_base::path::RepoPath;
    use xtask_git::ChangedPaths;

    fn affected(paths: &[&str]) -> String {
        let text = "[[check]]\nname = 'node'\ntool = 'node'\n\
            [[check]]\nname = 'build'\nrun = 'x'\ninputs = ['src/**']\n\
            [[check]]\nname = 'tests'\nrun = 'x'\ninputs = ['tests/**']\nneeds = ['build', 'node']\n\
            [[check]]\nname = 'lint'\nrun = 'x {files}'\nfiles = '*.py'\ninputs = ['ruff.toml']\n\
            [[check]]\nname = 'any'\nrun = 'x'\n";
        let config = ValidateConfig::parse("f", text).unwrap();
        let here = RunEnvironment { system: "linux", is_ci: false };
        let mut chosen = select_checks(&config, &CheckFilter::default(), here).unwrap();
        let paths = ChangedPaths {
            removed: paths.iter().map(|path| RepoPath::new(*path)).collect(),
            ..ChangedPaths::default()
        };
        let FileScope::Changed(changed) = FileScope::since("main", paths) else { panic!() };
        keep_affected(&config, &mut chosen, &changed);
        let is_in = |chosen: &CheckSelection| !matches!(chosen, CheckSelection::No(_));
        let names = config.checks.iter().zip(&chosen).filter(|(_, chosen)| is_in(chosen));
        names.map(|(check, _)| check.name.clone()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_check_runs_if_its_files_inputs_or_needs_have_changed() {
        assert_eq!(affected(&["README.md"]), "node any");
        assert_eq!(affected(&["src/a"]), "node build tests any", "what needs it runs, too");
        assert_eq!(affected(&["tests/a"]), "node build tests any", "what it needs comes along");
        assert_eq!(affected(&["a/b.py"]), "node lint any");
        assert_eq!(affected(&["ruff.toml"]), "node lint any");
        assert_eq!(affected(&["setup/validate.toml"]), "node build tests lint any");
    }
}
