//! Rendering of the starter files for a repository, adapted to its detected facts *(pure)*.
//!
//! An existing file is never replaced. Lines that it needs are returned as `ManualEdit`s, and faults of an
//! existing configuration file as notes. For example:
//!
//! ```text
//! facts: Rust, remote on GitHub, own justfile
//! files: .github/workflows/orchestration.yml, setup/sync.toml, ...   by_hand: recipes for justfile
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::recipes;
use super::sync_config::render_sync_config;
use super::validate_config::render_validate_config;
use xtask_base::error::Error;
use xtask_base::words::join_names;
use xtask_config::{
    BRANCHES_FILE, DEFAULT_LAYER, Forge, Layer, SYNC_FILE, VALIDATE_FILE, find_rule_faults,
    layer_file_path,
};
use xtask_detect::repo_facts::{ManualEdit, RepoFacts};
use xtask_detect::tree::ReadFile;
use xtask_upgrade::copy_spec::CopySpec;
use xtask_upgrade::editor_tasks;
use xtask_upgrade::toml_edits::quote_toml;

const BRANCHES_TEMPLATE: &str = include_str!("starters/branches.toml");
const LOCAL_TEMPLATE: &str = include_str!("starters/local.toml");
const DEPLOYMENT_TEMPLATE: &str = include_str!("starters/deployment.md");
const JUSTFILE_TEMPLATE: &str = include_str!("starters/justfile");
const GITHUB_TEMPLATE: &str = include_str!("starters/github.yml");
const GITLAB_TEMPLATE: &str = include_str!("starters/gitlab.yml");
const TASKS_TEMPLATE: &str = include_str!("starters/tasks.json");
const REQUEST_TEMPLATE: &str = include_str!("starters/orchestration-pr.md");

const LOCAL_FILE: &str = "deployment/local.toml";
const DEPLOYMENT_FILE: &str = "deployment/README.md";
const IGNORE_FILE: &str = ".gitignore";
pub(super) const ATTRIBUTES_FILE: &str = ".gitattributes";
const JUST_FILE: &str = "justfile";
pub(super) const GITHUB_FILE: &str = ".github/workflows/orchestration.yml";
const GITHUB_REQUEST_FILE: &str = ".github/PULL_REQUEST_TEMPLATE/orchestration-pr.md";
const GITLAB_FILE: &str = ".gitlab/orchestration.yml";
const GITLAB_CI_FILE: &str = ".gitlab-ci.yml";
pub(super) const TASKS_FILE: &str = ".vscode/tasks.json";
const GITLAB_REQUEST_FILE: &str = ".gitlab/merge_request_templates/orchestration-pr.md";

/// Build output of the launcher of `cargo xtask`.
const IGNORED: &str = "/target/";

/// Excludes the toolkit from the language statistics of GitHub and GitLab.
const VENDORED: &str = "/xtask/** linguist-vendored";

/// A new file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedTemplate {
    /// Path from the root.
    pub path: &'static str,
    /// Complete content.
    pub text: String,
}

/// Starter files of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderedTemplates {
    /// New files, sorted by path.
    pub files: Vec<RenderedTemplate>,
    /// Edits of existing files: appended by the plan if possible, else left to the user.
    pub by_hand: Vec<ManualEdit>,
    /// Paths of starter files that already exist and are kept.
    pub kept: Vec<String>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Paths in the root that belong to the toolkit, folders with a trailing slash; packages should exclude them.
    pub toolkit_paths: Vec<String>,
}

