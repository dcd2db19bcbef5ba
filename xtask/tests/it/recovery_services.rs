//! A broken morning, with real processes: everything wrong at once, one command, and all of it back.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use crate::testkit::{Lab, Place, port, trace};
use crate::wrong_hits::wait_for;

/// A repository with one service on a port, which reads `.env`.
fn with_service<'a>(lab: &'a Lab) -> (Place<'a>, u16) {
    let port = port();
    let origin = lab.repo_with("origin.git", &[]);
    origin.git(&["config", "core.bare", "true"]);
    let repo = lab.repo();
    repo.write(".gitignore", ".env\n");
    repo.write(
        "deployment/local.toml",
        format!(
            "[status]\nenabled = false\n[service.api]\nrun = '{{xtask}} serve api --port {{port}}'\n\
             port = {port}\nready = {{ http = '/api/health' }}\nenv-file = '?.env'\n"
        ),
    );
    repo.write("setup/validate.toml", "[[check]]\nname = 'c'\nrun = 'true'\n");
    repo.commit("services");
    repo.git(&["branch", "--force", "orchestration-tools"]);
    repo.git(&["remote", "add", "origin", "../origin.git/.git"]);
    repo.git(&["push", "--quiet", "-u", "origin", "main"]);
    repo.git(&["remote", "set-head", "origin", "--auto"]);
    (repo, port)
}

/// The port on which the service is, if it is ready.
fn serves(repo: &Place<'_>) -> Option<u16> {
    let page = repo.xtask(&["ps", "--json"]).json();
    let row = page["services"].as_array()?.first()?;
    (row["state"] == "ready").then(|| u16::try_from(row["port"].as_u64().unwrap()).unwrap())
}

#[test]
fn recover_repairs_git_environment_and_services_in_one_run() {
    let lab = Lab::new();
    let (repo, port) = with_service(&lab);
    // The evening before: all is well, and saved.
    repo.write(".env", "GREETING=hello\n");
    repo.xtask(&["start"]).success();
    assert_eq!(serves(&repo), Some(port));
    repo.xtask(&["backup", "--label", "evening"]).success();
    // The morning: half a rebase in a dirty tree, a broken file of variables, and somebody on the port.
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.write("src/app", "f\n");
    repo.commit("of the feature");
    repo.on_branch("main", |place| place.write("src/app", "m\n"));
    repo.git(&["push", "--quiet", "origin", "main"]);
    assert_ne!(repo.try_git(&["rebase", "--quiet", "main"]).code, Some(0));
    repo.write("src/loose", "loose\n");
    repo.write("scripts/run.sh", "#!/bin/sh\necho dirty\n");
    repo.write(".env", "GREETING='hello\n");
    repo.xtask(&["stop"]).success();
    let stranger = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let before = repo.scene();

    let looked_at = trace(repo.dir.as_std_path());
    let plan = repo.xtask(&["recover", "--dry-run"]).success();
    plan.says("a rebase is in progress")
        .says("`.env` is malformed in line 1")
        .says(&format!("port {port} is already in use by"))
        .says("start layer `local` again");
    assert_eq!(trace(repo.dir.as_std_path()), looked_at);

    let ran = repo.xtask(&["recover", "--yes"]).success();
    ran.says("restored from backup").says("this time").says("restores it");
    assert_eq!(repo.git(&["branch", "--show-current"]), "main\n");
    assert_eq!(repo.status(), "?? src/loose\n");
    assert_eq!(repo.read(".env"), "GREETING=hello\n");
    let moved = serves(&repo).unwrap();
    assert_ne!(moved, port);
    // Nobody was ended for having the port.
    drop(TcpStream::connect(stranger.local_addr().unwrap()).unwrap());
    let list = repo.xtask(&["backup", "--list", "--json"]).json();
    let recovered = list["backups"].as_array().unwrap().iter().find(|b| b["purpose"] == "recover");
    let id = recovered.unwrap()["id"].as_str().unwrap();
    repo.xtask(&["restore", id]).success().says("a rebase is in progress again");
    assert_eq!(repo.scene(), before);
    assert_eq!(repo.read(".env"), "GREETING='hello\n");
    repo.xtask(&["stop"]).success();
    // Without any copy, the example beside it is taken; without one, a person is asked for.
    repo.git(&["rebase", "--abort"]);
    repo.git(&["update-ref", "-d", &format!("refs/xtask/backup/{id}")]);
    for backup in repo.git(&["for-each-ref", "--format=%(refname)", "refs/xtask/backup/"]).lines() {
        repo.git(&["update-ref", "-d", backup]);
    }
    repo.xtask(&["recover", "environment", "--yes"]).status(1).says("fix `.env` manually");
    assert_eq!(repo.read(".env"), "GREETING='hello\n");
    repo.write(".env.example", "GREETING=example\n");
    repo.xtask(&["recover", "environment", "--yes"]).success().says("restored from `.env.example`");
    assert_eq!(repo.read(".env"), "GREETING=example\n");
}

