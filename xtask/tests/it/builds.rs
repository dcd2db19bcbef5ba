//! Checkouts share what is built, and run the program of their own sources.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use xtask_hooks::program_store;

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
        "xtask/launcher/key.rs",
        "xtask/launcher/launch.rs",
        "xtask/launcher/main.rs",
    ] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        let text = text.replace(", \"xtask/tests/runner\"", "");
        place.write(name, text.replace("{cargo-cache-home}/xtask-build", shared.as_str()));
    }
    place.write("xtask/Cargo.toml", "[workspace]\n[package]\nname = 'xtask'\nversion = '0.1.0'\n");
    place
        .write("xtask/Cargo.lock", "version = 4\n[[package]]\nname = 'xtask'\nversion = '0.1.0'\n");
    place.write("xtask/src/main.rs", program(word));
    place
}

/// Says a word, and whether cargo has built it just now; it keeps itself as the toolkit does.
fn program(word: &str) -> String {
    format!(
        r#"const _: Option<&str> = option_env!("XTASK_SOURCES");
fn main() {{
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|word| word == "keep-program") {{
        let entry = std::path::Path::new(&args[2]).join(&args[3]);
        let Ok(()) = std::fs::create_dir_all(&entry) else {{ std::process::exit(3) }};
        let size = std::fs::copy(std::env::current_exe().unwrap(), entry.join("xtask")).unwrap();
        std::fs::write(entry.join("size"), format!("{{size}} -\n")).unwrap();
        return;
    }}
    let program = std::env::current_exe().unwrap();
    let is_kept = program.display().to_string().contains("store");
    println!("{word}{{}}", if is_kept {{ " kept" }} else {{ "" }});
}}
"#
    )
}

/// The environment of a checkout with a store of its own.
fn around(lab: &Lab) -> Vec<(&'static str, String)> {
    let mut around = homes().to_vec();
    around.push(("XTASK_STORE", lab.path("store").to_string()));
    around
}

fn said(place: &Place<'_>, around: &[(&str, String)], more: &[(&str, &str)]) -> String {
    let mut all: Vec<(&str, &str)> =
        around.iter().map(|(name, value)| (*name, &value[..])).collect();
    all.extend(more);
    place.run("cargo", &["xtask"], &all).success().out
}

/// So old that their times tell of every change.
fn settle(place: &Place<'_>) {
    let old = SystemTime::now() - Duration::from_secs(60);
    for name in ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "src/main.rs"] {
        let path = place.dir.join("xtask").join(name);
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
}

#[test]
fn checkouts_with_equal_sources_share_one_stored_build() {
    let lab = Lab::new();
    let (one, two) = (checkout(&lab, "one", "word"), checkout(&lab, "two", "word"));
    let around = around(&lab);
    assert_eq!(said(&one, &around, &[]), "word\n");
    // Another checkout needs no compiler for it, and nor does the next call; nor does any wait for a build.
    let broken = [("RUSTFLAGS", "")];
    assert_eq!(said(&two, &around, &[]), "word kept\n");
    assert_eq!(said(&two, &around, &[]), "word kept\n");
    assert!(!two.has("xtask/target/debug"));
    // What changes what is built is part of the key.
    assert_eq!(said(&two, &around, &broken), "word\n");
    // Without a store, or where none can be made, it is built as ever.
    let off = [("XTASK_STORE", "off")];
    assert_eq!(said(&one, &around, &off), "word\n");
    lab.place("").write("a-file", "");
    let none = lab.path("a-file/store");
    assert_eq!(said(&one, &around, &[("XTASK_STORE", none.as_str())]), "word\n");
    // Sources that have changed are other ones, and these come back to what was there.
    two.write("xtask/src/main.rs", program("other"));
    settle(&two);
    assert_eq!(said(&two, &around, &[]), "other\n");
    assert_eq!(said(&two, &around, &[]), "other kept\n");
    two.write("xtask/src/main.rs", program("word"));
    assert_eq!(said(&two, &around, &[]), "word kept\n");
}

