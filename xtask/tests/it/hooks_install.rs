//! Hooks in and out of a repository: what was there keeps working and comes back byte for byte.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

use xtask_base::files::{Disk, DiskOperation};
use xtask_git::Repo;
use xtask_hooks::Hook;
use xtask_hooks::shim_install::{install_shims, uninstall_shims};

use crate::builds::homes;
use crate::testkit::{
    Lab, Place, circle, files, program, spawn, trace, write_alone, write_script, write_toolkit,
};

const HOOKS: [&str; 6] =
    ["post-checkout", "post-merge", "post-rewrite", "post-commit", "pre-commit", "pre-push"];

fn hook(place: &Place<'_>, name: &str, text: &str) {
    let path = format!(".git/hooks/{name}");
    place.write_executable(&path, &format!("#!/bin/sh\n{text}\n"));
}

fn install_hooks(place: &Place<'_>) {
    place.install_hooks().success();
}

/// The same with a program that is copied, as everywhere but in tests.
fn install_with_a_copy(place: &Place<'_>) {
    place.xtask(&["install-hooks", "--this-program"]).success();
}

/// The folder of the hooks: every name with mode and content, also of links.
fn hooks_of(place: &Place<'_>) -> std::collections::BTreeMap<String, (u32, String)> {
    let mut found = files(place.dir.join(".git/hooks").as_std_path());
    found.retain(|name, _| !name.ends_with(".sample"));
    found
}

#[test]
fn reinstalling_hooks_is_idempotent_and_uninstalling_removes_everything() {
    let lab = Lab::new();
    let repo = lab.repo();
    let before = hooks_of(&repo);
    let ran = repo.xtask(&["install-hooks", "--this-program"]).success();
    for name in HOOKS {
        assert!(ran.out.contains(name), "{}", ran.out);
        assert!(repo.has(&format!(".git/hooks/{name}")), "{name}");
    }
    let installed = trace(repo.dir.join(".git").as_std_path());
    let again = repo.xtask(&["install-hooks", "--this-program"]).success();
    assert_eq!(again.out, "");
    assert_eq!(trace(repo.dir.join(".git").as_std_path()), installed);
    repo.xtask(&["uninstall-hooks"]).success().says("removed");
    assert_eq!(hooks_of(&repo), before);
    assert!(!repo.has(".git/xtask/bin"));
    repo.xtask(&["uninstall-hooks"]).success();
    repo.xtask(&["hooks", "status"]).status(1).says("not installed");
    // A look at what would be done writes nothing.
    let before = trace(repo.dir.join(".git").as_std_path());
    let dry = repo.xtask(&["install-hooks", "--this-program", "--dry-run"]).success();
    dry.says("nothing is written").says("post-checkout  installed");
    assert_eq!(trace(repo.dir.join(".git").as_std_path()), before);
}

#[test]
fn uninstalling_restores_previous_hooks_byte_for_byte() {
    let lab = Lab::new();
    let repo = lab.repo();
    hook(&repo, "pre-commit", "exit 0 # \u{1f980} and no line end at the end");
    repo.write(".git/hooks/post-merge", b"\x7fELF\x00\xff not run by anybody");
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(repo.dir.join(".git/hooks/post-merge"), mode).unwrap();
    repo.write("scripts/push.sh", "#!/bin/sh\nexit 0\n");
    repo.make_executable("scripts/push.sh");
    repo.link("../../scripts/push.sh", ".git/hooks/pre-push");
    hook(&repo, "commit-msg", "exit 0");
    let before = hooks_of(&repo);
    install_hooks(&repo);
    assert_ne!(hooks_of(&repo), before);
    repo.xtask(&["hooks", "status"]).success().says("post-merge.pre-xtask` is not executable");
    repo.xtask(&["uninstall-hooks"]).success().says("restored");
    assert_eq!(hooks_of(&repo), before);
}

