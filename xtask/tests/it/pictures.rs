//! The pictures of the manuals are what the program prints and what the benches measured: `UPDATE_EXPECT=1 cargo
//! xtest -- pictures` draws them anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use expect_test::expect_file;
use regex_lite::{Captures, Regex};

use crate::builds::homes;
use crate::drawing::plot::{Group, SECTIONS, plot};
use crate::drawing::terminal::Screen;
use crate::testkit::{Lab, Place, port};

/// A file of the repository.
fn of_repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// What differs between two runs, and what is shown for it: an id, a process or a date is another one of the same
/// length, and a duration, a size or a share is not shown at all.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let all = [
        (r"\b[0-9]{8}T[0-9]{6}Z", "20260105T090000Z"),
        (r"Z-[0-9]+\.log", "Z-4711.log"),
        (r"\b[0-9]+(\.[0-9]+)+ \(/[^)]*\)", "2.47.3 (/usr/bin/git)"),
        (r"\b[0-9]+(\.[0-9]+)? (ms|s|min)\b", "… s"),
        (r"\b[0-9]+ (second|minute)s? ago\b", "just now"),
        // The table of `ps`.
        (
            r" +PID +PORT +UPTIME +RESTARTS +MEMORY +CPU",
            "    PID  PORT  UPTIME  RESTARTS  MEMORY  CPU",
        ),
        (
            r" +[0-9]+  ([0-9]{4}) +[0-9]+s +0 +[0-9.]+ MB +[0-9.]+%",
            "  4711  $1     … s         0    … MB  … %",
        ),
    ];
    all.map(|(pattern, shown)| (Regex::new(pattern).unwrap(), shown)).to_vec()
});

/// A duration in a column, which is as wide as it is.
static IN_COLUMN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r" {2,}[0-9]+(\.[0-9]+)? (ms|s|min)\b").unwrap());

static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[0-9a-f]{7,40}\b").unwrap());

/// A text as it is in each run.
fn normalised(text: &str, names: &[(String, &str)]) -> String {
    let text = names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let column = |found: &Captures<'_>| format!("{:>1$}", "… s", found[0].len());
    let text = IN_COLUMN.replace_all(&text, column).into_owned();
    let text = PATTERNS
        .iter()
        .fold(text, |text, (pattern, shown)| pattern.replace_all(&text, *shown).into_owned());
    let id = |found: &Captures<'_>| {
        let is_id = found[0].bytes().any(|byte| byte.is_ascii_digit());
        let shown = "3f9c1e7a52".repeat(4);
        if is_id { shown[..found[0].len()].to_owned() } else { found[0].to_owned() }
    };
    ID.replace_all(&text, id).into_owned()
}

/// A person at a terminal in a place, and what stands there.
struct Terminal<'a> {
    place: Place<'a>,
    variables: Vec<(&'static str, String)>,
    names: Vec<(String, &'static str)>,
    text: String,
}

impl<'a> Terminal<'a> {
    fn new(place: &Place<'a>, names: &[(String, &'static str)]) -> Terminal<'a> {
        let mut variables = homes().to_vec();
        variables.push(("CARGO_NET_OFFLINE", "true".to_owned()));
        variables.push(("CLICOLOR_FORCE", "1".to_owned()));
        // Whether there is something to compile depends on what this machine has built before.
        variables.push(("CARGO_TERM_QUIET", "true".to_owned()));
        Terminal { place: place.clone(), variables, names: names.to_vec(), text: String::new() }
    }

    /// Types a line, which is run in exactly these words.
    fn types(&mut self, line: &str, code: i32) -> &mut Self {
        let variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (*name, &value[..])).collect();
        let ran = self.place.run("sh", &["-c", &format!("exec 2>&1\n{line}")], &variables);
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let ran = ran.status(code);
        // A line of the launcher depends on what else this machine builds just now.
        let shown = ran.out.lines().filter(|line| !line.starts_with("xtask is being built"));
        let shown: String = shown.map(|line| format!("{line}\n")).collect();
        self.text.push_str(&format!("{gap}\x1b[1;34m$\x1b[0m \x1b[1m{line}\x1b[0m\n{shown}"));
        self
    }

    /// Compares the still with the file of this number, and begins anew.
    fn still(&mut self, number: usize, title: &str) {
        let screen = Screen::read(&std::mem::take(&mut self.text));
        let screen = screen.replace(|text| normalised(text, &self.names));
        let file = of_repository(&format!("docs/pictures/first-minutes-{number}.svg"));
        expect_file![file].assert_eq(&screen.draw(title));
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        // What a failed test has left running; after a good one there is nothing.
        drop(self.place.xtask(&["stop"]));
    }
}

const CHECKS: &str = "\
[phase.environment]
gate = true
[phase.quality]

[[check]]
name = 'git'
phase = 'environment'
tool = 'git'
version = '>=2.38'

[[check]]
name = 'whitespace'
phase = 'quality'
built-in = ['trailing-whitespace', 'end-of-file-fixer']
files = ['app/**', 'tests/**']
hook = 'pre-commit'

[[check]]
name = 'menu'
phase = 'quality'
run = 'sh tests/menu.sh'
inputs = ['app/**', 'tests/**']
tools = ['sh', 'grep']
";

