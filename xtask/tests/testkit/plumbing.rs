//! Commits on branches that are not checked out, made in this process: what git makes of the same files
//! is the same commit, which `kit.rs` compares, and takes 50 ms.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use camino::Utf8Path;
use gix::ObjectId;
use gix::objs::tree::EntryKind;
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};

use super::{LATELY, Place};

/// The files of a tree, by path.
type Files = BTreeMap<Vec<u8>, (EntryKind, ObjectId)>;

/// Lays the files of a branch out in `folder`, lets `change` change them, and commits what came of it.
pub(super) fn commit_on(
    place: &Place<'_>,
    branch: &str,
    folder: &Utf8Path,
    message: &str,
    change: impl FnOnce(),
) {
    let repo = gix::open(place.dir.as_std_path()).unwrap();
    let name = format!("refs/heads/{branch}");
    let old = repo.find_reference(&name).unwrap().peel_to_commit().unwrap();
    let tree = old.tree().unwrap();
    let mut before = Files::new();
    read_tree(&tree, b"", &mut before);
    fs::create_dir_all(folder).unwrap();
    for (path, (kind, id)) in &before {
        let content = &repo.find_blob(*id).unwrap().data;
        write(folder, path, *kind, content);
    }
    change();
    let mut after = Files::new();
    read_folder(&repo, folder, b"", &mut after);
    fs::remove_dir_all(folder).unwrap();
    assert!(!has_attributes(&after), "filters are git's to apply: use `in_worktree`");
    let mut editor = repo.edit_tree(tree.id).unwrap();
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        editor.remove(gix::bstr::BStr::new(path)).unwrap();
    }
    for (path, (kind, id)) in &after {
        editor.upsert(gix::bstr::BStr::new(path), *kind, *id).unwrap();
    }
    let ada = gix::actor::Signature {
        name: "Ada".into(),
        email: "ada@example.invalid".into(),
        time: gix::date::Time { seconds: LATELY, offset: 0 },
    };
    let commit = gix::objs::Commit {
        tree: editor.write().unwrap().detach(),
        parents: [old.id].into_iter().collect(),
        author: ada.clone(),
        committer: ada.clone(),
        encoding: None,
        message: format!("{message}\n").into(),
        extra_headers: Vec::new(),
    };
    let new = repo.write_object(&commit).unwrap().detach();
    let log = LogChange {
        mode: RefLog::AndReference,
        force_create_reflog: false,
        message: format!("commit: {message}").into(),
    };
    let expected = PreviousValue::MustExistAndMatch(gix::refs::Target::Object(old.id));
    let edit = RefEdit::new(
        name.try_into().unwrap(),
        Change::Update { log, expected, new: gix::refs::Target::Object(new) },
    );
    let mut time = gix::date::parse::TimeBuf::default();
    repo.edit_references_as([edit], Some(ada.to_ref(&mut time))).unwrap();
}

/// Whether git would apply filters to files of this branch.
pub(super) fn needs_git(place: &Place<'_>, branch: &str) -> bool {
    let repo = gix::open(place.dir.as_std_path()).unwrap();
    let tip = repo.find_reference(&format!("refs/heads/{branch}")).unwrap().peel_to_tree();
    let mut files = Files::new();
    read_tree(&tip.unwrap(), b"", &mut files);
    has_attributes(&files)
}

fn has_attributes(files: &Files) -> bool {
    files.keys().any(|path| path.ends_with(b".gitattributes"))
}

fn read_tree(tree: &gix::Tree<'_>, prefix: &[u8], found: &mut Files) {
    for entry in tree.iter() {
        let entry = entry.unwrap();
        let path = join(prefix, entry.filename());
        let kind = entry.mode().kind();
        match kind {
            EntryKind::Tree => {
                let below = entry.object().unwrap().into_tree();
                read_tree(&below, &path, found);
            }
            EntryKind::Commit => panic!("submodules are git's to check out: use `in_worktree`"),
            _ => drop(found.insert(path, (kind, entry.object_id()))),
        }
    }
}

fn write(folder: &Utf8Path, path: &[u8], kind: EntryKind, content: &[u8]) {
    let path = folder.as_std_path().join(OsStr::from_bytes(path));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match kind {
        EntryKind::Link => symlink(OsStr::from_bytes(content), path).unwrap(),
        EntryKind::BlobExecutable => {
            fs::write(&path, content).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        _ => fs::write(path, content).unwrap(),
    }
}

fn read_folder(repo: &gix::Repository, folder: &Utf8Path, prefix: &[u8], found: &mut Files) {
    let here = folder.as_std_path().join(OsStr::from_bytes(prefix));
    for entry in fs::read_dir(here).unwrap() {
        let entry = entry.unwrap();
        let path = join(prefix, entry.file_name().as_bytes());
        let meta = entry.path().symlink_metadata().unwrap();
        if meta.is_dir() {
            read_folder(repo, folder, &path, found);
            continue;
        }
        let (kind, content) = if meta.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap().into_os_string();
            (EntryKind::Link, target.into_encoded_bytes())
        } else {
            let is_executable = meta.permissions().mode() & 0o100 != 0;
            let kind = if is_executable { EntryKind::BlobExecutable } else { EntryKind::Blob };
            (kind, fs::read(entry.path()).unwrap())
        };
        found.insert(path, (kind, repo.write_blob(content).unwrap().detach()));
    }
}

fn join(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = prefix.to_vec();
    if !prefix.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
