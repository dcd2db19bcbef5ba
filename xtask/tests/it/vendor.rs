//! The toolkit into other repositories, and newer ones over it. The toolkit here is a small one with the
//! real launcher, so that building it costs nothing; `own_house.rs` does the same with the real one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use xtask_base::error::Result;
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_sync::worktree_lock::LockWorktree as _;
use xtask_upgrade::copy_spec::CopySpec;
use xtask_upgrade::merge_paths::ConflictResolution;
use xtask_upgrade::toolkit::{Toolkit, open_checkout};
use xtask_upgrade::upgrade::{commit_upgrade, plan_upgrade};
use xtask_vendoring::install::install_changes;
use xtask_vendoring::install_plan::{VendorContext, plan_install};
use xtask_vendoring::target::VendorTarget;

use crate::builds::homes;
use crate::crash::{Fault, run_with, steps_of, with_tools, world};
use crate::testkit::{Lab, Place, Ran, circle, files, program, trace};

pub const NOTES: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n";

/// The files that every toolkit has, with a program that says its version.
fn write_toolkit(place: &Place<'_>, version: &str) {
    place.write(
        "xtask/Cargo.toml",
        format!(
            "[workspace]\n[package]\nname = \"xtask\"\nversion = '{version}'\nedition = '2021'\n\
             exclude = ['/tests/']\ndefault-run = \"xtask\"\n\n[package.metadata.vendor]\nformat = 1\n\n\
             [[bin]]\nname = \"xtask\"\npath = 'src/main.rs'\n"
        ),
    );
    place.write(
        "xtask/Cargo.lock",
        format!("version = 4\n\n[[package]]\nname = \"xtask\"\nversion = \"{version}\"\n"),
    );
    place.write(
        "xtask/src/main.rs",
        "mod word;\nfn main() { println!(\"cargo xtask {} {}\", env!(\"CARGO_PKG_VERSION\"), word::WORD); }\n",
    );
    place.write("xtask/src/word.rs", "pub const WORD: &str = \"plain\";\n");
}

/// A toolkit of version 0.1.0.
pub fn toolkit(lab: &Lab) -> Place<'_> {
    let place = lab.place("toolkit");
    fs::create_dir_all(&place.dir).unwrap();
    place.git(&["init", "--quiet"]);
    let real = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "launcher/Cargo.toml",
        "launcher/key.rs",
        "launcher/launch.rs",
        "launcher/main.rs",
        ".gitignore",
    ] {
        place.write(&format!("xtask/{name}"), fs::read_to_string(real.join(name)).unwrap());
    }
    // Builds go into a folder of this test.
    let config = fs::read_to_string(real.join(".cargo/config.toml")).unwrap();
    let folder = lab.path("build");
    place.write(
        "xtask/.cargo/config.toml",
        config.replace("{cargo-cache-home}/xtask-build", folder.as_str()),
    );
    let justfile = real.join("crates/vendoring/src/starters/justfile");
    place.write(
        "xtask/crates/vendoring/src/starters/justfile",
        fs::read_to_string(justfile).unwrap(),
    );
    let name = fs::read_to_string(real.join("crates/base/src/name.rs")).unwrap();
    place.write("xtask/crates/base/src/name.rs", name);
    place.write("xtask/notes.txt", NOTES);
    place.write("xtask/old.txt", "it goes in 0.2.0\n");
    place.write("xtask/tests/it.rs", "#[test]\nfn it() {}\n");
    place.write("README.md", "# The manual\n");
    write_toolkit(&place, "0.1.0");
    place.commit("toolkit 0.1.0");
    place.git(&["tag", "v1"]);
    place
}

/// The same with 0.2.0 on top.
pub fn newer(toolkit: &Place<'_>) {
    write_toolkit(toolkit, "0.2.0");
    toolkit.write("xtask/notes.txt", NOTES.replace("two", "TWO"));
    toolkit.write("xtask/new.txt", "it comes with 0.2.0\n");
    toolkit.remove("xtask/old.txt");
    toolkit.commit("toolkit 0.2.0");
}

pub fn guest<'a>(lab: &'a Lab, files: &[(&str, &str)]) -> Place<'a> {
    lab.repo_with("guest", files)
}

