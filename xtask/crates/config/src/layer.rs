//! Parser for `deployment/NAME.toml`: the services of a layer, merged with the layers that it extends.
//!
//! Guarantees for a [`Layer`] that was loaded: every referenced service exists and is enabled, no two services
//! share a port, and dependencies have no cycle.
//!
//! ```text
//! extends = "local"
//! [service.api]
//! run = "uvicorn api:app --port {port}"
//! port = 8000
//! needs = ["postgres"]
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use super::cycles::find_cycles;
use super::deploy::{DeployConfig, RequirementFault, find_requirement_fault, read_deploy};
use super::layer_chain::{LayerChain, LayerValue, find_requirement};
use super::port_references::PortReference;
use super::reader::{TableReader, suggest_nearest};
use super::service::{Service, ServiceDraft, port_variable, read_service};
use xtask_base::error::Result;

/// The maximum number of services; a larger number is a mistake.
const MOST_SERVICES: usize = 500;

/// A layer after merging and validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub name: String,
    /// The files of the layer, with extended layers first.
    pub files: Vec<String>,
    /// The enabled services, in the order of their first appearance.
    pub services: Vec<Service>,
    /// The port of the status page of the supervisor.
    pub status: StatusPort,
    /// The table `[deploy]`, if present.
    pub deploy: Option<DeployConfig>,
    /// Every value after merging, with its file and line.
    pub values: Vec<LayerValue>,
}

/// The port of the status page of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusPort {
    /// No status page.
    Off,
    /// Any free port.
    AnyFree,
    /// This port.
    Fixed(u16),
}

impl Layer {
    /// Loads the layer `name`. `file` returns the text of `deployment/NAME.toml`, or `None` if there is no such file.
    /// `known` lists all layers, for suggestions. Returns one usage error with all faults.
    pub fn load(
        name: &str,
        file: &dyn Fn(&str) -> Result<Option<String>>,
        known: &[String],
    ) -> Result<Layer> {
        let file_of = file;
        let chain = LayerChain::follow_extends(name, file_of, known)?;
        let default =
            if chain.includes_production() { StatusPort::Off } else { StatusPort::AnyFree };
        let ((services, status, deploy, looked), values) = chain.merge_and_read(|file| {
            file.has_key("extends");
            let mut looked = Ok(());
            let deploy = file.read_table("deploy", |table| {
                let deploy = read_deploy(table);
                let requires = deploy.as_ref().and_then(|deploy| deploy.requires.as_deref());
                if let Some(requires) = requires {
                    looked = check_requirement(table, name, requires, file_of, known);
                }
                deploy
            });
            let deploy = deploy.flatten();
            let status = file.read_table("status", read_status_port);
            let drafts = file.read_named_tables("service", read_service).unwrap_or_default();
            let (status, status_span) = status.unwrap_or((default, file.span()));
            if !file.is_complete() {
                // Missing services cannot be determined, and this list is discarded because of the fault.
                return (Vec::new(), status, deploy, looked);
            }
            let is_served = deploy.as_ref().is_none_or(|deploy| deploy.engine.has_ports());
            if is_served && !drafts.iter().any(|draft| draft.is_enabled) {
                file.add_fault_at(file.span(), "no service is enabled: there is nothing to start");
            }
            check_services(file, &drafts, status, &status_span);
            (link_services(file, drafts), status, deploy, looked)
        })?;
        looked?;
        Ok(Layer { name: name.to_owned(), files: chain.paths(), services, status, deploy, values })
    }
}

/// Reports a fault if the layer in `requires` does not exist or requires `layer` in turn.
fn check_requirement(
    table: &TableReader<'_>,
    layer: &str,
    requires: &str,
    file: &dyn Fn(&str) -> Result<Option<String>>,
    known: &[String],
) -> Result<()> {
    let fault = find_requirement_fault(layer, requires, |name| find_requirement(name, file))?;
    if let Some(fault) = fault {
        let near = match fault {
            RequirementFault::UnknownLayer(_) => {
                suggest_nearest(requires, known.iter().map(String::as_str))
            }
            _ => String::new(),
        };
        table.add_fault("requires", format!("`requires` is `{requires}`, and {fault}{near}"));
    }
    Ok(())
}

