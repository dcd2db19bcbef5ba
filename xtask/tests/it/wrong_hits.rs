//! The wrong-hit suite: ways in which a runner comes to replay a pass for a state that did not pass.
//! `cargo xbench -- wrong-hits` asks other runners the same.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::testkit::{Lab, Place, program, spawn};

/// One check, `c`, over `src/**`, that passes if `src/input` says `good`.
const PLAIN: &str = "[[check]]\nname = 'c'\nrun = 'grep -q good src/input'\ninputs = ['src/**']\n";

pub fn scene<'a>(lab: &'a Lab, checks: &str) -> Place<'a> {
    let repo = lab.repo();
    repo.write("src/input", "good\n");
    repo.write("setup/validate.toml", checks);
    repo.commit("checks");
    repo
}

/// What came of the check `c`, and of the run.
#[track_caller]
pub fn fast(repo: &Place<'_>) -> String {
    fast_with(repo, &[])
}

#[track_caller]
fn fast_with(repo: &Place<'_>, variables: &[(&str, &str)]) -> String {
    let ran = repo.xtask_with(&["validate", "--fast", "--no-fix", "--json"], variables);
    let json = ran.json();
    let outcome = json["checks"][0]["outcome"].as_str().unwrap().to_owned();
    let is_good = ["passed", "cached"].contains(&outcome.as_str());
    assert_eq!(ran.code, Some(i32::from(!is_good)), "{}", ran.out);
    outcome
}

/// It passes, and is skipped from then on.
#[track_caller]
pub fn settle(repo: &Place<'_>) {
    assert_eq!(fast(repo), "passed");
    assert_eq!(fast(repo), "cached");
}

/// The program in the background, for what happens while it runs.
pub fn start(repo: &Place<'_>, args: &[&str]) -> Child {
    let mut command = unheard(repo, args);
    spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap()
}

