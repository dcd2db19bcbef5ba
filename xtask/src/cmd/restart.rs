//! `restart`: end services and start them again, with what is configured now.

use std::collections::BTreeMap;

#[cfg(feature = "deploy")]
use super::outside::Foreign;
use super::session::Session;
use super::stack::{self as shared, Ended};
use super::{DONE, Exit};
use crate::cli::Restart;
use xtask_base::error::{Error, Kind};
#[cfg(feature = "deploy")]
use xtask_deploy::passed_on::Asked;
use xtask_report as report;
use xtask_report::services::addresses;
use xtask_services::client;
use xtask_services::control;
use xtask_services::env_files::{Values, Waits};
use xtask_services::spec::Spec;
use xtask_services::{plan, port_plan};

pub(super) fn run(session: &Session, args: &Restart) -> Exit {
    let repo = session.repo()?;
    #[cfg(feature = "deploy")]
    if let Some(foreign) = Foreign::named(session, &repo, args.layer.as_deref())? {
        foreign.refuse(&[("--json", args.json)])?;
        return foreign.pass_on(session, &repo, &Asked::Restart, &args.services);
    }
    let stack = shared::meant(session, &repo, args.layer.as_deref())?;
    if !shared::is_own(&repo, &stack) {
        let layer = &stack.layer;
        return Err(Error::usage(format!(
            "layer `{layer}` is deployed: its release says how it is started"
        ))
        .hint(format!(
            "`cargo xtask rollback {layer} RELEASE`, with the one that serves, starts it again"
        ))
        .hint(format!("`cargo xtask history {layer}` names it")));
    }
    let layer = shared::load(&repo, &stack.layer)?;
    let _lock = shared::lock(&stack, "restart")?;
    let running = client::running(&stack, &session.world)?;
    let running = running.filter(|known| !known.specs.is_empty()).ok_or_else(|| {
        Error::no(format!("nothing of layer `{}` runs", stack.layer))
            .hint("`cargo xtask start` starts it")
    })?;
    let names: Vec<String> = match &args.services[..] {
        [] => {
            let configured = |name: &String| layer.services.iter().any(|s| s.name == *name);
            // What has done its work is not done again unless it is named.
            let names = running.specs.iter().filter(|spec| !spec.once);
            let names = names.map(|spec| spec.name.clone());
            let (names, gone): (Vec<String>, Vec<String>) = names.partition(configured);
            for name in gone {
                report::warn(&format!(
                    "{name} runs, and is not configured any more; `cargo xtask stop {name}` ends it"
                ));
            }
            names
        }
        named => named.to_vec(),
    };
    // What is not configured any more cannot be started again.
    plan::choose(&layer, &names)?;
    let chosen: Vec<usize> = layer
        .services
        .iter()
        .enumerate()
        .filter(|(_, service)| names.contains(&service.name))
        .map(|(at, _)| at)
        .collect();
    let tools = session.tools();
    let mut ports = port_plan::assign(&repo.folders(), tools.disk, &layer, &BTreeMap::new(), true)?;
    // What goes on keeps its port, and what was moved by hand as well.
    let keeps = |spec: &&Spec| spec.is_moved || !names.contains(&spec.name);
    for spec in running.specs.iter().filter(keeps) {
        if let Some(port) = spec.port {
            ports.services.insert(spec.name.clone(), port);
        }
    }
    let state = plan::state_of_worktree(repo.root());
    let places = plan::Places { root: repo.root(), state: &state };
    let mut specs = plan::specs(&layer, &chosen, &ports.services, &places);
    for spec in &mut specs {
        spec.is_moved = running.specs.iter().any(|now| now.name == spec.name && now.is_moved);
    }
    let base = shared::environment(session);
    let values = Values::read(&specs, &base, Waits::Command);
    plan::check(&specs, &base, &values, repo.root())?;
    let wanted: Vec<(String, u16)> = specs
        .iter()
        .filter(|spec| {
            let now = running.specs.iter().find(|other| other.name == spec.name);
            now.is_none_or(|now| now.port != spec.port)
        })
        .filter_map(|spec| Some((spec.name.clone(), spec.port?)))
        .collect();
    let mut obstacles = port_plan::obstacles(&wanted, Some(&running.token))?;
    // What is started again makes room for the others.
    let ends = |port: u16| {
        let ended = running.specs.iter().filter(|spec| names.contains(&spec.name));
        ended.into_iter().any(|spec| spec.port == Some(port))
    };
    obstacles.retain(|obstacle| !ends(obstacle.port));
    for obstacle in &mut obstacles {
        // A restart moves nothing and takes nothing over.
        if let Some((who, _)) = obstacle.words.split_once("; `--port") {
            obstacle.words = who.to_owned();
        }
    }
    if !obstacles.is_empty() {
        return Err(port_plan::refusal(&obstacles));
    }
    let ended = shared::ask_to_start(
        session,
        &stack,
        &names,
        control::Start {
            specs,
            layer: layer.services.iter().map(|service| service.name.clone()).collect(),
            again: names.clone(),
            env: control::values(&base),
            values: values
                .whole()
                .iter()
                .map(|(n, env)| (n.clone(), control::values(env)))
                .collect(),
            seen: values.seen().clone(),
            ready_within_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX),
            without: Vec::new(),
            status: ports.status,
        },
    )?;
    match ended {
        Ended::Done { page, .. } => {
            if args.json {
                shared::answer_json("xtask.restart/1", &page, &[])?;
            } else {
                let mut lines = shared::lines(&page);
                lines.retain(|line| names.contains(&line.service));
                report::answer(&addresses(&lines, None))?;
            }
            Ok(DONE)
        }
        Ended::Failed { failures, page, survivors } => {
            if args.json {
                shared::answer_json("xtask.restart/1", &page, &failures)?;
            }
            let error = shared::failure(&failures, "the others go on", &page.layer);
            Err(survivors
                .into_iter()
                .fold(error, |error, who| error.detail(format!("{who} did not end"))))
        }
        Ended::Unheard | Ended::Interrupted => {
            Err(Error::new(Kind::Interrupted, "interrupted; what ran before is started again")
                .hint("`cargo xtask ps` says how it goes on"))
        }
    }
}
