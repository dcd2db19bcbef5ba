//! The order of a deploy, and what becomes of one that was cut short, as data. It is pure.
//!
//! Up to `BackUp` nothing that serves was touched, and the new release is forgotten. From `Point` on the
//! release before comes back. What was being watched is watched again. What was verified stays.

use serde::{Deserialize, Serialize};

use xtask_base::words::join_names;
use xtask_config::{CandidateMode, DeployConfig, DeployEngine, Layer, Service, StepMoment};

/// How many services are named in a line.
const MAX_SHOWN: usize = 5;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployAction {
    /// A new release.
    Deploy,
    /// One that is there already.
    Rollback,
}

impl DeployAction {
    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeployAction::Deploy => "deploy",
            DeployAction::Rollback => "rollback",
        }
    }
}

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipelineStep {
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
pub enum StepRecovery {
    /// The new release is forgotten; what serves was not touched.
    Discard,
    /// The release before comes back.
    GoBack,
    /// It is watched again, and then finished or taken back.
    WatchAgain,
    /// It was verified: the rest is done.
    Finish,
}

/// The steps of a run, in order.
#[must_use]
pub fn pipeline_steps(doing: DeployAction) -> &'static [PipelineStep] {
    match doing {
        DeployAction::Deploy => &[
            PipelineStep::Before,
            PipelineStep::Build,
            PipelineStep::Release,
            PipelineStep::Try,
            PipelineStep::BackUp,
            PipelineStep::Point,
            PipelineStep::ChangeOver,
            PipelineStep::Watch,
            PipelineStep::Record,
            PipelineStep::After,
            PipelineStep::Prune,
        ],
        DeployAction::Rollback => &[
            PipelineStep::Point,
            PipelineStep::ChangeOver,
            PipelineStep::Watch,
            PipelineStep::Record,
        ],
    }
}

/// What becomes of a run that was cut short within this step.
#[must_use]
pub fn choose_recovery(step: PipelineStep) -> StepRecovery {
    match step {
        PipelineStep::Before
        | PipelineStep::Build
        | PipelineStep::Release
        | PipelineStep::Try
        | PipelineStep::BackUp => StepRecovery::Discard,
        PipelineStep::Point | PipelineStep::ChangeOver | PipelineStep::GoBack => {
            StepRecovery::GoBack
        }
        PipelineStep::Watch => StepRecovery::WatchAgain,
        PipelineStep::Record | PipelineStep::After | PipelineStep::Prune => StepRecovery::Finish,
    }
}

/// The plan in words, a line for each step that does something.
#[must_use]
pub fn render_plan(
    doing: DeployAction,
    layer: &Layer,
    deploy: &DeployConfig,
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
    if doing == DeployAction::Deploy {
        lines.push("all checks of `validate` must pass".to_owned());
    }
    for step in pipeline_steps(doing) {
        match step {
            PipelineStep::Before => lines.extend(commands(StepMoment::Before)),
            PipelineStep::Build => {
                lines.push(format!("lay out the commit as release {new}"));
                lines.extend(commands(StepMoment::Build));
                lines.push("seal it with a manifest".to_owned());
                if deploy.engine == DeployEngine::Ssh {
                    lines.push("send it; all that follows happens on the host".to_owned());
                }
            }
            PipelineStep::Release => lines.extend(commands(StepMoment::Release)),
            PipelineStep::Try => lines.push(match deploy.engine {
                DeployEngine::Directory | DeployEngine::Ssh => {
                    let stand = names(&|service| service.candidate == CandidateMode::Serving);
                    let besides = match (old, stand.is_empty()) {
                        (Some(_), false) => {
                            format!("; {} stays the one that serves", join_names(&stand, MAX_SHOWN))
                        }
                        _ => String::new(),
                    };
                    format!("start it on spare ports, until it is ready{besides}")
                }
                DeployEngine::Compose => "build and pull its images".to_owned(),
                DeployEngine::Kubernetes => "have the cluster check its manifests".to_owned(),
            }),
            PipelineStep::BackUp => {
                let saved = names(&|service| service.backup.is_some());
                if old.is_some() && !saved.is_empty() {
                    lines.push(format!("back up {}", join_names(&saved, MAX_SHOWN)));
                }
            }
            PipelineStep::Point => lines.push(format!("point `current` to {new}")),
            PipelineStep::ChangeOver => lines.push(match old {
                Some(old) if old != new => format!("end {old}, serve {new}"),
                _ => format!("serve {new}"),
            }),
            PipelineStep::Watch => {
                let back = match old {
                    Some(old) if old != new => format!("; back to {old} if it fails"),
                    _ => "; if it fails, nothing serves".to_owned(),
                };
                lines.push(format!("watch it for {:?}{back}", deploy.watch));
            }
            PipelineStep::GoBack | PipelineStep::Record => {}
            PipelineStep::After => lines.extend(commands(StepMoment::After)),
            PipelineStep::Prune => {
                lines.push(format!("keep the newest {} verified releases", deploy.keep))
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serves_comes_back_from_the_first_step_that_touches_it_until_it_was_verified() {
        let ways: Vec<StepRecovery> = pipeline_steps(DeployAction::Deploy)
            .iter()
            .map(|step| choose_recovery(*step))
            .collect();
        let expected = [
            StepRecovery::Discard,
            StepRecovery::Discard,
            StepRecovery::Discard,
            StepRecovery::Discard,
            StepRecovery::Discard,
            StepRecovery::GoBack,
            StepRecovery::GoBack,
            StepRecovery::WatchAgain,
            StepRecovery::Finish,
            StepRecovery::Finish,
            StepRecovery::Finish,
        ];
        assert_eq!(ways, expected);
        // A rollback has no way out that forgets a release that was there before.
        let mut ways =
            pipeline_steps(DeployAction::Rollback).iter().map(|step| choose_recovery(*step));
        assert!(ways.all(|way| way != StepRecovery::Discard));
    }
}
