//! A validation as SARIF 2.1.0, for code scanning *(pure)*.
//!
//! Every check is a rule. A check that failed gives a result for each of its findings, or, without
//! any, one at the line of the configuration that defines it; so does one that was blocked. Checks
//! that passed, in whatever way, were left out or were interrupted give none; an interruption makes
//! the whole run unsuccessful, so that what is missing here is not taken for mended.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::findings::{Finding, Findings, Level};
use super::plain::{one_line, plain, shortened};
use super::validate::{CheckLine, Outcome, ValidateReport};

/// How many results are written; code scanning refuses a file with more.
const MOST_RESULTS: usize = 25_000;

/// How much of the output stands in a result that has no place in a file, in bytes.
const MOST_OUTPUT: usize = 4_000;

/// Where checks are defined.
const CHECKS: &str = "setup/validate.toml";

/// Where the schema is published.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json";

/// The report as SARIF, with a line feed at its end.
#[must_use]
pub fn sarif(report: &ValidateReport, findings: &Findings) -> String {
    let log = Log { schema: SCHEMA, version: "2.1.0", runs: [run(report, findings)] };
    serde_json::to_string_pretty(&log).expect("because it holds nothing that JSON cannot") + "\n"
}

fn run(report: &ValidateReport, findings: &Findings) -> Run {
    let mut places = BTreeMap::new();
    let mut rules = Vec::new();
    for check in &report.checks {
        places.entry(check.name.as_str()).or_insert_with(|| {
            rules.push(rule(check));
            rules.len() - 1
        });
    }
    let mut results = Vec::new();
    for check in &report.checks {
        let rule = places[check.name.as_str()];
        let found = findings.get(&check.name).map_or(&[][..], Vec::as_slice);
        match check.outcome {
            Outcome::Failed if !found.is_empty() => {
                results.extend(found.iter().map(|finding| at_finding(check, rule, finding)));
            }
            Outcome::Failed | Outcome::Blocked => results.push(at_definition(report, check, rule)),
            _ => {}
        }
    }
    let invocation = invocation(report, results.len().saturating_sub(MOST_RESULTS));
    results.truncate(MOST_RESULTS);
    let version = env!("CARGO_PKG_VERSION");
    Run {
        tool: Tool { driver: Driver { name: "xtask validate", semantic_version: version, rules } },
        automation_details: Automation { id: "xtask-validate/" },
        invocations: [invocation],
        column_kind: "unicodeCodePoints",
        results,
    }
}

fn rule(check: &CheckLine) -> Rule {
    let does = one_line(&check.command);
    let name = one_line(&check.name);
    let text = if does.is_empty() { format!("the check {name}") } else { does };
    let help = check
        .fix
        .as_ref()
        .map(|fix| Message { text: format!("fix ({}): {}", fix.risk, one_line(&fix.command)) });
    Rule {
        id: name,
        short_description: Message { text },
        help,
        default_configuration: Configuration { level: "error" },
        properties: Properties { tags: [one_line(&check.phase)] },
    }
}

fn at_finding(check: &CheckLine, rule: usize, finding: &Finding) -> RunResult {
    let region = finding.line.map(|line| Region { start_line: line, start_column: finding.column });
    RunResult {
        rule_id: one_line(&check.name),
        rule_index: rule,
        level: finding.level,
        message: Message { text: plain(&finding.message) },
        locations: vec![location(&finding.path, region)],
    }
}

fn at_definition(report: &ValidateReport, check: &CheckLine, rule: usize) -> RunResult {
    let name = one_line(&check.name);
    let mut text = format!("{name} {}: {}", check.outcome.name(), one_line(&check.reason));
    let output = plain(&check.output);
    if check.outcome == Outcome::Failed && !output.trim().is_empty() {
        text = format!("{text}\n\n{}", shortened(output.trim_end(), MOST_OUTPUT));
    }
    let line = check.line.filter(|line| *line > 0);
    let region = line.map(|line| Region { start_line: line as u64, start_column: None });
    RunResult {
        rule_id: name,
        rule_index: rule,
        level: Level::Error,
        message: Message { text },
        // Code scanning takes no result without one; where no file defines the check, it would be this one.
        locations: vec![match &report.config {
            Some(config) => location(config, region),
            None => location(CHECKS, Some(Region { start_line: 1, start_column: None })),
        }],
    }
}

fn location(path: &str, region: Option<Region>) -> Location {
    let artifact_location = Artifact { uri: uri(path), uri_base_id: "%SRCROOT%" };
    Location { physical_location: Physical { artifact_location, region } }
}

/// A path as the relative reference of a URI.
fn uri(path: &str) -> String {
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

fn invocation(report: &ValidateReport, results_left_out: usize) -> Invocation {
    let started = report.started.parse::<Timestamp>().ok();
    let duration = Duration::from_millis(report.duration_ms);
    let ended = started.and_then(|started| started.checked_add(duration).ok());
    let interrupted =
        report.checks.iter().filter(|check| check.outcome == Outcome::Interrupted).map(|check| {
            let text =
                format!("{} interrupted: {}", one_line(&check.name), one_line(&check.reason));
            Notification { level: Level::Error, message: Message { text } }
        });
    let warnings = report.warnings.iter().map(|warning| Notification {
        level: Level::Warning,
        message: Message { text: plain(warning) },
    });
    let left_out = (results_left_out > 0).then(|| Notification {
        level: Level::Warning,
        message: Message { text: format!("{results_left_out} results were left out") },
    });
    let is_interrupted = report.checks.iter().any(|check| check.outcome == Outcome::Interrupted);
    Invocation {
        execution_successful: !is_interrupted,
        start_time_utc: started.map(|time| time.to_string()),
        end_time_utc: ended.map(|time| time.to_string()),
        tool_execution_notifications: interrupted.chain(warnings).chain(left_out).collect(),
    }
}

#[derive(Serialize)]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    automation_details: Automation,
    invocations: [Invocation; 1],
    column_kind: &'static str,
    results: Vec<RunResult>,
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
struct Automation {
    id: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    short_description: Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<Message>,
    default_configuration: Configuration,
    properties: Properties,
}

#[derive(Serialize)]
struct Configuration {
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
struct RunResult {
    rule_id: String,
    rule_index: usize,
    level: Level,
    message: Message,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locations: Vec<Location>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Physical,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
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
    level: Level,
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
            assert_eq!(uri(path), expected);
        }
    }
}
