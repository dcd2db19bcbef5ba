//! Deploying into a folder, with real processes on real ports, which this very binary plays.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use xtask_base::http;

use crate::services_nasty::left;
use crate::testkit::{Lab, Place, Ran, port, trace};
use crate::wrong_hits::{start, wait_for};

const PATIENCE: Duration = Duration::from_secs(10);

/// A service of a release. `src/app` says its version and how it is: `well`; `broken`, which ends at once;
/// `dies`, which ends where it serves, once it was found ready.
#[expect(clippy::exit, reason = "it plays a program")]
#[test]
#[ignore = "it is run by other tests, as a service"]
fn plays_a_release() {
    let variable = |name: &str| std::env::vars().find(|(n, _)| n == name).map(|(_, value)| value);
    let real = variable("REAL").expect("because only a service runs this");
    let port = variable("XTASK_PORT").unwrap();
    let app = fs::read_to_string("src/app").unwrap();
    let (version, how) = app.trim().split_once(' ').unwrap();
    // Files beside the releases say what goes wrong later.
    let cue = Path::new(&variable("XTASK_SHARED").unwrap()).join(format!("broken-{version}"));
    if how == "broken" || cue.exists() {
        eprintln!("{version} is broken");
        std::process::exit(4);
    }
    let turns = Path::new(&variable("XTASK_SHARED").unwrap()).join(format!("dies-{version}"));
    let dies = (how == "dies" || turns.exists()) && port == real;
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    let secret = variable("SECRET").unwrap_or_default();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        drop(stream.set_read_timeout(Some(Duration::from_secs(1))));
        drop(stream.read(&mut [0; 4096]));
        let body = format!("{version} {secret}");
        let length = body.len();
        use std::io::Write as _;
        drop(write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ));
        drop(stream);
        if dies {
            std::thread::sleep(Duration::from_millis(30));
            std::process::exit(3);
        }
    }
}

/// A repository with a layer `prod` that is deployed into the folder `target` of the lab.
pub struct Site<'a> {
    pub repo: Place<'a>,
    pub port: u16,
}

