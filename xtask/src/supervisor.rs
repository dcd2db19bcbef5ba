//! `xtask-supervisor`: the small program that keeps running as long as services do; it is a separate binary so that it
//! needs little memory.

fn main() -> std::process::ExitCode {
    xtask::cmd::supervisor_main(&std::env::args_os().collect::<Vec<_>>())
}
