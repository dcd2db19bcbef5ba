//! The workflows of a layer on another host: the local gates and the build run here, the rest is requested from the
//! program on the host.
//!
//! A plan writes nothing on the host, and the program is only sent for a real run. Gates that only the program can
//! check are reported as not checked until it is there. For example:
//!
//! ```text
//! ok  ports      not checked: the program is not on the host yet; a deploy sends it
//! ```

use super::deployment::LayerDeployment;
use super::gates::{self, Gate, GateContext};
use super::history::{self, CurrentReleases};
use super::last_known_state::{self, LastKnownState};
use super::local_gates::{check_local_gates, check_tools, compute_needed_bytes};
use super::release::Release;
use super::remote::{LocalBuild, RemoteDeploy};
use super::report::{DeployPlanReport, DeployRunReport};
use super::required_variables::find_missing_variables;
use super::rollback;
use super::ssh::{HostHandshake, SshHost, program_digest, program_name};
use super::target::TargetOwnership;
use super::target_gates::check_free_bytes;
use super::to_millis;
use super::wire_protocol::{HostCommand, HostResponse, TargetInspection, Verification};
use super::workflow::{DeployRunOptions, DeployWorkflow, never_deployed_error};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_git::Id;

/// The text of a gate that only the program on the host can check.
const NOT_CHECKED: &str = "not checked: the program is not on the host yet; a deploy sends it";

/// A host, its handshake, and the program on it.
struct ConnectedHost<'a> {
    flow: &'a DeployWorkflow<'a>,
    remote: RemoteDeploy<'a>,
    handshake: HostHandshake,
    /// The file name of this program on the host.
    program: String,
    /// Whether the host has that program.
    has_program: bool,
}

/// What is known before a deploy: of this checkout, and of the host as far as it can be asked.
struct DeploySurvey {
    commit: Id,
    /// Name of the new release.
    release: String,
    local_gates: Vec<Gate>,
    /// Required disk space, in bytes.
    needed: u64,
    /// Required variables that are not set here.
    missing: Vec<String>,
    /// What the program on the host has found, if it is there.
    inspection: Option<TargetInspection>,
}

