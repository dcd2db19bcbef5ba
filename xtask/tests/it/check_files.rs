//! Checks of files: which files a check is given, how its command gets them, and which of them are checked again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use xtask_config::{BranchesConfig, VALIDATE_FILE, ValidateConfig};

use crate::testkit::{Lab, Place, write_script};

/// A script that writes each of its arguments to `log`, and fails if a file has the word `bad`.
const LINTER: &str =
    "#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\" >> \"$LOG\"\n! grep -l bad -- \"$@\"\n";

fn scene<'a>(lab: &'a Lab, checks: &str) -> Place<'a> {
    let repo = lab.repo();
    repo.write_executable("lint", LINTER);
    repo.write("rules", "1\n");
    repo.write(VALIDATE_FILE, checks);
    for name in ["a.py", "src/b.py", "src/deep/c.py", "src/d.js"] {
        repo.write(name, "fine\n");
    }
    repo.write("vendor/v.py", "bad\n");
    repo.write("bin/tool", "#!/usr/bin/env python3\n");
    repo.write("bin/other", "#!/bin/sh\n");
    repo.commit("files");
    repo
}

/// Runs `validate` and returns what the linter was given since the last time.
fn given(lab: &Lab, repo: &Place<'_>, args: &[&str], code: i32) -> String {
    let log = lab.path("log");
    drop(std::fs::remove_file(&log));
    let args: Vec<&str> = ["validate"].iter().chain(args).copied().collect();
    repo.xtask_with(&args, &[("LOG", log.as_str())]).status(code);
    std::fs::read_to_string(&log).unwrap_or_default().replace('\n', " ").trim_end().to_owned()
}

const LINT: &str = "[[check]]\nname = 'lint'\nrun = './lint {files}'\nfiles = ['*.py', '#!python']\n\
    exclude = 'vendor/'\ninputs = ['rules']\nenv = ['LOG']\ntools = ['grep']\n";

#[test]
fn a_command_gets_the_files_that_match_by_name_or_first_line() {
    let lab = Lab::new();
    let repo = scene(&lab, LINT);
    assert_eq!(given(&lab, &repo, &[], 0), "4 a.py bin/tool src/b.py src/deep/c.py");
    repo.write("new.py", "fine\n");
    repo.write(".gitignore", "ignored/\n");
    repo.write("ignored/x.py", "bad\n");
    assert_eq!(given(&lab, &repo, &[], 0), "5 a.py bin/tool new.py src/b.py src/deep/c.py");
    repo.remove("a.py");
    repo.link("src/b.py", "a.py");
    assert_eq!(given(&lab, &repo, &[], 0), "4 bin/tool new.py src/b.py src/deep/c.py");
    // Those that are named.
    let named = ["--files", "src/b.py", "src/d.js"];
    assert_eq!(given(&lab, &repo, &named, 0), "1 src/b.py");
    let none = repo.xtask(&["-v", "validate", "--files", "src/d.js"]).success();
    none.says("none of its `files` is named by `--files`");
    let refused = repo.xtask(&["validate", "--files", "src/z.py", "src"]).status(2);
    refused.says("`src/z.py` not found");
    assert_eq!(
        given(&lab, &repo, &["--files", "src", "new.py"], 0),
        "3 new.py src/b.py src/deep/c.py"
    );
    assert_eq!(
        given(&lab, &repo, &["--files", "."], 0),
        "4 bin/tool new.py src/b.py src/deep/c.py"
    );
}

