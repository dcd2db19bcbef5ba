//! Runs the toolkit, which is the workspace in the folder above: `cargo xtask` from any folder of the repository
//! ends here. The toolkit thereby has dependencies, a lock file and build settings of its own, and the
//! workspace of the repository has one small program more.
//!
//! A program that was built from these very sources lies in a store in cargo's folder, and is run without another
//! word to cargo; whoever has the same sources runs the same one. Where there is none it is built, and kept there.
//!
//! `XTASK_LAUNCH` says what cargo is to do: `run` (where it is not set) or `bench`. The arguments
//! go to the program, or to the benchmarks. `XTASK_TOOLCHAIN` is the toolchain of rustup to build with: the alias sets it where the one of the repository is too old.
//! `XTASK_STORE` is another folder for the store, or `off`.

// A target without an operating system has no program to run: this one is empty there, and harms no build of all.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(rustfmt, rustfmt_skip)]
// A repository chooses lints for its own code, and this one is read by compilers of many years.
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
