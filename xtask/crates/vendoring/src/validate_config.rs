//! Rendering of `setup/validate.toml` from the detected checks *(pure)*, e.g. `name = "format-backend"` for a Rust
//! project in `backend/`.

use std::collections::BTreeSet;

use xtask_detect::default_checks;
use xtask_detect::repo_facts::RepoFacts;
use xtask_detect::subfolder_checks::rewrite_for_folder;

/// Renders `setup/validate.toml` from the detected checks.
pub(super) fn render_validate_config(facts: &RepoFacts) -> String {
    let mut text = String::from(
        "# What a healthy checkout of this repository is. `cargo xtask validate` runs it; `--fast` skips what\n\
         # has passed in this very state, `--skip-tests` leaves tests out, `--list` shows what was understood.\n\n",
    );
    let root = default_checks::render_checks(&|word| match word {
        "canonical" | "tests" => true,
        word => facts.meets_condition(word),
    });
    text.push_str(&default_checks::with_versions(&root, &facts.versions));
    let named = |text: &str| {
        let names = text.lines().filter_map(|line| line.strip_prefix("name = "));
        names.map(|name| name.trim_matches(['"', '\'']).to_owned()).collect()
    };
    let mut present: BTreeSet<String> = named(&text);
    for inner in &facts.subprojects {
        let checks = default_checks::render_conditional_checks(&|word| {
            word == "tests" || inner.meets_condition(word)
        });
        let mut versions = facts.versions.clone();
        versions.extend(inner.versions.clone());
        let checks = default_checks::with_versions(&checks, &versions);
        text.push_str(&rewrite_for_folder(&checks, &inner.folder, &mut present));
    }
    let folders: Vec<&str> = facts
        .rust_folders
        .iter()
        .map(String::as_str)
        .filter(|folder| is_plain_folder(folder))
        .collect();
    if !folders.is_empty() {
        text.push_str("\n[[check]]\nname = \"cargo\"\nphase = \"environment\"\ntool = \"cargo\"\nttl = \"1h\"\n");
    }
    for folder in folders {
        let name = folder.replace('/', "-");
        text.push_str(&format!(
            "\n[[check]]\nname = \"format-{name}\"\nphase = \"quality\"\nrun = \"cargo fmt --all --check\"\n\
             cwd = \"{folder}\"\ninputs = [\"{folder}/**/{{*.rs,Cargo.toml,rustfmt.toml,.rustfmt.toml}}\"]\n\
             tools = [\"rustfmt\"]\nttl = \"10m\"\n"
        ));
    }
    text
}

/// Reports whether a folder name is literal in a glob and valid in a check name.
fn is_plain_folder(folder: &str) -> bool {
    folder.len() <= 80 && folder.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
}
