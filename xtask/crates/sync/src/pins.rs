//! The pins of one branch, and what they mean on a day.
//!
//! A pin applies to the branch whose name it holds, up to and with its last day. For example, on
//! 2026-12-02:
//!
//! ```text
//! feature/a  setup/a    until 2026-12-30   applies on feature/a
//! feature/a  setup/b    until 2026-12-07   applies; it ends soon
//! feature/a  scripts    until 2026-11-30   has lapsed
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use xtask_base::date::Date;
use xtask_base::path::RepoPath;
use xtask_base::words::quote_for_shell;
use xtask_config::{Pin, PinHome};

/// How many days before its end a pin is announced: a week, in which whoever made it is at work.
pub const WARNING_DAYS: i64 = 7;

/// A pin, and the commit that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPin {
    pub pin: Pin,
    /// The file in its tree.
    pub file: RepoPath,
    pub home: PinHome,
}

impl StoredPin {
    /// Returns pins of a tree as those of a home.
    pub fn list(pins: &[(Pin, RepoPath)], home: PinHome) -> impl Iterator<Item = StoredPin> {
        pins.iter().map(move |(pin, file)| StoredPin { pin: pin.clone(), file: file.clone(), home })
    }

    /// Returns whether pins of `home` replace it: those of the canonical branch are pins of their own.
    #[must_use]
    pub fn is_like(&self, home: PinHome) -> bool {
        (self.home == PinHome::Canonical) == (home == PinHome::Canonical)
    }
}

/// Why a path is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinMark {
    /// The last day on which the pin applies.
    pub until: Date,
    pub reason: String,
    /// The pin's own path: the same, or a folder above.
    pub path: RepoPath,
    /// The branch that it names.
    pub branch: String,
    pub home: PinHome,
}

impl fmt::Display for PinMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pinned until {}: {}", self.until, self.reason)
    }
}

/// The names by which a branch is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchNames {
    /// The name in this clone.
    pub local: String,
    /// The name of its upstream branch, if it is another one.
    pub upstream: Option<String>,
    /// The names that it had in this clone before it was renamed, which no branch here has now.
    pub former: Vec<String>,
}

impl BranchNames {
    /// Returns the names of a branch that has only one.
    #[must_use]
    pub fn only(name: &str) -> BranchNames {
        BranchNames { local: name.to_owned(), upstream: None, former: Vec::new() }
    }

    /// Returns whether `name` is one of them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        let others = self.upstream.iter().chain(&self.former);
        self.local == name || others.into_iter().any(|other| other == name)
    }
}

/// Returns whether a pin is of the branch with these names. Without a branch (a detached HEAD) each is.
#[must_use]
pub fn is_pin_of(pin: &Pin, names: Option<&BranchNames>) -> bool {
    names.is_none_or(|names| names.contains(&pin.branch))
}

/// Returns the newest of the pins about each path of a branch, on the branch and on the canonical one,
/// without those that have ended. By whatever of its `names` a pin knows the branch, it is that one;
/// without names each pin is of the branch that it names.
#[must_use]
pub fn list_current(
    all: impl IntoIterator<Item = StoredPin>,
    names: Option<&BranchNames>,
) -> Vec<StoredPin> {
    let mut newest: BTreeMap<(bool, String, RepoPath), StoredPin> = BTreeMap::new();
    for stored in all {
        let branch = names.map_or(&stored.pin.branch, |names| &names.local).clone();
        let key = (stored.home == PinHome::Canonical, branch, stored.pin.path.clone());
        // Two that were made in the same second: whoever reads them decides the same. One that is
        // merged is no longer only at the upstream.
        let rank =
            |one: &StoredPin| (one.pin.since, one.pin.until, one.file.clone(), Reverse(one.home));
        if newest.get(&key).is_none_or(|other| rank(other) < rank(&stored)) {
            newest.insert(key, stored);
        }
    }
    newest.into_values().filter(|stored| !stored.pin.ended).collect()
}

/// The pins of one branch on one day, those that have lapsed included.
#[derive(Clone, Debug)]
pub struct BranchPins {
    /// Sorted by path; of equal paths the one that lasts longest is first.
    pins: Vec<StoredPin>,
    today: Date,
}

