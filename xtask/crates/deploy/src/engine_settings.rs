//! The settings that `docker compose` or `kubectl` gets for a layer, as a release stores them.

use serde::{Deserialize, Serialize};

/// Settings of the engine's tool for a layer, e.g. `{"to": "compose.yml", "context": null, "namespace": null,
/// "project": "shop-prod"}`. They are part of the `ReleaseSnapshot`, so that a rollback uses the old values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineSettings {
    /// Compose file, or file or folder of manifests, relative to the files of the release.
    pub to: String,
    /// `--context` of `docker` or `kubectl`.
    pub context: Option<String>,
    /// `--namespace` of `kubectl`.
    pub namespace: Option<String>,
    /// Project name of `docker compose`, derived from the clone's folder and the layer.
    pub project: String,
}