pub fn vendor(toolkit: &Place<'_>, args: &[&str]) -> Ran {
    toolkit.xtask(&[&["vendor", "../guest"], args].concat())
}

/// Upgrades, with the cargo of this machine.
pub fn upgrade(guest: &Place<'_>, args: &[&str]) -> Ran {
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    let offline = [&homes[..], &[("CARGO_NET_OFFLINE", "true")]].concat();
    guest.xtask_with(&[&["upgrade", "--from", "../toolkit"], args].concat(), &offline)
}

/// A repository that was given 0.1.0, committed and with a canonical branch, and the toolkit.
pub fn given(lab: &Lab) -> (Place<'_>, Place<'_>) {
    let toolkit = toolkit(lab);
    let guest = guest(lab, &[("src/app", "application\n")]);
    vendor(&toolkit, &[]).success();
    guest.git(&["commit", "--quiet", "-m", "Add xtask"]);
    guest.git(&["branch", "orchestration-tools"]);
    (toolkit, guest)
}

#[test]
fn vendor_stages_the_toolkit_and_changes_nothing_else() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("src/app", "application\n"), (".gitignore", "*.lock\nxtask\n")]);
    guest.write("loose", "not tracked\n");
    let before = trace(guest.dir.as_std_path());
    vendor(&toolkit, &["--dry-run"])
        .success()
        .says("would be added to")
        .says("nothing was written");
    assert_eq!(trace(guest.dir.as_std_path()), before, "looking writes nothing");
    let head = guest.git(&["rev-parse", "HEAD"]);
    let ran = vendor(&toolkit, &[]).success();
    ran.says("staged and not committed")
        .says("git commit -m 'Add xtask 0.1.0'")
        .says("cargo xtask setup");
    assert_eq!(guest.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(guest.read("loose"), "not tracked\n");
    // All of it is staged, also what an ignore rule of the repository would leave out.
    let staged = guest.git(&["ls-files"]);
    for path in [
        "Cargo.lock",
        "Cargo.toml",
        ".cargo/config.toml",
        "xtask/Cargo.lock",
        "xtask/README.md",
        "xtask/VENDORED.toml",
        "xtask/launcher/main.rs",
        "xtask/notes.txt",
        "setup/sync.toml",
        "justfile",
    ] {
        assert!(staged.lines().any(|line| line == path), "{path} in\n{staged}");
    }
    assert!(!staged.contains("xtask/tests"), "{staged}");
    guest.git(&["diff", "--quiet"]);
    assert_eq!(guest.read("xtask/README.md"), "# The manual\n");
    let manifest = guest.read("xtask/VENDORED.toml");
    assert!(manifest.contains("version = \"0.1.0\""), "{manifest}");
    assert!(
        manifest.contains("\"justfile\" = \"xtask/crates/vendoring/src/starters/justfile\""),
        "{manifest}"
    );
    let sum = guest.run("sha256sum", &["xtask/notes.txt"], &[]).success().out;
    let sum = sum.split(' ').next().unwrap();
    assert!(manifest.contains(&format!("\"xtask/notes.txt\" = \"{sum}\"")), "{manifest}");
    // Once more is refused.
    guest.git(&["commit", "--quiet", "-m", "Add xtask"]);
    let before = trace(guest.dir.as_std_path());
    vendor(&toolkit, &[]).status(1).says("already vendored").says("upgrade");
    assert_eq!(trace(guest.dir.as_std_path()), before);
    // And what was vendored is what `cargo xtask` runs, from any folder.
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    for folder in [".", "src", "xtask/src"] {
        let ran = guest.at(folder).run("cargo", &["xtask", "x"], &homes).success();
        assert_eq!(ran.out, "cargo xtask 0.1.0 plain\n");
    }
    assert!(!guest.has("target"), "a repository without Rust gets no `target` in its root");
}

#[test]
fn vendor_works_in_an_empty_repository() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[]);
    vendor(&toolkit, &[]).success();
    guest.git(&["commit", "--quiet", "-m", "Add xtask"]);
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
}

