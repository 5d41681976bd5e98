//! A JSON object looked at one level at a time.
//!
//! Values stay raw slices of the line until somebody asks for one, so prompt text is skipped over and never copied.
//! Of duplicate keys the last wins, as in most JSON readers. Does not know what any key means.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::scan;

/// Where it is noted that a value which somebody looked at is not UTF-8; none where all is known to be.
pub(super) type Garbled<'a> = Option<&'a AtomicBool>;

/// A value as it stands in the line: valid JSON, without white space around it. Whether its strings are UTF-8 is only seen when
/// somebody looks at it: most is text of prompts, at which nobody does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    bytes: &'a [u8],
    garbled: Garbled<'a>,
}

impl PartialEq for Raw<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Raw<'_> {}

impl<'a> Raw<'a> {
    /// `json` must be one valid value.
    pub(super) const fn new(json: &'a str) -> Self {
        Self::of(json.as_bytes(), None)
    }

    /// The same of bytes that may not be UTF-8 within strings.
    pub(super) const fn of(bytes: &'a [u8], garbled: Garbled<'a>) -> Self {
        Self { bytes, garbled }
    }

    /// The text of a single value; `None` if it is not one.
    pub(super) fn parse(json: &'a str) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(json).ok()?;
        Some(Self::new(raw.get()))
    }

    /// Its bytes.
    pub(super) const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Where it is noted that it is not UTF-8.
    pub(super) const fn garbled(self) -> Garbled<'a> {
        self.garbled
    }

    /// Its text. Empty if it is not UTF-8, which is noted: then nothing that is made of the line holds.
    pub(super) fn get(self) -> &'a str {
        utf8(self.bytes, self.garbled)
    }

    /// It is written like this.
    pub(super) fn is(self, json: &str) -> bool {
        self.bytes == json.as_bytes()
    }
}

/// Bytes as text; empty if they are none, which is noted.
fn utf8<'a>(bytes: &'a [u8], garbled: Garbled<'_>) -> &'a str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_else(|_| {
        if let Some(garbled) = garbled {
            garbled.store(true, Ordering::Relaxed);
        }
        ""
    })
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// It need not be UTF-8. None that is not is one that is known.
    pub(super) key: Cow<'a, [u8]>,
    pub(super) value: Raw<'a>,
    /// The value, if it is an object that has been looked at already.
    pub(super) inner: Option<Inner>,
}

impl Member<'_> {
    fn name(&self) -> &str {
        utf8(&self.key, self.value.garbled)
    }
}

/// An object whose members stand behind the one that it is the value of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inner {
    /// Where the first member stands that is not of it.
    pub(super) end: NonZeroU32,
    /// Which of the maps is of it.
    pub(super) map: u32,
}

/// The kind of a key: one of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind(u8);

impl Kind {
    #[inline]
    const fn of(bytes: &[u8]) -> Self {
        let (first, last) = match bytes {
            [] => (0, 0),
            [first, .., last] => (*first, *last),
            [only] => (*only, 0),
        };
        // The length is cut: it is one of many things that are mixed.
        #[allow(clippy::cast_possible_truncation, reason = "any bits of it will do")]
        let length = bytes.len() as u8;
        let mixed = first.wrapping_mul(7) ^ last.wrapping_mul(3) ^ length.wrapping_mul(11);
        Self(mixed & 63)
    }

    const fn bit(self) -> u64 {
        1 << self.0
    }
}

/// Where the keys of an object stand, by their kind: most keys that are asked for are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyMap {
    /// A bit for each kind that there is.
    seen: u64,
    /// A bit for each kind whose keys have to be searched for: there are several, or they stand too far behind.
    several: u64,
    /// Where the only key of a kind stands, counted from the first member.
    at: [u8; 64],
}

impl KeyMap {
    pub(super) const EMPTY: Self = Self {
        seen: 0,
        several: 0,
        at: [0; 64],
    };

    /// Notes a key that stands so far behind the first member.
    #[inline]
    pub(super) fn note(&mut self, key: &[u8], at: usize) {
        let kind = Kind::of(key);
        match u8::try_from(at) {
            Ok(at) if self.seen & kind.bit() == 0 => self.at[usize::from(kind.0)] = at,
            _ => self.several |= kind.bit(),
        }
        self.seen |= kind.bit();
    }
}

/// A name with its kind worked out beforehand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    name: &'static str,
    kind: Kind,
}

