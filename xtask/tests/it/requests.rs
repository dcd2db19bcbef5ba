//! Pull requests for pushed changes of managed files, with programs that stand in for `gh` and for
//! a remote service: one request for each branch, never silent, never in the way of the push.

use std::fs;

use crate::testkit::{Lab, Place, Ran, write_script};

/// Stands in for `gh`: writes its arguments down and does what `mode` says.
const GH: &str = r#"#!/bin/sh
dir=$(dirname "$0")/..
{ for word in "$@"; do printf '%s\n' "$word" | sed '1!s/^/    /'; done; echo; } >> "$dir/gh-log"
mode=$(cat "$dir/gh-mode" 2>/dev/null)
case "$mode $1 $2" in
"signed-out "*) echo "To get started with GitHub CLI, please run:  gh auth login" >&2; exit 4 ;;
"failing "*) echo "GraphQL: something went wrong" >&2; exit 1 ;;
"nonsense pr list") echo "no json at all"; exit 0 ;;
"slow "*) while [ ! -e "$dir/go-on" ]; do sleep 0.05; done ;;
"no-labels pr create" | "no-rights pr create")
  case "$*" in *--label*) [ -e "$dir/labels" ] || { echo "could not add label: 'orchestration' not found" >&2; exit 1; } ;; esac ;;
"no-rights label create") echo "HTTP 403" >&2; exit 1 ;;
"no-draft pr create") echo "Draft pull requests are not supported in this repository" >&2; exit 1 ;;
esac
case "$1 $2" in
"label create") touch "$dir/labels" ;;
"pr list") if [ -e "$dir/open" ]; then cat "$dir/open"; else echo '[]'; fi ;;
"pr create")
  printf '[{"number": 7, "url": "https://github.com/owner/repo/pull/7", "title": "[AUTO] Orchestration changes: x", "body": "Words of a person.", "headRepositoryOwner": {"login": "Owner"}}]' > "$dir/open"
  echo "https://github.com/owner/repo/pull/7" ;;
esac
"#;

/// Stands in for ssh: git's protocol with a repository on this machine.
const SSH: &str = r#"#!/bin/sh
for word in "$@"; do last=$word; done
case $last in
git-receive-pack*) exec git receive-pack "$HUB" ;;
git-upload-pack*) exec git upload-pack "$HUB" ;;
esac
exit 1
"#;

struct Scene<'a> {
    lab: &'a Lab,
    repo: Place<'a>,
    path: String,
}

/// A clone of something that looks like GitHub, with hooks, on a branch of its own.
fn scene<'a>(lab: &'a Lab, url: &str) -> Scene<'a> {
    let repo = lab.repo();
    write_script(&lab.path("bin/gh"), GH);
    write_script(&lab.path("ssh"), SSH);
    repo.git(&["init", "-q", "--bare", "-b", "main", lab.path("hub").as_str()]);
    repo.git(&["remote", "add", "origin", url]);
    let path = format!("{}:{}", lab.path("bin"), std::env::var("PATH").unwrap());
    let scene = Scene { lab, repo, path };
    scene.git(&["push", "-q", "origin", "main", "orchestration-tools"]).success();
    scene.repo.install_hooks().success();
    scene.repo.git(&["switch", "-qc", "feature"]);
    scene
}

const GITHUB: &str = "git@github.com:owner/repo.git";
const COMPARE: &str =
    "https://github.com/owner/repo/compare/orchestration-tools...feature?expand=1";

