//! What runs by itself on a server: the workflow of this repository and the texts of `docs/canonical.md`, run as
//! they stand there, with programs that stand in for cargo and for the service.

use std::fs;
use std::path::Path;

use crate::testkit::{Lab, Place, program, write_script};

const CHANGES: &str = "orchestration-tools-changes";

fn of_repository(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// A block of code of that page, by a word in it.
fn block(language: &str, word: &str) -> String {
    let readme = of_repository("docs/canonical.md");
    let begin = format!("```{language}\n");
    let blocks = readme.split(&begin[..]).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.into_iter().find(|block| block.contains(word)).unwrap().to_owned()
}

/// A hub with branches, a clone of somebody who works, and a `cargo` that runs the program under
/// test.
fn scene(lab: &Lab) -> (Place<'_>, Place<'_>, String) {
    let repo = lab.repo();
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["branch", "follower"]);
    repo.git(&["branch", "feature/x"]);
    repo.git(&["push", "-q", "--all", "-u", "origin"]);
    write_script(
        &lab.path("bin/cargo"),
        format!("#!/bin/sh\nshift\nexec '{}' \"$@\"\n", program()),
    );
    let path = format!("{}:{}", lab.path("bin"), std::env::var("PATH").unwrap());
    (repo, lab.place("hub"), path)
}

/// A change of managed files and others on the feature branch, pushed.
fn push_feature(repo: &Place<'_>, path: &str) {
    repo.git(&["switch", "-q", "feature/x"]);
    repo.write("setup/a", "a by feature\n");
    repo.write("src/app", "feature\n");
    repo.commit("feature");
    repo.run("git", &["push", "-q"], &[("PATH", path)]).success();
}

fn push_canonical(repo: &Place<'_>, path: &str) {
    repo.canonical(&[("setup/b", Some("b2\n"))]);
    let args = ["push", "-q", "origin", "orchestration-tools"];
    repo.run("git", &args, &[("PATH", path)]).success();
}

/// What must be so at the hub once both have been pushed.
fn check_hub(hub: &Place<'_>) {
    let files = hub.git(&["diff", "--name-only", &format!("{CHANGES}^"), CHANGES]);
    assert_eq!(files, "setup/a\n");
    assert_eq!(hub.git(&["show", "follower:setup/b"]), "b2\n");
    assert_eq!(hub.git(&["show", "feature/x:setup/b"]), "b2\n");
    assert_eq!(hub.git(&["show", "feature/x:setup/a"]), "a by feature\n");
    assert_eq!(hub.git(&["show", "main:setup/b"]), "b1\n");
    assert_eq!(hub.git(&["show", "orchestration-sync/main:setup/b"]), "b2\n");
}

#[test]
fn documented_post_receive_hook_extracts_and_propagates() {
    let lab = Lab::new();
    let (repo, hub, path) = scene(&lab);
    let work = lab.path("work");
    repo.git(&["clone", "-q", "-b", "orchestration-tools", hub.dir.as_str(), work.as_str()]);
    let hook = block("sh", "# hooks/post-receive").replace("/srv/xtask", work.as_str());
    write_script(&lab.path("hub/hooks/post-receive"), &hook);
    push_feature(&repo, &path);
    push_canonical(&repo, &path);
    check_hub(&hub);
    // It ends: what xtask pushes itself starts nothing, and a second push of the same changes nothing.
    let refs = hub.git(&["for-each-ref"]);
    repo.git(&["fetch", "-q"]);
    repo.git(&["branch", "again", "origin/feature/x"]);
    repo.run("git", &["push", "-q", "origin", "again"], &[("PATH", &path)]).success();
    repo.run("git", &["push", "-q", "origin", ":again"], &[("PATH", &path)]).success();
    let with_again = hub.git(&["for-each-ref", "--format=%(refname)"]);
    assert!(!with_again.contains("refs/heads/again"));
    assert_eq!(hub.git(&["for-each-ref", "refs/heads"]).lines().count(), refs.lines().count());
}

/// The `script:` of a job of the GitLab text there, with what comes before every job.
fn gitlab(job: &str) -> String {
    let text = block("yaml", ".orchestration:");
    let mut lines = Vec::new();
    for line in text.lines().skip_while(|line| !line.contains("before_script")).skip(1) {
        match line.strip_prefix("    - ") {
            Some(line) => lines.push(line.to_owned()),
            None => break,
        }
    }
    let own = text.lines().skip_while(|line| *line != format!("{job}:"));
    let own = own.into_iter().find_map(|line| line.strip_prefix("  script: ")).unwrap();
    lines.push(own.to_owned());
    lines.join("\n")
}

