//! The report of `validate --history`: the statistics of each check over the recorded runs.
//!
//! ```text
//! check   runs  passed  skipped     median       95 %  last
//! lint      22    95 %      5 %     812 ms      1.0 s  cached
//! ```

use serde::Serialize;

use super::format_duration;
use crate::history::{CheckStatistics, PastRun, compute_statistics};
use xtask_base::environment::format_rfc3339;
use xtask_base::words::pluralize;
use xtask_report::BOLD;

/// The JSON output of `validate --history` (`xtask.validate-history/1`).
#[derive(Clone, Debug, Serialize)]
pub struct CheckHistoryReport {
    pub schema: &'static str,
    /// The number of recorded runs.
    pub runs: usize,
    /// The start of the first of them, RFC 3339 in UTC.
    pub since: Option<String>,
    /// The checks, by name.
    pub checks: Vec<CheckStatistics>,
}

impl CheckHistoryReport {
    /// Computes the statistics of `runs`, oldest first.
    #[must_use]
    pub fn new(runs: &[PastRun]) -> CheckHistoryReport {
        CheckHistoryReport {
            schema: "xtask.validate-history/1",
            runs: runs.len(),
            since: runs.first().map(|run| format_rfc3339(run.at)),
            checks: compute_statistics(runs),
        }
    }

    /// Renders the statistics as a table.
    #[must_use]
    pub fn render_text(&self) -> String {
        let Some(since) = &self.since else { return String::new() };
        let width = self.checks.iter().map(|line| line.check.chars().count()).max().unwrap_or(0);
        let width = width.max("check".len());
        let mut text = format!("{} since {since}\n", pluralize(self.runs, "run"));
        let head = format!(
            "{:<width$}  {:>5}  {:>6}  {:>7}  {:>9}  {:>9}  last",
            "check", "runs", "passed", "skipped", "median", "95 %"
        );
        text.push_str(&format!("{BOLD}{head}{BOLD:#}\n"));
        let share = |share: f64| format!("{:.0} %", share * 100.0);
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), format_duration);
        for line in &self.checks {
            text.push_str(&format!(
                "{:<width$}  {:>5}  {:>6}  {:>7}  {:>9}  {:>9}  {}\n",
                line.check,
                line.runs,
                share(line.pass_rate),
                share(line.hit_rate),
                time(line.median_ms),
                time(line.p95_ms),
                line.last.name()
            ));
        }
        text
    }
}
