//! The chapters of the tutorial, one function each, and the checks of their results.
//!
//! The checks ask git and the files, not the program's own messages, wherever they can. For example, `sync_branch`
//! checks that `git show --name-only HEAD` lists `setup/format.toml` alone.

use super::sandbox::{Sandbox, UserFolder};
use xtask_base::error::Result;

/// The users.
pub const PEOPLE: [&str; 2] = [ADA.person, BOB.person];

/// The parent folder of all clones.
const OUTSIDE: UserFolder = UserFolder { person: "ada", folder: "." };

const ADA: UserFolder = UserFolder { person: "ada", folder: "ada" };

const BOB: UserFolder = UserFolder { person: "bob", folder: "bob" };

/// A second worktree of Bob's clone.
const LINT: UserFolder = UserFolder { person: "bob", folder: "bob-lint" };

/// The bare repository that both push to.
const HUB: UserFolder = UserFolder { person: "ada", folder: "hub.git" };

/// An unusual content, which does not even end with a line feed.
const UNSAVED: &str = "width = 130  # \t menus\r\nand half a li";

/// Runs all chapters. Returns an error at the first unexpected result.
pub fn run_tutorial(scene: &Sandbox<'_>) -> Result<()> {
    for person in PEOPLE {
        scene.create_home(person)?;
    }
    create_project(scene)?;
    install_hooks(scene)?;
    change_canonical(scene)?;
    sync_branch(scene)?;
    mix_changes(scene)?;
    extract_changes(scene)?;
    take_in_changes(scene)?;
    propagate_changes(scene)?;
    push_branches(scene)?;
    force_and_undo(scene)
}

fn create_project(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_heading("A project, and the branch whose files count")?;
    scene.print_story(
        "Ada begins a project: an application, and the files that all of its branches share. In \
         front of\neach `$` is the folder; `hub.git` is the repository that both push to.",
    )?;
    scene.run_command(OUTSIDE, "git init --quiet --bare hub.git")?;
    scene.run_command(OUTSIDE, "git clone --quiet hub.git ada")?;
    scene.edit_file(ADA, "app.txt", "an application\n")?;
    scene.edit_file(ADA, "setup/branches.toml", "protected = [\"main\"]\n")?;
    scene.edit_file(ADA, "setup/format.toml", "width = 80\n")?;
    scene.edit_file(ADA, "scripts/test", "#!/bin/sh\necho testing\n")?;
    scene.edit_file(ADA, "scripts/old-lint", "#!/bin/sh\necho looking\n")?;
    scene.run_command(ADA, "chmod +x scripts/*")?;
    scene.run_command(ADA, "git add . && git commit -m 'Begin the project'")?;
    scene.run_command(ADA, "git push -u origin main")?;
    scene.print_story("`setup` creates the canonical branch, once for all.")?;
    scene.run_command(ADA, "cargo xtask setup --no-hooks")?;
    scene.run_command(ADA, "git push -u origin orchestration-tools")?;
    let main = commit_id(scene, ADA, "main")?;
    scene.check_equal(
        "it begins where `main` is",
        &main,
        &commit_id(scene, ADA, "orchestration-tools")?,
    )?;
    check_pushed(scene, ADA, "orchestration-tools")?;
    check_clean(scene, ADA)
}

fn install_hooks(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_heading("Hooks, so that branches are synced automatically")?;
    scene.print_story(
        "They run a program under the git folder. `--this-program` is for a project without `xtask/` \
         like this\none; where there is one, it is built from the canonical branch.",
    )?;
    scene.run_command(ADA, "cargo xtask install-hooks --this-program")?;
    scene.run_command(UserFolder { person: "bob", ..OUTSIDE }, "git clone --quiet hub.git bob")?;
    scene.run_command(BOB, "cargo xtask install-hooks --this-program")?;
    for desk in [ADA, BOB] {
        let told = format!("the hooks of {} fire", desk.person);
        scene.check_succeeds(&told, desk, "cargo xtask hooks status")?;
    }
    Ok(())
}

