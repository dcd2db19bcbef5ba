//! Random histories: what people, git, our hooks and our commands do in two clones with a linked worktree, some
//! of it killed in the middle. Whatever a person has ever written is found afterwards: in a file, in an object
//! of git, or where we have put it aside; unless they threw it away themselves. Nothing is stuck, nothing is
//! left lying about, and what is not managed is as they left it. What a branch has pinned is as it was after each
//! of our commands but `--force`.
//!
//! A failure prints its seed and what was done; `XTASK_HISTORIES=FROM..TO` runs those.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::testkit::{Lab, Place, circle, program, spawn};

const MANAGED: [&str; 5] = ["setup/a", "setup/b", "setup/deep/d", "scripts/run.sh", "setup/new"];
const UNMANAGED: [&str; 3] = ["src/app", "src/deep/other", "notes"];
const PINNED: [&str; 4] = ["setup/a", "setup", "scripts", "setup/deep"];
const BRANCHES: [&str; 4] = ["feature", "side", "third", "main"];

/// How many steps a history has.
const STEPS: u64 = 30;

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Who does a step, and so who answers for what is gone after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A person, who may throw away what is theirs.
    Person,
    /// Git with our hooks, or a command of ours: nothing may be gone.
    Us,
}

struct World<'a> {
    lab: &'a Lab,
    places: Vec<Place<'a>>,
    random: Random,
    seed: u64,
    written: u64,
    /// What people have written and not thrown away.
    words: BTreeSet<String>,
    /// The objects that were looked into, by repository, and what they hold of it.
    seen: BTreeMap<&'static str, BTreeSet<String>>,
    kept: BTreeMap<&'static str, BTreeSet<String>>,
    story: Vec<String>,
}

const REPOSITORIES: [&str; 3] = ["one", "two", "hub.git"];

