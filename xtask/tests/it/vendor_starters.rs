//! What a repository is given to begin with: laid out in real repositories and read by the real
//! commands, and the same as what this project itself has.

use std::fs;
use std::path::Path;

use regex_lite::Regex;
use xtask_base::path::RepoPath;
use xtask_detect::repo_facts::{DetectionInput, RepoFacts, detect_repo};
use xtask_upgrade::copy_spec::CopySpec;
use xtask_vendoring::templates::{RenderedTemplates, render_templates};

use crate::testkit::{Lab, Place};

/// A repository with these files, and nothing else.
fn repository<'a>(lab: &'a Lab, files: &[(&str, &str)]) -> Place<'a> {
    let place = lab.repo_with("project", files);
    if files.is_empty() {
        place.commit("first");
    }
    place
}

/// Looks at it as a program would, and writes what it is given.
fn lay_out(place: &Place<'_>) -> (RepoFacts, RenderedTemplates) {
    let listed = place.git(&["ls-files", "-z"]);
    let paths: Vec<RepoPath> =
        listed.split('\0').filter(|path| !path.is_empty()).map(RepoPath::new).collect();
    let read = |path: &str| fs::read(place.dir.join(path)).ok();
    let facts = detect_repo(&DetectionInput {
        name: "xtask",
        paths: &paths,
        read: &read,
        default_branch: "main",
        remote: None,
    });
    let all = render_templates(
        &facts,
        &read,
        &CopySpec::with_all_parts(),
        std::slice::from_ref(&facts.default_branch),
    );
    for file in &all.files {
        assert!(!place.has(file.path), "{} is there", file.path);
        place.write(file.path, &file.text);
    }
    place.commit("starters");
    place.git(&["branch", "orchestration-tools"]);
    (facts, all)
}

