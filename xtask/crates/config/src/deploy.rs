//! Parser for the table `[deploy]` of a layer: target, engine, steps and preconditions.
//!
//! Mistakes that can be detected without contacting the target are faults of the file: e.g. a relative `to`, a
//! layer that indirectly requires itself, or a step with an unknown `at`.
//!
//! ```text
//! [deploy]
//! engine = "ssh"
//! to = "app@example.org:/srv/app"
//! requires = "staging"
//! ```

use std::time::Duration;

use super::command::{CommandLine, read_command};
use super::reader::TableReader;
use super::value_syntax::{NAME, is_valid_name, is_variable_name};
use xtask_base::environment::parse_duration;

/// The maximum of `keep`: each release is a full copy of the repository.
const MOST_RELEASES: u64 = 100;

/// The default of `keep`.
const DEFAULT_KEEP: usize = 5;

/// The default of `watch`: one minute.
const DEFAULT_WATCH: Duration = Duration::from_secs(60);

/// The default `timeout` of a step: ten minutes.
const DEFAULT_STEP: Duration = Duration::from_secs(600);

/// The engine that performs a deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployEngine {
    /// A folder on this machine, with services run by `xtask`.
    Directory,
    /// Like `Directory`, on another host.
    Ssh,
    /// Containers, run by Docker Compose.
    Compose,
    /// A Kubernetes cluster, through `kubectl`.
    Kubernetes,
}

impl DeployEngine {
    /// Returns the name in the file, e.g. `kubernetes`.
    #[must_use]
    pub fn name(self) -> &'static str {
        ENGINES.iter().find(|(_, engine)| *engine == self).map_or("", |(name, _)| name)
    }

    /// Returns whether the engine runs the services of the layer on their ports. `Compose` and `Kubernetes` have
    /// services of their own.
    #[must_use]
    pub fn has_ports(self) -> bool {
        matches!(self, DeployEngine::Directory | DeployEngine::Ssh)
    }
}

const ENGINES: [(&str, DeployEngine); 4] = [
    ("directory", DeployEngine::Directory),
    ("ssh", DeployEngine::Ssh),
    ("compose", DeployEngine::Compose),
    ("kubernetes", DeployEngine::Kubernetes),
];

/// The moment at which a step runs (`at`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepMoment {
    /// Before anything is built, in the worktree.
    Before,
    /// In the new release, before it is sealed: files that the step writes become part of the release.
    Build,
    /// In the sealed release, before the candidate starts.
    Release,
    /// After the new release was verified.
    After,
}

const MOMENTS: [(&str, StepMoment); 4] = [
    ("before", StepMoment::Before),
    ("build", StepMoment::Build),
    ("release", StepMoment::Release),
    ("after", StepMoment::After),
];

impl StepMoment {
    /// Returns the name in the file, e.g. `before`.
    #[must_use]
    pub fn name(self) -> &'static str {
        MOMENTS.iter().find(|(_, moment)| *moment == self).map_or("", |(name, _)| name)
    }
}

/// A command of a deploy (`[[deploy.step]]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployStep {
    pub at: StepMoment,
    pub run: CommandLine,
    /// The maximum duration.
    pub timeout: Duration,
}

/// The table `[deploy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployConfig {
    pub engine: DeployEngine,
    /// The target: an absolute folder (`Directory`), `HOST:FOLDER` (`Ssh`), or the file or folder of the release that
    /// the tool reads (`Compose`, `Kubernetes`).
    pub to: String,
    /// The context for `docker` or `kubectl`.
    pub context: Option<String>,
    /// The Kubernetes namespace.
    pub namespace: Option<String>,
    /// Globs for the branches that may be deployed; if empty, every branch.
    pub branches: Vec<String>,
    /// The layer in which exactly this commit must have been verified before.
    pub requires: Option<String>,
    /// Environment variables that must be set.
    pub env_required: Vec<String>,
    /// Files that services may write inside a release and lose with it, as `.gitignore` patterns.
    pub scratch: Vec<String>,
    /// The number of releases to keep.
    pub keep: usize,
    /// How long the health of a new release is watched.
    pub watch: Duration,
    /// Whether a person must confirm the deploy.
    pub confirm: bool,
    /// Additional commands, in order.
    pub steps: Vec<DeployStep>,
}