/// The same with what it says kept for `wait_with_output`: it must not say more than a pipe holds.
pub fn start_heard(repo: &Place<'_>, args: &[&str]) -> Child {
    spawn(unheard(repo, args).stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap()
}

fn unheard(repo: &Place<'_>, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).current_dir(&repo.dir).envs(repo.environment());
    for name in xtask_base::process::GIT_LOCAL_VARS {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Waits for a condition, within a bound.
#[track_caller]
pub fn wait_for(what: &str, is: impl Fn() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not come about");
}

/// A check that says that it has begun, and waits before it reads its input.
fn slow(lab: &Lab) -> String {
    let (begun, go) = (lab.path("begun"), lab.path("go"));
    format!(
        "[[check]]\nname = 'c'\ninputs = ['src/**']\ntools = ['grep', 'sleep']\nshell = true\n\
         run = 'touch {begun}; while test -e {begun} && ! test -e {go}; do sleep 0.01; done; grep -q good src/input'\n"
    )
}

fn times(path: &camino::Utf8Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn set_time(path: &camino::Utf8Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn input_edited_and_restored_during_a_check_is_not_cached() {
    let lab = Lab::new();
    let repo = scene(&lab, &slow(&lab));
    let input = repo.dir.join("src/input");
    repo.write("src/input", "bad!\n");
    let time = times(&input);
    let mut run = start(&repo, &["validate", "--fast"]);
    wait_for("the check", || lab.path("begun").exists());
    repo.write("src/input", "good\n");
    fs::write(lab.path("go"), "").unwrap();
    assert!(run.wait().unwrap().success(), "it read what was good");
    repo.write("src/input", "bad!\n");
    set_time(&input, time);
    assert_eq!(fast(&repo), "failed");

    // And put back before it ends: what it read was not what was looked at before and after.
    for name in ["begun", "go"] {
        fs::remove_file(lab.path(name)).unwrap();
    }
    let (begun, go, read) = (lab.path("begun"), lab.path("go"), lab.path("read"));
    repo.write(
        "setup/validate.toml",
        format!(
            "[[check]]\nname = 'c'\ninputs = ['src/**']\ntools = ['grep', 'sleep']\nshell = true\n\
             run = 'touch {begun}; while test -e {begun} && ! test -e {go}; do sleep 0.01; done; grep -q good src/input \
             && touch {read} && while test -e {go}; do sleep 0.01; done'\n"
        ),
    );
    let time = times(&input);
    let mut run = start(&repo, &["validate", "--fast"]);
    wait_for("the check", || begun.exists());
    repo.write("src/input", "good\n");
    fs::write(&go, "").unwrap();
    wait_for("its reading", || read.exists());
    repo.write("src/input", "bad!\n");
    set_time(&input, time);
    fs::remove_file(&go).unwrap();
    assert!(run.wait().unwrap().success());
    fs::write(&go, "").unwrap();
    assert_eq!(fast(&repo), "failed");
}

#[test]
fn killed_run_is_not_cached() {
    let lab = Lab::new();
    let repo = scene(&lab, &slow(&lab));
    fs::write(lab.path("go"), "").unwrap();
    settle(&repo);
    repo.write("src/input", "good, and more\n");
    for name in ["begun", "go"] {
        fs::remove_file(lab.path(name)).unwrap();
    }
    let mut run = start(&repo, &["validate", "--fast"]);
    wait_for("the check", || lab.path("begun").exists());
    run.kill().unwrap();
    run.wait().unwrap();
    fs::write(lab.path("go"), "").unwrap();
    assert_eq!(fast(&repo), "passed", "it runs again");
    assert_eq!(fast(&repo), "cached");
}

/// The same state was run once more, and that run was killed: what it would have come to is unknown.
#[test]
fn killed_rerun_invalidates_the_cached_pass() {
    let lab = Lab::new();
    let repo = scene(&lab, &slow(&lab));
    fs::write(lab.path("go"), "").unwrap();
    settle(&repo);
    for name in ["begun", "go"] {
        fs::remove_file(lab.path(name)).unwrap();
    }
    let mut run = start(&repo, &["validate"]);
    wait_for("the check", || lab.path("begun").exists());
    run.kill().unwrap();
    run.wait().unwrap();
    fs::write(lab.path("go"), "").unwrap();
    assert_eq!(fast(&repo), "passed");
}

#[test]
fn edited_command_or_swapped_arguments_miss_the_cache() {
    let lab = Lab::new();
    let repo = scene(&lab, "");
    let with = |run: &str| {
        repo.write(
            "setup/validate.toml",
            format!("[[check]]\nname = 'c'\nrun = \"{run}\"\ninputs = ['src/**']\n"),
        );
        fast(&repo)
    };
    repo.write("src/other", "other\n");
    assert_eq!(with("grep -q good src/input"), "passed");
    assert_eq!(with("grep -q good src/input"), "cached");
    assert_eq!(with("grep -q bad src/input"), "failed");
    assert_eq!(with("cmp src/input src/input"), "passed");
    assert_eq!(with("cmp src/input src/other"), "failed");
    assert_eq!(with("test 1 -lt 2"), "passed");
    assert_eq!(with("test 2 -lt 1"), "failed", "the same words in another order");
    assert_eq!(with("test '1 -lt' 2"), "failed", "the same letters in other words");
}

#[test]
fn renamed_or_new_file_in_a_glob_misses_the_cache() {
    let lab = Lab::new();
    let repo = scene(&lab, PLAIN);
    repo.write("src/spare", "bad!\n");
    settle(&repo);
    fs::rename(repo.dir.join("src/input"), repo.dir.join("src/kept")).unwrap();
    fs::rename(repo.dir.join("src/spare"), repo.dir.join("src/input")).unwrap();
    assert_eq!(fast(&repo), "failed", "the same contents under other names");
    fs::rename(repo.dir.join("src/kept"), repo.dir.join("src/input")).unwrap();

    let lab = Lab::new();
    let repo = scene(
        &lab,
        "[[check]]\nname = 'c'\nrun = 'grep -rqL bad src'\ninputs = ['src/**']\nshell = false\n",
    );
    repo.write(
        "setup/validate.toml",
        "[[check]]\nname = 'c'\nrun = '! grep -rq bad src'\ninputs = ['src/**']\nshell = true\n\
         tools = ['grep']\n",
    );
    settle(&repo);
    repo.write("src/deep/new", "bad\n");
    assert_eq!(fast(&repo), "failed");
    fs::remove_file(repo.dir.join("src/deep/new")).unwrap();
    assert_eq!(fast(&repo), "cached", "the very state that passed");
}

#[test]
fn changed_executable_bit_or_symlink_target_misses_the_cache() {
    let lab = Lab::new();
    let repo =
        scene(&lab, "[[check]]\nname = 'c'\nrun = 'test ! -x src/input'\ninputs = ['src/**']\n");
    settle(&repo);
    fs::set_permissions(repo.dir.join("src/input"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fast(&repo), "failed");

    let lab = Lab::new();
    let repo = scene(
        &lab,
        "[[check]]\nname = 'c'\nrun = 'grep -q good src/link'\ninputs = ['src/link']\n",
    );
    repo.write("elsewhere/good", "good\n");
    repo.write("elsewhere/bad", "bad\n");
    repo.link("../elsewhere/good", "src/link");
    settle(&repo);
    fs::remove_file(repo.dir.join("src/link")).unwrap();
    repo.link("../elsewhere/bad", "src/link");
    assert_eq!(fast(&repo), "failed", "it leads elsewhere");
    fs::remove_file(repo.dir.join("src/link")).unwrap();
    repo.link("../elsewhere/good", "src/link");
    assert_eq!(fast(&repo), "cached");
    repo.write("elsewhere/good", "bad\n");
    assert_eq!(fast(&repo), "failed", "what it leads to is another one");
}

#[test]
fn edit_with_same_size_and_mtime_misses_the_cache() {
    let lab = Lab::new();
    let repo = scene(&lab, PLAIN);
    settle(&repo);
    let input = repo.dir.join("src/input");
    let before = fs::metadata(&input).unwrap();
    repo.write("src/input", "bad!\n");
    set_time(&input, before.modified().unwrap());
    let after = fs::metadata(&input).unwrap();
    assert_eq!(
        (before.len(), before.mtime_nsec(), before.ino()),
        (after.len(), after.mtime_nsec(), after.ino()),
        "nothing but the time of the change itself tells"
    );
    assert_eq!(fast(&repo), "failed");
}

/// Edits in quick succession, for as many as fall into one step of the clock of the file system.
#[test]
fn edits_within_one_clock_tick_miss_the_cache() {
    let lab = Lab::new();
    let repo = scene(&lab, PLAIN);
    let input = repo.dir.join("src/input");
    let time = times(&input);
    for round in 0..40 {
        let word = if round % 2 == 0 { "bad!\n" } else { "good\n" };
        fs::write(&input, word).unwrap();
        set_time(&input, time);
        let wanted = if round % 2 == 0 { ["failed", "failed"] } else { ["passed", "cached"] };
        assert!(wanted.contains(&fast(&repo).as_str()), "round {round}");
    }
}

#[test]
fn empty_variable_differs_from_an_unset_one() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        "[[check]]\nname = 'c'\nrun = 'test -z \"${XX+set}\"'\nshell = true\ntools = ['test']\n\
         inputs = ['src/**']\nenv = ['XX']\n",
    );
    settle(&repo);
    assert_eq!(fast_with(&repo, &[("XX", "")]), "failed");
    assert_eq!(fast_with(&repo, &[("XX", "1")]), "failed");
    assert_eq!(fast(&repo), "cached");
}

#[test]
fn different_tool_on_path_misses_the_cache() {
    let lab = Lab::new();
    let repo = scene(&lab, "[[check]]\nname = 'c'\nrun = 'judge src/input'\ninputs = ['src/**']\n");
    let tool = |folder: &str, version: &str, code: i32| {
        let place = lab.place(folder);
        let text =
            format!("#!/bin/sh\ntest \"$1\" = --version && echo {version} && exit\nexit {code}\n");
        fs::create_dir_all(&place.dir).unwrap();
        place.write("judge", text);
        place.make_executable("judge");
        place.dir.to_string()
    };
    let usual = std::env::var("PATH").unwrap();
    let (one, two) = (tool("one", "1", 0), tool("two", "1", 1));
    let path = |folders: &[&str]| format!("{}:{usual}", folders.join(":"));
    let with = |folders: &[&str]| fast_with(&repo, &[("PATH", &path(folders))]);
    assert_eq!(with(&[&one]), "passed");
    assert_eq!(with(&[&one]), "cached");
    assert_eq!(with(&[&two, &one]), "failed", "another folder comes first");
    assert_eq!(with(&[&one, &two]), "cached");
    tool("one", "2", 1);
    assert_eq!(with(&[&one]), "failed", "replaced in its place, with another version");
    tool("one", "1", 0);
    assert_eq!(with(&[&one]), "cached");
    tool("one", "1", 1);
    assert_eq!(with(&[&one]), "failed", "replaced in its place, with the same version");
}

/// The program on PATH stays what it is, and another one answers behind it.
#[test]
fn changed_tool_behind_a_shim_misses_the_cache() {
    let lab = Lab::new();
    let repo = scene(&lab, "[[check]]\nname = 'c'\nrun = 'judge src/input'\ninputs = ['src/**']\n");
    let bin = lab.place("bin");
    fs::create_dir_all(&bin.dir).unwrap();
    let real = lab.path("real");
    bin.write("judge", format!("#!/bin/sh\nexec {real} \"$@\"\n"));
    bin.make_executable("judge");
    let make_real = |version: u32, code: u32| {
        lab.place("").write(
            "real",
            format!("#!/bin/sh\ntest \"$1\" = --version && echo {version} && exit\nexit {code}\n"),
        );
        lab.place("").make_executable("real");
    };
    make_real(1, 0);
    let path = format!("{}:{}", bin.dir, std::env::var("PATH").unwrap());
    let with = || fast_with(&repo, &[("PATH", &path)]);
    assert_eq!((with().as_str(), with().as_str()), ("passed", "cached"));
    make_real(2, 1);
    assert_eq!(with(), "failed");
}

#[test]
fn check_names_that_differ_by_a_separator_do_not_collide() {
    let lab = Lab::new();
    let repo = scene(&lab, "");
    let names = ["a/b", "a:b", "a-b", "a_b", "a.b", "ab"];
    let checks: String = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let run = if at == 0 { "true" } else { "false" };
            format!("[[check]]\nname = '{name}'\nrun = '{run}'\ninputs = ['src/**']\n")
        })
        .collect();
    repo.write("setup/validate.toml", checks);
    for _ in 0..2 {
        let json = repo.xtask(&["validate", "--fast", "--json"]).status(1).json();
        for (at, check) in json["checks"].as_array().unwrap().iter().enumerate() {
            let is_good = ["passed", "cached"].contains(&check["outcome"].as_str().unwrap());
            assert_eq!(is_good, at == 0, "{check}");
        }
    }
}

#[test]
fn clones_copies_and_worktrees_do_not_share_cached_passes() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        "[[check]]\nname = 'c'\nrun = 'grep -q good local/state'\ninputs = ['src/**']\n",
    );
    repo.write(".gitignore", "/local/\n");
    repo.commit("ignore");
    repo.write("local/state", "good\n");
    settle(&repo);
    repo.git(&["clone", "-q", ".", lab.path("clone").as_str()]);
    assert_eq!(fast(&lab.place("clone")), "failed", "it has no such file");
    repo.git(&["worktree", "add", "-q", lab.path("tree").as_str(), "-b", "tree"]);
    assert_eq!(fast(&lab.place("tree")), "failed");
    assert_eq!(fast(&repo), "cached");
    // A copy brings the git folder along, and with it what was remembered there.
    assert_eq!(repo.run("cp", &["-a", ".", lab.path("copy").as_str()], &[]).code, Some(0));
    fs::remove_file(lab.path("copy/local/state")).unwrap();
    assert_eq!(fast(&lab.place("copy")), "failed", "it is another folder");
}