/// Reads `[status]`. Returns the span of `port` as well.
fn read_status_port(table: &TableReader<'_>) -> (StatusPort, Range<usize>) {
    let is_enabled = table.read_bool("enabled").unwrap_or(true);
    let port =
        table.read_number("port", 1..=u64::from(u16::MAX)).and_then(|port| port.try_into().ok());
    let status = match port {
        _ if !is_enabled => StatusPort::Off,
        Some(port) => StatusPort::Fixed(port),
        None => StatusPort::AnyFree,
    };
    (status, table.value_span("port"))
}

/// Reports faults among all services: too many of them, duplicate ports, and colliding port variables.
fn check_services(
    file: &TableReader<'_>,
    drafts: &[ServiceDraft],
    status: StatusPort,
    status_span: &Range<usize>,
) {
    let count = drafts.len();
    if count > MOST_SERVICES {
        let most = format!("too many services: {count}, of at most {MOST_SERVICES}");
        file.add_fault_at(drafts[MOST_SERVICES].span.clone(), most);
    }
    let place = |span: &Range<usize>| {
        let (file, line) = file.locate(span);
        format!("{file}:{line}")
    };
    let mut ports: BTreeMap<u16, (String, &Range<usize>)> = BTreeMap::new();
    let mut variables: BTreeMap<String, &ServiceDraft> = BTreeMap::new();
    if let StatusPort::Fixed(port) = status {
        ports.insert(port, ("[status]".to_owned(), status_span));
    }
    for draft in drafts.iter().filter(|draft| draft.is_enabled) {
        let name = &draft.name;
        if let Some(port) = draft.port {
            if let Some((other, span)) = ports.get(&port) {
                let fault = format!("port {port} is already used by {other} ({})", place(span));
                file.add_fault_at(draft.port_span.clone(), fault);
            } else {
                ports.insert(port, (format!("`{name}`"), &draft.port_span));
            }
        }
        let variable = port_variable(name);
        if let Some(other) = variables.get(&variable) {
            let (other, place) = (&other.name, place(&other.span));
            let fault = format!("`{name}` and `{other}` ({place}) would share `{variable}`");
            file.add_fault_at(draft.span.clone(), fault);
        } else {
            variables.insert(variable, draft);
        }
    }
}

/// Resolves references between services, reports unknown ones and cycles, and returns the enabled services.
fn link_services(file: &TableReader<'_>, drafts: Vec<ServiceDraft>) -> Vec<Service> {
    let (enabled, others): (Vec<ServiceDraft>, Vec<ServiceDraft>) =
        drafts.into_iter().partition(|draft| draft.is_enabled);
    let known = KnownServices { enabled: &enabled, disabled: &others };
    let mut needs = Vec::new();
    for (at, draft) in enabled.iter().enumerate() {
        needs.push(known.resolve_needs(file, at));
        known.check_port_references(file, draft);
        for name in
            draft.fallback_when.names.iter().filter(|name| !draft.needs.names.contains(name))
        {
            let needed = draft.needs.names.iter().map(String::as_str);
            let near = suggest_nearest(name, needed);
            let of = &draft.name;
            file.add_fault_at(
                draft.fallback_when.span.clone(),
                format!("`when` has `{name}`, and `{of}` does not need it{near}"),
            );
        }
    }
    for circle in find_cycles(&needs) {
        let names: Vec<&str> =
            circle.iter().chain(&circle[..1]).map(|at| enabled[*at].name.as_str()).collect();
        let span = enabled[circle[0]].needs.span.clone();
        file.add_fault_at(span, format!("these services need each other: {}", names.join(" → ")));
    }
    let when: Vec<Vec<String>> = enabled
        .iter()
        .map(|draft| {
            let found = known.find_all(&draft.fallback_when.names).into_iter();
            found.map(|at| enabled[at].name.clone()).collect()
        })
        .collect();
    // A service that could not be read has caused a fault, so this list is discarded.
    let services = enabled.into_iter().zip(needs).zip(when).filter_map(|((draft, needs), when)| {
        let mut service = draft.service?;
        service.needs = needs;
        if let Some(fallback) = &mut service.supervision.fallback {
            fallback.when = when;
        }
        Some(service)
    });
    services.collect()
}