#[test]
fn documented_gitlab_jobs_extract_and_propagate() {
    let lab = Lab::new();
    let (repo, hub, path) = scene(&lab);
    push_feature(&repo, &path);
    push_canonical(&repo, &path);
    let commit = repo.id("feature/x");
    let run = |job: &str, branch: &str| {
        // The runner's clone: one commit, detached, and its address made of variables.
        let dir = lab.path(&format!("runner-{job}/project"));
        drop(fs::remove_dir_all(dir.parent().unwrap()));
        fs::create_dir_all(dir.parent().unwrap()).unwrap();
        repo.git(&["clone", "-q", "--no-checkout", hub.dir.as_str(), dir.as_str()]);
        let place = Place { lab: &lab, dir: dir.clone() };
        place.git(&["checkout", "-q", "--detach", &commit]);
        place.git(&[
            "config",
            &format!("url.{}.pushInsteadOf", hub.dir),
            "https://xtask:T@host/a/b.git",
        ]);
        let variables = [
            ("PATH", path.as_str()),
            ("CI", "true"),
            ("XTASK_TOKEN", "T"),
            ("CI_SERVER_HOST", "host"),
            ("CI_PROJECT_PATH", "a/b"),
            ("CI_COMMIT_BRANCH", branch),
            ("CI_COMMIT_SHA", &commit),
            ("GIT_CONFIG_GLOBAL", lab.path("runner-config").as_str()),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let config = format!(
            "[protocol \"file\"]\nallow = always\n[url \"{}\"]\ninsteadOf = https://xtask:T@host/a/b.git\n",
            hub.dir
        );
        fs::write(lab.path("runner-config"), config).unwrap();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &value[..])).collect();
        place.run("sh", &["-ec", &gitlab(job)], &variables)
    };
    run("extract", "feature/x").success();
    run("check", "feature/x").status(1).says("setup/b");
    run("propagate", "orchestration-tools").success();
    check_hub(&hub);
}

/// The `run:` lines of a job of the workflow.
fn runs(job: &str) -> Vec<String> {
    let text = of_repository(".github/workflows/orchestration.yml");
    let own = text.lines().skip_while(|line| *line != format!("  {job}:")).skip(1);
    let own = own.take_while(|line| line.starts_with("    "));
    own.filter_map(|line| line.trim().strip_prefix("- run: ").map(str::to_owned)).collect()
}

/// Stands in for `gh`: one open pull request of the feature branch, and what it was called with.
const GH: &str = r#"#!/bin/sh
dir=$(dirname "$0")/..
printf '%s\n' "$*" | tr '\n' ' ' >> "$dir/gh-log"; echo >> "$dir/gh-log"
request() { printf '[{"number": %s, "url": "https://github.com/o/r/pull/%s", "title": "%s", "body": "", "headRepositoryOwner": {"login": "o"}}]\n' "$1" "$1" "$2"; }
case "$*" in
"pr list"*"--head feature/x "*) request 7 "Feature" ;;
"pr list"*"--head orchestration-sync/main "*) if [ -e "$dir/sync-open" ]; then request 8 "chore(sync): x"; else echo '[]'; fi ;;
"pr list"*) echo '[]' ;;
"pr create"*) touch "$dir/sync-open"; echo "https://github.com/o/r/pull/8" ;;
"pr close"*) rm "$dir/sync-open" ;;
"api "*"--paginate"*) cat "$dir/comments" 2>/dev/null || echo '[]' ;;
"api "*"POST"*) printf '[{"id": 1, "body": "hello"}][{"id": 5, "body": "<!-- xtask: extract -->\\nold"}]' > "$dir/comments"; echo '{}' ;;
"api "*"PATCH"*) echo '{}' ;;
esac
"#;

