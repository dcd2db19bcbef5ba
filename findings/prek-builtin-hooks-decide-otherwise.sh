#!/bin/sh
# prek runs its own versions of the hooks of pre-commit-hooks, under the same names and with the same options; they are
# not the same checks, and the original `pretty-format-json` writes numbers that are not those of the file.
#
# Versions: prek 0.5.11, pre_commit_hooks 6.0.0.
# Seen: `check-yaml` of prek passes an unquoted template (a mapping as a key) and an unknown tag, which the original
# refuses, so a team that moves to prek checks less. `pretty-format-json --autofix` of pre-commit-hooks turns 1E400 into
# `Infinity`, which is no JSON (its own `check-json` passes it, that of prek does not), and drops digits of a long
# decimal; that of prek keeps all digits.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv tools
tools/bin/pip -q install prek==0.5.11 pre_commit_hooks==6.0.0 > log 2>&1
export HOME="$folder" PREK_HOME="$folder/prek" GIT_CONFIG_NOSYSTEM=1 PATH="$folder/tools/bin:$PATH"
git init -qb main work && cd work
cat > .pre-commit-config.yaml <<'X'
repos:
  - repo: builtin
    hooks:
      - id: check-yaml
      - id: check-json
      - id: pretty-format-json
        args: [--autofix]
X
printf 'image: {{ image }}\n' > template.yaml
printf 'port: !from settings\n' > tag.yaml
numbers='{"a": 1E400, "b": 123456789012345678.91}'
passes() { "$@" > ../out 2>&1 && echo passes || echo fails; }
shown() { tr -d ' \n' < numbers.json; }
seen=''
for file in template.yaml tag.yaml; do
    git add . && seen="$seen$file: prek $(passes prek run check-yaml --files $file), original $(passes check-yaml $file)
"
done
echo "$numbers" > numbers.json && git add .
prek run pretty-format-json --files numbers.json > ../out 2>&1 || :
seen="${seen}numbers by prek: $(shown)
"
echo "$numbers" > numbers.json
pretty-format-json --autofix numbers.json > ../out 2>&1 || :
seen="${seen}numbers by the original: $(shown)
its check-json $(passes check-json numbers.json), that of prek $(git add . && passes prek run check-json --files numbers.json)"
prek --version
echo "$seen"
wanted='template.yaml: prek passes, original fails
tag.yaml: prek passes, original fails
numbers by prek: {"a":1e+400,"b":123456789012345678.91}
numbers by the original: {"a":Infinity,"b":1.2345678901234568e+17}
its check-json passes, that of prek fails'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