fn change_canonical(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_heading("A change for everybody")?;
    scene.print_story("Bob has begun a branch, as on every other day.")?;
    scene.run_command(BOB, "git switch -c feature/menu")?;
    scene.edit_file(BOB, "menu.txt", "a menu\n")?;
    scene.run_command(BOB, "git add . && git commit -m 'Begin a menu'")?;
    scene.run_command(BOB, "git push -u origin feature/menu")?;
    scene.print_story(
        "Ada changes a shared file on the canonical branch. The hook reports which branches it \
         leaves\nbehind.",
    )?;
    scene.run_command(ADA, "git switch orchestration-tools")?;
    scene.edit_file(ADA, "setup/format.toml", "width = 100\n")?;
    let said = scene.run_command(ADA, "git commit -am 'Lines of 100'")?;
    scene.check_output(
        "the hook reported that `main` is behind",
        "1 branch is now behind in 1 managed file",
        &said,
    )?;
    scene.run_command(ADA, "git push")?;
    check_pushed(scene, ADA, "orchestration-tools")?;
    check_clean(scene, ADA)
}

fn sync_branch(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_story("Bob's branch is synced at its next checkout, or at once with `sync`.")?;
    let before = commit_id(scene, BOB, "feature/menu")?;
    scene.run_command(BOB, "cargo xtask sync --fetch")?;
    scene.check_equal(
        "the shared file is new",
        "width = 100\n",
        &scene.read_file(BOB, "setup/format.toml")?,
    )?;
    scene.check_equal("by one commit", &before, &commit_id(scene, BOB, "feature/menu~1")?)?;
    let changed = scene.capture_output(BOB, "git show --format= --name-only HEAD")?;
    scene.check_equal("with no other file in it", "setup/format.toml\n", &changed)?;
    scene.check_equal(
        "his own file is as it was",
        "a menu\n",
        &scene.read_file(BOB, "menu.txt")?,
    )?;
    check_clean(scene, BOB)?;
    scene.run_command(BOB, "cargo xtask sync --check")?;
    scene.run_command(BOB, "git push")?;
    check_pushed(scene, BOB, "feature/menu")
}

fn mix_changes(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_heading("A branch that changes its application and shared files")?;
    scene.print_story(
        "Bob begins it in a worktree of its own, and the hook brings that up to date.",
    )?;
    let said = scene.run_command(BOB, "git worktree add -b feature/lint ../bob-lint main")?;
    scene.check_output("the hook has synced it", "1 managed file brought up to date", &said)?;
    let width = scene.read_file(LINT, "setup/format.toml")?;
    scene.check_equal("the worktree has the shared file", "width = 100\n", &width)?;
    scene.print_story("One commit: the application, a new script, and an old one that goes.")?;
    scene.edit_file(LINT, "app.txt", "an application without lint\n")?;
    scene.edit_file(LINT, "scripts/lint", "#!/bin/sh\necho looking twice\n")?;
    scene.run_command(LINT, "chmod +x scripts/lint && git rm --quiet scripts/old-lint")?;
    let said = scene.run_command(LINT, "git add . && git commit -m 'Look twice'")?;
    scene.check_output(
        "the hook reported the shared files",
        "`scripts/lint`, `scripts/old-lint`",
        &said,
    )?;
    scene.run_command(LINT, "git push -u origin feature/lint")?;
    check_pushed(scene, LINT, "feature/lint")?;
    check_clean(scene, LINT)
}

fn extract_changes(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_story(
        "The shared part of it is collected, to be reviewed before every branch gets it.",
    )?;
    let (branch, canonical) =
        (commit_id(scene, LINT, "HEAD")?, commit_id(scene, HUB, "orchestration-tools")?);
    scene.run_command(LINT, "cargo xtask extract --push")?;
    let changes = "orchestration-tools-changes";
    let collected = scene
        .capture_output(HUB, &format!("git diff --name-status orchestration-tools {changes}"))?;
    let expected = "A\tscripts/lint\nD\tscripts/old-lint\n";
    scene.check_equal("the hub has the shared part alone", expected, &collected)?;
    check_executable(scene, HUB, changes)?;
    scene.check_equal("the branch is as it was", &branch, &commit_id(scene, LINT, "HEAD")?)?;
    scene.check_equal(
        "so is the canonical branch",
        &canonical,
        &commit_id(scene, HUB, "orchestration-tools")?,
    )?;
    check_clean(scene, LINT)
}

