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

use super::Around;
use super::engine::Engine;
use super::release::Release;
use super::target::Target;
use super::tool::{Outside, QUESTION, Tool, objects, settings, unwell, words};
use xtask_base::deadline::Deadline;
use xtask_base::error::{Context as _, Error, Kind, Result};
use xtask_base::record::{self, Found};
use xtask_base::words::some_of;

/// The kind of the record of what was applied.
const APPLIED: &str = "xtask.deploy-applied/1";

/// How long manifests may take to be applied, or workloads to be deleted: five minutes.
const APPLYING: Duration = Duration::from_secs(300);

/// How many questions in a row may fail while it is watched.
const MOST_MISSES: usize = 2;

/// How often it is looked: each time starts processes and asks the cluster.
const POLL: Duration = Duration::from_secs(2);

/// What is waited for and watched.
const ROLLED_OUT: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// What only runs, and can be brought back by applying it again.
const WORKLOADS: [&str; 5] = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"];

/// How many names are told in one line.
const SHOWN: usize = 10;

/// The engine.
pub struct Kubernetes<'a> {
    /// Where it keeps releases.
    pub target: &'a Target,
    /// How the layer is configured now.
    pub outside: &'a Outside,
    /// The outside.
    pub around: Around<'a>,
}

/// Something in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Thing {
    namespace: Option<String>,
    kind: String,
    name: String,
}

/// What was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Applied {
    /// The context in which it was.
    context: Option<String>,
    /// All that was ever applied there and not deleted.
    all: Vec<Thing>,
    /// What was there before anything was applied: it is nobody's to delete.
    found: Vec<Thing>,
    /// What each release has.
    releases: BTreeMap<String, Vec<Thing>>,
}