impl BranchPins {
    /// Creates the pins of a branch from all about it, which `is_pin_of` has selected.
    #[must_use]
    pub fn new(all: Vec<StoredPin>, names: Option<&BranchNames>, today: Date) -> BranchPins {
        BranchPins::of_current(list_current(all, names), today)
    }

    /// Creates the pins of a branch at the remote: what is known here alone can add some, and ends none that is there.
    #[must_use]
    pub fn at_remote(all: Vec<StoredPin>, names: Option<&BranchNames>, today: Date) -> BranchPins {
        let there = all.iter().filter(|stored| stored.home != PinHome::Upstream).cloned();
        let mut pins = list_current(there, names);
        for stored in list_current(all, names) {
            if !pins.contains(&stored) {
                pins.push(stored);
            }
        }
        BranchPins::of_current(pins, today)
    }

    fn of_current(mut pins: Vec<StoredPin>, today: Date) -> BranchPins {
        pins.sort_by(|one, two| {
            (&one.pin.path, two.pin.until).cmp(&(&two.pin.path, one.pin.until))
        });
        BranchPins { pins, today }
    }

    /// Returns no pins.
    #[must_use]
    pub fn none(today: Date) -> BranchPins {
        BranchPins { pins: Vec::new(), today }
    }

    /// Returns all pins, by path.
    #[must_use]
    pub fn all(&self) -> &[StoredPin] {
        &self.pins
    }

    #[must_use]
    pub fn today(&self) -> Date {
        self.today
    }

    /// Returns the pin that applies to `path` and lasts longest.
    #[must_use]
    pub fn find(&self, path: &RepoPath) -> Option<&StoredPin> {
        let applies =
            |stored: &&StoredPin| stored.pin.is_active(self.today) && stored.pin.covers(path);
        self.pins.iter().filter(applies).max_by_key(|stored| stored.pin.until)
    }

    /// Returns why `path` is pinned, if it is.
    #[must_use]
    pub fn mark(&self, path: &RepoPath) -> Option<PinMark> {
        let StoredPin { pin, home, .. } = self.find(path)?;
        let Pin { until, reason, path, branch, .. } = pin.clone();
        Some(PinMark { until, reason, path, branch, home: *home })
    }

    /// Returns the pins that have lapsed, without those whose path another one still covers.
    pub fn lapsed(&self) -> impl Iterator<Item = &StoredPin> {
        let is_over = |stored: &&StoredPin| {
            !stored.pin.is_active(self.today) && self.find(&stored.pin.path).is_none()
        };
        self.pins.iter().filter(is_over)
    }

    /// Returns the pins that end within [`WARNING_DAYS`] days, without those whose path another one
    /// covers for longer.
    pub fn ending_soon(&self) -> impl Iterator<Item = &StoredPin> {
        let is_soon = |stored: &&StoredPin| {
            is_ending_soon(&stored.pin, self.today)
                && self.find(&stored.pin.path).is_some_and(|longest| longest == *stored)
        };
        self.pins.iter().filter(is_soon)
    }

    /// Describes the pins that end soon, each with the commands that renew and end it.
    #[must_use]
    pub fn describe_ending(&self) -> Vec<String> {
        self.ending_soon().map(|stored| self.describe_end(stored)).collect()
    }

    fn describe_end(&self, stored: &StoredPin) -> String {
        let Pin { path, until, branch, .. } = &stored.pin;
        let typed = path.quote_for_shell();
        let (days, place) = (describe_days_left(self.today, *until), place_options(stored));
        let at = match stored.home {
            PinHome::Branch | PinHome::Upstream => String::new(),
            PinHome::Canonical => format!(" (of `{branch}`, on the canonical branch)"),
        };
        format!(
            "pin of `{path}`{at} ends on {until} ({days}): `cargo xtask pin {typed}{place} --until \
             30d --reason …` renews it, `cargo xtask unpin {typed}{place}` ends it"
        )
    }