/// Reads `[deploy]`. Returns `None` if `engine`, `to` or a step is missing or invalid.
pub(super) fn read_deploy(table: &TableReader<'_>) -> Option<DeployConfig> {
    for key in ["engine", "to"] {
        table.require_key(key);
    }
    let engine = table.read_choice("engine", &ENGINES);
    let to = table.read_text("to");
    if let (Some(engine), Some(to)) = (engine, &to)
        && let Some(fault) = find_destination_fault(engine, to)
    {
        table.add_fault("to", fault);
    }
    let context = read_tool_option(table, "context", engine, DeployEngine::Compose);
    let namespace = read_tool_option(table, "namespace", engine, DeployEngine::Kubernetes);
    if engine == Some(DeployEngine::Kubernetes) {
        // Deploying to whichever context happens to be the current one must not be possible.
        table.require_key("context");
    }
    let requires =
        table.read_parsed("requires", NAME, |name| is_valid_name(name).then(|| name.to_owned()));
    let env_required = table.read_texts("env-required").unwrap_or_default();
    for name in env_required.iter().filter(|name| !is_variable_name(name)) {
        table.add_fault("env-required", format!("invalid variable name `{name}`"));
    }
    let span = "a time, as in `30s` or `5m`";
    let keep =
        table.read_number("keep", 1..=MOST_RELEASES).and_then(|keep| usize::try_from(keep).ok());
    let watch = table.read_parsed("watch", span, parse_duration).unwrap_or(DEFAULT_WATCH);
    let confirm = table.read_bool("confirm").unwrap_or(true);
    let branches = table.read_texts("branches").unwrap_or_default();
    let steps = table.read_tables("step", |step| {
        step.require_key("at");
        step.require_key("run");
        let shell = step.read_bool("shell").unwrap_or(false);
        let timeout = step.read_parsed("timeout", span, parse_duration).unwrap_or(DEFAULT_STEP);
        let run = read_command(step, "run", shell);
        Some(DeployStep { at: step.read_choice("at", &MOMENTS)?, run: run?, timeout })
    });
    Some(DeployConfig {
        engine: engine?,
        to: to?,
        context,
        namespace,
        branches,
        requires,
        env_required,
        scratch: table.read_texts("scratch").unwrap_or_default(),
        keep: keep.unwrap_or(DEFAULT_KEEP),
        watch,
        confirm,
        steps: steps.into_iter().flatten().collect(),
    })
}

/// Reads an option for the tool of an engine. Only `first` and `Kubernetes` accept it; for other engines a fault is
/// reported.
fn read_tool_option(
    table: &TableReader<'_>,
    key: &str,
    engine: Option<DeployEngine>,
    first: DeployEngine,
) -> Option<String> {
    let is_word = |text: &str| {
        let is_plain = |c: char| c.is_ascii_graphic() && !"'\"`$\\".contains(c);
        (!text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain))
            .then(|| text.to_owned())
    };
    let word = table.read_parsed(key, "a name without spaces", is_word)?;
    match engine {
        Some(engine) if engine != first && engine != DeployEngine::Kubernetes => {
            table.add_fault(
                key,
                format!("`{key}` is not supported by the engine `{}`", engine.name()),
            );
            None
        }
        _ => Some(word),
    }
}

/// Returns the fault message if `to` is not a valid target for `engine`.
fn find_destination_fault(engine: DeployEngine, to: &str) -> Option<String> {
    let is_folder = |path: &str| {
        let mut parts = path.split('/').skip(1);
        path.starts_with('/')
            && path.len() > 1
            && parts.all(|part| !["", ".", ".."].contains(&part))
    };
    match engine {
        DeployEngine::Directory if !is_folder(to) => Some(format!(
            "`deploy.to` is `{to}`; it must be an absolute folder, as in `/srv/app`, without `..`"
        )),
        DeployEngine::Ssh => {
            // Two shells and rsync read this text: only characters that are special to none of them are allowed.
            let is_plain = |text: &str, more: &str| {
                !text.is_empty()
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            };
            let is_whole = to.split_once(':').is_some_and(|(host, folder)| {
                let is_host = is_plain(host, "._-@") && !host.starts_with(['-', '@']);
                is_host && is_folder(folder) && is_plain(folder, "/._-+@")
            });
            (!is_whole).then(|| {
                format!(
                    "`deploy.to` is `{to}`; it must be a host and a folder of plain letters, as in \
                     `host:/srv/app`"
                )
            })
        }
        DeployEngine::Directory => None,
        DeployEngine::Compose | DeployEngine::Kubernetes => {
            let is_below = to == "." || to.split('/').all(|part| !["", ".", ".."].contains(&part));
            (to.starts_with('-') || !is_below).then(|| {
                format!(
                    "`deploy.to` is `{to}`; it must be a path below the root of the repository, without \
                     `..`"
                )
            })
        }
    }
}

