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

/// One small program that says a word, with the launcher and this project's configuration of cargo.
fn checkout<'a>(lab: &'a Lab, name: &str, word: &str) -> Place<'a> {
    let place = lab.place(name);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let shared = lab.path("build");
    for name in [
        "Cargo.toml",
        "Cargo.lock",
        ".cargo/config.toml",
        "xtask/.cargo/config.toml",
        "xtask/launcher/Cargo.toml",
        "xtask/launcher/main.rs",
    ] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        let text = text.replace(", \"xtask/tests/runner\"", "");
        place.write(name, text.replace("{cargo-cache-home}/xtask-build", shared.as_str()));
    }
    place.write("xtask/Cargo.toml", "[workspace]\n[package]\nname = 'xtask'\nversion = '0.1.0'\n");
    place
        .write("xtask/Cargo.lock", "version = 4\n[[package]]\nname = 'xtask'\nversion = '0.1.0'\n");
    place.write("xtask/src/main.rs", format!("fn main() {{ println!(\"{word}\"); }}\n"));
    place
}

#[test]
fn two_checkouts_with_one_build_folder_run_their_own_program() {
    let lab = Lab::new();
    // Both are written before either is built, so that their times tell nothing.
    let (one, two) = (checkout(&lab, "deep/one", "one"), checkout(&lab, "two", "two"));
    let homes = homes();
    let homes: Vec<(&str, &str)> = homes.iter().map(|(name, value)| (*name, &value[..])).collect();
    for _ in 0..2 {
        for (place, word) in [(&one, "one\n"), (&two, "two\n"), (&one.at("xtask/src"), "one\n")] {
            let ran = place.run("cargo", &["xtask"], &homes).success();
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
