//! The report of a validation as JUnit XML, for continuous integration *(pure)*.
//!
//! A phase is a test suite, a check a test case. The XML is always well-formed and valid against `junit-10.xsd` of
//! Jenkins, whatever the checks printed. For example, a failed check becomes:
//!
//! ```xml
//! <testcase name="lint" classname="validate.code" time="1.200">
//!   <failure type="failed" message="exit code 1">src/app.rs:12:5: …</failure>
//! </testcase>
//! ```
//!
//! | outcome | test case |
//! |---|---|
//! | passed, fixed | passed; the fix is in `system-out` |
//! | cached | passed; `system-out` says that it did not run |
//! | failed | `failure`, with the output |
//! | blocked, interrupted | `error`: it may or may not pass, so it is not green |
//! | left out, planned | `skipped` |

use std::collections::BTreeMap;
use std::io;

use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::writer::Writer;

use super::ValidateReport;
use super::sanitize::{sanitize_text, to_one_line, truncate_middle};
use crate::outcome::{CheckOutcome, CheckResult};

/// The longest output of a check, in bytes; readers hold the whole file in memory.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Renders the report as JUnit XML.
#[must_use]
pub fn render_junit(report: &ValidateReport) -> String {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    write_report(&mut writer, report).expect("because writing into memory does not fail");
    let mut bytes = writer.into_inner();
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("because only text was written")
}

type XmlWriter = Writer<Vec<u8>>;

fn write_report(xml: &mut XmlWriter, report: &ValidateReport) -> io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all: Vec<&CheckResult> = report.checks.iter().collect();
    let sums = OutcomeCounts::count_outcomes(&all);
    xml.create_element("testsuites")
        .with_attribute(("name", "xtask validate"))
        .with_attribute(("tests", sums.tests.as_str()))
        .with_attribute(("failures", sums.failures.as_str()))
        .with_attribute(("errors", sums.errors.as_str()))
        .with_attribute(("time", format_seconds(report.duration_ms).as_str()))
        .write_inner_content(|xml| {
            group_by_phase(&all)
                .into_iter()
                .try_for_each(|(phase, checks)| write_suite(xml, report, phase, &checks))
        })?;
    Ok(())
}

/// Groups the checks by phase, in the order in which the phases first appear.
fn group_by_phase<'a>(checks: &[&'a CheckResult]) -> Vec<(&'a str, Vec<&'a CheckResult>)> {
    let mut places = BTreeMap::new();
    let mut phases: Vec<(&str, Vec<&CheckResult>)> = Vec::new();
    for check in checks {
        let phase = check.phase.as_str();
        let place = *places.entry(phase).or_insert(phases.len());
        if place == phases.len() {
            phases.push((phase, Vec::new()));
        }
        phases[place].1.push(check);
    }
    phases
}

/// The number of checks with each result, as text.
struct OutcomeCounts {
    tests: String,
    failures: String,
    errors: String,
    skipped: String,
}

impl OutcomeCounts {
    fn count_outcomes(checks: &[&CheckResult]) -> OutcomeCounts {
        let count = |outcomes: &[CheckOutcome]| {
            checks.iter().filter(|check| outcomes.contains(&check.outcome)).count().to_string()
        };
        OutcomeCounts {
            tests: checks.len().to_string(),
            failures: count(&[CheckOutcome::Failed]),
            errors: count(&[CheckOutcome::Blocked, CheckOutcome::Interrupted]),
            skipped: count(&[CheckOutcome::LeftOut, CheckOutcome::Planned]),
        }
    }
}

