//! Where a response may stand in a line: the known wrappers of log shippers, and the places the user names.
//!
//! Usage is read at these places only and never searched for elsewhere, so nothing inside a prompt, a tool's input or its
//! result is ever counted. A new wrapper is a word in [`WRAPPERS`]; a new dialect is an arm in [`usage::read`].

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use super::failure::kind_of;
use super::json::{Key, Object, Raw, embedded_object, keys, text};
use super::notes::{Notes, Role};
use super::stream::{Event, Kind as EventKind, Progress};
use super::time::Clock;
use super::usage::{self, Counts, Delta, Named, Refused};
use super::{ApiError, Fault, Found, Item, Names, ParseOptions, Skipped, Usage};
use super::{otel, result};
use crate::monitor::Stamp;

/// Keys under which a response may be wrapped, in the order of trying.
const WRAPPERS: [Key; 24] = keys([
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
    "outputBodyJson",
    "extra",
    "record",
    "context",
    "meta",
    "kwargs",
    "raw",
]);

/// The model of answers that Claude Code made up itself.
pub(super) const SYNTHETIC: &str = "<synthetic>";

/// Why a response stopped that may have no content, and is not billed then.
pub(super) const REFUSAL: &str = "refusal";

/// How many objects deep a response may be wrapped.
const MAX_DEPTH: u8 = 2;

/// How many times a string that holds JSON is decoded (a container inside a container).
const MAX_DECODES: u8 = 2;

/// What the reader of a line has to know besides the line.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) options: &'a ParseOptions,
    pub(super) clock: Clock<'a>,
    /// The time that a log shipper wrote before the line.
    pub(super) transport: Option<&'a str>,
    /// Somebody wants to know what is taken from where.
    pub(super) notes: Option<&'a Notes>,
}

/// An object on the way from the line to the response, and the one around it.
pub(super) struct Frame<'s> {
    pub(super) object: &'s Object<'s>,
    pub(super) outer: Option<&'s Frame<'s>>,
}

/// Looks for a response in the object that a line holds.
pub(super) fn find(line: &Object, context: &Context<'_>) -> Found {
    let frame = Frame {
        object: line,
        outer: None,
    };
    if let Some(pointer) = &context.options.usage_field {
        let Some(json) = pointer.find(line) else {
            return Found::Nothing;
        };
        let json = serde_json::from_str::<String>(&json).unwrap_or(json);
        let Some(usage) = Object::parse(&json) else {
            return Found::Nothing;
        };
        return frame.respond(&usage, context);
    }
    frame.search(context, MAX_DEPTH, MAX_DECODES)
}

impl From<Refused> for Found {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OtherDialect => Self::Skipped(Skipped::OtherDialect),
            Refused::NoUsage => Self::Nothing,
            Refused::Number { reason, address } => Self::Bad(Fault { reason, address }),
        }
    }
}

