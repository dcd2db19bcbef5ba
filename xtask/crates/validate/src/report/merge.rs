//! One report of the reports of all shards of a run *(pure)*.
//!
//! Guarantee: the merged report is good only if each shard has a report, and every check is good wherever it ran.
//!
//! ```text
//! 1/2: lint passed, [unit]   2/2: [lint], unit failed   ->   lint passed, unit failed
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::ValidateReport;
use crate::outcome::{CheckNote, CheckOutcome, CheckResult};
use crate::shard::{MAX_SHARDS, Shard, ShardInfo};
use xtask_base::error::{Error, Result};

/// A report, and the name of its file.
pub struct NamedReport {
    pub file: String,
    pub report: ValidateReport,
}

/// Merges the reports. Returns an error if they are not of one run.
pub fn merge_reports(reports: Vec<NamedReport>) -> Result<ValidateReport> {
    let shards = order_by_shard(reports)?;
    let Some((first, _)) = shards.values().next() else {
        return Err(Error::usage("there is no report to merge"));
    };
    let count = first.count;
    let missing: Vec<String> = (1..=count)
        .filter(|index| !shards.values().any(|(info, _)| info.index == *index))
        .map(|index| Shard { index, count }.to_string())
        .collect();
    let mut warnings = Vec::new();
    for shard in &missing {
        warnings.push(format!("shard {shard} has no report: its job has not ended normally"));
    }
    let reports: Vec<(ShardInfo, ValidateReport)> = shards.into_values().collect();
    for (_, report) in &reports {
        for warning in &report.warnings {
            if !warnings.contains(warning) {
                warnings.push(warning.clone());
            }
        }
    }
    let mut merged = reports[0].1.clone();
    merged.checks = merge_checks(&reports, &missing);
    merged.ok = missing.is_empty() && merged.checks.iter().all(|check| check.outcome.is_good());
    let of_all = || reports.iter().map(|(_, report)| report);
    merged.duration_ms = of_all().map(|report| report.duration_ms).max().unwrap_or(0);
    merged.started = of_all().map(|report| report.started.clone()).min().unwrap_or_default();
    merged.fast = of_all().any(|report| report.fast);
    merged.warnings = warnings;
    merged.log = None;
    merged.shard = None;
    Ok(merged)
}

/// Sorts the reports by their shard, and refuses those that are not of one run.
fn order_by_shard(
    reports: Vec<NamedReport>,
) -> Result<BTreeMap<usize, (ShardInfo, ValidateReport)>> {
    let mut shards: BTreeMap<usize, (ShardInfo, ValidateReport)> = BTreeMap::new();
    let mut files: BTreeMap<usize, String> = BTreeMap::new();
    let mut run: Option<(String, ShardInfo, Option<String>)> = None;
    for NamedReport { file, report } in reports {
        let Some(shard) = report.shard.clone() else {
            return Err(Error::usage(format!(
                "`{file}` is the report of a whole run, not of a shard"
            ))
            .with_hint("`validate --shard I/N --report FILE` writes one"));
        };
        if report.dry_run {
            return Err(Error::usage(format!("`{file}` is the report of a dry run")));
        }
        if !(1..=shard.count).contains(&shard.index) || shard.count > MAX_SHARDS {
            return Err(Error::usage(format!(
                "`{file}` is shard {} of {}",
                shard.index, shard.count
            )));
        }
        let (other, of, commit) =
            run.get_or_insert_with(|| (file.clone(), shard.clone(), report.commit.clone()));
        let difference = match () {
            () if *commit != report.commit => Some("the commit"),
            () if of.count != shard.count => Some("the number of shards"),
            () if of.plan != shard.plan => Some("the checks or `setup/check-times.toml`"),
            () => None,
        };
        if let Some(what) = difference {
            return Err(Error::usage(format!("`{other}` and `{file}` are not of one run"))
                .with_detail(format!("they differ in {what}")));
        }
        if let Some(other) = files.insert(shard.index, file.clone()) {
            return Err(Error::usage(format!(
                "`{other}` and `{file}` are both of shard {}/{}",
                shard.index, shard.count
            ))
            .with_hint("keep the one that counts"));
        }
        shards.insert(shard.index, (shard, report));
    }
    Ok(shards)
}

fn merge_checks(reports: &[(ShardInfo, ValidateReport)], missing: &[String]) -> Vec<CheckResult> {
    let mut seen = BTreeSet::new();
    let mut merged = Vec::new();
    for check in reports.iter().flat_map(|(_, report)| &report.checks) {
        if !seen.insert(&check.name) {
            continue;
        }
        let results: Vec<(&ShardInfo, &CheckResult)> = reports
            .iter()
            .filter(|(info, _)| !info.elsewhere.contains(&check.name))
            .filter_map(|(info, report)| {
                let mut all = report.checks.iter();
                Some((info, all.find(|other| other.name == check.name)?))
            })
            .collect();
        merged.push(merge_results(check, &results, missing));
    }
    // Checks of a later shard would otherwise come after those of all phases of the first one.
    let mut phases: Vec<&str> = Vec::new();
    for (_, report) in reports {
        for check in &report.checks {
            if !phases.contains(&check.phase.as_str()) {
                phases.push(&check.phase);
            }
        }
    }
    merged.sort_by_key(|check| phases.iter().position(|phase| *phase == check.phase));
    merged
}

