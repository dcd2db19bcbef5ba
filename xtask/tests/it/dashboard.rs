//! The dashboard as a file and as a server: what it shows, what it refuses, and that looking writes nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};

use crate::testkit::{Lab, Place, port, program, spawn};

/// A running dashboard.
pub struct Serving {
    child: Child,
    pub port: u16,
}

impl Serving {
    pub fn start(place: &Place<'_>, args: &[&str]) -> Serving {
        let mut serving = Serving::spawn(place, args);
        let mut line = String::new();
        let out = serving.child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let port = line
            .trim()
            .strip_prefix("http://localhost:")
            .and_then(|rest| rest.strip_suffix('/')?.parse().ok());
        serving.port = port.unwrap_or_else(|| panic!("no address: `{line}`"));
        serving
    }

    fn spawn(place: &Place<'_>, args: &[&str]) -> Serving {
        let mut command = Command::new(program());
        command.arg("dashboard").args(args).current_dir(&place.dir);
        for (name, value) in place.environment() {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Serving { child: spawn(&mut command).unwrap(), port: 0 }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    /// Sends a request with these headers and returns the whole answer.
    pub fn ask_with(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn ask(&self, path: &str) -> String {
        self.ask_with(path, &format!("Host: localhost:{}\r\n", self.port))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A repository in which one branch is behind and another has a version of its own.
pub fn shop(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["branch", "feature/late"]);
    repo.git(&["branch", "feature/own"]);
    repo.on_branch("feature/own", |place| place.write("setup/a", "mine <b>&\n"));
    repo.git(&["branch", "x<script>alert(1)<br>&\"'"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("scripts/new", Some("n\n"))]);
    repo.git(&["branch", "feature/new", "orchestration-tools"]);
    repo
}

/// What is in a page between its tags.
pub fn text_of(page: &str) -> String {
    let body = page.split_once("<main").unwrap().1.split_once("</main>").unwrap().0;
    let parts = body.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    parts.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_file_has_every_branch_and_needs_nothing_else() {
    let lab = Lab::of(|lab| drop(shop(lab)));
    let repo = lab.place("repo");
    let before = repo.scene();
    let page = repo.xtask(&["dashboard", "--html", "-"]).success().out;
    assert_eq!(repo.scene(), before, "looking writes nothing");
    assert!(!repo.has(".git/xtask"), "not even a cache");
    let text = text_of(&page);
    for words in [
        "4 of 5 branches behind",
        "feature/late",
        "feature/own",
        "this branch has its own version",
        "cargo xtask propagate feature/late",
        "git switch feature/own && cargo xtask sync --merge".replace('&', "&amp;").as_str(),
        "1 branch in sync",
        "feature/new",
        "nothing was validated in this worktree yet",
        "not installed",
    ] {
        assert!(text.contains(words), "`{words}` in\n{text}");
    }
    // What is not ours is data.
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains("x&lt;script&gt;alert(1)&lt;br&gt;&amp;&quot;&#39;"));
    assert!(
        page.contains(
            "http-equiv=\"Content-Security-Policy\" content=\"default-src &#39;none&#39;; "
        )
    );
    for outside in ["src=", "@import", "url(", "<link rel=\"stylesheet"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Links within the file lead somewhere, and no place has two of one name.
    let links = page.split("href=").skip(1).filter_map(|rest| {
        rest.trim_start_matches('"')
            .strip_prefix('#')
            .map(|rest| rest.split(['"', '>', ' ']).next().unwrap())
    });
    for link in links {
        let count = page.matches(&format!(" id=\"{link}\"")).count();
        assert_eq!(count, 1, "#{link}");
    }
    repo.xtask(&["dashboard", "--html", "page.html"]).success().says("page.html written");
    // A page is written again, and nothing else is replaced.
    repo.xtask(&["dashboard", "--html", "page.html"]).success().says("page.html written");
    repo.write("notes.html", "<p>mine\n");
    repo.xtask(&["dashboard", "--html", "notes.html"]).status(2).says("was not written by");
    assert_eq!(repo.read("notes.html"), "<p>mine\n");
    assert!(repo.read("page.html").contains("feature/late"));
}

#[test]
fn where_the_page_cannot_be_written_nothing_is_made() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.xtask(&["dashboard", "--html", "none/page.html"])
        .status(2)
        .says("there is no folder")
        .says("mkdir -p");
    assert!(!repo.has("none"));
    repo.xtask(&["dashboard", "--html", "setup"]).status(2).says("is not a regular file");
    repo.xtask(&["dashboard", "--html", "setup/a/page"]).status(2).says("is not a folder");
    repo.xtask(&["dashboard", "--html", "x", "--open"]).status(2);
    repo.xtask(&["dashboard", "--idle", "soon"]).status(2).says("`30m`");
    lab.place("home").xtask(&["dashboard", "--html", "-"]).status(3);
}

#[test]
fn a_repository_that_has_nothing_is_shown_as_it_is() {
    let lab = Lab::new();
    let bare = lab.repo_with("empty", &[]);
    let page = text_of(&bare.xtask(&["dashboard", "--html", "-"]).success().out);
    assert!(page.contains("there is no canonical branch"), "{page}");
    assert!(page.contains("make the first commit, and then  cargo xtask setup"), "{page}");
    let serving = Serving::start(&bare, &["--port", &port().to_string()]);
    assert!(!serving.ask("/").contains("cargo xtask backup<"));
    drop(serving);
    let plain = lab.repo_with("plain", &[("src/a", "a\n")]);
    let page = text_of(&plain.xtask(&["dashboard", "--html", "-"]).success().out);
    for words in ["there is no canonical branch", "nothing is backed up", "Needs attention"] {
        assert!(page.contains(words), "`{words}` in\n{page}");
    }
    let repo = lab.repo();
    repo.git(&["checkout", "--quiet", "--detach"]);
    let page = repo.xtask(&["dashboard", "--html", "-"]).success().out;
    assert!(page.contains("detached HEAD"));
}

#[test]
fn a_branch_that_cannot_be_read_hides_no_other() {
    let lab = Lab::of(|lab| drop(shop(lab)));
    let repo = lab.place("repo");
    repo.write(".git/refs/heads/feature/broken", format!("{}\n", "1".repeat(40)));
    let text = text_of(&repo.xtask(&["dashboard", "--html", "-"]).success().out);
    assert!(text.contains("feature/broken") && text.contains("not inspected"), "{text}");
    assert!(text.contains("feature/late"), "{text}");
}

#[test]
fn branches_of_the_remote_are_shown_where_there_are_no_others() {
    let lab = Lab::of(|lab| drop(shop(lab)));
    let repo = lab.place("repo");
    repo.git(&["clone", "--quiet", ".", "../clone"]);
    let clone = lab.place("clone");
    clone.git(&["branch", "orchestration-tools", "origin/orchestration-tools"]);
    let text = text_of(&clone.xtask(&["dashboard", "--html", "-"]).success().out);
    assert!(!text.contains("feature/late"), "{text}");
    let text = text_of(&clone.xtask(&["dashboard", "--remote", "--html", "-"]).success().out);
    assert!(text.contains("feature/late") && text.contains("as last fetched"), "{text}");
    assert!(text.contains("cargo xtask propagate --remote --push"), "{text}");
    let text = text_of(&repo.xtask(&["dashboard", "--remote", "--html", "-"]).success().out);
    assert!(text.contains("there is no remote") && !text.contains("each day"), "{text}");
}

#[test]
fn three_thousand_branches_fit_on_a_page() {
    let lab = Lab::new();
    let repo = lab.repo();
    let old = repo.head();
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let new = repo.git(&["rev-parse", "orchestration-tools"]);
    let refs: String = (0..3000)
        .map(|number| {
            let commit = if number % 10 == 0 { &old } else { new.trim() };
            format!("{commit} refs/heads/team/feature-{number:04}\n")
        })
        .collect();
    let packed = format!("# pack-refs with: peeled fully-peeled sorted \n{refs}");
    let rest = repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    repo.write(".git/packed-refs", sort_refs(&packed, &rest));
    let page = repo.xtask(&["dashboard", "--html", "-"]).success().out;
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    let text = text_of(&page);
    assert!(text.contains("301 of 3001 branches behind"), "{}", &text[..2000]);
    assert!(text.contains("2700 branches in sync") && text.contains("team/feature-2999"));
}

/// Returns a packed file of refs in the order of their names, which its head promises.
fn sort_refs(packed: &str, rest: &str) -> String {
    let (head, lines) = packed.split_once('\n').unwrap();
    let mut lines: Vec<&str> = lines.lines().chain(rest.lines()).collect();
    lines.sort_by_key(|line| line.split(' ').nth(1).unwrap().to_owned());
    format!("{head}\n{}\n", lines.join("\n"))
}

#[test]
fn the_server_shows_pages_and_refuses_strangers() {
    let lab = Lab::of(|lab| drop(shop(lab)));
    let repo = lab.place("repo");
    let before = repo.scene();
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    let page = serving.ask("/");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(
        page.contains("Content-Security-Policy: default-src 'none'; style-src 'sha256-"),
        "{page}"
    );
    assert!(!page.contains("unsafe-inline") && page.contains("feature/late"));
    // Filters work without a script.
    let some = serving.ask("/?name=OWN&owner=ada&days=");
    assert!(some.contains("1 of 5 branches match"), "{some}");
    assert!(serving.ask("/?name=&owner=nobody").contains("0 of 5 branches match"));
    let own = serving.ask("/?state=customised");
    assert!(own.contains("1 of 5 branches match") && own.contains("branch?n=feature%2Fown"));
    assert!(own.contains("<option value=\"customised\" selected>"), "{own}");
    let branch = serving.ask("/branch?n=feature%2Fown");
    for words in [
        "managed: <code>[managed] include</code> has <code>/setup/</code>",
        "last change on it",
        "<span class=\"del\">-a2</span>",
        "<span class=\"add\">+mine &lt;b&gt;&amp;</span>",
        "cargo xtask why setup/a",
    ] {
        assert!(branch.contains(words), "`{words}` in\n{branch}");
    }
    let late = serving.ask("/branch?n=feature%2Flate");
    assert!(late.contains("it has an older canonical version"), "{late}");
    for nowhere in [
        "/branch?n=none",
        "/branch?n=..%2f..",
        "/branch",
        "/run?id=..%2f..%2fHEAD",
        "/log?layer=a&service=b",
        "/x<script>",
    ] {
        let answer = serving.ask(nowhere);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{nowhere}: {answer}");
        assert!(!answer.contains("/x<script>"));
    }
    let host = format!("Host: localhost:{}\r\n", serving.port);
    for (headers, status) in [
        ("Host: evil.example\r\n".to_owned(), 403),
        (format!("{host}Origin: http://evil.example\r\n"), 403),
        (format!("{host}Origin: null\r\n"), 403),
        (format!("{host}Origin: http://localhost:1\r\n"), 403),
        (format!("{host}Origin: http://localhost:{}\r\n", serving.port), 200),
    ] {
        let answer = serving.ask_with("/about", &headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
    }
    // Another start in this worktree says where it is, and one elsewhere takes another port.
    let again = repo.xtask(&["dashboard", "--port", &serving.port.to_string()]).success();
    again.says(&serving.url("/")).says("runs there already");
    repo.git(&["worktree", "add", "--quiet", "-b", "other", "../other"]);
    let other = lab.place("other");
    other
        .xtask(&["dashboard", "--port", &serving.port.to_string()])
        .status(3)
        .says("already in use")
        .says("--port 0");
    drop(serving);
    repo.git(&["worktree", "remove", "../other"]);
    repo.git(&["branch", "--quiet", "-D", "other"]);
    assert_eq!(repo.scene(), before, "looking writes nothing");
}

#[test]
fn clients_that_have_gone_keep_nobody_waiting() {
    let lab = Lab::of(|lab| drop(shop(lab)));
    let repo = lab.place("repo");
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    for round in 0..30 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, serving.port)).unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", serving.port);
        stream.write_all(request.as_bytes()).unwrap();
        if round % 2 == 0 {
            drop(stream);
        }
    }
    assert!(serving.ask("/").starts_with("HTTP/1.1 200 OK"));
    assert!(serving.ask("/branch?n=feature%2Flate").contains("feature/late"));
    let long = "a".repeat(8000);
    assert!(serving.ask(&format!("/branch?n={long}")).starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_dashboard_ends_when_nobody_visits_it() {
    let lab = Lab::new();
    let repo = lab.repo();
    let mut serving = Serving::start(&repo, &["--port", &port().to_string(), "--idle", "200ms"]);
    assert!(serving.child.wait().unwrap().success());
}

#[test]
fn each_worktree_has_an_address_that_stays() {
    let lab = Lab::new();
    let repo = lab.repo();
    let places: Vec<String> = (0..10).map(|number| format!("tree{number}")).collect();
    for name in &places {
        repo.git(&["worktree", "add", "--quiet", "-b", name, &format!("../{name}")]);
    }
    let all: Vec<Serving> =
        places.iter().map(|name| Serving::start(&lab.place(name), &[])).collect();
    for (name, serving) in places.iter().zip(&all) {
        let owner = serving.ask("/about");
        assert!(owner.contains(&format!("/{name}\"")), "{owner}");
    }
    let ports: std::collections::BTreeSet<u16> = all.iter().map(|one| one.port).collect();
    assert_eq!(ports.len(), all.len());
    lab.place("tree3")
        .xtask(&["dashboard"])
        .success()
        .says(&all[3].url("/"))
        .says("runs there already");
}

#[cfg(target_os = "linux")]
#[test]
fn the_end_of_a_huge_log_is_there_at_once() {
    use std::fs::OpenOptions;
    use std::io::{Seek as _, SeekFrom};
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write(".git/xtask/services/local/logs/api.log", "first\n");
    let path = repo.dir.join(".git/xtask/services/local/logs/api.log");
    let mut log = OpenOptions::new().write(true).open(path).unwrap();
    log.seek(SeekFrom::Start(2 << 30)).unwrap();
    log.write_all(b"\nlisten <b>on</b> \x1b[31mport\x1b[0m\nneedle 1\nlast\n").unwrap();
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    let page = serving.ask("/log?layer=local&service=api");
    assert!(page.contains("listen &lt;b&gt;on&lt;/b&gt; port\n"), "{}", &page[page.len() - 3000..]);
    let found = serving.ask("/log?layer=local&service=api&q=NEEDLE");
    assert!(found.contains("<mark>needle</mark> 1") && !found.contains("\nlast"), "{found}");
    assert!(found.contains("1 line with <code>NEEDLE</code> in its last 8"), "{found}");
}

#[test]
fn figures_are_those_of_all_branches_and_worktrees() {
    let lab = Lab::new();
    let repo = shop(&lab);
    // Behind, and edited in a worktree: an edit brings no branch up to date.
    repo.git(&["worktree", "add", "-q", "../late", "feature/late"]);
    lab.place("late").write("setup/a", "edited\n");
    // In two worktrees: this one counts.
    repo.git(&["switch", "-q", "feature/own"]);
    repo.git(&["worktree", "add", "-q", "--force", "../twin", "feature/own"]);
    repo.git(&["update-ref", "refs/heads/HEAD", "main"]);
    repo.git(&["worktree", "add", "-q", "--detach", "../apart", "main"]);
    lab.place("apart").write("setup/b", "edited there\n");
    let page = repo.xtask(&["dashboard", "--html", "-"]).success().out;
    let text = text_of(&page);
    let status = repo.xtask(&["status", "--all", "--json"]).success().json();
    let behind =
        status["branches"].as_array().unwrap().iter().filter(|one| {
            one["behind"].as_u64() > Some(0) && one["branch"] != "orchestration-tools"
        });
    assert!(text.contains(&format!("{} of 6 branches behind", behind.count())), "{text}");
    assert!(page.contains("feature/own</a> <span class=\"tag\">here</span>"), "{page}");
    let row = page.split("feature/late</a>").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(row.contains("<b class=behind>1</b><b class=edited>1</b>"), "{row}");
    let apart = page.split("detached HEAD</a>").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(apart.contains("/apart") && apart.contains("<b class=edited>1</b>"), "{apart}");
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    let page = serving.ask("/");
    let link = page.split("/branch?worktree=").nth(1).unwrap().split('"').next().unwrap();
    let apart = serving.ask(&format!("/branch?worktree={link}"));
    assert!(apart.contains("the file has uncommitted changes"), "{apart}");
    assert!(serving.ask("/branch?worktree=%2Fnowhere").starts_with("HTTP/1.1 404 "));
}

#[test]
fn commands_to_copy_do_what_the_page_says() {
    let lab = Lab::new();
    let repo = shop(&lab);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["push", "-q", "--all", "origin"]);
    repo.git(&["worktree", "add", "-q", "../gone", "feature/late"]);
    std::fs::remove_dir_all(lab.path("gone").as_str()).unwrap();
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    let late = serving.ask("/branch?n=feature%2Flate");
    let command = "git worktree prune &amp;&amp; cargo xtask propagate feature/late</code>";
    assert!(late.contains(command), "{late}");
    let own = serving.ask("/branch?n=feature%2Fown");
    assert!(own.contains("git switch feature/own &amp;&amp; cargo xtask why setup/a"), "{own}");
    let page = repo.xtask(&["dashboard", "--remote", "--html", "-"]).success().out;
    assert!(page.contains("cargo xtask propagate --remote --push feature/late</code>"), "{page}");
    repo.xtask(&["propagate", "--remote", "--push", "feature/late", "--yes"]).success();
    repo.git(&["worktree", "prune"]);
    repo.xtask(&["propagate", "feature/late"]).success();
}

#[test]
fn what_cannot_be_read_says_why_and_keeps_nothing_waiting() {
    let lab = Lab::new();
    let repo = shop(&lab);
    repo.write("deployment/bad.toml", "[service.api]\nrun = 'true'\nports = 1\n");
    repo.write("deployment/huge.toml", "#".repeat(2 << 20));
    std::os::unix::fs::symlink("/dev/zero", repo.dir.join("deployment/zero.toml")).unwrap();
    let pipe = repo.dir.join("deployment/pipe.toml");
    repo.run("mkfifo", &[pipe.as_str()], &[]).success();
    let page = repo.xtask(&["dashboard", "--html", "-"]).success().out;
    let text = text_of(&page);
    let attention = page.split("id=\"attention\"").nth(1).unwrap().split("</section>").next();
    assert!(attention.unwrap().contains("layer <code>bad</code> cannot be read"), "{text}");
    for words in ["bad.toml:3: unknown key", "not a regular file", "larger than 1.0 MB"] {
        assert!(text.contains(words), "`{words}` in\n{text}");
    }
    assert!(!text.contains("cargo xtask start --layer bad"), "{text}");
    for layer in ["zero", "pipe", "huge"] {
        repo.xtask(&["start", "--layer", layer]).status(3).says("cannot read");
    }
    // A server that has met them still ends.
    let mut serving = Serving::start(&repo, &["--port", &port().to_string(), "--idle", "300ms"]);
    assert!(serving.ask("/about").contains("200 OK"));
    assert!(serving.child.wait().unwrap().success());
    // Rules that cannot be read.
    repo.canonical(&[("setup/sync.toml", Some("[managed]\ninclude = 1\n"))]);
    let page = repo.xtask(&["dashboard", "--html", "-"]).success().out;
    assert!(!page.contains("there is no canonical branch"), "{}", text_of(&page));
    assert!(page.contains(":2: <code>managed.include</code> must be a list"), "{}", text_of(&page));
}

#[test]
fn events_are_those_of_the_worktree_of_the_page() {
    let lab = Lab::new();
    let repo = shop(&lab);
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    let page = serving.ask("/");
    let events = page.split("data-events=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(events.starts_with("/events?of="), "{events}");
    repo.git(&["worktree", "add", "-q", "--detach", "../other"]);
    let other = Serving::start(&lab.place("other"), &["--port", &port().to_string()]);
    assert!(other.ask(events).starts_with("HTTP/1.1 409 "));
    assert!(!other.ask("/").contains(events));
}

#[test]
fn a_second_start_finds_the_first_wherever_it_is() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["worktree", "add", "-q", "--detach", "../tree"]);
    let tree = lab.place("tree");
    let first = Serving::start(&tree, &[]).port;
    let Ok(taken) = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, first)) else { return };
    let serving = Serving::start(&tree, &[]);
    assert_ne!(serving.port, first);
    drop(taken);
    tree.xtask(&["dashboard"]).success().says(&serving.url("/")).says("runs there already");
}

