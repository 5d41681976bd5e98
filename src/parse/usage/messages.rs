//! The usage object of the Messages API.

use super::{Counts, Refused, count, first_count, split_writes};
use crate::monitor::{Prompts, Tokens};
use crate::parse::json::{Object, Raw, elements};
use crate::price::{Speed, Terms};

pub(super) fn read(usage: &Object, model: Option<&str>) -> Result<Counts, Refused> {
    let (tokens, assumed_5m) = tokens(usage)?;
    let mut counts = Counts {
        tokens,
        assumed_5m,
        terms: terms(usage),
        priority: usage.text("service_tier").as_deref() == Some("priority"),
        recorded_cost: usage.get("cost").and_then(super::recorded_cost),
        ..Counts::default()
    };
    let tools = usage.object("server_tool_use");
    counts.tokens.web_search = web_searches(tools.as_ref())?.unwrap_or(0);
    if tools.is_some_and(|tools| is_used(&tools)) {
        counts.prompts = Prompts::Sum;
    }
    take_out_cached(usage, &mut counts)?;
    Iterations::of(usage).apply(model, &mut counts)?;
    Ok(counts)
}

/// What a tool on the server gave was sampled from in another step; the counts are the sum of all.
fn is_used(tools: &Object) -> bool {
    let used = |key| count(tools, key).is_ok_and(|n| n > Some(0));
    [
        "web_search_requests",
        "web_fetch_requests",
        "code_execution_requests",
    ]
    .into_iter()
    .any(used)
}

/// Several kinds of writers count the cache into `input_tokens`: those of the Responses API, told by `input_tokens_details`,
/// frameworks, and gateways that give `prompt_tokens` the same number.
fn take_out_cached(usage: &Object, counts: &mut Counts) -> Result<(), Refused> {
    let tokens = &mut counts.tokens;
    if let Some(details) = usage.object("input_tokens_details") {
        let read = count(&details, "cached_tokens")?.unwrap_or(0);
        tokens.cache_read = tokens.cache_read.max(read);
        counts.take_out_of_input();
    } else if let Some(details) = usage.object("input_token_details") {
        super::framework::langchain(&details, counts)?;
    } else if usage.get("cache_read_tokens").is_some()
        && let Some(details) = usage.object("details")
    {
        super::framework::pydantic(usage, &details, counts)?;
    } else if tokens.cache_read > 0 && count(usage, "prompt_tokens")? == Some(tokens.input) {
        let cached = tokens.cache_read + tokens.cache_write();
        if cached <= tokens.input {
            tokens.input -= cached;
        }
    }
    Ok(())
}

fn terms(usage: &Object) -> Terms {
    Terms {
        speed: if usage.text("speed").as_deref() == Some("fast") {
            Speed::Fast
        } else {
            Speed::Standard
        },
        batch: usage.text("service_tier").as_deref() == Some("batch"),
        us_geo: usage.text("inference_geo").as_deref() == Some("us"),
    }
}

fn web_searches(tools: Option<&Object>) -> Result<Option<u64>, Refused> {
    tools.map_or(Ok(None), |tools| count(tools, "web_search_requests"))
}

/// Names of the cache counts; where they are shortened they mean the same.
const READ_KEYS: [&str; 2] = ["cache_read_input_tokens", "cache_read_tokens"];
const WRITE_KEYS: [&str; 3] = [
    "cache_creation_input_tokens",
    "cache_creation_tokens",
    "cache_write_tokens",
];

pub(super) fn tokens(usage: &Object) -> Result<(Tokens, bool), Refused> {
    let written = first_count(usage, &WRITE_KEYS)?;
    let split = split(usage)?;
    let named = Named {
        written,
        written_5m: split.map(|(written_5m, _)| written_5m),
        written_1h: split.map(|(_, written_1h)| written_1h),
        input: count(usage, "input_tokens")?,
        output: count(usage, "output_tokens")?,
        read: first_count(usage, &READ_KEYS)?,
    };
    Ok(named.tokens())
}

/// With one of these a count is not what stands at its name.
const MEANS_MORE: [&str; 5] = [
    "prompt_tokens",
    "input_tokens_details",
    "input_token_details",
    "details",
    "requests",
];

/// The steps of a response whose counts change nothing, whatever they are: it has only one. `Err` if they do.
pub(in crate::parse) fn idle_steps<'a>(
    usage: &Object<'a>,
    counts: &Counts,
) -> Result<Option<Raw<'a>>, ()> {
    let Some(steps) = usage.get("iterations") else {
        return Ok(None);
    };
    let is_one = counts.prompts == Prompts::One;
    let is_alone = counts.extra.is_empty() && counts.declined_hops == 0;
    // Which model a step is of may tell a hop, and an escape may hide that.
    let is_plain = memchr::memchr(b'\\', steps.bytes()).is_none()
        && memchr::memmem::find(steps.bytes(), b"\"model\"").is_none();
    if is_one && is_alone && is_plain {
        Ok(Some(steps))
    } else {
        Err(())
    }
}