/// The commands that read configuration, and none has a fault to tell. Answers with the names of the
/// checks.
fn read_by_all(place: &Place<'_>) -> Vec<String> {
    let list = place.xtask(&["validate", "--list", "--json"]).success().json();
    assert_eq!(list["config"], "setup/validate.toml");
    place.xtask(&["validate", "--dry-run"]).success();
    let start = place.xtask(&["start", "--dry-run"]).success();
    start.says("deployment/local.toml").says("api").says("web");
    place.xtask(&["sync", "--check"]).success().never_says("fault");
    place.xtask(&["status"]).success();
    // The sync rules are those of the file: what it names is managed, and the other branch follows.
    place.git(&["branch", "follower", "HEAD^"]);
    place.git(&["switch", "--quiet", "follower"]);
    place.xtask(&["sync", "--check"]).status(1).says("setup/sync.toml");
    place.xtask(&["sync"]).success();
    place.xtask(&["sync", "--check"]).success();
    assert!(place.has("setup/validate.toml") && place.has("deployment/local.toml"));
    let names = list["checks"].as_array().unwrap().iter();
    names.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn starter_files_work_in_an_empty_repository() {
    let lab = Lab::new();
    let place = repository(&lab, &[("README", "nothing yet\n")]);
    let (_, all) = lay_out(&place);
    assert!(all.by_hand.is_empty() && all.notes.is_empty(), "{all:?}");
    let names = read_by_all(&place);
    assert_eq!(names, ["git", "git-identity", "disk", "sync", "hooks"]);
    // Nothing fails there that is not so: hooks are what `setup` installs.
    place.git(&["switch", "--quiet", "main"]);
    place.xtask(&["validate", "--fast", "--skip", "hooks"]).success().says("healthy");
}

#[test]
fn starter_files_keep_folders_of_python_and_typescript_projects() {
    let lab = Lab::new();
    let place = repository(
        &lab,
        &[
            (
                "pyproject.toml",
                "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"fastapi\"]\n\
                 [dependency-groups]\ndev = [\"ruff\", \"mypy\", \"pytest\"]\n\
                 [tool.ruff]\n[tool.mypy]\n[tool.pytest.ini_options]\n",
            ),
            ("uv.lock", "version = 1\n"),
            ("main.py", "from fastapi import FastAPI\n\napp = FastAPI()\n"),
            (
                "package.json",
                "{\"name\": \"p\", \"scripts\": {\"dev\": \"vite\", \"test\": \"vitest run\"},\n\
                 \"devDependencies\": {\"vite\": \"6\", \"typescript\": \"5\", \"eslint\": \"9\"}}\n",
            ),
            ("package-lock.json", "{}\n"),
            ("tsconfig.json", "{}\n"),
            ("eslint.config.js", "export default []\n"),
            ("setup/launch.sh", "#!/bin/sh\n"),
            ("deployment/docker-compose.yml", "services: {}\n"),
            ("scripts/build.sh", "#!/bin/sh\n"),
            ("justfile", "start:\n    ./scripts/build.sh\n"),
            (".gitignore", "node_modules/\n.venv/\n"),
        ],
    );
    let before = place.read("justfile");
    let (facts, all) = lay_out(&place);
    assert_eq!(place.read("justfile"), before);
    assert_eq!(facts.services.len(), 2);
    let hand: Vec<&str> = all.by_hand.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(hand, ["justfile"]);
    let names = read_by_all(&place);
    for name in ["uv-sync", "ruff", "mypy", "pytest", "node-modules", "types", "eslint", "npm-test"]
    {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    assert!(!names.iter().any(|name| name == "cargo"), "the root's Cargo.toml is ours alone");
    // On a fresh clone a check of what must be installed first says how.
    place.git(&["switch", "--quiet", "main"]);
    let only = ["validate", "--only", "node-modules", "--no-fix"];
    let ran = place.xtask(&only);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("npm ci") || ran.out.contains("`npm` is not on PATH"), "{}", ran.out);
}

#[test]
fn starter_files_check_rust_workspaces_without_managing_their_manifest() {
    let lab = Lab::new();
    let place = repository(
        &lab,
        &[
            ("Cargo.toml", "[workspace]\nmembers = [\"one\"]\nresolver = \"2\"\n"),
            (
                "one/Cargo.toml",
                "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
            ),
            ("one/src/lib.rs", "//! Nothing.\n"),
            ("Cargo.lock", "version = 3\n\n[[package]]\nname = \"one\"\nversion = \"0.1.0\"\n"),
            (".gitignore", "/target\n"),
        ],
    );
    let (_, all) = lay_out(&place);
    assert!(all.by_hand.is_empty(), "{all:?}");
    let rules = place.read("setup/sync.toml");
    assert!(!rules.contains("\"/Cargo.toml\"") && !rules.contains("\"/Cargo.lock\""), "{rules}");
    let names = read_by_all(&place);
    assert_eq!(names[5..], ["cargo", "cargo-lock", "format", "cargo-test"]);
    place.git(&["switch", "--quiet", "main"]);
    let without = ["validate", "--fast", "--skip", "hooks"];
    place.xtask(&without).success().says("healthy");
}

/// A file of this project.
fn of_project(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_default()
}

/// A starter, as it lies among the sources.
fn starter(name: &str) -> String {
    of_project(&format!("xtask/crates/vendoring/src/starters/{name}"))
}

#[test]
fn starter_files_equal_those_of_this_project() {
    if !of_project("README.md").starts_with("# xtask\n") {
        return; // a repository that took the toolkit in has files of its own
    }
    let request = starter("orchestration-pr.md");
    assert!(request.contains("## Test plan"));
    assert_eq!(of_project(".github/PULL_REQUEST_TEMPLATE/orchestration-pr.md"), request);
    let workflow = starter("github.yml");
    assert!(workflow.contains("cargo xtask propagate"));
    assert_eq!(of_project(".github/workflows/orchestration.yml"), workflow);
    let layer = starter("local.toml");
    assert!(layer.contains("[service.api]"));
    assert_eq!(of_project("deployment/local.toml"), layer);
    // This project tests the toolkit, which others do not.
    let tests = "\n# Run all tests\ntest *ARGS:\n    cargo xtest \"$@\"\n";
    assert_eq!(of_project("justfile"), format!("{}{tests}", starter("justfile")));
    // It has more layers to show.
    let is_shown = |line: &&str| {
        !["integration", "staging", "production"]
            .iter()
            .any(|layer| line.starts_with(&format!("| `{layer}` ")))
    };
    let page = of_project("deployment/README.md");
    assert_eq!(page.lines().filter(|line| !is_shown(line)).count(), 3);
    let page: String = page.split_inclusive('\n').filter(is_shown).collect();
    // The columns of a table are as wide as what stands in them.
    let narrow = |text: &str| {
        let words = text.split_whitespace().map(|word| match word.trim_matches('-') {
            "" => "-",
            _ => word,
        });
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(narrow(&page), narrow(&starter("deployment.md")));
    // The manual has the jobs without the remarks on top of the file.
    let readme = of_project("docs/canonical.md");
    let jobs =
        readme.split("```yaml\n").find(|block| block.starts_with(".orchestration:")).unwrap();
    let jobs = jobs.split("```").next().unwrap();
    let ours = starter("gitlab.yml");
    let remarks: String =
        ours.split_inclusive('\n').take_while(|line| line.starts_with('#')).collect();
    assert!(!remarks.is_empty());
    // The last jobs are comments, and are those of another page (see `shards.rs`).
    let (own, rest) = ours.split_at(remarks.len() + jobs.len());
    assert_eq!(own, format!("{remarks}{jobs}"));
    assert!(rest.lines().all(|line| line.starts_with('#')), "{rest}");
}

/// What failed checks print, as `validate` shows it, becomes problems of the editor.
#[test]
fn editor_tasks_find_the_places_that_validate_prints() {
    let lab = Lab::new();
    let printed = [
        "src/app.rs:12:5: error: mismatched types",
        "src/app.py:3: warning: unused name",
        "src/app.py:4:2 - error: no such name",
        "Makefile:7: *** missing separator",
        "12:30:45 nothing to see",
        "src/app.ts(5,9): error TS2304: Cannot find name 'x'.",
        "error[E0308]: mismatched types",
        "  --> src/lib.rs:8:1",
        "/full path/app.js",
        "  1:2  error    Unexpected var  no-var",
        "  3:4  warning  'y' is not defined  no-undef",
        "thread 'it::works' (77) panicked at src/test.rs:9:5:",
        "left is not right",
        "Diff in src/form.rs:21:",
        "[warn] src/app.css",
        "[warn] Code style issues found in the above file.",
        "Would reformat: src/form.py",
    ];
    let place = repository(
        &lab,
        &[
            (".vscode/settings.json", "{}\n"),
            ("said", &format!("{}\n", printed.join("\n"))),
            (
                "setup/validate.toml",
                "[phase.quality]\n[[check]]\nname = \"said\"\nphase = \"quality\"\n\
                 run = \"cat said; exit 1\"\nshell = true\n\
                 [[check]]\nname = \"files\"\nphase = \"quality\"\nfix = false\n\
                 built-in = [\"trailing-whitespace\"]\nfiles = [\"setup/spaces\"]\n",
            ),
            ("setup/spaces", "one\ntwo  \n"),
        ],
    );
    lay_out(&place);
    let tasks: serde_json::Value =
        serde_json::from_str(&place.read(".vscode/tasks.json")).expect("strict JSON");
    let tasks = tasks["tasks"].as_array().unwrap();
    let labels: Vec<&str> = tasks.iter().map(|task| task["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["validate", "validate --fast", "start", "stop"]);
    assert_eq!(tasks[0]["problemMatcher"], tasks[1]["problemMatcher"]);
    for task in tasks {
        let mut words = task["command"].as_str().unwrap().split(' ');
        assert_eq!((words.next(), words.next()), (Some("cargo"), Some("xtask")));
        let words: Vec<&str> = words.collect();
        place.xtask(&[&words[..], &["--help"]].concat()).success();
    }
    let ran = place.xtask(&["validate", "-v"]).status(1);
    let found = find_problems(&tasks[0]["problemMatcher"], &ran.out);
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "src/app.rs:12:5 error mismatched types",
            "src/app.py:3: warning unused name",
            "src/app.py:4:2 error no such name",
            "Makefile:7:  *** missing separator",
            "src/app.ts:5:9 error TS2304: Cannot find name 'x'.",
            "src/lib.rs:8:1 error mismatched types",
            "/full path/app.js:1:2 error Unexpected var  no-var",
            "/full path/app.js:3:4 warning 'y' is not defined  no-undef",
            "src/test.rs:9:5  left is not right",
            "src/form.rs:21:  Diff in src/form.rs:21:",
            "src/app.css::  [warn] src/app.css",
            "src/form.py::  Would reformat: src/form.py",
            "setup/spaces:2:  trailing whitespace (trailing-whitespace)",
        ],
        "{}",
        ran.out
    );
}

/// Matches as VS Code does: the patterns of a matcher on successive lines, the last one repeatedly if it loops.
/// Answers with `FILE:LINE:COLUMN SEVERITY MESSAGE` for each problem.
fn find_problems(matchers: &serde_json::Value, output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.lines().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let hit = matchers.as_array().unwrap().iter().find_map(|matcher| {
            let patterns = match &matcher["pattern"] {
                serde_json::Value::Array(patterns) => patterns.clone(),
                one => vec![one.clone()],
            };
            match_patterns(&patterns, &lines[at..])
        });
        match hit {
            Some((taken, problems)) => {
                found.extend(problems);
                at += taken;
            }
            None => at += 1,
        }
    }
    found
}

/// Returns how many lines match, and their problems.
fn match_patterns(patterns: &[serde_json::Value], lines: &[&str]) -> Option<(usize, Vec<String>)> {
    let mut parts = std::collections::BTreeMap::new();
    let mut read = |pattern: &serde_json::Value, line: &str| {
        let regexp = Regex::new(pattern["regexp"].as_str().unwrap()).unwrap();
        let captures = regexp.captures(line)?;
        for name in ["file", "line", "column", "severity", "message"] {
            if let Some(group) = pattern[name].as_u64() {
                let text = captures.get(usize::try_from(group).unwrap());
                parts.insert(name, text.map_or("", |text| text.as_str()).to_owned());
            }
        }
        let part = |name: &str| parts.get(name).map_or("", String::as_str);
        Some(format!(
            "{}:{}:{} {} {}",
            part("file"),
            part("line"),
            part("column"),
            part("severity"),
            part("message")
        ))
    };
    let mut problem = String::new();
    for (number, pattern) in patterns.iter().enumerate() {
        problem = read(pattern, lines.get(number)?)?;
    }
    let last = patterns.last()?;
    let (mut taken, mut problems) = (patterns.len(), vec![problem]);
    while last["loop"] == true
        && let Some(more) = lines.get(taken).and_then(|line| read(last, line))
    {
        problems.push(more);
        taken += 1;
    }
    Some((taken, problems))
}

#[test]
fn editor_tasks_fit_the_parts_and_leave_what_is_ignored() {
    let lab = Lab::new();
    let toolkit = crate::vendor_parts::this_toolkit(&lab);
    let settings = (".vscode/settings.json", "{}\n");
    let place = crate::vendor::guest(&lab, &[settings]);
    crate::vendor::vendor(&toolkit, &["--parts", "checks"]).success().says(".vscode/tasks.json");
    let tasks: serde_json::Value = serde_json::from_str(&place.read(".vscode/tasks.json")).unwrap();
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 2, "no services, no `start`");
    let manifest = place.read("xtask/VENDORED.toml");
    let placed = "\n\".vscode/tasks.json\" = \"xtask/crates/vendoring/src/starters/tasks.json\"\n";
    assert!(manifest.contains(placed), "`upgrade` brings it up to date");
    // Where each user has tasks of their own, as an editor made them, none are shared.
    let ignored = lab.repo_with("ignored", &[settings, (".gitignore", ".vscode/tasks.json\n")]);
    ignored.write(".vscode/tasks.json", "{ // mine\n}\n");
    let ran = toolkit.xtask(&["vendor", "../ignored"]).success();
    ran.never_says("tasks.json");
    assert_eq!(ignored.read(".vscode/tasks.json"), "{ // mine\n}\n");
    // An existing list is not rewritten.
    let theirs = "{ // ours\n  \"tasks\": [],\n}\n";
    let has = lab.repo_with("has", &[(".vscode/tasks.json", theirs)]);
    let ran = toolkit.xtask(&["vendor", "../has", "--name", "ops"]).success();
    ran.says("edit `.vscode/tasks.json` manually").says("\"command\": \"cargo ops validate -v\"");
    assert_eq!(has.read(".vscode/tasks.json"), theirs);
}

