//! A validation for GitHub: annotations for the log of a job, and the Markdown of its summary
//! *(pure)*.
//!
//! An annotation is one line whatever its message, and nothing that a check printed becomes a
//! command. The summary shows what a check printed as text: it breaks out neither of a cell nor of
//! its fence. It holds what the annotations leave out, stays below its bound, and says what it
//! leaves out itself.

use std::collections::{BTreeMap, BTreeSet};

use super::count;
use super::findings::{self, Finding, Findings, Level};
use super::plain::{cut, one_line, plain, shortened};
use super::validate::{CheckLine, FixOutcome, Outcome, ValidateReport};

/// How many annotations GitHub takes of a step; it drops the others without a word.
pub const MOST_ANNOTATIONS: usize = 10;

/// How long a summary may be, in bytes. GitHub refuses that of a step if it is over 1 MiB, and the
/// step may have written some of it before.
pub const LONGEST_SUMMARY: usize = 900 << 10;

/// How much of the output an annotation shows that has no place in a file, in bytes. GitHub cuts
/// the whole message at 4,096.
const ANNOTATION_OUTPUT: usize = 2_000;

/// The bytes that the table of checks may take, and the findings without an annotation.
const LONGEST_TABLE: usize = 250 << 10;
const LONGEST_LIST: usize = 250 << 10;

/// The bytes that are kept for saying what was left out.
const LAST_WORDS: usize = 2 << 10;

/// The least that is shown of an output, in bytes, before it is left out altogether.
const LEAST_OUTPUT: usize = 1_000;

/// The longest cell, and the longest message in the list, in characters.
const LONGEST_CELL: usize = 300;

/// How many warnings of the run are shown.
const MOST_WARNINGS: usize = 20;

/// The longest run of a character out of which a fence is built.
const LONGEST_FENCE: usize = 100;

/// What an annotation is about: a finding of a check that failed, or the check itself.
#[derive(Clone, Copy)]
struct Pick<'a> {
    check: &'a CheckLine,
    finding: Option<&'a Finding>,
}

/// The workflow commands that make annotations, a line each: at most ten.
#[must_use]
pub fn annotations(report: &ValidateReport, findings: &Findings) -> String {
    let picks = picks(report, findings);
    picks.iter().take(MOST_ANNOTATIONS).map(|pick| annotation(report, pick)).collect()
}

/// Everything that deserves an annotation, the worst of every check before the rest of one.
fn picks<'a>(report: &'a ValidateReport, findings: &'a Findings) -> Vec<Pick<'a>> {
    let failed = report.checks.iter().filter(|check| check.outcome == Outcome::Failed);
    let rows: Vec<Vec<Pick<'_>>> = failed
        .map(|check| {
            let found = findings.get(&check.name).map_or(&[][..], Vec::as_slice);
            let mut found: Vec<&Finding> = found.iter().collect();
            found.sort_by_key(|finding| finding.level);
            let picks = found.into_iter().map(|finding| Pick { check, finding: Some(finding) });
            let picks: Vec<Pick<'_>> = picks.collect();
            if picks.is_empty() { vec![Pick { check, finding: None }] } else { picks }
        })
        .collect();
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|round| rows.iter().filter_map(move |row| row.get(round)))
        .copied()
        .collect()
}

fn annotation(report: &ValidateReport, pick: &Pick<'_>) -> String {
    let Pick { check, finding } = pick;
    let name = one_line(&check.name);
    let mut properties = Vec::new();
    let (title, message) = match finding {
        Some(finding) => {
            properties.push(("file", finding.path.clone()));
            properties.extend(finding.line.map(|line| ("line", line.to_string())));
            let column = finding.column.filter(|_| finding.line.is_some());
            properties.extend(column.map(|column| ("col", column.to_string())));
            (name, leveled(finding))
        }
        None => {
            let line = check.line.map(|line| ("line", line.to_string()));
            if let Some(config) = &report.config {
                properties.push(("file", config.clone()));
                properties.extend(line);
            }
            let output = plain(&check.output);
            let output = shortened(output.trim_end(), ANNOTATION_OUTPUT);
            let reason = one_line(&check.reason);
            let message = if output.is_empty() { reason } else { format!("{reason}\n\n{output}") };
            (format!("{name} failed"), message)
        }
    };
    properties.push(("title", title));
    let properties: Vec<String> =
        properties.iter().map(|(name, value)| format!("{name}={}", property(value))).collect();
    format!("::error {}::{}\n", properties.join(","), data(&message))
}

