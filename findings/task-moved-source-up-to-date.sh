#!/bin/sh
# task (go-task) sums the contents of its sources and the last part of their names: a source that was moved to another
# folder leaves the task up to date, though what the task sees has changed.
#
# Version: go-task-bin 3.54.0.
# Seen: after `mv src/debug/flags src/release/flags` the task that lists its sources is "up to date", with the default
# method `checksum`; renamed within its folder, the same file makes it run again.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv tools
tools/bin/pip -q install go-task-bin==3.54.0 > log 2>&1
PATH="$folder/tools/bin:$PATH"
mkdir -p work/src/debug work/src/release && cd work
cat > Taskfile.yml <<'X'
version: '3'
tasks:
  list:
    sources: ['src/**/*']
    cmds: ['find src -type f']
X
echo on > src/debug/flags
run() {
    task list > ../out 2> ../err
    grep -q 'up to date' ../err && echo 'up to date' || cat ../out
}
seen="first: $(run)
again: $(run)"
mv src/debug/flags src/release/flags
seen="$seen
moved: $(run)"
mv src/release/flags src/release/options
seen="$seen
renamed: $(run)"
task --version
echo "$seen"
wanted='first: src/debug/flags
again: up to date
moved: up to date
renamed: src/release/options'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