/// Renders the starter files. `read` returns the content of a file of the worktree, tracked or not, so that
/// untracked files are not replaced. `protected` are the branches without automatic commits.
#[must_use]
pub fn render_templates(
    facts: &RepoFacts,
    read: ReadFile<'_>,
    copy_spec: &CopySpec,
    protected: &[String],
) -> RenderedTemplates {
    let mut desk = TemplateRenderer {
        facts,
        read,
        copy_spec,
        protected,
        output: RenderedTemplates::default(),
    };
    desk.add_rules();
    if copy_spec.parts.has_part("services") {
        desk.add_layers();
    }
    desk.add_gitignore();
    desk.add_gitattributes();
    desk.output.by_hand.extend(facts.setuptools.clone());
    desk.add_recipes();
    desk.add_editor_tasks();
    desk.add_forge_files();
    // Last, because it lists the other files.
    if desk.is_free(SYNC_FILE) {
        let text = render_sync_config(facts, &desk.output.files);
        desk.add_file(SYNC_FILE, text);
    }
    desk.exclude_from_packages();
    let mut all = desk.output;
    all.toolkit_paths = list_toolkit_paths(facts, &all.files, copy_spec);
    all.files.sort_by_key(|file| file.path);
    all.kept.sort();
    all.by_hand.sort_by(|one, two| one.path.cmp(&two.path));
    all
}

struct TemplateRenderer<'a> {
    facts: &'a RepoFacts,
    read: ReadFile<'a>,
    copy_spec: &'a CopySpec,
    protected: &'a [String],
    output: RenderedTemplates,
}

