//! What is deployed where, and how far it is behind its branch, as `status` knows it: from records, without a
//! connection to another host.

use super::html::{escape, escape_message, escape_name};
use super::page::{Section, Tone};
use xtask_base::environment::Environment;
use xtask_deploy::status::list_deployed_lines;
use xtask_git::Repo;
use xtask_report::DeployedLine;
use xtask_services::layers::{list_layers, read_layer};

/// Renders the section.
pub(super) fn render_deploys(repo: &Repo, world: &Environment) -> Section {
    let layers = list_layers(repo.root());
    let load = |layer: &str| read_layer(repo.root(), layer);
    let lines = list_deployed_lines(repo, &layers, &load, world);
    let troubled: Vec<String> = lines
        .iter()
        .filter(|line| !line.ok)
        .map(|line| {
            format!("<code>{}</code>: {}", escape_name(&line.layer), escape_message(&line.words))
        })
        .collect();
    let (tone, summary) = match (lines.is_empty(), troubled.is_empty()) {
        (true, _) => (Tone::Off, "no layer has <code>[deploy]</code>".to_owned()),
        (_, true) => (
            Tone::Good,
            lines
                .iter()
                .map(|line| {
                    format!(
                        "<code>{}</code>: {}",
                        escape_name(&line.layer),
                        escape_message(&line.words)
                    )
                })
                .collect::<Vec<_>>()
                .join("; "),
        ),
        (_, false) => (Tone::Bad, troubled.join("; ")),
    };
    let mut body = String::new();
    if !lines.is_empty() {
        body.push_str(
            "<div class=\"frame\" role=\"region\" aria-label=\"Deploys\" tabindex=\"0\"><table class=\"cards\">\
             <caption>Deployed layers</caption><thead><tr><th scope=\"col\">Layer</th><th scope=\"col\">To</th>\
             <th scope=\"col\">State</th><th scope=\"col\">Behind</th><th scope=\"col\">Since</th>\
             <th scope=\"col\">Commands</th></tr></thead><tbody>",
        );
        body.extend(lines.iter().map(render_line));
        body.push_str("</tbody></table></div>");
    }
    Section { id: "deploys", title: "Deploys", tone, summary, body }
}

fn render_line(line: &DeployedLine) -> String {
    let behind = match (line.behind, &line.branch) {
        (Some(0), Some(branch)) => format!("up to date with {}", escape_name(branch)),
        (Some(commits), Some(branch)) => format!("{commits} of {}", escape_name(branch)),
        _ => "–".to_owned(),
    };
    let tone = match (line.ok, &line.release) {
        (true, None) => "off",
        (true, Some(_)) => "good",
        (false, _) => "bad",
    };
    let layer = escape_name(&line.layer);
    format!(
        "<tr><th scope=\"row\">{layer}<td class=\"wrap\" data-l=\"To\">{}<td class=\"wrap\" data-l=\"State\"><span class=\"dot {tone}\"></span>{}\
         <td data-l=\"Behind\">{behind}<td data-l=\"Since\">{}<td class=\"wrap\" data-l=\"Commands\"><code>cargo xtask history {layer}</code> · <code>cargo xtask deploy {layer}</code></tr>\n",
        escape_name(&line.to),
        escape_message(&line.words),
        escape(line.deployed.as_deref().unwrap_or("–")),
    )
}
