//! The engines that have a tool do the work, `compose` and `kubernetes`. Small programs stand in for the tools:
//! they write down what they are told, and answer as files of the test say. What is told to a real `kubectl` is
//! seen to be understood where it is installed, without a cluster; `deploy_compose.rs` has a real Compose.

use std::fs;
use std::path::Path;
use std::process::Command;

use expect_test::expect;
use serde_json::Value;

use crate::testkit::{Lab, Place, Ran, circle, trace};

/// `docker`. In the folder of a release, `src/app` says which one it is.
const DOCKER: &str = r#"#!/bin/sh
echo "docker $*" >> LAB/tool.log
version=$(sed 's/ .*//' src/app 2>/dev/null)
case "$*" in
  *" config --services") echo web; echo once;;
  *" build") if [ -e "LAB/no-build-$version" ]; then echo "no such file: Dockerfile"; exit 17; fi;;
  *" up "*)
    echo "$version $TOKEN $XTASK_RELEASE" > LAB/running
    if [ -e "LAB/never-up-$version" ]; then echo "no such network"; exit 1; fi
    case "$*" in *--wait*)
      if [ -e "LAB/no-up-$version" ]; then echo "container web-1 is unhealthy"; exit 1; fi;;
    esac;;
  *" create "*) if [ -e "LAB/never-up-$version" ]; then echo "no such network"; exit 1; fi;;
  *" ps --all --quiet"*) if [ -e LAB/theirs ]; then echo theirs; fi;;
  *" ps "*)
    health=healthy; if [ -e "LAB/ill-$version" ]; then health=unhealthy; fi
    echo '{"ID":"one","Service":"web","State":"running","Health":"'$health'","ExitCode":0}'
    echo '{"ID":"two","Service":"once","State":"exited","Health":"","ExitCode":0}';;
  *inspect*)
    if [ -e "LAB/flaps-$version" ]; then date +%s%N; fi > LAB/started
    echo "one 0 $(cat LAB/started)"; echo "two 0 then";;
  *" down "*) rm -f LAB/running;;
esac
"#;

/// `kubectl`.
const KUBECTL: &str = r#"#!/bin/sh
echo "kubectl $*" >> LAB/tool.log
version=$(sed 's/ .*//' src/app 2>/dev/null)
case "$*" in
  *" apply "*)
    case "$*" in
      *--dry-run*) if [ -e "LAB/refused-$version" ]; then echo "error validating data" >&2; exit 1; fi;;
      *) echo "$version" > LAB/running;;
    esac
    more=; if [ -e "LAB/more-$version" ]; then more=',{"kind":"CronJob","metadata":{"name":"nightly","namespace":"shop"}},{"kind":"PersistentVolumeClaim","metadata":{"name":"data","namespace":"shop"}}'; fi
    if [ -e LAB/silent ]; then exit 0; fi
    echo '{"kind":"List","items":[{"kind":"Deployment","metadata":{"name":"web","namespace":"shop"}},{"kind":"Service","metadata":{"name":"web","namespace":"shop"}}'$more']}';;
  *" rollout status "*)
    if [ -e "LAB/stuck-$version" ]; then echo "error: timed out waiting for the condition"; exit 1; fi;;
  *" --ignore-not-found -o name") if [ -e LAB/theirs ]; then echo deployment.apps/web; fi;;
  *" get deployment/web "*)
    ready=2; if [ -e "LAB/ill-$version" ]; then ready=1; fi
    echo '{"metadata":{"generation":3},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}}},"status":{"observedGeneration":3,"updatedReplicas":2,"readyReplicas":'$ready'}}';;
  *" get pods "*)
    count=0
    if [ -e "LAB/flaps-$version" ]; then count=$(wc -l < LAB/tool.log); fi
    echo '{"items":[{"metadata":{"uid":"u1"},"status":{"containerStatuses":[{"restartCount":'$count'}]}}]}';;
esac
"#;

/// A repository whose layer `prod` is deployed by a tool.
struct Tooled<'a> {
    repo: Place<'a>,
    path: String,
}

