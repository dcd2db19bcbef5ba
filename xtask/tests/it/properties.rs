//! What holds for any state of a repository, tried on many that are made from a seed.
//!
//! A failure prints its seed; `XTASK_SEED=…` runs that one alone.

use std::collections::BTreeMap;

use crate::testkit::{Lab, Place, circle, files};

/// The seeds of the states that are tried. The few of the usual circle are among those in which a branch has
/// much that it could give.
fn seeds() -> std::ops::Range<u64> {
    circle::either(28..36, 0..60)
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

const PATHS: [&str; 10] = [
    "setup/a",
    "setup/b",
    "setup/c",
    "setup/deep/d",
    "setup/deep/er/e",
    "scripts/f",
    "launch.py",
    "scripts/with space",
    ".flake8",
    "deployment/g",
];

const UNMANAGED: [&str; 4] = ["src/app", "src/other", "README", "setupx/a"];

/// No two versions have the same size: what git itself could not tell apart within one tick of the
/// clock is not what is tried here.
fn version(path: &str, number: u64) -> String {
    format!("version {number} of {path}{}\n", "!".repeat(number as usize))
}

fn scramble(place: &Place<'_>, random: &mut Random, paths: &[&str], versions: u64) {
    for path in paths {
        match random.below(6) {
            0 => drop(std::fs::remove_file(place.dir.join(path))),
            1 | 2 => {
                // A symlink there would be written through by the test itself.
                drop(std::fs::remove_file(place.dir.join(path)));
                place.write(path, version(path, random.below(versions)));
            }
            3 if random.one_in(3) && place.dir.join(path).is_file() => place.make_executable(path),
            4 if random.one_in(4) => {
                drop(std::fs::remove_file(place.dir.join(path)));
                place.link("nowhere", path);
            }
            _ => {}
        }
    }
}

/// A repository with a canonical history, a branch with history and customisations of its own, and
/// staged, unsaved and untracked work on top.
fn scene<'a>(lab: &'a Lab, random: &mut Random) -> Place<'a> {
    let repo = lab.place("repo");
    std::fs::create_dir_all(&repo.dir).unwrap();
    repo.git(&["init", "--quiet", "-b", "orchestration-tools"]);
    for path in PATHS.iter().chain(&UNMANAGED) {
        repo.write(path, version(path, 0));
    }
    repo.commit("first");
    repo.git(&["branch", "feature"]);
    for round in 0..random.below(4) {
        scramble(&repo, random, &PATHS, 4);
        repo.commit(&format!("canonical {round}"));
        if random.one_in(3) {
            repo.git(&["branch", "--force", "feature"]);
        }
    }
    repo.git(&["switch", "--quiet", "feature"]);
    for round in 0..random.below(3) {
        scramble(&repo, random, &PATHS, 8);
        scramble(&repo, random, &UNMANAGED, 8);
        repo.commit(&format!("feature {round}"));
        if random.one_in(3) {
            repo.xtask(&["sync", "--yes"]).success();
        }
    }
    if random.one_in(2) {
        scramble(&repo, random, &PATHS, 12);
        scramble(&repo, random, &UNMANAGED, 12);
        repo.git(&["add", "--all"]);
        scramble(&repo, random, &PATHS, 16);
        scramble(&repo, random, &UNMANAGED, 16);
    }
    repo
}

