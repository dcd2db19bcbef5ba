//! The launcher of the toolkit, which is the workspace in the parent folder: `cargo xtask` runs it from any folder
//! of the repository. So the toolkit has dependencies, a lock file and build settings of its own, and the workspace
//! of the repository gets one small package without dependencies.
//!
//! A program that was built from the same sources is in a store below cargo's folder, and is run directly, without
//! cargo; all checkouts with the same sources share it. If there is none, it is built and put into the store.
//!
//! `XTASK_LAUNCH` is the action: `run` (the default) or `bench`; the arguments go to the program, or to the
//! benchmarks. `XTASK_TOOLCHAIN` is the toolchain of rustup to build with: the alias sets it if that of the
//! repository is too old. `XTASK_STORE` is the folder of the store, or `off`. For example, `XTASK_STORE=off cargo
//! xtask status` builds the program here.

// A target without an operating system can run no program: this package is empty there, so that `cargo build` works.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(rustfmt, rustfmt_skip)]
// The lints of the repository are not meant for this package, and compilers of many years must accept it.
#![allow(clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]

#[cfg(unix)]
mod key;
#[cfg(unix)]
mod launch;

#[cfg(unix)]
fn main() {
    launch::main()
}

#[cfg(not(any(unix, target_os = "none")))]
fn main() {
    eprintln!("error: this system is not a Unix, and the toolkit runs on no other");
    std::process::exit(126)
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
