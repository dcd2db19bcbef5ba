//! The engine `kubernetes`: a cluster, by `kubectl`. It is always told which, and never takes the current context.
//!
//! A release is applied, and waited for. Going back is applying the release before: its manifests are its
//! configuration, which `rollout undo` would bring back for one workload alone. What was applied is written down
//! before it is; a workload that the release which serves has not is deleted. Nothing else is ever deleted:
//! volumes, secrets, namespaces and definitions may hold what nobody can bring back. They are named.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DeployContext;
use super::engine::Engine;
use super::release::Release;
use super::target::DeployTarget;
use super::tool::{
    EngineSettings, EngineTool, QUERY_TIMEOUT, ensure_no_faults, parse_json_objects,
    read_engine_settings, to_args,
};
use xtask_base::deadline::Deadline;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::join_names;

/// The kind of the record of what was applied.
const APPLIED_KIND: &str = "xtask.deploy-applied/1";

/// How long manifests may take to be applied, or workloads to be deleted: five minutes.
const APPLY_TIMEOUT: Duration = Duration::from_secs(300);

/// How many questions in a row may fail while it is watched.
const MAX_FAILED_QUERIES: usize = 2;

/// How often it is looked: each time starts processes and asks the cluster.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What is waited for and watched.
const ROLLOUT_KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// What only runs, and can be brought back by applying it again.
const WORKLOAD_KINDS: [&str; 5] = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"];

/// How many names are told in one line.
const MAX_SHOWN: usize = 10;

/// The engine.
pub struct KubernetesEngine<'a> {
    /// Where it keeps releases.
    pub target: &'a DeployTarget,
    /// How the layer is configured now.
    pub settings: &'a EngineSettings,
    /// The outside.
    pub ctx: DeployContext<'a>,
}

/// Something in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct ClusterObject {
    namespace: Option<String>,
    kind: String,
    name: String,
}

/// What was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct AppliedObjects {
    /// The context in which it was.
    context: Option<String>,
    /// All that was ever applied there and not deleted.
    all: Vec<ClusterObject>,
    /// What was there before anything was applied: it is nobody's to delete.
    found: Vec<ClusterObject>,
    /// What each release has.
    releases: BTreeMap<String, Vec<ClusterObject>>,
}