impl<'a> ConnectedHost<'a> {
    fn connect_host(flow: &'a DeployWorkflow<'a>) -> Result<ConnectedHost<'a>> {
        let LayerDeployment { layer, deploy, target, layer_texts: files, .. } = flow.place;
        let host = SshHost::for_deploy(deploy, flow.ctx.world);
        let handshake = host.read_handshake(target)?;
        let program = program_name(&program_digest(flow.ctx.world)?);
        let has_program = handshake.programs.contains(&program);
        let remote = RemoteDeploy { host, target, layer, deploy, files, ctx: flow.ctx };
        Ok(ConnectedHost { flow, remote, handshake, program, has_program })
    }

    fn check_ownership(&self) -> Result<TargetOwnership> {
        self.handshake.check_ownership(self.remote.target)
    }

    fn send_program(&mut self) -> Result<()> {
        self.remote.host.send_program(self.remote.target, self.has_program, &self.flow.ctx)?;
        self.has_program = true;
        Ok(())
    }

    /// Sends a request to the program. Its response may contain a failure.
    fn send_command(&self, wanted: HostCommand) -> Result<HostResponse> {
        self.remote.send_command(&self.program, wanted, &|text| self.flow.frontend.warn(text))
    }

    /// Sends a request to the program. A failure in its response is an error.
    fn ask(&self, wanted: HostCommand) -> Result<HostResponse> {
        let mut response = self.send_command(wanted)?;
        match response.failure.take() {
            None => Ok(response),
            Some(failure) => Err(failure.into_error()),
        }
    }

    /// Completes or rolls back an interrupted run on the host.
    fn finish_interrupted(&mut self) -> Result<()> {
        let is_ours = self.check_ownership().is_ok_and(|found| found == TargetOwnership::Ours);
        if !self.handshake.has_journal || !is_ours {
            return Ok(());
        }
        self.send_program()?;
        self.ask(HostCommand::Mend)?;
        // That may have changed the serving release.
        self.handshake = self.remote.host.read_handshake(self.remote.target)?;
        Ok(())
    }

    /// Returns the gates that the program checks on the host; `needed` is the disk space in bytes, `missing` the
    /// unset variables.
    fn inspect_host(&self, needed: u64, missing: Vec<String>) -> Result<TargetInspection> {
        let response = self.ask(HostCommand::Look { needed, missing })?;
        response.looked.ok_or_else(|| Error::unable("the host returned no inspection"))
    }

    fn survey(&self, scene: &GateContext<'_>) -> Result<DeploySurvey> {
        let (needed, missing) = (compute_needed_bytes(scene)?, find_missing_variables(scene)?);
        let inspection = match self.has_program && self.check_ownership().is_ok() {
            true => Some(self.inspect_host(needed, missing.clone())?),
            false => None,
        };
        let local_gates = check_local_gates(scene)?;
        let commit = scene.repo.head()?.commit;
        let taken = inspection.as_ref().map_or(&[][..], |found| &found.taken);
        let is_free = |name: &str| !taken.iter().any(|one| one == name);
        let release = Release::choose_name(commit, scene.ctx.world.now_seconds(), &is_free);
        Ok(DeploySurvey { commit, release, local_gates, needed, missing, inspection })
    }

    /// Returns all gates, those of the target as far as the handshake can tell unless the program has checked them.
    fn list_gates(&self, survey: &DeploySurvey) -> Vec<Gate> {
        let theirs = match &survey.inspection {
            Some(found) => found.gates.clone(),
            None => self.gates_from_handshake(survey.needed, &survey.missing),
        };
        gates::merge_gates(survey.local_gates.clone(), theirs)
    }

    /// Returns the target's gates as far as the handshake can tell.
    fn gates_from_handshake(&self, needed: u64, missing: &[String]) -> Vec<Gate> {
        let deploy = self.remote.deploy;
        let root = &self.remote.target.root;
        let standing = self.check_ownership().and_then(|standing| {
            if !self.handshake.may_write {
                return Err(Error::negative(format!(
                    "permission denied: cannot write to `{}`",
                    root.display()
                )));
            }
            let new = if standing == TargetOwnership::Free { ", new" } else { "" };
            Ok(format!("{}{new}", deploy.to))
        });
        let room = match self.handshake.free_bytes {
            Some(free) => check_free_bytes(root, free, needed),
            None => Ok("not reported by the host".to_owned()),
        };
        let variables = match (missing, deploy.env_required.len()) {
            ([], 0) => "none",
            ([], _) => "all set",
            _ => NOT_CHECKED,
        };
        vec![
            Gate::from_result("variables", Ok(variables.to_owned())),
            Gate::from_result("target", standing),
            Gate::from_result("disk", room),
            Gate::from_result("ports", Ok(NOT_CHECKED.to_owned())),
        ]
    }

    /// Reports how the run ended, and stores the state of the host for `status`.
    fn conclude(&self, ended: HostResponse) -> DeployRunReport {
        let known = self.handshake.history.iter().chain(&ended.run);
        let current = ended.current.as_deref();
        let last = known.rev().find(|entry| Some(entry.release.as_str()) == current);
        let known_state = LastKnownState {
            at: self.flow.ctx.world.now_seconds(),
            to: self.remote.deploy.to.clone(),
            current: ended.current.clone(),
            serves: ended.serves.clone(),
            commit: last.map(|entry| entry.commit.clone()),
            run: ended.run.clone(),
        };
        let (disk, layer) = (self.flow.ctx.disk, &self.remote.layer.name);
        if let Err(failure) =
            last_known_state::write_last_known(disk, self.flow.repo, layer, &known_state)
        {
            self.flow.frontend.warn(&failure.to_string());
        }
        let result = ended.failure.map_or(Ok(()), |failure| Err(failure.into_error()));
        let releases = CurrentReleases { current, serving: ended.serves.as_deref() };
        DeployRunReport::new(layer, result, ended.run, releases)
    }
}

