//! Where a response may stand in a line: the known wrappers of log shippers, and the places the user names.
//!
//! Usage is read at these places only and never searched for elsewhere, so nothing inside a prompt, a tool's input or its
//! result is ever counted. A new wrapper is a word in [`WRAPPERS`]; a new dialect is an arm in [`classify`].

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{Object, embedded_object, text};
use super::time::Clock;
use super::usage::{self, Refused};
use super::{Found, ParseOptions, Skipped, Usage};
use crate::monitor::Stamp;

/// Keys under which a response may be wrapped, in the order of trying.
const WRAPPERS: [&str; 20] = [
    "message",
    "response",
    "body",
    "data",
    "event",
    "result",
    "payload",
    "fields",
    "attributes",
    "msg",
    "log",
    "MESSAGE",
    "@message",
    "detail",
    "response_body",
    "jsonPayload",
    "line",
    "output",
    "outputBodyJson",
    "extra",
];

/// How many objects deep a response may be wrapped.
const MAX_DEPTH: u8 = 2;

/// How many times a string that holds JSON is decoded (a container inside a container).
const MAX_DECODES: u8 = 2;

/// An object on the way from the line to the response, and the one around it.
struct Frame<'s> {
    object: &'s Object<'s>,
    outer: Option<&'s Frame<'s>>,
}

/// Looks for a response in the object that a line holds.
pub(super) fn find(line: &Object, options: &ParseOptions, clock: Clock) -> Found<'static> {
    let frame = Frame {
        object: line,
        outer: None,
    };
    if let Some(pointer) = &options.usage_field {
        let Some(json) = pointer.find(line) else {
            return Found::Nothing;
        };
        let json = serde_json::from_str::<String>(&json).unwrap_or(json);
        let Some(usage) = Object::parse(&json) else {
            return Found::Nothing;
        };
        return frame.respond(&usage, options, clock);
    }
    frame.search(options, clock, MAX_DEPTH, MAX_DECODES)
}

