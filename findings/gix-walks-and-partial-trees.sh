#!/bin/sh
# Two places where the gix library stops and git goes on. A commit whose author has no closing bracket, as old imports
# wrote them, ends every walk. And the tree editor asks for each content that a tree
# names: in a clone with `--filter=blob:none` no tree can be written, where git needs no content for it.
#
# Versions: gix 0.90.0, git 2.47.3.
# Seen: git answers both; gix answers neither.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL="$folder/gitconfig"
cd "$folder"
git config --global user.name a
git config --global user.email a@example.org
git config --global init.defaultBranch main
mkdir program && cd program
printf '[workspace]\n[package]\nname = "program"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\ngix = { version = "=0.90.0", default-features = false, features = ["sha1", "revision", "merge"] }\n' > Cargo.toml
mkdir src
cat > src/main.rs <<'RS'
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let repo = gix::open(&args[2]).unwrap();
    let id = |name: &str| repo.rev_parse_single(name).unwrap().detach();
    let is_fine = match &args[1][..] {
        "walk" => repo.rev_walk([id("HEAD")]).all().is_ok_and(|mut walk| walk.all(|commit| commit.is_ok())),
        _ => {
            let tree = repo.head_commit().unwrap().tree_id().unwrap();
            let mut editor = repo.edit_tree(tree).unwrap();
            let file = gix::ObjectId::from_hex(args[3].as_bytes()).unwrap();
            editor.upsert("new", gix::object::tree::EntryKind::Blob, file).unwrap();
            editor.write().is_ok()
        }
    };
    println!("{}", if is_fine { "answers" } else { "stops" });
}
RS
cargo build --quiet
gix=$PWD/target/debug/program
[ -x "$gix" ] || gix=${CARGO_TARGET_DIR:-target}/debug/program
cd ..
git init -q walk && cd walk
git commit -q --allow-empty -m one
tree=$(git rev-parse 'HEAD^{tree}')
old=$(printf 'tree %s\nparent %s\nauthor A <a@example.org 1700000000 +0000\ncommitter A <a@example.org> 1700000000 +0000\n\nold\n' "$tree" "$(git rev-parse HEAD)" | git hash-object -t commit -w --stdin --literally)
git reset -q --hard "$old"
git commit -q --allow-empty -m two
cd ..
git init -q whole && cd whole
git config uploadpack.allowFilter true
git commit -q --allow-empty -m one
git switch -qc more && echo new > new && git add . && git commit -qm new
blob=$(git rev-parse HEAD:new)
git switch -q main
cd ..
git clone -q --no-local --filter=blob:none -b main "file://$folder/whole" part 2> /dev/null
says() { if "$@" > /dev/null 2>&1; then echo answers; else echo stops; fi; }
seen="walk: git $(says git -C walk rev-list HEAD), gix $("$gix" walk walk)
tree: git $(says git -C part -c protocol.allow=never merge-tree --write-tree main origin/more), gix $("$gix" tree part "$blob")"
echo "$seen"
wanted='walk: git answers, gix stops
tree: git answers, gix stops'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
