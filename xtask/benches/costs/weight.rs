//! What the toolkit weighs: building it, calling it, editing it, and what a repository is given.
//!
//! All of it happens in clones of this repository as it is committed, with a build folder and a store of their own: the
//! first row compiles every dependency as well, from what cargo has downloaded.

use std::fs;
use std::path::Path;
use std::time::Duration;

use xshell::{Shell, cmd};

use crate::kit::{Bench, ROUNDS, median, timed};
use crate::running::memory_of;

/// How many checkouts build something of their own before the build folder is looked at.
const CHECKOUTS: usize = 20;

pub fn weight(bench: &Bench) {
    let origin = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let builds = bench.root.join("builds");
    let clone = |name: &str| -> Shell {
        let (dir, origin) = (bench.root.join(name), origin.clone());
        let shell = bench.shell(&bench.root);
        cmd!(shell, "git clone --quiet {origin} {dir}").quiet().run().unwrap();
        let shell = bench.shell(&dir);
        shell.set_var("XTASK_STORE", bench.root.join("store"));
        // The build folder is a setting of the toolkit, and part of its sources.
        let settings = dir.join("xtask/.cargo/config.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let own = text.replace("{cargo-cache-home}/xtask-build", builds.to_str().unwrap());
        assert_ne!(text, own);
        fs::write(settings, own).unwrap();
        cmd!(shell, "git commit --quiet --all -m own").quiet().run().unwrap();
        shell
    };
    let run = |shell: &Shell, args: &[&str]| -> (Duration, f64) {
        let before = processor();
        let wall = timed(|| {
            let command = cmd!(shell, "cargo {args...}").quiet();
            command.ignore_stdout().ignore_stderr().run().unwrap();
        });
        (wall, processor() - before)
    };
    let say = |what: &str, (wall, processor): (Duration, f64)| {
        println!("  {what:<58} {:6.2} s, {processor:6.2} s of processors", wall.as_secs_f64());
    };

    let one = clone("one");
    say("first call of all, with every dependency", run(&one, &["xtask", "--version"]));
    let two = clone("two");
    say("first call in a second checkout", run(&two, &["xtask", "--version"]));
    let three = clone("three");
    say("`setup` in a third", run(&three, &["xtask", "setup"]));

    let empty = bench.root.join("empty");
    fs::create_dir_all(empty.join("src")).unwrap();
    fs::write(empty.join("Cargo.toml"), "[package]\nname = \"empty\"\nversion = \"0.1.0\"\n")
        .unwrap();
    fs::write(empty.join("src/main.rs"), "fn main() {}\n").unwrap();
    let peer = bench.shell(&empty);
    run(&peer, &["run", "--quiet"]);
    let mut ratios = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..ROUNDS {
        let ours = run(&two, &["xtask", "--version"]).0.as_secs_f64();
        ratios.push(ours / run(&peer, &["run", "--quiet"]).0.as_secs_f64());
        calls.push(ours);
    }
    println!(
        "  a call, all built: {:.1} ms, {:.2} of an empty `cargo run` (pair by pair, median of {ROUNDS})",
        median(calls) * 1000.0,
        median(ratios)
    );

    for (what, file) in [
        ("one line changed in a command", "xtask/src/cmd/status.rs"),
        ("one line changed in `base`", "xtask/crates/base/src/words.rs"),
    ] {
        let file = bench.root.join("two").join(file);
        let mut times = Vec::new();
        for round in 0..4 {
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, format!("{text}// {round}\n")).unwrap();
            times.push(run(&two, &["xtask", "--version"]).0.as_secs_f64());
        }
        // The first one makes what the others find.
        let first = times.remove(0);
        println!("  {what:<58} {:6.2} s (the first of all {first:.2} s)", median(times));
    }

    for parts in ["all", "sync,hooks,checks"] {
        let shell = bench.repo(&format!("given-{}", parts.len()), 1, 1);
        cmd!(shell, "git checkout --quiet main").quiet().run().unwrap();
        let (dir, from) = (shell.current_dir(), bench.shell(&origin));
        let xtask = bench.xtask;
        cmd!(from, "{xtask} vendor {dir} --parts {parts}")
            .quiet()
            .ignore_stdout()
            .ignore_stderr()
            .run()
            .unwrap();
        let files = cmd!(shell, "git ls-files xtask").quiet().read().unwrap();
        let lines = files.lines().map(|name| fs::read(dir.join(name)).unwrap());
        let lines: usize =
            lines.map(|content| content.iter().filter(|byte| **byte == b'\n').count()).sum();
        println!("  given with --parts {parts:<38} {} files, {lines} lines", files.lines().count());
    }

    run(&three, &["xtask", "start"]);
    let page = cmd!(three, "cargo xtask ps --json").quiet().ignore_stderr().read().unwrap();
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let pid = page["supervisor"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap();
    let (resident, parts) = memory_of(pid);
    println!(
        "  the supervisor: {:.1} MB resident, {:.1} MB with what is shared counted in parts",
        megabytes(resident),
        megabytes(parts)
    );
    run(&three, &["xtask", "stop"]);

    for number in 0..CHECKOUTS {
        let shell = clone(&format!("checkout-{number}"));
        let file = shell.current_dir().join("xtask/src/cmd/status.rs");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}// {number}\n")).unwrap();
        run(&shell, &["xtask", "--version"]);
        cmd!(shell, "git worktree prune").quiet().run().unwrap();
    }
    let folders = walkdir::WalkDir::new(&builds).into_iter().flatten();
    let bytes: u64 = folders
        .filter_map(|entry| entry.metadata().ok())
        .filter(|meta| meta.is_file())
        .map(|meta| meta.len())
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "it is printed with one digit")]
    let size = bytes as f64 / 1e9;
    println!("  the build folder after {CHECKOUTS} checkouts with an edit each: {size:.2} GB");
}

#[expect(clippy::cast_precision_loss, reason = "it is printed with one digit")]
fn megabytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

/// Seconds of processors that children have used which were waited for, from `/proc/self/stat` (fields 16 and 17 of
/// proc(5), in hundredths).
#[expect(clippy::cast_precision_loss, reason = "it is printed with two digits")]
fn processor() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        text.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let of = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    (of(13) + of(14)) as f64 / 100.0
}
