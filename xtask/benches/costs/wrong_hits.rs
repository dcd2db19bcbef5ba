//! The wrong-hit suite: does a runner that skips what has not changed ever replay a pass for a state
//! that did not pass? Every case is played to every runner that is installed.
//!
//! A case makes a fresh repository with a check that tells good from bad, runs it, disturbs the
//! state so that the check would fail, and runs it again. The runner is right if it then says so;
//! that the check would fail is asked of the check itself, without any runner. Whether a runner runs
//! something again that it could have skipped is noted in the first row, and is no fault.
//!
//! Nobody is beaten for being wrong here, but we are: the bench panics if a pass of ours never was.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::kit::Bench;
use crate::runners::{Check, Means, Runner, installed};
use crate::scene::{Found, Scene};

/// What became of a case.
enum Verdict {
    /// The runner told the truth.
    Right,
    /// It replayed a pass that never was.
    Wrong,
    /// It was right to skip.
    Skipped,
    /// It ran a check again, whose state had not changed.
    Again,
    /// It cannot be told of what matters here.
    NotApplicable(String),
    /// Nothing could be learned.
    Broken(String),
}

struct Case {
    title: &'static str,
    /// What a runner must be told of, besides files, to be right.
    means: Option<Means>,
    play: fn(&mut Scene<'_>, &Runner) -> Found<Verdict>,
}

const fn case(title: &'static str, play: fn(&mut Scene<'_>, &Runner) -> Found<Verdict>) -> Case {
    Case { title, means: None, play }
}

const CASES: [Case; 19] = [
    case("nothing changed", nothing_changed),
    case("input edited in mid-run, put back after its end", edited_and_put_back_after),
    case("input edited in mid-run, put back before its end", edited_and_put_back_before),
    case("kill -9 in mid-run", killed),
    case("command edited", command_edited),
    case("argument order swapped", arguments_swapped),
    case("file renamed within a glob", file_renamed),
    case("file moved to another folder within a glob", file_moved),
    case("new file in a glob", new_file),
    case("executable bit", executable_bit),
    case("symlink target", symlink_target),
    case("same size and restored mtime", same_size_and_time),
    Case { means: Some(Means::Variables), ..case("variable edited", variable_edited) },
    Case { means: Some(Means::Variables), ..case("variable unset against empty", variable_unset) },
    Case { means: Some(Means::Tools), ..case("tool swapped on PATH", tool_swapped) },
    Case { means: Some(Means::Tools), ..case("tool replaced in place", tool_replaced) },
    case("two checks whose names differ by a separator", separators),
    case("two clones of one repository", two_clones),
    case("a result written by a failing run", failing_run),
];

/// What a check does that looks for `bad` in its inputs, one of which this very line is.
const LOOK: &str = "! grep -rq 'ba[d]' src";

pub fn suite(bench: &Bench) {
    let (runners, _) = installed(bench);
    let mut rows = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let play = |runner: &Runner| play(bench, case, number, runner);
        rows.push((case.title, runners.iter().map(play).collect::<Vec<Verdict>>()));
    }
    print(&runners, &rows);
    let ours = runners.iter().position(|runner| runner.contender.name == "xtask").unwrap();
    let faults: Vec<&str> = rows
        .iter()
        .filter(|(_, verdicts)| !matches!(verdicts[ours], Verdict::Right | Verdict::Skipped))
        .map(|(title, _)| *title)
        .collect();
    assert!(faults.is_empty(), "xtask is not right in: {}", faults.join("; "));
}

fn play(bench: &Bench, case: &Case, number: usize, runner: &Runner) -> Verdict {
    let name = runner.contender.name;
    let folder = format!("wrong-hits-{number}-{name}").replace(' ', "-");
    let mut scene = Scene::new(bench, runner, &folder);
    let verdict = (case.play)(&mut scene, runner).unwrap_or_else(Verdict::Broken);
    scene.end();
    let cannot = runner.contender.cannot.iter().find(|(means, _)| Some(*means) == case.means);
    match (verdict, cannot) {
        (Verdict::Wrong, Some((_, reason))) => Verdict::NotApplicable((*reason).to_owned()),
        (verdict, _) => verdict,
    }
}