#[test]
fn subprojects_get_their_own_checks_with_required_tool_versions() {
    let lab = Lab::new();
    let toolkit = crate::vendor::toolkit(&lab);
    let place = crate::vendor::guest(
        &lab,
        &[
            ("pyproject.toml", "[project]\nname = 'p'\nrequires-python = '>=3.9,<4'\n"),
            (".tool-versions", "nodejs 20.11.1\npython 3.12.1\n"),
            (
                "web/package.json",
                r#"{"scripts": {"lint": "eslint ."}, "devDependencies": {"x": "1"}}"#,
            ),
            ("web/package-lock.json", "{}"),
            ("tools/go.mod", "module t\n\ngo 1.24\n"),
        ],
    );
    crate::vendor::vendor(&toolkit, &[]).success();
    let text = place.read("setup/validate.toml");
    for wanted in [
        "tool = \"python3\"\nversion = \">=3.9, <4\"\n",
        "tool = \"node\"\nversion = \">=20.11\"\n",
        "name = \"lint-web\"\nphase = \"quality\"\nrun = \"npm run lint\"\ncwd = \"web\"\n",
        "file = \"web/node_modules/.package-lock.json\"\ncwd = \"web\"\n",
        "name = \"go-vet-tools\"\n",
    ] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    place.git(&["commit", "--quiet", "-m", "Add xtask"]);
    place.xtask(&["validate", "--list"]).success().says("go-vet-tools");
}