#[test]
fn checks_without_files_are_left_out_of_a_run_on_some_unless_others_need_them() {
    let lab = Lab::new();
    let checks = "[[check]]\nname = 'tests'\nrun = 'false'\ninputs = ['**/*.py']\n\
        [[check]]\nname = 'tool'\ntool = 'sh'\n\
        [[check]]\nname = 'other'\nrun = 'false {files}'\nfiles = '*.md'\n\
        [[check]]\nname = 'lint'\nrun = 'true {files}'\nfiles = '*.py'\nneeds = ['tool']\n";
    let repo = scene(&lab, checks);
    let ran = repo.xtask(&["-v", "validate", "--files", "src/b.py"]).success();
    let ran = ran.says("it has no `files`, and `--files` names some");
    let outcomes: Vec<String> = ["tests", "tool", "other", "lint"]
        .iter()
        .map(|name| {
            let line = ran
                .out
                .lines()
                .find(|line| line.split("  ").filter(|word| !word.is_empty()).nth(1) == Some(name));
            line.unwrap_or_else(|| panic!("{name} in {}", ran.out)).trim()[..6].to_owned()
        })
        .collect();
    assert_eq!(outcomes, ["left o", "passed", "left o", "passed"]);
}

#[test]
fn a_command_gets_what_has_changed_since_the_merge_base() {
    let lab = Lab::new();
    let repo = scene(&lab, LINT);
    repo.git(&["switch", "-q", "-c", "feature"]);
    repo.write("src/b.py", "fine, too\n");
    repo.commit("b");
    repo.git(&["rm", "-q", "src/deep/c.py"]);
    repo.write("loose.py", "fine\n");
    repo.git(&["stash", "-q", "-u"]);
    repo.git(&["switch", "-q", "main"]);
    repo.write("src/only-main.py", "bad\n");
    repo.commit("not of this branch");
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["stash", "pop", "-q", "--index"]);
    assert_eq!(given(&lab, &repo, &["--since", "main"], 0), "2 loose.py src/b.py");
    // Where what decides has changed, all files are looked at.
    repo.write("rules", "2\n");
    assert_eq!(given(&lab, &repo, &["--since", "main"], 0), "4 a.py bin/tool loose.py src/b.py");
    repo.git(&["stash", "-q", "-u"]);
    repo.git(&["switch", "-q", "main"]);
    let none = repo.xtask(&["-v", "validate", "--since", "HEAD"]).success();
    none.says("none of its `files` has changed since `HEAD`");
    repo.xtask(&["validate", "--since", "nowhere"]).status(2).says("invalid revision `nowhere`");
}

#[test]
fn names_of_any_bytes_are_arguments_and_never_options_or_shell() {
    let lab = Lab::new();
    let shell = LINT.replace("'./lint {files}'", "'./lint {files} && true'\nshell = true")
        + &LINT.replace("'lint'", "'plain'");
    let repo = scene(&lab, &shell);
    let odd: [&[u8]; 4] = [b"-rf.py", b"a b;touch pwned.py", b"$(touch pwned).py", b"caf\xe9.py"];
    for name in odd {
        std::fs::write(repo.dir.as_std_path().join(OsStr::from_bytes(name)), "bad\n").unwrap();
    }
    let log = lab.path("log");
    repo.xtask_with(&["validate"], &[("LOG", log.as_str())]).status(1);
    let said = std::fs::read(&log).unwrap();
    for name in [&b"./-rf.py"[..], odd[1], odd[2], odd[3]] {
        let line = [b"\n", name, b"\n"].concat();
        let found = said.windows(line.len()).filter(|part| *part == line).count();
        assert_eq!(found, 2, "{}", String::from_utf8_lossy(name));
    }
    assert!(!repo.has("pwned") && !repo.has("pwned.py"));
}

#[test]
fn files_are_relative_to_the_folder_of_the_check() {
    let lab = Lab::new();
    let checks = LINT.replace("'./lint {files}'", "'../lint {files}'\ncwd = 'src'");
    let repo = scene(&lab, &checks);
    repo.write("src/-x.py", "fine\n");
    assert_eq!(given(&lab, &repo, &[], 0), "3 ./-x.py b.py deep/c.py");
}

