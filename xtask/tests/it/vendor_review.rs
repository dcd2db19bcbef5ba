//! What reviews of `vendor` and `upgrade` have found, each as it was typed.

use std::fs;
use std::os::unix::fs::symlink;

use crate::builds::homes;
use crate::testkit::{Lab, program};
use crate::vendor::{NOTES, given, guest, newer, toolkit, upgrade, vendor};

#[test]
fn refused_vendor_keeps_edits_of_assume_unchanged_files() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("Cargo.toml", "[workspace]\nmembers = []\n")]);
    guest.git(&["update-index", "--assume-unchanged", "Cargo.toml"]);
    let edited = "[workspace]\nmembers = []\n# LOCAL\n";
    guest.write("Cargo.toml", edited);
    vendor(&toolkit, &[]).status(3);
    assert_eq!(guest.read("Cargo.toml"), edited);
    assert!(!guest.has("xtask") && !guest.has("setup"));
}

#[test]
fn concurrent_vendor_runs_leave_one_complete_copy() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("src/app", "application\n")]);
    let both = std::thread::scope(|scope| {
        let runs = [(), ()].map(|()| scope.spawn(|| vendor(&toolkit, &[]).code));
        runs.map(|run| run.join().unwrap())
    });
    assert!(both.contains(&Some(0)), "{both:?}");
    let status = guest.git(&["status", "--porcelain"]);
    assert!(status.lines().all(|line| line.starts_with("A  ")), "{status}");
    assert!(guest.has("xtask/VENDORED.toml"));
}

#[test]
fn killed_vendor_is_rolled_back_by_the_next_run() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let manifest = "[workspace]\nmembers = []\n";
    let guest = guest(&lab, &[("Cargo.toml", manifest), (".gitignore", "/target\n")]);
    // A git that writes half of the files and kills who started it.
    let bin = lab.place("bin");
    let git = guest.run("sh", &["-c", "command -v git"], &[]).out;
    bin.write_executable(
        "git",
        &format!(
            "#!/bin/sh\ncase \"$*\" in *read-tree*)\n  mkdir -p xtask setup\n  \
             printf 'one\\ntwo\\nth' > xtask/notes.txt\n  printf '' > setup/sync.toml\n  \
             kill -9 $PPID\n  exit 1;;\nesac\nexec {} \"$@\"\n",
            git.trim()
        ),
    );
    let path = format!("{}:{}", bin.dir, std::env::var("PATH").unwrap());
    let program = program();
    let script = "cd ../toolkit && exec \"$0\" vendor ../guest";
    guest.run("sh", &["-c", script, program.as_str()], &[("PATH", &path)]);
    assert_eq!(guest.read("xtask/notes.txt"), "one\ntwo\nth");
    vendor(&toolkit, &["--dry-run"]).status(3).says("was interrupted");
    vendor(&toolkit, &[]).success().says("its changes were rolled back");
    assert_eq!(guest.read("xtask/notes.txt"), NOTES);
    guest.git(&["diff", "--quiet"]);
}

#[test]
fn file_replaced_with_equal_content_does_not_block_vendor() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let config = "[build]\njobs = 2\n";
    let guest = guest(&lab, &[(".cargo/config.toml", config)]);
    // Another file with the same content, as an editor leaves it and as a repair leaves it.
    guest.write("other", config);
    fs::rename(guest.dir.join("other"), guest.dir.join(".cargo/config.toml")).unwrap();
    vendor(&toolkit, &[]).success();
    guest.git(&["diff", "--quiet"]);
    assert!(guest.read(".cargo/config.toml").contains("jobs = 2\n"));
}

#[test]
fn submodule_in_place_of_a_needed_folder_is_kept() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("src/app", "application\n")]);
    let other = lab.repo_with("other", &[("a", "a\n")]);
    guest.git(&["submodule", "--quiet", "add", other.dir.as_str(), ".cargo"]);
    guest.commit("a submodule");
    vendor(&toolkit, &[]).status(3).says("in the way").says(".cargo");
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
    assert!(!guest.has(".cargo/config.toml"));
}

#[test]
fn toolkit_with_symlinks_or_control_characters_in_names_is_refused() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("src/app", "application\n")]);
    symlink("main.rs", toolkit.dir.join("xtask/src/link.rs")).unwrap();
    toolkit.commit("a link");
    vendor(&toolkit, &[]).status(2).says("`xtask/src/link.rs` is a symlink");
    toolkit.remove("xtask/src/link.rs");
    toolkit.write("xtask/src/a\n\nSigned-off-by: Eve <e@x>", "");
    toolkit.commit("a name");
    vendor(&toolkit, &[]).status(2).says("control characters");
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
}

