//! Parts of the toolkit in a repository: what is left out is gone, and what remains is whole.

use std::fs;
use std::path::PathBuf;

use crate::builds::homes;
use crate::testkit::{Lab, Place, circle};
use crate::vendor::{guest, toolkit, upgrade, vendor};

/// Every set of parts that stands by itself.
const SETS: [&str; 6] = [
    "sync",
    "hooks,checks",
    "checks,services",
    "checks,services,deploy",
    "checks,services,vendoring",
    "all",
];

/// This very toolkit, committed.
pub fn this_toolkit<'a>(lab: &'a Lab) -> Place<'a> {
    let place = lab.place("toolkit");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let is_ours = |name: &str| !["target", "tests", "benches"].contains(&name);
    for entry in walkdir::WalkDir::new(&root)
        .min_depth(1)
        .into_iter()
        .filter_entry(|entry| entry.depth() > 1 || is_ours(entry.file_name().to_str().unwrap()))
    {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(&root).unwrap().to_str().unwrap();
        if entry.file_type().is_file() {
            place.write(&format!("xtask/{name}"), fs::read(entry.path()).unwrap());
        }
    }
    place.git(&["init", "--quiet"]);
    place.commit("the toolkit");
    place
}

#[test]
fn each_set_of_parts_is_complete_and_mentions_no_others() {
    let lab = Lab::new();
    let _toolkit = this_toolkit(&lab);
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    for set in SETS {
        let place = lab.repo_with(&set.replace(',', "-"), &[("a", "a\n")]);
        let target = format!("../{}", set.replace(',', "-"));
        lab.place("toolkit").xtask(&["vendor", &target, "--parts", set]).success();
        let has = |name: &str| set == "all" || set.split(',').any(|part| part == name);
        let sources = walkdir::WalkDir::new(place.dir.join("xtask")).into_iter();
        for entry in sources.map(Result::unwrap).filter(|entry| entry.file_type().is_file()) {
            let text = fs::read_to_string(entry.path()).unwrap();
            let name = entry.path().strip_prefix(&place.dir).unwrap().display();
            assert!(!text.contains("#[cfg(test)]\nmod tests {"), "{set}: {name}");
            for part in ["checks", "services", "deploy", "vendoring"] {
                let gate = format!("#[cfg(feature = \"{part}\")]\n");
                assert!(has(part) || !text.contains(&gate), "{set}: {name} is about {part}");
            }
        }
        for (part, paths) in [
            (
                "checks",
                &["xtask/crates/validate", "xtask/src/cmd/validate.rs", "setup/validate.toml"][..],
            ),
            ("services", &["xtask/crates/services", "xtask/src/cmd/start.rs", "deployment"]),
            ("deploy", &["xtask/crates/deploy", "xtask/src/cmd/deploy_workflow.rs"]),
            ("vendoring", &["xtask/crates/vendoring", "xtask/src/demo"]),
        ] {
            for path in paths {
                assert_eq!(place.dir.join(path).exists(), has(part), "{set}: {path}");
            }
        }
        let manual = place.read("xtask/README.md") + &place.read("justfile");
        assert_eq!(manual.contains("cargo xtask start"), has("services"), "{set}");
        assert_eq!(manual.contains("cargo xtask validate"), has("checks"), "{set}");
        assert_eq!(manual.contains("cargo xtask demo"), has("vendoring"), "{set}");
        // The lock file holds what cargo reaches, and nothing more.
        let task = if circle::is_exhaustive() {
            &["check", "--examples"][..]
        } else {
            &["tree", "--depth=0"]
        };
        let args = [task, &["--quiet", "--offline", "--locked"]].concat();
        let ran = place.at("xtask").run("cargo", &args, &homes).success();
        assert!(!ran.err.contains("warning"), "{set}: {}", ran.err);
    }
}

#[test]
fn upgrade_can_add_parts_and_keeps_the_selection() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let package = toolkit.read("xtask/Cargo.toml");
    toolkit.write(
        "xtask/Cargo.toml",
        package + "\n[features]\ndefault = [\"checks\", \"services\"]\nchecks = []\nservices = [\"checks\"]\n",
    );
    let main = toolkit.read("xtask/src/main.rs");
    toolkit
        .write("xtask/src/main.rs", format!("#[cfg(feature = \"services\")]\nmod extra;\n{main}"));
    toolkit.write("xtask/src/extra.rs", "pub const EXTRA: u8 = 1;\n");
    toolkit.commit("parts");
    let place = guest(&lab, &[("src/app", "application\n")]);
    vendor(&toolkit, &["--parts", "check"])
        .status(2)
        .says("unknown part `check`; did you mean `checks`?");
    vendor(&toolkit, &["--parts", "services"])
        .status(2)
        .says("part `services` needs `checks`")
        .says("--parts sync,hooks,checks,services");
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    // A library gets no services that it does not have.
    vendor(&toolkit, &[]).success().says("sync,hooks,checks)");
    assert!(!place.has("xtask/src/extra.rs") && !place.has("deployment"));
    assert!(place.read("xtask/VENDORED.toml").contains("parts = \"sync,hooks,checks\"\n"));
    place.git(&["commit", "--quiet", "-m", "Add xtask"]);
    place.git(&["switch", "--quiet", "--create", "orchestration-tools"]);
    upgrade(&place, &[]).success().says("nothing to do");
    upgrade(&place, &["--check", "--parts", "all"]).status(1);
    upgrade(&place, &["--parts", "all"]).success();
    assert!(place.has("xtask/src/extra.rs"));
    assert!(place.read("xtask/Cargo.toml").contains("default = [\"checks\", \"services\"]\n"));
    upgrade(&place, &[]).success().says("nothing to do");
    // What was changed here is not taken away with its part.
    place.write("xtask/src/extra.rs", "pub const EXTRA: u8 = 2;\n");
    place.commit("ours");
    upgrade(&place, &["--parts", "sync"]).status(1).says("xtask/src/extra.rs: changed here");
    upgrade(&place, &["--parts", "sync", "--theirs", "xtask/src/extra.rs"]).success();
    assert!(!place.has("xtask/src/extra.rs"));
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    assert!(place.read("xtask/VENDORED.toml").contains("parts = \"sync,hooks\"\n"));
}

