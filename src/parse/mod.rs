//! One line of bytes → usage records. The only place that knows wire formats.
//!
//! Does no I/O and reads no clock. Prompt text is skipped over and never copied.

mod block;
mod envelope;
mod failure;
mod form;
mod framework;
mod item;
mod json;
mod notes;
mod otel;
mod places;
mod result;
mod scan;
mod stream;
mod time;
mod usage;

pub use item::{ApiError, Item, Names, Run, RunModel, Skipped, Usage, Verdict};
pub use json::Pointer;
pub use time::{Clock, Zone, moment, rfc3339};
pub use usage::InputCount;

use std::cell::Cell;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::monitor::Time;

use envelope::{Fragments, Joined};
use form::Forms;
use json::{Object, Raw};
use places::Context;
use stream::Streams;

/// How lines are read: places that the user names instead of the built-in search, and what no line can tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Where the usage object stands.
    pub usage_field: Option<Pointer>,
    /// Where the model name stands.
    pub model_field: Option<Pointer>,
    /// Where the time stands.
    pub time_field: Option<Pointer>,
    /// Where the response id stands.
    pub id_field: Option<Pointer>,
    /// Where the session or conversation id stands.
    pub session_field: Option<Pointer>,
    /// Where names stand that rules or reports group by.
    pub label_fields: Vec<Pointer>,
    /// The zone of times that name none.
    pub zone: Zone,
    /// Whether the input counts of OpenTelemetry attributes hold the cache counts.
    pub otel_input: InputCount,
}

/// What is wrong in a line, and where in memory it stands.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    reason: String,
    address: usize,
}

#[derive(Debug)]
enum Found {
    Item(Item),
    Several(Vec<Found>),
    Stream(stream::Event),
    Skipped(Skipped),
    Bad(Fault),
    Nothing,
}

/// Reads the lines of one file or pipe, in order: some responses take several lines. Pieces of lines are not kept when it is
/// saved: they are text of prompts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reader {
    #[serde(skip)]
    fragments: Fragments,
    streams: Streams,
}

/// Reads one line that stands for itself, without its line feed, and hands over what is in it.
pub fn parse_line(
    line: &[u8],
    options: &ParseOptions,
    clock: Clock<'_>,
    mut emit: impl FnMut(&Item),
) -> Verdict {
    let mut reader = Reader::default();
    let verdict = reader.line(line, options, clock, &mut Spare::default(), &mut emit);
    reader.finish(&mut emit);
    verdict
}

/// What is kept from one line to the next, of whatever source: memory, and how lines are written. What lines say does not depend
/// on it.
#[derive(Debug, Default)]
pub struct Spare {
    parts: scan::Spare,
    forms: Forms,
}

/// Reads a line that stands for itself, and is plain, without those before it. `None` if what it means may depend on them, or
/// if it is odd in any way; nothing is put out then.
pub fn parse_alone(
    line: &[u8],
    options: &ParseOptions,
    now: Time,
    spare: &mut Spare,
    emit: &mut dyn FnMut(&Item),
) -> Option<Verdict> {
    let text = line.trim_ascii();
    if text.is_empty() {
        return Some(Verdict::Blank);
    }
    let (ambiguous, garbled) = (Cell::new(false), AtomicBool::new(false));
    let clock = Clock {
        now,
        previous: None,
        zone: options.zone,
        ambiguous: Some(&ambiguous),
    };
    if let Some(item) = spare.forms.read(text, options, clock) {
        if ambiguous.get() {
            return None;
        }
        emit(item);
        return Some(Verdict::Items(1));
    }
    // What was not understood by a form says nothing of the line.
    ambiguous.set(false);
    let object = scan::only_object_in(Raw::of(text, Some(&garbled)), &mut spare.parts)?;
    // It may be a part of a line that docker has split.
    if object.get("log").is_some() {
        return None;
    }
    let context = Context {
        options,
        clock,
        transport: None,
        notes: None,
    };
    let found = places::find(&object, &context);
    spare.parts.take_back(object);
    if ambiguous.get() || garbled.into_inner() {
        return None;
    }
    if matches!(found, Found::Item(Item::Usage(_)))
        && let Ok(text) = std::str::from_utf8(text)
    {
        spare.forms.learn(text, &context);
    }
    match found {
        Found::Item(item) => {
            emit(&item);
            Some(Verdict::Items(1))
        }
        Found::Nothing => Some(Verdict::NoUsage),
        Found::Skipped(reason) => Some(Verdict::Skipped(reason)),
        Found::Several(_) | Found::Stream(_) | Found::Bad(_) => None,
    }
}

