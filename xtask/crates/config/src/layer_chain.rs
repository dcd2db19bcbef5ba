//! Merging of the files of a layer: each file is merged over the file that it `extends`, field by field.
//!
//! Every key and value keeps its span, so that faults and [`LayerValue`]s name the right file and line. A layer can
//! extend only layers in `deployment/`, and none twice.
//!
//! ```text
//! production.toml: extends = "local", service.api.port = 9000
//! local.toml:      service.api.run = "api", service.api.port = 8000
//! merged:          service.api.run = "api", service.api.port = 9000
//! ```

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::faults::Faults;
use super::reader::{TableReader, suggest_nearest};
use super::value_syntax::{NAME, is_valid_name};
use super::{DEFAULT_LAYER, DEPLOYMENT_FOLDER};
use xtask_base::error::{Error, Result};
use xtask_base::words::join_names;

/// The layer that does not inherit `[status]`.
const PRODUCTION: &str = "production";

/// The tables of a service that are merged key by key. All other values are replaced as a unit.
const MERGED_TABLES: [&str; 5] = ["env", "restart", "stop", "limits", "log"];

/// A value after merging.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LayerValue {
    /// The full key, e.g. `service.api.run`.
    pub key: String,
    /// The value as TOML.
    #[serde(rename = "value")]
    pub text: String,
    /// The file that sets the value.
    pub file: String,
    /// The line in `file`, counted from 1.
    pub line: usize,
}

struct LayerFile {
    layer: String,
    path: String,
    text: String,
}

/// A layer and all layers that it extends.
pub(super) struct LayerChain {
    /// The files, with extended layers first.
    files: Vec<LayerFile>,
    /// The fault message for the `extends` of the first file, if its layer is unknown or leads to a cycle.
    extends_fault: Option<String>,
}

/// Returns the path of the file of a layer, relative to the repository root.
#[must_use]
pub fn layer_file_path(layer: &str) -> String {
    format!("{DEPLOYMENT_FOLDER}/{layer}.toml")
}

impl LayerChain {
    /// Collects the files of `layer` by following `extends`. `file` returns the text of a layer, or `None` if there is
    /// no such layer. Returns an error if `layer` itself is unknown.
    pub(super) fn follow_extends(
        layer: &str,
        file: &dyn Fn(&str) -> Result<Option<String>>,
        known: &[String],
    ) -> Result<LayerChain> {
        if !is_valid_name(layer) {
            return Err(
                unknown_layer_error(layer, known).with_hint(format!("a layer's name is {NAME}"))
            );
        }
        let mut files: Vec<LayerFile> = Vec::new();
        let mut loose_end = None;
        let mut next = Some(layer.to_owned());
        while let Some(layer) = next.take() {
            if let Some(at) = files.iter().position(|file| file.layer == layer) {
                loose_end = Some(describe_extends_cycle(&files[at..], &layer));
                break;
            }
            let text = if is_valid_name(&layer) { file(&layer)? } else { None };
            let Some(text) = text else {
                if files.is_empty() {
                    return Err(unknown_layer_error(&layer, known));
                }
                let (near, others) = suggest_layers(&layer, known);
                loose_end = Some(format!(
                    "`extends` is `{layer}`, and there is no such layer{near} ({others})"
                ));
                break;
            };
            next = parse_extends(&text);
            files.push(LayerFile { path: layer_file_path(&layer), layer, text });
        }
        files.reverse();
        Ok(LayerChain { files, extends_fault: loose_end })
    }

    /// Returns the paths of the files, with extended layers first.
    pub(super) fn paths(&self) -> Vec<String> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// Returns whether the layer is `production` or extends it.
    pub(super) fn includes_production(&self) -> bool {
        self.files.iter().any(|file| file.layer == PRODUCTION)
    }

