#!/bin/sh
# setuptools-scm changes what other projects publish: it only has to be installed where a project is built without
# isolation, as distributions and `pip install --no-build-isolation` build. A project with plain setuptools that does not name it
# then packs every file that git tracks into its source distribution, and the version stays the project's own.
#
# Versions: setuptools 75.8.0, setuptools-scm 8.1.0, build 1.2.2, Python 3.9 or later, git.
# Seen: without it the source distribution has the package and its metadata; with it `notes/private.txt`, which no
# configuration names, is in it as well. (It registers a "file finder" for all of setuptools.)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv tools
tools/bin/pip install --quiet 'setuptools==75.8.0' 'wheel==0.45.1' 'build==1.2.2'
mkdir -p project/greets project/notes
cd project
printf '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "greets"\nversion = "1.0"\n[tool.setuptools]\npackages = ["greets"]\n' > pyproject.toml
echo 'print("hello")' > greets/__init__.py
echo 'for us alone' > notes/private.txt
git init --quiet
git add --all
git -c user.name=a -c user.email=a@example.invalid commit --quiet --message first
holds() {
    rm -rf dist greets.egg-info
    ../tools/bin/python -m build --no-isolation --sdist . > ../log 2>&1 || { cat ../log >&2; exit 1; }
    if tar tzf dist/greets-1.0.tar.gz | grep -q notes/private.txt; then echo yes; else echo no; fi
}
seen="private file packed by plain setuptools: $(holds)"
../tools/bin/pip install --quiet 'setuptools-scm==8.1.0'
seen="$seen
with setuptools-scm installed and not named: $(holds)"
echo "$seen"
wanted='private file packed by plain setuptools: no
with setuptools-scm installed and not named: yes'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
