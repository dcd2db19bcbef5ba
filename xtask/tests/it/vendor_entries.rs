//! What is added to a repository's own files, before the judge: cargo takes it as it is.

use std::fs;
use std::path::Path;

use xtask_upgrade::cargo_alias::{LauncherTargetDir, add_alias};
use xtask_upgrade::cargo_entries::{
    CargoEdit, CargoPackage, add_locked_package, add_workspace_member,
};

use crate::builds::homes;
use crate::testkit::{Lab, Place, Ran};

const MANIFEST: &str = "Cargo.toml";
const LOCK: &str = "Cargo.lock";
const CONFIG: &str = ".cargo/config.toml";

/// A repository with the real launcher, and a toolkit that only says what it was asked.
fn repository<'a>(lab: &'a Lab, name: &str) -> Place<'a> {
    let place = lab.place(name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        ".cargo/config.toml",
        "launcher/Cargo.toml",
        "launcher/key.rs",
        "launcher/launch.rs",
        "launcher/main.rs",
    ] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        let text = text.replace("{cargo-cache-home}/xtask-build", lab.path("build").as_str());
        // As it is given.
        let text = text.replace("[[bin]]\n", "[[example]]\n");
        let text = text.replace("--package xtask --\"", "--package xtask --example xtask --\"");
        place.write(&format!("xtask/{name}"), text);
    }
    place.write(
        "xtask/Cargo.toml",
        "[workspace]\n[package]\nname = 'xtask'\nversion = '0.1.0'\nautobins = false\n\
         [[example]]\nname = \"xtask\"\npath = 'src/main.rs'\n",
    );
    place
        .write("xtask/Cargo.lock", "version = 4\n[[package]]\nname = 'xtask'\nversion = '0.1.0'\n");
    place.write(
        "xtask/src/main.rs",
        "fn main() { println!(\"asked {:?}\", std::env::args().skip(1).collect::<Vec<_>>()); }\n",
    );
    place.git(&["init", "--quiet"]);
    place
}

/// What the toolkit says when it is asked for `status`.
const ASKED: &str = "asked [\"status\"]\n";

fn package(place: &Place<'_>, folder: &str, name: &str, more: &str) {
    place.write(&format!("{folder}/src/lib.rs"), "");
    let head = format!("[package]\nname = '{name}'\nversion = '1.0.0'\nedition = '2021'\n");
    place.write(&format!("{folder}/{MANIFEST}"), head + more);
}

fn cargo(place: &Place<'_>, args: &[&str], more: &[(&str, &str)]) -> Ran {
    let homes = homes();
    let mut variables = vec![("CARGO_NET_OFFLINE", "true")];
    variables.extend(homes.iter().map(|(name, value)| (*name, &value[..])));
    variables.extend(more);
    place.run("cargo", args, &variables)
}