impl ClusterObject {
    /// As `kubectl` takes it.
    fn resource_name(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    fn is_workload(&self) -> bool {
        WORKLOAD_KINDS.contains(&self.kind.as_str())
    }

    /// Context and namespace, as arguments.
    fn scope_args(&self, context: Option<&str>) -> Vec<String> {
        build_scope_args(context, self.namespace.as_deref())
    }
}

/// Context and namespace, as arguments.
#[must_use]
pub fn build_scope_args(context: Option<&str>, namespace: Option<&str>) -> Vec<String> {
    let context = context.into_iter().flat_map(|name| ["--context", name]);
    let namespace = namespace.into_iter().flat_map(|name| ["--namespace", name]);
    context.chain(namespace).map(str::to_owned).collect()
}

/// How the manifests of a release are named: a folder with a kustomization is built, any other is read whole.
#[must_use]
pub fn build_manifest_args(outside: &EngineSettings, files: &std::path::Path) -> Vec<String> {
    let path = files.join(&outside.to);
    let is_kustomization = ["kustomization.yaml", "kustomization.yml", "Kustomization"]
        .iter()
        .any(|name| path.join(name).is_file());
    let shown = path.display().to_string();
    if is_kustomization {
        return vec!["-k".to_owned(), shown];
    }
    let mut args = vec!["-f".to_owned(), shown];
    if path.is_dir() {
        args.push("--recursive".to_owned());
    }
    args
}

impl KubernetesEngine<'_> {
    fn kubectl_for_release<'a>(&'a self, release: &Release) -> EngineTool<'a> {
        EngineTool::for_release("kubectl", self.target, release, &self.ctx)
    }

    /// `kubectl` where no release is meant.
    fn kubectl_without_release(&self) -> EngineTool<'_> {
        let (folder, variables) = (self.target.root.clone(), Vec::new());
        EngineTool { name: "kubectl", folder, variables, ctx: &self.ctx }
    }

    /// Applies a release, or only says what it would; answers with what it has.
    fn apply_release(&self, release: &Release, more: &[&str]) -> Result<Vec<ClusterObject>> {
        let outside = read_engine_settings(release)?;
        let mut args = build_scope_args(outside.context.as_deref(), outside.namespace.as_deref());
        args.push("apply".to_owned());
        args.extend(to_args(more));
        args.extend(build_manifest_args(&outside, &release.files()));
        // A name alone would not say in which namespace.
        args.extend(to_args(&["-o", "json"]));
        let kubectl = self.kubectl_for_release(release);
        let said = if more.is_empty() {
            kubectl.run_for_output(&args, APPLY_TIMEOUT)?
        } else {
            kubectl.query(&args, APPLY_TIMEOUT)?
        };
        let mut things = Vec::new();
        for object in parse_items(&said)? {
            let text = |pointer: &str| object.pointer(pointer)?.as_str().map(str::to_owned);
            let (Some(kind), Some(name)) = (text("/kind"), text("/metadata/name")) else {
                continue;
            };
            things.push(ClusterObject { namespace: text("/metadata/namespace"), kind, name });
        }
        if things.is_empty() {
            let what = format!("`kubectl` names nothing that it applies of {}", outside.to);
            return Err(Error::negative(what).with_hint("is there a manifest in it?"));
        }
        Ok(things)
    }

    fn applied_file(&self) -> std::path::PathBuf {
        self.target.root.join("applied")
    }

    fn read_applied(&self) -> Result<AppliedObjects> {
        match record::read_record(&self.applied_file(), APPLIED_KIND) {
            LoadedRecord::Missing => Ok(AppliedObjects::default()),
            LoadedRecord::Valid(applied) => Ok(applied),
            LoadedRecord::Newer => {
                Err(record::newer_record_error("what was applied", &self.applied_file()))
            }
            LoadedRecord::Corrupt(why) => {
                Err(Error::unable(format!("what was applied cannot be read: {why}"))
                    .with_detail(self.applied_file().display().to_string())
                    .with_hint("nothing was deleted"))
            }
        }
    }

    fn write_applied(&self, applied: &AppliedObjects) -> Result<()> {
        record::write_record(self.ctx.disk, &self.applied_file(), APPLIED_KIND, applied)
            .with_context(|| format!("`{}` cannot be written", self.applied_file().display()))
    }

    /// Writes down what a release has, before it is applied.
    fn record_applied(&self, release: &Release, things: &[ClusterObject]) -> Result<()> {
        let mut applied = self.read_applied()?;
        let context = read_engine_settings(release)?.context;
        if applied.context.is_some() && applied.context != context {
            // Another context may be another cluster, or the same by another name.
            self.report_leftovers(&applied.all, applied.context.as_deref().unwrap_or_default());
            applied.all.clear();
            applied.found.clear();
        }
        for thing in things.iter().filter(|one| one.is_workload() && !applied.all.contains(one)) {
            let mut args = thing.scope_args(context.as_deref());
            args.extend(to_args(&[
                "get",
                &thing.resource_name(),
                "--ignore-not-found",
                "-o",
                "name",
            ]));
            if !self.kubectl_for_release(release).query(&args, QUERY_TIMEOUT)?.trim().is_empty() {
                applied.found.push(thing.clone());
            }
        }
        applied.context = context;
        applied.all.extend(things.to_vec());
        applied.all.sort();
        applied.all.dedup();
        applied.releases.insert(release.name.clone(), things.to_vec());
        self.write_applied(&applied)
    }

    fn report_leftovers(&self, things: &[ClusterObject], where_: &str) {
        let names: Vec<String> = things.iter().map(ClusterObject::resource_name).collect();
        if !names.is_empty() {
            (self.ctx.tell)(&format!("left in {where_}: {}", join_names(&names, MAX_SHOWN)));
        }
    }

    fn list_workloads(&self, release: &Release) -> Result<Vec<ClusterObject>> {
        let mut things = self.read_applied()?.releases.remove(&release.name).unwrap_or_default();
        things.retain(|thing| ROLLOUT_KINDS.contains(&thing.kind.as_str()));
        Ok(things)
    }

    /// What is not well, and how often the containers of each pod were started again.
    fn inspect_workloads(&self, release: &Release) -> Result<(Vec<String>, BTreeMap<String, u64>)> {
        let kubectl = self.kubectl_for_release(release);
        let context = read_engine_settings(release)?.context;
        let (mut faults, mut restarts) = (Vec::new(), BTreeMap::new());
        for thing in self.list_workloads(release)? {
            let mut args = thing.scope_args(context.as_deref());
            args.extend(to_args(&["get", &thing.resource_name(), "-o", "json"]));
            let workload = match kubectl.query(&args, QUERY_TIMEOUT) {
                Ok(said) => parse_items(&said)?.into_iter().next().unwrap_or_default(),
                Err(failure) => {
                    faults.push(format!("{}: {failure}", thing.resource_name()));
                    faults.extend(failure.details().iter().cloned());
                    continue;
                }
            };
            if let Some(fault) = find_workload_fault(&thing.kind, &workload) {
                faults.push(format!("{}: {fault}", thing.resource_name()));
            }
            let labels = workload.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
            let labels: Vec<String> = labels
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
                .collect();
            if labels.is_empty() {
                continue;
            }
            let mut args = thing.scope_args(context.as_deref());
            args.extend(to_args(&["get", "pods", "--selector", &labels.join(","), "-o", "json"]));
            for pod in parse_items(&kubectl.query(&args, QUERY_TIMEOUT)?)? {
                let id = pod.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
                let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
                let counts =
                    statuses.into_iter().flatten().filter_map(|one| one["restartCount"].as_u64());
                restarts.insert(id.to_owned(), counts.sum());
            }
        }
        Ok((faults, restarts))
    }
}