#[test]
fn many_files_are_split_and_every_part_counts() {
    let lab = Lab::new();
    let repo = scene(&lab, &LINT.replace("exclude", "serial = true\nexclude"));
    let long = "x".repeat(180);
    for at in 0..1500 {
        repo.write(&format!("many/{long}{at}.py"), "fine\n");
    }
    // The system allows 128 KiB at least.
    let said = given(&lab, &repo, &["--jobs", "1"], 0);
    let sizes: Vec<usize> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(sizes.len() > 1, "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 1504);
    let bad = format!("many/{long}1499.py");
    repo.write(&bad, "bad\n");
    let failed = repo.xtask_with(&["validate"], &[("LOG", "/dev/null")]).status(1);
    failed.says(&bad).says("lint: exited with code 1");
}

#[test]
fn after_an_edit_only_that_file_is_checked_again() {
    let lab = Lab::new();
    let repo = scene(&lab, &LINT.replace("exclude", "each = true\nexclude"));
    let fast = ["--fast"];
    assert_eq!(given(&lab, &repo, &fast, 0), "4 a.py bin/tool src/b.py src/deep/c.py");
    assert_eq!(given(&lab, &repo, &fast, 0), "", "all have passed");
    repo.write("src/b.py", "bad\n");
    assert_eq!(given(&lab, &repo, &fast, 1), "1 src/b.py");
    assert_eq!(given(&lab, &repo, &fast, 1), "1 src/b.py", "a failure is not kept");
    repo.write("src/b.py", "fine, too\n");
    repo.write("new.py", "fine\n");
    let log = lab.path("log");
    let dry = ["validate", "--dry-run", "--fast"];
    let why = repo.xtask_with(&dry, &[("LOG", log.as_str())]).success();
    why.says("2 of 5 files to check, the others passed before");
    assert_eq!(given(&lab, &repo, &fast, 0), "2 new.py src/b.py");
    // The mode counts, the order of names does not.
    repo.make_executable("a.py");
    assert_eq!(given(&lab, &repo, &fast, 0), "1 a.py");
    repo.git(&["mv", "src/deep/c.py", "src/deep/e.py"]);
    assert_eq!(given(&lab, &repo, &fast, 0), "1 src/deep/e.py", "its name is part of a file");
    // What all depend on.
    repo.write("rules", "2\n");
    assert_eq!(given(&lab, &repo, &fast, 0), "5 a.py bin/tool new.py src/b.py src/deep/e.py");
    assert_eq!(given(&lab, &repo, &["--fast", "--files", "a.py"], 0), "");
    assert_eq!(given(&lab, &repo, &["--files", "a.py"], 0), "1 a.py", "without `--fast` all run");
    repo.write("rules", "1\n");
    assert_eq!(given(&lab, &repo, &fast, 0), "", "each state is remembered");
}

#[test]
fn parts_that_passed_are_kept_when_another_fails() {
    let lab = Lab::new();
    let repo = scene(&lab, &LINT.replace("exclude", "each = true\nexclude"));
    for at in 0..44 {
        repo.write(&format!("many/{at:02}.py"), if at == 0 { "bad\n" } else { "fine\n" });
    }
    let said = given(&lab, &repo, &["--fast", "--jobs", "2"], 1);
    assert_eq!(said.split(' ').filter(|word| *word == "24").count(), 2, "{said}");
    repo.write("many/00.py", "fine\n");
    let said = given(&lab, &repo, &["--fast", "--jobs", "2"], 0);
    assert!(said.starts_with("24 "), "the part that failed: {said}");
}

#[test]
fn a_file_that_changes_while_it_is_checked_has_not_passed() {
    let lab = Lab::new();
    let checks = LINT.replace("exclude", "each = true\nexclude");
    let repo = scene(&lab, &checks);
    repo.write_executable("lint", &format!("{LINTER}\necho more >> a.py\n"));
    let all = "4 a.py bin/tool src/b.py src/deep/c.py";
    assert_eq!(given(&lab, &repo, &["--fast"], 0), all);
    assert_eq!(given(&lab, &repo, &["--fast"], 0), "1 a.py");
}

#[test]
fn file_rules_find_and_fix_and_look_at_each_file_once() {
    let lab = Lab::new();
    let checks = "[[check]]\nname = 'text'\nexclude = 'lint'\n\
        built-in = ['trailing-whitespace', 'end-of-file-fixer', 'check-json', 'check-case-conflict']\n";
    let repo = scene(&lab, checks);
    repo.write("x.txt", "a \nb");
    repo.write("x.json", "{\"a\": 1, \"a\": 2}\n");
    repo.write("sub/README", "x\n");
    repo.write("sub/Readme", "x\n");
    repo.commit("faults");
    let failed = repo.xtask(&["validate", "--no-fix"]).status(1);
    let failed = failed.says("x.txt:1: trailing whitespace (trailing-whitespace)");
    let failed = failed.says("x.txt:2: no newline at the end of the file (end-of-file-fixer)");
    let failed = failed.says("x.json:1: ").says("(check-json)").says("(check-case-conflict)");
    failed.says("5 faults in 4 files");
    let still = repo.xtask(&["validate"]).status(1);
    still.says("it ran, but the check still fails; 1 file restored");
    assert_eq!(repo.read("x.txt"), "a \nb");
    repo.write("x.json", "{\"a\": 1}\n");
    repo.git(&["rm", "-q", "-f", "sub/Readme"]);
    repo.xtask(&["validate"]).success().says("fixed");
    assert_eq!(repo.read("x.txt"), "a\nb\n");
    repo.xtask(&["validate", "--undo", "last"]).success();
    assert_eq!(repo.read("x.txt"), "a \nb");
    let sarif = lab.path("sarif");
    repo.xtask(&["validate", "--no-fix", "--sarif", sarif.as_str()]).status(1);
    let sarif = std::fs::read_to_string(&sarif).unwrap();
    assert!(sarif.contains("\"uri\": \"x.txt\"") || sarif.contains("\"uri\":\"x.txt\""), "{sarif}");
}

#[test]
fn what_a_configuration_of_files_cannot_mean_is_said_at_once() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write(
        VALIDATE_FILE,
        "[[check]]\nname = 'a'\nrun = 'x --only={files}'\n\
         [[check]]\nname = 'b'\nrun = 'x \"{files}\"'\nshell = true\n\
         [[check]]\nname = 'c'\nrun = 'x'\neach = true\n\
         [[check]]\nname = 'd'\nrun = 'x {files}'\nfiles = ['../x', '!y', '#!a b']\n\
         [[check]]\nname = 'e'\nrun = 'x {message}'\nhook = 'pre-commit'\n\
         [[check]]\nname = 'f'\nbuilt-in = ['check-yml', 'sync']\n\
         [[check]]\nname = 'g'\nrun = 'x'\nrestage = true\nskip-during = 'merge'\n\
         [[check]]\nname = 'h'\nrun = 'x {files}'\nrestage = true\nhook = 'post-commit'\n",
    );
    let refused = repo.xtask(&["validate"]).status(2);
    let refused = refused.says(":3: `run` has `{files}` as a part of a word");
    let refused = refused.says(":6: `run` has `{files}` as a part of a word");
    let refused = refused.says(":11: `each` is for checks with `files`");
    let refused = refused.says("`files` has `../x`").says("`exclude` takes files back");
    let refused = refused.says("`files` has `#!a b`").says("`{message}` requires `hook`");
    let refused =
        refused.says("did you mean `check-yaml`?").says("`sync` must be a check of its own");
    let refused =
        refused.says("`restage` is for checks with `files`").says("`skip-during` requires `hook`");
    refused.says("`restage` requires a `fix`").says("`hook` has `post-commit`");
}

