//! The report of a validation as SARIF 2.1.0, for code scanning *(pure)*.
//!
//! Every check is a rule. A failed check has a result for each of its findings, or, without findings, one at the line
//! of the configuration that defines it; so has a blocked check. Checks that passed, were left out or were
//! interrupted have none. An interruption makes `executionSuccessful` false, so that missing results are not taken
//! for fixed ones. For example:
//!
//! ```json
//! { "ruleId": "lint", "level": "error", "message": { "text": "unused variable" }, "locations": […] }
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::ValidateReport;
use super::findings::{FileFinding, FindingLevel, FindingsByCheck};
use super::sanitize::{sanitize_text, to_one_line, truncate_middle};
use crate::outcome::{CheckOutcome, CheckResult};

/// How many results are written; code scanning refuses files with more.
const MAX_RESULTS: usize = 25_000;

/// How much of the output is in a result without a finding, in bytes.
const MAX_OUTPUT_BYTES: usize = 4_000;

/// The file that defines the checks.
const CHECKS_FILE: &str = "setup/validate.toml";

/// The published URL of the schema.
const SCHEMA_URL: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json";

/// Renders the report as SARIF, with a line feed at the end.
#[must_use]
pub fn render_sarif(report: &ValidateReport, findings: &FindingsByCheck) -> String {
    let log =
        SarifLog { schema: SCHEMA_URL, version: "2.1.0", runs: [build_run(report, findings)] };
    serde_json::to_string_pretty(&log).expect("because it holds nothing that JSON cannot") + "\n"
}

fn build_run(report: &ValidateReport, findings: &FindingsByCheck) -> SarifRun {
    let mut places = BTreeMap::new();
    let mut rules = Vec::new();
    for check in &report.checks {
        places.entry(check.name.as_str()).or_insert_with(|| {
            rules.push(build_rule(check));
            rules.len() - 1
        });
    }
    let mut results = Vec::new();
    for check in &report.checks {
        let rule = places[check.name.as_str()];
        let found = findings.get(&check.name).map_or(&[][..], Vec::as_slice);
        match check.outcome {
            CheckOutcome::Failed if !found.is_empty() => {
                results.extend(found.iter().map(|finding| result_at_finding(check, rule, finding)));
            }
            CheckOutcome::Failed | CheckOutcome::Blocked => {
                results.push(result_at_definition(report, check, rule))
            }
            _ => {}
        }
    }
    let invocation = build_invocation(report, results.len().saturating_sub(MAX_RESULTS));
    results.truncate(MAX_RESULTS);
    let version = env!("CARGO_PKG_VERSION");
    SarifRun {
        tool: Tool { driver: Driver { name: "xtask validate", semantic_version: version, rules } },
        automation_details: AutomationDetails { id: "xtask-validate/" },
        invocations: [invocation],
        column_kind: "unicodeCodePoints",
        results,
    }
}

fn build_rule(check: &CheckResult) -> Rule {
    let does = to_one_line(&check.command);
    let name = to_one_line(&check.name);
    let text = if does.is_empty() { format!("the check {name}") } else { does };
    let help = check
        .fix
        .as_ref()
        .map(|fix| Message { text: format!("fix ({}): {}", fix.risk, to_one_line(&fix.command)) });
    Rule {
        id: name,
        short_description: Message { text },
        help,
        default_configuration: ReportingConfiguration { level: "error" },
        properties: Properties { tags: [to_one_line(&check.phase)] },
    }
}

fn result_at_finding(check: &CheckResult, rule: usize, finding: &FileFinding) -> SarifResult {
    let region = finding.line.map(|line| Region { start_line: line, start_column: finding.column });
    SarifResult {
        rule_id: to_one_line(&check.name),
        rule_index: rule,
        level: finding.level,
        message: Message { text: sanitize_text(&finding.message) },
        locations: vec![build_location(&finding.path, region)],
    }
}

