//! `current`: a symlink to the release that serves, replaced by a rename, so that at every moment it
//! points to one release, the old one or the new one.
//!
//! It is looked at right before: one that neither we nor the run that is under way have made is left alone,
//! and what can be done about it is said.

use super::Around;
use super::target::{Current, Target};
use xtask_base::error::{Context as _, Error, Result};

/// Points it to a release, or takes it away. What it points to now must be among `expected`.
pub fn point(
    target: &Target,
    to: Option<&str>,
    expected: &[Option<&str>],
    around: &Around<'_>,
) -> Result<()> {
    check(target, expected)?;
    let link = target.current_link();
    let failed = || format!("`{}` cannot be replaced", link.display());
    let Some(to) = to else {
        return around.disk.remove(&link).unable(failed);
    };
    let beside = target.root.join("current.new");
    around.disk.remove(&beside).unable(failed)?;
    let release = std::path::Path::new("releases").join(to);
    around.disk.symlink(&release, &beside).unable(failed)?;
    around.disk.replace(&beside, &link).unable(failed)?;
    let folder = std::fs::File::open(&target.root).and_then(|folder| folder.sync_all());
    folder.unable(failed)
}

/// Refuses what was put there by hand.
pub fn check(target: &Target, expected: &[Option<&str>]) -> Result<()> {
    let found = target.current()?;
    let is_expected = match &found {
        Current::Nothing => expected.contains(&None),
        Current::Release(name) => expected.contains(&Some(name)),
        Current::Foreign(_) => false,
    };
    if is_expected {
        return Ok(());
    }
    let link = target.current_link();
    let link = link.display();
    let what = match &found {
        Current::Nothing => "is not there any more".to_owned(),
        Current::Release(name) => format!("points to `releases/{name}`"),
        Current::Foreign(words) => words.clone(),
    };
    let error = Error::no(format!("`{link}` {what}: somebody has changed it by hand"));
    Err(match expected.iter().flatten().next() {
        Some(last) => error
            .detail(format!("the last run left it pointing to `releases/{last}`"))
            .hint(match found {
                Current::Foreign(_) => format!(
                    "move `{link}` away, if it is no link, and `ln -sfn releases/{last} {link}` puts it back"
                ),
                _ => format!("`ln -sfn releases/{last} {link}` puts it back"),
            })
            .hint(format!("then `cargo xtask rollback {}` goes to another one", target.layer)),
        None => {
            error.detail("no release serves, by the history").hint(format!("move `{link}` away"))
        }
    })
}