impl Scene<'_> {
    fn variables(&self) -> [(&str, String); 4] {
        [
            ("PATH", self.path.clone()),
            ("HUB", self.lab.path("hub").into()),
            ("GIT_SSH_COMMAND", self.lab.path("ssh").into()),
            ("GIT_SSH_VARIANT", "ssh".to_owned()),
        ]
    }

    fn git(&self, args: &[&str]) -> Ran {
        let variables = self.variables();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &value[..])).collect();
        self.repo.run("git", args, &variables)
    }

    fn xtask(&self, args: &[&str]) -> Ran {
        let variables = self.variables();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &value[..])).collect();
        self.repo.xtask_with(args, &variables)
    }

    fn mode(&self, mode: &str) {
        fs::write(self.lab.path("gh-mode"), mode).unwrap();
    }

    /// What `gh` was called with, a call each, its arguments joined; without those of one call
    /// that only differ in length.
    fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.lab.path("gh-log")).unwrap_or_default();
        let calls = log.split("\n\n").filter(|call| !call.trim().is_empty());
        calls.map(|call| call.trim().replace("\n    ", "\u{b6}").replace('\n', " ")).collect()
    }

    /// A commit that changes a managed file, and its push.
    fn push_change(&self, text: &str) -> Ran {
        self.repo.write("setup/a", text);
        self.repo.git(&["commit", "-qam", &format!("Set a to {}", text.trim())]);
        self.git(&["push", "-q", "origin", "feature"])
    }

    /// Waits until every request has its answer, and says what they are.
    fn answers(&self) -> Vec<String> {
        loop {
            let json = self.xtask(&["status", "--json"]).success().json();
            let lines = json["requests"].as_array().unwrap().clone();
            let lines: Vec<String> =
                lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect();
            if !lines.iter().any(|line| line.contains("is being opened")) {
                return lines;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn push_of_managed_changes_opens_or_updates_one_draft() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    let ran = scene.push_change("a2\n").success();
    assert!(ran.err.contains("`feature` changes 1 managed file against `orchestration-tools`"));
    assert!(ran.err.contains(COMPARE), "{}", ran.err);
    let answers = scene.answers();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].contains("draft pull request opened for `feature`"), "{answers:?}");
    assert!(answers[0].ends_with("https://github.com/owner/repo/pull/7"), "{answers:?}");
    let calls = scene.calls();
    let create = &calls[1];
    let begin = "pr create --repo github.com/owner/repo --draft --base orchestration-tools --head \
                 feature --title [AUTO] Orchestration changes: Set a to a2 --body ";
    assert!(create.starts_with(begin), "{create}");
    assert!(create.contains("- `setup/a`") && create.contains("Branch `feature` at "), "{create}");
    assert!(create.ends_with("--label orchestration --label auto-created"), "{create}");
    // Looking shows it as often as wanted, a command that works shows it once.
    scene.xtask(&["status"]).success().says("pull/7");
    scene.xtask(&["sync"]).success().says("pull/7");
    scene.xtask(&["sync"]).success().never_says("pull/7");
    scene.xtask(&["status"]).success().never_says("pull/7");
    for number in 3..6 {
        scene.push_change(&format!("a{number}\n")).success();
        let answers = scene.answers();
        assert!(answers[0].contains("pull request updated for `feature`"), "{answers:?}");
    }
    let calls = scene.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("pr create")).count(), 1);
    let edits: Vec<&String> = calls.iter().filter(|call| call.contains("--title")).collect();
    let last = edits.last().unwrap();
    assert!(last.starts_with("pr edit 7 --repo github.com/owner/repo --title "), "{last}");
    assert!(last.contains("Set a to a5") && last.contains("Words of a person."), "{last}");
}

#[test]
fn pushes_without_managed_changes_are_silent() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    scene.repo.write("src/app", "application\nmore\n");
    scene.repo.git(&["commit", "-qam", "application"]);
    let ran = scene.git(&["push", "-q", "origin", "feature"]).success();
    assert_eq!(ran.err, "");
    // Being behind is no change, and neither is a sync commit.
    scene.repo.canonical(&[("setup/a", Some("a2\n"))]);
    scene.repo.git(&["branch", "behind", "main"]);
    assert_eq!(scene.git(&["push", "-q", "origin", "behind"]).success().err, "");
    scene.repo.xtask(&["sync"]).success();
    assert_eq!(scene.git(&["push", "-q", "origin", "feature"]).success().err, "");
    // The canonical branch itself, tags and deletions.
    scene.repo.git(&["tag", "v1"]);
    let all = ["push", "-q", "origin", "orchestration-tools", "v1", ":behind"];
    assert_eq!(scene.git(&all).success().err, "");
    assert!(scene.calls().is_empty() && scene.answers().is_empty());
}

#[test]
fn failed_or_dry_run_push_opens_no_pull_request() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    scene.repo.write("setup/a", "a2\n");
    scene.repo.git(&["commit", "-qam", "x"]);
    scene.git(&["push", "-q", "--dry-run", "origin", "feature"]).success().says(COMPARE);
    assert!(scene.answers().is_empty());
    let refuse = lab.path("hub/hooks/pre-receive");
    write_script(&refuse, "#!/bin/sh\nexit 1\n");
    assert_eq!(scene.git(&["push", "-q", "origin", "feature"]).code, Some(1));
    assert!(scene.answers().is_empty() && scene.calls().is_empty());
    fs::remove_file(&refuse).unwrap();
    scene.git(&["push", "-q", "origin", "feature"]).success();
    assert_eq!(scene.answers().len(), 1);
}

