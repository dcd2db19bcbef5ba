//! The toolkit in other people's houses: an empty repository, a Python and TypeScript project that has
//! the folders already, and a Rust workspace whose versions are at odds with ours. In each it is built, and does
//! its day's work. In the exhaustive circle it is the real one, built from the crates that are there.

use std::fs;
use std::path::Path;

use crate::builds::homes;
use crate::testkit::{Lab, Place, Ran, port};

/// A repository with some files.
fn house<'a>(lab: &'a Lab, files: &[(&str, &str)]) -> Place<'a> {
    lab.repo_with("house", files)
}

struct Door<'a> {
    place: &'a Place<'a>,
    variables: Vec<(&'static str, String)>,
}

impl Door<'_> {
    /// `cargo xtask …`, as a person types it.
    fn xtask(&self, args: &[&str]) -> Ran {
        let variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (*name, &value[..])).collect();
        self.place.run("cargo", &[&["xtask"], args].concat(), &variables)
    }
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        // What a failed test has left running; after a good one there is nothing.
        drop(self.place.run("cargo", &["xtask", "stop"], &[]));
    }
}

/// Vendors, and does a day's work. What comes must be committed whole, and nothing else change. `may_miss`:
/// the house wants programs that this machine may not have.
fn live_in(toolkit: &Place<'_>, house: &Place<'_>, may_miss: bool) {
    toolkit.xtask(&["vendor", "../house", "--parts", "all"]).success().says("cargo xtask setup");
    // A folder that was there before is offered, and is taken in by hand.
    let rules = house.read("setup/sync.toml");
    house.write("setup/sync.toml", rules.replace("  # \"/setup/\",", "  \"/setup/\","));
    house.git(&["commit", "--quiet", "-a", "-m", "Add xtask"]);
    assert_eq!(house.git(&["status", "--porcelain"]), "");
    let mut variables = homes().to_vec();
    variables.push(("CARGO_NET_OFFLINE", "true".to_owned()));
    let door = Door { place: house, variables };
    door.xtask(&["setup"]).success().says("ready").says("the program of the hooks was updated");
    assert_eq!(house.git(&["status", "--porcelain"]), "");
    door.xtask(&["setup"]).success();
    // A change for everybody, on a branch that was there before, brought by the hook and by sync.
    house.git(&["branch", "feature"]);
    house.git(&["branch", "other"]);
    house.git(&["switch", "--quiet", "orchestration-tools"]);
    house.write("setup/shared.txt", "for everybody\n");
    house.commit("a change for everybody");
    house.git(&["switch", "--quiet", "feature"]);
    assert_eq!(house.read("setup/shared.txt"), "for everybody\n", "the hook has brought it");
    house
        .run("git", &["switch", "--quiet", "other"], &[("DISABLE_ORCHESTRATION_CHECKS", "1")])
        .success();
    door.xtask(&["sync", "--check"]).status(1);
    door.xtask(&["sync"]).success();
    assert_eq!(house.read("setup/shared.txt"), "for everybody\n");
    door.xtask(&["sync", "--check"]).success();
    assert_eq!(house.git(&["status", "--porcelain"]), "");
    // What fails is not installed on this machine, and nothing else.
    let validated = door.xtask(&["validate", "--fast", "--json"]);
    let failed = validated.json()["checks"].as_array().unwrap().clone();
    let failed = failed.iter().filter(|check| check["outcome"] == "failed");
    let failed: Vec<&str> = failed.filter_map(|check| check["name"].as_str()).collect();
    let missing = ["python", "node", "npm", "types"];
    assert!(failed.iter().all(|name| may_miss && missing.contains(name)), "{validated:?}");
    assert_eq!(validated.code, Some(i32::from(!failed.is_empty())), "{validated:?}");
    let (web, api) = (format!("web={}", port()), format!("api={}", port()));
    let status = format!("status={}", port());
    door.xtask(&["start", "--port", &web, "--port", &api, "--port", &status]).success();
    let page = door.xtask(&["ps", "--json"]).success().json();
    let states: Vec<&str> = page["services"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["state"].as_str())
        .collect();
    assert_eq!(states, ["ready", "ready"], "{page}");
    door.xtask(&["stop"]).success();
    let page = door.xtask(&["ps", "--json"]).success().json();
    assert!(page["supervisor"].is_null(), "{page}");
    let status = door.xtask(&["status"]).success();
    status.says("xtask").never_says("were changed here");
    assert_eq!(house.git(&["status", "--porcelain"]), "");
}