#[test]
fn vendor_refuses_unsuitable_targets_without_changes() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("src/app", "application\n")]);
    let refused = |code: i32, says: &str, undo: &dyn Fn()| {
        let before = trace(guest.dir.as_std_path());
        vendor(&toolkit, &["--parts", "all"]).status(code).says(says);
        vendor(&toolkit, &["--parts", "all", "--dry-run"]).status(code).says(says);
        assert_eq!(trace(guest.dir.as_std_path()), before, "{says}");
        undo();
    };
    // Changes that are not committed, staged or not.
    guest.write("src/app", "edited\n");
    refused(3, "uncommitted changes: `src/app`", &|| {
        guest.git(&["add", "src/app"]);
    });
    refused(3, "uncommitted changes: `src/app`", &|| {
        guest.git(&["reset", "--quiet", "--hard"]);
    });
    // In the middle of something.
    guest.write(".git/MERGE_HEAD", guest.git(&["rev-parse", "HEAD"]));
    refused(3, "in progress", &|| guest.remove(".git/MERGE_HEAD"));
    guest.write(".git/index.lock", "");
    refused(3, "another git process is running", &|| guest.remove(".git/index.lock"));
    // Another one has the name, tracked or not, in any case.
    for name in ["xtask/Cargo.toml", "Xtask/main.rs", "xtask"] {
        guest.write(name, "mine\n");
        refused(1, "already exists", &|| {
            let folder = guest.dir.join(name.split('/').next().unwrap());
            drop(fs::remove_dir_all(&folder));
            drop(fs::remove_file(&folder));
        });
    }
    // What git does not track is in the way: a file, and a link to somewhere else.
    guest.write("justfile", "mine\n");
    guest.write("Cargo.toml", "mine\n");
    refused(3, "Cargo.toml", &|| {
        guest.remove("justfile");
        guest.remove("Cargo.toml");
    });
    symlink(lab.path("elsewhere"), guest.dir.join("deployment")).unwrap();
    refused(3, "deployment", &|| guest.remove("deployment"));
    // The alias, the member and a package are somebody else's: all of it is said at once.
    guest.write(".cargo/config.toml", "[alias]\nxtask = 'run --package tools --'\n");
    guest.write("Cargo.toml", "[workspace]\nmembers = ['tools/*']\n");
    guest.write("tools/mine/Cargo.toml", "[package]\nname = 'xtask'\nversion = '1.0.0'\n");
    guest.commit("tools of our own");
    refused(1, "is already an alias for `run --package tools --`", &|| {});
    vendor(&toolkit, &[]).status(1).says("tools/mine").says("nothing was changed");
}

#[test]
fn vendor_rejects_invalid_targets_and_sources() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("sub/a", "a\n")]);
    fs::create_dir_all(lab.path("nothing")).unwrap();
    let told = |folder: &str, says: &str| {
        toolkit.xtask(&["vendor", folder]).status(2).says(says);
    };
    told("../gone", "is not a folder");
    told("../nothing", "git init");
    told(".", "is the toolkit itself");
    told("../guest/sub", "is a subfolder of the repository");
    guest.git(&["init", "--quiet", "--bare", "../bare.git"]);
    told("../bare.git", "bare");
    // From a repository that is no toolkit, or has been given one.
    guest.xtask(&["vendor", "../nothing"]).status(2).says("not a checkout of the toolkit");
    vendor(&toolkit, &[]).success();
    guest.git(&["commit", "--quiet", "-m", "Add xtask"]);
    guest.xtask(&["vendor", "../nothing"]).status(2).says("has a vendored copy");
    toolkit.xtask(&["vendor", "../guest", "--ref", "no-such"]).status(2).says("no-such");
    toolkit.write(
        "xtask/Cargo.toml",
        "[package]\nname = 'xtask'\nversion = '9.0.0'\nmetadata.vendor.format = 2\n",
    );
    toolkit.commit("from the future");
    toolkit.xtask(&["vendor", "../nothing"]).status(3).says("format 2");
    toolkit.write("xtask/notes.txt", "edited\n");
    let ran = toolkit.xtask(&["vendor", "../guest", "--ref", "v1", "--dry-run"]);
    ran.status(1).says("already vendored");
}