#[test]
fn remote_is_queried_for_branches_without_tracking_ref() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    let spec = "+refs/heads/main:refs/remotes/origin/main";
    scene.repo.git(&["config", "remote.origin.fetch", spec]);
    // The one who waits for the push asks the remote in its own environment.
    scene.repo.git(&["config", "core.sshCommand", lab.path("ssh").as_str()]);
    scene.push_change("a2\n").success();
    assert!(scene.answers()[0].contains("pull/7"));
}

#[test]
fn push_succeeds_and_reports_the_reason_if_gh_fails() {
    for (mode, why) in [
        ("signed-out", "`gh` is not logged in (`gh auth login` logs in)"),
        ("failing", "GraphQL: something went wrong"),
        ("nonsense", "unexpected output from `gh`"),
        ("no-draft", "Draft pull requests are not supported"),
    ] {
        let lab = Lab::new();
        let scene = scene(&lab, GITHUB);
        scene.mode(mode);
        scene.push_change("a2\n").success();
        let answers = scene.answers();
        assert!(
            answers[0].contains("for `feature` was neither opened nor updated"),
            "{mode}: {answers:?}"
        );
        assert!(answers[0].contains(why), "{mode}: {answers:?}");
        assert!(answers[0].contains(COMPARE), "{mode}: {answers:?}");
        // By hand it is the same: the push has gone through, so that is no failure.
        let ran = scene.xtask(&["push", "origin", "feature"]).success();
        assert!(ran.err.contains(why) && ran.err.contains(COMPARE), "{mode}: {}", ran.err);
        // And once it works, one command is enough.
        scene.mode("");
        scene.xtask(&["push", "-q", "origin", "feature"]).success().says("pull request opened");
        assert!(scene.answers().is_empty());
    }
}

#[test]
fn labels_are_created_if_permitted_and_omitted_otherwise() {
    for (mode, note) in [("no-labels", ""), ("no-rights", "(without labels")] {
        let lab = Lab::new();
        let scene = scene(&lab, GITHUB);
        scene.mode(mode);
        scene.push_change("a2\n").success();
        let answers = scene.answers();
        assert!(answers[0].contains("draft pull request opened"), "{mode}: {answers:?}");
        assert!(answers[0].contains(note), "{mode}: {answers:?}");
        let calls = scene.calls();
        assert!(calls.iter().any(|call| call.starts_with("label create orchestration")));
        assert!(calls.iter().any(|call| call.starts_with("label create auto-created")));
    }
}

#[test]
fn push_does_not_wait_for_a_slow_gh() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    scene.mode("slow");
    scene.push_change("a2\n").success();
    // The push is over, and `gh` has not even answered its first question.
    let waiting = scene.xtask(&["status"]).success();
    waiting.says("is being opened").says(COMPARE);
    fs::write(lab.path("go-on"), "").unwrap();
    assert!(scene.answers()[0].contains("draft pull request opened"));
}

/// What goes wrong where nobody listens is told by the next command.
#[test]
fn next_command_reports_a_failed_pull_request() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    // The branch is not followed here, and the remote cannot be asked.
    let spec = "+refs/heads/main:refs/remotes/origin/main";
    scene.repo.git(&["config", "remote.origin.fetch", spec]);
    fs::write(lab.path("ssh"), SSH.replace("git-upload-pack*", "git-never-mind*")).unwrap();
    scene.push_change("a2\n").success();
    let answers = scene.answers();
    assert!(answers[0].contains("`git ls-remote origin` failed"), "{answers:?}");
    assert!(answers[0].contains(COMPARE), "{answers:?}");
}

/// Five pushes made five pull requests.
#[test]
fn lesson_18_successive_pushes_open_one_pull_request() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    scene.mode("slow");
    for number in 2..7 {
        scene.push_change(&format!("a{number}\n")).success();
    }
    fs::write(lab.path("go-on"), "").unwrap();
    let answers = scene.answers();
    assert!(answers.iter().any(|answer| answer.contains("opened")), "{answers:?}");
    let calls = scene.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("pr create")).count(), 1);
    let last = calls.iter().rfind(|call| call.contains("--title")).unwrap();
    assert!(last.contains("Set a to a6"), "{last}");
}

/// A folder with the few programs that a push needs, and no `gh`.
fn without_gh(lab: &Lab) -> String {
    let folder = lab.path("few");
    fs::create_dir_all(&folder).unwrap();
    for program in ["git", "sh", "cat"] {
        let found = std::env::split_paths(&std::env::var("PATH").unwrap())
            .map(|folder| folder.join(program))
            .find(|file| file.is_file())
            .unwrap();
        std::os::unix::fs::symlink(found, folder.join(program)).unwrap();
    }
    folder.into()
}

