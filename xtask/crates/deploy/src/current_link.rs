//! `current`: a symlink to the release that serves, replaced by a rename, so that at every moment it
//! points to one release, the old one or the new one.
//!
//! It is looked at right before: one that neither we nor the run that is under way have made is left alone,
//! and what can be done about it is said.

use super::DeployContext;
use super::target::{CurrentLink, DeployTarget};
use xtask_base::error::{Error, Result, ResultExt as _};

/// Points it to a release, or takes it away. What it points to now must be among `expected`.
pub fn point_current(
    target: &DeployTarget,
    to: Option<&str>,
    expected: &[Option<&str>],
    around: &DeployContext<'_>,
) -> Result<()> {
    check_current(target, expected)?;
    let link = target.current_link();
    let failed = || format!("`{}` cannot be replaced", link.display());
    let Some(to) = to else {
        return around.disk.remove_file(&link).with_context(failed);
    };
    let beside = target.root.join("current.new");
    around.disk.remove_file(&beside).with_context(failed)?;
    let release = std::path::Path::new("releases").join(to);
    around.disk.create_symlink(&release, &beside).with_context(failed)?;
    around.disk.replace_file(&beside, &link).with_context(failed)?;
    let folder = std::fs::File::open(&target.root).and_then(|folder| folder.sync_all());
    folder.with_context(failed)
}

/// Refuses what was put there by hand.
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
        CurrentLink::Missing => "is not there any more".to_owned(),
        CurrentLink::Release(name) => format!("points to `releases/{name}`"),
        CurrentLink::Foreign(words) => words.clone(),
    };
    let error = Error::negative(format!("`{link}` {what}: somebody has changed it by hand"));
    Err(match expected.iter().flatten().next() {
        Some(last) => error
            .with_detail(format!("the last run left it pointing to `releases/{last}`"))
            .with_hint(match found {
                CurrentLink::Foreign(_) => format!(
                    "move `{link}` away, if it is no link, and `ln -sfn releases/{last} {link}` puts it back"
                ),
                _ => format!("`ln -sfn releases/{last} {link}` puts it back"),
            })
            .with_hint(format!("then `cargo xtask rollback {}` goes to another one", target.layer)),
        None => {
            error.with_detail("no release serves, by the history").with_hint(format!("move `{link}` away"))
        }
    })
}
