//! `history`: prints the past runs of a layer's deployment.
//!
//! ```text
//! 2026-01-31T12:00:00Z  deploy    20260131T120000Z-0123456789ab  verified  (alice)
//! ```

use serde::Serialize;

use super::deploy_target::LayerDeployment;
use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::HistoryArgs;
use xtask_base::environment::format_rfc3339;
use xtask_deploy::history::{self, CurrentReleases, DeployEntry};
use xtask_deploy::run_history;
use xtask_report as report;

/// The JSON output of `history`.
#[derive(Serialize)]
struct DeployHistoryReport<'a> {
    schema: &'static str,
    layer: &'a str,
    current: Option<&'a str>,
    serves: Option<&'a str>,
    runs: Vec<DeployHistoryLine<'a>>,
}

/// A run, with its time as RFC 3339.
#[derive(Serialize)]
struct DeployHistoryLine<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a DeployEntry,
}

pub(super) fn run(session: &Session, args: &HistoryArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let place = LayerDeployment::read_layer(&repo, &args.layer)?;
    let entries = run_history::fetch_history(&repo, &args.layer, &place.deploy, &session.world)?;
    let CurrentReleases { current, serving: serves } = history::current_and_serving(&entries);
    if args.json {
        let runs =
            entries.iter().map(|entry| DeployHistoryLine { time: format_rfc3339(entry.at), entry });
        report::print_json(&DeployHistoryReport {
            schema: "xtask.deploy-history/1",
            layer: &args.layer,
            current,
            serves,
            runs: runs.collect(),
        })?;
        return Ok(SUCCESS);
    }
    if entries.is_empty() {
        session.print_info(&format!("layer `{}` was never deployed", args.layer));
        return Ok(SUCCESS);
    }
    let mut text = String::new();
    for entry in &entries {
        let (time, doing, release) = (format_rfc3339(entry.at), entry.doing.name(), &entry.release);
        text.push_str(&format!("{time}  {doing:<8}  {release}  {}", entry.outcome.label()));
        if entry.serves.as_ref() != Some(release) {
            let serves = entry.serves.as_deref().unwrap_or("nothing");
            text.push_str(&format!("; {serves} serves"));
        }
        if let Some(why) = &entry.why {
            text.push_str(&format!(": {}", why.lines().next().unwrap_or_default()));
        }
        text.push_str(&format!("  ({})\n", entry.by));
    }
    report::print_output(&text)?;
    Ok(SUCCESS)
}
