//! A real Docker Compose and a real engine: podman, behind the socket that Docker's client speaks to. Images are
//! built from nothing but busybox, and containers share the network of the machine, so that no registry and no
//! bridge is needed. Health checks do not run there. Tried with Compose 2.40.3, podman 4.3.1 and runc 1.1.5.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use xtask_base::http;

use crate::services_nasty::kill;
use crate::testkit::{Lab, Place, Ran, circle, port, spawn};
use crate::wrong_hits::wait_for;

const PATIENCE: Duration = Duration::from_secs(5);

/// All that it takes; what is missing is named.
fn missing() -> Option<&'static str> {
    let is_there = |path: &str| Path::new(path).is_file();
    if !is_there("/usr/bin/podman") || !(is_there("/usr/sbin/runc") || is_there("/usr/bin/runc")) {
        return Some("podman with runc is not installed");
    }
    if !is_there("/usr/bin/busybox") && !is_there("/bin/busybox") {
        return Some("busybox is not installed");
    }
    if !rustix::process::geteuid().is_root() {
        return Some("podman is tried by root alone");
    }
    let compose = Command::new("docker").args(["compose", "version"]).output();
    let has_compose = compose.is_ok_and(|said| said.status.success());
    (!has_compose).then_some("Docker Compose is not installed")
}

/// An engine of its own, with all that it stores.
struct Engine<'a> {
    lab: &'a Lab,
    podman: Child,
}

impl<'a> Engine<'a> {
    fn new(lab: &'a Lab) -> Engine<'a> {
        let root = lab.place("");
        let graph = lab.path("graph");
        root.write(
            "containers.conf",
            "[containers]\ndefault_ulimits = ['nofile=1024:1024', 'nproc=1000:1000']\nnetns = 'host'\n\
             [engine]\ncgroup_manager = 'cgroupfs'\nevents_logger = 'file'\nruntime = 'runc'\n",
        );
        root.write(
            "storage.conf",
            format!("[storage]\ndriver = 'vfs'\ngraphroot = '{graph}'\nrunroot = '{graph}-run'\n"),
        );
        let podman = Engine::begin(lab);
        Engine { lab, podman }
    }

    fn begin(lab: &Lab) -> Child {
        let socket = lab.path("engine.sock");
        let mut command = Command::new("podman");
        command.args(["system", "service", "--time", "0", &format!("unix://{socket}")]);
        command.env("CONTAINERS_CONF", lab.path("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", lab.path("storage.conf"));
        command.stdout(File::create(lab.path("engine.log")).unwrap());
        command.stderr(File::create(lab.path("engine.err")).unwrap());
        let podman = spawn(&mut command).unwrap();
        wait_for("an engine", || {
            std::os::unix::net::UnixStream::connect(socket.as_std_path()).is_ok()
        });
        podman
    }

    fn dies(&mut self) {
        self.podman.kill().unwrap();
        self.podman.wait().unwrap();
    }

    fn comes_back(&mut self) {
        self.podman = Engine::begin(self.lab);
    }

    /// What `docker` says.
    fn docker(&self, args: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", format!("unix://{}", self.lab.path("engine.sock")));
        let said = command.output().unwrap();
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "--all", "--quiet"]);
        let ids: Vec<&str> = all.lines().collect();
        if !ids.is_empty() {
            let mut args = vec!["rm", "--force"];
            args.extend(ids);
            self.docker(&args);
        }
        self.dies();
        // What it has mounted goes before the folder.
        for line in fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines() {
            let at = line.split(' ').nth(1).unwrap_or_default();
            if at.starts_with(self.lab.path("graph").as_str()) {
                drop(Command::new("umount").args(["-l", at]).output());
            }
        }
    }
}

struct Shop<'a> {
    repo: Place<'a>,
    engine: Engine<'a>,
    port: u16,
}

