//! Deploying to another host. Small programs stand in for ssh, and for rsync where it is not installed: they
//! run on this machine what would run on that one, with another home and a bare environment. One test uses a
//! real sshd, where there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use xtask_base::error::Result;
use xtask_base::files::{Disk, DiskOperation};
use xtask_base::signals::Interrupts;
use xtask_config::Layer;
use xtask_deploy::DeployContext;
use xtask_deploy::host_agent::execute_request;
use xtask_deploy::release::Release;
use xtask_deploy::remote::{LocalBuild, RemoteDeploy};
use xtask_deploy::ssh::{SshHost, program_digest, program_name};
use xtask_deploy::target::DeployTarget;
use xtask_deploy::wire_protocol::{HostCommand, HostRequest, ORDER};
use xtask_git::Repo;

use crate::crash::{Fault, on_faulty_disk};
use crate::deploy::Site;
use crate::services_nasty::left;
use crate::testkit::{Lab, Ran, circle, files, program, spawn, trace};
use crate::wrong_hits::wait_for;

/// Drops what is for ssh alone, and runs the command as sshd does: by a shell, at home. `unreachable` beside
/// it breaks the network, `slow` stops what is sent.
const SSH: &str = r#"#!/bin/sh
echo "$*" >> LAB/ssh.log
while :; do
  case $1 in
    -o|-l) shift 2;;
    --) shift; break;;
    -*) shift;;
    *) break;;
  esac
done
host=$1; shift
if [ -e LAB/unreachable ]; then
  echo "ssh: connect to host $host port 22: Connection refused" >&2; exit 255
fi
cd LAB/far-home || exit 1
case "$*" in
  *rsync*--server*) if [ -e LAB/torn ]; then timeout -s KILL 1 sh -c "$*" 2>/dev/null | head -c 10; exit 255; fi;;
esac
env -i HOME=LAB/far-home USER=far XDG_RUNTIME_DIR=LAB/runtime PATH="LAB/far-bin:/usr/bin:/bin" ON_HOST=yes sh -c "$*"
"#;

/// Copies, where the real one is not there.
const RSYNC: &str = r#"#!/bin/sh
while [ $# -gt 2 ]; do shift; done
if [ -e LAB/torn ]; then echo "rsync: connection unexpectedly closed" >&2; exit 12; fi
to=${2#*:}
case $1 in
  */) rm -rf "$to" && mkdir -p "$to" && cp -a "$1." "$to";;
  *) cp -a "$1" "$to";;
esac
"#;

/// A repository whose layer `prod` is deployed to the folder `target` of a host.
struct Far<'a> {
    site: Site<'a>,
    path: String,
}