/// The counts that a usage object names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::parse) struct Named {
    written: Option<u64>,
    written_5m: Option<u64>,
    written_1h: Option<u64>,
    input: Option<u64>,
    output: Option<u64>,
    read: Option<u64>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parse) enum NamedCount {
    Written,
    Written5m,
    Written1h,
    Input,
    Output,
    Read,
}

impl Named {
    /// From where each of them is read. `None` if the counts depend on more than their own values, or stand for something else.
    pub(in crate::parse) fn places<'a>(usage: &Object<'a>) -> Option<Vec<(NamedCount, Raw<'a>)>> {
        let has = |key: &str| usage.get(key).is_some();
        let is_own = has("input_tokens") || has("output_tokens");
        if !is_own
            || MEANS_MORE.iter().any(|key| has(key))
            || READ_KEYS[1..]
                .iter()
                .chain(&WRITE_KEYS[1..])
                .any(|key| has(key))
        {
            return None;
        }
        let split = usage.object("cache_creation");
        let in_split = |key| split.as_ref().and_then(|split| split.get(key));
        let places = [
            (
                NamedCount::Written,
                usage.get("cache_creation_input_tokens"),
            ),
            (NamedCount::Written5m, in_split("ephemeral_5m_input_tokens")),
            (NamedCount::Written1h, in_split("ephemeral_1h_input_tokens")),
            (NamedCount::Input, usage.get("input_tokens")),
            (NamedCount::Output, usage.get("output_tokens")),
            (NamedCount::Read, usage.get("cache_read_input_tokens")),
        ];
        Some(
            places
                .into_iter()
                .filter_map(|(count, raw)| Some((count, raw?)))
                .collect(),
        )
    }

    pub(in crate::parse) const fn get_mut(&mut self, count: NamedCount) -> &mut Option<u64> {
        match count {
            NamedCount::Written => &mut self.written,
            NamedCount::Written5m => &mut self.written_5m,
            NamedCount::Written1h => &mut self.written_1h,
            NamedCount::Input => &mut self.input,
            NamedCount::Output => &mut self.output,
            NamedCount::Read => &mut self.read,
        }
    }

    /// What they come to, and whether some cache writes had to be assumed to be of five minutes.
    pub(in crate::parse) fn tokens(&self) -> (Tokens, bool) {
        let kind = |part: Option<u64>| part.unwrap_or(0);
        let (cache_write_5m, cache_write_1h, assumed) =
            split_writes(self.written, kind(self.written_5m), kind(self.written_1h));
        let tokens = Tokens {
            input: kind(self.input),
            output: kind(self.output),
            cache_write_5m,
            cache_write_1h,
            cache_read: kind(self.read),
            web_search: 0,
        };
        (tokens, assumed)
    }
}

/// The five-minute and one-hour parts of the cache writes.
fn split(usage: &Object) -> Result<Option<(u64, u64)>, Refused> {
    let Some(split) = usage.object("cache_creation") else {
        return Ok(None);
    };
    let kind = |key| count(&split, key).map(Option::unwrap_or_default);
    Ok(Some((
        kind("ephemeral_5m_input_tokens")?,
        kind("ephemeral_1h_input_tokens")?,
    )))
}

/// The steps of a response, as text until the model that answered is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::parse) struct Iterations(Vec<String>);

impl Iterations {
    pub(super) fn of(usage: &Object) -> Self {
        let steps = usage.get("iterations").map(elements).unwrap_or_default();
        Self(steps.iter().map(|step| step.get().to_owned()).collect())
    }

    /// The model of the attempt that answered in the end, if a fallback took place.
    pub(in crate::parse) fn fallback_model(&self) -> Option<String> {
        self.0.iter().rev().find_map(|step| {
            let step = Object::parse(step)?;
            let is_fallback = step.text("type").as_deref() == Some("fallback_message");
            is_fallback
                .then(|| step.text("model").map(Into::into))
                .flatten()
        })
    }

