//! What is known of a branch: its age, and how it stands to its base. Looking only, by commits and trees;
//! no program is started and nothing is written.
//!
//! The base is the one of the remote as it was last fetched, and the local one where there is no other: a
//! local branch may hold what nobody else has. The age is that of the oldest commit on the line of the branch
//! itself that its base does not have (without a base: none of the protected branches and not the canonical
//! one), by the time of its author, which a rebase keeps; sync commits do not count, they are as old as what
//! they bring.

use std::collections::HashSet;

use super::made;
use super::merged::{Arrivals, Pairing};
use super::rules::{Age, BaseFacts, Elsewhere, Facts, Since, Unknown};
use xtask_base::error::Result;
use xtask_base::words::typed;
use xtask_config::{BRANCHES_FILE, BranchRule};
use xtask_git::{Id, Repo};
use xtask_sync::context::Context;
use xtask_sync::upstream::is_sync_commit;

/// Looks at branches of one repository.
pub struct Look<'r> {
    /// The repository.
    pub repo: &'r Repo,
    /// What it goes by.
    pub context: &'r Context,
    /// The time, in seconds since the epoch.
    pub now: i64,
    pub(super) arrivals: Arrivals<'r>,
    /// The branches that others come from: protected, canonical, or the base of a rule.
    shared: Vec<Source>,
}

/// A branch from which others come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub branch: String,
    /// It as it can be typed: `origin/main`, or `main` where the remote is not known to have it.
    pub typed: String,
    /// Whether that is the one of the remote.
    pub is_remote: bool,
    /// Its commit.
    pub commit: Id,
    /// The commit of the local branch, where that is another one.
    pub local: Option<Id>,
}

impl Source {
    /// Finds a branch: the one of the remote as it was last fetched, or else the local one.
    pub fn find(repo: &Repo, remote: &str, branch: &str) -> Result<Option<Source>> {
        let local = repo.resolve(&format!("refs/heads/{branch}"))?;
        let tracked = repo.resolve(&format!("refs/remotes/{remote}/{branch}"))?;
        let branch = branch.to_owned();
        Ok(match (tracked, local) {
            (Some(commit), local) => {
                let typed = format!("{remote}/{branch}");
                Some(Source { branch, typed, is_remote: true, commit, local })
            }
            (None, Some(commit)) => {
                let typed = branch.clone();
                Some(Source { branch, typed, is_remote: false, commit, local: None })
            }
            (None, None) => None,
        })
    }

    fn commits(&self) -> impl Iterator<Item = Id> {
        [Some(self.commit), self.local].into_iter().flatten()
    }
}