#[test]
fn failed_run_invalidates_the_cached_pass() {
    let lab = Lab::new();
    let repo = scene(&lab, PLAIN);
    repo.write("src/input", "bad!\n");
    for _ in 0..3 {
        assert_eq!(fast(&repo), "failed");
    }
    repo.write("src/input", "good\n");
    settle(&repo);

    // A check that passes and fails as it likes: a failure takes the pass away that was there.
    let lab = Lab::new();
    let mood = lab.path("mood");
    let repo = scene(
        &lab,
        &format!("[[check]]\nname = 'c'\nrun = 'test -e {mood}'\ninputs = ['src/**']\n"),
    );
    fs::write(&mood, "").unwrap();
    settle(&repo);
    fs::remove_file(&mood).unwrap();
    repo.xtask(&["validate", "--no-fix"]).status(1);
    assert_eq!(fast(&repo), "failed");
}

/// What a needed check depends on counts for those that need it.
#[test]
fn changed_input_of_a_needed_check_misses_the_cache() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        "[[check]]\nname = 'c'\nrun = 'grep -q good src/input'\ninputs = ['other']\nneeds = ['n']\n\
         [[check]]\nname = 'n'\nrun = 'test -e src/input'\ninputs = ['src/input']\n",
    );
    settle(&repo);
    repo.write("src/input", "bad!\n");
    assert_eq!(fast(&repo), "failed");
}