    /// The top level already holds the `message` steps of the response; compaction and advisors stand beside it.
    pub(in crate::parse) fn apply(
        &self,
        model: Option<&str>,
        counts: &mut Counts,
    ) -> Result<(), Refused> {
        let mut own_steps: Vec<Option<Tokens>> = Vec::new();
        for step in self.0.iter().filter_map(|step| Object::parse(step)) {
            let own = step.text("model");
            match step.text("type").as_deref() {
                Some("compaction") => counts.beside(None, &step)?,
                Some("advisor_message") => counts.beside(own.map(Into::into), &step)?,
                Some("message") if own.is_some() && own.as_deref() != model => {
                    counts.declined_hops += 1;
                }
                Some("message") => own_steps.push(tokens(&step).ok().map(|(tokens, _)| tokens)),
                _ => {}
            }
        }
        match own_steps.len() {
            0 => {}
            1 => counts.prompts = Prompts::One,
            _ => {
                let steps: Option<Box<[Tokens]>> = own_steps.into_iter().collect();
                counts.prompts = steps.map_or(Prompts::Sum, Prompts::Steps);
            }
        }
        Ok(())
    }
}

impl Counts {
    fn beside(&mut self, model: Option<String>, step: &Object) -> Result<(), Refused> {
        let (tokens, assumed) = tokens(step)?;
        self.extra.push((model, tokens));
        self.assumed_5m |= assumed;
        Ok(())
    }
}

/// The usage of a `message_delta`: what it names replaces what the stream began with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::parse) struct Delta {
    input: Option<u64>,
    output: Option<u64>,
    written: Option<u64>,
    split: Option<(u64, u64)>,
    read: Option<u64>,
    web_search: Option<u64>,
    terms: Option<Terms>,
    pub(in crate::parse) iterations: Iterations,
}

impl Delta {
    pub(in crate::parse) fn read(usage: &Object) -> Result<Self, Refused> {
        let names_terms = ["speed", "service_tier", "inference_geo"]
            .iter()
            .any(|key| usage.get(key).is_some());
        Ok(Self {
            input: count(usage, "input_tokens")?,
            output: count(usage, "output_tokens")?,
            written: count(usage, "cache_creation_input_tokens")?,
            split: split(usage)?,
            read: count(usage, "cache_read_input_tokens")?,
            web_search: web_searches(usage.object("server_tool_use").as_ref())?,
            terms: names_terms.then(|| terms(usage)),
            iterations: Iterations::of(usage),
        })
    }

    /// It counts what tools on the server did between steps.
    pub(in crate::parse) fn has_searched(&self) -> bool {
        self.web_search > Some(0)
    }

    /// Whether it names an output count at all.
    pub(in crate::parse) fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// Whether it names prompt counts, and all of them are those of `tokens`.
    pub(in crate::parse) fn is_about(&self, tokens: &Tokens) -> bool {
        let named = self.input.is_some() || self.written.is_some() || self.read.is_some();
        named
            && self.input.is_none_or(|n| n == tokens.input)
            && self.written.is_none_or(|n| n == tokens.cache_write())
            && self.read.is_none_or(|n| n == tokens.cache_read)
    }

