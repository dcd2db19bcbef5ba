//! What `validate` writes for other programs: the very text for every outcome, and the rules of GitHub for texts
//! that try to break out. Whether the documents are valid by the schemas of their formats is for programs that
//! exist: `xmllint` where it is installed, and in the exhaustive circle a crate.

#[path = "../testkit/xml.rs"]
mod xml;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use expect_test::expect;
use serde_json::{Value, json};
use xtask_validate::outcome::{
    CheckNote, CheckOutcome, CheckResult, CheckedState, FixResult, FixStatus,
};
use xtask_validate::report::ValidateReport;
use xtask_validate::report::findings::{self, FileFinding, FindingLevel, FindingsByCheck};
use xtask_validate::report::github::{
    MAX_ANNOTATIONS, MAX_SUMMARY_BYTES, render_annotations, render_step_summary,
};
use xtask_validate::report::junit::render_junit;
use xtask_validate::report::sanitize::sanitize_text;
use xtask_validate::report::sarif::render_sarif;

use crate::builds::homes;
use crate::testkit::{Lab, circle, snapshot, write_script};
use xml::Element;

const OUTCOMES: [CheckOutcome; 8] = [
    CheckOutcome::Passed,
    CheckOutcome::Cached,
    CheckOutcome::Fixed,
    CheckOutcome::Failed,
    CheckOutcome::Blocked,
    CheckOutcome::LeftOut,
    CheckOutcome::Interrupted,
    CheckOutcome::Planned,
];

/// Texts that mean something to one of the formats.
const NASTY: [&str; 20] = [
    "\0\u{1}\u{8}\u{b}\u{c}\u{1f}\u{7f}\u{85}\u{9b}",
    "]]>",
    "<![CDATA[",
    "&amp; < > \" ' & &#0; &bad;",
    "\u{fffe}\u{ffff}\u{fdd0}",
    "😀 größer \u{202e}",
    "a\r\nb\rc\td",
    "\n::error file=x,line=1::y",
    "::stop-commands::x",
    "##[error]x",
    "%0A %25 100%",
    "\x1b[31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x1b]open",
    "</details></failure>-->",
    "```\n~~~\n````",
    "| a | b |\n|---|",
    "\\ \\\\ \\| `x` <script>",
    "a,b:c=d;e",
    "@someone #1 $x$ http://x.invalid",
    "{0} {{1}} [a](1)",
    "\n\n# heading\n\n",
];

fn check(name: &str, outcome: CheckOutcome) -> CheckResult {
    CheckResult {
        name: name.to_owned(),
        phase: "quality".to_owned(),
        outcome,
        reason: format!("it is {}", outcome.name()),
        run_reasons: Vec::new(),
        notes: Vec::new(),
        command: format!("run {name}"),
        runs_command: true,
        duration_ms: 1_234,
        exit_code: Some(1),
        output: String::new(),
        state: CheckedState { inputs: 3, ..CheckedState::default() },
        fix: None,
        line: Some(7),
    }
}

fn report(checks: Vec<CheckResult>) -> ValidateReport {
    ValidateReport {
        schema: "xtask-validate-1".to_owned(),
        commit: None,
        shard: None,
        run: "20260102-030405-6".to_owned(),
        worktree: "/w/repo".to_owned(),
        branch: Some("feature/x".to_owned()),
        config: Some("setup/validate.toml".to_owned()),
        started: "2026-01-02T03:04:05Z".to_owned(),
        duration_ms: 65_432,
        fast: true,
        dry_run: false,
        ok: checks.iter().all(|check| check.outcome.is_good()),
        checks,
        warnings: Vec::new(),
        log: None,
        is_interrupted: false,
    }
}

fn every_outcome() -> ValidateReport {
    report(OUTCOMES.iter().map(|outcome| check(outcome.name(), *outcome)).collect())
}

fn finding(path: &str, line: u64, message: &str) -> FileFinding {
    let (path, message) = (path.to_owned(), message.to_owned());
    FileFinding { path, line: Some(line), column: Some(5), level: FindingLevel::Error, message }
}

