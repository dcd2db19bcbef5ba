//! Checkouts share the build of the dependencies, and never each other's program.

use std::fs;
use std::path::PathBuf;

use crate::testkit::{Lab, Place};

/// The homes of cargo and rustup, which the lab has none of.
pub fn homes() -> [(&'static str, String); 2] {
    let home = std::env::var("HOME").unwrap();
    let or = |name: &str, folder: &str| {
        std::env::var(name).unwrap_or_else(|_| format!("{home}/{folder}"))
    };
    [("CARGO_HOME", or("CARGO_HOME", ".cargo")), ("RUSTUP_HOME", or("RUSTUP_HOME", ".rustup"))]
}

/// A workspace with one small program that says a word, and this project's configuration of cargo.
fn checkout<'a>(lab: &'a Lab, name: &str, word: &str) -> Place<'a> {
    let place = lab.place(name);
    place.write("Cargo.toml", "[workspace]\nmembers = ['xtask']\nresolver = '3'\n");
    place.write("xtask/Cargo.toml", "[package]\nname = 'xtask'\nversion = '0.1.0'\n");
    place.write("xtask/src/main.rs", format!("fn main() {{ println!(\"{word}\"); }}\n"));
    let config = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.cargo/config.toml");
    place.write(".cargo/config.toml", fs::read_to_string(config).unwrap());
    place
}

#[test]
fn two_checkouts_with_one_build_folder_run_their_own_program() {
    let lab = Lab::new();
    // Both are written before either is built, so that their times tell nothing.
    let (one, two) = (checkout(&lab, "deep/one", "one"), checkout(&lab, "two", "two"));
    let shared = format!("build.build-dir='{}'", lab.path("build"));
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    for _ in 0..2 {
        for (place, word) in [(&one, "one\n"), (&two, "two\n"), (&one.at("xtask/src"), "one\n")] {
            let args = ["run", "--quiet", "--offline", "--config", &shared];
            let ran = place.run("cargo", &args, &homes).success();
            assert_eq!(ran.out, word, "{}", place.dir);
        }
    }
}

#[test]
fn a_program_of_another_checkout_does_nothing() {
    let lab = Lab::new();
    let repo = lab.repo();
    let told = |folder: &str, name: &str| {
        repo.xtask_with(&["status"], &[("CARGO_MANIFEST_DIR", folder), ("CARGO_PKG_NAME", name)])
    };
    told(env!("CARGO_MANIFEST_DIR"), "xtask").success();
    told("/elsewhere/xtask", "other").success();
    let refused = told("/elsewhere/xtask", "xtask").status(3);
    refused.says("was built in").says("RUSTC_WORKSPACE_WRAPPER");
}