/// How often a line may be unwrapped before it is JSON.
const MAX_ENVELOPES: u8 = 3;

impl Reader {
    /// Reads the next line, without its line feed, and hands over what is in it, or what it completes. A line may hold several
    /// objects.
    pub fn line(
        &mut self,
        line: &[u8],
        options: &ParseOptions,
        clock: Clock<'_>,
        spare: &mut Spare,
        emit: &mut dyn FnMut(&Item),
    ) -> Verdict {
        if let Some(item) = spare.forms.read(line.trim_ascii(), options, clock) {
            emit(item);
            return Verdict::Items(1);
        }
        let context = Context {
            options,
            clock,
            transport: None,
            notes: None,
        };
        let Ok(text) = simdutf8::basic::from_utf8(line) else {
            return self.garbled(line, &context, emit);
        };
        let verdict = self.text(text, &context, MAX_ENVELOPES, emit);
        if verdict == Verdict::Items(1) {
            spare.forms.learn(text.trim_ascii(), &context);
        }
        verdict
    }

    /// Reads a line that is not UTF-8. What is broken in a text, most often because it was cut between two bytes of a letter, takes
    /// nothing from the counts beside it.
    fn garbled(
        &mut self,
        line: &[u8],
        context: &Context<'_>,
        emit: &mut dyn FnMut(&Item),
    ) -> Verdict {
        let text = String::from_utf8_lossy(line);
        let verdict = self.text(&text, context, MAX_ENVELOPES, emit);
        match verdict {
            Verdict::Bad { reason, items, .. } if reason == CUT_OFF => {
                bad(line.len(), reason, items)
            }
            Verdict::Bad { items, .. } => {
                let valid = std::str::from_utf8(line).map_or_else(|e| e.valid_up_to(), str::len);
                bad(valid + 1, no_text(line).to_owned(), items)
            }
            verdict => verdict,
        }
    }

