#!/bin/sh
# A workspace inside the folder of another one (excluded there, as vendored tools are): `expect_file!` with a
# relative path joins the outermost folder that has a `Cargo.toml` with `file!()`, which cargo makes relative to the
# workspace that is built, the inner one. The file is looked for where it is not.
#
# Versions: expect-test 1.5.1, cargo 1.95.0.
# Seen: the test fails with "No such file or directory" while the outer `Cargo.toml` is there; it passes when that is
# moved away, and when CARGO_WORKSPACE_DIR names the inner workspace. `UPDATE_EXPECT=1` fails in the same way.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf '[workspace]\nmembers = []\nexclude = ["inner"]\nresolver = "2"\n' > Cargo.toml
mkdir -p inner/src
cd inner
printf '[workspace]\n[package]\nname = "inner"\nversion = "0.0.0"\nedition = "2021"\n[dev-dependencies]\nexpect-test = "=1.5.1"\n' > Cargo.toml
cat > src/lib.rs <<'RS'
#[test]
fn greets() {
    expect_test::expect_file!["./hello.txt"].assert_eq("hello\n");
}
RS
echo hello > src/hello.txt
try() {
    if "$@" cargo test --quiet > log 2>&1; then echo passed; else echo failed; fi
}
seen="below another Cargo.toml: $(try env)
with UPDATE_EXPECT: $(try env UPDATE_EXPECT=1)
with CARGO_WORKSPACE_DIR: $(try env CARGO_WORKSPACE_DIR="$PWD")"
mv ../Cargo.toml ../aside
seen="$seen
alone: $(try env)"
echo "$seen"
wanted='below another Cargo.toml: failed
with UPDATE_EXPECT: failed
with CARGO_WORKSPACE_DIR: passed
alone: passed'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; cat log >&2; exit 1; }
