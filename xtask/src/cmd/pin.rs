//! `pin`: a branch keeps its own content at a path for a time, on purpose; `pin --list` lists what is pinned.
//!
//! ```text
//! feature/a: 1 path pinned until 2026-12-30 (in 30 days), commit 1a2b3c4d5e
//! ```

use super::session::{Session, print_pin_report};
use super::{CommandResult, SUCCESS};
use crate::cli::PinArgs;
use xtask_base::date::{Date, parse_last_day};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::check_reason;
use xtask_git::Repo;
use xtask_report as report;
use xtask_sync::context;
use xtask_sync::pin_commit::{PinRequest, change_pins};
use xtask_sync::pin_reader::PinReader;
use xtask_sync::pin_report::{list_all_pins, list_branch_pins};

/// How long a pin lasts if nothing is said.
const DEFAULT_UNTIL: &str = "30d";

pub(super) fn run(session: &Session, args: &PinArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if args.list {
        return list_pins(session, &repo, args);
    }
    let request = parse_request(session, &repo, args)?;
    let changed = change_pins(&repo, &request, args.dry_run, &session.tools())?;
    if changed.pins.is_empty() && !args.json {
        session.print_info("pinned like that already; nothing to do");
    }
    print_pin_report(session, &repo, &changed, args.json)?;
    Ok(SUCCESS)
}

fn parse_request(session: &Session, repo: &Repo, args: &PinArgs) -> Result<PinRequest> {
    let typed = args.reason.as_deref().unwrap_or_default();
    let reason = check_reason(typed).map_err(|why| {
        Error::usage(format!("the reason {why}; nothing was changed"))
            .with_hint("`--reason \"waiting for the vendor\"`: one line that says why")
    })?;
    let today = Date::from_seconds(session.world.now_seconds());
    Ok(PinRequest::Pin {
        paths: session.repo_paths(repo, &args.paths)?,
        until: parse_until(args.until.as_deref().unwrap_or(DEFAULT_UNTIL), today)?,
        reason,
        branch: args.branch.clone(),
    })
}

fn parse_until(text: &str, today: Date) -> Result<Date> {
    let forms = "`30d`, `2w`, or the last day as `2026-12-30`";
    let Some(until) = parse_last_day(text, today) else {
        return Err(Error::usage(format!("invalid `--until {text}`; nothing was changed"))
            .with_hint(format!("accepted: {forms}")));
    };
    if until < today {
        return Err(Error::usage(format!(
            "`--until {text}` is in the past: today is {today} in UTC; nothing was changed"
        ))
        .with_hint(format!("accepted: {forms}, from today on")));
    }
    Ok(until)
}

fn list_pins(session: &Session, repo: &Repo, args: &PinArgs) -> CommandResult {
    let context = context::read_context(repo)?;
    session.warn_about_context(&context);
    let reader = PinReader::new(repo, session.world.now_seconds());
    let listed = match args.all {
        true => list_all_pins(repo, &context, &reader)?,
        false => list_branch_pins(repo, &context, &reader)?,
    };
    listed.warnings.iter().for_each(|warning| report::print_warning(warning));
    if args.json {
        report::print_json(&listed)?;
    } else if listed.pins.is_empty() {
        session.print_info(match listed.warnings.is_empty() {
            true => "no pins",
            false => "no other pins",
        });
    } else {
        let is_canonical = listed.branch.as_deref() == Some(context.config.branch.as_str());
        let has_branch = args.all || is_canonical || listed.branch.is_none();
        report::print_output(&listed.render_list(has_branch))?;
    }
    Ok(if listed.warnings.is_empty() { SUCCESS } else { ErrorKind::Usage.exit_code() })
}
