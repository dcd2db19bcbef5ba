//! The dashboard in a real Chromium, where it is installed: light and dark, from a phone to a wall, with and without
//! scripts; what people and screen readers meet, and what an accessibility checker would complain about.

use serde_json::json;

use crate::dashboard::Serving;
use crate::services_nasty::Stack;
use crate::testkit::browser::Browser;
use crate::testkit::{Lab, port};
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
  const told = new Set();
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !one.checkVisibility() || one.closest("script, style, .unseen, caption, option, datalist, .skip")) continue;
    const style = getComputedStyle(one), text = one.closest("svg") ? parse(style.fill) : parse(style.color), under = ground(one);
    const [a, b] = [light(text), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const key = `${style.color} ${under.rgb}`;
    if (ratio < 4.5 && !told.has(key)) { told.add(key); say(`contrast ${ratio.toFixed(2)}`, one); }
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

/// Returns the text of the page as the accessibility tree has it, which needs no script.
fn body_text(browser: &mut Browser) -> String {
    let nodes = browser.accessible_nodes();
    let texts = nodes.iter().filter(|(role, _)| role == "StaticText" || role == "button");
    texts.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join("\n")
}