/// The check `c` of this text passes and is skipped; after the disturbance it runs again.
#[track_caller]
pub fn is_seen(checks: &str, prepare: impl Fn(&Place<'_>), disturb: impl Fn(&Place<'_>)) {
    let lab = Lab::new();
    let repo = scene(&lab, checks);
    prepare(&repo);
    settle(&repo);
    disturb(&repo);
    let now = fast(&repo);
    assert_ne!(now, "cached", "{checks}");
}

#[test]
fn literal_paths_with_glob_characters_are_tracked() {
    for name in ["[id].tsx", "{a,b}", "a*b", "!x", "a\\b"] {
        let text = format!("[[check]]\nname = 'c'\nfile = 'pages/{name}'\n");
        let file = format!("pages/{name}");
        is_seen(&text, |repo| repo.write(&file, "x"), |repo| repo.remove(&file));
    }
    is_seen(
        "[[check]]\nname = 'c'\ncwd = 'routes/[id]'\nrun = 'cat check'\ninputs = ['src/app']\n",
        |repo| repo.write("routes/[id]/check", "x"),
        |repo| repo.write("routes/[id]/check", "y"),
    );
    is_seen(
        "[[check]]\nname = 'c'\nrun = 'cat src/app pages/[id].py'\ninputs = ['src/app']\n",
        |repo| repo.write("pages/[id].py", "x"),
        |repo| repo.write("pages/[id].py", "y"),
    );
}

