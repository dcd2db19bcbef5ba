//! A reader of XML that takes nothing but well-formed documents, and a validator for the XML
//! schema of JUnit. It knows the constructs that this schema uses and panics at every other one,
//! so what it lets pass it has checked.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// An element of a document.
#[derive(Clone, Debug)]
pub struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub children: Vec<Element>,
    /// The text that stands directly in it.
    pub text: String,
}

impl Element {
    /// Reads a document; says what keeps it from being well-formed.
    pub fn parse(document: &str) -> Result<Element, String> {
        if let Some(c) = document.chars().find(|c| !is_xml_character(*c)) {
            return Err(format!("{c:?} cannot stand in XML 1.0"));
        }
        let mut reader = Reader::from_str(document);
        let mut open: Vec<Element> = Vec::new();
        let mut root = None;
        let mut close = |element: Element, open: &mut Vec<Element>| match open.last_mut() {
            Some(parent) => {
                parent.children.push(element);
                Ok(())
            }
            None if root.is_none() => {
                root = Some(element);
                Ok(())
            }
            None => Err("two roots".to_owned()),
        };
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(start) => open.push(Element::begun(&start)?),
                Event::Empty(start) => close(Element::begun(&start)?, &mut open)?,
                Event::End(_) => {
                    let element = open.pop().ok_or("an end without a beginning")?;
                    close(element, &mut open)?;
                }
                Event::Text(text) => {
                    let text = text.xml10_content();
                    if text.contains("]]>") {
                        return Err("`]]>` in a text".to_owned());
                    }
                    add_text(&mut open, &text)?;
                }
                Event::CData(text) => add_text(&mut open, &text.xml10_content())?,
                Event::GeneralRef(reference) => {
                    let resolved =
                        reference.resolve_char_ref().map_err(|error| error.to_string())?;
                    let c = match resolved {
                        Some(c) if is_xml_character(c) => c,
                        Some(c) => return Err(format!("a reference to {c:?}")),
                        None => entity(&reference)?,
                    };
                    add_text(&mut open, &c.to_string())?;
                }
                Event::Decl(_) | Event::Comment(_) => {}
                Event::Eof => break,
                other => return Err(format!("unexpected: {other:?}")),
            }
        }
        if open.is_empty() {
            root.ok_or("no root".to_owned())
        } else {
            Err("not closed".to_owned())
        }
    }

    fn begun(start: &BytesStart<'_>) -> Result<Element, String> {
        let mut attributes = BTreeMap::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            if attribute.value.contains('<') {
                return Err("`<` in an attribute".to_owned());
            }
            let value = resolved(&attribute.value)?;
            attributes.insert(attribute.key.as_ref().to_owned(), value);
        }
        let name = start.name().as_ref().to_owned();
        Ok(Element { name, attributes, children: Vec::new(), text: String::new() })
    }

    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).unwrap_or_else(|| panic!("no `{name}` in {self:?}"))
    }

    /// The elements of a name among its children.
    pub fn all(&self, name: &str) -> Vec<&Element> {
        self.children.iter().filter(|child| child.name == name).collect()
    }
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("text outside of the root".to_owned()),
    }
    Ok(())
}

/// The value of an attribute, with its references resolved and its white space normalised.
fn resolved(value: &str) -> Result<String, String> {
    let mut resolved = String::new();
    let mut rest = value;
    while let Some(at) = rest.find('&') {
        resolved.push_str(&rest[..at].replace(['\t', '\n', '\r'], " "));
        let (reference, after) = rest[at + 1..].split_once(';').ok_or("`&` in an attribute")?;
        let code = match reference.strip_prefix("#x") {
            Some(digits) => Some(u32::from_str_radix(digits, 16)),
            None => reference.strip_prefix('#').map(str::parse),
        };
        resolved.push(match code {
            None => entity(reference)?,
            Some(code) => code
                .ok()
                .and_then(char::from_u32)
                .filter(|c| is_xml_character(*c))
                .ok_or("a reference to no character")?,
        });
        rest = after;
    }
    resolved.push_str(&rest.replace(['\t', '\n', '\r'], " "));
    Ok(resolved)
}

fn entity(name: &str) -> Result<char, String> {
    let known = [("lt", '<'), ("gt", '>'), ("amp", '&'), ("apos", '\''), ("quot", '"')];
    let entity = known.iter().find(|(known, _)| *known == name).map(|(_, c)| *c);
    entity.ok_or_else(|| format!("unknown entity `{name}`"))
}

/// XML 1.0, production 2.
fn is_xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The one pattern that the schema of JUnit uses.
const TIME: &str = r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?";

