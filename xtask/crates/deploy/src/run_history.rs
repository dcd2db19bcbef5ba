//! What was done to a layer, wherever it is deployed. Nothing is changed by asking.

use super::history::{self, DeployEntry};
use super::ssh::SshHost;
use super::target::{DeployTarget, TargetOwnership};
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_config::{DeployConfig, DeployEngine};
use xtask_git::Repo;

/// All runs, the oldest first; none where the layer was never deployed.
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
    match target.check_ownership()? {
        TargetOwnership::Ours => history::read_history(&target.history_file()),
        TargetOwnership::Free => Ok(Vec::new()),
    }
}
