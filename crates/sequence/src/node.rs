//! YAML as a tree that knows where everything stands.
//!
//! Checks walk this tree and collect all mistakes, where a typed reader would stop at the first.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use crate::problem::Place;

/// The largest document we have seen has 60 KiB; scripts belong into packages.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Eight groups, each a list in a map, and the arguments of a step; deeper is a mistake or an attack on the stack.
const DEPTH_MAX: usize = 64;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) shape: Shape,
}

/// A value of any type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// Reads a document.
///
/// # Errors
/// Where it stops being YAML, and why.
pub(crate) fn parse(text: &str) -> Result<Node, (Place, String)> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err((
            Place::default(),
            format!("a document has at most {DOCUMENT_BYTES_MAX} bytes"),
        ));
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(place).unwrap_or_default();
        (place, first_line(&error.to_string()))
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn place(location: Location) -> Place {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Place {
        line: number(location.line()),
        column: number(location.column()),
    }
}

impl Node {
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.shape {
            Shape::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, in words.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.shape {
            Shape::Null => "nothing",
            Shape::Bool(_) => "true or false",
            Shape::Number(_) => "a number",
            Shape::Text(_) => "text",
            Shape::List(_) => "a list",
            Shape::Map(_) => "a map",
        }
    }

    /// The value without places.
    pub(crate) fn value(&self) -> Value {
        match &self.shape {
            Shape::Null => Value::Null,
            Shape::Bool(value) => Value::Bool(*value),
            Shape::Number(number) => Value::Number(number.clone()),
            Shape::Text(text) => Value::String(text.clone()),
            Shape::List(nodes) => nodes.iter().map(Self::value).collect(),
            Shape::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.text.clone(), node.value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The place of what `path` names, such as `volumes[1].size`; of the nearest thing around it if it isn't there.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            let next = match &node.shape {
                Shape::List(nodes) => part
                    .trim_end_matches(']')
                    .parse()
                    .ok()
                    .and_then(|index: usize| nodes.get(index)),
                Shape::Map(entries) => entries
                    .iter()
                    .find(|(key, _)| key.text == part)
                    .map(|(_, node)| node),
                _ => None,
            };
            let Some(next) = next else { return place };
            (node, place) = (next, next.place);
        }
        place
    }

    /// The place of the first key of this name, here or below.
    pub(crate) fn place_of_key(&self, name: &str) -> Option<Place> {
        match &self.shape {
            Shape::List(nodes) => nodes.iter().find_map(|node| node.place_of_key(name)),
            Shape::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.text == name)
                .map(|(key, _)| key.place)
                .or_else(|| entries.iter().find_map(|(_, node)| node.place_of_key(name))),
            _ => None,
        }
    }

    /// The place of the first text that is or holds `text`, here or below.
    pub(crate) fn place_of_text(&self, text: &str) -> Option<Place> {
        match &self.shape {
            Shape::Text(own) => own.contains(text).then_some(self.place),
            Shape::List(nodes) => nodes.iter().find_map(|node| node.place_of_text(text)),
            Shape::Map(entries) => entries
                .iter()
                .find_map(|(_, node)| node.place_of_text(text)),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Shape>::deserialize(deserializer)?;
        Ok(Self {
            place: place(spanned.referenced),
            shape: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        Shape::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Shape, E> {
        Number::from_f64(value)
            .map(Shape::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Shape::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key {
                place: place(key.referenced),
                text: key.value,
            };
            if entries.iter().any(|(known, _)| known.text == key.text) {
                return Err(A::Error::custom(format!(
                    "the key `{}` stands twice",
                    key.text
                )));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Shape::Map(entries))
    }
}
