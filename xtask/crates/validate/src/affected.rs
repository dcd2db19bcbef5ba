//! Which checks of a run are about what has changed, for `--since` *(pure)*.
//!
//! Guarantee: a check is left out only if its `files`, its `inputs` and the files that it names say that nothing it is
//! about has changed, and nothing that it needs. For example:
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
    // Whether it makes something else than before, or what it needs does.
    let mut makes_other = vec![false; config.checks.len()];
    for at in order_by_needs(config) {
        let check = &config.checks[at];
        let has_other_needs = check.needs.iter().any(|need| makes_other[*need]);
        is_affected[at] = is_all || is_own_affected(check, changed) || has_other_needs;
        makes_other[at] = if runs(check) { is_affected[at] } else { has_other_needs };
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
    is_given || changed.touches_inputs(check)
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
            [[check]]\nname = 'built'\nfile = 'out'\nneeds = ['build']\n\
            [[check]]\nname = 'e2e'\nrun = 'x --config=../e2e.json'\ncwd = 'web'\n\
            inputs = ['e2e/[id].js']\ntools = ['./e2e.sh']\nneeds = ['built']\n\
            [[check]]\nname = 'lint'\nrun = 'x {files}'\nfiles = '*.py'\ninputs = ['ruff.toml']\n\
            [[check]]\nname = 'any'\nrun = 'x'\n";
        let config = ValidateConfig::parse("f", text).unwrap();
        let here = RunEnvironment { system: "linux", is_ci: false };
        let mut chosen = select_checks(&config, &CheckFilter::default(), here).unwrap();
        let (linked, paths): (Vec<&str>, Vec<&str>) =
            paths.iter().partition(|path| path.starts_with("link"));
        let all = |paths: Vec<&str>| paths.into_iter().map(RepoPath::new).collect();
        let paths = ChangedPaths { removed: all(paths), ..ChangedPaths::default() };
        let scope = FileScope::since("main", paths, all(linked), Default::default());
        let FileScope::Changed(changed) = scope else { panic!() };
        keep_affected(&config, &mut chosen, &changed);
        let is_in = |chosen: &CheckSelection| !matches!(chosen, CheckSelection::No(_));
        let names = config.checks.iter().zip(&chosen).filter(|(_, chosen)| is_in(chosen));
        names.map(|(check, _)| check.name.clone()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_check_runs_if_its_files_inputs_or_needs_have_changed() {
        assert_eq!(affected(&["README.md"]), "node build built any");
        let all_of_build = "node build tests built e2e any";
        assert_eq!(affected(&["src/a"]), all_of_build, "what needs it runs, too");
        let of_tests = affected(&["tests/a"]);
        assert_eq!(of_tests, "node build tests built any", "what it needs comes along");
        assert_eq!(affected(&["a/b.py"]), "node build built lint any");
        assert_eq!(affected(&["ruff.toml"]), "node build built lint any");
        assert_eq!(affected(&["setup/validate.toml"]), "node build tests built e2e lint any");
    }

    #[test]
    fn a_check_runs_if_a_file_has_changed_that_it_names_elsewhere() {
        let of_e2e = "node build built e2e any";
        for path in ["e2e.json", "web/e2e.sh", "e2e/[id].js", "web/.nvmrc"] {
            assert_eq!(affected(&[path]), of_e2e, "{path}");
        }
        assert_eq!(affected(&["web/e2e.json"]), "node build built any");
        assert_eq!(affected(&["link/a.py"]), "node build built lint any", "through a symlink");
    }
}
