//! What xtask costs, with git and its peers on the other side: `cargo xbench`.
//!
//! Each row times whole processes, ours and the others' in turn, and prints medians, and ratios or
//! differences pair by pair: on a machine that is doing other things, too, these can be compared.
//! Nothing fails by being slow. `cargo xbench -- NAME` runs the rows whose name holds NAME;
//! `cargo xbench -- fleet --fleet DIR` looks at and moves every branch of a clone of a bare repository;
//! without the word before it, that is added to all rows. `--plot DIR` draws what was measured, an SVG for each
//! section of `docs/benchmarks.md`; `--save FILE` and `--from FILE` keep results between runs (`results.rs`).
//!
//! The rows of `validate` compare it with the task runners that are found on PATH, those of `services`
//! with managers of processes, and both name those that are not. `cargo xbench -- wrong-hits` times nothing: it plays cases to them and to us, in which
//! to skip a check is to replay a pass that never was, and ends with a panic if we do that anywhere.
#![expect(clippy::disallowed_methods, reason = "a benchmark makes its scenes itself")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its answer")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]
#![expect(unreachable_pub, reason = "the rows read better with plain `pub`")]

mod dialects;
mod fleet;
mod hooks;
mod kit;
mod managers;
#[path = "../../tests/pictures/plot.rs"]
#[cfg_attr(test, expect(dead_code, reason = "its tests run in `tests/it`"))]
mod plot;
mod results;
mod runners;
mod running;
mod scene;
mod services;
mod staged;
mod stand_in;
#[path = "../../tests/pictures/svg.rs"]
#[cfg_attr(test, expect(unused_imports, reason = "its tests run in `tests/it`"))]
mod svg;
mod sync;
mod validate;
mod weight;
mod wrong_hits;

use kit::{Bench, Row};
use results::{Results, Wanted};

const ROWS: [(&str, Row); 21] = [
    ("start: nothing to do in a small repository", sync::small),
    ("check: 10,000 managed files, nothing changed", sync::check),
    ("write: 1,000 files and a commit", sync::write),
    ("unmanaged: growth with files that are not managed", sync::unmanaged),
    ("branches: status --all", fleet::branches),
    ("propagate: growth with branches, managed files and other files", fleet::growth),
    ("hooks: what they add to a checkout, 65 managed files", hooks::checkout_of_few),
    ("hooks: what they add to a checkout, 10,000 managed files", hooks::checkout_of_many),
    ("hooks: what they add to a commit and to a push", hooks::commit_and_push),
    ("staged: a commit of 20 of 5,000 files, eight rules for files", staged::commits),
    ("ruff: over 20 files, by `validate --files` and by itself", staged::ruff),
    ("fetched: fifty passes of another clone, and of this one", staged::fetched),
    ("watch: from a save to the result, 10,000 files", staged::watch),
    ("validate: one check, 1,000 input files, nothing changed", validate::cached),
    ("validate: growth with the number of inputs", validate::growth_with_inputs),
    ("validate: growth with the number of checks", validate::growth_with_checks),
    ("services: three of them, start to ready and stop to gone", services::three),
    ("services: what watches three of them, at rest", services::at_rest),
    ("services: a hundred of them", services::hundred),
    (
        "weight: building, calling and editing the toolkit, and what a repository is given",
        weight::weight,
    ),
    ("wrong-hits: passes that never were, replayed or not", wrong_hits::suite),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [word, rest @ ..] = &args[..]
        && word == stand_in::WORD
    {
        return stand_in::run(rest);
    }
    let wanted = Wanted::parse(args);
    let bench = Bench::new(Results::begin(&wanted));
    for (name, run) in ROWS {
        if wanted.is_row(name) {
            println!("\n{name}");
            run(&bench);
        }
    }
    if let Some(given) = &wanted.fleet {
        println!("\nfleet: propagate and status --all over every branch of what is given");
        fleet::fleet(&bench, given);
    }
    bench.results.finish(&wanted);
}
