//! The rules of `ARCHITECTURE.md`, held by reading the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The sources without their tests: those of the program by their path below `src`, those of a crate by its name and
/// their path below its `src`.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    for folder in ["src", "crates"] {
        for entry in walkdir::WalkDir::new(root.join(folder)) {
            let entry = entry.unwrap();
            if entry.path().extension().is_some_and(|extension| extension == "rs") {
                let name = entry.path().strip_prefix(root.join(folder)).unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
                found.insert(name.to_str().unwrap().replace("/src/", "/"), text);
            }
        }
    }
    assert!(found.len() > 40, "the sources were found");
    found
}

/// The code of a source, without comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn commands_do_not_call_each_other() {
    for (name, text) in sources() {
        let Some(command) = name.strip_prefix("cmd/").filter(|name| *name != "mod.rs") else {
            continue;
        };
        for other in [
            "backup",
            "branch_check",
            "branch_new",
            "branch_prune",
            "demo",
            "deploy",
            "diff",
            "extract",
            "history",
            "hook",
            "hooks",
            "install_hooks",
            "promote",
            "logs",
            "pin",
            "propagate",
            "ps",
            "push",
            "recover",
            "restart",
            "restore",
            "reverse_sync",
            "rollback",
            "run",
            "serve",
            "setup",
            "start",
            "status",
            "stop",
            "switch",
            "sync",
            "undo",
            "uninstall_hooks",
            "unpin",
            "upgrade",
            "validate",
            "vendor",
            "why",
        ] {
            let code = code(&text);
            let calls = [format!("super::{other}::"), format!("cmd::{other}::")];
            assert!(!calls.iter().any(|call| code.contains(call)), "{command} calls `{other}`");
        }
    }
}

#[test]
fn only_one_crate_runs_git_and_one_file_spawns_programs() {
    for (name, text) in sources() {
        let code = code(&text);
        // The demo plays a person who types git into a shell. Nobody else asks a shell.
        let types_git = name.starts_with("demo/");
        // A value of `through`; the configuration starts nothing at all.
        let is_value = name == "config/check_share.rs" && !code.contains("process");
        if !name.starts_with("git/") && !is_value {
            assert!(types_git || !code.contains("\"git\""), "{name} starts git");
        }
        let asks_a_shell = code.contains("\"/bin/sh\"");
        assert!(!asks_a_shell || types_git || name == "base/process.rs", "{name} asks a shell");
        let starts = code.contains("Command::new") || code.contains("process::Command");
        assert!(!starts || name == "base/process.rs", "{name} starts programs");
    }
}

