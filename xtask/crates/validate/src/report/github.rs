//! The report of a validation for GitHub Actions: annotations in the log, and the job summary as Markdown *(pure)*.
//!
//! ```text
//! ::error file=src/app.rs,line=12,col=5,title=types::mismatched types
//! ```
//!
//! An annotation is always one line, and no output of a check becomes a workflow command. The summary shows that
//! output as text: it can break out neither of a table cell nor of its fence. The summary has the findings that got
//! no annotation, stays below `MAX_SUMMARY_BYTES`, and lists its own omissions.

use std::collections::{BTreeMap, BTreeSet};

use super::ValidateReport;
use super::findings::{self, FileFinding, FindingLevel, FindingsByCheck};
use super::sanitize::{sanitize_text, to_one_line, truncate_chars, truncate_middle};
use crate::outcome::{CheckOutcome, CheckResult, FixStatus};
use xtask_base::words::pluralize;

/// How many annotations GitHub accepts of a step; it drops the rest silently.
pub const MAX_ANNOTATIONS: usize = 10;

/// The longest summary, in bytes. GitHub refuses the summary of a step above 1 MiB, and the step may have written
/// some of it before.
pub const MAX_SUMMARY_BYTES: usize = 900 << 10;

/// How much of the output an annotation without a file shows, in bytes. GitHub truncates messages to 4,096.
const MAX_ANNOTATION_OUTPUT: usize = 2_000;

/// The size limits of the table of checks and of the list of findings, in bytes.
const MAX_TABLE_BYTES: usize = 250 << 10;
const MAX_LIST_BYTES: usize = 250 << 10;

/// The bytes reserved for the list of omissions.
const RESERVED_BYTES: usize = 2 << 10;

/// The smallest excerpt of an output, in bytes; below that it is left out completely.
const MIN_OUTPUT_BYTES: usize = 1_000;

/// The longest text of a table cell or list item, in characters.
const MAX_CELL_CHARS: usize = 300;

/// How many warnings of the run are shown.
const MAX_WARNINGS: usize = 20;

/// The longest fence, in characters.
const MAX_FENCE_CHARS: usize = 100;

/// The subject of an annotation: a finding of a failed check, or the check itself.
#[derive(Clone, Copy)]
struct AnnotationSubject<'a> {
    check: &'a CheckResult,
    finding: Option<&'a FileFinding>,
}

/// Renders the workflow commands for annotations, one line each: at most `MAX_ANNOTATIONS`.
#[must_use]
pub fn render_annotations(report: &ValidateReport, findings: &FindingsByCheck) -> String {
    let picks = rank_subjects(report, findings);
    picks.iter().take(MAX_ANNOTATIONS).map(|pick| render_annotation(report, pick)).collect()
}

/// Returns all subjects of annotations: first the worst finding of every check, then the second worst, and so on.
fn rank_subjects<'a>(
    report: &'a ValidateReport,
    findings: &'a FindingsByCheck,
) -> Vec<AnnotationSubject<'a>> {
    let failed = report.checks.iter().filter(|check| check.outcome == CheckOutcome::Failed);
    let rows: Vec<Vec<AnnotationSubject<'_>>> = failed
        .map(|check| {
            let found = findings.get(&check.name).map_or(&[][..], Vec::as_slice);
            let mut found: Vec<&FileFinding> = found.iter().collect();
            found.sort_by_key(|finding| finding.level);
            let picks = found
                .into_iter()
                .map(|finding| AnnotationSubject { check, finding: Some(finding) });
            let picks: Vec<AnnotationSubject<'_>> = picks.collect();
            if picks.is_empty() { vec![AnnotationSubject { check, finding: None }] } else { picks }
        })
        .collect();
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|round| rows.iter().filter_map(move |row| row.get(round)))
        .copied()
        .collect()
}

fn render_annotation(report: &ValidateReport, pick: &AnnotationSubject<'_>) -> String {
    let AnnotationSubject { check, finding } = pick;
    let name = to_one_line(&check.name);
    let mut properties = Vec::new();
    let (title, message) = match finding {
        Some(finding) => {
            properties.push(("file", finding.path.clone()));
            properties.extend(finding.line.map(|line| ("line", line.to_string())));
            let column = finding.column.filter(|_| finding.line.is_some());
            properties.extend(column.map(|column| ("col", column.to_string())));
            (name, prefix_level(finding))
        }
        None => {
            let line = check.line.map(|line| ("line", line.to_string()));
            if let Some(config) = &report.config {
                properties.push(("file", config.clone()));
                properties.extend(line);
            }
            let output = sanitize_text(&check.output);
            let output = truncate_middle(output.trim_end(), MAX_ANNOTATION_OUTPUT);
            let reason = to_one_line(&check.reason);
            let message = if output.is_empty() { reason } else { format!("{reason}\n\n{output}") };
            (format!("{name} failed"), message)
        }
    };
    properties.push(("title", title));
    let properties: Vec<String> = properties
        .iter()
        .map(|(name, value)| format!("{name}={}", escape_property(value)))
        .collect();
    format!("::error {}::{}\n", properties.join(","), escape_data(&message))
}

