//! The demo from the outside: what it leaves, what it touches, and what it does when it goes wrong.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::testkit::{Lab, trace};

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
fn the_story_is_as_told_and_leaves_nothing_behind() {
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
        "\nAll was as told (",
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
fn a_scene_that_is_kept_is_there_and_goes_on() {
    let lab = Lab::new();
    let outside = lab.place("out side");
    fs::create_dir(&outside.dir).unwrap();
    let ran = outside.xtask(&["demo", "--quiet", "--keep", "ada's scene"]).success();
    assert!(ran.out.starts_with("All was as told ("), "{}", ran.out);
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
    outside.xtask(&["demo", "--keep", "no/such/folder"]).status(3).says("cannot be made");
    assert_eq!(trace(outside.dir.as_std_path()), before);
}

#[test]
fn what_is_not_as_told_is_said_and_the_scene_stays() {
    let lab = Lab::new();
    let tmp = temporary(&lab);
    // A push that does nothing.
    let script = "[ \"$1\" != push ] || exit 0\nPATH=$real\nexec git \"$@\"\n";
    let path = path_with(&lab, "git", script);
    let place = lab.place("home");
    let ran = place.xtask_with(&["demo"], &[("TMPDIR", &tmp), ("PATH", &path)]).status(1);
    assert!(!ran.out.contains("All was as told"), "{}", ran.out);
    let ran = ran.says("error: not as told: the hub has `orchestration-tools` of ada");
    let ran = ran.says("  expected: ").says("  found: ").says("hint: the scene is left as it was");
    let [scene] = &entries(&tmp)[..] else { panic!("one scene is left") };
    ran.says(scene.to_str().unwrap());
    assert!(scene.join("ada/app.txt").is_file());
    // A command that ends in another way than told.
    let keep = lab.path("kept");
    let path =
        path_with(&lab, "git", "[ \"$1\" != push ] || exit 7\nPATH=$real\nexec git \"$@\"\n");
    let ran = place.xtask_with(&["demo", "--keep", keep.as_str()], &[("PATH", &path)]).status(1);
    let ran = ran.says("not as told: the end of `git push -u origin main`");
    ran.says("  expected: exit code 0\n  found: exit code 7\n").says("hint: the scene is left");
    assert!(keep.join("ada/app.txt").is_file());
}

#[test]
fn an_interrupt_ends_the_story_and_takes_the_scene_away() {
    let lab = Lab::new();
    let tmp = temporary(&lab);
    let place = lab.place("home");
    for pipe in ["here", "go"] {
        place.run("mkfifo", &[lab.path(pipe).as_str()], &[]).success();
    }
    let (here, go) = (lab.path("here"), lab.path("go"));
    let wait = format!("[ \"$1\" != push ] || {{ echo x > '{here}'; cat '{go}'; }}\n");
    let path = path_with(&lab, "git", &format!("{wait}PATH=$real\nexec git \"$@\"\n"));
    let mut demo = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("demo")
        .current_dir(&place.dir)
        .envs(place.environment())
        .env("TMPDIR", &tmp)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    fs::File::open(&here).unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(entries(&tmp).len(), 1);
    place.run("kill", &["-INT", &demo.id().to_string()], &[]).success();
    fs::write(&go, "go on\n").unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert!(entries(&tmp).is_empty(), "{:?}", entries(&tmp));
}
