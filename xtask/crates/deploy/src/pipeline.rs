//! The steps of a run and the recovery from an interruption in each of them, as pure data.
//!
//! Up to `BackUp` the running release is untouched, and the new one is discarded. From `Point` on the run is
//! rolled back. An interrupted watch is repeated. A verified release stays. For example:
//!
//! ```text
//! Before Build Release Try BackUp | Point ChangeOver | Watch      | Record After Prune
//!            Discard              |      GoBack      | WatchAgain |       Finish
//! ```

use serde::{Deserialize, Serialize};

use xtask_base::words::join_names;
use xtask_config::{CandidateMode, DeployConfig, DeployEngine, Layer, Service, StepMoment};

/// Number of services that a line of the plan lists.
const MAX_SHOWN: usize = 5;

/// Kind of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployAction {
    /// Build a new release and serve it.
    Deploy,
    /// Serve an existing release.
    Rollback,
}

impl DeployAction {
    /// Returns the name of the subcommand.
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
    /// Run the `before` commands in the worktree.
    Before,
    /// Export the commit, run the `build` commands, seal the release.
    Build,
    /// Run the `release` commands in the sealed release.
    Release,
    /// Start a candidate on spare ports, wait until it is ready, and stop it.
    Try,
    /// Run the `backup` commands of the running release.
    BackUp,
    /// Point `current` to the release.
    Point,
    /// Stop the running release and start the new one.
    ChangeOver,
    /// Watch the health of the new release.
    Watch,
    /// Roll back to the release before.
    GoBack,
    /// Append the run to the history.
    Record,
    /// Run the `after` commands, once the release is verified.
    After,
    /// Remove old releases and backups.
    Prune,
}

/// Recovery of a run that was interrupted within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepRecovery {
    /// Remove the new release; the running one was not touched.
    Discard,
    /// Roll back to the release before.
    GoBack,
    /// Repeat the watch, then finish or roll back.
    WatchAgain,
    /// Record the verified release.
    Finish,
}

/// Returns the steps of a run, in order.
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

/// Returns the recovery of a run that was interrupted within `step`.
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

/// Returns the plan of a run as text, one line per effective step, e.g. ``point `current` to NAME``.
#[must_use]
pub fn render_plan(
    doing: DeployAction,
    layer: &Layer,
    deploy: &DeployConfig,
    new: &str,
    old: Option<&str>,
) -> Vec<String> {
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
                lines.push(format!("export the commit as release {new}"));
                lines.extend(commands(StepMoment::Build));
                lines.push("seal it with a manifest".to_owned());
                if deploy.engine == DeployEngine::Ssh {
                    lines.push("send it; all further steps run on the host".to_owned());
                }
            }
            PipelineStep::Release => lines.extend(commands(StepMoment::Release)),
            PipelineStep::Try => lines.push(render_trial(layer, deploy, old)),
            PipelineStep::BackUp => {
                let saved = list_services(layer, |service| service.backup.is_some());
                if old.is_some() && !saved.is_empty() {
                    lines.push(format!("back up {}", join_names(&saved, MAX_SHOWN)));
                }
            }
            PipelineStep::Point => lines.push(format!("point `current` to {new}")),
            PipelineStep::ChangeOver => lines.push(match old {
                Some(old) if old != new => format!("stop {old}, start {new}"),
                _ => format!("start {new}"),
            }),
            PipelineStep::Watch => {
                let back = match old {
                    Some(old) if old != new => format!("; roll back to {old} if it fails"),
                    _ => "; no rollback: there is no earlier release".to_owned(),
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

fn render_trial(layer: &Layer, deploy: &DeployConfig, old: Option<&str>) -> String {
    match deploy.engine {
        DeployEngine::Directory | DeployEngine::Ssh => {
            let used = list_services(layer, |one| one.candidate == CandidateMode::Serving);
            let besides = match (old, used.is_empty()) {
                (Some(_), false) => {
                    format!("; it uses the running {}", join_names(&used, MAX_SHOWN))
                }
                _ => String::new(),
            };
            format!("start it on spare ports, until it is ready{besides}")
        }
        DeployEngine::Compose => "build and pull its images".to_owned(),
        DeployEngine::Kubernetes => "have the cluster check its manifests".to_owned(),
    }
}

fn list_services(layer: &Layer, is_listed: impl Fn(&Service) -> bool) -> Vec<String> {
    let services = layer.services.iter().filter(|service| is_listed(service));
    services.map(|service| service.name.clone()).collect()
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
