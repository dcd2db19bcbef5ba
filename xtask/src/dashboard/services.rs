//! The services of this worktree as they are now: state, health, addresses, usage over the last minutes, logs, and
//! where each value of a layer comes from.
//!
//! ```text
//! api  unhealthy  http://localhost:8100  12 MB ▁▂▁  0.3 % ▁▁█  2 restarts  exited with code 1
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::html::{encode_query, escape, escape_message, escape_name, render_failure, render_time};
use super::page::{PageTarget, Section, Tone, render_command};
use super::server::worktree_key;
use xtask_base::environment::{Environment, format_ago, format_rfc3339};
use xtask_base::error::{Error, Result};
use xtask_base::words::{format_size, pluralize, quote_for_shell};
use xtask_base::worktree_paths::WorktreePaths;
use xtask_config::{DEFAULT_LAYER, Layer, LayerValue};
use xtask_services::client;
use xtask_services::layers::{list_layers, read_layer};
use xtask_services::logs::ServiceLog;
use xtask_services::observe::add_config_changes;
use xtask_services::report::format_uptime;
use xtask_services::stack::Stack;
use xtask_services::status::{Health, ReportedState, ServiceStatus, StackStatus};

/// How many samples are kept of each service: five minutes, one for each look of an open page.
const MAX_SAMPLES: usize = 150;

/// How many services have samples; those of the largest layer, and some.
const MAX_SAMPLED: usize = 1000;

/// How many restarts are named.
const MAX_RESTARTS: usize = 3;

/// A layer with what runs of it.
struct LayerView {
    name: String,
    /// Whether the checked-out branch has its file; without one, something runs.
    has_file: bool,
    /// The file, or why it cannot be read.
    layer: Result<Layer>,
    /// The state, or why it cannot be read; `None` if nothing has run.
    status: Option<Result<StackStatus>>,
    stack: Stack,
}

/// What services have used, and when this was seen.
#[derive(Default)]
pub(super) struct UsageSamples {
    samples: BTreeMap<(String, String), VecDeque<UsageSample>>,
}

#[derive(Clone, Copy)]
struct UsageSample {
    memory: u64,
    cpu: f64,
}

impl UsageSamples {
    fn add(&mut self, status: &StackStatus) {
        for row in &status.services {
            let name = (status.layer.clone(), row.service.clone());
            match (row.memory, row.cpu.filter(|cpu| cpu.is_finite())) {
                (Some(memory), Some(cpu)) if self.samples.len() < MAX_SAMPLED => {
                    let samples = self.samples.entry(name).or_default();
                    samples.push_back(UsageSample { memory, cpu });
                    if samples.len() > MAX_SAMPLES {
                        samples.pop_front();
                    }
                }
                // What does not run has no last minutes.
                _ => drop(self.samples.remove(&name)),
            }
        }
    }

    fn render(&self, layer: &str, row: &ServiceStatus) -> (String, String) {
        let name = (layer.to_owned(), row.service.clone());
        let samples = self.samples.get(&name);
        let line = |value: &dyn Fn(&UsageSample) -> f64, least: f64, what: &str| {
            let values: Vec<f64> = samples.into_iter().flatten().map(value).collect();
            let most = values.iter().copied().fold(least, f64::max);
            match values.len() {
                0 | 1 => String::new(),
                _ => render_sparkline(&values, most, what),
            }
        };
        (
            line(&|sample| sample.memory as f64, 1.0, "memory over the last minutes"),
            // Below 10 % of a core, noise would look like work.
            line(&|sample| sample.cpu, 10.0, "CPU over the last minutes"),
        )
    }
}

/// Adds what services use now to `samples`, for a page that is opened later.
pub(super) fn sample_services(
    folders: &WorktreePaths,
    world: &Environment,
    samples: &mut UsageSamples,
) {
    for stack in Stack::list_all(folders) {
        if let Ok(Some(status)) = client::read_status(&stack, world) {
            samples.add(&status);
        }
    }
}

