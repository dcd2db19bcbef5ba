//! The demo from the outside: what it leaves, what it touches, and what it does when it goes wrong.
//! And the shortcuts in the `justfile`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::testkit::{Lab, Place, circle, program, spawn, trace};

/// A folder for temporary files that is empty.
fn temporary(lab: &Lab) -> String {
    let folder = lab.path("tmp");
    fs::create_dir(&folder).unwrap();
    folder.into_string()
}

/// What lies in a folder.
fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A `PATH` on which a program of ours lies before all others; in it, `$real` is the `PATH` without.
fn path_with(lab: &Lab, name: &str, script: &str) -> String {
    let real = std::env::var("PATH").unwrap();
    let bin = lab.place("bin");
    bin.write(name, format!("#!/bin/sh\nreal='{real}'\n{script}"));
    bin.make_executable(name);
    format!("{}:{real}", bin.dir)
}

#[test]
fn demo_ignores_user_configuration_and_cleans_up() {
    let lab = Lab::new();
    let tmp = temporary(&lab);
    let repo = lab.repo();
    // Nothing of this may be read: with any of it the story would go another way.
    lab.place("home").write(".gitconfig", "this is no configuration\n");
    fs::write(
        lab.path("gitconfig"),
        "[core]\n\thooksPath = /nowhere\n[commit]\n\tgpgSign = true\n[init]\n\tdefaultBranch = x\n",
    )
    .unwrap();
    let before = ["repo", "home", "gitconfig"].map(|name| trace(lab.path(name).as_std_path()));
    let ran = repo.xtask_with(
        &["demo"],
        &[
            ("TMPDIR", &tmp),
            ("CI", "true"),
            ("DISABLE_ORCHESTRATION_CHECKS", "1"),
            ("ORCHESTRATION_DISABLED", "true"),
            ("ORCHESTRATION_SYNC_ACTIVE", "1"),
            ("GIT_DIR", "/nowhere"),
            ("GIT_AUTHOR_NAME", "Somebody"),
            ("GIT_CONFIG_COUNT", "nonsense"),
            ("GIT_TRACE", "1"),
        ],
    );
    let ran = ran.success();
    for shown in [
        "ada $ git commit -am 'Lines of 100'\n    xtask: 1 branch is now behind",
        "ada $ cargo xtask reverse-sync feature/lint origin/feature/lint --yes\n",
        "(exit code 2)\n",
        "    ok: each byte is back\n",
        "\nAll results are as expected (",
    ] {
        assert!(ran.out.contains(shown), "no `{shown}` in\n{}", ran.out);
    }
    assert_eq!(ran.err, "");
    assert!(entries(&tmp).is_empty(), "{:?}", entries(&tmp));
    let after = ["repo", "home", "gitconfig"].map(|name| trace(lab.path(name).as_std_path()));
    assert_eq!(after, before, "the user's own is not touched");
}

/// Also: outside of a repository, where a name has to be quoted, and without a word.
#[test]
fn demo_keep_leaves_a_usable_sandbox() {
    let lab = Lab::new();
    let outside = lab.place("out side");
    fs::create_dir(&outside.dir).unwrap();
    let ran = outside.xtask(&["demo", "--quiet", "--keep", "ada's scene"]).success();
    assert!(ran.out.starts_with("All results are as expected ("), "{}", ran.out);
    assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
    let (ada, bob) = (outside.at("ada's scene/ada"), outside.at("ada's scene/bob"));
    // The shell is Ada's, whatever else is set, and her hooks fire.
    let line = ". ../home/ada/.profile && echo more > setup/more && git add . \
                && git commit -m more 2>&1 && git log -1 --format=%ae && cargo xtask status";
    let said = ada.run("sh", &["-c", line], &[("GIT_CONFIG_GLOBAL", "/nowhere")]).success();
    let said = said.says("1 branch is now behind").says("ada@example.invalid");
    said.says("branch     orchestration-tools");
    assert!(bob.read("setup/format.toml").contains("half a li"));
    assert_eq!(bob.status(), " M menu.txt\n M setup/format.toml\n");
    // Twice in the same place is refused, and so is a file.
    let before = trace(outside.dir.as_std_path());
    outside.xtask(&["demo", "--keep", "ada's scene"]).status(2).says("is not empty");
    outside.xtask(&["demo", "--keep", "ada's scene/bob/menu.txt"]).status(2).says("not a folder");
    outside.xtask(&["demo", "--keep", "no/such/folder"]).status(3).says("cannot create");
    assert_eq!(trace(outside.dir.as_std_path()), before);
}