#[test]
fn vendor_extends_existing_files_and_keeps_their_content() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let config = "# ours\n[build] # keep\njobs = 2\n\n[alias]\nb = 'build'\n";
    let manifest = "[workspace]\nmembers = [\n  'crates/*', # all of them\n]\nresolver = '2'\n";
    let just = "# mine\nstart:\n    echo mine\n";
    let guest = guest(
        &lab,
        &[
            (".cargo/config.toml", config),
            ("Cargo.toml", manifest),
            ("crates/a/Cargo.toml", "[package]\nname = 'a'\nversion = '1.0.0'\n"),
            ("crates/a/src/lib.rs", ""),
            ("justfile", just),
            ("setup/sync.toml", "# ours, and whole\n"),
            ("deployment/notes.yaml", "a: 1\n"),
        ],
    );
    vendor(&toolkit, &[])
        .success()
        .says("edit    .cargo/config.toml")
        .says("keep    setup/sync.toml");
    for (path, was) in
        [(".cargo/config.toml", config), ("Cargo.toml", manifest), ("justfile", just)]
    {
        let now = guest.read(path);
        for line in was.lines() {
            assert!(now.lines().any(|other| other == line), "`{line}` of {path} in\n{now}");
        }
        assert_ne!(now, was, "{path}");
    }
    assert_eq!(guest.read("setup/sync.toml"), "# ours, and whole\n");
    assert!(!guest.has("Cargo.lock"), "who commits no lock file gets none");
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    let ran = guest.at("crates/a/src").run("cargo", &["xtask", "x"], &homes).success();
    assert_eq!(ran.out, "cargo xtask 0.1.0 plain\n");
    guest.run("cargo", &["build", "--quiet", "--workspace", "--offline"], &homes).success();
}

#[test]
fn upgrade_updates_and_merges_files_in_one_commit() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    // The branch has gone on: a change beside one of the new toolkit, and one of a file that it leaves.
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    guest.write("xtask/notes.txt", NOTES.replace("seven", "seven of ours"));
    guest.write("xtask/src/word.rs", "pub const WORD: &str = \"ours\";\n");
    guest.commit("changes of ours");
    guest.git(&["switch", "--quiet", "main"]);
    upgrade(&guest, &[]).success().says("nothing to do");
    upgrade(&guest, &["--check"]).success();
    newer(&toolkit);
    let before = trace(guest.dir.as_std_path());
    upgrade(&guest, &["--check"]).status(1).says("0.1.0").says("is behind 0.2.0");
    let dry = upgrade(&guest, &["--dry-run", "-v"]).success();
    dry.says("merge   xtask/notes.txt")
        .says("keep    xtask/src/word.rs")
        .says("delete  xtask/old.txt");
    assert_eq!(trace(guest.dir.as_std_path()), before, "looking writes nothing");
    let tip = guest.git(&["rev-parse", "orchestration-tools"]);
    upgrade(&guest, &[]).success().says("built: cargo xtask 0.2.0 ours").says("install-hooks");
    assert_eq!(guest.git(&["rev-parse", "orchestration-tools^"]), tip, "one commit");
    let at = |path: &str| guest.git(&["show", &format!("orchestration-tools:{path}")]);
    let merged = NOTES.replace("two", "TWO").replace("seven", "seven of ours");
    assert_eq!(at("xtask/notes.txt"), merged);
    assert_eq!(at("xtask/new.txt"), "it comes with 0.2.0\n");
    assert!(at("xtask/VENDORED.toml").contains("version = \"0.2.0\""));
    assert!(at("xtask/src/word.rs").contains("ours"));
    guest.try_git(&["cat-file", "-e", "orchestration-tools:xtask/old.txt"]).status(128);
    let message = guest.git(&["log", "-1", "--format=%B", "orchestration-tools"]);
    assert!(message.contains("Upgrade xtask to 0.2.0"), "{message}");
    assert!(
        message.contains("  xtask/notes.txt") && message.contains("  xtask/src/word.rs"),
        "{message}"
    );
    // The branch that is checked out stays as it is, and follows by sync.
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
    let status = guest.xtask(&["status"]).success();
    status.says("the canonical branch has 0.2.0");
    guest.xtask(&["sync", "--allow-protected"]).success();
    assert_eq!(guest.read("xtask/notes.txt"), merged);
    guest.xtask(&["status"]).success().says("0.2.0 (").says("2 files were changed here");
    upgrade(&guest, &[]).success().says("nothing to do");
    // And an older one is none.
    let before = trace(guest.dir.as_std_path());
    upgrade(&guest, &["--ref", "v1"]).status(1).says("is older than the vendored");
    assert_eq!(trace(guest.dir.as_std_path()), before);
}