/// The services that a name can refer to.
struct KnownServices<'a> {
    enabled: &'a [ServiceDraft],
    disabled: &'a [ServiceDraft],
}

impl KnownServices<'_> {
    /// Returns the index of the enabled service `name`, or the second half of a fault message.
    fn find(&self, name: &str) -> Result<usize, String> {
        let at = self.enabled.iter().position(|draft| draft.name == name);
        at.ok_or_else(|| {
            if self.disabled.iter().any(|draft| draft.name == name) {
                return "it is not enabled".to_owned();
            }
            let names = self.enabled.iter().map(|draft| draft.name.as_str());
            format!("there is no such service{}", suggest_nearest(name, names))
        })
    }

    /// Returns the indices of the known services among `names`, without duplicates.
    fn find_all(&self, names: &[String]) -> Vec<usize> {
        let mut found: Vec<usize> = names.iter().filter_map(|name| self.find(name).ok()).collect();
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|at| seen.insert(*at));
        found
    }

    fn resolve_needs(&self, file: &TableReader<'_>, at: usize) -> Vec<usize> {
        let needs = &self.enabled[at].needs;
        for name in &needs.names {
            let fault = match self.find(name) {
                Ok(needed) if needed == at => format!("`{name}` needs itself"),
                Ok(_) => continue,
                Err(why) => format!("`needs` has `{name}`, and {why}"),
            };
            file.add_fault_at(needs.span.clone(), fault);
        }
        let mut found = self.find_all(&needs.names);
        found.retain(|needed| *needed != at);
        found
    }

    fn check_port_references(&self, file: &TableReader<'_>, draft: &ServiceDraft) {
        for PortReference { span, as_written: written, service: of } in &draft.port_references {
            let (name, meant) = match of {
                None => (&draft.name, Ok(draft)),
                Some(name) => (name, self.find(name).map(|at| &self.enabled[at])),
            };
            let why = match meant {
                Ok(meant) if meant.has_port => continue,
                Ok(_) => "it has none: set `port`".to_owned(),
                Err(why) => why,
            };
            let fault = format!("{written} is the port of `{name}`, and {why}");
            file.add_fault_at(span.clone(), fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use expect_test::expect;

    use super::*;
    use crate::{
        BackupConfig, CandidateMode, FallbackConfig, HttpProbe, LimitsConfig, LivenessConfig,
        LogConfig, ProbeConfig, ProbePort, RestartConfig, StopConfig, StopScope, StopSignal,
        SupervisionConfig,
    };
    use xtask_base::path::RepoPath;

    fn load(layer: &str, files: &[(&str, &str)]) -> Result<Layer> {
        let known: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        let file = |layer: &str| {
            let found = files.iter().find(|(name, _)| *name == layer);
            Ok(found.map(|(_, text)| (*text).to_owned()))
        };
        Layer::load(layer, &file, &known)
    }

    fn read(text: &str) -> Layer {
        load("a", &[("a", text)]).unwrap_or_else(|error| panic!("{:?}", error.details()))
    }

    fn faults(files: &[(&str, &str)]) -> String {
        let refused = load(files[0].0, files).expect_err("there are faults");
        assert_eq!(refused.kind(), xtask_base::error::ErrorKind::Usage);
        format!("{}\n{}\n", refused.message(), refused.details().join("\n"))
    }

    #[test]
    fn a_whole_layer_is_read() {
        let layer = read(
            "[status]\nport = 9\n[service.db]\nrun = ['db', '-k', '', '{root}/a b']\nport = 5432\n\
             [service.off]\nrun = 'x'\nenabled = false\nneeds = ['off-too']\nport = 5432\n\
             [service.off-too]\nrun = 'x'\nenabled = false\n\
             [service.api]\ndescription = 'd'\nrun = \"serve 'a b' {port:db}\"\ndir = './api/'\n\
             port = 80\nenv = { A = '', B = '{port}' }\nenv-file = '?.env'\nneeds = ['db', 'db']\n\
             required = false\nready = { http = '/{port}', expect = { status = 204, json = { a = { b \
             = [1, 2.5, true, 'x'] } } }, log = 'up', timeout = '1m 30s' }\n\
             live = { tcp = 'db', run = 'a | b', shell = true, every = '500ms', failures = 2 }\n\
             restart = { max = 0, within = '1h', backoff = '1s..2s' }\n\
             stop = { signal = 'INT', timeout = '1s', to = 'all' }\n\
             limits = { memory = '1 GB', cpu-warn = '250%' }\nfallback = { when = 'db', env = { C = 'c' } }\n\
             log = { size = '1 MB', keep = 0 }\nstate = ['a/b', 'c']\ncandidate = 'start'\n\
             backup = 'save {port} {backup}'\nbackup-timeout = '1h'\n\
             [service.work]\nrun = 'w'\nonce = true\n",
        );
        assert_eq!(
            (layer.status, &layer.files[..]),
            (StatusPort::Fixed(9), &["deployment/a.toml".into()][..])
        );
        let names: Vec<&str> = layer.services.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["db", "api", "work"]);
        let [db, api, work] = &layer.services[..] else { unreachable!() };
        assert_eq!(db.run.argv, ["db", "-k", "", "{root}/a b"]);
        let command = |text: &str, argv: &[&str], shell| crate::CommandLine {
            text: text.to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            shell,
        };
        let seconds = Duration::from_secs;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = Service {
            name: "api".to_owned(),
            run: command("serve 'a b' {port:db}", &["serve", "a b", "{port:db}"], false),
            dir: Some(RepoPath::new("api")),
            port: Some(80),
            env: BTreeMap::from([pair("A", ""), pair("B", "{port}")]),
            env_files: vec!["?.env".to_owned()],
            needs: vec![0],
            once: false,
            required: false,
            supervision: SupervisionConfig {
                ready: Some(ProbeConfig {
                    http: Some(HttpProbe {
                        path: "/{port}".to_owned(),
                        port: None,
                        status: vec![204],
                        json: Some(serde_json::json!({ "a": { "b": [1, 2.5, true, "x"] } })),
                    }),
                    tcp: None,
                    run: None,
                    log: Some("up".to_owned()),
                    timeout: seconds(90),
                }),
                live: Some(LivenessConfig {
                    probe: ProbeConfig {
                        http: None,
                        tcp: Some(ProbePort::Service("db".to_owned())),
                        run: Some(command("a | b", &["/bin/sh", "-c", "a | b"], true)),
                        log: None,
                        timeout: seconds(3),
                    },
                    interval: Duration::from_millis(500),
                    failures: 2,
                }),
                restart: RestartConfig {
                    max: 0,
                    within: seconds(3600),
                    first: seconds(1),
                    longest: seconds(2),
                },
                stop: StopConfig {
                    signal: StopSignal::Int,
                    timeout: seconds(1),
                    to: StopScope::All,
                },
                limits: LimitsConfig {
                    memory: Some(1_000_000_000),
                    memory_warn: Some(80),
                    cpu_warn: Some(250),
                },
                fallback: Some(FallbackConfig {
                    when: vec!["db".to_owned()],
                    env: BTreeMap::from([pair("C", "c")]),
                }),
                log: LogConfig { size: 1_000_000, keep: 0 },
            },
            state: vec![RepoPath::new("a/b"), RepoPath::new("c")],
            candidate: CandidateMode::Start,
            backup: Some(BackupConfig {
                run: command("save {port} {backup}", &["save", "{port}", "{backup}"], false),
                timeout: seconds(3600),
            }),
        };
        assert_eq!(*api, expected);
        let expected = Service {
            name: "work".to_owned(),
            run: command("w", &["w"], false),
            once: true,
            required: true,
            dir: None,
            port: None,
            env: BTreeMap::new(),
            env_files: Vec::new(),
            needs: Vec::new(),
            supervision: SupervisionConfig::default(),
            state: Vec::new(),
            candidate: CandidateMode::Start,
            backup: None,
        };
        assert_eq!(*work, expected);
    }

    #[test]
    fn what_is_wrong_about_state_is_told() {
        let text = "[service.a]\nrun = 'x'\nstate = ['../x', '/y', 'z']\ncandidate = 'none'\n\
                    backup = 'dump'\n[service.b]\nrun = 'x'\nbackup = 'dump {backup}'\n\
                    [service.c]\nrun = 'x'\nstate = 's'\nbackup-timeout = '1m'\n";
        let failure = load("a", &[("a", text)]).unwrap_err();
        expect![[r"
            deployment/a.toml:3: `state` has `../x`; it must be a relative path inside the state folder of the services, such as `postgres`
            deployment/a.toml:3: `state` has `/y`; it must be a relative path inside the state folder of the services, such as `postgres`
            deployment/a.toml:4: `service.a.candidate` is `none`; it must be one of start, serving
            deployment/a.toml:5: `backup` does not use its target folder: pass `{backup}`, or `$XTASK_BACKUP` in a shell
            deployment/a.toml:8: `backup` requires `state`, which it saves
            deployment/a.toml:12: `backup-timeout` requires `backup`
        "]].assert_eq(&(failure.details().join("\n") + "\n"));
    }

    #[test]
    fn all_faults_of_services_are_found_at_once_with_their_lines() {
        let text = r#"
portt = 1
[status]
port = 0
page = true
[service.Web_1]
runn = "x"
enabled = "yes"
[service.a]
run = ["", "x"]
port = 70000
env = { "1A" = "x", B = 3, XTASK_PORT = "1", ORCHESTRATION_SYNC_ACTIVE = "0" }
env-file = ["../.env", "?/etc/x"]
dir = "api/../.."
once = true
live = { http = "health", tcp = false, timeout = "soon" }
[service.b]
run = "x && y"
ready = {}
live = { log = "x", expect = { status = 99, json = 1 }, shell = true }
restart = { max = -1, backoff = "30s..1s", within = 5 }
stop = { signal = "TERMM", timeout = "0s" }
limits = { memory = "1 XB", memory-warn = "0%", cpu-warn = "10001%" }
log = { size = 1, keep = "x" }
fallback = { env = { X = 1 } }
[service.c]
run = ["x", "y"]
shell = true
ready = { http = "/{port:a}", port = 70000, expect = { json = { x = inf } } }
live = { tcp = 1.5 }
limits = { memory-warn = "80%" }
restart = { backoff = "1s" }
[service.d]
run = "x 'y"
needs = "a"
fallback = 3
service = 1
[service.e]
run = "a\u0000b"
env = { X = "\u0000" }
"#;
        expect![[r#"
            50 faults in the layer `x`
            deployment/x.toml:2: unknown key `portt`
            deployment/x.toml:4: `status.port` must be from 1 to 65535
            deployment/x.toml:5: unknown key `status.page`
            deployment/x.toml:6: `service.Web_1.run` is missing
            deployment/x.toml:6: invalid service name `Web_1`: use `[a-z0-9][a-z0-9_-]{0,39}`
            deployment/x.toml:7: unknown key `service.Web_1.runn`; did you mean `run`?
            deployment/x.toml:8: `service.Web_1.enabled` must be true or false, not string
            deployment/x.toml:10: `run` does not name a program
            deployment/x.toml:11: `service.a.port` must be from 1 to 65535
            deployment/x.toml:12: invalid variable name `1A`
            deployment/x.toml:12: `service.a.env.B` must be a string, not integer
            deployment/x.toml:12: `XTASK_PORT` cannot be set: it is reserved for xtask
            deployment/x.toml:12: `ORCHESTRATION_SYNC_ACTIVE` cannot be set: it is reserved for xtask
            deployment/x.toml:13: `env-file` has `../.env`; it must be a path inside the repository, from its root
            deployment/x.toml:13: `env-file` has `?/etc/x`; it must be a path inside the repository, from its root
            deployment/x.toml:14: `service.a.dir` is `api/../..`; it must be a path inside the repository, from its root
            deployment/x.toml:16: `live` cannot be used with `once`: such a service is ready when it exits with code 0
            deployment/x.toml:16: `service.a.live.http` is `health`; it must be a path such as `/health`
            deployment/x.toml:16: `tcp` must be `true`, a port or the name of a service
            deployment/x.toml:16: `service.a.live.timeout` is `soon`; it must be a time such as `500ms`, `30s` or `1m 30s`
            deployment/x.toml:18: `run` has `&&`, which needs a shell: add `shell = true`
            deployment/x.toml:19: `ready` has no condition: set at least one of http, tcp, run, log
            deployment/x.toml:20: `log` is only for `ready`: an old log line does not show that the service is still alive
            deployment/x.toml:20: `expect` requires `http`
            deployment/x.toml:20: `service.b.live.expect.status` must be from 100 to 599
            deployment/x.toml:20: `service.b.live.expect.json` must be a table, not integer
            deployment/x.toml:20: `shell` requires `run`
            deployment/x.toml:21: `service.b.restart.max` must be from 0 to 1000
            deployment/x.toml:21: `backoff` must begin with the shorter time
            deployment/x.toml:21: `service.b.restart.within` must be a string, not integer
            deployment/x.toml:22: `service.b.stop.signal` is `TERMM`; it must be one of TERM, INT, QUIT, HUP, KILL, USR1, USR2; did you mean `TERM`?
            deployment/x.toml:22: `service.b.stop.timeout` is `0s`; it must be a time such as `500ms`, `30s` or `1m 30s`
            deployment/x.toml:23: `service.b.limits.memory` is `1 XB`; it must be a size such as `1 GB`
            deployment/x.toml:23: `service.b.limits.memory-warn` is `0%`; it must be from `1%` to `100%`
            deployment/x.toml:23: `service.b.limits.cpu-warn` is `10001%`; it must be from `1%` to `10000%`
            deployment/x.toml:24: `service.b.log.size` must be a string, not integer
            deployment/x.toml:24: `service.b.log.keep` must be a whole number, not string
            deployment/x.toml:25: `service.b.fallback.when` is missing
            deployment/x.toml:25: `service.b.fallback.env.X` must be a string, not integer
            deployment/x.toml:27: `run` is a list, which a shell cannot run: write it as a string
            deployment/x.toml:29: `service.c.ready.port` must be from 1 to 65535
            deployment/x.toml:29: `service.c.ready.expect.json` contains a number that JSON does not support
            deployment/x.toml:30: `tcp` must be `true`, a port or the name of a service
            deployment/x.toml:31: `memory-warn` requires `memory`, of which it is a percentage
            deployment/x.toml:32: `service.c.restart.backoff` is `1s`; it must be two times such as `500ms..30s`
            deployment/x.toml:34: `run` has an unclosed quote
            deployment/x.toml:36: `service.d.fallback` must be a table, not integer
            deployment/x.toml:37: unknown key `service.d.service`
            deployment/x.toml:39: `run` contains a NUL byte, which cannot be passed to a program
            deployment/x.toml:40: `X` contains a NUL byte, which cannot be passed to a program
        "#]].assert_eq(&faults(&[("x", text)]));
    }

    #[test]
    fn all_faults_between_services_are_found_with_the_files_of_both() {
        let upper = r#"
extends = "lower"
[status]
port = 80
[service.web]
needs = ["api", "apo", "off", "web"]
port = 81
[service.my-api]
run = "x {port} {port:api} {port:none} {port:off} {port:work}"
env = { A = "{port}" }
ready = { tcp = true, http = "/{port}" }
live = { tcp = "wok", run = "x {port:off}" }
fallback = { when = ["web", "ap"], env = { A = "{port:gone}" } }
needs = ["api"]
"#;
        let lower = r#"
[service.web]
run = "x"
port = 80
[service.api]
run = "x"
port = 81
needs = ["db"]
[service.db]
run = "x"
port = 80
needs = ["work"]
[service.work]
run = "x"
needs = ["api", "web"]
[service.off]
run = "x"
enabled = false
needs = ["nobody"]
port = 80
[service.my_api]
run = "x"
"#;
        expect![[r#"
            21 faults in the layer `upper`
            deployment/lower.toml:7: port 81 is already used by `web` (deployment/upper.toml:7)
            deployment/lower.toml:8: these services need each other: api → db → work → api
            deployment/lower.toml:11: port 80 is already used by [status] (deployment/upper.toml:4)
            deployment/upper.toml:6: `needs` has `apo`, and there is no such service; did you mean `api`?
            deployment/upper.toml:6: `needs` has `off`, and it is not enabled
            deployment/upper.toml:6: `web` needs itself
            deployment/upper.toml:6: these services need each other: web → api → db → work → web
            deployment/upper.toml:8: `my-api` and `my_api` (deployment/lower.toml:21) would share `XTASK_PORT_MY_API`
            deployment/upper.toml:9: `{port:none}` is the port of `none`, and there is no such service
            deployment/upper.toml:9: `{port:off}` is the port of `off`, and it is not enabled
            deployment/upper.toml:9: `{port:work}` is the port of `work`, and it has none: set `port`
            deployment/upper.toml:9: `{port}` is the port of `my-api`, and it has none: set `port`
            deployment/upper.toml:10: `{port}` is the port of `my-api`, and it has none: set `port`
            deployment/upper.toml:11: `tcp` is the port of `my-api`, and it has none: set `port`
            deployment/upper.toml:11: `http` is the port of `my-api`, and it has none: set `port`
            deployment/upper.toml:11: `{port}` is the port of `my-api`, and it has none: set `port`
            deployment/upper.toml:12: `tcp` is the port of `wok`, and there is no such service; did you mean `work`?
            deployment/upper.toml:12: `{port:off}` is the port of `off`, and it is not enabled
            deployment/upper.toml:13: `when` has `ap`, and `my-api` does not need it; did you mean `api`?
            deployment/upper.toml:13: `when` has `web`, and `my-api` does not need it
            deployment/upper.toml:13: `{port:gone}` is the port of `gone`, and there is no such service
        "#]].assert_eq(&faults(&[("upper", upper), ("lower", lower)]));
    }

    #[test]
    fn a_layer_has_something_to_start_but_not_too_much() {
        let many: String = (0..501).map(|at| format!("[service.s{at}]\nrun = 'x'\n")).collect();
        let off = "[service.a]\nrun = 'x'\nenabled = false\n";
        let base = ("base", "[service.a]\nrun = 'x'\n");
        let all = [
            faults(&[("x", "")]),
            faults(&[("x", off)]),
            faults(&[("x", "extends = 'base'\n[service.a]\nenabled = false\n"), base]),
            faults(&[("x", &many)]),
        ];
        expect![[r#"
            1 fault in the layer `x`
            deployment/x.toml:1: no service is enabled: there is nothing to start
            1 fault in the layer `x`
            deployment/x.toml:1: no service is enabled: there is nothing to start
            1 fault in the layer `x`
            deployment/x.toml:1: no service is enabled: there is nothing to start
            1 fault in the layer `x`
            deployment/x.toml:1001: too many services: 501, of at most 500
        "#]]
        .assert_eq(&all.concat());
        assert_eq!(load("base", &[base]).unwrap().services.len(), 1);
    }

    #[test]
    fn what_cannot_be_told_of_half_a_layer_is_not_told() {
        let upper = "extends = 'lower'\n[service.a]\nneeds = ['b']\nport = 'x'\n";
        let broken = "[service.a]\nrun = 'x\n[service.b]\nrunn = 'x'\n";
        let all = [faults(&[("upper", upper), ("lower", broken)]), faults(&[("upper", upper)])];
        expect![[r#"
            2 faults in the layer `upper`
            deployment/lower.toml:2: invalid literal string, expected `'`
            deployment/upper.toml:4: `service.a.port` must be a whole number, not string
            2 faults in the layer `upper`
            deployment/upper.toml:1: `extends` is `lower`, and there is no such layer (the layers are `upper`)
            deployment/upper.toml:4: `service.a.port` must be a whole number, not string
        "#]].assert_eq(&all.concat());
        assert_eq!(faults(&[("x", "extends = 3")]).lines().count(), 2, "nothing but its type");
    }

    #[test]
    fn status_is_a_free_port_where_nothing_is_said_but_in_production() {
        let service = "[service.a]\nrun = 'x'\n";
        let of = |status: &str| read(&format!("{status}\n{service}")).status;
        assert_eq!(of(""), StatusPort::AnyFree);
        assert_eq!(of("status = {}"), StatusPort::AnyFree);
        assert_eq!(of("status = { port = 1, enabled = false }"), StatusPort::Off);
        let below = ("local", &*format!("status.port = 1\n{service}"));
        let production = |own: &str| {
            let text = format!("extends = 'local'\n{own}");
            load("production", &[("production", &text), below]).unwrap().status
        };
        assert_eq!(production(""), StatusPort::Off);
        assert_eq!(production("status = {}"), StatusPort::AnyFree);
        assert_eq!(production("status = { port = 2 }"), StatusPort::Fixed(2));
    }

    #[test]
    fn the_layers_that_are_shipped_are_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deployment");
        let file =
            |layer: &str| Ok(std::fs::read_to_string(folder.join(format!("{layer}.toml"))).ok());
        let mut told = String::new();
        for layer in ["local", "integration", "staging", "production"] {
            let layer = Layer::load(layer, &file, &[]);
            let layer = layer.unwrap_or_else(|error| panic!("{error} {:?}", error.details()));
            told.push_str(&format!("{} {:?}\n", layer.name, layer.status));
            for service in &layer.services {
                let needs: Vec<&str> =
                    service.needs.iter().map(|at| layer.services[*at].name.as_str()).collect();
                let port = service.port.map_or("-".to_owned(), |port| port.to_string());
                told.push_str(&format!("  {} {port} {}\n", service.name, needs.join(" ")));
            }
        }
        expect![[r#"
            local Fixed(8010)
              web 3000 
              api 8000 
            integration Fixed(8010)
              web 3000 
              api 8000 postgres memory context tools
              postgres-data - 
              postgres 5432 postgres-data
              memory 8003 
              context 8005 
              tools 8006 
            staging Fixed(8010)
              web 3000 
              api 8000 postgres redis weaviate memory portkey context tools code git infrastructure
              postgres-data - 
              postgres 5432 postgres-data
              memory 8003 
              context 8005 
              tools 8006 
              redis 6379 
              weaviate 8080 
              portkey 8004 
              code 8007 
              git 8008 
              infrastructure 8009 
            production Off
              web 3000 
              api 8000 postgres redis weaviate memory portkey context tools code git infrastructure
              postgres-data - 
              postgres 5432 postgres-data
              memory 8003 
              context 8005 
              tools 8006 
              redis 6379 
              weaviate 8080 
              portkey 8004 
              code 8007 
              git 8008 
              infrastructure 8009 
              prometheus 9090 
        "#]]
        .assert_eq(&told);
    }

    #[test]
    fn the_example_of_the_readme_is_whole() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deployment/README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let (_, example) = readme.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        assert_eq!(read(example).services.len(), 4);
    }
}