#[test]
fn upgrade_merges_file_modes() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    guest.make_executable("xtask/notes.txt");
    guest.commit("ours");
    newer(&toolkit);
    toolkit.make_executable("README.md");
    toolkit.commit("theirs");
    upgrade(&guest, &["--dry-run", "-v"])
        .success()
        .says("merge   xtask/notes.txt")
        .says("update  xtask/README.md");
    upgrade(&guest, &[]).success();
    for path in ["xtask/notes.txt", "xtask/README.md"] {
        assert!(guest.git(&["ls-files", "--stage", path]).starts_with("100755"), "{path}");
    }
    guest.xtask(&["status"]).success().says("xtask/notes.txt was changed here");
    upgrade(&guest, &[]).success().says("nothing to do");
}

#[test]
fn upgrade_carries_local_changes_to_files_the_toolkit_moved() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    // As versions of earlier lay.
    let (old, new) = ("xtask/src/sync", "xtask/crates/sync/src");
    let text = |word: &str| format!("// one\n// two\n// three\n// four\n// fn {word}\n");
    for name in ["mod", "plan", "same", "gone"] {
        toolkit.write(&format!("{old}/{name}.rs"), text(name));
    }
    toolkit.commit("as it was");
    let guest = guest(&lab, &[("src/app", "application\n")]);
    vendor(&toolkit, &[]).success();
    guest.git(&["commit", "--quiet", "-m", "Add xtask"]);
    guest.git(&["switch", "--quiet", "--create", "orchestration-tools"]);
    guest.write(&format!("{old}/mod.rs"), text("mod").replace("one", "one of ours"));
    guest.write(&format!("{old}/same.rs"), "ours alone\n");
    guest.remove(&format!("{old}/plan.rs"));
    guest.commit("changes of ours");
    for name in ["mod", "plan", "same"] {
        let now = if name == "mod" { "lib" } else { name };
        toolkit.remove(&format!("{old}/{name}.rs"));
        toolkit.write(&format!("{new}/{now}.rs"), text(name));
    }
    toolkit.write(&format!("{new}/lib.rs"), text("mod").replace("four", "four of theirs"));
    toolkit.remove(&format!("{old}/gone.rs"));
    newer(&toolkit);
    upgrade(&guest, &["--dry-run"]).success().says("3 files moved in the new version");
    upgrade(&guest, &[]).success().says(&format!("merge   {new}/lib.rs"));
    let merged = guest.read(&format!("{new}/lib.rs"));
    assert!(merged.contains("one of ours") && merged.contains("four of theirs"), "{merged}");
    assert_eq!(guest.read(&format!("{new}/same.rs")), "ours alone\n");
    assert!(!guest.has(&format!("{new}/plan.rs")), "what was removed here stays away");
    assert!(!guest.has(old), "nothing stays behind");
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
    upgrade(&guest, &[]).success().says("nothing to do");
}

#[test]
fn moved_toolkit_template_leaves_the_generated_file_in_place() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    let justfile = guest.read("justfile");
    newer(&toolkit);
    fs::create_dir_all(toolkit.dir.join("xtask/src/elsewhere")).unwrap();
    toolkit.git(&[
        "mv",
        "xtask/crates/vendoring/src/starters/justfile",
        "xtask/src/elsewhere/justfile",
    ]);
    toolkit.commit("it moves");
    upgrade(&guest, &[]).success().says("`justfile` is no longer part of the toolkit; it is kept");
    assert_eq!(guest.git(&["show", "orchestration-tools:justfile"]), justfile);
    let manifest = guest.git(&["show", "orchestration-tools:xtask/VENDORED.toml"]);
    assert!(!manifest.contains("\"justfile\""), "{manifest}");
    upgrade(&guest, &[]).success().says("nothing to do");
}

#[test]
fn path_collision_with_new_file_cannot_be_resolved_with_theirs() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    guest.write("xtask/new.txt/keep", "mine\n");
    guest.commit("ours");
    newer(&toolkit);
    let tip = guest.head();
    for args in [&[][..], &["--theirs", "xtask/new.txt"], &["--dry-run"]] {
        let ran = upgrade(&guest, args);
        assert!(matches!(ran.code, Some(1 | 2)), "{args:?}: {ran:?}");
        assert_eq!(guest.head(), tip);
    }
    upgrade(&guest, &[]).status(1).says("move it away on the branch first");
    guest.git(&["rm", "--quiet", "-r", "xtask/new.txt"]);
    guest.write("xtask/NEW.txt", "mine\n");
    guest.commit("by case alone");
    upgrade(&guest, &[]).status(1).says("only by case");
}

