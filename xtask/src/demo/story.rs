//! What happens in the story, a function for each part, and what must have come of it.
//!
//! The people are told by what they type; the checks ask git and the files, not the program's own
//! words, wherever they can.

use super::scene::{Desk, Scene};
use xtask_base::error::Result;

/// Who takes part.
pub const PEOPLE: [&str; 2] = [ADA.person, BOB.person];

/// Outside of every repository, where clones are made.
const OUTSIDE: Desk = Desk { person: "ada", folder: "." };

/// Ada's clone.
const ADA: Desk = Desk { person: "ada", folder: "ada" };

/// Bob's clone.
const BOB: Desk = Desk { person: "bob", folder: "bob" };

/// Bob's second worktree.
const LINT: Desk = Desk { person: "bob", folder: "bob-lint" };

/// The repository that both push to.
const HUB: Desk = Desk { person: "ada", folder: "hub.git" };

/// A content that nobody else has, and that does not even end as a line should.
const UNSAVED: &str = "width = 130  # \t menus\r\nand half a li";

/// Plays it from the beginning to the end, or to the first outcome that is not as told.
pub fn play(scene: &Scene<'_>) -> Result<()> {
    for person in PEOPLE {
        scene.furnish(person)?;
    }
    begin(scene)?;
    install(scene)?;
    change(scene)?;
    follow(scene)?;
    mix(scene)?;
    extract(scene)?;
    take_in(scene)?;
    propagate(scene)?;
    push_all(scene)?;
    force(scene)
}

fn begin(scene: &Scene<'_>) -> Result<()> {
    scene.part("A project, and the branch whose files count")?;
    scene.says(
        "Ada begins a project: an application, and the files that all of its branches share. In \
         front of\neach `$` stands the folder; `hub.git` is the repository that everybody pushes to.",
    )?;
    scene.types(OUTSIDE, "git init --quiet --bare hub.git")?;
    scene.types(OUTSIDE, "git clone --quiet hub.git ada")?;
    scene.edits(ADA, "app.txt", "an application\n")?;
    scene.edits(ADA, "setup/branches.toml", "protected = [\"main\"]\n")?;
    scene.edits(ADA, "setup/format.toml", "width = 80\n")?;
    scene.edits(ADA, "scripts/test", "#!/bin/sh\necho testing\n")?;
    scene.edits(ADA, "scripts/old-lint", "#!/bin/sh\necho looking\n")?;
    scene.types(ADA, "chmod +x scripts/*")?;
    scene.types(ADA, "git add . && git commit -m 'Begin the project'")?;
    scene.types(ADA, "git push -u origin main")?;
    scene.says("`setup` makes the canonical branch, once for everybody.")?;
    scene.types(ADA, "cargo xtask setup --no-hooks")?;
    scene.types(ADA, "git push -u origin orchestration-tools")?;
    let main = id(scene, ADA, "main")?;
    scene.check("it begins where `main` is", &main, &id(scene, ADA, "orchestration-tools")?)?;
    same_in_hub(scene, ADA, "orchestration-tools")?;
    clean(scene, ADA)
}

fn install(scene: &Scene<'_>) -> Result<()> {
    scene.part("Hooks, so that branches follow by themselves")?;
    scene.says(
        "They run a program under the git folder. `--this-program` is for a project without `xtask/` \
         like this\none; where there is one, it is built from the canonical branch.",
    )?;
    scene.types(ADA, "cargo xtask install-hooks --this-program")?;
    scene.types(Desk { person: "bob", ..OUTSIDE }, "git clone --quiet hub.git bob")?;
    scene.types(BOB, "cargo xtask install-hooks --this-program")?;
    for desk in [ADA, BOB] {
        let told = format!("the hooks of {} fire", desk.person);
        scene.check_works(&told, desk, "cargo xtask hooks status")?;
    }
    Ok(())
}