#[test]
fn toolkit_works_in_an_empty_repository() {
    let lab = Lab::new();
    let toolkit = lab.toolkit("toolkit");
    let empty = house(&lab, &[]);
    live_in(&toolkit, &empty, false);
    assert!(!empty.has("target"));
}

#[test]
fn toolkit_works_alongside_python_and_typescript() {
    let lab = Lab::new();
    let toolkit = lab.toolkit("toolkit");
    let own = "#!/bin/sh\necho set up\n";
    let mixed = house(
        &lab,
        &[
            (
                "pyproject.toml",
                "[project]\nname = 'shop'\nversion = '1.0.0'\ndependencies = ['flask']\n",
            ),
            ("shop/app.py", "from flask import Flask\napp = Flask(__name__)\n"),
            ("package.json", "{\"name\": \"shop\", \"scripts\": {\"dev\": \"vite\"}}\n"),
            ("tsconfig.json", "{}\n"),
            ("web/main.ts", "export const a: number = 1;\n"),
            ("setup/setup.sh", own),
            ("deployment/compose.yaml", "services: {}\n"),
            ("scripts/build.sh", own),
            (".gitignore", "node_modules\nlib/\n*.toml.bak\n"),
        ],
    );
    live_in(&toolkit, &mixed, true);
    assert_eq!(mixed.read("setup/setup.sh"), own);
    assert_eq!(mixed.read("deployment/compose.yaml"), "services: {}\n");
    assert!(mixed.read("setup/sync.toml").contains("\"/scripts/\""));
}

#[test]
fn toolkit_works_in_a_conflicting_rust_workspace() {
    let lab = Lab::new();
    let toolkit = lab.toolkit("toolkit");
    // `toml` is another one here for every package of the workspace: one with which ours cannot be built.
    let rust = house(
        &lab,
        &[
            (
                "Cargo.toml",
                "[workspace]\nmembers = ['crates/*']\nresolver = '2'\n\
                 [patch.crates-io]\ntoml = { path = 'patched/toml' }\n\
                 [profile.dev]\nopt-level = 0\n[workspace.lints.rust]\nunused = 'deny'\n",
            ),
            (
                "crates/app/Cargo.toml",
                "[package]\nname = 'app'\nversion = '1.0.0'\nedition = '2021'\n\
                 [dependencies]\ntoml = '=1.2.9'\n[lints]\nworkspace = true\n",
            ),
            ("crates/app/src/main.rs", "fn main() {\n    println!(\"{}\", toml::OURS);\n}\n"),
            (
                "patched/toml/Cargo.toml",
                "[package]\nname = 'toml'\nversion = '1.2.9'\nedition = '2021'\n",
            ),
            ("patched/toml/src/lib.rs", "pub const OURS: &str = \"ours\";\n"),
            (".gitignore", "/target\n"),
        ],
    );
    let mut variables = homes().to_vec();
    variables.push(("CARGO_NET_OFFLINE", "true".to_owned()));
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, &value[..])).collect();
    rust.run("cargo", &["generate-lockfile"], &variables).success();
    rust.commit("lock file");
    live_in(&toolkit, &rust, false);
    let ran = rust.run("cargo", &["run", "--quiet", "--locked", "--package", "app"], &variables);
    assert_eq!(ran.success().out, "ours\n");
    rust.run("cargo", &["test", "--quiet", "--locked", "--workspace"], &variables).success();
}

#[test]
fn recorded_renames_lead_to_present_files() {
    let toolkit = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(toolkit.join("crates/upgrade/src/renames.txt")).unwrap();
    let renames: Vec<(&str, &str)> =
        text.lines().map(|line| line.split_once(' ').expect("a line is `OLD NEW`")).collect();
    for (old, _) in &renames {
        let mut path = *old;
        for (from, to) in &renames {
            if *from == path {
                path = to;
            }
        }
        assert!(toolkit.join(path).is_file(), "`{old}` leads to `{path}`");
        assert!(!toolkit.join(old).exists(), "`{old}` is still there");
    }
}