#[test]
fn upgrade_conflict_changes_nothing_until_it_is_resolved() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    guest.write("xtask/notes.txt", NOTES.replace("two", "2 of ours"));
    guest.write("xtask/old.txt", "we have changed what goes\n");
    guest.commit("changes of ours");
    newer(&toolkit);
    let tip = guest.git(&["rev-parse", "HEAD"]);
    upgrade(&guest, &["--dry-run"]).status(1).says("2 conflicts");
    assert!(!guest.has(".git/xtask/upgrade"), "looking writes nothing");
    let ran = upgrade(&guest, &[]).status(1);
    ran.clone()
        .says("2 conflicts")
        .says("xtask/old.txt: changed here")
        .says("--ours")
        .says("then run `cargo xtask upgrade --from ../toolkit` again");
    assert_eq!(guest.git(&["rev-parse", "HEAD"]), tip);
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
    let file = ran.err.lines().find_map(|line| Some(line.split_once("in 1 place: ")?.1.to_owned()));
    let file = file.expect("the place of the text is told");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("<<<<<<< orchestration-tools\n2 of ours\n=======\nTWO\n>>>>>>> xtask 0.2.0"),
        "{text}"
    );
    // What is half edited is not written over, and does not count.
    let half = text.replace("2 of ours", "both of us");
    fs::write(&file, &half).unwrap();
    upgrade(&guest, &["--ours", "xtask/old.txt"]).status(1).says("1 conflict");
    assert_eq!(fs::read_to_string(&file).unwrap(), half);
    upgrade(&guest, &["--ours", "xtask/new.txt"]).status(2).says("is not in conflict");
    let decided = NOTES.replace("two", "two of both");
    fs::write(&file, &decided).unwrap();
    upgrade(&guest, &["--theirs", "xtask/old.txt"]).success();
    assert_eq!(guest.read("xtask/notes.txt"), decided);
    assert!(!guest.has("xtask/old.txt"));
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
    assert!(!PathBuf::from(&file).exists(), "what is decided is in the commit");
}

#[test]
fn upgrade_that_does_not_build_is_not_committed() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    newer(&toolkit);
    // Nothing conflicts, and yet the two do not go together.
    toolkit.write("xtask/src/word.rs", "pub const OTHER: &str = \"renamed\";\n");
    toolkit.write("xtask/src/main.rs", "mod word;\nfn main() { println!(\"{}\", word::OTHER); }\n");
    toolkit.write("xtask/src/extra.rs", "pub const EXTRA: u8 = 1;\n");
    toolkit.commit("renamed");
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    guest.write("xtask/build.rs", "fn main() { panic!(\"ours\"); }\n");
    guest.commit("ours");
    let tip = guest.git(&["rev-parse", "HEAD"]);
    let ran = upgrade(&guest, &[]).status(1);
    ran.says("was not installed, and nothing has changed").says("does not build");
    assert_eq!(guest.git(&["rev-parse", "HEAD"]), tip);
    assert_eq!(guest.git(&["status", "--porcelain"]), "");
}

