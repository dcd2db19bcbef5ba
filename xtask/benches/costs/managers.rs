//! What runs services, and how each is told of the same ones: as its manual says, with its defaults.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xshell::cmd;

use crate::kit::{Bench, find};
use crate::runners::command;
use crate::running::end_all_of;
use crate::stand_in::Service;

/// The variable in which everything that is started for a stack carries the folder of it.
pub const MARKER: &str = "BENCH_OF";

/// A manager of services, and how it is used.
pub struct Manager {
    pub name: &'static str,
    /// The programs that it needs: the first starts, the last stops. None for ours.
    programs: &'static [&'static str],
    version: &'static [&'static str],
    /// Writes its configuration into a folder.
    configure: fn(&Bench, &Path, &[Service]),
    start: &'static [&'static str],
    pub returns: Returns,
    /// Ends the services and the manager; SIGTERM where there is nothing.
    stop: &'static [&'static str],
}

/// When the command that starts the services returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// Once it has seen that all of them are ready.
    Ready,
    /// Once the manager is there, or the services are started.
    AtOnce,
    /// Never: it is the manager.
    Never,
}

/// All of them, ours first.
const MANAGERS: [Manager; 7] = [
    Manager {
        name: "xtask",
        programs: &[],
        version: &["--version"],
        configure: xtask,
        start: &["start"],
        returns: Returns::Ready,
        stop: &["stop"],
    },
    Manager {
        name: "supervisord",
        programs: &["supervisord", "supervisorctl"],
        version: &["--version"],
        configure: supervisord,
        start: &["-c", "supervisord.conf"],
        returns: Returns::AtOnce,
        stop: &["-c", "supervisord.conf", "shutdown"],
    },
    Manager {
        name: "honcho",
        programs: &["honcho"],
        version: &["version"],
        configure: procfile,
        start: &["start"],
        returns: Returns::Never,
        stop: &[],
    },
    Manager {
        name: "pm2",
        programs: &["pm2"],
        version: &["--version"],
        configure: pm2,
        start: &["start", "ecosystem.json"],
        returns: Returns::AtOnce,
        stop: &["kill"],
    },
    Manager {
        name: "process-compose",
        programs: &["process-compose"],
        version: &["version", "--short"],
        configure: process_compose,
        start: &["up", "--detached", "--use-uds", "--unix-socket", "socket"],
        returns: Returns::AtOnce,
        stop: &["down", "--use-uds", "--unix-socket", "socket"],
    },
    Manager {
        name: "pitchfork",
        programs: &["pitchfork"],
        version: &["--version"],
        configure: pitchfork,
        start: &["start", "--all"],
        returns: Returns::Ready,
        stop: &["supervisor", "stop"],
    },
    Manager {
        name: "servicrab",
        programs: &["servicrab"],
        version: &["--version"],
        configure: servicrab,
        start: &["start", "--wait"],
        returns: Returns::Ready,
        stop: &["down"],
    },
];

/// A manager that is installed.
pub struct Installed {
    pub manager: Manager,
    starts: PathBuf,
    stops: PathBuf,
}

/// Those that are installed, with their versions, and a line about those that are not.
pub fn installed(bench: &Bench) -> (Vec<Installed>, Vec<String>) {
    let (mut ready, mut left_out) = (Vec::new(), Vec::new());
    let folder = bench.root.join("services/versions");
    fs::create_dir_all(&folder).unwrap();
    for manager in MANAGERS {
        let found: Option<Vec<PathBuf>> = manager.programs.iter().map(|name| find(name)).collect();
        let Some(found) = found else {
            println!("  {} is not installed, and was left out", manager.name);
            left_out.push(format!("{} is not installed", manager.name));
            continue;
        };
        let starts = found.first().cloned().unwrap_or_else(|| bench.xtask.into());
        let stops = found.last().cloned().unwrap_or_else(|| bench.xtask.into());
        let installed = Installed { manager, starts, stops };
        let said = installed.command(bench, &folder, &installed.starts);
        let version = version(said, installed.manager.version);
        println!("  {} {version}", installed.manager.name);
        ready.push(installed);
    }
    // There is one that starts its daemon in order to say its version.
    end_all_of(&folder);
    (ready, left_out)
}

fn version(mut command: Command, args: &[&str]) -> String {
    let said = command.args(args).stderr(Stdio::null()).output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let word = said
        .split_whitespace()
        .find(|word| word.trim_start_matches('v').starts_with(char::is_numeric));
    word.unwrap_or("of no version that it says").to_owned()
}

impl Installed {
    pub fn configure(&self, bench: &Bench, folder: &Path, services: &[Service]) {
        (self.manager.configure)(bench, folder, services);
    }

    pub fn start(&self, bench: &Bench, folder: &Path) -> Command {
        let mut command = self.command(bench, folder, &self.starts);
        command.args(self.manager.start);
        command
    }