#[test]
fn recover_restores_a_missing_env_file_from_latest_backup() {
    let lab = Lab::new();
    let (repo, _) = with_service(&lab);
    let layer = repo.read("deployment/local.toml").replace("'?.env'", "'.env'");
    repo.write("deployment/local.toml", layer);
    repo.commit("it must be there");
    repo.write(".env", "GREETING=hello\n");
    fs::set_permissions(repo.dir.join(".env"), fs::Permissions::from_mode(0o640)).unwrap();
    repo.xtask(&["backup"]).success();
    repo.remove(".env");
    for _ in 0..2 {
        repo.xtask(&["recover", "environment", "--yes"]).success();
        assert_eq!(repo.read(".env"), "GREETING=hello\n");
        let mode = fs::metadata(repo.dir.join(".env")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        repo.remove(".env");
    }
}

#[test]
fn recover_clears_a_failed_validation_once_checks_pass() {
    let lab = Lab::new();
    let (repo, _) = with_service(&lab);
    repo.write("setup/validate.toml", "[[check]]\nname = 'c'\nrun = 'test -e good'\n");
    repo.commit("a check");
    repo.xtask(&["validate"]).status(1);
    repo.xtask(&["recover", "environment", "--yes"]).status(1).says("the last validation failed");
    repo.write(".git/info/exclude", "/good\n");
    repo.write("good", "");
    repo.xtask(&["recover", "environment", "--yes"]).success();
    repo.xtask(&["recover", "environment", "--yes"]).success().says("no problems found");
}

#[test]
fn recover_restarts_unsupervised_services_and_keeps_foreign_ports() {
    let lab = Lab::new();
    let (repo, port) = with_service(&lab);
    repo.xtask(&["start"]).success();
    repo.xtask(&["recover", "--yes"]).success().says("no problems found");
    let page = repo.xtask(&["ps", "--json"]).json();
    let first = page["services"][0]["pid"].as_u64().unwrap();
    let supervisor = page["supervisor"]["pid"].as_u64().unwrap().to_string();
    repo.run("kill", &["-9", &supervisor], &[]).success();
    let told = repo.xtask(&["recover", "services", "--yes"]);
    told.success().says("api is lost").says("layer `local` stopped");
    assert_eq!(serves(&repo), Some(port));
    let page = repo.xtask(&["ps", "--json"]).json();
    assert_ne!(page["services"][0]["pid"].as_u64().unwrap(), first);
    repo.xtask(&["stop"]).success();
    let stranger = TcpListener::bind(("127.0.0.1", port)).unwrap();
    repo.xtask(&["recover", "ports", "--yes"])
        .status(1)
        .says(&format!("port {port} is already in use by"));
    drop(TcpStream::connect(stranger.local_addr().unwrap()).unwrap());
    drop(stranger);
    // A process that another test has just forked holds the port until it becomes another program.
    wait_for("the port", || TcpListener::bind(("127.0.0.1", port)).is_ok());
    repo.xtask(&["recover", "ports", "--yes"]).success().says("no problems found");
}