fn calls(lab: &Lab, word: &str) -> Vec<String> {
    let log = fs::read_to_string(lab.path("gh-log")).unwrap_or_default();
    log.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

#[test]
fn github_workflow_extracts_and_propagates() {
    let lab = Lab::new();
    let (repo, hub, path) = scene(&lab);
    write_script(&lab.path("bin/gh"), GH);
    push_feature(&repo, &path);
    push_canonical(&repo, &path);
    repo.git(&["push", "-q", "origin", "feature/x:refs/pull/7/head"]);
    // An address that is GitHub's, by way of a program that stands in for ssh.
    let ssh = "#!/bin/sh\nfor word in \"$@\"; do last=$word; done\ncase $last in\n\
               git-receive-pack*) exec git receive-pack \"$HUB\" ;;\n\
               git-upload-pack*) exec git upload-pack \"$HUB\" ;;\nesac\nexit 1\n";
    write_script(&lab.path("ssh"), ssh);
    let run = |job: &str, more: &[(&str, &str)]| {
        let dir = lab.path(&format!("ssh-{job}/project"));
        drop(fs::remove_dir_all(dir.parent().unwrap()));
        fs::create_dir_all(dir.parent().unwrap()).unwrap();
        let ssh = lab.path("ssh");
        let here = [
            ("PATH", path.as_str()),
            ("CI", "true"),
            ("HUB", hub.dir.as_str()),
            ("GIT_SSH_COMMAND", ssh.as_str()),
            ("GIT_SSH_VARIANT", "ssh"),
        ];
        let variables: Vec<_> = here.into_iter().chain(more.iter().copied()).collect();
        // As the checkout action leaves it: the canonical branch, and all others of the remote.
        let clone =
            ["clone", "-q", "-b", "orchestration-tools", "git@github.com:o/r.git", dir.as_str()];
        repo.run("git", &clone, &variables).success();
        let place = Place { lab: &lab, dir };
        let lines = runs(job);
        assert!(!lines.is_empty(), "{job}");
        place.run("bash", &["-eo", "pipefail", "-c", &lines.join("\n")], &variables)
    };
    run("check", &[("REQUEST", "refs/pull/7/head")]).status(1).says("setup/b");
    run("extract", &[("BRANCH", "feature/x")]).success();
    assert_eq!(calls(&lab, "POST repos/o/r/issues/7/comments").len(), 1);
    assert!(calls(&lab, "POST")[0].contains("setup/a"));
    run("extract", &[("BRANCH", "feature/x")]).success();
    assert_eq!(calls(&lab, "PATCH repos/o/r/issues/comments/5").len(), 1, "its own comment");
    run("propagate", &[]).success();
    check_hub(&hub);
    let made = calls(&lab, "pr create");
    assert_eq!(made.len(), 1);
    assert!(
        made[0].contains("--base main --head orchestration-sync/main")
            && !made[0].contains("--draft")
    );
    run("propagate", &[]).success();
    assert_eq!(calls(&lab, "pr create").len(), 1);
    assert_eq!(calls(&lab, "pr edit 8").iter().filter(|call| call.contains("--title")).count(), 1);
    // The content arrives in another way: the request is closed and its branch goes.
    hub.git(&["update-ref", "refs/heads/main", "refs/heads/orchestration-sync/main"]);
    run("propagate", &[]).success();
    assert_eq!(calls(&lab, "pr close 8").len(), 1);
    assert_eq!(
        hub.try_git(&["rev-parse", "-q", "--verify", "orchestration-sync/main"]).code,
        Some(1)
    );
}

#[test]
fn github_workflow_pins_actions_and_has_minimal_permissions() {
    let text = of_repository(".github/workflows/orchestration.yml");
    assert!(text.contains("\npermissions: {}\n"));
    let mut actions = 0;
    for action in text.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")) {
        let pin = action.split_once('@').unwrap().1.split(' ').next().unwrap();
        assert!(pin.len() == 40 && pin.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
        actions += 1;
    }
    assert_eq!(actions, 6, "a checkout and a cache for each job");
    // What comes from outside is a variable, never part of a command.
    for line in text.lines().filter(|line| line.trim().starts_with("- run: ")) {
        assert!(!line.contains("${{"), "{line}");
    }
    // Only checks may be cut short: a run that writes is waited for.
    assert_eq!(text.matches("cancel-in-progress: false").count(), 2);
    assert_eq!(text.matches("contents: write").count(), 2);
    // The program comes from the canonical branch everywhere.
    assert_eq!(text.matches("          ref: orchestration-tools\n").count(), actions / 2);
}