impl TemplateRenderer<'_> {
    /// Returns the present content of `path`, if it exists.
    fn read_existing(&self, path: &str) -> Option<Vec<u8>> {
        let found = (self.read)(path);
        // A tracked but unreadable file counts as existing and empty.
        found.or_else(|| self.facts.has_file(path).then(Vec::new))
    }

    /// Reports whether `path` is free. If not, adds it to `kept`, or adds a note about the obstacle.
    fn is_free(&mut self, path: &'static str) -> bool {
        if let Some(taken) = self.facts.find_obstacle(path) {
            let note = format!("`{path}` is left out: {}", taken.describe());
            self.add_note(note);
            return false;
        }
        let Some(bytes) = self.read_existing(path) else { return true };
        self.output.kept.push(path.to_owned());
        for fault in find_rule_faults(path, &bytes) {
            self.add_note(format!("`{path}` already exists and is invalid: {fault}"));
        }
        false
    }

    fn add_file(&mut self, path: &'static str, text: String) {
        self.output.files.push(RenderedTemplate { path, text: self.copy_spec.rename_text(&text) });
    }

    fn add_note(&mut self, note: String) {
        if !self.output.notes.contains(&note) {
            self.output.notes.push(note);
        }
    }

    fn add_rules(&mut self) {
        if self.is_free(BRANCHES_FILE) {
            let protected: Vec<String> =
                self.protected.iter().map(|name| quote_toml(name)).collect();
            let text = BRANCHES_TEMPLATE
                .replace(
                    "protected = [\"<branch>\"]",
                    &format!("protected = [{}]", protected.join(", ")),
                )
                .replace("\"<branch>\"", &quote_toml(&self.facts.default_branch));
            self.add_file(BRANCHES_FILE, text);
        }
        if self.copy_spec.parts.has_part("checks") && self.is_free(VALIDATE_FILE) {
            self.add_file(VALIDATE_FILE, render_validate_config(self.facts));
        }
    }

    fn add_layers(&mut self) {
        if self.is_free(LOCAL_FILE) {
            self.add_file(LOCAL_FILE, render_local_layer(self.facts));
        } else if self.output.kept.iter().any(|path| path == LOCAL_FILE) {
            let text = |layer: &str| {
                let bytes = (self.read)(&layer_file_path(layer));
                Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
            };
            if let Err(faults) = Layer::load(DEFAULT_LAYER, &text, &[]) {
                for fault in list_faults(&faults) {
                    self.add_note(format!("`{LOCAL_FILE}` already exists and is invalid: {fault}"));
                }
            }
        }
        if self.is_free(DEPLOYMENT_FILE) {
            self.add_file(DEPLOYMENT_FILE, DEPLOYMENT_TEMPLATE.to_owned());
        }
    }

    /// In a Rust repository, cargo builds the launcher into `/target/`.
    fn add_gitignore(&mut self) {
        if self.facts.rust.is_none() && self.facts.rust_folders.is_empty() {
            return;
        }
        if self.is_free(IGNORE_FILE) {
            self.add_file(IGNORE_FILE, format!("{IGNORED}\n"));
            return;
        }
        let text = self.read_existing(IGNORE_FILE).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let is_ignored = text.lines().any(|line| {
            let name = line.trim_end().trim_end_matches('/').trim_start_matches("**/");
            name.trim_start_matches('/') == "target"
        });
        if !is_ignored {
            self.output.by_hand.push(ManualEdit {
                path: IGNORE_FILE.to_owned(),
                why: "ignore the build output of `cargo xtask`".to_owned(),
                lines: format!("{IGNORED}\n"),
                can_append: true,
            });
        }
    }

    /// Adds the line to `.gitattributes`, which stays unmanaged: each branch keeps its own attributes.
    fn add_gitattributes(&mut self) {
        if self.is_free(ATTRIBUTES_FILE) {
            self.add_file(ATTRIBUTES_FILE, format!("{VENDORED}\n"));
            return;
        }
        let text = self.read_existing(ATTRIBUTES_FILE).unwrap_or_default();
        let line = self.copy_spec.rename_text(VENDORED);
        if !String::from_utf8_lossy(&text).contains(line.trim_start_matches('/')) {
            self.output.by_hand.push(ManualEdit {
                path: ATTRIBUTES_FILE.to_owned(),
                why: "exclude the toolkit from the language statistics of this repository"
                    .to_owned(),
                lines: format!("{line}\n"),
                can_append: true,
            });
        }
    }

    fn add_recipes(&mut self) {
        let ours =
            self.copy_spec.rename_text(&self.copy_spec.parts.filter_justfile(JUSTFILE_TEMPLATE));
        let Some(theirs) = self.facts.layout.justfile.clone() else {
            if self.is_free(JUST_FILE) {
                self.add_file(JUST_FILE, ours);
            }
            return;
        };
        self.output.kept.push(theirs.clone());
        let text = self.read_existing(&theirs).unwrap_or_default();
        if let Some(lines) = recipes::find_missing_recipes(&String::from_utf8_lossy(&text), &ours) {
            let why = "shortcuts, without recipes whose names already exist".to_owned();
            self.output.by_hand.push(ManualEdit { path: theirs, why, lines, can_append: true });
        }
    }

    /// Adds tasks to a repository that shares settings of VS Code. Existing tasks may have comments, so ours are never
    /// inserted there.
    fn add_editor_tasks(&mut self) {
        if !self.facts.layout.has_vscode || !self.copy_spec.parts.has_part("checks") {
            return;
        }
        let ours = self.copy_spec.parts.filter_tasks(TASKS_TEMPLATE);
        if self.is_free(TASKS_FILE) {
            return self.add_file(TASKS_FILE, ours);
        }
        let Some(theirs) = self.read_existing(TASKS_FILE) else { return };
        let ours = self.copy_spec.rename_text(&ours);
        let theirs = String::from_utf8_lossy(&theirs);
        if let Some(lines) = editor_tasks::find_missing_tasks(&theirs, &ours) {
            let why =
                "tasks whose findings become problems in the editor; add them to the list `tasks`";
            self.output.by_hand.push(ManualEdit {
                path: TASKS_FILE.to_owned(),
                why: why.to_owned(),
                lines,
                can_append: false,
            });
        }
    }

    /// Excludes the added files from packages (Hatch, setuptools, npm) that would include them, and from Prettier.
    fn exclude_from_packages(&mut self) {
        let facts = self.facts;
        let ours = list_toolkit_paths(facts, &self.output.files, self.copy_spec);
        if facts.packaging.hatch {
            let quoted: Vec<String> = ours
                .iter()
                .map(|path| quote_toml(&format!("/{}", path.trim_end_matches('/'))))
                .collect();
            let table = "[tool.hatch.build.targets.sdist]";
            let text = self.read_existing("pyproject.toml").unwrap_or_default();
            self.output.by_hand.push(ManualEdit {
                path: "pyproject.toml".to_owned(),
                why: "source distributions include all tracked files".to_owned(),
                lines: format!("\n{table}\nexclude = [\n  {},\n]\n", quoted.join(",\n  ")),
                can_append: !String::from_utf8_lossy(&text).contains(table),
            });
        }
        if facts.packaging.manifest {
            let lines: String = ours
                .iter()
                .map(|path| match path.strip_suffix('/') {
                    Some(folder) => format!("prune {folder}\n"),
                    None => format!("exclude {path}\n"),
                })
                .collect();
            self.add_lines("MANIFEST.in", lines, "source distributions include all tracked files");
        }
        if facts.packaging.npm {
            let lines: String = ours.iter().map(|path| format!("/{path}\n")).collect();
            let why = "`npm pack` includes all files that are not ignored";
            match self.read_existing(".npmignore").is_some() {
                true => self.add_lines(".npmignore", lines, why),
                // For npm a new `.npmignore` would replace `.gitignore`.
                false => self.add_note(format!(
                    "{why}: `xtask/` is excluded, but {} are not; list the files of the package in `files` of \
                    `package.json`",
                    join_names(&ours[1..], 12)
                )),
            }
        }
        if facts.packaging.prettier {
            let line = format!("/{}/\n", self.copy_spec.name);
            self.add_lines(".prettierignore", line, "Prettier checks every file");
        }
    }

    /// Adds lines to a file, which is created if it does not exist.
    fn add_lines(&mut self, path: &'static str, lines: String, why: &str) {
        if self.read_existing(path).is_none() && self.facts.find_obstacle(path).is_none() {
            return self.add_file(path, lines);
        }
        let (path, why) = (path.to_owned(), why.to_owned());
        self.output.by_hand.push(ManualEdit { path, why, lines, can_append: true });
    }

    /// Adds the CI workflow and the template for pull requests of the remote's forge.
    fn add_forge_files(&mut self) {
        let facts = self.facts;
        let forge = facts.remote.as_ref().and_then(|remote| remote.forge);
        let by_gitlab = forge.is_none() && facts.layout.has_gitlab_ci;
        let is_gitlab = forge == Some(Forge::GitLab) || by_gitlab;
        let is_new = facts.remote.is_none() && !by_gitlab;
        let is_github = forge == Some(Forge::GitHub) || facts.layout.has_github || is_new;
        if is_github {
            self.add_toolkit_file(GITHUB_FILE, GITHUB_TEMPLATE);
            self.add_toolkit_file(GITHUB_REQUEST_FILE, REQUEST_TEMPLATE);
        }
        if is_gitlab {
            self.add_toolkit_file(GITLAB_FILE, GITLAB_TEMPLATE);
            self.add_toolkit_file(GITLAB_REQUEST_FILE, REQUEST_TEMPLATE);
            self.add_gitlab_include();
        }
        if !is_github && !is_gitlab {
            self.add_note(
                "no CI workflow is added: the toolkit has one for GitHub and for GitLab, and for a bare \
                repository a hook in its `docs/canonical.md`"
                    .to_owned(),
            );
        }
    }

    /// Adds a file that is the same in every repository.
    fn add_toolkit_file(&mut self, path: &'static str, text: &str) {
        if self.is_free(path) {
            self.add_file(path, text.to_owned());
        } else if self
            .read_existing(path)
            .is_some_and(|there| there != self.copy_spec.rename_text(text).as_bytes())
        {
            self.add_note(format!("`{path}` already exists with other content, and is kept"));
        }
    }

    fn add_gitlab_include(&mut self) {
        let entry = format!("  - local: /{GITLAB_FILE}\n");
        if self.is_free(GITLAB_CI_FILE) {
            self.add_file(GITLAB_CI_FILE, format!("include:\n{entry}"));
            return;
        }
        let text = self.read_existing(GITLAB_CI_FILE).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if text.contains(GITLAB_FILE) {
            return;
        }
        let has_list = text.lines().any(|line| line.starts_with("include:"));
        let (why, lines) = if has_list {
            ("the jobs of the toolkit; add it to the list of `include`", entry)
        } else {
            ("the jobs of the toolkit", format!("include:\n{entry}"))
        };
        self.output.by_hand.push(ManualEdit {
            path: GITLAB_CI_FILE.to_owned(),
            why: why.to_owned(),
            lines,
            can_append: !has_list,
        });
    }
}

