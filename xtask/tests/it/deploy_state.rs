//! What services keep outlives every release, is opened by one of them at a time, and is lost by no deploy.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xtask_base::http;

use crate::deploy::Site;
use crate::testkit::{Lab, circle, port, write_script};

const PATIENCE: Duration = Duration::from_secs(10);

/// A database: it opens its file alone, and keeps each row that is sent to it before it says so.
#[test]
#[ignore = "it is run by other tests, as a service"]
fn plays_a_database() {
    let variable = |name: &str| std::env::vars().find(|(n, _)| n == name).map(|(_, value)| value);
    let folder = variable("KEEPS").expect("because only a service runs this");
    let rows = Path::new(&folder).join("rows");
    let mut file = OpenOptions::new().create(true).append(true).open(&rows).unwrap();
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&file, lock).expect("because nobody else may have opened it");
    let listener =
        TcpListener::bind(("127.0.0.1", variable("XTASK_PORT").unwrap().parse().unwrap())).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        drop(stream.set_read_timeout(Some(Duration::from_secs(1))));
        let mut line = String::new();
        drop(BufReader::new(&stream).read_line(&mut line));
        let path = line.split(' ').nth(1).unwrap_or_default();
        if let Some(row) = path.strip_prefix("/add/") {
            writeln!(file, "{row}").unwrap();
        }
        let body = fs::read_to_string(&rows).unwrap();
        let length = body.len();
        drop(write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ));
    }
}

/// The layer of `deploy.rs`, with a database that its service needs.
struct Kept<'a> {
    site: Site<'a>,
    port: u16,
}