fn every_seed(test: impl Fn(&Place<'_>, &mut Random)) {
    let given = std::env::var("XTASK_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = given.map_or(seeds(), |seed| seed..seed + 1);
    for seed in seeds {
        // All tests begin with the same scenes, and go on by chances of their own.
        let lab = Lab::named(&format!("seed {seed}"), |lab| drop(scene(lab, &mut Random(seed))));
        let mut random = Random(!seed);
        let place = lab.place("repo");
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            test(&place, &mut random);
        }));
        if let Err(panic) = tried {
            eprintln!("XTASK_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn managed(path: &str) -> bool {
    PATHS.contains(&path)
}

/// Entries of a tree, by path.
fn tree(place: &Place<'_>, name: &str) -> BTreeMap<String, String> {
    let listing = place.git(&["ls-tree", "-r", "-z", name]);
    let entries = listing.split_terminator('\0').map(|line| {
        let (entry, path) = line.split_once('\t').unwrap();
        (path.to_owned(), entry.to_owned())
    });
    entries.collect()
}

#[test]
fn plan_after_sync_is_empty() {
    every_seed(|place, random| {
        let mode: &[&str] = [&["--yes"][..], &["--yes", "--no-commit"], &["--yes", "--force"]]
            [random.below(3) as usize];
        let mut args = vec!["sync"];
        args.extend(mode);
        place.xtask(&args).success();
        let after = place.scene();
        let plan = place.plan(&mode[1..]);
        for line in plan.lines() {
            let action = line.rsplit(' ').next().unwrap();
            assert!(["keep", "none"].contains(&action), "{mode:?}: {line}");
        }
        place.xtask(&args).success();
        assert_eq!(place.scene(), after, "a second run changes nothing");
    });
}

#[test]
fn sync_never_touches_or_commits_unmanaged_files() {
    every_seed(|place, random| {
        let outside = |place: &Place<'_>| -> BTreeMap<_, _> {
            files(place.dir.as_std_path()).into_iter().filter(|(p, _)| !managed(p)).collect()
        };
        let staged = |place: &Place<'_>| -> Vec<String> {
            let listing = place.git(&["ls-files", "--stage"]);
            listing
                .lines()
                .filter(|l| !managed(l.split('\t').nth(1).unwrap()))
                .map(str::to_owned)
                .collect()
        };
        let before = (outside(place), staged(place), place.head());
        let force = if random.one_in(2) { "--force" } else { "--yes" };
        place.xtask(&["sync", "--yes", force][..if force == "--yes" { 2 } else { 3 }]).success();
        assert_eq!((outside(place), staged(place)), (before.0, before.1));
        let changed = place.git(&["diff", "--name-only", "-z", &before.2, "HEAD"]);
        assert!(changed.split_terminator('\0').all(managed), "{changed}");
    });
}

#[test]
fn undo_restores_every_replaced_byte() {
    every_seed(|place, random| {
        let args = [
            &["sync", "--yes"][..],
            &["sync", "--yes", "--force"],
            &["sync", "--yes", "--no-commit"],
            &["sync", "--yes", "--no-commit", "--force"],
        ][random.below(4) as usize];
        let before = place.scene();
        place.xtask(args).success();
        if place.scene() != before {
            let ran = place.xtask(&["undo"]);
            ran.success();
            assert_eq!(place.scene(), before, "{args:?}");
        }
    });
}

#[test]
fn sync_without_force_keeps_all_edits_and_customisations() {
    every_seed(|place, _| {
        let canonical_ever: Vec<BTreeMap<String, String>> = place
            .git(&["rev-list", "orchestration-tools"])
            .lines()
            .map(|commit| tree(place, commit))
            .collect();
        let head = tree(place, "HEAD");
        let edited: Vec<String> = place
            .git(&["diff", "--name-only", "-z", "--no-renames", "HEAD"])
            .split_terminator('\0')
            .map(str::to_owned)
            .collect();
        let canonical = tree(place, "orchestration-tools");
        let before = files(place.dir.as_std_path());
        place.xtask(&["sync", "--yes"]).success();
        let after = files(place.dir.as_std_path());
        let now = tree(place, "HEAD");
        for path in PATHS {
            let was_canonical =
                |entry: &String| canonical_ever.iter().any(|tree| tree.get(path) == Some(entry));
            if edited.iter().any(|other| other == path) {
                assert_eq!(after.get(path), before.get(path), "{path} was edited");
            } else if head.get(path).is_some_and(|entry| !was_canonical(entry)) {
                assert_eq!(after.get(path), before.get(path), "{path} was customised");
                assert_eq!(now.get(path), head.get(path), "{path} was customised");
            } else if head.contains_key(path) {
                assert_eq!(now.get(path), canonical.get(path), "{path} was behind");
            }
        }
    });
}