impl<'s> Frame<'s> {
    fn search(
        &self,
        options: &ParseOptions,
        clock: Clock,
        depth: u8,
        decodes: u8,
    ) -> Found<'static> {
        match classify(self.object) {
            Kind::Skip(reason) => return Found::Skipped(reason),
            Kind::Boundary => {
                return Found::CompactBoundary {
                    session: owned(self.find_text(&SESSION_KEYS)),
                    agent: owned(self.find_text(&AGENT_KEYS)),
                };
            }
            Kind::Open => {}
        }
        if let Some(found) = self.own_usage(options, clock) {
            return found;
        }
        let mut other = Found::Nothing;
        for key in WRAPPERS {
            let Some(value) = self.object.get(key) else {
                continue;
            };
            let found = if value.get().starts_with('{') && depth > 0 {
                Object::parse(value.get()).map(|inner| {
                    self.inside(&inner)
                        .search(options, clock, depth - 1, decodes)
                })
            } else if decodes > 0 {
                embedded_object(value).and_then(|json| {
                    let inner = Object::parse(&json)?;
                    Some(
                        self.inside(&inner)
                            .search(options, clock, depth, decodes - 1),
                    )
                })
            } else {
                None
            };
            match found {
                None | Some(Found::Nothing) => {}
                Some(Found::Skipped(reason)) => other = Found::Skipped(reason),
                Some(found) => return found,
            }
        }
        other
    }

    fn inside<'t>(&'t self, inner: &'t Object<'t>) -> Frame<'t>
    where
        's: 't,
    {
        Frame {
            object: inner,
            outer: Some(self),
        }
    }

    /// The response if this very object carries its usage, as an object or as a string that holds one.
    fn own_usage(&self, options: &ParseOptions, clock: Clock) -> Option<Found<'static>> {
        let raw = self.object.get("usage")?;
        let found = match Object::parse(raw.get()) {
            Some(usage) => self.respond(&usage, options, clock),
            None => self.respond(&Object::parse(&embedded_object(raw)?)?, options, clock),
        };
        (!matches!(found, Found::Nothing)).then_some(found)
    }

    fn respond(&self, usage: &Object, options: &ParseOptions, clock: Clock) -> Found<'static> {
        let model = if let Some(pointer) = &options.model_field {
            self.point(pointer)
        } else {
            let model = self
                .find_text(&["model"])
                .or_else(|| self.requested_model());
            model.map(Cow::into_owned)
        };
        if model.as_deref() == Some("<synthetic>") {
            return Found::Skipped(Skipped::Synthetic);
        }
        let counts = match usage::read(usage, model.as_deref()) {
            Ok(counts) => counts,
            Err(Refused::OtherDialect) => return Found::Skipped(Skipped::OtherDialect),
            Err(Refused::Number(reason)) => return Found::Bad(reason),
        };
        let (stamp, started) = self.time(options, clock);
        let stop_reason = self.object.get("stop_reason").and_then(text);
        let mut terms = counts.terms;
        terms.batch |= self.is_batch_result();
        Found::Usage(Box::new(Usage {
            id: match &options.id_field {
                Some(pointer) => self.point(pointer).map(Cow::Owned),
                None => owned(self.find_text(&["id"])),
            },
            id_is_named: options.id_field.is_some(),
            request_id: owned(self.find_text(&["requestId", "request_id"])),
            session: match &options.session_field {
                Some(pointer) => self.point(pointer).map(Cow::Owned),
                None => owned(self.find_text(&SESSION_KEYS)),
            },
            agent: owned(self.find_text(&AGENT_KEYS)),
            project: owned(self.find_text(&["project", "cwd"])),
            sidechain: self
                .outermost()
                .get("isSidechain")
                .is_some_and(|raw| raw.get() == "true"),
            model: model.map(Cow::Owned),
            stamp,
            started,
            tokens: counts.tokens,
            extra: counts.extra,
            terms,
            priority: counts.priority,
            declined_hops: counts.declined_hops,
            miss_reason: self.miss_reason(),
            output_understated: self.is_unfinished(),
            not_billed: stop_reason.as_deref() == Some("refusal")
                && self
                    .object
                    .get("content")
                    .is_some_and(|raw| raw.get() == "[]"),
        }))
    }

    /// This frame and those around it, innermost first.
    fn outward(&self) -> impl Iterator<Item = &Object<'s>> {
        std::iter::successors(Some(self), |frame| frame.outer).map(|frame| frame.object)
    }

    fn outermost(&self) -> &Object<'s> {
        self.outward().last().unwrap_or(self.object)
    }

    /// The first of `keys` that holds text, in the innermost object that has one. Numbers are taken as text.
    fn find_text(&self, keys: &[&str]) -> Option<Cow<'_, str>> {
        self.outward().find_map(|object| {
            keys.iter().find_map(|key| {
                let raw = object.get(key)?;
                let number = raw.get().bytes().all(|b| b.is_ascii_digit());
                text(raw).or_else(|| number.then(|| Cow::Borrowed(raw.get())))
            })
        })
    }

    /// Some wrappers name the model only in the request beside the response.
    fn requested_model(&self) -> Option<Cow<'_, str>> {
        self.outward()
            .find_map(|object| object.object("request")?.text("model"))
    }

    /// The text or number at a place the user named, seen from the line.
    fn point(&self, pointer: &super::Pointer) -> Option<String> {
        let json = pointer.find(self.outermost())?;
        let raw: &RawValue = serde_json::from_str(&json).ok()?;
        text(raw).map(Cow::into_owned).or_else(|| {
            let scalar = !json.starts_with(['"', '{', '[']);
            scalar.then(|| json.clone())
        })
    }

    /// The response's end and, if the line tells, the start of its request.
    fn time(&self, options: &ParseOptions, clock: Clock) -> (Stamp, Option<crate::monitor::Time>) {
        if let Some(pointer) = &options.time_field {
            let stamp = pointer.find(self.outermost()).and_then(|json| {
                let raw: &RawValue = serde_json::from_str(&json).ok()?;
                clock.read(raw)
            });
            return (stamp.unwrap_or(Stamp::Undated), None);
        }
        let mut stamp = Stamp::Undated;
        let mut started = None;
        for object in self.outward() {
            if started.is_none() {
                started = START_KEYS
                    .iter()
                    .find_map(|key| match clock.read(object.get(key)?)? {
                        Stamp::At(time) => Some(time),
                        _ => None,
                    });
            }
            match best_time(object, clock) {
                Some(at @ Stamp::At(_)) => {
                    stamp = at;
                    break;
                }
                Some(impossible) => stamp = impossible,
                None => {}
            }
        }
        (stamp, started)
    }

    /// The API's own word on a cache miss.
    fn miss_reason(&self) -> Option<(String, Option<u64>)> {
        let reason = self
            .outward()
            .find_map(|object| object.object("diagnostics"))?
            .object("cache_miss_reason")?;
        let kind = reason.text("type")?.into_owned();
        let missed = reason
            .get("cache_missed_input_tokens")
            .and_then(|raw| raw.get().parse().ok());
        Some((kind, missed))
    }

    /// A message that says `stop_reason: null` was written before its stream ended.
    fn is_unfinished(&self) -> bool {
        self.object
            .entries()
            .any(|(key, raw)| key == "stop_reason" && raw.get() == "null")
    }

    /// `custom_id` beside `result.type` is the shape of batch results, which need not say so in their usage.
    fn is_batch_result(&self) -> bool {
        self.outward().any(|object| {
            object.get("custom_id").is_some()
                && object
                    .object("result")
                    .is_some_and(|result| result.get("type").is_some())
        })
    }
}

