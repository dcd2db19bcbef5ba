//! Detection of dependency cycles. Pure: indices in, indices out.
//!
//! For example, `[[1], [2], [0]]` (0 needs 1, 1 needs 2, 2 needs 0) contains the cycle `[0, 1, 2]`.

/// Returns the cycles in `needs`, in which `needs[i]` lists the dependencies of `i`. Each cycle is listed once and
/// begins at its smallest index.
pub(super) fn find_cycles(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; needs.len()];
    let mut found = Vec::new();
    for start in 0..needs.len() {
        if marks[start] != Mark::New {
            continue;
        }
        // The current path: each member, and how many of its dependencies were followed.
        let mut way = vec![(start, 0)];
        marks[start] = Mark::Open;
        while let Some((at, next)) = way.last_mut() {
            let Some(need) = needs[*at].get(*next).copied() else {
                marks[*at] = Mark::Done;
                way.pop();
                continue;
            };
            *next += 1;
            match marks[need] {
                Mark::New => {
                    marks[need] = Mark::Open;
                    way.push((need, 0));
                }
                Mark::Open => {
                    let from = way.iter().position(|(at, _)| *at == need).unwrap_or(0);
                    let mut circle: Vec<usize> = way[from..].iter().map(|(at, _)| *at).collect();
                    let first = (0..circle.len()).min_by_key(|at| circle[*at]).unwrap_or(0);
                    circle.rotate_left(first);
                    found.push(circle);
                }
                Mark::Done => {}
            }
        }
    }
    found.sort();
    found.dedup();
    found
}
