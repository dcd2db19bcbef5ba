//! Random commits with fixes that are staged: every file has random staged edits and random unstaged ones on top.
//! What a commit, the index and each file hold afterwards is predicted: by git without hooks, by the fixes on its
//! contents, and by `git merge-file` for unstaged edits. Some fixes fail, and some runs are killed.
//!
//! A failure prints its seed and what was done; `XTASK_COMMITS=FROM..TO` runs those.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use xtask_config::VALIDATE_FILE;

use crate::random_histories::Random;
use crate::testkit::{Lab, Place, circle, files, spawn};

/// How many commits a history has.
const COMMITS: u64 = 8;

/// Files whose trailing whitespace and end are fixed by rules, files that a command fixes, and others.
const PATHS: [&str; 8] =
    ["a.txt", "b c.txt", "d/c.txt", "d/e/f.txt", "m.src", "d/n.src", "other", "run.txt"];

const CHECKS: &str = r#"
[[check]]
name = "text"
hook = "pre-commit"
restage = true
files = "*.txt"
built-in = ["trailing-whitespace", "end-of-file-fixer"]
[[check]]
name = "src"
hook = "pre-commit"
restage = true
files = "*.src"
shell = true
run = "! grep -l bad {files}"
[check.fix]
shell = true
risk = "safe"
run = '''
case "$FIX_HOW" in
fails) exit 1 ;;
dies) kill -9 $$ ;;
kills) kill -9 $PPID ;;
saves) grep -q "$FIX_WORD" "$FIX_FILE" || printf '\n%s\n' "$FIX_WORD" >> "$FIX_FILE" ;;
esac
for file in {files}; do sed s/bad/good/g "$file" > new && cat new > "$file"; rm new; done'''
"#;

/// A mode and an id, as git lists them.
type Entries = BTreeMap<String, (String, String)>;

/// A mode and a content.
type Contents = BTreeMap<String, (String, Vec<u8>)>;

/// The content of a commit, the index, and the files with their executable bits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    head: String,
    tree: Contents,
    index: Contents,
    files: BTreeMap<String, (u32, String)>,
}

/// What becomes of the checks of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Fine,
    /// The command of the fix fails, or is killed.
    Fails,
    Dies,
    /// The fix kills the program of the hook: git goes on without it.
    Kills,
    /// Somebody saves a file while the fix runs.
    Saves,
    /// The program of the hook is killed after a while, or all processes of the commit.
    HookKilled(Duration),
    Killed(Duration),
}

struct History<'a> {
    place: Place<'a>,
    random: Random,
    seed: u64,
    written: u64,
    contents: BTreeMap<String, Vec<u8>>,
    story: Vec<String>,
}