/// The lines of `setup/validate.toml` in the right column of the page for users of other tools.
#[test]
fn docs_for_users_of_other_tools_have_valid_lines() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/coming-from.md");
    // Absent in a repository that took the toolkit in.
    let Ok(page) = std::fs::read_to_string(page) else { return };
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let row = row.replace("\\|", "\u{0}");
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap().replace('\u{0}', "|");
        let lines: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let (top, mut check): (Vec<&str>, Vec<&str>) = lines
            .into_iter()
            .filter(|line| line.contains(" = ") || line.starts_with('['))
            .partition(|line| line.starts_with('[') || line.starts_with("gate "));
        if check.first().is_some_and(|line| line.starts_with("protected = ")) {
            BranchesConfig::parse("f", check[0]).expect(&row);
            continue;
        }
        let has = |name: &str| check.iter().any(|line| line.starts_with(&format!("{name} = ")));
        let (has_name, does) = (has("name"), has("run") || has("tool") || has("built-in"));
        check.extend((!has_name).then_some("name = 'x'"));
        check.extend((!does).then_some("run = 'true {files}'"));
        // Once there is a phase, every check names one.
        let phase = check.iter().find(|line| line.starts_with("phase = ")).unwrap_or(&"");
        let text = format!(
            "{}\n[[check]]\nname = 'build'\nrun = 'true'\n{phase}\n[[check]]\n{}\n",
            top.join("\n"),
            check.join("\n")
        );
        let found = ValidateConfig::parse("f", &text);
        assert!(found.is_ok(), "{row}\n{text}\n{:?}", found.err().map(|e| e.details().to_vec()));
        rows += 1;
    }
    assert!(rows > 70, "{rows} rows");
}