impl<'a> Site<'a> {
    pub fn new(lab: &'a Lab) -> Site<'a> {
        Site::with(lab, "", "")
    }

    /// With more keys of `[deploy]`, and more after all else.
    pub fn with(lab: &'a Lab, keys: &str, more: &str) -> Site<'a> {
        let repo = lab.repo();
        let port = port();
        let site = Site { repo, port };
        site.repo.write("deployment/prod.toml", site.layer("target", keys, more));
        site.repo.write("setup/validate.toml", "[[check]]\nname = 'c'\nrun = 'true'\n");
        site.version("v1 well");
        site
    }

    pub fn layer(&self, target: &str, keys: &str, more: &str) -> String {
        let program = std::env::current_exe().unwrap();
        let (program, target, port) = (program.display(), self.repo.lab.path(target), self.port);
        format!(
            "[status]\nenabled = false\n\
             [deploy]\nengine = 'directory'\nto = '{target}'\nwatch = '100ms'\nkeep = 3\n{keys}\n\
             [service.api]\n\
             run = ['{program}', '--exact', 'deploy::plays_a_release', '--include-ignored', '--nocapture']\n\
             port = {port}\nenv = {{ REAL = '{port}' }}\nenv-file = '?.env'\n\
             ready = {{ http = '/' }}\nrestart = {{ max = 0 }}\n{more}\n"
        )
    }

    /// Commits a version of the application.
    pub fn version(&self, app: &str) {
        self.repo.write("src/app", format!("{app}\n"));
        self.repo.commit(app);
    }

    pub fn deploy(&self) -> Ran {
        self.repo.xtask(&["deploy", "prod", "--yes"])
    }

    pub fn target(&self) -> PathBuf {
        self.repo.lab.path("target").into()
    }

    /// The release to which `current` points.
    pub fn current(&self) -> String {
        let link = fs::read_link(self.target().join("current")).unwrap();
        link.strip_prefix("releases").unwrap().to_str().unwrap().to_owned()
    }

    /// What answers on the port of the layer; nothing where nobody does.
    pub fn says(&self) -> Option<String> {
        let answer = http::get(self.port, "/", PATIENCE).ok()?;
        Some(String::from_utf8_lossy(&answer.body).trim().to_owned())
    }

    #[track_caller]
    pub fn history(&self) -> Value {
        self.repo.xtask(&["history", "prod", "--json"]).success().json()
    }

    #[track_caller]
    pub fn outcomes(&self) -> Vec<String> {
        let runs = self.history()["runs"].as_array().unwrap().clone();
        runs.iter().map(|run| run["outcome"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub fn releases(&self) -> usize {
        fs::read_dir(self.target().join("releases")).unwrap().count()
    }

    /// That one whole, verified release serves, this one, and nothing else runs.
    #[track_caller]
    pub fn serves(&self, version: &str) {
        assert_eq!(self.says().as_deref(), Some(version));
        self.repo.xtask(&["deploy", "prod", "--verify"]).success().says("intact and healthy");
        let current = self.current();
        let app = self.target().join("current/files/src/app");
        assert!(fs::read_to_string(app).unwrap().starts_with(version));
        assert_eq!(self.history()["serves"], current.as_str());
        // The service, and its supervisor.
        let left = left(self.repo.lab);
        assert_eq!(
            left.iter().filter(|who| who.contains("plays_a_release")).count(),
            1,
            "{left:?}"
        );
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        // What serves goes on until its supervisor is asked to end.
        for who in left(self.repo.lab) {
            let pid: i32 = who.split(':').next().unwrap().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            if who.contains(" supervise ") {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
            }
        }
        for _ in 0..2000 {
            if left(self.repo.lab).is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn deploy_serves_a_verified_release_and_replaces_the_previous() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    let before = trace(lab.path("").as_std_path());
    let dry = site.repo.xtask(&["deploy", "prod", "--dry-run"]).success();
    dry.says("ok  tree").says("export the commit").says("watch it for 100ms");
    site.repo.xtask(&["deploy", "prod", "--verify"]).status(1).says("nothing is deployed");
    site.repo.xtask(&["history", "prod"]).success().says("never deployed");
    assert_eq!(trace(lab.path("").as_std_path()), before, "looking changes nothing");

    site.deploy().success().says("serves layer prod");
    site.serves("v1");
    let first = site.current();
    // What only lies in the working tree is in no release.
    site.repo.write(".git/info/exclude", "stray\n");
    site.repo.write("stray", "x");
    site.version("v2 well");
    site.deploy().success();
    site.serves("v2");
    assert_ne!(site.current(), first);
    assert!(!site.target().join("current/files/stray").exists());
    let app = site.target().join("releases").join(&first).join("files/src/app");
    assert_eq!(fs::read_to_string(app).unwrap(), "v1 well\n", "an old release stays as it was");

    site.repo.xtask(&["rollback", "prod", "--yes"]).success().says(&first);
    site.serves("v1");
    site.repo
        .xtask(&["rollback", "prod", "nonsense", "--yes"])
        .status(1)
        .says("available releases");
    assert_eq!(site.outcomes(), ["verified", "verified", "verified"]);
    // What somebody has put beside the releases is nobody's to tidy up.
    let own = site.target().join("releases/own");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("manifest"), "mine\n").unwrap();
    for version in ["v3", "v4", "v5"] {
        site.version(&format!("{version} well"));
        site.deploy().success();
    }
    site.serves("v5");
    assert_eq!(fs::read_to_string(own.join("manifest")).unwrap(), "mine\n");
    fs::remove_dir_all(own).unwrap();
    assert_eq!(site.releases(), 3, "`keep` is 3");
    site.repo.xtask(&["rollback", "prod", &first, "--yes"]).status(1).says("no longer exists");
}

#[test]
fn status_shows_the_deployed_release_and_commits_behind() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    let status = |text: &str| {
        // The supervisor of the release before may take its files away just now; what writes does so each time.
        for _ in 0..50 {
            let before = trace(lab.path("").as_std_path());
            site.repo.xtask(&["status"]).success().says(text);
            let json =
                site.repo.xtask(&["status", "--json"]).success().json()["deployed"][0].clone();
            if trace(lab.path("").as_std_path()) == before {
                return json;
            }
        }
        panic!("looking changes something each time");
    };
    let json = status("prod: nothing is deployed");
    assert_eq!((&json["ok"], &json["release"]), (&Value::Bool(true), &Value::Null));
    site.deploy().success();
    let commit = site.repo.head();
    let json = status("verified just now, up to date with `main`");
    assert_eq!(
        (&json["behind"], &json["commit"]),
        (&Value::from(0), &Value::from(commit.as_str()))
    );
    assert_eq!(json["release"], site.current().as_str());
    site.version("v2 well");
    site.version("v3 dies");
    status("2 commits behind `main`");
    // Elsewhere the branch is another one, and what was deployed is not on it.
    site.repo.git(&["switch", "--quiet", "-c", "other", "HEAD~3"]);
    assert!(!site.repo.has("deployment/prod.toml"));
    site.repo.git(&["checkout", "main", "--", "deployment", "setup"]);
    site.repo.commit("other");
    status("not on `other`, which has 1 commit more");
    // One that is not well any more, and a run that was interrupted.
    site.repo.git(&["switch", "--quiet", "main"]);
    site.repo.lab.place("target").write("shared/broken-v1", "");
    site.repo.xtask(&["deploy", "prod", "--yes", "--watch", "4s"]).status(5);
    let json = status("NOT verified");
    assert_eq!((&json["ok"], &json["verified"]), (&Value::Bool(false), &Value::Bool(false)));
    site.repo.lab.place("target").write("journal", "");
    status("a run is in progress or was interrupted");
    fs::remove_file(site.target().join("journal")).unwrap();
    // What cannot be told is told.
    site.repo.lab.place("target").write("target", "torn");
    status("cannot read");
    site.repo.write("deployment/prod.toml", "[deploy]\nengine = 'x'\n");
    status("faults in the layer `prod`");
}

#[test]
fn candidate_that_never_gets_ready_changes_nothing() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.version("v0 broken");
    site.deploy().status(1).says("v0 is broken").says("no release is serving (unchanged)");
    assert!(site.says().is_none() && site.releases() == 0);
    site.version("v1 well");
    site.deploy().success();
    site.version("v2 broken");
    site.deploy().status(1).says("the candidate").says("serves, as before");
    site.serves("v1");
    assert_eq!(site.outcomes(), ["failed", "verified", "failed"]);
    assert_eq!(site.releases(), 1);
}

#[test]
fn release_that_dies_during_watch_is_rolled_back() {
    let lab = Lab::new();
    let site = Site::with(&lab, "watch = '10s'", "");
    let watched = ["deploy", "prod", "--yes", "--watch", "100ms"];
    site.repo.write("deployment/prod.toml", site.layer("target", "", ""));
    site.version("v0 dies");
    let ran = site.repo.xtask(&["deploy", "prod", "--yes", "--watch", "4s"]).status(1);
    ran.says("no release is serving (unchanged)");
    assert!(site.says().is_none() && !site.target().join("current").exists());
    site.version("v1 well");
    site.repo.xtask(&watched).success();
    site.version("v2 dies");
    let ran = site.repo.xtask(&["deploy", "prod", "--yes", "--watch", "4s", "--json"]).status(4);
    assert_eq!(ran.json()["run"]["outcome"], "rolled-back");
    site.serves("v1");
    // The release before is broken as well by now.
    site.repo.lab.place("target").write("shared/broken-v1", "");
    site.version("v3 dies");
    let ran = site.repo.xtask(&["deploy", "prod", "--yes", "--watch", "4s"]).status(5);
    ran.says("is unhealthy").says("v1 is broken");
    assert_eq!(site.outcomes(), ["failed", "verified", "rolled-back", "rollback-failed"]);
    assert_eq!(site.history()["serves"], Value::Null);
    site.repo.xtask(&["deploy", "prod", "--verify"]).status(1);
    // And the next good one serves again.
    site.version("v4 well");
    site.repo.xtask(&watched).success();
    site.serves("v4");
}

/// Found by a review and by a new user: what was said and was not so.
#[test]
fn rollback_is_watched_and_two_rollbacks_go_back_twice() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    for version in ["v1 well", "v2 well", "v3 well"] {
        site.version(version);
        site.deploy().success();
    }
    for version in ["v2", "v1"] {
        site.repo.xtask(&["rollback", "prod", "--yes"]).success();
        site.serves(version);
    }
    site.repo.xtask(&["rollback", "prod", "--yes"]).status(1).says("no verified release is older");
    // The release before gets ready once more, and dies then.
    site.repo.lab.place("target").write("shared/dies-v1", "");
    site.version("v4 dies");
    let ran = site.repo.xtask(&["deploy", "prod", "--yes", "--watch", "4s"]).status(5);
    ran.says("is unhealthy").says("logs: ").says("`cargo xtask rollback prod RELEASE`");
    assert_eq!(site.history()["serves"], Value::Null);
    site.repo.xtask(&["status"]).success().says("NOT verified");
}

#[test]
fn rollback_with_failing_restart_reports_that_nothing_serves() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.deploy().success();
    let release = site.current();
    site.repo.lab.place("target").write("shared/broken-v1", "");
    let kill_all = || {
        for who in left(&lab) {
            let pid = who.split(':').next().unwrap();
            site.repo.run("kill", &["-9", pid], &[]);
        }
        wait_for("nothing", || left(&lab).is_empty());
    };
    kill_all();
    let ran = site.repo.xtask(&["rollback", "prod", &release, "--yes"]).status(1);
    ran.says("no release is serving");
    assert_eq!((site.says(), &site.history()["serves"]), (None, &Value::Null));
    // After a boot nothing runs either, whatever the history says.
    fs::remove_file(site.target().join("shared/broken-v1")).unwrap();
    site.repo.xtask(&["rollback", "prod", &release, "--yes"]).success();
    kill_all();
    site.repo.xtask(&["status"]).success().says("but its services are not running");
    site.version("v2 broken");
    site.deploy().status(1).says("should be serving but is unhealthy");
}

#[test]
fn release_stays_verified_after_an_interrupted_rollback() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.deploy().success();
    let first = site.current();
    site.version("v2 well");
    site.deploy().success();
    let args = ["rollback", "prod", &first, "--yes", "--watch", "60s"];
    let mut command = start(&site.repo, &args);
    wait_for("the first one", || site.says().as_deref() == Some("v1"));
    let journal = || fs::read_to_string(site.target().join("journal")).unwrap_or_default();
    wait_for("the watch", || journal().contains("\"watch\""));
    let pid = rustix::process::Pid::from_child(&command);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(command.wait().unwrap().code(), Some(130));
    site.serves("v2");
    assert_eq!(site.outcomes(), ["verified", "verified", "interrupted"]);
    site.repo.xtask(&["rollback", "prod", &first, "--yes"]).success();
    site.serves("v1");
}

#[test]
fn rollback_requires_variables_and_history_stores_no_program_output() {
    let lab = Lab::new();
    let site = Site::with(&lab, "env-required = ['SECRET']", "");
    site.repo.xtask_with(&["deploy", "prod", "--yes"], &[("SECRET", "s1")]).success();
    site.version("v2 well");
    site.repo.xtask_with(&["deploy", "prod", "--yes"], &[("SECRET", "s1")]).success();
    site.repo.xtask(&["rollback", "prod", "--yes"]).status(1).says("not set: `SECRET`");
    assert_eq!(site.says().as_deref(), Some("v2 s1"));
    site.version("v3 broken");
    let ran = site.repo.xtask_with(&["deploy", "prod", "--yes"], &[("SECRET", "s1")]).status(1);
    ran.says("v3 is broken");
    let history = site.target().join("history");
    assert!(!fs::read_to_string(&history).unwrap().contains("is broken"));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn deploy_keeps_foreign_folders_and_requires_commits_at_a_remote() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.deploy().success();
    let releases = site.target().join("releases");
    let (own, copy) = (releases.join(site.current()), releases.join("mine"));
    site.repo.run("cp", &["-a", own.to_str().unwrap(), copy.to_str().unwrap()], &[]).success();
    for number in 2..6 {
        site.version(&format!("v{number} well"));
        site.deploy().success();
    }
    assert!(copy.join("manifest").exists() && site.releases() == 4);
    // One by hand is seen by those who look.
    let current = site.target().join("current");
    fs::remove_file(&current).unwrap();
    site.repo.link(own.to_str().unwrap(), "../target/current");
    site.repo.xtask(&["status"]).success().says("but `current` was changed manually");
    site.repo.xtask(&["deploy", "prod", "--verify"]).status(1).says("it was changed manually");
    // A branch that follows one of this very clone is pushed nowhere.
    let origin = lab.repo_with("origin", &[]);
    site.repo.git(&["remote", "add", "origin", origin.dir.as_str()]);
    site.repo.git(&["switch", "--quiet", "-c", "release"]);
    site.repo.git(&["branch", "--quiet", "--set-upstream-to", "main"]);
    site.deploy().status(1).says("is not on any remote");
}

#[test]
fn rollback_restores_the_configuration_of_the_older_release() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.repo.lab.place("target-shared").write(".env", "");
    site.deploy().success();
    site.repo.lab.place("target").write("shared/.env", "SECRET=from-the-shared-file\n");
    site.repo.write(
        "deployment/prod.toml",
        site.layer("target", "", "").replace("env = { ", "env = { SECRET = 'of-v2', "),
    );
    site.version("v2 well");
    site.deploy().success();
    assert_eq!(site.says().as_deref(), Some("v2 of-v2"));
    site.repo.xtask(&["rollback", "prod", "--yes"]).success();
    assert_eq!(site.says().as_deref(), Some("v1 from-the-shared-file"));
}