fn take_in_changes(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_heading("It is approved, and every branch gets it")?;
    scene.print_story(
        "`reverse-sync` shows the changes, and asks. Here there is no terminal to ask on.",
    )?;
    scene.run_command(ADA, "git fetch")?;
    let before = commit_id(scene, ADA, "orchestration-tools")?;
    let take = "cargo xtask reverse-sync feature/lint origin/feature/lint";
    scene.run_expecting(ADA, take, 2)?;
    scene.check_equal(
        "nothing has moved",
        &before,
        &commit_id(scene, ADA, "orchestration-tools")?,
    )?;
    check_clean(scene, ADA)?;
    scene.print_story("Ada has seen it, and says yes.")?;
    scene.run_command(ADA, &format!("{take} --yes"))?;
    let after = commit_id(scene, ADA, "orchestration-tools")?;
    scene.check_equal(
        "one commit is new",
        &before,
        &commit_id(scene, ADA, "orchestration-tools~1")?,
    )?;
    let author = scene.capture_output(ADA, "git log -1 --format='%an: %s' orchestration-tools")?;
    scene.check_equal("it is Bob's", "bob: Look twice\n", &author)?;
    check_executable(scene, ADA, "orchestration-tools")?;
    let gone = scene.capture_output(ADA, "git ls-tree orchestration-tools scripts/old-lint")?;
    scene.check_equal("the old script is gone", "", &gone)?;
    let application = scene.capture_output(ADA, "git show orchestration-tools:app.txt")?;
    scene.check_equal("his application stayed with him", "an application\n", &application)?;
    let out = scene.capture_output(ADA, "scripts/lint && ls scripts")?;
    let expected = "looking twice\nlint\ntest\n";
    scene.check_equal("the files of Ada, who is on that branch, followed", expected, &out)?;
    check_clean(scene, ADA)?;
    let again = scene.run_command(ADA, &format!("{take} --yes"))?;
    scene.check_output("a second run has nothing to do", "nothing to do", &again)?;
    scene.check_equal(
        "and nothing moves",
        &after,
        &commit_id(scene, ADA, "orchestration-tools")?,
    )?;
    scene.run_command(ADA, "git push")?;
    check_pushed(scene, ADA, "orchestration-tools")
}

fn propagate_changes(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_heading("Every branch gets it, without checking any out")?;
    scene.print_story("Bob starts with a dry run, which writes nothing.")?;
    scene.run_command(BOB, "git fetch")?;
    let before = list_refs(scene, BOB)?;
    let (main, lint) = (commit_id(scene, BOB, "main")?, commit_id(scene, BOB, "feature/lint")?);
    scene.run_command(BOB, "cargo xtask propagate --dry-run -v")?;
    scene.check_equal("no ref has moved", &before, &list_refs(scene, BOB)?)?;
    scene.print_story(
        "Then he runs it. `main` is protected, so it is not changed: its commit goes to a side branch for \
         a\npull request.",
    )?;
    scene.run_command(BOB, "cargo xtask propagate")?;
    check_executable(scene, BOB, "feature/menu")?;
    let out = scene.capture_output(BOB, "scripts/lint && ls scripts && cat menu.txt")?;
    let expected = "looking twice\nlint\ntest\na menu\n";
    scene.check_equal("the files that are checked out followed", expected, &out)?;
    scene.check_equal(
        "a branch that had it is as it was",
        &lint,
        &commit_id(scene, BOB, "feature/lint")?,
    )?;
    scene.check_equal("`main` is as it was", &main, &commit_id(scene, BOB, "main")?)?;
    let beside = "orchestration-sync/main";
    scene.check_equal(
        "its side branch has one more commit",
        &main,
        &commit_id(scene, BOB, &format!("{beside}~1"))?,
    )?;
    let lacks = format!("git diff --name-only {beside} origin/orchestration-tools");
    scene.check_equal("with all that it lacks", "", &scene.capture_output(BOB, &lacks)?)?;
    check_clean(scene, BOB)?;
    check_clean(scene, LINT)?;
    scene.print_story("A second run has nothing to do, and prints nothing.")?;
    let before = list_refs(scene, BOB)?;
    scene.run_command(BOB, "cargo xtask propagate")?;
    scene.check_equal("no ref has moved", &before, &list_refs(scene, BOB)?)
}

