//! What is wrong with what serves: compared with its manifest, and asked whether it is well. It changes nothing.

use super::history;
use super::journal::Journal;
use super::order::Verified;
use super::release::Release;
use super::run::Site;
use super::target::{Current, Standing};
use xtask_base::error::Result;

/// Looks at all of it.
pub fn verify(site: &Site<'_>) -> Result<Verified> {
    let target = site.target;
    let mut found = Verified::default();
    let is_ours = target.standing()? == Standing::Ours;
    let current = if is_ours { target.current()? } else { Current::Nothing };
    match current {
        Current::Release(name) => found.release = Some(name),
        Current::Nothing => found.faults.push("nothing is deployed".to_owned()),
        Current::Foreign(words) => {
            found.faults.push(format!("`current` {words}: somebody has changed it by hand"));
        }
    }
    let journal = if is_ours { Journal::read(target) } else { Ok(None) };
    match (journal, target.holder()) {
        (Ok(None), _) => {}
        (_, Some(holder)) => found.faults.push(format!("a run is under way: {holder}")),
        (Ok(Some(_)), None) => {
            let what = "a run was cut short: the next `deploy` or `rollback` ends it";
            found.faults.push(what.to_owned());
        }
        (Err(failure), None) => note(&mut found.faults, &failure),
    }
    let Some(name) = found.release.clone() else { return Ok(found) };
    let entries = history::read(&target.history())?;
    if history::standing(&entries).1 != Some(name.as_str()) {
        found.faults.push(format!("the history does not say that {name} serves, verified"));
    }
    let release = Release::of(target, &name);
    match release.whole() {
        Ok(manifest) => found.commit = Some(manifest.commit),
        Err(failure) => note(&mut found.faults, &failure),
    }
    if let Err(failure) = site.engine.ask(&release) {
        note(&mut found.faults, &failure);
    }
    Ok(found)
}

fn note(faults: &mut Vec<String>, failure: &xtask_base::error::Error) {
    faults.push(failure.to_string());
    faults.extend(failure.details().iter().cloned());
}