#[test]
fn previous_hook_gets_arguments_and_input_and_can_fail() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["init", "-q", "--bare", lab.path("hub").as_str()]);
    repo.git(&["remote", "add", "origin", lab.path("hub").as_str()]);
    let log = lab.path("log");
    hook(&repo, "pre-push", &format!("echo \"$@\" >> {log}; cat >> {log}"));
    hook(&repo, "post-checkout", &format!("echo \"$3\" >> {log}; exit ${{FAIL:-0}}"));
    hook(&repo, "pre-commit", &format!("echo \"index $GIT_INDEX_FILE\" >> {log}; exit $REFUSE"));
    install_hooks(&repo);
    let id = repo.head();
    repo.git(&["push", "-q", "origin", "main"]);
    let zero = "0".repeat(40);
    let hub = lab.path("hub");
    let said = format!("origin {hub}\nrefs/heads/main {id} refs/heads/main {zero}\n");
    assert_eq!(fs::read_to_string(&log).unwrap(), said);
    fs::remove_file(&log).unwrap();
    // A post-checkout hook that fails makes the command fail; ours runs all the same.
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let ran = repo.run("git", &["switch", "-qc", "feature"], &[("FAIL", "7")]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(repo.read("setup/a"), "a2\n");
    fs::remove_file(&log).unwrap();
    repo.write("src/app", "changed\n");
    let commit = ["commit", "-qam", "x"];
    assert_eq!(repo.run("git", &commit, &[("REFUSE", "3")]).code, Some(1));
    repo.run("git", &commit, &[("REFUSE", "0")]).success();
    let log = fs::read_to_string(&log).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("index.lock")).count(), 2, "{log}");
}

#[test]
fn outdated_or_edited_shims_are_renewed_and_saved() {
    let lab = Lab::new();
    let repo = lab.repo();
    install_hooks(&repo);
    let shim = repo.read(".git/hooks/pre-commit");
    let changed = format!("{shim}echo my own line\n");
    repo.write(".git/hooks/pre-commit", &changed);
    repo.write(".git/hooks/post-merge", shim.replace("shim 1:", "shim 0:"));
    repo.xtask(&["hooks", "status"]).status(1).says("outdated or changed manually");
    let ran = repo.xtask(&["install-hooks", "--this-program"]).success().says("updated");
    assert_eq!(repo.read(".git/hooks/pre-commit"), shim);
    let saved = ran.out.lines().find(|line| line.contains("pre-commit")).unwrap();
    let saved = saved.rsplit(' ').next().unwrap();
    assert_eq!(fs::read_to_string(saved).unwrap(), changed);
    // Without its bit git would not run it.
    let path = repo.dir.join(".git/hooks/post-commit");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    repo.xtask(&["hooks", "status"]).status(1).says("post-commit missing or modified");
    install_hooks(&repo);
    repo.xtask(&["hooks", "status"]).success().says("hooks    installed\n");
    repo.write(".git/hooks/pre-push", format!("{changed}# once\n"));
    install_hooks(&repo);
    repo.write(".git/hooks/pre-push", &changed);
    repo.xtask(&["uninstall-hooks"]).success();
    assert_eq!(hooks_of(&repo), Default::default(), "and uninstalling keeps a copy, too");
    assert_eq!(fs::read_dir(repo.dir.join(".git/xtask/replaced-hooks")).unwrap().count(), 5);
}

#[test]
fn foreign_hook_that_replaced_a_shim_is_reported_and_kept() {
    let lab = Lab::new();
    let repo = lab.repo();
    hook(&repo, "pre-commit", "exit 0 # the first");
    install_hooks(&repo);
    let program = repo.dir.join(".git/hooks/pre-commit");
    fs::remove_file(program).unwrap();
    hook(&repo, "pre-commit", "exit 0 # another manager");
    let status = repo.xtask(&["hooks", "status"]).status(1);
    status.says("another hook has replaced pre-commit");
    let before = hooks_of(&repo);
    let refused = repo.xtask(&["install-hooks", "--this-program"]).status(1);
    refused.says("skipped: another hook has replaced the shim");
    assert_eq!(hooks_of(&repo), before);
    repo.xtask(&["uninstall-hooks"]).success().says("another program's, kept");
    assert!(repo.read(".git/hooks/pre-commit").contains("another manager"));
    assert!(repo.read(".git/hooks/pre-commit.pre-xtask").contains("the first"));
    assert!(!repo.has(".git/hooks/pre-push"));
}

