//! What validation costs and catches: the checks over all recorded runs, and the last runs with their logs.
//!
//! ```text
//! check   last    passed  median  95 %   saved by skipping
//! lint    passed  95 %    812 ms  1.0 s  1 m 20 s
//! ```

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use super::html::{encode_query, escape, escape_name, strip_colours};
use super::page::{PageTarget, Section, Tone, render_command};
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::words::{format_size, pluralize};
use xtask_git::Repo;
use xtask_validate::history::{
    CheckStatistics, PastRun, RecentResult, compute_statistics, read_history,
};
use xtask_validate::log::log_file;
use xtask_validate::outcome::CheckOutcome;
use xtask_validate::report::format_duration;
use xtask_validate::session::{describe_last_run, history_file};

/// How many runs are listed.
const MAX_RUNS: usize = 20;

/// How much of the end of a log is shown: 256 kB.
const MAX_LOG_BYTES: u64 = 256 << 10;

/// Renders the section.
pub(super) fn render_checks(repo: &Repo, now: i64, target: PageTarget) -> Section {
    let runs = read_history(&history_file(repo));
    let mut statistics = compute_statistics(&runs);
    // Those that fail first, then those that take longest.
    statistics.sort_by_key(|check| {
        (
            check.last != CheckOutcome::Failed,
            std::cmp::Reverse(check.median_ms),
            check.check.clone(),
        )
    });
    let section = |tone, summary: String, body| Section {
        id: "checks",
        title: "Checks",
        tone,
        summary,
        body,
    };
    let Some((last, words)) = describe_last_run(repo, repo.root()) else {
        let body = match runs.is_empty() {
            true => render_command("cargo xtask validate"),
            false => format!(
                "<p>Other worktrees have these results; this validates here:</p>{}{}{}",
                render_command("cargo xtask validate"),
                render_table(&statistics),
                render_runs(&runs, now, target)
            ),
        };
        return section(Tone::Off, "nothing was validated in this worktree yet".to_owned(), body);
    };
    let tone = if last.ok { Tone::Good } else { Tone::Bad };
    let names = |wanted: &dyn Fn(&CheckStatistics) -> bool| -> Vec<String> {
        let chosen = statistics.iter().filter(|check| wanted(check));
        chosen.map(|check| format!("<code>{}</code>", escape_name(&check.check))).collect()
    };
    let failed: Vec<String> = last
        .checks
        .iter()
        .filter(|check| check.outcome == CheckOutcome::Failed)
        .map(|check| format!("<code>{}</code>", escape_name(&check.check)))
        .collect();
    let mut summary = format!("{}, {}", escape(&words), format_ago(now, last.at));
    if !failed.is_empty() {
        summary.push_str(&format!(": {}", failed.join(", ")));
    }
    let mut body = String::new();
    let slowest =
        statistics.iter().filter_map(|check| Some((check.median_ms?, &check.check))).max();
    if let Some((ms, name)) = slowest {
        body.push_str(&format!(
            "<p>Slowest: <code>{}</code>, {} in the median. Skipping has saved {}.</p>",
            escape_name(name),
            format_duration(ms),
            format_duration(statistics.iter().map(time_saved).sum())
        ));
    }
    let flaky = names(&|check| check.flaky > 0);
    if !flaky.is_empty() {
        body.push_str(&format!(
            "<p>Flaky, with different results in the same state: {}.</p>",
            flaky.join(", ")
        ));
    }
    body.push_str(&render_table(&statistics));
    body.push_str(&render_runs(&runs, now, target));
    section(tone, summary, body)
}

/// Returns the time that skipping a check has saved, in milliseconds: its median for each time.
fn time_saved(check: &CheckStatistics) -> u64 {
    let skipped = (check.hit_rate * check.runs as f64).round() as u64;
    check.median_ms.unwrap_or(0).saturating_mul(skipped)
}

fn render_table(statistics: &[CheckStatistics]) -> String {
    let mut html = String::from(
        "<div class=\"frame\" role=\"region\" aria-label=\"Checks\" tabindex=\"0\"><table class=\"cards\">\
         <caption>Checks, those that fail first and then the slowest</caption><thead><tr>\
         <th scope=\"col\">Check</th><th scope=\"col\">Last</th><th scope=\"col\">Runs</th>\
         <th scope=\"col\">Passed</th><th scope=\"col\">Median</th><th scope=\"col\">95 %</th>\
         <th scope=\"col\">Skipped</th><th scope=\"col\">Saved by skipping</th>\
         <th scope=\"col\">Flaky</th><th scope=\"col\">Recent</th></tr></thead><tbody>",
    );
    let time = |ms: Option<u64>| ms.map_or("–".to_owned(), format_duration);
    for check in statistics {
        let flaky = match check.flaky {
            0 => "no".to_owned(),
            states => format!("in {}", pluralize(states, "state")),
        };
        html.push_str(&format!(
            "<tr><th scope=\"row\">{}<td data-l=\"Last\"><span class=\"mark {last}\">{last}</span><td data-l=\"Runs\">{}\
             <td data-l=\"Passed\">{:.0} %<td data-l=\"Median\">{}<td data-l=\"95 %\">{}<td data-l=\"Skipped\">{:.0} %\
             <td data-l=\"Saved\">{}<td data-l=\"Flaky\">{flaky}<td data-l=\"Recent\">{}</tr>\n",
            escape_name(&check.check),
            check.runs,
            check.pass_rate * 100.0,
            time(check.median_ms),
            time(check.p95_ms),
            check.hit_rate * 100.0,
            format_duration(time_saved(check)),
            render_recent(&check.recent),
            last = check.last.name(),
        ));
    }
    html.push_str("</tbody></table></div>");
    html
}