fn change(scene: &Scene<'_>) -> Result<()> {
    scene.part("A change for everybody")?;
    scene.says("Bob has begun a branch, as on every other day.")?;
    scene.types(BOB, "git switch -c feature/menu")?;
    scene.edits(BOB, "menu.txt", "a menu\n")?;
    scene.types(BOB, "git add . && git commit -m 'Begin a menu'")?;
    scene.types(BOB, "git push -u origin feature/menu")?;
    scene.says(
        "Ada changes a shared file where it counts: on the canonical branch. The hook tells whom it \
         leaves\nbehind.",
    )?;
    scene.types(ADA, "git switch orchestration-tools")?;
    scene.edits(ADA, "setup/format.toml", "width = 100\n")?;
    let said = scene.types(ADA, "git commit -am 'Lines of 100'")?;
    scene.check_said(
        "the hook told that `main` is behind",
        "1 branch is now behind in 1 managed file",
        &said,
    )?;
    scene.types(ADA, "git push")?;
    same_in_hub(scene, ADA, "orchestration-tools")?;
    clean(scene, ADA)
}

fn follow(scene: &Scene<'_>) -> Result<()> {
    scene.says("Bob's branch follows at its next checkout, or at once if he asks for it.")?;
    let before = id(scene, BOB, "feature/menu")?;
    scene.types(BOB, "cargo xtask sync --fetch")?;
    scene.check(
        "the shared file is new",
        "width = 100\n",
        &scene.file(BOB, "setup/format.toml")?,
    )?;
    scene.check("by one commit", &before, &id(scene, BOB, "feature/menu~1")?)?;
    let changed = scene.asks(BOB, "git show --format= --name-only HEAD")?;
    scene.check("with nothing else in it", "setup/format.toml\n", &changed)?;
    scene.check("his own file is as it was", "a menu\n", &scene.file(BOB, "menu.txt")?)?;
    clean(scene, BOB)?;
    scene.types(BOB, "cargo xtask sync --check")?;
    scene.types(BOB, "git push")?;
    same_in_hub(scene, BOB, "feature/menu")
}

fn mix(scene: &Scene<'_>) -> Result<()> {
    scene.part("A branch that changes its application and shared files")?;
    scene.says("Bob begins it in a worktree of its own, and the hook brings that up to date.")?;
    let said = scene.types(BOB, "git worktree add -b feature/lint ../bob-lint main")?;
    scene.check_said("the hook has synced it", "1 managed file brought up to date", &said)?;
    let width = scene.file(LINT, "setup/format.toml")?;
    scene.check("the worktree has the shared file", "width = 100\n", &width)?;
    scene.says("One commit: the application, a new script, and an old one that goes.")?;
    scene.edits(LINT, "app.txt", "an application without lint\n")?;
    scene.edits(LINT, "scripts/lint", "#!/bin/sh\necho looking twice\n")?;
    scene.types(LINT, "chmod +x scripts/lint && git rm --quiet scripts/old-lint")?;
    let said = scene.types(LINT, "git add . && git commit -m 'Look twice'")?;
    scene.check_said(
        "the hook told what is shared",
        "`scripts/lint`, `scripts/old-lint`",
        &said,
    )?;
    scene.types(LINT, "git push -u origin feature/lint")?;
    same_in_hub(scene, LINT, "feature/lint")?;
    clean(scene, LINT)
}

fn extract(scene: &Scene<'_>) -> Result<()> {
    scene.says("The shared part of it is collected, to be looked at before everybody gets it.")?;
    let (branch, canonical) = (id(scene, LINT, "HEAD")?, id(scene, HUB, "orchestration-tools")?);
    scene.types(LINT, "cargo xtask extract --push")?;
    let changes = "orchestration-tools-changes";
    let collected =
        scene.asks(HUB, &format!("git diff --name-status orchestration-tools {changes}"))?;
    let expected = "A\tscripts/lint\nD\tscripts/old-lint\n";
    scene.check("the hub has the shared part alone", expected, &collected)?;
    is_executable(scene, HUB, changes)?;
    scene.check("the branch is as it was", &branch, &id(scene, LINT, "HEAD")?)?;
    scene.check("so is what counts", &canonical, &id(scene, HUB, "orchestration-tools")?)?;
    clean(scene, LINT)
}