impl Engine for KubernetesEngine<'_> {
    fn try_candidate(&self, release: &Release) -> Result<()> {
        self.apply_release(release, &["--dry-run=server"]).map(drop)
    }

    fn serve(&self, release: &Release) -> Result<()> {
        let things = self.apply_release(release, &["--dry-run=server"])?;
        self.record_applied(release, &things)?;
        self.apply_release(release, &[])?;
        let deadline = Deadline::after(self.ctx.ready_within);
        let context = read_engine_settings(release)?.context;
        for thing in self.list_workloads(release)? {
            let left = deadline.remaining().unwrap_or_default().as_secs().max(1);
            let mut args = thing.scope_args(context.as_deref());
            args.extend(to_args(&["rollout", "status", &thing.resource_name()]));
            args.push(format!("--timeout={left}s"));
            self.kubectl_for_release(release)
                .run(&args, Duration::from_secs(left) + QUERY_TIMEOUT)?;
        }
        self.stop_others(Some(release))
    }

    fn watch(&self, release: &Release, longest: Duration) -> Result<()> {
        let deadline = Deadline::after(longest);
        let mut misses = 0;
        let mut first: Option<BTreeMap<String, u64>> = None;
        loop {
            if self.ctx.interrupts.was_interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted while it was watched"));
            }
            let left = deadline.remaining();
            let (mut faults, restarts) = match self.inspect_workloads(release) {
                // A question that fails once says nothing of the release.
                Err(_) if misses < MAX_FAILED_QUERIES => {
                    misses += 1;
                    std::thread::sleep(POLL_INTERVAL);
                    continue;
                }
                asked => asked?,
            };
            misses = 0;
            let first = first.get_or_insert_with(|| restarts.clone());
            // A pod that came meanwhile has not been started again, or is not well.
            let grew = |(id, count): &(&String, &u64)| *count > first.get(*id).unwrap_or(&0);
            if restarts.iter().any(|one| grew(&one)) {
                faults.push("a container of it was started again".to_owned());
            }
            ensure_no_faults(faults)?;
            match left {
                Some(left) => std::thread::sleep(left.min(POLL_INTERVAL)),
                None => return Ok(()),
            }
        }
    }

    fn check_health(&self, release: &Release) -> Result<()> {
        ensure_no_faults(self.inspect_workloads(release)?.0)
    }

    fn stop_others(&self, keep: Option<&Release>) -> Result<()> {
        let mut applied = self.read_applied()?;
        let kept = keep.and_then(|keep| applied.releases.get(&keep.name)).cloned();
        let kept = kept.unwrap_or_default();
        let others = applied.all.iter().filter(|thing| !kept.contains(thing)).cloned();
        let (gone, left): (Vec<ClusterObject>, Vec<ClusterObject>) =
            others.partition(|thing| thing.is_workload() && !applied.found.contains(thing));
        let context = applied.context.clone();
        for thing in gone {
            let mut args = thing.scope_args(context.as_deref());
            args.extend(to_args(&["delete", &thing.resource_name(), "--ignore-not-found"]));
            args.push(format!("--timeout={}s", APPLY_TIMEOUT.as_secs()));
            self.kubectl_without_release().run(&args, APPLY_TIMEOUT + QUERY_TIMEOUT)?;
            applied.all.retain(|other| *other != thing);
            self.write_applied(&applied)?;
        }
        self.report_leftovers(&left, "the cluster, though what serves does not have it");
        Ok(())
    }

    fn discard_release(&self, release: &Release) -> Result<()> {
        let mut applied = self.read_applied()?;
        match applied.releases.remove(&release.name) {
            Some(_) => self.write_applied(&applied),
            None => Ok(()),
        }
    }
}