/// The reason a layer cannot require another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequirementFault {
    Itself(String),
    /// The layers of the cycle, the first one again at the end.
    Cycle(Vec<String>),
    UnknownLayer(String),
}

impl std::fmt::Display for RequirementFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RequirementFault::Itself(layer) => write!(f, "`{layer}` requires itself"),
            RequirementFault::Cycle(layers) => {
                write!(f, "these layers require each other: {}", layers.join(" → "))
            }
            RequirementFault::UnknownLayer(layer) => write!(f, "there is no layer `{layer}`"),
        }
    }
}

/// Returns the fault if `requires` is `layer` itself, leads to a cycle, or names an unknown layer. `after`
/// returns the requirement of a layer, or `None` if there is no such layer.
pub(super) fn find_requirement_fault<E>(
    layer: &str,
    requires: &str,
    mut after: impl FnMut(&str) -> Result<Option<Option<String>>, E>,
) -> Result<Option<RequirementFault>, E> {
    if layer == requires {
        return Ok(Some(RequirementFault::Itself(layer.to_owned())));
    }
    let mut way = vec![layer.to_owned()];
    let mut next = Some(requires.to_owned());
    while let Some(name) = next {
        if way.contains(&name) {
            way.push(name);
            return Ok(Some(RequirementFault::Cycle(way)));
        }
        next = match after(&name)? {
            Some(next) => next,
            None => return Ok(Some(RequirementFault::UnknownLayer(name))),
        };
        way.push(name);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::Layer;

    const SERVICE: &str = "[service.a]\nrun = 'a'\n";

    fn load(layer: &str, files: &[(&str, &str)]) -> Result<Layer, String> {
        let known: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        let file = |layer: &str| {
            let found = files.iter().find(|(name, _)| *name == layer);
            Ok(found.map(|(_, text)| format!("{text}{SERVICE}")))
        };
        Layer::load(layer, &file, &known)
            .map_err(|error| format!("{}\n{}\n", error.message(), error.details().join("\n")))
    }

    #[test]
    fn it_is_read_and_merged_key_by_key() {
        let files = [
            (
                "production",
                "extends = 'staging'\n[deploy]\nto = '/srv/p'\nrequires = 'staging'\nkeep = 2\n\
                 [[deploy.step]]\nat = 'release'\nrun = 'a && b'\nshell = true\ntimeout = '1m'\n",
            ),
            (
                "staging",
                "[deploy]\nengine = 'directory'\nto = '/srv/s'\nbranches = ['main', 'release/*']\n\
                 env-required = ['A_1']\nwatch = '5s'\nconfirm = false\n\
                 [[deploy.step]]\nat = 'build'\nrun = 'make all'\n",
            ),
        ];
        let deploy = load("production", &files).unwrap().deploy.unwrap();
        let step = DeployStep {
            at: StepMoment::Release,
            run: CommandLine {
                text: "a && b".to_owned(),
                argv: ["/bin/sh", "-c", "a && b"].map(str::to_owned).to_vec(),
                shell: true,
            },
            timeout: Duration::from_secs(60),
        };
        let expected = DeployConfig {
            engine: DeployEngine::Directory,
            to: "/srv/p".to_owned(),
            context: None,
            namespace: None,
            branches: vec!["main".to_owned(), "release/*".to_owned()],
            requires: Some("staging".to_owned()),
            env_required: vec!["A_1".to_owned()],
            scratch: Vec::new(),
            keep: 2,
            watch: Duration::from_secs(5),
            confirm: false,
            steps: vec![step],
        };
        assert_eq!(deploy, expected);
        assert_eq!(load("x", &[("x", "")]).unwrap().deploy, None);
        let least = load("x", &[("x", "[deploy]\nengine = 'ssh'\nto = 'me@host:/srv/a'\n")]);
        let least = least.unwrap().deploy.unwrap();
        assert_eq!((least.keep, least.watch, least.confirm), (5, Duration::from_secs(60), true));
    }

    #[test]
    fn what_a_tool_is_told_is_checked_by_its_engine() {
        let files = [
            (
                "a",
                "[deploy]\nengine = 'compose'\nto = '../x.yml'\nnamespace = 'n'\ncontext = '-c'\n",
            ),
            ("b", "[deploy]\nengine = 'kubernetes'\nto = '/srv'\n"),
            ("c", "[deploy]\nengine = 'directory'\nto = '/srv'\ncontext = 'c'\n"),
        ];
        let all: String = ["a", "b", "c"].iter().filter_map(|l| load(l, &files).err()).collect();
        expect![[r#"
            3 faults in the layer `a`
            deployment/a.toml:3: `deploy.to` is `../x.yml`; it must be a path below the root of the repository, without `..`
            deployment/a.toml:4: `namespace` is not supported by the engine `compose`
            deployment/a.toml:5: `deploy.context` is `-c`; it must be a name without spaces
            2 faults in the layer `b`
            deployment/b.toml:1: `deploy.context` is missing
            deployment/b.toml:3: `deploy.to` is `/srv`; it must be a path below the root of the repository, without `..`
            1 fault in the layer `c`
            deployment/c.toml:4: `context` is not supported by the engine `directory`
        "#]].assert_eq(&all);
        let good = "[deploy]\nengine = 'kubernetes'\nto = '.'\ncontext = 'arn:aws:eks:x/y'\nnamespace = 'n'\n";
        let deploy = load("d", &[("d", good)]).unwrap().deploy.unwrap();
        assert_eq!(deploy.context.as_deref(), Some("arn:aws:eks:x/y"));
        // Their services are not those of the layer, which need not have any.
        let known = ["e".to_owned()];
        let load = |text: &str| Layer::load("e", &|_| Ok(Some(text.to_owned())), &known);
        assert!(load(good).unwrap().services.is_empty());
        assert!(load("[deploy]\nengine = 'directory'\nto = '/srv'\n").is_err());
    }

    #[test]
    fn all_faults_are_told_with_their_place() {
        let files = [
            (
                "a",
                "[deploy]\nengine = 'direktory'\nto = 'srv'\nrequires = 'b'\nkeep = 0\n\
                 watch = 'long'\nenv-required = ['1X']\nconfirm = 'no'\nextra = 1\n\
                 [[deploy.step]]\nat = 'later'\nrun = 'a | b'\n[[deploy.step]]\nrun = 'x'\n",
            ),
            ("b", "[deploy]\nengine = 'directory'\nto = 'srv/x'\nrequires = 'c'\n"),
            ("c", "extends = 'd'\n[deploy]\nengine = 'ssh'\nto = '/srv'\n"),
            ("d", "[deploy]\nrequires = 'b'\n"),
            ("e", "[deploy]\nengine = 'directory'\nto = '/srv/../x'\nrequires = 'e'\n"),
            ("f", "[deploy]\nengine = 'directory'\nto = '/srv'\nrequires = 'bb'\n"),
        ];
        let all: String =
            ["a", "b", "c", "d", "e", "f"].iter().filter_map(|l| load(l, &files).err()).collect();
        expect![[r#"
            9 faults in the layer `a`
            deployment/a.toml:2: `deploy.engine` is `direktory`; it must be one of directory, ssh, compose, kubernetes; did you mean `directory`?
            deployment/a.toml:5: `deploy.keep` must be from 1 to 100
            deployment/a.toml:6: `deploy.watch` is `long`; it must be a time, as in `30s` or `5m`
            deployment/a.toml:7: invalid variable name `1X`
            deployment/a.toml:8: `deploy.confirm` must be true or false, not string
            deployment/a.toml:9: unknown key `deploy.extra`
            deployment/a.toml:11: `deploy.step.at` is `later`; it must be one of before, build, release, after; did you mean `after`?
            deployment/a.toml:12: `run` has `|`, which needs a shell: add `shell = true`
            deployment/a.toml:13: `deploy.step.at` is missing
            2 faults in the layer `b`
            deployment/b.toml:3: `deploy.to` is `srv/x`; it must be an absolute folder, as in `/srv/app`, without `..`
            deployment/b.toml:4: `requires` is `c`, and these layers require each other: b → c → b
            2 faults in the layer `c`
            deployment/d.toml:2: `requires` is `b`, and these layers require each other: c → b → c
            deployment/c.toml:4: `deploy.to` is `/srv`; it must be a host and a folder of plain letters, as in `host:/srv/app`
            2 faults in the layer `d`
            deployment/d.toml:1: `deploy.engine` is missing
            deployment/d.toml:1: `deploy.to` is missing
            2 faults in the layer `e`
            deployment/e.toml:3: `deploy.to` is `/srv/../x`; it must be an absolute folder, as in `/srv/app`, without `..`
            deployment/e.toml:4: `requires` is `e`, and `e` requires itself
            1 fault in the layer `f`
            deployment/f.toml:4: `requires` is `bb`, and there is no layer `bb`; did you mean `b`?
        "#]].assert_eq(&all);
    }
}
