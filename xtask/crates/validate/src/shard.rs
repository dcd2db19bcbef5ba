//! Cutting a run into parts for several machines *(pure)*.
//!
//! Guarantee: the parts of one configuration and one table of times are the same wherever they are computed, every
//! chosen check is in at least one of them, and each part has whatever its checks need.
//!
//! ```text
//! 2/3: [lint 4 s, build 60 s, unit (needs build) 30 s, docs 20 s] -> part 2 has docs and lint
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::plan::CheckSelection;
use xtask_base::digest;
use xtask_config::ValidateConfig;

/// The time of a check of which nothing is known, in milliseconds, where nothing is known of any.
const DEFAULT_TIME_MS: u64 = 1000;

/// The most parts: more machines than any CI service starts for one job's matrix (GitHub: 256).
pub(crate) const MAX_SHARDS: usize = 256;

/// One part of a run, for example `2/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, counted from 1.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
}

impl Shard {
    /// Parses `I/N` with 1 ≤ I ≤ N ≤ 256.
    #[must_use]
    pub fn parse(text: &str) -> Option<Shard> {
        let (index, count) = text.split_once('/')?;
        let number = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { text.parse::<usize>().ok() } else { None }
        };
        let (index, count) = (number(index)?, number(count)?);
        ((1..=count).contains(&index) && count <= MAX_SHARDS).then_some(Shard { index, count })
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// What the report of a part says of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    pub index: usize,
    pub count: usize,
    /// The fingerprint of the plan.
    pub plan: String,
    /// The checks of the run that only other parts have.
    pub elsewhere: Vec<String>,
}

/// The parts of a run: which checks each has, as indices into the checks of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPlan {
    /// The checks of each part, needs and gates among them.
    pub parts: Vec<BTreeSet<usize>>,
    /// Stands for the checks, their times and the number of parts; reports of one run have the same.
    pub fingerprint: String,
}

/// Cuts the chosen checks into `count` parts of about equal time. `times` has the time of checks by name, in
/// milliseconds; a check without one counts as the median of the others.
///
/// The longest checks are dealt out first, each to the part that has the least to do then (Graham's rule, at most 4/3
/// of the best there is). What a check needs comes along to its part, and checks of phases that are gates are in every
/// part, because what comes after a gate relies on it.
#[must_use]
pub fn plan_shards(
    config: &ValidateConfig,
    selection: &[CheckSelection],
    times: &BTreeMap<String, u64>,
    count: usize,
) -> ShardPlan {
    let is_chosen = |at: &usize| {
        matches!(selection.get(*at), Some(CheckSelection::Yes | CheckSelection::For(_)))
    };
    let chosen: Vec<usize> = (0..config.checks.len()).filter(is_chosen).collect();
    let mut known: Vec<u64> = times.values().copied().collect();
    known.sort_unstable();
    let usual = known.get(known.len() / 2).copied().unwrap_or(DEFAULT_TIME_MS);
    let time = |at: usize| times.get(&config.checks[at].name).copied().unwrap_or(usual).max(1);
    let is_gate = |at: &usize| config.phases[config.checks[*at].phase].is_gate;
    let with_needs = |at: usize| {
        let mut all = BTreeSet::new();
        let mut open = vec![at];
        while let Some(at) = open.pop() {
            if is_chosen(&at) && all.insert(at) {
                open.extend(&config.checks[at].needs);
            }
        }
        all
    };
    let gates: BTreeSet<usize> =
        chosen.iter().copied().filter(is_gate).flat_map(with_needs).collect();
    let mut parts = vec![gates.clone(); count];
    let mut loads = vec![0_u64; count];
    // What another check needs comes along with that one.
    let needed: BTreeSet<usize> =
        chosen.iter().flat_map(|at| config.checks[*at].needs.iter().copied()).collect();
    let mut dealt: Vec<usize> =
        chosen.into_iter().filter(|at| !gates.contains(at) && !needed.contains(at)).collect();
    let total = |at: usize| with_needs(at).into_iter().map(time).sum::<u64>();
    dealt.sort_by_key(|at| (std::cmp::Reverse(total(*at)), &config.checks[*at].name));
    for at in &dealt {
        let all = with_needs(*at);
        let added = |part: usize| -> u64 {
            all.iter().filter(|at| !parts[part].contains(at)).map(|at| time(*at)).sum()
        };
        let Some(part) = (0..count).min_by_key(|part| loads[*part] + added(*part)) else { break };
        loads[part] += added(part);
        parts[part].extend(all);
    }
    let mut words: Vec<Vec<u8>> = vec![count.to_string().into_bytes()];
    for part in &parts {
        words.push(b"part".to_vec());
        words.extend(part.iter().map(|at| config.checks[*at].name.clone().into_bytes()));
    }
    let digest = digest::hash_parts(words.iter().map(Vec::as_slice));
    ShardPlan { parts, fingerprint: digest::to_hex(&digest[..8]) }
}

