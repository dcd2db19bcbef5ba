//! Rust settings of a repository that affect the toolkit: the toolchain (`rust-toolchain.toml`, or the older
//! `rust-toolchain`) and the build target of cargo.
//!
//! For example, `[toolchain]\nchannel = "1.81"` has the channel `1.81`, which is too old for the toolkit.

use toml::de::DeTable;

/// The files that name the toolchain.
pub const TOOLCHAIN_FILES: [&str; 2] = ["rust-toolchain.toml", "rust-toolchain"];

/// The minimum supported Rust version (`rust-version`).
const MIN_RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// The release date of `MIN_RUST_VERSION`: older nightlies are too old as well.
const MIN_RUST_DATE: &str = "2025-10-30";

/// Returns the channel in a toolchain file, or `None` if the file has no channel or names only a folder (`path`).
#[must_use]
pub fn parse_channel(text: &str) -> Option<String> {
    if let Ok(table) = DeTable::parse(text) {
        let toolchain = table.get_ref().get("toolchain")?.get_ref().as_table()?;
        return toolchain.get("channel")?.get_ref().as_str().map(str::to_owned);
    }
    // The older format consists of the bare name.
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let only = lines.next().filter(|_| lines.next().is_none())?;
    Some(only.to_owned())
}

/// Returns whether `channel` is older than `MIN_RUST_VERSION`. `false` for names without a version or date, such as
/// `stable`.
#[must_use]
pub fn is_too_old(channel: &str) -> bool {
    if let Some(date) = ["nightly-", "beta-"].iter().find_map(|kind| channel.strip_prefix(kind)) {
        let is_date = date.get(..4).is_some_and(|year| year.bytes().all(|b| b.is_ascii_digit()));
        return is_date && date.get(..10).is_some_and(|day| day < MIN_RUST_DATE);
    }
    let numbers = |version: &str| -> Option<(u32, u32)> {
        let mut parts = version.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    match (numbers(channel), numbers(MIN_RUST_VERSION)) {
        (Some(channel), Some(oldest)) => channel < oldest,
        _ => false,
    }
}

/// Returns whether a cargo configuration sets `build.target`, so that builds may be for another machine.
#[must_use]
pub fn has_build_target(text: &str) -> bool {
    let Ok(table) = DeTable::parse(text) else { return false };
    let build = table.get_ref().get("build").and_then(|build| build.get_ref().as_table());
    build.is_some_and(|build| build.contains_key("target"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_is_read_in_both_forms() {
        let new = "[toolchain]\nchannel = \"1.81\"\ncomponents = ['clippy']\n";
        assert_eq!(parse_channel(new).as_deref(), Some("1.81"));
        assert_eq!(parse_channel("1.81.0\n").as_deref(), Some("1.81.0"));
        assert_eq!(parse_channel("nightly-2024-01-01").as_deref(), Some("nightly-2024-01-01"));
        assert_eq!(parse_channel("[toolchain]\npath = '/opt/rust'\n"), None);
        assert_eq!(parse_channel("[toolchain\nchannel = 1\n"), None);
    }

    #[test]
    fn a_target_is_seen() {
        assert!(has_build_target("[build]\ntarget = 'thumbv7em-none-eabi'\n"));
        assert!(has_build_target("build.target = ['a', 'b']\n"));
        assert!(!has_build_target("[target.x]\nlinker = 'a'\n[build]\njobs = 1\n"));
    }

    #[test]
    fn what_is_too_old_is_told_by_number_and_date() {
        let old =
            ["1.81", "1.81.0", "1.9", "1.90.1-x86_64-unknown-linux-gnu", "nightly-2025-01-31"];
        assert!(old.iter().all(|channel| is_too_old(channel)));
        let fine = ["1.91", "1.91.0", "1.100.0", "2.0", "stable", "nightly", "beta", "ours"];
        assert!(!fine.iter().any(|channel| is_too_old(channel)));
        assert!(
            !is_too_old("nightly-2025-10-30") && !is_too_old("nightly-x86_64-unknown-linux-gnu")
        );
    }
}