impl<'a> Kept<'a> {
    /// Where the database keeps its rows, and more of its keys.
    fn new(lab: &'a Lab, keeps: &str, keys: &str, deploy: &str) -> Kept<'a> {
        let port = port();
        let program = std::env::current_exe().unwrap();
        let database = format!(
            "needs = ['db']\n[service.db]\nrun = ['{}', '--exact', 'deploy_state::plays_a_database', \
             '--include-ignored', '--nocapture']\nport = {port}\nenv = {{ KEEPS = '{keeps}' }}\n\
             ready = {{ http = '/' }}\nrestart = {{ max = 0 }}\n{keys}\n",
            program.display()
        );
        Kept { site: Site::with(lab, deploy, &database), port }
    }

    fn add(&self, row: &str) {
        http::get(self.port, &format!("/add/{row}"), PATIENCE).unwrap();
    }

    #[track_caller]
    fn holds(&self, rows: &[&str]) {
        let answer = http::get(self.port, "/", PATIENCE).unwrap();
        let held = String::from_utf8(answer.body).unwrap();
        assert_eq!(held.lines().collect::<Vec<_>>(), rows);
    }
}

#[test]
fn service_state_survives_deploys_and_rollbacks() {
    let lab = Lab::new();
    let kept = Kept::new(&lab, "{state}/db", "state = 'db'", "");
    let site = &kept.site;
    site.deploy().success();
    kept.add("one");
    site.version("v2 well");
    // A second one would not get the file: the one that serves stands for it.
    let ran = site.deploy().success();
    ran.says("`db` is already running and is used by the candidate");
    kept.holds(&["one"]);
    kept.add("two");
    site.repo.xtask(&["rollback", "prod", "--yes"]).success();
    assert_eq!(site.says().as_deref(), Some("v1"));
    kept.holds(&["one", "two"]);
    site.version("v3 dies");
    site.deploy().status(4);
    kept.holds(&["one", "two"]);
    kept.add("three");
    site.version("v4 broken");
    site.deploy().status(1);
    kept.holds(&["one", "two", "three"]);
    assert_eq!(fs::read_dir(site.target().join("state")).unwrap().count(), 1);
    // It is for its owner alone.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(site.target().join("state/db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn deploy_succeeds_without_candidate_while_the_database_is_down() {
    let lab = Lab::new();
    let kept = Kept::new(&lab, "{state}/db", "state = 'db'", "");
    let site = &kept.site;
    site.deploy().success();
    kept.add("one");
    // It ends, and is not started again.
    let pid = crate::services_nasty::left(&lab);
    let pid = pid.iter().find(|who| who.contains("plays_a_database")).unwrap();
    let pid: i32 = pid.split(':').next().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while http::get(kept.port, "/", Duration::from_millis(200)).is_ok() {}
    site.version("v2 well");
    let ran = site.deploy().success();
    ran.says("is not started a second time").says("`api` is not tested");
    kept.holds(&["one"]);
}

#[test]
fn service_state_is_backed_up_before_each_switch() {
    let lab = Lab::new();
    let keys = "state = 'db'\nbackup = 'cp {state}/db/rows {backup}/rows'";
    let kept = Kept::new(&lab, "{state}/db", keys, "");
    let site = &kept.site;
    site.deploy().success();
    assert!(!site.target().join("backups").exists(), "there was nothing to save");
    kept.add("one");
    for version in ["v2", "v3", "v4", "v5", "v6"] {
        site.version(&format!("{version} well"));
        site.deploy().success().says("saved db: ");
    }
    let backups = || {
        let mut names: Vec<_> = fs::read_dir(site.target().join("backups"))
            .unwrap()
            .map(|one| one.unwrap().path())
            .collect();
        names.sort();
        names
    };
    assert_eq!(backups().len(), 3, "as many as releases");
    let newest = backups().pop().unwrap();
    assert_eq!(fs::read_to_string(newest.join("db/rows")).unwrap(), "one\n");
    site.repo.xtask(&["rollback", "prod", "--yes"]).success().says("saved db: ");
    // One that cannot be made holds all up; what serves goes on.
    let layer = site.repo.read("deployment/prod.toml");
    for (command, why) in
        [("false {backup}", "exited with code 1"), ("true {backup}", "wrote nothing")]
    {
        let broken = layer.replace("cp {state}/db/rows {backup}/rows", command);
        site.repo.write("deployment/prod.toml", broken);
        site.version(&format!("{} well", command.len()));
        let before = (backups(), site.current());
        site.deploy().status(1).says(why).says("serves, as before");
        assert_eq!((backups(), site.current()), before);
    }
    kept.holds(&["one"]);
}

#[test]
fn deploy_refuses_services_that_write_into_the_release() {
    let lab = Lab::new();
    let kept = Kept::new(&lab, "{root}/src", "", "");
    let site = &kept.site;
    let ran = site.deploy().status(1);
    ran.says("services write into the release").says("src/rows").says("`state = [\"NAME\"]`");
    assert_eq!(site.says(), None);
    // What may be lost is said by name.
    let layer = site.repo.read("deployment/prod.toml");
    let scratch = layer.replace("[deploy]\n", "[deploy]\nscratch = ['/src/rows']\n");
    site.repo.write("deployment/prod.toml", &scratch);
    site.version("v2 well");
    site.deploy().success();
    // A folder appears while it serves, as an older layer would have it.
    let first = site.target().join("releases").join(site.current());
    let data = first.join("files/.data/db");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("rows"), "precious\n").unwrap();
    fs::write(data.join("more"), "precious\n").unwrap();
    fs::create_dir_all(first.join("files/src/__pycache__")).unwrap();
    fs::write(first.join("files/src/__pycache__/a.pyc"), "made again\n").unwrap();
    site.version("v3 well");
    let ran = site.deploy().status(1);
    let ran = ran.says("state").says(".data/ (2 files)").says("cargo xtask stop --layer prod");
    assert!(!ran.out.contains("__pycache__") && !ran.err.contains("__pycache__"));
    assert_eq!(site.says().as_deref(), Some("v2"));
    // Who says that it may be lost with each release still does not lose it unawares.
    let wide = scratch.replace("['/src/rows']", "['/src/rows', '/.data/']");
    site.repo.write("deployment/prod.toml", &wide);
    site.version("v3 well");
    site.deploy().success();
    site.repo.write("deployment/prod.toml", &scratch);
    for version in ["v4", "v5", "v6"] {
        site.version(&format!("{version} well"));
        let ran = site.deploy().success();
        if version == "v6" {
            ran.says("is not removed").says(".data/ (2 files)");
        }
    }
    assert_eq!(fs::read_to_string(data.join("rows")).unwrap(), "precious\n");
}

/// What has been acknowledged by a program that is written to without end.
fn write_until(is_over: &AtomicBool, mut write: impl FnMut(u32) -> bool) -> BTreeSet<u32> {
    let mut acknowledged = BTreeSet::new();
    for row in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        if write(row) {
            acknowledged.insert(row);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    acknowledged
}

fn redis(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    // While it reads its file it refuses, and says so with a minus.
    (answer.ends_with("+OK\r\n") && !answer.starts_with('-')).then_some(answer)
}

/// Where the programs of PostgreSQL are, if they are installed.
fn postgres() -> Option<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<String> = versions
        .filter_map(|one| Some(one.ok()?.path().join("bin").to_str()?.to_owned()))
        .filter(|bin| Path::new(bin).join("initdb").is_file())
        .collect();
    found.sort();
    found.pop()
}

