//! Folders as the columns of the table of drift: few enough to be read, and as deep as they can be.
//!
//! ```text
//! setup/a, setup/b, scripts/x, .flake8  ->  (root) 1, scripts/ 1, setup/ 2
//! ```

use std::collections::BTreeMap;

use xtask_base::path::RepoPath;

/// The maximum number of columns.
const MAX_GROUPS: usize = 10;

/// A folder, and the number of managed paths that are counted under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathGroup {
    /// Folder with `/` at the end, or an empty path for files of the root; what no other group has if `is_rest`.
    pub(super) folder: Vec<u8>,
    pub(super) paths: usize,
    pub(super) is_rest: bool,
}

impl PathGroup {
    /// Returns the heading of the column.
    pub(super) fn title(&self) -> String {
        match (self.is_rest, self.folder.is_empty()) {
            (true, _) => "other".to_owned(),
            (false, true) => "root".to_owned(),
            (false, false) => String::from_utf8_lossy(&self.folder).into_owned(),
        }
    }
}

/// Divides paths into groups by their folders, as deep as gives at most [`MAX_GROUPS`]; if even the folders of the
/// root are more, those with the fewest paths are one.
pub(super) fn choose_groups<'p>(
    paths: impl Iterator<Item = &'p RepoPath> + Clone,
) -> Vec<PathGroup> {
    let count = |depth: usize| {
        let mut groups: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for path in paths.clone() {
            *groups.entry(folder_at(path, depth)).or_default() += 1;
        }
        groups
    };
    let mut chosen = count(1);
    for depth in 2..=4 {
        let deeper = count(depth);
        if deeper.len() > MAX_GROUPS {
            break;
        }
        chosen = deeper;
    }
    let mut by_size: Vec<(Vec<u8>, usize)> = chosen.into_iter().collect();
    by_size.sort_by(|one, two| two.1.cmp(&one.1).then_with(|| one.0.cmp(&two.0)));
    let few =
        if by_size.len() > MAX_GROUPS { by_size.split_off(MAX_GROUPS - 1) } else { Vec::new() };
    by_size.sort();
    let group = |(folder, paths)| PathGroup { folder, paths, is_rest: false };
    let mut groups: Vec<PathGroup> = by_size.into_iter().map(group).collect();
    if !few.is_empty() {
        let paths = few.iter().map(|(_, count)| count).sum();
        groups.push(PathGroup { folder: Vec::new(), paths, is_rest: true });
    }
    groups
}

/// Returns the index of the group of a path: the deepest folder that holds it, else the rest.
pub(super) fn find_group(groups: &[PathGroup], path: &RepoPath) -> usize {
    let holds = |group: &&PathGroup| {
        !group.is_rest
            && match group.folder.is_empty() {
                true => path.parent().is_none(),
                false => path.as_bytes().starts_with(&group.folder),
            }
    };
    let deepest = groups.iter().filter(holds).max_by_key(|group| group.folder.len());
    let at = deepest.and_then(|found| groups.iter().position(|group| group == found));
    at.unwrap_or(groups.len().saturating_sub(1))
}

/// Returns the folder of a path, cut off after `depth` components, with `/` at the end.
fn folder_at(path: &RepoPath, depth: usize) -> Vec<u8> {
    let bytes = path.as_bytes();
    let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let end = slashes.take(depth).last();
    end.map_or_else(Vec::new, |end| bytes[..=end].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups_of(paths: &[&str]) -> Vec<(String, usize)> {
        let paths: Vec<RepoPath> = paths.iter().map(|path| RepoPath::new(*path)).collect();
        let groups = choose_groups(paths.iter());
        for path in &paths {
            assert!(find_group(&groups, path) < groups.len(), "{path}");
        }
        groups.iter().map(|group| (group.title(), group.paths)).collect()
    }

    #[test]
    fn columns_are_folders_as_deep_as_there_is_room() {
        let named = |names: &[(&str, usize)]| -> Vec<(String, usize)> {
            names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        assert_eq!(
            groups_of(&["setup/a", "setup/b", "scripts/x", ".flake8"]),
            named(&[("root", 1), ("scripts/", 1), ("setup/", 2)])
        );
        assert_eq!(
            groups_of(&["setup/a/1", "setup/b/2", "setup/c"]),
            named(&[("setup/", 1), ("setup/a/", 1), ("setup/b/", 1)])
        );
        let many: Vec<String> = (0..30).map(|n| format!("d{n:02}/file")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).chain(["d05/more"]).collect();
        let groups = groups_of(&many);
        assert_eq!(groups.len(), MAX_GROUPS);
        assert_eq!(groups.iter().map(|group| group.1).sum::<usize>(), 31);
        assert_eq!(groups.last().unwrap().0, "other");
        assert!(groups.contains(&("d05/".to_owned(), 2)));
        assert_eq!(groups_of(&[]), []);
    }

    #[test]
    fn a_path_belongs_to_the_deepest_folder() {
        let paths = ["setup/c", "setup/a/1", "x"].map(RepoPath::new);
        let groups = choose_groups(paths.iter());
        let found: Vec<String> =
            paths.iter().map(|path| groups[find_group(&groups, path)].title()).collect();
        assert_eq!(found, ["setup/", "setup/a/", "root"]);
    }
}