#[test]
fn hook_that_depends_on_its_own_path_is_not_moved() {
    let lab = Lab::new();
    let repo = lab.repo();
    hook(&repo, "pre-commit", "true || exec run-hook \"$(basename \"$0\")\"");
    hook(&repo, "pre-push", ". \"$(dirname \"$0\")/_/husky.sh\"");
    hook(&repo, "post-merge", ". \"${0%/*}/h\"");
    let before = hooks_of(&repo);
    let ran = repo.xtask(&["install-hooks", "--this-program"]).status(1);
    for name in ["pre-commit", "pre-push", "post-merge"] {
        assert_eq!(
            repo.read(&format!(".git/hooks/{name}")),
            before[name].1.replace("\\n", "\n").replace("\\\"", "\"")
        );
        assert!(!repo.has(&format!(".git/hooks/{name}.pre-xtask")), "{name}");
    }
    // The others are there, and the line that is given for these does their work.
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-qc", "one"]);
    assert_eq!(repo.read("setup/a"), "a2\n");
    let lines: Vec<&str> =
        ran.out.lines().filter(|line| line.contains("\"$PPID\"")).map(str::trim).collect();
    assert_eq!(lines.len(), 2, "{}", ran.out);
    assert!(ran.out.contains("`cargo xtask push` checks a push"), "{}", ran.out);
    for (name, last) in [("pre-commit", "exit $THEIRS"), ("post-merge", "exec true")] {
        let line = lines.iter().find(|line| line.contains(name)).unwrap();
        hook(&repo, name, &format!("{line}\n: $(basename \"$0\")\n{last}"));
    }
    repo.xtask(&["install-hooks", "--this-program"]).status(1).says("pre-push");
    repo.xtask(&["hooks", "status"]).status(1).says("which starts xtask");
    repo.write("src/app", "<<<<<<< a\n=======\n>>>>>>> b\n");
    let commit = |theirs: &str| repo.run("git", &["commit", "-qam", "x"], &[("THEIRS", theirs)]);
    commit("0").status(1).says("conflict markers");
    repo.write("src/app", "fine\n");
    commit("3").status(1);
    fs::rename(repo.dir.join(".git/xtask/bin"), repo.dir.join(".git/xtask/gone")).unwrap();
    commit("0").success();
    fs::rename(repo.dir.join(".git/xtask/gone"), repo.dir.join(".git/xtask/bin")).unwrap();
    let ran = repo.xtask(&["uninstall-hooks"]).success();
    ran.says("remove that line");
}

#[test]
fn hooks_path_outside_the_repository_is_refused_with_the_reason() {
    let lab = Lab::new();
    let repo = lab.repo();
    let shared = lab.path("shared-hooks");
    let config = lab.path("gitconfig");
    let plain = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{plain}[core]\n\thooksPath = {shared}\n")).unwrap();
    let ran = repo.xtask(&["install-hooks", "--this-program"]).status(1);
    ran.says("the global configuration").says("core.hooksPath").says("--force");
    assert!(!shared.exists() && !repo.has(".git/xtask"));
    repo.xtask(&["hooks", "status"]).status(1).says("the global configuration");
    repo.xtask(&["status"]).success().says("not installed: the global configuration");
    // The hint works.
    let own = repo.dir.join(".git/hooks");
    repo.git(&["config", "--local", "core.hooksPath", own.as_str()]);
    install_hooks(&repo);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-qc", "one"]);
    assert_eq!(repo.read("setup/a"), "a2\n");
    repo.xtask(&["uninstall-hooks"]).success();
    repo.git(&["config", "--local", "--unset", "core.hooksPath"]);
    // And so does force, with the program found from another folder.
    repo.xtask(&["install-hooks", "--this-program", "--force"]).success();
    assert!(shared.join("post-checkout").exists());
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.git(&["switch", "-qc", "two"]);
    assert_eq!(repo.read("setup/a"), "a3\n");
    // Another repository on which these fire is not touched by them.
    let other = lab.repo_named("other", &[]);
    other.canonical(&[("setup/a", Some("x\n"))]);
    other.git(&["switch", "-qc", "mine"]);
    assert_eq!(other.read("setup/a"), "a1\n");
    repo.xtask(&["uninstall-hooks"]).success();
    assert!(!shared.join("post-checkout").exists());
}

