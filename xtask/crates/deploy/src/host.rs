//! What the program does on another host: it takes one order and does it there as `directory` does it, with the
//! same lock, journal, steps and ways back.
//!
//! Whoever gave the order may go away at any time: what was begun goes on to its end, and the next command
//! finds the lock, or the history.

use std::path::Path;
use std::time::Duration;

use super::Around;
use super::directory::Directory;
use super::gates::{self, Grounds};
use super::history;
use super::order::{Ended, Failure, HostOrder, Looked, ORDER, Wanted};
use super::release::Release;
use super::run::{self, Order, Site, Source};
use super::ssh::UPLOAD;
use super::steps::Doing;
use super::target::{Standing, Target, is_release_name};
use super::verify;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::signals::Interrupts;
use xtask_base::world::World;
use xtask_config::Layer;

/// How many programs stay: that which was sent last, and two to which somebody may go back.
const PROGRAMS: usize = 3;

/// Does it. The world of `around` has the variables of the order already.
pub fn work(order: &HostOrder, around: Around<'_>, warn: &dyn Fn(&str)) -> Ended {
    let mut ended = Ended::default();
    if let Err(failure) = attempt(order, around, warn, &mut ended) {
        ended.failure = Some(Failure::from(&failure));
    }
    ended
}

fn attempt(
    order: &HostOrder,
    around: Around<'_>,
    warn: &dyn Fn(&str),
    ended: &mut Ended,
) -> Result<()> {
    if order.schema != ORDER {
        return Err(Error::unable(format!("an order of the kind `{}` is not known", order.schema)));
    }
    let layer = order.layer()?;
    let target = Target { root: order.root.clone(), layer: order.layer.clone() };
    let none = Interrupts::none();
    let deaf = Around { interrupts: &none, ..around };
    let engine = Directory { target: &target, layer: &layer, around };
    let calm = Directory { target: &target, layer: &layer, around: deaf };
    let site = Site { target: &target, engine: &engine, calm: &calm, around };
    match &order.wanted {
        Wanted::Look { needed, missing } => {
            ended.looked = Some(look(&site, &layer, *needed, missing)?);
            Ok(())
        }
        Wanted::Verify => {
            ended.verified = Some(verify::verify(&site)?);
            Ok(())
        }
        wanted => {
            let before = if target.standing()? == Standing::Ours {
                history::read(&target.history())?.len()
            } else {
                0
            };
            let done = change(&site, &layer, wanted, warn);
            let entries = history::read(&target.history())?;
            ended.run = entries.last().filter(|_| entries.len() > before).cloned();
            let (current, serves) = history::standing(&entries);
            ended.current = current.map(str::to_owned);
            ended.serves = serves.map(str::to_owned);
            done
        }
    }
}

fn look(site: &Site<'_>, layer: &Layer, needed: u64, missing: &[String]) -> Result<Looked> {
    let target = site.target;
    let deploy = layer.deploy.as_ref().ok_or_else(|| Error::usage("the layer is not deployed"))?;
    let grounds =
        Grounds { layer, deploy, target, needed, missing: missing.to_vec(), around: site.around };
    let gates = gates::look_there(&grounds);
    if !target.standing().is_ok_and(|standing| standing == Standing::Ours) {
        return Ok(Looked { gates, taken: Vec::new(), kept: Vec::new() });
    }
    let kept = run::kept(target, &history::read(&target.history())?);
    let taken = names(&target.releases()).chain(names(&target.incoming())).collect();
    Ok(Looked { gates, taken, kept })
}

fn change(site: &Site<'_>, layer: &Layer, wanted: &Wanted, warn: &dyn Fn(&str)) -> Result<()> {
    let deploy = layer.deploy.as_ref().ok_or_else(|| Error::usage("the layer is not deployed"))?;
    let doing = match wanted {
        Wanted::Rollback { .. } => Doing::Rollback,
        _ => Doing::Deploy,
    };
    let opened = run::open(site, doing);
    let arrived = |release: &str| Release {
        name: release.to_owned(),
        folder: site.target.incoming().join(release),
    };
    let (_lock, mended) = match (opened, wanted) {
        (Ok(opened), _) => opened,
        (Err(failure), Wanted::Deploy { release, .. }) if is_release_name(release) => {
            // It is sent again for another attempt.
            drop(arrived(release).remove(&site.around));
            return Err(failure);
        }
        (Err(failure), _) => return Err(failure),
    };
    if let Some(words) = mended {
        warn(&words);
    }
    match wanted {
        Wanted::Deploy { release, commit, watch_ms } if is_release_name(release) => {
            let source = Source::Sealed { name: release, commit };
            let watch = Duration::from_millis(*watch_ms);
            let done = run::deploy(site, &Order { source, layer, deploy, watch });
            drop(arrived(release).remove(&site.around));
            done?.warnings.iter().for_each(|warning| warn(warning));
            if let Err(failure) = tidy(site.target, &site.around) {
                warn(&failure.to_string());
            }
            Ok(())
        }
        Wanted::Rollback { release, watch_ms } => {
            let release = run::choose(site.target, Some(release))?;
            gates::check_rollback(layer, deploy, site.target, &release, &site.around)?;
            run::rollback(site, &release, Duration::from_millis(*watch_ms)).map(drop)
        }
        _ => Ok(()),
    }
}

fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Removes older programs, and what arrived long ago and was never taken in.
fn tidy(target: &Target, around: &Around<'_>) -> Result<()> {
    let mut programs = Vec::new();
    for name in names(&target.programs()).filter(|name| name.starts_with("xtask-")) {
        let path = target.programs().join(name);
        // This one is the newest, whenever it was built.
        let is_own = is_same(&path, around.world);
        let changed = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        programs.push((is_own, changed, path));
    }
    programs.sort();
    let older = programs.len().saturating_sub(PROGRAMS);
    for (_, _, path) in programs.into_iter().take(older) {
        around.disk.remove(&path).unable(|| format!("`{}` cannot be removed", path.display()))?;
    }
    for name in names(&target.incoming()).filter(|name| is_release_name(name)) {
        let folder = target.incoming().join(&name);
        // What is still under way is younger than it may take.
        if age(&folder, around.world).is_some_and(|age| age > 2 * UPLOAD) {
            Release { name, folder }.remove(around)?;
        }
    }
    Ok(())
}

fn is_same(path: &Path, world: &World) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    id(path).is_some() && id(path) == id(&world.program)
}

fn age(path: &Path, world: &World) -> Option<Duration> {
    use std::os::unix::fs::MetadataExt as _;
    let changed = std::fs::symlink_metadata(path).ok()?.ctime();
    let age = world.now_seconds().checked_sub(changed)?;
    Some(Duration::from_secs(u64::try_from(age).ok()?))
}
