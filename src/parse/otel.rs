//! OpenTelemetry: OTLP/JSON exports, and attributes written flat.
//!
//! Reads the events of Claude Code (whose input counts are without the cache), and the attributes of the conventions for
//! generative AI and of `OpenInference` (whose input counts hold it).

use std::borrow::Cow;

use super::json::{Object, Raw, elements, embedded_object};
use super::places::{Context, Frame};
use super::usage::{self, Counts, count, genai, recorded_cost};
use super::{Found, Skipped};
use crate::monitor::Tokens;
use crate::price::{RecordedCost, Speed, Terms};

/// Whether an object is an export of logs or traces.
pub(super) fn is_export(object: &Object) -> bool {
    object.get("resourceLogs").is_some() || object.get("resourceSpans").is_some()
}

/// Whether an object may hold attributes that tell of a response. Cheap, because it is asked of every object.
pub(super) fn may_be(object: &Object) -> bool {
    object.keys().any(|key| {
        matches!(key, "event.name" | "cache_read_tokens")
            || ["gen_ai.", "llm.token_count."]
                .iter()
                .any(|of| key.starts_with(of))
    })
}

/// All records of an export.
pub(super) fn export(frame: &Frame<'_>, context: &Context<'_>) -> Found {
    let mut found = Vec::new();
    let kinds = [
        ("resourceLogs", "scopeLogs", "logRecords"),
        ("resourceSpans", "scopeSpans", "spans"),
    ];
    for (resources, scopes, records) in kinds {
        for resource in objects(frame.object, resources) {
            let about = attributes(resource.object("resource").as_ref());
            let about = frame.inside(&about);
            for scope in objects(&resource, scopes) {
                for record in objects(&scope, records) {
                    let record_frame = about.inside(&record);
                    let own = attributes(Some(&record));
                    found.extend(read(&record_frame.inside(&own), context));
                }
            }
        }
    }
    match found.len() {
        0 => Found::Nothing,
        _ => Found::Several(found),
    }
}

fn objects<'a>(object: &Object<'a>, key: &str) -> Vec<Object<'a>> {
    let all = object.get(key).map(elements).unwrap_or_default();
    all.iter().filter_map(|raw| Object::of(*raw)).collect()
}

/// The attributes of a resource or record, `[{"key": …, "value": {"stringValue": …}}]`, as members of one object.
fn attributes<'a>(of: Option<&Object<'a>>) -> Object<'a> {
    let list = of.map(|of| objects(of, "attributes")).unwrap_or_default();
    let member = |entry: &Object<'a>| -> Option<(Cow<'a, str>, Raw<'a>)> {
        let key = entry.text("key")?.into_owned();
        let value = entry.object("value")?;
        let raw = ["stringValue", "intValue", "doubleValue", "boolValue"]
            .iter()
            .find_map(|kind| value.get(kind))?;
        Some((Cow::Owned(key), raw))
    };
    Object::from_entries(list.iter().filter_map(member).collect())
}

/// The record that attributes tell of, if any. `frame` is that of the attributes.
pub(super) fn read(frame: &Frame<'_>, context: &Context<'_>) -> Option<Found> {
    let attributes = frame.object;
    let name = event_name(frame);
    let name = name.as_deref().unwrap_or_default();
    let is_claude_code = attributes.get("gen_ai.usage.input_tokens").is_none();
    let has = |key| attributes.get(key).is_some();
    // A framework uses the same names for other counts, with details beside.
    let is_unnamed = name.is_empty() && has("cache_read_tokens") && !has("details");
    match name.strip_prefix("claude_code.").unwrap_or(name) {
        event if is_claude_code && (event == "api_request" || is_unnamed) => {
            return attributes
                .get("input_tokens")
                .or(attributes.get("output_tokens"))
                .map(|_| claude_code(frame, context));
        }
        "api_error" => return Some(frame.error(None, context)),
        "api_response_body" | "api_request_body" => return Some(Found::Skipped(Skipped::Copy)),
        _ => {}
    }
    // Spans around others repeat the sum of those.
    let operation = attributes.text("gen_ai.operation.name");
    if operation.is_some_and(|name| {
        matches!(
            &*name,
            "invoke_agent" | "create_agent" | "execute_tool" | "invoke_workflow"
        )
    }) {
        return None;
    }
    match genai(attributes, context.options.otel_input) {
        Ok(None) => open_inference(frame, context),
        Ok(Some(counts)) => {
            // The AI SDK adds what the provider said.
            let said = embedded(attributes, "ai.response.providerMetadata");
            let said = said.as_deref().and_then(Object::parse);
            let said = said.and_then(|said| said.object("anthropic")?.object("usage"));
            let said = said.and_then(|said| usage::read(&said, None).ok());
            let is_same = |said: &Counts| said.tokens.output == counts.tokens.output;
            Some(frame.response(said.filter(is_same).unwrap_or(counts), context))
        }
        Err(refused) => Some(refused.into()),
    }
}

