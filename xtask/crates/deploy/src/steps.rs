//! The order of a deploy, and what becomes of one that was cut short, as data. It is pure.
//!
//! Up to `BackUp` nothing that serves was touched, and the new release is forgotten. From `Point` on the
//! release before comes back. What was being watched is watched again. What was verified stays.

use serde::{Deserialize, Serialize};

use xtask_base::words::some_of;
use xtask_config::{Candidate, Deploy, DeployEngine, Layer, Service, StepMoment};

/// How many services are named in a line.
const SHOWN: usize = 5;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// A new release.
    Deploy,
    /// One that is there already.
    Rollback,
}

impl Doing {
    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Doing::Deploy => "deploy",
            Doing::Rollback => "rollback",
        }
    }
}

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The commands in the worktree.
    Before,
    /// Lay the commit out, run the build commands, seal the release.
    Build,
    /// The commands in the sealed release.
    Release,
    /// Start it on spare ports; it must become ready, and is ended again.
    Try,
    /// Save the state of what serves, where a service says how.
    BackUp,
    /// Point `current` to it.
    Point,
    /// End what serves, and serve it.
    ChangeOver,
    /// Watch it.
    Watch,
    /// Give its place back to the release before.
    GoBack,
    /// Write it into the history.
    Record,
    /// The commands after it was verified.
    After,
    /// Remove old releases.
    Prune,
}

/// What becomes of a run that was cut short within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// The new release is forgotten; what serves was not touched.
    Forget,
    /// The release before comes back.
    GoBack,
    /// It is watched again, and then finished or taken back.
    WatchAgain,
    /// It was verified: the rest is done.
    Finish,
}

/// The steps of a run, in order.
#[must_use]
pub fn steps(doing: Doing) -> &'static [Step] {
    match doing {
        Doing::Deploy => &[
            Step::Before,
            Step::Build,
            Step::Release,
            Step::Try,
            Step::BackUp,
            Step::Point,
            Step::ChangeOver,
            Step::Watch,
            Step::Record,
            Step::After,
            Step::Prune,
        ],
        Doing::Rollback => &[Step::Point, Step::ChangeOver, Step::Watch, Step::Record],
    }
}

/// What becomes of a run that was cut short within this step.
#[must_use]
pub fn way_out(step: Step) -> WayOut {
    match step {
        Step::Before | Step::Build | Step::Release | Step::Try | Step::BackUp => WayOut::Forget,
        Step::Point | Step::ChangeOver | Step::GoBack => WayOut::GoBack,
        Step::Watch => WayOut::WatchAgain,
        Step::Record | Step::After | Step::Prune => WayOut::Finish,
    }
}

/// The plan in words, a line for each step that does something.
#[must_use]
pub fn plan(
    doing: Doing,
    layer: &Layer,
    deploy: &Deploy,
    new: &str,
    old: Option<&str>,
) -> Vec<String> {
    let names = |is: &dyn Fn(&Service) -> bool| {
        let services = layer.services.iter().filter(|service| is(service));
        services.map(|service| service.name.clone()).collect::<Vec<_>>()
    };
    let commands = |moment| {
        let steps = deploy.steps.iter().filter(move |step| step.at == moment);
        steps.map(move |step| format!("{}: {}", moment.name(), step.run.text))
    };
    let mut lines = Vec::new();
    if doing == Doing::Deploy {
        lines.push("all checks of `validate` must pass".to_owned());
    }
    for step in steps(doing) {
        match step {
            Step::Before => lines.extend(commands(StepMoment::Before)),
            Step::Build => {
                lines.push(format!("lay out the commit as release {new}"));
                lines.extend(commands(StepMoment::Build));
                lines.push("seal it with a manifest".to_owned());
                if deploy.engine == DeployEngine::Ssh {
                    lines.push("send it; all that follows happens on the host".to_owned());
                }
            }
            Step::Release => lines.extend(commands(StepMoment::Release)),
            Step::Try => lines.push(match deploy.engine {
                DeployEngine::Directory | DeployEngine::Ssh => {
                    let stand = names(&|service| service.candidate == Candidate::Serving);
                    let besides = match (old, stand.is_empty()) {
                        (Some(_), false) => {
                            format!("; {} stays the one that serves", some_of(&stand, SHOWN))
                        }
                        _ => String::new(),
                    };
                    format!("start it on spare ports, until it is ready{besides}")
                }
                DeployEngine::Compose => "build and pull its images".to_owned(),
                DeployEngine::Kubernetes => "have the cluster check its manifests".to_owned(),
            }),
            Step::BackUp => {
                let saved = names(&|service| service.backup.is_some());
                if old.is_some() && !saved.is_empty() {
                    lines.push(format!("back up {}", some_of(&saved, SHOWN)));
                }
            }
            Step::Point => lines.push(format!("point `current` to {new}")),
            Step::ChangeOver => lines.push(match old {
                Some(old) if old != new => format!("end {old}, serve {new}"),
                _ => format!("serve {new}"),
            }),
            Step::Watch => {
                let back = match old {
                    Some(old) if old != new => format!("; back to {old} if it fails"),
                    _ => "; if it fails, nothing serves".to_owned(),
                };
                lines.push(format!("watch it for {:?}{back}", deploy.watch));
            }
            Step::GoBack | Step::Record => {}
            Step::After => lines.extend(commands(StepMoment::After)),
            Step::Prune => lines.push(format!("keep the newest {} verified releases", deploy.keep)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serves_comes_back_from_the_first_step_that_touches_it_until_it_was_verified() {
        let ways: Vec<WayOut> = steps(Doing::Deploy).iter().map(|step| way_out(*step)).collect();
        let expected = [
            WayOut::Forget,
            WayOut::Forget,
            WayOut::Forget,
            WayOut::Forget,
            WayOut::Forget,
            WayOut::GoBack,
            WayOut::GoBack,
            WayOut::WatchAgain,
            WayOut::Finish,
            WayOut::Finish,
            WayOut::Finish,
        ];
        assert_eq!(ways, expected);
        // A rollback has no way out that forgets a release that was there before.
        let mut ways = steps(Doing::Rollback).iter().map(|step| way_out(*step));
        assert!(ways.all(|way| way != WayOut::Forget));
    }
}
