//! `schemas SCHEMA DOCUMENT…`: prints what is wrong with JSON documents by a JSON Schema, formats (`uri`,
//! `date-time`) included, a line each. Ends with 1 where something is.

use std::process::ExitCode;

use serde_json::Value;

/// A pattern in the schema of SARIF 2.1.0 that is none: its last bracket closes nothing
/// (`findings/sarif-schema-pattern.sh`). And what it means.
const LANGUAGE: [&str; 2] =
    ["^[a-zA-Z]{2}|^[a-zA-Z]{2}-[a-zA-Z]{2}]?$", "^[a-zA-Z]{2}(-[a-zA-Z]{2})?$"];

fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|cause| panic!("{path}: {cause}"));
    let text = text.replace(LANGUAGE[0], LANGUAGE[1]);
    serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

fn main() -> ExitCode {
    let mut paths = std::env::args().skip(1);
    let schema = read(&paths.next().expect("the path of a schema"));
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let mut is_good = true;
    let mut count = 0;
    for path in paths {
        count += 1;
        let document = read(&path);
        for fault in validator.iter_errors(&document) {
            is_good = false;
            println!("{path}: {}: {fault}", fault.instance_path());
        }
    }
    println!("{count} documents were looked at");
    ExitCode::from(u8::from(!is_good))
}