pub(super) fn verify_on_host(flow: &DeployWorkflow<'_>) -> Result<Verification> {
    // If ssh is not installed, our message comes first: it is clearer.
    check_tools(&flow.gate_context())?;
    let there = ConnectedHost::connect_host(flow)?;
    if there.has_program {
        return Ok(there.ask(HostCommand::Verify)?.verified.unwrap_or_default());
    }
    if there.check_ownership()? == TargetOwnership::Free {
        let faults = vec!["nothing is deployed".to_owned()];
        return Ok(Verification { faults, ..Verification::default() });
    }
    let layer = &flow.place.layer.name;
    Err(Error::unable(NOT_CHECKED)
        .with_detail("this program differs from the one that ran the last deploy")
        .with_hint(format!("`cargo xtask history {layer}` works without it")))
}

pub(super) fn plan_on_host(flow: &DeployWorkflow<'_>) -> Result<DeployPlanReport> {
    let there = ConnectedHost::connect_host(flow)?;
    let survey = there.survey(&flow.gate_context())?;
    let gates = there.list_gates(&survey);
    let verified = history::list_verified(&there.handshake.history);
    let old = survey.inspection.map_or(verified, |found| found.kept).into_iter().next();
    Ok(flow.build_plan(survey.commit.to_string(), gates, &survey.release, old.as_deref()))
}

pub(super) fn deploy_on_host(
    flow: &DeployWorkflow<'_>,
    options: &DeployRunOptions,
) -> Result<DeployRunReport> {
    let _held = flow.ctx.interrupts.defer_signals();
    let mut there = ConnectedHost::connect_host(flow)?;
    // An interrupted run is completed even if a gate fails for the new one.
    there.finish_interrupted()?;
    let mut survey = there.survey(&flow.gate_context())?;
    let gates = there.list_gates(&survey);
    if let Err(refusal) = gates::ensure_gates_pass(&gates) {
        return Ok(flow.refused_report(&gates, &there.handshake.history, refusal));
    }
    flow.confirm_deploy(survey.commit, options)?;
    let _lock = there.remote.acquire_staging_lock(flow.repo)?;
    if survey.inspection.is_none() {
        there.send_program()?;
        survey.inspection = Some(there.inspect_host(survey.needed, survey.missing.clone())?);
        let gates = there.list_gates(&survey);
        if let Err(refusal) = gates::ensure_gates_pass(&gates) {
            return Ok(flow.refused_report(&gates, &there.handshake.history, refusal));
        }
    }
    flow.ensure_checkout_is_valid()?;
    let watch = options.watch.unwrap_or(flow.place.deploy.watch);
    let DeploySurvey { commit, release, .. } = survey;
    let build = LocalBuild { repo: flow.repo, commit, name: &release, watch };
    if let Err(failure) = there.remote.build_and_send(&build) {
        let serves = history::current_and_serving(&there.handshake.history).serving;
        let serves = serves.unwrap_or("nothing");
        return Err(failure.with_detail(format!("{serves} serves on the host, as before")));
    }
    let (commit, watch_ms) = (commit.to_string(), to_millis(watch));
    Ok(there.conclude(there.send_command(HostCommand::Deploy { release, commit, watch_ms })?))
}

pub(super) fn rollback_on_host(
    flow: &DeployWorkflow<'_>,
    named: Option<&str>,
    options: &DeployRunOptions,
) -> Result<DeployRunReport> {
    let interrupts = flow.ctx.interrupts;
    let _held = interrupts.defer_signals();
    let mut there = ConnectedHost::connect_host(flow)?;
    if there.check_ownership()? != TargetOwnership::Ours {
        return Err(never_deployed_error(&flow.place.layer.name));
    }
    there.send_program()?;
    there.finish_interrupted()?;
    let found = there.inspect_host(0, Vec::new())?;
    let release = rollback::choose_rollback_name(&found.kept, &there.handshake.history, named)?;
    flow.confirm_rollback(&release, options)?;
    if interrupts.was_interrupted() {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was changed"));
    }
    let watch_ms = to_millis(options.watch.unwrap_or(flow.place.deploy.watch));
    Ok(there.conclude(there.send_command(HostCommand::Rollback { release, watch_ms })?))
}
