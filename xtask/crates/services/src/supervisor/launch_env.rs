//! `LaunchEnv`: the environment that a running service was started with.
//!
//! Guarantee: an automatic restart uses the environment of the last manual start, whatever became
//! of the env files since. For example, `api` started with `DB=1` keeps it after `.env` says `DB=2`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::env_files::{EnvFileValues, WaitPolicy};
use crate::launch::Env;
use crate::marker::Marker;
use crate::reattach;
use crate::spec::EnvFileStamp;
use xtask_base::environment::Environment;

/// Environment of the last manual start of a service.
pub(super) struct LaunchEnv {
    /// Base variables, which `ServiceSpec::env` overrides.
    pub(super) env: Arc<Env>,
    /// Stamps of its env files at that time.
    pub(super) env_file_stamps: Vec<EnvFileStamp>,
}

/// Restores the environments of running services from their processes. For a process that has
/// overwritten its own, reads the env files as they are now, unless they do not respond at once.
pub(super) fn restore_launch_envs(
    units: &[reattach::ReattachedService],
    token: &str,
    world: &Environment,
) -> HashMap<String, LaunchEnv> {
    let mut given = HashMap::new();
    let mut unknown = Vec::new();
    for found in units.iter().filter(|found| found.is_up) {
        let spec = &found.unit.spec;
        let marker = Marker::new(token, &spec.name, found.unit.run);
        let process = found.unit.identity.as_ref();
        match process.and_then(|process| marker.read_environment(process)) {
            Some(env) => {
                let known = LaunchEnv {
                    env: Arc::new(env),
                    env_file_stamps: found.env_file_stamps.clone(),
                };
                given.insert(spec.name.clone(), known);
            }
            None => unknown.push(spec.clone()),
        }
    }
    let values = EnvFileValues::read_files(&unknown, &world.variables, WaitPolicy::Brief);
    for (name, read) in values.readable_envs() {
        let mut env = world.variables.clone();
        env.extend(read);
        let seen = values.file_stamps().get(&name).cloned().unwrap_or_default();
        given.insert(name, LaunchEnv { env: Arc::new(env), env_file_stamps: seen });
    }
    given
}
