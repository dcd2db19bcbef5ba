//! What running services were given when they were started.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use crate::adopt;
use crate::ending::{MARKER, marker};
use crate::env_files::{Values, Waits};
use crate::launch::Env;
use crate::spec::Seen;
use xtask_base::processes;
use xtask_base::world::World;

/// What a service was given when it was started by a person: it is started again with the same, whatever became
/// of its files since.
pub(super) struct Given {
    /// Its variables, under its own.
    pub(super) env: Arc<Env>,
    /// How its files of variables looked.
    pub(super) seen: Vec<Seen>,
}

/// What services that run were given, by what the system tells of their processes; where those have written over
/// it, by their files as they are now, as far as they answer at once.
pub(super) fn given_of(
    units: &[adopt::Found],
    token: &str,
    world: &World,
) -> HashMap<String, Given> {
    let mut given = HashMap::new();
    let mut unknown = Vec::new();
    for found in units.iter().filter(|found| found.is_up) {
        let spec = &found.unit.spec;
        let own = marker(token, &spec.name, found.unit.run);
        let env = found.unit.identity.as_ref().and_then(|who| processes::environment(who.pid));
        let env = env.filter(|env| env.get(OsStr::new(MARKER)).is_some_and(|mark| *mark == *own));
        match env {
            Some(env) => {
                let known = Given { env: Arc::new(env), seen: found.seen.clone() };
                given.insert(spec.name.clone(), known);
            }
            None => unknown.push(spec.clone()),
        }
    }
    let values = Values::read(&unknown, &world.env, Waits::AtOnce);
    for (name, read) in values.whole() {
        let mut env = world.env.clone();
        env.extend(read);
        let seen = values.seen().get(&name).cloned().unwrap_or_default();
        given.insert(name, Given { env: Arc::new(env), seen });
    }
    given
}