impl<'a> Far<'a> {
    fn new(lab: &'a Lab) -> Far<'a> {
        Far::with(lab, "", "")
    }

    fn with(lab: &'a Lab, keys: &str, more: &str) -> Far<'a> {
        let site = Site::with(lab, keys, more);
        let root = lab.place("");
        for folder in ["far-home", "far-bin"] {
            fs::create_dir_all(lab.path(folder)).unwrap();
        }
        let script = |text: &str| text.replace("LAB", lab.path("").as_str().trim_end_matches('/'));
        root.write_executable("bin/ssh", &script(SSH));
        if !Path::new("/usr/bin/rsync").exists() {
            eprintln!("rsync is not installed: a small program stands in for it");
            root.write_executable("bin/rsync", &script(RSYNC));
        }
        let inherited = std::env::vars().find(|(name, _)| name == "PATH").unwrap().1;
        let path = format!("{}:{inherited}", lab.path("bin"));
        let far = Far { site, path };
        far.layer(keys, more);
        far.site.version("v1 well");
        far
    }

    /// Writes the layer.
    fn layer(&self, keys: &str, more: &str) {
        let text = self.site.layer("target", keys, more);
        let text = text.replace("engine = 'directory'\nto = '", "engine = 'ssh'\nto = 'box:");
        self.site.repo.write("deployment/prod.toml", text);
    }

    fn xtask(&self, args: &[&str]) -> Ran {
        self.site.repo.xtask_with(args, &[("PATH", &self.path)])
    }

    fn deploy(&self) -> Ran {
        self.xtask(&["deploy", "prod", "--yes"])
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = Command::new(program());
        command.args(args).current_dir(&self.site.repo.dir).envs(self.site.repo.environment());
        for name in xtask_base::process::GIT_LOCAL_VARS {
            command.env_remove(name);
        }
        command.env("PATH", &self.path).stdin(Stdio::null());
        spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap()
    }

    #[track_caller]
    fn outcomes(&self) -> Vec<String> {
        let history = self.history();
        let runs = history["runs"].as_array().unwrap().clone();
        runs.iter().map(|run| run["outcome"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn history(&self) -> Value {
        self.xtask(&["history", "prod", "--json"]).success().json()
    }

    /// That this version serves, whole and verified, and nothing is left of what brought it there.
    #[track_caller]
    fn serves(&self, version: &str) {
        assert_eq!(self.site.says().as_deref(), Some(version));
        self.xtask(&["deploy", "prod", "--verify"]).success().says("intact and healthy");
        assert_eq!(self.history()["serves"], self.site.current().as_str());
        let services = left(self.site.repo.lab);
        let services: Vec<_> = services.iter().filter(|who| who.contains("plays_a_rel")).collect();
        assert_eq!(services.len(), 1, "{services:?}");
        assert_eq!(self.count("incoming"), 0);
        assert!(!self.staging().join("releases").exists());
    }

    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.site.target().join(folder)).map_or(0, Iterator::count)
    }

    fn staging(&self) -> PathBuf {
        self.site.repo.git_folder().join("xtask/deploy/prod")
    }

    fn flag(&self, name: &str, is_up: bool) {
        let path = self.site.repo.lab.path(name);
        if is_up { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

#[test]
fn release_is_built_locally_and_served_on_the_host() {
    let lab = Lab::new();
    let far = Far::new(&lab);
    let site = &far.site;
    drop(fs::remove_file(lab.path("ssh.log")));
    fs::write(lab.path("ssh.log"), "").unwrap();
    let seen = || {
        let mut seen = trace(lab.path("").as_std_path());
        seen.retain(|path, _| !path.ends_with("ssh.log"));
        seen
    };
    let before = seen();
    let dry = far.xtask(&["deploy", "prod", "--dry-run"]).success();
    dry.says("not checked: the program is not on the host yet").says("all further steps run on");
    far.xtask(&["deploy", "prod", "--verify"]).status(1).says("nothing is deployed");
    far.xtask(&["history", "prod"]).success().says("never deployed");
    far.xtask(&["status"]).success().says("prod: not known here");
    far.xtask(&["rollback", "prod", "--yes"]).status(1).says("never deployed");
    assert_eq!(seen(), before, "looking changes nothing, here or there");

    far.deploy().success().says("sending the program").says("serves layer prod");
    far.serves("v1");
    let first = site.current();
    assert_eq!(far.count("program"), 1);
    site.version("v2 well");
    far.xtask(&["deploy", "prod", "--dry-run"]).success().says("ports").never_says("not checked");
    far.deploy().success().never_says("sending the program").says("watching it");
    far.serves("v2");
    far.xtask(&["rollback", "prod", "--yes"]).success().says(&first);
    far.serves("v1");
    far.xtask(&["rollback", "prod", "nonsense", "--yes"]).status(1).says("available releases");
    assert_eq!(far.outcomes(), ["verified", "verified", "verified"]);
    let runs = far.history()["runs"].clone();
    assert_ne!(runs[0]["by"], "far", "it is who deploys, and not whom ssh becomes");
    // The host is not asked for what this clone has left there.
    far.flag("unreachable", true);
    let status = far.xtask(&["status"]).success().says("verified just now, 1 commit behind `main`");
    status.says("as of just now");
    far.flag("unreachable", false);
    for version in ["v3", "v4", "v5"] {
        site.version(&format!("{version} well"));
        far.deploy().success();
    }
    far.serves("v5");
    assert_eq!(site.releases(), 3, "`keep` is 3");
    let app = site.target().join("current/files/src/app");
    fs::write(&app, "changed\n").unwrap();
    far.xtask(&["deploy", "prod", "--verify"]).status(1).says("`src/app` differs");
    // What ssh is told asks nobody and takes the host for nothing else.
    let log = fs::read_to_string(lab.path("ssh.log")).unwrap();
    for line in log.lines().filter(|line| !line.contains("rsync")) {
        assert!(line.contains("-o BatchMode=yes") && line.contains(" -T -- box "), "{line}");
    }
}

#[test]
fn ps_logs_and_stop_work_on_a_remote_layer() {
    let lab = Lab::new();
    let far = Far::new(&lab);
    far.xtask(&["ps", "--layer", "prod"]).status(1).says("was never deployed");
    far.deploy().success();
    far.xtask(&["ps", "--layer", "prod"]).success().says("api").says("ready");
    let page = far.xtask(&["ps", "--layer", "prod", "--json"]).success().json();
    assert_eq!(page["services"][0]["health"], "healthy");
    far.xtask(&["logs", "--layer", "prod", "-n", "5"]).success();
    far.xtask(&["logs", "--layer", "prod", "x; y'z"]).status(2).says("no log of `x; y'z`");
    far.xtask(&["restart", "--layer", "prod"]).status(2).says("cargo xtask rollback prod");
    far.xtask(&["stop", "--layer", "prod", "other"]).status(2).says("has no service `other`");
    far.xtask(&["stop", "--layer", "prod"]).success().says("stopped: api");
    assert_eq!(far.site.says(), None);
    far.xtask(&["ps", "--layer", "prod"]).success().says("no release of layer `prod` is running");
    let current = far.site.current();
    far.xtask(&["rollback", "prod", &current, "--yes"]).success();
    assert_eq!(far.site.says().as_deref(), Some("v1"));
}

#[test]
fn remote_deploy_failures_give_the_same_exit_codes() {
    let lab = Lab::new();
    let far = Far::new(&lab);
    let site = &far.site;
    site.version("v0 broken");
    let ran = far.deploy().status(1).says("the candidate").says("v0 is broken");
    ran.says("no release is serving (unchanged)");
    assert_eq!((site.releases(), far.count("incoming")), (0, 0));
    site.version("v1 well");
    far.deploy().success();
    site.version("v2 dies");
    let ran = far.xtask(&["deploy", "prod", "--yes", "--watch", "4s", "--json"]).status(4);
    assert_eq!(ran.json()["run"]["outcome"], "rolled-back");
    far.serves("v1");
    site.repo.lab.place("target").write("shared/broken-v1", "");
    site.version("v3 dies");
    let ran = far.xtask(&["deploy", "prod", "--yes", "--watch", "4s"]).status(5);
    ran.says("is unhealthy").says("v1 is broken");
    assert_eq!(far.outcomes(), ["failed", "verified", "rolled-back", "rollback-failed"]);
}

#[test]
fn remote_deploy_runs_steps_in_place_and_hides_variables() {
    let lab = Lab::new();
    let log = lab.path("log");
    let step = |at: &str, more: &str| {
        format!(
            "[[deploy.step]]\nat = '{at}'\nshell = true\n\
             run = 'echo {at} ${{ON_HOST:-here}} $XTASK_SHARED >> {log}; {more}'\n"
        )
    };
    let steps =
        step("before", "true") + &step("build", "echo made > made") + &step("after", "true");
    let steps = steps + &step("release", "test -e made");
    let keys = format!("env-required = ['SECRET', 'OTHER']\n{steps}");
    let far = Far::with(&lab, &keys, "");
    let with = |args: &[&str], variables: &[(&str, &str)]| {
        let path = [("PATH", far.path.as_str())];
        let all: Vec<_> = path.iter().chain(variables).copied().collect();
        far.site.repo.xtask_with(args, &all)
    };
    let secret = ("SECRET", "very-secret");
    // What is not set here must be set there; that is seen before anything is made.
    let ran = with(&["deploy", "prod", "--yes"], &[secret]).status(1);
    ran.says("variables: not set: `OTHER`").never_says("very-secret");
    assert!(!log.exists() && far.site.says().is_none());
    // The folder that outlives releases is there once the target is ours.
    let both = [secret, ("OTHER", "x")];
    with(&["deploy", "prod", "--yes"], &both).success();
    fs::remove_file(&log).unwrap();
    far.site.repo.lab.place("target").write("shared/.env", "OTHER=of-the-host\n");
    with(&["deploy", "prod", "--yes"], &[secret]).success().never_says("very-secret");
    assert_eq!(far.site.says().as_deref(), Some("v1 very-secret"));
    let shared = far.site.target().join("shared");
    let shared = shared.display();
    assert_eq!(
        fs::read_to_string(&log).unwrap(),
        format!(
            "before here {shared}\nbuild here {shared}\nrelease yes {shared}\nafter yes {shared}\n"
        )
    );
    assert!(!fs::read_to_string(lab.path("ssh.log")).unwrap().contains("very-secret"));
    for (name, (_, text)) in files(&far.staging()) {
        assert!(!text.contains("very-secret"), "{name}");
    }
}

#[test]
fn unreachable_or_foreign_hosts_are_refused() {
    let lab = Lab::new();
    let far = Far::new(&lab);
    far.flag("unreachable", true);
    for args in [&["deploy", "prod", "--yes"][..], &["history", "prod"], &["rollback", "prod"]] {
        far.xtask(args)
            .status(3)
            .says("cannot reach host")
            .says("Connection refused")
            .says("ssh box true");
    }
    far.flag("unreachable", false);
    lab.place("").write_executable("far-bin/uname", "#!/bin/sh\necho Plan9\n");
    far.deploy().status(1).says("host `box` is Plan9 on Plan9");
    fs::remove_file(lab.path("far-bin/uname")).unwrap();
    lab.place("target").write("precious", "mine\n");
    far.deploy().status(1).says("was not created by a deploy").says("precious");
    let ran = far.xtask(&["deploy", "prod", "--yes", "--json"]).status(1);
    let gates = ran.json()["gates"].as_array().unwrap().clone();
    assert!(gates.iter().any(|gate| gate["name"] == "target" && gate["ok"] == false), "{gates:?}");
    assert_eq!(fs::read_dir(far.site.target()).unwrap().count(), 1, "nothing was written there");
    fs::remove_dir_all(far.site.target()).unwrap();
    // Where the program cannot run, it gets no order.
    lab.place("").write_executable("far-bin/mv", "#!/bin/sh\nexit 1\n");
    far.deploy().status(3);
    assert!(far.site.says().is_none() && !far.site.target().join("journal").exists());
    fs::remove_file(lab.path("far-bin/mv")).unwrap();
    far.deploy().success();
    far.serves("v1");
    // Another layer cannot take it.
    far.site.repo.write("deployment/other.toml", "extends = 'prod'\n");
    far.site.repo.commit("other");
    far.xtask(&["deploy", "other", "--yes"]).status(1).says("belongs to layer `prod`");
    far.site.repo.write(
        "deployment/next.toml",
        "extends = 'prod'\n[deploy]\nrequires = 'prod'\nto = 'box:/nowhere'",
    );
    far.site.repo.commit("next");
    let ran = far
        .xtask(&["deploy", "next", "--dry-run"])
        .status(1)
        .says("has not been verified in layer `prod`");
    ran.says("/nowhere");
    far.deploy().success();
    far.xtask(&["deploy", "next", "--dry-run"]).says("verified in prod");
}

#[test]
fn interrupted_upload_changes_nothing_and_is_retried() {
    let lab = Lab::new();
    let far = Far::new(&lab);
    far.flag("torn", true);
    far.deploy().status(3).says("host `box`");
    assert!(!far.site.target().join("journal").exists());
    far.flag("torn", false);
    far.deploy().success();
    far.serves("v1");
    far.flag("torn", true);
    far.site.version("v2 well");
    far.deploy().status(3).says("serves on the host, as before");
    assert!(!far.staging().join("releases").exists(), "what was made here is gone");
    far.flag("torn", false);
    fs::remove_dir_all(far.site.target().join("incoming")).unwrap();
    fs::create_dir(far.site.target().join("incoming")).unwrap();
    // What another run has left here is no matter.
    fs::create_dir_all(far.staging().join("releases/old/files")).unwrap();
    far.deploy().success();
    far.serves("v2");
}

#[test]
fn remote_deploy_survives_lost_connection_and_excludes_others() {
    let lab = Lab::new();
    let held = lab.path("held");
    let wait = format!(
        "[[deploy.step]]\nat = 'release'\nshell = true\n\
         run = 'touch {held}; while test -e {held}; do sleep 0.01; done'\n"
    );
    let far = Far::with(&lab, &wait, "");
    let mut first = far.start(&["deploy", "prod", "--yes"]);
    wait_for("a deploy that works there", || held.exists());
    far.deploy().status(3).says("another run is in progress");
    far.xtask(&["rollback", "prod", "--yes"]).status(3).says("another run is in progress");
    // Whoever gave the order goes away, and the connection with it.
    first.kill().unwrap();
    first.wait().unwrap();
    for who in left(&lab).iter().filter(|who| who.contains("/bin/ssh ")) {
        let pid = who.split(':').next().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    fs::remove_file(&held).unwrap();
    wait_for("the end of the run there", || {
        far.site.says().as_deref() == Some("v1") && !far.site.target().join("journal").exists()
    });
    far.serves("v1");
    assert_eq!(far.outcomes(), ["verified"]);
    // And where the program there dies, the next command ends what it had begun.
    far.site.version("v2 well");
    let mut second = far.start(&["deploy", "prod", "--yes"]);
    wait_for("a second deploy that works there", || held.exists());
    for who in left(&lab).iter().filter(|who| who.contains("deploy-host")) {
        let pid = who.split(':').next().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    assert_eq!(second.wait().unwrap().code(), Some(3));
    fs::remove_file(&held).unwrap();
    far.xtask(&["deploy", "prod", "--verify"]).status(1).says("was interrupted");
    far.xtask(&["rollback", "prod", &far.site.current(), "--yes"])
        .success()
        .says("was interrupted");
    far.serves("v1");
    assert_eq!(far.outcomes(), ["verified", "failed", "verified"]);
}

#[test]
fn ctrl_c_aborts_the_deploy_on_the_host() {
    let lab = Lab::new();
    let held = lab.path("held");
    let wait = format!(
        "[[deploy.step]]\nat = 'release'\nshell = true\n\
         run = 'touch {held}; while test -e {held}; do sleep 0.01; done'\n"
    );
    let far = Far::with(&lab, &wait, "");
    let mut run = far.start(&["deploy", "prod", "--yes"]);
    wait_for("a deploy that works there", || held.exists());
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(far.outcomes(), ["failed"]);
    assert!(far.site.says().is_none() && far.site.releases() == 0);
}

fn play(far: &Far<'_>, disk: &Disk<'_>) -> Result<()> {
    play_until(far, disk, Until::Served).map(drop)
}

/// How far a release gets.
#[derive(PartialEq, Eq)]
enum Until {
    Sent,
    Served,
}

/// The same. Where the release is only sent, what the host would be told is the answer.
fn play_until(far: &Far<'_>, disk: &Disk<'_>, until: Until) -> Result<Option<HostRequest>> {
    let place = &far.site.repo;
    let mut world = crate::crash::world(place);
    world.clock = crate::deploy_faults::real_clock;
    world.variables.insert("PATH".into(), far.path.clone().into());
    let repo = Repo::discover(place.dir.as_std_path())?;
    let text = place.read("deployment/prod.toml");
    let layer = Layer::load("prod", &|_| Ok(Some(text.clone())), &[])?;
    let (deploy, files) =
        (layer.deploy.clone().unwrap(), [("prod".to_owned(), text.clone())].into());
    let target = DeployTarget::for_layer(&repo, "prod", &deploy);
    let none = Interrupts::without_handlers();
    let ready_within = Duration::from_secs(20);
    let tell = &|_: &str| {};
    let around =
        DeployContext { world: &world, disk, interrupts: &none, tell, by: "ada", ready_within };
    let host = SshHost::for_deploy(&deploy, &world);
    let greeting = host.read_handshake(&target)?;
    host.send_program(&target, greeting.has_program(&world)?, &around)?;
    let remote = RemoteDeploy {
        host,
        target: &target,
        layer: &layer,
        deploy: &deploy,
        files: &files,
        ctx: around,
    };
    let _lock = remote.acquire_staging_lock(&repo)?;
    let (commit, watch) = (repo.head()?.commit, deploy.watch);
    let name = Release::choose_name(commit, world.now_seconds(), &|name| {
        !target.releases_folder().join(name).exists()
    });
    remote.build_and_send(&LocalBuild { repo: &repo, commit, name: &name, watch })?;
    let program = program_name(&program_digest(&world)?);
    let wanted = HostCommand::Deploy { release: name, commit: commit.to_string(), watch_ms: 100 };
    if until == Until::Sent {
        return Ok(Some(HostRequest {
            schema: ORDER.to_owned(),
            wanted,
            root: target.root.clone(),
            layer: "prod".to_owned(),
            files: files.clone(),
            by: "ada".to_owned(),
            variables: Default::default(),
            ready_within_ms: 20_000,
        }));
    }
    let ended = remote.send_command(&program, wanted, &|_| {})?;
    ended.failure.map_or(Ok(None), |failure| Err(failure.into_error()))
}

/// Does what the host is told, with a fault at step `at`; says which steps there were.
fn on_the_host(
    far: &Far<'_>,
    order: &HostRequest,
    fault: Fault,
    at: usize,
) -> (bool, Vec<DiskOperation>) {
    let mut world = crate::crash::world(&far.site.repo);
    world.clock = crate::deploy_faults::real_clock;
    let none = Interrupts::without_handlers();
    on_faulty_disk(fault, at, |disk| {
        let around = DeployContext {
            world: &world,
            disk,
            interrupts: &none,
            tell: &|_| {},
            by: "ada",
            ready_within: Duration::from_secs(20),
        };
        execute_request(order, around, &|_| {}).failure.is_none()
    })
}

#[test]
fn fault_at_any_remote_step_leaves_one_verified_release() {
    let lab = Lab::new();
    let far = Far::new(&lab);
    far.deploy().success();
    let sent = |version: &str| {
        far.site.version(&format!("{version} well"));
        play_until(&far, &Disk::real(), Until::Sent).unwrap().unwrap()
    };
    let (done, all) = on_the_host(&far, &sent("calm"), Fault::Fails, usize::MAX);
    assert!(done);
    let mut serving = "calm".to_owned();
    for fault in [Fault::Fails, Fault::Crash] {
        for at in circle::few_steps(&all) {
            let next = format!("{fault:?}{at}").to_lowercase();
            let order = sent(&next);
            let (done, steps) = on_the_host(&far, &order, fault, at);
            let told = format!("{fault:?} at {at}");
            let mend = HostRequest { wanted: HostCommand::Mend, ..order };
            // A process that another test has just forked holds the lock for a moment.
            wait_for("the next command", || on_the_host(&far, &mend, Fault::Fails, usize::MAX).0);
            assert!(!far.site.target().join("journal").exists(), "{told}: a run is under way");
            let says = far.site.says().unwrap_or_default();
            assert!(says == serving || says == next, "{told}: `{says}` serves");
            far.xtask(&["deploy", "prod", "--verify"]).success();
            assert_eq!(far.history()["serves"], far.site.current().as_str(), "{told}");
            serving = says;
            assert!(done || steps.len() > at, "{told}");
        }
    }
}

#[test]
fn fault_at_any_local_step_leaves_the_host_untouched() {
    let lab = Lab::new();
    let far = Far::new(&lab);
    far.deploy().success();
    far.site.version("v2 well");
    let forget_the_program = || {
        for entry in fs::read_dir(far.site.target().join("program")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    };
    forget_the_program();
    let (done, all) = on_faulty_disk(Fault::Fails, usize::MAX, |disk| play(&far, disk));
    done.unwrap();
    assert!(all.len() > 20, "it has many steps: {all:?}");
    let release = far.site.current();
    far.site.version("v3 well");
    for at in circle::few_steps(&all).into_iter().chain([all.len()]) {
        forget_the_program();
        let (done, steps) = on_faulty_disk(Fault::Fails, at, |disk| play(&far, disk));
        if steps.len() <= at {
            done.unwrap();
            break;
        }
        done.expect_err("because a step failed");
        assert_eq!(far.site.current(), release, "fault at {at}");
        assert!(!far.site.target().join("journal").exists(), "fault at {at}");
        assert_eq!(far.site.says().as_deref(), Some("v2"), "fault at {at}");
    }
    // What arrived with those that failed stays until it is old; it was never taken in.
    fs::remove_dir_all(far.site.target().join("incoming")).unwrap();
    far.serves("v3");
    assert_eq!(far.outcomes(), ["verified", "verified", "verified"]);
}

/// An sshd of this test alone, on this machine.
struct Sshd {
    child: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn deploy_works_over_a_real_sshd() {
    let sshd = Path::new("/usr/sbin/sshd");
    if !sshd.exists() || !Path::new("/usr/bin/rsync").exists() {
        circle::not_tried("there is no sshd or no rsync on this machine");
        return;
    }
    let lab = Lab::new();
    let far = Far::new(&lab);
    let place = lab.place("sshd");
    fs::create_dir_all(&place.dir).unwrap();
    let port = crate::testkit::port();
    for key in ["host", "user"] {
        let file = place.dir.join(key);
        place
            .run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", file.as_str()], &[])
            .success();
    }
    fs::copy(place.dir.join("user.pub"), place.dir.join("authorized")).unwrap();
    place.write(
        "config",
        format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             SetEnv HOST_LAB={0} XDG_RUNTIME_DIR={1}\n",
            place.dir,
            lab.path("runtime")
        ),
    );
    let log = fs::File::create(place.dir.join("log")).unwrap();
    // Run by root, sshd wants a folder in /run, which is there where it was ever started as a service. It gets
    // one that nobody else sees.
    let (sshd, config) = (sshd.display(), place.dir.join("config"));
    let run = format!("exec {sshd} -D -e -f {config}");
    let is_root = rustix::process::geteuid().is_root();
    let (program, args) = if is_root && !Path::new("/run/sshd").exists() {
        let own = format!("mount -t tmpfs none /run && mkdir -m 755 /run/sshd && {run}");
        ("unshare", vec!["--mount".to_owned(), "sh".to_owned(), "-c".to_owned(), own])
    } else {
        ("sh", vec!["-c".to_owned(), run])
    };
    let child = spawn(
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log),
    )
    .unwrap();
    let mut sshd = Sshd { child };
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    for _ in 0..2000 {
        if listens() {
            break;
        }
        if sshd.child.try_wait().unwrap().is_some() {
            circle::not_tried(&format!("sshd does not start: {}", place.read("log")));
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // As a person would write it into `~/.ssh/config`; ssh reads that of the account, whatever HOME says.
    place.write(
        "ssh_config",
        format!(
            "Host box\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {0}/user\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {0}/known\n  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n",
            place.dir
        ),
    );
    lab.place("").write_executable(
        "bin/ssh",
        &format!("#!/bin/sh\nexec /usr/bin/ssh -F {}/ssh_config \"$@\"\n", place.dir),
    );
    far.deploy().success().says("serves layer prod");
    far.serves("v1");
    far.site.version("v2 dies");
    far.xtask(&["deploy", "prod", "--yes", "--watch", "4s"]).status(4);
    far.serves("v1");
    far.site.version("v3 well");
    far.deploy().success();
    far.xtask(&["rollback", "prod", "--yes"]).success();
    far.serves("v1");
    assert_eq!(far.outcomes(), ["verified", "rolled-back", "verified", "verified"]);
    // A connection that is gone in the middle of a run: sshd ends nothing that was begun.
    let held = lab.path("held");
    let step = format!(
        "[[deploy.step]]\nat = 'release'\nshell = true\n\
         run = 'touch {held}; while test -e {held}; do sleep 0.01; done'\n"
    );
    far.layer(&step, "");
    far.site.version("v4 well");
    let mut run = far.start(&["deploy", "prod", "--yes"]);
    wait_for("a deploy that works there", || held.exists());
    run.kill().unwrap();
    run.wait().unwrap();
    for who in left(&lab).iter().filter(|who| who.contains("/usr/bin/ssh ")) {
        let pid = who.split(':').next().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    fs::remove_file(&held).unwrap();
    wait_for("the end of the run there", || {
        far.site.says().as_deref() == Some("v4") && !far.site.target().join("journal").exists()
    });
    far.serves("v4");
    sshd.child.kill().unwrap();
    sshd.child.wait().unwrap();
    wait_for("the end of sshd", || !listens());
    far.deploy().status(3).says("cannot reach host");
}
