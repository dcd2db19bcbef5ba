#!/bin/sh
# `git commit -- PATH` commits from an index of its own (`next-index-PID.lock`) and has put the unfixed file into the
# real one before the hook runs. What a hook tool fixes and stages goes into the commit alone: afterwards the index has
# the file as it was, staged as a change that takes the fix back, and the next commit without the hook does so.
#
# Versions: lefthook 2.2.2 (`stage_fixed`), lint-staged 16.4.0, git 2.47.3, Node.js 20.
# Seen: for both tools the commit has the fix, `git status` says "MM", and `git commit --no-verify` of another file
# brings the unfixed text back. After `git add` and a plain `git commit` nothing is left over.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y > npm.log
npm install --silent --no-fund --no-audit lefthook@2.2.2 lint-staged@16.4.0 >> npm.log 2>&1
PATH=$PWD/node_modules/.bin:$PATH
export PATH HOME="$folder" GIT_CONFIG_NOSYSTEM=1
git config --global user.name Ada
git config --global user.email ada@example.invalid
git config --global init.defaultBranch main

# A repository whose hook writes all text in capitals.
make_repo() {
    git init --quiet "$1-$2"
    cd "$1-$2"
    cat > ../upper <<'SH'
#!/bin/sh
for file; do tr a-z A-Z < "$file" > "$file.new"; cat "$file.new" > "$file"; rm "$file.new"; done
SH
    chmod +x ../upper
    echo FIRST > text.txt
    echo other > other.md
    printf 'pre-commit:\n  jobs:\n    - run: ../upper {staged_files}\n      glob: "*.txt"\n      stage_fixed: true\n' > lefthook.yml
    printf '{ "*.txt": "../upper" }\n' > .lintstagedrc.json
    git add .
    git commit --quiet -m base
    case $1 in
    lefthook) lefthook install > /dev/null 2>&1 ;;
    lint-staged)
        printf '#!/bin/sh\nexec lint-staged --quiet\n' > .git/hooks/pre-commit
        chmod +x .git/hooks/pre-commit
        ;;
    esac
    echo second >> text.txt
}
last() { git show "$1:text.txt" | tail -n 1; }
try() {
    (
        make_repo "$1" "$2"
        case $2 in
        path) git commit --quiet -m 'a path' -- text.txt > log 2>&1 ;;
        add) git add text.txt && git commit --quiet -m 'what is staged' > log 2>&1 ;;
        esac
        state=$(git status --short text.txt | cut -c1-2)
        echo "$1, $2: committed $(last HEAD), staged $(last ''), status ${state:-clean}"
        echo more >> other.md
        git add other.md
        git commit --quiet --no-verify -m 'another file'
        echo "$1, $2: after the next commit $(last HEAD)"
    )
}
seen=$(for tool in lefthook lint-staged; do try $tool path; try $tool add; done)
echo "$seen"
wanted='lefthook, path: committed SECOND, staged second, status MM
lefthook, path: after the next commit second
lefthook, add: committed SECOND, staged SECOND, status clean
lefthook, add: after the next commit SECOND
lint-staged, path: committed SECOND, staged second, status MM
lint-staged, path: after the next commit second
lint-staged, add: committed SECOND, staged SECOND, status clean
lint-staged, add: after the next commit SECOND'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