impl<'r> Look<'r> {
    /// Begins to look.
    pub fn new(repo: &'r Repo, context: &'r Context, now: i64) -> Result<Look<'r>> {
        let remote = &context.config.remote;
        let mut names: Vec<String> =
            context.branches.rules.iter().filter_map(|rule| rule.base.clone()).collect();
        names.push(context.config.branch.clone());
        for prefix in ["refs/heads/".to_owned(), format!("refs/remotes/{remote}/")] {
            let found = repo.branches_below(&prefix)?.into_iter().map(|(name, _)| name);
            names.extend(found.filter(|name| context.is_protected(name)));
        }
        names.sort();
        names.dedup();
        let mut shared = Vec::new();
        for name in names {
            // One that is broken is in nobody's way until it is asked for.
            shared.extend(Source::find(repo, remote, &name).ok().flatten());
        }
        Ok(Look { repo, context, now, arrivals: Arrivals::new(repo), shared })
    }

    /// The branches that others come from, as far as they are here.
    #[must_use]
    pub fn shared(&self) -> &[Source] {
        &self.shared
    }

    /// What is known of a branch that is at this commit.
    pub fn facts(&self, branch: &str, tip: Id, rule: &BranchRule) -> Result<Facts> {
        let base = match &rule.base {
            None => None,
            Some(base) => Some(self.base(base)?),
        };
        let age = match &base {
            Some(Err(unknown)) => match self.made(branch, tip)? {
                Some(age) => Ok(Some(age)),
                None => Err(unknown.clone()),
            },
            Some(Ok(base)) => self.age(branch, tip, base.commits().collect())?,
            None => {
                let shared: Vec<Id> = self.shared.iter().flat_map(Source::commits).collect();
                self.age(branch, tip, shared)?
            }
        };
        let base = match base {
            None => None,
            Some(Err(unknown)) => Some(Err(unknown)),
            Some(Ok(base)) => Some(self.base_facts(branch, tip, &base)?),
        };
        Ok(Facts { branch: branch.to_owned(), age, base })
    }

    fn base(&self, name: &str) -> Result<Result<Source, Unknown>> {
        if let Some(unknown) = self.cut_off() {
            return Ok(Err(unknown));
        }
        let remote = &self.context.config.remote;
        let (at, base) = (typed(remote), typed(name));
        Ok(Source::find(self.repo, remote, name)?.ok_or_else(|| Unknown {
            why: format!("its base `{name}` is neither here nor known of `{remote}`"),
            next: if self.repo.has_remote(remote) {
                format!("`git fetch {at} {base}:refs/remotes/{at}/{base}` gets it")
            } else {
                format!("`git branch {base} COMMIT` makes it, or `{BRANCHES_FILE}` names another")
            },
        }))
    }

    /// That nothing can be said of history, if it is cut off.
    fn cut_off(&self) -> Option<Unknown> {
        self.repo.is_shallow().then(|| Unknown {
            why: "the history is cut off here (a shallow clone)".to_owned(),
            next: "`git fetch --unshallow` gets the rest".to_owned(),
        })
    }

    fn made(&self, branch: &str, tip: Id) -> Result<Option<Age>> {
        let made = made::find(self.repo, branch, tip)?;
        Ok(made.map(|made| Age { seconds: (self.now - made.at).max(0), since: Since::Made }))
    }

    fn age(&self, branch: &str, tip: Id, hidden: Vec<Id>) -> Result<Result<Option<Age>, Unknown>> {
        if let Some(age) = self.made(branch, tip)? {
            return Ok(Ok(Some(age)));
        }
        if let Some(unknown) = self.cut_off() {
            return Ok(Err(unknown));
        }
        if hidden.is_empty() {
            let protected = self.context.branches.protected.join("`, `");
            return Ok(Err(Unknown {
                why: format!("none of the protected branches (`{protected}`) is here"),
                next: format!("`git fetch {}` gets them", typed(&self.context.config.remote)),
            }));
        }
        let own: HashSet<Id> = self.repo.beyond(&hidden, tip)?.into_iter().collect();
        let mut oldest = None;
        let mut at = Some(tip);
        while let Some(id) = at.filter(|id| own.contains(id)) {
            let commit = self.repo.commit(id)?;
            if !is_sync_commit(&commit, &self.context.config.identity) {
                let seconds = commit.author.seconds;
                oldest = Some(oldest.map_or(seconds, |oldest: i64| oldest.min(seconds)));
            }
            at = commit.parents.first().copied();
        }
        let since = Since::OldestCommit;
        Ok(Ok(oldest.map(|then| Age { seconds: (self.now - then).max(0), since })))
    }

    fn base_facts(
        &self,
        branch: &str,
        tip: Id,
        base: &Source,
    ) -> Result<Result<BaseFacts, Unknown>> {
        if self.repo.merge_base(tip, base.commit)?.is_none() {
            return Ok(Err(Unknown {
                why: format!("it has no history in common with its base `{}`", base.typed),
                next: format!(
                    "`cargo xtask branch new NAME` makes one that has; `git cherry-pick` brings \
                     commits of `{branch}` there"
                ),
            }));
        }
        let own = self.repo.beyond(&[base.commit], tip)?;
        let since = self.repo.beyond(&[tip], base.commit)?;
        let forecast = if own.is_empty() || since.is_empty() {
            None
        } else {
            Some(self.repo.forecast_merge(base.commit, tip)?)
        };
        let pair = Pairing {
            branch,
            tip,
            base: base.commit,
            own: &own,
            since: &since,
            forecast: forecast.as_ref(),
        };
        let merged = self.arrivals.how(&pair)?;
        let remote = &self.context.config.remote;
        let fetched = base.is_remote.then(|| self.repo.last_fetch(remote, &base.branch)).flatten();
        let conflicts = forecast.map(|forecast| forecast.conflicts).unwrap_or_default();
        Ok(Ok(BaseFacts {
            name: base.typed.clone(),
            fetch: base
                .is_remote
                .then(|| format!("git fetch {} {}", typed(remote), typed(&base.branch))),
            fetched_s: fetched.map(|then| (self.now - then).max(0)),
            own: own.len(),
            behind: since.len(),
            elsewhere: self.elsewhere(tip, base)?,
            conflicts: conflicts.iter().map(ToString::to_string).collect(),
            merged,
        }))
    }

    /// The shared branch other than the base on whose own line most of a branch's commits lie. One that has
    /// taken in the whole branch says nothing about where that was forked.
    fn elsewhere(&self, tip: Id, base: &Source) -> Result<Option<Elsewhere>> {
        let hidden: Vec<Id> = base.commits().collect();
        let own: HashSet<Id> = self.repo.beyond(&hidden, tip)?.into_iter().collect();
        let mut most: Option<Elsewhere> = None;
        for other in self.shared.iter().filter(|other| other.branch != base.branch) {
            let theirs: HashSet<Id> =
                self.repo.beyond(&hidden, other.commit)?.into_iter().collect();
            if theirs.contains(&tip) || theirs.is_disjoint(&own) {
                continue;
            }
            let mut commits = 0;
            let mut at = Some(other.commit);
            while let Some(id) = at.filter(|id| theirs.contains(id)) {
                commits += usize::from(own.contains(&id));
                at = self.repo.commit(id)?.parents.first().copied();
            }
            if commits > most.as_ref().map_or(0, |most| most.commits) {
                most = Some(Elsewhere { name: other.typed.clone(), commits });
            }
        }
        Ok(most)
    }
}
