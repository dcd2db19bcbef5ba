//! Results shared between two clones: through git, and through an HTTP cache.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use xtask_config::VALIDATE_FILE;

use crate::testkit::{Lab, Place, write_script};

/// A check that counts its runs outside of the repository, and one that needs what the other makes.
const CHECKS: &str = "[[check]]\nname = 'build'\nrun = 'tool build'\ninputs = ['a.txt']\n\
    env = ['LEVEL']\nshare = true\n\
    [[check]]\nname = 'lint'\nrun = 'tool lint'\ninputs = ['a.txt']\nshare = true\n\
    [[check]]\nname = 'unit'\nrun = 'tool unit'\ninputs = ['b.txt']\nneeds = ['build']\nshare = true\n";

/// Two clones with different places, users and paths of the tool, and the keys of CI and of a stranger.
struct Machines<'a> {
    lab: &'a Lab,
    hub: Place<'a>,
}

impl<'a> Machines<'a> {
    fn new(lab: &'a Lab, through: &str) -> Machines<'a> {
        Machines::with_recheck(lab, through, 0)
    }

    fn with_recheck(lab: &'a Lab, through: &str, recheck: u64) -> Machines<'a> {
        for name in ["ci", "stranger"] {
            let file = lab.path(&format!("keys/{name}"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let made = lab.repo_named("keygen", &[]).run(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file.as_str()],
                &[],
            );
            made.success();
        }
        let public = std::fs::read_to_string(lab.path("keys/ci.pub")).unwrap();
        let key = public.rsplit_once(' ').unwrap().0;
        let share = format!(
            "[share]\nthrough = '{through}'\nsigners = ['ci@example.com {key}']\nrecheck = {recheck}\n"
        );
        let repo = lab
            .repo_with("first", &[("a.txt", "a\n"), ("b.txt", "b\n"), (".gitignore", "/built\n")]);
        repo.git(&["branch", "-q", "-f", "orchestration-tools"]);
        repo.canonical(&[(VALIDATE_FILE, Some(&format!("{share}{CHECKS}")))]);
        repo.git(&["switch", "-q", "orchestration-tools"]);
        let hub = lab.place("hub.git");
        repo.git(&["clone", "-q", "--bare", ".", hub.dir.as_str()]);
        Machines { lab, hub }
    }

    /// Makes the clone of a user, who has the tool somewhere else.
    fn clone_of(&self, user: &str) -> Machine<'a> {
        let dir = self.lab.path(&format!("home/{user}/work/{user}"));
        self.hub.git(&["clone", "-q", self.hub.dir.as_str(), dir.as_str()]);
        let tool = "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'tool 1.0'; exit 0; fi\n\
            echo \"$1\" >> \"$RUNS\"\n[ \"$1\" != build ] || date +%N > built\n\
            [ \"$1\" != unit ] || test -e built\n[ \"$1\" != lint ] || test -z \"$HIDDEN\" || exit 1\n! grep -q bad a.txt\n";
        write_script(&self.lab.path(&format!("home/{user}/bin/tool")), tool);
        let place = Place { lab: self.lab, dir };
        Machine { place, user: user.to_owned(), lab: self.lab }
    }
}

struct Machine<'a> {
    place: Place<'a>,
    user: String,
    lab: &'a Lab,
}

impl Machine<'_> {
    fn home(&self) -> camino::Utf8PathBuf {
        self.lab.path(&format!("home/{}", self.user))
    }

