//! Access to the history of a layer, on this machine or (engine `ssh`) on its host. Read-only.

use super::history::{self, DeployEntry};
use super::ssh::SshHost;
use super::target::DeployTarget;
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_config::{DeployConfig, DeployEngine};
use xtask_git::Repo;

/// Returns all runs, oldest first; empty if the layer was never deployed.
///
/// Returns an error if the host is unreachable or the target belongs to somebody else.
pub fn fetch_history(
    repo: &Repo,
    layer: &str,
    deploy: &DeployConfig,
    world: &Environment,
) -> Result<Vec<DeployEntry>> {
    let target = DeployTarget::for_layer(repo, layer, deploy);
    if deploy.engine == DeployEngine::Ssh {
        let greeting = SshHost::for_deploy(deploy, world).read_handshake(&target)?;
        greeting.check_ownership(&target)?;
        return Ok(greeting.history);
    }
    history::read_target_history(&target)
}
