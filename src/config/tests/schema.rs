//! The model has exactly the fields of Istio's schema: a deserializer that, asked for a type,
//! writes down what the type asks for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use crate::config::destination_rule::DestinationRule;
use crate::config::gateway::Gateway;
use crate::config::service_entry::ServiceEntry;
use crate::config::telemetry::Telemetry;
use crate::config::virtual_service::VirtualService;

#[derive(Debug)]
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Failure(message.to_string())
    }
}

struct Probe<'a> {
    path: String,
    lines: &'a RefCell<BTreeSet<String>>,
}

impl Probe<'_> {
    fn note(&self, what: &str) {
        self.lines.borrow_mut().insert(format!("{} {what}", self.path));
    }

    fn below(&self, step: &str) -> Self {
        Probe { path: format!("{}{step}", self.path), lines: self.lines }
    }
}

macro_rules! scalars {
    ($($method:ident $what:literal $visit:ident $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            self.note($what);
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Failure;

    /// Only durations take anything, to say what a duration is.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    scalars! {
        deserialize_bool "boolean" visit_bool true;
        deserialize_i32 "integer" visit_i32 1;
        deserialize_u32 "integer" visit_u32 1;
        deserialize_u64 "integer" visit_u64 1;
        deserialize_f64 "number" visit_f64 1.0;
        deserialize_str "string" visit_str "1s";
        deserialize_string "string" visit_str "1s";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.note("array");
        visitor.visit_seq(Once(Some(self.below("[]"))))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.note("object");
        if std::any::type_name::<V>().ends_with("OneOf") {
            // Only one of them may be there, so none is.
            for field in ["exact", "prefix", "regex"] {
                self.below(&format!(".{field}")).note("string");
            }
            return visitor.visit_map(Fields { keys: &[], probe: &self, map: false, value: None });
        }
        visitor.visit_map(Fields { keys: &["key"], probe: &self, map: true, value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.note("object");
        visitor.visit_map(Fields { keys: fields, probe: &self, map: false, value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let sorted: BTreeSet<_> = variants.iter().copied().collect();
        self.note(&format!("string {}", Vec::from_iter(sorted).join("|")));
        let variant: StrDeserializer<'_, Failure> = variants[0].into_deserializer();
        visitor.visit_enum(variant)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i64 u8 u16 f32 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

struct Once<'a>(Option<Probe<'a>>);

impl<'de> SeqAccess<'de> for Once<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
        self.0.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

struct Fields<'a> {
    keys: &'a [&'static str],
    probe: &'a Probe<'a>,
    map: bool,
    value: Option<Probe<'a>>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        let Some((key, rest)) = self.keys.split_first() else { return Ok(None) };
        self.keys = rest;
        let step = if self.map { "{}".to_owned() } else { format!(".{key}") };
        self.value = Some(self.probe.below(&step));
        seed.deserialize((*key).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        seed.deserialize(self.value.take().expect("a key before"))
    }
}

fn fields<T: de::DeserializeOwned>(kind: &str, lines: &RefCell<BTreeSet<String>>) {
    T::deserialize(Probe { path: format!("{kind} spec"), lines }).expect("a value of every type");
}

#[test]
fn the_model_has_exactly_the_fields_of_the_schema() {
    let ours = RefCell::default();
    fields::<Gateway>("Gateway", &ours);
    fields::<VirtualService>("VirtualService", &ours);
    fields::<DestinationRule>("DestinationRule", &ours);
    fields::<ServiceEntry>("ServiceEntry", &ours);
    fields::<Telemetry>("Telemetry", &ours);
    let ours = ours.into_inner();

    let list = std::fs::read_to_string(super::samples("fields.txt")).expect("the list of fields");
    let theirs: BTreeSet<String> = list
        .lines()
        .map(|line| match line.rsplit_once(' ') {
            Some((before, values)) if values.contains('|') => {
                let sorted: BTreeSet<_> = values.split('|').collect();
                format!("{before} {}", Vec::from_iter(sorted).join("|"))
            }
            _ => line.to_owned(),
        })
        .collect();
    assert!(theirs.len() > 700);
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let surplus: Vec<_> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:#?} surplus: {surplus:#?}"
    );
}
