//! The shim: the small shell script that git runs as a hook. It runs the hook that was there before
//! it, with the same arguments and input, and then our program. Text only.
//!
//! The program is started, not become: one that is gone, cut short or killed is told from one that
//! refuses, and does not break the git command.

use std::path::{Path, PathBuf};

use super::Hook;

/// What a hook that was there before is called beside the shim.
pub const KEPT: &str = ".pre-xtask";

/// By what every shim of ours is known, of whatever version.
const MARKER: &str = "# xtask hook shim ";

/// The version of the text below. It goes up with every change.
const VERSION: u32 = 2;

/// The variable in which a shim says its process to what was there before it. That may run the shim in
/// turn, which has nothing to do then.
pub const SHIM_PID_VARIABLE: &str = "XTASK_BEHIND";

/// Where the shim finds the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramLocation {
    /// In the git folder in which the hooks lie, so that both can move together.
    InGitFolder,
    /// At this path, for hooks that lie elsewhere.
    Path(PathBuf),
}

/// The text of the shim for a hook. In a folder that repositories share, one shim may be what was
/// there before another: it does not run itself.
#[must_use]
pub fn render_shim(hook: Hook, program: &ProgramLocation) -> String {
    let program = match program {
        ProgramLocation::InGitFolder => "\"${0%/*}/../xtask/bin/xtask\"".to_owned(),
        ProgramLocation::Path(path) => shell_quote(path),
    };
    let head = format!(
        "#!/bin/sh\n\
         {MARKER}{VERSION}: made by `cargo xtask install-hooks`; `uninstall-hooks` takes it away.\n\
         # What was here before runs first; it is kept as {name}{KEPT}.\n\
         program={program}\n\
         before=\"${{0%/*}}/{name}{KEPT}\"\n\
         [ \"$0\" != \"$before\" ] || {{ before=; unset XTASK_BEHIND; }}\n\
         # A manager that has put this aside and runs it from its own hook is not run from here as well.\n\
         front=\"${{0%/*}}/{name}\"\n\
         if [ \"$0\" != \"$front\" ] && [ -f \"$before\" ] && [ -f \"$front\" ]; then\n\
         \x20 id=$(sed -n 's/^# ID: //p' \"$front\")\n\
         \x20 if [ \"${{XTASK_BEHIND-}}\" ] || cmp -s \"$front\" \"$before\" ||\n\
         \x20   {{ [ \"$id\" ] && grep -qxF \"# ID: $id\" \"$before\"; }}; then before=; fi\n\
         fi\n",
        name = hook.name()
    );
    let before = match hook {
        Hook::PrePush => REQUIRE_KEPT_PUSH_HOOK,
        Hook::PreCommit => REQUIRE_KEPT_HOOK,
        _ => RUN_KEPT_HOOK,
    };
    let end = if hook.can_block() { "0" } else { "$failed" };
    let refuses = if hook.can_block() { "1) exit 1 ;;\n" } else { "" };
    let feeds = if hook == Hook::PrePush { "feed " } else { "" };
    let name = hook.name();
    format!(
        "{head}{before}\
         if [ -x \"$program\" ] && [ -s \"$program\" ]; then\n\
         \x20 {feeds}\"$program\" hook {name} \"$PPID\" \"$@\"\n\
         \x20 status=$?\n\
         else\n\
         \x20 status=missing\n\
         fi\n\
         case $status in\n\
         0) ;;\n\
         {refuses}\
         missing) echo \"xtask: {name} did nothing, because its program is missing;\" \
         \"'cargo xtask install-hooks' brings it back\" >&2 ;;\n\
         *) echo \"xtask: {name} did nothing, because its program is broken (status $status);\" \
         \"'cargo xtask install-hooks' renews it\" >&2 ;;\n\
         esac\n\
         exit {end}\n"
    )
}