impl History<'_> {
    fn git(&mut self, args: &[&str]) -> Option<i32> {
        let ran = self.place.try_git(args);
        self.story.push(format!("git {args:?}: {:?}", ran.code));
        ran.code
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn word(&mut self) -> String {
        self.written += 1;
        format!("word-{}-{}", self.seed, self.written)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.place.dir.join(path)).unwrap_or_default()
    }

    /// A content with a few random edits, each of which may need a fix.
    fn edited(&mut self, content: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> =
            content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        for _ in 0..=self.random.below(3) {
            let ending = *self.random.of(&["", "", " ", "\t", "  \t", " bad", " bad "]);
            let line = format!("{}{ending}\n", self.word()).into_bytes();
            let at = usize::try_from(self.random.below(lines.len() as u64 + 1)).unwrap();
            match self.random.below(20) {
                0..=6 => lines.insert(at, line),
                7..=13 if at < lines.len() => lines[at] = line,
                14..=15 if at < lines.len() => drop(lines.remove(at)),
                16 => lines.extend([b"\n".to_vec(), b"\n".to_vec()]),
                17 => drop(lines.last_mut().map(|last| last.pop_if(|byte| *byte == b'\n'))),
                18 if self.chance(30) => lines.clear(),
                19 if self.chance(20) => lines.insert(at, b"\0 \n".to_vec()),
                _ => lines.push(line),
            }
        }
        lines.concat()
    }

    fn write(&mut self, path: &str, content: &[u8]) {
        let at = self.place.dir.join(path);
        let parent = at.parent().unwrap();
        for above in [parent.parent().unwrap(), parent] {
            if above.starts_with(&self.place.dir) && !above.is_dir() {
                fs::remove_file(above).ok();
            }
        }
        if at.is_symlink() {
            fs::remove_file(&at).unwrap();
        }
        fs::create_dir_all(parent).unwrap();
        fs::write(&at, content).unwrap();
        self.story.push(format!("writes {path}: {:?}", String::from_utf8_lossy(content)));
    }

    fn edit(&mut self, path: &str) {
        let content = self.edited(&self.read(path));
        self.write(path, &content);
    }

    /// Something staged.
    fn stage(&mut self) {
        let path = *self.random.of(&PATHS);
        match self.random.below(20) {
            0..=11 => {
                self.edit(path);
                self.git(&["add", "--", path]);
            }
            // The index alone has it.
            12 => {
                let there = self.read(path);
                self.edit(path);
                self.git(&["add", "--", path]);
                self.write(path, &there);
            }
            13 => drop(self.git(&["rm", "-q", "--cached", "--", path])),
            14 => drop(self.git(&["rm", "-q", "-f", "--", path])),
            15 => {
                let to = format!("{}.txt", self.word());
                self.git(&["mv", "--", path, &to]);
            }
            16 => drop(self.git(&["update-index", "--chmod=+x", "--", path])),
            17 => drop(self.git(&["update-index", "--chmod=-x", "--", path])),
            18 => {
                let place = self.place.clone();
                fs::remove_file(place.dir.join("link.txt")).ok();
                place.link(&self.word(), "link.txt");
                self.git(&["add", "link.txt"]);
            }
            _ => {
                fs::create_dir_all(self.place.dir.join("sub.txt")).unwrap();
                let entry = format!("160000,{:040x},sub.txt", self.random.below(9) + 1);
                self.git(&["update-index", "--add", "--cacheinfo", &entry]);
            }
        }
    }

    /// Something that is not staged.
    fn leave(&mut self) {
        let path = *self.random.of(&PATHS);
        let at = self.place.dir.join(path);
        match self.random.below(20) {
            0..=12 => self.edit(path),
            13 => drop(fs::remove_file(&at)),
            14 | 15 => {
                let mode = if self.chance(50) { 0o755 } else { 0o644 };
                fs::set_permissions(&at, fs::Permissions::from_mode(mode)).ok();
                self.story.push(format!("chmod {mode:o} {path}"));
            }
            16 => {
                let path = format!("{}.txt", self.word());
                self.edit(&path);
                self.git(&["add", "-N", "--", &path]);
            }
            17 => {
                let path = format!("{}.txt", self.word());
                self.edit(&path);
            }
            18 if at.is_file() => {
                fs::remove_file(&at).unwrap();
                self.place.link("b c.txt", path);
                self.story.push(format!("{path} is a link now"));
            }
            // A folder that is somewhere else now.
            19 if at.parent().is_some_and(|folder| folder.ends_with("d") && folder.is_dir()) => {
                let (there, moved) = (self.place.dir.join("d"), self.place.lab.path("moved"));
                if !there.is_symlink() && !moved.exists() {
                    fs::rename(&there, &moved).unwrap();
                    self.place.link(moved.as_str(), "d");
                    self.story.push("d is a link to a folder elsewhere".to_owned());
                }
            }
            _ => {}
        }
    }

    /// Begins a merge with a commit that changes a few files, and resolves its conflicts.
    fn begin_merge(&mut self) {
        let base = self.place.git(&["rev-list", "--max-count=3", "HEAD"]);
        let base = base.lines().last().unwrap().to_owned();
        let index = self.place.lab.path("other-index");
        let with = [("GIT_INDEX_FILE", index.as_str())];
        let git = |args: &[&str]| self.place.run("git", args, &with).success().out;
        git(&["read-tree", &base]);
        let scratch = self.place.lab.path("scratch");
        for _ in 0..2 {
            let path = *self.random.of(&PATHS);
            let old = self.place.run("git", &["show", &format!("{base}:{path}")], &[]).out;
            let new = self.edited(old.as_bytes());
            fs::write(&scratch, new).unwrap();
            let id = self.place.git(&["hash-object", "-w", "--no-filters", scratch.as_str()]);
            let entry = format!("100644,{},{path}", id.trim());
            let git = |args: &[&str]| self.place.run("git", args, &with).success().out;
            git(&["update-index", "--add", "--replace", "--cacheinfo", &entry]);
        }
        let git = |args: &[&str]| self.place.run("git", args, &with).success().out;
        let tree = git(&["write-tree"]);
        let other = self.place.git(&["commit-tree", tree.trim(), "-p", &base, "-m", "other"]);
        self.git(&["merge", "-q", "--no-commit", "--no-ff", other.trim()]);
        let unmerged = self.place.git(&["diff", "--name-only", "-z", "--diff-filter=U"]);
        for path in unmerged.split_terminator('\0') {
            let text = String::from_utf8(self.read(path)).unwrap();
            let is_marker =
                |line: &&str| ["<<<<", "====", ">>>>"].iter().any(|m| line.starts_with(m));
            let both: String = text.split_inclusive('\n').filter(|line| !is_marker(line)).collect();
            let resolved = self.edited(both.as_bytes());
            self.write(path, &resolved);
            self.git(&["add", "--", path]);
        }
    }

    fn is_merging(&self) -> bool {
        self.place.git_folder().join("MERGE_HEAD").exists()
    }

    /// The arguments of a random commit.
    fn commit_args(&mut self) -> Vec<String> {
        let mut args = vec!["commit".to_owned(), "-q".into(), "-m".into(), self.word()];
        match self.random.below(10) {
            0..=4 => {}
            5..=6 => args.push("-a".into()),
            7 if !self.is_merging() => args.push("--amend".into()),
            8..=9 if !self.is_merging() => {
                let tracked = self.place.git(&["ls-files", "-z"]);
                let all: Vec<&str> = tracked.split_terminator('\0').collect();
                args.push("--".into());
                for _ in 0..=self.random.below(2) {
                    args.push((*self.random.of(&all)).to_owned());
                }
            }
            _ => {}
        }
        args
    }

    fn content(&mut self, mode: &str, id: &str) -> Vec<u8> {
        if mode == "160000" {
            return id.as_bytes().to_vec();
        }
        if let Some(known) = self.contents.get(id) {
            return known.clone();
        }
        let content = self.place.git(&["cat-file", "blob", id]).into_bytes();
        self.contents.insert(id.to_owned(), content.clone());
        content
    }

    fn contents(&mut self, listed: Entries) -> Contents {
        let pair = |(path, (mode, id)): (String, (String, String))| {
            let content = self.content(&mode, &id);
            (path, (mode, content))
        };
        listed.into_iter().map(pair).collect()
    }

    fn tree(&mut self, commit: &str) -> Contents {
        let listed = self.place.git(&["ls-tree", "-r", "-z", commit]);
        let entry = |line: &str| {
            let (head, path) = line.split_once('\t').unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            (path.to_owned(), (words[0].to_owned(), words[2].to_owned()))
        };
        let entries = listed.split_terminator('\0').map(entry).collect();
        self.contents(entries)
    }

    fn index(&mut self) -> Contents {
        let listed = self.place.git(&["ls-files", "--stage", "-z"]);
        let entry = |line: &str| {
            let (head, path) = line.split_once('\t').unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            (path.to_owned(), (words[0].to_owned(), words[1].to_owned()))
        };
        let mut entries: Entries = listed.split_terminator('\0').map(entry).collect();
        // Those of `git add -N`.
        let intended = self.place.git(&["diff", "--name-only", "-z", "--diff-filter=A"]);
        for path in intended.split_terminator('\0') {
            entries.get_mut(path).unwrap().0 = "intended".to_owned();
        }
        self.contents(entries)
    }

    fn state(&mut self) -> State {
        let (tree, index) = (self.tree("HEAD"), self.index());
        State { head: self.place.head(), tree, index, files: files(self.place.dir.as_std_path()) }
    }

    /// What git makes of a commit without hooks. Afterwards all is as it was.
    fn without_hooks(&mut self, before: &State, args: &[String]) -> Option<State> {
        let folder = self.place.git_folder();
        let aside = self.place.lab.path("aside");
        fs::create_dir_all(&aside).unwrap();
        let kept = ["index", "MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "AUTO_MERGE"];
        let copy = |from: &std::path::Path, to: &std::path::Path| {
            fs::remove_file(to).ok();
            if let Ok(meta) = from.metadata() {
                fs::copy(from, to).unwrap();
                let file = fs::File::options().write(true).open(to).unwrap();
                file.set_modified(meta.modified().unwrap()).unwrap();
            }
        };
        kept.iter().for_each(|name| copy(&folder.join(name), aside.join(name).as_std_path()));
        let mut all = vec!["-c", "core.hooksPath=/dev/null"];
        all.extend(args.iter().map(String::as_str));
        let ran = self.place.try_git(&all);
        let after = (ran.code == Some(0)).then(|| self.state());
        self.place.git(&["update-ref", "HEAD", &before.head]);
        kept.iter().for_each(|name| copy(aside.join(name).as_std_path(), &folder.join(name)));
        after
    }

    /// What the commit, the index and the files hold if the fixes go as they should. `None` if it is refused.
    fn plan(&mut self, before: &State, plain: &State, how: How, save: &str) -> Option<State> {
        let merged = fs::read_to_string(self.place.git_folder().join("MERGE_HEAD")).ok();
        let merged = merged.map(|id| self.tree(id.trim()));
        let is_staged = |path: &&String| {
            let now = plain.tree.get(*path);
            before.tree.get(*path) != now
                && merged.as_ref().is_none_or(|other| other.get(*path) != now)
        };
        let all: BTreeSet<&String> = before.tree.keys().chain(plain.tree.keys()).collect();
        let staged: Vec<&String> = all.into_iter().filter(is_staged).collect();
        let mut after = plain.clone();
        let mut fixed_paths = Vec::new();
        let mut runs_command = false;
        for path in &staged {
            let Some((mode, content)) = plain.tree.get(*path) else { continue };
            let Some(fixed) = fixed(path, mode, content) else { continue };
            runs_command |= path.ends_with(".src");
            after.tree.insert((*path).clone(), (mode.clone(), fixed.clone()));
            after.index.insert((*path).clone(), (mode.clone(), fixed.clone()));
            fixed_paths.push(((*path).clone(), content.clone(), fixed));
        }
        if runs_command && how == How::Kills {
            return Some(plain.clone());
        }
        let would_be_empty =
            staged.iter().all(|path| before.tree.get(*path) == after.tree.get(*path));
        let fails = runs_command && matches!(how, How::Fails | How::Dies);
        if fails || would_be_empty && merged.is_none() && !fixed_paths.is_empty() {
            return None;
        }
        if runs_command && how == How::Saves {
            let new = (0o100_000, String::new());
            let (_, content) = after.files.entry(self.saved_file().to_owned()).or_insert(new);
            content.push_str(&format!("\n{save}\n").escape_default().to_string());
        }
        for (path, base, fixed) in fixed_paths {
            let below_link = self.place.dir.join(&path).parent().is_some_and(|at| at.is_symlink());
            let Some((mode, ours)) = after.files.get_mut(&path).filter(|_| !below_link) else {
                continue;
            };
            if *mode & 0o120_000 != 0o120_000 {
                *ours = self.merged(&base, ours, &fixed);
            }
        }
        Some(after)
    }

    /// The file that is saved while a fix runs.
    fn saved_file(&self) -> &'static str {
        if self.place.dir.join("m.src").is_symlink() { "saved" } else { "m.src" }
    }

    /// A file with its unstaged edits and a fix, as git merges them; if they conflict, as it is.
    fn merged(&self, base: &[u8], ours: &str, fixed: &[u8]) -> String {
        if base.escape_ascii().to_string() == ours {
            return fixed.escape_ascii().to_string();
        }
        let names = ["ours", "base", "fixed"].map(|name| self.place.lab.path(name));
        let contents = [&unescaped(ours), base, fixed];
        names.iter().zip(contents).for_each(|(name, content)| fs::write(name, content).unwrap());
        let mut args = vec!["merge-file", "-q", "-p"];
        args.extend(names.iter().map(|name| name.as_str()));
        let ran = self.place.try_git(&args);
        if ran.code == Some(0) {
            ran.out.as_bytes().escape_ascii().to_string()
        } else {
            ours.into()
        }
    }

    /// The processes that `parent` has started.
    fn children(&self, parent: &str) -> Vec<String> {
        let ran = self.place.run("pgrep", &["-P", parent], &[]);
        ran.out.lines().map(str::to_owned).collect()
    }

    /// Commits, and kills the program of the hook after a while, or all that belongs to the commit. Returns when none
    /// of its processes is left.
    fn kill_commit(&mut self, args: &[String], after: Duration, is_all: bool) {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 9>&1; exec git \"$@\" > /dev/null", "sh"]).args(args);
        command.current_dir(&self.place.dir).envs(self.place.environment());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = spawn(command.process_group(0)).unwrap();
        std::thread::sleep(after);
        let git = child.id().to_string();
        if is_all {
            self.place.try_run("kill", &["-s", "KILL", "--", &format!("-{git}")]);
        } else {
            let programs =
                self.children(&git).iter().flat_map(|shim| self.children(shim)).collect();
            let programs: Vec<String> = programs;
            for program in programs {
                self.place.try_run("kill", &["-s", "KILL", &program]);
            }
        }
        let mut rest = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        let end = child.wait().unwrap();
        self.story.push(format!("killed after {after:?}: {end}"));
        // As a person does whom git tells of its locks.
        for entry in fs::read_dir(self.place.git_folder()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|name| name == "lock") {
                self.story.push(format!("left: {:?}", entry.file_name()));
                assert!(is_all, "{}", self.tell("a lock is left"));
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    fn tell(&self, what: &str) -> String {
        format!("seed {}: {what}\n{}", self.seed, self.story.join("\n"))
    }

    fn compare<T: Clone + Debug + PartialEq>(
        &self,
        found: &BTreeMap<String, T>,
        wanted: &BTreeMap<String, T>,
        what: &str,
    ) {
        for path in found.keys().chain(wanted.keys()) {
            let (found, wanted) = (found.get(path), wanted.get(path));
            assert_eq!(found, wanted, "{}", self.tell(&format!("{what}: {path}")));
        }
    }

    fn commit(&mut self, how: How) {
        let args = self.commit_args();
        let before = self.state();
        let plain = self.without_hooks(&before, &args);
        let save = self.word();
        let planned = plain.as_ref().and_then(|plain| self.plan(&before, plain, how, &save));
        self.story.push(format!("git {args:?}, {how:?}, which is {}", planned.is_some()));
        if let How::Killed(after) | How::HookKilled(after) = how {
            self.kill_commit(&args, after, matches!(how, How::Killed(_)));
            return self.check_killed(&before, plain.as_ref(), planned.as_ref());
        }
        let word = format!("{how:?}").to_lowercase();
        let file = self.place.dir.join(self.saved_file());
        let with = [("FIX_HOW", &word[..]), ("FIX_WORD", &save), ("FIX_FILE", file.as_str())];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = self.place.run("git", &args, &with);
        self.story.push(format!("{:?}\n{}{}", ran.code, ran.out, ran.err));
        assert!(!ran.err.contains("panicked"), "{}", self.tell("panic"));
        let after = self.state();
        assert_eq!(ran.code == Some(0), planned.is_some(), "{}", self.tell("the exit code"));
        let wanted = planned.unwrap_or_else(|| before.clone());
        self.compare(&after.tree, &wanted.tree, "the commit");
        self.compare(&after.index, &wanted.index, "the index");
        self.compare(&after.files, &wanted.files, "the files");
    }

    /// After a kill everything is as it was, as without hooks, or as planned.
    fn check_killed(&mut self, before: &State, plain: Option<&State>, planned: Option<&State>) {
        let after = self.state();
        let states: Vec<&State> = [Some(before), plain, planned].into_iter().flatten().collect();
        let is_known = states.iter().any(|state| state.tree == after.tree);
        assert!(is_known, "{}", self.tell("another commit"));
        let names = |state: &&State| state.index.keys().cloned().collect::<Vec<_>>();
        let names: BTreeSet<String> = states.iter().flat_map(names).collect();
        for name in names.iter().chain(after.index.keys()) {
            let now = after.index.get(name);
            let is_known = states.iter().any(|state| state.index.get(name) == now);
            assert!(is_known, "{}", self.tell(&format!("the index of {name}: {now:?}")));
        }
        for (name, now) in &after.files {
            let is_left = name.contains(".xtask-");
            let is_known = is_left || states.iter().any(|state| state.files.get(name) == Some(now));
            assert!(is_known, "{}", self.tell(&format!("the file {name}: {now:?}")));
        }
        for name in before.files.keys() {
            assert!(after.files.contains_key(name), "{}", self.tell(&format!("{name} is gone")));
        }
    }

    /// A commit after all of this, of a file in each folder.
    fn end(&mut self) {
        for path in ["end.txt", "d/end.txt", "d/e/end.txt"] {
            self.write(path, b"end \n");
            self.git(&["add", "--", path]);
        }
        self.commit(How::Fine);
        let left = files(self.place.dir.as_std_path());
        let left: Vec<&String> = left.keys().filter(|name| name.contains(".xtask-")).collect();
        assert!(left.is_empty(), "{}", self.tell(&format!("{left:?} are left")));
    }

    fn go(&mut self) {
        for _ in 0..COMMITS {
            if self.chance(15) {
                self.begin_merge();
            }
            (0..=self.random.below(3)).for_each(|_| self.stage());
            (0..self.random.below(4)).for_each(|_| self.leave());
            let how = match self.random.below(20) {
                0 => How::Fails,
                1 => How::Dies,
                2 => How::Kills,
                3 | 4 => How::Saves,
                5 | 6 => How::HookKilled(Duration::from_micros(self.random.below(120_000))),
                7 => How::Killed(Duration::from_micros(self.random.below(150_000))),
                _ => How::Fine,
            };
            self.commit(how);
        }
        self.end();
    }
}