#[test]
fn store_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let one = checkout(&lab, "one", "word");
    let around = around(&lab);
    said(&one, &around, &[]);
    let entry = fs::read_dir(lab.path("store")).unwrap().next().unwrap().unwrap().path();
    let evil = "#!/bin/sh\necho evil\n";
    fs::remove_file(entry.join("xtask")).unwrap();
    crate::testkit::write_script(
        &lab.path("store").join(entry.file_name().unwrap().to_str().unwrap()).join("xtask"),
        evil,
    );
    fs::write(entry.join("size"), format!("{} -\n", evil.len())).unwrap();
    fs::set_permissions(lab.path("store"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(said(&one, &around, &[]), "word\n");
    fs::set_permissions(lab.path("store"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(said(&one, &around, &[]), "word kept\n");
}

#[test]
fn concurrent_first_builds_store_one_program() {
    let lab = Lab::new();
    let around = around(&lab);
    let count = crate::testkit::circle::either(3, 10);
    let places: Vec<Place<'_>> =
        (0..count).map(|number| checkout(&lab, &format!("c{number}"), "word")).collect();
    std::thread::scope(|scope| {
        let calls: Vec<_> =
            places.iter().map(|place| scope.spawn(|| said(place, &around, &[]))).collect();
        for call in calls {
            assert!(call.join().unwrap().starts_with("word"));
        }
    });
    assert_eq!(fs::read_dir(lab.path("store")).unwrap().count(), 1);
    for place in &places {
        assert_eq!(said(place, &around, &[]), "word kept\n");
    }
}

#[test]
fn damaged_store_entry_is_rebuilt() {
    let lab = Lab::new();
    let one = checkout(&lab, "one", "word");
    let around = around(&lab);
    said(&one, &around, &[]);
    let entry = fs::read_dir(lab.path("store")).unwrap().next().unwrap().unwrap().path();
    let size = || fs::metadata(entry.join("xtask")).unwrap().len();
    let blank = |start: &[u8]| {
        let mut content = start.to_vec();
        content.resize(usize::try_from(size()).unwrap(), 0);
        fs::write(entry.join("xtask"), content).unwrap();
    };
    for damage in [
        "cut",
        "empty",
        "no size",
        "no program",
        "nothing of it",
        "all but its start",
        "not to be run",
    ] {
        match damage {
            "nothing of it" => blank(b""),
            "all but its start" => blank(b"\x7fELF"),
            "cut" => fs::write(entry.join("xtask"), "#!/bin/sh").unwrap(),
            "empty" => fs::write(entry.join("xtask"), "").unwrap(),
            "no size" => fs::write(entry.join("size"), "").unwrap(),
            "no program" => fs::remove_file(entry.join("xtask")).unwrap(),
            _ => {
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(entry.join("xtask"), fs::Permissions::from_mode(0o644))
                    .unwrap();
            }
        }
        assert_eq!(said(&one, &around, &[]), "word\n", "{damage}");
        assert_eq!(said(&one, &around, &[]), "word kept\n", "{damage}");
    }
}

#[test]
fn killed_build_leaves_no_usable_store_entry() {
    use std::process::Stdio;
    let lab = Lab::new();
    let one = checkout(&lab, "one", "word");
    let around = around(&lab);
    let (begun, go) = (lab.path("begun"), lab.path("go"));
    let script = format!(
        "fn main() {{\n    std::fs::write({begun:?}, \"\").unwrap();\n    \
         while !std::path::Path::new({go:?}).exists() {{\n        \
         std::thread::sleep(std::time::Duration::from_millis(5));\n    }}\n    \
         println!(\"cargo::rerun-if-changed=build.rs\");\n}}\n",
        begun = begun.as_str(),
        go = go.as_str()
    );
    one.write("xtask/build.rs", script);
    settle(&one);
    // A group of its own, so that all of it can be killed: the launcher, cargo, and the build script.
    let mut build = std::process::Command::new("setsid")
        .args(["cargo", "xtask"])
        .current_dir(&one.dir)
        .envs(around.iter().map(|(name, value)| (*name, value)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !begun.exists() {
        assert!(build.try_wait().unwrap().is_none(), "it ended before the build script ran");
        std::thread::sleep(Duration::from_millis(5));
    }
    let group = rustix::process::Pid::from_child(&build);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    build.wait().unwrap();
    assert!(!lab.path("store").exists());
    fs::write(&go, "").unwrap();
    assert_eq!(said(&one, &around, &[]), "word\n");
    assert_eq!(said(&one, &around, &[]), "word kept\n");
}

#[test]
fn each_compiler_has_its_own_store_entry() {
    let lab = Lab::new();
    let one = checkout(&lab, "one", "word");
    let around = around(&lab);
    let compiler = |comment: &str| {
        let rustc = lab.path("other-rustc");
        crate::testkit::write_script(
            &rustc,
            format!("#!/bin/sh\n# {comment}\nexec rustc \"$@\"\n"),
        );
        rustc.to_string()
    };
    assert_eq!(said(&one, &around, &[]), "word\n");
    let other = compiler("one");
    assert_eq!(said(&one, &around, &[("RUSTC", &other)]), "word\n");
    assert_eq!(said(&one, &around, &[("RUSTC", &other)]), "word kept\n");
    // The same path with another compiler in it, as after `rustup update`.
    compiler("another one");
    assert_eq!(said(&one, &around, &[("RUSTC", &other)]), "word\n");
    // Back to the first: its program is still there.
    assert_eq!(said(&one, &around, &[]), "word kept\n");
    assert_eq!(fs::read_dir(lab.path("store")).unwrap().count(), 3);
}

#[test]
fn build_whose_sources_were_written_meanwhile_is_not_stored() {
    let lab = Lab::new();
    let one = checkout(&lab, "one", "word");
    let around = around(&lab);
    let script = "fn main() {\n    let text = std::fs::read(\"src/main.rs\").unwrap();\n    \
                  std::fs::write(\"src/main.rs\", text).unwrap();\n    \
                  println!(\"cargo::rerun-if-changed=build.rs\");\n}\n";
    one.write("xtask/build.rs", script);
    assert_eq!(said(&one, &around, &[]), "word\n");
    assert!(!lab.path("store").exists(), "nobody can say of what it was built");
    // The script is built, and does not run again.
    assert_eq!(said(&one, &around, &[]), "word\n");
    assert_eq!(said(&one, &around, &[]), "word kept\n");
}

#[test]
fn outdated_cargo_is_reported_with_the_required_version() {
    let lab = Lab::new();
    let one = checkout(&lab, "one", "word");
    said(&one, &around(&lab), &[]);
    let package = one.read("xtask/Cargo.toml");
    one.write("xtask/Cargo.toml", format!("{package}rust-version = \"1.91\"\n"));
    let old = lab.path("cargo");
    crate::testkit::write_script(&old, "#!/bin/sh\necho 'cargo 1.70.0 (ec8a8a0ca 2023-04-25)'\n");
    let launcher = one.dir.join("target/debug/xtask");
    let folder = one.dir.join("xtask/launcher");
    let variables =
        [("CARGO", old.as_str()), ("CARGO_MANIFEST_DIR", folder.as_str()), ("XTASK_STORE", "off")];
    one.run(launcher.as_str(), &["status"], &variables)
        .status(126)
        .says("cargo 1.70.0 is too old for xtask, which needs 1.91");
}

#[test]
fn build_target_of_user_cargo_config_is_honoured() {
    let lab = Lab::new();
    let one = checkout(&lab, "one", "word");
    let mut around = around(&lab);
    let told = one.run("rustc", &["-vV"], &[("RUSTUP_HOME", &around[1].1)]).success().out;
    let host = told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
    lab.place("home").write("config.toml", format!("[build]\ntarget = \"{host}\"\n"));
    around[0].1 = lab.path("home").to_string();
    assert_eq!(said(&one, &around, &[]), "word\n");
    one.write("xtask/src/main.rs", program("other"));
    assert_eq!(said(&one, &around, &[]), "other\n");
    settle(&one);
    assert_eq!(said(&one, &around, &[]), "other kept\n");
}

#[path = "../../launcher/key.rs"]
#[expect(
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    reason = "it is written for compilers of many years"
)]
mod key;

#[test]
fn launcher_and_program_compute_equal_source_digests() {
    let lab = Lab::new();
    let repo = lab.repo();
    for (name, text) in [
        ("xtask/Cargo.toml", "[package]\n"),
        ("xtask/Cargo.lock", "version = 4\n"),
        ("xtask/.cargo/config.toml", "[build]\n"),
        ("xtask/src/main.rs", "fn main() {}\n"),
        ("xtask/src/a/b.rs", ""),
        ("xtask/src/a.rs", "// a file sorts before the folder of its name\n"),
        ("xtask/src/ä.txt", "any name\n"),
        ("xtask/crates/one/Cargo.toml", "[package]\n"),
        ("xtask/crates/one/src/lib.rs", ""),
        ("xtask/crates/two-halves/src/lib.rs", "fn half() {}\n"),
        ("xtask/crates/a-file", "is no crate\n"),
        ("xtask/README.md", "what is not compiled does not count\n"),
        ("xtask/benches/b.rs", "nor this\n"),
    ] {
        repo.write(name, text);
    }
    repo.write_executable("xtask/src/run.sh", "#!/bin/sh\n");
    repo.commit("sources");
    let of_tree = || {
        let repo = xtask_git::Repo::discover(repo.dir.as_std_path()).unwrap();
        let head = repo.head().unwrap();
        let sources =
            program_store::digest_sources(&repo, repo.tree_of(head.commit).unwrap()).unwrap()?;
        let mut variables = sources.crate_variables;
        variables.sort();
        Some((sources.workspace, variables))
    };
    let record = lab.path("record");
    let toolkit = repo.dir.join("xtask");
    let of_files = || {
        let key = key::of(toolkit.as_std_path(), record.as_std_path())?;
        Some((key.sources, key::of_crates(toolkit.as_std_path()).unwrap()))
    };
    let first = of_tree();
    assert!(first.is_some() && first == of_files());
    let (_, variables) = first.as_ref().unwrap();
    let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["XTASK_SOURCES_ONE", "XTASK_SOURCES_TWO_HALVES"]);
    for (name, text) in
        [("xtask/src/a.rs", "other\n"), ("xtask/src/new.rs", "new\n"), ("xtask/build.rs", "")]
    {
        repo.write(name, text);
        assert_ne!(of_files(), first, "{name}");
        repo.commit(name);
        assert_eq!(of_files(), of_tree(), "{name}");
    }
    let before = of_files();
    repo.write("xtask/crates/one/src/lib.rs", "fn other() {}\n");
    let (now, earlier) = (of_files().unwrap(), before.as_ref().unwrap());
    assert!(now.0 != earlier.0 && now.1[1] != earlier.1[1] && now.1[2] == earlier.1[2]);
    repo.write("xtask/crates/one/src/lib.rs", "");
    assert_eq!(of_files(), before);
    repo.write("xtask/benches/b.rs", "other\n");
    assert_eq!(of_files(), before);
    // FIPS 180-4, and over the ends of blocks.
    for text in ["", "abc", &"a".repeat(55), &"a".repeat(56), &"a".repeat(64), &"a".repeat(1000)] {
        let mut hash = key::sha256::Sha256::new();
        text.as_bytes().chunks(7).for_each(|part| hash.put(part));
        assert_eq!(
            hash.hex(64),
            xtask_base::digest::to_hex(&xtask_base::digest::hash_bytes(text.as_bytes()))
        );
    }
}

#[test]
fn checkouts_with_shared_target_folder_run_their_own_program() {
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
fn program_built_in_another_checkout_refuses_to_run() {
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