impl<'a> Tooled<'a> {
    fn new(lab: &'a Lab, keys: &str) -> Tooled<'a> {
        let repo = lab.repo();
        repo.write("setup/validate.toml", "[[check]]\nname = 'c'\nrun = 'true'\n");
        repo.write("compose.yml", "services: {}\n");
        repo.write(
            "manifests/web.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\n",
        );
        repo.write(
            "deployment/prod.toml",
            format!("[deploy]\nwatch = '100ms'\nkeep = 2\n{keys}\n"),
        );
        let root = lab.place("");
        for (name, text) in [("docker", DOCKER), ("kubectl", KUBECTL)] {
            let text = text.replace("LAB", lab.path("").as_str().trim_end_matches('/'));
            root.write_executable(&format!("bin/{name}"), &text);
        }
        let inherited = std::env::vars().find(|(name, _)| name == "PATH").unwrap().1;
        let tooled = Tooled { repo, path: format!("{}:{inherited}", lab.path("bin")) };
        tooled.version("v1");
        tooled
    }

    fn version(&self, version: &str) {
        self.repo.write("src/app", format!("{version} well\n"));
        self.repo.commit(version);
    }

    fn xtask(&self, args: &[&str]) -> Ran {
        self.repo.xtask_with(args, &[("PATH", &self.path), ("TOKEN", "secret")])
    }

    fn deploy(&self) -> Ran {
        self.xtask(&["deploy", "prod", "--yes"])
    }

    fn flag(&self, name: &str) {
        self.repo.lab.place("").write(name, "");
    }

    /// What the tool was told since it was last asked, without what differs from run to run.
    fn told(&self) -> String {
        let log = self.repo.lab.path("tool.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        drop(fs::remove_file(log));
        let text = text.replace(self.repo.git_folder().to_str().unwrap(), "GIT");
        let parts = text.split("releases/").enumerate().map(|(at, part)| match at {
            0 => part.to_owned(),
            _ => format!("releases/NAME/{}", part.split_once('/').unwrap().1),
        });
        let text: String = parts.collect();
        // What is left of a minute.
        let text = (0..60)
            .rev()
            .fold(text, |text, left| text.replace(&format!("--timeout={left}s"), "--timeout=60s"));
        text.replace("GIT/xtask/deploy/prod/target/releases/NAME/files", "FILES")
    }

    #[track_caller]
    fn outcomes(&self) -> Vec<String> {
        let history: Value = self.xtask(&["history", "prod", "--json"]).success().json();
        let runs = history["runs"].as_array().unwrap().clone();
        runs.iter().map(|run| run["outcome"].as_str().unwrap().to_owned()).collect()
    }

    fn running(&self) -> String {
        fs::read_to_string(self.repo.lab.path("running")).unwrap_or_default()
    }
}

const COMPOSE: &str =
    "engine = 'compose'\nto = 'compose.yml'\ncontext = 'far'\nenv-required = ['TOKEN']";

#[test]
fn compose_deploy_runs_exactly_the_expected_commands() {
    let lab = Lab::new();
    let site = Tooled::new(&lab, COMPOSE);
    let seen = || {
        let mut seen = trace(lab.path("").as_std_path());
        seen.retain(|path, _| !path.ends_with("tool.log") && path.file_name().is_some());
        seen.remove(lab.path("").as_std_path());
        seen
    };
    site.told();
    let before = seen();
    let dry = site.xtask(&["deploy", "prod", "--dry-run"]).success();
    dry.says("build and pull its images").says("docker").never_says("ports");
    assert_eq!(seen(), before, "looking changes nothing");
    expect![[r#"
        docker compose version
        docker --context far compose --project-name repo-prod ps --all --quiet
    "#]]
    .assert_eq(&site.told());
    site.deploy().success().says("serves layer prod").never_says("secret");
    expect![[r#"
        docker compose version
        docker --context far compose --project-name repo-prod ps --all --quiet
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml config --quiet
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml build
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml pull --ignore-buildable --policy missing
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml up --detach --build --remove-orphans --wait --wait-timeout 60
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml config --services
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml ps --all --format json
        docker --context far inspect --format {{.Id}} {{.RestartCount}} {{.State.StartedAt}} one two
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml ps --all --format json
        docker --context far inspect --format {{.Id}} {{.RestartCount}} {{.State.StartedAt}} one two
    "#]].assert_eq(&site.told());
    assert!(site.running().starts_with("v1 secret 2"), "{}", site.running());
    site.xtask(&["deploy", "prod", "--verify"]).success().says("intact and healthy");
    expect![[r#"
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml config --services
        docker --context far compose --project-name repo-prod --project-directory FILES --file FILES/compose.yml ps --all --format json
        docker --context far inspect --format {{.Id}} {{.RestartCount}} {{.State.StartedAt}} one two
    "#]].assert_eq(&site.told());
    site.version("v2");
    site.deploy().success();
    site.xtask(&["rollback", "prod", "--yes"]).success();
    assert!(site.running().starts_with("v1 "));
    assert_eq!(site.outcomes(), ["verified", "verified", "verified"]);
}

#[test]
fn failed_compose_build_changes_nothing_and_unhealthy_release_rolls_back() {
    let lab = Lab::new();
    let site = Tooled::new(&lab, COMPOSE);
    // The first of all has nothing to go back to, and ends what it has begun.
    site.flag("no-up-v1");
    site.flag("ill-v1");
    site.deploy().status(1).says("is unhealthy").says("no release is serving (unchanged)");
    let told = site.told();
    let last = told.lines().last().unwrap();
    assert_eq!(last, "docker --context far compose --project-name repo-prod down --remove-orphans");
    for flag in ["no-up-v1", "ill-v1"] {
        fs::remove_file(lab.path(flag)).unwrap();
    }
    site.deploy().success();
    // An image that cannot be built.
    site.version("v2");
    site.flag("no-build-v2");
    let ran = site.deploy().status(1).says("exited with code 17").says("no such file: Dockerfile");
    ran.says("serves, as before");
    assert!(site.running().starts_with("v1 "));
    // One that does not get ready where it serves.
    site.version("v3");
    site.flag("no-up-v3");
    site.flag("ill-v3");
    site.deploy().status(4).says("is unhealthy").says("serves again");
    assert!(site.running().starts_with("v1 "));
    // One that is started again while it is watched.
    site.version("v4");
    site.flag("flaps-v4");
    site.deploy().status(4).says("was restarted");
    assert!(site.running().starts_with("v1 "));
    // And the one before is not well either by now.
    site.version("v5");
    site.flag("ill-v5");
    site.flag("ill-v1");
    site.deploy().status(5).says("container is unhealthy");
    let expected =
        ["failed", "verified", "failed", "rolled-back", "rolled-back", "rollback-failed"];
    assert_eq!(site.outcomes(), expected);
    site.xtask(&["deploy", "prod", "--verify"]).status(1);
    // One that has ended well is taken for broken by `--wait`, and is not.
    site.version("v6");
    site.flag("no-up-v6");
    fs::remove_file(lab.path("ill-v1")).unwrap();
    site.deploy().success();
    // One of which nothing comes up at all is not taken for what still runs.
    site.version("v7");
    site.flag("never-up-v7");
    site.deploy().status(4).says("no such network");
}

#[test]
fn deploy_refuses_foreign_compose_containers_and_orphaned_projects() {
    let lab = Lab::new();
    let site = Tooled::new(&lab, COMPOSE);
    site.flag("theirs");
    site.told();
    let told = site.deploy().status(1);
    told.says("project: project `repo-prod` has containers that were not deployed from this clone");
    assert!(!site.told().contains(" down "));
    fs::remove_file(lab.path("theirs")).unwrap();
    site.deploy().success();
    // Under another context all would begin anew, and what runs would go on.
    let layer = site.repo.read("deployment/prod.toml").replace("'far'", "'near'");
    site.repo.write("deployment/prod.toml", layer);
    site.version("v2");
    site.flag("theirs");
    site.deploy().status(1).says("in context `far`").says("`docker --context far compose");
    fs::remove_file(lab.path("theirs")).unwrap();
    site.deploy().success();
}

#[test]
fn deploy_never_deletes_pre_existing_kubernetes_workloads() {
    let lab = Lab::new();
    let site = Tooled::new(&lab, KUBERNETES);
    site.flag("theirs");
    site.flag("stuck-v1");
    site.deploy().status(1).says("left in the cluster");
    assert!(!site.told().contains(" delete "));
    fs::remove_file(lab.path("theirs")).unwrap();
    fs::remove_file(lab.path("stuck-v1")).unwrap();
    site.deploy().success();
    // By another name of the same cluster nothing of it goes either.
    let layer = site.repo.read("deployment/prod.toml").replace("'c'", "'renamed'");
    site.repo.write("deployment/prod.toml", layer);
    site.version("v2");
    site.deploy().success().says("left in c: ");
    assert!(!site.told().contains(" delete "));
    // A tool that says nothing has applied nothing.
    site.version("v3");
    site.flag("silent");
    site.deploy().status(1).says("reports no objects for");
    assert!(!site.told().contains(" delete "));
    assert_eq!(site.running(), "v2\n");
}

#[test]
fn missing_engine_tool_fails_a_deploy_gate() {
    let lab = Lab::new();
    let site = Tooled::new(&lab, COMPOSE);
    lab.place("").write_executable(
        "bin/docker",
        "#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2\nexit 1\n",
    );
    let ran = site.deploy().status(1).says("tools: `docker compose version` failed");
    ran.says("is not a docker command");
    let ran = site.xtask(&["deploy", "prod", "--yes", "--json"]).status(1);
    assert_eq!((&ran.json()["ok"], &ran.json()["run"]), (&Value::Bool(false), &Value::Null));
}

const KUBERNETES: &str =
    "engine = 'kubernetes'\nto = 'manifests'\ncontext = 'c'\nnamespace = 'shop'";

#[test]
fn kubernetes_deploy_runs_exactly_the_expected_commands() {
    let lab = Lab::new();
    let site = Tooled::new(&lab, KUBERNETES);
    site.told();
    site.xtask(&["deploy", "prod", "--dry-run"]).success().says("have the cluster check");
    site.told();
    site.deploy().success();
    expect![[r#"
        kubectl version --client
        kubectl --context c --namespace shop apply --dry-run=server -f FILES/manifests --recursive -o json
        kubectl --context c --namespace shop apply --dry-run=server -f FILES/manifests --recursive -o json
        kubectl --context c --namespace shop get deployment/web --ignore-not-found -o name
        kubectl --context c --namespace shop apply -f FILES/manifests --recursive -o json
        kubectl --context c --namespace shop rollout status deployment/web --timeout=60s
        kubectl --context c --namespace shop get deployment/web -o json
        kubectl --context c --namespace shop get pods --selector app=web -o json
        kubectl --context c --namespace shop get deployment/web -o json
        kubectl --context c --namespace shop get pods --selector app=web -o json
    "#]].assert_eq(&site.told());
    site.xtask(&["deploy", "prod", "--verify"]).success();
    expect![[r#"
        kubectl --context c --namespace shop get deployment/web -o json
        kubectl --context c --namespace shop get pods --selector app=web -o json
    "#]]
    .assert_eq(&site.told());
    // What a release has and the next has not: what only runs goes, what holds something stays.
    site.version("v2");
    site.flag("more-v2");
    site.repo.write("manifests/kustomization.yaml", "resources: [web.yaml]\n");
    site.version("v2");
    site.deploy().success();
    assert!(site.told().contains("apply -k FILES/manifests -o json"));
    site.version("v3");
    site.deploy().success().says("left in the cluster").says("persistentvolumeclaim/data");
    let told = site.told();
    let deleted: Vec<&str> = told.lines().filter(|line| line.contains(" delete ")).collect();
    expect!["kubectl --context c --namespace shop delete cronjob/nightly --ignore-not-found --timeout=300s"].assert_eq(&deleted.join("\n"));
    site.xtask(&["rollback", "prod", "--yes"]).success();
    assert_eq!(site.running(), "v2\n");
    assert_eq!(site.outcomes(), ["verified"; 4]);
}

#[test]
fn rejected_manifests_change_nothing_and_stuck_rollout_rolls_back() {
    let lab = Lab::new();
    let site = Tooled::new(&lab, KUBERNETES);
    site.flag("stuck-v1");
    site.deploy().status(1).says("timed out").says("no release is serving (unchanged)");
    let told = site.told();
    assert!(told.lines().last().unwrap().contains(" delete deployment/web "), "{told}");
    assert!(!told.contains("delete service"), "{told}");
    fs::remove_file(lab.path("stuck-v1")).unwrap();
    site.deploy().success();
    site.version("v2");
    site.flag("refused-v2");
    site.deploy().status(1).says("error validating data").says("serves, as before");
    assert_eq!(site.running(), "v1\n");
    site.version("v3");
    site.flag("stuck-v3");
    site.deploy().status(4).says("timed out").says("serves again");
    assert_eq!(site.running(), "v1\n");
    site.version("v4");
    site.flag("flaps-v4");
    site.deploy().status(4).says("was restarted");
    site.version("v5");
    site.flag("ill-v5");
    site.deploy().status(4).says("deployment/web: 1 of 2 are ready");
    site.version("v6");
    site.flag("ill-v6");
    site.flag("stuck-v1");
    site.deploy().status(5);
    let expected = [
        "failed",
        "verified",
        "failed",
        "rolled-back",
        "rolled-back",
        "rolled-back",
        "rollback-failed",
    ];
    assert_eq!(site.outcomes(), expected);
}

#[test]
fn real_kubectl_accepts_the_generated_commands() {
    let found = ["/usr/bin/kubectl", "/usr/local/bin/kubectl"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(kubectl) = found else {
        circle::not_tried("kubectl is not installed");
        return;
    };
    eprintln!("not tested: a cluster");
    let lab = Lab::new();
    let site = Tooled::new(&lab, KUBERNETES);
    site.deploy().success();
    site.xtask(&["deploy", "prod", "--verify"]).success();
    site.version("v2");
    site.flag("more-v2");
    site.deploy().success();
    site.version("v3");
    site.deploy().success();
    let told = fs::read_to_string(lab.path("tool.log")).unwrap();
    // A cluster at a port on which nobody listens.
    lab.place("").write(
        "kubeconfig",
        "apiVersion: v1\nkind: Config\nclusters:\n- name: here\n  cluster:\n    server: http://127.0.0.1:1\n\
         contexts:\n- name: c\n  context: { cluster: here, user: '' }\n",
    );
    let mut kinds = std::collections::BTreeSet::new();
    // The newest releases are still there.
    for line in told.lines().rev() {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let shape: Vec<&str> =
            words.iter().copied().filter(|word| !word.contains("/releases/")).collect();
        if !kinds.insert(shape.join(" ")) || words[0] == "version" {
            continue;
        }
        let mut words = words;
        words.push("--request-timeout=1s");
        let done = Command::new(kubectl)
            .args(&words)
            .env("KUBECONFIG", lab.path("kubeconfig"))
            .env("HOME", lab.path("home"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(said.contains("refused"), "{line}\n{said}");
    }
    assert!(kinds.len() > 5, "{kinds:?}");
}

#[test]
fn service_commands_of_a_compose_layer_invoke_compose() {
    let lab = Lab::new();
    let site = Tooled::new(&lab, COMPOSE);
    site.told();
    let told = |args: &[&str]| {
        site.xtask(args).success();
        site.told().replace(site.repo.dir.as_str(), "ROOT")
    };
    let all = [
        told(&["start", "--layer", "prod"]),
        told(&["ps", "--layer", "prod"]),
        told(&["logs", "--layer", "prod", "-n", "5", "web"]),
        told(&["restart", "--layer", "prod", "web"]),
        told(&["stop", "--layer", "prod"]),
    ];
    expect![[r#"
        docker --context far compose --project-name repo-prod --project-directory ROOT --file ROOT/compose.yml up --detach --wait --wait-timeout 60
        docker --context far compose --project-name repo-prod --project-directory ROOT --file ROOT/compose.yml ps --all
        docker --context far compose --project-name repo-prod --project-directory ROOT --file ROOT/compose.yml logs --tail=5 -- web
        docker --context far compose --project-name repo-prod --project-directory ROOT --file ROOT/compose.yml restart -- web
        docker --context far compose --project-name repo-prod --project-directory ROOT --file ROOT/compose.yml stop
    "#]].assert_eq(&all.concat());
    site.xtask(&["start", "--layer", "prod", "--clean"])
        .status(2)
        .says("`--clean` is not supported by");
    let dry = site.xtask(&["start", "--layer", "prod", "--dry-run"]).success();
    dry.says("up --detach --wait");
    site.repo.write("deployment/prod.toml", format!("[deploy]\n{KUBERNETES}\n"));
    let ran =
        site.xtask(&["stop", "--layer", "prod"]).status(2).says("is not supported in a cluster");
    ran.says("kubectl --context c --namespace shop scale");
    lab.place("").write_executable("bin/kubectl", "#!/bin/sh\nexit 7\n");
    site.xtask(&["start", "--layer", "prod"]).status(1).says("exited with code 7");
    site.xtask(&["start"]).status(2).says("no such layer: `local`");
}