/// Returns the message of a finding, with its severity unless that is `error`.
fn prefix_level(finding: &FileFinding) -> String {
    let message = sanitize_text(&finding.message);
    match finding.level {
        FindingLevel::Error => message,
        level => format!("{}: {message}", level.name()),
    }
}

/// Escapes the message of a workflow command.
fn escape_data(text: &str) -> String {
    let text = sanitize_text(text);
    let text = if text.trim().is_empty() { "unknown reason" } else { text.as_str() };
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property of a workflow command.
fn escape_property(text: &str) -> String {
    let text = sanitize_text(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    text.replace(':', "%3A").replace(',', "%2C")
}

/// Renders the job summary as Markdown.
#[must_use]
pub fn render_step_summary(report: &ValidateReport, findings: &FindingsByCheck) -> String {
    let mut page =
        BoundedText { text: String::new(), max_bytes: MAX_SUMMARY_BYTES - RESERVED_BYTES };
    page.push_whole(&render_head(report));
    let mut left_out = Vec::new();
    let rows = push_table(report, &mut page);
    if rows > 0 {
        left_out.push(format!("{} of the table", pluralize(rows, "row")));
    }
    let list = render_list(report, findings, &mut left_out);
    page.max_bytes -= list.len();
    let outputs = push_outputs(report, &mut page);
    page.max_bytes += list.len();
    page.push_whole(&list);
    if outputs > 0 {
        left_out.push(format!("the output of {}", pluralize(outputs, "check")));
    }
    if !left_out.is_empty() {
        page.max_bytes += RESERVED_BYTES;
        page.push_whole(&format!(
            "\nLeft out because of the size limit: {}.\n",
            left_out.join("; ")
        ));
    }
    page.text
}

/// A text with a size limit.
struct BoundedText {
    text: String,
    max_bytes: usize,
}

impl BoundedText {
    fn free_bytes(&self) -> usize {
        self.max_bytes.saturating_sub(self.text.len())
    }

    /// Adds a piece completely, or not at all; returns whether it was added.
    fn push_whole(&mut self, piece: &str) -> bool {
        let fits = piece.len() <= self.free_bytes();
        if fits {
            self.text.push_str(piece);
        }
        fits
    }
}

/// Renders the heading, the counts by outcome, and the warnings.
fn render_head(report: &ValidateReport) -> String {
    let is_interrupted =
        report.checks.iter().any(|check| check.outcome == CheckOutcome::Interrupted);
    let answer = match (is_interrupted, report.ok) {
        (true, _) => "was interrupted",
        (false, true) => "passed",
        (false, false) => "failed",
    };
    let mut sums: BTreeMap<CheckOutcome, usize> = BTreeMap::new();
    for check in &report.checks {
        *sums.entry(check.outcome).or_default() += 1;
    }
    let sums: Vec<String> =
        sums.iter().map(|(outcome, sum)| format!("{sum} {}", outcome.name())).collect();
    let sums = if sums.is_empty() { "no checks".to_owned() } else { sums.join(", ") };
    let branch = report.branch.as_ref();
    let branch = branch.map_or(String::new(), |branch| format!(" on {}", escape_cell(branch)));
    let fast = if report.fast { ", checks could be skipped (fast)" } else { "" };
    let dry_run = if report.dry_run { ", nothing was run (dry run)" } else { "" };
    let mut head = format!(
        "## Validation {answer}\n\nRun {}{branch}: {sums}, in {}{fast}{dry_run}.\n",
        escape_cell(&report.run),
        format_duration(report.duration_ms)
    );
    if !report.warnings.is_empty() {
        head.push('\n');
    }
    for warning in report.warnings.iter().take(MAX_WARNINGS) {
        head.push_str(&format!("- Warning: {}\n", escape_cell(warning)));
    }
    if let Some(more) = report.warnings.len().checked_sub(MAX_WARNINGS).filter(|more| *more > 0) {
        head.push_str(&format!("- {} more\n", pluralize(more, "warning")));
    }
    head
}

/// Adds the table of all checks. Returns how many rows did not fit.
fn push_table(report: &ValidateReport, page: &mut BoundedText) -> usize {
    if report.checks.is_empty() {
        return 0;
    }
    let most = page.max_bytes;
    page.max_bytes = page.text.len() + MAX_TABLE_BYTES;
    page.push_whole("\n| check | phase | outcome | time | reason |\n|---|---|---|--:|---|\n");
    let mut missing = 0;
    for check in &report.checks {
        if missing > 0 || !page.push_whole(&render_row(check)) {
            missing += 1;
        }
    }
    page.max_bytes = most;
    missing
}

fn render_row(check: &CheckResult) -> String {
    let outcome = check.outcome.name();
    let outcome =
        if check.outcome.is_good() { outcome.to_owned() } else { format!("**{outcome}**") };
    let (name, phase, reason) =
        (escape_cell(&check.name), escape_cell(&check.phase), escape_cell(&check.reason));
    let time = format_duration(check.duration_ms);
    format!("| {name} | {phase} | {outcome} | {time} | {reason} |\n")
}

/// Adds the output of every failed or interrupted check, with equal room for each if it is scarce. Returns how many
/// did not fit.
fn push_outputs(report: &ValidateReport, page: &mut BoundedText) -> usize {
    let is_told = |check: &&CheckResult| {
        matches!(check.outcome, CheckOutcome::Failed | CheckOutcome::Interrupted)
            && (!check.output.trim().is_empty() || check.fix.is_some())
    };
    let checks: Vec<&CheckResult> = report.checks.iter().filter(is_told).collect();
    let mut missing = 0;
    for (number, check) in checks.iter().enumerate() {
        let share = page.free_bytes() / (checks.len() - number);
        let section = render_section(check, share);
        if section.as_ref().is_none_or(|section| !page.push_whole(section)) {
            missing += 1;
        }
    }
    missing
}

/// Renders the output and the fix of a check, in at most `most` bytes.
fn render_section(check: &CheckResult, most: usize) -> Option<String> {
    if most < MIN_OUTPUT_BYTES {
        return None;
    }
    let outcome = check.outcome.name();
    let mut before = format!("\n### {} {outcome}\n\n", escape_cell(&check.name));
    before.push_str(&format!("Reason: {}\n", escape_cell(&check.reason)));
    if !check.command.is_empty() {
        before.push_str(&format!("\nCommand: {}\n", escape_cell(&check.command)));
    }
    if let Some(fix) = &check.fix {
        let became = match fix.status {
            FixStatus::Advised => "not run",
            FixStatus::Applied => "applied",
            FixStatus::Restored => "did not help, files restored",
            FixStatus::PartlyRestored => "did not help, and not all files could be restored",
        };
        let (command, reason) = (escape_cell(&fix.command), escape_cell(&fix.reason));
        before.push_str(&format!("\nFix ({}, {became}): {command}: {reason}\n", fix.risk));
    }
    let output = sanitize_text(&check.output);
    let output = output.trim_end();
    if output.trim().is_empty() {
        return (before.len() <= most).then_some(before);
    }
    before.push_str("\n<details>\n<summary>Output</summary>\n\n");
    let after = "\n</details>\n";
    let room =
        most.checked_sub(before.len() + after.len()).filter(|room| *room > MIN_OUTPUT_BYTES)?;
    // The fence and the indentation that replaces it need room, too.
    let mut most = room - 2 * MAX_FENCE_CHARS - "\ntext\n\n".len();
    let mut block = fence_text(&truncate_middle(output, most));
    while block.len() > room {
        most /= 2;
        block = fence_text(&truncate_middle(output, most));
    }
    Some(format!("{before}{block}{after}"))
}

/// Renders text in a fence that no line of it can close.
fn fence_text(text: &str) -> String {
    let mut longest = [("`", 0), ("~", 0)];
    for (mark, length) in &mut longest {
        let others = |c: char| !mark.starts_with(c);
        *length = text.split(others).map(str::len).max().unwrap_or(0);
    }
    let (mark, length) =
        if longest[1].1 < longest[0].1 && longest[0].1 > 2 { longest[1] } else { longest[0] };
    let fence = mark.repeat((length + 1).clamp(3, MAX_FENCE_CHARS));
    // A line that is indented by four spaces never closes a fence.
    let text = if length < MAX_FENCE_CHARS { text.to_owned() } else { indent_text(text) };
    format!("{fence}text\n{text}\n{fence}\n")
}

fn indent_text(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Renders the findings without an annotation, by check.
fn render_list(
    report: &ValidateReport,
    findings: &FindingsByCheck,
    left_out: &mut Vec<String>,
) -> String {
    let picks = rank_subjects(report, findings);
    let mut rest: BTreeMap<&str, Vec<&FileFinding>> = BTreeMap::new();
    for pick in picks.iter().skip(MAX_ANNOTATIONS) {
        // A failed check without findings is in the table, with its output below.
        if let Some(finding) = pick.finding {
            rest.entry(pick.check.name.as_str()).or_default().push(finding);
        }
    }
    let mut page = BoundedText { text: String::new(), max_bytes: MAX_LIST_BYTES };
    if !rest.is_empty() {
        page.push_whole("\n### Findings without an annotation\n");
    }
    let mut missing = 0;
    let mut cut_short = 0;
    let mut told = BTreeSet::new();
    for check in report.checks.iter().filter(|check| told.insert(check.name.as_str())) {
        let Some(more) = rest.get(check.name.as_str()) else { continue };
        page.push_whole(&format!("\n{}:\n\n", escape_cell(&check.name)));
        for finding in more {
            if missing > 0 || !page.push_whole(&render_item(finding)) {
                missing += 1;
            }
        }
        if findings.get(&check.name).is_some_and(|found| found.len() >= findings::MAX_FINDINGS) {
            cut_short += 1;
        }
    }
    if missing > 0 {
        left_out.push(format!("{} without an annotation", pluralize(missing, "finding")));
    }
    if cut_short > 0 {
        let taken = pluralize(findings::MAX_FINDINGS, "finding");
        left_out.push(format!("all but the first {taken} of {}", pluralize(cut_short, "check")));
    }
    page.text
}

fn render_item(finding: &FileFinding) -> String {
    let mut place = finding.path.clone();
    for number in [finding.line, finding.column].into_iter().flatten() {
        place.push_str(&format!(":{number}"));
    }
    format!("- {} {}\n", escape_cell(&place), escape_cell(&prefix_level(finding)))
}

/// Escapes a text for a cell, a heading or a list item of Markdown, as one line.
fn escape_cell(text: &str) -> String {
    let mut cell = String::new();
    for c in truncate_chars(&to_one_line(text), MAX_CELL_CHARS).chars() {
        match c {
            '&' => cell.push_str("&amp;"),
            '<' => cell.push_str("&lt;"),
            '>' => cell.push_str("&gt;"),
            // Prevent mentions of users, and formulas.
            '@' => cell.push_str("&#64;"),
            '$' => cell.push_str("&#36;"),
            '\\' | '`' | '|' | '*' | '_' | '~' | '[' | ']' | '#' | '!' => cell.extend(['\\', c]),
            c => cell.push(c),
        }
    }
    cell
}

/// Formats a duration, e.g. `3.1 s` or `2 min 5 s`.
fn format_duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn commands_are_escaped_by_the_rules_of_github() {
        assert_eq!(escape_data("50%\r\n::error::a,b:c"), "50%25%0A::error::a,b:c");
        assert_eq!(escape_property("a%b,c:d\n\x1b[1me\x1b[0m"), "a%25b%2Cc%3Ad%0Ae");
        assert_eq!(escape_data("%0A"), "%250A");
        assert_eq!(escape_data(" \n"), "unknown reason");
    }

    #[test]
    fn nothing_breaks_out_of_a_cell() {
        let text = "a|b\n`c` <img src=x> &amp; [l](u) **b** ~s~ \\| @me $x$ #1";
        expect![[r#"
            a\|b \`c\` &lt;img src=x&gt; &amp;amp; \[l\](u) \*\*b\*\* \~s\~ \\\| &#64;me &#36;x&#36; \#1"#]]
        .assert_eq(&escape_cell(text));
        assert_eq!(escape_cell(&"x".repeat(1_000)).chars().count(), MAX_CELL_CHARS);
    }

    /// Where the fence that a text opens is closed, as CommonMark says: by a line that holds
    /// nothing but as many of the same mark, indented by three spaces at most.
    fn closed_at(block: &str) -> Option<usize> {
        let mut lines = block.lines().enumerate();
        let (_, opening) = lines.next()?;
        let fence = opening.trim_end_matches("text");
        let closes = |line: &str| {
            let bare = line.trim_start_matches(' ');
            let marks = bare.trim_end();
            let is_run = marks.chars().all(|c| fence.starts_with(c));
            line.len() - bare.len() <= 3 && marks.len() >= fence.len() && is_run
        };
        lines.find(|(_, line)| closes(line)).map(|(number, _)| number)
    }

    #[test]
    fn no_output_closes_its_fence() {
        for text in [
            "plain".to_owned(),
            "```\n</details>\n# out".to_owned(),
            "`````".to_owned(),
            "```\n~~~".to_owned(),
            "~~~\n   ```  \n    ````".to_owned(),
            "`".repeat(500),
            format!("{}\n{}\n", "`".repeat(500), "~".repeat(400)),
            format!("{}\n{}", "~".repeat(99), "`".repeat(99)),
        ] {
            let block = fence_text(&text);
            assert_eq!(closed_at(&block), Some(block.lines().count() - 1), "{block}");
        }
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(
            [999, 1_050, 59_999, 61_000].map(format_duration),
            ["999 ms", "1.0 s", "59.9 s", "1 min 1 s"]
        );
    }
}