fn print(runners: &[Runner], rows: &[(&str, Vec<Verdict>)]) {
    print!("  {:<50}", "");
    for runner in runners {
        print!(" {:<10}", runner.contender.name);
    }
    println!();
    let mut notes: Vec<String> = Vec::new();
    for (title, verdicts) in rows {
        print!("  {title:<50}");
        for (runner, verdict) in runners.iter().zip(verdicts) {
            let (word, note) = match verdict {
                Verdict::Right => ("right", None),
                Verdict::Wrong => ("WRONG", None),
                Verdict::Skipped => ("skipped", None),
                Verdict::Again => ("ran again", None),
                Verdict::NotApplicable(reason) => ("n/a", Some(reason)),
                Verdict::Broken(reason) => ("?", Some(reason)),
            };
            print!(" {word:<10}");
            let name = runner.contender.name;
            notes.extend(note.map(|note| format!("{word:<3} {name}, {title}: {note}")));
        }
        println!();
    }
    println!(
        "\n  right      the exit code tells the truth about the state as it is\n  \
         WRONG      it replayed a pass that never was: the check fails, the runner says it passed\n  \
         skipped    it was right to run nothing\n  \
         ran again  it ran a check whose state had not changed, which costs time and is no fault\n  \
         n/a        it has no setting for what matters here, and replayed a pass\n  \
         ?          nothing could be learned\n"
    );
    notes.iter().for_each(|note| println!("  {note}"));
}

/// The last run of a case: the check fails now, so the runner must not say that it passed.
fn judge(scene: &Scene<'_>) -> Found<Verdict> {
    assert!(!scene.truth(), "the case is one in which the check fails");
    let ended = scene.run(&scene.check.name)?;
    match (ended.is_good, ended.has_run) {
        (true, _) => Ok(Verdict::Wrong),
        (false, true) => Ok(Verdict::Right),
        (false, false) => Err(format!("it failed without the command: {}", scene.last_line())),
    }
}

fn nothing_changed(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    scene.script(LOOK);
    scene.write("src/file", "good\n");
    scene.ready();
    scene.pass()?;
    let ended = scene.run(&scene.check.name)?;
    match (ended.is_good, ended.has_run) {
        (true, false) => Ok(Verdict::Skipped),
        (true, true) => Ok(Verdict::Again),
        (false, _) => Err("it passed, and then it did not".to_owned()),
    }
}

/// A check that says when it has started and when it has looked, and waits each time until it is
/// told to go on, for a minute at most.
fn waiting_script(scene: &Scene<'_>) {
    let root = scene.root.display();
    let wait = |sign: &str| {
        format!(
            "n=0; until [ -e '{root}/{sign}' ]; do n=$((n+1)); [ $n -lt 600 ] || exit 9; \
             sleep 0.1; done"
        )
    };
    scene.script(&format!(
        ": > '{root}/started'\n{}\n{LOOK}\nfound=$?\n: > '{root}/looked'\n{}\nexit $found",
        wait("look"),
        wait("end"),
    ));
}

fn edited_and_put_back_after(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    edited_and_put_back(scene, false)
}

fn edited_and_put_back_before(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    edited_and_put_back(scene, true)
}

/// What the runner looked at is bad, and what the check looked at is good.
fn edited_and_put_back(scene: &mut Scene<'_>, is_before_the_end: bool) -> Found<Verdict> {
    waiting_script(scene);
    scene.write("src/file", "bad!\n");
    scene.ready();
    let mut run = scene.start(&scene.check.name);
    scene.wait_for("started", &mut run)?;
    scene.write_back("src/file", "good\n");
    scene.tell("look");
    scene.wait_for("looked", &mut run)?;
    if is_before_the_end {
        scene.write_back("src/file", "bad!\n");
    }
    scene.tell("end");
    // Whether this very run counts as passed is a matter of taste. What the next one says is not.
    scene.wait(&mut run)?;
    if !is_before_the_end {
        scene.write_back("src/file", "bad!\n");
    }
    judge(scene)
}

fn killed(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    waiting_script(scene);
    scene.write("src/file", "bad!\n");
    scene.ready();
    let mut run = scene.start(&scene.check.name);
    scene.wait_for("started", &mut run)?;
    scene.kill(&mut run);
    // Were the command to live on, it would go on now, and fail.
    scene.tell("look");
    scene.tell("end");
    judge(scene)
}

/// The check is given other arguments.
fn other_arguments(scene: &mut Scene<'_>, first: &str, then: &str) -> Found<Verdict> {
    scene.script("[ \"$1\" = good ]");
    scene.write("src/file", "text\n");
    scene.check.run = format!("sh src/check.sh {first}");
    scene.ready();
    scene.pass()?;
    scene.check.run = format!("sh src/check.sh {then}");
    scene.ready();
    judge(scene)
}

fn command_edited(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    other_arguments(scene, "good", "bad!")
}

fn arguments_swapped(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    other_arguments(scene, "good bad", "bad good")
}

