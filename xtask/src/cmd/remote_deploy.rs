//! `deploy` and `rollback` of a layer on another host: the local gates and the build run here, the rest is requested
//! from the program on the host.
//!
//! A dry run writes nothing on the host, and the program is only sent for a real run. Gates that only the program can
//! check are reported as not checked until it is there. For example:
//!
//! ```text
//! ok  ports      not checked: the program is not on the host yet; a deploy sends it
//! ```

use super::deploy_target::LayerDeployment;
use super::session::Session;
use super::{CommandResult, SUCCESS, checks, stack};
use crate::cli::{DeployArgs, RollbackArgs};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_deploy::DeployContext;
use xtask_deploy::gates::{self, Gate, GateContext};
use xtask_deploy::history::{self, CurrentReleases};
use xtask_deploy::last_known_state::{self, LastKnownState};
use xtask_deploy::local_gates::{check_local_gates, check_tools, compute_needed_bytes};
use xtask_deploy::pipeline::{DeployAction, render_plan};
use xtask_deploy::release::Release;
use xtask_deploy::remote::{LocalBuild, RemoteDeploy};
use xtask_deploy::required_variables::find_missing_variables;
use xtask_deploy::rollback;
use xtask_deploy::ssh::{HostHandshake, SshHost, program_digest, program_name};
use xtask_deploy::target::TargetOwnership;
use xtask_deploy::target_gates::check_free_bytes;
use xtask_deploy::wire_protocol::{HostCommand, HostResponse, TargetInspection};
use xtask_git::Repo;
use xtask_report as report;

/// The text of a gate that only the program on the host can check.
const NOT_CHECKED: &str = "not checked: the program is not on the host yet; a deploy sends it";

/// A host, its handshake, and the program on it.
struct ConnectedHost<'a> {
    deployment: &'a LayerDeployment,
    remote: RemoteDeploy<'a>,
    handshake: HostHandshake,
    /// The file name of this program on the host.
    program: String,
    /// Whether the host has that program.
    has_program: bool,
}