/// The objects that are printed: one, or those of a list.
fn parse_items(text: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for mut object in parse_json_objects(text)? {
        match object.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => all.extend(items),
            _ => all.push(object),
        }
    }
    Ok(all)
}

/// Why a workload is not as it is wanted, if it is not.
fn find_workload_fault(kind: &str, workload: &Value) -> Option<String> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_u64);
    let now = |name: &str| number(&format!("/status/{name}")).unwrap_or(0);
    if now("observedGeneration") < number("/metadata/generation").unwrap_or(0) {
        return Some("the cluster has not seen its newest configuration yet".to_owned());
    }
    let (wanted, ready, updated) = if kind == "DaemonSet" {
        (now("desiredNumberScheduled"), now("numberReady"), now("updatedNumberScheduled"))
    } else {
        let wanted = number("/spec/replicas").unwrap_or(1);
        (wanted, now("readyReplicas"), now("updatedReplicas"))
    };
    if updated < wanted {
        return Some(format!("{updated} of {wanted} are of this release"));
    }
    (ready < wanted).then(|| format!("{ready} of {wanted} are ready"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_is_well_when_all_of_it_is_new_and_ready() {
        let status = |generation: u64, updated: u64, ready: u64| {
            json!({"metadata": {"generation": 2}, "spec": {"replicas": 3},
                   "status": {"observedGeneration": generation, "updatedReplicas": updated,
                              "readyReplicas": ready}})
        };
        assert_eq!(find_workload_fault("Deployment", &status(2, 3, 3)), None);
        assert!(find_workload_fault("Deployment", &status(1, 3, 3)).unwrap().contains("newest"));
        assert_eq!(
            find_workload_fault("StatefulSet", &status(2, 1, 3)).unwrap(),
            "1 of 3 are of this release"
        );
        assert_eq!(
            find_workload_fault("Deployment", &status(2, 3, 2)).unwrap(),
            "2 of 3 are ready"
        );
        // What is not said is nothing.
        assert_eq!(find_workload_fault("Deployment", &json!({"spec": {"replicas": 0}})), None);
        assert_eq!(
            find_workload_fault("Deployment", &json!({})).unwrap(),
            "0 of 1 are of this release"
        );
        let daemons = json!({"status": {"desiredNumberScheduled": 2, "numberReady": 1,
                                        "updatedNumberScheduled": 2}});
        assert_eq!(find_workload_fault("DaemonSet", &daemons).unwrap(), "1 of 2 are ready");
    }
}