impl<'a> Shop<'a> {
    fn new(lab: &'a Lab) -> Shop<'a> {
        let engine = Engine::new(lab);
        let repo = lab.repo();
        let port = port();
        repo.write("setup/validate.toml", "[[check]]\nname = 'c'\nrun = 'true'\n");
        repo.write(
            "deployment/prod.toml",
            "[deploy]\nwatch = '1s'\nkeep = 3\nengine = 'compose'\nto = 'app/compose.yml'\n",
        );
        let busybox =
            ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|p| Path::new(p).is_file());
        fs::create_dir_all(repo.dir.join("app/image")).unwrap();
        fs::copy(busybox.unwrap(), repo.dir.join("app/image/busybox")).unwrap();
        repo.write(
            "app/image/Dockerfile",
            "FROM scratch\nCOPY busybox /bin/busybox\nCOPY src /src\nENTRYPOINT [\"/bin/busybox\"]\n",
        );
        repo.write("app/.env", format!("WEB_PORT={port}\n"));
        repo.write("app/web.env", "GREETING=hello\n");
        repo.write(
            "app/parts/base.yml",
            "services:\n  base:\n    build: { context: ../image }\n    image: shop:${XTASK_RELEASE:-dev}\n    \
             network_mode: host\n    stop_grace_period: 1s\n",
        );
        repo.write(
            "app/parts/clock.yml",
            "services:\n  clock:\n    extends: { file: base.yml, service: base }\n    \
             command: ['sh', '-c', 'while :; do busybox date; busybox sleep 1; done']\n",
        );
        let shop = Shop { repo, engine, port };
        shop.version("v1", "");
        shop
    }

    /// A version of it; `web` is what its server does before it serves.
    fn version(&self, version: &str, web: &str) {
        let base = "extends: { file: parts/base.yml, service: base }";
        self.repo.write("app/image/src/version", version);
        self.repo.write(
            "app/compose.yml",
            format!(
                "include: [parts/clock.yml]\nservices:\n  migrate:\n    {base}\n    \
                 command: ['sh', '-c', 'busybox cat /src/version >> /data/migrations; busybox echo >> /data/migrations']\n    \
                 volumes: ['data:/data']\n  web:\n    {base}\n    \
                 command: ['sh', '-c', '{web} busybox echo $$GREETING > /data/greeting; \
                 busybox cp /src/version /data/version; exec busybox httpd -f -p ${{WEB_PORT}} -h /data']\n    \
                 env_file: [web.env]\n    volumes: ['data:/data', './static:/static:ro']\n    \
                 depends_on: {{ migrate: {{ condition: service_completed_successfully }} }}\n  debug:\n    {base}\n    \
                 command: ['sleep', '600']\n    profiles: ['debug']\nvolumes: {{ data: {{}} }}\n"
            ),
        );
        self.repo.write("app/static/page", version);
        self.repo.commit(version);
    }

    fn xtask(&self, args: &[&str]) -> Ran {
        let host = format!("unix://{}", self.engine.lab.path("engine.sock"));
        let mut plugins = std::env::vars().filter(|(name, _)| name == "HOME");
        let plugins = format!("{}/.docker", plugins.next().map_or(String::new(), |(_, home)| home));
        self.repo.xtask_with(
            args,
            &[("DOCKER_HOST", &host), ("DOCKER_BUILDKIT", "0"), ("DOCKER_CONFIG", &plugins)],
        )
    }

    fn deploy(&self) -> Ran {
        self.xtask(&["deploy", "prod", "--yes"])
    }

    fn get(&self, path: &str) -> Option<String> {
        let answer = http::get(self.port, path, PATIENCE).ok().filter(|one| one.status == 200)?;
        Some(String::from_utf8_lossy(&answer.body).trim().to_owned())
    }