fn read_layers(folders: &WorktreePaths, world: &Environment) -> Vec<LayerView> {
    let files = list_layers(&folders.root);
    let mut names = files.clone();
    for stack in Stack::list_all(folders) {
        if !names.contains(&stack.layer) {
            names.push(stack.layer);
        }
    }
    names.sort_by_key(|name| (name != DEFAULT_LAYER, name.clone()));
    let view = |name: String| {
        let stack = Stack::new(folders, &name);
        let has_file = files.contains(&name);
        let status = match client::read_status(&stack, world) {
            Ok(status) => {
                status.map(|status| Ok(add_config_changes(&folders.root, &stack, status)))
            }
            Err(failure) => Some(Err(failure)),
        };
        // A layer of another branch is shown as long as it runs.
        let is_shown = match &status {
            _ if has_file => true,
            Some(Ok(status)) => status.is_up(),
            Some(Err(_)) => true,
            None => false,
        };
        let layer = read_layer(&folders.root, &name);
        is_shown.then_some(LayerView { layer, name, has_file, status, stack })
    };
    names.into_iter().filter_map(view).collect()
}

/// Renders the section, and adds what services use now to `samples`.
pub(super) fn render_services(
    folders: &WorktreePaths,
    world: &Environment,
    samples: &mut UsageSamples,
    target: PageTarget,
) -> Section {
    let views = read_layers(folders, world);
    let now = world.now_seconds();
    let (mut tone, mut counts) = (Tone::Off, (0, 0));
    let mut troubles = Vec::new();
    let mut body = String::new();
    for view in &views {
        if let Some(Ok(status)) = &view.status {
            samples.add(status);
            if status.is_up() || status.services.iter().any(|row| row.fault().is_some()) {
                let ready = status.services.iter().filter(|row| row.state.is_serving()).count();
                counts = (counts.0 + ready, counts.1 + status.services.len());
                tone = tone.max(Tone::Good);
            }
            troubles.extend(describe_troubles(status, target));
        }
        if let (Err(failure), true) = (&view.layer, view.has_file) {
            let name = escape_name(&view.name);
            let why = escape_message(&failure.to_string());
            troubles.push(format!("layer <code>{name}</code> cannot be read: {why}"));
        }
        if let Some(Err(failure)) = &view.status {
            troubles.push(escape_message(&failure.to_string()));
        }
        body.push_str(&render_layer(view, samples, now, target));
    }
    if !troubles.is_empty() {
        tone = Tone::Bad;
    }
    let summary = match (views.is_empty(), counts, troubles.is_empty()) {
        _ if !folders.root.is_dir() => "the worktree is gone".to_owned(),
        (true, ..) => "no layer in <code>deployment/</code>".to_owned(),
        (_, (_, 0), true) => "nothing runs".to_owned(),
        (_, (ready, all), true) => format!("{ready} of {} ready", pluralize(all, "service")),
        (_, _, false) => troubles.join("; "),
    };
    let events = match target {
        PageTarget::Server => format!(" data-events=\"/events?of={}\"", worktree_key(folders)),
        PageTarget::File => String::new(),
    };
    body.push_str(&format!(
        "<p class=\"soft\" id=\"services-time\"{events}>As of {}.</p>",
        render_time(&format_rfc3339(now))
    ));
    Section { id: "services", title: "Services", tone, summary, body }
}

/// Returns the part of an error that may be in a file, which people mail: what a program printed or answered may hold
/// values of variables, and stands behind the second colon, or after the first `but`.
fn shorten_error(error: &str, target: PageTarget) -> String {
    if target == PageTarget::Server {
        return error.to_owned();
    }
    let printed = error.match_indices(": ").nth(1).map(|(at, _)| at);
    match printed.into_iter().chain(error.find(", but ")).min() {
        Some(at) => format!("{} …", &error[..at]),
        None => error.to_owned(),
    }
}