/// Names that are asked for together.
pub(super) const fn keys<const N: usize>(names: [&'static str; N]) -> [Key; N] {
    let mut keys = [Key {
        name: "",
        kind: Kind(0),
    }; N];
    let mut at = 0;
    while at < N {
        keys[at] = Key {
            name: names[at],
            kind: Kind::of(names[at].as_bytes()),
        };
        at += 1;
    }
    keys
}

/// An object and those in it, as they were taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Parts<'a> {
    /// Members in the order of the text: those of an object in an object stand behind the member whose value it is.
    pub(super) members: Vec<Member<'a>>,
    /// The first is that of the outermost object.
    pub(super) maps: Vec<KeyMap>,
    /// A bit for each member that was asked for, the first lowest. Those that stand too far behind have none.
    pub(super) asked: Cell<u128>,
}

/// The members of an object in the order of the text. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object<'a> {
    parts: Rc<Parts<'a>>,
    from: u32,
    to: u32,
    map: u32,
    /// A bit for each kind of keys that there is.
    seen: u64,
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

    /// Reads a value; `None` if it is anything but an object.
    pub(super) fn of(raw: Raw<'a>) -> Option<Self> {
        if raw.bytes.first() != Some(&b'{') {
            return None;
        }
        let scanned = scan::only_object_of(raw);
        scanned.or_else(|| serde_json::from_str(raw.get()).ok())
    }

    /// The outermost object of these parts.
    pub(super) fn new(parts: Parts<'a>) -> Self {
        Self {
            from: 0,
            // A line is not as long as that.
            to: u32::try_from(parts.members.len()).unwrap_or(u32::MAX),
            map: 0,
            seen: parts.maps.first().map_or(0, |map| map.seen),
            parts: Rc::new(parts),
        }
    }

    /// An object that is put together from members found elsewhere.
    pub(super) fn from_entries(entries: Vec<(Cow<'a, str>, Raw<'a>)>) -> Self {
        let mut map = KeyMap::EMPTY;
        let member = |(at, (key, value)): (usize, (Cow<'a, str>, Raw<'a>))| {
            map.note(key.as_bytes(), at);
            Member {
                key: match key {
                    Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
                    Cow::Owned(key) => Cow::Owned(key.into_bytes()),
                },
                value,
                inner: None,
            }
        };
        let members = entries.into_iter().enumerate().map(member).collect();
        Self::new(Parts {
            members,
            maps: vec![map],
            asked: Cell::new(0),
        })
    }

    /// What it was made of, unless somebody else holds on to it.
    pub(super) fn into_parts(self) -> Option<Parts<'a>> {
        Rc::try_unwrap(self.parts).ok()
    }

    /// The members with where they stand, duplicates included.
    #[inline]
    fn members(&self) -> impl Iterator<Item = (usize, &Member<'a>)> {
        let mut next = self.from as usize;
        let to = self.to as usize;
        std::iter::from_fn(move || {
            let at = next;
            let member = self.parts.members[..to].get(at)?;
            next = member
                .inner
                .map_or(at + 1, |inner| inner.end.get() as usize);
            Some((at, member))
        })
    }

    /// Its keys, duplicates included.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.members().map(|(_, member)| member.name())
    }

    /// The members, duplicates included.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.parts.asked.set(u128::MAX);
        self.members()
            .map(|(_, member)| (member.name(), member.value))
    }

    /// Most names are not there; of one that is written out its kind is worked out when this is compiled.
    #[inline]
    const fn may_have(&self, kind: Kind) -> bool {
        self.seen & kind.bit() != 0
    }

    /// Where the last of its members with this name stands.
    fn find(&self, key: &str, kind: Kind) -> Option<usize> {
        let same = |member: &Member<'_>| *member.key == *key.as_bytes();
        let map = &self.parts.maps[self.map as usize];
        let found = if map.several & kind.bit() == 0 {
            let at = self.from as usize + usize::from(map.at[usize::from(kind.0)]);
            same(self.parts.members.get(at)?).then_some(at)
        } else {
            let found = self.members().filter(|(_, member)| same(member)).last();
            found.map(|(at, _)| at)
        };
        if let Some(at) = found {
            let asked = &self.parts.asked;
            asked.set(asked.get() | bit(at));
        }
        found
    }

    /// The values in the order of the text, those of objects that were looked into one by one; and whether somebody has asked for
    /// them. Only of the outermost object, and `None` if there are too many to tell.
    pub(super) fn leaves(&self) -> Option<Vec<(Raw<'a>, bool)>> {
        let members = &self.parts.members;
        if self.from != 0 || members.len() > u128::BITS as usize {
            return None;
        }
        let asked = self.parts.asked.get();
        let mut leaves = Vec::new();
        let mut at = 0;
        while let Some(member) = members.get(at) {
            let is_asked = asked & bit(at) != 0;
            at = match member.inner {
                Some(_) if is_asked => at + 1,
                Some(inner) => {
                    leaves.push((member.value, false));
                    inner.end.get() as usize
                }
                None => {
                    leaves.push((member.value, is_asked));
                    at + 1
                }
            };
        }
        Some(leaves)
    }

    /// Whether the value of a key is null.
    pub(super) fn is_null(&self, key: &str) -> bool {
        let kind = Kind::of(key.as_bytes());
        let found = self.may_have(kind).then(|| self.find(key, kind)).flatten();
        found.is_some_and(|at| is_null(self.parts.members[at].value))
    }

    fn find_value(&self, key: &str, kind: Kind) -> Option<Raw<'a>> {
        let found = self.parts.members[self.find(key, kind)?].value;
        (!is_null(found)).then_some(found)
    }

    /// The value of a key, unless it is null.
    #[inline]
    pub(super) fn get(&self, key: &str) -> Option<Raw<'a>> {
        let kind = Kind::of(key.as_bytes());
        if self.may_have(kind) {
            self.find_value(key, kind)
        } else {
            None
        }
    }

    /// Those of the names that are there, in the order of the names, with their values. Null counts as absent.
    #[inline]
    pub(super) fn values<'s>(
        &'s self,
        keys: &'s [Key],
    ) -> impl Iterator<Item = (&'static str, Raw<'a>)> + 's {
        keys.iter()
            .filter(|key| self.may_have(key.kind))
            .filter_map(|key| Some((key.name, self.find_value(key.name, key.kind)?)))
    }

    /// The value of a key if it is an object.
    #[inline]
    pub(super) fn object(&self, key: &str) -> Option<Object<'a>> {
        let kind = Kind::of(key.as_bytes());
        if self.may_have(kind) {
            self.find_object(key, kind)
        } else {
            None
        }
    }

    fn find_object(&self, key: &str, kind: Kind) -> Option<Object<'a>> {
        let at = self.find(key, kind)?;
        let member = &self.parts.members[at];
        match member.inner {
            Some(Inner { end, map }) => Some(Object {
                from: u32::try_from(at + 1).ok()?,
                to: end.get(),
                map,
                seen: self.parts.maps[map as usize].seen,
                parts: Rc::clone(&self.parts),
            }),
            None => Object::of(member.value),
        }
    }

    /// The value of a key if it is a string that is not empty.
    #[inline]
    pub(super) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        text(self.get(key)?)
    }
}