impl Thing {
    /// As `kubectl` takes it.
    fn word(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    fn is_workload(&self) -> bool {
        WORKLOADS.contains(&self.kind.as_str())
    }

    /// Context and namespace, as arguments.
    fn place(&self, context: Option<&str>) -> Vec<String> {
        place(context, self.namespace.as_deref())
    }
}

/// Context and namespace, as arguments.
#[must_use]
pub fn place(context: Option<&str>, namespace: Option<&str>) -> Vec<String> {
    let context = context.into_iter().flat_map(|name| ["--context", name]);
    let namespace = namespace.into_iter().flat_map(|name| ["--namespace", name]);
    context.chain(namespace).map(str::to_owned).collect()
}

/// How the manifests of a release are named: a folder with a kustomization is built, any other is read whole.
#[must_use]
pub fn manifests(outside: &Outside, files: &std::path::Path) -> Vec<String> {
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

impl Kubernetes<'_> {
    fn kubectl<'a>(&'a self, release: &Release) -> Tool<'a> {
        Tool::of("kubectl", self.target, release, &self.around)
    }

    /// `kubectl` where no release is meant.
    fn plain(&self) -> Tool<'_> {
        let (folder, variables) = (self.target.root.clone(), Vec::new());
        Tool { name: "kubectl", folder, variables, around: &self.around }
    }

    /// Applies a release, or only says what it would; answers with what it has.
    fn apply(&self, release: &Release, more: &[&str]) -> Result<Vec<Thing>> {
        let outside = settings(release)?;
        let mut args = place(outside.context.as_deref(), outside.namespace.as_deref());
        args.push("apply".to_owned());
        args.extend(words(more));
        args.extend(manifests(&outside, &release.files()));
        // A name alone would not say in which namespace.
        args.extend(words(&["-o", "json"]));
        let kubectl = self.kubectl(release);
        let said = if more.is_empty() {
            kubectl.run_for_answer(&args, APPLYING)?
        } else {
            kubectl.ask(&args, APPLYING)?
        };
        let mut things = Vec::new();
        for object in items(&said)? {
            let text = |pointer: &str| object.pointer(pointer)?.as_str().map(str::to_owned);
            let (Some(kind), Some(name)) = (text("/kind"), text("/metadata/name")) else {
                continue;
            };
            things.push(Thing { namespace: text("/metadata/namespace"), kind, name });
        }
        if things.is_empty() {
            let what = format!("`kubectl` names nothing that it applies of {}", outside.to);
            return Err(Error::no(what).hint("is there a manifest in it?"));
        }
        Ok(things)
    }

    fn path(&self) -> std::path::PathBuf {
        self.target.root.join("applied")
    }

    fn applied(&self) -> Result<Applied> {
        match record::read(&self.path(), APPLIED) {
            Found::Nothing => Ok(Applied::default()),
            Found::Whole(applied) => Ok(applied),
            Found::Newer => Err(record::newer("what was applied", &self.path())),
            Found::Broken(why) => {
                Err(Error::unable(format!("what was applied cannot be read: {why}"))
                    .detail(self.path().display().to_string())
                    .hint("nothing was deleted"))
            }
        }
    }

    fn write(&self, applied: &Applied) -> Result<()> {
        record::write(self.around.disk, &self.path(), APPLIED, applied)
            .unable(|| format!("`{}` cannot be written", self.path().display()))
    }

    /// Writes down what a release has, before it is applied.
    fn note(&self, release: &Release, things: &[Thing]) -> Result<()> {
        let mut applied = self.applied()?;
        let context = settings(release)?.context;
        if applied.context.is_some() && applied.context != context {
            // Another context may be another cluster, or the same by another name.
            self.tell_left(&applied.all, applied.context.as_deref().unwrap_or_default());
            applied.all.clear();
            applied.found.clear();
        }
        for thing in things.iter().filter(|one| one.is_workload() && !applied.all.contains(one)) {
            let mut args = thing.place(context.as_deref());
            args.extend(words(&["get", &thing.word(), "--ignore-not-found", "-o", "name"]));
            if !self.kubectl(release).ask(&args, QUESTION)?.trim().is_empty() {
                applied.found.push(thing.clone());
            }
        }
        applied.context = context;
        applied.all.extend(things.to_vec());
        applied.all.sort();
        applied.all.dedup();
        applied.releases.insert(release.name.clone(), things.to_vec());
        self.write(&applied)
    }

    fn tell_left(&self, things: &[Thing], where_: &str) {
        let names: Vec<String> = things.iter().map(Thing::word).collect();
        if !names.is_empty() {
            (self.around.tell)(&format!("left in {where_}: {}", some_of(&names, SHOWN)));
        }
    }

    fn workloads(&self, release: &Release) -> Result<Vec<Thing>> {
        let mut things = self.applied()?.releases.remove(&release.name).unwrap_or_default();
        things.retain(|thing| ROLLED_OUT.contains(&thing.kind.as_str()));
        Ok(things)
    }

    /// What is not well, and how often the containers of each pod were started again.
    fn look(&self, release: &Release) -> Result<(Vec<String>, BTreeMap<String, u64>)> {
        let kubectl = self.kubectl(release);
        let context = settings(release)?.context;
        let (mut faults, mut restarts) = (Vec::new(), BTreeMap::new());
        for thing in self.workloads(release)? {
            let mut args = thing.place(context.as_deref());
            args.extend(words(&["get", &thing.word(), "-o", "json"]));
            let workload = match kubectl.ask(&args, QUESTION) {
                Ok(said) => items(&said)?.into_iter().next().unwrap_or_default(),
                Err(failure) => {
                    faults.push(format!("{}: {failure}", thing.word()));
                    faults.extend(failure.details().iter().cloned());
                    continue;
                }
            };
            if let Some(fault) = fault(&thing.kind, &workload) {
                faults.push(format!("{}: {fault}", thing.word()));
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
            let mut args = thing.place(context.as_deref());
            args.extend(words(&["get", "pods", "--selector", &labels.join(","), "-o", "json"]));
            for pod in items(&kubectl.ask(&args, QUESTION)?)? {
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

impl Engine for Kubernetes<'_> {
    fn try_out(&self, release: &Release) -> Result<()> {
        self.apply(release, &["--dry-run=server"]).map(drop)
    }

    fn serve(&self, release: &Release) -> Result<()> {
        let things = self.apply(release, &["--dry-run=server"])?;
        self.note(release, &things)?;
        self.apply(release, &[])?;
        let deadline = Deadline::after(self.around.ready_within);
        let context = settings(release)?.context;
        for thing in self.workloads(release)? {
            let left = deadline.left().unwrap_or_default().as_secs().max(1);
            let mut args = thing.place(context.as_deref());
            args.extend(words(&["rollout", "status", &thing.word()]));
            args.push(format!("--timeout={left}s"));
            self.kubectl(release).run(&args, Duration::from_secs(left) + QUESTION)?;
        }
        self.end_others(Some(release))
    }

    fn watch(&self, release: &Release, longest: Duration) -> Result<()> {
        let deadline = Deadline::after(longest);
        let mut misses = 0;
        let mut first: Option<BTreeMap<String, u64>> = None;
        loop {
            if self.around.interrupts.arrived() {
                return Err(Error::new(Kind::Interrupted, "interrupted while it was watched"));
            }
            let left = deadline.left();
            let (mut faults, restarts) = match self.look(release) {
                // A question that fails once says nothing of the release.
                Err(_) if misses < MOST_MISSES => {
                    misses += 1;
                    std::thread::sleep(POLL);
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
            unwell(faults)?;
            match left {
                Some(left) => std::thread::sleep(left.min(POLL)),
                None => return Ok(()),
            }
        }
    }

    fn ask(&self, release: &Release) -> Result<()> {
        unwell(self.look(release)?.0)
    }

    fn end_others(&self, keep: Option<&Release>) -> Result<()> {
        let mut applied = self.applied()?;
        let kept = keep.and_then(|keep| applied.releases.get(&keep.name)).cloned();
        let kept = kept.unwrap_or_default();
        let others = applied.all.iter().filter(|thing| !kept.contains(thing)).cloned();
        let (gone, left): (Vec<Thing>, Vec<Thing>) =
            others.partition(|thing| thing.is_workload() && !applied.found.contains(thing));
        let context = applied.context.clone();
        for thing in gone {
            let mut args = thing.place(context.as_deref());
            args.extend(words(&["delete", &thing.word(), "--ignore-not-found"]));
            args.push(format!("--timeout={}s", APPLYING.as_secs()));
            self.plain().run(&args, APPLYING + QUESTION)?;
            applied.all.retain(|other| *other != thing);
            self.write(&applied)?;
        }
        self.tell_left(&left, "the cluster, though what serves does not have it");
        Ok(())
    }

    fn forget(&self, release: &Release) -> Result<()> {
        let mut applied = self.applied()?;
        match applied.releases.remove(&release.name) {
            Some(_) => self.write(&applied),
            None => Ok(()),
        }
    }
}

/// The objects that are printed: one, or those of a list.
fn items(text: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for mut object in objects(text)? {
        match object.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => all.extend(items),
            _ => all.push(object),
        }
    }
    Ok(all)
}

/// Why a workload is not as it is wanted, if it is not.
fn fault(kind: &str, workload: &Value) -> Option<String> {
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
        assert_eq!(fault("Deployment", &status(2, 3, 3)), None);
        assert!(fault("Deployment", &status(1, 3, 3)).unwrap().contains("newest"));
        assert_eq!(fault("StatefulSet", &status(2, 1, 3)).unwrap(), "1 of 3 are of this release");
        assert_eq!(fault("Deployment", &status(2, 3, 2)).unwrap(), "2 of 3 are ready");
        // What is not said is nothing.
        assert_eq!(fault("Deployment", &json!({"spec": {"replicas": 0}})), None);
        assert_eq!(fault("Deployment", &json!({})).unwrap(), "0 of 1 are of this release");
        let daemons = json!({"status": {"desiredNumberScheduled": 2, "numberReady": 1,
                                        "updatedNumberScheduled": 2}});
        assert_eq!(fault("DaemonSet", &daemons).unwrap(), "1 of 2 are ready");
    }
}