#[test]
fn push_without_gh_prints_the_compare_url() {
    let lab = Lab::new();
    let mut scene = scene(&lab, GITHUB);
    scene.path = without_gh(&lab);
    let ran = scene.push_change("a2\n").success().says("`gh` is not installed");
    let template = format!("{COMPARE}&template=orchestration-pr.md");
    ran.says(&template);
    assert!(scene.answers().is_empty());
    scene
        .xtask(&["push", "origin", "feature"])
        .success()
        .says("`gh` is not installed")
        .says(&template);
}

#[test]
fn compare_url_is_derived_from_every_remote_url_form() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    scene.repo.write("setup/a", "a2\n");
    scene.repo.git(&["commit", "-qam", "x"]);
    let head = scene.repo.head();
    let zero = "0".repeat(40);
    let input = format!("refs/heads/feature {head} refs/heads/feature {zero}\n");
    let told = |url: &str| {
        let repo = &scene.repo;
        repo.git(&["config", "remote.origin.url", url]);
        let hook = repo.dir.join(".git/hooks/pre-push");
        let shell = xshell::Shell::new().unwrap();
        shell.change_dir(&repo.dir);
        let mut command = xshell::cmd!(shell, "{hook} origin {url}").quiet().stdin(&input);
        for (name, value) in repo.environment() {
            command = command.env(name, value);
        }
        command = command.env("PATH", without_gh_once(&lab)).ignore_status();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{url}");
        String::from_utf8(output.stderr).unwrap()
    };
    let github = "https://github.com/owner/repo/compare/orchestration-tools...feature?expand=1&\
                  template=orchestration-pr.md";
    for url in [
        "git@github.com:owner/repo.git",
        "git@github.com:owner/repo",
        "github.com:owner/repo.git",
        "ssh://git@github.com/owner/repo.git",
        "ssh://git@ssh.github.com:443/owner/repo.git",
        "https://github.com/owner/repo.git",
        "https://github.com/owner/repo/",
        "https://GitHub.com/owner/repo",
        "https://user:secret-token@github.com/owner/repo.git",
        "http://github.com/owner/repo.git",
        "git://github.com/owner/repo.git",
    ] {
        let said = told(url);
        assert!(said.contains(github), "{url}: {said}");
        assert!(!said.contains("secret"), "{url}: {said}");
    }
    for (url, page) in [
        (
            "git@gitlab.com:group/sub/repo.git",
            "https://gitlab.com/group/sub/repo/-/merge_requests/new?",
        ),
        ("https://gitlab.example.com:8443/g/r.git", "https://gitlab.example.com:8443/g/r/-/merge"),
        ("git@bitbucket.org:team/repo.git", "https://bitbucket.org/team/repo/pull-requests/new?"),
        (
            "ssh://git@bitbucket.example.com:7999/prj/repo.git",
            "https://bitbucket.example.com/projects/prj/repos/repo/pull-requests?create",
        ),
        (
            "https://me@bitbucket.example.com/scm/~me/repo.git",
            "https://bitbucket.example.com/users/me/repos/repo/pull-requests?create",
        ),
    ] {
        let said = told(url);
        assert!(said.contains(page), "{url}: {said}");
    }
    for url in ["https://git.example.com/owner/repo.git", "ssh://[::1]:22/owner/repo.git"] {
        let said = told(url);
        assert!(said.contains("cannot derive the pull request URL"), "{url}: {said}");
    }
    for url in [
        "https://github.com/",
        "/srv/git/repo.git",
        "file:///srv/git/repo.git",
        "../repo",
        "not a url at all",
        "https://",
        "ext::sh -c true",
    ] {
        let said = told(url);
        assert!(said.contains("once they are merged into `orchestration-tools`"), "{url}: {said}");
    }
    scene.repo.canonical(&[("setup/sync.toml", Some("[canonical]\nforge = 'gitlab'\n"))]);
    let said = told("https://git.example.com/owner/repo.git");
    assert!(said.contains("https://git.example.com/owner/repo/-/merge_requests/new?"), "{said}");
}

fn without_gh_once(lab: &Lab) -> String {
    let folder = lab.path("few");
    if folder.exists() { folder.into() } else { without_gh(lab) }
}

