//! `history`: what was deployed, and how it ended.

use serde::Serialize;

use super::place::Place;
use super::session::Session;
use super::{DONE, Exit};
use crate::cli::History;
use xtask_base::world::rfc3339;
use xtask_deploy::history::{self, Entry};
use xtask_deploy::past;
use xtask_report as report;

/// What there is to say.
#[derive(Serialize)]
struct HistoryReport<'a> {
    schema: &'static str,
    layer: &'a str,
    current: Option<&'a str>,
    serves: Option<&'a str>,
    runs: Vec<Line<'a>>,
}

/// A run.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a Entry,
}

pub(super) fn run(session: &Session, args: &History) -> Exit {
    let repo = session.repo()?;
    let place = Place::load(&repo, &args.layer)?;
    let entries = past::entries(&repo, &args.layer, &place.deploy, &session.world)?;
    let (current, serves) = history::standing(&entries);
    if args.json {
        let runs = entries.iter().map(|entry| Line { time: rfc3339(entry.at), entry });
        report::answer_json(&HistoryReport {
            schema: "xtask.deploy-history/1",
            layer: &args.layer,
            current,
            serves,
            runs: runs.collect(),
        })?;
        return Ok(DONE);
    }
    if entries.is_empty() {
        session.story(&format!("layer `{}` was never deployed", args.layer));
        return Ok(DONE);
    }
    let mut text = String::new();
    for entry in &entries {
        let (time, doing, release) = (rfc3339(entry.at), entry.doing.name(), &entry.release);
        text.push_str(&format!("{time}  {doing:<8}  {release}  {}", entry.outcome.words()));
        if entry.serves.as_ref() != Some(release) {
            let serves = entry.serves.as_deref().unwrap_or("nothing");
            text.push_str(&format!("; {serves} serves"));
        }
        if let Some(why) = &entry.why {
            text.push_str(&format!(": {}", why.lines().next().unwrap_or_default()));
        }
        text.push_str(&format!("  ({})\n", entry.by));
    }
    report::answer(&text)?;
    Ok(DONE)
}