/// The names of the packages that cargo takes for members of the workspace in which a folder lies, if it
/// accepts the lock file as it is.
fn members(place: &Place<'_>) -> Vec<String> {
    let ran = cargo(place, &["metadata", "--format-version", "1", "--locked"], &[]).success();
    let told = ran.json();
    let of = |key: &str| told[key].as_array().unwrap().clone();
    let ids = of("workspace_members");
    let packages = of("packages").into_iter().filter(|package| ids.contains(&package["id"]));
    let mut names: Vec<String> =
        packages.map(|package| package["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn take(place: &Place<'_>, file: &str, entry: CargoEdit) {
    match entry {
        CargoEdit::UpToDate => {}
        CargoEdit::Changed(text) => place.write(file, text),
        other => panic!("{file}: {other:?}"),
    }
}

fn text(place: &Place<'_>, file: &str) -> Option<String> {
    place.has(file).then(|| place.read(file))
}

/// Adds all that is needed.
#[track_caller]
fn add(place: &Place<'_>, packages: &[(&str, &str)], builds: LauncherTargetDir) {
    let packages: Vec<CargoPackage<'_>> =
        packages.iter().map(|(folder, name)| CargoPackage { folder, name: Some(name) }).collect();
    take(
        place,
        MANIFEST,
        add_workspace_member(text(place, MANIFEST).as_deref(), &packages, "xtask"),
    );
    take(place, LOCK, add_locked_package(text(place, LOCK).as_deref(), "xtask"));
    take(place, CONFIG, add_alias(text(place, CONFIG).as_deref(), builds, false, "xtask"));
}

#[test]
fn repository_without_rust_gets_no_target_folder_in_its_root() {
    let lab = Lab::new();
    let place = repository(&lab, "repo");
    add(&place, &[], LauncherTargetDir::Toolkit);
    for from in [&place, &place.at("xtask/launcher"), &place] {
        assert_eq!(cargo(from, &["xtask", "status"], &[]).success().out, ASKED);
    }
    assert!(!place.has("target"));
    assert!(place.has("xtask/target/launcher/debug/examples/xtask"));
    assert_eq!(members(&place), ["xtask"]);
}

#[test]
fn packages_in_subfolders_keep_their_workspaces() {
    let lab = Lab::new();
    let place = repository(&lab, "repo");
    package(&place, "sub/one", "one", "");
    package(&place, "sub/one/deep", "deep", "");
    package(&place, "other", "other", "[workspace]\nmembers = ['in']\nexclude = ['out']\n");
    package(&place, "other/in", "in", "");
    package(&place, "other/out", "out", "");
    let all = ["sub/one", "sub/one/deep", "other", "other/in", "other/out"];
    for folder in all {
        cargo(&place.at(folder), &["generate-lockfile"], &[]).success();
    }
    let before = all.map(|folder| members(&place.at(folder)));
    assert_eq!(before[4], ["out"]);

    take(&place, MANIFEST, add_workspace_member(None, &[], "xtask"));
    cargo(&place.at("sub/one"), &["metadata"], &[]).status(101).says("when it's not");
    place.remove(MANIFEST);

    let packages = all.map(|folder| (folder, folder.rsplit('/').next().unwrap()));
    add(&place, &packages, LauncherTargetDir::Workspace);
    assert_eq!(all.map(|folder| members(&place.at(folder))), before);
    assert_eq!(cargo(&place.at("sub"), &["xtask", "status"], &[]).success().out, ASKED);
    // The limit of the alias: cargo looks into the workspace in which it is called.
    cargo(&place.at("sub/one"), &["xtask", "status"], &[]).status(101).says("`xtask` not found");
}

#[test]
fn root_package_becomes_a_workspace_with_only_the_toolkit_added() {
    let lab = Lab::new();
    let place = repository(&lab, "repo");
    package(&place, ".", "root", "[dependencies]\ndep = { path = 'dep' }\n");
    package(&place, "dep", "dep", "");
    package(&place, "alone", "alone", "");
    for folder in [".", "dep", "alone"] {
        cargo(&place.at(folder), &["generate-lockfile"], &[]).success();
    }
    add(&place, &[("dep", "dep"), ("alone", "alone")], LauncherTargetDir::Workspace);
    assert_eq!(members(&place), ["root", "xtask"]);
    assert_eq!(members(&place.at("dep")), ["dep"]);
    assert_eq!(members(&place.at("alone")), ["alone"]);
    // What is built without a choice is what it was.
    let built = cargo(&place, &["build", "--locked"], &[]).success();
    built.says("Compiling root").never_says("Compiling xtask");
    assert_eq!(cargo(&place.at("src"), &["xtask", "status"], &[]).success().out, ASKED);
}

#[test]
fn cargo_accepts_the_edit_of_every_workspace_notation() {
    let lab = Lab::new();
    let virtual_ones = [
        "[workspace]\nresolver = '2'\nmembers = [\n    'one', # the first\n    'two' # the last\n]",
        "[workspace]\r\nresolver = '2'\r\nmembers = [\r\n  'one',\r\n  'two',\r\n]\r\n",
        "\u{feff}[workspace]\nresolver = '2'\nmembers = ['one', 'two',]\nexclude = ['xtask']\n",
        "[workspace]\nresolver = '2'\nmembers = ['[a-z]*']\nexclude = ['target']\n",
        "[workspace]\nresolver = '2'\nmembers = ['one', 'two', 'xtask/*']\n",
        "[workspace]\nresolver = '2'\nmembers = ['one', 'two', 'xtask/l*']\nexclude = ['xtask/launcher']\n",
        "[workspace]\nresolver = '2'\nmembers = ['one', 'two', '*/launcher']\n",
        "workspace = { resolver = '2', members = ['one', 'two'] }\n",
        "workspace.resolver = '2'\nworkspace.members = ['one', 'two']\n",
        "[workspace]\nresolver = '2'\nmembers = ['one', 'two']\ndefault-members = ['two']\n",
    ];
    for (number, manifest) in virtual_ones.iter().enumerate() {
        let place = repository(&lab, &format!("virtual-{number}"));
        package(&place, "one", "one", "");
        package(&place, "two", "two", "");
        place.write(MANIFEST, manifest);
        place.write(
            LOCK,
            "version = 4\n\n[[package]]\nname = \"one\"\nversion = \"1.0.0\"\n\n\
             [[package]]\nname = \"two\"\nversion = \"1.0.0\"\n",
        );
        add(&place, &[("one", "one"), ("two", "two")], LauncherTargetDir::Workspace);
        assert_eq!(members(&place), ["one", "two", "xtask"], "{}", place.read(MANIFEST));
        assert_eq!(members(&place.at("xtask")), ["xtask"]);
    }
    for (number, more) in
        ["[workspace]\n", "[workspace.package]\nversion = '1.0.0'\n", ""].iter().enumerate()
    {
        let place = repository(&lab, &format!("root-{number}"));
        package(&place, ".", "root", more);
        add(&place, &[], LauncherTargetDir::Workspace);
        place.write(
            LOCK,
            "version = 4\n\n[[package]]\nname = \"root\"\nversion = \"1.0.0\"\n\n\
             [[package]]\nname = \"xtask\"\nversion = \"0.0.0\"\n",
        );
        assert_eq!(members(&place), ["root", "xtask"], "{}", place.read(MANIFEST));
    }
}

/// A package that the toolkit itself needs, so that cargo has it: its version and checksum.
fn fetched(name: &str) -> (String, String) {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(LOCK)).unwrap();
    let package = lock
        .split("[[package]]")
        .find(|package| package.trim_start().starts_with(&format!("name = \"{name}\"\n")));
    let of = |key: &str| {
        let line = package.unwrap().lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim_matches([' ', '=', '"']).to_owned()
    };
    (of("version"), of("checksum"))
}

#[test]
fn edited_lock_file_stays_valid_in_every_format() {
    let lab = Lab::new();
    let place = repository(&lab, "repo");
    let (version, checksum) = fetched("httparse");
    place.write(MANIFEST, "[workspace]\nresolver = '2'\nmembers = ['app', 'zoo']\n");
    package(&place, "app", "app", &format!("[dependencies]\nhttparse = '={version}'\n"));
    package(&place, "zoo", "zoo", "");
    add(&place, &[], LauncherTargetDir::Workspace);
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    let of = |head: &str, dependency: &str, checksum: &str, tail: &str| {
        format!(
            "{head}[[package]]\nname = \"app\"\nversion = \"1.0.0\"\ndependencies = [\n \"{dependency}\",\n]\n\n\
             [[package]]\nname = \"httparse\"\nversion = \"{version}\"\nsource = \"{registry}\"\n{checksum}\n\
             [[package]]\nname = \"zoo\"\nversion = \"1.0.0\"\n{tail}"
        )
    };
    let generated = "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\n";
    let inside = format!("checksum = \"{checksum}\"\n");
    let full = format!("httparse {version} ({registry})");
    let formats = [
        of(generated, &full, "", &format!("\n[metadata]\n\"checksum {full}\" = \"{checksum}\"\n")),
        of(generated, "httparse", &inside, ""),
        of(&format!("{generated}version = 3\n\n"), "httparse", &inside, ""),
        of(&format!("{generated}version = 4\n\n"), "httparse", &inside, ""),
    ];
    for format in formats {
        for text in [format.replace('\n', "\r\n"), format] {
            place.write(LOCK, &text);
            cargo(&place, &["metadata", "--format-version", "1", "--locked"], &[]).status(101);
            take(&place, LOCK, add_locked_package(Some(&text), "xtask"));
            let with = place.read(LOCK);
            assert_eq!(members(&place), ["app", "xtask", "zoo"], "{with}");
            // Nor does cargo write it anew where it may.
            cargo(&place, &["metadata", "--format-version", "1"], &[]).success();
            assert_eq!(place.read(LOCK), with);
        }
    }
}

#[test]
fn toolkit_is_built_for_the_host_despite_configured_target() {
    let lab = Lab::new();
    // A machine that no compiler knows, so that nothing can be built for it.
    for (number, target) in ["'no-such-machine'", "['no-such-machine']"].iter().enumerate() {
        let place = repository(&lab, &format!("repo-{number}"));
        place.write(CONFIG, format!("[build]\ntarget = {target}\n"));
        add(&place, &[], LauncherTargetDir::Workspace);
        assert_eq!(cargo(&place, &["xtask", "status"], &[]).success().out, ASKED);
        cargo(&place, &["build"], &[]).status(101).says("no-such-machine");
    }
}

#[test]
fn launcher_and_toolkit_do_not_collide_in_custom_target_folder() {
    let lab = Lab::new();
    let place = repository(&lab, "repo");
    add(&place, &[], LauncherTargetDir::Workspace);
    let folder = lab.path("chosen");
    let by_variable = [("CARGO_TARGET_DIR", folder.as_str())];
    let asked = |variables| cargo(&place, &["xtask", "status"], variables).success().out;
    let meet = || {
        let program = fs::read(folder.join("debug/examples/xtask")).unwrap();
        program == fs::read(place.dir.join("xtask/target/debug/examples/xtask")).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(asked(&by_variable), ASKED);
        assert!(!meet());
    }
    let config = place.read(CONFIG);
    place.write(CONFIG, format!("{config}[build]\ntarget-dir = '{folder}'\n"));
    assert_eq!(asked(&[]), ASKED);
    let from_within = cargo(&place.at("xtask"), &["xtask", "status"], &[]).success();
    assert_eq!(from_within.out, ASKED);
    assert!(!meet());
}

#[test]
fn launcher_passes_strict_lints_of_the_repository() {
    let lab = Lab::new();
    let place = repository(&lab, "repo");
    add(&place, &[], LauncherTargetDir::Workspace);
    let manifest = place.read("xtask/launcher/Cargo.toml");
    for edition in ["2018", "2021", "2024"] {
        place.write("xtask/launcher/Cargo.toml", manifest.replace("2018", edition));
        cargo(&place, &["build", "--quiet"], &[("RUSTFLAGS", "--deny warnings")]).success();
    }
    let lints =
        ["all", "pedantic", "nursery", "restriction"].map(|group| format!("clippy::{group}"));
    let mut args = vec!["clippy", "--quiet", "--", "--deny", "warnings"];
    args.extend(lints.iter().flat_map(|lint| ["--deny", lint]));
    cargo(&place, &args, &[]).success();
}