/// Describes each service that is not well, with its reason.
fn describe_troubles(status: &StackStatus, target: PageTarget) -> Vec<String> {
    let describe = |row: &ServiceStatus| {
        let fault = row.fault()?;
        let why = row.error.as_ref().map(|why| escape_message(&shorten_error(why, target)));
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        Some(format!("<code>{}</code> is {fault}{why}", escape_name(&row.service)))
    };
    let mut troubles: Vec<String> = status.services.iter().filter_map(describe).collect();
    if status.is_unsupervised() {
        troubles.push(
            "services run without a supervisor: <code>cargo xtask start</code> takes them over"
                .to_owned(),
        );
    }
    let own = status.supervisor.as_ref().and_then(|supervisor| supervisor.error.as_ref());
    troubles.extend(own.map(|why| format!("the supervisor: {}", escape_message(why))));
    troubles
}

fn render_layer(view: &LayerView, samples: &UsageSamples, now: i64, target: PageTarget) -> String {
    let name = escape_name(&view.name);
    let mut html = format!("<h3>Layer {name}</h3>");
    let flag = layer_flag(&view.name);
    match &view.status {
        Some(Ok(status)) => {
            if let Some(supervisor) = &status.supervisor {
                // Where a file is read, no such server runs.
                let port = supervisor.status_port.filter(|_| target == PageTarget::Server);
                let links = port.map_or(String::new(), |port| {
                    format!(
                        ": <a href=\"http://localhost:{port}/status\" rel=\"noreferrer\">status as JSON</a>, \
                         <a href=\"http://localhost:{port}/metrics\" rel=\"noreferrer\">metrics</a>"
                    )
                });
                html.push_str(&format!(
                    "<p class=\"soft\">Supervisor {}, process {}{links}</p>",
                    escape(&supervisor.version),
                    supervisor.pid
                ));
            }
            html.push_str(&render_table(view, status, samples, now, target));
            // One element, whatever is in it: what comes after keeps its place, and so its state in the browser.
            html.push_str("<div>");
            for row in status.services.iter().filter(|row| row.fault().is_some()) {
                let name = &row.service;
                html.push_str(&render_command(&format!(
                    "cargo xtask logs{flag} {name}; cargo xtask restart{flag} {name}"
                )));
            }
            html.push_str("</div>");
            if status.is_up() || view.layer.is_ok() {
                let verb = if status.is_up() { "stop" } else { "start" };
                html.push_str(&render_command(&format!("cargo xtask {verb}{flag}")));
            }
        }
        Some(Err(failure)) => {
            html.push_str(&format!(
                "<p class=\"trouble\">{}</p>",
                escape_message(&failure.to_string())
            ));
        }
        None if view.layer.is_err() => html.push_str("<p>Not running.</p>"),
        None => {
            html.push_str("<p>Not running. This starts it:</p>");
            html.push_str(&render_command(&format!("cargo xtask start{flag}")));
        }
    }
    match &view.layer {
        Ok(layer) => html.push_str(&render_values(layer, target)),
        Err(_) if !view.has_file => html.push_str(
            "<p class=\"soft\">Its file is not in <code>deployment/</code> here: another branch has it.</p>",
        ),
        Err(failure) => html.push_str(&format!(
            "<div class=\"trouble\">Its file: {}{}</div>",
            escape_message(&failure.to_string()),
            render_fault(failure, target)
        )),
    }
    html
}

/// Returns the option that names a layer in commands, with a space before it.
fn layer_flag(layer: &str) -> String {
    match layer {
        DEFAULT_LAYER => String::new(),
        name => format!(" --layer {}", quote_for_shell(name)),
    }
}

fn render_table(
    view: &LayerView,
    status: &StackStatus,
    samples: &UsageSamples,
    now: i64,
    target: PageTarget,
) -> String {
    let mut html = format!(
        "<div class=\"frame\" role=\"region\" aria-label=\"Services of {0}\" tabindex=\"0\"><table class=\"cards\">\
         <caption>Services of layer {0}</caption><thead><tr>\
         <th scope=\"col\">Service</th><th scope=\"col\">State</th><th scope=\"col\">Why</th>\
         <th scope=\"col\">What it is</th><th scope=\"col\">Log</th><th scope=\"col\">Address</th>\
         <th scope=\"col\">Memory</th><th scope=\"col\">CPU</th><th scope=\"col\">Up for</th>\
         <th scope=\"col\">Restarts</th></tr></thead><tbody>",
        escape_name(&view.name)
    );
    for row in &status.services {
        html.push_str(&render_service(view, row, samples, now, target));
    }
    html.push_str("</tbody></table></div>");
    html
}