#[test]
fn a_look_at_a_partial_clone_fetches_no_content() {
    let lab = Lab::new();
    let repo = shop(&lab);
    let hub = lab.path("hub");
    repo.git(&["clone", "-q", "--bare", ".", hub.as_str()]);
    lab.place("hub").git(&["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", hub.as_str());
    lab.place(".").git(&["clone", "-q", "--filter=blob:none", &url, "part"]);
    let part = lab.place("part");
    part.git(&["branch", "-q", "feature/own", "origin/feature/own"]);
    let packs = || part.git(&["count-objects", "-v"]);
    part.xtask(&["status", "--all"]);
    let before = packs();
    let serving = Serving::start(&part, &["--port", &port().to_string()]);
    let page = serving.ask("/branch?n=feature%2Fown");
    assert!(page.contains("was not fetched into this partial clone"), "{page}");
    assert_eq!(packs(), before);
}

#[test]
fn a_page_that_is_replaced_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let repo = lab.repo();
    repo.xtask(&["dashboard", "--html", "page.html"]).success();
    let file = repo.dir.join("page.html");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    repo.xtask(&["dashboard", "--html", "page.html"]).success();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(repo.git(&["status", "--porcelain"]), "?? page.html\n");
}

#[test]
fn the_browser_is_the_one_that_is_named() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("browse", "#!/bin/sh\nprintf '%s\\n' \"$@\" > asked\n");
    repo.run("chmod", &["+x", "browse"], &[]).success();
    let wait = |words: &str| {
        crate::wrong_hits::wait_for("the browser", || {
            repo.has("asked") && repo.read("asked").ends_with(words)
        });
        std::fs::remove_file(repo.dir.join("asked")).unwrap();
    };
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    let words = ["dashboard", "--open", "--port", &serving.port.to_string()];
    for (browser, asked) in [
        ("./browse --new", format!("--new\n{}\n", serving.url("/"))),
        ("nowhere:./browse --at=%s", format!("--at={}\n", serving.url("/"))),
    ] {
        repo.run(program().as_str(), &words, &[("BROWSER", browser)]).success();
        wait(&asked);
    }
    repo.run(program().as_str(), &words, &[("BROWSER", "/no/where")])
        .success()
        .says("`BROWSER` is `/no/where`, and there is no such program");
}