#[test]
fn deploy_steps_run_in_order_and_their_output_is_released() {
    let lab = Lab::new();
    let log = lab.path("log");
    let step = |at: &str, more: &str| {
        format!(
            "[[deploy.step]]\nat = '{at}'\nshell = true\n\
             run = 'echo {at} $(basename \"$PWD\") >> {log}; {more}'\n"
        )
    };
    let steps = step("after", "false") + &step("build", "echo made > made; chmod 755 made");
    let steps = steps + &step("release", "test -x made") + &step("before", "true");
    let site = Site::with(&lab, &steps, "");
    site.deploy().success().says("the after step");
    let expected = "before repo\nbuild files\nrelease files\nafter files\n";
    assert_eq!(fs::read_to_string(&log).unwrap(), expected);
    site.serves("v1");
    let made = site.target().join("current/files/made");
    assert_eq!(fs::read_to_string(&made).unwrap(), "made\n");
    fs::write(&made, "changed\n").unwrap();
    site.repo.xtask(&["deploy", "prod", "--verify"]).status(1).says("`made` differs");
    fs::write(&made, "made\n").unwrap();
    let bad = site.layer("target", &step("build", "echo no such luck; exit 7"), "");
    site.repo.write("deployment/prod.toml", bad);
    site.version("v2 well");
    site.deploy().status(1).says("exited with code 7").says("no such luck");
    site.serves("v1");
    // A step that changes what was sealed.
    let bad = site.layer("target", &step("release", "echo x > src/app"), "");
    site.repo.write("deployment/prod.toml", bad);
    site.version("v3 well");
    site.deploy().status(1).says("`src/app` differs");
    site.serves("v1");
}