#[test]
fn changes_inside_symlinked_folders_miss_the_cache() {
    let text = "[[check]]\nname = 'c'\nrun = 'true'\ninputs = ['src/**']\n";
    is_seen(
        text,
        |repo| {
            repo.write("data/deep/x", "1");
            repo.link("../data", "src/data");
        },
        |repo| repo.write("data/deep/x", "2"),
    );
    is_seen(
        "[[check]]\nname = 'c'\nfile = 'env'\n",
        |repo| {
            repo.write("real/x", "1");
            repo.link("real", "env");
        },
        |repo| fs::remove_dir_all(repo.dir.join("real")).unwrap(),
    );
    is_seen(
        "[[check]]\nname = 'c'\ncwd = 'app'\nrun = 'true'\ninputs = ['src/app']\n",
        |repo| {
            repo.write("v1/x", "1");
            repo.write("v2/x", "1");
            repo.link("v1", "app");
        },
        |repo| {
            repo.remove("app");
            repo.link("v2", "app");
        },
    );
    // What lies outside is not looked at, so nothing is skipped.
    let lab = Lab::new();
    let repo = scene(&lab, text);
    repo.link(lab.path("home").as_str(), "src/out");
    assert_eq!((fast(&repo).as_str(), fast(&repo).as_str()), ("passed", "passed"));
}

#[test]
fn ignored_files_in_a_named_input_folder_are_tracked() {
    is_seen(
        "[[check]]\nname = 'c'\nrun = 'true'\ninputs = ['gen']\n",
        |repo| {
            repo.write(".gitignore", "gen/*\n!gen/.gitkeep\n");
            repo.write("gen/.gitkeep", "");
            repo.write("gen/x", "1");
        },
        |repo| repo.write("gen/x", "2"),
    );
}

/// A file that comes and goes, and a folder that is swapped, while the check runs.
#[test]
fn files_swapped_during_a_check_are_not_cached() {
    for is_swap in [false, true] {
        let lab = Lab::new();
        let repo = scene(&lab, &slow(&lab));
        repo.write("other/input", "good\n");
        repo.write("src/input", "bad!\n");
        let mut run = start(&repo, &["validate", "--fast"]);
        wait_for("the check", || lab.path("begun").exists());
        let swap =
            |from: &str, to: &str| fs::rename(repo.dir.join(from), repo.dir.join(to)).unwrap();
        if is_swap {
            swap("src", "aside");
            swap("other", "src");
        } else {
            swap("src/input", "aside");
            repo.write("src/input", "good\n");
        }
        fs::write(lab.path("go"), "").unwrap();
        assert!(run.wait().unwrap().success());
        if is_swap {
            swap("src", "other");
            swap("aside", "src");
        } else {
            repo.remove("src/input");
            swap("aside", "src/input");
        }
        assert_eq!(fast(&repo), "failed");
    }
}