fn take_in(scene: &Scene<'_>) -> Result<()> {
    scene.part("It is approved, and becomes everybody's")?;
    scene.says("`reverse-sync` shows what it takes, and asks. Here is nobody who could answer.")?;
    scene.types(ADA, "git fetch")?;
    let before = id(scene, ADA, "orchestration-tools")?;
    let take = "cargo xtask reverse-sync feature/lint origin/feature/lint";
    scene.types_for(ADA, take, 2)?;
    scene.check("nothing has moved", &before, &id(scene, ADA, "orchestration-tools")?)?;
    clean(scene, ADA)?;
    scene.says("Ada has seen it, and says yes.")?;
    scene.types(ADA, &format!("{take} --yes"))?;
    let after = id(scene, ADA, "orchestration-tools")?;
    scene.check("one commit is new", &before, &id(scene, ADA, "orchestration-tools~1")?)?;
    let author = scene.asks(ADA, "git log -1 --format='%an: %s' orchestration-tools")?;
    scene.check("it is Bob's", "bob: Look twice\n", &author)?;
    is_executable(scene, ADA, "orchestration-tools")?;
    let gone = scene.asks(ADA, "git ls-tree orchestration-tools scripts/old-lint")?;
    scene.check("the old script is gone", "", &gone)?;
    let application = scene.asks(ADA, "git show orchestration-tools:app.txt")?;
    scene.check("his application stayed with him", "an application\n", &application)?;
    let out = scene.asks(ADA, "scripts/lint && ls scripts")?;
    let expected = "looking twice\nlint\ntest\n";
    scene.check("the files of Ada, who is on that branch, followed", expected, &out)?;
    clean(scene, ADA)?;
    let again = scene.types(ADA, &format!("{take} --yes"))?;
    scene.check_said("a second time there is nothing to take", "nothing to do", &again)?;
    scene.check("and nothing moves", &after, &id(scene, ADA, "orchestration-tools")?)?;
    scene.types(ADA, "git push")?;
    same_in_hub(scene, ADA, "orchestration-tools")
}

fn propagate(scene: &Scene<'_>) -> Result<()> {
    scene.part("Every branch gets it, without checking any out")?;
    scene.says("Bob looks first. Looking writes nothing.")?;
    scene.types(BOB, "git fetch")?;
    let before = refs(scene, BOB)?;
    let (main, lint) = (id(scene, BOB, "main")?, id(scene, BOB, "feature/lint")?);
    scene.types(BOB, "cargo xtask propagate --dry-run -v")?;
    scene.check("no ref has moved", &before, &refs(scene, BOB)?)?;
    scene.says(
        "Then he does it. `main` is protected, so it stays, and what it is to get waits beside it for \
         a\npull request.",
    )?;
    scene.types(BOB, "cargo xtask propagate")?;
    is_executable(scene, BOB, "feature/menu")?;
    let out = scene.asks(BOB, "scripts/lint && ls scripts && cat menu.txt")?;
    let expected = "looking twice\nlint\ntest\na menu\n";
    scene.check("the files that are checked out followed", expected, &out)?;
    scene.check("a branch that had it is as it was", &lint, &id(scene, BOB, "feature/lint")?)?;
    scene.check("`main` is as it was", &main, &id(scene, BOB, "main")?)?;
    let beside = "orchestration-sync/main";
    scene.check("beside it is one commit", &main, &id(scene, BOB, &format!("{beside}~1"))?)?;
    let lacks = format!("git diff --name-only {beside} origin/orchestration-tools");
    scene.check("with all that it lacks", "", &scene.asks(BOB, &lacks)?)?;
    clean(scene, BOB)?;
    clean(scene, LINT)?;
    scene.says("A second time there is nothing to do, and so nothing to say.")?;
    let before = refs(scene, BOB)?;
    scene.types(BOB, "cargo xtask propagate")?;
    scene.check("no ref has moved", &before, &refs(scene, BOB)?)
}