#[test]
fn each_deploy_gate_refuses_and_all_failures_are_reported() {
    let lab = Lab::new();
    let origin = lab.place("origin.git");
    fs::create_dir_all(&origin.dir).unwrap();
    origin.git(&["init", "--quiet", "--bare"]);
    let keys = "branches = ['main']\nrequires = 'stage'\nenv-required = ['TOKEN', 'KEY']";
    let site = Site::with(&lab, keys, "");
    let stage = site.layer("stage", "", "").replace(&site.port.to_string(), &port().to_string());
    site.repo.write("deployment/stage.toml", stage);
    site.repo.commit("stage");
    site.repo.git(&["remote", "add", "origin", origin.dir.as_str()]);
    site.repo.git(&["push", "--quiet", "-u", "origin", "main"]);
    site.repo.git(&["switch", "--quiet", "-c", "topic"]);
    site.version("v1 well ");
    site.repo.write("src/app", "v1 changed\n");
    site.repo.write("src/new", "new\n");
    let _taken = TcpListener::bind(("127.0.0.1", site.port)).unwrap();
    let with =
        |variables: &[(&str, &str)]| site.repo.xtask_with(&["deploy", "prod", "--yes"], variables);
    let ran = with(&[("TOKEN", "very-secret")]).status(1).never_says("very-secret");
    let ran = ran.says("tree: ").says("src/app").says("src/new").says("branch: `topic` may not");
    let ran = ran.says("pushed: ").says("requires: ").says("deploy stage");
    ran.says("variables: not set: `KEY`").says("ports: ").says("6 preflight checks failed");
    drop(_taken);
    assert!(!lab.path("target").exists(), "a refusal makes nothing");
    site.repo.git(&["reset", "--quiet", "--hard"]);
    fs::remove_file(site.repo.dir.join("src/new")).unwrap();
    site.repo.git(&["checkout", "--quiet", "--detach", "main"]);
    let all = [("TOKEN", "a"), ("KEY", "b")];
    with(&all).status(1).says("branch: HEAD is detached").never_says("tree: ").says("requires: ");
    site.repo.git(&["switch", "--quiet", "main"]);
    site.repo.xtask(&["deploy", "stage", "--yes"]).success();
    with(&all).success();
    site.version("v2 well");
    with(&all).status(1).says("pushed: ").says("requires: ");
    site.repo.git(&["push", "--quiet"]);
    with(&all).status(1).never_says("pushed: ").says("requires: ");
    site.repo.xtask(&["deploy", "stage", "--yes"]).success();
    with(&all).success();
}

