//! Passes that must not count: what the key knew nothing of until somebody was wrong by it.

use crate::testkit::{Lab, write_script};
use crate::wrong_hits::{fast, is_seen, scene, settle};

#[test]
fn input_names_with_glob_characters_match_existing_files_literally() {
    let text = "[[check]]\nname = 'c'\nrun = 'true'\ninputs = ['app/[slug]/page.tsx', 'a*b']\n";
    is_seen(
        text,
        |repo| {
            repo.write("app/[slug]/page.tsx", "1");
            repo.write("a*b", "1");
        },
        |repo| repo.write("app/[slug]/page.tsx", "2"),
    );
    // Where no such file is, it is a class of letters, matches nothing, and the check always runs.
    let lab = Lab::new();
    let repo = scene(
        &lab,
        "[[check]]\nname = 'c'\nrun = 'true'\ninputs = ['app/[slug]/**', 'src/input']\n",
    );
    repo.write("app/[slug]/page.tsx", "1");
    repo.xtask(&["validate", "--fast"]).success();
    assert_eq!(fast(&repo), "passed");
}

#[test]
fn tool_selecting_variables_are_part_of_the_cache_key() {
    let lab = Lab::new();
    let repo = scene(&lab, "[[check]]\nname = 'c'\nrun = 'true'\ninputs = ['src/input']\n");
    settle(&repo);
    for variable in [
        "PYENV_VERSION",
        "RUSTUP_TOOLCHAIN",
        "NODE_OPTIONS",
        "VIRTUAL_ENV",
        "MISE_NODE_VERSION",
        "ASDF_RUBY_VERSION",
        "JAVA_HOME",
        "GOTOOLCHAIN",
    ] {
        let ran =
            repo.xtask_with(&["validate", "--fast", "--why"], &[(variable, "other")]).success();
        ran.says(&format!("variable `{variable}`"));
        repo.xtask(&["validate", "--fast"]).success();
    }
    // What only says where one is does not count.
    let ran =
        repo.xtask_with(&["validate", "--fast", "--json"], &[("MISE_SHELL", "zsh")]).success();
    assert_eq!(ran.json()["checks"][0]["outcome"], "cached");
}

#[test]
fn commands_that_run_other_tools_always_run_unless_named() {
    let lab = Lab::new();
    let programs = lab.path("programs");
    let names = ["python3.11", "node", "cross-env", "coverage", "pre-commit", "cargo", "pipenv"];
    for name in names {
        write_script(&programs.join(name), "#!/bin/sh\necho 1\n");
    }
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    for (command, runs) in [
        ("python3.11 -m mylint", true),
        ("python3.11 check.py", false),
        ("node node_modules/.bin/eslint", true),
        ("node --version", false),
        ("cross-env A=1 lint", true),
        ("coverage run -m pytest", true),
        ("coverage report", false),
        ("pre-commit run --all-files", true),
        ("cargo nextest run", true),
        ("cargo +stable test", false),
        ("pipenv run lint", true),
    ] {
        let text = format!("[[check]]\nname = 'c'\nrun = '{command}'\ninputs = ['src/input']\n");
        let repo = scene(&lab, &text);
        let why =
            || repo.xtask_with(&["validate", "--fast", "--why"], &[("PATH", &path)]).success();
        why();
        let second = why();
        assert_eq!(
            second.out.contains("`tools` does not list the programs that "),
            runs,
            "{command}: {}",
            second.out
        );
        std::fs::remove_dir_all(&repo.dir).unwrap();
    }
}

/// The files that several checks name are looked at once, until the first command begins.
#[test]
fn files_changed_by_a_check_are_reread_by_later_ones() {
    let lab = Lab::new();
    let text = "[phase.one]\n[phase.two]\n\
                [[check]]\nname = 'c'\nphase = 'two'\nrun = 'grep -q good src/input'\ninputs = ['src/input']\n\
                [[check]]\nname = 'same'\nphase = 'one'\nrun = 'true'\ninputs = ['src/input']\n\
                [[check]]\nname = 'changes'\nphase = 'one'\nrun = 'cp src/next src/input'";
    let repo = scene(&lab, text);
    repo.write("src/next", "good\n");
    for _ in 0..2 {
        repo.xtask(&["validate", "--fast"]).success();
    }
    repo.write("src/next", "bad!\n");
    repo.xtask(&["validate", "--fast", "--no-fix"]).status(1).says("c: exited with code 1");
}