#[test]
fn forced_sync_makes_branch_index_and_files_canonical() {
    every_seed(|place, _| {
        place.xtask(&["sync", "--yes", "--force"]).success();
        let now = tree(place, "HEAD");
        let canonical = tree(place, "orchestration-tools");
        let of = |tree: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            tree.iter().filter(|(p, _)| managed(p)).map(|(p, e)| (p.clone(), e.clone())).collect()
        };
        assert_eq!(of(&now), of(&canonical));
        let status =
            place.git(&["status", "--porcelain", "-z", "--no-renames", "--", "setup", "scripts"]);
        let left: Vec<&str> = status
            .split_terminator('\0')
            .filter(|line| managed(&line[3..]) && canonical.contains_key(&line[3..]))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// Nothing is checked out and nothing is lying about; a second copy is what comes of the other road.
fn two_copies<'a>(place: &Place<'a>) -> (Place<'a>, Place<'a>) {
    place.git(&["reset", "--quiet", "--hard"]);
    place.git(&["clean", "--quiet", "-fdx"]);
    place.git(&["switch", "--quiet", "--detach"]);
    let copy = place.lab.path("copy");
    place.run("cp", &["-a", place.dir.as_str(), copy.as_str()], &[]).success();
    (place.clone(), place.lab.place("copy"))
}

#[test]
fn propagate_creates_the_same_commit_as_sync() {
    every_seed(|place, _| {
        let (one, two) = two_copies(place);
        let before = one.scene();
        one.xtask(&["propagate", "feature", "--yes"]).success();
        two.git(&["switch", "--quiet", "feature"]);
        two.xtask(&["sync", "--yes"]).success();
        assert_eq!(one.id("feature"), two.id("feature"));
        let after = one.scene();
        assert_eq!(
            (after.files, after.index, after.head),
            (before.files, before.index, before.head)
        );
        let refs = one.git(&["for-each-ref"]);
        assert_eq!(one.xtask(&["propagate", "feature", "--yes"]).success().out, "");
        assert_eq!(one.git(&["for-each-ref"]), refs);
    });
}

#[test]
fn extract_and_reverse_sync_give_the_same_canonical_tree() {
    let taken = std::cell::Cell::new(0);
    every_seed(|place, _| {
        let changes = "orchestration-tools-changes";
        let (one, two) = two_copies(place);
        let before = tree(&one, "orchestration-tools");
        let ran = one.xtask(&["extract", "feature"]);
        if ran.code == Some(1) {
            assert_eq!(one.try_git(&["rev-parse", "-q", "--verify", changes]).code, Some(1));
            return;
        }
        ran.success();
        if one.try_git(&["rev-parse", "-q", "--verify", changes]).code != Some(0) {
            return;
        }
        let commit = one.id(changes);
        one.xtask(&["extract", "feature"]).success();
        assert_eq!(one.id(changes), commit, "extracted twice");
        two.xtask(&["extract", "feature"]).success();
        assert_eq!(two.id(changes), commit, "extracted elsewhere");
        one.xtask(&["promote", "--yes"]).success();
        two.xtask(&["reverse-sync", changes, changes, "--yes"]).success();
        let after = tree(&one, "orchestration-tools");
        assert_eq!(after, tree(&two, "orchestration-tools"));
        for path in before.keys().chain(after.keys()).filter(|path| !managed(path)) {
            assert_eq!(before.get(path), after.get(path), "{path} is not managed");
        }
        // What was taken is what the branch has: nothing of it is missing.
        assert_eq!(one.xtask(&["extract", "feature"]).success().out, "");
        taken.set(taken.get() + 1);
    });
    let is_all = std::env::var_os("XTASK_SEED").is_none();
    let all = seeds().count();
    assert!(!is_all || taken.get() > all / 4, "only {} had something to take", taken.get());
}
