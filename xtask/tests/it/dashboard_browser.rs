//! The dashboard in a real Chromium, where it is installed: light and dark, from a phone to a wall, with and without
//! scripts; what people and screen readers meet, and what an accessibility checker would complain about.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::dashboard::Serving;
use crate::services_nasty::Stack;
use crate::testkit::browser::Browser;
use crate::testkit::{Lab, Place, port};
use crate::wrong_hits::wait_for;

/// Finds what the rules of accessibility checkers forbid: names that are missing, ids that are not unique, headings
/// that skip a level, tables without heads, and text with less contrast than 4.5 (WCAG 2.2, 1.4.3).
const AUDIT: &str = r#"(() => {
  const faults = [];
  const say = (what, element) => faults.push(`${what}: ${element.outerHTML.slice(0, 160)}`);
  const seen = new Set();
  for (const one of document.querySelectorAll("[id]")) { if (seen.has(one.id)) say("id twice", one); seen.add(one.id); }
  const name = (one) => (one.getAttribute("aria-label") || [...(one.labels || [])].map((l) => l.textContent).join("") || one.textContent).trim();
  for (const one of document.querySelectorAll("a, button, input:not([type=hidden]), select, summary, [role=region], [role=img]")) if (one.checkVisibility() && !name(one)) say("no name", one);
  for (const one of document.querySelectorAll("main svg")) if (one.getAttribute("role") !== "img") say("no role", one);
  const levels = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter((h) => h.checkVisibility()).map((h) => Number(h.tagName[1]));
  if (levels[0] !== 1 || levels.filter((l) => l === 1).length !== 1) faults.push(`headings: ${levels}`);
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) faults.push(`heading level ${level} after ${levels[at - 1]}`); });
  for (const one of document.querySelectorAll("table")) if (!one.caption || !one.querySelector("th[scope=col]")) say("table", one);
  for (const one of document.querySelectorAll("dl")) for (const child of one.children) if (!["DT", "DD"].includes(child.tagName)) say("dl", child);
  for (const one of document.querySelectorAll("ul, ol")) for (const child of one.children) if (child.tagName !== "LI") say("list", child);
  if (!document.documentElement.lang || !document.title || document.querySelectorAll("main").length !== 1) faults.push("lang, title or main");
  const parse = (text) => { const n = text.match(/[\d.]+/g).map(Number); return { rgb: n.slice(0, 3), a: n.length > 3 ? n[3] : 1 }; };
  const light = ({ rgb }) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (one) => { for (let at = one; at; at = at.parentElement) { const c = parse(getComputedStyle(at).backgroundColor); if (c.a > 0) return c; } return { rgb: [255, 255, 255], a: 1 }; };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const pairs = new Set();
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !one.checkVisibility() || one.closest("script, style, .unseen, caption, option, datalist, .skip")) continue;
    const style = getComputedStyle(one), text = one.closest("svg") ? parse(style.fill) : parse(style.color), under = ground(one);
    const [a, b] = [light(text), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const key = `${style.color} ${under.rgb}`;
    if (ratio < 4.5 && !pairs.has(key)) { pairs.add(key); say(`contrast ${ratio.toFixed(2)}`, one); }
  }
  return faults;
})()"#;

/// Finds what is wider than the window, but for what scrolls by itself.
const OUT_OF_SIGHT: &str = r#"[...document.querySelectorAll("body *")].filter((one) =>
  one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".frame, pre, nav, .unseen, .skip, caption, thead")
).map((one) => one.outerHTML.slice(0, 160))"#;

const WIDE: u32 = 1280;

/// A repository with a bit of everything: drift, a failed check, a service that fails, a log that grows.
fn busy(lab: &Lab) -> Stack<'_> {
    let layer = "[service.ticker]\ndescription = \"it says 'tick' for ever\"\n\
         run = \"sh -c 'while :; do echo tick '\\\\''<b>'\\\\''; sleep 0.2; done'\"\n\
         env = { WORD = 'of the layer' }\n\
         [service.api]\nrun = \"sh -c 'echo listening; sleep 600'\"\nrequired = false\n\
         live = { run = \"test ! -e sick\", every = '100ms', failures = 2 }\n\
         restart = { max = 0 }\n";
    let stack = Stack::new(lab, layer);
    let repo = &stack.repo;
    repo.write(
        "setup/validate.toml",
        "[[check]]\nname = 'lint'\nrun = 'true'\n[[check]]\nname = 'tests'\nrun = \"sh -c 'echo broken; exit 1'\"\n",
    );
    for name in ["feature/late", "feature/own", "x<img/src=x>"] {
        repo.git(&["branch", name]);
    }
    repo.on_branch("feature/own", |place| place.write("setup/a", "mine\n"));
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    stack
}

