//! Probable services of a repository, as tables of a layer in `deployment/` *(pure)*.
//!
//! These are suggestions: none is certain enough to be started unasked. Names and ports are unique within the
//! first layer, so each table can be used unchanged. For example:
//!
//! ```text
//! package.json with vite -> [service.frontend] run = "npx --no-install vite …", port = 3001
//! ```

use super::detected::RustProject;
use super::node::NodeProject;
use super::python::{PythonPackageManager, PythonProject};
use super::tree::FileTree;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedService {
    /// The evidence for the service, e.g. `manage.py`.
    pub evidence: String,
    /// The TOML table of the service.
    pub table: String,
}

/// The usual files of a Python web application.
const APP_MODULES: [&str; 9] = [
    "main.py",
    "app.py",
    "wsgi.py",
    "app/main.py",
    "app/__init__.py",
    "src/main.py",
    "src/app.py",
    "api/main.py",
    "backend/main.py",
];

/// The number of files read to find the application.
const MAX_MODULES: usize = 40;

pub(super) fn detect_services(
    tree: &FileTree<'_>,
    rust: Option<&RustProject>,
    python: Option<&PythonProject>,
    node: Option<&NodeProject>,
) -> Vec<DetectedService> {
    let mut found = Vec::new();
    found.extend(node.and_then(detect_node_service));
    if let Some(python) = python {
        found.extend(detect_python_service(tree, python));
    }
    found.extend(rust.and_then(detect_rust_service));
    found
}

/// Adds the services of `folder`, with unique names and ports, and `dir` set to `folder`.
pub(super) fn merge_services(
    all: &mut Vec<DetectedService>,
    more: Vec<DetectedService>,
    folder: &str,
) {
    for one in more {
        let lines: Vec<&str> = one.table.lines().collect();
        let header = lines.first().copied().unwrap_or_default();
        let is_taken =
            |header: &str| all.iter().any(|known| known.table.lines().next() == Some(header));
        let of_folder = format!(
            "{}-{}]",
            header.trim_end_matches(']'),
            folder.replace(['/', '.', '_'], "-").to_lowercase()
        );
        let header = if is_taken(header) { of_folder } else { header.to_owned() };
        let mut table = format!("{header}\n");
        for line in &lines[1..] {
            let port = line.strip_prefix("port = ").and_then(|port| port.parse::<u16>().ok());
            match port {
                Some(port) => {
                    let has = |port: u16| {
                        all.iter().any(|known| known.table.contains(&format!("\nport = {port}\n")))
                    };
                    let free = (port..).find(|port| !has(*port)).unwrap_or(port);
                    table.push_str(&format!("port = {free}\n"));
                }
                None => table.push_str(&format!("{line}\n")),
            }
            if line.starts_with("run = ") {
                table.push_str(&format!("dir = \"{folder}\"\n"));
            }
        }
        all.push(DetectedService { evidence: format!("{} in `{folder}/`", one.evidence), table });
    }
}

/// Crates on which servers depend.
pub(super) const SERVER_CRATES: [&str; 11] = [
    "actix-web",
    "axum",
    "hyper",
    "poem",
    "rocket",
    "rouille",
    "salvo",
    "tide",
    "tiny_http",
    "tonic",
    "warp",
];

/// Commands in npm scripts that serve until stopped.
const SERVER_COMMANDS: [&str; 16] = [
    "astro",
    "gatsby",
    "http-server",
    "ng serve",
    "nodemon",
    "nuxt",
    "parcel",
    "react-scripts start",
    "remix",
    "rsbuild",
    "serve",
    "server",
    "svelte-kit",
    "vue-cli-service",
    "webpack-dev-server",
    "wrangler",
];

/// Whether an npm script starts a server, or a file with Node.
pub(super) fn is_service_script(script: &str) -> bool {
    let starts_a_file = script.split(['&', ';', '|']).any(|part| {
        ["node ", "tsx ", "ts-node ", "bun "].iter().any(|runner| part.trim().starts_with(runner))
    });
    starts_a_file || SERVER_COMMANDS.iter().any(|word| script.contains(word))
}