/// Returns the worst of the results of a check; one that was in no report has not finished.
fn merge_results(
    check: &CheckResult,
    results: &[(&ShardInfo, &CheckResult)],
    missing: &[String],
) -> CheckResult {
    let Some((_, worst)) = results.iter().max_by_key(|(_, result)| badness(result.outcome)) else {
        let reason = match missing {
            [] => "it is in no report".to_owned(),
            missing => format!("no report of shard {}", missing.join(" or ")),
        };
        return CheckResult { outcome: CheckOutcome::Interrupted, reason, ..check.clone() };
    };
    let mut merged = (*worst).clone();
    let is_good = |result: &CheckResult| result.outcome.is_good();
    if results.iter().any(|(_, result)| is_good(result) != is_good(worst)) {
        let words: Vec<String> = results
            .iter()
            .map(|(info, result)| {
                format!("{} in {}/{}", result.outcome.name(), info.index, info.count)
            })
            .collect();
        merged.notes.push(CheckNote::Text(format!("shards differ: {}", words.join(", "))));
    }
    merged
}

/// Orders outcomes: the result of a check that ran in several shards is the worst.
fn badness(outcome: CheckOutcome) -> u8 {
    match outcome {
        CheckOutcome::LeftOut | CheckOutcome::Planned => 0,
        CheckOutcome::Cached => 1,
        CheckOutcome::Passed => 2,
        CheckOutcome::Fixed => 3,
        CheckOutcome::Blocked => 4,
        CheckOutcome::Interrupted => 5,
        CheckOutcome::Failed => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(index: usize, checks: &[(&str, CheckOutcome)], elsewhere: &[&str]) -> NamedReport {
        let check = |(name, outcome): &(&str, CheckOutcome)| {
            serde_json::json!({
                "name": name, "phase": "quality", "outcome": outcome, "reason": "", "why": [],
                "notes": [], "command": "x", "duration_ms": 5, "exit_code": null, "output": "",
                "inputs": 0, "key": null, "fix": null, "line": null,
            })
        };
        let checks: Vec<serde_json::Value> = checks.iter().map(check).collect();
        let json = serde_json::json!({
            "schema": "xtask.validate/1", "run": format!("r{index}"), "worktree": "/w",
            "branch": null, "commit": "c", "config": null, "started": "2026-01-01T00:00:00Z",
            "duration_ms": 10 * index, "fast": false, "dry_run": false, "ok": true,
            "checks": checks, "warnings": ["w"], "log": "l",
            "shard": { "index": index, "count": 2, "plan": "p", "elsewhere": elsewhere },
        });
        let report = serde_json::from_value(json).unwrap();
        NamedReport { file: format!("{index}.json"), report }
    }

    use CheckOutcome::{Cached, Failed, Interrupted, LeftOut, Passed};

    #[test]
    fn each_check_has_the_worst_result_of_the_shards_that_ran_it() {
        let one = report(1, &[("git", Passed), ("lint", Passed), ("unit", LeftOut)], &["unit"]);
        let two = report(2, &[("git", Failed), ("lint", LeftOut), ("unit", Cached)], &["lint"]);
        let merged = merge_reports(vec![two, one]).unwrap();
        let outcomes: Vec<_> = merged.checks.iter().map(|check| check.outcome).collect();
        assert_eq!(outcomes, [Failed, Passed, Cached]);
        assert_eq!(
            merged.checks[0].notes[0].to_string(),
            "shards differ: passed in 1/2, failed in 2/2"
        );
        assert!(!merged.ok);
        assert_eq!((merged.duration_ms, merged.warnings.len(), merged.run.as_str()), (20, 1, "r1"));
        assert!(merged.shard.is_none());
    }

    #[test]
    fn a_missing_report_is_no_success() {
        let one = report(1, &[("lint", Passed), ("unit", LeftOut), ("off", LeftOut)], &["unit"]);
        let merged = merge_reports(vec![one]).unwrap();
        assert!(!merged.ok);
        assert_eq!(merged.checks[1].outcome, Interrupted);
        assert_eq!(merged.checks[1].reason, "no report of shard 2/2");
        assert_eq!(merged.checks[2].outcome, LeftOut, "left out of the whole run");
        assert_eq!(merged.warnings[0], "shard 2/2 has no report: its job has not ended normally");
    }

    #[test]
    fn reports_of_different_runs_are_refused() {
        let refused = |change: &dyn Fn(&mut ValidateReport)| {
            let mut two = report(2, &[], &[]);
            change(&mut two.report);
            merge_reports(vec![report(1, &[], &[]), two]).err().map(|error| error.to_string())
        };
        assert_eq!(refused(&|_| ()), None);
        let shard = |report: &mut ValidateReport, change: &dyn Fn(&mut ShardInfo)| {
            change(report.shard.as_mut().unwrap());
        };
        let apart = Some("`1.json` and `2.json` are not of one run".to_owned());
        assert_eq!(refused(&|report| report.commit = None), apart);
        assert_eq!(refused(&|report| shard(report, &|shard| shard.count = 3)), apart);
        assert_eq!(refused(&|report| shard(report, &|shard| shard.plan.clear())), apart);
        let twice = refused(&|report| shard(report, &|shard| shard.index = 1)).unwrap();
        assert_eq!(twice, "`1.json` and `2.json` are both of shard 1/2");
        assert!(refused(&|report| report.shard = None).unwrap().contains("whole run"));
        assert!(refused(&|report| report.dry_run = true).unwrap().contains("dry run"));
        let many = refused(&|report| shard(report, &|shard| shard.count = usize::MAX)).unwrap();
        assert!(many.contains("`2.json` is shard 2 of "), "{many}");
        assert!(merge_reports(Vec::new()).is_err());
    }
}