    fn migrations(&self) -> Vec<String> {
        let all = self.get("/migrations").unwrap_or_default();
        all.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn container(&self, service: &str) -> String {
        let label = format!("label=com.docker.compose.service={service}");
        self.engine.docker(&["ps", "--quiet", "--filter", &label])
    }
}

/// Somebody who asks all the time.
#[derive(Clone, Default)]
struct Load {
    is_over: Arc<AtomicBool>,
    answers: Arc<AtomicU32>,
}

struct End(Load);

impl Drop for End {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

#[test]
fn real_compose_deploys_and_rolls_back_without_data_loss() {
    if let Some(why) = missing() {
        return circle::not_tried(why);
    }
    let lab = Lab::new();
    let mut shop = Shop::new(&lab);
    shop.deploy().success().says("serves layer prod");
    assert_eq!(shop.get("/version").as_deref(), Some("v1"));
    assert_eq!(shop.get("/greeting").as_deref(), Some("hello"), "its file of variables");
    assert!(shop.container("debug").is_empty(), "of a profile that nobody asked for");
    // Under load, five times, with one that fails and a rollback between; what a volume holds stays.
    let (load, port) = (Load::default(), shop.port);
    std::thread::scope(|scope| {
        let load = load.clone();
        // Also where the test fails.
        let _end = End(load.clone());
        scope.spawn(move || {
            while !load.is_over.load(Ordering::SeqCst) {
                if http::get(port, "/version", PATIENCE).is_ok_and(|answer| answer.status == 200) {
                    load.answers.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for version in ["v2", "v3"] {
            shop.version(version, "");
            shop.deploy().success();
            assert_eq!(shop.get("/version").as_deref(), Some(version));
        }
        shop.version("v4", "exit 3;");
        shop.deploy().status(4).never_says("serves layer prod");
        wait_for("the one before", || shop.get("/version").as_deref() == Some("v3"));
        shop.xtask(&["rollback", "prod", "--yes"]).success();
        assert_eq!(shop.get("/version").as_deref(), Some("v2"));
    });
    assert!(load.answers.load(Ordering::SeqCst) > 20, "it served in between");
    assert_eq!(shop.migrations(), ["v1", "v2", "v3", "v4", "v3", "v2"], "every run that was");
    // Commands of the layer go to what serves, whatever the worktree says now.
    shop.xtask(&["ps", "--layer", "prod"]).success().says("web").says("migrate");
    shop.xtask(&["logs", "--layer", "prod", "-n", "2", "clock"]).success().says("UTC");
    shop.xtask(&["stop", "--layer", "prod"]).success();
    assert_eq!(shop.get("/version"), None);
    shop.repo.write("app/compose.yml", "services: { broken: { image: nowhere } }\n");
    let ran = shop.xtask(&["start", "--layer", "prod"]);
    wait_for("the release that served", || shop.get("/version").as_deref() == Some("v2"));
    assert!(shop.container("broken").is_empty(), "{}", ran.err);
    shop.xtask(&["restart", "--layer", "prod", "web"]).success();
    wait_for("the same", || shop.get("/version").as_deref() == Some("v2"));
    shop.repo.git(&["checkout", "-q", "--", "app/compose.yml"]);
    // One that another release had is removed with it.
    assert!(!shop.container("clock").is_empty());
    shop.version("v5", "");
    let text = shop.repo.read("app/compose.yml");
    shop.repo.write("app/compose.yml", text.replace("include: [parts/clock.yml]\n", ""));
    shop.repo.commit("without a clock");
    shop.deploy().success();
    assert!(shop.container("clock").is_empty(), "an orphan is left");
    // A container that is killed while it is watched.
    shop.version("v6", "");
    shop.repo.write(
        "deployment/prod.toml",
        shop.repo.read("deployment/prod.toml").replace("watch = '1s'", "watch = '20s'"),
    );
    shop.repo.commit("watched for longer");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the new one", || shop.get("/version").as_deref() == Some("v6"));
            let pid = shop.engine.docker(&[
                "inspect",
                "--format",
                "{{.State.Pid}}",
                &shop.container("web"),
            ]);
            kill(pid.parse().unwrap());
        });
        shop.deploy().status(4);
    });
    wait_for("the one before", || shop.get("/version").as_deref() == Some("v5"));
    // The engine dies in the middle: it says so, and what it has done is put right once it is there again.
    shop.repo.write(
        "deployment/prod.toml",
        shop.repo.read("deployment/prod.toml").replace("watch = '20s'", "watch = '1s'"),
    );
    shop.version("v7", "");
    let before = shop.migrations().len();
    let ran = std::thread::scope(|scope| {
        let Shop { engine, .. } = &shop;
        let pid = engine.podman.id();
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(1500));
            kill(pid);
        });
        shop.deploy()
    });
    drop(shop.engine.podman.wait());
    assert!(ran.code != Some(0), "{}{}", ran.out, ran.err);
    shop.engine.comes_back();
    shop.xtask(&["deploy", "prod", "--verify"]);
    shop.deploy().success();
    assert_eq!(shop.get("/version").as_deref(), Some("v7"));
    assert!(shop.migrations().len() > before, "and the volume is what it was");
    shop.xtask(&["deploy", "prod", "--verify"]).success();
}