/// A schema, every construct of which is known.
pub struct Xsd {
    /// Global elements and named types.
    globals: BTreeMap<(&'static str, String), Element>,
}

impl Xsd {
    /// Panics if the schema holds anything that is not checked.
    pub fn parse(text: &str) -> Xsd {
        let schema = Element::parse(text).unwrap();
        assert_eq!(schema.name, "xs:schema");
        assert_eq!(schema.attribute("xmlns:xs"), "http://www.w3.org/2001/XMLSchema");
        assert_eq!(schema.attributes.len(), 1, "{:?}", schema.attributes);
        let mut globals = BTreeMap::new();
        for global in schema.children {
            know(&global);
            let kind = match global.name.as_str() {
                "xs:element" => "element",
                "xs:complexType" | "xs:simpleType" => "type",
                other => panic!("a global `{other}`"),
            };
            let name = global.attribute("name").to_owned();
            assert!(globals.insert((kind, name), global).is_none(), "twice the same name");
        }
        let xsd = Xsd { globals };
        xsd.globals.values().for_each(|global| xsd.resolve(global));
        xsd
    }

    /// Everything that is wrong with a document whose root is the named element.
    pub fn faults(&self, root: &str, document: &Element) -> Vec<String> {
        let mut faults = Vec::new();
        if document.name == root {
            self.element(self.global("element", root), document, &format!("/{root}"), &mut faults);
        } else {
            faults.push(format!("the root is `{}`", document.name));
        }
        faults
    }

    fn global(&self, kind: &'static str, name: &str) -> &Element {
        let global = self.globals.get(&(kind, name.to_owned()));
        global.unwrap_or_else(|| panic!("no {kind} `{name}`"))
    }

    /// Panics where a reference leads nowhere.
    fn resolve(&self, declaration: &Element) {
        if let Some(name) = declaration.attributes.get("ref") {
            self.global("element", name);
        }
        let named = ["type", "base"].into_iter().filter_map(|key| declaration.attributes.get(key));
        for name in named.filter(|name| *name != "xs:string") {
            self.global("type", name);
        }
        declaration.children.iter().for_each(|child| self.resolve(child));
    }

    fn element(&self, declared: &Element, element: &Element, at: &str, faults: &mut Vec<String>) {
        let kind = match declared.attributes.get("type").map(String::as_str) {
            Some("xs:string") => None,
            Some(name) => Some(self.global("type", name)),
            None => Some(&declared.children[0]),
        };
        match kind.filter(|kind| kind.name == "xs:complexType") {
            Some(kind) => self.complex(kind, element, at, faults),
            None => {
                faults.extend(element.attributes.keys().map(|name| format!("{at}/@{name}")));
                faults.extend(element.children.iter().map(|child| format!("{at}/{}", child.name)));
                if !self.is_simple(kind, &element.text) {
                    faults.push(format!("{at} is {:?}", element.text));
                }
            }
        }
    }

    fn complex(&self, kind: &Element, element: &Element, at: &str, faults: &mut Vec<String>) {
        let declared = kind.all("xs:attribute");
        for (name, value) in &element.attributes {
            match declared.iter().find(|declared| declared.attribute("name") == name) {
                None => faults.push(format!("{at}/@{name} is unknown")),
                Some(declared) => {
                    let kind = declared.attribute("type");
                    let kind = (kind != "xs:string").then(|| self.global("type", kind));
                    if !self.is_simple(kind, value) {
                        faults.push(format!("{at}/@{name} is {value:?}"));
                    }
                }
            }
        }
        for declared in declared {
            let name = declared.attribute("name");
            let is_required = declared.attributes.get("use").is_some_and(|u| u == "required");
            if is_required && !element.attributes.contains_key(name) {
                faults.push(format!("{at}/@{name} is missing"));
            }
        }
        let is_mixed = kind.attributes.get("mixed").is_some_and(|mixed| mixed == "true");
        if !is_mixed && !element.text.trim().is_empty() {
            faults.push(format!("{at} has the text {:?}", element.text));
        }
        let content = kind.children.iter().find(|child| child.name != "xs:attribute");
        let names: Vec<&str> = element.children.iter().map(|child| child.name.as_str()).collect();
        let ends = content
            .map_or(BTreeSet::from([0]), |content| ends(content, &names, &BTreeSet::from([0])));
        if !ends.contains(&names.len()) {
            faults.push(format!("{at} must not hold {names:?}"));
        }
        for (number, child) in element.children.iter().enumerate() {
            let at = format!("{at}/{}[{number}]", child.name);
            if let Some(declared) = content.and_then(|content| self.declared(content, &child.name))
            {
                self.element(declared, child, &at, faults);
            }
        }
    }

    /// What a content model says about the elements of a name.
    fn declared<'a>(&'a self, content: &'a Element, name: &str) -> Option<&'a Element> {
        if content.name != "xs:element" {
            return content.children.iter().find_map(|child| self.declared(child, name));
        }
        match content.attributes.get("ref") {
            Some(global) => (global == name).then(|| self.global("element", name)),
            None => (content.attribute("name") == name).then_some(content),
        }
    }