#[test]
fn hooks_path_inside_the_worktree_is_refused() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write(".githooks/pre-commit", "#!/bin/sh\nexit 0\n");
    repo.commit("hooks in the tree");
    repo.git(&["config", "core.hooksPath", ".githooks"]);
    repo.xtask(&["install-hooks", "--this-program"]).status(1).says("inside the worktree");
    assert_eq!(repo.status(), "");
    repo.git(&["config", "core.hooksPath", "/dev/null"]);
    repo.xtask(&["install-hooks", "--this-program"]).status(1).says("disables all hooks");
    // A folder that only one worktree looks in is that worktree's.
    repo.git(&["config", "--unset", "core.hooksPath"]);
    repo.git(&["config", "extensions.worktreeConfig", "true"]);
    repo.git(&["worktree", "add", "-q", lab.path("linked").as_str(), "-b", "linked"]);
    let linked = lab.place("linked");
    let own = lab.path("own-hooks");
    linked.git(&["config", "--worktree", "core.hooksPath", own.as_str()]);
    install_hooks(&linked);
    assert!(own.join("pre-commit").exists() && !repo.has(".git/hooks/pre-commit"));
    repo.xtask(&["hooks", "status"]).status(1).says("not installed");
    linked.xtask(&["hooks", "status"]).success().says("hooks    installed\n");
}

#[test]
fn missing_hooks_folder_is_created_and_unusable_one_left_alone() {
    let lab = Lab::new();
    let repo = lab.repo_named("repo", &["--template="]);
    assert!(!repo.has(".git/hooks"));
    install_hooks(&repo);
    assert!(repo.has(".git/hooks/post-checkout"));
    repo.xtask(&["uninstall-hooks"]).success();
    fs::remove_dir_all(repo.dir.join(".git/hooks")).unwrap();
    repo.write(".git/hooks", "in the way");
    repo.xtask(&["install-hooks", "--this-program"]).status(3);
    assert_eq!(repo.read(".git/hooks"), "in the way");
    fs::remove_file(repo.dir.join(".git/hooks")).unwrap();
    fs::create_dir_all(repo.dir.join(".git/hooks/pre-push")).unwrap();
    let ran = repo.xtask(&["install-hooks", "--this-program"]).status(1);
    ran.says("skipped: it is not a file");
    assert!(repo.has(".git/hooks/post-checkout"), "the others are there");
    // A relative folder is nothing in a linked worktree, and that is said, not a failure.
    repo.git(&["worktree", "add", "-q", lab.path("linked").as_str(), "-b", "linked"]);
    repo.git(&["config", "core.hooksPath", ".git/hooks"]);
    lab.place("linked").xtask(&["hooks", "status"]).status(1).says("missing");
    lab.place("linked").xtask(&["status"]).success();
}

#[test]
fn hooks_are_installed_once_for_all_worktrees() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["worktree", "add", "-q", lab.path("linked").as_str(), "-b", "linked"]);
    let linked = lab.place("linked");
    install_hooks(&linked);
    assert!(repo.has(".git/hooks/post-checkout"));
    assert!(repo.has(".git/xtask/bin/xtask"));
    for place in [&repo, &linked] {
        place.xtask(&["hooks", "status"]).success().says("hooks    installed\n");
    }
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    linked.git(&["switch", "-qc", "another"]);
    assert_eq!(linked.read("setup/a"), "a2\n");
    assert_eq!(linked.status(), "");
}