fn list_faults(faults: &Error) -> Vec<String> {
    if faults.details().is_empty() {
        vec![faults.message().to_owned()]
    } else {
        faults.details().to_vec()
    }
}

/// Returns the paths in the root that belong to the toolkit, its own folder first.
fn list_toolkit_paths(
    facts: &RepoFacts,
    placed: &[RenderedTemplate],
    copy_spec: &CopySpec,
) -> Vec<String> {
    let mut found = BTreeSet::from([".cargo/config.toml".to_owned()]);
    if facts.is_cargo_ours && facts.rust_folders.is_empty() {
        found.extend(["Cargo.lock".to_owned(), "Cargo.toml".to_owned()]);
    }
    for file in placed.iter().filter(|file| !file.path.starts_with(".git")) {
        let folder = file.path.split_once('/').map(|(folder, _)| folder);
        // `.vscode` is only added to where it exists.
        let is_theirs =
            |name: &str| name == ".vscode" || facts.layout.folders.iter().any(|own| own == name);
        let is_whole = folder.is_some_and(|folder| !is_theirs(folder));
        found.insert(match folder {
            Some(folder) if is_whole => format!("{folder}/"),
            _ => file.path.to_owned(),
        });
    }
    found.extend(
        placed.iter().filter(|file| file.path.starts_with(".git")).map(|file| file.path.to_owned()),
    );
    [format!("{}/", copy_spec.name)].into_iter().chain(found).collect()
}