    /// Whether a text is of a simple type; nothing stands for `xs:string`.
    fn is_simple(&self, kind: Option<&Element>, text: &str) -> bool {
        let Some(kind) = kind else { return true };
        assert_eq!(kind.name, "xs:simpleType");
        let restriction = &kind.children[0];
        restriction.children.iter().all(|pattern| {
            assert_eq!(pattern.attribute("value"), TIME, "an unknown pattern");
            is_time(text)
        })
    }
}

/// Panics at an element or attribute of a schema that is not checked.
fn know(declaration: &Element) {
    let name = declaration.name.as_str();
    let (attributes, children): (&[&str], &[&str]) = match name {
        "xs:element" => (&["name", "type", "ref", "minOccurs", "maxOccurs"], &["xs:complexType"]),
        "xs:complexType" => (&["name", "mixed"], &["xs:sequence", "xs:choice", "xs:attribute"]),
        "xs:sequence" | "xs:choice" => {
            (&["minOccurs", "maxOccurs"], &["xs:sequence", "xs:choice", "xs:element"])
        }
        "xs:attribute" => (&["name", "type", "use"], &[]),
        "xs:simpleType" => (&["name"], &["xs:restriction"]),
        "xs:restriction" => (&["base"], &["xs:pattern"]),
        "xs:pattern" => (&["value"], &[]),
        other => panic!("unknown construct `{other}`"),
    };
    for attribute in declaration.attributes.keys() {
        assert!(attributes.contains(&attribute.as_str()), "unknown `{attribute}` of `{name}`");
    }
    for child in &declaration.children {
        assert!(children.contains(&child.name.as_str()), "`{}` in `{name}`", child.name);
        know(child);
    }
    let has = |attribute: &str| declaration.attributes.contains_key(attribute);
    let count = declaration.children.len();
    match name {
        "xs:element" => {
            let ways = usize::from(has("type")) + usize::from(has("ref")) + count;
            assert!(ways == 1 && has("name") != has("ref"), "{declaration:?}");
        }
        "xs:complexType" => {
            let models = declaration.children.iter().filter(|child| child.name != "xs:attribute");
            assert!(models.count() <= 1, "{declaration:?}");
        }
        "xs:attribute" => {
            let usage = declaration.attributes.get("use").map_or("optional", String::as_str);
            assert!(["optional", "required"].contains(&usage) && has("type"), "{declaration:?}");
        }
        "xs:simpleType" => assert_eq!(count, 1, "{declaration:?}"),
        "xs:restriction" => assert_eq!(declaration.attribute("base"), "xs:string"),
        "xs:pattern" => assert_eq!(declaration.attribute("value"), TIME, "an unknown pattern"),
        _ => {}
    }
}

/// Where a content model can end that begins at one of several places in a list of children.
fn ends(model: &Element, names: &[&str], starts: &BTreeSet<usize>) -> BTreeSet<usize> {
    let bound = |name: &str| model.attributes.get(name).map_or("1", String::as_str);
    let least: usize = bound("minOccurs").parse().unwrap();
    let most = match bound("maxOccurs") {
        "unbounded" => least.max(names.len() + 1),
        number => number.parse().unwrap(),
    };
    let once = |starts: &BTreeSet<usize>| -> BTreeSet<usize> {
        match model.name.as_str() {
            "xs:element" => {
                let name = model.attributes.get("ref").or(model.attributes.get("name")).unwrap();
                let fits = |start: &&usize| names.get(**start) == Some(&name.as_str());
                starts.iter().filter(fits).map(|start| start + 1).collect()
            }
            "xs:sequence" => {
                let parts = model.children.iter();
                parts.fold(starts.clone(), |starts, part| ends(part, names, &starts))
            }
            "xs:choice" => {
                model.children.iter().flat_map(|part| ends(part, names, starts)).collect()
            }
            other => panic!("unknown construct `{other}`"),
        }
    };
    let mut reached = starts.clone();
    let mut found = if least == 0 { starts.clone() } else { BTreeSet::new() };
    for turn in 1..=most {
        reached = once(&reached);
        if turn >= least {
            let before = found.len();
            found.extend(&reached);
            // Another turn reaches nothing that is new.
            if found.len() == before {
                break;
            }
        }
    }
    found
}

/// The language of `TIME`. Its first part takes any digits, and any commas that three digits
/// follow at the end; its second a point and up to three digits.
fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let last = whole.rsplit_once(',').map(|(_, last)| last);
    let is_whole = whole.split(',').all(digits) && last.is_none_or(|last| last.len() >= 3);
    is_whole && digits(fraction) && fraction.len() <= 3
}
