#!/bin/sh
# The JSON schema of SARIF 2.1.0 has for `run.language` the pattern `^[a-zA-Z]{2}|^[a-zA-Z]{2}-[a-zA-Z]{2}]?$`,
# whose last bracket closes nothing. JSON Schema asks for ECMA-262, best in Unicode mode, in which that is a syntax
# error.
#
# Versions: serde-sarif 0.8.0 (carries the schema), ajv 8.20.0, ajv-formats 3.0.1, node 20.
# Seen: ajv with its defaults refuses to compile the schema at all ("Lone quantifier brackets"), so no SARIF log can
# be validated. With `unicodeRegExp: false` it compiles, and since the first alternative has no end, any text that
# begins with two letters is a valid language, `en-US` and a whole sentence alike.
# What it means for a validator: correct this one pattern first, or switch Unicode mode off.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
printf '[package]\nname = "f"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nserde-sarif = "=0.8.0"\n' > Cargo.toml
: > src/lib.rs
cargo vendor --quiet vendor > /dev/null
schema=vendor/serde-sarif/src/schema.json
npm init -y > /dev/null
npm install --silent --no-audit --no-fund ajv@8.20.0 ajv-formats@3.0.1
cat > try.js <<'JS'
const fs = require('fs');
const Ajv = require('ajv');
const formats = require('ajv-formats').default;
const schema = JSON.parse(fs.readFileSync(process.argv[2]));
const log = (language) => ({
  version: '2.1.0',
  runs: [{ tool: { driver: { name: 'x' } }, language }],
});
const compile = (options) => {
  const ajv = new Ajv({ strict: false, ...options });
  formats(ajv);
  return ajv.compile(schema);
};
try {
  compile({});
  console.log('defaults: compiled');
} catch (cause) {
  console.log('defaults:', /Lone quantifier brackets/.test(cause.message) ? 'refused, lone quantifier brackets' : cause.message);
}
const validate = compile({ unicodeRegExp: false });
for (const language of ['en-US', 'english, or anything else']) {
  console.log(`unicodeRegExp off, ${language}:`, validate(log(language)));
}
JS
seen=$(node try.js "$schema")
echo "$seen"
wanted='defaults: refused, lone quantifier brackets
unicodeRegExp off, en-US: true
unicodeRegExp off, english, or anything else: true'
[ "$seen" = "$wanted" ] || { echo "this has changed" >&2; exit 1; }