impl<'s> Frame<'s> {
    fn search(&self, context: &Context<'_>, depth: u8, decodes: u8) -> Found {
        if let Some(found) = self.by_its_own_words(context) {
            return found;
        }
        if let Some(found) = self.of_framework(context) {
            return found;
        }
        if let Some(found) = self.own_usage(context) {
            return found;
        }
        if otel::may_be(self.object)
            && let Some(found) = otel::read(self, context)
        {
            return found;
        }
        let mut other = Found::Nothing;
        for (key, value) in self.object.values(&WRAPPERS) {
            // Loguru puts all into one more object.
            let depth = depth + u8::from(key == "record" && self.outer.is_none());
            let found = if value.bytes().starts_with(b"{") && depth > 0 {
                let inner = self.object.object(key);
                inner.map(|inner| self.inside(&inner).search(context, depth - 1, decodes))
            } else if decodes > 0 && (key == "MESSAGE" || !value.bytes().starts_with(b"[")) {
                embedded_object(value).and_then(|json| {
                    let inner = Object::parse(&json)?;
                    Some(self.inside(&inner).search(context, depth, decodes - 1))
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
        match self.counts_beside_fields() {
            Some(Ok(counts)) => self.response(counts, context),
            Some(Err(refused)) => refused.into(),
            None => other,
        }
    }

    pub(super) fn inside<'t>(&'t self, inner: &'t Object<'t>) -> Frame<'t>
    where
        's: 't,
    {
        Frame {
            object: inner,
            outer: Some(self),
        }
    }

    /// What the object is if it says so itself. `None` means that it may hold a response.
    fn by_its_own_words(&self, context: &Context<'_>) -> Option<Found> {
        let object = self.object;
        let kind = object.text("type");
        match kind.as_deref() {
            // Copies of the lines of a sub-agent's own file.
            Some("progress") => return Some(Found::Skipped(Skipped::Progress)),
            // Prompts.
            Some("user") if object.get("message").or(object.get("content")).is_some() => {
                return Some(Found::Nothing);
            }
            Some("tool_use" | "tool_result") => return Some(Found::Nothing),

            Some("error") if object.get("error").is_some() => {
                return Some(self.error(None, context));
            }
            Some(
                event @ ("message_start"
                | "message_delta"
                | "message_stop"
                | "content_block_start"
                | "content_block_delta"
                | "content_block_stop"
                | "ping"),
            ) => return Some(self.event(event, context)),
            Some("system") => match object.text("subtype").as_deref() {
                Some("compact_boundary") => {
                    return Some(Found::Item(Item::CompactBoundary {
                        session: self.find_text(&SESSION_KEYS).map(Cow::into_owned),
                        agent: self.find_text(&AGENT_KEYS).map(Cow::into_owned),
                        id: object.text("uuid").map(Cow::into_owned),
                        // Where it is no transcript, the closing line of the run holds that.
                        is_unlogged: object.get("sessionId").is_some(),
                    }));
                }
                Some("api_error") => return Some(self.error(None, context)),
                _ => {}
            },
            _ if result::is_result(object, kind.as_deref()) => return Some(self.run(context)),
            _ => {}
        }
        let flagged = |key| object.get(key).is_some_and(|raw| raw.is("true"));
        if flagged("isApiErrorMessage") {
            return Some(self.error(None, context));
        }
        let role = object.text("role");
        if matches!(
            role.as_deref(),
            Some("user" | "system" | "developer" | "tool")
        ) && object.get("content").is_some()
        {
            return Some(Found::Nothing);
        }
        if otel::is_export(object) {
            return Some(otel::export(self, context));
        }
        self.batch_without_message(context)
            .or_else(|| self.invocation(context))
            .or_else(|| self.failed_call(context))
    }

    /// A batch request that came to nothing.
    fn batch_without_message(&self, context: &Context<'_>) -> Option<Found> {
        self.object.get("custom_id")?;
        match &*self.object.object("result")?.text("type")? {
            "succeeded" => None,
            "errored" => Some(self.error(Some("custom_id"), context)),
            _ => Some(Found::Skipped(Skipped::BatchWithoutAnswer)),
        }
    }

    /// A record of Bedrock's log of model invocations.
    fn invocation(&self, context: &Context<'_>) -> Option<Found> {
        let object = self.object;
        object.get("modelId")?;
        let is_log = object.text("schemaType").as_deref() == Some("ModelInvocationLog");
        if !is_log && (object.get("input").is_none() || object.get("output").is_none()) {
            return None;
        }
        if object.get("errorCode").is_some() {
            return Some(self.error(None, context));
        }
        Some(match usage::invocation(object) {
            Ok(None) if is_log => Found::Nothing,
            Ok(None) => return None,
            Ok(Some(invocation)) => {
                let mut usage = self.usage(invocation.counts, self.model(context), context);

                usage.id = invocation.id.or(usage.id);
                Found::Item(Item::Usage(Box::new(usage)))
            }
            Err(refused) => refused.into(),
        })
    }

    /// A call that a proxy logged as failed.
    fn failed_call(&self, context: &Context<'_>) -> Option<Found> {
        self.object.get("call_type")?;
        let failed = self.object.text("status").as_deref() == Some("failure");
        failed.then(|| self.error(None, context))
    }

    /// The response if this very object carries its usage, as an object or as a string that holds one.
    fn own_usage(&self, context: &Context<'_>) -> Option<Found> {
        self.object.values(&USAGE_KEYS).find_map(|(key, raw)| {
            let found = match self.object.object(key) {
                Some(usage) => self.respond(&usage, context),
                None if raw.bytes().starts_with(b"[") => return None,
                None => self.respond(&Object::parse(&embedded_object(raw)?)?, context),
            };
            (!matches!(found, Found::Nothing)).then_some(found)
        })
    }

    /// Counts that stand in this very object: the end of a Converse stream, or a proxy's record with its counts beside its other
    /// fields.
    fn counts_beside_fields(&self) -> Option<Result<Counts, Refused>> {
        if let Some(found) = usage::converse_stream(self.object) {
            return Some(found);
        }
        if let Some(found) = usage::flat(self.object).transpose() {
            return Some(found);
        }
        let plain = self.object.get("input_tokens").is_some()
            && self.object.get("output_tokens").is_some()
            && self.object.text("model").is_some();
        plain.then(|| usage::read(self.object, None))
    }

    pub(super) fn respond(&self, usage: &Object, context: &Context<'_>) -> Found {
        if let Some(notes) = context.notes {
            notes.begin();
        }
        let model = self.model(context);
        if model.as_deref() == Some(SYNTHETIC) {
            return Found::Skipped(Skipped::Synthetic);
        }
        match usage::read(usage, model.as_deref()) {
            Ok(counts) => {
                let steps = usage::idle_steps(usage, &counts);
                let found = self.usage(counts, model, context);
                if let Some(notes) = context.notes
                    && let Ok(steps) = steps
                    && let Some(places) = Named::places(usage)
                {
                    for (count, raw) in places {
                        notes.take(Role::Count(count), raw);
                    }
                    if let Some(steps) = steps {
                        notes.take(Role::Steps, steps);
                    }
                    notes.end();
                }
                Found::Item(Item::Usage(Box::new(found)))
            }
            Err(refused) => refused.into(),
        }
    }

    /// A response with counts that were read, and the names and times around it.
    pub(super) fn response(&self, counts: Counts, context: &Context<'_>) -> Found {
        let model = self.model(context);
        Found::Item(Item::Usage(Box::new(self.usage(counts, model, context))))
    }

    pub(super) fn usage(
        &self,
        counts: Counts,
        model: Option<String>,
        context: &Context<'_>,
    ) -> Usage {
        let Context { options, .. } = context;
        let (stamp, started) = self.time(context);
        let stop_reason = self.object.get("stop_reason");
        if let (Some(notes), Some(raw)) = (context.notes, stop_reason) {
            notes.take(Role::StopReason, raw);
        }
        let stop_reason = stop_reason.and_then(text);
        let mut terms = counts.terms;
        terms.batch |= self.is_batch_result();
        Usage {
            id: match &options.id_field {
                Some(pointer) => self.point(pointer),
                None => self.take_text(Role::Id, &ID_KEYS, context),
            },
            id_is_named: options.id_field.is_some(),
            request_id: self.take_text(Role::Request, &REQUEST_KEYS, context),
            names: self.names(context),
            sidechain: self
                .outermost()
                .get("isSidechain")
                .is_some_and(|raw| raw.is("true")),
            model,
            stamp,
            started,

            tokens: counts.tokens,
            extra: counts.extra,
            terms,
            priority: counts.priority,
            declined_hops: counts.declined_hops,
            miss_reason: self.miss_reason(),
            output_understated: self.is_unfinished(),
            not_billed: stop_reason.as_deref() == Some(REFUSAL)
                && self.object.get("content").is_some_and(|raw| raw.is("[]")),
            assumed_5m: counts.assumed_5m,
            taken_exclusive: counts.taken_exclusive,
            prompts: counts.prompts,
            recorded_cost: counts.recorded_cost.or_else(|| self.cost_beside_usage()),
        }
    }

    /// An error answer. `id_key` names its id where it is not that of the request or the line.
    pub(super) fn error(&self, id_key: Option<&str>, context: &Context<'_>) -> Found {
        let (stamp, _) = self.time(context);
        let id = id_key.map_or_else(
            || self.find_text(&ERROR_ID_KEYS),
            |key| self.outward().find_map(|object| name(object.get(key)?)),
        );
        Found::Item(Item::Error(Box::new(ApiError {
            id: id.map(Cow::into_owned),
            names: self.names(context),
            model: self.model(context).filter(|name| name != SYNTHETIC),
            stamp,
            kind: kind_of(self.object),
            batch: id_key.is_some(),
        })))
    }

    /// The closing line of a run.
    fn run(&self, context: &Context<'_>) -> Found {
        match result::read(self.object) {
            Ok(mut run) => {
                let names = self.names(context);
                (run.session, run.project) = (names.session, names.project);
                Found::Item(Item::Run(Box::new(run)))
            }
            Err(reason) => Found::Bad(Fault { reason, address: 0 }),
        }
    }

    /// An event of a streamed response.
    fn event(&self, name: &str, context: &Context<'_>) -> Found {
        let kind = match name {
            "message_start" => {
                let Some(message) = self.object.object("message") else {
                    return Found::Nothing;
                };
                let Some(usage) = message.object("usage") else {
                    return Found::Nothing;
                };
                // Of pi-coding-agent's events only the later ones name the response.
                if usage.get("input").is_some() {
                    return Found::Nothing;
                }
                match self.inside(&message).respond(&usage, context) {
                    Found::Item(Item::Usage(usage)) => EventKind::Start(usage),
                    other => return other,
                }
            }
            "message_delta" => match self.delta(context) {
                Ok(progress) => EventKind::Delta(Box::new(progress)),
                Err(refused) => return refused.into(),
            },
            "content_block_start" => self.block(),
            "message_stop" => EventKind::Stop,
            _ => EventKind::Nothing,
        };
        Found::Stream(Event {
            key: self.stream_key(context.options),
            kind,
        })
    }

    fn delta(&self, context: &Context<'_>) -> Result<Progress, Refused> {
        let usage = self.object.object("usage");
        let stop_reason = self
            .object
            .object("delta")
            .and_then(|delta| delta.text("stop_reason").map(Cow::into_owned));
        Ok(Progress {
            usage: usage.as_ref().map(Delta::read).transpose()?,
            stop_reason,
            stamp: self.time(context).0,
        })
    }

    /// A block of content: a model that takes over, or just content.
    fn block(&self) -> EventKind {
        let block = self.object.object("content_block");
        let fallback = block
            .filter(|block| block.text("type").as_deref() == Some("fallback"))
            .and_then(|block| block.object("to")?.text("model").map(Cow::into_owned));
        fallback.map_or(EventKind::Content, EventKind::Fallback)
    }

    /// What tells a stream from others in the same file: the id that the user names, or those that stand around the event.
    fn stream_key(&self, options: &ParseOptions) -> Option<u64> {
        let mut hasher = rustc_hash::FxHasher::default();
        if let Some(pointer) = &options.id_field {
            self.point(pointer)?.hash(&mut hasher);
            return Some(hasher.finish());
        }
        let around = [
            self.find_text(&REQUEST_KEYS),
            self.find_text(&SESSION_KEYS),
            self.find_text(&STREAM_KEYS),
        ];
        around.iter().any(Option::is_some).then(|| {
            around.hash(&mut hasher);
            hasher.finish()
        })
    }

    fn names(&self, context: &Context<'_>) -> Names {
        let Context { options, .. } = context;
        Names {
            session: match &options.session_field {
                Some(pointer) => self.point(pointer),
                None => self.take_text(Role::Session, &SESSION_KEYS, context),
            },
            agent: self.take_text(Role::Agent, &AGENT_KEYS, context),
            project: self.take_text(Role::Project, &PROJECT_KEYS, context),
            places: options
                .label_fields
                .iter()
                .map(|pointer| self.point(pointer))
                .collect(),
        }
    }

    pub(super) fn model(&self, context: &Context<'_>) -> Option<String> {
        match &context.options.model_field {
            Some(pointer) => self.point(pointer),
            None => self
                .take_text(Role::Model, &MODEL_KEYS, context)
                .or_else(|| self.requested_model().map(Cow::into_owned)),
        }
    }

    /// This frame and those around it, innermost first.
    fn outward(&self) -> impl Iterator<Item = &Object<'s>> {
        std::iter::successors(Some(self), |frame| frame.outer).map(|frame| frame.object)
    }

    fn outermost(&self) -> &Object<'s> {
        self.outward().last().unwrap_or(self.object)
    }

    /// The first of `keys` that holds text, in the innermost object that has one, with its value. Numbers are taken as text.
    fn find_value(&self, keys: &[Key]) -> Option<(Cow<'s, str>, Raw<'s>)> {
        self.outward().find_map(|object| {
            let mut values = object.values(keys);
            values.find_map(|(_, raw)| Some((name(raw)?, raw)))
        })
    }

    fn find_text(&self, keys: &[Key]) -> Option<Cow<'s, str>> {
        self.find_value(keys).map(|(text, _)| text)
    }

