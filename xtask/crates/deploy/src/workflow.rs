//! The workflows of `deploy` and `rollback`, for a target on this machine or (engine `ssh`) on another host: gates,
//! confirmation, build, switch, watch.
//!
//! ```text
//! DeployWorkflow::deploy  ->  gates, prompt, checks, run  ->  DeployRunReport { run: {"outcome": "verified", ..}, .. }
//! ```

use std::time::Duration;

use super::DeployContext;
use super::deployment::LayerDeployment;
use super::engine::EngineContext;
use super::executor::{self, DeployRequest, ReleaseSource};
use super::gates::{self, Gate, GateContext};
use super::history::{self, DeployEntry};
use super::pipeline::{DeployAction, render_plan};
use super::release::Release;
use super::remote_workflow as remote;
use super::report::{DeployPlanReport, DeployRunReport};
use super::required_variables::check_rollback;
use super::rollback;
use super::target::{DeployTarget, TargetOwnership};
use super::verify::verify_target;
use super::wire_protocol::Verification;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::words::sanitize_line;
use xtask_config::Layer;
use xtask_git::Repo;

/// The longest user name that is recorded in the history, in characters.
const MAX_USER_CHARS: usize = 40;

/// The user of a workflow, and the checks of the checkout.
pub trait DeployFrontend {
    /// Shows a warning.
    fn warn(&self, text: &str);

    /// Asks for a line. Returns `None` if there is no terminal.
    fn ask_line(&self, question: &str) -> Option<String>;

    /// Runs all checks of the checkout, and reports whether they passed.
    fn validate_checkout(&self) -> Result<bool>;
}

/// Inputs of all workflows.
pub struct DeployWorkflow<'a> {
    pub repo: &'a Repo,
    pub place: &'a LayerDeployment,
    /// Loads another layer by name, for `requires`.
    pub load: &'a dyn Fn(&str) -> Result<Layer>,
    pub frontend: &'a dyn DeployFrontend,
    pub ctx: DeployContext<'a>,
}

/// Options of a deploy or a rollback.
pub struct DeployRunOptions {
    /// Whether the run is confirmed without a prompt.
    pub is_confirmed: bool,
    /// Length of the watch; `deploy.watch` if `None`.
    pub watch: Option<Duration>,
}

/// Returns the name of the user for the lock, the journal and the history.
#[must_use]
pub fn deploying_user(world: &Environment) -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(|name| world.variable(name));
    sanitize_line(user.unwrap_or("unknown"), MAX_USER_CHARS)
}

/// Returns the error of a command for a layer whose target is free.
pub(super) fn never_deployed_error(layer: &str) -> Error {
    Error::negative(format!("layer `{layer}` was never deployed"))
        .with_hint(format!("`cargo xtask deploy {layer}`"))
}

