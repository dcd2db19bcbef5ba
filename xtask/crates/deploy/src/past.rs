//! What was done to a layer, wherever it is deployed. Nothing is changed by asking.

use super::history::{self, Entry};
use super::ssh::Host;
use super::target::{Standing, Target};
use xtask_base::error::Result;
use xtask_base::world::World;
use xtask_config::{Deploy, DeployEngine};
use xtask_git::Repo;

/// All runs, the oldest first; none where the layer was never deployed.
pub fn entries(repo: &Repo, layer: &str, deploy: &Deploy, world: &World) -> Result<Vec<Entry>> {
    let target = Target::of(repo, layer, deploy);
    if deploy.engine == DeployEngine::Ssh {
        let greeting = Host::of(deploy, world).greet(&target)?;
        greeting.standing(&target)?;
        return Ok(greeting.history);
    }
    match target.standing()? {
        Standing::Ours => history::read(&target.history()),
        Standing::Free => Ok(Vec::new()),
    }
}
