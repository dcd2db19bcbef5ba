//! Selection of the checks of a run, and the moment when each may start *(pure)*.
//!
//! ```text
//! --only tests, needs = ["build"]  ->  tests Yes, build For("tests"), lint No("not selected by `--only`")
//! ```

use xtask_base::error::{Error, Result};
use xtask_config::{Check, CheckHook, CheckKind, MESSAGE_WORD, ValidateConfig, suggest_nearest};

/// The selection options of the command line.
#[derive(Clone, Debug, Default)]
pub struct CheckFilter {
    /// Names of checks, phases or tags to run, with all that they need; empty for all.
    pub only: Vec<String>,
    /// Names of checks, phases or tags to leave out.
    pub skip: Vec<String>,
    /// Leaves out checks with `tests = true`.
    pub skip_tests: bool,
    /// Selects only checks of this hook, and all that they need.
    pub hook: Option<CheckHook>,
    /// Selects only phases with `gate = true`, if there are any.
    pub gates_only: bool,
}

/// The machine on which the run happens.
#[derive(Clone, Copy, Debug)]
pub struct RunEnvironment<'a> {
    /// The operating system, as in `std::env::consts::OS`.
    pub system: &'a str,
    /// Whether the variable `CI` is set.
    pub is_ci: bool,
}

/// Whether a check is part of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckSelection {
    /// Selected.
    Yes,
    /// Selected because the named check needs it.
    For(String),
    /// Left out, for this reason.
    No(String),
    /// Left out because `os` does not list this system.
    NotHere(String),
}

/// Selects the checks of a run. Fails if `only` or `skip` contain unknown names, and lists all of them.
pub fn select_checks(
    config: &ValidateConfig,
    filter: &CheckFilter,
    here: RunEnvironment<'_>,
) -> Result<Vec<CheckSelection>> {
    check_names(config, filter)?;
    let has_gates = config.phases.iter().any(|phase| phase.is_gate);
    let mut chosen: Vec<CheckSelection> = config
        .checks
        .iter()
        .map(|check| {
            let names = |words: &[String]| words.iter().any(|word| is_named(config, check, word));
            if !filter.only.is_empty() && !names(&filter.only) {
                return CheckSelection::No("not selected by `--only`".to_owned());
            }
            if let Some(hook) = filter.hook
                && !check.conditions.in_hooks.runs_in(hook)
            {
                return CheckSelection::No(format!("not marked for `{}`", hook.name()));
            }
            if filter.hook.is_none() && takes_message(check) {
                return CheckSelection::No("it is about the message of a commit".to_owned());
            }
            if filter.gates_only && has_gates && !config.phases[check.phase].is_gate {
                return CheckSelection::No("not in a gate phase".to_owned());
            }
            CheckSelection::Yes
        })
        .collect();
    add_needed_checks(config, &mut chosen);
    for (check, chosen) in config.checks.iter().zip(&mut chosen) {
        if matches!(chosen, CheckSelection::No(_)) {
            continue;
        }
        if !check.conditions.os.is_empty()
            && !check.conditions.os.iter().any(|os| os == here.system)
        {
            *chosen =
                CheckSelection::NotHere(format!("only on {}", check.conditions.os.join(" and ")));
            continue;
        }
        let names = |words: &[String]| words.iter().any(|word| is_named(config, check, word));
        let reason = if names(&filter.skip) {
            "left out by `--skip`".to_owned()
        } else if filter.skip_tests && check.conditions.runs_tests {
            "left out by `--skip-tests`".to_owned()
        } else if here.is_ci && !check.conditions.runs_in_ci {
            "left out because `CI` is set".to_owned()
        } else {
            continue;
        };
        *chosen = CheckSelection::No(reason);
    }
    let is_in =
        |chosen: &CheckSelection| matches!(chosen, CheckSelection::Yes | CheckSelection::For(_));
    let is_taken_back = !filter.only.is_empty() && !filter.skip.is_empty();
    if is_taken_back && !chosen.iter().any(is_in) {
        return Err(Error::usage("`--skip` excludes everything that `--only` selects"));
    }
    Ok(chosen)
}

/// Selects everything that a selected check needs, transitively.
pub fn add_needed_checks(config: &ValidateConfig, chosen: &mut [CheckSelection]) {
    let mut open: Vec<usize> =
        (0..chosen.len()).filter(|at| chosen[*at] == CheckSelection::Yes).collect();
    while let Some(at) = open.pop() {
        for need in &config.checks[at].needs {
            if matches!(chosen[*need], CheckSelection::No(_)) {
                chosen[*need] = CheckSelection::For(config.checks[at].name.clone());
                open.push(*need);
            }
        }
    }
}

