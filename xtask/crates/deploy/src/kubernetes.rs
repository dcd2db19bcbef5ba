//! The engine `kubernetes`: a cluster, via `kubectl`, always with `--context`, never with the current context.
//!
//! A release is applied, and its rollout awaited. A rollback applies the release before: its manifests are its
//! configuration, while `rollout undo` would restore a single workload only. Objects are recorded in the file
//! `applied` before `kubectl apply`; a workload that the current release lacks is deleted. Other kinds are never
//! deleted but reported, since volumes, secrets, namespaces and definitions may contain irreplaceable data.
//!
//! ```text
//! {"context": "prod", "all": [{"namespace": "shop", "kind": "Deployment", "name": "web"}], "found": [],
//!  "releases": {"20250310T101500Z-4cfd10e1a2b3": [...]}}
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DeployContext;
use super::engine::Engine;
use super::health::{ensure_no_faults, watch_by_queries};
use super::release::Release;
use super::target::DeployTarget;
use super::tool::{
    EngineSettings, EngineTool, QUERY_TIMEOUT, parse_json_objects, read_engine_settings, to_args,
};
use xtask_base::deadline::Deadline;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::join_names;

/// Format identifier of the record `applied`.
const APPLIED_KIND: &str = "xtask.deploy-applied/1";

/// Time limit of `kubectl apply` and `kubectl delete`: five minutes.
const APPLY_TIMEOUT: Duration = Duration::from_secs(300);

/// Interval between two polls of a watch; each poll starts processes and queries the cluster.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Kinds with a rollout, which is awaited and watched.
const ROLLOUT_KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// Kinds without data, which can be restored by `kubectl apply` and so may be deleted.
const WORKLOAD_KINDS: [&str; 5] = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"];

/// Number of names that a message lists.
const MAX_SHOWN: usize = 10;

/// Engine that runs `kubectl`.
pub struct KubernetesEngine<'a> {
    /// Folder of releases and history, in this clone.
    pub target: &'a DeployTarget,
    /// Current settings of the layer.
    pub settings: &'a EngineSettings,
    pub ctx: DeployContext<'a>,
}

/// Identity of an object in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct ClusterObject {
    namespace: Option<String>,
    kind: String,
    name: String,
}

/// Record of the applied objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct AppliedObjects {
    /// Context of the last `apply`.
    context: Option<String>,
    /// All objects that were applied in `context` and not deleted.
    all: Vec<ClusterObject>,
    /// Workloads that existed before the first `apply`, and are never deleted.
    found: Vec<ClusterObject>,
    /// Objects of each release, by name.
    releases: BTreeMap<String, Vec<ClusterObject>>,
}

impl ClusterObject {
    /// Returns the argument for `kubectl`, e.g. `deployment/web`.
    fn resource_name(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    fn is_workload(&self) -> bool {
        WORKLOAD_KINDS.contains(&self.kind.as_str())
    }

    /// Returns `--context` and `--namespace` for this object.
    fn scope_args(&self, context: Option<&str>) -> Vec<String> {
        build_scope_args(context, self.namespace.as_deref())
    }
}

/// Returns `--context` and `--namespace` arguments, without the ones that are `None`.
#[must_use]
pub fn build_scope_args(context: Option<&str>, namespace: Option<&str>) -> Vec<String> {
    let context = context.into_iter().flat_map(|name| ["--context", name]);
    let namespace = namespace.into_iter().flat_map(|name| ["--namespace", name]);
    context.chain(namespace).map(str::to_owned).collect()
}

/// Returns the manifest arguments: `-k` for a folder with a kustomization, else `-f`, with `--recursive` for a
/// folder. `files` is the root of the release or the worktree.
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

    /// Returns `kubectl` without a release, in the target's folder.
    fn kubectl_without_release(&self) -> EngineTool<'_> {
        let (folder, variables) = (self.target.root.clone(), Vec::new());
        EngineTool { name: "kubectl", folder, variables, ctx: &self.ctx }
    }

    /// Runs `kubectl apply` for a release with the options `more` (e.g. `--dry-run=server`), and returns its objects.
    fn apply_release(&self, release: &Release, more: &[&str]) -> Result<Vec<ClusterObject>> {
        let outside = read_engine_settings(release)?;
        let mut args = build_scope_args(outside.context.as_deref(), outside.namespace.as_deref());
        args.push("apply".to_owned());
        args.extend(to_args(more));
        args.extend(build_manifest_args(&outside, &release.files()));
        // JSON, because `-o name` omits the namespace.
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
            let what = format!("`kubectl apply` reports no objects for `{}`", outside.to);
            return Err(Error::negative(what).with_hint("check that it contains a manifest"));
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
            LoadedRecord::Newer => Err(record::newer_record_error(
                "the record of applied objects",
                &self.applied_file(),
            )),
            LoadedRecord::Corrupt(why) => {
                Err(Error::unable(format!("cannot read the record of applied objects: {why}"))
                    .with_detail(self.applied_file().display().to_string())
                    .with_hint("nothing was deleted"))
            }
        }
    }

    fn write_applied(&self, applied: &AppliedObjects) -> Result<()> {
        record::write_record(self.ctx.disk, &self.applied_file(), APPLIED_KIND, applied)
            .with_context(|| format!("cannot write `{}`", self.applied_file().display()))
    }

    /// Records the objects of a release before they are applied, and the workloads among them that exist already.
    fn record_applied(&self, release: &Release, things: &[ClusterObject]) -> Result<()> {
        let mut applied = self.read_applied()?;
        let context = read_engine_settings(release)?.context;
        if applied.context.is_some() && applied.context != context {
            // Another context may be another cluster, or another name of the same one.
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

    /// Returns the faults of all workloads, and the restart count of each pod by uid.
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
        let mut first: Option<BTreeMap<String, u64>> = None;
        watch_by_queries(longest, POLL_INTERVAL, &self.ctx, &mut || {
            let (mut faults, restarts) = self.inspect_workloads(release)?;
            let first = first.get_or_insert_with(|| restarts.clone());
            // A new pod counts from 0: restarts of its containers are a fault.
            let grew = |(id, count): (&String, &u64)| *count > *first.get(id).unwrap_or(&0);
            if restarts.iter().any(grew) {
                faults.push("a container was restarted".to_owned());
            }
            Ok(faults)
        })
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
        self.report_leftovers(&left, "the cluster, though not part of the current release");
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

/// Parses the output of `kubectl -o json`: one object, or the `items` of a list.
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

/// Returns the fault of a workload, e.g. `1 of 2 are ready`; `None` if all replicas are updated and ready.
fn find_workload_fault(kind: &str, workload: &Value) -> Option<String> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_u64);
    let now = |name: &str| number(&format!("/status/{name}")).unwrap_or(0);
    if now("observedGeneration") < number("/metadata/generation").unwrap_or(0) {
        return Some("the cluster has not observed its newest configuration yet".to_owned());
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
