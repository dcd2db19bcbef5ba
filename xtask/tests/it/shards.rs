//! One run on several machines: its parts, their reports, and the merged one.

use xtask_config::VALIDATE_FILE;

use std::fs;
use std::path::Path;

use crate::testkit::{Lab, Place};

const CHECKS: &str = "[phase.environment]\ngate = true\n[phase.quality]\n\
    [[check]]\nname = 'git'\nphase = 'environment'\ntool = 'git'\n\
    [[check]]\nname = 'build'\nphase = 'quality'\nrun = 'touch built'\n\
    [[check]]\nname = 'unit'\nphase = 'quality'\nrun = 'test -e built'\nneeds = ['build']\n\
    [[check]]\nname = 'lint'\nphase = 'quality'\nrun = 'grep -n bad a.txt'\n\
    [[check]]\nname = 'docs'\nphase = 'quality'\nrun = 'true'\ntags = ['slow']\n";

fn repo(lab: &Lab) -> Place<'_> {
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, CHECKS), ("a.txt", "bad\n")]);
    repo.write("setup/check-times.toml", "build = 5000\nunit = 4000\nlint = 6000\ndocs = 1000\n");
    repo.write(".gitignore", "/built\n/reports/\n");
    repo.commit("times");
    repo
}

fn outcomes(json: &serde_json::Value) -> Vec<String> {
    let checks = json["checks"].as_array().unwrap().iter();
    checks.map(|check| format!("{} {}", check["name"], check["outcome"]).replace('"', "")).collect()
}

#[test]
fn shards_have_what_they_need_and_merge_into_one_report() {
    let lab = Lab::new();
    let repo = repo(&lab);
    for (shard, file) in [("1/2", "reports/one/1.json"), ("2/2", "reports/two/2.json")] {
        let done =
            repo.xtask(&["validate", "--json", "--shard", shard, "--report", file]).success();
        let json: serde_json::Value = serde_json::from_str(&repo.read(file)).unwrap();
        assert_eq!(json, done.json());
    }
    let read = |file: &str| serde_json::from_str::<serde_json::Value>(&repo.read(file)).unwrap();
    let (one, two) = (read("reports/one/1.json"), read("reports/two/2.json"));
    assert_eq!(
        outcomes(&one),
        ["git passed", "build passed", "unit passed", "lint left-out", "docs left-out"]
    );
    assert_eq!(
        outcomes(&two),
        ["git passed", "build left-out", "unit left-out", "lint passed", "docs passed"]
    );
    let args = ["validate", "--merge-reports", "reports", "--json", "--junit", "out/junit.xml"];
    let merged = repo.xtask(&args).success().json();
    let all = ["git passed", "build passed", "unit passed", "lint passed", "docs passed"];
    assert_eq!(outcomes(&merged), all);
    assert_eq!(merged["shard"], serde_json::Value::Null);
    assert!(repo.read("out/junit.xml").contains("tests=\"5\" failures=\"0\""));
    // A run without shards has the same checks.
    assert_eq!(outcomes(&repo.xtask(&["validate", "--json"]).success().json()), all);
}

#[test]
fn a_failure_in_one_shard_fails_the_merged_run() {
    let lab = Lab::new();
    let repo = repo(&lab);
    repo.write("a.txt", "good\n");
    repo.commit("good");
    repo.xtask(&["validate", "--shard", "1/2", "--report", "reports/1.json"]).success();
    repo.xtask(&["validate", "--shard", "2/2", "--report", "reports/2.json"]).status(1);
    let merged = repo.xtask(&["validate", "--merge-reports", "reports", "--sarif", "s.sarif"]);
    let merged = merged.status(1).says("not healthy: 1 of 5 checks failed: `lint`");
    merged.says("FAILED    lint").says("passed    unit");
    assert!(repo.read("s.sarif").contains("\"ruleId\": \"lint\""));
    // Without the report of the shard nobody knows whether it has passed.
    repo.remove("reports/2.json");
    let merged = repo.xtask(&["validate", "--merge-reports", "reports"]).status(1);
    merged
        .says("shard 2/2 has no report")
        .says("interrupted  lint")
        .says("no report of shard 2/2")
        .says("not finished");
}