/// Who takes an item out of a copy takes what follows the attribute: a comment before it would be left over.
#[test]
fn the_part_of_an_item_comes_before_its_comment() {
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let is_wrong =
            |two: &&[&str]| two[0].starts_with("///") && two[1].starts_with("#[cfg(feature = ");
        let wrong: Vec<&[&str]> = lines.windows(2).filter(is_wrong).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

/// The modules that decide and do nothing else.
const PURE: [&str; 60] = [
    "dashboard/chart.rs",
    "dashboard/groups.rs",
    "dashboard/html.rs",
    "dashboard/page.rs",
    "base/conflict_markers.rs",
    "base/date.rs",
    "branches/names.rs",
    "branches/rules.rs",
    "config/cycles.rs",
    "config/globs.rs",
    "config/pin.rs",
    "config/placeholders.rs",
    "config/toolchain.rs",
    "deploy/pipeline.rs",
    "file-checks/names.rs",
    "file-checks/rules.rs",
    "file-checks/syntax.rs",
    "file-checks/text.rs",
    "share/action_result.rs",
    "validate/shard.rs",
    "validate/affected.rs",
    "validate/file_scope.rs",
    "validate/hook_selection.rs",
    "hooks/shim.rs",
    "changes/commit_messages.rs",
    "review/forge.rs",
    "review/pull_request.rs",
    "services/env_parser.rs",
    "services/events.rs",
    "services/state_machine.rs",
    "services/status.rs",
    "services/spec.rs",
    "services/service_state.rs",
    "sync/transaction.rs",
    "sync/classify.rs",
    "sync/managed.rs",
    "sync/pins.rs",
    "sync/commit_message.rs",
    "sync/plan.rs",
    "detect/default_checks.rs",
    "validate/cache_key.rs",
    "validate/outcome.rs",
    "validate/plan.rs",
    "validate/cacheability.rs",
    "validate/report/findings.rs",
    "validate/report/github.rs",
    "validate/report/junit.rs",
    "validate/report/sanitize.rs",
    "validate/report/sarif.rs",
    "validate/report/merge.rs",
    "upgrade/cargo_entries.rs",
    "detect/repo_facts.rs",
    "upgrade/toml_edits.rs",
    "upgrade/manifest.rs",
    "detect/node.rs",
    "detect/python.rs",
    "vendoring/recipes.rs",
    "detect/services.rs",
    "vendoring/templates.rs",
    "detect/tree.rs",
];

#[test]
fn pure_modules_do_no_io() {
    let sources = sources();
    for name in PURE {
        let code = code(&sources[name]);
        for word in
            ["std::fs", "std::env", "std::process", "SystemTime", "Instant", "Repo,", "Repo}"]
        {
            assert!(!code.contains(word), "{name} names `{word}`");
        }
    }
}

#[test]
fn only_the_report_crate_prints() {
    for (name, text) in sources() {
        for word in ["println!", "print!", "eprint!", "io::stdout", "io::stderr"] {
            let prints = code(&text).contains(word);
            assert!(!prints || name.starts_with("report/"), "{name} has `{word}`");
        }
    }
}

/// What is printed obeys nobody: codes for the terminal in a text are shown, not sent.
#[test]
fn only_the_report_crate_moves_the_cursor() {
    for (name, text) in sources() {
        let moves = code(&text).contains("\\x1b[H");
        assert!(!moves || name.starts_with("report/"), "{name} moves the cursor");
    }
}

#[test]
fn every_module_has_a_header_comment() {
    for (name, text) in sources() {
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(!header.is_empty(), "{name} has no header");
    }
}

#[test]
fn source_files_are_short_and_free_of_banned_patterns() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        let most = if name == "main.rs" { 100 } else { 700 };
        assert!(lines <= most, "{name} has {lines} lines");
        for word in ["utils", "helpers", "misc", "common"] {
            assert!(!name.contains(word), "{name} has no job");
        }
        let code = code(&text);
        assert!(!code.contains("#[allow("), "{name}: use #[expect(…, reason = …)]");
        for word in ["todo!", "unimplemented!", ".unwrap()", "dbg!"] {
            assert!(!code.contains(word), "{name} has `{word}`");
        }
    }
}

#[test]
fn sources_and_dependencies_are_free_of_unsafe_and_async() {
    for (name, text) in sources() {
        let code = code(&text);
        assert!(!code.contains("unsafe ") && !code.contains("async fn"), "{name}");
    }
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"));
    let lock = lock.unwrap();
    for runtime in ["tokio", "async-std", "smol"] {
        assert!(!lock.contains(&format!("name = \"{runtime}\"")), "{runtime} is in the lock file");
    }
    // Those for Windows, and the watch of files on macOS, are compiled on no other system.
    let elsewhere = ["winapi-util", "windows-link", "windows-sys", "notify", "fsevent-sys"];
    let names = lock.split("[[package]]").filter(|package| package.contains("\nsource = "));
    let is_here = |package: &&str| {
        !elsewhere.iter().any(|name| package.contains(&format!("name = \"{name}\"\n")))
    };
    let crates = names.filter(is_here).count();
    assert!(crates <= 200, "{crates} crates: every one is compiled on the user's machine");
}

#[test]
fn architecture_document_names_every_source_file() {
    let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let map = fs::read_to_string(map).unwrap();
    for name in
        sources().keys().filter(|name| !name.ends_with("mod.rs") && !name.ends_with("lib.rs"))
    {
        let room = name.rsplit('/').next().unwrap();
        assert!(map.contains(&format!("`{room}`")), "ARCHITECTURE.md does not name `{name}`");
    }
}
