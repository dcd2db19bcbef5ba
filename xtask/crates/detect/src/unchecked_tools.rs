//! Tools that are set up in a repository and have no default check *(pure)*.
//!
//! Each gives a note with a command for a check. For example:
//!
//! ```text
//! CMakeLists.txt -> "`CMakeLists.txt` (CMake) has no check in `setup/validate.toml`; `cmake -B build && …` could be one"
//! ```

use super::tree::FileTree;

/// A file in the root, its tool, and a command that would check it.
const UNCHECKED_TOOLS: [(&str, &str, &str); 20] = [
    ("CMakeLists.txt", "CMake", "cmake -B build && cmake --build build && ctest --test-dir build"),
    ("Gemfile", "Ruby", "bundle exec rake"),
    ("Makefile", "Make", "make check"),
    ("Package.swift", "Swift", "swift build && swift test"),
    ("Taskfile.yaml", "Task", "task --list"),
    ("Taskfile.yml", "Task", "task --list"),
    ("build.gradle", "Gradle", "./gradlew check"),
    ("build.gradle.kts", "Gradle", "./gradlew check"),
    ("build.sbt", "sbt", "sbt test"),
    ("build.zig", "Zig", "zig build test"),
    ("composer.json", "PHP", "composer validate --strict"),
    ("deno.json", "Deno", "deno lint && deno test"),
    ("dune-project", "OCaml", "dune build && dune test"),
    ("meson.build", "Meson", "meson setup build && meson test -C build"),
    ("mix.exs", "Elixir", "mix test"),
    ("pom.xml", "Maven", "mvn --batch-mode verify"),
    ("pubspec.yaml", "Dart", "dart analyze"),
    ("rebar.config", "Erlang", "rebar3 eunit"),
    ("stack.yaml", "Haskell", "stack test"),
    ("tox.ini", "tox", "tox"),
];

/// The file names that Docker Compose looks for.
const COMPOSE_FILES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

pub(super) fn note_unchecked_tools(tree: &FileTree<'_>) {
    for (file, what, run) in UNCHECKED_TOOLS {
        if tree.has(file) {
            tree.add_note(format!(
                "`{file}` ({what}) has no check in `setup/validate.toml`; `{run}` could be one"
            ));
        }
    }
    let mut root = tree.root_files();
    let ending =
        |name: &str| [".sln", ".slnx", ".csproj", ".fsproj"].iter().any(|end| name.ends_with(end));
    if let Some(file) = root.find(|name| ending(name)) {
        tree.add_note(format!(
            "`{file}` (.NET) has no check in `setup/validate.toml`; `dotnet test` could be one"
        ));
    }
    if let Some(file) = COMPOSE_FILES.iter().find(|file| tree.has(file)) {
        tree.add_note(format!(
            "`{file}` (Compose) is not part of a layer: with `[deploy] engine = \"compose\"` in a file of \
             `deployment/`, `start`, `ps` and `logs` use it"
        ));
    }
}
