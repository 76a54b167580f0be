//! Typed resources out of nodes: serde's side of the tree. Every error keeps the place of the key or
//! value that it is about.

use std::borrow::Cow;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::node::{Entry, Node, Position, Value, is_null, snake_to_camel};

/// A node is not what the type wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeError {
    /// Where; none until the node that it is about is known.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl TypeError {
    fn at(mut self, position: Position) -> TypeError {
        self.position.get_or_insert(position);
        self
    }
}

impl std::fmt::Display for TypeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: std::fmt::Display>(message: T) -> TypeError {
        TypeError { position: None, message: message.to_string(), help: None }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> TypeError {
        TypeError::custom(format!("expected {}, found {found}", in_words(expected)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> TypeError {
        TypeError::custom(format!("expected {}, found {found}", in_words(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> TypeError {
        let help = match closest(field, expected) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known fields here: {}", expected.join(", ")),
        };
        TypeError { position: None, message: format!("unknown field `{field}`"), help: Some(help) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> TypeError {
        let help = match closest(variant, expected) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of: {}", expected.join(", ")),
        };
        TypeError {
            position: None,
            message: format!("unknown value `{variant}`"),
            help: Some(help),
        }
    }
}

/// The name that a misspelt one most likely means.
pub(crate) fn closest<'n>(wrong: &str, names: &[&'n str]) -> Option<&'n str> {
    names
        .iter()
        .map(|name| (distance(&wrong.to_lowercase(), &name.to_lowercase()), *name))
        // Short names are like everything; a name must share more than it differs.
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4 && 2 * distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits between two short words.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (at, same) in other.iter().map(|target| *target == letter).enumerate() {
            let cost = (diagonal + usize::from(!same)).min(row[at] + 1).min(row[at + 1] + 1);
            diagonal = row[at + 1];
            row[at + 1] = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// How a kind is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Protobuf's JSON form: fields also by their names in the `.proto` file, numbers in quotes.
    pub protobuf: bool,
    /// Values must not show up in messages.
    pub secret: bool,
}

/// Read a value of type `T`.
///
/// # Errors
/// The first place where the node is not what `T` wants.
pub fn from_node<T: DeserializeOwned>(node: &Node, reading: Reading) -> Result<T, TypeError> {
    T::deserialize(NodeDeserializer(node, reading)).map_err(|error| error.at(node.position))
}

#[derive(Clone, Copy)]
struct NodeDeserializer<'n>(&'n Node, Reading);

/// What a plain scalar means in YAML's core schema.
enum Plain<'t> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'t str),
}

fn resolve(text: &str) -> Plain<'_> {
    if is_null(text) {
        return Plain::Null;
    }
    match text {
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let hex = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    if let Some(number) = hex.or_else(|| text.parse().ok()) {
        return Plain::Unsigned(number);
    }
    if let Ok(number) = text.parse() {
        return Plain::Signed(number);
    }
    let numeric = text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    match text.parse::<f64>() {
        Ok(number) if numeric => Plain::Float(number),
        _ => Plain::Text(text),
    }
}

impl NodeDeserializer<'_> {
    fn describe(&self) -> String {
        match &self.0.value {
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar { text, plain: true } if is_null(text) => "nothing".to_owned(),
            Value::Scalar { .. } if self.1.secret => "another value".to_owned(),
            Value::Scalar { text, plain: false } => format!("the string \"{text}\""),
            Value::Scalar { text, plain: true } => match resolve(text) {
                Plain::Null => "nothing".to_owned(),
                Plain::Bool(_) => format!("the boolean `{text}`"),
                Plain::Unsigned(_) | Plain::Signed(_) | Plain::Float(_) => {
                    format!("the number `{text}`")
                }
                Plain::Text(_) => format!("the string `{text}`"),
            },
        }
    }

    fn mismatch(&self, expected: &dyn de::Expected) -> TypeError {
        let expected = in_words(expected);
        TypeError {
            position: Some(self.0.position),
            message: format!("expected {expected}, found {}", self.describe()),
            help: None,
        }
    }
}

/// What is expected, without the names of Rust's types.
fn in_words(expected: &dyn de::Expected) -> String {
    let whole = |least: i64, most: u64| format!("a whole number from {least} to {most}");
    match expected.to_string().as_str() {
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u64" => whole(0, u64::MAX),
        "i32" => whole(i32::MIN.into(), i32::MAX as u64),
        "i64" => whole(i64::MIN, i64::MAX as u64),
        "f32" | "f64" => "a number".to_owned(),
        words => words.to_owned(),
    }
}

macro_rules! number {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
            self.number(visitor)
        })*
    };
}