    /// Replaces what it names. True if cache writes had to be assumed to be of five minutes.
    pub(in crate::parse) fn replace(&self, tokens: &mut Tokens, terms: &mut Terms) -> bool {
        let mut assumed = false;
        tokens.input = self.input.unwrap_or(tokens.input);
        tokens.output = self.output.unwrap_or(tokens.output);
        tokens.cache_read = self.read.unwrap_or(tokens.cache_read);
        tokens.web_search = self.web_search.unwrap_or(tokens.web_search);
        if self.written.is_some() || self.split.is_some() {
            let (written_5m, written_1h) = self
                .split
                .unwrap_or((tokens.cache_write_5m, tokens.cache_write_1h));
            let total = self.written.unwrap_or(written_5m + written_1h);
            if total == 0 {
                (tokens.cache_write_5m, tokens.cache_write_1h) = (0, 0);
            } else {
                (tokens.cache_write_5m, tokens.cache_write_1h, assumed) =
                    split_writes(Some(total), written_5m, written_1h);
            }
        }
        if let Some(new) = self.terms {
            terms.batch |= new.batch;
            terms.us_geo |= new.us_geo;
            if new.speed == Speed::Fast {
                terms.speed = Speed::Fast;
            }
        }
        assumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(json: &str) -> Result<Counts, Refused> {
        crate::parse::usage::read(&Object::parse(json).unwrap(), Some("claude-opus-4-7"))
    }

    fn writes(json: &str) -> (u64, u64, bool) {
        let counts = read_json(json).unwrap();
        (
            counts.tokens.cache_write_5m,
            counts.tokens.cache_write_1h,
            counts.assumed_5m,
        )
    }

    #[test]
    fn the_split_of_cache_writes_neither_loses_nor_adds_tokens() {
        let usage = |total: &str, split: &str| {
            writes(&format!(
                r#"{{"input_tokens":1,"cache_creation_input_tokens":{total},"cache_creation":{split}}}"#
            ))
        };
        let both = |m5: u64, h1: u64| {
            format!(r#"{{"ephemeral_5m_input_tokens":{m5},"ephemeral_1h_input_tokens":{h1}}}"#)
        };
        assert_eq!(usage("100", "null"), (100, 0, true));
        assert_eq!(usage("100", "{}"), (100, 0, true));
        assert_eq!(
            usage("100", r#"{"ephemeral_1h_input_tokens":100}"#),
            (0, 100, false)
        );
        assert_eq!(usage("100", &both(10, 60)), (40, 60, true));
        assert_eq!(usage("100", &both(40, 60)), (40, 60, false));
        assert_eq!(usage("100", &both(90, 60)), (40, 60, false));
        assert_eq!(usage("100", &both(0, 0)), (100, 0, true));
        assert_eq!(usage("null", &both(3, 4)), (3, 4, false));
        assert_eq!(usage("0", "null"), (0, 0, false));
    }

    #[test]
    fn counts_that_are_no_counts_are_refused_by_name() {
        let refused = |json| match read_json(json) {
            Err(Refused::Number { reason, .. }) => reason,
            other => panic!("{json} gave {other:?}"),
        };
        assert_eq!(refused(r#"{"input_tokens":-5}"#), "input_tokens is -5");
        assert_eq!(refused(r#"{"output_tokens":1.5}"#), "output_tokens is 1.5");
        assert_eq!(
            refused(r#"{"output_tokens":99999999999999}"#),
            "output_tokens is 99999999999999"
        );
        assert_eq!(
            refused(r#"{"output_tokens":"my secret"}"#),
            "output_tokens is not a whole number"
        );
        assert_eq!(
            read_json(r#"{"tokens_billed":5}"#),
            Err(Refused::OtherDialect)
        );
        assert_eq!(read_json(r#"{"cpu":5}"#), Err(Refused::NoUsage));
    }

    #[test]
    fn compaction_and_advisors_are_billed_beside_the_response() {
        let json = r#"{"input_tokens":682,"output_tokens":1320,"iterations":[
            {"type":"compaction","input_tokens":60385,"output_tokens":592},
            {"type":"message","model":"claude-opus-4-7","input_tokens":682,"output_tokens":1320},
            {"type":"advisor_message","model":"claude-sonnet-4-6","input_tokens":7,"output_tokens":8},
            {"type":"message","model":"claude-fable-5","input_tokens":9,"output_tokens":2}]}"#;
        let counts = read_json(json).unwrap();
        let extra: Vec<_> = counts
            .extra
            .iter()
            .map(|(m, t)| (m.as_deref(), t.input, t.output))
            .collect();
        assert_eq!(
            extra,
            [(None, 60385, 592), (Some("claude-sonnet-4-6"), 7, 8)]
        );
        assert_eq!((counts.tokens.input, counts.declined_hops), (682, 1));
    }

    #[test]
    fn writers_that_count_the_cache_into_the_input_are_told_by_their_fields() {
        let input = |json: &str| {
            let counts = read_json(json).unwrap();
            (counts.tokens.input, counts.tokens.cache_read)
        };
        let kimi = r#"{"input_tokens":100,"prompt_tokens":100,"cache_read_input_tokens":80,"output_tokens":1}"#;
        assert_eq!(input(kimi), (20, 80));
        assert_eq!(
            input(&kimi.replace(":100,\"p", ":20,\"p")),
            (20, 80),
            "the two differ, so the input is without the cache"
        );
        let responses =
            r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":80},"output_tokens":1}"#;
        assert_eq!(input(responses), (20, 80));
    }

    #[test]
    fn a_delta_replaces_what_it_names_and_keeps_the_rest() {
        let delta = |json: &str| Delta::read(&Object::parse(json).unwrap()).unwrap();
        let start = Tokens {
            input: 60385,
            output: 1,
            cache_write_5m: 10,
            cache_write_1h: 30,
            cache_read: 7,
            web_search: 0,
        };
        let after = |json| {
            let mut tokens = start;
            let assumed = delta(json).replace(&mut tokens, &mut Terms::default());
            (tokens, assumed)
        };
        let smaller = after(r#"{"input_tokens":612,"output_tokens":90}"#);
        let expected = Tokens {
            input: 612,
            output: 90,
            ..start
        };
        assert_eq!(smaller, (expected, false), "not the larger, the later");
        let (written, assumed) = after(r#"{"cache_creation_input_tokens":50}"#);
        assert_eq!(
            (written.cache_write_5m, written.cache_write_1h, assumed),
            (20, 30, true)
        );
        let (written, assumed) = after(r#"{"cache_creation_input_tokens":0}"#);
        assert_eq!((written.cache_write(), assumed), (0, false));
    }
}