#[test]
fn figures_are_those_of_status() {
    let lab = Lab::new();
    let repo = shop(&lab);
    // A name that is not UTF-8, a worktree whose folder is gone, and a customised file in the conflict of a merge.
    let old = repo.id("feature/late");
    let name = std::ffi::OsStr::from_bytes(b"refs/heads/odd-\xff");
    let done = Command::new("git")
        .current_dir(&repo.dir)
        .args(["update-ref".as_ref(), name, old.trim().as_ref()])
        .status();
    assert!(done.unwrap().success());
    repo.git(&["worktree", "add", "-q", "../gone", "feature/late"]);
    std::fs::remove_dir_all(lab.path("gone").as_str()).unwrap();
    repo.git(&["branch", "other", "main"]);
    repo.on_branch("other", |place| place.write("setup/a", "other\n"));
    repo.git(&["switch", "-q", "feature/own"]);
    repo.try_git(&["merge", "-q", "other"]);
    repo.git(&["worktree", "add", "-q", "--detach", "../apart", "main"]);
    let text = text_of(&repo.xtask(&["dashboard", "--html", "-"]).success().out);
    let status = repo.xtask(&["status", "--all", "--json"]).success().json();
    let all = status["branches"].as_array().unwrap();
    let count = |key: &str| all.iter().filter(|one| one[key].as_u64() > Some(0)).count();
    let summary = format!("{} of {} branches behind", count("behind"), all.len());
    assert!(text.contains(&summary) && !text.contains("not inspected"), "{summary}\n{text}");
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    for state in ["behind", "customised"] {
        let page = serving.ask(&format!("/?state={state}"));
        let words = format!("{} of {} branches match", count(state), all.len());
        assert!(page.contains(&words), "`{words}` in\n{}", text_of(&page));
    }
    let page = serving.ask("/");
    assert!(page.contains("its name is not UTF-8 (<code>git branch -m OLD NEW</code>"), "{page}");
    assert!(
        page.contains("feature/late</a> <span class=\"tag\">worktree is gone</span>"),
        "{page}"
    );
    assert!(page.contains("(<a href=\"/branch?n=feature%2Fown\">this branch</a>)"), "{page}");
}

