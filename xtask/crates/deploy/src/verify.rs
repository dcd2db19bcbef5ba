//! `deploy --verify`: compares the current release with its manifest and checks its health. Read-only.

use super::engine::EngineContext;
use super::history;
use super::journal::DeployJournal;
use super::release::Release;
use super::target::{CurrentLink, TargetOwnership};
use super::wire_protocol::Verification;
use xtask_base::error::Result;

/// Checks `current`, the journal, the history, the manifest and the health, and returns all faults, e.g.
/// ``the release `20250310T101500Z-4cfd10e1a2b3` is not intact: 1 fault``.
pub fn verify_target(engine_ctx: &EngineContext<'_>) -> Result<Verification> {
    let target = engine_ctx.target;
    let mut found = Verification::default();
    let is_ours = target.check_ownership()? == TargetOwnership::Ours;
    let current = if is_ours { target.read_current()? } else { CurrentLink::Missing };
    match current {
        CurrentLink::Release(name) => found.release = Some(name),
        CurrentLink::Missing => found.faults.push("nothing is deployed".to_owned()),
        CurrentLink::Foreign(words) => {
            found.faults.push(format!("`current` {words}: it was changed manually"));
        }
    }
    let journal = if is_ours { DeployJournal::read(target) } else { Ok(None) };
    match (journal, target.lock_holder()) {
        (Ok(None), _) => {}
        (_, Some(holder)) => found.faults.push(format!("a run is in progress: {holder}")),
        (Ok(Some(_)), None) => {
            let what = "a run was interrupted: the next `deploy` or `rollback` recovers it";
            found.faults.push(what.to_owned());
        }
        (Err(failure), None) => push_failure(&mut found.faults, &failure),
    }
    let Some(name) = found.release.clone() else { return Ok(found) };
    let entries = history::read_history(&target.history_file())?;
    if history::current_and_serving(&entries).serving != Some(name.as_str()) {
        found.faults.push(format!("the history does not list {name} as serving and verified"));
    }
    let release = Release::in_target(target, &name);
    match release.verify_manifest() {
        Ok(manifest) => found.commit = Some(manifest.commit),
        Err(failure) => push_failure(&mut found.faults, &failure),
    }
    if let Err(failure) = engine_ctx.engine.check_health(&release) {
        push_failure(&mut found.faults, &failure);
    }
    Ok(found)
}

fn push_failure(faults: &mut Vec<String>, failure: &xtask_base::error::Error) {
    faults.push(failure.to_string());
    faults.extend(failure.details().iter().cloned());
}