    /// Merges the files and passes the result to `read`. Returns the result of `read` and all merged values, or one
    /// usage error with all faults.
    pub(super) fn merge_and_read<T>(
        &self,
        read: impl FnOnce(&TableReader<'_>) -> T,
    ) -> Result<(T, Vec<LayerValue>)> {
        let layer = self.files.last().map_or("", |file| file.layer.as_str());
        let title = format!("the layer `{layer}`");
        let mut faults = Faults::new(&title);
        let mut merged = DeTable::new();
        let mut top = 0..0;
        let mut loose_end = self.extends_fault.as_ref();
        for file in &self.files {
            let (table, start) = faults.parse_source(&file.path, &file.text);
            top = start..start;
            let mut table = shift_table(table.into_inner(), start);
            let named =
                TableReader::new(&table, top.clone(), String::new(), &faults).read_text("extends");
            if let Some(extends) = table.remove("extends") {
                // `extends_fault` belongs to the first file.
                let why = loose_end.take();
                if let Some(why) = why {
                    faults.add_fault_at(extends.span(), why);
                }
                if why.is_some() || named.is_none() {
                    faults.mark_incomplete();
                }
            }
            if file.layer == PRODUCTION {
                merged.remove("status");
            }
            merge_tables(&mut merged, table, &mut Vec::new());
        }
        let values = list_values(&merged, &faults);
        let value = faults.read_root(&merged, top, read);
        faults.finish((value, values))
    }
}

/// Returns the `extends` of a file, or `None` if it cannot be determined.
fn parse_extends(text: &str) -> Option<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let name = table.get_ref().get("extends")?.get_ref().as_str()?;
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

/// Returns `deploy.requires` of a layer, as far as files with faults allow: `None` if there is no such layer,
/// `Some(None)` if it requires no other layer.
pub(super) fn find_requirement(
    layer: &str,
    file: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<Option<Option<String>>> {
    let mut seen: Vec<String> = Vec::new();
    let mut next = Some(layer.to_owned());
    while let Some(layer) = next.filter(|layer| !seen.contains(layer)) {
        let text = if is_valid_name(&layer) { file(&layer)? } else { None };
        let Some(text) = text else {
            return Ok(if seen.is_empty() { None } else { Some(None) });
        };
        let (table, _) = DeTable::parse_recoverable(&text);
        let deploy = table.get_ref().get("deploy").and_then(|value| value.get_ref().as_table());
        let requires = deploy.and_then(|deploy| deploy.get("requires"));
        if let Some(requires) = requires.and_then(|value| value.get_ref().as_str()) {
            return Ok(Some(Some(requires.to_owned())));
        }
        next = parse_extends(&text);
        seen.push(layer);
    }
    Ok(Some(None))
}

fn unknown_layer_error(layer: &str, known: &[String]) -> Error {
    let (near, others) = suggest_layers(layer, known);
    Error::usage(format!("no such layer: `{layer}`{near}")).with_hint(others)
}

/// Returns a suggestion for the unknown `layer`, and the list of all layers.
fn suggest_layers(layer: &str, known: &[String]) -> (String, String) {
    let near = suggest_nearest(layer, known.iter().map(String::as_str));
    let others = match known.len() {
        0 => format!("there are no layers: write `{}`", layer_file_path(DEFAULT_LAYER)),
        _ => format!("the layers are {}", join_names(known, 20)),
    };
    (near, others)
}

fn describe_extends_cycle(files: &[LayerFile], again: &str) -> String {
    if files.len() == 1 {
        return format!("`{again}` extends itself");
    }
    let names: Vec<&str> = files.iter().map(|file| file.layer.as_str()).chain([again]).collect();
    format!("these layers extend each other: {}", names.join(" → "))
}

/// Adds `by` to all spans of a table.
fn shift_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let pair = |(key, value): (Spanned<_>, Spanned<_>)| {
        (Spanned::new(shift_span(&key.span(), by), key.into_inner()), shift_value(value, by))
    };
    table.into_iter().map(pair).collect()
}

fn shift_value(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = shift_span(&value.span(), by);
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shift_table(table, by)),
        DeValue::Array(items) => {
            DeValue::Array(items.into_iter().map(|item| shift_value(item, by)).collect())
        }
        plain => plain,
    };
    Spanned::new(span, value)
}

fn shift_span(span: &Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

/// Merges `above` over `below`. A merged table keeps its position, so that services keep their order.
fn merge_tables<'t>(below: &mut DeTable<'t>, above: DeTable<'t>, path: &mut Vec<String>) {
    for (key, value) in above {
        let name = key.get_ref().to_string();
        path.push(name.clone());
        let span = value.span();
        let under = below.get_mut(name.as_str()).map(Spanned::get_mut);
        match (under, value.into_inner()) {
            (Some(DeValue::Table(under)), DeValue::Table(over)) if merges_by_key(path) => {
                merge_tables(under, over, path);
            }
            (_, value) => {
                // The key below is removed as well, because its span belongs to the other file.
                below.remove(name.as_str());
                below.insert(key, Spanned::new(span, value));
            }
        }
        path.pop();
    }
}