    /// Describes the pins that hold a former name of the branch: other clones do not know that it was renamed.
    #[must_use]
    pub fn describe_former(&self, names: &BranchNames) -> Vec<String> {
        let is_former = |stored: &&StoredPin| {
            stored.pin.is_active(self.today) && names.former.contains(&stored.pin.branch)
        };
        let line = |stored: &StoredPin| {
            let Pin { path, branch, .. } = &stored.pin;
            let (typed, local) = (path.quote_for_shell(), &names.local);
            format!(
                "pin of `{path}` holds `{branch}`, the former name of `{local}`: other clones ignore it \
                 until `cargo xtask pin {typed} --reason …` writes one for `{local}`"
            )
        };
        let has_new = |stored: &&StoredPin| {
            self.pins.iter().any(|other| {
                other.pin.branch == names.local
                    && other.pin.is_active(self.today)
                    && other.pin.covers(&stored.pin.path)
            })
        };
        self.pins.iter().filter(is_former).filter(|stored| !has_new(stored)).map(line).collect()
    }

    /// Describes the pins that have lapsed and are still there.
    #[must_use]
    pub fn describe_lapsed(&self) -> Vec<String> {
        self.lapsed().map(describe_lapse).collect()
    }
}

/// Describes a pin that has lapsed.
pub(super) fn describe_lapse(stored: &StoredPin) -> String {
    let Pin { path, until, .. } = &stored.pin;
    let (typed, place) = (path.quote_for_shell(), place_options(stored));
    if stored.home == PinHome::Upstream {
        return format!(
            "pin of `{path}` at the upstream lapsed on {until}: sync follows the canonical branch there again"
        );
    }
    format!(
        "pin of `{path}` lapsed on {until}: sync follows the canonical branch there again; \
         `cargo xtask unpin {typed}{place}` removes it"
    )
}

/// Returns the options that name the commit of a pin: ` --branch main` on the canonical branch.
fn place_options(stored: &StoredPin) -> String {
    match stored.home {
        PinHome::Branch | PinHome::Upstream => String::new(),
        PinHome::Canonical => format!(" --branch {}", quote_for_shell(&stored.pin.branch)),
    }
}

/// Returns whether a pin applies and ends within [`WARNING_DAYS`] days.
#[must_use]
pub fn is_ending_soon(pin: &Pin, today: Date) -> bool {
    pin.is_active(today) && today.days_until(pin.until) <= WARNING_DAYS
}

