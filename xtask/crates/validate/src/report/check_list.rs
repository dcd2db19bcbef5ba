//! The report of `validate --list`: the configured checks, by phase.
//!
//! ```text
//! quality
//!   lint  ruff check src
//!         needs python; fix `ruff check --fix src` (safe)
//! ```

use serde::Serialize;

use super::format_duration;
use crate::builtin_checks::describe_check;
use crate::cacheability::uncacheable_reason;
use xtask_config::{CheckHook, Fix, ValidateConfig};
use xtask_report::{BOLD, DIM};

/// A configured check, for `--list`.
#[derive(Clone, Debug, Serialize)]
pub struct CheckListLine {
    pub name: String,
    pub phase: String,
    /// The command, or a description of a built-in check.
    pub command: String,
    /// The checks that it needs.
    pub needs: Vec<String>,
    /// The tags by which `--only` and `--skip` select it.
    pub tags: Vec<String>,
    /// The operating systems on which it runs; empty for all.
    pub os: Vec<String>,
    pub tests: bool,
    /// Whether it also runs if `CI` is set.
    pub ci: bool,
    /// Whether the `pre-commit` hook runs it.
    pub before_commit: bool,
    /// The hooks that run it.
    pub hooks: Vec<&'static str>,
    /// Globs of the files that it is given; empty if it is given none.
    pub files: Vec<String>,
    /// Why it can never be skipped, or `None` if it can.
    pub always: Option<String>,
    /// How long a pass stays valid, in milliseconds; `None` for ever.
    pub ttl_ms: Option<u64>,
    /// The command of its fix.
    pub fix: Option<String>,
    /// The risk of its fix.
    pub risk: Option<&'static str>,
}

/// The JSON output of `validate --list` (`xtask.validate-list/1`).
#[derive(Clone, Debug, Serialize)]
pub struct CheckListReport {
    pub schema: &'static str,
    /// `setup/validate.toml`, or `None` for the default checks.
    pub config: Option<String>,
    /// The phases, and whether each is a gate.
    pub phases: Vec<(String, bool)>,
    pub checks: Vec<CheckListLine>,
}

impl CheckListReport {
    /// Lists the checks of `config`, which was read from `file` unless it has the default checks.
    #[must_use]
    pub fn new(config: &ValidateConfig, file: Option<&str>) -> CheckListReport {
        let lines = config.checks.iter().enumerate().map(|(at, check)| CheckListLine {
            name: check.name.clone(),
            phase: config.phases[check.phase].name.clone(),
            command: describe_check(check),
            needs: check.needs.iter().map(|need| config.checks[*need].name.clone()).collect(),
            tags: check.conditions.tags.clone(),
            os: check.conditions.os.clone(),
            tests: check.conditions.runs_tests,
            ci: check.conditions.runs_in_ci,
            before_commit: check.conditions.in_hooks.runs_in(CheckHook::PreCommit),
            hooks: check.conditions.in_hooks.kinds.iter().map(|hook| hook.name()).collect(),
            files: check.files.as_ref().map_or(Vec::new(), |files| files.globs.clone()),
            always: uncacheable_reason(config, at),
            ttl_ms: check.ttl_s.map(|seconds| seconds.saturating_mul(1000)),
            fix: check.fix.as_ref().map(|fix| fix.text().to_owned()),
            risk: check.fix.as_ref().map(Fix::risk),
        });
        CheckListReport {
            schema: "xtask.validate-list/1",
            config: file.map(str::to_owned),
            phases: config.phases.iter().map(|phase| (phase.name.clone(), phase.is_gate)).collect(),
            checks: lines.collect(),
        }
    }

    /// Renders the list, by phase.
    #[must_use]
    pub fn render_text(&self) -> String {
        let width = self.checks.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (phase, is_gate) in &self.phases {
            let gate = if *is_gate { ", a gate" } else { "" };
            text.push_str(&format!("{BOLD}{phase}{BOLD:#}{gate}\n"));
            for line in self.checks.iter().filter(|line| line.phase == *phase) {
                text.push_str(&format!("  {:<width$}  {}\n", line.name, line.command));
                let more = line.render_properties();
                if !more.is_empty() {
                    text.push_str(&format!("  {:<width$}  {DIM}{more}{DIM:#}\n", ""));
                }
            }
        }
        text
    }
}

impl CheckListLine {
    fn render_properties(&self) -> String {
        let mut words = Vec::new();
        if !self.needs.is_empty() {
            words.push(format!("needs {}", self.needs.join(", ")));
        }
        match (&self.always, self.ttl_ms) {
            (Some(_), _) => words.push("always runs".to_owned()),
            (None, Some(ms)) => words.push(format!("a pass counts for {}", format_duration(ms))),
            (None, None) => {}
        }
        if self.tests {
            words.push("tests".to_owned());
        }
        if !self.ci {
            words.push("not in CI".to_owned());
        }
        if !self.hooks.is_empty() {
            words.push(format!("hooks {}", self.hooks.join(", ")));
        }
        if !self.files.is_empty() {
            words.push(format!("files {}", self.files.join(", ")));
        }
        if !self.os.is_empty() {
            words.push(format!("on {}", self.os.join(" and ")));
        }
        if !self.tags.is_empty() {
            words.push(format!("tags {}", self.tags.join(", ")));
        }
        if let (Some(fix), Some(risk)) = (&self.fix, self.risk) {
            words.push(format!("fix `{fix}` ({risk})"));
        }
        words.join("; ")
    }
}
