//! `cargo xtask`: see `cli` for what it understands and `cmd` for what it does.

fn main() -> std::process::ExitCode {
    xtask::cmd::main(std::env::args_os().collect())
}
