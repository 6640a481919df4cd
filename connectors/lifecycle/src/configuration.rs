//! A bucket's rules as S3 sends them (XML) and as its command line shows them (JSON): the same values, nothing lost. What
//! is not known in either is refused: to write the rules anew without it would take it away from whoever set it.

use lakehead_core::Result;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::Event;
use serde_json::{Map, Value};

use crate::merge::not_understood;

/// Elements within elements at most: six are known.
const DEPTH_MAX: usize = 16;

/// What an element holds.
enum Shape {
    Text,
    /// A whole number.
    Number,
    Bool,
    Fields(&'static [Field]),
}

/// A field and its two names; `many` where the element may come several times and JSON has a list.
struct Field {
    xml: &'static str,
    json: &'static str,
    many: bool,
    shape: Shape,
}

const fn one(name: &'static str, shape: Shape) -> Field {
    Field { xml: name, json: name, many: false, shape }
}

const fn many(xml: &'static str, json: &'static str, shape: Shape) -> Field {
    Field { xml, json, many: true, shape }
}

/// The S3 API reference, `LifecycleConfiguration`.
static CONFIGURATION: [Field; 1] = [many("Rule", "Rules", Shape::Fields(&RULE))];
static RULE: [Field; 9] = [
    one("ID", Shape::Text),
    one("Prefix", Shape::Text),
    one("Filter", Shape::Fields(&FILTER)),
    one("Status", Shape::Text),
    many("Transition", "Transitions", Shape::Fields(&TRANSITION)),
    one("Expiration", Shape::Fields(&EXPIRATION)),
    many("NoncurrentVersionTransition", "NoncurrentVersionTransitions", Shape::Fields(&NONCURRENT)),
    one("NoncurrentVersionExpiration", Shape::Fields(&NONCURRENT)),
    one("AbortIncompleteMultipartUpload", Shape::Fields(&ABORT)),
];
static FILTER: [Field; 5] = [
    one("Prefix", Shape::Text),
    one("Tag", Shape::Fields(&TAG)),
    one("ObjectSizeGreaterThan", Shape::Number),
    one("ObjectSizeLessThan", Shape::Number),
    one("And", Shape::Fields(&AND)),
];
static AND: [Field; 4] = [
    one("Prefix", Shape::Text),
    many("Tag", "Tags", Shape::Fields(&TAG)),
    one("ObjectSizeGreaterThan", Shape::Number),
    one("ObjectSizeLessThan", Shape::Number),
];
static TAG: [Field; 2] = [one("Key", Shape::Text), one("Value", Shape::Text)];
static TRANSITION: [Field; 3] =
    [one("Date", Shape::Text), one("Days", Shape::Number), one("StorageClass", Shape::Text)];
static EXPIRATION: [Field; 3] =
    [one("Date", Shape::Text), one("Days", Shape::Number), one("ExpiredObjectDeleteMarker", Shape::Bool)];
static NONCURRENT: [Field; 3] = [
    one("NoncurrentDays", Shape::Number),
    one("StorageClass", Shape::Text),
    one("NewerNoncurrentVersions", Shape::Number),
];
static ABORT: [Field; 1] = [one("DaysAfterInitiation", Shape::Number)];

#[derive(Default)]
struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

/// Reads what S3 answers, as the JSON that its command line shows.
///
/// # Errors
///
/// R0556 for what is no such answer, or has a field that is not known.
pub(crate) fn from_xml(xml: &str) -> Result<Value> {
    let root = tree(xml)?;
    if root.name != "LifecycleConfiguration" {
        return Err(not_understood("it is no configuration of rules").with("element", &root.name));
    }
    fields_to_json(&root, &CONFIGURATION)
}

/// Writes a configuration as S3 takes it.
///
/// # Errors
///
/// R0556 for a field that is not known.
pub(crate) fn to_xml(configuration: &Value) -> Result<String> {
    let mut xml = String::from("<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    fields_to_xml(configuration, &CONFIGURATION, &mut xml)?;
    xml.push_str("</LifecycleConfiguration>");
    Ok(xml)
}

fn tree(xml: &str) -> Result<Element> {
    let broken = || not_understood("it is no XML");
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(|error| broken().caused_by(error))?;
        match event {
            Event::Start(start) => {
                if open.len() > DEPTH_MAX {
                    return Err(not_understood("it is too deep"));
                }
                open.push(named(start.local_name().as_ref()));
            }
            Event::Empty(empty) => {
                open.last_mut().ok_or_else(broken)?.children.push(named(empty.local_name().as_ref()));
            }
            Event::End(_) => {
                let done = open.pop().ok_or_else(broken)?;
                open.last_mut().ok_or_else(broken)?.children.push(done);
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|error| broken().caused_by(error))?;
                open.last_mut().ok_or_else(broken)?.text.push_str(&text);
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|error| broken().caused_by(error))?;
                let name = reference.decode().map_err(|error| broken().caused_by(error))?;
                let known = character.map(String::from).or_else(|| resolve_predefined_entity(&name).map(str::to_owned));
                open.last_mut().ok_or_else(broken)?.text.push_str(&known.ok_or_else(broken)?);
            }
            Event::CData(_) | Event::DocType(_) => return Err(broken()),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let root = open.pop().filter(|_| open.is_empty()).ok_or_else(broken)?;
    let mut roots = root.children.into_iter();
    roots.next().filter(|_| roots.next().is_none()).ok_or_else(broken)
}

fn named(name: &[u8]) -> Element {
    Element { name: String::from_utf8_lossy(name).into_owned(), ..Element::default() }
}

fn fields_to_json(element: &Element, fields: &[Field]) -> Result<Value> {
    let mut object = Map::new();
    for child in &element.children {
        let field = fields.iter().find(|field| field.xml == child.name);
        let field = field.ok_or_else(|| unknown(&child.name))?;
        let value = to_json(child, &field.shape)?;
        if field.many {
            let list = object.entry(field.json).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut().into_iter().for_each(|list| list.push(value.clone()));
        } else if object.insert(field.json.to_owned(), value).is_some() {
            return Err(not_understood("a field stands there twice").with("field", field.xml));
        }
    }
    Ok(Value::Object(object))
}

fn to_json(element: &Element, shape: &Shape) -> Result<Value> {
    if let Shape::Fields(fields) = shape {
        return fields_to_json(element, fields);
    }
    if let Some(child) = element.children.first() {
        return Err(unknown(&child.name));
    }
    let text = element.text.as_str();
    let value = match shape {
        Shape::Number => text.trim().parse::<u64>().ok().map(Value::from),
        Shape::Bool => text.trim().parse::<bool>().ok().map(Value::from),
        Shape::Text | Shape::Fields(_) => Some(Value::from(text)),
    };
    value.ok_or_else(|| not_understood("a field's value is none").with("field", &element.name))
}

fn fields_to_xml(value: &Value, fields: &[Field], xml: &mut String) -> Result<()> {
    let Value::Object(object) = value else { return Err(not_understood("a part of it is no object")) };
    for (name, value) in object {
        let field = fields.iter().find(|field| field.json == name).ok_or_else(|| unknown(name))?;
        let values = match value {
            Value::Array(values) if field.many => values.as_slice(),
            _ if field.many => return Err(not_understood("a field is no list").with("field", name)),
            value => std::slice::from_ref(value),
        };
        for value in values {
            xml.push_str(&format!("<{}>", field.xml));
            match (&field.shape, value) {
                (Shape::Fields(fields), value) => fields_to_xml(value, fields, xml)?,
                (Shape::Text, Value::String(text)) => xml.push_str(&escape(text.as_str())),
                (Shape::Number, Value::Number(number)) => xml.push_str(&number.to_string()),
                (Shape::Bool, Value::Bool(known)) => xml.push_str(&known.to_string()),
                _ => return Err(not_understood("a field's value is none").with("field", name)),
            }
            xml.push_str(&format!("</{}>", field.xml));
        }
    }
    Ok(())
}

fn unknown(field: &str) -> lakehead_core::Error {
    not_understood("it has a field that is not known").with("field", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><ID>logs &amp; &lt;more&gt;</ID>\
        <Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>l</Key><Value></Value></Tag>\
        <ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter><Status>Enabled</Status>\
        <Transition><Days>30</Days><StorageClass>STANDARD_IA</StorageClass></Transition>\
        <Transition><Date>2027-01-01T00:00:00.000Z</Date><StorageClass>GLACIER</StorageClass></Transition></Rule>\
        <Rule><ID>old</ID><Prefix></Prefix><Status>Disabled</Status>\
        <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>\
        <NoncurrentVersionTransition><NoncurrentDays>3</NoncurrentDays><StorageClass>GLACIER</StorageClass>\
        <NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionTransition>\
        <NoncurrentVersionExpiration><NoncurrentDays>9</NoncurrentDays></NoncurrentVersionExpiration>\
        <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>\
        </Rule></LifecycleConfiguration>";

    #[test]
    fn what_is_read_is_written_as_it_stood() {
        let value = from_xml(XML).unwrap();
        assert_eq!(value["Rules"][0]["ID"], "logs & <more>");
        assert_eq!(value["Rules"][0]["Filter"]["And"]["Tags"][1]["Value"], "");
        assert_eq!(value["Rules"][0]["Transitions"].as_array().unwrap().len(), 2);
        assert_eq!(to_xml(&value).unwrap(), XML);
        let spaced = format!("<?xml version=\"1.0\"?>\n{}", XML.replace("<Rule>", "\n  <Rule>\n "));
        assert_eq!(from_xml(&spaced).unwrap(), value);
    }

    #[test]
    fn what_is_not_known_is_refused_and_never_lost() {
        for (from, to) in [
            ("<Status>Enabled</Status>", "<Status>Enabled</Status><Novelty>1</Novelty>"),
            ("<Days>30</Days>", "<Days>soon</Days>"),
            ("<Days>30</Days>", "<Days>30</Days><Days>31</Days>"),
            ("<Days>30</Days>", "<Days><Hours>3</Hours></Days>"),
            ("&amp;", "&secret;"),
            ("</LifecycleConfiguration>", ""),
            ("</LifecycleConfiguration>", "</LifecycleConfiguration><Error/>"),
        ] {
            assert_eq!(from_xml(&XML.replacen(from, to, 1)).unwrap_err().code(), "R0556", "{to}");
        }
        for xml in ["", "<Error><Code>x</Code></Error>", "{}", &"<a>".repeat(100)] {
            assert_eq!(from_xml(xml).unwrap_err().code(), "R0556", "{xml}");
        }
        let value = serde_json::json!({ "Rules": [{ "ID": "a", "Novelty": 1 }] });
        assert_eq!(to_xml(&value).unwrap_err().code(), "R0556");
    }
}
