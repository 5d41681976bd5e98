//! One line of bytes → usage records. The only place that knows wire formats.
//!
//! Does no I/O and reads no clock. Prompt text is skipped over and never copied.

mod envelope;
mod json;
mod otel;
mod places;
mod result;
mod stream;
mod time;
mod usage;

pub use json::Pointer;
pub use time::{Clock, Zone};
pub use usage::InputCount;

use serde_json::value::RawValue;

use crate::monitor::{Stamp, Time, Tokens};
use crate::price::{RecordedCost, Terms};

use envelope::{Fragments, Joined};
use json::Object;
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
    /// Where the name of the group stands that a report adds up by.
    pub group_field: Option<Pointer>,
    /// The zone of times that name none.
    pub zone: Zone,
    /// Whether the input counts of OpenTelemetry attributes hold the cache counts.
    pub otel_input: InputCount,
}

/// One response as its line tells it, before prices and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Response id.
    pub id: Option<String>,
    /// The user named the place of the id, so it is one whatever it looks like.
    pub id_is_named: bool,
    /// Request id, which some logs carry instead.
    pub request_id: Option<String>,
    /// Whose it is.
    pub names: Names,
    /// The line belongs to a side conversation of its session.
    pub sidechain: bool,
    /// Model name as written.
    pub model: Option<String>,
    /// When the response happened.
    pub stamp: Stamp,
    /// When its request was sent.
    pub started: Option<Time>,
    /// Token counts.
    pub tokens: Tokens,
    /// Usage billed beside it; without a model name at the response's own model.
    pub extra: Vec<(Option<String>, Tokens)>,
    /// Terms that change the price.
    pub terms: Terms,
    /// Priority tier.
    pub priority: bool,
    /// Declined hops of a fallback.
    pub declined_hops: u32,
    /// The API's reason for a cache miss, and the tokens it says were missed.
    pub miss_reason: Option<(String, Option<u64>)>,
    /// The output count is a placeholder.
    pub output_understated: bool,
    /// A refusal without content, which is not billed.
    pub not_billed: bool,
    /// Cache writes whose time to live is not told; counted as five minutes.
    pub assumed_5m: bool,
    /// An input count that should hold the cache counts cannot, so it was taken as without them.
    pub taken_exclusive: bool,
    /// What the writer of the log says that it cost.
    pub recorded_cost: Option<RecordedCost>,
}

/// The names that a line gives to whom a response belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Session or conversation id.
    pub session: Option<String>,
    /// Sub-agent id.
    pub agent: Option<String>,
    /// Project label or working directory.
    pub project: Option<String>,
    /// What stands where the user groups by.
    pub group: Option<String>,
}

/// An error answer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Id of the line or request, so that copies count once.
    pub id: Option<String>,
    /// Whose it is.
    pub names: Names,
    /// The model that was asked, if the line says so.
    pub model: Option<String>,
    /// When it happened.
    pub stamp: Stamp,
    /// Part of a batch.
    pub batch: bool,
}

/// What a whole run used, as its closing line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Session id.
    pub session: Option<String>,
    /// Project label or working directory.
    pub project: Option<String>,
    /// Id of the line.
    pub id: Option<String>,
    /// By model.
    pub models: Vec<RunModel>,
    /// Cache writes of five minutes and of one hour in a part of the run: the ratio for the whole.
    pub writes: (u64, u64),
}

/// One model of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunModel {
    /// Its name; `None` if the line names no model.
    pub name: Option<String>,
    /// What it used; all cache writes stand as those of five minutes.
    pub tokens: Tokens,
    /// What the line says that it cost.
    pub recorded_cost: Option<RecordedCost>,
}

/// Something in a line that the monitor wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A response.
    Usage(Box<Usage>),
    /// A Claude Code session was compacted: its next prompt starts anew.
    CompactBoundary {
        /// The session.
        session: Option<String>,
        /// The sub-agent in it.
        agent: Option<String>,
    },
    /// An error answer.
    Error(Box<ApiError>),
    /// The sum of a run.
    Run(Box<Run>),
}