impl<'a> ConnectedHost<'a> {
    fn connect_host(
        session: &'a Session,
        place: &'a LayerDeployment,
        around: DeployContext<'a>,
    ) -> Result<ConnectedHost<'a>> {
        let world = &session.world;
        let host = SshHost::for_deploy(&place.deploy, world);
        let greeting = host.read_handshake(&place.target)?;
        let program = program_name(&program_digest(world)?);
        let has_program = greeting.programs.contains(&program);
        let (target, layer, deploy) = (&place.target, &place.layer, &place.deploy);
        let remote =
            RemoteDeploy { host, target, layer, deploy, files: &place.layer_texts, ctx: around };
        Ok(ConnectedHost { deployment: place, remote, handshake: greeting, program, has_program })
    }

    fn is_own_target(&self) -> bool {
        self.handshake
            .check_ownership(&self.deployment.target)
            .is_ok_and(|standing| standing == TargetOwnership::Ours)
    }

    fn send_program(&mut self) -> Result<()> {
        let (target, around) = (&self.deployment.target, self.remote.ctx);
        self.remote.host.send_program(target, self.has_program, &around)?;
        self.has_program = true;
        Ok(())
    }

    /// Sends a request to the program; its warnings are printed here.
    fn run_order(&self, wanted: HostCommand) -> Result<HostResponse> {
        self.remote.send_command(&self.program, wanted, &report::print_warning)
    }

    /// Completes or rolls back an interrupted run on the host.
    fn finish_interrupted(&mut self) -> Result<()> {
        if !self.handshake.has_journal || !self.is_own_target() {
            return Ok(());
        }
        self.send_program()?;
        let ended = self.run_order(HostCommand::Mend)?;
        if let Some(failure) = ended.failure {
            return Err(failure.into_error());
        }
        // That may have changed the serving release.
        self.handshake = self.remote.host.read_handshake(&self.deployment.target)?;
        Ok(())
    }

    /// Returns the gates that the program checks on the host; `needed` is the disk space in bytes, `missing` the
    /// unset variables.
    fn inspect_host(&self, needed: u64, missing: Vec<String>) -> Result<TargetInspection> {
        let ended = self.run_order(HostCommand::Look { needed, missing })?;
        if let Some(failure) = ended.failure {
            return Err(failure.into_error());
        }
        ended.looked.ok_or_else(|| Error::unable("the host returned no inspection"))
    }

    /// Returns the target's gates as far as the handshake can tell.
    fn gates_from_handshake(&self, needed: u64, missing: &[String]) -> Vec<Gate> {
        let root = &self.deployment.target.root;
        let standing =
            self.handshake.check_ownership(&self.deployment.target).and_then(|standing| {
                if !self.handshake.may_write {
                    return Err(Error::negative(format!(
                        "permission denied: cannot write to `{}`",
                        root.display()
                    )));
                }
                let new = if standing == TargetOwnership::Free { ", new" } else { "" };
                Ok(format!("{}{new}", self.deployment.deploy.to))
            });
        let room = match self.handshake.free_bytes {
            Some(free) => check_free_bytes(root, free, needed),
            None => Ok("not reported by the host".to_owned()),
        };
        let variables = match (missing, self.deployment.deploy.env_required.len()) {
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

    /// Prints how the run ended, and stores the state of the host for `status`.
    fn print_outcome(
        &self,
        session: &Session,
        repo: &Repo,
        ended: HostResponse,
        json: bool,
    ) -> CommandResult {
        let known = self.handshake.history.iter().chain(&ended.run);
        let current = ended.current.as_deref();
        let last = known.rev().find(|entry| Some(entry.release.as_str()) == current);
        let remembered = LastKnownState {
            at: session.world.now_seconds(),
            to: self.deployment.deploy.to.clone(),
            current: ended.current.clone(),
            serves: ended.serves.clone(),
            commit: last.map(|entry| entry.commit.clone()),
            run: ended.run.clone(),
        };
        let disk = self.remote.ctx.disk;
        if let Err(failure) =
            last_known_state::write_last_known(disk, repo, &self.deployment.layer.name, &remembered)
        {
            report::print_warning(&failure.to_string());
        }
        let result = ended.failure.map_or(Ok(()), |failure| Err(failure.into_error()));
        let standing =
            CurrentReleases { current: ended.current.as_deref(), serving: ended.serves.as_deref() };
        self.deployment.print_run(result, json, ended.run.as_ref(), standing)
    }
}

/// Runs `deploy` for a layer with the engine `ssh`.
pub(super) fn deploy_on_host(
    session: &Session,
    repo: &Repo,
    place: &LayerDeployment,
    args: &DeployArgs,
) -> CommandResult {
    place.with_deploy_context(session, args.timeout, |around| {
        // If ssh is not installed, our message comes first: it is clearer.
        let load = |name: &str| stack::read_layer(repo, name);
        let (layer, target) = (&place.layer, &place.target);
        let scene =
            GateContext { repo, layer, deploy: &place.deploy, target, load: &load, ctx: around };
        let tools = check_tools(&scene);
        if let (Err(failure), true) = (tools, args.verify) {
            return Err(failure);
        }
        if args.verify {
            return verify_on_host(&ConnectedHost::connect_host(session, place, around)?, args);
        }
        run_deploy(session, &scene, place, args)
    })
}

fn verify_on_host(there: &ConnectedHost<'_>, args: &DeployArgs) -> CommandResult {
    if !there.has_program {
        if there.handshake.check_ownership(&there.deployment.target)? == TargetOwnership::Free {
            let faults = vec!["nothing is deployed".to_owned()];
            let found = xtask_deploy::wire_protocol::Verification { faults, ..Default::default() };
            return there.deployment.print_verification(&found, args.json);
        }
        return Err(Error::unable(NOT_CHECKED)
            .with_detail("this program differs from the one that ran the last deploy")
            .with_hint(format!("`cargo xtask history {}` works without it", args.layer)));
    }
    let ended = there.run_order(HostCommand::Verify)?;
    if let Some(failure) = ended.failure {
        return Err(failure.into_error());
    }
    there.deployment.print_verification(&ended.verified.unwrap_or_default(), args.json)
}

fn run_deploy(
    session: &Session,
    scene: &GateContext<'_>,
    place: &LayerDeployment,
    args: &DeployArgs,
) -> CommandResult {
    let repo = scene.repo;
    let tools = session.tools();
    let _held = (!args.dry_run).then(|| tools.interrupts.defer_signals());
    let mut there = ConnectedHost::connect_host(session, place, scene.ctx)?;
    if !args.dry_run {
        // An interrupted run is completed even if a gate fails for the new one.
        there.finish_interrupted()?;
    }
    let (needed, missing) = (compute_needed_bytes(scene)?, find_missing_variables(scene)?);
    let mut looked = None;
    if there.has_program && there.handshake.check_ownership(&place.target).is_ok() {
        looked = Some(there.inspect_host(needed, missing.clone())?);
    }
    let theirs = |looked: &Option<TargetInspection>, there: &ConnectedHost<'_>| match looked {
        Some(looked) => looked.gates.clone(),
        None => there.gates_from_handshake(needed, &missing),
    };
    let here = check_local_gates(scene)?;
    let all = gates::merge_gates(here.clone(), theirs(&looked, &there));
    let head = repo.head()?;
    let taken = looked.as_ref().map_or_else(Vec::new, |looked| looked.taken.clone());
    let now = session.world.now_seconds();
    let name = Release::choose_name(head.commit, now, &|name| !taken.iter().any(|one| one == name));
    if args.dry_run {
        let entries = history::list_verified(&there.handshake.history);
        let old = looked.map_or(entries, |looked| looked.kept).into_iter().next();
        let plan =
            render_plan(DeployAction::Deploy, &place.layer, &place.deploy, &name, old.as_deref());
        return place.print_plan(&all, &plan, &head.commit.to_string(), args.json);
    }
    place.check_gates(&all, args.json, &there.handshake.history)?;
    let what = format!("deploy {} to {}?", repo.short_id(head.commit), place.deploy.to);
    if !place.confirm_by_name(&what, args.yes)? {
        return Err(Error::negative("nothing was deployed"));
    }
    let _lock = there.remote.acquire_staging_lock(repo)?;
    if looked.is_none() {
        there.send_program()?;
        let looked = there.inspect_host(needed, missing)?;
        place.check_gates(
            &gates::merge_gates(here, looked.gates),
            args.json,
            &there.handshake.history,
        )?;
    }
    if checks::run_full_validation(session, "deploy")? != SUCCESS {
        return Err(Error::negative("nothing was deployed: this checkout is not healthy")
            .with_hint("`cargo xtask validate` shows the failed checks"));
    }
    let watch = args.watch.unwrap_or(place.deploy.watch);
    let made = LocalBuild { repo, commit: head.commit, name: &name, watch };
    if let Err(failure) = there.remote.build_and_send(&made) {
        let serves = history::current_and_serving(&there.handshake.history).serving;
        let serves = serves.unwrap_or("nothing");
        return Err(failure.with_detail(format!("{serves} serves on the host, as before")));
    }
    let commit = head.commit.to_string();
    let watch_ms = u64::try_from(watch.as_millis()).unwrap_or(u64::MAX);
    let ended = there.run_order(HostCommand::Deploy { release: name, commit, watch_ms })?;
    there.print_outcome(session, repo, ended, args.json)
}

