//! `[deploy]` of a layer: where it is deployed to, by which engine, and what must be so before.
//!
//! What can be seen to be wrong without looking at the target is a fault of the file: a relative `to`,
//! a layer that requires itself by way of others, a step at a moment that there is not.

use std::time::Duration;

use super::command::{CommandLine, read_command};
use super::reader::TableReader;
use super::value_syntax::{NAME, is_valid_name, is_variable_name};
use xtask_base::environment::parse_duration;

/// The most releases that are kept: each is a whole copy of the repository.
const MOST_RELEASES: u64 = 100;

/// How many are kept where nothing is said.
const DEFAULT_KEEP: usize = 5;

/// How long a new release is watched where nothing is said: one minute.
const DEFAULT_WATCH: Duration = Duration::from_secs(60);

/// How long a step may take where nothing is said: ten minutes.
const DEFAULT_STEP: Duration = Duration::from_secs(600);

/// What does the work of a deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployEngine {
    /// A folder on this machine, and the services of the toolkit.
    Directory,
    /// The same on another host.
    Ssh,
    /// Containers, by Docker Compose.
    Compose,
    /// A cluster, by `kubectl`.
    Kubernetes,
}

impl DeployEngine {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        ENGINES.iter().find(|(_, engine)| *engine == self).map_or("", |(name, _)| name)
    }

    /// Whether the services are those of the layer, on its ports. Elsewhere the engine has its own.
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

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepMoment {
    /// Before anything is made, in the worktree.
    Before,
    /// In the new release, before it is sealed: what it makes belongs to the release.
    Build,
    /// In the sealed release, before the candidate starts.
    Release,
    /// When the new release has been verified.
    After,
}

const MOMENTS: [(&str, StepMoment); 4] = [
    ("before", StepMoment::Before),
    ("build", StepMoment::Build),
    ("release", StepMoment::Release),
    ("after", StepMoment::After),
];

impl StepMoment {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        MOMENTS.iter().find(|(_, moment)| *moment == self).map_or("", |(name, _)| name)
    }
}

/// A command of a deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployStep {
    /// When it runs.
    pub at: StepMoment,
    /// What it runs.
    pub run: CommandLine,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a layer is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployConfig {
    /// What does the work.
    pub engine: DeployEngine,
    /// Where to: an absolute folder; `HOST:FOLDER`; or the file or folder of the release that the tool takes.
    pub to: String,
    /// The context of `docker` or `kubectl`.
    pub context: Option<String>,
    /// The namespace of the cluster.
    pub namespace: Option<String>,
    /// The branches that may be deployed, as patterns; any where there is none.
    pub branches: Vec<String>,
    /// The layer in which the very commit must have been verified.
    pub requires: Option<String>,
    /// Variables that must be set.
    pub env_required: Vec<String>,
    /// What services may leave inside a release and lose with it, as in `.gitignore`.
    pub scratch: Vec<String>,
    /// How many releases stay.
    pub keep: usize,
    /// How long a new release is watched.
    pub watch: Duration,
    /// Whether a person is asked before.
    pub confirm: bool,
    /// What runs besides, in order.
    pub steps: Vec<DeployStep>,
}

/// Reads `[deploy]`.
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
        // Nobody deploys to whatever happens to be the current one.
        table.require_key("context");
    }
    let requires =
        table.read_parsed("requires", NAME, |name| is_valid_name(name).then(|| name.to_owned()));
    let env_required = table.read_texts("env-required").unwrap_or_default();
    for name in env_required.iter().filter(|name| !is_variable_name(name)) {
        table.add_fault("env-required", format!("`{name}` cannot be the name of a variable"));
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

/// A word for the tool of an engine: of `first`, or of Kubernetes, and of no other.
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
            table.add_fault(key, format!("`{key}` is not for the engine `{}`", engine.name()));
            None
        }
        _ => Some(word),
    }
}

/// Why this cannot be where an engine deploys to.
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
            // What two shells and rsync read is of letters that none of them reads in its own way.
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

/// Why what a layer requires cannot be, if it cannot: `after` says what a layer requires, or that there
/// is no such layer.
pub(super) fn find_requirement_fault<E>(
    layer: &str,
    requires: &str,
    mut after: impl FnMut(&str) -> Result<Option<Option<String>>, E>,
) -> Result<Option<String>, E> {
    if layer == requires {
        return Ok(Some(format!("`{layer}` requires itself")));
    }
    let mut way = vec![layer.to_owned()];
    let mut next = Some(requires.to_owned());
    while let Some(name) = next {
        if way.contains(&name) {
            let whole = way.into_iter().chain([name]).collect::<Vec<_>>().join(" → ");
            return Ok(Some(format!("these layers require each other: {whole}")));
        }
        next = match after(&name)? {
            Some(next) => next,
            None => return Ok(Some(format!("there is no layer `{name}`"))),
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
            deployment/a.toml:4: `namespace` is not for the engine `compose`
            deployment/a.toml:5: `deploy.context` is `-c`; it must be a name without spaces
            2 faults in the layer `b`
            deployment/b.toml:1: `deploy.context` is missing
            deployment/b.toml:3: `deploy.to` is `/srv`; it must be a path below the root of the repository, without `..`
            1 fault in the layer `c`
            deployment/c.toml:4: `context` is not for the engine `directory`
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
            deployment/a.toml:7: `1X` cannot be the name of a variable
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
