//! Which of the two circles of tests runs: `cargo xtest` holds every guarantee, `cargo xtest-all` tries each
//! in every way. ARCHITECTURE.md has the table.

use xtask_base::files::DiskOperation;

/// What says that all is tried.
const VARIABLE: &str = "XTASK_TESTS";

/// Whether this is the exhaustive circle.
pub fn is_exhaustive() -> bool {
    std::env::vars_os().any(|(name, value)| name == VARIABLE && value == "all")
}

/// `few` in the usual circle, `many` in the exhaustive one.
pub fn either<T>(few: T, many: T) -> T {
    if is_exhaustive() { many } else { few }
}

/// The steps of a run at which faults are tried. In the exhaustive circle it is every one, and one more, which
/// is never reached. Else it is a sample: the first step, the last, the one after it, and between them
/// wherever one kind of step follows another for the first time.
pub fn steps(all: &[DiskOperation]) -> Vec<usize> {
    if is_exhaustive() {
        return (0..=all.len()).collect();
    }
    let mut seen = std::collections::BTreeSet::new();
    let is_new = |at: &usize| {
        let before = at.checked_sub(1).map(|before| format!("{:?}", all[before]));
        let is_edge = *at + 1 == all.len();
        seen.insert((before, format!("{:?}", all[*at]))) || is_edge
    };
    let mut chosen: Vec<usize> = (0..all.len()).filter(is_new).collect();
    chosen.push(all.len());
    chosen
}

/// How many of very many steps are tried.
const FEW: usize = 6;

/// The same for runs whose every step is tried elsewhere, in other surroundings: a few, evenly spread.
pub fn few_steps(all: &[DiskOperation]) -> Vec<usize> {
    if is_exhaustive() {
        return (0..=all.len()).collect();
    }
    let last = all.len().saturating_sub(1);
    (0..=FEW).map(|part| last * part / FEW).collect()
}

/// Says that something was not tried because this machine is not of that kind, whatever is installed.
pub fn not_here(why: &str) {
    eprintln!("not tried: {why}");
}

/// Says that something was not tried for want of a tool. Where the tools are said to be there
/// (`XTASK_TESTS_TOOLS=all`, as in the nightly job), that is a failure.
pub fn not_tried(why: &str) {
    let must = std::env::vars().any(|(name, value)| name == "XTASK_TESTS_TOOLS" && value == "all");
    assert!(!must, "{why}");
    eprintln!("not tried: {why}");
}
