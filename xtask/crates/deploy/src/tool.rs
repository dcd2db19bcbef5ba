//! Running the tool of an engine: within a bound, without input, and with its last words where it fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Around;
use super::ends::{end, last_lines};
pub use super::outside::Outside;
use super::release::Release;
use super::stacks;
use super::target::Target;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::process::Program;
use xtask_config::Deploy;
use xtask_git::Repo;

/// How long a question may take: a minute, for clusters that are far away.
pub(super) const QUESTION: Duration = Duration::from_secs(60);

/// Variables by which the tools would take something else than they are told.
pub const MISLEADING: [&str; 3] =
    ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PATH_SEPARATOR"];

impl Outside {
    /// That of a layer; nothing where the engine has no tool of its own.
    #[must_use]
    pub fn of(repo: &Repo, layer: &str, deploy: &Deploy) -> Option<Outside> {
        (!deploy.engine.has_ports()).then(|| Outside {
            to: deploy.to.clone(),
            context: deploy.context.clone(),
            namespace: deploy.namespace.clone(),
            project: project(repo.common_folder(), layer),
        })
    }
}

/// The name of a project: that of the folder of the clone, whichever worktree this is, and the layer.
fn project(common: &Path, layer: &str) -> String {
    let is_inside = common.file_name().is_some_and(|name| name == ".git");
    let folder = if is_inside { common.parent().unwrap_or(common) } else { common };
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = format!("{name}-{layer}");
    let clean = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = name.chars().map(clean).collect();
    name.trim_start_matches('-').to_owned()
}

/// A tool, where and with what it runs.
pub(super) struct Tool<'a> {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
    pub(super) variables: Vec<(&'static str, String)>,
    pub(super) around: &'a Around<'a>,
}

impl<'a> Tool<'a> {
    /// For a release, in its files.
    pub(super) fn of(
        name: &'static str,
        target: &Target,
        release: &Release,
        around: &'a Around<'a>,
    ) -> Tool<'a> {
        let variables = stacks::variables(target, release).into();
        Tool { name, folder: release.files(), variables, around }
    }

    fn program(&self, args: &[String]) -> Program {
        let mut env = stacks::environment(self.around);
        env.retain(|name, _| !MISLEADING.iter().any(|one| *name == **one));
        let found = self.around.world.finds(self.name).unwrap_or_else(|| self.name.into());
        let mut program = Program::new(found, &self.folder).args(args).with_only(&env);
        for (name, value) in &self.variables {
            program = program.variable(name, value);
        }
        program
    }

    /// As it would be typed, for messages.
    fn words(&self, args: &[String]) -> String {
        format!("`{} {}`", self.name, args.join(" "))
    }

    /// Has it change something. Ctrl-C ends it. Kind `No`: it says that it failed.
    pub(super) fn run(&self, args: &[String], longest: Duration) -> Result<()> {
        let failed = || format!("{} cannot be run", self.words(args));
        self.around.disk.other("have a tool change something").unable(failed)?;
        let interrupts = self.around.interrupts;
        let done = self.program(args).run_in_group(longest, &|| interrupts.arrived())?;
        end(&self.words(args), done.end, longest)
            .map_err(|failure| last_lines(failure, &done.output))
    }

    /// The same, for what it prints: it must not take long, and is not interrupted.
    pub(super) fn run_for_answer(&self, args: &[String], longest: Duration) -> Result<String> {
        let failed = || format!("{} cannot be run", self.words(args));
        self.around.disk.other("have a tool change something").unable(failed)?;
        self.ask(args, longest)
    }

    /// Asks it something; the answer is what it prints. Kind `No`: it says that it failed.
    pub(super) fn ask(&self, args: &[String], longest: Duration) -> Result<String> {
        let done = self.program(args).in_own_group().that_lists().run_within(longest)?;
        if done.status.success() {
            return Ok(done.stdout);
        }
        let error = Error::no(format!("{} ended with {}", self.words(args), done.status));
        Err(last_lines(error, &done.stderr))
    }
}

/// What the tool was told when the release was made.
pub fn settings(release: &Release) -> Result<Outside> {
    release.snapshot()?.outside.ok_or_else(|| {
        Error::no(format!("the release `{}` was made for another engine", release.name))
    })
}

/// Refuses what is not well.
pub(super) fn unwell(faults: Vec<String>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(faults.into_iter().fold(Error::no("the release is not well"), Error::detail))
}

/// Words as arguments.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The objects in what a tool prints as JSON: one list, or one object a line.
pub(super) fn objects(text: &str) -> Result<Vec<serde_json::Value>> {
    let failed = || "what the tool prints is no JSON";
    let mut all = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        match value.unable(failed)? {
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
        assert_eq!(project(Path::new("/src/My App/.git"), "prod"), "my-app-prod");
        assert_eq!(project(Path::new("/src/_x.git"), "a-1"), "x-git-a-1");
    }

    #[test]
    fn lists_and_lines_are_read_alike() {
        let lines = objects("{\"a\":1}\n{\"a\":2}\n").unwrap();
        assert_eq!(lines, objects("[{\"a\":1},{\"a\":2}]").unwrap());
        assert!(objects("").unwrap().is_empty() && objects("{").is_err());
    }
}