/// A managed path with its file and its entry in HEAD.
type PinnedPath = (&'static str, Option<Vec<u8>>, String);

impl<'a> World<'a> {
    fn new(lab: &'a Lab, seed: u64) -> World<'a> {
        let places = ["one", "linked", "two"].map(|name| lab.place(name)).to_vec();
        let (written, words, story) = (0, BTreeSet::new(), Vec::new());
        let (seen, kept) = (BTreeMap::new(), BTreeMap::new());
        World { lab, places, random: Random(seed), seed, written, words, seen, kept, story }
    }

    /// A text of a few lines, of which one is new and never written before.
    fn text(&mut self) -> String {
        self.written += 1;
        let word = format!("word-{}-{}", self.seed, self.written);
        self.words.insert(word.clone());
        let at = self.random.below(5);
        let lines =
            (0..5).map(|line| if line == at { format!("{word}\n") } else { format!("{line}\n") });
        lines.collect()
    }

    fn tell(&mut self, place: &Place<'_>, what: &str) {
        self.story.push(format!("{}: {what}", place.dir.file_name().unwrap()));
    }

    fn git(&mut self, place: &Place<'_>, args: &[&str]) -> i32 {
        let ran = place.try_git(args);
        self.tell(place, &format!("git {args:?}: {:?}", ran.code));
        ran.code.unwrap_or(-1)
    }

    /// A command of ours, which may be killed in the middle of it.
    fn ours(&mut self, place: &Place<'_>, args: &[&str]) {
        if self.random.below(4) > 0 {
            let ran = place.xtask(args);
            self.tell(place, &format!("{args:?}: {:?}", ran.code));
            assert!(
                ran.code.is_some_and(|code| code < 4) && !ran.err.contains("panicked"),
                "{}\n{args:?}: {}{}",
                self.story.join("\n"),
                ran.out,
                ran.err
            );
            return;
        }
        let mut command = Command::new(program());
        command.args(args).current_dir(&place.dir).envs(place.environment());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawn(&mut command).unwrap();
        let after = Duration::from_micros(self.random.below(60_000));
        std::thread::sleep(after);
        child.kill().unwrap();
        let end = child.wait().unwrap();
        self.tell(place, &format!("{args:?} killed after {after:?}: {end}"));
        // A git that it has started goes on, and comes to its end.
        let lock = place.git_folder().join("index.lock");
        for _ in 0..2000 {
            if !lock.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn step(&mut self) -> By {
        let place = self.random.of(&self.places.clone()).clone();
        let branch = *self.random.of(&BRANCHES);
        match self.random.below(37) {
            0..=3 => {
                let (text, path) = (self.text(), *self.random.of(&MANAGED));
                self.write(&place, path, &text);
                By::Person
            }
            4..=5 => {
                let (text, path) = (self.text(), *self.random.of(&UNMANAGED));
                self.write(&place, path, &text);
                By::Person
            }
            6 => {
                let path = *self.random.of(&MANAGED);
                fs::remove_file(place.dir.join(path)).ok();
                self.tell(&place, &format!("removes {path}"));
                By::Person
            }
            7..=8 => {
                self.git(&place, &["add", "-A"]);
                By::Us
            }
            9..=11 => {
                self.git(&place, &["commit", "-qam", "work"]);
                By::Us
            }
            12 => {
                self.git(&place, &["commit", "-q", "--amend", "-m", "again"]);
                By::Us
            }
            13..=15 => {
                self.git(&place, &["switch", "-q", branch]);
                By::Us
            }
            16 => {
                self.git(&place, &["merge", "-q", "-m", "merged", branch]);
                By::Us
            }
            17 => {
                self.git(&place, &["rebase", "-q", branch]);
                By::Us
            }
            18 => {
                for end in ["merge", "rebase", "cherry-pick"] {
                    self.git(&place, &[end, "--abort"]);
                }
                By::Person
            }
            19 => {
                let words: &[&str] = if self.random.below(2) == 0 {
                    &["stash", "-u"]
                } else {
                    &["stash", "pop", "-q"]
                };
                self.git(&place, words);
                By::Us
            }
            20 => {
                self.git(&place, &["reset", "-q", "--hard"]);
                By::Person
            }
            21 => {
                self.git(&place, &["push", "-q", "origin", branch]);
                self.git(&place, &["fetch", "-q"]);
                By::Us
            }
            22..=23 => {
                self.canonical(&place);
                By::Us
            }
            24..=27 => {
                let all: [&[&str]; 5] = [
                    &[],
                    &["--merge"],
                    &["--force"],
                    &["--no-commit"],
                    &["--no-commit", "--force"],
                ];
                let more = *self.random.of(&all);
                let words: Vec<&str> = ["sync", "--yes"].iter().chain(more).copied().collect();
                self.managed_only(&place, &words);
                By::Us
            }
            28 => {
                self.managed_only(&place, &["undo"]);
                By::Us
            }
            29 => {
                self.propagate(&place);
                By::Us
            }
            30 => {
                self.ours(&place, &["extract"]);
                self.ours(&place, &["promote", "--yes"]);
                By::Us
            }
            31 => {
                self.ours(&place, &["backup"]);
                By::Us
            }
            32 => {
                let list = place.xtask(&["backup", "--list"]).out;
                if let Some(id) = list.lines().next().and_then(|line| line.split(' ').next()) {
                    self.ours(&place, &["restore", id]);
                }
                By::Us
            }
            33..=34 => {
                let path = *self.random.of(&PINNED);
                // The same in each clone, as the same person would type it.
                let words = ["pin", path, "--until", "2999-01-01", "--reason", "why"];
                self.managed_only(&place, &words);
                By::Us
            }
            35 => {
                let path = *self.random.of(&PINNED);
                self.managed_only(&place, &["unpin", path]);
                By::Us
            }
            _ => {
                self.ours(&place, &["switch", branch]);
                By::Us
            }
        }
    }

    fn write(&mut self, place: &Place<'_>, path: &str, text: &str) {
        let at = place.dir.join(path);
        if at.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok()) {
            fs::write(&at, text).ok();
        }
        self.tell(place, &format!("writes {path}: {text:?}"));
    }

    /// A change of the canonical branch, by a commit on trees alone.
    fn canonical(&mut self, place: &Place<'_>) {
        let (text, path) = (self.text(), *self.random.of(&MANAGED));
        let beside = self.lab.path("canonical");
        let added = place.try_git(&[
            "worktree",
            "add",
            "-q",
            "--force",
            beside.as_str(),
            "orchestration-tools",
        ]);
        if added.code == Some(0) {
            let there = self.lab.place("canonical");
            self.write(&there, path, &text);
            self.git(&there, &["add", "-A"]);
            self.git(&there, &["commit", "-q", "-m", "canonical"]);
        }
        place.try_git(&["worktree", "remove", "--force", beside.as_str()]);
        place.try_git(&["worktree", "prune"]);
        self.tell(place, "canonical change");
        if self.random.below(2) == 0 {
            self.git(place, &["push", "-q", "origin", "orchestration-tools"]);
        }
    }

    /// A command of ours that touches nothing but managed files.
    fn managed_only(&mut self, place: &Place<'_>, args: &[&str]) {
        let pinned = self.pinned_here(place);
        let look = || {
            let files = UNMANAGED.map(|path| fs::read(place.dir.join(path)).ok());
            (files, place.git(&["ls-files", "-s", "--", "src", "notes"]))
        };
        let before = look();
        self.ours(place, args);
        assert!(look() == before, "{}\nchanged what is not managed", self.story.join("\n"));
        // What `--force` and `undo` have replaced is in a backup, and a branch that has moved to its upstream has
        // the content of that.
        if args[0] == "undo" || args.contains(&"--force") || !is_on_top(place, "HEAD", &pinned.0) {
            return;
        }
        for (path, file, entry) in &pinned.1 {
            let now = (fs::read(place.dir.join(path)).ok(), entry_of(place, "HEAD", path));
            let is_kept = (&now.0, &now.1) == (file, entry);
            assert!(is_kept, "seed {}: {path} was pinned\n{}", self.seed, self.story.join("\n"));
        }
    }

    /// HEAD, and the managed paths that are pinned there, each with its file and its entry in HEAD. None if a
    /// command was killed: the next one restores what that has replaced.
    fn pinned_here(&self, place: &Place<'_>) -> (String, Vec<PinnedPath>) {
        if place.git_folder().join("xtask/journal").exists() {
            return (String::new(), Vec::new());
        }
        let paths = pinned_paths(place, &["pin", "--list", "--json"]);
        let seen = paths.into_iter().map(|(_, path)| {
            (path, fs::read(place.dir.join(path)).ok(), entry_of(place, "HEAD", path))
        });
        (place.try_git(&["rev-parse", "HEAD"]).out.trim().to_owned(), seen.collect())
    }

    fn propagate(&mut self, place: &Place<'_>) {
        let seen: Vec<_> = pinned_paths(place, &["pin", "--list", "--all", "--json"])
            .into_iter()
            .map(|(branch, path)| {
                let entry = entry_of(place, &branch, path);
                let tip = place.try_git(&["rev-parse", &branch]).out.trim().to_owned();
                (branch, path, tip, entry)
            })
            .collect();
        self.ours(place, &["propagate", "--yes"]);
        for (branch, path, tip, entry) in seen {
            if is_on_top(place, &branch, &tip) {
                let now = entry_of(place, &branch, path);
                let story = || self.story.join("\n");
                assert_eq!(
                    now,
                    entry,
                    "seed {}: {branch}: {path} was pinned\n{}",
                    self.seed,
                    story()
                );
            }
        }
    }

    /// What is to be found of what people have written.
    fn alive(&mut self) -> BTreeSet<String> {
        for name in REPOSITORIES {
            let place = self.lab.place(name);
            let listed =
                place.git(&["cat-file", "--batch-all-objects", "--unordered", "--batch-check"]);
            let seen = self.seen.entry(name).or_default();
            let blobs = listed.lines().filter(|line| line.contains(" blob "));
            let new: Vec<&str> = blobs
                .filter_map(|line| line.split(' ').next())
                .filter(|id| !seen.contains(*id))
                .collect();
            if new.is_empty() {
                continue;
            }
            let list = self.lab.path("ids");
            fs::write(&list, format!("{}\n", new.join("\n"))).unwrap();
            seen.extend(new.iter().map(|id| (*id).to_owned()));
            let held = place.run(
                "sh",
                &["-c", "git cat-file --batch --buffer < \"$0\"", list.as_str()],
                &[],
            );
            self.kept.entry(name).or_default().extend(words_in(&held.out));
        }
        let mut alive: BTreeSet<String> = self.kept.values().flatten().cloned().collect();
        for name in ["one", "linked", "two"] {
            files(self.lab.path(name).as_std_path(), &mut |path, content| {
                // Of what git keeps for itself only the objects count, and they were read.
                let is_ours = path.components().any(|part| part.as_os_str() == "xtask");
                if is_ours || !path.components().any(|part| part.as_os_str() == ".git") {
                    alive.extend(words_in(&String::from_utf8_lossy(content)));
                }
            });
        }
        alive
    }

    fn check(&mut self, by: By) {
        let alive = self.alive();
        let lost: Vec<String> = self.words.difference(&alive).cloned().collect();
        for word in lost {
            assert!(
                by == By::Person,
                "seed {}: {word} is lost\n{}",
                self.seed,
                self.story.join("\n")
            );
            self.words.remove(&word);
        }
    }

    /// Ends whatever is in progress, as a person would, and sees that all goes on as ever.
    fn end(&mut self) {
        for place in self.places.clone() {
            // What a killed run of ours has left, its lock on the index among it, is mended by the next one.
            place.xtask(&["sync", "--yes"]);
            for end in ["merge", "rebase", "cherry-pick"] {
                place.try_git(&[end, "--abort"]);
            }
            let story = self.story.join("\n");
            let what = |ran: &crate::testkit::Ran| {
                format!("{}{}\nseed {}\n{story}", ran.out, ran.err, self.seed)
            };
            let stashed = place.try_git(&["reset", "-q", "--hard"]);
            assert_eq!(stashed.code, Some(0), "{}", what(&stashed));
            place.git(&["clean", "-qfd"]);
            let synced = place.xtask(&["sync", "--yes", "--allow-protected"]);
            // What stands in each other's place is told, and is no fault.
            let is_in_the_way = synced.out.contains("is in the way");
            assert!(synced.code == Some(0) || is_in_the_way, "{}", what(&synced));
            for args in [&["status"][..], &["undo", "--list"], &["status", "--all"]] {
                let ran = place.xtask(args);
                assert_eq!(ran.code, Some(0), "{}", what(&ran));
            }
            assert_eq!(place.status(), "", "{story}");
            assert_eq!(
                place.git(&["fsck", "--no-dangling", "--no-progress"]).trim(),
                "",
                "{story}"
            );
        }
        let mut left = Vec::new();
        for name in ["one", "linked", "two"] {
            files(self.lab.path(name).as_std_path(), &mut |path, _| {
                let name = path.file_name().unwrap().to_string_lossy();
                let is_state = path.components().any(|part| part.as_os_str() == "xtask");
                let is_lock = name.ends_with(".lock") && !is_state;
                if is_lock || name.starts_with(".xtask-") || is_state && name.ends_with(".new") {
                    left.push(path.to_path_buf());
                }
            });
        }
        assert!(left.is_empty(), "seed {}: {left:?}\n{}", self.seed, self.story.join("\n"));
    }
}

/// The branches and managed paths of a list of pins, as far as they apply.
fn pinned_paths(place: &Place<'_>, list: &[&str]) -> Vec<(String, &'static str)> {
    let listed = serde_json::from_str::<serde_json::Value>(&place.xtask(list).out);
    let Ok(listed) = listed else { return Vec::new() };
    let mut found = Vec::new();
    for pin in listed["pins"].as_array().unwrap().iter().filter(|pin| pin["state"] == "active") {
        let (branch, path) = (pin["branch"].as_str().unwrap(), pin["path"].as_str().unwrap());
        let covered = MANAGED.iter().filter(|one| {
            **one == path || one.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        });
        found.extend(covered.map(|one| (branch.to_owned(), *one)));
    }
    found
}

fn entry_of(place: &Place<'_>, commit: &str, path: &str) -> String {
    place.try_git(&["rev-parse", "--verify", "-q", &format!("{commit}:{path}")]).out
}

/// Whether a commit is `before`, or has it as its first parent.
fn is_on_top(place: &Place<'_>, commit: &str, before: &str) -> bool {
    let of =
        |name: &str| place.try_git(&["rev-parse", "--verify", "-q", name]).out.trim().to_owned();
    !before.is_empty() && (of(commit) == before || of(&format!("{commit}^1")) == before)
}

/// The words of people in a text.
fn words_in(text: &str) -> impl Iterator<Item = String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.split(move |c| !is_part(c)).filter(|word| word.starts_with("word-")).map(str::to_owned)
}

/// Every file below a folder, with its content.
fn files(folder: &Path, each: &mut dyn FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let is_large = path.ends_with(".git/objects") || path.ends_with("xtask/bin");
        if kind.is_dir() && !is_large {
            files(&path, each);
        } else if kind.is_file() {
            each(&path, &fs::read(&path).unwrap_or_default());
        }
    }
}

/// Two clones of a hub, one with a linked worktree and hooks.
fn scene(lab: &Lab) {
    let repo = lab.repo_named("one", &[]);
    repo.write("setup/deep/d", "0\n1\n2\n3\n4\n");
    repo.write("notes", "0\n1\n2\n3\n4\n");
    repo.write("setup/branches.toml", "protected = ['main']\n");
    repo.commit("begin");
    repo.git(&["branch", "-f", "orchestration-tools"]);
    for branch in &BRANCHES[..3] {
        repo.git(&["branch", branch]);
    }
    lab.place(".").git(&["init", "-q", "--bare", "hub.git"]);
    repo.git(&["remote", "add", "origin", "../hub.git"]);
    repo.git(&["push", "-q", "origin", "--all"]);
    lab.place(".").git(&["clone", "-q", "-b", "third", "hub.git", "two"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["worktree", "add", "-q", "../linked", "side"]);
    repo.install_hooks().success();
    lab.place("two").install_hooks().success();
}

fn go(lab: &Lab, seed: u64) {
    let mut world = World::new(lab, seed);
    world.check(By::Us);
    for _ in 0..STEPS {
        let by = world.step();
        world.check(by);
    }
    world.end();
}

/// The seeds that are tried.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::vars().find(|(name, _)| name == "XTASK_HISTORIES");
    let asked = asked.and_then(|(_, text)| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    asked.unwrap_or(circle::either(0..6, 0..100))
}

#[test]
fn random_histories_lose_no_data_and_leave_no_locks() {
    let lab = Lab::new();
    scene(&lab);
    let seeds: Vec<u64> = seeds().collect();
    // They wait for programs more than they work.
    std::thread::scope(|scope| {
        for part in 0..circle::either(2, 3) {
            let (seeds, lab) = (&seeds, &lab);
            scope.spawn(move || {
                for seed in seeds.iter().skip(part).step_by(circle::either(2, 3)) {
                    let copy = lab.copy();
                    go(&copy, *seed);
                }
            });
        }
    });
}