fn result_at_definition(report: &ValidateReport, check: &CheckResult, rule: usize) -> SarifResult {
    let name = to_one_line(&check.name);
    let mut text = format!("{name} {}: {}", check.outcome.name(), to_one_line(&check.reason));
    let output = sanitize_text(&check.output);
    if check.outcome == CheckOutcome::Failed && !output.trim().is_empty() {
        text = format!("{text}\n\n{}", truncate_middle(output.trim_end(), MAX_OUTPUT_BYTES));
    }
    let line = check.line.filter(|line| *line > 0);
    let region = line.map(|line| Region { start_line: line as u64, start_column: None });
    SarifResult {
        rule_id: name,
        rule_index: rule,
        level: FindingLevel::Error,
        message: Message { text },
        // Code scanning requires a location; without a configuration file this is where it would be.
        locations: vec![match &report.config {
            Some(config) => build_location(config, region),
            None => build_location(CHECKS_FILE, Some(Region { start_line: 1, start_column: None })),
        }],
    }
}

fn build_location(path: &str, region: Option<Region>) -> Location {
    let artifact_location = ArtifactLocation { uri: encode_uri(path), uri_base_id: "%SRCROOT%" };
    Location { physical_location: PhysicalLocation { artifact_location, region } }
}

/// Encodes a path as a relative URI reference, e.g. `my%20file`.
fn encode_uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

fn build_invocation(report: &ValidateReport, results_left_out: usize) -> Invocation {
    let started = report.started.parse::<Timestamp>().ok();
    let duration = Duration::from_millis(report.duration_ms);
    let ended = started.and_then(|started| started.checked_add(duration).ok());
    let interrupted = report
        .checks
        .iter()
        .filter(|check| check.outcome == CheckOutcome::Interrupted)
        .map(|check| {
            let text =
                format!("{} interrupted: {}", to_one_line(&check.name), to_one_line(&check.reason));
            Notification { level: FindingLevel::Error, message: Message { text } }
        });
    let warnings = report.warnings.iter().map(|warning| Notification {
        level: FindingLevel::Warning,
        message: Message { text: sanitize_text(warning) },
    });
    let left_out = (results_left_out > 0).then(|| Notification {
        level: FindingLevel::Warning,
        message: Message { text: format!("{results_left_out} results were left out") },
    });
    let is_interrupted =
        report.checks.iter().any(|check| check.outcome == CheckOutcome::Interrupted);
    Invocation {
        execution_successful: !is_interrupted,
        start_time_utc: started.map(|time| time.to_string()),
        end_time_utc: ended.map(|time| time.to_string()),
        tool_execution_notifications: interrupted.chain(warnings).chain(left_out).collect(),
    }
}

#[derive(Serialize)]
struct SarifLog {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [SarifRun; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifRun {
    tool: Tool,
    automation_details: AutomationDetails,
    invocations: [Invocation; 1],
    column_kind: &'static str,
    results: Vec<SarifResult>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    semantic_version: &'static str,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
struct AutomationDetails {
    id: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    short_description: Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<Message>,
    default_configuration: ReportingConfiguration,
    properties: Properties,
}

#[derive(Serialize)]
struct ReportingConfiguration {
    level: &'static str,
}

#[derive(Serialize)]
struct Properties {
    tags: [String; 1],
}

#[derive(Serialize)]
struct Message {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult {
    rule_id: String,
    rule_index: usize,
    level: FindingLevel,
    message: Message,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locations: Vec<Location>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactLocation {
    uri: String,
    uri_base_id: &'static str,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_column: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time_utc: Option<String>,
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: FindingLevel,
    message: Message,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        for (path, expected) in [
            ("src/a.rs", "src/a.rs"),
            ("a b%c#d?e.rs", "a%20b%25c%23d%3Fe.rs"),
            ("c:x/ä", "c%3Ax/%C3%A4"),
            ("a~_-.\"<>\\^`{|}", "a~_-.%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ] {
            assert_eq!(encode_uri(path), expected);
        }
    }
}