/// Describes the days that are left, e.g. `in 5 days`.
#[must_use]
pub fn describe_days_left(today: Date, until: Date) -> String {
    match today.days_until(until) {
        0 => "today".to_owned(),
        1 => "tomorrow".to_owned(),
        days @ 2.. => format!("in {days} days"),
        -1 => "yesterday".to_owned(),
        days => format!("{} days ago", -days),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(branch: &str, path: &str, until: &str) -> StoredPin {
        let pin = Pin {
            branch: branch.to_owned(),
            path: RepoPath::new(path),
            until: Date::parse(until).unwrap(),
            reason: format!("why {path}"),
            by: "Ada".to_owned(),
            since: 1_793_000_000,
            ended: false,
            replaced_until: None,
        };
        StoredPin { file: pin.file_path(), pin, home: PinHome::Branch }
    }

    fn select(all: &[StoredPin], branch: Option<&str>, today: &str) -> BranchPins {
        let names = branch.map(BranchNames::only);
        select_by(all, names.as_ref(), today)
    }

    fn select_by(all: &[StoredPin], names: Option<&BranchNames>, today: &str) -> BranchPins {
        let pins = all.iter().filter(|stored| is_pin_of(&stored.pin, names)).cloned().collect();
        BranchPins::new(pins, names, Date::parse(today).unwrap())
    }

    #[test]
    fn a_pin_applies_to_its_branch_up_to_and_with_its_last_day() {
        let all = [stored("a", "setup", "2026-12-30"), stored("b", "src", "2026-12-30")];
        let path = RepoPath::new("setup/x");
        for (branch, today, is_pinned) in [
            (Some("a"), "2026-12-30", true),
            (Some("a"), "2026-12-31", false),
            (Some("b"), "2026-12-30", false),
            (Some("A"), "2026-12-30", false),
            (None, "2026-12-30", true),
            (None, "2026-12-31", false),
        ] {
            let pins = select(&all, branch, today);
            assert_eq!(pins.mark(&path).is_some(), is_pinned, "{branch:?} {today}");
        }
        let names = BranchNames { upstream: Some("a".to_owned()), ..BranchNames::only("mine") };
        assert!(select_by(&all, Some(&names), "2026-12-30").find(&path).is_some());
    }

    #[test]
    fn the_newest_pin_about_a_path_counts() {
        let today = "2026-12-01";
        let old = stored("a", "setup/x", "2026-12-30");
        let at = |since: i64, until: &str, ended: bool| {
            let until = Date::parse(until).unwrap();
            let pin = Pin { since: old.pin.since + since, until, ended, ..old.pin.clone() };
            StoredPin { file: pin.file_path(), pin, home: PinHome::Branch }
        };
        let path = RepoPath::new("setup/x");
        let until = |all: &[StoredPin]| select(all, Some("a"), today).mark(&path).map(|m| m.until);
        let day = |text: &str| Date::parse(text).ok_or("no day").ok();
        let shorter = at(5, "2026-12-10", false);
        let ended = at(9, "2026-12-30", true);
        assert_eq!(until(&[old.clone(), shorter.clone()]), day("2026-12-10"));
        assert_eq!(until(&[shorter.clone(), old.clone()]), day("2026-12-10"));
        // What a merge brings back is older than its end.
        assert_eq!(until(&[ended.clone(), old.clone(), shorter.clone()]), None);
        assert_eq!(until(&[ended.clone(), at(10, "2026-12-05", false)]), day("2026-12-05"));
        // The canonical branch speaks for itself.
        let canonical = StoredPin { home: PinHome::Canonical, ..old.clone() };
        assert_eq!(until(&[ended, canonical]), day("2026-12-30"));
    }

    #[test]
    fn all_names_of_a_branch_are_one_branch() {
        let (old, new) =
            (stored("old", "setup/x", "2026-12-30"), stored("new", "setup/x", "2026-12-10"));
        let new = StoredPin { pin: Pin { since: new.pin.since + 1, ..new.pin.clone() }, ..new };
        let names = BranchNames { former: vec!["old".to_owned()], ..BranchNames::only("new") };
        let until = |names: Option<&BranchNames>| {
            let pins = select_by(&[old.clone(), new.clone()], names, "2026-12-01");
            pins.mark(&RepoPath::new("setup/x")).map(|mark| mark.until.to_string())
        };
        assert_eq!(until(Some(&names)).as_deref(), Some("2026-12-10"));
        assert_eq!(until(Some(&BranchNames::only("old"))).as_deref(), Some("2026-12-30"));
        // A detached HEAD has the pins of two branches.
        assert_eq!(until(None).as_deref(), Some("2026-12-30"));
    }

    #[test]
    fn of_several_pins_the_longest_counts() {
        let all = [
            stored("a", "setup/x", "2026-12-01"),
            stored("a", "setup", "2026-12-05"),
            stored("a", "setup/x/y", "2026-11-30"),
        ];
        let until = |today: &str| {
            let mark = select(&all, Some("a"), today).mark(&RepoPath::new("setup/x"));
            mark.map(|mark| mark.to_string())
        };
        assert_eq!(until("2026-12-01").as_deref(), Some("pinned until 2026-12-05: why setup"));
        assert_eq!(until("2026-12-06"), None);
        // The end of a pin that another one covers is not announced.
        let pins = select(&all, Some("a"), "2026-12-01");
        assert_eq!((pins.ending_soon().count(), pins.lapsed().count()), (1, 0));
        assert_eq!(select(&all, Some("a"), "2026-12-06").lapsed().count(), 3);
    }

    #[test]
    fn the_end_is_announced_a_week_before() {
        let all = [stored("a", "setup/a", "2026-12-07")];
        let at = |today: &str| select(&all, Some("a"), today).describe_ending();
        assert_eq!(at("2026-11-29"), Vec::<String>::new());
        assert_eq!(
            at("2026-12-02"),
            [
                "pin of `setup/a` ends on 2026-12-07 (in 5 days): `cargo xtask pin setup/a --until 30d \
              --reason …` renews it, `cargo xtask unpin setup/a` ends it"
            ]
        );
        assert!(at("2026-11-30")[0].contains("(in 7 days)"));
        assert!(at("2026-12-06")[0].contains("(tomorrow)"));
        assert!(at("2026-12-07")[0].contains("(today)"));
        assert_eq!(at("2026-12-08"), Vec::<String>::new());
        let after = select(&all, Some("a"), "2026-12-08").describe_lapsed();
        assert!(after[0].starts_with("pin of `setup/a` lapsed on 2026-12-07: "), "{after:?}");
    }
}
