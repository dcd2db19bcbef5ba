#!/bin/sh
# In a repository with a sparse index two commands that only answer a question write tree objects: git unfolds the
# index to answer, and computes the trees of what is staged on the way. `git ls-files --sparse`, `git status` and
# `git diff` do not. GIT_OPTIONAL_LOCKS=0 does not keep them from it.
#
# Version: git 2.47.3 (2.39.5 does the same).
# Seen: check-ignore and ls-files leave new files in .git/objects, the others none.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME="$folder" GIT_CONFIG_NOSYSTEM=1 GIT_OPTIONAL_LOCKS=0
cd "$folder"
git init -q . && git config user.name a && git config user.email a@example.org
mkdir in out
echo 1 > in/file
echo 1 > out/file
git add . && git commit -qm one
git sparse-checkout set --cone --sparse-index in
new() {
    # Something staged of which no tree is written yet.
    echo "$*" > in/file
    GIT_OPTIONAL_LOCKS=1 git add in/file
    find .git/objects -type f | sort > before
    "$@" > answer 2>&1 || :
    find .git/objects -type f | sort > after
    if cmp -s before after; then echo none; else echo some; fi
}
seen="check-ignore: $(new git check-ignore out/file)
ls-files: $(new git ls-files -v)
ls-files --sparse: $(new git ls-files -v --sparse)
status: $(new git status --short)
diff: $(new git diff --cached)"
echo "$(git version)"
echo "$seen"
wanted='check-ignore: some
ls-files: some
ls-files --sparse: none
status: none
diff: none'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
