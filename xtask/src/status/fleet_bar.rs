//! The bar of `status --all`: how many branches are in which state, at a glance.
//!
//! ```text
//! ████████████████████████████████████████████████▒▒▒▒▒▒▒░░░  649 branches: 540 in sync, 80 behind, 29 customised
//! ```

use super::report::ClassCounts;
use xtask_base::words::pluralize;
use xtask_report::{DIM, GREEN, RED, Style, YELLOW};

/// The width of the bar, in characters: with the words behind it, a line of a usual terminal.
const WIDTH: usize = 40;

/// The number of states.
const STATES: usize = 5;

/// The state of a branch as the bar shows it: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FleetState {
    /// Some path is behind.
    Behind,
    /// Some path cannot be decided.
    Unknown,
    /// The branch has versions of its own.
    Customised,
    /// The branch has pinned what it has of its own.
    Pinned,
    InSync,
}

impl FleetState {
    /// All states, in the order of the bar.
    const ALL: [FleetState; STATES] = [
        FleetState::InSync,
        FleetState::Behind,
        FleetState::Customised,
        FleetState::Pinned,
        FleetState::Unknown,
    ];

    fn of_counts(counts: &ClassCounts) -> FleetState {
        match counts {
            ClassCounts { behind: 1.., .. } => FleetState::Behind,
            ClassCounts { unknown: 1.., .. } => FleetState::Unknown,
            ClassCounts { customised: 1.., .. } => FleetState::Customised,
            ClassCounts { pinned: 1.., .. } => FleetState::Pinned,
            _ => FleetState::InSync,
        }
    }

    /// The letter, which tells it from others without colours, the colour and the words.
    fn look(self) -> (char, Style, &'static str) {
        match self {
            FleetState::InSync => ('█', GREEN, "in sync"),
            FleetState::Behind => ('▒', YELLOW, "behind"),
            FleetState::Customised => ('░', DIM, "customised"),
            FleetState::Pinned => ('=', DIM, "pinned"),
            FleetState::Unknown => ('?', RED, "unknown"),
        }
    }
}

/// Renders the bar; without branches, there is none.
pub(super) fn render_fleet_bar<'c>(
    branches: impl Iterator<Item = &'c ClassCounts>,
) -> Option<String> {
    let states: Vec<FleetState> = branches.map(FleetState::of_counts).collect();
    let counts =
        FleetState::ALL.map(|state| states.iter().filter(|other| **other == state).count());
    if states.is_empty() {
        return None;
    }
    let cells = share_cells(counts, WIDTH);
    let (mut bar, mut words) = (String::new(), Vec::new());
    for ((state, count), cells) in FleetState::ALL.into_iter().zip(counts).zip(cells) {
        let (letter, style, name) = state.look();
        if count > 0 {
            let part: String = std::iter::repeat_n(letter, cells).collect();
            bar.push_str(&format!("{style}{part}{style:#}"));
            words.push(format!("{count} {name}"));
        }
    }
    Some(format!("{bar}  {}: {}", pluralize(states.len(), "branch"), words.join(", ")))
}

/// Divides `width` cells by the counts. Whoever has any gets one cell at least; what is left over goes to the largest.
fn share_cells(counts: [usize; STATES], width: usize) -> [usize; STATES] {
    let all: usize = counts.iter().sum();
    let mut cells = counts.map(|count| match count {
        0 => 0,
        count => (count * width / all.max(1)).max(1),
    });
    let largest = (0..counts.len()).max_by_key(|at| counts[*at]).unwrap_or(0);
    let others: usize = cells.iter().sum::<usize>() - cells[largest];
    cells[largest] = width.saturating_sub(others);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(behind: usize, customised: usize, unknown: usize) -> ClassCounts {
        ClassCounts { behind, customised, unknown, ..ClassCounts::default() }
    }

    #[test]
    fn every_state_that_occurs_is_seen() {
        assert_eq!(share_cells([648, 1, 0, 0, 0], 40), [39, 1, 0, 0, 0]);
        assert_eq!(share_cells([1, 1, 1, 1, 1], 40), [8; 5]);
        assert_eq!(share_cells([0, 3, 0, 0, 0], 40), [0, 40, 0, 0, 0]);
        for seed in 1..500_usize {
            let counts = [seed % 7, seed % 11 * 100, seed % 13, seed % 650 + 1, seed % 3];
            let cells = share_cells(counts, 40);
            assert_eq!(cells.iter().sum::<usize>(), 40, "{counts:?}");
            for (count, cells) in counts.into_iter().zip(cells) {
                assert_eq!(count > 0, cells > 0, "{counts:?}");
            }
        }
    }

    #[test]
    fn the_bar_counts_each_branch_once() {
        let pinned = ClassCounts { pinned: 2, ..ClassCounts::default() };
        let all = [counts(0, 0, 0), counts(2, 1, 1), counts(0, 1, 1), counts(0, 3, 0), pinned];
        let bar = render_fleet_bar(all.iter()).unwrap();
        assert!(
            bar.ends_with("  5 branches: 1 in sync, 1 behind, 1 customised, 1 pinned, 1 unknown"),
            "{bar}"
        );
        assert_eq!(bar.matches('▒').count(), 8);
        assert_eq!(render_fleet_bar(std::iter::empty()), None);
    }
}