fn push_branches(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_story(
        "He pushes the sync commits of these branches, without any unpushed work of others. Then \
         he\ndoes the same for the branches of the hub, where the side branch of `main` is for everybody.",
    )?;
    let main = commit_id(scene, HUB, "main")?;
    scene.run_command(BOB, "cargo xtask propagate --push")?;
    scene.run_command(BOB, "cargo xtask propagate --remote --push")?;
    scene.run_command(ADA, "git fetch")?;
    for branch in ["feature/menu", "feature/lint", "orchestration-sync/main"] {
        check_pushed(scene, BOB, branch)?;
        let (his, hers) =
            (commit_id(scene, BOB, branch)?, commit_id(scene, ADA, &format!("origin/{branch}"))?);
        scene.check_equal(&format!("Ada has Bob's `{branch}`"), &his, &hers)?;
    }
    scene.check_equal("the hub's `main` is as it was", &main, &commit_id(scene, HUB, "main")?)
}

fn force_and_undo(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_heading("What is yours stays yours")?;
    scene.print_story(
        "Bob's menus need a width of their own, and he is in the middle of another change.",
    )?;
    scene.edit_file(BOB, "setup/format.toml", "width = 120\n")?;
    scene.run_command(BOB, "git commit -am 'Menus are wide'")?;
    scene.run_command(BOB, "cargo xtask sync")?;
    let width = scene.read_file(BOB, "setup/format.toml")?;
    scene.check_equal("what his branch has of its own is kept", "width = 120\n", &width)?;
    scene.run_expecting(BOB, "cargo xtask sync --check --strict", 1)?;
    scene.edit_file(BOB, "menu.txt", "a menu, half written\n")?;
    scene.edit_file(BOB, "setup/format.toml", UNSAVED)?;
    let (head, status) = (commit_id(scene, BOB, "HEAD")?, git_status(scene, BOB)?);
    scene.print_story("He wants to see how the shared one would look.")?;
    scene.run_command(BOB, "cargo xtask sync --force setup/format.toml")?;
    scene.check_equal(
        "it is in its place",
        "width = 100\n",
        &scene.read_file(BOB, "setup/format.toml")?,
    )?;
    let menu = scene.read_file(BOB, "menu.txt")?;
    scene.check_equal("his other change is still there", "a menu, half written\n", &menu)?;
    scene.print_story("And back again, with what was never committed.")?;
    scene.run_command(BOB, "cargo xtask undo")?;
    scene.check_equal("each byte is back", UNSAVED, &scene.read_file(BOB, "setup/format.toml")?)?;
    let menu = scene.read_file(BOB, "menu.txt")?;
    scene.check_equal("his other change is as he left it", "a menu, half written\n", &menu)?;
    scene.check_equal("the branch is where it was", &head, &commit_id(scene, BOB, "HEAD")?)?;
    scene.check_equal("and so is what git says of it", &status, &self::git_status(scene, BOB)?)
}

/// Returns the ID of the commit `name`.
fn commit_id(scene: &Sandbox<'_>, desk: UserFolder, name: &str) -> Result<String> {
    scene.capture_output(desk, &format!("git rev-parse --verify '{name}'"))
}

/// Returns all refs with their commits.
fn list_refs(scene: &Sandbox<'_>, desk: UserFolder) -> Result<String> {
    scene.capture_output(desk, "git for-each-ref --format='%(refname) %(objectname)'")
}

/// Returns the output of `git status --porcelain`.
fn git_status(scene: &Sandbox<'_>, desk: UserFolder) -> Result<String> {
    scene.capture_output(desk, "git status --porcelain")
}

fn check_clean(scene: &Sandbox<'_>, desk: UserFolder) -> Result<()> {
    let told = format!("`git status` is clean in {}", desk.folder);
    scene.check_equal(&told, "", &git_status(scene, desk)?)
}

fn check_pushed(scene: &Sandbox<'_>, desk: UserFolder, branch: &str) -> Result<()> {
    let told = format!("the hub has `{branch}` of {}", desk.person);
    // A missing branch is an empty answer, not an error.
    let there = format!("git rev-parse --verify --quiet 'refs/heads/{branch}' || true");
    scene.check_equal(&told, &commit_id(scene, desk, branch)?, &scene.capture_output(HUB, &there)?)
}

/// Checks that the new script is executable on `branch`.
fn check_executable(scene: &Sandbox<'_>, desk: UserFolder, branch: &str) -> Result<()> {
    let found = scene.capture_output(desk, &format!("git ls-tree {branch} scripts/lint"))?;
    let mode = found.split(' ').next().unwrap_or_default();
    scene.check_equal(&format!("on `{branch}` the new script can be executed"), "100755", mode)
}