/// Runs what was there; its failure is the hook's in the end.
const RUN_KEPT_HOOK: &str = "\
failed=0
if [ -x \"$before\" ]; then
  env XTASK_BEHIND=$$ \"$before\" \"$@\" || failed=$?
fi
";

/// Runs what was there; its failure ends the hook.
const REQUIRE_KEPT_HOOK: &str = "\
if [ -x \"$before\" ]; then
  env XTASK_BEHIND=$$ \"$before\" \"$@\" || exit $?
fi
";

/// The same, where both want to read what git says.
const REQUIRE_KEPT_PUSH_HOOK: &str = "\
if [ -x \"$before\" ]; then
  refs=$(cat)
  say() { [ -z \"$refs\" ] || printf '%s\\n' \"$refs\" 2>/dev/null; }
  feed() { say | \"$@\"; }
  feed env XTASK_BEHIND=$$ \"$before\" \"$@\" || exit $?
else
  feed() { \"$@\"; }
fi
";

/// What to do about a hook that cannot be moved aside: the line by which it starts our program
/// itself. It goes right after the first line, and lets git go on where the program is missing or
/// broken.
#[must_use]
pub fn describe_manual_install(content: &[u8], hook: Hook, program: &Path) -> String {
    if hook == Hook::PrePush {
        // Only one of the two could read what git says.
        return "leave it there; `cargo xtask push` judges a push and sees to pull requests without it"
            .to_owned();
    }
    let (program, name) = (shell_quote(program), hook.name());
    let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    if first.starts_with("#!") && !first.trim_end().ends_with("sh") {
        return format!("leave it there, and let it run {program} hook {name} with its arguments");
    }
    let refuses = if hook.can_block() { " || [ $? -ne 1 ] || exit 1" } else { " || :" };
    format!(
        "leave it there, and put this line right after its first:\n    \
         [ ! -x {program} ] || {program} hook {name} \"$PPID\" \"$@\"{refuses}"
    )
}

/// Whether a hook starts this program by itself.
#[must_use]
pub fn calls_program(content: &[u8], hook: Hook, program: &Path) -> bool {
    let text = String::from_utf8_lossy(content);
    let starts = format!("{} hook {} ", shell_quote(program), hook.name());
    hook != Hook::PrePush
        && text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(&starts))
}

/// Whether a script is a shim of ours, of whatever version, changed by hand or not.
#[must_use]
pub fn is_xtask_shim(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&content[..content.len().min(1000)]);
    let made_by = "made by `cargo xtask install-hooks`";
    text.lines().take(4).any(|line| line.starts_with(MARKER) && line.contains(made_by))
}

/// By what the hooks of managers are known that write them whole whenever they are run, and give them no
/// id: lefthook 2, simple-git-hooks 2, hk 1.
const MANAGER_MARKS: [&str; 3] =
    ["if [ \"$LEFTHOOK\" = \"0\" ]", "[ \"$SKIP_SIMPLE_GIT_HOOKS\" = \"1\" ]", "exec hk run "];

/// Ways in which a script asks under which name it was started, besides `$0`.
const NAME_QUERIES: [&str; 8] = [
    "argv[0]",
    "ARGV[0]",
    "PROGRAM_NAME",
    "__FILE__",
    "BASH_SOURCE[0]##",
    "basename \"${BASH_SOURCE",
    "overcommit",
    "husky",
];

/// Ways to ask only in which folder the script lies, which stays the same.
const FOLDER_QUERIES: [&str; 6] = [
    "dirname \"$0\"",
    "dirname -- \"$0\"",
    "dirname $0",
    "dirname -- $0",
    "${0%/*}",
    "dirname \"${0}\"",
];

/// Why a hook would not do its work under another name, if it would not.
#[must_use]
pub fn find_name_dependency(content: &[u8], link: Option<&Path>, name: &str) -> Option<String> {
    // Git runs a text without `#!`, too, as a script of the shell.
    if !content.contains(&0) {
        let text = String::from_utf8_lossy(content);
        // What a script reads in from beside itself, as husky's do, sees the name of the script.
        let reads_in = |line: &&str| {
            let words = line.trim_start();
            let is_beside = ["$0", "${0", "dirname"].iter().any(|word| words.contains(word));
            (words.starts_with(". ") || words.starts_with("source ")) && is_beside
        };
        if let Some(line) = text.lines().find(reads_in) {
            return Some(format!("what it reads in may ask under which name it runs (`{line}`)"));
        }
        // Telling one's name is not asking for it, and in awk `$0` is a line.
        let tells = |line: &&str| {
            let words = line.trim_start();
            words.starts_with("echo ") || words.starts_with("printf ") || words.contains("awk ")
        };
        let text: Vec<&str> = text.lines().filter(|line| !tells(line)).collect();
        let text = text.join("\n");
        let rest = FOLDER_QUERIES.iter().fold(text, |text, form| text.replace(form, ""));
        let asks = ["$0", "${0"].iter().chain(&NAME_QUERIES).find(|word| rest.contains(**word))?;
        return Some(format!("it seems to ask under which name it runs (`{asks}`)"));
    }
    let target = link?.file_name()?;
    (target != name).then(|| {
        format!("it is a link to the program `{}`, which may go by its name", target.display())
    })
}

/// Whether two hooks are of the same manager: one and the same text, or with the same mark of those who
/// put other hooks aside and know their own by it.
#[must_use]
pub fn are_from_same_manager(one: &[u8], two: &[u8]) -> bool {
    let mark = |content: &[u8]| {
        let text = String::from_utf8_lossy(content);
        let line = text.lines().find(|line| line.starts_with("# ID: "));
        let line = line.or_else(|| {
            text.lines().find(|line| MANAGER_MARKS.iter().any(|mark| line.contains(mark)))
        });
        line.map(str::to_owned)
    };
    one == two || mark(one).is_some_and(|mark_of_one| Some(mark_of_one) == mark(two))
}

/// Whether a shim is of the repository whose program is there. In a folder that repositories share
/// it may be another's.
#[must_use]
pub fn belongs_to_program(content: &[u8], program: &ProgramLocation) -> bool {
    match program {
        ProgramLocation::InGitFolder => true,
        ProgramLocation::Path(path) => {
            let line = format!("program={}", shell_quote(path));
            String::from_utf8_lossy(content).lines().any(|found| found == line)
        }
    }
}

/// A path as one word of the shell.
fn shell_quote(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    if let Some(text) = path.to_str() {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    // What is no text is spelled out, byte for byte.
    let spelled = path.as_os_str().as_bytes().iter().map(|byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
            char::from(*byte).to_string()
        }
        byte => format!("\\{byte:03o}"),
    });
    format!("\"$(printf '{}')\"", spelled.collect::<String>())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_shim_can_be_read_in_one_go() {
        expect![[r##"
            #!/bin/sh
            # xtask hook shim 2: made by `cargo xtask install-hooks`; `uninstall-hooks` takes it away.
            # What was here before runs first; it is kept as post-checkout.pre-xtask.
            program="${0%/*}/../xtask/bin/xtask"
            before="${0%/*}/post-checkout.pre-xtask"
            [ "$0" != "$before" ] || { before=; unset XTASK_BEHIND; }
            # A manager that has put this aside and runs it from its own hook is not run from here as well.
            front="${0%/*}/post-checkout"
            if [ "$0" != "$front" ] && [ -f "$before" ] && [ -f "$front" ]; then
              id=$(sed -n 's/^# ID: //p' "$front")
              if [ "${XTASK_BEHIND-}" ] || cmp -s "$front" "$before" ||
                { [ "$id" ] && grep -qxF "# ID: $id" "$before"; }; then before=; fi
            fi
            failed=0
            if [ -x "$before" ]; then
              env XTASK_BEHIND=$$ "$before" "$@" || failed=$?
            fi
            if [ -x "$program" ] && [ -s "$program" ]; then
              "$program" hook post-checkout "$PPID" "$@"
              status=$?
            else
              status=missing
            fi
            case $status in
            0) ;;
            missing) echo "xtask: post-checkout did nothing, because its program is missing;" "'cargo xtask install-hooks' brings it back" >&2 ;;
            *) echo "xtask: post-checkout did nothing, because its program is broken (status $status);" "'cargo xtask install-hooks' renews it" >&2 ;;
            esac
            exit $failed
        "##]].assert_eq(&render_shim(Hook::PostCheckout, &ProgramLocation::InGitFolder));
        expect![[r##"
            #!/bin/sh
            # xtask hook shim 2: made by `cargo xtask install-hooks`; `uninstall-hooks` takes it away.
            # What was here before runs first; it is kept as pre-push.pre-xtask.
            program='/it'\''s/xtask'
            before="${0%/*}/pre-push.pre-xtask"
            [ "$0" != "$before" ] || { before=; unset XTASK_BEHIND; }
            # A manager that has put this aside and runs it from its own hook is not run from here as well.
            front="${0%/*}/pre-push"
            if [ "$0" != "$front" ] && [ -f "$before" ] && [ -f "$front" ]; then
              id=$(sed -n 's/^# ID: //p' "$front")
              if [ "${XTASK_BEHIND-}" ] || cmp -s "$front" "$before" ||
                { [ "$id" ] && grep -qxF "# ID: $id" "$before"; }; then before=; fi
            fi
            if [ -x "$before" ]; then
              refs=$(cat)
              say() { [ -z "$refs" ] || printf '%s\n' "$refs" 2>/dev/null; }
              feed() { say | "$@"; }
              feed env XTASK_BEHIND=$$ "$before" "$@" || exit $?
            else
              feed() { "$@"; }
            fi
            if [ -x "$program" ] && [ -s "$program" ]; then
              feed "$program" hook pre-push "$PPID" "$@"
              status=$?
            else
              status=missing
            fi
            case $status in
            0) ;;
            1) exit 1 ;;
            missing) echo "xtask: pre-push did nothing, because its program is missing;" "'cargo xtask install-hooks' brings it back" >&2 ;;
            *) echo "xtask: pre-push did nothing, because its program is broken (status $status);" "'cargo xtask install-hooks' renews it" >&2 ;;
            esac
            exit 0
        "##]].assert_eq(&render_shim(Hook::PrePush, &ProgramLocation::Path("/it's/xtask".into())));
    }

    #[test]
    fn shims_are_known_by_their_marker_alone() {
        let shim = render_shim(Hook::PreCommit, &ProgramLocation::InGitFolder);
        assert!(is_xtask_shim(shim.as_bytes()));
        assert!(is_xtask_shim(shim.replace("shim 2", "shim 7").as_bytes()));
        assert!(is_xtask_shim((shim + "echo by hand\n").as_bytes()));
        assert!(!is_xtask_shim(b"#!/bin/sh\necho xtask\n"));
        assert!(!is_xtask_shim(b"\x7fELF"));
    }

    #[test]
    fn hooks_that_go_by_their_name_are_known() {
        let asks = |text: &str| find_name_dependency(text.as_bytes(), None, "pre-commit").is_some();
        assert!(asks("#!/bin/sh\nhook=$(basename \"$0\")\n"));
        assert!(asks("#!/usr/bin/env sh\n. \"$(dirname \"$0\")/_/husky.sh\"\n"));
        assert!(asks("#!/usr/bin/env sh\n. \"${0%/*}/h\"\n"));
        assert!(asks("#!/bin/bash\n  source \"$(dirname \"$0\")/hooks.sh\"\n"));
        assert!(asks("#!/bin/bash\ncase \"${BASH_SOURCE[0]##*/}\" in pre-push) exit 1;; esac\n"));
        assert!(!asks("#!/bin/sh\n. \"$HOME/.cargo/env\"\necho \"$0: running\" >&2\n"));
        assert!(!asks("#!/bin/sh\ngit diff --cached | awk '{print $0}'\n"));
        assert!(asks("#!/bin/sh\ncase \"$0\" in *pre-commit) exit 1;; esac\n"));
        assert!(asks("#!/usr/bin/perl\nexit 1 if $0 =~ /pre-commit$/;\n"));
        assert!(asks("test \"$(basename \"$0\")\" = pre-commit\n"), "without a first line");
        assert!(!asks("#!/bin/sh\ncd \"$(dirname \"$0\")\" && make check\n"));
        let link = Some(Path::new("/opt/hooks/multi"));
        assert!(find_name_dependency(b"\x7fELF\0", link, "pre-commit").is_some());
        assert!(
            find_name_dependency(b"\x7fELF\0", Some(Path::new("x/pre-commit")), "pre-commit")
                .is_none()
        );
    }
}
