//! Circles in what needs what. It is pure: indices in, indices out.

/// The circles in what needs what: each once, from its first member on.
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
        // The way down from the start: each member, and how many of its needs were followed.
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