    /// Nothing is open: there is nothing to save.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// The file has ended: streams that were cut are handed over. Gives how many split lines have no end.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&Item)) -> usize {
        self.streams.finish(emit);
        self.fragments.clear()
    }

    /// Hands over the streams that were not heard of for long.
    pub fn expire(&mut self, now: Time, emit: &mut dyn FnMut(&Item)) {
        self.streams.expire(now, emit);
    }

    fn text(
        &mut self,
        text: &str,
        context: &Context<'_>,
        envelopes: u8,
        emit: &mut dyn FnMut(&Item),
    ) -> Verdict {
        if text.trim().is_empty() {
            return Verdict::Blank;
        }
        let envelope = envelope::open(text);
        if envelope.is_event_field {
            return Verdict::Part;
        }
        let context = Context {
            transport: envelope.time.or(context.transport),
            ..*context
        };
        if let Some(part) = envelope.part.filter(|_| envelopes > 0) {
            return match self.fragments.add(part.stream, envelope.body, part.is_last) {
                Joined::Whole => self.contained(envelope.body, &context, envelopes, emit),
                Joined::Waiting => Verdict::Part,
                Joined::Line(line) => self.contained(&line, &context, envelopes, emit),
                Joined::Failed(reason) => bad(1, reason.to_owned(), 0),
            };
        }
        let body = envelope.body.trim();
        let offset = body.as_ptr().addr() - text.as_ptr().addr();
        if body.starts_with('{') {
            self.objects(body, offset, &context, emit)
        } else if matches!(body, "[" | "]" | "],") {
            // A JSON array with its elements on lines of their own.
            Verdict::NoUsage
        } else if let Some(elements) = array_of_objects(body) {
            self.elements(&elements, &context, emit)
        } else if envelope.body.len() < text.trim_start().len() {
            // The end of a stream of events, or what a program says besides.
            Verdict::NoUsage
        } else if let Some(at) = object_behind_text(body) {
            bad(offset + at + 1, BEHIND_TEXT.to_owned(), 0)
        } else {
            bad(1, NO_OBJECT.to_owned(), 0)
        }
    }

    /// The text that a container wrote, which may be anything.
    fn contained(
        &mut self,
        text: &str,
        context: &Context<'_>,
        envelopes: u8,
        emit: &mut dyn FnMut(&Item),
    ) -> Verdict {
        let begin = text.trim_start();
        if begin.starts_with('{') || envelope::open(begin) != envelope::plain(begin) {
            self.text(text, context, envelopes - 1, emit)
        } else {
            Verdict::NoUsage
        }
    }

    /// Reads all objects of a text. `offset` is where the text begins in its line.
    fn objects(
        &mut self,
        text: &str,
        offset: usize,
        context: &Context<'_>,
        emit: &mut dyn FnMut(&Item),
    ) -> Verdict {
        let mut outcome = Outcome::default();
        let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Object>();
        let span = text.as_ptr().addr()..text.as_ptr().addr() + text.len();
        let mut only = scan::only_object(text);
        let has_one = only.is_some();
        loop {
            let next = if has_one {
                only.take().map(Ok)
            } else {
                objects.next()
            };
            match next {
                Some(Ok(object)) => {
                    let found = match self.fragments.docker(&object) {
                        Joined::Whole => places::find(&object, context),
                        Joined::Waiting => {
                            outcome.parts += 1;
                            continue;
                        }
                        Joined::Line(line) => Object::parse(&line)
                            .map_or(Found::Nothing, |object| places::find(&object, context)),
                        Joined::Failed(reason) => {
                            return bad(offset + 1, reason.to_owned(), outcome.items);
                        }
                    };
                    self.take(found, context.clock.now, &mut outcome, emit);
                    if let Some(Fault { reason, address }) = outcome.fault.take() {
                        let column = if span.contains(&address) {
                            offset + address - span.start + 1
                        } else {
                            offset + 1
                        };
                        return bad(column, reason, outcome.items);
                    }
                }
                // A comma after the last object comes from writers of JSON arrays.
                Some(Err(_)) if text[objects.byte_offset()..].trim() == "," => break,
                Some(Err(e)) => {
                    return bad(offset + e.column(), kind_of(&e).to_owned(), outcome.items);
                }
                None => break,
            }
        }
        outcome.verdict()
    }

    /// Reads the elements of an array as if each stood on a line of its own.
    fn elements(
        &mut self,
        elements: &[&RawValue],
        context: &Context<'_>,
        emit: &mut dyn FnMut(&Item),
    ) -> Verdict {
        let mut outcome = Outcome::default();
        for element in elements {
            if let Some(object) = Object::parse(element.get()) {
                let found = places::find(&object, context);
                self.take(found, context.clock.now, &mut outcome, emit);
            }
        }
        match outcome.fault.take() {
            Some(fault) => bad(1, fault.reason, outcome.items),
            None => outcome.verdict(),
        }
    }

    fn take(
        &mut self,
        found: Found,
        now: Time,
        outcome: &mut Outcome,
        emit: &mut dyn FnMut(&Item),
    ) {
        match found {
            Found::Item(item) => {
                outcome.items += 1;
                emit(&item);
            }
            Found::Several(all) => {
                for found in all {
                    self.take(found, now, outcome, emit);
                }
            }
            Found::Stream(event) => {
                let items = &mut outcome.items;
                let known = self.streams.apply(event, now, &mut |item| {
                    *items += 1;
                    emit(item);
                });
                if known {
                    outcome.parts += 1;
                } else {
                    outcome.skipped = Some(Skipped::StreamEvent);
                }
            }
            Found::Skipped(reason) => outcome.skipped = Some(reason),
            Found::Bad(fault) => outcome.fault = outcome.fault.take().or(Some(fault)),
            Found::Nothing => {}
        }
    }
}