/// What the fixes make of a content, if they change it.
fn fixed(path: &str, mode: &str, content: &[u8]) -> Option<Vec<u8>> {
    if !mode.starts_with("100") {
        return None;
    }
    let text = String::from_utf8_lossy(content);
    let fixed = if path.ends_with(".src") {
        text.replace("bad", "good")
    } else if path.ends_with(".txt") && !content.contains(&0) {
        let lines = text.split('\n').map(|line| line.trim_end_matches([' ', '\t']));
        let body = lines.collect::<Vec<_>>().join("\n");
        let body = body.trim_end_matches('\n');
        if body.is_empty() { String::new() } else { format!("{body}\n") }
    } else {
        return None;
    };
    (fixed.as_bytes() != content).then(|| fixed.into_bytes())
}

/// The bytes that `escape_ascii` has escaped.
fn unescaped(text: &str) -> Vec<u8> {
    let plain = [("\\n", "\n"), ("\\t", "\t"), ("\\x00", "\0")];
    plain.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)).into_bytes()
}

/// A repository with hooks, these checks and a few files, with a linked worktree.
fn scene(lab: &Lab) {
    let repo = lab.repo();
    for path in PATHS {
        repo.write(path, "one\ntwo\nthree\nfour\nfive\n");
    }
    repo.commit("files");
    repo.git(&["branch", "-q", "-f", "orchestration-tools"]);
    repo.canonical(&[(VALIDATE_FILE, Some(CHECKS))]);
    repo.git(&["switch", "-q", "-c", "feature"]);
    repo.install_hooks().success();
    repo.git(&["worktree", "add", "-q", "-b", "linked", "../linked", "feature"]);
}

fn play(lab: &Lab, seed: u64) {
    let place = lab.place(if seed % 3 == 2 { "linked" } else { "repo" });
    let (contents, story) = (BTreeMap::new(), Vec::new());
    History { place, random: Random(seed), seed, written: 0, contents, story }.go();
}

/// The seeds that are tried.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::vars().find(|(name, _)| name == "XTASK_COMMITS");
    let asked = asked.and_then(|(_, text)| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    asked.unwrap_or(circle::either(0..4, 0..40))
}

#[test]
fn random_commits_hold_their_fixes_and_lose_no_edit() {
    let lab = Lab::new();
    scene(&lab);
    let seeds: Vec<u64> = seeds().collect();
    // They wait for programs more than they work.
    std::thread::scope(|scope| {
        for part in 0..3 {
            let (seeds, lab) = (&seeds, &lab);
            scope.spawn(move || {
                for seed in seeds.iter().skip(part).step_by(3) {
                    play(&lab.copy(), *seed);
                }
            });
        }
    });
}