/// Renders `deployment/local.toml`, with recognized services as comments.
fn render_local_layer(facts: &RepoFacts) -> String {
    let mut text = LOCAL_TEMPLATE.to_owned();
    if facts.services.is_empty() {
        return text;
    }
    text.push_str(
        "\n# Seen in this repository. To take one in, remove the `# ` before its lines, and the service above\n\
         # that it replaces. Names and ports are suggestions.\n",
    );
    for service in &facts.services {
        push_line(&mut text, &format!("\n# By {}:", service.evidence));
        for table_line in service.table.lines() {
            push_line(&mut text, &format!("# {table_line}"));
        }
    }
    text
}

pub(super) fn push_line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("because writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_base::path::RepoPath;
    use xtask_config::{BranchesConfig, SyncConfig, ValidateConfig};
    use xtask_detect::repo_facts::{DetectedRemote, DetectionInput, detect_repo};

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn given(files: Files<'_>, branch: &str, remote: Option<DetectedRemote>) -> RenderedTemplates {
        let paths: Vec<RepoPath> = files.iter().map(|(path, _)| RepoPath::new(*path)).collect();
        let read = |path: &str| {
            let found = files.iter().find(|(known, _)| *known == path);
            found.map(|(_, text)| text.as_bytes().to_vec())
        };
        let facts = detect_repo(&DetectionInput {
            name: "xtask",
            paths: &paths,
            read: &read,
            default_branch: branch,
            remote,
        });
        let all = render_templates(
            &facts,
            &read,
            &CopySpec::with_all_parts(),
            std::slice::from_ref(&facts.default_branch),
        );
        check(&all);
        all
    }

    /// Whatever comes out can be read by those who will read it, and nothing is placed twice.
    fn check(all: &RenderedTemplates) {
        for file in &all.files {
            assert_eq!(
                find_rule_faults(file.path, file.text.as_bytes()),
                [] as [String; 0],
                "{}",
                file.text
            );
            let is_filled = file.path != SYNC_FILE || !file.text.contains('<');
            assert!(is_filled, "{}", file.text);
            assert!(file.text.ends_with('\n') && !file.text.ends_with("\n\n"), "{}", file.path);
            assert!(!all.kept.iter().any(|kept| kept == file.path));
        }
        if let Some(local) = all.files.iter().find(|file| file.path == LOCAL_FILE) {
            layer(&local.text);
            // All that was recognised, taken in.
            let (known, seen) =
                local.text.split_at(local.text.find("\n# Seen").unwrap_or(local.text.len()));
            let tables = seen.lines().filter_map(|line| line.strip_prefix("# "));
            let tables: Vec<&str> = tables.skip_while(|line| !line.starts_with('[')).collect();
            let tables = tables.into_iter().filter(|line| !line.starts_with("By "));
            layer(&format!("{known}\n{}", tables.collect::<Vec<_>>().join("\n")));
        }
    }

    fn layer(text: &str) -> Layer {
        let read = Layer::load(DEFAULT_LAYER, &|_| Ok(Some(text.to_owned())), &[]);
        read.unwrap_or_else(|faults| panic!("{text}\n{:?}", faults.details()))
    }

    fn text<'a>(all: &'a RenderedTemplates, path: &str) -> &'a str {
        let file = all.files.iter().find(|file| file.path == path);
        &file.unwrap_or_else(|| panic!("no {path}")).text
    }

    fn at(forge: Option<Forge>) -> Option<DetectedRemote> {
        Some(DetectedRemote { name: "up".to_owned(), forge })
    }

    fn names(all: &RenderedTemplates) -> Vec<String> {
        let read = ValidateConfig::parse("f", text(all, VALIDATE_FILE)).unwrap();
        read.checks.into_iter().map(|check| check.name).collect()
    }

    fn include(all: &RenderedTemplates) -> Vec<String> {
        SyncConfig::parse("f", text(all, SYNC_FILE)).unwrap().include
    }

    #[test]
    fn an_empty_repository_is_given_everything_for_github() {
        let all = given(&[], "main", None);
        let paths: Vec<&str> = all.files.iter().map(|file| file.path).collect();
        assert_eq!(
            paths,
            [
                ".gitattributes",
                ".github/PULL_REQUEST_TEMPLATE/orchestration-pr.md",
                ".github/workflows/orchestration.yml",
                "deployment/README.md",
                "deployment/local.toml",
                "justfile",
                "setup/branches.toml",
                "setup/sync.toml",
                "setup/validate.toml",
            ]
        );
        assert!(all.by_hand.is_empty() && all.kept.is_empty() && all.notes.is_empty());
        assert_eq!(
            include(&all),
            [
                "/.cargo/config.toml",
                "/.github/PULL_REQUEST_TEMPLATE/orchestration-pr.md",
                "/Cargo.lock",
                "/Cargo.toml",
                "/deployment/",
                "/justfile",
                "/setup/",
                "/xtask/",
            ]
        );
        assert_eq!(names(&all), ["git", "git-identity", "disk", "sync", "hooks"]);
    }

    #[test]
    fn every_repository_has_the_checks_of_what_it_is() {
        let always = 5;
        let python = given(
            &[
                ("pyproject.toml", "[dependency-groups]\ndev = ['ruff', 'pytest']\n[tool.ruff]\n"),
                ("uv.lock", ""),
                ("conftest.py", ""),
            ],
            "main",
            None,
        );
        let wanted =
            ["python", "uv", "uv-lock", "virtual-environment", "uv-sync", "ruff", "pytest"];
        assert_eq!(names(&python)[always..], wanted);
        assert!(include(&python).contains(&"/Cargo.toml".to_owned()), "it is ours alone");
        assert!(text(&python, SYNC_FILE).contains("\n  # \"/pyproject.toml\",\n"));
        let package = r#"{"scripts": {"dev": "vite", "test": "vitest run"},
            "devDependencies": {"typescript": "5", "vite": "6"}}"#;
        let files = [("package.json", package), ("tsconfig.json", "{}"), ("pnpm-lock.yaml", "")];
        let node = given(&files, "main", None);
        assert_eq!(names(&node)[always..], ["node", "pnpm", "node-modules", "types", "pnpm-test"]);
        assert!(text(&node, LOCAL_FILE).contains("\n# [service.frontend]\n"));
        let files = [("Cargo.toml", "[workspace]\nmembers = ['a']\n"), ("Cargo.lock", "")];
        let rust = given(&files, "main", None);
        assert_eq!(names(&rust)[always..], ["cargo", "cargo-lock", "format", "cargo-test"]);
        assert!(!include(&rust).contains(&"/Cargo.toml".to_owned()));
        let below = given(&[("backend/Cargo.toml", ""), ("a b/Cargo.toml", "")], "main", None);
        assert_eq!(names(&below)[always..], ["cargo", "format-backend"]);
        let requirements =
            given(&[("requirements.txt", "pytest\n"), ("pytest.ini", "")], "main", None);
        assert_eq!(names(&requirements)[always..], ["python", "pytest"]);
        let fix = "fix = { run = \"python3 -m pip install -r requirements.txt pytest\"";
        assert!(text(&requirements, VALIDATE_FILE).contains(fix));
    }

    #[test]
    fn what_is_there_stays_and_is_told() {
        let all = given(
            &[
                ("setup/sync.toml", "[managed]\ninclude = ['/setup/']\n"),
                ("setup/validate.toml", "steps = 3\n"),
                ("deployment/local.toml", "replicas = 2\n"),
                ("deployment/README.md", "ours\n"),
                ("scripts/x", ""),
                ("Justfile", "start:\n    ./start\n"),
                (".gitignore", "/node_modules\n"),
                (".gitlab-ci.yml", "include:\n  - local: x.yml\n"),
                (".github/workflows/orchestration.yml", "name: other\n"),
            ],
            "trunk",
            at(Some(Forge::GitLab)),
        );
        let paths: Vec<&str> = all.files.iter().map(|file| file.path).collect();
        assert_eq!(
            paths,
            [
                ".gitattributes",
                ".github/PULL_REQUEST_TEMPLATE/orchestration-pr.md",
                GITLAB_REQUEST_FILE,
                GITLAB_FILE,
                BRANCHES_FILE,
            ]
        );
        let branches = BranchesConfig::parse("f", text(&all, BRANCHES_FILE)).unwrap();
        assert_eq!(branches.protected, ["trunk"]);
        let notes = all.notes.join("\n");
        assert!(notes.contains("`setup/validate.toml` already exists and is invalid: setup/validate.toml:1: unknown key `steps`"), "{notes}");
        assert!(notes.contains("deployment/local.toml:1: unknown key `replicas`"), "{notes}");
        assert!(
            notes.contains(
                "`.github/workflows/orchestration.yml` already exists with other content"
            ),
            "{notes}"
        );
        assert!(!notes.contains("setup/sync.toml"), "{notes}");
        let hand: Vec<(&str, bool)> =
            all.by_hand.iter().map(|one| (one.path.as_str(), one.can_append)).collect();
        assert_eq!(hand, [(".gitlab-ci.yml", false), ("Justfile", true)]);
        assert!(all.by_hand[1].lines.contains("\nstop *ARGS:"));
        assert!(!all.by_hand[1].lines.contains("\nstart *ARGS:"));
        assert_eq!(all.by_hand[0].lines, "  - local: /.gitlab/orchestration.yml\n");
    }

    #[test]
    fn tasks_are_added_where_settings_of_vs_code_are_shared() {
        let settings = (".vscode/settings.json", "{}\n");
        let all = given(&[settings], "main", None);
        assert_eq!(text(&all, TASKS_FILE), TASKS_TEMPLATE);
        assert!(include(&all).contains(&"/.vscode/tasks.json".to_owned()));
        assert!(all.toolkit_paths.contains(&TASKS_FILE.to_owned()), "the folder is not ours");
        let theirs = "{ // ours\n  \"tasks\": [{ \"command\": \"cargo xtask start\" }],\n}\n";
        let all = given(&[settings, (TASKS_FILE, theirs)], "main", None);
        assert!(!all.files.iter().any(|file| file.path == TASKS_FILE));
        assert!(all.kept.contains(&TASKS_FILE.to_owned()));
        let [edit] = &all.by_hand[..] else { panic!("{:?}", all.by_hand) };
        assert!(edit.path == TASKS_FILE && !edit.can_append, "comments are not parsed");
        assert!(edit.lines.contains("\"cargo xtask stop\""), "{}", edit.lines);
        assert!(!edit.lines.contains("\"cargo xtask start\""), "{}", edit.lines);
    }

    #[test]
    fn twice_is_once() {
        let first = given(&[(".vscode/settings.json", "{}\n")], "main", None);
        let files: Vec<(&str, &str)> =
            first.files.iter().map(|file| (file.path, file.text.as_str())).collect();
        let second = given(&files, "main", None);
        assert_eq!((second.files.len(), second.kept.len()), (0, first.files.len()));
        assert!(second.by_hand.is_empty() && second.notes.is_empty(), "{second:?}");
    }

    #[test]
    fn an_untracked_file_is_there_as_well() {
        let read = |path: &str| (path == "justfile").then(|| b"x:\n".to_vec());
        let look = DetectionInput {
            name: "xtask",
            paths: &[],
            read: &read,
            default_branch: "main",
            remote: None,
        };
        let all = render_templates(
            &detect_repo(&look),
            &read,
            &CopySpec::with_all_parts(),
            &[detect_repo(&look).default_branch],
        );
        assert!(!all.files.iter().any(|file| file.path == "justfile"));
        assert_eq!(all.kept, ["justfile"]);
    }

    #[test]
    fn the_server_decides_what_runs_there() {
        let has =
            |all: &RenderedTemplates, path: &str| all.files.iter().any(|file| file.path == path);
        let gitlab = given(&[], "main", at(Some(Forge::GitLab)));
        assert!(has(&gitlab, GITLAB_CI_FILE) && !has(&gitlab, GITHUB_FILE));
        assert!(include(&gitlab).contains(&"/.gitlab/orchestration.yml".to_owned()));
        let other = given(&[], "main", at(Some(Forge::Bitbucket)));
        assert!(!has(&other, GITLAB_FILE) && !has(&other, GITHUB_FILE));
        assert!(other.notes[0].starts_with("no CI workflow is added"));
        let unknown = given(&[(".gitlab-ci.yml", "stages: [test]\n")], "main", at(None));
        assert!(has(&unknown, GITLAB_FILE) && !has(&unknown, GITHUB_FILE));
        assert_eq!(unknown.by_hand[0].lines, "include:\n  - local: /.gitlab/orchestration.yml\n");
        let config = SyncConfig::parse("f", text(&unknown, SYNC_FILE)).unwrap();
        assert_eq!((config.remote.as_str(), config.forge), ("up", None));
        assert!(text(&unknown, SYNC_FILE).contains("# forge = \"github\""));
        let folder = given(&[(".github/CODEOWNERS", "")], "main", at(None));
        assert!(has(&folder, GITHUB_FILE));
    }

    #[test]
    fn names_of_every_kind_are_quoted_and_obstacles_leave_files_out() {
        let name = "a\"b'ü$<include>";
        let all = given(&[], name, None);
        let branches = BranchesConfig::parse("f", text(&all, BRANCHES_FILE)).unwrap();
        assert_eq!(branches.protected, [name]);
        let blocked = given(&[("setup", "x"), ("Deployment/x", "")], "main", None);
        assert!(
            !blocked.files.iter().any(|file| {
                file.path.starts_with("setup") || file.path.starts_with("deployment")
            })
        );
        let notes = blocked.notes.join("\n");
        assert!(notes.contains("`setup/sync.toml` is left out: `setup` is a file"), "{notes}");
        assert!(
            notes.contains("`deployment/local.toml` is left out: `Deployment` differs"),
            "{notes}"
        );
    }
}
