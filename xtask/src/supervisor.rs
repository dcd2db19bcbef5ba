//! `xtask-supervisor`: the part of the toolkit that stays while services run, without the rest of it.

fn main() -> std::process::ExitCode {
    xtask::cmd::supervisor_main(&std::env::args_os().collect::<Vec<_>>())
}