    /// Runs `validate --fast --json` with these variables. Returns the outcomes, what ran, and the whole.
    fn validate(
        &self,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> (String, String, serde_json::Value) {
        let runs = self.home().join("runs");
        drop(std::fs::remove_file(&runs));
        let path = format!("{}:{}", self.home().join("bin"), std::env::var("PATH").unwrap());
        let home = self.home();
        let mut all =
            vec![("PATH", path.as_str()), ("RUNS", runs.as_str()), ("HOME", home.as_str())];
        all.extend(variables);
        let mut args = vec!["validate", "--fast", "--json", "--why"];
        args.extend(more);
        let json = self.place.xtask_with(&args, &all).json();
        let outcomes: Vec<String> = json["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| format!("{} {}", check["name"], check["outcome"]).replace('"', ""))
            .collect();
        // Checks that do not need each other run side by side.
        let ran = std::fs::read_to_string(&runs).unwrap_or_default();
        let mut ran: Vec<&str> = ran.lines().collect();
        ran.sort_unstable();
        (outcomes.join(", "), ran.join(" "), json)
    }

    fn outcomes(&self) -> String {
        self.validate(&[], &[]).0
    }

    /// Validates as CI does, which signs.
    fn sign(&self) -> (String, String, serde_json::Value) {
        let key = self.lab.path("keys/ci");
        self.validate(&[], &[("CI", "1"), ("XTASK_SHARE_KEY", key.as_str())])
    }
}

const ALL_PASSED: &str = "build passed, lint passed, unit passed";
const ALL_CACHED: &str = "build cached, lint cached, unit cached";

#[test]
fn another_clone_takes_what_was_signed_for_its_very_state() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let (ci, dev) = (machines.clone_of("ci"), machines.clone_of("ann"));
    let (outcomes, ran, json) = ci.sign();
    assert_eq!((outcomes.as_str(), ran.as_str()), (ALL_PASSED, "build lint unit"), "{json}");
    assert_eq!(json["warnings"], serde_json::json!([]));
    let (outcomes, ran, json) = dev.validate(&[], &[]);
    assert_eq!((outcomes.as_str(), ran.as_str()), (ALL_CACHED, ""), "{json}");
    let why = json["checks"][1]["why"].to_string();
    assert!(why.contains("says `ci@example.com`") && why.contains("at commit"), "{why}");
    // Left alone with `--no-share`, without `--fast`, and in a dry run.
    assert_eq!(dev.validate(&["--dry-run"], &[]).0, "build planned, lint planned, unit planned");
    assert_eq!(dev.validate(&["--no-share"], &[]).0, ALL_PASSED);
    // Nothing of a branch of another clone is changed.
    let refs = machines.hub.git(&["for-each-ref", "--format=%(refname)"]);
    assert!(refs.contains("refs/xtask/results"), "{refs}");
    assert_eq!(refs.lines().count(), 3, "{refs}");
}

#[test]
fn what_a_check_needs_runs_first_if_the_check_has_to_run() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let (ci, dev) = (machines.clone_of("ci"), machines.clone_of("ann"));
    ci.sign();
    dev.place.write("b.txt", "edited\n");
    let (outcomes, ran, json) = dev.validate(&[], &[]);
    assert_eq!(
        (outcomes.as_str(), ran.as_str()),
        ("build passed, lint cached, unit passed", "build unit"),
        "{json}"
    );
    assert!(json["checks"][0]["why"].to_string().contains("`unit` needs what it makes"), "{json}");
}

#[test]
fn every_difference_of_machine_or_state_is_another_state() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let ci = machines.clone_of("ci");
    ci.sign();
    let differs = |user: &str, change: &dyn Fn(&Machine<'_>), expected: &str| {
        let dev = machines.clone_of(user);
        change(&dev);
        assert_eq!(dev.outcomes(), expected, "{user}");
    };
    differs("same", &|_| (), ALL_CACHED);
    differs("content", &|dev| dev.place.write("a.txt", "other\n"), ALL_PASSED);
    differs("executable", &|dev| dev.place.make_executable("a.txt"), ALL_PASSED);
    let tool = |dev: &Machine<'_>, from: &str, to: &str| {
        let file = dev.home().join("bin/tool");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        write_script(&file, text.replace(from, to));
    };
    differs("version", &|dev| tool(dev, "tool 1.0", "tool 1.1"), ALL_PASSED);
    differs("bytes", &|dev| tool(dev, "#!/bin/sh\n", "#!/bin/sh\n# other\n"), ALL_PASSED);
    let dev = machines.clone_of("variable");
    assert_eq!(dev.validate(&[], &[("LEVEL", "2")]).0, "build passed, lint cached, unit passed");
    assert_eq!(dev.validate(&[], &[("LEVEL", "")]).0, "build passed, lint cached, unit passed");
}