const SESSION_KEYS: [&str; 4] = ["sessionId", "session_id", "session", "conversation_id"];
const AGENT_KEYS: [&str; 3] = ["agentId", "agent_id", "agent"];
const START_KEYS: [&str; 3] = ["startTime", "start_time", "started_at"];

/// Keys that hold a time, best first. Ends are preferred to starts.
const TIME_KEYS: [&str; 18] = [
    "timestamp",
    "ts",
    "time",
    "@timestamp",
    "created_at",
    "createdAt",
    "created",
    "logged_at",
    "endTime",
    "startTime",
    "end_time",
    "start_time",
    "asctime",
    "event.timestamp",
    "timeUnixNano",
    "__REALTIME_TIMESTAMP",
    "response_created_at",
    "request_created_at",
];

fn best_time(object: &Object, clock: Clock) -> Option<Stamp> {
    let mut impossible = None;
    for key in TIME_KEYS {
        match object.get(key).and_then(|raw| clock.read(raw)) {
            Some(at @ Stamp::At(_)) => return Some(at),
            Some(other) => impossible = Some(other),
            None => {}
        }
    }
    impossible
}

/// What an object is, by its own words, before any usage in it is looked at.
enum Kind {
    /// It may hold a response.
    Open,
    /// A Claude Code session was compacted here.
    Boundary,
    /// It repeats or reports what is counted elsewhere, or is not read.
    Skip(Skipped),
}

fn classify(object: &Object) -> Kind {
    let flagged = |key| {
        object
            .get(key)
            .is_some_and(|raw: &RawValue| raw.get() == "true")
    };
    match object.text("type").as_deref() {
        // Copies of the lines of a sub-agent's own file.
        Some("progress") => Kind::Skip(Skipped::Progress),
        Some("error") if object.get("error").is_some() => Kind::Skip(Skipped::ApiError),
        Some(
            "message_start"
            | "message_delta"
            | "message_stop"
            | "content_block_start"
            | "content_block_delta"
            | "content_block_stop"
            | "stream_event"
            | "ping",
        ) => Kind::Skip(Skipped::StreamEvent),
        // The closing line of a `claude -p` run repeats the usage of its lines.
        Some("result")
            if object.get("num_turns").is_some() || object.get("modelUsage").is_some() =>
        {
            Kind::Skip(Skipped::RunResult)
        }
        Some("system") if object.text("subtype").as_deref() == Some("compact_boundary") => {
            Kind::Boundary
        }
        _ if flagged("isApiErrorMessage") => Kind::Skip(Skipped::ApiError),
        _ => Kind::Open,
    }
}

fn owned(text: Option<Cow<'_, str>>) -> Option<Cow<'static, str>> {
    text.map(|text| Cow::Owned(text.into_owned()))
}
