//! What the tool of an engine is told of a layer, as a release keeps it.

use serde::{Deserialize, Serialize};

/// What the tool of an engine is told of a layer. It is part of the configuration of a release, so that it can
/// be served again as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineSettings {
    /// The file or folder that the tool takes, from the root of the release.
    pub to: String,
    /// The context of the tool.
    pub context: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The name under which all of it is known.
    pub project: String,
}