    /// The command that stops it; nothing where it is to be sent SIGTERM.
    pub fn stop(&self, bench: &Bench, folder: &Path) -> Option<Command> {
        let mut command = self.command(bench, folder, &self.stops);
        command.args(self.manager.stop);
        (!self.manager.stop.is_empty()).then_some(command)
    }

    /// A program with all that it keeps in a folder of the bench.
    fn command(&self, bench: &Bench, folder: &Path, program: &Path) -> Command {
        let mut command = command(bench, folder, program);
        for name in ["PITCHFORK_CONFIG_DIR", "PITCHFORK_STATE_DIR", "PM2_HOME"] {
            command.env(name, folder.join(name.to_ascii_lowercase()));
        }
        command
            .env("PITCHFORK_HOSTS_FILE", folder.join("hosts"))
            .env("PM2_DISCRETE_MODE", "true")
            .env("XDG_RUNTIME_DIR", folder)
            .env(MARKER, folder);
        command
    }
}

fn xtask(bench: &Bench, folder: &Path, services: &[Service]) {
    let mut text = String::new();
    for service in services {
        let Service { name, port, .. } = service;
        let argv = serde_json::to_string(&service.argv()).unwrap();
        writeln!(text, "[service.{name}]\nrun = {argv}\nport = {port}").unwrap();
        writeln!(text, "ready = {{ http = \"/\" }}\nlive = {{ http = \"/\" }}\n").unwrap();
    }
    fs::create_dir_all(folder.join("deployment")).unwrap();
    fs::write(folder.join("deployment/local.toml"), text).unwrap();
    let shell = bench.shell(folder);
    cmd!(shell, "git init --quiet -b main").quiet().run().unwrap();
    cmd!(shell, "git add deployment").quiet().run().unwrap();
    cmd!(shell, "git commit --quiet --allow-empty -m layer").quiet().run().unwrap();
}

fn supervisord(_: &Bench, folder: &Path, services: &[Service]) {
    let mut text = String::from(
        "[supervisord]\nlogfile=supervisord.log\npidfile=supervisord.pid\nchildlogdir=.\n\n\
         [unix_http_server]\nfile=supervisor.sock\n\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n\
         [supervisorctl]\nserverurl=unix://supervisor.sock\n",
    );
    for service in services {
        writeln!(text, "\n[program:{}]\ncommand={}", service.name, line(service)).unwrap();
    }
    let text = text.replace("unix://", &format!("unix://{}/", folder.display()));
    fs::write(folder.join("supervisord.conf"), text).unwrap();
}

fn procfile(_: &Bench, folder: &Path, services: &[Service]) {
    let lines = services.iter().map(|service| format!("{}: {}\n", service.name, line(service)));
    fs::write(folder.join("Procfile"), lines.collect::<String>()).unwrap();
}

fn pm2(_: &Bench, folder: &Path, services: &[Service]) {
    let apps = services.iter().map(|service| {
        let argv = service.argv();
        serde_json::json!({
            "name": service.name, "script": argv[0], "args": argv[1..], "interpreter": "none",
        })
    });
    let apps = serde_json::json!({ "apps": apps.collect::<Vec<_>>() });
    fs::write(folder.join("ecosystem.json"), apps.to_string()).unwrap();
}

fn process_compose(_: &Bench, folder: &Path, services: &[Service]) {
    let mut text = String::from("version: \"0.5\"\nprocesses:\n");
    for service in services {
        let Service { name, port, .. } = service;
        let command = serde_json::to_string(&line(service)).unwrap();
        writeln!(text, "  {name}:\n    command: {command}\n    readiness_probe:").unwrap();
        writeln!(text, "      http_get: {{ host: 127.0.0.1, path: /, port: {port} }}").unwrap();
    }
    fs::write(folder.join("process-compose.yaml"), text).unwrap();
}

fn pitchfork(_: &Bench, folder: &Path, services: &[Service]) {
    let mut text = String::new();
    for service in services {
        let Service { name, port, .. } = service;
        let run = serde_json::to_string(&line(service)).unwrap();
        writeln!(text, "[daemons.{name}]\nrun = {run}").unwrap();
        writeln!(text, "ready_http = \"http://127.0.0.1:{port}/\"\n").unwrap();
    }
    fs::write(folder.join("pitchfork.toml"), text).unwrap();
}

fn servicrab(_: &Bench, folder: &Path, services: &[Service]) {
    let mut text = String::from("version = 1\n\n[project]\nname = \"bench\"\n\n");
    for service in services {
        let Service { name, port, .. } = service;
        let argv = serde_json::to_string(&service.argv()).unwrap();
        writeln!(text, "[services.{name}]\ncommand = {argv}").unwrap();
        writeln!(text, "[services.{name}.health]\nhttp = \"http://127.0.0.1:{port}/\"\n").unwrap();
    }
    fs::write(folder.join("servicrab.toml"), text).unwrap();
}

/// The command as a line for a shell.
fn line(service: &Service) -> String {
    shell_words::join(service.argv())
}
