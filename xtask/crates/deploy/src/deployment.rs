//! A layer with `[deploy]`: its configuration, its target, and the engine that serves there.
//!
//! ```text
//! deployment/staging.toml: [deploy] engine = "compose"  ->  LayerDeployment  ->  ComposeEngine
//! ```

use std::collections::BTreeMap;

use super::DeployContext;
use super::compose::ComposeEngine;
use super::directory::DirectoryEngine;
use super::engine::{Engine, EngineContext};
use super::kubernetes::KubernetesEngine;
use super::target::DeployTarget;
use super::tool::EngineSettings;
use xtask_base::error::{Error, Result};
use xtask_base::signals::Interrupts;
use xtask_config::{self as config, DeployConfig, DeployEngine, Layer};
use xtask_git::Repo;

/// A layer with `[deploy]`, and its target.
pub struct LayerDeployment {
    pub layer: Layer,
    /// The `[deploy]` table of `layer`.
    pub deploy: DeployConfig,
    pub target: DeployTarget,
    /// The texts of the layer's files by layer name, to be sent to another host.
    pub layer_texts: BTreeMap<String, String>,
    /// The settings of `docker compose` or `kubectl`, or `None` for another engine.
    pub engine_settings: Option<EngineSettings>,
}

impl LayerDeployment {
    /// Returns the deployment of a layer. Returns an error if it has no `[deploy]`.
    pub fn for_layer(
        repo: &Repo,
        (layer, layer_texts): (Layer, BTreeMap<String, String>),
    ) -> Result<LayerDeployment> {
        let name = &layer.name;
        let Some(deploy) = layer.deploy.clone() else {
            return Err(Error::usage(format!("layer `{name}` has no `[deploy]`"))
                .with_hint(format!("add `[deploy]` to `{}`", config::layer_file_path(name)))
                .with_hint("its keys are documented in deployment/README.md"));
        };
        let target = DeployTarget::for_layer(repo, name, &deploy);
        let engine_settings = EngineSettings::for_layer(repo, name, &deploy);
        Ok(LayerDeployment { layer, deploy, target, layer_texts, engine_settings })
    }

    /// Reports whether the target is on another host.
    #[must_use]
    pub fn is_on_host(&self) -> bool {
        self.deploy.engine == DeployEngine::Ssh
    }

    /// Calls `work` with the target and its engine.
    pub fn with_engine<T>(
        &self,
        ctx: DeployContext<'_>,
        work: impl FnOnce(&EngineContext<'_>) -> Result<T>,
    ) -> Result<T> {
        let none = Interrupts::without_handlers();
        let engine = self.build_engine(ctx);
        let uninterruptible = self.build_engine(DeployContext { interrupts: &none, ..ctx });
        work(&EngineContext {
            target: &self.target,
            engine: &*engine,
            uninterruptible: &*uninterruptible,
            ctx,
        })
    }

    fn build_engine<'a>(&'a self, ctx: DeployContext<'a>) -> Box<dyn Engine + 'a> {
        let (target, layer) = (&self.target, &self.layer);
        match (&self.engine_settings, self.deploy.engine) {
            (Some(settings), DeployEngine::Kubernetes) => {
                Box::new(KubernetesEngine { target, settings, ctx })
            }
            (Some(settings), _) => Box::new(ComposeEngine { target, settings, ctx }),
            (None, _) => Box::new(DirectoryEngine { target, layer, ctx }),
        }
    }
}