#[test]
fn upgrade_refuses_toolkit_files_that_are_not_managed() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    let rules =
        guest.read("setup/sync.toml").replace("exclude = [", "exclude = [\"/xtask/notes.txt\", ");
    guest.write("setup/sync.toml", rules);
    guest.commit("not managed");
    newer(&toolkit);
    let tip = guest.head();
    for args in [&[][..], &["--check"]] {
        upgrade(&guest, args).status(2).says("`xtask/notes.txt` is not a managed path");
    }
    assert_eq!(guest.head(), tip);
}

#[test]
fn upgrade_source_of_unknown_age_is_refused() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    // Of the same version and without the history that would tell.
    toolkit.write("xtask/notes.txt", "another line of it\n");
    toolkit.commit("no new version");
    let address = format!("file://{}", toolkit.dir);
    let shallow = lab.path("shallow");
    toolkit.git(&["clone", "--quiet", "--depth", "1", &address, shallow.as_str()]);
    let tip = guest.id("orchestration-tools");
    let ran = guest.xtask(&["upgrade", "--from", shallow.as_str()]).status(1);
    ran.says("cannot determine whether").says("unshallow");
    assert_eq!(guest.id("orchestration-tools"), tip);
    guest.xtask(&["upgrade", "--from", "fd::3"]).status(2).says("unsupported address");
}

#[test]
fn upgrade_with_broken_launcher_is_not_committed() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    newer(&toolkit);
    toolkit.write("xtask/launcher/main.rs", "fn main() { this is no rust }\n");
    toolkit.commit("broken");
    let tip = guest.id("orchestration-tools");
    upgrade(&guest, &[]).status(1).says("its launcher does not build");
    assert_eq!(guest.id("orchestration-tools"), tip);
    toolkit.git(&["rm", "--quiet", "-r", "xtask/launcher"]);
    toolkit.commit("gone");
    upgrade(&guest, &[]).status(1).says("nothing has changed");
    assert_eq!(guest.id("orchestration-tools"), tip);
}

#[test]
fn conflict_counts_as_resolved_only_without_our_markers() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    let own = NOTES.replace("two", "2").replace("eight", "eight\n<<<<<<< a doc example");
    guest.write("xtask/notes.txt", &own);
    guest.commit("ours");
    newer(&toolkit);
    let ran = upgrade(&guest, &[]).status(1);
    let file = ran.err.lines().find_map(|line| Some(line.split_once("in 1 place: ")?.1.to_owned()));
    let file = file.unwrap();
    let text = fs::read(&file).unwrap();
    // Neither an empty file nor one with a NUL in front of its markers is an answer.
    fs::write(&file, "").unwrap();
    upgrade(&guest, &[]).status(1);
    assert_eq!(fs::read(&file).unwrap(), text, "an empty one is laid anew");
    fs::write(&file, [b"\0\n", &text[..]].concat()).unwrap();
    upgrade(&guest, &[]).status(1);
    let decided = own.replace("2\n", "two of both\n");
    fs::write(&file, &decided).unwrap();
    upgrade(&guest, &[]).success().says("decide  xtask/notes.txt");
    assert_eq!(guest.read("xtask/notes.txt"), decided);
}

#[test]
fn build_output_stays_ignored_on_branches_without_the_toolkit() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("src/app", "application\n")]);
    guest.git(&["branch", "old"]);
    vendor(&toolkit, &[]).success();
    guest.git(&["commit", "--quiet", "-m", "Add xtask"]);
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    guest.run("cargo", &["xtask", "x"], &homes).success();
    guest.git(&["switch", "--quiet", "old"]);
    assert!(guest.has("xtask/target/debug"));
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
}

#[test]
fn manual_steps_are_reported_even_with_quiet() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("Cargo.toml", "[workspace\nmembers = []\n")]);
    for args in [&["-q"][..], &["-q", "--dry-run"], &["--dry-run"]] {
        let ran = vendor(&toolkit, args).success();
        let again = ran.says("edit `Cargo.toml` manually").says("members = [\"xtask/launcher\"]");
        assert_eq!(again.out.is_empty(), args.contains(&"-q"));
        guest.git(&["reset", "--quiet", "--hard"]);
    }
    assert_eq!(guest.read("Cargo.toml"), "[workspace\nmembers = []\n");
}