/// A generator of numbers that is small and the same everywhere (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn text(&mut self) -> String {
        let pieces = (0..self.below(6)).map(|_| NASTY[self.below(NASTY.len())]);
        pieces.collect::<Vec<_>>().join(["", " ", "\n"][self.below(3)])
    }

    fn report(&mut self) -> (ValidateReport, FindingsByCheck) {
        let checks = (0..self.below(30)).map(|number| CheckResult {
            // Only names are read as words by whoever fills the report.
            name: format!("check-{number}{}", self.text()),
            phase: self.text(),
            reason: self.text(),
            notes: vec![CheckNote::UnmatchedInputs(self.text())],
            command: self.text(),
            runs_command: true,
            output: self.text().repeat(self.below(50)),
            duration_ms: self.below(1 << 40) as u64,
            line: Some(self.below(3)).filter(|line| *line > 0),
            fix: Some(FixResult {
                command: self.text(),
                risk: "safe".to_owned(),
                status: FixStatus::Restored,
                reason: self.text(),
                undo: None,
                paths: vec![self.text()],
                written: Vec::new(),
            })
            .filter(|_| self.below(2) == 0),
            ..check("", OUTCOMES[self.below(OUTCOMES.len())])
        });
        let mut report = report(checks.collect());
        report.run = self.text();
        report.started = if self.below(9) == 0 { self.text() } else { report.started };
        report.branch = Some(self.text()).filter(|_| self.below(2) == 0);
        report.config = report.config.filter(|_| self.below(2) == 0);
        report.warnings = (0..self.below(30)).map(|_| self.text()).collect();
        let mut findings = FindingsByCheck::new();
        for check in report.checks.iter().filter(|check| check.outcome == CheckOutcome::Failed) {
            let found = (0..self.below(30)).map(|_| FileFinding {
                path: format!("src/{}", self.text()),
                line: Some(self.below(3) as u64).filter(|line| *line > 0),
                column: Some(self.below(3) as u64).filter(|column| *column > 0),
                level: [FindingLevel::Error, FindingLevel::Warning, FindingLevel::Note]
                    [self.below(3)],
                message: self.text(),
            });
            findings.insert(check.name.clone(), found.collect());
        }
        (report, findings)
    }
}

fn every_seed(mut test: impl FnMut(&ValidateReport, &FindingsByCheck, u64)) {
    for seed in 1..=60_u64 {
        let (report, findings) = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).report();
        test(&report, &findings, seed);
    }
}

/// The JUnit of a report, read back.
fn read_junit(report: &ValidateReport) -> Element {
    let text = render_junit(report);
    Element::parse(&text).unwrap_or_else(|fault| panic!("{fault}: {text}"))
}

/// The SARIF of a report, read back.
fn read_sarif(report: &ValidateReport, findings: &FindingsByCheck) -> Value {
    serde_json::from_str(&render_sarif(report, findings)).unwrap()
}

/// Every report of these tests, as documents of both formats in a folder.
fn write_documents(lab: &Lab) -> (Vec<String>, Vec<String>) {
    let (mut junits, mut sarifs) = (Vec::new(), Vec::new());
    let mut write = |report: &ValidateReport, findings: &FindingsByCheck| {
        let number = junits.len();
        for (names, ending, text) in [
            (&mut junits, "xml", render_junit(report)),
            (&mut sarifs, "sarif", render_sarif(report, findings)),
        ] {
            let path = lab.path(&format!("{number}.{ending}"));
            fs::write(&path, text).unwrap();
            names.push(path.into_string());
        }
    };
    write(&every_outcome(), &FindingsByCheck::new());
    write(&report(Vec::new()), &FindingsByCheck::new());
    every_seed(|report, findings, _| write(report, findings));
    (junits, sarifs)
}