/// The bit of a member.
fn bit(at: usize) -> u128 {
    u32::try_from(at)
        .ok()
        .and_then(|at| 1_u128.checked_shl(at))
        .unwrap_or(0)
}

pub(super) fn is_null(raw: Raw<'_>) -> bool {
    raw.is("null")
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
    all.into_iter().map(|raw| Raw::new(raw.get())).collect()
}

/// The JSON object in a string value, decoded once: the text itself, or what follows the `data:` of a stream event. Journald
/// writes text that is not plain as an array of bytes.
pub(super) fn embedded_object(raw: Raw<'_>) -> Option<String> {
    let decoded = if raw.bytes.starts_with(b"[") {
        let bytes: Vec<u8> = serde_json::from_str(raw.get()).ok()?;
        String::from_utf8(bytes).ok()?
    } else {
        let inner = raw.bytes.strip_prefix(b"\"")?;
        let mut begin = inner.iter().filter(|byte| !b"\\ntr ".contains(byte));
        if !begin.next().is_some_and(|byte| b"{ud".contains(byte)) {
            return None;
        }
        serde_json::from_str(raw.get()).ok()?
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
                    entries.push((key, Raw::new(value.get())));
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

    proptest::proptest! {
        /// A key is found as if all were looked through, however many there are of its kind, and however far behind.
        #[test]
        fn a_key_is_found_where_it_stands(
            keys in proptest::collection::vec("[a-d]{0,3}", 0..400),
            others in proptest::collection::vec("[a-e]{0,4}", 0..40),
        ) {
            let member = |(at, key): (usize, &String)| format!("\"{key}\":{at},\"in{at}\":{{\"{key}\":{at}}}");
            let members: Vec<String> = keys.iter().enumerate().map(member).collect();
            let text = format!("{{{}}}", members.join(","));
            let object = Object::parse(&text).unwrap();
            for key in keys.iter().chain(&others) {
                let last = keys.iter().rposition(|known| known == key).map(|at| at.to_string());
                proptest::prop_assert_eq!(object.get(key).map(Raw::get), last.as_deref());
            }
            for (at, key) in keys.iter().enumerate() {
                let inner = object.object(&format!("in{at}")).unwrap();
                proptest::prop_assert_eq!(inner.get(key).map(Raw::get), Some(&*at.to_string()));
                proptest::prop_assert_eq!(inner.entries().count(), 1);
            }
        }
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
