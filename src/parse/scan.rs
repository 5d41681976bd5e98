//! A JSON object taken apart in one pass over its bytes.
//!
//! Sees the keys of the object and of the objects directly in it, and jumps over everything else, text of prompts first of
//! all. It checks as much as a JSON parser does; what it finds odd (escaped keys, control characters, very deep nesting, any
//! fault) it leaves to the parser, so what it gives is never different. Does not know what any key means.

use std::borrow::Cow;
use std::cell::Cell;
use std::num::NonZeroU32;

use super::block::Block;
use super::json::{Garbled, Inner, KeyMap, Member, Object, Parts, Raw};

/// Objects in objects that are taken apart too: line, response, usage, its details.
const MAX_DEPTH: u32 = 4;

/// Brackets in brackets that are jumped over, one bit each.
const MAX_NESTING: u32 = 128;

/// Memory for the parts of one line after another.
#[derive(Debug, Default)]
pub(super) struct Spare(Parts<'static>);

impl Spare {
    /// Empty parts that take no memory anew.
    fn lend<'a>(&mut self) -> Parts<'a> {
        std::mem::take(&mut self.0)
    }

    /// Takes the memory of an object that is no longer needed.
    pub(super) fn take_back(&mut self, object: Object<'_>) {
        let Some(Parts {
            mut members,
            mut maps,
            ..
        }) = object.into_parts()
        else {
            return;
        };
        members.clear();
        maps.clear();
        // There is none; the memory stays the same, for members of any line.
        let nothing = |_| Member {
            key: Cow::Borrowed(&[]),
            value: Raw::new(""),
            inner: None,
        };
        self.0 = Parts {
            members: members.into_iter().map(nothing).collect(),
            maps,
            asked: Cell::new(0),
        };
    }
}

/// Takes apart the object that begins with the bytes, and gives where it ends. `None` if it is no object, or odd.
fn object<'a>(
    bytes: &'a [u8],
    garbled: Garbled<'a>,
    parts: Parts<'a>,
) -> Option<(Object<'a>, usize)> {
    let mut scanner = Scanner {
        garbled,
        parts,
        ..Scanner::new(bytes)
    };
    scanner.object(1)?;
    Some((Object::new(scanner.parts), scanner.at))
}

/// The object that the text is, with nothing before or after it.
pub(super) fn only_object(text: &str) -> Option<Object<'_>> {
    only_object_of(Raw::new(text))
}

/// The object that a value is.
pub(super) fn only_object_of(raw: Raw<'_>) -> Option<Object<'_>> {
    only_object_in(raw, &mut Spare::default())
}

/// The same, in memory that was used before.
pub(super) fn only_object_in<'a>(raw: Raw<'a>, spare: &mut Spare) -> Option<Object<'a>> {
    let (object, end) = object(raw.bytes(), raw.garbled(), spare.lend())?;
    (end == raw.bytes().len()).then_some(object)
}

/// The number that bytes begin with, and how many digits it has: no more than twelve, so that it is far below the largest.
#[inline]
pub(super) fn leading_digits(bytes: &[u8]) -> Option<(u64, usize)> {
    let (mut n, mut length) = (0, 0);
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        n = n * 10 + u64::from(digit);
        length += 1;
        if length > 12 {
            return None;
        }
    }
    (length > 0).then_some((n, length))
}

