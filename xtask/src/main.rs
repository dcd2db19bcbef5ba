//! The program of `cargo xtask`: `xtask::cli` parses the arguments, `xtask::cmd` runs the command.

fn main() -> std::process::ExitCode {
    xtask::cmd::main(std::env::args_os().collect())
}
