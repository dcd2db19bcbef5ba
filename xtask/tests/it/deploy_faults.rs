//! Deploys that fail and crash at every step, and at random: afterwards one whole, verified release serves,
//! and the history says which.
//!
//! XTASK_DEPLOY_SEED plays random faults again.

use std::time::Duration;

use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_base::files::{Disk, DiskOperation};
use xtask_base::signals::Interrupts;
use xtask_config::Layer;
use xtask_deploy::DeployContext;
use xtask_deploy::directory::DirectoryEngine;
use xtask_deploy::engine;
use xtask_deploy::executor::{self, DeployRequest, ReleaseSource};
use xtask_deploy::pipeline::DeployAction;
use xtask_deploy::rollback;
use xtask_deploy::target::DeployTarget;
use xtask_git::Repo;

use crate::crash::{Fault, on_faulty_disk, world};
use crate::deploy::Site;
use crate::testkit::{Lab, circle};
use crate::wrong_hits::start;

/// What is run against the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Deploy,
    Rollback,
    /// Only what the next command does first.
    Recover,
}

/// Does it with a fault at step `at`; says which steps there were.
fn with_fault(
    site: &Site<'_>,
    work: Work,
    fault: Fault,
    at: usize,
) -> (Result<()>, Vec<DiskOperation>) {
    // The clock of the other tests stands still.
    let world = Environment { clock: real_clock, ..world(&site.repo) };
    on_faulty_disk(fault, at, |disk| work_with(site, work, disk, &world))
}

pub fn real_clock() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "it plays a run of the program")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap()
}

fn work_with(site: &Site<'_>, work: Work, disk: &Disk<'_>, world: &Environment) -> Result<()> {
    let repo = Repo::discover(site.repo.dir.as_std_path()).unwrap();
    let text = site.repo.read("deployment/prod.toml");
    let layer = Layer::load("prod", &|_| Ok(Some(text.clone())), &[]).unwrap();
    let config = layer.deploy.clone().unwrap();
    let target = DeployTarget { root: site.target(), layer: "prod".to_owned() };
    let none = Interrupts::without_handlers();
    let ready_within = Duration::from_secs(20);
    let around =
        DeployContext { world, disk, interrupts: &none, tell: &|_| {}, by: "ada", ready_within };
    let engine = DirectoryEngine { target: &target, layer: &layer, ctx: around };
    let all = engine::EngineContext {
        target: &target,
        engine: &engine,
        uninterruptible: &engine,
        ctx: around,
    };
    let (_lock, _) = executor::lock_and_recover(&all, DeployAction::Deploy)?;
    match work {
        Work::Recover => Ok(()),
        Work::Rollback => {
            let release = rollback::choose_rollback(&target, None)?;
            executor::rollback_to(&all, &release, config.watch).map(drop)
        }
        Work::Deploy => {
            let commit = repo.head()?.commit;
            let watch = config.watch;
            let source = ReleaseSource::Commit(&repo, commit);
            let order = DeployRequest { source, layer: &layer, deploy: &config, watch };
            executor::deploy_release(&all, &order).map(drop)
        }
    }
}

/// The next command, which nothing disturbs.
fn recover(site: &Site<'_>) {
    // A process that another test has just forked holds our lock until it becomes another program.
    for _ in 0..1000 {
        match with_fault(site, Work::Recover, Fault::Fails, usize::MAX).0 {
            Err(refusal) if refusal.message().contains("another run is in progress") => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done.unwrap(),
        }
    }
    panic!("the lock is never free");
}

/// That what serves is one of these.
#[track_caller]
fn check(site: &Site<'_>, versions: &[&str], told: &str) {
    assert!(!site.target().join("journal").exists(), "{told}: a run is under way");
    let says = site.says().unwrap_or_default();
    assert!(versions.contains(&says.as_str()), "{told}: `{says}` serves, of {versions:?}");
    site.serves(&says);
}

/// Every fault of a kind at every step of a deploy.
fn at_every_step(fault: Fault) {
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.deploy().success();
    site.version("calm well");
    let (done, all) = with_fault(&site, Work::Deploy, fault, usize::MAX);
    done.unwrap();
    assert!(all.len() > 40, "it has many steps: {all:?}");
    let mut serving = "calm".to_owned();
    for at in circle::steps(&all) {
        let next = format!("n{at}");
        site.version(&format!("{next} well"));
        let (done, steps) = with_fault(&site, Work::Deploy, fault, at);
        let told = format!("{fault:?} at {at}: {done:?}");
        assert!(done.is_ok() || steps.len() > at, "{told}: it was not the fault that stopped it");
        // A failure is answered at once; after a crash the next command does it.
        let is_open = site.target().join("journal").exists();
        assert!(!is_open || done.is_err(), "{told}");
        if fault == Fault::Crash || is_open {
            recover(&site);
        }
        check(&site, &[&serving, &next], &told);
        if fault == Fault::Fails && done.is_ok() {
            assert_eq!(site.says().as_deref(), Some(next.as_str()), "{told}");
        }
        serving = site.says().unwrap();
        if steps.len() <= at {
            done.unwrap();
        }
    }
}

#[test]
fn failed_deploy_step_leaves_a_verified_release_serving() {
    at_every_step(Fault::Fails);
}

#[test]
fn deploy_crashed_at_any_step_is_recovered_by_next_command() {
    at_every_step(Fault::Crash);
}

fn variable(name: &str) -> Option<String> {
    std::env::vars().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Numbers that look random, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn one_verified_release_serves_after_random_faults() {
    let rounds = circle::either(6, 200);
    let now = u64::try_from(real_clock().as_nanos() % 1_000_000_007).unwrap();
    let seed = variable("XTASK_DEPLOY_SEED").map_or(now, |number| number.parse().unwrap());
    let mut chance = Chance(seed);
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.deploy().success();
    let mut good = vec!["v1".to_owned()];
    for round in 0..rounds {
        let version = format!("r{round}");
        let how = ["well", "well", "broken", "dies"][usize::try_from(chance.below(4)).unwrap()];
        let work = if chance.below(5) == 0 { Work::Rollback } else { Work::Deploy };
        let fault = if chance.below(2) == 0 { Fault::Fails } else { Fault::Crash };
        let at = usize::try_from(chance.below(200)).unwrap();
        let is_killed = chance.below(3) == 0;
        let told = format!(
            "seed {seed}, round {round}: {work:?} of {how}, {fault:?} at {at}, killed: {is_killed}"
        );
        site.version(&format!("{version} {how}"));
        if how == "well" {
            good.push(version);
        }
        if is_killed {
            let word = if work == Work::Deploy { "deploy" } else { "rollback" };
            let mut child = start(&site.repo, &[word, "prod", "--yes"]);
            std::thread::sleep(Duration::from_millis(chance.below(900)));
            drop(child.kill());
            child.wait().unwrap();
        } else {
            drop(with_fault(&site, work, fault, at));
        }
        // What comes next can be cut short as well.
        for _ in 0..chance.below(3) {
            let at = usize::try_from(chance.below(30)).unwrap();
            drop(with_fault(&site, Work::Recover, fault, at));
        }
        recover(&site);
        let versions: Vec<&str> = good.iter().map(String::as_str).collect();
        check(&site, &versions, &told);
    }
}