/// Goes through a text. Within strings it need not be UTF-8.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    garbled: Garbled<'a>,
    at: usize,
    block: Block,
    parts: Parts<'a>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            garbled: None,
            at: 0,
            block: Block::default(),
            parts: Parts::default(),
        }
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Goes on behind these very bytes.
    #[inline]
    pub(super) fn literal(&mut self, literal: &[u8]) -> Option<()> {
        let end = self.at.checked_add(literal.len())?;
        let found = self.bytes.get(self.at..end)?;
        are_same(found, literal).then(|| self.at = end)
    }

    /// A string without escapes, with its quotes, or a number.
    #[inline]
    pub(super) fn plain_text_or_number(&mut self) -> Option<&'a [u8]> {
        let begin = self.at;
        if self.peek()? == b'"' {
            self.plain_string()?;
        } else {
            self.number()?;
        }
        Some(&self.bytes[begin..self.at])
    }

    /// A number that is written as nothing but a few digits, as far as it goes: what follows tells whether it was all of it.
    #[inline]
    pub(super) fn digits_only(&mut self) -> Option<u64> {
        let rest = self.bytes.get(self.at..)?;
        let (n, length) = leading_digits(rest)?;
        // No number of JSON begins with a zero and goes on.
        if length > 1 && rest.starts_with(b"0") {
            return None;
        }
        self.at += length;
        Some(n)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// Takes an object apart, and gives which of the maps is its own.
    fn object(&mut self, depth: u32) -> Option<u32> {
        self.take(b'{')?;
        self.space();
        let map = self.parts.maps.len();
        self.parts.maps.push(KeyMap::EMPTY);
        let number = u32::try_from(map).ok()?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(number);
        }
        let first = self.parts.members.len();
        loop {
            let key = self.plain_key()?;
            self.space();
            self.take(b':')?;
            self.space();
            let begin = self.at;
            let slot = self.parts.members.len();
            self.parts.maps[map].note(key, slot - first);
            self.parts.members.push(Member {
                key: Cow::Borrowed(key),
                value: Raw::new(""),
                inner: None,
            });
            if depth < MAX_DEPTH && self.peek()? == b'{' {
                let map = self.object(depth + 1)?;
                let end = NonZeroU32::new(u32::try_from(self.parts.members.len()).ok()?)?;
                self.parts.members[slot].inner = Some(Inner { end, map });
            } else {
                self.value()?;
            }
            self.parts.members[slot].value = Raw::of(&self.bytes[begin..self.at], self.garbled);
            self.space();
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    self.space();
                }
                b'}' => {
                    self.at += 1;
                    return Some(number);
                }
                _ => return None,
            }
        }
    }

    /// A key without escapes.
    fn plain_key(&mut self) -> Option<&'a [u8]> {
        let begin = self.at + 1;
        self.plain_string()?;
        Some(&self.bytes[begin..self.at - 1])
    }

    /// Jumps over a string without escapes.
    #[inline]
    fn plain_string(&mut self) -> Option<()> {
        self.take(b'"')?;
        let begin = self.at;
        if let Some(stop) = self.block.stop_from(begin) {
            self.at = stop;
        } else {
            self.seek_end()?;
            let is_plain = if self.block.begin() <= begin {
                self.block.stop_from(begin) == Some(self.at)
            } else {
                !self.bytes[begin..self.at].contains(&b'\\')
            };
            if !is_plain {
                return None;
            }
        }
        self.take(b'"')
    }

    /// Jumps over a value.
    pub(super) fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' => self.container(),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..]
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    fn digits(&mut self) -> Option<()> {
        let begin = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > begin).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Jumps over an object or array with all that is in it.
    fn container(&mut self) -> Option<()> {
        // A bit for each bracket that is open, the innermost lowest: set for an object.
        let mut open: u128 = 0;
        let mut nesting: u32 = 0;
        'value: loop {
            let bracket = self.peek()?;
            if bracket == b'{' || bracket == b'[' {
                if nesting == MAX_NESTING {
                    return None;
                }
                self.at += 1;
                self.space();
                nesting += 1;
                open = (open << 1) | u128::from(bracket == b'{');
                if bracket == b'{' && self.peek()? != b'}' {
                    self.key()?;
                    continue 'value;
                }
                if bracket == b'[' && self.peek()? != b']' {
                    continue 'value;
                }
            } else {
                self.scalar()?;
                self.space();
            }
            loop {
                let in_object = open & 1 == 1;
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        self.space();
                        if in_object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return None,
                }
                self.at += 1;
                nesting -= 1;
                open >>= 1;
                if nesting == 0 {
                    return Some(());
                }
                self.space();
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.space();
        self.take(b':')?;
        self.space();
        Some(())
    }

    /// Moves on to the quote that ends the string it stands in, which may be where it stands.
    #[inline]
    fn seek_end(&mut self) -> Option<()> {
        self.at = if let Some(end) = self.block.end_from(self.at) {
            end
        } else {
            // What was looked at may lie behind by now.
            let begin = self.at.max(self.block.end());
            self.block = self.block.next(self.bytes, begin)?;
            self.block.first_end()?
        };
        Some(())
    }

    /// Jumps over a string, from quote to quote.
    #[inline]
    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        self.seek_end()?;
        self.at += 1;
        Some(())
    }
}

