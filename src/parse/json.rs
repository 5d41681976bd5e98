//! A JSON object looked at one level at a time.
//!
//! Values stay raw slices of the line until somebody asks for one, so prompt text is skipped over and never copied.
//! Of duplicate keys the last wins, as in most JSON readers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object in the order of the text.
#[derive(Debug)]
pub(super) struct Object<'a> {
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads an object; `None` if the text is anything else.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        text.trim_start()
            .starts_with('{')
            .then(|| serde_json::from_str(text).ok())
            .flatten()
    }

    /// An object that is put together from members found elsewhere.
    pub(super) fn from_entries(entries: Vec<(Cow<'a, str>, &'a RawValue)>) -> Self {
        Self { entries }
    }

    /// The members, duplicates included.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_ref(), *value))
    }

    /// The value of a key, unless it is null.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.entries.iter().rev().find(|(k, _)| k == key)?.1;
        (!is_null(found)).then_some(found)
    }

    /// The value of a key if it is an object.
    pub(super) fn object(&self, key: &str) -> Option<Object<'a>> {
        Object::parse(self.get(key)?.get())
    }

    /// The value of a key if it is a string that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        text(self.get(key)?)
    }
}

pub(super) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// A string value that is not empty.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    if !json.starts_with('"') {
        return None;
    }
    let Text(text) = serde_json::from_str(json).ok()?;
    (!text.is_empty()).then_some(text)
}

/// The elements of an array.
pub(super) fn elements(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// The JSON object in a string value, decoded once: the text itself, or what follows the `data:` of a stream event. Journald
/// writes text that is not plain as an array of bytes.
pub(super) fn embedded_object(raw: &RawValue) -> Option<String> {
    let json = raw.get();
    let decoded = if json.starts_with('[') {
        let bytes: Vec<u8> = serde_json::from_str(json).ok()?;
        String::from_utf8(bytes).ok()?
    } else {
        let inner = json.strip_prefix('"')?;
        let begin = inner.trim_start_matches(['\\', 'n', 't', 'r', ' ']);
        if !begin.starts_with(['{', 'u', 'd']) {
            return None;
        }
        serde_json::from_str(json).ok()?
    };
    let text = decoded.trim_start();
    let text = text.strip_prefix("data:").map_or(text, str::trim_start);
    if !text.starts_with('{') {
        None
    } else if text.len() == decoded.len() {
        Some(decoded)
    } else {
        Some(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(16);
                while let Some((Text(key), value)) = map.next_entry()? {
                    entries.push((key, value));
                }
                Ok(Object { entries })
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A string that is borrowed from the line where it holds no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A JSON Pointer (RFC 6901) given by the user, as in `--usage-field /payload/llm/usage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl std::str::FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            let guess = text.replace('.', "/");
            return Err(format!(
                "a JSON Pointer starts with \"/\"; did you mean \"/{guess}\"?"
            ));
        }
        let unescape = |step: &str| step.replace("~1", "/").replace("~0", "~");
        Ok(Self {
            text: text.to_owned(),
            steps: text[1..].split('/').map(unescape).collect(),
        })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pointer {
    /// The JSON text that the pointer names in `object`, also inside strings that hold JSON. Null counts as absent.
    pub(super) fn find(&self, object: &Object) -> Option<String> {
        let (first, rest) = self.steps.split_first()?;
        descend(object.get(first)?.get(), rest)
    }
}

fn descend(json: &str, steps: &[String]) -> Option<String> {
    let Some((step, rest)) = steps.split_first() else {
        return (json != "null").then(|| json.to_owned());
    };
    let json = json.trim_start();
    if json.starts_with('{') {
        descend(Object::parse(json)?.get(step)?.get(), rest)
    } else if json.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        descend(items.get(step.parse::<usize>().ok()?)?.get(), rest)
    } else if json.starts_with('"') {
        let inner: String = serde_json::from_str(json).ok()?;
        inner
            .trim_start()
            .starts_with(['{', '['])
            .then(|| descend(&inner, steps))
            .flatten()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_duplicate_keys_wins_and_null_is_absent() {
        let object = Object::parse(r#"{"a":1,"b":null,"a":2}"#).unwrap();
        assert_eq!(object.get("a").map(RawValue::get), Some("2"));
        assert!(object.get("b").is_none());
    }

    #[test]
    fn escaped_keys_are_the_same_keys() {
        let object = Object::parse(r#"{"us\u0061ge":{"x":1}}"#).unwrap();
        assert!(object.object("usage").is_some());
    }

    #[test]
    fn a_pointer_goes_through_arrays_and_strings_that_hold_json() {
        let line = r#"{"a~b":[0,{"c/d":"{\"usage\":{\"n\":7}}"}]}"#;
        let object = Object::parse(line).unwrap();
        let pointer: Pointer = "/a~0b/1/c~1d/usage/n".parse().unwrap();
        assert_eq!(pointer.find(&object).as_deref(), Some("7"));
        assert_eq!("/a~0b/2".parse::<Pointer>().unwrap().find(&object), None);
    }
}