fn push_all(scene: &Scene<'_>) -> Result<()> {
    scene.says(
        "He pushes what these branches have got: with it goes nothing that somebody has not pushed. Then \
         he\ndoes the same to the branches of the hub, where the one beside `main` is for everybody.",
    )?;
    let main = id(scene, HUB, "main")?;
    scene.types(BOB, "cargo xtask propagate --push")?;
    scene.types(BOB, "cargo xtask propagate --remote --push")?;
    scene.types(ADA, "git fetch")?;
    for branch in ["feature/menu", "feature/lint", "orchestration-sync/main"] {
        same_in_hub(scene, BOB, branch)?;
        let (his, hers) = (id(scene, BOB, branch)?, id(scene, ADA, &format!("origin/{branch}"))?);
        scene.check(&format!("Ada has Bob's `{branch}`"), &his, &hers)?;
    }
    scene.check("the hub's `main` is as it was", &main, &id(scene, HUB, "main")?)
}

fn force(scene: &Scene<'_>) -> Result<()> {
    scene.part("What is yours stays yours")?;
    scene.says(
        "Bob's menus need a width of their own, and he is in the middle of another change.",
    )?;
    scene.edits(BOB, "setup/format.toml", "width = 120\n")?;
    scene.types(BOB, "git commit -am 'Menus are wide'")?;
    scene.types(BOB, "cargo xtask sync")?;
    let width = scene.file(BOB, "setup/format.toml")?;
    scene.check("what his branch has of its own is kept", "width = 120\n", &width)?;
    scene.types_for(BOB, "cargo xtask sync --check --strict", 1)?;
    scene.edits(BOB, "menu.txt", "a menu, half written\n")?;
    scene.edits(BOB, "setup/format.toml", UNSAVED)?;
    let (head, status) = (id(scene, BOB, "HEAD")?, status(scene, BOB)?);
    scene.says("He wants to see how the shared one would look.")?;
    scene.types(BOB, "cargo xtask sync --force setup/format.toml")?;
    scene.check("it is in its place", "width = 100\n", &scene.file(BOB, "setup/format.toml")?)?;
    let menu = scene.file(BOB, "menu.txt")?;
    scene.check("his other change is still there", "a menu, half written\n", &menu)?;
    scene.says("And back again, with what was never committed.")?;
    scene.types(BOB, "cargo xtask undo")?;
    scene.check("each byte is back", UNSAVED, &scene.file(BOB, "setup/format.toml")?)?;
    let menu = scene.file(BOB, "menu.txt")?;
    scene.check("his other change is as he left it", "a menu, half written\n", &menu)?;
    scene.check("the branch is where it was", &head, &id(scene, BOB, "HEAD")?)?;
    scene.check("and so is what git says of it", &status, &self::status(scene, BOB)?)
}

/// The commit that a name stands for.
fn id(scene: &Scene<'_>, desk: Desk, name: &str) -> Result<String> {
    scene.asks(desk, &format!("git rev-parse --verify '{name}'"))
}

/// All refs with their commits.
fn refs(scene: &Scene<'_>, desk: Desk) -> Result<String> {
    scene.asks(desk, "git for-each-ref --format='%(refname) %(objectname)'")
}

/// What git says has changed.
fn status(scene: &Scene<'_>, desk: Desk) -> Result<String> {
    scene.asks(desk, "git status --porcelain")
}

fn clean(scene: &Scene<'_>, desk: Desk) -> Result<()> {
    let told = format!("`git status` is clean in {}", desk.folder);
    scene.check(&told, "", &status(scene, desk)?)
}

fn same_in_hub(scene: &Scene<'_>, desk: Desk, branch: &str) -> Result<()> {
    let told = format!("the hub has `{branch}` of {}", desk.person);
    // That it is missing there is an answer.
    let there = format!("git rev-parse --verify --quiet 'refs/heads/{branch}' || true");
    scene.check(&told, &id(scene, desk, branch)?, &scene.asks(HUB, &there)?)
}

/// The new script is on a branch, as its author made it.
fn is_executable(scene: &Scene<'_>, desk: Desk, branch: &str) -> Result<()> {
    let found = scene.asks(desk, &format!("git ls-tree {branch} scripts/lint"))?;
    let mode = found.split(' ').next().unwrap_or_default();
    scene.check(&format!("on `{branch}` the new script can be executed"), "100755", mode)
}