#[test]
fn only_named_signers_are_believed() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let (ci, dev) = (machines.clone_of("ci"), machines.clone_of("ann"));
    let stranger = lab.path("keys/stranger");
    let (_, _, json) = ci.validate(&[], &[("XTASK_SHARE_KEY", stranger.as_str())]);
    assert!(json["warnings"].to_string().contains("is not one of `share.signers`"), "{json}");
    assert_eq!(dev.validate(&["--dry-run"], &[]).0.matches("planned").count(), 3);
    // A key of CI that is cut off, and one that is not there.
    std::fs::write(lab.path("keys/cut"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    for name in ["cut", "none"] {
        let key = lab.path(&format!("keys/{name}"));
        let (outcomes, _, json) =
            ci.validate(&["--no-share"], &[("XTASK_SHARE_KEY", key.as_str())]);
        assert_eq!(outcomes, ALL_CACHED, "{json}");
        ci.place.write("a.txt", name);
        let (outcomes, _, json) = ci.validate(&[], &[("XTASK_SHARE_KEY", key.as_str())]);
        assert_eq!(outcomes, ALL_PASSED, "the run itself is as before");
        assert!(json["warnings"].to_string().contains("the results are not shared: "), "{json}");
        ci.place.write("a.txt", "a\n");
    }
    // The branch that is checked out cannot name signers of its own.
    let text = dev.place.read(VALIDATE_FILE).replace("ci@example.com", "me@example.com");
    dev.place.write(VALIDATE_FILE, text);
    ci.place.git(&["switch", "-q", "-c", "other"]);
    ci.place.write("a.txt", "b\n");
    ci.sign();
    dev.place.write("a.txt", "b\n");
    assert_eq!(dev.outcomes(), ALL_CACHED, "those of the canonical commit count");
}

#[test]
fn a_state_that_has_failed_here_since_is_not_passed_by_a_shared_pass() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let dev = machines.clone_of("ann");
    machines.clone_of("ci").sign();
    assert_eq!(dev.outcomes(), ALL_CACHED);
    let only = ["--only", "lint"];
    let (outcomes, ..) = dev.validate(&["--only", "lint", "--no-share"], &[("HIDDEN", "1")]);
    assert!(outcomes.contains("lint failed"), "{outcomes}");
    let (outcomes, ran, json) = dev.validate(&only, &[("HIDDEN", "1")]);
    assert!(outcomes.contains("lint failed"), "{outcomes}");
    let why = json["checks"][1]["why"].to_string();
    assert!(why.contains("but has failed here in this state since"), "{why}");
    assert_eq!(ran, "lint");
    // It counts as before once the state has passed again, or in another state.
    assert!(dev.validate(&only, &[]).0.contains("lint passed"));
    dev.place.write("a.txt", "bad\n");
    assert!(dev.validate(&only, &[]).0.contains("lint failed"));
    dev.place.write("a.txt", "a\n");
    assert!(dev.validate(&only, &[]).0.contains("lint cached"));
}

#[test]
fn a_pass_that_does_not_hold_is_revoked() {
    let lab = Lab::new();
    let machines = Machines::with_recheck(&lab, "git", 1);
    machines.clone_of("ci").sign();
    let dev = machines.clone_of("ann");
    assert_eq!(dev.outcomes(), ALL_CACHED);
    let key = lab.path("keys/ci");
    let signing = [("CI", "1"), ("XTASK_SHARE_KEY", key.as_str())];
    let (outcomes, ran, json) = machines.clone_of("ci-2").validate(&[], &signing);
    assert_eq!((outcomes.as_str(), ran.as_str()), (ALL_PASSED, "build lint unit"), "{json}");
    assert!(json["checks"][1]["why"].to_string().contains("checked again: it passed"), "{json}");
    // Something that the check does not name decides as well.
    let hidden = [signing[0], signing[1], ("HIDDEN", "1")];
    let (outcomes, _, json) = machines.clone_of("ci-3").validate(&[], &hidden);
    assert_eq!(outcomes, "build passed, lint failed, unit passed", "{json}");
    let warning = json["warnings"].to_string();
    assert!(warning.contains("`lint` FAILED in a state of which a shared pass says"), "{warning}");
    assert!(warning.contains("says `ci@example.com`: it is revoked"), "{warning}");
    let late = machines.clone_of("late");
    let (outcomes, ran, json) = late.validate(&[], &[]);
    assert_eq!(
        (outcomes.as_str(), ran.as_str()),
        ("build cached, lint passed, unit cached", "lint")
    );
    assert!(json["checks"][1]["why"].to_string().contains("its shared pass was revoked"), "{json}");
}

/// A cache with `PUT` and `GET` of whole entries, and a fault that it can be told to have.
struct Cache {
    port: u16,
    entries: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    fault: Arc<Mutex<&'static str>>,
}

impl Cache {
    fn start() -> Cache {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cache = Cache { port, entries: Arc::default(), fault: Arc::new(Mutex::new("")) };
        let (entries, fault) = (Arc::clone(&cache.entries), Arc::clone(&cache.fault));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (entries, fault) = (Arc::clone(&entries), *fault.lock().unwrap());
                std::thread::spawn(move || drop(answer(stream, &entries, fault)));
            }
        });
        cache
    }

    fn have(&self, fault: &'static str) {
        *self.fault.lock().unwrap() = fault;
    }
}

