
"use strict";
// The page is complete without this: it filters the table of branches, copies commands and shows what has changed.
const at = (id) => document.getElementById(id);

// Filters branches as somebody types. Without the script the form asks the server.
const form = at("filter");
if (form) {
  const rows = [...document.querySelectorAll("#branches tbody tr")];
  const branches = (found) => found.filter((one) => !one.classList.contains("detached")).length;
  const calm = [...document.querySelectorAll("#calm li")];
  const facts = new Map();
  for (const row of rows) {
    const states = [...row.querySelectorAll("b, .not-inspected")].map((one) => one.className);
    facts.set(row, [row.cells[0].firstChild.textContent.toLowerCase(), row.cells[1].textContent.toLowerCase(), Number(row.dataset.t), states.join(" ")]);
  }
  for (const item of calm) {
    facts.set(item, [item.textContent.toLowerCase(), item.dataset.o.toLowerCase(), Number(item.dataset.t), "in-sync"]);
  }
  const filter = () => {
    const name = form.elements.name.value.trim().toLowerCase();
    const owner = form.elements.owner.value.trim().toLowerCase();
    const days = Number(form.elements.days.value || 0);
    const state = form.elements.state.value;
    const latest = Date.now() / 1000 - days * 86400;
    for (const [element, [of, by, time, states]] of facts) {
      const fits = of.includes(name) && by.includes(owner) && (days === 0 || time <= latest) && states.includes(state);
      element.hidden = !fits;
    }
    const set = name || owner || days || state;
    // A worktree whose HEAD is detached is no branch.
    const [all, shown] = [[...facts.keys()], [...facts.keys()].filter((element) => !element.hidden)].map(branches);
    at("matches").textContent = set ? `${shown} of ${all} branches match` : "";
    if (at("calm") && set) at("calm").open = true;
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
}

// Opening the details of a row in a file does not hide the row.
function showRow() {
  const row = at(`r${location.hash.slice(1)}`);
  const panel = at("details");
  if (!row || !panel) return;
  const covered = row.getBoundingClientRect().bottom + 20 - panel.getBoundingClientRect().top;
  if (covered > 0) scrollBy(0, covered);
}
addEventListener("hashchange", showRow);

// A button beside each command, where the browser can copy.
function addCopyButtons(inside) {
  if (!navigator.clipboard) return;
  for (const block of inside.querySelectorAll("pre.command:not([data-copy])")) {
    const button = document.createElement("button");
    const text = block.textContent;
    block.dataset.copy = "";
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${text}`);
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
      catch { button.textContent = "Select it"; getSelection().selectAllChildren(block.querySelector("code")); }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }
}
addCopyButtons(document);

// Makes what is there equal to what the server has rendered, and touches only what differs: focus, selection and open
// details stay.
function patch(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !["open", "data-copy"].includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.matches("pre.command") && old.querySelector("code").textContent === fresh.textContent) return;
  const [was, is] = [[...old.childNodes], [...fresh.childNodes]];
  is.forEach((node, index) => { if (was[index]) patch(was[index], node); else old.append(node); });
  was.slice(is.length).forEach((node) => node.remove());
  delete old.dataset.copy;
}

function parse(html) {
  return new DOMParser().parseFromString(html, "text/html").body;
}

// The title and the icon of the window follow the worst of all sections.
function showTone() {
  const tones = [...document.querySelectorAll("main [data-tone]")].map((one) => one.dataset.tone);
  const worst = ["bad", "wait", "good"].find((tone) => tones.includes(tone)) || "off";
  const mark = { bad: "✗ ", wait: "! " }[worst] || "";
  const title = mark + document.title.replace(/^[✗!] /, "");
  if (document.title !== title) document.title = title;
  document.querySelector("link[rel=icon]").href = document.documentElement.dataset[`icon${worst}`];
}

// What needs attention about the services comes and goes with their state.
function showAttention(tone, summary) {
  const words = { off: "nothing to show", good: "good", wait: "attention", bad: "trouble" };
  const list = at("attention").querySelector("ul");
  const item = at("attention-services");
  if (tone === "bad" || tone === "wait") {
    const line = parse(`<ul><li id="attention-services"><span class="dot ${tone}"></span><span class="unseen">${words[tone]}: </span><a href="#services">Services</a>: ${summary}</li></ul>`).querySelector("li");
    if (item) patch(item, line); else list.prepend(line);
  } else if (item) {
    item.remove();
  }
  at("attention-title").textContent = list.children.length > 0 ? "Needs attention" : "Nothing needs attention";
  const link = document.querySelector("nav a[href='#services']");
  link.querySelector(".dot").className = `dot ${tone}`;
  link.querySelector(".unseen").textContent = `: ${words[tone]}`;
}

// The services of this worktree, as long as somebody sees the page.
const services = at("services-body");
if (services && location.protocol.startsWith("http") && location.pathname === "/") {
  const events = at("services-time").dataset.events;
  let source = null;
  const note = document.createElement("p");
  note.className = "soft";
  note.setAttribute("role", "status");
  services.after(note);
  const listen = () => {
    if (source || document.hidden) return;
    source = new EventSource(events);
    source.addEventListener("services", (event) => {
      const { tone, summary, body } = JSON.parse(event.data);
      const fresh = parse(`<div><p class="summary"><span class="dot ${tone}"></span>${summary}</p>${body}</div>`).firstChild;
      fresh.id = services.id;
      fresh.dataset.tone = tone;
      patch(services, fresh);
      addCopyButtons(services);
      showAttention(tone, summary);
      showTone();
      note.textContent = "";
    });
    source.onerror = () => {
      note.textContent = "The dashboard of this worktree does not answer, or too many of its pages are open: what you see is old. “cargo xtask dashboard” starts it again.";
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) { source.close(); source = null; } else listen();
  });
  listen();
}

// New lines of a log, while its end is in sight.
const log = at("log");
if (log && log.dataset.follow) {
  const MOST = 5000;
  let source = null;
  let next = log.dataset.follow;
  log.scrollTop = log.scrollHeight;
  const show = (event) => {
    next = log.dataset.follow.replace(/from=\d+$/, `from=${event.lastEventId}`);
    const atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 40;
    log.append(document.createTextNode(event.data + "\n"));
    while (log.childNodes.length > MOST) log.firstChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  };
  // A browser has few connections for one server: a page that nobody sees takes none.
  const follow = () => {
    if (document.hidden) { if (source) source.close(); source = null; return; }
    if (source) return;
    source = new EventSource(next);
    source.addEventListener("lines", show);
    // It comes back by itself, and then goes on where it was.
    source.onerror = () => { source.close(); source = null; setTimeout(follow, 2000); };
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}
