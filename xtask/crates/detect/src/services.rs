//! The services that a repository seems to have, as they would stand in a layer *(pure)*.
//!
//! They are suggestions: nothing here is sure enough to be started unasked. Each has a name and a port
//! that nothing else in the first layer has, so any of them can be taken in as it stands.

use super::found::Rust;
use super::node::Node;
use super::python::{Installer, Python};
use super::tree::Tree;

/// A service that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// By what it was recognised.
    pub by: String,
    /// Its table in a layer.
    pub table: String,
}

/// Where the application of a Python service usually lies.
const MODULES: [&str; 9] = [
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

/// How many files are read in search of it.
const MOST_MODULES: usize = 40;

/// What is recognised in the root.
pub(super) fn recognise(
    tree: &Tree<'_>,
    rust: Option<&Rust>,
    python: Option<&Python>,
    node: Option<&Node>,
) -> Vec<Recognised> {
    let mut found = Vec::new();
    found.extend(node.and_then(of_node));
    if let Some(python) = python {
        found.extend(of_python(tree, python));
    }
    found.extend(rust.and_then(of_rust));
    found
}

/// Takes in the services of a folder: under names and at ports of their own, and at work there.
pub(super) fn take_in(all: &mut Vec<Recognised>, more: Vec<Recognised>, folder: &str) {
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
        all.push(Recognised { by: format!("{} in `{folder}/`", one.by), table });
    }
}

/// Crates that make a program one that serves.
pub(super) const SERVERS: [&str; 11] = [
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

/// What in a script says that it serves until it is ended.
const SERVING: [&str; 16] = [
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

/// Whether a script is about a service: it starts something that serves, or a file with Node.
pub(super) fn is_service(script: &str) -> bool {
    let starts_a_file = script.split(['&', ';', '|']).any(|part| {
        ["node ", "tsx ", "ts-node ", "bun "].iter().any(|runner| part.trim().starts_with(runner))
    });
    starts_a_file || SERVING.iter().any(|word| script.contains(word))
}

fn of_node(node: &Node) -> Option<Recognised> {
    let has = |name: &str| node.packages.iter().any(|package| package == name);
    let exec = node.manager.exec();
    let script = if node.has_dev { "dev" } else { "start" };
    let (by, run, more) = if has("vite") && node.has_dev {
        let run = format!("{exec} vite --host 127.0.0.1 --port {{port}} --strictPort");
        ("vite, among the packages", run, "ready = { http = \"/\" }")
    } else if has("next") && node.has_dev {
        let run = format!("{exec} next dev --hostname 127.0.0.1 --port {{port}}");
        ("next, among the packages", run, "ready = { tcp = true }")
    } else if node.serves {
        let by = if node.has_dev { "the script `dev`" } else { "the script `start`" };
        let run = format!("{} {script}", node.manager.run());
        (
            by,
            run,
            "env = { PORT = \"{port}\" } # if it listens where this says\nready = { tcp = true }",
        )
    } else {
        return None;
    };
    Some(Recognised {
        by: format!("{by} of `package.json`"),
        table: format!("[service.frontend]\nrun = \"{run}\"\nport = 3001\n{more}\n"),
    })
}

fn of_python(tree: &Tree<'_>, python: &Python) -> Option<Recognised> {
    let has = |name: &str| python.packages.iter().any(|package| package == name);
    let runner = match python.installer {
        Installer::Uv => "uv run --no-sync ",
        Installer::Poetry => "poetry run ",
        Installer::Pip => "python3 -m ",
    };
    let python_itself = match python.installer {
        Installer::Pip => "python3",
        Installer::Uv => "uv run --no-sync python",
        Installer::Poetry => "poetry run python",
    };
    let table = |run: String| {
        format!("[service.backend]\nrun = \"{run}\"\nport = 8001\nready = {{ tcp = true }}\n")
    };
    if tree.has("manage.py") && has("django") {
        let run = format!("{python_itself} manage.py runserver --noreload 127.0.0.1:{{port}}");
        return Some(Recognised { by: "`manage.py`, of Django".to_owned(), table: table(run) });
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
        for path in modules(tree) {
            let Some(name) = application(&tree.text(path).unwrap_or_default(), &made_by) else {
                continue;
            };
            let module =
                path.trim_end_matches(".py").trim_end_matches("/__init__").replace('/', ".");
            let run = format!("{runner}{program} {module}:{name} {arguments}");
            return Some(Recognised { by: format!("`{path}`"), table: table(run) });
        }
    }
    None
}

/// The files that may hold the application: where it usually lies, and those of such names in a package.
fn modules<'a>(tree: &Tree<'a>) -> Vec<&'a str> {
    let usual = tree.all().filter(|path| MODULES.contains(path));
    let names = ["app.py", "asgi.py", "core.py", "main.py", "server.py", "wsgi.py", "__init__.py"];
    let in_package = |path: &&str| {
        let parts: Vec<&str> = path.split('/').collect();
        let (folder, name) = match parts[..] {
            [folder, name] | ["src", folder, name] => (folder, name),
            _ => return false,
        };
        names.contains(&name) && !["tests", "test", "docs", "examples"].contains(&folder)
    };
    usual.chain(tree.all().filter(in_package)).take(MOST_MODULES).collect()
}

/// The name to which a module assigns what one of these makes.
fn application(text: &str, made_by: &[&str]) -> Option<String> {
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

fn of_rust(rust: &Rust) -> Option<Recognised> {
    let package = rust.package.as_ref().filter(|_| rust.has_program && rust.serves)?;
    let is_plain = package.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    is_plain.then(|| Recognised {
        by: format!("the program of the package `{package}`"),
        table: format!(
            "[service.server]\nrun = \"cargo run --quiet --package {package}\"\nport = 8002\n\
             env = {{ PORT = \"{{port}}\" }} # if it listens where this says\nready = {{ tcp = true }}\n"
        ),
    })
}