/// Why an object that looks like a response, or reports one, is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skipped {
    /// A progress line of Claude Code, which copies usage from a sub-agent's file.
    Progress,
    /// An event of a stream whose beginning was not seen.
    StreamEvent,
    /// A message that Claude Code made up itself.
    Synthetic,
    /// A batch request that was cancelled or expired.
    BatchWithoutAnswer,
    /// A full copy of a response that another event of the same exporter counts.
    Copy,
    /// Usage in a dialect that this version does not read.
    OtherDialect,
}

impl Skipped {
    /// The words for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Progress => "progress lines (their usage is counted in the sub-agent's own file)",
            Self::StreamEvent => "events of streams whose beginning is not in the log",
            Self::Synthetic => "synthetic messages without usage",
            Self::BatchWithoutAnswer => "batch requests that were cancelled or expired",
            Self::Copy => "copies of what another event of the same exporter counts",
            Self::OtherDialect => "usage objects in a dialect that this version does not read",
        }
    }
}

/// What came of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but white space.
    Blank,
    /// It held responses (how many) or other items.
    Items(u32),
    /// A part of something: an event of a stream, a piece of a line that was split.
    Part,
    /// Valid JSON without a response.
    NoUsage,
    /// A response or a report of one that is not counted.
    Skipped(Skipped),
    /// It could not be read, whole or in part.
    Bad {
        /// Column of the fault in bytes, from 1.
        column: usize,
        /// What is wrong, without any text of the line.
        reason: String,
        /// Responses that were read before the fault.
        items: u32,
    },
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

/// Reads the lines of one file or pipe, in order: some responses take several lines.
#[derive(Debug, Default)]
pub struct Reader {
    fragments: Fragments,
    streams: Streams,
}

/// Reads one line that stands for itself, without its line feed, and hands over what is in it.
pub fn parse_line(
    line: &[u8],
    options: &ParseOptions,
    clock: Clock,
    mut emit: impl FnMut(Item),
) -> Verdict {
    let mut reader = Reader::default();
    let verdict = reader.line(line, options, clock, &mut emit);
    reader.finish(&mut emit);
    verdict
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
        clock: Clock,
        emit: &mut dyn FnMut(Item),
    ) -> Verdict {
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(e) => return bad(e.valid_up_to() + 1, "invalid UTF-8".to_owned(), 0),
        };
        let context = Context {
            options,
            clock,
            transport: None,
        };
        self.text(text, &context, MAX_ENVELOPES, emit)
    }

    /// The file has ended: streams that were cut are handed over. Gives how many split lines have no end.
    pub fn finish(&mut self, emit: &mut dyn FnMut(Item)) -> usize {
        self.streams.finish(emit);
        self.fragments.clear()
    }

    /// Hands over the streams that were not heard of for long.
    pub fn expire(&mut self, now: Time, emit: &mut dyn FnMut(Item)) {
        self.streams.expire(now, emit);
    }

    fn text(
        &mut self,
        text: &str,
        context: &Context<'_>,
        envelopes: u8,
        emit: &mut dyn FnMut(Item),
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
        } else {
            bad(1, "not a JSON object".to_owned(), 0)
        }
    }

    /// The text that a container wrote, which may be anything.
    fn contained(
        &mut self,
        text: &str,
        context: &Context<'_>,
        envelopes: u8,
        emit: &mut dyn FnMut(Item),
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
        emit: &mut dyn FnMut(Item),
    ) -> Verdict {
        let mut outcome = Outcome::default();
        let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Object>();
        let span = text.as_ptr().addr()..text.as_ptr().addr() + text.len();
        loop {
            match objects.next() {
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
        emit: &mut dyn FnMut(Item),
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

    fn take(&mut self, found: Found, now: Time, outcome: &mut Outcome, emit: &mut dyn FnMut(Item)) {
        match found {
            Found::Item(item) => {
                outcome.items += 1;
                emit(item);
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
    items: u32,
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
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    text.trim_start().starts_with('{')
        && text.trim_end().ends_with('}')
        && objects.all(|object| object.is_ok())
}

fn bad(column: usize, reason: String, items: u32) -> Verdict {
    Verdict::Bad {
        column,
        reason,
        items,
    }
}

/// The kind of a JSON error. The library's own message may quote the text.
fn kind_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "the JSON object is cut off",
        serde_json::error::Category::Data => "not a JSON object",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "not valid JSON",
    }
}