#[test]
fn deploy_refuses_foreign_targets_without_touching_them() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    lab.place("target").write("precious", "mine\n");
    site.deploy().status(1).says("was not created by a deploy").says("precious");
    assert_eq!(fs::read_dir(site.target()).unwrap().count(), 1);
    fs::remove_file(site.target().join("precious")).unwrap();
    site.deploy().success();
    // Another layer cannot take it.
    site.repo.write("deployment/other.toml", "extends = 'prod'\n");
    site.repo.commit("other");
    site.repo.xtask(&["deploy", "other", "--yes"]).status(1).says("belongs to layer `prod`");
    // A link that somebody has changed, or replaced by a folder.
    let link = site.target().join("current");
    let good = fs::read_link(&link).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/tmp", &link).unwrap();
    site.version("v2 well");
    site.deploy().status(1).says("it was changed manually").says("ln -sfn");
    site.repo.xtask(&["rollback", "prod", "--yes"]).status(1);
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    site.deploy().status(1).says("is not a symlink");
    site.repo.xtask(&["deploy", "prod", "--verify"]).status(1).says("is not a symlink");
    fs::remove_dir(&link).unwrap();
    std::os::unix::fs::symlink(good, &link).unwrap();
    site.serves("v1");
    site.deploy().success();
    // A target that cannot be a folder.
    site.repo.write("deployment/prod.toml", site.layer("repo/src/app/below", "", ""));
    site.version("v3 well");
    site.deploy().status(1).says("target: ");
    site.repo.write("deployment/prod.toml", "[service.a]\nrun = 'a'\n");
    site.deploy().status(2).says("has no `[deploy]`").says("[deploy]");
}