#[test]
fn real_databases_keep_every_acknowledged_row_over_deploys_and_rollbacks() {
    let Some(bin) = postgres().filter(|_| Path::new("/usr/bin/redis-server").is_file()) else {
        return circle::not_tried("PostgreSQL or Redis is not installed");
    };
    let lab = Lab::new();
    let site = Site::new(&lab);
    let (sql, cache) = (port(), port());
    // The services of the layers that we ship, as they stand there.
    let shipped = |file: &str, from: &str, to: &str| {
        let text = fs::read_to_string(Path::new("../deployment").join(file)).unwrap();
        let text = &text[text.find(from).unwrap()..];
        text[..text.find(to).unwrap()].to_owned()
    };
    let postgres = shipped("integration.toml", "[service.postgres-data]", "# MCP servers");
    let postgres = postgres.replace("port = 5432", &format!("port = {sql}"));
    let redis_layer = shipped("staging.toml", "[service.redis]", "# The program is on");
    let redis_layer = redis_layer.replace("port = 6379", &format!("port = {cache}"));
    let layer = site.layer("target", "", &format!("{postgres}\n{redis_layer}"));
    site.repo.write(
        "deployment/prod.toml",
        layer.replace("file = '?.env'", "file = '?.env'\nneeds = ['postgres', 'redis']"),
    );
    // PostgreSQL does not run as root: then it is somebody else, who owns its folder.
    let programs = lab.path("programs");
    for name in ["postgres", "initdb", "pg_dumpall"] {
        let path = programs.join(name);
        let script = match rustix::process::geteuid().is_root() {
            false => format!("#!/bin/sh\nexec '{bin}/{name}' \"$@\"\n"),
            true => format!(
                "#!/bin/sh\nif [ -d \"$XTASK_STATE/postgres\" ]; then\n  chown postgres \"$XTASK_STATE/postgres\"\n  \
                 at=$XTASK_STATE; while [ \"$at\" != / ]; do chmod a+x \"$at\"; at=${{at%/*}}; at=${{at:-/}}; done\nfi\n\
                 [ -z \"$XTASK_BACKUP\" ] || exec '{bin}/{name}' \"$@\"\n\
                 cd / && exec setpriv --reuid=postgres --clear-groups '{bin}/{name}' \"$@\"\n"
            ),
        };
        write_script(&path, &script);
    }
    let path = format!("{programs}:{bin}:/usr/bin:/bin");
    let xtask = |args: &[&str]| site.repo.xtask_with(args, &[("PATH", &path)]);
    let psql = |text: &str| {
        let (host, port) = ("127.0.0.1", sql.to_string());
        let args = ["-h", host, "-p", &port, "-U", "app", "-d", "postgres", "-Atqc", text];
        let ran = site.repo.run(&format!("{bin}/psql"), &args, &[]);
        (ran.code == Some(0)).then_some(ran.out)
    };
    site.version("v1 well");
    xtask(&["deploy", "prod", "--yes"]).success();
    psql("create table rows (row int)").unwrap();
    let turns = if circle::is_exhaustive() { 20 } else { 2 };
    let is_over = AtomicBool::new(false);
    let (in_sql, in_cache) = std::thread::scope(|scope| {
        let sql = scope.spawn(|| {
            write_until(&is_over, |row| psql(&format!("insert into rows values ({row})")).is_some())
        });
        let cache = scope.spawn(|| {
            write_until(&is_over, |row| redis(cache, &format!("RPUSH rows {row}")).is_some())
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for turn in 0..turns {
                if turn % 4 == 3 {
                    xtask(&["rollback", "prod", "--yes"]).success();
                } else {
                    site.version(&format!("v{} well", turn + 2));
                    xtask(&["deploy", "prod", "--yes"]).success().says("saved postgres");
                }
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        let found = (sql.join().unwrap(), cache.join().unwrap());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        found
    });
    let numbers = |text: &str| text.lines().filter_map(|line| line.parse().ok()).collect();
    let held: BTreeSet<u32> = numbers(&psql("select row from rows").unwrap());
    assert!(!in_sql.is_empty() && in_sql.is_subset(&held), "{:?}", in_sql.difference(&held));
    let held: BTreeSet<u32> = numbers(&redis(cache, "LRANGE rows 0 -1").unwrap());
    assert!(!in_cache.is_empty() && in_cache.is_subset(&held), "{:?}", in_cache.difference(&held));
}

#[test]
fn ps_logs_and_stop_act_on_the_deployed_layer() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    let repo = &site.repo;
    let address = format!("api  http://localhost:{}", site.port);
    site.deploy().success().says(&address);
    let json = repo.xtask(&["ps", "--layer", "prod", "--json"]).success().json();
    assert_eq!(
        (&json["services"][0]["service"], &json["services"][0]["state"]),
        (&"api".into(), &"ready".into())
    );
    assert_eq!(json["services"][0]["warnings"].as_array().map(Vec::len), Some(0));
    repo.xtask(&["ps", "--layer", "prod"]).success().says("api");
    repo.xtask(&["logs", "--layer", "prod"]).success();
    repo.xtask(&["restart", "--layer", "prod"]).status(2).says("cargo xtask rollback prod");
    repo.xtask(&["stop", "--layer", "prod"])
        .success()
        .says("stopped: api")
        .says("starts a release again");
    assert_eq!(site.says(), None);
    let current = site.current();
    repo.xtask(&["rollback", "prod", &current, "--yes"]).success();
    assert_eq!(site.says().as_deref(), Some("v1"));
}

#[test]
fn deploy_detects_writes_to_committed_files_of_the_release() {
    let lab = Lab::new();
    let site = Site::new(&lab);
    site.deploy().success();
    let first = site.target().join("releases").join(site.current()).join("files/src/app");
    fs::write(&first, "v1 precious\n").unwrap();
    site.version("v2 well");
    site.deploy().status(1).says("services write into the release").says("src/app");
    assert_eq!(fs::read_to_string(first).unwrap(), "v1 precious\n");
}

#[test]
fn malformed_env_file_fails_deploy_before_services_stop() {
    let lab = Lab::new();
    let kept = Kept::new(&lab, "{state}/db", "state = 'db'\nenv-file = '?.env'", "");
    let site = &kept.site;
    site.deploy().success();
    kept.add("one");
    fs::create_dir_all(site.target().join("shared")).unwrap();
    fs::write(site.target().join("shared/.env"), "B: 2\n").unwrap();
    site.version("v2 well");
    site.deploy().status(1).says("malformed in line 1").says("serves, as before");
    kept.holds(&["one"]);
    fs::remove_file(site.target().join("shared/.env")).unwrap();
    site.version("v3 well");
    site.deploy().success();
    fs::write(site.target().join("shared/.env"), "B: 2\n").unwrap();
    let ran = site.repo.xtask(&["rollback", "prod", "--yes"]);
    assert_eq!(ran.code, Some(1), "{} {}", ran.out, ran.err);
    kept.holds(&["one"]);
    assert_eq!(site.says().as_deref(), Some("v3"));
}

#[test]
fn removing_state_from_a_layer_is_refused_removing_backup_warns() {
    let lab = Lab::new();
    let keys = "state = 'db'\nbackup = 'cp {state}/db/rows {backup}/rows'";
    let kept = Kept::new(&lab, "{state}/db", keys, "");
    let site = &kept.site;
    site.deploy().success();
    kept.add("one");
    let layer = site.repo.read("deployment/prod.toml");
    site.repo.write(
        "deployment/prod.toml",
        layer.replace("{state}/db", "{state}/other").replace("'db'\nbackup", "'other'\nbackup"),
    );
    site.version("v2 well");
    site.deploy().status(1).says("no service of this layer has it as `state`");
    let without: Vec<&str> = layer.lines().filter(|line| !line.starts_with("backup")).collect();
    site.repo.write("deployment/prod.toml", without.join("\n"));
    site.version("v3 well");
    site.deploy().success().says("its state is not saved");
    // A link to the data is no copy of it, and half of a backup is none.
    site.repo.write("deployment/prod.toml", layer.replace("cp {state}", "ln -s {state}"));
    site.version("v4 well");
    site.deploy().status(1).says("wrote nothing");
    assert!(!site.target().join("backups/half").exists());
    kept.holds(&["one"]);
}

#[test]
fn backup_uses_the_port_of_the_serving_release() {
    let lab = Lab::new();
    let keys = "state = 'db'\nbackup = 'curl -sf -o {backup}/rows http://127.0.0.1:{port}/'";
    let kept = Kept::new(&lab, "{state}/db", keys, "");
    let site = &kept.site;
    if site.repo.run("curl", &["--version"], &[]).code != Some(0) {
        return circle::not_tried("curl is not installed");
    }
    site.deploy().success();
    kept.add("one");
    let (old, new) = (kept.port.to_string(), port().to_string());
    let layer = site.repo.read("deployment/prod.toml");
    site.repo.write("deployment/prod.toml", layer.replace(&old, &new));
    site.version("v2 well");
    site.deploy().success().says("saved db: ");
    let backup = fs::read_dir(site.target().join("backups")).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read_to_string(backup.path().join("db/rows")).unwrap(), "one\n");
}

#[test]
fn renamed_service_with_nested_state_folder_uses_running_one() {
    let lab = Lab::new();
    let kept = Kept::new(&lab, "{state}/data", "state = 'data'", "");
    let site = &kept.site;
    site.deploy().success();
    kept.add("one");
    let layer = site.repo.read("deployment/prod.toml");
    let renamed = layer
        .replace("state = 'data'", "state = 'data/more'")
        .replace("[service.db]", "[service.rows]")
        .replace("needs = ['db']", "needs = ['rows']");
    site.repo.write("deployment/prod.toml", renamed);
    site.version("v2 well");
    site.deploy().success().says("`rows` is already running and is used by the candidate");
    kept.holds(&["one"]);
}