const BUILD: &str = "[[check]]\nname = 'c'\nrun = 'grep -q good out'\ninputs = ['src/app']\n\
                     needs = ['build']\n[[check]]\nname = 'build'\nrun = 'cp src/input out'\n\
                     inputs = ['src/input']\n";

/// The pass of a check was that of a stale build, because what it needs was left out.
#[test]
fn pass_with_a_skipped_need_is_not_cached() {
    let lab = Lab::new();
    let repo = scene(&lab, BUILD);
    repo.write(".gitignore", "/out\n");
    settle(&repo);
    repo.write("src/input", "bad!\n");
    repo.xtask(&["validate", "--skip", "build", "--no-fix"]).success();
    assert_eq!(fast(&repo), "failed");
}

/// What a need leaves behind is not known, so nothing that needs it is skipped.
#[test]
fn check_with_an_untracked_need_always_runs() {
    let lab = Lab::new();
    let unknown = BUILD.replace("inputs = ['src/input']", "");
    let repo = scene(&lab, &unknown);
    assert_eq!((fast(&repo).as_str(), fast(&repo).as_str()), ("passed", "passed"));
}

/// A fix changes what a check depends on that passed, and stands in the file before what it needs.
#[test]
fn fix_that_changes_inputs_of_a_need_reruns_its_dependents() {
    let lab = Lab::new();
    let text = "[[check]]\nname = 'c'\nrun = 'grep -q good copy'\ninputs = ['src/app']\nneeds = ['a']\n\
                [[check]]\nname = 'a'\nrun = 'cp src/input copy'\ninputs = ['src/input']\n\
                [[check]]\nname = 'late'\nphase = 'platform'\nrun = 'test -e done'\ninputs = ['done']\n\
                fix = { run = 'sh spoil', risk = 'safe', writes = ['done', 'src/input'] }\n";
    let repo = scene(&lab, text);
    repo.write("spoil", "echo bad > src/input\ntouch done\n");
    let ran = repo.xtask(&["validate", "--json"]).status(1);
    assert_eq!(ran.json()["checks"][0]["outcome"], "failed", "{}", ran.out);
}

/// Another version of a tool is installed while the run goes on, and taken back afterwards.
#[test]
fn tool_changed_during_the_run_misses_the_cache() {
    let lab = Lab::new();
    let bin = lab.place("bin");
    let version = lab.path("version");
    let text = format!(
        "[[check]]\nname = 'c'\nphase = 'quality'\nrun = 'judge src/input'\ninputs = ['src/input']\n\
         tools = ['judge']\n\
         [[check]]\nname = 'install'\nphase = 'environment'\nrun = 'cp src/two {version}'\n"
    );
    let repo = scene(&lab, &text);
    repo.write("src/two", "2\n");
    fs::create_dir_all(&bin.dir).unwrap();
    fs::write(&version, "1\n").unwrap();
    bin.write(
        "judge",
        format!("#!/bin/sh\ntest \"$1\" = --version && exec cat {version}\ngrep -q 2 {version}\n"),
    );
    bin.make_executable("judge");
    let path = format!("{}:{}", bin.dir, std::env::var("PATH").unwrap());
    let variables = [("PATH", path.as_str())];
    repo.xtask_with(&["validate"], &variables).success();
    fs::write(&version, "1\n").unwrap();
    let ran =
        repo.xtask_with(&["validate", "--fast", "--only", "c", "--json"], &variables).status(1);
    assert_eq!(ran.json()["checks"][1]["outcome"], "failed", "{}", ran.out);
}

/// What lies in the worktree without being git's is asked for its version; a script that runs others has
/// to name them.
#[test]
fn worktree_tools_are_versioned_and_scripts_must_name_theirs() {
    let library = |version: u32| {
        format!("#!/usr/bin/env python3\nimport sys\nexec(open('env/lib').read())\n# {version}\n")
    };
    let lab = Lab::new();
    let repo =
        scene(&lab, "[[check]]\nname = 'c'\nrun = 'env/mypy src/input'\ninputs = ['src/input']\n");
    repo.write(".gitignore", "/env/\n");
    repo.write("env/mypy", library(1));
    repo.write("env/lib", "print('1.0')");
    repo.make_executable("env/mypy");
    settle(&repo);
    repo.write("env/lib", "print('2.0')");
    assert_eq!(fast(&repo), "passed");

    for run in ["./check.sh", "sh check.sh", "setsid -w cat src/input", "env cat src/input"] {
        let lab = Lab::new();
        let text = format!("[[check]]\nname = 'c'\nrun = '{run}'\ninputs = ['src/input']\n");
        let repo = scene(&lab, &text);
        repo.write("check.sh", "#!/bin/sh\ncat src/input\n");
        repo.make_executable("check.sh");
        assert_eq!((fast(&repo).as_str(), fast(&repo).as_str()), ("passed", "passed"), "{run}");
        repo.write("setup/validate.toml", format!("{text}tools = ['cat']\n"));
        settle(&repo);
    }
}