impl DeployWorkflow<'_> {
    /// Checks integrity and health of the current release.
    pub fn verify(&self) -> Result<Verification> {
        match self.place.is_on_host() {
            true => remote::verify_on_host(self),
            false => self.place.with_engine(self.ctx, verify_target),
        }
    }

    /// Checks the gates and lists the steps of a deploy, without changing anything.
    pub fn plan(&self) -> Result<DeployPlanReport> {
        if self.place.is_on_host() {
            return remote::plan_on_host(self);
        }
        let target = &self.place.target;
        let gates = gates::check_gates(&self.gate_context())?;
        let commit = self.repo.head()?.commit;
        let new = Release::choose_name_in(target, commit, self.ctx.world.now_seconds());
        let old = rollback::list_kept(target, &read_own_history(target)?).into_iter().next();
        Ok(self.build_plan(commit.to_string(), gates, &new, old.as_deref()))
    }

    /// Deploys the current commit.
    pub fn deploy(&self, options: &DeployRunOptions) -> Result<DeployRunReport> {
        match self.place.is_on_host() {
            true => remote::deploy_on_host(self, options),
            false => {
                self.place.with_engine(self.ctx, |engine_ctx| self.deploy_here(engine_ctx, options))
            }
        }
    }

    /// Makes the release `named` serve again, or the one before the current one.
    pub fn roll_back(
        &self,
        named: Option<&str>,
        options: &DeployRunOptions,
    ) -> Result<DeployRunReport> {
        let place = self.place;
        if place.is_on_host() {
            return remote::rollback_on_host(self, named, options);
        }
        if place.target.check_ownership()? != TargetOwnership::Ours {
            return Err(never_deployed_error(&place.layer.name));
        }
        place.with_engine(self.ctx, |engine_ctx| self.roll_back_here(engine_ctx, named, options))
    }

    fn deploy_here(
        &self,
        engine_ctx: &EngineContext<'_>,
        options: &DeployRunOptions,
    ) -> Result<DeployRunReport> {
        let (repo, place, interrupts) = (self.repo, self.place, self.ctx.interrupts);
        let target = &place.target;
        // An interrupted run is completed even if a gate fails for the new one.
        if target.check_ownership().is_ok_and(|standing| standing == TargetOwnership::Ours) {
            let _held = interrupts.defer_signals();
            drop(self.lock_and_recover(engine_ctx, DeployAction::Deploy)?);
        }
        // No lock is held and Ctrl-C works while the user reads the prompt.
        let gates = gates::check_gates(&self.gate_context())?;
        if let Err(refusal) = gates::ensure_gates_pass(&gates) {
            return Ok(self.refused_report(&gates, &read_own_history(target)?, refusal));
        }
        let commit = repo.head()?.commit;
        self.confirm_deploy(commit, options)?;
        let _held = interrupts.defer_signals();
        let _lock = self.lock_and_recover(engine_ctx, DeployAction::Deploy)?;
        self.ensure_checkout_is_valid()?;
        let request = DeployRequest {
            source: ReleaseSource::Commit(repo, commit),
            layer: &place.layer,
            deploy: &place.deploy,
            watch: options.watch.unwrap_or(place.deploy.watch),
        };
        let from = history::read_history(&target.history_file())?.len();
        let done = executor::deploy_release(engine_ctx, &request);
        let result =
            done.map(|done| done.warnings.iter().for_each(|warning| self.frontend.warn(warning)));
        self.report_last_run(result, from)
    }

    fn roll_back_here(
        &self,
        engine_ctx: &EngineContext<'_>,
        named: Option<&str>,
        options: &DeployRunOptions,
    ) -> Result<DeployRunReport> {
        let LayerDeployment { layer, deploy, target, .. } = self.place;
        let interrupts = self.ctx.interrupts;
        {
            let _held = interrupts.defer_signals();
            drop(self.lock_and_recover(engine_ctx, DeployAction::Rollback)?);
        }
        let release = rollback::choose_rollback(target, named)?;
        check_rollback(layer, deploy, target, &release, &engine_ctx.ctx)?;
        let entries = history::read_history(&target.history_file())?;
        let serves = history::current_and_serving(&entries).serving.unwrap_or("nothing");
        (self.ctx.tell)(&format!("{serves} serves now; rolling back to {}", release.name));
        self.confirm_rollback(&release.name, options)?;
        let _held = interrupts.defer_signals();
        let _lock = self.lock_and_recover(engine_ctx, DeployAction::Rollback)?;
        let from = history::read_history(&target.history_file())?.len();
        let done =
            executor::rollback_to(engine_ctx, &release, options.watch.unwrap_or(deploy.watch));
        self.report_last_run(done.map(drop), from)
    }

    /// Acquires the target's lock, and recovers an interrupted run with a warning.
    fn lock_and_recover(
        &self,
        engine_ctx: &EngineContext<'_>,
        doing: DeployAction,
    ) -> Result<xtask_base::lock::Lock> {
        let (lock, recovered) = executor::lock_and_recover(engine_ctx, doing)?;
        recovered.iter().for_each(|text| self.frontend.warn(text));
        Ok(lock)
    }

    /// Reports the entry that the run has added to the history after its first `from` entries.
    fn report_last_run(&self, result: Result<()>, from: usize) -> Result<DeployRunReport> {
        let LayerDeployment { layer, target, .. } = self.place;
        let entries = history::read_history(&target.history_file())?;
        let last = entries.last().filter(|_| entries.len() > from).cloned();
        let releases = history::current_and_serving(&entries);
        Ok(DeployRunReport::new(&layer.name, result, last, releases))
    }

    pub(super) fn gate_context(&self) -> GateContext<'_> {
        let LayerDeployment { layer, deploy, target, .. } = self.place;
        GateContext { repo: self.repo, layer, deploy, target, load: self.load, ctx: self.ctx }
    }

    pub(super) fn build_plan(
        &self,
        commit: String,
        gates: Vec<Gate>,
        new: &str,
        old: Option<&str>,
    ) -> DeployPlanReport {
        let LayerDeployment { layer, deploy, .. } = self.place;
        let plan = render_plan(DeployAction::Deploy, layer, deploy, new, old);
        DeployPlanReport::new(&layer.name, commit, gates, plan)
    }

    pub(super) fn refused_report(
        &self,
        gates: &[Gate],
        entries: &[DeployEntry],
        refusal: Error,
    ) -> DeployRunReport {
        DeployRunReport::refused(&self.place.layer.name, gates, entries, refusal)
    }

    pub(super) fn confirm_deploy(
        &self,
        commit: xtask_git::Id,
        options: &DeployRunOptions,
    ) -> Result<()> {
        let what = format!("deploy {} to {}?", self.repo.short_id(commit), self.place.deploy.to);
        self.confirm_by_name(&what, "nothing was deployed", options)
    }

    pub(super) fn confirm_rollback(&self, release: &str, options: &DeployRunOptions) -> Result<()> {
        let what = format!("roll layer {} back to {release}?", self.place.layer.name);
        self.confirm_by_name(&what, "nothing was changed", options)
    }

    /// Asks for the name of the layer, unless the run is confirmed already or `confirm` is off. Returns the error
    /// `refused` if something else is typed.
    fn confirm_by_name(&self, what: &str, refused: &str, options: &DeployRunOptions) -> Result<()> {
        if options.is_confirmed || !self.place.deploy.confirm {
            return Ok(());
        }
        let name = &self.place.layer.name;
        match self.frontend.ask_line(&format!("{what} [type {name}]")) {
            Some(typed) if typed == *name => Ok(()),
            Some(_) => Err(Error::negative(refused)),
            None => Err(Error::usage(
                "nothing was changed: confirmation needed, but there is no terminal",
            )
            .with_hint("use `--yes`, or set `confirm = false` in `[deploy]`")),
        }
    }

    pub(super) fn ensure_checkout_is_valid(&self) -> Result<()> {
        if self.frontend.validate_checkout()? {
            return Ok(());
        }
        Err(Error::negative("nothing was deployed: this checkout is not healthy")
            .with_hint("`cargo xtask validate` shows the failed checks"))
    }
}

/// Reads the history of a target; none if somebody else owns it.
fn read_own_history(target: &DeployTarget) -> Result<Vec<DeployEntry>> {
    match target.check_ownership() {
        Ok(_) => history::read_target_history(target),
        Err(_) => Ok(Vec::new()),
    }
}