#[test]
fn junit_and_sarif_documents_conform_to_their_schemas() {
    let lab = Lab::new();
    let (junits, sarifs) = write_documents(&lab);
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas");
    let schema = |name: &str| schemas.join(name).to_str().unwrap().to_owned();
    let place = lab.place("");
    if place.try_run("xmllint", &["--version"]).is_some() {
        let (xsd, broken) = (schema("junit-10.xsd"), lab.path("broken.xml"));
        let lint = |names: &[String]| {
            let mut args = vec!["--noout", "--nonet", "--schema", &xsd];
            args.extend(names.iter().map(String::as_str));
            place.run("xmllint", &args, &[])
        };
        lint(&junits).success();
        let valid = fs::read_to_string(&junits[0]).unwrap();
        fs::write(&broken, valid.replacen("<failure ", "<failed ", 1)).unwrap();
        assert_ne!(lint(&[broken.into_string()]).code, Some(0), "it does look");
    } else {
        circle::not_tried("there is no xmllint on this machine");
    }
    // The crate takes half a minute to build; the usual circle holds the very text instead.
    if circle::is_exhaustive() {
        let (manifest, target) = (schema("Cargo.toml"), schema("../../target/schemas"));
        let validate = |names: &[String]| {
            let mut args = vec!["run", "--quiet", "--locked", "--manifest-path", &manifest];
            let json = schema("sarif-schema-2.1.0.json");
            args.extend(["--target-dir", &target, "--", &json]);
            args.extend(names.iter().map(String::as_str));
            let homes = homes();
            place.run("cargo", &args, &homes.each_ref().map(|(name, value)| (*name, &value[..])))
        };
        validate(&sarifs).success().says(&format!("{} documents were looked at", sarifs.len()));
        let broken = lab.path("broken.sarif");
        let valid = fs::read_to_string(&sarifs[0]).unwrap();
        fs::write(&broken, valid.replacen("\"2.1.0\"", "\"2.0.0\"", 1)).unwrap();
        validate(&[broken.into_string()]).status(1);
    }
}

// JUnit

#[test]
fn junit_represents_every_check_outcome() {
    let mut report = every_outcome();
    report.checks[3].output = "src/a.rs:1: wrong".to_owned();
    report.checks[4].phase = "platform".to_owned();
    let document = read_junit(&report);
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="xtask validate" tests="8" failures="1" errors="2" time="65.432">
          <testsuite name="quality" tests="7" failures="1" errors="1" skipped="2" time="8.638" timestamp="2026-01-02T03:04:05Z">
            <properties>
              <property name="run" value="20260102-030405-6"/>
              <property name="fast" value="yes"/>
              <property name="dry-run" value="no"/>
              <property name="branch" value="feature/x"/>
            </properties>
            <testcase name="passed" classname="validate.quality" time="1.234">
            </testcase>
            <testcase name="cached" classname="validate.quality" time="1.234">
              <system-out>cached, did not run: it is cached
        </system-out>
            </testcase>
            <testcase name="fixed" classname="validate.quality" time="1.234">
              <system-out>fixed: it is fixed
        </system-out>
            </testcase>
            <testcase name="failed" classname="validate.quality" time="1.234">
              <failure type="failed" message="it is failed">src/a.rs:1: wrong</failure>
            </testcase>
            <testcase name="left-out" classname="validate.quality" time="1.234">
              <skipped type="left-out" message="it is left-out"/>
            </testcase>
            <testcase name="interrupted" classname="validate.quality" time="1.234">
              <error type="interrupted" message="it is interrupted"/>
            </testcase>
            <testcase name="planned" classname="validate.quality" time="1.234">
              <skipped type="planned" message="it is planned"/>
            </testcase>
          </testsuite>
          <testsuite name="platform" tests="1" failures="0" errors="1" skipped="0" time="1.234" timestamp="2026-01-02T03:04:05Z">
            <properties>
              <property name="run" value="20260102-030405-6"/>
              <property name="fast" value="yes"/>
              <property name="dry-run" value="no"/>
              <property name="branch" value="feature/x"/>
            </properties>
            <testcase name="blocked" classname="validate.platform" time="1.234">
              <error type="blocked" message="it is blocked"/>
            </testcase>
          </testsuite>
        </testsuites>
    "#]].assert_eq(&render_junit(&report));
    let sums = ["tests", "failures", "errors"].map(|name| document.attribute(name));
    assert_eq!(sums, ["8", "1", "2"]);
    assert_eq!(document.all("testsuite").len(), 2, "one for each phase");
}

#[test]
fn junit_is_well_formed_for_arbitrary_check_output() {
    every_seed(|report, _, _| {
        let document = read_junit(report);
        let cases: usize =
            document.all("testsuite").iter().map(|suite| suite.all("testcase").len()).sum();
        assert_eq!(report.checks.len(), cases);
    });
    assert!(read_junit(&report(Vec::new())).children.is_empty());
}