#[test]
fn a_file_has_the_details_of_this_branch_and_of_protected_ones_first() {
    let lab = Lab::new();
    let repo = lab.repo();
    let old = repo.head();
    let long = "n".repeat(150);
    let names: Vec<String> = (0..150).map(|at| format!("setup/{long}/{at:03}-{long}")).collect();
    let files: Vec<(&str, Option<&str>)> =
        names.iter().map(|name| (name.as_str(), Some("new\n"))).collect();
    repo.canonical(&files);
    let refs: String = (0..60).map(|at| format!("{old} refs/heads/a-{at:02}\n")).collect();
    let rest = repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    let packed =
        format!("# pack-refs with: peeled fully-peeled sorted \n{refs}{old} refs/heads/zoo\n");
    repo.write(".git/packed-refs", sort_refs(&packed, &rest));
    repo.git(&["switch", "-q", "zoo"]);
    let page = repo.xtask(&["dashboard", "--html", "-"]).success().out;
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    let detail = |branch: &str| {
        let begin = page.split(&format!("<h3>{branch}</h3>")).nth(1).unwrap();
        begin.split("</section>").next().unwrap()
    };
    let none = "this file has no room";
    assert!(!detail("zoo").contains(none) && !detail("main").contains(none));
    assert!(
        detail("a-59").contains(none) && detail("a-59").contains("cargo xtask propagate a-59<")
    );
}