#[test]
fn concurrent_deploy_is_refused_and_confirmation_is_required() {
    let lab = Lab::new();
    let held = lab.path("held");
    let wait = format!(
        "[[deploy.step]]\nat = 'build'\nshell = true\n\
         run = 'touch {held}; while test -e {held}; do sleep 0.01; done'\n"
    );
    let site = Site::with(&lab, &wait, "");
    let mut first = start(&site.repo, &["deploy", "prod", "--yes"]);
    wait_for("a deploy that builds", || held.exists());
    site.deploy().status(3).says("another run is in progress").says("deploy by").says("started");
    site.repo.xtask(&["rollback", "prod", "--yes"]).status(3).says("another run is in progress");
    fs::remove_file(&held).unwrap();
    assert!(first.wait().unwrap().success());
    site.serves("v1");
    site.repo.xtask(&["deploy", "prod"]).status(2).says("--yes");
    assert_eq!(site.outcomes(), ["verified"]);
}

#[test]
fn rollback_to_the_current_release_restarts_it_after_reboot() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.deploy().success();
    let who = left(&lab).into_iter().find(|who| who.contains(" supervise ")).unwrap();
    let pid: i32 = who.split(':').next().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_for("the end of all", || left(&lab).is_empty());
    site.repo.xtask(&["deploy", "prod", "--verify"]).status(1).says("api: ");
    let current = site.current();
    site.repo.xtask(&["rollback", "prod", &current, "--yes"]).success();
    site.serves("v1");
}