#[test]
fn a_check_runs_if_what_it_names_or_reads_through_a_link_has_changed() {
    let checks = "[[check]]\nname = 'script'\nrun = './lint'\ninputs = ['a.txt']\ntools = ['./lint']\n\
        [[check]]\nname = 'linked'\nrun = 'cat web/common/b.txt'\ninputs = ['web/**']\n\
        [[check]]\nname = 'page'\nrun = 'cat {files}'\nfiles = ['*.md']\ninputs = ['app/[id]/page.tsx']\n";
    let lab = Lab::new();
    let repo = lab.repo_with(
        "repo",
        &[(VALIDATE_FILE, checks), ("a.txt", "a\n"), ("common/b.txt", "b\n"), ("c.md", "c\n")],
    );
    write_script(&repo.dir.join("lint"), "#!/bin/sh\n");
    repo.write("app/[id]/page.tsx", "x\n");
    std::fs::create_dir(repo.dir.join("web")).unwrap();
    std::os::unix::fs::symlink("../common", repo.dir.join("web/common")).unwrap();
    repo.commit("all");
    let ran = || {
        let json = repo.xtask(&["validate", "--since", "HEAD", "--json"]).json();
        let checks = json["checks"].as_array().unwrap().clone();
        let ran = checks.iter().filter(|check| check["outcome"] == "passed");
        ran.map(|check| check["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ran(), "");
    for (file, expected) in
        [("lint", "script"), ("common/b.txt", "linked"), ("app/[id]/page.tsx", "page")]
    {
        let text = repo.read(file) + "# edited\n";
        repo.write(file, text);
        assert_eq!(ran(), expected, "{file}");
        repo.git(&["checkout", "-q", "--", "."]);
    }
}

#[test]
fn a_check_of_a_submodule_runs_if_something_in_it_has_changed() {
    let checks = "[[check]]\nname = 'in'\nrun = 'true'\ninputs = ['mod/**/*.txt']\n\
        [[check]]\nname = 'out'\nrun = 'true'\ninputs = ['other/**']\n";
    let lab = Lab::new();
    let module = lab.repo_with("module", &[("a.txt", "a\n")]);
    let repo = lab.repo_with("repo", &[(VALIDATE_FILE, checks)]);
    let add =
        ["-c", "protocol.file.allow=always", "submodule", "-q", "add", module.dir.as_str(), "mod"];
    repo.git(&add);
    repo.commit("module");
    repo.git(&["config", "diff.ignoreSubmodules", "all"]);
    repo.write("mod/a.txt", "b\n");
    let run = repo.xtask(&["-v", "validate", "--since", "HEAD"]).success();
    run.says("passed    in").says("1 left out");
}
