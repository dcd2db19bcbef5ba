#!/bin/sh
# lint-staged and lefthook put the unstaged half of a partly staged file aside as a patch without context, and bring it
# back with `git apply --unidiff-zero`: lines that only insert go to the old line number. Where the fix takes away lines
# above them (an unused import, blank lines), they come back as many lines too low, and nothing is said: the commit
# succeeds. pre-commit and prek keep context; there the insertion is where it was, but the fix is not committed.
#
# Versions: lint-staged 17.6.1, lefthook 2.2.2, pre-commit 4.7.0, prek 0.5.11.
# Seen: "loose" was written after "line 15"; after the commit it stands after "line 18" with the first two
# (lint-staged's issue 1283 knows it for replaced lines and calls it expected).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix tools lint-staged@17.6.1 lefthook@2.2.2 > log 2>&1
python3 -m venv tools/venv
tools/venv/bin/pip install -q --disable-pip-version-check pre-commit==4.7.0 prek==0.5.11
export HOME="$folder" GIT_CONFIG_NOSYSTEM=1 PATH="$folder/tools/node_modules/.bin:$folder/tools/venv/bin:$PATH"
git config --global user.name a
git config --global user.email a@example.org
cat > fix <<'X'
#!/bin/sh
# Takes away what is not used.
for file do sed -i /unused/d "$file"; done
X
chmod +x fix
try() {
    rm -rf "$folder/$1" && git init -q "$folder/$1" && cd "$folder/$1"
    seq -f 'line %g' 20 > f.txt
    case $1 in
    lint-staged)
        echo '{"lint-staged": {"*.txt": "../fix"}}' > package.json
        echo 'exec lint-staged' > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit ;;
    lefthook)
        echo '{pre-commit: {jobs: [{run: "../fix {staged_files}", glob: "*.txt", stage_fixed: true}]}}' > lefthook.yml
        lefthook install > "$folder/log" 2>&1 ;;
    *)
        echo 'repos: [{repo: local, hooks: [{id: x, name: x, language: system, entry: ../fix, files: txt}]}]' \
            > .pre-commit-config.yaml
        "$1" install > "$folder/log" 2>&1 ;;
    esac
    git add -A && git commit -qnm one
    sed -i '1s/^/unused\nunused\nunused\nused\n/' f.txt && git add f.txt
    sed -i 's/^line 15$/line 15\nloose/' f.txt
    git commit -qm two > "$folder/log" 2>&1 && what=committed || what=stopped
    echo "$1: $what, loose after $(grep -B1 loose f.txt | head -1)"
}
seen="$(for tool in lint-staged lefthook pre-commit prek; do (try "$tool"); done)"
echo "lint-staged $(lint-staged --version), $(lefthook version), $(pre-commit --version), $(prek --version)"
echo "$seen"
wanted='lint-staged: committed, loose after line 18
lefthook: committed, loose after line 18
pre-commit: stopped, loose after line 15
prek: stopped, loose after line 15'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