fn detect_node_service(node: &NodeProject) -> Option<DetectedService> {
    let has = |name: &str| node.packages.iter().any(|package| package == name);
    let exec = node.manager.exec_command();
    let script = if node.has_dev_script { "dev" } else { "start" };
    let (by, run, more) = if has("vite") && node.has_dev_script {
        let run = format!("{exec} vite --host 127.0.0.1 --port {{port}} --strictPort");
        ("the dependency `vite`", run, "ready = { http = \"/\" }")
    } else if has("next") && node.has_dev_script {
        let run = format!("{exec} next dev --hostname 127.0.0.1 --port {{port}}");
        ("the dependency `next`", run, "ready = { tcp = true }")
    } else if node.is_server {
        let by = if node.has_dev_script { "the script `dev`" } else { "the script `start`" };
        let run = format!("{} {script}", node.manager.run_command());
        (
            by,
            run,
            "env = { PORT = \"{port}\" } # if it reads its port from there\nready = { tcp = true }",
        )
    } else {
        return None;
    };
    Some(DetectedService {
        evidence: format!("{by} of `package.json`"),
        table: format!("[service.frontend]\nrun = \"{run}\"\nport = 3001\n{more}\n"),
    })
}

fn detect_python_service(tree: &FileTree<'_>, python: &PythonProject) -> Option<DetectedService> {
    let has = |name: &str| python.packages.iter().any(|package| package == name);
    let runner = match python.manager {
        PythonPackageManager::Uv => "uv run --no-sync ",
        PythonPackageManager::Poetry => "poetry run ",
        PythonPackageManager::Pip => "python3 -m ",
    };
    let python_itself = match python.manager {
        PythonPackageManager::Pip => "python3",
        PythonPackageManager::Uv => "uv run --no-sync python",
        PythonPackageManager::Poetry => "poetry run python",
    };
    let table = |run: String| {
        format!("[service.backend]\nrun = \"{run}\"\nport = 8001\nready = {{ tcp = true }}\n")
    };
    if tree.has("manage.py") && has("django") {
        let run = format!("{python_itself} manage.py runserver --noreload 127.0.0.1:{{port}}");
        return Some(DetectedService {
            evidence: "`manage.py` (Django)".to_owned(),
            table: table(run),
        });
    }
    let kinds = [
        ("uvicorn", ["FastAPI(", "Starlette("], "uvicorn", "--host 127.0.0.1 --port {port}"),
        ("flask", ["Flask(", "create_app("], "flask --app", "run --host 127.0.0.1 --port {port}"),
    ];
    for (package, made_by, program, arguments) in kinds {
        let comes_along = package == "uvicorn" && has("fastapi");
        if !comes_along && !has(package) {
            continue;
        }
        for path in list_modules(tree) {
            let Some(name) = find_application(&tree.read_text(path).unwrap_or_default(), &made_by)
            else {
                continue;
            };
            let module =
                path.trim_end_matches(".py").trim_end_matches("/__init__").replace('/', ".");
            let run = format!("{runner}{program} {module}:{name} {arguments}");
            return Some(DetectedService { evidence: format!("`{path}`"), table: table(run) });
        }
    }
    None
}

/// Lists the files that may define the application: `APP_MODULES`, and files with similar names in a package.
fn list_modules<'a>(tree: &FileTree<'a>) -> Vec<&'a str> {
    let usual = tree.all_paths().filter(|path| APP_MODULES.contains(path));
    let names = ["app.py", "asgi.py", "core.py", "main.py", "server.py", "wsgi.py", "__init__.py"];
    let in_package = |path: &&str| {
        let parts: Vec<&str> = path.split('/').collect();
        let (folder, name) = match parts[..] {
            [folder, name] | ["src", folder, name] => (folder, name),
            _ => return false,
        };
        names.contains(&name) && !["tests", "test", "docs", "examples"].contains(&folder)
    };
    usual.chain(tree.all_paths().filter(in_package)).take(MAX_MODULES).collect()
}

/// Returns the name of the variable to which one of the calls `made_by` is assigned.
fn find_application(text: &str, made_by: &[&str]) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, made) = line.split_once('=')?;
        let name = name.split(':').next().unwrap_or_default().trim_end();
        let made = made.trim_start();
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let is_made = made_by.iter().any(|call| made.starts_with(call));
        (is_name && is_made).then(|| name.to_owned())
    })
}

fn detect_rust_service(rust: &RustProject) -> Option<DetectedService> {
    let package = rust.package.as_ref().filter(|_| rust.has_program && rust.is_server)?;
    let is_plain = package.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    is_plain.then(|| DetectedService {
        evidence: format!("the program of the package `{package}`"),
        table: format!(
            "[service.server]\nrun = \"cargo run --quiet --package {package}\"\nport = 8002\n\
             env = {{ PORT = \"{{port}}\" }} # if it reads its port from there\nready = {{ tcp = true }}\n"
        ),
    })
}
