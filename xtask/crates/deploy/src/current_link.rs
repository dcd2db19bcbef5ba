//! The symlink `current` to the release that serves, e.g. `current -> releases/20250310T101500Z-4cfd10e1a2b3`.
//!
//! A rename replaces it atomically, so that it always points to the old or the new release. It is checked right
//! before: a link that was changed manually is left alone, with a hint on how to restore it.

use super::DeployContext;
use super::target::{CurrentLink, DeployTarget};
use xtask_base::error::{Error, Result, ResultExt as _};

/// Points `current` to the release `to`, or removes it if `to` is `None`.
///
/// Returns an error if its present release is not among `expected`, where `None` means that it is missing.
pub fn point_current(
    target: &DeployTarget,
    to: Option<&str>,
    expected: &[Option<&str>],
    deploy_ctx: &DeployContext<'_>,
) -> Result<()> {
    check_current(target, expected)?;
    let link = target.current_link();
    let failed = || format!("cannot replace `{}`", link.display());
    let Some(to) = to else {
        return deploy_ctx.disk.remove_file(&link).with_context(failed);
    };
    let beside = target.root.join("current.new");
    deploy_ctx.disk.remove_file(&beside).with_context(failed)?;
    let release = std::path::Path::new("releases").join(to);
    deploy_ctx.disk.create_symlink(&release, &beside).with_context(failed)?;
    deploy_ctx.disk.replace_file(&beside, &link).with_context(failed)?;
    let folder = std::fs::File::open(&target.root).and_then(|folder| folder.sync_all());
    folder.with_context(failed)
}

/// Returns an error if `current` is not one of `expected`, which means that it was changed manually.
pub fn check_current(target: &DeployTarget, expected: &[Option<&str>]) -> Result<()> {
    let found = target.read_current()?;
    let is_expected = match &found {
        CurrentLink::Missing => expected.contains(&None),
        CurrentLink::Release(name) => expected.contains(&Some(name)),
        CurrentLink::Foreign(_) => false,
    };
    if is_expected {
        return Ok(());
    }
    let link = target.current_link();
    let link = link.display();
    let what = match &found {
        CurrentLink::Missing => "no longer exists".to_owned(),
        CurrentLink::Release(name) => format!("points to `releases/{name}`"),
        CurrentLink::Foreign(words) => words.clone(),
    };
    let error = Error::negative(format!("`{link}` {what}: it was changed manually"));
    Err(match expected.iter().flatten().next() {
        Some(last) => error
            .with_detail(format!("the last run left it pointing to `releases/{last}`"))
            .with_hint(match found {
                CurrentLink::Foreign(_) => format!(
                    "move `{link}` away unless it is a symlink, then `ln -sfn releases/{last} {link}` restores it"
                ),
                _ => format!("`ln -sfn releases/{last} {link}` restores it"),
            })
            .with_hint(format!("then `cargo xtask rollback {}` switches to another release", target.layer)),
        None => {
            error.with_detail("no release serves, according to the history").with_hint(format!("move `{link}` away"))
        }
    })
}