#[test]
fn upgrade_refuses_local_changes_and_edited_manifests() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    newer(&toolkit);
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    guest.write("xtask/notes.txt", "not committed\n");
    let tip = guest.git(&["rev-parse", "HEAD"]);
    upgrade(&guest, &[]).status(3).says("would be overwritten");
    assert_eq!(guest.read("xtask/notes.txt"), "not committed\n");
    assert_eq!(guest.git(&["rev-parse", "HEAD"]), tip);
    guest.git(&["checkout", "--quiet", "--", "."]);
    let manifest = guest.read("xtask/VENDORED.toml").replace("0.1.0", "0.0.1");
    guest.write("xtask/VENDORED.toml", manifest);
    guest.commit("cheat");
    let before = trace(guest.dir.as_std_path());
    upgrade(&guest, &[]).status(2).says("the digest does not match");
    assert_eq!(trace(guest.dir.as_std_path()), before);
    guest.xtask(&["status"]).success().says("the digest does not match");
    guest.git(&["rm", "--quiet", "xtask/VENDORED.toml"]);
    guest.git(&["commit", "--quiet", "-m", "gone"]);
    upgrade(&guest, &[]).status(2).says("no toolkit was vendored there");
    guest.xtask(&["upgrade"]).status(2);
}

#[test]
fn upgrade_source_can_be_a_url_and_is_remembered() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    guest.xtask(&["upgrade"]).status(2).says("the source of the toolkit is not recorded");
    newer(&toolkit);
    toolkit.git(&["clone", "--quiet", "--bare", ".", lab.path("toolkit.git").as_str()]);
    let address = format!("file://{}", lab.path("toolkit.git"));
    let tmp = lab.path("temporary");
    let before = trace(guest.dir.as_std_path());
    let ran =
        guest.xtask_with(&["upgrade", "--from", &address, "--check"], &[("TMPDIR", tmp.as_str())]);
    ran.status(1).says("is behind 0.2.0");
    assert_eq!(trace(guest.dir.as_std_path()), before);
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "the clone is gone");
    guest.xtask(&["upgrade", "--from", &format!("{address}x")]).status(3).says("cannot clone");
    guest.xtask(&["upgrade", "--from", "../toolkit.git", "--check"]).status(1);
    // An address that others can reach goes into the manifest, without a password.
    toolkit.git(&["remote", "add", "origin", "https://ada:secret@example.invalid/tools.git"]);
    upgrade(&guest, &[]).success();
    let manifest = guest.git(&["show", "orchestration-tools:xtask/VENDORED.toml"]);
    assert!(manifest.contains("source = \"https://example.invalid/tools.git\""), "{manifest}");
}

#[test]
fn upgrade_failing_at_any_step_is_all_or_nothing() {
    let lab = Lab::new();
    let (toolkit, guest) = given(&lab);
    newer(&toolkit);
    guest.git(&["switch", "--quiet", "orchestration-tools"]);
    guest.write("loose", "not tracked\n");
    let folder = toolkit.dir.clone();
    let work = |repo: &Repo, tools: &Tools<'_>| -> Result<()> {
        let toolkit = Toolkit::read_commit(
            open_checkout(folder.as_std_path())?,
            None,
            CopySpec::with_all_parts(),
        )?;
        let upgrade = plan_upgrade(repo, &toolkit, None, &ConflictResolution::default(), tools)?;
        if !upgrade.is_current() {
            assert!(commit_upgrade(repo, &upgrade, tools)?.is_some());
        }
        Ok(())
    };
    let old = guest.head();
    let calm = lab.copy();
    let all = steps_of(&guest.in_copy(&calm), work);
    for fault in [Fault::Fails, Fault::Crash] {
        for at in circle::steps(&all) {
            let copy = lab.copy();
            let place = guest.in_copy(&copy);
            let (done, steps) = run_with(&place, work, fault, at);
            if fault == Fault::Fails || steps <= at {
                let now = place.head();
                assert_eq!(now == old, done.is_err(), "step {at}: {done:?}");
                if done.is_err() {
                    assert_eq!(place.status(), "?? loose\n", "step {at}");
                }
            }
            // Whatever was interrupted, the next command puts right, and the upgrade can be made.
            with_tools(&place, &world(&place), |repo, tools| tools.lock_worktree(repo).map(drop))
                .unwrap();
            let again = with_tools(&place, &world(&place), work);
            again.unwrap_or_else(|cause| panic!("step {at}: {cause}"));
            assert_eq!(place.status(), "?? loose\n", "step {at}");
            assert_eq!(place.read("xtask/new.txt"), "it comes with 0.2.0\n");
            assert!(!place.has("xtask/old.txt"));
            assert_eq!(place.read("loose"), "not tracked\n");
        }
    }
}

