//! The shim: the shell script that git runs as a hook. It runs the hook that existed before, with the same arguments
//! and input, and then the installed program. Pure text processing.
//!
//! The shim starts the program as a child process instead of `exec`: it can thus distinguish a missing, truncated or
//! killed program from one that refuses, and only a refusal fails the git command.
//!
//! ```text
//! pre-commit (shim) -> pre-commit.pre-xtask "$@" -> .git/xtask/bin/xtask hook pre-commit "$PPID" "$@"
//! ```

use std::path::{Path, PathBuf};

use super::Hook;

/// The suffix of a hook that existed before the shim.
pub const KEPT: &str = ".pre-xtask";

/// The text that identifies our shims of any version.
const MARKER: &str = "# xtask hook shim ";

/// The version of the script below. Increment it with every change.
const VERSION: u32 = 2;

/// The variable in which a shim passes its process id to the hook that existed before. If that hook runs the shim in
/// turn, the inner run does nothing.
pub const SHIM_PID_VARIABLE: &str = "XTASK_BEHIND";

/// The location of the program, as seen from the shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramLocation {
    /// In the git folder that also contains the hooks, so that both can be moved together.
    InGitFolder,
    /// At this absolute path, for hooks in another folder.
    Path(PathBuf),
}

/// Returns the shim script for `hook`. In a folder that several repositories share, a shim can be the existing hook of
/// another shim; it does not call itself.
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
        hook if hook.can_block() => REQUIRE_KEPT_HOOK,
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

/// Runs the existing hook; its failure becomes the exit code at the end.
const RUN_KEPT_HOOK: &str = "\
failed=0
if [ -x \"$before\" ]; then
  env XTASK_BEHIND=$$ \"$before\" \"$@\" || failed=$?
fi
";

/// Runs the existing hook; its failure ends the shim at once.
const REQUIRE_KEPT_HOOK: &str = "\
if [ -x \"$before\" ]; then
  env XTASK_BEHIND=$$ \"$before\" \"$@\" || exit $?
fi
";

/// Like [`REQUIRE_KEPT_HOOK`], if both need the standard input of the hook.
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

/// Returns instructions for a hook that cannot be moved aside: the line with which it calls the program itself. The line
/// goes directly below the first line, and does not fail the git command if the program is missing or broken.
#[must_use]
pub fn describe_manual_install(content: &[u8], hook: Hook, program: &Path) -> String {
    if hook == Hook::PrePush {
        // Only one of the two could read the standard input.
        return "leave it in place; `cargo xtask push` checks a push and handles pull requests without it"
            .to_owned();
    }
    let (program, name) = (shell_quote(program), hook.name());
    let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    if first.starts_with("#!") && !first.trim_end().ends_with("sh") {
        return format!(
            "leave it in place, and make it run {program} hook {name} with its arguments"
        );
    }
    let refuses = if hook.can_block() { " || [ $? -ne 1 ] || exit 1" } else { " || :" };
    format!(
        "leave it in place, and insert this line below its first line:\n    \
         [ ! -x {program} ] || {program} hook {name} \"$PPID\" \"$@\"{refuses}"
    )
}

/// Returns whether a hook calls the program itself, by the line of [`describe_manual_install`].
#[must_use]
pub fn calls_program(content: &[u8], hook: Hook, program: &Path) -> bool {
    let text = String::from_utf8_lossy(content);
    let starts = format!("{} hook {} ", shell_quote(program), hook.name());
    hook != Hook::PrePush
        && text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(&starts))
}

/// Returns whether a script is our shim, of any version, edited or not.
#[must_use]
pub fn is_xtask_shim(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&content[..content.len().min(1000)]);
    let made_by = "made by `cargo xtask install-hooks`";
    text.lines().take(4).any(|line| line.starts_with(MARKER) && line.contains(made_by))
}

/// Text that identifies hooks of managers which rewrite them at every run and give them no id: lefthook 2,
/// simple-git-hooks 2, hk 1.
const MANAGER_MARKS: [&str; 3] =
    ["if [ \"$LEFTHOOK\" = \"0\" ]", "[ \"$SKIP_SIMPLE_GIT_HOOKS\" = \"1\" ]", "exec hk run "];

/// Ways for a script to query its own name, besides `$0`.
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

/// Ways for a script to query only its folder, which does not change.
const FOLDER_QUERIES: [&str; 6] = [
    "dirname \"$0\"",
    "dirname -- \"$0\"",
    "dirname $0",
    "dirname -- $0",
    "${0%/*}",
    "dirname \"${0}\"",
];

/// Returns the reason why a hook might not work under another name, if any.
#[must_use]
pub fn find_name_dependency(content: &[u8], link: Option<&Path>, name: &str) -> Option<String> {
    // Git also runs a text without `#!`, as a shell script.
    if !content.contains(&0) {
        let text = String::from_utf8_lossy(content);
        // A sourced script next to the hook, as with husky, sees the name of the hook.
        let reads_in = |line: &&str| {
            let words = line.trim_start();
            let is_beside = ["$0", "${0", "dirname"].iter().any(|word| words.contains(word));
            (words.starts_with(". ") || words.starts_with("source ")) && is_beside
        };
        if let Some(line) = text.lines().find(reads_in) {
            return Some(format!(
                "a script that it sources may depend on the name of the hook (`{line}`)"
            ));
        }
        // Printing the name is harmless, and in awk `$0` is a line.
        let tells = |line: &&str| {
            let words = line.trim_start();
            words.starts_with("echo ") || words.starts_with("printf ") || words.contains("awk ")
        };
        let text: Vec<&str> = text.lines().filter(|line| !tells(line)).collect();
        let text = text.join("\n");
        let rest = FOLDER_QUERIES.iter().fold(text, |text, form| text.replace(form, ""));
        let asks = ["$0", "${0"].iter().chain(&NAME_QUERIES).find(|word| rest.contains(**word))?;
        return Some(format!("it seems to depend on its own name (`{asks}`)"));
    }
    let target = link?.file_name()?;
    (target != name).then(|| {
        format!("it is a link to the program `{}`, which may depend on its name", target.display())
    })
}

/// Returns whether two hooks belong to the same manager: identical text, or the same mark by which a manager that moves
/// other hooks aside recognizes its own.
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

/// Returns whether a shim belongs to the repository of this program. In a folder that several repositories share it
/// may belong to another one.
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

/// Quotes a path as one word for the shell.
fn shell_quote(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    if let Some(text) = path.to_str() {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    // A path that is not UTF-8 is escaped byte by byte.
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