/// Two services that xtask serves itself, one after the other, so that they are always in the same order.
const LAYER: &str = r#"[status]
port = STATUS

[service.web]
run = "{xtask} serve page --port {port}"
port = WEB
needs = ["api"]
ready = { http = "/health" }

[service.api]
run = "{xtask} serve api --port {port}"
port = API
ready = { http = "/api/health" }
"#;

/// A project with the toolkit on a hub, as `vendor` leaves it, and a clone of it.
fn clone_of_shop<'a>(lab: &'a Lab, ports: [u16; 3]) -> Place<'a> {
    let toolkit = lab.toolkit("toolkit");
    let layer = ["WEB", "API", "STATUS"]
        .iter()
        .zip(ports)
        .fold(LAYER.to_owned(), |layer, (name, port)| layer.replace(name, &port.to_string()));
    let shop = lab.repo_with(
        "ada",
        &[
            ("app/menu.txt", "soup\nbread\n"),
            ("tests/menu.sh", "grep -n TODO app/menu.txt && exit 1\necho 2 dishes\n"),
            ("setup/validate.toml", CHECKS),
            ("setup/format.toml", "width = 80\n"),
            ("deployment/local.toml", &layer),
        ],
    );
    toolkit.xtask(&["vendor", "../ada", "--parts", "all", "--protect", "main"]).success();
    let rules = shop.read("setup/sync.toml");
    shop.write("setup/sync.toml", rules.replace("  # \"/setup/\",", "  \"/setup/\","));
    shop.commit("Add xtask");
    shop.git(&["branch", "orchestration-tools"]);
    shop.git(&["branch", "feature/menu"]);
    shop.git(&["clone", "--quiet", "--bare", ".", "../hub.git"]);
    shop.git(&["remote", "add", "origin", "../hub.git"]);
    shop.git(&["clone", "--quiet", "--branch", "feature/menu", "../hub.git", "../shop"]);
    lab.place("shop")
}

/// Ada changes a shared file for everybody.
fn change_for_everybody(lab: &Lab) {
    let ada = lab.place("ada");
    ada.git(&["switch", "--quiet", "orchestration-tools"]);
    ada.write("setup/format.toml", "width = 100\n");
    ada.commit("Lines of 100");
    ada.git(&["push", "--quiet", "origin", "orchestration-tools"]);
}

#[test]
fn first_minutes_are_what_the_program_prints() {
    let lab = Lab::new();
    let ports = [port(), port(), port()];
    let shop = clone_of_shop(&lab, ports);
    let mut names = vec![(lab.path("").to_string(), "/home/ada/")];
    for (port, usual) in ports.iter().zip(["3000", "8000", "8010"]) {
        names.push((port.to_string(), usual));
    }
    let mut terminal = Terminal::new(&shop, &names);
    terminal.types("cargo xtask setup", 0);
    terminal.still(1, "A fresh clone");
    change_for_everybody(&lab);
    terminal.types("git fetch --quiet && cargo xtask status", 0);
    terminal.types("cargo xtask sync", 0);
    terminal.types("git show --stat --format='%an: %s'", 0);
    terminal.still(2, "A branch that is behind");
    shop.write("app/menu.txt", "soup\nbread\nTODO: something sweet\n");
    terminal.types("cargo xtask validate", 1);
    terminal.types("sed -i /TODO/d app/menu.txt && cargo xtask validate", 0);
    terminal.types("cargo xtask validate --fast", 0);
    terminal.still(3, "Checks");
    terminal.types("cargo xtask start", 0).types("cargo xtask ps", 0).types("cargo xtask stop", 0);
    terminal.still(4, "Services");
}

/// What the benches measured is in `results.json`, and a plot of each section that has some.
#[test]
fn plots_are_drawn_from_the_results() {
    let results = fs::read_to_string(of_repository("docs/benchmarks/results.json")).unwrap();
    let results: Vec<Group> = serde_json::from_str(&results).unwrap();
    for section in SECTIONS {
        let file = of_repository("docs/benchmarks").join(section.file());
        match plot(section, &results) {
            Some(svg) => expect_file![file].assert_eq(&svg),
            None => assert!(!file.exists(), "nothing of {section:?} was measured"),
        }
    }
}

/// The pictures hold nothing that a page would have to fetch or run, and are small.
#[test]
fn pictures_are_small_and_inert() {
    let mut count = 0;
    for folder in ["docs/pictures", "docs/benchmarks"] {
        for entry in fs::read_dir(of_repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "svg") {
                continue;
            }
            count += 1;
            let text = fs::read_to_string(&path).unwrap();
            let name = path.display();
            assert!(text.len() <= 20_000, "{name} has {} bytes", text.len());
            for word in
                ["<script", "href", "url(", "@import", "@font-face", "<image", "<foreignObject"]
            {
                assert!(!text.contains(word), "{name} has `{word}`");
            }
            let drawn =
                text.replace("http://www.w3.org/2000/svg", "").replace("http://localhost:", "");
            assert!(!drawn.contains("://"), "{name} names an address");
            for word in
                ["role=\"img\"", "<title id=", "<desc id=", "prefers-color-scheme:dark", "viewBox="]
            {
                assert!(text.contains(word), "{name} has no `{word}`");
            }
        }
    }
    assert!(count >= 5, "{count} pictures were found");
}