#[test]
fn push_to_a_fork_opens_the_request_upstream() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    scene.repo.git(&["remote", "add", "fork", "git@github.com:ada/repo.git"]);
    scene.repo.write("setup/a", "a2\n");
    scene.repo.git(&["commit", "-qam", "x"]);
    let ran = scene.git(&["push", "-q", "fork", "feature"]).success();
    ran.says("/owner/repo/compare/orchestration-tools...ada:feature?");
    assert!(scene.answers()[0].contains("pull/7"));
    let calls = scene.calls();
    let create = calls.iter().find(|call| call.starts_with("pr create")).unwrap();
    assert!(create.contains("--repo github.com/owner/repo "), "{create}");
    assert!(create.contains("--head ada:feature "), "{create}");
}

/// Without an owner nobody can say that a request is for our branch, and not for one of the same name in a fork.
#[test]
fn pull_request_with_unknown_owner_is_not_updated() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    let other = r#"[{"number": 3, "url": "https://github.com/owner/repo/pull/3", "title": "a fork's", "body": "x", "headRepositoryOwner": null}]"#;
    fs::write(lab.path("open"), other).unwrap();
    scene.repo.write("setup/a", "a2\n");
    scene.repo.git(&["commit", "-qam", "Change a"]);
    let ran = scene.xtask(&["push", "-u", "origin", "feature"]).success();
    assert!(ran.out.contains("draft pull request opened for `feature`"), "{}", ran.out);
    assert!(!scene.calls().iter().any(|call| call.starts_with("pr edit")));
}

#[test]
fn push_pushes_only_the_named_refs() {
    let lab = Lab::new();
    let scene = scene(&lab, GITHUB);
    scene.repo.git(&["branch", "other"]);
    scene.repo.git(&["tag", "v1"]);
    scene.repo.write("setup/a", "a2\n");
    scene.repo.git(&["commit", "-qam", "Change a"]);
    let heads = || scene.repo.git(&["ls-remote", lab.path("hub").as_str()]);
    let before = heads();
    // Git takes the beginning of a word for the word, and several letters in one.
    for dry in ["--dry-run", "--dry", "-n", "-fn", "-nu"] {
        scene.xtask(&["push", dry, "origin", "feature"]).success();
        assert_eq!(heads(), before, "{dry}");
        assert!(scene.calls().is_empty(), "{dry}");
    }
    let ran = scene.xtask(&["push", "-u", "origin", "feature"]).success();
    assert!(ran.out.contains("draft pull request opened for `feature`"), "{}", ran.out);
    assert!(heads().contains("refs/heads/feature") && !heads().contains("refs/heads/other"));
    assert!(!heads().contains("refs/tags"));
    let upstream = scene.repo.git(&["rev-parse", "--abbrev-ref", "feature@{upstream}"]);
    assert_eq!(upstream.trim(), "origin/feature");
    scene.xtask(&["push", "origin", "feature", "other", "v1"]).success();
    assert!(heads().contains("refs/heads/other") && heads().contains("refs/tags/v1"));
    // What git refuses is a failure, and no request is made for it.
    scene.repo.git(&["commit", "-q", "--amend", "-m", "Amended"]);
    let calls = scene.calls().len();
    scene.xtask(&["push"]).status(3);
    assert_eq!(scene.calls().len(), calls);
    scene.xtask(&["push", "--force-with-lease"]).success().says("pull request updated");
    scene.xtask(&["push", "origin", "nowhere"]).status(3);
    assert_eq!(scene.calls().iter().filter(|call| call.starts_with("pr create")).count(), 1);
    // It does the same where no hook guards the push, and from a detached HEAD.
    scene.repo.xtask(&["uninstall-hooks"]).success();
    scene.repo.write("setup/a", "a3\n");
    scene.repo.git(&["commit", "-qam", "Change a again"]);
    scene.xtask(&["push"]).success().says("pull request updated");
    scene.repo.git(&["switch", "-q", "--detach"]);
    scene.repo.write("setup/b", "b of my own\n");
    scene.repo.git(&["commit", "-qam", "Change b", "--no-verify"]);
    let calls = scene.calls().len();
    scene.xtask(&["push", "origin", "HEAD:refs/heads/detached"]).success().says("for `detached`");
    assert!(scene.calls().len() > calls);
}

#[test]
fn pull_request_template_has_the_required_sections() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github");
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let template = read("PULL_REQUEST_TEMPLATE/orchestration-pr.md");
    assert!(template.contains("## Impact assessment") && template.contains("## Test plan"));
    // Under this name GitHub finds it.
}