/// Runs `rollback` for a layer with the engine `ssh`.
pub(super) fn rollback_on_host(
    session: &Session,
    repo: &Repo,
    place: &LayerDeployment,
    args: &RollbackArgs,
) -> CommandResult {
    place.with_deploy_context(session, args.timeout, |around| {
        let tools = session.tools();
        let _held = tools.interrupts.defer_signals();
        let mut there = ConnectedHost::connect_host(session, place, around)?;
        if there.handshake.check_ownership(&place.target)? != TargetOwnership::Ours {
            return Err(Error::negative(format!("layer `{}` was never deployed", args.layer))
                .with_hint(format!("`cargo xtask deploy {}`", args.layer)));
        }
        there.send_program()?;
        there.finish_interrupted()?;
        let looked = there.inspect_host(0, Vec::new())?;
        let entries = &there.handshake.history;
        let release =
            rollback::choose_rollback_name(&looked.kept, entries, args.release.as_deref())?;
        let what = format!("roll layer {} back to {release}?", args.layer);
        if !place.confirm_by_name(&what, args.yes)? {
            return Err(Error::negative("nothing was changed"));
        }
        if tools.interrupts.was_interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was changed"));
        }
        let watch = args.watch.unwrap_or(place.deploy.watch);
        let watch_ms = u64::try_from(watch.as_millis()).unwrap_or(u64::MAX);
        let ended = there.run_order(HostCommand::Rollback { release, watch_ms })?;
        there.print_outcome(session, repo, ended, args.json)
    })
}