/// Whatever step fails: each hook that was there still runs, all that was written is taken back or
/// finished by the next try, and in the end everything comes back.
#[test]
fn failed_installation_step_leaves_every_hook_working() {
    let mut steps = 0;
    for failing in 0.. {
        let lab = Lab::new();
        let repo = lab.repo();
        for name in ["post-checkout", "pre-commit"] {
            hook(&repo, name, &format!("echo {name} >> {}", lab.path("log")));
        }
        let before = hooks_of(&repo);
        let at = Mutex::new(Cell::new(0));
        let gate = |_: DiskOperation| {
            let at = at.lock().unwrap();
            at.set(at.get() + 1);
            if at.get() == failing + 1 { Err(std::io::Error::other("full")) } else { Ok(()) }
        };
        let disk = Disk::with_gate(&gate);
        let opened = Repo::discover(repo.dir.as_std_path()).unwrap();
        let folder: PathBuf = opened.hooks_folder().unwrap().path;
        let done = write_alone(|| install_shims(&opened, &folder, &disk, 0, &[]));
        if done.is_ok() {
            steps = failing;
            break;
        }
        // No program is installed: what was there runs, whatever stands at its name.
        repo.git(&["switch", "-qc", "feature"]);
        repo.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        let log = fs::read_to_string(lab.path("log")).unwrap();
        assert_eq!(log, "post-checkout\npre-commit\n", "step {failing}");
        if failing % 2 == 0 {
            write_alone(|| install_shims(&opened, &folder, &Disk::real(), 0, &[])).unwrap();
        }
        write_alone(|| uninstall_shims(&opened, &folder, &Disk::real(), 0)).unwrap();
        assert_eq!(hooks_of(&repo), before, "step {failing}");
    }
    assert!(steps > 15, "{steps} steps were tried");
}

#[test]
fn missing_or_broken_program_does_not_break_git() {
    let lab = Lab::new();
    let repo = lab.repo();
    let log = lab.path("log");
    hook(&repo, "post-checkout", &format!("echo old >> {log}"));
    install_with_a_copy(&repo);
    let program = fs::canonicalize(repo.dir.join(".git/xtask/bin/xtask")).unwrap();
    let whole = fs::read(&program).unwrap();
    let put = |bytes: Option<&[u8]>, mode: u32| {
        drop(fs::remove_file(&program));
        if let Some(bytes) = bytes {
            fs::write(&program, bytes).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let half = &whole[..whole.len() / 2];
    let cases: [(&str, Option<&[u8]>, u32); 6] = [
        ("gone", None, 0),
        ("empty", Some(b""), 0o755),
        ("the first bytes", Some(&whole[..100]), 0o755),
        ("cut in half", Some(half), 0o755),
        ("nonsense", Some(b"\x00\x01\x02 no program"), 0o755),
        ("not executable", Some(&whole), 0o644),
    ];
    for (number, (what, bytes, mode)) in cases.into_iter().enumerate() {
        put(bytes, mode);
        let branch = format!("b{number}");
        let ran = repo.try_git(&["switch", "-c", &branch]);
        assert_eq!(ran.code, Some(0), "{what}: {}", ran.err);
        repo.write("src/app", format!("{number}\n"));
        let ran = repo.try_git(&["commit", "-qam", "x"]);
        assert_eq!(ran.code, Some(0), "{what}: {}", ran.err);
        assert!(ran.err.contains("cargo xtask install-hooks"), "{what}: {}", ran.err);
        repo.xtask(&["hooks", "status"]).status(1).says("cargo xtask install-hooks");
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "old\n".repeat(6));
    install_with_a_copy(&repo);
    repo.xtask(&["hooks", "status"]).success().says("hooks    installed\n");
}

#[test]
fn reinstalling_prunes_old_programs() {
    let lab = Lab::new();
    let repo = lab.repo();
    install_with_a_copy(&repo);
    let bin = repo.dir.join(".git/xtask/bin");
    for number in 0..4 {
        let old = bin.join(format!("xtask-old{number}"));
        fs::write(&old, "old").unwrap();
    }
    fs::remove_file(bin.join("record")).unwrap();
    install_with_a_copy(&repo);
    let names: Vec<String> = fs::read_dir(&bin)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("xtask-"))
        .collect();
    assert_eq!(names.len(), 2, "the present one and one more: {names:?}");
}

#[test]
fn hooks_need_canonical_sources_or_this_program() {
    let lab = Lab::new();
    let repo = lab.repo();
    let ran = repo.xtask(&["install-hooks"]).status(1).says("has no `xtask/`");
    ran.says("--this-program");
    assert!(!repo.has(".git/hooks/post-checkout"));
    let ran = repo.xtask(&["setup"]).success().says("the hooks were not installed");
    ran.says("ready");
    repo.xtask(&["setup", "--no-hooks"]).success().never_says("not installed");
    let ran = repo.xtask_with(&["setup"], &[("CI", "true")]).success();
    ran.says("hooks are not installed");
}

/// The program is built from what the canonical branch holds: a branch without the sources, or with
/// a configuration of cargo that would run a program of its own, has no say in it.
#[test]
fn hook_program_is_built_from_canonical_sources_only() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-q", "orchestration-tools"]);
    write_toolkit(&repo);
    repo.commit("the toolkit");
    repo.git(&["switch", "-qc", "hostile", "main"]);
    let evil = lab.path("evil");
    write_script(&evil, format!("#!/bin/sh\necho evil >> {}\nexit 1\n", lab.path("log")));
    repo.write(".cargo/config.toml", format!("[build]\nrustc-wrapper = '{evil}'\n"));
    repo.write("xtask/src/main.rs", "compile_error!(\"of the branch\");\n");
    repo.write("rust-toolchain.toml", "[toolchain]\nchannel = '1.0.0-evil'\n");
    repo.commit("hostile");
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    let ran = repo.xtask_with(&["install-hooks"], &homes).success();
    ran.says("program of the hooks was updated");
    assert!(!lab.path("log").exists(), "nothing of the branch was run");
    let status = repo.xtask(&["hooks", "status"]).success().says("whole: built from ");
    assert!(!status.out.contains(", older"), "{}", status.out);
    // The branch changes nothing about what runs, and neither does having no sources at all.
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["switch", "-q", "hostile"]);
    assert_eq!(repo.read("setup/a"), "a2\n");
    // Nothing is built when nothing has changed, and it is said when something has.
    let again = repo.xtask_with(&["install-hooks"], &homes).success();
    assert_eq!(again.out, "");
    repo.canonical(&[("xtask/README.md", Some("newer\n"))]);
    repo.xtask(&["hooks", "status"]).success().says("older than the canonical sources");
    repo.xtask(&["status"]).success().says("from older sources");
    let ran = repo.try_git(&["switch", "-c", "follows", "main"]).success();
    assert!(ran.err.contains("installed hooks are older"), "{}", ran.err);
    // Sources that do not build leave all as it is.
    repo.canonical(&[("xtask/src/main.rs", Some("no rust\n"))]);
    let failed = repo.xtask_with(&["-q", "install-hooks"], &homes).status(3);
    failed.says("could not be built from `orchestration-tools`");
    repo.xtask(&["hooks", "status"]).success().says("fires");
}