#[test]
fn junit_contains_the_output_of_failed_checks() {
    for text in NASTY.iter().filter(|text| !text.trim().is_empty()) {
        let mut check = check("a", CheckOutcome::Failed);
        check.output = (*text).to_owned();
        let document = read_junit(&report(vec![check]));
        let case = document.children[0].all("testcase")[0].clone();
        assert_eq!(case.all("failure")[0].text, sanitize_text(text));
    }
    let mut check = check("a", CheckOutcome::Failed);
    check.output = format!("first\n{}\nlast", "0123456789".repeat(1 << 18));
    let text = render_junit(&report(vec![check]));
    assert!(text.len() < (1 << 20) + 4_096, "{}", text.len());
    assert!(text.contains("first") && text.contains("left out") && text.contains("last"));
}

// SARIF

#[test]
fn sarif_has_results_for_failed_and_blocked_checks() {
    let report = every_outcome();
    let document = read_sarif(&report, &FindingsByCheck::new());
    let run = &document["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let rules: Vec<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(rules, OUTCOMES.map(CheckOutcome::name));
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], json!(false), "it was interrupted");
    assert_eq!(invocation["startTimeUtc"], "2026-01-02T03:04:05Z");
    assert_eq!(invocation["endTimeUtc"], "2026-01-02T03:05:10.432Z");
    let place = json!([{"physicalLocation": {
        "artifactLocation": {"uri": "setup/validate.toml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 7},
    }}]);
    let results = run["results"].as_array().unwrap();
    let blocked = json!({
        "ruleId": "blocked",
        "ruleIndex": 4,
        "level": "error",
        "message": {"text": "blocked blocked: it is blocked"},
        "locations": place,
    });
    assert_eq!(results[1], blocked);
    assert_eq!(results[0]["ruleId"], "failed");
    assert_eq!(results.len(), 2);
    snapshot("every-outcome.sarif").assert_eq(&render_sarif(&report, &FindingsByCheck::new()));
}

