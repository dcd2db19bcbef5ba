//! Running the tool of an engine (`docker`, `kubectl`): with a time limit, without input, and with its last lines
//! of output in the error, for example `| unknown command "compose"`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DeployContext;
use super::command_exit::{check_exit, with_last_lines};
pub use super::engine_settings::EngineSettings;
use super::release::Release;
use super::stacks;
use super::target::DeployTarget;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::process::Program;
use xtask_config::DeployConfig;
use xtask_git::Repo;

/// Time limit of a query: one minute, for distant clusters.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Environment variables that override arguments of the tools, and are removed.
pub const MISLEADING_VARIABLES: [&str; 3] =
    ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PATH_SEPARATOR"];

impl EngineSettings {
    /// Returns the settings of a layer; `None` if its engine has no tool.
    #[must_use]
    pub fn for_layer(repo: &Repo, layer: &str, deploy: &DeployConfig) -> Option<EngineSettings> {
        (!deploy.engine.has_ports()).then(|| EngineSettings {
            to: deploy.to.clone(),
            context: deploy.context.clone(),
            namespace: deploy.namespace.clone(),
            project: derive_project_name(repo.common_folder(), layer),
        })
    }
}

/// Derives the project name from the clone's main folder (the same for all worktrees) and the layer, e.g.
/// `my-app-prod`.
fn derive_project_name(common: &Path, layer: &str) -> String {
    let is_inside = common.file_name().is_some_and(|name| name == ".git");
    let folder = if is_inside { common.parent().unwrap_or(common) } else { common };
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = format!("{name}-{layer}");
    let clean = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = name.chars().map(clean).collect();
    name.trim_start_matches('-').to_owned()
}

/// A tool with its working directory and variables.
pub(super) struct EngineTool<'a> {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
    pub(super) variables: Vec<(&'static str, String)>,
    pub(super) ctx: &'a DeployContext<'a>,
}

impl<'a> EngineTool<'a> {
    /// Returns the tool in the files of `release`, with the variables of the release.
    pub(super) fn for_release(
        name: &'static str,
        target: &DeployTarget,
        release: &Release,
        deploy_ctx: &'a DeployContext<'a>,
    ) -> EngineTool<'a> {
        let variables = stacks::release_variables(target, release).into();
        EngineTool { name, folder: release.files(), variables, ctx: deploy_ctx }
    }

    fn to_program(&self, args: &[String]) -> Program {
        let mut env = stacks::inherited_environment(self.ctx);
        env.retain(|name, _| !MISLEADING_VARIABLES.iter().any(|one| *name == **one));
        let found = self.ctx.world.find_program(self.name).unwrap_or_else(|| self.name.into());
        let mut program = Program::new(found, &self.folder).args(args).with_env_only(&env);
        for (name, value) in &self.variables {
            program = program.env(name, value);
        }
        program
    }

    /// Returns the command line for messages.
    fn command_line(&self, args: &[String]) -> String {
        format!("`{} {}`", self.name, args.join(" "))
    }

    /// Runs a command that changes something; Ctrl-C ends it. Returns `Negative` if it fails.
    pub(super) fn run(&self, args: &[String], longest: Duration) -> Result<()> {
        let failed = || format!("cannot run {}", self.command_line(args));
        self.ctx.disk.check_gate("have a tool change something").with_context(failed)?;
        let interrupts = self.ctx.interrupts;
        let done = self.to_program(args).run_in_group(longest, &|| interrupts.was_interrupted())?;
        check_exit(&self.command_line(args), done.exit_reason, longest)
            .map_err(|failure| with_last_lines(failure, &done.output))
    }

    /// Runs a short command that changes something, not interruptible, and returns its stdout.
    pub(super) fn run_for_output(&self, args: &[String], longest: Duration) -> Result<String> {
        let failed = || format!("cannot run {}", self.command_line(args));
        self.ctx.disk.check_gate("have a tool change something").with_context(failed)?;
        self.query(args, longest)
    }

    /// Runs a read-only command and returns its stdout. Returns `Negative` if it fails.
    pub(super) fn query(&self, args: &[String], longest: Duration) -> Result<String> {
        let done =
            self.to_program(args).in_own_group().with_full_output().run_with_timeout(longest)?;
        if done.status.success() {
            return Ok(done.stdout);
        }
        let error = Error::negative(format!("{} failed: {}", self.command_line(args), done.status));
        Err(with_last_lines(error, &done.stderr))
    }
}

/// Returns the settings stored in `release`. Returns an error if it was built for an engine without a tool.
pub fn read_engine_settings(release: &Release) -> Result<EngineSettings> {
    release.read_snapshot()?.outside.ok_or_else(|| {
        Error::negative(format!("the release `{}` was built for another engine", release.name))
    })
}

pub(super) fn to_args(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Parses JSON output of a tool: a list, or one object per line, depending on its version.
pub(super) fn parse_json_objects(text: &str) -> Result<Vec<serde_json::Value>> {
    let failed = || "invalid JSON in the output of the tool";
    let mut all = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        match value.with_context(failed)? {
            serde_json::Value::Array(values) => all.extend(values),
            value => all.push(value),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_named_by_the_clone_and_the_layer() {
        assert_eq!(derive_project_name(Path::new("/src/My App/.git"), "prod"), "my-app-prod");
        assert_eq!(derive_project_name(Path::new("/src/_x.git"), "a-1"), "x-git-a-1");
    }

    #[test]
    fn lists_and_lines_are_read_alike() {
        let lines = parse_json_objects("{\"a\":1}\n{\"a\":2}\n").unwrap();
        assert_eq!(lines, parse_json_objects("[{\"a\":1},{\"a\":2}]").unwrap());
        assert!(parse_json_objects("").unwrap().is_empty() && parse_json_objects("{").is_err());
    }
}
