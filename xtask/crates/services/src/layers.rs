//! Reads the layers of a worktree from its files, e.g. `local` from `deployment/local.toml`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use xtask_base::error::{Error, Result};
use xtask_base::files::read_regular_file;
use xtask_config::{DEPLOYMENT_FOLDER, Layer, layer_file_path};

/// The largest file of a layer that is read, in bytes: far more than anybody writes.
pub const MAX_LAYER_BYTES: u64 = 1 << 20;

/// Returns the names of the layers in `deployment/`, sorted.
#[must_use]
pub fn list_layers(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(DEPLOYMENT_FOLDER));
    let names =
        entries.into_iter().flatten().flatten().filter_map(|entry| {
            Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned())
        });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Reads a layer.
pub fn read_layer(root: &Path, name: &str) -> Result<Layer> {
    read_layer_with_texts(root, name).map(|(layer, _)| layer)
}

/// Reads a layer, and returns it with the texts of all files that were read, by layer name.
pub fn read_layer_with_texts(root: &Path, name: &str) -> Result<(Layer, BTreeMap<String, String>)> {
    let texts = RefCell::new(BTreeMap::new());
    let read = |layer: &str| {
        let file = layer_file_path(layer);
        match read_regular_file(&root.join(&file), MAX_LAYER_BYTES) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => {
                    texts.borrow_mut().insert(layer.to_owned(), text.clone());
                    Ok(Some(text))
                }
                Err(_) => Err(Error::usage(format!("{file} is not UTF-8"))),
            },
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(Error::unable(format!("cannot read {file}")).with_cause(cause)),
        }
    };
    let layer = Layer::load(name, &read, &list_layers(root))?;
    Ok((layer, texts.into_inner()))
}