fn merges_by_key(path: &[String]) -> bool {
    match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["status" | "service" | "deploy"] | ["service", _] => true,
        ["service", _, table] => MERGED_TABLES.contains(&table),
        _ => false,
    }
}

/// Returns every value that is not a table, in the order of the files.
fn list_values(table: &DeTable<'_>, faults: &Faults<'_>) -> Vec<LayerValue> {
    let mut values = Vec::new();
    collect_values(table, "", faults, &mut values);
    values
}

fn collect_values(
    table: &DeTable<'_>,
    path: &str,
    faults: &Faults<'_>,
    values: &mut Vec<LayerValue>,
) {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    for (name, value) in pairs {
        let name = quote_key(name.get_ref());
        let key = if path.is_empty() { name } else { format!("{path}.{name}") };
        if let DeValue::Table(below) = value.get_ref() {
            collect_values(below, &key, faults, values);
            continue;
        }
        let (file, line) = faults.locate(value.span().start);
        values.push(LayerValue {
            key,
            text: to_toml(value.get_ref()),
            file: file.to_owned(),
            line,
        });
    }
}

/// Formats a value as TOML on one line.
fn to_toml(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quote_string(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| to_toml(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let pairs = table.iter().map(|(name, value)| {
                format!("{} = {}", quote_key(name.get_ref()), to_toml(value.get_ref()))
            });
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quote_key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { quote_string(name) }
}

/// Formats a TOML string. JSON string syntax is valid TOML, except for DEL, which TOML requires to be escaped.
fn quote_string(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn chain(layer: &str, files: &[(&str, &str)]) -> Result<LayerChain> {
        let known: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        let file = |layer: &str| {
            let found = files.iter().find(|(name, _)| *name == layer);
            Ok(found.map(|(_, text)| (*text).to_owned()))
        };
        LayerChain::follow_extends(layer, &file, &known)
    }

    fn merged(layer: &str, files: &[(&str, &str)]) -> String {
        let chain = chain(layer, files).unwrap();
        let every = |reader: &TableReader<'_>| {
            for name in reader.key_names() {
                reader.type_of(&name);
            }
        };
        match chain.merge_and_read(every) {
            Ok((_, values)) => values
                .iter()
                .map(|value| {
                    let LayerValue { key, text, file, line } = value;
                    format!("{key} = {text}  # {file}:{line}\n")
                })
                .collect(),
            Err(faults) => format!("{}\n{}\n", faults.message(), faults.details().join("\n")),
        }
    }

    #[test]
    fn an_upper_layer_replaces_field_by_field() {
        let files = [
            (
                "upper",
                "extends = 'base'\n[service.api]\nrun = \"\"\"b\\\n  \"c\\\"\n\"\"\"\n\
                 env = { B = '2', C = '3' }\n\
                 needs = [\n  'x', # why\n]\nready = { tcp = true }\nrestart.max = 0x1F\n\
                 [service.new]\nrun = 'n'\n[status]\nport = 9\n",
            ),
            (
                "base",
                "[status]\nenabled = true\nport = 8\n[service.web]\nrun = 'w'\n[service.api]\nrun = 'a'\n\
                 port = 80\nneeds = ['web', 'y']\nenv = { A = '1', B = '1' }\n\
                 ready = { http = '/h', expect = { json = { 'a b' = [{ c = 1.5 }] } } }\n\
                 restart = { max = 3, within = '1m' }\n",
            ),
        ];
        expect![[r#"
            status.enabled = true  # deployment/base.toml:2
            status.port = 9  # deployment/upper.toml:15
            service.web.run = "w"  # deployment/base.toml:5
            service.api.port = 80  # deployment/base.toml:8
            service.api.env.A = "1"  # deployment/base.toml:10
            service.api.env.B = "2"  # deployment/upper.toml:6
            service.api.env.C = "3"  # deployment/upper.toml:6
            service.api.restart.within = "1m"  # deployment/base.toml:12
            service.api.restart.max = 0x1F  # deployment/upper.toml:11
            service.api.run = "b\"c\"\n"  # deployment/upper.toml:3
            service.api.needs = ["x"]  # deployment/upper.toml:7
            service.api.ready.tcp = true  # deployment/upper.toml:10
            service.new.run = "n"  # deployment/upper.toml:13
        "#]]
        .assert_eq(&merged("upper", &files));
        let base = merged("base", &files);
        assert!(base.contains("json.\"a b\" = [{ c = 1.5 }]  # deployment/base.toml:11"), "{base}");
    }

    #[test]
    fn production_does_not_take_the_status_endpoint_over() {
        let files = [
            ("local", "[status]\nport = 8\n"),
            ("production", "extends = 'local'\n"),
            ("europe", "extends = 'production'\n[status]\nenabled = true\n"),
        ];
        assert_eq!(merged("production", &files), "");
        assert_eq!(merged("europe", &files), "status.enabled = true  # deployment/europe.toml:3\n");
    }

    #[test]
    fn chains_that_lead_nowhere_are_told_with_their_place() {
        let files = [
            ("a", "\nextends = 'b'\n"),
            ("b", "extends = 'c'\n"),
            ("c", "\n\nextends = 'b'"),
            ("own", "extends = 'own'\n"),
            ("lost", "extends = 'c'\n"),
            ("typo", "extends = 'lots'\n"),
            ("out", "extends = '../setup/sync'\n"),
            ("type", "extends = 3\n"),
        ];
        let mut all = String::new();
        for layer in ["a", "own", "lost", "typo", "out", "type"] {
            all.push_str(&merged(layer, &files));
        }
        expect![[r#"
            1 fault in the layer `a`
            deployment/c.toml:3: these layers extend each other: b → c → b
            1 fault in the layer `own`
            deployment/own.toml:1: `own` extends itself
            1 fault in the layer `lost`
            deployment/b.toml:1: these layers extend each other: c → b → c
            1 fault in the layer `typo`
            deployment/typo.toml:1: `extends` is `lots`, and there is no such layer; did you mean `lost`? (the layers are `a`, `b`, `c`, `own`, `lost`, `typo`, `out`, `type`)
            1 fault in the layer `out`
            deployment/out.toml:1: `extends` is `../setup/sync`, and there is no such layer (the layers are `a`, `b`, `c`, `own`, `lost`, `typo`, `out`, `type`)
            1 fault in the layer `type`
            deployment/type.toml:1: `extends` must be a string, not integer
        "#]]
        .assert_eq(&all);
    }

    #[test]
    fn of_a_file_that_cannot_be_parsed_only_that_is_told() {
        let files = [
            ("low", "[service.a]\nrun = 'a\nport = 3\nrun = 4\n[ = \n"),
            ("high", "extends = 'low'\n[service.b]\nx = 1\n"),
        ];
        let chain = chain("high", &files).unwrap();
        let read = |reader: &TableReader<'_>| {
            reader.read_named_tables("service", |_, service| {
                service.read_text("run");
                service.require_key("run");
            });
        };
        let faults = chain.merge_and_read(read).unwrap_err();
        expect![[r#"
            deployment/low.toml:2: invalid literal string, expected `'`
            deployment/low.toml:4: duplicate key
            deployment/low.toml:5: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
            deployment/high.toml:3: unknown key `service.b.x`"#]].assert_eq(&faults.details().join("\n"));
    }

    #[test]
    fn a_layer_that_is_not_there_is_told_with_those_that_are() {
        let refused = |layer: &str, files: &[(&str, &str)]| {
            let refused = chain(layer, files).err().unwrap();
            assert_eq!(refused.kind(), xtask_base::error::ErrorKind::Usage);
            format!("{}\n{}\n", refused.message(), refused.hints().join("\n"))
        };
        let files = [("local", ""), ("staging", "")];
        let all = [
            refused("stagign", &files),
            refused("x", &[]),
            refused("../local", &files),
            refused("", &files),
        ];
        expect![[r#"
            no such layer: `stagign`; did you mean `staging`?
            the layers are `local`, `staging`
            no such layer: `x`
            there are no layers: write `deployment/local.toml`
            no such layer: `../local`; did you mean `local`?
            the layers are `local`, `staging`
            a layer's name is `[a-z0-9][a-z0-9_-]{0,39}`
            no such layer: ``
            the layers are `local`, `staging`
            a layer's name is `[a-z0-9][a-z0-9_-]{0,39}`
        "#]]
        .assert_eq(&all.concat());
    }
}