/// The message of a finding, with how bad it is unless that goes without saying.
fn leveled(finding: &Finding) -> String {
    let message = plain(&finding.message);
    match finding.level {
        Level::Error => message,
        level => format!("{}: {message}", level.name()),
    }
}

/// The message of a workflow command.
fn data(text: &str) -> String {
    let text = plain(text);
    let text = if text.trim().is_empty() { "no reason is known" } else { text.as_str() };
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property of a workflow command.
fn property(text: &str) -> String {
    let text = plain(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    text.replace(':', "%3A").replace(',', "%2C")
}

/// The Markdown of the summary of a job.
#[must_use]
pub fn step_summary(report: &ValidateReport, findings: &Findings) -> String {
    let mut page = Page { text: String::new(), most: LONGEST_SUMMARY - LAST_WORDS };
    page.push(&head(report));
    let mut left_out = Vec::new();
    let rows = table(report, &mut page);
    if rows > 0 {
        left_out.push(format!("{} of the table", count(rows, "row")));
    }
    let list = list(report, findings, &mut left_out);
    page.most -= list.len();
    let outputs = outputs(report, &mut page);
    page.most += list.len();
    page.push(&list);
    if outputs > 0 {
        left_out.push(format!("the output of {}", count(outputs, "check")));
    }
    if !left_out.is_empty() {
        page.most += LAST_WORDS;
        page.push(&format!("\nLeft out, to keep this short enough: {}.\n", left_out.join("; ")));
    }
    page.text
}

/// Text with a bound.
struct Page {
    text: String,
    most: usize,
}

impl Page {
    fn room(&self) -> usize {
        self.most.saturating_sub(self.text.len())
    }

    /// Adds a piece whole, or not at all.
    fn push(&mut self, piece: &str) -> bool {
        let fits = piece.len() <= self.room();
        if fits {
            self.text.push_str(piece);
        }
        fits
    }
}

/// The answer, how many checks ended how, and what the user should know.
fn head(report: &ValidateReport) -> String {
    let is_interrupted = report.checks.iter().any(|check| check.outcome == Outcome::Interrupted);
    let answer = match (is_interrupted, report.ok) {
        (true, _) => "was interrupted",
        (false, true) => "passed",
        (false, false) => "failed",
    };
    let mut sums: BTreeMap<Outcome, usize> = BTreeMap::new();
    for check in &report.checks {
        *sums.entry(check.outcome).or_default() += 1;
    }
    let sums: Vec<String> =
        sums.iter().map(|(outcome, sum)| format!("{sum} {}", outcome.name())).collect();
    let sums = if sums.is_empty() { "nothing to check".to_owned() } else { sums.join(", ") };
    let branch = report.branch.as_ref();
    let branch = branch.map_or(String::new(), |branch| format!(" on {}", cell(branch)));
    let fast = if report.fast { ", checks could be skipped (fast)" } else { "" };
    let dry_run = if report.dry_run { ", nothing was run (dry run)" } else { "" };
    let mut head = format!(
        "## Validation {answer}\n\nRun {}{branch}: {sums}, in {}{fast}{dry_run}.\n",
        cell(&report.run),
        time(report.duration_ms)
    );
    if !report.warnings.is_empty() {
        head.push('\n');
    }
    for warning in report.warnings.iter().take(MOST_WARNINGS) {
        head.push_str(&format!("- Warning: {}\n", cell(warning)));
    }
    if let Some(more) = report.warnings.len().checked_sub(MOST_WARNINGS).filter(|more| *more > 0) {
        head.push_str(&format!("- {} more\n", count(more, "warning")));
    }
    head
}

/// Adds the table of all checks; answers how many rows had no room.
fn table(report: &ValidateReport, page: &mut Page) -> usize {
    if report.checks.is_empty() {
        return 0;
    }
    let most = page.most;
    page.most = page.text.len() + LONGEST_TABLE;
    page.push("\n| check | phase | outcome | time | reason |\n|---|---|---|--:|---|\n");
    let mut missing = 0;
    for check in &report.checks {
        if missing > 0 || !page.push(&row(check)) {
            missing += 1;
        }
    }
    page.most = most;
    missing
}

fn row(check: &CheckLine) -> String {
    let outcome = check.outcome.name();
    let outcome =
        if check.outcome.is_good() { outcome.to_owned() } else { format!("**{outcome}**") };
    let (name, phase, reason) = (cell(&check.name), cell(&check.phase), cell(&check.reason));
    let time = time(check.duration_ms);
    format!("| {name} | {phase} | {outcome} | {time} | {reason} |\n")
}

/// Adds the output of every check that failed or was interrupted, with equal room for each where
/// there is not enough for all; answers how many had none.
fn outputs(report: &ValidateReport, page: &mut Page) -> usize {
    let is_told = |check: &&CheckLine| {
        matches!(check.outcome, Outcome::Failed | Outcome::Interrupted)
            && (!check.output.trim().is_empty() || check.fix.is_some())
    };
    let checks: Vec<&CheckLine> = report.checks.iter().filter(is_told).collect();
    let mut missing = 0;
    for (number, check) in checks.iter().enumerate() {
        let share = page.room() / (checks.len() - number);
        let section = section(check, share);
        if section.as_ref().is_none_or(|section| !page.push(section)) {
            missing += 1;
        }
    }
    missing
}

/// What a check printed and what became of its fix, in at most so many bytes.
fn section(check: &CheckLine, most: usize) -> Option<String> {
    if most < LEAST_OUTPUT {
        return None;
    }
    let outcome = check.outcome.name();
    let mut before = format!("\n### {} {outcome}\n\n", cell(&check.name));
    before.push_str(&format!("Reason: {}\n", cell(&check.reason)));
    if !check.command.is_empty() {
        before.push_str(&format!("\nCommand: {}\n", cell(&check.command)));
    }
    if let Some(fix) = &check.fix {
        let became = match fix.outcome {
            FixOutcome::Advised => "not run",
            FixOutcome::Applied => "applied",
            FixOutcome::Restored => "did not help, the files were put back",
            FixOutcome::Left => "did not help, and not all files could be put back",
        };
        let (command, reason) = (cell(&fix.command), cell(&fix.reason));
        before.push_str(&format!("\nFix ({}, {became}): {command}: {reason}\n", fix.risk));
    }
    let output = plain(&check.output);
    let output = output.trim_end();
    if output.trim().is_empty() {
        return (before.len() <= most).then_some(before);
    }
    before.push_str("\n<details>\n<summary>Output</summary>\n\n");
    let after = "\n</details>\n";
    let room = most.checked_sub(before.len() + after.len()).filter(|room| *room > LEAST_OUTPUT)?;
    // A fence and the indentation that replaces it take room of their own.
    let mut most = room - 2 * LONGEST_FENCE - "\ntext\n\n".len();
    let mut block = fenced(&shortened(output, most));
    while block.len() > room {
        most /= 2;
        block = fenced(&shortened(output, most));
    }
    Some(format!("{before}{block}{after}"))
}

/// Text in a fence that no line of it can close.
fn fenced(text: &str) -> String {
    let mut longest = [("`", 0), ("~", 0)];
    for (mark, length) in &mut longest {
        let others = |c: char| !mark.starts_with(c);
        *length = text.split(others).map(str::len).max().unwrap_or(0);
    }
    let (mark, length) =
        if longest[1].1 < longest[0].1 && longest[0].1 > 2 { longest[1] } else { longest[0] };
    let fence = mark.repeat((length + 1).clamp(3, LONGEST_FENCE));
    // A line that is indented by four spaces closes no fence, however long its run of marks is.
    let text = if length < LONGEST_FENCE { text.to_owned() } else { indented(text) };
    format!("{fence}text\n{text}\n{fence}\n")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// The findings that have no annotation, by check.
fn list(report: &ValidateReport, findings: &Findings, left_out: &mut Vec<String>) -> String {
    let picks = picks(report, findings);
    let mut rest: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for pick in picks.iter().skip(MOST_ANNOTATIONS) {
        // A failed check without findings is in the table, and its output below it.
        if let Some(finding) = pick.finding {
            rest.entry(pick.check.name.as_str()).or_default().push(finding);
        }
    }
    let mut page = Page { text: String::new(), most: LONGEST_LIST };
    if !rest.is_empty() {
        page.push("\n### Findings without an annotation\n");
    }
    let mut missing = 0;
    let mut cut_short = 0;
    let mut told = BTreeSet::new();
    for check in report.checks.iter().filter(|check| told.insert(check.name.as_str())) {
        let Some(more) = rest.get(check.name.as_str()) else { continue };
        page.push(&format!("\n{}:\n\n", cell(&check.name)));
        for finding in more {
            if missing > 0 || !page.push(&item(finding)) {
                missing += 1;
            }
        }
        if findings.get(&check.name).is_some_and(|found| found.len() >= findings::MOST) {
            cut_short += 1;
        }
    }
    if missing > 0 {
        left_out.push(format!("{} without an annotation", count(missing, "finding")));
    }
    if cut_short > 0 {
        let taken = count(findings::MOST, "finding");
        left_out.push(format!("all but the first {taken} of {}", count(cut_short, "check")));
    }
    page.text
}

fn item(finding: &Finding) -> String {
    let mut place = finding.path.clone();
    for number in [finding.line, finding.column].into_iter().flatten() {
        place.push_str(&format!(":{number}"));
    }
    format!("- {} {}\n", cell(&place), cell(&leveled(finding)))
}

/// A text for a cell, a heading or a line of Markdown: one line that says what it says.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for c in cut(&one_line(text), LONGEST_CELL).chars() {
        match c {
            '&' => cell.push_str("&amp;"),
            '<' => cell.push_str("&lt;"),
            '>' => cell.push_str("&gt;"),
            // No mention of a person, and no formula.
            '@' => cell.push_str("&#64;"),
            '$' => cell.push_str("&#36;"),
            '\\' | '`' | '|' | '*' | '_' | '~' | '[' | ']' | '#' | '!' => cell.extend(['\\', c]),
            c => cell.push(c),
        }
    }
    cell
}

/// A time for people.
fn time(milliseconds: u64) -> String {
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
        assert_eq!(data("50%\r\n::error::a,b:c"), "50%25%0A::error::a,b:c");
        assert_eq!(property("a%b,c:d\n\x1b[1me\x1b[0m"), "a%25b%2Cc%3Ad%0Ae");
        assert_eq!(data("%0A"), "%250A");
        assert_eq!(data(" \n"), "no reason is known");
    }

    #[test]
    fn nothing_breaks_out_of_a_cell() {
        let text = "a|b\n`c` <img src=x> &amp; [l](u) **b** ~s~ \\| @me $x$ #1";
        expect![[r#"
            a\|b \`c\` &lt;img src=x&gt; &amp;amp; \[l\](u) \*\*b\*\* \~s\~ \\\| &#64;me &#36;x&#36; \#1"#]]
        .assert_eq(&cell(text));
        assert_eq!(cell(&"x".repeat(1_000)).chars().count(), LONGEST_CELL);
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
            let block = fenced(&text);
            assert_eq!(closed_at(&block), Some(block.lines().count() - 1), "{block}");
        }
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(
            [999, 1_050, 59_999, 61_000].map(time),
            ["999 ms", "1.0 s", "59.9 s", "1 min 1 s"]
        );
    }
}
