#!/bin/sh
# pre-commit and prek take unstaged changes out of the work tree while hooks run. SIGTERM in the middle leaves them out
# (Ctrl-C does not): no stash, no word, and the next commit does not bring them back. The one copy is a patch among
# what these programs call their cache, and emptying that deletes it.
#
# Versions: pre-commit 4.7.0, prek 0.5.11.
# Seen: one patch before `clean`, none after; in the work tree, the stashes and git's objects the line is nowhere.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv tools
tools/bin/pip install -q --disable-pip-version-check pre-commit==4.7.0 prek==0.5.11
export HOME="$folder" GIT_CONFIG_NOSYSTEM=1 PATH="$folder/tools/bin:$PATH"
unset XDG_CACHE_HOME PRE_COMMIT_HOME PREK_HOME
git config --global user.name a
git config --global user.email a@example.org
try() {
    git init -q "$folder/$1" && cd "$folder/$1"
    seq 20 > f.txt
    # A hook during which somebody ends the program that runs it (a parent of this shell).
    cat > hook <<'X'
#!/bin/sh
[ -e ../once ] || exit 0
rm ../once
kill -TERM "$PPID"
sleep 1
X
    chmod +x hook
    echo 'repos: [{repo: local, hooks: [{id: x, name: x, language: system, entry: ./hook, files: f.txt}]}]' \
        > .pre-commit-config.yaml
    git add -A && git commit -qm one && "$1" install > "$folder/log" 2>&1
    sed -i '1s/$/ staged/' f.txt && git add f.txt
    sed -i '20s/$/ loose/' f.txt
    : > ../once
    git commit -qm two > "$folder/log" 2>&1 || :
    sleep 2
    git commit -qm two > "$folder/log" 2>&1
    echo "$1: in the tree $(grep -c loose f.txt), stashes $(git stash list | wc -l), objects $(objects)," \
        "patches $(patches "$1") of which the last commit said $(grep -c patch "$folder/log")"
    case $1 in prek) prek cache clean ;; *) pre-commit clean ;; esac > "$folder/log" 2>&1
    echo "$1 after clean: patches $(patches "$1")"
}
objects() {
    git cat-file --batch-all-objects --batch | grep -ac loose || :
}
patches() {
    grep -rl '^+.*loose' "$folder/.cache/$1" 2> /dev/null | wc -l
}
seen="$(for tool in pre-commit prek; do (try "$tool"); done)"
echo "$(pre-commit --version), $(prek --version)"
echo "$seen"
wanted='pre-commit: in the tree 0, stashes 0, objects 0, patches 1 of which the last commit said 0
pre-commit after clean: patches 0
prek: in the tree 0, stashes 0, objects 0, patches 1 of which the last commit said 0
prek after clean: patches 0'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
