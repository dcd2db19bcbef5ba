//! `restart`: stops services and starts them with the present configuration; services that depend on them keep
//! running.

use std::collections::BTreeMap;

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::session::Session;
use super::stack::{self as shared, RequestOutcome};
use super::{CommandResult, SUCCESS};
use crate::cli::RestartArgs;
use xtask_base::error::{Error, ErrorKind};
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_report as report;
use xtask_report::services::render_addresses;
use xtask_services::client;
use xtask_services::control_socket;
use xtask_services::env_files::{EnvFileValues, WaitPolicy};
use xtask_services::spec::ServiceSpec;
use xtask_services::{plan, port_plan};

pub(super) fn run(session: &Session, args: &RestartArgs) -> CommandResult {
    let repo = session.open_repo()?;
    #[cfg(feature = "deploy")]
    if let Some(code) = run_elsewhere(
        session,
        &repo,
        args.layer.as_deref(),
        &ServicesCommand::Restart { json: args.json },
        &args.services,
    )? {
        return Ok(code);
    }
    let stack = shared::choose_stack(session, &repo, args.layer.as_deref())?;
    if !shared::is_own(&repo, &stack) {
        let layer = &stack.layer;
        return Err(Error::usage(format!(
            "layer `{layer}` is deployed, and is configured by its release"
        ))
        .with_hint(format!(
            "`cargo xtask rollback {layer} RELEASE` with the serving release starts it again"
        ))
        .with_hint(format!("`cargo xtask history {layer}` shows it")));
    }
    let layer = shared::read_layer(&repo, &stack.layer)?;
    let _lock = shared::lock_stack(&stack, "restart")?;
    let running = client::find_running(&stack, &session.world)?;
    let running = running.filter(|known| !known.specs.is_empty()).ok_or_else(|| {
        Error::negative(format!("no service of layer `{}` is running", stack.layer))
            .with_hint("`cargo xtask start` starts it")
    })?;
    let names: Vec<String> = match &args.services[..] {
        [] => {
            let configured = |name: &String| layer.services.iter().any(|s| s.name == *name);
            // A one-shot service that is done only runs again if it is named.
            let names = running.specs.iter().filter(|spec| !spec.once);
            let names = names.map(|spec| spec.name.clone());
            let (names, gone): (Vec<String>, Vec<String>) = names.partition(configured);
            for name in gone {
                report::print_warning(&format!(
                    "{name} is running, but is no longer configured; `cargo xtask stop {name}` stops it"
                ));
            }
            names
        }
        named => named.to_vec(),
    };
    // A service without a configuration cannot be started.
    plan::choose_services(&layer, &names)?;
    let chosen: Vec<usize> = layer
        .services
        .iter()
        .enumerate()
        .filter(|(_, service)| names.contains(&service.name))
        .map(|(at, _)| at)
        .collect();
    let tools = session.tools();
    let mut ports =
        port_plan::assign_ports(&repo.folders(), tools.disk, &layer, &BTreeMap::new(), true)?;
    // Services that keep running keep their ports, and so do those started with `--port`.
    let keeps = |spec: &&ServiceSpec| spec.is_moved || !names.contains(&spec.name);
    for spec in running.specs.iter().filter(keeps) {
        if let Some(port) = spec.port {
            ports.services.insert(spec.name.clone(), port);
        }
    }
    let state = plan::worktree_state_folder(repo.root());
    let places = plan::ServiceFolders { root: repo.root(), state: &state };
    let mut specs = plan::build_specs(&layer, &chosen, &ports.services, &places);
    for spec in &mut specs {
        spec.is_moved = running.specs.iter().any(|now| now.name == spec.name && now.is_moved);
    }
    let base = shared::inherited_environment(session);
    let values = EnvFileValues::read_files(&specs, &base, WaitPolicy::Full);
    plan::check_specs(&specs, &base, &values, repo.root())?;
    let wanted: Vec<(String, u16)> = specs
        .iter()
        .filter(|spec| {
            let now = running.specs.iter().find(|other| other.name == spec.name);
            now.is_none_or(|now| now.port != spec.port)
        })
        .filter_map(|spec| Some((spec.name.clone(), spec.port?)))
        .collect();
    let mut obstacles = port_plan::find_conflicts(&wanted, Some(&running.token))?;
    // The restarted services free their own ports.
    let ends = |port: u16| {
        let ended = running.specs.iter().filter(|spec| names.contains(&spec.name));
        ended.into_iter().any(|spec| spec.port == Some(port))
    };
    obstacles.retain(|obstacle| !ends(obstacle.port));
    if !obstacles.is_empty() {
        // A restart moves nothing and takes nothing over.
        return Err(port_plan::build_conflict_error(&obstacles, false));
    }
    let ended = shared::request_start(
        session,
        &stack,
        &names,
        control_socket::StartRequest {
            specs,
            layer: layer.services.iter().map(|service| service.name.clone()).collect(),
            again: names.clone(),
            env: control_socket::encode_env(&base),
            values: values
                .readable_envs()
                .iter()
                .map(|(n, env)| (n.clone(), control_socket::encode_env(env)))
                .collect(),
            seen: values.file_stamps().clone(),
            ready_within_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX),
            without: Vec::new(),
            status: ports.status,
        },
    )?;
    match ended {
        RequestOutcome::Done { page, .. } => {
            if args.json {
                shared::print_start_report("xtask.restart/1", &page, &[])?;
            } else {
                let mut lines = shared::build_service_lines(&page);
                lines.retain(|line| names.contains(&line.service));
                report::print_output(&render_addresses(&lines, None))?;
            }
            Ok(SUCCESS)
        }
        RequestOutcome::Failed { failures, page, survivors } => {
            if args.json {
                shared::print_start_report("xtask.restart/1", &page, &failures)?;
            }
            let error = shared::start_error(&failures, "the others keep running", &page.layer);
            Err(survivors
                .into_iter()
                .fold(error, |error, who| error.with_detail(format!("{who} did not end"))))
        }
        RequestOutcome::Unanswered | RequestOutcome::Interrupted => Err(Error::new(
            ErrorKind::Interrupted,
            "interrupted; the services are being started again",
        )
        .with_hint("`cargo xtask ps` shows their state")),
    }
}