#[test]
fn sarif_has_a_result_for_every_finding() {
    let report = report(vec![check("a", CheckOutcome::Failed), check("b", CheckOutcome::Passed)]);
    let mut found = vec![finding("src/a b#1.rs", 3, "first"), finding("src/b.rs", 4, "second")];
    found[1].column = None;
    found[1].level = FindingLevel::Note;
    let findings =
        FindingsByCheck::from([("a".to_owned(), found.clone()), ("b".to_owned(), found)]);
    let document = read_sarif(&report, &findings);
    let run = &document["runs"][0];
    assert_eq!(run["invocations"][0]["executionSuccessful"], json!(true));
    expect![[r#"
        [
          {
            "level": "error",
            "locations": [
              {
                "physicalLocation": {
                  "artifactLocation": {
                    "uri": "src/a%20b%231.rs",
                    "uriBaseId": "%SRCROOT%"
                  },
                  "region": {
                    "startColumn": 5,
                    "startLine": 3
                  }
                }
              }
            ],
            "message": {
              "text": "first"
            },
            "ruleId": "a",
            "ruleIndex": 0
          },
          {
            "level": "note",
            "locations": [
              {
                "physicalLocation": {
                  "artifactLocation": {
                    "uri": "src/b.rs",
                    "uriBaseId": "%SRCROOT%"
                  },
                  "region": {
                    "startLine": 4
                  }
                }
              }
            ],
            "message": {
              "text": "second"
            },
            "ruleId": "a",
            "ruleIndex": 0
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&run["results"]).unwrap());
}

#[test]
fn every_sarif_result_has_a_location_without_configuration_file() {
    let mut report = every_outcome();
    report.config = None;
    let document = read_sarif(&report, &FindingsByCheck::new());
    let results = document["runs"][0]["results"].as_array().unwrap();
    assert!(!results.is_empty());
    // What code scanning asks for at least: a location with the URI of a file, relative to the repository.
    for result in results {
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "setup/validate.toml", "{result}");
        assert_eq!(place["region"]["startLine"], 1, "{result}");
    }
}

#[test]
fn sarif_is_valid_for_arbitrary_check_output() {
    every_seed(|report, findings, _| {
        read_sarif(report, findings);
    });
    read_sarif(&report(Vec::new()), &FindingsByCheck::new());
    let checks = (0..30).map(|number| check(&number.to_string(), CheckOutcome::Failed)).collect();
    let found: Vec<FileFinding> = (1..=1_000).map(|line| finding("a", line, "x")).collect();
    let findings = (0..30).map(|number| (number.to_string(), found.clone())).collect();
    let text = render_sarif(&report(checks), &findings);
    assert_eq!(text.matches("\"ruleId\"").count(), 25_000);
    assert!(text.contains("5000 results were left out"));
}

// GitHub

#[test]
fn annotations_alternate_between_checks_and_stop_at_ten() {
    let names = ["a", "b", "c"];
    let mut checks: Vec<CheckResult> =
        names.iter().map(|name| check(name, CheckOutcome::Failed)).collect();
    checks[2].output = "50%\nof it".to_owned();
    checks.push(check("blocked", CheckOutcome::Blocked));
    let found = |name: &str, count: u64| {
        let found = (1..=count).map(|line| finding(&format!("{name}.rs"), line, "wrong: a, b"));
        (name.to_owned(), found.collect::<Vec<_>>())
    };
    let mut findings = FindingsByCheck::from([found("a", 20), found("b", 2)]);
    findings.get_mut("a").unwrap()[0].level = FindingLevel::Warning;
    let report = report(checks);
    expect![[r#"
        ::error file=a.rs,line=2,col=5,title=a::wrong: a, b
        ::error file=b.rs,line=1,col=5,title=b::wrong: a, b
        ::error file=setup/validate.toml,line=7,title=c failed::it is failed%0A%0A50%25%0Aof it
        ::error file=a.rs,line=3,col=5,title=a::wrong: a, b
        ::error file=b.rs,line=2,col=5,title=b::wrong: a, b
        ::error file=a.rs,line=4,col=5,title=a::wrong: a, b
        ::error file=a.rs,line=5,col=5,title=a::wrong: a, b
        ::error file=a.rs,line=6,col=5,title=a::wrong: a, b
        ::error file=a.rs,line=7,col=5,title=a::wrong: a, b
        ::error file=a.rs,line=8,col=5,title=a::wrong: a, b
    "#]]
    .assert_eq(&render_annotations(&report, &findings));
    let summary = render_step_summary(&report, &findings);
    // Ten of the twenty-three are annotations: seven of `a`, both of `b`, and `c` itself.
    assert_eq!(summary.matches("\n- a.rs:").count(), 13);
    assert!(!summary.contains("\n- a.rs:8:5 ") && summary.contains("\n- a.rs:9:5 "), "{summary}");
    assert!(summary.contains("- a.rs:1:5 warning: wrong: a, b"), "{summary}");
}

#[test]
fn annotations_are_single_commands_for_arbitrary_check_output() {
    every_seed(|report, findings, seed| {
        let text = render_annotations(report, findings);
        let failed =
            report.checks.iter().filter(|check| check.outcome == CheckOutcome::Failed).count();
        assert!(text.lines().count() <= MAX_ANNOTATIONS, "seed {seed}");
        assert!(text.lines().count() >= failed.min(MAX_ANNOTATIONS), "seed {seed}");
        for line in text.lines() {
            let rest = line.strip_prefix("::error ").expect("a command");
            let (properties, message) = rest.split_once("::").expect("a message");
            assert!(!message.is_empty(), "seed {seed}: {line}");
            assert!(
                !line.contains(char::is_control) || line.contains('\t'),
                "seed {seed}: {line:?}"
            );
            let mut keys = BTreeSet::new();
            for pair in properties.split(',') {
                let (key, value) = pair.split_once('=').expect("a property");
                assert!(["file", "line", "col", "title"].contains(&key), "seed {seed}: {line}");
                assert!(keys.insert(key) && !value.contains(':'), "seed {seed}: {line}");
            }
            for value in [properties, message] {
                let escapes = value.split('%').skip(1).map(|rest| &rest[..2]);
                let known = ["25", "0A", "3A", "2C"];
                assert!(escapes.into_iter().all(|code| known.contains(&code)), "{line}");
            }
        }
    });
}

#[test]
fn step_summary_lists_all_checks_and_failures() {
    let mut report = every_outcome();
    report.warnings = vec!["the webhook did not answer".to_owned()];
    report.checks[3].output = "first\n```\n</details>\nlast\n".to_owned();
    report.checks[3].reason = "exit code 1 | <b>".to_owned();
    report.checks[3].fix = Some(FixResult {
        command: "cargo fmt".to_owned(),
        risk: "safe".to_owned(),
        status: FixStatus::Advised,
        reason: "fixes are off".to_owned(),
        undo: None,
        paths: Vec::new(),
        written: Vec::new(),
    });
    expect![[r#"
        ## Validation was interrupted

        Run 20260102-030405-6 on feature/x: 1 passed, 1 cached, 1 fixed, 1 failed, 1 blocked, 1 left-out, 1 interrupted, 1 planned, in 1 min 5 s, checks could be skipped (fast).

        - Warning: the webhook did not answer

        | check | phase | outcome | time | reason |
        |---|---|---|--:|---|
        | passed | quality | passed | 1.2 s | it is passed |
        | cached | quality | cached | 1.2 s | it is cached |
        | fixed | quality | fixed | 1.2 s | it is fixed |
        | failed | quality | **failed** | 1.2 s | exit code 1 \| &lt;b&gt; |
        | blocked | quality | **blocked** | 1.2 s | it is blocked |
        | left-out | quality | left-out | 1.2 s | it is left-out |
        | interrupted | quality | **interrupted** | 1.2 s | it is interrupted |
        | planned | quality | planned | 1.2 s | it is planned |

        ### failed failed

        Reason: exit code 1 \| &lt;b&gt;

        Command: run failed

        Fix (safe, not run): cargo fmt: fixes are off

        <details>
        <summary>Output</summary>

        ~~~text
        first
        ```
        </details>
        last
        ~~~

        </details>
    "#]].assert_eq(&render_step_summary(&report, &FindingsByCheck::new()));
    let passed =
        self::report(vec![check("a", CheckOutcome::Passed), check("b", CheckOutcome::Cached)]);
    expect![[r#"
        ## Validation passed

        Run 20260102-030405-6 on feature/x: 1 passed, 1 cached, in 1 min 5 s, checks could be skipped (fast).

        | check | phase | outcome | time | reason |
        |---|---|---|--:|---|
        | a | quality | passed | 1.2 s | it is passed |
        | b | quality | cached | 1.2 s | it is cached |
    "#]].assert_eq(&render_step_summary(&passed, &FindingsByCheck::new()));
    assert_eq!(render_annotations(&passed, &FindingsByCheck::new()), "");
}

/// The lines of a summary that stand outside of its fences; panics at a fence that stays open.
fn outside(summary: &str) -> Vec<&str> {
    let mut outside = Vec::new();
    let mut fence: Option<&str> = None;
    for line in summary.lines() {
        let bare = line.trim_start_matches(' ');
        let is_near = line.len() - bare.len() <= 3;
        match fence {
            Some(open) => {
                let marks = bare.trim_end();
                let is_run = marks.chars().all(|c| open.starts_with(c));
                if is_near && is_run && marks.len() >= open.len() {
                    fence = None;
                }
            }
            None if is_near && (bare.starts_with("```") || bare.starts_with("~~~")) => {
                fence = Some(bare.strip_suffix("text").expect("a fence of ours"));
            }
            None => outside.push(line),
        }
    }
    assert_eq!(fence, None, "a fence stays open");
    outside
}

#[test]
fn step_summary_is_well_formed_for_arbitrary_check_output() {
    every_seed(|report, findings, seed| {
        let summary = render_step_summary(report, findings);
        assert!(summary.len() <= MAX_SUMMARY_BYTES, "seed {seed}");
        let outside = outside(&summary);
        let rows = outside.iter().filter(|line| line.starts_with("| ")).count();
        let expected = if report.checks.is_empty() { 0 } else { report.checks.len() + 1 };
        assert_eq!(rows, expected, "seed {seed}: {summary}");
        for line in &outside {
            if line.starts_with("| ") {
                let bars = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
                assert_eq!(bars, 6, "seed {seed}: {line}");
            }
            let html = ["<details>", "</details>", "<summary>Output</summary>"];
            assert!(html.contains(line) || !line.contains(['<', '\x1b']), "seed {seed}: {line}");
        }
        let count = |tag: &str| outside.iter().filter(|line| **line == tag).count();
        assert_eq!(count("<details>"), count("</details>"), "seed {seed}");
    });
}

#[test]
fn step_summary_stays_within_its_limit_and_reports_omissions() {
    let long =
        "`".repeat(600) + "\n" + &"~".repeat(600) + "\nfirst " + &"ü".repeat(1 << 20) + " last";
    for (checks, found, output) in [
        (1, 0, long.as_str()),
        (40, 1_000, long.as_str()),
        (3_000, 3, "short"),
        (20_000, 0, ""),
        (5, 1_000, "~\n`\n"),
    ] {
        let names: Vec<String> = (0..checks).map(|number| format!("check-{number}")).collect();
        let lines = names.iter().map(|name| CheckResult {
            output: output.to_owned(),
            reason: "<|>".repeat(200),
            ..check(name, CheckOutcome::Failed)
        });
        let report = report(lines.collect());
        let found: Vec<FileFinding> =
            (1..=found).map(|line| finding("src/a.rs", line, &"<x>".repeat(500))).collect();
        let findings = names.into_iter().map(|name| (name, found.clone())).collect();
        let summary = render_step_summary(&report, &findings);
        assert!(summary.len() <= MAX_SUMMARY_BYTES, "{checks}: {}", summary.len());
        assert!(summary.contains("left out") || summary.contains("Left out"), "{checks}");
        outside(&summary);
        assert!(render_annotations(&report, &findings).lines().count() <= MAX_ANNOTATIONS);
        if checks <= 40 && output.len() > 100 {
            assert_eq!(summary.matches(" last\n").count(), checks, "each shows its end");
        }
    }
}

#[test]
fn findings_are_collected_from_failed_checks_only() {
    let mut report = every_outcome();
    for check in &mut report.checks {
        check.output = "a.rs:1:2: warning: wrong\n/w/repo/sub/b.rs:3: worse\n".to_owned();
    }
    let is_file = |path: &str| ["sub/a.rs", "sub/b.rs"].contains(&path);
    let findings = findings::collect_findings(&report, &|_| "sub".to_owned(), &is_file);
    assert_eq!(findings.keys().collect::<Vec<_>>(), ["failed"]);
    let places: Vec<_> = findings["failed"].iter().map(|f| (f.path.as_str(), f.line)).collect();
    assert_eq!(places, [("sub/a.rs", Some(1)), ("sub/b.rs", Some(3))]);
    let document = read_sarif(&report, &findings);
    assert_eq!(document["runs"][0]["results"].as_array().unwrap().len(), 3);
}

#[test]
fn report_may_go_to_stdout_and_destinations_must_differ() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("setup/validate.toml", "[[check]]\nname = 'c'\nrun = 'true'\n");
    repo.commit("checks");
    let ran = repo.xtask(&["validate", "--junit", "-"]).success();
    assert!(
        ran.out.starts_with("<?xml") && ran.out.trim_end().ends_with("</testsuites>"),
        "{}",
        ran.out
    );
    let ran = repo.xtask(&["validate", "--sarif", "-"]).success();
    serde_json::from_str::<Value>(&ran.out).unwrap();
    for both in [
        &["--junit", "-", "--sarif", "-"][..],
        &["--junit", "-", "--json"],
        &["--sarif", "-", "--github"],
        &["--junit", "out", "--sarif", "./setup/../out"],
    ] {
        let args = [&["validate"], both].concat();
        let ran = repo.xtask(&args).status(2);
        assert!(ran.err.contains("both write to"), "{both:?}: {}", ran.err);
    }
    assert!(!repo.has("out"));
}

#[test]
fn tool_version_is_probed_with_all_usual_flags() {
    let lab = Lab::new();
    let programs = lab.path("programs");
    let script = |name: &str, text: &str| write_script(&programs.join(name), text);
    script(
        "kubectl",
        "#!/bin/sh\n[ \"$1\" = version ] && { echo 'Client 1.33.2'; exit; }\nexit 1\n",
    );
    script("odd", "#!/bin/sh\n[ \"$1\" = -V ] && { echo 'odd 2.0'; exit; }\nexit 64\n");
    script("mute", "#!/bin/sh\nexit 64\n");
    let path = format!("{programs}:/usr/bin:/bin");
    let repo = lab.repo();
    let check =
        |name: &str, more: &str| format!("[[check]]\nname = '{name}'\ntool = '{name}'\n{more}\n");
    let checks =
        [check("kubectl", "version = '>=1.30'"), check("odd", "version = '2'"), check("mute", "")];
    repo.write("setup/validate.toml", checks.concat());
    repo.commit("checks");
    let ran = repo.xtask_with(&["validate", "-v"], &[("PATH", &path)]).success();
    assert!(ran.out.contains("1.33.2") && ran.out.contains("version unknown"), "{}", ran.out);
    repo.write("setup/validate.toml", check("mute", "version = '1'"));
    repo.xtask_with(&["validate", "--no-fix"], &[("PATH", &path)])
        .status(1)
        .says("exited with code 64");
}
