//! A reader of XML that takes nothing but well-formed documents.

use std::collections::BTreeMap;

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
