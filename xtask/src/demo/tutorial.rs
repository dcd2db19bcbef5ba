//! What happens in the story, a function for each part, and what must have come of it.
//!
//! The people are told by what they type; the checks ask git and the files, not the program's own
//! words, wherever they can.

use super::sandbox::{Sandbox, UserFolder};
use xtask_base::error::Result;

/// Who takes part.
pub const PEOPLE: [&str; 2] = [ADA.person, BOB.person];

/// Outside of every repository, where clones are made.
const OUTSIDE: UserFolder = UserFolder { person: "ada", folder: "." };

/// Ada's clone.
const ADA: UserFolder = UserFolder { person: "ada", folder: "ada" };

/// Bob's clone.
const BOB: UserFolder = UserFolder { person: "bob", folder: "bob" };

/// Bob's second worktree.
const LINT: UserFolder = UserFolder { person: "bob", folder: "bob-lint" };

/// The repository that both push to.
const HUB: UserFolder = UserFolder { person: "ada", folder: "hub.git" };

/// A content that nobody else has, and that does not even end as a line should.
const UNSAVED: &str = "width = 130  # \t menus\r\nand half a li";

/// Plays it from the beginning to the end, or to the first outcome that is not as told.
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
         front of\neach `$` stands the folder; `hub.git` is the repository that everybody pushes to.",
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
    scene.print_story("`setup` makes the canonical branch, once for everybody.")?;
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
    scene.print_heading("Hooks, so that branches follow by themselves")?;
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
        "Ada changes a shared file where it counts: on the canonical branch. The hook tells whom it \
         leaves\nbehind.",
    )?;
    scene.run_command(ADA, "git switch orchestration-tools")?;
    scene.edit_file(ADA, "setup/format.toml", "width = 100\n")?;
    let said = scene.run_command(ADA, "git commit -am 'Lines of 100'")?;
    scene.check_output(
        "the hook told that `main` is behind",
        "1 branch is now behind in 1 managed file",
        &said,
    )?;
    scene.run_command(ADA, "git push")?;
    check_pushed(scene, ADA, "orchestration-tools")?;
    check_clean(scene, ADA)
}

fn sync_branch(scene: &Sandbox<'_>) -> Result<()> {
    scene
        .print_story("Bob's branch follows at its next checkout, or at once if he asks for it.")?;
    let before = commit_id(scene, BOB, "feature/menu")?;
    scene.run_command(BOB, "cargo xtask sync --fetch")?;
    scene.check_equal(
        "the shared file is new",
        "width = 100\n",
        &scene.read_file(BOB, "setup/format.toml")?,
    )?;
    scene.check_equal("by one commit", &before, &commit_id(scene, BOB, "feature/menu~1")?)?;
    let changed = scene.capture_output(BOB, "git show --format= --name-only HEAD")?;
    scene.check_equal("with nothing else in it", "setup/format.toml\n", &changed)?;
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
        "the hook told what is shared",
        "`scripts/lint`, `scripts/old-lint`",
        &said,
    )?;
    scene.run_command(LINT, "git push -u origin feature/lint")?;
    check_pushed(scene, LINT, "feature/lint")?;
    check_clean(scene, LINT)
}

fn extract_changes(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_story(
        "The shared part of it is collected, to be looked at before everybody gets it.",
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
        "so is what counts",
        &canonical,
        &commit_id(scene, HUB, "orchestration-tools")?,
    )?;
    check_clean(scene, LINT)
}

fn take_in_changes(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_heading("It is approved, and becomes everybody's")?;
    scene.print_story(
        "`reverse-sync` shows what it takes, and asks. Here is nobody who could answer.",
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
    scene.check_output("a second time there is nothing to take", "nothing to do", &again)?;
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
    scene.print_story("Bob looks first. Looking writes nothing.")?;
    scene.run_command(BOB, "git fetch")?;
    let before = list_refs(scene, BOB)?;
    let (main, lint) = (commit_id(scene, BOB, "main")?, commit_id(scene, BOB, "feature/lint")?);
    scene.run_command(BOB, "cargo xtask propagate --dry-run -v")?;
    scene.check_equal("no ref has moved", &before, &list_refs(scene, BOB)?)?;
    scene.print_story(
        "Then he does it. `main` is protected, so it stays, and what it is to get waits beside it for \
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
        "beside it is one commit",
        &main,
        &commit_id(scene, BOB, &format!("{beside}~1"))?,
    )?;
    let lacks = format!("git diff --name-only {beside} origin/orchestration-tools");
    scene.check_equal("with all that it lacks", "", &scene.capture_output(BOB, &lacks)?)?;
    check_clean(scene, BOB)?;
    check_clean(scene, LINT)?;
    scene.print_story("A second time there is nothing to do, and so nothing to say.")?;
    let before = list_refs(scene, BOB)?;
    scene.run_command(BOB, "cargo xtask propagate")?;
    scene.check_equal("no ref has moved", &before, &list_refs(scene, BOB)?)
}

fn push_branches(scene: &Sandbox<'_>) -> Result<()> {
    scene.print_story(
        "He pushes what these branches have got: with it goes nothing that somebody has not pushed. Then \
         he\ndoes the same to the branches of the hub, where the one beside `main` is for everybody.",
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

/// The commit that a name stands for.
fn commit_id(scene: &Sandbox<'_>, desk: UserFolder, name: &str) -> Result<String> {
    scene.capture_output(desk, &format!("git rev-parse --verify '{name}'"))
}

/// All refs with their commits.
fn list_refs(scene: &Sandbox<'_>, desk: UserFolder) -> Result<String> {
    scene.capture_output(desk, "git for-each-ref --format='%(refname) %(objectname)'")
}

/// What git says has changed.
fn git_status(scene: &Sandbox<'_>, desk: UserFolder) -> Result<String> {
    scene.capture_output(desk, "git status --porcelain")
}

fn check_clean(scene: &Sandbox<'_>, desk: UserFolder) -> Result<()> {
    let told = format!("`git status` is clean in {}", desk.folder);
    scene.check_equal(&told, "", &git_status(scene, desk)?)
}

fn check_pushed(scene: &Sandbox<'_>, desk: UserFolder, branch: &str) -> Result<()> {
    let told = format!("the hub has `{branch}` of {}", desk.person);
    // That it is missing there is an answer.
    let there = format!("git rev-parse --verify --quiet 'refs/heads/{branch}' || true");
    scene.check_equal(&told, &commit_id(scene, desk, branch)?, &scene.capture_output(HUB, &there)?)
}

/// The new script is on a branch, as its author made it.
fn check_executable(scene: &Sandbox<'_>, desk: UserFolder, branch: &str) -> Result<()> {
    let found = scene.capture_output(desk, &format!("git ls-tree {branch} scripts/lint"))?;
    let mode = found.split(' ').next().unwrap_or_default();
    scene.check_equal(&format!("on `{branch}` the new script can be executed"), "100755", mode)
}