fn render_recent(recent: &[RecentResult]) -> String {
    let longest = recent.iter().map(|result| result.duration_ms).max().unwrap_or(0).max(1) as f64;
    let bars: Vec<(&str, f64)> = recent
        .iter()
        .map(|result| {
            let share = result.duration_ms as f64 / longest;
            // A failure is seen however short it was.
            let least = if result.outcome == CheckOutcome::Failed { 0.5 } else { 0.0 };
            (result.outcome.name(), share.max(least))
        })
        .collect();
    let count = |outcome| recent.iter().filter(|result| result.outcome == outcome).count();
    let label = format!(
        "last {}: {} failed, {} skipped",
        pluralize(recent.len(), "result"),
        count(CheckOutcome::Failed),
        count(CheckOutcome::Cached)
    );
    render_results(&bars, &label)
}

fn render_runs(runs: &[PastRun], now: i64, target: PageTarget) -> String {
    let mut html = String::from("<h3>Last runs</h3><ul>");
    for run in runs.iter().rev().take(MAX_RUNS) {
        let failed: Vec<String> = run
            .checks
            .iter()
            .filter(|check| check.outcome == CheckOutcome::Failed)
            .map(|check| escape_name(&check.check))
            .collect();
        let result = match (run.ok, failed.is_empty()) {
            (true, _) => "<span class=\"mark passed\">passed</span>".to_owned(),
            (false, true) => "<span class=\"mark failed\">not finished</span>".to_owned(),
            (false, false) => {
                format!("<span class=\"mark failed\">failed</span> {}", failed.join(", "))
            }
        };
        let (name, time) = (escape(&run.run), format_rfc3339(run.at));
        let name = match target {
            PageTarget::Server => {
                format!("<a href=\"/run?id={}\">{name}</a>", encode_query(&run.run))
            }
            PageTarget::File => name.into_owned(),
        };
        html.push_str(&format!(
            "<li>{name} {result} <span class=\"soft\">{}, {}, {}, by <code>{}</code>, <time datetime=\"{time}\">{}</time></span>",
            pluralize(run.checks.len(), "check"),
            format_duration(run.duration_ms),
            escape_name(&run.worktree),
            run.by.command(),
            format_ago(now, run.at)
        ));
    }
    html.push_str("</ul>");
    html
}

/// Renders the log of a run, or why there is none. Only a run that the history has is looked for.
pub(super) fn render_run(repo: &Repo, id: &str) -> (u16, String) {
    let runs = read_history(&history_file(repo));
    let Some(run) = runs.iter().find(|run| run.run == id) else {
        return (404, "<p>The history has no such run.</p>".to_owned());
    };
    let file = log_file(&repo.shared_state_folder().join("logs"), &run.run);
    match read_tail(&file) {
        Ok((text, 0)) => (200, format!("<pre class=\"log\">{}</pre>", escape(&text))),
        Ok((text, before)) => (
            200,
            format!(
                "<p class=\"soft\">The first {} are left out.</p><pre class=\"log\">{}</pre>",
                format_size(before),
                escape(&text)
            ),
        ),
        Err(cause) => (
            404,
            format!(
                "<p>Its log is not there any more, or cannot be read: {}</p>",
                escape(&cause.to_string())
            ),
        ),
    }
}

/// Reads the end of a file, and returns how many bytes are before it.
fn read_tail(file: &PathBuf) -> std::io::Result<(String, u64)> {
    let meta = std::fs::metadata(file)?;
    if !meta.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut open = File::open(file)?;
    let before = meta.len().saturating_sub(MAX_LOG_BYTES);
    open.seek(SeekFrom::Start(before))?;
    let mut bytes = Vec::new();
    open.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    Ok((strip_colours(&String::from_utf8_lossy(&bytes)), before))
}

/// Renders results, the newest on the right, as bars: their class, and their height from 0 to 1.
fn render_results(results: &[(&str, f64)], label: &str) -> String {
    let width = results.len().max(1) * 6;
    let mut svg = format!(
        "<svg class=\"strip\" role=\"img\" viewBox=\"0 0 {width} 24\" width=\"{width}\" height=\"24\" aria-label=\"{}\">",
        escape(label)
    );
    for (at, (class, share)) in results.iter().enumerate() {
        let height = 3.0 + 21.0 * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let (x, y) = (at * 6, 24.0 - height);
        svg.push_str(&format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y:.1}\" width=\"5\" height=\"{height:.1}\"/>"
        ));
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_the_smallest_bar() {
        assert!(render_results(&[("failed", f64::NAN)], "x").contains("height=\"3.0\""));
        assert!(render_results(&[("passed", 7.0)], "<x>").contains("aria-label=\"&lt;x&gt;\""));
    }
}