fn write_suite(
    xml: &mut XmlWriter,
    report: &ValidateReport,
    phase: &str,
    checks: &[&CheckResult],
) -> io::Result<()> {
    let sums = OutcomeCounts::count_outcomes(checks);
    let time = checks.iter().fold(0_u64, |sum, check| sum.saturating_add(check.duration_ms));
    let phase = to_one_line(phase);
    xml.create_element("testsuite")
        .with_attribute(("name", phase.as_str()))
        .with_attribute(("tests", sums.tests.as_str()))
        .with_attribute(("failures", sums.failures.as_str()))
        .with_attribute(("errors", sums.errors.as_str()))
        .with_attribute(("skipped", sums.skipped.as_str()))
        .with_attribute(("time", format_seconds(time).as_str()))
        .with_attribute(("timestamp", to_one_line(&report.started).as_str()))
        .write_inner_content(|xml| {
            write_properties(xml, report)?;
            checks.iter().try_for_each(|check| write_case(xml, &phase, check))
        })?;
    Ok(())
}

fn write_properties(xml: &mut XmlWriter, report: &ValidateReport) -> io::Result<()> {
    let fast = if report.fast { "yes" } else { "no" };
    let dry_run = if report.dry_run { "yes" } else { "no" };
    let mut properties = vec![("run", report.run.as_str()), ("fast", fast), ("dry-run", dry_run)];
    properties.extend(report.branch.as_deref().map(|branch| ("branch", branch)));
    xml.create_element("properties").write_inner_content(|xml| {
        for (name, value) in &properties {
            xml.create_element("property")
                .with_attribute(("name", *name))
                .with_attribute(("value", to_one_line(value).as_str()))
                .write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_case(xml: &mut XmlWriter, phase: &str, check: &CheckResult) -> io::Result<()> {
    let result = match check.outcome {
        CheckOutcome::Passed | CheckOutcome::Cached | CheckOutcome::Fixed => None,
        CheckOutcome::Failed => Some("failure"),
        CheckOutcome::Blocked | CheckOutcome::Interrupted => Some("error"),
        CheckOutcome::LeftOut | CheckOutcome::Planned => Some("skipped"),
    };
    let output = truncate_middle(&sanitize_text(&check.output), MAX_OUTPUT_BYTES);
    xml.create_element("testcase")
        .with_attribute(("name", to_one_line(&check.name).as_str()))
        .with_attribute(("classname", format!("validate.{phase}").as_str()))
        .with_attribute(("time", format_seconds(check.duration_ms).as_str()))
        .write_inner_content(|xml| {
            if let Some(element) = result {
                let element = xml
                    .create_element(element)
                    .with_attribute(("type", check.outcome.name()))
                    .with_attribute(("message", to_one_line(&check.reason).as_str()));
                // Readers show the text of a failure, but only the message of other elements.
                if check.outcome == CheckOutcome::Failed && !output.trim().is_empty() {
                    element.write_text_content(BytesText::new(&output))?;
                } else {
                    element.write_empty()?;
                }
            }
            let about = describe_check(check);
            let is_told = check.outcome == CheckOutcome::Failed;
            let output = if is_told { "" } else { output.as_str() };
            let text = format!("{about}{output}");
            if !text.trim().is_empty() {
                xml.create_element("system-out").write_text_content(BytesText::new(&text))?;
            }
            Ok(())
        })?;
    Ok(())
}

/// Returns facts about a check other than its output, one line each.
fn describe_check(check: &CheckResult) -> String {
    let mut lines = Vec::new();
    match check.outcome {
        CheckOutcome::Cached => lines.push(format!("cached, did not run: {}", check.reason)),
        CheckOutcome::Fixed => lines.push(format!("fixed: {}", check.reason)),
        _ => {}
    }
    if let Some(fix) = &check.fix {
        lines.push(format!("fix ({}): {}: {}", fix.risk, fix.command, fix.reason));
    }
    lines.extend(check.notes.iter().map(|note| format!("note: {note}")));
    lines.iter().map(|line| to_one_line(line) + "\n").collect()
}

/// Formats milliseconds as seconds with three decimals, e.g. `1.200`.
fn format_seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_decimals() {
        let times = [0, 7, 1_000, 61_020, u64::MAX].map(format_seconds);
        assert_eq!(times, ["0.000", "0.007", "1.000", "61.020", "18446744073709551.615"]);
    }
}
