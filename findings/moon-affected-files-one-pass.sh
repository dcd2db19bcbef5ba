#!/bin/sh
# moon hands a task with `affectedFiles` only the files that changed, and keeps its pass under a hash of all its inputs,
# in which those names are not: a pass over the one staged file is replayed for a run that had to look at two.
#
# Version: @moonrepo/cli 2.5.5.
# Seen: with "bad" in an unstaged file, the run over staged files passes; once all is committed, the run over what
# changed since the base is "cached" and exits 0, and with --force it exits 1 over the same files.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix tools @moonrepo/cli@2.5.5 > log 2>&1
export HOME="$folder" GIT_CONFIG_NOSYSTEM=1 PATH="$folder/tools/node_modules/.bin:$PATH"
git config --global user.name a
git config --global user.email a@example.org
git init -qb main work && cd work
mkdir -p .moon part
cat > .moon/workspace.yml <<'X'
projects: ['part']
vcs: {client: git, defaultBranch: main}
telemetry: false
X
cat > part/moon.yml <<'X'
tasks:
  lint:
    command: 'sh lint.sh'
    inputs: ['*.txt', 'lint.sh']
    options: {affectedFiles: args}
X
cat > part/lint.sh <<'X'
for file do case $file in *.txt) grep -q bad "$file" && exit 1 ;; esac; done
exit 0
X
printf '.moon/cache\n' > .gitignore
echo good > part/one.txt
echo good > part/two.txt
git add -A && git commit -qm one && git branch base
echo more >> part/one.txt && git add part/one.txt
echo bad >> part/two.txt
run() {
    moon run part:lint "$@" > ../log 2>&1 && code=0 || code=$?
    case $code in 0) ;; *) code=1 ;; esac
    echo "$code$(grep -q cached ../log && echo ', cached' || :)"
}
seen="staged: $(run --affected --status staged)"
git commit -qam two
seen="$seen
since base: $(run --affected --base base)
the same, --force: $(run --affected --base base --force)"
moon --version
echo "$seen"
wanted='staged: 0
since base: 0, cached
the same, --force: 1'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
