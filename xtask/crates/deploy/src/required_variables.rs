//! The variables in `deploy.env-required`, each set by the environment or by an env file of the layer.
//!
//! Messages contain names, never values: ``not set: `API_KEY` ``.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::DeployContext;
use super::gates::{GateContext, MAX_SHOWN, TargetGateContext};
use super::release::Release;
use super::target::DeployTarget;
use super::target_gates::check_ports;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, pluralize};
use xtask_config::{DeployConfig, Layer};
use xtask_services::env_files;
use xtask_services::spec::EnvFile;

/// Returns the required variables that neither the environment nor a tracked env file sets.
pub fn find_missing_variables(scene: &GateContext<'_>) -> Result<Vec<String>> {
    let tree = scene.repo.head()?.tree;
    list_unset(&scene.deploy.env_required, &|name| {
        let mut is_set = scene.ctx.world.variable(name).is_some();
        for file in list_env_files(scene.layer) {
            // An untracked file is not part of the release.
            is_set = is_set
                || scene.repo.entry_at(tree, &RepoPath::new(file))?.is_some()
                    && file_sets_variable(&scene.repo.root().join(file), name)?;
        }
        Ok(is_set)
    })
}

/// Checks that the env files in the target's `shared` folder set the missing variables.
pub(super) fn check_variables(grounds: &TargetGateContext<'_>) -> Result<String> {
    let (layer, target) = (grounds.layer, grounds.target);
    let folders = [target.shared_folder()];
    let missing = list_unset(&grounds.missing, &|name| any_file_sets(layer, &folders, name))?;
    if missing.is_empty() {
        return Ok(match grounds.deploy.env_required.len() {
            0 => "none".to_owned(),
            number => format!("{} set", pluralize(number, "variable")),
        });
    }
    Err(unset_error("", &missing, layer, target))
}

/// Refuses a rollback to `release` if another process uses one of its ports, or a required variable is set neither
/// in the environment nor in an env file of the release or the `shared` folder.
pub fn check_rollback(
    layer: &Layer,
    deploy: &DeployConfig,
    target: &DeployTarget,
    release: &Release,
    deploy_ctx: &DeployContext<'_>,
) -> Result<()> {
    let folders = [release.files(), target.shared_folder()];
    let missing = list_unset(&deploy.env_required, &|name| {
        Ok(deploy_ctx.world.variable(name).is_some() || any_file_sets(layer, &folders, name)?)
    })?;
    if !missing.is_empty() {
        return Err(unset_error("nothing was changed: ", &missing, layer, target));
    }
    if deploy.engine.has_ports() {
        let ctx = *deploy_ctx;
        check_ports(&TargetGateContext { layer, deploy, target, needed: 0, missing, ctx })?;
    }
    Ok(())
}

fn list_unset(names: &[String], is_set: &dyn Fn(&str) -> Result<bool>) -> Result<Vec<String>> {
    let mut unset = Vec::new();
    for name in names {
        if !is_set(name)? {
            unset.push(name.clone());
        }
    }
    Ok(unset)
}

fn list_env_files(layer: &Layer) -> impl Iterator<Item = &str> {
    let files = layer.services.iter().flat_map(|service| &service.env_files);
    files.map(|file| file.strip_prefix('?').unwrap_or(file))
}

/// Reports whether an env file of the layer, in one of the `folders`, sets the variable `name`.
fn any_file_sets(layer: &Layer, folders: &[PathBuf], name: &str) -> Result<bool> {
    for file in list_env_files(layer) {
        for folder in folders {
            if file_sets_variable(&folder.join(file), name)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Reports whether the env file `file` sets the variable `name` to a non-empty value.
fn file_sets_variable(file: &Path, name: &str) -> Result<bool> {
    // References to other variables are resolved only when the service starts.
    let given = |_: &str| Some(OsString::new());
    let pairs =
        env_files::read_env_file(&EnvFile { path: file.to_path_buf(), is_optional: true }, &given)?;
    Ok(pairs.iter().any(|(known, value)| known == name && !value.is_empty()))
}

/// Returns the error for unset variables, with a hint that names the env file in the `shared` folder, if the layer
/// has one.
fn unset_error(prefix: &str, missing: &[String], layer: &Layer, target: &DeployTarget) -> Error {
    let shared = target.shared_folder();
    Error::negative(format!("{prefix}not set: {}", join_names(missing, MAX_SHOWN))).with_hint(
        match list_env_files(layer).next() {
            Some(file) => {
                format!("set them in this shell, or in `{}`", shared.join(file).display())
            }
            None => "set them in this shell; no service has an `env-file`".to_owned(),
        },
    )
}
