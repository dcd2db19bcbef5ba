//! The toolkit as sources in a repository, for tests in which cargo builds it.

use std::fs;
use std::path::PathBuf;

use super::{Lab, Place, circle, program};

/// What stands in for the sources in the usual circle: a program that becomes the one under test, so that a
/// build takes a second.
const STAND_IN: &str = r#"use std::os::unix::process::CommandExt;

fn main() {
    let mut program = std::process::Command::new("PROGRAM");
    program.args(std::env::args_os().skip(1));
    // What cargo says of this package is not true of the other one.
    program.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME");
    panic!("{}", program.exec());
}
"#;

/// Writes `xtask/` as the toolkit has it: in the exhaustive circle this very toolkit, else a program in its
/// place, with the same launcher and settings.
pub fn write_toolkit(place: &Place<'_>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let is_source = |name: &str| {
        let is_replaced = ["src", "crates", "benches", "Cargo.toml", "Cargo.lock"].contains(&name);
        !["target", "tests"].contains(&name) && (circle::is_exhaustive() || !is_replaced)
    };
    for entry in walkdir::WalkDir::new(&root)
        .min_depth(1)
        .into_iter()
        .filter_entry(|entry| entry.depth() > 1 || is_source(entry.file_name().to_str().unwrap()))
    {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(&root).unwrap().to_str().unwrap();
        if entry.file_type().is_file() {
            place.write(&format!("xtask/{name}"), fs::read(entry.path()).unwrap());
        }
    }
    let package = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    if circle::is_exhaustive() {
        // Optimising takes more than half of a build, and changes nothing here.
        let plain = package.replace("opt-level = 1", "opt-level = 0");
        assert_ne!(package, plain);
        place.write("xtask/Cargo.toml", plain);
    } else {
        let end = package.find("[dependencies]").unwrap();
        let (start, stop) =
            (package.find("members = [").unwrap(), package.find("[workspace.package]").unwrap());
        let alone = format!("{}\n{}", &package[..start], &package[stop..end]);
        // It has no parts.
        let features = alone.find("# The parts that a repository").unwrap();
        let alone = alone[..features].replace("required-features = [\"services\"]\n", "");
        place.write("xtask/Cargo.toml", alone);
        let version = "version = 4\n\n[[package]]\nname = \"xtask\"\nversion = \"0.1.0\"\n";
        place.write("xtask/Cargo.lock", version);
        place.write("xtask/src/main.rs", STAND_IN.replace("PROGRAM", program().as_str()));
        place.write("xtask/src/lib.rs", "");
        place.write("xtask/src/supervisor.rs", "fn main() {}\n");
    }
}

impl Lab {
    /// A repository of the toolkit's own, with its README.
    pub fn toolkit(&self, name: &str) -> Place<'_> {
        let place = self.place(name);
        write_toolkit(&place);
        let readme = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        place.write("README.md", fs::read_to_string(readme).unwrap());
        place.git(&["init", "--quiet"]);
        place.commit("the toolkit");
        place
    }
}
