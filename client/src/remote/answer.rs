//! What the server said: the typed value, and beside it the JSON as it came, with fields this client does not know.

use std::fmt;

use qwex_api::Page;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

/// A value with the JSON it was read from.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    pub value: T,
    pub json: Verbatim,
}

/// One page of a list, item by item.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    pub items: Vec<Answer<T>>,
    pub next_page_token: Option<String>,
}

impl<T: DeserializeOwned> Answer<T> {
    /// Reads both from the same text.
    ///
    /// # Errors
    /// It is no JSON, or not of this type.
    pub fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(Self {
            value: serde_json::from_slice(text)?,
            json: serde_json::from_slice(text)?,
        })
    }
}

impl<T: Serialize> Answer<T> {
    /// A value of our own, with the JSON it has on the wire.
    #[must_use]
    pub fn of(value: T) -> Self {
        let json = serde_json::to_vec(&value).expect("wire types serialise");
        let json = serde_json::from_slice(&json).expect("what was just written is JSON");
        Self { value, json }
    }
}

impl<T: DeserializeOwned> Listing<T> {
    /// Reads a page.
    ///
    /// # Errors
    /// It is no page of such items.
    pub fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        let values: Page<T> = serde_json::from_slice(text)?;
        let jsons: Page<Verbatim> = serde_json::from_slice(text)?;
        let items = values.items.into_iter().zip(jsons.items);
        Ok(Self {
            items: items.map(|(value, json)| Answer { value, json }).collect(),
            next_page_token: values.next_page_token,
        })
    }
}

/// JSON that keeps the order of its fields, so that it is printed as it came.
#[derive(Debug, Clone, PartialEq)]
pub enum Verbatim {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Serialize for Verbatim {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Number(value) => value.serialize(to),
            Self::Text(value) => to.serialize_str(value),
            Self::List(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(fields) => {
                let mut map = to.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Verbatim {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Verbatim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Verbatim, E> {
        Ok(Verbatim::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Verbatim, E> {
        Ok(Verbatim::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Verbatim, E> {
        Ok(Verbatim::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Verbatim, E> {
        Ok(Verbatim::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Verbatim, E> {
        serde_json::Number::from_f64(value)
            .map(Verbatim::Number)
            .ok_or_else(|| E::custom("a number that JSON does not know"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Verbatim, E> {
        Ok(Verbatim::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Verbatim, E> {
        Ok(Verbatim::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Verbatim, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Verbatim::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Verbatim, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = from.next_entry()? {
            fields.push(field);
        }
        Ok(Verbatim::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_kept_in_order_with_unknown_fields() {
        let text = r#"{"zeta":1,"alpha":[true,null,"x",-2,1.5],"mid":{"b":1,"a":2}}"#;
        let json: Verbatim = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
    }

    #[test]
    fn a_page_keeps_each_item_as_it_came() {
        let text = br#"{"items":[{"name":"a","created_at":"2026-01-01T00:00:00Z","created_by":"x","new":1}],"next_page_token":"t"}"#;
        let page: Listing<qwex_api::project::ProjectInfo> = Listing::read(text).unwrap();
        assert_eq!(page.items[0].value.name.as_str(), "a");
        let json = serde_json::to_string(&page.items[0].json).unwrap();
        assert!(json.ends_with(r#""new":1}"#), "{json}");
        assert_eq!(page.next_page_token.as_deref(), Some("t"));
    }
}
