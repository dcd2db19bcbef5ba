//! The same checks in the words of each runner.
//!
//! Each is configured as its own documentation recommends for a check that writes nothing: its
//! inputs named, its variables and tools named where there is a way, and an empty list of outputs
//! where a cached pass needs one. Where a runner leaves its own configuration out of what it
//! compares and takes it as one more input, it gets it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::kit::find;
use crate::runners::Check;

fn write(repo: &Path, name: &str, text: &str) {
    let path = repo.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn write_json(repo: &Path, name: &str, value: &Value) {
    write(repo, name, &serde_json::to_string_pretty(value).unwrap());
}

/// `"a", "b"`: a list of TOML without its brackets.
fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn names(checks: &[Check]) -> Vec<&str> {
    checks.iter().map(|check| check.name.as_str()).collect()
}

/// What tells one tool from another, for a runner that can ask: where it is, and its version.
fn questions(check: &Check) -> Vec<String> {
    let pair = |tool: &&str| [format!("command -v {tool}"), format!("{tool} --version")];
    check.tools.iter().flat_map(pair).collect()
}

pub fn xtask(repo: &Path, checks: &[Check]) {
    let check = |Check { name, run, inputs, env, tools }: &Check| {
        // A shell script says which programs it runs; these use none but the shell's own words.
        let tools: Vec<&str> = std::iter::once("sh").chain(tools.iter().copied()).collect();
        let (env, tools) = (quoted(env), quoted(&tools));
        format!(
            "[[check]]\nname = \"{name}\"\nrun = \"{run}\"\ninputs = [\"{inputs}/**\"]\n\
             env = [{env}]\ntools = [{tools}]\n\n"
        )
    };
    write(repo, "setup/validate.toml", &checks.iter().map(check).collect::<String>());
}

/// Its guide says to put variables, also those that a command fills, into the label. There a variable
/// that is unset looks like an empty one.
pub fn go_task(repo: &Path, checks: &[Check]) {
    let mut text = String::from("version: '3'\nmethod: checksum\ntasks:\n");
    for check in checks {
        let Check { name, run, inputs, env, .. } = check;
        let mut label = env.iter().map(|name| format!(" {{{{.{name}}}}}")).collect::<String>();
        text += &format!("  '{name}':\n    cmds: ['{run}']\n");
        if !check.tools.is_empty() {
            let ask = questions(check).join("; ");
            text += &format!("    vars: {{TOOLS: {{sh: '{{ {ask}; }} | cksum'}}}}\n");
            label += " {{.TOOLS}}";
        }
        if !label.is_empty() {
            text += &format!("    label: '{{{{.TASK}}}}{label}'\n");
        }
        text += &format!("    sources: ['Taskfile.yml', '{inputs}/**/*']\n");
    }
    text += &format!("  all:\n    deps: [{}]\n", quoted(&names(checks)));
    write(repo, "Taskfile.yml", &text);
}

/// What each script of `package.json` is.
fn package(repo: &Path, scripts: Map<String, Value>, wireit: Option<Map<String, Value>>) {
    let mut package = json!({
        "name": "root", "version": "0.0.0", "private": true, "packageManager": "npm@10.0.0",
        "scripts": scripts,
    });
    if let Some(wireit) = wireit {
        package["wireit"] = Value::Object(wireit);
    }
    write_json(repo, "package.json", &package);
}

pub fn turbo(repo: &Path, checks: &[Check]) {
    let scripts = checks.iter().map(|check| (check.name.clone(), json!(check.run)));
    package(repo, scripts.collect(), None);
    let tasks: Map<String, Value> = checks
        .iter()
        .map(|Check { name, inputs, env, .. }| {
            let inputs = [format!("{inputs}/**")];
            (name.clone(), json!({ "inputs": inputs, "outputs": [], "env": env }))
        })
        .collect();
    write_json(repo, "turbo.json", &json!({ "tasks": tasks }));
}

pub fn wireit(repo: &Path, checks: &[Check]) {
    let names = names(checks);
    let scripts = names.iter().chain(&["all"]).map(|name| ((*name).to_owned(), json!("wireit")));
    let mut tasks: Map<String, Value> = checks
        .iter()
        .map(|Check { name, run, inputs, env, .. }| {
            let external = |name: &&str| ((*name).to_owned(), json!({ "external": true }));
            let env: Map<String, Value> = env.iter().map(external).collect();
            let files = [format!("{inputs}/**")];
            let task = json!({ "command": run, "files": files, "output": [], "env": env });
            (name.clone(), task)
        })
        .collect();
    tasks.insert("all".to_owned(), json!({ "dependencies": names }));
    package(repo, scripts.collect(), Some(tasks));
}

pub fn moon(repo: &Path, checks: &[Check]) {
    write(repo, ".moon/workspace.yml", "projects:\n  root: '.'\ntelemetry: false\n");
    let mut text = String::from("tasks:\n");
    for Check { name, run, inputs, env, .. } in checks {
        let variables = env.iter().map(|name| format!(", '${name}'")).collect::<String>();
        text += &format!("  '{name}':\n    command: '{run}'\n");
        text += &format!("    inputs: ['{inputs}/**/*'{variables}]\n");
    }
    let needs = checks.iter().map(|check| format!("'~:{}'", check.name)).collect::<Vec<_>>();
    text += &format!("  all:\n    command: 'noop'\n    deps: [{}]\n", needs.join(", "));
    write(repo, "moon.yml", &text);
}

/// It runs only where it is among the modules of the repository: they are linked to those in which
/// it was found.
pub fn nx(repo: &Path, checks: &[Check]) {
    let found = find("nx").and_then(|nx| fs::canonicalize(nx).ok());
    let modules =
        found.as_deref().and_then(|nx| nx.ancestors().find(|at| at.ends_with("node_modules")));
    if let Some(modules) = modules.filter(|_| !repo.join("node_modules").exists()) {
        std::os::unix::fs::symlink(modules, repo.join("node_modules")).unwrap();
    }
    package(repo, Map::new(), None);
    write_json(repo, "nx.json", &json!({ "analytics": false, "neverConnectToCloud": true }));
    let mut targets = Map::new();
    for check in checks {
        let Check { name, run, inputs, env, .. } = check;
        let mut inputs = vec![json!(format!("{{projectRoot}}/{inputs}/**/*"))];
        inputs.extend(env.iter().map(|name| json!({ "env": name })));
        inputs.extend(questions(check).iter().map(|ask| json!({ "runtime": ask })));
        let target = json!({ "command": run, "cache": true, "inputs": inputs, "outputs": [] });
        targets.insert(name.clone(), target);
    }
    targets.insert("all".to_owned(), json!({ "executor": "nx:noop", "dependsOn": names(checks) }));
    write_json(repo, "project.json", &json!({ "name": "root", "targets": targets }));
}

/// By the times of files, which is its default, or with its cache, which it calls experimental.
pub fn mise(repo: &Path, checks: &[Check], is_cached: bool) {
    let mut text = format!("[settings]\nexperimental = {is_cached}\n\n");
    for check in checks {
        let Check { name, run, inputs, env, .. } = check;
        text += &format!("[tasks.\"{name}\"]\nrun = \"{run}\"\n");
        if is_cached {
            let asked = questions(check);
            let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
            text += &format!(
                "sources = [\"{inputs}/**/*\"]\noutputs = []\ncache = {{ enabled = true, \
                 env = [{}], command_inputs = [{}] }}\n\n",
                quoted(env),
                quoted(&asked)
            );
        } else {
            text += &format!(
                "sources = [\"mise.toml\", \"{inputs}/**/*\"]\noutputs = {{ auto = true }}\n\n"
            );
        }
    }
    text += &format!("[tasks.all]\ndepends = [{}]\n", quoted(&names(checks)));
    write(repo, "mise.toml", &text);
}

pub fn make(repo: &Path, checks: &[Check]) {
    let stamps = |check: &Check| format!(" .stamps/{}", check.name);
    let stamps = checks.iter().map(stamps).collect::<String>();
    let mut text = format!(".PHONY: all\nall:{stamps}\n");
    for Check { name, run, inputs, tools, .. } in checks {
        let tools = tools.iter().map(|tool| format!(" $(shell command -v {tool})"));
        let tools = tools.collect::<String>();
        text += &format!(".stamps/{name}: Makefile $(shell find {inputs}){tools}\n");
        text += &format!("\t{run}\n\t@mkdir -p $(@D) && touch $@\n");
    }
    write(repo, "Makefile", &text);
}

pub fn just(repo: &Path, checks: &[Check]) {
    let mut text = format!("all: {}\n", names(checks).join(" "));
    for Check { name, run, .. } in checks {
        text += &format!("{name}:\n    {run}\n");
    }
    write(repo, "justfile", &text);
}