/// Whether the command of a check has `{message}`.
fn takes_message(check: &Check) -> bool {
    matches!(&check.kind, CheckKind::Run(command) if command.text.contains(MESSAGE_WORD))
}

fn is_named(config: &ValidateConfig, check: &Check, word: &str) -> bool {
    check.name == word
        || config.phases[check.phase].name == word
        || check.conditions.tags.iter().any(|tag| tag == word)
}

fn check_names(config: &ValidateConfig, filter: &CheckFilter) -> Result<()> {
    let checks = config.checks.iter().map(|check| check.name.as_str());
    let phases = config.phases.iter().map(|phase| phase.name.as_str());
    let tags =
        config.checks.iter().flat_map(|check| check.conditions.tags.iter().map(String::as_str));
    let known: Vec<&str> = checks.chain(phases).chain(tags).collect();
    let unknown: Vec<String> = filter
        .only
        .iter()
        .chain(&filter.skip)
        .filter(|word| !known.contains(&word.as_str()))
        .map(|word| format!("`{word}`{}", suggest_nearest(word, known.iter().copied())))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let error = Error::usage("no such check, phase or tag");
    let error = unknown.into_iter().fold(error, Error::with_detail);
    Err(error.with_hint("`cargo xtask validate --list` shows all"))
}

/// Returns the indices of all checks in an order in which each comes after its `needs`.
#[must_use]
pub fn order_by_needs(config: &ValidateConfig) -> Vec<usize> {
    fn push_after_needs(config: &ValidateConfig, at: usize, order: &mut Vec<usize>) {
        if !order.contains(&at) {
            config.checks[at].needs.iter().for_each(|need| push_after_needs(config, *need, order));
            order.push(at);
        }
    }
    let mut order = Vec::new();
    (0..config.checks.len()).for_each(|at| push_after_needs(config, at, &mut order));
    order
}

/// Returns the index `start`, and those of all checks that it needs, transitively, but not through a check for which
/// `stops` is true.
pub(super) fn walk_needs(
    config: &ValidateConfig,
    start: usize,
    stops: impl Fn(&Check) -> bool,
) -> Vec<usize> {
    let mut open = vec![start];
    let mut found = Vec::new();
    while let Some(at) = open.pop() {
        if found.contains(&at) {
            continue;
        }
        found.push(at);
        let check = &config.checks[at];
        open.extend(check.needs.iter().filter(|_| !stops(check)));
    }
    found
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckStage {
    #[default]
    Waiting,
    Running,
    Succeeded,
    Failed,
    /// The check is not part of the run.
    LeftOut,
}

/// Whether a waiting check may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Now,
    NotYet,
    /// The check is blocked, for this reason.
    Never(String),
}

