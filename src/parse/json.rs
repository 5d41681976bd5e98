//! A JSON object looked at one level at a time.
//!
//! Values stay raw slices of the line until somebody asks for one, so prompt text is skipped over and never copied.
//! Of duplicate keys the last wins, as in most JSON readers. Does not know what any key means.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::scan;

/// A value as it stands in the line: valid JSON, without white space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// `json` must be one valid value.
    pub(super) const fn new(json: &'a str) -> Self {
        Self(json)
    }

    /// The text of a single value; `None` if it is not one.
    pub(super) fn parse(json: &'a str) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(json).ok()?;
        Some(Self(raw.get()))
    }

    /// Its text.
    pub(super) const fn get(self) -> &'a str {
        self.0
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Raw<'a>,
    /// The value, if it is an object that has been looked at already.
    pub(super) inner: Option<Object<'a>>,
}

/// The members of an object in the order of the text. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object<'a> {
    members: Rc<Vec<Member<'a>>>,
    /// The kinds of keys there are, a bit for each: most keys that are asked for are not there.
    kinds: u64,
}

/// The kind of a key: one of 64.
#[inline]
fn kind(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let (first, last) = match bytes {
        [] => (0, 0),
        [first, .., last] => (u32::from(*first), u32::from(*last)),
        [only] => (u32::from(*only), 0),
    };
    let mixed = first.wrapping_mul(7)
        ^ last.wrapping_mul(3)
        ^ u32::try_from(bytes.len()).unwrap_or(0).wrapping_mul(11);
    1 << (mixed & 63)
}

impl<'a> Object<'a> {
    /// Reads an object; `None` if the text is anything else.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim_start();
        if !text.starts_with('{') {
            return None;
        }
        scan::only_object(text.trim_end()).or_else(|| serde_json::from_str(text).ok())
    }

    /// An object of these members.
    pub(super) fn new(members: Vec<Member<'a>>) -> Self {
        let kinds = members
            .iter()
            .fold(0, |all, member| all | kind(&member.key));
        Self {
            members: Rc::new(members),
            kinds,
        }
    }

    /// An object that is put together from members found elsewhere.
    pub(super) fn from_entries(entries: Vec<(Cow<'a, str>, Raw<'a>)>) -> Self {
        let member = |(key, value)| Member {
            key,
            value,
            inner: None,
        };
        Self::new(entries.into_iter().map(member).collect())
    }

    /// The members, duplicates included.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.members
            .iter()
            .map(|member| (member.key.as_ref(), member.value))
    }

    fn member(&self, key: &str) -> Option<&Member<'a>> {
        if self.kinds & kind(key) == 0 {
            return None;
        }
        self.members.iter().rev().find(|member| member.key == key)
    }

    /// The value of a key, unless it is null.
    #[inline]
    pub(super) fn get(&self, key: &str) -> Option<Raw<'a>> {
        let found = self.member(key)?.value;
        (!is_null(found)).then_some(found)
    }

    /// The value of a key if it is an object.
    #[inline]
    pub(super) fn object(&self, key: &str) -> Option<Object<'a>> {
        let member = self.member(key)?;
        match &member.inner {
            Some(inner) => Some(inner.clone()),
            None => Object::parse(member.value.get()),
        }
    }

    /// The value of a key if it is a string that is not empty.
    #[inline]
    pub(super) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        text(self.get(key)?)
    }
}

pub(super) fn is_null(raw: Raw<'_>) -> bool {
    raw.get() == "null"
}

/// A string value that is not empty.
pub(super) fn text(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    let json = raw.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return (!inner.is_empty()).then_some(Cow::Borrowed(inner));
    }
    let Text(text) = serde_json::from_str(json).ok()?;
    (!text.is_empty()).then_some(text)
}

/// The elements of an array.
pub(super) fn elements(raw: Raw<'_>) -> Vec<Raw<'_>> {
    let all: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    all.into_iter().map(|raw| Raw(raw.get())).collect()
}

/// The JSON object in a string value, decoded once: the text itself, or what follows the `data:` of a stream event. Journald
/// writes text that is not plain as an array of bytes.
pub(super) fn embedded_object(raw: Raw<'_>) -> Option<String> {
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
                while let Some((Text(key), value)) = map.next_entry::<Text<'_>, &RawValue>()? {
                    entries.push((key, Raw(value.get())));
                }
                Ok(Object::from_entries(entries))
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
        assert_eq!(object.get("a").map(Raw::get), Some("2"));
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