fn render_service(
    view: &LayerView,
    row: &ServiceStatus,
    samples: &UsageSamples,
    now: i64,
    target: PageTarget,
) -> String {
    let name = escape_name(&row.service);
    let tone = match (row.fault(), row.state, row.health) {
        (Some(_), ..) => "bad",
        (None, ReportedState::Ready | ReportedState::Done, Health::Healthy) if !row.degraded => {
            "good"
        }
        (None, ReportedState::Stopped, _) => "off",
        _ => "wait",
    };
    let degraded = if row.degraded { ", degraded" } else { "" };
    let log = ServiceLog::new(&view.stack.logs_folder(), &row.service);
    let restarts = describe_restarts(row, &log, now);
    let (memory, cpu) = samples.render(&view.name, row);
    let run = view
        .layer
        .as_ref()
        .map_or_else(|_| String::new(), |layer| describe_service(layer, row, target));
    format!(
        "<tr><th scope=\"row\">{name}<td data-l=\"State\"><span class=\"dot {tone}\"></span>{}{degraded}, {}\
         <td class=\"wrap\" data-l=\"Why\">{}<td class=\"wrap\" data-l=\"What it is\">{run}\
         <td data-l=\"Log\">{}<td data-l=\"Address\">{}<td data-l=\"Memory\">{} {memory}\
         <td data-l=\"CPU\">{} {cpu}<td data-l=\"Up for\">{}<td class=\"wrap\" data-l=\"Restarts\">{restarts}</tr>\n",
        row.state,
        row.health.name(),
        render_reasons(row, target),
        render_log_link(view, row, &log, target),
        render_address(row, target),
        row.memory.map_or("–".to_owned(), format_size),
        row.cpu.map_or("–".to_owned(), |cpu| format!("{cpu:.1} %")),
        row.uptime_ms.map_or("–".to_owned(), format_uptime),
    )
}