#[test]
fn failed_vendor_leaves_nothing_behind() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(
        &lab,
        &[
            (".cargo/config.toml", "[build]\njobs = 2\n"),
            ("src/app", "application\n"),
            (".gitattributes", "*.txt eol=crlf\n"),
        ],
    );
    guest.write("loose", "not tracked\n");
    let before = (files(guest.dir.as_std_path()), guest.git(&["ls-files", "--stage"]));
    let work = |_: &Repo, tools: &Tools<'_>| -> Result<()> {
        let toolkit = Toolkit::read_commit(
            open_checkout(lab.path("toolkit").as_std_path())?,
            None,
            CopySpec::with_all_parts(),
        )?;
        let target = VendorTarget::open(guest.dir.as_std_path(), toolkit.repo(), "xtask")?;
        let around = VendorContext {
            default_branch: "main".to_owned(),
            remote: None,
            source: None,
            protected: None,
        };
        let plan = plan_install(&target, &target.repo, &toolkit, around)?;
        target.check_paths(&plan.changes)?;
        install_changes(&target.repo, target.tree, &plan.changes, tools.disk)
    };
    for at in 0.. {
        let (done, steps) = run_with(&guest, work, Fault::Fails, at);
        if steps <= at {
            done.unwrap();
            break;
        }
        if done.is_ok() {
            assert_eq!(at + 1, steps, "only the note of it was left behind");
            break;
        }
        assert_eq!((files(guest.dir.as_std_path()), guest.git(&["ls-files", "--stage"])), before);
    }
    assert_eq!(
        guest.read("xtask/notes.txt"),
        NOTES.replace('\n', "\r\n"),
        "as git writes files here"
    );
    // A folder in which nothing can be made, when half of it is written already: git's own failure.
    guest.git(&["reset", "--quiet", "--hard"]);
    drop(fs::remove_file(guest.dir.join(".git/xtask/vendoring")));
    let refused = guest.run(
        "sh",
        &["-c", "ulimit -f 1 && cd ../toolkit && exec \"$0\" vendor ../guest", program().as_str()],
        &[],
    );
    assert_ne!(refused.code, Some(0), "{refused:?}");
    // Git was ended by a signal, and its lock is still there: nobody can say whose it is but a person.
    if guest.has(".git/index.lock") {
        refused.says("if no git process is running there: `rm ");
        guest.remove(".git/index.lock");
    }
    vendor(&toolkit, &[]).success();
    guest.git(&["diff", "--quiet"]);
    assert_eq!(guest.read("loose"), "not tracked\n");
}

/// A repository may have chosen a Rust that cannot build the toolkit. It keeps it, and the toolkit is built
/// with another one. A script stands in for `rustup`.
#[test]
fn repository_keeps_its_older_rust_toolchain() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let guest = guest(&lab, &[("rust-toolchain.toml", "[toolchain]\nchannel = \"1.81\"\n")]);
    vendor(&toolkit, &[]).success();
    assert!(guest.read(".cargo/config.toml").contains("XTASK_TOOLCHAIN='stable'"));
    let log = lab.path("asked");
    let bin = lab.place("bin");
    bin.write_executable(
        "rustup",
        &format!(
            "#!/bin/sh\necho \"$RUSTUP_TOOLCHAIN:$1 $2 $3\" >> {log}\nshift 2\n\
             RUSTUP_TOOLCHAIN=\"$CHOSEN\" exec \"$@\"\n"
        ),
    );
    let path = format!("{}:{}", bin.dir, std::env::var("PATH").unwrap());
    let chosen = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned());
    let homes = homes();
    let mut variables: Vec<(&str, &str)> =
        homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    variables.extend([
        ("PATH", &path[..]),
        ("RUSTUP_TOOLCHAIN", &chosen[..]),
        ("CHOSEN", &chosen[..]),
    ]);
    let ran = guest.run("cargo", &["xtask", "x"], &variables).success();
    assert_eq!(ran.out, "cargo xtask 0.1.0 plain\n");
    assert_eq!(fs::read_to_string(log).unwrap(), ":run stable cargo\n");
}