    /// The same, taken for something.
    fn take_text(&self, role: Role, keys: &[Key], context: &Context<'_>) -> Option<String> {
        let (text, raw) = self.find_value(keys)?;
        if let Some(notes) = context.notes {
            notes.take(role, raw);
        }
        Some(text.into_owned())
    }

    /// Some wrappers name the model only in the request beside the response, or where that was sent.
    fn requested_model(&self) -> Option<Cow<'_, str>> {
        let requested = |object: &Object<'s>| object.object("request")?.text("model");
        let sent_to = |object: &Object<'s>| object.object("model")?.text("modelId");
        self.outward()
            .find_map(|object| requested(object).or_else(|| sent_to(object)))
    }

    /// The text or number at a place the user named, seen from the line.
    fn point(&self, pointer: &super::Pointer) -> Option<String> {
        let json = pointer.find(self.outermost())?;
        let raw = Raw::parse(&json)?;
        text(raw).map(Cow::into_owned).or_else(|| {
            let scalar = !json.starts_with(['"', '{', '[']);
            scalar.then(|| json.clone())
        })
    }

    /// The response's end and, if the line tells, the start of its request.
    fn time(&self, context: &Context<'_>) -> (Stamp, Option<crate::monitor::Time>) {
        let Context { options, clock, .. } = context;
        if let Some(pointer) = &options.time_field {
            let stamp = pointer.find(self.outermost()).and_then(|json| {
                let raw = Raw::parse(&json)?;
                clock.read(raw)
            });
            return (stamp.unwrap_or(Stamp::Undated), None);
        }
        // Langfuse writes UTC without saying so.
        let observed =
            self.object.get("usageDetails").is_some() || self.object.get("usage_details").is_some();
        if let Some(notes) = context.notes.filter(|_| observed) {
            notes.give_up();
        }
        let clock = if observed { clock.in_utc() } else { *clock };
        let mut stamp = Stamp::Undated;
        let mut started = None;
        for object in self.outward() {
            if started.is_none() {
                started =
                    object
                        .values(&START_KEYS)
                        .find_map(|(_, raw)| match clock.read(raw)? {
                            Stamp::At(time) => Some(time),
                            _ => None,
                        });
            }
            match best_time(object, clock) {
                Some((at @ Stamp::At(_), raw)) => {
                    if let Some(notes) = context.notes {
                        notes.take(Role::Time, raw);
                    }
                    return (at, started);
                }
                Some((impossible, _)) => stamp = impossible,
                None => {}
            }
        }
        let transport = context.transport.and_then(|text| clock.read_text(text));
        (transport.unwrap_or(stamp), started)
    }

    /// A cost that a proxy wrote beside the usage.
    fn cost_beside_usage(&self) -> Option<crate::price::RecordedCost> {
        self.outward().find_map(|object| {
            let raw = object.get("response_cost").or_else(|| {
                object
                    .object("costDetails")
                    .or_else(|| object.object("cost_details"))?
                    .get("total")
            })?;
            usage::recorded_cost(raw)
        })
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
        self.object.is_null("stop_reason")
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

/// Where usage stands in the object of its response. The detailed counts of Langfuse come before its old ones.
const USAGE_KEYS: [Key; 3] = keys(["usageDetails", "usage_details", "usage"]);

const ID_KEYS: [Key; 5] = keys([
    "id",
    "responseId",
    "gen_ai.response.id",
    "message_id",
    "provider_response_id",
]);
const REQUEST_KEYS: [Key; 2] = keys(["requestId", "request_id"]);
const ERROR_ID_KEYS: [Key; 4] = keys(["uuid", "requestId", "request_id", "id"]);

/// Keys that name the model; what answered before what was asked for.
const MODEL_KEYS: [Key; 11] = keys([
    "model",
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.response.model_name",
    "llm.model_name",
    "modelId",
    "model_name",
    "model_id",
    "response_model",
    "request_model",
    "provided_model_name",
]);

const SESSION_KEYS: [Key; 6] = keys([
    "sessionId",
    "session_id",
    "session",
    "conversation_id",
    "session.id",
    "gen_ai.conversation.id",
]);
const PROJECT_KEYS: [Key; 2] = keys(["project", "cwd"]);
/// Ids that tell streams apart.
const STREAM_KEYS: [Key; 3] = keys(["parent_tool_use_id", "stream_id", "trace_id"]);
const AGENT_KEYS: [Key; 3] = keys(["agentId", "agent_id", "agent"]);
const START_KEYS: [Key; 5] = keys([
    "startTime",
    "start_time",
    "started_at",
    "startTimeUnixNano",
    "request_created_at",
]);

/// Keys that hold a time, best first. Ends are preferred to starts.
const TIME_KEYS: [Key; 24] = keys([
    "timestamp",
    "ts",
    "time",
    "@timestamp",
    "created_at",
    "createdAt",
    "created",
    "logged_at",
    "datetime",
    "Timestamp",
    "@t",
    "endTime",
    "startTime",
    "end_time",
    "start_time",
    "asctime",
    "event.timestamp",
    "timeUnixNano",
    "endTimeUnixNano",
    "startTimeUnixNano",
    "observedTimeUnixNano",
    "__REALTIME_TIMESTAMP",
    "response_created_at",
    "request_created_at",
]);

/// A name as text; a number is one too.
fn name(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    let number = || raw.bytes().iter().all(u8::is_ascii_digit);
    text(raw).or_else(|| number().then(|| Cow::Borrowed(raw.get())))
}

/// The best time of an object, and the value that it is read from.
fn best_time<'a>(object: &Object<'a>, clock: Clock<'_>) -> Option<(Stamp, Raw<'a>)> {
    let mut impossible = None;
    for (key, raw) in object.values(&TIME_KEYS) {
        // Loguru writes it twice, for people and as a number.
        let is_object = raw.bytes().starts_with(b"{");
        let twice = is_object.then(|| object.object(key)).flatten();
        let raw = twice.and_then(|time| time.get("timestamp")).unwrap_or(raw);
        match clock.read(raw) {
            Some(at @ Stamp::At(_)) => return Some((at, raw)),
            Some(other) => impossible = Some((other, raw)),
            None => {}
        }
    }
    impossible
}
