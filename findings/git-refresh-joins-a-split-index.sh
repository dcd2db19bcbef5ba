#!/bin/sh
# A split index stays split through `git add --refresh` and `git update-index --index-info`, and is put together for
# good by `git update-index --refresh`, which is to look at times alone. Nothing is said, and no setting asked for it.
#
# Version: git 2.47.3.
# Seen: after `update-index --refresh` over a touched file the index no longer links to a shared one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME="$folder" GIT_CONFIG_NOSYSTEM=1
cd "$folder"
git init -q . && git config user.name a && git config user.email a@example.org
git config splitIndex.maxPercentChange 100
for name in 1 2 3; do echo "$name" > "$name"; done
git add . && git commit -qm one
try() {
    git update-index --split-index
    touch -d '1 hour ago' 1
    "$@" > answer 2>&1 < "${input:-/dev/null}" || :
    if grep -qa link .git/index; then echo split; else echo whole; fi
}
printf '100644 %s\t2\0' "$(git rev-parse HEAD:3)" > info
seen="add --refresh: $(try git add --refresh .)
update-index --index-info: $(input=info try git update-index -z --index-info)
update-index --refresh: $(try git update-index -q --refresh)"
echo "$(git version)"
echo "$seen"
wanted='add --refresh: split
update-index --index-info: split
update-index --refresh: whole'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