#[test]
fn hooks_can_be_disabled_per_worktree_or_for_all() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["worktree", "add", "-q", lab.path("linked").as_str(), "-b", "linked"]);
    let linked = lab.place("linked");
    install_hooks(&repo);
    let mut number = 0;
    let mut syncs = |place: &Place<'_>| {
        number += 1;
        repo.canonical(&[("setup/a", Some(&format!("a{number} {}\n", place.dir)))]);
        place.git(&["switch", "-qc", &format!("b{number}"), "main"]);
        place.read("setup/a") != "a1\n"
    };
    assert!(syncs(&repo) && syncs(&linked));
    let before = hooks_of(&repo);
    repo.xtask(&["hooks", "disable"]).success().says("disabled in this worktree");
    repo.xtask(&["hooks", "disable"]).success();
    repo.xtask(&["install-hooks", "--this-program"]).success().says("hooks are disabled");
    assert!(!syncs(&repo) && syncs(&linked));
    repo.xtask(&["hooks", "status"]).success().says("inactive: disabled in this worktree");
    repo.xtask(&["status"]).success().says("installed, but inactive");
    repo.xtask(&["hooks", "enable"]).success().says("enabled again");
    repo.xtask(&["hooks", "enable"]).success().says("already enabled");
    assert!(syncs(&repo));
    linked.xtask(&["hooks", "disable", "--all", "--for", "2h"]).success().says("until");
    assert!(!syncs(&repo) && !syncs(&linked));
    repo.xtask(&["hooks", "enable"]).success().says("still disabled");
    linked.xtask(&["hooks", "disable"]).success();
    repo.xtask(&["hooks", "enable", "--all"]).success();
    assert!(syncs(&repo) && syncs(&linked));
    assert_eq!(hooks_of(&repo), before, "no file was moved");
    repo.xtask(&["hooks", "disable", "--for", "soon"]).status(2).says("invalid duration");
    // A damaged note is said, and nothing is written until it is gone.
    repo.xtask(&["hooks", "disable"]).success();
    repo.write(".git/xtask/hooks-off-here", "damaged");
    assert!(!syncs(&repo));
    repo.xtask(&["hooks", "status"]).success().says("record of disabled hooks is corrupt");
    repo.xtask(&["hooks", "enable"]).success();
    assert!(syncs(&repo));
}