#[test]
fn what_is_no_report_of_this_run_is_refused() {
    let lab = Lab::new();
    let repo = repo(&lab);
    let merge = || repo.xtask(&["validate", "--merge-reports", "reports"]);
    merge().status(3).says("cannot read the folder `");
    repo.write("reports/notes.txt", "not read");
    merge().status(3).says("no report in `reports`");
    repo.xtask(&["validate", "--shard", "1/2", "--report", "reports/1.json"]).success();
    let whole = repo.read("reports/1.json");
    repo.write("reports/2.json", &whole[..whole.len() / 2]);
    merge().status(3).says("`2.json` is not a report of `validate --report`");
    repo.write("reports/2.json", whole.replace("xtask.validate/1", "xtask.validate/9"));
    merge().status(3).says("its schema is `xtask.validate/9`");
    repo.write("reports/2.json", &whole);
    merge().status(2).says("`1.json` and `2.json` are both of shard 1/2");
    repo.write("b.txt", "b");
    repo.commit("another commit");
    repo.xtask(&["validate", "--shard", "2/2", "--report", "reports/2.json"]).success();
    merge().status(2).says("are not of one run").says("they differ in the commit");
    // Reports that agree with each other, and are of a run before.
    repo.xtask(&["validate", "--shard", "1/2", "--report", "reports/1.json"]).success();
    merge().success();
    let text = repo.read(VALIDATE_FILE);
    repo.write(
        VALIDATE_FILE,
        format!("{text}[[check]]\nname = 'new'\nphase = 'quality'\nrun = 'true'\n"),
    );
    merge().status(2).says("are of other checks").says("no report has `new`");
    repo.write(VALIDATE_FILE, text);
    repo.write("b.txt", "c");
    repo.commit("a third commit");
    merge().status(2).says("the reports in `reports` are of another commit");
    repo.xtask(&["validate", "--shard", "0/2"]).status(2).says("it must be I/N");
    repo.xtask(&["validate", "--merge-reports", "reports", "--fast"]).status(2);
}

#[test]
fn times_are_saved_for_all_machines() {
    let lab = Lab::new();
    let repo = repo(&lab);
    repo.write("setup/check-times.toml", "build = 5\ngone = 7\nlint = 'x'\n");
    repo.xtask(&["validate", "--shard", "1/2"]).status(2).says("setup/check-times.toml:3: `lint`");
    repo.xtask(&["validate", "--save-times", "--skip", "slow"])
        .success()
        .says("saved the times of 4 checks");
    let times = repo.read("setup/check-times.toml");
    assert!(times.contains("\"unit\" = ") && !times.contains("docs"), "{times}");
    assert!(!times.contains("gone"), "{times}");
    repo.remove("setup/check-times.toml");
    repo.xtask(&["validate", "--shard", "3/4", "--dry-run"]).success();
    assert!(!repo.has("setup/check-times.toml"));
}

/// The text of a file of this repository.
fn of_repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap()
}

/// The block of `docs/checks.md` that begins with this comment.
fn documented(comment: &str) -> String {
    let text = of_repository("docs/checks.md");
    let begin = text.find(&format!("```yaml\n# {comment}\n")).unwrap();
    let block = &text[begin..];
    let block = &block[block.find(comment).unwrap() + comment.len() + 1..];
    block[..block.find("```").unwrap()].to_owned()
}

#[test]
fn documented_jobs_run_and_are_those_of_the_starters() {
    let bare = |text: &str, indent: &str| -> String {
        let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("{indent}# ")));
        lines.map(|line| format!("{indent}{line}\n")).collect()
    };
    let (github, gitlab) = (documented("GitHub"), documented("GitLab"));
    let starter = of_repository("xtask/crates/vendoring/src/starters/github.yml");
    assert!(bare(&starter, "  ").ends_with(github.strip_prefix("jobs:\n").unwrap()));
    let starter = of_repository("xtask/crates/vendoring/src/starters/gitlab.yml");
    assert!(bare(&starter, "").ends_with(&gitlab));

    let lab = Lab::new();
    let repo = repo(&lab);
    // `cargo xtask` is the program under test.
    let cargo = "#!/bin/sh\nshift\nexec \"$PROGRAM\" \"$@\"\n";
    crate::testkit::write_script(&lab.path("bin/cargo"), cargo);
    let path = format!("{}:{}", lab.path("bin"), std::env::var("PATH").unwrap());
    let program = crate::testkit::program();
    let run = |command: &str, variables: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = [("PATH", path.as_str()), ("PROGRAM", program.as_str())]
            .into_iter()
            .chain(variables.iter().copied())
            .collect();
        repo.run("sh", &["-ec", command], &all)
    };
    for (text, prefix, index) in
        [(&github, "      - run: ", "SHARD"), (&gitlab, "  script: ", "CI_NODE_INDEX")]
    {
        let commands: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix(prefix)).collect();
        let [shard, merge] = commands[..] else { panic!("{commands:?}") };
        for number in ["1", "2", "3"] {
            run(shard, &[(index, number), ("CI_NODE_TOTAL", "3")]).success();
        }
        run(merge, &[]).success().says("5 checks");
        assert!(repo.read("junit.xml").contains("tests=\"5\""));
        fs::remove_dir_all(repo.dir.join("reports")).unwrap();
    }
}