#[test]
fn failed_demo_reports_the_mismatch_and_keeps_the_sandbox() {
    let lab = Lab::new();
    let tmp = temporary(&lab);
    // A push that does nothing.
    let script = "[ \"$1\" != push ] || exit 0\nPATH=$real\nexec git \"$@\"\n";
    let path = path_with(&lab, "git", script);
    let place = lab.place("home");
    let ran = place.xtask_with(&["demo"], &[("TMPDIR", &tmp), ("PATH", &path)]).status(1);
    assert!(!ran.out.contains("All results are as expected"), "{}", ran.out);
    let ran = ran.says("error: unexpected result: the hub has `orchestration-tools` of ada");
    let ran = ran.says("  expected: ").says("  found: ").says("hint: the demo's folder is kept");
    let [scene] = &entries(&tmp)[..] else { panic!("one scene is left") };
    ran.says(scene.to_str().unwrap());
    assert!(scene.join("ada/app.txt").is_file());
    // A command that ends in another way than told.
    let keep = lab.path("kept");
    let path =
        path_with(&lab, "git", "[ \"$1\" != push ] || exit 7\nPATH=$real\nexec git \"$@\"\n");
    let ran = place.xtask_with(&["demo", "--keep", keep.as_str()], &[("PATH", &path)]).status(1);
    let ran = ran.says("unexpected result: exit code of `git push -u origin main`");
    ran.says("  expected: exit code 0\n  found: exit code 7\n")
        .says("hint: the demo's folder is kept");
    assert!(keep.join("ada/app.txt").is_file());
}

#[test]
fn interrupted_demo_removes_its_sandbox() {
    let lab = Lab::new();
    let tmp = temporary(&lab);
    let place = lab.place("home");
    for pipe in ["here", "go"] {
        place.run("mkfifo", &[lab.path(pipe).as_str()], &[]).success();
    }
    let (here, go) = (lab.path("here"), lab.path("go"));
    let wait = format!("[ \"$1\" != push ] || {{ echo x > '{here}'; cat '{go}'; }}\n");
    let path = path_with(&lab, "git", &format!("{wait}PATH=$real\nexec git \"$@\"\n"));
    let mut demo = spawn(
        Command::new(program())
            .arg("demo")
            .current_dir(&place.dir)
            .envs(place.environment())
            .env("TMPDIR", &tmp)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
    .unwrap();
    let mut said = String::new();
    fs::File::open(&here).unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(entries(&tmp).len(), 1);
    place.run("kill", &["-INT", &demo.id().to_string()], &[]).success();
    fs::write(&go, "go on\n").unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert!(entries(&tmp).is_empty(), "{:?}", entries(&tmp));
}

/// The file with the shortcuts.
fn justfile() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../justfile").to_str().unwrap().to_owned()
}

/// The recipes for people that are one command: name, and the line that each is.
fn recipes() -> Vec<(String, String)> {
    let one = |(name, body): (String, Vec<String>)| {
        assert_eq!(body.len(), 1, "`{name}` is one line");
        (name, body[0].clone())
    };
    all_recipes().into_iter().filter(|(name, _)| !is_routine(name)).map(one).collect()
}

/// Several commands in a row, for each day.
fn is_routine(name: &str) -> bool {
    ["morning", "evening"].contains(&name)
}

/// All of them. Read by hand, so that it needs no `just`.
fn all_recipes() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(justfile()).unwrap();
    assert!(text.contains("\nset positional-arguments\n"), "without it `$@` is empty");
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(body) = line.strip_prefix("    ") {
            found.last_mut().expect("because a body follows a name").1.push(body.to_owned());
        } else if let Some(head) = line.strip_suffix(':') {
            let name = head.split(' ').next().unwrap();
            let is_open = head == format!("{name} *ARGS");
            let is_closed = name == "default" || is_routine(name) && head == name;
            assert!(is_open || is_closed, "`{name}` takes all arguments");
            found.push((name.to_owned(), Vec::new()));
        } else {
            let is_known = ["#", "set ", "[private]"].iter().any(|begin| line.starts_with(begin));
            assert!(is_known, "what is `{line}`?");
        }
    }
    assert_eq!(found.remove(0), ("default".to_owned(), vec!["@just --list".to_owned()]));
    found
}