#[test]
fn environment_variables_disable_hooks() {
    let lab = Lab::new();
    let repo = lab.repo();
    install_hooks(&repo);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let switches = [
        ("DISABLE_ORCHESTRATION_CHECKS", "1"),
        ("ORCHESTRATION_DISABLED", "true"),
        ("ORCHESTRATION_SYNC_ACTIVE", "1"),
        ("CI", "true"),
    ];
    for (number, switch) in switches.into_iter().enumerate() {
        let branch = format!("b{number}");
        let ran = repo.run("git", &["switch", "-qc", &branch], &[switch]).success();
        assert_eq!((ran.err.as_str(), repo.read("setup/a").as_str()), ("", "a1\n"), "{switch:?}");
        let status = repo.xtask_with(&["hooks", "status"], &[switch]).success();
        status.says(&format!("`{}` is set", switch.0));
    }
    let off = [("ORCHESTRATION_DISABLED", "false")];
    repo.run("git", &["switch", "-qc", "on"], &off).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
}

#[test]
fn hooks_status_json_lists_every_hook() {
    let lab = Lab::new();
    let repo = lab.repo();
    install_hooks(&repo);
    let json = repo.xtask(&["hooks", "status", "--json"]).success().json();
    assert_eq!(json["schema"], "xtask.hooks/1");
    let hooks = json["hooks"].as_array().unwrap();
    let always = Hook::ALL.into_iter().filter(|hook| !hook.is_on_demand());
    assert_eq!(hooks.len(), always.count());
    assert!(hooks.iter().all(|hook| hook["fires"] == true), "{json:#}");
    assert_eq!(repo.xtask(&["status", "--json"]).success().json()["hooks"], "installed");
}

#[test]
fn concurrent_installations_result_in_one() {
    let lab = Lab::new();
    let repo = lab.repo();
    hook(&repo, "pre-commit", "exit 0 # was here before");
    let before = hooks_of(&repo);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| install_with_a_copy(&repo));
        }
    });
    repo.xtask(&["hooks", "status"]).success().says("hooks    installed\n");
    repo.xtask(&["uninstall-hooks"]).success();
    assert_eq!(hooks_of(&repo), before);
}

/// Killed at any moment: what was there before runs, and the next installation is whole.
#[test]
fn killed_installation_leaves_every_hook_working() {
    let lab = Lab::new();
    let delays: &[u64] =
        circle::either(&[0, 8, 24], &[0, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64]);
    for delay in delays.iter().copied() {
        let repo = lab.repo_named(&format!("repo-{delay}"), &[]);
        let log = lab.path(&format!("log-{delay}"));
        hook(&repo, "pre-commit", &format!("echo ran >> {log}"));
        let before = hooks_of(&repo);
        #[expect(clippy::disallowed_methods, reason = "it is to be killed")]
        let mut child = spawn(
            std::process::Command::new(program())
                .args(["install-hooks", "--this-program"])
                .current_dir(&repo.dir)
                .envs(repo.environment())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null()),
        )
        .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        repo.git(&["switch", "-qc", "feature"]);
        repo.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        assert_eq!(fs::read_to_string(&log).unwrap(), "ran\n", "after {delay} ms");
        install_with_a_copy(&repo);
        repo.xtask(&["hooks", "status"]).success().says("hooks    installed\n");
        repo.xtask(&["uninstall-hooks"]).success();
        assert_eq!(hooks_of(&repo), before, "after {delay} ms");
    }
}