/// Whether two texts of one length are the same. They are short, and many in each line: to call what compares any would take longer.
#[inline]
fn are_same(a: &[u8], b: &[u8]) -> bool {
    match a.len() {
        0..4 => a == b,
        4..8 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        8..16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        _ => {
            let (ours, _) = a.as_chunks::<16>();
            let (theirs, _) = b.as_chunks::<16>();
            ours.iter().zip(theirs).all(|(ours, theirs)| ours == theirs)
                && a.last_chunk::<16>() == b.last_chunk()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In whichever byte they differ.
    #[test]
    fn texts_are_the_same_if_each_of_their_bytes_is() {
        for length in 0..100 {
            let text = vec![b'a'; length];
            assert!(are_same(&text, &text.clone()));
            for at in 0..length {
                let mut other = text.clone();
                other[at] = b'b';
                assert!(!are_same(&text, &other), "{length} {at}");
            }
        }
    }

    /// What a JSON parser makes of it.
    fn parsed(text: &str) -> Option<Object<'_>> {
        serde_json::from_str(text).ok()
    }

    /// The same members, whatever has been looked at already.
    fn same(scanned: &Object<'_>, parsed: &Object<'_>) -> bool {
        scanned.entries().eq(parsed.entries())
            && scanned.entries().all(|(key, value)| {
                let inner = scanned.object(key);
                let value = if scanned.get(key).is_some() {
                    scanned.get(key).unwrap()
                } else {
                    value
                };
                match parsed.object(key) {
                    Some(other) => inner.is_some_and(|inner| same(&inner, &other)),
                    None => inner.is_none() || value.get().is_empty(),
                }
            })
    }

    fn check(text: &str) -> Result<(), TestCaseError> {
        let Some((object, end)) = object(text.as_bytes(), None, Parts::default()) else {
            return Ok(());
        };
        let whole = parsed(&text[..end]);
        prop_assert!(whole.is_some(), "no parser takes {:?}", &text[..end]);
        prop_assert!(same(&object, &whole.unwrap()), "{}", text);
        Ok(())
    }

    #[test]
    fn plain_objects_are_taken_apart() {
        for text in [
            "{}",
            r#"{"a":1,"b":{"c":[{"d":"\"}"},[]],"e":-0.5e+7},"f":"ü\u00e4\\","g":null}"#,
            r#"{ "usage" : { "input_tokens" : 12 } , "x" : [ 1 , true , false ] }"#,
            r#"{"a":1,"a":{"b":2},"a":3}"#,
            r#"{"a":{"a":{"a":{"a":{"a":{"a":[[[{}]]]}}}}}}"#,
        ] {
            let (object, end) = object(text.as_bytes(), None, Parts::default()).unwrap();
            assert_eq!(end, text.len(), "{text}");
            assert!(same(&object, &parsed(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_odd_or_wrong_is_left_to_the_parser() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for text in [
            "",
            "{",
            "[]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":-}",
            "{\"a\":1e}",
            "{\"a\":tru}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":[1,]}",
            "{\"a\":[1}",
            "{\"a\":{\"b\"]}",
            "{\"\\u0061\":1}",
            "{\"a\":\t1}",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"a\":nul",
            &deep,
        ] {
            assert!(
                object(text.as_bytes(), None, Parts::default()).is_none(),
                "{text:?}"
            );
        }
    }

    /// Bytes of which many are JSON, some nearly so.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => prop::sample::select(vec![
                "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\"usage\":", "\"input_tokens\":1", "{}", "[]",
                " ", "null", "true", "12", "-0.5", "1e9", "\\\"", "\\\\", "\\n", "\\u00e4", "\\ud800", "\\u0", "\t",
                "\"k\":{\"l\":[1,{\"m\":\"n\"}]}", "ü", "🙂", "abcdefghijklmnopqrstuvwxyz0123456789",
            ]).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| format!("{{{}", pieces.concat()))
    }

    /// Any JSON value.
    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,100}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec(("[a-c]{0,2}", inner), 0..8)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_never_differs_from_a_parser(text in pieces()) {
            check(&text)?;
        }

        #[test]
        fn it_takes_apart_any_object_that_a_parser_writes(value in json(), cut in any::<prop::sample::Index>()) {
            let text = format!("{{\"first\":{value},\"second\":{{\"third\":{value}}}}}");
            check(&text)?;
            let is_plain = !text.bytes().any(|b| b < 0x20) && !text.contains("\\\":");
            if is_plain {
                prop_assert!(object(text.as_bytes(), None, Parts::default()).is_some(), "{}", text);
            }
            // And what is left of it when it is cut anywhere.
            let end = text.floor_char_boundary(cut.index(text.len()));
            check(&text[..end])?;
        }
    }
}