/// Takes all checks out of a selection that are not of this part. Returns what the report says of the whole.
pub fn keep_shard(
    config: &ValidateConfig,
    selection: &mut [CheckSelection],
    times: &BTreeMap<String, u64>,
    shard: Shard,
) -> ShardInfo {
    let plan = plan_shards(config, selection, times, shard.count);
    let part = &plan.parts[shard.index - 1];
    let mut elsewhere = Vec::new();
    for (at, chosen) in selection.iter_mut().enumerate() {
        let is_chosen = matches!(chosen, CheckSelection::Yes | CheckSelection::For(_));
        if is_chosen && !part.contains(&at) {
            *chosen = CheckSelection::No(format!("not in shard {shard}"));
            elsewhere.push(config.checks[at].name.clone());
        }
    }
    ShardInfo { index: shard.index, count: shard.count, plan: plan.fingerprint, elsewhere }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{CheckFilter, RunEnvironment, select_checks};

    /// A configuration of checks, each with its phase and what it needs.
    fn config(checks: &[(&str, &str, &[&str])]) -> ValidateConfig {
        let mut text = "[phase.environment]\ngate = true\n[phase.quality]\n".to_owned();
        for (name, phase, needs) in checks {
            let needs: Vec<String> = needs.iter().map(|need| format!("'{need}'")).collect();
            let needs = needs.join(", ");
            text.push_str(&format!(
                "[[check]]\nname = '{name}'\nphase = '{phase}'\nrun = 'x'\nneeds = [{needs}]\n"
            ));
        }
        ValidateConfig::parse("test", &text).unwrap()
    }

    fn plan(config: &ValidateConfig, times: &[(&str, u64)], count: usize) -> ShardPlan {
        let here = RunEnvironment { system: "linux", is_ci: true };
        let chosen = select_checks(config, &CheckFilter::default(), here).unwrap();
        let times = times.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect();
        plan_shards(config, &chosen, &times, count)
    }

    #[test]
    fn only_a_part_of_a_whole_is_parsed() {
        assert_eq!(Shard::parse("2/3"), Some(Shard { index: 2, count: 3 }));
        for text in ["0/3", "4/3", "1/0", "1", "a/b", "+1/2", "1/257", "-1/2", " 1/2", "1/2/3"] {
            assert_eq!(Shard::parse(text), None, "{text}");
        }
    }

    #[test]
    fn parts_have_equal_times_and_what_they_need() {
        let config = config(&[
            ("python", "environment", &[]),
            ("build", "quality", &[]),
            ("unit", "quality", &["build"]),
            ("docs", "quality", &[]),
            ("lint", "quality", &[]),
        ]);
        let times = [
            ("python", 10),
            ("build", 60_000),
            ("unit", 30_000),
            ("docs", 20_000),
            ("lint", 4_000),
        ];
        let two = plan(&config, &times, 2);
        assert_eq!(two.parts, [BTreeSet::from([0, 1, 2]), BTreeSet::from([0, 3, 4])]);
        // Without times every check counts alike.
        assert_eq!(plan(&config, &[], 3).parts.len(), 3);
        assert_ne!(two.fingerprint, plan(&config, &times, 3).fingerprint);
        assert_eq!(plan(&config, &times, 1).parts, [BTreeSet::from([0, 1, 2, 3, 4])]);
    }

    #[test]
    fn every_check_is_in_a_part_with_its_needs() {
        let names: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
        for seed in 1..50_u64 {
            let mut state = seed;
            let mut next = |below: u64| {
                // Knuth's MMIX generator.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let count = next(40) as usize + 1;
            let needs: Vec<Vec<&str>> = (0..count)
                .map(|at| {
                    (0..next(3))
                        .filter(|_| at > 0)
                        .map(|_| names[next(at as u64) as usize].as_str())
                        .collect()
                })
                .collect();
            let checks: Vec<(&str, &str, &[&str])> = (0..count)
                .map(|at| (names[at].as_str(), "quality", needs[at].as_slice()))
                .collect();
            let config = config(&checks);
            let times: Vec<(&str, u64)> =
                names.iter().take(count).map(|name| (name.as_str(), next(100_000))).collect();
            let shards = next(6) as usize + 1;
            let plan = plan(&config, &times, shards);
            assert_eq!(plan.parts.len(), shards);
            let all: BTreeSet<usize> = plan.parts.iter().flatten().copied().collect();
            assert_eq!(all, (0..count).collect(), "seed {seed}");
            for part in &plan.parts {
                for at in part {
                    assert!(config.checks[*at].needs.iter().all(|need| part.contains(need)));
                }
            }
        }
    }
}