fn answer(
    mut stream: TcpStream,
    entries: &Mutex<BTreeMap<String, Vec<u8>>>,
    fault: &str,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_owned());
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        let (status, body) = match (method, fault) {
            (_, "silent") => {
                std::thread::sleep(std::time::Duration::from_secs(20));
                return Ok(());
            }
            (_, "refuses") => ("403 Forbidden", Vec::new()),
            ("PUT", _) => {
                entries.lock().unwrap().insert(path, body);
                ("201 Created", Vec::new())
            }
            (_, "lies") => ("200 OK", b"something else".to_vec()),
            (_, "cuts") => {
                let all = entries.lock().unwrap().get(&path).cloned().unwrap_or_default();
                ("200 OK", all[..all.len() / 2].to_vec())
            }
            _ => match entries.lock().unwrap().get(&path) {
                Some(body) => ("200 OK", body.clone()),
                None => ("404 Not Found", Vec::new()),
            },
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
    }
}

#[test]
fn a_cache_is_used_and_believed_in_nothing() {
    let lab = Lab::new();
    let cache = Cache::start();
    let machines = Machines::new(&lab, &format!("http://127.0.0.1:{}/x", cache.port));
    let (ci, dev) = (machines.clone_of("ci"), machines.clone_of("ann"));
    let (_, _, json) = ci.sign();
    assert_eq!(json["warnings"], serde_json::json!([]));
    assert_eq!(cache.entries.lock().unwrap().len(), 4, "three keys and what they name");
    for fault in ["lies", "cuts", "refuses"] {
        cache.have(fault);
        let dev = machines.clone_of(fault);
        let (outcomes, _, json) = dev.validate(&[], &[]);
        assert_eq!(outcomes, ALL_PASSED, "{fault}: {json}");
        assert_ne!(json["warnings"], serde_json::json!([]), "{fault}");
    }
    cache.have("");
    assert_eq!(dev.outcomes(), ALL_CACHED);
    // What was answered counts for a minute: nobody is asked again.
    cache.have("refuses");
    let (outcomes, _, json) = dev.validate(&[], &[]);
    assert_eq!((outcomes.as_str(), &json["warnings"]), (ALL_CACHED, &serde_json::json!([])));
    cache.have("");
    // A pass under the key of another state, or of another check.
    let mut entries = cache.entries.lock().unwrap();
    let some = entries.iter().find(|(path, _)| path.contains("/ac/")).unwrap().1.clone();
    for (path, entry) in entries.iter_mut() {
        if path.contains("/cas/") {
            let text = String::from_utf8_lossy(entry).replace("\"lint\"", "\"lin2\"");
            *entry = text.into_bytes();
        } else {
            *entry = some.clone();
        }
    }
    drop(entries);
    let other = machines.clone_of("forged");
    let (outcomes, _, json) = other.validate(&[], &[]);
    assert_eq!(outcomes, ALL_PASSED, "{json}");
    assert!(json["warnings"].to_string().contains("is not what its name says"), "{json}");
}

#[test]
fn an_unreachable_place_is_not_in_the_way() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "http://127.0.0.1:1/x");
    let dev = machines.clone_of("ann");
    let (outcomes, _, json) = dev.validate(&[], &[]);
    assert_eq!(outcomes, ALL_PASSED);
    assert!(json["warnings"].to_string().contains("the cache of results did not answer"), "{json}");
    assert_eq!(dev.outcomes(), ALL_CACHED, "those of this clone");
    // Nobody waits for it again at once.
    dev.place.write("a.txt", "edited\n");
    let (outcomes, _, json) = dev.validate(&[], &[]);
    assert_eq!(outcomes, ALL_PASSED);
    assert_eq!(json["warnings"], serde_json::json!([]));
    assert!(json["checks"][0]["why"].to_string().contains("was out of reach"), "{json}");
}