/// Renders what a service is for, as its layer says, and its command.
fn describe_service(layer: &Layer, row: &ServiceStatus, target: PageTarget) -> String {
    let name = &row.service;
    let key = format!("service.{name}.description");
    let what = layer.values.iter().find(|value| value.key == key).map(|value| {
        let text = serde_json::from_str(&value.text);
        text.unwrap_or_else(|_| value.text.trim_matches(['"', '\'']).to_owned())
    });
    let run = layer.services.iter().find(|service| service.name == *name);
    let parts = [
        what.map(|what: String| escape_name(&what)),
        run.map(|service| match target {
            PageTarget::Server => service.run.text.clone(),
            PageTarget::File => shorten_command(&service.run.text),
        })
        .map(|run| format!("<code>{}</code>", escape(&run))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("<br>")
}

/// Renders the address: a link only if it speaks HTTP and serves, and only where it leads there.
fn render_address(row: &ServiceStatus, target: PageTarget) -> String {
    let is_link = target == PageTarget::Server && row.state.is_serving();
    match (&row.address, row.port) {
        (Some(address), _) if address.starts_with("http://") && is_link => {
            let address = escape(address);
            format!("<a href=\"{address}\" rel=\"noreferrer\">{address}</a>")
        }
        (Some(address), _) => escape(address).into_owned(),
        (None, Some(port)) => format!("port {port}"),
        (None, None) => "–".to_owned(),
    }
}

/// Renders the last error, warnings and what the last stop had to kill.
fn render_reasons(row: &ServiceStatus, target: PageTarget) -> String {
    let errors = row.error.iter().map(|why| escape_message(&shorten_error(why, target)));
    let mut reasons: Vec<String> = errors.collect();
    if row.fault().is_none() && row.pid.is_some() {
        // A good restart does not make it unsaid.
        reasons.iter_mut().for_each(|why| *why = format!("before its last start: {why}"));
    }
    reasons.extend(row.warnings.iter().chain(&row.killed).map(|why| escape_message(why)));
    if reasons.is_empty() { "–".to_owned() } else { reasons.join("<br>") }
}

/// Describes the automatic restarts, with the times of the last ones.
fn describe_restarts(row: &ServiceStatus, log: &ServiceLog, now: i64) -> String {
    if row.restarts == 0 {
        return "0".to_owned();
    }
    let runs = log.read_runs();
    let again = runs.iter().rev().filter(|run| run.is_auto_restart).take(MAX_RESTARTS);
    let times: Vec<String> = again.map(|run| format_ago(now, run.at_ms / 1000)).collect();
    match times.is_empty() {
        true => row.restarts.to_string(),
        false => format!("{}: {}", row.restarts, times.join(", ")),
    }
}

fn render_log_link(
    view: &LayerView,
    row: &ServiceStatus,
    log: &ServiceLog,
    target: PageTarget,
) -> String {
    let (layer, service) = (&view.name, &row.service);
    match target {
        _ if !log.exists() => "–".to_owned(),
        PageTarget::Server => format!(
            "<a id=\"log-{0}-{1}\" href=\"/log?layer={0}&amp;service={1}\">log<span class=\"unseen\"> of {1}</span></a>",
            encode_query(layer),
            encode_query(service)
        ),
        PageTarget::File => format!(
            "<code>cargo xtask logs{} {}</code>",
            escape(&layer_flag(layer)),
            escape(&quote_for_shell(service))
        ),
    }
}

/// Returns whether a variable sounds like a secret, or its value like an address with a password.
fn may_be_secret(value: &LayerValue) -> bool {
    let name = value.key.to_ascii_uppercase();
    let sounds =
        ["SECRET", "TOKEN", "PASS", "KEY", "CREDENTIAL"].iter().any(|word| name.contains(word));
    let has_password = value
        .text
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')));
    sounds || has_password
}

/// Renders every value of a layer with the file and line that sets it. In a file, which people mail, values of
/// variables are left out: some may be secret.
fn render_values(layer: &Layer, target: PageTarget) -> String {
    let is_variable = |value: &LayerValue| value.key.split('.').any(|part| part == "env");
    let row = |value: &LayerValue| {
        let text = match target {
            PageTarget::File => shorten_value(value),
            PageTarget::Server if is_variable(value) && may_be_secret(value) => {
                "left out: it may be secret".to_owned()
            }
            _ => format!("<code>{}</code>", escape(&value.text)),
        };
        format!(
            "<tr><th scope=\"row\"><code>{}</code><td class=\"wrap\" data-l=\"Value\">{text}<td data-l=\"From\">{}:{}</tr>\n",
            escape_name(&value.key),
            escape_name(&value.file),
            value.line
        )
    };
    let rows: String = layer.values.iter().map(row).collect();
    format!(
        "<details id=\"values-{0}\"><summary>Where each value of {0} comes from</summary>\
         <div class=\"frame\" role=\"region\" aria-label=\"Values of {0}\" tabindex=\"0\"><table class=\"cards\">\
         <caption>Values of layer {0}</caption><thead><tr><th scope=\"col\">Key</th><th scope=\"col\">Value</th>\
         <th scope=\"col\">From</th></tr></thead><tbody>{rows}</tbody></table></div></details>",
        escape_name(&layer.name)
    )
}

/// Returns what a file has of a value: any text may be a secret, except of a few keys, and the name of a program.
fn shorten_value(value: &LayerValue) -> String {
    let key = value.key.rsplit('.').next().unwrap_or_default();
    let is_plain = value.text.parse::<f64>().is_ok() || matches!(&value.text[..], "true" | "false");
    match key {
        _ if value.key.split('.').any(|part| part == "env") => "left out".to_owned(),
        "run" => match serde_json::from_str::<String>(&value.text) {
            Ok(command) => format!("<code>{}</code>", escape(&shorten_command(&command))),
            Err(_) => "left out".to_owned(),
        },
        "needs" | "description" => format!("<code>{}</code>", escape(&value.text)),
        _ if is_plain => format!("<code>{}</code>", escape(&value.text)),
        _ => "left out".to_owned(),
    }
}

/// Returns the program of a command: its arguments may hold passwords.
fn shorten_command(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    match words.next() {
        // What is more than a name is not shown.
        _ if program.contains(['=', ':', '"', '\'', '$', '@']) => "…".to_owned(),
        Some(_) => format!("{program} …"),
        None => program.to_owned(),
    }
}

/// Returns a fault of a file without the values in it; names of keys stay.
fn shorten_fault(fault: &str) -> String {
    let parts = fault.split('`').enumerate().map(|(at, part)| {
        let is_key = ["service.", "deploy."].iter().any(|begin| part.starts_with(begin));
        if at % 2 == 0 || is_key { part } else { "…" }
    });
    parts.collect::<Vec<_>>().join("`")
}

/// Renders why the file of a layer cannot be read.
fn render_fault(failure: &Error, target: PageTarget) -> String {
    match target {
        PageTarget::Server => render_failure(failure),
        PageTarget::File => {
            let faults = failure.details().iter();
            let faults: String =
                faults.map(|one| format!("<li>{}", escape_message(&shorten_fault(one)))).collect();
            format!("<ul>{faults}</ul>")
        }
    }
}

/// Renders the last values of something as a small line; `most` fills the height.
fn render_sparkline(values: &[f64], most: f64, label: &str) -> String {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let step = 100.0 / (values.len().saturating_sub(1)).max(1) as f64;
    let point = |(at, value): (usize, &f64)| {
        let share = if value.is_finite() { (value / most).clamp(0.0, 1.0) } else { 0.0 };
        format!("{:.1},{:.1}", step * at as f64, 23.0 - 22.0 * share)
    };
    let points: Vec<String> = values.iter().enumerate().map(point).collect();
    format!(
        "<svg class=\"spark\" role=\"img\" viewBox=\"0 0 100 24\" preserveAspectRatio=\"none\" aria-label=\"{}\">\
         <polyline class=\"line\" points=\"{}\"/></svg>",
        escape(label),
        points.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_nothing_that_a_program_printed() {
        let said = "health check failed: `test` exited with code 1: token=x: y";
        assert_eq!(shorten_error(said, PageTarget::Server), said);
        let shown = shorten_error(said, PageTarget::File);
        assert_eq!(shown, "health check failed: `test` exited with code 1 …");
        let answered =
            "health check failed: /health answers 200, but `key` is \"x\", expected \"y\"";
        let shown = shorten_error(answered, PageTarget::File);
        assert_eq!(shown, "health check failed: /health answers 200 …");
        assert_eq!(shorten_error("exited with code 1", PageTarget::File), "exited with code 1");
    }

    #[test]
    fn a_file_has_names_and_numbers_of_a_layer_and_no_other_values() {
        assert_eq!(shorten_command("psql postgres://u:secret@h/db"), "psql …");
        assert_eq!(shorten_command("bin/api"), "bin/api");
        assert_eq!(shorten_command("TOKEN=secret bin/api"), "…");
        let fault = "deployment/a.toml:4: `service.b.env.A` has `secret`; see `x`";
        assert_eq!(shorten_fault(fault), "deployment/a.toml:4: `service.b.env.A` has `…`; see `…`");
        let value = |key: &str, text: &str| {
            let (key, text, file) = (key.to_owned(), text.to_owned(), "f".to_owned());
            shorten_value(&LayerValue { key, text, file, line: 1 })
        };
        assert_eq!(value("service.a.port", "8100"), "<code>8100</code>");
        assert_eq!(value("service.a.env.PORT", "8100"), "left out");
        assert_eq!(value("service.a.live.http", "\"http://u:secret@h/\""), "left out");
        assert_eq!(value("service.a.run", "\"sh -c 'secret'\""), "<code>sh …</code>");
    }

    #[test]
    fn what_is_no_number_breaks_no_line() {
        for values in [vec![], vec![1.0], vec![f64::NAN, 1.0, f64::INFINITY]] {
            let svg = render_sparkline(&values, f64::NAN, "<cpu>");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.contains("&lt;cpu&gt;"));
        }
    }
}