impl<'de> NodeDeserializer<'_> {
    /// A number; protobuf's JSON form allows it as a string too.
    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let node = self.0;
        let Value::Scalar { text, plain } = &node.value else {
            return Err(self.mismatch(&visitor));
        };
        if !plain && !self.1.protobuf {
            return Err(self.mismatch(&visitor));
        }
        let outcome = match resolve(text) {
            Plain::Unsigned(number) => visitor.visit_u64(number),
            Plain::Signed(number) => visitor.visit_i64(number),
            Plain::Float(number) => visitor.visit_f64(number),
            Plain::Null | Plain::Bool(_) | Plain::Text(_) => return Err(self.mismatch(&visitor)),
        };
        outcome.map_err(|error: TypeError| error.at(node.position))
    }
}

impl<'de> de::Deserializer<'de> for NodeDeserializer<'_> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let node = self.0;
        let outcome = match &node.value {
            Value::Sequence(items) => visitor.visit_seq(Items(items.iter(), self.1)),
            Value::Mapping(entries) => visitor.visit_map(Entries::new(entries, self.1)),
            Value::Scalar { text, plain: false } => visitor.visit_str(text),
            Value::Scalar { text, plain: true } => match resolve(text) {
                Plain::Null => visitor.visit_unit(),
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Unsigned(number) => visitor.visit_u64(number),
                Plain::Signed(number) => visitor.visit_i64(number),
                Plain::Float(number) => visitor.visit_f64(number),
                Plain::Text(text) => visitor.visit_str(text),
            },
        };
        outcome.map_err(|error: TypeError| error.at(node.position))
    }

    number! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.0.value {
            Value::Scalar { text, plain: true } => match resolve(text) {
                Plain::Bool(value) => visitor.visit_bool(value),
                _ => Err(self.mismatch(&"a boolean")),
            },
            _ => Err(self.mismatch(&"a boolean")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let node = self.0;
        match &node.value {
            Value::Scalar { text, plain } => {
                let is_text = !plain || matches!(resolve(text), Plain::Text(_));
                if is_text {
                    return visitor
                        .visit_str(text)
                        .map_err(|error: TypeError| error.at(node.position));
                }
                let mut error = self.mismatch(&"a string");
                if !is_null(text) && !self.1.secret {
                    error.help = Some(format!("put it in quotes: \"{text}\""));
                }
                Err(error)
            }
            _ => Err(self.mismatch(&"a string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.0.value {
            Value::Sequence(items) => visitor.visit_seq(Items(items.iter(), self.1)),
            _ if self.0.is_null() => visitor.visit_seq(Items([].iter(), self.1)),
            _ => Err(self.mismatch(&"a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.0.value {
            Value::Mapping(entries) => visitor.visit_map(Entries::new(entries, self.1)),
            _ if self.0.is_null() => visitor.visit_map(Entries::new(&[], self.1)),
            _ => Err(self.mismatch(&"a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        let position = self.0.position;
        match &self.0.value {
            Value::Mapping(entries) => {
                let entries = Entries { fields, ..Entries::new(entries, self.1) };
                visitor.visit_map(entries).map_err(|error: TypeError| error.at(position))
            }
            _ => self.deserialize_map(visitor).map_err(|error| error.at(position)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        let position = self.0.position;
        visitor.visit_enum(Variant(self)).map_err(|error: TypeError| error.at(position))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

struct Items<'n>(std::slice::Iter<'n, Node>, Reading);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        match self.0.next() {
            None => Ok(None),
            Some(node) => seed
                .deserialize(NodeDeserializer(node, self.1))
                .map(Some)
                .map_err(|error| error.at(node.position)),
        }
    }
}

struct Entries<'n> {
    entries: std::slice::Iter<'n, Entry>,
    reading: Reading,
    /// The fields of a struct; none for a map, whose keys the user chooses.
    fields: &'static [&'static str],
    value: Option<&'n Entry>,
}

impl<'n> Entries<'n> {
    fn new(entries: &'n [Entry], reading: Reading) -> Entries<'n> {
        Entries { entries: entries.iter(), reading, fields: &[], value: None }
    }

    /// The name that the type knows a key by.
    fn name(&self, key: &'n str) -> Cow<'n, str> {
        if self.reading.protobuf && key.contains('_') && !self.fields.contains(&key) {
            let camel = snake_to_camel(key);
            if self.fields.contains(&camel.as_str()) {
                return Cow::Owned(camel);
            }
        }
        Cow::Borrowed(key)
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        let name = self.name(&entry.key);
        let key: de::value::StrDeserializer<'_, TypeError> = name.as_ref().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.at(entry.position))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        let Some(entry) = self.value.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(NodeDeserializer(&entry.value, self.reading))
            .map_err(|error| error.at(entry.position))
    }
}

/// Enums are names, never mappings.
struct Variant<'n>(NodeDeserializer<'n>);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = TypeError;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Unit), TypeError> {
        let Some(text) = self.0.0.as_str() else {
            return Err(self.0.mismatch(&"a name"));
        };
        let name: de::value::StrDeserializer<'_, TypeError> = text.into_deserializer();
        Ok((seed.deserialize(name)?, Unit))
    }
}

struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, TypeError> {
        Err(de::Error::custom("a name stands alone"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, TypeError> {
        Err(de::Error::custom("a name stands alone"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, TypeError> {
        Err(de::Error::custom("a name stands alone"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::parse;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Thing {
        retries: Option<u32>,
        #[serde(default)]
        names: Vec<String>,
        per_try_timeout: Option<String>,
    }

    const PROTOBUF: Reading = Reading { protobuf: true, secret: false };

    fn read(text: &str) -> Result<Thing, TypeError> {
        let documents = parse(text).expect("YAML");
        from_node(documents[0].root.as_ref().expect("not empty"), PROTOBUF)
    }

    #[test]
    fn errors_know_their_places() {
        let error = read("names: []\nretires: 3\n").expect_err("unknown");
        assert_eq!(error.position, Some(Position { line: 2, column: 1 }));
        assert_eq!(error.help.as_deref(), Some("did you mean `retries`?"));
        let error = read("names:\n- a\n- 80\n").expect_err("a number");
        assert_eq!(error.position, Some(Position { line: 3, column: 3 }));
        assert_eq!(error.help.as_deref(), Some("put it in quotes: \"80\""));
        let error = read("retries: many\n").expect_err("a string");
        assert_eq!(error.position, Some(Position { line: 1, column: 10 }));
        assert!(error.message.contains("found the string `many`"), "{}", error.message);
        let error = read("retries: -1\n").expect_err("negative");
        assert_eq!(error.position, Some(Position { line: 1, column: 10 }));
    }

    #[test]
    fn numbers_may_be_strings_and_nothing_is_none() {
        let thing = read("retries: \"3\"\nnames:\nperTryTimeout: 1s\n").expect("well-formed");
        assert_eq!(thing.retries, Some(3));
        assert!(thing.names.is_empty());
        assert_eq!(read("retries: ~\n").expect("nothing").retries, None);
    }
}