/// What the objects of a line came to.
#[derive(Default)]
struct Outcome {
    items: usize,
    parts: u32,
    skipped: Option<Skipped>,
    fault: Option<Fault>,
}

impl Outcome {
    fn verdict(&self) -> Verdict {
        match self.skipped {
            _ if self.items > 0 => Verdict::Items(self.items),
            _ if self.parts > 0 => Verdict::Part,
            Some(reason) => Verdict::Skipped(reason),
            None => Verdict::NoUsage,
        }
    }
}

/// The elements of a JSON array of objects, as `claude -p --output-format json --verbose` writes it.
fn array_of_objects(text: &str) -> Option<Vec<&RawValue>> {
    let inner = text.strip_prefix('[')?;
    if !inner.trim_start().starts_with('{') {
        return None;
    }
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    let all = elements.iter().all(|raw| raw.get().starts_with('{'));
    all.then_some(elements)
}

/// Whether the bytes are one or more whole JSON objects, so that no further byte can change them.
pub fn is_complete(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut objects =
        serde_json::Deserializer::from_str(&text).into_iter::<serde::de::IgnoredAny>();
    text.trim_start().starts_with('{')
        && text.trim_end().ends_with('}')
        && objects.all(|object| object.is_ok())
}

fn bad(column: usize, reason: String, items: usize) -> Verdict {
    Verdict::Bad {
        column,
        reason,
        items,
    }
}

/// Where an object begins that is the rest of a line of text. It is not read: whether the program that wrote it or the text of a
/// prompt made it, nobody can tell.
fn object_behind_text(text: &str) -> Option<usize> {
    const LONGEST: usize = 300;
    let at = text.bytes().take(LONGEST).position(|byte| byte == b'{')?;
    let object: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&text[at..]);
    object.is_ok().then_some(at)
}

/// What is wrong with a line that is an object behind other text.
const BEHIND_TEXT: &str = "text stands before the JSON object";

/// What is wrong with a line that is no JSON object.
const NO_OBJECT: &str = "not a JSON object";
const CUT_OFF: &str = "the JSON object is cut off";
const NO_JSON: &str = "not valid JSON";

/// The kind of a JSON error. The library's own message may quote the text.
fn kind_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => CUT_OFF,
        serde_json::error::Category::Data => NO_OBJECT,
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => NO_JSON,
    }
}

/// What bytes are that are no text, as far as the first of them tell.
fn no_text(line: &[u8]) -> &'static str {
    match line {
        [0x1f, 0x8b, ..] => {
            "packed by gzip; unpack it (zcat), or give its file a name that ends in .gz"
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "packed by zstd; unpack it (zstdcat), or give its file a name that ends in .zst"
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            "UTF-16, which no JSON log is in; turn it into UTF-8 (iconv -f UTF-16 -t UTF-8)"
        }
        _ => "invalid UTF-8",
    }
}

/// Whether what is wrong with a [bad](Verdict::Bad) line is the text before its JSON object.
pub fn is_behind_text(reason: &str) -> bool {
    reason == BEHIND_TEXT
}

/// Whether what is wrong with a [bad](Verdict::Bad) line is that it is no whole JSON object.
pub fn is_no_object(reason: &str) -> bool {
    [NO_OBJECT, CUT_OFF, NO_JSON].contains(&reason)
}