/// A `PATH` on which `cargo` says what it was given, a line each.
fn path_with_talking_cargo(lab: &Lab) -> String {
    path_with(lab, "cargo", "printf '<%s>\\n' \"$@\"\n")
}

/// Arguments in which nothing may be split, expanded or taken for an option.
const ODD: [&str; 5] = ["-u", "a  b", "*", "$HOME", "--for=2h"];

/// What `cargo` is given by a recipe.
fn given(name: &str) -> String {
    let words = if name == "test" { vec!["xtest"] } else { vec!["xtask", name] };
    words.iter().chain(&ODD).map(|word| format!("<{word}>\n")).collect()
}

#[test]
fn just_recipes_name_existing_commands_and_pass_arguments() {
    let lab = Lab::new();
    let place = lab.place("home");
    let help = place.xtask(&["--help"]).success().out;
    let is_command =
        |name: &str| help.lines().any(|line| line.trim().split(' ').next() == Some(name));
    let path = path_with_talking_cargo(&lab);
    let recipes = recipes();
    for (name, line) in &recipes {
        let is_test = name == "test" && line == "cargo xtest \"$@\"";
        let is_ours = is_command(name) && *line == format!("cargo xtask {name} \"$@\"");
        assert!(is_test || is_ours, "`{name}` is `{line}`");
        // As `just` runs it.
        let args: Vec<&str> = ["-cu", line, name].into_iter().chain(ODD).collect();
        assert_eq!(place.run("sh", &args, &[("PATH", &path)]).success().out, given(name));
    }
    for name in [
        "setup",
        "sync",
        "status",
        "propagate",
        "reverse-sync",
        "extract",
        "promote",
        "push",
        "install-hooks",
        "demo",
        "test",
    ] {
        assert!(recipes.iter().any(|(known, _)| known == name), "no `just {name}`");
    }
}

#[test]
fn daily_just_routines_consist_of_existing_commands() {
    let lab = Lab::new();
    let repo = lab.repo();
    let file = "[[check]]\nname = 'c'\nrun = 'true'\n";
    repo.write("setup/validate.toml", file);
    repo.write(
        "deployment/local.toml",
        "[status]\nenabled = false\n[service.a]\nrun = 'sleep 600'\n",
    );
    repo.commit("what a day needs");
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.write("src/app", "the work of the day\n");
    let own = format!("shift; exec '{}' \"$@\"\n", program());
    let path = path_with(&lab, "cargo", &own);
    let routines = all_recipes().into_iter().filter(|(name, _)| is_routine(name));
    let routines: Vec<(String, Vec<String>)> = routines.collect();
    assert_eq!(
        routines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["morning", "evening"]
    );
    for (_, lines) in &routines {
        for line in lines {
            repo.run("sh", &["-cu", line], &[("PATH", &path)]).success();
        }
    }
    repo.xtask(&["backup", "--list"]).success().says("`evening`");
    repo.xtask(&["ps"]).never_says("ready");
}

/// Where `just` is not installed, the test above is all there is, and this one says so.
#[test]
fn installed_just_lists_and_runs_the_recipes() {
    let lab = Lab::new();
    let place = lab.place("home");
    let is_installed = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .any(|folder| folder.join("just").is_file());
    if !is_installed {
        circle::not_tried("`just` is not installed");
        return;
    }
    let path = path_with_talking_cargo(&lab);
    let file = justfile();
    let just = |args: &[&str]| -> crate::testkit::Ran {
        let all: Vec<&str> =
            ["--justfile", &file].into_iter().chain(args.iter().copied()).collect();
        run_just(&place, &all, &path)
    };
    let list = just(&["--list"]).out;
    for (name, line) in recipes() {
        assert!(list.contains(&format!("\n    {name} ")), "{list}");
        assert_eq!(just(&["--dry-run", &name]).err.trim_end(), line);
        let args: Vec<&str> = [&name[..]].into_iter().chain(ODD).collect();
        assert_eq!(just(&args).out, given(&name));
    }
}

fn run_just(place: &Place<'_>, args: &[&str], path: &str) -> crate::testkit::Ran {
    place.run("just", args, &[("PATH", path)]).success()
}