#[test]
fn a_ref_of_results_may_hold_anything() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    machines.clone_of("ci").sign();
    let hub = &machines.hub;
    let put = |user: &str, make: &dyn Fn(&Place<'_>) -> String, warns: bool| {
        let dev = machines.clone_of(user);
        let id = make(&dev.place);
        dev.place.git(&[
            "push",
            "-q",
            "--force",
            "origin",
            &format!("{}:refs/xtask/results", id.trim()),
        ]);
        let (outcomes, _, json) = machines.clone_of(&format!("{user}-reader")).validate(&[], &[]);
        assert_eq!(outcomes, ALL_PASSED, "{user}: {json}");
        assert_eq!(json["warnings"] != serde_json::json!([]), warns, "{user}: {json}");
    };
    let old = hub.git(&["rev-parse", "refs/xtask/results"]);
    let bundle = hub.git(&["ls-tree", "--name-only", "refs/xtask/results"]);
    put("blob", &|place| place.git(&["hash-object", "-w", "a.txt"]), true);
    put("tree", &|place| place.git(&["rev-parse", "HEAD^{tree}"]), true);
    put("branch", &|place| place.git(&["rev-parse", "HEAD"]), false);
    // Names of bundles with other contents: a text, a folder, a symlink, and far too many.
    let name = bundle.trim().to_owned();
    let commit = |place: &Place<'_>| {
        place.git(&["add", "--all"]);
        place.git(&["commit", "-q", "-m", "x"]);
        place.git(&["rev-parse", "HEAD"])
    };
    let write = |place: &Place<'_>, content: &str| {
        place.write(&name, content);
        commit(place)
    };
    put("text", &|place| write(place, "{\"schema\":1}\n"), true);
    put("huge", &|place| write(place, &"x".repeat(600_000)), true);
    put(
        "folder",
        &|place| {
            place.write(&format!("{name}/x"), "x");
            commit(place)
        },
        false,
    );
    put(
        "link",
        &|place| {
            place.link("a.txt", &name);
            commit(place)
        },
        false,
    );
    let many = |place: &Place<'_>| {
        for number in 0..300 {
            place.write(&format!("{number:012}-{number:064x}"), "x\n");
        }
        commit(place)
    };
    put("many", &many, true);
    // CI goes on from there, and an honest ref is believed again.
    let ci = machines.clone_of("ci-again");
    ci.sign();
    assert_eq!(machines.clone_of("late").outcomes(), ALL_CACHED);
    hub.git(&["update-ref", "refs/xtask/results", old.trim()]);
    assert_eq!(machines.clone_of("later").outcomes(), ALL_CACHED, "forced back to an older state");
}

#[test]
fn a_bundle_of_somebody_who_calls_himself_ci_is_passed_over() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let (evil, dev) = (machines.clone_of("mallory"), machines.clone_of("ann"));
    // A canonical branch of his own names his key.
    let key = |name: &str| {
        let public = std::fs::read_to_string(lab.path(&format!("keys/{name}.pub"))).unwrap();
        public.split(' ').nth(1).unwrap().to_owned()
    };
    let text = evil.place.read(VALIDATE_FILE).replace(&key("ci"), &key("stranger"));
    evil.place.write(VALIDATE_FILE, text);
    evil.place.commit("me");
    let path = lab.path("keys/stranger");
    let (outcomes, _, json) =
        evil.validate(&[], &[("CI", "1"), ("XTASK_SHARE_KEY", path.as_str())]);
    assert_eq!((outcomes.as_str(), &json["warnings"]), (ALL_PASSED, &serde_json::json!([])));
    let (outcomes, ran, json) = dev.validate(&[], &[]);
    assert_eq!((outcomes.as_str(), ran.as_str()), (ALL_PASSED, "build lint unit"), "{json}");
    assert!(
        json["warnings"].to_string().contains("its signature is not one of `ci@example.com`"),
        "{json}"
    );
}