#[test]
fn people_find_what_they_look_for() {
    let lab = Lab::new();
    let Some(mut browser) = Browser::start(&lab) else { return };
    let stack = busy(&lab);
    stack.repo.xtask(&["validate"]).status(1);
    stack.repo.xtask(&["start"]).success();
    stack.repo.write("sick", "");
    wait_for("the failure", || stack.state("api") == "failed");
    let serving = Serving::start(&stack.repo, &["--port", &port().to_string()]);
    for (width, scheme) in [(360, "light"), (WIDE, "light"), (WIDE, "dark"), (3840, "dark")] {
        browser.set_look(width, scheme);
        browser.open(&serving.url("/"));
        browser.wait_for("document.querySelector('#services-body svg.spark') !== null");
        assert_eq!(browser.eval(AUDIT), json!([]), "{width} {scheme}");
        assert_eq!(browser.eval(OUT_OF_SIGHT), json!([]), "{width} {scheme}");
        let over = browser.eval("document.documentElement.scrollWidth - innerWidth");
        assert!(over.as_f64().unwrap() <= 0.0, "{width}: {over} pixels are out of sight");
    }
    // From the first screen alone: what needs attention, and why.
    browser.set_look(WIDE, "light");
    browser.open(&serving.url("/"));
    let attention = browser.eval("document.getElementById('attention').innerText");
    let attention = attention.as_str().unwrap();
    for words in ["3 of 4 branches behind", "api is failed", "1 of 2 checks failed", "tests"] {
        assert!(attention.contains(words), "`{words}` in\n{attention}");
    }
    assert_eq!(browser.eval("document.title.startsWith('✗ ')"), json!(true));
    let nodes = browser.accessible_nodes();
    for role in ["link", "button", "searchbox", "combobox", "image", "table", "columnheader"] {
        assert!(nodes.iter().any(|(of, _)| of == role), "no {role}");
        let unnamed = nodes.iter().filter(|(of, name)| of == role && name.is_empty()).count();
        assert_eq!(unnamed, 0, "{role} without a name");
    }
    // Filtering as somebody types.
    let rows = "[...document.querySelectorAll('#branches tbody tr')].filter((row) => row.checkVisibility()).length";
    assert_eq!(browser.eval(rows), json!(4));
    browser.eval("document.querySelector('[name=name]').focus()");
    browser.call("Input.insertText", json!({"text": "OWN"}));
    assert_eq!(browser.eval(rows), json!(1));
    assert_eq!(
        browser.eval("document.getElementById('matches').textContent"),
        json!("1 of 4 branches match")
    );
    // A cell opens what differs.
    browser.eval("document.querySelector('#branches tr:not([hidden]) td a').click()");
    browser.wait_for("location.pathname === '/branch' && document.readyState === 'complete'");
    let text = browser.eval("document.body.innerText");
    let text = text.as_str().unwrap();
    for words in ["-a2", "+mine", "this branch has its own version", "cargo xtask why setup/a"] {
        assert!(text.contains(words), "`{words}` in\n{text}");
    }
    assert_eq!(browser.eval(AUDIT), json!([]));
    // The name of a branch is no markup.
    assert_eq!(browser.eval("document.querySelectorAll('img').length"), json!(0));
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn services_and_logs_are_followed_as_they_change() {
    let lab = Lab::new();
    let Some(mut browser) = Browser::start(&lab) else { return };
    let stack = busy(&lab);
    stack.repo.xtask(&["start"]).success();
    let serving = Serving::start(&stack.repo, &["--port", &port().to_string()]);
    browser.set_look(WIDE, "light");
    browser.open(&serving.url("/"));
    let row = "document.getElementById('services-body').innerText";
    browser.wait_for(&format!("{row}.includes('2 of 2 services ready')"));
    // What somebody has opened and chosen stays while things change.
    browser.eval("document.querySelector('#values-local').open = true");
    browser.eval("document.querySelector('#log-local-ticker').focus()");
    stack.repo.write("sick", "");
    browser.wait_for(&format!("{row}.includes('api is failed')"));
    browser.wait_for("document.title.startsWith('✗ ') && document.querySelector('link[rel=icon]').href.includes('c62128')");
    browser.wait_for("document.getElementById('attention').innerText.includes('api is failed')");
    let nav = "document.querySelector(\"nav a[href='#services']\").textContent";
    assert_eq!(browser.eval(nav), json!("Services: trouble"));
    let title = "document.getElementById('attention-title').textContent";
    assert_eq!(browser.eval(title), json!("Needs attention"));
    let calm = "(() => { const list = document.querySelector('#attention ul').cloneNode(true); \
         document.querySelector('#attention ul').replaceChildren(); showAttention('good', ''); \
         const said = document.getElementById('attention-title').textContent; \
         document.querySelector('#attention ul').replaceWith(list); showAttention('bad', 'api is failed'); return said; })()";
    assert_eq!(browser.eval(calm), json!("Nothing needs attention"));
    assert_eq!(browser.eval(title), json!("Needs attention"));
    assert_eq!(browser.eval("document.querySelector('#values-local').open"), json!(true));
    assert_eq!(browser.eval("document.activeElement.id"), json!("log-local-ticker"));
    browser.wait_for(&format!("{row}.includes(\"it says 'tick' for ever\")"));
    let values = browser.eval("document.querySelector('#values-local').innerText");
    assert!(values.as_str().unwrap().contains("of the layer"), "{values}");
    assert!(values.as_str().unwrap().contains("deployment/local.toml:"), "{values}");
    assert_eq!(browser.eval(AUDIT), json!([]));
    // The log, from a link and with the keyboard.
    browser.press("Enter", 13);
    browser.wait_for("location.pathname === '/log' && document.readyState === 'complete'");
    let count = "document.getElementById('log').textContent.split('tick <b>').length";
    let before = browser.eval(count).as_u64().unwrap();
    browser.wait_for(&format!("{count} > {}", before + 3));
    assert_eq!(browser.eval("document.querySelectorAll('#log b').length"), json!(0));
    assert_eq!(browser.eval(AUDIT), json!([]));
    browser.eval("document.querySelector('[name=q]').value = 'TICK'; document.querySelector('form').submit()");
    browser.wait_for("location.search.includes('q=TICK') && document.readyState === 'complete'");
    let marked = browser.eval("document.querySelectorAll('#log mark').length");
    assert!(marked.as_u64().unwrap() > 3, "{marked}");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn without_scripts_everything_is_there() {
    let lab = Lab::new();
    let Some(mut browser) = Browser::start(&lab) else { return };
    let stack = busy(&lab);
    stack.repo.xtask(&["validate"]).status(1);
    let serving = Serving::start(&stack.repo, &["--port", &port().to_string()]);
    browser.set_scripts(false);
    browser.open(&serving.url("/"));
    let text = body_text(&mut browser);
    for words in ["3 of 4 branches behind", "feature/late", "tests", "cargo xtask start", "Filter"]
    {
        assert!(text.contains(words), "`{words}` in\n{text}");
    }
    browser.open(&serving.url("/?name=own"));
    let text = body_text(&mut browser);
    assert!(text.contains("1 of 4 branches match") && text.contains("feature/own"), "{text}");
    // A file is the same, and its cells lead to places within it.
    stack.repo.xtask(&["dashboard", "--html", "page.html"]).success();
    browser.open(&format!("file://{}", stack.repo.dir.join("page.html")));
    let text = body_text(&mut browser);
    assert!(text.contains("feature/own") && !text.contains("of the layer"), "{text}");
    browser.set_scripts(true);
    browser.open(&format!("file://{}", stack.repo.dir.join("page.html")));
    assert_eq!(browser.eval(AUDIT), json!([]));
    browser.eval("[...document.querySelectorAll('#branches tr')].find((row) => row.innerText.includes('feature/own')).querySelector('td a').click()");
    browser.wait_for("document.querySelector('section.detail:target')?.innerText.includes('this branch has its own version') === true");
    // The row stays in sight, the details have the focus, and closing them leads back to the row.
    browser.wait_for(
        "(() => { const link = document.getElementById('r' + location.hash.slice(1)).getBoundingClientRect(); \
         return link.top >= 0 && link.bottom <= document.getElementById('details').getBoundingClientRect().top; })()",
    );
    assert_eq!(
        browser.eval("document.activeElement.matches('section.detail:target')"),
        json!(true)
    );
    browser.eval("document.querySelector('section.detail:target .close').click()");
    browser.wait_for("document.activeElement.innerText === 'feature/own'");
    assert_eq!(browser.eval("document.querySelector('section.detail:target')"), json!(null));
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Prints how long a page of 649 branches takes in the browser: `cargo xtest -- --nocapture a_fleet_is_shown`.
#[test]
fn a_fleet_is_shown_and_filtered_at_once() {
    let lab = Lab::new();
    let Some(mut browser) = Browser::start(&lab) else { return };
    let repo = lab.repo();
    for number in 0..65 {
        repo.write(&format!("setup/d{}/f{number:02}", number % 7), "v0\n");
    }
    let first = repo.commit("many files");
    repo.git(&["branch", "-f", "orchestration-tools", &first]);
    repo.git(&["switch", "--quiet", "orchestration-tools"]);
    let states: Vec<String> = (0..10)
        .map(|number| {
            for file in 0..65 {
                if file % (number + 2) == 0 {
                    let text = format!("v{number}\n");
                    repo.write(&format!("setup/d{}/f{file:02}", file % 7), text);
                }
            }
            repo.commit("a change")
        })
        .collect();
    let refs: Vec<String> = (0..647)
        .map(|number| {
            format!(
                "create refs/heads/team-{}/feature-{number:03} {}",
                number % 9,
                states[number % 10]
            )
        })
        .collect();
    repo.write("refs", refs.join("\n") + "\n");
    repo.run("sh", &["-c", "git update-ref --stdin < refs"], &[]).success();
    repo.xtask(&["dashboard", "--html", "page.html"]).success();
    let size = repo.read("page.html").len();
    assert!(size <= 1_000_000, "{size} bytes");
    browser.set_look(WIDE, "light");
    browser.open(&format!("file://{}", repo.dir.join("page.html")));
    let paint = browser.eval("performance.getEntriesByName('first-contentful-paint')[0].startTime");
    let filter = browser.eval(
        "(() => { const began = performance.now(), box = document.querySelector('[name=name]'); box.value = 'team-3/'; \
         box.dispatchEvent(new Event('input', { bubbles: true })); document.body.offsetHeight; return performance.now() - began; })()",
    );
    let shown = "[...document.querySelectorAll('#branches tbody tr, #calm li')].filter((one) => !one.hidden).length";
    assert_eq!(browser.eval(shown), json!(72));
    let choose = |state: &str| {
        format!(
            "(() => {{ const box = document.querySelector('[name=state]'); box.value = '{state}'; \
             box.dispatchEvent(new Event('input', {{ bubbles: true }})); return {shown}; }})()"
        )
    };
    let (behind, calm) = (browser.eval(&choose("behind")), browser.eval(&choose("in-sync")));
    assert_eq!(behind.as_u64().zip(calm.as_u64()).map(|(a, b)| a + b), Some(72));
    assert!(calm.as_u64() > Some(0), "{calm}");
    eprintln!("649 branches: {size} bytes, first paint after {paint} ms, filtered in {filter} ms");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn the_sample_page_is_a_page_for_people() {
    let lab = Lab::new();
    let Some(mut browser) = Browser::start(&lab) else { return };
    let web = port();
    let layer = format!(
        "[service.web]\nrun = '{{xtask}} serve page'\nport = {web}\n\
         ready = {{ http = '/health' }}\n[service.late]\nrun = 'sleep 600'\nport = {}\n",
        port()
    );
    let repo = lab.repo();
    repo.write("deployment/local.toml", layer);
    repo.commit("services");
    repo.xtask(&["start"]).success();
    for (width, scheme) in [(360, "light"), (WIDE, "dark")] {
        browser.set_look(width, scheme);
        browser.open(&format!("http://localhost:{web}/"));
        browser.wait_for("document.querySelectorAll('#services tr').length === 2");
        assert_eq!(browser.eval(AUDIT), json!([]), "{width} {scheme}");
        let over = browser.eval("document.documentElement.scrollWidth - innerWidth");
        assert!(over.as_f64().unwrap() <= 0.0, "{width}: {over} pixels are out of sight");
    }
    // Only what speaks HTTP is a link.
    let links = browser.eval("[...document.querySelectorAll('#services a[href]')].map((a) => a.getAttribute('aria-label'))");
    assert_eq!(links, json!([format!("web on port {web}")]));
    assert_eq!(browser.complaints, Vec::<String>::new());
    repo.xtask(&["stop"]).success();
}

/// A branch of the pictures: its name and author, how many canonical changes it began with, when that was in days
/// before today, and how many it has taken since, and when.
type Work = (&'static str, &'static str, usize, u32, Option<(usize, u32)>);

const WORK: [Work; 14] = [
    ("feature/checkout", "Ada", 1, 26, Some((3, 12))),
    ("feature/gift-cards", "Grace", 1, 25, None),
    ("feature/search", "Ada", 2, 21, Some((5, 4))),
    ("feature/wishlist", "Alan", 2, 20, Some((6, 1))),
    ("fix/rounding", "Grace", 3, 15, None),
    ("fix/timezone", "Barbara", 3, 14, Some((6, 1))),
    ("experiment/pricing", "Alan", 1, 28, None),
    ("feature/invoices", "Barbara", 4, 10, Some((6, 1))),
    ("feature/returns", "Ada", 5, 6, None),
    ("chore/upgrade", "Grace", 5, 5, Some((6, 0))),
    ("feature/labels", "Margaret", 6, 2, None),
    ("feature/loyalty", "Margaret", 6, 2, None),
    ("fix/login", "Ada", 6, 1, None),
    ("docs/shipping", "Barbara", 6, 1, None),
];

const SHOP_CHECKS: &str = "\
[[check]]
name = 'lint'
run = 'sleep 0.2'
[[check]]
name = 'types'
run = 'sleep 0.4'
[[check]]
name = 'tests'
run = \"sh -c 'sleep 0.9; test ! -e broken'\"
";

const SHOP_SERVICES: &str = "\
[service.db]
description = 'orders'
run = \"sh -c 'echo ready; sleep 600'\"
[service.api]
description = 'answers the shop'
run = \"sh -c 'echo listening; sleep 600'\"
needs = ['db']
required = false
restart = { max = 1 }
live = { run = \"test ! -e sick\", every = '100ms', failures = 2 }
[service.worker]
description = 'sends mails'
run = \"sh -c 'while :; do sleep 0.05; done'\"
";

/// The repository of the pictures, with services and a check that fails.
fn pictured(lab: &Lab) -> Place<'_> {
    let repo = lab.repo_named("shop", &[]);
    let day = |ago: u32| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        format!("{} +0000", now - u64::from(ago) * 86_400)
    };
    let run = |args: &[&str], author: &str, ago: u32| {
        let (date, name) = (day(ago), author.to_owned());
        let ran = repo.run(
            "git",
            args,
            &[
                ("GIT_AUTHOR_DATE", date.as_str()),
                ("GIT_COMMITTER_DATE", date.as_str()),
                ("GIT_AUTHOR_NAME", name.as_str()),
            ],
        );
        ran.success().out.trim().to_owned()
    };
    repo.git(&["switch", "--quiet", "orchestration-tools"]);
    for (number, (file, ago)) in [
        ("setup/a", 29),
        ("setup/lint.toml", 24),
        ("scripts/run.sh", 18),
        ("setup/ci/test.yml", 11),
        ("deployment/README", 7),
        ("scripts/release.sh", 3),
    ]
    .iter()
    .enumerate()
    {
        repo.write(file, format!("version {number}\n"));
        repo.git(&["add", "--all"]);
        run(&["commit", "--quiet", "-m", "Change the tools"], "Ada", *ago);
    }
    let at = |changes: usize| format!("orchestration-tools~{}", 6 - changes);
    for (branch, author, begun, ago, taken) in WORK {
        let tree = format!("{}^{{tree}}", at(begun));
        let mut tip = run(&["commit-tree", "-m", "Work", "-p", &at(begun), &tree], author, ago);
        if let Some((changes, ago)) = taken {
            let tree = format!("{}^{{tree}}", at(changes));
            tip = run(&["commit-tree", "-m", "Sync", "-p", &tip, &tree], author, ago);
        }
        repo.git(&["branch", branch, &tip]);
    }
    for (branch, author, file) in
        [("experiment/pricing", "Alan", "setup/a"), ("fix/rounding", "Grace", "setup/lint.toml")]
    {
        repo.git(&["switch", "--quiet", branch]);
        repo.write(file, "our own\n");
        repo.git(&["add", "--all"]);
        run(&["commit", "--quiet", "-m", "Our own"], author, 9);
    }
    repo.git(&["switch", "--quiet", "feature/gift-cards"]);
    let reason = "the new rules break the printer until it is replaced";
    let date = day(2);
    let who = [
        ("GIT_AUTHOR_DATE", date.as_str()),
        ("GIT_COMMITTER_DATE", date.as_str()),
        ("GIT_AUTHOR_NAME", "Grace"),
    ];
    repo.xtask_with(&["pin", "scripts/run.sh", "--reason", reason], &who).success();
    repo.git(&["branch", "--quiet", "-f", "main", "orchestration-tools"]);
    repo.git(&["switch", "--quiet", "feature/returns"]);
    repo.write("setup/validate.toml", SHOP_CHECKS);
    repo.write("deployment/local.toml", SHOP_SERVICES);
    repo.git(&["add", "--all"]);
    run(&["commit", "--quiet", "-m", "Services and checks"], "Ada", 1);
    repo
}

/// `UPDATE_EXPECT=1 cargo xtest -- pictures` draws them anew.
#[test]
fn pictures_of_the_page_are_those_of_the_manual() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        draw_pictures(&folder);
    }
    let readme = std::fs::read_to_string(folder.join("../../README.md")).unwrap();
    for scheme in ["light", "dark"] {
        let name = format!("dashboard-{scheme}.png");
        assert!(readme.contains(&name), "{name}");
        let picture = std::fs::read(folder.join(&name)).unwrap();
        assert!(picture.starts_with(b"\x89PNG") && picture.len() < 400_000, "{name}");
    }
}

fn draw_pictures(folder: &Path) {
    const SIZE: (u32, u32) = (1280, 1500);
    let lab = Lab::new();
    let Some(mut browser) = Browser::start(&lab) else { return };
    let stack = Stack { repo: pictured(&lab) };
    for broken in [false, false, false, true] {
        if broken {
            stack.repo.write("broken", "");
        }
        stack.repo.xtask(&["validate"]);
    }
    stack.repo.xtask(&["start"]).success();
    stack.repo.write("sick", "");
    wait_for("the failure", || stack.state("api") == "failed");
    let serving = Serving::start(&stack.repo, &["--port", &port().to_string()]);
    for scheme in ["light", "dark"] {
        browser.set_look(SIZE.0, scheme);
        browser.open(&serving.url("/"));
        browser.wait_for("document.querySelector('#services-body svg.spark') !== null");
        // The folder of the test is nobody's.
        let named = format!(
            "{{ const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); \
             while (walk.nextNode()) walk.currentNode.nodeValue = walk.currentNode.nodeValue.replaceAll('{}', '/home/ada'); }}",
            lab.path("shop").parent().unwrap()
        );
        browser.eval(&named);
        std::fs::write(
            folder.join(format!("dashboard-{scheme}.png")),
            browser.picture(SIZE.0, SIZE.1),
        )
        .unwrap();
    }
}

/// Returns the text of the page as the accessibility tree has it, which needs no script.
fn body_text(browser: &mut Browser) -> String {
    let nodes = browser.accessible_nodes();
    let texts = nodes.iter().filter(|(role, _)| role == "StaticText" || role == "button");
    texts.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join("\n")
}