/// Computes whether the check at index `at` may start: all `needs` have passed, all earlier phases have
/// ended, and no earlier gate phase has a failed check.
#[must_use]
pub fn compute_readiness(
    config: &ValidateConfig,
    stage_of: &dyn Fn(usize) -> CheckStage,
    at: usize,
) -> Readiness {
    let check = &config.checks[at];
    for need in &check.needs {
        if stage_of(*need) == CheckStage::Failed {
            let name = &config.checks[*need].name;
            return Readiness::Never(format!("`{name}`, which it needs, did not pass"));
        }
    }
    let stages = || config.checks.iter().enumerate().map(|(at, other)| (other.phase, stage_of(at)));
    let is_bad = |phase: usize| stages().any(|entry| entry == (phase, CheckStage::Failed));
    let shut = (0..check.phase).find(|phase| config.phases[*phase].is_gate && is_bad(*phase));
    if let Some(phase) = shut {
        let name = &config.phases[phase].name;
        return Readiness::Never(format!("the earlier phase `{name}` did not pass"));
    }
    let is_open = |stage: CheckStage| matches!(stage, CheckStage::Waiting | CheckStage::Running);
    let is_early = stages().any(|(phase, stage)| phase < check.phase && is_open(stage));
    let waits = check.needs.iter().any(|need| is_open(stage_of(*need)));
    if is_early || waits { Readiness::NotYet } else { Readiness::Now }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: RunEnvironment<'static> = RunEnvironment { system: "linux", is_ci: false };

    fn config() -> ValidateConfig {
        let text = "[phase.first]\ngate = true\n[phase.second]\n\
            [[check]]\nname = 'tool'\nphase = 'first'\nrun = 'x'\n\
            [[check]]\nname = 'build'\nphase = 'second'\nrun = 'x'\nneeds = ['tool']\n\
            [[check]]\nname = 'tests'\nphase = 'second'\nrun = 'x'\nneeds = ['build']\ntests = true\n\
            [[check]]\nname = 'other'\nphase = 'second'\nrun = 'x'\nos = ['macos', 'windows']\n\
            [[check]]\nname = 'lint'\nphase = 'second'\nrun = 'x'\ntags = ['slow']\nhook = 'pre-commit'\n\
            ci = false\n";
        ValidateConfig::parse("f", text).unwrap()
    }

    fn chosen(filter: &CheckFilter) -> String {
        let config = config();
        let chosen = select_checks(&config, filter, HERE).unwrap();
        let line =
            |(check, chosen): (&Check, CheckSelection)| format!("{} {chosen:?}\n", check.name);
        config.checks.iter().zip(chosen).map(line).collect()
    }

    #[test]
    fn needs_come_along_and_every_absence_has_a_reason() {
        let filter =
            CheckFilter { only: vec!["tests".into(), "slow".into()], ..CheckFilter::default() };
        expect_test::expect![[r#"
            tool For("build")
            build For("tests")
            tests Yes
            other No("not selected by `--only`")
            lint Yes
        "#]]
        .assert_eq(&chosen(&filter));
        let filter =
            CheckFilter { skip: vec!["second".into()], skip_tests: true, ..CheckFilter::default() };
        expect_test::expect![[r#"
            tool Yes
            build No("left out by `--skip`")
            tests No("left out by `--skip`")
            other NotHere("only on macos and windows")
            lint No("left out by `--skip`")
        "#]]
        .assert_eq(&chosen(&filter));
        let filter = CheckFilter { hook: Some(CheckHook::PreCommit), ..CheckFilter::default() };
        expect_test::expect![[r#"
            tool No("not marked for `pre-commit`")
            build No("not marked for `pre-commit`")
            tests No("not marked for `pre-commit`")
            other No("not marked for `pre-commit`")
            lint Yes
        "#]]
        .assert_eq(&chosen(&filter));
        let filter = CheckFilter { gates_only: true, ..CheckFilter::default() };
        expect_test::expect![[r#"
            tool Yes
            build No("not in a gate phase")
            tests No("not in a gate phase")
            other No("not in a gate phase")
            lint No("not in a gate phase")
        "#]]
        .assert_eq(&chosen(&filter));
    }

    #[test]
    fn unknown_names_are_refused_together() {
        let filter = CheckFilter {
            only: vec!["test".into()],
            skip: vec!["zzz".into()],
            ..CheckFilter::default()
        };
        let refused = select_checks(&config(), &filter, HERE).unwrap_err();
        assert_eq!(refused.details(), ["`test`; did you mean `tests`?", "`zzz`"]);
    }

    #[test]
    fn checks_wait_for_needs_and_phases_and_stop_at_gates() {
        use CheckStage::{Failed, LeftOut, Running, Succeeded, Waiting};
        let config = config();
        let at =
            |stages: [CheckStage; 5], at: usize| compute_readiness(&config, &|at| stages[at], at);
        assert_eq!(at([Waiting; 5], 0), Readiness::Now);
        assert_eq!(at([Running, Waiting, Waiting, LeftOut, Waiting], 4), Readiness::NotYet);
        assert_eq!(at([Succeeded, Waiting, Waiting, LeftOut, Waiting], 4), Readiness::Now);
        assert_eq!(at([Succeeded, Running, Waiting, LeftOut, Waiting], 2), Readiness::NotYet);
        let never = Readiness::Never("`build`, which it needs, did not pass".into());
        assert_eq!(at([Succeeded, Failed, Waiting, LeftOut, Waiting], 2), never);
        let never = Readiness::Never("the earlier phase `first` did not pass".into());
        assert_eq!(at([Failed, Waiting, Waiting, LeftOut, Waiting], 4), never);
        assert_eq!(at([LeftOut, Waiting, Waiting, LeftOut, Waiting], 1), Readiness::Now);
    }
}
