//! Links the program at a fixed address on Linux, as Go does: at its start there are then no 62,000
//! relocations in 200 pages, which are a quarter of the time that an empty command takes, and hooks are started
//! at every commit and checkout. What reads a stranger's bytes here is Rust
//! without `unsafe`, so little hangs on the address being a random one.

#![expect(clippy::disallowed_methods, reason = "cargo talks to a build script by its environment")]

use std::env::var;

/// Where checkouts share a build folder, one of them must not run the script of another.
const _: Option<&str> = option_env!("XTASK_SOURCES_BUILD_SCRIPT");

fn main() {
    let is = |key: &str, value: &str| var(key).is_ok_and(|found| found == value);
    let is_static = var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|features| features.split(',').any(|feature| feature == "crt-static"));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static {
        println!("cargo::rustc-link-arg=-no-pie");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