#[test]
fn a_cache_on_this_machine_is_asked_directly_and_by_its_very_address() {
    let lab = Lab::new();
    let cache = Cache::start();
    let machines = Machines::new(&lab, &format!("http://127.0.0.1:{}/{{a,b}}", cache.port));
    let (ci, key) = (machines.clone_of("ci"), lab.path("keys/ci"));
    let through_proxy = [
        ("http_proxy", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
        ("no_proxy", ""),
        ("XTASK_SHARE_KEY", key.as_str()),
    ];
    let (_, _, json) = ci.validate(&[], &through_proxy);
    assert_eq!(json["warnings"], serde_json::json!([]));
    let entries = cache.entries.lock().unwrap().clone();
    assert_eq!(entries.len(), 4);
    assert!(entries.keys().all(|path| path.starts_with("/{a,b}/")), "{entries:?}");
    assert_eq!(machines.clone_of("ann").outcomes(), ALL_CACHED);
}

#[test]
fn a_token_may_end_with_a_line_break_and_has_none_inside() {
    let lab = Lab::new();
    let cache = Cache::start();
    let place = format!("http://127.0.0.1:{}'\ntoken = '$TOKEN", cache.port);
    let machines = Machines::new(&lab, &place);
    let dev = machines.clone_of("ann");
    let warnings = |token: &str| dev.validate(&[], &[("TOKEN", token)]).2["warnings"].to_string();
    assert_eq!(warnings("secret\n"), "[]");
    dev.place.write("a.txt", "other\n");
    let warnings = warnings("secret\nX-Other: 1");
    assert!(warnings.contains("has a line break"), "{warnings}");
    assert!(!warnings.contains("secret"), "{warnings}");
}

#[test]
fn many_machines_that_sign_at_once_lose_nothing() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let all: Vec<Machine<'_>> =
        (0..8).map(|number| machines.clone_of(&format!("ci-{number}"))).collect();
    std::thread::scope(|scope| {
        for (number, ci) in all.iter().enumerate() {
            ci.place.write("a.txt", format!("{number}\n"));
            scope.spawn(|| assert_eq!(ci.sign().2["warnings"], serde_json::json!([])));
        }
    });
    let bundles = machines.hub.git(&["ls-tree", "--name-only", "refs/xtask/results"]);
    assert_eq!(bundles.lines().count(), all.len(), "{bundles}");
}

#[test]
fn who_signs_needs_no_name_and_a_partial_clone_reads() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let key = lab.path("keys/ci");
    let nobody =
        [("GIT_CONFIG_GLOBAL", "/dev/null"), ("EMAIL", ""), ("XTASK_SHARE_KEY", key.as_str())];
    let (_, _, json) = machines.clone_of("ci").validate(&[], &nobody);
    assert_eq!(json["warnings"], serde_json::json!([]));
    machines.hub.git(&["config", "uploadpack.allowFilter", "true"]);
    let dev = machines.clone_of("ann");
    std::fs::remove_dir_all(&dev.place.dir).unwrap();
    let url = format!("file://{}", machines.hub.dir);
    machines.hub.git(&["clone", "-q", "--filter=blob:none", &url, dev.place.dir.as_str()]);
    assert_eq!(dev.outcomes(), ALL_CACHED);
}

#[test]
fn nobody_is_asked_for_a_passphrase() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let dev = machines.clone_of("ann");
    dev.place.git(&["remote", "set-url", "origin", "ssh://127.0.0.1:1/x.git"]);
    let ssh = dev.home().join("bin/ssh");
    write_script(
        &ssh,
        "#!/bin/sh\necho \"$SSH_ASKPASS_REQUIRE\" >> \"$HOME/asked\"\n$SSH_ASKPASS 'Passphrase: ' && exit 0\nexit 255\n",
    );
    let (outcomes, _, json) = dev.validate(&[], &[("GIT_SSH", ssh.as_str())]);
    assert_eq!(outcomes, ALL_PASSED);
    assert!(json["warnings"].to_string().contains("no shared results: cannot read"), "{json}");
    let asked = std::fs::read_to_string(dev.home().join("asked")).unwrap();
    assert!(asked.lines().all(|line| line == "force"), "{asked}");
}

#[test]
fn what_is_wrong_with_the_canonical_configuration_fails_no_run() {
    let lab = Lab::new();
    let machines = Machines::new(&lab, "git");
    let dev = machines.clone_of("ann");
    let good = dev.place.read(VALIDATE_FILE);
    let (begin, rest) = good.split_once("signers = [").unwrap();
    let bad_signer = format!("{begin}signers = ['*@example.com', {rest}");
    for (number, text) in [bad_signer.as_str(), "[share]\nwhere = 'git'\n"].into_iter().enumerate()
    {
        dev.place.write(VALIDATE_FILE, text);
        dev.place.git(&["commit", "-qam", "bad"]);
        dev.place.git(&["push", "-q", "origin", "HEAD:orchestration-tools"]);
        // The branch that has the fault is told so.
        dev.place.xtask(&["validate"]).status(2).says(["is not valid", "unknown key"][number]);
        dev.place.write(VALIDATE_FILE, &good);
        dev.place.write("a.txt", format!("{number}\n"));
        let (outcomes, _, json) = dev.validate(&[], &[]);
        assert_eq!(outcomes, ALL_PASSED, "{json}");
    }
    let fails = dev.place.xtask(&["validate", "--dry-run"]).success();
    fails.says("results are not shared, because of the canonical branch: ");
}
