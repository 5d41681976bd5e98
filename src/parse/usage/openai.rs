//! Usage in the manner of OpenAI: the prompt count holds the cache counts.
//!
//! `OpenRouter`, `LiteLLM`, Helicone and the OpenTelemetry conventions count so.

use super::{Counts, Refused, count, first_count};
use crate::monitor::Tokens;
use crate::parse::json::Object;

/// Whether an input count holds the cache counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputCount {
    /// It is the whole prompt, as the OpenTelemetry conventions say.
    #[default]
    Inclusive,
    /// It is what neither was read from nor written to the cache, as the Messages API says.
    Exclusive,
}

const READ_KEYS: [&str; 2] = ["cached_tokens", "cache_read_tokens"];

const WRITE_KEYS: [&str; 4] = [
    "cache_write_tokens",
    "cache_creation_tokens",
    "created_cache_tokens",
    "cached_creation_tokens",
];

pub(super) fn read(usage: &Object) -> Result<Counts, Refused> {
    let details = usage.object("prompt_tokens_details");
    let detail = |keys: &[&str]| {
        details
            .as_ref()
            .map_or(Ok(None), |details| first_count(details, keys))
    };
    let read = first_count(
        usage,
        &["cache_read_input_tokens", "prompt_cache_hit_tokens"],
    )?
    .or(detail(&READ_KEYS)?);
    let write = first_count(usage, &["cache_creation_input_tokens"])?.or(detail(&WRITE_KEYS)?);
    let split = usage.object("cache_creation").or_else(|| {
        details
            .as_ref()
            .and_then(|details| details.object("cache_creation_token_details"))
    });
    let part = |key| {
        split
            .as_ref()
            .map_or(Ok(None), |split| count(split, key))
            .map(Option::unwrap_or_default)
    };
    let (written_5m, written_1h) = (
        part("ephemeral_5m_input_tokens")?,
        part("ephemeral_1h_input_tokens")?,
    );
    let (cache_write_5m, cache_write_1h, assumed_5m) =
        super::split_writes(write, written_5m, written_1h);
    let mut counts = whole_prompt(
        count(usage, "prompt_tokens")?.unwrap_or(0),
        Tokens {
            output: count(usage, "completion_tokens")?.unwrap_or(0),
            cache_write_5m,
            cache_write_1h,
            cache_read: read.unwrap_or(0),
            ..Tokens::default()
        },
    );
    counts.assumed_5m = assumed_5m;
    counts.recorded_cost = usage.get("cost").and_then(super::recorded_cost);
    if let Some(tools) = usage.object("server_tool_use") {
        counts.tokens.web_search = count(&tools, "web_search_requests")?.unwrap_or(0);
    }
    Ok(counts)
}

/// Fresh input is the prompt without its cache counts.
fn whole_prompt(prompt: u64, rest: Tokens) -> Counts {
    let mut counts = Counts {
        tokens: Tokens {
            input: prompt,
            ..rest
        },
        ..Counts::default()
    };
    counts.take_out_of_input();
    counts
}

/// Counts that stand beside the other fields of a record, as Helicone and `LiteLLM` write them.
pub(in crate::parse) fn flat(record: &Object) -> Result<Option<Counts>, Refused> {
    if record.get("prompt_tokens").is_none() || record.get("completion_tokens").is_none() {
        return Ok(None);
    }
    let write = count(record, "prompt_cache_write_tokens")?.unwrap_or(0);
    let mut counts = whole_prompt(
        count(record, "prompt_tokens")?.unwrap_or(0),
        Tokens {
            output: count(record, "completion_tokens")?.unwrap_or(0),
            cache_read: count(record, "prompt_cache_read_tokens")?.unwrap_or(0),
            cache_write_5m: write,
            ..Tokens::default()
        },
    );
    counts.assumed_5m = write > 0;
    counts.recorded_cost = ["response_cost", "cost"]
        .iter()
        .find_map(|key| super::recorded_cost(record.get(key)?));
    Ok(Some(counts))
}

/// Under which names attributes of spans hold counts.
struct Attributes {
    input: &'static [&'static str],
    output: &'static [&'static str],
    read: &'static [&'static str],
    write: &'static [&'static str],
}

const GEN_AI: Attributes = Attributes {
    input: &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"],
    output: &[
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
    ],
    read: &[
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "gen_ai.usage.cached_tokens",
    ],
    write: &[
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ],
};

const OPEN_INFERENCE: Attributes = Attributes {
    input: &["llm.token_count.prompt"],
    output: &["llm.token_count.completion"],
    read: &["llm.token_count.prompt_details.cache_read"],
    write: &["llm.token_count.prompt_details.cache_write"],
};

/// The AI SDK writes these beside those of the conventions, which it gives no cache counts.
const AI_SDK: Attributes = Attributes {
    input: &["ai.usage.inputTokens"],
    output: &["ai.usage.outputTokens"],
    read: &["ai.usage.inputTokenDetails.cacheReadTokens"],
    write: &["ai.usage.inputTokenDetails.cacheWriteTokens"],
};

/// The attributes of the OpenTelemetry conventions for generative AI.
pub(in crate::parse) fn genai(
    attributes: &Object,
    input: InputCount,
) -> Result<Option<Counts>, Refused> {
    let counts = of_attributes(attributes, &GEN_AI, input)?;
    if counts.is_some() && attributes.get(AI_SDK.read[0]).is_some() {
        return of_attributes(attributes, &AI_SDK, InputCount::Inclusive);
    }
    Ok(counts)
}

/// The attributes of `OpenInference`. The prompt holds the cache.
pub(in crate::parse) fn open_inference(attributes: &Object) -> Result<Option<Counts>, Refused> {
    of_attributes(attributes, &OPEN_INFERENCE, InputCount::Inclusive)
}

fn of_attributes(
    attributes: &Object,
    keys: &Attributes,
    input: InputCount,
) -> Result<Option<Counts>, Refused> {
    let (prompt, output) = (
        first_count(attributes, keys.input)?,
        first_count(attributes, keys.output)?,
    );
    if prompt.is_none() && output.is_none() {
        return Ok(None);
    }
    let write = first_count(attributes, keys.write)?.unwrap_or(0);
    let rest = Tokens {
        output: output.unwrap_or(0),
        cache_read: first_count(attributes, keys.read)?.unwrap_or(0),
        cache_write_5m: write,
        ..Tokens::default()
    };
    let prompt = prompt.unwrap_or(0);
    let mut counts = match input {
        InputCount::Inclusive => whole_prompt(prompt, rest),
        InputCount::Exclusive => Counts {
            tokens: Tokens {
                input: prompt,
                ..rest
            },
            ..Counts::default()
        },
    };
    counts.assumed_5m = write > 0;
    Ok(Some(counts))
}
