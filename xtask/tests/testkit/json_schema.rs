//! A validator for the JSON schema of SARIF. It knows the words that this schema uses and panics at
//! every other one, so what it lets pass it has checked.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Words that say nothing about what is valid.
const SILENT: [&str; 6] = ["$schema", "$id", "title", "description", "default", "definitions"];

/// Words that are checked.
const CHECKED: [&str; 15] = [
    "$ref",
    "additionalProperties",
    "anyOf",
    "enum",
    "format",
    "items",
    "maximum",
    "minItems",
    "minimum",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "type",
    "uniqueItems",
];

/// A schema, every word of which is known.
pub struct JsonSchema {
    root: Value,
}

impl JsonSchema {
    /// Panics if the schema holds anything that is not checked.
    pub fn parse(text: &str) -> JsonSchema {
        let root: Value = serde_json::from_str(text).unwrap();
        let schema = JsonSchema { root };
        schema.know(&schema.root);
        for definition in object(&schema.root["definitions"]).values() {
            schema.know(definition);
        }
        schema
    }

    /// Everything that is wrong with a document.
    pub fn faults(&self, document: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(&self.root, document, "$", &mut faults);
        faults
    }

    fn know(&self, schema: &Value) {
        for (word, value) in object(schema) {
            let word = word.as_str();
            assert!(SILENT.contains(&word) || CHECKED.contains(&word), "unknown word `{word}`");
            match word {
                "$ref" => {
                    self.referred(value);
                    // Draft 7 ignores what stands beside a reference.
                    let beside = object(schema).keys().filter(|key| *key != "$ref");
                    let mut beside = beside.filter(|key| *key != "description");
                    assert_eq!(beside.next(), None, "beside a `$ref`");
                }
                "properties" => object(value).values().for_each(|schema| self.know(schema)),
                "items" => self.know(value),
                "additionalProperties" if !value.is_boolean() => self.know(value),
                "anyOf" | "oneOf" => array(value).iter().for_each(|schema| self.know(schema)),
                "type" => assert!(is_of_type(&Value::Null, text(value)).is_some(), "{value}"),
                "format" => assert!(is_of_format("", text(value)).is_some(), "{value}"),
                _ => {}
            }
        }
    }

    fn referred(&self, reference: &Value) -> &Value {
        let name = text(reference).strip_prefix("#/definitions/").expect("a definition");
        object(&self.root["definitions"]).get(name).unwrap_or_else(|| panic!("no `{name}`"))
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let rules = object(schema);
        if let Some(reference) = rules.get("$ref") {
            return self.check(self.referred(reference), value, at, faults);
        }
        for (word, rule) in rules {
            let is_met = match word.as_str() {
                "type" => is_of_type(value, text(rule)).unwrap(),
                "enum" => array(rule).contains(value),
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
                "format" => value.as_str().is_none_or(|t| is_of_format(t, text(rule)).unwrap()),
                "pattern" => {
                    assert!(!value.is_string(), "{at}: the pattern {rule} is not checked");
                    true
                }
                "minItems" => {
                    value.as_array().is_none_or(|all| all.len() as u64 >= rule.as_u64().unwrap())
                }
                "uniqueItems" => {
                    let all = value.as_array().map_or(&[][..], Vec::as_slice);
                    let different: BTreeSet<String> = all.iter().map(Value::to_string).collect();
                    !rule.as_bool().unwrap() || different.len() == all.len()
                }
                "required" => array(rule).iter().all(|name| {
                    value.as_object().is_none_or(|object| object.contains_key(text(name)))
                }),
                "anyOf" => self.fitting(rule, value) > 0,
                "oneOf" => self.fitting(rule, value) == 1,
                "items" => {
                    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}[{number}]"), faults);
                    }
                    true
                }
                "properties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        if let Some(schema) = rule.get(name) {
                            self.check(schema, value, &format!("{at}.{name}"), faults);
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    let known = rules.get("properties");
                    let others = value.as_object().into_iter().flatten();
                    let others = others.filter(|(name, _)| {
                        known.is_none_or(|known| known.get(name.as_str()).is_none())
                    });
                    for (name, value) in others {
                        match rule {
                            Value::Bool(true) => {}
                            Value::Bool(false) => faults.push(format!("{at}.{name} is unknown")),
                            rule => self.check(rule, value, &format!("{at}.{name}"), faults),
                        }
                    }
                    true
                }
                _ => true,
            };
            if !is_met {
                faults.push(format!("{at} does not meet `{word}`: {rule}"));
            }
        }
    }

    /// How many of several schemas a value meets.
    fn fitting(&self, schemas: &Value, value: &Value) -> usize {
        let meets = |schema: &&Value| {
            let mut faults = Vec::new();
            self.check(schema, value, "", &mut faults);
            faults.is_empty()
        };
        array(schemas).iter().filter(meets).count()
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no array: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}"))
}

/// Nothing for a type that is not known.
fn is_of_type(value: &Value, name: &str) -> Option<bool> {
    Some(match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => return None,
    })
}

/// Nothing for a format that is not known.
fn is_of_format(text: &str, name: &str) -> Option<bool> {
    Some(match name {
        "uri" => scheme(text).is_some() && has_uri_characters(text),
        "uri-reference" => {
            let first = text.split(['/', '?', '#']).next().unwrap();
            (scheme(text).is_some() || !first.contains(':')) && has_uri_characters(text)
        }
        "date-time" => is_date_time(text),
        _ => return None,
    })
}

fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let is_known = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let is_scheme =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_known);
    is_scheme.then_some(scheme)
}

/// RFC 3986: unreserved and reserved characters, and `%` with two hexadecimal digits.
fn has_uri_characters(text: &str) -> bool {
    let mut parts = text.split('%');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=".contains(c);
    let is_escape = |part: &str| {
        part.get(..2).is_some_and(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))
    };
    parts.next().unwrap().chars().all(is_plain)
        && parts.all(|part| is_escape(part) && part[2..].chars().all(is_plain))
        && text.matches('#').count() <= 1
}

/// RFC 3339.
fn is_date_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once(['T', 't']) else { return false };
    let at = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let is_zone = ["Z", "z"].contains(&zone) || (zone.len() == 6 && shape(&zone[1..]) == "00:00");
    let is_fraction = !fraction.is_empty() && fraction.chars().all(|c| c.is_ascii_digit());
    let has_shape = shape(date) == "0000-00-00" && shape(clock) == "00:00:00";
    has_shape && is_zone && is_fraction && text.parse::<jiff::Timestamp>().is_ok()
}

/// A text with each digit as a `0`.
fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}