#[test]
fn custom_toolkit_name_is_used_everywhere() {
    let lab = Lab::new();
    let toolkit = this_toolkit(&lab);
    let place = lab.repo_with("guest", &[("xtask/of-theirs", "theirs\n")]);
    toolkit
        .xtask(&["vendor", "../guest"])
        .status(1)
        .says("`xtask` already exists")
        .says("--name NAME");
    for (name, why) in [("Ops", "invalid name `Ops`"), ("test", "a built-in command of cargo")] {
        toolkit.xtask(&["vendor", "../guest", "--name", name]).status(2).says(why);
    }
    toolkit
        .xtask(&["vendor", "../guest", "--name", "ops", "--parts", "all"])
        .success()
        .says("create  ops/ (")
        .says("cargo ops setup")
        .says("cargo ops start");
    for entry in walkdir::WalkDir::new(&place.dir).into_iter().map(Result::unwrap) {
        let name = entry.path().strip_prefix(&place.dir).unwrap().display().to_string();
        if !entry.file_type().is_file() || name.starts_with(".git/") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        assert!(!text.contains("cargo xtask"), "{name}");
        // The manifest also says where files outside of it lie in the toolkit.
        let is_source = [".rs", ".html", "VENDORED.toml"].iter().any(|end| name.ends_with(end));
        let paths = ["`xtask/", " xtask/", "'xtask/", "\"xtask/", "/xtask/**"];
        assert!(is_source || !paths.iter().any(|path| text.contains(path)), "{name}");
    }
    assert!(place.read("ops/VENDORED.toml").contains("\"ops/src/main.rs\" = "));
    assert!(place.read("setup/sync.toml").contains("\"/ops/\""));
    assert_eq!(place.read("xtask/of-theirs"), "theirs\n");
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    let args = ["tree", "--depth=0", "--quiet", "--offline", "--locked"];
    let ran = place.at("ops").run("cargo", &args, &homes).success();
    assert!(ran.out.starts_with("ops v0.1.0"), "{}", ran.out);
    // A second one, under any name, is refused.
    place.git(&["commit", "--quiet", "-m", "Add ops"]);
    toolkit
        .xtask(&["vendor", "../guest", "--name", "tasks"])
        .status(1)
        .says("the toolkit is already vendored in `ops/`")
        .says("`cargo ops upgrade`");
}

#[test]
fn renamed_toolkit_runs_alongside_an_existing_xtask() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let place = guest(
        &lab,
        &[
            ("Cargo.toml", "[workspace]\nmembers = [\"xtask\"]\nresolver = \"2\"\n"),
            ("xtask/Cargo.toml", "[package]\nname = \"xtask\"\nversion = \"1.0.0\"\n"),
            ("xtask/src/main.rs", "fn main() { println!(\"theirs\"); }\n"),
            (".cargo/config.toml", "[alias]\nxtask = \"run --quiet --package xtask --\"\n"),
        ],
    );
    vendor(&toolkit, &["--name", "ops"]).success();
    place.git(&["commit", "--quiet", "-m", "Add ops"]);
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    let ran = place.at("xtask/src").run("cargo", &["ops", "x"], &homes).success();
    assert!(ran.out.ends_with(" 0.1.0 plain\n"), "{}", ran.out);
    assert_eq!(place.run("cargo", &["xtask"], &homes).success().out, "theirs\n");
}

#[test]
fn vendor_writes_and_reports_the_protected_branches() {
    let lab = Lab::new();
    let toolkit = toolkit(&lab);
    let place = guest(&lab, &[("src/app", "application\n")]);
    for (protect, line, told) in [
        (&[][..], "protected = [\"main\"]", "`main` is protected: once the hooks are installed"),
        (&["--protect", "none"], "protected = []", "no branch is protected"),
        (
            &["--protect", "trunk,release/*"],
            "protected = [\"trunk\", \"release/*\"]",
            "`trunk`, `release/*` is",
        ),
    ] {
        vendor(&toolkit, protect).success().says(told);
        assert!(place.read("setup/branches.toml").contains(&format!("\n{line}\n")), "{protect:?}");
        place.git(&["reset", "--quiet", "--hard"]);
    }
    vendor(&toolkit, &["--protect", "none,main"]).status(2).says("`none` alone");
    place.write("setup/branches.toml", "protected = []\n");
    place.commit("rules of their own");
    vendor(&toolkit, &["--protect", "main"]).status(2).says("`setup/branches.toml` already exists");
    vendor(&toolkit, &[]).success();
    assert_eq!(place.read("setup/branches.toml"), "protected = []\n");
}