/// PATH is read as the command would read it, from the folder in which it starts.
#[test]
fn relative_path_entries_are_resolved_from_the_checks_folder() {
    let lab = Lab::new();
    let repo = scene(
        &lab,
        "[[check]]\nname = 'c'\ncwd = 'web'\nrun = 'judge'\ninputs = ['src/input']\ntools = ['cat']\n",
    );
    for folder in ["bin", "web/bin"] {
        repo.write(&format!("{folder}/judge"), "#!/bin/sh\nexit 0\n");
        repo.make_executable(&format!("{folder}/judge"));
    }
    let path = format!("bin:{}", std::env::var("PATH").unwrap());
    let with = || fast_with(&repo, &[("PATH", path.as_str())]);
    assert_eq!((with().as_str(), with().as_str()), ("passed", "cached"));
    repo.write("web/bin/judge", "#!/bin/sh\ntest \"$1\" = --version\n");
    assert_eq!(with(), "failed");
}

#[test]
fn changed_outside_file_named_in_the_command_misses_the_cache() {
    let lab = Lab::new();
    let judge = lab.path("judge.grep");
    let repo = scene(
        &lab,
        &format!(
            "[[check]]\nname = 'c'\nrun = 'grep -q -f {judge} src/input'\ninputs = ['src/input']\n"
        ),
    );
    fs::write(&judge, "good\n").unwrap();
    settle(&repo);
    fs::write(&judge, "bad\n").unwrap();
    assert_eq!(fast(&repo), "failed");
}

/// What was left out is not hidden by a check without a command that stands between.
#[test]
fn pass_with_an_indirectly_skipped_need_is_not_cached() {
    let lab = Lab::new();
    let text = "[[check]]\nname = 'c'\nrun = 'grep -q good out'\ninputs = ['src/app']\nneeds = ['there']\n\
                [[check]]\nname = 'there'\nfile = 'src'\nneeds = ['build']\n\
                [[check]]\nname = 'build'\nrun = 'cp src/input out'\ninputs = ['src/input']\n";
    let repo = scene(&lab, text);
    repo.write(".gitignore", "/out\n");
    settle(&repo);
    repo.write("src/input", "bad!\n");
    repo.xtask(&["validate", "--skip", "build", "--no-fix"]).success();
    assert_eq!(fast(&repo), "failed");
}

#[test]
fn globs_match_files_behind_symlinked_folders() {
    for inputs in ["src/l/*.txt", "src/**/*.txt", "src/l/**"] {
        let text = format!("[[check]]\nname = 'c'\nrun = 'true'\ninputs = ['{inputs}']\n");
        is_seen(
            &text,
            |repo| {
                repo.write("real/a.txt", "1");
                repo.link("../real", "src/l");
            },
            |repo| repo.write("real/a.txt", "2"),
        );
    }
}

#[test]
fn wrapper_commands_always_run_unless_they_name_their_tools() {
    for (first_line, run) in [
        ("#!/usr/bin/env -S A=1 sh", "./check.sh"),
        ("#!/bin/bash -e", "./check.sh"),
        ("", "prlimit cat src/input"),
    ] {
        let lab = Lab::new();
        let text = format!("[[check]]\nname = 'c'\nrun = '{run}'\ninputs = ['src/input']\n");
        let repo = scene(&lab, &text);
        repo.write_executable("check.sh", &format!("{first_line}\ncat src/input\n"));
        assert_eq!((fast(&repo).as_str(), fast(&repo).as_str()), ("passed", "passed"), "{run}");
    }
    // What a command works on first counts also where git ignores it.
    is_seen(
        "[[check]]\nname = 'c'\nrun = 'python3 gen.py'\ninputs = ['src/app']\n",
        |repo| {
            repo.write(".gitignore", "/gen.py\n");
            repo.write("gen.py", "pass\n");
        },
        |repo| repo.write("gen.py", "raise SystemExit(1)\n"),
    );
}
