//! The alias of `cargo xtask` in the cargo configuration of a repository, e.g. `xtask = "run --quiet --package xtask
//! --example xtask --"`.

use toml::Spanned;
use toml::de::DeValue;

use super::cargo_entries::{CargoEdit, find_value, manual_edit, value_str, verify_edit};
use super::toml_edits::{TomlDocument, quote_toml};

/// The target folder of the launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LauncherTargetDir {
    /// That of the repository's own workspace.
    Workspace,
    /// A folder below the toolkit. Only for a repository without any Rust, because the setting would apply to its
    /// packages, too.
    Toolkit,
}

/// Returns the command of the alias without options that only some repositories need.
fn base_alias_command(name: &str) -> String {
    format!("run --quiet --package {name} --example {name}")
}

/// Returns the text of a cargo configuration with an outdated alias updated, or `None` if there is no outdated
/// alias of ours.
#[must_use]
pub fn update_alias(text: &str, name: &str) -> Option<String> {
    // The alias of versions in which the launcher was not an example yet.
    let before = format!("run --quiet --package {name} --");
    let alias = base_alias_command(name);
    let old = [format!("\"{before}"), format!("'{before}")];
    let is_old = old.iter().any(|old| text.contains(old.as_str())) && !text.contains(&alias);
    is_old.then(|| text.replace(&before, &format!("{alias} --")))
}

/// Options for a repository with `build.target`: the launcher and the toolkit must be built for the host. The
/// launcher passes the variable on.
const HOST_TARGET_ARGS: &str = " --target host-tuple --config env.XTASK_TARGET='host-tuple'";

/// Options for a repository with a Rust toolchain that is too old for the toolkit.
const STABLE_TOOLCHAIN_ARGS: &str = " --config env.XTASK_TOOLCHAIN='stable'";

/// Returns the setting of the launcher's target folder for a repository without Rust. It differs from the target
/// folder of the toolkit, which has a program of the same name.
pub(super) fn target_dir_setting(name: &str) -> String {
    format!("target-dir = \"{name}/target/launcher\"")
}

/// Returns the comment at the start of a new cargo configuration.
pub(super) fn config_header(name: &str) -> String {
    format!(
        "# `cargo {name}` from every folder and every worktree: the launcher builds and runs what is in `{name}/`.\n\
         #\n\
         # It is a string, because cargo joins the lists of a checkout that lies inside another one.\n"
    )
}

/// Adds the alias to the cargo configuration at the root; `text` is `None` if there is no such file.
///
/// If the file of the old name (`.cargo/config`) exists, cargo reads that one, so `text` must be its text.
#[must_use]
pub fn add_alias(
    text: Option<&str>,
    builds: LauncherTargetDir,
    is_toolchain_old: bool,
    name: &str,
) -> CargoEdit {
    let target_folder = target_dir_setting(name);
    let Some(text) = text else {
        return CargoEdit::Changed(new_config(builds, is_toolchain_old, name));
    };
    let file = match TomlDocument::parse(text) {
        Ok(file) => file,
        Err(why) => {
            let words = alias_command(name, false, is_toolchain_old);
            return manual_edit(why, format!("[alias]\n{name} = {}\n", quote_toml(&words)));
        }
    };
    let root = file.table.get_ref();
    let is_for_host = find_value(root, "build", "target").is_some();
    let wanted = alias_command(name, is_for_host, is_toolchain_old);
    let entry = format!("{name} = {}", quote_toml(&wanted));
    let lines = format!("[alias]\n{entry}\n");
    let mut inserts = Vec::new();
    match find_value(root, "alias", name) {
        None => match file.insert_in_table("alias", &[&entry]) {
            Some(more) => inserts.extend(more),
            None => return manual_edit("`alias` is not a table".to_owned(), lines),
        },
        Some(value) => {
            let present = join_alias_words(value);
            match find_alias_fault(&present, name, is_for_host, is_toolchain_old) {
                None => {}
                Some(AliasFault::NotOurs(what)) => return CargoEdit::NameTaken(what),
                Some(AliasFault::LacksOption(why)) => return manual_edit(why.to_owned(), lines),
            }
        }
    }
    if builds == LauncherTargetDir::Toolkit && find_value(root, "build", "target-dir").is_none() {
        match file.insert_in_table("build", &[&target_folder]) {
            Some(more) => inserts.extend(more),
            None => {
                return manual_edit(
                    "`build` is not a table".to_owned(),
                    format!("{lines}[build]\n{target_folder}\n"),
                );
            }
        }
    }
    if inserts.is_empty() {
        return CargoEdit::UpToDate;
    }
    verify_edit(file.with_inserts(inserts), lines, |text| {
        add_alias(Some(text), builds, is_toolchain_old, name)
    })
}

/// Why a present alias does not do.
enum AliasFault {
    NotOurs(String),
    LacksOption(&'static str),
}

fn find_alias_fault(
    present: &str,
    name: &str,
    is_for_host: bool,
    is_toolchain_old: bool,
) -> Option<AliasFault> {
    if !present.starts_with(&base_alias_command(name)) {
        let what = format!("`cargo {name}` is already an alias for `{present}`");
        return Some(AliasFault::NotOurs(what));
    }
    if is_for_host && !present.contains(HOST_TARGET_ARGS) {
        let why = "`build.target` is set, and the launcher has to run on this machine";
        return Some(AliasFault::LacksOption(why));
    }
    let why = "the Rust of this repository is too old for the toolkit";
    let lacks_toolchain = is_toolchain_old && !present.contains(STABLE_TOOLCHAIN_ARGS);
    lacks_toolchain.then_some(AliasFault::LacksOption(why))
}

/// Returns the text of a new cargo configuration.
fn new_config(builds: LauncherTargetDir, is_toolchain_old: bool, name: &str) -> String {
    let folder = match builds {
        LauncherTargetDir::Workspace => String::new(),
        LauncherTargetDir::Toolkit => format!(
            "\n# There is no Rust here but the toolkit, so the root gets no `target`.\n\
             [build]\n{}\n",
            target_dir_setting(name)
        ),
    };
    format!(
        "{}[alias]\n{name} = {}\n{folder}",
        config_header(name),
        quote_toml(&alias_command(name, false, is_toolchain_old))
    )
}

/// Returns the command of the alias for a repository.
pub(super) fn alias_command(name: &str, is_for_host: bool, is_toolchain_old: bool) -> String {
    let for_host = if is_for_host { HOST_TARGET_ARGS } else { "" };
    let with_stable = if is_toolchain_old { STABLE_TOOLCHAIN_ARGS } else { "" };
    format!("{}{for_host}{with_stable} --", base_alias_command(name))
}

/// Returns the words of an alias (a string or a list), joined by single spaces.
fn join_alias_words(value: &Spanned<DeValue<'_>>) -> String {
    let words: Vec<&str> = match value.get_ref() {
        DeValue::Array(list) => list.iter().filter_map(value_str).collect(),
        other => other.as_str().unwrap_or_default().split_whitespace().collect(),
    };
    words.join(" ")
}