/// The object in an attribute that holds JSON.
fn embedded(attributes: &Object, key: &str) -> Option<String> {
    attributes.get(key).and_then(embedded_object)
}

/// A span of `OpenInference`. It may hold the whole answer, which tells the id, and how long cache writes live.
fn open_inference(frame: &Frame<'_>, context: &Context<'_>) -> Option<Found> {
    let attributes = frame.object;
    let kind = attributes.text("openinference.span.kind");
    if kind.is_some_and(|kind| kind != "LLM") {
        return None;
    }
    let counts = match usage::open_inference(attributes) {
        Ok(counts) => counts?,
        Err(refused) => return Some(refused.into()),
    };
    let answer = embedded(attributes, "output.value");
    let answer = answer.as_deref().and_then(Object::parse);
    let said = answer.as_ref().and_then(|answer| {
        let said = usage::read(&answer.object("usage")?, None).ok()?;
        let of = |counts: &Counts| (counts.tokens.prompt(), counts.tokens.output);
        (of(&said) == of(&counts)).then(|| frame.inside(answer).response(said, context))
    });
    Some(said.unwrap_or_else(|| frame.response(counts, context)))
}

/// The name of an event: an attribute, or the body of the record.
fn event_name<'a>(frame: &'a Frame<'_>) -> Option<Cow<'a, str>> {
    if let Some(name) = frame.object.text("event.name") {
        return Some(name);
    }
    let record = frame.outer?.object;
    record
        .text("eventName")
        .or_else(|| record.object("body")?.text("stringValue").map(own))
        .or_else(|| record.text("body"))
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn claude_code(frame: &Frame<'_>, context: &Context<'_>) -> Found {
    let attributes = frame.object;
    let n = |key| count(attributes, key).map(Option::unwrap_or_default);
    let tokens = || {
        Ok(Tokens {
            input: n("input_tokens")?,
            output: n("output_tokens")?,
            cache_read: n("cache_read_tokens")?,
            cache_write_5m: n("cache_creation_tokens")?,
            ..Tokens::default()
        })
    };
    let tokens: Tokens = match tokens() {
        Ok(tokens) => tokens,
        Err(refused) => return super::usage::Refused::into(refused),
    };
    let micros = attributes
        .get("cost_usd_micros")
        .and_then(|raw| raw.get().trim_matches('"').parse::<i128>().ok())
        .filter(|micros| (0..1_000_000_000_000_000).contains(micros))
        .map(|micros| RecordedCost {
            pico: micros * 1_000_000,
            step: 1_000_000,
        });
    let counts = Counts {
        tokens,
        terms: Terms {
            speed: if attributes.text("speed").as_deref() == Some("fast") {
                Speed::Fast
            } else {
                Speed::Standard
            },
            ..Terms::default()
        },
        assumed_5m: tokens.cache_write_5m > 0,
        recorded_cost: attributes
            .get("cost_usd")
            .and_then(recorded_cost)
            .or(micros),
        ..Counts::default()
    };
    frame.response(counts, context)
}