/// The check passes on `src/x/file`, and fails after what is done to it.
fn disturbed(
    scene: &mut Scene<'_>,
    script: &str,
    disturb: impl FnOnce(&Scene<'_>),
) -> Found<Verdict> {
    scene.script(script);
    scene.write("src/x/file", "good\n");
    scene.write("src/y/other", "good\n");
    scene.ready();
    scene.pass()?;
    disturb(scene);
    judge(scene)
}

fn rename(scene: &Scene<'_>, from: &str, to: &str) {
    fs::rename(scene.repo.join(from), scene.repo.join(to)).unwrap();
}

fn file_renamed(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    disturbed(scene, "[ ! -e src/x/bad ]", |scene| rename(scene, "src/x/file", "src/x/bad"))
}

fn file_moved(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    disturbed(scene, "[ ! -e src/y/file ]", |scene| rename(scene, "src/x/file", "src/y/file"))
}

fn new_file(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    disturbed(scene, LOOK, |scene| scene.write("src/x/new", "bad!\n"))
}

fn same_size_and_time(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    disturbed(scene, LOOK, |scene| scene.write_back("src/x/file", "bad!\n"))
}

fn executable_bit(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    disturbed(scene, "[ ! -x src/x/file ]", |scene| {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(scene.repo.join("src/x/file"), mode).unwrap();
    })
}

/// The link leads out of the inputs, to one file and then to another.
fn symlink_target(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    scene.script("grep -q good src/link");
    scene.write("data/one", "good\n");
    scene.write("data/two", "bad!\n");
    symlink("../data/one", scene.repo.join("src/link")).unwrap();
    scene.write("src/file", "text\n");
    scene.ready();
    scene.pass()?;
    fs::remove_file(scene.repo.join("src/link")).unwrap();
    symlink("../data/two", scene.repo.join("src/link")).unwrap();
    judge(scene)
}

/// A check of a variable, which changes from one value to another.
fn variable(
    scene: &mut Scene<'_>,
    script: &str,
    from: Option<&'static str>,
    to: &'static str,
) -> Found<Verdict> {
    scene.script(script);
    scene.write("src/file", "text\n");
    scene.check.env = vec!["MODE"];
    scene.variable = from.map(|value| ("MODE", value));
    scene.ready();
    scene.pass()?;
    scene.variable = Some(("MODE", to));
    judge(scene)
}

fn variable_edited(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    variable(scene, "[ \"$MODE\" = good ]", Some("good"), "bad")
}

fn variable_unset(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    variable(scene, "[ -z \"${MODE+set}\" ]", None, "")
}

/// A check that asks a tool, of which there are two versions. Both lie there from the beginning.
fn with_tool(scene: &mut Scene<'_>, swap: impl FnOnce(&mut Scene<'_>)) -> Found<Verdict> {
    scene.script("checker src");
    scene.write("src/file", "text\n");
    scene.check.tools = vec!["checker"];
    scene.tool("tools", "1.0", 0);
    scene.tool("other", "2.0", 1);
    scene.ready();
    scene.pass()?;
    swap(scene);
    judge(scene)
}

fn tool_swapped(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    with_tool(scene, |scene| scene.tools = scene.root.join("other"))
}

fn tool_replaced(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    with_tool(scene, |scene| scene.tool("tools", "2.0", 1))
}

/// The first of them passes. All others, over the same inputs, must fail.
fn separators(scene: &mut Scene<'_>, runner: &Runner) -> Found<Verdict> {
    scene.script("[ \"$1\" = good ]");
    scene.write("src/file", "text\n");
    let names = runner.contender.names;
    let check = |(at, name): (usize, &&str)| Check {
        name: (*name).to_owned(),
        run: format!("sh src/check.sh {}", if at == 0 { "good" } else { "bad" }),
        ..scene.check.clone()
    };
    let checks: Vec<Check> = names.iter().enumerate().map(check).collect();
    scene.configure(&checks);
    scene.check = checks[0].clone();
    scene.pass()?;
    for check in &checks[1..] {
        scene.check = check.clone();
        if let Verdict::Wrong = judge(scene)? {
            return Ok(Verdict::Wrong);
        }
    }
    Ok(Verdict::Right)
}

/// They share whatever the runner keeps in the home folder; an input is not in git, and differs.
fn two_clones(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    scene.script(LOOK);
    scene.write("src/file", "good\n");
    scene.ready();
    scene.write("src/local", "good\n");
    scene.pass()?;
    scene.end();
    scene.clone_to("clone");
    scene.write("src/local", "bad!\n");
    judge(scene)
}

fn failing_run(scene: &mut Scene<'_>, _: &Runner) -> Found<Verdict> {
    scene.script(LOOK);
    scene.write("src/file", "bad!\n");
    scene.ready();
    let ended = scene.run(&scene.check.name)?;
    if ended.is_good || !ended.has_run {
        return Err("it did not run a check that fails".to_owned());
    }
    // To replay a failure is right, too.
    let ended = scene.run(&scene.check.name)?;
    Ok(if ended.is_good { Verdict::Wrong } else { Verdict::Right })
}
